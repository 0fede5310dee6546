"""Logs of many sessions like those of agents: a few identities and statements often, some rarely."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.model import Flow, Note
from appliance.record.log import Log
from tests.record.samples import NO_DROP, PSQL, READS, C, T, closed, flow

EVERY_S = 3.0  # a new session
VENDORS = 20
RARE = 997  # one session in so many drops a table


def sessions(count: int) -> Iterator[tuple[Flow, list[Note]]]:
    """Yield flows and their notes. Statements differ by a number, as those of programs do."""
    processes = [
        msgspec.structs.replace(PSQL, exe=f"/opt/vendor{n}/bin/agent", cgroup=f"vendor{n}.service", pid=1000 + n)
        for n in range(VENDORS)
    ]
    for number in range(count):
        vendor = number % VENDORS
        of = flow(f"s{number:08d}", T + number * EVERY_S, 20_000 + number % 40_000, processes[vendor])
        rare = number % RARE == 0
        said = f"drop table archive_{number}" if rare else f"select name from orders where id = {number}"
        table = f"public.archive_{number}" if rare else "public.orders"
        facts = (("effect", ("drop",) if rare else ("read",)), ("table", (table,)))
        yield of, [
            Note("opened", "x", identity=f"vendor{vendor}", target="orders-db", protocol="postgres"),
            Note("message", "begin", C, "query", b"Q", count=1),
            Note("message", said, C, "query", said.encode(), count=1, facts=facts),
            Note("decision", said, decision=NO_DROP if rare else READS, id=f"{of.id}-1"),
            closed(),
        ]


def write_sessions(directory: Path, count: int) -> None:
    log = Log(directory, "worker0")
    for of, notes in sessions(count):
        log.append(of, notes, of.opened)
    log.seal()
