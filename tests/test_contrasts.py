"""Doses and contrasts: the beginnings against counts in plain Python, refusals in words, charts."""
import csv
import warnings
from collections import defaultdict
from datetime import datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
import test_oracles_measures as oracle

import trustlab as tl
import trustlab.sources  # noqa: F401
from trustlab.contrasts import RESULTS, asked, begun, contrast, dose_response
from trustlab.core import InvalidParameter, NotIdentifiable
from trustlab.effects import effect

pytestmark = pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")
HEAD, START = "tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id".split(","), datetime(2024, 1, 1)


def rows_of(seed, people=40, calls=160):
    "Random calls and answers to some of them, as (id, author, inbound, minute, text, parent)"
    rng, rows = np.random.default_rng(seed), []
    for i in range(calls):
        who, at = str(101 + rng.integers(people)), int(rng.integers(0, 60 * 1440))
        rows.append((1000 + 2 * i, who, True, at, "@Acme " + str(rng.choice(["my parcel is late", "I entered the giveaway #giveaway #ad", "hello"])), None))
        if rng.random() < 0.6: rows.append((1001 + 2 * i, "Acme", False, at + int(rng.integers(1, 4000)), "we are on it", 1000 + 2 * i))
    return rows + [(1, "Acme", False, 80 * 1440, "hello all", None)]


def loaded(path, rows):
    with path.open("w", newline="") as out:
        write = csv.writer(out).writerow
        write(HEAD)
        for i, who, inbound, at, text, parent in rows: write([i, who, inbound, (START + timedelta(minutes=at)).strftime("%a %b %d %H:%M:%S +0000 %Y"), text, "", parent or ""])
    lab = tl.Lab()
    lab.load(path)
    return lab


@pytest.mark.parametrize("seed", range(3))
def test_each_dose_begins_with_the_one_before(tmp_path, seed):
    rows = rows_of(seed)
    lab, when = loaded(tmp_path / "twcs.csv", rows), lambda minute: START + timedelta(minutes=minute)
    table, acts, _ = asked(lab, ["acknowledged"], "silence", None, "account", "Doses", doses=3)
    calls, told = {i: (who, at) for i, who, inbound, at, *_ in rows if inbound}, defaultdict(set)
    for _, _, inbound, at, _, parent in rows:
        if not inbound and parent: told[calls[parent][0]].add(at)
    for n in (1, 2, 3):
        got, args = begun(table, acts, pl.col("entry" if n == 1 else f"dose_{n - 1}"), pl.col(f"dose_{n}"), ["30d"], "14d")
        truth = {}
        for who in {who for who, _ in calls.values()}:
            times = sorted(told[who])
            start = min(at for w, at in calls.values() if w == who) if n == 1 else times[n - 2] if len(times) >= n - 1 else None
            if start is not None: truth["twcs:" + who] = (when(start), when(times[n - 1]) if len(times) >= n else None)
        assert {p: (e, x) for p, e, x in got.select("person", "entry", "exposed_at").iter_rows()} == truth
        first = args["history"].sort("id", "time").group_by("id", maintain_order=True).first()
        so_far = {p: k for p, k in got.select("id", "person").join(first, on="id").select("person", "so_far").iter_rows()}
        assert so_far == {p: sum("twcs:" + w == p and when(at) <= e for w, at in calls.values()) for p, (e, _) in truth.items()}
    lab.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_contrast_begins_with_the_first_of_the_two(tmp_path, seed):
    rows = rows_of(10 + seed, people=200, calls=700)
    lab = loaded(tmp_path / "twcs.csv", rows)
    table, _, _ = asked(lab, ["giveaway", "acknowledged"], "silence", None, "account", "Contrast", rival="acknowledged")
    calls, given, told = {i: who for i, who, inbound, *_ in rows if inbound}, defaultdict(list), defaultdict(list)
    for _, who, inbound, at, text, parent in rows:
        if inbound and "#giveaway" in text: given[who].append(at)
        if not inbound and parent: told[calls[parent]].append(at)
    when = lambda times: START + timedelta(minutes=min(times)) if times else None
    assert {p: (a, b) for p, a, b in table.select("person", "exposed_at", "rival_at").iter_rows()} == {"twcs:" + w: (when(given[w]), when(told[w])) for w in set(calls.values())}
    m = contrast(lab, outcome="silence", horizon="40d")
    arms = [w for w in set(calls.values()) if given[w] or told[w]]
    gone = sum("with the outcome at or before entry" in n and int(n.split()[0]) for n in m.notes)
    assert m.frame["n"][0] == len(arms) - gone and gone < len(arms) / 2
    assert m.frame["exposed"][0] <= sum(bool(given[w]) and (not told[w] or min(given[w]) < min(told[w])) for w in arms)
    lab.close()


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    place = tmp_path_factory.mktemp("giveaways")
    tl.write(tl.simulate(seed=3, scenario="giveaways", customers=2500), place)
    with tl.Lab() as lab, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lab.load(place / "twcs.csv")
        yield lab


def test_a_giveaway_against_an_answer_is_told_with_what_speaks_against_it(town):
    "Who joins a giveaway is engaged, and that shows in posts before: the groups cannot be made alike, and the verdict says so"
    m = contrast(town, horizon="14d")
    assert m.frame["method"].unique(maintain_order=True).to_list() == ["contrast", "contrast_corrected", "placebo_exposure", "contrast_unadjusted"] and m.notes[0].startswith("Verdict: No causal reading: ") and m.frame["max_smd"][0] > 0.1
    assert m.detail["smd_after"].abs().max() < m.detail["smd_before"].abs().max() and m.params["against"] == "acknowledged" and m.frame["negative_control"][0] is not None
    assert m.figure().data[0].x and "giveaway against acknowledged" in m.figure().layout.title.text and str(m.frame["n"].max()) in m.figure().to_json().replace(",", "")
    assert m.people == [min(e, n - e) for n, e in m.frame.select("n", "exposed").rows()] and max(m.people) < m.frame["n"].max()
    small = m.suppressed(10_000)
    assert small.frame["estimate"].null_count() == small.frame.height and not small.figure().data


def test_the_first_dose_is_the_effect(town):
    m, one = dose_response(town, doses=2, horizon="30d"), effect(town, horizon="30d")
    columns = ["estimand", "estimate", "low", "high", "n", "events"]
    assert m.frame.filter(dose=1, method="trials").select(columns).equals(one.frame.filter(method="trials").select(columns))
    assert m.frame["dose"].unique().to_list() == [1, 2] and {n.split(":")[0] for n in m.notes if n.startswith("dose")} == {"dose 1", "dose 2"} and len(m.figure().data[0].x) == 6
    assert m.detail["dose"].unique().to_list() == [1, 2] and m.detail.filter(dose=1).drop("dose").equals(one.detail) and {"placebo_exposure"} < set(m.frame["method"])
    shams = [t.filter(method="placebo_exposure").select("estimate", "low", "high").row(0) for t in (m.frame.filter(dose=1), one.frame)]
    assert shams[0] == shams[1]


def test_a_dose_that_too_few_had_is_told_and_bad_questions_are_named(town, tmp_path):
    m = dose_response(town, doses=20, horizon="30d")
    assert m.frame["dose"].max() < 20 and f"dose {m.frame['dose'].max() + 1} has no answer: " in m.notes[-1]
    for call in (lambda: contrast(town, "luck"), lambda: contrast(town, against="giveaway"), lambda: contrast(town, outcome="posts"), lambda: contrast(town, horizon="soon"), lambda: dose_response(town, doses=0),
                 lambda: dose_response(town, doses=True), lambda: dose_response(town, outcome="posts"), lambda: dose_response(town, every="x"), lambda: contrast(town, brand="nobody")):
        with pytest.raises(InvalidParameter): call()
    lab = loaded(tmp_path / "twcs.csv", [(1, "101", True, 5, "@Acme hello", None), (2, "Acme", False, 9, "hi", 1)])
    for call in (lambda: contrast(lab), lambda: dose_response(lab), lambda: contrast(tl.Lab()), lambda: dose_response(tl.Lab())):
        with pytest.raises(NotIdentifiable): call()
    lab.close()


@pytest.mark.parametrize("outcome", RESULTS)
@pytest.mark.parametrize("pair", [("giveaway", "acknowledged"), ("redirected", "canned"), ("promotion", "acknowledged"), ("reaction", "acknowledged")])
def test_every_contrast_is_answered_or_refused_in_words(town, pair, outcome):
    try: m = contrast(town, *pair, outcome=outcome, horizon="30d")
    except NotIdentifiable as error: assert any(c.isdigit() for c in str(error))
    else: assert m.frame["low"].le(m.frame["estimate"]).all() and m.notes[0].startswith("Verdict: ")


def sent_away(path, people=500, seed=5):
    "By a coin an answer sends people to another channel or helps; a problem is solved at .004 a day without an answer, .01 after the one and .03 after the other"
    rng, rows = np.random.default_rng(seed), []
    for person in range(people):
        at, who, call = rng.uniform(0, 60), str(1000 + person), len(rows) + 1
        rows.append([at, who, "@Acme my parcel is late", None])
        solved = at + rng.exponential(1 / 0.004)
        then, away = at + rng.uniform(0.1, 2), rng.random() < 0.5
        if rng.random() < 0.8 and solved > then:
            rows.append([then, "Acme", "Please send us a DM with your order number." if away else "I'm sorry the parcel is late, Ann. I have asked the depot to look for it today.", call])
            solved = then + rng.exponential(1 / (0.01 if away else 0.03))
        if solved < 150: rows.append([solved, who, "@Acme it works now, thank you!", None])
        rows += [[d, who, "what a day", None] for d in rng.uniform(at, 150, rng.poisson(3))]
    rows.append([200, "Acme", "bye", None])
    start = datetime(2024, 1, 1, tzinfo=timezone.utc)
    oracle.write([{"id": str(i), "author": a, "inbound": a.isdigit(), "at": start + timedelta(days=float(d)), "parent": "" if p is None else str(p), "text": text} for i, (d, a, text, p) in enumerate(rows, 1)], path)


def test_sending_people_away_and_whether_their_problem_is_solved(tmp_path):
    "Redirect and resolution: better than no answer, and a third as good as help"
    sent_away(tmp_path / "away.csv")
    with tl.Lab() as lab:
        lab.load(tmp_path / "away.csv", progress=False)
        against, alone = contrast(lab, "taken_offline", "canned", "resolved", horizon="60d"), effect(lab, exposure="taken_offline", outcome="resolved", horizon="60d")
    ratio = lambda m, method: m.frame.filter(method=method, estimand="hazard_ratio").row(0, named=True)
    third, more = ratio(against, "contrast"), ratio(alone, "trials")
    assert third["low"] < 1 / 3 < third["high"] < 0.7 and third["n"] > 350 and more["low"] < 2.5 < more["high"] and more["low"] > 1.5
    for m in (against, alone): assert (sham := ratio(m, "placebo_exposure"))["low"] < 1 < sham["high"]
    assert alone.params["exposure"] == "redirected" and "resolved" in alone.figure().layout.title.text
