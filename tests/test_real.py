"""Real data, whose numbers others published or plain Python counts again; skipped, visibly, where they are not at hand."""
import csv
import json

import polars as pl
import pytest

import trustlab as tl
from test_oracles_measures import check_notes, check_units, check_weeks, check_worklist, gave_back, same_reciprocity, tweets
from trustlab.core import NotIdentifiable, ScopeWarning

FEW = pytest.mark.filterwarnings("ignore::trustlab.core.SmallSample")


def numbers(measure): return measure.frame.row(0, named=True)


def expected(shared, name): return json.loads((shared / "ref" / "expected_open.json").read_text())[name]


# ---- networks

@pytest.fixture(scope="module")
def messages(shared):
    rows = [tuple(map(int, line.split())) for line in (shared / "collegemsg" / "CollegeMsg.txt").read_text().splitlines()[1:]]
    with tl.from_acts(pl.DataFrame(rows, schema=["from", "to", "occurred_at"], orient="row")) as lab: yield lab, rows


def test_college_messages(messages, shared):
    "Row 18; the numeric symmetry is that of the matrix of counts, as SuiteSparse prints it: 26.3 %"
    lab, rows = messages
    row, known = numbers(tl.reciprocity(lab, window="1h")), expected(shared, "collegemsg")
    assert (row["accounts"], row["given"], row["edges"]) == (known["n"], known["events"], known["arcs"]) == (1899, 59835, 20296)
    assert abs(row["edge_reciprocity"] - known["r"]) < known["tol"] and abs(row["rho"] - known["rho"]) < known["tol"]
    assert (row["mutual"], row["asymmetric"]) == (6458, 7380)
    assert abs(row["numeric_symmetry"] - 0.26320) < 5e-6 and row["numeric_symmetry"] == 5342 / 20296


@pytest.mark.parametrize(("window", "plain", "rate"), [("1h", 0.30681, 0.306836), ("24h", 0.49281, 0.492969)])
def test_college_messages_returned_in_time(messages, window, plain, rate):
    row = numbers(tl.reciprocity(messages[0], window=window))
    assert abs(row["returned"] / row["given"] - plain) < 1e-5 and abs(row["return_rate"] - rate) < 1e-5
    assert row["return_rate_low"] < rate < row["return_rate_high"]


def test_college_messages_returned_at_any_time(messages):
    lab, rows = messages
    span = max(t for _, _, t in rows) - min(t for _, _, t in rows)
    row = numbers(tl.reciprocity(lab, window=span))
    assert abs(row["returned"] / row["given"] - 0.63901) < 1e-5


def test_first_weeks_of_college_messages_by_loops(messages):
    rows = messages[1][:1500]
    with tl.from_acts(pl.DataFrame(rows, schema=["from", "to", "occurred_at"], orient="row")) as lab:
        same_reciprocity(tl.reciprocity(lab, window="24h").frame, gave_back([(str(a), str(b), t) for a, b, t in rows], 86400))


def ties_of(pairs): return tl.from_acts(pl.DataFrame(pairs, schema=["from", "to"], orient="row").with_columns(occurred_at=1_000_000_000))


@FEW
def test_krackhardt_friends(shared):
    rows = csv.DictReader((shared / "ref" / "krackhardt" / "krackhardt_friendship.csv").open(newline=""))
    with ties_of([(r["ego"], r["alter"]) for r in rows if r["friendship_tie"] == "1"]) as lab: row = numbers(tl.reciprocity(lab))
    assert (row["accounts"], row["edges"], row["mutual"], row["asymmetric"]) == (21, 102, 23, 56)
    assert (round(row["edge_reciprocity"], 4), round(row["rho"], 4)) == (0.4510, 0.2749) and row["returned"] == 0


def test_advogato_without_those_who_certify_themselves(shared):
    lines = (line.split() for line in (shared / "advogato" / "out.advogato").read_text().splitlines() if not line.startswith("%"))
    with ties_of(pairs := [tuple(line[:2]) for line in lines]) as lab: measure = tl.reciprocity(lab)
    own = sum(a == b for a, b in pairs)
    assert (len(pairs), own) == (51127, 3992) and f"left out: {own:,} acts towards oneself" in measure.notes
    assert round(numbers(measure)["edge_reciprocity"], 6) == 0.333086


def test_bitcoin_alpha(shared):
    rows = [(r["Source"], r["Target"], int(r["Time"])) for r in csv.DictReader((shared / "bitcoin-alpha" / "soc-sign-bitcoinalpha.csv").open(newline=""))]
    with tl.from_acts(pl.DataFrame(rows, schema=["from", "to", "occurred_at"], orient="row")) as lab: row = numbers(tl.reciprocity(lab))
    assert (row["accounts"], row["edges"], round(row["edge_reciprocity"], 6)) == (3783, 24186, 0.832052)


# ---- brands and their customers

@pytest.fixture(scope="module", params=["twcs-first-rows-pandas/twcs.csv", "twcs-sample/sample.csv"])
def support(request, shared):
    with tl.Lab() as lab:
        receipt = lab.load(shared / request.param)
        yield lab, tweets(shared / request.param), receipt.loads[0]["scope"]


@FEW
def test_a_collection_of_the_answered_warns_and_answers(shared):
    with tl.Lab() as lab:
        assert lab.load(shared / "twcs-first-rows-pandas" / "twcs.csv").loads[0]["scope"] == "answered"
        with pytest.warns(ScopeWarning, match="selected on the outcome"): measure = tl.acknowledgement(lab)
        with pytest.warns(ScopeWarning): tl.conversion(lab)
    assert any("selected on the outcome" in note for note in measure.notes)
    assert measure.frame.select("n", "acknowledged", "pending").row(0) == (1410, 1353, 57)


@pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")
@pytest.mark.parametrize("unit", ["conversation", "run", "post"])
def test_acknowledgement_by_the_rules(support, unit): check_units(*support[:2], unit)


@pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")
def test_weeks_work_list_and_what_is_left_out_by_the_rules(support):
    lab, rows, _ = support
    check_notes(lab, rows), check_worklist(lab, rows), check_worklist(lab, rows, "run")
    for tz in ("UTC", "America/New_York"): check_weeks(lab, rows, tz)


@pytest.mark.parametrize("name", ["acknowledgement", "worklist", "reciprocity", "conversion"])
def test_requests_alone_answer_nothing(shared, name):
    with tl.Lab() as lab:
        lab.load(shared / "twcs-spotify-requests" / "support_requests.csv")
        with pytest.raises(NotIdentifiable, match="one side only"): getattr(tl, name)(lab)


@pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")
def test_a_slack_workspace_with_one_of_its_members_as_the_brand(shared):
    path = shared / "slack-export-viewer" / "testarchive.zip"
    with tl.Lab() as lab:
        lab.load(path)
        member = lab.sql("select a.handle from post p join account a on a.account_key = p.author_key where p.kind = 'post' and a.kind = 'person' group by a.handle order by count(*) desc, a.handle limit 1")["handle"][0]
    with tl.Lab() as lab:
        lab.load(path, brand=member)
        row, why = numbers(tl.acknowledgement(lab, by="brand")), dict(lab.sql("select why_not, count(*) from inbound group by why_not").rows())
        replies = lab.sql("select count(*) from brand_reply").row(0)[0]
        others = lab.sql("select count(*) from post p join account a on a.account_key = p.author_key where p.kind = 'post' and lower(a.handle) <> lower($m) and a.kind <> 'bot'", m=member).row(0)[0]
        assert row["brand"] == member and row["n"] == row["acknowledged"] + row["pending"] and 0 < why[None] <= others
        assert replies == 0 and row["acknowledged"] == 0, "the archive is older than threads: nothing in it says what answers what"
