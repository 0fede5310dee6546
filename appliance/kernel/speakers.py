"""Who sent a packet that is in the queue: told by its mark, in both directions.

Each socket that may send to what the packet engine judges carries a mark that BPF gave it (`layout.QUEUE_MARK`), and
in it the number of an entry of the map of speakers. nftables puts the socket's own mark on each of its packets,
whatever the process wrote there by a control message, and by the mark of the connection on what answers it. So nothing
is looked up by addresses and ports: sockets that share a port (SO_REUSEPORT), that are closed before the packet is
read, in whichever network namespace, are told apart. An entry outlives its socket for as long as a packet may wait.

`find` names the process that made the socket, or has connected it or named a destination with it since: the last one.
"""

import struct
import sys
from pathlib import Path

from appliance.kernel import cgroups, layout
from appliance.kernel.libbpf import Map
from appliance.kernel.peers import Peer, Peers

SLOT = struct.Struct("=I")
COOKIE = 8  # bytes; the first of struct vg_flow


def is_queued(mark: int) -> bool:
    """Return whether a mark is one of the fence's, so that `Speakers.find` may know whose."""
    return mark & layout.QUEUE_TAG == layout.QUEUE_MARK


class Speakers:
    """The sockets that may send to the engine. `fd` is that of `Fence.speakers`, perhaps inherited."""

    def __init__(self, fd: int, slice_path: Path, images: int = -1, carried: int = -1) -> None:
        """`images` and `carried` as for Peers: without them, what takes files to know is not known."""
        self._map = Map(fd)
        self._peers = Peers(fd, slice_path, images, carried)

    def find(self, mark: int) -> Peer | None:
        """Return who sends and is sent to over the socket with this mark (`Queued.mark`).

        Its `server` is the destination that was named last, which need not be this packet's; `scope` its cgroup.
        None: it is nobody's, or of a socket that was closed long ago. Such a packet is to be dropped and counted.
        """
        if not is_queued(mark):
            return None
        data = self._map.lookup(SLOT.pack(mark & layout.QUEUE_SLOT))
        if data is None:
            return None
        return self._peers.of(layout.Opened.unpack(data[layout.SPEAKER_HEAD :]))

    def cookie(self, mark: int) -> int:
        """Return the cookie of the socket that has this mark now; 0: nobody's. A number is given out again."""
        data = self._map.lookup(SLOT.pack(mark & layout.QUEUE_SLOT)) if is_queued(mark) else None
        flow = data[layout.SPEAKER_HEAD :] if data else b""
        return int.from_bytes(flow[:COOKIE], sys.byteorder)

    def again(self, speaker: Peer) -> Peer:
        """Return the same with what was found out of its executable since."""
        return self._peers.again(speaker)


def vendors(shares: int, slice_path: Path) -> dict[int, list[str]]:
    """Return the vendors that have sockets for the engine, by the queue that takes their packets."""
    found: dict[int, list[str]] = {}
    there, held = cgroups.governed(slice_path), Map(shares)
    for key in held:
        numbers, queue, _zero = layout.SHARED.unpack(held.lookup(key) or bytes(layout.SHARED.size))
        path = there.get(int.from_bytes(key, sys.byteorder))
        if numbers and path is not None:
            found.setdefault(queue, []).append(path or slice_path.name)
    return found
