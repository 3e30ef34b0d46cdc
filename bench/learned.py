"""Asks whether learned weights of the readable cues do better than the points set by hand, and fits the chance that stands behind the points.

    python bench/learned.py FOLDER     counts cues by label again (FOLDER as for known_error.py), tries, and fits; about six minutes
    python bench/learned.py            fits from the counts in nbs/signals/cue_counts.json alone; seconds

Two files are written to nbs/signals: cue_counts.json says how many labelled posts show which cues of an act, and how many of those do it (no text, no id);
learned.json says what was tried and how it did, and two numbers per act that turn points into a chance. Both halves of the labels are used.

Tried, per act, each held against the points in the same folds (20 times five, the strength of the L2 penalty chosen inside of each):
points: logistic regression on the points; own: on the act's own cues and their points; all: on the cues of every act of the side.
A gain counts from 0.02 of F1 on, with a 95 % interval above zero; the variance is that of Nadeau and Bengio (2003), as folds share their training posts.
"""
import importlib.util
import json
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from trustlab.known_error import RARE
from trustlab.learned import CLIP, cues, looked
from trustlab.signals import ACTS, SIDES, acts_of, model, rules_folder

spec = importlib.util.spec_from_file_location("known_error_script", Path(__file__).with_name("known_error.py"))
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

NEAR, REPEATS, FOLDS, INNER, STRENGTHS, LEAST = (0, 4), 20, 5, 3, (0.03, 0.3, 3.0), 15


def counted(folder: Path) -> list[dict]:
    "Per side and sample: the names of cues, the hits of each post as a matrix, points and labels by act"
    done = []
    for name, (side, sample) in script.SAMPLES.items():
        rows = script.labelled(folder, name)
        texts = pl.DataFrame({"text": [row["text"] for row in rows]}, schema={"text": pl.String})
        hits, points = looked(texts, side).select(**cues(side)).collect(), acts_of(texts, side)
        read = points[ACTS[side][0]].is_not_null()
        labels = pl.DataFrame({act: [row[act] == "1" for row in rows] for act in ACTS[side]})
        done.append({"side": side, "sample": sample, "hits": hits.filter(read), "points": points.filter(read), "labels": labels.filter(read)})
    return done


def own(side: str, act: str) -> list[str]: return [name for name in cues(side) if name.split(": ")[0] == ("personal" if act == "canned" else act)]


def tables(parts: list[dict]) -> list[dict]:
    "How many posts show which cues of an act, with how many points, and how many of them are labelled with it"
    rows = []
    for part in parts:
        for act in (a for a in ACTS[part["side"]] if a != "not_english"):
            names = own(part["side"], act)
            shown = part["hits"].select(names).rows() if names else [()] * part["hits"].height
            n = Counter(zip(shown, part["points"][act].to_list(), part["labels"][act].to_list(), strict=True))
            for hits, points in sorted({key[:2] for key in n}):
                yes, no = n[hits, points, True], n[hits, points, False]
                rows.append({"side": part["side"], "act": act, "sample": part["sample"], "cues": [name for name, hit in zip(names, hits, strict=True) if hit], "points": points, "n": yes + no, "yes": yes})
    return rows


def posts(rows: list[dict], side: str, act: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    "The labelled posts behind the counts of an act: hits of its own cues, points, label, and whether of the plain sample"
    names, mine = own(side, act), [row for row in rows if (row["side"], row["act"]) == (side, act)]
    many = [k for row in mine for k in (row["yes"], row["n"] - row["yes"])]
    spread = lambda values: np.repeat(np.repeat(np.array(values), 2, axis=0), many, axis=0)
    label = np.repeat(np.tile([True, False], len(mine)), many)
    return spread([[name in row["cues"] for name in names] for row in mine]).astype(float), spread([row["points"] for row in mine]), label, spread([row["sample"] == "plain" for row in mine])


def fitted(x: np.ndarray, y: np.ndarray, seed: int) -> LogisticRegression:
    "Logistic regression, its L2 strength chosen by log loss in three folds"
    fit = lambda c, rows: LogisticRegression(C=c, max_iter=300).fit(x[rows], y[rows])
    loss = np.zeros(len(STRENGTHS))
    for train, test in StratifiedKFold(INNER, shuffle=True, random_state=seed).split(x, y):
        for i, c in enumerate(STRENGTHS):
            chance = fit(c, train).predict_proba(x[test])[:, 1]
            loss[i] -= np.log(np.where(y[test], chance, 1 - chance).clip(1e-9)).sum()
    return fit(STRENGTHS[int(loss.argmin())], slice(None))


def f1(y: np.ndarray, found: np.ndarray) -> float: return 2 * (y & found).sum() / max(y.sum() + found.sum(), 1)


def mcc(y: np.ndarray, found: np.ndarray) -> float: return float(np.corrcoef(y, found)[0, 1]) if found.any() and not found.all() else 0.0


def tried(x: np.ndarray, rule: np.ndarray, y: np.ndarray, plain: np.ndarray) -> dict:
    "F1 and MCC of the points and of weights learned from `x`, on the same folds"
    x, both, folds = x[:, x.std(0) > 0], [], []
    for repeat in range(REPEATS):
        found = np.zeros(y.size, bool)
        for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=repeat).split(x, y):
            found[test] = fitted(x[train], y[train], repeat).predict_proba(x[test])[:, 1] >= 0.5
            folds.append(f1(y[test], found[test]) - f1(y[test], rule[test]))
        both.append([f1(y, found), mcc(y, found), f1(y[plain], found[plain])])
    spread = np.std(folds, ddof=1) * np.sqrt(1 / len(folds) + 1 / (FOLDS - 1))
    learned, gain = np.mean(both, axis=0), float(np.mean(folds))
    row = {"f1_points": f1(y, rule), "f1_learned": learned[0], "mcc_points": mcc(y, rule), "mcc_learned": learned[1], "f1_plain_points": f1(y[plain], rule[plain]), "f1_plain_learned": learned[2],
           "gain": gain, "gain_low": gain - 1.96 * spread, "gain_high": gain + 1.96 * spread}
    return {name: round(float(value), 4) for name, value in row.items()}


def platt(x: np.ndarray, y: np.ndarray) -> LogisticRegression:
    "Platt's curve: no penalty to speak of, and labels drawn in from 0 and 1 by one post each, so that a rule without an error among n posts is not taken for one that cannot err"
    yes, no = (y.sum() + 1) / (y.sum() + 2), 1 / ((~y).sum() + 2)
    weight = np.where(y, yes, no)
    return LogisticRegression(C=1e4, max_iter=1000).fit(np.vstack([x, x]), np.repeat([True, False], y.size), np.concatenate([weight, 1 - weight]))


def calibrated(rows: list[dict], side: str, act: str) -> dict | None:
    "The two numbers of Platt's curve for an act, from the plain sample; None where fewer than ten posts do it"
    _, points, y, plain = posts(rows, side, act)
    if y[plain].sum() < RARE: return None
    x = points[plain].clip(*CLIP)[:, None].astype(float)
    fit = platt(x, y[plain])
    brier = {"brier_score": np.mean((1 / (1 + np.exp(-2 * (points[plain] - 1.5))) - y[plain]) ** 2), "brier_chance": np.mean([np.mean((held(x, y[plain], seed) - y[plain]) ** 2) for seed in range(REPEATS)])}
    return {"side": side, "act": act, "n": int(plain.sum()), "positives": int(y[plain].sum()), "intercept": round(float(fit.intercept_[0]), 6), "slope": round(float(fit.coef_[0, 0]), 6), **{k: round(float(v), 4) for k, v in brier.items()}}


def held(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    "Chances from the other folds"
    chance = np.zeros(y.size)
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, y): chance[test] = platt(x[train], y[train]).predict_proba(x[test])[:, 1]
    return chance


def lines(name: str, rows: list[dict]) -> str: return f'"{name}": [\n  ' + ",\n  ".join(json.dumps(row) for row in rows) + "\n ]"


def write(path: Path, **parts: list[dict]) -> None:
    text = '{"models": ' + json.dumps({side: model(side) for side in SIDES}) + ",\n " + ",\n ".join(lines(*part) for part in parts.items()) + "}\n"
    path.write_text(text, encoding="utf-8")
    print(path.name, {name: len(rows) for name, rows in parts.items()}, f"{len(text) // 1024} KB")


def main() -> None:
    warnings.filterwarnings("ignore")
    counts, learned = (rules_folder() / name for name in ("cue_counts.json", "learned.json"))
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    parts = counted(folder) if folder else []
    if folder: write(counts, counts=tables(parts))
    rows = json.loads(counts.read_text(encoding="utf-8"))["counts"]
    pairs = [(side, act) for side in ("brand", "customer") for act in ACTS[side] if act != "not_english"]
    trials = [] if folder else json.loads(learned.read_text(encoding="utf-8"))["tried"]
    for side, act in pairs if folder else []:
        x, points, y, plain = posts(rows, side, act)
        if y.sum() < LEAST: continue
        several = [part for part in parts if part["side"] == side]
        every = np.concatenate([part["hits"].to_numpy() for part in several]).astype(float), np.concatenate([part["points"][act].to_numpy() for part in several])
        labels, sample = np.concatenate([part["labels"][act].to_numpy() for part in several]), np.concatenate([np.full(part["hits"].height, part["sample"] == "plain") for part in several])
        near = points.clip(*NEAR)[:, None].astype(float)
        for kind, design in (("points", (near, points, y, plain)), ("own", (np.hstack([x, near]), points, y, plain)), ("all", (np.hstack([every[0], every[1].clip(*NEAR)[:, None]]), every[1], labels, sample))):
            trials.append({"side": side, "act": act, "kind": kind, "n": int(y.size), "positives": int(y.sum()), **tried(design[0], design[1] >= 2, design[2], design[3])})
            print({k: trials[-1][k] for k in ("act", "kind", "f1_points", "f1_learned", "gain", "gain_low")}, flush=True)
    write(learned, tried=trials, chance=[row for side, act in pairs if (row := calibrated(rows, side, act))])


if __name__ == "__main__": main()
