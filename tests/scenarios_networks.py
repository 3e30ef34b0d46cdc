"""Simulated networks: S5 of the statistics sheet (people of like traits are tied, and adopt something by their trait and by their neighbours), and pairs from arcs."""
from collections import Counter

import numpy as np
import polars as pl


def homophily(rng, size=400, degree=6):
    "S5: a trait, and ties that are likelier the nearer two people's traits are"
    trait = rng.normal(size=size)
    low, high = np.triu_indices(size, 1)
    chance = np.exp(-2 * np.abs(trait[low] - trait[high]))
    tied = rng.random(low.size) < np.minimum(chance * degree * size / 2 / chance.sum(), 1)
    return trait, low[tied], high[tied]


def adopted(rng, trait, low, high, contagion, by_trait=1.5, weeks=12):
    "The week in which each has adopted (as many as there are weeks: not by then): by the trait, and by the share of one's neighbours who had"
    size, week = trait.size, np.full(trait.size, weeks)
    degree = np.maximum(np.bincount(np.concatenate([low, high]), minlength=size), 1)
    for t in range(weeks):
        has = week < t
        share = np.bincount(np.concatenate([low, high]), np.concatenate([has[high], has[low]]).astype(float), size) / degree
        week[~has & (rng.random(size) < 1 / (1 + np.exp(4.5 - by_trait * trait - 2 * contagion * share)))] = t
    return week


def pairs_of(arcs):
    "Each pair with acts, and how many distinct arcs go either way, of a set of (giver, receiver)"
    forth = Counter((min(a, b), max(a, b), a < b) for a, b in arcs)
    keys = sorted({k[:2] for k in forth})
    return pl.DataFrame({"low": [a for a, _ in keys], "high": [b for _, b in keys], "forth": [forth[a, b, True] for a, b in keys], "back": [forth[a, b, False] for a, b in keys]})
