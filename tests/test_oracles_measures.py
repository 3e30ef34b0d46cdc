"""The measures against a second count in plain Python (csv, dicts and loops, written from the rules), and against what must not change them."""
import csv
import io
import random
import re
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from itertools import count
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

import trustlab as tl
from trustlab.core import InvalidParameter, NotIdentifiable

FORM = "%a %b %d %H:%M:%S %z %Y"
HEADER = ["tweet_id", "author_id", "inbound", "created_at", "text", "response_tweet_id", "in_response_to_tweet_id"]
SPANS = {"15m": 900, "1h": 3600, "24h": 86400, "7d": 604800}
pytestmark = pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")


# ---- the rules, in plain Python

def tweets(path):
    "The rows of a twcs file: whole numbers as ids, times in UTC; a bare carriage return inside a field is text, not a line's end"
    text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\x1e")
    rows = []
    for r in csv.DictReader(io.StringIO(text, newline="")):
        number = lambda s: re.sub(r"\.0$", "", s.strip())
        rows.append({"id": number(r["tweet_id"]), "author": r["author_id"], "inbound": r["inbound"].lower() == "true",
                     "at": datetime.strptime(r["created_at"], FORM).astimezone(timezone.utc), "text": r["text"].replace("\x1e", "\r"),
                     "answers": [number(x) for x in r["response_tweet_id"].split(",") if x], "parent": number(r["in_response_to_tweet_id"])})
    return rows


def first_handle(text):
    "The first @name in a text that is not all digits, in lower case (a handle is the same in any case); an e-mail address is none"
    for found in re.finditer(r"@(\w+)", text, re.ASCII):
        before = text[found.start() - 1] if found.start() else " "
        if not found[1].isdigit() and not re.fullmatch(r"[\w.@]", before, re.ASCII): return found[1].lower()


def topmost(post, by_id):
    "The id one reaches by going up the replies (perhaps one that the file does not hold); None if that never ends"
    seen = set()
    while post in by_id and by_id[post]["parent"]:
        if post in seen: return None
        seen.add(post)
        post = by_id[post]["parent"]
    return post


def addressed(rows):
    "Every post that calls a brand (rule 2), with its answers (rule 8), and with the reason why it cannot count (rule 4), if there is one"
    by_id, voices = {r["id"]: r for r in rows}, {r["author"] for r in rows if not r["inbound"]}
    replies, calls = defaultdict(list), []
    for r in rows:
        if r["author"] in voices and r["parent"]: replies[r["parent"]].append(r)
    for r in rows:
        parent, answering = by_id.get(r["parent"]), sorted(replies[r["id"]], key=lambda a: a["at"])
        if parent and parent["author"] in voices: brand = parent["author"]
        elif answering: brand = answering[0]["author"]
        else: brand = first_handle(r["text"]) if r["inbound"] else None
        if brand is None: continue
        mine = [a["at"] for a in answering if a["author"].lower() == brand.lower()]
        conversation, later = topmost(r["id"], by_id), [at for at in mine if at >= r["at"]]
        outside = not answering and any(a not in by_id for a in r["answers"])
        why = "by_brand" if r["author"] in voices else "reply_cycle" if conversation is None else "answer_outside_export" if outside else None
        calls.append({"id": r["id"], "brand": brand.lower(), "author": r["author"], "conversation": conversation, "at": r["at"], "why": why,
                      "answered": min(later, default=None), "early": len(mine) - len(later)})
    return calls


def called(rows): return [c for c in addressed(rows) if c["why"] is None]


def runs(calls):
    """Runs by a state machine (rule 6): a post joins the open run, or opens one when an answer came since the post before it.

    An answer is a call's first; one of the same second as a post stands before it, unless it answers that post or another of that second."""
    threads, done = defaultdict(list), []
    for c in calls: threads[c["author"], c["brand"], c["conversation"]].append(c)
    for _, posts in sorted(threads.items()):
        answers = [(c["answered"], 2 if c["answered"] == c["at"] else 0, "", None) for c in posts if c["answered"]]
        run, first = None, True
        for _, _, _, call in sorted([(c["at"], 1, c["id"], c) for c in posts] + answers, key=lambda e: e[:3]):
            if call is None: run = None
            elif run is None:
                run = {"brand": call["brand"], "at": call["at"], "posts": [call], "first": first}
                done.append(run)
                first = False
            else: run["posts"].append(call)
    for run in done: run["answered"] = min((p["answered"] for p in run["posts"] if p["answered"]), default=None)
    return done


def units(calls, unit):
    "The units of a measure: every call, every run, or the first run of each conversation, brand and author (rule 7)"
    if unit == "post": return calls
    return [r for r in runs(calls) if unit == "run" or r["first"]]


def waits(items, end):
    "(seconds, 1 answered or 0 still waiting at the end) of each unit"
    return [((min(u["answered"] or end, end) - u["at"]).total_seconds(), int(u["answered"] is not None and u["answered"] <= end)) for u in items]


def kaplan_meier(times):
    "The steps of 1 - S as (time, share): product over the distinct times, those last seen at a time still at risk in it"
    alive, left, steps, at = 1.0, len(times), [], defaultdict(list)
    for t, hit in times: at[t].append(hit)
    for t, hits in sorted(at.items()):
        alive *= 1 - sum(hits) / left
        left -= len(hits)
        steps.append((t, 1 - alive))
    return steps


def share_by(steps, span):
    "1 - S at a horizon; None where nobody was watched that long and somebody still waited"
    if span > steps[-1][0] and steps[-1][1] < 1: return None
    return max((share for t, share in steps if t <= span), default=0.0)


def half(steps):
    "The first time at which half are answered; None if never"
    return next((t for t, share in steps if share >= 0.5 - 1e-12), None)


def monday(at, tz):
    "The Monday of a moment's week on the calendar of a place"
    day = at.astimezone(ZoneInfo(tz)).date()
    return day - timedelta(days=day.weekday())


def grouped(items, *keys):
    "Items by the values of `keys`, in the order of those"
    found = defaultdict(list)
    for item in items: found[tuple(key(item) for key in keys)].append(item)
    return dict(sorted(found.items()))


# ---- comparing

def close(got, want, tolerance=1e-12):
    assert (got is None) == (want is None), (got, want)
    assert got is None or abs(got - want) <= tolerance, (got, want)


def same_acknowledgement(frame, groups, end):
    "Each row of the frame is what the loop says of that group"
    names = [c for c in ("brand", "week") if c in frame.columns]
    keys = frame.select(names).rows() if names else [()]
    got = {tuple(k.lower() if isinstance(k, str) else k for k in key): row for key, row in zip(keys, frame.iter_rows(named=True))}
    assert len(keys) == len(got) and got.keys() == groups.keys(), (sorted(got), sorted(groups))
    for key, items in groups.items():
        times, row = waits(items, end), got[key]
        steps, hits = kaplan_meier(times), sum(hit for _, hit in times)
        assert (row["n"], row["acknowledged"], row["pending"]) == (len(times), hits, len(times) - hits), (key, row, times)
        close(row["response_rate"], hits / len(times))
        close(row["median_seconds"], half(steps), 0)
        for label, span in SPANS.items(): close(row[f"ack_{label}"], share_by(steps, span))


def same_frames(a, b, tolerance=1e-9):
    assert a.columns == b.columns and a.height == b.height, (a, b)
    for column in a.columns:
        if a[column].dtype != pl.Float64: assert a[column].to_list() == b[column].to_list(), (column, a, b)
        else:
            for x, y in zip(a[column], b[column]): close(x, y, tolerance)


# ---- communities as files

ZERO = datetime(2024, 3, 22, 20, tzinfo=timezone.utc)
NUMBERS = count()


def write(rows, path):
    "A twcs file; the recorded answers are the replies in the file, and `outside`: ids that no row has"
    below = defaultdict(list)
    for r in rows: below[r["parent"]].append(r["id"])
    with path.open("w", newline="", encoding="utf-8") as out:
        line = csv.writer(out)
        line.writerow(HEADER)
        for r in rows: line.writerow([r["id"], r["author"], r["inbound"], r["at"].strftime(FORM), r["text"], ",".join(below[r["id"]] + r.get("outside", [])), r["parent"]])
    return path


def community(choose, k, size):
    """Rows about three brands and four customers, in any knot: threads, chasers, cycles, answers before the call and outside of the file.

    `choose(options)` picks; ids, brands and customers carry the number `k`, so that many communities fit into one file."""
    step, longest, chatty = choose([60, 900, 5 * 3600]), choose([8, 60]), choose([True, False])
    ids, names, rows = [str(1000 * (k + 1) + i) for i in range(size)], [f"Acme{k}", f"Birch{k}", f"Cedar{k}"], []
    for i in range(size):
        inbound = choose([True, True, True, False, False])
        author = choose([f"{c}{k:05}" for c in ("12" if chatty else "1234")]) if inbound else choose(names[:1] * 3 if chatty else [*names, names[0]])
        before = [ids[i - 1]] * 3 + ids[max(0, i - 4):i] if i else [""]
        parent = choose(before if chatty or choose([True, False]) else [*ids, "", "", "", "", f"{1000 * (k + 1) + 901}"])
        rows.append({"id": ids[i], "author": author, "inbound": inbound, "at": ZERO + timedelta(seconds=step * (i if chatty and choose([True, True, False]) else choose(range(longest)))),
                     "parent": parent, "outside": choose([[]] * 11 + [[f"{1000 * (k + 1) + 910 + i}"]])})
    voices = sorted({r["author"] for r in rows if not r["inbound"]})
    for r in rows:
        if voices and r["inbound"] and choose([False] * 29 + [True]): r["author"] = choose(voices)
        handles = [choose([str, str.lower, str.upper])(choose([*names, f"Zed_{k}", "102"])) for _ in range(choose([0, 1, 1, 2]))]
        r["text"] = " ".join(["@" + h for h in handles] + [choose(["hello", "me@mail.example", "how do I reset it?", "I would recommend it", "I would recommend it"])])
    return [] if disputed(rows) else rows


def disputed(rows):
    "Whether two brands answer a post first, in the same second: no rule says which of them it called"
    for r in rows:
        first = sorted((a["at"], a["author"]) for a in rows if a["parent"] == r["id"] and not a["author"].isdigit())
        if len({author for at, author in first if at == first[0][0]}) > 1: return True
    return False


def many(seed, n):
    "Many communities in one file, its rows in any order"
    rng = random.Random(seed)
    rows = [r for k in range(n) for r in community(rng.choice, k, rng.randint(1, 12))]
    rng.shuffle(rows)
    return rows


@st.composite
def communities(draw):
    rows = community(lambda options: draw(st.sampled_from(list(options))), 0, draw(st.integers(1, 12)))
    assume(rows)
    return draw(st.permutations(rows))


def loaded(rows, folder):
    "A lab with the rows, and what the oracle reads from the same file"
    path = write(rows, folder / f"{next(NUMBERS)}.csv")
    lab = tl.Lab()
    lab.load(path, scope="both")
    return lab, tweets(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory): return tmp_path_factory.mktemp("communities")


@pytest.fixture(scope="module")
def village(folder):
    "Two hundred and fifty communities in one lab, and their rows"
    lab, rows = loaded(many(5, 250), folder)
    with lab: yield lab, rows


@pytest.fixture(scope="module")
def townsfolk(town):
    "The town's twcs file in a lab, and its rows"
    with tl.Lab() as lab:
        lab.load(town / "twcs.csv")
        yield lab, tweets(town / "twcs.csv")


# ---- acknowledgement

REASONS = {"answer_outside_export": "calls whose recorded answer lies outside the export", "by_brand": "posts by brands", "reply_cycle": "posts in a reply cycle"}


def told(measure):
    "What the notes say was left out, as words to counts"
    found = (re.match(r"left out: ([\d,]+) (.*)", note) for note in measure.notes)
    return {m[2]: int(m[1].replace(",", "")) for m in found if m}


def check_units(lab, rows, *only):
    calls, end = called(rows), max(r["at"] for r in rows)
    for unit in only or ("conversation", "run", "post"):
        frame = tl.acknowledgement(lab, by="brand", unit=unit).frame
        same_acknowledgement(frame, grouped(units(calls, unit), lambda u: u["brand"]), end)


def check_notes(lab, rows):
    everything = addressed(rows)
    measure, why = tl.acknowledgement(lab, unit="post"), Counter(c["why"] for c in everything if c["why"])
    same_acknowledgement(measure.frame, {(): called(rows)}, max(r["at"] for r in rows))
    early = sum(c["early"] for c in everything if c["why"] is None)
    assert told(measure) == {REASONS[w]: n for w, n in why.items()} | ({"replies dated before the call they answer": early} if early else {})


def check_weeks(lab, rows, tz):
    end = max(r["at"] for r in rows)
    frame = tl.acknowledgement(lab, by=("brand", "week"), tz=tz).frame
    same_acknowledgement(frame, grouped(units(called(rows), "conversation"), lambda u: u["brand"], lambda u: monday(u["at"], tz)), end)
    closing = [datetime.combine(week + timedelta(days=7), datetime.min.time(), ZoneInfo(tz)) for week in frame["week"]]
    assert frame["partial"].to_list() == [end < moment for moment in closing]


def check_worklist(lab, rows, unit="conversation"):
    end = max(r["at"] for r in rows)
    waiting = [(r["brand"], r["at"].replace(tzinfo=None), (end - r["at"]).total_seconds(), len(r["posts"]), "first call" if r["first"] else "came back", "twcs:" + r["posts"][0]["id"])
               for r in units(called(rows), unit) if r["answered"] is None]
    got = tl.worklist(lab, unit=unit)
    listed = [(b.lower(), *rest) for b, *rest in got.select("brand", "waiting_since", "waited_seconds", "posts", "kind", "post_key").rows()]
    assert got.equals(got.sort(["risk", "waiting_since"], descending=[True, False], maintain_order=True)) and sorted(listed) == sorted(waiting)


@pytest.mark.parametrize("unit", ["conversation", "run", "post"])
@pytest.mark.parametrize("where", ["townsfolk", "village"])
def test_acknowledgement_of_each_brand(request, where, unit): check_units(*request.getfixturevalue(where), unit)


@pytest.mark.parametrize("where", ["townsfolk", "village"])
def test_what_is_left_out_is_counted(request, where): check_notes(*request.getfixturevalue(where))


@pytest.mark.parametrize("tz", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
@pytest.mark.parametrize("where", ["townsfolk", "village"])
def test_weeks_begin_on_monday_where_one_is(request, where, tz): check_weeks(*request.getfixturevalue(where), tz)


@pytest.mark.parametrize("unit", ["conversation", "run"])
@pytest.mark.parametrize("where", ["townsfolk", "village"])
def test_who_waits(request, where, unit): check_worklist(*request.getfixturevalue(where), unit)


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture])
@given(rows=communities())
def test_acknowledgement_of_any_community(folder, rows):
    lab, read = loaded(rows, folder)
    with lab:
        if called(read): check_units(lab, read)
        else:
            with pytest.raises(NotIdentifiable): tl.acknowledgement(lab)


def test_scikit_survival_gives_the_same(townsfolk):
    sksurv = pytest.importorskip("sksurv.nonparametric", reason="scikit-survival is not installed")
    lab, rows = townsfolk
    frame, end = tl.acknowledgement(lab, by="brand", unit="run").frame, max(r["at"] for r in rows)
    for (brand,), items in grouped(units(called(rows), "run"), lambda u: u["brand"]).items():
        times = waits(items, end)
        x, y = sksurv.kaplan_meier_estimator([bool(hit) for _, hit in times], [t for t, _ in times])
        row = next(r for r in frame.iter_rows(named=True) if r["brand"].lower() == brand)
        for label, span in SPANS.items(): close(row[f"ack_{label}"], 1 - y[x <= span][-1])
        close(row["median_seconds"], next((float(t) for t, s in zip(x, y) if s <= 0.5 + 1e-12), None), 0)


def tiny(*rows):
    "Rows from (author, minute, parent, text), numbered from 1; who is called by digits is a customer"
    return [{"id": str(i), "author": a, "inbound": a.isdigit(), "at": ZERO + timedelta(minutes=m), "parent": str(p or ""), "text": text} for i, (a, m, p, text) in enumerate(rows, 1)]


TINY = {
    "an answer in the same second ends the run": tiny(("101", 0, None, "@Acme a"), ("Acme", 0, 1, ""), ("101", 5, 2, "b"), ("Acme", 60, None, "")),
    "an answer in the same second stands after its post": tiny(("101", 0, None, "@Acme a"), ("Acme", 5, 1, ""), ("101", 10, 2, "b"), ("101", 20, 2, "c"), ("Acme", 20, 4, ""), ("Acme", 60, None, "")),
    "an answer to an older post ends the run": tiny(("101", 0, None, "@Acme a"), ("101", 10, 1, "@Acme b"), ("Acme", 20, 1, ""), ("101", 30, 3, "c"), ("Acme", 35, 2, ""), ("101", 40, 5, "d"), ("Acme", 60, None, "")),
    "a second reply to the same post ends no run": tiny(("101", 0, None, "@Acme a"), ("Acme", 10, 1, ""), ("101", 20, 2, "b"), ("Acme", 25, 1, ""), ("101", 30, 4, "c"), ("Acme", 60, None, "")),
    "a handle in a reply is the same in any case": tiny(("101", 0, None, "hello"), ("102", 1, 1, "@ACME can you help?"), ("Acme", 60, None, "")),
    "a silent brand is one in any spelling": tiny(("101", 0, None, "@Quiet a"), ("102", 1, None, "@quiet b"), ("Acme", 60, None, "")),
    "a silent brand called in a reply": tiny(("101", 0, None, "hello"), ("102", 1, 1, "@Quiet can you help?"), ("103", 2, None, "@Acme a"), ("Acme", 60, None, "")),
    "of two posts in one second the lower key stands first": tiny(("101", 0, None, "@Acme a"), ("101", 0, 1, "@Acme b"), ("Acme", 60, None, ""))[::-1],
    "two brands in a thread": tiny(("101", 0, None, "@Acme @Birch a"), ("Birch", 5, 1, ""), ("101", 6, 2, "@Acme b"), ("Acme", 9, 3, ""), ("102", 10, 2, "c"), ("Acme", 60, None, "")),
}


@pytest.mark.parametrize("name", TINY)
def test_by_the_rule(folder, name):
    lab, rows = loaded(TINY[name], folder)
    with lab: check_units(lab, rows), check_notes(lab, rows), check_worklist(lab, rows, "run")


# ---- reciprocity

PEOPLE = "abcdef"
ROLES = {"a": "brand", "b": "staff", "c": "customer", "d": "customer"}
DAY, START = 86400, int(ZERO.timestamp())


def gave_back(acts, window, *keys, pooled=lambda act: None):
    """Every number of reciprocity in loops: acts are (giver, receiver, time or None); groups by `keys` of the act given.

    Edges of a group look for their way back among all acts that agree in `pooled`; acts look for their return among all acts."""
    end = max(t for _, _, t in acts if t is not None)
    real = [a for a in acts if None not in a and a[0] != a[1]]
    weight = Counter((pooled(a), a[0], a[1]) for a in real)
    found, sent = {}, defaultdict(list)
    for giver, receiver, t in real: sent[giver, receiver].append(t)
    for key, mine in grouped(real, *keys).items():
        edges = Counter((pooled(a), a[0], a[1]) for a in mine)
        back = {e: weight[e[0], e[2], e[1]] for e in edges}
        dyads = {mutual: {frozenset(e[1:]) for e in edges if (back[e] > 0) == mutual} for mutual in (True, False)}
        people, times, returns = {x for e in edges for x in e[1:]}, [], set()
        for giver, receiver, t in mine:
            at = min((u for u in sent[receiver, giver] if u > t), default=None)
            times.append((float((at or end) - t), int(at is not None)))
            if at is not None and at - t <= window: returns.add((receiver, giver, at))
        r, density = sum(back[e] > 0 for e in edges) / len(edges), len(edges) / (len(people) * (len(people) - 1))
        found[key] = {"accounts": len(people), "edges": len(edges), "mutual": len(dyads[True]), "asymmetric": len(dyads[False]),
                      "edge_reciprocity": r, "dyad_reciprocity": len(dyads[True]) / (len(dyads[True]) + len(dyads[False])),
                      "rho": (r - density) / (1 - density) if density < 1 else None,
                      "weighted_reciprocity": sum(min(edges[e], back[e]) for e in edges) / sum(edges.values()),
                      "numeric_symmetry": sum(edges[e] == back[e] for e in edges) / len(edges), "given": len(mine),
                      "returned": sum(hit and t <= window for t, hit in times), "returning_acts": len(returns),
                      "return_rate": share_by(kaplan_meier(times), window), "median_return_seconds": half(kaplan_meier(times))}
    return found


def same_reciprocity(frame, found, *names):
    assert [tuple(row) for row in frame.select(names).rows()] == list(found) if names else frame.height == 1
    for row, want in zip(frame.iter_rows(named=True), found.values()):
        for column, value in want.items(): close(row[column], value)


def lab_of(acts):
    givers, receivers, times = zip(*acts)
    return tl.from_acts(pl.DataFrame({"from": givers, "to": receivers, "occurred_at": times}, schema_overrides={"occurred_at": pl.Int64}))


def multigraph(times): return st.lists(st.tuples(st.sampled_from(PEOPLE), st.sampled_from(PEOPLE), times), min_size=1, max_size=60)


def two_sided(acts): return any(a != b and t is not None for a, b, t in acts)


@settings(max_examples=20)
@given(acts=multigraph(st.one_of(st.none(), st.integers(START, START + 40), st.integers(START, START + 40), st.integers(START, START + 40))), window=st.sampled_from([1, 5, 40]))
def test_reciprocity_of_any_multigraph(acts, window):
    nx = pytest.importorskip("networkx", reason="networkx is not installed")
    assume(any(t is not None for _, _, t in acts))
    with lab_of(acts) as lab:
        if not two_sided(acts):
            with pytest.raises(NotIdentifiable): tl.reciprocity(lab, window=f"{window}s")
            return
        measure = tl.reciprocity(lab, window=f"{window}s")
    same_reciprocity(measure.frame, gave_back(acts, window))
    graph = nx.DiGraph((a, b) for a, b, t in acts if a != b and t is not None)
    close(measure.frame["edge_reciprocity"][0], nx.overall_reciprocity(graph))
    close(measure.frame["edge_reciprocity"][0], nx.reciprocity(graph))
    own, undated = sum(a == b for a, b, _ in acts), sum(t is None for _, _, t in acts)
    assert told(measure) == {words: n for words, n in {"acts towards oneself": own, "acts without a date": undated}.items() if n}


def monday_of(act, tz): return monday(datetime.fromtimestamp(act[2], timezone.utc), tz)


@settings(max_examples=12)
@given(acts=multigraph(st.integers(0, 60).map(lambda k: START + k * DAY // 4)), tz=st.sampled_from(["UTC", "Europe/Berlin"]))
def test_reciprocity_by_roles_and_weeks(acts, tz):
    assume(two_sided(acts))
    with lab_of(acts) as lab:
        present = sorted({x for a, b, _ in acts for x in (a, b)} & ROLES.keys())
        if present: lab.roles(pl.DataFrame({"account": present, "role": [ROLES[p] for p in present], "brand": ["acme" if ROLES[p] in ("brand", "staff") else None for p in present]}))
        pair = lambda a: "→".join(ROLES.get(x, "unknown") for x in a[:2])
        week = lambda a: monday_of(a, tz)
        pairs = gave_back(acts, 2 * DAY, pair)
        for row in pairs.values(): row["rho"] = None
        same_reciprocity(tl.reciprocity(lab, by="role_pair", window="2d").frame, pairs, "role_pair")
        weeks = gave_back(acts, 2 * DAY, week, pooled=week)
        same_reciprocity(tl.reciprocity(lab, by="week", window="2d", tz=tz).frame, weeks, "week")


def test_likes_count_only_when_asked_for():
    acts = [("a", "b", 0, "reply"), ("b", "a", 5, "like"), ("a", "c", 6, "follow"), ("c", "a", 7, "mention")]
    frame = pl.DataFrame(acts, schema=["from", "to", "occurred_at", "kind"], orient="row")
    with tl.from_acts(frame) as lab:
        got = [tl.reciprocity(lab, kinds=kinds).frame.select("edges", "mutual", "given", "returned").row(0) for kinds in (None, ["reply", "like"], ["follow"])]
    assert got == [(2, 0, 2, 0), (2, 1, 2, 1), (1, 0, 1, 0)]


def test_reciprocity_of_the_town(townsfolk):
    lab, rows = townsfolk
    by_id, brands = {r["id"]: r for r in rows}, {r["author"].lower(): r["author"] for r in rows if not r["inbound"]}
    acts = []
    for r in rows:
        if r["parent"] in by_id: acts.append((r["author"], by_id[r["parent"]]["author"], int(r["at"].timestamp())))
        name = first_handle(r["text"]) if r["inbound"] else None
        answered = by_id[r["parent"]]["author"].lower() if r["parent"] in by_id else None
        if name and name != answered: acts.append((r["author"], brands.get(name, name), int(r["at"].timestamp())))
    role = lambda x: "brand" if x in brands.values() else "customer"
    pairs = gave_back(acts, 7 * DAY, lambda a: role(a[0]) + "→" + role(a[1]))
    for row in pairs.values(): row["rho"] = None
    same_reciprocity(tl.reciprocity(lab, by="role_pair").frame, pairs, "role_pair")
    same_reciprocity(tl.reciprocity(lab).frame, gave_back(acts, 7 * DAY))


# ---- conversion

def journeys(rows, advocates):
    "(brand, seconds, converted or not) from each person's first answer by a brand, and how many had recommended it before; `advocates` are ids of posts"
    end, people, spoken = max(r["at"] for r in rows), defaultdict(list), defaultdict(list)
    for c in addressed(rows):
        if c["id"] in advocates and c["why"] != "by_brand": spoken[c["author"], c["brand"]].append(c["at"])
        if c["why"] is None and c["answered"]: people[c["author"], c["brand"]].append(c["answered"])
    found, before = [], 0
    for (author, brand), answers in people.items():
        zero = min(answers)
        later = [t for t in spoken[author, brand] if t > zero]
        if len(later) < len(spoken[author, brand]): before += 1
        else: found.append((brand, (min(later, default=end) - zero).total_seconds(), int(bool(later))))
    return found, before


def check_conversion(lab, rows, advocates, spans):
    found, before = journeys(rows, advocates)
    for by in ([], ["brand"]):
        measure, groups = tl.conversion(lab, horizon=list(spans), by=by), grouped(found, *([lambda j: j[0]] if by else []))
        answered = measure.frame.filter(pl.col("arm") == "acknowledged")
        got = {(row["brand"].lower(),) if by else (): row for row in answered.iter_rows(named=True)}
        assert got.keys() == groups.keys() and told(measure).get("people who had recommended the brand before its first answer", 0) == before
        for key, people in groups.items():
            times, row = [(t, hit) for _, t, hit in people], got[key]
            assert (row["arm"], row["n"], row["events"]) == ("acknowledged", len(times), sum(hit for _, hit in times))
            for label, span in spans.items():
                close(row[f"conversion_{label}"], share_by(kaplan_meier(times), span))
                close(row[f"naive_{label}"], sum(hit and t <= span for t, hit in times) / len(times))


def test_conversion_of_the_town(townsfolk):
    lab, rows = townsfolk
    advocates = {key.removeprefix("twcs:") for key in lab.signals("advocacy").filter(pl.col("present"))["post_key"]}
    assert len(advocates) > 50
    check_conversion(lab, rows, advocates, {"7d": 7 * DAY, "30d": 30 * DAY, "90d": 90 * DAY})


def test_conversion_of_many_communities(village):
    lab, rows = village
    advocates = {r["id"] for r in rows if "I would recommend it" in r["text"]}
    assert sum(hit for _, _, hit in journeys(rows, advocates)[0]) > 5
    check_conversion(lab, rows, advocates, {"15m": 900, "24h": DAY, "7d": 7 * DAY})


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(rows=communities())
def test_conversion_of_any_community(folder, rows):
    advocates = {r["id"] for r in rows if "I would recommend it" in r["text"]}
    lab, read = loaded(rows, folder)
    with lab:
        if journeys(read, advocates)[0]: check_conversion(lab, read, advocates, {"15m": 900, "24h": DAY})
        else:
            with pytest.raises(NotIdentifiable): tl.conversion(lab)


# ---- what must not change the numbers

def numbers(lab, tz="Asia/Kolkata"):
    "Frames of every measure; the worklist by its times and posts"
    measures = [tl.acknowledgement(lab, by="brand", unit=unit) for unit in ("conversation", "run", "post")]
    measures += [tl.acknowledgement(lab, by="week", tz=tz), tl.reciprocity(lab, by="role_pair"), tl.reciprocity(lab, by=("brand", "week"), tz=tz), tl.conversion(lab, by="brand")]
    return [m.frame for m in measures] + [m.detail for m in measures if m.detail.height], tl.worklist(lab, unit="run", people=False)


def one_spelling(frame):
    "Brands in lower case: which spelling names a brand that never wrote is fixed by no rule"
    names = [c for c in ("role_pair", "brand", "week", "seconds") if c in frame.columns]
    return frame.with_columns(pl.col(c).str.to_lowercase() for c in names if c == "brand").sort(names) if names else frame


def all_the_same(a, b, tolerance=1e-9, keys=True):
    a, b = ([*map(one_spelling, frames)] + [one_spelling(waiting)] for frames, waiting in (a, b))
    for x, y in zip(a[:-1], b[:-1], strict=True): same_frames(x, y, tolerance)
    x, y = (frame.sort(pl.all()) if keys else frame.drop("post_key").sort(pl.all()) for frame in (a[-1], b[-1]))
    assert x.equals(y)


def fresh(folder, *files, threads=None):
    "The numbers of a new lab with these files, given as lists of rows"
    paths = [write(rows, folder / f"{next(NUMBERS)}.csv") for rows in files]
    with tl.Lab() as lab:
        for path in paths: lab.load(path, scope="both")
        if threads: assert lab.sql("select current_setting('threads') as n")["n"][0] == threads
        return numbers(lab)


@pytest.fixture(scope="module", params=["townsfolk", "village"])
def original(request, folder):
    "Rows, and the numbers of the file that holds them"
    rows = request.getfixturevalue(request.param)[1]
    known = {r["id"] for r in rows}
    rows = [r | {"outside": [a for a in r["answers"] if a not in known]} for r in rows]
    return rows, fresh(folder, rows)


def test_the_order_of_rows_changes_nothing(original, folder):
    rows, before = original
    all_the_same(before, fresh(folder, random.Random(1).sample(rows, len(rows))))


def test_other_ids_change_nothing(original, folder):
    rows, before = original
    rng = random.Random(2)
    ids = dict(zip(sorted({x for r in rows for x in (r["id"], r["parent"], *r["outside"]) if x}), map(str, rng.sample(range(10**6, 10**7), 40000)))) | {"": ""}
    people = {a: f"7{i}" for i, a in enumerate(rng.sample(sorted({r["author"] for r in rows if r["author"].isdigit()}), len({r["author"] for r in rows if r["author"].isdigit()})))}
    renamed = [r | {"id": ids[r["id"]], "parent": ids[r["parent"]], "outside": [ids[x] for x in r["outside"]], "author": people.get(r["author"], r["author"])} for r in rows]
    all_the_same(before, fresh(folder, renamed), keys=False)


def test_whole_weeks_later_it_is_the_same(original, folder):
    rows, before = original
    frames, waiting = fresh(folder, [r | {"at": r["at"] + timedelta(weeks=9)} for r in rows])
    moved = [f.with_columns(pl.col("week") - pl.duration(weeks=9)) if "week" in f.columns else f for f in frames]
    all_the_same(before, (moved, waiting.with_columns(pl.col("waiting_since") - pl.duration(weeks=9))))


def halves(rows, how):
    "The rows in two parts: whole conversations, the earlier and the later, or row by row"
    if how == "conversations":
        by_id, place = {r["id"]: r for r in rows}, {}
        def group(x):
            while place.setdefault(x, x) != x: x = place[x]
            return x
        for r in rows: place[group(r["id"])] = group(r["parent"]) if r["parent"] else group(r["id"])
        side = {r["id"]: sum(map(int, group(r["id"]))) % 2 for r in by_id.values()}
    else:
        order = sorted(rows, key=lambda r: r["at"]) if how == "time" else random.Random(4).sample(rows, len(rows))
        side = {r["id"]: int(i >= len(rows) // 2) for i, r in enumerate(order)}
    below = defaultdict(list)
    for r in rows: below[r["parent"]].append(r)
    return [[r | {"outside": r["outside"] + [b["id"] for b in below[r["id"]] if side[b["id"]] != k]} for r in rows if side[r["id"]] == k] for k in (0, 1)]


@pytest.fixture(scope="module", params=["townsfolk", "village"])
def simple(request, folder):
    """The same where no file of two can mislead: without communities that hold a cycle or a brand that writes as a customer, and without the names
    of those who never write (the file with the call makes them brands, the one with its answer would not have)"""
    rows = request.getfixturevalue(request.param)[1]
    by_id, voices = {r["id"]: r for r in rows}, {r["author"] for r in rows if not r["inbound"]}
    odd = {r["id"][:-3] for r in rows if request.param == "village" and (topmost(r["id"], by_id) is None or r["inbound"] and r["author"] in voices)}
    spoken = {v.lower() for v in voices}
    known = lambda text: re.sub(r"@(\w+)", lambda m: m[0] if m[1].lower() in spoken else "@102", text)
    kept = [r | {"text": known(r["text"]), "outside": [a for a in r["answers"] if a not in by_id]} for r in rows if r["id"][:-3] not in odd]
    return kept, fresh(folder, kept)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("how", ["conversations", "time", "rows"])
def test_two_files_are_one(simple, folder, how, first):
    rows, before = simple
    parts = halves(rows, how)
    assert all(len(p) > len(rows) / 4 for p in parts) and len(rows) > 500
    all_the_same(before, fresh(folder, parts[first], parts[1 - first]))


PARTS = {
    "a thread that goes to and fro between them": (tiny(("101", 0, None, "@Acme a"), ("Acme", 1, 1, ""), ("101", 2, 2, "b"), ("Acme", 3, 3, ""), ("101", 4, 4, "c"), ("Acme", 60, None, "")), {"3", "5"}),
    "a spelling that the brand's own posts correct": (tiny(("101", 0, None, "@ACME a"), ("102", 1, None, "@acme b"), ("Acme", 60, None, "")), {"1"}),
    "a brand that never writes, spelled in two ways": (tiny(("101", 0, None, "@Quiet a"), ("102", 1, None, "@quiet b"), ("Acme", 60, None, "")), {"1", "3"}),
    "a reply that names another brand": (tiny(("101", 0, None, "@Acme a"), ("Acme", 1, 1, ""), ("101", 2, 2, "I asked @Birch too"), ("Birch", 60, None, "")), {"3", "4"}),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_loaded_in_either_order(folder, name):
    rows, some = PARTS[name]
    parts = [[r for r in rows if (r["id"] in some) == chosen] for chosen in (True, False)]
    def read(*files):
        with tl.Lab() as lab:
            for file in files: lab.load(write(file, folder / f"{next(NUMBERS)}.csv"), scope="both")
            calls = lab.sql("select post_key, lower(brand), conversation_key, eligible from inbound order by all").rows()
            return calls, one_spelling(tl.acknowledgement(lab, by="brand").frame), tl.reciprocity(lab, by="role_pair").frame
    calls, *frames = read(rows)
    for order in (parts, parts[::-1]):
        calls_then, *frames_then = read(*order)
        assert calls_then == calls
        for a, b in zip(frames, frames_then, strict=True): same_frames(a, b)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_not_a_bit(original, folder, monkeypatch, threads):
    rows, before = original
    monkeypatch.setattr(tl.Lab, "open", lambda lab, plain=tl.Lab.open: (plain(lab), lab.con.execute(f"set threads = {threads}"))[0])
    now = fresh(folder, rows, threads=threads)
    assert all(a.equals(b) for a, b in zip(before[0], now[0], strict=True)) and before[1].equals(now[1])


def test_memory_file_and_reading_only_are_the_same(town, tmp_path, townsfolk):
    store = tmp_path / "store.duckdb"
    with tl.Lab(store) as lab:
        lab.load(town / "twcs.csv")
        written = numbers(lab)
    with tl.Lab(store, read_only=True) as lab: read = numbers(lab)
    for now in (written, read): all_the_same(numbers(townsfolk[0]), now, 0)


# ---- refusals

MEASURES = {"acknowledgement": tl.acknowledgement, "worklist": tl.worklist, "reciprocity": tl.reciprocity, "conversion": tl.conversion}


@pytest.mark.parametrize("name", MEASURES)
def test_an_empty_store_answers_nothing(name):
    with tl.Lab() as lab, pytest.raises(NotIdentifiable, match="[Nn]othing is loaded"): MEASURES[name](lab)


@pytest.mark.parametrize("name", MEASURES)
def test_one_side_alone_answers_nothing(name, town):
    with tl.Lab() as lab:
        assert lab.load(town / "mastodon.tar.gz").loads[0]["scope"] == "own"
        with pytest.raises(NotIdentifiable, match="one side only"): MEASURES[name](lab)


@pytest.mark.parametrize(("name", "wrong", "says"), [
    *((name, {"brand": "BirchAyr"}, "BirchAir") for name in MEASURES),
    *((name, {"by": "fortnight"}, "by must be one of .*got 'fortnight'") for name in MEASURES if name != "worklist"),
    ("acknowledgement", {"unit": "thread"}, "unit must be one of"), ("acknowledgement", {"within": "soon"}, "within must be a positive duration"),
    ("acknowledgement", {"within": ("1h", "-1h")}, "within must be"), ("acknowledgement", {"within": ()}, "within must hold"), ("acknowledgement", {"tz": "Mars/Olympus"}, "tz must be one of"),
    ("reciprocity", {"window": "7 moons"}, "window must be a positive duration"), ("reciprocity", {"window": 0}, "window must be"), ("reciprocity", {"tz": "Mars/Olympus"}, "tz must be one of"),
    ("conversion", {"horizon": "30"}, "horizon must be"), ("conversion", {"horizon": ()}, "horizon must hold"),
    ("conversion", {"exposure": "giveaway"}, "exposure must be one of"), ("conversion", {"outcome": "purchase"}, "outcome must be one of"),
], ids=str)
def test_what_is_not_there_is_named(townsfolk, name, wrong, says):
    with pytest.raises(InvalidParameter, match=says): MEASURES[name](townsfolk[0], **wrong)


def test_a_brand_that_nobody_called_is_refused_and_not_answered_with_0(town):
    with tl.Lab() as lab:
        lab.load(town / "twcs.csv")
        lab.con.execute("insert into account (account_key, platform, handle, kind, placeholder, person_key) values ('twcs:Zed', 'twcs', 'Zed', 'organization', true, 'twcs:Zed')")
        lab.con.execute("insert into role values ('twcs:Zed', 'brand', 'Zed', null, null, 'declared')")
        for by in ((), ("brand",), ("week",)):
            with pytest.raises(tl.NotIdentifiable, match="nobody called"): tl.acknowledgement(lab, brand="Zed", by=by)
