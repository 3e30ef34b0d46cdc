"""Survival curves against a plain-Python loop, scikit-survival and published numbers, and against what must not change them."""
import json
import math
import warnings
from pathlib import Path
from statistics import NormalDist
from time import process_time

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings, strategies as st

from trustlab.core import InvalidParameter, SmallSample
from trustlab.intervals import wilson
from trustlab.survival import aalen_johansen, at_horizons, curve, kaplan_meier, quantile

REF = Path(__file__).resolve().parents[1] / "../shared/data/ref"
Z = NormalDist().inv_cdf(0.975)
waits = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=40)
entered = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3), st.integers(1, 12)), min_size=1, max_size=40)
grouped = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=60)


def loop(rows, k):
    """Aalen–Johansen of cause k by its definition; rows are (time, cause, entry); a list of dicts, one a distinct time."""
    out, survival, total, past = [], 1.0, 0.0, []
    for t in sorted({time for time, _, _ in rows}):
        n = sum(entry < t <= time for time, _, entry in rows)
        d = sum(time == t and cause > 0 for time, cause, _ in rows)
        dk = sum(time == t and cause == k for time, cause, _ in rows)
        total += survival * dk / n
        past.append((n, d, dk, survival, total))
        survival *= 1 - d / n
        variance = sum(
            ((total - f) ** 2 * d / (n * (n - d)) if n > d else 0) + s * s * dk * (n - dk) / n**3 - 2 * (total - f) * s * dk / n**2
            for n, d, dk, s, f in past)
        out.append(dict(time=t, at_risk=n, events=dk, ended=d, survival=survival, estimate=total, variance=variance))
    return out


def band(probability, variance):
    """The log–log interval of a probability that may be 0 or 1."""
    if not 1e-12 < probability < 1 - 1e-12: return None, None
    s = math.sqrt(max(variance, 0)) / (probability * -math.log(probability))
    return tuple(probability ** math.exp(sign * Z * s) for sign in (1, -1))


def same(frame, column, values, atol=1e-9):
    got = frame[column].to_list()
    assert [x is None for x in got] == [x is None for x in values], (column, got, values)
    assert np.allclose([x for x in got if x is not None], [x for x in values if x is not None], rtol=1e-9, atol=atol), (column, got, values)


def check_both(rows, entry):
    time, cause, entries = zip(*rows)
    km = kaplan_meier(time, [c > 0 for c in cause], entry=entries if entry else None)
    slow = loop(rows, 1)
    same(km, "time", [r["time"] for r in slow]), same(km, "at_risk", [r["at_risk"] for r in slow])
    same(km, "events", [r["ended"] for r in slow]), same(km, "survival", [r["survival"] for r in slow])
    same(km, "censored", [sum(t == r["time"] and c == 0 for t, c, _ in rows) for r in slow])
    greenwood, ends = 0.0, []
    for r in slow:
        greenwood += r["ended"] / (r["at_risk"] * (r["at_risk"] - r["ended"])) if r["at_risk"] > r["ended"] else 0
        ends.append(band(r["survival"], r["survival"] ** 2 * greenwood))
    same(km, "low", [low for low, _ in ends], 1e-7), same(km, "high", [high for _, high in ends], 1e-7)
    aj = aalen_johansen(time, cause, entry=entries if entry else None)
    assert aj["cause"].unique().sort().to_list() == list(range(1, max(1, *cause) + 1))
    for k in range(1, max(1, *cause) + 1):
        part, slow = aj.filter(cause=k), loop(rows, k)
        for name in ("time", "at_risk", "events", "estimate"): same(part, name, [r[name] for r in slow])
        same(part, "se", [math.sqrt(max(r["variance"], 0)) for r in slow], 1e-7)
        for r, low, high in zip(slow, part["low"], part["high"]):
            a, b = band(1 - r["estimate"], r["variance"])
            assert (low is None) == (b is None) and (low is None or np.allclose([low, high], [1 - b, 1 - a], atol=1e-6))


@settings(max_examples=150, deadline=None)
@given(waits)
def test_the_definition_in_a_loop(rows):
    check_both([(t, c, -1) for t, c in rows], entry=False)


@settings(max_examples=150, deadline=None)
@given(entered)
def test_the_definition_in_a_loop_with_delayed_entry(rows):
    check_both([(start + length, c, start) for length, c, start in rows], entry=True)


@settings(max_examples=100, deadline=None)
@given(waits)
def test_one_cause_is_kaplan_meier_with_greenwood(rows):
    time, event = [t for t, _ in rows], [int(c > 0) for _, c in rows]
    km, aj = kaplan_meier(time, event), aalen_johansen(time, event)
    alive = km["survival"] > 0
    greenwood = (km["events"] / (km["at_risk"] * (km["at_risk"] - km["events"]))).cum_sum()
    same(aj, "estimate", (1 - km["survival"]).to_list(), 1e-14)
    same(aj.filter(alive), "se", (km["survival"] * greenwood.sqrt()).filter(alive).to_list(), 1e-9)


@settings(max_examples=100, deadline=None)
@given(waits)
def test_shares_add_up_to_one(rows):
    time, cause = zip(*rows)
    parts = aalen_johansen(time, cause).group_by("time").agg(pl.col("estimate").sum()).sort("time")
    assert np.allclose(parts["estimate"] + kaplan_meier(time, np.array(cause) > 0)["survival"], 1, atol=1e-12)


def simulated(n=400, seed=3):
    rng = np.random.default_rng(seed)
    time, cause = np.ceil(rng.exponential(30, n)), rng.choice([0, 1, 1, 2], n)
    return time, cause, np.floor(rng.uniform(0, 1, n) * (time - 1))


def test_scikit_survival_kaplan_meier():
    sksurv = pytest.importorskip("sksurv.nonparametric", reason="scikit-survival is not installed")
    time, cause, _ = simulated()
    ours = kaplan_meier(time, cause > 0)
    x, y, (low, high) = sksurv.kaplan_meier_estimator(cause > 0, time, conf_type="log-log")
    assert np.array_equal(ours["time"], x) and np.allclose(ours["survival"], y, atol=1e-12)
    known = ours["low"].is_not_null().to_numpy()
    assert known.sum() > 50 and np.allclose(ours["low"].to_numpy()[known], low[known]) and np.allclose(ours["high"].to_numpy()[known], high[known])


def test_scikit_survival_delayed_entry():
    sksurv = pytest.importorskip("sksurv.nonparametric", reason="scikit-survival is not installed")
    time, cause, entry = simulated()
    x, y = sksurv.kaplan_meier_estimator(cause > 0, time, time_enter=entry + 0.5)
    ours = kaplan_meier(time, cause > 0, entry=entry + 0.5)
    at = np.searchsorted(x, ours["time"], side="right") - 1
    assert np.allclose(ours["survival"], np.where(at < 0, 1, y[at]), atol=1e-12)


@pytest.mark.parametrize("curve_of", [kaplan_meier, aalen_johansen])
def test_a_curve_that_ends_before_others_come_into_view_says_so(curve_of):
    with pytest.warns(SmallSample, match=r"at 1 all who were in view had ended \(1 of 1\), and others came into view later"): curve_of([1, 5, 6, 7], [1, 1, 0, 1], entry=[0, 2, 2, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve_of([1, 5, 6, 7], [1, 1, 0, 1], entry=[0, 0.5, 2, 2])
        curve_of([1, 5, 6, 7], [1, 1, 1, 1])


def test_scikit_survival_competing_risks():
    sksurv = pytest.importorskip("sksurv.nonparametric", reason="scikit-survival is not installed")
    time, cause, _ = simulated()
    x, cif, ends = sksurv.cumulative_incidence_competing_risks(cause, time, conf_type="log-log", var_type="Dinse_Approx")
    for k in (1, 2):
        ours = aalen_johansen(time, cause).filter(cause=k)
        assert np.array_equal(ours["time"], x) and np.allclose(ours["estimate"], cif[k], atol=1e-12)
        f = cif[k][:-1]
        theirs = np.abs(np.log(np.log(ends[k][1][:-1]) / np.log(f))) / Z * f * -np.log(f)
        inside = (f > 0) & (ours["at_risk"][:-1] > 1).to_numpy()
        assert inside.sum() > 50 and np.allclose(ours["se"].to_numpy()[:-1][inside], theirs[inside], rtol=1e-6)


def reference(name):
    path = REF / name
    if not path.exists(): pytest.skip(f"the reference data ../shared/data/ref/{name} are not here")
    return pl.read_csv(path, null_values="NA") if path.suffix == ".csv" else json.loads(path.read_text())


def test_mgus2_competing_risks():
    expected, data = reference("expected_open.json")["mgus2_AJ_240mo"], reference("survival_r/mgus2.csv")
    time = pl.when(pl.col("pstat") == 1).then("ptime").otherwise("futime")
    data = data.with_columns(time=time, cause=pl.when(pl.col("pstat") == 1).then(1).otherwise(2 * pl.col("death")))
    assert data.group_by("cause").len().sort("cause").rows() == [(0, 409), (1, 115), (2, 860)]
    aj = aalen_johansen(data["time"], data["cause"]).filter(pl.col("time") <= 240).group_by("cause", maintain_order=True).last()
    assert np.allclose(aj["estimate"], [expected["pcm"], expected["death"]], rtol=0, atol=expected["tol"])
    alone = kaplan_meier(data["time"], data["cause"] == 1).filter(pl.col("time") <= 240)
    assert abs(1 - alone["survival"][-1] - expected["one_minus_km_pcm"]) < expected["tol"]
    fast = at_horizons(np.zeros(data.height), data["time"], data["cause"], [240])
    assert np.allclose(fast["estimate"], expected["pcm"], rtol=0, atol=expected["tol"])


def test_lung_median():
    expected, data = reference("expected_open.json")["km_lung_median"], reference("survival_r/lung.csv")
    got = quantile(np.zeros(data.height), data["time"], data["status"] - 1)
    assert got["value"].item() == expected and got["low"].item() < expected < got["high"].item()
    assert round(kaplan_meier(data["time"], data["status"] == 2).filter(time=364)["survival"].item(), 3) == 0.409


def fate(rows, h):
    """What the definition says of one group at one horizon: estimate, low, high, at_risk."""
    at_risk = sum(t > h or (t == h and c == 0) for t, c in rows)
    steps = [r for r in loop([(t, c, -1) for t, c in rows], 1) if r["time"] <= h]
    survival, estimate, variance = (steps[-1]["survival"], steps[-1]["estimate"], steps[-1]["variance"]) if steps else (1, 0, 0)
    if h > max(t for t, _ in rows) and survival > 0: return None, None, None, 0
    low, high = band(1 - estimate, variance)
    known = at_risk + sum(t <= h and c > 0 for t, c in rows)
    if low is None: return estimate, *wilson(round(estimate) * known, known), at_risk
    return estimate, 1 - high, 1 - low, at_risk


@settings(max_examples=200, deadline=None)
@given(grouped, st.lists(st.sampled_from([0, 0.5, 1, 3, 6, 11.5, 12, 20]), min_size=1, max_size=4))
def test_horizons_by_the_definition(rows, horizons):
    group, time, cause = zip(*rows)
    got = at_horizons(group, time, cause, horizons)
    assert got.height == (max(group) + 1) * len(horizons)
    for (g, h, *result), (i, j) in zip(got.rows(), [(g, h) for g in range(max(group) + 1) for h in horizons]):
        members = [(t, c) for a, t, c in rows if a == g]
        expected = fate(members, h) if members else (None, None, None, 0)
        assert (g, h) == (i, j) and result[3] == expected[3]
        assert [x is None for x in result] == [x is None for x in expected]
        if result[0] is not None: assert np.allclose(result, expected, atol=1e-6) and 0 <= result[1] <= result[0] + 1e-12 <= result[2] + 2e-12


@settings(max_examples=150, deadline=None)
@given(grouped, st.sampled_from([0.1, 0.25, 0.5, 0.9]))
@example([(0, 1, 1), (0, 2, 0), (1, 3, 2), (1, 3, 1)], 0.5)
def test_quantiles_by_the_definition(rows, q):
    group, time, cause = zip(*rows)
    got = quantile(group, time, cause, q)
    for g in range(max(group) + 1):
        members = [(t, c) for a, t, c in rows if a == g]
        steps = [(t, *fate(members, t)) for t in sorted({t for t, _ in members})]
        first = lambda column, tolerance: next((float(s[0]) for s in steps if s[1] and s[column] >= q - tolerance), None)
        value, low, high = got.row(g)[1:]
        assert value == first(1, 1e-12) and (low, high) == (first(3, 1e-12), first(2, 1e-12))
        if value is not None: assert low <= value and (high is None or value <= high)


def test_a_crossing_that_is_met_exactly_counts():
    for n in range(2, 31):
        for k in range(1, n):
            assert quantile(np.zeros(n), np.arange(1, n + 1), np.ones(n), k / n)["value"].item() == k
    assert quantile([0, 0], [1, 2], [1, 0])["value"].item() == 1 and quantile([0, 0, 0], [1, 2, 3], [1, 0, 0])["value"].item() is None


def many(n=3000, seed=11):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 20, n), rng.lognormal(3, 1.5, n).round(), rng.choice([0, 1, 1, 2], n)


def everything(group, time, cause, unit=1.0):
    horizons = np.array([0, 5, 20, 100, 400, 1e5]) * unit
    return at_horizons(group, time, cause, horizons), quantile(group, time, cause), curve(group, time, cause, max_points=30)


def test_shuffled_rows_give_the_same():
    group, time, cause = many()
    order = np.random.default_rng(5).permutation(group.size)
    for a, b in zip(everything(group, time, cause), everything(group[order], time[order], cause[order])): assert a.equals(b)
    assert kaplan_meier(time, cause > 0).equals(kaplan_meier(time[order], cause[order] > 0))
    assert aalen_johansen(time, cause).equals(aalen_johansen(time[order], cause[order]))


def test_relabelled_groups_give_the_same():
    group, time, cause = many()
    label = np.random.default_rng(6).permutation(20)
    for a, b in zip(everything(group, time, cause), everything(label[group], time, cause)):
        renamed = a.with_columns(pl.Series("group", label[a["group"].to_numpy()])).sort("group", maintain_order=True)
        assert renamed.equals(b)


def test_a_group_alone_gives_the_same_as_among_others():
    group, time, cause = many()
    mine = group == 7
    for a, b in zip(everything(group, time, cause), everything(np.zeros(mine.sum()), time[mine], cause[mine])):
        assert a.filter(group=7).drop("group").equals(b.drop("group"))


def test_another_unit_of_time_gives_the_same():
    group, time, cause = many()
    for a, b in zip(everything(group, time, cause), everything(group, time * 60, cause, unit=60)):
        scaled = [c for c in a.columns if c in ("horizon", "seconds") or c in ("value", "low", "high") and "value" in a.columns]
        assert a.with_columns(pl.col(scaled) * 60).equals(b)


def test_watching_for_less_long_changes_nothing_before_that():
    group, time, cause = many()
    short = at_horizons(group, np.minimum(time, 50), np.where(time > 50, 0, cause), [1, 10, 50])
    assert short.equals(at_horizons(group, time, cause, [1, 10, 50]))


def test_everybody_twice_divides_the_error_by_root_two():
    _, time, cause = many(300)
    once, twice = aalen_johansen(time, cause), aalen_johansen(np.tile(time, 2), np.tile(cause, 2))
    assert np.allclose(once["estimate"], twice["estimate"], atol=1e-12)
    assert once["se"].max() > 0.01 and np.allclose(once["se"], twice["se"] * math.sqrt(2), rtol=1e-6, atol=1e-7)


def test_without_censoring_it_is_the_plain_share():
    _, time, _ = many(500)
    got = at_horizons(np.zeros(500), time, np.ones(500), [5, 20, 100])
    assert np.allclose(got["estimate"], [(time <= h).mean() for h in (5, 20, 100)], atol=1e-12)
    share = got["estimate"].to_numpy()
    se = aalen_johansen(time, np.ones(500)).filter(pl.col("time") <= 20)["se"][-1]
    assert np.isclose(se, math.sqrt(share[1] * (1 - share[1]) / 500))


@settings(max_examples=60, deadline=None)
@given(grouped, st.sampled_from([4, 5, 8, 200]))
def test_curve_points_are_exact_and_few(rows, max_points):
    group, time, cause = zip(*rows)
    got = curve(group, time, cause, max_points)
    assert got.group_by("group").len()["len"].max() <= max_points
    for g in set(group):
        mine = got.filter(group=g)
        assert mine["seconds"][0] == 0 and mine["seconds"][-1] == max(t for a, t, _ in rows if a == g) and mine["estimate"].is_sorted()
        exact = at_horizons(group, time, cause, mine["seconds"]).filter(group=g)
        assert exact.select("estimate", "low", "high", "at_risk").equals(mine.select("estimate", "low", "high", "at_risk"))


def test_curve_follows_a_long_tail_closely():
    rng = np.random.default_rng(2)
    time, cause, group = rng.lognormal(5, 2, 50_000), rng.choice([0, 1, 1], 50_000), np.zeros(50_000)
    thin, full = curve(group, time, cause), curve(group, time, cause, max_points=10**6)
    assert thin.height <= 200 < full.height
    at = np.searchsorted(thin["seconds"], full["seconds"], side="right") - 1
    assert np.abs(thin["estimate"].to_numpy()[at] - full["estimate"].to_numpy()).max() <= 1 / 99


BAD = [([1, 2], [1]), ([-1], [1]), ([float("nan")], [1]), ([float("inf")], [1]), ([1], [-1]), ([1], [0.5]), ([1], [float("nan")]), ([[1]], [1]), (["soon"], [1])]


@pytest.mark.parametrize("time, cause", BAD)
def test_bad_input_is_refused(time, cause):
    group = np.zeros(len(time))
    for call in (lambda: kaplan_meier(time, cause), lambda: aalen_johansen(time, cause), lambda: at_horizons(group, time, cause, [1]), lambda: quantile(group, time, cause), lambda: curve(group, time, cause)):
        with pytest.raises(InvalidParameter): call()


@pytest.mark.parametrize("entry", [[1], [1, 2, 3], [-1, 0], [float("nan"), 0], [5, 0]])
def test_bad_entry_is_refused(entry):
    for estimator in (kaplan_meier, aalen_johansen):
        with pytest.raises(InvalidParameter, match="entry"): estimator([5, 6], [1, 0], entry=entry)


def test_empty_input_gives_an_empty_frame_with_the_columns():
    assert kaplan_meier([], []).is_empty() and kaplan_meier([], [], entry=[]).columns == ["time", "at_risk", "events", "censored", "survival", "low", "high"]
    assert aalen_johansen([], []).is_empty() and aalen_johansen([], []).columns == ["cause", "time", "at_risk", "events", "estimate", "se", "low", "high"]
    assert at_horizons([], [], [], [1]).columns == ["group", "horizon", "estimate", "low", "high", "at_risk"]
    assert curve([], [], []).columns == ["group", "seconds", "estimate", "low", "high", "at_risk"] and quantile([], [], []).columns == ["group", "value", "low", "high"]


def test_a_large_input_takes_seconds_not_minutes():
    rng = np.random.default_rng(1)
    n = 240_000
    group, time, cause = rng.integers(0, 5000, n), rng.lognormal(8, 2, n).round(), rng.choice([0, 1, 1, 2], n)
    begin = process_time()
    frame = at_horizons(group, time, cause, [900, 3600, 86400, 604800])
    assert frame.height == 20_000 and process_time() - begin < 5
