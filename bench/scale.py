"""Whether more data than memory loads: 2 GB files under a memory limit of 400 MB; see bench/README.md."""

import argparse, json, os, resource, subprocess, sys, tempfile, time
from pathlib import Path

from speed import generate

LIMIT, PEAK = "400MB", 700


def ndjson(path: Path, rows: int, seed: int = 1) -> None:
    "Reddit comments, one JSON object a line, about half of them replies to another comment"
    import duckdb
    with duckdb.connect() as con:
        con.execute("set enable_progress_bar = false; select setseed(?)", [seed / 10])
        con.execute(r"""copy (
            select 'c' || i as id, 't1_c' || i as name, case when i % 2 = 0 and i > 1000 then 't1_c' || (i - 1 - cast(random() * 900 as bigint)) else 't3_s' || (i // 40) end as parent_id,
                   't3_s' || (i // 40) as link_id, 'user' || cast(pow(random(), 2) * 400000 as bigint) as author, 't2_' || (i % 400000) as author_fullname, 'acme' as subreddit, 't5_acme' as subreddit_id,
                   1700000000 + i as created_utc, repeat('please help with my order ' || (random() * 1e9)::bigint || ' ', 14) as body, 1 as score, false as edited, null as distinguished, false as is_submitter
            from range($rows) t(i)) to '$path' (format json)""".replace("$rows", str(rows)).replace("$path", str(path).replace("'", "''")))


def load(store: Path, source: Path) -> dict:
    import trustlab as tl
    with tl.Lab(store, memory_limit=LIMIT) as lab:
        receipt = lab.load(source, progress=False)
        return {"read": receipt.read, "stored": receipt.stored, "rejected": receipt.rejected}


def ask(store: Path) -> dict:
    import warnings
    import trustlab as tl
    warnings.simplefilter("ignore")
    with tl.Lab(store, read_only=True, memory_limit=LIMIT) as lab: frame = tl.acknowledgement(lab, by=("brand", "week")).frame
    return {"rows": frame.height, "n": frame["n"].sum(), "acknowledged": frame["acknowledged"].sum()}


STEPS = {"load": load, "acknowledgement": ask}


def measured(step: str, *paths: Path) -> tuple[dict, float, float]:
    "What a step in a process of its own says, its seconds and its peak memory in MB"
    began = time.monotonic()
    done = subprocess.run([sys.executable, __file__, "--step", step, *map(str, paths)], check=True, stdout=subprocess.PIPE, text=True)
    said = json.loads(done.stdout)
    return said["said"], time.monotonic() - began, said["peak"]


def main() -> None:
    ask_for = argparse.ArgumentParser(description=__doc__)
    ask_for.add_argument("--gigabytes", type=float, default=2.0, help="the size of each file")
    ask_for.add_argument("--only", choices=["csv", "ndjson"])
    ask_for.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    ask_for.add_argument("paths", nargs="*", help=argparse.SUPPRESS)
    args = ask_for.parse_args()
    if args.step:
        said = STEPS[args.step](*map(Path, args.paths))
        print(json.dumps({"said": said, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)}))
        return
    over = False
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        for kind, make, each in (("csv", generate, 151), ("ndjson", ndjson, 810)):
            if args.only not in (None, kind): continue
            path, store = folder / ("twcs.csv" if kind == "csv" else "RC_2024-01.ndjson"), folder / f"{kind}.duckdb"
            subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import scale; scale.{make.__name__}(scale.Path({str(path)!r}), {int(args.gigabytes * 1e9 / each)})"], check=True)
            for step in ("load", "acknowledgement") if kind == "csv" else ("load",):
                said, seconds, peak = measured(step, store, *[path] * (step == "load"))
                over |= peak > PEAK
                print(f"{kind:7} {os.path.getsize(path) / 1e9:.2f} GB  {step:16} {seconds:6.0f} s  peak {peak:5.0f} MB (limit {PEAK})  {said}", flush=True)
            path.unlink(), store.unlink()
    sys.exit(over)


if __name__ == "__main__": main()
