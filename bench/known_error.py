"""Holds the rules against reference labels that were not used to write them, and writes the counts that the page Known error shows.

    python bench/known_error.py FOLDER        FOLDER holds labels/, twcs-first-rows-pandas/, twcs-spotify-requests/ and play-reviews-replies/

The labels are of two samples. Half of each, chosen by a hash of the id, was read while the rules were written; the other half is counted here.
"""
import csv
import hashlib
import io
import json
import sys
from collections import defaultdict
from pathlib import Path

import trustlab.sources  # noqa: F401
from trustlab import Lab
from trustlab.advocacy import acts_made
from trustlab.signals import ACTS, SIDES, classify, model, rules_folder

TWEETS = {"twcs": "twcs-first-rows-pandas/twcs.csv", "spotify": "twcs-spotify-requests/support_requests.csv"}
READ = {"twcs 1408", "twcs 3328", "spotify 2239816", "play_tiktok 6cecdcd6", "play_tiktok ea343ffe", "play_chatgpt 8dfcc706", "play_chatgpt 9e21e580"}
SAMPLES = {"brand_dev.csv": ("brand", "plain"), "customer_dev.csv": ("customer", "plain"), "customer_enriched_dev.csv": ("customer", "enriched")}


def held_back(post_id: str) -> bool:
    "Whether a label is of the half that was not looked at"
    return hashlib.md5(post_id.encode(), usedforsecurity=False).digest()[0] % 2 == 1


def texts(folder: Path) -> dict[tuple[str, str], str]:
    "The texts by source and id"
    found = {}
    for source, path in TWEETS.items():
        text = (folder / path).read_bytes().decode("utf-8").replace("\r\n", "\n").replace("\r", " ")
        for row in csv.DictReader(io.StringIO(text, newline="")): found[source, row["tweet_id"].removesuffix(".0")] = row["text"]
    for path in (folder / "play-reviews-replies").glob("*.csv"):
        for row in csv.DictReader(path.open(newline="", encoding="utf-8")): found["play_" + path.stem, row["reviewId"]] = row["content"]
    return found


def labelled(folder: Path, name: str) -> list[dict]:
    "The rows of a file of labels with their texts"
    known, rows = texts(folder), []
    for row in csv.DictReader((folder / "labels" / name).open(newline="", encoding="utf-8")):
        source, post_id = row.get("source", "twcs"), row.get("id") or row["tweet_id"]
        key = (source, post_id) if (source, post_id) in known else next(k for k in known if k[0] == source and k[1].startswith(post_id))
        rows.append({**row, "post": post_id, "text": known[key], "weight": float(row.get("weight") or 1)})
    return rows


def counts(folder: Path, held: bool = True) -> list[dict]:
    "Per side, act and sample: how many posts were found rightly, wrongly, missed, and rightly not found; with weights where posts were drawn by keyword"
    done = []
    for name, (side, sample) in SAMPLES.items():
        rows = [row for row in labelled(folder, name) if held_back(row["post"]) == held]
        found = classify([row["text"] for row in rows], side)
        for act in ACTS[side]:
            cell = defaultdict(float)
            for row, present in zip(rows, found[act].to_list(), strict=True):
                kind = ("tp" if present else "fn") if row[act] == "1" else ("fp" if present else "tn")
                cell[kind] += 1
                cell["weight_" + kind] += row["weight"]
                cell["square_" + kind] += row["weight"] ** 2
            weighed = ("weight_tp", "weight_fp", "square_tp", "square_fp") if sample == "enriched" else ()
            done.append({"side": side, "act": act, "sample": sample, **{k: int(cell[k]) for k in ("tp", "fp", "fn", "tn")}, **{k: round(cell[k], 3) for k in weighed}})
    return done


def audit(folder: Path) -> dict:
    "What the rule for advocacy finds among all texts of the half that was not looked at, and how many of them were read afterwards, by somebody who knew it, and found to advocate"
    known = [(f"{source} {post[:8]}", text) for (source, post), text in texts(folder).items() if text and held_back(post)]
    found = {name for (name, _), present in zip(known, classify([text for _, text in known])["advocacy"].to_list(), strict=True) if present}
    if found - READ: raise SystemExit(f"the rule finds others than were read; read them with the codebook, and put those that advocate into READ: {sorted(found - READ)}")
    return {"side": "customer", "act": "advocacy", "texts": len(known), "found": len(found), "right": len(found & READ)}


HELPED = {"twcs:2530", "twcs:4550"}
CHATTED = {"twcs:1268", "twcs:1987", "twcs:3206", "twcs:5002", "twcs:5906", "twcs:7197", "twcs:7198", "twcs:7212", "twcs:7251", "twcs:7268", "twcs:7310"}

def audit_helping(folder: Path) -> dict:
    "The answers to other customers that the rule finds in the first rows of twcs, and how many of them were read and found to help; answers from people of a brand that no file names, banter and fellow sufferers do not"
    with Lab() as lab:
        lab.load(folder / TWEETS["twcs"], progress=False)
        with lab.pinned("inbound"), acts_made(lab, None, True): found = set(lab.sql("select post_key from advocate_now where kind = 'helping'")["post_key"])
        texts = lab.sql("select count(*) as n from post where text is not null")["n"][0]
    if found != HELPED | CHATTED: raise SystemExit(f"the rule finds others than were read; read them, and put those that help into HELPED: {sorted(found ^ (HELPED | CHATTED))}")
    return {"side": "customer", "act": "helping", "texts": texts, "found": len(found), "right": len(HELPED)}


def main() -> None:
    folder = Path(sys.argv[1])
    rows = [json.dumps(row) for row in counts(folder)]
    text = '{"models": ' + json.dumps({side: model(side) for side in SIDES}) + ',\n "counts": [\n  ' + ",\n  ".join(rows) + '\n ],\n "audits": [' + json.dumps(audit(folder)) + ", " + json.dumps(audit_helping(folder)) + "]}\n"
    path = rules_folder() / "known_error.json"
    path.write_text(text, encoding="utf-8")
    print(f"{path.name}: {len(rows)} rows")


if __name__ == "__main__": main()
