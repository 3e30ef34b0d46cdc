"""Networks with known truth by Monte Carlo: clustering without cause, the nulls' error rates, and the intervals of bystanders.

TRUSTLAB_LONG=1 runs them with their full number of repetitions."""
import os

import numpy as np
import pytest
from scipy.stats import kstest

from trustlab.distances import dealt, joint, ratios, rewired
from trustlab.thread_audience import ratio
from trustlab.ties import neighbours

LONG = bool(os.environ.get("TRUSTLAB_LONG"))
REPS, BAND = (1000, (0.03, 0.07)) if LONG else (200, (0.015, 0.09))


def homophily(rng, size=400, degree=6):
    "S5: a trait, and ties that are likelier the nearer two people's traits are"
    trait = rng.normal(size=size)
    low, high = np.triu_indices(size, 1)
    chance = np.exp(-2 * np.abs(trait[low] - trait[high]))
    tied = rng.random(low.size) < np.minimum(chance * degree * size / 2 / chance.sum(), 1)
    return trait, low[tied], high[tied]


def adopters(rng, trait, low, high, contagion, by_trait=1.5, weeks=12):
    "Who has adopted after some weeks: by the trait, and by the share of one's neighbours who had"
    size, has = trait.size, np.zeros(trait.size, bool)
    degree = np.maximum(np.bincount(np.concatenate([low, high]), minlength=size), 1)
    for _ in range(weeks):
        share = np.bincount(np.concatenate([low, high]), np.concatenate([has[high], has[low]]).astype(float), size) / degree
        has |= rng.random(size) < 1 / (1 + np.exp(4.5 - by_trait * trait - 2 * contagion * share))
    return has


def p_values(rng, low, high, has, strata, draws=99, distance=1):
    "The one-sided p of the permutation test at each distance, by the kernels"
    size = has.size
    known = np.bincount(np.concatenate([low, high]), minlength=size) > 0
    has = has & known
    graph, sources = neighbours(low, high, size), np.flatnonzero(known)
    if not 0 < has.sum() < known.sum(): return np.ones(distance)
    test = ratios(joint(*graph, sources, known, has[None], distance))
    under = ratios(joint(*graph, sources, known, dealt(rng, has, known, strata, draws), distance))
    return (1 + (under >= test * (1 - 1e-12)).sum(1)) / (1 + draws)


def test_likeness_alone_looks_like_influence_and_strata_of_the_trait_take_it_away():
    "S5: without any contagion the plain test rejects nearly always; within strata of the true trait at its nominal rate; a noisy trait is between"
    rng, rejected = np.random.default_rng(1), []
    for _ in range(REPS):
        trait, low, high = homophily(rng)
        has = adopters(rng, trait, low, high, 0)
        bins = lambda x: x.argsort().argsort() // 5
        noisy = trait + rng.normal(size=trait.size) * (1 / 0.6 - 1) ** 0.5
        rejected.append([p_values(rng, low, high, has, strata)[0] <= 0.05 for strata in (np.zeros(400, int), bins(noisy), bins(trait))])
    naive, noisy, true = np.mean(rejected, axis=0)
    print(f"\nwithout contagion: plain {naive:.3f}, noisy trait {noisy:.3f}, true trait {true:.3f}")
    assert naive > 0.9 and BAND[0] <= true <= BAND[1] and true + 0.1 < noisy < naive


def test_contagion_is_found_within_strata_of_the_trait():
    rng, found = np.random.default_rng(2), 0
    reps = REPS // 5
    for _ in range(reps):
        trait, low, high = homophily(rng)
        found += p_values(rng, low, high, adopters(rng, trait, low, high, 2), trait.argsort().argsort() // 5)[0] <= 0.05
    assert found / reps > 0.9, found / reps


def test_p_is_uniform_under_the_permutation_null():
    "An outcome that has nothing to do with the ties: p at one, two and three steps"
    rng, p = np.random.default_rng(3), []
    for _ in range(REPS):
        trait, low, high = homophily(rng, 120, 4)
        p.append(p_values(rng, low, high, rng.random(120) < 0.3, np.zeros(120, int), distance=3))
    for at in np.array(p).T:
        assert BAND[0] <= (at <= 0.05).mean() <= BAND[1] and kstest(at - rng.random(at.size) / 100, "uniform").pvalue > 0.001


def test_the_degree_null_keeps_its_level_where_the_busy_have_the_outcome():
    "A random network with hubs, the outcome given to the busy: no clustering beyond the numbers of ties"
    rng, p, size, draws = np.random.default_rng(4), [], 80, 49
    for _ in range(REPS):
        weight = rng.gamma(1, 1, size) + 0.2
        low, high = np.triu_indices(size, 1)
        tied = rng.random(low.size) < 1 - np.exp(-0.06 * weight[low] * weight[high])
        low, high = low[tied], high[tied]
        degree = np.bincount(np.concatenate([low, high]), minlength=size)
        known = degree > 0
        has = known & (rng.random(size) < 1 / (1 + np.exp(2 - 0.6 * degree)))
        if not 0 < has.sum() < known.sum(): continue
        read = lambda low, high: ratios(joint(*neighbours(low, high, size), np.flatnonzero(known), known, has[None], 1))[0, 0]
        test, under = read(low, high), []
        low, high = rewired(low, high, size, rng, 60)
        for _ in range(draws):
            low, high = rewired(low, high, size, rng, 15)
            under.append(read(low, high))
        p.append((1 + np.sum(np.array(under) >= test * (1 - 1e-12))) / (1 + draws))
    level = np.mean(np.array(p) <= 0.06)
    assert len(p) > 0.9 * REPS and 0.6 * BAND[0] <= level <= BAND[1] + 0.015, level


@pytest.mark.parametrize("size", [12, 60, 300])
def test_the_interval_of_bystanders_per_person_helped(size):
    "Onlookers seen in a thread are a Poisson number around a lognormal size; threads with more onlookers have more people helped"
    rng, reps, inside, naive = np.random.default_rng(size), 2000 if LONG else 400, 0, 0
    law = lambda n: (crowd := rng.lognormal(-0.125, 0.5, n), rng.poisson(2 * crowd), 1 + rng.poisson(0.5 * crowd))[1:]
    seen, helped = law(2_000_000)
    truth = seen.sum() / helped.sum()
    for _ in range(reps):
        b, h = law(size)
        _, low, high = ratio(b, h, np.arange(size), 600, 5)
        inside += low <= truth <= high
        half = 1.96 * (b.sum() / h.sum() / h.sum()) ** 0.5 * 0.7
        naive += abs(b.sum() / h.sum() - truth) <= half
    assert (0.93 if LONG else 0.915) <= inside / reps <= 0.985, inside / reps
    assert naive / reps < inside / reps
