"""Who is one person: joins by table and by proposal against a model of sets, taken back without a trace, and measures per person against the same people written as one account."""
import random
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import combinations, count

import polars as pl
import pytest
import test_oracles_measures as oracle
from hypothesis import HealthCheck, assume, example, given, settings, strategies as st

import trustlab as tl
from trustlab import schema
from trustlab.core import InvalidParameter, NotIdentifiable, TrustlabWarning
from trustlab.identity import pinned_per

pytestmark = pytest.mark.filterwarnings("ignore::trustlab.core.TrustlabWarning")
QUICK = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture]
NUMBERS = count()


def lab_of(accounts):
    "A lab with accounts given as (key, handle[, link[, kind]])"
    lab, filled_up = tl.Lab(), [(*a, None, None)[:4] for a in accounts]
    put(lab, "account", [(key, key.split(":")[0], handle, link, kind or "unknown", key) for key, handle, link, kind in filled_up], "account_key platform handle url kind person_key")
    return lab


def put(lab, name, rows, columns):
    "Writes rows straight into a table"
    frame = pl.DataFrame(rows, schema={c: pl.Datetime("us") if c.endswith("_at") else pl.String for c in columns.split()}, orient="row")
    with lab.lent(frame) as path: lab.con.execute(f"insert into {name} by name select * from read_parquet(?)", [path])


def table(lab, name): return lab.con.sql(f"from {name}").fetchall()
def everything(lab, *but): return {name: table(lab, name) for name in schema.TABLES if name not in but}
def persons(lab): return dict(lab.sql("select account_key, person_key from account").rows())
def said(*rows): return pl.DataFrame(rows, schema=["account", "person"], orient="row")
def pair(*rows): return pl.DataFrame(rows, schema=["account_key", "other_key"], orient="row")


# ---- joins and their end, against sets

HANDLES = {f"{p}:{h}{i}": h for p in "abc" for i, h in enumerate(("kim", "lee"))} | {"a:kim9": "kim"}
KEYS = sorted(HANDLES)
NAMES = ["Kim", "Lee", "a:kim0", "Zoë"]


class Model:
    "Joins as sets: names of accounts, pairs, and the groups that both make"
    def __init__(self): self.named, self.tied = {}, set()

    def groups(self):
        ties = [{a, b} for a, b in self.tied] + [{a, (name,)} for a, name in self.named.items()]
        found = [{key} for key in KEYS]
        for tie in ties:
            hit = [g for g in found if g & tie]
            found = [g for g in found if not g & tie] + [set.union(tie, *hit)]
        return found

    def sound(self): return all(sum(isinstance(x, tuple) for x in g) < 2 for g in self.groups())
    def persons(self): return {key: min(k for k in g if isinstance(k, str)) for g in self.groups() for key in g if isinstance(key, str)}

    def proposed(self):
        who, named = self.persons(), {self.persons()[a] for a in self.named}
        alike = [(a, b) for a, b in combinations(KEYS, 2) if HANDLES[a] == HANDLES[b] and a[0] != b[0]]
        return {(a, b, Counter(HANDLES.values())[HANDLES[a]] - 2) for a, b in alike if who[a] != who[b] and not {who[a], who[b]} <= named}

    def copy(self):
        other = Model()
        other.named, other.tied = dict(self.named), set(self.tied)
        return other


steps = st.lists(st.one_of(
    st.tuples(st.just("identify"), st.dictionaries(st.sampled_from(KEYS), st.sampled_from(NAMES), min_size=1, max_size=3)),
    st.tuples(st.just("accept"), st.lists(st.sampled_from([(a, b) for a in KEYS for b in KEYS if HANDLES[a] == HANDLES[b] and a[0] != b[0]]), min_size=1, max_size=3)),
    st.tuples(st.just("separate"), st.lists(st.sampled_from(KEYS), min_size=1, max_size=2))), min_size=1, max_size=8)


@settings(max_examples=10, suppress_health_check=QUICK)
@given(steps=steps)
def test_any_joins_and_separations(steps):
    model = Model()
    with lab_of(HANDLES.items()) as lab:
        for what, given_ in steps:
            then = model.copy()
            if what == "identify": then.named |= given_
            if what == "accept": then.tied |= {tuple(sorted(p)) for p in given_}
            if what == "separate":
                then.named = {a: n for a, n in then.named.items() if a not in given_}
                then.tied = {p for p in then.tied if not set(p) & set(given_)}
            do = {"identify": lambda: lab.identify(said(*given_.items())), "accept": lambda: lab.accept(pair(*given_)), "separate": lambda: lab.separate(*given_)}[what]
            if then.sound():
                done, model, was = do(), then, model
                if what == "accept": assert done == len(then.tied - was.tied)
                if what == "separate": assert done == len(was.tied - then.tied) + len(was.named.keys() - then.named.keys())
            else:
                before = everything(lab)
                with pytest.raises(InvalidParameter, match="one person of"): do()
                assert everything(lab) == before
            assert persons(lab) == model.persons()
            assert {(a, b, n) for a, b, n in lab.proposals().select("account_key", "other_key", "others").rows()} == model.proposed()
            holds = lab.identities().filter(pl.col("undone_at").is_null())
            assert sorted(holds.filter(basis="declared").select("account_key", "person").rows()) == sorted(model.named.items())
            assert sorted(holds.filter(basis="accepted").select("account_key", "other_key").rows()) == sorted(model.tied)
        assert lab.check().filter((pl.col("part") == "sound") & (pl.col("n") > 0)).is_empty()


def test_a_chain_comes_apart_where_it_is_cut():
    chain, apart = [("a:kim0", "b:kim0"), ("b:kim0", "c:kim0")], dict(zip(KEYS, KEYS))
    with lab_of(HANDLES.items()) as lab:
        for cut, left in (("a:kim0", {"c:kim0": "b:kim0"}), ("b:kim0", {}), ("c:kim0", {"b:kim0": "a:kim0"})):
            assert lab.accept(pair(*chain)) == 2 and lab.accept(pair(*chain)) == 0
            assert {k for k, p in persons(lab).items() if p == "a:kim0"} == {"a:kim0", "b:kim0", "c:kim0"}
            assert lab.separate(cut) == 2 - len(left) and persons(lab) == apart | left
            lab.separate("a:kim0", "b:kim0", "c:kim0")
            assert persons(lab) == apart
        history = lab.identities()
        assert history.height == 6 and history["undone_at"].null_count() == 0 and (history["undone_at"] >= history["joined_at"]).all()
        assert lab.separate("a:kim0") == 0


def test_the_order_of_joins_does_not_matter():
    ties = [("a:kim0", "b:kim0"), ("b:kim0", "c:kim0"), ("a:kim9", "c:kim0"), ("a:lee1", "c:lee1")]
    seen = set()
    for seed in range(4):
        order = random.Random(seed).sample([lambda t=t: lab.accept(pair(t)) for t in ties] + [lambda: lab.identify(said(("b:kim0", "Kim"))), lambda: lab.identify(said(("b:lee1", "Lee"), ("c:lee1", "Lee")))], 6)
        with lab_of(HANDLES.items()) as lab:
            for do in order: do()
            seen.add(tuple(sorted(persons(lab).items())))
    assert len(seen) == 1 and dict(seen.pop())["c:lee1"] == "a:lee1"


def test_naming_again_replaces_and_stays_to_be_seen():
    with lab_of(HANDLES.items()) as lab:
        assert lab.identify(said(("a:kim0", "Kim"), ("b:kim0", "Kim"), ("a:kim0", " Kim "))) == 3 and lab.identify(said(("c:lee1", "Kim"))) == 1
        assert {k for k, p in persons(lab).items() if p == "a:kim0"} == {"a:kim0", "b:kim0", "c:lee1"}
        lab.identify(said(("b:kim0", "Jim")))
        assert {k for k, p in persons(lab).items() if p == "a:kim0"} == {"a:kim0", "c:lee1"} and persons(lab)["b:kim0"] == "b:kim0"
        assert lab.identities().select("account_key", "person", pl.col("undone_at").is_null()).rows() == [("a:kim0", "Kim", True), ("b:kim0", "Kim", False), ("c:lee1", "Kim", True), ("b:kim0", "Jim", True)]


def test_a_name_is_never_a_key():
    with lab_of(HANDLES.items()) as lab:
        lab.identify(said(("b:lee1", "a:kim0"), ("c:lee1", "a:kim0")))
        assert persons(lab)["a:kim0"] == "a:kim0" and persons(lab)["c:lee1"] == "b:lee1"


# ---- what cannot be

WRONG = {
    "an account that is not here": (lambda lab: lab.identify(said(("a:lee1", "Lee"), ("a:nobody", "Lee"))), "'a:nobody' is not in this store; near names"),
    "a handle of several": (lambda lab: lab.identify(said(("a:lee1", "Lee"), ("@Kim", "Lee"))), "'@Kim' could be 4 accounts here: a:kim0, a:kim9"),
    "one account as two persons": (lambda lab: lab.identify(said(("a:lee1", "Lee"), ("b:lee1", "Kim"), ("a:lee1", "Kim"))), "got a:lee1 as 'Kim' and as 'Lee'"),
    "one account as two, by handle and by key": (lambda lab: lab.identify(said(("solo", "Lee"), ("d:1", "Kim"))), "got d:1 as 'Kim' and as 'Lee'"),
    "no person column": (lambda lab: lab.identify(pl.DataFrame({"account": ["a:lee1"], "name": ["Lee"]})), "columns must be account and person; got account, name"),
    "a person without a name": (lambda lab: lab.identify(said(("a:lee1", "Lee"), ("b:lee1", " "))), "row 2: account and person must both be given; got 'b:lee1' and None"),
    "an account without a name": (lambda lab: lab.identify(said((None, "Lee"))), "row 1"),
    "no file": (lambda lab: lab.identify("nowhere.csv"), "identify: .*nowhere.csv"),
    "not proposed": (lambda lab: lab.accept(pair(("a:kim0", "b:kim0"), ("a:kim0", "b:lee1"))), "got a:kim0 and b:lee1"),
    "one platform": (lambda lab: lab.accept(pair(("a:kim0", "a:kim9"))), "got a:kim0 and a:kim9"),
    "oneself": (lambda lab: lab.accept(pair(("a:kim0", "a:kim0"))), "got a:kim0 and a:kim0"),
    "a proposal without the other": (lambda lab: lab.accept(pl.DataFrame({"account_key": ["a:kim0"]})), "columns must be account_key and other_key"),
    "two who were declared to be two": (lambda lab: lab.accept(pair(("b:kim0", "c:kim0"))), "one person of 'Jim' and 'Kim'"),
    "the same by a detour": (lambda lab: lab.accept(pair(("a:kim9", "b:kim0"), ("a:kim9", "c:kim0"))), "one person of 'Jim' and 'Kim'"),
    "nobody to separate": (lambda lab: lab.separate("a:nobody"), "not in this store"),
    "nothing to separate": (lambda lab: lab.separate(), "at least one account"),
    "too few": (lambda lab: lab.proposals(most=1), "most must be"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_said_and_nothing_changes(name):
    call, says = WRONG[name]
    with lab_of([*HANDLES.items(), ("d:1", "solo")]) as lab:
        lab.identify(said(("b:kim0", "Jim"), ("c:kim0", "Kim")))
        before = everything(lab)
        with pytest.raises(InvalidParameter, match=says) as caught: call(lab)
        assert everything(lab) == before and "\n" not in str(caught.value)


def test_nothing_is_nothing():
    with lab_of(HANDLES.items()) as lab:
        assert lab.identify(said()) == 0 and lab.accept(lab.proposals().head(0)) == 0 and lab.identities().is_empty()


def test_a_store_open_for_reading_shows_and_counts_but_joins_nothing(tmp_path):
    path = oracle.write(oracle.many(3, 30), tmp_path / "a.csv")
    with tl.Lab(tmp_path / "s.duckdb") as lab:
        lab.load(path, scope="both")
        lab.identify(said(*((k, "Ann") for k in lab.sql("select account_key from account where kind = 'unknown' order by all limit 5")["account_key"])))
        now = tl.reciprocity(lab, per="person").frame, tl.worklist(lab, per="person")
    with tl.Lab(tmp_path / "s.duckdb", read_only=True) as lab:
        assert tl.reciprocity(lab, per="person").frame.equals(now[0]) and tl.worklist(lab, per="person").equals(now[1]) and lab.identities().height == 5
        with pytest.raises(InvalidParameter, match="reading only"): lab.separate(lab.identities()["account_key"][0])
        assert lab.proposals().columns[:2] == ["account_key", "handle"]


# ---- proposals

def test_who_is_proposed_and_why():
    accounts = [("x:1", "Kim"), ("y:1", "@KIM"), ("z:1", "kim@host.example"), ("x:2", "12345"), ("y:2", "12345"), ("x:3", "acme"), ("y:3", "acme"), ("x:4", "helper", None, "bot"), ("y:4", "helper"),
                ("x:5", "shop", None, "organization"), ("y:5", "shop"), ("x:6", "lee", "https://WWW.Lee.example/about/"), ("y:6", "leonie", "http://lee.example/about#me"), ("z:6", "lee.l", "lee.example/about?"),
                ("x:7", "mo", "https://mo.example"), ("y:7", "mo", "mo.example"), ("x:8", "pat", "mailto:pat@mail.example"), ("y:8", "tap", "mailto:pat@mail.example"), ("x:9", None, ""), ("y:9", None, None), ("x:10", "éva"), ("y:10", "Éva")]
    with lab_of(accounts) as lab:
        lab.con.execute("insert into role values ('x:3', 'brand', 'acme', null, null, 'inferred')")
        before = everything(lab)
        found = lab.proposals()
        assert everything(lab) == before
        assert found.select("account_key", "other_key", "reason", "others").rows() == [
            ("x:7", "y:7", "same profile link", 0), ("x:1", "y:1", "same handle", 0), ("x:10", "y:10", "same handle", 0),
            ("x:6", "y:6", "same profile link", 1), ("x:6", "z:6", "same profile link", 1), ("y:6", "z:6", "same profile link", 1)]


def test_a_link_below_a_page_is_another_link():
    with lab_of([("x:1", "a", "https://git.example/kim"), ("y:1", "b", "https://git.example/kim/"), ("z:1", "c", "https://git.example/kim/more"), ("z:2", "d", "https://git.example/")]) as lab:
        assert lab.proposals().select("account_key", "other_key").rows() == [("x:1", "y:1")]


def test_a_common_handle_is_visible_as_weak_and_passed_over_when_everybody_has_it(tmp_path):
    accounts = [(f"{p}:{i}", "admin") for p in "xy" for i in range(12)] + [("x:k", "kim"), ("y:k", "kim"), ("x:s", "sam"), ("y:s", "sam"), ("z:s", "sam")]
    with lab_of(accounts) as lab:
        with pytest.warns(TrustlabWarning, match="1 handles or links are shared by more than 20"): found = lab.proposals()
        assert found.select("handle", "others").rows() == [("kim", 0), ("sam", 1), ("sam", 1), ("sam", 1)]
        assert lab.proposals(most=24).height == 4 + 144 and lab.proposals(most=24)["others"][-1] == 22
        found.filter(pl.col("others") == 0).write_csv(tmp_path / "taken.csv")
        assert lab.accept(tmp_path / "taken.csv") == 1 and lab.proposals(most=24).height == 3 + 144


def test_a_table_can_be_a_file(tmp_path):
    (tmp_path / "who.csv").write_text("\ufeffaccount,person,since\nx:007,Zoë,2024\ny:1,Zoë,2024\n", encoding="utf-8")
    with lab_of([("x:007", "a"), ("y:1", "b"), ("x:7", "c")]) as lab:
        assert lab.identify(tmp_path / "who.csv") == 2 and persons(lab) == {"x:007": "x:007", "y:1": "x:007", "x:7": "x:7"}


# ---- back to what was

@pytest.fixture(scope="module")
def folder(tmp_path_factory): return tmp_path_factory.mktemp("people")


@settings(max_examples=5, suppress_health_check=QUICK)
@given(rows=oracle.communities(), data=st.data())
def test_accepted_and_separated_is_as_before_byte_for_byte(folder, rows, data):
    lab, _ = oracle.loaded(rows, folder)
    with lab:
        keys = lab.sql("select account_key from account order by all")["account_key"].to_list()
        for i, key in enumerate(keys): lab.con.execute("insert into account (account_key, platform, handle, kind, placeholder, person_key) values (?, 'other', ?, 'unknown', true, ?)", [f"other:{i}", f"h{key}", f"other:{i}"])
        lab.con.execute("update account set handle = 'h' || account_key where platform = 'twcs'")
        before, shown = everything(lab, "identity"), lab.proposals()
        assume(shown.height)
        chosen = shown.filter(pl.Series(data.draw(st.lists(st.booleans(), min_size=shown.height, max_size=shown.height))))
        lab.accept(chosen)
        lab.identify(said(*((a, f"P{a}") for a in chosen["account_key"])))
        lab.separate(*data.draw(st.permutations(chosen["account_key"].to_list() + chosen["other_key"].to_list())) or keys[:1])
        assert everything(lab, "identity") == before and lab.proposals().equals(shown)
        assert lab.identities()["undone_at"].null_count() == 0


# ---- loads after joins

def test_joins_outlive_loads(folder, tmp_path):
    rows = [r | {"text": r["text"].lower()} for r in oracle.many(11, 40) if r["author"].isdigit()]
    rows += oracle.tiny(("101", -600, None, "@quietly hello"))
    half = [r | {"outside": []} for r in sorted(rows, key=lambda r: r["at"])[: len(rows) // 2]]
    with tl.Lab() as lab:
        lab.load(oracle.write(half, tmp_path / "a.csv"), scope="both")
        customers = lab.sql("select account_key from account where regexp_matches(handle, '^\\d+$') order by all")["account_key"].to_list()
        lab.identify(said(*((k, f"P{i // 3}") for i, k in enumerate(customers))))
        lab.identify(said(("quietly", "P0"), ("twcs:101", "P0")))
        assert lab.sql("select placeholder from account where handle = 'quietly'").row(0) == (True,)
        before = persons(lab)
        assert lab.load(tmp_path / "a.csv").stored == 0 and persons(lab) == before
        lab.load(oracle.write(rows, tmp_path / "b.csv"), scope="both")
        after = persons(lab)
        assert len(after) > len(before) and {k: after[k] for k in before} == before and all(after[k] == k for k in after.keys() - before.keys())
        spoken = {"id": "99999999", "author": "quietly", "inbound": False, "at": max(r["at"] for r in rows), "text": "hello", "parent": ""}
        lab.load(oracle.write([spoken], tmp_path / "c.csv"), scope="both")
        assert lab.sql("select placeholder from account where handle = 'quietly'").row(0) == (False,) and persons(lab) == after and after["twcs:quietly"] == after["twcs:101"] != "twcs:quietly"
        assert lab.check().filter((pl.col("part") == "sound") & (pl.col("n") > 0)).is_empty()


# ---- measures per person: the same people written as one account

def grouping(choose, authors):
    "Some authors as one: author to the one it is written as"
    drawn = {a: choose(range(max(2, len(authors) // 2))) for a in authors}
    first = {}
    for a in sorted(authors): first.setdefault(drawn[a], a)
    return {a: first[drawn[a]] for a in authors}


def both(rows, who, folder):
    "A lab where `who` was identified, and a lab of a file where `who` is written as one author"
    path, as_one = (folder / f"{next(NUMBERS)}.csv" for _ in range(2))
    oracle.write(rows, path), oracle.write([r | {"author": who.get(r["author"], r["author"])} for r in rows], as_one)
    joined, relabelled = tl.Lab(), tl.Lab()
    joined.load(path, scope="both"), relabelled.load(as_one, scope="both")
    present = set(joined.sql("select handle from account")["handle"])
    joined.identify(said(*((f"twcs:{a}", f"person {p}") for a, p in who.items() if a in present)))
    return joined, relabelled, oracle.tweets(as_one)


QUESTIONS = [
    *(lambda lab, u=unit, **per: tl.acknowledgement(lab, by="brand", unit=u, **per) for unit in ("conversation", "run", "post")), lambda lab, **per: tl.acknowledgement(lab, by=("week", "platform"), tz="Asia/Kolkata", **per),
    lambda lab, **per: tl.reciprocity(lab, **per), lambda lab, **per: tl.reciprocity(lab, by="role_pair", **per), lambda lab, **per: tl.reciprocity(lab, by=("brand", "week"), kinds=["reply", "mention"], window="1h", **per),
    lambda lab, **per: tl.conversion(lab, by="brand", horizon=("15m", "24h"), **per), lambda lab, **per: tl.conversion(lab, by="platform", **per)]


def answer(question, lab, **per):
    "Frame, curve and notes; or that there is no answer"
    try: m = question(lab, **per)
    except NotIdentifiable as no: return str(no)
    return m.frame, m.detail, [n for n in m.notes if not n.startswith("per person")]


def same_answers(a, b):
    if isinstance(a, str) or isinstance(b, str): return a == b
    return all(oracle.same_frames(oracle.one_spelling(x), oracle.one_spelling(y), 0) is None for x, y in zip(a[:2], b[:2])) and a[2] == b[2]


def check_persons(joined, relabelled, rows):
    for question in QUESTIONS: assert same_answers(answer(question, joined, per="person"), answer(question, relabelled))
    if oracle.called(rows):
        end = max(r["at"] for r in rows)
        for unit in ("conversation", "run", "post"):
            oracle.same_acknowledgement(tl.acknowledgement(joined, by="brand", unit=unit, per="person").frame, oracle.grouped(oracle.units(oracle.called(rows), unit), lambda u: u["brand"]), end)
        for unit in ("conversation", "run"):
            waiting = tl.worklist(joined, unit=unit, per="person", people=False)
            assert oracle.one_spelling(waiting).equals(oracle.one_spelling(tl.worklist(relabelled, unit=unit, people=False)))
            if unit == "conversation": assert waiting.height == tl.acknowledgement(joined, per="person").frame["pending"][0]


@pytest.fixture(scope="module")
def crowd(folder):
    "Many communities, whose customers are joined at random, also across communities"
    rows, rng = oracle.many(8, 120), random.Random(9)
    who = {a: rng.choice("12") + a[1:] if rng.random() < 0.8 else f"9{rng.randrange(20)}" for a in sorted({r["author"] for r in rows if r["author"].isdigit()})}
    joined, relabelled, as_one = both(rows, who, folder)
    with joined, relabelled: yield joined, relabelled, as_one


def test_persons_of_a_crowd_count_as_if_they_had_one_account(crowd): check_persons(*crowd)


def test_persons_differ_from_accounts_in_that_crowd(crowd):
    joined = crowd[0]
    for question in (QUESTIONS[0], QUESTIONS[1], QUESTIONS[4], QUESTIONS[7]): assert not question(joined, per="person").frame.equals(question(joined).frame)


@settings(max_examples=3, suppress_health_check=QUICK)
@given(rows=oracle.communities(), data=st.data())
def test_persons_of_any_community_count_as_if_they_had_one_account(folder, rows, data):
    who = grouping(lambda options: data.draw(st.sampled_from(list(options))), sorted({r["author"] for r in rows if r["author"].isdigit()}))
    joined, relabelled, as_one = both(rows, who, folder)
    with joined, relabelled: check_persons(joined, relabelled, as_one)


@settings(max_examples=10, suppress_health_check=QUICK)
@example(acts=[("a", "b", oracle.START), ("b", "b", oracle.START), ("c", "a", oracle.START + 1), ("b", "c", oracle.START + 3)], who=dict(zip("abcdef", "uuvvww")))
@given(acts=oracle.multigraph(st.one_of(st.none(), st.integers(oracle.START, oracle.START + 40))), who=st.fixed_dictionaries({p: st.sampled_from("uvw") for p in oracle.PEOPLE}))
def test_reciprocity_of_persons_is_that_of_the_acts_between_them(acts, who):
    assume(any(t is not None for *_, t in acts))
    as_one = [(who[a], who[b], t) for a, b, t in acts]
    with oracle.lab_of(acts) as lab:
        lab.identify(said(*((p, who[p]) for p in oracle.PEOPLE if p in {x for a in acts for x in a[:2]})))
        if not oracle.two_sided(as_one):
            with pytest.raises(NotIdentifiable): tl.reciprocity(lab, window="5s", per="person")
            return
        measure = tl.reciprocity(lab, window="5s", per="person")
    oracle.same_reciprocity(measure.frame, oracle.gave_back(as_one, 5))
    assert oracle.told(measure).get("acts towards oneself", 0) == sum(a == b for a, b, _ in as_one)


# ---- per account nothing changes

@pytest.mark.parametrize("ask", [lambda lab: tl.acknowledgement(lab, per="persons"), lambda lab: tl.reciprocity(lab, per=None), lambda lab: tl.conversion(lab, per="Account"), lambda lab: tl.worklist(lab, per="")])
def test_per_is_account_or_person(crowd, ask):
    with pytest.raises(InvalidParameter, match="per must be one of (account, person|person, account); got"): ask(crowd[0])


def test_per_account_joins_change_nothing_and_without_joins_a_person_is_an_account(folder):
    lab, rows = oracle.loaded(oracle.many(8, 60), folder)
    with lab:
        before = [answer(q, lab) for q in QUESTIONS]
        for question, then in zip(QUESTIONS, before): assert same_answers(answer(question, lab, per="person"), then)
        assert tl.reciprocity(lab, per="person").notes[-1] == "per person: no accounts are joined, so each account is a person"
        lab.identify(said(*((f"twcs:{a}", "everybody") for a in sorted({r["author"] for r in rows if r["author"].isdigit()}))))
        for question, then in zip(QUESTIONS, before): assert same_answers(answer(question, lab), then) and same_answers(answer(question, lab, per="account"), then)
        measures = {per: (tl.acknowledgement(lab, per=per), tl.reciprocity(lab, per=per)) for per in ("account", "person")}
        assert all("each account is taken as a person" in m.card.assumptions and m.params["per"] == "account" for m in measures["account"])
        assert all("joined" in m.card.assumptions and m.to_dict()["params"]["per"] == "person" and "are joined as 1 person" in m.notes[-1] + m.notes[-2] for m in measures["person"])
        assert lab.sql("select count(*) from duckdb_tables() where temporary").row(0) == (0,) and not lab.sql("select view_name from duckdb_views() where temporary and not internal")["view_name"].to_list()


# ---- the views, on tables where anything may stand beside anything

PLATFORMS, WHO = ("x", "y"), {"x:a": "P", "y:a": "P", "x:b": "Q", "y:b": "Q", "x:b2": "Q", "x:c": "R"}
ACCOUNTS = [*WHO, "x:acme", "y:acme", "x:staff"]
posts = st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.one_of(st.none(), st.sampled_from(ACCOUNTS)), st.one_of(st.none(), st.integers(0, 7)), st.one_of(st.none(), st.integers(0, 7)), st.one_of(st.none(), st.integers(0, 5)),
                           st.lists(st.tuples(st.sampled_from(["mention", "mention", "like"]), st.sampled_from(ACCOUNTS), st.sampled_from(ACCOUNTS)), max_size=4)), min_size=1, max_size=8)


def filled(rows, key):
    "A lab with posts and interactions written directly, each account as `key` says"
    lab = lab_of(dict.fromkeys([(key(a), key(a)) for a in ACCOUNTS]))
    lab.con.execute("insert into role values ('x:acme', 'brand', 'acme', null, null, 'declared'), ('y:acme', 'brand', 'acme', null, null, 'declared'), ('x:staff', 'staff', 'acme', null, null, 'declared')")
    lab.con.execute("insert into load (load_id, scope, covers_to) values ('1', 'both', '2024-02-01'); insert into coverage values ('1', 'x', null, null, false), ('1', 'y', null, null, false)")
    said_, done = [], []
    for i, (author, to, parent, quoted, hour, acts) in enumerate(rows):
        at = None if hour is None else datetime(2024, 1, 1, hour)
        said_.append((f"p{i}", author[0], key(author), "post", at, to and key(to), None if parent is None else f"p{parent}", None if quoted is None else f"p{quoted}", "explicit", "c", "public", "1"))
        done += [(kind, actor, f"p{i}", target, at) for kind, actor, target in dict.fromkeys((kind, key(actor), key(target)) for kind, actor, target in acts)]
    put(lab, "post", said_, "post_key platform author_key kind created_at reply_to_account reply_to_key quote_of_key reply_basis conversation_key visibility load_id")
    put(lab, "interaction", done, "kind actor_key post_key target_key occurred_at")
    return lab


def post(author, to=None, hour=1, acts=(), parent=None, quoted=None): return [("x:acme", None, None, None, 0, []), (author, to, parent, quoted, hour, list(acts))]


@settings(max_examples=8, suppress_health_check=QUICK)
@example(rows=post("x:c", "x:a", acts=[("mention", "x:c", "y:a")]))
@example(rows=post("x:c", "x:a", parent=0, acts=[("mention", "x:c", "x:a"), ("mention", "x:c", "x:b"), ("mention", "x:c", "y:b"), ("like", "x:c", "x:a")]))
@example(rows=post("x:c", acts=[("like", "x:a", "x:c"), ("like", "y:a", "x:c"), ("like", "x:b", "y:b"), ("mention", "x:a", "y:acme")]))
@example(rows=post("x:a", "x:acme") + [("y:a", "x:a", 1, 1, 2, [])])
@given(rows=posts)
def test_views_of_persons_are_the_views_of_tables_with_persons(rows):
    with filled(rows, lambda a: a) as joined, filled(rows, lambda a: f"x:{WHO[a]}" if a in WHO else a) as relabelled:
        joined.identify(said(*WHO.items()))
        name = {p: f"x:{WHO[k]}" for k, p in persons(joined).items() if k in WHO}
        for view, keys in (("exchange", ("from_key", "to_key")), ("inbound", ("author_key",))):
            got, want = joined.sql(f"from {view}_person"), relabelled.sql(f"from {view}")
            assert got.columns == want.columns
            got = got.with_columns(pl.col(k).replace(name) for k in keys).drop("platform")
            assert Counter(got.rows()) == Counter(want.drop("platform").rows())
            with pinned_per(joined, view, "person"): assert Counter(joined.sql(f"from {view}_now").rows()) == Counter(joined.sql(f"from {view}_person").rows())


def test_roles_stay_those_of_the_accounts():
    rows = [("x:a", "x:acme", None, None, 1, []), ("x:acme", "x:a", 0, None, 2, []), ("y:acme", "x:b", None, None, 3, []), ("x:b", "y:acme", None, None, 4, []), ("x:c", "x:acme", None, None, 5, [])]
    with filled(rows, lambda a: a) as lab:
        before = [tl.acknowledgement(lab, by="brand", unit=u).frame for u in ("conversation", "post")]
        lab.identify(said(("x:acme", "Acme"), ("y:acme", "Acme"), ("x:c", "Acme"), ("x:staff", "Bo"), ("x:b", "Bo")))
        acts = lab.sql("select from_key, to_key, from_role, to_role from exchange_person order by occurred_at").rows()
        assert acts == [("x:a", "x:acme", "unknown", "brand"), ("x:acme", "x:a", "brand", "unknown"), ("x:acme", "x:b", "brand", "unknown"), ("x:b", "x:acme", "unknown", "brand")]
        assert [tl.acknowledgement(lab, by="brand", unit=u, per="person").frame.select("n", "acknowledged").rows() for u in ("conversation", "post")] == [f.select("n", "acknowledged").rows() for f in before]
        lab.separate("x:c")
        assert lab.sql("select count(*) from exchange_person").row(0) == (5,)


# ---- conversion across platforms, in loops

DAY = timedelta(days=1)
START = datetime(2024, 1, 1)
ENDS = {"x": START + 25 * DAY, "y": START + 40 * DAY, "z": START + 60 * DAY}
calls = st.lists(st.tuples(st.sampled_from(["x:1", "x:2", "y:1", "y:2", "z:1"]), st.integers(0, 19), st.one_of(st.none(), st.integers(0, 5)), st.booleans()), min_size=1, max_size=9)


def converted(calls, who, horizon_of):
    "(platform, seconds, event) of each person who was answered and had not recommended before, in loops"
    answered, spoken, found = defaultdict(list), defaultdict(list), []
    for account, day, wait, recommends in calls:
        at = START + day * DAY
        if wait is not None: answered[who[account]].append((at + wait * DAY, account[0]))
        if recommends: spoken[who[account]].append(at)
    for person, answers in answered.items():
        (zero, platform), end = min(answers), horizon_of(person)
        if any(t <= zero for t in spoken[person]): continue
        hit = min((t for t in spoken[person] if t > zero and t <= end), default=None)
        found.append((platform, ((hit or end) - zero).total_seconds(), int(hit is not None)))
    return sorted(found)


ONE_OF_THREE = {"x:1": "P", "x:2": "Q", "y:1": "P", "y:2": "Q", "z:1": "P"}


@settings(max_examples=10, suppress_health_check=QUICK)
@example(calls=[("x:1", 0, 1, False)], who=ONE_OF_THREE)
@example(calls=[("y:1", 0, 1, False), ("x:1", 2, 1, False), ("z:1", 9, None, True), ("x:2", 1, 0, False)], who=ONE_OF_THREE)
@example(calls=[("y:1", 0, None, True), ("x:1", 2, 1, True), ("y:2", 3, 1, False), ("x:2", 8, None, True)], who=ONE_OF_THREE)
@given(calls=calls, who=st.fixed_dictionaries({a: st.sampled_from("PQR") for a in ("x:1", "x:2", "y:1", "y:2", "z:1")}))
def test_conversion_of_persons_over_platforms(calls, who):
    with lab_of([(a, a) for a in who] + [(f"{p}:acme", "acme") for p in ENDS]) as lab:
        for p, end in ENDS.items():
            lab.con.execute("insert into role values (?, 'brand', 'acme', null, null, 'declared')", [f"{p}:acme"])
            lab.con.execute("insert into load (load_id, scope, covers_to) values (?, 'both', ?)", [p, end])
            lab.con.execute("insert into coverage values (?, ?, null, null, false)", [p, p])
        said_ = []
        for i, (account, day, wait, recommends) in enumerate(calls):
            p, at = account[0], START + day * DAY
            said_.append((f"c{i}", p, account, "post", at, "I would recommend it" if recommends else "hello", f"{p}:acme", None, "explicit", f"t{i}", "public"))
            if wait is not None: said_.append((f"r{i}", p, f"{p}:acme", "post", at + wait * DAY, "hi", account, f"c{i}", "explicit", f"t{i}", "public"))
        put(lab, "post", said_, "post_key platform author_key kind created_at text reply_to_account reply_to_key reply_basis conversation_key visibility")
        lab.identify(said(*who.items()))
        want = converted(calls, who, lambda person: max(ENDS[a[0]] for a in who if who[a] == person))
        if not want:
            with pytest.raises(NotIdentifiable): tl.conversion(lab, per="person")
            return
        frame = tl.conversion(lab, by="platform", horizon=("1d", "9d", "30d"), per="person").frame.filter(pl.col("arm") == "acknowledged")
        assert frame["platform"].to_list() == sorted({p for p, *_ in want})
        for row in frame.iter_rows(named=True):
            times = [(t, hit) for p, t, hit in want if p == row["platform"]]
            assert (row["n"], row["events"]) == (len(times), sum(hit for _, hit in times))
            for label, days in (("1d", 1), ("9d", 9), ("30d", 30)):
                oracle.close(row[f"conversion_{label}"], oracle.share_by(oracle.kaplan_meier(times), days * 86400))


@pytest.mark.parametrize("text", ["drop", "scrub"])
def test_a_pseudonymised_store_joins_by_table_keeps_no_name_and_proposes_nothing(tmp_path, text):
    rows = ["tweet_id,author_id,inbound,created_at,text,response_tweet_id,in_response_to_tweet_id"]
    rows += [f"{i},{who},{side},Tue Oct 31 22:1{i}:00 +0000 2017,@acme hello,,{up}" for i, (who, side, up) in enumerate([("501", True, ""), ("acme", False, 0), ("502", True, ""), ("503", True, "")])]
    (tmp_path / "twcs.csv").write_text("\n".join(rows) + "\n")
    with tl.Lab(tmp_path / "s.duckdb") as lab:
        lab.pseudonymise(text=text)
        lab.load(tmp_path / "twcs.csv", progress=False)
        assert tl.acknowledgement(lab, unit="post", per="person").frame["n"][0] == 3
        assert lab.identify(said(("501", "Ada Byron"), ("twcs:502", "Ada Byron"))) == 2
        keys = lab.sql("select count(distinct account_key), count(distinct person_key) from account where handle <> 'acme'").row(0)
        assert keys == (3, 2) and lab.identities()["person"].str.starts_with("p1_").all()
        with pytest.raises(NotIdentifiable, match="pseudonymised"): lab.proposals()
        assert lab.separate("@501") == 1 and len(set(persons(lab).values())) == 4
    assert all(b"Ada Byron" not in file.read_bytes() and b"Byron" not in file.read_bytes() for file in tmp_path.glob("s.duckdb*") if file.is_file())
