"""Zendesk, Intercom and GitHub: real fixtures counted a second time in plain Python, small shapes with every trap of the formats, and broken files."""
import csv
import gzip
import json
import shutil
import tarfile
import warnings
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

import trustlab as tl
import trustlab.sources  # noqa: F401
from trustlab.bundles import bundles
from trustlab.core import PartialExport, TrustlabError, UnknownSource
from trustlab.load import COUNTS, READERS
from trustlab.store import Lab

EXPORTS = Path(__file__).parent / "exports"
MINE = ("zendesk", "intercom", "github")
SHAPES = [("zendesk", "zendesk/api"), ("zendesk", "zendesk/export.jsonl"), ("zendesk", "zendesk/tables"), ("intercom", "intercom/api"), ("intercom", "intercom/tables"), ("github", "github/rest"), ("github", "github/2024-05-01-8.json")]

pytestmark = [pytest.mark.filterwarnings("ignore::trustlab.core.PartialExport"), pytest.mark.filterwarnings("ignore::trustlab.core.SmallSample"), pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture
def lab():
    with Lab() as store: yield store


def counts(receipt): return tuple(getattr(receipt, c) for c in COUNTS)
def one(lab, query, **params): return lab.sql(query, **params).row(0)[0]
def sound(lab): return lab.check().filter((pl.col("part") == "sound") & (pl.col("n") > 0)).is_empty()
def rows(lab, query, **params): return lab.sql(query, **params).rows()
def table(path):
    with path.open(newline="") as file: return list(csv.DictReader(file))


def load(lab, path, reader):
    "Loads as `reader` and gives the receipt with the notes that were warned of"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        receipt = lab.load(path, source=reader)
    assert receipt.read == receipt.stored + receipt.changed + receipt.same + receipt.duplicate + receipt.rejected
    return receipt, [str(w.message) for w in said if w.category is PartialExport]


def calls(lab):
    "Each call: its key, why it does not count, its answer and the seconds until then; posts of the brand's own side left out"
    return rows(lab, """select replace(replace(i.post_key, 'zendesk:', ''), 'intercom:', ''), i.why_not, split_part(a.reply_key, ':', 2), a.seconds from inbound i left join answer a using (post_key, brand)
        where i.why_not is distinct from 'by_staff' and i.why_not is distinct from 'by_brand' order by i.arrived_at, i.post_key""")


def content(lab):
    "All that a store says, without where it came from"
    return [rows(lab, f"select {columns} from {name} order by all") for name, columns in (
        ("post", "* exclude (load_id, record)"), ("account", "*"), ("role", "*"), ("interaction", "* exclude (load_id)"), ("post_count", "* exclude (load_id)"), ("reject", "code, field, line, byte_offset"))]


# ---- real fixtures

def test_zendesk_tables_load_with_missing_parents(lab, shared):
    seeds = shared / "zendesk-fivetran" / "integration_tests" / "seeds"
    comments, tickets, users = table(seeds / "ticket_comment_data.csv"), table(seeds / "ticket_data.csv"), table(seeds / "user_data.csv")
    receipt, notes = load(lab, shared / "zendesk-fivetran", "zendesk")
    assert (len(comments), len(tickets), len(users)) == (20, 10, 10) and counts(receipt) == (30, 30, 0, 0, 0, 0)
    stored = rows(lab, "select post_key, author_key, conversation_key, text, created_at::varchar, visibility, reply_to_key, container_key, created_basis from post where text like 'body%'")
    assert sorted(stored) == sorted((f"zendesk:{c['id']}", f"zendesk:{c['user_id']}", f"zendesk:{c['ticket_id']}", c["body"], c["created"], "direct", None, None, "assumed") for c in comments)
    assert rows(lab, "select post_key, text from post where text is null or text not like 'body%' order by all") == sorted((f"zendesk:{t['id']}", t["description"] or None) for t in tickets)
    assert not {c["ticket_id"] for c in comments} & {t["id"] for t in tickets}
    assert one(lab, "select count(*) from role where account_key in (select author_key from post where text like 'body%')") == 0
    assert one(lab, "select count(*) from inbound where eligible") == 0 and sound(lab) and any("files passed over" in n for n in notes)


def test_zendesk_tables_know_their_people(lab, shared):
    users = table(shared / "zendesk-fivetran" / "integration_tests" / "seeds" / "user_data.csv")
    load(lab, shared / "zendesk-fivetran", "zendesk")
    told = dict(rows(lab, "select account_key, role from role where basis = 'export'"))
    assert all(told[f"zendesk:{u['id']}"] == {"agent": "staff", "end-user": "customer"}[u["role"]] for u in users)
    assert rows(lab, "select distinct brand from role where brand is not null") == [("fivetran1813",)] and one(lab, "select count(*) from account where concat_ws(' ', handle, display_name, url) like '%@%'") == 0


def test_intercom_tables_keep_the_version_that_counts(lab, shared):
    seeds = shared / "intercom-fivetran" / "integration_tests" / "seeds"
    parts, versions = table(seeds / "conversation_part_history_data.csv"), table(seeds / "conversation_history_data.csv")
    receipt, notes = load(lab, shared / "intercom-fivetran", "intercom")
    newest = {v["id"]: v for v in versions if v["_fivetran_active"] == "true"}
    assert (len(parts), len(versions), len(newest)) == (9, 9, 2) and counts(receipt) == (18, 11, 0, 0, 7, 0)
    assert sorted(rows(lab, "select post_key, text, created_at::varchar from post where post_key like '%:source'")) == sorted((f"intercom:{i}:source", v["source_body"], v["created_at"]) for i, v in newest.items())
    kinds = {"note": ("post", "internal"), "close": ("service", "direct")}
    assert sorted(rows(lab, "select post_key, author_key, kind, visibility, created_at::varchar from post where post_key not like '%:source'")) == sorted(
        (f"intercom:{p['id']}", f"intercom:{p['author_type']}:{p['author_id']}", *kinds[p["part_type"]], p["created_at"]) for p in parts)
    assert one(lab, "select count(*) from inbound where eligible") == 0 and sound(lab) and any(n.endswith("what is open in them does not count as unanswered.") for n in notes)
    assert rows(lab, "select distinct brand from role where role = 'staff'") == [("otyeqd9q",)]


def test_github_of_dogsheep(lab, shared):
    folder = shared / "github-api-dogsheep" / "tests"
    issues, comments, pulls = (json.loads((folder / f"{n}.json").read_text()) for n in ("issues", "issue-comments", "pull_requests"))
    receipt, notes = load(lab, shared / "github-api-dogsheep", "github")
    assert counts(receipt) == (len(issues) + len(comments) + len(pulls), 5, 0, 0, 1, 0) and sound(lab)
    when = lambda text: datetime.fromisoformat(text).astimezone(timezone.utc).replace(tzinfo=None)
    expected = {(f"github:{'/'.join(i['repository_url'].split('/')[-2:])}#{i['number']}", i["title"] + "\n\n" + i["body"], when(i["created_at"]), None, i["html_url"]) for i in issues}
    expected |= {(f"github:{c['id']}", c["body"], when(c["created_at"]), f"github:dogsheep/github-to-sqlite#{c['issue_url'].split('/')[-1]}", c["html_url"]) for c in comments}
    assert set(rows(lab, "select post_key, text, created_at, reply_to_key, url from post")) == expected
    assert rows(lab, "select distinct account_key, handle, role, brand from account join role using (account_key) where handle = 'simonw'") == [("github:9599", "simonw", "brand", "simonw")]
    assert any("speak for more than one owner" in n for n in notes) and any("7 files passed over" in n for n in notes)


def test_github_of_perceval(lab, shared):
    receipt, _ = load(lab, shared / "perceval-fixtures" / "github", "github")
    assert counts(receipt) == (18, 12, 0, 0, 5, 1) and rows(lab, "select code, member from reject") == [("duplicate_key", "github_request")] and sound(lab)
    found = {}
    for path in (shared / "perceval-fixtures" / "github").iterdir():
        content_ = json.loads(path.read_text())
        for r in content_ if isinstance(content_, list) else [content_]:
            if isinstance(r, dict) and "html_url" in r and "body" in r and path.name != "github_request": found[str(r["id"]), "pull_request_url" in r, "submitted_at" in r, r.get("number")] = r
    assert len(found) == 12 + 1, "a pull request and an issue of number 1 and 2 are one each, whatever their ids; one of them has two ids"
    assert one(lab, "select count(*) from post where author_key is null") == sum(not (r.get("user") or {}).get("id") for r in found.values()) == 3
    assert rows(lab, "select n from post_count order by all") == [(2,), (3,), (6,)]


# ---- small shapes: Zendesk

def test_zendesk_api_shape(lab):
    receipt, notes = load(lab, EXPORTS / "zendesk/api", "zendesk")
    assert counts(receipt) == (17, 16, 0, 0, 1, 0) and sound(lab) and [n.partition(": ")[2] for n in notes] == ["1 events are no comments and were passed over: Create."]
    assert calls(lab) == [("101", None, None, None), ("103", None, "104", 1800.0), ("201", None, None, None), ("106", None, None, None), ("3", "answer_outside_export", None, None), ("402", None, "405", 600.0),
                          ("408", None, None, None), ("410", "answer_outside_export", None, None), ("412", "by_bot", None, None)]
    assert rows(lab, "select post_key, visibility from post where visibility <> 'direct' order by all") == [("zendesk:102", "internal"), ("zendesk:201", "public"), ("zendesk:202", "internal")]
    assert rows(lab, "select post_key, reply_to_key, reply_to_account, reply_basis from post where reply_to_key is not null order by all") == [
        ("zendesk:104", "zendesk:103", "zendesk:11", "order"), ("zendesk:105", "zendesk:103", "zendesk:11", "order"), ("zendesk:106", "zendesk:105", "zendesk:900", "order"),
        ("zendesk:405", "zendesk:402", "zendesk:12", "order"), ("zendesk:408", "zendesk:407", "zendesk:900", "order")]
    assert rows(lab, "select account_key, role, brand from role order by all") == [("zendesk:-1", "bot", None), *((f"zendesk:{n}", "customer", None) for n in (11, 12, 13, 14)), ("zendesk:900", "staff", "harbor"), ("zendesk:901", "staff", "harbor")]
    assert rows(lab, "select container_key, container, closed from coverage") == [("zendesk:harbor", "harbor", True)] and one(lab, "select count(*) from post where author_key = 'zendesk:777' and container_key is null") == 1
    assert one(lab, "select min(created_at) from post where post_key = 'zendesk:405'") == datetime(2024, 5, 1, 9, 40)


def test_zendesk_acknowledgement_by_hand(lab):
    load(lab, EXPORTS / "zendesk/api", "zendesk")
    # conversations: ticket 1 (answered 40 minutes after the first of the run), 2 (only a note), 4 (answered after 10 minutes), 5 (waits); 3 and 6 are out
    frame = tl.acknowledgement(lab).frame
    assert frame.select("n", "acknowledged").rows() == [(4, 2)] and abs(frame["response_rate"][0] - 0.5) < 1e-12
    assert tl.acknowledgement(lab, unit="run").frame.select("n", "acknowledged").rows() == [(5, 2)]
    assert tl.acknowledgement(lab, unit="post").frame.select("n", "acknowledged").rows() == [(6, 2)]


def test_zendesk_lines_and_tables(lab):
    receipt, _ = load(lab, EXPORTS / "zendesk/export.jsonl", "zendesk")
    assert counts(receipt) == (3, 3, 0, 0, 0, 0) and calls(lab) == [("101", None, "104", 2400.0), ("201", None, None, None)]
    assert rows(lab, "select text, visibility from post where post_key = 'zendesk:201'") == [("Wo bleibt es? 📦", "public")] and sound(lab)
    with Lab() as other:
        receipt, _ = load(other, EXPORTS / "zendesk/tables", "zendesk")
        assert counts(receipt) == (4, 4, 0, 0, 0, 0) and calls(other) == [("101", None, "104", 2400.0)] and sound(other)
        assert rows(other, "select text, visibility, author_key, reply_to_key from post order by post_key") == [("Lamp,\nflickers", "direct", "zendesk:11", None), ("fuse?", "internal", "zendesk:900", None), ("New one", "direct", "zendesk:900", "zendesk:101"), ("a tweet", "public", "zendesk:55", None)]


def test_zendesk_description_is_never_doubled(lab, tmp_path):
    source = EXPORTS / "zendesk/api"
    (tmp_path / "whole" / "tickets" / "2").mkdir(parents=True)
    for name in ("tickets.json", "users.json"): shutil.copy(source / name, tmp_path / "whole")
    load(lab, tmp_path / "whole", "zendesk")
    assert one(lab, "select count(*) from post") == 6 and one(lab, "select count(*) from inbound where eligible") == 0
    later = tmp_path / "later" / "tickets" / "1"
    later.mkdir(parents=True)
    shutil.copy(source / "tickets/1/comments.json", later)
    receipt, _ = load(lab, tmp_path / "later", "zendesk")
    assert counts(receipt) == (7, 5, 0, 1, 1, 0)
    assert rows(lab, "select post_key, reply_to_key from post where conversation_key = 'zendesk:1' order by created_at") == [("zendesk:1", None), ("zendesk:102", None), ("zendesk:103", None), ("zendesk:104", "zendesk:103"), ("zendesk:105", "zendesk:103"), ("zendesk:106", "zendesk:105")]
    shutil.copytree(later, tmp_path / "whole" / "tickets" / "1")
    receipt, _ = load(lab, tmp_path / "whole", "zendesk")
    assert receipt.stored == 0 and one(lab, "select count(*) from post where text = 'Lamp flickers'") == 1 and sound(lab)


def test_zendesk_comments_first_and_the_ticket_later(lab, tmp_path):
    (tmp_path / "a" / "tickets" / "1").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    shutil.copy(EXPORTS / "zendesk/api/tickets/1/comments.json", tmp_path / "a/tickets/1")
    for name in ("tickets.json", "users.json"): shutil.copy(EXPORTS / "zendesk/api" / name, tmp_path / "b")
    load(lab, tmp_path / "a", "zendesk")
    assert one(lab, "select count(*) from role") == 0 and one(lab, "select count(*) from inbound") == 0
    receipt, _ = load(lab, tmp_path / "b", "zendesk")
    assert receipt.stored == 5 and one(lab, "select count(*) from post where text = 'Lamp flickers'") == 1 and one(lab, "select count(*) from role where role = 'staff'") == 2


def test_zendesk_weekly_pieces_link_up(lab, tmp_path):
    events = json.loads((EXPORTS / "zendesk/api/ticket_events.json").read_text())
    shutil.copy(EXPORTS / "zendesk/api/users.json", tmp_path)
    for part in (events["ticket_events"][:1], events["ticket_events"][1:2]):
        (tmp_path / "ticket_events.json").write_text(json.dumps(events | {"ticket_events": part}))
        load(lab, tmp_path, "zendesk")
    assert rows(lab, "select post_key, reply_to_key, reply_to_account from post order by created_at") == [("zendesk:402", None, None), ("zendesk:405", "zendesk:402", "zendesk:12")]
    assert calls(lab) == [("402", None, "405", 600.0)] and sound(lab)


def test_zendesk_note_that_becomes_internal(lab, tmp_path):
    ticket = json.loads((EXPORTS / "zendesk/export.jsonl").read_text().splitlines()[0])
    hidden = json.loads(json.dumps(ticket))
    hidden["comments"][1]["public"], hidden["updated_at"] = False, "2024-05-02T00:00:00Z"
    for order in ([ticket, hidden], [hidden, ticket]):
        (tmp_path / "export.jsonl").write_text("".join(json.dumps(t) + "\n" for t in order))
        with Lab() as store:
            receipt, _ = load(store, tmp_path, "zendesk")
            assert counts(receipt) == (4, 2, 0, 0, 2, 0) and rows(store, "select visibility, reply_to_key from post where post_key = 'zendesk:104'") == [("internal", None)]


def test_zendesk_person_becomes_an_agent(lab, tmp_path):
    for name in ("tickets.json",): shutil.copy(EXPORTS / "zendesk/api" / name, tmp_path)
    users = json.loads((EXPORTS / "zendesk/api/users.json").read_text())
    for role in ("end-user", "agent"):
        users["users"][0]["role"] = role
        (tmp_path / "users.json").write_text(json.dumps(users))
        load(lab, tmp_path, "zendesk")
    assert rows(lab, "select role, brand from role where account_key = 'zendesk:11' and basis = 'export'") == [("staff", "harbor")] and sound(lab)


# ---- small shapes: Intercom

def test_intercom_api_shape(lab):
    receipt, notes = load(lab, EXPORTS / "intercom/api", "intercom")
    assert counts(receipt) == (19, 18, 0, 0, 1, 0) and sound(lab) and len(notes) == 1 and "2 conversations are without some of their parts" in notes[0]
    assert calls(lab) == [("1", "by_bot", None, None), ("1001:source", None, "4", 600.0), ("6", None, "7", 1800.0), ("1002:source", None, None, None), ("21", None, None, None), ("22", "by_bot", None, None), ("31", None, None, None),
                          ("1004:source", "answer_outside_export", None, None), ("41", "answer_outside_export", None, None), ("1006:source", "answer_outside_export", None, None)]
    assert dict(rows(lab, "select post_key, text from post where post_key in ('intercom:1001:source', 'intercom:21', 'intercom:1005:source')")) == {"intercom:1001:source": "Lamp & cable?\n\nBoth.", "intercom:21": None, "intercom:1005:source": None}
    assert rows(lab, "select post_key from post where kind = 'service' order by all") == [("intercom:3",), ("intercom:8",)] and rows(lab, "select post_key from post where visibility = 'internal'") == [("intercom:2",)]
    assert rows(lab, "select account_key, role, brand from role order by all") == [("intercom:admin:900", "staff", "hbr12345"), ("intercom:admin:901", "staff", "hbr12345"), ("intercom:bot:7", "bot", None), ("intercom:bot:900", "bot", None),
                                                                                  ("intercom:contact:u1", "customer", None), ("intercom:contact:u2", "customer", None), ("intercom:team:50", "staff", "hbr12345")]
    assert one(lab, "select created_at from post where post_key = 'intercom:4'") == datetime(2024, 5, 1, 8, 10) and one(lab, "select author_key from post where post_key = 'intercom:1005:source'") is None
    assert one(lab, "select count(*) from account where concat_ws(' ', handle, display_name, url) like '%@%'") == 0


def test_intercom_acknowledgement_by_hand(lab):
    load(lab, EXPORTS / "intercom/api", "intercom")
    # conversations 1001 (answered), 1002 (a bot alone), 1003 (a contact answers a mailing and waits); 1004, 1006 are not whole, 1005 has no author
    assert tl.acknowledgement(lab).frame.select("n", "acknowledged").rows() == [(3, 1)]
    assert tl.acknowledgement(lab, unit="run").frame.select("n", "acknowledged").rows() == [(4, 2)]


def test_intercom_tables_shape(lab):
    receipt, _ = load(lab, EXPORTS / "intercom/tables", "intercom")
    assert counts(receipt) == (8, 6, 0, 0, 2, 0) and calls(lab) == [("1001:source", None, "4", 600.0), ("1002:source", "answer_outside_export", None, None), ("1003:source", None, None, None)]
    assert one(lab, "select text from post where post_key = 'intercom:1001:source'") == "Lamp" and one(lab, "select display_name from account where account_key = 'intercom:contact:u1'") == "Kim" and sound(lab)


def test_intercom_missing_parts_arrive_later(lab, tmp_path):
    page = json.loads((EXPORTS / "intercom/api/page1.json").read_text())
    whole = page["conversations"][0]
    listed = {k: v for k, v in whole.items() if k != "conversation_parts"}
    (tmp_path / "one.json").write_text(json.dumps(listed))
    load(lab, tmp_path / "one.json", "intercom")
    assert one(lab, "select count(*) from inbound where eligible") == 0
    (tmp_path / "one.json").write_text(json.dumps(whole))
    receipt, _ = load(lab, tmp_path / "one.json", "intercom")
    assert (receipt.stored, receipt.same) == (8, 1) and ("1001:source", None, "4", 600.0) in calls(lab) and sound(lab)


# ---- small shapes: GitHub

def test_github_rest_shape(lab):
    receipt, notes = load(lab, EXPORTS / "github/rest", "github")
    assert counts(receipt) == (18, 17, 0, 0, 1, 0) and sound(lab) and sorted(n.partition(": ")[2] for n in notes) == [
        "1 files passed over, not understood: labels.json.", "1 issues have comments that the export does not hold; what is open in them does not count as unanswered."]
    key = "github:harbor/lamp#{}".format
    assert [(c, w, s) for c, w, _, s in calls(lab)] == [(key(1), None, 1200.0), ("github:504", None, 1800.0), (key(2), None, 600.0), ("github:discussion_r502", None, None), (key(3), "author_unknown", None),
                                                       (key(4), "answer_outside_export", None), ("github:508", None, None), (key(6), None, None)]
    links = {k: v for k, *v in rows(lab, "select post_key, reply_to_key, reply_to_account, reply_basis from post where reply_to_account is not null or reply_to_key is not null")}
    assert links["github:503"] == [key(1), "github:11", "order"] and links["github:504"] == ["github:503", "github:90", "order"] and links["github:505"] == ["github:504", "github:11", "order"]
    assert links["github:discussion_r502"] == ["github:discussion_r501", "github:91", "explicit"] and links[key(6)] == [None, "github:harbor", "inferred"] and links["github:507"] == [key(3), None, "order"]
    assert rows(lab, "select account_key, role, brand from role order by all") == [("github:90", "staff", "harbor"), ("github:91", "staff", "harbor"), ("github:99", "bot", None), ("github:harbor", "brand", "harbor")]
    assert rows(lab, "select post_key from post where author_key is null order by all") == [("github:506",), (key(3),)] and rows(lab, "select post_key from post where kind = 'service'") == [("github:pullrequestreview-501",)]
    assert rows(lab, "select post_key, edited_at from post where edited_at is not null") == [("github:503", datetime(2024, 5, 1, 8, 25))] and one(lab, "select text from post where post_key = 'github:harbor/lamp#6'") == "Nobody yet"
    assert rows(lab, "select distinct kind, n from post_count") == [("reaction", 3)] and one(lab, "select count(*) from post_count") == 5 and one(lab, "select count(*) from interaction where kind = 'reaction'") == 0


def test_github_acknowledgement_by_hand(lab):
    load(lab, EXPORTS / "github/rest", "github")
    # one unit an author and issue: ann on 1 and ben on 2 answered, ann on 5 and ben on 6 wait; 3 has no author, 4 is not whole
    assert tl.acknowledgement(lab).frame.select("n", "acknowledged").rows() == [(4, 2)]


def test_github_archive_shape(lab, tmp_path):
    receipt, notes = load(lab, EXPORTS / "github/2024-05-01-8.json", "github")
    assert counts(receipt) == (7, 4, 0, 0, 2, 1) and sound(lab) and rows(lab, "select code, record, line from reject") == [("not_an_issue", 8, 8)]
    assert rows(lab, "select post_key, author_key, reply_to_key, text is null from post order by created_at") == [("github:harbor/lamp#1", "github:11", None, False), ("github:503", "github:90", "github:harbor/lamp#1", False),
                                                                                                                  ("github:harbor/lamp#2", "github:12", None, True), ("github:601", "github:91", "github:harbor/lamp#2", False)]
    assert any("1 events are no messages and were passed over: WatchEvent." in n for n in notes) and any("1 events of pull requests" in n for n in notes) and any("2 records do not tell their author's side" in n for n in notes)
    assert [c[:2] for c in calls(lab)] == [("github:harbor/lamp#1", None)], "who opened the slim pull request is not known to be an outsider"
    packed = tmp_path / "2024-05-01-8.json.gz"
    packed.write_bytes(gzip.compress((EXPORTS / "github/2024-05-01-8.json").read_bytes()))
    with Lab() as other:
        other.load(packed)
        assert content(other) == content(lab)


def test_github_archive_and_rest_are_the_same_posts(lab):
    load(lab, EXPORTS / "github/rest", "github")
    receipt, _ = load(lab, EXPORTS / "github/2024-05-01-8.json", "github")
    assert receipt.stored == 1 and one(lab, "select count(*) from post where post_key = 'github:503'") == 1 and sound(lab)


def test_github_one_object_a_file_and_search_results(lab, tmp_path):
    issues = json.loads((EXPORTS / "github/rest/issues.json").read_text())
    for i in issues: (tmp_path / f"{i['number']}.json").write_text(json.dumps(i, indent=2))
    load(lab, tmp_path, None)
    with Lab() as other:
        (tmp_path / "found.json").write_text(json.dumps({"total_count": 6, "incomplete_results": False, "items": issues}))
        receipt, _ = load(other, tmp_path / "found.json", None)
        assert counts(receipt) == (6, 6, 0, 0, 0, 0) and content(other)[0] == content(lab)[0]


# ---- wherever it lies, however often

@pytest.mark.parametrize(("reader", "shape"), SHAPES)
def test_the_same_store_from_folder_zip_tar_and_deeper(reader, shape, tmp_path):
    source, known = EXPORTS / shape, None
    files = {source.name: source} if source.is_file() else {p.relative_to(source).as_posix(): p for p in source.rglob("*") if p.is_file()}
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as flat, zipfile.ZipFile(tmp_path / "deep.zip", "w") as deep, tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for name, path in files.items():
            flat.write(path, name)
            deep.write(path, "download/2024/" + name)
            tar.add(path, name)
        deep.writestr("readme.txt", "hello")
    for path in (source, tmp_path / "deep.zip", tmp_path / ("flat.zip" if source.is_file() else "a.tar.gz")):
        assert [(r.name, len(roots)) for r in READERS.values() if r.name == reader for b in bundles(path) if (roots := r.find(b))] == [(reader, 1)]
        with Lab() as lab:
            receipt, _ = load(lab, path, reader)
            known = known or content(lab)
            assert content(lab) == known
            if path != source: continue
            again, _ = load(lab, path, reader)
            assert (again.stored, again.changed) == (0, 0) and again.loads[0]["status"] == "already loaded" and content(lab) == known


@pytest.mark.parametrize("reader", MINE)
def test_no_other_format_is_claimed(reader, shared):
    own = {"zendesk": ("zendesk", "zendesk-fivetran"), "intercom": ("intercom", "intercom-fivetran"), "github": ("github", "github-api-dogsheep", "perceval-fixtures")}[reader]
    claimed = [f.name for place in (EXPORTS, shared) for f in sorted(place.iterdir()) if f.name not in own and (f.is_dir() and any(f.iterdir())) for b in bundles(f) if READERS[reader].find(b)]
    assert claimed == []
    others = [f.name for f in sorted((shared / "perceval-fixtures").iterdir()) if f.is_dir() and f.name != "github" and reader == "github" for b in bundles(f) if READERS[reader].find(b)]
    assert others == []


# ---- broken files

GOOD = {
    "zendesk": [json.loads(line) for line in (EXPORTS / "zendesk/export.jsonl").read_text().splitlines()],
    "intercom": json.loads((EXPORTS / "intercom/api/page1.json").read_text())["conversations"][:3],
    "github": json.loads((EXPORTS / "github/rest/issue-comments.json").read_text())[:3],
}


def as_lines(records): return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records).encode()
def as_array(records): return b"[" + b",\n".join((r if isinstance(r, str) else json.dumps(r)).encode() for r in records) + b"]"


def broken(reader, changes):
    "The good records with copies of the second between them, a message of each changed"
    first, middle, *rest = json.loads(json.dumps(GOOD[reader]))
    copies = [json.loads(json.dumps(middle)) for _ in changes]
    for copy, change in zip(copies, changes):
        change({"zendesk": lambda: copy["comments"][0], "intercom": lambda: copy["conversation_parts"]["conversation_parts"][0], "github": lambda: copy}[reader]())
    return [first, *copies, middle, *rest]


FAULTS = {"missing_id": lambda m: m.pop("id"), "id_not_exact": lambda m: m.update(id=1.5e18), "bad_time": lambda m: m.update(created_at="yesterday"), "timestamp_out_of_range": lambda m: m.update(created_at="1970-01-01T00:00:00Z"),
          "missing_public": lambda m: m.pop("public", None), "missing_url": lambda m: [m.pop(k, None) for k in ("url", "html_url", "issue_url")]}


@pytest.mark.parametrize("frame", [as_lines, as_array])
@pytest.mark.parametrize("reader", MINE)
def test_bad_messages_between_good_ones(reader, frame, tmp_path):
    path, codes = tmp_path / "export.json", [c for c in FAULTS if reader == {"missing_public": "zendesk", "missing_url": "github"}.get(c, reader)]
    with Lab() as lab, Lab() as whole:
        path.write_bytes(frame(broken(reader, [FAULTS[c] for c in codes])))
        receipt, _ = load(lab, path, reader)
        path.write_bytes(frame(GOOD[reader]))
        load(whole, path, reader)
        assert receipt.rejected == len(codes) and receipt.loads[0]["status"] == "partial" and sound(lab)
        assert rows(lab, "select code, byte_offset is not null, octet_length(raw) > 9 from reject order by record") == [(code, True, True) for code in codes]
        assert content(lab)[0] == content(whole)[0]


@pytest.mark.parametrize("reader", MINE)
def test_bad_lines_between_good_ones(lab, tmp_path, reader):
    path, faults = tmp_path / "export.jsonl", ['{"id": 5, "body": ', '{"id": 1, "id": 2}', "[1, 2]", "7", '"caf\\ud83d"']
    path.write_bytes(as_lines([GOOD[reader][0], *faults, *GOOD[reader][1:]]))
    receipt, _ = load(lab, path, reader)
    assert receipt.rejected == len(faults) and receipt.stored >= 3 and rows(lab, "select line from reject order by line") == [(n,) for n in range(2, 7)] and sound(lab)
    assert rows(lab, "select code from reject where line < 4 order by line") == [("bad_json",), ("duplicate_key",)]


@pytest.mark.parametrize("reader", MINE)
@pytest.mark.parametrize("frame", [as_lines, as_array])
def test_cut_off_anywhere(reader, frame, tmp_path):
    raw, path = frame(GOOD[reader]), tmp_path / "export.json"
    first = len(frame(GOOD[reader][:1]))
    with Lab() as lab:
        for at, kept in ((first // 2, 0), (first + 9, 1), (len(raw) - 4, len(GOOD[reader]) - 1)):
            path.write_bytes(raw[:at])
            if not kept:
                with pytest.raises(TrustlabError): load(lab, path, reader)
                continue
            receipt, _ = load(lab, path, reader)
            assert receipt.rejected == 1 and receipt.stored + receipt.same > 0 and sound(lab)
        assert rows(lab, "select distinct code from reject") == [("bad_json" if frame is as_lines else "cut_off",)]


@pytest.mark.parametrize("reader", MINE)
@pytest.mark.parametrize("frame", [as_lines, as_array])
def test_marks_and_bytes(reader, frame, tmp_path):
    raw, path = frame(GOOD[reader]), tmp_path / "export.json"
    path.write_bytes(raw)
    with Lab() as lab, Lab() as marked, Lab() as bad:
        whole, _ = load(lab, path, reader)
        path.write_bytes(b"\xef\xbb\xbf" + raw)
        assert counts(load(marked, path, reader)[0]) == counts(whole) and content(marked)[:4] == content(lab)[:4]
        at = raw.index(b'"body": "') + 9
        path.write_bytes(raw[:at] + b"\xe9" + raw[at:])
        receipt, _ = load(bad, path, reader)
        assert receipt.rejected == 1 and rows(bad, "select code, contains(raw::varchar, '\\xE9') from reject") == [("bad_utf8", True)]


EMPTY = (b"", b"[]", b"{}", b"\x00\xff", b'{"tickets": [], "end_of_stream": true}', b'{"conversations": []}', b"[[[[[", b'{"a":' * 3000, b"id,name\n1,2\n")


@pytest.mark.parametrize("reader", MINE)
def test_nothing_in_it(lab, reader, tmp_path):
    for raw in EMPTY:
        (tmp_path / "export.json").write_bytes(raw)
        with pytest.raises(TrustlabError): lab.load(tmp_path / "export.json", source=reader)
    assert one(lab, "select count(*) from load") == 0


@pytest.mark.parametrize("reader", MINE)
def test_a_key_that_is_missing_everywhere_stores_nothing(lab, tmp_path, reader):
    records = json.loads(json.dumps(GOOD[reader]).replace('"created_at"', '"made_at"'))
    (tmp_path / "export.jsonl").write_bytes(as_lines(records))
    with pytest.raises(TrustlabError, match="format may have changed|no reader recognises"): load(lab, tmp_path / "export.jsonl", reader)
    assert one(lab, "select count(*) from post") == 0


@pytest.mark.parametrize(("reader", "shape", "bad"), [("zendesk", "zendesk/tables/ticket_comment.csv", '301,,"x",never,FALSE,TRUE,1,FALSE,11,FALSE\n'), ("intercom", "intercom/tables/conversation_part_history.csv", "77,2024-05-01,never,900,admin,1001,comment,x,true\n")])
def test_a_bad_row_of_a_table(lab, tmp_path, reader, shape, bad):
    lines = (EXPORTS / shape).read_text().splitlines(keepends=True)
    (tmp_path / "table.csv").write_text(lines[0] + bad + "".join(lines[1:]) + "1,2,3\n")
    receipt, _ = load(lab, tmp_path / "table.csv", reader)
    assert receipt.rejected == 2 and receipt.stored == len(lines) - 1 - (shape.count("zendesk") and 1)
    assert rows(lab, "select code, line, raw from reject order by line") == [("bad_time", 2, bad.encode()), ("wrong_number_of_columns", one(lab, "select max(line) from reject"), b"1,2,3\n")]


def test_unknown_keys_are_named_and_never_their_values(lab, tmp_path):
    (tmp_path / "e.jsonl").write_bytes(as_lines([m | {"mood": "secret-value"} for m in GOOD["github"]]))
    _, notes = load(lab, tmp_path / "e.jsonl", "github")
    assert any("keys not understood: mood." in n for n in notes) and not any("secret-value" in n for n in notes)


def test_no_secrets_are_kept(tmp_path):
    path = tmp_path / "lab.duckdb"
    with Lab(path) as lab:
        for reader, shape in SHAPES: load(lab, EXPORTS / shape, reader)
        kept = str(content(lab)) + str(rows(lab, "select notes from load"))
        assert one(lab, "select count(*) from post") > 50 and "Lamp flickers" in kept and "example.org" not in kept and "192.0.2.1" not in kept
    assert b"example.org" not in path.read_bytes() and b"192.0.2.1" not in path.read_bytes()


def test_a_folder_of_media_is_passed_by_quickly(tmp_path):
    for n in range(3000): (tmp_path / f"photo{n}.json").write_text('{"a": 1}')
    opened, (bundle,) = [], bundles(tmp_path)
    inner = bundle.open
    bundle.open = lambda name: opened.append(name) or inner(name)
    assert [READERS[r].find(bundle) for r in MINE] == [[], [], []] and len(opened) <= 20
    with pytest.raises(UnknownSource), Lab() as lab: lab.load(tmp_path, source="zendesk")
