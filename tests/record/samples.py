"""Flows and notes to write down."""

from collections.abc import Sequence
from pathlib import Path

from appliance.model import Address, Decision, Flow, Note, Process, Side
from appliance.record.log import Level, Log

C, S = Side.CLIENT, Side.SERVER
T = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
PSQL = Process(4242, 99, "/usr/bin/psql", ("psql", "-h", "db", "shop"), "acme.service", 1000, "postgresql-client-15")
READS = Decision("allow", "reads", "10-db.yaml", "r1")
NO_DROP = Decision("block", "no-drop", "10-db.yaml", "r1", reason="destructive statements are not allowed")
ASK_DBA = Decision("approve", "dba", "10-db.yaml", "r1", reason="a DBA looks first")


def flow(id: str = "f1", opened: float = T, port: int = 40001, process: Process | None = PSQL) -> Flow:
    return Flow(id, opened, Address.of("10.0.3.5", port), Address.of("10.0.3.2", 5432), process, 7)


def opened(identity: str = "acme-psql", target: str = "orders-db") -> Note:
    return Note("opened", "10.0.3.5:40001 -> 10.0.3.2:5432", identity=identity, target=target, protocol="postgres")


def asked(text: str, decision: Decision = READS, id: str = "f1-1") -> list[Note]:
    """A statement and what was decided of it."""
    raw = text.encode() + b"\0"
    frame = b"Q" + (len(raw) + 4).to_bytes(4, "big") + raw
    return [
        Note("message", text, C, "query", frame, count=1),
        Note("decision", text, decision=decision, id=id),
    ]


def rows(raw: bytes, count: int = 1, masked: int = 0, masks: tuple[str, ...] = ()) -> Note:
    return Note("message", side=S, message="row", raw=raw, count=count, masked=masked, masks=masks)


def closed(why: str = "ended") -> Note:
    return Note("closed", why)


def write(directory: Path, of: Flow, notes: Sequence[Note], now: float = T, level: Level = "full") -> None:
    log = Log(directory, f"w{of.id}", level)
    log.append(of, notes, now)
    log.seal()
