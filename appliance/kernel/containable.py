"""Who in the slice could get out of it, or past the fence, by rights that the fence cannot take away.

Sources: capabilities(7), user_namespaces(7), cgroups(7) "Delegation", ptrace(2), proc(5). What is looked at is what
processes have now, whatever their units say. A process that is root with CAP_NET_ADMIN, CAP_BPF or CAP_SYS_ADMIN can
take the fence away, and nothing of ours can prevent it: it is named, and what to change in its unit.

request_key(2) is for everybody, and has the kernel run a program for keys that are not there: as root, in no slice.
That of keyutils looks up whatever name its caller gives (request-key(8), key.dns_resolver(8)).
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.kernel import cgroups, unit
from appliance.kernel.fence import Place

PROC = Path("/proc")
MAX_LOOKED = 4096  # processes of one look; the rest is looked at next time, as pids go round
MAX_NAMED = 3  # of those that share a user
UPCALL = Path("/sbin/request-key")
FILTERED = "2"  # SECCOMP_MODE_FILTER of linux/seccomp.h; what a filter says cannot be read

# capability -> what it lets its holder do. Numbers of linux/capability.h.
HELD = {
    2: ("CAP_DAC_READ_SEARCH", "reads every file, keys and records too"),
    12: ("CAP_NET_ADMIN", "changes the firewall and the routes"),
    13: ("CAP_NET_RAW", "sends packets that are of no socket"),
    16: ("CAP_SYS_MODULE", "loads code into the kernel"),
    17: ("CAP_SYS_RAWIO", "writes to the memory of the machine"),
    19: ("CAP_SYS_PTRACE", "takes over processes outside the slice"),
    21: ("CAP_SYS_ADMIN", "takes the fence away"),
    27: ("CAP_MKNOD", "makes devices, and so reads disks"),
    38: ("CAP_PERFMON", "reads the memory of the kernel"),
    39: ("CAP_BPF", "attaches programs of its own"),
}
DANGEROUS = sum(1 << number for number in HELD)


class Gap(msgspec.Struct, frozen=True, order=True):
    """One way out that a unit has."""

    unit: str  # or its cgroup, where it is none of systemd's
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.unit} is not contained: {self.what}; {self.remedy}"


class Rights(msgspec.Struct, frozen=True):
    """What a process may do."""

    pid: int
    name: str
    uid: int
    effective: int
    bounding: int
    settled: bool  # no_new_privs: it gains nothing by a program with the setuid bit
    filtered: bool  # a filter of system calls is in force
    at_home: bool  # in the host's own user namespace: elsewhere capabilities are over its own things


def gaps(place: Place) -> list[Gap]:
    """Return all ways out that are found now, by unit."""
    governed = cgroups.processes(place.cgroup)[:MAX_LOOKED]
    inside = set(governed)
    outside = _users_outside(inside)
    found: set[Gap] = set()
    for path in cgroups.governed(place.cgroup).values():
        name = unit.unit(path) or unit.whole(path) or place.slice
        for pid in _pids(place.cgroup / path):
            who = rights(pid) if pid in inside else None
            if who:
                found.update(Gap(name, what, remedy) for what, remedy in of(who, outside))
    return sorted(found)


def of(who: Rights, outside: dict[int, list[str]]) -> Iterator[tuple[str, str]]:
    """Yield the ways out of one process: what it is, and what to change."""
    if who.at_home:
        held = [f"{name} ({can})" for number, (name, can) in HELD.items() if who.effective >> number & 1]
        if held:
            yield f"{who.name} holds {', '.join(held)}", "set CapabilityBoundingSet= and User="
        elif who.bounding & DANGEROUS and not who.settled:
            yield f"{who.name} may gain capabilities by a setuid program", "set NoNewPrivileges=yes"
        if who.uid == 0 and _writes_cgroups(who.pid):
            yield f"{who.name} is root and can leave the slice", "set ProtectControlGroups=yes and User="
    if not who.filtered and os.access(UPCALL, os.X_OK):
        what = f"{who.name} may have names looked up outside the slice (request_key)"
        yield what, "set SystemCallFilter=~request_key"
    shared = outside.get(who.uid, [])
    if who.uid == 0:
        yield f"{who.name} runs as root, who owns the files of the host", "set User= to an account of its own"
    elif shared:
        names = ", ".join(shared[:MAX_NAMED])
        scope = "" if _ptrace_scope() else ", whom it may trace (kernel.yama.ptrace_scope is 0)"
        yield f"it shares user {who.uid} with {names} outside the slice{scope}", "set User= to an account of its own"


def rights(pid: int) -> Rights | None:
    """Return what a process may do; None if it is gone."""
    fields = _status(pid)
    try:
        return Rights(
            pid,
            fields["Name"],
            int(fields["Uid"].split()[1]),
            int(fields["CapEff"], 16) | int(fields["CapPrm"], 16),
            int(fields["CapBnd"], 16),
            fields["NoNewPrivs"] == "1",
            fields.get("Seccomp") == FILTERED,
            _at_home(pid),
        )
    except (KeyError, ValueError):  # gone
        return None


def _at_home(pid: int) -> bool:
    """Return whether a process is in our user namespace, as the host's programs are; also if that cannot be told."""
    try:
        return os.stat(PROC / str(pid) / "ns/user").st_ino == os.stat(PROC / "self/ns/user").st_ino
    except OSError:
        return True


def _status(pid: int) -> dict[str, str]:
    try:
        lines = (PROC / str(pid) / "status").read_text(errors="backslashreplace").splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _users_outside(inside: set[int]) -> dict[int, list[str]]:
    """Return the programs that users run outside the slice. Threads of the kernel are root's, who is named anyway."""
    found: dict[int, list[str]] = defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) not in inside:
            try:
                uid = entry.stat().st_uid
                name = (entry / "comm").read_text(errors="backslashreplace").strip() if uid else ""
            except OSError:
                continue
            if name and name not in found[uid]:
                found[uid].append(name)
    return found


def _writes_cgroups(pid: int) -> bool:
    """Return whether a process sees cgroup2 mounted for writing."""
    try:
        lines = (PROC / str(pid) / "mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return False
    for line in lines:
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 ") and "rw" in left.split()[5].split(","):
            return True
    return False


def _ptrace_scope() -> int:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
    except (OSError, ValueError):
        return 0


def _pids(path: Path) -> list[int]:
    try:
        return [int(pid) for pid in (path / "cgroup.procs").read_text().split()]
    except OSError:  # removed while we looked, or threaded
        return []
