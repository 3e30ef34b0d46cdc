"""Monte Carlo with known truth (S2 of the statistics sheet): who is engaged is acknowledged sooner and advocates sooner; what each design makes of it.

The quick form accepts what 999 of 1,000 runs of a right estimator would show; TRUSTLAB_LONG=1 runs 1,000 repetitions with the thresholds of the sheet."""
import os

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from monte_carlo import record
from scenarios_hazards import s2
from trustlab import person_time, trials

LONG = bool(os.environ.get("TRUSTLAB_LONG"))
REPS = 1000 if LONG else 40


def table(people):
    seen = lambda flag, stop: pl.when(pl.col(flag) == 1).then(stop)
    return people.select("id", "x", "proxy", entry=pl.lit(0.0), end="days", exposed_at="acked_at", event_at=seen("event", "stop"), negative_at=seen("control_event", "control_stop"))


def worlds(hr, day=90.0):
    "The risks by a day of nobody and everybody acknowledged at entry, by quadrature over engagement"
    x, w = np.polynomial.hermite_e.hermegauss(80)
    return [float(w @ (1 - np.exp(-0.0025 * m * day * np.exp(0.7 * x))) / w.sum()) for m in (1, hr)]


def row(frame, estimand="hazard_ratio"): return frame.filter(estimand=estimand).row(0, named=True)
def log_row(frame, names=("estimate", "low", "high")): return [np.log(row(frame)[name]) for name in names]
def covers(rows, truth): return float(((rows[:, 1] <= truth) & (truth <= rows[:, 2])).mean())
def rejects(rows, null=0.0): return 1 - covers(rows, null)


def right(rows, truth, ratio=True):
    "The thresholds of a recommended estimator: bias, coverage, and that its errors are as large as its spread"
    spread, bias = rows[:, 0].std(), abs(rows[:, 0].mean() - truth)
    assert bias < max(0.1 * spread + 3 * spread / len(rows) ** 0.5, 0.02 if ratio else 0.0), (rows[:, 0].mean(), truth, spread)
    low, high = (0.93, 0.97) if LONG else (binom.ppf(0.001, len(rows), 0.95) / len(rows), 1.0)
    assert low <= covers(rows, truth) <= high, covers(rows, truth)
    widths = ((rows[:, 2] - rows[:, 1]) / 2 / 1.96).mean() / spread
    assert abs(widths - 1) < (0.07 if LONG else 4 / (2 * len(rows)) ** 0.5), widths


def model_error(people):
    "The hazard ratio's error as if all rows of all trials were independent"
    found = trials.setting(people, ["x"])
    _, design, _ = trials.nested_design(found, "both", 20.0)
    grid = person_time.grid_of(found.edges, person_time.outcomes(design.groups(), found.edges, design.trials))
    fit = person_time.newton(*person_time.tally(design.groups(), found.alike, grid, design.stay), grid.z, found.alike.x)
    return fit.inverse[grid.width - 1, grid.width - 1] ** 0.5


@pytest.fixture(scope="module", params=[1.5, 1.0], ids=["hr=1.5", "hr=1"])
def runs(request):
    "Every design on every repetition, as rows of (estimate, low, high)"
    hr, out = request.param, {}
    keep = lambda name, values: out.setdefault(name, []).append(values)
    for seed in range(REPS):
        people = table(s2(seed, hr=hr))
        first, raw = trials.sequential(people, ["x"], negative="negative_at").frame, trials.sequential(people, adjust="none", negative="negative_at").frame
        keep("trials", log_row(first))
        keep("difference", list(row(first, "risk_difference").values())[3:6])
        keep("ratio", [np.log(v) for v in list(row(first, "risk_ratio").values())[3:6]])
        keep("control", log_row(first, ("negative_control", "negative_low", "negative_high")))
        keep("unadjusted", log_row(raw))
        keep("control unadjusted", log_row(raw, ("negative_control", "negative_low", "negative_high")))
        keep("proxy", log_row(trials.sequential(people, ["proxy"]).frame))
        keep("landmark", log_row(trials.landmark(people, ["x"]).frame))
        keep("landmark_itt", log_row(trials.landmark(people, ["x"], censor=False).frame))
        keep("time_varying", log_row(trials.time_varying(people, ["x"]).frame))
        keep("naive", log_row(trials.naive_ever(people).frame))
        if seed < 60: keep("model error", [model_error(people)])
    found, (r0, r1) = {name: np.array(values) for name, values in out.items()}, worlds(hr)
    truths = {"difference": r1 - r0, "ratio": np.log(r1 / r0), "control": 0.0, "control unadjusted": 0.0}
    for name, (estimate, low, high) in ((n, rows.T) for n, rows in found.items() if n != "model error"): record("trials", f"S2, hazard ratio {hr}, {name}", truths.get(name, np.log(hr)), estimate, (high - low) / 3.92, low, high)
    return hr, found


@pytest.mark.parametrize("name", ["trials", "landmark", "time_varying"])
def test_the_recommended_ones_are_right(runs, name):
    hr, found = runs
    right(found[name], np.log(hr))


def test_absolute_risks_are_right(runs):
    hr, found = runs
    r0, r1 = worlds(hr)
    right(found["difference"], r1 - r0, ratio=False)
    right(found["ratio"], np.log(r1 / r0))


def test_the_negative_control(runs):
    "It stays at rest where engagement is adjusted for, and gives the confounding away where it is not"
    _, found = runs
    right(found["control"], 0.0)
    assert found["control unadjusted"][:, 0].mean() > 0.4 and rejects(found["control unadjusted"]) > 0.9


def test_power_and_false_alarms(runs):
    hr, found = runs
    if hr > 1:
        assert rejects(found["trials"]) > (0.78 if LONG else 0.68) and rejects(found["time_varying"]) > (0.88 if LONG else 0.8)
        return
    limits = (0.03, 0.07) if LONG else (0, binom.ppf(0.999, REPS, 0.05) / REPS)
    for name in ("trials", "landmark", "time_varying", "difference"): assert limits[0] <= rejects(found[name]) <= limits[1], (name, rejects(found[name]))


def test_the_wrong_ones_are_seen_to_be_wrong(runs):
    hr, found = runs
    truth = np.log(hr)
    assert found["unadjusted"][:, 0].mean() > truth + 0.4 and covers(found["unadjusted"], truth) < 0.1
    assert found["proxy"][:, 0].mean() > truth + 0.12 and covers(found["proxy"], truth) < 0.75
    assert found["naive"][:, 0].mean() < -0.2 and covers(found["naive"], truth) < 0.05
    if hr > 1: assert found["landmark_itt"][:, 0].mean() < truth - 0.1, "controls answered later dilute it"
    assert found["model error"].mean() < 0.9 * found["trials"][:, 0].std(), "rows taken for independent make the error too small"
