"""Which names DNS gave to addresses, for each process: one table for all workers and the packet engine.

It is a map of the kernel only because that is memory which processes without rights can share by a descriptor (linux
5.19 and later, whatever kernel.unprivileged_bpf_disabled says). No program of ours in the kernel reads it. What is
written is there before the answer goes down to the client, so a connection that follows finds it, whoever takes that.

A name holds for as long as its answer said, within limits, and for the process that asked only. An address has few
names; the oldest goes. So do a vendor's oldest pairs when it has too many: it must not drive out what others were told.
So does what was written long ago, should the table be full. Then a name is not known, and what was to be allowed by it
is refused.
"""

import ipaddress
import os
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache

from appliance.kernel import libbpf
from appliance.kernel.libbpf import Map
from appliance.model import HostError, Process

LRU_HASH = 9  # BPF_MAP_TYPE_LRU_HASH
MAX_ENTRIES = 16_384  # pairs of process and address; ours: 9 MB of the kernel's memory
SHARE = 2_048  # of these, a vendor's, as each process that writes counts what it wrote; ours: an eighth
VENDORS = 256  # whose pairs are counted; those that wrote longest ago begin anew. Ours
ROOM = 512  # bytes for the names of one address: two of the longest, or some twenty usual ones
MAX_HOSTS = 64  # addresses kept of one answer; ours: large services give 8, and a client tries the first few
KEY = struct.Struct("=IIQ16s")  # pid, nothing, when it started in nanoseconds since boot, address
ENTRY = struct.Struct("=QB")  # until when, in nanoseconds of CLOCK_MONOTONIC, and the bytes of the name that follows
SECOND = 1_000_000_000


@cache
def table() -> int:
    """Return the descriptor of the one table of this process and those it starts; -1 where it may not make one."""
    try:
        return libbpf.create(LRU_HASH, "vg_names", KEY.size, ROOM, MAX_ENTRIES)
    except HostError as error:
        if isinstance(error.__cause__, PermissionError) or os.geteuid() != 0:
            return -1
        raise


class Names:
    """`fd` is that of `table`, perhaps inherited; below zero nothing is known, and nothing is kept."""

    def __init__(self, fd: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`clock` is one for all processes."""
        self._map = Map(fd) if fd >= 0 else None
        self._clock = clock
        self._kept = OrderedDict[str, OrderedDict[bytes, None]]()  # pairs by vendor, what was written last at the end

    def learn(self, process: Process | None, name: str, hosts: Sequence[str], ttl_s: float) -> None:
        """Note that a process was told that `name` is at these addresses."""
        encoded = name.encode()
        if self._map is None or process is None or not 0 < len(encoded) < 256:
            return
        now = self._clock()
        until = now + int(ttl_s * SECOND)
        for host in hosts[:MAX_HOSTS]:
            key = _key(process, host)
            others = [one for one in _unpack(self._map.lookup(key), now) if one[1] != encoded]
            self._map.update(key, _pack([(until, encoded), *others]))
            self._count(self._map, process.vendor, key)

    def of(self, process: Process | None, host: str) -> tuple[str, ...]:
        """Return the names of an address, as DNS told the process, the newest first."""
        if self._map is None or process is None:
            return ()
        found = _unpack(self._map.lookup(_key(process, host)), self._clock())
        return tuple(name.decode("utf-8", "replace") for _, name in found)

    def _count(self, table: Map, vendor: str, key: bytes) -> None:
        """Note that a pair of a vendor was written; its oldest goes when there are too many."""
        mine = self._kept.setdefault(vendor, OrderedDict())
        self._kept.move_to_end(vendor)
        mine[key] = None
        mine.move_to_end(key)
        if len(mine) > SHARE:
            table.delete(mine.popitem(last=False)[0])
        if len(self._kept) > VENDORS:
            self._kept.popitem(last=False)


def _key(process: Process, host: str) -> bytes:
    address = ipaddress.ip_address(host)
    packed = address.packed if isinstance(address, ipaddress.IPv6Address) else b"\0" * 10 + b"\xff\xff" + address.packed
    return KEY.pack(process.pid, 0, process.started_ns, packed)


def _pack(entries: Sequence[tuple[int, bytes]]) -> bytes:
    """Return as many entries as there is room for, the first ones."""
    out = b""
    for until, name in entries:
        one = ENTRY.pack(until, len(name)) + name
        if len(out) + len(one) > ROOM:
            break
        out += one
    return out.ljust(ROOM, b"\0")


def _unpack(data: bytes | None, now: int) -> list[tuple[int, bytes]]:
    """Return the entries that still hold."""
    out, at = [], 0
    while data is not None and at + ENTRY.size <= len(data):
        until, size = ENTRY.unpack_from(data, at)
        if not size:
            break
        if until > now:
            out.append((until, data[at + ENTRY.size : at + ENTRY.size + size]))
        at += ENTRY.size + size
    return out
