"""Processor seconds of dyads, returns and temporal loops against what else does the same work; see bench/README.md.

    python bench/loops.py                           1 million acts, with and without a brand hub
    python bench/loops.py --acts 10000000           without the peers that take minutes
    python bench/loops.py --growth                  1, 10 and 50 million acts, beside n log n and a plain sort of the same acts
    python bench/loops.py --peers PATH/TO/python    igraph, NetworkX and Raphtory from another environment

Each step runs in a process of its own on the same arrays, and its least of some rounds counts: what fresh memory costs a process changes from minute
to minute on a shared machine (0.06 to 1.4 s of system time for the same step), and only ever adds. A peer that is not installed is said to be absent."""

import argparse, json, multiprocessing, resource, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np

DAY, WINDOW = 86_400, 7 * 86_400
MEMORY, STORE = "400MB", [Path("acts.duckdb")]


def generate(path: Path, acts: int, hub: float = 0.0, pair: int = 0) -> None:
    "Acts with Zipf endpoints over 180 days, about a tenth of them replies; a share `hub` goes from or to one account, and one pair has `pair` acts"
    rng, people, first = np.random.default_rng(7), acts // 8, int(acts * 0.89)
    zipf = lambda size, a: np.minimum((people * rng.random(size) ** (1 / (1 - a))).astype(np.int64), people - 1)
    giver, receiver = zipf(first, 0.6), (zipf(first, 0.7) * 7919 + 13) % people
    mixed = rng.random(first) < 0.3
    receiver[mixed] = zipf(int(mixed.sum()), 0.6)
    at, back = rng.integers(0, 180 * DAY, first), rng.integers(0, first, acts - first)
    late = np.exp(rng.normal(np.log(20 * 3600), 1.8, back.size)).astype(np.int64)
    giver, receiver, at = np.append(giver, receiver[back]), np.append(receiver, giver[back]), np.append(at, at[back] + 1 + late)
    way = rng.random(acts)
    giver, receiver = np.where(way < hub / 2, people, giver), np.where((way >= hub / 2) & (way < hub), people, receiver)
    if pair: giver[:pair], receiver[:pair] = np.arange(pair) % 2 + people + 1, people + 2 - np.arange(pair) % 2
    kept = np.flatnonzero(giver != receiver)
    kept = kept[np.argsort(at[kept], kind="stable")]
    np.savez(path, giver=giver[kept].astype(np.int32), receiver=receiver[kept].astype(np.int32), at=at[kept] + 1_500_000_000)


def made(path: Path, acts: int, **more) -> None:
    "The same in a process of its own: a step's peak would begin at this one's"
    work = multiprocessing.get_context("spawn").Process(target=generate, args=(path, acts), kwargs=more)
    work.start()
    work.join()
    if work.exitcode: raise SystemExit(f"the acts were not written: exit {work.exitcode}")


def dyads(u, v, t):
    from trustlab.census import dyads
    low, high, there, back = dyads(u, v)
    both = (there > 0) & (back > 0)
    return [int(both.sum()), int((~both).sum()), int(2 * np.minimum(there, back).sum())]


def dyads_sort(u, v, t):
    "Written by hand: pack, sort, run lengths"
    key = np.minimum(u, v).astype(np.uint64) << np.uint64(33) | np.maximum(u, v).astype(np.uint64) << np.uint64(1) | (u < v)
    key.sort()
    pair = key >> np.uint64(1)
    first = np.flatnonzero(np.append(True, pair[1:] != pair[:-1]))
    total, up = np.diff(np.append(first, key.size)), np.append(0, np.cumsum((key & np.uint64(1)).astype(np.int64)))
    up = up[np.append(first[1:], key.size)] - up[first]
    down = total - up
    return [int(((up > 0) & (down > 0)).sum()), int(((up > 0) != (down > 0)).sum()), int(2 * np.minimum(up, down).sum())]


def dyads_polars(u, v, t):
    import polars as pl
    a, b = pl.col("u"), pl.col("v")
    each = pl.LazyFrame({"u": u, "v": v}).select(k=pl.min_horizontal(a, b).cast(pl.UInt64) * 2**32 + pl.max_horizontal(a, b).cast(pl.UInt64), up=a < b).group_by("k").agg(up=pl.col("up").sum(), n=pl.len()).with_columns(down=pl.col("n") - pl.col("up"))
    return list(each.select(((pl.col("up") > 0) & (pl.col("down") > 0)).sum(), ((pl.col("up") > 0) != (pl.col("down") > 0)).sum().alias("a"), 2 * pl.min_horizontal("up", "down").cast(pl.Int64).sum().alias("w")).collect(engine="streaming").row(0))


def dyads_igraph(u, v, t):
    import igraph
    graph = igraph.Graph(n=int(max(u.max(), v.max())) + 1, edges=np.column_stack([u, v]), directed=True)
    graph.simplify()
    graph.reciprocity()
    census = graph.dyad_census()
    return [int(census[0]), int(census[1])]


def dyads_networkx(u, v, t):
    import networkx
    graph = networkx.DiGraph()
    graph.add_edges_from(zip(u.tolist(), v.tolist()))
    return [round(networkx.overall_reciprocity(graph), 9)]


def found(wait): return [int(wait.size), float(np.median(wait))]


def returns(u, v, t):
    from trustlab.returns import first_return
    back = first_return(u, v, t)
    hit = np.flatnonzero(back >= 0)
    wait = t[back[hit]] - t[hit]
    return found(wait[wait <= WINDOW])


def returns_dict(u, v, t):
    "Plain Python: from the last act to the first, with a dictionary of when each pair last acted. Acts of the same second are not told apart"
    last, waits = {}, []
    for a, b, x in zip(reversed(u.tolist()), reversed(v.tolist()), reversed(t.tolist())):
        back = last.get((b, a))
        if back is not None and 0 < back - x <= WINDOW: waits.append(back - x)
        last[a, b] = x
    waits.sort()
    return [len(waits), waits[len(waits) // 2]]


def returns_join(u, v, t):
    "DuckDB: a join over a range of times, and the least"
    import duckdb, polars as pl
    with tempfile.TemporaryDirectory() as folder:
        pl.DataFrame({"u": u, "v": v, "t": t}).write_parquet(f"{folder}/e.parquet")
        con = duckdb.connect()
        con.execute("set enable_progress_bar = false; set threads = 2")
        row = con.sql(f"""with e as (select row_number() over () as id, * from '{folder}/e.parquet'),
            j as (select a.id, min(b.t) - any_value(a.t) as wait from e a join e b on a.u = b.v and a.v = b.u and b.t > a.t and b.t <= a.t + {WINDOW} group by a.id) select count(*), median(wait) from j""").fetchall()[0]
    return [int(row[0]), float(row[1])]


def loops_of(length):
    def run(u, v, t):
        from trustlab.temporal_loops import all_loops
        return [all_loops(u, v, t, WINDOW, [length])[0][0]]
    return run


def loops_raphtory(u, v, t):
    import polars as pl, raphtory
    from raphtory import algorithms
    graph = raphtory.Graph()
    graph.load_edges(pl.DataFrame({"u": u, "v": v, "t": t}), time="t", src="u", dst="v")
    return [list(algorithms.global_temporal_three_node_motif(graph, WINDOW, 2))[-5]]


def sorted_acts(u, v, t):
    "The acts put in order by pair and time: what n log n comes to on this machine, caches and all"
    return [int(np.lexsort((t, v, u))[0] >= 0)]


def kernels(u, v, t):
    "What `reciprocity` does with whole numbers: dyads and what is counted of them, first returns and the curve of the waits, the people behind"
    import polars as pl
    from trustlab.acts import behind
    from trustlab.reciprocity import network
    from trustlab.returns import timed
    one, nobody = np.zeros(u.size, np.int64), np.zeros(u.size, np.int8)
    rows = pl.DataFrame({"giver": u, "receiver": v, "giving": u, "receiving": v, "giving_side": nobody, "receiving_side": nobody, "at": t * 1_000_000, "ends": np.full(t.size, t.max() * 1_000_000)})
    began = time.process_time()
    network(u, v, one, 1)
    row = timed(rows, one, 1, WINDOW).row(0, named=True)
    behind(rows, one, 1)
    return began, [round(row["return_rate"], 9), row["median_return_seconds"]]


def store(u, v, t):
    "Writes the acts as posts into a store beside the arrays"
    import polars as pl, trustlab as tl
    with tl.Lab(STORE[0], memory_limit=MEMORY) as lab, lab.lent(pl.DataFrame({"u": u, "v": v, "t": t})) as path:
        lab.con.execute(f"""
            insert into account by name select 'x:' || k as account_key, 'x' as platform, cast(k as varchar) as handle, 'unknown' as kind, false as placeholder, 'x:' || k as person_key
              from (select u as k from '{path}' union select v from '{path}');
            insert into post by name select 'x:p' || row_number() over () as post_key, 'x' as platform, 'x:' || u as author_key, 'post' as kind, make_timestamp(t * 1000000) as created_at, 'x:' || v as reply_to_account,
              'x:q' || t as reply_to_key, 'explicit' as reply_basis, 'public' as visibility, '1' as load_id from '{path}';
            insert into load by name select '1' as load_id, 'x' as source, 'both' as scope, max(created_at) as covers_to from post;
            insert into coverage values ('1', 'x', null, null, false)""")
    return [len(u)]


def whole(u, v, t):
    "`reciprocity` from that store, read with a memory limit"
    import warnings
    import trustlab as tl
    warnings.simplefilter("ignore")
    with tl.Lab(STORE[0], read_only=True, memory_limit=MEMORY) as lab:
        began = time.process_time()
        row = tl.reciprocity(lab).frame.row(0, named=True)
        return began, [round(row["return_rate"], 9), row["median_return_seconds"]]


STEPS = {"dyads": dyads, "dyads by a sort": dyads_sort, "dyads in Polars": dyads_polars, "dyads in igraph": dyads_igraph, "dyads in NetworkX": dyads_networkx, "returns": returns, "returns by a dict loop": returns_dict,
         "returns by a DuckDB join": returns_join, "kernels": kernels, "the store": store, "reciprocity from a store": whole, "loops of 3": loops_of(3), "loops of 4": loops_of(4), "loops of 5": loops_of(5), "loops of 3 in Raphtory": loops_raphtory, "a sort by pair and time": sorted_acts}
PEERS = {"dyads in igraph": ("dyads", 10), "dyads in NetworkX": ("dyads", 40), "loops of 3 in Raphtory": ("loops of 3", 8), "returns by a dict loop": ("returns", 3)}
BOUNDS = {"dyads by a sort": ("dyads", 1.5), "dyads in Polars": ("dyads", 1.5), "returns by a DuckDB join": ("returns", 1.5), "kernels": ("reciprocity from a store", 3)}


def measured(step: str, data: Path, peers: str) -> dict | None:
    "A step in a process of its own: processor seconds, peak memory in MB, what it found; None if its library is absent"
    python = peers if step in ("dyads in igraph", "dyads in NetworkX", "loops of 3 in Raphtory") else sys.executable
    done = subprocess.run([python, __file__, "--step", step, str(data)], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def run_step(step: str, data: str) -> None:
    arrays, STORE[0] = np.load(data), Path(data).with_suffix(".duckdb")
    u, v, t = arrays["giver"], arrays["receiver"], arrays["at"]
    loaded = {"igraph": "igraph", "NetworkX": "networkx", "Raphtory": "raphtory", "Polars": "polars", "DuckDB": "duckdb"}
    try:
        for word, module in loaded.items():
            if word in step: __import__(module)
        if not any(word in step for word in ("igraph", "NetworkX", "Raphtory", "by a", "a sort")): __import__("trustlab.temporal_loops")
    except ImportError as missing: return print(json.dumps({"absent": str(missing)}))
    began = time.process_time()
    said = STEPS[step](u, v, t)
    if isinstance(said, tuple): began, said = said
    print(json.dumps({"cpu": time.process_time() - began, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "said": said}))


def growth(rounds: int, peers: str, sizes: tuple[int, ...] = (1_000_000, 10_000_000, 50_000_000)) -> bool:
    "How processor seconds grow with the acts; a step misses where they grow by more than n log n and by more than those of a plain sort of the same acts, a tenth (what two runs differ by) allowed"
    steps, cpu = ("a sort by pair and time", "dyads", "returns", "loops of 3"), {}
    with tempfile.TemporaryDirectory() as folder:
        for acts in sizes:
            made(data := Path(folder) / "acts.npz", acts)
            runs = {s: [measured(s, data, peers) for _ in range(rounds)] for s in steps}
            cpu[acts] = {s: min(r["cpu"] for r in found) for s, found in runs.items()}
            for s in steps: print(f"  {acts:11,} {s:24} {cpu[acts][s]:8.2f} s  peak {max(r['peak'] for r in runs[s]):6.0f} MB", flush=True)
    missed = False
    for few, many in ((sizes[0], sizes[1]), (sizes[1], sizes[2]), (sizes[0], sizes[2])):
        law = many * np.log(many) / few / np.log(few)
        grown = {s: cpu[many][s] / cpu[few][s] for s in steps}
        print(f"  from {few:,} to {many:,}: n log n {law:.1f} x, " + ", ".join(f"{s} {x:.1f} x{'  MISSED' if x > 1.1 * max(law, grown[steps[0]]) else ''}" for s, x in grown.items()), flush=True)
        missed |= any(x > 1.1 * max(law, grown[steps[0]]) for x in grown.values())
    return missed


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--acts", type=int, default=1_000_000)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--peers", default=sys.executable, help="a Python that has igraph, networkx and raphtory")
    ask.add_argument("--only", help="steps to run, by commas", default="")
    ask.add_argument("--growth", action="store_true", help="1, 10 and 50 million acts")
    ask.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    ask.add_argument("data", nargs="?", help=argparse.SUPPRESS)
    args = ask.parse_args()
    if args.step: return run_step(args.step, args.data)
    if args.growth: sys.exit(growth(args.rounds, args.peers))
    wanted = [s.strip() for s in args.only.split(",") if s.strip()] or [s for s in STEPS if s != "a sort by pair and time" and (args.acts <= 1_000_000 or s not in PEERS)]
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, more in (("plain", {}), ("a hub with 20 % of all acts", {"hub": 0.2}), ("one pair with 100,000 acts", {"pair": 100_000})):
            if more.get("pair", 0) > args.acts // 5: continue
            data = Path(folder) / "acts.npz"
            made(data, args.acts, **more)
            data.with_suffix(".duckdb").unlink(missing_ok=True)
            steps = [s for s in wanted if name == "plain" or s.startswith(("loops", "returns", "dyads")) and s not in PEERS and s != "returns by a DuckDB join"]
            if "pair" in more: steps = [s for s in steps if s.startswith("returns")]
            if "hub" in more and args.acts > 1_000_000: steps = [s for s in steps if s in ("dyads", "returns", "loops of 3")]
            print(f"\n{args.acts:,} acts, {name}", flush=True)
            results = {}
            for step in steps:
                runs = [measured(step, data, args.peers) for _ in range(1 if step in PEERS or step == "the store" else args.rounds)]
                if "absent" in runs[0]:
                    print(f"  {step:28} absent: {runs[0]['absent']}", flush=True)
                    continue
                results[step] = {"cpu": min(r["cpu"] for r in runs), "peak": max(r["peak"] for r in runs), "said": runs[0]["said"]}
                print(f"  {step:28} {results[step]['cpu']:8.2f} s  peak {results[step]['peak']:6.0f} MB  {results[step]['said']}", flush=True)
            for peer, (ours, bound) in PEERS.items():
                if peer in results and ours in results:
                    ratio = results[peer]["cpu"] / results[ours]["cpu"]
                    missed |= ratio < bound
                    print(f"  {ours}: {ratio:.1f} x less than {peer} (at least {bound} x){'' if ratio >= bound else '  MISSED'}")
            for other, (ours, bound) in BOUNDS.items():
                if other in results and ours in results:
                    ratio = results[ours]["cpu"] / results[other]["cpu"]
                    missed |= ratio > bound
                    print(f"  {ours}: {ratio:.2f} x {other} (at most {bound} x){'' if ratio <= bound else '  MISSED'}")
    sys.exit(missed)


if __name__ == "__main__": main()
