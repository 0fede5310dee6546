"""Connections that are not terminated: judged, blocked by resets, held, masked, and what a peer may not do in them."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from appliance.lab.hosts import Lab
from appliance.model import Address, Close, Effect, Event, Flow, Note, Received, Send, Side
from appliance.relay.session_type import Session
from appliance.service.lane import Limits
from tests.engine.gate import Gate
from tests.engine.peers import made, tcp

pytestmark = pytest.mark.kernel

RULES = """
identities:
  acme: {{cgroup: acme.service}}
targets:
  web: {{protocol: http, mode: packet, address: ["{address}"]}}
rules:
  - {{id: no-delete, to: web, when: {{method: DELETE}}, do: block}}
  - {{id: ask, to: web, when: {{method: PUT}}, do: approve, approvers: {{group: dba, within: 60s}}}}
  - {{id: cards, to: web, when: {{detect: [credit_card]}}, do: mask, with: keep-last-4}}
  - {{id: rest, who: acme, to: web, when: {{method: [GET, POST]}}, do: allow}}
"""
CARD = b"4111111111111111"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def rules(address: tuple[str, int]) -> str:
    return RULES.format(address=Address(*address))


class Web:
    """A small server of HTTP/1.1; `seen` are the requests that reach it, `gone` is set when one is reset."""

    def __init__(self, body: bytes = b"hello") -> None:
        self.body, self.seen = body, []
        self.seen: list[bytes] = []
        self.gone = threading.Event()

    def __call__(self, sock: socket.socket) -> None:
        data = b""
        try:
            while True:
                more = sock.recv(65536)
                if not more:
                    return
                data += more
                while b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
                    while len(data) < length:
                        data += sock.recv(65536)
                    self.seen.append(head + b"\r\n\r\n" + data[:length])
                    data = data[length:]
                    size = len(self.body)
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % size)
                    sock.sendall(self.body)
        except ConnectionResetError:
            self.gone.set()


def request(method: str = "GET", body: bytes = b"") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} /x HTTP/1.1\r\nHost: web\r\n{length}\r\n".encode() + body


def answer(sock: socket.socket) -> bytes:
    """Read one response; return its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += some(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += some(sock)
    return body


def some(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    assert data, "the connection has ended"
    return data


@contextlib.contextmanager
def client(lab: Lab, address: tuple[str, int]) -> Iterator[socket.socket]:
    with made(lab, "host", socket.SOCK_STREAM) as sock:
        sock.connect(address)
        yield sock


def test_what_is_allowed_goes_and_is_recorded(lab: Lab) -> None:
    web = Web(b"y" * 9000)
    with tcp(lab, web) as address, Gate(lab, rules(address)) as gate:
        with client(lab, address) as sock:
            for _ in range(3):
                sock.sendall(request())
                assert answer(sock) == b"y" * 9000
        gate.until(lambda: gate.of("closed"))
        assert web.seen == [request()] * 3
        assert gate.verdicts() == [("allow", "rest")] * 3
        sent = b"".join(note.raw for note in gate.of("message") if note.side and note.side.value == "client")
        assert sent == request() * 3
        assert gate.of("closed")[0].text == "ended"
        gate.until(lambda: gate.lanes.flows == 0)
        assert gate.lanes.shown()["waiting"] == 0


def test_a_block_resets_both_ends_and_nothing_arrives(lab: Lab) -> None:
    web = Web()
    with tcp(lab, web) as address, Gate(lab, rules(address)) as gate:
        with client(lab, address) as sock:
            sock.sendall(request())
            assert answer(sock) == b"hello"
            sock.sendall(request("DELETE"))
            with pytest.raises(ConnectionResetError):
                sock.recv(100)
        assert web.gone.wait(10), "the server was not reset"
        assert web.seen == [request()]
        assert gate.verdicts() == [("allow", "rest"), ("block", "no-delete")]


def test_what_waits_is_released_or_refused(lab: Lab) -> None:
    web = Web()
    with tcp(lab, web) as address, Gate(lab, rules(address)) as gate:
        with client(lab, address) as sock:
            sock.sendall(request("PUT", b"one"))
            gate.until(lambda: gate.questions)
            time.sleep(1)  # the kernel tries again meanwhile
            assert web.seen == []
            gate.say(gate.questions[0], True)
            assert answer(sock) == b"hello"
            assert web.seen == [request("PUT", b"one")]
            sock.sendall(request("PUT", b"two"))
            gate.until(lambda: len(gate.questions) == 2)
            gate.say(gate.questions[1], False)
            with pytest.raises(ConnectionResetError):
                sock.recv(100)
        assert web.gone.wait(10)
        assert web.seen == [request("PUT", b"one")]


def test_a_mask_keeps_the_length(lab: Lab) -> None:
    web = Web(b"card " + CARD + b" end")  # a text; masks of what comes as it comes would be framed anew
    with tcp(lab, web) as address, Gate(lab, rules(address)) as gate, client(lab, address) as sock:
        for _ in range(2):
            sock.sendall(request())
            assert answer(sock) == b"card ************1111 end"
        assert all(CARD not in note.raw for note in gate.of("message"))
        assert sum(note.masked for note in gate.of("message")) >= 2


LONG = 200_000  # bytes; a server sends some 14,000 before it waits for an acknowledgement


class Whole:
    """A session whose protocol has answers of LONG bytes, each of which it reads whole before it sends it."""

    deadline: float | None = None
    held = 0

    def __init__(self, unmasked: bool) -> None:
        self.unmasked = unmasked
        self._answer = b""

    def start(self, now: float, wall: float) -> list[Effect]:
        return [Note("opened")]

    def receive(self, event: Event, now: float) -> list[Effect]:
        if not isinstance(event, Received):
            return [Note("closed"), Close(abort=True)]
        if event.side is Side.CLIENT:
            return [Note("message", side=Side.CLIENT, raw=event.data), Send(Side.SERVER, event.data)]
        self._answer += event.data
        if len(self._answer) < LONG:
            return []
        whole, self._answer = self._answer[:LONG], self._answer[LONG:]
        return [Note("message", side=Side.SERVER, raw=whole), Send(Side.CLIENT, whole)]

    def fail(self, text: str) -> list[Effect]:
        return [Note("closed"), Close(abort=True)]


class WholeGate(Gate):
    """Puts such sessions in."""

    unmasked = True

    def _session(self, flow: Flow) -> Session:
        return Whole(self.unmasked)


def answers(sock: socket.socket) -> None:
    while sock.recv(65536):
        sock.sendall(b"v" * LONG)


def test_an_answer_longer_than_its_server_sends_at_once(lab: Lab) -> None:
    """Where nothing masks it, it goes on in parts, and is judged and recorded whole."""
    with tcp(lab, answers) as address, WholeGate(lab, rules(address)) as gate:
        with client(lab, address) as sock:
            for _ in range(2):
                sock.sendall(b"more")
                data = b""
                while len(data) < LONG:
                    data += some(sock)
                assert data == b"v" * LONG
        gate.until(lambda: sum(note.raw == b"v" * LONG for note in gate.of("message")) == 2)
        assert any(note.message == "part" for note in gate.of("message"))
        assert gate.incidents == []


def test_one_that_a_mask_may_touch_does_not(lab: Lab) -> None:
    WholeGate.unmasked = False
    try:
        with tcp(lab, answers) as address, WholeGate(lab, rules(address), limits=Limits(stall_s=1.0)) as gate:
            with client(lab, address) as sock:
                sock.sendall(b"more")
                with pytest.raises(ConnectionResetError):
                    sock.recv(100)
            assert all(note.message != "part" for note in gate.of("message"))
    finally:
        WholeGate.unmasked = True


def test_a_request_longer_than_its_client_sends_at_once_ends_its_connection(lab: Lab) -> None:
    """It cannot be judged in parts, and nobody here acknowledges it."""
    web = Web()
    with tcp(lab, web) as address, Gate(lab, rules(address), limits=Limits(stall_s=1.0)) as gate:
        with client(lab, address) as sock, pytest.raises((ConnectionResetError, BrokenPipeError)):
            sock.sendall(request("POST", b"x" * 500_000))
            sock.recv(100)
        assert web.seen == []
        assert any("does not become whole" in text for text in gate.incidents)


def test_a_connection_refused_at_connect(lab: Lab) -> None:
    with tcp(lab, Web()) as address, Gate(lab, rules(("10.77.0.2", 9))), pytest.raises(ConnectionRefusedError), client(lab, address):
        pass


def test_a_request_in_pieces_is_judged_whole(lab: Lab) -> None:
    web = Web()
    with tcp(lab, web) as address, Gate(lab, rules(address)), client(lab, address) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request():
            sock.sendall(bytes([byte]))
        assert answer(sock) == b"hello"
        assert web.seen == [request()]


def test_urgent_data_ends_the_connection(lab: Lab) -> None:
    web = Web()
    with tcp(lab, web) as address, Gate(lab, rules(address)) as gate, client(lab, address) as sock:
        sock.send(b"!", socket.MSG_OOB)
        with pytest.raises(ConnectionResetError):
            sock.recv(100)
        assert any("urgent" in text for text in gate.incidents), gate.incidents


def test_stall_s(lab: Lab) -> None:
    """A message that does not become whole ends its connection."""
    with tcp(lab, Web()) as address, Gate(lab, rules(address), limits=Limits(stall_s=0.5)) as gate:
        with client(lab, address) as sock:
            sock.sendall(b"GET /x HT")
            with pytest.raises(ConnectionResetError):
                sock.recv(100)
        assert any("does not become whole" in text for text in gate.incidents)


def test_silent_s(lab: Lab) -> None:
    with tcp(lab, Web()) as address, Gate(lab, rules(address), limits=Limits(silent_s=0.5)), client(lab, address) as sock, pytest.raises(ConnectionResetError):
        sock.recv(100)


def test_nothing_unrecorded_goes_on(lab: Lab) -> None:
    web = Web()
    with tcp(lab, web) as address, Gate(lab, rules(address)) as gate, client(lab, address) as sock:
        sock.sendall(request())
        assert answer(sock) == b"hello"
        gate.unwritable = True
        sock.sendall(request())
        with pytest.raises(ConnectionResetError):
            sock.recv(100)
        assert web.seen == [request()]


def wait(what: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)
