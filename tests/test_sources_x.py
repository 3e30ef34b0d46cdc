"""The two readers of X (the archive of an account, results of the interface) against real exports, counted a second time in plain Python, and against small shapes."""
import csv
import io
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
import trustlab.sources.x_api as x_api
import trustlab.sources.x_archive as x_archive
from trustlab.bundles import bundles
from trustlab.core import InvalidExport, NotIdentifiable, PartialExport, TrustlabError, UnknownSource
from trustlab.load import COUNTS
from trustlab.store import Lab

pytestmark = [pytest.mark.filterwarnings("ignore::ResourceWarning"), pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport")]
EXPORTS = Path(__file__).parent / "exports"
ARCHIVE, API = EXPORTS / "x_archive", EXPORTS / "x_api"
FORM = "%a %b %d %H:%M:%S %z %Y"


@pytest.fixture
def lab():
    with Lab() as store: yield store


@pytest.fixture(scope="module")
def archive():
    "The small archive, loaded once and only looked at"
    with Lab() as store: store.load(ARCHIVE, brand="acme"); yield store


@pytest.fixture(scope="module")
def table_lab():
    "The small table, loaded once and only looked at"
    with Lab() as store: store.load(API / "table.csv"); yield store


@pytest.fixture(scope="module")
def real(request):
    "The store of one real file of results, loaded once and only looked at"
    stores, folder = {}, Path(__file__).parent.parent.parent / "shared/data/twitter-v2-twarc-csv/test-data"

    def opened(name):
        if name not in stores:
            stores[name] = Lab()
            stores[name].load(folder / f"{name}.jsonl")
        return stores[name]
    yield opened
    for store in stores.values(): store.close()


@pytest.fixture(scope="module")
def small():
    "The small pages, loaded once and only looked at"
    with Lab() as store: store.load(API / "pages.jsonl", brand="acme"); yield store


def counts(receipt): return tuple(getattr(receipt, c) for c in COUNTS)
def one(lab, query, **params): return lab.sql(query, **params).row(0)[0]
def sound(lab): return lab.check().filter((pl.col("part") == "sound") & (pl.col("n") > 0)).is_empty()
def moment(text, form=FORM): return datetime.strptime(text, form).astimezone(timezone.utc).replace(tzinfo=None)
def flake(id): return datetime(1970, 1, 1) + timedelta(milliseconds=(int(id) >> 22) + 1288834974657)
def plain(text): return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
def codes(lab): return Counter(lab.sql("select code from reject")["code"])
def kinds(lab): return dict(lab.sql("select kind, count(*) from interaction group by kind").rows())


def script(path):
    "The JSON value of a script, by Python alone"
    text = Path(path).read_text(encoding="utf-8-sig")
    return json.loads(text[text.index("=") + 1:])


def told(lab, path, **how):
    "A load, with what it warned of"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", PartialExport)
        receipt = lab.load(path, **how)
    return receipt, "\n".join(str(w.message) for w in said)


def stored(lab):
    tables = [lab.sql(f"select * exclude (load_id) from {table} order by all").rows() for table in ("interaction", "post_count")]
    return [lab.sql("select * exclude (load_id, record) from post order by post_key").rows(), lab.sql("select * from account order by all").rows(), *tables]


# ---- the archive

def test_a_real_archive_is_read_to_its_last_post(lab, shared):
    folder = shared / "twitter-archive-x"
    tweets = [t["tweet"] for t in script(folder / "data/tweets.js")]
    receipt, said = told(lab, folder)
    assert len(tweets) == 356 and counts(receipt) == (356, 354, 0, 0, 2, 0) and receipt.loads[0]["declared"] == 356 and sound(lab)
    load = receipt.loads[0]
    assert (load["source"], load["scope"], load["owner_key"], load["exported_at"]) == ("x-archive", "own", "x:100000000", datetime(2025, 3, 25, 15, 50, 28, 142000))
    chains = [t["edit_info"]["edit"] for t in tweets if "edit" in t["edit_info"]]
    versions = {v: c["initialTweetId"] for c in chains for v in c["editControlInitial"]["editTweetIds"]}
    assert len(chains) == 2 and len(versions) == 4
    notes = {n["noteTweet"]["createdAt"][:19]: n["noteTweet"]["core"]["text"] for n in script(folder / "data/note-tweet.js")}
    assert len(notes) == 40
    newest = {versions.get(t["id_str"], t["id_str"]): t for t in sorted(tweets, key=lambda t: int(t["id_str"]))}
    expected = []
    for key, t in newest.items():
        parent, first = t.get("in_reply_to_status_id_str"), next(o for o in tweets if o["id_str"] == key)
        expected.append((f"x:{key}", "x:100000000", "share" if t["full_text"].startswith("RT @") else "post", moment(first["created_at"]),
                         plain(notes.get(moment(t["created_at"]).isoformat(), t["full_text"])), f"x:{versions.get(parent, parent)}" if parent else None,
                         f"x:{t['in_reply_to_user_id_str']}" if "in_reply_to_user_id_str" in t else None))
    assert sorted(lab.sql("select post_key, author_key, kind, created_at, text, reply_to_key, reply_to_account from post").rows(), key=repr) == sorted(expected, key=repr)
    assert one(lab, "select count(*) from post where text like 'long form%'") == sum(1 for r in expected if r[4].startswith("long form")) == 38
    assert "direct-messages.js" in said and "long texts" not in said


def test_a_real_archive_gives_the_numbers_of_the_catalogue(lab, shared):
    folder = shared / "twitter-archive-x"
    _, said = told(lab, folder)
    assert one(lab, "select count(*) from post where reply_to_account is not null") == 164
    assert one(lab, "select count(*) from post where reply_to_account is not null and reply_to_key is null") == 8
    assert one(lab, "select count(*) from post where reply_to_account = author_key") == 27 and one(lab, "select count(*) from post where kind = 'share'") == 44
    made = kinds(lab)
    assert made["like"] == 747 == len({e["like"]["tweetId"] for e in script(folder / "data/like.js")}) and made["follow"] == 141 + 365 and made["share"] == 44
    pairs = {(t["id_str"], m["id_str"]) for t in (e["tweet"] for e in script(folder / "data/tweets.js")) if not t["full_text"].startswith("RT @") for m in t["entities"]["user_mentions"] if m["id_str"] != "100000000"}
    assert made["mention"] == len(pairs)
    likes = sum(int(t["tweet"]["favorite_count"]) for t in script(folder / "data/tweets.js") if not t["tweet"]["full_text"].startswith("RT @"))
    assert one(lab, "select sum(n) from post_count where kind = 'like'") == likes and one(lab, "select count(distinct observed_at) from post_count") == 1
    assert "parent_time" not in made and "no time was taken from the ids" in said
    with pytest.raises(NotIdentifiable): tl.acknowledgement(lab)


def test_ids_of_real_posts_tell_their_time(lab, shared):
    posts = []
    for file in ("entities_test", "withheld", "flat", "2sets"):
        for line in (shared / "twitter-v2-twarc-csv/test-data" / f"{file}.jsonl").read_text().splitlines():
            page = json.loads(line)
            posts += page.get("data", [page] if "text" in page else []) if isinstance(page.get("data", []), list) else []
    posts = {p["id"]: p["created_at"] for p in posts}
    assert len(posts) > 900
    values = pl.DataFrame({"id": list(posts), "made": list(posts.values())})
    with lab.lent(values) as path:
        off = lab.sql(f"select id, {x_archive.snowflake('id')} as told, cast(made as timestamptz)::timestamp as made from read_parquet($p)", p=path)
    apart = [(t - m).total_seconds() if t else None for _, t, m in off.rows()]
    assert all(t == flake(i) for i, t, _ in off.rows() if t) and sum(a is not None and 0 <= a < 1 for a in apart) == sum(a is not None for a in apart) > 900
    assert all(m < datetime(2010, 11, 5) for _, t, m in off.rows() if t is None)


def test_the_smallest_archive(lab):
    receipt, said = told(lab, ARCHIVE)
    assert counts(receipt) == (18, 17, 0, 0, 1, 0) and receipt.loads[0]["declared"] == 18 and receipt.loads[0]["status"] == "complete" and sound(lab)
    assert "1 of 2 long texts" in said and "handle alone, without an id: 1" in said and "records" not in said
    rows = lab.sql("select left(text, 12), reply_to_account, reply_to_key, quote_of_key, kind from post where visibility = 'public' order by created_at").rows()
    asked, later = "x:1763489351070646273", "x:1763512000312246273"
    assert rows[:5] == [("@kim We are ", "x:6001", asked, None, "post"), ("@kim and it ", "x:5000", "x:1763491867653046273", None, "post"), ("@noa @lee th", "x:1400000000000000001", later, None, "post"),
                        ("@lee your po", "x:6002", None, None, "post"), ("@kim an answ", "x:6001", "x:25000000000", None, "post")]
    assert rows[5:8] == [("RT @Kim: acm", None, None, None, "share"), ("RT @stranger", None, None, None, "share"), ("Proud of thi", None, None, later, "post")]
    assert one(lab, "select text from post where post_key = 'x:1763491867653046273'") == "@kim We are on it <3"
    assert lab.sql("select distinct conversation_key from post where text like '@kim We%' or text like '@kim and%'").rows() == [(asked,)]


def test_an_edited_post_is_one_post(archive):
    lab = archive
    first, text, made, edited = lab.sql("select post_key, text, created_at, edited_at from post where text like 'Open%'").row(0)
    assert (text, made, edited) == ("Open on Sunday", datetime(2024, 3, 3, 8), datetime(2024, 3, 3, 8, 5))
    assert lab.sql("select reply_to_key, conversation_key from post where text like 'and on%'").rows() == [(first, first)]
    assert one(lab, "select n from post_count where post_key = $k and kind = 'like'", k=first) == 4


def test_long_texts_come_to_their_posts(archive):
    lab = archive
    assert one(lab, "select text from post where text like 'Dear all%'").endswith("what we learnt on the way.")


def test_acts_of_the_smallest_archive(archive):
    lab = archive
    assert kinds(lab) == {"delete": 1, "follow": 3, "like": 2, "mention": 6, "parent_time": 2, "reaction": 1, "share": 1}
    assert lab.sql("select actor_key, value, i.occurred_at, date_diff('second', i.occurred_at, p.created_at) from interaction i join post p using (post_key) where i.kind = 'parent_time' order by all").rows() == [
        ("x:1400000000000000001", "x:1763512000312246273", datetime(2024, 3, 1, 10, 30), 3600), ("x:6001", "x:1763489351070646273", datetime(2024, 3, 1, 9), 600)]
    assert lab.sql("select count(*), count(occurred_at) from interaction where kind in ('like', 'follow')").rows() == [(5, 0)]
    assert lab.sql("select target_key from interaction where kind = 'share'").rows() == [("x:6001",)] and one(lab, "select count(*) from account where account_key like '%-1'") == 0
    assert lab.sql("select account_key, handle, url, placeholder from account where handle in ('acme', 'noa') order by handle").rows() == [("x:5000", "acme", "https://acme.example/", False), ("x:1400000000000000001", "noa", None, True)]


def test_direct_messages_have_both_sides_and_stay_apart(archive):
    lab = archive
    rows = lab.sql("select post_key, author_key, reply_to_account, kind, text, conversation_key, created_at from post where visibility = 'direct' order by created_at").rows()
    assert rows[:2] == [("x:dm:900", "x:6001", "x:5000", "post", "My number is 5", "x:dm:5000-6001", datetime(2024, 3, 1, 12, 0, 0, 250000)),
                        ("x:dm:901", "x:5000", "x:6001", "post", "Here you are & sorry", "x:dm:5000-6001", datetime(2024, 3, 1, 12, 4, 0, 500000))]
    assert [(r[1], r[2], r[3]) for r in rows[2:]] == [("x:6002", None, "service"), ("x:6002", None, "post")]
    assert set(lab.sql("select why_not from inbound where eligible is false")["why_not"]) <= {"one_side_only", "by_brand"} and one(lab, "select count(*) from inbound where eligible") == 0


def test_what_is_not_needed_is_not_kept(tmp_path):
    with Lab(tmp_path / "lab.duckdb") as lab: lab.load(ARCHIVE)
    kept = (tmp_path / "lab.duckdb").read_bytes()
    assert b"box@acme" not in kept and b"316000" not in kept and "box@acme" in (ARCHIVE / "data/account.js").read_text()


def packed(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for file in sorted(f for f in folder.rglob("*") if f.is_file()): z.write(file, prefix + file.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("source", [ARCHIVE, API], ids=["archive", "api"])
def test_zip_folder_prefix_and_tar_are_the_same_export(tmp_path, source):
    if source == API: source = Path(shutil.copy(API / "pages.jsonl", Path(shutil.copytree(API, tmp_path / "api", ignore=lambda *_: ["statuses.json", "table.csv"])))).parent
    shutil.copytree(source, tmp_path / "deep" / "my files [1]")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar: tar.add(source, arcname=".")
    seen = []
    for way in [source, packed(source, tmp_path / "nested.zip", "a/b [2]/"), tmp_path / "deep", *([tmp_path / "x.tar.gz"] if source == ARCHIVE else [])]:
        with Lab() as lab:
            assert lab.load(way).stored > 0, way
            seen.append(stored(lab))
            if way == source: assert lab.load(way).stored == 0 and stored(lab) == seen[0] and sound(lab)
    assert all(s == seen[0] for s in seen)


def remade(folder, **changed):
    "A copy of the small archive with some scripts changed: a value, text, bytes, or None to leave one out"
    shutil.copytree(ARCHIVE, folder)
    for name, content in changed.items():
        file = folder / "data" / (name.replace("_", "-") + ".js")
        if content is None: file.unlink()
        elif isinstance(content, bytes): file.write_bytes(content)
        else: file.write_text(f"window.YTD.{re.sub('_part[0-9]+$', '', name)}.part0 = {json.dumps(content)}")
    return folder


def test_parts_need_not_be_in_order_and_a_missing_one_is_told(lab, tmp_path):
    receipt, said = told(lab, remade(tmp_path / "a", tweets_part1=None))
    assert receipt.read == 14 and "the manifest names files that are not here: data/tweets-part1.js" in said and "it holds 18 records, 14 were found" in said


def test_a_cut_part_keeps_what_stands_before_the_cut(lab, tmp_path):
    whole = (ARCHIVE / "data/tweets-part1.js").read_bytes()
    at = whole.index(b'"RT @Kim') if b'"RT @Kim' in whole else 0
    last = whole.rindex(b'{"tweet"')
    receipt, said = told(lab, remade(tmp_path / "a", tweets_part1=whole[:last + 400]))
    assert at and counts(receipt) == (18, 16, 0, 0, 1, 1) and codes(lab) == {"cut_off": 1} and receipt.loads[0]["status"] == "partial"
    member, offset, raw = lab.sql("select member, byte_offset, raw from reject").row(0)
    assert member == "data/tweets-part1.js" and whole[offset:last + 400] == raw and offset == last


def test_a_cut_list_of_likes_is_told_and_no_post_is_lost(lab, tmp_path):
    receipt, said = told(lab, remade(tmp_path / "a", like=(ARCHIVE / "data/like.js").read_bytes()[:-20]))
    assert receipt.stored == 17 and receipt.rejected == 1 and kinds(lab)["like"] == 1 and "data/like.js: the manifest says 2 records, 1 were found" in said and "it holds" not in said


def base(n, **more): return {"tweet": {"id_str": str(1763489351070646273 + (n << 30)), "created_at": f"Fri Mar 01 09:00:{n:02} +0000 2024", "full_text": f"number {n}", "entities": {}} | more}


def test_a_bad_record_between_good_ones_never_becomes_one(lab, tmp_path):
    bad = [5, None, [], "text", {}, {"tweet": None}, {"tweet": {"full_text": "no id", "created_at": "Fri Mar 01 09:00:00 +0000 2024"}}, base(20, id_str="-1", id="-1"), base(21, id_str=None, id=1763489351070646273),
           base(22, created_at=None), base(23, created_at="yesterday"), base(24, created_at="Fri Mar 01 09:00:00 +0000 1999"), base(25, created_at="2024-03-01 09:00:00 +0000")]
    mixed = [e for n, b in enumerate(bad) for e in (base(n), b)] + [base(19)]
    receipt, _ = told(lab, remade(tmp_path / "a", tweets=mixed, tweets_part1=None, tweets_part2=None))
    assert receipt.rejected == 12 and codes(lab) == {"not_an_object": 4, "missing_id": 4, "id_not_exact": 1, "missing_created_at": 1, "bad_time": 1, "timestamp_out_of_range": 1}
    assert one(lab, "select count(*) from post where text like 'number %'") == 15 and sound(lab)
    assert receipt.read == len(mixed) + 2 + 2 + 2 == sum(counts(receipt)[1:])
    assert one(lab, "select created_at from post where text = 'number 25'") == datetime(2024, 3, 1, 9)


def test_a_key_that_all_posts_lack_is_another_format(lab, tmp_path):
    only = {n: None for n in ("tweets_part1", "tweets_part2", "community_tweet", "deleted_tweets", "direct_messages", "direct_messages_group")}
    drifted = [{"tweet": {k if k != "created_at" else "madeAt": v for k, v in base(n)["tweet"].items()}} for n in range(3)]
    with pytest.raises(InvalidExport, match="no record has created_at; the format may have changed"): lab.load(remade(tmp_path / "a", tweets=drifted, **only))
    with pytest.raises(InvalidExport, match="no records in it"): lab.load(remade(tmp_path / "b", tweets=[], **only))
    receipt, said = told(lab, remade(tmp_path / "c", tweets=[base(1, newThing=1)], **only))
    assert "keys of posts that are not understood: newThing" in said and receipt.stored == 1


@pytest.mark.parametrize("change", [lambda b: b"\xef\xbb\xbf" + b, lambda b: b.replace(b"\n", b"\r\n"), lambda b: json.dumps(json.loads(b[b.index(b"["):])).encode().join([b"window.YTD.tweets.part0=", b";"]),
                                    lambda b: b + b";\n"], ids=["mark", "crlf", "one line", "semicolon"])
def test_every_dress_of_a_script_is_read_alike(lab, archive, tmp_path, change):
    lab.load(remade(tmp_path / "a", tweets=change((ARCHIVE / "data/tweets.js").read_bytes())))
    assert stored(lab) == stored(archive)


def test_what_is_not_utf8_or_no_script_is_rejected_with_its_bytes(lab, tmp_path):
    odd = b'window.YTD.tweets.part0 = [' + json.dumps(base(1)).encode() + b',' + json.dumps(base(2)).replace("number", "caf\xe9").encode("latin-1").replace(b"\\u00e9", b"\xe9") + b',' + json.dumps(base(3)).encode() + b']'
    receipt, _ = told(lab, remade(tmp_path / "a", tweets=odd, tweets_part2=b"<html>not found</html>"))
    assert codes(lab) == {"bad_utf8": 1, "cut_off": 1} and one(lab, "select raw from reject where code = 'cut_off'") == b"<html>not found</html>"
    assert one(lab, "select count(*) from post where text in ('number 1', 'number 3')") == 2 and b"caf\xe9" in one(lab, "select raw from reject where code = 'bad_utf8'")


def test_archives_of_2018_and_of_before(tmp_path):
    tweets = [t["tweet"] for name in ("tweets", "tweets-part1", "tweets-part2") for t in script(ARCHIVE / f"data/{name}.js")]
    for t in tweets: t.pop("edit_info")
    middle, old = tmp_path / "middle", tmp_path / "old"
    for folder in (middle, old / "data/js/tweets"): folder.mkdir(parents=True)
    (middle / "tweet.js").write_text("window.YTD.tweet.part0 = " + json.dumps([{"tweet": t} for t in tweets]))
    (middle / "account.js").write_text((ARCHIVE / "data/account.js").read_text())
    user = {"id": 5000, "id_str": "5000", "screen_name": "acme", "name": "Acme Boxes"}
    bare = [{k: v for k, v in t.items() if k not in ("full_text", "favorite_count", "id")} | {"text": t["full_text"], "user": user, "id": int(t["id_str"])} for t in tweets]
    shared = next(t for t in bare if t["text"].startswith("RT @stranger"))
    shared["retweeted_status"] = {"id_str": "1", "text": "hello", "user": {"id_str": "8001", "screen_name": "stranger"}}
    (old / "data/js/tweets/2024_03.js").write_text("Grailbird.data.tweets_2024_03 = \n " + json.dumps(bare[5:]))
    (old / "data/js/tweets/2024_02.js").write_text("Grailbird.data.tweets_2024_02 = \n " + json.dumps(bare[:5]))
    (old / "data/js/tweet_index.js").write_text("var tweet_index = " + json.dumps([{"file_name": "data/js/tweets/2024_03.js", "tweet_count": len(bare) - 5}, {"file_name": "data/js/tweets/2024_02.js", "tweet_count": 5}]))
    (old / "data/js/payload_details.js").write_text('var payload_details = {"tweets": 12, "created_at": "2024-03-06 10:00:00 +0000", "lang": "en"}')
    with Lab() as one_lab, Lab() as two:
        a, (b, said) = one_lab.load(middle), told(two, old)
        assert counts(a) == counts(b) == (12, 12, 0, 0, 0, 0) and b.loads[0]["declared"] == 12 and b.loads[0]["exported_at"] == datetime(2024, 3, 6, 10) and "keys" not in said
        assert a.loads[0]["owner_key"] == b.loads[0]["owner_key"] == "x:5000" and sound(two)
        query = "select * exclude (load_id, record) from post order by post_key"
        assert one_lab.sql(query).rows() == two.sql(query).rows() and kinds(one_lab)["share"] == 1 and kinds(two)["share"] == 2
        assert "x:8001" in two.sql("select target_key from interaction where kind = 'share'")["target_key"]


def test_an_archive_that_does_not_say_whose_it_is(lab, tmp_path):
    (tmp_path / "tweets.js").write_text((ARCHIVE / "data/tweets.js").read_text())
    receipt, said = told(lab, tmp_path)
    assert receipt.stored == 5 and "nothing says whose archive this is" in said and one(lab, "select count(author_key) from post") == 0 and sound(lab)
    assert lab.load(ARCHIVE).changed == 5 and one(lab, "select count(*) from post where author_key is null") == 0


def test_an_old_id_counted_one_by_one_gives_no_time(archive):
    lab = archive
    assert one(lab, "select count(*) from post where reply_to_key = 'x:25000000000'") == 1 and one(lab, "select count(*) from interaction where value = 'x:25000000000'") == 0


def test_odd_conversations_are_kept_or_rejected_never_lost(lab, tmp_path):
    good = {"messageCreate": {"id": "5", "senderId": "7", "recipientId": "5000", "createdAt": "2024-03-01T10:00:00.000Z", "text": "hi", "reactions": "many"}}
    odd = [5, {}, {"dmConversation": None}, {"dmConversation": {"conversationId": "a", "messages": "none"}}, {"dmConversation": {"conversationId": "a", "messages": []}},
           {"dmConversation": {"messages": [good]}}, {"dmConversation": {"conversationId": "b", "messages": [good, 7, {}, {"messageCreate": 3}, {"messageCreate": {"id": "6"}}, {"messageCreate": {"id": "7", "createdAt": "soon"}}]}}]
    receipt, _ = told(lab, remade(tmp_path / "a", direct_messages=odd, direct_messages_group=[]))
    assert codes(lab) == {"not_a_message": 8, "missing_created_at": 1, "bad_time": 1} and one(lab, "select count(*) from post where visibility = 'direct'") == 1 and sound(lab)


# ---- results of the interface

def pages(path):
    "The JSON lines of a file that Python can read"
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try: yield json.loads(line)
        except ValueError: continue


def inside(page):
    "Every post in a page or a flattened post, with repeats"
    if "data" in page or "includes" in page:
        data = page.get("data", [])
        yield from (t for t in (data if isinstance(data, list) else [data]) if "text" in t)
        yield from page.get("includes", {}).get("tweets", [])
        return
    yield {k: v for k, v in page.items() if k != "type"}
    for r in page.get("referenced_tweets", []):
        if "text" in r: yield from inside(r)


def reference(t, kind): return next((r["id"] for r in t.get("referenced_tweets", []) if r["type"] == kind), None)


@pytest.mark.parametrize("name", ["entities_test", "withheld", "flat", "2sets", "streaming_output_with_error", "users", "quoted_edit"])
def test_real_results_are_read_to_the_last_post(real, shared, name):
    lab = real(name)
    path = shared / "twitter-v2-twarc-csv/test-data" / f"{name}.jsonl"
    every = [t for page in pages(path) for t in inside(page)]
    first = {v: t["edit_history_tweet_ids"][0] for t in every for v in t.get("edit_history_tweet_ids", [])}
    key = lambda id: f"x:{first.get(id, id)}" if id else None
    newest = {key(t["id"]): t for t in sorted(every, key=lambda t: int(t["id"]))}
    read, stored_, duplicate, rejected = lab.sql("select read, stored, duplicate, rejected from load").row(0)
    assert read == len(every) + rejected and stored_ == len(newest) and duplicate == len(every) - len(newest) and rejected == (name == "streaming_output_with_error") and sound(lab)
    expected = [(k, f"x:{t['author_id']}", "share" if reference(t, "retweeted") else "post", plain(t["text"]), key(reference(t, "replied_to")), key(reference(t, "quoted")),
                 f"x:{t['in_reply_to_user_id']}" if "in_reply_to_user_id" in t else None) for k, t in newest.items()]
    rows = lab.sql("select p.post_key, p.author_key, p.kind, p.text, p.reply_to_key, p.quote_of_key, p.reply_to_account, q.author_key as other from post p left join post q on q.post_key = p.reply_to_key").rows()
    assert sorted((r[:6] for r in rows), key=repr) == sorted((e[:6] for e in expected), key=repr)
    named = {e[0]: e[6] for e in expected}
    assert all(r[6] == (named[r[0]] or r[7]) for r in rows)
    times = dict(lab.sql("select post_key, created_at from post where edited_at is null").rows())
    assert times and all(times[k] == datetime.fromisoformat(t["created_at"].replace("Z", "")) for k, t in newest.items() if k in times)
    assert lab.load(path).stored == 0


def test_known_numbers_of_the_real_results(real, shared):
    lab, folder = real("entities_test"), shared / "twitter-v2-twarc-csv/test-data"
    said, made = lab.sql("select notes, exported_at from load").row(0)
    (page,) = pages(folder / "entities_test.jsonl")
    absent = {e["resource_id"] for e in page["errors"] if e["resource_type"] == "tweet"}
    assert len(page["data"]) == 474 and len(page["errors"]) == 11 and len(absent) == 6 and "cannot be had (deleted, or closed to the reader): 6;" in said
    assert set(lab.sql("select post_key from interaction where kind = 'absent'")["post_key"]) == {f"x:{i}" for i in absent} and made == datetime(2023, 1, 8, 23, 2, 38)
    assert not set(lab.sql("select post_key from post")["post_key"]) & {f"x:{i}" for i in absent}
    people = {u["id"]: u for u in page["includes"]["users"]}
    assert set(lab.sql("select account_key, handle, display_name from account where not placeholder").rows()) == {(f"x:{u['id']}", u["username"], u["name"]) for u in people.values()}
    counted = {t["id"]: t["public_metrics"] for t in inside(page) if not reference(t, "retweeted")}
    assert dict(lab.sql("select kind, sum(n)::bigint from post_count group by kind").rows())["like"] == sum(m["like_count"] for m in counted.values())
    wanted = {(t["id"], reference(t, "replied_to")) for t in inside(page) if reference(t, "replied_to")}
    held = {t["id"] for t in inside(page)}
    assert set(lab.sql("select post_key, value, occurred_at from interaction where kind = 'parent_time'").rows()) == {(f"x:{i}", f"x:{p}", flake(p)) for i, p in wanted if p not in held}


def test_references_that_the_real_results_lack(real, shared):
    lab = real("withheld")
    path = shared / "twitter-v2-twarc-csv/test-data/withheld.jsonl"
    said = lab.sql("select notes from load")["notes"][0]
    listed = [page["data"] if isinstance(page["data"], list) else [page["data"]] for page in pages(path)]
    asked = [r["id"] for data in listed for t in data for r in t.get("referenced_tweets", [])]
    beside = {t["id"] for page in pages(path) for t in page["includes"].get("tweets", [])}
    assert len(asked) == 153 and sum(r not in beside for r in asked) == 67
    held = {t["id"] for page in pages(path) for t in inside(page)}
    open_ = {t["id"] for page in pages(path) for t in inside(page) if reference(t, "replied_to") and reference(t, "replied_to") not in held}
    assert one(lab, "select count(*) from post p where reply_to_key is not null and not exists (select 1 from post q where q.post_key = p.reply_to_key)") == len(open_) > 20
    assert "they say 500 and hold 112" in said and "withheld in some country, whose text can be missing: 14" in said


@pytest.mark.parametrize("name", ["brexit", "entities_test"])
def test_flat_and_not_flat_give_the_same_store(lab, real, tmp_path, shared, name):
    (page,) = pages(shared / "twitter-v2-twarc-csv/test-data" / f"{name}.jsonl")
    users, beside = {u["id"]: u for u in page["includes"]["users"]}, {t["id"]: t for t in page["includes"]["tweets"]}
    by_name = {u["username"]: u for u in users.values()}

    def whole(t, deep=True):
        t = json.loads(json.dumps(t)) | ({"author": users[t["author_id"]]} if t["author_id"] in users else {})
        if t.get("in_reply_to_user_id") in users: t["in_reply_to_user"] = users[t["in_reply_to_user_id"]]
        for m in t.get("entities", {}).get("mentions", []): m |= by_name.get(m["username"], {})
        if deep and "referenced_tweets" in t: t["referenced_tweets"] = [r | (whole(beside[r["id"]], False) if r["id"] in beside else {}) for r in t["referenced_tweets"]]
        return t

    flat = [whole(t) | {"__twarc": page["__twarc"]} for t in page["data"]]
    (tmp_path / "flat.jsonl").write_text("\n".join(map(json.dumps, flat)))
    named = {t["id"] for t in page["data"]} | {r["id"] for t in page["data"] for r in t.get("referenced_tweets", [])}
    pages_, _ = real(name), lab.load(tmp_path / "flat.jsonl")
    query = "select * exclude (load_id, record) from post order by post_key"
    left = [r for r in pages_.sql(query).rows() if r[0][2:] in named]
    assert len(left) > 100 and left == lab.sql(query).rows()
    acts = "select kind, actor_key, post_key, target_key, occurred_at from interaction where kind in ('share', 'mention') order by all"
    assert [r for r in pages_.sql(acts).rows() if r[2][2:] in named] == lab.sql(acts).rows()
    assert set(lab.sql("select account_key, handle from account where not placeholder").rows()) <= set(pages_.sql("select account_key, handle from account").rows())


@pytest.mark.parametrize("order", [("before", "after"), ("after", "before")])
def test_a_real_edited_post_is_one_whenever_it_was_pulled(lab, shared, order):
    for name in order: lab.load(shared / "twitter-v2-twarc-csv/test-data" / f"edited_{name}.jsonl")
    assert lab.sql("select post_key, created_at, edited_at, left(text, 6) from post").rows() == [("x:1576994746135764992", datetime(2022, 10, 3, 17, 57, 1), datetime(2022, 10, 3, 17, 57, 11), "hey :)")]
    assert sorted({n for n, in lab.sql("select n from post_count where kind = 'like'").rows()})[-1] >= 32


def test_old_statuses_are_joined_by_their_text_ids(lab, shared):
    (statuses,) = [json.loads((shared / "twitter-api-v1-dogsheep/tweets.json").read_text())]
    receipt = lab.load(shared / "twitter-api-v1-dogsheep/tweets.json")
    every = [s for t in statuses for s in (t, t.get("retweeted_status"), t.get("quoted_status"), (t.get("retweeted_status") or {}).get("quoted_status")) if s]
    assert len(statuses) == 3 and receipt.read == len(every) and set(lab.sql("select post_key from post")["post_key"]) == {f"x:{s['id_str']}" for s in every}
    assert any(str(s["id"]) != s["id_str"] for s in every)
    assert dict(lab.sql("select post_key, reply_to_key from post where reply_to_key is not null").rows()) == {f"x:{s['id_str']}": f"x:{s['in_reply_to_status_id_str']}" for s in every if s.get("in_reply_to_status_id_str")}
    assert dict(lab.sql("select post_key, created_at from post").rows()) == {f"x:{s['id_str']}": moment(s["created_at"]) for s in every}
    assert set(lab.sql("select account_key, handle from account where not placeholder").rows()) == {(f"x:{s['user']['id_str']}", s["user"]["screen_name"]) for s in every} and sound(lab)


def test_old_search_results_on_pages(lab, shared):
    folder = shared / "perceval-fixtures/twitter"
    statuses = json.loads((folder / "tweets.json").read_text())["statuses"]
    every = [s for t in statuses for s in (t, t.get("retweeted_status"), t.get("quoted_status"), (t.get("retweeted_status") or {}).get("quoted_status")) if s]
    receipt = lab.load(folder / "tweets.json")
    assert receipt.read == len(every) and receipt.stored == len({s["id_str"] for s in every}) and one(lab, "select count(*) from post where kind = 'share'") == len({t["id_str"] for t in every if "retweeted_status" in t})
    pages_ = lab.load(folder / "tweets_page_1.json", folder / "tweets_page_2.json")
    assert len(pages_.loads) == 2 and pages_.rejected == 0 and sound(lab)


def test_what_holds_no_post_is_not_taken_for_an_export(lab, shared):
    folder = shared / "twitter-v2-twarc-csv/test-data"
    for name in ("counts.jsonl", "lists.jsonl"):
        with pytest.raises(UnknownSource): lab.load(folder / name)
    with pytest.raises(InvalidExport, match="empty"): lab.load(folder / "empty.json")
    with pytest.raises(UnknownSource): lab.load(shared / "perceval-fixtures/twitter/tweets_page_3.json")


def test_deletions_are_events_and_watch_nothing(lab, shared):
    folder = shared / "twitter-v2-twarc-csv/test-data"
    a, b = lab.load(folder / "tweets_compliance.jsonl"), lab.load(folder / "users_compliance.jsonl")
    assert counts(a) == (2, 2, 0, 0, 0, 0) and counts(b) == (2, 1, 0, 0, 1, 0) and {r.loads[0]["scope"] for r in (a, b)} == {"own"}
    assert lab.sql("select kind, author_key, created_at from post where post_key = 'x:delete:1170147183095664640'").rows() == [("service", None, datetime(2021, 8, 17, 17, 26, 15, 788000))]
    assert lab.sql("select post_key, value from interaction where kind = 'delete' order by all").rows()[0] == ("x:1170025343920402432", "protected") and sound(lab)


def test_whose_side_a_real_pull_is(real, shared):
    sides = [real(name).sql("select scope, owner_key from load").row(0) for name in ("media_policy_violation_on", "brexit")]
    assert sides == [("own", "x:250858058"), ("both", None)]


def test_the_smallest_pages(lab):
    receipt, said = told(lab, API / "pages.jsonl", brand="acme")
    assert counts(receipt) == (16, 12, 0, 0, 4, 0) and receipt.loads[0]["scope"] == "both" and receipt.loads[0]["exported_at"] == datetime(2024, 3, 2, 10, 0, 5) and sound(lab)
    assert "closed to the reader): 1;" in said and "next" not in said
    assert lab.sql("select text, visibility, edited_at from post where author_key in ('x:6002', 'x:6005') order by created_at").rows() == [
        ("@acme and mine?", "public", None), ("@acme hello?", "public", datetime(2024, 3, 1, 14, 2)), ("@acme only my friends read this", "followers", None)]
    assert one(lab, "select text from post where text like 'The start%'") == "The start of a long text & its end"
    assert lab.sql("select handle, kind, url from account where account_key = 'x:5000'").rows() == [("acme", "organization", "https://acme.example/")]
    assert kinds(lab) == {"absent": 1, "mention": 8, "parent_time": 1, "share": 1} and one(lab, "select n from post_count where kind = 'impression' limit 1") == 10
    assert lab.sql("select quote_of_key from post where quote_of_key is not null").rows() == [("x:1763527099806646273",)]


def test_an_answer_to_an_edited_version_answers_the_post(small):
    lab = small
    assert lab.sql("select q.text, a.seconds from answer a join post q using (post_key) where q.text like '%hello?'").rows() == [("@acme hello?", 1920.0)]


def test_acknowledgement_of_the_smallest_pages_by_hand(small):
    lab = small
    rows = lab.sql("select p.text, a.seconds from inbound i join post p using (post_key) left join answer a using (post_key) where i.eligible order by p.created_at").rows()
    assert rows == [("@acme where is it?", 600.0), ("@acme so slow & so quiet", 3600.0), ("@acme and mine?", None), ("@acme hello?", 1920.0), ("@acme only my friends read this", None)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        row = tl.acknowledgement(lab, within=("15m", "1h"), unit="post").frame.row(0, named=True)
    assert (row["n"], row["acknowledged"], row["pending"], row["response_rate"]) == (5, 3, 2, 0.6)
    assert round(row["ack_15m"], 12) == 0.2 and round(row["ack_1h"], 12) == 0.6


def test_the_smallest_statuses(lab):
    receipt = lab.load(API / "statuses.json")
    assert counts(receipt) == (6, 4, 0, 0, 1, 1) and codes(lab) == {"id_not_exact": 1} and sound(lab)
    assert lab.sql("select kind, reply_to_key, reply_to_account, quote_of_key from post order by created_at").rows() == [
        ("post", None, None, None), ("post", "x:1123497280926646273", "x:6001", None), ("share", None, None, None), ("post", None, None, "x:1123502314091446273")]
    assert lab.sql("select distinct conversation_key from post where author_key in ('x:5000', 'x:6001')").rows() == [("x:1123497280926646273",)]
    assert lab.sql("select actor_key, target_key from interaction where kind = 'share'").rows() == [("x:6002", "x:6001")]


def test_the_table_says_what_the_pages_say(lab, small):
    receipt = lab.load(API / "table.csv")
    assert counts(receipt) == (7, 7, 0, 0, 0, 0) and sound(lab) and receipt.loads[0]["exported_at"] == datetime(2024, 3, 2, 10)
    query = "select post_key, author_key, kind, created_at, conversation_key, reply_to_key, reply_to_account, quote_of_key, visibility from post where created_at < '2024-03-01 13:30' and author_key <> 'x:6002' order by post_key"
    assert lab.sql(query).rows() == small.sql(query).rows()
    acts = "select kind, actor_key, target_key, occurred_at from interaction where kind = 'share' or kind = 'parent_time' order by all"
    assert lab.sql(acts).rows() == small.sql(acts).rows()
    assert one(lab, "select text from post where author_key = 'x:6001'") == "@acme where\nis it?"


def table(folder, change=lambda rows: rows, name="t.csv", write=None):
    "The small table with its rows (dicts) changed"
    rows = list(csv.DictReader(io.StringIO((API / "table.csv").read_text())))
    header, rows = list(rows[0]), change(rows)
    out = io.StringIO()
    w = csv.DictWriter(out, header)
    w.writeheader()
    w.writerows(rows)
    (folder / name).write_bytes((write or (lambda t: t.encode()))(out.getvalue()))
    return folder / name


def changed(**columns):
    def change(rows):
        for r in rows: r |= {k.replace("__", "."): f(r[k.replace("__", ".")]) for k, f in columns.items()}
        return rows
    return change


def test_ids_that_a_tool_wrote_as_floats_are_whole_again(lab, table_lab, tmp_path):
    whole = table(tmp_path, changed(in_reply_to_user_id=lambda v: v and v + ".0", author_id=lambda v: v + ".0"))
    lab.load(whole)
    assert stored(lab) == stored(table_lab)


def test_ids_that_a_spreadsheet_rounded_are_refused(lab, tmp_path):
    with pytest.raises(InvalidExport): lab.load(table(tmp_path, changed(id=lambda v: f"{int(v):.5E}")))
    with pytest.raises(InvalidExport): lab.load(table(tmp_path, changed(id=lambda v: v[:15] + "0" * (len(v) - 15))))
    assert one(lab, "select count(*) from post") == 0
    one_bad = table(tmp_path, lambda rows: [r | {"id": f"{int(r['id']):.5E}"} if n == 2 else r for n, r in enumerate(rows)], name="one.csv")
    receipt = lab.load(one_bad)
    line, raw = lab.sql("select line, raw from reject").row(0)
    assert counts(receipt) == (7, 6, 0, 0, 0, 1) and codes(lab) == {"id_not_exact": 1} and line == 4 and raw.startswith(b"1.76351E+18")
    receipt, said = told(lab, table(tmp_path, changed(**{"referenced_tweets__replied_to__id": lambda v: v and f"{int(v):.5E}"}), name="links.csv"))
    assert "name their parent by a number that lost digits: 3" in said


def test_the_table_in_other_dresses(table_lab, tmp_path):
    dressed = [table(tmp_path, name="bom.csv", write=lambda t: b"\xef\xbb\xbf" + t.encode()), table(tmp_path, name="utf16.csv", write=lambda t: t.encode("utf-16")),
               table(tmp_path, changed(text=lambda v: json.dumps(v.replace("\\n", "\n"))), name="json.csv")]
    for path in dressed:
        with Lab() as lab:
            lab.load(path)
            assert stored(lab) == stored(table_lab), path.name


def test_bad_rows_of_the_table_are_kept_with_their_place(lab, tmp_path):
    def spoil(rows):
        rows[1]["created_at"], rows[3]["id"] = "yesterday", ""
        return rows
    path = table(tmp_path, spoil)
    lines = path.read_bytes().split(b"\r\n")
    path.write_bytes(b"\r\n".join([*lines[:5], b"too,few", *lines[5:]]))
    receipt = lab.load(path)
    assert counts(receipt) == (8, 5, 0, 0, 0, 3) and codes(lab) == {"bad_time": 1, "missing_id": 1, "wrong_number_of_columns": 1} and sound(lab)
    rows = lab.sql("select code, line, byte_offset, raw from reject order by line").rows()
    whole = path.read_bytes()
    assert [(c, n) for c, n, _, _ in rows] == [("bad_time", 3), ("missing_id", 5), ("wrong_number_of_columns", 6)] and all(whole[at:at + len(raw)] == raw for _, _, at, raw in rows)


def lines(folder, *docs, name="t.jsonl"):
    (folder / name).write_bytes(b"\n".join(d if isinstance(d, bytes) else json.dumps(d).encode() for d in docs) + b"\n")
    return folder / name


def flat(n, **more): return {"id": str(1763489351070646273 + (n << 30)), "text": f"number {n}", "author_id": str(n % 3 + 1), "created_at": "2024-03-01T09:00:00.000Z"} | more


def test_a_bad_line_between_good_ones_never_becomes_a_post(lab, tmp_path):
    bad = [b'{"id": "17', b'{"id": "1", "text": "caf\xe9", "author_id": "1"}', b"[1, 2]", b"5", b'"text"', b"null", {"nothing": 1}, flat(20, id=None), flat(21, id=1763489351070646273), flat(22, text=None), flat(23, created_at="yesterday"),
           flat(24, created_at="1999-03-01T09:00:00.000Z"), b'{"id": "1", "id": "2", "text": "two"}', flat(25, created_at="2024-03-01T11:00:00+02:00")]
    path = lines(tmp_path, *(d for n, b in enumerate(bad) for d in (flat(n), b)), b"", flat(19))
    receipt = lab.load(path)
    assert codes(lab) == {"bad_json": 1, "bad_utf8": 1, "not_an_object": 4, "not_a_post": 1, "missing_id": 1, "id_not_exact": 1, "missing_text": 1, "bad_time": 1, "timestamp_out_of_range": 1, "duplicate_key": 1}
    assert counts(receipt) == (29, 16, 0, 0, 0, 13) and sound(lab) and one(lab, "select created_at from post where text = 'number 25'") == datetime(2024, 3, 1, 9)
    whole = path.read_bytes()
    assert all(whole[at:at + 10] == raw[:10] for at, raw in lab.sql("select byte_offset, raw from reject where code in ('bad_json', 'bad_utf8', 'duplicate_key')").rows())


def test_a_post_without_a_time_has_that_of_its_id(lab, tmp_path):
    lab.load(lines(tmp_path, {k: v for k, v in flat(1).items() if k != "created_at"}, flat(2)))
    assert lab.sql("select created_at, created_basis from post order by post_key").rows() == [(flake(flat(1)["id"]).replace(), "id"), (datetime(2024, 3, 1, 9), "utc")]


def test_a_bad_first_record_does_not_hide_the_format(lab, tmp_path):
    assert lab.load(lines(tmp_path, b'{"data": [{"id": "17', flat(1), flat(2))).stored == 2
    assert lab.load(lines(tmp_path, {"errors": [{"title": "operational-disconnect"}]}, flat(3), name="u.jsonl")).stored == 1


def test_pages_in_every_layout(small, tmp_path):
    first, second = pages(API / "pages.jsonl")
    ways = {"array.json": json.dumps([first, second]), "pretty-array.json": json.dumps([first, second], indent=2), "mark.jsonl": "\ufeff" + (API / "pages.jsonl").read_text()}
    for name, text in ways.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        with Lab() as lab:
            lab.load(tmp_path / name)
            assert stored(lab) == stored(small), name
    (tmp_path / "one.json").write_text(json.dumps(first, indent=2))
    (tmp_path / "one.jsonl").write_text(json.dumps(first))
    with Lab() as a, Lab() as b:
        a.load(tmp_path / "one.json")
        b.load(tmp_path / "one.jsonl")
        assert stored(a) == stored(b)


def test_pages_in_several_batches_are_the_same_pages(small, lab, monkeypatch):
    whole = x_api.batches
    monkeypatch.setattr(x_api, "batches", lambda rows: whole(rows, 100))
    assert sum(len(list(b)) for b in whole(x_api.documents(lambda: (API / "pages.jsonl").open("rb"), "pages.jsonl", []), 100)) == 2
    lab.load(API / "pages.jsonl")
    assert stored(lab) == stored(small)


def test_one_object_that_breaks_off_gives_the_posts_before_the_break(lab, tmp_path):
    first, _ = pages(API / "pages.jsonl")
    text = json.dumps(first, indent=2)
    (tmp_path / "cut.json").write_text(text[: text.index("@max")])
    receipt, said = told(lab, tmp_path / "cut.json")
    assert counts(receipt) == (5, 4, 0, 0, 0, 1) and codes(lab) == {"cut_off": 1} and "breaks off" in said
    (tmp_path / "statuses.json").write_text((API / "statuses.json").read_text()[:-40])
    assert lab.load(tmp_path / "statuses.json").loads[0]["status"] == "partial"


def test_files_of_posts_that_changed_their_keys_are_refused(lab, tmp_path):
    path = lines(tmp_path, *({"id": flat(n)["id"], "author_id": "1", "full": "x", "public_metrics": {}} for n in range(3)), flat(9, id_=1) | {"id": None})
    with pytest.raises(TrustlabError): lab.load(path)
    assert one(lab, "select count(*) from post") == 0
    receipt, said = told(lab, lines(tmp_path, flat(1, brand_new=1), name="new.jsonl"))
    assert "keys of posts that are not understood: brand_new" in said and receipt.stored == 1


def test_archive_and_results_meet_on_one_key(lab):
    lab.load(ARCHIVE, brand="acme")
    assert one(lab, "select count(*) from inbound where eligible") == 0
    before = one(lab, "select count(*) from post")
    receipt = lab.load(API / "pages.jsonl")
    ours, both = {k for k, in lab.sql("select post_key from post where author_key = 'x:5000'").rows()}, ("x:1763491867653046273", "x:1763527099806646273")
    assert receipt.stored == 12 - 2 and receipt.same + receipt.changed == 2 and one(lab, "select count(*) from post") == before + 10 and set(both) <= ours and sound(lab)
    assert lab.sql("select seconds from answer where reply_key in $keys order by all", keys=list(both)).rows() == [(600.0,), (3600.0,)]
    assert one(lab, "select count(*) from interaction where kind = 'mention' and post_key = 'x:1763491867653046273'") == 1
    assert lab.sql("select placeholder from account where account_key = 'x:6001'").rows() == [(False,)]


def test_the_other_order_gives_the_same_threads():
    def threads(*paths):
        with Lab() as lab:
            for p in paths: lab.load(p)
            return lab.sql("select post_key, conversation_key, reply_to_account from post order by post_key").rows(), set(lab.sql("select account_key, handle from account").rows())
    assert threads(ARCHIVE, API / "pages.jsonl") == threads(API / "pages.jsonl", ARCHIVE)


# ---- neither takes what is another's

def test_other_formats_are_left_alone(shared):
    mine = {"twitter-archive-x", "twitter-v2-twarc-csv", "twitter-api-v1-dogsheep", "perceval-fixtures", "transcribed", "x_archive", "x_api"}
    tried = 0
    for folder in sorted([*EXPORTS.iterdir(), *shared.iterdir()]):
        if folder.name in mine or not folder.is_dir(): continue
        for path in [folder, *(f for f in folder.rglob("*") if f.suffix in (".zip", ".gz", ".zst"))]:
            try: found = bundles(path)
            except TrustlabError: continue
            for bundle in found: tried += 1; assert x_archive.find(bundle) == [] and x_api.find(bundle) == [], path
    assert tried > 20
    (bundle,) = [b for b in bundles(shared / "perceval-fixtures") if not b.archive]
    assert x_archive.find(bundle) == [] and [n.split("/")[0] for n in x_api.find(bundle)] == ["twitter"] * 3


@pytest.mark.parametrize("name, text", [("following.js", 'window.YTD.following.part0 = [{"following": {"accountId": "1"}}]'), ("tweets.js", "export const tweets = []"), ("data/tweets.js", "window.YTD.ads.part0 = []"),
                                        ("a.json", '[{"id": 1, "text": "x", "author_id": 2}]'), ("b.jsonl", '{"id": "1", "text": "x", "user": "kim"}'), ("c.csv", "id,text,author_id\n1,a,2\n"), ("d.json", ""),
                                        ("e.json", '{"data": [{"id": "1", "username": "kim", "public_metrics": {"followers_count": 1}}]}')])
def test_what_only_looks_like_it(tmp_path, name, text):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert all(x_archive.find(b) == [] and x_api.find(b) == [] for b in bundles(tmp_path))
