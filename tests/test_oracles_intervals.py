"""Intervals against SciPy's own, against printed numbers, and against what must hold for every count."""
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import beta, binom, binomtest, norm

from trustlab.core import InvalidParameter
from trustlab.intervals import clopper_pearson, jeffreys, mid_p, wilson

EXPECTED = Path(__file__).resolve().parents[1] / "../shared/data/ref/expected_open.json"
METHODS = [wilson, clopper_pearson, mid_p, jeffreys]
counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
levels = st.floats(0.5, 0.999)


@settings(max_examples=200, deadline=None)
@given(counts, levels)
def test_scipy_gives_the_same(kn, level):
    test = binomtest(*kn)
    for method, name in [(wilson, "wilson"), (clopper_pearson, "exact")]:
        assert np.allclose(method(*kn, level), test.proportion_ci(level, method=name), rtol=1e-8, atol=1e-10)


@settings(max_examples=100, deadline=None)
@given(counts, levels)
def test_jeffreys_is_the_posterior(kn, level):
    k, n = kn
    low, high = beta.ppf([(1 - level) / 2, (1 + level) / 2], k + 0.5, n - k + 0.5)
    assert np.allclose(jeffreys(k, n, level), (low if k else 0, high if k < n else 1), rtol=1e-7, atol=1e-10)


@settings(max_examples=100, deadline=None)
@given(counts, levels)
def test_mid_p_by_its_definition(kn, level):
    "Both tails, each with half of what was counted, by SciPy's binomial distribution; between the two quantiles of Beta distributions that Clopper and Pearson choose from"
    k, n = kn
    low, high = mid_p(k, n, level)
    if k: assert np.isclose(binom.sf(k, n, low) + binom.pmf(k, n, low) / 2, (1 - level) / 2, rtol=1e-8) and beta.ppf((1 - level) / 2, k, n - k + 1) <= low
    if k < n: assert np.isclose(binom.cdf(k - 1, n, high) + binom.pmf(k, n, high) / 2, (1 - level) / 2, rtol=1e-8) and high <= beta.ppf((1 + level) / 2, k + 1, n - k)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(kn=counts, level=levels)
def test_what_must_hold(method, kn, level):
    k, n = kn
    low, high = method(k, n, level)
    assert 0 <= low <= k / n <= high <= 1 and isinstance(low, float)
    assert np.allclose(method(n - k, n, level), (1 - high, 1 - low), atol=1e-9)
    wider = method(k, n, (1 + level) / 2)
    assert wider[0] <= low + 1e-12 and high <= wider[1] + 1e-12
    if k < n: assert np.all(np.add(method(k + 1, n, level), 1e-12) >= (low, high))


@pytest.mark.parametrize("method", METHODS)
def test_columns_are_the_rows_one_by_one(method):
    k, n = pl.Series([0, 3, 10, 0]), pl.Series([10, 10, 10, 0])
    low, high = method(k, n)
    rows = np.array([method(a, b) for a, b in zip(k, n)])
    assert np.array_equal(np.column_stack([low, high]), rows, equal_nan=True) and np.isnan(rows[3]).all()
    assert np.array_equal(method(k.to_list(), 10), method(k.to_numpy(), np.int64(10)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k, n", [(5, 3), (-1, 3), (1, float("inf")), (float("nan"), 3), (1, -1), ([1, 9], [3, 3]), (1, 0), ("x", 3), (pl.Series([1, None]), 3), ([1, 2, 3], [1, 2])])
def test_impossible_counts_are_refused(method, k, n):
    with pytest.raises(InvalidParameter, match="k and n must be"): method(k, n)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0, 1, 95, -0.5, float("nan"), "95%"])
def test_impossible_levels_are_refused(method, level):
    with pytest.raises(InvalidParameter, match="level must lie between 0 and 1"): method(1, 2, level)


def test_only_wilson_takes_an_effective_sample_size():
    ends = np.array(wilson(3.5, 5.0))
    assert np.allclose((0.7 - ends) / np.sqrt(ends * (1 - ends) / 5), [1.959964, -1.959964])
    for method in (clopper_pearson, mid_p, jeffreys):
        with pytest.raises(InvalidParameter, match="whole numbers"): method(3.5, 5)


def wald(k, n, level=0.95):
    "The textbook's interval, which is held here as the one that fails; the library has none"
    share, z = np.divide(k, n), norm.ppf((1 + level) / 2)
    return share - z * np.sqrt(share * (1 - share) / n), share + z * np.sqrt(share * (1 - share) / n)


def test_newcombe():
    "Reference row 1"
    if not EXPECTED.exists(): pytest.skip("the reference numbers ../shared/data/ref/expected_open.json are not here")
    table, methods, held = json.loads(EXPECTED.read_text())["newcombe1998"], {"wilson": wilson, "clopper": clopper_pearson, "midp": mid_p, "jeffreys": jeffreys, "wald": wald}, 0
    for fraction in ("81/263", "15/148"):
        for name in table[fraction].keys() & methods:
            assert np.abs(np.subtract(methods[name](*map(int, fraction.split("/"))), table[fraction][name])).max() <= table["tol"], (fraction, name)
            held += 1
    assert held == 8 and table["81/263"]["midp"] == [0.2544, 0.3658]


def exact_coverage(method, n, p):
    "For each true rate the probability that the interval holds it"
    low, high = method(np.arange(n + 1), n)
    return np.array([sum(binom.pmf(k, n, x) for k in range(n + 1) if low[k] <= x <= high[k]) for x in p])


@pytest.mark.parametrize("method, mean, least", [(wilson, 0.953, 0.905), (jeffreys, 0.950, 0.896), (clopper_pearson, 0.977, 0.958), (mid_p, 0.961, 0.929), (wald, 0.851, 0.095)])
def test_exact_coverage_with_twenty_units(method, mean, least):
    "Reference row 28, and mid-P's, whose two numbers are this library's; Wald's must be shown to fail"
    chance = exact_coverage(method, 20, np.arange(1, 200) / 200)
    assert abs(chance.mean() - mean) < 1e-3 and abs(chance.min() - least) < 1e-3


@pytest.mark.parametrize("n, mean", [(5, 0.64), (10, 0.77), (20, 0.85)])
def test_the_fewer_the_units_the_less_wald_holds(n, mean):
    "The same where Wilson's stays near its word"
    p = np.arange(1, 200) / 200
    assert abs(exact_coverage(wald, n, p).mean() - mean) < 5e-3 and exact_coverage(wilson, n, p).mean() > 0.95


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(0.001, 0.999), st.sampled_from([0.8, 0.95, 0.99]))
def test_clopper_pearson_keeps_its_promise(n, p, level):
    low, high = clopper_pearson(np.arange(n + 1), n, level)
    assert binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum() >= level - 1e-9
