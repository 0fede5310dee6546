"""Containers below the slice: the relay's listeners and our table, in each network namespace of governed processes.

A redirect leads to the same namespace, so what a container connects to reaches the relay only where the relay listens
in the container's own. The hub looks for such namespaces, enters each in a thread, opens the listeners, hands them to
the workers, puts the steering in place, and last of all tells the fence, which has refused until then
(bpf/fence.bpf.c, `served`). When no governed process is left in it, all that is undone, and the namespace can go.

What a container means by a loopback address is its own; the relay would connect to the host's. The fence refuses it.
A vendor may make namespaces by itself, and is root in them: it can take the table away, which gains it nothing.
"""

import asyncio
import logging
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.kernel import networks, nft
from appliance.kernel.layout import NAMESPACES, STEER_MARK
from appliance.kernel.libbpf import Map
from appliance.kernel.peers import netns_cookie, netns_of
from appliance.model import HostError
from appliance.service import door, handover, launch
from appliance.service.handover import Handover

if TYPE_CHECKING:
    from appliance.service.hub import Hub

log = logging.getLogger("vendorgate.hub")

LOOK_S = 0.5  # a container's first connections are refused for about so long
SHARE = 32  # namespaces of one vendor; the rest of it has no network
GONE_LOOKS = 6  # in a row without a governed process, until a namespace is let go: one may just be starting
AGAIN_S = 30.0  # after a namespace that could not be made ready: its owner must not hold up the others
TABLES = 8  # tables looked at in one look, in turn: each is a program that runs
SMALL_QUEUES = 1 << 10  # so that launch.listeners gives each the least: there may be many
YES = (1).to_bytes(4, sys.byteorder)


class Inside:
    """One namespace that is served."""

    def __init__(self, number: int, cookie: bytes, table: str, listeners: list[socket.socket], vendor: str) -> None:
        self.number, self.cookie, self.table = number, cookie, table
        self.listeners, self.vendor = listeners, vendor
        self.pid = 0  # a process in it
        self.absent = 0  # looks


class Nested:
    """`look` in a thread, again and again; `welcome` each worker that starts."""

    def __init__(
        self, top: Path, port: int, namespaces: int, incident: Callable[[str], None], kept: Handover | None = None
    ) -> None:
        """`top` is the governed cgroup, `namespaces` the fence's map; `kept` has what an earlier hub left."""
        self._top, self._port, self._map, self._incident = top, port, Map(namespaces), incident
        self._own = os.stat("/proc/self/ns/net").st_ino
        self._lock = threading.Lock()
        self._inside: dict[int, Inside] = {}  # by inode: a namespace whose sockets we hold keeps it
        self._later: dict[int, float] = {}  # those that failed: when they are tried again
        self._doors: dict[socket.socket, set[int]] = {}  # of workers, and what each has
        self._turn = 0
        self._full = False
        self._kept = kept or Handover({})
        for number, sockets in handover.inside(self._kept).items():
            self._inside[number] = _left(number, sockets)
        served = {inside.cookie for inside in self._inside.values()}
        for key in list(self._map):  # of an earlier hub, whose listeners are gone
            if key not in served:
                self._map.delete(key)

    @property
    def count(self) -> int:
        """Namespaces that are served."""
        return len(self._inside)

    def welcome(self, running: launch.Running) -> None:
        """Give a worker that starts what there is."""
        with self._lock:
            self._doors = {end: has for end, has in self._doors.items() if not ended(end)}
            if running.door:
                self._doors[running.door] = set()
            self._share()

    def look(self) -> None:
        """Serve namespaces that have come, let go of those that have gone, restore what others changed.

        Raises:
            HostError: one cannot be served.
        """
        found = dict(self._found())
        failed: list[HostError] = []
        with self._lock:
            self._let_go(found)
            for number, (pid, vendor) in found.items():
                if number in self._inside:
                    self._inside[number].pid, self._inside[number].vendor = pid, vendor
                elif self._room(vendor) and self._later.get(number, 0.0) < time.monotonic():
                    try:
                        self._serve(number, pid, vendor)
                    except (HostError, OSError) as error:
                        self._later[number] = time.monotonic() + AGAIN_S
                        failed.append(HostError(f"a network namespace of {vendor} cannot be served: {error}"))
            self._later = {number: at for number, at in self._later.items() if number in found}
            self._share()
            self._restore()
        if failed:
            raise failed[0]

    def close(self) -> None:
        """Let go of all; what is kept for the next hub is served on: who connects meanwhile waits."""
        with self._lock:
            for number in list(self._inside):
                if self._kept.keeps:
                    for sock in self._inside.pop(number).listeners:
                        sock.close()
                else:
                    self._leave(number)
            for end in self._doors:
                end.close()
            self._doors.clear()

    # -- finding -----------------------------------------------------------------------------------------------------

    def _found(self) -> Iterator[tuple[int, tuple[int, str]]]:
        """Yield the namespaces of governed processes: inode, a process in it, its vendor."""
        for here, _below, _files in os.walk(self._top):
            vendor = os.path.relpath(here, self._top).partition("/")[0]
            with suppress(OSError):  # removed while we looked, or threaded
                for pid in (Path(here) / "cgroup.procs").read_text().split():
                    with suppress(OSError):
                        number = os.stat(f"/proc/{pid}/ns/net").st_ino
                        if number != self._own and pid != "0":
                            yield number, (int(pid), vendor)

    def _room(self, vendor: str) -> bool:
        shares = Counter(inside.vendor for inside in self._inside.values())
        room = len(self._inside) < NAMESPACES and shares[vendor] < SHARE
        if not room and not self._full:
            has = f"{shares[vendor]} of {len(self._inside)}"
            self._incident(f"{vendor} has more network namespaces than are served: {has}")
        self._full = not room
        return room

    # -- serving -----------------------------------------------------------------------------------------------------

    def _serve(self, number: int, pid: int, vendor: str) -> None:
        try:
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # it has ended
        try:
            if os.fstat(fd).st_ino != number:
                return  # it has moved on; the next look will tell
            inside = networks.inside(fd, lambda: self._made(number, vendor))
        finally:
            os.close(fd)
        inside.pid = pid
        self._inside[number] = inside
        handover.keep_inside(self._kept, number, inside.listeners)
        self._share()
        self._map.update(inside.cookie, YES)
        log.info("a network namespace of %s is served", vendor)

    def _made(self, number: int, vendor: str) -> Inside:
        """Open the listeners and steer, in the namespace that this thread is in."""
        listeners = launch.listeners(self._port, SMALL_QUEUES)
        try:
            cookie = netns_cookie().to_bytes(8, sys.byteorder)
            return Inside(number, cookie, steer(self._port), listeners, vendor)
        except BaseException:
            for sock in listeners:
                sock.close()
            raise

    def _share(self) -> None:
        """Give each worker what it lacks, and take from it what is gone; one that takes nothing now is asked again."""
        for end, has in self._doors.items():
            for number in has - self._inside.keys():
                if door.tell(end, number, ()):
                    has.discard(number)
            for number in self._inside.keys() - has:
                if door.tell(end, number, self._inside[number].listeners):
                    has.add(number)

    def _let_go(self, found: dict[int, tuple[int, str]]) -> None:
        for number, inside in list(self._inside.items()):
            inside.absent = 0 if number in found else inside.absent + 1
            if inside.absent > GONE_LOOKS:
                self._leave(number)

    def _leave(self, number: int) -> None:
        inside = self._inside.pop(number)
        self._map.delete(inside.cookie)
        for sock in inside.listeners:
            sock.close()
        handover.drop_inside(self._kept, number)
        self._share()

    def _restore(self) -> None:
        """Look at some tables, and put back what others changed. Until then the fence drops."""
        numbers = sorted(self._inside)
        for _ in range(min(TABLES, len(numbers))):
            inside = self._inside[numbers[self._turn % len(numbers)]]
            self._turn += 1
            with suppress(OSError):
                fd = os.open(f"/proc/{inside.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if os.fstat(fd).st_ino == inside.number:
                        inside.table = networks.inside(fd, lambda inside=inside: self._steered(inside))  # type: ignore[misc]
                finally:
                    os.close(fd)

    def _steered(self, inside: Inside) -> str:
        listing = nft.listing()
        if listing == inside.table:
            return inside.table
        if not inside.table:  # of an earlier hub
            return steer(self._port)
        what = f"the nftables table in a network namespace of {inside.vendor}"
        self._incident(f"{what} was removed or changed by others; it is back")
        return steer(self._port)


def _left(number: int, listeners: list[socket.socket]) -> Inside:
    """Return a namespace as an earlier hub left it. Its table is looked at, and who is in it is found, at the looks."""
    cookie = netns_of(listeners[0]).to_bytes(8, sys.byteorder)
    return Inside(number, cookie, "", listeners, "")


def ended(end: socket.socket) -> bool:
    """Return whether the worker at the other end of a door is gone; then ours is closed."""
    try:
        gone = end.recv(1) == b""  # it says nothing
    except BlockingIOError:
        return False
    except OSError:
        gone = True
    if gone:
        end.close()
    return gone


def nested(hub: "Hub") -> Nested:
    """Return what serves the containers of a hub whose fence is up."""
    loop = asyncio.get_running_loop()

    def incident(text: str) -> None:
        loop.call_soon_threadsafe(hub.incident, text)

    return Nested(hub.place.cgroup, hub.place.port, hub.fence.namespaces, incident, hub.handover)


def steer(port: int) -> str:
    """Put our table in place in the namespace of this thread; return how nft lists it."""
    try:
        nft.apply(nft.ruleset(port, STEER_MARK))
    except HostError:  # again without what not all kernels have; what else is wrong is raised by this
        nft.apply(nft.ruleset(port, STEER_MARK, brief=False))
    return nft.listing()
