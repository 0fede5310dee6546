"""Starting a worker: listeners, an unprivileged process, and the descriptors it inherits.

The worker parses hostile bytes, so it gives up user, groups, capabilities and the right to gain any before it
reads its first one (bare.py): after its imports, since the program may be where only root can read. It gets
descriptors, no names: its listeners, the channel to the hub, and the map that tells whose connection it
accepted.
"""

import errno
import grp
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from appliance.kernel import cells, names, needs
from appliance.model import HostError
from appliance.service.door import pair

BACKLOGS = 2048  # connections in all listen queues: half of what the fence's map of peers holds (VG_PEERS), an LRU
BACKLOG_MIN = 64  # connections in one queue, however many workers there are
FALLBACK = "nobody"  # when the user of the settings is not on this host
FILES = 65536  # descriptors a worker may open: two a flow, and room


class Inherited(msgspec.Struct, frozen=True, gc=False):
    """Descriptors a worker is given, besides its channel."""

    listeners: tuple[int, ...]
    maps: tuple[int, ...]  # the fence's, read-only, in the order of fence.RELAYS
    records: int  # the directory to record in, this worker's own
    frozen: int = -1  # the program of kernel.frozen; -1: none


class User(msgspec.Struct, frozen=True, gc=False):
    """Whom workers run as."""

    name: str
    uid: int
    gid: int


class Running(msgspec.Struct, frozen=True):
    """A started worker, as its hub holds it."""

    process: subprocess.Popen[bytes]
    pidfd: int
    channel: socket.socket  # the hub's end, for channel.hub_end
    door: socket.socket | None = None  # the same, for listeners it is to be given (door.py)

    def kill(self) -> None:
        """End it at once."""
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself


def user(name: str) -> User:
    """Return the user workers run as: `name` if the host knows it, else nobody; ourselves if we are not root.

    Raises:
        HostError: there is neither, or it is root.
    """
    if os.geteuid() != 0:
        return User(str(os.geteuid()), os.geteuid(), os.getegid())
    for one in (name, FALLBACK):
        try:
            found = pwd.getpwnam(one)
        except KeyError:
            continue
        if found.pw_uid == 0:
            raise HostError(f"relay.user: `{one}` is root", "workers parse hostile bytes: name another user")
        return User(one, found.pw_uid, found.pw_gid)
    raise HostError(f"relay.user: neither `{name}` nor `{FALLBACK}` exists", "adduser --system vendorgate")


def group(name: str) -> int:
    """Return the number of a group, -1 if the host does not know it."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return -1


def listeners(port: int, workers: int = 1) -> list[socket.socket]:
    """Return the listening sockets of one of so many workers, 127.0.0.1 and ::1 (if the host has IPv6).

    Raises:
        HostError: the port is taken by somebody else.
    """
    found = [_listener(socket.AF_INET, "127.0.0.1", port, backlog(workers))]
    try:
        found.append(_listener(socket.AF_INET6, "::1", found[0].getsockname()[1], backlog(workers)))
    except HostError as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in NO_IPV6:
            found[0].close()
            raise
    return found


def backlog(workers: int) -> int:
    """Return how many connections may wait at each listener of so many workers."""
    return max(BACKLOG_MIN, BACKLOGS // (2 * workers))


NO_IPV6 = (97, 99)  # EAFNOSUPPORT, EADDRNOTAVAIL: then no governed process has IPv6 either


def _listener(family: int, host: str, port: int, backlog: int) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise HostError(f"listen on {host}: {error.strerror}") from error
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # the kernel spreads connections
        sock.bind((host, port))
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        who = needs.holder(port) if error.errno == errno.EADDRINUSE else ""
        what = f"listen on {host} port {port}: {error.strerror}{f' by {who}' if who else ''}"
        raise HostError(what, f"choose another relay.port, or stop {who or 'what listens there'}") from error
    return sock


def command(module: str, who: User, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs a module of ours, which first of all becomes that user."""
    return [sys.executable, "-I", "-m", module, str(who.uid), str(who.gid), *arguments]


def start(who: User, given: Inherited) -> Running:
    """Start a worker; the descriptors stay ours too.

    Raises:
        HostError: it could not be started.
    """
    ours, theirs = socket.socketpair()
    door, inner = pair()
    shared = (given.frozen, names.table(), cells.memory())
    numbers = [theirs.fileno(), inner.fileno(), *shared, *given.maps, given.records, *given.listeners]
    try:
        process = subprocess.Popen(
            command("appliance.service.worker", who, [*map(str, numbers)]),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if sys.stderr else subprocess.DEVNULL,
            pass_fds=[number for number in numbers if number >= 0],
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            umask=0o077,
        )
        return Running(process, os.pidfd_open(process.pid), ours, door)
    except OSError as error:
        ours.close()
        door.close()
        raise HostError(f"start a worker: {error}") from error
    finally:
        theirs.close()
        inner.close()
