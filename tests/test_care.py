"""How answers are given: counted again in plain Python from the answers and the signals, by group and by what came next."""
import warnings
from collections import Counter, defaultdict

import polars as pl
import pytest

import trustlab as tl
from trustlab.care import OUTCOMES, after_care, care
from trustlab.core import InvalidParameter, NotIdentifiable, ScopeWarning
from trustlab.known_error import corrected_share
from trustlab.signals import ACTS

pytestmark = pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")


@pytest.fixture(scope="module")
def real(shared):
    with warnings.catch_warnings(), tl.Lab() as lab:
        warnings.simplefilter("ignore")
        lab.load(shared / "twcs-first-rows-pandas/twcs.csv")
        yield lab


@pytest.fixture(scope="module")
def facts(real):
    "Answers as (brand, reply, person, conversation, replied_at), and the acts present in each post that could be read, as plain Python"
    posts = {row["post_key"]: row for row in real.sql("select post_key, author_key, conversation_key, created_at, platform from post").to_dicts()}
    first = {}
    for row in real.sql("select post_key, brand, reply_key from answer").to_dicts():
        key, call = (row["brand"], row["reply_key"]), posts[row["post_key"]]
        if key not in first or call["created_at"] < first[key]["created_at"]: first[key] = call
    present, readable = defaultdict(set), set()
    for key, act, score, there in real.signals().rows():
        if score is not None and act != "not_english": readable.add(key)
        if there: present[key].add(act)
    return posts, first, present, readable


def test_shares_of_acts_are_those_counted_by_hand(real, facts):
    posts, first, present, readable = facts
    n, found = Counter(), Counter()
    for brand, reply in first:
        if reply not in readable: continue
        n[brand] += 1
        for act in present[reply] & set(ACTS["brand"]): found[brand, act] += 1
    frame = care(real, by="brand").frame
    assert len(n) > 10 and sum(n.values()) > 1000
    assert {(r["brand"], r["act"]): (r["n"], r["found"]) for r in frame.to_dicts()} == {(b, act): (n[b], found[b, act]) for b in n for act in ACTS["brand"]}
    whole = care(real).frame
    assert whole["act"].to_list() == list(ACTS["brand"]) and whole["n"].unique().to_list() == [sum(n.values())]
    for row in whole.to_dicts():
        assert row["found"] == sum(k for (_, act), k in found.items() if act == row["act"])
        truth = corrected_share(row["found"], row["n"], row["act"], "brand")
        assert (row["share"] is None and truth["corrected"] != truth["corrected"]) or (row["share"], row["share_low"], row["share_high"]) == tuple(float(truth[k]) for k in ("corrected", "low", "high"))
    assert whole.filter(pl.col("share").is_not_null()).select((pl.col("share_low") <= pl.col("share")) & (pl.col("share") <= pl.col("share_high"))).to_series().all()
    assert whole["share"].is_null().any() and whole["share"].is_not_null().sum() >= 6


def test_weeks_and_brands_add_up(real):
    whole, weeks = care(real).frame, care(real, by=("brand", "week")).frame
    assert weeks.group_by("act").agg(pl.col("found").sum(), pl.col("n").sum()).sort("act").equals(whole.select("act", "found", "n").sort("act"))
    assert weeks["week"].dt.weekday().unique().to_list() == [1]
    one = care(real, by="brand", brand="sprintcare").frame
    assert one["brand"].unique().to_list() == ["sprintcare"] and one.equals(care(real, by="brand").frame.filter(pl.col("brand") == "sprintcare"))


def test_what_came_next_is_what_a_reader_finds(real, facts):
    posts, first, present, readable = facts
    mine, last = defaultdict(list), {}
    for post in posts.values():
        if post["author_key"] is None: continue
        mine[post["author_key"], post["conversation_key"]].append(post)
        last[post["author_key"]] = max(post["created_at"], last.get(post["author_key"], post["created_at"]))
    n, came = Counter(), Counter()
    for (_, reply), call in first.items():
        if reply not in readable: continue
        at = posts[reply]["created_at"]
        later = sorted((p["created_at"], p["post_key"]) for p in mine[call["author_key"], call["conversation_key"]] if p["created_at"] > at)
        acts = present[later[0][1]] if later else set()
        outcome = "resolved" if "resolved" in acts else "thanked" if "thanks" in acts else "wrote_again" if later else "seen_elsewhere" if last[call["author_key"]] > at else "left"
        for act in [*(present[reply] & set(ACTS["brand"])), "any answer"]: n[act] += 1; came[act, outcome] += 1
    frame = after_care(real).frame
    assert dict(frame.select("act", "n").rows()) == {act: k for act, k in n.items()}
    for row in frame.to_dicts():
        for outcome in OUTCOMES:
            assert row[outcome] == pytest.approx(came[row["act"], outcome] / n[row["act"]], abs=1e-12) and row[f"{outcome}_low"] <= row[outcome] <= row[f"{outcome}_high"]
        assert sum(row[o] for o in OUTCOMES) == pytest.approx(1)
    assert len({came["any answer", o] > 0 for o in OUTCOMES}) == 1 and n["any answer"] > 1000


def test_a_persons_label_is_believed_before_the_rule(shared):
    with tl.Lab() as lab:
        lab.load(shared / "twcs-first-rows-pandas/twcs.csv")
        before = dict(care(lab).frame.select("act", "found").rows())["apology"]
        key = lab.sql("select s.post_key from signal s join answer a on a.reply_key = s.post_key where act = 'apology' and score >= 0.5 order by 1 limit 1").row(0)[0]
        lab.label("apology", labels={key: False})
        assert dict(care(lab).frame.select("act", "found").rows())["apology"] == before - 1


def test_it_says_what_it_cannot_tell(tmp_path, shared):
    with pytest.raises(NotIdentifiable, match="cannot be answered"): care(tl.Lab())
    with tl.Lab(tmp_path / "s.duckdb") as lab:
        lab.pseudonymise(text="drop")
        lab.load(shared / "twcs-first-rows-pandas/twcs.csv")
        with pytest.raises(NotIdentifiable, match="no text"): care(lab)
        with pytest.raises(NotIdentifiable, match="no text"): after_care(lab)


def test_wrong_arguments_are_named_and_the_scope_is_told(real):
    with pytest.raises(InvalidParameter, match="by"): care(real, by="container")
    with pytest.raises(InvalidParameter, match="sprintcare"): care(real, brand="sprintcar")
    with pytest.warns(ScopeWarning): care(real)


def test_charts_say_unit_and_n(real):
    for measure in (care(real), care(real, by="brand", brand=["sprintcare", "Ask_Spectrum"]), care(real, by="week"), after_care(real)):
        figure = measure.figure()
        assert "answers" in figure.layout.title.text and "n = " in figure.layout.title.text and figure.data
