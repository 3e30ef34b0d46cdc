"""Every reader against real exports, counted a second time in plain Python, and against small shapes that real exports take."""
import csv
import io
import json
import re
import shutil
import statistics
import tarfile
import zipfile
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

import trustlab.load
import trustlab.sources  # noqa: F401
from trustlab.core import InvalidExport, InvalidParameter, PartialExport, UnknownSource
from trustlab.load import COUNTS, READERS
from trustlab.store import Lab

EXPORTS = Path(__file__).parent / "exports"
HEADER = ["tweet_id", "author_id", "inbound", "created_at", "text", "response_tweet_id", "in_response_to_tweet_id"]
FORM = "%a %b %d %H:%M:%S %z %Y"


@pytest.fixture
def lab():
    with Lab() as store: yield store


def counts(receipt): return tuple(getattr(receipt, c) for c in COUNTS)
def one(lab, query, **params): return lab.sql(query, **params).row(0)[0]
def sound(lab): return lab.check().filter((pl.col("part") == "sound") & (pl.col("n") > 0)).is_empty()
def number(text): return re.sub(r"\.0$", "", text.strip())


def tweets(path):
    "The rows of a twcs file by Python's csv alone: carriage returns inside fields are mapped away, ids are whole numbers, blank rows are out"
    raw = path.read_bytes() if isinstance(path, Path) else path
    body = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\x1e")
    rows = [{k: v.replace("\x1e", "\r") for k, v in r.items()} for r in csv.DictReader(io.StringIO(body, newline=""))]
    for r in rows:
        r["tweet_id"], r["in_response_to_tweet_id"] = number(r["tweet_id"]), number(r["in_response_to_tweet_id"])
        r["inbound"] = r["inbound"].lower() == "true"
    return [r for r in rows if r["tweet_id"]]


def when(r): return datetime.strptime(r["created_at"], FORM).astimezone(timezone.utc).replace(tzinfo=None)


def same_posts(lab, rows):
    "Every post of the store is what Python's csv read"
    stored = lab.sql("select post_key, author_key, created_at, text, reply_to_key from post").rows()
    read = [(f"twcs:{r['tweet_id']}", f"twcs:{r['author_id']}", when(r), r["text"], f"twcs:{r['in_response_to_tweet_id']}" if r["in_response_to_tweet_id"] else None) for r in rows]
    assert sorted(stored, key=repr) == sorted(read, key=repr)


def direct_replies(rows):
    "(call, reply) for each first tweet of a customer and each brand's tweet that answers it, by hand"
    by_id = {r["tweet_id"]: r for r in rows}
    return [(by_id[r["in_response_to_tweet_id"]], r) for r in rows if not r["inbound"] and by_id.get(r["in_response_to_tweet_id"], {}).get("inbound")
            and not by_id[r["in_response_to_tweet_id"]]["in_response_to_tweet_id"]]


# ---- Customer Support on Twitter: real files

def test_pandas_file_is_read_to_its_last_row(lab, shared):
    path = shared / "twcs-first-rows-pandas" / "twcs.csv"
    receipt, rows = lab.load(path), tweets(path)
    assert counts(receipt) == (5000, 5000, 0, 0, 0, 0) and len(rows) == 5000
    assert receipt.loads[0]["scope"] == "answered" and sound(lab)
    same_posts(lab, rows)
    assert [t.count("\r") for t in lab.sql("select text from post where contains(text, chr(13))")["text"]] == [2]


def test_pandas_file_gives_the_known_rate_and_latency(lab, shared):
    path = shared / "twcs-first-rows-pandas" / "twcs.csv"
    lab.load(path)
    rows = tweets(path)
    roots, pairs = [r for r in rows if r["inbound"] and not r["in_response_to_tweet_id"]], direct_replies(rows)
    waits = [(when(reply) - when(call)).total_seconds() for call, reply in pairs]
    assert (len(roots), len({c["tweet_id"] for c, _ in pairs}), len(pairs), statistics.median(waits), min(waits) >= 0) == (1285, 1154, 1193, 744, True)
    by_sql = lab.sql("""
        with root as (select p.post_key, p.created_at from post p join role r on r.account_key = p.author_key and r.role = 'customer' where p.reply_to_key is null),
             pair as (select c.post_key, date_diff('second', c.created_at, a.created_at) as wait from root c join post a on a.reply_to_key = c.post_key
                      join role b on b.account_key = a.author_key and b.role = 'brand')
        select (select count(*) from root) as roots, count(distinct post_key) as answered, count(*) as pairs, median(wait) as wait from pair""")
    assert by_sql.row(0) == (1285, 1154, 1193, 744)
    first = {}
    for call, reply in pairs: first[call["tweet_id"]] = min(first.get(call["tweet_id"], 1e18), (when(reply) - when(call)).total_seconds())
    answered = lab.sql("select a.post_key, a.seconds from answer a join post p using (post_key) where p.reply_to_key is null")
    assert dict(answered.rows()) == {f"twcs:{k}": v for k, v in first.items()}


def test_pandas_file_points_out_of_itself(lab, shared):
    path = shared / "twcs-first-rows-pandas" / "twcs.csv"
    lab.load(path)
    rows = tweets(path)
    ids = {r["tweet_id"] for r in rows}
    listed = [(r["tweet_id"], number(x)) for r in rows for x in r["response_tweet_id"].split(",") if x]
    outside = {(f"twcs:{a}", f"twcs:{b}") for a, b in listed if b not in ids}
    assert (len(listed), sum(b not in ids for _, b in listed)) == (6312, 2624)
    assert set(lab.sql("select post_key, value from interaction where kind = 'declared_reply'").rows()) == outside
    assert one(lab, "select count(*) from post p where reply_to_key is not null and not exists (select 1 from post q where q.post_key = p.reply_to_key)") == 6


def test_conversations_are_what_walking_up_gives(lab, shared):
    path = shared / "twcs-first-rows-pandas" / "twcs.csv"
    lab.load(path)
    parent = {r["tweet_id"]: r["in_response_to_tweet_id"] for r in tweets(path)}
    def top(t):
        while parent.get(t): t = parent[t]
        return t
    assert dict(lab.sql("select post_key, conversation_key from post").rows()) == {f"twcs:{t}": f"twcs:{top(t)}" for t in parent}


def test_the_official_sample(lab, shared):
    path = shared / "twcs-sample" / "sample.csv"
    receipt, rows = lab.load(path), tweets(path)
    assert counts(receipt)[:2] == (93, 93) and len(rows) == 93
    same_posts(lab, rows)
    roots = [r for r in rows if r["inbound"] and not r["in_response_to_tweet_id"]]
    assert (len(roots), len({c["tweet_id"] for c, _ in direct_replies(rows)})) == (25, 22)
    assert one(lab, "select count(*) from post p join role r on r.account_key = p.author_key and r.role = 'customer' where p.reply_to_key is null") == 25
    assert one(lab, "select count(distinct a.post_key) from answer a join post p using (post_key) where p.reply_to_key is null") == 22


def test_one_side_alone_counts_nothing_as_unanswered(lab, shared):
    path = shared / "twcs-spotify-requests" / "support_requests.csv"
    receipt, rows = lab.load(path), tweets(path)
    assert counts(receipt) == (15096, 15096, 0, 0, 0, 0) and len(rows) == 15096 and receipt.loads[0]["scope"] == "own"
    same_posts(lab, rows)
    assert one(lab, "select count(*) from post p where not exists (select 1 from post q where q.post_key = p.reply_to_key)") == 15096
    assert one(lab, "select count(*) from inbound where eligible") == 0
    assert all("one side only" in says for says in lab.check().filter(pl.col("part") == "answers")["says"])
    assert one(lab, "select count(distinct author_key) from post") == 8723


def test_what_excel_mangled_is_told(lab, shared):
    path = shared / "twcs-excel-mangled" / "twcs.csv"
    with pytest.warns(PartialExport, match="regrouped by Excel"): receipt = lab.load(path)
    assert counts(receipt)[:2] == (121, 121)
    whole = {r["tweet_id"]: r for r in tweets(shared / "twcs-first-rows-pandas" / "twcs.csv")}
    stored = dict(lab.sql("select post_key, reply_to_key from post").rows())
    both = [k for k in stored if k.removeprefix("twcs:") in whole]
    assert len(both) > 100
    for key in both: assert stored[key] == (f"twcs:{p}" if (p := whole[key.removeprefix("twcs:")]["in_response_to_tweet_id"]) else None)


def test_a_grid_of_a_million_blank_rows(lab, shared):
    path = shared / "twcs-excel-million-rows" / "twcs.zip"
    with pytest.warns(PartialExport) as said: receipt = lab.load(path)
    by_member = {row["member"]: row for row in receipt.loads}
    big = next(row for name, row in by_member.items() if name.endswith("twcs.csv"))
    assert (big["read"], big["stored"] + big["same"] + big["changed"], big["rejected"]) == (999, 999, 0)
    assert any("1,047,575 rows without any value" in str(w.message) and "1,048,576" in str(w.message) for w in said)


# ---- Customer Support on Twitter: shapes

ROWS = [["1", "101", "True", "Mon Jan 01 10:00:00 +0000 2024", "@Acme hello, is it late?", "2", ""], ["2", "Acme", "False", "Mon Jan 01 10:10:00 +0000 2024", 'We "look"', "", "1"],
        ["3", "102", "True", "Mon Jan 01 11:00:00 +0000 2024", "@Acme two\nlines", "", ""]]


def written(folder, rows, header=HEADER, name="t.csv", **how):
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as out: csv.writer(out, lineterminator="\n", **how).writerows([header, *rows])
    return path


def posts(lab): return lab.sql("select * exclude (load_id) from post order by post_key").rows()


@pytest.fixture
def plain_posts(tmp_path):
    with Lab() as lab:
        lab.load(written(tmp_path, ROWS, name="plain.csv"))
        yield posts(lab)


@pytest.mark.parametrize("order", [[6, 5, 4, 3, 2, 1, 0], [3, 0, 6, 1, 5, 2, 4]])
def test_columns_are_bound_by_name(lab, tmp_path, order, plain_posts):
    lab.load(written(tmp_path, [[r[i] for i in order] for r in ROWS], [HEADER[i] for i in order]))
    assert posts(lab) == plain_posts


def test_unknown_columns_are_passed_over(lab, tmp_path, plain_posts):
    lab.load(written(tmp_path, [[str(i), *r[:3], "x,y", *r[3:], ""] for i, r in enumerate(ROWS)], ["", *HEADER[:3], "mood", *HEADER[3:], "sent"]))
    assert posts(lab) == plain_posts


@pytest.mark.parametrize("id_of", ["{}.0", " {}", "{} "])
def test_ids_of_every_spelling_are_one(lab, tmp_path, id_of, plain_posts):
    assert counts(lab.load(written(tmp_path, [[id_of.format(r[0]), *r[1:6], r[6] and id_of.format(r[6])] for r in ROWS])))[:2] == (3, 3)
    assert posts(lab) == plain_posts


def test_every_field_quoted_and_excel_booleans(lab, tmp_path, plain_posts):
    lab.load(written(tmp_path, [[*r[:2], r[2].upper(), *r[3:]] for r in ROWS], quoting=csv.QUOTE_ALL))
    assert posts(lab) == plain_posts


@pytest.mark.parametrize("missing", ["author_id", "created_at", "text"])
def test_a_missing_column_is_named(lab, tmp_path, missing):
    at = HEADER.index(missing)
    with pytest.raises(InvalidExport, match=missing): lab.load(written(tmp_path, [r[:at] + r[at + 1:] for r in ROWS], HEADER[:at] + HEADER[at + 1:]))
    assert one(lab, "select count(*) from load") == 0


def test_a_column_that_stands_twice_is_refused(lab, tmp_path):
    with pytest.raises(InvalidExport, match="text"): lab.load(written(tmp_path, [[*r, r[4]] for r in ROWS], [*HEADER, "text"]))


@pytest.mark.parametrize(("at", "value", "code"), [(0, "1e5", "bad_id"), (0, "", "bad_id"), (1, " ", "no_author"), (2, "maybe", "bad_inbound"), (3, "yesterday", "bad_time"),
                                                   (3, "Mon Jan 01 10:00:00 +0000 1924", "timestamp_out_of_range"), (6, "no", "bad_parent")])
def test_what_cannot_be_right_is_rejected_with_its_place(lab, tmp_path, at, value, code):
    rows = [list(r) for r in ROWS]
    rows[1][at] = value
    path = written(tmp_path, rows)
    assert counts(lab.load(path)) == (3, 2, 0, 0, 0, 1)
    found = lab.sql("select code, line, byte_offset, raw from reject").row(0, named=True)
    assert found["code"] == code and found["line"] == 3 and path.read_bytes()[found["byte_offset"]:].startswith(found["raw"]) and b"We" in found["raw"]


def test_naming_the_source_and_naming_it_wrongly(lab, tmp_path):
    path = written(tmp_path, ROWS)
    with pytest.raises(InvalidParameter, match="twcs"): lab.load(path, source="twsc")
    with pytest.raises(UnknownSource, match="slack"): lab.load(path, source="slack")
    assert lab.load(path, source="twcs").stored == 3 and set(READERS) >= {"twcs", "slack", "mastodon"}


# ---- Slack

def slack_messages(path):
    "(channel folder, message) for every message of a zipped workspace, by json alone"
    with zipfile.ZipFile(path) as z: return [(n.split("/")[-2], m) for n in z.namelist() if re.search(r"/\d{4}-\d\d-\d\d\.json$", n) for m in json.loads(z.read(n))]


def micro(ts):
    seconds, fraction = ts.split(".")
    return datetime.fromtimestamp(int(seconds), timezone.utc).replace(tzinfo=None, microsecond=int(fraction))


def test_a_real_workspace(lab, shared):
    path = shared / "slack-export-viewer" / "testarchive.zip"
    receipt, messages = lab.load(path), slack_messages(path)
    assert counts(receipt) == (158, 158, 0, 0, 0, 0) and len(messages) == 158 and receipt.loads[0]["scope"] == "both" and sound(lab)
    ids = {"enrique": "C0JGLMMNX", "traveling-sailor": "C0JL6CGQ2"}
    assert sorted(lab.sql("select post_key, created_at from post").rows()) == sorted((f"slack:{ids[c]}:{m['ts']}", micro(m["ts"])) for c, m in messages)
    assert one(lab, "select count(*) from post p join account a on a.account_key = p.author_key where a.kind = 'bot'") == sum(m.get("subtype") == "bot_message" for _, m in messages) == 94
    assert one(lab, "select count(*) from account where kind = 'person'") == 4 and one(lab, "select count(*) from post where kind = 'service'") == 11
    assert lab.sql("select container_key, container from coverage order by all").rows() == [("slack:C0JGLMMNX", "enrique"), ("slack:C0JL6CGQ2", "traveling-sailor")]


def test_day_files_are_not_utc_days(lab, shared):
    path = shared / "slack-export-viewer" / "testarchive.zip"
    lab.load(path)
    with zipfile.ZipFile(path) as z: named = {(n.split("/")[0], m["ts"]): n[-15:-5] for n in z.namelist() if re.search(r"/\d{4}-", n) for m in json.loads(z.read(n))}
    moved = sum(micro(ts).date().isoformat() != day for (_, ts), day in named.items())
    home = sum(micro(ts).replace(tzinfo=timezone.utc).astimezone(ZoneInfo("America/Los_Angeles")).date().isoformat() == day for (_, ts), day in named.items())
    assert (moved, home) == (94, 158)
    days = Counter(str(d) for d in lab.sql("select created_at::date as d from post")["d"])
    assert days == Counter(micro(ts).date().isoformat() for _, ts in named)


def test_a_real_thread_with_its_traps(lab, shared, tmp_path):
    day = (shared / "transcribed" / "slack" / "2024-03-04.json").read_bytes()
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("users.json", json.dumps([{"id": "U01ANARUIZ0", "name": "ana"}]))
        z.writestr("channels.json", json.dumps([{"id": "C1", "name": "docs"}]))
        z.writestr("docs/2024-03-04.json", day)
    assert counts(lab.load(path))[:2] == (4, 4)
    assert lab.sql("select kind, author_key, reply_to_account, reply_basis from post order by created_at").rows() == [
        ("post", "slack:U01ANARUIZ0", None, None), ("post", "slack:U01BENOKAF0", "slack:U01ANARUIZ0", "thread"), ("service", "slack:U01DANAPARK", None, None), ("post", "slack:B01DEPLOYBOT", None, None)]
    assert lab.sql("select kind, actor_key, target_key from interaction order by kind").rows() == [("mention", "slack:U01ANARUIZ0", "slack:U01BENOKAF0"), ("reaction", "slack:U01CHENLI00", "slack:U01ANARUIZ0")]
    assert set(lab.sql("select handle from account where placeholder")["handle"]) == {"U01BENOKAF0", "U01CHENLI00", "U01DANAPARK"}


def test_the_smallest_workspace(lab):
    with pytest.warns(PartialExport, match="not understood: canvas.html"): receipt = lab.load(EXPORTS / "slack")
    assert counts(receipt) == (13, 12, 0, 0, 1, 0) and sound(lab)
    get = lambda ts, what, place="C01HELP": one(lab, f"select {what} from post where post_key = $key", key=f"slack:{place}:{ts}")
    assert get("1709535599.999999", "strftime(created_at, '%Y-%m-%d %H:%M:%S.%f')") == "2024-03-04 06:59:59.999999" and get("1709535600.000001", "epoch_us(created_at)") == 1709535600000001
    assert get("1709535600.000001", "text") == "<@U02STAFF> <@U01ASK> &lt; is it <b>?"
    assert get("1709539400.000100", "author_key") == "slack:U03APP" and get("1709539500.000100", "author_key") == "slack:B09HOOK"
    assert (get("1709539600.000100", "author_key"), get("1709539600.000100", "text"), get("1709539700.000100", "reply_to_account")) == (None, None, None)
    assert get("1709539800.000100", "kind") == "service"
    assert lab.sql("select container_key, visibility from post where text like 'same ts%' order by all").rows() == [("slack:D01TWO", "direct"), ("slack:G01PRIV", "followers"), ("slack:G02MANY", "direct")]
    assert lab.sql("select actor_key, target_key, value from interaction where kind = 'mention'").rows() == [("slack:U01ASK", "slack:U02STAFF", "entity")]
    assert set(lab.sql("select account_key from role where role = 'bot' and basis = 'export'")["account_key"]) == {"slack:U03APP", "slack:B09HOOK"}
    assert lab.sql("select handle, display_name, placeholder from account where account_key in ('slack:U02STAFF', 'slack:U09GUEST') order by handle").rows() == [("U09GUEST", None, True), ("sam", "Sam Staff", False)]
    assert ("slack:C02QUIET", "quiet") in lab.sql("select container_key, container from coverage").rows()


def workspace(path, users, *said):
    "A Slack export with one channel; each message is (user, seconds after 2024-03-04 10:00, more)"
    day = [{"type": "message", "user": u, "text": f"m{k}", "ts": f"{1709546400 + s}.000{k:03}"} | more for k, (u, s, more) in enumerate(said)]
    with zipfile.ZipFile(path, "w") as z:
        for name, content in (("users.json", users), ("channels.json", [{"id": "C1", "name": "help"}]), ("help/2024-03-04.json", day)): z.writestr(name, json.dumps(content))
    return path


def member(id, **more): return {"id": id, "name": id.lower(), "deleted": False, "is_bot": False} | more
def standing(lab): return lab.sql("select kind, actor_key, occurred_at::varchar, value from interaction where kind in ('leave', 'active') order by all").rows()


GONE, AT = {"deleted": True, "updated": 1709550000}, "2024-03-04 11:00:00"


@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
def test_who_left_a_workspace_left_when_their_profile_says(lab, tmp_path):
    users = [member("U1", **GONE), member("U2", deleted=True), member("U3", **GONE), member("B1", is_bot=True, **GONE), member("USLACKBOT", **GONE), member("U4", updated=1709550000),
             member("U5", deleted=True, updated="1709550000"), member("U6", deleted=True, updated=True), member("U7", deleted=True, updated=12), member("U8", deleted="true", updated=1709550000),
             member("U9", **GONE), member("UA", deleted=True, updated=99999999999), member("UB", **GONE)]
    said = [("U1", 0, {}), ("U2", 0, {}), ("U3", 3601, {}), ("U9", 7200, {"subtype": "channel_leave"}), ("UB", 3600, {}), *((u, 60, {}) for u in ("U5", "U6", "U7", "U8", "UA")),
            ("U4", 70, {"subtype": "channel_leave"}), ("U4", 80, {"subtype": "channel_join"})]
    receipt = lab.load(workspace(tmp_path / "w.zip", users, *said))
    assert standing(lab) == [("leave", f"slack:{u}", AT, None) for u in ("U1", "U9", "UB")] and sound(lab)
    assert "6 who wrote are marked as deleted, but not since when" in receipt.loads[0]["notes"]


@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0)])
def test_who_wrote_later_has_not_left_whichever_export_comes_first(lab, tmp_path, order):
    exports = workspace(tmp_path / "old.zip", [member("U1", **GONE)], ("U1", 0, {})), workspace(tmp_path / "new.zip", [member("U1")], ("U1", 0, {}), ("U1", 9000, {}))
    for k in order: lab.load(exports[k], again=True)
    assert standing(lab) == [] and sound(lab)


@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
def test_who_left_twice_left_when_they_left_for_good(lab, tmp_path):
    stages = [member("U1", **GONE), member("U1", updated=1709560000), member("U1", deleted=True, updated=1709570000), member("U1", deleted=True, updated=1709580000)]
    for k, user in enumerate(stages): lab.load(workspace(tmp_path / f"{k}.zip", [user], ("U1", 0, {}), ("U2", k, {})))
    assert standing(lab) == [("active", "slack:U1", "2024-03-04 13:46:40", None), ("leave", "slack:U1", "2024-03-04 16:33:20", None), ("leave", "slack:U1", "2024-03-04 19:20:00", None)]


def test_a_list_of_members_alone_is_no_export(lab, tmp_path):
    with pytest.raises(InvalidExport, match="no records"): lab.load(workspace(tmp_path / "w.zip", [member("U1", **GONE), member("U2", updated=1709550000)]))


def packed(folder, path, prefix="", names=None):
    "The files of a folder as a zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for file in names or sorted(f for f in folder.rglob("*") if f.is_file()): z.write(file, prefix + file.relative_to(folder).as_posix())
    return path


@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
@pytest.mark.parametrize("name", ["slack", "mastodon"])
def test_zip_folder_prefix_and_tar_are_the_same_export(tmp_path, name):
    folder, deep = EXPORTS / name, tmp_path / "deep" / "My Export 2024"
    shutil.copytree(folder, deep)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar: tar.add(folder, arcname=".")
    ways = [folder, packed(folder, tmp_path / "flat.zip"), packed(folder, tmp_path / "nested.zip", "some/where [1]/"), tmp_path / "deep", tmp_path / "x.tar.gz"]
    seen = []
    for way in ways:
        with Lab() as lab:
            assert lab.load(way).stored > 0, way
            seen.append([lab.sql(f"select * exclude (load_id) from {table} order by all").rows() for table in ("post", "interaction", "post_count")] + [lab.sql("select * from account order by all").rows()])
    for other, way in zip(seen[1:], ways[1:]): assert other == seen[0], way


def test_a_damaged_day_gives_what_stands_before_the_damage(lab, tmp_path):
    folder = tmp_path / "w"
    shutil.copytree(EXPORTS / "slack", folder)
    (folder / "canvas.html").unlink()
    day = folder / "help" / "2024-03-04.json"
    whole = day.read_bytes()
    cut = whole.index(b'"same here"')
    day.write_bytes(whole[:cut])
    (folder / "D01TWO" / "2024-03-05.json").write_bytes(b"\x00\xff not json")
    receipt = lab.load(folder)
    assert counts(receipt) == (2 + 2 + 3, 5, 0, 0, 0, 2) and receipt.loads[0]["status"] == "partial"
    rejects = lab.sql("select member, code, byte_offset, raw from reject order by member desc").rows()
    assert [(m, c) for m, c, _, _ in rejects] == [("help/2024-03-04.json", "cut_off"), ("D01TWO/2024-03-05.json", "cut_off")]
    assert whole[rejects[0][2]:cut] == rejects[0][3] and rejects[1][3] == b"\x00\xff not json"


def test_lists_that_cannot_be_read_refuse_the_workspace(lab, tmp_path):
    folder = tmp_path / "w"
    shutil.copytree(EXPORTS / "slack", folder)
    (folder / "channels.json").write_text('[{"id": "C01')
    with pytest.raises(InvalidExport, match="channels.json"): lab.load(folder)
    assert one(lab, "select count(*) from post") == 0


def test_odd_messages_are_kept_or_rejected_never_lost(lab, tmp_path):
    odd = [1, "two", None, [], {}, {"type": "message", "ts": 1709535600.5, "text": "a number"}, {"type": "message", "ts": "soon"}, {"type": "message", "ts": "99999999999.000000"},
           {"type": "message", "ts": "1709535601.000000", "user": "U1", "reactions": "many", "edited": [], "text": None, "thread_ts": None},
           {"type": "message", "ts": "1709535602", "user": "U1", "text": "<@U1> <@not> &unknown;", "reactions": [{"name": "x", "count": 3}, 5]}]
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as z:
        z.writestr("users.json", "[]")
        z.writestr("dms.json", json.dumps([{"id": "D1"}, {"no": "id"}, 7]))
        z.writestr("D1/2024-03-04.json", json.dumps(odd))
        z.writestr("unlisted/2024-03-04.json", json.dumps([{"type": "message", "ts": "1709535603.000000", "user": "U1", "text": "where?"}]))
    with pytest.warns(PartialExport, match="no list of channels names unlisted"): receipt = lab.load(tmp_path / "w.zip")
    assert counts(receipt) == (11, 3, 0, 0, 0, 8) and sound(lab)
    assert Counter(lab.sql("select code from reject")["code"]) == {"not_a_message": 4, "bad_time": 3, "timestamp_out_of_range": 1}
    assert lab.sql("select kind, n from post_count").rows() == [("reaction", 3)] and lab.sql("select count(*) as n from interaction")["n"][0] == 0


# ---- Mastodon

def archived(path):
    "The items of a packed outbox, by json alone"
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as z: return json.loads(z.read("outbox.json"))
    with tarfile.open(path) as tar: return json.loads(tar.extractfile("outbox.json").read())


@pytest.mark.parametrize(("name", "declared", "held"), [("mastodon-export.zip", 19, 18), ("mastodon-export.tar.gz", 223, 224)])
def test_a_real_archive_holds_not_what_it_declares(lab, shared, name, declared, held):
    path = shared / "mastodon-fossilizer" / "src" / "resources" / "test" / name
    with pytest.warns(PartialExport, match=f"holds {declared} records, {held} were found"): receipt = lab.load(path)
    outbox = archived(path)
    assert (outbox["totalItems"], len(outbox["orderedItems"])) == (declared, held) == (receipt.loads[0]["declared"], receipt.read) and receipt.stored == held
    items = [(i, i["object"]) for i in outbox["orderedItems"]]
    keys = {("mastodon:" + (o["id"] if isinstance(o, dict) else i["id"]), datetime.fromisoformat(i["published"]).replace(tzinfo=None), "post" if isinstance(o, dict) else "share") for i, o in items}
    assert set(lab.sql("select post_key, created_at, kind from post").rows()) == keys
    replies = {"mastodon:" + o["id"]: "mastodon:" + o["inReplyTo"] for _, o in items if isinstance(o, dict) and o["inReplyTo"]}
    assert dict(lab.sql("select post_key, reply_to_key from post where reply_to_key is not null").rows()) == replies
    assert one(lab, "select count(*) from post where kind = 'post' and (text is null or regexp_matches(text, '<(p|br|span|a)\\b'))") == 0
    assert receipt.loads[0]["scope"] == "own" and sound(lab) and all("one side only" in says for says in lab.check().filter(pl.col("part") == "answers")["says"])


def test_threads_a_server_named_and_threads_it_did_not(lab, shared):
    path = shared / "mastodon-fossilizer" / "src" / "resources" / "test" / "mastodon-export.tar.gz"
    with pytest.warns(PartialExport): lab.load(path)
    notes = {o["id"]: o for i in archived(path)["orderedItems"] if isinstance(o := i["object"], dict)}
    def thread(uri):
        note = notes.get(uri)
        if note is None: return uri
        return note.get("conversation") or (thread(note["inReplyTo"]) if note["inReplyTo"] else uri)
    assert dict(lab.sql("select post_key, conversation_key from post where kind = 'post'").rows()) == {"mastodon:" + n: "mastodon:" + thread(n) for n in notes}


def test_whom_a_reply_answers(lab, shared):
    path = shared / "mastodon-fossilizer" / "src" / "resources" / "test" / "mastodon-export.tar.gz"
    with pytest.warns(PartialExport): lab.load(path)
    told = {}
    for o in (i["object"] for i in archived(path)["orderedItems"] if isinstance(i["object"], dict) and i["object"]["inReplyTo"]):
        parts = o["inReplyTo"].split("/")
        told["mastodon:" + o["id"]] = "mastodon:" + "/".join(parts[:5]) if parts[3] == "users" else None
    assert dict(lab.sql("select post_key, reply_to_account from post where reply_to_key is not null").rows()) == told and None in told.values()


def test_the_smallest_archive(lab):
    receipt = lab.load(EXPORTS / "mastodon")
    assert counts(receipt) == (3, 3, 0, 0, 0, 0) and receipt.loads[0]["declared"] == 3
    kim, lee = "mastodon:https://b.example/users/kim", "mastodon:https://c.example/u/lee"
    assert lab.sql("select text, reply_to_account, quote_of_key, edited_at is null from post order by created_at").rows() == [
        ("one\ntwo", None, kim + "/statuses/4", False), ("to the old form", kim, None, True), ("@lee @kim", lee, None, True)]
    assert lab.sql("select kind, target_key from interaction order by all").rows() == [("like", kim), ("mention", kim), ("mention", lee)]
    assert lab.sql("select handle, placeholder from account order by handle").rows() == [("acme@a.example", False), ("kim@b.example", True), ("lee@c.example", True)]


def changed_archive(folder, target, actor=None, outbox=None, likes=None):
    "A copy of the smallest archive with files replaced"
    shutil.copytree(folder, target)
    for name, value in (("actor.json", actor), ("outbox.json", outbox), ("likes.json", likes)):
        if value is not None: (target / name).write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return target


def test_the_private_key_goes_nowhere(tmp_path):
    secret = "-----BEGIN RSA PRIVATE KEY-----\nMIIEsecretsecretsecret\n-----END RSA PRIVATE KEY-----"
    actor = json.loads((EXPORTS / "mastodon" / "actor.json").read_text()) | {"privateKey": secret, "publicKey": {"privateKeyPem": secret}, "summary": secret}
    folder = changed_archive(EXPORTS / "mastodon", tmp_path / "a", actor=actor)
    with Lab(tmp_path / "s.duckdb") as lab:
        lab.load(packed(folder, tmp_path / "a.zip"))
        tables = lab.sql("select table_name from duckdb_tables() where schema_name = 'main'")["table_name"]
        for table in tables: assert "secretsecret" not in repr(lab.sql(f"select * from {table}").rows()), table
    raw = (tmp_path / "s.duckdb").read_bytes()
    assert b"PRIVATE KEY" not in raw and b"secretsecret" not in raw


def test_a_cut_archive_gives_what_it_holds(lab, tmp_path):
    whole = (EXPORTS / "mastodon" / "outbox.json").read_bytes()
    with pytest.warns(PartialExport) as said: receipt = lab.load(changed_archive(EXPORTS / "mastodon", tmp_path / "a", outbox=whole[:whole.index(b"@lee @kim")], likes=b'{"orderedItems": ["https://b.example/users/kim/statuses/4", "https'))
    assert counts(receipt) == (3, 2, 0, 0, 0, 1) and any("likes.json: 1 of 2 items" in str(w.message) for w in said)


@pytest.mark.parametrize(("file", "content"), [("actor", b"{}"), ("actor", b"not json"), ("actor", b"[]"), ("outbox", b'{"type": "OrderedCollection"}'), ("outbox", b'{"type": "OrderedCollection", "totalItems": 0, "orderedItems": []}')])
def test_archives_that_hold_nothing_are_refused(lab, tmp_path, file, content):
    with pytest.raises(InvalidExport, match="nothing was stored|does not name"): lab.load(changed_archive(EXPORTS / "mastodon", tmp_path / "a", **{file: content}))
    assert one(lab, "select count(*) from load") == 0


def test_odd_activities_are_kept_or_rejected_never_lost(lab, tmp_path):
    good = json.loads((EXPORTS / "mastodon" / "outbox.json").read_text())["orderedItems"]
    me = "https://a.example/users/acme"
    odd = [1, None, {}, {"type": "Create"}, {"type": "Create", "id": "x", "object": {"content": "no id"}}, good[0] | {"published": "soon", "object": {"id": "a"}}, good[0] | {"published": "1625-01-05T09:31:00Z"},
           {"type": "Create", "id": me + "#1", "object": "https://a.example/users/acme/statuses/77"}, {"type": "Move", "id": me + "#2", "published": "2025-01-05T10:00:00+02:00", "object": []},
           good[1] | {"to": "as:Public", "cc": "https://b.example/users/kim"}, good[2] | {"to": [me + "/followers"], "object": good[2]["object"] | {"tag": {"type": "Mention"}, "content": 7}}]
    receipt = lab.load(changed_archive(EXPORTS / "mastodon", tmp_path / "a", outbox={"type": "OrderedCollection", "totalItems": len(odd), "orderedItems": odd}))
    assert counts(receipt) == (11, 4, 0, 0, 0, 7) and sound(lab)
    assert lab.sql("select kind, visibility, created_basis from post order by record").rows() == [("service", "direct", None), ("service", "direct", "offset"), ("post", "public", "utc"), ("post", "followers", "utc")]
    assert one(lab, "select created_at::varchar from post where post_key like '%#2'") == "2025-01-05 08:00:00"


def test_two_archives_meet(lab, tmp_path):
    kim = "https://b.example/users/kim"
    asked = {"id": kim + "/statuses/4/activity", "type": "Create", "published": "2025-01-05T09:00:00Z", "to": ["as:Public"], "object": {"id": kim + "/updates/20", "content": "hello?", "conversation": "tag:1"}}
    lab.load(EXPORTS / "mastodon")
    lab.load(changed_archive(EXPORTS / "mastodon", tmp_path / "b", actor={"id": kim, "preferredUsername": "kim", "name": "Kim", "type": "Person"}, outbox={"type": "OrderedCollection", "totalItems": 1, "orderedItems": [asked]}))
    assert lab.sql("select display_name, placeholder from account where handle = 'kim@b.example'").rows() == [("Kim", False)]
    assert one(lab, "select conversation_key from post where text = 'to the old form'") == "mastodon:tag:1"
    assert sound(lab)


# ---- the town

def test_the_town(lab, town):
    receipt = lab.load(town)
    assert sorted((row["source"], row["stored"]) for row in receipt.loads) == [("mastodon", 80), ("slack", 580), ("twcs", 2028)] and receipt.rejected == 0 and sound(lab)
    with zipfile.ZipFile(town / "slack.zip") as z: ids = {c["name"]: c["id"] for c in json.loads(z.read("channels.json"))}
    messages = slack_messages(town / "slack.zip")
    assert sorted(lab.sql("select post_key from post where platform = 'slack'")["post_key"]) == sorted(f"slack:{ids[c]}:{m['ts']}" for c, m in messages)
    same = {r["tweet_id"]: r for r in tweets(town / "twcs.csv")}
    assert len(same) == 2028 and one(lab, "select count(*) from post where platform = 'twcs'") == 2028
    assert lab.load(town).stored == 0


def test_the_town_answers_as_simulated(lab, town):
    lab.load(town)
    lab.roles(town / "roles.csv")
    found = dict(lab.sql("select p.platform || ':' || i.brand as at_, count(distinct i.conversation_key) as n from inbound i join post p using (post_key) join answer a using (post_key, brand) group by at_").rows())
    truth = dict(re.findall(r"\| `(\w+)` \| ([\d.]+) \|", (town.parent / "README.md").read_text()))
    for brand in ("BirchAir", "CedarBank", "AlderTel"): assert found[f"twcs:{brand}"] >= int(truth[f"answered_{brand}"]), brand
    by_hand, staff = 0, {m["user"] for _, m in slack_messages(town / "slack.zip") if m.get("user", "").startswith("U0TOWN9")}
    threads = {}
    for c, m in slack_messages(town / "slack.zip"):
        if m.get("thread_ts"): threads.setdefault((c, m["thread_ts"]), []).append((m["ts"] == m["thread_ts"], m["user"]))
    for talk in threads.values(): by_hand += any(first and user not in staff for first, user in talk) and any(user in staff for _, user in talk)
    assert found["slack:AlderTel"] == by_hand
