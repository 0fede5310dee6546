"""What a recorded query may cost the hub: to be walked over, indexed, sealed and packed. Measured as in test_cpu.py."""

import itertools
from pathlib import Path

import pytest

from appliance.model import Note, Spent
from appliance.record import packed
from appliance.record.frame import segments
from appliance.record.index import Index
from appliance.record.log import Log
from appliance.record.packed import Signed
from appliance.record.walk import Walk
from tests.budget.test_cpu import HEADROOM, least, reference
from tests.record.samples import READS, C, S, T, flow, opened

QUERIES, ROUNDS = 250, 8
# Measured, in units: a query of eight frames, 2026-11-21, the modules as they are written.
MEASURED = {"walk": 0.19, "index": 0.34, "pack": 0.08}
FACTS = (("column", ("public.t.a", "public.t.b")), ("effect", ("read",)), ("table", ("public.t",)))
SPENT = Spent(parse=3e-06, policy=2e-06)


def query(number: int) -> list[Note]:
    """One prepared query, as its session notes it."""
    text = f"SELECT abalance FROM accounts WHERE aid = $1;\n-- $1 = '{number}'"
    decided = Note("decision", text, decision=READS, id=f"f1-{number}")
    return [
        Note("message", text, C, "bind", b"B\0\0\0\x1b" + b"\0" * 24, count=1, facts=FACTS, spent=SPENT),
        decided,
        Note("message", "", C, "describe", b"D\0\0\0\6P\0", count=1),
        Note("message", text, C, "execute", b"E\0\0\0\t\0\0\0\0\0", count=1, facts=FACTS, spent=SPENT),
        decided,
        Note("message", "", C, "sync", b"S\0\0\0\4", count=1),
        Note("message", "SELECT 1", S, "complete", b"D" * 80, count=1, spent=SPENT),
        Note("message", "I", S, "ready", b"Z\0\0\0\5I", spent=SPENT),
    ]


def write(log: Log) -> None:
    log.append(flow(), [opened()], T)
    for number in range(QUERIES):
        log.append(flow(), query(number), T + number)


def measured(home: Path, what: str) -> float:
    records = home / "records"
    records.mkdir()
    write(Log(records, "w0"))
    (one,) = segments(records)
    numbers = itertools.count()
    if what == "walk":
        return least(lambda: Walk(Path(one.path)).advance(), QUERIES, ROUNDS)
    if what == "pack":
        walk = Walk(Path(one.path))
        walk.advance()
        return least(lambda: packed.write(home / "w0.0000000000001.record", walk.blocks(), Signed(b"", b"")), QUERIES, ROUNDS)
    return least(lambda: Index(home / f"{next(numbers)}.sqlite", records).catch_up(), QUERIES, ROUNDS)


@pytest.mark.parametrize("what", MEASURED)
def test_the_budget_of_the_hub_is_kept(tmp_path: Path, what: str) -> None:
    unit = least(reference, 1)
    units = measured(tmp_path, what) / unit
    print(f"\n{what}: {units:.4f} units of {1e6 * unit:.0f} us")
    assert units <= HEADROOM * MEASURED[what], f"{what} takes {units:.3f} units; it took {MEASURED[what]:.3f}"
