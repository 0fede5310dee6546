"""What outlives a restart: listening sockets and the claim on the nftables table, kept by the service manager.

A connection that comes while no hub runs waits in the queue of a listener that is still open, and the next hub serves
it: none is refused. systemd keeps a descriptor that it was sent with FDSTORE=1 over a restart, an upgrade and a crash,
and gives it to the next main process by LISTEN_FDS; at a `systemctl stop` it closes them, and then connections are
refused at once. Started by hand, there is nobody who keeps anything, and all this does nothing.

The names say what a descriptor is, so that one of another port, or of a table that would be another, is not taken:

    listen-PORT-PLACE-FAMILY    a listener of the worker at PLACE; FAMILY is 4 or 6
    inside-INODE-FAMILY         a listener in the network namespace of a container, by its inode
    steering-DIGEST             the netlink socket that owns the table of that content

Source: sd_notify(3), FDSTORE, FDSTOREREMOVE, FDNAME, FDPOLL, BARRIER; sd_listen_fds(3).
"""

import array
import logging
import os
import select
import socket
from collections.abc import MutableMapping, Sequence
from contextlib import suppress

from appliance.kernel import nft
from appliance.kernel.table import Table
from appliance.service import launch

log = logging.getLogger("vendorgate.hub")

FIRST = 3  # SD_LISTEN_FDS_START
MOST = 4096  # descriptors taken; the unit says FileDescriptorStoreMax=2048
BARRIER_S = 5.0  # for the manager to have done what it was told
LISTEN, INSIDE, STEERING = "listen", "inside", "steering"
FAMILIES = {"4": socket.AF_INET, "6": socket.AF_INET6}
Sockets = list[socket.socket]


class Handover:
    """What an earlier life left, and a place to leave things to the next. May be used from several threads."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take what `environ` says is ours; it is then taken out of it, as children must not think it theirs."""
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._given = _given(environ)
        self._kept = set(self._given)  # names in the store

    @property
    def keeps(self) -> bool:
        """Whether somebody is there who keeps things for the next life."""
        return bool(self._address)

    @property
    def names(self) -> list[str]:
        """The names of what was left and nobody took so far."""
        return sorted(self._given)

    def take(self, name: str) -> socket.socket | None:
        """Return what was left under a name, to be closed by the caller; None if there is none."""
        fd = self._given.pop(name, -1)
        return socket.socket(fileno=fd) if fd >= 0 else None

    def keep(self, name: str, sock: socket.socket) -> None:
        """Have a socket kept for the next life, unless it came from the one before under this name."""
        if self.keeps and name not in self._kept and self._tell(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", sock.fileno()):
            self._kept.add(name)

    def drop(self, name: str) -> None:
        """Have it kept no more."""
        left = self.take(name)
        if left:
            left.close()
        if name in self._kept:
            self._kept.discard(name)
            self._tell(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def drop_all(self, what: str) -> None:
        """Drop all of a kind, and wait until the manager has let go of them."""
        found = [name for name in self._kept if name.startswith(f"{what}-")]
        for name in found:
            self.drop(name)
        if found:
            self._wait()

    def tell(self, text: str) -> None:
        """Tell the manager something else."""
        if self.keeps:
            self._tell(text)

    def close(self) -> None:
        """Let go of what nobody took: it is of no use to this life, nor to the next."""
        for name in self.names:
            self.drop(name)

    def _tell(self, text: str, fd: int = -1) -> bool:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.sendmsg([text.encode()], rights, 0, address)
        except OSError as error:
            log.warning("the service manager cannot be told `%s`: %s", text.partition("\n")[0], error)
            return False
        return True

    def _wait(self) -> None:
        """Return when the manager has read all that was sent so far: it closes its end of a pipe then."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            told = self._tell("BARRIER=1", theirs)
        finally:
            os.close(theirs)
        try:
            poll = select.poll()
            poll.register(ours, 0)  # a hang-up is always told
            if told and not poll.poll(BARRIER_S * 1000):
                log.warning("the service manager does not answer within %.0f s", BARRIER_S)
        finally:
            os.close(ours)


def listeners(handover: Handover, port: int, workers: int) -> list[Sockets]:
    """Return the listening sockets of each worker: those left, and new ones where there are too few.

    Those left for more workers than there are now go to the others, with what waits in their queues.

    Raises:
        HostError: the port is taken by somebody else.
    """
    found: list[Sockets] = [[] for _ in range(workers)]
    try:
        for name in handover.names:
            kind, *rest = name.split("-")
            if kind == LISTEN and len(rest) == 3 and rest[0] == str(port):
                sock = _listening(handover, name, port)
                if sock:
                    found[int(rest[1]) % workers].append(sock)
        for sock in (sock for sockets in found for sock in sockets):
            sock.listen(launch.backlog(workers))
        for place in (place for place in range(workers) if not found[place]):
            found[place] = launch.listeners(port, workers)
            for sock in found[place]:
                handover.keep(f"{LISTEN}-{port}-{place}-{_family(sock)}", sock)
    except BaseException:
        for sock in (sock for sockets in found for sock in sockets):
            sock.close()
        raise
    return found


def inside(handover: Handover) -> dict[int, Sockets]:
    """Return the listeners left in network namespaces of containers, by the inode of each."""
    found: dict[int, Sockets] = {}
    for name in handover.names:
        kind, *rest = name.split("-")
        if kind == INSIDE and len(rest) == 2 and rest[0].isdigit():
            sock = _listening(handover, name, 0)
            if sock:
                found.setdefault(int(rest[0]), []).append(sock)
    return found


def keep_inside(handover: Handover, number: int, sockets: Sequence[socket.socket]) -> None:
    """Keep the listeners of a container."""
    for sock in sockets:
        handover.keep(f"{INSIDE}-{number}-{_family(sock)}", sock)


def drop_inside(handover: Handover, number: int) -> None:
    """Let go of those of a container that is gone: they hold its namespace."""
    for family in FAMILIES:
        handover.drop(f"{INSIDE}-{number}-{family}")


def steer(handover: Handover, table: Table, anew: bool) -> str:
    """Put the table in force, or take it over if it is the one that was left; return how nft lists it.

    Raises:
        HostError: nft or the kernel refuses it.
    """
    left = None if anew else handover.take(f"{STEERING}-{table.digest()}")
    if left:
        table.adopt(left)
        return nft.listing()
    table.release()
    handover.drop_all(STEERING)  # else nobody could change what it owns
    listing = table.put()
    if table.claim:
        handover.keep(f"{STEERING}-{table.digest()}", table.claim)
    return listing


def _listening(handover: Handover, name: str, port: int) -> socket.socket | None:
    """Take a listener, if it is one: of that port, if that is not 0."""
    sock = handover.take(name)
    try:
        if sock and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and port in (0, sock.getsockname()[1]):
            sock.setblocking(False)
            return sock
    except OSError:
        pass
    if sock:
        sock.close()
    handover.drop(name)
    return None


def _family(sock: socket.socket) -> str:
    return next(name for name, family in FAMILIES.items() if family == sock.family)


def _given(environ: MutableMapping[str, str]) -> dict[str, int]:
    """Return the descriptors that are meant for this process, by name; each is closed at an exec."""
    pid, count, names = (environ.pop(key, "") for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdigit() or int(count) > MOST:
        return {}
    found: dict[str, int] = {}
    for fd, name in zip(range(FIRST, FIRST + int(count)), names.split(":"), strict=False):
        with suppress(OSError):
            os.set_inheritable(fd, False)
            if name in found:
                os.close(fd)
            else:
                found[name] = fd
    return found
