"""Shares that carry the error of a rule: by hand, and on real posts with reference labels (made by a language model with a codebook: references, not human gold)."""
import math

import numpy as np
import polars as pl
import pytest

import trustlab as tl
from test_signals import BARS, script
from trustlab import known_error
from trustlab.core import InvalidParameter, NotIdentifiable
from trustlab.known_error import corrected_share, matthews
from trustlab.signals import ACTS, classify


def test_every_act_has_its_row_and_says_what_cannot_be_said():
    rows = known_error.known_error()
    assert rows.filter(pl.col("sample") == "plain").select("side", "act").rows() == [(side, act) for side in ("brand", "customer") for act in ACTS[side]]
    for row in rows.iter_rows(named=True):
        told = row["sample"] == "plain" and row["positives"] >= 10
        assert (row["recall"] is not None) == (row["f1"] is not None) == told == (row["said"] == "")
        assert row["precision"] is None or row["precision_low"] <= row["precision"] <= row["precision_high"]
    advocacy = rows.filter(pl.col("act") == "advocacy")
    assert advocacy["recall"].null_count() == 2 and "too rare to score" in advocacy["said"].to_list()
    assert set(known_error.known_error("brand")["side"]) == {"brand"}
    with pytest.raises(InvalidParameter, match="side must be"): known_error.known_error("firm")


def test_matthews_is_the_correlation():
    y, p = np.repeat([1, 1, 0, 0], [7, 3, 5, 20]), np.concatenate([np.ones(7), np.zeros(3), np.ones(5), np.zeros(20)])
    assert np.isclose(matthews(7, 5, 3, 20), np.corrcoef(y, p)[0, 1]) and np.isnan(matthews(0, 0, 3, 7))


def lang_reiczigel(k, n, tp, fp, fn, tn, z=1.959963984540054):
    "The interval, written from the paper's formulas for single numbers"
    n_se, n_sp = tp + fn, tn + fp
    se, sp, q = (tp + 1) / (n_se + 2), (tn + 1) / (n_sp + 2), (k + z * z / 2) / (n + z * z)
    p = min(max((q + sp - 1) / (se + sp - 1), 0), 1)
    shift = 2 * z * z * (p * se * (1 - se) / n_se - (1 - p) * sp * (1 - sp) / n_sp)
    error = math.sqrt(q * (1 - q) / (n + z * z) + p * p * se * (1 - se) / n_se + (1 - p) ** 2 * sp * (1 - sp) / n_sp) / (se + sp - 1)
    return max(p + shift - z * error, 0), min(p + shift + z * error, 1)


@pytest.mark.parametrize("case", [(30, 100, 40, 10, 10, 90), (0, 50, 20, 1, 5, 74), (50, 50, 20, 1, 5, 74), (7, 210, 3, 0, 2, 92)])
def test_the_interval_by_hand(case):
    k, n, tp, fp, fn, tn = case
    got = corrected_share(k, n, tp=tp, fp=fp, fn=fn, tn=tn)
    assert np.allclose((got["low"], got["high"]), lang_reiczigel(*case)) and got["share"] == k / n
    se, sp = tp / (tp + fn), tn / (tn + fp)
    assert np.isclose(got["corrected"], min(max((k / n + sp - 1) / (se + sp - 1), 0), 1))


def test_the_corrected_share_holds_the_labelled_share(shared):
    "The rules' error is from the half that was held back; the posts are those of the other half, and all of them"
    for name, (side, sample) in script.SAMPLES.items():
        if sample != "plain": continue
        rows = script.labelled(shared, name)
        for some in (rows, [r for r in rows if not script.held_back(r["post"])]):
            found = classify([r["text"] for r in some], side)
            for act in (a for s, a in BARS if s == side):
                ends = corrected_share(int(found[act].sum()), len(some), act, side)
                labelled = sum(r[act] == "1" for r in some) / len(some)
                assert ends["low"] <= labelled <= ends["high"], (act, labelled, ends)
                assert ends["high"] - ends["low"] < 0.55, f"{act}: an interval that says nothing"


@pytest.mark.parametrize("wrong,match", [(lambda: corrected_share(1, 2), "act must be given"), (lambda: corrected_share(1, 2, "apology", tp=1, fp=1, fn=1, tn=1), "act must be given"), (lambda: corrected_share(1, 2, "thanks"), "side must be named"),
                                         (lambda: corrected_share(1, 2, "apology", "customer"), "side must be"), (lambda: corrected_share(3, 2, "apology"), "k and n"), (lambda: corrected_share(1, 2, tp=-1, fp=0, fn=3, tn=4), "k and n"),
                                         (lambda: corrected_share(1, 2, "sorry"), "act must be one of"), (lambda: corrected_share(1, 2, "apology", level=95), "level must")])
def test_wrong_arguments(wrong, match):
    with pytest.raises(InvalidParameter, match=match): wrong()


def test_no_units_and_no_skill_give_no_interval():
    assert all(math.isnan(v) for v in corrected_share(0, 0, "apology").values())
    blind = corrected_share([2, 5], 10, tp=10, fp=50, fn=10, tn=50)
    assert blind["low"].tolist() == [0, 0] and blind["high"].tolist() == [1, 1] and np.isnan(blind["corrected"]).all()


# ---- labels in a store

def replies(n=600, seed=4):
    "Texts of which the rule finds some, and whether each is truly an apology: 30 % are, half of them in words that the rule does not know"
    rng = np.random.default_rng(seed)
    truth, known = rng.random(n) < 0.3, rng.random(n) < 0.5
    texts = np.where(truth & known, "So sorry about the lamp", np.where(truth, "Our mistake entirely, the lamp was packed badly", np.where(rng.random(n) < 0.1, "Sorry to say no, the lamp is not for sale", "The lamp is on its way")))
    return [f"x:{i:04}" for i in range(n)], texts.tolist(), truth.tolist()


def store(texts, keys, path=":memory:"):
    lab = tl.Lab(path)
    with lab.lent(pl.DataFrame({"post_key": keys, "text": texts})) as file:
        lab.con.execute("insert into post (post_key, kind, author_key, created_at, text) select post_key, 'post', 'x:acme', timestamp '2024-05-01 10:00:00', text from read_parquet(?)", [file])
    lab.con.execute("insert into role values ('x:acme', 'brand', 'acme', null, null, 'declared')")
    return lab


def test_labels_are_proposed_where_they_help_and_kept(tmp_path):
    keys, texts, truth = replies()
    true = dict(zip(keys, truth))
    with store(texts, keys, tmp_path / "s.duckdb") as lab:
        before = lab.share("apology").row(0, named=True)
        assert before["basis"] == "known error" and before["found"] == sum("orry" in t for t in texts) and before["n"] == 600
        first = lab.label("apology", 40)
        assert first.columns == ["post_key", "score", "found", "text"] and first.height == first["post_key"].n_unique() == 40 and first.equals(lab.label("apology", 40))
        assert 5 <= first["found"].sum() <= 35 and first["text"].to_list() == [dict(zip(keys, texts))[k] for k in first["post_key"]]
        lab.label("apology", labels=first.select("post_key", label=pl.col("post_key").replace_strict(true)))
        second = lab.label("apology", 60)
        assert not set(first["post_key"]) & set(second["post_key"])
        after = lab.label("apology", labels={k: int(true[k]) for k in second["post_key"]}).row(0, named=True)
        assert after["basis"] == "labels" and after["labelled"] == 100 and after["low"] <= np.mean(truth) <= after["high"]
        wrong = next(k for k in second["post_key"] if true[k])
        lab.label("apology", labels={wrong: False})
        assert lab.sql("select score from signal where basis = 'label' and post_key = $k", k=wrong)["score"].to_list() == [0.0]
        assert lab.sql("select count(*) as n from signal where basis = 'label'")["n"][0] == 100
        assert lab.signals("apology").filter(pl.col("post_key") == wrong)["present"].to_list() == [False], "a person's word wins"
        lab.con.execute("update signal set model = 'old' where basis = 'rule'")
        lab.signals()
        assert lab.share("apology")["labelled"][0] == 100, "labels stay when posts are read again"
    with tl.Lab(tmp_path / "s.duckdb", read_only=True) as lab:
        assert lab.share("apology")["labelled"][0] == 100 and lab.label("apology", 5).height == 5
        with pytest.raises(InvalidParameter, match="reading only"): lab.label("apology", labels={keys[0]: True})


def test_all_labelled_is_certain():
    keys, texts, truth = replies(60)
    with store(texts, keys) as lab:
        row = lab.label("apology", labels=dict(zip(keys, truth))).row(0, named=True)
        assert row["low"] == row["corrected"] == row["high"] == pytest.approx(np.mean(truth)) and lab.label("apology", 10).is_empty()


@pytest.mark.parametrize("labels", [{}, {"x:0001": 2}, {"x:0001": None}, {"x:0001": "yes"}, {"nobody": True}, pl.DataFrame({"post_key": ["x:0001", "x:0001"], "label": [1, 0]}), pl.DataFrame({"key": ["x:0001"]}), [("x:0001", True)]], ids=range(8))
def test_labels_that_are_none_are_refused(labels):
    keys, texts, _ = replies(20)
    with store(texts, keys) as lab:
        with pytest.raises(InvalidParameter, match="labels"): lab.label("apology", labels=labels)
        assert lab.sql("select count(*) as n from signal where basis = 'label'")["n"][0] == 0


def test_a_store_that_cannot_say():
    with tl.Lab() as lab:
        assert lab.label("apology").is_empty() and lab.share("apology").select("n", "corrected", "low").row(0) == (0, None, None)
        for n in (0, -1, 2.5, True):
            with pytest.raises(InvalidParameter, match="n must be"): lab.label("apology", n)
        with pytest.raises(InvalidParameter, match="side must be named"): lab.share("thanks")
    with store([None] * 3, ["x:1", "x:2", "x:3"]) as lab, pytest.raises(NotIdentifiable): lab.share("apology")
