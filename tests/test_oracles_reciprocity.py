"""Census, returns, null models, temporal loops and chains against plain loops, NetworkX and published figures."""
import csv
import itertools
import json
import math
import statistics
import warnings
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings, strategies as st

import trustlab as tl
from trustlab import census, nulls, returns, temporal_loops as tloops
from trustlab.acts import ANSWERED, from_acts, outside
from trustlab.core import InvalidParameter, NotIdentifiable, ScopeWarning
from trustlab.reciprocity import chance, reciprocity

nx = pytest.importorskip("networkx", reason="networkx is not installed")


def arcs_of(people, size): return st.lists(st.tuples(st.integers(0, people - 1), st.integers(0, people - 1)).filter(lambda e: e[0] != e[1]), min_size=1, max_size=size)


def timed_acts(people, size, times): return st.lists(st.tuples(st.integers(0, people - 1), st.integers(0, people - 1), st.integers(0, times)).filter(lambda a: a[0] != a[1]), min_size=1, max_size=size)


def columns(rows): return tuple(np.array(c) for c in zip(*rows))


def lab_of(rows, kinds=None):
    givers, receivers, times = zip(*rows)
    frame = pl.DataFrame({"from": [f"p{g}" for g in givers], "to": [f"p{r}" for r in receivers], "occurred_at": list(times)}, schema_overrides={"occurred_at": pl.Int64})
    return from_acts(frame if kinds is None else frame.with_columns(kind=pl.Series(kinds)))


# ---- census

@settings(max_examples=150)
@given(arcs_of(9, 60), st.integers(0, 3))
def test_the_census_is_that_of_networkx(edges, alone):
    u, v = columns(edges)
    graph = nx.DiGraph(edges)
    n = graph.number_of_nodes() + alone
    graph.add_nodes_from(range(100, 100 + alone))
    assert census.triad_census(u, v, n) == nx.triadic_census(graph)
    mutual = sum(graph.has_edge(b, a) for a, b in graph.edges) // 2
    assert census.dyad_census(u, v, n) == {"mutual": mutual, "asymmetric": graph.number_of_edges() - 2 * mutual, "null": math.comb(n, 2) - graph.number_of_edges() + mutual}
    local, ties = census.local_shares(u, v, 9)
    for p in range(9): assert np.isnan(local[p]) and ties[p] == 0 if p not in graph else (local[p], ties[p]) == (pytest.approx(nx.reciprocity(graph, p)), graph.degree(p))


def test_a_triangle_search_in_small_pieces_finds_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    u, v = np.where(rng.random(600) < 0.3, 3, rng.integers(0, 40, 600)), rng.integers(0, 40, 600)
    u, v = u[u != v], v[u != v]
    whole = census.triad_census(u, v)
    spread = census.spread
    monkeypatch.setattr(census, "spread", lambda begin, size: spread(begin, size, 7))
    assert census.triad_census(u, v) == whole == nx.triadic_census(nx.DiGraph(zip(u.tolist(), v.tolist())))


def test_a_hub_costs_no_more_than_its_ties():
    "A star of 200,000 has 2e10 open threes, which no list could hold"
    n = 200_000
    count = census.triad_census(np.zeros(n, np.int64), np.arange(1, n + 1))
    assert count["021D"] == n * (n - 1) // 2 and count["003"] == math.comb(n + 1, 3) - count["021D"] and sum(count.values()) == math.comb(n + 1, 3)


# ---- returns

@settings(max_examples=200)
@given(timed_acts(4, 50, 12), st.sampled_from([1, 3, 7, 1 << 16]))
def test_returns_coverage_and_ends_by_loops(rows, some):
    "However many acts are looked at together"
    u, v, t = columns(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(returns, "SOME", some)
        back = returns.first_return(u, v, t)
    for i, (a, b, x) in enumerate(rows):
        later = [t[j] for j in range(len(rows)) if u[j] == b and v[j] == a and t[j] > x]
        assert (back[i] >= 0) == bool(later)
        if later: assert u[back[i]] == b and v[back[i]] == a and t[back[i]] == min(later)
    started, ended, pairs = returns.ends_of_pairs(u, v, t)
    sides = defaultdict(lambda: defaultdict(list))
    for a, b, x in rows: sides[frozenset((a, b))][a].append(x)
    both = [s for s in sides.values() if len(s) == 2]
    assert pairs == len(both)
    for found, edge in ((started, min), (ended, max)):
        clear = Counter(next(p for p in s if edge(s[p]) == edge(itertools.chain(*s.values()))) for s in both if len({edge(x) for x in s.values()}) == 2)
        assert Counter(u[found[found >= 0]].tolist()) == clear and (found < 0).sum() == len(both) - clear.total()
    for span in (13.0, None):
        part = returns.coverage(u, v, t, 3, span)
        for i, (a, b, _) in enumerate(rows):
            reply, own = [t[j] for j in range(len(rows)) if (u[j], v[j]) == (b, a)], [t[j] for j in range(len(rows)) if (u[j], v[j]) == (a, b)]
            size = span or max(reply + own) - min(reply + own)
            fine = (np.arange(5000) + 0.5) / 5000 * size
            hit = [((np.array(reply)[:, None] - fine) % size <= 3).any(axis=0).mean()] if reply and size else [1.0 if reply else 0.0]
            assert part[i] == pytest.approx(hit[0], abs=2e-3)


def test_a_busy_pair_is_no_slower_than_many_pairs():
    "A hundred thousand acts of one pair: twice the work of a search that looks at each act once, not its square"
    n = 100_000
    u = np.random.default_rng(0).integers(0, 2, n)
    back = returns.first_return(u, 1 - u, np.arange(n))
    assert (u[back[back >= 0]] != u[back >= 0]).all() and (np.diff(np.flatnonzero(back < 0)) == 1).all()
    assert tloops.all_loops(u, 1 - u, np.arange(n), n, [2])[0][0] == (u == 0).sum() * (u == 1).sum()


def test_return_times_by_loops():
    rng = np.random.default_rng(2)
    rows = [(int(a), int(b), int(x)) for a, b, x in zip(rng.integers(0, 6, 400), rng.integers(0, 6, 400), rng.integers(0, 3000, 400)) if a != b]
    kind = ["reply" if (a + b) % 2 else "mention" for a, b, _ in rows]
    with lab_of(rows, kind) as lab: measure = returns.return_times(lab, by="kind", window="60s")
    end = max(x for _, _, x in rows)
    for row in measure.frame.iter_rows(named=True):
        mine = [r for r, k in zip(rows, kind) if k == row["kind"]]
        after = [min((x for a, b, x in rows if (a, b) == (r[1], r[0]) and x > r[2]), default=math.inf) - r[2] for r in mine]
        assert row["given"] == len(mine) and row["returned"] == sum(w <= 60 for w in after)
        assert row["returning_acts"] == len({(r[1], r[0], r[2] + w) for r, w in zip(mine, after) if w <= 60})
        whole, missed, open_ = [r for r in mine if end - r[2] >= 60], 0, 0
        for r in whole:
            reply = sorted(x for a, b, x in rows if (a, b) == (r[1], r[0]))
            span = end - min(x for _, _, x in rows)
            gaps = [b - a for a, b in zip(reply, reply[1:])] + [span - reply[-1] + reply[0]] if reply else []
            missed += not any(0 < x - r[2] <= 60 for x in reply)
            open_ += 1 - sum(min(g, 60) for g in gaps) / span
        replied = max((1 - missed / open_) / (1 - missed / open_ * 60 / span), 0)
        open_ /= 1 - replied * 60 / span
        assert row["attributable"] == pytest.approx(1 - missed / open_) and row["by_chance"] == pytest.approx(1 - open_ / len(whole)) and row["attributable_low"] < row["attributable"] < row["attributable_high"]
        assert row["naive_median_seconds"] == np.median([w for w in after if w < math.inf])
    assert measure.detail.group_by("kind").len().height == 2 and measure.frame["started"].sum() + measure.frame["ended"].sum() > 0


def first_contacts(rows, kinds, window):
    "Per kind of the pair's first act (of several in that moment the first by name): pairs, those whose other side acted within the window, waits of those that did, and all waits with what they ended in"
    end, acts, found = max(x for _, _, x in rows), defaultdict(list), defaultdict(list)
    for (a, b, x), kind in zip(rows, kinds): acts[frozenset((a, b))].append((x, kind, a))
    for each in acts.values():
        x, kind, _ = min(each)
        sides = [min(t for t, _, who in each if who == a) for a in {who for _, _, who in each}]
        found[kind].append((max(sides) - x, 1) if len(sides) == 2 else (end - x, 0))
    return {kind: (len(w), sum(hit and t <= window for t, hit in w), [t for t, hit in w if hit], w) for kind, w in found.items()}


@settings(max_examples=60)
@given(timed_acts(6, 40, 15), st.integers(0, 15), st.integers(0, 3))
def test_pairs_by_loops(rows, window, seed):
    "Each pair once, with ties in its first moment: counts, medians and Kaplan–Meier by group; one row each where nothing groups them, with the dyads of the whole network"
    kinds = np.random.default_rng(seed).choice(["mention", "reply"], len(rows)).tolist()
    window += 1
    with lab_of(rows, kinds) as lab:
        frame, all_, network = returns.return_times(lab, by="kind", window=window, unit="pair").frame, returns.return_times(lab, by=(), window=99, unit="pair").frame.row(0, named=True), reciprocity(lab).frame.row(0, named=True)
    want = first_contacts(rows, kinds, window)
    assert frame["kind"].to_list() == sorted(want) and "attributable" not in frame.columns
    for row in frame.iter_rows(named=True):
        pairs, returned, waits, ends = want[row["kind"]]
        assert (row["given"], row["returned"], row["returning_acts"], row["naive_median_seconds"]) == (pairs, returned, returned, np.median(waits) if waits else None)
        alive = math.prod(1 - sum(hit and t == s for s, hit in ends) / sum(s >= t for s, _ in ends) for t in sorted({t for t, hit in ends if hit and t <= window}))
        if row["return_rate"] is not None: assert row["return_rate"] == pytest.approx(1 - alive)
        else: assert max(t for t, _ in ends) < window and alive > 0
    assert (all_["given"], all_["returned"]) == (network["mutual"] + network["asymmetric"], network["mutual"])


# ---- loops and chains

def brute_loops(rows, window, length):
    "All loops, act by act"
    found = []
    def go(chain):
        first, last = rows[chain[0]], rows[chain[-1]]
        if len(chain) == length:
            if last[1] == first[0]: found.append(tuple(chain))
            return
        visited = {rows[i][0] for i in chain}
        if last[1] in visited: return
        for j, (a, _, t) in enumerate(rows):
            if a == last[1] and last[2] < t <= first[2] + window: go([*chain, j])
    for i in range(len(rows)): go([i])
    return found


@settings(max_examples=150)
@given(timed_acts(6, 45, 25), st.integers(1, 20), st.sampled_from([(1_000_000, 10_000, 1_000_000), (3, 1, 0), (3, 4, 9)]))
def test_loops_are_those_of_a_plain_search(rows, window, sizes):
    "Whether all acts are in one slice of time or in many, and whatever is looked at together"
    u, v, t = columns(rows)
    lengths = (2, 3, 4, 5)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("CHUNK", "LEAST", "SLICE"), sizes): patch.setattr(tloops, name, size)
        told, first = (tloops.all_loops(u, v, t, window, lengths, most=most) for most in (10_000, 3))
    place = np.empty(t.size, int)
    place[np.argsort(t, kind="stable")] = np.arange(t.size)
    for length, (count, people, listed), (_, _, three) in zip(lengths, told, first):
        found = sorted(brute_loops(rows, window, length), key=lambda loop: [place[i] for i in loop])
        assert count == len(found) and people.tolist() == sorted({rows[i][0] for loop in found for i in loop})
        assert list(map(tuple, listed.tolist())) == found and list(map(tuple, three.tolist())) == found[:3]


def test_slices_of_time_hold_every_loop_once():
    "Sixty days of acts in slices of one window: as many loops as in one search of all, and most acts are looked at once or never"
    rng = np.random.default_rng(1)
    u, v, t = *rng.integers(0, 500, (2, 60_000)), rng.integers(0, 5_000, 60_000)
    u, v, t = (x[u != v] for x in (u, v, t))
    whole = [tloops.loops_found(tloops.web(u, v, t, 40), k, most=50) for k in (2, 3, 4)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tloops, "LEAST", 1)
        patch.setattr(tloops, "SLICE", 0)
        sliced, webs = tloops.all_loops(u, v, t, 40, [2, 3, 4], most=50), list(tloops.webs(u, v, t, 40))
    begun = sum(web.until for web in webs)
    assert len(webs) > 20 and begun < u.size and begun < sum(web.act.size for web in webs) < 1.5 * begun
    for one, other in zip(whole, sliced):
        assert one[0] == other[0] > 0 and (one[1] == other[1]).all() and (np.sort(t[one[2][:, 0]]) == t[other[2][:, 0]]).all()


def test_a_long_list_of_a_chatty_pair_is_not_written_out_before_it_is_cut():
    n = 20_000
    u = np.random.default_rng(0).integers(0, 2, n)
    later = np.append(np.cumsum(u[::-1])[::-1], 0)
    count, _, listed = tloops.all_loops(u, 1 - u, np.arange(n), n, [2], most=50_000)[0]
    assert count == (u == 0).sum() * (u == 1).sum() and listed.shape == (50_000, 2) and (np.diff(listed[:, 0]) >= 0).all()
    firsts, sizes = np.unique(listed[:, 0], return_counts=True)
    assert all(size == (later[i + 1] if u[i] == 0 else n - i - 1 - later[i + 1]) for i, size in zip(firsts[:-1], sizes[:-1])) and firsts.tolist() == list(range(firsts.size))


@pytest.mark.parametrize("kind", ("int16", "int32", "uint32", "int64"))
def test_times_of_any_width_and_windows_of_any_length(kind):
    u, v, t = np.array([0, 1, 2], np.uint32), np.array([1, 2, 0], np.uint32), (np.array([10, 8, 5]) * -1 + np.iinfo(kind).max if kind != "int64" else np.array([1, 2, 3])).astype(kind)
    for window in (5, 100, 3e9, 1e19, float("inf")): assert tloops.all_loops(u, v, t, window, [3])[0][0] == 1
    assert tloops.all_loops(u, v, t, 1, [3])[0][0] == 0


@pytest.mark.parametrize("people", (2, 17, 2**15, 2**20, 2**27, 2**31 - 1))
def test_acts_lie_side_by_side_by_pair_then_time(people):
    from trustlab.returns import by_pair
    rng = np.random.default_rng(people)
    for n in (1, 2, 40, 700):
        u, v, t = rng.integers(0, people, n), rng.integers(0, people, n), rng.integers(0, 30, n)
        u[n // 2 :], v[n // 2 :] = v[: n - n // 2], u[: n - n // 2]
        order, pair = by_pair(u, v, t)
        key = [tuple(sorted(k)) for k in zip(u[order].tolist(), v[order].tolist())]
        assert sorted(order.tolist()) == list(range(n)) and [a == b for a, b in zip(key, key[1:])] == (pair[1:] == pair[:-1]).tolist() and (pair[1:] >= pair[:-1]).all()
        assert len(set(key)) == np.unique(pair).size and all(k != m or (t[i], i) < (t[j], j) for k, m, i, j in zip(key, key[1:], order, order[1:]))


def test_a_window_longer_than_all_times_holds_every_loop_however_times_are_rounded():
    at = np.arange(30)
    u, v, whole = at % 3, (at + 1) % 3, None
    for time in (at, at / 7, (at + 8) / 7, (at + 15) / 7, (at + 25) / 7):
        found = tloops.all_loops(u, v, time, 1e9, [3])[0][0]
        assert found == (whole := whole or found) > 0


def test_times_that_are_far_from_the_rest_make_no_slices_of_their_own():
    at = np.append(np.arange(50_000), 10**15)
    assert len(tloops.cuts(at, 10, 10_000)) == 7 and tloops.cuts(at[:0], 10, 1) == [0] and tloops.cuts(np.array([0, 5, 5, 5, 10, 11, 16]), 5, 1) == [0, 4, 6, 7]
    assert [f[0] for f in tloops.all_loops(at[:0], at[:0], at[:0], 10, [2, 3])] == [0, 0]


@pytest.mark.parametrize("seed", range(8))
def test_loops_of_a_dense_network(seed):
    "Ninety acts among a few people, so that most paths cross themselves, meet the hub again, or come home too late"
    rng = np.random.default_rng(seed)
    rows = [(int(a), int(b), int(t)) for a, b, t in zip(rng.integers(0, 5 + seed % 3, 90), rng.integers(0, 5 + seed % 3, 90), rng.integers(0, 40, 90)) if a != b]
    u, v, t = columns(rows)
    for length in (2, 3, 4, 5):
        found = brute_loops(rows, 22, length)
        count, people, listed = tloops.all_loops(u, v, t, 22, [length], most=100_000)[0]
        assert count == len(found) > 0 and sorted(map(tuple, listed.tolist())) == sorted(found)
        for most in (1, 4):
            first = tloops.all_loops(u, v, t, 22, [length], most=most)[0][2]
            assert [t[r[0]] for r in first.tolist()] == sorted(t[r[0]] for r in found)[:most]


@pytest.mark.parametrize("length", (2, 3, 4, 5))
def test_a_lone_loop_is_found_wherever_its_busiest_member_stands(length):
    for hub in range(length):
        ring = [(i, (i + 1) % length, 10 + i) for i in range(length)] + [(hub, 9, 500), (9, hub, 900)]
        u, v, t = columns(ring)
        assert [f[0] for f in tloops.all_loops(u, v, t, 50, [2, 3, 4, 5])] == [int(k == length) for k in (2, 3, 4, 5)]
        assert tloops.all_loops(u, v, t, length - 2, [length])[0][0] == 0


def brute_chains(rows, window, length):
    "How many acts begin a chain of `length`, and who is in one"
    order = sorted(range(len(rows)), key=lambda i: rows[i][2])
    count, inside = 0, set()
    for start in order:
        chain, people = [start], [rows[start][0], rows[start][1]]
        while len(chain) < length:
            t = rows[chain[-1]][2]
            later = [i for i in order if rows[i][0] == people[-1] and t < rows[i][2] <= t + window and rows[i][1] not in people]
            if not later: break
            chain.append(later[0])
            people.append(rows[later[0]][1])
        if len(chain) == length: count, inside = count + 1, inside | set(people)
    return count, inside


@settings(max_examples=100)
@given(timed_acts(6, 45, 25), st.integers(1, 20))
def test_chains_are_those_of_a_plain_search(rows, window):
    u, v, t = columns(sorted(rows, key=lambda r: r[2]))
    ordered = list(zip(u.tolist(), v.tolist(), t.tolist()))
    woven = tloops.web(u, v, t, window)
    for length, path in enumerate(tloops.chains(woven, 5), 1):
        count, inside = brute_chains(ordered, window, length)
        assert path.shape == (length, count)
        assert set(woven.code[np.append(woven.giver[path[0]], woven.receiver[path])].tolist()) == inside


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.one_of(st.none(), st.integers(0, 30))), min_size=1, max_size=40))
def test_the_measure_of_loops_leaves_out_and_counts(rows):
    real = [r for r in rows if r[0] != r[1] and r[2] is not None]
    assume(any(r[2] is not None for r in rows))
    with lab_of(rows) as lab:
        if not real:
            with pytest.raises(NotIdentifiable): tloops.loops(lab)
            return
        measure, forward = tloops.loops(lab, max_length=4, window="9s", most=1000), tloops.pay_forward(lab, max_length=4, window="9s")
    for row in measure.frame.iter_rows(named=True):
        found = brute_loops(real, 9, row["length"])
        assert row["count"] == len(found) and row["people"] == len({real[i][0] for loop in found for i in loop})
        shown = measure.detail.filter(pl.col("length") == row["length"])
        said = [tuple((f"p{real[i][0]}", f"p{real[i][1]}", real[i][2]) for i in loop) for loop in found]
        assert Counter(said) == Counter(tuple((a, b, int(x.timestamp() if x.tzinfo else x.replace(tzinfo=__import__("datetime").timezone.utc).timestamp())) for a, b, x in part.select("from", "to", "occurred_at").rows()) for part in shown.partition_by("loop", maintain_order=True))
    assert forward.frame["share"].to_list() == pytest.approx([brute_chains(real, 9, k)[0] / len(real) for k in (2, 3, 4)])
    own, undated = sum(a == b for a, b, _ in rows), sum(t is None for _, _, t in rows)
    assert [n for n in measure.notes if n.startswith("left out")] == [f"left out: {n:,} {what}" for n, what in ((own, "acts towards oneself"), (undated, "acts without a date")) if n]


def test_a_hub_in_every_other_act_is_never_passed_through():
    "Forty thousand acts to and from one account: the simple way would look at hundreds of millions of pairs of acts"
    rng = np.random.default_rng(3)
    n, hub = 40_000, 5000
    u, v, t = rng.integers(0, 5000, n), rng.integers(0, 5000, n), np.sort(rng.integers(0, 10_000_000, n))
    way = rng.random(n)
    u, v = np.where(way < 0.3, hub, u), np.where(way > 0.7, hub, v)
    keep = u != v
    u, v, t = u[keep], v[keep], t[keep]
    steps, spread = [], tloops.spread
    tloops.spread = lambda begin, size, most: (steps.append(part := (i, j)) or part for i, j in spread(begin, size, most))
    try: found = [f[0] for f in tloops.all_loops(u, v, t, 300_000, [2, 3])]
    finally: tloops.spread = spread
    assert sum(i.size for i, _ in steps) < 40 * n
    joined = pl.DataFrame({"u": u, "v": v, "t": t})
    two = joined.join(joined, left_on="v", right_on="u", suffix="2").filter((pl.col("v2") == pl.col("u")) & (pl.col("t2") > pl.col("t")) & (pl.col("t2") <= pl.col("t") + 300_000)).height
    plain = joined.filter((pl.col("u") != hub) & (pl.col("v") != hub))
    assert found[0] == two
    low = [joined.filter(pl.col("u") == hub), plain, joined.filter(pl.col("v") == hub)]
    three = low[0].join(low[1], left_on="v", right_on="u", suffix="2").join(low[2], left_on="v2", right_on="u", suffix="3")
    turns = sum(three.filter((pl.col(b) > pl.col(a)) & (pl.col(c) > pl.col(b)) & (pl.col(c) <= pl.col(a) + 300_000)).height for a, b, c in (("t", "t2", "t3"), ("t2", "t3", "t"), ("t3", "t", "t2")))
    rest = sum(1 for _ in brute_loops_fast(plain, 300_000))
    assert found[1] == turns + rest


def brute_loops_fast(frame, window):
    "Loops of three among acts, by dictionary"
    by = defaultdict(list)
    for a, b, t in frame.rows(): by[a].append((b, t))
    for a, b, t in frame.rows():
        for c, x in by[b]:
            if c != a and t < x <= t + window:
                for d, y in by[c]:
                    if d == a and x < y <= t + window: yield a, b, c


# ---- null models

@settings(max_examples=60)
@given(arcs_of(9, 40), st.integers(0, 5))
def test_null_models_keep_what_they_say(edges, seed):
    u, v = columns(edges)
    at, role = np.arange(u.size) // 2, (u % 2) * 2 + v % 2
    arcs = {(a, b) for a, b in edges}
    for null in nulls.NULLS:
        draws = nulls.act_draws(u, v, at, role, null, seed)
        for _ in range(3):
            g, r, t = next(draws)
            drawn = set(zip(g.tolist(), r.tolist()))
            assert (g != r).all() and len(drawn) == len(arcs) and sorted(t.tolist()) == at.tolist()
            for end in (0, 1): assert Counter(e[end] for e in drawn) == Counter(e[end] for e in arcs)
            if null == "role": assert Counter((a % 2, b % 2) for a, b in drawn) == Counter((a % 2, b % 2) for a, b in arcs)
            if null == "time": assert Counter(zip(g.tolist(), r.tolist())) == Counter(edges)


@pytest.mark.parametrize("u, v", [([0, 0, 1, 2, 3, 4], [1, 2, 2, 3, 4, 0]), ([0, 1, 2, 3], [1, 2, 3, 0])])
def test_every_network_with_these_degrees_is_as_likely(u, v):
    "All simple networks with given numbers, listed by brute force; draws are uniform over them (chi-square)"
    u, v = np.array(u), np.array(v)
    pool, every = Counter(v.tolist()), set()
    for order in set(itertools.permutations(v.tolist())):
        drawn = frozenset(zip(u.tolist(), order))
        if len(drawn) == u.size and all(a != b for a, b in drawn): every.add(drawn)
    assert all(Counter(b for _, b in d) == pool for d in every) and len(every) >= 9
    draws = nulls.rewired(u, v, np.zeros(u.size, int), np.random.default_rng(4), rounds=12)
    n = 100 * len(every)
    seen = Counter(frozenset(zip(u.tolist(), next(draws).tolist())) for _ in range(n))
    assert set(seen) == every
    square = sum((seen[d] - 100) ** 2 / 100 for d in every)
    assert square < len(every) - 1 + 4 * math.sqrt(2 * (len(every) - 1))


def test_times_are_shuffled_evenly():
    draws = nulls.shuffled(np.array([1, 2, 3, 10, 20]), np.array([0, 0, 0, 1, 1]), np.random.default_rng(5))
    seen = Counter(tuple(next(draws).tolist()) for _ in range(12_000))
    assert len(seen) == 12 and max(abs(n - 1000) for n in seen.values()) < 150 and all(s[3:] in ((10, 20), (20, 10)) for s in seen)


def test_the_permutation_p_is_exact():
    "Where the observation is one draw among others, p is at most α in at most a share α of cases, for every α that the draws can tell"
    rng = np.random.default_rng(6)
    drawn = rng.poisson(3, (20, 2000)).astype(float)
    p = nulls.against(drawn[0], drawn[1:])["p"]
    for alpha in (0.05, 0.1, 0.5): assert (p <= alpha + 1e-12).mean() <= alpha + 3 * math.sqrt(alpha / 2000)
    assert p.min() >= 1 / 20


def test_the_null_of_a_group_stays_in_its_group():
    "Two groups that share no person: each gets the numbers that it gets alone"
    rng = np.random.default_rng(7)
    rows = pl.DataFrame({"giver": rng.integers(0, 12, 150), "receiver": rng.integers(0, 12, 150), "at": rng.integers(0, 10**9, 150)}).filter(pl.col("giver") != pl.col("receiver"))
    rows = rows.with_columns(brand=pl.lit("a"))
    both = pl.concat([rows, rows.with_columns(pl.lit("b").alias("brand"), pl.col("receiver") * 0 + (pl.col("giver") + 1) % 12)])
    code = (both["brand"] == "b").cast(pl.Int64).to_numpy()
    together, alone = chance(both, ("brand",), code, 2, "configuration", 0, 400, 1), chance(rows, (), np.zeros(rows.height, int), 1, "configuration", 0, 400, 2)
    error = 5 * alone["null_sd"][0] / 20
    assert together["null_mean"][0] == pytest.approx(alone["null_mean"][0], abs=error) and together["null_sd"][0] == pytest.approx(alone["null_sd"][0], rel=0.25)
    assert together["null_mean"][1] < together["null_mean"][0]


# ---- bad input

WRONG = [(f, wrong) for f in ("loops", "pay_forward", "return_times", "reciprocity") for wrong in ({"window": "-7d"}, {"window": 0}, {"window": "soon"}, {"per": "family"})]
WRONG += [("loops", w) for w in ({"max_length": 6}, {"max_length": 1}, {"max_length": 2.5}, {"null": "luck"}, {"null": "time", "draws": 1}, {"null": "time", "seed": -1}, {"most": -1})]
WRONG += [("reciprocity", {"null": "luck"}), ("reciprocity", {"by": "colour"}), ("return_times", {"by": "colour"}), ("return_times", {"span": "year"}), ("return_times", {"unit": "post"}), ("pay_forward", {"max_length": 11})]
CALLS = {"loops": tloops.loops, "pay_forward": tloops.pay_forward, "return_times": returns.return_times, "reciprocity": reciprocity}


@pytest.mark.parametrize("name, wrong", WRONG)
def test_wrong_arguments_are_named(name, wrong):
    with lab_of([(0, 1, 0), (1, 0, 5)]) as lab, pytest.raises(InvalidParameter, match=next(iter(k for k in wrong if k != "null" or len(wrong) == 1))) as error: CALLS[name](lab, **wrong)
    assert "got" in str(error.value)


# ---- local reciprocity of a store

ROLE_OF = {"p0": "brand", "p1": "staff", "p2": "customer", "p3": "customer", "p4": "customer", "p5": "partner"}


def brute_local(rows, names):
    "For each name: how many ties it has, in and out, and which share of them go both ways; None without a tie"
    arcs = {(f"p{a}", f"p{b}") for a, b, _ in rows if a != b}
    ties = {name: [arc for arc in arcs if name in arc] for name in names}
    return {name: (len(mine), sum((b, a) in arcs for a, b in mine) / len(mine) if mine else None) for name, mine in ties.items()}


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 50)), min_size=1, max_size=40))
def test_local_reciprocity_by_a_plain_loop(rows):
    "Everybody acts towards themselves too, so that whoever has no other act is in the store without a tie"
    assume(any(a != b for a, b, _ in rows))
    names = [f"p{i}" for i in range(7)]
    with lab_of(rows + [(i, i, 60) for i in range(7)]) as lab:
        lab.roles(pl.DataFrame([{"account": name, "role": role, "brand": "p0" if role in ("brand", "staff") else None} for name, role in ROLE_OF.items()]))
        measure = tl.local_reciprocity(lab)
    want = brute_local(rows, names)
    assert {name: (ties, share) for name, _, ties, share in measure.detail.rows()} == {name: (ties, share if share is None else pytest.approx(share)) for name, (ties, share) in want.items()}
    assert dict(measure.detail.select("name", "role").rows()) == ROLE_OF | {"p6": "unknown"}
    assert measure.frame["role"].to_list() == ["customer", "staff", "partner", "brand", "unknown", "any"]
    for row, people in zip(measure.frame.rows(named=True), measure.people):
        group = names if row["role"] == "any" else [n for n in names if (ROLE_OF | {"p6": "unknown"})[n] == row["role"]]
        shares = [want[n][1] for n in group if want[n][0]]
        assert (row["accounts"], row["tied"]) == (len(group), len(shares))
        assert row["local_reciprocity"] == (pytest.approx(sum(shares) / len(shares)) if shares else None) and row["median"] == (pytest.approx(statistics.median(shares)) if shares else None)
        assert (row["none_returned"], row["all_returned"]) == ((shares.count(0) / len(shares), shares.count(1) / len(shares)) if shares else (None, None))
        folk = {n for n in group if n != "p0"}
        about = {n for n in folk if want[n][0]} or folk if row["role"] != "brand" else {f"p{b if a == 0 else a}" for a, b, _ in rows if a != b and 0 in (a, b)}
        assert people == len(about)


def test_local_reciprocity_of_kinds_brands_and_persons():
    rows = [(0, 1, 0), (1, 0, 5), (0, 2, 6), (2, 3, 7), (3, 2, 8)]
    with lab_of(rows, ["reply", "mention", "reply", "reply", "like"]) as lab:
        lab.roles(pl.DataFrame({"account": ["p0"], "role": ["brand"], "brand": ["p0"]}))
        of = lambda **given: dict(tl.local_reciprocity(lab, **given).detail.select("name", "local_reciprocity").rows())
        assert of() == {"p0": 2 / 3, "p1": 1, "p2": 0, "p3": 0} and of(kinds=["reply", "like"])["p3"] == 1 and of(kinds="mention") == {"p0": 0, "p1": 0, "p2": None, "p3": None}
        assert of(brand="p0") == {"p0": 2 / 3, "p1": 1, "p2": 0, "p3": None}
        lab.identify(pl.DataFrame({"account": ["p1", "p2"], "person": ["Ben", "Ben"]}))
        joint = tl.local_reciprocity(lab, per="person")
        assert joint.frame["accounts"].to_list() == [1, 2, 3] and joint.frame["local_reciprocity"].to_list() == pytest.approx([1, (2 / 3 + 0) / 2, (1 + 2 / 3 + 0) / 3]) and joint.people == [1, 2, 2]
        with pytest.raises(InvalidParameter, match="brand 'nobody'"): of(brand="nobody")


def test_local_reciprocity_hides_small_groups_and_small_bars():
    rows = [(0, i, i) for i in range(2, 12)] + [(i, 0, 20 + i) for i in range(2, 9)] + [(1, 2, 40), (1, 3, 40)]
    with lab_of(rows) as lab:
        lab.roles(pl.DataFrame([{"account": f"p{i}", "role": ("brand", "staff")[i] if i < 2 else "customer", "brand": "p0" if i < 2 else None} for i in range(12)]))
        shown, hidden = tl.local_reciprocity(lab), tl.local_reciprocity(lab).suppressed(5)
    assert shown.frame["role"].to_list() == ["customer", "staff", "brand", "any"] and shown.people == [10, 1, 10, 11] and hidden.hidden[1] == "<5" and hidden.hidden.count("not shown") == 1
    numbers = hidden.frame.filter(pl.Series(hidden.hidden) != "").drop("role")
    assert numbers.height == 2 and all(value is None for row in numbers.rows() for value in row) and "staff" not in hidden.detail["role"]
    bars = lambda measure: [n for bar in measure.figure().data for n in bar.y if n]
    assert sum(bars(shown)) == 12 and 1 in bars(shown) and all(n >= 5 for n in bars(hidden))
    assert "n = 12 accounts with a tie · the whole export" in shown.figure().layout.title.text.replace("<br>", " ").replace('<span style="font-size:12px;color:#555555">', "").replace("</span>", "")


# ---- what is said about acts

OF_ACTS = (*CALLS.values(), tl.triads, tl.local_reciprocity)


@pytest.mark.parametrize("ask", OF_ACTS)
def test_a_collection_of_answered_conversations_is_said_and_warned_of(ask):
    with lab_of([(0, 1, 0), (1, 0, 5), (1, 2, 9)]) as lab:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ScopeWarning)
            assert ANSWERED not in ask(lab).notes
        lab.con.execute("update load set scope = 'answered'")
        with pytest.warns(ScopeWarning, match="kept only conversations with an answer"): measure = ask(lab)
    assert measure.notes.count(ANSWERED) == 1


def test_the_first_rows_of_twcs_are_such_a_collection(shared):
    with tl.Lab() as lab:
        lab.load(shared / "twcs-first-rows-pandas", progress=False)
        for ask in (lambda: tl.reciprocity(lab, by="role_pair"), lambda: tl.return_times(lab), lambda: tl.loops(lab), lambda: tl.triads(lab), lambda: tl.circles(lab)):
            with pytest.warns(ScopeWarning, match="kept only conversations with an answer"): assert ask().notes[0] == ANSWERED


@pytest.mark.parametrize("ask", OF_ACTS)
def test_kinds_are_one_name_or_several_and_in_the_store(ask):
    with lab_of([(0, 1, 0), (1, 0, 5), (0, 1, 9)], ["reply", "reply", "like"]) as lab:
        one, same = ask(lab, kinds="reply"), ask(lab, kinds=("reply",))
        assert one.frame.equals(same.frame) and one.params["kinds"] == same.params["kinds"] == ["reply"] and ask(lab).params["kinds"] is None
        for wrong in (["repply"], "repply", ["reply", "repply"]):
            with pytest.raises(InvalidParameter, match="kinds must be one of reply, like; got 'repply'"): ask(lab, kinds=wrong)
        with pytest.raises(InvalidParameter, match="kinds must be one of .*got 5"): ask(lab, kinds=5)


def test_only_acts_of_the_kinds_that_count_are_said_to_be_left_out():
    rows = [(0, 1, 0), (1, 0, 5), (0, 0, 6), (1, 1, 7), (0, 1, None), (1, 0, None), (0, 1, None), (None, 1, 8), (None, 0, 8)]
    frame = pl.DataFrame({"from": [None if a is None else f"p{a}" for a, _, _ in rows], "to": [f"p{b}" for _, b, _ in rows], "occurred_at": [t for _, _, t in rows],
                          "kind": ["reply", "reply", "reply", "like", "follow", "follow", "like", "like", "reply"]})
    left = lambda own, undated, nobody: [f"left out: {n} {what}" for n, what in ((own, "acts towards oneself"), (undated, "acts without a date"), (nobody, "acts by unknown accounts")) if n]
    with from_acts(frame) as lab:
        assert outside(lab) == left(1, 0, 1) == [n for n in reciprocity(lab).notes if n.startswith("left out")]
        assert outside(lab, kinds=["reply", "like"]) == left(2, 1, 2) and outside(lab, kinds=["follow"]) == left(0, 2, 0)
        assert [n for n in tl.reciprocity(lab, kinds=["reply", "like"]).notes if n.startswith("left out")] == left(2, 1, 2)


def test_the_kinds_of_posts_that_count_are_told_apart():
    with lab_of([(0, 1, 0), (1, 0, 5)]) as lab:
        post = "insert into post by name select 'acts:x' || {0} as post_key, 'acts' as platform, {1} as author_key, 'post' as kind, timestamp '1970-01-01' as created_at, 'public' as visibility, 'acts:p0' as reply_to_account, {2} as reply_to_key"
        for i, author, parent in ((1, "'acts:p0'", "'acts:y'"), (2, "'acts:p0'", "null"), (3, "null", "'acts:y'"), (4, "'acts:p1'", "'acts:y'")): lab.con.execute(post.format(i, author, parent))
        assert outside(lab) == ["left out: 2 acts towards oneself", "left out: 1 posts of deleted or unknown authors"]
        assert outside(lab, kinds=["mention"]) == ["left out: 1 acts towards oneself"] and outside(lab, kinds=["act"]) == []


def moments(rows):
    "How many acts have another of the same giver at the same time towards somebody else"
    return sum(any(a == c and t == s and b != d for c, d, s in rows) for a, b, t in rows)


@settings(max_examples=60)
@given(timed_acts(5, 14, 6), st.permutations(range(5)))
def test_of_acts_at_one_moment_the_first_key_is_passed_on_to(rows, names):
    "The rule holds under any names: a plain search over the acts in the order of time and of the receiver's key gives the same chains"
    called = [(names[a], names[b], t) for a, b, t in rows]
    with lab_of(called) as lab: measure = tl.pay_forward(lab, max_length=4, window="4s")
    ordered = sorted(called, key=lambda row: (row[2], f"p{row[1]}"))
    assert measure.frame["count"].to_list() == [brute_chains(ordered, 4, k)[0] for k in (2, 3, 4)] and "whose key comes first" in measure.card.assumptions
    assert [n for n in measure.notes if "stand in a moment" in n] == [f"{n} acts stand in a moment in which their giver also acted towards somebody else; where such acts come first, the one towards the account whose key comes first counts" for n in [moments(rows)] if n]


def test_names_can_change_what_is_passed_on_and_the_note_says_so():
    rows = [("a", "b", 0), ("b", "c", 5), ("b", "d", 5), ("c", "e", 7)]
    swap = {"c": "d", "d": "c"}
    frame = lambda rows: pl.DataFrame(rows, schema=["from", "to", "occurred_at"], orient="row")
    with from_acts(frame(rows)) as lab, from_acts(frame([(swap.get(a, a), swap.get(b, b), t) for a, b, t in rows])) as other:
        one, two = tl.pay_forward(lab), tl.pay_forward(other)
    assert one.frame["count"].to_list() == [2, 1, 0, 0] and two.frame["count"].to_list() == [2, 0, 0, 0]
    assert one.notes == two.notes and one.notes[-1].startswith("2 acts stand in a moment")


def test_the_rule_of_one_moment_holds_in_draws_too(monkeypatch):
    "A draw that turns out to be the network itself, its acts in another order, has the same chains"
    rows = [(0, 1, 0), (1, 3, 5), (1, 2, 5), (2, 4, 7)]
    def itself(giver, receiver, at, *rest):
        while True: yield giver[::-1], receiver[::-1], at[::-1]
    monkeypatch.setattr(tloops, "act_draws", itself)
    with lab_of(rows) as lab: frame = tl.pay_forward(lab, null="configuration", draws=2).frame
    assert frame["null_mean"].to_list() == frame["count"].to_list() == [2, 1, 0, 0]


@pytest.mark.parametrize("times, got", [([0.0, math.nan], "got nan"), ([math.inf, 0.0], "got inf"), ([-math.inf, None], "got -inf"), ([1e300, 0.0], "got 1e"), ([2**60, 0], "got 1152921504606846976"),
    (pl.Series([0, 1]).cast(pl.Time), "got Time"), (pl.Series([0, 1]).cast(pl.Duration("us")), "got Duration")])
def test_times_that_are_none_are_refused_by_name(times, got):
    with pytest.raises(InvalidParameter, match=f"^occurred_at must be a datetime in UTC or seconds since 1970; {got}"): from_acts(pl.DataFrame({"from": ["a", "b"], "to": ["b", "a"], "occurred_at": times}))


def test_times_that_are_missing_are_a_note():
    with from_acts(pl.DataFrame({"from": ["a", "b"], "to": ["b", "a"], "occurred_at": [1.5, None]})) as lab: assert "left out: 1 acts without a date" in reciprocity(lab).notes


def test_the_card_of_a_null_by_roles_says_what_was_drawn():
    rows = [(i % 7, (i * i + 1) % 7, i) for i in range(60) if i % 7 != (i * i + 1) % 7]
    with lab_of(rows) as lab:
        lab.roles(pl.DataFrame([{"account": f"p{i}", "role": "brand" if i < 3 else "customer", "brand": "p0" if i < 3 else None} for i in range(7)]))
        plain, role = (reciprocity(lab, by="role_pair", null=null, draws=9) for null in ("configuration", "role"))
        whole = reciprocity(lab, null="configuration", draws=9)
    assert plain.frame.equals(role.frame) and "null model configuration, which by role_pair is the model role, 9 draws: " + nulls.NULLS["role"] in plain.card.assumptions
    assert "which by role_pair" not in whole.card.assumptions + role.card.assumptions and nulls.NULLS["configuration"] in whole.card.assumptions


def test_nothing_to_count_is_said():
    for ask in OF_ACTS:
        with tl.Lab() as lab, pytest.raises(NotIdentifiable, match="Nothing is loaded"): ask(lab)
        with lab_of([(0, 0, 5), (1, 1, 6)]) as lab, pytest.raises(NotIdentifiable, match="no act between two accounts"): ask(lab)


def test_duplicates_in_a_table_are_acts_of_their_own_and_in_a_store_count_once():
    rows = [(0, 1, 0), (0, 1, 0), (1, 0, 5)]
    with lab_of(rows) as lab:
        assert tloops.loops(lab, 2, "7d").frame["count"].to_list() == [2]
        lab.con.execute("insert into interaction select * from interaction")
        assert tloops.loops(lab, 2, "7d").frame["count"].to_list() == [2] and reciprocity(lab).frame["given"].to_list() == [3]


def test_a_store_with_one_role_has_one_pair_of_roles():
    with lab_of([(0, 1, 0), (1, 0, 5), (1, 2, 7), (2, 1, 7)]) as lab:
        lab.roles(pl.DataFrame({"account": ["p0", "p1", "p2"], "role": ["customer"] * 3, "brand": [None] * 3}, schema_overrides={"brand": pl.String}))
        for null in (None, "role", "configuration"):
            frame = reciprocity(lab, by="role_pair", null=null, draws=5).frame
            assert frame["role_pair"].to_list() == ["customer→customer"] and frame["edge_reciprocity"].to_list() == [1]
        assert returns.return_times(lab).frame["returned"].to_list() == [1]


def test_months_are_groups_too():
    day = 86400
    with lab_of([(0, 1, 0), (1, 0, 40 * day), (0, 1, 41 * day), (1, 0, 41 * day + 5)]) as lab: frame = reciprocity(lab, by="month").frame
    assert [str(m) for m in frame["month"]] == ["1970-01-01", "1970-02-01"] and frame["edges"].to_list() == [1, 2] and frame["returned"].to_list() == [0, 2]


def test_the_same_seed_gives_the_same_numbers():
    rng = np.random.default_rng(8)
    rows = [(int(a), int(b), int(t)) for a, b, t in zip(rng.integers(0, 9, 120), rng.integers(0, 9, 120), rng.integers(0, 900, 120)) if a != b]
    with lab_of(rows) as lab, lab_of(rows[::-1]) as mirrored:
        for null in nulls.NULLS:
            one, two = (tloops.loops(x, 3, "60s", null=null, draws=5, seed=3).frame for x in (lab, mirrored))
            assert one.equals(two) and reciprocity(lab, null=null, draws=5, seed=3).frame.equals(reciprocity(mirrored, null=null, draws=5, seed=3).frame)
            if null != "time": assert not one.equals(tloops.loops(lab, 3, "60s", null=null, draws=5, seed=4).frame)


# ---- real networks

@pytest.fixture(scope="module")
def messages(shared):
    frame = pl.read_csv(shared / "collegemsg/CollegeMsg.txt", separator=" ", new_columns=["u", "v", "t"])
    return tuple(frame[c].to_numpy() for c in "uvt")


def test_census_of_college_messages(messages):
    u, v, t = messages
    assert census.dyad_census(u, v) == {"mutual": 6458, "asymmetric": 7380, "null": math.comb(1899, 2) - 13838}
    triads = census.triad_census(u, v)
    assert triads["030C"] + triads["120C"] + triads["210"] + 2 * triads["300"] == 10_932
    assert sum(triads[k] for k in ("030T", "030C", "120D", "120U", "120C", "210", "300")) == 14_319


def test_census_of_the_managers(shared):
    rows = [r for r in csv.DictReader((shared / "ref/krackhardt/krackhardt_friendship.csv").open()) if r["friendship_tie"] == "1"]
    u, v = (np.array([int(r[c]) for r in rows]) for c in ("ego", "alter"))
    known = json.loads((shared / "ref/expected_open.json").read_text())["krackhardt_friendship_triads"]
    assert list(census.triad_census(u, v).values()) == known
    with from_acts(pl.DataFrame({"from": u, "to": v, "occurred_at": np.zeros(u.size, int)})) as lab: row = reciprocity(lab, null="configuration", draws=999).frame.row(0, named=True)
    assert row["null_mean"] == pytest.approx(0.278, abs=0.006) and row["null_sd"] == pytest.approx(0.039, abs=0.004) and row["z"] == pytest.approx(4.5, abs=0.6) and row["p"] == 0.001
    assert row["rho_null"] == pytest.approx((row["edge_reciprocity"] - row["null_mean"]) / (1 - row["null_mean"]))


def test_loops_of_three_are_the_cyclic_motif(shared, messages):
    cells = {r["pattern"]: int(r["brute_strict_increasing"]) for r in csv.DictReader((shared / "snap-temporalmotifs/collegemsg_motifs.csv").open())}
    assert tloops.all_loops(*messages, 300, [3])[0][0] == cells["ab bc ca"] == 45
    two = tloops.all_loops(*messages, 300, [2])[0][0]
    frame = pl.DataFrame(dict(zip("uvt", messages)))
    assert two == frame.join(frame, left_on=["u", "v"], right_on=["v", "u"], suffix="2").filter((pl.col("t2") > pl.col("t")) & (pl.col("t2") <= pl.col("t") + 300)).height


def test_loops_of_college_messages_by_joins(messages):
    "Loops of 3 and 4 in an hour, by self-joins in the engine"
    frame = pl.DataFrame(dict(zip("uvt", messages)))
    hop = lambda left, k: left.join(frame.rename({"u": "via", "v": f"v{k}", "t": f"t{k}"}), left_on=f"v{k - 1}", right_on="via").filter((pl.col(f"t{k}") > pl.col(f"t{k - 1}")) & (pl.col(f"t{k}") <= pl.col("t1") + 3600))
    one = frame.rename({"v": "v1", "t": "t1"})
    two = hop(one, 2).filter(pl.col("v2") != pl.col("u"))
    three = hop(two, 3)
    four = hop(three.filter((pl.col("v3") != pl.col("u")) & (pl.col("v3") != pl.col("v1"))), 4)
    threes, fours = tloops.all_loops(*messages, 3600, [3, 4])
    assert threes[0] == three.filter(pl.col("v3") == pl.col("u")).height and fours[0] == four.filter(pl.col("v4") == pl.col("u")).height > 0


def test_returns_of_college_messages(messages):
    u, v, t = messages
    back = returns.first_return(u, v, t)
    wait = np.where(back >= 0, t[back] - t, np.inf)
    assert [round(float((wait <= w).mean()), 5) for w in (1e12, 3600, 86400)] == [0.63901, 0.30681, 0.49281] and np.median(wait[back >= 0]) == 4778
    pairs = pl.DataFrame({"low": np.minimum(u, v), "high": np.maximum(u, v), "u": u, "t": t, "wait": wait})
    first = pairs.filter(pl.col("t") == pl.col("t").min().over("low", "high")).group_by("low", "high").agg(pl.col("wait").min(), tied=pl.col("u").n_unique() > 1)
    assert first.height == 13_838 and first["tied"].sum() == 2
    loose = first.select(pl.when("tied").then(0.0).otherwise(pl.col("wait")).alias("wait"))["wait"].to_numpy()
    assert [round(float((loose <= w).mean()), 5) for w in (1e12, 3600, 86400)] == [0.46669, 0.17430, 0.34022], "the published figures take an act back in the same second for a return"
    assert abs(np.median(loose[np.isfinite(loose)]) - 14_088) <= 1 and ((first["wait"].to_numpy() <= 3600) != (loose <= 3600)).sum() <= 2


def test_advogato_and_bitcoin_alpha(shared):
    lines = [line.split()[:2] for line in (shared / "advogato/out.advogato").read_text().splitlines() if line and line[0] not in "%#"]
    u, v = (np.array([int(x[i]) for x in lines]) for i in (0, 1))
    own, dyads = u == v, census.dyad_census(u[u != v], v[u != v])
    mutual, edges = dyads["mutual"], 2 * dyads["mutual"] + dyads["asymmetric"]
    assert own.sum() == 3992 and round(2 * mutual / edges, 6) == 0.333086 and round((2 * mutual + own.sum()) / (edges + own.sum()), 6) == 0.385159
    triads = census.triad_census(u[~own], v[~own])
    assert sum(triads[k] for k in ("030T", "030C", "120D", "120U", "120C", "210", "300")) == 98_300
    coin = pl.read_csv(shared / "bitcoin-alpha/soc-sign-bitcoinalpha.csv")
    a, b, t = (coin[c].to_numpy() for c in ("Source", "Target", "Time"))
    dyads = census.dyad_census(a, b)
    assert round(2 * dyads["mutual"] / (2 * dyads["mutual"] + dyads["asymmetric"]), 6) == 0.832052
    frame = pl.DataFrame({"u": a, "v": b, "t": t})
    week = 7 * 86400
    two = frame.join(frame, left_on="v", right_on="u", suffix="2").filter((pl.col("t2") > pl.col("t")) & (pl.col("t2") <= pl.col("t") + week) & (pl.col("v2") != pl.col("u")))
    three = two.join(frame, left_on=["v2", "u"], right_on=["u", "v"], suffix="3").filter((pl.col("t3") > pl.col("t2")) & (pl.col("t3") <= pl.col("t") + week))
    assert tloops.all_loops(a, b, t, week, [3])[0][0] == three.height > 0


def test_acts_of_accounts_that_are_not_there_are_not_lost_in_silence():
    from trustlab.core import StoreDamaged
    with lab_of([(0, 1, 0), (1, 0, 5)]) as lab:
        lab.con.execute("delete from account where handle = 'p1'")
        with pytest.raises(StoreDamaged, match="1 acts are by or towards accounts"): reciprocity(lab)
        assert lab.sql("select count(*) as n from duckdb_tables() where temporary")["n"][0] == 0
