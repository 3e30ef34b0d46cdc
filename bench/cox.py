"""Cox regression on 500,000 intervals, held against statsmodels' PHReg on the same rows: processor seconds and numbers.

    python bench/cox.py [--rows 500000] [--rounds 3]

Each fit runs in a process of its own. Where statsmodels is not installed only our own seconds are given, and that is said."""
import argparse, importlib.util, json, resource, statistics, subprocess, sys

LIMIT = 10
COVARIATES = ["acked", "x", "posts", "tenure"]


def used() -> float:
    "Processor seconds of this process so far"
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime


def rows(size: int):
    "Intervals of people who come in at different times, are cut once, and whose hazard depends on four covariates; days to the minute, so some events are tied"
    import numpy as np, polars as pl
    rng, people = np.random.default_rng(7), round(0.5255 * size)
    x, posts, tenure, entered = rng.normal(size=people), rng.poisson(3, people), rng.exponential(1, people), np.round(rng.uniform(0, 180, people) * 1440) / 1440
    hazard = 0.0015 * np.exp(0.7 * x + 0.05 * posts - 0.2 * tenure)
    cut = np.round(entered * 1440 + 1 + rng.exponential(60, people) * 1440) / 1440
    need = rng.exponential(1, people)
    act = np.where(need <= hazard * (cut - entered), entered + need / hazard, cut + (need / hazard - (cut - entered)) / 1.5)
    act, end = np.ceil(act * 1440) / 1440 + 1 / 1440, np.full(people, 365.0) + np.round(cut - entered)
    frame = pl.DataFrame({"id": np.arange(people), "x": x, "posts": posts, "tenure": tenure, "cut": cut, "entered": entered, "stop": np.maximum(np.minimum(act, end), entered + 1 / 720), "event": (act <= end).astype(int)})
    before = frame.select("id", "x", "posts", "tenure", start="entered", stop=pl.min_horizontal("cut", "stop"), event=pl.when(pl.col("stop") <= pl.col("cut")).then("event").otherwise(0), acked=pl.lit(0))
    after = frame.filter(pl.col("stop") > pl.col("cut")).select("id", "x", "posts", "tenure", start="cut", stop="stop", event="event", acked=pl.lit(1))
    return pl.concat([before, after], how="vertical_relaxed").sample(fraction=1, shuffle=True, seed=1)


def ours(size: int) -> list:
    "Four coefficients with errors by person, as `tl.survival.cox` gives them"
    import trustlab as tl
    frame = rows(size)
    began = used()
    table = tl.survival.cox(frame, "start", "stop", "event", COVARIATES, cluster="id")
    return [used() - began, frame.height, int(frame["event"].sum()), table["coef"].to_list(), table["se"].to_list()]


def theirs(size: int) -> list:
    "The same by PHReg, without errors by person; entry times are moved by a second, since its risk set takes entry ≤ t"
    from statsmodels.duration.hazard_regression import PHReg
    frame = rows(size)
    x, stop, status, entry = frame.select(COVARIATES).to_numpy().astype(float), frame["stop"].to_numpy(), frame["event"].to_numpy(), frame["start"].to_numpy() + 1 / 86400
    began = used()
    fit = PHReg(stop, x, status=status, entry=entry, ties="efron").fit(disp=0)
    return [used() - began, frame.height, int(status.sum()), fit.params.tolist(), fit.bse.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["ours", "theirs"])
    asked = parser.parse_args()
    if asked.only: return print(json.dumps(globals()[asked.only](asked.rows)))
    there = importlib.util.find_spec("statsmodels") is not None
    run = lambda who: json.loads(subprocess.run([sys.executable, __file__, "--rows", str(asked.rows), "--only", who], check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    found = [run("ours") for _ in range(asked.rounds)]
    mine = statistics.median(f[0] for f in found)
    print(f"cox, {found[0][1]:,} intervals, {found[0][2]:,} events, errors by person: {mine:.2f} processor seconds (median of {asked.rounds})")
    if not there: return print("statsmodels is not installed here: no ratio. pip install statsmodels, in an environment of its own.")
    peer = run("theirs")
    apart = max(abs(a - b) for mine_, theirs_ in ((found[0][3], peer[3]), (found[0][4], peer[4])) for a, b in zip(mine_, theirs_))
    print(f"PHReg without errors by person: {peer[0]:.2f} processor seconds (one round); coefficients and errors differ by at most {apart:.1e}")
    print(f"ratio {peer[0] / mine:.1f}, bound at least {LIMIT}: {'held' if peer[0] / mine >= LIMIT and apart < 1e-5 else 'MISSED'}")


if __name__ == "__main__": main()
