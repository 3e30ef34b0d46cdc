"""Networks with known truth by Monte Carlo: clustering without cause (S5 of the statistics sheet), the nulls' error rates, circles, and the intervals of bystanders.

TRUSTLAB_LONG=1 runs them with their full number of repetitions."""
import numpy as np
import pytest
from monte_carlo import Runs, alarms, band, reps
from scenarios_networks import adopted, homophily, pairs_of
from scipy.stats import kstest

from trustlab import nulls
from trustlab.cores import arcs, by_chance
from trustlab.distances import dealt, joint, ratios, rewired
from trustlab.thread_audience import ratio
from trustlab.ties import neighbours

REPS = reps(1000, 200)


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


def timing(rng, low, high, week, draws=99, weeks=12):
    "The one-sided p of the shuffle test: do people adopt when more of their neighbours have, beyond what the same people adopting in another order would show"
    size, who = week.size, np.flatnonzero(week < weeks)
    tied = np.zeros((size, size), np.float32)
    tied[low, high] = tied[high, low] = 1
    whens = np.tile(week, (1 + draws, 1))
    for row in whens[1:]: row[who] = rng.permutation(week[who])
    score = np.zeros(1 + draws)
    for t in range(1, weeks):
        near = np.log1p((whens < t) @ tied)
        score += (near * (whens == t)).sum(1) - (whens == t).sum(1) / (whens >= t).sum(1) * (near * (whens >= t)).sum(1)
    return (1 + (score[1:] >= score[0] - 1e-6).sum()) / (1 + draws)


S5 = {"dealt to anybody": "naive", "dealt within a noisy trait": "naive", "dealt within the trait": "recommended", "adoptions in another order": "naive"}


def s5(count, seed, contagion):
    "How often each test of S5 says that adoption clusters, or spreads"
    rng, rejected = np.random.default_rng(seed), []
    for _ in range(count):
        trait, low, high = homophily(rng)
        week = adopted(rng, trait, low, high, contagion)
        bins = lambda x: x.argsort().argsort() // 5
        noisy = trait + rng.normal(size=trait.size) * (1 / 0.6 - 1) ** 0.5
        p = [p_values(rng, low, high, week < 12, strata)[0] for strata in (np.zeros(400, int), bins(noisy), bins(trait))]
        rejected.append([x <= 0.05 for x in (*p, timing(rng, low, high, week))])
    scenario = f"S5, 400 people, {'contagion' if contagion else 'likeness and no contagion'}"
    return [alarms("networks", scenario, name, role, rejections, contagion > 0) for (name, role), rejections in zip(S5.items(), np.array(rejected).T)]


def test_likeness_alone_looks_like_influence_and_strata_of_the_trait_take_it_away():
    "S5: without any contagion the plain test rejects nearly always; within strata of the true trait at its nominal rate; a noisy trait is between; so is the order of adoptions, since the trait that makes friends also hurries them"
    naive, noisy, true, order = s5(REPS, 1, 0)
    low, high = band(0.05, REPS)
    assert naive > 0.9 and low <= true <= high and true + 0.1 < noisy < naive and high < order < naive


def test_contagion_is_found_within_strata_of_the_trait():
    assert min(s5(reps(1000, 40), 2, 2)) > 0.9


def test_p_is_uniform_under_the_permutation_null():
    "An outcome that has nothing to do with the ties: p at one, two and three steps"
    rng, p, (low_share, high_share) = np.random.default_rng(3), [], band(0.05, REPS)
    for _ in range(REPS):
        trait, low, high = homophily(rng, 120, 4)
        p.append(p_values(rng, low, high, rng.random(120) < 0.3, np.zeros(120, int), distance=3))
    for step, at in enumerate(np.array(p).T, 1):
        assert low_share <= alarms("networks", "ties and outcomes that have nothing to do with each other, 120 people", f"dealt to anybody, step {step}", "recommended", at <= 0.05) <= high_share
        assert kstest(at - rng.random(at.size) / 100, "uniform").pvalue > 0.001


def test_the_degree_null_keeps_its_level_where_the_busy_have_the_outcome():
    "A random network with hubs, the outcome given to the busy: no clustering beyond the numbers of ties"
    rng, p, size, draws = np.random.default_rng(4), [], 80, 59
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
    level = alarms("networks", "a network with hubs, the outcome given to the busy, 80 people", "ties rewired", "recommended", np.array(p) <= 0.05)
    assert len(p) > 0.9 * REPS and band(0.05, len(p))[0] <= level <= band(0.05, len(p))[1], level


def test_a_core_by_chance_is_not_called_more_than_chance():
    "Ties drawn at random between people of very different activity: p is at most .05 in about a twentieth of the networks, and hardly ever more"
    p = []
    for seed in range(reps(1000, 150)):
        rng = np.random.default_rng(seed)
        busy = rng.pareto(1.5, 40) + 0.2
        ends = rng.choice(40, (240, 2), p=busy / busy.sum())
        frame = pairs_of({(a, b) for a, b in ends.tolist() if a != b})
        start = next(nulls.rewired(*arcs(frame), np.zeros(arcs(frame)[0].size, np.int64), rng, rounds=50))
        p.append(by_chance(pairs_of(set(zip(arcs(frame)[0].tolist(), start.tolist()))), np.ones(40, bool), np.zeros(40, np.int64), 2, "configuration", 19, seed)["p"])
    assert alarms("networks", "circles of people of different activity, 40 people", "null model configuration", "recommended", np.array(p) <= 0.05) <= band(0.05, len(p))[1]


@pytest.mark.parametrize("size", [12, 60, 300])
def test_the_interval_of_bystanders_per_person_helped(size):
    "Onlookers seen in a thread are a Poisson number around a lognormal size; threads with more onlookers have more people helped"
    rng, found, naive = np.random.default_rng(size), [], []
    law = lambda n: (crowd := rng.lognormal(-0.125, 0.5, n), rng.poisson(2 * crowd), 1 + rng.poisson(0.5 * crowd))[1:]
    seen, helped = law(2_000_000)
    truth = seen.sum() / helped.sum()
    for _ in range(reps(2000, 400)):
        b, h = law(size)
        found.append(ratio(b, h, np.arange(size), 600, 5))
        share, half = b.sum() / h.sum(), 1.96 * b.sum() ** 0.5 / h.sum()
        naive.append((share, share - half, share + half))
    run = Runs("networks", f"onlookers per person helped, {size} threads", "threads drawn", truth, found, null=None, reach=None).unbiased().covers()
    assert Runs("networks", f"onlookers per person helped, {size} threads", "onlookers taken for independent", truth, naive, "naive", null=None).coverage < run.coverage
