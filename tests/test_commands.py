"""What the README tells people to type does what it says."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
STAMP = Path(sys.prefix) / "run.stamp"


def fences(language): return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)
def commands(first): return [line for block in fences("sh") for line in block.splitlines() if line.split()[:1] == [first]]


def run(command, cwd, timeout=300, **environment):
    "A command as a person would type it, with this environment's commands on the path"
    env = {k: v for k, v in os.environ.items() if k not in ("DATA", "BRAND", "OUT", "VENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    env |= {"PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1", **environment}
    return subprocess.run(["bash", "-c", command], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)


def make(arguments, timeout=300, **environment):
    "A real `make` that takes this environment as installed"
    return run(f'make {arguments} VENV="{sys.prefix}" -o "{STAMP}"', ROOT, timeout, **environment)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    "A folder where the README's commands run, with the project's data beside them"
    folder = tmp_path_factory.mktemp("desk")
    (folder / "data").symlink_to(ROOT / "data")
    return folder


def test_first_screen_shows_a_sentence_a_picture_and_the_commands():
    top = README.splitlines()[:20]
    assert top[0] == "# trustlab" and top[2].startswith("> ")
    [picture] = [m[1] for line in top if (m := re.match(r"!\[.+\]\((.+)\)", line))]
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")
    assert [line.split()[1] for line in commands("make")] == ["report", "report", "lab", "test"] and "make report" in "\n".join(top)


def test_every_link_leads_to_a_file():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links and [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("command", commands("make"))
def test_make_knows_each_target(command):
    done = run(command.replace("make", "make -n", 1), ROOT)
    assert done.returncode == 0, done.stderr


def test_make_lab_opens_the_first_tutorial():
    [line] = [line for line in run("make -n lab", ROOT).stdout.splitlines() if "jupyter lab" in line]
    assert (ROOT / line[line.index("nbs/"):].split()[0]).is_file()


def test_make_report_of_the_town_and_again(tmp_path):
    out = tmp_path / "a folder"
    for _ in range(2):
        done = make("report", OUT=str(out))
        assert done.returncode == 0, done.stdout + done.stderr
        assert Path(done.stdout.split("\n")[-2].strip()).resolve() == (out / "weekly.html").resolve(), "the last line is the page's path"
    assert "BirchAir" in (out / "weekly.html").read_text(encoding="utf-8")


def test_make_report_of_an_export_with_some_bad_records(tmp_path, town):
    lines = (town / "twcs.csv").read_bytes()
    data = tmp_path / "my export.csv"
    data.write_bytes(lines + b'9999991,BirchAir,False,yesterday,"no date",,\n')
    done = make("report", OUT=str(tmp_path / "out"), DATA=str(data), BRAND="BirchAir")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out/weekly.html").is_file() and (tmp_path / "out/trustlab.duckdb").is_file()


def test_make_report_stops_at_a_refused_export(tmp_path):
    (tmp_path / "notes.bin").write_bytes(b"\x00\x01 not an export")
    done = make("report", OUT=str(tmp_path / "out"), DATA=str(tmp_path / "notes.bin"))
    assert done.returncode != 0 and "notes.bin" in done.stderr and not list(tmp_path.glob("out/*.html"))


def test_an_old_python_is_told(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\nexit 1\n')
    old.chmod(0o755)
    done = run(f'make report PYTHON="{old}" VENV="{tmp_path}/env" OUT="{tmp_path}/out"', ROOT)
    assert done.returncode != 0 and "Python 3.11 or later" in done.stderr


@pytest.mark.parametrize("command", commands("trustlab"))
def test_each_command_works(command, desk):
    done = run(command, desk)
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr and "nanobind" not in done.stderr


def test_every_command_is_in_the_readme(cli):
    shown = cli("--help")
    assert shown.code == 0
    known = set(re.findall(r"^(?:│ |  )([a-z]+)\s{2,}", shown.out.split("Commands")[-1], re.M))
    assert known and known == {command.split()[1] for command in commands("trustlab")}


def test_python_blocks_run_from_the_root(tmp_path):
    script = tmp_path / "readme.py"
    script.write_text("\n".join(fences("python")), encoding="utf-8")
    done = run(f'python "{script}"', ROOT)
    assert fences("python") and done.returncode == 0, done.stderr


def test_readme_shows_what_the_code_gives(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "nbs"))
    import make as script
    shutil.copytree(ROOT / "nbs", tmp_path / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (tmp_path / "data").symlink_to(ROOT / "data")
    notebook = script.execute(tmp_path / "nbs/index.ipynb")
    again = "\n\n".join(block for cell in notebook.cells for block in script.blocks(cell) if block) + "\n"
    assert again == README
