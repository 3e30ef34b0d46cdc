"""Bias, coverage and power of Cox regression, frailty rates and mean counts over towns whose truth is known; the naive ways must be seen to fail.

TRUSTLAB_LONG=1 runs a thousand repetitions with the narrow bounds; `-s` prints what was found."""
import numpy as np
import polars as pl
import pytest
from monte_carlo import LONG, Runs, alarms, band, reps
from scenarios_hazards import gaps, intervals, periods, s2, s3

from trustlab.posting import ratio_of
from trustlab.hazards import cox, fit_cox, proportional_hazards
from trustlab.recurrent import frailty, mean_cumulative_count


def row(frame, term):
    found = frame.filter(term=term).row(0, named=True)
    return found["coef"], found["low"], found["high"]


def cox_of(rows, covariates, term="acked"): return row(cox(rows, "start", "stop", "event", covariates, cluster="id"), term)


# ---- S2: acknowledged, and who comes to advocate

def s2_runs(hr, count, n=1000):
    ways = {"adjusted": [], "unadjusted": [], "ever acknowledged": [], "ever acknowledged, adjusted": [], "adjusted for a poor measure": []}
    for seed in range(count):
        people = s2(seed, n=n, hr=hr)
        rows = intervals(people)
        ever = people.with_columns(ever=(pl.col("acked_at") < pl.col("stop")).fill_null(False))
        ways["adjusted"].append(cox_of(rows, ["acked", "x"]))
        ways["unadjusted"].append(cox_of(rows, ["acked"]))
        if n < 1000: continue
        ways["ever acknowledged"].append(row(cox(ever, covariates=["ever"]), "ever"))
        ways["ever acknowledged, adjusted"].append(row(cox(ever, covariates=["ever", "x"]), "ever"))
        ways["adjusted for a poor measure"].append(cox_of(rows, ["acked", "proxy"]))
    return {name: Runs("hazards", f"S2, hazard ratio {hr:g}, {n:,} people", f"Cox, {name}", np.log(hr), rows, "recommended" if name == "adjusted" else "naive") for name, rows in ways.items() if rows}


def test_s2_conversion():
    runs = s2_runs(1.5, reps(1000, 200))
    assert runs["adjusted"].honest(log=True).rejects >= (0.88 if LONG else 0.85), "power"
    assert runs["unadjusted"].bias > 0.4 and runs["unadjusted"].coverage < 0.05 and abs(runs["unadjusted"].estimate.mean() - 0.969) < 0.03
    for name, mean in (("ever acknowledged", -0.393), ("ever acknowledged, adjusted", -1.230)):
        assert runs[name].estimate.mean() < 0 < runs[name].truth and runs[name].coverage < 0.05 and abs(runs[name].estimate.mean() - mean) < 0.03
    assert runs["adjusted for a poor measure"].bias > 0.2 and runs["adjusted for a poor measure"].coverage < 0.4


def test_s2_without_an_effect():
    runs = s2_runs(1.0, reps(1000, 200))
    runs["adjusted"].honest(log=True).quiet()
    assert runs["unadjusted"].rejects > 0.95 and runs["ever acknowledged"].estimate.mean() < -0.5 and runs["ever acknowledged"].rejects > 0.95 and runs["adjusted for a poor measure"].rejects > 0.6


def test_s2_small_towns_have_little_power():
    adjusted = s2_runs(1.5, reps(1000, 200), n=300)["adjusted"].honest(log=True)
    assert (0.45 <= adjusted.rejects <= 0.60) if LONG else (0.38 <= adjusted.rejects <= 0.66)


@pytest.mark.parametrize(("hidden_ack", "said"), [(0.0, "drives advocacy alone"), (0.8, "drives both")])
def test_s2_negative_control(hidden_ack, said):
    "An outcome that no acknowledgement touches: unadjusted it seems touched, adjusted it does not; and it seems so again where a trait that nobody recorded drives both"
    plain, adjusted, scenario = [], [], f"S2, an outcome that no answer touches, a hidden trait {said}"
    for seed in range(reps(1000, 200)):
        rows = intervals(s2(seed, hidden=0.5, hidden_ack=hidden_ack), "control_stop", "control_event")
        adjusted.append(cox_of(rows, ["acked", "x"]))
        plain.append(cox_of(rows, ["acked"]))
    found = Runs("hazards", scenario, "Cox, adjusted for what is recorded", 0.0, adjusted, "naive" if hidden_ack else "recommended")
    assert Runs("hazards", scenario, "Cox, unadjusted", 0.0, plain, "naive").rejects > 0.95
    if hidden_ack: assert found.rejects > 0.8, "the negative control must tell of the hidden trait"
    else: assert found.honest(log=True).quiet().rejects <= (0.07 if LONG else band(0.05, found.n)[1])


@pytest.mark.parametrize("fades", [False, True])
def test_proportional_hazards(fades):
    "Where the ratio is the same at all times the test says otherwise in 5 % of towns; where a ratio of 3 is gone after 60 days it says so"
    found, scenario = [], "a hazard ratio that fades" if fades else "S2, 300 people, a hazard ratio that stays"
    for seed in range(reps(1000, 200)):
        if fades:
            rng = np.random.default_rng(seed)
            arm, need = rng.integers(0, 2, 600), rng.exponential(1, 600) / 0.005
            at = np.where((arm == 1) & (need > 180), need - 120, need / np.where(arm == 1, 3, 1))
            rows = pl.DataFrame({"start": np.zeros(600), "stop": np.minimum(at, 365), "event": (at < 365).astype(int), "acked": arm})
        else: rows = intervals(s2(seed, n=300))
        found.append(proportional_hazards(fit_cox(rows, "start", "stop", "event", ["acked"] if fades else ["acked", "x"])).select("term", "p").rows())
    for i, term in enumerate(name for name, _ in found[0]):
        share = alarms("hazards", scenario, f"are hazards proportional? ({term})", "recommended", [f[i][1] < 0.05 for f in found], fades)
        if fades: assert share > 0.9, (term, share)
        else: assert band(0.05, len(found))[0] <= share <= band(0.05, len(found))[1], (term, share)


# ---- S3: acknowledged, and who posts more

def own_ratio(rows, left_out):
    "The conditional likelihood of each person's posts before and after: log rate ratio with its interval"
    both = rows.filter(pl.len().over("id") == 2).sort("id", "acked")
    y, e = (both[c].to_numpy().astype(float).reshape(-1, 2).T for c in ("posts", "days"))
    y, log = np.stack([y[0] - left_out, y[1]]), 0.0
    for _ in range(30):
        p = np.exp(log) * e[1] / (e[0] + np.exp(log) * e[1])
        information = (y.sum(axis=0) * p * (1 - p)).sum()
        log += (y[1] - y.sum(axis=0) * p).sum() / information
    return log, log - 1.96 / information**0.5, log + 1.96 / information**0.5


SIZES = {"ever against never": (5.14, 4.29), "after against before": (1.67, 1.34), "Andersen–Gill": (3.99, 3.17), "Andersen–Gill, adjusted": (2.92, 2.33), "own before and after": (0.994, 0.78), "own, less the post that was answered": (1.69, 1.35)}


@pytest.mark.parametrize("theta", [1.25, 1.0])
def test_s3_the_usual_ways_mislead(theta):
    "Six comparisons of rates, each wrong by about as much as the statistics sheet says"
    found = {name: [] for name in SIZES}
    for seed in range(reps(1000, 50)):
        people, posts = s3(seed, theta=theta)
        rows, cut = periods(people, posts), gaps(people, posts)
        whole = rows.group_by("id").agg(pl.col("posts", "days").sum(), ever=pl.col("acked").max()).sort("id")
        ever, never = whole.filter(ever=1), whole.filter(ever=0)
        before, after = (rows.filter(pl.col("acked").max().over("id") == 1).filter(acked=k).sort("id") for k in (0, 1))
        pairs = lambda one, other: (one["posts"], one["days"], other["posts"], other["days"])
        ways = (np.log(ratio_of(*pairs(ever, never), False)), np.log(ratio_of(*pairs(after, before), True)), cox_of(cut, ["acked"]), cox_of(cut, ["acked", "x"]), own_ratio(rows, 0), own_ratio(rows, 1))
        for name, values in zip(SIZES, ways): found[name].append(values)
    runs = {name: Runs("hazards", f"S3, rate ratio {theta:g}, 600 people", name, np.log(theta), rows, "naive") for name, rows in found.items()}
    means = {name: np.exp(run.estimate.mean()) for name, run in runs.items()}
    for name, sizes in SIZES.items(): assert abs(np.log(means[name] / sizes[theta == 1])) < (0.06 if LONG else 0.09), (name, means[name])
    assert means["ever against never"] > 3 and means["Andersen–Gill"] - theta > 0.8 and means["Andersen–Gill, adjusted"] - theta > 0.8
    assert theta - means["own before and after"] > 0.15 and means["own, less the post that was answered"] - theta > 0.15
    assert all(run.coverage < 0.2 for run in runs.values())


@pytest.mark.parametrize("theta", [1.25, 1.0])
def test_s3_a_factor_of_ones_own(theta):
    rows, spread, scenario = [], [], f"S3, rate ratio {theta:g}, 600 people"
    for seed in range(reps(1000, 200)):
        ours = frailty(periods(*s3(seed, theta=theta)), "id", "posts", "days", ["acked", "x"])
        rows.append(row(ours, "acked")), spread.append(row(ours, "frailty variance"))
    run = Runs("hazards", scenario, "frailty", np.log(theta), rows).honest(log=True)
    assert abs(np.exp(run.estimate.mean()) - {1.25: 1.250, 1.0: 0.997}[theta]) < (0.01 if LONG else 0.025)
    if theta == 1: run.quiet()
    else: assert run.rejects > 0.95
    Runs("hazards", scenario, "frailty, the variance of the factors", 0.8, spread, null=None).unbiased().covers()


# ---- mean counts

@pytest.mark.parametrize("ends", [0.0, 0.01])
def test_mean_counts_hold_the_truth(ends):
    "At day 100, 200 people of different rates watched for different times, whose accounts may end; posts taken for independent would be too sure"
    truth, found, naive = 0.05 * np.exp(0.125) * ((1 - np.exp(-100 * ends)) / ends if ends else 100), [], []
    for seed in range(reps(1000, 200)):
        people, posts = s3(seed, n=200, theta=1.0)
        over = np.random.default_rng(seed + 10**6).exponential(1 / ends, 200) if ends else np.full(200, np.inf)
        people = people.with_columns(end=pl.min_horizontal("days", pl.Series(over)), over=(pl.Series(over) < pl.col("days")).cast(pl.Int8))
        posts = posts.join(people, on="id").filter(pl.col("at") < pl.col("end"))
        rows = pl.concat([posts.select("id", stop="at", event=pl.lit(1), over=pl.lit(0, pl.Int8)), people.select("id", stop="end", event=pl.lit(0), over="over")])
        counts = mean_cumulative_count(rows, "id", terminal="over" if ends else None).filter(pl.col("time") <= 100)
        last = counts.row(-1, named=True)
        found.append([last[c] for c in ("mean", "low", "high")])
        poisson = 1.96 * np.sqrt((counts["events"] / counts["at_risk"] ** 2).sum())
        naive.append([last["mean"], last["mean"] - poisson, last["mean"] + poisson])
    scenario = f"posts by day 100, 200 people, accounts end at {ends:g} a day"
    Runs("hazards", scenario, "mean count", truth, found, null=None).honest()
    assert Runs("hazards", scenario, "mean count, posts taken for independent", truth, naive, "naive", null=None).coverage < 0.8
