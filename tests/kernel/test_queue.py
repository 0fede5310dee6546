"""The queue by itself, in a namespace with a rule of its own: what comes, what is said of it, and what gets lost."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from appliance.kernel import nft, queue, queued, table
from appliance.kernel.layout import QUEUE_MARK, QUEUE_TAG
from appliance.kernel.passage import drawn
from appliance.kernel.queue import INPUT, LARGEST, OUTPUT, Queue, Queued
from appliance.lab.hosts import HOST_IP, TARGET_IP, Lab
from appliance.model import HostError
from tests.kernel.stage import Inside

pytestmark = pytest.mark.kernel

NUMBER = 77
PORT = 9009
WAIT_S = 20.0  # for what must come


class Wire:
    """A socket on either side; all UDP and TCP that the host sends or takes goes through queue NUMBER."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self._stack = lab, ExitStack()
        self.host, self.target = Inside(lab.host), Inside(lab.target)
        self.near = self.host(lambda: self._socket(HOST_IP))
        self.far = self.target(lambda: self._socket(TARGET_IP))

    def _socket(self, host: str) -> socket.socket:
        sock = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.setsockopt(socket.SOL_SOCKET, 32, 1 << 24)  # SO_SNDBUFFORCE: what is held counts as not sent
        sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        sock.bind((host, PORT))
        sock.settimeout(WAIT_S)
        return sock

    def send(self, data: bytes) -> None:
        self.near.sendto(data, (TARGET_IP, PORT))

    def silent(self) -> bool:
        """Return whether nothing has come to the far side."""
        self.far.settimeout(0.2)
        try:
            self.far.recv(70000)
        except TimeoutError:
            return True
        finally:
            self.far.settimeout(WAIT_S)
        return False

    def close(self) -> None:
        self._stack.close()
        self.host.close()
        self.target.close()


def script(port: int, mark: int, brief: bool, number: int | None, native: bool) -> str:
    """A table of our name with nothing but the way to the queue."""
    chains = "".join(f"chain {name} {{ {'; '.join(rules)}\n}}\n" for name, _hook, rules in queued.sink(number or 0, native))
    return (
        f"{nft.removal()}table inet {nft.TABLE} {{\n{chains}"
        "chain out { type filter hook output priority 0; meta l4proto { tcp, udp } goto sink\n}\n"
        "chain in { type filter hook input priority 0; meta l4proto { tcp, udp } goto sink\n}\n}\n"
    )


@pytest.fixture(scope="module")
def module_wire(lab: Lab) -> Iterator[Wire]:
    wire = Wire(lab)
    try:
        wire.host(table.apply, script, 0, 0, NUMBER)
        yield wire
        wire.host(nft.apply, nft.removal())
    finally:
        wire.close()


@pytest.fixture
def wire(module_wire: Wire) -> Iterator[Wire]:
    yield module_wire
    for sock in (module_wire.near, module_wire.far):
        sock.settimeout(0)
        while True:
            try:
                sock.recv(70000)
            except OSError:
                break
        sock.settimeout(WAIT_S)


@contextmanager
def opened(wire: Wire, **settings: int) -> Iterator[Queue]:
    held = wire.host(lambda: Queue.open(NUMBER, **settings))
    with held:
        yield held


def come(held: Queue, number: int = 1) -> list[Queued]:
    """Return so many packets, once they have come."""
    found: list[Queued] = []
    until = time.monotonic() + WAIT_S
    while len(found) < number and time.monotonic() < until:
        found += held.read(number - len(found)) or time.sleep(0.005) or []
    assert len(found) == number
    return found


def said(held: Queue, *verdicts: Callable[[], None]) -> None:
    for verdict in verdicts:
        verdict()
    held.flush()


def test_accepted_with_a_mark(wire: Wire) -> None:
    with opened(wire) as held:
        wire.send(b"hello")
        [packet] = come(held)
        assert packet.hook == OUTPUT and packet.uid == os.getuid() and packet.mark == 0 and packet.data.endswith(b"hello")
        assert packet.device > 0 and not packet.truncated
        said(held, lambda: held.verdict(packet.id, True, mark=5))
        assert wire.far.recv(100) == b"hello"
        wire.far.sendto(b"answer", (HOST_IP, PORT))
        [packet] = come(held)
        assert packet.hook == INPUT and packet.uid is None
        said(held, lambda: held.verdict(packet.id, True))
        assert wire.near.recv(100) == b"answer"
        assert held.losses.total == 0


def test_dropped(wire: Wire) -> None:
    with opened(wire) as held:
        wire.send(b"hello")
        [packet] = come(held)
        said(held, lambda: held.verdict(packet.id, False))
        assert wire.silent()


def test_many_verdicts_in_one_message_each_its_own(wire: Wire) -> None:
    with opened(wire) as held:
        for number in range(100):
            wire.send(b"%d" % number)
        packets = come(held, 100)
        for packet in packets:
            held.verdict(packet.id, int(packet.data[28:]) % 2 == 0)
        assert wire.silent()  # nothing before flush()
        held.flush()
        assert [wire.far.recv(100) for _ in range(50)] == [b"%d" % number for number in range(0, 100, 2)]
        assert wire.silent() and held.losses.total == 0


def test_other_bytes_in_its_place_longer_and_shorter(wire: Wire) -> None:
    with opened(wire) as held:
        for text in (b"REDACTED, all of it", b"-"):
            wire.send(b"secret")
            [packet] = come(held)
            head = bytearray(packet.data[:28])
            head[2:4] = (28 + len(text)).to_bytes(2, "big")
            head[10:12] = bytes(2)
            head[10:12] = checksum(bytes(head[:20]))
            head[24:28] = (8 + len(text)).to_bytes(2, "big") + bytes(2)  # UDP over IPv4 may go without a checksum
            whole = bytes(head) + text
            said(held, lambda whole=whole, packet=packet: held.verdict(packet.id, True, data=whole))  # type: ignore[misc]
            assert wire.far.recv(100) == text


def checksum(data: bytes) -> bytes:
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    return (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "big")


def test_a_large_datagram_comes_whole(wire: Wire) -> None:
    """In python's NetfilterQueue it is cut at 4,016 bytes and passed whole."""
    with opened(wire) as held:
        wire.send(b"x" * 60000)
        [packet] = come(held)
        assert len(packet.data) == 60028 and not packet.truncated
        said(held, lambda: held.verdict(packet.id, True))
        assert wire.far.recv(70000) == b"x" * 60000


def test_what_does_not_fit_into_a_message_is_dropped_whatever_is_said(wire: Wire) -> None:
    with opened(wire) as held:
        wire.send(b"x" * (LARGEST + 1 - 28))
        [packet] = come(held)
        assert packet.truncated and held.losses.truncated == 1
        said(held, lambda: held.verdict(packet.id, True, mark=7, data=packet.data))
        assert wire.silent()
        wire.send(b"x" * (LARGEST - 28))
        [packet] = come(held)
        assert not packet.truncated
        with pytest.raises(ValueError, match="at most"):
            held.verdict(packet.id, True, data=bytes(LARGEST + 1))
        said(held, lambda: held.verdict(packet.id, True))
        assert len(wire.far.recv(70000)) == LARGEST - 28


def test_nobody_listens(wire: Wire) -> None:
    wire.send(b"hello")
    assert wire.silent()


def test_what_waits_when_it_is_closed_is_dropped(wire: Wire) -> None:
    with opened(wire) as held:
        wire.send(b"hello")
        come(held)
    assert wire.silent()


def test_length_is_a_limit_and_what_is_beyond_is_counted(wire: Wire) -> None:
    with opened(wire, length=10) as held:
        for _ in range(25):
            wire.send(b"hello")
        packets = come(held, 10)
        assert held.losses.full == 15 and held.losses.total == 15
        assert wire.host(queue.dropped, NUMBER) == [15]
        for packet in packets:
            held.verdict(packet.id, True)
        held.flush()
        assert [wire.far.recv(100) for _ in range(10)] == [b"hello"] * 10
        assert wire.silent()


def test_room_is_a_limit_and_what_is_beyond_is_counted(wire: Wire) -> None:
    with opened(wire, room=1 << 16) as held:
        for _ in range(20):
            wire.send(b"x" * 20000)
        found: list[Queued] = []
        while packets := held.read():
            found += packets
        lost = held.losses
        assert lost.unread == 20 - len(found) > 0 and lost.overruns > 0
        for packet in found:
            held.verdict(packet.id, True)
        held.flush()
        assert [len(wire.far.recv(70000)) for _ in found] == [20000] * len(found)
        assert wire.silent()


def test_a_verdict_on_what_is_not_held_is_counted(wire: Wire) -> None:
    with opened(wire) as held:
        held.verdict(12345, True)
        held.flush()
        assert held.read() == [] and held.losses.stale == 1


def test_a_batch_is_a_limit_of_one_read(wire: Wire) -> None:
    with opened(wire) as held:
        for _ in range(queue.BATCH + 3):
            wire.send(b"hello")
        assert len(come(held, queue.BATCH)) == queue.BATCH == len(held.read()) + queue.BATCH - 3


def test_since_when_a_packet_may_wait(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never later than it was sent. Where the queue was empty that is the time, else as many packets later as it holds."""
    monkeypatch.setattr(queue, "MARK_NS", 0)
    with opened(wire, length=4) as held:
        bound, empty = queue.now(), 0
        for _ in range(2):
            assert held.read() == []
            empty = queue.now()
            wire.send(b"hello")
            [packet] = come(held)
            assert bound < packet.since <= empty
            said(held, lambda: held.verdict(packet.id, True))  # noqa: B023
        sent: list[int] = []
        since: list[int] = []
        for number in range(20):
            sent.append(queue.now())
            wire.send(b"hello")
            if number:  # one always waits
                [packet] = come(held)
                since.append(packet.since)
                said(held, lambda: held.verdict(packet.id, True))  # noqa: B023
        assert all(before <= at for before, at in zip(since, sent, strict=False))
        assert max(since[:4]) <= sent[0] < since[8] < since[-1], "it is known without the queue being empty"


def test_marks_are_limited_and_packets_seem_older_then(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MARK_NS", 0)
    monkeypatch.setattr(queue, "MARKS", 3)
    with opened(wire, length=4) as held:
        begun = queue.now()
        for _ in range(4):
            wire.send(b"hello")
        for _ in range(4):
            [packet] = held.read(1)
            assert len(held._marks) <= 3 and packet.since <= begun
            held.verdict(packet.id, False)


def test_marks_are_made_now_and_then(wire: Wire) -> None:
    with opened(wire) as held:
        for _ in range(3):
            wire.send(b"hello")
        begun = queue.now()
        held.read(1), held.read(1)
        assert len(held._marks) == 1 or queue.now() - begun > queue.MARK_NS


def test_verdicts_that_fill_a_message_go_at_once(wire: Wire) -> None:
    with opened(wire) as held:
        for _ in range(3):
            wire.send(b"x" * 50000)
        for packet in come(held, 3):
            held.verdict(packet.id, True, data=packet.data)
        assert len(held._said) < queue.TOGETHER
        assert len(wire.far.recv(70000)) == 50000  # before flush()
        held.flush()
        assert [len(wire.far.recv(70000)) for _ in range(2)] == [50000] * 2


def test_segments_of_tcp_come_uncut_with_their_checksums_to_be_made(wire: Wire) -> None:
    server = wire.target(lambda: socket.create_server((TARGET_IP, PORT)))
    client = wire.host(socket.socket)
    client.setblocking(False)
    data, taken, largest = os.urandom(1 << 20), bytearray(), 0
    with opened(wire) as held, server, client:
        client.connect_ex((TARGET_IP, PORT))
        server.setblocking(False)
        sent, flow, until = 0, None, time.monotonic() + WAIT_S
        while len(taken) < len(data) and time.monotonic() < until:
            for packet in held.read():
                largest = max(largest, len(packet.data) if packet.hook == OUTPUT and packet.partial and packet.gso else 0)
                held.verdict(packet.id, True)
            held.flush()
            try:
                if flow is None:
                    flow = server.accept()[0]
                    flow.setblocking(False)
                sent += client.send(data[sent : sent + 65536]) if sent < len(data) else 0
                taken += flow.recv(1 << 18)
            except BlockingIOError:
                pass
        if flow:
            flow.close()
        assert bytes(taken) == data and largest > 10000 and held.losses.total == 0


def test_one_queue_has_one_listener(wire: Wire) -> None:
    with opened(wire), pytest.raises(HostError, match=r"queue 77, bind: .*\n?.*"), opened(wire):
        pass


def test_the_way_to_the_queue_without_nft_queue(wire: Wire) -> None:
    """As on a kernel that has only the target of xtables. Until it is put, nothing passes; it is listed as nft's own."""
    wire.host(nft.apply, script(0, 0, True, NUMBER, False))
    with opened(wire) as held:
        with pytest.raises(PermissionError):
            wire.send(b"hello")
        assert wire.silent() and held.read() == []
    wire.host(table._sink, NUMBER, None)
    assert f"queue num {NUMBER}" in wire.host(nft.listing)
    with opened(wire) as held:
        wire.send(b"hello")
        [packet] = come(held)
        said(held, lambda: held.verdict(packet.id, True))
        assert wire.far.recv(100) == b"hello"


def test_marks_that_let_by_are_random_and_mean_nothing_else() -> None:
    marks = {drawn() for _ in range(2000)}
    assert len(marks) > 1990  # of 2**32
    assert all(mark > 0xFFFF and mark & QUEUE_TAG not in (QUEUE_MARK, 0x56000000) for mark in marks)


def test_without_rights() -> None:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            Queue.open(NUMBER)
        except HostError as error:
            code = 0 if "run as root" in error.hint else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
