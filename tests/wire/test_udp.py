"""Datagrams of protocols nobody reads here, alone and in a session."""

import pytest

from appliance.config import rules
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.model import Address, Flow, Message, Note, Process, ProtocolError, Received, Send, Side
from appliance.session import Session
from appliance.wire.detect import open as open_wire
from appliance.wire.udp import MAX_DATAGRAM, MAX_PLANS
from tests.session.playbook import Playbook, noted, sent

C, S = Side.CLIENT, Side.SERVER
AGENT = Process(7, 1, "/usr/bin/agent", (), "acme.service", 1000)
NTP = Address("10.0.0.5", 123)
ASK = bytes([0x23]) + bytes(47)


def session(text: str, shared: Shared | None = None, process: Process = AGENT, server: Address = NTP) -> Playbook:
    policy = rules([("r.yaml", text)], lambda host: [])
    flow = Flow("f1", 0.0, Address("10.0.0.1", 40000), server, process, transport="udp")
    return Playbook(Session(flow, lambda: policy, shared or Shared()))


def test_each_datagram_is_one_message_an_empty_one_too() -> None:
    wire = open_wire("udp", "udp")
    for side in Side:
        for data in (b"", b"x", bytes(MAX_DATAGRAM)):
            [message] = wire.feed(side, data)
            assert (message.side, message.raw, message.kind) == (side, data, "datagram")


def test_no_datagram_is_longer_than_its_length_field_can_say() -> None:
    with pytest.raises(ProtocolError, match="over 65535 bytes"):
        list(open_wire("udp", "udp").feed(C, bytes(MAX_DATAGRAM + 1)))


def test_what_nobody_knows_is_told_to_be_udp() -> None:
    wire = open_wire("", "udp", 9999)
    assert [m.raw for m in wire.feed(C, b"hello")] == [b"hello"]
    assert wire.name == "udp"


def test_a_protocol_of_streams_is_not_spoken_in_datagrams() -> None:
    with pytest.raises(KeyError):
        open_wire("postgres", "udp")


def test_udp_is_never_told_from_a_stream() -> None:
    with pytest.raises(ProtocolError, match="no protocol known"):
        list(open_wire("").feed(C, b"\xff" * 5000))


def test_ntp_by_size_and_first_byte() -> None:
    text = """
        targets: {time: {protocol: udp, address: "10.0.0.5:123"}}
        rules: [{id: ntp, to: time, when: {size: 48, begins: ["1b*", "23*"]}, do: allow}]
    """
    with session(text) as p:
        p << noted("opened")
        p >> Received(C, ASK)
        p << noted("message") << noted("decision", verdict="allow", rule="ntp") << sent(S, ASK)
        p >> Received(S, ASK)
        p << noted("message") << sent(C, ASK)
        p >> Received(C, ASK + b"secrets")
        p << noted("message") << noted("decision", verdict="block", rule="default")
        p >> Received(C, b"\x1f" + ASK[1:])
        p << noted("message") << noted("decision", verdict="block")
        p >> Received(C, ASK)
        p << noted("message") << noted("decision", verdict="allow") << sent(S, ASK)


LIMITED = """
    targets: {time: {protocol: udp, address: "10.0.0.0/8:123"}}
    rules:
      - {id: %s, to: time, when: {%s: {gt: %d}}, do: block}
      - {id: ok, to: time, do: allow}
"""


def verdict(p: Playbook, data: bytes = ASK) -> str:
    p.take()
    p >> Received(C, data)
    [rule] = [effect.decision.rule for effect in p.take() if isinstance(effect, Note) and effect.decision]
    return rule


def test_rate_is_of_one_minute() -> None:
    p = session(LIMITED % ("rate", "rate", 10))
    assert [verdict(p) for _ in range(11)] == ["ok"] * 10 + ["rate"]
    p.wait(121)
    assert verdict(p) == "ok"


def test_bytes_are_of_one_hour_and_both_ways() -> None:
    p = session(LIMITED % ("much", "bytes", 1000))
    assert verdict(p, bytes(400)) == "ok"
    p.take()
    p >> Received(S, bytes(500))
    assert verdict(p, bytes(200)) == "much"
    assert verdict(p, bytes(100)) == "ok"
    p.wait(1800)
    assert verdict(p, bytes(1)) == "much"
    p.wait(1801)
    assert verdict(p, bytes(400)) == "ok"


def test_what_was_refused_is_not_counted() -> None:
    p = session(LIMITED % ("much", "bytes", 100))
    assert [verdict(p, bytes(101)) for _ in range(5)] == ["much"] * 5
    assert verdict(p, bytes(100)) == "ok"


def test_a_unit_cannot_dodge_by_more_processes_and_flows() -> None:
    shared, found = Shared(), []
    for pid in range(20):
        child = Process(pid, pid, "/bin/sh", (), f"acme.service/child-{pid}", 1000)
        found.append(verdict(session(LIMITED % ("unit", "unit_rate", 10), shared, child)))
    assert found == ["ok"] * 10 + ["unit"] * 10


def test_processes_are_counted_apart() -> None:
    shared = Shared()
    other = Process(8, 1, "/usr/bin/agent", (), "acme.service", 1000)
    assert [verdict(session(LIMITED % ("rate", "rate", 1), shared)) for _ in range(2)] == ["ok", "rate"]
    assert verdict(session(LIMITED % ("rate", "rate", 1), shared, other)) == "ok"


def test_detectors_look_into_datagrams() -> None:
    text = """
        rules:
          - {id: cards, when: {detect: [credit_card]}, do: block}
          - {id: ok, to: 10.0.0.0/8, do: allow}
    """
    p = session(text)
    assert verdict(p, b"<13>paid with 4111 1111 1111 1111") == "cards"
    assert verdict(p, b"<13>paid") == "ok"


def test_a_datagram_as_a_person_types_it() -> None:
    reader = open_reader("udp", Shared())
    facts = reader.ask(Message(C, "query", b"", text="1b00"))
    assert facts is not None
    assert (facts.values["size"], facts.values["begins"]) == (frozenset(("2",)), frozenset(("1b00",)))
    facts = reader.ask(Message(C, "query", b"", text="<13>hello"))
    assert facts is not None
    assert facts.values["size"] == frozenset(("9",))


MASKED = """
targets: {{it: {{protocol: udp, address: "10.0.0.5:123"}}}}
rules:
  {masks}
  - {{id: all, to: it, do: allow}}
"""
MASK = '- {{id: m{0}, to: it, when: {{begins: "{0:02x}*", detect: [credit_card]}}, do: mask, with: redact}}\n'


def said(p: Playbook, side: Side, data: bytes) -> bytes | None:
    """Return what goes on of a datagram."""
    p.take()
    p >> Received(side, data)
    return next((effect.data for effect in p.take() if isinstance(effect, Send)), None)


def test_an_answer_is_masked_as_any_datagram_before_it_asks() -> None:
    """It may answer any of them: which, nobody knows."""
    p = session(MASKED.format(masks=MASK.format(0x51)))
    assert said(p, C, b"Q the cards") == b"Q the cards"
    assert said(p, C, b"something else") == b"something else"
    assert said(p, S, b"4111111111111111") == b"[redacted]"


def test_max_plans() -> None:
    """What would be masked in more ways than that is not sent."""
    p = session(MASKED.format(masks="  ".join(MASK.format(one) for one in range(MAX_PLANS + 1))))
    for one in range(MAX_PLANS):
        assert said(p, C, bytes((one,))) == bytes((one,))
    assert said(p, C, bytes((MAX_PLANS,))) is None
