"""The structs of bpf/vendorgate.h, as Python reads and writes them.

Sizes are compared with the header's by tests/kernel/test_layout.py. Addresses and ports are in network order,
everything else in the machine's.
"""

import ipaddress
import struct
from collections.abc import Sequence
from enum import IntEnum

import msgspec

from appliance.model import Address, HostError

LAYOUT = 6
STEER_MARK = 0x56470001
QUEUE_MARK = 0x57000000  # of a socket whose packets go to the engine; in it the number of its speaker
QUEUE_TAG = 0xFF000000  # bits that tell such a mark
QUEUE_DIRECT = 0x00800000  # bit of one whose last destination was direct: not to the engine
QUEUE_SLOT = 0x00007FFF  # bits of that number
QUEUE_TURN = 15  # how far the number of its queue is above them
QUEUES = 32
SPEAKER_HEAD = 32  # bytes of struct vg_speaker before its flow
SPEAKERS = 16384
SHARE = 4096
LINGER = 5
PASSAGE_PING = 1
SERVED_RELAY, SERVED_QUEUE = 1, 2
EXE = 256
CWD = 256
ARGV = 1024
PARENTS = 1024
RANGES = 64
PEERS = 4096
RATE = 1000
SCOPES = 4096
IMAGES = 8192
PACKAGE = 128
SCRIPT = 256
FRONT = 1608
LEDGER = 8192
LEVELS = 16
UNIX_ENTRIES = 8192
REASON_ROOM = 48
PREFIXES = 65536
NAMESPACES = 256
INET, INET6 = 2, 10

PROCESS = struct.Struct(f"=QIIIIIIQQQqII{EXE}s{CWD}s{ARGV}sII{PARENTS}s")
IMAGE_KEY = struct.Struct("=QII")
IMAGE = struct.Struct(f"=32s32s{PACKAGE}s{SCRIPT}s")
EVENT = struct.Struct(f"=IIQ{FRONT}s")
ADDRESS = struct.Struct("=16s2sHI")
FLOW = struct.Struct(f"=QQQQQQII{ADDRESS.size}s{PROCESS.size}s")
SOCKET = struct.Struct(f"=QIIII{ADDRESS.size}sQQ")
PEER = struct.Struct("=Q16s2sHI")
PREFIX = struct.Struct("=III16s")
RANGE = struct.Struct("=HHHH")
RANGES_HEAD = struct.Struct("=II")
KEPT = struct.Struct(f"=Q{ADDRESS.size}s{ADDRESS.size}s")
UNIX = struct.Struct("=IBB108sH")
INODE = struct.Struct("=QII")
COVERAGE = struct.Struct(f"={3 * 6 + REASON_ROOM}Q")
SETTINGS = struct.Struct("=QQQQIIIIII")
SPEAKER = struct.Struct(f"=QQIIII{FLOW.size}s")
SHARED = struct.Struct("=QII")  # struct vg_share
PASSAGE = struct.Struct("=II")

ARGV_CUT = 1
ARGV_UNKNOWN = 2
SEEDED = 4
PARENTS_CUT = 8
CONNECTED = 16


class Judgement(IntEnum):
    """What the rules say of a destination."""

    INSPECT = 0
    DENY = 1
    DIRECT = 2  # but for listeners of others on this host
    HERE = 3  # direct, and those too
    QUEUE = 4  # TCP that the packet engine judges


class Way(IntEnum):
    """By which way what left a cgroup went."""

    DIRECT = 0
    RELAY = 1
    ENGINE = 2
    INSIDE = 3
    KEPT = 4
    DROPPED = 5


class Reason(IntEnum):
    """Why the fence passed or refused; index of its counters."""

    PASS_RELAY = 0
    PASS_DIRECT = 1
    PASS_DATAGRAM = 2
    DROP_NO_SOCKET = 3
    DROP_NO_VERDICT = 4
    DROP_NOT_RELAY = 5
    DROP_DATAGRAM = 6
    DROP_PROTOCOL = 7
    DROP_MALFORMED = 8
    DROP_REVOKED = 9
    REFUSE_RULE = 10
    REFUSE_SOCKET = 11
    REFUSE_RELAY = 12
    REFUSE_UNSTEERABLE = 13
    REFUSE_HOST = 14
    UNKNOWN_PROCESS = 15
    LOST_PROCESS = 16
    INSPECTED = 17
    REFUSE_RATE = 18
    REFUSE_LEDGER = 19
    REFUSE_LOOPBACK = 20
    REFUSE_OPTION = 21
    REFUSE_UNIX = 22
    KILL_FOREIGN = 23
    PASS_INSIDE = 24
    PASS_KEPT = 25
    LOST_EVENT = 26
    REFUSE_FOREIGN = 27
    REFUSE_FAMILY = 28
    UNTAKEN = 29  # bytes
    PASS_ENGINE = 30
    DROP_ENGINE = 31
    DROP_FORGED = 32
    DROP_ANSWER = 33
    DROP_SHARED = 34
    REFUSE_SPEAKER = 35


class Settings(msgspec.Struct, frozen=True, gc=False):
    """struct vg_settings: what the fence is told."""

    netns: int
    build: int
    epoch: int  # ns since boot when the maps that count were made
    slice: int  # id of the governed cgroup
    layout: int
    relay_port: int
    revision: int
    unknown_scope: int
    flags: int = 0

    def pack(self) -> bytes:
        return SETTINGS.pack(*msgspec.structs.astuple(self), 0)

    @classmethod
    def unpack(cls, data: bytes) -> "Settings":
        *fields, _zero = SETTINGS.unpack(data)
        return cls(*fields)


class Event(IntEnum):
    """What the kernel tells of an image."""

    EXEC = 0  # it was executed
    CONNECT = 1  # it connects, and nothing is known of it
    CARRIED = 2  # it took over a socket by exec


class Executed(msgspec.Struct, frozen=True, gc=False):
    """struct vg_process: a process as it was at exec. `started` 0: unknown."""

    started: int
    pid: int
    ppid: int
    uid: int
    flags: int
    device: int
    inode: int
    executed: int  # ns since boot; with `execer` the name of the image
    size: int
    changed: int  # ctime, ns
    execer: int
    exe: str
    cwd: str
    argv: tuple[str, ...]
    parents: tuple[str, ...]

    @classmethod
    def unpack(cls, data: bytes) -> "Executed":
        """Read a whole struct, or only what comes before the parents (struct vg_event)."""
        *head, exe, cwd, argv, length, _zero, above = PROCESS.unpack(data.ljust(PROCESS.size, b"\0"))
        started, pid, ppid, uid, flags, argv_len, device, inode, executed, size, seconds, ns, execer = head
        return cls(
            started, pid, ppid, uid, flags, device, inode, executed, size, seconds * 10**9 + ns, execer,
            text(exe), text(cwd), words(argv[:argv_len], flags), descent(above[:length], flags),
        )  # fmt: skip

    @property
    def image(self) -> bytes:
        """The key of the map of images."""
        return IMAGE_KEY.pack(self.executed, self.execer, 0)


class Image(msgspec.Struct, frozen=True, gc=False):
    """struct vg_image: what was found out of an image. Empty: there is none; `?` before a text: not certain."""

    sha256: str = ""  # of the file that is executed; empty: not known
    script_sha256: str = ""
    package: str = ""
    script: str = ""

    def pack(self) -> bytes:
        package, script = fitted(self.package, PACKAGE), fitted(self.script, SCRIPT)
        digests = (bytes.fromhex(self.sha256), bytes.fromhex(self.script_sha256))
        return IMAGE.pack(*digests, package, script)

    @classmethod
    def unpack(cls, data: bytes) -> "Image":
        digest, script_digest, package, script = IMAGE.unpack(data)
        return cls(_hex(digest), _hex(script_digest), text(package), text(script))


class Opened(msgspec.Struct, frozen=True, gc=False):
    """struct vg_flow: a flow as its SYN left."""

    cookie: int
    netns: int
    cgroup: int
    opened_ns: int  # since boot
    sequence: int  # among the flows of its cgroup, from 1
    epoch: int  # of the count
    uid: int
    pid: int
    to: Address
    process: Executed | None

    @classmethod
    def unpack(cls, data: bytes) -> "Opened":
        cookie, netns, cgroup, opened, sequence, epoch, uid, pid, to, process = FLOW.unpack(data)
        ip, port, family, _protocol = ADDRESS.unpack(to)
        who = Executed.unpack(process)
        known = who if who.started else None
        server = address(ip, port, family)
        return cls(cookie, netns, cgroup, opened, sequence, epoch, uid, pid, server, known)


def _hex(digest: bytes) -> str:
    return digest.hex() if any(digest) else ""


def fitted(written: str, size: int) -> bytes:
    """Return a text for a field of `size` bytes; one that does not fit is not certain, and never cut."""
    data = written.encode(errors="surrogateescape")
    return data if len(data) < size else b"?"


def text(field: bytes) -> str:
    """Return a NUL-ended path; bytes that are no UTF-8 come back by os.fsencode."""
    return field.split(b"\0", 1)[0].decode(errors="surrogateescape")


def words(argv: bytes, flags: int) -> tuple[str, ...]:
    """Return argv; one that was cut ends with the word `…` in place of what is missing."""
    if flags & ARGV_UNKNOWN or not argv:
        return ()
    parts = argv.split(b"\0")
    if flags & ARGV_CUT:
        parts[-1] = "…".encode()
    elif not parts[-1]:
        parts.pop()
    return tuple(part.decode(errors="surrogateescape") for part in parts)


def descent(parents: bytes, flags: int) -> tuple[str, ...]:
    """Return the executables above, nearest first; "" is one not known, or all beyond what was kept."""
    names = parents.split(b"\0")[:-1]  # each ends with NUL; what follows the last was cut
    more = ("",) if flags & PARENTS_CUT else ()
    return tuple(name.decode(errors="surrogateescape") for name in names) + more


def address(ip: bytes, port: bytes, family: int) -> Address:
    """Return an address of the kernel's."""
    size = 4 if family == INET else 16
    return Address(str(ipaddress.ip_address(ip[:size])), int.from_bytes(port, "big"))


def kept_of(fields: tuple[int, bytes, bytes]) -> tuple[int, Address, Address]:
    """Return the cgroup and both ends of a struct vg_kept."""
    cgroup, *ends = fields
    client, server = (address(*ADDRESS.unpack(end)[:3]) for end in ends)
    return cgroup, client, server


def peer_key(netns: int, peer: Address) -> bytes:
    """Return the key of the map of peers for an accepted connection's peer."""
    ip = ipaddress.ip_address(peer.host)
    family = INET if ip.version == 4 else INET6
    return PEER.pack(netns, ip.packed, peer.port.to_bytes(2, "big"), family, 0)


def ranges(found: Sequence[tuple[int, int, int, Judgement]]) -> bytes:
    """Return struct vg_ranges for (low, high, protocol, judgement); what no range names is inspected."""
    if len(found) > RANGES:
        raise HostError(f"{len(found)} port ranges for one network; the kernel map holds {RANGES}")
    body = b"".join(RANGE.pack(*one) for one in found)
    return RANGES_HEAD.pack(len(found), 0) + body.ljust(RANGE.size * RANGES, b"\0")
