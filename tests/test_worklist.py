"Who waits, against plain Python on random communities, and the clocks, names and forms of the list"
import csv
import io
import warnings
from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import trustlab as tl
from trustlab.business_time import Calendar
from trustlab.core import InvalidParameter, NotIdentifiable, SmallSample
from trustlab.waiting import defused, flat, spreadsheet, worklist

END = datetime(2024, 3, 8, 12)
BRANDS = ("acme", "birch")
pytestmark = pytest.mark.filterwarnings("ignore::trustlab.TrustlabWarning")


def shop(posts, accounts=(), joined=()):
    "A store of posts: (key, author, minute, to brand or None, conversation, key it answers or None, text)"
    lab = tl.Lab()
    names = {p[1] for p in posts} | set(BRANDS) | set(accounts)
    for name in sorted(names): lab.con.execute("insert into account (account_key, platform, handle, person_key) values (?, 'x', ?, ?)", ["x:" + name, name, "x:" + dict(joined).get(name, name)])
    for brand in BRANDS: lab.con.execute("insert into role values (?, 'brand', ?, null, null, 'declared')", ["x:" + brand, brand])
    lab.con.execute("insert into load (load_id, scope, covers_to) values ('1', 'both', ?)", [END])
    lab.con.execute("insert into coverage values ('1', 'x', null, null, false)")
    for key, author, at, brand, thread, answers, text in posts:
        lab.con.execute("insert into post (post_key, platform, author_key, kind, created_at, text, visibility, conversation_key, reply_to_key, reply_to_account, reply_basis, url, load_id) values (?, 'x', ?, 'post', ?, ?, 'public', ?, ?, ?, ?, ?, '1')",
                        ["x:" + key, "x:" + author, at, text, thread, answers and "x:" + answers[0], "x:" + (answers[1] if answers else brand), "explicit" if answers else "inferred", f"https://town.example/{author}/{key}"])
    return lab


@st.composite
def communities(draw):
    "Calls of a few people to two brands in a few conversations, at minutes of their own, some answered by the brand later"
    posts, minutes = [], draw(st.lists(st.integers(0, 6000), min_size=2, max_size=24, unique=True))
    for i, minute in enumerate(sorted(minutes)):
        at, calls = END - timedelta(minutes=6000) + timedelta(minutes=minute), [p for p in posts if p[3]]
        if calls and draw(st.booleans()) and draw(st.booleans()):
            call = draw(st.sampled_from(calls))
            posts.append((f"{i}", call[3], at, None, call[4], (call[0], call[1]), "sorry"))
        else:
            who, brand = draw(st.sampled_from(["ann", "ben", "cem"])), draw(st.sampled_from(BRANDS))
            posts.append((f"{i}", who, at, brand, f"{who}-{brand}-{draw(st.integers(0, 1))}", None, draw(st.sampled_from(["hello", "I am switching to another shop, goodbye", "why is it broken?"]))))
    return posts


def by_plain_python(posts, later):
    "Rows (post_key, brand, person, since, waited, posts, before, came back, reasons without words and patience), and the silences after which somebody wrote again"
    calls = sorted((p for p in posts if p[3]), key=lambda p: p[2])
    answer = {p[0]: min((r[2] for r in posts if r[5] and r[5][0] == p[0]), default=None) for p in calls}
    runs = []
    for key in dict.fromkeys((p[1], p[3], p[4]) for p in calls):
        mine, current, number = [p for p in calls if (p[1], p[3], p[4]) == key], [], 0
        for p in mine:
            if current and any(answer[q[0]] and answer[q[0]] <= p[2] for q in current): runs.append((number, current)); number, current = number + 1, []
            current.append(p)
        runs.append((number, current))
    ended = {p[0]: min((answer[q[0]] for q in run if answer[q[0]]), default=None) for _, run in runs for p in run}
    silences = {brand: [] for brand in BRANDS}
    for who, brand in {(p[1], p[3]) for p in calls}:
        mine = [p for p in calls if (p[1], p[3]) == (who, brand)]
        silences[brand] += [(q[2] - p[2]).total_seconds() for p, q in zip(mine, mine[1:]) if ended[p[0]] is None or ended[p[0]] > q[2]]
    waiting = [(n, run) for n, run in runs if ended[run[0][0]] is None]
    rows = []
    for n, run in waiting:
        first = run[0]
        if n and not later: continue
        left = any(m == 0 and other[0][1] == first[1] and other[0][3] == first[3] and other[0][2] < first[2] for m, other in waiting)
        reasons = ({"asked again"} if len(run) > 1 else set()) | ({"left before"} if left else set())
        if any("switching" in p[6] for p in run): reasons.add("says so")
        if len(silences[first[3]]) >= 10 and (END - run[-1][2]).total_seconds() > quantile(silences[first[3]], 0.9): reasons.add("silent")
        rows.append(("x:" + first[0], first[3], first[1], first[2], (END - first[2]).total_seconds(), len(run), sum(p[1] == first[1] and p[3] == first[3] and p[2] < first[2] for p in calls), "came back" if n else "first call", reasons))
    return rows


def quantile(values, share):
    "Between the two nearest ranks, by how far the share lies"
    values = sorted(values)
    place = share * (len(values) - 1)
    low = int(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(communities(), st.booleans())
def test_who_waits_and_why(posts, later):
    if not any(p[3] for p in posts): return
    with shop(posts) as lab:
        got, pending = worklist(lab, unit="run" if later else "conversation"), tl.acknowledgement(lab, unit="conversation").frame["pending"][0]
    want = by_plain_python(posts, later)
    assert sorted(got.select("post_key", "brand", "person", "waiting_since", "waited_seconds", "posts", "posts_before", "kind").rows()) == sorted(row[:-1] for row in want)
    assert {key: set(reasons) for key, reasons in got.select("post_key", "reasons").rows()} == {row[0]: row[-1] for row in want} and got["risk"].to_list() == [len(r) for r in got["reasons"]]
    assert later or got.height == pending
    order = got.select(-pl.col("risk"), "waiting_since").rows()
    assert order == sorted(order)


def at(hours): return END - timedelta(hours=hours)


def patient(n=10):
    "Ten people who wrote again, after one to `n` hours, and were answered then"
    return [p for i in range(n) for p in ((f"p{i}a", f"p{i}", at(90), "acme", f"p{i}", None, "hello"), (f"p{i}b", f"p{i}", at(90 - i - 1), "acme", f"p{i}", None, "again"), (f"p{i}s", "acme", at(60), None, f"p{i}", (f"p{i}b", f"p{i}"), "sorry"))]


def test_silence_is_measured_by_the_brands_own_callers():
    "Nine in ten came back within 9.1 hours; another brand, of whose callers nobody came back, judges nobody, and says so"
    calls = [("1", "ann", at(9), "acme", "a", None, "hi"), ("2", "ben", at(9.2), "acme", "b", None, "hi"), ("3", "cem", at(40), "birch", "c", None, "hi")]
    with shop(patient() + calls) as lab, pytest.warns(SmallSample, match="^birch: callers came back without an answer fewer than 10 times"): got = worklist(lab)
    assert dict(got.select("post_key", "reasons").rows()) == {"x:1": [], "x:2": ["silent"], "x:3": []}
    with shop(patient() + calls) as lab, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert worklist(lab, brand="acme").equals(got.filter(pl.col("brand") == "acme"))
    with shop(patient(9) + calls) as lab: assert worklist(lab)["reasons"].list.len().sum() == 0


def test_words_are_told_and_can_be_left_out():
    with shop([("1", "ann", at(2), "acme", "a", None, "why is it broken?"), ("2", "ann", at(1), "acme", "a", None, "I am switching to Birch, goodbye"), ("3", "ben", at(1), "acme", "b", None, None)]) as lab:
        said, mute = worklist(lab), worklist(lab, acts=False)
    assert said["acts"].to_list() == [["complaint", "question", "threatens_leaving"], []] and said["reasons"].to_list() == [["asked again", "says so"], []]
    assert "acts" not in mute.columns and mute["reasons"].to_list() == [["asked again"], []]


def test_business_time_and_target():
    desk = {"zone": "Europe/Berlin", "mon-fri": "09:00-17:00"}
    calls = [(str(i), f"c{i}", END - timedelta(minutes=m), "acme", str(i), None, "hi") for i, m in enumerate((0, 59, 60, 61, 239, 240, 241, 1500, 6000))]
    with shop(calls) as lab:
        wall, open_ = worklist(lab, target="4h").sort("waited_seconds"), worklist(lab, hours=desk, target="4h").sort("waited_seconds")
        assert "business_waited_seconds" not in wall.columns and worklist(lab, hours=desk).columns == ["brand", "person", "waiting_since", "waited_seconds", "business_waited_seconds", "posts", "posts_before", "kind", "acts", "risk", "reasons", "url", "post_key"]
    assert wall["sla"].to_list() == ["pending"] * 6 + ["breached"] * 3 and wall["due_at"].to_list() == [since + timedelta(hours=4) for since in wall["waiting_since"]]
    calendar = Calendar("Europe/Berlin", {"mon-fri": "09:00-17:00"})
    clock = [calendar.between(since, END) for since in open_["waiting_since"]]
    assert open_["business_waited_seconds"].to_list() == clock and open_["sla"].to_list() == ["breached" if c > 4 * 3600 else "pending" for c in clock] and {"breached", "pending"} == set(open_["sla"])
    assert [calendar.between(since, due) for since, due in open_.select("waiting_since", "due_at").rows()] == [4 * 3600] * 9


def test_the_target_agrees_with_the_measure():
    "Every breached row is one of `sla_breached`, every pending one of `sla_pending`"
    desk = Calendar("Europe/Berlin", {"mon-fri": "09:00-17:00"})
    with shop(patient() + [(str(i), f"c{i}", at(h), "acme", str(i), None, "hi") for i, h in enumerate((1, 3, 5, 20, 70))]) as lab:
        for hours in (None, desk):
            frame, waits = tl.acknowledgement(lab, hours=hours, target="4h").frame, worklist(lab, hours=hours, target="4h")
            late = frame["n"][0] - frame["sla_met"][0] - frame["sla_pending"][0]
            assert frame["sla_breached"][0] == late and frame["sla_pending"][0] == waits.filter(pl.col("sla") == "pending").height and waits.filter(pl.col("sla") == "breached").height <= late


def test_persons_and_names():
    calls = [("1", "ann", at(5), "acme", "t", None, "hi"), ("2", "ann2", at(3), "acme", "t", None, "hi again"), ("3", "acme", at(2), None, "t", ("2", "ann2"), "hello")]
    with shop(calls, joined=[("ann2", "ann")]) as lab:
        alone, person = worklist(lab), worklist(lab, per="person")
    assert alone["person"].to_list() == ["ann"] and person.is_empty() and person.schema == alone.schema
    with shop([("1", "ann", at(5), "acme", "t", None, "hi"), ("2", "ben", at(3), "acme", "u", None, "hi")]) as lab:
        lab.con.execute("update post set url = 'https://town.example/posts/2' where post_key = 'x:2'")
        got = worklist(lab, people=False).sort("post_key")
    assert "person" not in got.columns and got["url"].to_list() == [None, "https://town.example/posts/2"]


def test_a_deleted_call_does_not_wait():
    with shop([("1", "ann", at(5), "acme", "t", None, "hi"), ("2", "ben", at(5), "acme", "u", None, "hi")]) as lab:
        lab.con.execute("insert into interaction (kind, actor_key, post_key, occurred_at) values ('delete', 'x:ann', 'x:1', ?)", [at(4)])
        assert worklist(lab)["post_key"].to_list() == ["x:2"] and tl.acknowledgement(lab).frame["pending"][0] == 1


def test_a_spreadsheet_sees_no_formula(tmp_path):
    signs = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", " =1", "＝1", "ok", "a=b", "1-1", "", None]
    frame = pl.DataFrame({"person": signs, "acts": [["=x", "y"]] + [[]] * 12, "waited_seconds": [-1.5] * 13, "waiting_since": [END] * 13})
    rows = list(csv.DictReader(io.StringIO(spreadsheet(frame, tmp_path / "w.csv"), newline="")))
    assert [r["person"] for r in rows] == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "'\rx", "' =1", "'＝1", "ok", "a=b", "1-1", "", ""] and rows[0]["acts"] == "'=x, y" and rows[0]["waited_seconds"] == "-1.5" and rows[0]["waiting_since"] == "2024-03-08T12:00:00"
    assert (tmp_path / "w.csv").read_bytes().decode() == spreadsheet(frame) and defused(flat(frame)).height == 13
    with shop([("1", "=cmd|'/C calc'!A0", at(5), "acme", "t", None, "hi")]) as lab: out = spreadsheet(worklist(lab))
    assert list(csv.DictReader(io.StringIO(out)))[0]["person"] == "'=cmd|'/C calc'!A0"


def test_an_empty_list_has_its_columns_and_nothing_stays_in_the_store():
    with shop([("1", "ann", at(5), "acme", "t", None, "hi"), ("2", "acme", at(4), None, "t", ("1", "ann"), "hello")]) as lab:
        got = worklist(lab, hours={"zone": "UTC", "mon": "09:00-10:00"}, target="1h")
        assert got.is_empty() and got.columns[:7] == ["brand", "person", "waiting_since", "waited_seconds", "business_waited_seconds", "sla", "due_at"]
        assert lab.sql("select table_name from duckdb_tables() where temporary").is_empty() and spreadsheet(got).startswith("brand,person,")


@pytest.mark.parametrize("options,says", [({"unit": "post"}, "unit"), ({"per": "people"}, "per"), ({"target": "soon"}, "target must be"), ({"target": 0}, "target must be"), ({"hours": {"mon": "09:00-10:00"}}, "need a zone"), ({"hours": "none.toml"}, "none.toml"),
                                          ({"people": 1.5}, "people"), ({"acts": "yes"}, "acts"), ({"brand": "acne"}, "acme")])
def test_refused(options, says):
    with shop([("1", "ann", at(5), "acme", "t", None, "hi")]) as lab, pytest.raises(InvalidParameter, match=says): worklist(lab, **options)


def test_a_store_without_calls():
    with tl.Lab() as lab, pytest.raises(NotIdentifiable): worklist(lab)


def test_a_store_open_for_reading_only(tmp_path, root):
    with tl.Lab(tmp_path / "s.duckdb") as lab:
        lab.load(root / "data" / "town" / "twcs.csv")
        before = worklist(lab, hours={"zone": "UTC", "daily": "00:00-24:00"}, target="1d")
    with tl.Lab(tmp_path / "s.duckdb", read_only=True) as lab: assert worklist(lab, hours={"zone": "UTC", "daily": "00:00-24:00"}, target="1d").equals(before)
    assert before.height > 50 and before["business_waited_seconds"].equals(before["waited_seconds"], check_names=False)
