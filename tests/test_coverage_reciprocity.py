"""Attributable return and the degree-preserving null model against known truth, many times over (scenarios S4 and S4b).

TRUSTLAB_LONG=1 runs them with their full number of repetitions."""
import os

import numpy as np
import polars as pl

from monte_carlo import record

from trustlab import nulls, returns
from trustlab.census import dyads

LONG = bool(os.environ.get("TRUSTLAB_LONG"))
DAY = 86_400_000_000


def conversation(rng, pairs, reply, days=60.0, delay=0.25):
    "Pairs in which one side starts and the other replies to a share `reply` of it, and writes on its own accord besides"
    busy, own = rng.gamma(1, 1, pairs), rng.gamma(2, 0.5, pairs)
    starts, extra = rng.poisson(0.15 * busy * days), rng.poisson(0.2 * busy * own * days)
    pair, start = np.repeat(np.arange(pairs), starts), rng.uniform(0, days, starts.sum())
    hit = rng.random(start.size) < reply
    who, when = np.append(pair[hit], np.repeat(np.arange(pairs), extra)), np.append(start[hit] + rng.exponential(delay, hit.sum()), rng.uniform(0, days, extra.sum()))
    who, when = who[when < days], when[when < days]
    at = (np.append(start, when) * DAY).astype(np.int64)
    return pl.DataFrame({"giver": np.append(2 * pair, 2 * who + 1), "receiver": np.append(2 * pair + 1, 2 * who), "at": at}).with_columns(ends=pl.lit(int(days * DAY)))


def many(repetitions, pairs, reply, seed):
    "Per repetition: attributable with low and high, the plain share returned in a day, the share ever returned, its excess over chance"
    out = []
    for r in range(repetitions):
        rows = conversation(np.random.default_rng([seed, r]), pairs, reply)
        giver, receiver, at, ends = (rows[c].to_numpy() for c in ("giver", "receiver", "at", "ends"))
        back, side = returns.first_return(giver, receiver, at), giver % 2
        found = returns.attributable(rows, back, side, 2, 86_400.0).row(0, named=True)
        whole = (side == 0) & (ends - at >= DAY)
        within = float(((back >= 0) & (at[back] - at <= DAY))[whole].mean())
        out.append((found["attributable"], found["attributable_low"], found["attributable_high"], within, float((back >= 0)[side == 0].mean()), within - found["by_chance"]))
    return np.array(out).T


def test_attributable_return_is_right_where_the_plain_rates_are_not():
    repetitions, truth = 1000 if LONG else 200, 0.35 * (1 - np.exp(-4))
    got, low, high, within, ever, excess = many(repetitions, 500, 0.35, 4)
    record("reciprocity", "S4, return in a day that is not chance", truth, got, (high - low) / 3.92, low, high)
    bias, sd = got.mean() - truth, got.std(ddof=1)
    assert abs(bias) < max(0.1 * sd + 3 * sd / repetitions**0.5, 0.02 * truth)
    assert (0.93, 0.90)[not LONG] - 0.03 * LONG <= ((low <= truth) & (truth <= high)).mean() <= 0.985
    assert 0.93 - 0.03 < np.mean((np.log1p(-low) - np.log1p(-high)) / (2 * 1.965)) / np.log1p(-got).std(ddof=1) < 1.07 + 0.1
    assert within.mean() - truth > 0.15 and ever.mean() - truth > 0.5 and excess.mean() - truth < -0.08, "the plain rates must be shown to be biased"


def test_without_replies_nothing_is_attributable():
    repetitions = 1000 if LONG else 200
    got, low, high, within, _, _ = many(repetitions, 500, 0.0, 5)
    record("reciprocity", "S4 without replies, return that is not chance", 0.0, got, (high - low) / 3.92, low, high)
    assert abs(got.mean()) < 0.02 and within.mean() > 0.2
    assert (low > 0).mean() <= 0.07, "an interval above 0 is a false finding"


def test_degree_preserving_null_holds_its_level_where_density_does_not():
    "Busy people are liked people, and choose independently of being chosen: rho calls that reciprocity, the null model does not"
    repetitions, draws, people = (1000, 199, 60) if LONG else (50, 99, 40)
    p, z, beyond = [], [], []
    for r in range(repetitions):
        rng = np.random.default_rng([6, r])
        busy = rng.lognormal(-1.2, 1, people)
        odds = busy[:, None] * busy * (1 - np.eye(people))
        u, v = np.nonzero(rng.random((people, people)) < odds / (1 + odds))
        def mutual(a, b):
            _, _, there, back = dyads(a, b)
            return 2 * ((there > 0) & (back > 0)).sum() / u.size
        drawn = nulls.rewired(u, v, np.zeros(u.size, int), rng)
        found = nulls.against([mutual(u, v)], np.array([[mutual(u, next(drawn))] for _ in range(draws)]))
        density = u.size / people / (people - 1)
        p.append(found["p"][0]), z.append(found["z"][0])
        beyond.append((mutual(u, v) - density) / (2 * density * (1 - density) / u.size) ** 0.5 > 1.645)
    level = np.mean(np.array(p) <= 0.05)
    assert (0.03 <= level <= 0.07) if LONG else level <= 0.1
    assert abs(np.mean(z)) < 4 / repetitions**0.5 and 0.8 < np.std(z) < 1.25
    assert np.mean(beyond) > 0.9, "a test against density must be shown to find reciprocity where there is none"
