"""Tutorials and reports as a reader meets them: they run top to bottom in a real kernel, and what they store is small, current and says nothing of a machine."""
import json
import os
import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from trustlab.report import injected, parameters, validated
from trustlab.store import Lab

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS, REPORTS = sorted(ROOT.glob("nbs/tutorials/*.ipynb")), sorted(ROOT.glob("nbs/reports/*.ipynb"))
PLACE = re.compile(r"(?<![\w./:<…-])/(?:home|root|Users|tmp|var|usr|opt|etc|mnt|private|work|srv)/|\b[A-Za-z]:\\\\|file://")
stem = lambda path: path.stem
every = pytest.mark.parametrize("path", TUTORIALS + REPORTS, ids=stem)


def read(path: Path) -> object: return nbformat.read(path, as_version=4)
def outputs(nb: object) -> list: return [output for cell in nb.cells if cell.cell_type == "code" for output in cell.outputs]


def shown(nb: object) -> list[str]:
    "What each cell prints and shows, as text"
    said = lambda output: output.get("text", "") if output.output_type == "stream" else output.get("data", {}).get("text/plain", "")
    return ["".join(map(said, cell.outputs)) for cell in nb.cells if cell.cell_type == "code"]


def run(nb: object, folder: Path) -> object:
    "The notebook run in a new kernel that works in `folder`; an error in a cell is raised"
    environment = {**os.environ, "PLOTLY_RENDERER": "plotly_mimetype"}
    return NotebookClient(nb, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute(env=environment)


def complaints(nb: object) -> list[str]:
    "Errors and whatever cells wrote to standard error"
    return [str(o) for o in outputs(nb) if o.output_type == "error" or o.output_type == "stream" and o.name == "stderr"]


@pytest.fixture(scope="module")
def store(town, tmp_path_factory):
    "The town's store, with its roles"
    path = tmp_path_factory.mktemp("tutorials") / "town.duckdb"
    with Lab(path) as lab:
        lab.load(town / "twcs.csv", town / "slack.zip", town / "mastodon.tar.gz")
        lab.roles(town / "roles.csv")
    return path


def test_there_are_nine_tutorials_and_a_report():
    assert [path.stem[:2] for path in TUTORIALS] == ["01", "02", "03", "04", "05", "06", "07", "08", "09"] and REPORTS


@pytest.mark.parametrize("path", TUTORIALS, ids=stem)
def test_a_tutorial_runs_and_shows_what_it_stores(path):
    stored = read(path)
    ran = run(read(path), path.parent)
    assert complaints(ran) == []
    assert shown(ran) == shown(stored), "the stored outputs are not those of this version; run the notebook again and store them"


@pytest.mark.parametrize("path", REPORTS, ids=stem)
def test_a_report_runs_in_a_kernel(path, store, tmp_path):
    nb = read(path)
    ran = run(injected(nb, validated(parameters(nb), {}) | {"store": str(store)}), tmp_path)
    assert complaints(ran) == [] and outputs(ran)


def test_a_cell_that_complains_is_noticed(tmp_path):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import warnings\nwarnings.warn('29 units')")])
    assert "29 units" in complaints(run(nb, tmp_path))[0]


@every
def test_a_page_begins_with_a_title_and_a_promise(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and re.fullmatch(r"# [^\n]+\n\n> [^\n]+(\n\n.*)?", first.source, re.S)


@every
def test_a_page_is_short(path):
    nb = read(path)
    assert len(nb.cells) < 35
    assert not [cell for cell in nb.cells if cell.cell_type == "code" and re.search(r"^#\|\s*(export|hide)", cell.source, re.M)]


@every
def test_what_is_stored_is_small_and_holds_no_library_and_no_place(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < 250_000
    assert not re.search(r"Plotly\.newPlot|plotly\.js v|require\.undef|cdn\.plot\.ly", text)
    stored = json.dumps(outputs(read(path)), ensure_ascii=False)
    assert PLACE.findall(stored) == [] and str(ROOT) not in stored and tempfile.gettempdir() + "/" not in stored


@pytest.mark.parametrize("text", ["/home/ann/care.duckdb", "at /tmp/x", '"/root/a"', "C:\\\\Users", "file:///x"])
def test_a_place_is_noticed(text): assert PLACE.search(text)


@pytest.mark.parametrize("text", ["…/notes.txt", "pages/weekly.html", "text/html", "https://example.org/home/x", "</div>", "24h/7d"])
def test_what_is_no_place_is_left_alone(text): assert not PLACE.search(text)


@pytest.mark.parametrize("path", TUTORIALS, ids=stem)
def test_links_lead_somewhere(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if not t.startswith(("http", "#"))]
    assert [t for t in targets if not (path.parent / t.split("#")[0]).exists()] == []
