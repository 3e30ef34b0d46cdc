"""Weights, matches, balance, E-values and Rosenbaum's bounds against loops in plain Python and published numbers; against known truth they are held in test_coverage_causal.py."""
import json
from fractions import Fraction
from math import comb

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st
from scenarios_causal import people

from trustlab import causal
from trustlab.core import InvalidParameter, NotIdentifiable

COVARIATES = ["age", "educ", "black", "hisp", "marr", "nodegree", "re74", "re75"]


@pytest.fixture(scope="module")
def expected(shared): return json.loads((shared / "ref" / "expected_open.json").read_text())


@pytest.fixture(scope="module")
def lalonde(shared):
    "The experiment (185 and 260 people), and its treated with the survey's 15,992 people as controls"
    read = lambda name: pl.read_csv(shared / "ref" / "lalonde" / name, infer_schema_length=None).with_columns(pl.col("re74", "re75", "re78").cast(float))
    nsw, cps = read("nsw_mixtape.csv"), read("cps_mixtape.csv")
    return nsw, pl.concat([nsw.filter(pl.col("treat") == 1), cps], how="vertical_relaxed")


# ---- E-values

def test_published_e_values(expected):
    for ratio, value in expected["evalue"].items():
        if ratio != "tol": assert abs(causal.e_value(float(ratio))["e_value"] - value) < expected["evalue"]["tol"], ratio
    both = causal.e_value(10.73, 8.02, 14.36)
    assert abs(both["e_value"] - 20.94777) < 1e-4 and abs(both["e_value_limit"] - 15.52336) < 1e-4


@settings(max_examples=200)
@given(st.floats(1.01, 30), st.floats(0.05, 1), st.floats(0.05, 1))
def test_no_weaker_cause_explains_the_ratio(rr, a, b):
    "A cause whose two associations both stay below the E-value moves the ratio by less than the ratio, whatever share has it; the bounding factor at the E-value is the ratio"
    e = causal.e_value(rr)["e_value"]
    eu, ud = 1 + a * (e - 1), 1 + b * (e - 1)
    p0 = np.linspace(1e-4, 1 / eu, 200)
    made = (1 + (ud - 1) * eu * p0) / (1 + (ud - 1) * p0)
    assert made.max() <= rr * (1 + 1e-9) and np.isclose(e * e / (2 * e - 1), rr)
    assert np.isclose(causal.e_value(1 / rr)["e_value"], e) and np.isclose(causal.e_value(rr, null=rr)["e_value"], 1)


def test_limits_of_e_values():
    assert causal.e_value(1.5, 0.9, 2.5)["e_value_limit"] == 1 and causal.e_value(0.6, 0.4, 0.9)["e_value_limit"] == causal.e_value(1 / 0.9)["e_value"]
    assert causal.e_value(1.0)["e_value"] == 1 and causal.e_value(1.8)["e_value_limit"] is None and causal.e_value(1.8, high=2.5)["e_value_limit"] is None
    assert causal.e_value(0.8, high=0.9)["e_value_limit"] == causal.e_value(0.9)["e_value"]
    for wrong in ((0,), (float("nan"),), (float("inf"),), (2, 3, 4), (2, 1, 1.5)):
        with pytest.raises(InvalidParameter): causal.e_value(*wrong)


@pytest.mark.parametrize("hr", [0.3, 0.8, 1.5, 2.5])
def test_a_common_outcome_s_hazard_ratio(hr):
    "The approximation is nearer than the hazard ratio to the risk ratio where half of the untreated have the outcome"
    ratio = (1 - 0.5 ** np.sqrt(hr)) / (1 - 0.5 ** (1 / np.sqrt(hr)))
    assert np.isclose(causal.hazard_to_risk(hr), ratio)
    at_half = (1 - 0.5**hr) / 0.5
    assert abs(causal.hazard_to_risk(hr) / at_half - 1) < 0.2 and abs(np.log(causal.hazard_to_risk(hr) / at_half)) < 0.75 * abs(np.log(hr / at_half))


# ---- Rosenbaum

@settings(max_examples=100)
@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from([Fraction(1), Fraction(3, 2), Fraction(2), Fraction(7)]))
def test_rosenbaum_s_bound_is_a_sum_of_binomial_terms(n, k, gamma):
    if k > n: n, k = k, n
    p = gamma / (1 + gamma)
    exact = sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
    assert np.isclose(causal.rosenbaum(n, k, float(gamma)), float(exact), rtol=1e-9)


def test_rosenbaum_refuses():
    for wrong in ((3, 4), (-1, 0), (3, 1.5), (3, 2, 0.9), (3, 2, float("inf")), (True, 0)):
        with pytest.raises(InvalidParameter): causal.rosenbaum(*wrong)


# ---- LaLonde

def test_the_experiment_and_the_survey(lalonde, expected):
    nsw, observed = lalonde
    trial, naive = causal.ipw(nsw, "treat", "re78", []), causal.ipw(observed, "treat", "re78", [])
    assert abs(trial.estimate - expected["nsw_dw"]["diff"]) < expected["nsw_dw"]["tol"] and abs(trial.se - expected["nsw_dw"]["se_neyman"]) < 0.05
    assert (trial.n, trial.treated) == (445, 185) and abs(naive.estimate - expected["nsw_dw"]["cps_naive"]) < expected["nsw_dw"]["tol"]


def irls(x, t):
    "Logistic regression by Newton's steps on plain sums"
    beta = np.zeros(x.shape[1])
    for _ in range(60):
        p = 1 / (1 + np.exp(-x @ beta))
        beta += np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]), x.T @ (t - p))
    return p


def test_survey_controls_by_three_tools(lalonde):
    "Weights, augmented weights and matching take the naive −8,498 to the neighbourhood of the experiment's 1,794; the average effect over the survey's people has 15 treated left of 185 and must be seen not to be balanced"
    _, observed = lalonde
    t, y = observed["treat"].to_numpy(), observed["re78"].to_numpy()
    x = observed.select(COVARIATES).to_numpy().astype(float)
    e = irls(np.column_stack([np.ones(t.size), (x - x.mean(0)) / x.std(0)]), t)
    w = np.where(t == 1, 1, e / (1 - e))
    by_hand = y[t == 1].mean() - np.average(y[t == 0], weights=w[t == 0])
    got, twice = (f(observed, "treat", "re78", COVARIATES, "att") for f in (causal.ipw, causal.aipw))
    assert abs(got.estimate - by_hand) < 1e-4 and got.max_smd_before > 2 and got.max_smd < 0.1
    for one in (got, twice): assert one.low < 1794.34 < one.high and 500 < one.estimate < 2500, one
    pairs = causal.match(observed, "treat", COVARIATES)
    gained = (y[pairs["treated"]] - y[pairs["untreated"]]).mean()
    assert pairs.height > 150 and 500 < gained < 2800 and t[pairs["treated"]].all() and not t[pairs["untreated"]].any()
    whole = causal.ipw(observed, "treat", "re78", COVARIATES, "ate")
    assert whole.max_smd > 0.5 and whole.effective_treated < 30
    cut = causal.ipw(observed, "treat", "re78", COVARIATES, "att", trim=0.1)
    assert cut.trimmed == observed.height - cut.n > 15_000 and cut.low < 1794.34 < cut.high


# ---- weights

@pytest.mark.parametrize("estimand", ["ate", "att"])
def test_weighted_means_by_hand(estimand):
    frame = people(np.random.default_rng(1), 400)
    t, y = frame["t"].to_numpy(), frame["y"].to_numpy()
    e = irls(np.column_stack([np.ones(400), frame["x"], frame["kind"] == "b", frame["kind"] == "c"]).astype(float), t)
    w = [(1 / e[i] if t[i] else 1 / (1 - e[i])) if estimand == "ate" else (1 if t[i] else e[i] / (1 - e[i])) for i in range(400)]
    mean = [sum(w[i] * y[i] for i in range(400) if t[i] == g) / sum(w[i] for i in range(400) if t[i] == g) for g in (0, 1)]
    got = causal.ipw(frame, "t", "y", ["x", "kind"], estimand)
    assert np.isclose(got.estimate, mean[1] - mean[0], rtol=1e-7) and np.allclose(got.scores, e, atol=1e-8)
    assert np.isclose(got.effective_treated, sum(w[i] for i in range(400) if t[i]) ** 2 / sum(w[i] ** 2 for i in range(400) if t[i]))
    moved = causal.ipw(frame.with_columns(y=pl.col("y") + 1e4).sample(fraction=1, shuffle=True, seed=3), "t", "y", ["kind", "x"], estimand)
    assert np.isclose(moved.estimate, got.estimate, atol=1e-6) and np.isclose(moved.se, got.se, rtol=1e-6)


@pytest.mark.parametrize("estimand", ["ate", "att"])
@pytest.mark.parametrize("tool", [causal.ipw, causal.aipw])
def test_errors_against_the_bootstrap(tool, estimand):
    frame, rng = people(np.random.default_rng(2), 1000), np.random.default_rng(3)
    draws = [tool(frame[rng.integers(0, 1000, 1000)], "t", "y", ["x", "kind"], estimand).estimate for _ in range(250)]
    assert abs(tool(frame, "t", "y", ["x", "kind"], estimand).se / np.std(draws) - 1) < 0.16


@pytest.mark.parametrize("tool", [causal.ipw, causal.aipw])
@pytest.mark.parametrize("estimand", ["ate", "att"])
def test_a_larger_effect_is_as_precise(tool, estimand):
    "A hundred added to every treated outcome adds a hundred to the effect and nothing to its error"
    frame = people(np.random.default_rng(20), 500)
    one, other = (tool(f, "t", "y", ["x", "kind"], estimand) for f in (frame, frame.with_columns(y=pl.col("y") + 100 * pl.col("t"))))
    assert np.isclose(other.estimate, one.estimate + 100) and np.isclose(other.se, one.se, rtol=1e-8)


def test_twice_is_right_when_either_is():
    "With the outcome bent in x, the straight regression alone is wrong; with the propensity missing x, the weights alone are; the augmented one bears either, not both"
    rng = np.random.default_rng(4)
    n = 60_000
    x = rng.normal(size=n)
    t = rng.random(n) < 1 / (1 + np.exp(-x))
    frame = pl.DataFrame({"x": x, "x2": x**2, "t": t.astype(int), "y": x + x**2 + 0.7 * x**3 + t + rng.normal(size=n), "straight": 2 * x + t + rng.normal(size=n)})
    assert abs(causal.aipw(frame, "t", "y", ["x"]).estimate - 1) < 0.08 and abs(np.diff([f(frame, "t", "y", ["x"]).estimate for f in (causal.ipw, causal.aipw)])[0]) < 0.1
    curved = pl.DataFrame({"x": x, "t": (rng.random(n) < 1 / (1 + np.exp(-(x**2 - 1)))).astype(int)}).with_columns(y=2 * pl.col("x") ** 2 + pl.col("t"), x2=pl.col("x") ** 2)
    assert abs(causal.aipw(curved, "t", "y", ["x"]).estimate - 1) > 0.5, "both models wrong: it must be seen to fail"
    assert abs(causal.aipw(curved, "t", "y", ["x", "x2"]).estimate - 1) < 0.02


# ---- balance, matching, overlap

def test_balance_by_loops():
    frame = people(np.random.default_rng(5), 300)
    w = np.random.default_rng(6).random(300)
    got = causal.balance(frame, "t", ["x", "kind"], w)
    for row in got.iter_rows(named=True):
        name, _, word = row["covariate"].partition(": ")
        column = frame[name].to_list() if not word else [1.0 * (v == word) for v in frame[name]]
        part = {g: [(column[i], w[i]) for i in range(300) if frame["t"][i] == g] for g in (0, 1)}
        mean = {g: sum(v for v, _ in part[g]) / len(part[g]) for g in part}
        spread = (sum(sum((v - mean[g]) ** 2 for v, _ in part[g]) / (len(part[g]) - 1) for g in part) / 2) ** 0.5
        after = {g: sum(v * u for v, u in part[g]) / sum(u for _, u in part[g]) for g in part}
        assert np.isclose(row["smd_before"], (mean[1] - mean[0]) / spread) and np.isclose(row["smd_after"], (after[1] - after[0]) / spread)
    assert got["covariate"].to_list() == ["x", "kind: b", "kind: c"]
    assert causal.balance(frame.with_columns(w=pl.Series(w)), "t", ["x", "kind"], "w").equals(got) and "smd_after" not in causal.balance(frame, "t", ["x"]).columns


@settings(max_examples=300)
@given(st.lists(st.integers(0, 12), max_size=25), st.lists(st.integers(0, 12), max_size=25), st.sampled_from([0, 1, 2.5, np.inf]))
def test_matches_are_near_single_and_exhaustive(treated, untreated, caliper):
    a, b = causal.nearest(np.array(treated, float), np.array(untreated, float), caliper)
    far = [abs(treated[i] - untreated[j]) for i, j in zip(a, b)]
    assert len(set(a)) == len(a) == len(set(b)) == len(b) and all(d <= caliper for d in far)
    left = [treated[i] for i in range(len(treated)) if i not in set(a)], [untreated[j] for j in range(len(untreated)) if j not in set(b)]
    assert not any(abs(x - y) <= caliper for x in left[0] for y in left[1]), "somebody was left alone beside somebody"
    for value in set(treated): assert sum(treated[i] == value for i, d in zip(a, far) if d == 0) == min(treated.count(value), untreated.count(value)), "equals go together"


def test_matching_balances_and_does_not_depend_on_the_order():
    frame = people(np.random.default_rng(7), 3000)
    pairs = causal.match(frame, "t", ["x", "kind"])
    both = pl.concat([frame[pairs["treated"]], frame[pairs["untreated"]]])
    assert causal.balance(both, "t", ["x", "kind"])["smd_before"].abs().max() < 0.1 < causal.balance(frame, "t", ["x", "kind"])["smd_before"].abs().max()
    order = np.random.default_rng(8).permutation(3000)
    again = causal.match(frame[order], "t", ["x", "kind"])
    assert {(order[r["treated"]], order[r["untreated"]]) for r in again.iter_rows(named=True)} == {(r["treated"], r["untreated"]) for r in pairs.iter_rows(named=True)}
    assert pairs["distance"].max() <= 0.2 and causal.match(frame, "t", ["x", "kind"], caliper=None).height >= pairs.height


def test_two_hundred_thousand_are_matched_soon():
    rng = np.random.default_rng(9)
    one, other = rng.normal(0.3, 1, 60_000).round(3), rng.normal(0, 1, 140_000).round(3)
    a, b = causal.nearest(one, other, 0.05)
    assert a.size > 55_000 and np.abs(one[a] - other[b]).max() <= 0.05


def test_love_plot_says_n_and_both_states():
    figure = causal.love(causal.balance(people(np.random.default_rng(1), 500), "t", ["x", "kind"], np.ones(500)), n=500)
    assert [trace.name for trace in figure.data] == ["before", "after weighting"] and "n = 500 people" in figure.layout.title.text and len(figure.data[0].x) == 3
    assert all(a >= b for a, b in zip(figure.data[0].x, figure.data[0].x[1:])) and min(figure.data[0].x) >= 0
    assert not causal.love(causal.balance(people(np.random.default_rng(1), 50), "t", [])).data


# ---- bad input

def test_groups_that_cannot_be_compared():
    frame = people(np.random.default_rng(10), 200)
    for tool in (lambda f: causal.ipw(f, "t", "y", ["x"]), lambda f: causal.aipw(f, "t", "y", ["x"]), lambda f: causal.match(f, "t", ["x"])):
        with pytest.raises(NotIdentifiable, match="two treated"): tool(frame.with_columns(t=pl.lit(1)))
        with pytest.raises(NotIdentifiable, match="two treated"): tool(frame.head(1))
        with pytest.raises(NotIdentifiable, match="apart completely"): tool(frame.with_columns(t=(pl.col("x") > 0.3).cast(int)))
    with pytest.raises(NotIdentifiable): causal.balance(frame.with_columns(t=pl.lit(0)), "t", ["x"])


def test_wrong_columns_are_named():
    frame = people(np.random.default_rng(11), 50)
    for call, said in ((lambda: causal.ipw(frame, "tt", "y", ["x"]), "treatment"), (lambda: causal.ipw(frame, "t", "z", ["x"]), "outcome"), (lambda: causal.ipw(frame, "t", "y", ["x", "w"]), "covariates"),
                       (lambda: causal.ipw(frame.with_columns(x=pl.lit(None, pl.Float64)), "t", "y", ["x"]), "50 of 50"), (lambda: causal.ipw(frame, "x", "y", ["t"]), "x must be 1"),
                       (lambda: causal.ipw(frame, "t", "kind", ["x"]), "kind must hold numbers"), (lambda: causal.ipw(frame, "t", "y", ["x"], "atc"), "estimand"), (lambda: causal.ipw(frame, "t", "y", ["x"], trim=0.5), "trim"),
                       (lambda: causal.ipw(frame.with_columns(y=pl.lit(float("inf"))), "t", "y", ["x"]), "finite"), (lambda: causal.balance(frame, "t", ["x"], [-1.0] * 50), "weights"), (lambda: causal.ipw(frame, "t", "y", ["x"])["no"], "name")):
        with pytest.raises(InvalidParameter, match=said): call()
