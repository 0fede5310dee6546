"""kill -9 at any moment: what was acknowledged is there, nothing is half-read, the chain is unbroken.

Children are forked, so that each costs milliseconds. A writer says how many appends have returned through a pipe; a
keeper seals, packs, and drops meanwhile, and is killed as well.
"""

import os
import random
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.record import keeper as keeping
from appliance.record.checkpoint import Checkpoints, Deed, Said
from appliance.record.keeper import Keeper
from appliance.record.log import Log
from appliance.record.read import Torn, read
from appliance.record.retention import Keep, prune
from appliance.record.signing import Signer
from appliance.record.verify import describe, verify
from tests.record.samples import asked, closed, flow, opened, rows
from tests.record.store import SECRET

KILLS = 200
LONGEST_S = 0.012  # a writer lives
KEEPS_S = 0.15  # and a keeper
SAID = struct.Struct("=Q")


def child(do: Callable[[], object]) -> int:
    """Run in a process of its own, until it is killed."""
    pid = os.fork()
    if pid == 0:
        try:
            do()
        finally:
            os._exit(1)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "it ended by itself: a fault of its own"


def write(records: Path, life: int, told: int) -> None:
    """Append as fast as it goes; after each, say which."""
    log = Log(records, f"w{life % 2}", segment_bytes=200_000)
    for number in range(1 << 30):
        id = f"life{life}-{number}"
        notes = [opened(), *asked(f"select {number}", id=id), rows(os.urandom(200)), closed(f"last {number}")]
        log.append(flow(id), notes, time.time())
        os.write(told, SAID.pack(number))
        if life % 4:
            time.sleep(0.0001)  # else all that is written takes long to be read; every fourth life has no pause


def last_said(told: int) -> int:
    """Return the number of the last append that returned; -1: none did."""
    found = -1
    while data := os.read(told, SAID.size * 4096):
        found = SAID.unpack(data[-SAID.size :])[0]
    return found


def test_writers_killed_at_random(tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.mkdir()
    chance = random.Random(6)
    said: dict[int, int] = {}
    hub = Keeper(tmp_path, Signer(SECRET), checkpoint_s=0)
    for life in range(KILLS):
        reader, writer = os.pipe()
        pid = child(lambda life=life, writer=writer: write(records, life, writer))  # type: ignore[misc]
        os.close(writer)
        time.sleep(chance.uniform(0, LONGEST_S))
        if life % 7 == 0:
            hub.round()  # it may be killed between two checkpoints, or after one
        kill(pid)
        said[life] = last_said(reader)
        os.close(reader)
        if life % 5 == 0:
            hub.round()
    hub.round()
    torn: list[Torn] = []
    found: dict[str, list[str]] = {}
    for frame in read(records, on_torn=torn.append):
        found.setdefault(frame.id, []).append(frame.note.kind)
    for life, last in said.items():
        for number in range(last + 1):
            assert found[f"life{life}-{number}"] == ["opened", "message", "decision", "message", "closed"]
    assert sum(last + 1 for last in said.values()) > KILLS, "they did write"
    assert not any(one.offset for one in torn), "what is sealed has no torn end; the rest has not even a header"
    report = verify(tmp_path)
    assert report.whole, describe(report)
    assert report.uncovered == 0
    hub.close()


def keep(home: Path) -> None:
    """Seal, pack and drop as fast as it goes."""
    hub = Keeper(home, Signer(SECRET), checkpoint_s=0)
    while True:
        hub.round()
        prune(hub, Keep(0.5, 150_000))


def test_the_keeper_killed_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it was in the middle of, the next one mends it; verify never finds a fault, not even in between."""
    records = tmp_path / "records"
    records.mkdir()
    chance = random.Random(7)
    log = Log(records, "w0", segment_bytes=6_000)
    monkeypatch.setattr(keeping, "EMPTY_S", 0.0)
    first = Keeper(tmp_path, Signer(SECRET), checkpoint_s=0)
    first.note(Deed("start", "hub"))  # a record no checkpoint was ever written of cannot be proved
    first.close()
    for life in range(KILLS // 4):
        pid = child(lambda: keep(tmp_path))
        until = time.monotonic() + chance.uniform(0.01, KEEPS_S)
        number = 0
        while time.monotonic() < until:
            id = f"life{life}-{number}"
            log.append(flow(id), [opened(f"who{number % 3}"), rows(os.urandom(300)), closed()], time.time())
            number += 1
            time.sleep(0.0005)
        kill(pid)
        if life % 10 == 0:
            report = verify(tmp_path)
            assert report.whole, describe(report)
    log.seal()
    longer, until = 0.5, time.monotonic() + 60
    while not verify(tmp_path).deleted and time.monotonic() < until:  # on a slow machine none came so far
        pid = child(lambda: keep(tmp_path))
        time.sleep(longer)
        kill(pid)
        longer *= 2
    hub = Keeper(tmp_path, Signer(SECRET), checkpoint_s=0)
    hub.round()
    report = verify(tmp_path)
    assert report.whole, describe(report)
    assert report.deleted > 0, "it did drop"
    assert not list(records.glob("*.new"))
    hub.close()


def append(home: Path, told: int) -> None:
    chain = Checkpoints(home, Signer(SECRET))
    for number in range(1 << 30):
        written = chain.append(Said(deeds=(Deed("hold", "root", f"reason {number}"),)))
        os.write(told, SAID.pack(written.entry.number))


def test_checkpoints_killed_at_random(tmp_path: Path) -> None:
    """An entry whose append has returned is there, and the next process goes on after it."""
    (tmp_path / "records").mkdir()
    proof = tmp_path / "proof"
    chance = random.Random(8)
    most = 0
    for _ in range(KILLS // 4):
        reader, writer = os.pipe()
        pid = child(lambda writer=writer: append(proof, writer))  # type: ignore[misc]
        os.close(writer)
        time.sleep(chance.uniform(0, LONGEST_S))
        kill(pid)
        said = last_said(reader)
        os.close(reader)
        number = Checkpoints(proof, Signer(SECRET)).number
        assert number >= said
        assert number >= most
        most = number
    Checkpoints(proof, Signer(SECRET)).append(Said())
    assert verify(tmp_path).whole
    assert most > 0
