"""Where the coverage suites put down what they found, if they are asked to: TRUSTLAB_RECORD names a file, to which each estimator adds one line of JSON."""
import json
import os

import numpy as np


def record(suite, name, truth, estimate, se, low, high):
    "One line for an estimator over its repetitions: bias, spread, mean error, coverage, and how often the interval leaves out the value of no effect (0)"
    path = os.environ.get("TRUSTLAB_RECORD")
    if not path: return
    estimate, se, low, high = (np.asarray(x, float) for x in (estimate, se, low, high))
    line = {"suite": suite, "estimator": name, "repetitions": int(estimate.size), "truth": float(truth), "mean": float(estimate.mean()), "bias": float(estimate.mean() - truth), "sd": float(estimate.std(ddof=1)),
            "mean_se": float(se.mean()), "coverage": float(((low <= truth) & (truth <= high)).mean()), "excludes_0": float(((low > 0) | (high < 0)).mean())}
    with open(path, "a", encoding="utf-8") as file: file.write(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}) + "\n")
