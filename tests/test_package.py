"""What pip installs is whole: it works in an environment that has never seen the checkout."""
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement

IGNORED = shutil.ignore_patterns(".git", ".venv", "report", "build", "dist", "*.egg-info", "__pycache__", ".pytest_cache", ".hypothesis", ".ipynb_checkpoints", "*.duckdb")


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    "The source archive, and the wheel made from it"
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(root, folder / "project", ignore=IGNORED)
    isolation = ["--no-isolation"] if int(version("setuptools").split(".")[0]) >= 77 else []
    run(sys.executable, "-m", "build", *isolation, "--outdir", folder / "dist", folder / "project")
    [sdist], [wheel] = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def fresh(built, tmp_path_factory):
    "A new environment that holds the wheel; of this environment it sees the libraries alone, and nothing of the checkout"
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env")
    python = folder / "env/bin/python"
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--no-deps", "--no-index", built[1])
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    with open(os.path.join(site, "libraries.pth"), "w") as file: file.write("\n".join(sorted(libraries)) + "\n")
    return folder


@pytest.fixture(scope="module")
def outside(fresh):
    "Runs a command of the new environment, in a folder away from the checkout"
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"PATH": f"{fresh / 'env/bin'}:{os.environ['PATH']}", "JUPYTER_PATH": f"{sys.prefix}/share/jupyter"}
    return lambda command, *args: run(fresh / "env/bin" / command, *args, cwd=fresh, env=env)


def test_wheel_holds_every_module_and_all_data(root, built):
    members = set(zipfile.ZipFile(built[1]).namelist())
    wanted = {str(p.relative_to(root)) for p in (root / "trustlab").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {m for m in members if m.startswith("trustlab/")} == wanted
    assert {"trustlab/py.typed", "trustlab/sources/__init__.py", "trustlab/_data/town/twcs.csv", "trustlab/_data/reports/weekly.ipynb"} <= members
    assert not {m.split("/")[0] for m in members} - {"trustlab", f"trustlab-{version('trustlab')}.dist-info"}


def test_source_archive_can_build_itself(built):
    members = {name.split("/", 1)[1] for name in tarfile.open(built[0]).getnames() if "/" in name}
    assert {"settings.ini", "setup.py", "pyproject.toml", "README.md", "LICENSE"} <= members


def test_metadata_is_that_of_settings_ini(root, built):
    ini = ConfigParser(delimiters=["="], interpolation=None)
    ini.read(root / "settings.ini", encoding="utf-8")
    cfg = ini["DEFAULT"]
    archive = zipfile.ZipFile(built[1])
    [path] = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
    said = Parser().parsestr(archive.read(path).decode())
    assert (said["Name"], said["Version"], said["Summary"], said["License-Expression"]) == (cfg["lib_name"], cfg["version"], cfg["description"], cfg["license"])
    assert said["Requires-Python"] == f">={cfg['min_python']}" and set(said.get_all("Provides-Extra")) == {"lab", "dev"}
    needs = {Requirement(r) for r in said.get_all("Requires-Dist") if "extra ==" not in r}
    assert needs == {Requirement(r) for r in cfg["requirements"].split()}
    assert said.get_payload().startswith("# trustlab") and any(n.endswith("/LICENSE") for n in archive.namelist())
    assert "trustlab = trustlab.cli:main" in archive.read(path.replace("METADATA", "entry_points.txt")).decode()


def test_installed_package_is_the_one_that_runs(root, fresh, outside):
    place, number = outside("python", "-c", "import trustlab; print(trustlab.__file__); print(trustlab.__version__)").split()
    assert place.startswith(str(fresh / "env")) and number == version("trustlab")
    path = outside("python", "-c", "import sys; print(sys.path)")
    assert f"'{root}'" not in path, "the new environment sees the checkout"


def test_demo_and_report_work_away_from_the_checkout(fresh, outside):
    outside("trustlab", "demo", "demo")
    [store] = (fresh / "demo").rglob("*.duckdb")
    outside("trustlab", "report", store, "--out", "pages")
    [page] = (fresh / "pages").glob("*.html")
    assert page.stat().st_size > 1_000_000 and "BirchAir" in page.read_text(encoding="utf-8")
