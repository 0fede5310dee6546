"""Who is at the other end of an accepted connection, as the kernel copied it at connect.

Needs nothing but the file descriptor of the map of peers: a lookup on an inherited one is allowed to a
process without rights (linux 5.19 and later, whatever kernel.unprivileged_bpf_disabled says). /proc is not
read.
"""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.kernel import cgroups, layout, unit
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
    image: bytes = b""  # of the map of images: nobody has found out yet what the executable is
    transport: str = "tcp"


class Peers:
    """The flows on their way to the relay."""

    def __init__(self, fd: int, slice_path: Path, images: int = -1, carried: int = -1) -> None:
        """`fd`, `images` and `carried` are those of `Fence`, perhaps inherited; `slice_path` the governed cgroup.

        Without `images` and `carried`, what takes files to know of a process is not known.
        """
        self._map = Map(fd)
        self._images = Map(images) if images >= 0 else None
        self._carried = Map(carried) if carried >= 0 else None
        self._slice = slice_path
        self._netns = netns_cookie()
        self._paths: dict[int, str] = {}

    def find(self, peer: Address, server: Address | None = None, netns: int = 0) -> Peer | None:
        """Return who connected from `peer`, the address that accept() gave, in a namespace; 0: our own.

        With `server`, from original.original(), an entry for another destination is not this connection's.
        None: no governed process opened it.
        """
        data = self._map.lookup(layout.peer_key(netns or self._netns, peer))
        if data is None:
            return None
        flow = layout.Opened.unpack(data)
        if server is not None and server != flow.to:
            return None
        return self.of(flow)

    def each(self) -> Iterator[tuple[Address, Peer]]:
        """Yield all flows of all namespaces that are remembered: those on their way, and some that have come."""
        for key in self._map:
            data = self._map.lookup(key)
            if data:
                _netns, ip, port, family, _zero = layout.PEER.unpack(key)
                yield layout.address(ip, port, family), self.of(layout.Opened.unpack(data))

    def of(self, flow: layout.Opened) -> Peer:
        """Return who opened a flow."""
        process = self._process(flow)
        image = flow.process.image if flow.process and process and self._images else b""
        found = Peer(
            process, flow.to, flow.cookie, flow.opened_ns, flow.sequence, flow.cgroup, flow.epoch, image
        )
        return self.again(found)

    def again(self, peer: Peer) -> Peer:
        """Return the same with what was found out of its executable since."""
        process = peer.process
        if process is None:
            return peer
        image = self._image(peer.image) if peer.image else None
        if image:
            process = with_image(process, image)
        process = msgspec.structs.replace(process, became=self.became(peer.cookie, process.cgroup))
        return msgspec.structs.replace(peer, process=process, image=b"" if image else peer.image)

    def became(self, cookie: int, cgroup: str) -> Process | None:
        """Return the image that holds a socket, if an exec put it in place of that which connected."""
        data = self._carried.lookup(cookie.to_bytes(8, sys.byteorder)) if self._carried else None
        if data is None:
            return None
        who = layout.Executed.unpack(data)
        after, image = made(who, cgroup, who.uid), self._image(who.image)
        return with_image(after, image) if image else after

    def _image(self, key: bytes) -> layout.Image | None:
        data = self._images.lookup(key) if self._images else None
        return layout.Image.unpack(data) if data else None

    def _process(self, flow: layout.Opened) -> Process | None:
        who = flow.process
        cgroup = self._path(flow.cgroup)
        if who is None or cgroup is None:
            return None
        believed = unit.believed(self._slice, cgroup)
        process = made(who, cgroup, flow.uid)  # uid at connect: it may have changed since exec
        return msgspec.structs.replace(process, unit=unit.unit(believed), container=unit.container(believed))

    def _path(self, cgroup: int) -> str | None:
        if cgroup not in self._paths:
            if len(self._paths) > MAX_CGROUPS:
                self._paths.clear()
            self._paths.update(cgroups.governed(self._slice))
        return self._paths.get(cgroup)


def made(who: layout.Executed, cgroup: str, uid: int) -> Process:
    """Return a process as the kernel copied it."""
    return Process(
        who.pid, who.started, who.exe, who.argv, cgroup, uid, parents=who.parents, inode=who.inode, device=who.device
    )


def with_image(process: Process, image: layout.Image) -> Process:
    """Return a process with what was found out of its executable."""
    return msgspec.structs.replace(
        process,
        sha256=image.sha256,
        package=image.package,
        script=image.script,
        script_sha256=image.script_sha256,
        resolved=True,
    )


def netns_cookie() -> int:
    """Return the cookie of the network namespace that this thread is in."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        return netns_of(sock)


def netns_of(sock: socket.socket) -> int:
    """Return the cookie of the network namespace that a socket is of."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)
