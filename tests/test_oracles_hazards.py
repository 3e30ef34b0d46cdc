"""Cox regression, mean counts and frailty rates against loops by their definitions, scikit-survival, R's printed numbers, and what must not change them."""
import json
import math
import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings, strategies as st
from scenarios_hazards import intervals, periods, s2, s3
from scipy.optimize import minimize
from scipy.special import gammaln
from scipy.stats import nbinom

import trustlab as tl
from trustlab import hazards
from trustlab.core import InvalidParameter, NotIdentifiable, SmallSample
from trustlab.hazards import baseline_hazard, cox, episodes, fit_cox, proportional_hazards, schoenfeld, standardised_risk
from trustlab.recurrent import frailty, mean_cumulative_count


def reference(shared, name):
    path = shared / "ref" / name
    return json.loads(path.read_text()) if path.suffix == ".json" else pl.read_csv(path, null_values="NA")


def check(frame, column, expected, tol):
    assert np.abs(frame[column].to_numpy() - np.array(expected)).max() <= tol, (column, frame[column].to_list(), expected)


# ---- printed numbers

def test_bladder_andersen_gill(shared):
    "Row 8, Breslow, from R's test suite; Efron as R's documentation of bladder2 prints it (recalled; the robust error of rx also stands in the statistics sheet)"
    expected, data = reference(shared, "expected_open.json")["bladder2_AG_breslow"], reference(shared, "survival_r/bladder2.csv")
    ours = tl.survival.cox(data, start="start", stop="stop", event="event", covariates=expected["order"], cluster="id", ties="breslow")
    for column, name in (("coef", "coef"), ("se", "se"), ("robust_se", "robust")): check(ours, column, expected[name], expected["tol"])
    assert np.allclose(ours["high"] - ours["coef"], 1.959964 * ours["robust_se"], atol=1e-6)
    efron = cox(data, "start", "stop", "event", ["rx", "size", "number"], cluster="id")
    check(efron, "coef", [-0.46469, -0.04366, 0.17496], 1e-5), check(efron, "se", [0.19973, 0.06905, 0.04707], 1e-5), check(efron, "robust_se", [0.26556, 0.07762, 0.06304], 1e-5)


def newton(rows, ties, size):
    "The loop's likelihood at its top: coefficients, the inverse of its curvature, each row's share in the slope"
    best = np.zeros(size)
    for _ in range(20):
        _, score, info, share, _ = loop_cox(rows, best, ties)
        if np.abs(score).max() < 1e-10: return best, np.linalg.inv(info), share
        best = best + np.linalg.solve(info, score)
    raise AssertionError("the loop did not come to rest")


def test_bladder_by_number_of_the_recurrence(shared):
    """Row 15: Prentice, Williams and Peterson's model, whose strata are the number of the recurrence: each person is compared with those who had as many before. Efron, with robust errors by person; the numbers of the
    sheet, to their last digit, and the loop by the definition that it gives the same. The arguments stand in the order of the public signature"""
    data = reference(shared, "survival_r/bladder2.csv")
    ours = tl.survival.cox(data, "start", "stop", "event", ["rx", "size", "number"], "id", "enum", "efron")
    check(ours, "coef", [-0.333489, -0.008495, 0.119617], 1e-6)
    assert abs(ours["se"][0] - 0.216168) < 1e-6 and abs(ours["robust_se"][0] - 0.204787) < 1e-6
    rows = [(r["start"], r["stop"], bool(r["event"]), np.array([r["rx"], r["size"], r["number"]], float), 1.0, r["enum"]) for r in data.iter_rows(named=True)]
    best, inverse, share = newton(rows, "efron", 3)
    people = np.stack([share[data["id"].to_numpy() == i].sum(axis=0) for i in data["id"].unique()])
    check(ours, "coef", best, 1e-9), check(ours, "se", np.sqrt(np.diag(inverse)), 1e-9), check(ours, "robust_se", np.sqrt(np.diag(inverse @ people.T @ people @ inverse)), 1e-9)
    assert np.abs(ours["coef"].to_numpy() - cox(data, "start", "stop", "event", ["rx", "size", "number"], "id")["coef"].to_numpy()).max() > 0.05, "the strata matter"


def test_heart_transplants(shared):
    "Rows 5 and 6: the naive model, and Kalbfleisch and Prentice's first"
    expected = reference(shared, "expected_open.json")
    data, naive, kp = reference(shared, "heart/jasa.csv"), expected["heart_naive_adj_efron"], expected["heart_KP_model1_breslow"]
    ours = cox(data, stop="futime", event="fustat", covariates=["transplant", "age", "surgery"])
    check(ours, "coef", [naive["transplant"], naive["age"], naive["surgery"]], naive["tol"])
    assert abs(ours["se"][0] - naive["se_transplant"]) <= naive["tol"] and abs(np.exp(ours["coef"][0]) - 0.18) < 5e-3 and ours["robust_se"].null_count() == 3
    alone = cox(data, stop="futime", event="fustat", covariates=["transplant"])
    assert abs(alone["coef"][0] + 1.3234) < 5e-4 and abs(np.exp(alone["coef"][0]) - 0.266) < 5e-4
    later = data.with_columns(pl.when(pl.col("futime") == 0).then(0.5).otherwise("futime").alias("futime"))
    assert np.allclose(cox(later, stop="futime", event="fustat", covariates=["transplant", "age", "surgery"])["coef"], ours["coef"], atol=1e-12)
    in_time = reference(shared, "heart/jasa1.csv").with_columns((pl.col("age") * pl.col("transplant")).alias("age:transplant"), (pl.col("surgery") * pl.col("transplant")).alias("surgery:transplant"))
    ours = cox(in_time, "start", "stop", "event", kp["order"], ties="breslow")
    check(ours, "coef", kp["coef"], kp["tol"]), check(ours, "se", kp["se"], kp["tol"])


def test_lung(shared):
    "coxph(Surv(time, status) ~ age + sex + ph.ecog, lung), Efron: as R prints it (recalled)"
    data = reference(shared, "survival_r/lung.csv").drop_nulls("ph.ecog").with_columns(status=pl.col("status") - 1)
    ours = cox(data, stop="time", event="status", covariates=["age", "sex", "ph.ecog"])
    check(ours, "coef", [0.011067, -0.552612, 0.463728], 1e-6), check(ours, "se", [0.009267, 0.167739, 0.113577], 1e-6)


def test_veterans_proportional_hazards():
    "cox.zph of Surv(time, status) ~ trt + prior + karno, veteran, on the default scale, in the exact form of version 3 (numbers recalled, to the three digits that R prints)"
    datasets = pytest.importorskip("sksurv.datasets", reason="scikit-survival is not installed")
    x, y = datasets.load_veterans_lung_cancer()
    data = pl.DataFrame({"time": y["Survival_in_days"], "status": y["Status"].astype(int), "trt": (x["Treatment"] == "test").to_numpy(), "prior": (x["Prior_therapy"] == "yes").to_numpy(), "karno": x["Karnofsky_score"].to_numpy()})
    test = proportional_hazards(fit_cox(data, stop="time", event="status", covariates=["trt", "prior", "karno"]))
    check(test, "chisq", [0.288, 2.168, 12.138, 18.073], 6e-4)


def test_mgus2_as_counts(shared):
    "Row 12 by another route: with both ends terminal, the mean count of PCM is the Aalen–Johansen incidence, and its error the same"
    data = reference(shared, "survival_r/mgus2.csv")
    ends = data.select("id", time=pl.when(pl.col("pstat") == 1).then("ptime").otherwise("futime"), pcm="pstat", over=pl.max_horizontal("pstat", "death"))
    cause = data.select(pl.when(pl.col("pstat") == 1).then(1).otherwise(2 * pl.col("death"))).to_series()
    counted, curve = mean_cumulative_count(ends, "id", "time", "pcm", terminal="over"), tl.survival.aalen_johansen(ends["time"], cause).filter((pl.col("cause") == 1) & (pl.col("events") > 0))
    assert abs(counted.filter(pl.col("time") <= 240)["mean"][-1] - 0.09981) < 2e-5
    assert np.allclose(counted["mean"], curve["estimate"], atol=1e-12) and np.allclose(counted["se"], curve["se"], atol=1e-12) and counted["at_risk"].to_list() == curve["at_risk"].to_list()


# ---- loops

def loop_cox(rows, beta, ties):
    """By the definition: log likelihood, slope, curvature, each row's share in the slope, and the steps of the baseline hazard.

    Rows are (start, stop, event, x, weight, stratum); tied events are taken out one after the other (Efron) or not at all (Breslow)."""
    p = len(rows[0][3])
    ll, info, share, steps = 0.0, np.zeros((p, p)), np.zeros((len(rows), p)), {}
    for s in sorted({r[5] for r in rows}):
        for t in sorted({r[1] for r in rows if r[2] and r[5] == s}):
            there = [i for i, r in enumerate(rows) if r[5] == s and r[0] < t <= r[1]]
            dead = [i for i in there if rows[i][2] and rows[i][1] == t]
            ticket = {i: rows[i][4] * math.exp(rows[i][3] @ beta) for i in there}
            v = sum(rows[i][4] for i in dead) / len(dead)
            for i in dead: ll += rows[i][4] * float(rows[i][3] @ beta)
            for draw in range(len(dead)):
                gone = draw / len(dead) if ties == "efron" else 0.0
                part = {i: ticket[i] * (1 - gone if i in dead else 1) for i in there}
                total = sum(part.values())
                mean = sum(part[i] * rows[i][3] for i in there) / total
                spread = sum(part[i] * np.outer(rows[i][3], rows[i][3]) for i in there) / total - np.outer(mean, mean)
                ll -= v * math.log(total)
                info += v * spread
                steps[s, t] = steps.get((s, t), 0.0) + v / total
                for i in there: share[i] -= part[i] * v / total * (rows[i][3] - mean)
                for i in dead: share[i] += rows[i][4] * (rows[i][3] - mean) / len(dead)
    return ll, share.sum(axis=0), info, share, steps


pieces = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5), st.booleans(), st.integers(0, 2), st.integers(-2, 2), st.integers(1, 3), st.integers(0, 1)), min_size=3, max_size=25)


@settings(max_examples=120)
@given(pieces, st.sampled_from(["efron", "breslow"]), st.booleans(), st.integers(0, 3))
def test_likelihood_and_residuals_by_definition(drawn, ties, entered, seed):
    assume(any(event for _, _, event, *_ in drawn))
    rows = [(start if entered else -1, start + length, event, np.array([a, b], float), w, s) for start, length, event, a, b, w, s in drawn]
    start, stop, event, weight, stratum = (np.array([r[i] for r in rows]) for i in (0, 1, 2, 4, 5))
    x, beta = np.stack([r[3] for r in rows]), np.random.default_rng(seed).normal(size=2) / 2
    sets = hazards.risk_index(start.astype(float) if entered else None, stop.astype(float), event, stratum, ties)
    point = hazards.likelihood(sets, x, weight.astype(float), beta)
    ll, score, info, share, steps = loop_cox(rows, beta, ties)
    assert np.allclose(point.score, score, atol=1e-9) and np.allclose(point.information, info, atol=1e-9)
    assert np.allclose(hazards.score_residuals(sets, x, point), share, atol=1e-9)
    again = loop_cox(rows, np.zeros(2), ties)
    assert abs((point.loglik - hazards.likelihood(sets, x, weight.astype(float), np.zeros(2)).loglik) - (ll - again[0])) < 1e-9
    shift = np.exp((x @ beta).max())
    assert np.allclose(sets.events(point.h) / shift, list(steps.values())) and [tuple(k) for k in zip(sets.stratum, sets.time)] == [(s, t) for s, t in steps]


def table(n=60, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 8, n)
    frame = pl.DataFrame({"id": rng.permutation(np.arange(n) * 2 // 3), "start": start, "stop": start + rng.integers(1, 9, n), "event": rng.integers(0, 2, n), "x": rng.normal(size=n), "arm": rng.choice(["a", "b", "c"], n), "w": rng.uniform(0.5, 2, n), "city": rng.choice(["Bonn", "Kiel"], n)})
    return frame if ties else frame.with_columns(stop=pl.col("stop") + pl.Series(rng.random(n)) * 0.9)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("layer", [None, "city"])
@pytest.mark.parametrize("weights", [None, "w"])
def test_the_whole_table_by_definition(ties, layer, weights):
    "Coefficients by maximising the loop's likelihood, errors from the loop's curvature, robust errors from its shares summed by person"
    data = table()
    rows = [(r["start"], r["stop"], bool(r["event"]), np.array([r["x"], r["arm"] == "b", r["arm"] == "c"], float), r["w"] if weights else 1.0, r["city"] if layer else 0) for r in data.iter_rows(named=True)]
    best = minimize(lambda b: -loop_cox(rows, b, ties)[0], np.zeros(3), jac=lambda b: -loop_cox(rows, b, ties)[1], method="BFGS", options={"gtol": 1e-9}).x
    ll, score, info, share, steps = loop_cox(rows, best, ties)
    inverse, people = np.linalg.inv(info), np.stack([share[data["id"].to_numpy() == i].sum(axis=0) for i in data["id"].unique()])
    ours = cox(data, "start", "stop", "event", ["x", "arm"], cluster="id", strata=layer, weights=weights, ties=ties)
    assert ours["term"].to_list() == ["x", "arm[b]", "arm[c]"]
    check(ours, "coef", best, 1e-6), check(ours, "se", np.sqrt(np.diag(inverse)), 1e-6), check(ours, "robust_se", np.sqrt(np.diag(inverse @ people.T @ people @ inverse)), 1e-6)
    if weights: check(cox(data, "start", "stop", "event", ["x", "arm"], strata=layer, weights=weights, ties=ties), "robust_se", np.sqrt(np.diag(inverse @ share.T @ share @ inverse)), 1e-6)
    fit = fit_cox(data, "start", "stop", "event", ["x", "arm"], strata=layer, weights=weights, ties=ties)
    base = baseline_hazard(fit)
    assert np.allclose(base["hazard"], list(steps.values()), rtol=1e-5) and (not layer or [tuple(k) for k in base.select("city", "time").rows()] == list(steps))
    risk = np.mean([1 - math.exp(-sum(h for (s, t), h in steps.items() if s == r[5] and t <= 7) * math.exp(r[3] @ best)) for r in rows])
    assert np.isclose(standardised_risk(fit, data, [7])["risk"][0], risk, rtol=1e-5) and standardised_risk(fit, data, [99])["risk"][0] is None


@pytest.mark.parametrize("scale", ["km", "log", "identity", "rank"])
@pytest.mark.parametrize("layer", [None, "city"])
def test_proportional_hazards_by_definition(scale, layer):
    "The score test of x·g(t) from a loop that carries twice the covariates, at each event time with its own values"
    data = table(80, 1)
    fit = fit_cox(data, "start", "stop", "event", ["x", "w"], strata=layer)
    rows = [(r["start"], r["stop"], bool(r["event"]), np.array([r["x"], r["w"]]), 1.0, r["city"] if layer else 0) for r in data.iter_rows(named=True)]
    times = sorted(r[1] for r in rows if r[2])
    alive, before = 1.0, {}
    for t in sorted(set(times)):
        before[t] = alive
        alive *= 1 - times.count(t) / sum(r[0] < t <= r[1] for r in rows)
    g = {t: {"km": 1 - before[t], "log": math.log(t), "identity": t, "rank": np.mean([i + 1 for i, u in enumerate(times) if u == t])}[scale] for t in set(times)}
    score, info = np.zeros(4), np.zeros((4, 4))
    for t in set(times):
        only = [(r[0], r[1], r[2] and r[1] == t, np.append(r[3], r[3] * g[t]), 1.0, r[5]) for r in rows if r[0] < t <= r[1]]
        _, u, i, *_ = loop_cox(only, np.append(fit.coef, [0, 0]), "efron")
        score, info = score + u, info + i
    left = info[2:, 2:] - info[2:, :2] @ np.linalg.solve(info[:2, :2], info[:2, 2:])
    expected = [*(score[2:] ** 2 / np.diag(left)), score[2:] @ np.linalg.solve(left, score[2:])]
    ours = proportional_hazards(fit, scale)
    check(ours, "chisq", expected, 1e-6), check(ours.head(2), "trend", score[2:] / np.diag(left), 1e-6)
    assert ours["df"].to_list() == [1, 1, 2] and np.allclose(schoenfeld(fit).group_by("term", maintain_order=True).agg(pl.col("residual").mean()).sort("term")["residual"], fit.coef[np.argsort(fit.terms)], atol=1e-9)


def test_scikit_survival():
    sksurv = pytest.importorskip("sksurv.linear_model", reason="scikit-survival is not installed")
    data = table(200, 2)
    x, y = data.select("x", "w").to_numpy(), np.array(list(zip(data["event"].to_numpy() > 0, data["stop"].to_numpy().astype(float))), dtype=[("e", bool), ("t", float)])
    for ties in ("efron", "breslow"):
        theirs, ours = sksurv.CoxPHSurvivalAnalysis(ties=ties, tol=1e-12).fit(x, y), cox(data, stop="stop", event="event", covariates=["x", "w"], ties=ties)
        check(ours, "coef", theirs.coef_, 1e-7)
    steps = baseline_hazard(fit_cox(data, covariates=["x", "w"], ties="breslow"))
    theirs = sksurv.CoxPHSurvivalAnalysis(ties="breslow", tol=1e-12).fit(x, y).predict_cumulative_hazard_function(np.zeros((1, 2)), return_array=True)[0]
    assert np.allclose(steps["cumulative"], theirs[np.searchsorted(np.unique(data["stop"]), steps["time"])], rtol=1e-6)


# ---- what must not change it

def test_invariance():
    data = table(300, 3).with_columns(pl.col("x") * 1000 + 5000)
    ask = lambda frame, **more: cox(frame, "start", "stop", "event", ["x", "arm"], cluster="id", **more)
    ours = ask(data)
    for other in (data.sample(fraction=1, shuffle=True, seed=1), data.with_columns(id=pl.format("p{}", pl.col("id") * 7)), data.with_columns(pl.col("start", "stop") * 86400.0 - 12345), pl.concat([data.head(100), data.tail(200)])):
        assert np.allclose(ask(other).drop("term").to_numpy(), ours.drop("term").to_numpy(), rtol=1e-9, atol=1e-12)
    plain = ask(data.with_columns(x=pl.col("x") / 1000))
    assert np.allclose(plain["coef"].to_numpy() / [1000, 1, 1], ours["coef"].to_numpy(), rtol=1e-9)
    doubled = pl.concat([data, data.with_columns(id=pl.col("id") + 1000)])
    twice, once = (cox(f, "start", "stop", "event", ["x", "arm"], cluster="id", ties="breslow") for f in (doubled, data))
    assert np.allclose(twice["coef"], once["coef"], rtol=1e-9) and np.allclose(twice["robust_se"] * 2**0.5, once["robust_se"], rtol=1e-9)
    copies = cox(pl.concat([data, data]), "start", "stop", "event", ["x", "arm"], cluster="id", ties="breslow")
    assert np.allclose(copies["robust_se"], once["robust_se"], rtol=1e-9) and np.allclose(copies["se"] * 2**0.5, once["se"], rtol=1e-9)
    whole = data.with_columns(w=pl.lit(3))
    assert np.allclose(cox(whole, "start", "stop", "event", ["x", "arm"], cluster="id", ties="breslow", weights="w")["coef"], once["coef"], rtol=1e-9)


def test_cutting_rows_changes_nothing():
    "A row cut into pieces with the same covariates gives the same table, and people beside the risk sets say nothing"
    data = table(200, 4)
    ours = cox(data, "start", "stop", "event", ["x", "w"], cluster="id")
    cut = episodes(data.with_columns(at=pl.col("start") + 1.5), "at", "later", start="start")
    assert cut.height > data.height and cut["event"].sum() == data["event"].sum()
    assert np.allclose(cox(cut, "start", "stop", "event", ["x", "w"], cluster="id").drop("term").to_numpy(), ours.drop("term").to_numpy(), rtol=1e-9)
    quiet = pl.concat([data, data.head(20).with_columns(start=pl.lit(500), stop=pl.lit(600), event=pl.lit(0), x=pl.lit(1e6))], how="vertical_relaxed")
    assert np.allclose(cox(quiet, "start", "stop", "event", ["x", "w"], cluster="id").drop("term").to_numpy(), ours.drop("term").to_numpy(), rtol=1e-8)


def test_delayed_entry_is_strict():
    "Whoever enters at the time of an event is not at risk of it: start < t ≤ stop"
    frame = pl.DataFrame({"start": [0, 0, 0, 5], "stop": [5, 7, 9, 8], "event": [1, 1, 0, 0], "x": [0, 1, 0, 1]})
    index = hazards.risk_index(frame["start"].to_numpy().astype(float), frame["stop"].to_numpy().astype(float), frame["event"].to_numpy() > 0, np.zeros(4, int))
    assert index.total(np.ones(4)).tolist() == [3, 3]


def test_words_booleans_and_extremes():
    data = table(300, 5)
    by_hand = data.with_columns(b=(pl.col("arm") == "b").cast(pl.Float32), c=pl.col("arm") == "c")
    assert np.allclose(cox(data, "start", "stop", "event", ["arm"]).drop("term", "robust_se").to_numpy(), cox(by_hand, "start", "stop", "event", ["b", "c"]).drop("term", "robust_se").to_numpy(), rtol=1e-12)
    assert cox(data.with_columns(pl.col("arm").cast(pl.Categorical)), "start", "stop", "event", ["arm"])["term"].to_list() == ["arm[b]", "arm[c]"]
    rng = np.random.default_rng(6)
    heavy = pl.DataFrame({"stop": rng.exponential(1, 400), "event": np.ones(400, int), "x": rng.lognormal(0, 3, 400), "y": rng.normal(1e9, 1, 400)})
    found = cox(heavy, covariates=["x", "y"])
    assert found["coef"].is_finite().all() and (found["se"] > 0).all() and np.abs(found["coef"][1]) < 5 * found["se"][1]
    strong = heavy.with_columns(stop=pl.Series(rng.exponential(1, 400) * np.exp(-4 * rng.normal(size=400))))
    assert np.isfinite(cox(strong, covariates=["y"])["coef"][0])
    steep = pl.DataFrame({"z": (z := rng.normal(size=2000)), "stop": rng.exponential(1, 2000) * np.exp(-6 * z), "event": np.ones(2000, int)})
    assert abs(cox(steep, covariates=["z"])["coef"][0] - 6) < 0.5


# ---- bad input

BAD = pl.DataFrame({"start": [0.0, 1, 2, 0], "stop": [3.0, 4, 5, 6], "event": [1, 0, 1, 1], "x": [1.0, 0, 2, 1], "k": [1, 1, 1, 1], "who": ["a", "b", "c", "d"], "w": [1, 2, 0, 1], "gap": [1, None, 2, 3], "day": [None] * 4})


@pytest.mark.parametrize(("change", "arguments", "says"), [
    ({}, {"ties": "exact"}, "ties must be one of .*'exact'"), ({}, {"covariates": ["xx"]}, "covariates must name a column.*'xx'"), ({}, {"covariates": []}, "covariates must be a list"), ({}, {"covariates": ["x", "x"]}, "different columns"),
    ({}, {"stop": "end"}, "stop must name"), ({}, {"event": "y"}, "event must name"), ({}, {"start": "y"}, "start must name"), ({}, {"cluster": "y"}, "cluster must name"), ({}, {"strata": ["x", "y"]}, "strata must name"), ({}, {"weights": "y"}, "weights must name"),
    ({}, {"weights": "w"}, "weights must be above 0; got 0 in row 2"), ({}, {"covariates": ["gap"]}, "covariates: column 'gap' .* None in row 1"), ({}, {"event": "x"}, "event must be 0 or 1 in every row; got 2 in row 2"),
    ({"start": [0.0, 4, 2, 0]}, {"start": "start"}, "start must be before stop.*4.0 and stop 4.0 in row 1"), ({"who": ["a", "b", None, "c"]}, {"cluster": "who"}, "cluster: column 'who' has no value in row 2"), ({"stop": [3.0, float("nan"), 1, 2]}, {}, "stop: column 'stop' .* nan in row 1"), ({"stop": [3.0, float("inf"), 1, 2]}, {}, "inf in row 1"),
    ({"stop": ["3", "4", "5", "6"]}, {}, "stop must name a column of numbers; 'stop' holds String"), ({"who": [None, "a", "b", "c"]}, {"covariates": ["who"]}, "'who' has no value in row 0"), ({}, {"level": 95}, "level must lie"), ({}, {"level": 0}, "level")])
def test_bad_input_is_named(change, arguments, says):
    frame = BAD.with_columns(**{name: pl.Series(values) for name, values in change.items()})
    with pytest.raises(InvalidParameter, match=says): cox(frame, **{"covariates": ["x"], **arguments})


def test_wrong_types_and_many_words():
    with pytest.raises(InvalidParameter, match="frame must be a Polars DataFrame; got dict"): cox(BAD.to_dict(), covariates=["x"])
    many = pl.DataFrame({"stop": np.arange(1.0, 41), "event": [1] * 40, "name": [f"user{i}" for i in range(40)]})
    with pytest.raises(InvalidParameter, match="40 different words; at most 20"): cox(many, covariates=["name"])
    with pytest.raises(InvalidParameter, match="scale must be one of"): proportional_hazards(fit_cox(table(), "start", "stop", "event", ["x"]), "sqrt")
    with pytest.raises(InvalidParameter, match="log needs times above 0"): proportional_hazards(fit_cox(table().with_columns(pl.col("start", "stop") - 20), "start", "stop", "event", ["x"]), "log")
    fit = fit_cox(table(), "start", "stop", "event", ["x"], strata="city")
    with pytest.raises(InvalidParameter, match="row 1 is of a stratum"): standardised_risk(fit, pl.DataFrame({"x": [0, 0], "city": ["Bonn", "Ulm"]}), [3])
    with pytest.raises(InvalidParameter, match="covariates must name"): standardised_risk(fit, pl.DataFrame({"city": ["Bonn"]}), [3])


@pytest.mark.parametrize(("columns", "arguments", "says"), [
    ({"event": 0}, {}, "none of the 60 rows has an event"), ({"x": 3}, {}, "covariate 'x' is the same in all 60 rows"), ({"one": "only"}, {"covariates": ["one"]}, "is the same in all 60 rows"),
    ({"id": 1}, {"cluster": "id"}, "all 60 rows belong to one 'id'")])
def test_what_cannot_be_known(columns, arguments, says):
    with pytest.raises(NotIdentifiable, match=says): cox(table().with_columns(**{name: pl.lit(value) for name, value in columns.items()}), "start", "stop", "event", **{"covariates": ["x"], **arguments})


@pytest.mark.parametrize("n", [12, 400, 20_000])
@pytest.mark.parametrize("kind", ["binary", "rare", "sorted", "mixture"])
def test_endless_likelihoods_are_named(n, kind):
    "All events on one side of a covariate, or of a combination of two: refused by name, whatever the size"
    rng = np.random.default_rng(n)
    x, y, event = rng.normal(size=n), rng.normal(size=n), rng.integers(0, 2, n)
    event[:2], stop = 1, 1 + rng.random(n)
    quiet = np.flatnonzero(event == 0)[0]
    stop[quiet] = 3
    bad = {"binary": event, "rare": (np.arange(n) == quiet).astype(int), "sorted": -stop, "mixture": event - y}[kind]
    with pytest.raises(NotIdentifiable, match="no finite coefficient") as caught: cox(pl.DataFrame({"stop": stop, "event": event, "x": x, "y": y, "bad": bad}), covariates=["x", "y", "bad"])
    assert "'bad'" in str(caught.value) or (kind == "mixture" and "'y'" in str(caught.value))


@pytest.mark.parametrize("n", [30, 300, 3000])
def test_dependent_covariates_are_named(n):
    "In every order of the rows: what rounding leaves of a covariate that is constant within its layers depends on the order"
    for seed in range(12):
        data = table(n, 7).sample(fraction=1, shuffle=True, seed=seed)
        for more in (pl.col("x") * 3 - 1, pl.col("x") + pl.col("w"), (pl.col("city") == "Bonn").cast(pl.Int8), (pl.col("city") == "Bonn") * 1e6 + 3e8):
            layer = "city" if "city" in str(more) else None
            with pytest.raises(NotIdentifiable, match="'twin' has no effect that can be told"): cox(data.with_columns(twin=more), "start", "stop", "event", ["x", "w", "twin"], strata=layer)


def test_few_clusters_warn():
    with pytest.warns(SmallSample, match="5 clusters"): cox(table().with_columns(id=pl.col("id") % 5), "start", "stop", "event", ["x"], cluster="id")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cox(table(), "start", "stop", "event", ["x"])


@pytest.mark.parametrize("start", [None, "start"])
def test_episodes(start):
    data = table(100, 8).with_columns(at=pl.Series(np.where(np.arange(100) % 3 == 0, np.nan, np.arange(100) % 14)))
    if start is None:
        with pytest.raises(InvalidParameter, match="has a column 'start' already"): episodes(data, "at", "after")
        data = data.drop("start")
    cut = episodes(data, "at", "after", start=start)
    begin = cut[start or "start"]
    length = data["stop"] - (data["start"] if start else 0)
    assert np.isclose((cut["stop"] - begin).sum(), length.sum()) and cut["event"].sum() == data["event"].sum() and (begin < cut["stop"]).all()
    for row in cut.iter_rows(named=True): assert (row["after"] == 0) == (row["at"] is None or math.isnan(row["at"]) or row["stop"] <= row["at"])


# ---- mean counts

def loop_mean(rows, weights, terminal):
    "The mean count by its definition with weights; rows are (id, start, stop, n, over); a dict by time"
    alive, total, out = 1.0, 0.0, {}
    for t in sorted({r[2] for r in rows if r[3] or r[4]}):
        y = sum(w for i, w in weights.items() if any(r[0] == i and r[1] < t <= r[2] for r in rows))
        total += alive * sum(weights[r[0]] * r[3] for r in rows if r[2] == t) / y
        if terminal: alive *= 1 - sum(weights[r[0]] * r[4] for r in rows if r[2] == t) / y
        out[t] = total
    return out


lives = st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=4), min_size=2, max_size=7)


@settings(max_examples=80)
@given(lives, st.booleans(), st.booleans(), st.integers(0, 5))
def test_mean_count_by_definition(drawn, terminal, entered, dies):
    "Estimate, people watched and variance (squares of the derivative by each person's weight) against a loop; with gaps, late entry, ends, and several events at a time"
    rows = []
    for i, life in enumerate(drawn):
        now = 0
        for j, (gap, length, n) in enumerate(life):
            start = now + (gap if entered else 0)
            now = start + length
            rows.append((i, start, now, n, int(terminal and j == len(life) - 1 and i % 6 <= dies)))
    assume(any(r[3] for r in rows))
    frame = pl.DataFrame(rows, schema=["id", "start", "stop", "n", "over"], orient="row").sample(fraction=1, shuffle=True, seed=1)
    ours = mean_cumulative_count(frame, "id", "stop", "n", start="start" if entered else None, terminal="over" if terminal else None)
    ones = dict.fromkeys({r[0] for r in rows}, 1.0)
    expected, seen = loop_mean(rows, ones, terminal), [t for t in sorted({r[2] for r in rows}) if any(r[3] and r[2] == t for r in rows)]
    assert ours["time"].to_list() == seen and np.allclose(ours["mean"], [expected[t] for t in seen])
    assert ours["at_risk"].to_list() == [sum(any(r[0] == i and r[1] < t <= r[2] for r in rows) for i in ones) for t in seen] and ours["events"].to_list() == [sum(r[3] for r in rows if r[2] == t) for t in seen]
    up, down = ({i: loop_mean(rows, {**ones, i: 1 + sign * 1e-5}, terminal) for i in ones} for sign in (1, -1))
    variance = [sum(((up[i][t] - down[i][t]) / 2e-5) ** 2 for i in ones) for t in seen]
    assert np.allclose(ours["se"] ** 2, variance, atol=1e-7)
    assert np.allclose(ours["low"], ours["mean"] * np.exp(-1.959964 * ours["se"] / ours["mean"]), rtol=1e-5) and np.allclose(ours["low"] * ours["high"], ours["mean"] ** 2)


def test_mean_count_of_bladder(shared):
    "Intervals and plain rows give the same curve; the last mean by a loop over tumours"
    data = reference(shared, "survival_r/bladder2.csv")
    ours = mean_cumulative_count(data, "id", "stop", "event", start="start")
    assert np.allclose(ours.drop("at_risk").to_numpy(), mean_cumulative_count(data, "id", "stop", "event").drop("at_risk").to_numpy())
    rows = data.select("id", "start", "stop", "event", pl.lit(0)).rows()
    assert np.isclose(ours["mean"][-1], list(loop_mean(rows, dict.fromkeys(data["id"].unique(), 1.0), False).values())[-1]) and ours["events"].sum() == 112


def test_mean_count_invariance_and_bootstrap():
    "Order and names do not matter; the error is that of drawing people again"
    people, posts = s3(5, n=120)
    rows = pl.concat([posts.select("id", day="at", event=pl.lit(1)), people.select("id", day="days", event=pl.lit(0))])
    ours = mean_cumulative_count(rows, "id", "day", "event")
    other = mean_cumulative_count(rows.with_columns(id=pl.format("u{}", 500 - pl.col("id"))).sample(fraction=1, shuffle=True, seed=2), "id", "day", "event")
    assert np.allclose(ours.to_numpy(), other.to_numpy(), atol=1e-9)
    rng, last, draws = np.random.default_rng(1), 100.0, []
    for _ in range(300):
        drawn = pl.DataFrame({"id": rng.integers(0, 120, 120), "copy": np.arange(120)})
        draws.append(mean_cumulative_count(drawn.join(rows, on="id"), "copy", "day", "event").filter(pl.col("time") <= last)["mean"][-1])
    assert abs(np.std(draws) / ours.filter(pl.col("time") <= last)["se"][-1] - 1) < 0.12


@pytest.mark.parametrize(("change", "arguments", "says"), [
    ({}, {"id": "who"}, "id must name"), ({"event": [1, -1, 0]}, {}, "event must be 0, 1, 2, … .* got -1 in row 1"), ({"event": [0.5, 1, 0]}, {}, "event must be"), ({"stop": [-1.0, 2, 3]}, {}, "stop must be at least 0"),
    ({"over": [0, 2, 0]}, {"terminal": "over"}, "terminal must be 0 or 1"), ({"over": [1, 0, 0]}, {"terminal": "over"}, "terminal: row 1 lies after the end"), ({"start": [0.0, 0.5, 0]}, {"start": "start"}, "start: row 1 begins before another row"),
    ({"start": [1.0, 1, 0]}, {"start": "start"}, "start must be before stop .* in row 0"), ({"stop": [1.0, None, 3]}, {}, "stop: column 'stop' .* row 1")])
def test_mean_count_bad_input(change, arguments, says):
    frame = pl.DataFrame({"id": [1, 1, 2], "stop": [1.0, 2, 3], "event": [1, 1, 0], "over": [0, 1, 0], "start": [0.0, 1, 0]}).with_columns(**{name: pl.Series(v) for name, v in change.items()})
    with pytest.raises(InvalidParameter, match=says): mean_cumulative_count(frame, **{"id": "id", **arguments})


def test_mean_count_without_events():
    assert mean_cumulative_count(pl.DataFrame({"id": [1], "stop": [4], "event": [0]}), "id").height == 0


# ---- frailty

def by_quadrature(frame, covariates, at, nodes=80):
    "The marginal log likelihood by Gauss–Laguerre quadrature over each person's factor, at (intercept, β, log variance)"
    from scipy.special import roots_genlaguerre
    k = np.exp(-at[-1])
    u, w = roots_genlaguerre(nodes, k - 1)
    total = 0.0
    for _, part in frame.group_by("id"):
        mu = part["days"].to_numpy() * np.exp(at[0] + part.select(covariates).to_numpy() @ at[1:-1])
        y = part["posts"].to_numpy()
        rate = np.outer(u / k, mu)
        total += math.log((w * np.exp((y * np.log(rate) - rate - gammaln(y + 1)).sum(axis=1))).sum()) - gammaln(k)
    return total


def test_frailty_by_quadrature():
    "Estimate and errors against a numerical maximum and curvature of the likelihood integrated by quadrature"
    frame = periods(*s3(7, n=60)).filter(pl.col("days") > 1e-6)
    ours = frailty(frame, "id", "posts", "days", ["acked", "x"])
    best = np.append(ours["coef"].to_numpy()[:-1], np.log(ours["coef"][-1]))
    value = lambda at: by_quadrature(frame, ["acked", "x"], at)
    basis = 1e-3 * np.eye(4)
    slope = [(value(best + e) - value(best - e)) / 2e-3 for e in basis]
    curve = np.array([[(value(best + e + f) - value(best + e - f) - value(best - e + f) + value(best - e - f)) / 4e-6 for f in basis] for e in basis])
    se = np.sqrt(np.diag(np.linalg.inv(-curve)))
    assert np.abs(slope).max() < 1e-3 * np.sqrt(-np.diag(curve)).min()
    assert np.allclose(ours["se"].to_numpy(), np.append(se[:-1], se[-1] * ours["coef"][-1]), rtol=1e-3)
    assert np.isclose(ours["high"][-1], ours["coef"][-1] * np.exp(1.959964 * se[-1]), rtol=1e-3) and np.isclose(ours["low"][1], ours["coef"][1] - 1.959964 * se[1], rtol=1e-3)


def test_frailty_is_negative_binomial():
    "One period of one length each: the counts are negative binomial, and scipy's likelihood has its top where ours is"
    y = np.random.default_rng(8).negative_binomial(2, 0.3, 300)
    ours = frailty(pl.DataFrame({"id": np.arange(300), "count": y, "exposure": 4.0}))
    at = minimize(lambda p: -nbinom.logpmf(y, np.exp(-p[1]), 1 / (1 + 4 * np.exp(p[0] + p[1]))).sum(), [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}).x
    assert np.allclose([ours["coef"][0], np.log(ours["coef"][1])], at, atol=1e-5) and ours["term"].to_list() == ["(intercept)", "frailty variance"]


def test_frailty_invariance():
    frame = periods(*s3(9, n=200))
    ours = frailty(frame, "id", "posts", "days", ["acked", "x"])
    other = frailty(frame.sample(fraction=1, shuffle=True, seed=1).with_columns(pl.format("n{}", "id").alias("id"), days=pl.col("days") * 24), "id", "posts", "days", ["acked", "x"])
    assert np.allclose(ours["coef"].to_numpy()[1:], other["coef"].to_numpy()[1:], rtol=1e-7) and np.isclose(ours["coef"][0] - np.log(24), other["coef"][0]) and np.allclose(ours["se"], other["se"], rtol=1e-6)
    scaled = frailty(frame.with_columns(x=pl.col("x") * 1e4 + 1e6), "id", "posts", "days", ["acked", "x"])
    assert np.isclose(scaled["coef"][2] * 1e4, ours["coef"][2], rtol=1e-7) and np.isclose(scaled["se"][2] * 1e4, ours["se"][2], rtol=1e-6) and np.isclose(scaled["coef"][1], ours["coef"][1], rtol=1e-7)
    nothing = pl.concat([frame, frame.head(30).with_columns(days=pl.lit(0.0), posts=pl.lit(0), x=pl.lit(9.0))], how="vertical_relaxed")
    assert frailty(nothing, "id", "posts", "days", ["acked", "x"]).equals(ours), "a piece of no length says nothing"
    far = frailty(frame.with_columns(x=pl.col("x") + 1e6), "id", "posts", "days", ["acked", "x"])
    assert np.allclose(far["coef"].to_numpy()[1:], ours["coef"].to_numpy()[1:], rtol=1e-6)
    with pytest.raises(NotIdentifiable, match="'twin' is the same in all .* or a combination"): frailty(frame.with_columns(twin=3 * pl.col("x") + pl.col("acked")), "id", "posts", "days", ["acked", "x", "twin"])
    pieces = pl.concat([frame.with_columns(days=pl.col("days") / 4, posts=pl.lit(0)), frame.with_columns(days=pl.col("days") * 3 / 4)], how="vertical_relaxed")
    assert np.allclose(frailty(pieces, "id", "posts", "days", ["acked", "x"])["coef"], ours["coef"], rtol=1e-7)


def test_frailty_of_people_who_are_alike():
    "Counts that vary less than by chance: the variance is 0, and the rest is Poisson's, by the closed form of two groups"
    frame = pl.DataFrame({"id": range(40), "count": [2, 4] * 20, "exposure": [10.0] * 40, "g": [0, 1] * 20})
    ours = frailty(frame, covariates=["g"])
    assert ours["coef"][-1] == 0 and ours["se"][-1] is None and np.allclose(ours["coef"].to_numpy()[:2], [np.log(0.2), np.log(2)]) and np.allclose(ours["se"].to_numpy()[:2], [40**-0.5, (1 / 40 + 1 / 80) ** 0.5])
    words = frailty(frame.with_columns(g=pl.col("g").replace_strict({0: "a", 1: "b"}, return_dtype=pl.String)), covariates=["g"])
    assert words["term"].to_list() == ["(intercept)", "g[b]", "frailty variance"] and np.allclose(words["coef"], ours["coef"])


@pytest.mark.parametrize(("change", "arguments", "kind", "says"), [
    ({}, {"id": "who"}, InvalidParameter, "id must name"), ({}, {"covariates": ["z"]}, InvalidParameter, "covariates must name"), ({"count": [1, -2, 3, 4]}, {}, InvalidParameter, "count must be whole .* got -2 in row 1"), ({"count": [1.0, 0.5, 3, 4]}, {}, InvalidParameter, "count must be whole"),
    ({"exposure": [1.0, 0, 1, 1]}, {}, InvalidParameter, "exposure must be above 0 .* row 1"), ({"exposure": [1.0, -1, 1, 1]}, {}, InvalidParameter, "exposure must be"), ({"x": [1.0, None, 2, 3]}, {"covariates": ["x"]}, InvalidParameter, "'x' .* row 1"),
    ({"count": [0] * 4}, {}, NotIdentifiable, "nothing was counted in 4 rows"), ({"id": [1] * 4}, {}, NotIdentifiable, "cannot be told from 1"), ({"x": [2.0] * 4}, {"covariates": ["x"]}, NotIdentifiable, "covariate 'x'"),
    ({"x": [0.0, 0, 0, 1], "count": [3, 1, 4, 0]}, {"covariates": ["x"]}, NotIdentifiable, "'x' has no finite coefficient"), ({"x": [0.0, 1, 2, 3], "count": [0, 0, 0, 9]}, {"covariates": ["x"]}, NotIdentifiable, "'x' has no finite coefficient")])
def test_frailty_bad_input(change, arguments, kind, says):
    frame = pl.DataFrame({"id": [1, 2, 3, 3], "count": [1, 2, 3, 4], "exposure": [1.0, 1, 1, 1], "x": [1.0, 2, 2, 3]}).with_columns(**{name: pl.Series(v) for name, v in change.items()})
    with pytest.raises(kind, match=says): frailty(frame, **arguments)


def test_the_scenario_cuts_as_the_page_does():
    "The simulator's own intervals are what `episodes` makes of its people"
    people = s2(3, n=200)
    ours, theirs = episodes(people, "acked_at", "acked").select("id", "start", "stop", "event", "acked"), intervals(people).select("id", "start", "stop", "event", "acked")
    assert ours.height == theirs.height and np.allclose(ours.to_numpy(), theirs.to_numpy())


def test_the_survival_page_carries_them():
    assert tl.survival.cox is cox and tl.survival.frailty is frailty and tl.survival.mean_cumulative_count is mean_cumulative_count
