"""Networks of customers against networkx and against counts in plain Python, with reference networks, bad input, and a real browser."""
import csv
import itertools
import json
import random
from collections import Counter, defaultdict
from datetime import datetime, timedelta

import networkx as nx
import numpy as np
import polars as pl
import pytest
from browser import browser
from hypothesis import given, settings, strategies as st
from scenarios_networks import pairs_of

import trustlab as tl
import trustlab.sources  # noqa: F401
from trustlab import charts, nulls
from trustlab.acts import from_acts
from trustlab.core import InvalidParameter, NotIdentifiable
from trustlab.cores import by_chance, draw_circle
from trustlab.distances import dealt, joint, rewired, summary
from trustlab.networks import bystanders, circles, degrees, friendsource, person_view
from trustlab.pictures import apart, layout, picture, written
from trustlab.thread_audience import ratio
from trustlab.ties import among, components, core_numbers, customers, distances, neighbours, network

pytestmark = pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")
graphs = st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] < e[1]), max_size=90)))


def arrays(edges):
    return tuple(np.array([e[i] for e in sorted(edges)], np.int64) for i in (0, 1))


def as_graph(n, edges):
    g = nx.Graph()
    g.add_nodes_from(range(n))
    g.add_edges_from(edges)
    return g


def acts_lab(rows, start=1_700_000_000):
    "A lab of (from, to, seconds) rows"
    return from_acts(pl.DataFrame({"from": [str(r[0]) for r in rows], "to": [str(r[1]) for r in rows], "occurred_at": [start + r[2] for r in rows]}))


# ---- kernels against networkx

@settings(max_examples=80)
@given(graphs)
def test_distances_cores_and_components_are_networkx(case):
    n, edges = case
    g, (start, other) = as_graph(n, edges), neighbours(*arrays(edges), n)
    far = distances(start, other, np.arange(n), 4)
    truth = np.full((n, n), -1)
    for i, row in nx.all_pairs_shortest_path_length(g, cutoff=4):
        for j, d in row.items(): truth[i, j] = d
    assert np.array_equal(far, truth)
    assert core_numbers(start, other).tolist() == [nx.core_number(g)[i] for i in range(n)]
    label, parts = components(start, other), sorted((sorted(c) for c in nx.connected_components(g)), key=lambda c: (-len(c), c[0]))
    assert [np.flatnonzero(label == i).tolist() for i in range(len(parts))] == parts


def test_more_than_one_word_of_sources():
    rng = np.random.default_rng(0)
    edges = {tuple(sorted(e)) for e in rng.integers(0, 300, (500, 2)).tolist() if e[0] != e[1]}
    far = distances(*neighbours(*arrays(edges), 300), np.arange(300), 3)
    for i, row in nx.all_pairs_shortest_path_length(as_graph(300, edges), cutoff=3): assert all(far[i, j] == d for j, d in row.items()) and (far[i] >= 0).sum() == len(row)


def count_pairs(n, edges, known, has, sources, distance):
    "The four numbers of a distance by looking at every pair"
    far = dict(nx.all_pairs_shortest_path_length(as_graph(n, edges), cutoff=distance))
    out = [[0, 0, 0, 0] for _ in range(distance)]
    for i in sources:
        for j, d in far[i].items():
            if d > 0 and known[j]: out[d - 1] = [a + b for a, b in zip(out[d - 1], (has[i], has[j], has[i] and has[j], 1))]
    return out


@settings(max_examples=60)
@given(graphs, st.randoms(use_true_random=False))
def test_pairs_at_a_distance_by_hand(case, rnd):
    n, edges = case
    known = np.array([rnd.random() < 0.8 for _ in range(n)])
    if known.sum() < 2: known[:] = True
    some = np.flatnonzero(known)
    m = rnd.randint(1, some.size)
    labels = np.zeros((3, n), bool)
    for row in labels: row[rnd.sample(some.tolist(), m)] = True
    sources = np.array(sorted(rnd.sample(some.tolist(), rnd.randint(1, some.size))))
    got = joint(*neighbours(*arrays(edges), n), sources, known, labels, 3)
    for draw in range(3): assert got[:, draw].tolist() == count_pairs(n, edges, known, labels[draw].tolist(), sources.tolist(), 3)


def test_labels_are_dealt_within_their_strata():
    rng = np.random.default_rng(0)
    has, known, strata = np.array([1, 1, 0, 0, 0, 1, 0, 0, 1, 0], bool), np.array([1] * 9 + [0], bool), np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    deals = dealt(rng, has, known, strata, 8000)
    assert (deals[:, :4].sum(1) == 2).all() and (deals[:, 4:8].sum(1) == 1).all() and deals[:, 8].all() and not deals[:, 9].any()
    counts = Counter(map(tuple, deals[:, :8].astype(int).tolist()))
    assert len(counts) == 6 * 4 and min(counts.values()) > 8000 / 24 * 0.75 and max(counts.values()) < 8000 / 24 * 1.25


def test_swaps_reach_every_network_with_these_degrees_equally_often():
    "All simple networks on six people with degrees 1 2 2 2 2 3, enumerated; the chain visits each as often"
    want, possible = [3, 2, 2, 2, 2, 1], list(itertools.combinations(range(6), 2))
    every = [set(e) for e in itertools.combinations(possible, 6) if [sum(i in p for p in e) for i in range(6)] == want]
    rng, (low, high), seen = np.random.default_rng(1), arrays(every[0]), Counter()
    steps = 12_000
    for _ in range(steps):
        low, high = rewired(low, high, 6, rng, 5)
        seen[frozenset(zip(low.tolist(), high.tolist()))] += 1
    assert set(seen) == {frozenset(e) for e in every}
    expected = steps / len(every)
    chi = sum((seen[frozenset(e)] - expected) ** 2 / expected for e in every)
    assert chi < len(every) + 5 * (2 * len(every)) ** 0.5, (chi, len(every))


@settings(max_examples=30)
@given(graphs, st.integers(0, 10))
def test_swaps_keep_degrees_and_make_no_double_or_self_tie(case, seed):
    n, edges = case
    low, high = rewired(*arrays(edges), n, np.random.default_rng(seed), 10)
    assert (low < high).all() and len(set(zip(low.tolist(), high.tolist()))) == len(edges)
    assert np.array_equal(np.bincount(np.concatenate([low, high]), minlength=n), np.array([as_graph(n, edges).degree(i) for i in range(n)]))


# ---- degrees, through a store

def random_acts(seed, people=40, acts=120):
    rng = random.Random(seed)
    return [(rng.randrange(people), rng.randrange(people), i) for i in range(acts)]


@pytest.mark.parametrize("seed", range(4))
def test_degrees_against_plain_python(seed):
    rows = random_acts(seed)
    edges = {tuple(sorted((a, b))) for a, b, _ in rows if a != b}
    people = sorted({i for e in edges for i in e})
    place, rng = {p: i for i, p in enumerate(people)}, random.Random(seed + 100)
    table = {p: rng.random() < 0.4 for p in people if rng.random() < 0.85}
    lab = acts_lab(rows)
    m = degrees(lab, pl.DataFrame({"account": [str(p) for p in table], "outcome": list(table.values())}), draws=99)
    known, has = [p in table for p in people], [table.get(p, False) for p in people]
    truth = count_pairs(len(people), {(place[a], place[b]) for a, b in edges}, known, has, [i for i, k in enumerate(known) if k], 3)
    for row, (near, at, both, total) in zip(m.frame.iter_rows(named=True), truth):
        assert row["pairs"] == total and row["share_near"] == (both / near if near else None) and row["share_far"] == ((at - both) / (total - near) if total > near else None)
        if near and at > both: assert row["risk_ratio"] == pytest.approx(both / near / ((at - both) / (total - near)))
    assert m.people == [min(sum(has), sum(known) - sum(has))] * 3 and any(f"left out: {len(people) - len(table)} people" in n for n in m.notes)
    listed = degrees(lab, [str(p) for p, h in table.items() if h], draws=19)
    assert listed.frame["pairs"].sum() >= m.frame["pairs"].sum() and not any("is not known" in n for n in listed.notes)
    lab.close()


def test_degrees_leave_brands_out_and_say_so(town):
    lab = tl.Lab()
    lab.load(town / "twcs.csv", progress=False)
    m, through = degrees(lab, "answered", draws=99), degrees(lab, "answered", draws=99, brands=True)
    pairs = lab.sql("select distinct least(from_key, to_key) as a, greatest(from_key, to_key) as b from exchange where from_role not in ('brand', 'staff') and to_role not in ('brand', 'staff')").rows()
    called = dict(lab.sql("select i.author_key, max(case when a.post_key is not null then 1 else 0 end) from inbound i left join answer a on a.post_key = i.post_key and a.brand = i.brand where i.eligible group by 1").rows())
    people = sorted({k for pair in pairs for k in pair})
    place = {k: i for i, k in enumerate(people)}
    known, has = [k in called for k in people], [bool(called.get(k)) for k in people]
    truth = count_pairs(len(people), {(place[a], place[b]) for a, b in pairs}, known, has, [i for i, k in enumerate(known) if k], 3)
    assert m.frame["pairs"].to_list() == [t[3] for t in truth] and any("brands, their staff and bots" in n for n in m.notes)
    assert through.frame["pairs"][1] > 20 * m.frame["pairs"][1], "through a brand everyone is two steps from everyone"
    said = degrees(lab, "advocacy", draws=99)
    fans = set(lab.sql("select distinct author_key from (" + tl.signals.acts_query() + ") a")["author_key"])
    assert f"{sum(k in fans for k in people):,} of {len(people):,} people have the outcome" in said.notes[-1]
    lab.close()


def test_p_and_z_from_counts_by_hand():
    "Ratios of 1, 2, 3 and 4 under the null, with cells so large that half a pair is nothing"
    big = 10**12
    at = lambda rr: [big, big + big * rr, big * rr, 2 * big]
    real, drawn = np.array([at(3), at(9), [0, 0, 0, 0]]), np.array([[at(1), at(2), at(3), at(4)]] * 2 + [[[0, 0, 0, 0]] * 4])
    frame = summary(real, drawn)
    assert frame["p"].to_list() == [3 / 5, 1 / 5, None] and frame["corrected_ratio"].to_list() == [pytest.approx(3), pytest.approx(9), None] and frame["risk_ratio"].to_list()[:2] == pytest.approx([3, 9]) and frame["risk_ratio"][2] is None and frame["share_near"][2] is None
    assert frame["null_mean"].to_list() == pytest.approx([2.5, 2.5, 1]) and frame["z"].to_list()[:2] == pytest.approx([0.5 / np.std([1, 2, 3, 4], ddof=1), 6.5 / np.std([1, 2, 3, 4], ddof=1)]) and frame["z"][2] is None


def test_the_ratio_held_against_the_null_is_on_its_scale():
    "A star of thirty and a tie of two of its ends: the plain ratio is 0, and no draw could be below it"
    lab = acts_lab([("h", f"l{i}", i) for i in range(30)] + [("l0", "l1", 50)])
    m = degrees(lab, ["l2", "l3"], draws=99)
    near, far = m.frame.row(0, named=True), m.frame.row(2, named=True)
    assert near["risk_ratio"] == 0 and near["corrected_ratio"] == pytest.approx((0.5 / 3) / (2.5 / 61)) and near["z"] == pytest.approx((near["corrected_ratio"] - near["null_mean"]) / near["null_sd"])
    assert near["null_low"] <= near["corrected_ratio"] <= near["null_high"] and list(m.figure().data[1].y) == m.frame["corrected_ratio"].to_list() and "corrected_ratio" in m.card.formula
    assert [far[c] for c in ("pairs", "corrected_ratio", "z", "p")] == [0, None, None, None] and any("at distance 1 the plain and the corrected ratio" in n for n in m.notes)
    lab.close()


def test_without_a_pair_from_somebody_with_the_outcome_there_is_no_test():
    "Formerly a ratio of some thousands and a small p, all of it the half pair"
    one = summary(np.array([[0, 10, 0, 6250]]), np.array([[[40, 40, 1, 6250], [60, 60, 2, 6250]]])).row(0, named=True)
    assert one["share_near"] is None and [one[c] for c in ("corrected_ratio", "z", "p")] == [None] * 3 and one["null_sd"] > 0


def test_draws_that_all_agree_have_no_z():
    lab = acts_lab([("a", "b", 0), ("b", "c", 12), ("c", "a", 13)])
    row = degrees(lab, ["a", "b"]).frame.row(0, named=True)
    assert row["null_sd"] == 0 and row["z"] is None and row["p"] == 1 and row["corrected_ratio"] == pytest.approx(0.6)
    lab.close()


def test_degrees_are_the_same_each_time_and_for_any_names():
    rows = random_acts(9, 30, 90)
    lab, other = acts_lab(rows), acts_lab([(b, a, s) for a, b, s in rows[::-1]])
    a, b = (degrees(x, [str(i) for i in range(8)], null=null, draws=39) for x, null in ((lab, "degree"), (lab, "degree")))
    assert a.frame.equals(b.frame) and degrees(other, [str(i) for i in range(8)], draws=39).frame.select("pairs", "risk_ratio").equals(degrees(lab, [str(i) for i in range(8)], draws=39).frame.select("pairs", "risk_ratio"))
    json.dumps(a.to_dict())
    lab.close(), other.close()


def test_a_hub_does_not_explode():
    "A customer with 60,000 neighbours: 1.8 thousand million pairs at distance two, counted from a sample without being written down"
    import tracemalloc
    size = 60_000
    lab = from_acts(pl.DataFrame({"from": np.arange(1, size + 1).astype(str), "to": ["0"] * size, "occurred_at": np.arange(size) + 1_700_000_000}))
    tracemalloc.start()
    m = degrees(lab, [str(i) for i in range(1, 300)], draws=19, most=640)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    sampled = 640 - (0 if m.frame["pairs"][0] == 640 else 1)
    assert peak < 300e6 and m.frame["pairs"][1] == sampled * (size - 1) and any("drawn at random" in n for n in m.notes)
    lab.close()


# ---- reference networks

def test_reference_networks(shared):
    "Published sizes and reciprocity, core numbers and distances of Advogato and Bitcoin Alpha"
    trust = [line.split()[:2] for line in (shared / "advogato" / "out.advogato").read_text().splitlines() if line and line[0] != "%"]
    with (shared / "bitcoin-alpha" / "soc-sign-bitcoinalpha.csv").open() as file: coins = [row[:2] for row in list(csv.reader(file))[1:]]
    for rows, count, nodes, reciprocity in ((trust, lambda keys: max(map(int, keys)), 6541, 0.333086), (coins, len, 3783, 0.832052)):
        pairs = {(a, b) for a, b in rows if a != b}
        lab = acts_lab([(a, b, i) for i, (a, b) in enumerate(sorted(pairs))])
        m, whole = circles(lab, k=3), nx.DiGraph(pairs)
        assert count({x for pair in rows for x in pair}) == nodes and 2 * m.frame["mutual"][0] / len(pairs) == pytest.approx(reciprocity, abs=1e-6)
        mutual = nx.Graph([(a, b) for a, b in pairs if (b, a) in pairs])
        core = nx.core_number(mutual)
        assert dict(zip(m.detail["name"], m.detail["core"])) == {k: v for k, v in core.items() if v} and m.frame["accounts"][0] == whole.number_of_nodes()
        inside = mutual.subgraph(k for k, v in core.items() if v >= 3)
        assert m.frame["inside"][0] == inside.number_of_nodes() and m.frame["circles"][0] == nx.number_connected_components(inside) and m.frame["ties_people"][0] == inside.number_of_edges()
        net, g = network(lab), whole.to_undirected()
        start, other = neighbours(net.pairs["low"].to_numpy(), net.pairs["high"].to_numpy(), net.size)
        keys, some = net.people["key"].str.strip_prefix("acts:").to_list(), np.random.default_rng(0).choice(net.size, 70, replace=False)
        far = distances(start, other, some, 3)
        for i, source in enumerate(some):
            truth = nx.single_source_shortest_path_length(g, keys[source], cutoff=3)
            assert {keys[j]: int(far[i, j]) for j in np.flatnonzero(far[i] >= 0)} == truth
        lab.close()


# ---- circles

@pytest.mark.parametrize("seed, k", [(0, 1), (1, 2), (2, 2), (3, 3)])
def test_circles_against_networkx(seed, k):
    rng = random.Random(seed)
    rows = [(rng.randrange(25), rng.randrange(25), rng.randrange(90 * 86400)) for _ in range(420)]
    lab, origin, firm = acts_lab(rows), datetime(2023, 11, 14, 22, 13, 20), {"0", "1"}
    lab.roles(pl.DataFrame({"account": ["0", "1"], "role": ["brand", "staff"], "brand": ["acme", "acme"]}))
    m = circles(lab, k=k)
    def truth(part):
        pairs = {(str(a), str(b)) for a, b, _ in part if a != b}
        mutual = nx.Graph([(a, b) for a, b in pairs if (b, a) in pairs])
        core = nx.k_core(mutual, k)
        return {x for p in pairs for x in p}, mutual, core
    months = defaultdict(list)
    for row in rows: months[(origin + timedelta(seconds=row[2])).strftime("%Y-%m")].append(row)
    before = None
    for row in m.frame.iter_rows(named=True):
        people, mutual, core = truth(rows if row["period"] == "all" else months.pop(row["period"]))
        ends = Counter(len(firm & {a, b}) for a, b in core.edges())
        assert (row["ties_people"], row["ties_brand"], row["ties_firm"]) == (ends[0], ends[1], ends[2]) and (row["period"] != "all" or k > 2 or ends[0] * ends[1])
        assert (row["accounts"], row["mutual"], row["inside"], row["circles"]) == (len(people), mutual.number_of_edges(), len(core), nx.number_connected_components(core))
        assert row["largest"] == max(map(len, nx.connected_components(core)), default=0) and row["share_inside"] == len(core) / len(people)
        if before is not None: assert row["jaccard"] == (len(before & set(core)) / len(before | set(core)) if before | set(core) else None)
        before = None if row["period"] == "all" else set(core)
    assert not months
    _, mutual, core = truth(rows)
    name = dict(m.detail.select("person", "name").rows())
    for row in m.detail.iter_rows(named=True):
        assert row["inside"] == (row["name"] in core) and row["ties"] == mutual.degree(row["name"]) and {name[p] for p in row["partners"]} == (set(core[row["name"]]) if row["inside"] else set())
        assert (row["given"], row["received"]) == (sum(str(a) == row["name"] != str(b) for a, b, _ in rows), sum(str(b) == row["name"] != str(a) for a, b, _ in rows))
    lab.close()


def drawn_arcs(rng, people, n):
    return {(a, b) for a, b in rng.integers(0, people, (n, 2)).tolist() if a != b}


@pytest.mark.parametrize("null", ["configuration", "role"])
@pytest.mark.parametrize("k", [1, 2])
def test_the_core_of_each_draw_is_networkx(null, k):
    "The same draws, made by the page on null models; the core and its ties across roles by networkx, the comparison by its definition"
    rng, size, draws = np.random.default_rng(k), 30, 40
    arcs_ = drawn_arcs(rng, size, 160)
    arcs_ |= {(b, a) for a, b in list(arcs_)[:25]}
    people, role = np.arange(size) >= 5, (np.arange(size) < 5).astype(np.int64)
    got = by_chance(pairs_of(arcs_), people, role, k, null, draws, 7)

    def told(ties):
        g = as_graph(size, [(a, b) for a, b in ties if a < b and (b, a) in ties])
        core = nx.k_core(g, k) if g.edges else nx.Graph()
        return len(core) / len({x for tie in ties for x in tie}), sum(bool(people[a]) != bool(people[b]) for a, b in core.edges)
    giver, receiver = (np.array(x) for x in zip(*sorted(arcs_)))
    kind = role[giver] * 2 + role[receiver] if null == "role" else np.zeros(giver.size, np.int64)
    each = np.array([told(set(zip(giver.tolist(), to.tolist()))) for to in itertools.islice(nulls.rewired(giver, receiver, kind, np.random.default_rng(7)), draws)])
    seen = told(arcs_)
    assert got["null_mean"] == pytest.approx(each[:, 0].mean()) and got["null_sd"] == pytest.approx(each[:, 0].std(ddof=1)) and got["across_mean"] == pytest.approx(each[:, 1].mean())
    assert got["p"] == (1 + (each[:, 0] >= seen[0] - 1e-12).sum()) / (draws + 1) and got["across_p"] == (1 + (each[:, 1] >= seen[1]).sum()) / (draws + 1)
    assert 0 < got["null_mean"] < 1 and got["null_sd"] > 0


def test_a_planted_circle_is_more_than_chance_and_the_null_can_be_asked_for_by_its_names(tmp_path):
    rng = np.random.default_rng(3)
    rows = [(f"p{a}", f"p{b}", i * 60) for i, (a, b) in enumerate(drawn_arcs(rng, 60, 90))]
    rows += [(f"q{a}", f"q{b}", 9_000 + i * 60) for i, (a, b) in enumerate(itertools.permutations(range(6), 2))]
    lab = acts_lab(rows)
    plain, held = circles(lab, k=3, period="half"), circles(lab, k=3, period="half", null="degree", draws=99, seed=1)
    assert held.frame.select(plain.frame.columns).equals(plain.frame) and held.params["null"] == "configuration" and "null_mean" not in plain.frame.columns
    row = held.frame.row(0, named=True)
    assert row["inside"] == 6 and row["p"] == 0.01 and row["null_mean"] < row["share_inside"] / 5 and "no null model" in plain.card.assumptions and "99 draws" in held.card.assumptions
    for wrong in ({"null": "time"}, {"null": "nothing"}, {"null": "role", "draws": 1}, {"null": "role", "seed": -1}):
        with pytest.raises(InvalidParameter): circles(lab, **wrong)


RING = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("a", "c"), ("c", "a")]


@pytest.mark.parametrize("second, jaccard", [("2024-02", 1.0), ("2024-03", None), ("2025-02", None)])
def test_a_circle_is_compared_with_the_month_before_alone(second, jaccard):
    rows = [(a, b, (datetime.fromisoformat(f"{month}-15") - datetime(2024, 1, 1)).total_seconds() + i) for month in ("2024-01", second) for i, (a, b) in enumerate(RING)]
    with acts_lab(rows, 1_704_067_200) as lab: assert circles(lab).frame.select("period", "inside", "jaccard").rows() == [("all", 3, None), ("2024-01", 3, None), (second, 3, jaccard)]


def test_december_comes_before_january():
    rows = [(a, b, day * 86400 + i) for day in (0, 31) for i, (a, b) in enumerate(RING)]
    with acts_lab(rows, 1_702_000_000) as lab: assert circles(lab).frame.select("period", "jaccard").rows()[1:] == [("2023-12", None), ("2024-01", 1.0)]


def full(names, at=0):
    "Acts from each of some people to each other"
    return [(a, b, at + i) for i, (a, b) in enumerate(itertools.permutations(names, 2))]


def test_small_circles_are_neither_named_nor_drawn_nor_told_by_what_is_left():
    lab = acts_lab(full(["a1", "a2", "a3", "a4", "a5", "a6"]) + full(["z1", "z2", "z3"], 100) + [("y1", "y2", 200), ("y2", "y1", 201)])
    m = circles(lab)
    assert m.least == [3, 3] and m.frame.select("inside", "circles", "largest").row(0) == (9, 2, 6)
    s = m.suppressed(5)
    assert s.frame.select("inside", "circles", "largest").row(0) == (9, None, None) and s.detail["name"].sort().to_list() == ["a1", "a2", "a3", "a4", "a5", "a6"]
    assert s.detail.select("ties", "given", "received").null_count().row(0) == (6, 6, 6) and "z1" not in str(s.figure()) and "a1" in str(s.figure())
    with pytest.raises(InvalidParameter, match="from 1 to 1"): draw_circle(s, 2)
    none = m.suppressed(7)
    assert none.frame["inside"][0] == 9 and none.detail.is_empty() and not none.figure().data and "no circle here has 7 people" in str(none.figure()).replace("<br>", " ")
    assert m.suppressed(0) is m and m.suppressed(3).frame.select("circles", "largest").row(0) == (2, 6) and m.suppressed(3).detail["circle"].max() == 2
    lab.close()


def test_a_month_that_is_hidden_is_not_told_by_the_index_of_the_next_and_leaves_the_whole():
    five = full(["a", "b", "c", "d", "e"], 40 * 86400)
    with acts_lab(full(["a", "b", "c"]) + five, 1_704_067_200) as lab:
        m = circles(lab)
        s = m.suppressed(5)
    assert m.frame["jaccard"].to_list() == [None, None, 0.6] and s.frame["jaccard"].to_list() == [None] * 3 and s.frame["inside"].to_list() == [5, None, 5] and s.detail.height == 5 and s.figure().data


def test_acts_of_nobody_known_are_told():
    lab = acts_lab([("a", "b", 0), ("b", "a", 60)])
    key = lab.sql("select min(account_key) as k from account")["k"][0]
    lab.con.execute("insert into interaction (kind, actor_key, target_key, occurred_at) values ('mention', null, $k, timestamp '2024-01-01'), ('mention', 'gone', $k, timestamp '2024-01-01'), ('like', $k, null, timestamp '2024-01-01')", {"k": key})
    assert "left out: 2 acts by unknown accounts" in circles(lab, k=1).notes and tl.reciprocity(lab).frame["given"][0] == 2
    lab.close()


def test_circles_count_ties_by_role(town):
    lab = tl.Lab()
    for name in ("twcs.csv", "slack.zip"): lab.load(town / name, progress=False)
    lab.roles(town / "roles.csv")
    m, half = circles(lab), circles(lab, period="half", names=False)
    edges = set(lab.sql("select distinct from_key, to_key from exchange where kind not in ('like', 'reaction', 'vote', 'follow', 'declared_reply')").rows())
    firm = {k for key in ("from", "to") for k in lab.sql(f"select distinct {key}_key as k from exchange where {key}_role in ('brand', 'staff', 'bot')")["k"]}
    core = nx.k_core(nx.Graph([(a, b) for a, b in edges if (b, a) in edges]), 2)
    ends = Counter(sum(x in firm for x in pair) for pair in core.edges())
    assert [m.frame[c][0] for c in ("ties_people", "ties_brand", "ties_firm")] == [ends[0], ends[1], ends[2]] and m.people[0] == sum(x not in firm for x in core)
    assert half.frame["period"].to_list() == ["all", "first half", "second half"] and half.detail["account_key"].null_count() == half.detail.height and half.detail["name"][0] == "no. 1"
    assert set(m.detail.filter("inside")["account_key"]) == set(core) and m.detail.filter(pl.col("role") == "brand").height >= 1
    assert m.figure().to_dict() == m.figure().to_dict() and "marker" in str(draw_circle(m, int(m.detail["circle"].max())).data[-1])
    hidden = m.suppressed(10_000)
    assert hidden.detail.is_empty() and not hidden.figure().data and hidden.frame["inside"].null_count() == hidden.frame.height
    lab.close()


def test_joined_accounts_are_one_person_in_every_network():
    rows = [("a", "b", 0), ("b", "c", 1), ("c", "d", 2), ("d", "a2", 3), ("a2", "e", 4), ("a", "a2", 5)]
    lab = acts_lab(rows)
    apart_, _ = network(lab), lab.identify(pl.DataFrame({"account": ["a", "a2"], "person": ["Ann", "Ann"]}))
    joined = network(lab, per="person")
    assert apart_.size == 6 and apart_.pairs.height == 6 and joined.size == 5 and joined.pairs.height == 5
    assert degrees(lab, ["a"], per="person", draws=19).frame["pairs"].to_list() == [10, 8, 2] and degrees(lab, ["a2"], per="person", draws=19).frame.equals(degrees(lab, ["a"], per="person", draws=19).frame)
    assert person_view(lab, "a2", per="person").frame["name"].sort().to_list() == ["b", "d", "e"] and person_view(lab, "a2").frame["name"].sort().to_list() == ["a", "d", "e"]
    lab.close()


# ---- exports that hold one side only

def one_sided(lab):
    "The lab, as if its acts were the archive of one account"
    lab.con.execute("update load set scope = 'own'")
    return lab


@pytest.mark.parametrize("call", [circles, lambda lab: degrees(lab, ["a"]), lambda lab: person_view(lab, "a"), lambda lab: person_view(lab, "a", per="person"), network])
def test_one_side_makes_no_network(call):
    with one_sided(acts_lab([(a, b, i) for i, (a, b) in enumerate(RING)])) as lab, pytest.raises(NotIdentifiable, match="cannot be answered. This store holds one side only.*left out: 6 acts"): call(lab)


def test_whom_to_ask_needs_both_sides(tmp_path):
    lab = one_sided(forum(tmp_path, [(1, 101, "", "is the shop open?"), (2, 102, 1, "@101 yes")]))
    with pytest.raises(NotIdentifiable, match="Whom to ask cannot be answered. This store holds one side only"): friendsource(lab, "101", "shop")
    lab.close()


def test_one_sided_acts_beside_others_are_left_out_and_counted():
    "The acts of one platform have no end of sight; networks count what reciprocity counts"
    lab = acts_lab([(a, b, i) for i, (a, b) in enumerate(RING)])
    lab.con.execute("insert into account by name select 'x:' || i as account_key, 'x' as platform, i as handle, 'unknown' as kind, false as placeholder, 'x:' || i as person_key from (values ('me'), ('u'), ('v')) t(i)")
    lab.con.execute("insert into interaction by name select 'mention' as kind, 'x:me' as actor_key, 'x:p' || n as post_key, 'x:' || t as target_key, timestamp '2024-01-01' as occurred_at, '2' as load_id from (values (1, 'u'), (2, 'u'), (3, 'v')) v(n, t)")
    left = "left out: 3 acts in exports that hold one side only"
    m, d, view = circles(lab), degrees(lab, ["a"], draws=19), person_view(lab, "a")
    assert m.frame.select("accounts", "mutual").row(0) == (3, 3) and tl.reciprocity(lab).frame["accounts"][0] == 3 == network(lab).size == network(lab, per="person").size
    assert left in m.notes and left in d.notes and d.frame["pairs"][0] == 6 and "left out: some acts in exports that hold one side only" in m.suppressed(2).notes and view.notes == []
    with pytest.raises(NotIdentifiable, match="but for 3 acts in exports that hold one side only"): person_view(lab, "me")
    lab.identify(pl.DataFrame({"account": ["a", "me"], "person": ["Ann", "Ann"]}))
    assert left in person_view(lab, "a", per="person").notes and person_view(lab, "a", per="person").frame["name"].sort().to_list() == ["b", "c"]
    lab.close()


@pytest.mark.parametrize("name", ["twcs-spotify-requests", "twitter-archive-x"])
def test_real_archives_of_one_side(shared, name):
    with tl.Lab() as lab:
        lab.load(shared / name, progress=False)
        who = lab.sql("select from_key from exchange order by 1 limit 1")["from_key"][0]
        for call in (tl.reciprocity, circles, lambda x: person_view(x, who), lambda x: degrees(x, brands=True), lambda x: friendsource(x, who, "help")):
            with pytest.raises(NotIdentifiable, match="one side only"): call(lab)


def test_a_real_archive_beside_a_workspace(shared):
    with tl.Lab() as lab:
        for name in ("slack-export-viewer", "twitter-archive-x"): lab.load(shared / name, progress=False)
        left = lab.sql("select count(*) as n from exchange where platform = 'x' and kind not in ('like', 'reaction', 'vote', 'follow', 'declared_reply')")["n"][0]
        m = circles(lab)
        assert m.frame["accounts"][0] == tl.reciprocity(lab).frame["accounts"][0] and f"left out: {left:,} acts in exports that hold one side only" in m.notes and left > 0


# ---- bystanders

FORM = "%a %b %d %H:%M:%S +0000 %Y"
ORIGIN = datetime(2024, 3, 4, 9)


def threads_file(path, seed, size=260):
    "A random twcs file: calls, answers and chatter in threads; returns its rows"
    rng, rows = random.Random(seed), []
    for i in range(1, size + 1):
        parent = rng.choice(rows) if rows and rng.random() < 0.75 else None
        author = rng.choice(["acme", "bolt"]) if parent and rng.random() < 0.35 else str(rng.randrange(100, 125))
        at = (parent["at"] if parent else ORIGIN + timedelta(hours=rng.randrange(24 * 20))) + timedelta(minutes=rng.randrange(1, 60 * 30))
        text = f"@{rng.choice(['acme', 'bolt'])} my order is late" if not parent else "I see"
        rows.append({"id": i, "author": author, "at": at, "parent": parent["id"] if parent else None, "text": text})
    with path.open("w", newline="") as out:
        write = csv.writer(out)
        write.writerow("tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id".split(","))
        for r in rows: write.writerow([r["id"], r["author"], r["author"].isdigit(), r["at"].strftime(FORM), r["text"], "", r["parent"] or ""])
    return {r["id"]: r for r in rows}


@pytest.mark.parametrize("seed", range(3))
def test_bystanders_against_plain_python(seed, tmp_path):
    rows = threads_file(tmp_path / "twcs.csv", seed)
    lab = tl.Lab()
    lab.load(tmp_path / "twcs.csv", progress=False)
    rng = random.Random(seed + 50)
    likes = [(str(rng.randrange(100, 130)), rng.choice(list(rows)), rng.random() < 0.5) for _ in range(60)]
    for who, post, dated in likes:
        lab.con.execute("insert into interaction (kind, actor_key, post_key, target_key, occurred_at, load_id) values ('like', ?, ?, ?, ?, '000001')", ["twcs:" + who, f"twcs:{post}", "twcs:" + rows[post]["author"], rows[post]["at"] + timedelta(hours=1) if dated else None])
    m = bystanders(lab, by="brand", window="6h")
    def root(i): return i if rows[i]["parent"] is None else root(rows[i]["parent"])
    def key(k): return int(k.removeprefix("twcs:"))
    found = lab.sql("select i.post_key, i.brand, a.answered_at from inbound i join answer a on a.post_key = i.post_key and a.brand = i.brand where i.eligible").rows()
    end = max(r["at"] for r in rows.values())
    thread = defaultdict(lambda: {"helped": {}, "answered": [], "called": []})
    for post, brand, answered in found:
        t = thread[(brand, root(key(post)))]
        t["helped"][rows[key(post)]["author"]] = 1
        t["answered"].append(answered), t["called"].append(rows[key(post)]["at"])
    total = defaultdict(Counter)
    per_thread = defaultdict(list)
    for (brand, top), t in thread.items():
        acts = [(r["author"], r["at"]) for i, r in rows.items() if root(i) == top] + [(who, rows[post]["at"] + timedelta(hours=1) if dated else None) for who, post, dated in likes if root(post) == top]
        others = {who for who, _ in acts if who.isdigit()} - set(t["helped"])
        answered, called, sums = min(t["answered"]), min(t["called"]), total[brand]
        times = {who: sorted(at for w, at in acts if w == who and at) for who in others}
        wide = timedelta(hours=6)
        sums["threads"] += 1
        sums["helped"] += len(t["helped"])
        sums["bystanders"] += len(others)
        sums["after"] += sum(bool(x) and x[-1] >= answered for x in times.values())
        sums["arrived_before"] += sum(bool(x) and max(answered - wide, called) <= x[0] < answered for x in times.values())
        sums["arrived_after"] += sum(bool(x) and answered <= x[0] <= answered + wide for x in times.values())
        sums["before"] += min(answered - called, wide).total_seconds() / 3600
        sums["later"] += min(end - answered, wide).total_seconds() / 3600
        per_thread[brand].append((len(others), len(t["helped"])))
    assert m.frame["brand"].to_list() == sorted(total)
    for row in m.frame.iter_rows(named=True):
        sums, b = total[row["brand"]], sorted(x for x, _ in per_thread[row["brand"]])
        for c in ("threads", "helped", "bystanders", "after", "arrived_before", "arrived_after"): assert row[c] == sums[c], (c, row[c], sums[c])
        assert row["per_helped"] == sums["bystanders"] / sums["helped"] and row["after_per_helped"] == sums["after"] / sums["helped"] and row["median_bystanders"] == np.median(b)
        assert row["share_top"] == pytest.approx(b[-1] / sum(b)) and row["before_per_hour"] == pytest.approx(sums["arrived_before"] / sums["before"]) and row["after_per_hour"] == pytest.approx(sums["arrived_after"] / sums["later"])
        assert row["per_helped_low"] < row["per_helped"] < row["per_helped_high"] and row["impressions_per_helped"] is None and row["upper_per_helped"] is None
    assert any("not answerable" in n for n in m.notes)
    lab.close()


def test_ceilings_from_counts_and_views(tmp_path):
    threads_file(tmp_path / "twcs.csv", 5)
    lab = tl.Lab()
    lab.load(tmp_path / "twcs.csv", progress=False)
    plain = bystanders(lab).frame.row(0, named=True)
    lab.con.execute("insert into post_count select post_key, 'like', 3, null, '000001' from post")
    lab.con.execute("insert into post_count select post_key, 'like', 2, timestamp '2024-01-01', '000001' from post")
    lab.con.execute("insert into post_count select post_key, 'impression', 100, null, '000001' from post")
    full = bystanders(lab).frame.row(0, named=True)
    answers = lab.sql("select count(*) as n from (select distinct p.conversation_key, a.reply_key from inbound i join answer a on a.post_key = i.post_key and a.brand = i.brand join post p on p.post_key = i.post_key where i.eligible)")["n"][0]
    posts = lab.sql("select sum(n) as n from (select i.brand, p.conversation_key, (select count(*) from post q where q.conversation_key = p.conversation_key) as n from inbound i join answer a on a.post_key = i.post_key and a.brand = i.brand join post p on p.post_key = i.post_key where i.eligible group by i.brand, p.conversation_key)")["n"][0]
    assert full["per_helped"] == plain["per_helped"] and full["impressions_per_helped"] == pytest.approx(100 * answers / full["helped"])
    assert full["upper_per_helped"] == pytest.approx((full["bystanders"] + 3 * int(posts)) / full["helped"]) and full["impressions_per_helped_low"] < full["impressions_per_helped"] < full["impressions_per_helped_high"]
    lab.con.execute("delete from post_count where kind = 'like' and post_key = (select min(post_key) from post)")
    lab.con.execute("delete from post_count where kind = 'impression' and post_key in (select reply_key from answer order by 1 limit 3)")
    some = bystanders(lab)
    assert any("known for" in n for n in some.notes) and some.frame["impressions_per_helped"][0] > 0
    lab.close()


def test_private_calls_and_bots_have_no_place_among_bystanders(tmp_path):
    rows = [("1", "101", "@acme help"), ("2", "acme", "@101 sure"), ("3", "102", "me too")]
    (tmp_path / "twcs.csv").write_text("tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id\n" + "".join(f'{i},{who},{who.isdigit()},{(ORIGIN + timedelta(hours=int(i))).strftime(FORM)},"{text}",,{"" if i == "1" else "1"}\n' for i, who, text in rows))
    lab = tl.Lab()
    lab.load(tmp_path / "twcs.csv", progress=False)
    assert bystanders(lab).frame["bystanders"][0] == 1
    lab.roles(pl.DataFrame({"account": ["102"], "role": ["bot"], "brand": [None]}, schema={"account": pl.String, "role": pl.String, "brand": pl.String}))
    assert bystanders(lab).frame["bystanders"][0] == 0 and bystanders(lab).frame["per_helped"][0] == 0
    lab.con.execute("update post set visibility = 'direct'")
    with pytest.raises(NotIdentifiable, match="others can read"): bystanders(lab)
    lab.close()


def test_a_heavy_tail_is_said_and_clusters_of_brands_are_wider(town):
    lab = tl.Lab()
    lab.load(town / "twcs.csv", progress=False)
    by_thread, by_brand = bystanders(lab), bystanders(lab, cluster="brand")
    width = lambda m: m.frame["per_helped_high"][0] - m.frame["per_helped_low"][0]
    assert width(by_brand) > 0 and any("fewer than 30 brands" in n for n in by_brand.notes) and not any("heavy tail" in n for n in by_thread.notes)
    complaints = bystanders(lab, kind="complaint")
    assert 0 < complaints.frame["threads"][0] < by_thread.frame["threads"][0]
    assert by_thread.suppressed(5).frame["helped"][0] == by_thread.frame["helped"][0] and bystanders(lab, by="week").suppressed(3).figure().data is not None
    weeks = bystanders(lab, by="brand,week")
    assert weeks.frame["helped"].sum() == by_thread.frame["helped"][0] and "partial" in weeks.frame.columns and weeks.figure().data
    lab.close()


def test_ratio_of_sums_by_hand():
    b, h, c = np.array([4, 0, 2, 1]), np.array([1, 1, 2, 1]), np.array([0, 0, 1, 2])
    value, low, high = ratio(b, h, c)
    assert value == 7 / 5 and low < value < high and ratio(b, h, c) == ratio(b[::-1], h[::-1], c[::-1])
    assert np.isnan(ratio(np.zeros(3), np.ones(3), np.arange(3))[1]) and ratio(np.zeros(40), np.ones(40), np.arange(40)) == (0, 0, 0)


# ---- whom to ask

def trust_in_python(lab, brands=False):
    "Acts and who trusts whom, by loops"
    firm = ("brand", "staff", "bot")
    acts = [r for r in lab.sql("select from_key, to_key, kind, from_role, to_role from exchange").rows() if r[2] not in ("like", "reaction", "vote", "follow", "declared_reply") and (brands or not (r[3] in firm or r[4] in firm))]
    count = Counter((a, b) for a, b, *_ in acts)
    answered = {(b, a) for a, b, kind, *_ in acts if kind == "reply"}
    trusts = defaultdict(set)
    for a, b in count:
        if (b, a) in count: trusts[a].add(b)
        for asker, helper in ((a, b), (b, a)):
            if (asker, helper) in answered: trusts[asker].add(helper)
    return trusts, count


def test_whom_to_ask_against_plain_python(town):
    lab = tl.Lab()
    lab.load(town / "twcs.csv", progress=False)
    trusts, count = trust_in_python(lab)
    posts = {r["post_key"]: r for r in lab.sql("select post_key, author_key, reply_to_key, text, created_at from post").iter_rows(named=True)}
    told, seen = defaultdict(list), {}
    for r in posts.values():
        up = posts.get(r["reply_to_key"])
        if up and up["author_key"] != r["author_key"] and "form" in {w.strip(".,!?@\"'").rstrip("s") for w in up["text"].lower().split()}: told[r["author_key"]].append((r["created_at"], up["author_key"]))
        seen[r["author_key"]] = max(seen.get(r["author_key"], r["created_at"]), r["created_at"])
    asked = sorted(k for k in trusts if trusts[k])
    rows = 0
    for person in [*asked[:12], *(k for k in asked if any(x in told for x in trusts[k]))][:30]:
        got = friendsource(lab, person, "form", most=1000)
        one = trusts[person]
        two = set().union(*(trusts[x] for x in one)) - one - {person} if one else set()
        want = []
        for distance, group in ((1, one), (2, two)):
            for x in group & set(told):
                ways = [person] if distance == 1 else [v for v in one if x in trusts[v]]
                want.append((distance, -len(told[x]), -sum(count[(v, x)] + count[(x, v)] for v in ways), x, len(ways), len({a for _, a in told[x]}), max(t for t, _ in told[x]), seen[x]))
        have = [(r["distance"], -r["answers"], -r["ties"], r["account_key"], r["ways"], r["askers"], r["last_answer_at"], r["last_seen_at"]) for r in got.frame.iter_rows(named=True)]
        assert sorted(have) == sorted(want) and [h[:3] for h in have] == sorted(h[:3] for h in have)
        rows += len(have)
    assert rows >= 5
    lab.close()


def forum(tmp_path, rows):
    "A lab of (id, author, parent, text) rows as a twcs file"
    with (tmp_path / "twcs.csv").open("w", newline="") as out:
        write = csv.writer(out)
        write.writerow("tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id".split(","))
        for i, who, up, text in rows: write.writerow([i, who, str(who).isdigit(), (ORIGIN + timedelta(minutes=i)).strftime(FORM), text, "", up])
    lab = tl.Lab()
    lab.load(tmp_path / "twcs.csv", progress=False)
    return lab


def test_topics_are_words_and_wildcards_are_letters(tmp_path):
    lab = forum(tmp_path, [(1, 101, "", "a 50% off_er on C++ [x]?"), (2, 102, 1, "@101 yes"), (3, 103, "", "half off, 500 off"), (4, 102, 3, "@103 no"), (5, 101, "", "Straße und Größe"), (6, 102, 5, "@101 ja"), (7, 101, "", "refundability of apples"), (8, 102, 7, "@101 it is")])
    hits = lambda topic: friendsource(lab, "101", topic).frame["answers"].sum()
    assert [hits(t) for t in ("50%", "off_er", "c++", "[x]", "off", "5_%", "50", "straße", "größ", "GRÖSSE", "half 500", "half 50%", ".*x", "off_", "x] | (a", "refund", "refundabil", "app", "appl", "apples of")] == [1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 1]
    for bad in ("", "  ", "% _", None, 5, "a\0b", ["refund"]):
        with pytest.raises(InvalidParameter, match="topic must be"): friendsource(lab, "101", bad)
    lab.close()


def test_thanks_are_trust_and_private_posts_are_not_looked_at(tmp_path):
    rows = [(1, 101, "", "is the shop open?"), (2, 102, 1, "@101 yes"), (3, 103, "", "the shop is closed on Mondays"), (4, 101, 3, "@103 thank you so much!"), (5, 104, "", "where is the shop?"), (6, 103, 5, "@104 in Elm Street"), (7, 105, "", "hm"), (8, 101, 7, "@105 I disagree"), (9, 105, "", "shop hours?"), (10, 102, 9, "@105 nine"),
            (11, 103, "", "the shop, again"), (12, 103, 11, "I mean the shop in Elm Street")]
    lab = forum(tmp_path, rows)
    m = friendsource(lab, "101", "shop")
    assert m.frame.select("person", "distance", "thanked", "answers", "askers").rows() == [("102", 1, 0, 2, 2), ("103", 1, 1, 1, 1)]
    assert "at distance 1" in m.notes[0] and "looked at 2 people" in m.notes[0], "105 was only spoken to"
    lab.identify(pl.DataFrame({"account": ["102", "105"], "person": ["Bo", "Bo"]}))
    assert friendsource(lab, "101", "shop", per="person").frame.select("person", "answers").sort("person").rows() == [("102", 1), ("103", 1)], "an answer to oneself is none"
    lab.con.execute("update post set visibility = 'direct' where post_key in ('twcs:6')")
    assert friendsource(lab, "101", "shop").frame["person"].to_list() == ["102"]
    lab.con.execute("update post set visibility = 'direct'")
    assert friendsource(lab, "101", "shop").frame.is_empty()
    lab.close()


def test_a_list_of_single_people_leaves_nothing_when_small_groups_are_hidden(tmp_path):
    lab = forum(tmp_path, [(1, 101, "", "is the shop open?"), (2, 880102, 1, "@101 yes"), (3, 880103, 1, "@101 no"), (4, 101, 2, "@880102 thank you!")])
    for m in (friendsource(lab, "101", "shop"), person_view(lab, "101")):
        s = m.suppressed(5)
        assert m.frame.height == 2 and m.figure().data and s.frame.is_empty() and s.frame.columns == m.frame.columns and s.detail.is_empty() and not s.figure().data
        said = json.dumps(s.to_dict()) + tl.core.words(s) + str(s.figure()) + str(s)
        assert not any(told in said for told in ("880102", "880103", "looked at 2", "2024-03")) and "every row is one person" in said
        assert m.suppressed(0) is m and m.suppressed(1).frame.equals(m.frame) and s.suppressed(5).frame.is_empty()
    lab.close()


def test_a_note_does_not_tell_what_is_hidden():
    lab = acts_lab(random_acts(3))
    m = degrees(lab, ["0", "1", "2"], draws=19)
    assert any(n.startswith("3 of ") for n in m.notes) and not any("have the outcome" in n for n in m.suppressed(5).notes) and any("have the outcome" in n for n in m.suppressed(3).notes)
    lab.close()


def test_acts_without_posts_hold_nobodys_words():
    with acts_lab([("a", "b", 0), ("b", "a", 10), ("b", "c", 12)]) as lab:
        for call in (lambda: friendsource(lab, "a", "refund"), lambda: degrees(lab), lambda: degrees(lab, "complaint")):
            with pytest.raises(NotIdentifiable, match="acts without posts"): call()
        assert degrees(lab, ["a"], draws=19).frame["pairs"][0] == 4


def test_people_are_named_by_handle_or_key_and_errors_name_the_argument(tmp_path):
    lab = forum(tmp_path, [(1, 101, "", "@acme is the shop open?"), (2, 102, 1, "@101 yes"), (3, "acme", 1, "@101 it is"), (4, 102, "", "where is the shop?"), (5, 101, 4, "@102 in Elm Street")])
    assert friendsource(lab, "101", "shop").frame["person"].to_list() == ["102"], "nobody is sent to themselves"
    assert friendsource(lab, "@101", "shop").frame.equals(friendsource(lab, "twcs:101", "shop").frame) and friendsource(lab, "101", "shop", brands=True).frame.height == 2
    for call, kind, says in [(lambda: friendsource(lab, "zed", "shop"), InvalidParameter, "'zed' is not in this store"), (lambda: friendsource(lab, "", "shop"), InvalidParameter, "person must be"), (lambda: friendsource(lab, "101", "shop", most=0), InvalidParameter, "most"),
                             (lambda: person_view(lab, "zed"), InvalidParameter, "not in this store"), (lambda: degrees(lab, "answred"), InvalidParameter, "outcome must be one of"), (lambda: degrees(lab, []), InvalidParameter, "at least one row"),
                             (lambda: degrees(lab, ["101"], null="none"), InvalidParameter, "null must be"), (lambda: degrees(lab, ["101"], distance=0), InvalidParameter, "distance"), (lambda: degrees(lab, ["101"], draws=0), InvalidParameter, "draws"),
                             (lambda: degrees(lab, ["101"], within="tenure"), InvalidParameter, "within"), (lambda: degrees(lab, ["101"], within="activity", null="degree"), InvalidParameter, "choose one"), (lambda: degrees(lab, pl.DataFrame({"account": ["101"], "outcome": [3]})), InvalidParameter, "0 or 1"),
                             (lambda: degrees(lab, pl.DataFrame({"account": ["101", "101"], "outcome": [0, 1]})), InvalidParameter, "have both"), (lambda: degrees(lab, pl.DataFrame({"person": ["101"]})), InvalidParameter, "column account"), (lambda: degrees(lab, [None]), InvalidParameter, "every row"),
                             (lambda: degrees(lab, ["101", "102"]), NotIdentifiable, "all have"), (lambda: circles(lab, k=1.5), InvalidParameter, "k must be"), (lambda: circles(lab, names="yes"), InvalidParameter, "names"), (lambda: draw_circle(circles(lab, k=1), 9), InvalidParameter, "circle must be"),
                             (lambda: bystanders(lab, by="role"), InvalidParameter, "by must be"), (lambda: bystanders(lab, brand="bolt"), InvalidParameter, "'bolt'"), (lambda: bystanders(lab, replicates=1), InvalidParameter, "replicates"), (lambda: bystanders(lab, tz="Mars"), InvalidParameter, "tz")]:
        with pytest.raises(kind, match=says): call()
    lab.close()


@pytest.mark.parametrize("call", [bystanders, degrees, circles, lambda lab: degrees(lab, "answered")])
def test_an_empty_store_says_what_would_help(call):
    with tl.Lab() as lab, pytest.raises(NotIdentifiable, match="cannot be answered"): call(lab)


def test_a_store_without_customers_among_themselves_or_without_text(tmp_path, town):
    lab = forum(tmp_path, [(1, 101, "", "@acme hello"), (2, "acme", 1, "@101 hi")])
    with pytest.raises(NotIdentifiable, match="No two people"): degrees(lab, "answered")
    lab.con.execute("update post set text = null")
    for call in (lambda: degrees(lab), lambda: friendsource(lab, "101", "shop"), lambda: bystanders(lab, kind="complaint")):
        with pytest.raises(NotIdentifiable, match="text"): call()
    assert bystanders(lab).frame["bystanders"][0] == 0 and circles(lab, k=1).frame["inside"][0] == 2
    lab.close()


def test_everything_runs_on_a_store_that_may_only_be_read(tmp_path, town):
    with tl.Lab(tmp_path / "s.duckdb") as lab: lab.load(town / "twcs.csv", progress=False)
    with tl.Lab(tmp_path / "s.duckdb", read_only=True) as lab:
        assert bystanders(lab, kind="complaint").frame.height == 1 and degrees(lab, "complaint", draws=19).frame.height == 3 and circles(lab).frame.height > 2
        assert friendsource(lab, "116017", "router").frame.height and person_view(lab, "116017").figure().data
        assert not lab.sql("select table_name from duckdb_tables() where temporary and (table_name like '%_now')").filter(~pl.col("table_name").str.starts_with("signal")).height


# ---- pictures

@settings(max_examples=25)
@given(graphs)
def test_names_never_cover_names_or_marks(case):
    n, edges = case
    at, size = layout(*arrays(edges), n), np.full(n, 12.0)
    names = [f"person {i}" for i in range(n)]
    assert at.shape == (n, 2) and np.abs(at).max() <= 1 + 1e-9 and np.array_equal(at, layout(*arrays(edges), n))
    spots = written(at, names, np.arange(n), size)
    boxes = []
    for i, (x, y) in enumerate((at + 1) / 2 * [290, 360] + 20):
        boxes.append((x - 6, y - 6, x + 6, y + 6))
        if i not in spots: continue
        half = 3.6 * len(names[i])
        x, y = {"top center": (x, y + 15), "bottom center": (x, y - 15), "middle right": (x + 8 + half, y), "middle left": (x - 8 - half, y)}[spots[i]]
        boxes.append((x - half, y - 8, x + half, y + 8))
    clear = [b for b in boxes if b[3] - b[1] > 13]
    marks = [b for b in boxes if b[3] - b[1] < 13]
    for i, a in enumerate(clear): assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in [*clear[:i], *marks])
    x, y = (at[n - 1] + 1) / 2 * [290, 360] + 20
    half = 3.6 * len(names[n - 1])
    free = [(a, b) for a, b in ((x, y + 15), (x, y - 15), (x + 8 + half, y), (x - 8 - half, y))
            if a - half >= -8 and a + half <= 338 and not any(a - half < m[2] and m[0] < a + half and b - 8 < m[3] and m[1] < b + 8 for m in marks)]
    assert (n - 1 in spots) == bool(free)


def test_a_picture_can_be_read_on_a_telephone(tmp_path, town):
    lab = tl.Lab()
    for name in ("twcs.csv", "slack.zip"): lab.load(town / name, progress=False)
    lab.roles(town / "roles.csv")
    m = circles(lab)
    figures = {"circle": m.figure(), "view": person_view(lab, "BirchAir").figure(), "degrees": degrees(lab, "answered", draws=99).figure(), "bystanders": bystanders(lab, by="brand,platform").figure(), "ask": friendsource(lab, "116017", "router").figure()}
    overlaps = """() => { const r = [...document.querySelectorAll('.textpoint text')].filter(t => t.textContent.trim()).map(t => t.getBoundingClientRect());
        let n = 0; for (let i = 0; i < r.length; i++) for (let j = 0; j < i; j++) if (r[i].left < r[j].right - 1 && r[j].left < r[i].right - 1 && r[i].top < r[j].bottom - 3 && r[j].top < r[i].bottom - 3) n++; return [n, r.length, Math.min(...r.map(b => b.left), 99), Math.max(...r.map(b => b.right), 0)]; }"""
    with browser() as chromium:
        for name, figure in figures.items():
            path = tmp_path / f"{name}.html"
            path.write_text('<meta name="viewport" content="width=device-width">' + figure.to_html(include_plotlyjs=True, config={"responsive": True}))
            for width in (1000, 390):
                page = chromium.new_page(viewport={"width": width, "height": 800})
                page.goto(path.resolve().as_uri())
                page.wait_for_selector(".main-svg", state="attached")
                page.wait_for_timeout(400)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, name
                smallest = page.evaluate("Math.min(...[...document.querySelectorAll('.main-svg text')].filter(t => t.textContent.trim()).map(t => parseFloat(getComputedStyle(t).fontSize)))")
                assert smallest >= 12, (name, smallest)
                if name == "circle":
                    clash, count, left, right = page.evaluate(overlaps)
                    assert clash == 0 and count > 10 and left >= 0 and right <= width, (width, clash, count, left, right)
                page.close()
    lab.close()


def test_pictures_keep_to_their_cap_and_escape_names():
    n = 200
    people = pl.DataFrame({"name": [f"<b>{i}</b>" for i in range(n)], "role": ["brand", "staff", "bot", "partner"] + ["customer"] * (n - 4)})
    pairs = pl.DataFrame({"low": [0] * (n - 1), "high": list(range(1, n)), "mutual": [i % 2 == 0 for i in range(n - 1)]})
    figure = picture(people, pairs, "t", "n = 200 people")
    marks = [t for t in figure.data if t.mode == "markers+text"]
    assert sum(len(t.x) for t in marks) == 60 and "60 of 200" in figure.layout.title.text.replace("<br>", " ") and len({t.marker.symbol for t in marks}) == 5
    assert not any("<" in x for t in marks for x in t.text) and {t.name for t in figure.data[:2]} == {"one way", "both ways"}
    at = apart(np.zeros((5, 2)) + np.arange(5)[:, None] * 1e-3)
    assert np.abs(at).max() <= 1 and charts.empty("t", "w") is not None


def test_a_person_with_whom_only_brands_spoke(town):
    lab = tl.Lab()
    lab.load(town / "twcs.csv", progress=False)
    key, other = lab.sql("select from_key, to_key from exchange where from_role = 'brand' group by 1, 2 order by count(*) desc, 1, 2 limit 1").row(0)
    m = person_view(lab, other)
    given, received = (lab.sql(f"select count(*) as n from exchange where {c} = $k", k=other)["n"][0] for c in ("from_key", "to_key"))
    assert (m.frame["given"].sum(), m.frame["received"].sum()) == (given, received) == (m.detail["given"].sum(), m.detail["received"].sum())
    assert m.frame.filter(pl.col("account_key") == key)["role"][0] == "brand" and m.suppressed(2).figure() is not None and m.detail["week"].dt.weekday().unique().to_list() == [1]
    lab.close()


def test_parts_of_a_network_keep_their_pairs():
    rng = np.random.default_rng(0)
    lab = acts_lab([(a, b, i) for i, (a, b) in enumerate(rng.integers(0, 40, (150, 2)).tolist())])
    net = network(lab)
    kept = rng.random(net.size) < 0.5
    part = among(net, kept)
    names = net.people["key"].to_list()
    want = {(names[a], names[b], f, k) for a, b, f, k in net.pairs.select("low", "high", "forth", "back").rows() if kept[a] and kept[b]}
    here = part.people["key"].to_list()
    assert {(here[a], here[b], f, k) for a, b, f, k in part.pairs.select("low", "high", "forth", "back").rows()} == want and part.people["code"].to_list() == list(range(part.size)) and customers(net).all()
    lab.close()
