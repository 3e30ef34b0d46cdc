"""Facebook, Instagram and LinkedIn downloads against real fixtures, recounted in plain Python, and against small shapes with every trap of the formats."""
import csv
import io
import json
import shutil
import tarfile
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

import trustlab as tl
import trustlab.sources  # noqa: F401
from trustlab.bundles import bundles
from trustlab.core import InvalidExport, PartialExport, TrustlabError, UnknownSource
from trustlab.load import COUNTS, READERS
from trustlab.sources import facebook, linkedin
from trustlab.store import Lab

EXPORTS = Path(__file__).parent / "exports"
MINE = ("facebook", "facebook-messages", "instagram", "instagram-messages", "linkedin", "linkedin-messages")
WHEN = 1709551200
pytestmark = [pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport"), pytest.mark.filterwarnings("ignore::trustlab.core.SmallSample"),
              pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture
def lab():
    with Lab() as store: yield store


def counts(row): return tuple((row if isinstance(row, dict) else {c: getattr(row, c) for c in COUNTS})[c] for c in COUNTS)
def one(lab, query, **params): return lab.sql(query, **params).row(0)[0]
def sound(lab): return lab.check().filter((pl.col("part") == "sound") & (pl.col("n") > 0)).is_empty()
def codes(lab): return sorted(lab.sql("select code from reject")["code"].to_list())
def repaired(value):
    "Every string of a JSON value put right, by Python alone"
    if isinstance(value, dict): return {repaired(k): repaired(v) for k, v in value.items()}
    if isinstance(value, list): return [repaired(v) for v in value]
    try: return value.encode("latin-1").decode("utf-8") if isinstance(value, str) else value
    except UnicodeError: return value


def read(path): return repaired(json.loads(path.read_text(encoding="utf-8-sig")))
def at(ms): return datetime(1970, 1, 1) + timedelta(milliseconds=ms)
def packed(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for file in sorted(f for f in folder.rglob("*") if f.is_file()): z.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def written(path, files):
    "A zip of these members; what is no text is written as JSON"
    with zipfile.ZipFile(path, "w") as z:
        for name, content in files.items(): z.writestr(name, content if isinstance(content, (str, bytes)) else json.dumps(content))
    return path


# ---- Messenger: real fixtures

def threads(shared): return sorted((shared / "messenger-msgvault" / "internal" / "fbmessenger" / "testdata").iterdir())


def test_real_threads_are_what_json_says(lab, shared):
    seen, bad = 0, 0
    for case in threads(shared):
        files, expected = sorted(case.rglob("*.json")), []
        if not files: continue
        for file in files:
            try: thread = read(file)
            except ValueError: bad += 1; continue
            expected += [("facebook:" + (m.get("sender_name") or m["senderName"]), at(m.get("timestamp_ms") or m["timestamp"]), m.get("content") or m.get("text") or (m.get("share") or {}).get("share_text"), m.get("isUnsent")) for m in thread["messages"]]
        row = lab.load(case).loads[0]
        found = lab.sql("select author_key, created_at, text from post where load_id = $load", load=row["load_id"]).rows()
        assert sorted(found, key=repr) == sorted([(w, t, None if unsent else x or None) for w, t, x, unsent in expected], key=repr), case.name
        assert (row["scope"], row["source"]) == ("both", "facebook-messages")
        seen += len(expected)
    assert (seen, bad) == (28, 1) and sound(lab) and set(lab.sql("select visibility from post")["visibility"]) == {"direct"}


def test_a_corrupt_thread_is_listed_and_its_sibling_loads(lab, shared):
    receipt = lab.load(shared / "messenger-msgvault" / "internal" / "fbmessenger" / "testdata" / "corrupt")
    assert counts(receipt) == (2, 1, 0, 0, 0, 1) and receipt.loads[0]["status"] == "partial"
    found = lab.sql("select member, code, byte_offset, raw from reject").row(0, named=True)
    assert found["member"].endswith("broken_BAD/message_1.json") and found["code"] == "cut_off" and found["byte_offset"] == 0 and found["raw"].startswith(b"{this is not")


def test_the_parts_of_a_thread_are_one_conversation_in_order(lab, shared):
    lab.load(shared / "messenger-msgvault" / "internal" / "fbmessenger" / "testdata" / "json_multifile")
    assert lab.sql("select right(conversation_key, 10) as c, substr(text, 9, 1) as t from post order by created_at").rows() == [("dave_MULTI", t) for t in "ABCD"]
    assert lab.sql("select substr(q.text, 9, 1) as answers from post p left join post q on q.post_key = p.reply_to_key order by p.created_at")["answers"].to_list() == [None, "A", "B", "C"]
    assert lab.sql("select record from post order by created_at")["record"].to_list() == [2, 1, 3, 4]


def test_encrypted_threads_and_both_activity_folders(lab, shared):
    for case in ("e2ee_simple", "json_with_media_alt", "json_simple"): lab.load(shared / "messenger-msgvault" / "internal" / "fbmessenger" / "testdata" / case)
    assert lab.sql("select conversation_key, count(*) as n from post group by all order by all").rows() == [
        ("facebook:alice_1", 4), ("facebook:alice_ABC123", 3), ("facebook:carol_ALT456", 1), ("facebook:group_2", 2), ("facebook:zoe_ARCH", 1)]
    assert lab.sql("select kind, text from post where record = 4 and conversation_key = 'facebook:alice_1'").rows() == [("service", None)]
    assert sorted(lab.sql("select value from interaction where kind = 'reaction'")["value"]) == ["❤", "❤", "👍"]
    assert set(lab.sql("select text from post where text like 'caf%'")["text"]) == {"café time?"}


def test_what_has_no_words_is_kept(lab, shared):
    lab.load(shared / "messenger-msgvault" / "internal" / "fbmessenger" / "testdata" / "json_nontext")
    assert lab.sql("select kind, text from post order by created_at").rows() == [
        ("service", "Sam left the chat"), ("post", "Example share text"), ("service", None), ("service", None), ("post", None), ("post", None)]


@pytest.mark.parametrize("case", ["html_simple", "html_with_media", "html_multi_media"])
def test_html_is_refused_with_what_to_do(lab, shared, case):
    with pytest.raises(InvalidExport, match="choose JSON"): lab.load(shared / "messenger-msgvault" / "internal" / "fbmessenger" / "testdata" / case)
    assert one(lab, "select count(*) from load") == 0


def test_html_beside_json_is_told(lab, shared):
    with pytest.warns(PartialExport, match="1 HTML pages"): assert lab.load(shared / "messenger-msgvault" / "internal" / "fbmessenger" / "testdata" / "mixed").stored == 2


def test_a_real_thread_with_a_mark(lab, shared):
    path = shared / "chat-analytics-fixtures" / "tests" / "samples" / "messenger" / "2A_7M.json"
    assert path.read_bytes().startswith(b"\xef\xbb\xbf") and counts(lab.load(path)) == (7, 7, 0, 0, 0, 0) and sound(lab)
    expected = [("facebook:" + m["sender_name"], at(m["timestamp_ms"]), m.get("content")) for m in read(path)["messages"]]
    assert lab.sql("select author_key, created_at, text from post order by created_at desc").rows() == expected
    assert set(lab.sql("select conversation_key from post")["conversation_key"]) == {"facebook:alice_aaaaaaaaaa"}
    assert not lab.sql("select * from post").select(pl.any_horizontal(pl.col(pl.String).str.contains("1.1.1.1", literal=True)).any()).row(0)[0]


def test_a_transcribed_thread_has_whole_letters(lab, shared):
    lab.load(shared / "transcribed" / "messenger")
    assert lab.sql("select handle from account order by handle")["handle"].to_list() == ["Ana Kovač", "Jordan Pike", "Sam Rivera"]
    assert lab.sql("select kind, reply_to_account from post order by created_at").rows() == [("service", None), ("service", None), ("post", "facebook:Ana Kovač")]
    assert lab.sql("select actor_key, value from interaction").rows() == [("facebook:Ana Kovač", "❤")]


# ---- LinkedIn: real fixture

def test_a_transcribed_member(lab, shared):
    folder = shared / "transcribed" / "linkedin"
    receipt = lab.load(folder)
    assert [(row["source"], row["scope"], *counts(row)) for row in receipt.loads] == [("linkedin", "own", 8, 8, 0, 0, 0, 0), ("linkedin-messages", "both", 4, 4, 0, 0, 0, 0)] and sound(lab)
    assert receipt.loads[0]["owner_key"] == "linkedin:in/jordanpike"
    def rows(name, **form): return list(csv.DictReader(io.StringIO((folder / name).read_text(encoding="utf-8"), newline=""), **form))
    plain = rows("Comments_17529409.csv") + rows("Shares_17529409.csv")
    both = (folder / "Comments_backslash_quotes.csv").read_text(encoding="utf-8").replace('\\"', '""')
    plain += list(csv.DictReader(io.StringIO(both, newline="")))
    day = lambda text: datetime.fromisoformat(text.removesuffix(" UTC")) if text else None
    expected = [(day(r["Date"]), r.get("Message") or r.get("ShareCommentary")) for r in plain]
    assert sorted(lab.sql("select created_at, text from post where visibility is distinct from 'direct'").rows(), key=repr) == sorted(expected, key=repr)
    sent = [(day(r["DATE"]), r["FROM"], r["CONTENT"]) for name in ("messages.csv", "messages_13col.csv") for r in rows(name)]
    assert sorted(lab.sql("select p.created_at, a.display_name, p.text from post p join account a on a.account_key = p.author_key where visibility = 'direct'").rows()) == sorted(sent)
    assert one(lab, "select text from post where text like 'Back on%'") == 'Back on the "Hey Google" team,\n\nkeystrokes 😀' and one(lab, "select text from post where text like 'They call%'") == 'They call it "now more than ever"!'
    assert one(lab, "select count(*) from post where text like '%Date blank%' and created_at is null") == 1
    assert lab.sql("select reply_to_account, reply_basis from post where text = 'On my way.'").row(0) == ("linkedin:in/jlp", "order")


def test_an_id_knows_the_time_of_its_post(lab, shared):
    lab.load(shared / "transcribed" / "linkedin")
    own = lab.sql("select p.created_at as said, i.occurred_at as made from interaction i join post p on p.post_key = i.value where i.kind = 'parent_time'").row(0)
    assert own[0] == datetime(2026, 5, 7, 16, 41, 18) and own[1] - own[0] == timedelta(milliseconds=377)
    assert one(lab, "select occurred_at from interaction where kind = 'parent_time' and value like '%7401794121226567681'").replace(microsecond=0) == (datetime(1970, 1, 1) + timedelta(milliseconds=7401794121226567681 >> 22)).replace(microsecond=0)


# ---- nobody else's files

def test_no_other_format_is_claimed(shared):
    folders = [f for base in (EXPORTS, shared) for f in sorted(base.iterdir()) if f.is_dir() and f.name not in ("facebook", "instagram", "linkedin", "messenger-msgvault")]
    claims = {}
    for folder in folders:
        try: found = [(name, root) for bundle in bundles(folder) for name in MINE for root in READERS[name].find(bundle)]
        except TrustlabError: found = []
        if found: claims[folder.name] = found
    assert claims == {"chat-analytics-fixtures": [("facebook-messages", "tests/samples/messenger/")], "transcribed": [("facebook-messages", ""), ("linkedin", "linkedin/"), ("linkedin-messages", "linkedin/")]}


def test_and_nobody_else_claims_these():
    for name in ("facebook", "instagram", "linkedin"):
        bundle, = bundles(EXPORTS / name)
        assert {r.name for r in READERS.values() if r.find(bundle)} == {name, name + "-messages"}


def test_each_has_its_sheet():
    for name in MINE:
        sheet = READERS[name].sheet
        assert all(isinstance(v, str) and 0 < len(v) <= 300 for v in vars(sheet).values()), name


# ---- the same export however it is packed

@pytest.mark.parametrize("name", ["facebook", "instagram", "linkedin"])
def test_zip_folder_prefix_and_tar_are_the_same_export(tmp_path, name):
    folder, deep = EXPORTS / name, tmp_path / "deep" / "My download"
    shutil.copytree(folder, deep)
    with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as tar: tar.add(folder, arcname=".")
    seen = []
    for way in (folder, packed(folder, tmp_path / "nested.zip", "some/where [1]/"), tmp_path / "deep", tmp_path / f"{name}.tar.gz"):
        with Lab() as lab:
            receipt = lab.load(way)
            assert [r["source"] for r in receipt.loads] == [name, name + "-messages"] and sound(lab)
            seen.append([lab.sql(f"select * exclude (load_id) from {table} order by all").rows() for table in ("post", "interaction")] + [lab.sql("select * from account order by all").rows()])
            if way == folder:
                again = lab.load(folder)
                assert again.stored == again.changed == 0 and again.same == again.read
                shutil.copytree(folder, tmp_path / "copy")
                (tmp_path / "copy" / "more.txt").write_text("another hash")
                once_more = lab.load(tmp_path / "copy")
                assert (once_more.stored, once_more.changed) == (0, 0) and one(lab, "select count(*) from interaction") == len(seen[0][1]), "loading twice added something"
    for other in seen[1:]: assert other == seen[0]


# ---- Facebook: own side

def own(lab, columns="text, author_key, reply_to_account"): return lab.sql(f"select {columns} from post where visibility is distinct from 'direct' order by created_at, text").rows()


def test_the_smallest_facebook(lab):
    with pytest.warns(PartialExport, match="1 comments and reactions do not say"): receipt = lab.load(EXPORTS / "facebook")
    me = "facebook:Atelier Zoë"
    assert [(row["source"], row["scope"], *counts(row)) for row in receipt.loads] == [("facebook", "own", 14, 13, 0, 0, 1, 0), ("facebook-messages", "both", 17, 16, 0, 0, 1, 0)]
    assert receipt.loads[0]["owner_key"] == me
    assert own(lab) == [
        ("Vandaag open ☀", me, None), (None, me, None), (None, me, None), ("café, typed right", me, None), ("Sorry, Kim!", me, "facebook:Kim Løye"), ("Bedankt", me, "facebook:Lee de Wit"),
        ("Danke", me, "facebook:Jens"), ("one more", me, me), ("?", me, None), ("from the page", "facebook:Zoë Shop", "facebook:Kim Løye"), ("in the group", me, "facebook:Kim Løye"),
        ("in de groep", me, "facebook:Lee de Wit"), ("group post", me, None)]
    assert set(lab.sql("select reply_basis, created_basis from post where visibility is null and reply_to_account is not null").rows()) == {("inferred", "epoch")}
    assert lab.sql("select distinct container_key from post where visibility is null and container_key is not null").rows() == [("facebook:group:Tuinen",)]
    assert lab.sql("select kind, target_key, post_key, value, epoch(occurred_at)::bigint as t from interaction where actor_key = $me order by t", me=me).rows() == [
        ("like", "facebook:Kim Løye", None, "LIKE", WHEN + 100), ("reaction", "facebook:Lee de Wit", "facebook:https://www.facebook.com/groups/7/9", "Geweldig", WHEN + 110),
        ("follow", "facebook:Lee de Wit", None, None, WHEN + 150), ("follow", "facebook:Café Nord", None, "page", WHEN + 160)]


def test_the_records_of_facebook_by_json_alone(lab):
    lab.load(EXPORTS / "facebook", source="facebook")
    base = EXPORTS / "facebook" / "your_facebook_activity"
    posts = read(base / "posts" / "your_posts__check_ins__photos_and_videos_1.json") + read(base / "groups" / "group_posts_and_comments.json")["group_posts_v2"]
    comments = read(base / "comments_and_reactions" / "comments.json")["comments_v2"] + read(base / "groups" / "your_comments_in_groups.json")["group_comments_v2"]
    expected = {(p["timestamp"], next((d["post"] for d in p["data"] if "post" in d), None), str(p.get("attachments"))) for p in posts} | {(c["timestamp"], c["data"][0]["comment"]["comment"], "") for c in comments}
    assert sorted([(t, x) for t, x, _ in expected], key=repr) == sorted(lab.sql("select epoch(created_at)::bigint, text from post").rows(), key=repr)


def test_no_address_is_kept(lab):
    for name in ("facebook", "instagram", "linkedin"): lab.load(EXPORTS / name)
    for table in ("post", "account", "interaction", "load", "reject", "coverage"):
        text = str(lab.sql(f"select * exclude (raw) from {table}" if table == "reject" else f"select * from {table}").rows())
        assert "firm.example" not in text and "10.0.0.9" not in text, table


def test_own_side_is_not_asked_what_it_cannot_answer(lab):
    lab.load(EXPORTS / "facebook", source="facebook", brand="Atelier Zoë")
    with pytest.raises(tl.NotIdentifiable): tl.acknowledgement(lab)


# ---- messages: acknowledgement by hand

def test_acknowledgement_of_a_facebook_inbox(lab):
    lab.load(EXPORTS / "facebook", brand="Atelier Zoë")
    calls = lab.sql("select p.text, i.eligible, i.why_not, a.seconds from inbound i join post p using (post_key) left join answer a using (post_key) where i.why_not is distinct from 'by_brand' order by i.arrived_at").rows()
    assert calls == [("I am gone", False, "author_unknown", None), ("secret?", True, None, 2.0), ("Are you open?", True, None, None), ("and one more", True, None, 180.0), ("Still there?", True, None, 100.0)]
    frame = tl.acknowledgement(lab).frame
    assert frame.select("n", "acknowledged", "response_rate").rows() == [(2, 2, 1.0)]
    runs = tl.acknowledgement(lab, unit="run", within=("3m", "1h")).frame
    assert runs.select("n", "acknowledged").rows() == [(3, 3)] and runs["ack_3m"][0] == pytest.approx(2 / 3) and runs["median_seconds"][0] == 100.0


def test_acknowledgement_on_linkedin_and_instagram(lab):
    lab.load(EXPORTS / "linkedin", EXPORTS / "instagram")
    lab.roles(pl.DataFrame([("linkedin:in/zoeatelier", "brand", "zoe"), ("instagram:name:Atelier Zoë", "brand", "zoe")], schema=["account", "role", "brand"], orient="row"))
    assert lab.sql("select p.text, a.seconds from inbound i join post p using (post_key) left join answer a using (post_key) where i.eligible order by i.arrived_at").rows() == [
        ("Are you open?", None), ("and soon?", 360.0), ("Open?", 60.0)]
    frame = tl.acknowledgement(lab, by="platform", within=("5m", "1h")).frame.sort("platform")
    assert frame.select("platform", "n", "acknowledged", "ack_5m", "ack_1h").rows() == [("instagram", 1, 1, 1.0, 1.0), ("linkedin", 1, 1, 0.0, 1.0)]


def test_messages_of_one_thread(lab):
    lab.load(EXPORTS / "facebook", source="facebook-messages")
    thread = lab.sql("""select p.kind, p.text, q.text as answers, p.reply_basis from post p left join post q on q.post_key = p.reply_to_key
        where p.conversation_key = 'facebook:kimloye_101' order by p.created_at, p.text""").rows()
    assert thread == [("post", "Welcome", None, "inferred"), ("post", "Are you open?", "Welcome", "order"), ("post", "and one more", "Welcome", "order"), ("post", "one", "and one more", "order"),
                      ("post", "two", "and one more", "order"), ("service", None, None, None), ("post", "Still there?", thread[6][2], "order"), ("service", "Liked a message", None, None), ("post", "Bonjour ☕", "Still there?", "order")]
    assert thread[6][2] in ("one", "two")
    assert one(lab, "select count(distinct post_key) from post where text in ('one', 'two')") == 2
    assert lab.sql("select distinct reply_to_key, reply_to_account from post where conversation_key = 'facebook:crew_102'").rows() == [(None, None)]
    assert lab.sql("select author_key, reply_to_account, reply_basis from post where conversation_key = 'facebook:facebookuser_103' order by created_at").rows() == [(None, "facebook:Atelier Zoë", "inferred"), ("facebook:Atelier Zoë", None, "order")]
    assert lab.sql("select kind, text from post where conversation_key = 'facebook:Lee de Wit_7' order by created_at").rows() == [("post", "secret?"), ("service", None), ("post", "yes")]
    assert lab.sql("select container_key, container, closed from coverage order by all").rows() == [
        ("facebook:Lee de Wit_7", "Lee de Wit", False), ("facebook:crew_102", "Crew", False), ("facebook:facebookuser_103", "Facebook user", False), ("facebook:kimloye_101", "Kim Løye", False)]
    assert "Facebook user" not in lab.sql("select handle from account")["handle"].to_list() and one(lab, "select count(*) from interaction") == 2


def test_a_newer_download_of_messages_changes_what_was_taken_back(lab, tmp_path):
    base = {"participants": [{"name": "A"}, {"name": "B"}], "title": "A", "thread_path": "inbox/a_1"}
    said = {"sender_name": "A", "timestamp_ms": WHEN * 1000, "content": "oh no"}
    lab.load(written(tmp_path / "1.zip", {"messages/inbox/a_1/message_1.json": base | {"messages": [said]}}))
    later = {"sender_name": "B", "timestamp_ms": WHEN * 1000 + 5, "content": "what?"}
    receipt = lab.load(written(tmp_path / "2.zip", {"messages/archived_threads/a_1/message_1.json": base | {"messages": [later, {k: v for k, v in said.items() if k != "content"} | {"is_unsent": True}], "thread_path": "archived_threads/a_1"}}))
    assert (receipt.stored, receipt.changed) == (1, 1) and lab.sql("select kind, text from post order by created_at").rows() == [("service", None), ("post", "what?")]


# ---- letters, names, sentences, labels

@pytest.mark.parametrize(("raw", "meant"), [(r'"L\u00c3\u00b8ye"', "Løye"), (r'"caf\u00e9"', "café"), (r'"\u00e2\u009d\u00a4 \ud83d\ude00"', None), (r'"\u2019\u00c3\u00b8"', "’Ã¸"), (r'"plain"', "plain"),
                                            (r'"\u00f0\u009f\u0091\u008d \u00c3\u00a9"', "👍 é"), (r'"a\nb \u00c3\u00a9"', "a\nb é"), ('"Ã¸"', "ø"), (r'"say \"ip\": \"1\" \u00c3\u00a9"', 'say "ip": "1" é')])
def test_each_string_is_repaired_or_left(raw, meant):
    meant = json.loads(raw) if meant is None else meant
    assert json.loads(facebook.mended('{"k": %s, "n": 1.50}' % raw))["k"] == meant and '"n": 1.50' in facebook.mended('{"k": %s, "n": 1.50}' % raw)


def test_keys_are_made_of_repaired_names_and_numbers_are_untouched(lab, tmp_path):
    lab.load(written(tmp_path / "f.zip", {"messages/inbox/a_1/message_1.json": '{"participants": [{"name": "Zo\\u00c3\\u00ab"}], "messages": [{"sender_name": "Zo\\u00c3\\u00ab", "timestamp_ms": 1709551200000, "content": "caf\\u00e9"}]}'}))
    assert lab.sql("select author_key, text from post").rows() == [("facebook:Zoë", "café")]


def test_names_read_as_an_old_code_page(lab, tmp_path):
    name = "connections/followers/who_you’ve_followed.json".encode().decode("cp437")
    lab.load(written(tmp_path / "f.zip", {name: {"following_v3": [{"name": "Lee", "timestamp": WHEN}]}, "comments_and_reactions/comments.json": comments(comment())}))
    assert lab.sql("select kind, target_key from interaction").rows() == [("follow", "facebook:Lee")]


@pytest.mark.parametrize("root", ["your_activity_across_facebook/comments_and_reactions/", "your_facebook_activity/comments_and_reactions/", "comments_and_reactions/", "comments/", "deep/er/your_facebook_activity/comments_and_reactions/", ""])
def test_every_folder_that_facebook_used(lab, tmp_path, root):
    assert lab.load(written(tmp_path / "f.zip", {root + "comments.json": comments(comment())})).stored == 1
    assert one(lab, "select reply_to_account from post") == "facebook:Kim"


def test_both_folders_in_one_download_are_one(lab, tmp_path):
    receipt = lab.load(written(tmp_path / "f.zip", {"your_activity_across_facebook/posts/your_posts_1.json": [{"timestamp": WHEN, "data": [{"post": "a"}]}], "your_facebook_activity/comments_and_reactions/comments.json": comments(comment())}))
    assert len(receipt.loads) == 1 and receipt.stored == 2


def comment(n=0, text="hi", title="Zoë commented on Kim's post.", author="Zoë"):
    return {"timestamp": WHEN + n, "data": [{"comment": {"timestamp": WHEN + n, "comment": text, "author": author}}], "title": title}


def comments(*records): return {"comments_v2": list(records)}


SENTENCES = {
    "Zoë commented on Kim de Vries's photo.": "Kim de Vries", "Zoë replied to James' comment.": "James", "Zoë replied to Kim's comment.": "Kim", "Zoë liked Kim's post.": "Kim", "Zoë commented on his own post.": "Zoë",
    "Zoë heeft gereageerd op de foto van Kim de Vries.": "Kim de Vries", "Zoë vindt het bericht van Kim leuk.": "Kim", "Zoë heeft gereageerd op haar eigen bericht.": "Zoë",
    "Zoë hat Kims Beitrag kommentiert.": "Kim", "Zoë hat auf Kim's Kommentar geantwortet.": "Kim", "Zoë gefällt Kims Foto.": "Kim",
    "Zoë a commenté la photo de Kim.": "Kim", "Zoë a répondu au commentaire d’Ana.": "Ana", "Zoë aime la publication de Kim.": "Kim",
    "Zoë comentó una publicación de Kim.": "Kim", "Zoë respondió al comentario de Kim.": "Kim", "A Zoë le gusta la publicación de Kim.": "Kim",
    "Zoë comentou no post de Kim.": "Kim", "Zoë respondeu ao comentário da Kim.": "Kim", "Zoë curtiu a publicação de Kim.": "Kim",
    "Zoë ha commentato il post di Kim.": "Kim", "Zoë ha risposto al commento di Kim.": "Kim", "Zoë kommenterade Kims inlägg.": None, "Kim's post": None}


def test_sentences_of_seven_languages(lab, tmp_path):
    lab.load(written(tmp_path / "f.zip", {"comments.json": comments(*(comment(n, str(n), title) for n, title in enumerate(SENTENCES)))}))
    found = lab.sql("select reply_to_account from post order by text::int")["reply_to_account"].to_list()
    assert dict(zip(SENTENCES, found)) == {title: name and "facebook:" + name for title, name in SENTENCES.items()}


def instagram_comment(names, text="hi", who="kim", n=0): return {"media_list_data": [], "string_map_data": {names[0]: {"value": text}, names[1]: {"value": who}, names[2]: {"timestamp": WHEN + n}}}


@pytest.mark.parametrize("names", [("Comment", "Media Owner", "Time"), ("Opmerking", "Media-eigenaar", "Tijd"), ("Kommentar", "Medieninhaber", "Zeit"), ("Commentaire", "PropriÃ©taire du mÃ©dia", "Heure"),
                                   ("Comentario", "Propietario del contenido multimedia", "Hora"), ("ComentÃ¡rio", "ProprietÃ¡rio da mÃ­dia", "Hora"), ("Commento", "Proprietario del contenuto multimediale", "Ora")])
def test_labels_of_seven_languages(lab, tmp_path, names):
    names = [n.encode("latin-1", "ignore").decode("latin-1") for n in names]
    lab.load(written(tmp_path / "instagram.zip", {"comments/post_comments_1.json": [instagram_comment(names)]}))
    assert lab.sql("select text, reply_to_account, epoch(created_at)::bigint as t from post").rows() == [("hi", "instagram:kim", WHEN)]


def test_an_unknown_label_rejects_and_is_told(lab, tmp_path):
    klingon = [instagram_comment(("jachHa", "ghotI", "poH"), n=1), instagram_comment(("Comment", "ghotI", "Time"), n=2)]
    path = written(tmp_path / "instagram.zip", {"comments/post_comments_1.json": [instagram_comment(("Comment", "Media Owner", "Time")), *klingon, instagram_comment(("Comment", "Media Owner", "Time"), "yo", n=3)]})
    with pytest.warns(PartialExport, match="ghotI, jachHa"): receipt = lab.load(path)
    assert counts(receipt) == (4, 2, 0, 0, 0, 2) and codes(lab) == ["unknown_label"] * 2
    assert one(lab, "select count(*) from post where text is null or reply_to_account is null") == 0


def test_a_label_can_be_added(lab, tmp_path, monkeypatch):
    for field, label in (("text", "jachha"), ("owner", "ghoti")): monkeypatch.setitem(facebook.LABELS, field, [*facebook.LABELS[field], label])
    lab.load(written(tmp_path / "instagram.zip", {"comments/post_comments_1.json": [instagram_comment(("jachHa", "ghotI", "poH"))]}))
    assert lab.sql("select text, reply_to_account from post").rows() == [("hi", "instagram:kim")]


def test_a_facebook_reaction_with_unknown_labels(lab, tmp_path):
    like = lambda label: {"timestamp": WHEN, "label_values": [{"label": label, "value": "Thích"}, {"dict": [{"label": "Tên", "value": "Kim"}], "title": "Tác giả"}], "fbid": "1"}
    lab.load(written(tmp_path / "f.zip", {"comments_and_reactions/comments.json": comments(comment()), "comments_and_reactions/likes_and_reactions_1.json": [like("Cảm xúc"), like("Hugh"), {"timestamp": WHEN, "label_values": []}]}))
    assert codes(lab) == ["missing_reaction", "unknown_label"] and lab.sql("select kind, target_key, value from interaction").rows() == [("reaction", "facebook:Kim", "Thích")]


# ---- Instagram: own side

def test_the_smallest_instagram(lab):
    receipt = lab.load(EXPORTS / "instagram")
    assert [(row["source"], row["scope"], *counts(row)) for row in receipt.loads] == [("instagram", "own", 8, 8, 0, 0, 0, 0), ("instagram-messages", "both", 2, 2, 0, 0, 0, 0)]
    assert receipt.loads[0]["owner_key"] == "instagram:atelier.zoe"
    assert own(lab, "text, reply_to_account") == [("Open ☀ met @lee.dewit.", None), ("two pictures", None), ("reel", None), (None, None), (None, None), ("Sorry @kim.loye ❤", "instagram:kim.loye"), ("medium is gone", None), ("in English", "instagram:lee.dewit")]
    me = "instagram:atelier.zoe"
    assert lab.sql("select kind, actor_key, target_key, post_key, value, epoch(occurred_at)::bigint - 1709551200 as t from interaction where kind <> 'mention' order by t").rows() == [
        ("like", me, "instagram:kim.loye", "instagram:Cx1_-a", "👍", 80), ("like", me, "instagram:kim.loye", "instagram:Cx2", None, 81), ("like", me, "instagram:lee.dewit", None, None, 82),
        ("follow", "instagram:kim.loye", me, None, None, 90), ("follow", me, "instagram:lee.dewit", None, None, 91)]
    assert sorted(lab.sql("select target_key, value from interaction where kind = 'mention'").rows()) == [("instagram:kim.loye", "text"), ("instagram:lee.dewit", "text")]
    assert {"instagram:name:Kim Løye", "instagram:kim.loye"} <= set(lab.sql("select account_key from account")["account_key"])


def test_a_comment_alone_in_its_file_and_empty_lists(lab, tmp_path):
    files = {"comments/post_comments_1.json": instagram_comment(("Comment", "Media Owner", "Time")), "comments/reels_comments.json": {"comments_reels_comments": []}, "likes/liked_posts.json": {"likes_media_likes": []}, "media/posts_1.json": []}
    assert counts(lab.load(written(tmp_path / "instagram.zip", files))) == (1, 1, 0, 0, 0, 0) and lab.sql("select text, author_key from post").rows() == [("hi", None)]


def test_instagram_as_html(lab, tmp_path):
    with pytest.raises(InvalidExport, match="Instagram download was made as HTML.*choose JSON"): lab.load(written(tmp_path / "i.zip", {"your_instagram_activity/comments/post_comments_1.html": "<html></html>"}))


def test_threads_go_to_the_app_they_lie_in(tmp_path):
    thread = {"participants": [{"name": "A"}], "messages": [{"sender_name": "A", "timestamp_ms": WHEN * 1000}]}
    ways = {"facebook-messages": ["messages/inbox/a_1/message_1.json", "your_facebook_activity/messages/inbox/a_1/message_1.json"], "instagram-messages": ["your_instagram_activity/messages/inbox/a_1/message_1.json"]}
    for reader, names in ways.items():
        for n, name in enumerate(names):
            bundle, = bundles(written(tmp_path / f"{reader[:2]}{n}.zip", {name: thread}))
            assert [r for r in MINE if READERS[r].find(bundle)] == [reader], name


# ---- LinkedIn: own side and messages

def test_the_smallest_linkedin(lab):
    with pytest.warns(PartialExport, match="have no date"): receipt = lab.load(EXPORTS / "linkedin")
    assert [(row["source"], row["scope"], *counts(row)) for row in receipt.loads] == [("linkedin", "own", 5, 5, 0, 0, 0, 0), ("linkedin-messages", "both", 8, 8, 0, 0, 0, 0)]
    me, own_share = "linkedin:in/zoeatelier", "linkedin:urn:li:share:7170377436364800000"
    assert receipt.loads[0]["owner_key"] == me
    assert lab.sql("select text, visibility, reply_to_key, reply_to_account, reply_basis, created_basis from post where author_key = $me and visibility is distinct from 'direct' and kind = 'post' order by created_at nulls last", me=me).rows() == [
        ('They call it "care",\nI call it work', "public", None, None, None, "assumed"), ('On my own: "yes",\n\nand on', None, own_share, me, "explicit", "assumed"), ("Only for friends", "followers", None, None, None, "assumed"),
        ('Great, "Lee"!', None, "linkedin:urn:li:activity:7171063205068800000", None, "explicit", "assumed"), ("no date here", None, "linkedin:urn:li:activity:7171063205068800000", None, "explicit", None)]
    assert lab.sql("select p.text, epoch(p.created_at - i.occurred_at)::bigint as late from interaction i join post p using (post_key) where i.kind = 'parent_time' order by late").rows() == [('Great, "Lee"!', 900), ('On my own: "yes",\n\nand on', 3600)]
    assert lab.sql("select kind, target_key, value, occurred_at from interaction where kind <> 'parent_time' order by kind").rows() == [
        ("follow", "linkedin:in/leedewit", "connection", datetime(2024, 2, 16)), ("like", None, "LIKE", datetime(2024, 3, 6, 9, 2)), ("reaction", None, "PRAISE", datetime(2024, 3, 6, 9, 1))]
    assert lab.sql("select handle, display_name, url from account where account_key = 'linkedin:in/leedewit'").row(0) == ("leedewit", "Lee de Wit, MBA", "https://www.linkedin.com/in/leedewit")


def test_linkedin_conversations(lab):
    lab.load(EXPORTS / "linkedin", source="linkedin-messages")
    talk = lambda c: lab.sql("select p.kind, p.author_key, p.text, q.text as answers, p.reply_basis, p.visibility from post p left join post q on q.post_key = p.reply_to_key where p.conversation_key = $c order by p.created_at", c="linkedin:" + c).rows()
    kim, zoe = "linkedin:in/kimloye", "linkedin:in/zoeatelier"
    assert talk("2-a") == [("post", kim, "Are you open?", None, "inferred", "direct"), ("post", kim, "and soon?", None, "inferred", "direct"), ("post", zoe, 'So: "yes", we are', "and soon?", "order", "direct"), ("service", zoe, "never sent", None, None, "internal")]
    assert [(row[1], row[4]) for row in talk("2-b")] == [(kim, None), (zoe, None)] and [(row[1], row[4]) for row in talk("2-c")] == [(None, "inferred"), (zoe, "order")]
    assert set(lab.sql("select created_basis from post")["created_basis"]) == {"utc"} and one(lab, "select container from coverage where container_key = 'linkedin:2-b'") == "Three of us"


@pytest.mark.parametrize(("files", "key"), [({}, None), ({"Comments_4711000.csv": ""}, "linkedin:member:4711000"), ({"Profile.csv": "First Name,Last Name,Headline\nZo,E,x\n"}, "linkedin:name:Zo E"),
                                            ({"Invitations.csv": 'From,To,Sent At,Direction,inviterProfileUrl,inviteeProfileUrl\nA,B,x,INCOMING,https://www.linkedin.com/in/a,https://www.linkedin.com/in/Me\n'}, "linkedin:in/me")])
def test_whose_linkedin_it_is(lab, tmp_path, files, key):
    body = "Date,Link,Message\n2024-03-04 10:00:00,https://x/a,hi\n"
    name = next((n for n in files if n.startswith("Comments")), "comments.csv")
    receipt = lab.load(written(tmp_path / "l.zip", {**files, name: body}))
    assert receipt.loads[0]["owner_key"] == key and lab.sql("select author_key from post").rows() == [(key,)]


def test_four_forms_of_a_date(lab, tmp_path):
    days = ["2026-01-29 14:37:00", "2026-01-29 14:37:00 UTC", '"1/29/26, 2:37 PM"', "29 Jan 2026"]
    lab.load(written(tmp_path / "l.zip", {"COMMENTS.CSV": "Date,Link,Message\r\n" + "".join(f"{d},https://x/{n},c{n}\r\n" for n, d in enumerate(days))}))
    assert lab.sql("select created_at, created_basis from post order by text").rows() == [(datetime(2026, 1, 29, 14, 37), b) for b in ("assumed", "utc", "assumed")] + [(datetime(2026, 1, 29), "assumed")]


def test_a_preamble_does_not_hide_the_header(lab, tmp_path):
    lab.load(written(tmp_path / "l.zip", {"Comments.csv": 'Notes:\n"Some words, of the house"\n\nDate,Link,Message\n2024-03-04 10:00:00,https://x/a,hi\nbad,https://x/b,no\n2024-03-04 10:00:01,https://x/c\n'}))
    assert lab.sql("select code, record, line from reject order by record").rows() == [("bad_time", 2, None), ("wrong_number_of_columns", 3, 7)] and one(lab, "select count(*) from post") == 1


@pytest.mark.parametrize(("line", "code"), [(b'2024-03-04 10:00:00,https://x/b,"never closed', "bad_quotes"), (b"2024-03-04 10:00:00,https://x/b", "wrong_number_of_columns"), (b"1,2,3,4,5", "wrong_number_of_columns"),
                                            (b"2024-03-04 10:00:00,https://x/b,caf\xe9", "bad_utf8"), (b"soon,https://x/b,when", "bad_time"), (b"1924-03-04 10:00:00,https://x/b,old", "timestamp_out_of_range"), (b"2024-03-04 10:00:00,,", "missing_message")])
def test_a_broken_line_between_two_good_ones(lab, tmp_path, line, code):
    head, good = b"Date,Link,Message\n", b'2024-03-04 10:00:0%d,https://x/a,"fine, \\"%d\\""\n'
    body = head + good % (1, 1) + line + b"\n" + good % (2, 2)
    assert counts(lab.load(written(tmp_path / "l.zip", {"Comments.csv": body}))) == (3, 2, 0, 0, 0, 1)
    found = lab.sql("select code, record, byte_offset from reject").row(0)
    assert found == (code, 2, body.index(line)) and lab.sql("select text from post order by created_at")["text"].to_list() == ['fine, "1"', 'fine, "2"']
    if code in ("bad_quotes", "wrong_number_of_columns", "bad_utf8"): assert lab.sql("select line, raw from reject").row(0) == (3, line + b"\n")


def test_quotes_of_both_kinds_against_a_writer_of_each():
    texts = ['say "hi"', "a,b", "two\nlines", 'ends with "', '"', "", "back \\ slash", 'both "x", and\n"y"']
    doubled = io.StringIO()
    csv.writer(doubled, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["d", "l", t] for t in texts])
    slashed = "".join('"d","l","' + t.replace('"', '\\"') + '"\n' for t in texts)
    for body in (doubled.getvalue(), slashed):
        got = [fields[2] for *_, fields, _ in linkedin.rows(io.BytesIO(b"Date,Link,Message\n" + body.encode()), 3, 1)]
        assert got == texts, body


# ---- faults

FB = "your_facebook_activity/comments_and_reactions/comments.json"
THREAD = "your_facebook_activity/messages/inbox/a_1/message_1.json"


def thread(*messages): return {"participants": [{"name": "A"}, {"name": "B"}], "messages": list(messages), "title": "B", "thread_path": "inbox/a_1"}
def said(n=0, **more): return {"sender_name": "A", "timestamp_ms": (WHEN + n) * 1000, "content": f"m{n}"} | more
def without(record, key): return {k: v for k, v in record.items() if k != key}


@pytest.mark.parametrize(("bad", "code"), [(7, "not_an_object"), (without(said(1), "sender_name"), "missing_sender_name"), (without(said(1), "timestamp_ms"), "missing_timestamp_ms"), (said(1, timestamp_ms="soon"), "bad_time"),
                                           (said(1, timestamp_ms=WHEN), "timestamp_out_of_range"), (said(1, timestamp_ms=WHEN * 10 ** 6), "bad_time"), (said(1, timestamp_ms=-1), "bad_time")])
def test_a_bad_message_between_two_good_ones(lab, tmp_path, bad, code):
    path = written(tmp_path / "f.zip", {THREAD: thread(said(0), bad, said(2))})
    assert counts(lab.load(path)) == (3, 2, 0, 0, 0, 1) and codes(lab) == [code] and sound(lab)
    assert lab.sql("select text from post order by created_at")["text"].to_list() == ["m0", "m2"] and lab.sql("select record, byte_offset > 0 as placed from reject").row(0) == (2, True)


@pytest.mark.parametrize(("bad", "code"), [(None, "not_an_object"), (without(comment(1) | {"data": [{"comment": {"comment": "x", "author": "Zoë"}}]}, "timestamp"), "missing_timestamp"), (comment(1) | {"data": []}, "missing_comment"),
                                           (comment(-WHEN), "timestamp_out_of_range"), (comment(1) | {"timestamp": "soon"}, "bad_time"), (comment(1) | {"fbid": 17900000000000001.0}, "id_not_exact")])
def test_a_bad_comment_between_two_good_ones(lab, tmp_path, bad, code):
    assert counts(lab.load(written(tmp_path / "f.zip", {FB: comments(comment(0, "a"), bad, comment(2, "b"))}))) == (3, 2, 0, 0, 0, 1)
    assert codes(lab) == [code] and lab.sql("select text from post order by created_at")["text"].to_list() == ["a", "b"]


@pytest.mark.parametrize(("name", "content"), [(FB, comments(comment(0, "a"), comment(1, "b"), comment(2, "c"))), (THREAD, thread(said(0), said(1), said(2))),
                                               ("instagram/comments/post_comments_1.json", [instagram_comment(("Comment", "Media Owner", "Time"), n=n) for n in range(3)])])
def test_broken_files_keep_what_is_whole(tmp_path, name, content):
    whole = json.dumps(content).encode()
    third = whole.rindex(b'"sender_name"' if "sender" in str(content) else b'{"timestamp": %d' % (WHEN + 2) if "comments_v2" in str(content) else b'{"media_list_data"')
    ways = {"cut": (whole[: third + 20], (3, 2, 1)), "mark": (b"\xef\xbb\xbf" + whole, (3, 3, 0)),
            "garbled": (whole[:third] + whole[third:].replace(b'hi"' if b'hi"' in whole else b'm2"' if b'm2"' in whole else b'"c"', b'\xe9"' if b'"c"' not in whole else b'"\xe9"'), (3, 2, 1))}
    for how, (body, expected) in ways.items():
        with Lab() as lab:
            receipt = lab.load(written(tmp_path / f"{how}.zip", {name: body}))
            assert (receipt.read, receipt.stored, receipt.rejected) == expected, how
            if expected[2]: assert codes(lab) == ["cut_off" if how == "cut" else "bad_utf8"], how


@pytest.mark.parametrize("name", [FB, THREAD, "your_instagram_activity/comments/post_comments_1.json", "Comments.csv", "messages.csv", "posts/your_posts_1.json"])
def test_nothing_in_it_is_said_plainly(lab, tmp_path, name):
    for body in (b"", b"[]", b"{}", b"null", b"{this is not", b'{"comments_v2": []}', b"\x00\xff\xfe", b'{"participants": [], "messages": []}', b"[" * 5000):
        with pytest.raises((InvalidExport, UnknownSource)): lab.load(written(tmp_path / "x.zip", {name: body}))
    assert one(lab, "select count(*) from load") == 0


def test_changed_formats_are_named(lab, tmp_path):
    with pytest.raises(InvalidExport, match="timestamp.*may have changed"):
        lab.load(written(tmp_path / "f.zip", {FB: comments(*(comment(n) | {"data": [{"comment": {"comment": "x"}}], "timestamp": None} for n in range(2)))}))
    with pytest.raises(InvalidExport, match="sender_name.*may have changed"): lab.load(written(tmp_path / "m.zip", {THREAD: thread(*({**without(said(n), "sender_name"), "who": "sender_name"} for n in range(2)))}))
    with pytest.warns(PartialExport, match="not understood.*likes_and_reactions_2.json"):
        lab.load(written(tmp_path / "g.zip", {FB: comments(comment()), "your_facebook_activity/comments_and_reactions/likes_and_reactions_2.json": {"reactions_v9": [{"a": 1}]}}))
    with pytest.warns(PartialExport, match="not understood.*Shares.csv"):
        lab.load(written(tmp_path / "l.zip", {"Comments.csv": "Date,Link,Message\n2024-03-04 10:00:00,https://x/a,hi\n", "Shares.csv": "When,What\n1,2\n"}))


def test_a_lone_surrogate_and_a_double_key(lab, tmp_path):
    body = json.dumps(thread(said(0), said(1), said(2), said(3))).replace('"m1"', '"\\ud83d"').replace('"m2"', '"m2", "content": "again"')
    receipt = lab.load(written(tmp_path / "f.zip", {THREAD: body}))
    assert receipt.read == 4 and receipt.stored + receipt.rejected == 4 and "duplicate_key" in codes(lab)
    assert {"m0", "m3"} <= set(lab.sql("select text from post")["text"])


def test_two_gigabytes_are_one_part():
    assert facebook.split_note(2 ** 31) and "split" in facebook.split_note(2 ** 31)[0] and not facebook.split_note(2 ** 31 + 1)


def test_media_are_not_opened(lab, tmp_path):
    files = {THREAD: thread(said())} | {f"your_facebook_activity/messages/inbox/a_1/photos/{n}.jpg": b"\xff" for n in range(3000)}
    bundle, = bundles(written(tmp_path / "f.zip", files))
    opened, opens = [], bundle.open
    bundle.open = lambda name: opened.append(name) or opens(name)
    assert READERS["facebook-messages"].find(bundle) and not READERS["facebook"].find(bundle) and not any(n.endswith(".jpg") for n in opened)
