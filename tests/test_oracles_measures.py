"""The measures against a second count in plain Python (csv, dicts and loops, written from the rules), and against what must not change them."""
import csv
import io
import random
import re
import warnings
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta, timezone
from itertools import count
from zoneinfo import ZoneInfo

import numpy as np
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


def called(rows):
    "Every eligible call with its first answer (DESIGN 4, rules 2, 4, 8), and how many were left out, by reason"
    by_id, voices = {r["id"]: r for r in rows}, {r["author"] for r in rows if not r["inbound"]}
    replies = defaultdict(list)
    for r in rows:
        if r["author"] in voices and r["parent"]: replies[r["parent"]].append(r)
    calls, out = [], Counter()
    for r in rows:
        parent, answering = by_id.get(r["parent"]), sorted(replies[r["id"]], key=lambda a: a["at"])
        if parent and parent["author"] in voices: brand = parent["author"].lower()
        elif answering: brand = answering[0]["author"].lower()
        else: brand = first_handle(r["text"]) if r["inbound"] else None
        if brand is None: continue
        conversation, mine = topmost(r["id"], by_id), [a for a in answering if a["author"].lower() == brand]
        out["early"] += sum(a["at"] < r["at"] for a in mine) if r["author"] not in voices and conversation is not None else 0
        if r["author"] in voices: out["by_brand"] += 1
        elif conversation is None: out["reply_cycle"] += 1
        elif not answering and any(a not in by_id for a in r["answers"]): out["answer_outside_export"] += 1
        else:
            later = [a["at"] for a in mine if a["at"] >= r["at"]]
            calls.append({"id": r["id"], "brand": brand, "author": r["author"], "conversation": conversation, "at": r["at"], "replies": later, "answered": min(later, default=None)})
    return calls, out


def runs(calls):
    "Runs by a state machine (rule 6): a post opens a run or joins the open one, a reply to a post of the open run closes it"
    threads = defaultdict(list)
    for c in calls: threads[c["author"], c["brand"], c["conversation"]].append(c)
    done = []
    for _, posts in sorted(threads.items()):
        run = None
        for c in sorted(posts, key=lambda c: (c["at"], c["id"])):
            if run is None or any(p["answered"] and p["answered"] <= c["at"] for p in run["posts"]):
                run = {"brand": c["brand"], "at": c["at"], "posts": [], "first": run is None}
                done.append(run)
            run["posts"].append(c)
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
    alive, steps = 1.0, []
    for t in sorted({t for t, _ in times}):
        alive *= 1 - sum(x == t and hit for x, hit in times) / sum(x >= t for x, _ in times)
        steps.append((t, 1 - alive))
    return steps


def share_by(times, span):
    "1 - S at a horizon; None where nobody was watched that long and somebody still waited"
    steps = kaplan_meier(times)
    if span > steps[-1][0] and steps[-1][1] < 1: return None
    return max((share for t, share in steps if t <= span), default=0.0)


def half(times):
    "The first time at which half are answered; None if never"
    return next((t for t, share in kaplan_meier(times) if share >= 0.5 - 1e-12), None)


def monday(at, tz):
    "The Monday of a moment's week on the calendar of a place"
    day = at.astimezone(ZoneInfo(tz)).date()
    return day - timedelta(days=day.weekday())


def grouped(items, *keys):
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
        hits = sum(hit for _, hit in times)
        assert (row["n"], row["acknowledged"], row["pending"]) == (len(times), hits, len(times) - hits), (key, row, times)
        close(row["response_rate"], hits / len(times))
        close(row["median_seconds"], half(times), 0)
        for label, span in SPANS.items(): close(row[f"ack_{label}"], share_by(times, span))


def same_frames(a, b, tolerance=1e-9):
    assert a.columns == b.columns and a.height == b.height, (a, b)
    for column in a.columns:
        if a[column].dtype != pl.Float64: assert a[column].to_list() == b[column].to_list(), (column, a, b)
        else:
            for x, y in zip(a[column], b[column]): close(x, y, tolerance)


# ---- communities as files

def write(rows, path):
    "A twcs file; the recorded answers are the replies in the file and `outside`, ids that no row has"
    below = defaultdict(list)
    for r in rows: below[r["parent"]].append(r["id"])
    with path.open("w", newline="", encoding="utf-8") as out:
        line = csv.writer(out)
        line.writerow(HEADER)
        for r in rows: line.writerow([r["id"], r["author"], r["inbound"], r["at"].strftime(FORM), r["text"], ",".join(below[r["id"]] + r.get("outside", [])), r["parent"]])
    return path


ZERO = datetime(2024, 3, 22, 20, tzinfo=timezone.utc)
HANDLES = ["Acme", "acme", "ACME", "Birch", "birch", "Cedar", "Zed_1", "Quiet"]
NUMBERS = count()


@st.composite
def communities(draw, posts=st.integers(1, 30)):
    "Rows about three brands and four customers, in any knot: threads, chasers, cycles, answers before the call and outside of the file"
    size, step = draw(posts), draw(st.sampled_from([60, 900, 5 * 3600]))
    rows = []
    for i in range(size):
        inbound = draw(st.integers(0, 9)) < 6
        author = draw(st.sampled_from(["101", "102", "103", "104"] if inbound else ["Acme", "Acme", "Birch", "Cedar"]))
        kind = draw(st.integers(0, 19))
        parent = str(i) if kind < 7 and i else str(draw(st.integers(1, size))) if kind < 15 else "9001" if kind == 15 else ""
        if inbound and draw(st.integers(0, 30)) == 0: author = "Birch"
        text = " ".join(["@" + h for h in draw(st.lists(st.sampled_from([*HANDLES, "102"]), max_size=2))] + [draw(st.sampled_from(["hello", "me@mail.example", "I would recommend it"]))])
        outside = [str(9100 + i)] if draw(st.integers(0, 11)) == 0 else []
        at = ZERO + timedelta(seconds=step * draw(st.integers(0, 60)))
        rows.append({"id": str(i + 1), "author": author, "inbound": inbound, "at": at, "text": text, "parent": parent, "outside": outside, "answers": []})
    below = defaultdict(list)
    for r in rows: below[r["parent"]].append(r)
    for r in rows:
        answering = sorted((a for a in below[r["id"]] if a["author"] in HANDLES), key=lambda a: a["at"])
        assume(len({a["author"] for a in answering if a["at"] == answering[0]["at"]}) < 2)
    return draw(st.permutations(rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory): return tmp_path_factory.mktemp("communities")


def loaded(rows, folder):
    "A lab with the rows, and what the oracle reads from the same file"
    path = write(rows, folder / f"{next(NUMBERS)}.csv")
    lab = tl.Lab()
    lab.load(path, scope="both")
    return lab, tweets(path)


# ---- acknowledgement

def check_acknowledgement(lab, rows):
    calls, out = called(rows)
    end = max(r["at"] for r in rows)
    if not calls:
        with pytest.raises(NotIdentifiable): tl.acknowledgement(lab)
        return
    for unit in ("conversation", "run", "post"):
        items = units(calls, unit)
        same_acknowledgement(tl.acknowledgement(lab, by="brand", unit=unit).frame, grouped(items, lambda u: u["brand"]), end)
    measure = tl.acknowledgement(lab, unit="post")
    same_acknowledgement(measure.frame, {(): calls}, end)
    said = {words: int(m[1].replace(",", "")) for n in measure.notes if (m := re.match(r"left out: ([\d,]+) (.*)", n)) for words in [m[2]]}
    reasons = {"answer_outside_export": "calls whose recorded answer lies outside the export", "by_brand": "posts by brands", "reply_cycle": "posts in a reply cycle", "early": "replies dated before the call they answer"}
    assert {w: said.get(w, 0) for w in ("calls whose recorded answer lies outside the export",)} == {reasons["answer_outside_export"]: out["answer_outside_export"]}


def check_weeks(lab, rows, *zones):
    calls, _ = called(rows)
    end = max(r["at"] for r in rows)
    for tz in zones:
        frame = tl.acknowledgement(lab, by=("brand", "week"), tz=tz).frame
        same_acknowledgement(frame, grouped(units(calls, "conversation"), lambda u: u["brand"], lambda u: monday(u["at"], tz)), end)
        closing = lambda week: datetime.combine(week + timedelta(days=7), datetime.min.time(), ZoneInfo(tz))
        assert frame["partial"].to_list() == [end < closing(week) for week in frame["week"]]


def check_worklist(lab, rows):
    calls, _ = called(rows)
    end = max(r["at"] for r in rows)
    waiting = [(r["brand"], r["at"].replace(tzinfo=None), (end - r["at"]).total_seconds(), len(r["posts"]), "first call" if r["first"] else "came back", "twcs:" + r["posts"][0]["id"])
               for r in runs(calls) if r["answered"] is None]
    got = tl.worklist(lab)
    assert got["waiting_since"].is_sorted()
    rows = [(b.lower(), *rest) for b, *rest in got.select("brand", "waiting_since", "waited_seconds", "posts", "kind", "post_key").rows()]
    assert sorted(rows) == sorted(waiting)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(communities())
def test_acknowledgement_of_any_community(folder, rows):
    lab, read = loaded(rows, folder)
    with lab:
        check_acknowledgement(lab, read)
        if called(read)[0]:
            check_weeks(lab, read, "UTC", "Europe/Berlin")
            check_worklist(lab, read)
