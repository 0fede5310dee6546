"""What a process without rights tries against connections that are not terminated."""

import asyncio
import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Awaitable, Iterator

import msgspec
import pytest

from appliance.kernel.networks import inside
from appliance.kernel.queue import BATCH
from appliance.lab.hosts import NAMESPACES, Lab
from appliance.model import Address, Close, Effect, Ended, Event, Flow, Note, Received, Send, Shut
from appliance.relay.session_type import Session
from appliance.service import lanes
from appliance.service.lane import Limits
from tests.engine.gate import Gate
from tests.engine.peers import made, tcp
from tests.engine.test_streams import Web, answer, client, request, rules
from tests.gate import AGENT

pytestmark = pytest.mark.kernel

EVERY = 3  # ETH_P_ALL
UDP = """
targets:
  it: {{protocol: udp, address: ["{address}"]}}
rules:
  - {{id: all, to: it, do: allow}}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@contextlib.contextmanager
def wire(lab: Lab) -> Iterator[list[bytes]]:
    """Yield the IP packets that leave for the target, as they come."""
    seen: list[bytes] = []
    ready, stop = threading.Event(), threading.Event()

    def listen() -> None:
        with here(lab, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(EVERY)) as sock:
            sock.settimeout(0.05)
            ready.set()
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    data, place = sock.recvfrom(70_000)
                    if place[2] == socket.PACKET_OUTGOING:
                        seen.append(data)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield seen
    finally:
        stop.set()
        thread.join(20)


@pytest.mark.parametrize("way", ["sendfile", "zerocopy"])
def test_what_is_changed_after_it_was_judged_does_not_arrive(lab: Lab, way: str) -> None:
    """A request is held, approved, and in its packet there are pages that its client has changed meanwhile."""
    web = Web()
    asked = request("PUT", b"a" * 2000)
    with tcp(lab, web) as address, Gate(lab, rules(address)) as gate, client(lab, address) as sock, tempfile.TemporaryFile() as file:
        pages = bytearray(asked)
        if way == "sendfile":
            file.write(asked)
            file.flush()
            os.sendfile(sock.fileno(), file.fileno(), 0, len(asked))
        else:
            sock.setsockopt(socket.SOL_SOCKET, 60, 1)  # SO_ZEROCOPY
            sock.send(pages, 0x4000000)  # MSG_ZEROCOPY
        gate.until(lambda: gate.questions)
        if way == "sendfile":
            os.pwrite(file.fileno(), b"b" * 2000, len(asked) - 2000)
        else:
            pages[-2000:] = b"b" * 2000
        gate.say(gate.questions[0], True)
        assert answer(sock) == b"hello"
    assert web.seen == [asked]


def test_what_comes_after_the_end_begins_no_other_flow(lab: Lab) -> None:
    """The last packet of a connection, once more: the kernel says it again when its answer was lost."""
    web = Web()
    with tcp(lab, web) as address, Gate(lab, rules(address)) as gate:
        with wire(lab) as sent, client(lab, address) as sock:
            sock.sendall(request())
            assert answer(sock) == b"hello"
            sock.close()
            gate.until(lambda: gate.of("closed"))
        gate.until(lambda: gate.lanes.flows == 0)
        ours = [one for one in sent if one[0] >> 4 == 4 and one[9] == 6]
        fins = [one for one in ours if one[33] & 1]
        again(lab, [*fins, ours[-1], *(one for one in ours if len(one) > 60 and b"GET" in one)])
        with client(lab, address) as other:
            other.sendall(request())
            assert answer(other) == b"hello"
        gate.until(lambda: len(gate.of("closed")) == 2)
        assert len(gate.of("opened")) == 2
    assert web.seen == [request()] * 2


def test_connections_that_are_over_take_nobodys_room(lab: Lab) -> None:
    web = Web()
    with tcp(lab, web) as address, Gate(lab, rules(address), limits=Limits(flows=2, share=0.9)) as gate:
        for number in range(8):
            with client(lab, address) as sock:
                sock.sendall(request())
                assert answer(sock) == b"hello"
            gate.until(lambda number=number: len(gate.of("closed")) == number + 1)
    assert len(web.seen) == 8


class Known(Gate):
    """Takes what a client says as it comes."""

    def _session(self, flow: Flow) -> Session:
        return Passing()


class Passing:
    deadline: float | None = None
    held = 0

    def start(self, now: float, wall: float) -> list[Effect]:
        return [Note("opened")]

    def receive(self, event: Event, now: float) -> list[Effect]:
        if isinstance(event, Received):
            return [Send(event.side.other, event.data)]
        return [Shut(event.side.other)] if isinstance(event, Ended) else []

    def fail(self, text: str) -> list[Effect]:
        return [Close(abort=True)]


@contextlib.contextmanager
def deaf(lab: Lab) -> Iterator[None]:
    """Meanwhile servers say nothing but SYN-ACKs."""
    words = ["-p", "tcp", "--tcp-flags", "SYN", "NONE", "-j", "DROP"]
    done = lab.run(["iptables-nft", "-A", "OUTPUT", *words], where="target", capture_output=True)
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        lab.run(["iptables-nft", "-F", "OUTPUT"], where="target")


def test_a_server_that_has_acknowledged_nothing_is_reset(lab: Lab) -> None:
    """A reset counts at the very next number only, and the bytes before it have gone on."""
    took, gone = threading.Event(), threading.Event()

    def serve(sock: socket.socket) -> None:
        left = 8000
        try:
            while data := sock.recv(65536):
                left -= len(data)
                if not left:
                    took.set()
        except ConnectionResetError:
            gone.set()

    with tcp(lab, serve) as address, Known(lab, rules(address)) as gate, client(lab, address) as sock, deaf(lab):
        sock.sendall(b"x" * 8000)
        assert took.wait(20)
        gate.call(lambda: gate.lanes.fail("enough"))
        assert gone.wait(20)


def test_what_a_server_does_not_acknowledge_is_of_its_clients_vendor(lab: Lab) -> None:
    """All of it is kept, to see whether the same is sent again: one vendor's is not to fill what others need."""
    limits = Limits(memory=20_000, share=0.5)
    with tcp(lab, echo) as address, Known(lab, rules(address), limits=limits) as gate, contextlib.ExitStack() as clients:
        with deaf(lab):
            socks = [clients.enter_context(client(lab, address)) for _ in range(2)]
            for sock in socks:
                sock.sendall(b"x" * 8000)
            gate.until(lambda: "too much of this vendor waits" in gate.incidents)
            assert gate.lanes.flows == 1
        gate.process = msgspec.structs.replace(AGENT, cgroup="other.service")
        with tcp(lab, echo) as other, client(lab, other) as sock:
            sock.sendall(b"theirs")
            assert sock.recv(100) == b"theirs"


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def test_bytes_of_a_syn_are_judged_before_it_goes(lab: Lab) -> None:
    """TCP Fast Open (RFC 7413), as any process may use it: the first connection brings a cookie, the next ones data."""
    for where in ("host", "target"):
        lab.run(["sh", "-c", "echo 3 >/proc/sys/net/ipv4/tcp_fastopen"], where=where)
    web = Web()
    with tcp(lab, web, fast=True) as address, Gate(lab, rules(address)) as gate, wire(lab) as sent:
        for method in ("GET", "GET", "DELETE", "GET"):
            with made(lab, "host", socket.SOCK_STREAM) as sock:
                sock.setblocking(True)  # else it does not wait for the cookie
                if method == "DELETE":
                    with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
                        sock.sendto(request(method), socket.MSG_FASTOPEN, address), sock.recv(100)
                else:
                    sock.sendto(request(method), socket.MSG_FASTOPEN, address)
                    assert answer(sock) == b"hello"
        gate.until(lambda: len(gate.of("closed")) == 4)
        gate.until(lambda: any(len(one) > 33 and one[33] & 2 and b"GET" in one for one in sent))  # data went in a SYN
        assert not any(b"DELETE" in one for one in sent)
    assert web.seen == [request()] * 3


def test_what_is_refused_gives_its_place_back(lab: Lab) -> None:
    web = Web()
    limits = Limits(flows=2, share=0.9, refused_s=0.1)
    with tcp(lab, web) as address, Gate(lab, rules(address), limits=limits) as gate:

        def judged(number: int) -> bool:
            with contextlib.suppress(ConnectionError), client(lab, address) as sock:
                sock.sendall(request("DELETE"))
                sock.recv(100)
            return len(gate.verdicts()) >= number

        for number in range(1, 5):
            gate.until(lambda number=number: judged(number))
    assert web.seen == []


class Slow(Gate):
    """Finds out whose a flow is when it is told to."""

    def _identify(self, mark: int, transport: str, client: Address, server: Address, since: int) -> Awaitable[Flow | None]:  # type: ignore[override]
        flow = super()._identify(mark, transport, client, server, since)

        async def found() -> Flow | None:
            while self.process is None:
                await asyncio.sleep(0.01)
            return msgspec.structs.replace(flow, process=self.process) if flow else None

        self.process = None
        return found()


@pytest.mark.parametrize(("name", "most"), [("BACKLOG", 2), ("BACKLOGS", 1)])
def test_backlogs(lab: Lab, name: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets that wait until it is known whose they are: of one flow, and of all."""
    monkeypatch.setattr(lanes, name, most)
    address = (lab.target_ip, 7)
    with Slow(lab, UDP.format(address=Address(*address))) as gate, made(lab, "host", socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        for text in (b"1", b"2", b"3"):
            sock.send(text)
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)
        assert gate.lanes.figures["backlog"] == 1
        gate.process = AGENT
        gate.until(lambda: len(gate.of("message")) == 2)


def test_a_turn_is_short_where_packets_take_long(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    address = (lab.target_ip, 7)
    with Gate(lab, UDP.format(address=Address(*address))) as gate, made(lab, "host", socket.SOCK_DGRAM) as sock:
        for limit, turn in ((0.0, 1), (60.0, BATCH)):
            monkeypatch.setattr(lanes, "TURN_S", limit)
            for number in range(6):
                before = len(gate.of("message"))
                sock.sendto(b"%d" % number, address)
                gate.until(lambda before=before: len(gate.of("message")) > before)
            gate.until(lambda turn=turn: gate.lanes._turn == turn)


def again(lab: Lab, packets: list[bytes]) -> None:
    """Send whole packets as root may."""
    with here(lab, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for packet in packets:
            raw.sendto(packet, (lab.target_ip, 0))


def here(lab: Lab, *kind: int) -> socket.socket:
    """Return a socket of the host's namespace."""
    namespace = os.open(NAMESPACES / lab.host, os.O_RDONLY)
    try:
        return inside(namespace, lambda: socket.socket(*kind))
    finally:
        os.close(namespace)
