"""Who is in a store cannot be read out of it, who is forgotten is gone from its bytes, and what is old is gone too."""
import csv
import hashlib
import hmac
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock

import polars as pl
import pytest

import trustlab as tl
import trustlab.retention  # noqa: F401
from trustlab import privacy, schema
from trustlab.core import InvalidParameter, NotIdentifiable, StoreLocked
from trustlab.schema import TABLES
from trustlab.store import Lab

pytestmark = [pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning"), pytest.mark.filterwarnings("ignore::trustlab.core.SmallSample")]
KEY = bytes(range(32))
EXPORTS = Path(__file__).resolve().parent / "exports"
HEADER = "tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    "Keys are kept below a folder of this test, and none is given from outside"
    monkeypatch.delenv("TRUSTLAB_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def one(lab, query, **params): return lab.sql(query, **params).row(0)[0]
def sound(lab): return lab.check().filter((pl.col("part") == "sound") & (pl.col("n") > 0)).is_empty()
def dump(lab, *leave): return {t: sorted(map(repr, lab.sql(f"from {t}").rows())) for t in TABLES if t not in leave}
def bytes_of(path): return b"".join(p.read_bytes() for p in sorted(path.parent.rglob(path.name + "*")) if p.is_file())


def plain(path, **options):
    "A lab whose file shows its bytes, since nothing in it is compressed"
    with mock.patch.dict(schema.TABLES, {t: c.replace("using compression zstd", "") for t, c in schema.TABLES.items()}): lab = Lab(path, **options)
    lab.con.execute("pragma force_compression = 'uncompressed'")
    return lab


def tweet(n, author="101", minute=0, text="@Acme hello", answers="", parent="", day=1):
    at = datetime(2024, 1, 1) + timedelta(days=day - 1, minutes=minute)
    return f'{n},{author},{author.isdigit()},{at:%a %b %d %H:%M:%S} +0000 {at:%Y},"{text}",{answers},{parent}'


def file(folder, *rows, name="t.csv"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


# ---- nothing that names anybody

def identifiers(lab, path):
    "What a clear store holds that names a person, a post, a place or a file: texts, of any length"
    found = set()
    for table, column in (("account", "account_key"), ("post", "post_key"), ("post", "author_key"), ("post", "container_key"), ("post", "conversation_key"), ("post", "reply_to_key"), ("post", "quote_of_key"),
                          ("coverage", "container_key"), ("interaction", "actor_key"), ("interaction", "target_key"), ("interaction", "post_key")):
        keys = lab.sql(f"select distinct {column} as k from {table} where {column} is not null")["k"]
        found |= {k for key in keys for k in (key, key.split(":", 1)[1])}
    for table, column in (("account", "handle"), ("account", "display_name"), ("account", "url"), ("post", "url"), ("post", "text"), ("coverage", "container"), ("load", "member"), ("reject", "member")):
        found |= set(lab.sql(f"select distinct {column} as k from {table} where {column} is not null")["k"])
    found |= {w for text in lab.sql("select text from post where text is not null")["text"] for w in (text[:24], text[-24:])}
    found |= {raw[:200].decode("utf-8", "replace") for raw in lab.sql("select raw from reject where raw is not null")["raw"]}
    return {f for f in found | {str(path), path.name, path.stem} if f}


def everywhere(lab): return [str(v) for t in TABLES for row in lab.sql(f"select {', '.join(f'{c}::varchar' for c in lab.sql(f'from {t}').columns)} from {t}").rows() for v in row if v is not None]


def open_names(lab):
    "What a pseudonymised store says openly: the accounts and names of brands, and words of the format"
    rows = lab.sql("select account_key, handle from account where account_key in (select account_key from role where role = 'brand')").rows()
    brands = lab.sql("select distinct brand from role where brand is not null")["brand"]
    words = {w for t, c in (("post", "kind"), ("post", "platform"), ("post", "lang"), ("interaction", "kind"), ("reject", "code"), ("reject", "field"), ("reject", "message"), ("load", "source"))
             for w in lab.sql(f"select distinct {c} as w from {t} where {c} is not null")["w"]}
    return {x for key, handle in rows for x in (key, key.split(":", 1)[1], handle) if x} | set(brands) | words


def leaks(blob, cells, needles, said):
    "The identifiers that can be read in the bytes, or stand as a word in a cell"
    needles = {n for n in needles if not any(n.lower() in s.lower() for s in said)}
    long = {n for n in needles if len(n.encode()) >= 7 and n.encode() in blob}
    words = {w for cell in cells if not re.fullmatch(r"p1_[0-9a-f]{32}|[0-9a-f]{64}|[\d: .-]+", cell) for w in {cell, *re.findall(r"[\w.@'-]+", cell)}}
    return long | {n for n in needles if len(n) > 2 and not n.isdigit() and n in words}


READERS = ["zendesk/export.jsonl", "discord", "github/rest", "whatsapp/WhatsApp Chat with Ada.txt", "telegram/account.json", "bluesky/records", "stackexchange", "facebook", "x_archive", "table/trustpilot.json"]


def paths(town): return {"twcs": town / "twcs.csv", "slack": town / "slack.zip", "mastodon": town / "mastodon.tar.gz"} | {name: EXPORTS / name for name in READERS}


@pytest.fixture(scope="module")
def nothing(tmp_path_factory):
    "The bytes of a store without a load: views and names of columns, which every store holds"
    path = tmp_path_factory.mktemp("empty") / "s.duckdb"
    plain(path).close()
    return path.read_bytes()


@pytest.mark.parametrize("name", ["twcs", "slack", "mastodon", *READERS])
def test_nothing_that_names_anybody_is_in_the_bytes(name, town, tmp_path, nothing):
    path, folder = paths(town)[name], tmp_path / "of-ann-private"
    folder.mkdir()
    path = Path(shutil.copytree(path, folder / path.name) if path.is_dir() else shutil.copy(path, folder))
    with plain(tmp_path / "clear.duckdb") as lab:
        lab.load(path)
        needles = {n for n in identifiers(lab, path) if n.encode() not in nothing}
        needles = {*random.Random(1).sample(sorted(needles), min(len(needles), 1500)), folder.name}
        seen = everywhere(lab)
    clear, shown = bytes_of(tmp_path / "clear.duckdb"), [n for n in needles if len(n.encode()) >= 7]
    assert sum(n.encode() in clear for n in shown) > 0.9 * len(shown) > 0, "the search does not see what a store in clear shows"
    assert leaks(clear, seen, needles, set())
    with plain(tmp_path / "masked.duckdb") as lab:
        lab.pseudonymise()
        lab.load(path)
        log, cells, said = bytes_of(tmp_path / "masked.duckdb"), everywhere(lab), open_names(lab)
        assert one(lab, "select count(*) from post") and one(lab, "select count(text) + count(url) from post") == 0 and sound(lab)
    assert not leaks(log + bytes_of(tmp_path / "masked.duckdb"), cells, needles, said)
    assert not (tmp_path / "masked.duckdb.spill").exists()


def test_pseudonyms_are_what_anybody_with_the_key_computes(town, tmp_path, monkeypatch):
    monkeypatch.setenv("TRUSTLAB_KEY", KEY.hex())
    with Lab() as clear, Lab() as lab:
        lab.pseudonymise()
        for store in (clear, lab): store.load(town / "slack.zip")
        expected = {"p1_" + hmac.new(KEY, b"slack\x1f" + key.split(":", 1)[1].encode(), hashlib.sha256).hexdigest()[:32] for key in clear.sql("select post_key from post")["post_key"]}
        assert set(lab.sql("select post_key from post")["post_key"]) == expected and all(re.fullmatch("p1_[0-9a-f]{32}", k) for k in expected) and len(expected) > 100


@pytest.mark.parametrize("text", ["drop", "scrub"])
def test_measures_are_those_of_the_store_in_clear(text, town):
    with Lab() as clear, Lab() as lab:
        lab.pseudonymise(text)
        for store in (clear, lab):
            for name in ("twcs.csv", "slack.zip", "mastodon.tar.gz"): store.load(town / name)
            store.roles(town / "roles.csv")
        for ask in (lambda lab: tl.acknowledgement(lab, by="brand"), lambda lab: tl.acknowledgement(lab, by=("platform", "week"), unit="run"), lambda lab: tl.reciprocity(lab), lambda lab: tl.reciprocity(lab, by="brand")):
            assert ask(lab).frame.equals(ask(clear).frame) and ask(clear).frame.height
        assert tl.worklist(lab, people=False, acts=False).drop("url", "post_key").sort(pl.all()).equals(tl.worklist(clear, people=False, acts=False).drop("url", "post_key").sort(pl.all()))
        kinds = pl.col("arm").is_in(["personal", "canned", "redirected", "other"])  # a reply without the names in it is another reply
        if text == "scrub": assert tl.conversion(lab).frame.filter(~kinds).equals(tl.conversion(clear).frame.filter(~kinds)) and lab.signals().height == clear.signals().height > 0
        else:
            for ask in (tl.conversion, Lab.signals):
                with pytest.raises(NotIdentifiable, match='pseudonymise.*"drop".*holds no text'): ask(lab)
            assert lab.check().filter(pl.col("what") == "conversion")["says"][0].startswith("no: ")


def test_scrubbed_texts_keep_words_and_lose_names(town, tmp_path):
    text = "@Acme @maria_k told ann@example.org: see https://x.com/maria_k/status/1 or call +49 30 1234567"
    with plain(tmp_path / "s.duckdb") as lab:
        lab.pseudonymise("scrub")
        lab.load(file(tmp_path, tweet(1, text=text), tweet(2, "Acme", 5, "@101 hi", "", 1)), brand="Acme")
        assert one(lab, "select text from post where text like '%told%'") == "@[person] @[person] told [email]: see [link] or call [number]"
    assert not any(x in bytes_of(tmp_path / "s.duckdb") for x in (b"maria_k", b"ann@", b"1234567"))


# ---- the key

def masked_store(path, **options):
    lab = Lab(path, **options)
    lab.pseudonymise()
    return lab


def test_the_key_lies_outside_and_is_its_owners_alone(tmp_path, home):
    before = os.umask(0o022)
    try: masked_store(tmp_path / "s.duckdb").close()
    finally: os.umask(before)
    place = next((home / "trustlab").glob("*.key"))
    assert (place.stat().st_mode & 0o777, place.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    key = bytes.fromhex(place.read_text())
    assert len(key) == 32 and not any(form in bytes_of(tmp_path / "s.duckdb") for form in (key, key.hex().encode(), key.hex().upper().encode()))
    (tmp_path / "s.duckdb").rename(tmp_path / "renamed.duckdb")
    with Lab(tmp_path / "renamed.duckdb") as lab: assert lab.load(file(tmp_path, tweet(1), tweet(2, "Acme", 5, "hi", "", 1))).stored == 2


@pytest.mark.parametrize("given", ["another", "short", "ff" * 33, "zz" * 32, "", "missing", "file: garbage", "file: another", "file: binary"])
def test_another_key_is_refused_and_nothing_changes(given, tmp_path, home, monkeypatch):
    with masked_store(tmp_path / "s.duckdb") as lab: lab.load(file(tmp_path, tweet(1), tweet(2, "Acme", 5, "hi", "", 1)))
    place, more = next((home / "trustlab").glob("*.key")), file(tmp_path, tweet(3), tweet(4, "Acme", 5, "hi", "", 3), name="more.csv")
    if given == "missing": place.unlink()
    elif given.startswith("file"): place.write_bytes({"file: garbage": b"open sesame", "file: another": b"ab" * 32, "file: binary": bytes(range(256))}[given])
    else: monkeypatch.setenv("TRUSTLAB_KEY", "cd" * 32 if given == "another" else given)
    with Lab(tmp_path / "s.duckdb") as lab:
        before = dump(lab)
        for job in (lambda: lab.load(more), lambda: lab.load(more, brand="Acme"), lambda: lab.forget("twcs:101"), lambda: lab.roles(pl.DataFrame({"account": ["twcs:101"], "role": ["partner"]}))):
            with pytest.raises(InvalidParameter, match="key") as caught: job()
            assert "TRUSTLAB_KEY" in str(caught.value) or "key" in str(caught.value)
            assert len(str(caught.value)) < 500 and "sesame" not in str(caught.value) and "cdcd" not in str(caught.value) and "abab" not in str(caught.value)
        assert dump(lab) == before


def test_a_key_that_cannot_be_kept_is_told(tmp_path, home):
    home.write_text("a file where the folder should be")
    with Lab(tmp_path / "s.duckdb") as lab:
        before = dump(lab)
        with pytest.raises(InvalidParameter, match="TRUSTLAB_KEY"): lab.pseudonymise()
        assert dump(lab) == before and lab.masked is None


def test_a_key_from_outside_appears_nowhere(tmp_path, home, monkeypatch):
    monkeypatch.setenv("TRUSTLAB_KEY", KEY.hex())
    with plain(tmp_path / "s.duckdb") as lab:
        lab.pseudonymise()
        receipt = lab.load(file(tmp_path, tweet(1), tweet(2, "Acme", 5, "hi", "", 1), "broken,line"))
        assert one(lab, "select count(*) from duckdb_functions() where function_name in ('pseudonym', 'mark')") == 0
        said = repr(receipt) + repr(receipt.to_dict()) + "".join(everywhere(lab)) + repr(lab.sql("from duckdb_settings()").rows())
        assert KEY.hex() not in said.lower()
        assert not any(form in bytes_of(tmp_path / "s.duckdb") for form in (KEY, KEY.hex().encode(), KEY.hex().upper().encode()))
    assert not any(form in bytes_of(tmp_path / "s.duckdb") for form in (KEY, KEY.hex().encode())) and not list(home.rglob("*.key"))


def test_only_an_empty_store_is_made_pseudonymous(tmp_path):
    with Lab(tmp_path / "s.duckdb") as lab:
        lab.load(file(tmp_path, tweet(1), tweet(2, "Acme", 5, "hi", "", 1)))
        before = dump(lab)
        with pytest.raises(InvalidParameter, match="posts in clear"): lab.pseudonymise()
        with pytest.raises(InvalidParameter, match="scrub"): lab.pseudonymise("keep")
        assert dump(lab) == before
    with masked_store(tmp_path / "m.duckdb") as lab:
        lab.pseudonymise()
        with pytest.raises(InvalidParameter, match="another way"): lab.pseudonymise("scrub")


# ---- names that a person would write

def chat(folder, name="t.csv"):
    return file(folder, tweet(1, "101", 0), tweet(2, "Acme", 5, "@101 hi", "", 1), tweet(3, "102", 10, "@Acme where"), tweet(4, "Helper", 20, "@102 here", "", 3), tweet(5, "103", 30, "@Acme @102 me too"), name=name)


def test_roles_and_brands_are_declared_by_what_people_write(tmp_path):
    table = tmp_path / "roles.csv"
    table.write_text("account,role,brand\n@helper,staff,Acme\ntwcs:103,bot,\n")
    answered = []
    for masked in (False, True):
        with Lab() as lab:
            if masked: lab.pseudonymise()
            lab.load(chat(tmp_path), brand="Acme")
            assert lab.roles(table) == 2
            answered.append(tl.acknowledgement(lab).frame)
            assert dict(lab.sql("select role, count(*) from role where basis = 'declared' group by role").rows()) == {"brand": 1, "staff": 1, "bot": 1}
            with pytest.raises(InvalidParameter, match="not in this store"): lab.roles(pl.DataFrame({"account": ["nobody"], "role": ["bot"]}))
    assert answered[0].equals(answered[1]) and answered[0]["n"][0] == 2


def test_a_brand_that_is_declared_late_stays_one_account(town):
    with Lab() as lab:
        lab.pseudonymise()
        lab.load(town / "slack.zip")
        people = one(lab, "select count(*) from account")
        assert lab.roles(pl.DataFrame({"account": ["aldertel"], "role": ["brand"]})) == 1
        assert lab.sql("select brand from role where basis = 'declared'")["brand"].to_list() == ["aldertel"]
        lab.load(town / "slack.zip", brand="aldertel", again=True)
        assert one(lab, "select count(*) from account") == people and lab.sql("select distinct brand from role where role = 'brand' and basis = 'declared'")["brand"].to_list() == ["aldertel"]


@pytest.mark.parametrize("name", ["101", "@101", "twcs:101"])
@pytest.mark.parametrize("masked", [False, True])
def test_people_are_forgotten_by_handle_native_id_or_key(name, masked, tmp_path):
    with Lab() as lab:
        if masked: lab.pseudonymise()
        lab.load(chat(tmp_path))
        assert lab.forget(name) == 1 and one(lab, "select count(*) from post") == 4
        with pytest.raises(InvalidParameter, match="not in this store"): lab.forget(name)


# ---- loading again

def test_a_pseudonymised_store_knows_what_it_has(tmp_path):
    with masked_store(tmp_path / "s.duckdb") as lab:
        first = lab.load(chat(tmp_path))
        before = dump(lab)
        again = lab.load(chat(tmp_path))
        assert (first.stored, again.stored, again.same, again.loads[0]["status"]) == (5, 0, 5, "already loaded") and dump(lab) == before
        newer = lab.load(file(tmp_path, tweet(5, "103", 30, "@Acme @102 me too", "", 3), tweet(6, "Acme", 60, "@103 sorry", "", 5), tweet(7, "104", 90), name="newer.csv"))
        assert (newer.stored, newer.changed) == (2, 1) and sound(lab)
        assert one(lab, "select reply_to_key from post where reply_basis is not null and created_at = '2024-01-01 00:30:00'") == privacy.pseudonym(privacy.secret(lab), "twcs:3")


def test_rejects_of_a_pseudonymised_store_have_no_bytes(tmp_path):
    with plain(tmp_path / "s.duckdb") as lab:
        lab.pseudonymise()
        receipt = lab.load(file(tmp_path, tweet(1), "9,juliette,True,not a time,the secret words,,", tweet(2, "Acme", 5, "hi", "", 1)))
        rows = lab.sql("select raw, message, code from reject").rows()
        assert receipt.rejected == len(rows) == 1 and rows[0][0] is None and "bytes withheld" in rows[0][1] and rows[0][2]
    assert not any(x in bytes_of(tmp_path / "s.duckdb") for x in (b"juliette", b"secret words"))


LOADS = """import sys, warnings; warnings.simplefilter("ignore")
from trustlab.store import Lab
import trustlab.retention
lab = Lab(sys.argv[1], memory_limit=sys.argv[2])
lab.con.execute("pragma force_compression = 'uncompressed'; set checkpoint_threshold = '64KB'")
lab.pseudonymise()
print("go", flush=True)
for path in sys.argv[3:]: lab.load(path)
"""


def started(script, *arguments):
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "go\n"
    return process


def killed(process, after):
    "Kills a process that was started here, so many seconds after it said go; whether it was still at work"
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def test_a_load_that_is_killed_leaves_no_names_in_the_store(town, tmp_path):
    many = [file(tmp_path, *(tweet(j * 100_000 + i, f"77{i % 5000:05}", i % 1000, f"@CedarBank the words of {i}") for i in range(1, 10_001)), name=f"{j}.csv") for j in range(3)]
    midway = 0
    for n, after in enumerate((0.2, 0.5, 1.0)):
        path = tmp_path / f"s{n}.duckdb"
        midway += killed(started(LOADS, path, "200MiB", *many), after)
        found = path.read_bytes() + (path.with_name(path.name + ".wal").read_bytes() if path.with_name(path.name + ".wal").exists() else b"")
        assert not any(x in found for x in (b"the words of", b"7700001", b"7704999", b"twcs:77", str(tmp_path).encode()))
        if (spill := path.with_name(path.name + ".spill")).exists(): assert spill.stat().st_mode & 0o777 == 0o700
        with Lab(path) as lab: assert sound(lab) and not list(spill.iterdir())
        assert not spill.exists()
    assert midway


# ---- forgetting

@pytest.mark.parametrize(("name", "who"), [("x_archive", "x:6002"), ("x_archive", "x:6001"), ("discord", "discord:903"), ("whatsapp/WhatsApp Chat with Ada.txt", "whatsapp:Ada"), ("bluesky/threads", "bluesky:did:plc:nora"), ("telegram/account.json", "telegram:user901"), ("slack", "slack:U01ASK")])
def test_an_erasure_before_a_load_is_one_after_it(name, who, monkeypatch):
    monkeypatch.setenv("TRUSTLAB_KEY", KEY.hex())
    held = {"post": "select * exclude (load_id, record) from post", "interaction": "select * exclude (load_id) from interaction", "post_count": "from post_count", "coverage": "from coverage", "role": "from role"}
    with Lab() as after, Lab() as before:
        after.load(EXPORTS / name)
        after.forget(who)
        privacy.secret(before, create=True)
        for row in after.sql("from erasure").rows(): before.con.execute("insert into erasure values (?, ?, ?, ?)", row)
        before.load(EXPORTS / name)
        for table, query in held.items(): assert sorted(map(repr, before.sql(query).rows())) == sorted(map(repr, after.sql(query).rows())), table
        for lab in (before, after):
            assert sound(lab) and one(lab, "select count(*) from account where account_key = $who", who=who) == 0
            native = who.split(":", 1)[1]
            if len(native) > 3: assert not [c for c in everywhere(lab) if re.search(rf"(?<!\w){re.escape(native)}(?!\w)", c)]


WORDS = [tweet(1, "101", 0, "@Acme my name is Secretive Sue", "2"), tweet(2, "Acme", 5, "@101 hello @101", "", 1), tweet(3, "102", 10, "@Acme as @101 said, see https://x.com/101/status/1. and @1010", "4"), tweet(4, "Acme", 20, "@102 ok", "", 3),
         tweet(5, "102", 30, "@101 I agree", "", 1), tweet(6, "103", 40, "@Acme hm"), tweet(7, "101", 50, "@Acme again, Sue", "", 4), tweet(8, "103", 60, "@102 @Acme right", "", 7)]
LATER = [tweet(9, "101", 0, "@Acme me once more", day=3), tweet(10, "104", 9, "@101 @Acme who are you", "", 9, day=3), tweet(11, "Acme", 15, "@104 hi", "", 10, day=3), tweet(12, "105", 30, "@Acme ask @101", day=3)]


def shape(lab):
    "What a store holds, without how it came to it"
    return dump(lab, "load", "reject", "coverage", "erasure", "meta", "run") | {"post": lab.sql("select * exclude (load_id, record) from post order by post_key").rows()} \
        | {t: sorted(map(repr, lab.sql(f"select * exclude (load_id) from {t}").rows())) for t in ("interaction", "post_count")}


@pytest.mark.parametrize("masked", [None, "drop", "scrub"])
def test_the_forgotten_are_gone_from_the_bytes_and_stay_away(masked, tmp_path, monkeypatch):
    monkeypatch.setenv("TRUSTLAB_KEY", KEY.hex())
    path, export, bigger = tmp_path / "s.duckdb", file(tmp_path, *WORDS), file(tmp_path, *WORDS, *LATER, "bad,101,row of Sue", name="bigger.csv")
    lab = plain(path)
    if masked: lab.pseudonymise(masked)
    lab.load(export)
    key = one(lab, "select account_key from account where account_key in ('twcs:101', $p)", p=privacy.pseudonym(privacy.secret(lab), "twcs:101") if masked else "")
    lost = lab.sql("select post_key from post where author_key = $k", k=key)["post_key"].to_list()
    needles = [x.encode() for x in ([key, *lost] if masked else [key, "twcs:1\x00", "Secretive Sue", "my name is", "again, Sue", "@101 ", "com/101"])]
    lab.con.execute("checkpoint")
    assert sum(n in path.read_bytes() for n in needles) >= len(needles) - 1
    assert lab.forget("twcs:101", reason="asked to") == len(lost) == 2
    lab.con.execute("pragma force_compression = 'uncompressed'")
    def clean(): return not any(n in bytes_of(path) for n in needles) and not path.with_name(path.name + ".wal").exists()
    assert clean() and sound(lab) and path.stat().st_mode & 0o777 == 0o600
    if not masked: assert lab.sql("select text from post where post_key in ('twcs:2', 'twcs:3') order by post_key")["text"].to_list() == ["@[erased] hello @[erased]", "@Acme as @[erased] said, see [erased] and @1010"]
    assert lab.sql("select count(*) from post where reply_basis = 'erased' and reply_to_key is null and reply_to_account is null").row(0) == (3,)
    assert one(lab, "select count(*) from post p left join account a on a.account_key = p.reply_to_account where p.reply_to_account is not null and a.account_key is null") == 0
    before = shape(lab)
    assert lab.load(export).same == 8 and shape(lab) == before
    again = lab.load(export, again=True)
    assert (again.read, again.stored, again.changed, again.same, again.rejected) == (8, 0, 0, 6, 2) and shape(lab) == before
    more = lab.load(bigger)
    assert (more.read, more.stored, more.changed, more.same, more.rejected) == (13, 3, 0, 6, 4) and sound(lab)
    assert dict(lab.sql("select code, count(*) from reject where load_id = '000003' group by code").rows())["erased"] == 3 and one(lab, "select count(raw) from reject") == 0
    assert lab.sql("select kind, count(*) from erasure group by kind order by kind").rows() == [("account", 1), ("handle", 1), ("post", 2)]
    lab.close()
    assert clean()
    if masked: return
    with Lab() as other:
        other.load(bigger)
        other.forget("twcs:101")
        with Lab(path) as lab: assert shape(lab) == shape(other)


def test_measures_are_those_of_an_export_without_that_person(town, tmp_path):
    rows = list(csv.reader((town / "twcs.csv").open()))
    with Lab() as lab:
        lab.load(town / "twcs.csv")
        who = one(lab, "select min_by(author_key, n) from (select author_key, -count(*) as n from inbound where eligible group by author_key)")
        gone = {r[0] for r in rows if "twcs:" + r[1] == who}
        lab.forget(who)
        without = tmp_path / "without.csv"
        with without.open("w", newline="") as out: csv.writer(out).writerows([*r[:5], ",".join(x for x in r[5].split(",") if x not in gone), r[6]] for r in rows if r[0] not in gone)
        assert len(gone) > 2
        with Lab() as other:
            other.load(without)
            for ask in (lambda lab: tl.acknowledgement(lab, by="brand").frame, lambda lab: tl.acknowledgement(lab, unit="run").frame): assert ask(lab).equals(ask(other))
            assert lab.sql("select count(*) from post").row(0) == other.sql("select count(*) from post").row(0)
            assert tl.conversion(lab).frame.equals(tl.conversion(other).frame)


def test_forgetting_in_slack_takes_the_id_out_of_texts_and_threads(town, tmp_path):
    with plain(tmp_path / "s.duckdb") as lab:
        lab.load(town / "slack.zip")
        who, handle = lab.sql("""select p.author_key, any_value(a.handle) from post p join account a on a.account_key = p.author_key
            where exists (from post q where contains(q.text, '<@' || substr(p.author_key, 7) || '>') and q.author_key <> p.author_key) and exists (from post q where q.conversation_key = p.post_key and q.author_key <> p.author_key)
            and p.author_key not in (select account_key from role where role = 'brand') and regexp_matches(a.handle, '[^0-9a-f]') group by p.author_key order by 1 limit 1""").row(0)
        keys = lab.sql("select post_key from post where author_key = $who", who=who)["post_key"].to_list()
        needles = [x.encode() for x in (who, who.split(":")[1], handle, *keys)]
        lab.con.execute("checkpoint")
        assert all(n in (tmp_path / "s.duckdb").read_bytes() for n in needles)
        posts = one(lab, "select count(*) from post")
        assert lab.forget(handle) == len(keys) and one(lab, "select count(*) from post") == posts - len(keys) and sound(lab)
        assert not [n for n in needles if n in bytes_of(tmp_path / "s.duckdb")]
        before = shape(lab)
        again = lab.load(town / "slack.zip", again=True)
        assert again.stored == 0 and shape(lab) == before
    assert not [n for n in needles if n in bytes_of(tmp_path / "s.duckdb")]


@pytest.mark.parametrize("masked", [None, "drop", "scrub"])
def test_a_leaving_goes_with_the_person_and_is_kept_under_a_pseudonym(masked, tmp_path, monkeypatch):
    monkeypatch.setenv("TRUSTLAB_KEY", KEY.hex())
    lab = Lab(tmp_path / "s.duckdb")
    if masked: lab.pseudonymise(masked)
    called = lambda who: privacy.pseudonym(privacy.secret(lab), f"bluesky:did:plc:{who}") if masked else f"bluesky:did:plc:{who}"
    left = lambda: lab.sql("select actor_key, value, occurred_at::varchar from interaction where kind = 'leave' order by all").rows()
    def stream(name, *said):
        (tmp_path / name).write_text("\n".join('{"did": "did:plc:%s", "time_us": %d, %s}' % (who, 1714557600000000 + s * 1000000, what) for who, s, what in said))
        return tmp_path / name
    gone, here = '"kind": "account", "account": {"active": false, "status": "deleted"}', '"kind": "account", "account": {"active": true}'
    post = '"kind": "commit", "commit": {"operation": "create", "collection": "app.bsky.feed.post", "rkey": "3krgaaf5u222c", "record": {"createdAt": "2024-05-01T10:00:00Z", "text": "hi"}}'
    first = stream("1.ndjson", ("ann", 0, post), ("bob", 0, post), ("ann", 5, gone), ("bob", 6, gone))
    lab.load(first)
    assert left() == sorted([(called("ann"), "deleted", "2024-05-01 10:00:05"), (called("bob"), "deleted", "2024-05-01 10:00:06")])
    lab.load(stream("2.ndjson", ("cat", 20, post), ("bob", 30, here)))
    assert left() == [(called("ann"), "deleted", "2024-05-01 10:00:05")] and sound(lab)
    assert lab.forget("bluesky:did:plc:ann") == 1 and left() == []
    lab.load(first, again=True)
    lab.load(stream("3.ndjson", ("dan", 40, post), ("ann", 41, gone)))
    assert left() == [] and sound(lab)
    lab.load(stream("4.ndjson", ("eve", 86400 * 40, post.replace("05-01", "06-10")), ("cat", 50, gone)))
    assert [k for k, *_ in left()] == [called("cat")]
    lab.expire("2024-06-01")
    lab.load(tmp_path / "4.ndjson", again=True)
    assert left() == [] and sound(lab) and lab.sql("select handle from account where account_key = $k", k=called("cat")).is_empty()
    lab.close()


def joined(lab):
    lab.con.execute("insert into account (account_key, platform, handle, person_key) values ('x:7', 'x', 'sue', 'x:7'), ('x:8', 'x', 'sue_too', 'x:8')")
    lab.identify(pl.DataFrame({"account": ["twcs:101", "x:7", "x:8"], "person": ["Sue Q", "Sue Q", "Sue Q"]}))


def test_a_person_of_several_accounts_is_forgotten_as_told(tmp_path):
    for together, left in ((True, 0), (False, 2)):
        with plain(tmp_path / f"s{left}.duckdb") as lab:
            lab.load(chat(tmp_path))
            joined(lab)
            before = dump(lab)
            with pytest.raises(InvalidParameter, match="joined must be.*x:7, x:8"): lab.forget("twcs:101")
            assert dump(lab) == before
            assert lab.forget("twcs:101", joined=together) == 1
            assert one(lab, "select count(*) from account where platform = 'x'") == left == one(lab, "select count(*) from identity") and sound(lab)
            if left: assert set(lab.sql("select person_key from account where platform = 'x'")["person_key"]) == {"x:7"}
        assert (b"Sue Q" in bytes_of(tmp_path / f"s{left}.duckdb")) == bool(left)
    with Lab() as lab:
        lab.load(chat(tmp_path))
        joined(lab)
        assert lab.forget("twcs:101", "x:7", "x:8") == 1 and one(lab, "select count(*) from identity") == 0


def test_what_cannot_be_forgotten_is_told_and_nothing_changes(tmp_path, home):
    with Lab(tmp_path / "s.duckdb") as lab:
        lab.load(chat(tmp_path))
        lab.con.execute("insert into account (account_key, platform, handle, person_key) values ('x:1', 'x', '101', 'x:1')")
        before = dump(lab)
        for names, why in (((), "at least one"), (("nobody",), "not in this store"), (("101",), "could be 2 accounts here: twcs:101, x:1"), (("twcs:102", "nobody"), "not in this store"), (("Acme",), "brand cannot be forgotten"), (("twcs:101", "twcs:Acme"), "brand cannot")):
            with pytest.raises(InvalidParameter, match=why): lab.forget(*names)
        assert dump(lab) == before and not home.exists()
        other = Lab(tmp_path / "s.duckdb")
        with pytest.raises(StoreLocked, match="another Lab"): lab.forget("twcs:101")
        other.close()
    with Lab(tmp_path / "s.duckdb", read_only=True) as lab:
        for job in (lambda: lab.forget("twcs:101"), lambda: lab.expire("2024-01-01"), lambda: lab.pseudonymise()):
            with pytest.raises(InvalidParameter, match="reading only"): job()
    with Lab(tmp_path / "s.duckdb") as lab:
        lab.roles(pl.DataFrame({"account": ["Acme", "Helper"], "role": ["partner", "partner"]}))
        assert lab.forget("Acme") == 1


DELETES = """import os, signal, sys, warnings; warnings.simplefilter("ignore")
from trustlab import privacy, retention
from trustlab.store import Lab
_, path, deed, step = sys.argv
def die(*a): os.kill(os.getpid(), signal.SIGKILL)
lab = Lab(path)
lab.con.execute("pragma force_compression = 'uncompressed'")
for module in (privacy, retention):
    if hasattr(module, step): setattr(module, step, die)
if step == "replace": os.replace = die
print("go", flush=True)
lab.forget("twcs:7700001") if deed == "forget" else lab.expire("2024-01-02")
"""
STEPS = {"due": "old", "rewrite": "new", "put_in_place": "new", "replace": "new", "settled": "new"}


@pytest.mark.parametrize("deed", ["forget", "expire"])
def test_a_rewrite_that_is_killed_leaves_the_old_store_or_the_new(deed, tmp_path):
    rows = [tweet(i, f"77{i % 500:05}", i % 1000, f"@CedarBank the words of {i}", day=1 + i % 3) for i in range(1, 4_001)]
    with plain(tmp_path / "s.duckdb") as lab:
        lab.load(file(tmp_path, *rows))
        old = shape(lab)
    shutil.copy(tmp_path / "s.duckdb", tmp_path / "whole.duckdb")
    begun = time.monotonic()
    with Lab(tmp_path / "whole.duckdb") as lab:
        lab.forget("twcs:7700001") if deed == "forget" else lab.expire("2024-01-02")
        new = shape(lab)
    took = time.monotonic() - begun
    needle = b"7700001" if deed == "forget" else b"the words of 3\0"
    for n, step in enumerate([*STEPS, "", ""] if deed == "forget" else ["due", "put_in_place", ""]):
        path = Path(shutil.copy(tmp_path / "s.duckdb", tmp_path / f"k{n}.duckdb"))
        process = started(DELETES, path, deed, step)
        if step: assert process.wait() == -signal.SIGKILL
        else: killed(process, took * random.Random(n).uniform(0.1, 1.0))
        with Lab(path, read_only=True) as lab: assert sound(lab) and one(lab, "select count(*) from post")
        with Lab(path) as lab:
            now = "old" if same(shape(lab), old) else "new" if same(shape(lab), new) else "neither"
            assert now == STEPS.get(step, now) != "neither" and one(lab, "select count(*) from meta where key = 'rewrite'") == 0
        assert (needle in bytes_of(path)) == (now == "old") or deed == "expire"
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(path.name)] == [path.name]


def same(a, b):
    "Whether two stores hold the same, apart from when their counts were kept"
    kept = lambda rows: [re.sub(r"datetime\.datetime\(2\d{3}, \d+, \d+, \d+, \d+, \d+, \d+\)\)$", "", r) for r in rows]
    return {**a, "aggregate": kept(a["aggregate"])} == {**b, "aggregate": kept(b["aggregate"])}


def test_an_erasure_that_was_cut_short_is_finished_when_the_store_is_opened(tmp_path, monkeypatch):
    path = tmp_path / "s.duckdb"
    with plain(path) as lab:
        lab.load(file(tmp_path, *WORDS))
        def fails(lab, fresh): raise KeyboardInterrupt
        with monkeypatch.context() as broken:
            broken.setattr(privacy, "put_in_place", fails)
            with pytest.raises(KeyboardInterrupt): lab.forget("twcs:101")
    assert b"Secretive Sue" in bytes_of(path)
    with Lab(path, read_only=True) as lab: assert one(lab, "select count(*) from meta where key = 'rewrite'") == 1
    assert b"Secretive Sue" in bytes_of(path)
    with Lab(path) as lab: assert one(lab, "select count(*) from meta where key = 'rewrite'") == 0 and one(lab, "select count(*) from post") == 6
    assert b"Secretive Sue" not in bytes_of(path) and not path.with_name("s.duckdb.spill").exists()


def test_a_disk_that_is_full_keeps_the_store_and_says_so(tmp_path):
    script = DELETES.replace('print("go"', 'import resource, os; resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(sys.argv[1]) // 2,) * 2); import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); print("go"')
    with plain(tmp_path / "s.duckdb") as lab: lab.load(file(tmp_path, *(tweet(i, f"77{i % 5000:05}", i % 1000, f"@CedarBank the words of {i}") for i in range(1, 10_001))))
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "s.duckdb", "forget", "-"], capture_output=True, text=True)
    assert done.returncode and "StoreDamaged" in done.stderr and len(done.stderr.splitlines()[-1]) < 500
    with Lab(tmp_path / "s.duckdb") as lab: assert sound(lab)


# ---- retention

def weeks(lab): return tl.acknowledgement(lab, by=("brand", "week")).frame


@pytest.mark.parametrize("masked", [False, True])
def test_counts_are_kept_as_the_measure_saw_them(masked, town, tmp_path):
    with Lab(tmp_path / "s.duckdb") as lab:
        if masked: lab.pseudonymise()
        for name in ("twcs.csv", "slack.zip"): lab.load(town / name)
        lab.roles(town / "roles.csv")
        cut = datetime(2024, 4, 1)
        expected, before = weeks(lab).filter(pl.col("week") < cut.date()), dump(lab)
        people = dict(((b, w), n) for b, w, n in lab.sql("""select brand, cast(date_trunc('week', first_at) as date), count(distinct author_key) from
            (select brand, author_key, conversation_key, min(arrived_at) as first_at from inbound where eligible group by all) group by all""").rows())
        asked = lab.expire(cut, k=12, dry_run=True)
        assert dump(lab) == before
        done = lab.expire(cut, k=12)
        assert done == asked and done["posts"] > 100 and sound(lab)
        kept = {(b, w): (n, x, y) for w, b, n, x, y in lab.sql("select period, brand, n, numerator, denominator from aggregate where metric = 'acknowledged'").rows()}
        assert kept == {(r["brand"], r["week"]): (people[r["brand"], r["week"]], r["acknowledged"], r["n"]) if people[r["brand"], r["week"]] >= 12 else (None, None, None) for r in expected.to_dicts()}
        assert {n is None for n, _, _ in kept.values()} == {True, False} and done["withheld"] == one(lab, "select count(*) from aggregate where n is null")
        assert one(lab, "select count(*) from post where created_at < $cut", cut=cut) == 0 == one(lab, "select count(*) from interaction where occurred_at < $cut", cut=cut)
        later = weeks(lab)
        assert later["week"].min() >= cut.date() and later.height
        for name in ("twcs.csv", "slack.zip"):
            again = lab.load(town / name, again=True)
            assert again.stored == 0 and again.rejected and again.read == again.same + again.changed + again.duplicate + again.rejected
        assert one(lab, "select count(*) from post where created_at < $cut", cut=cut) == 0 and weeks(lab).equals(later) and sound(lab)
        assert set(lab.sql("select code from reject")["code"]) == {"expired"} and one(lab, "select count(raw) from reject") == 0


def test_what_expired_is_gone_from_the_bytes_and_does_not_come_back(tmp_path):
    path, days = tmp_path / "s.duckdb", [tweet(1, "900001", 0, "@Acme words of the first day"), tweet(2, "Acme", 5, "@900001 hello", "", 1), tweet(3, "900002", 9, "@Acme other words of old", day=2),
                                         tweet(4, "900003", 0, "@Acme new words", day=9), tweet(5, "Acme", 9, "@900003 hi", "", 4, day=9), tweet(6, "900004", 0, "@900001 but why", "", 1, day=10), "6,900005,True,no time,old and broken,,"]
    needles = (b"words of the first day", b"other words of old", b"900002", b"old and broken")
    with plain(path) as lab:
        lab.load(file(tmp_path, *days))
        lab.con.execute("checkpoint")
        assert all(n in path.read_bytes() for n in needles)
        done = lab.expire("2024-01-08")
        assert (done["posts"], done["accounts"], done["cells"], done["withheld"]) == (3, 1, 0, 2) and not any(n in bytes_of(path) for n in needles) and path.stat().st_mode & 0o777 == 0o600
        lab.con.execute("pragma force_compression = 'uncompressed'")
        assert lab.sql("select handle from account order by handle")["handle"].to_list() == ["900001", "900003", "900004", "Acme"]
        assert lab.load(file(tmp_path, *days)).loads[0]["status"] == "already loaded"
        bigger = lab.load(file(tmp_path, *days, tweet(7, "900006", 9, "@Acme newest", day=11), name="bigger.csv"))
        assert (bigger.read, bigger.stored, bigger.same, bigger.changed, bigger.rejected) == (8, 1, 3, 0, 4) and sound(lab)
        assert sorted(lab.sql("select code from reject where load_id = '000002'")["code"]) == ["bad_time", "expired", "expired", "expired"]
        assert lab.expire("2024-01-05")["posts"] == 0 and one(lab, "select value from meta where key = 'expired_before'") == "2024-01-08T00:00:00"
    assert not any(n in bytes_of(path) for n in needles)
    with Lab() as fresh:
        fresh.con.execute("insert into meta values ('expired_before', '2024-01-08T00:00:00')")
        fresh.load(tmp_path / "bigger.csv")
        with Lab(path) as lab: assert [lab.sql("select post_key, author_key, reply_to_account, text from post order by 1").rows(), sorted(lab.sql("select account_key from account")["account_key"])] == \
            [fresh.sql("select post_key, author_key, reply_to_account, text from post order by 1").rows(), sorted(fresh.sql("select account_key from account")["account_key"])]


def test_a_store_that_was_told_expires_by_itself_and_keeps_what_the_user_said(tmp_path):
    with Lab(tmp_path / "s.duckdb") as lab:
        with pytest.raises(InvalidParameter, match="retain"): lab.expire()
        today = datetime.now()
        at = lambda days: (today - timedelta(days=days) - datetime(2024, 1, 1)).days + 1
        lab.load(file(tmp_path, tweet(1, "101", day=at(40)), tweet(2, "Acme", 5, "hi", "", 1, day=at(40)), tweet(3, "102", day=at(10)), tweet(4, "Helper", 5, "hi", "", 3, day=at(40)), tweet(5, "103", day=at(40))))
        lab.roles(pl.DataFrame({"account": ["Helper", "103"], "role": ["staff", "customer"], "brand": ["Acme", None]}))
        lab.identify(pl.DataFrame({"account": ["101", "102"], "person": ["Sue", "Sue"]}))
        lab.retain(30)
        assert lab.expire()["posts"] == 4 and lab.sql("select handle from account order by handle")["handle"].to_list() == ["101", "102", "103", "Acme", "Helper"]
        assert lab.expire()["posts"] == 0 and sound(lab)
        lab.retain(None)
        with pytest.raises(InvalidParameter, match="retain"): lab.expire()


def test_who_was_forgotten_and_what_expired_stay_away_together(tmp_path):
    export = file(tmp_path, *WORDS, *LATER)
    with Lab() as lab:
        lab.pseudonymise()
        lab.load(export)
        lab.forget("twcs:101")
        lab.expire("2024-01-02")
        again = lab.load(export, again=True)
        assert (again.read, again.same, again.rejected) == (12, 3, 9) and dict(lab.sql("select code, count(*) from reject group by code").rows()) == {"erased": 3, "expired": 6} and sound(lab)


# ---- who can read the files

def test_every_file_of_a_store_is_its_owners_alone(tmp_path):
    path, seen = tmp_path / "here" / "s.duckdb", {}
    path.parent.mkdir()
    def look():
        for p in (tmp_path / "here").rglob("*"): seen.setdefault(p.relative_to(tmp_path / "here").parts[0], set()).add((p.is_dir(), p.stat().st_mode & 0o077))
    before = os.umask(0o022)
    try:
        export = file(tmp_path, *WORDS)
        with Lab(path) as lab:
            look()
            with lab.transaction() as con:
                con.execute("insert into meta values ('a', 'b')"); look()
            look()
            lab.load(export); look()
            with lab.lent(pl.DataFrame({"x": [1]})): look()
            lab.con.execute("set memory_limit = '60MB'; create temp table big as select md5(i::varchar) as a from range(2000000) r(i) order by a"); look()
            lab.forget("twcs:101"); look()
        look()
    finally: os.umask(before)
    assert set(seen) == {"s.duckdb", "s.duckdb.wal", "s.duckdb.spill"} and seen["s.duckdb"] == seen["s.duckdb.wal"] == {(False, 0)}
    assert all(mode == 0 for folder, mode in seen["s.duckdb.spill"] if folder) and any(not folder for folder, _ in seen["s.duckdb.spill"])


def test_what_a_killed_process_spilled_is_removed_by_the_next(tmp_path):
    path = tmp_path / "s.duckdb"
    with Lab(path): pass
    spill = tmp_path / "s.duckdb.spill"
    spill.mkdir()
    (spill / "records.txt").write_text("words of an export")
    with Lab(path, read_only=True): assert spill.exists()
    with Lab(path) as lab:
        assert not list(spill.iterdir())
        with lab.lent(pl.DataFrame({"x": [1]})) as lent, Lab(path): assert Path(lent).exists()
    assert not spill.exists()
