"""What must not change the measures, from whole exports: order, names, a later start, two files, the unit of time; an export taken earlier; and everybody, or every call, twice.

Acknowledgement in all its units, reciprocity, conversion and the work list are held likewise, in communities in any knot, by test_oracles_measures."""
import math
import random
from datetime import datetime, timedelta, timezone
from itertools import count

import numpy as np
import polars as pl
import pytest

import trustlab as tl
from test_oracles_measures import halves, same_frames, tweets, write

pytestmark = pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")
MONTH = {"window": "30d"}
MEASURES = {
    "first_ends": lambda lab: tl.first_ends(lab, by="brand"), "page_response_rate": tl.page_response_rate, "question_response_rate": tl.question_response_rate, "ranked": lambda lab: tl.ranked(tl.acknowledgement(lab, by="brand")),
    "care": lambda lab: tl.care(lab, by="brand"), "after_care": tl.after_care, "return_times": tl.return_times, "return_times of pairs": lambda lab: tl.return_times(lab, unit="pair"), "triads": tl.triads,
    "reciprocity against chance": lambda lab: tl.reciprocity(lab, null="configuration", draws=19), "loops": lambda lab: tl.loops(lab, null="time", draws=5, **MONTH), "pay_forward": lambda lab: tl.pay_forward(lab, **MONTH),
    "advocates": lambda lab: tl.advocates(lab, by="brand"), "effect": lambda lab: tl.effect(lab, horizon="30d"), "dose_response": lambda lab: tl.dose_response(lab, horizon="30d"),
    "contrast": lambda lab: tl.contrast(lab, exposure="redirected", against="canned", horizon="30d"), "bystanders": tl.bystanders, "degrees": lambda lab: tl.degrees(lab, outcome="answered"), "circles": tl.circles,
}
DRAWN = ("null_mean", "null_low", "null_high", "null_sd", "z", "p", "rho_null")


def numbers(folder, *files, measures=MEASURES):
    "The frames of a new lab with these files, given as lists of rows"
    with tl.Lab() as lab:
        for rows in files: lab.load(write(rows, folder / f"{next(NUMBERS)}.csv"), scope="both")
        return {name: measure(lab).frame for name, measure in measures.items()}


NUMBERS = count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory): return tmp_path_factory.mktemp("invariance")


@pytest.fixture(scope="module")
def rows(town): return [r | {"outside": []} for r in tweets(town / "twcs.csv")]


@pytest.fixture(scope="module")
def before(rows, folder):
    found = numbers(folder, rows)
    assert all(frame.height for frame in found.values())
    return found


def all_the_same(before, after, alter=lambda name, frame: frame):
    for name, frame in before.items(): same_frames(alter(name, frame), alter(name, after[name]))


# ---- threshold 6

def test_the_order_of_rows_changes_nothing(rows, before, folder): all_the_same(before, numbers(folder, random.Random(1).sample(rows, len(rows))))


def test_other_names_change_nothing_but_what_is_drawn(rows, before, folder):
    "Posts and people by other numbers; the draws of a null model are of the same law, and others"
    rng = random.Random(2)
    ids = dict(zip([r["id"] for r in rows], map(str, rng.sample(range(10**6, 10**7), len(rows))))) | {"": ""}
    who = sorted({r["author"] for r in rows if r["author"].isdigit()})
    people = dict(zip(who, (f"7{i}" for i in rng.sample(range(10**5), len(who)))))
    after = numbers(folder, [r | {"id": ids[r["id"]], "parent": ids[r["parent"]], "author": people.get(r["author"], r["author"])} for r in rows])
    all_the_same(before, after, lambda _, frame: frame.drop(DRAWN, strict=False))
    for name in ("reciprocity against chance", "loops", "degrees"):
        for one, other in zip(*(found[name].select("null_mean", "null_sd").rows() for found in (before, after))): assert abs(one[0] - other[0]) < 2 * max(one[1], other[1]), name


def test_whole_weeks_later_it_is_the_same(rows, before, folder):
    "But for circles by month, whose months are others"
    after = numbers(folder, [r | {"at": r["at"] + timedelta(weeks=9)} for r in rows])
    all_the_same(before, after, lambda name, frame: frame.filter(pl.col("period") == "all") if name == "circles" else frame)


@pytest.mark.parametrize(("how", "first"), [("conversations", 0), ("time", 1), ("rows", 0)])
def test_two_files_are_one(rows, before, folder, how, first):
    parts = halves(rows, how)
    assert all(len(part) > len(rows) / 4 for part in parts)
    all_the_same(before, numbers(folder, parts[first], parts[1 - first]))


def test_the_unit_of_time_changes_nothing():
    "Seconds, datetimes of three widths and of another zone; windows as words and as seconds"
    rng = np.random.default_rng(3)
    giver, receiver, at = rng.integers(0, 12, 400), rng.integers(0, 12, 400), 1_700_000_000 + rng.integers(0, 90_000, 400)
    zero = datetime(1970, 1, 1, tzinfo=timezone.utc)
    moments = pl.Series([zero + timedelta(seconds=int(s)) for s in at])
    measures = (lambda lab, w: tl.reciprocity(lab, window=w), lambda lab, w: tl.return_times(lab, by=(), window=w), lambda lab, w: tl.return_times(lab, by=(), window=w, unit="pair"), lambda lab, w: tl.loops(lab, window=w), lambda lab, w: tl.pay_forward(lab, window=w))
    found = []
    for times, window in ((at, "2h"), (at.astype(float), 7200), (moments.dt.cast_time_unit("ms"), "120m"), (moments.dt.cast_time_unit("ns"), 7200.0), (moments.dt.convert_time_zone("Asia/Kolkata"), "7200s")):
        with tl.from_acts(pl.DataFrame({"from": giver, "to": receiver, "occurred_at": times})) as lab: found.append([measure(lab, window).frame for measure in measures])
    for other in found[1:]:
        for a, b in zip(found[0], other): assert a.equals(b)


def test_an_export_taken_earlier_tells_the_same_curve(folder):
    """Eight towns, whole and with their last 30, 60 and 90 days not yet there: what share is answered within a day and within a week stays inside the earlier export's interval, at all callers in every town, by brands in more
    than 95 of 100. The plain share answered does not stay: on the day of an export the newest calls have had no time"""
    inside, moved = [], []
    for seed in range(1, 9):
        path = next(p for p in tl.write(tl.simulate(seed, customers=400, days=120), folder / f"town{seed}") if p.name == "twcs.csv")
        rows = [r | {"outside": []} for r in tweets(path)]
        zero = min(r["at"] for r in rows)
        curve = {"": tl.acknowledgement, "brand": lambda lab: tl.acknowledgement(lab, by="brand")}
        whole, *earlier = (numbers(folder, [r for r in rows if r["at"] <= zero + timedelta(days=days)], measures=curve) for days in (120, 30, 60, 90))
        for part in earlier:
            for by, frame in part.items():
                for then, now in zip(frame.iter_rows(named=True), whole[by].iter_rows(named=True), strict=True):
                    assert then.get("brand") == now.get("brand") and then["n"] < now["n"]
                    inside += [(by, then[f"ack_{h}_low"] <= now[f"ack_{h}"] <= then[f"ack_{h}_high"]) for h in ("24h", "7d")]
        moved.append([whole[""][c][0] - earlier[0][""][c][0] for c in ("ack_7d", "response_rate")])
    assert len(inside) == 8 * 3 * 4 * 2 and all(held for by, held in inside if not by) and np.mean([held for _, held in inside]) > 0.95
    curve, naive = np.mean(moved, axis=0)
    assert abs(curve) < 0.01 and naive > 0.02, (curve, naive)


# ---- threshold 8

def again(rows, people):
    "The rows, and all of them once more as other posts, by other people or by the same ones"
    new = lambda key: key and str(int(key) + 10**8)
    return rows + [r | {"id": new(r["id"]), "parent": new(r["parent"]), "author": f"9{r['author']}" if people and r["author"].isdigit() else r["author"]} for r in rows]


def reach(frame, value):
    "How far each interval reaches on the scale on which it is even: log(-log(1 - p)), of Wilson's the root of its effective units"
    if value == "response_rate": return 1 / np.sqrt(frame["effective_n"].to_numpy())
    low, high = (-np.log1p(-frame[f"{value}_{end}"].cast(pl.Float64).fill_null(float("nan")).to_numpy()) for end in ("low", "high"))
    return np.log(high / low)


def narrower(before, after, value):
    "By how much intervals are narrower, where both have one that neither begins at 0 nor ends at 1"
    with np.errstate(all="ignore"): ratio = reach(before, value) / reach(after, value)
    kept = np.isfinite(ratio)
    assert kept.sum() and np.array_equal(before[value].is_null(), after[value].is_null())
    assert np.allclose(before[value].drop_nulls(), after[value].drop_nulls(), rtol=0, atol=1e-9), "the point stays"
    return ratio[kept]


TWICE = {
    "conversations": (lambda lab: tl.acknowledgement(lab, by="brand"), ("response_rate", "ack_1h", "ack_24h", "ack_7d")), "posts": (lambda lab: tl.acknowledgement(lab, unit="post"), ("response_rate", "ack_24h")),
    "conversations as if alone": (lambda lab: tl.acknowledgement(lab, by="brand", interval="unit"), ("response_rate", "ack_1h", "ack_24h", "ack_7d")), "ends": (lambda lab: tl.first_ends(lab), ("share_24h", "share_7d")),
    "people who were answered": (lambda lab: tl.conversion(lab, by="brand"), ("conversion_30d", "conversion_90d")), "acts": (lambda lab: tl.reciprocity(lab, by="role_pair"), ("return_rate",)),
    "acts of pairs": (tl.return_times, ("return_rate",)), "pairs": (lambda lab: tl.return_times(lab, unit="pair"), ("return_rate",)),
}
ALONE = ("conversations as if alone", "acts")


@pytest.fixture(scope="module")
def doubled(rows, folder):
    "The frames of TWICE for the town, for the town with a twin of everybody, and with everybody's calls twice; of conversion what no wording decides, since a personal answer given twice is a template"
    measures = {name: measure for name, (measure, _) in TWICE.items()}
    found = [numbers(folder, part, measures=measures) for part in (rows, again(rows, True), again(rows, False))]
    for frames in found: frames["people who were answered"] = frames["people who were answered"].filter(pl.col("arm").is_in(["acknowledged", "none"]))
    return found


@pytest.mark.parametrize("name", TWICE)
def test_with_a_twin_of_everybody_the_error_is_smaller_by_root_two(doubled, name):
    "The same point and twice as many independent people. Where units are of people, Student's quantile has more degrees of freedom besides, so that it is a little more than root two"
    for value in TWICE[name][1]:
        ratio = narrower(doubled[0][name], doubled[1][name], value)
        assert (np.abs(ratio / math.sqrt(2) - 1) < (1e-6 if value != "response_rate" and name in (*ALONE, "pairs", "people who were answered") else 0.01)).all(), (value, ratio)


@pytest.mark.parametrize("name", TWICE)
def test_with_everything_by_everybody_twice_only_who_takes_it_for_independent_gains(doubled, name):
    "Each call a second time, by the same person: where people or pairs are drawn the error stays within a tenth, and where units are, it is falsely smaller by root two"
    for value in TWICE[name][1]:
        ratio = narrower(doubled[0][name], doubled[2][name], value)
        assert (np.abs(ratio / (math.sqrt(2) if name in ALONE else 1) - 1) < (0.003 if name in ALONE else 0.1)).all(), (value, ratio)


def test_an_effect_with_a_twin_of_everybody(rows, folder):
    "Hazards compared without covariates: twins have their outcomes in one moment, which Efron's rule takes one after the other, so the point moves a little (with covariates the brand's load is one, and doubles). The error is smaller by root two"
    effect = {"effect": lambda lab: tl.effect(lab, horizon="30d")}
    once, twice = (numbers(folder, part, measures=effect)["effect"].filter((pl.col("method") == "trials_unadjusted") & (pl.col("estimand") == "hazard_ratio")).row(0, named=True) for part in (rows, again(rows, True)))
    width = [math.log(r["high"] / r["low"]) for r in (once, twice)]
    assert (twice["n"], twice["events"]) == (2 * once["n"], 2 * once["events"]) and abs(math.log(twice["estimate"] / once["estimate"])) < 0.1 * width[0] / 3.92 and abs(width[0] / width[1] / math.sqrt(2) - 1) < 0.03
