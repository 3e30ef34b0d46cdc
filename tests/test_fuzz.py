"""Damaged exports of every format: each one is read or refused in a clear sentence, soon, and every record is accounted for.

`TRUSTLAB_FUZZ=20000 pytest tests/test_fuzz.py` tries about that many inputs, chosen anew each time; without it a few of each format, always the same."""
import csv
import io
import json
import os
import re
import signal
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from xml.sax.saxutils import quoteattr, unescape

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import trustlab.sources  # noqa: F401
from trustlab.core import TrustlabError
from trustlab.delimited import DELIMITERS, locate, newlined, read, walk
from trustlab.intake import array_records, unreadable
from trustlab.load import COUNTS, READERS
from trustlab.store import Lab

EXPORTS = Path(__file__).resolve().parent / "exports"
TRIES, SECONDS = int(os.environ.get("TRUSTLAB_FUZZ", 0)), 60
EACH = max(TRIES // len(READERS), 4) if TRIES else 4
FEW = settings(max_examples=EACH, deadline=None, derandomize=not TRIES, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate, Phase.shrink] if TRIES else [Phase.explicit, Phase.generate])


# ---- sound exports, by reader

def below(*parts, without="", only=""):
    "The files below a path in tests/exports, as name to bytes"
    path = EXPORTS.joinpath(*parts)
    if path.is_file(): return {path.name: path.read_bytes()}
    found = {f.relative_to(path).as_posix(): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}
    return {n: b for n, b in found.items() if not (without and without in n) and only in n}


def made(name, *lines): return {name: "\n".join(lines + ("",)).encode()}


TWCS = made("t.csv", "tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id", "1,101,True,Mon Jan 01 10:00:00 +0000 2024,@Acme hello,2,",
            '2,Acme,False,Mon Jan 01 10:05:00 +0000 2024,"@101 we look, now",3,1', '3,101,True,Mon Jan 01 10:07:00 +0000 2024,"two\nlines, ""so""",,2', "4,102,True,Mon Jan 01 10:09:00 +0000 2024,caf\u00e9 @Acme,,")
REVIEW = {"reviewId": "g1", "authorName": "Kim", "comments": [{"userComment": {"text": "t\tnice", "lastModified": {"seconds": "1704103200"}, "starRating": 4, "reviewerLanguage": "de", "thumbsUpCount": 2}},
          {"developerComment": {"text": "Thanks!", "lastModified": {"seconds": "1704106800"}}}]}
STEAM = {"recommendationid": "7", "author": {"steamid": "76"}, "language": "english", "review": "fine", "timestamp_created": 1704103200, "timestamp_updated": 1704103200, "votes_up": 3, "comment_count": 1, "timestamp_dev_responded": 1704106800, "developer_response": "Thanks"}
PLACE = {"name": "accounts/1/locations/2/reviews/a", "reviewId": "a", "reviewer": {"displayName": "Kim"}, "starRating": "FIVE", "comment": "good", "createTime": "2024-01-15T10:30:00Z", "updateTime": "2024-01-15T10:30:00Z",
         "reviewReply": {"comment": "Thank you", "updateTime": "2024-01-16T08:00:00Z"}}
SHAPES = {
    "twcs": [TWCS], "slack": [below("slack"), below("slackdump", "dump"), below("slackdump", "export")], "mastodon": [below("mastodon")], "zendesk": [below("zendesk", "api"), below("zendesk", "tables"), below("zendesk", "export.jsonl")],
    "intercom": [below("intercom", "api"), below("intercom", "tables")], "github": [below("github", "rest"), below("github", "2024-05-01-8.json")], "bluesky": [below("bluesky", d) for d in ("records", "stream", "threads")],
    "reddit": [below("reddit")], "stackexchange": [below("stackexchange")], "discord": [below("discord", only="Brightlamp"), below("discord", "direct.json"), below("discord", "threads")],
    "telegram": [below("telegram", "account.json"), below("telegram", "old.json")], "whatsapp": [below("whatsapp", "WhatsApp Chat with Ada.txt"), below("whatsapp", "iphone")], "zulip": [below("zulip")],
    "x-archive": [below("x_archive")], "x-api": [below("x_api", n) for n in ("pages.jsonl", "statuses.json", "table.csv")], "facebook": [below("facebook", without="messages/")], "facebook-messages": [below("facebook", only="messages/")],
    "instagram": [below("instagram", without="messages/")], "instagram-messages": [below("instagram", only="messages/")], "linkedin": [below("linkedin", without="messages")], "linkedin-messages": [below("linkedin", only="messages")],
    "discourse": [below("discourse", "topics"), below("discourse", "archive")], "youtube": [below("youtube", "replies"), below("youtube", "threads")],
    "app-store": [below("table", "app-store.json")], "google-play-console": [below("table", "reviews_org.example.app_202401.csv")], "google-play-scraper": [below("table", "scraped.csv")], "hacker-news": [below("table", "hacker-news.ndjson")],
    "reddit-gdpr": [below("table", "request", only="comments")], "reddit-gdpr-posts": [below("table", "request", only="posts")], "trustpilot": [below("table", "trustpilot.json")], "youtube-takeout": [below("table", "takeout")],
    "google-play-api": [made("acme.json", json.dumps({"reviews": [REVIEW, REVIEW | {"reviewId": "g2"}]}))], "steam-reviews": [made("game.json", json.dumps({"success": 1, "reviews": [STEAM, STEAM | {"recommendationid": "8"}]}))],
    "google-business-profile": [made("place.json", json.dumps({"reviews": [PLACE, PLACE | {"reviewId": "b"}], "totalReviewCount": 2}))],
    "khoros": [made("k.csv", "postId,postDate,post,conversationId,replyToId,authorId,authorName,direction,channel", "1,1704103200000,help,c1,,a,Ann,INBOUND,acme", "2,2024-01-01T11:00:00Z,sure,c1,1,b,Ben,OUTBOUND,acme")],
    "brandwatch": [made("b.csv", "Report: mentions", "", "Query Id,Resource Id,Date,Title,Snippet,Full Text,Url,Language,Author,Thread Id,Reply To", "1,r1,2024-01-01 10:00:00.0,T,S,@acme hello,https://x.example/1,en,ann,t1,", "1,r2,2024-01-01 11:00:00.0,T,S,hello,,en,acme,t1,r1")],
    "hootsuite": [made("h.csv", "Conversation ID,Message ID,Created at,Direction,Message,Contact Profile ID,Contact Name,Channel,Medium", "c1,m1,2024-01-01 10:00,Inbound,help,p1,Ann,acme,dm", "c1,m2,2024-01-01 10:05,Outbound,sure,p0,Acme,acme,dm")],
    "front": [made("f.csv", "Message ID,Message date,Extract,Conversation ID,Author,Contact handle,Direction,Inbox", "m1,2024-01-01 10:00,help,c1,,ann@x.example,Inbound,Acme", "m2,2024-01-01 10:05,sure,c1,Ben,ann@x.example,Outbound,Acme")],
    "sprout": [made("s.ndjson", *(json.dumps({"guid": g, "created_time": "2024-01-01T10:00:00Z", "text": "hi", "parent_guid": p, "perma_link": "https://x.example/1", "from": {"guid": "a" + g, "screen_name": "ann", "name": "Ann"}, "direction": d, "profile_guid": "acme"})
                                  for g, p, d in (("1", None, "inbound"), ("2", "1", "outbound"))))],
    "salesforce-social": [made("s.csv", "Id,Posted,Content,ReplyToId,PostUrl,PersonaId,Handle,IsOutbound,Provider", "1,2024-01-01T10:00:00Z,help,,https://x.example/1,p1,ann,false,X", "2,1704106800000,sure,1,,p2,acme,true,X")],
    "ringcentral-engage": [made("r.csv", "id,published,body,threadId,inReplyToContentId,inReplyToAuthorIdentityId,authorIdentityId,creatorId,sourceId", "1,01/01/2024 10:00,help,t1,,,a1,,acme", "2,01/01/2024 10:05,sure,t1,1,a1,a2,u1,acme")],
}
STARTING_POINTS = {name for name, reader in READERS.items() if "name it as mapping" in reader.title}


def test_every_reader_has_a_shape_that_loads():
    assert set(SHAPES) == set(READERS)
    for name, shapes in SHAPES.items():
        for files in shapes:
            assert load_damaged(name, files, "folder", True, False, False) == "loaded", (name, list(files))


# ---- trees: JSON, lines of JSON, tables, XML and chats alike

class Pairs(list): "An object: its keys and values in order, so that a key can stand twice"
class Raw(str): "Text that is written as it is"


def tree_of(name, raw):
    "What a file holds as nested lists, and how to write it again; None when it is not text of a known kind"
    ending, text = name.rsplit(".", 1)[-1].lower(), raw.decode("utf-16" if raw[:2] == b"\xff\xfe" else "utf-8-sig", "replace")
    read = lambda t: json.loads(t, object_pairs_hook=lambda pairs: Pairs([k, v] for k, v in pairs))
    if ending == "json" and re.match(r"\{.*\}\n\{", text): ending = "ndjson"
    if ending == "json": return read(text), dump
    if ending == "js": return read(text[text.index("=") + 1:].strip().rstrip(";")), lambda tree: text[: text.index("=") + 1] + dump(tree)
    if ending in ("jsonl", "ndjson"): return [read(line) for line in text.splitlines() if line.strip()], lambda tree: "\n".join(map(dump, tree)) + "\n"
    if ending == "csv":
        by = ";" if text.split("\n")[0].count(";") > text.split("\n")[0].count(",") else ","
        return list(csv.reader(io.StringIO(text), delimiter=by)), lambda tree: table(tree, by)
    if ending == "xml": return [Pairs([k, unescape(v)] for k, v in re.findall(r'(\w+)="([^"]*)"', row)) for row in re.findall(r"<row ([^>]*)/>", text)], lambda tree: rows_of(text, tree)
    if ending == "txt": return text.split("\n"), lambda tree: "\n".join(map(str, tree))
    return None


def dump(v):
    if isinstance(v, Raw): return str(v)
    if isinstance(v, Pairs): return "{" + ", ".join(f"{json.dumps(k)}: {dump(x)}" for k, x in v) + "}"
    if isinstance(v, list): return "[" + ", ".join(map(dump, v)) + "]"
    return json.dumps(v)


def table(tree, by):
    out = io.StringIO()
    csv.writer(out, delimiter=by, lineterminator="\n").writerows([[c if isinstance(c, str) else dump(c) for c in row] if isinstance(row, list) else [str(row)] for row in tree])
    return out.getvalue()


def rows_of(text, tree):
    "Rows of XML below the head of the file they come from"
    head, tail = text[: text.find("<row")] if "<row" in text else text[: text.rfind("</")], text[text.rfind("</"):]
    one = lambda row: "<row " + " ".join(f"{k}={quoteattr(v if isinstance(v, str) else dump(v))}" for k, v in row) + " />" if isinstance(row, Pairs) else f"<row>{row}</row>"
    return head + "\n".join(map(one, tree)) + "\n" + tail


def places_in(tree):
    "Every place in a tree, as (list, position); the value of a pair is its second item"
    found, left = [], [tree]
    while left:
        here = left.pop()
        for i, value in enumerate(here):
            inner = value[1] if isinstance(here, Pairs) else value
            found.append((here, i))
            if isinstance(inner, list): left.append(inner)
    return found


ODD = [None, True, 0, -1, 5, 1.5, 1e300, 2**53 + 1, 10**25, "", " ", "x", "null", "0", "-5", "1e5", "12345.0", "9" * 25, "a\0b", "\ud83d", "\x1e\x1f", "é😀\u202e", "a'; drop table post; --", "<b>&lt;&#0;", "../..", "x" * 70000, [], Pairs(), [None], [[1]], ["x", 2],
       Pairs([["id", "x"]]), Pairs([["a", Pairs([["b", [1, None]]])]]), Raw("NaN"), Raw("-Infinity"), Raw("1e999"), Raw("9" * 5000), Raw('"\\ud83d"'), Raw('"a\\u0000b"'), Raw("[" * 3000 + "]" * 3000), Raw('{"a":' * 300 + "1" + "}" * 300), Raw("{,}"), Raw("tru")]
TIMES = ["", "soon", "0", "-1", 0, -1, 1e12, 1.7e18, 1704103200, 1704103200.5, "1704103200000", "99999999999", "0000-00-00", "2024-02-30T10:00:00Z", "2024-13-01", "9999-12-31T23:59:60Z", "1969-12-31T23:59:59Z", "2024-03-31T02:30:00", "2024-01-01T10:00:00+25:00",
         "31/12/17", "12/31/17", "2024-01-01T10:00:00.123456789Z", "infinity", "epoch", "294247-01-10", "10:00", "Mon Foo 41 10:00:00 +0000 2024", "12026-01-01T00:00:00Z", "-290307-01-01"]
OPERATIONS = ["odd", "time", "drop", "twice", "rename", "like another", "deep", "text", "bare", "reverse", "swap", "copy", "surrogate", "many"]


def edited(tree, where, operation, which):
    "A tree with one place changed (in it)"
    found = places_in(tree)
    if not found: return
    here, i = found[where % len(found)]
    pair = isinstance(here, Pairs)
    value = here[i][1] if pair else here[i]
    def put(new): here[i] = [here[i][0], new] if pair else new
    other = found[which % len(found)]
    taken = other[0][other[1]][1] if isinstance(other[0], Pairs) else other[0][other[1]]
    if operation == "odd": put(deepcopy(ODD[which % len(ODD)]))
    elif operation == "time": put(TIMES[which % len(TIMES)])
    elif operation == "drop": del here[i]
    elif operation == "twice": here.insert(which % (len(here) + 1), here[i])
    elif operation == "rename" and pair: here[i] = [[here[i][0].upper(), here[i][0] + "_", "", "\ud83d", "id"][which % 5], value]
    elif operation == "like another" and pair: here[i] = [here[which % len(here)][0], value]
    elif operation == "deep": put([[[value]]] if which % 2 else Pairs([["a", value]]))
    elif operation == "text": put(dump(value) if not isinstance(value, str) else value + " " + value.upper())
    elif operation == "bare" and isinstance(value, str): put(Raw(value))
    elif operation == "reverse": here.reverse()
    elif operation == "swap": here[i], here[which % len(here)] = here[which % len(here)], here[i]
    elif operation == "copy" and not isinstance(taken, list): put(taken)
    elif operation == "surrogate" and isinstance(value, str): put(value[: which % (len(value) + 1)] + "\ud83d" + value[which % (len(value) + 1):])
    elif operation == "many": here[i:i] = [here[i]] * (which % 70)


BYTES = [b'"', b"'", b"{", b"}", b"[", b"]", b",", b";", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xfe", b"\xc3", b"\xef\xbb\xbf", b"\x1a", b"\x1e", b"\x1f", b"\\", b"\\ud83d", b"null", b"<", b"&", b"&#0;", b"]]>", b":", b"=", b"-", b"/*", b" " * 70000, b'"' * 200, b"\n" * 200]
ENCODINGS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp1252", "cp037", "utf-7"]


def byte_edited(raw, where, operation, which):
    "Bytes with one change"
    at, length = where % (len(raw) + 1), which % 90 + 1
    if operation in (5, 6, 9) and which % 4: operation = which % 3
    if operation == 0: return raw[:at] + bytes([which % 256]) + raw[at + 1:]
    if operation == 1: return raw[:at] + BYTES[which % len(BYTES)] + raw[at:]
    if operation == 2: return raw[:at] + raw[at + length:]
    if operation == 3: return raw[:at]
    if operation == 4: return raw[:at] + raw[at: at + length * 20] * 2 + raw[at + length * 20:]
    if operation == 5: return raw[at:] + raw[:at]
    if operation == 6: return raw.decode("utf-8", "replace").encode(ENCODINGS[which % len(ENCODINGS)], "replace")
    if operation == 7: return raw[:at] + bytes(length) + raw[at + length:]
    if operation == 8: return raw.replace(b"\n", [b"\r\n", b"\r", b"", b"\n\n", b"\0\n", b" "][which % 6])
    return [b"", b" ", b"\n", b"null", b"42", b"[]", b"{}", b"[[]]", raw + raw, raw[::-1], b"\xef\xbb\xbf" + raw, b'"x"'][which % 12]


EDIT = st.tuples(st.integers(0, 1 << 16), st.integers(0, 1 << 16), st.integers(0, len(OPERATIONS) + 9), st.integers(0, 1 << 16))
DAMAGE = st.tuples(st.integers(0, 9), st.lists(EDIT, min_size=1, max_size=4), st.sampled_from(["folder"] * 5 + ["zip", "tar.gz", "deep zip", "damaged zip", "damaged tar.gz"]), st.booleans(), st.booleans(), st.integers(0, 9))
READABLE = r"\.(json|jsonl|ndjson|js|csv|xml|txt|html)$"


def damaged(files, edits):
    "A copy of files with the edits made: those of trees first, then those of bytes"
    files, trees = dict(files), {}
    names = [n for n in files if re.search(READABLE, n.lower())]
    for which, where, operation, value in edits:
        name = names[which % len(names)]
        if operation < len(OPERATIONS) and name not in trees: trees[name] = tree_of(name, files[name])
        if operation < len(OPERATIONS) and trees[name] is not None:
            if isinstance(trees[name][0], list): edited(trees[name][0], where, OPERATIONS[operation], value)
    for name, known in trees.items():
        if known is not None: files[name] = known[1](known[0]).encode("utf-8", "surrogatepass" if any(w % 2 for _, w, _, _ in edits) else "replace")
    for which, where, operation, value in edits:
        if operation >= len(OPERATIONS): files[names[which % len(names)]] = byte_edited(files[names[which % len(names)]], where, operation - len(OPERATIONS), value)
    return files


def test_damage_changes_no_value_that_later_damage_is_made_of():
    before = repr(ODD)
    for which in range(len(ODD)):
        for operation in range(len(OPERATIONS)):
            damaged(SHAPES["steam-reviews"][0], [(0, 0, 0, which), *((0, where, operation, 7) for where in range(1, 6))])
    assert repr(ODD) == before


# ---- one input

@contextmanager
def soon():
    "Fails a block that takes longer than any of these inputs should"
    def late(*_): raise AssertionError(f"not done after {SECONDS} seconds")
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try: yield
    finally: signal.setitimer(signal.ITIMER_REAL, 0); signal.signal(signal.SIGALRM, before)


def packed(folder, files, way):
    "The files as a folder or an archive"
    if way == "folder":
        for name, raw in files.items():
            (folder / "x" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "x" / name).write_bytes(raw)
        return folder / "x" / next(iter(files)) if len(files) == 1 and "/" not in next(iter(files)) else folder / "x"
    path = folder / ("x.tar.gz" if way.endswith("tar.gz") else "x.zip")
    if way.endswith("zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
            for name, raw in files.items(): z.writestr(("some where/[1]/" if way == "deep zip" else "") + name, raw)
    else:
        with tarfile.open(path, "w:gz") as tar:
            for name, raw in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(raw)
                tar.addfile(info, io.BytesIO(raw))
    return path


CONTRADICTIONS = "accounts whose declared roles overlap"
"What an export can truly say, when a row of it was changed: that one account speaks for both sides"
TABLES = ("load", "post", "account", "role", "interaction", "post_count", "reject", "coverage", "signal")
def contents(lab): return {t: lab.sql(f"select count(*), coalesce(sum(hash(t::varchar)::hugeint), 0)::varchar from {t} t").row(0) for t in TABLES}
def posts(lab): return lab.sql("select (select count(*) from post), (select count(*) from reject)").row(0)


def load_damaged(name, files, way, named, before, masked, edits=()):
    "Loads one input and checks what must hold whatever it is; `loaded` or `refused`"
    with tempfile.TemporaryDirectory() as folder, Lab(memory_limit="512MiB") as lab, warnings.catch_warnings(), soon():
        warnings.simplefilter("ignore")
        folder, by = Path(folder), {"mapping" if name in STARTING_POINTS else "source": name}
        if masked: lab.pseudonymise("scrub")
        if before:
            (folder / "sound").mkdir()
            lab.load(packed(folder / "sound", before, "folder"), **by)
        path, known, count = packed(folder, files, way), contents(lab), posts(lab)
        if way.startswith("damaged"):
            raw = path.read_bytes()
            for _, where, operation, value in edits: raw = byte_edited(raw, where, operation % 8, value)
            path.write_bytes(raw)
        try: receipt = lab.load(path, **(by if named or "mapping" in by else {}))
        except TrustlabError as error:
            assert "\n" not in str(error) and len(str(error)) < (6000 if "no reader recognises" in str(error) else 1000), str(error)[:2000]
            assert contents(lab) == known, "a refusal left something in the store"
            done = "refused"
        else:
            for row in receipt.loads: assert row["read"] == sum(row[c] for c in COUNTS if c != "read"), row
            after = posts(lab)
            assert after == (count[0] + receipt.stored, count[1] + receipt.rejected), (receipt, count, after)
            done = "loaded"
        unsound = lab.check().filter((pl.col("part") == "sound") & (pl.col("n") > 0) & (pl.col("what") != CONTRADICTIONS))
        assert unsound.is_empty(), unsound.rows()
        assert not [p for p in Path(lab.spill).glob("*")], "a file was left behind"
    return done


@pytest.fixture(autouse=True)
def room():
    "Twelve gigabytes of addresses beside those that the process holds by now: an input that takes all memory fails with a `MemoryError`, and is shown, instead of the system killing the run"
    held = Path("/proc/self/statm")
    if not held.exists():
        yield
        return
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = 12 * 2**30 + int(held.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(autouse=True)
def key(monkeypatch): monkeypatch.setenv("TRUSTLAB_KEY", "07" * 32)


@pytest.mark.parametrize("name", sorted(READERS))
def test_damage_is_read_or_refused(name, capsys):
    tried, slowest = Counter(), [0.0]

    @FEW
    @given(DAMAGE)
    def one(damage):
        shape, edits, way, named, again, rest = damage
        whole = SHAPES[name][shape % len(SHAPES[name])]
        began = time.monotonic()
        tried[load_damaged(name, damaged(whole, edits), way, named, whole if again else None, rest == 9, edits)] += 1
        slowest[0] = max(slowest[0], time.monotonic() - began)

    one()
    with capsys.disabled(): print(f"\n{name}: {tried.total():,} inputs, {tried['loaded']:,} loaded, {tried['refused']:,} refused, the slowest took {slowest[0]:.1f} s", end="")
    assert tried.total() >= EACH


FOUND = {
    "a quote within a header that never closes": ("brandwatch", [(0, 0, 15, 0), (0, 46, 0, 0), (0, 32757, 15, 0)], "folder", "loaded"),
    "a quote within a field": ("brandwatch", [(0, 0, 15, 0), (0, 46, 7, 0), (0, 16303, 15, 0)], "folder", "loaded"),
    "a header of quotes": ("front", [(0, 0, 0, 6748)], "folder", "refused"),
    "a header of quotes, in another mapping": ("hootsuite", [(0, 0, 0, 3437)], "folder", "refused"),
    "a like nested without end": ("mastodon", [(0, 194, 21, 0), (65536, 0, 0, 0), (65536, 194, 0, 125)], "folder", "loaded"),
    "a control character in a like": ("mastodon", [(1, 54, 21, 0)], "folder", "loaded"),
    "a like that is no JSON": ("mastodon", [(1, 50, 19, 1)], "folder", "loaded"),
    "lines that end with carriage returns alone": ("salesforce-social", [(0, 0, 22, 1), (0, 123, 3, 0), (0, 253, 2, 0)], "folder", "loaded"),
    "a member of a zip without a name": ("trustpilot", [(0, 0, 0, 1), (0, 8993, 7, 17), (0, 3, 2, 0)], "damaged zip", "refused"),
    "an empty member without a name": ("x-api", [(0, 0, 23, 0), (0, 73, 7, 65536)], "damaged zip", "refused"),
    "people of a topic that are no list": ("discourse", [(0, 8, 0, 1)], "folder", "loaded"),
    "a byte that is not UTF-8 in a column that nobody asks for": ("reddit-gdpr", [(0, 146, 19, 255), (0, 604, 1, 0)], "folder", "loaded"),
    "two tables of which the first is empty": ("zendesk", [(0, 133, 14, 0)], "folder", "loaded", 1),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_a_long_run_found(what):
    name, edits, way, outcome, *shape = FOUND[what]
    assert load_damaged(name, damaged(SHAPES[name][sum(shape)], edits), way, False, None, False, edits) == outcome


# ---- what cuts files into records, by itself

PIECE = st.sampled_from(["{", "}", "[", "]", ",", ":", '"', "\\", "1", "null", '"a"', '{"id": 1}', '{"a": [1, {}]}', " ", "\n", "\ud83d", "é", "[[", "]]", '"items": [', "e5", "-"])


@settings(FEW, max_examples=max(TRIES // 20, 300))
@given(st.lists(PIECE, max_size=40).map("".join))
def test_cutting_json_loses_no_byte(text):
    raw = text.encode("utf-8", "surrogatepass")
    pieces = list(array_records(io.BytesIO(raw)))
    end = raw.find(b"[") + 1
    assert bool(pieces) <= bool(end)
    for at, piece, _ in pieces:
        size = len(piece.encode("utf-8", "surrogateescape"))
        assert at >= end and raw[at: at + size].decode("utf-8", "surrogateescape") == piece and not raw[end:at].strip(b" \t\r\n,\xef\xbb\xbf")
        end = at + size
    assert all(whole for _, _, whole in pieces[:-1])
    try: whole = json.loads(text)
    except (ValueError, RecursionError): return
    if isinstance(whole, list): assert [json.loads(p) for _, p, _ in pieces] == whole and all(w for _, _, w in pieces)


@settings(FEW, max_examples=max(TRIES // 20, 300))
@given(st.lists(st.sampled_from([b'"', b",", b"\n", b"\r\n", b"a", b"1,b\n", b'"x,\ny",2\n', b"\xff", b"\0", b'""', b" ", b"\xef\xbb\xbf"]), max_size=60).map(b"".join))
def test_cutting_csv_loses_no_byte(raw):
    raw = b"id,text\n" + raw
    end = 8
    for line, at, piece, fields, why in walk(io.BytesIO(raw), 2):
        assert not raw[end:at].strip() and raw[at: at + len(piece)] == piece and line == raw[:at].count(b"\n") + 1 and (fields is None) == bool(why)
        assert fields is None or len(fields) == 2
        end = at + len(piece)
    assert not raw[end:].strip()


CSV = [b'"', b",", b"\n", b"a", b"1,b\n", b'"x,\ny",2\n', b'""', b" ", b' "', b'" ', b'" "', b'5" x', b'","', b'"\n', b"\t", b",b\n", b'1, "y" \n', b"\r\n", b"\r", b"\xff", b"\0", b"\xef\xbb\xbf", b"\x1e"]


@settings(FEW, max_examples=max(TRIES // 20, 300))
@given(st.one_of(st.just([b"a,b\n"]), st.lists(st.sampled_from(CSV), min_size=1, max_size=6)), st.lists(st.sampled_from(CSV), max_size=16), st.integers(1, 3), st.sampled_from(DELIMITERS), st.booleans())
@example([b"a,b\n"], [b'1,r1",x\n2,b\n'], 2, ",", False)
@example([b'"a,b\n'], [b"1,2\n"], 2, ",", False)
@example([b'a"x,b\n'], [b"1,2\n"], 2, ",", False)
@example([b"a,b\n"], [b'1,2\n3,"x" \n'], 2, ",", True)
def test_what_is_read_by_hand_is_what_the_engine_reads(head, body, width, delimiter, old):
    raw = b"".join(head + body).replace(b",", delimiter.encode())
    raw, found = raw.replace(b"\n", b"\r") if old else raw, lambda: io.BytesIO(raw)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(config={"threads": 1}) as con:
        rejects = []
        read(con, "t", "select * from {rows}", [f"c{i}" for i in range(width)], found, None, Path(folder), rejects.extend, delimiter)
        rows = con.execute("from t").fetchall()
    with newlined(found)[0]() as stream: records = list(walk(stream, width, delimiter))
    sound = [tuple(cell or None for cell in fields) for *_, fields, _ in records if fields is not None]
    assert rows == sound and len(rejects) == len(records) - len(sound)
    places = [*locate(found, width, range(1, len(sound) + 1), delimiter)]
    assert all(raw[p["byte_offset"]:].startswith(p["raw"]) for p in places + rejects) and len(places) == len(sound)


@pytest.mark.parametrize("raw", [b'"id,text\n' + b"2,y\n" * 500_000, b"id,text\n" + b'x","\n' * 100_000, b'id,text\n1,"x\n' + b"2,y\n" * 500_000, b"id,text\n1," + b'"' * 5_000_000, b'id,text\n1,"' + b"\n" * 5_000_000, b'id,text\n"'])
def test_open_quotes_take_no_more_than_their_time(raw):
    with soon():
        end = raw.index(b"\n") + 1
        for _, at, piece, _, _ in walk(io.BytesIO(raw), 2):
            assert not raw[end:at].strip() and raw[at: at + len(piece)] == piece
            end = at + len(piece)
        assert not raw[end:].strip()


@settings(FEW, max_examples=max(TRIES // 20, 300))
@given(st.text(max_size=60), st.booleans())
def test_text_that_cannot_be_stored_is_told(text, whole):
    found = unreadable(text, whole)
    if found is None: text.encode()
    else: assert isinstance(found["raw"], bytes)
