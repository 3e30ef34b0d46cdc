"""Small groups: no page, no picture and no stored run tells a number about fewer than k people, nor lets it be worked out."""
import html as markup, json, os, re, stat, sys
from datetime import datetime, timedelta

import nbformat
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from scipy.optimize import linprog

import trustlab as tl
from browser import browser, opened
from trustlab import brief
from trustlab.core import InvalidParameter, Measure, Note, ReportFailed
from trustlab.store import Lab
from trustlab.suppression import suppressed

reports = sys.modules["trustlab.report"]
HEAD = "tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id\n"
LONER, START = "7700421", datetime(2024, 1, 1)


def calls(brand, authors, answered, waiting, first=1):
    "Rows of a twcs export: so many calls to a brand, each a conversation of its own, by the authors in turn, the answered ones first; one every 47 minutes, answered after 20"
    rows, each = [], list(authors)
    for i in range(answered + waiting):
        key, at = first + 2 * i, START + timedelta(minutes=47 * i)
        rows.append((key, each[i % len(each)], True, at, f"@{brand} help", key + 1 if i < answered else "", ""))
        if i < answered: rows.append((key + 1, brand, False, at + timedelta(minutes=20), "hello", "", key))
    return rows


def written(path, *rows):
    stamp = lambda at: at.strftime("%a %b %d %H:%M:%S +0000 %Y")
    path.write_text(HEAD + "".join(",".join(stamp(c) if i == 3 else str(c) for i, c in enumerate(row)) + "\n" for group in rows for row in group))
    return path


def small_town(folder):
    "A brand with 40 people, one with 12, and one with a single person who wrote to it 147 times"
    big, mid = calls("Bigcorp", range(1000, 1040), 500, 23), calls("Midway", range(2000, 2012), 170, 57, 10_000)
    return written(folder / "calls.csv", big, mid, calls("Tiny", [LONER], 89, 58, 20_000))


@pytest.fixture(scope="module")
def chromium():
    with browser() as it: yield it


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with Lab() as it:
        it.load(small_town(tmp_path_factory.mktemp("small")))
        yield it


@pytest.fixture(scope="module")
def page(lab, tmp_path_factory): return reports.report(lab, "weekly", tmp_path_factory.mktemp("page"))


def parts(path):
    "The page as a reader sees it (without the style sheet and the library), its words alone, and its figures"
    text = path.read_text(encoding="utf-8")
    body = text[text.index("<main>") :]
    island = re.search(r'<script type="application/json" id="trustlab-figures">(.*?)</script>', body, re.S)
    words = markup.unescape(re.sub("<[^>]+>", " ", body[: island.start()] if island else body.split("<script")[0]))
    return words, json.loads(island[1]) if island else []


def whole(path):
    text = path.read_text(encoding="utf-8")
    start = text.index("<script>") if "<script>" in text else len(text)
    return markup.unescape(text[text.index("<main>") : start].replace("\\u003c", "<"))


def numbers(text):
    "The whole numbers in a text that are no durations"
    return set(re.findall(r"(?<![\w.#-])\d[\d,]*(?![\w.%-]|\.\d)", re.sub(r"\d[\d.,]*\s(?:h|d|min|s)\b", "", text)))


def leaves(value):
    if isinstance(value, dict): return [leaf for each in value.values() for leaf in leaves(each)]
    return [leaf for each in value for leaf in leaves(each)] if isinstance(value, list) else [value]


# ---- the audit: what a reader who knows every total and the rule can work out


def audit(frame, shown, small, people, by, k, value):
    "For each small group, the least and the most that its hidden number can be, given the shown numbers and all totals"
    hidden = [i for i in range(frame.height) if not shown[i]]
    rows = frame.with_row_index("i")
    groups = [rows, *(piece for b in by if len(by) > 1 for piece in rows.partition_by(b, maintain_order=True))]
    equations, totals = [], []
    for piece in groups:
        inside = piece["i"].to_list()
        equations.append([float(i in inside) for i in hidden])
        totals.append(sum(frame[value][i] for i in inside) - sum(frame[value][i] for i in inside if shown[i]))
    floor = [(k if people[i] >= k and not small[i] else 1) for i in hidden]
    found = {}
    for at, i in enumerate(hidden):
        if not small[i]: continue
        ends = [linprog([sign * (j == at) for j in range(len(hidden))], A_eq=equations, b_eq=totals, bounds=[(f, None) for f in floor]).x[at] for sign in (1, -1)]
        found[i] = ends
    return found


def table(cells, by):
    "A measure over `cells`: for each its group values, people, and how many units beyond one a person"
    frame = pl.DataFrame({**{b: [c[0][j] for c in cells] for j, b in enumerate(by)}, "n": [c[1] + c[2] for c in cells]})
    return Measure("m", frame.with_columns(rate=pl.col("n") / 7), None, None, [], {"by": list(by)}, people=[c[1] for c in cells])


def check(measure, by, k):
    safe = suppressed(measure, k)
    small = [0 < p < k for p in measure.people]
    shown = [h == "" for h in safe.hidden]
    assert [h == f"<{k}" for h in safe.hidden] == small
    for i in range(measure.frame.height):
        assert safe.frame["n"][i] == (measure.frame["n"][i] if shown[i] else None) and safe.frame["rate"][i] == (measure.frame["rate"][i] if shown[i] else None)
    if not any(small): assert all(shown)
    if not any(small) or not any(shown): return safe, {}
    return safe, audit(measure.frame, shown, small, measure.people, by, k, "n")


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 9)), min_size=1, max_size=9), st.integers(1, 6))
def test_no_hidden_number_can_be_solved_from_its_total(cells, k):
    measure = table([((f"g{i}",), people, more) for i, (people, more) in enumerate(cells)], ["brand"])
    for low, high in check(measure, ["brand"], k)[1].values(): assert high - low >= k - 1 - 1e-6


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.integers(2, 4), st.integers(2, 4), st.data())
def test_nor_from_the_totals_of_rows_and_columns(rows, columns, data):
    cells = [((f"r{r}", f"c{c}"), data.draw(st.integers(1, 14)), data.draw(st.integers(0, 6))) for r in range(rows) for c in range(columns)]
    measure, by = table(cells, ["brand", "week"]), ["brand", "week"]
    safe, found = check(measure, by, 5)
    for i, (low, high) in found.items():
        here = measure.frame.select(by).row(i)
        crossed = [h for h, (r, c) in zip(safe.hidden, measure.frame.select(by).rows()) if r == here[0] or c == here[1]]
        assert high - low >= 4 - 1e-6 or all(crossed)


def test_the_audit_finds_what_a_careless_table_gives_away():
    measure = table([(("a",), 2, 0), (("b",), 9, 3), (("c",), 20, 0)], ["brand"])
    careless = suppressed(measure, 5, totals=False)
    [(low, high)] = audit(measure.frame, [h == "" for h in careless.hidden], [True, False, False], measure.people, ["brand"], 5, "n").values()
    assert (round(low), round(high)) == (2, 2)
    alone = table([(("a",), 1, 0), (("b",), 5, 0), (("c",), 30, 0)], ["brand"])
    [(low, high)] = audit(alone.frame, [False, False, True], [True, False, False], alone.people, ["brand"], 5, "n").values()
    assert (round(low), round(high)) == (1, 1), "two hidden groups can tell each other when one is known to have five people"
    assert suppressed(alone).hidden == ["<5", "not shown", "not shown"]


def test_a_number_that_is_zero_in_all_hidden_groups_hides_one_more():
    frame = pl.DataFrame({"brand": ["a", "b", "c", "d"], "n": [2, 20, 40, 60], "pending": [0, 0, 7, 3], "acknowledged": [2, 20, 33, 57]})
    safe = suppressed(Measure("m", frame, None, None, [], {"by": ["brand"]}, people=[1, 20, 40, 60]))
    assert safe.hidden == ["<5", "not shown", "not shown", ""] and safe.frame["pending"].to_list() == [None, None, None, 3]


# ---- people, not units


def test_people_are_counted_and_what_is_shown_is_the_measures_own_number(lab):
    by_brand = tl.acknowledgement(lab, by="brand")
    assert by_brand.frame.select("brand", "n").rows() == [("Bigcorp", 523), ("Midway", 227), ("Tiny", 147)] and by_brand.people == [40, 12, 1]
    safe = by_brand.suppressed(5)
    assert safe.hidden == ["", "not shown", "<5"] and safe.frame.row(0) == by_brand.frame.row(0) and set(safe.frame.row(2)[1:]) == {None}
    assert safe.detail["brand"].unique().to_list() == ["Bigcorp"] and safe.params["suppress"] == 5
    assert safe.notes[-2:] == ["By brand: 1 group of fewer than 5 people hidden, and 1 group more from which their numbers would follow.", "By brand: 1 curve ends early, where fewer than 5 people were still followed."]
    assert by_brand.suppressed(1).hidden == [""] * 3 and by_brand.suppressed(0) is by_brand and by_brand.suppressed(41).frame["n"].null_count() == 3
    assert "147" not in safe._repr_html_().split("<script")[0] and "<td>&lt;5</td>" in safe._repr_html_() and safe.to_dict()["rows"][2]["n"] is None


@pytest.mark.parametrize("unit", ["conversation", "run", "post"])
@pytest.mark.parametrize("by", ["brand", "week", "platform"])
def test_people_of_each_group_are_those_of_its_rows(lab, unit, by):
    m = tl.acknowledgement(lab, by=by, unit=unit)
    column = {"brand": "brand", "week": "cast(date_trunc('week', arrived_at) as date)", "platform": "platform"}[by]
    want = dict(lab.sql(f"select {column} as g, count(distinct author_key) from inbound where eligible group by 1").rows())
    assert dict(zip(m.frame[by].to_list(), m.people)) == want


def test_a_curve_ends_where_fewer_than_k_people_are_left(lab):
    m = tl.acknowledgement(lab, by="brand")
    cut = m.suppressed(5, totals=False).detail.filter(pl.col("brand") == "Midway")
    full = m.detail.filter(pl.col("brand") == "Midway")
    rows = lab.sql("""select i.author_key, epoch(coalesce(a.answered_at, i.ends_at)) - epoch(i.arrived_at) as s
        from inbound i left join answer a on a.post_key = i.post_key and a.brand = i.brand where i.eligible and i.brand = 'Midway'""").rows()
    left = lambda t: len({who for who, s in rows if s >= t})
    told = [people for people, brand in zip(m.left, m.detail["brand"]) if brand == "Midway"]
    assert told == [left(t) for t in full["seconds"]] and 0 < cut.height < full.height
    assert cut.equals(full.filter(pl.Series([left(t) >= 5 for t in full["seconds"]])))


def test_accounts_that_are_one_person_count_once():
    with Lab() as lab:
        lab.con.execute("insert into load (load_id, scope, source, covers_to) values ('1', 'both', 's', '2024-02-01'); insert into coverage values ('1', 'x', null, null, false)")
        lab.con.execute("insert into account (account_key, platform, handle, person_key) values ('x:acme', 'x', 'acme', 'x:acme')")
        for i in range(5):
            lab.con.execute("insert into account (account_key, platform, handle, person_key) values (?, 'x', ?, ?)", [f"x:p{i}", f"p{i}", f"x:p{i}"])
            lab.con.execute("insert into post (post_key, platform, author_key, kind, created_at, reply_to_account, reply_basis, conversation_key, visibility, load_id) values (?, 'x', ?, 'post', '2024-01-01', 'x:acme', 'inferred', ?, 'public', '1')", [f"x:{i}", f"x:p{i}", f"x:{i}"])
        lab.roles(pl.DataFrame({"account": ["acme"], "role": ["brand"]}))
        before = [tl.acknowledgement(lab).people, tl.reciprocity(lab).people]
        lab.identify(pl.DataFrame({"account": ["p3", "p4"], "person": ["Kim", "Kim"]}))
        after = [[tl.acknowledgement(lab, per=per).people, tl.reciprocity(lab, per=per).people] for per in ("account", "person")]
        assert before == [[5], [5]] and after == [[[4], [4]]] * 2
        assert tl.acknowledgement(lab).frame["n"].to_list() == [5] and tl.acknowledgement(lab).suppressed().hidden == ["<5"]


def acts(*rows): return tl.from_acts(pl.DataFrame({"from": [r[0] for r in rows], "to": [r[1] for r in rows], "occurred_at": [1_700_000_000 + i for i in range(len(rows))]}))


def test_reciprocity_counts_the_side_with_fewer_people_and_brands_never():
    with acts(*[("fan", f"p{i}") for i in range(30)]) as lab: assert tl.reciprocity(lab).people == [1]
    with acts(*[(f"p{i}", "star") for i in range(30)]) as lab:
        assert tl.reciprocity(lab).people == [1]
        lab.roles(pl.DataFrame({"account": ["star"], "role": ["brand"], "brand": ["star"]}))
        assert tl.reciprocity(lab, by="role_pair").people == [30]
        lab.roles(pl.DataFrame({"account": ["star", *(f"p{i}" for i in range(27))], "role": ["staff"] * 28, "brand": ["star"] * 28}))
        assert dict(zip(tl.reciprocity(lab, by="role_pair").frame["role_pair"], tl.reciprocity(lab, by="role_pair").people)) == {"staff→staff": 1, "unknown→staff": 3}
    with acts(*[("one", "two"), ("two", "one")] * 20) as lab:
        lab.roles(pl.DataFrame({"account": ["one", "two"], "role": ["brand", "brand"], "brand": ["one", "two"]}))
        between = tl.reciprocity(lab, by="role_pair")
        assert between.people == [0] and between.suppressed().frame.equals(between.frame)


def test_a_note_keeps_its_count_only_when_enough_people_are_behind_it():
    notes = ["left out: 3 posts without a date", Note("left out: 3,400 calls", 4), Note("left out: 3,400 answers", 5), Note("left out: 2 posts by bots", 0), "2 of 9 groups have fewer than 30 units"]
    safe = suppressed(Measure("m", pl.DataFrame({"n": [50]}), None, None, notes, {}, people=[50]))
    assert safe.notes == ["left out: some posts without a date", "left out: some calls", "left out: 3,400 answers", "left out: 2 posts by bots", "2 of 9 groups have fewer than 30 units"]


# ---- the page


def test_lists_name_nobody_and_notes_on_few_people_go():
    "Fifteen pairs answer each other, ten rounds each: of the loops' list the names and posts go, the times stay; a note on thirty people stays, one on four goes"
    acts = pl.DataFrame([(a, b, 1_700_000_000 + 60 * (20 * i + 2 * k + j)) for i in range(15) for k in range(10) for j, (a, b) in enumerate([(f"p{i}", f"q{i}"), (f"q{i}", f"p{i}")])], schema=["from", "to", "occurred_at"], orient="row")
    with tl.from_acts(acts) as lab: m = tl.loops(lab, max_length=2)
    assert {"from", "to", "post_key"} <= set(m.detail.columns) and m.people == [30] and any(note.startswith("the list holds the 100 of") for note in m.notes)
    shown = m.suppressed(5)
    assert set(shown.detail.columns) == {"length", "loop", "step", "occurred_at", "kind"} and shown.detail.height == m.detail.height and not any(f"p{i}" in str(shown.detail.to_dicts()) for i in range(15))
    assert any(note.startswith("the list holds the 100 of") for note in shown.notes) and not any(note.startswith("the list holds") for note in m.suppressed(31).notes)
    assert m.suppressed(0).detail.equals(m.detail)
    told = Measure("n", pl.DataFrame({"n": [9]}), m.card, m.draw, [Note("4 people did this", 4), "nobody counted"], people=[9])
    assert told.suppressed(5).notes == ["nobody counted"] and told.suppressed(4).notes == ["4 people did this", "nobody counted"]


def test_the_page_says_its_rule_and_hides_the_person(page):
    words, figures = parts(page)
    assert "suppress=5" in words and "fewer than 5 different people is shown as <5" in words and "minus that of last week" in words and '"suppress":5' in words
    assert LONER not in whole(page) and f"twcs:{LONER}" not in whole(page)
    seen = numbers(words) | {n for leaf in leaves(figures) for n in numbers(str(leaf))}
    assert not seen & {"147", "89", "58", "227", "170"} and {"523", "897"} <= seen, "the small brand's numbers and those of the one hidden beside it are gone, the others and the total stand"
    assert "By brand: 1 group of fewer than 5 people hidden, and 1 group more" in words


def test_the_hidden_groups_are_not_in_the_figures_either(page):
    _, figures = parts(page)
    curves = next(f for f in figures if "Answered by then" in f["layout"]["title"]["text"])
    assert {t.get("legendgroup") for t in curves["data"]} == {"Bigcorp"} and "hidden: Midway, Tiny (&lt;5 people)" in curves["layout"]["title"]["text"].replace("<br>", " ").replace('</span> <span style="font-size:12px;color:#555555">', " ")
    for figure in figures:
        for trace in figure["data"]:
            rows = [row for row in trace.get("customdata") or [] if isinstance(row, list) and len(row) == 4]
            assert all(row[3] >= 5 for row in rows)


def test_totals_of_the_page_do_not_give_the_hidden_brand_away(lab, page):
    words, figures = parts(page)
    total = int(re.search(r"n = ([\d,]+) conversations", words)[1].replace(",", ""))
    shown = {m[1]: int(m[2]) for leaf in leaves(figures) if isinstance(leaf, str) and (m := re.fullmatch(r"([A-Z]\w+) \(n=(\d+)\)", leaf))}
    frame = tl.acknowledgement(lab, by="brand").frame
    assert total == frame["n"].sum() and shown == {"Bigcorp": 523}
    [(low, high)] = audit(frame, [b in shown for b in frame["brand"]], [False, False, True], [40, 12, 1], ["brand"], 5, "n").values()
    assert (round(low), round(high)) == (1, 369)


def test_the_charts_of_the_page_draw(chromium, page):
    for width in (390, 1280):
        seen = opened(chromium, page, width, wait="svg.main-svg")
        assert seen.page.locator(".trustlab-figure .plot-container").count() == 4 and seen.errors == [] and seen.outside == [] and seen.wide() <= 0
        assert LONER not in seen.page.content() and "could not be drawn" not in seen.page.inner_text("main")


def test_weeks_with_few_people_are_gaps(tmp_path):
    weeks = [calls("Acme", range(1000, 1020), 30, 3, 1000 * w) for w in range(5)]
    weeks[2] = calls("Acme", [LONER], 17, 2, 2000)
    rows = [[(*row[:3], row[3] + timedelta(weeks=w), *row[4:]) for row in week] for w, week in enumerate(weeks)]
    with Lab() as lab:
        lab.load(written(tmp_path / "weeks.csv", *rows))
        _, figures = parts(reports.report(lab, "weekly", tmp_path / "out", weeks=12))
        chart = next(f for f in figures if "by week" in f["layout"]["title"]["text"])
        line = chart["data"][1]
        hidden = [i for i, y in enumerate(line["y"]) if y is None]
        assert 2 in hidden and len(hidden) == 2 and [line["customdata"][i] for i in hidden] == ["–", "–"] and "2 groups" not in str(line) and "hidden:" in chart["layout"]["title"]["text"]
        assert sum(y is not None for y in line["y"]) == 2 and not any("n = 19" in str(leaf) for leaf in leaves(figures))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    "A store of three people, and its pages without the rule and with it, in this order"
    folder = tmp_path_factory.mktemp("few")
    with Lab(folder / "few.duckdb") as lab: lab.load(written(folder / "few.csv", calls("Tiny", [LONER, "7700422", "7700423"], 89, 58)))
    bare = reports.report(folder / "few.duckdb", "weekly", folder / "bare", suppress=0, people=True)
    return folder / "few.duckdb", bare, reports.report(folder / "few.duckdb", "weekly", folder / "safe")


def test_without_the_rule_the_page_says_so_and_names_appear_only_when_asked_for(few):
    words, figures = parts(few[1])
    assert "Small groups are not hidden on this page (suppress=0)" in re.sub(r"\s+", " ", words) and "More wait." not in words and "43 more wait." in words
    assert LONER in whole(few[1]) and "<th>who</th>" in whole(few[1]) and "Tiny (n=147)" in {t.get("name") for f in figures for t in f["data"]} and "suppress=5" not in words


def test_where_everything_is_small_the_page_says_so(chromium, few):
    words, island = parts(few[2])
    seen = numbers(words) | {n for leaf in leaves(island) for n in numbers(str(leaf))}
    assert not seen & {"147", "89", "58", "236", "43"} and "770042" not in whole(few[2]) and "More wait." in words and words.count("<5 people") >= 5
    assert all(f["data"] == [] for f in island) and len(island) == 4 and "<th>who</th>" not in whole(few[2])
    shown = opened(chromium, few[2], 390, wait="svg.main-svg")
    drawn = "".join(shown.page.locator(".trustlab-figure").all_text_contents()).replace("\xa0", "").replace(" ", "")
    assert drawn.count("Nothingtoshow:fewerthan5people") == 4 and shown.errors == [] and shown.wide() <= 0


def test_a_run_keeps_only_what_its_page_shows(few):
    with Lab(few[0], read_only=True) as lab:
        kept = {json.loads(params)["suppress"]: json.loads(figures) for params, figures in lab.sql("select params, figures from run").rows()}
    assert {f["value"] for f in kept[5]} == {None} == {f.get("n") for f in kept[5]} == {f["people"] for f in kept[5]} and {f["why"] for f in kept[5]} == {"<5 people"}
    assert 147 in {f.get("n") for f in kept[0]} and "nothing to compare with" in parts(few[2])[0], "a page compares itself with runs under the same rule only"


def test_sources_of_few_people_are_hidden_too(lab, tmp_path):
    assert brief.sources(lab).select("records", "hidden").row(0) == (lab.sql("select sum(read) from load").row(0)[0], "")
    with Lab() as one:
        one.load(written(tmp_path / "few.csv", calls("Tiny", [LONER], 89, 58)))
        assert brief.sources(one).drop("files").row(0) == ("twcs", "both", None, None, None, None, None, "<5") and brief.sources(one, 0)["records"].to_list() == [236]
        assert "236" not in brief.table(brief.sources(one)).html and brief.table(brief.sources(one)).html.count("&lt;5") == 5


def test_a_link_that_spells_its_author_is_held_back():
    with Lab() as lab:
        lab.con.execute("insert into load (load_id, scope, source, covers_to) values ('1', 'both', 's', '2024-02-01'); insert into coverage values ('1', 'm', null, null, false)")
        for i in range(8):
            lab.con.execute("insert into account (account_key, platform, handle, person_key) values (?, 'm', ?, ?)", [f"m:https://t.example/users/zoe{i}", f"zoe{i}@t.example", f"m:https://t.example/users/zoe{i}"])
            lab.con.execute("""insert into post (post_key, platform, author_key, kind, created_at, reply_to_account, reply_basis, conversation_key, visibility, load_id, url)
                values (?, 'm', ?, 'post', '2024-01-01', 'm:acme', 'inferred', ?, 'public', '1', ?)""", [f"m:{i}", f"m:https://t.example/users/zoe{i}", f"m:{i}", f"https://t.example/@Zoe{i}/1{i}" if i else "https://t.example/notes/10"])
        lab.con.execute("insert into account (account_key, platform, handle, person_key) values ('m:acme', 'm', 'acme', 'm:acme')")
        lab.roles(pl.DataFrame({"account": ["acme"], "role": ["brand"]}))
        plain, named = (brief.waiting(lab, tl.worklist(lab), people).html for people in (False, True))
    assert "zoe" not in plain.lower() and 'href="https://t.example/notes/10"' in plain and "it would name who wrote" in plain
    assert named.count('href="https://t.example/@Zoe') == 7 and "<td>zoe3@t.example</td>" in named


def test_the_page_of_a_pseudonymised_store_has_no_pseudonym(tmp_path, monkeypatch):
    monkeypatch.setenv("TRUSTLAB_KEY", "07" * 32)
    with Lab(tmp_path / "masked.duckdb") as lab:
        lab.pseudonymise()
        lab.load(small_town(tmp_path))
        keys = [part for row in lab.sql("select account_key, handle from account where account_key not in (select account_key from role where role = 'brand')").rows() for part in row if part]
        page = reports.report(lab, "weekly", tmp_path / "out")
    assert len(keys) > 50 and any("p1_" in key for key in keys) and "p1_" not in whole(page) and LONER not in whole(page)
    assert not [key for key in keys if key in whole(page)] and "Bigcorp" in whole(page)


# ---- the runs before


def test_an_earlier_run_without_a_count_of_people_is_not_shown():
    now = [{"figure": "answered", "value": 0.5, "n": 90, "people": 40, "kind": "share"}]
    old = {"started_at": START, "figures": [{"figure": "answered", "value": 0.25, "n": 3, "kind": "share"}]}
    shown = brief.headline(now, old)._repr_html_()
    assert "25.0%" not in shown and "n = 3" not in shown and "kept without a count of people" in shown
    assert "25.0%" in brief.headline(now, {**old, "figures": [{**old["figures"][0], "people": 7}]})._repr_html_()


def test_a_threshold_that_is_none_is_refused(lab, tmp_path):
    for k in (-1, 2.5, True, "five", None, float("nan"), float("inf")):
        with pytest.raises(InvalidParameter, match="^suppress must be"): brief.rule(k)
        with pytest.raises(InvalidParameter, match="^suppress must be"): tl.acknowledgement(lab).suppressed(k)
    with pytest.raises(InvalidParameter, match="^suppress must be a whole number of people"): reports.report(lab, "weekly", tmp_path, suppress=-1)
    assert not list(tmp_path.glob("*.html"))


# ---- files


def book(folder, *cells):
    first = new_code_cell('store = ""', metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Mine"), first, *map(new_code_cell, cells)]), folder / "mine.ipynb")
    return folder / "mine.ipynb"


def mode(path): return stat.S_IMODE(path.stat().st_mode)


def test_all_that_a_run_makes_is_for_its_owner(tmp_path):
    before = os.umask(0o000)
    try:
        with Lab() as lab: page = reports.report(lab, book(tmp_path, f"open({str(tmp_path / 'made')!r}, 'w').close()", "import os, pathlib\nprint([oct(os.stat(p).st_mode & 0o777) for p in ('.', store, os.path.dirname(store))])"), tmp_path / "a" / "out")
        assert os.umask(0o000) == 0o000
    finally: os.umask(before)
    assert mode(page) == 0o600 and mode(page.parent) == mode(page.parent.parent) == 0o700 and mode(tmp_path / "made") == 0o600
    assert "['0o700', '0o600', '0o700']" in markup.unescape(page.read_text())


@pytest.mark.parametrize("broken", ["render", "publish"])
def test_a_page_that_cannot_be_made_leaves_the_one_before(tmp_path, monkeypatch, broken):
    with Lab() as lab:
        page = reports.report(lab, book(tmp_path, "print('first')"), tmp_path / "out")
        good = page.read_text()
        def fails(*args): raise OSError(28, "No space left on device")
        monkeypatch.setattr(reports, broken, fails)
        with pytest.raises(ReportFailed, match="No space left on device") as error: reports.report(lab, book(tmp_path, "print('second')"), tmp_path / "out")
        assert page.read_text() == good and ("mine.log" in str(error.value)) == (broken == "render") and not list(page.parent.glob(".*"))
        assert lab.sql("select status from run order by status").to_series().to_list() == ["failed", "ok"]
        assert {mode(p) for p in page.parent.iterdir()} == {0o600}
