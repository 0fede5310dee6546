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

LAYOUT = 2
STEER_MARK = 0x56470001
EXE = 256
ARGV = 1024
PARENTS = 1024
RANGES = 64
PEERS = 4096
RATE = 1000
SCOPES = 4096
PREFIXES = 65536
INET, INET6 = 2, 10

PROCESS = struct.Struct(f"=QIIIIIIQ{EXE}s{ARGV}sII{PARENTS}s")
ADDRESS = struct.Struct("=16s2sHI")
FLOW = struct.Struct(f"=QQQQII{ADDRESS.size}s{PROCESS.size}s")
SOCKET = struct.Struct(f"=II{FLOW.size}s")
PEER = struct.Struct("=Q16s2sHI")
PREFIX = struct.Struct("=III16s")
RANGE = struct.Struct("=HHHH")
RANGES_HEAD = struct.Struct("=II")
SETTINGS = struct.Struct("=QQIIII")

ARGV_CUT = 1
ARGV_UNKNOWN = 2
SEEDED = 4
PARENTS_CUT = 8


class Judgement(IntEnum):
    """What the rules say of a destination."""

    INSPECT = 0
    DENY = 1
    DIRECT = 2


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


class Settings(msgspec.Struct, frozen=True, gc=False):
    """struct vg_settings: what the fence is told."""

    netns: int
    build: int
    layout: int
    relay_port: int
    revision: int
    unknown_scope: int

    def pack(self) -> bytes:
        return SETTINGS.pack(
            self.netns, self.build, self.layout, self.relay_port, self.revision, self.unknown_scope
        )

    @classmethod
    def unpack(cls, data: bytes) -> "Settings":
        return cls(*SETTINGS.unpack(data))


class Executed(msgspec.Struct, frozen=True, gc=False):
    """struct vg_process: a process as it was at exec. `started` 0: unknown."""

    started: int
    pid: int
    ppid: int
    uid: int
    flags: int
    device: int
    inode: int
    exe: str
    argv: tuple[str, ...]
    parents: tuple[str, ...]

    @classmethod
    def unpack(cls, data: bytes) -> "Executed":
        *head, size, device, inode, exe, argv, length, _zero, above = PROCESS.unpack(data)
        started, pid, ppid, uid, flags = head
        parents = descent(above[:length], flags)
        return cls(
            started, pid, ppid, uid, flags, device, inode, text(exe), words(argv[:size], flags), parents
        )


class Opened(msgspec.Struct, frozen=True, gc=False):
    """struct vg_flow: a flow as its SYN left."""

    cookie: int
    netns: int
    cgroup: int
    opened_ns: int  # since boot
    uid: int
    pid: int
    to: Address
    process: Executed | None

    @classmethod
    def unpack(cls, data: bytes) -> "Opened":
        cookie, netns, cgroup, opened, uid, pid, to, process = FLOW.unpack(data)
        ip, port, family, _protocol = ADDRESS.unpack(to)
        who = Executed.unpack(process)
        known = who if who.started else None
        return cls(cookie, netns, cgroup, opened, uid, pid, address(ip, port, family), known)


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
