"""Simulated communities whose truth is known, for the estimators of hazards, recurrent posts and effects: S2 (conversion) and S3 (posts) of the statistics sheet.

Days are the unit, every person's clock begins at 0, and the same seed gives the same table. Nothing here is read by an estimator except the columns that an export would have."""
import numpy as np
import polars as pl

END = 365.0


def s2(seed, n=1000, hr=1.5, ack=0.010, ack_x=0.8, hazard=0.0025, hazard_x=0.7, reliability=0.6, thanked=0.5, hidden=0.0, hidden_ack=0.0, end=END):
    """Conversion to advocacy: who is engaged (`x`) is acknowledged sooner and advocates sooner, and an acknowledgement multiplies the hazard of advocacy by `hr`.

    One row a person: id, x, proxy (x measured with `reliability`), entered (day of the calendar), days (watched to the end of the export), acked_at (null: not before the end; it may lie after the advocacy),
    stop, event (first advocacy), thanked (acknowledged because of it, after it), control_stop and control_event (an outcome that no acknowledgement touches).
    `hidden` is the log hazard of advocacy and of the control, `hidden_ack` that of an acknowledgement, per standard deviation of a trait that no column shows."""
    rng = np.random.default_rng(seed)
    x, u, entered = rng.normal(size=n), rng.normal(size=n), rng.uniform(0, 0.75 * end, n)
    days = end - entered
    acked = rng.exponential(1, n) / (ack * np.exp(ack_x * x + hidden_ack * u))
    h = hazard * np.exp(hazard_x * x + hidden * u)
    need = rng.exponential(1, n)
    advocacy = np.where(need <= h * acked, need / h, acked + (need - h * acked) / (h * hr))
    control = rng.exponential(1, n) / h
    stop, proxy = np.minimum(advocacy, days), x + rng.normal(size=n) * np.sqrt(1 / reliability - 1)
    event, seen = (advocacy <= days).astype(np.int64), acked < stop
    return pl.DataFrame({
        "id": np.arange(n), "x": x, "proxy": proxy, "entered": entered, "days": days, "acked_at": np.where(acked < days, acked, np.nan), "stop": stop, "event": event,
        "thanked": (event == 1) & ~seen & (rng.random(n) < thanked), "control_stop": np.minimum(control, days), "control_event": (control <= days).astype(np.int64)},
    ).with_columns(acked_at=pl.col("acked_at").fill_nan(None))


def intervals(people, stop="stop", event="event"):
    "People as intervals of the counting process: id, x, proxy, start, stop, event, acked (was acknowledged before the interval began), ever (before the end)"
    seen = pl.col("acked_at").is_not_null() & (pl.col("acked_at") < pl.col(stop))
    base = people.with_columns(ever=seen.cast(pl.Int64), at=pl.when(seen).then("acked_at").otherwise(stop))
    before = base.select("id", "x", "proxy", start=pl.lit(0.0), stop="at", event=pl.when(seen).then(0).otherwise(event), acked=pl.lit(0), ever="ever")
    after = base.filter(seen).select("id", "x", "proxy", start="at", stop=stop, event=event, acked=pl.lit(1), ever="ever")
    return pl.concat([before, after], how="vertical_relaxed").sort("id", "start")


def s3(seed, n=600, theta=1.25, rate=0.05, rate_x=0.5, spread=0.8, chance=0.18, chance_x=0.8, end=200.0):
    """Posts: people post at rates that differ by engagement `x` and by a gamma factor of variance `spread`; each post may be acknowledged, at once; the first acknowledgement multiplies the rate by `theta`.

    Returns people (id, x, days, acked_at) and posts (id, at), where the acknowledged post itself comes before its acknowledgement."""
    rng = np.random.default_rng(seed)
    x, days = rng.normal(size=n), end - rng.uniform(0, 0.75 * end, n)
    most = max(theta, 1.0)
    many = rng.poisson(rate * np.exp(rate_x * x) * rng.gamma(1 / spread, spread, n) * days * most)
    who = np.repeat(np.arange(n), many)
    at, keep = rng.uniform(0, 1, who.size) * days[who], rng.random(who.size) * most
    hit = (keep < 1) & (rng.random(who.size) < 1 / (1 + np.exp(-chance_x * x[who]) * (1 / chance - 1)))
    acked = np.full(n, np.inf)
    np.minimum.at(acked, who[hit], at[hit])
    posted = keep < np.where(at > acked[who], theta, 1.0)
    people = pl.DataFrame({"id": np.arange(n), "x": x, "days": days, "acked_at": acked}).with_columns(acked_at=pl.when(pl.col("acked_at").is_finite()).then("acked_at"))
    return people, pl.DataFrame({"id": who[posted], "at": at[posted]}).sort("id", "at")


def periods(people, posts):
    "Person-periods before and after the first acknowledgement: id, x, acked, days, posts (the acknowledged post counts before)"
    joined = posts.join(people.select("id", "acked_at"), on="id", how="left").with_columns(acked=(pl.col("at") > pl.col("acked_at")).fill_null(False).cast(pl.Int64))
    counts = joined.group_by("id", "acked").agg(posts=pl.len())
    before = people.select("id", "x", acked=pl.lit(0, pl.Int64), days=pl.coalesce("acked_at", "days"))
    after = people.filter(pl.col("acked_at").is_not_null()).select("id", "x", acked=pl.lit(1, pl.Int64), days=pl.col("days") - pl.col("acked_at"))
    return pl.concat([before, after]).join(counts, on=["id", "acked"], how="left").with_columns(pl.col("posts").fill_null(0).cast(pl.Int64)).sort("id", "acked")


def gaps(people, posts):
    "Posts as intervals of the counting process (Andersen–Gill): id, x, start, stop, event, acked, cut at each post and at the first acknowledgement"
    ends = pl.concat([
        posts.select("id", "at", event=pl.lit(1)), people.select("id", at="days", event=pl.lit(0)),
        people.drop_nulls("acked_at").select("id", at="acked_at", event=pl.lit(0))])
    ends = ends.group_by("id", "at").agg(pl.col("event").max()).sort("id", "at").with_columns(start=pl.col("at").shift(1, fill_value=0.0).over("id"))
    return ends.filter(pl.col("start") < pl.col("at")).join(people.select("id", "x", "acked_at"), on="id", how="left").select(
        "id", "x", "start", stop="at", event="event", acked=(pl.col("start") >= pl.col("acked_at")).fill_null(False).cast(pl.Int64))
