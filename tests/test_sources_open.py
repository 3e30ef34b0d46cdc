"""Bluesky, Reddit and Stack Exchange: real exports counted a second time in plain Python, and small shapes with every trap of the format."""
import json
import re
import shutil
import statistics
import tarfile
import warnings
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from datetime import datetime, timedelta, timezone
from html import unescape
from pathlib import Path

import polars as pl
import pytest
import zstandard

import trustlab as tl
import trustlab.sources.bluesky
import trustlab.sources.reddit
import trustlab.sources.stackexchange  # noqa: F401
from trustlab.bundles import bundles
from trustlab.core import InvalidExport, PartialExport, TrustlabError
from trustlab.load import COUNTS, READERS
from trustlab.store import Lab

EXPORTS = Path(__file__).parent / "exports"
OPEN = ("bluesky", "reddit", "stackexchange")
MARK = "stackexchange:20230203040506789"

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::trustlab.core.TrustlabWarning")


@pytest.fixture
def lab():
    with Lab() as store: yield store


def counts(receipt): return tuple(getattr(receipt, c) for c in COUNTS)
def one(lab, query, **params): return lab.sql(query, **params).row(0)[0]
def sound(lab): return lab.check().filter((pl.col("part") == "sound") & (pl.col("n") > 0)).is_empty()
def conserved(receipt): return receipt.read == sum(getattr(receipt, c) for c in COUNTS if c != "read")
def acts(lab, kind): return lab.sql("select actor_key, target_key, value, occurred_at::varchar from interaction where kind = $kind order by all", kind=kind).rows()


def told(lab, path, **more):
    "A receipt, and what the load warned of"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", PartialExport)
        receipt = lab.load(path, **more)
    return receipt, " | ".join(str(w.message) for w in said if issubclass(w.category, PartialExport))


def everything(lab):
    "All that a store knows, less where it came from"
    return [lab.sql(f"select {columns} from {table} order by all").rows() for table, columns in (
        ("post", "* exclude (load_id, record)"), ("account", "*"), ("interaction", "* exclude (load_id)"), ("post_count", "* exclude (load_id)"), ("role", "*"), ("coverage", "* exclude (load_id)"))]


def put(folder, name, lines):
    path = folder / name
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n", encoding="utf-8")
    return path


# ---- the same export, however it is packed

@pytest.mark.parametrize("name", OPEN)
def test_folder_archive_and_deeper_prefix_are_one_export(name, tmp_path):
    shutil.make_archive(str(tmp_path / "flat"), "zip", EXPORTS / name)
    with tarfile.open(tmp_path / "deep.tar.gz", "w:gz") as archive: archive.add(EXPORTS / name, "some/where")
    found = []
    for path in (EXPORTS / name, tmp_path / "flat.zip", tmp_path / "deep.tar.gz"):
        with Lab() as lab:
            receipt = lab.load(path, source=name)
            assert receipt.stored and conserved(receipt) and sound(lab)
            before = everything(lab)
            again = lab.load(path, source=name)
            assert again.stored == again.changed == 0 and everything(lab) == before
            found.append(before)
    assert all(f == found[0] for f in found[1:])


def test_each_recognises_its_own_and_nothing_else(request):
    folders = [f for f in EXPORTS.iterdir() if f.is_dir()]
    shared = EXPORTS.parent.parent.parent / "shared" / "data"
    if shared.is_dir(): folders += [f for f in shared.iterdir() if f.is_dir()]
    own = {"bluesky": {"bluesky", "bluesky-indigo"}, "reddit": {"reddit", "reddit-thread"}, "stackexchange": {"stackexchange", "stackexchange-history-meta"}}
    assert {"bluesky", "reddit", "stackexchange", "slack", "mastodon"} <= {f.name for f in folders}
    for folder in folders:
        for bundle in bundles(folder):
            for name in OPEN: assert bool(READERS[name].find(bundle)) == (folder.name in own[name]), (name, folder.name)


@pytest.mark.parametrize("name", OPEN)
def test_the_sheet_is_short_and_whole(name):
    sheet = READERS[name].sheet
    assert all(0 < len(getattr(sheet, part)) <= 300 for part in ("understood", "ignored", "answers", "tested_on", "limits"))


# ---- Bluesky: a real capture

LETTERS = "234567abcdefghijklmnopqrstuvwxyz"


def key_time(uri):
    "The time in a record key, by plain arithmetic"
    n = 0
    for letter in uri.rsplit("/", 1)[-1]: n = n * 32 + LETTERS.index(letter)
    return datetime(1970, 1, 1) + timedelta(microseconds=n >> 10)


def moment(text): return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc).replace(tzinfo=None)


def test_captured_posts_are_the_accounts_own_side(lab, shared):
    path = shared / "bluesky-indigo" / "capture_atprotocom.json"
    posts = [(p["uri"], p["value"]) for p in json.loads(path.read_text())["postRecords"]]
    receipt, said = told(lab, path)
    assert counts(receipt) == (20, 20, 0, 0, 0, 0) and len(posts) == 20 and said == "" and sound(lab)
    assert lab.sql("select post_key, created_at, text, reply_to_key from post order by all").rows() == sorted(
        ("bluesky:" + uri, moment(v["createdAt"]), v["text"], "bluesky:" + v["reply"]["parent"]["uri"] if "reply" in v else None) for uri, v in posts)
    load = receipt.loads[0]
    assert (load["scope"], load["owner_key"], str(load["exported_at"])) == ("own", "bluesky:did:plc:ewvi7nxzyoun6zhxrhs64oiz", "2023-12-09 05:45:35.662000")
    assert one(lab, "select handle from account where not placeholder") == "atproto.com"
    with pytest.raises(TrustlabError): tl.acknowledgement(lab)


def test_the_parents_of_captured_replies_carry_their_time(lab, shared):
    path = shared / "bluesky-indigo" / "capture_atprotocom.json"
    posts = {p["uri"]: p["value"] for p in json.loads(path.read_text())["postRecords"]}
    lab.load(path)
    away = {(u, v["reply"]["parent"]["uri"]) for u, v in posts.items() if "reply" in v and v["reply"]["parent"]["uri"] not in posts}
    assert len(away) == 3 and lab.sql("select post_key, value, occurred_at, actor_key from interaction where kind = 'parent_time' order by all").rows() == sorted(
        ("bluesky:" + u, "bluesky:" + parent, key_time(parent), "bluesky:" + parent.split("/")[2]) for u, parent in away)
    waits = lab.sql("select epoch(p.created_at) - epoch(i.occurred_at) as s from interaction i join post p using (post_key) where i.kind = 'parent_time'")["s"]
    assert all(0 < s < 86400 for s in waits)


def test_quotes_mentions_and_languages_of_the_capture(lab, shared):
    path = shared / "bluesky-indigo" / "capture_atprotocom.json"
    posts = {p["uri"]: p["value"] for p in json.loads(path.read_text())["postRecords"]}
    values = posts.values()
    lab.load(path)
    quoted = [v["embed"]["record"]["uri"] for v in values if v.get("embed", {}).get("$type") == "app.bsky.embed.record"]
    named = {("bluesky:" + uri, "bluesky:" + f["did"]) for uri, v in posts.items() for facet in v.get("facets", []) for f in facet["features"] if f["$type"].endswith("#mention")}
    assert sorted(lab.sql("select quote_of_key as q from post where quote_of_key is not null")["q"]) == sorted("bluesky:" + q for q in quoted if "/app.bsky.feed.post/" in q)
    assert lab.sql("select post_key, target_key from interaction where kind = 'mention' order by all").rows() == sorted(named) and len(named) == 4 and set(lab.sql("select lang from post")["lang"]) == {"en"}


def test_a_repository_is_refused_with_the_way_out(lab, shared):
    for name in ("fakermaker.repo.car", "greenground.repo.car", "paul_staging.repo.car", "repo_slice.car"):
        with pytest.raises(InvalidExport, match="listRecords"): lab.load(shared / "bluesky-indigo" / name)
    receipt, said = told(lab, shared / "bluesky-indigo")
    assert receipt.stored == 20 and "repositories (CAR) are not read" in said


# ---- Bluesky: shapes

def seconds_of(lab): return [s for s, in lab.sql("select a.seconds from inbound i left join answer a using (post_key) where i.eligible order by i.arrived_at").rows()]


def test_stream_in_both_versions(lab):
    receipt, said = told(lab, EXPORTS / "bluesky" / "stream")
    assert counts(receipt) == (11, 10, 0, 0, 1, 0) and sound(lab)
    assert str(receipt.loads[0]["exported_at"]) == "2024-05-01 09:30:00" and receipt.loads[0]["scope"] == "both"
    posts = lab.sql("select author_key, text, created_at::varchar, edited_at::varchar, kind from post order by created_at").rows()
    did = "bluesky:did:plc:"
    assert posts == [(did + "quin", "an import", "2012-03-04 05:06:07", None, "post"), (did + "nora", "@shop my order is late", "2024-05-01 08:00:00", None, "post"),
        (did + "shop", "We look into it", "2024-05-01 08:10:00", None, "post"), (did + "olaf", "@shop me too", "2024-05-01 08:30:00", None, "post"), (did + "pia", "look at this", "2024-05-01 08:40:00", None, "post"),
        (did + "pia", "and this", "2024-05-01 08:41:00", None, "post"), (did + "pia", None, "2024-05-01 08:42:00", None, "share"), (did + "shop", "Fixed now, sorry", "2024-05-01 09:00:00", "2024-05-01 09:05:00", "post"),
        (did + "nora", "thanks, solved", "2024-05-01 09:20:00", None, "post"), (did + "quin", "a reply to what is not here", "2024-05-01 09:22:00", None, "post")]
    assert all(part in said for part in ("1 posts and shares were deleted later", "1 likes and follows were taken back", "1 posts carry a time", "1 events were not mapped: app.bsky.feed.threadgate"))
    assert acts(lab, "leave") == [(did + "gone", None, "deleted", "2024-05-01 08:45:00")] and acts(lab, "active") == []


def state(who, second, v2=False, **account):
    event = {"did": f"did:plc:{who}", "account": {"did": f"did:plc:{who}", "seq": second} | account}
    if not v2: return event | {"time_us": 1714557600000000 + second * 1_000_000, "kind": "account"}
    return {"$type": "message", "payload": event | {"$type": "network.bsky.jetstream.subscribeEvents#account", "seq": second, "time": f"2024-05-01T10:00:{second:02}.000000Z"}}


def wrote(who, second):
    record = {"$type": "app.bsky.feed.post", "text": "hi", "createdAt": f"2024-05-01T10:00:{second:02}.000Z"}
    return {"did": f"did:plc:{who}", "time_us": 1714557600000000 + second * 1_000_000, "kind": "commit",
            "commit": {"operation": "create", "collection": "app.bsky.feed.post", "rkey": f"3krgaaf5u22{second:02}".replace("0", "a").replace("1", "b"), "record": record}}


def stream(path, *events):
    path.write_text("\n".join(map(json.dumps, events)))
    return path


def test_the_last_state_of_an_account_counts(lab, tmp_path):
    no = {"active": False}
    events = [wrote("ann", 0), wrote("eve", 50), state("ann", 1, **no, status="deactivated"), state("ann", 2, active=True), state("bob", 1, active=True), state("bob", 3, v2=True, **no, status="deleted"),
              state("cat", 4, **no, status="takendown"), state("cat", 5, **no, status="deleted"), state("dan", 6, **no, status="throttled"), state("dan", 7, **no), state("eve", 8, **no, status="suspended"),
              state("fay", 9, **no, status="suspended"), state("gus", 12, active="false", status="deleted"), state("hal", 13, active=None, status="deleted")]
    _, said = told(lab, stream(tmp_path / "s.ndjson", *events))
    did = "bluesky:did:plc:"
    assert acts(lab, "leave") == [(did + who, None, why, f"2024-05-01 10:00:{s:02}") for who, why, s in (("bob", "deleted", 3), ("cat", "deleted", 5), ("cat", "takendown", 4), ("fay", "suspended", 9), ("gus", "deleted", 12))]
    assert acts(lab, "active") == [(did + who, None, None, f"2024-05-01 10:00:{s:02}") for who, s in (("ann", 2), ("bob", 1))] and sound(lab)
    assert "3 events were not mapped: account" in said


@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
def test_a_return_in_a_later_file_undoes_a_leaving(lab, tmp_path):
    first = stream(tmp_path / "1.ndjson", wrote("ann", 0), state("ann", 1, active=False, status="deactivated"), state("bob", 1, active=False, status="deleted"))
    second = stream(tmp_path / "2.ndjson", wrote("cat", 20), state("ann", 30, active=True))
    for path in (first, second, first): lab.load(path, again=True)
    assert [who[-3:] for who, *_ in acts(lab, "leave")] == ["bob"] and [who[-3:] for who, *_ in acts(lab, "active")] == ["ann"]


def test_stream_acts_and_missing_parents(lab):
    lab.load(EXPORTS / "bluesky" / "stream")
    did = "bluesky:did:plc:"
    assert acts(lab, "like") == [(did + "nora", did + "shop", None, "2024-05-01 08:11:00")] and acts(lab, "share") == [(did + "pia", did + "shop", None, "2024-05-01 08:42:00")]
    assert acts(lab, "follow") == [(did + "pia", did + "shop", None, "2024-05-01 08:43:00")] and acts(lab, "delete") == [(did + "olaf", None, None, "2024-05-01 09:10:00")]
    assert acts(lab, "mention") == [(did + w, did + "shop", "entity", f"2024-05-01 08:{m}:00") for w, m in (("nora", "00"), ("olaf", "30"))] and acts(lab, "parent_time") == []
    assert one(lab, "select text from post where post_key = (select post_key from interaction where kind = 'delete')") == "@shop me too"
    assert lab.sql("select q.text from post p join post q on q.post_key = p.quote_of_key order by q.created_at")["text"].to_list() == ["@shop my order is late", "@shop me too"]
    assert lab.sql("select reply_to_account, reply_to_key = conversation_key as top from post where text like 'a reply%'").rows() == [(did + "rosa", True)]
    assert dict(lab.sql("select account_key, handle from account where not placeholder").rows()) == {did + "shop": "shop.example", did + "nora": "nora.example"}


def test_stream_acknowledgement_by_hand(lab):
    lab.load(EXPORTS / "bluesky" / "stream", brand="shop.example")
    assert seconds_of(lab) == [600.0, None, None]
    row = tl.acknowledgement(lab, within=("15m",)).frame.row(0, named=True)
    assert (row["n"], row["acknowledged"], row["pending"]) == (2, 1, 0)


def test_threads_of_a_folder_and_what_is_hidden_in_them(lab):
    receipt, said = told(lab, EXPORTS / "bluesky" / "threads", brand="shop.example")
    assert counts(receipt) == (4, 4, 0, 0, 0, 0) and "3 posts of the thread are hidden" in said and sound(lab)
    did = "bluesky:did:plc:"
    assert lab.sql("select author_key, text, reply_to_account from post order by created_at").rows() == [
        (did + "nora", "@shop my order is late", None), (did + "shop", "We look into it", did + "nora"), (did + "pia", '{"post": {brackets} \\ in text}', did + "shop"), (did + "olaf", "@shop me too", None)]
    assert sorted(value for _, _, value, _ in acts(lab, "hidden")) == ["blocked", "not_found", "not_found"]
    assert dict(lab.sql("select kind, sum(n)::int from post_count group by kind").rows()) == {"reply": 4, "share": 1, "like": 3, "quote": 1}
    assert lab.sql("select container_key from coverage order by all")["container_key"].to_list() == sorted(set(lab.sql("select conversation_key as c from post")["c"])) and one(lab, "select count(*) from coverage") == 2
    assert dict(lab.sql("select account_key, handle from account").rows())[did + "pia"] == "did:plc:pia" and seconds_of(lab) == [600.0, None, None]


def test_lists_of_one_account_are_one_export_of_its_own_side(lab):
    receipt = lab.load(EXPORTS / "bluesky" / "records")
    assert len(receipt.loads) == 1 and counts(receipt) == (3, 3, 0, 0, 0, 0) and receipt.loads[0]["scope"] == "own"
    assert acts(lab, "like") == [("bluesky:did:plc:shop", "bluesky:did:plc:nora", None, "2024-05-01 08:12:00")]
    assert acts(lab, "parent_time") == [("bluesky:did:plc:nora", None, one(lab, "select reply_to_key from post where text = 'We look into it'"), "2024-05-01 08:00:00")]
    assert lab.sql("select reply_to_key, reply_to_account from post where text = 'to a handle'").rows() == [("bluesky:at://rosa.example/app.bsky.feed.post/self", None)]


def test_a_handle_once_known_is_not_forgotten(lab):
    for part in ("stream", "records", "threads"): lab.load(EXPORTS / "bluesky" / part)
    assert one(lab, "select handle from account where account_key = 'bluesky:did:plc:shop'") == "shop.example" and one(lab, "select count(*) from post") == 13


def bluesky_lines(): return (EXPORTS / "bluesky" / "stream" / "2024-05-01-08.ndjson").read_text().splitlines()


def commit(**parts): return {"did": "did:plc:x", "time_us": 1714557600000000, "kind": "commit", "commit": {"operation": "create", "collection": "app.bsky.feed.post", "rkey": "a", "record": {"createdAt": "2024-01-01T00:00:00Z"}} | parts}


BROKEN_EVENTS = [("{not json", "bad_json"), ("[1]", "not_an_object"), ({"time_us": 1, "kind": "commit"}, "missing_did"), ({"did": "did:plc:x", "time_us": 1}, "missing_kind"), (commit(record=None), "missing_record"),
    (commit(rkey=None), "missing_rkey"), (commit(collection=None), "missing_collection"), (commit(operation=None), "missing_operation"), (commit(record={"text": "x"}), "missing_createdAt"),
    (commit(record={"createdAt": "soon"}), "bad_time"), (commit(record={"createdAt": "1971-01-01T00:00:00Z"}), "timestamp_out_of_range"), (commit(collection="app.bsky.feed.like"), "missing_subject"),
    ('{"did": "did:plc:x", "did": "did:plc:y", "time_us": 1, "kind": "commit"}', "duplicate_key")]


def between(good, broken):
    "The good lines, with broken ones between the first and the second"
    return [good[0], *broken, *good[1:]]


def test_bad_events_between_good_ones(lab, tmp_path):
    receipt = lab.load(put(tmp_path, "s.ndjson", between(bluesky_lines(), [event for event, _ in BROKEN_EVENTS])))
    assert counts(receipt) == (19, 6, 0, 0, 0, 13) and sound(lab)
    assert lab.sql("select code, line from reject order by line").rows() == [(code, n) for n, (_, code) in enumerate(BROKEN_EVENTS, 2)]


def test_stream_with_a_mark_other_bytes_and_a_cut(lab, tmp_path):
    path = put(tmp_path, "s.ndjson", ["\ufeff" + bluesky_lines()[0], *bluesky_lines()[1:]])
    path.write_bytes(path.read_bytes().replace(b"look at this", b"caf\xe9")[:-40])
    receipt = lab.load(path)
    assert receipt.stored == 5 and conserved(receipt) and lab.sql("select code from reject order by record")["code"].to_list() == ["bad_utf8", "bad_json"]


def test_a_thread_that_breaks_off_keeps_the_posts_before(lab, tmp_path):
    raw = (EXPORTS / "bluesky" / "threads" / "a.json").read_bytes()
    for cut, stored in ((864, 1), (1730, 2), (2683, 3), (3100, 3)):
        (tmp_path / "t.json").write_bytes(raw[:cut])
        with Lab() as each:
            receipt = each.load(tmp_path / "t.json")
            assert counts(receipt) == (stored + 1, stored, 0, 0, 0, 1) and each.sql("select code from reject")["code"].to_list() == ["cut_off"]


def test_a_very_deep_thread(lab, tmp_path):
    nest, uri = "", "at://did:plc:u{}/app.bsky.feed.post/{}".format
    for n in reversed(range(3000)):
        reply = {"reply": {"parent": {"uri": uri(n - 1, n - 1)}, "root": {"uri": uri(0, 0)}}} if n else {}
        post = {"uri": uri(n, n), "author": {"did": f"did:plc:u{n}", "handle": f"u{n}.example"}, "record": {"text": str(n), "createdAt": "2024-05-01T10:00:00Z"} | reply}
        nest = f'{{"post": {json.dumps(post)}, "replies": [{nest}]}}'
    (tmp_path / "deep.json").write_text(f'{{"thread": {nest}}}')
    assert counts(lab.load(tmp_path / "deep.json")) == (3000, 3000, 0, 0, 0, 0) and one(lab, "select count(distinct conversation_key) from post") == 1


def test_bluesky_files_without_posts(lab, tmp_path):
    with pytest.raises(InvalidExport, match="no post or share in it, only app.bsky.feed.like"): lab.load(EXPORTS / "bluesky" / "records" / "likes.json")
    (tmp_path / "none.json").write_text('{"records": []}')
    with pytest.raises(TrustlabError): lab.load(tmp_path / "none.json", source="bluesky")
    drift = [line.replace('"createdAt"', '"created_at"') for line in bluesky_lines()]
    with pytest.raises(InvalidExport, match="format may have changed"): lab.load(put(tmp_path, "drift.ndjson", drift))


# ---- Reddit: a real thread

def test_real_thread_is_read_to_its_last_comment(lab, shared):
    path = shared / "reddit-thread" / "comments.ndjson"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    receipt = lab.load(path)
    assert counts(receipt) == (1431, 1428, 0, 0, 3, 0) and len(rows) == 1431 and sound(lab)
    by_id = {r["id"]: r for r in rows}
    author = lambda r: None if r["author"] == "[deleted]" else "reddit:" + r["author"].lower()
    text = lambda r: None if r["body"] in ("[removed]", "[deleted]") else r["body"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert sorted(lab.sql("select post_key, author_key, text, created_at, reply_to_key, conversation_key from post").rows(), key=repr) == sorted(
        [(f"reddit:t1_{i}", author(r), text(r), datetime.fromtimestamp(r["created_utc"], timezone.utc).replace(tzinfo=None), "reddit:" + r["parent_id"], "reddit:" + r["link_id"]) for i, r in by_id.items()], key=repr)
    answered = sum(r["parent_id"].startswith("t1_") and author(by_id[r["parent_id"][3:]]) is not None for r in by_id.values())
    assert one(lab, "select count(reply_to_account) from post") == answered


def test_deleted_people_of_the_real_thread_are_nobody(lab, shared):
    path = shared / "reddit-thread" / "comments.ndjson"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    _, said = told(lab, path)
    gone = {r["id"] for r in rows if r["author"] == "[deleted]"}
    assert sum(r["author"] == "[deleted]" for r in rows) == 173 and len(gone) == 172 == one(lab, "select count(*) from post where author_key is null") and "172 records have no author" in said
    assert one(lab, "select count(*) from account") == len({r["author"].lower() for r in rows} - {"[deleted]"}) and one(lab, "select count(*) from account where handle like '[%'") == 0


def test_reciprocity_of_the_real_thread(lab, shared):
    path = shared / "reddit-thread" / "comments.ndjson"
    by_id = {r["id"]: r for r in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    lab.load(path)
    pairs = {(r["author"], by_id[r["parent_id"][3:]]["author"]) for r in by_id.values() if r["parent_id"].startswith("t1_")}
    pairs = {(a, b) for a, b in pairs if a != b and "[deleted]" not in (a, b)}
    row = tl.reciprocity(lab, kinds=("reply",)).frame.row(0, named=True)
    assert row["edges"] == len(pairs) and row["edge_reciprocity"] == pytest.approx(sum((b, a) in pairs for a, b in pairs) / len(pairs))


# ---- Reddit: shapes

def test_reddit_traps(lab):
    receipt, said = told(lab, EXPORTS / "reddit", brand="ShopHelp")
    assert counts(receipt) == (11, 10, 0, 0, 1, 0) and len(receipt.loads) == 1 and sound(lab)
    assert lab.sql("select post_key, author_key, kind, text, reply_to_key, reply_to_account, edited_at::varchar from post order by created_at, post_key").rows() == [
        ("reddit:t3_1a", "reddit:nora", "post", "Where is my order?\nI waited > 2 weeks & more", None, None, None),
        ("reddit:t1_k7", "reddit:automoderator", "post", "Be kind. Not a name: abc/u/nobody", "reddit:t3_1a", "reddit:nora", None), ("reddit:t3_1b", "reddit:olaf", "share", "Seen elsewhere", None, None, None),
        ("reddit:t3_1c", None, "post", "Gone", None, None, None), ("reddit:t1_k1", "reddit:shophelp", "post", "Hello u/Nora, we look", "reddit:t3_1a", "reddit:nora", "2024-05-01 08:20:00"),
        ("reddit:t1_k2", "reddit:nora", "post", "thanks", "reddit:t1_k1", "reddit:shophelp", None), ("reddit:t1_k3", None, "post", None, "reddit:t1_k1", "reddit:shophelp", None),
        ("reddit:t1_k4", None, "post", "me too", "reddit:t1_k1", "reddit:shophelp", None), ("reddit:t1_k5", "reddit:pia", "post", None, "reddit:t1_k1", "reddit:shophelp", None),
        ("reddit:t1_k6", "reddit:pia", "post", "to a comment that is not here", "reddit:t1_zz9", None, None)]
    assert acts(lab, "mention") == [("reddit:shophelp", "reddit:nora", "text", "2024-05-01 08:10:00")] and acts(lab, "share") == [("reddit:olaf", "reddit:nora", None, "2024-05-01 08:01:40")]
    assert acts(lab, "distinguished") == [("reddit:shophelp", None, "moderator", "2024-05-01 08:10:00")] and acts(lab, "delete") == [(None, None, "deleted", None)]
    assert lab.sql("select n, observed_at::varchar from post_count where post_key in ('reddit:t1_k1', 'reddit:t3_1a') order by n").rows() == [(1, "2024-05-02 09:00:00"), (6, "2024-05-02 09:00:00"), (9, None)]
    assert lab.sql("select account_key, role, basis from role where role = 'bot'").rows() == [("reddit:automoderator", "bot", "inferred")] and "mark of a moderator" in said


def test_reddit_acknowledgement_by_hand(lab):
    lab.load(EXPORTS / "reddit", brand="ShopHelp")
    assert lab.sql("select i.post_key, i.why_not, a.seconds from inbound i left join answer a using (post_key) order by i.arrived_at").rows() == [
        ("reddit:t3_1a", None, 600.0), ("reddit:t1_k2", None, None), ("reddit:t1_k3", "author_unknown", None), ("reddit:t1_k4", "author_unknown", None), ("reddit:t1_k5", None, None)]
    row = tl.acknowledgement(lab, within=("15m",)).frame.row(0, named=True)
    assert (row["n"], row["acknowledged"]) == (2, 1)


def test_comments_and_submissions_in_any_order_make_one_store():
    found = []
    for names in (("RS_2024-05.ndjson", "RC_2024-05.ndjson"), ("RC_2024-05.ndjson", "RS_2024-05.ndjson")):
        with Lab() as lab:
            for name in names: lab.load(EXPORTS / "reddit" / name)
            found.append(lab.sql("select post_key, author_key, reply_to_account, conversation_key from post order by post_key").rows())
    assert found[0] == found[1]


def test_a_packed_month_is_read_from_its_zst(lab, tmp_path):
    raw = (EXPORTS / "reddit" / "RC_2024-05.ndjson").read_bytes()
    packer = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters.from_level(3, window_log=27))
    (tmp_path / "RC_2024-05.zst").write_bytes(packer.compress(raw))
    assert counts(lab.load(tmp_path / "RC_2024-05.zst")) == (8, 7, 0, 0, 1, 0)


def reddit_lines(): return (EXPORTS / "reddit" / "RC_2024-05.ndjson").read_text().splitlines()


BROKEN_COMMENTS = [({"id": None}, "missing_id"), ({"id": 12345.0}, "id_not_exact"), ({"created_utc": None}, "missing_created_utc"), ({"created_utc": "noon"}, "bad_time"), ({"created_utc": 1714550400000}, "bad_time"),
    ({"created_utc": 0}, "timestamp_out_of_range"), ({"link_id": None}, "missing_link_id"), ({"parent_id": None}, "missing_parent_id"), ({"body": None, "name": None}, "missing_body"), ("[]", "not_an_object"), ("{", "bad_json")]


def test_bad_records_between_good_ones(lab, tmp_path):
    lines = reddit_lines()
    broken = [change if isinstance(change, str) else json.loads(lines[1]) | {"id": "bad", "name": "t1_bad"} | change for change, _ in BROKEN_COMMENTS]
    receipt = lab.load(put(tmp_path, "RC_2024-05", between(lines, broken)))
    assert counts(receipt) == (19, 7, 0, 0, 1, 11) and sound(lab)
    assert lab.sql("select code, line from reject order by line").rows() == [(code, n) for n, (_, code) in enumerate(BROKEN_COMMENTS, 2)]


def test_a_parent_in_another_form_is_told(lab, tmp_path):
    broken = json.loads(reddit_lines()[1]) | {"id": "bad", "parent_id": 40125314325}
    receipt, said = told(lab, put(tmp_path, "RC_2024-05", [*reddit_lines(), broken]))
    assert receipt.stored == 8 and "1 comments name their parent in a form that is not understood" in said and one(lab, "select reply_to_key from post where post_key = 'reddit:t1_bad'") is None


def test_reddit_with_a_mark_other_bytes_and_a_cut(lab, tmp_path):
    path = put(tmp_path, "RC_2024-05", ["\ufeff" + reddit_lines()[0], *reddit_lines()[1:]])
    path.write_bytes(path.read_bytes().replace(b"thanks", b"caf\xe9")[:-30])
    receipt = lab.load(path)
    assert receipt.stored == 5 and conserved(receipt) and lab.sql("select code from reject order by record")["code"].to_list() == ["bad_utf8", "bad_json"]


def test_one_persons_download_is_their_own_side(lab, tmp_path):
    lines = [json.loads(reddit_lines()[1]) | {"id": f"p{n}", "name": f"t1_p{n}", "author": "Pia", "link_id": f"t3_x{n}", "parent_id": f"t3_x{n}"} for n in range(12)]
    receipt = lab.load(put(tmp_path, "pia.jsonl", lines))
    assert (receipt.loads[0]["scope"], receipt.loads[0]["owner_key"]) == ("own", "reddit:pia")
    drift = [{("made" if k == "created_utc" else k): v for k, v in line.items()} for line in lines]
    with pytest.raises(InvalidExport, match="format may have changed"): lab.load(put(tmp_path, "drift.jsonl", drift))


# ---- Stack Exchange: a whole site

@pytest.fixture(scope="module")
def site(shared):
    "The posts, comments and users of history.meta, by Python's XML parser alone"
    read = lambda name: [e.attrib for e in ElementTree.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", (shared / "stackexchange-history-meta" / name).read_text(encoding="utf-8-sig")))]
    return read("Posts.xml"), read("Comments.xml"), read("Users.xml")


@pytest.fixture(scope="module")
def history(shared):
    with Lab() as lab:
        receipt = lab.load(shared / "stackexchange-history-meta")
        yield lab, receipt


HISTORY = "stackexchange:20111011181600230"


def test_real_site_is_read_to_its_last_row(history, site):
    (lab, receipt), (posts, comments, users) = history, site
    assert (len(posts), len(comments), len(users)) == (1657, 3454, 2295) and counts(receipt) == (5111, 5111, 0, 0, 0, 0) and sound(lab)
    assert receipt.loads[0]["declared"] == 5111 and (one(lab, "select count(*) from account"), one(lab, "select count(*) from account where placeholder")) == (2295, 0)
    who = lambda id: f"{HISTORY}:u{id}" if id else None
    wanted = [(f"{HISTORY}:{p['Id']}", who(p.get("OwnerUserId")), datetime.fromisoformat(p["CreationDate"]), f"{HISTORY}:{p['ParentId']}" if "ParentId" in p else None) for p in posts]
    wanted += [(f"{HISTORY}:c{c['Id']}", who(c.get("UserId")), datetime.fromisoformat(c["CreationDate"]), f"{HISTORY}:{c['PostId']}") for c in comments]
    assert sorted(lab.sql("select post_key, author_key, created_at, reply_to_key from post").rows(), key=repr) == sorted(wanted, key=repr)
    assert (one(lab, "select count(*) from post where author_key is null and post_key not like '%:c%'"), one(lab, "select count(*) from post where author_key is null and post_key like '%:c%'")) == (46, 142)
    assert dict(lab.sql("select kind, count(*) from post group by kind").rows()) == {"post": 5105, "service": 6}


def test_real_texts_are_what_a_reader_sees(history, site):
    (lab, _), (posts, comments, users) = history, site
    stored = dict(lab.sql("select post_key, text from post").rows())
    assert all(stored[f"{HISTORY}:c{c['Id']}"].replace("\t", " ") == c["Text"].replace("\r\n", "\n") for c in comments)
    for p in posts:
        title, body = p.get("Title"), unescape(re.sub(r"<[^<>]*>", "", p["Body"]))
        squeezed = re.sub(r"\s+", "", (title or "") + body)
        assert re.sub(r"\s+", "", stored[f"{HISTORY}:{p['Id']}"] or "") == squeezed, p["Id"]
    assert dict(lab.sql("select account_key, handle from account").rows()) == {f"{HISTORY}:u{u['Id']}": u["DisplayName"] for u in users}


def test_real_counts_equal_the_rows(history, site):
    lab, (posts, comments, _) = history[0], site
    assert lab.sql("""with n as (select c.post_key, c.kind, c.n, count(p.post_key) as found from post_count c left join post p on p.reply_to_key = c.post_key
        and (c.kind = 'comment') = (p.post_key like '%:c%') where c.kind in ('answer', 'comment') group by all) select count(*) from n where n <> found""").rows() == [(0,)]
    assert dict(lab.sql("select post_key, n from post_count where kind = 'score'").rows()) == {f"{HISTORY}:{p['Id']}": int(p["Score"]) for p in posts} | {f"{HISTORY}:c{c['Id']}": int(c["Score"]) for c in comments}


def test_real_questions_answered_and_how_soon(history, site):
    lab, (posts, _, _) = history[0], site
    assert sum(p["PostTypeId"] == "1" for p in posts) == 556
    waits = sorted(lab.sql("""select min(epoch(a.created_at) - epoch(q.created_at)) as s from post q join post a on a.reply_to_key = q.post_key and a.post_key not like '%:c%'
        where q.reply_to_key is null and q.kind = 'post' group by q.post_key""")["s"])
    questions = one(lab, "select count(*) from post where kind = 'post' and reply_to_key is null")
    assert (len(waits), questions, round(len(waits) / questions, 3)) == (492, 556, 0.885)
    assert round(waits[len(waits) // 2]) == 13275 and statistics.median(waits) == pytest.approx(13245.5415)


def test_real_reciprocity_of_answers_and_comments(history):
    row = tl.reciprocity(history[0], kinds=("reply",)).frame.row(0, named=True)
    assert row["edges"] == 1702 and round(row["edge_reciprocity"], 6) == 0.423032
    wider = tl.reciprocity(history[0]).frame.row(0, named=True)
    assert wider["edges"] > 1702 and wider["edge_reciprocity"] > row["edge_reciprocity"]


def test_real_acceptances_and_mentions(history, site):
    lab, (posts, comments, users) = history[0], site
    by_id, name = {p["Id"]: p for p in posts}, {u["Id"]: u["DisplayName"].lower().replace(" ", "") for u in users}
    accepted = [(p["OwnerUserId"], p["AcceptedAnswerId"]) for p in posts if "AcceptedAnswerId" in p and "OwnerUserId" in p]
    assert sum("AcceptedAnswerId" in p for p in posts) == 181 and lab.sql("select actor_key, post_key, occurred_at from interaction where kind = 'accept' order by all").rows() == sorted(
        (f"{HISTORY}:u{a}", f"{HISTORY}:{b}", None) for a, b in accepted)
    found = dict(lab.sql("select post_key, target_key from interaction where kind = 'mention'").rows())
    by_key = {f"{HISTORY}:c{c['Id']}": c for c in comments}
    for key, target in found.items():
        words = [w.lower().rstrip(".-_") for w in re.findall(r"(?:^|\s)@([\w.-]{3,})", by_key[key]["Text"])]
        assert words and name[target.rsplit("u", 1)[1]].startswith(words[0])
        others = {c.get("UserId") for c in comments if c["PostId"] == by_key[key]["PostId"]} | {by_id[by_key[key]["PostId"]].get("OwnerUserId")}
        assert target.rsplit("u", 1)[1] in others
    assert sum("@" in c["Text"] for c in comments) == 974 and len(found) == 721


# ---- Stack Exchange: shapes

def test_stackexchange_traps(lab):
    receipt, said = told(lab, EXPORTS / "stackexchange", brand="Shop & Help")
    assert counts(receipt) == (11, 11, 0, 0, 0, 0) and receipt.loads[0]["declared"] == 11 and sound(lab) and said == ""
    key = lambda *names: tuple(n and (f"{MARK}:{n}") for n in names)
    assert [(*row[:3], row[3]) for row in lab.sql("select post_key, author_key, reply_to_account, text from post order by created_at").rows()] == [
        (*key("1", "u10", None), 'Why "less"? ParentId=\nIt says a < b\nwhy?'), (*key("c1", "u12", "u10"), "What is b?"), (*key("2", None, "u10"), "Do not know"), (*key("3", "u11", "u10"), "Because ✓"),
        (*key("c2", "u10", "u11"), "Nice, thank you"), (*key("c3", "u11", "u11"), "@Nora you are welcome"), (*key("c4", None, "u11"), "@zoe and a mail to x@example.org"), (*key("4", "u12", None), "Alone\nNobody answers"),
        (*key("5", "u10", None), "Self\nI answer myself"), (*key("6", "u10", "u10"), "like so"), (*key("7", "u-1", None), "what a tag is for")]
    assert acts(lab, "accept") == [(*key("u10", "u11"), None, "2024-05-01 08:20:00.25")] and acts(lab, "mention") == [(*key("u11", "u10"), "text", "2024-05-01 08:31:00.25")]
    assert lab.sql("select handle, kind, url from account order by handle").rows() == [("Community", "bot", None), ("Nora K", "unknown", None), ("Olaf", "unknown", None), ("Shop & Help", "unknown", "https://shop.example")]
    assert one(lab, "select edited_at::varchar from post where edited_at is not null") == "2024-05-01 08:21:00" and lab.sql("select container_key, closed from coverage").rows() == [(MARK, False)]


def test_what_people_tell_about_themselves_is_not_kept(tmp_path):
    with Lab(tmp_path / "lab.duckdb") as lab: lab.load(EXPORTS / "stackexchange")
    raw = (tmp_path / "lab.duckdb").read_bytes()
    assert b"a secret" not in raw and b"pictures.example" not in raw and b"Nowhere" not in raw


def test_stackexchange_acknowledgement_by_hand(lab):
    lab.load(EXPORTS / "stackexchange", brand="Shop & Help")
    assert lab.sql("select p.post_key, i.why_not, a.seconds from inbound i join post p using (post_key) left join answer a using (post_key) order by i.arrived_at").rows() == [
        (MARK + ":1", None, 1200.0), (MARK + ":3", "by_brand", None), (MARK + ":c2", None, None), (MARK + ":c3", "by_brand", None), (MARK + ":c4", "author_unknown", None)]
    row = tl.acknowledgement(lab, within=("1h",)).frame.row(0, named=True)
    assert (row["n"], row["acknowledged"]) == (1, 1)


def test_two_sites_do_not_mix(lab, tmp_path):
    shutil.copytree(EXPORTS / "stackexchange", tmp_path / "other")
    users = tmp_path / "other" / "Users.xml"
    users.write_text(users.read_text(encoding="utf-8").replace("2023-02-03T04:05:06.789", "2022-01-01T00:00:00.001"), encoding="utf-8")
    lab.load(EXPORTS / "stackexchange")
    assert counts(lab.load(tmp_path / "other")) == (11, 11, 0, 0, 0, 0) and one(lab, "select count(distinct container_key) from post") == 2


def site_with(folder, **lists):
    "The small site with some of its lists changed by a function, or left out"
    shutil.copytree(EXPORTS / "stackexchange", folder)
    for name, change in lists.items():
        path = folder / f"{name}.xml"
        if change is None: path.unlink()
        else: path.write_bytes(change(path.read_bytes()))
    return folder


BROKEN_ROWS = [(b'<row Id="9" PostTypeId="1" CreationDate="2024', "not_a_row"), (b"<row Id='9' PostTypeId='1' />", "not_a_row"), (b"{}", "not_a_row"),
    (b'<row Id="9" PostTypeId="1" Body="&boom;" CreationDate="2024-05-01T00:00:00.000" />', "unknown_entity"), (b'<row PostTypeId="1" CreationDate="2024-05-01T00:00:00.000" />', "missing_Id"),
    (b'<row Id="9" CreationDate="2024-05-01T00:00:00.000" />', "missing_PostTypeId"), (b'<row Id="9" PostTypeId="1" />', "missing_CreationDate"),
    (b'<row Id="9" PostTypeId="2" CreationDate="2024-05-01T00:00:00.000" />', "missing_ParentId"), (b'<row Id="9" PostTypeId="1" CreationDate="yesterday" />', "bad_time"),
    (b'<row Id="9" PostTypeId="1" CreationDate="1970-01-01T00:00:00.000" />', "timestamp_out_of_range"), (b'<row Id="9" Id="8" PostTypeId="1" CreationDate="2024-05-01T00:00:00.000" />', "duplicate_key")]


@pytest.mark.parametrize("more", [[], [(b'<row Id="9" PostTypeId="1" Body="caf\xe9" CreationDate="2024-05-01T00:00:00.000" />', "bad_utf8")]])
def test_bad_rows_between_good_ones(lab, tmp_path, more):
    wanted = BROKEN_ROWS + more
    receipt = lab.load(site_with(tmp_path / "site", Posts=lambda raw: raw.replace(b'  <row Id="4"', b"".join(row + b"\n" for row, _ in wanted) + b'  <row Id="4"')))
    assert counts(receipt) == (11 + len(wanted), 11, 0, 0, 0, len(wanted)) and sound(lab)
    file = (tmp_path / "site" / "Posts.xml").read_bytes()
    found = lab.sql("select code, raw, byte_offset, member, line from reject order by record").rows()
    assert [(raw, code) for code, raw, *_ in found] == wanted and all(file[at:].startswith(raw) and member == "Posts.xml" for _, raw, at, member, _ in found)
    assert more or [line for *_, line in found] == list(range(7, 7 + len(wanted)))


def test_a_comment_without_its_post_id(lab, tmp_path):
    receipt = lab.load(site_with(tmp_path / "site", Comments=lambda raw: raw.replace(b'Id="2" PostId="3"', b'Id="2"')))
    assert counts(receipt) == (11, 10, 0, 0, 0, 1) and lab.sql("select code, member from reject").rows() == [("missing_PostId", "Comments.xml")]


@pytest.mark.parametrize("cut, stored, rejected", [(-30, 10, 1), (-9, 11, 0)])
def test_a_list_that_breaks_off(lab, tmp_path, cut, stored, rejected):
    receipt, said = told(lab, site_with(tmp_path / "site", Posts=lambda raw: raw[:cut]))
    assert (receipt.stored, receipt.rejected) == (stored, rejected) and conserved(receipt) and "Posts.xml: its end is missing" in said


def test_other_ends_of_lines_and_utf_16(lab, tmp_path):
    changed = site_with(tmp_path / "site", Posts=lambda raw: raw.replace(b"\n", b"\r\n"), Comments=lambda raw: raw.decode("utf-8-sig").encode("utf-16"), Users=lambda raw: raw.removeprefix(b"\xef\xbb\xbf"))
    lab.load(changed)
    with Lab() as plain:
        plain.load(EXPORTS / "stackexchange")
        assert everything(plain) == everything(lab)


def test_entities_are_never_expanded_and_no_dtd_is_fetched(lab, tmp_path):
    lol = b'<?xml version="1.0"?>\n<!DOCTYPE posts [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>\n<posts>\n  <row Id="1" PostTypeId="1" Body="&b;" />\n</posts>\n'
    for change in (lambda raw: lol, lambda raw: lol.replace(b"[", b"\n [\n"), lambda raw: lol.replace(b'<!ENTITY a "ha">', b'<!ENTITY a SYSTEM "file:///etc/passwd">')):
        folder = site_with(tmp_path / f"site{len(list(tmp_path.iterdir()))}", Posts=change)
        with pytest.raises(InvalidExport, match="entities of its own"): lab.load(folder)
    assert one(lab, "select count(*) from load") == 0
    lab.load(site_with(tmp_path / "dtd", Posts=lambda raw: raw.replace(b"'posts.dtd'", b"'http://127.0.0.1:9/posts.dtd'")))
    assert one(lab, "select count(*) from post") == 11


def test_lists_that_are_missing_or_empty(lab, tmp_path):
    receipt, said = told(lab, site_with(tmp_path / "bare", Users=None, Comments=None, Votes=None))
    assert receipt.stored == 7 and "Users.xml and Comments.xml not in it: names and comments are missing" in said and acts(lab, "accept")[0][3] is None
    with pytest.raises(InvalidExport, match="format may have changed"): lab.load(site_with(tmp_path / "empty", Posts=lambda raw: b"<posts>\n</posts>\n", Users=None))
    with pytest.raises(InvalidExport): lab.load(site_with(tmp_path / "drift", Posts=lambda raw: raw.replace(b" Id=", b" id=")))


def test_a_7z_archive_is_refused_with_the_way_out(lab, tmp_path):
    (tmp_path / "history.stackexchange.com.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(40))
    with pytest.raises(InvalidExport, match="unpack it"): lab.load(tmp_path / "history.stackexchange.com.7z")


def test_a_zip_holds_two_sites(lab, tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for folder in ("a", "b"):
            for file in (EXPORTS / "stackexchange").iterdir():
                text = file.read_text(encoding="utf-8")
                archive.writestr(f"{folder}/{file.name}", text.replace("2023-02-03T04:05:06.789", "2023-02-03T04:05:06.001") if folder == "b" else text)
    receipt = lab.load(tmp_path / "two.zip")
    assert Counter(load["member"] for load in receipt.loads) == Counter(["a/", "b/"]) and receipt.stored == 22
