"""Recorded sessions judged by other rules: what changes is told, what cannot be told is told as that."""

from collections.abc import Iterable, Sequence

import msgspec

from appliance import config
from appliance.facts.shared import Shared
from appliance.model import Decision, Note
from appliance.record.frame import Frame
from appliance.record.log import Level, kept
from appliance.service.whatif import Again, Counts, Report
from appliance.service.whatif.again import HEADLESS, MASKED, PASSED, REFUSED, ROWLESS, SILENT, TLS, WITHHELD
from appliance.service.whatif.report import MAX_CHANGES, MAX_EXAMPLES, MAX_TEXT, Example
from tests.record import dialogue as d
from tests.record.samples import READS, C, S, closed, flow, opened
from tests.record.test_datagrams import DNS, OPENED
from tests.record.test_datagrams import answer as dns_answer
from tests.record.test_datagrams import asks as dns_asks
from tests.record.test_pcapng import frames
from tests.record.test_redact import answer, asks

HEAD = """
identities:
  acme: {cgroup: acme.service}
targets:
  orders-db: {protocol: postgres, address: ["10.0.3.2:5432"]}
rules:
"""
LOGIN = "  - {id: login, when: {effect: session}, do: allow}\n"
ALLOW = "  - {id: all, do: allow}\n"
NO_DROP = "  - {id: no-drop, when: {effect: drop}, do: block, reason: it is not yours}\n"
HIDE = "  - {id: hide, when: {column: [public.users.ssn]}, do: mask, with: redact}\n"
ALL = Decision("allow", "all", "10-db.yaml", "r1")
BLOCK = Decision("block", "default", "10-db.yaml", "r1")


def judged(found: Iterable[Frame], rules: str, head: str = HEAD) -> Report:
    counts, shared, sessions = Counts("r2"), Shared(), dict[str, Again]()
    policy = config.rules([("rules.d/new.yaml", head + rules)], lambda name: [name])
    for frame in found:
        sessions.setdefault(frame.id, Again(policy, counts, shared)).take(frame)
    for again in sessions.values():
        again.end()
    return counts.report()


def changes(report: Report) -> list[tuple[str, str, str, int]]:
    return [(c.change, c.rule, c.before, c.count) for c in report.changes]


def lacks(report: Report) -> dict[str, int]:
    return {gap.why: gap.count for gap in report.unjudged}


def says(sql: str, decision: Decision = ALL, **facts: Sequence[str]) -> list[Note]:
    """A statement that was judged."""
    note = asks(sql, **facts)
    return [note, Note("decision", sql, decision=decision, id="f1-1")]


def session(*notes: Note) -> list[Frame]:
    return numbered(frames([opened("acme"), *d.LOGIN, *notes, *d.BYE]))


def numbered(found: Sequence[Frame]) -> list[Frame]:
    return [msgspec.structs.replace(frame, number=number) for number, frame in enumerate(found, 1)]


def at_level(found: Sequence[Frame], level: Level) -> list[Frame]:
    """Return the frames as a log of this level would have kept them."""
    out = []
    for frame in found:
        note, dropped = kept(frame.note, level)
        out.append(msgspec.structs.replace(frame, note=note, dropped=dropped))
    return out


def dropped() -> list[Note]:
    note = asks("drop table users")
    facts = (("effect", ("drop",)), ("statement", ("DROP TABLE",)), ("table", ("public.users",)))
    return [
        msgspec.structs.replace(note, facts=facts),
        Note("decision", "drop table users", decision=ALL, id="f1-1"),
        d.server("ready", d.complete("DROP TABLE") + d.READY, "DROP TABLE"),
    ]


def selected(*, masked: bool = False) -> list[Note]:
    rows = answer("id", "ssn", rows=[["1", "[redacted]" if masked else "078-05-1120"]], known=False)
    columns = tuple(
        msgspec.structs.replace(named, names=(f"public.users.{named.column.name}",))
        for named in answer("id", "ssn", rows=[]).columns
    )
    rows = msgspec.structs.replace(rows, columns=columns, masked=int(masked), masks=("hide",) if masked else ())
    return [*says("select id, ssn from users", column=["public.users.id", "public.users.ssn"]), rows]


# -- what changes -----------------------------------------------------------------------------------------------


def test_the_same_rules_change_nothing() -> None:
    report = judged(session(*dropped(), *selected()), ALLOW)
    assert (report.sessions, report.requests, report.unchanged) == (1, 3, 3)
    assert not report.changes and not report.unjudged


def test_newly_blocked_with_its_reason_and_an_example() -> None:
    report = judged(session(*dropped(), *selected()), NO_DROP + ALLOW)
    (change,) = report.changes
    assert changes(report) == [("newly blocked", "no-drop", "allow by all", 1)]
    assert (change.identity, change.target, change.reason) == ("acme", "orders-db", "it is not yours")
    assert [one.text for one in change.examples] == ["drop table users"]
    assert report.unchanged == 2


def test_newly_held() -> None:
    report = judged(session(*dropped()), "  - {id: dba, when: {effect: drop}, do: approve, approvers: {group: dba}}\n" + ALLOW)
    assert changes(report) == [("newly held", "dba", "allow by all", 1)]


def test_newly_allowed_and_what_its_answer_would_have_been_is_not_known() -> None:
    refused = [*says("select ssn from users", BLOCK, column=["public.users.ssn"]), d.server("ready", d.error("42501", "denied") + d.READY)]
    report = judged(session(*refused), HIDE + ALLOW)
    assert changes(report) == [("newly allowed", "all", "block by default", 1)]
    assert lacks(report) == {REFUSED: 1}


def test_newly_masked_cell_by_cell() -> None:
    report = judged(session(*selected(), *selected()), HIDE + ALLOW)
    assert changes(report) == [("newly masked", "hide", "not masked", 2)]
    assert report.changes[0].cells == 2 and report.unchanged == 3


def test_newly_masked_by_a_detector() -> None:
    rules = "  - {id: numbers, when: {detect: [ssn]}, do: mask, with: redact}\n" + ALLOW
    assert changes(judged(session(*selected()), rules)) == [("newly masked", "numbers", "not masked", 1)]


def test_no_longer_masked() -> None:
    report = judged(session(*selected(masked=True)), ALLOW)
    assert changes(report) == [("no longer masked", "hide", "masked", 1)]


def test_still_masked_though_only_the_mask_was_recorded() -> None:
    report = judged(session(*selected(masked=True)), HIDE + ALLOW)
    assert not report.changes and not report.unjudged


def test_what_a_detector_would_find_behind_a_mask_is_not_known() -> None:
    rules = "  - {id: numbers, when: {detect: [ssn]}, do: mask, with: redact}\n" + ALLOW
    report = judged(session(*selected(masked=True)), rules)
    assert not report.changes and lacks(report) == {MASKED: 1}


def test_what_was_only_prepared_is_asked_about_when_it_runs() -> None:
    """A mask is compared on the answer, which comes after the last of the messages that asked for it."""
    rules = "  - {id: dba, when: {effect: read}, do: approve, approvers: {group: dba}}\n" + ALLOW
    facts = (("effect", ("read",)), ("table", ("public.users",)), ("column", ("public.users.ssn",)))
    sql = "select ssn from users"
    parse = d.message("P", d.text("", sql) + b"\0\0")
    bind = d.message("B", d.text("", "") + b"\0\0" * 3)
    execute = d.message("E", d.text("") + b"\0" * 4)
    notes = []
    for kind, raw in (("parse", parse), ("bind", bind), ("execute", execute)):
        notes.append(Note("message", sql, C, kind, raw, count=1, facts=facts))
        notes.append(Note("decision", sql, decision=ALL, id="f1-1"))
    notes.append(d.client("sync", d.message("S")))
    notes.append(d.server("ready", d.message("1") + d.message("2") + d.row("078-05-1120") + d.complete("SELECT 1") + d.READY, "SELECT 1", 1))
    report = judged(session(*notes), rules)
    assert changes(report) == [("newly held", "dba", "allow by all", 1)] and report.unchanged == 3


# -- connections ------------------------------------------------------------------------------------------------


def test_a_connection_that_would_not_be_admitted_counts_once() -> None:
    report = judged(session(*dropped(), *selected()), "  - {id: nobody, to: orders-db, do: block}\n" + ALLOW)
    assert changes(report) == [("newly blocked", "nobody", "allow by (the connection)", 1)]
    assert report.changes[0].examples[0].text == "connect to 10.0.3.2:5432"


def test_a_connection_that_was_refused() -> None:
    notes = [opened("acme"), Note("decision", "connect to 10.0.3.2:5432", decision=BLOCK, id="f1-1"), closed("refused at connect")]
    report = judged(numbered(frames(notes)), ALLOW)
    assert changes(report) == [("newly allowed", "all", "block by default", 1)] and lacks(report) == {SILENT: 1}
    assert changes(judged(numbered(frames(notes)), "  - {id: nobody, do: block}\n")) == []


def test_a_connection_that_was_passed_unread() -> None:
    notes = [opened("acme"), Note("decision", "connect to 10.0.3.2:5432", decision=ALL, id="f1-1"), closed()]
    assert lacks(judged(numbered(frames(notes)), NO_DROP + ALLOW)) == {PASSED: 1}
    assert changes(judged(numbered(frames(notes)), "  - {id: nobody, do: block}\n")) == [("newly blocked", "nobody", "allow by all", 1)]
    assert not judged(numbered(frames(notes)), "  - {id: pass, to: orders-db, do: allow, inspect: false}\n").changes


# -- what the record does not tell ------------------------------------------------------------------------------


def test_metadata_is_judged_by_what_it_has() -> None:
    found = at_level(session(*dropped(), *selected()), "metadata")
    report = judged(found, NO_DROP + ALLOW)
    assert changes(report) == [("newly blocked", "no-drop", "allow by all", 1)] and not report.unjudged


def test_metadata_does_not_answer_a_rule_about_a_text() -> None:
    found = at_level(session(*selected()), "metadata")
    report = judged(found, "  - {id: root, when: {user: postgres}, do: block}\n" + ALLOW)
    assert report.requests == 0 and not report.changes
    assert lacks(report) == {"requests of which the record has no text: rule root asks for user": 2}


def test_metadata_has_no_rows_to_mask() -> None:
    report = judged(at_level(session(*selected()), "metadata"), HIDE + ALLOW)
    assert not report.changes and lacks(report) == {ROWLESS: 1} and report.unchanged == 2


def test_requests_without_answers_are_judged_and_their_masks_are_not() -> None:
    found = at_level(session(*dropped(), *selected()), "requests")
    report = judged(found, NO_DROP + HIDE + ALLOW)
    assert changes(report) == [("newly blocked", "no-drop", "allow by all", 1)]
    assert lacks(report) == {ROWLESS: 2}


def test_a_text_that_was_kept_is_searched_and_one_that_was_not_found_is_not_known() -> None:
    rules = "  - {id: cards, when: {detect: [credit_card]}, do: block}\n" + ALLOW
    card = says("select '4111 1111 1111 1111'", column=[])
    found = at_level(session(*card, d.server("ready", d.complete("SELECT 1") + d.READY), *selected()), "requests")
    report = judged(found, rules)
    assert changes(report) == [("newly blocked", "cards", "allow by all", 1)]
    assert lacks(report) == {"requests of which the record has no text: rule cards asks for text": 1}


def test_a_session_without_its_beginning_is_judged_by_what_is_left() -> None:
    found = session(*dropped(), *selected())[7:]
    assert found[0].note.kind == "message"
    found[0] = msgspec.structs.replace(found[0], flow=flow())
    report = judged(found, NO_DROP + HIDE + ALLOW)
    assert lacks(report)[HEADLESS] == 1


def test_a_session_of_nobody_is_counted_and_not_judged() -> None:
    found = [msgspec.structs.replace(frame, flow=None) for frame in session(*dropped())]
    report = judged(found, NO_DROP + ALLOW)
    assert report.requests == 0 and lacks(report) == {HEADLESS: 1}


def test_behind_missing_frames_the_wire_is_not_trusted() -> None:
    found = session(*selected(), *dropped())
    gone = next(i for i, frame in enumerate(found) if frame.note.message == "query")
    report = judged(found[:gone] + found[gone + 3 :], NO_DROP + ALLOW)
    assert changes(report) == [("newly blocked", "no-drop", "allow by all", 1)]


def test_a_session_that_was_cut_off_is_judged_as_far_as_it_goes() -> None:
    found = session(*dropped(), *selected())
    cut = next(i for i, frame in enumerate(found) if frame.note.text.startswith("select"))
    report = judged(found[: cut + 1], NO_DROP + ALLOW)
    assert changes(report) == [("newly blocked", "no-drop", "allow by all", 1)] and report.requests == 2


def test_bytes_that_are_not_the_protocol_do_not_end_it() -> None:
    rubbish = Note("message", "?", C, "query", b"Q\0\0\0\1rubbish", facts=(("effect", ("drop",)),))
    report = judged(session(rubbish, Note("decision", "?", decision=READS, id="x")), NO_DROP + ALLOW)
    assert changes(report) == [("newly blocked", "no-drop", "allow by reads", 1)]


def test_names_are_those_the_servers_catalogue_gave_then() -> None:
    """`select * from v` names no table of users; the facts of the day say that the view does."""
    note = asks("select * from v", column=["public.users.ssn"])
    found = session(note, Note("decision", note.text, decision=ALL, id="f1-1"), answer("ssn", rows=[["078-05-1120"]]))
    report = judged(found, "  - {id: users, when: {table: public.users}, do: block}\n" + ALLOW)
    assert changes(report) == [("newly blocked", "users", "allow by all", 1)]


def test_who_it_is_is_asked_of_the_rules_in_question() -> None:
    head = HEAD.replace("acme: {cgroup: acme.service}", "psql: {exe: /usr/bin/psql}")
    report = judged(session(*dropped()), "  - {id: p, who: psql, when: {effect: drop}, do: block}\n" + ALLOW, head)
    assert [(c.rule, c.identity) for c in report.changes] == [("p", "psql")]


# -- limits -----------------------------------------------------------------------------------------------------


def test_examples_are_few_short_and_different() -> None:
    counts = Counts("r")
    for number in range(10):
        counts.decided(ALL, BLOCK, ("acme", "db"), Example("s", 0.0, f"{number % 5} " + "x" * 1000))
    (change,) = counts.report().changes
    assert change.count == 10 and len(change.examples) == MAX_EXAMPLES
    assert len({one.text for one in change.examples}) == MAX_EXAMPLES
    assert all(len(one.text) <= MAX_TEXT + 3 for one in change.examples)


def test_changes_beyond_the_limit_are_counted_together() -> None:
    counts = Counts("r")
    for number in range(MAX_CHANGES + 5):
        counts.decided(ALL, BLOCK, (f"vendor{number}", "db"), Example("s", 0.0, "x"))
        counts.lacks(f"why {number}", Example("s", 0.0, "x"))
    report = counts.report()
    assert len(report.changes) == MAX_CHANGES + 1 and max(c.count for c in report.changes) == 5
    assert len(report.unjudged) == MAX_CHANGES + 1


# -- datagrams, TLS that was passed -----------------------------------------------------------------------------

DNS_HEAD = """
identities:
  acme: {cgroup: acme.service}
targets:
  resolver: {protocol: dns, address: ["10.0.3.53:53"]}
rules:
"""


def asked_dns(name: str) -> list[Frame]:
    talk = [OPENED, *dns_asks(name, ALL), closed("idle")]
    return numbered(frames(talk, DNS))


def test_questions_of_dns() -> None:
    rules = '  - {id: no-evil, when: {qname: "*.evil.example"}, do: block}\n' + ALLOW
    assert changes(judged(asked_dns("a.evil.example"), rules, DNS_HEAD)) == [("newly blocked", "no-evil", "allow by all", 1)]
    assert not judged(asked_dns("good.example"), rules, DNS_HEAD).changes


def test_how_much_a_process_moved_in_all_its_sessions_one_does_not_tell() -> None:
    rules = "  - {id: tunnel, when: {rate: {gt: 100}}, do: block}\n" + ALLOW
    report = judged(asked_dns("good.example"), rules, DNS_HEAD)
    assert not report.changes and "rule tunnel asks for rate" in report.unjudged[0].why


def passed(*said: str, source: str = "") -> list[Frame]:
    of = msgspec.structs.replace(flow(), source=source)
    notes = [Note("decision", f"not opened: TLS to {text}", decision=ALL, id="x") for text in said]
    return numbered(frames([opened("acme"), Note("message", "TLS hello", C, TLS), *notes, closed()], of))


def test_tls_that_was_passed_is_judged_by_what_it_said() -> None:
    head = HEAD.replace("orders-db: {protocol: postgres", "orders-db: {protocol: tls")
    rules = '  - {id: no-evil, when: {certificate: "*.evil.example"}, do: block}\n' + ALLOW
    found = passed("a.example hello=plain", "a.example hello=plain version=TLSv1.2 certificate=a.example,b.evil.example")
    assert changes(judged(found, rules, head)) == [("newly blocked", "no-evil", "allow by all", 1)]
    hidden = passed("a.example hello=plain", "a.example hello=plain version=TLSv1.3 certificate=?")
    assert changes(judged(hidden, rules, head)) == [("newly blocked", "no-evil", "allow by all", 1)]
    assert not judged(passed("a.example", "a.example version=TLSv1.2 certificate=a.example"), rules, head).changes


def test_tls_that_was_passed_and_would_be_opened() -> None:
    assert lacks(judged(passed("a.example"), ALLOW)) == {PASSED: 1}


def test_tls_of_an_import_is_judged_as_it_was() -> None:
    report = judged(passed("a.example", source="f.pcap sha256:0"), '  - {id: n, when: {sni: a.example}, do: block}\n' + ALLOW)
    assert changes(report) == [("newly blocked", "n", "allow by all", 1)]


def answered(*before: Note) -> list[Frame]:
    said = Note("message", "NOERROR", S, "answer", dns_answer("a.example"))
    return numbered(frames([OPENED, *dns_asks("a.example", ALL), *before, said, closed("idle")], DNS))


def test_an_answer_that_would_be_withheld() -> None:
    rules = '  - {id: internal, when: {answer: "10.*"}, do: block}\n' + ALLOW
    report = judged(answered(), rules, DNS_HEAD)
    assert changes(report) == [("newly blocked", "internal", "allow by (the answer)", 1)]
    assert not judged(answered(), ALLOW, DNS_HEAD).changes


def test_a_question_that_would_be_refused_counts_once() -> None:
    report = judged(answered(), "  - {id: none, when: {qname: a.example}, do: block}\n" + ALLOW, DNS_HEAD)
    assert changes(report) == [("newly blocked", "none", "allow by all", 1)]


def test_an_answer_that_was_withheld_is_not_known() -> None:
    report = judged(answered(Note("decision", "NOERROR A", decision=BLOCK, id="x")), ALLOW, DNS_HEAD)
    assert not report.changes and lacks(report) == {WITHHELD: 1}
