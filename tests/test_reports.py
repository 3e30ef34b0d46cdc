"""Reports: what is refused before a run, what is left after a failure, and what a real browser does with a hostile page."""
import html as markup, json, os, re, stat, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import trustlab as tl
from browser import browser, opened
from trustlab import page as pages
from trustlab.core import InvalidParameter, ReportFailed
from trustlab.store import Lab

reports = sys.modules["trustlab.report"]

PLOTLY = "application/vnd.plotly.v1+json"
FLAG = "window.pwned=1"
HOSTILE = {
    "script": f"<script>{FLAG}</script>",
    "onerror": f'<img src="x" onerror="{FLAG}">',
    "link": f'<a href="javascript:{FLAG}" class="bait">click</a>',
    "iframe": f'<iframe srcdoc="<script>parent.{FLAG}</script>" src="https://example.org/"></iframe>',
    "refresh": '<meta http-equiv="refresh" content="0;url=https://example.org/gone">',
    "svg": f'<svg onload="{FLAG}"><a xlink:href="javascript:{FLAG}"><text>x</text></a></svg>',
    "form": '<form action="https://example.org/"><input autofocus onfocus="window.pwned=1"></form>',
    "style": '<style>@import url(https://example.org/x.css); body{background:url(https://example.org/y.png)}</style>',
    "object": '<object data="https://example.org/x"></object><embed src="https://example.org/x"><base href="https://example.org/">',
    "picture": '<img src="https://example.org/pixel.gif"><link rel="prefetch" href="https://example.org/z">',
    "island": "</script><script>window.pwned=1</script><!--",
}
ALL = " ".join(HOSTILE.values())


def code(*outputs: object) -> object: return new_code_cell("code_that_is_not_shown", outputs=list(outputs))
def html(text: str) -> object: return new_output("display_data", {"text/html": text, "text/plain": "plain"})
def figure(text: str = "safe") -> object:
    layout = {"title": {"text": text}, "width": 2000, "annotations": [{"text": text, "x": 0, "y": 1, "showarrow": False}]}
    return new_output("display_data", {PLOTLY: {"data": [{"type": "scatter", "x": [1, 2], "y": [3, 4], "name": text, "text": [text, text], "hovertemplate": text}], "layout": layout}, "text/html": HOSTILE["script"]})


def hostile() -> object:
    return new_notebook(metadata={"title": HOSTILE["script"]}, cells=[
        new_markdown_cell("# Report\n\n> promise\n\n" + ALL + f"\n\n[md](javascript:{FLAG}) ![md](https://example.org/md.png)"),
        code(html("<p>table " + ALL + "</p>")), code(new_output("display_data", {"text/markdown": ALL + f"\n\n[md](javascript:{FLAG})"})),
        code(new_output("display_data", {"application/javascript": FLAG})), code(new_output("display_data", {"image/svg+xml": HOSTILE["svg"]})),
        code(new_output("display_data", {"text/latex": ALL})), code(new_output("display_data", {"text/plain": ALL})),
        code(new_output("stream", name="stdout", text=ALL)), code(new_output("stream", name="stderr", text="/secret/x.py:3: ScopeWarning: " + HOSTILE["script"])),
        code(new_output("error", ename="Boom", evalue=HOSTILE["script"], traceback=["/secret/place"])),
        code(new_output("display_data", {"text/html": HOSTILE["script"]}, metadata={"text/html": {"isolated": True}})),
        code(figure(ALL), figure("</script>")), new_markdown_cell("```\n" + ALL + "\n```"),
    ])


def notebook(folder: Path, name: str, *cells: str, **defaults: object) -> Path:
    first = new_code_cell("\n".join(f"{k} = {v!r}" for k, v in ({"store": ""} | defaults).items()), metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[new_markdown_cell(f"# {name.title()}"), first, *map(new_code_cell, cells)]), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


@pytest.fixture(scope="module")
def chromium():
    with browser() as it: yield it


@pytest.fixture
def listener():
    "A web server on this machine, and the paths it was asked for"
    asked = []
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)
        def log_message(self, *args): pass
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


@pytest.fixture
def lab():
    with Lab() as it: yield it


# ---- the page in a browser


@pytest.mark.parametrize("width", [390, 1280])
def test_a_hostile_notebook_is_inert(chromium, tmp_path, width):
    (tmp_path / "page.html").write_text(pages.render(hostile(), HOSTILE["script"], [ALL]), encoding="utf-8")
    page = opened(chromium, tmp_path / "page.html", width, wait="svg.main-svg")
    assert page.charts() >= 2 and page.outside == [] and page.errors == []
    for bait in page.page.locator("a").all(): assert (bait.get_attribute("href") or "#").startswith(("https://", "http://", "mailto:", "#"))
    page.page.evaluate("document.querySelectorAll('a.bait').forEach(a => a.click())")
    page.page.wait_for_timeout(300)
    assert page.page.evaluate("window.pwned") is None and page.page.url.startswith("file:")
    for tag in ("iframe", "form", "object", "embed", "base", "link", "main script", "main style", "main svg:not(.main-svg):not(.trustlab-figure svg)"): assert page.page.locator(tag).count() == 0, tag
    assert page.page.locator("meta[http-equiv=refresh]").count() == 0 and page.wide() <= 0
    assert page.page.title() == HOSTILE["script"]


def test_the_policy_stops_what_is_appended_by_hand(chromium, tmp_path, listener):
    address, asked = listener
    text = pages.render(new_notebook(cells=[code(figure())]), "t", [])
    raw = "".join(HOSTILE[k] for k in ("script", "onerror", "iframe", "object", "picture", "style", "svg")).replace("https://example.org", address)
    for name, page_text in (("guarded", text.replace("</main>", raw + "</main>")), ("bare", f"<!DOCTYPE html><body>{raw}")):
        (tmp_path / f"{name}.html").write_text(page_text, encoding="utf-8")
    page = opened(chromium, tmp_path / "guarded.html", wait="svg.main-svg")
    page.page.wait_for_timeout(700)
    assert page.page.evaluate("window.pwned") is None and page.charts() >= 1 and asked == []
    assert any("Content Security Policy" in m for m in page.messages)
    bare = opened(chromium, tmp_path / "bare.html")
    bare.page.wait_for_timeout(700)
    assert bare.page.evaluate("window.pwned") == 1 and "/pixel.gif" in asked, "the bait must work where nothing guards the page"


def test_charts_fill_the_screen_and_the_island_holds_them(chromium, tmp_path):
    figures = [figure("</script><!-- <script>"), figure("\u2028 & <b>")]
    text = pages.render(new_notebook(cells=[code(*figures)]), "t", [])
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    page = opened(chromium, tmp_path / "page.html", 390, wait="svg.main-svg")
    assert page.page.locator(".trustlab-figure .plot-container").count() == 2 and page.wide() <= 0
    assert page.page.locator(".trustlab-figure").first.bounding_box()["width"] <= 390
    island = json.loads(page.page.locator("#trustlab-figures").text_content())
    assert island[0]["data"][0]["name"] == "</script><!-- <script>" and island[1]["data"][0]["name"] == "\u2028 & <b>" and "width" not in island[0]["layout"]


def test_the_library_is_inlined_once_and_only_when_needed():
    many = pages.render(new_notebook(cells=[code(figure()) for _ in range(5)]), "t")
    assert many.count("plotly.js v") == 1 and 4_500_000 < len(many) < 5_500_000 and many.count('class="trustlab-figure"') == 5
    assert "<script" not in pages.render(new_notebook(cells=[new_markdown_cell("words")]), "t")


def test_no_post_can_forge_a_placeholder():
    token = pages.parted(new_notebook(cells=[code(figure())]))[2][0]
    text = pages.render(new_notebook(cells=[code(html(f"<div>{token}</div>")), code(figure())]), "t")
    assert text.count('data-figure="0"') == 1 and token in text
    assert 'data-figure="7"' not in pages.render(new_notebook(cells=[code(html('<div class="trustlab-figure" data-figure="7" id="trustlab-figures">x</div>'))]), "t")


def test_code_paths_and_tracebacks_stay_out_of_the_page():
    text = pages.render(hostile(), "t")
    body = text[: text.index('<script type="application/json"')]
    assert "code_that_is_not_shown" not in body and "/secret" not in body and "Boom" in body and "ScopeWarning" in body


# ---- what is refused


@pytest.mark.parametrize("params", [{"store": "x"}, {"a=1\nimport os\nos.system('true')\nb": 1}, {"class": 1}, {"nope": 1}, {"weeks": "1"}, {"weeks": True}, {"brand": object()}, {"brand": {"a": {1, 2}}}, {"brand": float("inf")}])
def test_parameters_are_checked_before_anything_runs(lab, tmp_path, params):
    path = notebook(tmp_path, "mine", "open('ran', 'w')", brand=None, weeks=12)
    with pytest.raises(InvalidParameter) as error: reports.report(lab, path, tmp_path / "out", **params)
    assert "\n" not in str(error.value) and sorted(p.name for p in tmp_path.rglob("*")) in (["mine.ipynb"], ["mine.ipynb", "out"])
    assert lab.sql("select * from run").height == 0
    if "nope" in params: assert "brand, weeks" in str(error.value)


def test_values_arrive_as_they_were_given(lab, tmp_path):
    value = {"text": "'; import os #\n\"\"\"\\", "list": [1, 2.5, None, True], "emoji": "🙂"}
    path = notebook(tmp_path, "mine", "import json\nprint(json.dumps(brand, sort_keys=True))", brand=None)
    text = reports.report(lab, path, tmp_path, brand=value).read_text()
    assert json.dumps(value, sort_keys=True) in markup.unescape(text)


@pytest.mark.parametrize("name", ["../../evil", "a/b", "", "x" * 200, "weekly\0", "CON", "/etc/passwd", "nothere.ipynb"])
def test_a_report_is_named_from_the_shelf_or_is_a_notebook(lab, tmp_path, name):
    with pytest.raises(InvalidParameter): reports.report(lab, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_page_stays_inside_of_its_folder(lab, tmp_path):
    odd = notebook(tmp_path, "My Report_2", "1")
    (tmp_path / "out").mkdir()
    assert reports.report(lab, odd, tmp_path / "out") == tmp_path / "out" / "my-report-2.html"
    (tmp_path / "elsewhere.html").write_text("mine")
    (tmp_path / "out" / "other.html").symlink_to(tmp_path / "elsewhere.html")
    with pytest.raises(InvalidParameter, match="outside"): reports.report(lab, notebook(tmp_path, "other", "1"), tmp_path / "out")
    assert (tmp_path / "elsewhere.html").read_text() == "mine"


def test_a_notebook_without_parameters_and_a_store_that_is_absent(lab, tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), tmp_path / "plain.ipynb")
    with pytest.raises(InvalidParameter, match="parameters"): reports.report(lab, tmp_path / "plain.ipynb", tmp_path)
    with pytest.raises(InvalidParameter): reports.report(tmp_path / "no.duckdb", notebook(tmp_path, "mine", "1"), tmp_path)
    assert not (tmp_path / "no.duckdb").exists()


# ---- what is left behind


def test_only_the_page_is_written_and_it_is_private(tmp_path):
    path = tmp_path / "town.duckdb"
    Lab(path).close()
    seen = []
    made = reports.report(path, notebook(tmp_path, "mine", "import os\nfrom trustlab.store import Lab\nlab = Lab(store, read_only=True)\nlab.sql('select 1 as one')"), tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.html"] and stat.S_IMODE(made.stat().st_mode) == 0o600
    assert seen == [(1, 3), (2, 3), (3, 3)] and str(tmp_path) not in made.read_text() and sorted(p.name for p in tmp_path.iterdir()) == ["mine.ipynb", "out", "town.duckdb"]
    with Lab(path, read_only=True) as lab: assert lab.sql("select report, status from run").rows() == [("mine", "ok")]


def test_a_failing_cell_keeps_the_page_before(tmp_path):
    path = tmp_path / "town.duckdb"
    Lab(path).close()
    book = notebook(tmp_path, "mine", "x = 1\nif fail: raise ValueError('cannot read /home/ada/secret/town.csv')\nprint('first run')", fail=False)
    good = reports.report(path, book, tmp_path).read_text()
    with pytest.raises(ReportFailed) as error: reports.report(path, book, tmp_path, fail=True)
    message = str(error.value)
    assert "ValueError: cannot read …/town.csv" in message and "Traceback" not in message and "/home" not in message and str(tmp_path) not in message
    assert (tmp_path / "mine.html").read_text() == good and "Traceback" in (tmp_path / "mine.log").read_text()
    assert stat.S_IMODE((tmp_path / "mine.log").stat().st_mode) == 0o600 and not list(tmp_path.glob(".*"))
    with Lab(path, read_only=True) as lab: assert lab.sql("select status from run order by started_at, status desc").to_series().to_list() == ["ok", "failed"]


def test_a_refused_brand_is_the_callers_mistake(lab, tmp_path):
    book = notebook(tmp_path, "mine", "from trustlab.core import choose\nchoose('brand', brand, ['acme'])", brand=None)
    with pytest.raises(InvalidParameter, match="brand must be one of acme; got 'nobody'"): reports.report(lab, book, tmp_path, brand="nobody")
    with pytest.raises(ReportFailed): reports.report(lab, book, tmp_path)


def test_a_slow_cell_and_a_dead_kernel_are_failures(lab, tmp_path):
    with pytest.raises(ReportFailed, match="longer than its time limit"): reports.report(lab, notebook(tmp_path, "slow", "import time; time.sleep(60)"), tmp_path, timeout=1)
    with pytest.raises(ReportFailed, match="kernel died"): reports.report(lab, notebook(tmp_path, "dead", "import os; os._exit(1)"), tmp_path)


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    target = tmp_path / "page.html"
    pages.publish(target, "old")
    def full(handle: int) -> None: raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError): pages.publish(target, "new" * 1000)
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_the_kernel_is_this_interpreter_whatever_is_installed(lab, tmp_path, monkeypatch):
    fake = tmp_path / "data" / "kernels" / "python3"
    fake.mkdir(parents=True)
    (fake / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "python3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    (tmp_path / "books").mkdir()
    text = reports.report(lab, notebook(tmp_path / "books", "mine", "import sys, os\nprint(sys.executable, os.environ['PLOTLY_RENDERER'], os.listdir())"), tmp_path).read_text()
    assert sys.executable in text and "plotly_mimetype" in text


def test_an_open_lab_is_released_and_taken_up_again(tmp_path):
    book = notebook(tmp_path, "mine", "from trustlab.store import Lab\nfrom trustlab.brief import headline\nfrom trustlab.report import previous\nlab = Lab(store, read_only=True)\nlast = previous(lab, 'mine', {'weeks': weeks})\nheadline([{'figure': 'n', 'value': weeks, 'kind': 'count', 'n': 3}], last)", weeks=1)
    with Lab(tmp_path / "town.duckdb") as lab:
        first, second, other = (reports.report(lab, book, tmp_path, weeks=w).read_text() for w in (1, 1, 2))
        assert lab.con is not None and lab.sql("select count(*) as n from run where status = 'ok'").row(0) == (3,)
        assert json.loads(lab.sql("select figures from run").row(0)[0]) == [{"figure": "n", "value": 1, "kind": "count", "n": 3}]
    assert "nothing to compare" in first and "±0" in second and "n = 3" in second and "nothing to compare" in other


def test_a_lab_opened_for_reading_is_left_as_it_was(tmp_path):
    Lab(tmp_path / "town.duckdb").close()
    with Lab(tmp_path / "town.duckdb", read_only=True) as lab:
        reports.report(lab, notebook(tmp_path, "mine", "from trustlab.store import Lab\nLab(store, read_only=True).sql('select 1 as x')"), tmp_path)
        assert lab.sql("select count(*) as n from run").row(0) == (0,)


# ---- the weekly report


def test_the_weekly_report_of_the_town(chromium, tmp_path, town):
    with Lab(tmp_path / "town.duckdb") as lab:
        lab.load(town / "twcs.csv", town / "slack.zip", town / "mastodon.tar.gz")
        lab.roles(town / "roles.csv")
        made = [reports.report(lab, "weekly", tmp_path / "out") for _ in range(2)][-1]
        figures = json.loads(lab.sql("select figures from run order by started_at limit 1").row(0)[0])
        people = lab.sql("select account_key, handle, display_name from account where account_key not in (select account_key from role where role in ('brand', 'staff', 'bot'))")
        posts, brands = lab.sql("select post_key from post").to_series().to_list(), set(lab.sql("select brand from role where brand is not null").to_series())
        assert all(k >= 5 for k in tl.reciprocity(lab, by="role_pair").people), "in the town nothing needs hiding"
    text = made.read_text(encoding="utf-8")
    assert figures[0]["figure"] == "answered within 24h" and 0 < figures[0]["low"] < figures[0]["value"] < figures[0]["high"] < 1 and figures[0]["n"] > 100
    words = text[: text.index('<script type="application/json"')]
    assert "Nothing was loaded since that run" in words and "±0.0 points" in words and "/work" not in words and str(tmp_path) not in text
    named = {part for row in people.rows() for part in row if part and len(part) > 4} - brands
    spelled = set(re.findall(r"[\w@.:-]+", markup.unescape(words + text[len(words) : text.index("</script>", len(words))])))
    assert len(named) > 500 and not spelled & named and not spelled & set(posts)
    for width in (390, 1280):
        page = opened(chromium, made, width, wait="svg.main-svg")
        assert page.page.locator(".trustlab-figure .plot-container").count() >= 4 and page.outside == [] and page.errors == [] and page.wide() <= 0
        for title in ("In short", "Who waits now", "How soon", "Week by week", "What came back", "What the numbers mean"): assert page.page.get_by_role("heading", name=title, exact=True).count() == 1


def test_the_weekly_report_of_one_brand_and_of_nobody(tmp_path, town):
    with Lab() as lab:
        lab.load(town / "twcs.csv")
        brands = lab.sql("select distinct brand from role where brand is not null order by brand").to_series().to_list()
        words = reports.report(lab, "weekly", tmp_path, brand=brands[0]).read_text(encoding="utf-8").split('<script type="application/json"')[0]
        assert brands[0] in words and brands[1] not in words
        with pytest.raises(InvalidParameter, match="^brand .*nobody"): reports.report(lab, "weekly", tmp_path, brand="nobody at all")


def test_the_weekly_report_of_an_empty_store_says_so(lab, tmp_path):
    words = reports.report(lab, "weekly", tmp_path).read_text(encoding="utf-8")
    assert "nothing to compare with" in words and ("Nobody waits" in words or "cannot be said" in words)
