"""What does one recorded message cost, what does a session take on disk, and what does `record.sync: always` add?"""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from appliance.model import Decision, Flow, Note, Side
from appliance.record.keeper import Keeper
from appliance.record.log import Log
from appliance.record.read import read
from appliance.record.signing import Signer
from appliance.record.verify import verify
from tests.bench.machine import compare
from tests.record.samples import closed, flow, opened

RUNS = 5
SESSIONS, QUERIES = 200, 50  # of pgbench -S: one short statement, one row back
READS = Decision("allow", "work", "10.yaml", "0123456789abcdef")


def query(id: str, number: int) -> Sequence[Sequence[Note]]:
    """The batches a worker appends for one query of pgbench -S."""
    text = f"SELECT abalance FROM pgbench_accounts WHERE aid = {number * 7919 % 1_000_000};"
    raw = b"Q\0\0\0\x44" + text.encode() + b"\0"
    row = b"D" + os.urandom(2) + b"\0\0\0\x0b\0\1\0\0\0\1" + str(number).encode()
    return [
        [Note("message", text, Side.CLIENT, "query", raw, count=1),
         Note("decision", text, decision=READS, id=f"{id}-{number}")],
        [Note("message", "", Side.SERVER, "columns", b"T" + bytes(40)),
         Note("message", "", Side.SERVER, "row", row, count=1),
         Note("message", "SELECT 1", Side.SERVER, "complete", b"C\0\0\0\x0dSELECT 1\0")],
    ]  # fmt: skip


def work(log: Log) -> Iterator[float]:
    """Write the sessions; yield the seconds each append took."""
    flows: list[Flow] = [flow(f"01kaq3v9m2f{number:04d}") for number in range(SESSIONS)]
    for of in flows:
        log.append(of, [opened()], time.time())
    for number in range(QUERIES):
        for of in flows:
            for notes in query(of.id, number):
                began = time.perf_counter()
                log.append(of, notes, time.time())
                yield time.perf_counter() - began
    for of in flows:
        log.append(of, [closed()], time.time())


def test_cost_of_a_recorded_message(tmp_path: Path) -> None:
    figures = []
    for number in range(RUNS):
        home = tmp_path / str(number)
        home.mkdir()
        spent = sum(work(Log(home, "w0")))
        figures.append(1e6 * spent / sum(1 for _ in read(home)))
    compare("one note appended: chained, hashed, in the page cache", "us", {"note": figures}, "20 us, of 0.10 ms for a query")


def test_bytes_on_disk(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    keeper = Keeper(tmp_path, Signer(bytes(32)), checkpoint_s=0)
    log = Log(tmp_path / "records", "w0")
    for _ in work(log):
        pass
    plain = sum(path.stat().st_size for path in (tmp_path / "records").iterdir())
    log.seal()
    began = time.perf_counter()
    keeper.round()
    sealed_s = time.perf_counter() - began
    packed = sum(path.stat().st_size for path in (tmp_path / "records").iterdir())
    frames = SESSIONS * (2 + 5 * QUERIES)
    compare("one note on disk", "bytes", {"open": [plain / frames], "sealed": [packed / frames]}, "of them 40 of hash and salt")
    compare("sealing, in the hub", "MB/s", {"plain": [plain / sealed_s / 1e6]}, "none stated")
    began = time.perf_counter()
    assert verify(tmp_path).whole
    compare("verify", "notes/s", {"sealed": [frames / (time.perf_counter() - began)]}, "none stated")
    keeper.close()


@pytest.mark.parametrize("flows", [1, 8])
def test_cost_of_waiting_for_the_disk(tmp_path: Path, flows: int) -> None:
    """`sync: always` waits for one fdatasync before the request and one before the answer; flows share it."""
    log = Log(tmp_path, "w0", synced=True)
    batches = [(flow(f"f{number}"), query(f"f{number}", number)) for number in range(flows)]
    figures = []
    for _ in range(200):
        began = time.perf_counter()
        for part in (0, 1):
            for of, notes in batches:
                log.append(of, notes[part], time.time())
            log.sync()
        figures.append(1e3 * (time.perf_counter() - began))
    compare(f"the record of a query on the disk, {flows} flows at once", "ms", {"query": figures}, "with sync: 5s nothing waits")
