"""Discord, Telegram, WhatsApp and Zulip: real exports counted a second time in plain Python, and small shapes with every trap of the formats."""
import gzip
import json
import re
import shutil
import tarfile
import warnings
import zipfile
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

import trustlab as tl
import trustlab.sources  # noqa: F401
from trustlab.bundles import bundles
from trustlab.core import InvalidExport, InvalidParameter, NotIdentifiable, PartialExport, TrustlabError, UnknownSource
from trustlab.load import COUNTS, READERS
from trustlab.sources.whatsapp import header
from trustlab.store import Lab

EXPORTS = Path(__file__).parent / "exports"
MINE = ("discord", "telegram", "whatsapp", "zulip")
WHATSAPP_OPTIONS = {"date_order": "dmy", "zone": "UTC"}
pytestmark = pytest.mark.filterwarnings("ignore::trustlab.core.SmallSample", "ignore::trustlab.core.PartialExport")


@pytest.fixture
def lab():
    with Lab() as store: yield store


def load(lab, *paths, **options): return lab.load(*paths, options=options)
def counts(receipt): return tuple(getattr(receipt, c) for c in COUNTS)
def rows(lab, query, **params): return lab.sql(query, **params).rows()
def one(lab, query, **params): return lab.sql(query, **params).row(0)[0]
def sound(lab): return lab.check().filter((pl.col("part") == "sound") & (pl.col("n") > 0)).is_empty()
def conserved(receipt): return receipt.read == receipt.stored + receipt.changed + receipt.same + receipt.duplicate + receipt.rejected
def naive(text): return datetime.fromisoformat(text).astimezone(timezone.utc).replace(tzinfo=None)
def samples(shared, name): return shared / "chat-analytics-fixtures" / "tests" / "samples" / name
def notes(receipt): return "\n".join(row["notes"] for row in receipt.loads)


def everything(lab):
    "The store but for what says where and when it was loaded"
    return [rows(lab, f"select * exclude ({', '.join(out)}) from {table} order by all") for table, out in (
        ("post", ("load_id", "record")), ("account", ("person_key",)), ("interaction", ("load_id",)), ("post_count", ("load_id",)), ("coverage", ("load_id",)))] + [rows(lab,
            "select account_key, role, basis from role order by all")]


# every reader

@pytest.mark.parametrize("name", MINE)
def test_zip_folder_and_prefix_agree(name, tmp_path):
    source, deep, flat, tar = EXPORTS / name, tmp_path / "deep" / "a" / "b", tmp_path / "flat.zip", tmp_path / "flat.tar.gz"
    shutil.copytree(source, deep)
    files = sorted(f for f in source.rglob("*") if f.is_file())
    with zipfile.ZipFile(flat, "w", zipfile.ZIP_DEFLATED) as archive:
        for f in files: archive.write(f, f"up/{f.relative_to(source)}")
    with tarfile.open(tar, "w:gz") as archive:
        for f in files: archive.add(f, str(f.relative_to(source)))
    stores = []
    for path in (source, tmp_path / "deep", flat, tar):
        with Lab() as lab:
            first = load(lab, path)
            assert first.stored > 0 and first.rejected == 0 and conserved(first) and sound(lab)
            stores.append(everything(lab))
            assert load(lab, path).stored == 0 and everything(lab) == stores[-1]
    assert all(store == stores[0] for store in stores[1:])


def test_no_reader_claims_what_is_not_its_own(shared):
    folders = [p for root in (EXPORTS, shared) for p in sorted(root.iterdir()) if p.is_dir()]
    own = {("chat-analytics-fixtures", "discord"), ("chat-analytics-fixtures", "telegram"), ("chat-analytics-fixtures", "whatsapp"), ("transcribed", "telegram"),
           ("whatsapp-whatstk", "whatsapp"), *((n, n) for n in MINE)}
    claimed = set()
    for folder in folders:
        try: found = bundles(folder)
        except TrustlabError: continue
        claimed |= {(folder.name, name) for bundle in found for name in MINE if READERS[name].find(bundle)}
    assert claimed == own


def test_other_readers_leave_these_alone():
    for name in MINE:
        others = {r.name for b in bundles(EXPORTS / name) for r in READERS.values() if r.name != name and r.find(b)}
        assert not others, (name, others)


def test_what_a_bot_gets_is_not_an_export(shared, lab):
    with pytest.raises(UnknownSource): lab.load(shared / "perceval-fixtures" / "telegram" / "telegram_messages.json")


def test_sheets_are_short_and_whole():
    for name in MINE:
        sheet = READERS[name].sheet
        assert all(0 < len(getattr(sheet, f)) <= 300 for f in ("understood", "ignored", "answers", "tested_on", "limits"))


def test_no_address_or_number_is_kept(lab):
    for name in MINE: load(lab, EXPORTS / name)
    kept = str([rows(lab, f"select * from {t}") for t in ("post", "account", "interaction", "coverage")])
    assert "555 01" not in kept and "5550199" not in kept and "@example.org" not in kept and "@lamp.example" not in kept and "Zoe" not in kept


# Discord

@pytest.mark.parametrize("name, declared, duplicate", [("DM_2A_2M.json", 3, 0), ("GC_3A_5M.json", 5, 0), ("SV_5A_5M.json", 5, 1)])
def test_discord_real(shared, lab, name, declared, duplicate):
    path = samples(shared, "discord") / name
    raw = json.loads(path.read_text())
    found = {m["id"]: m for m in raw["messages"]}
    receipt = lab.load(path)
    assert counts(receipt) == (len(raw["messages"]), len(found), 0, 0, duplicate, 0) and receipt.loads[0]["declared"] == raw["messageCount"] == declared
    deleted = {m["author"]["id"] for m in raw["messages"] if m["author"]["name"] == "Deleted User"}
    read = [(f"discord:{m['id']}", None if m["author"]["id"] in deleted else f"discord:{m['author']['id']}", naive(m["timestamp"]), m["content"],
             f"discord:{m['reference']['messageId']}" if "reference" in m else None) for m in found.values()]
    explicit = "case when reply_basis = 'explicit' then reply_to_key end"
    assert sorted(rows(lab, f"select post_key, author_key, created_at, text, {explicit} from post"), key=repr) == sorted(read, key=repr)
    assert dict(rows(lab, "select post_key, n from post_count")) == {f"discord:{m['id']}": n for m in found.values() if (n := sum(r["count"] for r in m["reactions"]))}
    bots = {f"discord:{m['author']['id']}" for m in found.values() if m["author"]["isBot"]}
    assert {k for k, in rows(lab, "select account_key from role where role = 'bot'")} == bots and sound(lab)
    assert one(lab, "select count(*) from post where kind = 'service'") == sum(m["type"] not in ("Default", "Reply") for m in found.values())
    assert {v for v, in rows(lab, "select visibility from post")} == ({"followers"} if name.startswith("SV") else {"direct"})


def test_discord_declared_count_is_compared(shared, lab):
    with pytest.warns(PartialExport, match="says it holds 5 records, 6 were found"): lab.load(samples(shared, "discord") / "GC_3A_5M.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PartialExport)
        lab.load(samples(shared, "discord") / "DM_2A_2M.json")


def test_discord_shape(lab):
    receipt = lab.load(EXPORTS / "discord")
    assert counts(receipt) == (16, 16, 0, 0, 0, 0) and receipt.loads[0]["declared"] == 16 and receipt.loads[0]["exported_at"] == datetime(2024, 5, 2, 8)
    links = {k[-2:]: (to and to[-2:], who and who[-3:], basis) for k, to, who, basis in rows(lab, "select post_key, reply_to_key, reply_to_account, reply_basis from post")}
    assert {k: v for k, v in links.items() if v[2]} == {
        "02": ("01", "901", "explicit"), "03": ("01", "901", "explicit"), "08": ("30", None, "explicit"), "10": ("06", "903", "thread"), "11": ("06", "903", "thread"),
        "20": (None, "902", "inferred"), "21": (None, "902", "inferred"), "22": ("21", "901", "order"), "23": ("22", "902", "order")}
    assert dict(rows(lab, "select kind, count(*) from post group by kind")) == {"post": 12, "share": 1, "service": 3}
    assert rows(lab, "select author_key from post where text = 'same here'") == [(None,)] and one(lab, "select count(*) from account where handle = 'Deleted User'") == 0
    assert rows(lab, "select edited_at from post where edited_at is not null") == [(datetime(2024, 5, 1, 8, 31),)]
    assert rows(lab, "select kind, actor_key, post_key, target_key, value, occurred_at from interaction where kind in ('share', 'parent_time') order by kind") == [
        ("parent_time", None, "discord:1230000000000000008", None, "discord:1064990824305274930", datetime(2023, 1, 17, 19, 33, 19, 87000)),
        ("share", "discord:903", "discord:1230000000000000003", "discord:902", None, datetime(2024, 5, 1, 8, 40))]
    assert rows(lab, "select actor_key, target_key, value, occurred_at from interaction where kind = 'reaction' order by actor_key") == [
        ("discord:902", "discord:901", "👀", None), ("discord:903", "discord:901", "👀", None)]
    assert rows(lab, "select post_key, n, observed_at from post_count") == [("discord:1230000000000000001", 3, datetime(2024, 5, 2, 8))]
    assert sorted(rows(lab, "select container_key, container, closed from coverage")) == [
        ("discord:1230000000000000006", "hum", True), ("discord:70", "help", True), ("discord:80", "ada", False)]
    assert "no name (8)" in notes(receipt)


def test_discord_acknowledgement(lab):
    lab.load(EXPORTS / "discord")
    lab.roles(pl.DataFrame({"account": ["bob"], "role": ["staff"], "brand": ["Brightlamp"]}))
    frame = tl.acknowledgement(lab, by="container", unit="run").frame
    assert {r["container"]: (r["n"], r["acknowledged"], r["pending"]) for r in frame.to_dicts()} == {"help": (2, 2, 0), "hum": (1, 1, 0), "ada": (2, 1, 1)}
    seconds = dict(rows(lab, "select right(post_key, 2), seconds from answer"))
    assert seconds == {"01": 1800.0, "06": 4500.0, "10": 900.0, "21": 2400.0}


def test_discord_several_servers_own_no_channel(tmp_path, lab):
    shutil.copytree(EXPORTS / "discord", tmp_path / "x")
    other = json.loads((EXPORTS / "discord" / "threads" / "hum.json").read_text())
    (tmp_path / "x" / "other.json").write_text(json.dumps(other | {"guild": {"id": "77", "name": "Elsewhere"}, "channel": other["channel"] | {"id": "78"},
        "messages": [other["messages"][0] | {"id": "1230000000000000099"}], "messageCount": 1}))
    receipt = lab.load(tmp_path / "x")
    assert "2 servers" in notes(receipt) and one(lab, "select count(*) from coverage where closed") == 0


def discord_file(messages, **more):
    return {"guild": {"id": "1", "name": "g"}, "channel": {"id": "70", "type": "GuildTextChat", "name": "help"}, "dateRange": {"after": None, "before": None},
            "messages": messages, "messageCount": len(messages)} | more


def plain_message(id, **more):
    return {"id": id, "type": "Default", "timestamp": "2024-05-01T10:00:00+00:00", "content": "x", "author": {"id": "901", "name": "ada", "isBot": False}, "reactions": [],
            "mentions": []} | more


def test_discord_faults(tmp_path, lab):
    good = plain_message("1230000000000000001")
    bad = [plain_message(None), plain_message("1230000000000000002", timestamp=None), plain_message("1230000000000000003", timestamp="soon"),
           plain_message("1230000000000000004", timestamp="1999-01-01T00:00:00Z"),
           plain_message(1.23e18), [1], "text", plain_message("1230000000000000005", timestamp="2024-05-01T10:00:00+02:00", author=None),
           plain_message(1230000000000000006, type=0, timestamp="2024-05-01 10:00:00")]
    path = tmp_path / "help.json"
    path.write_text("\ufeff" + json.dumps(discord_file([good, *bad, plain_message("1230000000000000007")])), encoding="utf-8")
    receipt = lab.load(path)
    assert counts(receipt) == (11, 4, 0, 0, 0, 7) and conserved(receipt) and sound(lab)
    assert Counter(c for c, in rows(lab, "select code from reject")) == {"missing_id": 1, "missing_timestamp": 1, "bad_time": 1, "timestamp_out_of_range": 1, "id_not_exact": 1,
        "not_a_message": 2}
    assert rows(lab, "select author_key from post where post_key like '%5'") == [(None,)] and rows(lab, "select created_basis from post where post_key like '%6'") == [("assumed",)]
    offset, raw = rows(lab, "select byte_offset, decode(raw) from reject where code = 'bad_time'")[0]
    assert path.read_bytes()[offset:].decode().startswith(raw[:40])


def test_discord_truncated_and_not_utf8(tmp_path, lab):
    whole = json.dumps(discord_file([plain_message(f"123000000000000000{i}", content=f"c{i}") for i in range(1, 6)])).encode()
    path = tmp_path / "help.json"
    path.write_bytes(whole.replace(b'"c2"', b'"caf\xe9"')[: whole.index(b'"c5"')])
    receipt = lab.load(path)
    assert counts(receipt) == (5, 3, 0, 0, 0, 2) and {c for c, in rows(lab, "select code from reject")} == {"bad_utf8",
        "cut_off"} and receipt.loads[0]["declared"] is None and "do not say how many" in notes(receipt)


def test_discord_without_guild_or_messages(tmp_path, lab):
    path, empty = tmp_path / "dm.json", tmp_path / "none.json"
    content = discord_file([plain_message("1230000000000000001")], channel={"id": "80", "type": "DirectTextChat", "name": "ada"})
    path.write_text(json.dumps({k: v for k, v in content.items() if k != "guild"}))
    assert lab.load(path).stored == 1 and rows(lab, "select visibility, url from post") == [("direct", "https://discord.com/channels/@me/80/1230000000000000001")]
    empty.write_text(json.dumps(discord_file([])))
    with pytest.raises(InvalidExport, match="no records"): lab.load(empty)
    assert lab.load(tmp_path).read == 1


def test_discord_changed_format(tmp_path, lab):
    path = tmp_path / "help.json"
    path.write_text(json.dumps(discord_file([{k: v for k, v in plain_message(str(i)).items() if k != "timestamp"} for i in range(3)])))
    with pytest.raises(InvalidExport, match="timestamp.*may have changed"): lab.load(path)
    path.write_text(json.dumps(discord_file([plain_message("1")], channel={"type": "GuildTextChat"})))
    with pytest.raises(InvalidExport, match="which channel"): lab.load(path)


def test_discord_parts_need_not_come_together(tmp_path, lab):
    first, second = sorted((EXPORTS / "discord").glob("*help*"), key=lambda p: "part" in p.name)
    assert lab.load(second).stored == 4 and lab.load(first).stored == 5
    assert rows(lab, "select count(*), count(distinct container_key) from post") == [(9, 1)]


# Telegram

def test_telegram_real_big(shared, lab):
    path = samples(shared, "telegram") / "BIG_20A_5475M.json"
    raw = json.loads(path.read_text())
    receipt = lab.load(path)
    assert counts(receipt) == (5475, 5475, 0, 0, 0, 0) and sound(lab)
    read = [(f"telegram:{raw['id']}:{m['id']}", f"telegram:user{m['from_id']}", naive(m["date"]), m["text"], "followers", "utc") for m in raw["messages"]]
    assert sorted(rows(lab, "select post_key, author_key, created_at, text, visibility, created_basis from post")) == sorted(read)
    assert one(lab, "select count(*) from account where not placeholder") == len({m["from_id"] for m in raw["messages"]}) == 20


def test_telegram_real_private(shared, lab):
    path = samples(shared, "telegram") / "DM_2A_7M.json"
    raw = json.loads(path.read_text())["messages"]
    receipt = load(lab, path)
    assert counts(receipt) == (8, 8, 0, 0, 0, 0) and "3 messages have a local time alone" in notes(receipt)
    stored = {int(k.split(":")[2]): row for k, *row in rows(lab, "select post_key, created_at, created_basis, text, kind, reply_to_account from post")}
    for m in raw:
        at, basis, text, kind, to = stored[m["id"]]
        told = "date_unixtime" in m
        assert at == (datetime(1970, 1,
                               1) + timedelta(seconds=int(m["date_unixtime"])) if told else datetime.fromisoformat(m["date"])) and basis == ("epoch" if told else "assumed")
        parts = m["text"] if isinstance(m["text"], list) else [m["text"]]
        assert m["type"] == "service" and text is None or text == "".join(p if isinstance(p, str) else p["text"] for p in parts)
        assert kind == ("service" if m["type"] == "service" else "post") and to == (None if kind == "service" else {"user700000000": "telegram:user300000000"}.get(m["from_id"],
            "telegram:user700000000"))


def test_telegram_zone_given(shared, lab):
    receipt = load(lab, samples(shared, "telegram") / "DM_2A_7M.json", zone="Europe/Amsterdam")
    assert rows(lab, "select created_at, created_basis from post where post_key like '%:3645'") == [(datetime(2022, 3, 8, 12, 7, 42), "offset")] and not notes(receipt)
    with pytest.raises(InvalidParameter, match="zone"): load(lab, EXPORTS / "telegram" / "old.json", zone="Europe/Amsterdm")


def test_telegram_clock_of_summer_and_winter(lab):
    load(lab, EXPORTS / "telegram" / "old.json", zone="Europe/Amsterdam")
    assert rows(lab, "select created_at, edited_at, visibility from post order by created_at") == [(datetime(2019, 1, 1, 11), None, "public"),
        (datetime(2019, 7, 1, 10), None, "public")]


def test_telegram_transcribed(shared, lab):
    lab.load(shared / "transcribed" / "telegram")
    stored = {k: r for k, *r in rows(lab, "select post_key, created_at, text, kind, reply_to_key from post")}
    raw = json.loads(next((shared / "transcribed" / "telegram").glob("*.json")).read_text())["chats"]["list"][0]
    for m in raw["messages"]:
        assert stored[f"telegram:{raw['id']}:{m['id']}"][0] == datetime(1970, 1, 1) + timedelta(seconds=int(m["date_unixtime"]))
    assert stored["telegram:12345:2"][1:] == ["see here for the notice", "post", "telegram:12345:1"] and len(stored) == len(raw["messages"])


def test_telegram_shape(lab):
    receipt = lab.load(EXPORTS / "telegram" / "account.json")
    assert counts(receipt) == (13, 13, 0, 0, 0, 0) and not notes(receipt)
    links = {k[9:]: (to and to[9:], who and who[9:], basis) for k, to, who, basis in rows(lab,
        "select post_key, reply_to_key, reply_to_account, reply_basis from post where reply_basis is not null")}
    assert links == {"901:1": (None, "user902", "inferred"), "901:2": ("901:1", "user901", "order"), "901:3": ("901:1", "user901", "order"),
                     "901:4": ("901:3", "user902", "explicit"),
                     "903:9": (None, "user902", "inferred"), "5000:2": ("5000:1", "user901", "explicit"), "5000:5": ("6000:40", "user901", "explicit")}
    assert dict(rows(lab, "select container_key, min(visibility) from post group by all")) == {"telegram:901": "direct", "telegram:903": "direct", "telegram:5000": "followers",
        "telegram:6000": "public"}
    assert rows(lab, "select text, edited_at from post where edited_at is not null") == [("Known, see the pinned note", datetime(2024, 5, 1, 8, 11))]
    assert one(lab, "select text from post where post_key = 'telegram:5000:1'") == "Look: it {flickers} ]"
    assert rows(lab, "select kind, actor_key, target_key, value, occurred_at, occurred_basis from interaction order by kind") == [
        ("mention", "telegram:user903", "telegram:user902", "entity", datetime(2024, 5, 1, 8, 20), "epoch"),
        ("reaction", "telegram:user902", "telegram:user901", "👍", datetime(2024, 5, 1, 8, 5), "assumed"),
        ("share", "telegram:user901", "telegram:channel777", None, datetime(2024, 5, 1, 8, 30), "epoch")]
    assert rows(lab, "select post_key, n from post_count") == [("telegram:5000:1", 2)]
    assert rows(lab, "select handle, kind from account where account_key in ('telegram:user903', 'telegram:channel5000') order by handle") == [("Brightlamp users",
        "organization"), ("user903", "person")]
    assert [r for r in rows(lab, "select container, closed from coverage order by container") if r[1]] == [("Brightlamp users", True)]


def test_telegram_acknowledgement(lab):
    lab.load(EXPORTS / "telegram" / "account.json")
    lab.roles(pl.DataFrame({"account": ["telegram:user902"], "role": ["staff"], "brand": ["Brightlamp"]}))
    frame = tl.acknowledgement(lab, by="container").frame
    assert {r["container"]: (r["n"], r["acknowledged"], r["median_seconds"]) for r in frame.to_dicts() if r["acknowledged"]} == {"Ada": (1, 1, 3600.0),
        "Brightlamp users": (3, 1, None)}
    assert tl.acknowledgement(lab).frame.select("n", "acknowledged", "pending").rows() == [(5, 2, 3)]


def telegram_file(messages, **more): return {"name": "Club", "type": "private_group", "id": 42, "messages": messages} | more
def telegram_message(id, **more): return {"id": id, "type": "message", "date": "2024-05-01T12:00:00", "date_unixtime": "1714557600", "from": "Ada", "from_id": "user901",
                                          "text": f"t{id}"} | more


def test_telegram_faults(tmp_path, lab):
    good, path = telegram_message(1), tmp_path / "result.json"
    bad = [telegram_message(None), telegram_message(2, date=None, date_unixtime=None), telegram_message(3, date="soon", date_unixtime=None),
           telegram_message(4, date_unixtime="1"), telegram_message(5.5), 7,
           telegram_message(6, type="unsupported"), telegram_message(7, from_id=None), telegram_message(8, text=None), telegram_message(1)]
    path.write_text("\ufeff" + json.dumps(telegram_file([good, *bad, telegram_message(9)])), encoding="utf-8")
    receipt = lab.load(path)
    assert counts(receipt) == (12, 5, 0, 0, 1, 6) and conserved(receipt) and "unsupported" in notes(receipt) and sound(lab)
    assert Counter(c for c, in rows(lab, "select code from reject")) == {"missing_id": 1, "missing_date": 1, "bad_time": 1, "timestamp_out_of_range": 1, "id_not_exact": 1,
        "not_a_message": 1}
    assert rows(lab, "select author_key from post where post_key = 'telegram:42:7'") == [(None,)]


def test_telegram_truncated(tmp_path, lab):
    content = (EXPORTS / "telegram" / "account.json").read_bytes()
    path = tmp_path / "result.json"
    path.write_bytes(content[: content.index(b"From the news")])
    receipt = lab.load(path)
    assert counts(receipt) == (10, 9, 0, 0, 0, 1) and rows(lab, "select code from reject") == [("cut_off",)]
    path.write_bytes(gzip.compress(content))
    assert lab.load(path.rename(tmp_path / "result.json.gz")).stored == 4


def test_telegram_a_bad_byte_costs_one_message(tmp_path, lab):
    path = tmp_path / "result.json"
    path.write_bytes(json.dumps(telegram_file([telegram_message(i) for i in range(1, 4)])).encode().replace(b'"t2"', b'"caf\xe9"'))
    assert counts(lab.load(path)) == (3, 2, 0, 0, 0, 1) and rows(lab, "select code from reject") == [("bad_utf8",)]


def test_telegram_changed_format(tmp_path, lab):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(telegram_file([{k: v for k, v in telegram_message(i).items() if k != "id"} for i in range(3)])))
    with pytest.raises(InvalidExport, match="'id'.*may have changed"): lab.load(path)
    path.write_text(json.dumps({"name": "Club", "type": "private_group", "messages": [telegram_message(1)]}))
    with pytest.raises(InvalidExport, match="'chat'"): lab.load(path)
    path.write_text(json.dumps(telegram_file([])))
    with pytest.raises(InvalidExport, match="no records"): lab.load(path)


def test_telegram_unanswered_private_chat_needs_its_owner(tmp_path, lab):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(telegram_file([telegram_message(1), telegram_message(2)], type="personal_chat", id=901)))
    assert "owner=" in notes(load(lab, path)) and rows(lab, "select distinct reply_to_account from post") == [(None,)]
    with Lab() as other:
        load(other, path, owner="user902")
        other.roles(pl.DataFrame({"account": ["telegram:user902"], "role": ["brand"], "brand": ["acme"]}))
        assert tl.acknowledgement(other).frame.select("n", "acknowledged").rows() == [(1, 0)]


def test_telegram_contacts_before_the_chats(tmp_path, lab):
    content = json.loads((EXPORTS / "telegram" / "account.json").read_text())
    content["contacts"]["list"] = [{"user_id": 0, "first_name": "Zoe" * 20, "phone_number": "+00 555 0198"}] * 4000
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content))
    assert path.stat().st_size > 400_000 and lab.load(path).stored == 13 and one(lab, "select reply_to_account from post where post_key = 'telegram:903:9'") == "telegram:user902"


# WhatsApp

LINE = re.compile("^[\u200e]?\\[?(\\S+?),? (\\d\\d?:\\d\\d(?::\\d\\d)?)(?:\\] | - )(.*)$")


def chat_rows(path, form):
    "The messages of a chat without AM and PM by plain Python: time, name, text"
    found = []
    for line in path.read_text(encoding="utf-8-sig").split("\n"):
        if m := LINE.match(line.rstrip("\r")):
            name, colon, text = m[3].partition(": ")
            found.append([datetime.strptime(f"{m[1]} {m[2]}", form), name if colon else None, text if colon else m[3]])
        elif line and found: found[-1][2] += "\n" + line
    return found


@pytest.mark.parametrize("name, form, n", [("lorem-2000.txt", "%Y-%m-%d %H:%M", 2000), ("lorem.txt", "%d-%m-%y %H:%M:%S", 500),
                                           ("lorem-merge-part1.txt", "%Y-%m-%d %H:%M", 300), ("pokemon.txt", "%d.%m.%Y %H:%M", 20)])
def test_whatsapp_real(shared, lab, name, form, n):
    path = shared / "whatsapp-whatstk" / name
    read = chat_rows(path, form)
    receipt = lab.load(path)
    assert receipt.read == len(read) == n and receipt.rejected == 0 and conserved(receipt) and sound(lab) and "zone=" in notes(receipt)
    number = {r[1] for r in read if r[1] and r[1].startswith("+")}
    stored = rows(lab, "select created_at, author_key, text, kind from post order by record")
    assert len(stored) == n
    for (at, who, text), (stored_at, key, stored_text, kind) in zip(read, stored):
        assert stored_at == at and (kind == "service" or stored_text == text.rstrip("\n"))
        if kind == "post": assert key.startswith("whatsapp:number …789") if who in number else key == f"whatsapp:{who}"
    assert sum(kind == "service" for *_, kind in stored) == (2 if name == "pokemon.txt" else 0)
    assert not number & {h for h, in rows(lab, "select handle from account")}


def test_whatsapp_two_parts_become_one_chat(shared, lab):
    parts = [shared / "whatsapp-whatstk" / f"lorem-merge-part{i}.txt" for i in (1, 2)]
    assert [load(lab, p, chat="Lorem", zone="UTC").stored for p in parts] == [300, 300]
    assert rows(lab, "select count(*), count(distinct container_key), count(distinct conversation_key) from post") == [(600, 1, 1)]
    read = [r for p in parts for r in chat_rows(p, "%Y-%m-%d %H:%M")]
    assert dict(rows(lab, "select author_key, count(*) from post where author_key not like '%number%' group by all")) == {f"whatsapp:{k}": v for k,
        v in Counter(r[1] for r in read).items() if not k.startswith("+")}


def test_whatsapp_overlapping_exports_hold_each_message_once(shared, tmp_path, lab):
    lines = (shared / "whatsapp-whatstk" / "lorem-2000.txt").read_text().splitlines(keepends=True)
    early, late = tmp_path / "a" / "WhatsApp Chat with Lorem.txt", tmp_path / "b" / "WhatsApp Chat with Lorem (2).txt"
    for path, part in ((early, lines[:1500]), (late, lines[500:])):
        path.parent.mkdir()
        path.write_text("".join(part))
    assert counts(load(lab, early))[:2] == (1500, 1500) and counts(load(lab, late))[:4] == (1500, 500, 0, 1000) and one(lab, "select count(*) from post") == 2000


def test_whatsapp_refuses_dates_that_can_be_read_two_ways(shared, lab):
    for name in ("2A_5M.txt", "4A_11M.txt", "4A_11M.zip"):
        with pytest.raises(InvalidExport, match="date_order="): load(lab, samples(shared, "whatsapp") / name)
    assert one(lab, "select count(*) from post") == 0
    with pytest.raises(InvalidParameter, match="date_order"): load(lab, samples(shared, "whatsapp") / "2A_5M.txt", date_order="dym")


def test_whatsapp_real_with_options(shared, lab):
    folder = samples(shared, "whatsapp")
    receipt = load(lab, folder / "4A_11M.txt", date_order="mdy", zone="America/New_York")
    read = chat_rows(folder / "4A_11M.txt", "%m/%d/%y %H:%M")
    assert receipt.read == receipt.stored == len(read) == 14 and not notes(receipt)
    assert rows(lab, "select created_at, text, created_basis from post order by record") == [(at + timedelta(hours=5), text, "offset") for at, _, text in read]
    assert Counter(k for k, in rows(lab, "select kind from post")) == {"post": 11, "service": 3}
    assert load(lab, folder / "4A_11M.zip", date_order="mdy", zone="America/New_York", chat="4A_11M").stored == 0 and one(lab, "select count(*) from post") == 14


def test_whatsapp_lines_out_of_order(shared, lab):
    load(lab, samples(shared, "whatsapp") / "2A_5M.txt", chat="B", **WHATSAPP_OPTIONS)
    by = {t: (a, to) for t, a, to in rows(lab, "select p.text, p.created_at, q.text as answered from post p left join post q on q.post_key = p.reply_to_key")}
    assert by["This message should be reordered"] == (datetime(2021, 1, 1, 12, 2), "Whats up?") and by[None] == (datetime(2021, 1, 1, 12, 3), "This message should be reordered")


def test_whatsapp_headers(shared, tmp_path):
    "Every header of the measured list is recognised; of each order of the date, one with brackets and one without is read back"
    forms = [f["format"] for f in json.loads((shared / "whatsapp-whatstk" / "header_format_support.json").read_text())]
    times = [datetime(2020, 1, 15, 9, 5, 7) + timedelta(days=i, hours=i) for i in range(0, 60, 3)]
    for k, form in enumerate(forms):
        shape = form.replace("%name:", "Kim: hi").replace("%y", "%Y" if form.strip("[").startswith("%y") else "%y")
        assert header(times[k % 20].strftime(shape)) == ("[" if form.startswith("[") else ""), form
        if k % 11: continue
        (path := tmp_path / f"c{k}.txt").write_text("\n".join(t.strftime(shape) for t in times) + "\n")
        with Lab() as lab:
            lab.load(path)
            assert [t for t, in rows(lab, "select created_at from post order by record")] == [t if "%S" in form else t.replace(second=0) for t in times], form


def test_whatsapp_shape(lab):
    receipt = load(lab, EXPORTS / "whatsapp" / "WhatsApp Chat with Ada.txt", zone="Europe/Amsterdam")
    assert counts(receipt) == (7, 7, 0, 0, 0, 0) and not notes(receipt)
    stored = rows(lab,
                  "select p.created_at, p.author_key, p.text, p.kind, p.visibility, p.reply_to_account, q.text as answered from post p left join post q on q.post_key = p.reply_to_key order by p.record")
    a, b = "whatsapp:Ada", "whatsapp:Bob"
    question, answer = "The lamp flickers\nand hums: a lot\n\n[12/05/2024, 12:06:00\u202fam] Bob: who said this?", "Sorry: a new one is on its way"
    assert stored[1:] == [(datetime(2024, 5, 13, 7, 5), a, question, "post", "direct", b, None), (datetime(2024, 5, 13, 11, 5), b, answer, "post", "direct", a, question),
                          (datetime(2024, 5, 13, 11, 5), a, "ok", "post", "direct", b, answer), (datetime(2024, 5, 13, 11, 5), a, "ok", "post", "direct", b, answer),
                          (datetime(2024, 5, 13, 11, 6), a, None, "post", "direct", b, answer), (datetime(2024, 5, 14, 10, 30), b, None, "post", "direct", a, None)]
    assert stored[0][1] is None and stored[0][3] == "service"
    lab.roles(pl.DataFrame({"account": ["Bob"], "role": ["staff"], "brand": ["Brightlamp"]}))
    assert tl.acknowledgement(lab, unit="run").frame.select("n", "acknowledged").rows() == [(2, 2)] and tl.acknowledgement(lab).frame.select("n",
        "median_seconds").rows() == [(1, 14400.0)]
    assert one(lab, "select count(*) from answer where seconds < 0") == 0


def test_whatsapp_group_is_not_identifiable(lab):
    load(lab, EXPORTS / "whatsapp" / "iphone")
    assert rows(lab, "select author_key, text from post where kind = 'post' order by record")[3:] == [("whatsapp:Team: North", t) for t in ("we are", "really", "yes")]
    assert rows(lab, "select kind, author_key, text from post order by record")[:4] == [("service", None, "Lamp club: \u200eMessages and calls are end-to-end encrypted."),
        ("service", None, "Ada created this group"), ("post", "whatsapp:Ada", "hello"), ("post", "whatsapp:Bob", None)]
    lab.roles(pl.DataFrame({"account": ["Bob"], "role": ["staff"], "brand": ["Brightlamp"]}))
    with pytest.raises(NotIdentifiable): tl.acknowledgement(lab)


def test_whatsapp_chat_of_two_with_one_voice(tmp_path, lab):
    path = tmp_path / "WhatsApp Chat with Ada.txt"
    path.write_text("13/05/2024, 09:05 - Ada: hello\n13/05/2024, 10:05 - Ada: anybody?\n")
    assert "owner=" in notes(load(lab, path)) and rows(lab, "select distinct visibility, reply_to_account from post") == [("followers", None)]
    with Lab() as other:
        load(other, path, owner="Bob", zone="UTC")
        other.roles(pl.DataFrame({"account": ["Bob"], "role": ["staff"], "brand": ["Brightlamp"]}))
        assert tl.acknowledgement(other).frame.select("n", "acknowledged").rows() == [(1, 0)]


@pytest.mark.parametrize("lines, moment", [
    ("2020/01/15, 9:05 - A: x", datetime(2020, 1, 15, 9, 5)), ("1/15/20, 12:05\u202fAM - A: x", datetime(2020, 1, 15, 0, 5)),
    ("15.01.20, 12:05 p. m. - A: x", datetime(2020, 1, 15, 12, 5)),
    ("\u200e[15/01/2020, 21.05.30] A: x", datetime(2020, 1, 15, 21, 5, 30)), ("2020-02-03, 09:05 - A: x", datetime(2020, 2, 3, 9, 5)),
    ("[20. 1. 31. 9:05] A: x\n[1. 1. 31. 9:05] A: y", None), ("20/01/19, 11:23 - A: x", datetime(2019, 1, 20, 11, 23))])
def test_whatsapp_moments(tmp_path, lab, lines, moment):
    (path := tmp_path / "chat A.txt").write_text(lines)
    lab.load(path)
    assert moment is None or one(lab, "select min(created_at) from post") == moment


def test_whatsapp_faults(tmp_path, lab):
    path = tmp_path / "WhatsApp Chat with A.txt"
    path.write_bytes("\ufeffnot yet\n20/01/19, 11:23 - A: x\r\n32/01/19, 11:24 - A: no day\n20/01/19, 11:61 - A: no minute\n20/01/19, 11:25 - B: ".encode() + b"caf\xe9\n" + "20/01/99, 11:25 - B: later\n20/01/19, 11:26 - B: z\x1f\u2028\x00".encode())
    receipt = lab.load(path)
    assert counts(receipt) == (7, 2, 0, 0, 0, 5) and conserved(receipt)
    assert Counter(c for c, in rows(lab, "select code from reject")) == {"not_a_message": 1, "bad_time": 2, "bad_utf8": 1, "timestamp_out_of_range": 1}
    assert rows(lab, "select text from post order by created_at") == [("x",), ("z\x1f\u2028\x00",)]
    offset = one(lab, "select byte_offset from reject where code = 'bad_utf8'")
    assert path.read_bytes()[offset:].startswith(b"20/01/19, 11:25 - B: caf\xe9")


def test_whatsapp_without_a_message(tmp_path, lab):
    (path := tmp_path / "notes.txt").write_text("20/01/19: bought milk\n")
    with pytest.raises(UnknownSource): lab.load(path)
    path.write_text("99/99/99, 11:23 - A: x\n")
    with pytest.raises(InvalidExport): lab.load(path)


def test_whatsapp_a_number_that_got_a_name(tmp_path, lab):
    path = tmp_path / "WhatsApp Chat with Lamp club.txt"
    text = "20/01/19, 11:23 - +00 20 555 0199: hello\n20/01/19, 11:23 - Bob: hello\n"
    path.write_text(text)
    assert load(lab, path).stored == 2
    path.write_text(text.replace("+00 20 555 0199", "Ada"))
    assert counts(load(lab, path))[:4] == (2, 0, 1, 1) and {a for a, in rows(lab, "select author_key from post")} == {"whatsapp:Ada", "whatsapp:Bob"}


# Zulip

def zulip_files(tmp_path, messages, realm=None):
    folder = tmp_path / "export"
    folder.mkdir(exist_ok=True)
    (folder / "realm.json").write_text(json.dumps(realm or json.loads((EXPORTS / "zulip" / "realm.json").read_text())))
    (folder / "messages-000001.json").write_bytes(messages if isinstance(messages, bytes) else json.dumps({"zerver_usermessage": [], "zerver_message": messages}).encode())
    return folder


def zulip_message(id, **more): return {"id": id, "sender": 1, "recipient": 500, "subject": "a", "content": f"c{id}",
                                       "date_sent": 1714550400.5 + (id if isinstance(id, int) else 0)} | more


def test_zulip_shape(lab):
    receipt = lab.load(EXPORTS / "zulip")
    raw = [m for n in (1, 2) for m in json.loads((EXPORTS / "zulip" / f"messages-00000{n}.json").read_text())["zerver_message"]]
    assert counts(receipt) == (len(raw), len(raw), 0, 0, 0, 0) and sound(lab)
    moments = [(f"zulip:lamp:{m['id']}", datetime(1970, 1, 1) + timedelta(microseconds=round(m["date_sent"] * 1e6)), m["content"]) for m in raw]
    assert rows(lab, "select post_key, created_at, text from post order by post_key") == moments
    links = {k[11:]: (to and to[11:], who and who[11:], basis) for k, to, who, basis in rows(lab,
        "select post_key, reply_to_key, reply_to_account, reply_basis from post where reply_basis is not null")}
    assert links == {"11": ("10", "1", "thread"), "12": ("10", "1", "thread"), "14": ("10", "1", "thread"), "20": ("13", "3", "explicit"), "21": (None, "2", "inferred"),
                     "22": ("21", "1", "order")}
    assert {k[11:]: (c[11:], v) for k, c, v in rows(lab, "select post_key, conversation_key, visibility from post")} == {
        "10": ("channel:50:flicker", "public"), "11": ("channel:50:flicker", "public"), "12": ("channel:50:flicker", "public"), "13": ("channel:50:hum", "public"),
        "14": ("channel:50:flicker", "public"),
        "20": ("channel:51:plans", "followers"), "21": ("private:1:2", "direct"), "22": ("private:1:2", "direct"), "23": ("group:61", "direct"), "24": ("recipient:999", "direct")}
    assert rows(lab, "select kind, actor_key, target_key, value from interaction order by all") == [("mention", "zulip:lamp:2", "zulip:lamp:1", "entity"),
        ("mention", "zulip:lamp:9", "zulip:lamp:2", "entity"), ("reaction", "zulip:lamp:3", "zulip:lamp:1", "heart")]
    assert rows(lab, "select handle, kind from account order by account_key") == [("Ada", "person"), ("Bob", "person"), ("Cai", "person"), ("Lampbot", "bot"),
        ("notification-bot", "bot")]
    assert rows(lab, "select edited_at from post where edited_at is not null") == [(datetime(2024, 5, 1, 8, 11, 40, 250000),)]
    assert "1 messages went to recipients" in notes(receipt) and [r for r in rows(lab, "select container, closed from coverage order by all") if r[0]] == [("help", True),
        ("team", True)]


def test_zulip_says_who_left_and_when(tmp_path, lab):
    realm = json.loads((EXPORTS / "zulip" / "realm.json").read_text())
    log = lambda user, type, seconds, **more: {"modified_user": user, "event_type": type, "event_time": 1714600000.5 + seconds, "backfilled": False, "extra_data": {}} | more
    realm["zerver_userprofile"] += [{"id": k, "full_name": f"P{k}", "is_bot": False, "is_active": k == 23} for k in range(20, 26)]
    realm["zerver_realmauditlog"] = [log(1, 103, 0), log(20, 103, 1, backfilled=True), log(21, 107, 2), log(22, 106, 3), log(23, 103, 4), log(23, 104, 5), log(24, 105, 6), log(4, 103, 7), log(25, 103, 8), log(25, 104, 9),
                                     log(25, 103, 10), log(2, 215, 11), log(None, 103, 12), log(77, 103, 13), log(2, 103, 0, event_time=None)]
    receipt = lab.load(zulip_files(tmp_path, [zulip_message(k, sender=k) for k in (1, 20, 21, 22, 23, 24, 25)], realm))
    assert rows(lab, "select kind, substr(actor_key, 12), (epoch_us(occurred_at) - 1714600000500000) // 1000000 from interaction where kind in ('leave', 'active') order by all") == [
        ("active", "23", 5), ("active", "25", 9), ("leave", "1", 0), ("leave", "21", 2), ("leave", "22", 3), ("leave", "25", 10)]
    assert "2 who wrote are deactivated, and the log does not say since when" in notes(receipt) and sound(lab)


def test_zulip_acknowledgement(lab):
    lab.load(EXPORTS / "zulip")
    lab.roles(pl.DataFrame({"account": ["Bob"], "role": ["staff"], "brand": ["Brightlamp"]}))
    assert dict(rows(lab, "select substr(post_key, 12), seconds from answer")) == {"10": 600.0, "21": 30.0}
    frame = tl.acknowledgement(lab).frame
    assert frame.select("n", "acknowledged").rows() == [(3, 2)]


def test_zulip_faults(tmp_path, lab):
    bad = [zulip_message(None), zulip_message(2, sender=None), zulip_message(3, recipient=None), zulip_message(4, date_sent=None), zulip_message(5, date_sent="soon"),
           zulip_message(6, date_sent=1.5), zulip_message(7.5), [8], zulip_message(1)]
    receipt = lab.load(zulip_files(tmp_path, [zulip_message(1), *bad, zulip_message(9)]))
    assert counts(receipt) == (11, 2, 0, 0, 1, 8) and conserved(receipt) and sound(lab)
    assert Counter(c for c, in rows(lab, "select code from reject")) == {"missing_id": 1, "missing_sender": 1, "missing_recipient": 1, "missing_date_sent": 1, "bad_time": 1,
        "timestamp_out_of_range": 1, "id_not_exact": 1, "not_a_message": 1}


def test_zulip_truncated(tmp_path, lab):
    whole = json.dumps({"zerver_message": [zulip_message(i) for i in range(1, 4)], "zerver_usermessage": [{"id": 1}, {"id": 2}]}).encode()
    receipt = lab.load(zulip_files(tmp_path, whole[:-12]))
    assert counts(receipt) == (3, 3, 0, 0, 0, 0) and "breaks off after its messages" in notes(receipt)
    with Lab() as other:
        assert counts(other.load(zulip_files(tmp_path, whole[: whole.index(b'"c3"')].replace(b"c1", b"caf\xe9")))) == (3, 1, 0, 0, 0, 2)
        assert {c for c, in rows(other, "select code from reject")} == {"bad_utf8", "cut_off"}


def test_zulip_realm_must_be_whole(tmp_path, lab):
    folder = zulip_files(tmp_path, [zulip_message(1)])
    content = (folder / "realm.json").read_bytes()
    (folder / "realm.json").write_bytes(content[: content.index(b'"type_id"')])
    with pytest.raises(InvalidExport, match="breaks off at byte"): lab.load(folder)
    with pytest.raises(InvalidExport, match="zerver_realm"): lab.load(zulip_files(tmp_path, [zulip_message(1)], {"zerver_stream": []}))
    with pytest.raises(InvalidExport, match="'sender'.*may have changed"): lab.load(zulip_files(tmp_path,
        [{k: v for k, v in zulip_message(i).items() if k != "sender"} for i in (1, 2)]))
    with pytest.raises(InvalidExport, match="no records"): lab.load(zulip_files(tmp_path, []))


def test_zulip_two_servers_do_not_mix(tmp_path, lab):
    realm = json.loads((EXPORTS / "zulip" / "realm.json").read_text())
    lab.load(zulip_files(tmp_path, [zulip_message(1)]))
    lab.load(zulip_files(tmp_path, [zulip_message(1)], realm | {"zerver_realm": [{"id": 1, "string_id": "", "uuid": "u-9", "name": "Other"}]}))
    assert [k for k, in rows(lab, "select post_key from post order by post_key")] == ["zulip:lamp:1", "zulip:u-9:1"]
