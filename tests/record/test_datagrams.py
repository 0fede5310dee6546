"""Sessions of UDP and ICMP as a capture: Wireshark reads them, and finds verdicts at the datagrams they judged."""

import json
from pathlib import Path

import dpkt
import msgspec
import pytest

from appliance.model import Address, Decision, Flow, Note
from appliance.record.datagrams import MOST, Datagrams
from tests.record.samples import PSQL, C, S, T, closed
from tests.record.test_pcapng import complaints, export, fields, frames, needs_tshark, tshark

DNS = Flow("u1", T, Address.of("10.0.3.5", 40001), Address.of("10.0.3.53", 53), PSQL, transport="udp")
DNS6 = Flow("u6", T, Address.of("fd77::5", 40001), Address.of("fd77::53", 53), PSQL, transport="udp")
PING = Flow("i1", T, Address.of("10.0.3.5", 0), Address.of("10.0.3.2", 0), PSQL, transport="icmp")
NO_EVIL = Decision("block", "no-evil", "dns.yaml", "r1", reason="not there")
ALL = Decision("allow", "all", "dns.yaml", "r1")


def question(name: str) -> bytes:
    return bytes(dpkt.dns.DNS(id=7, rd=1, qd=[dpkt.dns.DNS.Q(name=name)]))


def answer(name: str) -> bytes:
    record = dpkt.dns.DNS.RR(name=name, type=1, cls=1, ttl=60, rdata=b"\x0a\0\0\1")
    record.ip = b"\x0a\0\0\1"
    return bytes(dpkt.dns.DNS(id=7, qr=1, qd=[dpkt.dns.DNS.Q(name=name)], an=[record]))


def asks(name: str, decision: Decision) -> list[Note]:
    return [Note("message", name, C, "question", question(name), count=1), Note("decision", name, decision=decision, id="u1-1")]


OPENED = Note("opened", "10.0.3.5:40001 -> 10.0.3.53:53", identity="acme", target="resolver", protocol="dns")
TALK = [OPENED, *asks("good.example", ALL), Note("message", side=S, message="answer", raw=answer("good.example")),
        *asks("evil.example", NO_EVIL), Note("incident", "a tunnel?"), closed("idle")]  # fmt: skip


def comments(path: Path) -> list[list[str]]:
    packets = json.loads(tshark(path, "-T", "json", "-e", "frame.comment"))
    return [packet["_source"]["layers"].get("frame.comment", []) for packet in packets]


@needs_tshark
@pytest.mark.parametrize("flow", [DNS, DNS6], ids=["IPv4", "IPv6"])
def test_dns_in_wireshark(tmp_path: Path, flow: Flow) -> None:
    path = export(tmp_path / "f.pcapng", frames(TALK, flow))
    assert complaints(path) == ""
    names = [row[0] for row in fields(path, "dns.qry.name")]
    assert names == ["good.example", "good.example", "evil.example"]
    first, second, third = comments(path)
    assert "identity: acme" in first[0] and any("verdict: allow" in one for one in first)
    assert not second
    assert any("verdict: block" in one for one in third) and any("tunnel" in one for one in third)
    assert any("closed: idle" in one for one in third), "the end has no packet of its own"


@needs_tshark
def test_a_ping_in_wireshark(tmp_path: Path) -> None:
    request = bytes(dpkt.icmp.ICMP(type=8, data=dpkt.icmp.ICMP.Echo(id=1, seq=1, data=b"x" * 32)))
    reply = bytes(dpkt.icmp.ICMP(type=0, data=dpkt.icmp.ICMP.Echo(id=1, seq=1, data=b"x" * 32)))
    notes = [Note("message", "echo", C, "echo", request, count=1), Note("message", side=S, message="echo", raw=reply), closed()]
    path = export(tmp_path / "f.pcapng", frames([msgspec.structs.replace(OPENED, protocol="icmp"), *notes], PING))
    assert complaints(path) == ""
    assert [row[0] for row in fields(path, "icmp.type")] == ["8", "0"]


@needs_tshark
def test_a_session_that_goes_on_and_one_beside_it(tmp_path: Path) -> None:
    other = msgspec.structs.replace(DNS, id="u2", client=Address.of("10.0.3.6", 40002))
    mixed = [frame for pair in zip(frames(TALK[:-1], DNS), frames(TALK[:-1], other), strict=True) for frame in pair]
    path = export(tmp_path / "f.pcapng", mixed)
    assert len(fields(path, "dns.qry.name")) == 6 and complaints(path) == ""
    assert sum("tunnel" in one for packet in comments(path) for one in packet) == 2


@needs_tshark
def test_what_was_not_recorded_is_as_long_as_it_was(tmp_path: Path) -> None:
    found = frames([OPENED, Note("message", "", S, "answer", b""), closed()], DNS)
    found[1] = msgspec.structs.replace(found[1], dropped=500)
    path = export(tmp_path / "f.pcapng", found)
    assert fields(path, "frame.len", "udp.length") == [["528", "508"]]
    assert any("not recorded: 500 bytes" in one for one in comments(path)[0])


def test_a_session_that_said_nothing_is_no_packet(tmp_path: Path) -> None:
    path = export(tmp_path / "f.pcapng", frames([OPENED, closed()], DNS))
    assert b"resolver" not in path.read_bytes()


def test_what_is_longer_than_a_datagram_may_be_is_several() -> None:
    made = Datagrams(DNS.client, DNS.server, "u1", "udp")
    assert [len(p.data) for p in made.say(S, T, bytes(MOST + 1))] == [65_535, 29]
