"""One Redis flow as a script: holds, order, transactions, secrets, and that nothing depends on the cuts of the stream."""

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
    Flow,
    Note,
    Process,
    Received,
    Send,
    Side,
    Woke,
)
from appliance.policy import Policy
from appliance.session import Session
from tests.session.playbook import Playbook, a, noted, sent
from tests.wire.redis.dialogues import HELLO_3, OK, QUEUED, bulk, cmd, many, strings, told
from tests.wire.redis.test_refusals import REFUSED, UNKNOWN

C, S = Side.CLIENT, Side.SERVER
AGENT = Process(7, 1, "/usr/bin/agent", ("agent",), "acme.service", 1000)
FLOW = Flow("f1", 1_700_000_000.0, Address("10.0.0.2", 40000), Address("10.0.0.9", 6379), AGENT)
HEAD = """
identities: {acme: {cgroup: acme.service}}
targets: {cache: {protocol: redis, address: ["10.0.0.9:6379"]}}
rules:
"""
RULES = """
  - {id: no-flush, to: cache, when: {effect: [flush, admin]}, do: block}
  - {id: ask, to: cache, when: {effect: delete}, do: approve, approvers: {group: ops, within: 60s}}
  - {id: hide, to: cache, when: {key: "user:*"}, do: mask}
  - {id: own, to: cache, when: {key: "mod:*"}, do: allow}
  - {id: rest, to: cache, when: {effect: [read, write, session, status, transaction, script, acl, config]}, do: allow}
"""


def rules(text: str = RULES) -> Policy:
    return config.rules([("rules.d/test.yaml", HEAD + text)], lambda name: [name])


def session(text: str = RULES) -> Session:
    policy = rules(text)
    return Session(FLOW, lambda: policy, Shared())


def begun(text: str = RULES) -> Playbook:
    play = Playbook(session(text))
    play.take()
    return play


def bytes_to(side: Side, effects: list[Effect]) -> bytes:
    return b"".join(e.data for e in effects if isinstance(e, Send) and e.to is side)


def test_allow_and_block() -> None:
    with begun() as p:
        p >> Received(C, cmd("GET", "k"))
        p << noted("message", side=C, text="GET k") << noted("decision", verdict="allow", rule="rest") << sent(S, cmd("GET", "k"))
        p >> Received(S, bulk("v"))
        p << noted("message", side=S, raw=bulk("v")) << sent(C, bulk("v"))
        p >> Received(C, cmd("FLUSHALL"))
        p << noted("message", side=C) << noted("decision", verdict="block", rule="no-flush") << sent(S, REFUSED)
        p >> Received(S, UNKNOWN)
        p << noted("message", message="error", has="NOPERM") << sent(C, has=b"-NOPERM denied by vendorgate (decision f1-2)")


def test_an_empty_command_goes_up_unjudged() -> None:
    with begun() as p:
        p >> Received(C, b"\r\n")
        p << noted("message", message="nothing") << sent(S, b"\r\n")


def test_what_is_held_holds_what_is_behind_it() -> None:
    with begun() as p:
        p >> Received(C, cmd("GET", "a") + cmd("DEL", "a") + cmd("GET", "a"))
        p << noted("message") << noted("decision") << sent(S, cmd("GET", "a"))
        p << noted("message", text="DEL a") << noted("asked") << a(Ask)
        p >> Received(S, bulk("v"))
        p << noted("message") << sent(C, bulk("v"))
        p >> Answered("f1-2", True, "dana")
        p << noted("answered", text="approved")
        assert bytes_to(S, p.take()) == cmd("DEL", "a") + cmd("GET", "a")


def test_ask_then_silence_is_a_denial_in_order() -> None:
    with begun() as p:
        p >> Received(C, cmd("DEL", "a") + cmd("GET", "a"))
        p.take()
        p.wait(60) >> Woke()
        assert bytes_to(S, p.take()) == REFUSED + cmd("GET", "a")
        p >> Received(S, UNKNOWN + bulk("v"))
        said = bytes_to(C, p.take())
        assert said.startswith(b"-NOPERM denied by vendorgate (question f1-1)")
        assert said.endswith(bulk("v"))


def test_held_inside_a_transaction() -> None:
    with begun() as p:
        p >> Received(C, cmd("MULTI") + cmd("SET", "a", "1") + cmd("DEL", "b") + cmd("EXEC"))
        assert bytes_to(S, p.take()) == cmd("MULTI") + cmd("SET", "a", "1")
        p >> Answered("f1-3", False, "dana")
        assert bytes_to(S, p.take()) == REFUSED + cmd("EXEC")
        p >> Received(S, OK + QUEUED + UNKNOWN + b"-EXECABORT no\r\n")
        assert bytes_to(C, p.take()).endswith(b"-EXECABORT no\r\n")


def test_a_held_command_is_cancelled_by_the_id_of_its_client() -> None:
    with begun() as p:
        p >> Received(C, cmd("HELLO", "3"))
        p.take()
        p >> Received(S, HELLO_3)
        p.take()
        p >> Received(C, cmd("DEL", "a"))
        (question,) = [e.question for e in p.take() if isinstance(e, Ask)]
        assert question.cancel_key == b"42"
        p >> Answered(question.id, False, "the client", cancelled=True)
        assert bytes_to(S, p.take()) == REFUSED
        p >> Received(S, UNKNOWN)
        assert bytes_to(C, p.take()).startswith(b"-ERR cancel")
    other = begun("  - {id: all, do: allow}\n")
    other >> Received(C, cmd("CLIENT", "UNBLOCK", "42"))
    assert [e for e in other.take() if isinstance(e, Cancel)] == [Cancel(FLOW.server, b"42")]


def test_commands_behind_select_wait_for_its_answer() -> None:
    text = "  - {id: zero, to: cache, when: {effect: read, database: '0'}, do: block}\n  - {id: rest, do: allow}\n"
    with begun(text) as p:
        p >> Received(C, cmd("SELECT", "1") + cmd("GET", "k"))
        assert bytes_to(S, p.take()) == cmd("SELECT", "1")
        p >> Received(S, OK)
        assert bytes_to(S, p.take()) == cmd("GET", "k")
        p >> Received(S, bulk("v"))
        p.take()
        p >> Received(C, cmd("SELECT", "0") + cmd("GET", "k"))
        p.take()
        p >> Received(S, b"-ERR DB index is out of range\r\n")
        assert bytes_to(S, p.take()) == cmd("GET", "k")


def test_keys_of_a_command_not_known_are_asked_of_the_server() -> None:
    with begun() as p:
        p >> Received(C, cmd("MOD.GET", "mod:1"))
        p << sent(S, cmd("COMMAND", "GETKEYS", "MOD.GET", "mod:1"))
        p >> Received(S, strings("mod:1"))
        p << noted("message", text="MOD.GET mod:1") << noted("decision", verdict="block", rule="no-flush") << sent(S, REFUSED)
    with begun("  - {id: own, to: cache, when: {key: 'mod:*'}, do: allow}\n") as p:
        p >> Received(C, cmd("MOD.GET", "mod:1") + cmd("MOD.GET", "user:1"))
        p << sent(S, cmd("COMMAND", "GETKEYS", "MOD.GET", "mod:1"))
        p >> Received(S, strings("mod:1"))
        p << noted("message") << noted("decision", verdict="allow", rule="own") << sent(S, cmd("MOD.GET", "mod:1"))
        p.take()


def test_mask_and_guard() -> None:
    with begun() as p:
        p >> Received(C, cmd("MGET", "user:1", "a"))
        p.take()
        p >> Received(S, strings("secret", "open"))
        p << noted("message", side=S, masked=1, masks=("hide",), raw=strings("[redacted]", "open")) << sent(C, strings("[redacted]", "open"))
        for words in (("GETRANGE", "user:1", "0", "0"), ("COPY", "user:1", "a"), ("EVAL", "return redis.call('GET', KEYS[1])", "1", "user:1")):
            p >> Received(C, cmd(*words))
            p << noted("message") << noted("decision", verdict="block", rule="hide") << sent(S, REFUSED)
            p >> Received(S, UNKNOWN)
            p.take()


def test_a_transaction_is_masked_command_by_command() -> None:
    with begun() as p:
        p >> Received(C, cmd("MULTI") + cmd("GET", "user:1") + cmd("GET", "a") + cmd("EXEC"))
        p.take()
        p >> Received(S, OK + QUEUED + QUEUED + many("*", bulk("secret"), bulk("open")))
        effects = p.take()
        assert bytes_to(C, effects) == OK + QUEUED + QUEUED + many("*", bulk("[redacted]"), bulk("open"))
        assert [(n.masked, n.masks) for n in effects if isinstance(n, Note)] == [(1, ("hide",))]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("AUTH", "acme", "s3cret"), OK),
        (("HELLO", "3", "AUTH", "acme", "s3cret"), HELLO_3),
        (("CONFIG", "GET", "requirepass"), strings("requirepass", "s3cret")),
        (("ACL", "GETUSER", "acme"), strings("passwords", "s3cret")),
    ],
)
def test_no_password_is_recorded(words: tuple[str, ...], answer: bytes) -> None:
    play = begun()
    play >> Received(C, cmd(*words))
    effects = play.take()
    assert bytes_to(S, effects) == cmd(*words)
    play >> Received(S, answer)
    effects += play.take()
    assert bytes_to(C, effects) == answer
    assert "s3cret" not in repr([e for e in effects if isinstance(e, Note)])


def test_no_reviewer_sees_a_password() -> None:
    play = begun("  - {id: ask, to: cache, do: approve, approvers: {group: ops, within: 60s}}\n")
    play >> Received(C, cmd("AUTH", "acme", "s3cret"))
    (question,) = [e.question for e in play.take() if isinstance(e, Ask)]
    assert (question.raw, question.text) == (b"", "AUTH acme (redacted)")
    play >> Answered(question.id, True, "dana")
    assert bytes_to(S, play.take()) == cmd("AUTH", "acme", "s3cret")


def test_an_error_of_the_protocol_ends_the_flow_in_its_words() -> None:
    with begun() as p:
        p >> Received(C, b"*1\r\n:1\r\n")
        p << noted("incident", has="no bulk string") << noted("message", message="error") << sent(C, has=b"-ERR protocol violation")
        p << noted("closed") << a(Close)


def test_a_flow_that_waits_needs_no_login() -> None:
    with begun() as p:
        p >> Received(C, cmd("PING"))
        p.take()
        assert p.session.deadline is None


STREAM = (
    cmd("GET", "user:1") + cmd("MULTI") + cmd("SET", "a", "1") + cmd("FLUSHALL") + cmd("EXEC") + b"GET a\r\n" + cmd("MGET", "a", "user:1")
    + b"PING\r\n\r\n" + cmd("CONFIG", "SET", "dir", "/") + cmd("LRANGE", "user:2", "0", "-1")
)  # fmt: skip
ANSWERS = (
    bulk("secret") + OK + QUEUED + UNKNOWN + b"-EXECABORT no\r\n" + bulk("1") + strings("1", "secret") + b"+PONG\r\n" + UNKNOWN
    + strings("secret", "s", "")
)  # fmt: skip


def play_cut(places: list[int]) -> tuple[bytes, bytes, list[tuple[str, str]]]:
    """Play the stream cut at these places; return what went up and down, and the decisions."""
    flow = session()
    flow.start(100.0, 1_700_000_000.0)
    out: list[Effect] = []
    for side, data in ((C, STREAM), (S, ANSWERS)):
        marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
        for one, other in pairwise(marks):
            out += flow.receive(Received(side, data[one:other]), 101.0)
    decided = [(n.decision.verdict, n.decision.rule) for n in out if isinstance(n, Note) and n.kind == "decision" and n.decision]
    return bytes_to(S, out), bytes_to(C, out), decided


@given(st.lists(st.integers(0, 10_000), max_size=10))
@settings(max_examples=100, deadline=None)
def test_cuts_change_nothing(places: list[int]) -> None:
    whole = play_cut([])
    assert b"secret" not in whole[1]
    assert b"FLUSHALL" not in whole[0]
    assert play_cut(places) == whole


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (b"-MOVED 3999 10.0.0.9:6379\r\n", ""),
        (b"-MOVED 3999 :6379\r\n", ""),
        (b"-MOVED 3999 10.0.0.7:6379\r\n", "10.0.0.7:6379, which is of no target"),
        (b"-ASK 3999 [2001:db8::1]:6379\r\n", "[2001:db8::1]:6379, which is of no target"),
        (b"-MOVED 3999 other.example:6379\r\n", "other.example:6379, which is of no target"),
    ],
)
def test_a_redirect_out_of_the_target_is_an_incident(error: bytes, where: str) -> None:
    play = begun()
    play >> Received(C, cmd("GET", "k"))
    play.take()
    play >> Received(S, error)
    effects = play.take()
    assert bytes_to(C, effects) == error
    incidents = [e.text for e in effects if isinstance(e, Note) and e.kind == "incident"]
    assert [where in text for text in incidents] == ([True] if where else [])


def test_what_masks_a_subscription_is_named_however_long_it_lasts() -> None:
    play = begun("  - {id: cards, to: cache, when: {detect: credit_card}, do: mask}\n  - {id: rest, do: allow}\n")
    play >> Received(C, cmd("SUBSCRIBE", "news"))
    play.take()
    play >> Received(S, told("subscribe", "news", 1))
    play.take()
    for _ in range(3):
        play >> Received(C, cmd("PING"))
        play.take()
        play >> Received(S, strings("pong", "") + strings("message", "news", "card 4111111111111111"))
        (note,) = [e for e in play.take() if isinstance(e, Note)]
        assert (note.masked, note.masks) == (1, ("cards",))
