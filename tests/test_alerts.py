"Alert rules against plain Python, what they refuse, and the command that exits with 8"
import csv
import io
import json
from datetime import date, datetime

import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

import trustlab as tl
from trustlab.alerts import checked, fired, limited, sentence, verdicts
from trustlab.core import InvalidParameter, Measure

COLUMNS = {"n": st.none() | st.integers(-3, 3), "rate": st.none() | st.sampled_from([-1.0, 0.0, 0.5, 1.0]), "brand": st.none() | st.sampled_from(["a", "b"])}
ROWS = st.lists(st.fixed_dictionaries(COLUMNS), min_size=0, max_size=6)
SIGNS = {"<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "=": lambda a, b: a == b, "!=": lambda a, b: a != b, "<>": lambda a, b: a != b, "==": lambda a, b: a == b}


@st.composite
def rules(draw, depth=3):
    "A rule as text, and a function that judges a row by it in three values: True, False, None"
    kind = draw(st.sampled_from(["compare", "null", "compare"] + (["and", "or", "not"] if depth else [])))
    if kind == "compare":
        sign = draw(st.sampled_from(sorted(SIGNS)))
        column = draw(st.sampled_from(["n", "rate", "brand"]))
        other = draw(st.sampled_from(["'a'", '"b"'] if column == "brand" else ["0", "0.5", "-1", "50%", "n", "rate"]))
        def side(row, text): return row[text] if text in row else text[1:-1] if text[0] in "'\"" else float(text[:-1]) / 100 if text[-1] == "%" else float(text)
        def judge(row, x=column, y=other, f=SIGNS[sign]): return None if side(row, x) is None or side(row, y) is None else f(side(row, x), side(row, y))
        return f"{column} {sign} {other}", judge
    if kind == "null":
        column, negated = draw(st.sampled_from(sorted(COLUMNS))), draw(st.booleans())
        return f"{column} is {'not ' if negated else ''}null", lambda row: (row[column] is None) != negated
    (a, f), (b, g) = draw(rules(depth=depth - 1)), draw(rules(depth=depth - 1))
    if kind == "not": return f"not ({a})", lambda row: None if f(row) is None else not f(row)
    def joined(row):
        values, decides = {f(row), g(row)}, kind == "or"
        return decides if decides in values else None if None in values else not decides
    return f"({a}) {kind.upper() if draw(st.booleans()) else kind} ({b})", joined


@settings(max_examples=200)
@given(ROWS, rules())
def test_rules_say_what_plain_python_says(rows, rule):
    text, judge = rule
    frame = pl.DataFrame(rows, schema={"n": pl.Int64, "rate": pl.Float64, "brand": pl.String})
    assert verdicts(frame, text).to_list() == [judge(row) for row in rows] and checked(text) == text
    assert fired(frame, text).rows(named=True) == [row for row in rows if judge(row)]
    n, said = sentence(frame, text)
    unknown = sum(judge(row) is None for row in rows)
    assert n == fired(frame, text).height and said.startswith("alert" if n else "no alert") and (f"{unknown} could not be judged" in said) == bool(unknown)


FRAME = pl.DataFrame({"n": [1, 2], "rate": [0.5, float("nan")], "brand": ["a", "b"], "week": [date(2024, 3, 4), None], "since": [datetime(2024, 3, 4, 12), None], "partial": [True, None], "acts": [["x"], []], "seconds": [3600.0, 90000.0]})


@pytest.mark.parametrize("rule,rows", [
    ("n = 1 or n = 2 and rate > 5", [1]), ("(n = 1 or n = 2) and seconds > 1d", [2]), ("not n = 1", [2]), ("not not n = 1", [1]), ("rate >= 50%", [1]), ("rate is null", [2]), ("rate != 0.5", []), ("seconds <= 60m", [1]), ("seconds>1h", [2]),
    ("week = '2024-03-04'", [1]), ("since > '2024-03-04T11:59'", [1]), ("since >= week", [1]), ("partial", [1]), ("not partial", []), ("partial is null", [2]), ("partial = TRUE", [1]), ("1 < 2", [1, 2]), ("'a' = brand", [1]), ("n>=-.5e0", [1, 2]), ("acts is null", [])])
def test_rules_by_hand(rule, rows): assert fired(FRAME, rule)["n"].to_list() == rows


@pytest.mark.parametrize("rule,says", [
    ("", "must be a rule"), ("   ", "must be a rule"), (None, "must be a rule"), ("n > 1 " * 300, "1000 characters"), ("m > 1", "must be one of"), ("N > 1", "must be one of n, acts, brand"), ("n >", "the end"), ("n > 1 n < 2", "`and`, `or` or the end"), ("(n > 1", "`)`"), ("n > 1)", "`and`, `or` or the end"),
    ("1 < n < 3", "between two comparisons"), ("n", "a comparison"), ("n is 5", "`null`"), ("n > 'x'", "cannot be compared"), ("brand > 1", "cannot be compared"), ("acts = 'x'", "cannot be compared"), ("partial > 0", "cannot be compared"), ("week > 'soon'", "2024-03-04"),
    ("n > 1; drop table post", "cannot be read at"), ("__import__('os').system('x')", "cannot be read at"), ("__import__('os')", "must be one of"), ("n > 1e", "cannot be read"), ("n > 5x", "cannot be read"), ("brand = 'a", "cannot be read"), ("not", "the end"), ("and n > 1", "a column, a number or a text"), ("(" * 51 + "n > 1" + ")" * 51, "nested"), ("not " * 60 + "n > 1", "nested"), ("n > 1\x00", "cannot be read")])
def test_refused(rule, says):
    with pytest.raises(InvalidParameter) as error: fired(FRAME, rule)
    assert says in str(error.value)


def test_a_rule_without_a_table_is_refused_for_its_form_alone():
    assert checked("anything < 5 and whatever") and pytest.raises(InvalidParameter, checked, "anything <")


@pytest.fixture(scope="module")
def lab(root):
    with tl.Lab() as lab:
        lab.load(root / "data" / "town" / "twcs.csv")
        yield lab


@pytest.mark.filterwarnings("ignore::trustlab.TrustlabWarning")
def test_a_limited_measure_has_the_rows_curves_and_people_that_fired(lab):
    measure = tl.acknowledgement(lab, by="brand", within="1h")
    some = measure.frame.sort("n")["n"][-2]
    low = limited(measure, [f"n >= {some}"])
    kept = [row["n"] >= some for row in measure.frame.to_dicts()]
    assert isinstance(low, Measure) and low.frame.equals(measure.frame.filter(pl.Series(kept))) and low.people == [p for p, k in zip(measure.people, kept) if k]
    assert 0 < low.detail.height < measure.detail.height and set(low.detail["brand"]) == set(low.frame["brand"]) and len(low.left) == low.detail.height
    assert low.left == [left for left, brand in zip(measure.left, measure.detail["brand"]) if brand in set(low.frame["brand"])] and low.figure().data and not limited(measure, ["n < 0"]).figure().data
    assert low.suppressed(3).frame.height == low.frame.height and measure.frame.height == len(kept)


@pytest.fixture(scope="module")
def store(cli, root, tmp_path_factory):
    path = tmp_path_factory.mktemp("alerts") / "town.duckdb"
    assert cli("load", path, root / "data" / "town" / "twcs.csv").code in (0, 3)
    return path


def test_the_command_exits_with_8_and_the_rows_that_fired(cli, store):
    asked = ("measure", "acknowledgement", store, "--set", "by=brand", "--set", "within=1h")
    everything = json.loads(cli(*asked, "--format", "json").out)["rows"]
    limit = sorted(row["n"] for row in everything)[len(everything) // 2]
    want = [row for row in everything if row["n"] >= limit and row["ack_1h"] is not None and row["ack_1h"] < 0.9]
    assert want and len(want) < len(everything)
    ran = cli(*asked, "--format", "json", "--alert", f"ack_1h < 90% and n >= {limit}")
    assert ran.code == 8 and json.loads(ran.out)["rows"] == want and f"alert: {len(want)} of {len(everything)} rows fired on 'ack_1h < 90% and n >= {limit}'" in ran.err
    both = cli(*asked, "--format", "csv", "--alert", "n < 0", "--alert", f"n >= {limit}")
    rows = list(csv.DictReader(io.StringIO(both.out)))
    assert both.code == 8 and [row["brand"] for row in rows] == [row["brand"] for row in everything if row["n"] >= limit] and "no alert: 0 of" in both.err and "\nalert: " in "\n" + both.err


def test_the_command_is_quiet_when_no_row_fired(cli, store):
    ran = cli("measure", "acknowledgement", store, "--set", "by=brand", "--format", "json", "--alert", "n < 0")
    assert ran.code == 0 and json.loads(ran.out)["rows"] == [] and "no alert: 0 of" in ran.err
    page = cli("measure", "acknowledgement", store, "--format", "html", "--alert", "n < 0")
    assert page.code == 0 and "no row fired" in page.out


def test_the_command_writes_a_file_and_exits_with_8(cli, store, tmp_path):
    ran = cli("measure", "worklist", store, "--alert", "waited_seconds > 1d", "--out", tmp_path / "late.csv")
    rows = list(csv.DictReader((tmp_path / "late.csv").open(newline="")))
    assert ran.code == 8 and ran.out == "" and rows and all(float(row["waited_seconds"]) > 86400 for row in rows)


@pytest.mark.parametrize("rule,says", [("ack_2h < 0.5", "ack_1h"), ("ack_1h <", "expected"), ("brand > 5", "cannot be compared")])
def test_the_command_refuses_with_2(cli, store, rule, says):
    ran = cli("measure", "acknowledgement", store, "--set", "within=1h", "--set", "by=brand", "--alert", "n > 0", "--alert", rule)
    assert ran.code == 2 and ran.out == "" and says in ran.err and "Traceback" not in ran.err


def test_a_rule_that_cannot_be_read_is_refused_before_the_store_is_looked_at(cli, tmp_path):
    ran = cli("measure", "acknowledgement", tmp_path / "none.duckdb", "--alert", "n >")
    assert ran.code == 2 and "alert" in ran.err


def test_a_value_that_is_missing_is_told(cli, store):
    ran = cli("measure", "acknowledgement", store, "--set", "within=3650d", "--format", "csv", "--alert", "ack_3650d < 0.5")
    assert ran.code == 0 and "1 could not be judged" in ran.err
