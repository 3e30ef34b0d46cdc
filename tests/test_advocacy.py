"""Who speaks for a brand, what became of those it answered, and what effect that had: against a second count in plain Python, and on tables whose truth is known."""
import re
import warnings
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
import test_oracles_measures as oracle
from test_sources import member, workspace

import trustlab as tl
from trustlab import cohort, effects, journeys, posting
from trustlab.advocacy import occasioned, precision
from trustlab.core import InvalidParameter, Measure, NotIdentifiable
from trustlab.identity import pinned_per
from trustlab.intervals import jeffreys
from trustlab.person_time import FRAME
from trustlab.suppression import suppressed

pytestmark = pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")
DAY, HOUR = 86400, timedelta(hours=1)
BEGIN = datetime(2024, 1, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def folder(tmp_path_factory): return tmp_path_factory.mktemp("advocacy")


@pytest.fixture(scope="module")
def village(folder):
    lab, rows = oracle.loaded(oracle.many(11, 160), folder)
    with lab: yield lab, rows


@pytest.fixture(scope="module")
def townsfolk(town):
    with tl.Lab() as lab:
        lab.load(town / "twcs.csv")
        yield lab, oracle.tweets(town / "twcs.csv")


# ---- the rules in plain Python

def acts_in(lab, rows):
    "Per (author, brand) the acts of advocacy as (time, id, kind), from the calls to brands; which posts speak for a brand is taken from lab.signals, why from the text and the parent"
    by_id, voices, counts = {r["id"]: r for r in rows}, {r["author"] for r in rows if not r["inbound"]}, defaultdict(list)
    spoken = {key.removeprefix("twcs:") for key in lab.signals("advocacy").filter(pl.col("present"))["post_key"]}
    for c in oracle.addressed(rows):
        if c["id"] not in spoken or c["why"] == "by_brand": continue
        text, parent = by_id[c["id"]]["text"], by_id.get(by_id[c["id"]]["parent"])
        said = occasioned(pl.Series([text])).row(0, named=True)
        called_for = parent is not None and not parent["parent"] and parent["author"].lower() == c["brand"] and parent["author"] in voices
        counts[c["author"], c["brand"]].append((c["at"], c["id"], "incentivised" if said["incentivised"] else "prompted" if said["prompted"] or called_for else "unprompted"))
    return counts


def followed(lab, rows):
    "Per arm the (seconds, cause, ever in a later arm) of its people, by one walk over each person's calls"
    end, people = max(r["at"] for r in rows), defaultdict(list)
    replies, acts = defaultdict(list), acts_in(lab, rows)
    voices = {r["author"] for r in rows if not r["inbound"]}
    for r in rows:
        if r["author"] in voices and r["parent"]: replies[r["parent"]].append(r)
    present = {act: {k.removeprefix("twcs:") for k in lab.signals(act).filter(pl.col("present"))["post_key"]} for act in ("personal", "canned", "taken_offline")}
    for c in oracle.called(rows): people[c["author"], c["brand"]].append(c)
    arms = defaultdict(list)
    for key, calls in people.items():
        spoken = sorted(at for at, *_ in acts[key])
        def watch(arm, since, until):
            if any(at <= since for at in spoken): return
            hit = min((at for at in spoken if since < at <= until), default=None)
            arms[arm].append((((hit or until) - since).total_seconds(), int(hit is not None)))
        first = min((c["answered"] for c in calls if c["answered"]), default=None)
        watch("none", min(c["at"] for c in calls), first or end)
        if first is None: continue
        told = [r["id"] for c in calls if c["answered"] == first for r in replies[c["id"]] if r["at"] == first and r["author"].lower() == key[1]]
        kind = next((a for a, act in (("redirected", "taken_offline"), ("canned", "canned"), ("personal", "personal")) if set(told) & present[act]), "other")
        for arm in ("acknowledged", kind): watch(arm, first, end)
    return arms


# ---- conversion by arm

@pytest.mark.parametrize("where", ["village", "townsfolk"])
def test_every_arm_is_what_a_walk_over_people_says(where, request):
    lab, rows = request.getfixturevalue(where)
    spans = {"1h": 3600, "7d": 7 * DAY, "60d": 60 * DAY}
    arms, frame = followed(lab, rows), tl.conversion(lab, horizon=list(spans)).frame
    got = {row["arm"]: row for row in frame.iter_rows(named=True)}
    assert got.keys() == arms.keys() and len(arms) > 3, (got.keys(), arms.keys())
    for arm, times in arms.items():
        assert (got[arm]["n"], got[arm]["events"]) == (len(times), sum(hit for _, hit in times)), arm
        steps = oracle.kaplan_meier(times)
        for label, span in spans.items(): oracle.close(got[arm][f"conversion_{label}"], oracle.share_by(steps, span), 1e-9)
    kinds = [arm for arm in arms if arm in journeys.ARMS[1:5]]
    assert sum(got[arm]["n"] for arm in kinds) == got["acknowledged"]["n"] and sum(got[arm]["events"] for arm in kinds) == got["acknowledged"]["events"]
    plain = tl.conversion(lab, horizon=list(spans), arms=False).frame
    assert plain["arm"].to_list() == ["acknowledged", "none"] and plain.equals(frame.filter(pl.col("arm").is_in(["acknowledged", "none"])))


def made(folder, name, *rows):
    "A lab from (id, author, day, text, parent); brands are names, customers digits"
    path = folder / f"{name}.csv"
    oracle.write([{"id": str(i), "author": a, "inbound": a.isdigit(), "at": BEGIN + timedelta(days=d), "parent": str(p or ""), "text": text} for i, a, d, text, p in rows], path)
    lab = tl.Lab()
    lab.load(path, scope="both")
    return lab


LOVE = "I would recommend @Acme to anyone"


def test_strict_leaves_out_what_was_prompted_paid_or_said_while_being_helped(folder):
    calls = [(10 * k + 1, str(100 + k), 1, "@Acme it broke", None) for k in range(5)] + [(10 * k + 2, "Acme", 2, "sorry", 10 * k + 1) for k in range(5)]
    rows = [(9, "Acme", 3, "Tell us your story", None), (3, "100", 4, LOVE, 2), (13, "101", 6, LOVE, 12), (23, "102", 4, LOVE + " #ad", None), (33, "103", 4, LOVE, 9), (99, "Acme", 90, "bye", None)]
    with made(folder, "strict", *calls, *rows) as lab:
        row = tl.conversion(lab, horizon="30d", arms=False).frame.filter(pl.col("arm") == "acknowledged").row(0, named=True)
        assert (row["n"], row["events"]) == (5, 4) and abs(row["conversion_30d"] - 0.8) < 1e-12 and abs(row["strict_30d"] - 0.2) < 1e-12
        found = {r["kind"]: r["acts"] for r in tl.advocates(lab).frame.iter_rows(named=True)}
        assert found == {"unprompted": 2, "prompted": 1, "incentivised": 1, "helping": 0, "any": 4}


def test_a_reaction_starts_its_own_clock_and_leaving_competes(folder):
    rows = [(1, "101", 0, "@Acme hi", None), (2, "102", 0, "@Acme hi", None), (3, "103", 0, "@Acme hi", None), (4, "Acme", 20, "hi", 3), (5, "101", 9, LOVE, None), (6, "Acme", 50, "bye", None)]
    with made(folder, "reaction", *rows) as lab:
        react = "insert into interaction (kind, actor_key, post_key, occurred_at) values ('like', 'twcs:Acme', 'twcs:{}', timestamp '2024-01-0{} 00:00:00')"
        for post, day in ((1, 3), (3, 6)): lab.con.execute(react.format(post, day))
        lab.con.execute("insert into interaction (kind, actor_key, occurred_at) values ('leave', 'twcs:102', timestamp '2024-01-11 00:00:00')")
        got = {r["arm"]: r for r in tl.conversion(lab, horizon=("6d", "8d"), arms=False).frame.iter_rows(named=True)}
        assert (got["reaction"]["n"], got["reaction"]["events"]) == (2, 1) and got["reaction"]["conversion_6d"] == 0 and abs(got["reaction"]["conversion_8d"] - 0.5) < 1e-12
        with lab.pinned("inbound"): rows, _ = journeys.followed(lab, None, "account", False)
        ends = {(r["person"], r["arm"]): (r["seconds"] / DAY, r["cause"]) for r in rows.iter_rows(named=True)}
        assert ends["twcs:102", "none"] == (10, 2) and ends["twcs:103", "reaction"] == (15, 0) and ends["twcs:103", "none"] == (5, 0) and ends["twcs:101", "reaction"] == (7, 1)
        assert lab.sql("select count(*) as n from duckdb_tables() where temporary")["n"][0] == 0


def left_a_workspace(folder, name, back=False):
    "A lab of a workspace in which Sam answers for acme: one is answered and leaves, one leaves waiting, one recommends and leaves, one has left by a date before they wrote, one stays, one is answered when gone"
    hour, gone = 3600, lambda k, hours: member(k, deleted=True, updated=1709546400 + int(hours * 3600))
    said = [(f"U{k}", 60 * k, {}) for k in range(1, 7)] + [("S1", hour, {"thread_ts": f"{1709546400 + 60 * k}.000{k - 1:03}", "parent_user_id": f"U{k}"}) for k in (1, 3, 4, 5)]
    said += [("U3", 2 * hour, {"text": "I would recommend this to anyone"}), ("S1", 4 * hour, {"thread_ts": "1709546760.000005", "parent_user_id": "U6"}), ("S1", 9 * hour, {"text": "bye"})]
    users = [member("S1"), member("U1") | {"updated": 1709546400 + 5 * hour} if back else gone("U1", 3), gone("U2", 3), gone("U3", 3), gone("U4", -9), member("U5", updated=1709546400), gone("U6", 3)]
    lab = tl.Lab()
    lab.load(workspace(folder / f"{name}.zip", users, *said))
    lab.roles(pl.DataFrame({"account": ["s1"], "role": ["staff"], "brand": ["acme"]}))
    return lab


def test_who_left_a_workspace_ends_by_the_second_cause(folder):
    with left_a_workspace(folder, "left") as lab:
        with lab.pinned("inbound"):
            rows, _ = journeys.followed(lab, None, "account", False)
            table, _ = effects.people(lab, "acknowledged", "advocacy", None, "account")
        ends = {(r["person"][-2:], r["arm"]): (round(r["seconds"] / 60), r["cause"]) for r in rows.iter_rows(named=True)}
        assert {who: end for (who, arm), end in ends.items() if arm == "acknowledged"} == {"U1": (120, 2), "U3": (60, 1), "U4": (480, 0), "U5": (480, 0)}
        assert (ends["U2", "none"], ends["U6", "none"], ends["U1", "none"]) == ((178, 2), (174, 2), (59, 0))
        frame = tl.conversion(lab, horizon=("90m", "5h"), arms=False).frame.filter(pl.col("arm") == "acknowledged").row(0, named=True)
        assert (frame["n"], frame["events"], frame["conversion_5h"]) == (4, 1, 0.25)
        at = lambda h: datetime(2024, 3, 4, 10) + timedelta(hours=h)
        assert dict(table.select(pl.col("person").str.slice(6), "competing_at").rows()) == {"U1": at(3), "U2": at(3), "U3": at(3), "U4": None, "U5": None, "U6": at(3)}
        lab.load(folder / "left.zip", again=True)
        assert lab.forget("slack:U1") == 1 and lab.sql("select substr(actor_key, 7) as who from interaction where kind = 'leave' order by who")["who"].to_list() == ["U2", "U3", "U6"]


def test_who_came_back_to_a_workspace_is_followed_on(folder):
    with left_a_workspace(folder, "gone") as lab:
        with left_a_workspace(folder, "back", back=True) as other: assert other.sql("select 1 from interaction where actor_key = 'slack:U1' and kind in ('leave', 'active')").is_empty()
        lab.load(folder / "back.zip")
        with lab.pinned("inbound"): rows, _ = journeys.followed(lab, None, "account", False)
        assert [(round(r["seconds"] / 60), r["cause"]) for r in rows.iter_rows(named=True) if r["person"] == "slack:U1" and r["arm"] == "acknowledged"] == [(480, 0)]


def test_people_already_talking_when_sight_began_are_told(folder):
    with made(folder, "begun", (1, "101", 0, "@Acme and?", 77), (2, "Acme", 1, "hi", 1), (3, "102", 0, "@Acme hi", None), (4, "Acme", 2, "hi", 3), (5, "Acme", 60, "bye", None)) as lab:
        assert any(n.startswith("1 people were in conversation before the store's sight began") for n in tl.conversion(lab, arms=False).notes)


@pytest.mark.parametrize("outcome", ["advocacy", "helping", "posts"])
def test_joining_accounts_changes_nothing_per_account(outcome, folder):
    "Accounts that are joined are one person where that is asked for, and nowhere else"
    rows = [(1, "101", 0, "@Acme it broke", None), (2, "Acme", 1, "sorry", 1), (3, "102", 2, "@Acme how do I reset it?", None), (4, "103", 3, "@102 hold the button and wait", 3), (5, "102", 4, LOVE, None), (6, "103", 5, "@Acme and mine?", None),
            (7, "103", 6, LOVE, None), (8, "101", 7, "what a day", None), (9, "Acme", 90, "bye", None)]
    with made(folder, f"joined-{outcome}", *rows) as lab:
        lab.con.execute("insert into interaction (kind, actor_key, occurred_at) values ('leave', 'twcs:102', timestamp '2024-02-11 00:00:00')")
        def seen(per):
            with pinned_per(lab, "inbound", per): table, acts = cohort.people(lab, "acknowledged", outcome, None, per)
            return table, acts.sort(acts.columns), tl.advocates(lab, per=per).frame, tl.conversion(lab, arms=False, per=per).frame
        before = seen("account")
        lab.identify(pl.DataFrame({"account": ["twcs:102", "twcs:103"], "person": ["Bo", "Bo"]}))
        assert all(a.equals(b) for a, b in zip(before, seen("account"))) and before[0]["competing_at"].is_not_null().sum() == 1
        table, acts, *_ = seen("person")
        assert table.height == 2 and table["competing_at"].is_null().all() and acts.height == sum(a in ("101", "102", "103") for _, a, *_ in rows)
        lab.con.execute("insert into interaction (kind, actor_key, occurred_at) values ('leave', 'twcs:103', timestamp '2024-02-21 00:00:00')")
        assert [t.isoformat()[:10] for t in seen("person")[0]["competing_at"].drop_nulls()] == ["2024-02-21"]


def test_those_who_came_late_are_kept_apart_and_false_finds_are_allowed_for(folder):
    "Four call in the first month and three recommend; four call later and one does. Of six finds one is labelled as none and does not count, four as right ones, and of one it is not known"
    early, late = [(10 + k, str(100 + k), 2 * k, "@Acme it broke", None) for k in range(4)], [(20 + k, str(200 + k), 40 + k, "@Acme it broke", None) for k in range(4)]
    answers = [(50 + k, "Acme", day + 1, "sorry", i) for k, (i, _, day, *_) in enumerate([*early, *late])]
    with made(folder, "late", *early, *late, *answers, *((70 + k, str(100 + k), 20, LOVE, None) for k in range(3)), (80, "200", 60, LOVE, None), (81, "300", 70, LOVE, None), (82, "301", 71, LOVE, None), (99, "Acme", 120, "bye", None)) as lab:
        m = tl.conversion(lab, horizon="30d", by="entry", arms=False)
        got = {r["entry"]: r for r in m.frame.filter(pl.col("arm") == "acknowledged").iter_rows(named=True)}
        assert [(got[e]["n"], got[e]["conversion_30d"]) for e in ("first 30 days", "later")] == [(4, 0.75), (4, 0.25)]
        whole = tl.conversion(lab, horizon="30d", arms=False)
        row = whole.frame.filter(pl.col("arm") == "acknowledged").row(0, named=True)
        assert row["conversion_30d"] == 0.5 and any("4 of 8 acknowledged people first called within 30 days" in n and "of the 4 who came later, 25.0% (" in n for n in whole.notes)
        lab.label("advocacy", labels={f"twcs:{i}": i != 81 for i in (70, 71, 72, 80, 81)})
        row = tl.conversion(lab, horizon="30d", arms=False).frame.filter(pl.col("arm") == "acknowledged").row(0, named=True)
        low, high, basis = precision(lab)
        of_found = jeffreys(4, 5)
        assert basis == "5 labels of this store" and (low, high) == pytest.approx([(4 + end) / 5 for end in of_found]) and row["right_30d_low"] == pytest.approx(row["conversion_30d_low"] * low) and row["right_30d_high"] == pytest.approx(row["conversion_30d_high"] * high)


def test_hidden_kinds_of_answer_do_not_follow_from_their_sum(townsfolk):
    m = tl.conversion(townsfolk[0])
    small = {r["arm"]: k for r, k in zip(m.frame.iter_rows(named=True), m.people)}
    k = min(v for arm, v in small.items() if arm in journeys.ARMS[1:5]) + 1
    kept = suppressed(m, k).frame
    gone = kept.filter(pl.col("n").is_null())["arm"].to_list()
    assert len([arm for arm in gone if arm in journeys.ARMS[1:5]]) >= 2 or "acknowledged" in gone, gone
    assert set(suppressed(m, k).detail["arm"]).isdisjoint(gone)


# ---- advocates

@pytest.mark.parametrize("where", ["village", "townsfolk"])
def test_advocates_are_those_that_a_loop_counts(where, request):
    lab, rows = request.getfixturevalue(where)
    acts, voices = acts_in(lab, rows), {r["author"] for r in rows if not r["inbound"]}
    said = {s: {k.removeprefix("twcs:") for k in lab.signals(s).filter(pl.col("present"))["post_key"]} for s in ("complaint", "question", "hostile", "asks_human")}
    unknown = {k.removeprefix("twcs:") for k in lab.signals("question").filter(pl.col("present").is_null())["post_key"]}
    callers = defaultdict(set)
    for c in oracle.called(rows):
        callers[c["brand"]].add(c["author"])
        for r in rows:
            if r["parent"] == c["id"] and r["author"] not in voices and r["author"] != c["author"] and r["at"] >= c["at"] and r["id"] not in unknown and not any(r["id"] in s for s in said.values()) and c["id"] in said["complaint"] | said["question"]:
                acts[r["author"], c["brand"]].append((r["at"], r["id"], "helping"))
    want, people, first = Counter(), defaultdict(set), Counter()
    for (author, brand), found in acts.items():
        found = sorted(set(found), key=lambda a: (a[0], "twcs:" + a[1]))
        if found: first[found[0][2]] += 1
        for _, _, kind in found:
            want[kind] += 1
            people[kind].add((author, brand))
            callers[brand].add(author)
    got = {r["kind"]: r for r in tl.advocates(lab, by="brand").frame.group_by("kind").agg(pl.col("acts", "first_acts", "people", "callers").sum()).iter_rows(named=True)}
    for kind in ("unprompted", "prompted", "incentivised", "helping"): assert (got[kind]["acts"], got[kind]["people"]) == (want[kind], len(people[kind])), kind
    assert got["any"]["callers"] == sum(map(len, callers.values())) and want["helping"] > 5 and want["unprompted"] > 5
    assert got["any"]["first_acts"] == sum(first.values())


def test_precision_comes_from_the_store_when_it_was_labelled(folder):
    rows = [(k, str(100 + k), k, LOVE, None) for k in range(1, 9)] + [(50, "Acme", 60, "hi all", None), (51, "Acme", 9, "hi", 1)]
    with made(folder, "labelled", *rows) as lab:
        assert [n[:70] for n in tl.advocates(lab).notes[-2:]] == ["of what the rule finds 65% to 100% is advocacy, by 7 public posts that "[:70], "of the answers to other customers 4% to 42% help, by 13 public posts that "[:70]]
        assert "of 5 others that readers labelled as advocacy it finds 0 (0% to 43%)" in tl.advocates(lab).notes[-2]
        lab.label("advocacy", labels={f"twcs:{k}": k < 6 for k in range(1, 8)})
        m = tl.advocates(lab)
        row = m.frame.filter(pl.col("kind") == "unprompted").row(0, named=True)
        low, high = jeffreys(5, 7)
        assert row["acts"] == 6 and (row["acts_low"], row["acts_high"]) == pytest.approx((5 + low, 5 + high)) and "7 labels of this store" in m.notes[-2]
        assert abs(row["people_low"] - row["acts_low"]) < 1e-9


# ---- effect

def crowd(folder, name, n=400, hr=3.0, seed=3):
    "A file in which half of the callers are answered by a coin within a day, and an answer multiplies the hazard of recommending by `hr`"
    import numpy as np
    rng, rows = np.random.default_rng(seed), []
    for k in range(n):
        at, answered = rng.uniform(0, 60), rng.random() < 0.5
        reply = at + rng.uniform(0, 1) if answered else np.inf
        need, base = rng.exponential(), 0.004
        event = at + need / base if need < base * (reply - at) else reply + (need - base * (reply - at)) / (base * hr)
        rows.append((10 * k + 1, str(1000 + k), at, "@Acme it broke", None))
        if answered: rows.append((10 * k + 2, "Acme", reply, "sorry", 10 * k + 1))
        if event < 200: rows.append((10 * k + 3, str(1000 + k), event, LOVE, None))
        if rng.random() < 0.6: rows.append((10 * k + 4, str(1000 + k), at + rng.exponential(60), "what a day", None))
    return made(folder, name, *rows, (99999, "Acme", 200, "bye", None))


@pytest.fixture(scope="module")
def coin(folder):
    with crowd(folder, "coin") as lab: yield lab, tl.effect(lab, horizon=("30d", "90d"))


def row_of(m, method, estimand="hazard_ratio", **more):
    return m.frame.filter((pl.col("method") == method) & (pl.col("estimand") == estimand)).row(0, named=True)


def test_an_answer_by_a_coin_has_the_effect_that_was_put_in(coin):
    lab, m = coin
    assert m.frame["method"][0] == "trials" and {"risk_difference", "risk_ratio", "hazard_ratio"} == set(m.frame["estimand"])
    for method in ("trials", "time_varying"): assert row_of(m, method)["low"] < 3 < row_of(m, method)["high"], method
    placebo = row_of(m, "placebo_exposure")
    assert placebo["low"] < 1 < placebo["high"] and placebo["exposed"] > 50
    assert {"max_smd", "effective_n", "e_value", "negative_control"} <= set(m.frame.columns) and row_of(m, "trials")["negative_low"] < 1 < row_of(m, "trials")["negative_high"]
    assert m.notes[0].startswith("Verdict: ") and m.detail.columns[0] == "covariate" and m.detail.height
    assert m.to_dict()["params"]["exposure"] == "acknowledged" and len(m.figure().data[0].x) == m.frame.filter(pl.col("estimand") == "hazard_ratio").drop_nulls(["low", "high"]).height
    assert lab.sql("select count(*) as n from duckdb_tables() where temporary")["n"][0] == 0


def test_the_table_of_people_is_what_a_loop_finds(coin):
    lab, _ = coin
    rows = lab.sql("select post_key, author_key, reply_to_key, reply_to_account, created_at, text from post order by created_at").rows(named=True)
    want = {}
    for r in rows:
        who, text = r["author_key"], r["text"]
        if text == "@Acme it broke": want[who] = {"entry": r["created_at"], "exposed_at": None, "event_at": None, "negative_at": None}
        elif text == "sorry": want[r["reply_to_account"]]["exposed_at"] = r["created_at"]
        elif text == LOVE: want[who]["event_at"] = r["created_at"]
        elif text == "what a day": want[who]["negative_at"] = r["created_at"]
    with lab.pinned("inbound"): table, acts = cohort.people(lab, "acknowledged", "advocacy", None, "account")
    assert table.height == len(want) == 400
    for r in table.iter_rows(named=True): assert {k: r[k] for k in want[r["person"]]} == want[r["person"]]
    assert acts.height == sum(r["author_key"] != "twcs:Acme" for r in rows) and table["call"].unique().to_list() == ["complaint"]


def test_posting_more_is_a_ratio_of_rates(townsfolk):
    lab = townsfolk[0]
    m = tl.effect(lab, outcome="posting", horizon="30d")
    assert m.frame["method"][0] == "frailty" and m.frame["estimand"][0] == "rate_ratio" and row_of(m, "frailty", "rate_ratio")["low"] < row_of(m, "frailty", "rate_ratio")["estimate"] and m.params["outcome"] == "posts"
    assert {"placebo_exposure", "post_trials", "post_trials_unadjusted"} <= set(m.frame["method"]) and m.detail["covariate"].to_list()[:3] == ["so_far", "last_7d", "last_30d"]
    with lab.pinned("inbound"): table, acts = cohort.people(lab, "acknowledged", "posts", None, "account")
    table, own = table.with_columns(cluster=pl.col("person")), acts.filter("own")
    rows = posting.pieces(table, own)
    for one in table.head(40).iter_rows(named=True):
        mine, cut = sorted(t for i, t in own.select("id", "time").rows() if i == one["id"]), min(one["exposed_at"] or one["end"], one["end"])
        got = {key: sum(r["count"] for r in part.iter_rows(named=True)) for (key,), part in rows.filter(pl.col("id") == one["id"]).group_by("exposed")}
        assert got.get(0, 0) == sum(one["entry"] < t <= cut for t in mine) and got.get(1, 0) == sum(cut < t <= one["end"] for t in mine)
        known = {r["recency"]: 0.0 for r in rows.iter_rows(named=True)}
        for r in rows.filter(pl.col("id") == one["id"]).iter_rows(named=True): known[r["recency"]] += r["days"]
        ticks, fresh = sorted({one["entry"], one["end"], *(t + timedelta(days=d) for t in mine for d in (0, *(h / 24 for h in posting.FRESH)) if one["entry"] <= t + timedelta(days=d) <= one["end"])}), dict.fromkeys(known, 0.0)
        for start, stop in zip(ticks, ticks[1:]):
            since = min(((start - t) / timedelta(days=1) for t in mine if t <= start), default=99)
            fresh[str(sum(since >= h / 24 - 1e-9 for h in posting.FRESH))] += (stop - start) / timedelta(days=1)
        assert known == pytest.approx(fresh, abs=1e-6)
    exposed = rows.filter(pl.col("id").is_in(table.filter(pl.col("exposed_at").is_not_null())["id"].implode()))
    before, after = ([sum(x) for x in zip(*exposed.filter(pl.col("exposed") == e).select("count", "days").rows())] for e in (0, 1))
    assert abs(row_of(m, "naive_before_after", "rate_ratio")["estimate"] - after[0] / after[1] / (before[0] / before[1])) < 1e-9


def test_posts_of_ones_own_accord_answer_nobody(folder):
    with made(folder, "accord", (1, "101", 0, "@Acme hi", None), (2, "Acme", 1, "hi", 1), (3, "101", 2, "@Acme ah", 2), (4, "102", 0, "@Acme so?", None), (5, "101", 3, "@102 like so", 4), (6, "101", 4, "more", 3), (7, "101", 5, "what a day", None), (8, "Acme", 60, "bye", None)) as lab:
        with lab.pinned("inbound"): table, acts = cohort.people(lab, "acknowledged", "posts", None, "account")
        one = acts.filter(pl.col("id") == table.filter(pl.col("person") == "twcs:101")["id"][0]).sort("time")
        assert one["own"].to_list() == [True, False, False, True, True] and one["away"].to_list()[-1] and not one["away"][0]
        assert one["called"].to_list()[0] and one["answered_at"][0] == one["time"][0] + timedelta(days=1) and one["answered_at"].null_count() == 4


def test_trials_of_posts_are_what_a_loop_finds(townsfolk):
    lab = townsfolk[0]
    with lab.pinned("inbound"): table, acts = cohort.people(lab, "acknowledged", "silence", None, "account")
    got = posting.by_post(table, acts, "acknowledged", 14.0, 90.0)
    want, day = [], timedelta(days=1)
    for one in table.iter_rows(named=True):
        mine = acts.filter(pl.col("id") == one["id"]).sort("time").rows(named=True)
        own, times = [r["time"] for r in mine if r["own"]], [r["time"] for r in mine]
        for r in mine:
            t = r["time"]
            if not r["called"] or t >= one["end"] or one["exposed_at"] and t > one["exposed_at"]: continue
            end = min(one["end"], t + 104 * day)
            gaps = [u + 30 * day for u, v in zip(times, [*times[1:], None]) if u >= t and (v is None or v > u + 30 * day)]
            want.append((t, r["answered_at"], end, gaps[0], max(sum(t + 14 * day < u <= end for u in own), 0), sum(u <= t for u in own), sum(t - 7 * day < u <= t for u in own)))
    columns = ["entry", "exposed_at", "end", "event_at", "count", "so_far", "last_7d"]
    assert got.height == len(want) > 300 and sorted(got.select(columns).rows(), key=str) == sorted(want, key=str)


def ratios_of(folder, outcome, seed, **law):
    "The verdict and the ratios by method, (estimate, low, high), in a town where nobody replies to an answer (a reply is a post that the answer did bring about)"
    tl.write(tl.simulate(seed, customers=1000, days=240, **{"hr": 1.0, "hr_canned": 1.0, "pi": 0.0, **law}), folder)
    with tl.Lab() as lab:
        lab.load(folder / "twcs.csv", progress=False)
        m = tl.effect(lab, outcome=outcome, horizon="60d")
    rows = m.frame.filter(pl.col("estimand").is_in(["hazard_ratio", "rate_ratio"])).select("method", "estimate", "low", "high").rows()
    return str(m.notes[0]), {r[0]: np.array(r[1:]) for r in rows}


@pytest.mark.parametrize("outcome, best", [("posts", "frailty"), ("posts", "post_trials"), ("silence", "post_trials")])
@pytest.mark.parametrize("scenario", ["null", "bursts"])
def test_posting_where_answers_change_nothing(outcome, best, scenario, tmp_path):
    "Without hidden engagement the mean over three towns lies within three standard errors of 1 (the frailty model of bursts, which are sums where it multiplies, within a tenth); the naive ratios lie far from it"
    found = [ratios_of(tmp_path / str(seed), outcome, seed, scenario=scenario, a_x=0.0)[1] for seed in (21, 22, 23)]
    logs = np.log([f[best] for f in found])
    assert abs(logs[:, 0].mean()) < 0.1 if (best, scenario) == ("frailty", "bursts") else abs(logs[:, 0].mean()) < 3 * np.sqrt((((logs[:, 2] - logs[:, 1]) / 3.92) ** 2).sum()) / 3 and len(logs) == 3
    assert abs(np.log([f["placebo_exposure"][0] for f in found]).mean()) < 0.15
    if outcome == "posts": assert all(f["naive_ever_rate"][1] > 2 for f in found) and (scenario == "bursts" or np.mean([f["naive_before_after"][0] for f in found]) > 1.05)
    else: assert all(f["naive_ever"][2] < 0.6 for f in found if "naive_ever" in f) and any("naive_ever" in f for f in found)


def selling(path, factor, people=400):
    "Answers at random to calls, more than half of them advertising; after the first of these, people post `factor` times as seldom"
    rng, rows = np.random.default_rng(3), []
    for person in range(people):
        at, sold, pace = rng.uniform(0, 60), False, rng.gamma(3) * 0.06
        while at < 240:
            rows.append([at, str(1000 + person), "@Acme how do I change my plan?", None])
            if not sold and rng.random() < 0.25:
                sold = rng.random() < 0.6
                rows.append([at + rng.uniform(0.1, 1), "Acme", "Upgrade today and save 20% with code SAVE20, shop now!" if sold else "You can change it in the settings, under Plan.", len(rows)])
            at += rng.exponential((factor if sold else 1) / pace)
    rows.append([300, "Acme", "bye", None])
    oracle.write([{"id": str(i), "author": a, "inbound": a.isdigit(), "at": BEGIN + timedelta(days=d), "parent": "" if p is None else str(p), "text": text} for i, (d, a, text, p) in enumerate(rows, 1)], path)


@pytest.mark.parametrize("factor", [1, 4])
def test_promotion_and_silence_on_a_store_that_has_promotions(factor, tmp_path):
    "Selling by a coin: silence comes sooner where it drives people off, and not where it does nothing; ever against never says that it keeps them, both times"
    selling(tmp_path / "sold.csv", factor)
    with tl.Lab() as lab:
        lab.load(tmp_path / "sold.csv", progress=False)
        m = tl.effect(lab, exposure="promotion", outcome="silence", horizon="60d")
    first, naive = row_of(m, "post_trials"), row_of(m, "naive_ever")
    assert naive["high"] < 1 and first["n"] == naive["n"] and first["exposed"] > 200
    assert first["low"] > 1.5 if factor == 4 else first["low"] < 1 < first["high"]


@pytest.mark.parametrize("outcome", ["posts", "silence"])
def test_no_causal_word_is_said_where_engagement_is_hidden(outcome, tmp_path):
    for seed in (21, 22, 23): assert ratios_of(tmp_path / str(seed), outcome, seed, scenario="null", a_x=1.5)[0].startswith("Verdict: No causal reading")


def test_a_giveaway_does_not_keep_people_from_posting(tmp_path):
    "The post that joins a giveaway is the exposure and no outcome; the ratio lies near 1 where nothing changes, and nothing causal is said"
    found = []
    for seed in (1, 2, 3):
        tl.write(tl.simulate(seed, scenario="giveaways", customers=800, days=240, hr=1.0, hr_canned=1.0, hr_inc=1.0, pi=0.0), tmp_path / str(seed))
        with tl.Lab() as lab:
            lab.load(tmp_path / str(seed) / "twcs.csv", progress=False)
            m = tl.effect(lab, exposure="giveaway", outcome="posts", horizon="60d")
        assert m.notes[0].startswith("Verdict: No causal reading") and "itself a post" in m.notes[0]
        found.append(row_of(m, "frailty", "rate_ratio")["estimate"])
    assert abs(np.log(found).mean()) < 0.1, found


def test_the_verdict_on_posting_has_a_floor():
    from trustlab.effects import paced_verdict
    calm = {"placebo_exposure": (1.0, 0.9, 1.1), "negative control": (1.0, 0.8, 1.3)}
    assert paced_verdict((1.4, 1.9), calm, 200, 0.1).startswith("People of like pace posted more often") and paced_verdict((0.9, 1.2), calm, 200, 0.1).startswith("No difference was found that chance does not explain (0.90 to 1.20")
    for found, tests, exposed, unseen, why in [((18, 35), calm, 1, 0.1, "only 1 people"), ((1.4, 1.9), calm, 200, 0.6, "60% of the exposed"), ((1.4, 1.9), calm | {"placebo_exposure": (1.2, 1.1, 1.3)}, 200, 0.1, "can have done nothing"),
                                               ((1.4, 1.9), calm | {"negative control": (0.8, 0.7, 0.9)}, 200, 0.1, "go elsewhere"), ((1.1, 1.4), calm, 200, 0.1, "up to 1.23")]:
        assert paced_verdict(found, tests, exposed, unseen).startswith("No causal reading") and why in paced_verdict(found, tests, exposed, unseen)
    assert "no placebo exposure was looked at; no negative control was looked at" in paced_verdict((1.4, 1.9), {}, 200, 0.1)


def test_few_exposed_people_are_no_rate_however_many_posts(folder):
    "One chatty exposed person of forty is one person, whatever the number of posts; and cells of few exposed people are not shown where few are hidden"
    chat = [(1000 + k, "900", 1 + k / 4, "@Acme hi", None) for k in range(150)] + [(2000, "Acme", 1.1, "hi", 1000)]
    rest = [(10 * k + j, str(100 + k), k / 2 + 9 * j, "@Acme hi", None) for k in range(40) for j in range(3)]
    with made(folder, "chatty", *chat, *rest, (5000, "Acme", 120, "bye", None)) as lab:
        for outcome in ("posts", "silence"):
            with pytest.raises(NotIdentifiable, match="at least 5"): tl.effect(lab, outcome=outcome, horizon="30d")
    m = Measure("effect", pl.DataFrame({"method": ["trials"], "n": [400], "exposed": [6]}), effects.CARD, effects.draw, [], {}, people=[min(400, 6)])
    assert m.suppressed(10).frame["exposed"].to_list() == [None]


def test_who_left_is_watched_until_then(townsfolk, monkeypatch):
    "Posting and silence end with leaving; who left before the first call is not there"
    seen, frames = {}, effects.pieces
    with townsfolk[0].pinned("inbound"): table, acts = cohort.people(townsfolk[0], "acknowledged", "posts", None, "account")
    table = table.with_columns(cluster=pl.col("person"), competing_at=pl.when(pl.col("id") % 5 == 0).then(pl.col("entry") + pl.duration(days=9)).when(pl.col("id") % 5 == 1).then(pl.col("entry") - pl.duration(days=1)).cast(pl.Datetime("us")))
    monkeypatch.setattr(effects, "pieces", lambda table, acts: seen.setdefault("rows", frames(table, acts)))
    effects.again(table, effects.Again(acts, ["brand"], {"30d": 30 * DAY}, "7d", "acknowledged", "posts"))
    days = dict(seen["rows"].group_by("id").agg(pl.col("days").sum()).rows())
    whole = {i: (min(end, left) if left else end) - entry for i, entry, end, left in table.select("id", "entry", "end", "competing_at").rows()}
    assert days == pytest.approx({i: span / timedelta(days=1) for i, span in whole.items() if span > timedelta()}, abs=1e-6) and len(days) < table.height


def test_people_are_counted_once_in_trials_of_posts(townsfolk):
    m = tl.effect(townsfolk[0], outcome="silence", horizon="60d")
    row = row_of(m, "post_trials")
    with townsfolk[0].pinned("inbound"): table, acts = cohort.people(townsfolk[0], "acknowledged", "silence", None, "account")
    rows = posting.by_post(table, acts, "acknowledged", 14.0, 60.0).filter(pl.col("watched") > 0).rows(named=True)
    limit = timedelta(days=14)
    exposed = {r["cluster"] for r in rows if r["exposed_at"] is not None and r["exposed_at"] <= r["entry"] + limit}
    ended = {(r["cluster"], r["exposed_at"] is not None and r["exposed_at"] <= r["entry"] + limit) for r in rows if r["entry"] + limit < r["event_at"] <= r["end"]}
    assert (row["n"], row["exposed"], row["events"], row["exposed_events"]) == (len({r["cluster"] for r in rows}), len(exposed), len({p for p, _ in ended}), sum(hit for _, hit in ended))
    assert m.people == [min(r["n"], r["exposed"]) for r in m.frame.iter_rows(named=True)] and " people had" not in " ".join(n for n in m.notes if "calls" in n)


def test_the_placebo_is_somebody_elses_wait():
    at = lambda d: BEGIN.replace(tzinfo=None) + timedelta(days=d)
    table = pl.DataFrame({"id": [0, 1, 2, 3], "person": ["a", "a", "a", "b"], "brand": ["x"] * 4, "entry": [at(0), at(1), at(2), at(3)], "end": [at(30)] * 4, "exposed_at": [at(1), at(3), at(5), at(7)]})
    assert cohort.placebo(table)["exposed_at"].to_list() == [at(4), at(5), at(6), None]
    merged, _ = cohort.covariates_of(pl.DataFrame({"brand": [f"b{k % 25}" for k in range(100)], "platform": ["p"] * 100, "call": ["c"] * 100, "tone": ["t"] * 100}))
    assert merged["firm"].n_unique() == 25 and merged["brand"].n_unique() == 20 and cohort.firm(merged) == "firm"


def test_posting_finds_the_ratio_that_was_put_in(tmp_path):
    tl.write(tl.simulate(22, scenario="more", theta=1.5, a_x=0.0, hr=1.0, hr_canned=1.0, customers=1200, days=240), tmp_path)
    with tl.Lab() as lab:
        lab.load(tmp_path / "twcs.csv", progress=False)
        m = tl.effect(lab, outcome="posts", horizon="60d")
    row = row_of(m, "frailty", "rate_ratio")
    assert row["low"] < 1.5 < row["high"] and row["low"] > 1.2 and row_of(m, "placebo_exposure", "rate_ratio")["low"] < 1.03


def test_silence_is_thirty_days_without_a_post(folder):
    with made(folder, "silence", (1, "101", 0, "@Acme hi", None), (2, "101", 20, "hm", None), (3, "101", 70, "hm", None), (4, "102", 0, "@Acme hi", None), (5, "102", 25, "x", None), (6, "Acme", 40, "bye", None), (7, "Acme", 80, "bye", None)) as lab:
        with lab.pinned("inbound"): table, _ = cohort.people(lab, "acknowledged", "silence", None, "account")
        assert [(r["event_at"] - r["entry"]).days for r in table.iter_rows(named=True)] == [50, 55]


@pytest.mark.parametrize("exposure, outcome", [(e, o) for e in cohort.EXPOSURES for o in cohort.OUTCOMES])
def test_every_pair_is_answered_or_refused_in_words(exposure, outcome, townsfolk):
    try: m = tl.effect(townsfolk[0], exposure=exposure, outcome=outcome, horizon="30d")
    except NotIdentifiable as no: assert re.search(r"\d", str(no)) and len(str(no)) > 40
    else: assert m.frame.height and m.notes[0].startswith("Verdict: ") and m.frame["n"].min() > 0


def test_bad_questions_are_named(coin, folder):
    lab = coin[0]
    for wrong in ({"exposure": "luck"}, {"outcome": "money"}, {"horizon": "90"}, {"every": "never"}, {"brand": "Nobody"}, {"per": "head"}):
        with pytest.raises(InvalidParameter, match=next(iter(wrong))): tl.effect(lab, **wrong)
    with pytest.raises(NotIdentifiable): tl.effect(tl.Lab())
    with pytest.raises(NotIdentifiable, match="beyond|watched|horizon"): tl.effect(lab, horizon="5000d")
    alone = made(folder, "alone", (1, "101", 0, "@Acme hi", None), (2, "Acme", 1, "hi", 1), (3, "Acme", 60, "bye", None))
    with alone, pytest.raises(NotIdentifiable, match="1 of 1"): tl.effect(alone)
    unanswered = made(folder, "unanswered", *((k, str(100 + k), k, "@Acme hi", None) for k in range(1, 9)), (50, "Acme", 60, "bye", None))
    with unanswered, pytest.raises(NotIdentifiable): tl.effect(unanswered)


def test_the_placebo_moves_waits_between_neighbours():
    at = lambda d: BEGIN.replace(tzinfo=None) + timedelta(days=d)
    table = pl.DataFrame({"id": [1, 2, 3, 4], "brand": ["a", "a", "b", "a"], "entry": [at(0), at(5), at(1), at(9)], "end": [at(30)] * 4, "exposed_at": [at(2), at(6), at(3), None]})
    assert cohort.placebo(table).sort("id")["exposed_at"].to_list() == [at(1), None, None, None]


def test_false_finds_draw_a_ratio_towards_one():
    "Of a risk of .10 without and .20 with, half are false finds: .05 of either are, and .05 and .15 are left, three times as many"
    curves, frame = pl.DataFrame({"horizon": [90.0], "unexposed": [0.10], "exposed": [0.20]}), pl.DataFrame({c: [None] for c in FRAME}, schema=FRAME)
    row = lambda low, high: pl.concat([frame.with_columns(method=pl.lit("trials"), estimand=pl.lit(e), horizon=90.0, estimate=pl.lit(2.0), low=pl.lit(low), high=pl.lit(high)) for e in ("risk_difference", "risk_ratio", "hazard_ratio")])
    made, notes = effects.with_false_finds(row(2.0, 2.0), curves, 0.5, 1.0)
    last = made.row(-1, named=True)
    assert made.height == 4 and (last["method"], last["estimand"], last["low"], last["high"]) == ("trials_corrected", "risk_ratio", 2.0, 3.0) and last["estimate"] == pytest.approx((2 - 0.25) / 0.75) and "between 2.00 and 3.00" in notes[0]
    wide = effects.with_false_finds(row(0.8, 2.0), curves, 0.5, 0.9)[0].row(-1, named=True)
    assert wide["low"] == pytest.approx((0.8 - 0.5 * 0.8) / (1 - 0.5 * 0.8)) and wide["high"] == 3.0
    assert effects.with_false_finds(row(1.5, 2.5), curves, 1.0, 1.0)[0].height == 3 and effects.with_false_finds(row(1.5, 2.5), curves, 1.0, 1.0)[1] == []
    for low in (0.0, -0.1): assert "not known well enough" in effects.with_false_finds(row(1.5, 2.5), curves, low, 1.0)[1][0]


# ---- what the verdict refuses

@pytest.mark.parametrize("scenario, seed", [("null", 1), ("null", 2), ("null", 4), ("hidden", 1)])
def test_answers_that_do_nothing_are_never_said_to_do_something(scenario, seed, tmp_path):
    "Towns in which an answer changes nothing: who is engaged is answered more and recommends more, and a few posts do not show it"
    tl.write(tl.simulate(seed, scenario=scenario, customers=700, days=240, hr=1.0, hr_canned=1.0), tmp_path)
    with warnings.catch_warnings(), tl.Lab() as lab:
        warnings.simplefilter("ignore")
        lab.load(tmp_path / "twcs.csv", progress=False)
        lab.signals()
        said = [str(tl.effect(lab, outcome=outcome).notes[0]) for outcome in ("advocacy", "silence")] + [str(n) for n in tl.dose_response(lab, doses=1).notes if str(n).startswith("dose 1: ")][:1]
    assert all(line.split(": ", 1)[1].startswith("No causal reading") and "too few to tell the engaged" in line for line in said), said


def test_verdicts_are_refused_for_a_placebo_that_works_and_for_unseen_engagement():
    from trustlab.effects import spoken_verdict
    fine = "The exposed had more outcomes than like people without."
    assert spoken_verdict(fine, 0.5) == fine and spoken_verdict(fine, 0.4, "advocacy", (0.8, 1.3)) == fine
    assert spoken_verdict(fine, 0.1, placebo=(1.25, 2.8)).startswith("No causal reading: an exposure that can have done nothing seems to have moved the outcome (hazard ratio 1.25 to 2.80)")
    assert spoken_verdict("No causal reading: few.", 0.9, "silence", (0.2, 0.9)).count(";") == 3


@pytest.mark.parametrize("ratio, refused", [((1.51, 2.0), False), ((1.49, 2.0), True), ((0.3, 0.66), False), ((0.3, 0.68), True), ((0.5, 2.0), True)])
def test_a_ratio_that_unseen_engagement_could_bring_is_no_effect(ratio, refused):
    from trustlab.effects import UNSEEN, spoken_verdict
    moved = "The exposed had more outcomes than like people without, as an effect would show; that rests on nothing."
    said = spoken_verdict(moved, 0.1, ratio=ratio)
    assert (said == f"{moved} {UNSEEN}") is not refused and said.startswith("No causal reading: the hazard ratio") is refused
    assert spoken_verdict("No difference.", 0.1, ratio=ratio) == "No difference."


@pytest.mark.parametrize("hr, seed, held", [(1.0, 4, False), (3.0, 1, True)])
def test_engagement_that_no_post_shows_is_not_taken_for_an_effect(hr, seed, held, tmp_path):
    "Everybody posts often, the engaged are answered sooner and recommend more: a small ratio is refused, one of three is told with what it rests on"
    tl.write(tl.simulate(seed, scenario="null", customers=800, days=240, brands=1, mu0=0.2, a=0.004, a_canned=0.002, hr=hr, hr_canned=hr), tmp_path)
    with warnings.catch_warnings(), tl.Lab() as lab:
        warnings.simplefilter("ignore")
        lab.load(tmp_path / "twcs.csv", progress=False)
        found = tl.effect(lab)
    row = found.frame.filter((pl.col("method") == "trials") & (pl.col("estimand") == "hazard_ratio")).row(0, named=True)
    assert row["low"] > 1 and ("as an effect would show" in found.notes[0]) is held and ("engagement that no post shows can bring" in found.notes[0]) is not held


def test_posts_known_before_an_exposure_are_counted_as_a_loop_counts_them():
    from trustlab.cohort import SEEN
    from trustlab.effects import blind
    rng, day, start = np.random.default_rng(4), timedelta(days=1), datetime(2026, 1, 1)
    people, posts, few = [], [], []
    for i in range(60):
        entry, wait, end = start + day * int(rng.integers(0, 30)), day * float(rng.uniform(0, 50)), start + 90 * day
        mine = sorted(entry + day * float(x) for x in rng.uniform(-30, 60, int(rng.integers(0, 40))))
        people.append({"id": i, "entry": entry, "end": end, "exposed_at": entry + wait if i % 3 else None, "event_at": entry + 10 * day if i % 5 == 0 else None})
        posts += [{"id": i, "time": at, "so_far": k} for k, at in enumerate(mine, 1)]
        if i % 3 and entry + wait < (entry + 10 * day if i % 5 == 0 else end): few.append(sum(at <= entry + wait // (14 * day) * 14 * day for at in mine) < SEEN)
    table = pl.DataFrame(people, schema_overrides={c: pl.Datetime("us") for c in ("entry", "end", "exposed_at", "event_at")})
    assert blind(table, pl.DataFrame(posts), "14d") == pytest.approx(sum(few) / len(few)) and 0.1 < sum(few) / len(few) < 0.9


def test_a_landmark_without_overlap_has_no_answer():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, 400)
    table = pl.DataFrame({"entry": np.zeros(400), "end": np.full(400, 200.0), "exposed_at": np.where(x == 1, 5.0, np.nan), "event_at": np.where(rng.random(400) < 0.4, rng.uniform(31, 150, 400), np.nan), "x": x}).with_columns(pl.col("exposed_at", "event_at").fill_nan(None))
    with pytest.raises(NotIdentifiable, match="like chance of exposure"): tl.trials.landmark(table, ["x"], horizon="60d")


def test_who_recommended_first_and_was_never_answered_is_told(folder):
    "Ann asks and is answered; Ben's first call recommends and nobody answers; Cem recommends, is answered then: both are left out, each of another arm, and both are told"
    with made(folder, "first", (1, "101", 1, "@Acme it broke", None), (2, "Acme", 2, "sorry", 1), (3, "102", 3, "@Acme " + LOVE, None), (4, "103", 4, "@Acme " + LOVE, None), (5, "Acme", 6, "thank you", 4), (9, "Acme", 60, "bye", None)) as lab:
        m = tl.conversion(lab, horizon="30d", arms=False)
    n = {r["arm"]: r["n"] for r in m.frame.iter_rows(named=True)}
    assert n == {"acknowledged": 1, "none": 1}, n
    assert any(note.startswith("left out: 1 people who had recommended the brand before its first answer") for note in m.notes)
    assert any(note.startswith("left out: 1 people who had recommended the brand by their first call and were never answered") for note in m.notes)


def test_what_is_right_of_a_share_of_advocates(townsfolk):
    "The ends of the interval times the share of the people who are left where false finds are allowed for; whole counts are whole"
    m = tl.advocates(townsfolk[0])
    for row in m.frame.filter(pl.col("people") > 0).iter_rows(named=True):
        assert row["right_low"] == pytest.approx(row["share_low"] * row["people_low"] / row["people"]) and row["right_high"] == pytest.approx(row["share_high"] * row["people_high"] / row["people"])
    helping = m.frame.filter(pl.col("kind") == "helping").row(0, named=True)
    assert helping["right_high"] < helping["share_low"], "few of the answers to others help"
    assert all(t == pl.Int64 for c, t in m.detail.schema.items() if c in ("acts", "unprompted", "prompted", "incentivised", "helping"))
    pale = m.figure().data[1]
    ends = list(zip(pale.x[::3], pale.x[1::3]))
    assert sorted(ends) == sorted(m.frame.select("right_low", "right_high").rows())


def test_first_acts_are_counted_towards_each_brand(tmp_path):
    rows = [("1", "ann", True, "Mon Mar 04 10:00:00 +0000 2024", "@Acme my parcel is late", "", ""), ("2", "Acme", False, "Mon Mar 04 11:00:00 +0000 2024", "@ann sorry, it is on its way", "", "1"),
            ("3", "ann", True, "Tue Mar 05 10:00:00 +0000 2024", "@Bolt where is my bill?", "", ""), ("4", "Bolt", False, "Tue Mar 05 11:00:00 +0000 2024", "@ann here it is", "", "3"),
            ("5", "ann", True, "Wed Mar 06 10:00:00 +0000 2024", "I would recommend @Acme to anyone", "", ""), ("6", "ann", True, "Thu Mar 07 10:00:00 +0000 2024", "I would recommend @Bolt to anyone", "", ""),
            ("7", "ann", True, "Fri Mar 08 10:00:00 +0000 2024", "I would recommend @Bolt to everybody", "", "")]
    pl.DataFrame(rows, schema=["tweet_id", "author_id", "inbound", "created_at", "text", "response_tweet_id", "in_response_to_tweet_id"], orient="row").write_csv(tmp_path / "twcs.csv")
    with warnings.catch_warnings(), tl.Lab() as lab:
        warnings.simplefilter("ignore")
        lab.load(tmp_path / "twcs.csv", progress=False)
        lab.signals()
        whole, each = (tl.advocates(lab, by=by).frame.filter(pl.col("kind") == "any") for by in ((), "brand"))
    assert whole.select("acts", "first_acts", "later_acts").row(0) == (3, 2, 1) and each["first_acts"].to_list() == [1, 1] and whole["people"][0] == 1
