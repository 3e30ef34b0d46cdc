"""What acknowledgement with intervals costs beside a first-reply query by hand, and a bootstrap of people beside a loop that draws them; see bench/README.md."""

import importlib.util, json, os, resource, statistics, subprocess, sys, tempfile, warnings
from contextlib import contextmanager
from pathlib import Path

from speed import MEMORY, asked, generate, load

REPLICATES = 1000
LIMITS = {"acknowledgement": ("first replies, Polars", 2.0), "acknowledgement, whom too": ("first replies, Polars", None), "bootstrap": ("resampling loop", 1 / 12), "first replies, pandas from text": ("acknowledgement, whom too", None)}


def used() -> float:
    "Processor seconds of this process so far"
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime


def prepare(folder: Path) -> tuple[float, list]:
    "The prepared columns as Parquet for the rival: whom each call is to and who speaks for a brand are worked out; and per brand and author units and answers"
    import duckdb, numpy as np, trustlab as tl
    load(folder)
    with duckdb.connect(str(folder / "store.duckdb"), read_only=True) as con:
        con.execute("set enable_progress_bar = false; set TimeZone = 'UTC'")
        con.execute(f"""copy (select p.post_key, p.author_key, p.created_at, p.conversation_key, p.reply_to_key, f.brand is not null as by_brand, coalesce(f.brand, i.brand) as brand
            from post p left join role_span f on f.account_key = p.author_key and f.role = 'brand' left join inbound i on i.post_key = p.post_key) to '{folder / "prepared.parquet"}' (format parquet, compression zstd)""")
    with tl.Lab(folder / "store.duckdb", read_only=True) as lab:
        rows = lab.sql("""select dense_rank() over (order by brand) - 1 as code, sum(answered) as k, count(*) as n from (select i.brand, i.author_key, max(case when a.post_key is null then 0 else 1 end) as answered
            from inbound i left join answer a on a.post_key = i.post_key and a.brand = i.brand where i.eligible group by i.brand, i.author_key, i.conversation_key) u group by brand, author_key order by code, n, k""")
    np.save(folder / "people.npy", rows.select("code", "k", "n").to_numpy().astype(np.int64))
    return 0.0, [rows.height]


def polars_query(folder: Path) -> tuple[float, list]:
    "First replies by hand on the prepared columns: conversations of each brand, how many answered, within an hour, within a day; no intervals, no curves"
    import polars as pl
    began, posts = used(), pl.scan_parquet(folder / "prepared.parquet")
    replies = posts.filter("by_brand").group_by(post_key="reply_to_key").agg(answered=pl.col("created_at").min())
    called = posts.filter(~pl.col("by_brand") & pl.col("brand").is_not_null()).select("post_key", "brand", "author_key", "conversation_key", "created_at").join(replies, on="post_key", how="left")
    units = called.group_by("brand", "author_key", "conversation_key").agg(pl.col("created_at").min(), pl.col("answered").min()).with_columns(wait=(pl.col("answered") - pl.col("created_at")).dt.total_seconds())
    frame = units.group_by("brand").agg(n=pl.len(), k=pl.col("answered").count(), h1=(pl.col("wait") <= 3600).sum(), h24=(pl.col("wait") <= 86400).sum()).collect()
    return used() - began, [int(frame["n"].sum()), int(frame["k"].sum())]


def acknowledgement(folder: Path, whom: bool = False) -> tuple[float, list]:
    "The measure by brand, with curves, quantiles and intervals for people; without the time in which the store works out whom each post calls, which the rival is given, unless `whom`"
    import duckdb, numpy, polars, scipy.special, trustlab as tl  # noqa: F401, E401
    import trustlab.acknowledgement  # noqa: F401
    warnings.simplefilter("ignore")
    with tl.Lab(folder / "store.duckdb", read_only=True, memory_limit=MEMORY) as lab:
        spent, pinned = [], type(lab).pinned

        @contextmanager
        def timed(self, view):
            before = used()
            with pinned(self, view):
                spent.append(used() - before)
                yield
        type(lab).pinned, began = timed, used()
        frame = tl.acknowledgement(lab, by="brand").frame
        return used() - began - (0 if whom else sum(spent)), [int(frame["n"].sum()), int(frame["acknowledged"].sum())]


def acknowledgement_whole(folder: Path) -> tuple[float, list]: return acknowledgement(folder, whom=True)


def pandas_query(folder: Path) -> tuple[float, list]:
    "The same by hand in pandas from the raw text: whom a call is to comes from its first @name; posts, not conversations, for the thread is not in the file"
    import pandas as pd
    began = used()
    t = pd.read_csv(folder / "twcs.csv", usecols=["tweet_id", "author_id", "inbound", "created_at", "text", "in_response_to_tweet_id"])
    t["created_at"] = pd.to_datetime(t["created_at"], format="%a %b %d %H:%M:%S %z %Y")
    replies = t[~t["inbound"]].groupby("in_response_to_tweet_id")["created_at"].min().rename("answered").reset_index().rename(columns={"in_response_to_tweet_id": "id"})
    calls = t[t["inbound"]].copy()
    calls["brand"] = calls["text"].str.extract(r"@(\w+)", expand=False)
    calls = calls.merge(replies, left_on="tweet_id", right_on="id", how="left")
    calls["wait"] = (calls["answered"] - calls["created_at"]).dt.total_seconds()
    frame = calls.groupby("brand")["wait"].agg(["size", "count", lambda w: (w <= 3600).sum(), lambda w: (w <= 86400).sum()])
    return used() - began, [int(frame["size"].sum())]


def bootstrap(folder: Path) -> tuple[float, list]:
    "All brands' rates in 1,000 draws of people, by kinds of people; and the standard error against the sandwich, brand by brand"
    import numpy as np
    from trustlab import clusters
    code, k, n = np.load(folder / "people.npy").T
    began = used()
    draws = clusters.bootstrap(code, k, n, REPLICATES, seed=1)
    spent = used() - began
    ratio = draws.std(axis=0) / np.sqrt(clusters.linearised(clusters.moments(code, k, n, int(code.max()) + 1)))
    return spent, [float(np.sqrt((ratio**2).mean())), float(ratio.min()), float(ratio.max())]


def resampling(folder: Path) -> tuple[float, list]:
    "The loop: for each replicate and brand, draw as many of its people as it has, add up, divide"
    import numpy as np
    code, k, n = np.load(folder / "people.npy").T
    starts, rng, rounds, began = np.append(np.searchsorted(code, np.arange(code.max() + 1)), code.size), np.random.default_rng(2), REPLICATES // 10, used()
    draws = np.empty((rounds, code.max() + 1))
    for b in range(rounds):
        for g in range(code.max() + 1):
            pick = rng.integers(starts[g], starts[g + 1], starts[g + 1] - starts[g])
            draws[b, g] = k[pick].sum() / n[pick].sum()
    return (used() - began) * REPLICATES / rounds, [rounds]


STEPS = {"prepare": prepare, "first replies, Polars": polars_query, "acknowledgement": acknowledgement, "acknowledgement, whom too": acknowledgement_whole, "first replies, pandas from text": pandas_query, "bootstrap": bootstrap, "resampling loop": resampling}


def measured(step: str, folder: Path) -> list:
    "Processor seconds after imports and peak memory (MB) of one step in a process of its own, and what it counted"
    done = subprocess.run([sys.executable, __file__, "--step", step, "--folder", str(folder)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def main() -> None:
    args = asked(__doc__, STEPS)
    if args.generate: return generate(args.folder / "twcs.csv", args.rows)
    if args.step:
        spent, counted = STEPS[args.step](args.folder)
        return print(json.dumps([spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20), counted]))
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        subprocess.run([sys.executable, __file__, "--generate", "--rows", str(args.rows), "--folder", temp], check=True)
        people = measured("prepare", folder)[2][0]
        steps = [s for s in STEPS if s != "prepare" and not ("pandas" in s and importlib.util.find_spec("pandas") is None)]
        print(f"{args.rows:,} rows, {people:,} people of a brand, {args.rounds} rounds, {os.cpu_count()} processors\n")
        rounds = [{step: measured(step, folder) for step in steps} for _ in range(args.rounds)]
        for r in rounds: assert r["first replies, Polars"][2] == r["acknowledgement"][2], "the two do not count the same"
        print(f"{'step':34}{'CPU s':>8}{'peak MB':>10}{'ratio':>8}{'limit':>8}")
        for step in steps:
            against, limit = LIMITS.get(step, (None, None))
            seconds, memory = statistics.median(r[step][0] for r in rounds), max(r[step][1] for r in rounds)
            ratio = f"{statistics.median(r[step][0] / r[against][0] for r in rounds):8.2f}" + (f"{limit:8.2f}" if limit else "") if against else ""
            print(f"{step:34}{seconds:8.2f}{memory:10.0f}{ratio}")
        if "first replies, pandas from text" not in steps: print(f"{'first replies, pandas from text':34} not run: pandas is not installed (at least 4 times the cost of acknowledgement is expected)")
        else: print(f"\npandas from text costs {statistics.median(r['first replies, pandas from text'][0] / r['acknowledgement, whom too'][0] for r in rounds):.1f} times the whole measure (bound: at least 4)")
        all_, low, high = rounds[0]["bootstrap"][2]
        print(f"\nstandard error of the bootstrap / of the sandwich: {all_:.4f} over all brands (limit 0.98 to 1.02), {low:.3f} to {high:.3f} of single brands (Monte Carlo error of one: 0.022)")


if __name__ == "__main__": main()
