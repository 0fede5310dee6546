"""Processor time by process: what a piece of work took of the client, the server, the hub, the workers and the engine.

From /proc/PID/stat, in ticks of 10 ms, so a run should last a second or more. The server is all that lives in the lab's
target namespace, with the children it has reaped; the client, what was run and waited for meanwhile.
"""

import os
import resource
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import NAMESPACES, Lab
from tests.bench.machine import report

ENGINE = b"appliance.service.engine"  # a word of its command
TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
Work = Callable[[str | None], tuple[float, float]]  # cgroup -> the figure, and how many units were done


def metered(lab: Lab, appliance: Appliance, work: Work, cgroup: str | None) -> tuple[float, Mapping[str, float]]:
    """Do the work from a cgroup; return its figure, and the us of processor time a unit by process."""
    before, ran = spent(lab, appliance), _ours()
    figure, units = work(cgroup)
    after, still = spent(lab, appliance), _ours()
    used = {"client": still - ran, **{name: us - before.get(name, 0.0) for name, us in after.items()}}
    return figure, {name: max(0.0, us) / max(units, 1.0) for name, us in used.items()}


def paired(
    question: str, unit: str, place: tuple[Lab, Appliance], work: Work, promise: str, runs: int, cgroup: str = "acme.service"
) -> None:
    """Print one row: the same work direct and through, in turns, with what it took of each process."""
    lab, appliance = place
    ways: dict[str, str | None] = {"direct": None, "vendorgate": cgroup}
    found: dict[str, list[tuple[float, Mapping[str, float]]]] = {name: [] for name in ways}
    for turn in range(runs):
        for name in ways if turn % 2 == 0 else reversed(ways):
            found[name].append(metered(lab, appliance, work, ways[name]))
    figures = {name: [figure for figure, _ in each] for name, each in found.items()}
    costs = {name: [cost for _, cost in each] for name, each in found.items()}
    report(question, unit, figures["direct"], figures["vendorgate"], promise, costs)


def spent(lab: Lab, appliance: Appliance) -> dict[str, float]:
    """Return the us that each process has taken since it began."""
    hub, workers = appliance.hub(), set(appliance.workers())
    server = os.stat(NAMESPACES / lab.target).st_ino
    out = {"server": 0.0, "hub": 0.0, "workers": 0.0}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            inside = os.stat(entry / "ns/net").st_ino == server
            engine = int(fields[1]) == hub and ENGINE in (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        own, reaped = (sum(map(int, fields[at : at + 2])) * TICK_US for at in (11, 13))
        pid = int(entry.name)
        name = "hub" if pid == hub else "workers" if pid in workers else "engine" if engine else "server" if inside else ""
        if name:
            out[name] = out.get(name, 0.0) + own + (reaped if name == "server" else 0.0)
    return out


def resident(pids: Sequence[int]) -> float:
    """Return the resident MB of processes."""
    page = resource.getpagesize()
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids) / 1e6


def _ours() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e6
