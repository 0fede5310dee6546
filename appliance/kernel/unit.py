"""The unit and the container of a process, by its cgroup: the kernel's word, not the process's.

Sources: systemd "Control Group APIs and Delegation" (the first name below the slices is the unit; a leading `_` is an
escape); the names that Docker, Podman, CRI-O, containerd, LXC and systemd-nspawn give to cgroups, with either driver.

Only a cgroup made by root says something. Whoever is delegated one may make others below it and call them what he
likes, so names are believed from the top down to the first cgroup of another owner.
"""

import os
import re
from pathlib import Path

UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(?:service|scope|socket|mount|swap)")
ID = r"[0-9a-f]{64}"
# What names a container, whole. `conmon` beside one is its keeper on the host, and not in it.
CONTAINER = re.compile(
    rf"(?:(?:docker|libpod|libpod-payload|cri-containerd|crio|nerdctl)-)?(?P<id>{ID})(?:\.scope)?"
    r"|machine-(?P<machine>.+)\.scope|systemd-nspawn@(?P<nspawn>.+)\.service|lxc\.payload\.(?P<lxc>.+)"
)


def unit(cgroup: str) -> str:
    """Return the systemd unit of a path below the slice, "" if there is none."""
    for part in cgroup.split("/"):
        name = part.removeprefix("_")
        if not name.endswith(".slice"):
            return name if UNIT.fullmatch(name) else ""
    return ""


def whole(cgroup: str) -> str:
    """Return the cgroup of all that belongs together: the first below the slices, the unit's own."""
    parts = cgroup.split("/")
    for i, part in enumerate(parts):
        if not part.endswith(".slice"):
            return "/".join(parts[: i + 1])
    return cgroup


def container(cgroup: str) -> str:
    """Return the id of a container, or a machine's name; "" if the path names none."""
    for part in cgroup.split("/"):
        found = CONTAINER.fullmatch(part)
        if found:
            return _unescaped(next(text for text in found.groups() if text))
    return ""


def believed(top: Path, cgroup: str) -> str:
    """Return the path as far as root made it."""
    parts = cgroup.split("/") if cgroup else []
    for i in range(len(parts)):
        try:
            if os.stat(top / "/".join(parts[: i + 1])).st_uid:
                return "/".join(parts[:i])
        except OSError:  # gone: who made it is not known any more
            return "/".join(parts[:i])
    return cgroup


def _unescaped(name: str) -> str:
    r"""Return a name without systemd's escapes, as `my\x2dmachine`."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), name)
