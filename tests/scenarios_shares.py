"""Simulated posts, people and brands whose shares are known: S1 (answers) and S6 (ranking) of the statistics sheet. Days are the unit."""
import numpy as np


def s1(rng, authors):
    "Posts of authors whose hazards of being acknowledged differ (gamma), with a competing end and censoring: time, cause (1 acknowledged, 2 ended otherwise, 0 waits), person"
    x, u = rng.normal(size=authors), rng.gamma(1, 1, authors)
    posts = rng.poisson(np.minimum(0.05 * np.exp(0.5 * x) * rng.gamma(1 / 0.8, 0.8, authors) * 80, 200))
    person = np.repeat(np.arange(authors), posts)
    ack, other, end = rng.exponential(1 / (0.10 * np.maximum(u[person], 1e-9))), rng.exponential(1 / 0.06, person.size), rng.uniform(0, 80, person.size)
    time = np.minimum(np.minimum(ack, other), end)
    return time, np.where(time == ack, 1, np.where(time == other, 2, 0)), person


def truth_s1(day=7.0):
    "F(day) by Gauss–Laguerre over the gamma(1) frailty: ∫ e^-u · a u/(a u + m) · (1 - e^{-day (a u + m)}) du"
    u, w = np.polynomial.laguerre.laggauss(60)
    h = 0.10 * u + 0.06
    return float((w * 0.10 * u / h * (1 - np.exp(-day * h))).sum())


def people(rng, size, shape=1.0):
    "Numbers of successes and of units (1 + negative binomial) of people who differ in how likely each is; the share is .4"
    n = 1 + rng.poisson(rng.gamma(shape, 3 / shape, size))
    return rng.binomial(n, rng.beta(2, 3, size)), n


def s6(rng, brands=50):
    "True rates on the logit scale, and counts of brands of very different size"
    p = 1 / (1 + np.exp(-rng.normal(-0.5, 0.4, brands)))
    n = np.maximum(np.round(rng.lognormal(3, 1, brands)), 3).astype(int)
    return p, rng.binomial(n, p), n
