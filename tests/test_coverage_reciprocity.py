"""Attributable return, and reciprocity against null models, with known truth, many times over (scenarios S4 and S4b of the statistics sheet).

TRUSTLAB_LONG=1 runs them with their full number of repetitions."""
import numpy as np
import polars as pl
import pytest
from monte_carlo import LONG, Runs, alarms, band, reps

from trustlab import nulls, returns
from trustlab.census import dyads
from trustlab.intervals import wilson
from trustlab.reciprocity import chance

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


# ---- S4: returned within a day

def returned(repetitions, pairs, reply, seed, days=60.0):
    "Each way's Runs: attributable by pairs, and the plain share ever returned, returned in a day, and its excess over chance"
    found, scenario = {}, f"S4, replies to {reply:.0%}, {pairs} pairs, {days:g} days"
    for r in range(repetitions):
        rows = conversation(np.random.default_rng([seed, r]), pairs, reply, days)
        giver, receiver, at, ends = (rows[c].to_numpy() for c in ("giver", "receiver", "at", "ends"))
        back, side = returns.first_return(giver, receiver, at), giver % 2
        ours = returns.attributable(rows, back, side, 2, 86_400.0).row(0, named=True)
        first, whole = side == 0, (side == 0) & (ends - at >= DAY)
        hit = ((back >= 0) & (at[back] - at <= DAY))[whole]
        found.setdefault("attributable", []).append([ours[c] for c in ("attributable", "attributable_low", "attributable_high")])
        found.setdefault("ever returned", []).append((share := (back[first] >= 0).mean(), *wilson(share * first.sum(), first.sum())))
        found.setdefault("returned in a day", []).append((hit.mean(), *wilson(hit.sum(), hit.size)))
        found.setdefault("returned in a day, less chance", []).append([hit.mean() - ours["by_chance"]])
    truth = reply * (1 - np.exp(-4))
    return {name: Runs("reciprocity", scenario, name, truth, rows, "recommended" if name == "attributable" else "naive" if reply or name != "returned in a day, less chance" else "beside") for name, rows in found.items()}


@pytest.mark.parametrize("days", [60.0, 8.0])
def test_attributable_return_is_right_where_the_plain_rates_are_not(days):
    "S4, and the same in an export of eight days, where an act's own reply covers much of the time by which chance is told"
    runs = returned(reps(1000, 200), 500, 0.35, 4, days)
    assert runs["attributable"].honest().rejects > 0.99
    if days == 60: assert runs["returned in a day"].bias > 0.15 and runs["ever returned"].bias > 0.5 and runs["returned in a day, less chance"].bias < -0.08, "the plain rates must be shown to be biased"
    else: assert runs["returned in a day"].coverage < 0.05 and runs["ever returned"].coverage < 0.05 and runs["returned in a day, less chance"].bias < -0.05


def test_without_replies_nothing_is_attributable():
    runs = returned(reps(1000, 200), 500, 0.0, 5)
    runs["attributable"].honest().quiet()
    assert runs["returned in a day"].bias > 0.2 and runs["returned in a day"].rejects > 0.95


@pytest.mark.parametrize("reply", [0.0, 0.35])
def test_shuffled_times(reply):
    "The null model `time`, on the share returned within a day: its level where nobody replies, its power where some do"
    p = []
    for r in range(reps(1000, 100)):
        rows = conversation(np.random.default_rng([7, r]), 60, reply).with_columns(all=pl.lit(0))
        p.append(chance(rows, (), np.zeros(rows.height, np.int64), 1, "time", 86_400.0, 99, r)["p"][0])
    share = alarms("reciprocity", f"S4, replies to {reply:.0%}, 60 pairs, 60 days", "null model time", "recommended", np.array(p) <= 0.05, reply > 0)
    if reply: assert share > 0.95
    else: assert band(0.05, len(p))[0] <= share <= band(0.05, len(p))[1], share


# ---- S4b: ties that come from activity alone

@pytest.mark.parametrize("extra", [0.0, 0.15])
def test_degree_preserving_null_holds_its_level_where_density_does_not(extra):
    "Busy people are liked people, and choose independently of being chosen: rho calls that reciprocity, the null model does not; where a share of the ties is returned besides, it finds that"
    repetitions, draws, people = (1000, 199, 60) if LONG else (50, 99, 40)
    if extra: repetitions //= 5
    p, z, beyond, rho = [], [], [], []
    for r in range(repetitions):
        rng = np.random.default_rng([6, r])
        busy = rng.lognormal(-1.2, 1, people)
        odds = busy[:, None] * busy * (1 - np.eye(people))
        tied = rng.random((people, people)) < odds / (1 + odds)
        u, v = np.nonzero(tied | (tied & (rng.random((people, people)) < extra)).T)
        def mutual(a, b):
            _, _, there, back = dyads(a, b)
            return 2 * ((there > 0) & (back > 0)).sum() / u.size
        drawn = nulls.rewired(u, v, np.zeros(u.size, int), rng)
        found = nulls.against([mutual(u, v)], np.array([[mutual(u, next(drawn))] for _ in range(draws)]))
        density, mean = u.size / people / (people - 1), found["null_mean"][0]
        p.append(found["p"][0]), z.append(found["z"][0])
        rho.append([(mutual(u, v) - density) / (1 - density), (mutual(u, v) - mean) / (1 - mean)])
        beyond.append((mutual(u, v) - density) / (2 * density * (1 - density) / u.size) ** 0.5 > 1.645)
    scenario = f"S4b, {people} people of different activity, {extra:.0%} of the ties returned on purpose"
    level = alarms("reciprocity", scenario, "null model configuration", "recommended", np.array(p) <= 0.05, extra > 0)
    naive = alarms("reciprocity", scenario, "rho against density", "naive", beyond, extra > 0)
    if extra:
        assert level > 0.9
        return
    plain, held = (Runs("reciprocity", scenario, name, 0.0, np.array(rho)[:, i], role) for i, (name, role) in enumerate((("rho", "naive"), ("rho beyond the null model", "recommended"))))
    assert band(0.05, repetitions)[0] <= level <= band(0.05, repetitions)[1], level
    assert abs(np.mean(z)) < 4 / repetitions**0.5 and 0.8 < np.std(z) < 1.25
    assert held.unbiased() and plain.bias > 0.05 and naive > 0.9, "a test against density must be shown to find reciprocity where there is none"
