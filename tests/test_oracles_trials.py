"""Emulated trials against a loop that writes every person-period of every trial on a row of its own, against other estimators, and against truths that a simulation of both worlds gives."""
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize

from scenarios_hazards import s2
from scenarios_trials import moving, truth
from trustlab import patterns, person_time, trials
from trustlab.core import InvalidParameter, NotIdentifiable


def table(people):
    "The person table of a simulated conversion (S2)"
    seen = lambda flag, stop: pl.when(pl.col(flag) == 1).then(stop)
    return people.select("id", "x", "proxy", entry=pl.lit(0.0), end="days", exposed_at="acked_at", event_at=seen("event", "stop"), negative_at=seen("control_event", "control_stop"))


def coarse(seed=1, n=300, **more):
    "A small town whose covariate has three levels, so that a model of it is saturated"
    people = table(s2(seed, n, ack=0.02, hazard=0.006, **more))
    return people.with_columns(x=pl.col("x").clip(-1.4, 1.4).round(0).cast(pl.Int64).replace_strict({-1: "low", 0: "mid", 1: "top"}, return_dtype=pl.String))


def ratio(result, estimand="hazard_ratio"): return result.frame.filter(estimand=estimand).row(0, named=True)


# ---- the loop

def logistic(x, t, prior):
    "Logistic regression by a general optimiser"
    worth = lambda b: np.logaddexp(0, x @ b).sum() - t @ (x @ b) + (prior * b**2).sum() / 2
    return minimize(worth, np.zeros(x.shape[1]), jac=lambda b: x.T @ (1 / (1 + np.exp(-x @ b)) - t) + prior * b, method="BFGS", options={"gtol": 1e-8}).x


def by_loop(frame, grid, every, horizon, weighted):
    "Every person-period of every trial, one at a time; weighted Poisson regression by a general optimiser; sums of scores by person. Returns the log hazard ratio and its robust error"
    people = list(frame.iter_rows(named=True))
    words = sorted(set(frame["x"]))
    dummies = {w: [1.0 * (w == v) for v in words[1:]] for w in words}
    share = np.array([dummies[p["x"]] for p in people])
    scaled = lambda p: (np.array(dummies[p["x"]]) - share.mean(0)) / share.std(0)
    never = float("inf")
    lives = []
    for p in people:
        event = never if p["event_at"] is None else p["event_at"]
        stop = min(p["end"], event)
        exposed = never if p["exposed_at"] is None or p["exposed_at"] >= stop else p["exposed_at"]
        lives.append((stop, event <= p["end"], exposed))
    chances, eligible, rate = {}, [], {}
    for i, (stop, _, exposed) in enumerate(lives):
        k = 0
        while stop > k * every and exposed > k * every:
            eligible.append((i, k, exposed <= (k + 1) * every))
            k += 1
    hits = np.zeros(max(k for _, k, _ in eligible) + 1)
    for _, k, hit in eligible: hits[k] += hit
    group = person_time.merged(hits, 20)
    x = np.array([[*(1.0 * (group[k] == g) for g in range(group.max() + 1)), *scaled(people[i])] for i, k, _ in eligible])
    beta = logistic(x, np.array([1.0 * hit for *_, hit in eligible]), np.append(np.full(group.max() + 1, 1e-9), np.full(share.shape[1], 0.1)))
    for (i, k, _), eta in zip(eligible, x @ beta): chances[i, k] = 1 / (1 + np.exp(-eta))
    for k in range(hits.size): rate[k] = hits[k] / sum(1 for _, kk, _ in eligible if kk == k)
    rows, edges = [], list(grid.edges)
    inside = [e for e in edges if e < every]
    clock = {}
    for k in range(hits.size):
        clock[k] = [e / every for e in edges]
        since = [lives[i][2] - k * every for i, kk, hit in eligible if kk == k and hit]
        if hits[k] >= 20: clock[k][: len(inside)] = [np.log(1 - rate[k] * sum(s <= e for s in since) / len(since)) / np.log(1 - rate[k]) if e else 0.0 for e in inside]
    for i, k, hit in eligible:
        stop, event, exposed = lives[i]
        s = k * every
        spans = [(0, 0.0, min(stop, exposed) - s, event and stop <= exposed, 1.0)]
        if hit: spans.append((1, exposed - s, stop - s, event, min(rate[k] / chances[i, k], 20) if weighted else 1.0))
        for arm, enter, leave, happened, weight in spans:
            for j in range(len(edges) - 1):
                a, b = max(enter, edges[j]), min(leave, edges[j + 1])
                if b <= a: continue
                factor = 1.0
                if arm and weighted and edges[j] < every:
                    part = max((clock[k][j] + min(clock[k][j + 1], 1)) / 2, 1e-6)
                    e = chances[i, k]
                    factor = np.clip(e / (1 - (1 - e) ** part) * (1 - (1 - rate[k]) ** part) / rate[k], 1 / 20, 20)
                z = np.zeros(grid.width)
                z[grid.period[j]] = 1
                if grid.trial[k]: z[grid.columns[0] + grid.trial[k] - 1] = 1
                if arm: z[-1] = 1
                rows.append((i, weight * factor, b - a, 1.0 * (happened and leave <= edges[j + 1] and leave > edges[j]), *z, *scaled(people[i])))
    data = np.array(rows)
    who, w, t, d, x = data[:, 0].astype(int), data[:, 1], data[:, 2], data[:, 3], data[:, 4:]
    prior = np.append(np.full(grid.width, 1e-9), np.full(share.shape[1], 0.1))
    worth = lambda b: (w * (t * np.exp(x @ b) - d * (x @ b))).sum() + (prior * b**2).sum() / 2
    start = np.append(np.full(grid.columns[0], np.log(d.sum() / t.sum())), np.zeros(x.shape[1] - grid.columns[0]))
    best = minimize(worth, start, jac=lambda b: x.T @ (w * (t * np.exp(x @ b) - d)) + prior * b, method="BFGS", options={"gtol": 1e-7, "maxiter": 2000}).x
    mean = t * np.exp(x @ best)
    inverse = np.linalg.inv(x.T @ (x * (w * mean)[:, None]) + np.diag(prior))
    meat = np.zeros((x.shape[1], x.shape[1]))
    for i in set(who):
        score = (x[who == i] * (w * (d - mean))[who == i, None]).sum(0)
        meat += np.outer(score, score)
    variance = inverse @ meat @ inverse * len(people) / (len(people) - 1)
    at = grid.width - 1
    return best[at], variance[at, at] ** 0.5, best, variance


@pytest.mark.parametrize("adjust", ["regression", "both"])
def test_every_person_period_on_a_row_of_its_own(adjust):
    frame = coarse()
    got = trials.sequential(frame, ["x"], horizon=60, every=20, adjust=adjust)
    found = trials.setting(frame, ["x"], None, 60, 20)
    _, design, _ = trials.nested_design(found, adjust, 20.0)
    grid = person_time.grid_of(found.edges, person_time.outcomes(design.groups(), found.edges, design.trials))
    log_ratio, error, *_ = by_loop(frame, grid, 20, 60, adjust == "both")
    row = ratio(got)
    assert abs(np.log(row["estimate"]) - log_ratio) < 2e-5, (np.log(row["estimate"]), log_ratio)
    assert abs(np.log(row["high"] / row["low"]) / 2 / 1.959964 / error - 1) < 2e-4


def test_risks_are_means_over_people_and_their_error_is_the_bootstrap_s():
    "The risk difference's error, which also counts who the people are, against drawing people"
    frame, rng = coarse(2, 400), np.random.default_rng(1)
    row = ratio(trials.sequential(frame, ["x"], horizon=60, every=20), "risk_difference")
    draws = []
    for _ in range(120):
        again = frame[rng.integers(0, 400, 400)].with_columns(id=pl.int_range(400))
        draws.append(ratio(trials.sequential(again, ["x"], horizon=60, every=20), "risk_difference")["estimate"])
    assert abs((row["high"] - row["low"]) / 2 / 1.96 / np.std(draws) - 1) < 0.2 and abs(np.mean(draws) - row["estimate"]) < 0.4 * np.std(draws)


def test_who_the_people_are_is_part_of_the_error():
    "The risk difference's variance is the sum over people of squares of what they do to the coefficients and to the mean; nine more people like each, watched for an instant, change no risk"
    people = coarse(4, 400)
    ghosts = pl.concat([people.with_columns(id=pl.col("id") + 1000 * k, end=pl.lit(1e-7), exposed_at=pl.lit(None, pl.Float64), event_at=pl.lit(None, pl.Float64)) for k in range(1, 10)])
    found = [ratio(trials.sequential(f, ["x"], horizon=60, every=20, adjust="regression"), "risk_difference") for f in (people, pl.concat([people, ghosts]))]
    setting = trials.setting(people, ["x"], None, 60, 20)
    _, design, _ = trials.nested_design(setting, "regression", 20.0)
    grid = person_time.grid_of(setting.edges, person_time.outcomes(design.groups(), setting.edges, design.trials), [60.0])
    fit = person_time.newton(*person_time.tally(design.groups(), setting.alike, grid), grid.z, setting.alike.x)
    by, slopes = person_time.risks(fit, grid, setting.alike, 60.0)
    gap, n = np.diff(by)[setting.alike.at(0), 0], 400
    through = person_time.pulls(design.groups(), n, setting.alike, grid, fit, fit.inverse @ slopes.T)
    through = through[:, 1] - through[:, 0]
    variance = [((r["high"] - r["low"]) / 2 / 1.959964) ** 2 for r in found]
    assert np.isclose(found[0]["estimate"], gap.mean()) and np.isclose(found[1]["estimate"], gap.mean(), rtol=1e-3)
    assert np.isclose(variance[0], n / (n - 1) * sum((through[i] + (gap[i] - gap.mean()) / n) ** 2 for i in range(n)), rtol=1e-5)
    assert not np.isclose(variance[0], n / (n - 1) * (through**2).sum(), rtol=1e-4)


def test_two_groups_without_covariates_by_hand():
    "One window that covers all, nobody leaves: the hazard ratio is events over days in either group"
    n, rng = 400, np.random.default_rng(3)
    exposed = np.where(rng.random(n) < 0.5, 0.0, np.inf)
    event = rng.exponential(1, n) / np.where(exposed == 0, 0.02, 0.01)
    frame = pl.DataFrame({"entry": np.zeros(n), "end": np.full(n, 50.0), "exposed_at": exposed, "event_at": event}).with_columns(
        exposed_at=pl.when(pl.col("exposed_at").is_finite()).then("exposed_at"), event_at=pl.when(pl.col("event_at") <= 50).then("event_at"))
    row = ratio(trials.sequential(frame, horizon=50, every=50))
    rate = [(event[exposed == v] <= 50).sum() / np.minimum(event[exposed == v], 50).sum() for v in (0.0, np.inf)]
    assert abs(np.log(row["estimate"]) - np.log(rate[0] / rate[1])) < 0.05 and row["n"] == n and row["events"] == (event <= 50).sum() and row["exposed"] == (exposed == 0).sum()


# ---- other estimators

def test_pooled_logistic_regression_with_short_periods_is_the_same():
    "Days as periods: the odds ratio of pooled logistic regression and the hazard ratio of the same table agree to a tenth of its error"
    rng = np.random.default_rng(4)
    n, days = 4000, 60
    x, arm = rng.integers(0, 3, n), rng.integers(0, 2, n)
    time = np.ceil(rng.exponential(1, n) / (0.004 * np.exp(0.4 * x + 0.5 * arm)))
    z = np.array([[1.0, a, *(1.0 * (d // 12 == g) for g in range(1, 5))] for a in (0, 1) for d in range(days)])
    hits, size = np.zeros((2 * days, 3)), np.zeros((2 * days, 3))
    for a in (0, 1):
        for v in range(3):
            t = time[(arm == a) & (x == v)]
            hits[a * days : (a + 1) * days, v] = [(t == d + 1).sum() for d in range(days)]
            size[a * days : (a + 1) * days, v] = [(t > d).sum() for d in range(days)]
    one = person_time.newton(hits, size, z, np.eye(3)[:, 1:], logistic=True)
    other = person_time.newton(hits, size - hits / 2, z, np.eye(3)[:, 1:])
    assert abs(one.a[1] - other.a[1]) < 0.1 * np.sqrt(one.inverse[1, 1]) and abs(one.a[1] - 0.5) < 3 * np.sqrt(one.inverse[1, 1])


def test_the_time_varying_hazard_ratio_is_cox_s():
    hazards = pytest.importorskip("trustlab.hazards")
    from scenarios_hazards import intervals
    for seed, hr in ((5, 1.5), (6, 1.0), (7, 2.5)):
        people = s2(seed, 2000, hr=hr)
        found = trials.setting(table(people), ["x"])
        curve = people.select("id").with_columns(pl.Series(f"x{i}", column) for i, column in enumerate(found.alike.x[found.alike.at(0)].T))
        cox = hazards.cox(intervals(people).join(curve, on="id"), "start", "stop", "event", ["acked", "x0", "x1", "x2"], cluster="id").row(0, named=True)
        row = ratio(trials.time_varying(table(people), ["x"]))
        assert abs(np.log(row["estimate"]) - cox["coef"]) < 0.2 * cox["robust_se"], (np.log(row["estimate"]), cox["coef"])
        assert abs(np.log(row["high"] / row["low"]) / 2 / 1.96 / cox["robust_se"] - 1) < 0.04


# ---- a covariate that moves, and is moved

@pytest.mark.parametrize("push", [0.0, 0.5])
def test_both_worlds(push):
    "The two risks against a simulation in which nobody, and everybody, is exposed; without the censoring weights the unexposed world is wrong, unadjusted both are"
    worlds = truth(90, 400_000, push=push)
    got = {adjust: [] for adjust in ("both", "regression", "none")}
    for seed in (21, 22, 23):
        people, history = moving(seed, 20_000, push=push)
        for adjust in got: got[adjust].append(trials.sequential(people, ["l"], history, adjust=adjust))
    mean = {adjust: np.mean([r.curves.select("unexposed", "exposed").row(0) for r in results], axis=0) for adjust, results in got.items()}
    low, high = (np.mean([ratio(r, "risk_difference")[end] for r in got["both"]]) for end in ("low", "high"))
    se = (high - low) / 3.92 / 3**0.5
    assert abs(mean["both"][0] - worlds[0]) < 0.007 and abs(mean["both"][1] - worlds[1]) < 3 * se and abs(np.diff(mean["both"])[0] - np.diff(worlds)[0]) < 3 * se, (mean, worlds)
    assert mean["regression"][0] < worlds[0] - 0.009 and np.diff(mean["none"])[0] > np.diff(worlds)[0] + 0.06, (mean, worlds)
    direct = np.log(np.mean([ratio(trials.time_varying(*[moving(seed, 12_000, push=push)[0], ["l"], moving(seed, 12_000, push=push)[1]]))["estimate"] for seed in (21, 22)]))
    assert abs(direct - np.log(1.5)) < 0.08, "given the covariate that it moves, the exposure has its direct effect only"


def test_a_history_that_does_not_move_is_a_column():
    people = table(s2(8, 1500))
    once = people.select("id", "x", time="entry")
    one, other = (ratio(trials.sequential(*args)) for args in ((people, ["x"]), (people.drop("x"), ["x"], once)))
    assert abs(np.log(one["estimate"] / other["estimate"])) < 0.02 and one["events"] == other["events"]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-20, 60)), max_size=20), st.sampled_from([5, 7, 14]))
def test_tallies_by_loops(acts, every):
    "At every trial start of every person, the last record at or before it has the counts that a loop over the acts gives"
    people = pl.DataFrame({"id": [0, 1, 2, 3], "entry": [0.0, 3.0, 10.0, -4.0]})
    frame = pl.DataFrame({"id": [a for a, _ in acts], "time": [float(t) for _, t in acts]}, {"id": pl.Int64, "time": pl.Float64})
    got = patterns.tallies(people, frame, every, ("7d", "30d"))
    for person, entry in people.iter_rows():
        for k in range(16):
            s, mine = entry + k * every, [float(t) for a, t in acts if a == person]
            want = [sum(t <= s for t in mine), sum(s - 7 <= t <= s for t in mine), sum(s - 30 <= t <= s for t in mine)]
            held = got.filter((pl.col("id") == person) & (pl.col("time") <= s + 1e-9)).tail(1)
            assert (list(held.row(0)[2:]) if held.height else [0, 0, 0]) == want


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-10, 50), st.integers(1, 9)), max_size=15))
def test_the_last_record_holds(records):
    records = sorted(records, key=lambda r: r[1])
    who, since, code = (np.array([r[i] for r in records], dtype=t) for i, t in ((0, np.int64), (1, float), (2, np.uint8)))
    got = patterns.held(code, who, since, 5, 7.0, np.array([0, 0, 0], np.uint8))
    for person in range(3):
        for k in range(5):
            mine = [c for p, t, c in records if p == person and t <= 7 * k]
            assert got[k, person] == (mine[-1] if mine else 0)


# ---- what must not matter

def test_order_names_clock_and_unit():
    people = table(s2(9, 800))
    base = trials.sequential(people, ["x"], negative="negative_at").frame
    order = np.random.default_rng(1).permutation(800)
    shuffled = people[order].with_columns(id=pl.lit("person ") + pl.col("id").cast(str))
    later = people.with_columns(pl.col("entry", "end", "exposed_at", "event_at", "negative_at") + 1234.0)
    start = datetime(2024, 2, 1)
    stamped = people.with_columns((pl.lit(start) + pl.duration(microseconds=(pl.col(c) * 86_400_000_000).round().cast(pl.Int64))).alias(c) for c in ("entry", "end", "exposed_at", "event_at", "negative_at"))
    numbers = lambda frame: frame.select(pl.col(pl.Float64)).fill_null(0).to_numpy()
    for other, tolerance in ((shuffled, 1e-9), (later, 1e-9), (stamped, 1e-6)):
        assert np.allclose(numbers(trials.sequential(other, ["x"], negative="negative_at").frame), numbers(base), rtol=tolerance, atol=tolerance)
    assert trials.sequential(people, ["x"], horizon="90d", every="14d").frame.equals(trials.sequential(people, ["x"], horizon=90, every=14.0).frame)


def test_everybody_twice():
    "Twice as many independent people: the same estimate, errors smaller by √2; as clusters of two: the same errors"
    people = table(s2(10, 700))
    twice = pl.concat([people.with_columns(cluster=pl.col("id")), people.with_columns(cluster=pl.col("id"), id=pl.col("id") + 10_000)])
    once, free, bound = (ratio(trials.sequential(f, ["x"])) for f in (people, twice.drop("cluster"), twice))
    width = lambda r: np.log(r["high"] / r["low"])
    assert abs(np.log(free["estimate"] / once["estimate"])) < 0.004 and abs(width(once) / width(free) / 2**0.5 - 1) < 0.01 and abs(width(bound) / width(once) - 1) < 0.01
    assert free["events"] == 2 * once["events"]


def test_an_answer_after_the_outcome_changes_nothing():
    people = table(s2(11, 800))
    thanked = people.with_columns(exposed_at=pl.when((pl.col("exposed_at") > pl.col("event_at")) | (pl.col("exposed_at").is_null() & pl.col("event_at").is_not_null())).then(pl.col("event_at") + 0.5).otherwise("exposed_at"))
    assert thanked["exposed_at"].null_count() < people["exposed_at"].null_count()
    one, other = trials.sequential(people, ["x"]), trials.sequential(thanked, ["x"])
    assert one.frame.equals(other.frame) and one.notes != other.notes


# ---- refusals

def test_refusals_say_the_numbers():
    people = table(s2(12, 400))
    no = pl.lit(None, pl.Float64)
    for frame, said in ((people.with_columns(exposed_at=no), "Nobody of 400 people was exposed"), (people.with_columns(event_at=no), "0 of"), (people.head(1), "at least two people"), (people.with_columns(exposed_at=pl.col("event_at")), "Nobody of"),
                        (people.with_columns(end=pl.lit(0.0)), "watching ended at or before entry"), (people.with_columns(exposed_at="entry"), "All 400 people"),
                        (people.with_columns(event_at=pl.when(pl.col("exposed_at").is_null()).then("event_at")), "of .* exposed people had the outcome"),
                        (people.with_columns(end=pl.min_horizontal("end", pl.lit(40.0))).with_columns(event_at=pl.when(pl.col("event_at") < 40).then("event_at"), exposed_at=pl.when(pl.col("exposed_at") < 40).then("exposed_at")), "a horizon of 90 days has no answer")):
        with pytest.raises(NotIdentifiable, match=said): trials.sequential(frame, ["x"])
    decided = people.with_columns(vip=((pl.col("exposed_at") < 14) & (pl.col("exposed_at") < pl.col("event_at").fill_null(999))).fill_null(False)).with_columns(exposed_at=pl.when("vip").then("exposed_at"))
    with pytest.raises(NotIdentifiable, match="like chance of exposure"): trials.sequential(decided, ["vip"])
    for name in ("landmark", "time_varying", "matched"):
        with pytest.raises(NotIdentifiable): getattr(trials, name)(people.with_columns(exposed_at=no), ["x"])
    with pytest.raises(NotIdentifiable): trials.naive_ever(people.with_columns(exposed_at=no))


def test_wrong_arguments_are_named():
    people = table(s2(13, 200))
    for call, said in ((lambda: trials.sequential(people.drop("entry")), "entry"), (lambda: trials.sequential(people, ["y"]), "covariates"), (lambda: trials.sequential(people, ["x"], horizon="soon"), "horizon"), (lambda: trials.sequential(people, ["x"], horizon=()), "horizon"),
                       (lambda: trials.sequential(people, ["x"], every=-1), "every"), (lambda: trials.sequential(people, ["x"], every=0.001), "every"), (lambda: trials.sequential(people, ["x"], adjust="all"), "adjust"), (lambda: trials.sequential(people, ["x"], cap=0.5), "cap"),
                       (lambda: trials.sequential(people, ["x"], negative="nothing"), "negative"), (lambda: trials.sequential(people, ["x"], pl.DataFrame({"id": [1], "x": [1]})), "time"), (lambda: trials.sequential(people.with_columns(entry=pl.lit("now"))), "entry must hold times"),
                       (lambda: trials.sequential(people.with_columns(name=pl.col("id").cast(str) + "!").vstack(people.with_columns(pl.col("id") + 200, name=pl.col("id").cast(str))), ["name"]), "categor"),
                       (lambda: trials.sequential(pl.concat([people, people]), ["x"]), "200 rows repeat one")):
        with pytest.raises(InvalidParameter, match=said): call()


@pytest.mark.parametrize("name", ["sequential", "time_varying", "landmark", "matched"])
def test_no_design_speaks_where_nothing_was_adjusted_for_or_known(name):
    "The exposure does nothing, and one trait decides over it and the outcome: without the trait, with a constant, and where it is unknown of three in ten, every way finds an effect, and none says so"
    rng, n = np.random.default_rng(3), 3000
    x, entry = rng.normal(size=n), rng.uniform(0, 100, n)
    seen = lambda rate: pl.Series(np.where((at := entry + rng.exponential(1 / (rate * np.exp(x)))) < 300, at, np.nan)).fill_nan(None)
    people = pl.DataFrame({"entry": entry, "end": 300.0, "exposed_at": seen(0.01), "event_at": seen(0.004), "x": x, "same": 1.0})
    some = people.with_columns(x=pl.when(pl.Series(rng.random(n) < 0.3)).then(None).otherwise("x"))
    design = getattr(trials, name)
    for found, why in ((design(people), "nothing was adjusted for"), (design(people, ["same"]), "nothing was adjusted for"), (design(some, ["x"]), "x is not known in ")):
        row = ratio(found)
        assert row["estimate"] > 1.1 and found.verdict.startswith("No causal reading: ") and why in found.verdict, found.verdict
    assert [note for note in found.notes if note.startswith("x has no value in ")] and "x: missing" in found.balance["covariate"].to_list()
    assert "not known" not in design(some.with_columns(pl.col("x").fill_null(0)), ["x"]).verdict


def test_the_missing_are_counted_by_hand():
    "Of ten people two have no number and one no word; a history knows one of them later"
    people = pl.DataFrame({"id": range(10), "entry": 0.0, "end": 30.0, "exposed_at": [3.0, 4, 5, None, None, None, None, 20, 20, 20], "event_at": [9.0, None] * 5, "x": [None, 1, 2, 3, None, 5, 6, 7, 8, 9], "word": [None, *"ababababa"]}, strict=False)
    crowd = patterns.followed(people)
    told = lambda names, history=None: patterns.patterns(patterns.classed(people, crowd, names, history, 14.0, 3), crowd.n).unknown
    assert told(["x", "word"]) == pytest.approx({"x": 0.2, "word": 0.1}) and told([]) == {}
    assert told(["x"], pl.DataFrame({"id": [4], "time": [14.0], "x": [4]})) == pytest.approx({"x": (2 + 1 + 1) / 30})


def test_a_time_varying_ratio_needs_people_to_compare():
    "Exposure is possible above a limit only: no way of adjusting has anybody to compare the exposed with"
    rng, n = np.random.default_rng(1), 2000
    x = rng.normal(size=n)
    people = pl.DataFrame({"entry": np.zeros(n), "end": 200.0, "exposed_at": np.where(x > 0.3, rng.uniform(0, 60, n), np.nan), "event_at": np.where(rng.random(n) < 0.5, rng.uniform(1, 199, n), np.nan), "g": np.where(x > 0.3, "hot", "cold"), "x": x}).with_columns(pl.col("exposed_at", "event_at").fill_nan(None))
    told = trials.time_varying(people, ["x"])
    assert told.verdict.startswith("No causal reading: ") and told.overlap is not None and told.balance.height and told.frame["max_smd"][0] > 0.1 and told.frame["effective_n"][0] is not None


def test_left_out_people_are_counted():
    people = table(s2(14, 500)).with_columns(end=pl.when(pl.col("id") < 3).then(None).otherwise("end"), exposed_at=pl.when(pl.col("id").is_between(3, 9)).then(-1.0).otherwise("exposed_at"),
                                             competing_at=pl.when(pl.col("id").is_between(10, 200)).then(pl.col("end") / 2))
    result = trials.sequential(people, ["x"])
    assert result.frame["n"][0] == 490 and any(note.startswith("3 people without") for note in result.notes) and any(note.startswith("7 people exposed before") for note in result.notes) and any("ended otherwise" in note for note in result.notes)


def test_compare_has_every_way_and_the_first_row_is_the_trials():
    frame, first, notes = trials.compare(table(s2(15, 1000)), ["x"], horizon=("30d", "90d"), negative="negative_at")
    assert frame.columns == list(trials.FRAME) and frame["method"][0] == "trials" and frame["estimand"][0] == "risk_difference"
    assert set(frame["method"]) == {"trials", "time_varying", "landmark", "landmark_itt", "matched", "trials_unadjusted", "naive_ever"} and first.frame.equals(frame.filter(method="trials"))
    assert frame.filter(pl.col("estimand") == "hazard_ratio").height == 7 and (frame["low"] <= frame["estimate"]).all() and (frame["estimate"] <= frame["high"]).all() and any("telling pairs" in n for n in notes)
    short, _, notes = trials.compare(table(s2(15, 1000)).with_columns(pl.col("end").clip(None, 100.0)).with_columns(pl.when(pl.col("event_at") <= 100).then("event_at").alias("event_at")), ["x"])
    assert "landmark" not in set(short["method"]) and any(n.startswith("landmark has no answer") for n in notes)
