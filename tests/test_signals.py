"""The advocacy rule against reference labels of real posts (made by a language model with a codebook: references, not human gold)."""
import csv
from pathlib import Path

import pytest

import trustlab as tl
from test_oracles_measures import tweets

SOURCES = {"twcs": "twcs-first-rows-pandas/twcs.csv", "spotify": "twcs-spotify-requests/support_requests.csv"}


@pytest.fixture(scope="module")
def flagged(shared):
    "By source: the texts, and the ids that the rule finds in a lab of that file"
    found = {}
    for source, path in SOURCES.items():
        with tl.Lab() as lab:
            lab.load(shared / path)
            found[source] = ({r["id"]: r["text"] for r in tweets(shared / path)}, {key.removeprefix("twcs:") for key in lab.signals()["post_key"]})
    return found


def rows_of(shared: Path, name: str) -> list[dict]:
    return list(csv.DictReader((shared / "labels" / name).open(newline="", encoding="utf-8")))


def test_precision_of_the_rule_where_labels_exist(flagged, shared, capsys):
    rows = [r for r in rows_of(shared, "customer_enriched_dev.csv") if r["source"] in SOURCES]
    assert all(r["id"] in flagged[r["source"]][0] for r in rows)
    hits = [r for r in rows if r["id"] in flagged[r["source"]][1]]
    right = [r for r in hits if r["advocacy"] == "1"]
    weight = lambda some: sum(float(r["weight"]) for r in some)
    positives = [r for r in rows if r["advocacy"] == "1"]
    with capsys.disabled():
        print(f"\nadvocacy rule: {sum(len(ids) for _, ids in flagged.values())} of {sum(len(texts) for texts, _ in flagged.values()):,} posts found; {len(hits)} of {len(rows)} labelled posts found, {len(right)} of them right; weighted precision {weight(right) / max(weight(hits), 1e-9):.2f}; "
              f"of {len(positives)} labelled advocates {len(right)} found (enriched strata, no recall of the whole)")
        for r in hits:
            if r not in right: print(f"  wrong: {r['source']} {r['id']}: {flagged[r['source']][0][r['id']][:120]!r}")
    assert {id for _, ids in flagged.values() for id in ids} == {"1847241"}, "of 35 texts with the word, read one by one, this one recommends the firm"
    assert len(hits) == len(right)
