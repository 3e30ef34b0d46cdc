"""The command line as a shell sees it: each command, each exit code, what goes to which stream, and what is left behind."""
import csv
import html as markup
import io
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time

import duckdb
import nbformat
import polars as pl
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from conftest import Ran
from trustlab.cli import EXITS, FORMATS, MEASURES, app, function_of, run
from trustlab.core import Measure
from trustlab.store import Lab

COMMANDS = ["load", "inspect", "sources", "rejects", "roles", "identify", "proposals", "separate", "check", "measure", "report", "forget", "retain", "expire", "demo"]
START = [sys.executable, "-c", "import sys; sys.argv[0] = 'trustlab'; from trustlab.cli import main; main()"]
pytestmark = pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")
HEAD = "tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id\n"


@pytest.fixture(autouse=True)
def keys(monkeypatch, tmp_path_factory):
    "Keys of stores go to a folder of the test's own"
    folder = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    monkeypatch.delenv("TRUSTLAB_KEY", raising=False)
    return folder / "trustlab"


def fine(ran, code=0):
    "The run, after what holds for all: its code, no traceback, no noise; a failure is one paragraph"
    assert ran.code == code, f"exit {ran.code}\n{ran.out}\n{ran.err}"
    assert not re.search("Traceback|nanobind|Exception ignored|This is a fault", ran.err + ran.out), ran.err
    if code not in (0, 3):
        assert ran.out == "" and ran.err.strip(), "a failure speaks on standard error alone"
        assert len([line for line in ran.err.splitlines() if not line.startswith("warning: ")]) == 1, ran.err
    return ran


@pytest.fixture(scope="module")
def ten(root, tmp_path_factory):
    "A folder with the ten rows, and a store of them"
    folder = tmp_path_factory.mktemp("ten")
    (folder / "ten.csv").write_bytes((root / "data/expected/twcs-ten.csv").read_bytes())
    with Lab(folder / "ten.duckdb") as lab: lab.load(folder / "ten.csv")
    return folder


@pytest.fixture
def desk(ten, tmp_path):
    "A fresh copy of that folder"
    for file in ten.iterdir(): (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def demo(cli, tmp_path_factory):
    "What `trustlab demo demo` leaves in an empty folder, and its run"
    folder = tmp_path_factory.mktemp("demo")
    return folder, fine(cli("demo", "demo", cwd=folder))


@pytest.fixture
def here(monkeypatch, capsys):
    "Runs a command in this process, in a folder: quicker than `cli`, where nothing but the command itself is asked about"
    def run_in(folder, line):
        monkeypatch.chdir(folder)
        code = run(shlex.split(line))
        return Ran(code, *capsys.readouterr())
    return run_in


def names(folder): return {str(p.relative_to(folder)) for p in folder.rglob("*")}
def mode(path): return stat.S_IMODE(path.stat().st_mode)


# ---- the whole


def test_help_lists_the_commands_and_every_code(cli):
    shown = fine(cli("--help"))
    assert re.findall(r"^  ([a-z]+)  ", shown.out.split("Commands:")[1].split("Exit codes:")[0], re.M) == COMMANDS
    assert [int(code) for code in re.findall(r"^ +(\d+)  [a-z]", shown.out, re.M)] == sorted(EXITS) and "..." not in shown.out.split("Commands:")[1]
    assert fine(cli()).out == shown.out and shown.err == ""


def test_version_and_module(root, cli):
    from importlib.metadata import version
    assert fine(cli("--version")).out == f"trustlab {version('trustlab')}\n"
    done = subprocess.run([sys.executable, "-m", "trustlab.cli", "--version"], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"trustlab {version('trustlab')}\n", "")


def examples():
    "The example of each help text, in the order of making: the demo first"
    found = [line.strip() for command in app.registered_commands for line in command.callback.__doc__.splitlines() if line.strip().startswith("trustlab ")]
    return sorted(found, key=lambda line: (line.split()[1] != "demo", line.split()[1] == "forget"))


def test_every_command_has_one_example(): assert sorted(line.split()[1] for line in examples()) == sorted(COMMANDS)


@pytest.mark.parametrize("line", [line for line in examples() if not line.startswith("trustlab demo")])
def test_examples_work_as_they_stand(line, here, demo, tmp_path):
    name = line.split()[1]
    (demo[0] / "people.csv").write_text("account,person\nada1,Ada\n" if name == "identify" else "")
    if name == "forget":
        for file in ("demo/town.duckdb",): (tmp_path / "demo").mkdir(); (tmp_path / file).write_bytes((demo[0] / file).read_bytes())
    folder = tmp_path if name == "forget" else demo[0]
    assert line in " ".join(here(folder, f"{name} --help").out.split())
    fine(here(folder, line.removeprefix("trustlab ")))


def test_demo_leaves_a_store_and_a_report(demo):
    folder, ran = demo
    store, page = ran.out.splitlines()[-2:]
    assert [str(p.relative_to(folder)) for p in (folder / "demo").rglob("*.duckdb")] == [store] == ["demo/town.duckdb"]
    assert (folder / page).is_file() and "BirchAir" in (folder / page).read_text(encoding="utf-8")
    assert mode(folder / page) == mode(folder / store) == mode(folder / "demo/town/twcs.csv") == 0o600 and mode(folder / "demo") == mode(folder / "demo/town") == 0o700


def test_demo_again_adds_nothing(here, demo):
    folder, first = demo
    with Lab(folder / "demo/town.duckdb", read_only=True) as lab: before = lab.check().filter(pl.col("part") == "holds")
    again = fine(here(folder, "demo demo"))
    assert again.out.count("already loaded") == 3 and again.out.splitlines()[-1] == first.out.splitlines()[-1]
    with Lab(folder / "demo/town.duckdb", read_only=True) as lab: assert lab.check().filter(pl.col("part") == "holds").equals(before)


# ---- load, inspect


def test_load_prints_receipts(cli, tmp_path, desk):
    ran = fine(cli("load", "new.duckdb", "ten.csv", cwd=desk))
    assert "10 read, 10 stored" in ran.out and ran.err == "" and mode(desk / "new.duckdb") == 0o600
    said = json.loads(fine(cli("load", "new.duckdb", "ten.csv", "--json", cwd=desk)).out)
    assert said.keys() == {"loads", "unread"} and len(said["loads"]) == 1 and said["unread"] == []
    row = said["loads"][0]
    assert {"load_id", "source", "path", "member", "scope", "read", "stored", "changed", "same", "duplicate", "rejected"} <= row.keys()
    assert (row["source"], row["read"], row["stored"], row["same"], row["covers_to"]) == ("twcs", 10, 0, 10, "2024-03-18T13:30:00")


def test_load_takes_its_options(here, desk):
    fine(here(desk, "load new.duckdb ten.csv --source twcs --brand ElmBooks --brand @elmbooks --scope answered --exported-at 2024-04-01T02:00:00+02:00 --wait 1 --memory-limit 200MiB"))
    with Lab(desk / "new.duckdb", read_only=True) as lab:
        assert lab.sql("select scope, cast(exported_at as varchar) from load").rows() == [("answered", "2024-04-01 00:00:00")]
        assert lab.sql("select account_key, role, brand from role where basis = 'declared'").rows() == [("twcs:ElmBooks", "brand", "ElmBooks")]
    fine(here(desk, "load new.duckdb ten.csv --again"))
    with Lab(desk / "new.duckdb", read_only=True) as lab: assert lab.sql("select read, stored, same from load order by load_id").rows() == [(10, 10, 0), (10, 0, 10)]


def test_an_option_reaches_the_reader(here, desk):
    (desk / "west.csv").write_bytes((HEAD + "".join(f"{i},101,True,Mon Mar 04 10:{i:02}:00 +0000 2024,caf\xe9,,\n" for i in range(1, 31))).encode("cp1252"))
    assert "--option encoding=cp1252" in fine(here(desk, "load new.duckdb west.csv"), 4).err
    fine(here(desk, "load new.duckdb west.csv --option encoding=cp1252"))
    with Lab(desk / "new.duckdb", read_only=True) as lab: assert lab.sql("select distinct text from post")["text"].to_list() == ["caf\xe9"]


BAD = HEAD + "1,101,True,Mon Mar 04 10:00:00 +0000 2024,help,,\n2,102,True,soon,help,,\n"


@pytest.mark.parametrize(("most", "code"), [("0", 4), ("49%", 4), ("1", 3), ("50%", 3)])
def test_max_rejects_refuses_the_export_and_stores_nothing(most, code, here, desk):
    (desk / "bad.csv").write_text(BAD)
    ran = fine(here(desk, f"load new.duckdb bad.csv --max-rejects {most}"), code)
    assert (desk / "new.duckdb").exists() == (code == 3) and (code == 3 or "1 of 2 records" in ran.err)


def test_an_empty_export_is_4_unless_allowed(here, desk):
    (desk / "none.csv").write_text(HEAD)
    fine(here(desk, "load new.duckdb none.csv"), 4)
    assert "0 read" in fine(here(desk, "load new.duckdb none.csv --allow-empty")).out


def test_a_folder_is_read_as_far_as_it_goes(here, desk):
    folder = desk / "inbox"
    folder.mkdir()
    (folder / "good.csv").write_bytes((desk / "ten.csv").read_bytes())
    (folder / "cat.jpg").write_bytes(b"\xff\xd8\xff")
    ran = fine(here(desk, "load new.duckdb inbox --json"))
    assert json.loads(ran.out)["unread"] == [{"file": "cat.jpg", "why": "not an export that trustlab knows"}] and "cat.jpg" in ran.err
    (folder / "some.csv").write_text(BAD.replace("author_id", "author"))
    ran = fine(here(desk, "load two.duckdb inbox --json"), 3)
    refused = [row for row in json.loads(ran.out)["unread"] if row["file"] != "cat.jpg"]
    assert len(refused) == 1 and "some.csv" in refused[0]["file"] and "author_id" in refused[0]["why"] and "author_id" in ran.err
    (folder / "some.csv").write_bytes(b"PK\x03\x04 cut")
    (folder / "some.csv").rename(folder / "some.zip")
    assert "some.zip" in fine(here(desk, "load three.duckdb inbox"), 3).err
    (folder / "good.csv").unlink()
    fine(here(desk, "load four.duckdb inbox"), 4)


def test_a_mapping_reads_a_table_of_ones_own(here, desk):
    (desk / "t.csv").write_text("id;when;who;text\n1;2024-03-04T10:00:00Z;ann;\x1b[2Jsecret words\n2;2024-03-04T11:00:00Z;ben;more\n")
    (desk / "plain.csv").write_text("id;when;who;body\n1;2024-03-04T10:00:00Z;ann;secret words\n2;2024-03-04T11:00:00Z;ben;more\n")
    fine(here(desk, "load new.duckdb plain.csv"), 4)
    ran = fine(here(desk, "inspect plain.csv --draft m.toml"))
    assert "id" in ran.out and "secret" not in ran.out + (desk / "m.toml").read_text() and mode(desk / "m.toml") == 0o600 and "wrote m.toml" in ran.err
    assert "2 read, 2 stored" in fine(here(desk, "load new.duckdb plain.csv --mapping m.toml")).out
    assert "there already" in fine(here(desk, "inspect plain.csv --draft m.toml"), 2).err
    (desk / "m.toml").write_text("old")
    fine(here(desk, "inspect plain.csv --draft m.toml --force"))
    assert (desk / "m.toml").read_text() != "old" and "'n.toml': no such file" in fine(here(desk, "load x.duckdb plain.csv --mapping n.toml"), 2).err
    assert "secret" not in fine(here(desk, "inspect t.csv --json")).out and "must stand alone" in fine(here(desk, "load x.duckdb plain.csv --mapping m.toml --source twcs"), 2).err


def test_inspect_shows_names_and_counts_and_never_a_value(here, ten):
    said = json.loads(fine(here(ten, "inspect ten.csv --json")).out)
    assert said.keys() == {"files", "columns", "drafts", "notes"} and said["files"][0]["records"] == 10 and said["files"][0]["reader"] == "twcs"
    values = {cell for row in csv.DictReader((ten / "ten.csv").open()) for cell in row.values() if len(cell) > 4}
    shown = fine(here(ten, "inspect ten.csv")).out
    assert values and not [v for v in values if v in shown + json.dumps(said)] and "tweet_id" in shown
    (ten.parent / "none.bin").write_bytes(bytes(range(256)))
    assert "no mapping to draft" in fine(here(ten, "inspect ../none.bin --draft ../n.toml"), 4).err and not (ten.parent / "n.toml").exists()


# ---- pseudonyms, identity, forgetting


def test_pseudonyms_are_asked_for_before_the_first_load(here, desk, keys):
    ran = fine(here(desk, "load p.duckdb ten.csv --pseudonyms drop"))
    [key] = keys.iterdir()
    assert f"{key};" in ran.err and mode(key) == 0o600 and key.read_text() not in ran.out + ran.err
    with Lab(desk / "p.duckdb", read_only=True) as lab:
        assert lab.masked == "drop" and lab.sql("select count(text) as n from post")["n"][0] == 0 and lab.sql("select count(*) as n from post")["n"][0] == 10
    assert str(key) not in fine(here(desk, "load p.duckdb ten.csv --pseudonyms drop")).err, "it is told once"
    assert "in clear" in fine(here(desk, "load ten.duckdb ten.csv --pseudonyms drop"), 2).err
    key.unlink()
    assert "the key of this store is not here" in fine(here(desk, "load p.duckdb ten.csv"), 2).err


def test_a_refused_load_leaves_no_key(here, desk, keys):
    (desk / "bad.csv").write_text(BAD)
    fine(here(desk, "load p.duckdb bad.csv --pseudonyms scrub --max-rejects 0"), 4)
    assert list(keys.iterdir()) == [] and not (desk / "p.duckdb").exists()


def test_accounts_are_joined_and_separated(here, desk):
    (desk / "people.csv").write_text("account,person\n101,Kim\n102,Kim\n")
    assert fine(here(desk, "identify ten.duckdb people.csv")).err == "accounts identified: 2.\n"
    ask = "measure acknowledgement ten.duckdb --format json --set unit=post"
    per = {p: json.loads(fine(here(desk, f"{ask} --set per={p}")).out) for p in ("account", "person")}
    assert per["person"]["params"]["per"] == "person" and "1 person" in " ".join(per["person"]["notes"]) and "joined" not in " ".join(per["account"]["notes"])
    assert fine(here(desk, "separate ten.duckdb 101")).err == "joins undone: 1.\n" and fine(here(desk, "separate ten.duckdb 101")).err == "joins undone: 0.\n"
    (desk / "people.csv").write_text("account,person\n999,Kim\n")
    for line in ("identify ten.duckdb people.csv", "identify ten.duckdb ten.csv", "separate ten.duckdb 999", "identify ten.duckdb .", "identify ten.duckdb /dev/null"): fine(here(desk, line), 2)


def test_proposals_are_read_then_accepted_from_a_file(here, desk):
    with Lab(desk / "ten.duckdb") as lab: lab.con.execute("insert into account (account_key, platform, handle, person_key) values ('x:1', 'x', 'kim', 'x:1'), ('slack:K', 'slack', 'Kim', 'slack:K')")
    listed = fine(here(desk, "proposals ten.duckdb --format csv")).out
    assert [(r["account_key"], r["other_key"]) for r in csv.DictReader(io.StringIO(listed))] == [("slack:K", "x:1")]
    assert json.loads(fine(here(desk, "proposals ten.duckdb --format json")).out)["proposals"][0]["reason"] == "same handle" and "slack:K" in fine(here(desk, "proposals ten.duckdb")).out
    (desk / "right.csv").write_text(listed)
    assert fine(here(desk, "proposals ten.duckdb --accept right.csv")).err == "new joins: 1.\n" and "no rows" in fine(here(desk, "proposals ten.duckdb")).out
    (desk / "right.csv").write_text("account_key,other_key\ntwcs:101,twcs:102\n")
    for line in ("--accept right.csv", "--accept ten.csv", "--most 1", "--format html"): fine(here(desk, f"proposals ten.duckdb {line}"), 2)
    assert "right.csv" in fine(here(desk, "proposals ten.duckdb --accept rigth.csv"), 4).err


def test_forget_erases_and_says_what(here, desk, keys):
    with Lab(desk / "ten.duckdb", read_only=True) as lab: posts = lab.sql("select count(*) as n from post where author_key = 'twcs:101'")["n"][0]
    before = (desk / "ten.duckdb").read_bytes()
    assert "--yes" in fine(here(desk, "forget ten.duckdb 101"), 2).err and "near names" in fine(here(desk, "forget ten.duckdb 999 --yes"), 2).err and (desk / "ten.duckdb").read_bytes() == before
    ran = fine(here(desk, "forget ten.duckdb 101 --yes --reason asked"))
    [key] = keys.iterdir()
    assert posts and f"posts {posts}," in ran.out and "accounts 1," in ran.out and str(key) in ran.err and "Backups" in ran.err
    with Lab(desk / "ten.duckdb", read_only=True) as lab: assert lab.sql("select count(*) as n from post where author_key = 'twcs:101'")["n"][0] == 0 and set(lab.sql("select reason from erasure")["reason"]) == {"asked"}
    again = fine(here(desk, "load ten.duckdb ten.csv --again"), 3)
    assert f"{posts} of 10 records were rejected" in again.err and f"{posts} erased" in fine(here(desk, "rejects ten.duckdb")).out
    assert mode(desk / "ten.duckdb") == 0o600 and names(desk) == {"ten.csv", "ten.duckdb"}


def test_forget_takes_no_handle_that_several_have(here, desk):
    with Lab(desk / "ten.duckdb") as lab: lab.con.execute("insert into account (account_key, platform, handle, person_key) values ('x:1', 'x', 'kim', 'x:1'), ('slack:K', 'slack', 'Kim', 'slack:K')")
    assert "slack:K, x:1" in fine(here(desk, "forget ten.duckdb kim --yes"), 2).err
    assert "accounts 1," in fine(here(desk, "forget ten.duckdb x:1 --yes")).out
    with Lab(desk / "ten.duckdb", read_only=True) as lab: assert lab.sql("select account_key from account where lower(handle) = 'kim'")["account_key"].to_list() == ["slack:K"]


def test_forget_asks_what_becomes_of_joined_accounts(here, desk):
    (desk / "people.csv").write_text("account,person\n101,Kim\n102,Kim\n")
    fine(here(desk, "identify ten.duckdb people.csv"))
    before, left = (desk / "ten.duckdb").read_bytes(), lambda store: Lab(desk / store, read_only=True)
    refused = fine(here(desk, "forget ten.duckdb 101 --yes"), 2).err
    assert "twcs:102" in refused and "--joined" in refused and "--alone" in refused and (desk / "ten.duckdb").read_bytes() == before
    (desk / "other.duckdb").write_bytes(before)
    assert "accounts 2," in fine(here(desk, "forget ten.duckdb 101 --yes --joined")).out and "accounts 1," in fine(here(desk, "forget other.duckdb @101 --yes --alone")).out
    for store, keys in (("ten.duckdb", []), ("other.duckdb", ["twcs:102"])):
        with left(store) as lab: assert lab.sql("select account_key from account where account_key in ('twcs:101', 'twcs:102')")["account_key"].to_list() == keys
    assert "the account of a brand" in fine(here(desk, "forget ten.duckdb ElmBooks --yes"), 2).err


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 130), ("\x03", 130)])
def test_forget_asks_on_a_terminal(answer, code, desk):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with subprocess.Popen([*START, "forget", "ten.duckdb", "101"], cwd=desk, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True,
                          preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0)) as process:
        os.close(theirs)
        asked = ""
        while "[y/N]" not in asked and (more := process.stderr.read(1)): asked += more
        os.write(ours, (answer + "\n").encode())
        out, err = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == code and "twcs:101" in asked and "Traceback" not in err
    with Lab(desk / "ten.duckdb", read_only=True) as lab: assert (lab.sql("select count(*) as n from account where account_key = 'twcs:101'")["n"][0] == 0) == (answer == "y")


def test_forget_does_not_begin_without_room_for_a_second_copy(here, desk, monkeypatch):
    before = (desk / "ten.duckdb").read_bytes()
    monkeypatch.setattr("trustlab.cli.shutil.disk_usage", lambda folder: type("usage", (), {"free": len(before) - 1}))
    assert "Writing the file anew may need 2 MB" in fine(here(desk, "forget ten.duckdb 101 --yes"), 6).err and (desk / "ten.duckdb").read_bytes() == before


def test_expire_counts_first_and_deletes_when_told(here, desk):
    with Lab(desk / "ten.duckdb", read_only=True) as lab: old, all_ = lab.sql("select count(*) filter (created_at < '2024-03-10'), count(*) from post").row(0)
    before = json.loads(here(desk, "check ten.duckdb --json").out)
    assert 0 < old < all_ and f"would delete: posts {old}," in fine(here(desk, "expire ten.duckdb --before 2024-03-10 --dry-run")).out
    assert "--yes" in fine(here(desk, "expire ten.duckdb --before 2024-03-10"), 2).err and json.loads(here(desk, "check ten.duckdb --json").out) == before
    for date in ("soon", "2999-01-01"): fine(here(desk, f"expire ten.duckdb --before {date} --yes"), 2)
    fine(here(desk, "expire ten.duckdb --yes"), 2)
    ran = fine(here(desk, "expire ten.duckdb --before 2024-03-10 --yes --json"))
    assert json.loads(ran.out)["posts"] == old and "Backups" in ran.err
    with Lab(desk / "ten.duckdb", read_only=True) as lab: assert lab.sql("select count(*) as n from post")["n"][0] == all_ - old
    assert f"{old} expired" in (fine(here(desk, "load ten.duckdb ten.csv --again"), 3), here(desk, "rejects ten.duckdb"))[1].out and mode(desk / "ten.duckdb") == 0o600


# ---- rejects


def test_rejects_show_place_reason_and_text_that_cannot_act(here, desk):
    rows = b'11,105,True,soon,"@ElmBooks \x1b[2Jhello\nthere",,\n12,106,True,Mon Mar 18 12:00:00 +0000 2024,fine,,\n13,107,maybe,Mon Mar 18 12:00:00 +0000 2024,' + b"x" * 200 + b",,\n14,108,True,caf\xe9,,,\n"
    whole = (desk / "ten.csv").read_bytes()
    (desk / "bad.csv").write_bytes(whole + rows)
    ran = fine(here(desk, "load bad.duckdb bad.csv"), 3)
    assert "11 stored, 3 rejected" in ran.out and "3 of 14 records were rejected" in ran.err
    bare, listed = (fine(here(desk, f"rejects bad.duckdb{raw}")) for raw in ("", " --raw"))
    line, at = whole.count(b"\n") + 1, len(whole)
    assert f"bad.csv:line {line} (byte {at}): bad_time (created_at): " in listed.out and "\x1b" not in listed.out and r"\x1b[2Jhello\nthere" in listed.out
    assert "\\xe9" in listed.out and "x" * 81 not in listed.out and listed.err == "" and listed.out.endswith("load 000001 (bad.csv): 3 rejected: 1 bad_inbound, 1 bad_time, 1 bad_utf8\n")
    assert "hello" not in bare.out and "xxx" not in bare.out and f"bad.csv:line {line} (byte {at}): bad_time" in bare.out
    said = json.loads(fine(here(desk, "rejects bad.duckdb --json")).out)
    fields = ["load_id", "file", "member", "record", "line", "byte_offset", "code", "field", "reason"]
    assert sum(said["counts"].values()) == len(said["rejects"]) == said["loads"][0]["rejected"] == 3 and said["counts"]["bad_inbound"] == 1
    assert list(said["rejects"][0]) == fields and [r["line"] for r in said["rejects"]] == [line, line + 3, line + 4]
    with_raw = json.loads(fine(here(desk, "rejects bad.duckdb --format json --raw")).out)["rejects"]
    assert list(with_raw[0]) == [*fields, "raw"] and all(len(r["raw"]) <= 80 for r in with_raw)
    table = list(csv.DictReader(io.StringIO(fine(here(desk, "rejects bad.duckdb --format csv")).out)))
    assert list(table[0]) == fields and [r["line"] for r in table] == [str(r["line"]) for r in said["rejects"]]
    assert fine(here(desk, "load bad.duckdb bad.csv")).out.count("already loaded") == 1, "what was rejected once is not rejected again"
    assert fine(here(desk, "rejects ten.duckdb")).out == "no record was rejected\n" and json.loads(here(desk, "rejects ten.duckdb --json").out) == {"counts": {}, "loads": [], "rejects": []}
    assert fine(here(desk, "rejects ten.duckdb --format csv")).out == ",".join(fields) + "\n"


def test_rejects_are_tried_again(here, desk, monkeypatch):
    (desk / "bad.csv").write_text(BAD)
    fine(here(desk, "load bad.duckdb bad.csv"), 3)
    assert "1 rejected" in fine(here(desk, "rejects bad.duckdb --replay"), 3).out and fine(here(desk, "rejects bad.duckdb")).out.count("bad_time") == 2
    from trustlab.intake import READERS
    old = READERS["twcs"]
    def mended(intake):
        text = intake.bundle.path.read_text().replace("soon", "Mon Mar 04 12:00:00 +0000 2024")
        (desk / "mended.csv").write_text(text)
        from trustlab.bundles import bundles
        [intake.bundle] = bundles(desk / "mended.csv")
        intake.root = "mended.csv"
        old.stage(intake)
    monkeypatch.setitem(READERS, "twcs", type(old)(old.name, old.title, old.find, mended, old.sheet, old.options))
    said = json.loads(fine(here(desk, "rejects bad.duckdb --replay --format json")).out)
    assert (said["loads"][0]["stored"], said["loads"][0]["same"], said["loads"][0]["rejected"]) == (1, 1, 0) and fine(here(desk, "rejects bad.duckdb")).out == "no record was rejected\n"
    assert fine(here(desk, "rejects bad.duckdb --replay")).out == "nothing to load\n"
    for line in ("--replay --raw", "--replay --format csv", "--format xml"): fine(here(desk, f"rejects bad.duckdb {line}"), 2)


def test_an_export_that_moved_cannot_be_tried_again(here, desk):
    (desk / "bad.csv").write_text(BAD)
    fine(here(desk, "load bad.duckdb bad.csv"), 3)
    (desk / "bad.csv").unlink()
    assert "bad.csv" in fine(here(desk, "rejects bad.duckdb --replay"), 3).err and "bad_time" in fine(here(desk, "rejects bad.duckdb")).out


# ---- roles, check, sources


def test_roles_are_declared(cli, desk):
    (desk / "roles.csv").write_text("account,role,brand\nElmBooks,brand,Elm\n103,staff,Elm\n")
    ran = fine(cli("roles", "ten.duckdb", "roles.csv", cwd=desk))
    assert ran.out == "" and ran.err == "2 roles declared.\n"
    with Lab(desk / "ten.duckdb", read_only=True) as lab: assert lab.sql("select count(*) as n from role where basis = 'declared'")["n"][0] == 2


def test_check_and_sources(here, ten):
    checks = json.loads(fine(here(ten, "check ten.duckdb --json")).out)["checks"]
    assert {"part": "holds", "what": "posts", "n": 10, "says": ""} in checks and checks[0].keys() == {"part", "what", "n", "says"}
    assert re.search(r"holds +posts +10", fine(here(ten, "check ten.duckdb")).out)
    known = json.loads(fine(here(ten, "sources --json")).out)["sources"]
    from trustlab.intake import READERS
    assert [row["source"] for row in known] == sorted(READERS) and all(row["reads"] and row["answers"] and row["limits"] for row in known)
    assert list(known[0]) == ["source", "reads", "understood", "ignored", "answers", "tested_on", "limits"]
    shown = fine(here(ten, "sources")).out
    assert all(f"{row['source']}: {row['reads']}\n" in shown and row["limits"] in shown and row["answers"] in shown for row in known)


# ---- measure


SETTINGS = {"acknowledgement": {"by": ("brand",), "within": ("1h", "24h")}, "worklist": {"brand": "ElmBooks"}, "reciprocity": {"window": "7d"}, "conversion": {"horizon": ("7d", "90d")},
            "first_ends": {"by": ("brand",)}, "page_response_rate": {"brand": "ElmBooks"}, "question_response_rate": {"by": ("brand",)}, "care": {"by": ("brand",)}, "after_care": {"brand": "ElmBooks"},
            "advocates": {"by": ("brand",)}, "effect": {"horizon": "30d"}, "dose_response": {"horizon": "30d"}, "contrast": {"exposure": "redirected", "against": "canned", "horizon": "30d"}, "bystanders": {}, "degrees": {"outcome": "answered"}, "circles": {}, "return_times": {}, "triads": {}, "local_reciprocity": {}, "loops": {"window": "30d"}, "pay_forward": {"window": "30d"}, "friendsource": {"topic": "app"}, "person_view": {}}
IN_TOWN = ("return_times", "triads", "local_reciprocity", "loops", "pay_forward", "effect", "dose_response", "contrast", "bystanders", "degrees", "circles", "friendsource", "person_view")


def settings_of(name, store):
    "The settings of a measure; the person that two of them ask for is a customer whom another customer has answered"
    if name not in ("friendsource", "person_view"): return SETTINGS[name]
    peer = """select a.account_key as k from inbound i join post q on q.post_key = i.post_key join post p on p.reply_to_key = i.post_key join account a on a.account_key = i.author_key where i.eligible and p.author_key <> i.author_key
              and p.author_key not in (select account_key from role where role <> 'customer') and q.text like '% app%' order by k limit 1"""
    with Lab(store, read_only=True) as lab: return SETTINGS[name] | {"person": lab.sql(peer)["k"][0]}


def asked(settings): return [part for key, value in settings.items() for part in ("--set", f"{key}={value if isinstance(value, str) else ','.join(value)}")]


@pytest.mark.parametrize("name", MEASURES)
def test_json_is_what_python_says(name, here, ten, demo):
    folder, store = (demo[0], demo[0] / "demo/town.duckdb") if name in IN_TOWN else (ten, ten / "ten.duckdb")
    settings = settings_of(name, store)
    ran = fine(here(folder, f"measure {name} {store} {shlex.join(asked(settings))} --format json"))
    said = json.loads(ran.out)
    assert list(said) == ["measure", "params", "card", "rows", "notes"] and said["measure"] == name
    with Lab(store, read_only=True) as lab: result = function_of(name)(lab, **settings)
    frame = result.frame if isinstance(result, Measure) else result
    if isinstance(result, Measure): assert said == json.loads(json.dumps(result.to_dict()))
    assert [list(row) for row in said["rows"]] == [frame.columns] * frame.height and frame.height
    for row, other in zip(said["rows"], frame.iter_rows(named=True)):
        for column, value in other.items(): assert row[column] == (value.isoformat() if hasattr(value, "isoformat") else value)


@pytest.mark.parametrize("line, says", [("person_view", "person_view must be told person; give it with --set person=VALUE."), ("friendsource", "friendsource must be told person and topic; give them with --set person=VALUE --set topic=VALUE."),
    ("friendsource --set topic=app", "friendsource must be told person; give it with --set person=VALUE.")])
def test_a_parameter_that_must_be_given_is_asked_for(line, says, here, ten):
    name, *rest = line.split(" ", 1)
    assert fine(here(ten, " ".join(["measure", name, "ten.duckdb", *rest])), 2).err == says + "\n"


def test_kinds_are_a_list_or_one_name(here, ten):
    one, two = (json.loads(fine(here(ten, f"measure reciprocity ten.duckdb --set kinds={kinds} --format json")).out)["params"]["kinds"] for kinds in ("reply", "reply,reply"))
    assert (one, two) == (["reply"], ["reply", "reply"])
    assert "kinds must be one of" in fine(here(ten, "measure reciprocity ten.duckdb --set kinds=repply"), 2).err


def test_the_ten_rows_have_the_answers_worked_by_hand(root, here, ten):
    want = json.loads((root / "data/expected/twcs-ten.json").read_text())
    [row] = json.loads(here(ten, "measure acknowledgement ten.duckdb --format json").out)["rows"]
    for key in ("n", "acknowledged", "pending", "response_rate", "ack_15m", "ack_1h", "ack_24h", "ack_7d", "median_seconds"): assert row[key] == pytest.approx(want["acknowledgement"][key])
    [row] = json.loads(here(ten, "measure reciprocity ten.duckdb --format json").out)["rows"]
    for key, value in want["reciprocity"].items():
        if key != "window": assert row[key] == pytest.approx(value), key


def test_brand_may_be_repeated_and_set_may_not(here, demo):
    store = demo[0] / "demo/town.duckdb"
    said = json.loads(fine(here(demo[0], f"measure acknowledgement {store} --set by=brand --brand BirchAir --brand CedarBank --format json")).out)
    assert [row["brand"] for row in said["rows"]] == ["BirchAir", "CedarBank"]
    assert "given once" in fine(here(demo[0], f"measure acknowledgement {store} --set by=brand --set by=week"), 2).err
    assert "given once" in fine(here(demo[0], f"measure acknowledgement {store} --set brand=BirchAir --brand CedarBank"), 2).err


def test_every_format(here, desk):
    common = "measure acknowledgement ten.duckdb --set by=week"
    with Lab(desk / "ten.duckdb", read_only=True) as lab: result = function_of("acknowledgement")(lab, by="week")
    table = fine(here(desk, common)).out
    assert table.startswith(result.card.name) and f"formula: {result.card.formula}" in table and "2024-03-04" in table and "(" in table
    rows = list(csv.DictReader(io.StringIO(fine(here(desk, f"{common} --format csv")).out)))
    assert [float(row["response_rate"]) for row in rows] == result.frame["response_rate"].to_list() and rows[0]["week"] == "2024-03-04"
    for form in FORMATS:
        ran = fine(here(desk, f"{common} --format {form} --out result.{form}"))
        assert ran.out == "" and ran.err.endswith(f"wrote result.{form}\n") and mode(desk / f"result.{form}") == 0o600
    assert pl.read_parquet(desk / "result.parquet").equals(result.frame) and json.loads((desk / "result.json").read_text())["rows"] == result.to_dict()["rows"]
    page = (desk / "result.html").read_text(encoding="utf-8")
    bare = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert "Content-Security-Policy" in bare and "<table" in bare and "2024-03-04" in bare and result.card.numerator in markup.unescape(bare)
    assert "trustlab-figure" in bare and not re.search(r"\b(?:src|href)=", bare) and len(page) > 3_000_000
    fine(here(desk, f"{common} --out by-ending.csv"))
    assert (desk / "by-ending.csv").read_text() == (desk / "result.csv").read_text()


def test_csv_cells_are_no_formulas(here, tmp_path):
    (tmp_path / "x.csv").write_text(HEAD + '1,101,True,Mon Mar 04 10:00:00 +0000 2024,help @acme,2,\n2,"=cmd|calc",False,Mon Mar 04 10:30:00 +0000 2024,hello,,1\n')
    fine(here(tmp_path, "load x.duckdb x.csv"))
    ran = fine(here(tmp_path, "measure acknowledgement x.duckdb --set by=brand --format csv"))
    assert [row["brand"] for row in csv.DictReader(io.StringIO(ran.out))] == ["'=cmd|calc"]
    said = json.loads(here(tmp_path, "measure acknowledgement x.duckdb --set by=brand --format json").out)
    assert said["rows"][0]["brand"] == "=cmd|calc"


def test_names_from_an_export_cannot_drive_the_terminal(here, tmp_path):
    (tmp_path / "x.csv").write_text(HEAD + '1,101,True,Mon Mar 04 10:00:00 +0000 2024,help,2,\n2,"[red]\x1b[2Jacme",False,Mon Mar 04 10:30:00 +0000 2024,hello,,1\n')
    fine(here(tmp_path, "load x.duckdb x.csv"))
    shown = fine(here(tmp_path, "measure acknowledgement x.duckdb --set by=brand"))
    refused = fine(here(tmp_path, "measure acknowledgement x.duckdb --brand acme"), 2)
    assert "[red]" in shown.out and "[red]" in refused.err and "\x1b" not in shown.out + refused.err


def test_warnings_go_to_standard_error(here, desk):
    fine(here(desk, "load new.duckdb ten.csv --scope answered"))
    ran = fine(here(desk, "measure acknowledgement new.duckdb --format json"))
    assert json.loads(ran.out)["rows"] and ran.err and all(line.startswith("warning: ") for line in ran.err.splitlines())


# ---- report


def notebook(path, *cells, **defaults):
    first = new_code_cell("\n".join(f"{k} = {v!r}" for k, v in ({"store": ""} | defaults).items()), metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[first, *map(new_code_cell, cells)]), path)


def test_report_prints_its_path_last_and_reads_parameters_by_kind(cli, desk):
    notebook(desk / "mine.ipynb", "print('got', brand, weeks, within, wide)", brand=None, weeks=12, within=["1h"], wide=False)
    ran = fine(cli("report", "ten.duckdb", "--notebook", "mine.ipynb", "--out", "pages", "--set", "brand=42", "--set", "weeks=4", "--set", "within=1h,7d", "--set", "wide=true", cwd=desk))
    assert (desk / ran.out.splitlines()[-1]).resolve() == (desk / "pages/mine.html").resolve() and ran.err == ""
    assert "got 42 4 [&#39;1h&#39;, &#39;7d&#39;] True" in (desk / "pages/mine.html").read_text().replace("'", "&#39;") and mode(desk / "pages") == 0o700


def test_report_7_leaves_the_last_good_page(cli, desk):
    notebook(desk / "mine.ipynb", "1 / 0")
    (desk / "mine.html").write_text("the last good page")
    ran = fine(cli("report", "ten.duckdb", "--notebook", "mine.ipynb", "--out", ".", cwd=desk), 7)
    assert "ZeroDivisionError" in ran.err and (desk / "mine.html").read_text() == "the last good page"


# ---- what is refused, by exit code


@pytest.mark.parametrize(("line", "says"), [
    ("lod ten.duckdb ten.csv", "No such command 'lod'"), ("load", "Missing argument 'STORE'"), ("load ten.duckdb", "Missing argument"), ("check ten.duckdb --quick", "--quick"),
    ("load ten.duckdb ten.csv --source twitter", "source must be one of"), ("load ten.duckdb ten.csv --scope all", "scope must be one of"), ("load ten.duckdb ten.csv --exported-at soon", "exported_at must be a"),
    ("lod ten.duckdb ten.csv", "Did you mean 'load'? Try"), ("load ten.duckdb ten.csv --option encoding", "--option must look like"), ("load ten.duckdb ten.csv --option encodng=x", "encoding"), ("load new.duckdb ten.csv --option encoding=x --option encoding=y", "given once"),
    ("load ten.duckdb ten.csv --max-rejects lots", "max_rejects must be"), ("load new.duckdb ten.csv --mapping none.toml", "none.toml"), ("load new.duckdb ten.csv --pseudonyms yes", "drop, scrub"), ("load md:x ten.csv", "STORE must be a file"),
    ("check ten.duckdb --wait soon", "--wait"), ("check ten.duckdb --wait -1", "from 0 on"), ("check ten.duckdb --wait nan", "from 0 on"), ("check ten.duckdb --wait inf", "from 0 on"), ("check ten.duckdb --memory-limit much", "--memory-limit must be"), ("check ten.duckdb --memory-limit 0GB", "--memory-limit must be"),
    ("inspect ten.csv --draft .", "--draft must name"), ("inspect ten.csv --draft /dev/null", "--draft must name"), ("inspect ten.csv --draft ten.csv", "there already"), ("measure acknowledgement ten.duckdb --out /dev/null", "--out must name"),
    ("roles ten.duckdb .", "must be a CSV file"), ("check . ", "must be a file"), ("rejects ten.duckdb --format xml", "csv, json, table"), ("rejects ten.duckdb --replay --format csv", "json, table"), ("forget ten.duckdb", "Missing argument"), ("load new.duckdb ''", "must not be empty"), ("report ten.duckdb --out ''", "must not be empty"), ("load '' ten.csv", "STORE must be"), ("load a\\\\b.duckdb ten.csv", "no backslash"), ("load ~x.duckdb ten.csv", "write ./~x"),
    ("load new.duckdb ten.csv --brand ElmBook", "ElmBooks"), ("load nowhere/new.duckdb ten.csv", "no folder"), ("roles ten.duckdb ten.csv", "columns must be"),
    ("measure aknowledgement ten.duckdb", "measure must be one of acknowledgement"), ("measure acknowledgement ten.duckdb --set withn=1h", "within"), ("measure acknowledgement ten.duckdb --set by", "key=value"),
    ("measure acknowledgement ten.duckdb --set by=colour", "by must be one of"), ("measure acknowledgement ten.duckdb --set within=soon", "within must be"), ("measure acknowledgement ten.duckdb --brand ElmBook", "ElmBooks"),
    ("measure worklist ten.duckdb --brand ElmBook", "ElmBooks"), ("measure reciprocity ten.duckdb --set lab=1", "parameter must be one of"), ("measure acknowledgement ten.duckdb --format xml", "--format must be one of"),
    ("measure acknowledgement ten.duckdb --format parquet", "--out"), ("measure acknowledgement ten.duckdb --out nowhere/x.csv", "--out must name"), ("measure acknowledgement ten.duckdb --out .", "--out must name"),
    ("report ten.duckdb", "--out"), ("report ten.duckdb --out pages --notebook montly", "weekly"), ("report ten.duckdb --out pages --set weks=3", "weeks"), ("report ten.duckdb --out pages --set weeks=few", "weeks must be a number"),
    ("report ten.duckdb --out pages --set store=x", "parameter must be one of"),
])
def test_wrong_usage_is_2(line, says, here, desk):
    before = {name: (desk / name).read_bytes() for name in names(desk)}
    assert says in fine(here(desk, line), 2).err
    assert {name: (desk / name).read_bytes() for name in names(desk)} == before


@pytest.mark.parametrize(("line", "says"), [
    ("load new.duckdb tenn.csv", "ten.csv"), ("load ten.duckdb tenn.csv", "no such file"), ("load new.duckdb notes.bin", "no reader recognises"), ("load new.duckdb ten.csv notes.bin", "no reader recognises"),
    ("load new.duckdb empty.csv", "empty"), ("load new.duckdb cut.zip", "cut.zip"), ("load new.duckdb header.csv", "header.csv"), ("load new.duckdb some.csv", "author_id"),
    ("roles ten.duckdb roles.csv", "no such file"), ("roles tenn.duckdb ten.csv", "no store there"),
    ("measure acknowledgement tenn.duckdb", "no store there"), ("report tenn.duckdb --out pages", "no store there"), ("check tenn.duckdb", "ten.duckdb"), ("rejects tenn.duckdb", "no store there"),
])
def test_refused_input_is_4_and_leaves_nothing(line, says, here, desk):
    (desk / "notes.bin").write_bytes(b"\x00\x01 not an export")
    (desk / "empty.csv").touch()
    (desk / "cut.zip").write_bytes(b"PK\x03\x04 cut")
    (desk / "header.csv").write_text(HEAD)
    (desk / "some.csv").write_text(HEAD.replace("author_id", "author") + "1,101,True,Mon Mar 04 10:00:00 +0000 2024,help,2,\n")
    before = {name: (desk / name).read_bytes() for name in names(desk)}
    assert says in fine(here(desk, line), 4).err
    assert {name: (desk / name).read_bytes() for name in names(desk)} == before


@pytest.mark.parametrize("name", ["acknowledgement", "worklist", "conversion", "reciprocity", "advocates", "effect", "dose_response", "contrast", "bystanders", "degrees", "circles", "return_times", "triads", "local_reciprocity", "loops", "pay_forward"])
def test_a_question_that_the_store_cannot_answer_is_4(name, here, tmp_path):
    with Lab(tmp_path / "bare.duckdb"): pass
    fine(here(tmp_path, f"measure {name} bare.duckdb"), 4)


def test_an_export_refused_after_another_says_so(here, desk):
    (desk / "some.csv").write_text(HEAD.replace("author_id", "author") + "1,101,True,Mon Mar 04 10:00:00 +0000 2024,help,2,\n")
    ran = here(desk, "load new.duckdb ten.csv some.csv --pseudonyms drop")
    assert ran.code == 4 and re.match(r"1 of the exports of this call was stored before this \(the key of this store is in .+\.key\):\n", ran.err) and "author_id" in ran.err
    assert '"n": 10' in here(desk, "check new.duckdb --json").out


def test_a_store_that_another_process_holds_is_5(here, cli, desk):
    (desk / "roles.csv").write_text("account,role,brand\nElmBooks,brand,Elm\n")
    lines = ["load ten.duckdb ten.csv", "roles ten.duckdb roles.csv", "measure acknowledgement ten.duckdb", "check ten.duckdb", "rejects ten.duckdb", "report ten.duckdb --out pages",
             "forget ten.duckdb 101 --yes", "retain ten.duckdb 30", "expire ten.duckdb --before 2024-03-10 --yes", "identify ten.duckdb ten.csv", "proposals ten.duckdb", "separate ten.duckdb 101", "rejects ten.duckdb --replay"]
    lines = [f"{line} --wait 0.2" for line in lines]
    with subprocess.Popen([sys.executable, "-c", "from trustlab.store import Lab; lab = Lab('ten.duckdb'); print('held', flush=True); input()"], cwd=desk, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        for line in lines: assert f"(PID {holder.pid})" in fine(here(desk, line), 5).err, line
        assert "(PID " in fine(cli("check", "ten.duckdb", "--wait", "0", cwd=desk), 5).err
        holder.communicate("\n")
    assert (desk / "ten.duckdb").is_file()


@pytest.mark.parametrize(("line", "code"), [("load", 2), ("measure acknowledgement ten.duckdb --brand Elm", 2), ("load new.duckdb ten.duckdb", 4), ("measure acknowledgement bare.duckdb", 4), ("check bad.duckdb", 6)])
def test_a_process_that_fails_ends_quietly(line, code, cli, desk):
    (desk / "bad.duckdb").write_bytes(b"not a store" * 1000)
    with Lab(desk / "bare.duckdb"): pass
    fine(cli(*line.split(), cwd=desk), code)


@pytest.mark.parametrize("damage", ["garbage", "empty", "stranger", "version", "cut"])
@pytest.mark.parametrize("line", ["load bad.duckdb ten.csv", "measure acknowledgement bad.duckdb", "report bad.duckdb --out pages"])
def test_a_damaged_store_is_6_and_stays_as_it_is(damage, line, here, desk):
    bad = desk / "bad.duckdb"
    if damage == "garbage": bad.write_bytes(b"not a store" * 1000)
    elif damage == "empty": bad.touch()
    elif damage == "stranger": subprocess.run([sys.executable, "-c", "import duckdb; duckdb.connect('bad.duckdb').close()"], cwd=desk, check=True)
    elif damage == "cut": bad.write_bytes((desk / "ten.duckdb").read_bytes()[:20_000])
    else:
        with Lab(bad) as lab: lab.con.execute("update meta set value = '0' where key = 'schema_version'")
    before = bad.read_bytes()
    assert "bad.duckdb" in fine(here(desk, line), 6).err and bad.read_bytes() == before


def test_a_full_disk_is_6(desk):
    code = "import errno, os, sys; os.replace = lambda *a: (_ for _ in ()).throw(OSError(errno.ENOSPC, 'No space left on device', 'x.csv')); from trustlab.cli import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, "measure", "worklist", "ten.duckdb", "--out", "x.csv"], cwd=desk, capture_output=True, text=True)
    assert done.returncode == 6 and "x.csv: No space left on device." in done.stderr and names(desk) == {"ten.csv", "ten.duckdb"}


def test_wait_takes_the_store_once_it_is_free(cli, desk):
    with subprocess.Popen([sys.executable, "-c", "import time; from trustlab.store import Lab; lab = Lab('ten.duckdb'); print('held', flush=True); input(); time.sleep(3); lab.close()"], cwd=desk, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.stdin.write("\n"); holder.stdin.flush()
        fine(cli("check", "ten.duckdb", "--wait", "60", cwd=desk))


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize(("error", "masks", "says"), [
    (FULL, "", "A load of this may need 2 MB of room"), (FULL, " --pseudonyms drop", "A load of this may need 5 MB of room"), (duckdb.TransactionException("Failed to commit: Could not write file: No space left on device"), "", "the disk is full; nothing of this export was stored"),
    (duckdb.OutOfMemoryException("could not allocate block of size 256.0 KiB"), "", "memory ran out at the limit (300MiB)"), (duckdb.OutOfMemoryException("failed to offload data block: max_temp_directory_size"), "", "the disk is full"), (MemoryError(), "", "Raise it with --memory-limit")])
def test_a_load_that_runs_out_of_room_says_how_much_it_needs(error, masks, says, here, desk, keys, monkeypatch):
    def fails(self, *paths, **wishes): raise error
    monkeypatch.setattr(Lab, "load", fails)
    (desk / "large.csv").write_bytes(bytes(1_000_000))
    before = names(desk)
    assert says in fine(here(desk, f"load new.duckdb large.csv --memory-limit 300MiB{masks}"), 6).err
    assert names(desk) == before and not [*keys.glob("*")]


@pytest.fixture
def small_disk(tmp_path):
    "A file system of 12 MB, where one can be mounted"
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True) if shutil.which("mount") else None
    if not done or done.returncode: pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_leaves_the_store_as_it_was(here, desk, small_disk, big):
    fine(here(desk, f"load {small_disk}/care.duckdb ten.csv"))
    assert re.search(r"the disk is full; nothing of this export was stored\. A load of this may need \d+ MB", fine(here(desk, f"load {small_disk}/care.duckdb {big[0]}"), 6).err)
    fine(here(desk, f"load {small_disk}/new.duckdb {big[0]}"), 6)
    assert [p.name for p in small_disk.iterdir()] == ["care.duckdb"] and '"n": 10' in fine(here(desk, f"check {small_disk}/care.duckdb --json")).out


def test_too_little_memory_is_6_and_names_the_option(here, desk, big):
    assert "--memory-limit" in fine(here(desk, f"load new.duckdb {big[0]} --memory-limit 20MB"), 6).err
    assert "--memory-limit" in fine(here(desk, "load new.duckdb ten.csv --memory-limit 1KB"), 6).err and names(desk) == {"ten.csv", "ten.duckdb"}


def test_a_full_output_is_6(ten):
    if not os.path.exists("/dev/full"): pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full: done = subprocess.run([*START, "sources"], cwd=ten, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (6, "standard output: No space left on device.\n")


# ---- names from hell


NAMES = ["a'.csv", "x*.csv", "[t]en.csv", "q?.csv", "-rf.csv", "a\n\x1b[2Jb.csv", "{0}.csv", "$HOME;.csv", "drop table post;--.csv", "\u202egnp.csv", " .csv", "\U0001f600.csv", "%s%n.csv", 'a"b.csv', "a\\b.csv"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_name(name, desk, capsys, monkeypatch):
    monkeypatch.chdir(desk)
    (desk / "other.csv").write_bytes((desk / "ten.csv").read_bytes().replace(b"\n1,", b"\n77,"))
    (desk / name).write_bytes((desk / "ten.csv").read_bytes())
    store = name.replace(".csv", ".duckdb").replace("\\", "-")
    for words, code in (([ "load", "--json", "--", store, name], 0), (["load", "--", store, name], 0), (["rejects", "--", store], 0), (["inspect", "--", name], 0), (["check", "--", store], 0), (["load", "n.duckdb", "--", name + "x"], 4), (["load", "--", name, name], 2 if "\\" in name else 6), (["roles", "--", store, name], 2)):
        ran = fine(Ran(run(words), *capsys.readouterr()), code)
        assert "\x1b" not in ran.out + ran.err and "\u202e" not in ran.out + ran.err and (words[1] != "--json" or json.loads(ran.out)["loads"][0]["read"] == 10)
    with Lab(desk / store, read_only=True) as lab: assert lab.sql("select path, read from load").rows() == [(name, 10)] and not lab.sql("select 1 from post where post_key = 'twcs:77'").height


FREE = ("loop", "dangling", "~nobody", "no\\such")


@pytest.mark.parametrize("path", ["/dev/null", "loop", "dangling", "pipe", "a\x00b", "x" * 300, "x/" * 3000, "", ".", "..", "/proc/self/mem", "ten.csv/x", "~nobody", "~/x.csv", "no\\such", "\udcff.csv"])
def test_what_is_no_file_is_refused(path, desk, capsys, monkeypatch):
    monkeypatch.chdir(desk)
    os.symlink("loop", "loop"); os.symlink("nowhere", "dangling"); os.mkfifo("pipe")
    before = names(desk)
    for words in (["load", "n.duckdb", path], ["inspect", path], ["load", path, "ten.csv"], ["check", path], ["roles", "ten.duckdb", path], ["identify", "ten.duckdb", path], ["load", "n.duckdb", "ten.csv", "--mapping", path],
                  ["proposals", "ten.duckdb", "--accept", path], ["report", "ten.duckdb", "--out", ".", "--notebook", path], ["measure", path, "ten.duckdb"], ["forget", "ten.duckdb", path, "--yes"], ["separate", "ten.duckdb", path], ["measure", "worklist", "ten.duckdb", "--out", path]):
        if path == "pipe" and words[0] in ("roles", "identify", "proposals") or words[0] == "inspect" and path in (".", ".."): continue
        if path in (".", "..") and words[0] == "load" and words[2] == path or path == "dangling" and words[1] == path or "--out" in words[3:] and path in FREE: continue
        code = run(words)
        shown = capsys.readouterr()
        assert code in (2, 4, 6) and len(shown.err) < 2300 and not re.search("Traceback|This is a fault", shown.err), (words, code, shown.err)
    assert names(desk) == before


def test_a_table_may_come_through_a_pipe(here, desk):
    read, written = os.pipe()
    with open(written, "w") as pipe: pipe.write("account,role,brand\nElmBooks,brand,Elm\n")
    assert fine(here(desk, f"roles ten.duckdb /dev/fd/{read}")).err == "1 roles declared.\n"
    os.close(read)


def test_what_cannot_be_read_is_4(here, desk):
    (desk / "ten.csv").chmod(0)
    if os.access(desk / "ten.csv", os.R_OK): pytest.skip("this user may read everything")
    for line in ("load new.duckdb ten.csv", "inspect ten.csv"): assert "ten.csv: Permission denied" in fine(here(desk, line), 4).err


# ---- interrupts and pipes


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    "A large export, and how many seconds a load of it works once its store is open"
    folder = tmp_path_factory.mktemp("big")
    line = "{0},{1},True,Mon Mar 04 10:00:00 +0000 2024,@acme please help with order number {0} that never came,,\n"
    (folder / "big.csv").write_text(HEAD + "".join(line.format(i, 100 + i % 5000) for i in range(1, 400_001)))
    return folder / "big.csv", loading(folder, "new.duckdb", folder / "big.csv")[1]


def loading(folder, store, export, patience=None):
    "A load in a process of its own, interrupted `patience` seconds after its store is open: the process's end, and how long it worked"
    with subprocess.Popen([*START, "load", store, export], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        while not (folder / f"{store}.spill").exists() and load.poll() is None: time.sleep(0.005)
        began = time.monotonic()
        if patience is not None:
            time.sleep(patience)
            load.send_signal(signal.SIGINT)
        out, err = load.communicate(timeout=120)
    return Ran(load.returncode, out, err), time.monotonic() - began


@pytest.mark.parametrize(("store", "share"), [("new.duckdb", 0.02), ("new.duckdb", 0.3), ("new.duckdb", 0.6), ("ten.duckdb", 0.4)])
def test_an_interrupt_during_a_load_is_130_and_undoes_it(store, share, big, desk, cli):
    ten_store = (desk / "ten.duckdb").read_bytes()
    for patience in (share * big[1], share * big[1] / 2, share * big[1] / 4):
        ran, _ = loading(desk, store, big[0], patience)
        if ran.code and "was stored before" not in ran.err: break
        (desk / "ten.duckdb").write_bytes(ten_store)
        (desk / "new.duckdb").unlink(missing_ok=True)
    assert (ran.code, ran.out, ran.err) == (130, "", "interrupted; what was under way was undone.\n")
    assert names(desk) == {"ten.csv", "ten.duckdb"}
    assert '"n": 10' in cli("check", "ten.duckdb", "--json", cwd=desk).out


def test_an_interrupt_during_a_report_is_130_and_leaves_the_page(desk):
    notebook(desk / "slow.ipynb", "import os, pathlib, time\npathlib.Path(place).write_text(str(os.getpid()))", "time.sleep(60)", place=str(desk / "started"))
    (desk / "slow.html").write_text("the last good page")
    with subprocess.Popen([*START, "report", "ten.duckdb", "--notebook", "slow.ipynb", "--out", "."], cwd=desk, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as report:
        until = time.monotonic() + 60
        while not ((desk / "started").exists() and (desk / "started").read_text()) and time.monotonic() < until: time.sleep(0.05)
        time.sleep(0.3)
        report.send_signal(signal.SIGINT)
        out, err = report.communicate(timeout=30)
    assert (report.returncode, out, err) == (130, "", "interrupted; what was under way was undone.\n") and (desk / "slow.html").read_text() == "the last good page"
    with pytest.raises(ProcessLookupError): os.kill(int((desk / "started").read_text()), 0)


@pytest.mark.parametrize("line", ["check ten.duckdb", "measure acknowledgement ten.duckdb --format json", "load ten.duckdb ten.csv --json", "sources", "--help"])
def test_a_reader_that_leaves_early_is_no_error(line, ten):
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run([*START, *line.split()], cwd=ten, stdout=written, stderr=subprocess.PIPE, text=True)
    os.close(written)
    assert done.returncode == 0 and all(text.startswith("warning: ") for text in done.stderr.splitlines()), done.stderr


def test_output_that_the_terminal_cannot_spell_is_no_error(cli, ten):
    fine(cli("sources", PYTHONIOENCODING="ascii"))
    fine(cli("measure", "acknowledgement", "ten.duckdb", cwd=ten, PYTHONIOENCODING="ascii"))


# ---- in a terminal


def test_a_terminal_gets_a_table_no_wider_than_itself(ten):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": "70", "TERM": "xterm"}
    with subprocess.Popen([*START, "measure", "acknowledgement", "ten.duckdb", "--set", "by=week"], cwd=ten, env=env, stdout=theirs, stderr=subprocess.DEVNULL) as shown:
        os.close(theirs)
        text = b""
        try:
            while piece := os.read(ours, 65536): text += piece
        except OSError: pass
    os.close(ours)
    table = text.decode().split("note:")[0]
    assert shown.returncode == 0 and "2024-03-04" in table and "\x1b" not in table and max(map(len, table.splitlines())) <= 70
    assert re.findall(r"^ (?:week|ack_1h|median_seconds) +(\S.*?)\r?$", table, re.M) == ["2024-03-04", "33.3% (5.5% to 94.6%)", "2 h (30 min to not reached)", "2024-03-18", "0.0% (0.0% to 79.3%)", "not reached"]


# ---- retention, opening hours, limits, and a file that is no store


def test_retain_sets_what_expire_does(here, desk):
    assert "before must be" in fine(here(desk, "expire ten.duckdb --dry-run"), 2).err
    assert "365 days" in fine(here(desk, "retain ten.duckdb 365")).err and "would delete: posts 10," in fine(here(desk, "expire ten.duckdb --dry-run")).out
    fine(here(desk, "retain ten.duckdb 36500"))
    assert "would delete: posts 0," in fine(here(desk, "expire ten.duckdb --dry-run")).out
    assert "forever" in fine(here(desk, "retain ten.duckdb forever")).err
    for line in ("expire ten.duckdb --dry-run", "retain ten.duckdb 0", "retain ten.duckdb soon", "retain ten.duckdb 1.5"): fine(here(desk, line), 2)


def test_opening_hours_are_a_file(here, desk):
    (desk / "desk.toml").write_text('zone = "Europe/Berlin"\n[hours]\nmon-fri = "09:00-17:00"\n')
    rows = list(csv.DictReader(io.StringIO(fine(here(desk, "measure worklist ten.duckdb --set hours=desk.toml --set target=4h --format csv")).out)))
    with Lab(desk / "ten.duckdb", read_only=True) as lab: want = function_of("worklist")(lab, hours={"zone": "Europe/Berlin", "mon-fri": "09:00-17:00"}, target="4h")
    assert [float(row["business_waited_seconds"]) for row in rows] == want["business_waited_seconds"].to_list() != want["waited_seconds"].to_list() and [row["sla"] for row in rows] == want["sla"].to_list()
    said = json.loads(fine(here(desk, "measure acknowledgement ten.duckdb --set hours=desk.toml --format json")).out)
    assert "business_median_seconds" in said["rows"][0] and "Europe/Berlin" in json.dumps(said["params"])


@pytest.mark.parametrize(("text", "says"), [(None, "desk.toml"), ('[hours]\nmon = "09:00-10:00"\n', "zone"), ('zone = "UTC"\n[hours]\nmon = ["09:00-12:00", "11:00-13:00"]\n', "mon 09:00-12:00 and mon 11:00-13:00"), ('zone = "UTC', "desk.toml"), ('zone = "Mars/Base"\n[hours]\nmon = "09:00-12:00"\n', "Mars/Base")])
@pytest.mark.parametrize("name", ["acknowledgement", "worklist"])
def test_opening_hours_that_cannot_be_are_2(text, says, name, here, desk):
    if text: (desk / "desk.toml").write_text(text)
    assert says in fine(here(desk, f"measure {name} ten.duckdb --set hours=desk.toml"), 2).err


@pytest.mark.parametrize("line", ["check ten.csv", "measure acknowledgement ten.csv", "load ten.csv ten.csv", "report ten.csv --out pages", "forget ten.csv 101 --yes", "retain ten.csv 30", "rejects ten.csv"])
def test_an_export_in_the_place_of_the_store(line, here, desk):
    before = (desk / "ten.csv").read_bytes()
    said = fine(here(desk, line), 6).err
    assert "trustlab load STORE ten.csv" in said and "DuckDB" not in said and (desk / "ten.csv").read_bytes() == before and names(desk) == {"ten.csv", "ten.duckdb"}


def test_the_memory_limit_reaches_the_notebook_of_a_report(here, desk, monkeypatch):
    "What a store gets that is opened without a limit of its own, in the process of a report's notebook"
    monkeypatch.delenv("TRUSTLAB_MEMORY_LIMIT", raising=False)
    code = "import os\nfrom trustlab.store import Lab\nassert os.environ['TRUSTLAB_MEMORY_LIMIT'] == '300MiB'"
    nbformat.write(new_notebook(cells=[new_code_cell('store = ""', metadata={"tags": ["parameters"]}), new_code_cell(code)]), desk / "mine.ipynb")
    fine(here(desk, "report ten.duckdb --notebook mine.ipynb --out . --memory-limit 300MiB"))
    assert "TRUSTLAB_MEMORY_LIMIT" not in os.environ
    for line in ("report ten.duckdb --notebook mine.ipynb --out . --memory-limit lots", "demo town --memory-limit 0GiB"): assert "--memory-limit" in fine(here(desk, line), 2).err


def test_the_memory_limit_is_obeyed_there(here, desk):
    code = "from trustlab.store import Lab\nassert Lab().sql(\"select current_setting('memory_limit') as m\")['m'][0] == '300.0 MiB'"
    nbformat.write(new_notebook(cells=[new_code_cell('store = ""', metadata={"tags": ["parameters"]}), new_code_cell(code)]), desk / "mine.ipynb")
    fine(here(desk, "report ten.duckdb --notebook mine.ipynb --out . --memory-limit 300MiB"))
