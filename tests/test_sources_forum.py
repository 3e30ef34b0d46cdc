"""Discourse, YouTube, Slackdump and the newer Mastodon archives, against real pages counted again in plain Python, and against small shapes."""
import csv
import io
import json
import re
import shutil
import tarfile
import zipfile
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

import trustlab.sources  # noqa: F401
from trustlab.acknowledgement import acknowledgement
from trustlab.bundles import bundles
from trustlab.core import InvalidExport, PartialExport, TrustlabError, UnknownSource
from trustlab.load import COUNTS, READERS
from trustlab.store import Lab

EXPORTS = Path(__file__).parent / "exports"
FORUM, ARCHIVE = EXPORTS / "discourse" / "topics", EXPORTS / "discourse" / "archive"
THREADS, DUMPS = EXPORTS / "youtube" / "threads", EXPORTS / "slackdump"
SITE = "forum.alder.example"


@pytest.fixture
def lab():
    with Lab() as store: yield store


def counts(receipt): return tuple(getattr(receipt, c) for c in COUNTS)
def one(lab, query, **params): return lab.sql(query, **params).row(0)[0]
def sound(lab): return lab.check().filter((pl.col("part") == "sound") & (pl.col("n") > 0)).is_empty()
def utc(text): return datetime.fromisoformat(text).astimezone(timezone.utc).replace(tzinfo=None)


def told(lab, *paths, **kwargs):
    "A load with what it warned of"
    with pytest.warns() as said: receipt = lab.load(*paths, **kwargs)
    return receipt, [str(w.message) for w in said if issubclass(w.category, PartialExport)]


def packed(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for file in sorted(f for f in folder.rglob("*") if f.is_file()): z.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def content(lab):
    tables = [lab.sql(f"select * exclude (load_id) from {t} order by all").rows() for t in ("post", "interaction", "post_count")]
    return tables + [lab.sql(f"select * from {t} order by all").rows() for t in ("account", "role")] + [lab.sql("select platform, container_key, container, closed from coverage order by all").rows()]


@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
@pytest.mark.parametrize("folder", [EXPORTS / "discourse", EXPORTS / "youtube", DUMPS / "export", DUMPS / "dump"], ids=lambda f: f.name)
def test_folder_zip_tar_and_prefix_give_the_same_store_and_twice_adds_nothing(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "deep" / "My export [1]")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar: tar.add(folder, arcname=".")
    seen = []
    for way in (folder, packed(folder, tmp_path / "b.zip", "some/where/"), tmp_path / "x.tar.gz", tmp_path / "deep"):
        with Lab() as lab:
            assert lab.load(way).stored > 0, way
            seen.append(content(lab))
            if way == folder: assert lab.load(way).stored == 0 and content(lab)[:5] == seen[-1][:5] and sound(lab)
    for other in seen[1:]: assert other == seen[0]


MINE = {"discourse": {"discourse", "perceval-fixtures"}, "youtube": {"youtube", "transcribed"}, "slack": {"slack", "slackdump", "slack-export-viewer"}, "mastodon": {"mastodon", "mastodon-fossilizer"}}
OWN = {name for names in MINE.values() for name in names} - {"perceval-fixtures", "transcribed"}


@pytest.mark.parametrize("base", ["own", "shared"])
def test_nobody_claims_what_is_not_theirs(request, base):
    root = EXPORTS if base == "own" else request.getfixturevalue("shared")
    for folder in sorted(f for f in root.iterdir() if f.is_dir()):
        for bundle in bundles(folder):
            for reader, mine in MINE.items():
                found = READERS[reader].find(bundle)
                if folder.name not in mine: assert not found, (reader, folder.name, found)
                if folder.name in ("perceval-fixtures", "transcribed"): assert found in ([], [{"discourse": "discourse/", "youtube": "youtube/"}.get(reader)])
            if folder.name in OWN:
                for other in READERS.values(): assert folder.name in MINE.get(other.name, ()) or not other.find(bundle), (other.name, folder.name)


# ---- Discourse: real pages

def page(shared, name): return json.loads((shared / "perceval-fixtures" / "discourse" / f"discourse_{name}.json").read_text())


def test_a_real_topic_with_twenty_of_its_posts(lab, shared):
    topic = page(shared, "topic_1148")
    receipt, said = told(lab, shared / "perceval-fixtures" / "discourse" / "discourse_topic_1148.json")
    posts = topic["post_stream"]["posts"]
    assert counts(receipt) == (20, 20, 0, 0, 0, 0) and receipt.loads[0]["declared"] == len(topic["post_stream"]["stream"]) == 22 and sound(lab)
    assert any("topic 1148: 20 of 22 posts" in s for s in said) and any("holds 22 records, 20 were found" in s for s in said)
    ids = {p["post_number"]: p["id"] for p in posts}
    explicit = {f"discourse:{p['id']}": f"discourse:{ids[p['reply_to_post_number']]}" for p in posts if p["reply_to_post_number"]}
    plain = {f"discourse:{p['id']}": f"discourse:{ids[1]}" for p in posts if not p["reply_to_post_number"] and p["post_number"] > 1}
    assert len(explicit) == 9 and dict(lab.sql("select post_key, reply_to_key from post where reply_basis = 'explicit'").rows()) == explicit
    assert dict(lab.sql("select post_key, reply_to_key from post where reply_basis = 'thread'").rows()) == plain
    assert set(lab.sql("select post_key, author_key, created_at from post").rows()) == {(f"discourse:{p['id']}", f"discourse:{p['user_id']}", utc(p["created_at"])) for p in posts}
    assert {(k, e) for k, e in lab.sql("select post_key, edited_at from post where edited_at is not null").rows()} == {(f"discourse:{p['id']}", utc(p["updated_at"])) for p in posts if p["version"] > 1 and p["updated_at"] > p["created_at"]}
    assert dict(lab.sql("select post_key, n from post_count where kind = 'like'").rows()) == {f"discourse:{p['id']}": a["count"] for p in posts for a in p["actions_summary"] if a["id"] == 2}
    assert one(lab, "select count(*) from post where text is null or regexp_matches(text, '</?(p|br|aside|blockquote|div|a)\\b')") == 0
    assert one(lab, "select count(*) from post where contains(text, 'Is \"reply\" the only option to ask a question?')") == 1
    assert set(lab.sql("select handle from account")["handle"]) >= {p["username"] for p in posts} and one(lab, "select min(url) from post").startswith("https://discourse.mozilla-community.org/t/1148/")


def test_calls_in_a_topic_that_is_not_whole_are_left_out_unless_answered(lab, shared):
    posts = page(shared, "topic_1148")["post_stream"]["posts"]
    told(lab, shared / "perceval-fixtures" / "discourse" / "discourse_topic_1148.json", brand="gorhill")
    by = {p["post_number"]: p for p in posts}
    waits = {}
    for p in posts:
        to = by.get(p["reply_to_post_number"])
        if p["username"] == "gorhill" and to and to["username"] != "gorhill": waits.setdefault(f"discourse:{to['id']}", (utc(p["created_at"]) - utc(to["created_at"])).total_seconds())
    assert dict(lab.sql("select post_key, seconds from inbound join answer using (post_key, brand) where eligible and brand = 'gorhill'").rows()) == pytest.approx(waits) and len(waits) == 4
    assert set(lab.sql("select distinct why_not from inbound where not eligible")["why_not"]) == {"answer_outside_export", "by_brand"} and one(lab, "select count(*) from inbound where eligible") == 4


def test_real_pages_of_two_forums_add_up(lab, shared):
    folder = shared / "perceval-fixtures" / "discourse"
    posts = [p for n in ("topic_1148", "topic_1149", "topic_1150", "posts") for p in page(shared, n)["post_stream"]["posts"]] + [page(shared, "post")]
    receipt, said = told(lab, folder)
    assert receipt.read == len(posts) == 29 and receipt.stored == len({p["id"] for p in posts}) == 25 and receipt.duplicate == 4 and sound(lab)
    assert any("passed over, not pages of posts" in s for s in said)
    mentions = {(f"discourse:{p['user_id']}", name) for p in posts for name in re.findall(r'class="mention" href="/users/(\w+)"', p["cooked"])}
    assert set(lab.sql("select actor_key, handle from interaction join account on account_key = target_key where interaction.kind = 'mention'").rows()) == mentions and len(mentions) == 2


# ---- Discourse: small shapes

@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
def test_a_forum_of_three_topics(lab):
    receipt = lab.load(FORUM)
    assert counts(receipt) == (15, 14, 0, 0, 1, 0) and receipt.loads[0]["scope"] == "both" and receipt.loads[0]["declared"] is None and sound(lab)
    rows = lab.sql("select substr(post_key, 11) as id, author_key, kind, visibility, substr(reply_to_key, 11) as parent, reply_to_account, reply_basis from post order by id").rows()
    site = f"discourse:{SITE}"
    assert rows == [
        ("501", "discourse:21", "post", "public", None, site, "inferred"), ("502", "discourse:22", "post", "public", "501", "discourse:21", "thread"), ("503", "discourse:23", "post", "public", "501", "discourse:21", "thread"),
        ("504", "discourse:21", "post", "public", "502", "discourse:22", "explicit"), ("505", "discourse:22", "post", "public", "504", "discourse:21", "explicit"), ("506", "discourse:22", "post", "internal", "501", "discourse:21", "thread"),
        ("507", "discourse:-1", "service", "public", "501", "discourse:21", "thread"), ("508", "discourse:23", "post", "public", "505", "discourse:22", "explicit"),
        ("601", "discourse:23", "post", "public", None, site, "inferred"), ("602", "discourse:24", "post", "public", "601", "discourse:23", "thread"),
        ("701", "discourse:23", "post", "direct", None, None, None), ("702", "discourse:22", "post", "direct", "701", "discourse:23", "thread"),
        ("801", None, "post", "public", "10/1", "discourse:21", "explicit"), ("802", "discourse:23", "post", "public", "10/1", None, "thread")]
    get = lambda id, what: one(lab, f"select {what} from post where post_key = 'discourse:{id}'")
    assert get(501, "text") == "My lamp <flickers> & hums,\nask @Rolf" and get(503, "text") == "Mine 'too'" and get(508, "text") is None
    assert get(503, "quote_of_key") == "discourse:501" and get(502, "edited_at") == datetime(2024, 6, 1, 12, 7, 0, 7000) and get(501, "edited_at") is None
    assert get(501, "url") == f"https://{SITE}/t/7/1" and get(501, "conversation_key") == get(501, "container_key") == "discourse:t/7"
    assert lab.sql("select account_key, role, brand, basis from role order by all").rows() == [
        ("discourse:-1", "bot", None, "export"), ("discourse:22", "staff", SITE, "export"), ("discourse:24", "staff", SITE, "export"), (site, "brand", SITE, "export")]
    assert lab.sql("select kind, actor_key, post_key, target_key, occurred_at is null from interaction where kind <> 'declared_reply' order by all").rows() == [
        ("accept", None, "discourse:505", "discourse:22", True), ("mention", "discourse:21", "discourse:501", "discourse:25", False), ("mention", "discourse:22", "discourse:502", "discourse:21", False), ("quote", "discourse:23", "discourse:503", "discourse:22", False)]
    assert lab.sql("select post_key, n from post_count where kind = 'like'").rows() == [("discourse:501", 4)]
    assert ("discourse:t/7", "Lamp flickers", False) in lab.sql("select container_key, container, closed from coverage").rows() and one(lab, "select handle from account where account_key = 'discourse:25'") == "Rolf"


@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
def test_acknowledgement_in_a_forum_is_what_a_hand_counts(lab):
    lab.load(FORUM)
    assert lab.sql("select i.post_key, i.why_not, a.seconds from inbound i left join answer a using (post_key, brand) order by 1").rows() == [
        ("discourse:501", None, pytest.approx(300.005)), ("discourse:504", None, pytest.approx(1200.02)), ("discourse:508", None, None),
        ("discourse:601", None, pytest.approx(540.009)), ("discourse:701", None, pytest.approx(60.001))]
    frame = acknowledgement(lab).frame
    assert frame.select("n", "acknowledged").row(0) == (4, 3) and frame["response_rate"][0] == 0.75


def test_the_rest_of_a_topic_settles_what_was_open(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, name in ((first, "7.json"), (second, "7-page2.json")):
        folder.mkdir(); shutil.copy(FORUM / name, folder / name)
    orders = []
    for order in ((first, second), (second, first)):
        with Lab() as lab:
            receipt, said = told(lab, order[0])
            assert any("of 8 posts" in s for s in said) and one(lab, "select count(*) from interaction where kind = 'declared_reply'") == (4 if order[0] == first else 0)
            receipt = lab.load(order[1])
            assert receipt.loads[0]["declared"] is None and one(lab, "select count(*) from interaction where kind = 'declared_reply'") == 0 and sound(lab)
            orders.append(lab.sql("select post_key, reply_to_key, reply_to_account, quote_of_key, reply_basis, text from post order by all").rows())
            calls = lab.sql("select i.post_key, i.eligible, a.seconds from inbound i left join answer a using (post_key, brand) order by all").rows()
    assert orders[0] == orders[1] and len(orders[0]) == 8
    assert calls == [("discourse:501", True, pytest.approx(300.005)), ("discourse:504", True, pytest.approx(1200.02)), ("discourse:508", True, None)]


def test_a_topic_cut_off_or_without_its_list_is_not_called_unanswered(lab, tmp_path):
    whole = (FORUM / "9.json").read_bytes().replace(b"private_message", b"regular")
    (tmp_path / "9.json").write_bytes(whole[:whole.index(b"noted")])
    receipt, said = told(lab, tmp_path / "9.json")
    assert counts(receipt) == (2, 1, 0, 0, 0, 1) and one(lab, "select code from reject") == "cut_off" and any("without the list" in s for s in said)
    raw, at = lab.sql("select raw, byte_offset from reject").row(0)
    assert whole[at:whole.index(b"noted")] == raw and lab.sql("select value from interaction where kind = 'declared_reply'").rows() == [("discourse:t/9#rest",)]
    (tmp_path / "9.json").write_bytes(whole)
    assert lab.load(tmp_path / "9.json").stored == 1 and one(lab, "select count(*) from interaction where kind = 'declared_reply'") == 0


@pytest.mark.parametrize("shape", ["array", "lines", "after another", "bom", "stream first"])
@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
def test_pages_packed_in_other_ways_are_the_same_pages(tmp_path, shape):
    docs = [json.loads((FORUM / n).read_text()) for n in ("7-page2.json", "7.json", "8.json", "9.json", "latest.json")]
    if shape == "stream first": docs = [d | {"post_stream": dict(reversed(d["post_stream"].items()))} if "post_stream" in d else d for d in docs]
    text = {"array": json.dumps(docs), "lines": "\n".join(map(json.dumps, docs)), "after another": " ".join(json.dumps(d, indent=1) for d in docs), "bom": "\ufeff" + json.dumps(docs), "stream first": json.dumps(docs)}[shape]
    (tmp_path / "all.json").write_text(text, encoding="utf-8")
    with Lab() as a, Lab() as b:
        assert counts(a.load(FORUM)) == counts(b.load(tmp_path / "all.json"))
        assert content(a)[1:] == content(b)[1:] and a.sql("select * exclude (load_id, record) from post order by all").rows() == b.sql("select * exclude (load_id, record) from post order by all").rows()


@pytest.mark.parametrize(("change", "code"), [({"id": None}, "missing_id"), ({"id": 502.0}, "id_not_exact"), ({"topic_id": None}, "missing_topic_id"), ({"post_number": None}, "missing_post_number"), ({"created_at": None}, "bad_time"),
                                              ({"created_at": "soon"}, "bad_time"), ({"created_at": "1970-01-01T00:00:00Z"}, "timestamp_out_of_range"), (7, "not_an_object"), ({"username": "caf\udce9"}, "bad_utf8"), ("twice", "duplicate_key")])
@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
def test_a_bad_post_between_two_good_ones(lab, tmp_path, change, code):
    doc = json.loads((FORUM / "7.json").read_text())
    posts = doc["post_stream"]["posts"]
    posts[1] = posts[1] | change if isinstance(change, dict) else change
    text = json.dumps(doc, ensure_ascii=False).replace('"twice"', '{"id": 1, "id": 2}')
    (tmp_path / "7.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    receipt = lab.load(tmp_path / "7.json")
    assert counts(receipt) == (4, 3, 0, 0, 0, 1) and one(lab, "select code from reject") == code and sound(lab)
    assert set(lab.sql("select post_key from post")["post_key"]) == {"discourse:501", "discourse:503", "discourse:504"}
    if code != "bad_utf8": assert one(lab, "select count(*) from role where account_key = 'discourse:22'") == 0


def test_pages_that_hold_nothing_or_another_forum_are_refused(lab, tmp_path):
    empty = tmp_path / "empty.json"
    empty.write_text('{"post_stream": {"posts": [], "stream": []}, "id": 7}')
    with pytest.raises(InvalidExport, match="no records"): lab.load(empty)
    renamed = tmp_path / "renamed.json"
    renamed.write_text(json.dumps({"post_stream": {"posts": [{"nr": 1, "topic_id": 1, "post_number": 1}]}}))
    with pytest.raises(InvalidExport, match="format may have changed"): lab.load(renamed)
    doc = json.loads((FORUM / "7.json").read_text())
    told(lab, FORUM / "7.json")
    for p in doc["post_stream"]["posts"]: p |= {"user_id": p["user_id"] + 1000, "created_at": "2023-01-01T00:00:00Z"}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(doc))
    with pytest.raises(InvalidExport, match="different forums"): lab.load(other)
    assert one(lab, "select count(*) from load") == 1 and one(lab, "select count(*) from post") == 4


def test_staff_seen_later_make_earlier_topics_calls(lab, tmp_path):
    quiet = json.loads((FORUM / "8.json").read_text())
    quiet["post_stream"] = {"posts": quiet["post_stream"]["posts"][:1], "stream": [601]}
    (tmp_path / "8.json").write_text(json.dumps(quiet))
    lab.load(tmp_path / "8.json")
    assert one(lab, "select count(*) from inbound") == 0 and lab.sql("select role from role").is_empty()
    lab.load(FORUM / "9.json")
    assert lab.sql("select post_key, brand, eligible from inbound where visibility = 'public'").rows() == [("discourse:601", SITE, True)]


def test_a_forum_without_an_address_says_so(lab, tmp_path):
    (tmp_path / "9.json").write_text((FORUM / "9.json").read_text().replace("/user_avatar/forum.alder.example/", "/avatar/"))
    _, said = told(lab, tmp_path / "9.json")
    assert any("called 'discourse'" in s for s in said) and set(lab.sql("select brand from role where brand is not null")["brand"]) == {"discourse"} and one(lab, "select min(url) from post") == "/t/9/1"


# ---- Discourse: a member's archive

def test_a_members_archive(lab):
    receipt = lab.load(ARCHIVE)
    rows = list(csv.DictReader(io.StringIO((ARCHIVE / "user_archive.csv").read_text())))
    assert counts(receipt) == (len(rows), 3, 0, 0, 0, 0) and (receipt.loads[0]["scope"], receipt.loads[0]["owner_key"]) == ("own", "discourse:21") and sound(lab)
    assert lab.sql("select post_key, author_key, text, visibility, reply_to_key, created_at from post order by created_at").rows() == [
        ("discourse:7/1", "discourse:21", "My lamp <flickers> & hums,\nask @Rolf", "public", None, datetime(2024, 6, 1, 12)), ("discourse:12/3", "discourse:21", "two\nlines", "public", "discourse:12/1", datetime(2024, 6, 5, 8)),
        ("discourse:13/2", "discourse:21", "psst", "direct", "discourse:13/1", datetime(2024, 6, 6, 8))]
    assert lab.sql("select kind, post_key, occurred_at from interaction").rows() == [("like", "discourse:502", datetime(2024, 6, 1, 12, 6))] and one(lab, "select handle from account where not placeholder") == "ida"
    tables = lab.sql("select table_name from duckdb_tables() where schema_name = 'main'")["table_name"]
    for name in tables: assert not re.search(r"203\.0\.113|secretbrowser|secret\.example", repr(lab.sql(f"select * from {name}").rows())), name


@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
@pytest.mark.parametrize("order", [(FORUM, ARCHIVE), (ARCHIVE, FORUM)], ids=["pages first", "archive first"])
def test_an_archive_and_the_pages_meet(lab, order):
    receipts = [lab.load(path) for path in order]
    assert sum(r.stored for r in receipts) == 16 and one(lab, "select count(*) from post where post_key like 'discourse:7/%'") == 0 and sound(lab)
    assert lab.sql("select text, author_key from post where post_key = 'discourse:501'").rows() == [("My lamp <flickers> & hums,\nask @Rolf", "discourse:21")]
    assert lab.sql("select kind, target_key from interaction where kind = 'like' and post_key = 'discourse:502'").height == 1
    assert one(lab, "select count(*) from post where reply_to_key = 'discourse:501'") == 4


@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
def test_whose_archive_it_is(tmp_path):
    table = (ARCHIVE / "user_archive.csv").read_text()
    with zipfile.ZipFile(tmp_path / "user_archive-Ida-240701-120000-7.zip", "w") as z: z.writestr("user_archive.csv", table)
    (tmp_path / "mine.csv").write_text(table)
    for name, key, author in (("user_archive-Ida-240701-120000-7.zip", "discourse:@ida", "discourse:@ida"), ("mine.csv", None, None)):
        with Lab() as lab:
            assert lab.load(tmp_path / name).loads[0]["owner_key"] == key and lab.sql("select distinct author_key from post").rows() == [(author,)]
            assert lab.load(FORUM).stored == 13 and sound(lab)
            if key: assert one(lab, "select count(*) from post where author_key = 'discourse:21'") == 4 and one(lab, "select count(*) from account where account_key = 'discourse:@ida'") == 0


def test_bad_rows_of_an_archive(lab, tmp_path):
    rows = (ARCHIVE / "user_archive.csv").read_text().split("\n", 1)
    (tmp_path / "user_archive.csv").write_bytes((rows[0] + "\nT,Help,no,a,a,0,0,https://x.example/c/help,2024-06-05T08:00:00Z\nT,Help,no,a,a,0,0,https://x.example/t/s/1/2,gestern\nT,caf").encode() + b"\xe9" + b",no,a,a,0,0,https://x.example/t/s/1/2,2024-06-05T08:00:00Z\nT,too,few\n" + rows[1].encode())
    receipt, _ = told(lab, tmp_path / "user_archive.csv")
    assert counts(receipt) == (7, 3, 0, 0, 0, 4) and Counter(lab.sql("select code from reject")["code"]) == {"bad_url": 1, "bad_time": 1, "bad_utf8": 1, "wrong_number_of_columns": 1} and sound(lab)
    (tmp_path / "user_archive.csv").write_text(rows[0].replace("created_at", "made") + "\n" + rows[1])
    with pytest.raises(InvalidExport, match="created_at"): lab.load(tmp_path / "user_archive.csv")


# ---- YouTube

def test_comments_under_a_channels_video(lab):
    receipt, said = told(lab, THREADS)
    assert counts(receipt) == (9, 9, 0, 0, 0, 0) and receipt.loads[0]["declared"] == 6 + 2 + 3 and sound(lab)
    assert any("1 of 6 threads lack replies, 2 in all" in s for s in said) and not any("goes on beyond" in s for s in said)
    items = [i for n in ("page1", "page2") for i in json.loads((THREADS / f"{n}.json").read_text())["items"]]
    flat = [c for i in items for c in [i["snippet"]["topLevelComment"], *i.get("replies", {}).get("comments", [])]]
    author = lambda c: "youtube:" + c["snippet"]["authorChannelId"]["value"] if "authorChannelId" in c["snippet"] else None
    assert set(lab.sql("select post_key, author_key, created_at, reply_to_key from post").rows()) == {
        ("youtube:" + c["id"], author(c), utc(c["snippet"]["publishedAt"]), "youtube:" + c["snippet"]["parentId"] if "parentId" in c["snippet"] else None) for c in flat}
    get = lambda id, what: one(lab, f"select {what} from post where post_key = 'youtube:{id}'")
    assert get("Ugx1", "text") == 'Does it dim?\n"please" <3' and get("Ugx6", "text") == "original & true" and get("Ugx1.a", "edited_at") == datetime(2024, 7, 1, 9, 25) and get("Ugx1", "edited_at") is None
    assert (get("Ugx4", "visibility"), get("Ugx5", "reply_to_account"), get("Ugx1.b", "reply_basis"), get("Ugx1", "reply_basis")) == ("internal", None, "thread", "explicit")
    assert lab.sql("select account_key, role, brand, basis from role").rows() == [("youtube:UCalder", "brand", "UCalder", "export")]
    assert lab.sql("select handle, kind from account order by account_key").rows() == [("aldertel", "organization"), ("ida.m", "unknown"), ("Otto Ö", "unknown")]
    assert lab.sql("select kind, post_key, target_key, value from interaction where kind = 'mention'").rows() == [("mention", "youtube:Ugx1.b", "youtube:UCalder", "text")]
    assert lab.sql("select container_key, container, closed from coverage").rows() == [("youtube:v/Vlamp", "v/Vlamp", False)]
    assert set(lab.sql("select post_key, n from post_count where kind = 'reply'").rows()) == {("youtube:" + i["id"], i["snippet"]["totalReplyCount"]) for i in items} and one(lab, "select n from post_count where kind = 'like' and n > 0") == 7


def test_missing_replies_are_not_silence_and_their_arrival_settles_it(lab):
    told(lab, THREADS)
    state = "select i.post_key, i.why_not, a.seconds from inbound i left join answer a using (post_key, brand) order by 1"
    assert lab.sql(state).rows() == [("youtube:Ugx1", None, 1200.0), ("youtube:Ugx1.b", None, None), ("youtube:Ugx2", "answer_outside_export", None), ("youtube:Ugx3", "author_unknown", None),
                                     ("youtube:Ugx4", "internal", None), ("youtube:Ugx6", None, None)]
    frame = acknowledgement(lab).frame
    assert frame.select("n", "acknowledged").row(0) == (2, 1)
    assert counts(lab.load(EXPORTS / "youtube" / "replies")) == (3, 2, 0, 1, 0, 0) and sound(lab)
    assert ("youtube:Ugx2", None, 2640.0) in lab.sql(state).rows() and one(lab, "select count(*) from interaction where kind = 'declared_reply'") == 0
    assert lab.sql("select distinct container_key from post").rows() == [("youtube:v/Vlamp",)] and acknowledgement(lab).frame.select("n", "acknowledged").row(0) == (3, 2)
    lab.load(THREADS / "page1.json")
    assert one(lab, "select count(*) from interaction where kind = 'declared_reply'") == 0


def test_replies_first_then_the_threads(lab):
    _, said = told(lab, EXPORTS / "youtube" / "replies")
    assert any("without their count of replies" in s for s in said) and one(lab, "select count(*) from interaction where kind = 'declared_reply'") == 3
    lab.load(THREADS)
    assert one(lab, "select count(*) from interaction where kind = 'declared_reply'") == 0 and one(lab, "select reply_to_account from post where post_key = 'youtube:Ugx2.b'") == "youtube:UCotto"


@pytest.mark.parametrize("shape", ["list of pages", "items in lines", "items in a list", "pages in lines", "bom", "no kinds"])
@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
def test_comments_kept_in_other_ways_are_the_same(tmp_path, shape):
    docs = [json.loads((THREADS / n).read_text()) for n in ("page1.json", "page2.json")]
    items = [i for d in docs for i in d["items"]]
    text = {"list of pages": json.dumps(docs), "items in lines": "\n".join(map(json.dumps, items)) + "\n", "items in a list": json.dumps(items, indent=2), "pages in lines": "\n".join(map(json.dumps, docs)),
            "bom": "\ufeff" + json.dumps(docs), "no kinds": re.sub(r'"(kind|etag)": "[^"]*", ', "", json.dumps(items))}[shape]
    (tmp_path / "all.json").write_text(text, encoding="utf-8")
    with Lab() as a, Lab() as b:
        assert counts(a.load(THREADS)) == counts(b.load(tmp_path / "all.json")) and content(a) == content(b)


def test_a_real_page_that_does_not_name_its_channel(lab, shared):
    path = shared / "transcribed" / "youtube" / "commentThreads.json"
    receipt, said = told(lab, path)
    top = json.loads(path.read_text())["items"][0]["snippet"]["topLevelComment"]
    assert counts(receipt) == (1, 1, 0, 0, 0, 0) and receipt.loads[0]["declared"] == 1 and any("channelId" in s for s in said) and sound(lab)
    assert lab.sql("select post_key, author_key, created_at, text, reply_to_account, container_key from post").rows() == [
        ("youtube:" + top["id"], "youtube:UCviewer", utc(top["snippet"]["publishedAt"]), top["snippet"]["textOriginal"], None, "youtube:v/q8q3OFFfY6c")]
    assert lab.sql("select role from role").is_empty() and one(lab, "select count(*) from inbound") == 0


def test_a_listing_that_goes_on_says_so(lab):
    _, said = told(lab, THREADS / "page1.json")
    assert any("goes on beyond" in s for s in said)


@pytest.mark.parametrize(("change", "code"), [(lambda i: i["snippet"]["topLevelComment"].pop("id"), "missing_id"), (lambda i: i["snippet"]["topLevelComment"].update(id=1.5e18), "id_not_exact"),
                                              (lambda i: i["snippet"]["topLevelComment"]["snippet"].pop("publishedAt"), "bad_time"), (lambda i: i["snippet"]["topLevelComment"]["snippet"].update(publishedAt="2924-01-01T00:00:00Z"), "timestamp_out_of_range"),
                                              (lambda i: i.pop("snippet"), "not_a_comment"), (lambda i: i["snippet"]["topLevelComment"]["snippet"].update(textDisplay="\udce9"), "bad_utf8")])
@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
def test_a_bad_comment_between_good_ones(lab, tmp_path, change, code):
    doc = json.loads((THREADS / "page2.json").read_text())
    change(doc["items"][1])
    (tmp_path / "p.json").write_bytes(json.dumps(doc, ensure_ascii=False).encode("utf-8", "surrogateescape"))
    receipt = lab.load(tmp_path / "p.json")
    assert counts(receipt) == (3, 2, 0, 0, 0, 1) and one(lab, "select code from reject") == code and sound(lab)


@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
def test_a_page_of_comments_cut_off(lab, tmp_path):
    whole = (THREADS / "page1.json").read_bytes()
    (tmp_path / "p.json").write_bytes(whole[:whole.index(b'"Ugx2.c"')])
    assert counts(lab.load(tmp_path / "p.json")) == (4, 3, 0, 0, 0, 1) and one(lab, "select code from reject") == "cut_off"
    for text in ('{"kind": "youtube#commentThreadListResponse", "items": []}', '{"kind": "youtube#commentThreadListResponse", "items": [{"kind": "youtube#commentThread"}]}'):
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(InvalidExport, match="nothing was stored"): lab.load(tmp_path / "p.json")


# ---- Slack, as Slackdump writes it

def test_slackdumps_export_and_dump_are_the_same_thread():
    with Lab() as a, Lab() as b:
        assert counts(a.load(DUMPS / "export")) == (5, 4, 0, 0, 1, 0) and counts(b.load(DUMPS / "dump")) == (5, 5, 0, 0, 0, 0)
        posts = "select * exclude (load_id, record) from post where container_key = 'slack:C01HELP' order by all"
        assert a.sql(posts).rows() == b.sql(posts).rows() and a.sql(posts).height == 4 and sound(a) and sound(b)
        for query in ("select * exclude (load_id) from interaction order by all", "select * exclude (load_id) from post_count order by all", "select * from account order by all"): assert a.sql(query).rows() == b.sql(query).rows()
        assert a.sql("select kind, n from post_count").rows() == [("reaction", 3)] and a.sql("select kind, actor_key from interaction order by kind").rows() == [("mention", "slack:U01ASK"), ("reaction", "slack:U02STAFF")]
        assert b.sql("select visibility, text from post where container_key = 'slack:D01TWO'").rows() == [("direct", "psst")] and a.sql("select text from post where created_at = (select max(created_at) from post where reply_to_key is not null)").rows() == [("found & thanks",)]
        assert b.sql("select container_key, container, closed from coverage order by all").rows() == [("slack:C01HELP", "help", True), ("slack:C02QUIET", "quiet", True), ("slack:D01TWO", "D01TWO", True)]
        assert counts(b.load(DUMPS / "export"))[1:4] == (0, 0, 4)
        for lab in (a, b): lab.roles(pl.DataFrame({"account": ["otto"], "role": ["staff"], "brand": ["alder"]}))
        calls = "select p.text, a.seconds from inbound i join post p using (post_key) left join answer a using (post_key) where i.eligible and i.container_key = 'slack:C01HELP' order by p.created_at"
        assert a.sql(calls).rows() == b.sql(calls).rows() == [("Where is the <@U02STAFF> key?", 30.0), ("found & thanks", None), ("And the lamp?", None)]
        assert acknowledgement(a, unit="run").frame.select("n", "acknowledged").row(0) == (3, 1)


def test_one_thread_dumped_and_a_dump_cut_off(lab, tmp_path):
    doc = json.loads((DUMPS / "dump" / "C01HELP.json").read_text())
    root, last = doc["messages"]
    thread = {"channel_id": "C01HELP", "thread_ts": root["ts"], "name": "help", "messages": [{k: v for k, v in root.items() if not k.startswith("slackdump")}, *root["slackdump_thread_replies"]]}
    (tmp_path / f"C01HELP-{root['ts']}.json").write_text(json.dumps(thread))
    assert counts(lab.load(tmp_path)) == (3, 3, 0, 0, 0, 0) and one(lab, "select count(*) from post where reply_basis = 'thread'") == 2
    whole = json.dumps(doc).encode()
    for cut, expected in ((whole.index(b"And the lamp"), (4, 0, 0, 3, 0, 1)), (whole.index(b"under the mat"), None)):
        path = tmp_path / "cut" / "C01HELP.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(whole[:cut])
        if expected:
            assert counts(lab.load(path)) == expected
            raw, at = lab.sql("select raw, byte_offset from reject").row(0)
            assert whole[at:cut] == raw
        else:
            with pytest.raises(InvalidExport, match="nothing was stored"): lab.load(path)


def test_bad_replies_inside_a_dumped_message(lab, tmp_path):
    doc = json.loads((DUMPS / "dump" / "C01HELP.json").read_text())
    doc["messages"][0]["slackdump_thread_replies"][1:1] = [5, {"type": "message", "ts": 1719540032.5}, {"type": "message", "ts": "1719540033.000000", "text": "caf\udce9"}]
    (tmp_path / "C01HELP.json").write_bytes(json.dumps(doc, ensure_ascii=False).encode("utf-8", "surrogateescape"))
    receipt = lab.load(tmp_path)
    assert receipt.read == receipt.stored + receipt.rejected == 7 and sound(lab)
    assert Counter(lab.sql("select code from reject")["code"]) == {"not_a_message": 1, "bad_time": 1, "bad_utf8": 2}


@pytest.mark.parametrize("name", ["slack_history", "slack_history_next", "slack_members1", "slack_info"])
def test_pages_of_slacks_api_name_no_channel_and_are_not_read(lab, shared, name):
    with pytest.raises(UnknownSource): lab.load(shared / "perceval-fixtures" / "slack" / f"{name}.json", source="slack")


# ---- Mastodon, unpacked and newer

def mastodon(target, change=None, **files):
    "A copy of the smallest archive, its outbox changed, with files beside it"
    shutil.copytree(EXPORTS / "mastodon", target)
    outbox = json.loads((target / "outbox.json").read_text())
    for item in outbox["orderedItems"]:
        if change: change(item)
    (target / "outbox.json").write_text(json.dumps(outbox))
    for name, text in files.items(): (target / name.replace("__", ".")).write_text(text)
    return target


def test_an_unpacked_archive_with_files_beside_it(lab, tmp_path):
    folder = mastodon(tmp_path / "a", avatar__png="x", header__jpg="x", bookmarks__json='{"type": "OrderedCollection", "orderedItems": ["https://b.example/users/kim/statuses/4"]}', pinned__json="{}")
    (folder / "media_attachments" / "files").mkdir(parents=True)
    (folder / "media_attachments" / "files" / "x.json").write_text("{}")
    (folder / "likes.json").unlink()
    receipt, said = told(lab, folder)
    assert counts(receipt) == (3, 3, 0, 0, 0, 0) and said == ["a: passed over, not understood: pinned.json."] and one(lab, "select count(*) from interaction where kind = 'like'") == 0 and sound(lab)
    with Lab() as other:
        with pytest.warns(PartialExport): other.load(packed(folder, tmp_path / "archive-20250101.zip", "archive/"))
        assert content(other) == content(lab)


def test_newer_archives_count_likes_and_shares(lab, tmp_path):
    def count(item): item["object"] |= {"likes": {"id": "x", "type": "Collection", "totalItems": 3}, "shares": {"type": "Collection", "totalItems": 1}, "replies": {"type": "Collection", "first": {}}}
    lab.load(mastodon(tmp_path / "a", count))
    assert lab.sql("select kind, n, count(*) from post_count group by all order by all").rows() == [("like", 3, 3), ("share", 1, 3)]


def test_the_time_of_an_answered_post_is_in_its_number(lab, tmp_path):
    parents = iter([(f"https://b.example/users/kim/statuses/{number}", good) for number, good in (((1736071200000 << 16) + 77, True), (((4000000000000) << 16), False), (4, False))])
    asked = []
    def answer(item):
        parent, good = next(parents)
        item["object"]["inReplyTo"] = parent
        if good: asked.append((f"mastodon:{item['object']['id']}", "mastodon:" + parent, datetime(2025, 1, 5, 10), "mastodon:https://b.example/users/kim", None, "id"))
        item["published"] = item["object"]["published"] = "2025-01-05T10:02:00Z"
    lab.load(mastodon(tmp_path / "a", answer))
    assert lab.sql("select post_key, value, occurred_at, actor_key, target_key, occurred_basis from interaction where kind = 'parent_time'").rows() == asked and len(asked) == 1
    assert one(lab, "select count(*) from exchange where kind = 'parent_time'") == 0 and sound(lab)


def test_real_archives_give_a_wait_that_is_not_negative(lab, shared):
    path = shared / "mastodon-fossilizer" / "src" / "resources" / "test" / "mastodon-export.tar.gz"
    with pytest.warns(PartialExport): lab.load(path)
    with tarfile.open(path) as tar: items = json.loads(tar.extractfile("outbox.json").read())["orderedItems"]
    notes = [i["object"] for i in items if isinstance(i["object"], dict)]
    mine = {n["id"] for n in notes}
    expected = {}
    for n in notes:
        found = re.search(r"/statuses/(\d{17,19})$", n["inReplyTo"] or "")
        if found and n["inReplyTo"] not in mine: expected["mastodon:" + n["id"]] = datetime.fromtimestamp((int(found[1]) >> 16) / 1000, timezone.utc).replace(tzinfo=None)
    written = dict(lab.sql("select post_key, created_at from post").rows())
    expected = {k: v for k, v in expected.items() if v <= written[k]}
    assert dict(lab.sql("select post_key, occurred_at from interaction where kind = 'parent_time'").rows()) == expected and len(expected) == 1


# ---- whatever comes

@pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")
@pytest.mark.parametrize("path", [FORUM / "7.json", THREADS / "page1.json", DUMPS / "dump" / "C01HELP.json"], ids=lambda p: p.name)
def test_no_cut_and_no_wrong_byte_ends_in_a_traceback(tmp_path, path):
    whole = path.read_bytes()
    reader = {"7.json": "discourse", "page1.json": "youtube"}.get(path.name, "slack")
    for at in (len(whole) // 3, len(whole) * 4 // 5):
        for data in (whole[:at], whole[:at] + b"\xff\x00}" + whole[at + 3:]):
            (tmp_path / path.name).write_bytes(data)
            with Lab() as lab:
                try: receipt = lab.load(tmp_path / path.name, source=reader)
                except TrustlabError: assert one(lab, "select count(*) from post") == 0
                else: assert receipt.read == sum(counts(receipt)[1:]) and sound(lab)
