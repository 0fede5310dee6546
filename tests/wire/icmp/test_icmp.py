"""ICMP by rule: type, code, size, rate."""

import pytest

from appliance.config import rules
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.facts.words.icmp import TYPES as WORDS
from appliance.model import Address, Close, Flow, Message, Note, Process, Received, Send, Side
from appliance.session import Session
from appliance.wire.icmp import TYPES
from tests.session.playbook import Playbook

C, S = Side.CLIENT, Side.SERVER
AGENT = Process(7, 1, "/usr/bin/ping", (), "acme.service", 1000)
RULES = """
    targets: {hosts: {protocol: icmp, address: 10.0.0.0/8}, hosts6: {protocol: icmp, address: "fd00::/8"}}
    rules:
      - {id: flood, to: [hosts, hosts6], when: {rate: {gt: 60}}, do: block}
      - {id: ping, to: [hosts, hosts6], when: {type: echo, code: 0, size: {le: 64}}, do: allow}
"""


def ping(data: bytes = bytes(56), kind: int = 8) -> bytes:
    return bytes((kind, 0)) + b"\x12\x34\0\1\0\1" + data


def session(host: str = "10.0.0.9", text: str = RULES) -> Playbook:
    policy = rules([("r.yaml", text)], lambda host: [])
    flow = Flow("f1", 0.0, Address(host, 0), Address(host, 0), AGENT, transport="icmp")
    p = Playbook(Session(flow, lambda: policy, Shared()))
    p.take()
    return p


def goes(p: Playbook, data: bytes) -> bool:
    p >> Received(C, data)
    return any(isinstance(effect, Send) and effect.to is S and effect.data == data for effect in p.take())


def test_types_have_one_name_in_rules_and_on_the_wire() -> None:
    assert {*TYPES.values(), "other"} == set(WORDS)


@pytest.mark.parametrize(("host", "kind"), [("10.0.0.9", 8), ("fd00::9", 128)])
def test_a_ping_and_what_answers_it(host: str, kind: int) -> None:
    p = session(host)
    assert goes(p, ping(kind=kind))
    reply = ping(kind=0 if kind == 8 else 129)
    p >> Received(S, reply)
    assert [effect.data for effect in p.take() if isinstance(effect, Send)] == [reply]


@pytest.mark.parametrize(
    "data", [ping(bytes(57)), ping(kind=13), ping(kind=0), ping(kind=200), b"\x08\1" + ping()[2:]],
    ids=["long", "timestamp", "reply", "unnamed", "code"],
)  # fmt: skip
def test_what_no_rule_allows_does_not_go(data: bytes) -> None:
    p = session()
    assert not goes(p, data)
    assert goes(p, ping()), "and the flow lives on"


def test_elsewhere_nothing_goes() -> None:
    policy = rules([("r.yaml", RULES)], lambda host: [])
    flow = Flow("f1", 0.0, Address("192.0.2.1", 0), Address("192.0.2.1", 0), AGENT, transport="icmp")
    p = Playbook(Session(flow, lambda: policy, Shared()))
    assert any(isinstance(effect, Close) for effect in p.take())


def test_a_flood_ends_at_its_rate() -> None:
    p = session()
    assert [goes(p, ping()) for _ in range(62)] == [True] * 60 + [False] * 2


def test_half_a_message_is_a_violation() -> None:
    p = session()
    p >> Received(C, b"\x08\0\0")
    assert any(isinstance(effect, Note) and effect.kind == "incident" for effect in p.take())


def test_a_message_as_a_person_types_it() -> None:
    facts = open_reader("icmp", Shared()).ask(Message(C, "query", b"", text="echo 0 1400"))
    assert facts is not None
    assert [facts.values[key] for key in ("type", "code", "size")] == [{"echo"}, {"0"}, {"1400"}]
