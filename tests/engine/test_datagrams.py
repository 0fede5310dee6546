"""Datagrams through the kernel's queue: allowed, refused, held, answered, changed by nobody else."""

import contextlib
import socket
import time
from collections.abc import Iterator

import msgspec
import pytest

from appliance.lab.hosts import Lab
from appliance.model import Address
from appliance.packet.table import PATIENCE_S
from appliance.service.lane import Limits
from tests.engine.gate import Gate
from tests.engine.peers import made, udp
from tests.gate import AGENT

pytestmark = pytest.mark.kernel

RULES = """
identities:
  acme: {{cgroup: acme.service}}
targets:
  it: {{protocol: udp, address: ["{address}"]}}
rules:
  - {{id: no-secrets, to: it, when: {{begins: "5345*"}}, do: block}}
  - {{id: ask, to: it, when: {{begins: "41534b*"}}, do: approve, approvers: {{group: dba, within: 60s}}}}
  - {{id: small, who: acme, to: it, when: {{size: {{lt: 60000}}}}, do: allow}}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def rules(address: tuple[str, int]) -> str:
    return RULES.format(address=str(Address(*address)))


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_what_is_allowed_goes_and_its_answer_comes(lab: Lab, six: bool) -> None:
    with udp(lab, lambda data: [data[::-1]], six) as (address, seen), Gate(lab, rules(address)) as gate:
        with made(lab, "host", socket.SOCK_DGRAM, six) as client:
            client.connect(address)
            for size in (0, 1, 1400, 30_000):
                client.send(b"x" * size)
                assert client.recv(70_000) == b"x" * size
        assert [len(data) for data in seen] == [0, 1, 1400, 30_000]
        assert gate.verdicts() == [("allow", "small")] * 4
        sent = [note for note in gate.of("message") if note.side and note.side.value == "client"]
        assert [len(note.raw) for note in sent] == [0, 1, 1400, 30_000]
        flow = gate.notes[0][0]
        assert (flow.transport, flow.server.port) == ("udp", address[1])
        assert flow.process and flow.process.cgroup == "acme.service"


def test_what_is_refused_goes_nowhere_and_its_sender_is_told(lab: Lab) -> None:
    with udp(lab, lambda data: [data]) as (address, seen), Gate(lab, rules(address)) as gate:
        with made(lab, "host", socket.SOCK_DGRAM) as client:
            client.connect(address)
            client.send(b"SECRET")
            with pytest.raises(ConnectionRefusedError):
                client.recv(100)
            client.send(b"fine")
            assert client.recv(100) == b"fine"
        assert seen == [b"fine"]
        assert gate.verdicts() == [("block", "no-secrets"), ("allow", "small")]


def test_what_is_held_waits_and_what_comes_behind_it_too(lab: Lab) -> None:
    with udp(lab, lambda data: [data]) as (address, seen), Gate(lab, rules(address)) as gate:
        with made(lab, "host", socket.SOCK_DGRAM) as client:
            client.connect(address)
            client.send(b"ASK 1")
            client.send(b"behind")
            gate.until(lambda: gate.questions and gate.lanes.shown()["waiting"] == 2)
            assert seen == []
            assert gate.questions[0].raw == b"ASK 1"
            gate.say(gate.questions[0], True)
            assert [client.recv(100), client.recv(100)] == [b"ASK 1", b"behind"]
            client.send(b"ASK 2")
            gate.until(lambda: len(gate.questions) == 2)
            gate.say(gate.questions[1], False)
            with pytest.raises(ConnectionRefusedError):
                client.recv(100)
        assert seen == [b"ASK 1", b"behind"]
        gate.until(lambda: gate.lanes.shown()["waiting"] == 0)


def test_nothing_unrecorded_goes_on(lab: Lab) -> None:
    with udp(lab, lambda data: [data]) as (address, seen), Gate(lab, rules(address)) as gate:
        with made(lab, "host", socket.SOCK_DGRAM) as client:
            client.connect(address)
            client.send(b"one")
            assert client.recv(100) == b"one"
            gate.unwritable = True
            client.send(b"two")
            with pytest.raises(ConnectionRefusedError):
                client.recv(100)
        assert seen == [b"one"]
        assert any("cannot be written" in text for text in gate.incidents)


def test_an_unknown_process_is_refused(lab: Lab) -> None:
    with udp(lab, lambda data: [data]) as (address, seen), Gate(lab, rules(address), process=None) as gate:
        with made(lab, "host", socket.SOCK_DGRAM) as client:
            client.connect(address)
            client.send(b"one")
            with pytest.raises(ConnectionRefusedError):
                client.recv(100)
        assert seen == []
        assert gate.lanes.counts.refused == 1


def test_an_error_of_the_network_comes_to_the_sender(lab: Lab) -> None:
    """A port nobody listens on: the target's ICMP is about a flow that was allowed, and is let in."""
    with udp(lab, lambda data: []) as (address, _seen):
        pass
    with Gate(lab, rules(address)) as gate, made(lab, "host", socket.SOCK_DGRAM) as client:
        client.connect(address)
        client.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        assert gate.verdicts() == [("allow", "small")]


def test_behind(lab: Lab) -> None:
    """So many datagrams wait behind one that is held; more are refused."""
    limits = Limits(behind=2)
    with udp(lab, lambda data: [data]) as (address, seen), Gate(lab, rules(address), limits=limits) as gate:
        with made(lab, "host", socket.SOCK_DGRAM) as client:
            client.connect(address)
            for text in (b"ASK", b"1", b"2"):
                client.send(text)
            gate.until(lambda: gate.lanes.shown()["waiting"] == 3)
            client.send(b"3")
            with pytest.raises(ConnectionRefusedError):
                client.recv(100)
            gate.say(gate.questions[0], True)
            assert [client.recv(100) for _ in range(3)] == [b"ASK", b"1", b"2"]
        assert seen == [b"ASK", b"1", b"2"]


def test_held_s(lab: Lab) -> None:
    """A packet waits no longer than that, whatever the rule says."""
    with udp(lab, lambda data: [data]) as (address, seen), Gate(lab, rules(address), limits=Limits(held_s=0.5)) as gate:
        with made(lab, "host", socket.SOCK_DGRAM) as client:
            client.connect(address)
            client.send(b"ASK")
            with pytest.raises(ConnectionRefusedError):
                client.recv(100)
        assert seen == []
        assert "packets wait no longer than 0.5 s" in gate.of("answered")[0].text


@pytest.mark.parametrize("limits", [Limits(flows=2, share=0.5), Limits(packets=2, share=0.5), Limits(memory=4000, share=0.5)], ids=["flows", "packets", "memory"])
def test_what_one_vendor_may_take_is_limited(lab: Lab, limits: Limits) -> None:
    with udp(lab, lambda data: [data]) as (address, seen), Gate(lab, rules(address), limits=limits) as gate:
        clients = [made(lab, "host", socket.SOCK_DGRAM) for _ in range(4)]
        for client in clients:
            client.connect(address)
            client.send(b"ASK" + bytes(1000))
        with pytest.raises(ConnectionRefusedError):
            clients[-1].recv(2000)
        assert seen == []
        for client in clients:
            client.close()
        assert gate.lanes.counts.full or any("too much of this vendor waits" in text for text in gate.incidents)


def test_what_one_vendor_is_refused_takes_no_room_from_others(lab: Lab) -> None:
    limits = Limits(flows=4, share=0.5)
    with (
        udp(lab, lambda data: [data]) as (address, seen),
        Gate(lab, rules(address).replace("who: acme, ", ""), limits=limits) as gate,
        contextlib.ExitStack() as clients,
    ):
        for number in range(40):
            client = clients.enter_context(made(lab, "host", socket.SOCK_DGRAM))
            client.connect(address)
            client.send(b"mine %d" % number)
        gate.until(lambda: gate.lanes.counts.accepted == 40)
        gate.process = msgspec.structs.replace(AGENT, cgroup="other.service")
        with made(lab, "host", socket.SOCK_DGRAM) as other:
            other.connect(address)
            other.send(b"theirs")
            assert other.recv(100) == b"theirs"
        assert gate.lanes.counts.full and len(seen) < 40


def test_what_is_held_outlives_the_silence_that_ends_a_flow(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PATIENCE_S, "udp", 2.0)  # and the server's answer may take as long
    with udp(lab, lambda data: [data]) as (address, _seen), Gate(lab, rules(address)) as gate:
        with made(lab, "host", socket.SOCK_DGRAM) as client:
            client.connect(address)
            client.send(b"ASK")
            gate.until(lambda: gate.questions)
            time.sleep(5)  # more than twice the silence: nothing tells that the flow is not forgotten
            gate.say(gate.questions[0], True)
            assert client.recv(100) == b"ASK"
