"""One flow as a script: what goes in, what must be done, in order, and nothing else."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import config
from appliance.facts.readers import Shared
from appliance.model import (
    Address,
    Answered,
    Ask,
    Cancel,
    Close,
    Effect,
    Ended,
    Flow,
    Note,
    Open,
    Opened,
    Process,
    Received,
    Send,
    Shut,
    Side,
    Unopened,
    Withdraw,
    Woke,
)
from appliance.policy import Policy
from appliance.session import Session
from appliance.session.core import LOGIN_S
from appliance.session.line import MESSAGE
from tests.session import pg
from tests.session.playbook import Playbook, a, noted, sent
from tests.wire.tls.test_hello import real as client_hello

C, S = Side.CLIENT, Side.SERVER
AGENT = Process(7, 1, "/usr/bin/psql", ("psql",), "acme.service", 1000)
FLOW = Flow("f1", 1_700_000_000.0, Address("10.0.0.2", 40000), Address("10.0.0.9", 5432), AGENT)
HEAD = """
identities: {acme: {cgroup: acme.service}}
targets: {db: {protocol: postgres, address: ["10.0.0.9:5432"]}}
rules:
  - {id: login, when: {effect: [session]}, do: allow}
"""
RULES = """
  - {id: ask-delete, when: {statement: [DELETE]}, do: approve, approvers: {group: dba, within: 60s}}
  - {id: no-drop, when: {effect: [drop]}, do: block}
  - {id: rest, when: {effect: [read, write, lock]}, do: allow}
"""
DELETE = "delete from t"


def rules(text: str = RULES) -> Policy:
    return config.rules([("rules.d/test.yaml", HEAD + text)], lambda name: [name])


def session(policy: Callable[[], Policy] | None = None, flow: Flow = FLOW) -> Session:
    fixed = rules()
    return Session(flow, policy or (lambda: fixed), Shared())


def opened(session: Session) -> Playbook:
    p = Playbook(session)
    p << noted("opened", identity="acme", target="db", protocol="postgres")
    return p


def idle(policy: Callable[[], Policy] | None = None) -> Playbook:
    """A session whose client has logged in."""
    p = opened(session(policy))
    p >> Received(C, pg.startup())
    p << noted("message", message="startup") << noted("decision", verdict="allow", rule="login")
    p << sent(S, pg.startup())
    p >> Received(S, pg.WELCOME)
    p.take()
    p >> Received(C, pg.query("select 0"))
    p << sent(S, has=b"current_setting('search_path')")  # a question of our own comes first
    p >> Received(S, pg.state_answer())
    p << noted("message") << noted("decision", verdict="allow") << sent(S, pg.query("select 0"))
    p >> Received(S, pg.SELECTED)
    p.take()
    return p


def ask(p: Playbook) -> Ask:
    """Send a statement that is held; return the question."""
    p >> Received(C, pg.query(DELETE))
    p << noted("message", text=DELETE) << noted("asked", verdict="approve", rule="ask-delete")
    p << noted("message", side=S, message="notice") << sent(C, has=b"holds this statement")
    (question,) = p.take()
    assert isinstance(question, Ask)
    return question


def test_an_allowed_statement_is_noted_and_goes_up_as_it_came() -> None:
    with idle() as p:
        p >> Received(C, pg.query("select 1"))
        p << noted("message", side=C, message="query", raw=pg.query("select 1"), text="select 1")
        p << noted("decision", verdict="allow", rule="rest", text="select 1")
        p << sent(S, pg.query("select 1"))
        p >> Received(S, pg.SELECTED)
        p << noted("message", side=S, message="complete", text="SELECT 1", count=1)
        p << noted("message", side=S, message="ready")
        p << sent(C, pg.SELECTED)


def test_a_blocked_statement_never_goes_up_and_fails_as_the_server_would() -> None:
    with idle() as p:
        p >> Received(C, pg.query("drop table t"))
        p << noted("message", text="drop table t") << noted("decision", verdict="block", rule="no-drop")
        (instead,) = p.take()
        assert isinstance(instead, Send)
        assert b"drop" not in instead.data
        p >> Received(S, pg.error("42601", "syntax error") + pg.ready("E"))
        p << noted("message", message="error", text="42501") << noted("message", message="ready")
        answer = p.take()[-1]
        assert isinstance(answer, Send)
        assert b"denied by vendorgate (decision f1-" in answer.data
        assert b"42501" in answer.data
        assert b"syntax" not in answer.data
        assert answer.data.endswith(pg.ready("E"))


def test_no_rule_is_a_block() -> None:
    with idle() as p:
        p >> Received(C, pg.query("grant all on t to public"))
        p << noted("message") << noted("decision", verdict="block", rule="default") << a(Send, to=S)


def test_unparsable_is_unknown_and_unknown_is_not_allowed() -> None:
    with idle() as p:
        p >> Received(C, pg.query("selec 1"))
        p << noted("message")
        decision = p.take()[0]
        assert isinstance(decision, Note)
        assert decision.decision
        assert decision.decision.verdict != "allow"
        assert decision.decision.unknown
        p.session.receive(Ended(C, lost=True), p.now)


def test_the_first_request_after_a_reload_is_read_as_its_rules_need_it() -> None:
    """Rules that begin to name columns: by the words of the text alone, a view of users is no users."""
    current = [rules()]
    with idle(lambda: current[0]) as p:
        current[0] = rules("  - {id: hide, when: {column: public.users.ssn}, do: mask}\n" + RULES)
        p >> Received(C, pg.query("select * from v"))
        p << sent(S, has=b"pg_catalog.pg_attribute")


class TestHeld:
    def test_the_reviewer_sees_the_exact_bytes_and_the_process(self) -> None:
        with idle() as p:
            question = ask(p).question
            assert question.raw == pg.query(DELETE)
            assert question.flow.process == AGENT
            assert (question.identity, question.target, question.protocol) == ("acme", "db", "postgres")
            assert question.expires - question.asked == 60
            assert question.cancel_key == pg.CANCEL_KEY

    def test_approved_it_goes_up_as_it_came(self) -> None:
        with idle() as p:
            id = ask(p).question.id
            p >> Answered(id, approved=True, by="dana")
            p << noted("answered", id=id, by="dana", has="approved") << sent(S, pg.query(DELETE))

    def test_denied_it_fails(self) -> None:
        with idle() as p:
            id = ask(p).question.id
            p >> Answered(id, approved=False, by="dana", reason="no")
            p << noted("answered", has="denied: no") << a(Send, to=S)
            p >> Received(S, pg.error("42601", "x") + pg.ready())
            assert any(isinstance(e, Send) and id.encode() in e.data for e in p.take())

    def test_silence_is_a_denial(self) -> None:
        with idle() as p:
            id = ask(p).question.id
            assert p.session.deadline == p.now + 60
            p.wait(59.9) >> Woke()
            p.wait(0.1) >> Woke()
            p << a(Withdraw, id=id) << noted("answered", by="time-out") << a(Send, to=S)
            assert p.session.deadline is None

    def test_an_approval_is_used_once(self) -> None:
        with idle() as p:
            p >> Answered(ask(p).question.id, approved=True)
            p.take()
            p >> Received(S, pg.complete("DELETE 1") + pg.ready())
            p.take()
            again = ask(p)
            p >> Answered("another id", approved=True)
            p >> Answered(again.question.id, approved=False)
            p << noted("answered") << a(Send, to=S)

    def test_what_is_behind_it_waits(self) -> None:
        with idle() as p:
            id = ask(p).question.id
            p >> Received(C, pg.query("select 2") + pg.query("drop table t"))
            assert p.session.held == len(pg.query(DELETE) + pg.query("select 2") + pg.query("drop table t")) + 3 * MESSAGE
            p >> Answered(id, approved=True)
            p << noted("answered") << sent(S, pg.query(DELETE))
            p << noted("message", text="select 2") << noted("decision", verdict="allow") << sent(S, pg.query("select 2"))
            p << noted("message", text="drop table t") << noted("decision", verdict="block") << a(Send, to=S)
            assert p.session.held == 0

    def test_cancelled_by_the_client(self) -> None:
        with idle() as p:
            id = ask(p).question.id
            p >> Answered(id, approved=False, by="the client", cancelled=True)
            p << noted("answered", has="cancelled") << a(Send, to=S)
            p >> Received(S, pg.error("42601", "x") + pg.ready())
            assert any(isinstance(e, Send) and b"57014" in e.data for e in p.take())

    def test_the_client_leaves(self) -> None:
        with idle() as p:
            id = ask(p).question.id
            p >> Ended(C)
            p << a(Withdraw, id=id) << noted("answered", has="denied") << noted("closed") << a(Close)

    def test_other_rules_void_it(self) -> None:
        current = [rules()]
        with idle(lambda: current[0]) as p:
            id = ask(p).question.id
            current[0] = rules("  - {id: no-delete, when: {statement: [DELETE]}, do: block}\n")
            p >> Answered(id, approved=True, by="dana")
            p << noted("answered", has="void")
            p << noted("decision", verdict="block", rule="no-delete") << a(Send, to=S)

    def test_it_is_void_when_the_server_reads_it_otherwise_by_now(self) -> None:
        with idle() as p:
            p >> Received(C, pg.query("delete from t where a = '\\''; drop table t; --'"))
            question = p.take()[-1]
            assert isinstance(question, Ask)
            p >> Received(S, pg.message("S", pg.text("standard_conforming_strings") + pg.text("off")))
            p.take()
            p >> Answered(question.question.id, approved=True, by="dana")
            p << noted("answered", has="void: what the request would do changed")
            p << noted("asked", verdict="approve") << noted("message", side=S) << sent(C, has=b"holds")
            p << a(Ask)  # of what is not known by now; whoever answers sees that

    def test_rules_of_the_same_files_that_say_otherwise_void_it(self) -> None:
        """Names of targets may resolve to other addresses, so the same text is not the same rules."""
        text, where = HEAD.replace("10.0.0.9:5432", "db.internal:5432") + RULES, ["10.0.0.9"]
        text = text.replace("{id: ask-delete,", "{id: ask-delete, to: db,")
        with Playbook(session(lambda: config.rules([("r.yaml", text)], lambda _: where))) as p:
            for event in (Received(C, pg.startup()), Received(S, pg.WELCOME), Received(C, pg.query(DELETE))):
                p.take()
                p >> event
            p.take()
            p >> Received(S, pg.state_answer())
            question = p.take()[-1]
            assert isinstance(question, Ask)
            where[:] = ["10.0.0.8"]
            p >> Answered(question.question.id, approved=True, by="dana")
            p << noted("answered", has="void") << noted("decision", verdict="allow", rule="rest") << a(Send, to=S)

    def test_bind_is_held_and_execute_rides_on_it(self) -> None:
        with idle() as p:
            p >> Received(C, pg.parse("delete from t where a = $1"))
            p << noted("message") << noted("decision", verdict="allow", rule="ask-delete") << a(Send, to=S)
            p >> Received(C, pg.bind("41") + pg.execute() + pg.SYNC)
            p << noted("message", message="bind") << noted("asked")
            question = p.take()[-1]
            assert isinstance(question, Ask)
            assert "41" in question.question.text
            p >> Answered(question.question.id, approved=True)
            p << noted("answered") << sent(S, pg.bind("41"))
            p << noted("message", message="execute") << noted("decision", verdict="allow") << a(Send, to=S)
            p << noted("message", message="sync") << sent(S, pg.SYNC)

    def test_a_second_bind_of_the_same_asks_again(self) -> None:
        with idle() as p:
            p >> Received(C, pg.parse("delete from t where a = $1") + pg.bind("41"))
            question = p.take()[-1]
            assert isinstance(question, Ask)
            p >> Answered(question.question.id, approved=True)
            p.take()
            p >> Received(C, pg.bind("41"))
            assert isinstance(p.take()[-1], Ask)


class TestBeforeLogin:
    def test_gss_is_answered_n(self) -> None:
        with opened(session()) as p:
            p >> Received(C, pg.GSS_REQUEST)
            p << noted("message", message="gss-request") << noted("message", text="not relayed") << sent(C, b"N")
            p >> Received(C, pg.startup())
            p << noted("message") << noted("decision", verdict="allow") << sent(S, pg.startup())

    def test_tls_refused_by_the_server_goes_on_plain(self) -> None:
        with opened(session()) as p:
            p >> Received(C, pg.SSL_REQUEST)
            p << noted("message", message="ssl-request") << sent(S, pg.SSL_REQUEST)
            p >> Received(S, b"N")
            p << noted("message", message="ssl-answer") << sent(C, b"N")
            p >> Received(C, pg.startup())
            p << noted("message") << noted("decision", verdict="allow") << sent(S, pg.startup())

    def test_tls_accepted_by_the_server_is_opened(self) -> None:
        with opened(session()) as p:
            p >> Received(C, pg.SSL_REQUEST)
            p.take()
            p >> Received(S, b"S")
            p << noted("message", message="tls") << sent(C, b"S")
            hello = client_hello("db.example")
            p >> Received(C, hello[:9]) >> Received(C, hello[9:])
            p << noted("message", has="TLS hello for db.example") << a(Open, name="db.example", data=hello)
            p >> Opened("db.example", "TLSv1.3", "")
            p << noted("message", has="TLS opened: db.example, TLSv1.3")
            p >> Received(C, pg.startup())
            p << noted("message") << noted("decision", verdict="allow") << sent(S, pg.startup())

    def test_tls_from_the_first_byte_is_opened(self) -> None:
        with opened(session()) as p:
            hello = client_hello(None, ("postgresql", "h2"))
            p >> Received(C, hello[:1]) >> Received(C, hello[1:])
            p << noted("message", has="no name") << a(Open, name="", alpn=("postgresql",), data=hello)

    def test_a_client_that_speaks_only_what_is_not_read_is_refused(self) -> None:
        with opened(session()) as p:
            p >> Received(C, client_hello("x", ("h2",)))
            p << noted("message") << noted("incident", has="speaks only h2") << sent(C, b"\x15\x03\x03\x00\x02\x02\x78")
            p << noted("closed") << a(Close)

    def test_tls_that_fails_with_the_server_is_told_to_the_client(self) -> None:
        with opened(session()) as p:
            p >> Received(C, client_hello("x"))
            p.take()
            p >> Unopened(S, "self-signed certificate")
            p << sent(C, b"\x15\x03\x03\x00\x02\x02\x28") << noted("incident", has="self-signed") << noted("closed") << a(Close)

    def test_a_client_that_refuses_our_certificate_is_an_incident(self) -> None:
        with opened(session()) as p:
            p >> Received(C, client_hello("x"))
            p.take()
            p >> Unopened(C, "unknown ca")
            p << noted("incident", has="refuses our certificate") << noted("closed") << a(Close)

    def test_tls_that_is_passed_is_judged_by_what_is_known_of_it(self) -> None:
        text = HEAD.replace("5432\"]}", "5432\"], tls: {pass: true, name: x}}") + "  - {id: pass, who: acme, to: db, do: allow}\n"
        policy = config.rules([("r.yaml", text)], lambda n: [n])
        with opened(session(lambda: policy)) as p:
            hello = client_hello("x")
            p >> Received(C, hello)
            p << noted("message", has="TLS hello for x") << noted("decision", verdict="allow", rule="pass") << sent(S, hello)
            p >> Received(S, b"\x16 sealed") << sent(C, b"\x16 sealed")
            p >> Received(C, b"more") << sent(S, b"more")
            text = text.replace("pass: true, ", "")
            policy = config.rules([("r.yaml", text)], lambda n: [n])
            p >> Received(C, b"more") << noted("closed", has="no longer pass") << a(Close)

    @pytest.mark.parametrize("rule", ["", "  - {id: reads, to: db, when: {effect: read}, do: allow}\n", "  - {id: b, to: db, when: {table: x}, do: block}\n"])
    def test_tls_is_not_passed_by_a_rule_that_looks_inside(self, rule: str) -> None:
        policy = config.rules([("r.yaml", HEAD.replace("5432\"]}", "5432\"], tls: pass}") + rule)], lambda n: [n])
        with opened(session(lambda: policy)) as p:
            p >> Received(C, client_hello("x"))
            p << noted("message") << noted("decision", verdict="block") << noted("closed") << a(Close)

    @pytest.mark.parametrize("name", ["y", None])
    def test_tls_for_another_name_is_not_passed(self, name: str | None) -> None:
        text = HEAD.replace("5432\"]}", "5432\"], tls: {pass: true, name: x}}") + "  - {id: pass, to: db, do: allow}\n"
        policy = config.rules([("r.yaml", text)], lambda n: [n])
        with opened(session(lambda: policy)) as p:
            p >> Received(C, client_hello(name))
            p << noted("message") << noted("incident", has="not passed unread") << a(Send, to=C) << noted("closed") << a(Close)

    def test_no_hello_is_an_error(self) -> None:
        with opened(session()) as p:
            p >> Received(C, b"\x16\x03\x01\x00\x04\x02\x00\x00\x00")
            p << noted("incident", has="hello") << noted("message", message="error") << a(Send, to=C) << noted("closed") << a(Close)

    def test_a_login_no_rule_allows_is_refused(self) -> None:
        policy = config.rules([("r.yaml", HEAD.replace("effect: [session]", "user: [other], effect: [session]"))], lambda n: [n])
        with opened(session(lambda: policy)) as p:
            p >> Received(C, pg.startup())
            p << noted("message") << noted("decision", verdict="block", rule="default")
            p << noted("message", message="error") << sent(C, has=b"denied by vendorgate") << noted("closed") << a(Close)

    def test_a_login_that_never_ends_is_ended(self) -> None:
        with opened(session()) as p:
            assert p.session.deadline == p.now + LOGIN_S
            p >> Received(C, pg.startup())
            p.take()
            p.wait(LOGIN_S) >> Woke()
            p << noted("incident", has="no login") << noted("message", message="error") << a(Send, to=C)
            p << noted("closed") << a(Close)

    def test_a_login_that_ended_has_no_deadline(self) -> None:
        with idle() as p:
            assert p.session.deadline is None

    def test_a_cancel_request_is_judged_told_and_passed(self) -> None:
        with opened(session()) as p:
            p >> Received(C, pg.CANCEL_REQUEST)
            p << noted("message", message="cancel") << noted("decision", verdict="allow")
            p << a(Cancel, key=pg.CANCEL_KEY, server=FLOW.server) << sent(S, pg.CANCEL_REQUEST)

    def test_nobodys_process_is_nobody(self) -> None:
        stranger = Flow("f2", 0.0, FLOW.client, FLOW.server, None)
        only_acme = config.rules([("r.yaml", HEAD.replace("id: login,", "id: login, who: acme,"))], lambda n: [n])
        with Playbook(session(lambda: only_acme, stranger)) as p:
            p << noted("opened", identity="") << noted("decision", verdict="block") << noted("closed") << a(Close, abort=True)


class TestMalformed:
    def test_a_bad_message_ends_its_flow_with_an_incident(self) -> None:
        with idle() as p:
            p >> Received(C, b"\xff\xff\xff\xff\xff\xff\xff\xff")
            p << noted("incident", side=C) << noted("message", message="error") << sent(C, has=b"08P01")
            p << noted("closed") << a(Close)

    def test_it_does_not_undo_an_allowed_one_before_it(self) -> None:
        with idle() as p:
            p >> Received(C, pg.query("select 1") + b"\xff\xff\xff\xff\xff")
            p << noted("message") << noted("decision", verdict="allow") << sent(S, pg.query("select 1"))
            p << noted("incident") << noted("message", message="error") << a(Send, to=C) << noted("closed") << a(Close)

    def test_a_bad_server_does_not_undo_what_it_said_before(self) -> None:
        with idle() as p:
            p >> Received(C, pg.query("select 1"))
            p.take()
            p >> Received(S, pg.described("n") + b"\x01\x01\x01\x01\x01\x01")
            p << noted("message", message="describe") << sent(C, pg.described("n"))
            p << noted("incident", side=S) << noted("message", message="error") << a(Send, to=C) << noted("closed") << a(Close)


class TestEnds:
    def test_half_close_is_kept(self) -> None:
        with idle() as p:
            p >> Received(C, pg.TERMINATE)
            p << noted("message", message="terminate") << sent(S, pg.TERMINATE)
            p >> Ended(C)
            p << a(Shut, to=S)
            p >> Ended(S)
            p << noted("closed") << a(Close, abort=False)

    def test_with_both_ends_gone_what_waits_goes_too(self) -> None:
        with idle() as p:
            p >> Received(C, pg.query("set search_path = x") + pg.query("select 2"))  # the second waits for the first
            p.take()
            p >> Ended(S)
            p << a(Shut, to=C)
            p >> Ended(C)
            p << noted("closed") << a(Close, abort=False)

    def test_a_lost_side_loses_the_other(self) -> None:
        with idle() as p:
            p >> Ended(S, lost=True)
            p << noted("closed") << a(Close, abort=True)

    def test_a_record_that_cannot_be_written_ends_it_with_an_error(self) -> None:
        p = idle()
        effects = p.session.fail("the record cannot be written")
        assert any(isinstance(e, Send) and b"record" in e.data for e in effects)
        assert isinstance(effects[-1], Close)


class TestRaw:
    RAW = """
  - {id: raw, to: "10.0.0.9:5432", do: allow, inspect: false}
"""

    def test_bytes_pass_and_only_the_connection_is_noted(self) -> None:
        policy = config.rules([("r.yaml", "rules:" + self.RAW)], lambda n: [n])
        with Playbook(session(lambda: policy)) as p:
            p << noted("opened") << noted("decision", verdict="allow", rule="raw")
            p >> Received(C, b"anything")
            p << sent(S, b"anything")
            p >> Received(S, b"\0\1")
            p << sent(C, b"\0\1")

    def test_rules_that_no_longer_pass_it_end_it(self) -> None:
        current = [config.rules([("r.yaml", "rules:" + self.RAW)], lambda n: [n])]
        with Playbook(session(lambda: current[0])) as p:
            p.take()
            current[0] = rules()
            p >> Received(C, b"anything")
            p << noted("closed", has="rules") << a(Close, abort=True)


SCRIPT = b"".join(
    [
        pg.query("select 1"),
        pg.query("drop table t"),
        pg.parse("select $1::int", "s") + pg.bind("5", name="s") + pg.execute() + pg.SYNC,
        pg.parse("drop table t") + pg.bind() + pg.execute() + pg.SYNC,
        pg.query("select 'é' /* ; */"),
        pg.query("selec"),
        pg.TERMINATE,
    ]
)


def outcome(cuts: list[int]) -> tuple[list[tuple[str, str, str]], bytes, bytes]:
    """Feed SCRIPT cut at `cuts`; return decisions, bytes up, bytes down."""
    live = idle().session
    effects: list[Effect] = []
    edges = [0, *sorted(set(cuts)), len(SCRIPT)]
    for start, end in pairwise(edges):
        effects += live.receive(Received(C, SCRIPT[start:end]), 0.0)
    effects += live.receive(Received(S, pg.SELECTED), 0.0)
    decided = [(e.decision.verdict, e.decision.rule, e.text) for e in effects if isinstance(e, Note) and e.decision]
    up = b"".join(e.data for e in effects if isinstance(e, Send) and e.to is S)
    return decided, up, b"".join(e.data for e in effects if isinstance(e, Send) and e.to is C)


WHOLE = outcome([])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, len(SCRIPT)), max_size=12))
def test_cutting_the_stream_anywhere_changes_no_verdict_and_no_byte(cuts: list[int]) -> None:
    assert outcome(cuts) == WHOLE


def test_byte_by_byte() -> None:
    assert outcome(list(range(len(SCRIPT)))) == WHOLE


def test_the_script_is_judged_at_all() -> None:
    verdicts = [verdict for verdict, _, _ in WHOLE[0]]
    assert "block" in verdicts
    assert "allow" in verdicts
    assert b"drop" not in WHOLE[1]


@pytest.mark.parametrize("side", [C, S])
@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
def test_rubbish_never_leaves_the_session(side: Side, data: bytes) -> None:
    live = session()
    live.start(0.0, 0.0)
    live.receive(Received(C, pg.startup()), 0.0)
    live.receive(Received(S, pg.WELCOME), 0.0)
    effects = live.receive(Received(side, data), 0.0)
    ups = [e.data for e in effects if isinstance(e, Send) and e.to is S]
    allowed = [e for e in effects if isinstance(e, Note) and e.kind == "decision"]
    assert side is S or not ups or allowed or all(data[:1] in b"SHXpcdf" for data in ups)
