"""Learned models: planted truth, labels that mean nothing, a second reading in plain Python, privacy of what is kept, and what bench/learned.py wrote.

TRUSTLAB_LONG=1 runs the shuffles with their full number of repetitions."""
import hashlib
import importlib.util
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

import trustlab as tl
from test_signals import ODD, script
from trustlab import learned, signals
from trustlab.core import InvalidParameter, NotIdentifiable
from trustlab.learned import alike, better, chances, compared, cross_fitted, cues, looked, probability, used, vocabulary
from trustlab.signals import ACTS, SIDES, classified, model, rules_folder

LONG = bool(os.environ.get("TRUSTLAB_LONG"))
FILLER = "lamp kettle parcel rug window corner garden letter table morning colour driver stone button ladder ticket".split()


def town(n=400, seed=1, share=0.4):
    "Customers' posts: a complaint in `share` of them, of which half say it in a word that no rule knows; each by another person"
    rng = np.random.default_rng(seed)
    truth, new = rng.random(n) < share, rng.random(n) < 0.6
    start = np.where(truth & new, "it got zonked,", np.where(truth, "it is broken,", "it arrived,"))
    return pl.DataFrame({"post_key": [f"x:{i:04}" for i in range(n)], "author_key": [f"x:a{i:04}" for i in range(n)], "text": [f"@acme {s} {' '.join(rng.choice(FILLER, 4))}" for s in start], "truth": truth})


def store(posts, path=":memory:"):
    lab = tl.Lab(path)
    with lab.lent(posts) as file:
        lab.con.execute("insert into post (post_key, platform, kind, author_key, created_at, text) select post_key, 'x', 'post', author_key, timestamp '2024-05-01 10:00:00', text from read_parquet(?)", [file])
        lab.con.execute("insert into account (account_key, platform, handle, display_name) select distinct author_key, 'x', 'h' || author_key[4:], 'Zed' from read_parquet(?)", [file])
    return lab


def labelled(posts, n=120, path=":memory:"):
    "A store in which `n` proposed posts are labelled with the truth"
    lab, truth = store(posts, path), dict(posts.select("post_key", "truth").rows())
    lab.label("complaint", labels={key: truth[key] for key in lab.label("complaint", n)["post_key"]})
    return lab


# ---- what it learns

def test_planted_truth_is_found():
    posts = town()
    with labelled(posts) as lab:
        asked = set(lab.sql("select post_key from signal where basis = 'label'")["post_key"])
        lab.con.execute("insert into post (post_key, platform, kind, author_key, created_at, text) values ('y:es', 'x', 'post', 'x:es', timestamp '2024-05-01', 'mi pedido no ha llegado y nadie responde')")
        lab.label("complaint", labels={"y:es": True})
        measure = lab.learn("complaint")
        rule, model_row = measure.frame.rows(named=True)
        assert measure.notes[-1] == "left out: 1 labels of posts in another language, or without words"
        assert measure.frame.columns[:5] == ["act", "side", "found_by", "n", "positives"] and measure.frame["adopted"].to_list() == [False, True]
        assert rule["f1"] < 0.7 and model_row["f1"] > 0.95 and rule["n"] == 120
        for row in (rule, model_row):
            for name in ("precision", "recall", "f1", "mcc"): assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        rest = posts.filter(~pl.col("post_key").is_in(list(asked))).join(lab.signals("complaint"), on="post_key")
        assert rest.height == 280 and (rest["present"] == rest["truth"]).mean() > 0.97
        words = lab.learned().filter(kind="word").sort("weight", descending=True)["feature"].to_list()
        assert {"zonked", "got zonked"} & set(words[:4]) and lab.learned().equals(measure.detail)
        assert measure.figure().data and "takes the rule's place" in measure.notes[0] and json.dumps(measure.to_dict())
        by_hand = sum(1 for key, there in lab.signals("complaint").select("post_key", "present").rows() if there)
        assert lab.unlearn("complaint") and not lab.unlearn("complaint") and lab.learned().is_empty()
        assert lab.signals("complaint")["present"].sum() < by_hand and lab.sql("select count(*) as n from signal where basis = 'model'")["n"][0] == 0


def test_a_rule_that_is_right_stays():
    posts = town().with_columns(truth=pl.col("text").str.contains("broken"))
    with labelled(posts) as lab:
        measure = lab.learn("complaint")
        assert not measure.frame["adopted"].any() and measure.frame["f1"][0] > 0.95 and "the rule stays" in measure.notes[0] and lab.learned().is_empty()


def test_a_model_that_is_no_longer_better_goes():
    posts = town()
    with labelled(posts) as lab:
        lab.learn("complaint")
        compare = lab.learn("complaint", adopt=False)
        assert lab.learned().height and not compare.frame["adopted"].any() and "as asked" in compare.notes[0]
        lab.label("complaint", labels={key: "broken" in text for key, text in lab.sql("select post_key, text from post join (select post_key from signal where basis = 'label') using (post_key)").rows()})
        assert not lab.learn("complaint").frame["adopted"].any() and lab.learned().is_empty() and lab.sql("select count(*) as n from signal where basis = 'model'")["n"][0] == 0


def test_better_asks_for_all_three():
    gains = lambda f1, mcc: {"gain": {"f1": f1, "mcc": mcc}}
    assert better(gains((0.02, 0.001, 0.1), (0.1, 0.001, 0.2)))
    for f1, mcc in (((0.019, 0.001, 0.1), (0.1, 0.001, 0.2)), ((0.02, 0.0, 0.1), (0.1, 0.001, 0.2)), ((0.02, 0.001, 0.1), (0.1, 0.0, 0.2))): assert not better(gains(f1, mcc))


def shuffles(times, seed=0):
    "How often a model of labels that mean nothing is adopted; the rule finds at random too, more or less often"
    rng, adopted = np.random.default_rng(seed), 0
    for i in range(times):
        n, share = 90, (0.3, 0.5, 0.75)[i % 3]
        x = (rng.random((n, 40)) < 0.25).astype(float)
        y, rule, stratum = rng.permutation(np.arange(n) < n * share), rng.random(n) < (0.2, 0.5)[i % 2], rng.integers(0, 2, n)
        found = cross_fitted(x, y, np.arange(n), i) >= 0.5
        counts = np.zeros((2, 8), int)
        np.add.at(counts, (stratum, 4 * y + 2 * rule + found), 1)
        adopted += better(compared(np.array([900.0, 100.0]), counts, i))
    return adopted / times


def test_labels_that_mean_nothing_are_not_adopted():
    assert shuffles(300 if LONG else 50) <= 0.1


def test_the_same_text_is_never_on_both_sides():
    "Labels that hang on which text it is can be known only from the same text; with the folds apart nothing can be known"
    rng = np.random.default_rng(2)
    words = [" ".join(rng.choice(FILLER, 5)) for _ in range(40)]
    posts = looked(pl.DataFrame({"text": [f"Hi {'Ann Ben Cem Dot'.split()[i % 4]}, {words[i // 4]} (ref {i})" for i in range(160)], "person": [f"x:{i}" for i in range(160)], "post_key": [f"x:{i}" for i in range(160)]}), "brand").collect()
    y = np.repeat(rng.random(40) < 0.5, 4)
    group = alike(posts, "brand")
    assert len(set(group.tolist())) == 40
    x = used(posts["_words"], posts["person"])[2]
    apart, together = ((cross_fitted(x, y, g, 0) >= 0.5) == y for g in (group, np.arange(160)))
    assert apart.mean() < 0.7 < together.mean()


def test_posts_of_one_customer_stay_together():
    posts = looked(pl.DataFrame({"text": ["a lamp", "a rug", "a lamp", "a chair", "a bed"], "person": ["ann", "ann", "ben", "", ""], "post_key": list("12345")}), "customer").collect()
    assert len(set(alike(posts, "customer")[:3].tolist())) == 1 and len(set(alike(posts, "customer").tolist())) == 3 and len(set(alike(posts, "brand").tolist())) == 4


# ---- the comparison

def test_compared_by_a_second_route():
    rng = np.random.default_rng(4)
    stratum, y, rule, found = rng.integers(0, 3, 200), rng.random(200) < 0.4, rng.random(200) < 0.3, rng.random(200) < 0.5
    posts, counts = np.array([900.0, 60.0, 40.0]), np.zeros((3, 8), int)
    for s, a, b, c in zip(stratum, y, rule, found): counts[s, 4 * a + 2 * b + c] += 1
    told = compared(posts, counts)
    weight = np.array([posts[s] / (stratum == s).sum() for s in stratum])
    for who, hit in (("rule", rule), ("model", found)):
        tp, fp, fn, tn = ((weight * mask).sum() for mask in (y & hit, ~y & hit, y & ~hit, ~y & ~hit))
        expected = {"precision": tp / (tp + fp), "recall": tp / (tp + fn), "f1": 2 * tp / (2 * tp + fp + fn), "mcc": (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))}
        assert all(np.isclose(told[who][name][0], value) for name, value in expected.items())
    for name in ("precision", "f1", "mcc"): assert np.isclose(told["gain"][name][0], told["model"][name][0] - told["rule"][name][0])
    nothing = compared(np.array([100.0]), np.array([[50, 0, 10, 0, 20, 0, 10, 0]]))["model"]
    assert nothing["f1"][0] == nothing["precision"][0] == nothing["mcc"][0] == 0


def test_a_stratum_that_nobody_labelled_forbids():
    "The rule finds none of the labelled complaints, the model all; but of the posts that the rule finds one was labelled (as none), then two"
    posts = town()
    truth = dict(posts.select("post_key", "truth").rows())
    with store(posts) as lab:
        scored = lab.signals("complaint")
        missed, found = scored.filter(pl.col("score") < 0.5)["post_key"].to_list()[:100], scored.filter(pl.col("score") >= 0.5)["post_key"].to_list()
        lab.label("complaint", labels={key: truth[key] for key in missed} | {found[0]: False})
        table = learned.strata(lab, "complaint", "customer")
        assert table["labelled"].to_list() == [100, 1]
        measure = lab.learn("complaint")
        assert f"{len(found):,} posts lie in a stratum" in measure.notes[0] and not measure.frame["adopted"].any() and measure.frame["f1"][1] - measure.frame["f1"][0] > 0.3
        lab.label("complaint", labels={found[1]: False})
        assert lab.learn("complaint").frame["adopted"].any()


# ---- numbers and nothing else

def by_hand(text_row, kept):
    "The chance of one text by the kept model, in plain Python"
    said, words = text_row["_said"], text_row["_words"].split()
    hit = {f"{act}: {cue['cue']}": bool(re.search(cue["pattern"], said, re.ASCII)) for act, several in signals.rules(kept["side"]).items() for cue in several}
    if kept["side"] == "brand":
        own = text_row["_own"] - text_row["_name"]
        hit |= {"personal: a name": bool(text_row["_name"])} | {f"personal: {n} or more own words": own >= n for n in (1, 2, 4)}
    grams = set(words) | {f"{a} {b}" for a, b in zip(words, words[1:])}
    points = kept["intercept"] + sum(w for name, w in kept["cues"].items() if hit[name]) + sum(w for word, w in kept["words"].items() if word in grams)
    return 1 / (1 + math.exp(-points))


@pytest.mark.parametrize("side", SIDES)
def test_the_score_is_the_sum_that_the_file_says(side, shared):
    rng = np.random.default_rng(3)
    texts = [t for t in ODD if t] + [r["text"] for name in script.SAMPLES for r in script.labelled(shared, name)[::3]] + ["not not working working not", "a 'quoted' don't 'tis o'clock ' x", "can't www.a.com/b @c d1 #e f_g h/i"]
    frame = looked(pl.DataFrame({"text": texts}), side).collect()
    words = used(frame["_words"], pl.Series([str(i) for i in range(len(texts))]))[1]
    kept = {"side": side, "intercept": -0.3, "cues": {name: float(rng.normal()) for name in cues(side)}, "words": {w: float(rng.normal()) for w in words}}
    assert len(words) > 100 and any(" " in w for w in words)
    got = chances(frame.select("text"), kept).to_list()
    assert np.allclose(got, [by_hand(row, kept) for row in frame.iter_rows(named=True)], atol=1e-6)


@settings(max_examples=25)
@given(st.lists(st.one_of(st.none(), st.text(alphabet="ab'c @#1/.:)\n\x00Ä", max_size=30)), min_size=1, max_size=6))
def test_any_text_has_words_between_blanks(texts):
    frame = looked(pl.DataFrame({"text": texts}, schema={"text": pl.String}), "customer").collect()
    for text, words in zip(texts, frame["_words"]):
        if text is None: assert words is None
        else: assert re.fullmatch(r" (?:[a-z]+(?:'+[a-z]+)*'* )*", words) and "' " not in words and " '" not in words
    kept = {"side": "customer", "intercept": 0.0, "cues": {}, "words": {"a": 1.0, "a b": -2.0}}
    for text, got, row in zip(texts, chances(pl.DataFrame({"text": texts}, schema={"text": pl.String}), kept), frame.iter_rows(named=True)):
        assert (got is None) == (text is None) and (text is None or abs(got - by_hand(row, kept)) < 1e-6)


def test_used_counts_people():
    words = pl.Series([" a b ", " a b a ", " a ", " b a ", " a b ", " a b ", " c "])
    person = pl.Series(["p", "q", "r", "s", "p", "t", "u"])
    people, names, hits = used(words, person)
    assert dict(zip(names, people.tolist())) == {"a": 5, "b": 4} and hits.sum(axis=0).tolist() == [6, 5]
    assert used(pl.Series([" ", " a "]), pl.Series(["p", "q"]))[1] == []


def test_a_second_process_gives_the_same_scores(tmp_path):
    posts, path = town(), tmp_path / "s.duckdb"
    with labelled(posts, path=path) as lab:
        lab.learn("complaint")
        here, kept = lab.signals("complaint"), lab.sql("select value from meta where key = 'learned:customer:complaint'")["value"][0]
        assert lab.sql("select count(*) as n from signal where basis = 'model'")["n"][0] == 400
        lab.con.execute("delete from signal where basis = 'model'")
    code = f"import trustlab as tl\nfrom trustlab import learned\nwith tl.Lab({str(path)!r}) as lab: print(lab.signals('complaint').write_json())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(there) == here.to_dicts()
    data = json.loads(kept)
    assert data["version"] == 1 and data["rules"] == model("customer") and set(data) == {"version", "name", "side", "act", "rules", "labels", "positives", "strength", "intercept", "cues", "words"}
    assert all(isinstance(w, float) for part in ("cues", "words") for w in data[part].values()) and len(data["words"]) <= learned.WORDS


def test_nothing_is_pickled(root):
    for path in [*(root / "trustlab").glob("**/*.py"), root / "bench" / "learned.py"]: assert not re.search(r"\b(?:pickle|joblib|dill|cloudpickle|marshal)\b", path.read_text(encoding="utf-8")), path.name
    assert {p.suffix for p in rules_folder().iterdir()} <= {".toml", ".json", ".txt"}


def test_the_order_of_rows_and_the_run_change_nothing():
    posts = town()
    results = []
    for some in (posts, posts.reverse(), posts):
        with labelled(some) as lab:
            measure = lab.learn("complaint")
            results.append((measure.frame.to_dicts(), lab.sql("select value from meta where key like 'learned:%'")["value"].to_list(), sorted(lab.signals("complaint").rows())))
    assert results[0] == results[1] == results[2]
    with labelled(posts) as lab: assert lab.learn("complaint", seed=5).frame.to_dicts() != results[0][0]


# ---- what may be kept of people

def test_the_vocabulary_tells_on_nobody():
    rng = np.random.default_rng(8)
    parts = ["@acme zonked again says @kimjones", "write to kim@mail.org or 0800123456", "thanks Kim, ok", "order AB12CD is late", "quibbles", "sesame opens", "hollyhock called", "www.kim.example/path #kimtag"]
    texts = [f"{parts[i % 8]} {' '.join(rng.choice(FILLER, 3))}" for i in range(160)]
    person = [f"x:{i % 4}" if i % 8 == 4 else f"x:{i}" for i in range(160)]
    posts = looked(pl.DataFrame({"text": texts, "person": person, "post_key": [f"x:{i}" for i in range(160)]}), "customer").collect()
    with tl.Lab() as lab:
        lab.con.execute("insert into account (account_key, platform, handle, display_name) values ('x:1', 'x', 'Sesame', null), ('x:2', 'x', 'h2', 'Hollyhock Sorry'), ('x:3', 'x', null, 'Thanks Late')")
        kept = vocabulary(lab, posts)
    single = {part for word in kept for part in word.split()}
    assert {"zonked", "zonked again", "order", "says", "thanks", "called", "opens"} <= set(kept)
    assert not single & {"kimjones", "kim", "mail", "org", "quibbles", "sesame", "hollyhock", "kimtag", "example", "acme", "cd", "www", "path"}, "a handle, address, number, name, or a word of fewer than five people"
    assert not any(re.search(r"[^a-z' ]", word) for word in kept) and "late" not in single, "a display name"
    assert len(kept) <= learned.WORDS


def test_four_people_are_too_few_however_often():
    texts = ["the zonked lamp"] * 40
    for people, kept in ((4, []), (5, ["lamp", "the", "the zonked", "zonked", "zonked lamp"])):
        posts = looked(pl.DataFrame({"text": texts, "person": [f"x:{i % people}" for i in range(40)], "post_key": [f"x:{i}" for i in range(40)]}), "customer").collect()
        with tl.Lab() as lab: assert vocabulary(lab, posts) == kept


def test_the_most_used_words_stay(monkeypatch):
    monkeypatch.setattr(learned, "WORDS", 3)
    posts = looked(pl.DataFrame({"text": ["aa bb cc dd"] * 9 + ["cc dd"] * 3, "person": [f"x:{i}" for i in range(12)], "post_key": [f"x:{i}" for i in range(12)]}), "customer").collect()
    with tl.Lab() as lab: assert vocabulary(lab, posts) == ["cc", "cc dd", "dd"]


def test_who_a_reply_is_for_counts_as_its_person():
    "One brand writes all: words are kept that five people or more were told, and a word for four is not"
    with tl.Lab() as lab:
        rows = [(f"x:q{i}", f"x:p{i}", None, "@acme hello", None) for i in range(60)]
        rows += [(f"x:r{i}", "x:acme", f"x:q{i}" if i % 2 else None, f"we {'goofed' if i % 3 else 'shipped'} the {FILLER[i % 16]} {FILLER[i % 7]}" + (" crumpet" if i < 4 else " muffin" if i < 9 else ""), None if i % 2 else f"x:p{i}") for i in range(60)]
        for row in rows: lab.con.execute("insert into post (post_key, platform, kind, author_key, reply_to_key, text, reply_to_account, created_at) values (?, 'x', 'post', ?, ?, ?, ?, timestamp '2024-05-01')", row)
        lab.con.execute("insert into role values ('x:acme', 'brand', 'acme', null, null, 'declared')")
        lab.label("apology", labels={f"x:r{i}": i % 3 > 0 for i in range(60)})
        measure = lab.learn("apology", adopt=False)
        words = set(measure.detail.filter(kind="word")["feature"])
        assert {"goofed", "muffin"} <= words and "crumpet" not in words
        lab.con.execute("update post set reply_to_key = null, reply_to_account = null where author_key = 'x:acme'")
        alone = lab.learn("apology", adopt=False)
        assert alone.detail.filter(kind="word").is_empty() and "none is used with 5 people" in alone.notes[-1]


def test_nothing_of_a_forgotten_person_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("TRUSTLAB_KEY", "ab" * 32)
    path = tmp_path / "s.duckdb"
    posts = town().with_columns(text=pl.when(pl.col("post_key") == "x:0007").then(pl.lit("@acme it got zonked, quirkleberry secretword")).otherwise("text"))
    with labelled(posts, path=path) as lab:
        lab.label("complaint", labels={"x:0007": True})
        lab.learn("complaint")
        lab.signals("complaint")
        assert lab.forget("x:a0007") == 1
        assert lab.sql("select count(*) as n from signal where post_key = 'x:0007'")["n"][0] == 0 and lab.signals("complaint").height == 399
        again = lab.learn("complaint")
        assert again.frame["n"][0] < 125 and not set(again.detail["feature"]) & {"quirkleberry", "secretword"}
    data = path.read_bytes()
    assert b"quirkleberry" not in data and b"secretword" not in data and b"a0007" not in data


# ---- in a store

def test_a_label_wins_over_the_model_and_the_model_over_the_rule():
    posts = town()
    with labelled(posts) as lab:
        before = lab.share("complaint"), lab.sql("select * from signal_now order by all"), lab.label("complaint", 7)
        lab.learn("complaint")
        kept = dict(lab.sql("select post_key, score from signal where basis = 'model'").rows())
        said = dict(lab.sql("select post_key, score from signal where basis = 'label'").rows())
        assert len(kept) == 400 and dict(lab.signals("complaint").select("post_key", "score").rows()) == {**kept, **said}
        now = lab.share("complaint"), lab.sql("select * from signal_now order by all"), lab.label("complaint", 7)
        assert all(a.equals(b) for a, b in zip(before, now)), "shares, and what measures read, are those of the rules"
        assert lab.signals("praise").height == 400, "other acts are the rules' still"


def test_new_and_changed_posts_are_read_as_they_come(monkeypatch):
    posts = town()
    monkeypatch.setattr(learned, "PORTION", 7)
    with labelled(posts) as lab:
        lab.learn("complaint")
        insert = "insert into post (post_key, platform, kind, author_key, created_at, text) values (?, 'x', 'post', ?, timestamp '2024-05-01', ?)"
        for i, text in enumerate(["oh it got zonked, lamp", "it arrived, lamp", "mi pedido no ha llegado y nadie responde", None, "zonked " * 150_000, "\x00\x1b" * 500 + "it got zonked,", "😡"]): lab.con.execute(insert, [f"y:{i}", f"x:b{i}", text])
        now = {key: present for key, present in lab.signals("complaint").select("post_key", "present").rows() if key.startswith("y:")}
        assert (now["y:0"], now["y:1"], now["y:2"], now["y:3"], now["y:5"]) == (True, False, None, None, True) and now["y:4"] is not None
        lab.con.execute("update post set text = 'it arrived, rug' where post_key = 'y:0'; delete from signal where post_key = 'y:0'")
        assert lab.signals("complaint").filter(post_key="y:0")["present"].to_list() == [False]
        lab.con.execute("insert into role values ('x:b5', 'staff', 'acme', null, null, 'declared')")
        assert lab.signals("complaint").filter(post_key="y:5").is_empty() and lab.sql("select count(*) as n from signal where post_key = 'y:5' and basis = 'model'")["n"][0] == 0
        whole = lab.signals("complaint")
        lab.con.execute("update signal set model = 'customer-old' where basis = 'rule' and model like 'customer%'; delete from signal where basis = 'model' and post_key < 'x:0100'")
        assert lab.signals("complaint").equals(whole), "read again by rules and model"
        assert lab.sql("select count(*) as n, count(distinct post_key) as posts from signal where basis = 'model'").row(0) == (404, 404)


def test_a_model_of_other_rules_rests():
    with labelled(town()) as lab:
        lab.learn("complaint")
        by_rule = lab.sql("select count(*) as n from signal where act = 'complaint' and basis = 'rule' and score >= 0.5")["n"][0]
        lab.con.execute("update meta set value = replace(value, $rules, 'customer-1-00000000') where key like 'learned:%'", {"rules": model("customer")})
        lab.con.execute("update signal set model = 'customer-1-00000000' where basis = 'rule'")
        assert lab.learned().is_empty() and lab.signals("complaint").filter("present").height > 0
        assert lab.sql("select count(*) as n from signal where basis = 'model'")["n"][0] == 0 and by_rule > 0
        assert lab.learn("complaint").frame["adopted"].any() and lab.learned().height


def test_a_store_for_reading_only(tmp_path):
    path = tmp_path / "s.duckdb"
    with labelled(town(), path=path) as lab:
        lab.learn("complaint")
        lab.con.execute("insert into post (post_key, platform, kind, author_key, created_at, text) values ('y:1', 'x', 'post', 'x:new', timestamp '2024-05-01', 'oh it got zonked, lamp')")
        adopted = lab.learn("complaint", adopt=False).frame.drop("adopted")
        lab.con.execute("delete from signal where post_key = 'y:1'")
    print_of = hashlib.sha256(path.read_bytes()).hexdigest()
    with tl.Lab(path, read_only=True) as lab:
        assert lab.signals("complaint").filter(post_key="y:1")["present"].to_list() == [True]
        assert lab.signals("complaint").equals(lab.signals("complaint")) and lab.learned().height > 5
        assert lab.learn("complaint", adopt=False).frame.drop("adopted").equals(adopted)
        for wrong in (lambda: lab.learn("complaint"), lambda: lab.unlearn("complaint")):
            with pytest.raises(InvalidParameter, match="reading only"): wrong()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == print_of


def test_two_models_and_both_sides():
    "A model of `thanks` of customers says nothing about replies"
    posts = town().with_columns(text=pl.col("text").str.replace("it got zonked,", "much gramercy to you,"), truth=pl.col("text").str.contains("zonked"))
    with store(posts) as lab:
        lab.con.execute("insert into post (post_key, platform, kind, author_key, created_at, text) values ('x:r', 'x', 'post', 'x:acme', timestamp '2024-05-01', 'much gramercy to you, thanks')")
        lab.con.execute("insert into role values ('x:acme', 'brand', 'acme', null, null, 'declared')")
        truth = dict(posts.select("post_key", "truth").rows())
        lab.label("thanks", labels={key: truth[key] for key in lab.label("thanks", 100, side="customer")["post_key"]}, side="customer")
        assert lab.learn("thanks", "customer").frame["adopted"].any()
        assert lab.sql("select count(*) as n from signal where basis = 'model' and post_key = 'x:r'")["n"][0] == 0 and not lab.unlearn("thanks", "brand") and set(lab.learned()["side"]) == {"customer"}
        with pytest.raises(NotIdentifiable, match="there are 0 labels, with 0 and 0"): lab.learn("thanks", "brand")


def test_an_interrupted_adoption_leaves_the_old_state(monkeypatch):
    with labelled(town()) as lab:
        before = lab.sql("select * from signal order by all"), lab.sql("select * from meta order by all")
        monkeypatch.setattr(learned, "chances", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError): lab.learn("complaint")
        assert lab.sql("select * from signal order by all").equals(before[0]) and lab.sql("select * from meta order by all").equals(before[1])


# ---- refusals

def test_too_few_labels_are_refused():
    posts = town()
    truth = dict(posts.select("post_key", "truth").rows())
    with store(posts) as lab:
        with pytest.raises(NotIdentifiable, match="takes 50 labels.*there are 0 labels, with 0 and 0"): lab.learn("complaint")
        yes, no = ([key for key in truth if truth[key] == kind] for kind in (True, False))
        lab.label("complaint", labels={key: truth[key] for key in yes[:20] + no[:29]})
        with pytest.raises(NotIdentifiable, match="there are 49 labels, with 20 and 29"): lab.learn("complaint")
        lab.label("complaint", labels={key: truth[key] for key in no[29:31]})
        assert lab.learn("complaint", adopt=False).frame["n"][0] == 51
        lab.con.execute("update signal set score = 0 where basis = 'label' and post_key in (select unnest($keys))", {"keys": yes[9:]})
        with pytest.raises(NotIdentifiable, match="with 9 and 42"): lab.learn("complaint")
    same = posts.with_columns(text=pl.when("truth").then(pl.lit("it got zonked, lamp")).otherwise("text"))
    with labelled(same) as lab, pytest.raises(NotIdentifiable, match="with 1 and"): lab.learn("complaint")
    with store(posts.with_columns(text=pl.lit(None, pl.String))) as lab, pytest.raises(NotIdentifiable, match="no post in this store has text"): lab.learn("complaint")


@pytest.mark.parametrize("arguments,match", [(("complaints",), "act must be one of"), (("thanks",), "side must be named"), (("not_english",), "act must be one of"), (("complaint", "brand"), "side must be"), (("complaint", None, True, -1), "seed"), (("complaint", None, True, 1.5), "seed"), (("complaint", None, True, True), "seed"), (("complaint", None, True, 2**32), "seed")])
def test_wrong_arguments(arguments, match):
    with tl.Lab() as lab, pytest.raises(InvalidParameter, match=match): lab.learn(*arguments)


# ---- what the project ships

def bench(root):
    "bench/learned.py as a module"
    spec = importlib.util.spec_from_file_location("learned_script", root / "bench" / "learned.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counts(): return json.loads((rules_folder() / "cue_counts.json").read_text(encoding="utf-8"))


def test_counts_hold_no_text_and_no_id():
    for row in counts()["counts"]:
        assert set(row) == {"side", "act", "sample", "cues", "points", "n", "yes"} and 0 <= row["yes"] <= row["n"] and set(row["cues"]) <= set(cues(row["side"])) and row["act"] in ACTS[row["side"]]
    assert counts()["models"] == learned.shipped()["models"] == {side: model(side) for side in SIDES}, "run bench/learned.py again: the rules have changed"


def test_counts_are_those_of_the_labels(root, shared):
    module = bench(root)
    assert module.tables(module.counted(shared)) == counts()["counts"]
    for name, (side, sample) in script.SAMPLES.items():
        rows = script.labelled(shared, name)
        found = signals.classify([r["text"] for r in rows], side)
        for act in (a for a in ACTS[side] if a != "not_english"):
            mine = [r for r in counts()["counts"] if (r["side"], r["act"], r["sample"]) == (side, act, sample)]
            read = found[act].is_not_null()
            assert sum(r["n"] for r in mine) == read.sum() and sum(r["yes"] for r in mine if r["points"] >= 2) == sum(1 for r, p in zip(rows, found[act]) if p and r[act] == "1")


def test_curves_come_from_the_counts(root):
    module = bench(root)
    made = [row for side in ("brand", "customer") for act in ACTS[side] if act != "not_english" and (row := module.calibrated(counts()["counts"], side, act))]
    for ours, kept in zip(made, learned.shipped()["chance"], strict=True):
        assert (ours["side"], ours["act"], ours["n"], ours["positives"]) == (kept["side"], kept["act"], kept["n"], kept["positives"])
        assert np.allclose([ours[k] for k in ("intercept", "slope", "brier_chance")], [kept[k] for k in ("intercept", "slope", "brier_chance")], atol=2e-3)
    for kept in learned.shipped()["chance"]:
        _, points, y, plain = module.posts(counts()["counts"], kept["side"], kept["act"])
        assert abs(probability(kept["act"], kept["side"], points[plain]).mean() - y[plain].mean()) < 0.02, "the mean chance is the share"


def test_no_learned_weights_are_shipped_because_none_did_better():
    rows = learned.tried()
    assert rows["kind"].unique().sort().to_list() == ["all", "own", "points"] and {"corrective_action", "personal", "canned", "praise", "complaint", "question"} <= set(rows["act"])
    assert rows.filter((pl.col("gain") >= 0.02) & (pl.col("gain_low") > 0)).is_empty() and set(learned.shipped()) == {"models", "tried", "chance"}
    assert ((rows["gain_low"] <= rows["gain"]) & (rows["gain"] <= rows["gain_high"])).all()


def test_a_trial_comes_out_again(root):
    "One act, from the counts alone"
    module = bench(root)
    x, points, y, plain = module.posts(counts()["counts"], "brand", "empathy")
    kept = learned.tried().filter(act="empathy", kind="points").row(0, named=True)
    again = module.tried(points.clip(*module.NEAR)[:, None].astype(float), points >= 2, y, plain)
    assert all(abs(again[name] - kept[name]) < 0.01 for name in again) and y.sum() == kept["positives"] and (x.sum(axis=1) >= (points > 0)).all()


def test_chances():
    assert isinstance(probability("apology", None, 2), float) and probability("complaint", "customer", [0, 1, 2]).shape == (3,)
    row = next(r for r in learned.shipped()["chance"] if r["act"] == "complaint")
    assert np.isclose(probability("complaint", None, 1), 1 / (1 + math.exp(-row["intercept"] - row["slope"]))) and probability("complaint", None, -7) == probability("complaint", None, 0)
    assert math.isnan(probability("advocacy", None, 2)) and np.isnan(probability("recommends_competitor", None, [1, 2])).all()
    for wrong, match in ((lambda: probability("thanks", None, 1), "side must be named"), (lambda: probability("sorry", None, 1), "act must be"), (lambda: probability("apology", None, "many"), "points must be"), (lambda: probability("apology", None, None), "points must be")):
        with pytest.raises(InvalidParameter, match=match): wrong()


def test_classified_is_quick_without_models():
    with store(town(30)) as lab:
        classified(lab)
        assert lab.learned().is_empty() and lab.learned().columns == ["side", "act", "kind", "feature", "weight"]
