"""Every row of the table of threats, made to happen: archives, content, meaning, the store, SQL.

The table below names, for each row, the tests that prove it; a number alone stands for the tests of this file that carry it in their name."""
import ast
import gzip
import io
import json
import os
import pickle
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import warnings
import zipfile
from collections import Counter
from datetime import datetime

import duckdb
import polars as pl
import pytest

import trustlab as tl
import trustlab.bundles
import trustlab.sources  # noqa: F401
from test_faults import HEADER, NOTHING, PLAIN, ROOT, child, counts, file, holds, one, refuses, sound, table, tweet, zipped
from trustlab.bundles import bundles
from trustlab.core import InvalidExport, InvalidParameter, PartialExport, StoreLocked, StoreVersion, TrustlabError, UnknownSource, UnsafeArchive
from trustlab.schema import quoted
from trustlab.store import Lab, translated

EXPORTS = ROOT / "tests" / "exports"
ROWS = {
    1: ["test_faults.test_a_bomb", 1], 2: ["test_faults.test_a_bomb_that_lies_about_its_size", 2], 3: ["test_faults.test_overlapping_entries", 3], 4: ["test_faults.test_names_that_climb_out_are_not_taken", "test_faults.test_a_member_that_is_not_taken_is_told"],
    5: ["test_faults.test_links_are_not_followed", "test_faults.test_a_member_that_is_not_taken_is_told"], 6: [6], 7: ["test_faults.test_two_members_of_one_name_are_not_one_in_silence", 7], 8: [8],
    9: ["test_faults.test_a_password", "test_faults.test_a_truncated_zip", "test_faults.test_a_truncated_tar", "test_faults.test_an_empty_file_is_told", 9], 10: [10],
    11: ["test_sources.test_a_damaged_day_gives_what_stands_before_the_damage", "test_sources.test_a_cut_archive_gives_what_it_holds", 11], 12: [12], 13: ["test_faults.test_an_unreadable_row_between_good_ones_never_yields_a_row", 13],
    14: ["test_faults.test_encodings_and_line_ends_are_the_same_export", 14], 15: ["test_faults.test_encodings_and_line_ends_are_the_same_export", "test_mappings.test_the_console_in_utf16_is_the_console_in_utf8", 15], 16: [16], 17: [17], 18: [18], 19: [19], 20: [20],
    21: [21], 22: [22], 23: [23], 24: ["test_faults.test_a_file_without_a_single_record_is_refused", 24], 25: [25], 26: ["test_faults.test_an_unreadable_row_between_good_ones_never_yields_a_row", "test_faults.test_damage_is_counted_never_swallowed", 26],
    27: ["test_faults.test_an_unreadable_row_between_good_ones_never_yields_a_row", "test_faults.test_empty_columns_too_many_shift_no_reject", 27],
    28: ["test_sources.test_columns_are_bound_by_name", "test_sources.test_unknown_columns_are_passed_over", "test_sources.test_a_missing_column_is_named", "test_sources.test_a_column_that_stands_twice_is_refused", 28],
    29: ["test_faults.test_encodings_and_line_ends_are_the_same_export", 29], 30: [30], 31: [31], 32: ["test_faults.test_duplicates_in_one_file_are_one_post"], 33: ["test_faults.test_duplicates_in_one_file_are_one_post", 33], 34: [34],
    35: ["test_faults.test_a_cycle_gives_no_conversation", "test_faults.test_a_thread_of_thousands_has_one_top", 35], 36: [36], 37: [37], 38: [38], 39: ["test_sources.test_ids_of_every_spelling_are_one", "test_sources.test_what_cannot_be_right_is_rejected_with_its_place", 39],
    40: [40], 41: ["test_sources.test_a_missing_column_is_named", 41], 42: ["test_faults.test_the_same_file_adds_nothing", "test_faults.test_the_same_records_in_another_file_are_the_same"],
    43: ["test_faults.test_a_newer_export_that_overlaps_updates", "test_faults.test_an_older_export_never_overwrites", "test_faults.test_a_declared_time_decides_what_is_newer"], 44: ["test_faults.test_an_unreadable_row_between_good_ones_never_yields_a_row", 44],
    45: ["test_faults.test_killed_in_mid_load_then_run_again", "test_faults.test_killed_at_any_moment", 45], 46: [46], 47: ["test_faults.test_too_little_memory_changes_nothing"], 48: [48],
    49: ["test_faults.test_a_store_held_by_another_process", "test_faults.test_waiting_for_a_store_that_is_given_back", "test_faults.test_many_readers_at_once", "test_cli.test_a_store_that_another_process_holds_is_5"],
    50: ["test_store.test_a_store_opened_twice_in_one_process", 50], 51: ["test_faults.test_a_store_that_was_overwritten", "test_faults.test_a_flipped_byte_is_noticed_or_does_no_harm", "test_cli.test_a_damaged_store_is_6_and_stays_as_it_is"], 52: [52],
    53: ["test_store.test_what_is_no_store_is_refused_and_left_alone"], 54: ["test_store.test_values_are_bound_never_pasted", 54], 55: [55], 56: ["test_faults.test_a_name_with_stars_is_one_file", 56], 57: ["test_store.test_a_store_opened_for_reading_reaches_nothing_else", 57],
    58: [58], 59: ["test_store.test_nothing_is_downloaded", 59], 60: ["test_reports.test_a_slow_cell_and_a_dead_kernel_are_failures", 60], 61: [61],
}


@pytest.fixture
def lab():
    with Lab() as store: yield store


def named_in(module): return {n.name for n in ast.parse((ROOT / "tests" / f"{module}.py").read_text()).body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")}


def test_every_row_has_a_test():
    here = named_in("test_safety")
    assert sorted(ROWS) == list(range(1, 62))
    for row, proofs in ROWS.items():
        for proof in proofs:
            if isinstance(proof, int): assert any(re.match(rf"test_b\d_{row:02}_", name) for name in here), f"row {row} has no test here"
            else: assert proof.split(".")[1] in named_in(proof.split(".")[0]), proof
    numbered = {int(name.split("_")[2]) for name in here if re.match(r"test_b\d_\d\d_", name)}
    assert numbered == {row for row, proofs in ROWS.items() if row in proofs}


# ---- what the tests share

def notices(call):
    "What a call returns, and what it warned of"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = call()
    return result, [str(w.message) for w in said if issubclass(w.category, PartialExport)]


def quiet(call): return notices(call)[0]
def say(n, minute=0, text="hello", **more): return {"type": "message", "user": "U1", "ts": f"{1709535600 + 60 * minute}.{n:06}", "text": text} | more


def workspace(folder, *days, name="x.zip", **lists):
    "A Slack export whose day files hold these texts or lists"
    members = {"users.json": json.dumps([{"id": "U1", "name": "kim"}]), "channels.json": json.dumps([{"id": "C1", "name": "help"}])} | lists
    for i, day in enumerate(days, 1): members[f"help/2024-03-{i:02}.json"] = day if isinstance(day, (str, bytes)) else json.dumps(day)
    return zipped(folder / name, members)


def reddit(i, **more): return {"id": f"c{i}", "author": "kim", "created_utc": 1714557600 + i, "body": "hello", "link_id": "t3_a", "parent_id": "t3_a", "subreddit": "acme", "subreddit_id": "t5_1"} | more


def comments(folder, *lines, name="RC_2024-05.ndjson", end=b"\n"):
    return file(folder, end.join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines) + end, name)


def codes(lab): return Counter(lab.sql("select code from reject")["code"])
def kept(lab): return set(lab.sql("select post_key from post")["post_key"])


def by_mapping(folder, columns, post="", file_="", name="m"):
    "A mapping of a table with id, at, by, text"
    (folder / f"{name}.toml").write_text(f'name = "{name}"\nplatform = "{name}"\n[file]\nformat = "{columns}"\n{file_}\n[post]\nid = "id"\ntext = "text"\n{post}\n[author]\nid = "by"\n')
    return folder / f"{name}.toml"


# ---- B1: archives

def test_b1_01_a_bomb_is_counted_while_it_is_read(lab, tmp_path):
    with tarfile.open(tmp_path / "huge.tar", "w") as tar:
        info = tarfile.TarInfo("t.csv")
        info.size = 0
        tar.addfile(info)
    raw = bytearray((tmp_path / "huge.tar").read_bytes())
    raw[124:136] = b"%011o\0" % (1 << 32)
    raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + 8 * 32 + sum(raw[156:512]))
    began = time.monotonic()
    refuses(lab, file(tmp_path, bytes(raw), "says.tar"), UnsafeArchive, "unpack")
    with gzip.open(tmp_path / "after.tar.gz", "wb") as out:
        out.write((tmp_path / "huge.tar").read_bytes())
        for _ in range(150): out.write(bytes(1 << 20))
    refuses(lab, tmp_path / "after.tar.gz", UnsafeArchive, "unpack")
    assert time.monotonic() - began < 30


def test_b1_01_what_is_honest_and_large_is_no_bomb(lab, tmp_path):
    "Text packs well; only what is both large and packed beyond reason is refused"
    path = zipped(tmp_path / "big.zip", {"t.csv": table(*[tweet(i, text="the same words " * 20) for i in range(1, 3001)])})
    assert lab.load(path).stored == 3000


@pytest.mark.parametrize("how", ["checksum", "size", "stream"])
def test_b1_02_one_damaged_member_of_many_is_one_reject(lab, tmp_path, how):
    path = workspace(tmp_path, [say(1)], [say(2, 9), say(3, 10)], [say(4, 20)])
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as z: info = z.getinfo("help/2024-03-02.json")
    at = raw.index(b"PK\x01\x02", info.header_offset + 30 + len(info.filename) + info.compress_size)
    while raw[at + 46: at + 46 + len(info.filename)] != info.filename.encode(): at = raw.index(b"PK\x01\x02", at + 4)
    if how == "checksum": raw[at + 16] ^= 1
    elif how == "size": raw[at + 24: at + 28] = struct.pack("<I", 10)
    else: raw[info.header_offset + 30 + len(info.filename) + 5] ^= 0xFF
    receipt, said = notices(lambda: lab.load(file(tmp_path, bytes(raw), "bad.zip")))
    assert counts(receipt) == (3, 2, 0, 0, 0, 1) and receipt.loads[0]["status"] == "partial" and sound(lab)
    assert lab.sql("select member, code from reject").rows() == [("help/2024-03-02.json", "damaged_member")] and any("damaged_member" in s and "2024-03-02" in s for s in said)
    with Lab() as other: assert counts(other.load(path))[:2] == (4, 4)


def test_b1_02_a_damaged_member_that_is_needed_refuses_the_archive(lab, tmp_path):
    raw = bytearray(zipped(tmp_path / "w.zip", {"users.json": json.dumps([{"id": "U1", "name": "kim"}]), "channels.json": json.dumps([{"id": "C1", "name": "help"}]), "help/2024-03-01.json": json.dumps([say(1)])}, zipfile.ZIP_STORED).read_bytes())
    raw[raw.index(b'"help"')] ^= 1
    refuses(lab, file(tmp_path, bytes(raw), "bad.zip"), InvalidExport, "channels.json.*damaged|damaged")


def test_b1_03_two_hundred_entries_of_one_body(lab, tmp_path):
    raw = zipped(tmp_path / "w.zip", {"t.csv": PLAIN * 50}).read_bytes()
    at, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    entries = raw[at:end] * 200
    tail = bytearray(raw[end:])
    tail[8:20] = struct.pack("<HHII", 200, 200, len(entries), at)
    refuses(lab, file(tmp_path, raw[:at] + entries + bytes(tail), "quine.zip"), UnsafeArchive, "overlap")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_b1_06_archives_in_archives_are_named_and_not_opened(lab, tmp_path, kind):
    inner = zipped(tmp_path / "inner.zip", {"t.csv": table(tweet(1))})
    for i in range(4): inner = zipped(tmp_path / f"inner{i}.zip", {"inner.zip": inner.read_bytes()})
    for name, members in (("both", {"more.zip": inner.read_bytes(), "deep/older.tar.gz": b"x", "t.csv": PLAIN}), ("only", {"more.zip": inner.read_bytes()})):
        if kind == "zip": zipped(tmp_path / f"{name}.zip", members)
        else:
            with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as tar:
                for member, content in members.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(raw := content.encode() if isinstance(content, str) else content)
                    tar.addfile(info, io.BytesIO(raw))
    receipt, said = notices(lambda: lab.load(tmp_path / f"both.{kind}"))
    assert kept(lab) == {"twcs:1", "twcs:2", "twcs:3"} and any("nested_archive" in s and "more.zip" in s and "older.tar.gz" in s for s in said) and len(receipt.loads) == 1
    with pytest.raises(UnknownSource, match="more archives .more.zip.; unpack it"): lab.load(tmp_path / f"only.{kind}")


def test_b1_07_members_of_one_name_are_both_read(lab, tmp_path):
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "two.zip", "w") as z:
        warnings.simplefilter("ignore")
        for row in (1, 2, 1): z.writestr("a/t.csv", table(tweet(row)))
        z.writestr("a/T.csv", table(tweet(3)))
    receipt, said = notices(lambda: lab.load(tmp_path / "two.zip"))
    assert kept(lab) == {"twcs:1", "twcs:2", "twcs:3"} and receipt.read == 3 and {r["member"] for r in receipt.loads} == {"a/t.csv", "a/t (2).csv", "a/T.csv"}
    assert any("a/t.csv" in s and "a/t (2).csv" in s for s in said) and any("duplicate_member" in s for s in said) and any("capitals alone" in s and "a/T.csv" in s for s in said)


def test_b1_08_seventy_thousand_members(lab, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as z:
        z.writestr("t.csv", PLAIN)
        for i in range(70_000): z.writestr(f"media/{i}.png", b"")
    began = time.monotonic()
    assert counts(quiet(lambda: lab.load(tmp_path / "many.zip")))[:2] == (3, 3) and time.monotonic() - began < 60
    monkeypatch.setattr(trustlab.bundles, "MAX_MEMBERS", 69_999)
    with pytest.raises(UnsafeArchive, match="70,001 members"): bundles(tmp_path / "many.zip")


@pytest.mark.parametrize("content", [b"PK\3\4hello", b"PK\3\4", b"PK\5\6" + bytes(18), b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd\0\0", b"BZh9"])
@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.ndjson.gz"])
def test_b1_09_what_only_begins_like_an_archive(lab, tmp_path, content, name):
    with pytest.raises(TrustlabError) as caught: lab.load(file(tmp_path, content, name))
    assert "\n" not in str(caught.value) and holds(lab) == NOTHING


def test_b1_10_names_with_zeros_and_endless_names_are_told(lab, tmp_path):
    raw = zipped(tmp_path / "w.zip", {"a_b.csv": table(tweet(7)), "t.csv": PLAIN, "x" * 4000 + ".csv": table(tweet(8))}).read_bytes()
    receipt, said = notices(lambda: lab.load(file(tmp_path, raw.replace(b"a_b.csv", b"a\0b.csv"), "nul.zip")))
    assert kept(lab) == {"twcs:1", "twcs:2", "twcs:3"} and [s for s in said if "unsafe_member_name" in s and s.startswith("nul.zip: 2 members")]
    assert "\0" not in str(said) and len(str(said)) < 500


def test_b1_10_names_in_another_code_page_are_read_again(lab, tmp_path):
    path = zipped(tmp_path / "w.zip", {"you’ve/caf\u00e9.csv": PLAIN})
    raw = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)): raw[raw.index(mark) + at + 1] &= ~8
    assert zipfile.ZipFile(io.BytesIO(raw)).namelist() != ["you’ve/café.csv"]
    assert lab.load(file(tmp_path, bytes(raw), "old.zip")).loads[0]["member"] == "you’ve/café.csv"


@pytest.mark.parametrize("kind", ["tar.gz", "folder"])
def test_b1_10_names_whose_bytes_are_no_text(lab, tmp_path, kind):
    raw, name = json.dumps([say(1)]).encode(), os.fsencode(tmp_path) + b"/box/caf\xe9.csv"
    (tmp_path / "box").mkdir()
    with open(name, "wb") as out: out.write(PLAIN.encode())
    (tmp_path / "box" / "line\nbreak.csv").write_text(PLAIN)
    path = tmp_path / "box"
    if kind == "tar.gz":
        path = tmp_path / "x.tar.gz"
        with tarfile.open(path, "w:gz") as tar: tar.add(tmp_path / "box", "box")
    receipt, said = notices(lambda: lab.load(path))
    assert [r["member"] for r in receipt.loads] == [("box/" if kind == "tar.gz" else "") + "caf\ufffd.csv"] and receipt.stored == 3
    assert any("unsafe_member_name" in s for s in said) and raw and sound(lab)


# ---- B2: malformed content

def test_b2_11_a_cut_array_keeps_what_is_whole(lab, tmp_path):
    whole = json.dumps([say(i, i) for i in range(1, 6)])
    receipt = quiet(lambda: lab.load(workspace(tmp_path, whole[: whole.index("000004") + 3], [say(9, 9)])))
    assert counts(receipt) == (5, 4, 0, 0, 0, 1) and receipt.loads[0]["status"] == "partial"
    code, at, raw = lab.sql("select code, byte_offset, raw from reject").row(0)
    assert code == "cut_off" and whole[at:].encode().startswith(raw)


@pytest.mark.parametrize("bad", ['{"type": "message", "ts": tru}', "nul", "{'ts': 1}", '{"ts": "1", }', "{]", '[1, {"a": }]'])
def test_b2_11_a_bad_record_between_good_ones_costs_itself_alone(lab, tmp_path, bad):
    receipt = quiet(lambda: lab.load(workspace(tmp_path, f"[{json.dumps(say(1))}, {bad}, {json.dumps(say(2, 1))}]")))
    assert receipt.stored == 2 and receipt.rejected == 1 and b"".join(lab.sql("select raw from reject")["raw"]).decode() in bad + "]" and sound(lab)


def test_b2_12_a_bad_line_between_good_ones(lab, tmp_path):
    bad = b'{"id": "c2", "body": '
    receipt = quiet(lambda: lab.load(comments(tmp_path, reddit(1), bad, reddit(3), b"not json", reddit(5))))
    assert counts(receipt) == (5, 3, 0, 0, 0, 2) and kept(lab) == {"reddit:t1_c1", "reddit:t1_c3", "reddit:t1_c5"}
    assert lab.sql("select line, raw, code from reject order by line").rows() == [(2, bad, "bad_json"), (4, b"not json", "bad_json")]


def test_b2_13_bytes_that_are_not_utf8(lab, tmp_path):
    bad = json.dumps(reddit(2)).encode().replace(b"hello", b"caf\xe9")
    assert counts(quiet(lambda: lab.load(comments(tmp_path, reddit(1), bad, reddit(3))))) == (3, 2, 0, 0, 0, 1)
    assert lab.sql("select code, line, raw from reject").rows() == [("bad_utf8", 2, bad)]
    lines = [json.dumps(reddit(i)).encode().replace(b"hello", b"caf\xe9" if i % 2 else b"hello") for i in range(100)]
    with Lab() as other:
        with pytest.raises(InvalidExport, match="not UTF-8; it looks like another encoding.*--option encoding=cp1252"): other.load(comments(tmp_path, *lines, name="RC_2024-06.ndjson"))
        assert holds(other) == NOTHING
        assert quiet(lambda: other.load(tmp_path / "RC_2024-06.ndjson", options={"encoding": "cp1252"})).stored == 100 and one(other, "select count(*) from post where text = 'café'") == 50


FORMS = {"utf-8-sig": "utf-8-sig", "utf-16": "utf-16", "utf-16-le": "utf-16-le", "utf-16-be": "utf-16-be", "utf-16 be with a mark": "utf-16-be", "utf-32": "utf-32", "utf-32-be": "utf-32-be"}


def recoded(text, form): return (("\ufeff" if "mark" in form else "") + text).encode(FORMS[form])


@pytest.mark.parametrize("form", [f for f in FORMS if f == "utf-8-sig"])
def test_b2_14_a_mark_is_no_content(lab, tmp_path, form): same_in(lab, tmp_path, form)


@pytest.mark.parametrize("form", [f for f in FORMS if f != "utf-8-sig"])
def test_b2_15_utf16_and_utf32_are_the_same_export(lab, tmp_path, form): same_in(lab, tmp_path, form)


def same_in(lab, tmp_path, form):
    "JSON and lines of JSON in another encoding give the posts that they give in UTF-8"
    day, lines = json.dumps([say(1, 0, "café 😀"), say(2, 1)], ensure_ascii=False), "\n".join(json.dumps(reddit(i, body="né 😀"), ensure_ascii=False) for i in (1, 2)) + "\n"
    with Lab() as plain:
        quiet(lambda: plain.load(workspace(tmp_path, day, name="plain.zip"), file(tmp_path, lines, "RC_2024-05.ndjson")))
        expected = plain.sql("select * exclude (load_id) from post order by post_key").rows()
    quiet(lambda: lab.load(workspace(tmp_path, recoded(day, form), name="other.zip"), file(tmp_path / "other", recoded(lines, form), "RC_2024-05.ndjson")))
    assert lab.sql("select * exclude (load_id) from post order by post_key").rows() == expected and len(expected) == 4


def test_b2_15_bytes_that_are_not_the_encoding_they_claim(lab, tmp_path):
    raw = "\n".join(json.dumps(reddit(i)) for i in (1, 2)).encode("utf-16")
    with pytest.raises(TrustlabError, match="UTF-16"): lab.load(file(tmp_path, raw + b"\x00\xd8\x00", "RC_2024-05.ndjson"))
    assert holds(lab) == NOTHING


def test_b2_16_zeros(lab, tmp_path):
    raw = json.dumps(reddit(2)).encode().replace(b"hello", b"a\0b")
    receipt = quiet(lambda: lab.load(comments(tmp_path, reddit(1), raw, reddit(3, body="a\0b"))))
    assert counts(receipt) == (3, 2, 0, 0, 0, 1) and codes(lab) == {"bad_json": 1} and one(lab, "select raw from reject") == raw
    assert one(lab, "select text from post where post_key = 'reddit:t1_c3'") == "a\0b"
    shown = tl.core.table_html(lab.sql("select text from post order by post_key"))
    assert "\0" not in shown and "a\ufffdb" in shown


def test_b2_17_half_a_character(lab, tmp_path):
    receipt = quiet(lambda: lab.load(comments(tmp_path, reddit(1), reddit(2, body="a\ud83db"), reddit(3, body="😀"), reddit(4, author="\ude00"))))
    assert counts(receipt) == (4, 2, 0, 0, 0, 2) and codes(lab) == {"bad_unicode": 2} and one(lab, "select text from post where post_key = 'reddit:t1_c3'") == "😀"
    receipt = quiet(lambda: lab.load(workspace(tmp_path, [say(1), say(2, 1, "a\ud83db"), say(3, 2)])))
    assert counts(receipt) == (3, 2, 0, 0, 0, 1) and codes(lab) == {"bad_unicode": 3} and sound(lab)


@pytest.mark.parametrize("depth", [900, 100_000])
def test_b2_18_nested_without_end(lab, tmp_path, depth):
    "It breaks nothing: what is nested in a place that nobody reads costs nothing, and records around it are read"
    deep = "[" * depth + "]" * depth
    lines = [json.dumps(reddit(1)), json.dumps(reddit(2))[:-1] + f', "x": {deep}}}', deep, json.dumps(reddit(3))]
    receipt = quiet(lambda: lab.load(comments(tmp_path, *[line.encode() for line in lines])))
    assert receipt.read == 4 and {"reddit:t1_c1", "reddit:t1_c3"} <= kept(lab) and receipt.rejected >= 1 and sound(lab)
    receipt = quiet(lambda: lab.load(workspace(tmp_path, f"[{json.dumps(say(1))}, {json.dumps(say(2, 1))[:-1]}, \"reactions\": {deep}}}, {deep}, {json.dumps(say(3, 2))}]")))
    assert receipt.read == 4 and {"slack:C1:1709535600.000001", "slack:C1:1709535720.000003"} <= kept(lab) and sound(lab)


def test_b2_19_a_record_longer_than_any(lab, tmp_path):
    long = "x" * (17 << 20)
    receipt = quiet(lambda: lab.load(comments(tmp_path, reddit(1), reddit(2, body=long), reddit(3))))
    assert counts(receipt) == (3, 2, 0, 0, 0, 1) and kept(lab) == {"reddit:t1_c1", "reddit:t1_c3"}
    receipt = quiet(lambda: lab.load(workspace(tmp_path, [say(1), say(2, 1, long * 2), say(3, 2)])))
    assert counts(receipt) == (3, 2, 0, 0, 0, 1) and codes(lab) == {"too_long": 2} and one(lab, "select max(octet_length(raw)) from reject") == 65536 and sound(lab)


@pytest.mark.parametrize("digits", [25, 5000])
def test_b2_20_numbers_of_many_digits(lab, tmp_path, digits):
    number = "9" * digits
    line = json.dumps(reddit(2))
    lines = [json.dumps(reddit(1)), line.replace('"c2"', number), line.replace("1714557602", number), json.dumps(reddit(3)), json.dumps(reddit(4))[:-1] + f', "score": {number}}}']
    receipt = quiet(lambda: lab.load(comments(tmp_path, *[s.encode() for s in lines])))
    assert receipt.read == 5 and {"reddit:t1_c1", "reddit:t1_c3", "reddit:t1_c4"} <= kept(lab) and sound(lab)
    assert all(key in {"reddit:t1_c1", "reddit:t1_c3", "reddit:t1_c4", f"reddit:t1_{number}"} for key in kept(lab))
    receipt = quiet(lambda: lab.load(workspace(tmp_path, f"[{json.dumps(say(1))}, {json.dumps(say(2, 1))[:-1]}, \"n\": {number}}}, {json.dumps(say(3, 2))}]")))
    assert counts(receipt) == (3, 3, 0, 0, 0, 0)


def test_b2_21_a_key_that_stands_twice(lab, tmp_path):
    receipt = quiet(lambda: lab.load(comments(tmp_path, reddit(1), json.dumps(reddit(2)).encode()[:-1] + b', "id": "c7"}', reddit(3))))
    assert counts(receipt) == (3, 2, 0, 0, 0, 1) and codes(lab) == {"duplicate_key": 1} and kept(lab) == {"reddit:t1_c1", "reddit:t1_c3"}


def test_b2_22_keys_that_differ_by_capitals(lab, tmp_path):
    loud = {k.upper(): v for k, v in reddit(9, body="wrong").items()}
    assert counts(quiet(lambda: lab.load(comments(tmp_path, loud | reddit(1), reddit(2) | loud)))) == (2, 2, 0, 0, 0, 0)
    assert lab.sql("select post_key, text from post order by all").rows() == [("reddit:t1_c1", "hello"), ("reddit:t1_c2", "hello")]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_b2_23_numbers_that_are_none(lab, tmp_path, number):
    text = (EXPORTS / "table" / "trustpilot.json").read_text()
    assert '"stars": ' in text
    quiet(lambda: lab.load(file(tmp_path, re.sub(r'"stars": \d', f'"stars": {number}', text, count=1), "trustpilot.json")))
    assert one(lab, "select count(*) from post where rating is not null and not isfinite(rating)") == 0 and sound(lab)
    day = json.dumps([say(1), say(2, 1, "counted"), say(3, 2)]).replace('"counted"', f'"counted", "v": {number}')
    assert quiet(lambda: lab.load(workspace(tmp_path, day))).stored == 3


@pytest.mark.parametrize(("content", "names"), [(b"", ["RC_2024-05.ndjson", "x.json", "t.csv"]), (b" \n\t\n", ["RC_2024-05.ndjson", "x.json", "t.csv"]), (b"42", ["RC_2024-05.ndjson", "users.json"]), (b"null", ["outbox.json"]), (b'"x"', ["result.json"])])
def test_b2_24_files_without_records(lab, tmp_path, content, names):
    for name in names:
        with pytest.raises(TrustlabError) as caught: lab.load(file(tmp_path, content, name))
        assert isinstance(caught.value, (InvalidExport, UnknownSource)) and holds(lab) == NOTHING


def test_b2_24_an_empty_export_is_taken_when_asked(lab, tmp_path):
    with pytest.raises(InvalidExport, match="no records in it"): lab.load(file(tmp_path, HEADER + "\n"))
    assert counts(lab.load(tmp_path / "t.csv", allow_empty=True)) == (0, 0, 0, 0, 0, 0)


def test_b2_24_objects_that_follow_each_other(lab, tmp_path):
    text = json.dumps(reddit(1)) + json.dumps(reddit(2)) + "\n" + json.dumps(reddit(3)) + "\n"
    receipt = quiet(lambda: lab.load(file(tmp_path, text, "RC_2024-05.ndjson"), source="reddit"))
    assert counts(receipt) == (2, 1, 0, 0, 0, 1) and codes(lab) == {"bad_json": 1} and kept(lab) == {"reddit:t1_c3"}


WRAPPERS = {"mark": lambda b: b"\xef\xbb\xbf" + b, "semicolon": lambda b: b + b" ;\n", "crlf": lambda b: b.replace(b"\n", b"\r\n"), "one line": lambda b: b.split(b"=", 1)[0] + b"=" + json.dumps(json.loads(b.split(b"=", 1)[1])).encode(),
            "next line": lambda b: b.replace(b"=", b"=\n\n", 1), "utf-16": lambda b: b.decode().encode("utf-16")}


@pytest.mark.parametrize("form", WRAPPERS)
def test_b2_25_scripts_that_wrap_json(lab, tmp_path, form):
    shutil.copytree(EXPORTS / "x_archive", tmp_path / "x")
    with Lab() as plain:
        quiet(lambda: plain.load(tmp_path / "x"))
        expected = plain.sql("select * exclude (load_id) from post order by post_key").rows()
    for path in (tmp_path / "x" / "data").glob("*.js"): path.write_bytes(WRAPPERS[form](path.read_bytes()))
    quiet(lambda: lab.load(tmp_path / "x"))
    assert lab.sql("select * exclude (load_id) from post order by post_key").rows() == expected and len(expected) > 10


def test_b2_25_a_script_is_never_run(lab, tmp_path):
    shutil.copytree(EXPORTS / "x_archive", tmp_path / "x")
    path = tmp_path / "x" / "data" / "tweets.js"
    path.write_text(path.read_text().split("=", 1)[0] + f"= __import__('os').mkdir('{tmp_path}/ran') || [1]")
    try: quiet(lambda: lab.load(tmp_path / "x"))
    except TrustlabError: pass
    assert not (tmp_path / "ran").exists()


def test_b2_26_an_open_quote_in_a_large_file_swallows_nothing(lab, tmp_path):
    rows = [tweet(i, minute=i % 1000) for i in range(1, 20_001)]
    rows[10_000] = rows[10_000].replace("@Acme hello", '"@Acme hello')
    receipt = lab.load(file(tmp_path, table(*rows)))
    assert counts(receipt) == (20_000, 19_999, 0, 0, 0, 1) and lab.sql("select line, code from reject").rows() == [(10_002, "bad_quotes")] and one(lab, "select max(length(text)) from post") < 100


def test_b2_27_a_line_with_many_columns_is_one_reject(lab, tmp_path):
    assert counts(lab.load(file(tmp_path, table(tweet(1), tweet(2) + ",a,b,c,d", tweet(3), "7,2024-01-01", tweet(4))))) == (5, 3, 0, 0, 0, 2)
    assert lab.sql("select line, code from reject order by line").rows() == [(3, "wrong_number_of_columns"), (5, "wrong_number_of_columns")] and kept(lab) == {"twcs:1", "twcs:3", "twcs:4"}


@pytest.mark.parametrize("header", [HEADER.replace(",", ";"), HEADER.replace("text", "words"), HEADER + ",text", HEADER.upper()])
def test_b2_28_another_header(lab, tmp_path, header):
    with pytest.raises((InvalidExport, UnknownSource)) as caught: lab.load(file(tmp_path, PLAIN.replace(HEADER, header)), source="twcs")
    assert holds(lab) == NOTHING and len(str(caught.value)) > 40


@pytest.mark.parametrize("mix", [lambda t: t.replace("\n", "\r\n", 1), lambda t: t.replace("\n2,", "\r\n2,"), lambda t: t.rstrip("\n") + "\r\n"])
def test_b2_29_lines_that_end_in_several_ways(lab, tmp_path, mix):
    receipt = lab.load(file(tmp_path, mix(PLAIN)))
    assert receipt.read == receipt.stored + receipt.rejected and receipt.stored >= 2 and {"twcs:3"} <= kept(lab) and one(lab, "select text from post where post_key = 'twcs:3'") == '@Acme two\nlines, and "quotes"'


def test_b2_29_a_return_alone_between_lines_costs_those_two(lab, tmp_path):
    path = file(tmp_path, PLAIN.replace("\n2,", "\r2,"))
    assert counts(lab.load(path)) == (2, 1, 0, 0, 0, 1) and kept(lab) == {"twcs:3"} and one(lab, "select raw from reject").rstrip(b"\n") == b"\n".join(path.read_bytes().split(b"\n")[1:2])


def test_b2_30_a_field_of_five_megabytes(lab, tmp_path):
    assert counts(lab.load(file(tmp_path, table(tweet(1, text="x" * (5 << 20)), tweet(2))))) == (2, 2, 0, 0, 0, 0) and one(lab, "select max(length(text)) from post") == 5 << 20


def test_b2_30_a_field_of_twenty_megabytes_costs_its_record(lab, tmp_path):
    assert counts(lab.load(file(tmp_path, table(tweet(3), tweet(4, text="y" * (20 << 20)), tweet(5))))) == (3, 2, 0, 0, 0, 1) and codes(lab) == {"too_long": 1} and kept(lab) == {"twcs:3", "twcs:5"}


SOURCES = sorted((ROOT / "trustlab").rglob("*.py"))


def test_b2_31_nothing_is_guessed_by_the_engine():
    readers = 0
    for path in SOURCES:
        for call in re.findall(r"(?<!pl\.)\bread_(?:csv|json|ndjson)\w*\((?:[^()]|\([^()]*\))*\)", path.read_text()):
            readers += 1
            assert "auto_detect=false" in call or "AS_TEXT" in call, f"{path.name}: {call[:80]}"
            assert "ignore_errors" not in call and "null_padding" not in call
    assert readers >= 3
    from trustlab.intake import AS_TEXT
    assert "auto_detect=false" in AS_TEXT and "max_line_size" in AS_TEXT


# ---- B3: meaning

def test_b3_33_of_two_versions_the_one_edited_last_stays(lab, tmp_path):
    mapping = by_mapping(tmp_path, "csv", 'created_at = "at"\nedited_at = "edited"')
    path = file(tmp_path, "id,at,by,text,edited\n1,2024-01-01T10:00:00Z,a,newest,2024-03-01T10:00:00Z\n1,2024-01-01T10:00:00Z,a,older,2024-02-01T10:00:00Z\n1,2024-01-01T10:00:00Z,a,never edited,\n2,2024-01-01T10:00:00Z,a,first,\n2,2024-01-01T10:00:00Z,a,last,\n")
    receipt = quiet(lambda: lab.load(path, mapping=mapping))
    assert counts(receipt) == (5, 2, 0, 0, 3, 0) and lab.sql("select text from post order by post_key")["text"].to_list() == ["newest", "last"] and sound(lab)


def test_b3_34_a_parent_that_is_not_there(lab, tmp_path):
    lab.load(file(tmp_path, table(tweet(1), tweet(2, "Acme", 5, "@101 hi", "", 1), tweet(3, "102", 6, "@Acme so?", "", 999))), brand="Acme")
    assert one(lab, "select reply_to_key from post where post_key = 'twcs:3'") == "twcs:999" and one(lab, "select conversation_key from post where post_key = 'twcs:3'") == "twcs:999"
    assert lab.check().filter(pl.col("what") == "replies whose parent is absent")["n"].to_list() == [1] and sound(lab)


def test_b3_35_answers_to_oneself_and_circles(lab, tmp_path):
    path = file(tmp_path, table(tweet(1), tweet(2, minute=2, text="@Acme and", parent=1), tweet(12, "105", 3, "me", "", 12), tweet(13, "106", 4, "@Acme a", "", 14), tweet(14, "107", 5, "@Acme b", "", 13), tweet(20, "Acme", 6, "news"), tweet(21, "Acme", 7, "more news", "", 20)))
    lab.load(path, brand="Acme")
    assert lab.check().filter(pl.col("what") == "replies in a cycle")["n"].to_list() == [3]
    assert one(lab, "select count(*) from inbound where eligible and post_key in ('twcs:12', 'twcs:13', 'twcs:14')") == 0 and one(lab, "select count(*) from answer") == 0
    first, second = (file(tmp_path, table(tweet(a, str(a), 1, "@Acme", "", b)), f"{a}.csv") for a, b in ((31, 32), (32, 31)))
    began = time.monotonic()
    lab.load(first), lab.load(second)
    assert time.monotonic() - began < 30 and sound(lab)


def test_b3_36_times_that_cannot_be(lab, tmp_path):
    bad = ["Thu Jan 01 00:00:00 +0000 1970", "Wed Dec 31 23:59:59 +0000 1969", "Fri Jan 01 00:00:00 +0000 2999", "Sat Jan 01 00:00:00 +0000 0000", "1704103200000", "0", "-1"]
    rows = [row for i, t in enumerate(bad) for row in (f"{100 + i},101,True,{t},x,,", tweet(200 + i))]
    receipt = lab.load(file(tmp_path, table(*rows)))
    assert counts(receipt) == (14, 7, 0, 0, 0, 7) and set(codes(lab)) == {"bad_time", "timestamp_out_of_range"} and kept(lab) == {f"twcs:{200 + i}" for i in range(7)}
    receipt = quiet(lambda: lab.load(workspace(tmp_path, [say(1) | {"ts": t} for t in ("0.000000", "1709535600000.000000", "99999999999.000000", "-1.000000")] + [say(2)])))
    assert counts(receipt) == (5, 1, 0, 0, 0, 4)


def test_b3_36_the_unit_of_an_epoch_is_the_files_not_the_rows(lab, tmp_path):
    "A mapping says seconds; thousandths are then out of range, and never read as another unit by the way they look"
    rows = "id,at,by,text\n1,1704103200,a,x\n2,1704103200000,a,x\n3,1704103201,a,x\n"
    for name, form, good in (("s", "epoch", {"s:1", "s:3"}), ("ms", "epoch_ms", {"ms:2"})):
        receipt = quiet(lambda: lab.load(file(tmp_path, rows, f"{name}.csv"), mapping=by_mapping(tmp_path, "csv", f'created_at = {{column = "at", form = "{form}"}}', name=name)))
        assert receipt.read == 3 and receipt.rejected == 3 - len(good) and {k for k in kept(lab) if k.startswith(name + ":")} == good


def test_b3_37_an_offset_counts(lab, tmp_path):
    rows = "id,at,by,text\n1,2018-10-31T22:10:00+02:00,a,x\n2,2018-10-31T20:10:00Z,a,x\n3,2018-10-31 20:10:00,a,x\n4,31/12/17,a,x\n"
    receipt = quiet(lambda: lab.load(file(tmp_path, rows), mapping=by_mapping(tmp_path, "csv", 'created_at = "at"')))
    assert counts(receipt) == (4, 3, 0, 0, 0, 1) and set(lab.sql("select created_at from post")["created_at"]) == {datetime(2018, 10, 31, 20, 10)}


def test_b3_37_a_day_that_could_be_a_month_is_not_guessed(lab, tmp_path):
    chat = "[{0}/{1}/24, 10:0{2}:00] Ann: hello {2}\n"
    path = file(tmp_path, "".join(chat.format(1, i, i) for i in range(1, 6)), "WhatsApp Chat with Ann.txt")
    with pytest.raises(InvalidExport, match="day first or month first"): lab.load(path)
    assert holds(lab) == NOTHING


def test_b3_38_hours_that_the_clock_skipped_or_showed_twice(lab, tmp_path):
    rows = "id,at,by,text\n1,2024-03-31 02:30,a,skipped\n2,2024-10-27 02:30,a,twice\n3,2024-06-01 12:00,a,plain\n"
    mapping = by_mapping(tmp_path, "csv", 'created_at = {column = "at", form = "%Y-%m-%d %H:%M", zone = "Europe/Amsterdam"}')
    receipt, said = notices(lambda: lab.load(file(tmp_path, rows), mapping=mapping))
    assert counts(receipt) == (3, 3, 0, 0, 0, 0)
    assert lab.sql("select created_at from post order by post_key")["created_at"].to_list() == [datetime(2024, 3, 31, 1, 30), datetime(2024, 10, 27, 1, 30), datetime(2024, 6, 1, 10)]
    assert any(re.search("1 times lie in an hour that the clock of Europe/Amsterdam skipped, 1 in one that it showed twice", s) for s in said), said


def test_b3_38_the_hours_of_a_phone(lab, tmp_path):
    chat = "".join(f"[{day}, {hour}:30:00] Ann: hello {day}\n" for day, hour in (("31/03/2024", "02"), ("27/10/2024", "02"), ("27/10/2024", "03"), ("28/10/2024", "02")))
    receipt, said = notices(lambda: lab.load(file(tmp_path, chat, "WhatsApp Chat with Ann.txt"), options={"zone": "Europe/Amsterdam"}))
    assert receipt.stored == 4 and any("1 times lie in an hour that the clock of Europe/Amsterdam skipped, 1 in one that it showed twice" in s for s in said)
    assert "1 in one that it showed twice" in one(lab, "select notes from load")


@pytest.mark.parametrize("id_", ["9007199254740993.0", "9.007199254740993e15", "1.2e+18"])
def test_b3_39_ids_that_went_through_a_floating_number(lab, tmp_path, id_):
    rows = "\n".join(json.dumps({"id": i, "at": "2024-01-01T10:00:00Z", "by": "a", "text": "x"}) for i in (9007199254740993, 18446744073709551616, 10**24))
    rows += "\n" + f'{{"id": {id_}, "at": "2024-01-01T10:00:00Z", "by": "a", "text": "x"}}\n'
    receipt = quiet(lambda: lab.load(file(tmp_path, rows, "t.ndjson"), mapping=by_mapping(tmp_path, "ndjson", 'created_at = "at"')))
    assert counts(receipt) == (4, 3, 0, 0, 0, 1) and codes(lab) == {"id_not_exact": 1} and kept(lab) == {"m:9007199254740993", "m:18446744073709551616", f"m:{10**24}"}


@pytest.mark.parametrize("id_", ["0x1F", "1_000", "1e5", "+5", "1,000", "٣"])
def test_b3_39_ids_in_forms_that_only_look_like_numbers(lab, tmp_path, id_):
    assert counts(lab.load(file(tmp_path, table(tweet(1), tweet(f'"{id_}"'), tweet(3))))) == (3, 2, 0, 0, 0, 1) and kept(lab) == {"twcs:1", "twcs:3"}


def test_b3_40_a_column_of_several_types(lab, tmp_path):
    odd = [say(1, 0, 1), say(2, 1, "two"), say(3, 2, {"a": 1}), say(4, 3, None), say(5, 4, ["x"]), say(6, 5, True)]
    assert counts(quiet(lambda: lab.load(workspace(tmp_path, odd)))) == (6, 6, 0, 0, 0, 0)
    assert one(lab, "select text from post where post_key like '%000002'") == "two" and one(lab, "select typeof(text) from post limit 1") == "VARCHAR" and one(lab, "select count(*) from post where text like '\"%'") == 0


def test_b3_41_a_key_that_is_missing_in_some_and_in_all(lab, tmp_path):
    lacks = {k: v for k, v in reddit(2).items() if k != "created_utc"}
    assert counts(quiet(lambda: lab.load(comments(tmp_path, reddit(1), lacks, reddit(3))))) == (3, 2, 0, 0, 0, 1) and codes(lab) == {"missing_created_utc": 1}
    with Lab() as other:
        with pytest.raises(TrustlabError) as caught: other.load(comments(tmp_path, lacks, lacks | {"id": "c9"}, name="RC_2024-06.ndjson"), source="reddit")
        assert re.search("format may have changed|created_utc|no reader", str(caught.value)) and holds(other) == NOTHING


def test_b3_41_renamed_links_do_not_make_roots_in_silence(lab, tmp_path):
    "A key that names the parent was renamed in every record: refused, or told"
    path = file(tmp_path, PLAIN.replace("in_response_to_tweet_id", "reply_to"))
    with pytest.raises(TrustlabError) as caught: lab.load(path, source="twcs")
    assert "in_response_to_tweet_id" in str(caught.value) and holds(lab) == NOTHING


def test_b3_41_unknown_keys_are_listed_once(lab, tmp_path):
    rows = "\n".join(json.dumps({"id": str(i), "at": "2024-01-01T10:00:00Z", "by": "a", "text": "x", "mood": "secret words", "colour": i}) for i in range(50)) + "\n"
    receipt, said = notices(lambda: lab.load(file(tmp_path, rows, "t.ndjson"), mapping=by_mapping(tmp_path, "ndjson", 'created_at = "at"')))
    assert receipt.stored == 50 and len([s for s in said if "mood" in s]) == 1 and any("colour" in s and "mood" in s for s in said) and "secret words" not in str(said)


def test_b3_44_a_bad_record_never_borrows_from_the_one_before(lab, tmp_path):
    bad = [{"ts": "soon"}, {"ts": None}, {"ts": 5}, {"ts": "1709535600"}]
    days = [[say(1, 1, "before"), say(2, 2, "bad") | b, say(3, 3, "after")] for b in bad[:3]]
    receipt = quiet(lambda: lab.load(workspace(tmp_path, *days)))
    assert receipt.rejected == 3 and one(lab, "select count(*) from post where text = 'bad'") == 0 and set(lab.sql("select created_at from post")["created_at"]) == {datetime(2024, 3, 4, 7, 1, 0, 1), datetime(2024, 3, 4, 7, 3, 0, 3)}


# ---- B4: the store

def test_b4_45_killed_again_and_again_in_one_store(tmp_path):
    "Three loads into one store, each killed at another moment and run again: what is there is always the sum of whole loads"
    paths = [file(tmp_path, table(*[tweet(1000 * f + i, str(100 + i % 40), i % 1000, f"@Acme {i}") for i in range(600)]), f"{f}.csv") for f in range(1, 4)]
    store, whole = tmp_path / "s.duckdb", 0
    for i, path in enumerate(paths):
        process = child("lab = Lab(sys.argv[1]); print('open', flush=True); lab.load(sys.argv[2]); lab.close()", store, path)
        process.stdout.readline()
        time.sleep((0.02, 0.15, 0.3)[i])
        process.kill()
        process.communicate()
        with Lab(store) as lab:
            assert one(lab, "select count(*) from post") in (whole, whole + 600) and one(lab, "select count(*) from post") == 600 * one(lab, "select count(*) from load") and sound(lab)
            lab.load(path)
            whole += 600
    with Lab(store) as lab, Lab() as clean:
        for path in paths: clean.load(path)
        query = "select * exclude (load_id) from post order by post_key"
        assert lab.sql(query).rows() == clean.sql(query).rows()


FULL = """
import sys, warnings; warnings.simplefilter("ignore")
from trustlab.store import Lab
from trustlab.core import StoreDamaged, TrustlabError
import trustlab.load, trustlab.sources
small, big, store = sys.argv[1:]
with Lab(store, memory_limit="256MiB") as lab: lab.load(small)
try:
    with Lab(store, memory_limit="256MiB") as lab: lab.load(big)
    print("loaded")
except StoreDamaged as error: print("StoreDamaged", error)
with Lab(store, memory_limit="256MiB") as lab: print(lab.sql("select count(*) as n from post")["n"][0], lab.sql("select count(*) as n from load")["n"][0])
"""


def test_b4_46_a_full_disk(tmp_path):
    "A disk of a few megabytes: the load is refused as a whole, what was there stays, and the store opens again"
    small = file(tmp_path, table(*[tweet(i) for i in range(1, 11)]), "small.csv")
    draw = random.Random(3)
    big = file(tmp_path, table(*[tweet(i, str(100 + i), i % 1000, "@Acme " + "".join(draw.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=400))) for i in range(100, 40_100)]), "big.csv")
    disk = tmp_path / "disk"
    disk.mkdir()
    inside = f'mount -t tmpfs -o size=14m tmpfs "{disk}" && exec "{sys.executable}" -c "$0" "$@"'
    command = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "sh", "-c", inside, FULL, small, big, disk / "s.duckdb"]
    if not shutil.which("unshare") or subprocess.run([*command[: command.index("sh")], "sh", "-c", f'mount -t tmpfs -o size=1m tmpfs "{disk}"'], capture_output=True).returncode: pytest.skip("a small disk cannot be mounted here")
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=ROOT)
    first, *rest = done.stdout.splitlines() or [""]
    assert first.startswith("StoreDamaged") and re.search("memory or disk ran out|disk", first) and rest == ["10 1"], done.stdout + done.stderr[-2000:]


def test_b4_48_more_input_than_memory(tmp_path):
    "TRUSTLAB_BIG=2048 makes it two gigabytes; bench/scale.py measures the same on files of that size"
    size = int(os.environ.get("TRUSTLAB_BIG", 48))
    path, line = tmp_path / "RC_2024-05.ndjson", json.dumps(reddit(0, body="x" * 700))
    with path.open("w") as out:
        for i in range(size * 1024): out.write(line.replace('"c0"', f'"c{i}"') + "\n")
    code = "import resource\nbase = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nwith Lab(sys.argv[1], memory_limit='100MiB') as lab: n = lab.load(sys.argv[2]).stored\nprint(n, base // 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    out, err = child(code, tmp_path / "s.duckdb", path).communicate(timeout=1200)
    n, base, peak = map(int, out.split() or [0, 0, 0])
    assert n == size * 1024 and peak < base + 100 + 150, (n, base, peak, err[-500:])


def test_b4_50_one_process_two_ways_to_open(tmp_path):
    with Lab(tmp_path / "s.duckdb"):
        with pytest.raises(StoreLocked): Lab(tmp_path / "s.duckdb", read_only=True, wait=0)
    Lab(tmp_path / "s.duckdb", read_only=True).close()


@pytest.mark.parametrize("text", ["IO Error: Trying to read a database file with version number 69, but we can only read versions between 64 and 68.\nThe database file was created with a newer version", "Serialization Error: can only read versions between 64 and 68, version number 99"])
def test_b4_52_a_file_of_another_engine(text):
    error = translated(duckdb.IOException(text), "s.duckdb")
    assert isinstance(error, StoreVersion) and duckdb.__version__ in str(error) and "s.duckdb" in str(error)


# ---- B5: SQL and how far it reaches

RUNS_SQL = ("execute", "sql", "executemany", "stage", "count")
ESCAPES = {"quoted", "literal"}
NUMBERS = {"len", "int", "float", "min", "max", "sum", "round", "count"}
PUTS_TOGETHER = {"join", "format", "replace", "strip", "lower", "items", "keys", "values", "split", "dedent", "sorted", "list", "tuple", "dict", "fromkeys", "enumerate", "zip", "set", "reversed", "str", "chr"}
ALLOWED = {
    "SQL that a reader, a measure or the user gives is run here": {"intake.count", "intake.stage", "intake.posts", "intake.clock", "intake.reject_rows", "store.sql", "store.count", "counts.units", "mappings.works", "discourse.stage_pages", "facebook.acts_apart", "facebook.noted",
        "x_api.tell", "x_archive.introduce", "zendesk.cut", "zendesk.roles", "privacy.drop_idle", "privacy.erase_staged", "privacy.open_accounts", "delimited.attempt"},
    "names of staged columns, which readers choose and no file": {"load.drop_duplicates", "load.whole_links", "load.text_links", "load.insert_accounts", "load.insert_posts", "load.finish", "load.climb", "load.with_rows", "intake.remade", "privacy.erase_posts", "privacy.mask"},
    "exposures and outcomes out of the fixed lists, and numbers of doses": {"cohort.people"},
    "names of columns out of the fixed list of groups": {"counts.groups_of", "care.shares", "advocacy.advocates"},
    "one of two constants": {"counts.portions", "acknowledgement.service", "counts.several", "platform_rates.sessions", "waiting.worklist", "advocacy.acts_made", "journeys.moments", "journeys.put_away", "ties.network", "load.unstage", "whatsapp.stage", "twcs.stage_pointers"}, "the memory limit that the caller chose, and a setting out of two": {"load.setting"},
    "one of two phrases of `asked`, which bind the kinds": {"acts.acts", "acts.outside", "temporal_loops.listed", "ties.sides"},
    "phrases made of a checked mapping, whose texts are quoted as literals": {"table.blank", "table.check_keys", "table.flatten", "table.flatten_csv", "table.repeated", "table.stage_table", "table.take_json", "table.take_parquet", "table.tell", "table.beside"},
    "a path or name with its quotes doubled, where the statement takes no bound value": {"privacy.rewrite", "privacy.unname", "acts.from_acts", "report.snapshot"}, "hex digits of a key": {"privacy.keyed"}, "as many placeholders as there are words, which are bound": {"asking.on_topic"},
}


def own(scope):
    "The nodes of a function that do not belong to another function inside of it"
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, ast.FunctionDef): yield from own(node)


def arguments(scope): return {a.arg for a in [*scope.args.args, *scope.args.kwonlyargs, scope.args.vararg, scope.args.kwarg] if a} if isinstance(scope, (ast.FunctionDef, ast.Lambda)) else set()


def values_of(scope, name):
    "The expressions that a name in a function is given"
    found = []
    def take(target, value):
        if isinstance(target, ast.Name) and target.id == name: found.append(value)
        elif isinstance(target, ast.Starred): take(target.value, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            same = isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts)
            for i, part in enumerate(target.elts): take(part, value.elts[i] if same else value)
    for n in own(scope):
        if isinstance(n, ast.Assign):
            for target in n.targets: take(target, n.value)
        elif isinstance(n, (ast.AugAssign, ast.NamedExpr)) or isinstance(n, ast.AnnAssign) and n.value: take(n.target, n.value)
        elif isinstance(n, (ast.For, ast.comprehension)): take(n.target, n.iter)
        elif isinstance(n, ast.withitem) and n.optional_vars: take(n.optional_vars, n.context_expr)
    return found


def fixed(e, scopes, phrases, known=frozenset()):
    "Whether an expression can hold nothing but the program's own text, escaped names and numbers"
    def again(x): return fixed(x, scopes, phrases, known)
    if isinstance(e, (ast.Constant, ast.Compare)): return True
    if isinstance(e, ast.Attribute): return e.attr.isupper()
    if isinstance(e, ast.Name):
        if e.id.isupper() or e.id in known: return True
        for i, scope in enumerate(scopes):
            if e.id in arguments(scope): return False
            if given := values_of(scope, e.id): return all(fixed(g, scopes[i:], phrases, known | {e.id}) for g in given)
        return False
    if isinstance(e, ast.JoinedStr): return all(again(v.value) for v in e.values if isinstance(v, ast.FormattedValue))
    if isinstance(e, (ast.Tuple, ast.List, ast.Set)): return all(map(again, e.elts))
    if isinstance(e, ast.Dict): return all(again(x) for x in [*e.keys, *e.values] if x)
    if isinstance(e, (ast.Starred, ast.Subscript)): return again(e.value)
    if isinstance(e, ast.IfExp): return again(e.body) and again(e.orelse)
    if isinstance(e, ast.BoolOp): return all(map(again, e.values))
    if isinstance(e, ast.BinOp): return again(e.left) and again(e.right)
    if isinstance(e, ast.UnaryOp): return again(e.operand)
    if isinstance(e, (ast.GeneratorExp, ast.ListComp, ast.SetComp)): return again(e.elt)
    if isinstance(e, ast.DictComp): return again(e.key) and again(e.value)
    if not isinstance(e, ast.Call): return False
    name, method = (e.func.attr, True) if isinstance(e.func, ast.Attribute) else (getattr(e.func, "id", ""), False)
    parts = [*e.args, *(k.value for k in e.keywords)]
    if name in ESCAPES or name in NUMBERS: return True
    if name in PUTS_TOGETHER: return all(map(again, parts)) and (not method or again(e.func.value))
    return name in phrases and (not method or isinstance(e.func.value, ast.Name) and e.func.value.id in ("schema", "signals", "delimited")) and all(map(again, parts))


def phrases_of(trees):
    "The functions whose result is fixed when their arguments are: SQL phrases"
    found, before = set(), None
    defined = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    while found != before:
        before = set(found)
        for node in defined:
            bare = ast.FunctionDef(node.name, ast.arguments([], [], None, [], [], None, []), node.body, [], None)
            results = [n.value for n in own(node) if isinstance(n, ast.Return) and n.value is not None]
            if results and all(fixed(r, [bare], found, frozenset(arguments(node))) for r in results): found.add(node.name)
    return found


def pasted(trees):
    "Each statement that is run, and those into which something other than fixed text is pasted, as module.function: what"
    phrases, looked, found = phrases_of(trees.values()), 0, {}
    for module, tree in trees.items():
        above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for call in [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and runs_sql(n)]:
            query, scopes, node = call.args[n_th(call)], [], call
            while node in above:
                node = above[node]
                if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.Module)): scopes.append(node)
            looked += 1
            if fixed(query, scopes, phrases): continue
            inside = next((s.name for s in scopes if isinstance(s, ast.FunctionDef)), "")
            for part in [v.value for j in ast.walk(query) if isinstance(j, ast.JoinedStr) for v in j.values if isinstance(v, ast.FormattedValue)] or [query]:
                if not fixed(part, scopes, phrases): found.setdefault(f"{module}.{inside}", set()).add(ast.unparse(part)[:90])
    return looked, found


def n_th(call): return 1 if call.func.attr == "stage" else 0
def runs_sql(call): return call.func.attr in RUNS_SQL and len(call.args) > n_th(call) and (call.func.attr != "count" or isinstance(call.func.value, ast.Name) and call.func.value.id in ("self", "intake", "lab"))


def test_b5_54_no_value_is_pasted_into_sql():
    looked, found = pasted({path.stem: ast.parse(path.read_text()) for path in SOURCES})
    allowed = set().union(*ALLOWED.values())
    assert looked > 300
    assert {place: what for place, what in found.items() if place not in allowed} == {}, "bind these as values, or escape them with `quoted` or `literal`"
    assert allowed - set(found) == set(), "no longer needed"


@pytest.mark.parametrize("line", ["con.execute(f'select {name}')", "con.sql('select ' + name)", "con.execute('select {}'.format(name))", "con.execute('select %s' % name)", "where = f'x = {name}'\n    con.sql(f'select 1 where {where}')",
                                  "for n in con.names(): con.execute(f'drop table {n}')", "intake.count(f'select {name!r}')", "intake.stage('x', f'select {stream.read()}')", "con.execute(name)", "q = 'select 1'; q += name\n    con.execute(q)"])
def test_b5_54_the_look_at_sql_sees_what_is_pasted(line):
    assert pasted({"m": ast.parse(f"def f(con, name, lab, intake, stream):\n    {line}\n")})[1]
    assert not pasted({"m": ast.parse("A = 'x'\ndef f(con, name):\n    w = f'{A} > 1'\n    con.execute(f'select {quoted(name)} from t where {w}', [name])\n")})[1]


@pytest.mark.parametrize("name", ['post"; drop table post; --', "a b", "", "x'y", "$x", "a;b", "a\0b"])
def test_b5_55_names_are_of_a_fixed_list(lab, name):
    with pytest.raises(InvalidParameter): quoted(name)
    for call in (lambda: tl.acknowledgement(lab, by=name or "nothing at all"), lambda: lab.pinned(name).__enter__(), lambda: lab.load(__file__, source=name or "none"), lambda: lab.load(__file__, options={name: "x"}, source="twcs")):
        with pytest.raises(TrustlabError): call()
    assert one(lab, "select count(*) from post") == 0


@pytest.mark.parametrize("name", ["a'; drop table post; --.csv", "x.csv?y=1.csv", "{a,b}.csv", "**.csv", "%s $x ?.csv", "[!a].csv"])
def test_b5_56_a_path_is_no_sql_and_no_pattern(lab, tmp_path, name):
    file(tmp_path, table(tweet(99)), "other.csv"), file(tmp_path, table(tweet(98)), "a.csv")
    assert lab.load(file(tmp_path, PLAIN, name)).read == 3 and kept(lab) == {"twcs:1", "twcs:2", "twcs:3"}
    lines = comments(tmp_path, reddit(1), name=name.replace(".csv", ".ndjson"))
    comments(tmp_path, reddit(2), name="other.ndjson")
    quiet(lambda: lab.load(lines, source="reddit"))
    assert "reddit:t1_c2" not in kept(lab) and one(lab, "select count(*) from post") == 4


PROBES = ["select * from read_text('{f}/secret.txt')", "select * from read_blob('{f}/secret.txt')", "select * from read_csv('{f}/secret.txt')", "select * from read_json('{f}/secret.txt')", "select * from read_ndjson_objects('{f}/secret.txt')",
          "select * from read_parquet('{f}/x.parquet')", "select * from '{f}/secret.txt'", "select * from glob('/etc/*')", "select * from sniff_csv('{f}/secret.txt')", "copy (select 1) to '{f}/out.csv'", "copy meta to '{f}/out.parquet' (format parquet)",
          "copy meta from '{f}/secret.txt'", "attach '{f}/new.duckdb' as other", "attach '{f}/stranger.duckdb' as other (read_only)", "export database '{f}/out'", "import database '{f}/out'", "install httpfs", "install 'https://example.org/x.duckdb_extension'", "load httpfs",
          "load '{f}/x.duckdb_extension'", "create secret s (type s3, key_id 'x', secret 'y')", "set enable_external_access = true", "set lock_configuration = false", "reset lock_configuration", "set allowed_directories = ['{f}']", "set allowed_paths = ['{f}/secret.txt']",
          "set temp_directory = '{f}'", "set memory_limit = '1GB'", "set autoinstall_known_extensions = true", "set profiling_output = '{f}/profile.json'", "set log_query_path = '{f}/log.txt'", "set extension_directory = '{f}'", "set home_directory = '{f}'", "set secret_directory = '{f}'",
          "pragma enable_profiling = 'json'; pragma profile_output = '{f}/p.json'", "insert into meta values ('a', 'b')", "create or replace table post as select 1"]


def test_b5_57_thirty_ways_out_of_a_store_that_is_read(tmp_path):
    box = tmp_path / "box"
    box.mkdir()
    (box / "secret.txt").write_text("secret\n")
    pl.DataFrame({"x": [1]}).write_parquet(box / "x.parquet")
    with duckdb.connect(str(box / "stranger.duckdb")) as con: con.execute("create table t as select 1 as x")
    Lab(box / "s.duckdb").close()
    before, passed = {p: p.read_bytes() for p in box.iterdir()}, []
    with Lab(box / "s.duckdb", read_only=True) as lab:
        for probe in PROBES:
            for run in (lab.sql, lab.con.execute):
                try: run(probe.format(f=box))
                except (TrustlabError, duckdb.Error): continue
                passed.append(probe)
        assert one(lab, "select count(*) from post") == 0
    assert len(PROBES) >= 30 and passed == [] and {p: p.read_bytes() for p in box.iterdir()} == before


def test_b5_58_no_directory_is_allowed_and_no_link_leads_out(tmp_path):
    (tmp_path / "in").mkdir(), (tmp_path / "secret.txt").write_text("secret")
    Lab(tmp_path / "in" / "s.duckdb").close()
    (tmp_path / "in" / "link.txt").symlink_to(tmp_path / "secret.txt")
    with Lab(tmp_path / "in" / "s.duckdb", read_only=True) as lab:
        assert lab.sql("select current_setting('allowed_directories') as d")["d"][0].to_list() == [lab.spill + "/"] and lab.sql("select current_setting('enable_external_access') as e")["e"][0] in (False, "false")
        for path in ("in/link.txt", "in/../secret.txt"):
            with pytest.raises(InvalidParameter): lab.sql("select * from read_text($p)", p=str(tmp_path / path))


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("query", ["select * from 'https://example.org/x.csv'", "select * from read_csv('http://127.0.0.1:1/x.csv')", "select * from read_xlsx('x.xlsx')", "pragma create_fts_index('post', 'post_key', 'text')", "attach 'sqlite:x.db'", "select '127.0.0.1'::inet", "attach 'https://example.org/x.duckdb'"])
def test_b5_59_nothing_is_asked_of_the_network(tmp_path, query, read_only):
    Lab(tmp_path / "s.duckdb").close()
    with Lab(tmp_path / "s.duckdb", read_only=read_only) as lab:
        began = time.monotonic()
        with pytest.raises(InvalidParameter) as caught: lab.sql(query)
        assert time.monotonic() - began < 2 and not re.search("Failed to download|extensions.duckdb.org/", str(caught.value).split("To install")[0])


def test_b5_59_a_load_opens_no_connection(tmp_path, monkeypatch):
    def none(*_, **__): raise AssertionError("a connection was opened")
    monkeypatch.setattr(socket.socket, "connect", none)
    monkeypatch.setattr(socket, "getaddrinfo", none)
    with Lab() as lab:
        assert quiet(lambda: lab.load(EXPORTS / "mastodon")).stored == 3
        lab.check()


def test_b5_60_a_query_without_end_can_be_stopped(lab):
    timer = threading.Timer(0.5, lambda: lab.con.interrupt())
    timer.start()
    began = time.monotonic()
    with pytest.raises((TrustlabError, duckdb.InterruptException)): lab.sql("select count(*) from range(1000000) a, range(1000000) b where a.range * b.range % 7 = 3")
    timer.join()
    assert time.monotonic() - began < 20 and one(lab, "select 1") == 1


def test_b5_61_nothing_is_ever_unpickled(lab, tmp_path):
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        modules = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names} | {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not modules & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, path
        of_lists = lambda n: isinstance(n.func.value, ast.Attribute) and n.func.value.attr == "list"  # polars' list.eval, of an expression
        called = {n.func.attr if isinstance(n.func, ast.Attribute) else getattr(n.func, "id", "") for n in ast.walk(tree) if isinstance(n, ast.Call) and not (isinstance(n.func, ast.Attribute) and of_lists(n))}
        assert not called & {"eval", "exec", "deserialize", "loads_pickle", "read_pickle"} and "allow_pickle" not in path.read_text(), path
    class Bad:
        def __reduce__(self): return os.mkdir, (str(tmp_path / "ran"),)
    for name in ("x.pkl", "t.csv", "outbox.json", "x.parquet"):
        with pytest.raises(TrustlabError): lab.load(file(tmp_path, pickle.dumps(Bad()), name))
    assert not (tmp_path / "ran").exists()
