"""Treated and untreated people who differ in what drives the outcome."""
import numpy as np
import polars as pl


def people(rng, n, effect=1.0, binary=False):
    "Who is treated, by x and kind, and an outcome that both of them move; the effect of treatment is `effect` on average and grows with x"
    x, kind = rng.normal(size=n), rng.choice(["a", "b", "c"], n)
    e = 1 / (1 + np.exp(-(-0.4 + 0.8 * x + 0.7 * (kind == "b"))))
    t = rng.random(n) < e
    level = 0.5 * x - 0.6 * (kind == "b")
    y = rng.random(n) < 1 / (1 + np.exp(-(level + effect * t))) if binary else level + effect * t * (1 + 0.5 * x) + rng.normal(size=n)
    return pl.DataFrame({"x": x, "kind": kind, "t": t.astype(int), "y": np.asarray(y, float)})
