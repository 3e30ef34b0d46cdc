"""The page on schedules, taken at its word: its script, cron line and units are cut out of the notebook and run in a home of their own."""
import configparser
import json
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from trustlab.store import Lab

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "nbs" / "tutorials" / "05_on_a_schedule.ipynb"
TEXT = "\n".join("".join(cell["source"]) for cell in json.loads(PAGE.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "markdown")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S)
FILES = {match[1]: body for _, body in BLOCKS if (match := re.search(r"^# ~/(\S+)$", body, re.M))}
SCRIPT, TIMER, SERVICE = "care/weekly.sh", ".config/systemd/user/trustlab-weekly.timer", ".config/systemd/user/trustlab-weekly.service"
CRON = [body.strip() for kind, body in BLOCKS if kind == "cron"]
analyze = shutil.which("systemd-analyze")
with_systemd = pytest.mark.skipif(not analyze, reason="systemd-analyze is not on this machine; the units are checked as INI files alone")


def unit(name: str) -> configparser.ConfigParser:
    "A unit file, read as INI"
    parser = configparser.ConfigParser(interpolation=None, delimiters="=", comment_prefixes=("#", ";"), strict=True)
    parser.optionxform = str
    parser.read_string(FILES[name])
    return parser


def furnished(home: Path, *exports: Path) -> Path:
    "A home as the page has it: the command in the clone, the script, units, and exports in the inbox"
    command = home / "trustlab" / ".venv" / "bin" / "trustlab"
    (home / "care" / "inbox").mkdir(parents=True)
    for path, body in FILES.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(body, encoding="utf-8")
    (home / SCRIPT).chmod(0o700)
    command.parent.mkdir(parents=True)
    command.write_text(f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m trustlab.cli \"$@\"\n")
    command.chmod(0o755)
    for export in exports: shutil.copy(export, home / "care" / "inbox")
    return home


def started(command: list[str], home: Path) -> subprocess.CompletedProcess:
    "A command in the bare environment that cron gives, begun in the home folder"
    environment = {"HOME": str(home), "LOGNAME": "care", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)


def by_cron(home: Path) -> subprocess.CompletedProcess: return started(["/bin/sh", "-c", CRON[0].split(None, 5)[5]], home)
def by_systemd(home: Path) -> subprocess.CompletedProcess: return started(shlex.split(unit(SERVICE)["Service"]["ExecStart"].replace("%h", str(home))), home)
def mode(path: Path) -> int: return stat.S_IMODE(path.stat().st_mode)


def runs(home: Path) -> list[str]:
    with Lab(home / "care" / "care.duckdb", read_only=True) as lab: return lab.sql("select status from run order by started_at")["status"].to_list()


@pytest.fixture(scope="module")
def weeks(town, tmp_path_factory):
    "Three Mondays in one home: by cron, by systemd with nothing new, by systemd with a record that cannot be read"
    home = furnished(tmp_path_factory.mktemp("home"), town / "twcs.csv", town / "slack.zip")
    page, done = home / "care" / "pages" / "weekly.html", []
    for begin in (by_cron, by_systemd, by_systemd):
        if len(done) == 2: (home / "care" / "inbox" / "late.csv").write_bytes(b"\r\n".join([*(town / "twcs.csv").read_bytes().split(b"\r\n")[:60], b"9001,105,True,soon,@BirchAir hello,,", b""]))
        ran = begin(home)
        done.append((ran, page.read_text(encoding="utf-8") if page.exists() else ""))
    return home, done


def test_the_page_has_what_it_needs():
    assert set(FILES) == {SCRIPT, TIMER, SERVICE} and len(CRON) == 1


def test_the_cron_line_is_one(weeks):
    fields = CRON[0].split(None, 5)
    assert len(CRON[0].splitlines()) == 1 and re.fullmatch(r"[0-5]?\d (1?\d|2[0-3]) \* \* 1", " ".join(fields[:5]))
    assert "%" not in fields[5], "cron takes % for the end of the command"


def test_by_cron_the_page_appears(weeks):
    home, [(ran, page), *_] = weeks
    log = home / "care" / "weekly.log"
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert "<h1" in page and "nothing to compare with" in page
    said = log.read_text(encoding="utf-8")
    assert "2,028 read, 2,028 stored" in said and said.rstrip().endswith("pages/weekly.html")


def test_files_are_for_their_owner(weeks):
    home, _ = weeks
    care = home / "care"
    assert [mode(care / name) for name in ("care.duckdb", "pages/weekly.html", "weekly.log")] == [0o600] * 3 and mode(care / "pages") == 0o700


def test_by_systemd_the_page_is_made_again_and_finds_the_run_before(weeks):
    _, [_, (ran, page), _] = weeks
    assert ran.returncode == 0 and ran.stderr == ""
    assert "already loaded" in ran.stdout and "Nothing was loaded since that run" in page


def test_rejected_records_are_handed_on_after_the_page(weeks):
    home, [_, _, (ran, page)] = weeks
    assert ran.returncode == 3 and re.fullmatch(r"1 of [\d,]+ records were rejected; .+\n", ran.stderr)
    assert "Nothing was loaded since that run" not in page and runs(home) == ["ok"] * 3


def test_a_locked_store_is_code_5_and_changes_nothing(weeks):
    home, _ = weeks
    page = home / "care" / "pages" / "weekly.html"
    before = page.stat().st_mtime_ns
    with Lab(home / "care" / "care.duckdb"): ran = by_systemd(home)
    assert ran.returncode == 5 and "another process" in ran.stderr and "Traceback" not in ran.stderr
    assert page.stat().st_mtime_ns == before and runs(home) == ["ok"] * 3


def test_an_empty_inbox_is_code_4_on_standard_error(tmp_path):
    home = furnished(tmp_path)
    ran = by_cron(home)
    assert ran.returncode == 4 and len(ran.stderr.strip().splitlines()) == 1
    assert not (home / "care" / "pages").exists() and not (home / "care" / "care.duckdb").exists()


def test_the_units_are_whole_and_agree():
    timer, service = unit(TIMER), unit(SERVICE)
    assert timer["Install"]["WantedBy"] == "timers.target" and Path(TIMER).stem == Path(SERVICE).stem and "Unit" not in timer["Timer"]
    assert service["Service"]["Type"] == "exec" and service["Service"]["UMask"] == "0077"
    assert (service["Service"]["SuccessExitStatus"], service["Service"]["RestartForceExitStatus"]) == ("3", "5")
    assert service["Service"]["ExecStart"].replace("%h/", "") == SCRIPT
    assert re.fullmatch(r"Mon \*-\*-\* ([01]\d|2[0-3]):[0-5]\d:00 UTC", timer["Timer"]["OnCalendar"])


@with_systemd
def test_systemd_takes_the_units(tmp_path):
    home = furnished(tmp_path)
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path)}
    verify = lambda *files: subprocess.run([analyze, "--user", "--man=no", "verify", *map(str, files)], env=environment, capture_output=True, text=True, timeout=60)
    about_ours = lambda said: [line for line in said.stderr.splitlines() if "trustlab" in line or "weekly.sh" in line]
    good = verify(home / SERVICE, home / TIMER)
    assert good.returncode == 0 and about_ours(good) == []
    (home / SCRIPT).unlink()
    assert about_ours(verify(home / SERVICE)) != [], "a missing script must be noticed, or this check says nothing"


@with_systemd
def test_the_timer_elapses_on_mondays():
    said = subprocess.run([analyze, "calendar", "--iterations=3", unit(TIMER)["Timer"]["OnCalendar"]], env={"TZ": "UTC", "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60)
    assert said.returncode == 0 and len(re.findall(r"Mon \d{4}-\d\d-\d\d 06:30:00 UTC", said.stdout)) == 3


def test_the_script_is_plain_sh():
    done = subprocess.run(["/bin/sh", "-n"], input=FILES[SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0 and FILES[SCRIPT].startswith("#!/bin/sh\n")
