"""What the coverage suites share: how many worlds, what counts as right, and the lines of the page "What holds".

TRUSTLAB_LONG=1 runs the full number of worlds with the narrow bounds; TRUSTLAB_RECORD names a file, to which each estimator adds one line of JSON."""
import json
import os

import numpy as np
from scipy.stats import binom

LONG = bool(os.environ.get("TRUSTLAB_LONG"))
ROLES = ("recommended", "naive", "beside")
COLUMNS = ("suite", "scenario", "estimator", "role", "worlds", "truth", "mean", "bias", "sd", "mean_se", "coverage", "false_alarms", "power", "mse", "top_rate", "top_recall")


def reps(long, quick): return long if LONG else quick


def band(share, n):
    "Within which shares of n worlds a right share of .95 (coverage) or .05 (false alarms) is accepted: for 1,000 and for 200 worlds the sheet's bounds, for fewer what 998 of 1,000 runs would show"
    if n >= 1000: return {0.95: (0.93, 0.97), 0.05: (0.03, 0.07)}[share]
    if n >= 200: return {0.95: (0.91, 0.985), 0.05: (0.015, 0.09)}[share]
    return tuple(binom.ppf([0.001, 0.999], n, share) / n)


def told(suite, scenario, estimator, role, worlds, **numbers):
    "One line of the page: what has no number (an interval, a truth) is null"
    path, line = os.environ.get("TRUSTLAB_RECORD"), {"suite": suite, "scenario": scenario, "estimator": estimator, "role": role, "worlds": int(worlds), **{k: round(float(v), 4) for k, v in numbers.items()}}
    assert role in ROLES and set(line) <= set(COLUMNS), line
    print("\n" + ", ".join(f"{k} {v}" for k, v in line.items()))
    if path:
        with open(path, "a", encoding="utf-8") as file: file.write(json.dumps({k: line.get(k) for k in COLUMNS}) + "\n")


def alarms(suite, scenario, test, role, rejected, effect=False):
    "A test without an estimate: the share of worlds in which it rejects, which is its power where there is an effect"
    share = float(np.mean(rejected))
    told(suite, scenario, test, role, len(rejected), **{"power" if effect else "false_alarms": share})
    return share


class Runs:
    "What an estimator gave in many worlds, as rows of (estimate, low, high) or of estimates alone, beside the truth; `null` is the value of no effect, `reach` the standard errors that a half interval is long, None where there is none such"
    def __init__(self, suite, scenario, estimator, truth, rows, role="recommended", null=0.0, reach=1.96):
        rows = np.asarray(rows, float).reshape(len(rows), -1)
        self.name, self.truth, self.n, self.estimate = f"{scenario}, {estimator}", truth, len(rows), rows[:, 0]
        self.bias, self.sd = self.estimate.mean() - truth, self.estimate.std(ddof=1)
        numbers = {"truth": truth, "mean": self.estimate.mean(), "bias": self.bias, "sd": self.sd}
        if rows.shape[1] == 3:
            low, high = rows[:, 1:].T
            numbers["coverage"] = self.coverage = ((low <= truth) & (truth <= high)).mean()
            if reach is not None: numbers["mean_se"] = self.se = ((high - low) / 2 / reach).mean()
            if null is not None:
                self.rejects = ((low > null) | (high < null)).mean()
                numbers["false_alarms" if truth == null else "power"] = self.rejects
        told(suite, scenario, estimator, role, self.n, **numbers)

    def unbiased(self, log=False):
        "Bias within a tenth of the standard deviation and three Monte Carlo errors; on a logarithmic scale .02 will do"
        assert abs(self.bias) < max(0.1 * self.sd + 3 * self.sd / self.n**0.5, 0.02 if log else 0.0), (self.name, self.bias, self.sd)
        return self

    def covers(self, floor=None):
        "Coverage near 95 %, or between `floor` and as near above"
        low, high = band(0.95, self.n)
        assert (floor or low) <= self.coverage <= high, (self.name, self.coverage)
        return self

    def honest(self, log=False, floor=None):
        "Unbiased, coverage near 95 %, errors as large as the spread"
        off = 0.07 + (0 if self.n >= 1000 else 3 / (2 * self.n) ** 0.5)
        assert abs(self.se / self.sd - 1) < off, (self.name, self.se / self.sd)
        return self.unbiased(log).covers(floor)

    def quiet(self):
        "False alarms near 5 %, where there is no effect"
        low, high = band(0.05, self.n)
        assert low <= self.rejects <= high, (self.name, self.rejects)
        return self
