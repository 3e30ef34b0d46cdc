"""People whose covariate moves: it drives who is exposed and who has the outcome, and the exposure may move it in turn. The person table and history that `trustlab.trials` reads, and the truth by simulation of both worlds."""
import numpy as np
import polars as pl

WINDOW, WINDOWS = 14.0, 20


def moving(seed, n=2000, hr=1.5, push=0.0, ack=0.010, ack_l=0.9, hazard=0.0025, hazard_l=0.6, keep=0.8, forced=None, every=WINDOW, windows=WINDOWS):
    """A covariate that is drawn anew every window, l' = keep·l + push·(exposed so far) + noise of variance 1 − keep²; hazards are constant within windows: ack·exp(ack_l·l) and hazard·exp(hazard_l·l)·hr^exposed.

    Returns people (id, l, entry, end, exposed_at, event_at) and history (id, time, l). `forced` True exposes everybody at entry, False nobody: then nobody's watching ends early, and the share with the outcome by a day is the truth."""
    rng = np.random.default_rng(seed)
    level, gone = rng.normal(size=n), np.zeros(n, bool)
    exposed, event = np.full(n, 0.0 if forced else np.inf), np.full(n, np.inf)
    records = []
    for k in range(windows):
        s = k * every
        records.append(level.copy())
        first = rng.exponential(1, n) / (ack * np.exp(ack_l * level)) if forced is None else np.full(n, np.inf)
        exposed = np.where((exposed == np.inf) & (first < every) & ~gone, s + first, exposed)
        base, need = hazard * np.exp(hazard_l * level), rng.exponential(1, n)
        before = np.clip(exposed - s, 0, every)
        t = np.where(need <= base * before, need / base, before + (need - base * before) / (base * hr))
        hit = ~gone & (t < every)
        event, gone = np.where(hit, s + t, event), gone | hit
        exposed = np.where(exposed > event, np.inf, exposed)
        level = keep * level + push * (exposed <= s + every) + rng.normal(size=n) * np.sqrt(1 - keep**2)
    end = np.full(n, windows * every) if forced is not None else rng.uniform(0.25, 1, n) * windows * every
    known = lambda v: pl.when(pl.Series(v <= end)).then(pl.Series(v))
    people = pl.select(id=pl.int_range(n), l=pl.Series(records[0]), entry=pl.lit(0.0), end=pl.Series(end), exposed_at=known(exposed), event_at=known(event))
    history = pl.concat([pl.DataFrame({"id": np.arange(n), "time": np.full(n, k * every), "l": level}) for k, level in enumerate(records)])
    return people, history


def truth(day, n=1_000_000, seed=1, **settings):
    "The shares with the outcome by a day if nobody, and if everybody at entry, were exposed"
    return [float((moving(seed, n, forced=forced, windows=int(np.ceil(day / WINDOW)), **settings)[0]["event_at"].fill_null(np.inf) <= day).mean()) for forced in (False, True)]
