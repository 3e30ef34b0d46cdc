"""Shares and rates with known truth, many times over: answers within a week (S1 of the statistics sheet), rates of people with several units, brands in order (S6), and shares that carry a rule's error."""
import numpy as np
import polars as pl
import pytest
from monte_carlo import Runs, reps, told
from scenarios_shares import people, s1, s6, truth_s1
from scipy.optimize import brentq

from trustlab import clusters, learned, survival
from trustlab.intervals import student, wilson
from trustlab.known_error import corrected_share, from_labels


# ---- S1: answered within seven days

def bootstrap(rng, time, cause, draws=200):
    "Aalen–Johansen at day 7 with each post drawn by itself: the percentile interval"
    order = np.argsort(time, kind="stable")
    time, cause, w = time[order], cause[order], rng.multinomial(time.size, np.full(time.size, 1 / time.size), draws).astype(float)
    risk = np.cumsum(w[:, ::-1], axis=1)[:, ::-1]
    share = np.divide(w, risk, out=np.zeros_like(w), where=risk > 0)
    alive = np.cumprod(np.where(cause > 0, 1 - share, 1), axis=1)
    before = np.column_stack([np.ones(draws), alive[:, :-1]])
    return np.percentile((before * share)[:, (cause == 1) & (time <= 7)].sum(axis=1), [2.5, 97.5])


def test_answered_within_a_week():
    "S1: the curve is right with the people's interval, too sure with the posts' one; five other shares are of something else"
    truth, rng, found = truth_s1(), np.random.default_rng(7), {}
    assert abs(truth - 0.34870) < 1e-4
    keep, quarter = lambda name, *row: found.setdefault(name, []).append(row), []
    at_7 = lambda sets, spread=None: survival.at_horizons(sets, horizons=[7.0], spread=spread).select("estimate", "low", "high").row(0)
    share = lambda k, n: (k / n, *wilson(k, n))
    for _ in range(reps(1000, 200)):
        time, cause, person = s1(rng, 150)
        sets, spread = clusters.of_people(np.zeros(time.size), time, cause, person, [7.0])
        keep("curve, people drawn", *at_7(sets, spread))
        keep("curve, posts taken for independent", *at_7(sets))
        quarter.append(survival.quantile(sets, q=0.25, spread=spread).select("value", "low", "high").row(0))
        keep("curve, posts resampled", found["curve, people drawn"][-1][0], *bootstrap(rng, time, cause))
        keep("1 − Kaplan–Meier, other ends censored", *at_7(*clusters.of_people(np.zeros(time.size), time, (cause == 1).astype(int), person, [7.0])))
        hit = ((cause == 1) & (time <= 7)).sum()
        for name, k, n in (("share answered at the export", (cause == 1).sum(), time.size), ("answered in a week, of all posts", hit, time.size), ("answered in a week, of those that wait no longer", hit, (cause > 0).sum())): keep(name, *share(k, n))
    runs = {name: Runs("shares", "S1, answered within 7 days", name, truth, rows, "recommended" if name == "curve, people drawn" else "naive", null=None) for name, rows in found.items()}
    runs["curve, people drawn"].honest()
    Runs("shares", "S1, the day by which a quarter is answered", "curve, people drawn", brentq(lambda day: truth_s1(day) - 0.25, 0.1, 50), quarter, null=None, reach=None).unbiased().covers()
    for name in ("curve, posts taken for independent", "curve, posts resampled"): assert runs[name].coverage < 0.88, "posts taken for independent must be shown to be too sure"
    alone, at_export, of_all, of_ended = (runs[name].bias for name in list(runs)[3:])
    assert alone > 0.04 and at_export > 0.04 and of_all < -0.005 and of_ended > 0.015, (alone, at_export, of_all, of_ended)


# ---- rates of people with several units

@pytest.mark.parametrize("size", [8, 25, 150])
def test_rates_of_people_with_several_units(size):
    rng, found, naive = np.random.default_rng(8 + size), [], []
    for _ in range(reps(2000, 400)):
        k, n = people(rng, size)
        found.append((k.sum() / n.sum(), *clusters.clustered(k, n)))
        naive.append((k.sum() / n.sum(), *wilson(k.sum(), n.sum())))
    run = Runs("shares", f"a rate, {size} people", "people drawn", 0.4, found, null=None, reach=float(student(np.array(149))) if size == 150 else None)
    plain = Runs("shares", f"a rate, {size} people", "units taken for independent", 0.4, naive, "naive", null=None)
    (run.honest if size == 150 else run.unbiased().covers)()
    assert plain.coverage < run.coverage - 0.02


# ---- S6: brands in order

def test_brands_in_order():
    "S6: shrunken rates are nearer to the truth than raw ones, their intervals hold, and the five at the top are better chosen"
    rng, count, rows = np.random.default_rng(9), reps(1000, 60), {}
    for seed in range(count):
        p, k, n = s6(rng)
        table, raw, ends = clusters.ranks(clusters.shrunken(k, n, 2000, seed), top=5), k / n, wilson(k, n)
        mean, best, true_rank = table["shrunken"].to_numpy(), set(np.argsort(-p)[:5]), (-p).argsort().argsort() + 1
        for name, value, (low, high) in (("raw rate", raw, ends), ("shrunken rate", mean, (table["low"].to_numpy(), table["high"].to_numpy())), ("lower bound (Wilson)", ends[0], (None, None))):
            top = np.argsort(-value, kind="stable")[:5]
            held = ((low <= p) & (p <= high)).mean() if low is not None else np.nan
            rows.setdefault(name, []).append((((value - p) ** 2).mean(), p[top].mean(), len(best & set(top)) / 5, held))
        rows.setdefault("rank", []).append((((table["rank_low"].to_numpy() <= true_rank) & (true_rank <= table["rank_high"].to_numpy())).mean(), table["in_top"].sum()))
    mean = {name: np.mean(values, axis=0) for name, values in rows.items()}
    for name, role in (("raw rate", "naive"), ("shrunken rate", "recommended"), ("lower bound (Wilson)", "beside")):
        mse, rate, recall, cover = mean[name]
        told("shares", "S6, 50 brands", name, role, count, mse=mse, top_rate=rate, top_recall=recall, **({} if np.isnan(cover) else {"coverage": cover}))
    told("shares", "S6, 50 brands", "rank of a brand", "recommended", count, coverage=mean["rank"][0])
    raw, ours, bound = (mean[name] for name in ("raw rate", "shrunken rate", "lower bound (Wilson)"))
    assert ours[0] < 0.55 * raw[0] and 0.93 <= ours[3] <= 0.97 and mean["rank"][0] > 0.93 and abs(mean["rank"][1] - 5) < 1e-9
    assert ours[1] > raw[1] + 0.015 and ours[1] > bound[1] - 0.01 and ours[2] > raw[2] + 0.04


# ---- shares that carry the error of a rule

@pytest.mark.parametrize("share,se,sp,labelled,n", [(0.30, 0.8, 0.9, (30, 70), 2000), (0.10, 0.9, 0.95, (10, 90), 300), (0.50, 0.7, 0.8, (50, 50), 5000), (0.08, 0.75, 0.98, (5, 92), 210), (0.3, 0.97, 0.97, (29, 78), 210)])
def test_corrected_shares(share, se, sp, labelled, n):
    "A rule with errors, known from a few labels: the corrected interval holds; the share as found does not, unless what the rule misses and what it finds wrongly happen to be alike"
    rng, count = np.random.default_rng(11), 1500
    tp, tn, k = rng.binomial(labelled[0], se, count), rng.binomial(labelled[1], sp, count), rng.binomial(n, share * se + (1 - share) * (1 - sp), count)
    ends = [corrected_share(int(k[i]), n, tp=int(tp[i]), fp=int(labelled[1] - tn[i]), fn=int(labelled[0] - tp[i]), tn=int(tn[i])) for i in range(count)]
    seen = share * se + (1 - share) * (1 - sp)
    scenario = f"a share of {share:g}, found in {seen:.3g} of {n:,}, {sum(labelled)} labels"
    Runs("shares", scenario, "corrected share", share, [(e["corrected"], e["low"], e["high"]) for e in ends], null=None, reach=None).covers(0.935)
    if abs(seen - share) < 0.03: return
    assert Runs("shares", scenario, "share as found", share, [(e["share"], *wilson(int(x), n)) for e, x in zip(ends, k)], "naive", null=None).coverage < 0.6


def test_shares_from_labels():
    "Strata with known sizes, labels drawn at random within each: with eight of 60 labelled the interval is wider than it need be"
    rng, found, naive = np.random.default_rng(5), [], []
    posts, rates, labelled = np.array([900, 60, 200, 140]), np.array([0.03, 0.3, 0.7, 0.95]), np.array([40, 8, 16, 8])
    truths = [rng.permutation(np.arange(n) < round(n * r)) for n, r in zip(posts, rates)]
    share = sum(t.sum() for t in truths) / posts.sum()
    for _ in range(1500):
        yes = [int(rng.choice(t, size, replace=False).sum()) for t, size in zip(truths, labelled)]
        ends = from_labels(pl.DataFrame({"posts": posts, "labelled": labelled, "yes": yes}))
        found.append((ends["corrected"], ends["low"], ends["high"]))
        naive.append((sum(yes) / labelled.sum(), *wilson(sum(yes), labelled.sum())))
    run = Runs("shares", "a share from 72 labels in 4 strata", "strata by their sizes", share, found, null=None, reach=None)
    plain = Runs("shares", "a share from 72 labels in 4 strata", "labels as one sample", share, naive, "naive", null=None)
    assert run.unbiased().coverage >= 0.93 and np.mean([high - low for _, low, high in found]) < 0.2 and plain.bias > 0.05


def test_scores_of_a_learned_model():
    "Two strata of known sizes, labels drawn from each: F1 of the rule, of the model, and the gain"
    rng, found = np.random.default_rng(6), []
    posts = np.array([4000.0, 1000.0])
    chance = np.array([[0.80, 0.04, 0.03, 0.01, 0.02, 0.05, 0.02, 0.03], [0.05, 0.05, 0.15, 0.05, 0.05, 0.15, 0.15, 0.35]])
    f1 = lambda bit: float(learned.scores_of((posts[:, None] * chance).sum(axis=0)[None], bit)["f1"][0])
    truths = {"rule": f1(2), "model": f1(1), "gain": f1(1) - f1(2)}
    for i in range(reps(1000, 150)):
        counts = learned.compared(posts, np.stack([rng.multinomial(n, p) for n, p in zip((80, 60), chance)]), i)
        found.append([counts[name]["f1"] for name in truths])
    for j, (name, truth) in enumerate(truths.items()):
        run = Runs("shares", "F1 of a rule and of a model, 140 labels", name, truth, np.array(found)[:, j], null=0.0 if name == "gain" else None, reach=None)
        run.unbiased().covers()
