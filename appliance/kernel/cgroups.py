"""Control groups, version 2, wherever they are mounted.

Source: Documentation/admin-guide/cgroup-v2.rst. The id that BPF sees is the inode number of the directory.
"""

import os
from contextlib import suppress
from pathlib import Path

from appliance.model import HostError


def create(path: Path) -> None:
    """Make the cgroup and those above it; one that exists is kept."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "is cgroup2 mounted at cgroup_root?"
        raise HostError(f"make cgroup {path}: {error.strerror}", hint) from error
    if not (path / "cgroup.procs").exists():
        raise HostError(f"{path} is not a cgroup", "set cgroup_root to where cgroup2 is mounted")


def limit(path: Path, most: int) -> None:
    """Let no more cgroups be made below: whoever is delegated one could make others' work without end."""
    with suppress(OSError):  # a host that cannot is no less safe
        (path / "cgroup.max.descendants").write_text(f"{most}\n")


def identifier(path: Path) -> int:
    """Return the id that bpf_get_current_cgroup_id() has for processes in it."""
    return path.stat().st_ino


def move(pid: int, path: Path) -> None:
    """Move a process; what it opened before stays with its old cgroup."""
    try:
        (path / "cgroup.procs").write_text(f"{pid}\n")
    except OSError as error:
        raise HostError(f"move process {pid} to {path}: {error.strerror}") from error


def governed(top: Path) -> dict[int, str]:
    """Return id -> path below `top` ("" for `top` itself) of all cgroups there are."""
    found: dict[int, str] = {}
    for here, _below, _files in os.walk(top):
        path = Path(here)
        try:
            found[identifier(path)] = "" if path == top else str(path.relative_to(top))
        except FileNotFoundError:  # removed while we looked
            continue
    return found


def processes(top: Path) -> list[int]:
    """Return the pids in `top` and below."""
    pids: list[int] = []
    for here, _below, _files in os.walk(top):
        try:
            pids += [int(pid) for pid in (Path(here) / "cgroup.procs").read_text().split()]
        except OSError:  # removed while we looked, or threaded
            continue
    return pids
