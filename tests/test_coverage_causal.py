"""Weights, augmented weights and matching with known truth, many times over: the difference of means must be seen to be wrong.

TRUSTLAB_LONG=1 runs them with their full number of repetitions."""
import numpy as np
import polars as pl
import pytest
from monte_carlo import Runs, reps
from scenarios_causal import people

from trustlab import causal

TOOLS = {"weights": causal.ipw, "augmented weights": causal.aipw}


@pytest.mark.parametrize("estimand", ["ate", "att"])
@pytest.mark.parametrize("effect", [1.0, 0.0])
def test_weights(estimand, effect):
    "The average effect over everybody, or over the treated, where the effect grows with what makes treatment likelier; and where there is none"
    big = people(np.random.default_rng(0), 1_000_000)
    truth = effect * (1.0 if estimand == "ate" else 1 + 0.5 * big.filter(pl.col("t") == 1)["x"].mean())
    found = {"difference of means": []} | {name: [] for name in TOOLS}
    for seed in range(reps(1000, 200)):
        frame = people(np.random.default_rng(1000 + seed), 600, effect)
        for name, tool in (("difference of means", causal.ipw), *TOOLS.items()):
            got = tool(frame, "t", "y", [] if name not in TOOLS else ["x", "kind"], estimand)
            found[name].append((got.estimate, got.low, got.high))
    scenario = f"observed groups, effect {effect:g}, 600 people, {'everybody' if estimand == 'ate' else 'the treated'}"
    runs = {name: Runs("causal", scenario, name, truth, rows, "recommended" if name in TOOLS else "naive") for name, rows in found.items()}
    for name in TOOLS:
        runs[name].honest()
        if effect: assert runs[name].rejects > 0.99
        else: runs[name].quiet()
    assert abs(runs["difference of means"].bias) > 0.2 and runs["difference of means"].coverage < 0.5


@pytest.mark.parametrize("effect", [1.0, 0.0])
def test_matching(effect):
    "The mean difference within pairs, where the effect is the same for all; pairs bring no interval of their own"
    found, naive = [], []
    for seed in range(reps(1000, 200)):
        frame = people(np.random.default_rng(1000 + seed), 600).with_columns(y=pl.col("y") + pl.col("t") * (effect - 1 - 0.5 * pl.col("x")))
        pairs, y = causal.match(frame, "t", ["x", "kind"]), frame["y"].to_numpy()
        found.append([(y[pairs["treated"]] - y[pairs["untreated"]]).mean()])
        naive.append([frame.filter(t=1)["y"].mean() - frame.filter(t=0)["y"].mean()])
    scenario = f"observed groups, effect {effect:g} for all, 600 people"
    run, plain = Runs("causal", scenario, "pairs of like chance", effect, found, "beside"), Runs("causal", scenario, "difference of means", effect, naive, "naive")
    assert abs(run.bias) < 0.1 * abs(plain.bias), (run.bias, plain.bias)
