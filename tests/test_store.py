"""A store: opened one way, asked with bound values, changed whole or not at all, and closed without a trace beside itself."""
import os
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

import trustlab.load
import trustlab.sources  # noqa: F401
from trustlab import schema
from trustlab.core import InvalidParameter, StoreDamaged, StoreVersion, TrustlabError
from trustlab.store import Lab

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def lab():
    with Lab() as store: yield store


@pytest.fixture
def store(tmp_path):
    "The path of a store with one account in it, closed"
    path = tmp_path / "box" / "s.duckdb"
    path.parent.mkdir()
    with Lab(path) as lab: lab.con.execute("insert into account (account_key, platform, handle) values ('x:1', 'x', 'acme')")
    return path


def one(lab, query, **params): return lab.sql(query, **params).row(0)[0]


def people(lab, *handles):
    for i, handle in enumerate(handles, 1): lab.con.execute("insert into account (account_key, platform, handle, placeholder) values (?, 'x', ?, false)", [f"x:{i}", handle])


# ---- opening and closing

def test_a_new_store_belongs_to_its_owner_alone(store):
    assert stat.S_IMODE(store.stat().st_mode) == 0o600 and [p.name for p in store.parent.iterdir()] == ["s.duckdb"]


def test_what_was_written_is_there_again(store):
    with Lab(str(store)) as lab: assert one(lab, "select handle from account") == "acme"
    lab.close()
    assert lab.open() is lab and lab.open() is lab and one(lab, "select count(*) from account") == 1
    lab.close()
    with pytest.raises(InvalidParameter, match="closed"): lab.sql("select 1")
    assert "closed" in repr(lab)


def test_a_store_opened_twice_in_one_process(store):
    with Lab(store) as a, Lab(store) as b:
        a.con.execute("insert into meta values ('a', '1')")
        assert one(b, "select value from meta where key = 'a'") == "1"


@pytest.mark.parametrize(("path", "kind", "match"), [("", InvalidParameter, "folder"), ("nowhere/s.duckdb", InvalidParameter, "folder"), ("stranger.duckdb", StoreDamaged, "not a trustlab store"),
                                                     ("other.duckdb", StoreVersion, "version 0"), ("words.duckdb", StoreDamaged, "not a readable"), ("empty.duckdb", StoreDamaged, "empty")])
def test_what_is_no_store_is_refused_and_left_alone(tmp_path, path, kind, match):
    with duckdb.connect(str(tmp_path / "stranger.duckdb")) as con: con.execute("create table t (x int)")
    with Lab(tmp_path / "other.duckdb") as lab: lab.con.execute("update meta set value = '0' where key = 'schema_version'")
    (tmp_path / "words.duckdb").write_text("words, words. " * 2000)
    (tmp_path / "empty.duckdb").touch()
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(kind, match=match) as caught: Lab(tmp_path / path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before and "\n" not in str(caught.value)


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(InvalidParameter, match="no store there"): Lab(tmp_path / "s.duckdb", read_only=True)
    assert not list(tmp_path.iterdir())


def test_schema_version_is_written(lab):
    assert dict(lab.sql("select key, value from meta").rows()) == {"application": "trustlab", "schema_version": schema.SCHEMA_VERSION}
    tables = set(lab.sql("select table_name from duckdb_tables() where schema_name = 'main' and not temporary")["table_name"])
    assert tables == set(schema.TABLES) and set(lab.sql("select view_name from duckdb_views() where not internal and not temporary")["view_name"]) >= {"exchange", "inbound", "answer"}


def test_what_spills_is_private_and_removed(tmp_path):
    with Lab(tmp_path / "s.duckdb", memory_limit="64MiB") as lab:
        lab.con.execute("set threads = 1")
        lab.sql("select count(*) from (select i, row_number() over (order by hash(i)) as n from range(4000000) t(i))")
        spill = Path(lab.spill)
        assert spill.parent == tmp_path
        if spill.exists(): assert stat.S_IMODE(spill.stat().st_mode) & 0o077 == 0 or not list(spill.iterdir())
        with lab.lent(pl.DataFrame({"x": ["secret"]})) as path: assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and stat.S_IMODE(spill.stat().st_mode) == 0o700
        assert not Path(path).exists()
    assert [p.name for p in tmp_path.iterdir()] == ["s.duckdb"]


# ---- reading only

PROBES = ["select * from read_text('{folder}/secret.txt')", "select * from read_csv('{folder}/secret.txt')", "select * from '{folder}/secret.txt'", "select * from glob('/etc/*')", "copy (select 1) to '{folder}/out.csv'", "copy account to '{folder}/out.parquet'",
          "attach '{folder}/new.duckdb' as other", "attach '{folder}/stranger.duckdb' as other (read_only)", "export database '{folder}/out'", "install httpfs", "load httpfs", "set enable_external_access = true", "set lock_configuration = false",
          "set temp_directory = '{folder}'", "pragma memory_limit = '1GB'", "reset enable_external_access", "create table t (x int)", "insert into meta values ('a', 'b')", "drop table post", "update account set handle = 'x'"]


@pytest.mark.parametrize("probe", PROBES)
def test_a_store_opened_for_reading_reaches_nothing_else(store, probe):
    folder = store.parent
    (folder / "secret.txt").write_text("secret\n")
    with duckdb.connect(str(folder / "stranger.duckdb")) as con: con.execute("create table t as select 1 as x")
    before = {p: p.read_bytes() for p in folder.iterdir()}
    with Lab(store, read_only=True) as lab:
        with pytest.raises((TrustlabError, duckdb.Error)): lab.sql(probe.format(folder=folder))
        with pytest.raises((TrustlabError, duckdb.Error)): lab.con.execute(probe.format(folder=folder))
        assert one(lab, "select handle from account") == "acme"
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


def test_a_store_opened_for_reading_cannot_be_changed(store, town):
    with Lab(store, read_only=True) as lab:
        with pytest.raises(InvalidParameter, match="reading only"): lab.load(town / "twcs.csv")
        with pytest.raises(InvalidParameter, match="reading only"): lab.roles(pl.DataFrame({"account": ["acme"], "role": ["brand"]}))
        assert lab.check().height > 0


def test_python_names_are_not_visible_to_sql(lab):
    hidden = pl.DataFrame({"x": [1]})
    with pytest.raises(InvalidParameter, match="hidden"): lab.sql("select * from hidden")
    assert hidden.height == 1


def test_nothing_is_downloaded(lab):
    for name in ("autoinstall_known_extensions", "autoload_known_extensions"): assert one(lab, "select current_setting($name)", name=name) in (False, "false")
    assert one(lab, "select current_setting('TimeZone')") == "UTC"


# ---- asking

@pytest.mark.parametrize("value", ["x'; drop table post; --", "100 %", "$x", "?", "", "\u0000", "\U0001f600", None, 7, 1.5, True, datetime(2024, 1, 1)])
def test_values_are_bound_never_pasted(lab, value):
    assert lab.sql("select $x as x", x=value)["x"].to_list() == [value] and one(lab, "select count(*) from post") == 0


@pytest.mark.parametrize("query", ["selec 1", "select * from nowhere", "select $missing", "select 'x'::int", "select 1; select"])
def test_a_query_that_cannot_run_says_why(lab, query):
    with pytest.raises(InvalidParameter) as caught: lab.sql(query)
    assert str(caught.value).startswith("query:")
    assert one(lab, "select 1") == 1


def test_an_empty_answer_has_its_columns(lab):
    found = lab.sql("select post_key, created_at, rating from post")
    assert found.columns == ["post_key", "created_at", "rating"] and found.schema["created_at"] == pl.Datetime("us") and found.is_empty()


# ---- transactions

@pytest.mark.parametrize("fault", [KeyboardInterrupt, ValueError, duckdb.ConversionException, MemoryError])
def test_half_a_transaction_is_nothing(lab, fault):
    with pytest.raises(fault):
        with lab.transaction() as con:
            con.execute("insert into meta values ('half', '1')")
            con.execute("create table t (x int)")
            if fault is duckdb.ConversionException: con.execute("select 'x'::int")
            raise fault
    assert one(lab, "select count(*) from meta where key = 'half'") == 0 and one(lab, "select count(*) from duckdb_tables() where table_name = 't'") == 0
    with lab.transaction() as con: con.execute("insert into meta values ('whole', '1')")
    assert one(lab, "select count(*) from meta where key = 'whole'") == 1


def test_an_error_swallowed_inside_does_not_commit(lab):
    with pytest.raises(duckdb.Error):
        with lab.transaction() as con:
            con.execute("insert into meta values ('half', '1')")
            try: con.execute("select 'x'::int")
            except duckdb.Error: pass
            con.execute("insert into meta values ('rest', '1')")
    assert one(lab, "select count(*) from meta where key in ('half', 'rest')") == 0


# ---- roles

def table(*rows): return pl.DataFrame(rows, schema=["account", "role", "brand", "valid_from", "valid_to"], orient="row")


def test_roles_over_time(lab):
    people(lab, "acme", "kim", "lee")
    assert lab.roles(table(("acme", "brand", None, None, None), ("@KIM", "customer", None, None, "2024-01-01"), ("x:2", "staff", "acme", "2024-01-01", "2024-07-01T12:00:00"))) == 3
    spans = lab.sql("select account_key, role, brand, valid_from, valid_to from role_span order by account_key, valid_from").rows()
    low, high = datetime(1, 1, 1), datetime(9999, 12, 31)
    assert spans == [("x:1", "brand", "acme", low, high), ("x:2", "customer", None, low, datetime(2024, 1, 1)), ("x:2", "staff", "acme", datetime(2024, 1, 1), datetime(2024, 7, 1, 12))]


def test_declared_beats_export_beats_inferred(lab):
    people(lab, "kim")
    lab.con.execute("insert into role values ('x:1', 'customer', null, null, null, 'export'), ('x:1', 'brand', 'kim', null, null, 'inferred')")
    span = "select role, brand, valid_from, valid_to from role_span order by valid_from"
    assert lab.sql(span).rows() == [("customer", None, datetime(1, 1, 1), datetime(9999, 12, 31))]
    lab.roles(table(("kim", "staff", "acme", "2024-01-01", "2025-01-01")))
    assert [(r, b) for r, b, *_ in lab.sql(span).rows()] == [("customer", None), ("staff", "acme"), ("customer", None)]


def test_declaring_again_replaces_what_was_declared_of_that_account(lab):
    people(lab, "acme", "kim")
    lab.roles(table(("acme", "brand", None, None, None), ("kim", "staff", "acme", None, None)))
    lab.roles(table(("kim", "partner", None, None, None)))
    assert lab.sql("select account_key, role from role order by all").rows() == [("x:1", "brand"), ("x:2", "partner")]


def test_roles_from_a_file(lab, tmp_path):
    people(lab, "acme", "kim")
    path = tmp_path / "roles.csv"
    path.write_text("\ufeffaccount,role,brand\nacme,brand,Acme\nkim,staff,Acme\n", encoding="utf-8")
    assert lab.roles(path) == 2 and lab.sql("select distinct brand from role").rows() == [("Acme",)]


@pytest.mark.parametrize(("row", "match"), [(("acne", "brand", None, None, None), "acme"), (("acme", "brnad", None, None, None), "row 2: role"), (("kim", "staff", None, None, None), "staff need the brand"),
                                            (("acme", "brand", None, "last year", None), "row 2: valid_from")])
def test_a_wrong_role_is_named_and_nothing_changes(lab, row, match):
    people(lab, "acme", "kim")
    with pytest.raises(InvalidParameter, match=match): lab.roles(table(("kim", "customer", None, None, None), row))
    assert one(lab, "select count(*) from role") == 0


@pytest.mark.parametrize("content", ["name,role\nacme,brand\n", "account,role,colour\nacme,brand,red\n", "", "account;role\nacme;brand\n"])
def test_a_roles_file_of_another_form_is_refused(lab, tmp_path, content):
    people(lab, "acme")
    (tmp_path / "r.csv").write_text(content)
    with pytest.raises(InvalidParameter, match="roles"): lab.roles(tmp_path / "r.csv")
    with pytest.raises(InvalidParameter, match="roles"): lab.roles(tmp_path / "nowhere.csv")


# ---- check

def test_check_of_an_empty_store(lab):
    found = lab.check()
    assert found.columns == ["part", "what", "n", "says"] and found.filter(pl.col("part") != "answers")["n"].sum() == 0
    assert all("nothing is loaded" in says for says in found.filter((pl.col("part") == "answers") & (pl.col("what") != "reciprocity"))["says"])


FAULTS = {"duplicate posts": "insert into post (post_key, load_id) values ('x:p', 'l'), ('x:p', 'l')", "duplicate accounts": "insert into account (account_key) values ('x:1'), ('x:1')",
          "posts of unknown accounts": "insert into post (post_key, author_key, load_id) values ('x:p', 'x:nobody', 'l')", "posts without a load": "insert into post (post_key, load_id) values ('x:p', 'other')",
          "loads that do not add up": "insert into load (load_id, read, stored, changed, same, duplicate, rejected) values ('m', 3, 1, 0, 0, 0, 0)",
          "loads whose rejects are not all kept": "insert into load (load_id, read, stored, changed, same, duplicate, rejected) values ('m', 2, 1, 0, 0, 0, 1)",
          "accounts whose declared roles overlap": "insert into role values ('x:1', 'staff', 'a', '2024-01-01', '2024-03-01', 'declared'), ('x:1', 'staff', 'b', '2024-02-01', null, 'declared')"}


@pytest.mark.parametrize("what", FAULTS)
def test_check_counts_what_should_not_exist(lab, what):
    lab.con.execute("insert into load (load_id, read, stored, changed, same, duplicate, rejected) values ('l', 0, 0, 0, 0, 0, 0)")
    lab.con.execute(FAULTS[what])
    found = lab.check().filter(pl.col("part") == "sound")
    assert dict(zip(found["what"], found["n"])) == {name: int(name == what) for name in found["what"]} and what in set(found["what"])


def test_check_says_what_can_be_answered(lab, town):
    lab.load(town / "mastodon.tar.gz")
    assert all("one side only" in says for says in lab.check().filter(pl.col("part") == "answers")["says"])
    lab.load(town / "twcs.csv")
    found = {what: (n, says) for part, what, n, says in lab.check().rows() if part == "answers"}
    assert found["acknowledgement"][0] > 500 and all(says == "yes" for _, says in found.values())


# ---- what a user sees

SILENT = {
    "no error": "with Lab() as lab: lab.sql('select 1')",
    "an error in a query": "lab = Lab()\ntry: lab.sql('selec 1')\nexcept Exception as e: print(type(e).__name__)",
    "never closed": "lab = Lab(); frame = lab.sql('select 1 as x'); rel = lab.con.sql('select 2')",
    "an error in a load": "lab = Lab()\ntry: lab.load('README.md')\nexcept Exception as e: print(type(e).__name__)",
    "a load": "lab = Lab(); lab.load('data/town/slack.zip'); frame = lab.sql('select * from post'); check = lab.check()",
    "a missing store": "try: Lab('nowhere/at/all.duckdb')\nexcept Exception as e: print(type(e).__name__)",
    "a rolled back transaction": "lab = Lab()\ntry:\n  with lab.transaction() as con: con.execute(\"insert into meta values ('a', 'b')\"); raise ValueError\nexcept ValueError: pass",
    "a stranger": "import duckdb, tempfile, os\np = os.path.join(tempfile.mkdtemp(), 'x.duckdb'); duckdb.connect(p).close()\ntry: Lab(p)\nexcept Exception as e: print(type(e).__name__)",
}


@pytest.mark.parametrize("case", SILENT)
def test_standard_error_stays_clean(case):
    code = "from trustlab.store import Lab; import trustlab.load, trustlab.sources\n" + SILENT[case]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[:2000]


def test_an_error_that_nobody_catches_ends_in_one_line_and_no_noise(tmp_path):
    done = subprocess.run([sys.executable, "-c", "from trustlab.store import Lab\nlab = Lab(); lab.sql('select 1'); lab.sql('selec 1')"], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 1 and "nanobind" not in done.stderr and done.stderr.strip().split("\n")[-1].startswith("trustlab.core.InvalidParameter: query:")
