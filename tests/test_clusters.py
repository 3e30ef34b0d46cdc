"""Clustered intervals, bootstrap, shrinkage and ranks against loops and resampling in NumPy; against known truth they are held in test_coverage_shares.py."""
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from scenarios_shares import people, s1
from test_suppression import calls, written

import trustlab as tl
from trustlab import clusters, survival
from trustlab.core import InvalidParameter
from trustlab.intervals import wilson

waits = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=40)


def aalen_johansen(time, cause, weight, at):
    "F of cause 1 at a time by its definition, with weights"
    alive, total = 1.0, 0.0
    for t in sorted(set(time[(cause > 0) & (time <= at)])):
        y = weight[time >= t].sum()
        if y <= 0: break
        total += alive * weight[(time == t) & (cause == 1)].sum() / y
        alive *= 1 - weight[(time == t) & (cause > 0)].sum() / y
    return total


@settings(max_examples=60)
@given(waits)
def test_the_influence_is_the_derivative(rows):
    time, cause = (np.array([r[i] for r in rows]) for i in (1, 2))
    sets = survival.grouped(np.zeros(time.size), time, cause)
    for at in (3, 9):
        last = np.searchsorted(sets.time, at, side="right") - 1
        got = clusters.influence(sets, np.zeros(time.size, int), np.searchsorted(sets.time, time), cause, np.array([[last]]))[:, 0]
        for i in range(time.size):
            step = np.zeros(time.size)
            step[i] = 1e-5
            slope = (aalen_johansen(time, cause, 1 + step, at) - aalen_johansen(time, cause, 1 - step, at)) / 2e-5
            assert abs(got[i] - slope) < 1e-6
        assert abs(got.sum()) < 1e-12 and abs((got**2).sum() - sets.incidence[2][last]) < 1e-12


@settings(max_examples=60)
@given(waits)
def test_people_with_several_units_add_up(rows):
    "The variance put together from single units and from people with several is the plain sum of squares over people"
    group, time, cause, person = (np.array(column) for column in zip(*sorted(rows, key=lambda r: (r[0], r[3]))))
    group = np.unique(group, return_inverse=True)[1]
    sets = survival.grouped(group, time, cause)
    at = clusters.points(sets, [2, 5])
    many = np.array([((group == g) & (person == p)).sum() > 1 for g, p in zip(group, person)])
    more = clusters.excess(sets, group[many], person[many], time[many], cause[many], at)
    each = clusters.influence(sets, group, np.searchsorted(sets.group + 1j * sets.time, group + 1j * time), cause, at)
    for g in range(group.max() + 1):
        whole = sum(each[(group == g) & (person == p)].sum(0) ** 2 for p in set(person[group == g]))
        assert np.allclose(sets.incidence[2][at[g]] + more[g], whole, atol=1e-12)


def test_one_unit_each_changes_nothing():
    rng = np.random.default_rng(1)
    group, time, cause = rng.integers(0, 3, 300), rng.integers(0, 50, 300), rng.integers(0, 3, 300)
    sets, spread = clusters.of_people(group, time, cause, range(300), [5, 20])
    for read in (lambda **more: survival.at_horizons(sets, horizons=[5, 20, 49], **more), lambda **more: survival.quantile(sets, q=0.2, **more), lambda **more: survival.curve(sets, **more)):
        assert read(spread=spread).equals(read())
    assert clusters.clustered(cause > 1, np.ones(300)) == wilson((cause > 1).sum(), 300)


def test_every_person_twice_is_as_wide_as_once():
    "Doubling each person's units must not make the interval narrower, beyond what the estimate itself does"
    rng = np.random.default_rng(2)
    time, cause, person = rng.integers(1, 30, 200), rng.integers(0, 3, 200), np.arange(200)
    once = survival.at_horizons(np.zeros(200), time, cause, [10, 20])
    sets, spread = clusters.of_people(np.zeros(400), np.tile(time, 2), np.tile(cause, 2), np.tile(person, 2), [10, 20])
    twice = survival.at_horizons(sets, horizons=[10, 20], spread=spread)
    assert np.allclose(twice["estimate"], once["estimate"]) and np.allclose((twice["high"] - twice["low"]) / (once["high"] - once["low"]), 1, atol=5e-3)
    assert np.allclose(clusters.clustered(2 * (cause == 1), np.full(200, 2)), wilson((cause == 1).sum(), 200), atol=5e-4), "the Student ratio of 199 and 399 degrees is all that is left"


def test_bootstrap_against_resampling():
    "The draws by kind have the standard error of a loop that draws people, and of the sandwich"
    rng = np.random.default_rng(3)
    size, reps = 3000, 3000
    code = rng.integers(0, 2, size)
    k, n = people(rng, size)
    draws = clusters.bootstrap(code, k, n, reps, seed=4)
    sandwich = np.sqrt(clusters.linearised(clusters.moments(code, k, n, 2)))
    for g in (0, 1):
        mine, of = np.flatnonzero(code == g), (k, n)
        loop = np.array([[column[pick].sum() for column in of] for pick in (rng.choice(mine, mine.size) for _ in range(reps))])
        slow = (loop[:, 0] / loop[:, 1]).std()
        assert abs(draws[:, g].std() / slow - 1) < 0.05 and abs(draws[:, g].std() / sandwich[g] - 1) < 0.04 and abs(draws[:, g].mean() - k[mine].sum() / n[mine].sum()) < 4 * slow / reps**0.5
    assert np.array_equal(draws, clusters.bootstrap(code, k, n, reps, seed=4)) and not np.array_equal(draws, clusters.bootstrap(code, k, n, reps, seed=5))


def test_bootstrap_of_curves_against_the_sandwich():
    "Aalen–Johansen at a horizon: the sum of squares over people is the variance that Poisson weights on people give"
    time, cause, person = s1(np.random.default_rng(5), 150)
    sets = survival.grouped(np.zeros(time.size), time, cause)
    row = np.searchsorted(sets.time, 7.0, side="right") - 1
    each = clusters.influence(sets, np.zeros(time.size, int), np.searchsorted(sets.time, time), cause, np.array([[row]]))[:, 0]
    se = np.sqrt((np.bincount(person, each) ** 2).sum())
    rng, draws = np.random.default_rng(6), []
    by_time = np.argsort(time, kind="stable")
    for _ in range(1500):
        w = rng.poisson(1, person.max() + 1)[person][by_time].astype(float)
        y = np.cumsum(w[::-1])[::-1]
        c = cause[by_time]
        d = np.divide(w * (c > 0), y, out=np.zeros(w.size), where=y > 0)
        alive = np.append(1, np.cumprod(1 - d))[:-1]
        draws.append((alive * np.divide(w * (c == 1), y, out=np.zeros(w.size), where=y > 0))[time[by_time] <= 7].sum())
    assert abs(np.std(draws) / se - 1) < 0.06, (np.std(draws), se)


def test_a_million_posts_of_a_hundred_thousand_authors():
    "Reference row 29: independent posts, rate 0.4; the author-clustered error is the independent one, by formula and by the draws"
    rng = np.random.default_rng(29)
    author, hit = rng.integers(0, 100_000, 1_000_000), rng.random(1_000_000) < 0.4
    n, k = np.bincount(author), np.bincount(author, hit).astype(int)
    k, n = k[n > 0], n[n > 0]
    formula = np.sqrt(clusters.linearised(clusters.moments(np.zeros(n.size, int), k, n, 1))[0])
    draws = clusters.bootstrap(np.zeros(n.size), k, n, 2000, seed=1)
    assert abs(formula / 0.00048953 - 1) < 0.01 and abs(draws.std() / 0.00048953 - 1) < 0.06
    low, high = clusters.clustered(k, n)
    assert abs((high - low) / 2 / 1.959964 / 0.00048953 - 1) < 0.01 and low < 0.4 < high


HITS = np.array([18, 17, 16, 15, 14, 14, 13, 12, 11, 11, 10, 10, 10, 10, 10, 9, 8, 7])
SEASON = np.array([346, 298, 276, 222, 273, 270, 263, 210, 269, 230, 264, 256, 303, 264, 226, 285, 316, 200]) / 1000


def test_efron_and_morris():
    "Reference row 26: James and Stein's rule on eighteen batters, on the arcsine scale and on that of the averages"
    x, truth = (45**0.5 * np.arcsin(2 * y - 1) for y in (HITS / 45, SEASON))
    shrink = 1 - 15 / ((x - x.mean()) ** 2).sum()
    assert np.allclose([((x - truth) ** 2).sum(), ((x.mean() + shrink * (x - x.mean()) - truth) ** 2).sum(), shrink], [17.58, 5.00, 0.209], atol=0.02)
    kept, stein = james_stein()
    assert np.allclose([kept, stein[0], ((HITS / 45 - SEASON) ** 2).sum() / ((stein - SEASON) ** 2).sum()], [0.212, 0.294, 3.54], atol=0.02)


def james_stein():
    "What is kept of each distance from the mean, and the shrunken averages"
    y = HITS / 45
    kept = 1 - 15 * y.mean() * (1 - y.mean()) / 45 / ((y - y.mean()) ** 2).sum()
    return kept, y.mean() + kept * (y - y.mean())


@pytest.fixture(scope="module")
def batters(tmp_path_factory):
    "The eighteen as brands of 45 callers each, hits as answers: ranked through the public functions, in the order of the hits"
    rows = [calls(f"Batter{i:02d}", range(1000 * i, 1000 * i + 45), k, 45 - k, 100_000 * i) for i, k in enumerate(HITS, 1)]
    with tl.Lab() as lab:
        lab.load(written(tmp_path_factory.mktemp("batters") / "calls.csv", *rows), scope="both")
        return tl.ranked(tl.acknowledgement(lab, by="brand"), "response_rate", draws=40_000).frame.sort("brand")


def test_efron_and_morris_through_the_measure(batters):
    """Row 26 again: the public ranking keeps 0.318 of each distance where James and Stein keep 0.212, and so has 3.32 and not 3.54. The posterior mean given mu and M is (mu M + k) / (M + 45) in both:
    with James and Stein's one M it is their rule to the last digit; over all M, with 1 / (1 + M) uniform, it is the library's"""
    from scipy.stats import betabinom
    y, got, (kept, stein) = HITS / 45, batters["shrunken"].to_numpy(), james_stein()
    ratio = lambda estimate: ((y - SEASON) ** 2).sum() / ((estimate - SEASON) ** 2).sum()
    assert batters["n"].to_list() == [45] * 18 and np.allclose(batters["response_rate"], y)
    m = 45 * (1 - kept) / kept
    assert np.allclose((y.mean() * m + HITS) / (m + 45), stein, atol=1e-12)
    mu, rho = (np.arange(300) + 0.5)[:, None] / 300, (np.arange(200) + 0.5) / 200
    m = (1 - rho) / rho
    log = sum(betabinom.logpmf(k, 45, mu * m, (1 - mu) * m) for k in HITS)
    weight = np.exp(log - log.max()) / np.exp(log - log.max()).sum()
    over_all = np.array([(weight * (mu * m + k) / (m + 45)).sum() for k in HITS])
    assert np.abs(got - over_all).max() < 2e-3 and abs((weight * 45 / (m + 45)).sum() - 0.318) < 2e-3 and abs(np.polyfit(y, got, 1)[0] - 0.318) < 0.01
    assert abs(ratio(over_all) - 3.32) < 0.01 and abs(ratio(got) - 3.32) < 0.03 and abs(ratio(y.mean() + 0.318 * (y - y.mean())) - 3.33) < 0.01 < ratio(stein) - 3.5


# ---- shrinkage and ranks

def test_shrinkage_by_a_grid_of_its_own():
    "Posterior means against a coarse integration written from the model, with the same priors"
    from scipy.stats import betabinom
    k, n = np.array([3, 40, 12, 0, 9]), np.array([3, 60, 30, 4, 20])
    total, mean = 0.0, np.zeros(5)
    for mu in (np.arange(60) + 0.5) / 60:
        for b in (np.arange(60) + 0.5) / 60:
            m = (1 - b) / b
            weight = np.prod(betabinom.pmf(k, n, mu * m, (1 - mu) * m))
            total, mean = total + weight, mean + weight * (mu * m + k) / (m + n)
    assert np.abs(clusters.shrunken(k, n, 40_000).mean(0) - mean / total).max() < 0.006


def test_ranks_of_equal_and_of_distinct_groups():
    clear = clusters.ranks(clusters.shrunken([10, 500, 990], [1000, 1000, 1000]), top=1)
    assert clear["rank"].to_list() == clear["rank_low"].to_list() == clear["rank_high"].to_list() == [3, 2, 1] and clear["in_top"].to_list() == [0, 0, 1]
    equal = clusters.ranks(clusters.shrunken(np.full(20, 5), np.full(20, 10)), top=5)
    assert (equal["rank_low"] <= 2).all() and (equal["rank_high"] >= 19).all() and np.allclose(equal["in_top"], 0.25, atol=0.04)
    assert np.ptp(clusters.shrunken(np.full(20, 5), np.full(20, 10)).mean(0)) < 0.02


@pytest.mark.parametrize("units", [1, 7, 40, 1000])
@pytest.mark.parametrize("share", [0, 0.2, 0.5, 1])
def test_units_read_back_from_an_interval(units, share):
    k = round(share * units)
    at = survival.at_horizons(survival.grouped(np.zeros(units), np.ones(units), np.arange(units) < k), horizons=[1])
    assert np.allclose(clusters.units_behind(*(at[c].to_numpy() for c in ("estimate", "low", "high"))), units)


def test_bad_input_is_named():
    for call, says in [(lambda: clusters.clustered([3], [2]), "k must not be more than n"), (lambda: clusters.clustered([0.5], [2]), "k must hold whole"), (lambda: clusters.bootstrap([0], [1], [1], 0), "replicates"),
                       (lambda: clusters.of_people([0], [1], [1], [1, 2]), "person must be as long"), (lambda: clusters.shrunken([3], [2]), "more than n"), (lambda: clusters.clustered([1], [2], 95), "level")]:
        with pytest.raises(InvalidParameter, match=says): call()
    assert clusters.shrunken([], []).shape == (4000, 0) and pl.DataFrame(clusters.ranks(clusters.shrunken([1], [2]))).height == 1
