"""Signals against reference labels of real posts (made by a language model with a codebook: references, not human gold), against a second reading of the rules in plain Python, and in stores."""
import csv
import hashlib
import importlib.util
import re
import time
import tomllib
from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

import trustlab as tl
from test_oracles_measures import tweets
from trustlab import signals
from trustlab.core import InvalidParameter, NotIdentifiable
from trustlab.signals import ACTS, SIDES, classify

ROOT = signals.rules_folder().parent.parent
spec = importlib.util.spec_from_file_location("known_error_script", ROOT / "bench" / "known_error.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

SOURCES = {"twcs": "twcs-first-rows-pandas/twcs.csv", "spotify": "twcs-spotify-requests/support_requests.csv"}
BARS = {("brand", "apology"): ("f1", 0.90), ("brand", "thanks"): ("f1", 0.90), ("brand", "taken_offline"): ("f1", 0.85), ("customer", "thanks"): ("f1", 0.85), ("customer", "complaint"): ("f1", 0.80),
        ("customer", "question"): ("f1", 0.75), ("brand", "asks_details"): ("f1", 0.75), ("customer", "praise"): ("f1", 0.55), ("brand", "corrective_action"): ("f1", 0.55), ("brand", "personal"): ("mcc", 0.5), ("brand", "canned"): ("mcc", 0.5)}


# ---- against the labels

def f1(c): return 2 * c["tp"] / max(2 * c["tp"] + c["fp"] + c["fn"], 1)


def mcc(c):
    below = ((c["tp"] + c["fp"]) * (c["tp"] + c["fn"]) * (c["tn"] + c["fp"]) * (c["tn"] + c["fn"])) ** 0.5
    return (c["tp"] * c["tn"] - c["fp"] * c["fn"]) / below if below else 0.0


def test_acts_are_the_columns_of_the_labels(shared):
    for name, (side, _) in script.SAMPLES.items():
        with (shared / "labels" / name).open(newline="") as file: header = next(csv.reader(file))
        assert [c for c in header if c not in ("tweet_id", "source", "id", "stratum", "weight")] == ACTS[side]


def test_bars_on_labels_that_were_not_used_for_building(shared, capsys):
    tables = {held: {(r["side"], r["act"], r["sample"]): r for r in script.counts(shared, held)} for held in (False, True)}
    with capsys.disabled():
        print("\nside act sample: built on (n with the act, F1, MCC) | held back")
        for key, seen in tables[False].items():
            cells = [f"{c['tp'] + c['fn']:3d} {c['tp']}/{c['tp'] + c['fp']} right, F1 {f1(c):.2f}, MCC {mcc(c):.2f}" for c in (seen, tables[True][key])]
            print(f"  {' '.join(key)}: {cells[0]} | {cells[1]}")
    for (side, act), (kind, bar) in BARS.items():
        held = tables[True][side, act, "plain"]
        assert {"f1": f1, "mcc": mcc}[kind](held) >= bar, (side, act, held)
    enriched = [tables[held]["customer", "advocacy", "enriched"] for held in (False, True)]
    assert sum(c["tp"] for c in enriched) >= 5 and all(c["fp"] <= c["tp"] for c in enriched)


def test_what_the_package_says_of_its_error_is_what_the_labels_say(shared):
    from trustlab.known_error import checked
    assert checked()["counts"] == script.counts(shared)
    assert checked()["models"] == {side: signals.model(side) for side in SIDES}, "the rules changed: run bench/known_error.py again"


def test_advocacy_among_all_texts(shared):
    "Few of 20,096 support posts advocate; every labelled one that is found is right"
    found = {}
    for source, path in SOURCES.items():
        with tl.Lab() as lab:
            lab.load(shared / path)
            found[source] = {key.removeprefix("twcs:") for key in lab.sql(signals.acts_query())["post_key"]}
    labels = [r for r in csv.DictReader((shared / "labels" / "customer_enriched_dev.csv").open(newline="", encoding="utf-8")) if r["source"] in SOURCES]
    hits = [r for r in labels if r["id"] in found[r["source"]]]
    assert "1847241" in found["spotify"] and 5 < sum(map(len, found.values())) < 40
    assert len(hits) >= 4 and all(r["advocacy"] == "1" for r in hits)


def test_advocacy_in_the_half_that_was_not_read(shared):
    "The page Known error says that these were read with the codebook, and that each recommends or defends; a rule that finds others has to be read again"
    from trustlab.known_error import checked
    told = script.audit(shared)
    labelled = {row["post"][:8] for name in script.SAMPLES for row in script.labelled(shared, name)}
    assert checked()["audits"][0] == told and 10_600 < told["texts"] < 10_800 and told["found"] == told["right"] == len(script.READ) == 7
    assert not {name.split()[1] for name in script.READ} & labelled


def test_answers_to_other_customers_that_were_read_again(shared):
    "Thirteen answers were found and read; two of them help. A rule that finds others has to be read again"
    from trustlab.known_error import checked
    told = script.audit_helping(shared)
    assert checked()["audits"][1:] == [told] and (told["found"], told["right"]) == (13, 2)


# ---- the rules, read a second time in plain Python

ODD = ["", " ", "\n", "\x00", "\x00\x1bthanks\x7f", "@acme", "@acme @b.c: thanks", "THANKS", "thank’s & “thanks” …", "İstanbul thanks", "K thanks", "😡😡 why", "a" * 5000 + " thanks", "? ? ?", "👍", "thanks\u200d\ufe0f", "ﬁx it please",
       "https://t.co/thanks", "x@thanks.org", "I would recommend @Acme", "I'd highly recommend [person] to anyone [link]", "@[person] don’t recommend", "thanks " * 1000, "\U0001f468\u200d\U0001f469\u200d\U0001f467 great", "'; drop table post; --", "\\b(?:thanks)"]


def fold(text):
    "The folded text, character by character rules in Python"
    spelt = sorted(signals.SPELT, key=len, reverse=True)
    text = re.sub("|".join(map(re.escape, spelt)), lambda m: signals.SPELT[m[0]], text[:4000].lower())
    text = re.sub(r"https?://[^ \n]+", " url ", text)
    text = re.sub(r" {2,}", " ", re.sub(r"[^\x20-\x7e]+", " ", text))
    return re.sub(r"^(?: *[.\"]?@[a-z0-9_]+)+[ :]*", "", text, count=1).strip()


def by_hand(text, side):
    "The acts of a text, from the table of rules as it lies in the file"
    acts = tomllib.loads((ROOT / "nbs" / "signals" / f"{side}.toml").read_text(encoding="utf-8"))
    said, found = fold(text), set()
    for act, cues in acts.items():
        hit = lambda cue: any(re.search(rf"\b(?:{w})\b", said, re.ASCII) for w in cue.get("words", [])) or any(re.search(p, said, re.ASCII) for p in cue.get("patterns", []))
        if sum(cue["points"] for cue in cues if hit(cue)) >= 2: found.add(act)
    return found


@pytest.mark.parametrize("side", SIDES)
def test_classify_is_the_table_of_rules(side, shared):
    every = [r["text"] for r in tweets(shared / SOURCES["twcs"]) if r["inbound"] == (side == "customer")]
    texts = ODD + every[::41]
    frame = classify(texts, side)
    assert frame.columns == ACTS[side] and frame.height == len(texts) and set(frame.dtypes) == {pl.Boolean}
    first, ruled = frame[ACTS[side][0]], [a for a in ACTS[side] if a not in ("personal", "canned", "not_english")]
    wrong = [(text, {a for a in ruled if row[a]} ^ by_hand(text, side)) for text, row, known in zip(texts, frame.iter_rows(named=True), first) if known is not None and {a for a in ruled if row[a]} != by_hand(text, side)]
    assert not wrong and first.null_count() < 0.2 * len(texts)


RECOMMENDS = ["I can vouch for @Acme", "@Acme Can vouch for you guys, ordered ten times", "@jane I'd happily vouch for them", "@Acme I will gladly vouch for your team!", "Been with them for years. Can definitely vouch for this company",
              "We can personally vouch for @Acme, 10 years no trouble"]
DEFENDS = ["Don't listen to the haters, @Acme fixed mine in an hour", "I disagree, @Acme has been nothing but good to me", "@jane @Acme I disagree with you, they have always been great to us", "@jane I respectfully disagree. @Acme refunded me within a day",
           "@Acme ignore the haters, you're doing great", "@Acme Don’t mind the trolls, I love them", "@bob I beg to differ, I've never had a problem with them", "@bob That's not my experience, they've been very helpful and quick",
           "Ignore the negative reviews, mine works perfectly", "@Acme has been brilliant to me, don't listen to the trolls", "Stop bashing @Acme, it was the courier", "Quit hating on them", "In defence of @Acme, the weather was awful",
           "@jane I have to defend @Acme here: it was the airport", "Do not believe the bad reviews! This app is amazing"]
NEAR_VOUCHING = ["I can't vouch for @Acme", "@Acme I cannot vouch for you any more", "Would you vouch for me?", "@Acme can someone vouch for this app?", "Can anyone vouch for @Acme?", "I wish I could vouch for @Acme", "I used to vouch for @Acme",
                 "I would never vouch for them", "I can vouch for how bad @Acme is", "I can vouch for @Acme's terrible service", "I can vouch for this, they did the same to me", "I can vouch for @jane, she paid on time", "@Acme please vouch for my account",
                 "I vouched for you and you let me down", "my voucher for @Acme does not work", "If you fix it I will vouch for you", "We vouch for nothing you do"]
NEAR_DEFENDING = ["I disagree", "I disagree with @Acme", "I disagree that @Acme is great", "@Acme I disagree with your decision, you have been good to me", "@Acme has been nothing but trouble", "I disagree, @Acme has been nothing but trouble",
                  "@Acme I disagree. You were great once", "I disagree, @Acme was good to me until they charged me twice", "I disagree, @Acme has been good to me but this is theft", "@Acme I disagree. I love you guys but this is wrong",
                  "@Acme I disagree. I never had a problem before the update", "@Acme I disagree with this. I love this app, please change it back", "@Acme I disagree. You have always been fair to me and I want my refund",
                  "@Acme I disagree, they were good to me once, now they are the worst", "@Acme I disagree, you are the best at hiding fees", "We disagree, @Acme is good at taking money", "@Acme I beg to differ, my parcel is not here",
                  "@Acme that is not my experience at all, still waiting", "Don't listen to the haters", "Don't listen to @Acme", "Don't listen to them, @Acme never fixed mine", "Don't believe @Acme, they are not good", "@Acme you don't listen to your customers",
                  "@Acme don't mind the delay, they are great, thanks", "@Acme do you even mind the haters?", "Ignore the bad reviews and you lose customers, @Acme", "@Acme why do you ignore the negative reviews?", "@Acme isn't fixed, don't ignore the complainers",
                  "@Acme has been great to me", "@Acme fixed mine in an hour, thanks", "@Acme how can you defend them?", "I can't defend @Acme any more", "I used to defend @Acme", "@Acme stop blaming them for your delays"]


@pytest.mark.parametrize("text", RECOMMENDS + DEFENDS)
def test_vouching_and_siding_with_the_firm_are_advocacy(text): assert classify([text])["advocacy"].to_list() == [True] and "advocacy" in by_hand(text, "customer")


@pytest.mark.parametrize("text", NEAR_VOUCHING + NEAR_DEFENDING)
def test_what_only_sounds_like_it_is_none(text): assert classify([text])["advocacy"].to_list() == [False] and "advocacy" not in by_hand(text, "customer")


def test_neither_a_good_word_nor_a_contradiction_is_enough():
    for text in ("@Acme fixed mine in an hour", "Don't listen to the haters"): assert 0.2 < classify([text], scores=True)["advocacy"].item() < 0.5


def test_engine_and_classify_agree_on_advocacy(shared):
    texts = ODD + RECOMMENDS + DEFENDS + NEAR_VOUCHING + NEAR_DEFENDING + [t for t in (r["text"] for source in SOURCES.values() for r in tweets(shared / source) if r["inbound"])]
    flagged = classify(texts)["advocacy"]
    with tl.Lab() as lab:
        with lab.lent(pl.DataFrame({"post_key": [f"x:{i}" for i in range(len(texts))], "text": texts})) as path:
            lab.con.execute("insert into post (post_key, kind, author_key, created_at, text) select post_key, 'post', 'x:ann', timestamp '2024-05-01', text from read_parquet(?)", [path])
        rows = lab.sql(signals.acts_query())
    found = {int(key.removeprefix("x:")) for key in rows["post_key"]}
    assert found == {i for i, yes in enumerate(flagged) if yes} and len(found) > 8 and rows["score"].min() >= 0.5
    assert {ODD.index("I would recommend @Acme"), ODD.index("I'd highly recommend [person] to anyone [link]")} <= found


@settings(max_examples=12)
@given(st.lists(st.one_of(st.none(), st.text(max_size=60)), max_size=8), st.sampled_from(SIDES))
def test_any_text_is_classified(texts, side):
    frame, scores = classify(texts, side), classify(texts, side, scores=True)
    assert frame.height == len(texts)
    for act in ACTS[side]: assert (scores[act] >= 0.5).to_list() == frame[act].to_list() and all(s is None or 0 <= s <= 1 for s in scores[act])
    for text, known in zip(texts, frame[ACTS[side][0]]): assert not (text is None or not text.strip()) or known is None
    parts = [classify([text], side) for text in texts]
    assert not texts or frame.equals(pl.concat(parts))


def test_long_and_hostile_texts_take_no_time():
    texts = ["why " * 300_000, "a" * 1_000_000, "can you " * 150_000, "\x00" * 1_000_000, "?!" * 500_000, "@a " * 300_000, "dm " * 400_000 + "x", ("we will " * 100 + "x" * 100) * 900, "(" * 1_000_000, "🙏" * 1_000_000]
    start = time.process_time()
    for side in SIDES: assert classify(texts, side).height == len(texts)
    assert time.process_time() - start < 10


def test_other_languages_are_unknown(shared):
    others = ["Ach schau an. Meine Bestellung war unzustellbar, was ist da denn passiert?", "no he recibido el pedido y nadie me responde", "Je n'ai pas reçu ma commande, vous pouvez m'aider ?", "Não consigo acessar minha conta, podem ajudar?",
              "アマゾンの注文が届きません", "का एकाउंट परमानेंटली डिलीट कैसे करते है", "لم يصل طلبي بعد", "Tolong bantu saya, pesanan tidak sampai", "Ordinato una settimana fa e non ho ricevuto niente, grazie per niente", "Waar blijft mijn pakket? Het is er nog steeds niet"]
    frame = classify(others)
    assert frame["not_english"].to_list() == [True] * len(others) and frame.drop("not_english").null_count().row(0) == (len(others),) * (len(ACTS["customer"]) - 1)
    rows = [r for name in ("customer_dev.csv", "customer_enriched_dev.csv") for r in script.labelled(shared, name)]
    said = classify([r["text"] for r in rows])["not_english"].to_list()
    labelled = [r["not_english"] == "1" for r in rows]
    assert sum(bool(a) and b for a, b in zip(said, labelled)) >= sum(labelled) - 1 and sum(bool(a) and not b for a, b in zip(said, labelled)) <= 2


@pytest.mark.parametrize("wrong", [lambda: classify(["a"], "staff"), lambda: classify("a"), lambda: classify([1]), lambda: classify(pl.Series([1.5])), lambda: classify(b"a"), lambda: classify([["a"]])])
def test_what_is_no_text_is_refused(wrong):
    with pytest.raises(InvalidParameter, match="side must be|texts must be"): wrong()


def test_columns_of_text_are_texts(): assert classify(pl.Series(["thanks", None]))["thanks"].to_list() == [True, None] and classify([]).columns == ACTS["customer"] and classify(("thanks",)).height == 1


# ---- in a store

def put(lab, rows, role=("x:acme", "brand", "acme")):
    for key, author, text in rows: lab.con.execute("insert into post (post_key, kind, author_key, created_at, text) values (?, 'post', ?, timestamp '2024-05-01 10:00:00', ?)", [key, author, text])
    lab.con.execute("insert into role values (?, ?, ?, null, null, 'declared')", role)


POSTS = [("x:1", "x:ann", "my parcel is late"), ("x:2", "x:acme", "@ann Sorry! Please DM us"), ("x:3", "x:ben", "gracias por nada, no funciona el envio"), ("x:4", "x:cem", None), ("x:5", None, "how does it work?")]


def test_a_store_says_what_classify_says():
    with tl.Lab() as lab:
        put(lab, POSTS)
        rows = lab.signals()
        for key, author, text in POSTS:
            side = "brand" if author == "x:acme" else "customer"
            mine = rows.filter(pl.col("post_key") == key)
            assert dict(zip(mine["act"], mine["present"])) == classify([text], side).row(0, named=True)
        assert rows.columns == ["post_key", "act", "score", "present"] and rows.equals(rows.sort("post_key", "act")) and rows["present"].to_list() == (rows["score"] >= 0.5).to_list()
        assert lab.signals("apology").rows() == [("x:2", "apology", pytest.approx(0.7311, abs=1e-4), True)]
        assert lab.signals(["apology", "complaint"])["act"].value_counts().sort("act").rows() == [("apology", 1), ("complaint", 4)]
        with pytest.raises(InvalidParameter, match="acts must be"): lab.signals("apologies")
        per_post = lab.sql("select post_key, count(*) filter (where act in ('read', 'unknown')) as marks, count(*) - count(distinct act) as twice from signal group by post_key")
        assert per_post.height == len(POSTS) and set(per_post["marks"]) == {1} and set(per_post["twice"]) == {0}


def test_only_what_is_new_is_read(monkeypatch):
    read = []
    monkeypatch.setattr(signals, "rows_of", lambda posts, side, real=signals.rows_of: read.append(posts["post_key"].to_list()) or real(posts, side))
    with tl.Lab() as lab:
        put(lab, POSTS)
        first = lab.signals()
        assert sorted(sum(read, [])) == [key for key, *_ in POSTS]
        read.clear()
        assert lab.signals().equals(first) and not read
        lab.con.execute("insert into post (post_key, kind, author_key, created_at, text) values ('x:6', 'post', 'x:dot', timestamp '2024-05-02', 'thank you')")
        assert lab.signals("thanks").filter("present")["post_key"].to_list() == ["x:6"] and read == [["x:6"]]
        read.clear()
        monkeypatch.setattr(signals, "model", lambda side: f"{side}-other")
        lab.signals()
        assert sorted(sum(read, [])) == [f"x:{i}" for i in range(1, 7)] and set(lab.sql("select distinct model from signal")["model"]) == {"brand-other", "customer-other"}


def test_portions_change_nothing(monkeypatch, shared):
    with tl.Lab() as lab:
        lab.load(shared / SOURCES["twcs"])
        whole = lab.signals()
        lab.con.execute("delete from signal")
        monkeypatch.setattr(signals, "PORTION", 701)
        assert lab.signals().equals(whole) and whole["post_key"].n_unique() == 5000


def test_a_changed_post_is_read_again(tmp_path):
    head = "tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id\n"
    row = "1,115712,True,Tue Oct 31 22:10:47 +0000 2017,@Acme {},,\n2,Acme,False,Tue Oct 31 22:20:47 +0000 2017,hello,,1\n"
    with tl.Lab() as lab:
        for i, text in enumerate(["thank you", "my parcel never arrived"]):
            (tmp_path / f"{i}.csv").write_text(head + row.format(text))
            lab.load(tmp_path / f"{i}.csv", exported_at=f"2024-01-0{i + 1}")
            rows = lab.signals().filter(pl.col("present") & (pl.col("post_key") == "twcs:1"))
            assert rows["act"].to_list() == [["thanks"], ["complaint"]][i]


def test_a_store_for_reading_only_is_left_as_it_is(tmp_path):
    path = tmp_path / "s.duckdb"
    with tl.Lab(path) as lab:
        put(lab, POSTS)
        expected = lab.signals()
        lab.con.execute("delete from signal where post_key in ('x:1', 'x:2')")
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with tl.Lab(path, read_only=True) as lab: assert lab.signals().equals(expected) and lab.signals().equals(expected)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_shares_partners_and_bots():
    with tl.Lab() as lab:
        put(lab, [("x:1", "x:bot", "Sorry! Please DM us"), ("x:2", "x:pal", "Sorry! Please DM us"), ("x:3", "x:ann", "Sorry! Please DM us")], ("x:bot", "bot", "acme"))
        lab.con.execute("insert into role values ('x:pal', 'partner', 'acme', null, null, 'declared')")
        lab.con.execute("insert into post (post_key, kind, author_key, created_at, text) values ('x:4', 'share', 'x:ann', timestamp '2024-05-01', 'RT thank you')")
        rows = lab.signals()
        assert rows.filter(pl.col("act") == "apology")["post_key"].to_list() == ["x:1"] and set(rows["post_key"]) == {"x:1", "x:3"}


def test_templates_are_counted_by_hand():
    "Sentences that a brand wrote under three posts or more; another brand's do not count"
    said = ["Hi Ann, quokkas guard the depot tonight. Ta", "Hi Ben! Quokkas guard the depot tonight.", "Quokkas guard the depot tonight! https://t.co/x ^JO", "Quokkas guard the depot tonight, and wombats the vans", "Wombats polish the vans on 12 May.", "Wombats polish the vans on 3 May."]
    with tl.Lab() as lab:
        put(lab, [(f"x:{i}", "x:acme", f"@{100 + i} {text}") for i, text in enumerate(said)])
        put(lab, [("x:9", "x:other", "@5 Wombats polish the vans on 4 May.")], ("x:other", "brand", "other"))
        assert lab.signals("canned").filter("present")["post_key"].to_list() == ["x:0", "x:1", "x:2"]
        put(lab, [("x:7", "x:acme", "@6 Wombats polish the vans on 30 May. -Kim")])
        assert lab.signals("canned").filter("present")["post_key"].to_list() == ["x:0", "x:1", "x:2", "x:4", "x:5", "x:7"]
        assert lab.sql("select count(*) as n from signal where act = 'canned' group by post_key having count(*) > 1").is_empty()


def test_a_pseudonymised_store_finds_nearly_the_same(town):
    with tl.Lab() as clear, tl.Lab() as lab:
        lab.pseudonymise("scrub")
        for store in (clear, lab):
            for name in ("twcs.csv", "slack.zip", "mastodon.tar.gz"): store.load(town / name)
            store.roles(town / "roles.csv")
        told = [Counter(store.signals().filter("present")["act"]) for store in (clear, lab)]
        assert told[0].total() > 1000 and all(abs(told[0][act] - told[1][act]) <= 0.05 * told[0][act] for act in told[0])


def test_a_store_without_words():
    with tl.Lab() as lab:
        put(lab, [(key, author, None) for key, author, _ in POSTS])
        with pytest.raises(NotIdentifiable, match="no post in this store has text"): lab.signals()
    with tl.Lab() as lab: assert lab.signals().is_empty()
