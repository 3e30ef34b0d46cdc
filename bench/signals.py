"""How many texts a processor second classifies.

    python bench/signals.py                 # 3 million posts in a store, and the same texts without one; about six minutes
    python bench/signals.py --rows 300000   # a quick look

The texts are put together from parts (greeting, trouble, question, thanks, apology, request, signature), half of them by customers and half by brands,
90 characters on average. Classified are all acts of each side. In a store, what was found is also written to the table `signal`, and templates are sought.
"""
import argparse
import resource
import tempfile
import time
from pathlib import Path

import polars as pl

from trustlab import Lab
from trustlab.signals import classified, classify

GOODS = "parcel kettle lamp rug charger ticket seat router invoice refund playlist console booking card statement".split()
SAID = ["my {g} never arrived and nobody answers", "how do I change my {g}?", "love the new {g}, works great", "thanks, the {g} is fine now", "the {g} is broken again after 2 weeks, please fix it", "is the {g} on offer today?",
        "still waiting for the {g}", "worst {g} ever, I'm switching to somebody else", "can you check order 4411 for the {g}", "I would recommend the {g} to anyone"]
ANSWERED = ["we're sorry about the {g}. Please DM us your order number so we can look into this.", "Hi Kim, thanks for letting us know about the {g}!", "we've passed this on to the {g} team and they will be in touch.", "have you tried restarting the {g}?",
            "that's frustrating! What does the {g} say when you open it?", "glad the {g} arrived, enjoy!", "due to our policy the {g} cannot be changed, I'm afraid.", "you can find the steps for the {g} here: https://example.com/help", "please call us on 0800 123 456", "we take the {g} seriously, it is not the experience we want for you."]


def posts(rows: int) -> pl.DataFrame:
    "Posts with their texts, deterministic"
    number = pl.int_range(rows)
    goods, brand = pl.Series(GOODS), (pl.int_range(rows) % 2 == 1)
    pick = lambda parts, by: pl.lit(pl.Series(parts)).gather((number // by) % len(parts))
    text = pl.concat_str(pl.when(brand).then(pl.lit("@customer ")).otherwise(pl.lit("@acme ")), pl.when(brand).then(pick(ANSWERED, 2)).otherwise(pick(SAID, 2)).str.replace("{g}", pick(list(goods), 20), literal=True),
                         pl.lit(" "), pick(["", "No. 12345 since Monday.", "(1/2)", "on the train from Leeds, carriage 4"], 300), pl.when(brand).then(pick([" -Jo", " ^AB", "", " *Kim"], 1200)).otherwise(pl.lit("")))
    return pl.select(post_key=pl.format("x:{}", number), author_key=pl.when(brand).then(pl.format("x:acme{}", number % 100)).otherwise(pl.format("x:c{}", number % 600_000)), text=text)


def spent(job):
    "A job's processor seconds, and its result"
    start = time.process_time()
    result = job()
    return time.process_time() - start, result


def peak() -> float: return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder) / "bench.duckdb", memory_limit="1GiB") as lab:
        frame = posts(rows)
        length = frame["text"].str.len_chars().mean()
        with lab.lent(frame) as path:
            lab.con.execute("insert into post (post_key, kind, author_key, created_at, text) select post_key, 'post', author_key, timestamp '2024-05-01 10:00:00', text from read_parquet(?)", [path])
        lab.con.execute("insert into role select distinct author_key, 'brand', author_key, null::timestamp, null::timestamp, 'declared' from post where author_key like 'x:acme%'")
        del frame
        seconds, _ = spent(lambda: classified(lab))
        print(f"{rows:,} posts of {length:.0f} characters in a store: {seconds:.1f} processor seconds, {rows / seconds:,.0f} texts a second, peak {peak():.0f} MB")
        again, _ = spent(lambda: classified(lab))
        print(f"asked again, nothing new: {again:.1f} processor seconds")
        for side, like in (("customer", "x:c%"), ("brand", "x:acme%")):
            texts = lab.sql("select text from post where author_key like $like limit 500000", like=like)["text"]
            seconds, _ = spent(lambda texts=texts, side=side: classify(texts, side))
            print(f"classify, {len(texts):,} texts of {side}s: {seconds:.1f} processor seconds, {len(texts) / seconds:,.0f} texts a second")


if __name__ == "__main__": main()
