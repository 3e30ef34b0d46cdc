"""What acknowledgement says beside its first numbers: other ends, quantiles, weekdays and hours, roles, service levels, platforms' rates; each against loops in plain Python."""
# ruff: noqa: F811 (fixtures of another file are used by name)
import warnings
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from importlib import import_module
from statistics import mean, median
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

import trustlab as tl
from test_oracles_measures import called, folder, kaplan_meier, townsfolk, units, village, waits  # noqa: F401
from trustlab import clusters, counts, platform_rates
from trustlab.core import InvalidParameter, NotIdentifiable

ack = import_module("trustlab.acknowledgement")
pytestmark = pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")
ZERO = datetime(2024, 1, 1, 9)
KINDS = {"answered": 1, "private": 2, "deleted": 3, "peer": 4, "resolved": 5, "staff": 6}


# ---- a store by hand: who says what to whom, minute by minute

def store(posts, deleted=(), accepted=(), resolved=(), end=10_000, roles=(("acme", "brand"), ("sue", "staff"), ("bot", "bot"), ("pat", "partner"))):
    "A lab with posts (id, author, minute, parent, visibility), deletions (id, minute), accepted answers (id, minute), posts whose author says it is resolved"
    lab = tl.Lab()
    lab.con.execute("insert into load (load_id, scope, covers_to) values ('1', 'both', ?)", [ZERO + timedelta(minutes=end)])
    lab.con.execute("insert into coverage values ('1', 'x', null, null, false)")
    for name, role in roles: lab.con.execute("insert into role values (?, ?, 'acme', null, null, 'declared')", ["x:" + name, role])
    by_id = {p[0]: p for p in posts}
    for name in {p[1] for p in posts}: lab.con.execute("insert into account (account_key, platform, handle, person_key) values (?, 'x', ?, ?)", ["x:" + name, name, "x:" + name])
    def root(i): return root(by_id[i][3]) if by_id[i][3] in by_id else i
    for i, author, minute, parent, visibility in posts:
        to = by_id[parent][1] if parent in by_id and by_id[parent][1] != author else "acme" if author not in dict(roles) else None
        lab.con.execute("insert into post (post_key, platform, author_key, kind, created_at, reply_to_key, reply_to_account, reply_basis, conversation_key, visibility, load_id) values (?, 'x', ?, 'post', ?, ?, ?, ?, ?, ?, '1')",
                        [f"x:{i}", "x:" + author, ZERO + timedelta(minutes=minute), f"x:{parent}" if parent else None, "x:" + to if to else None, "explicit" if parent else "inferred", f"x:{root(i)}", visibility])
    for kind, rows in (("delete", deleted), ("accept", accepted)):
        for i, minute in rows: lab.con.execute("insert into interaction values (?, null, ?, null, null, ?, 'utc', '1')", [kind, f"x:{i}", None if minute is None else ZERO + timedelta(minutes=minute)])
    for i in resolved: lab.con.execute("insert into signal values (?, 'resolved', 0.9, 'rule', 'm')", [f"x:{i}"])
    return lab


ENDS = store([
    (1, "ann", 0, None, "public"), (2, "acme", 10, 1, "public"),                                    # answered by the brand after 10
    (3, "ben", 0, None, "public"), (4, "zoe", 5, 3, "public"), (5, "acme", 20, 3, "public"),        # a peer after 5, the brand after 20
    (6, "cem", 0, None, "public"), (7, "acme", 30, 6, "direct"),                                    # in private after 30
    (8, "dot", 0, None, "public"),                                                                   # deleted after 40
    (9, "eve", 0, None, "public"), (10, "zoe", 50, 9, "public"),                                     # a peer after 50, accepted after 60
    (11, "fay", 0, None, "public"), (12, "fay", 70, 11, "public"),                                   # says it is resolved after 70
    (13, "gus", 0, None, "public"), (14, "sue", 80, 13, "public"),                                   # answered by staff after 80
    (15, "hal", 0, None, "public"), (16, "bot", 1, 15, "public"), (17, "pat", 2, 15, "public"), (18, "hal", 3, 15, "public"), (19, "zoe", 4, 15, "direct"),   # none of these is a peer's answer
    (20, "ivy", 0, None, "public"), (21, "acme", 15, 20, "public"),                                  # answered after 15, deleted later
    (22, "joe", 0, None, "public"), (23, "joe", 1, 22, "public"),                                    # one of two posts deleted: not gone
], deleted=[(8, 40), (20, 90), (22, 5), (2, 50)], accepted=[(10, 60), (4, None)], resolved=[12])


def ends_by_hand(*competing):
    "Minutes and end of each conversation above"
    deleted, peer, resolved = (name in competing for name in ("deleted", "peer", "resolved"))
    return [(10, "answered"), (5, "peer") if peer else (20, "answered"), (30, "private"), (40, "deleted") if deleted else (10_000, ""),
            (50, "peer") if peer else (60, "resolved") if resolved else (10_000, ""), (70, "resolved") if resolved else (10_000, ""), (80, "staff"), (10_000, ""), (15, "answered"), (10_000, "")]


def incidence(rows, kind, minutes):
    "Aalen–Johansen by its definition: the share that had ended in this way by then"
    alive, total = 1.0, 0.0
    for t in sorted({t for t, end in rows if end and t <= minutes}):
        at_risk = sum(x >= t for x, _ in rows)
        total += alive * sum(x == t and end in kind for x, end in rows) / at_risk
        alive *= 1 - sum(x == t and end != "" for x, end in rows) / at_risk
    return total


@pytest.mark.parametrize("competing", [(), ("deleted",), ("peer",), ("resolved",), ("deleted", "peer", "resolved"), ("peer", "resolved")], ids=",".join)
def test_ends_that_compete(competing):
    rows = ends_by_hand(*competing)
    row = tl.acknowledgement(ENDS, within=("1h", "2h"), competing=competing).frame.row(0, named=True)
    answered, waiting = [r for r in rows if r[1] in ("answered", "staff")], [r for r in rows if r[1] == ""]
    assert (row["n"], row["acknowledged"], row["pending"]) == (10, len(answered), len(waiting)) and row["response_rate"] == len(answered) / 10
    for label, minutes in (("1h", 60), ("2h", 120)): assert abs(row[f"ack_{label}"] - incidence(rows, ("answered", "staff"), minutes)) < 1e-12


def test_deletion_is_the_rule_and_private_always_competes():
    assert tl.acknowledgement(ENDS).frame.equals(tl.acknowledgement(ENDS, competing="deleted").frame) and tl.acknowledgement(ENDS, competing="").frame["pending"][0] == 5
    assert tl.worklist(ENDS).height == tl.acknowledgement(ENDS).frame["pending"][0] == 4


@pytest.mark.parametrize("competing", [("deleted", "peer", "resolved"), ("deleted",), ()], ids=",".join)
def test_first_ends_side_by_side(competing):
    rows = ends_by_hand(*competing)
    m = ack.first_ends(ENDS, within=("1h", "2h"), competing=competing)
    got = {r["end"]: r for r in m.frame.iter_rows(named=True)}
    names = {"brand": "answered"} | {k: k for k in ("staff", "private", "deleted", "peer", "resolved")}
    assert set(got) - {"waiting"} == {k for k, v in names.items() if any(end == v for _, end in rows)}
    for end, row in got.items():
        if end == "waiting": continue
        assert row["ended"] == sum(e == names[end] for _, e in rows) and row["n"] == 10
        for label, minutes in (("1h", 60), ("2h", 120)): assert abs(row[f"share_{label}"] - incidence(rows, (names[end],), minutes)) < 1e-12
    for label in ("1h", "2h"):
        assert abs(sum(r[f"share_{label}"] for r in got.values()) - 1) < 1e-12
        assert all(r[f"share_{label}_low"] <= r[f"share_{label}"] <= r[f"share_{label}_high"] for r in got.values())
    assert sum(r["ended"] for r in got.values()) == 10 and len(m.figure().data) > 0 and len(m.people) == m.frame.height


def test_roles_share_out_the_curve():
    "By role nothing is conditioned on being answered: n and pending are the group's, and the rows' shares add up to the whole curve"
    whole, parts = tl.acknowledgement(ENDS, within="2h").frame, tl.acknowledgement(ENDS, by=("role", "brand"), within="2h")
    assert parts.frame.columns[:2] == ["role", "brand"] and parts.frame["role"].to_list() == ["brand", "staff"] and parts.frame["acknowledged"].to_list() == [3, 1]
    assert parts.frame["n"].to_list() == [10, 10] and set(parts.frame["pending"]) == set(whole["pending"]) and abs(parts.frame["ack_2h"].sum() - whole["ack_2h"][0]) < 1e-12
    assert set(parts.detail["role"]) == {"brand", "staff"} and len(parts.left) == parts.detail.height and len(parts.figure().data) == 6


def test_ends_that_the_store_cannot_show_are_said():
    lab = store([(1, "ann", 0, None, "public"), (2, "acme", 10, 1, "public")])
    assert any("deleted, peer, resolved" in note for note in ack.first_ends(lab).notes)
    for wrong in ("moved", ("peer", "gone")):
        with pytest.raises(InvalidParameter, match="competing must be one of"): tl.acknowledgement(lab, competing=wrong)


# ---- calendars and clocks

@pytest.mark.parametrize("tz", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_weekdays_and_hours_where_one_is(townsfolk, tz):
    lab, rows = townsfolk
    local = lambda u: u["at"].astimezone(ZoneInfo(tz))
    for by, key in ((("weekday",), lambda u: (local(u).strftime("%A"),)), (("hour",), lambda u: (local(u).hour,)), (("brand", "weekday", "hour"), lambda u: (u["brand"], local(u).strftime("%A"), local(u).hour))):
        want = defaultdict(list)
        for u in units(called(rows), "conversation"): want[key(u)].append(u)
        frame = tl.acknowledgement(lab, by=by, tz=tz).frame
        got = {tuple(v.lower() if c == "brand" else v for c, v in zip(by, row)): (n, k) for *row, n, k in frame.select(*by, "n", "acknowledged").rows()}
        assert got == {k: (len(v), sum(u["answered"] is not None for u in v)) for k, v in want.items()}
        if by == ("weekday",): assert frame["weekday"].to_list() == [d for d in counts.DAYS if d in set(frame["weekday"])]
        if by == ("hour",): assert frame["hour"].is_sorted()


@pytest.mark.parametrize("unit", ["conversation", "run"])
def test_quantiles(village, unit):
    lab, rows = village
    end = max(r["at"] for r in rows)
    row = tl.acknowledgement(lab, unit=unit, quantiles=(0.1, 0.25, 0.9, 0.995)).frame.row(0, named=True)
    steps = kaplan_meier(waits(units(called(rows), unit), end))
    for q, stem in ((0.1, "p10"), (0.25, "p25"), (0.5, "median"), (0.9, "p90"), (0.995, "p99.5")):
        assert row[f"{stem}_seconds"] == next((t for t, share in steps if share >= q - 1e-12), None), q
        assert row[f"{stem}_low"] is None or row[f"{stem}_seconds"] is None or row[f"{stem}_low"] <= row[f"{stem}_seconds"]
    assert row["p10_seconds"] is not None and row["p99.5_seconds"] is None


def open_seconds(start, end):
    "Seconds from 9 to 17 on Monday to Friday, Berlin, counted minute by minute over whole minutes"
    total, at, zone = 0, start, ZoneInfo("Europe/Berlin")
    while at < end:
        here = at.astimezone(zone)
        total += 60 * (here.weekday() < 5 and 9 <= here.hour < 17)
        at += timedelta(minutes=1)
    return float(total)


def test_service_levels_on_both_clocks():
    posts = [(i, f"p{i % 5}", 97 * i % 4000, None, "public") for i in range(1, 40)] + [(100 + i, "acme", 97 * i % 4000 + [7, 60, 241, 1500][i % 4], i, "public") for i in range(1, 40) if i % 3]
    lab, hours = store(posts, deleted=[(3, 97 * 3 + 5), (6, 97 * 6 + 1000)], end=5000), {"zone": "Europe/Berlin", "hours": {"mon-fri": "09:00-17:00"}}
    moment = lambda minutes: (ZERO + timedelta(minutes=minutes)).replace(tzinfo=timezone.utc)
    rows = []
    for i in range(1, 40):
        start, answer, gone = 97 * i % 4000, 97 * i % 4000 + [7, 60, 241, 1500][i % 4] if i % 3 else 10**6, {3: 97 * 3 + 5, 6: 97 * 6 + 1000}.get(i, 10**6)
        stop = min(answer, gone, 5000)
        rows.append((60.0 * (stop - start), open_seconds(moment(start), moment(stop)), "answered" if stop == answer else "deleted" if stop == gone else ""))
    for clock, extra in ((0, {}), (1, {"hours": hours})):
        row = tl.acknowledgement(lab, target="4h", **extra).frame.row(0, named=True)
        late = lambda r: r[clock] > 14400
        want = (sum(r[2] == "answered" and not late(r) for r in rows), sum(map(late, rows)), sum(r[2] == "" and not late(r) for r in rows))
        assert (row["sla_met"], row["sla_breached"], row["sla_pending"]) == want and want[0] > 0 and want[1] > 0
        assert sum(want) + sum(r[2] == "deleted" and not late(r) for r in rows) == row["n"] == 39
    half = next(t for t in sorted(r[1] for r in rows) if incidence([(r[1], r[2]) for r in rows], ("answered",), t) >= 0.5 - 1e-12)
    assert row["business_median_seconds"] == half and row["median_seconds"] > half
    assert row["business_median_low"] <= half and (row["business_median_high"] is None or half <= row["business_median_high"])


# ---- people

def test_intervals_against_resampling_people(townsfolk):
    "The half width of response_rate and the spread of ack_24h against 2,000 draws of people, resampled in NumPy"
    lab, rows = townsfolk
    end, items = max(r["at"] for r in rows), units(called(rows), "post")
    times, names = np.array(waits(items, end)), np.unique([u["author"] for u in items], return_inverse=True)[1]
    frame, plain = (tl.acknowledgement(lab, unit="post", interval=i).frame.row(0, named=True) for i in ("person", "unit"))
    rng, rates, curves = np.random.default_rng(1), [], []
    by_time = np.argsort(times[:, 0] - 0.5 * times[:, 1], kind="stable")
    for _ in range(2000):
        w = np.bincount(rng.integers(0, names.max() + 1, names.max() + 1), minlength=names.max() + 1)[names][by_time].astype(float)
        t, hit = times[by_time].T
        rates.append((w * hit).sum() / w.sum())
        y = np.cumsum(w[::-1])[::-1]
        sets = np.append(True, np.diff(t) > 0)
        starts = np.flatnonzero(sets)
        d, risk = np.add.reduceat(w * hit, starts), y[starts]
        curves.append(1 - np.prod((1 - np.divide(d, risk, out=np.zeros(d.size), where=risk > 0))[t[starts] <= 86400]))
    for stem, draws in (("response_rate", rates), ("ack_24h", curves)):
        width, narrow = (r[f"{stem}_high"] - r[f"{stem}_low"] for r in (frame, plain))
        assert frame[stem] == plain[stem] and width > 1.05 * narrow and abs(width / (2 * 1.96 * np.std(draws)) - 1) < 0.05, (stem, width, narrow, np.std(draws))
    assert 1 < frame["effective_n"] < plain["effective_n"] == plain["n"] == frame["n"]


def test_only_intervals_depend_on_people(village):
    lab, _ = village
    for by in ((), "brand", "week"):
        a, b = (tl.acknowledgement(lab, by=by, unit="post", interval=i).frame for i in ("person", "unit"))
        ends = [c for c in a.columns if c.endswith(("_low", "_high")) or c == "effective_n"]
        assert a.drop(ends).equals(b.drop(ends)) and a.columns == b.columns
        for c in ("response_rate", "ack_1h"):
            wider = (a[f"{c}_high"] - a[f"{c}_low"] - (b[f"{c}_high"] - b[f"{c}_low"])).drop_nulls()
            assert (wider >= -1e-12).all() and (by == "brand" or (wider > 0).any())


def test_portions_and_chunks_do_not_matter(townsfolk, monkeypatch):
    "Read in many small portions, and people in small chunks: the same numbers"
    lab, _ = townsfolk
    want = tl.acknowledgement(lab, by=("brand", "week"), unit="post").frame
    whole, some = ack.portions, ack.several
    monkeypatch.setattr(ack, "portions", lambda lab, people, clock="seconds": whole(lab, people, clock, most=50))
    monkeypatch.setattr(ack, "several", lambda lab, portion: some(lab, portion, most=7))
    got = tl.acknowledgement(lab, by=("brand", "week"), unit="post").frame
    assert got.columns == want.columns
    for c in got.columns: assert np.allclose(got[c].cast(pl.Float64), want[c].cast(pl.Float64), atol=1e-12, equal_nan=True) if got[c].dtype == pl.Float64 and got[c].null_count() == 0 else got[c].is_null().equals(want[c].is_null()), c


def test_ranked_brands(townsfolk):
    lab, _ = townsfolk
    m = tl.acknowledgement(lab, by="brand")
    for value in (None, "response_rate", "ack_1h"):
        r = clusters.ranked(m, value, top=2)
        assert sorted(r.frame["rank"]) == list(range(1, m.frame.height + 1)) and r.frame["rank"].is_sorted() and np.isclose(r.frame["in_top"].sum(), 2) and len(r.figure().data)
        raw = dict(m.frame.select("brand", value or "ack_24h").rows())
        assert all(abs(s - raw[b]) < 0.2 for b, s in r.frame.select("brand", "shrunken").rows())
        assert dict(zip(r.frame["brand"], r.people)) == dict(zip(m.frame["brand"], m.people))
    with pytest.raises(InvalidParameter, match="at least two groups"): clusters.ranked(tl.acknowledgement(lab))


# ---- platforms' rates

def test_page_response_rate_of_each_brand(village, townsfolk):
    for lab, rows in (village, townsfolk):
        calls, by_id, said = called(rows), {r["id"]: r for r in rows}, defaultdict(set)
        for c in calls: said[c["brand"], c["author"]].add((c["at"], 0, c["id"]))
        eligible = {(c["brand"], c["id"]) for c in calls}
        for r in rows:
            brand = r["author"].lower()
            if (brand, r["parent"]) in eligible: said[brand, by_id[r["parent"]]["author"]].add((r["at"], 1, ""))
        found, by_call = defaultdict(list), {(c["brand"], c["id"]): c for c in calls}
        for (brand, author), events in sorted(said.items()):
            before = None
            for at, side, call in sorted(events):
                if side == 0 and (before is None or (at - before).total_seconds() >= 86400): found[brand].append({"at": at, "author": author, "answers": []})
                if side == 0 and by_call[brand, call]["answered"] and found[brand] and found[brand][-1]["author"] == author: found[brand][-1]["answers"].append(by_call[brand, call]["answered"])
                before = at
        end, frame = max(r["at"] for r in rows), platform_rates.page_response_rate(lab).frame
        assert {b.lower() for b in frame["brand"]} == {b for b, some in found.items() if some}
        for row in frame.iter_rows(named=True):
            sessions = sorted(found[row["brand"].lower()], key=lambda s: s["at"])
            recent = [s for s in sessions if s["at"] > end - timedelta(days=30)]
            window = recent if len(recent) >= 10 else sessions[-10:]
            if len(recent) < 10 and len(sessions) > 10 and sessions[-11]["at"] == sessions[-10]["at"]: continue
            times = sorted((min(s["answers"]) - s["at"]).total_seconds() for s in window if s["answers"])
            fast = times[: -(-9 * len(times) // 10)]
            assert (row["n"], row["responded"], row["span"]) == (len(window), len(times), "30 days" if len(recent) >= 10 else "last 10"), row
            assert row["page_response_seconds"] == (pytest.approx(mean(fast)) if fast else None) and row["page_response_median_seconds"] == (median(times) if times else None)


def test_question_response_rate(townsfolk, monkeypatch):
    "The same numbers as a loop over the posts that are marked as questions"
    lab, rows = townsfolk
    asked = {r["id"] for r in rows if int(r["id"]) % 3 == 0}
    marked = pl.DataFrame({"post_key": [f"twcs:{i}" for i in sorted(asked)] + ["twcs:1"], "act": ["question"] * len(asked) + ["thanks"], "score": 0.9, "present": True})
    monkeypatch.setattr(tl.Lab, "signals", lambda self, acts: marked.filter(pl.col("act") == acts))
    mine = [c for c in called(rows) if c["id"] in asked]
    row = platform_rates.question_response_rate(lab).frame.row(0, named=True)
    assert (row["n"], row["acknowledged"]) == (len(mine), sum(c["answered"] is not None for c in mine)) and row["question_response_rate"] == row["acknowledged"] / row["n"]
    assert row["devoted"] == (row["question_response_rate"] >= 0.65 and row["n"] >= 50)
    assert tl.acknowledgement(lab, unit="post").frame["n"][0] == len(called(rows)), "asking about questions changes nothing for the next measure"
    monkeypatch.setattr(tl.Lab, "signals", lambda self, acts: marked.filter(pl.col("act") == "thanks").filter(pl.col("act") == acts))
    with pytest.raises(NotIdentifiable, match="no question"): platform_rates.question_response_rate(lab)


# ---- bad input

@pytest.mark.parametrize(("wrong", "says"), [({"quantiles": 50}, "quantiles must lie between 0 and 1"), ({"quantiles": (0.5, "x")}, "quantiles"), ({"interval": "post"}, "interval must be one of"), ({"target": "soon"}, "target must be a positive duration"),
                                             ({"by": "responder"}, "by must be one of"), ({"within": "1 parsec"}, "within must be"), ({"hours": {"hours": {"mon": "9-17"}}}, "hours|zone"), ({"unit": "person"}, "unit must be one of")], ids=str)
def test_wrong_arguments_are_named(wrong, says):
    with pytest.raises(InvalidParameter, match=says): tl.acknowledgement(ENDS, **wrong)


def test_a_store_that_nobody_called():
    lab = store([(1, "acme", 0, None, "public")])
    for measure in (tl.acknowledgement, ack.first_ends, platform_rates.page_response_rate, tl.worklist):
        with pytest.raises(NotIdentifiable, match="No post in this store calls a known brand"): measure(lab)
        with pytest.raises(NotIdentifiable, match="Nothing is loaded"): measure(tl.Lab())


def test_nothing_is_left_behind():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tl.acknowledgement(ENDS, by=("brand", "role"), hours={"zone": "UTC", "hours": {"mon-sun": "00:00-24:00"}}, target="1h"), ack.first_ends(ENDS), platform_rates.page_response_rate(ENDS)
    assert ENDS.sql("select table_name from duckdb_tables() where temporary").is_empty()
