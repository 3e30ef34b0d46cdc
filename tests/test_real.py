"""Real data, whose numbers others published or plain Python counts again; skipped, visibly, where they are not at hand."""
import csv
import json

import duckdb
import polars as pl
import pytest

import trustlab as tl
from test_oracles_measures import check_notes, check_units, check_weeks, check_worklist, gave_back, same_reciprocity, tweets
from trustlab import census
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


@pytest.mark.parametrize(("window", "plain", "rate", "of_pairs"), [("1h", 0.30681, 0.306836, 0.17430), ("24h", 0.49281, 0.492969, 0.34022), (None, 0.63901, None, 0.46669)])
def test_college_messages_returned_in_time(messages, window, plain, rate, of_pairs):
    "Row 25: of messages and of pairs, within a window and at any time (a window as long as the data)"
    lab, rows = messages
    window = window or max(t for _, _, t in rows) - min(t for _, _, t in rows)
    row, acts, pairs = numbers(tl.reciprocity(lab, window=window)), *(numbers(tl.return_times(lab, by=(), window=window, unit=unit)) for unit in ("act", "pair"))
    assert abs(row["returned"] / row["given"] - plain) < 1e-5 and [row[c] for c in ("given", "returned", "returning_acts", "return_rate", "median_return_seconds")] == [acts[c] for c in ("given", "returned", "returning_acts", "return_rate", "median_return_seconds")]
    assert acts["naive_median_seconds"] == 4778 < acts["median_return_seconds"]
    assert pairs["given"] == 13_838 and abs(pairs["returned"] / pairs["given"] - of_pairs) < 1e-5 and pairs["naive_median_seconds"] == 14_088 and pairs["median_return_seconds"] is None
    for found in (row, acts) if rate else ():
        assert abs(found["return_rate"] - rate) < 1e-6 and found["return_rate_low"] < rate < found["return_rate_high"]
    assert acts["return_rate_high"] - acts["return_rate_low"] > 2 * (row["return_rate_high"] - row["return_rate_low"]), "busy pairs make the interval by acts too narrow"


def test_first_weeks_of_college_messages_by_loops(messages):
    rows = messages[1][:1500]
    with tl.from_acts(pl.DataFrame(rows, schema=["from", "to", "occurred_at"], orient="row")) as lab:
        same_reciprocity(tl.reciprocity(lab, window="24h").frame, gave_back([(str(a), str(b), t) for a, b, t in rows], 86400))


MOTIFS = """
with act as (select row_number() over (order by t, row) as n, t // $window as slot, u, v, t from messages),
later as (select slot - back as slot, n, u, v, t from act cross join (select unnest([0, 1]) as back) x),
two as (select o.n as n2, a.slot, a.t as t1, o.t as t2, a.u as a, a.v as b, o.u as u2, o.v as v2, case when o.u not in (a.u, a.v) then o.u when o.v not in (a.u, a.v) then o.v end as c
  from act a join later o on o.slot = a.slot and o.n > a.n and o.t <= a.t + $window where o.u in (a.u, a.v) or o.v in (a.u, a.v)),
three as (select w.*, o.t as t3, o.u as u3, o.v as v3 from two w join later o on o.slot = w.slot and o.n > w.n2 and o.t <= w.t1 + $window
  where case when c is null then o.u in (a, b) or o.v in (a, b) else o.u in (a, b, c) and o.v in (a, b, c) end)
select 'ab ' || {u2} || {v2} || ' ' || {u3} || {v3} as pattern, count(*) as n, count(*) filter (where t1 < t2 and t2 < t3) as apart from three group by pattern
""".format(**{end: f"case {end} when a then 'a' when b then 'b' else 'c' end" for end in ("u2", "v2", "u3", "v3")})


def motifs(con, window): return {pattern: (n, apart) for pattern, n, apart in con.execute(MOTIFS, {"window": window}).fetchall()}


def test_loops_are_cells_of_the_census_of_motifs(messages, shared):
    """Row 23: all sequences of three acts among at most three people, by self-joins. In the order of the file they are those of the paper's own counter, cell by cell at 300 seconds and in total at 600;
    with acts of one second in no order, the one that goes round is the library's loop of three. Of two acts it is an act and one back, counted apart"""
    lab, rows = messages
    con = duckdb.connect()
    con.execute("create table messages as select unnest($row) as row, unnest($u) as u, unnest($v) as v, unnest($t) as t", dict(zip(("row", "u", "v", "t"), ([*range(len(rows))], *map(list, zip(*rows))))))
    printed = {r["pattern"]: (int(r["brute_file_order_ties"]), int(r["brute_strict_increasing"])) for r in csv.DictReader((shared / "snap-temporalmotifs" / "collegemsg_motifs.csv").open(newline=""))}
    five, ten = motifs(con, 300), motifs(con, 600)
    assert five == printed and len(ten) == 36 and sum(n for n, _ in ten.values()) == expected(shared, "temporal_motif_total_600") == 400_380
    for window, cells in ((300, five), (600, ten)):
        back = con.execute("select count(*) from messages a join messages b on b.u = a.v and b.v = a.u and b.t > a.t and b.t <= a.t + $w", {"w": window}).fetchone()
        assert tl.loops(lab, max_length=3, window=window).frame["count"].to_list() == [*back, cells["ab bc ca"][1]]
    assert ten["ab bc ca"] == (225, 225)


def ties_of(pairs): return tl.from_acts(pl.DataFrame(pairs, schema=["from", "to"], orient="row").with_columns(occurred_at=1_000_000_000))


@FEW
def test_krackhardt_friends(shared):
    "Row 21, the null model as well: so many ties in and out for everybody, and who is tied to whom drawn"
    rows = csv.DictReader((shared / "ref" / "krackhardt" / "krackhardt_friendship.csv").open(newline=""))
    with ties_of([(r["ego"], r["alter"]) for r in rows if r["friendship_tie"] == "1"]) as lab: row, threes = numbers(tl.reciprocity(lab, null="configuration", draws=999)), tl.triads(lab).frame
    assert (row["accounts"], row["edges"], row["mutual"], row["asymmetric"]) == (21, 102, 23, 56)
    assert (round(row["edge_reciprocity"], 4), round(row["rho"], 4)) == (0.4510, 0.2749) and row["returned"] == 0
    assert threes["count"].to_list() == expected(shared, "krackhardt_friendship_triads") and threes["triad"].to_list() == [*census.TRIADS] and threes["count"].sum() == 1330
    assert row["null_mean"] == pytest.approx(0.278, abs=0.006) and row["null_sd"] == pytest.approx(0.039, abs=0.004) and row["z"] == pytest.approx(4.5, abs=0.6)


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
