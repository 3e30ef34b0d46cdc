"Business time against counting minute by minute in plain Python, its laws, the engine against the arrays, and what is refused"
import time
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from trustlab.business_time import Calendar, calendar_of, clocked
from trustlab.core import InvalidParameter
from trustlab.store import Lab

NAMES = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "Africa/Casablanca"]


def counted(zone, week, holidays, start, end):
    "Business seconds between two whole minutes (UTC), by asking each minute's local clock; `week` has (weekday, opening minute, closing minute), closing beyond 1440 over midnight"
    place, total, at = ZoneInfo(zone), 0, start
    while at < end:
        here = at.replace(tzinfo=timezone.utc).astimezone(place)
        minute = here.hour * 60 + here.minute
        hit = any(day == here.weekday() and opens <= minute < closes or (day + 1) % 7 == here.weekday() and minute < closes - 1440 for day, opens, closes in week)
        total += 60 * (hit and here.date() not in holidays)
        at += timedelta(minutes=1)
    return total


def written(week):
    "The same week as a user writes it"
    hours = {}
    for day, opens, closes in week: hours.setdefault(NAMES[day], []).append(f"{opens // 60:02}:{opens % 60:02}-{closes % 1440 // 60 if closes != 1440 else 24:02}:{closes % 60:02}")
    return hours


@st.composite
def weeks(draw):
    "A week of spans that do not overlap: cut the week's minutes at random points, and take every other part"
    cuts = sorted(draw(st.sets(st.integers(0, 7 * 1440 - 1), min_size=2, max_size=10)))
    parts = [(a, b) for a, b in zip(cuts[::2], cuts[1::2]) if b - a < 1440]
    return [(a // 1440, a % 1440, a % 1440 + b - a) for a, b in parts]


MOMENTS = st.integers(0, 400 * 1440).map(lambda m: datetime(2023, 12, 1) + timedelta(minutes=m))
CHANGES = st.sampled_from([datetime(2024, 3, 31), datetime(2024, 10, 27), datetime(2024, 3, 10), datetime(2024, 11, 3), datetime(2024, 4, 6), datetime(2024, 10, 5), datetime(2024, 4, 14), datetime(2024, 3, 9)])


@settings(max_examples=60)
@given(weeks(), st.sampled_from(ZONES), CHANGES, st.integers(-1440, 1440), st.integers(1, 3 * 1440), st.sets(st.integers(-1, 2)))
def test_it_counts_what_the_local_clock_counts(week, zone, near, shift, length, off):
    if not week: return
    start = near + timedelta(minutes=shift)
    end, holidays = start + timedelta(minutes=length), [(near + timedelta(days=d)).date() for d in off]
    assert Calendar(zone, written(week), holidays).between(start, end) == counted(zone, week, holidays, start, end)


@settings(max_examples=60)
@given(weeks(), st.sampled_from(ZONES), MOMENTS, MOMENTS, MOMENTS)
def test_laws(week, zone, x, y, z):
    if not week: return
    calendar = Calendar(zone, written(week), [date(2024, 1, 1), date(2024, 3, 31)])
    a, b, c = sorted((x, y, z))
    ab, bc, ac = calendar.between(a, b), calendar.between(b, c), calendar.between(a, c)
    assert ab + bc == ac and 0 <= ab <= ac <= (c - a).total_seconds() and calendar.between(c, a) == -ac
    assert Calendar(zone, {"daily": "00:00-24:00"}).between(a, c) == (c - a).total_seconds()


@settings(max_examples=40)
@given(weeks(), st.sampled_from(ZONES), MOMENTS, st.integers(1, 200_000))
def test_due_is_the_first_moment_at_which_the_seconds_have_passed(week, zone, start, seconds):
    if not week: return
    calendar = Calendar(zone, written(week))
    due = calendar.due(start, seconds)
    assert calendar.between(start, due) == seconds and calendar.between(start, due - timedelta(seconds=1)) == seconds - 1


def test_due_leaps_over_a_long_closing():
    shut = [date(2024, 1, 1) + timedelta(days=d) for d in range(800)]
    calendar = Calendar("UTC", {"mon": "09:00-10:00"}, shut)
    assert calendar.due(datetime(2024, 1, 1), 60) == datetime(2026, 3, 16, 9, 1)


@pytest.mark.parametrize("zone,noon,night,day", [
    ("Europe/Berlin", datetime(2024, 3, 30, 12), 7, 8), ("Europe/Berlin", datetime(2024, 10, 26, 12), 9, 8), ("America/New_York", datetime(2024, 3, 9, 18), 7, 8),
    ("Australia/Lord_Howe", datetime(2024, 4, 6, 1), 8.5, 8), ("Africa/Casablanca", datetime(2024, 3, 9, 12), 9, 8), ("Asia/Kathmandu", datetime(2024, 3, 30, 6), 8, 8)])
def test_daylight_saving(zone, noon, night, day):
    around = timedelta(days=1)
    assert Calendar(zone, {"daily": "22:00-06:00"}).between(noon, noon + around) == night * 3600
    place = ZoneInfo(zone)
    midnight = datetime.combine((noon + around).date(), datetime.min.time(), place).astimezone(timezone.utc)
    following = datetime.combine((noon + 2 * around).date(), datetime.min.time(), place).astimezone(timezone.utc)
    assert Calendar(zone, {"daily": "09:00-17:00"}).between(midnight, following) == day * 3600


def test_a_day_that_the_zone_left_out_is_no_day():
    "Samoa went from 29 to 31 December 2011"
    desk = Calendar("Pacific/Apia", {"daily": "09:00-17:00"})
    assert desk.between(datetime(2011, 12, 29), datetime(2012, 1, 1)) == counted("Pacific/Apia", [(d, 540, 1020) for d in range(7)], [], datetime(2011, 12, 29), datetime(2012, 1, 1))


def test_a_holiday_ends_a_night_shift_at_midnight():
    calendar = Calendar("UTC", {"daily": "22:00-06:00"}, ["2024-12-25"])
    assert [calendar.between(datetime(2024, 12, day, 12), datetime(2024, 12, day + 1, 12)) / 3600 for day in (23, 24, 25, 26)] == [8, 2, 6, 8]


def test_whole_weeks_and_names():
    one = Calendar("UTC", {"mon-fri": "9:00-12:00, 13:00-17:30", "Saturday,sun": ["10:00-12:00"], "wed": "closed"})
    frame = pl.DataFrame({"weekday": ["1-5", "sat", "7", "mon-fri"], "opens": ["09:00", "10:00", "10:00", "13:00:00"], "closes": ["12:00", "12:00", "12:00", "17:30"]})
    assert Calendar("UTC", frame) == one == Calendar(**one.to_dict()) == calendar_of(one.to_dict()) and hash(one) == hash(Calendar("UTC", frame))
    assert one.between(datetime(2024, 1, 1), datetime(2024, 1, 8)) == (5 * 7.5 + 4) * 3600


def test_breaks_are_the_stairs():
    calendar = Calendar("Europe/Berlin", {"mon-fri": "09:00-17:30", "fri": "20:00-02:00"})
    first, last = datetime(2024, 3, 27, 10, 30, 0, 250_000), datetime(2024, 4, 3, 8, 0, 1)
    stairs = calendar.breaks(first, last)
    assert stairs["at"][0] == first and stairs["at"][-1] == last and stairs["at"].is_sorted() and stairs["opened"].is_sorted()
    assert stairs["opened"].to_list() == [calendar.between(first, at) for at in stairs["at"]] and (stairs["open"][1:-1] != stairs["open"][:-2]).all()
    assert calendar.breaks(first, first).height <= 2
    with pytest.raises(InvalidParameter, match="last must not be before first"): calendar.breaks(last, first)


def test_series_with_nulls_zones_and_units():
    calendar = Calendar("UTC", {"mon-fri": "09:00-17:00"})
    start = pl.Series([datetime(2024, 1, 1, 8), None, datetime(2024, 1, 5, 16)])
    end = pl.Series([datetime(2024, 1, 1, 10), datetime(2024, 1, 1), datetime(2024, 1, 8, 10)])
    assert calendar.between(start, end).to_list() == [3600, None, 7200]
    assert calendar.between(start.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"), end.cast(pl.Datetime("ms"))).to_list() == [3600, None, 7200]
    assert calendar.between(pl.Series([], dtype=pl.Datetime("us")), pl.Series([], dtype=pl.Datetime("us"))).to_list() == [] and calendar.between(datetime(2024, 1, 1), None) is None
    assert calendar.due(start, 3600).to_list() == [datetime(2024, 1, 1, 10), None, datetime(2024, 1, 5, 17)]
    with pytest.raises(InvalidParameter, match="start must be"): calendar.between("2024-01-01", datetime(2024, 1, 2))


@settings(max_examples=25)
@given(weeks(), st.sampled_from(ZONES), st.lists(st.tuples(st.none() | MOMENTS, st.none() | MOMENTS, st.integers(0, 999_999)), min_size=1, max_size=30))
def test_the_engine_counts_the_same(week, zone, rows):
    if not week: return
    calendar = Calendar(zone, written(week), [date(2024, 5, 1)])
    rows = [(i, a and a + timedelta(microseconds=us), b) for i, (a, b, us) in enumerate(rows)]
    with Lab() as lab:
        lab.con.execute("create temp table unit_now (i int, arrived_at timestamp, ended_at timestamp)")
        lab.con.executemany("insert into unit_now values (?, ?, ?)", rows)
        clocked(lab, calendar, "unit_now", ("arrived_at", "ended_at"))
        found = lab.sql("select arrived_at_business, ended_at_business, ended_at_business - arrived_at_business as b, arrived_at, ended_at from unit_now order by i")
        tables = lab.sql("select table_name from duckdb_tables() where temporary")["table_name"].to_list()
    assert tables == ["unit_now"]
    for row, (_, a, b) in zip(found.iter_rows(named=True), rows, strict=True):
        assert (row["arrived_at"], row["ended_at"]) == (a, b) and (row["arrived_at_business"] is None) == (a is None)
        assert row["b"] is None if a is None or b is None else abs(row["b"] - calendar.between(a, b)) < 1e-5


def test_an_empty_table_is_clocked_too():
    with Lab() as lab:
        lab.con.execute("create temp table unit_now (arrived_at timestamp)")
        clocked(lab, Calendar("UTC", {"mon": "09:00-10:00"}), "unit_now", ("arrived_at",))
        assert lab.sql("select arrived_at_business from unit_now").schema == {"arrived_at_business": pl.Float64}


def test_three_million_moments_in_bounded_memory(tmp_path):
    "Two columns of 3 million moments over four years: seconds, under a small memory limit, spread rows against the arrays"
    with Lab(tmp_path / "big.duckdb", memory_limit="300MiB") as lab:
        lab.con.execute("create temp table unit_now as select i, timestamp '2021-01-01' + to_seconds(i * 42) as arrived_at, timestamp '2021-01-01' + to_seconds(i * 42 + (i * 7919) % 900000) as ended_at from range(3000000) r(i)")
        began = time.process_time()
        calendar = Calendar("Europe/Berlin", {"mon-fri": "09:00-17:30", "sat": "10:00-12:00"}, ["2022-12-26"])
        clocked(lab, calendar, "unit_now", ("arrived_at", "ended_at"))
        assert time.process_time() - began < 20
        found = lab.sql("select arrived_at, ended_at, ended_at_business - arrived_at_business as b from unit_now where i % 997 = 0")
        assert found.height == 3010 and (found["b"] - calendar.between(found["arrived_at"], found["ended_at"])).abs().max() < 1e-6
        assert lab.sql("select count(*) as n, count(arrived_at_business) as m from unit_now").row(0) == (3_000_000, 3_000_000)


@pytest.mark.parametrize("make,says", [
    (lambda: Calendar(hours={"mon": "09:00-10:00"}), "need a zone"), (lambda: Calendar("", {"mon": "09:00-10:00"}), "need a zone"), (lambda: Calendar("Europe/Berln", {"mon": "09:00-10:00"}), "Europe/Berlin"),
    (lambda: Calendar("../../etc/passwd", {"mon": "09:00-10:00"}), "zone must be"), (lambda: Calendar(5, {"mon": "09:00-10:00"}), "zone must be"), (lambda: Calendar("UTC"), "at least one span"), (lambda: Calendar("UTC", {"mon": "closed"}), "at least one span"),
    (lambda: Calendar("UTC", {"mon-fri": "09:00-17:00", "fri": "16:00-18:00"}), "fri 09:00-17:00 and fri 16:00-18:00"), (lambda: Calendar("UTC", {"sun": "22:00-06:00", "mon": "05:00-09:00"}), "sun 22:00-06:00 and mon 05:00-09:00"),
    (lambda: Calendar("UTC", {"mon": ["09:00-10:00", "09:00-10:00"]}), "must not overlap"), (lambda: Calendar("UTC", {"monn": "09:00-10:00"}), "a day must be"), (lambda: Calendar("UTC", {"mon": "9-17"}), "must look like 09:00"),
    (lambda: Calendar("UTC", {"mon": "09:00"}), "a span must look like"), (lambda: Calendar("UTC", {"mon": "09:00-25:00"}), "time of day"), (lambda: Calendar("UTC", {"mon": "09:60-10:00"}), "time of day"),
    (lambda: Calendar("UTC", {"mon": "10:00-10:00"}), "open before it closes"), (lambda: Calendar("UTC", {"mon": [("09:00", "10:00")]}), "must have spans"), (lambda: Calendar("UTC", {"mon": 9}), "must have spans"),
    (lambda: Calendar("UTC", "mon 9-5"), "must be a table"), (lambda: Calendar("UTC", pl.DataFrame({"day": [1]})), "weekday, opens, closes"),
    (lambda: Calendar("UTC", {"mon": "09:00-10:00"}, ["25.12.2024"]), "2024-12-25"), (lambda: Calendar("UTC", {"mon": "09:00-10:00"}, ["2024-02-30"]), "2024-02-30"), (lambda: Calendar("UTC", {"mon": "09:00-10:00"}, 5), "holidays must be"),
    (lambda: Calendar("UTC", {"mon": "09:00-10:00"}, pl.DataFrame({"day": []})), "column date"), (lambda: Calendar("UTC", {"mon": "09:00-10:00"}, "none.csv"), "holidays: none.csv"),
    (lambda: calendar_of({"mon": "09:00-10:00"}), "need a zone"), (lambda: calendar_of({"zone": "UTC", "hours": {"mon": "09:00-10:00"}, "holliday": []}), "holliday"), (lambda: calendar_of([1]), "hours must be a Calendar"),
    (lambda: calendar_of("nowhere.toml"), "nowhere.toml"), (lambda: Calendar("UTC", {"mon": "09:00-10:00"}).due(datetime(2024, 1, 1), 0), "must be positive")])
def test_refused(make, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameter) as error: make()
    assert says in str(error.value)


@pytest.mark.parametrize("name,text,says", [
    ("a.toml", 'hours = "', "a.toml"), ("a.toml", '[hours]\nmon = "09:00-10:00"\n', "need a zone"), ("a.toml", 'zone = "UTC"\nhours = 5\n', "must be a table"), ("a.toml", 'zone = "UTC"\n', "at least one span"),
    ("a.csv", "weekday,opens,closes\nmon,9:00,10:00\n", "columns must be zone"), ("a.csv", "zone,weekday,opens,closes\nUTC,mon,9:00,10:00\nEurope/Berlin,tue,9:00,10:00\n", "one zone"),
    ("a.csv", "zone,weekday,opens,closes\n,mon,9:00,10:00\n", "need a zone"), ("a.csv", "zone,weekday,opens,closes\nUTC,mon,9:00,\n", "time of day"), ("a.csv", "", "a.csv"), ("a.csv", "\xff\xfe", "a.csv")])
def test_refused_files(name, text, says, tmp_path):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidParameter) as error: Calendar.read(tmp_path / name)
    assert says in str(error.value)


def test_files_in_full(tmp_path):
    (tmp_path / "off.csv").write_text("date,what\n2024-12-25,Christmas\n2024-12-26,Boxing Day\n")
    (tmp_path / "desk.toml").write_text('zone = "Europe/London"\nholidays = "off.csv"\n[hours]\nmon-fri = ["09:00-12:00", "13:00-17:00"]\nsun = "22:00-02:00"\n')
    (tmp_path / "desk.CSV").write_text("Zone,Weekday,Opens,Closes\nEurope/London,mon-fri,9:00,12:00\nEurope/London,mon-fri,13:00,17:00\n,sun,22:00,02:00\n,2024-12-25,,\n,2024-12-26,,\n")
    one = Calendar("Europe/London", {"mon-fri": "09:00-12:00, 13:00-17:00", "sun": "22:00-02:00"}, [date(2024, 12, 25), datetime(2024, 12, 26)])
    assert Calendar.read(tmp_path / "desk.toml") == one == calendar_of(tmp_path / "desk.CSV") == calendar_of(str(tmp_path / "desk.toml")) == Calendar("Europe/London", {"mon-fri": "09:00-12:00, 13:00-17:00", "sun": "22:00-02:00"}, tmp_path / "off.csv")
