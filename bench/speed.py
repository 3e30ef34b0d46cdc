"""What loading and measuring cost, as ratios to the plainest way to do the same; see bench/README.md."""

import argparse, json, os, resource, statistics, subprocess, sys, tempfile
from pathlib import Path

LIMITS = {"load": ("bare load", 2.5), "acknowledgement": ("rate by hand", 3.0)}
MEMORY = "1400MiB"


def generate(path: Path, rows: int, seed: int = 1) -> None:
    "A twcs-shaped CSV: 100 brands, threads of alternating turns, a third of the roots without an answer"
    import numpy as np, polars as pl
    rng = np.random.default_rng(seed)
    roots, brands = int(rows * 0.32), np.array([f"Firm{i}Care" for i in range(100)])
    pick = lambda n, size: np.minimum((n * rng.random(size) ** 2.2).astype(np.int64), n - 1)
    person, brand, at = pick(rows // 5, roots), pick(100, roots), rng.integers(0, 62 * 86400, roots)
    layers, base = [(person, brand, at, np.full(roots, -1), np.ones(roots, bool))], 0
    while sum(len(x[0]) for x in layers) < rows:
        person, brand, at, _, inbound = layers[-1]
        keep = np.flatnonzero(rng.random(len(person)) < (0.66 if inbound[0] else 0.6))
        layers.append((person[keep], brand[keep], at[keep] + 1 + rng.exponential(9000, keep.size).astype(np.int64), base + keep, np.full(keep.size, not inbound[0])))
        base += len(person)
        if not keep.size: break
    person, brand, at, parent, inbound = (np.concatenate(x)[:rows] for x in zip(*layers))
    ids = np.empty(len(at), np.int64)
    ids[np.argsort(at + rng.integers(0, 86400, len(at)), kind="stable")] = np.arange(1, len(at) + 1)
    words = np.array("the to my is it help with please order phone when will why account update service still flight delayed thanks love worst hours refund".split())
    pool = [" ".join(w) + e for w, e in zip(words[rng.integers(0, len(words), (50_000, 16))], np.array(["", "!", ", really?", "\n\nhttps://example.org/a", ' "again"'])[rng.integers(0, 5, 50_000)])]
    frame = pl.DataFrame({"tweet_id": ids, "person": person + 100_000, "firm": brands[brand], "inbound": inbound, "at": at + 1_506_816_000,
                          "parent": np.where(parent >= 0, ids[np.maximum(parent, 0)], 0), "text": pl.Series(pool)[rng.integers(0, 50_000, len(at))]})
    answers = frame.filter(pl.col("parent") > 0).group_by("parent").agg(pl.col("tweet_id").cast(pl.String).str.join(","))
    frame.join(answers, left_on="tweet_id", right_on="parent", how="left", suffix="_answers").sort("tweet_id").select(
        "tweet_id", pl.when("inbound").then(pl.col("person").cast(pl.String)).otherwise("firm").alias("author_id"),
        pl.when("inbound").then(pl.lit("True")).otherwise(pl.lit("False")).alias("inbound"),
        pl.from_epoch("at").dt.strftime("%a %b %d %H:%M:%S +0000 %Y").alias("created_at"),
        (pl.lit("@") + pl.when("inbound").then("firm").otherwise(pl.col("person").cast(pl.String)) + " " + pl.col("text")).alias("text"),
        pl.col("tweet_id_answers").alias("response_tweet_id"), pl.when(pl.col("parent") > 0).then("parent").alias("in_response_to_tweet_id")).write_csv(path)


def bare_load(folder: Path) -> None:
    import duckdb
    with duckdb.connect(str(folder / "bare.duckdb"), config={"memory_limit": MEMORY}) as con:
        con.execute("set enable_progress_bar = false")
        con.execute(r"""create table t as select * replace (strptime(created_at, '%a %b %d %H:%M:%S %z %Y') as created_at)
            from read_csv(?, auto_detect=false, header=true, delim=',', quote='"', escape='"', columns={'tweet_id': 'BIGINT', 'author_id': 'VARCHAR',
              'inbound': 'BOOLEAN', 'created_at': 'VARCHAR', 'text': 'VARCHAR', 'response_tweet_id': 'VARCHAR', 'in_response_to_tweet_id': 'BIGINT'})""", [str(folder / "twcs.csv")])


def load(folder: Path) -> None:
    import trustlab as tl
    with tl.Lab(folder / "store.duckdb", memory_limit=MEMORY) as lab: lab.load(folder / "twcs.csv", progress=False)


def rate_by_hand(folder: Path) -> tuple[int, int]:
    import duckdb
    with duckdb.connect(str(folder / "bare.duckdb"), read_only=True, config={"memory_limit": MEMORY}) as con:
        con.execute("set enable_progress_bar = false; set TimeZone = 'UTC'")
        rows = con.execute("""
            with recursive reply as (
              select in_response_to_tweet_id as id, min_by(author_id, created_at) as brand, min(created_at) as answered from t
              where not inbound and in_response_to_tweet_id is not null group by 1),
            call as (
              select c.tweet_id, c.in_response_to_tweet_id as parent, c.author_id, c.created_at,
                     coalesce(case when not p.inbound then p.author_id end, r.brand, regexp_extract(c.text, '@([0-9]*[A-Za-z_][A-Za-z0-9_]*)', 1)) as brand, r.answered
              from t c left join t p on p.tweet_id = c.in_response_to_tweet_id left join reply r on r.id = c.tweet_id where c.inbound),
            thread as (
              select tweet_id, tweet_id as root from t where in_response_to_tweet_id is null
              union all select t.tweet_id, thread.root from t join thread on t.in_response_to_tweet_id = thread.tweet_id),
            unit as (
              select brand, author_id, root, min(created_at) as arrived, min(answered) as answered from call join thread using (tweet_id) group by all)
            select brand, date_trunc('week', arrived)::date as week, count(*) as n, count(answered) as answered from unit group by all""").fetchall()
    return sum(r[2] for r in rows), sum(r[3] for r in rows)


def acknowledgement(folder: Path) -> tuple[int, int]:
    import warnings
    import trustlab as tl
    warnings.simplefilter("ignore")
    with tl.Lab(folder / "store.duckdb", read_only=True, memory_limit=MEMORY) as lab: frame = tl.acknowledgement(lab, by=("brand", "week")).frame
    return frame["n"].sum(), frame["acknowledged"].sum()


def import_engines(folder: Path) -> None: import duckdb, polars  # noqa: F401
def import_trustlab(folder: Path) -> None: import trustlab  # noqa: F401


STEPS = {"bare load": bare_load, "load": load, "rate by hand": rate_by_hand, "acknowledgement": acknowledgement, "import engines": import_engines, "import trustlab": import_trustlab}


def measured(step: str, folder: Path) -> list:
    "Processor seconds and peak memory (MB) of one step in a process of its own, and what it counted"
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, __file__, "--step", step, "--folder", str(folder)], check=True, stdout=subprocess.PIPE, text=True, env=compiled)
    return json.loads(done.stdout)


def one(step: str, folder: Path) -> None:
    "Runs a step here and prints its cost"
    for stale in {"bare load": ["bare.duckdb"], "load": ["store.duckdb"]}.get(step, []): (folder / stale).unlink(missing_ok=True)
    counted = STEPS[step](folder)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / (1024 if sys.platform != "darwin" else 2**20), counted]))


def asked(text: str, steps) -> argparse.Namespace:
    "What the command line asks of a benchmark in steps"
    ask = argparse.ArgumentParser(description=text)
    ask.add_argument("--rows", type=int, default=3_000_000)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--generate", action="store_true", help=argparse.SUPPRESS)
    ask.add_argument("--step", choices=steps, help=argparse.SUPPRESS)
    ask.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return ask.parse_args()


def main() -> None:
    args = asked(__doc__, STEPS)
    if args.generate: return generate(args.folder / "twcs.csv", args.rows)
    if args.step: return one(args.step, args.folder)
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        subprocess.run([sys.executable, __file__, "--generate", "--rows", str(args.rows), "--folder", temp], check=True)
        print(f"{args.rows:,} rows, {os.path.getsize(folder / 'twcs.csv') / 1e6:,.0f} MB, {args.rounds} rounds, {os.cpu_count()} processors\n")
        rounds = [{step: measured(step, folder) for step in STEPS} for _ in range(args.rounds)]
        for r in rounds: assert r["rate by hand"][2] == r["acknowledgement"][2], "the two rates do not count the same"
        print(f"{'step':18}{'CPU s':>8}{'peak MB':>10}{'ratio':>8}{'limit':>7}")
        for step in STEPS:
            against, limit = LIMITS.get(step, (None, None))
            seconds, memory = statistics.median(r[step][0] for r in rounds), max(r[step][1] for r in rounds)
            ratio = f"{statistics.median(r[step][0] / r[against][0] for r in rounds):8.2f}{limit:7.1f}" if against else ""
            print(f"{step:18}{seconds:8.2f}{memory:10.0f}{ratio}")
        extra = statistics.median(r["import trustlab"][0] - r["import engines"][0] for r in rounds)
        print(f"\nimport trustlab costs {extra:.2f} s more than duckdb and polars (limit 0.30)")


if __name__ == "__main__": main()
