"""Packets that the kernel holds for us (NFQUEUE), over netlink, and what becomes of each.

    queue = Queue.open(QUEUE)
    for packet in queue.read():                # when queue.fileno() is readable
        queue.verdict(packet.id, accept=True, mark=pass_mark)
    queue.flush()

Of a packet it is known since when it may have waited (`since`): it came behind all that was read before it, so after
the queue was last seen empty, and after as many were read since as the kernel keeps at most.

What nobody listens to, what does not fit and what is queued when this is closed is dropped by the kernel: that is never
turned round (no NFQA_CFG_F_FAIL_OPEN, no `bypass`). Each packet has a verdict; those of a batch leave in one message.
Packets come as they leave the sockets: segments of TCP not cut yet, with checksums still to be made (`partial`). One
that does not fit into an attribute of netlink comes cut (`truncated`) and cannot be accepted: nobody saw the rest.

Source: linux/netfilter/nfnetlink_queue.h; net/netfilter/nfnetlink_queue.c; nfnetlink(7), netlink(7).
"""

import errno
import os
import socket
import struct
import time
from collections import deque
from types import TracebackType

import msgspec

from appliance.model import HostError

ROOM = 8 << 20  # bytes of packets that wait for us to read them: 100 of 64 KiB, 4,000 small ones with what they carry
LENGTH = 4096  # packets that wait for a verdict, twice what a vendor may have wait for reviewers; more the kernel drops
BATCH = 32  # packets of one read(): then it is the turn of other queues, and of the caller's loop. 10 ms of judging
TOGETHER = 128 << 10  # bytes of verdicts in one message; what a socket may send by default is 208 KiB
WAIT_S = 10.0  # for an answer of the kernel while the queue is set up
MARK_NS = 250_000_000  # between two marks of how old packets are
MARKS = 64  # kept: of a queue that is never empty, and takes 16 s to be read through. With no more, packets seem older

INPUT, OUTPUT = 1, 3  # NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT: `Queued.hook`

NETFILTER = 12  # NETLINK_NETFILTER
PACKET, VERDICT, CONFIG = 3 << 8, 3 << 8 | 1, 3 << 8 | 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_*
REQUEST, ACK = 1, 4  # NLM_F_*
ERROR, OVERRUN = 2, 4  # NLMSG_ERROR, NLMSG_OVERRUN
BIND, COPY_PACKET = 1, 2  # NFQNL_CFG_CMD_BIND, NFQNL_COPY_PACKET
CFG_COMMAND, CFG_PARAMETERS, CFG_LENGTH, CFG_MASK, CFG_FLAGS = 1, 2, 3, 4, 5  # NFQA_CFG_*
CONNTRACK, GSO, UID_GID = 2, 4, 8  # NFQA_CFG_F_*
A_HEADER, A_VERDICT, A_MARK, A_IN, A_OUT, A_PAYLOAD, A_CT = 1, 2, 3, 5, 6, 10, 11  # NFQA_*
A_CAP_LEN, A_INFO, A_UID = 13, 14, 16
CTA_MARK = 8
NOT_READY, SEGMENTS = 1, 2  # NFQA_SKB_CSUMNOTREADY, NFQA_SKB_GSO
DROP, ACCEPT = 0, 1  # NF_*
NETLINK, CAP_ACK = 270, 10  # SOL_NETLINK, NETLINK_CAP_ACK: an error does not bring back what it is about
NESTED = 0x8000  # NLA_F_NESTED
TYPE = 0x3FFF  # NLA_TYPE_MASK
LISTING = "/proc/thread-self/net/netfilter/nfnetlink_queue"
LARGEST = 0xFFFF - 4  # bytes of a packet in one attribute

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")
NUMBER = struct.Struct("!I")
FRONT = HEADER.size + 4  # with struct nfgenmsg
_VERDICT = struct.Struct("=IHHII BB2s HH4s4s")  # one whole message without further attributes
MESSAGE = 1 << 17  # bytes of one message: a packet of 64 KiB and its attributes


class Queued(msgspec.Struct, frozen=True, gc=False):
    """One packet that waits for its verdict."""

    id: int  # above its 32 bits, the number of its queue
    hook: int  # INPUT: it came for a socket of this host; OUTPUT: one sent it
    mark: int
    connmark: int | None  # None: the kernel does not tell (CONFIG_NETFILTER_NETLINK_GLUE_CT)
    uid: int | None  # owner of the socket that sent it; None: no socket, or it only came in
    data: bytes  # from the IP header on
    device: int  # index of the interface it came by, or is to leave by
    truncated: bool = False  # `data` is not all: accepting it is refused
    partial: bool = False  # its checksum is not made yet, and not to be believed
    gso: bool = False  # several segments or datagrams in one: the kernel cuts them later
    since: int = 0  # ns since boot: it was sent after that


class Losses(msgspec.Struct, frozen=True, gc=False):
    """What was dropped without a verdict of ours, since the queue was opened. All of it never arrived."""

    full: int = 0  # packets: `LENGTH` waited already
    unread: int = 0  # packets: no room in the socket, `ROOM`
    overruns: int = 0  # times that the socket told us so
    truncated: int = 0  # packets that did not fit into a message
    stale: int = 0  # verdicts on packets that the kernel did not hold any more: it had flushed the queue
    malformed: int = 0  # messages that cannot be read
    several: int = 0  # packets of more than one datagram (UDP_SEGMENT): on the wire each would be one of its own

    @property
    def total(self) -> int:
        return self.full + self.unread + self.overruns + self.truncated + self.stale + self.malformed + self.several


class Queue:
    """One queue of this thread's network namespace, which the socket stays in."""

    def __init__(self, sock: socket.socket, number: int, length: int) -> None:
        self._socket, self.number, self._length = sock, number, length
        self._taken = 0
        self._marks = deque([(0, now())])  # (number of a packet, ns): those behind it came after that
        self._room = bytearray(MESSAGE)
        self._view = memoryview(self._room)
        self._said = bytearray()  # verdicts that have not been sent yet
        self._cut: set[int] = set()  # packets that came truncated
        self._counts = dict.fromkeys(("overruns", "truncated", "stale", "malformed", "several"), 0)
        self._early: list[Queued] = []  # came before open() was done
        self._listing = -1  # of this namespace; held open, since it is root's

    @classmethod
    def open(cls, number: int, room: int = ROOM, length: int = LENGTH) -> "Queue":
        """Bind the queue: from now on packets come, and wait.

        `room` is in bytes of what waits to be read, `length` in packets without verdict.

        Raises:
            HostError: no right to, no such thing in this kernel, or another process holds it.
        """
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER)
        except OSError as error:
            hint = "a kernel with CONFIG_NETFILTER_NETLINK_QUEUE"
            raise HostError(f"open netlink: {error.strerror}", hint) from error
        queue = cls(sock, number, length)
        try:
            queue._listing = _listing()
            sock.bind((0, 0))
            sock.settimeout(WAIT_S)
            sock.setsockopt(NETLINK, CAP_ACK, 1)
            _enlarge(sock, socket.SO_RCVBUF, room)
            queue._ask("bind", _attribute(CFG_COMMAND, struct.pack("!BxH", BIND, 0)))
            queue._ask("length", _attribute(CFG_LENGTH, NUMBER.pack(length)))
            queue._ask("flags", _flags(GSO | UID_GID))
            queue._ask("conntrack", _flags(CONNTRACK), may_fail=True)
            queue._ask("parameters", _attribute(CFG_PARAMETERS, struct.pack("!IB", LARGEST, COPY_PACKET)))
            sock.setblocking(False)
        except BaseException:
            queue.close()
            raise
        return queue

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self, most: int = BATCH) -> list[Queued]:
        """Return the packets that have come, at most `most`; empty when there are none."""
        found, self._early, at = self._early, [], now()
        while len(found) < most:
            try:
                size = self._socket.recv_into(self._room)
            except BlockingIOError:
                self._marks = deque([(self._taken, at)])
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._counts["overruns"] += 1  # what did not fit, the kernel has dropped
                continue
            self._split(self._view[:size], found)
        if at - self._marks[-1][1] > MARK_NS and len(self._marks) < MARKS:
            self._marks.append((self._taken + self._length, at))
        return found

    def verdict(
        self,
        id: int,
        accept: bool,
        mark: int | None = None,
        data: bytes | None = None,
        connmark: int | None = None,
    ) -> None:
        """Say what becomes of a packet; it does with the next flush().

        `mark` is what it is marked with from then on, `data` the whole IP packet in its place, checksums made.
        `connmark` goes to its connection, where the kernel lets us. A truncated one is dropped whatever is said.
        """
        if id in self._cut:
            self._cut.discard(id)
            accept, mark, data, connmark = False, None, None, None
        if data is not None and len(data) > LARGEST:
            raise ValueError(f"{len(data)} bytes for a packet of at most {LARGEST}")
        more = b"" if mark is None else _attribute(A_MARK, NUMBER.pack(mark))
        if data is not None:
            more += _attribute(A_PAYLOAD, data)
        if connmark is not None:
            more += _attribute(A_CT | NESTED, _attribute(CTA_MARK, NUMBER.pack(connmark)))
        whole = _VERDICT.size + len(more)
        if len(self._said) + whole > TOGETHER:
            self.flush()
        self._said += _VERDICT.pack(
            whole, VERDICT, REQUEST, 0, 0, 0, 0, self.number.to_bytes(2, "big"),
            12, A_VERDICT, NUMBER.pack(ACCEPT if accept else DROP), NUMBER.pack(id & 0xFFFFFFFF),
        )  # fmt: skip
        self._said += more

    def flush(self) -> None:
        """Send the verdicts said so far: one call of the kernel, which carries them out before it returns."""
        if not self._said:
            return
        said, self._said = self._said, bytearray()
        self._socket.send(said)

    @property
    def losses(self) -> Losses:
        """What was lost so far; `full` and `unread` only if the queue was opened by root, see `dropped`."""
        full, unread = _rows(self._listing).get(self.number, (0, 0))
        return Losses(full, unread, **self._counts)

    def close(self) -> None:
        """Let go of the queue; the kernel drops what waits."""
        self._socket.close()
        if self._listing >= 0:
            os.close(self._listing)
            self._listing = -1

    def __enter__(self) -> "Queue":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- messages ----------------------------------------------------------------------------------------------------

    def _split(self, data: memoryview, found: list[Queued]) -> None:
        """Read the messages of one datagram of netlink."""
        at = 0
        while at + HEADER.size <= len(data):
            length, kind, _f, _number, _port = HEADER.unpack_from(data, at)
            if length < HEADER.size or at + length > len(data):
                self._counts["malformed"] += 1
                return
            if kind == PACKET:
                self._take(data[at : at + length], found)
            elif kind == ERROR and struct.unpack_from("=i", data, at + HEADER.size)[0]:
                self._counts["stale"] += 1
            elif kind == OVERRUN:
                self._counts["overruns"] += 1
            at += length + 3 & ~3

    def _take(self, message: memoryview, found: list[Queued]) -> None:
        self._taken += 1
        while len(self._marks) > 1 and self._marks[1][0] < self._taken:
            self._marks.popleft()
        try:
            packet = _packet(message, self.number, self._marks[0][1])
        except (struct.error, KeyError, IndexError):
            self._counts["malformed"] += 1
            return
        if packet.gso and _is_udp(packet.data):
            self._counts["several"] += 1
            self.verdict(packet.id, False)
            self.flush()
            return
        if packet.truncated:
            self._counts["truncated"] += 1
            self._cut.add(packet.id)
        found.append(packet)

    def _ask(self, what: str, attributes: bytes, may_fail: bool = False) -> None:
        """Set up one thing and wait for the kernel's word."""
        body = bytes(2) + self.number.to_bytes(2, "big") + attributes
        self._socket.send(HEADER.pack(HEADER.size + len(body), CONFIG, REQUEST | ACK, 0, 0) + body)
        while True:
            try:
                data = self._socket.recv(MESSAGE)
            except TimeoutError as error:
                raise HostError(f"queue {self.number}: the kernel did not answer within {WAIT_S:.0f} s") from error
            if HEADER.unpack_from(data)[1] == ERROR:
                break
            self._split(memoryview(data), self._early)
        number = -int(struct.unpack_from("=i", data, HEADER.size)[0])
        if number and not may_fail:
            hint = "run as root" if number == errno.EPERM else "stop the other program that holds it"
            raise HostError(f"queue {self.number}, {what}: {os.strerror(number)}", hint)


def now() -> int:
    """Return ns since boot, as BPF tells when a socket was made."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def dropped(first: int, many: int = 1) -> list[int]:
    """Return what `full` and `unread` are in sum, of so many queues of this thread's namespace, for root."""
    listing = _listing()
    try:
        found = _rows(listing)
        return [sum(found.get(number, (0, 0))) for number in range(first, first + many)]
    finally:
        if listing >= 0:
            os.close(listing)


def _listing() -> int:
    """Open the kernel's list of the queues of this network namespace; -1 when only root may."""
    try:
        return os.open(LISTING, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return -1
    except OSError as error:
        hint = "a kernel with CONFIG_NETFILTER_NETLINK_QUEUE"
        raise HostError(f"{LISTING}: {error.strerror}", hint) from error


def _rows(listing: int) -> dict[int, tuple[int, int]]:
    """Return `full` and `unread` by the number of a queue."""
    lines = os.pread(listing, MESSAGE, 0).decode().splitlines() if listing >= 0 else []
    return {int(words[0]): (int(words[5]), int(words[6])) for words in map(str.split, lines)}


def _packet(message: memoryview, queue: int, since: int) -> Queued:
    """Read one packet's message."""
    parts: dict[int, memoryview] = {}
    at, end = FRONT, len(message)
    while at + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(message, at)
        if length < 4 or at + length > end:
            raise IndexError
        parts[kind & TYPE] = message[at + 4 : at + length]
        at += length + 3 & ~3
    head = parts[A_HEADER]
    hook, payload = head[6], bytes(parts.get(A_PAYLOAD, b""))
    info = _number(parts, A_INFO) or 0
    device = _number(parts, A_IN if hook == INPUT else A_OUT) or 0
    mark, uid, cut = _number(parts, A_MARK) or 0, _number(parts, A_UID), A_CAP_LEN in parts
    connmark = _connmark(parts[A_CT]) if A_CT in parts else None
    partial, gso = bool(info & NOT_READY), bool(info & SEGMENTS)
    id = queue << 32 | NUMBER.unpack_from(head)[0]
    return Queued(id, hook, mark, connmark, uid, payload, device, cut, partial, gso, since)


def _is_udp(packet: bytes) -> bool:
    """Return whether it is UDP, as the kernel makes it: without extension headers."""
    at = 9 if packet and packet[0] >> 4 == 4 else 6
    return packet[at : at + 1] == b"\x11"


def _number(parts: dict[int, memoryview], kind: int) -> int | None:
    found = parts.get(kind)
    return None if found is None else int(NUMBER.unpack_from(found)[0])


def _connmark(nested: memoryview) -> int:
    """Return the mark among a connection's attributes; 0 if it has none."""
    at = 0
    while at + 4 <= len(nested):
        length, kind = ATTRIBUTE.unpack_from(nested, at)
        if length < 4:
            raise IndexError
        if kind & TYPE == CTA_MARK:
            return int(NUMBER.unpack_from(nested, at + 4)[0])
        at += length + 3 & ~3
    return 0


def _attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def _flags(flags: int) -> bytes:
    return _attribute(CFG_MASK, NUMBER.pack(flags)) + _attribute(CFG_FLAGS, NUMBER.pack(flags))


def _enlarge(sock: socket.socket, option: int, room: int) -> None:
    """Set the size of a buffer, past the host's limit where we may (SO_RCVBUFFORCE)."""
    force = {socket.SO_RCVBUF: 33, socket.SO_SNDBUF: 32}[option]
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, room)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, option, room)
