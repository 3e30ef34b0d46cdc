"""Emulated trials and their like with known truth: who is engaged is acknowledged sooner and advocates sooner (S2 of the statistics sheet), a covariate that answers move (S2b), two things done to people, and false finds.

The quick form accepts what 998 of 1,000 runs of a right estimator would show; TRUSTLAB_LONG=1 runs 1,000 repetitions with the thresholds of the sheet."""
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from monte_carlo import LONG, Runs, reps
from scenarios_hazards import s2
from scenarios_trials import moving

from trustlab import effects, person_time, trials
from trustlab.patterns import patterns

REPS = reps(1000, 40)


def table(people):
    seen = lambda flag, stop: pl.when(pl.col(flag) == 1).then(stop)
    return people.select("id", "x", "proxy", entry=pl.lit(0.0), end="days", exposed_at="acked_at", event_at=seen("event", "stop"), negative_at=seen("control_event", "control_stop"))


def worlds(hr, day=90.0):
    "The risks by a day of nobody and everybody acknowledged at entry, by quadrature over engagement"
    x, w = np.polynomial.hermite_e.hermegauss(80)
    return [float(w @ (1 - np.exp(-0.0025 * m * day * np.exp(0.7 * x))) / w.sum()) for m in (1, hr)]


def ends(found, estimand="hazard_ratio", names=("estimate", "low", "high")):
    "Estimate, low and high of one row; ratios as logarithms"
    row = found.frame.filter(estimand=estimand).row(0, named=True)
    return [row[n] if estimand == "risk_difference" else np.log(row[n]) for n in names]


def control(found): return ends(found, names=("negative_control", "negative_low", "negative_high"))


def model_error(people):
    "The hazard ratio's error as if all rows of all trials were independent"
    found = trials.setting(people, ["x"])
    _, design, _ = trials.nested_design(found, "both", 20.0)
    grid = person_time.grid_of(found.edges, person_time.outcomes(design.groups(), found.edges, design.trials))
    fit = person_time.newton(*person_time.tally(design.groups(), found.alike, grid, design.stay), grid.z, found.alike.x)
    return fit.inverse[grid.width - 1, grid.width - 1] ** 0.5


# ---- S2

RIGHT = ("trials, hazard ratio", "trials, risk difference", "trials, risk ratio", "landmark", "time-varying")
BESIDE = ("landmark, controls kept when answered", "matched")


@pytest.fixture(scope="module", params=[1.5, 1.0], ids=["hr=1.5", "hr=1"])
def runs(request):
    "Every design on every repetition"
    hr, out = request.param, {}
    keep = lambda name, values: out.setdefault(name, []).append(values)
    for seed in range(REPS):
        people = table(s2(seed, hr=hr))
        first, raw = trials.sequential(people, ["x"], negative="negative_at"), trials.sequential(people, adjust="none", negative="negative_at")
        keep("trials, hazard ratio", ends(first))
        keep("trials, risk difference", ends(first, "risk_difference"))
        keep("trials, risk ratio", ends(first, "risk_ratio"))
        keep("landmark", ends(trials.landmark(people, ["x"])))
        keep("time-varying", ends(trials.time_varying(people, ["x"])))
        keep("matched", ends(trials.matched(people, ["x"])))
        keep("landmark, controls kept when answered", ends(trials.landmark(people, ["x"], censor=False)))
        keep("trials, unadjusted", ends(raw))
        keep("trials, adjusted for a poor measure", ends(trials.sequential(people, ["proxy"])))
        keep("ever acknowledged", ends(trials.naive_ever(people)))
        if seed < 200: keep("trials, rows taken for independent", (e := ends(first)[0], e - 1.96 * (se := model_error(people)), e + 1.96 * se))
        keep("control", control(first))
        keep("control, unadjusted", control(raw))
    r0, r1 = worlds(hr)
    truths = {"trials, risk difference": r1 - r0, "trials, risk ratio": np.log(r1 / r0), "control": 0.0, "control, unadjusted": 0.0}
    found = {}
    for name, rows in out.items():
        of_control = name.startswith("control")
        if of_control and hr != 1: continue
        role = "recommended" if name in (*RIGHT, "control") else "beside" if name in BESIDE else "naive"
        scenario = "S2, an outcome that no answer touches, 1,000 people" if of_control else f"S2, hazard ratio {hr:g}, 1,000 people"
        found[name] = Runs("trials", scenario, name.replace("control", "trials") if of_control else name, truths.get(name, np.log(hr)), rows, role)
    return hr, found


@pytest.mark.parametrize("name", RIGHT)
def test_the_recommended_ones_are_right(runs, name):
    hr, found = runs
    found[name].honest(log=name != "trials, risk difference")


def test_power_and_false_alarms(runs):
    "Where there is an effect it is found; where there is none, it is not, and the negative control stays at rest where engagement is adjusted for, and gives the confounding away where it is not"
    hr, found = runs
    if hr > 1:
        assert found["trials, hazard ratio"].rejects > (0.78 if LONG else 0.68) and found["time-varying"].rejects >= (0.88 if LONG else 0.8)
        return
    for name in RIGHT: found[name].quiet()
    found["control"].honest(log=True).quiet()
    assert found["control, unadjusted"].bias > 0.4 and found["control, unadjusted"].rejects > 0.9


def test_the_wrong_ones_are_seen_to_be_wrong(runs):
    hr, found = runs
    assert found["trials, unadjusted"].bias > 0.4 and found["trials, unadjusted"].coverage < 0.1
    assert found["trials, adjusted for a poor measure"].bias > 0.12 and found["trials, adjusted for a poor measure"].coverage < 0.75
    assert found["ever acknowledged"].estimate.mean() < -0.2 and found["ever acknowledged"].coverage < 0.05
    if hr > 1: assert found["landmark, controls kept when answered"].bias < -0.1, "controls answered later dilute it"
    independent = found["trials, rows taken for independent"]
    assert independent.se < 0.9 * independent.sd and independent.coverage < 0.93, "rows taken for independent make the error too small"


def test_matching_is_near(runs):
    "Both of a pair leave when the control is answered; what is left is what the caliper and the coarseness of the chance leave"
    _, found = runs
    assert abs(found["matched"].bias) < (0.06 if LONG else 0.1) and found["matched"].coverage > (0.92 if LONG else 0.88)


def calls(seed, ratio, people=400):
    "Calls of people who differ in engagement (recorded) and in pace (not): the engaged are answered more and post more, and an answer multiplies the rate of the 30 days after the window by `ratio`"
    rng = np.random.default_rng(seed)
    x, pace = rng.normal(size=people), rng.gamma(1 / 0.8, 0.8, people)
    who = np.repeat(np.arange(people), 1 + rng.poisson(2 * pace))
    answered = rng.random(who.size) < 1 / (1 + np.exp(0.5 - 0.8 * x[who]))
    days = rng.uniform(10, 30, who.size)
    count = rng.poisson(days * 0.05 * np.exp(0.5 * x[who]) * pace[who] * np.where(answered, ratio, 1))
    rows = pl.DataFrame({"cluster": who, "x": x[who], "entry": np.zeros(who.size), "end": 14 + days, "exposed_at": np.where(answered, 0.5, np.nan)})
    return rows.with_columns(pl.col("exposed_at").fill_nan(None), event_at=pl.lit(None, pl.Float64)), count, days


@pytest.mark.parametrize("ratio", [1.25, 1.0])
def test_rates_after_calls(ratio):
    "The trials of posts (page Posting): several calls of a person, and how often that person posts after each"
    out = {"rates after calls": [], "rates after calls, unadjusted": []}
    for seed in range(REPS):
        rows, count, days = calls(seed, ratio)
        for name, covariates in zip(out, (["x"], [])): out[name].append(ends(trials.rate_after(trials.setting(rows, covariates, horizon="30d"), 14.0, count, days), "rate_ratio"))
    scenario, (right, raw) = f"rate ratio {ratio:g}, calls of 400 people", out
    found = Runs("trials", scenario, right, np.log(ratio), out[right]).honest(log=True)
    if ratio == 1: found.quiet()
    else: assert found.rejects > 0.5
    wrong = Runs("trials", scenario, raw, np.log(ratio), out[raw], "naive")
    assert wrong.bias > 0.2 and wrong.coverage < 0.8


def mean_weight(people, covariates, history, **asked):
    "The mean stabilised weight of all who begin a trial, exposed in its first window or not"
    found = trials.setting(people, covariates, history, **asked)
    chance = trials.nested_design(found, "both", 20.0)[0]
    rate = chance.hits.sum(1, keepdims=True) / np.maximum(chance.n.sum(1, keepdims=True), 1)
    return (chance.hits * rate / chance.e + (chance.n - chance.hits) * (1 - rate) / (1 - chance.e)).sum() / chance.n.sum()


# ---- S2b: a covariate that answers move

LAW = dict(keep=0.7, push=0.25, ack=0.042 / 7, ack_l=0.9, hazard=0.006 / 7, hazard_l=0.6, hr=float(np.exp(0.3)), every=7.0)


@pytest.mark.parametrize("effect", [True, False])
def test_a_covariate_that_answers_move(effect):
    "S2b, 20 weeks: l' = .7 l + .25 exposed, weekly chances of exposure near logit(-3.2 + .9 l), of the outcome .006 exp(.6 l + .3 exposed); and the same where an answer does nothing"
    law = LAW if effect else LAW | {"push": 0.0, "hr": 1.0}
    risks = [float((moving(1, reps(2_000_000, 400_000), forced=forced, windows=20, **LAW)[0]["event_at"].fill_null(np.inf) <= 140).mean()) for forced in (False, effect)]
    if effect: assert risks == pytest.approx([0.1338, 0.2553], abs=0.006) and risks[1] / risks[0] == pytest.approx(1.909, abs=0.05)
    out, weights, asked = {}, [], dict(horizon="140d", every="7d")
    keep = lambda name, values: out.setdefault(name, []).append(values)
    for seed in range(reps(1000, 60)):
        people, history = moving(seed, 1500, windows=26, **law)
        ours = trials.sequential(people, ["l"], history, **asked)
        if seed < 40: weights.append(mean_weight(people, ["l"], history, **asked))
        keep("trials, risk ratio", ends(ours, "risk_ratio"))
        keep("trials, risk difference", ends(ours, "risk_difference"))
        keep("trials, unadjusted, risk ratio", ends(trials.sequential(people, ["l"], history, adjust="none", **asked), "risk_ratio"))
        if effect: keep("time-varying, given what the answer moved", ends(trials.time_varying(people, ["l"], history, every="7d")))
    truths = {"trials, risk difference": risks[1] - risks[0], "time-varying, given what the answer moved": 0.3}
    scenario = f"S2b, 20 weeks, 1,500 people, {'an answer moves the covariate too' if effect else 'no effect'}"
    runs = {name: Runs("trials", scenario, name, truths.get(name, np.log(risks[1] / risks[0])), rows, "naive" if "unadjusted" in name else "beside" if "given" in name else "recommended") for name, rows in out.items()}
    for name in ("trials, risk ratio", "trials, risk difference"):
        runs[name].honest(log="ratio" in name)
        if not effect: runs[name].quiet()
    assert abs(runs["trials, risk ratio"].bias) < (0.06 if LONG else 0.1) and runs["trials, unadjusted, risk ratio"].bias > 0.08
    assert 0.98 <= np.mean(weights) <= 1.02, np.mean(weights)
    if effect: assert abs(runs["time-varying, given what the answer moved"].bias) < 0.1 and runs["time-varying, given what the answer moved"].estimate.mean() < np.log(risks[1] / risks[0]) - 0.2, "given the covariate that it moves, an answer has its direct effect only"


# ---- two things done to people

@pytest.mark.parametrize("hr", [1.8, 1.0])
def test_a_contrast_of_two_exposures(hr):
    "Of two exposures one is given to people of one kind more often, who do more anyway"
    found, plain, scenario = [], [], f"one of two exposures, hazard ratio {hr:g}, 1,200 people"
    for seed in range(reps(1000, 60)):
        rng, n = np.random.default_rng(seed), 1200
        x = rng.random(n) < 0.5
        arm = rng.random(n) < np.where(x, 0.65, 0.3)
        event = rng.exponential(1 / (0.006 * np.exp(0.9 * x + np.log(hr) * arm)))
        people = pl.DataFrame({"id": np.arange(n), "entry": 0.0, "end": 90.0, "exposed_at": pl.Series(np.where(arm, 0.0, np.nan)).fill_nan(None), "event_at": pl.Series(np.where(event < 90, event, np.nan)).fill_nan(None), "kind": x.astype(str)})
        setting = trials.setting(people, ["kind"], None, "90d", "14d")
        for rows, one in ((found, setting), (plain, replace(setting, alike=patterns([], n)))): rows.append(ends(trials.at_landmark(one, 0.0, False, 20.0, 0.95)))
    ours = Runs("trials", scenario, "contrast", np.log(hr), found).honest(log=True)
    naive = Runs("trials", scenario, "contrast, unadjusted", np.log(hr), plain, "naive")
    if hr == 1: ours.quiet()
    else: assert ours.rejects > 0.99
    assert naive.bias > 0.15 and naive.coverage < 0.7


# ---- false finds

def test_the_corrected_ratio_finds_the_truth_among_false_finds():
    "True risks .08 and .16, and false finds alike in both groups: the plain ratio is drawn to 1; the corrected interval, which holds for every precision within 5 points, holds 2"
    found, plain, n, p = [], [], 3000, 0.6
    empty = {c: [None] for c in person_time.FRAME}
    for seed in range(reps(1000, 200)):
        hits = [np.random.default_rng([seed, i]).binomial(n, r + 0.08 * (1 - p) / p) for i, r in enumerate((0.08, 0.16))]
        ratio, se = hits[1] / hits[0], np.sqrt(1 / hits[0] - 1 / n + 1 / hits[1] - 1 / n)
        low, high = ratio * np.exp(-1.96 * se), ratio * np.exp(1.96 * se)
        plain.append(np.log([ratio, low, high]))
        frame = pl.DataFrame(empty, schema=person_time.FRAME).with_columns(method=pl.lit("trials"), estimand=pl.lit("risk_ratio"), horizon=90.0, estimate=pl.lit(ratio), low=pl.lit(low), high=pl.lit(high))
        curves = pl.DataFrame({"horizon": [90.0], "unexposed": [hits[0] / n], "exposed": [hits[1] / n]})
        last = effects.with_false_finds(frame, curves, p - 0.05, p + 0.05)[0].row(-1, named=True)
        found.append(np.log([last[c] for c in ("estimate", "low", "high")]))
    scenario = "risks of .08 and .16, 6 of 10 finds are right, 3,000 people each"
    ours, naive = Runs("trials", scenario, "ratio with false finds taken out", np.log(2), found, reach=None), Runs("trials", scenario, "ratio as found", np.log(2), plain, "naive")
    assert ours.coverage >= 0.93 and naive.coverage < 0.5
