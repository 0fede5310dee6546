"""Who is at the other end of the control socket, by the kernel's word.

Sources: unix(7) SO_PEERCRED, SO_PEERPIDFD (Linux 6.5), pidfd_open(2), proc(5), cgroups(7).

A reviewer may be anyone the socket's mode lets in, except a process of the governed slice: what is held
must not approve itself. SO_PEERCRED names the process that connected by a number, which may since belong to
another process, so the number is only believed while a pidfd of that very process says it lives. A peer
that has ended (its socket kept by a child), that we cannot see or cannot place in the cgroup tree is
refused.
"""

import errno
import grp
import os
import pwd
import re
import select
import socket
import struct
from pathlib import Path

import msgspec

from appliance.model import HostError

SO_PEERPIDFD = 77  # asm-generic/socket.h; not in Python's socket module
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid


class Peer(msgspec.Struct, frozen=True, gc=False):
    """The process that connected, and the user it runs as."""

    pid: int
    uid: int
    user: str
    groups: frozenset[str]


class Refused(Exception):
    """This peer may not use the control socket."""


def identify(connection: socket.socket, governed: str, proc: Path = Path("/proc")) -> Peer:
    """Return who connected.

    Args:
        governed: path of the governed slice in the cgroup2 tree ("/vendor.slice").

    Raises:
        Refused: the peer is governed, or cannot be told from one that is.
    """
    pid, uid, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    if pid <= 0:
        raise Refused("the peer is in a process namespace that cannot be seen from here")
    pidfd = _pidfd(connection, pid, uid, proc)
    try:
        cgroup = _cgroup(pid, proc)
        if not _alive(pidfd):
            raise Refused("the process that connected has ended")
    finally:
        os.close(pidfd)
    if cgroup is None or cgroup.startswith("/.."):
        raise Refused("the cgroup of the peer cannot be told")
    if is_below(cgroup, governed):
        raise Refused("processes of the governed slice have no part in control")
    return Peer(pid, uid, *_names(uid))


def may_be_governed(connection: socket.socket, governed: str, proc: Path = Path("/proc")) -> bool:
    """Return whether the peer is of the governed slice, as far as a quick look tells; `identify` is the judge."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    cgroup = _cgroup(_CREDENTIALS.unpack(credentials)[0], proc)
    return cgroup is None or is_below(cgroup, governed)


def is_below(cgroup: str, governed: str) -> bool:
    """True for the cgroup `governed` itself and all in it."""
    return governed in ("/", cgroup) or cgroup.startswith(governed + "/")


def slice_path(directory: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the path of a cgroup directory as /proc/PID/cgroup writes it.

    Raises:
        HostError: `directory` is in no cgroup2 mount.
    """
    best: tuple[Path, str] | None = None
    target = Path(os.path.realpath(directory))
    for line in mountinfo.read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split(" ", 1)[0] != "cgroup2":
            continue
        root, point = (_unescape(field) for field in fields.split(" ")[3:5])
        if target.is_relative_to(point) and (best is None or len(point) >= len(str(best[0]))):
            best = (Path(point), root)
    if best is None:
        raise HostError(
            f"{directory} is not in a cgroup2 mount", "set cgroup_root to where cgroup2 is mounted"
        )
    point_path, root = best
    path = Path(root) / target.relative_to(point_path)
    return str(path)


def _pidfd(connection: socket.socket, pid: int, uid: int, proc: Path) -> int:
    """Return a pidfd of the process that connected."""
    try:
        return connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:  # ENOPROTOOPT: before Linux 6.5
            raise Refused("the process that connected has ended") from None
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        raise Refused("the process that connected has ended") from None
    # Without the kernel's pidfd the number may have been given to another process: at least it has to be of
    # the same user, or it could lend a governed process the standing of somebody else.
    if _owner(pid, proc) != uid:
        os.close(pidfd)
        raise Refused("the process that connected has ended")
    return pidfd


def _owner(pid: int, proc: Path) -> int:
    """Return the effective user of a process, -1 if it cannot be told."""
    try:
        text = (proc / str(pid) / "status").read_text(errors="surrogateescape")
    except OSError:
        return -1
    line = next((line for line in text.splitlines() if line.startswith("Uid:")), "")
    fields = line.split()
    return int(fields[2]) if len(fields) > 2 else -1


def _alive(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)


def _cgroup(pid: int, proc: Path) -> str | None:
    """Return the cgroup2 path of a process."""
    try:
        text = (proc / str(pid) / "cgroup").read_text(errors="surrogateescape")
    except OSError:
        return None
    return next((line[3:] for line in text.splitlines() if line.startswith("0::")), None)


def _names(uid: int) -> tuple[str, frozenset[str]]:
    """Return the user's name and the groups the host lists now, so that leaving a group takes effect at once.

    Every name of uid 0 is root; a user the databases do not know has no groups.
    """
    if uid == 0:
        return "root", frozenset({"root"})
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}", frozenset()
    groups = set()
    for number in os.getgrouplist(name, pwd.getpwuid(uid).pw_gid):
        try:
            groups.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return name, frozenset(groups)


def _unescape(field: str) -> str:
    r"""Return a path of mountinfo; blanks in it are written \040 and so on."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
