"""What each format promises in its sheet is held against the exports it names: the fields, the side, who the brand is, what can be answered; and the tables in the pages are the registry's."""
import json
import re
from functools import cache
from pathlib import Path

import nbformat
import polars as pl
import pytest

import trustlab as tl
from trustlab.bundles import bundles
from trustlab.core import NotIdentifiable
from trustlab.intake import formats, readers, sniff
from trustlab.mappings import packaged
from trustlab.store import Lab

ROOT = Path(__file__).resolve().parent.parent
EXPORTS = ROOT / "tests" / "exports"
PAGE = ROOT / "nbs" / "tutorials" / "08_formats.ipynb"
FIELDS = ("understood", "ignored", "answers", "tested_on", "limits")
NAMES = sorted(readers())
NAMED = sorted(name for name, mapping in packaged().items() if not mapping.sections.get("sniff"))
pytestmark = pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")
every = pytest.mark.parametrize("name", NAMES)

# ---- the words that a sheet's `answers` is made of, and what each of them claims

OWN, BOTH = r"\b(own|one) side\b|\bside alone\b|\b(not|never) whom? (it left|was left) without an answer\b", r"\bboth sides\b|^which \w+|^who (answers|writes)\b"
CLAIMS = {"export": r"\bthe export says who the brand is\b", "declare": r"\bdeclare\b", "soon": r"\bhow soon\b", "reciprocity": r"\breciprocity\b", "advocacy": r"\badvocacy\b",
          "groups": r"\bin groups only who wrote how much\b"}


def said(pattern, name): return bool(re.search(pattern, readers()[name].sheet.answers, re.I))
def claims(name): return {claim for claim, pattern in CLAIMS.items() if said(pattern, name)}
def sides(name): return {side for side, pattern in (("own", OWN), ("both", BOTH)) if said(pattern, name)}
def claiming(claim): return pytest.mark.parametrize("name", [n for n in NAMES if claim in claims(n)])
def of_side(*wanted): return pytest.mark.parametrize("name", [n for n in NAMES if sides(n) == set(wanted)])


def folders(name):
    "The folders that a sheet names under `tested_on`: those of the project, and those of the public fixtures"
    words = [w.strip() for w in re.split(r"[;,]", re.sub(r"\([^)]*\)", "", readers()[name].sheet.tested_on)) if w.strip()]
    ours = [w for w in words if w.startswith(("tests/exports/", "data/"))]
    return ours, [w for w in words if w not in ours]


# ---- who speaks for the brand in the exports that do not say so

STAFF = {"slack": ["otto", "aldertel"], "discord": ["bob"], "telegram": ["telegram:user902"], "whatsapp": ["Bob"], "zulip": ["Bob"], "bluesky": ["shop.example"], "reddit": ["ShopHelp"],
         "stackexchange": ["Shop & Help"], "facebook-messages": ["Atelier Zoë"], "instagram-messages": ["Atelier Zoë"], "linkedin-messages": ["linkedin:in/zoeatelier"], "x-api": ["acme"],
         "hacker-news": ["acme"], "brandwatch": ["acme"]}


def fresh(name, declared=False):
    "A lab with the small exports that a sheet names, read by that format alone; with `declared`, the brand's people are declared too"
    lab = Lab()
    if name in NAMED: lab.load(*EXPORTS.glob(f"table/suites/{name}.*"), mapping=name)
    else:
        for folder in folders(name)[0]: lab.load(ROOT / folder, source=name, allow_empty=True)
    if declared: lab.roles(pl.DataFrame({"account": STAFF[name], "role": "staff", "brand": "the firm"}))
    return lab


@cache
def loaded(name, declared=False):
    "The same, made once, to be asked and never changed"
    return fresh(name, declared)


def scopes(lab): return set(lab.sql("select distinct scope from load")["scope"].to_list())
def asked(measure, lab): return measure(lab).frame


# ---- the sheets

@every
def test_a_sheet_is_whole_and_short(name):
    sheet = readers()[name].sheet
    assert sheet, f"{name} promises nothing"
    assert {f: len(getattr(sheet, f)) for f in FIELDS if not 0 < len(getattr(sheet, f).strip()) <= 300} == {}
    assert not re.search(r"\n|/work|\.\./shared", " ".join(getattr(sheet, f) for f in FIELDS)) and readers()[name].title


@every
def test_a_sheet_speaks_of_sides_in_words_that_are_known(name):
    assert sides(name), f"say in `answers` of {name} whether it holds both sides or the owner's: {readers()[name].sheet.answers}"
    assert not {"export", "declare"} <= claims(name), "either the export says who the brand is, or it must be declared"
    if sides(name) == {"own"}: assert said("without an answer", name) or said(r"\bnot: who was left\b", name), "say what one side cannot answer"
    if name in packaged(): assert sides(name) == {packaged()[name].sections.get("scope", "both")}


@every
def test_what_a_sheet_was_tested_on_is_there(name):
    ours, _ = folders(name)
    assert ours, "a format needs a small export in the project"
    assert [f for f in ours if not (ROOT / f).is_dir()] == []


@pytest.mark.parametrize("name", [n for n in NAMES if folders(n)[1]])
def test_public_fixtures_that_a_sheet_names_are_its_format(name, shared):
    theirs = folders(name)[1]
    assert [f for f in theirs if not (shared / f).is_dir()] == []
    assert any(sniff(bundle, name) for folder in theirs for bundle in bundles(shared / folder)), f"no reader {name} recognises anything in {theirs}"


@pytest.mark.parametrize("folder", sorted(f.name for f in EXPORTS.iterdir() if f.is_dir()))
def test_a_folder_of_exports_is_loaded_by_whom_it_is_named_for(folder):
    named = {name for name in NAMES if f"tests/exports/{folder}" in folders(name)[0]} - set(NAMED)
    assert named, f"no sheet names tests/exports/{folder}"
    assert folder in {"slackdump", "table"} or folder.replace("_", "-") in named and all(n.startswith(folder.replace("_", "-")) for n in named)
    with Lab() as lab: assert {row["source"] for row in lab.load(EXPORTS / folder).loads} == named


def test_inbox_suites_have_a_small_export_each_and_are_not_recognised_unasked():
    suites = {f.stem: f for f in (EXPORTS / "table" / "suites").iterdir()}
    assert sorted(suites) == NAMED
    assert [found for file in suites.values() for bundle in bundles(file) for found in sniff(bundle)] == []


@pytest.mark.parametrize("name", NAMED)
def test_an_answer_in_a_suite_took_an_hour(name):
    with fresh(name, declared=name in STAFF) as lab:
        assert lab.sql("select seconds from answer")["seconds"].to_list() == [3600.0]
        frame = asked(tl.acknowledgement, lab)
        assert frame.select("n", "acknowledged").row(0) == ((1, 1) if name == "brandwatch" else (2, 1))


@pytest.mark.parametrize(("name", "wait"), [("google-business-profile", 7200.0), ("google-play-api", 3600.0), ("steam-reviews", 7200.0)])
def test_one_of_two_reviews_is_answered(name, wait):
    assert loaded(name).sql("select seconds from answer")["seconds"].to_list() == [wait]
    assert asked(tl.acknowledgement, loaded(name)).select("n", "acknowledged", "pending").row(0) == (2, 1, 1)


# ---- what the words claim

@of_side("own")
def test_one_side_answers_no_question_about_both(name):
    with fresh(name) as lab:
        assert scopes(lab) == {"own"} and lab.sql("select count(*) from post").row(0)[0] > 0
        owners = lab.sql("select distinct owner_key from load where owner_key is not null")["owner_key"].to_list()
        if owners: lab.roles(pl.DataFrame({"account": owners, "role": "brand", "brand": "the firm"}))
        for measure in (tl.acknowledgement, tl.reciprocity, tl.conversion):
            with pytest.raises(NotIdentifiable, match="one side"): measure(lab)


@of_side("both")
def test_both_sides_are_both(name):
    assert scopes(loaded(name)) <= {"both", "answered"} and "both" in scopes(loaded(name))


def one_side(name, folder):
    "The small exports of a format without all but one account's posts, where the format does not keep the two apart"
    line = lambda i: {"id": f"a{i}", "author": "ShopHelp", "created_utc": 1714550400 + i, "body": "We are on it", "subreddit": "lamps", "link_id": f"t3_q{i}", "parent_id": f"t3_q{i}", "score": 1}
    if name == "reddit": text = "".join(json.dumps(line(i)) + "\n" for i in range(12))
    elif name == "twcs":
        text = "tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id\n"
        text += "".join(f"{i},10{i},True,Mon Mar 04 07:20:15 +0000 2024,@acme help,,{i + 100}\n" for i in range(1, 5))
    else:
        pages = [json.loads(p) for p in (EXPORTS / "x_api" / "pages.jsonl").read_text(encoding="utf-8").splitlines() if p.startswith("{")]
        posts = [post for page in pages for post in page.get("data", []) if isinstance(post, dict) and "author_id" in post]
        mode = max((p["author_id"] for p in posts), key=[p["author_id"] for p in posts].count)
        text = json.dumps({"data": [p for p in posts if p["author_id"] == mode], "meta": {"result_count": 1}}) + "\n"
    (file := folder / f"one-side.{'csv' if name == 'twcs' else 'ndjson'}").write_text(text)
    return file


@of_side("own", "both")
def test_a_format_of_two_kinds_tells_them_apart(name, tmp_path):
    with fresh(name) as lab:
        assert "both" in scopes(lab)
        if name in ("reddit", "twcs", "x-api"): lab.load(one_side(name, tmp_path), source=name)
        assert "own" in scopes(lab)


@claiming("export")
def test_an_export_that_says_who_the_brand_is_can_be_measured_at_once(name):
    assert asked(tl.acknowledgement, loaded(name))["n"].sum() > 0
    assert loaded(name).sql("select count(*) from role where role in ('brand', 'staff') and basis = 'export'").row(0)[0] > 0


@claiming("declare")
def test_a_brand_that_must_be_declared_is_not_guessed(name):
    with pytest.raises(NotIdentifiable, match="Declare one"): tl.acknowledgement(loaded(name))
    assert asked(tl.acknowledgement, loaded(name, declared=True))["n"].sum() > 0


@claiming("soon")
def test_who_says_how_soon_has_answers_with_a_time(name):
    lab = loaded(name, declared=name in STAFF)
    if sides(name) == {"own"}: assert lab.sql("select count(*) from interaction where kind = 'parent_time' and occurred_at is not null").row(0)[0] > 0
    else: assert asked(tl.acknowledgement, lab)["acknowledged"].sum() > 0 and lab.sql("select count(*) from answer where seconds >= 0").row(0)[0] > 0


@claiming("reciprocity")
def test_who_says_reciprocity_has_acts_that_come_back(name):
    frame = asked(tl.reciprocity, loaded(name))
    assert frame["given"].sum() > 0 and frame["returned"].sum() > 0


@claiming("advocacy")
def test_who_says_advocacy_can_follow_the_answered(name):
    assert asked(tl.conversion, loaded(name, declared=name in STAFF))["n"].sum() > 0


@claiming("groups")
def test_a_group_without_links_says_that_it_cannot_answer(name):
    with Lab() as lab:
        lab.load(EXPORTS / "whatsapp" / "iphone", source=name)
        lab.roles(pl.DataFrame({"account": STAFF[name], "role": "staff", "brand": "the firm"}))
        assert lab.sql("select count(distinct author_key) from post").row(0)[0] > 2
        with pytest.raises(NotIdentifiable): tl.acknowledgement(lab)


# ---- the pages

def cell_text(text): return text.replace("|", "\\|").replace("<", "&lt;")


def test_the_stored_tables_are_the_registry():
    page = nbformat.read(PAGE, as_version=4)
    stored = "\n".join(o.data.get("text/markdown", "") for c in page.cells if c.cell_type == "code" for o in c.outputs if o.output_type in ("execute_result", "display_data"))
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in stored.splitlines() if line.startswith("| **")]
    shown = {re.match(r" \*\*([a-z-]+)\*\*: ", row[0])[1]: [cell.strip() for cell in row] for row in rows}
    assert len(rows) == len(shown) == formats().height
    for r in formats().rows(named=True):
        assert shown[r["reader"]] == [cell_text(f"**{r['reader']}**: {r['files']}"), *(cell_text(r[f]) for f in FIELDS)], f"run {PAGE.name} again: {r['reader']} has changed"


def words(path):
    "The prose and the outputs of a page"
    if path.suffix == ".md": return path.read_text(encoding="utf-8")
    page = nbformat.read(path, as_version=4)
    outputs = [o.get("text", "") or o.get("data", {}).get("text/plain", "") for c in page.cells if c.cell_type == "code" for o in c.outputs]
    return "\n".join([c.source for c in page.cells if c.cell_type == "markdown"] + ["".join(o) for o in outputs])


def test_every_page_that_counts_the_formats_counts_them_right():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md", EXPORTS / "README.md", *sorted((ROOT / "nbs").rglob("*.ipynb"))]
    counts = {p.relative_to(ROOT).as_posix(): set(re.findall(r"\b(\d+) formats\b", words(p))) for p in pages if ".ipynb_checkpoints" not in p.parts}
    told = {p: n for p, n in counts.items() if n}
    assert {"nbs/tutorials/02_your_own_export.ipynb", "nbs/tutorials/08_formats.ipynb", "tests/exports/README.md"} <= set(told)
    assert all(n == {str(formats().height)} for n in told.values()), told


def test_the_readme_of_the_exports_names_each_folder_with_its_readers():
    rows = re.findall(r"^\| `([a-z_]+)/` \| ([^|]+) \|", (EXPORTS / "README.md").read_text(encoding="utf-8"), re.M)
    here = {f.name: {n for n in NAMES if f"tests/exports/{f.name}" in folders(n)[0]} - set(packaged()) for f in EXPORTS.iterdir() if f.is_dir()}
    assert {folder: set(re.findall(r"`([a-z-]+)`", cell)) - {"table"} for folder, cell in rows} == here


# ---- a check that cannot fail is none

def test_words_that_claim_nothing_are_noticed():
    assert not re.search(OWN, "what the account wrote", re.I) and not re.search(BOTH, "what the account wrote", re.I)
    assert re.search(OWN, "never whom it left without an answer", re.I) and not re.search(OWN, "what counts as without an answer", re.I)
    assert all(any(claim in claims(n) for n in NAMES) for claim in CLAIMS) and all(any(sides(n) == s for n in NAMES) for s in ({"own"}, {"both"}, {"own", "both"}))
