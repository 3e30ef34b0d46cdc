"""What an effect with intervals costs on a store of 3 million posts by 600,000 people, in processor seconds and memory; see bench/README.md."""

import argparse, json, resource, subprocess, sys, tempfile, warnings
from pathlib import Path

LIMIT_SECONDS, LIMIT_MB = 60, 2000


def used() -> float:
    "Processor seconds of this process so far"
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime


def generate(folder: Path, customers: int) -> list:
    "A town in which few write often, as one CSV, and the store of it"
    import trustlab as tl
    tl.write(tl.simulate(1, customers=customers, days=240, scenario="plain", mu0=0.013), folder / "town")
    with tl.Lab(folder / "store.duckdb") as lab:
        lab.load(folder / "town" / "twcs.csv", progress=False)
        return list(lab.sql("select count(*), count(distinct author_key) from post").row(0))


def effect(folder: Path) -> list:
    import duckdb, numpy, polars, scipy.optimize, trustlab as tl  # noqa: F401, E401
    from trustlab import effects  # noqa: F401
    warnings.simplefilter("ignore")
    with tl.Lab(folder / "store.duckdb", read_only=True, memory_limit="1200MiB") as lab:
        began = used()
        found = tl.effect(lab)
        row = found.frame.filter((found.frame["method"] == "trials") & (found.frame["estimand"] == "hazard_ratio")).row(0, named=True)
        return [used() - began, row["n"], row["exposed"], row["estimate"], row["low"], row["high"], found.frame["method"].unique().sort().to_list()]


STEPS = {"generate": generate, "effect": effect}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--customers", type=int, default=600_000)
    ask.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    ask.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = ask.parse_args()
    if args.step:
        found = generate(args.folder, args.customers) if args.step == "generate" else effect(args.folder)
        return print(json.dumps([found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)]))
    with tempfile.TemporaryDirectory() as temp:
        def step(name: str) -> list:
            done = subprocess.run([sys.executable, __file__, "--step", name, "--folder", temp, "--customers", str(args.customers)], check=True, stdout=subprocess.PIPE, text=True)
            return json.loads(done.stdout.splitlines()[-1])
        (posts, people), _ = step("generate")
        (seconds, n, exposed, ratio, low, high, methods), peak = step("effect")
        print(f"{posts:,} posts by {people:,} people; {n:,} followed, {exposed:,} exposed; hazard ratio {ratio:.2f} ({low:.2f} to {high:.2f}), methods: {', '.join(methods)}")
        print(f"effect: {seconds:.1f} CPU s (limit {LIMIT_SECONDS}){'' if seconds < LIMIT_SECONDS else ', MISSED'}; peak {peak:,.0f} MB (limit {LIMIT_MB:,}){'' if peak < LIMIT_MB else ', MISSED'}")


if __name__ == "__main__": main()
