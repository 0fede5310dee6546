"""What a host must have before anything is tried, each lack with its one remedy: who starts here meets these first.

`check` tries everything and tells all; this is asked by the commands that would otherwise fail half way.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from appliance.model import HostError

OLDEST = (5, 18)  # linux; of what the fence cannot do without
BTF = Path("/sys/kernel/btf/vmlinux")
PROC = Path("/proc")
CAPABILITIES = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN", 38: "CAP_PERFMON", 39: "CAP_BPF"}
LISTENING = "0A"  # TCP_LISTEN; linux/tcp_states.h
HIERARCHY = "boot with systemd.unified_cgroup_hierarchy=1, or: mount -t cgroup2 none /sys/fs/cgroup"


def missing(status: Path = PROC / "self/status") -> list[str]:
    """Return the capabilities that we lack of those that the fence and the hub cannot do without."""
    for line in status.read_text().splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
            return [name for bit, name in CAPABILITIES.items() if not held >> bit & 1]
    return list(CAPABILITIES.values())


def rights(command: str) -> None:
    """
    Raises:
        HostError: we may not do what `command` does.
    """
    if lacking := missing():
        who = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
        what = f"{command} needs root: {who} is without {', '.join(lacking)}"
        hint = f"sudo {command}" if os.geteuid() else "run it outside the container or unit that takes them away"
        raise HostError(what, hint)


def cgroup2(root: Path, mounts: Path = PROC / "self/mountinfo") -> None:
    """
    Raises:
        HostError: there is no cgroup2 at `root`; the remedy says where it is.
    """
    found = [where for where, kind in _mounts(mounts) if kind == "cgroup2"]
    if any(root == where or where in root.parents for where in found):
        return
    hint = f"it is mounted at {found[0]}: write cgroup_root: {found[0]} into the settings" if found else HIERARCHY
    raise HostError(f"{root} is not cgroup2 (control groups, version 2)", hint)


def _mounts(path: Path) -> Iterator[tuple[Path, str]]:
    for line in path.read_text().splitlines():
        left, _, right = line.partition(" - ")
        yield Path(left.split()[4]), right.split()[0]


def remedy(release: str = os.uname().release, btf: Path = BTF) -> str:
    """Return what to do about a kernel that does not take our programs."""
    if not btf.exists():
        return f"this kernel tells no types ({btf}): boot one with CONFIG_DEBUG_INFO_BTF, as Debian's have"
    number = re.match(r"(\d+)\.(\d+)", release)
    if number and (int(number[1]), int(number[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return f"this kernel is {release}, and {oldest} or later is needed: Debian 12 and 13 have it"
    return "vendorgate check names what this kernel lacks"


def holder(port: int) -> str:
    """Return who listens on a TCP port of this network namespace, as "nginx (pid 4711)"; "" if nobody can tell."""
    inodes: set[str] = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for entry in PROC.iterdir() if inodes else ():
        if entry.name.isdigit():
            with suppress(OSError):
                if any(os.readlink(fd) in inodes for fd in (entry / "fd").iterdir()):
                    return f"{(entry / 'comm').read_text(errors='backslashreplace').strip()} (pid {entry.name})"
    return ""
