"""`record.sync`: what the disk has been told, and what waits for it."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from appliance.model import Flow, Note, Side
from appliance.record import log as log_module
from appliance.record.log import SYNC_EVERY_S, Log
from appliance.record.read import read
from appliance.relay.gate import Gate
from appliance.service.syncing import Syncer
from tests.record.samples import T, closed, flow, opened, rows
from tests.relay.sessions import World, looped, until, world


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the files that were synced, as they were then."""
    sizes: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: sizes.append(os.fstat(fd).st_size) or real(fd))
    return sizes


def test_sync_every_s_is_what_a_power_cut_may_take() -> None:
    assert SYNC_EVERY_S == 5


def test_sync_says_how_far_the_disk_is(tmp_path: Path, disk: list[int]) -> None:
    log = Log(tmp_path, "w0", synced=True)
    assert log.sync() == 0
    assert disk == []
    log.append(flow(), [opened(), rows(b"x")], T)
    assert log.position == 2
    assert log.sync() == 2
    (path,) = tmp_path.iterdir()
    assert disk == [path.stat().st_size]


def test_segments_that_ended_are_synced_too_and_closed(tmp_path: Path, disk: list[int]) -> None:
    log = Log(tmp_path, "w0", segment_bytes=700, synced=True)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(6):
        log.append(flow(), [rows(bytes(300))], T + number)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) > 2
    assert log.sync() == 6
    assert sorted(disk) == sorted(path.stat().st_size for path in paths)
    log.seal()
    log.sync()
    assert len(os.listdir("/proc/self/fd")) == before
    disk.clear()
    assert log.sync() == 6
    assert disk == [], "nothing is new"


def test_the_name_of_a_new_segment_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or real(fd))
    log = Log(tmp_path, "w0", synced=True)
    log.append(flow(), [opened()], T)
    log.sync()
    log.append(flow(), [closed()], T)
    log.sync()
    assert synced == [str(tmp_path)]


def test_a_sync_that_fails_is_an_error_and_says_so_of_names_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(tmp_path, "w0", synced=True)
    log.append(flow(), [opened()], T)
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda fd: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input/output"):
            log.sync()
    assert len(os.listdir("/proc/self/fd")) == before
    assert log.sync() == 1


def test_a_log_nobody_syncs_keeps_nothing_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    log = Log(tmp_path, "w0")
    for number in range(5):
        log.append(flow(), [rows(b"x")], T + number)
        log.seal()
    assert len(os.listdir("/proc/self/fd")) == before


def test_appends_go_on_while_the_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The segment may even end meanwhile; the disk is asked for what was there when it was asked."""
    log = Log(tmp_path, "w0", segment_bytes=1_000, synced=True)
    log.append(flow(), [opened()], T)
    waits, go = threading.Event(), threading.Event()
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (waits.set(), go.wait(20), real(fd)))
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(log.sync()))
    thread.start()
    assert waits.wait(20)
    for number in range(20):
        log.append(flow(), [rows(bytes(400))], T + number)
    go.set()
    thread.join(20)
    assert found == [1]
    assert log.sync() == 21
    assert len(list(read(tmp_path))) == 21


# -- the gate ------------------------------------------------------------------------------------------------------------


def test_the_gate_lets_out_in_order_what_the_disk_has() -> None:
    asked: list[int] = []
    out: list[str] = []
    gate = Gate(lambda: asked.append(1))
    assert not gate.shut
    gate.recorded(3)
    gate.wait(lambda: out.append("a"), lambda: out.append("a lost"))
    gate.recorded(5)
    gate.wait(lambda: out.append("b"), lambda: out.append("b lost"))
    assert gate.shut
    assert asked == [1, 1]
    gate.opened(4)
    assert out == ["a"]
    gate.failed()
    assert out == ["a", "b lost"]
    assert not gate.shut
    gate.recorded(5)
    assert asked == [1, 1], "nothing new is nothing to ask for"


class Gated(World):
    """A world whose flows wait for a disk that the test is."""

    asked = 0

    def shut(self) -> None:
        self.position = 0
        self.gate = Gate(self.ask_disk)
        self.relay._duties = msgspec.structs.replace(self.relay._duties, gate=lambda: self.gate, record=self.remember)

    def ask_disk(self) -> None:
        self.asked += 1

    def remember(self, flow: Flow, notes: Sequence[Note]) -> None:
        self.record(flow, notes)
        self.position += len(notes)
        self.gate.recorded(self.position)

    def sync(self) -> None:
        self.gate.opened(self.position)




async def start(here: World) -> Gated:
    here.__class__ = Gated
    assert isinstance(here, Gated)
    here.shut()
    return here


@looped
async def test_no_byte_passes_before_the_disk_has_its_record() -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            heard.append(data)
            writer.write(b"re: " + data)
        writer.close()

    async with world(serve=serve) as plain:
        here = await start(plain)
        reader, writer = await here.client()
        writer.write(b"one")
        await until(lambda: here.kinds() == ["opened", "message"])
        await asyncio.sleep(0.1)
        assert heard == []
        assert here.asked == 2
        here.sync()
        await until(lambda: heard == [b"one"])
        await until(lambda: here.kinds() == ["opened", "message", "message"])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        here.sync()
        assert await reader.readexactly(7) == b"re: one"
        writer.close()
        await until(lambda: here.kinds()[-1] == "closed")
        here.sync()


@looped
async def test_an_end_comes_after_what_waits() -> None:
    """Half-closes and closes keep their place behind bytes that are held."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(-1))
        writer.write(b"answer")
        writer.close()

    async with world(serve=serve) as plain:
        here = await start(plain)
        reader, writer = await here.client()
        writer.write(b"request")
        writer.write_eof()
        await until(lambda: "message" in here.kinds())
        await asyncio.sleep(0.05)
        assert heard == []
        here.sync()
        await until(lambda: heard == [b"request"])
        await until(lambda: here.kinds()[-1] == "closed")
        here.sync()
        assert await reader.read(-1) == b"answer"
        writer.close()
        await until(lambda: here.relay.flows == 0)


@looped
async def test_a_disk_that_fails_ends_the_flows_that_wait_and_nothing_of_them_passes() -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            heard.append(data)
        writer.close()

    async with world(serve=serve) as plain:
        here = await start(plain)
        reader, writer = await here.client()
        writer.write(b"one")
        await until(lambda: "message" in here.kinds())
        here.gate.failed()
        await until(lambda: here.relay.flows == 0)
        assert heard == []
        with pytest.raises(ConnectionError):
            while await reader.read(100):
                pass
            raise ConnectionError
        writer.close()
        _other, another = await here.client()
        another.write(b"two")
        await until(lambda: here.kinds().count("message") == 2)
        here.sync()
        await until(lambda: heard == [b"two"])
        another.close()


@looped
async def test_much_that_waits_is_not_read_on_without_bound() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()

    async with world(serve=swallow) as plain:
        here = await start(plain)
        _reader, writer = await here.client()
        chunk = bytes(1 << 16)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                while True:
                    writer.write(chunk)
                    await writer.drain()
        taken = sum(len(note.raw) for note in here.notes if note.side is Side.CLIENT)
        assert taken <= 4 << 20
        writer.transport.abort()
        await until(lambda: here.sync() is None and "closed" in here.kinds())


# -- in a worker -----------------------------------------------------------------------------------------------------------


@looped
async def test_many_flows_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(tmp_path, "w0", synced=True)
    syncs: list[int] = []
    real, go = os.fdatasync, threading.Event()

    def slow(descriptor: int) -> None:
        go.wait(20)
        syncs.append(1)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    syncer = Syncer(log, True, lambda text: None)
    out: list[int] = []
    for number in range(100):
        log.append(flow(f"f{number}"), [opened()], T)
        syncer.recorded()
        syncer.gate.wait(lambda number=number: out.append(number), lambda: None)  # type: ignore[misc]
    assert out == []
    go.set()
    await until(lambda: len(out) == 100)
    assert out == list(range(100))
    assert len(syncs) <= 2


@pytest.mark.parametrize("required", [True, False])
@looped
async def test_a_disk_that_fails_is_told_of(
    tmp_path: Path, required: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the record is required nothing goes out; else it does, and operators are told."""
    log = Log(tmp_path, "w0", synced=True)
    fails = [True]
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        if fails[0]:
            raise OSError(5, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    told: list[str] = []
    syncer = Syncer(log, required, told.append)
    out: list[str] = []
    log.append(flow(), [opened()], T)
    syncer.recorded()
    syncer.gate.wait(lambda: out.append("out"), lambda: out.append("lost"))
    await until(lambda: out)
    assert out == ["lost" if required else "out"]
    assert "Input/output error" in told[0]
    fails[0] = False
    log.append(flow(), [closed()], T)
    syncer.recorded()
    syncer.gate.wait(lambda: out.append("out"), lambda: out.append("lost"))
    await until(lambda: len(out) == 2)
    assert out[1] == "out"
    assert len(list(tmp_path.iterdir())) == 2, "what follows does not rest on what may be lost"


def test_salts_and_chains_do_not_repeat_over_segments(tmp_path: Path) -> None:
    assert log_module.CHAIN_BYTES == 16
    for _ in range(3):
        Log(tmp_path, "w0").append(flow(), [opened()], T)
    assert len({frame.salt for frame in read(tmp_path)}) == 3


