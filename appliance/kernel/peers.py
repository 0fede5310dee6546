"""Who is at the other end of an accepted connection, as the kernel copied it at connect.

Needs nothing but the file descriptor of the map of peers: a lookup on an inherited one is allowed to a
process without rights (linux 5.19 and later, whatever kernel.unprivileged_bpf_disabled says). /proc is not
read.
"""

import socket
import sys
from pathlib import Path

import msgspec

from appliance.kernel import cgroups, layout
from appliance.kernel.libbpf import Map
from appliance.model import Address, Process

SO_NETNS_COOKIE = 71  # asm-generic/socket.h, linux 5.14
MAX_CGROUPS = 16384  # remembered ids; four times what the fence's map of scopes holds


class Peer(msgspec.Struct, frozen=True, gc=False):
    """A governed connection. `process` None: not known, and then nobody's."""

    process: Process | None
    server: Address  # where the process meant to go
    cookie: int
    opened_ns: int  # since boot
    sequence: int = 0  # as model.Flow has them
    scope: int = 0
    epoch: int = 0


class Peers:
    """The flows on their way to the relay."""

    def __init__(self, fd: int, slice_path: Path) -> None:
        """`fd` is `Fence.peers`, perhaps inherited; `slice_path` the governed cgroup's directory."""
        self._map = Map(fd)
        self._slice = slice_path
        self._netns = netns_cookie()
        self._paths: dict[int, str] = {}

    def find(self, peer: Address, server: Address | None = None) -> Peer | None:
        """Return who connected from `peer`, the address that accept() gave.

        With `server`, from original.original(), an entry for another destination is not this connection's.
        None: no governed process opened it.
        """
        data = self._map.lookup(layout.peer_key(self._netns, peer))
        if data is None:
            return None
        flow = layout.Opened.unpack(data)
        if server is not None and server != flow.to:
            return None
        return Peer(
            self._process(flow), flow.to, flow.cookie, flow.opened_ns, flow.sequence, flow.cgroup, flow.epoch
        )

    def _process(self, flow: layout.Opened) -> Process | None:
        who = flow.process
        cgroup = self._path(flow.cgroup)
        if who is None or cgroup is None:
            return None
        return Process(
            who.pid, who.started, who.exe, who.argv, cgroup, flow.uid, parents=who.parents
        )  # uid at connect: it may have changed since exec

    def _path(self, cgroup: int) -> str | None:
        if cgroup not in self._paths:
            if len(self._paths) > MAX_CGROUPS:
                self._paths.clear()
            self._paths.update(cgroups.governed(self._slice))
        return self._paths.get(cgroup)


def netns_cookie() -> int:
    """Return the cookie of the network namespace that this process is in."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)
