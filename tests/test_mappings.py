"""Tables by mapping: real reviews counted a second time, packaged and own mappings on small shapes, faults of files and of mappings, and a look that shows no value."""
import csv
import json
import re
import shutil
import statistics
import warnings
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

import trustlab as tl
import trustlab.sources.table as table
from trustlab.bundles import bundles
from trustlab.core import InvalidExport, InvalidParameter, NotIdentifiable, PartialExport, TrustlabError
from trustlab.load import COUNTS, READERS
from trustlab.mappings import packaged, parse, read_mapping, vocabulary
from trustlab.store import Lab

EXPORTS = Path(__file__).parent / "exports" / "table"
pytestmark = pytest.mark.filterwarnings("ignore::trustlab.core.SmallSample")


@pytest.fixture
def lab():
    with Lab() as store: yield store


@pytest.fixture
def by():
    "What `mapping=` takes: a file or a packaged name as it is, TOML text as a file in `folder`"
    def file(mapping, folder=None):
        if "\n" not in str(mapping): return mapping
        (folder / "mapping.toml").write_text(mapping, encoding="utf-8")
        return folder / "mapping.toml"
    return file


def counts(receipt): return tuple(getattr(receipt, c) for c in COUNTS)
def one(lab, query, **params): return lab.sql(query, **params).row(0)[0]
def sound(lab): return lab.check().filter((pl.col("part") == "sound") & (pl.col("n") > 0)).is_empty()
def rejects(lab): return lab.sql("select code, line, record, decode(raw) as raw from reject order by record, code").rows()
def quiet(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()
def store(lab): return {t: sorted(map(repr, lab.sql(f"select * exclude (load_id) from {t}" if t == "post" else f"select * from {t}").rows())) for t in ("post", "account", "role")}
def read_rows(path): return list(csv.DictReader(path.open(encoding="utf-8", newline="")))
def wait(row): return (datetime.fromisoformat(row["repliedAt"]) - datetime.fromisoformat(row["at"])).total_seconds()


# ---- real reviews, counted a second time

def test_reviews_of_tiktok_give_the_known_numbers(lab, shared):
    path = shared / "play-reviews-replies" / "tiktok.csv"
    receipt, rows = lab.load(path), read_rows(path)
    answered = [r for r in rows if r["repliedAt"]]
    assert counts(receipt) == (1106, 1106, 0, 0, 0, 0) and receipt.loads[0]["source"] == "google-play-scraper" and sound(lab)
    assert (len(rows), len(answered), round(100 * len(answered) / len(rows), 2)) == (600, 506, 84.33)
    assert len({r["replyContent"] for r in answered}) == 7 == one(lab, "select count(distinct text) from post where kind = 'owner_response'")
    waits = [wait(r) for r in answered]
    assert (sum(w < 0 for w in waits), min(waits)) == (26, -3231003)
    by_sql = lab.sql("select count(*), count(*) filter (a.created_at < p.created_at), median(date_diff('second', p.created_at, a.created_at)) from post p join post a on a.reply_to_key = p.post_key").row(0)
    assert by_sql == (506, 26, statistics.median(waits))
    kept = lab.sql("select post_key, created_at, text, rating from post where kind = 'review'").rows()
    assert sorted(kept) == sorted((f"googleplay:{r['reviewId']}", datetime.fromisoformat(r["at"]), r["content"], float(r["score"])) for r in rows)
    stars = lab.sql("select p.rating, round(count(a.post_key) / count(*), 3) as rate from post p left join post a on a.reply_to_key = p.post_key where p.kind = 'review' group by 1 order by 1")
    assert stars["rate"].to_list() == [0.756, 0.788, 0.758, 0.872, 0.883]


def test_the_median_wait_of_tiktok_counts_early_answers_as_the_catalogue_does(shared):
    waits = [wait(r) for r in read_rows(shared / "play-reviews-replies" / "tiktok.csv") if r["repliedAt"]]
    assert (statistics.median(waits), statistics.median([w for w in waits if w >= 0])) == (1211, 1237.5)


def test_acknowledgement_of_reviews_drops_answers_older_than_the_last_edit(lab, shared):
    path = shared / "play-reviews-replies" / "tiktok.csv"
    lab.load(path)
    m = tl.acknowledgement(lab)
    assert m.frame.select("n", "acknowledged", "pending", "response_rate").row(0) == (600, 480, 120, 0.8)
    assert any("26 replies dated before the call" in n for n in m.notes)
    waits = {f"googleplay:{r['reviewId']}": wait(r) for r in read_rows(path) if r["repliedAt"] and wait(r) >= 0}
    assert dict(lab.sql("select post_key, seconds from answer").rows()) == waits


def test_no_answer_at_all_is_a_true_zero(lab, shared):
    lab.load(shared / "play-reviews-replies" / "chatgpt.csv")
    assert tl.acknowledgement(lab).frame.select("n", "acknowledged", "response_rate").row(0) == (600, 0, 0.0)


def test_parquet_with_empty_columns_of_a_made_up_type_is_the_same_reviews(lab, shared, tmp_path):
    path = shared / "play-reviews-replies" / "chatgpt.csv"
    frame = pl.read_csv(path, infer_schema=False).with_columns(pl.col("at").str.to_datetime(), pl.col("score", "thumbsUpCount").cast(pl.Int64), replyContent=pl.lit(None, pl.Float64), repliedAt=pl.lit(None, pl.Float64))
    frame.write_parquet(tmp_path / "chatgpt.parquet")
    assert counts(lab.load(tmp_path / "chatgpt.parquet")) == (600, 600, 0, 0, 0, 0) and sound(lab)
    with Lab() as other:
        other.load(path)
        assert store(lab)["post"] == store(other)["post"] and store(lab)["role"] == store(other)["role"]


def test_three_reviews_of_the_play_console(lab, shared):
    with pytest.warns(PartialExport, match="1 ratings without words"): receipt = lab.load(shared / "play-console-firefox" / "just-3-reviews-for-testing.csv")
    assert counts(receipt) == (3, 3, 0, 0, 0, 0) and sound(lab)
    rows = lab.sql("select kind, created_at, edited_at, rating, lang, text is null as wordless, reply_to_account from post order by created_at").rows()
    assert [r[0] for r in rows] == ["review", "review", "rating"] and [r[3:] for r in rows] == [(5.0, "en", False, "googleplay:org.mozilla.firefox"), (5.0, "id", False, "googleplay:org.mozilla.firefox"), (5.0, "en", True, None)]
    assert rows[0][1:3] == (datetime(2017, 12, 26, 22, 30, 31, 268000), datetime(2018, 3, 1, 0, 5, 54, 332000))
    assert tl.acknowledgement(lab).frame.select("n", "acknowledged").row(0) == (2, 0)
    assert lab.sql("select covers_to from load")["covers_to"][0] == datetime(2018, 3, 1, 0, 14, 11, 311000)


def test_the_console_in_utf16_is_the_console_in_utf8(lab, shared):
    stores = shared / "transcribed" / "stores"
    receipt = quiet(lambda: lab.load(stores / "reviews_com.example_202511.utf16.csv"))
    assert counts(receipt)[:2] == (4, 4) and lab.sql("select text from post where kind = 'owner_response'")["text"][0] == "Thanks so much! I’m really glad you’re enjoying it 😄🙏"
    assert counts(quiet(lambda: lab.load(stores / "play_console_reviews_utf8.csv"))) == (4, 0, 0, 4, 0, 0)
    assert {k for k in lab.sql("select post_key from post where kind = 'review'")["post_key"]} == {"googleplay:d2b07a18-68e9-4b8f-8042-4102a5082454", "googleplay:7109f10c-d863-4a41-9a0e-e65dfc325ac5"}


def test_the_other_review_stores(lab, shared):
    receipt = quiet(lambda: lab.load(shared / "transcribed" / "stores", source=None))
    taken = {r["member"].split("/")[-1]: (r["source"], r["read"], r["rejected"]) for r in receipt.loads}
    assert taken["appstoreconnect_customerReviews.json"] == ("app-store", 2, 0) and taken["steam_appreviews.json"] == ("steam-reviews", 3, 0)
    assert taken["google_business_profile_reviews.json"] == ("google-business-profile", 3, 1) and taken["play_developer_api_reviews.json"] == ("google-play-api", 2, 0)
    assert one(lab, "select count(*) from post where platform = 'appstore' and kind = 'owner_response'") == 0
    assert lab.sql("select created_at, text from post where post_key = 'steam:192432339:reply'").rows() == [(datetime(2025, 4, 12, 23, 20), "Thanks for playing!")]
    assert lab.sql("select rating, author_key from post where post_key = 'googlebusiness:abc123'").rows() == [(5.0, "googlebusiness:review:abc123")]
    assert rejects(lab)[0][0] == "missing_created_at" and sound(lab)


# ---- packaged mappings on small shapes

def test_a_later_month_brings_the_edit_and_an_older_one_takes_nothing_back(lab):
    first, later = (EXPORTS / f"reviews_org.example.app_2024{m}.csv" for m in ("01", "02"))
    assert counts(quiet(lambda: lab.load(first))) == (4, 4, 0, 0, 0, 0)
    assert counts(lab.load(later)) == (2, 1, 1, 0, 0, 0)
    row = lab.sql("select text, rating, created_at, edited_at from post where post_key = 'googleplay:aaa'").row(0)
    assert row == ("Better\nNow it is fast", 4.0, datetime(2024, 1, 10, 10), datetime(2024, 2, 3, 10))
    assert lab.sql("select p.created_at < a.created_at, a.created_at < p.edited_at from post p join post a on a.reply_to_key = p.post_key where p.post_key = 'googleplay:aaa'").rows() == [(True, True)]
    with Lab() as other:
        quiet(lambda: other.load(later, first))
        assert other.sql("select text from post where post_key = 'googleplay:aaa'")["text"][0] == "Better\nNow it is fast" and sound(other)
    waits = lab.sql("select post_key, seconds from answer order by seconds").rows()
    assert waits == [("googleplay:bbb", 600.0), ("googleplay:aaa", timedelta(days=23).total_seconds())]
    assert tl.acknowledgement(lab).frame.select("n", "acknowledged").row(0) == (2, 2)


def test_an_app_is_watched_until_the_end_of_its_own_files(lab, tmp_path):
    shutil.copy(EXPORTS / "scraped.csv", tmp_path / "one.csv")
    (tmp_path / "two.csv").write_text((EXPORTS / "scraped.csv").read_text().replace("2024-03", "2024-09").replace("\nr", "\ns"))
    lab.load(tmp_path)
    assert sorted(lab.sql("select brand, max(ends_at) from inbound group by brand").rows()) == [("one", datetime(2024, 3, 3, 10)), ("two", datetime(2024, 9, 3, 10))]


def test_scraped_reviews_have_an_author_each(lab):
    lab.load(EXPORTS / "scraped.csv")
    assert lab.sql("select author_key from post where kind = 'review' order by all")["author_key"].to_list() == [f"googleplay:review:r{i}" for i in (1, 2, 3)]
    assert lab.sql("select account_key, role, brand from role").rows() == [("googleplay:scraped", "brand", "scraped")]
    assert lab.sql("select post_key, n from post_count where n > 0").rows() == [("googleplay:r1", 3)] and one(lab, "select count(*) from account where display_name in ('Ann', 'Ben')") == 0
    assert tl.acknowledgement(lab, unit="post").frame.select("n", "acknowledged").row(0) == (3, 1)


def test_a_response_that_is_not_published_is_no_answer(lab):
    with pytest.warns(PartialExport, match="1 answers are not published"): receipt = lab.load(EXPORTS / "app-store.json")
    assert counts(receipt) == (4, 4, 0, 0, 0, 0)
    assert lab.sql("select post_key, reply_to_key, created_at from post where kind = 'owner_response'").rows() == [("appstore:p1", "appstore:a1", datetime(2024, 3, 1, 12))]
    assert lab.sql("select text, created_at, created_basis from post where post_key = 'appstore:a1'").rows() == [("Nice\nWorks", datetime(2024, 3, 1, 10), "offset")]
    assert tl.acknowledgement(lab).frame.select("n", "acknowledged").row(0) == (3, 1)


def test_trustpilot_keeps_a_consumers_id(lab):
    assert counts(lab.load(EXPORTS / "trustpilot.json")) == (3, 3, 0, 0, 0, 0)
    assert set(lab.sql("select author_key from post where kind = 'review'")["author_key"]) == {"trustpilot:c1"} and one(lab, "select count(*) from account where display_name = 'A'") == 0
    assert lab.sql("select post_key, seconds from answer").rows() == [("trustpilot:t1", 5400.0)] and lab.sql("select exported_at from load")["exported_at"][0] == datetime(2024, 4, 3, 8)


def test_hacker_news_items(lab, tmp_path):
    lab.load(EXPORTS / "hacker-news.ndjson", brand="acme")
    assert lab.sql("select post_key, author_key, reply_to_account, conversation_key from post order by all").rows() == [
        ("hackernews:1", "hackernews:ann", None, "hackernews:1"), ("hackernews:2", "hackernews:acme", "hackernews:ann", "hackernews:1"),
        ("hackernews:3", "hackernews:ben", "hackernews:acme", "hackernews:1"), ("hackernews:4", None, "hackernews:ann", "hackernews:1")]
    assert lab.sql("select text from post where post_key = 'hackernews:1'")["text"][0] == "Ask: does it work?\nIt & its friends?"
    assert sorted(lab.sql("select post_key, seconds from answer").rows()) == [("hackernews:1", 3600.0)]
    items = [json.loads(line) for line in (EXPORTS / "hacker-news.ndjson").read_text().splitlines()]
    (tmp_path / "array.json").write_text(json.dumps(items, indent=1))
    (tmp_path / "item.json").write_text(json.dumps(items[1], indent=1))
    for name, n in (("array.json", 4), ("item.json", 1)):
        with Lab() as other: assert other.load(tmp_path / name).stored == n and other.sql("select source from load")["source"][0] == "hacker-news"


def test_takeout_of_youtube_is_one_side(lab):
    receipt = lab.load(EXPORTS / "takeout")
    assert counts(receipt)[:2] == (3, 3) and receipt.loads[0]["scope"] == "own" and receipt.loads[0]["owner_key"] == "youtube:UCme"
    assert lab.sql("select post_key, text, reply_to_key, conversation_key, container_key from post order by created_at").rows() == [
        ("youtube:Ug1", "Hello there", None, "youtube:Ug1", "youtube:v/v1"), ("youtube:Ug0.r1", "As said", "youtube:Ug0", "youtube:Ug0", "youtube:v/v1"), ("youtube:Ug3", "plain words", None, "youtube:Ug3", "youtube:v/v2")]
    with pytest.raises(NotIdentifiable): tl.acknowledgement(lab)


def test_a_data_request_of_reddit_without_its_ip(lab, tmp_path):
    receipt = quiet(lambda: lab.load(EXPORTS / "request"))
    assert counts(receipt)[:2] == (5, 4) and receipt.rejected == 1 and {r["source"] for r in receipt.loads} == {"reddit-gdpr", "reddit-gdpr-posts"}
    assert lab.sql("select post_key, reply_to_key, author_key, text from post order by created_at").rows() == [
        ("reddit:t1_1e5", "reddit:t3_p1", "reddit:kim", "on the post"), ("reddit:t1_c2", "reddit:t1_c9", "reddit:kim", "to a comment"), ("reddit:t1_c3", "reddit:t1_c9", "reddit:kim", None), ("reddit:t3_p7", None, "reddit:kim", "A title\nand words")]
    assert [(c, line) for c, line, _, _ in rejects(lab)] == [("bad_id", 5)] and "secretless" in rejects(lab)[0][3]
    broken = tmp_path / "comments.csv"
    broken.write_bytes((EXPORTS / "request" / "comments.csv").read_bytes() + b"c9,x,2024-01-19 12:34:56 UTC,192.0.2.77,acme,0,,,caf\xe9,\n")
    with pytest.warns(PartialExport, match="owner is not known"): lab.load(broken)
    tables = [t for (t,) in lab.sql("select table_name from duckdb_tables() where not temporary").rows()]
    assert not any("192.0.2" in repr(lab.sql(f'select * from "{t}"').rows()) for t in tables)


# ---- mappings of one's own

def test_an_inbox_by_order(lab, by):
    receipt = lab.load(EXPORTS / "inbox.csv", mapping=by(EXPORTS / "inbox.toml"))
    assert counts(receipt) == (8, 7, 0, 0, 0, 1) and sound(lab) and re.fullmatch(r"acme-inbox@[0-9a-f]{8}", receipt.loads[0]["source"])
    assert rejects(lab) == [("unknown_side", 11, 8, "8;k2;13/07/2024 09:30;sideways;;;?;no\n")]
    assert lab.sql("select byte_offset from reject")["byte_offset"][0] == (EXPORTS / "inbox.csv").read_bytes().index(b"8;k2;13")
    assert lab.sql("select post_key, author_key, created_at, visibility, reply_to_key, reply_to_account, reply_basis from post order by post_key").rows() == [
        ("inbox:1", "inbox:ann", datetime(2024, 7, 1, 10), "public", None, "inbox:acme", "row"), ("inbox:2", "inbox:ann", datetime(2024, 7, 1, 10, 5), "public", None, "inbox:acme", "row"),
        ("inbox:3", "inbox:agent-kim", datetime(2024, 7, 1, 10, 10), "public", "inbox:2", "inbox:ann", "order"), ("inbox:4", "inbox:ben", datetime(2024, 7, 1, 11), "public", None, "inbox:acme", "row"),
        ("inbox:5", "inbox:agent-kim", datetime(2024, 7, 1, 11, 5), "internal", None, None, None), ("inbox:6", "inbox:acme", datetime(2024, 7, 13, 7), "public", None, None, None),
        ("inbox:7", None, datetime(2024, 7, 13, 7), "public", "inbox:4", "inbox:ben", "order")]
    assert sorted(lab.sql("select account_key, role, brand from role where role <> 'customer'").rows()) == [("inbox:acme", "brand", "acme"), ("inbox:agent-kim", "staff", "acme")]
    assert tl.acknowledgement(lab).frame.select("n", "acknowledged", "pending", "median_seconds").row(0)[:3] == (2, 1, 1)
    assert lab.sql("select post_key, seconds from answer").rows() == [("inbox:2", 300.0)]


def test_lines_of_a_warehouse(lab, by):
    name = by(EXPORTS / "warehouse.toml")
    assert counts(lab.load(EXPORTS / "warehouse.ndjson", mapping=name, brand="acme"))[:2] == (3, 3)
    assert lab.sql("select post_key, author_key, created_at, created_basis, reply_to_key from post order by all").rows() == [
        ("lake:1", "lake:u1", datetime(2024, 6, 1, 8), "offset", None), ("lake:2", "lake:acme", datetime(2024, 6, 1, 8, 30), "offset", "lake:1"), ("lake:3", None, datetime(2024, 6, 1, 9), "offset", "lake:2")]
    assert sorted(lab.sql("select target_key, value from interaction where kind = 'mention'").rows()) == [("lake:acme", "entity"), ("lake:kim", "entity")]
    assert sorted(lab.sql("select post_key, kind, n from post_count").rows()) == [("lake:1", "like", 2), ("lake:2", "like", 0)] and one(lab, "select display_name from account where account_key = 'lake:u1'") == "Ann"
    assert lab.sql("select post_key, seconds from answer").rows() == [("lake:1", 1800.0)]


def test_the_same_rows_as_parquet_and_json_are_the_same_posts(lab, by, tmp_path):
    name, rows = by(EXPORTS / "warehouse.toml"), [json.loads(line) for line in (EXPORTS / "warehouse.ndjson").read_text().splitlines()]
    lab.load(EXPORTS / "warehouse.ndjson", mapping=name)
    (tmp_path / "rows.json").write_text(json.dumps(rows, indent=1))
    pl.DataFrame(rows).write_parquet(tmp_path / "rows.parquet")
    for file in ("rows.json", "rows.parquet"):
        with Lab() as other:
            other.load(tmp_path / file, mapping=name)
            assert store(other) == store(lab), file


def test_zip_and_folder_and_prefix_give_the_same_and_twice_adds_nothing(lab, tmp_path):
    lab.load(EXPORTS / "scraped.csv")
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as z:
        z.write(EXPORTS / "scraped.csv", "a/b/scraped.csv"); z.writestr("a/b/notes.txt", "nothing, of, use\n")
    (tmp_path / "deeper" / "c").mkdir(parents=True)
    shutil.copy(EXPORTS / "scraped.csv", tmp_path / "deeper" / "c")
    pl.read_csv(EXPORTS / "scraped.csv", infer_schema=False).write_parquet(tmp_path / "deeper" / "scraped.parquet")
    for path in (tmp_path / "deep.zip", tmp_path / "deeper"):
        with Lab() as other:
            other.load(path)
            assert store(other) == store(lab)
            assert counts(other.load(path))[1:3] == (0, 0)
    assert lab.load(EXPORTS / "scraped.csv").loads[0]["status"] == "already loaded"


def test_a_corrected_mapping_is_not_taken_for_the_one_before(lab, by, tmp_path):
    text = (EXPORTS / "inbox.toml").read_text()
    lab.load(EXPORTS / "inbox.csv", mapping=by(text, tmp_path))
    assert counts(lab.load(EXPORTS / "inbox.csv", mapping=by(text.replace("Europe/Amsterdam", "UTC"), tmp_path)))[1:3] == (0, 7)
    assert one(lab, "select created_at from post where post_key = 'inbox:1'") == datetime(2024, 7, 1, 12)


def simple(text="", **file): return f'''name = "simple"
platform = "s"
[file]
format = "csv"
{chr(10).join(f"{k} = {json.dumps(v)}" for k, v in file.items())}
[post]
id = "id"
created_at = "at"
text = "text"
{text}
[author]
id = "by"
'''


@pytest.mark.parametrize(("raw", "options"), [
    ("id\tat\tby\ttext\n1\t2024-01-01\tann\tcafé\n".encode(), {"delimiter": "\t"}), ("id;at;by;text\r\n1;2024-01-01;ann;café\r\n".encode("cp1252"), {"delimiter": ";", "encoding": "cp1252"}),
    ("id,at,by,text\n1,2024-01-01,ann,café\n".encode("utf-16"), {}), ("id,at,by,text\n1,2024-01-01,ann,café\n".encode("utf-16-be"), {"encoding": "utf-16-be"}), ("\ufeffid,at,by,text\n1,2024-01-01,ann,café\n".encode(), {}),
    ("about\n\nid,at,by,text\n1,2024-01-01,ann,café\n".encode(), {"skip": 2}), ("text,by,at,extra,id\ncafé,ann,2024-01-01,,1.0\n".encode(), {"ignored": ["extra"]}), ("ID,AT,By,Text\n1,2024-01-01,ann,café\n".encode(), {"any_case": True}),
    ("id|at|by|text\r1|2024-01-01|ann|café\r".encode(), {"delimiter": "|"}), ("id,at,by,text\n1,2024-01-01,ann,café\n,,,\n".encode(), {})])
def test_a_csv_however_it_is_written(lab, by, tmp_path, raw, options):
    (tmp_path / "[a]*.csv").write_bytes(raw)
    quiet(lambda: lab.load(tmp_path / "[a]*.csv", mapping=by(simple(**options), tmp_path)))
    assert lab.sql("select post_key, author_key, created_at, text from post").rows() == [("s:1", "s:ann", datetime(2024, 1, 1), "café")] and one(lab, "select count(*) from reject") == 0


# ---- faults of files

def test_broken_rows_of_a_csv_are_kept_with_their_place(lab, by, tmp_path):
    raw = b'# made by x\nid,at,by,text\n1,2024-01-01,ann,fine\n2,2024-01-01,ann,"open\n3,2024-01-01,ann,caf\xe9\n4,soon,ann,x\n,2024-01-01,ann,x\n6,2024-01-01,ann,a,b\n1.5e+18,2024-01-01,ann,x\n8,1969-01-01,ann,x\n9,2024-01-02,ann,"two\nlines"\n9,2024-01-02,ann,"two\nlines"\n'
    (tmp_path / "broken.csv").write_bytes(raw)
    receipt = lab.load(tmp_path / "broken.csv", mapping=by(simple(skip=1), tmp_path))
    assert counts(receipt) == (10, 2, 0, 0, 1, 7) and sound(lab)
    found = lab.sql("select code, line, byte_offset, raw, record from reject order by line").rows()
    assert [(c, line, n) for c, line, _, _, n in found] == [("bad_quotes", 4, 2), ("bad_utf8", 5, 3), ("bad_time", 6, 4), ("missing_id", 7, 5), ("wrong_number_of_columns", 8, 6), ("id_not_exact", 9, 7), ("timestamp_out_of_range", 10, 8)]
    assert all(raw[at:].startswith(kept) for _, _, at, kept, _ in found) and sorted(lab.sql("select record from post")["record"]) == [1, 10]


def test_a_file_in_another_encoding_says_so(lab, by, tmp_path):
    (tmp_path / "old.csv").write_bytes(b"id,at,by,text\n" + b"".join(b"%d,2024-01-01,ann,caf\xe9\n" % i for i in range(30)))
    with pytest.raises(InvalidExport, match=r"30 of 30 rows are not UTF-8.*encoding = \"cp1252\""): lab.load(tmp_path / "old.csv", mapping=by(simple(), tmp_path))
    assert one(lab, "select count(*) from load") == 0


@pytest.mark.parametrize(("head", "match"), [("id,when,by,text", "no column 'at', from which mapping 'simple' takes post.created_at; its columns are .*id, text, when"), ("id,at,at,by,text", "column 'at' stands 2 times"), ("", "no column 'id'")])
def test_a_column_that_is_not_there_is_named(lab, by, tmp_path, head, match):
    (tmp_path / "a.csv").write_text(head + "\n1,2,3,4,5\n")
    with pytest.raises(InvalidExport, match=match): lab.load(tmp_path / "a.csv", mapping=by(simple(), tmp_path))


def test_unknown_columns_are_listed_and_optional_ones_may_be_missing(lab, by, tmp_path):
    (tmp_path / "a.csv").write_text("id,at,by,mood,text\n1,2024-01-01,ann,secret-mood,x\n")
    with pytest.warns(PartialExport, match="does not know: mood") as told: lab.load(tmp_path / "a.csv", mapping=by(simple('lang = "language"', optional=["language"]), tmp_path))
    assert "secret" not in str([w.message for w in told]) and one(lab, "select lang from post") is None


def test_what_is_not_understood_is_counted(lab, by, tmp_path):
    (tmp_path / "a.csv").write_text("id,at,by,text,stars,changed,seen\n1,2024-01-01,ann,x,five,yesterday,maybe\n2,2024-01-01,ann,x,4,2024-01-02,yes\n")
    with pytest.warns(PartialExport) as told: lab.load(tmp_path / "a.csv", mapping=by(simple('rating = "stars"\nedited_at = "changed"\nvisibility = {column = "seen", values = {yes = "direct"}}'), tmp_path))
    assert sum("1 values for post." in str(w.message) for w in told) == 3 and lab.sql("select rating, visibility from post order by post_key").rows() == [(None, "public"), (4.0, "direct")]


RECORDS = '{"reviews": [{"id": "t1", "stars": 1, "text": "x", "createdAt": "2024-04-01T08:00:00Z", "consumer": {"id": "c"}}, %s {"id": "t3", "stars": 1, "text": "x", "createdAt": "2024-04-02T08:00:00Z", "consumer": {"id": "c"}}]}'


@pytest.mark.parametrize(("middle", "code"), [('{"stars": 1, "createdAt": "2024-04-01T08:00:00Z"},', "missing_id"), ('{"id": "t2", "createdAt": "soon"},', "bad_time"), ('{"id": "t2"},', "missing_created_at"),
    ('{"id": 9007199254740993.0, "createdAt": "2024-04-01T08:00:00Z"},', "id_not_exact"), ('42,', "missing_id"), ('{"id": "t2", "id": "t4", "createdAt": "2024-04-01T08:00:00Z"},', "duplicate_key"),
    ('{"id": "t2", "createdAt": "2024-04-01T08:00:00Z", "companyReply": {"text": "no time"}},', "missing_answer_created_at"), ('{"id": "t2", "createdAt": "2999-04-01T08:00:00Z"},', "timestamp_out_of_range")])
def test_a_bad_record_between_two_good_ones(lab, tmp_path, middle, code):
    (tmp_path / "t.json").write_text(RECORDS % middle)
    receipt = quiet(lambda: lab.load(tmp_path / "t.json"))
    good = 3 if code == "missing_answer_created_at" else 2
    assert counts(receipt) == (good + 1, good, 0, 0, 0, 1) and [r[0] for r in rejects(lab)] == [code] and sound(lab)


def test_a_json_file_that_breaks_off(lab, tmp_path):
    (tmp_path / "t.json").write_bytes(b"\xef\xbb\xbf" + (RECORDS % "").encode()[:-40])
    assert counts(lab.load(tmp_path / "t.json")) == (2, 1, 0, 0, 0, 1) and [r[0] for r in rejects(lab)] == ["cut_off"]


def test_bad_lines_of_ndjson(lab, by, tmp_path):
    lines = (EXPORTS / "warehouse.ndjson").read_bytes().splitlines()
    (tmp_path / "w.ndjson").write_bytes(b"\xef\xbb\xbf" + lines[0] + b"\r\n\r\nnot json\r\n" + lines[1] + b'\r\n{"key": "8"}\r\n[1]\r\n' + lines[2] + b'\r\n{"key": "9", "when"')
    receipt = lab.load(tmp_path / "w.ndjson", mapping=by(EXPORTS / "warehouse.toml"))
    assert counts(receipt) == (7, 3, 0, 0, 0, 4) and sound(lab)
    assert sorted((r[0], r[1]) for r in lab.sql("select code, line from reject").rows()) == [("bad_json", 3), ("bad_json", 8), ("missing_created_at", 5), ("missing_id", 6)]


def test_a_line_of_ndjson_that_is_not_utf8(lab, by, tmp_path):
    lines = (EXPORTS / "warehouse.ndjson").read_bytes().splitlines()
    (tmp_path / "w.ndjson").write_bytes(lines[0] + b'\n{"key": "caf\xe9"}\n' + lines[1] + b"\n")
    assert counts(lab.load(tmp_path / "w.ndjson", mapping=by(EXPORTS / "warehouse.toml"))) == (3, 2, 0, 0, 0, 1)
    assert lab.sql("select code, byte_offset, raw from reject").rows() == [("bad_utf8", len(lines[0]) + 1, b'{"key": "caf\xe9"}')]


@pytest.mark.parametrize(("text", "match"), [('[{"uid": 1, "when": "2024-01-01", "who": {"id": "a"}}]', "no record has 'key', from which mapping 'warehouse' takes post.id; its keys are uid, when, who"), ("[]", "no records in it"),
    ('[{"key": 1, "when": "soon"}]', "no record in it could be read"), ('{"a": ', "no record in it could be read")])
def test_a_json_file_of_another_kind_is_refused(lab, by, tmp_path, text, match):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InvalidExport, match=match): lab.load(tmp_path / "x.json", mapping=by(EXPORTS / "warehouse.toml"))
    assert one(lab, "select count(*) from load") == 0


def test_types_of_parquet(lab, by, tmp_path):
    mapping = simple('rating = "stars"').replace('"csv"', '"parquet"')
    frame = pl.DataFrame({"id": [1.0, 2.0, 9007199254740994.0], "at": [datetime(2024, 1, 1, 12)] * 3, "by": [10, 11, 12], "text": [b"a", b"caf\xe9", None], "stars": [4.5, None, 1.0]})
    frame.with_columns(pl.col("at").dt.replace_time_zone("Europe/Amsterdam")).write_parquet(tmp_path / "a*b?[c].parquet")
    receipt = lab.load(tmp_path / "a*b?[c].parquet", mapping=by(mapping, tmp_path))
    assert counts(receipt) == (3, 2, 0, 0, 0, 1) and lab.sql("select code, field from reject").rows() == [("id_not_exact", "id")]
    assert lab.sql("select post_key, author_key, created_at, created_basis, rating, text from post order by all").rows() == [("s:1", "s:10", datetime(2024, 1, 1, 11), "utc", 4.5, "a"), ("s:2", "s:11", datetime(2024, 1, 1, 11), "utc", None, None)]


def test_damaged_parquet_is_refused(lab, by, tmp_path):
    pl.DataFrame({"id": ["1"], "at": ["2024-01-01"], "by": ["x"], "text": ["t"]}).write_parquet(tmp_path / "a.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-30])
    with pytest.raises(InvalidExport, match="not readable as Parquet"): lab.load(tmp_path / "cut.parquet", mapping=by(simple().replace('"csv"', '"parquet"'), tmp_path))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as z: z.write(tmp_path / "a.parquet", "in/a.parquet")
    assert lab.load(tmp_path / "z.zip", mapping=by(simple().replace('"csv"', '"parquet"'), tmp_path)).stored == 1


# ---- faults of mappings

@pytest.mark.parametrize(("old", "new", "match"), [
    ('text = "text"', 'txt = "text"', r"post\.txt: no such key; allowed: text"), ('id = "id"', "", r"post\.id: missing"), ('created_at = "at"', "", r"post\.created_at: missing"), ('name = "simple"', 'name = "My Table"', r"name: must be small letters"),
    ('name = "simple"', "", "name: missing"), ('format = "csv"', 'format = "xls"', "file.format: must be one of csv, ndjson, json, parquet; got 'xls'"), ('format = "csv"', 'format = "csv"\ndelimiter = "x"', "file.delimiter: must be one of"),
    ('created_at = "at"', 'created_at = {column = "at", form = "dd/mm"}', r"post.created_at.form: must be iso, epoch"), ('created_at = "at"', 'created_at = {column = "at", zone = "Mars/North"}', "must be a time zone"),
    ('text = "text"', 'text = {column = "a", constant = "b"}', "must say once where the value comes from"), ('text = "text"', "text = 7", "must be a column's name in quotes"), ('text = "text"', 'text = {column = "a", mtach = "b"}', r"post\.text\.mtach: no such key; allowed: match"),
    ('text = "text"', 'text = {column = "a", match = "("}', "must be a regular expression"), ('text = "text"', 'text = {column = "a", form = "iso"}', "only a time has one"), ('text = "text"', 'visibility = {constant = "secret"}', "must be one of direct, followers, internal, public"),
    ('text = "text"', 'kind = {column = "k", values = {a = "story"}}', "must be one of owner_response, post, rating, review, service, share"), ('text = "text"', 'text = "@nothing"', "@nothing is not one of @file, @folder, @id"), ('[author]\nid = "by"', "", r"\[author\]: this section is missing; it needs id"),
    ('[author]', "[autor]", r"autor: no such key or section; allowed: author"), ('platform = "s"', 'platform = "s"\nscope = "mine"', "scope: must be one of both, own, answered"), ('id = "by"', 'id = "by"\n[answer]\ncreated_at = "x"', r"\[answer\]: needs a \[brand\]"),
    ('id = "by"', 'id = "by"\n[brand]\nid = "b"\n[side]\ncolumn = "d"\ncustomer = ["in"]\nbrand = ["in"]', "a value stands for two sides: in"), ('id = "by"', 'id = "by"\n[brand]\nid = "b"\n[side]\ncolumn = "d"\ncustomer = ["in"]\norder = true', "needs post.conversation"),
    ('id = "by"', "id = by", "not readable as TOML"), ('text = "text"', 'text = {hash = "id"}', "must be a list of texts"), ('id = "by"', 'id = "by"\n[join]\nname = "r"\nrecords = "x"\nid = "y"\nby = "z"', "only a JSON file holds a second array"), ("[file]", "file = 3\n[fil]", "file: must be a section")])
def test_a_fault_of_a_mapping_names_its_key(tmp_path, old, new, match):
    text = simple()
    assert old in text
    (tmp_path / "my.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidParameter, match=match) as raised: table.from_mapping(tmp_path / "my.toml")
    assert str(raised.value).startswith(str(tmp_path / "my.toml"))


def test_a_mapping_that_is_not_there_names_the_packaged_ones():
    with pytest.raises(InvalidParameter, match="no packaged mapping of that name; packaged are .*hootsuite"): table.from_mapping("hootsuit")
    assert read_mapping("hootsuite").name == "hootsuite" == table.from_mapping("hootsuite").name


def test_words_of_a_mapping_are_never_sql(lab, by, tmp_path):
    evil = "x'; drop table post; --"
    (tmp_path / "a.csv").write_text(f'id,at,by,"{evil}",{{rows}}\n1,2024-01-01,ann,hello,b\n')
    text = simple(f"lang = {{constant = {json.dumps(evil)}}}\nurl = \"{{rows}}\"").replace('text = "text"', f"text = {json.dumps(evil)}").replace('format = "csv"', 'format = "csv"\nnull = ["a\'b{}"]')
    lab.load(tmp_path / "a.csv", mapping=by(text, tmp_path))
    assert lab.sql("select text, lang, url from post").rows() == [("hello", evil, "b")]


# ---- what comes with the package

def test_packaged_mappings_are_readers_with_a_sheet(root):
    names = set(packaged())
    assert {"google-play-console", "google-play-scraper", "app-store", "trustpilot", "youtube-takeout", "reddit-gdpr", "hacker-news", "hootsuite", "front", "khoros", "ringcentral-engage", "salesforce-social", "sprout", "brandwatch"} <= names
    for name, mapping in packaged().items():
        assert parse((root / "nbs/mappings" / mapping.path).read_text(encoding="utf-8"), mapping.path).sections == mapping.sections and mapping.path == name + ".toml"
        sheet = READERS[name].sheet
        assert all(0 < len(v) <= 300 for v in vars(sheet).values()), name
        assert bool(mapping.sections.get("sniff")) == ("not recognised by itself" not in sheet.limits) and (not mapping.sections.get("sniff") or mapping.get("file", "requires")), name
    assert {p.name: p.read_bytes() for p in (root / "nbs/mappings").glob("*.toml")} == {p.name: p.read_bytes() for p in (root / "trustlab/_data/mappings").iterdir()}


def test_the_page_tells_every_key_and_every_packaged_mapping(root):
    pages = "".join((root / "nbs" / p).read_text(encoding="utf-8") for p in ("02d_mappings.ipynb", "sources/03d_table.ipynb"))
    assert all(name in pages for name in packaged()) and all(f"| {key} |" in pages for key in vocabulary()["key"])


@pytest.mark.parametrize("name", ["hootsuite", "front", "khoros", "ringcentral-engage", "salesforce-social", "sprout", "brandwatch"])
def test_starting_points_read_what_they_say(lab, by, tmp_path, name):
    mapping, side = packaged()[name], packaged()[name].section("side")
    times = {"iso": "2024-05-0{} 10:00:00", "epoch_ms": "17145576{}0000", "%d/%m/%Y %H:%M": "0{}/05/2024 10:00"}
    form = mapping.get("post", "created_at")
    form = form.get("form", "iso") if isinstance(form, dict) else "iso"
    when, used = times[form[0] if isinstance(form, list) else form], table.columns(mapping)
    who = {c: (side["customer"][0], (side.get("brand") or side.get("staff"))[0].replace("*", "agent")) for c in [side.get("column")] if c}
    made = {c for key, c in table.columns_of(mapping.sections) if key == "post.created_at"}
    ids = {c for key, c in table.columns_of(mapping.sections) if key in ("post.id", "author.id")}
    thread = {c for key, c in table.columns_of(mapping.sections) if key in ("post.conversation", "brand.id")}
    rows = [{c: when.format(i) if c in made else who[c][i - 1] if c in who else "k1" if c in thread else f"{c}-{i}" if c in ids else "" for c in used} for i in (1, 2)]
    if name == "sprout": (tmp_path / "t.ndjson").write_text("".join(json.dumps({k: v for k, v in r.items() if "." not in k} | {"from": {"guid": r["from.guid"], "name": "", "screen_name": ""}}) + "\n" for r in rows))
    else:
        with (tmp_path / "t.csv").open("w", newline="") as out:
            if name == "brandwatch": out.write("Report\n\n"); used = ["Query Id", *used]
            writer = csv.DictWriter(out, used, restval="q")
            writer.writeheader(); writer.writerows(rows)
    assert not READERS[name].find(bundles(tmp_path)[0])
    assert quiet(lambda: lab.load(tmp_path, mapping=by(name))).stored == 2 and sound(lab)
    if side.get("order"): assert lab.sql("select count(*) from answer").row(0) == (1,)
    if side: assert lab.sql("select count(*) from inbound where eligible").row(0) == (1,)


def test_no_packaged_mapping_claims_another_formats_files(root):
    others = [d for d in (root / "tests" / "exports").iterdir() if d.is_dir() and d.name != "table"] + [root / "data" / "town"]
    shared = root.parent / "shared" / "data"
    ours = {"play-console-firefox", "play-reviews-replies", "transcribed"}
    others += [d for d in shared.iterdir() if d.is_dir() and d.name not in ours] if shared.is_dir() else []
    for folder in others:
        try: found = bundles(folder)
        except TrustlabError: continue
        for bundle in found:
            assert not {name: roots for name in packaged() if (roots := READERS[name].find(bundle))}, folder


# ---- a look that shows no value

SECRET = "Zq7secret"


def leaks(seen): return any(SECRET in text for text in (repr(seen), seen._repr_html_(), json.dumps(seen.to_dict()), seen.draft))


def test_a_look_at_a_csv_shows_no_value(tmp_path):
    (tmp_path / "a.csv").write_text("id,created,body,author\n" + "".join(f"{SECRET}{i},2024-01-0{i} 10:00:00,{SECRET} words,{SECRET}\n" for i in range(1, 9)))
    seen = table.inspect(tmp_path / "a.csv")
    assert not leaks(seen) and parse(seen.draft).get("post", "id") == "id" and parse(seen.draft).get("post", "created_at") == "created" and parse(seen.draft).get("author", "id") == "author"
    assert seen.columns.select("column", "filled", "looks_like").rows() == [("id", 8, "word"), ("created", 8, "iso time"), ("body", 8, "text"), ("author", 8, "word")]


def test_a_look_at_a_file_without_header_shows_no_value(tmp_path):
    (tmp_path / "a.csv").write_text("".join(f"{i},{SECRET},2024-01-01 10:00:00,{SECRET}@example.org\n" for i in range(5)))
    seen = table.inspect(tmp_path / "a.csv")
    assert not leaks(seen) and seen.columns["column"].to_list() == [f"(column {i})" for i in range(1, 5)] and seen.draft == ""


@pytest.mark.parametrize("text", [f"[20/01/19, 11:23:45] {SECRET}: hello\n[20/01/19, 11:24:45] {SECRET}: you\n", f"{SECRET} said, and {SECRET} heard, that it\nwas {SECRET}.\n\nNo, really\n",
    f"{SECRET},{SECRET}x\n{SECRET},b\n", f"{SECRET}\n{SECRET}\n"])
def test_a_look_at_text_that_is_no_table_shows_no_word(tmp_path, text):
    (tmp_path / "_chat.txt").write_text(text)
    seen = table.inspect(tmp_path / "_chat.txt")
    assert not leaks(seen) and seen.draft == "" and all(c.startswith("(column") for c in seen.columns["column"])


def test_a_look_at_json_shows_no_value_and_no_key_that_is_data(tmp_path):
    rows = [{"id": f"{SECRET}{i}", "made": 1700000000 + i, "by": {"name": SECRET}, "seen": {f"{SECRET}{j}": {"n": j} for j in range(i % 3 + 3)}, "votes": {f"user{SECRET}{i * 40 + j}": SECRET for j in range(40)}, "tags": [SECRET], "log": {f"{SECRET}@example.org": 1}} for i in range(6)]
    for name, text in (("a.json", json.dumps({"page": SECRET, "items": rows})), ("b.json", json.dumps(rows, indent=1)), ("c.ndjson", "\n".join(map(json.dumps, rows)) + "\nbroken " + SECRET + "\n")):
        (tmp_path / name).write_text(text)
        seen = table.inspect(tmp_path / name)
        assert not leaks(seen), name
        assert {"id", "made", "by.name", "seen.<key>.n", "votes.<key>", "tags[*]", "log.<key>"} <= set(seen.columns["column"]), name
        assert parse(seen.draft).get("post", "created_at") == {"column": "made", "form": "epoch"} and parse(seen.draft).get("file", "records") == ("items" if name == "a.json" else None)


def test_a_look_at_parquet_shows_no_value(tmp_path):
    pl.DataFrame({"id": [f"{SECRET}{i}" for i in range(5)], "at": [datetime(2024, 1, 1)] * 5, "by": [SECRET] * 5, "nested": [{"x": SECRET}] * 5}).write_parquet(tmp_path / "a.parquet")
    seen = table.inspect(tmp_path / "a.parquet")
    assert not leaks(seen) and parse(seen.draft).get("file", "format") == "parquet" and seen.files["records"].to_list() == [5]


@pytest.mark.parametrize("name", ["scraped.csv", "trustpilot.json", "hacker-news.ndjson", "inbox.csv", "takeout/Kommentare.csv", "warehouse.ndjson", "app-store.json"])
def test_a_draft_loads_the_file_it_was_drafted_from(lab, by, tmp_path, name):
    seen = table.inspect(EXPORTS / name)
    assert parse(seen.draft) and (seen.files["reader"][0] is not None) == (name not in ("inbox.csv", "warehouse.ndjson"))
    receipt = quiet(lambda: lab.load(EXPORTS / name, mapping=by(seen.draft, tmp_path)))
    assert receipt.stored > 1 and receipt.rejected == 0 and sound(lab)


def test_a_look_at_a_folder_groups_files_that_are_alike(tmp_path):
    for i in range(4): (tmp_path / f"day{i}.csv").write_text(f"id,at\n{SECRET},2024-01-0{i + 1}\n")
    (tmp_path / "empty.txt").write_text("")
    seen = table.inspect(tmp_path)
    assert seen.files.select("file", "alike", "reader").rows() == [("day0.csv", 3, None)] and not leaks(seen)
    with pytest.raises(InvalidParameter, match="no such file"): table.inspect(tmp_path / "day9.csv")
