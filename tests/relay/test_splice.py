"""Bulk that nobody looks into: moved in the kernel, and nobody can tell but by what it costs."""

import asyncio
import errno
import hashlib
import os
import random
import resource
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.model import Close, Effect, Ended, Event, Flow, Note, Received, Send
from appliance.relay.limits import Limits
from appliance.relay.pipe import Pipe
from appliance.relay.pipes import PIPE, Pipes
from tests.relay.sessions import RESET, C, Pass, S, World, looped, still, until, world

MIB = 1024 * 1024
SMALL = Limits(linger_s=0.3, connect_s=20.0, splice_after=1)  # bytes: from the second piece on


class Blind(Pass):
    """Notes nothing of what passes; `passing` while it may."""

    passing = True

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow)
        self.seen = 0

    def receive(self, event: Event, now: float) -> Sequence[Effect]:
        if isinstance(event, Received):
            self.seen += len(event.data)
            return [Send(event.side.other, event.data)]
        return super().receive(event, now)

    def fail(self, text: str) -> Sequence[Effect]:
        return [Send(C, text.encode()), Note("closed", text), Close()]


class Moody(Blind):
    """Looks at what comes now and then."""

    @property
    def passing(self) -> bool:  # type: ignore[override]
        return random.random() < 0.7


def pipe_of(here: World) -> Pipe:
    return next(iter(here.relay._pipes))


def files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def sums(here: World) -> dict[str, int]:
    """Return the bytes that the record tells of, by who sent them."""
    return {note.side.value: note.size for note in here.notes if note.message == "unread" and note.side}


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def there_and_back(here: World, data: bytes, half_close: bool = True) -> bytes:
    """Send it to the echo, and return what comes back."""
    reader, writer = await here.client()

    async def say() -> None:
        writer.write(data)
        await writer.drain()
        if half_close:
            writer.write_eof()

    saying = asyncio.create_task(say())
    found = await (reader.read(-1) if half_close else reader.readexactly(len(data)))
    await saying
    writer.close()
    return found


@looped
async def test_bulk_is_moved_and_every_byte_is_counted() -> None:
    data = random.randbytes(16 * MIB)
    async with world(Blind) as here:
        assert await there_and_back(here, data) == data
        await until(lambda: here.relay.flows == 0)
        assert here.sessions[0].seen < len(data), "of 32 MiB, both ways, most were moved"  # type: ignore[attr-defined]
        assert here.relay.counts.bytes == 2 * len(data)
        assert sums(here) == {"client": len(data), "server": len(data)}
        assert here.kinds()[-1] == "closed"
        assert here.relay.pipes.splices == 0


@looped
async def test_what_is_looked_at_is_not_moved() -> None:
    data = random.randbytes(4 * MIB)
    async with world(Pass, limits=SMALL) as here:
        assert await there_and_back(here, data) == data
        assert here.relay.pipes._made == 0
        assert sum(len(note.raw) for note in here.notes) == 2 * len(data)


@looped
async def test_a_flow_is_moved_only_after_its_first_megabyte() -> None:
    assert Limits().splice_after == MIB
    async with world(Blind) as here:
        assert len(await there_and_back(here, bytes(MIB))) == MIB
        assert here.relay.pipes._made == 0


@looped
async def test_looking_now_and_then_changes_no_byte() -> None:
    random.seed(7)
    data = random.randbytes(24 * MIB)
    async with world(Moody, limits=SMALL) as here:
        for _ in range(3):
            assert hashlib.sha256(await there_and_back(here, data)).digest() == hashlib.sha256(data).digest()
        await until(lambda: here.relay.flows == 0)
        assert here.relay.counts.bytes == 6 * len(data)
        assert here.relay.pipes._made > 0 and here.relay.pipes.splices == 0


@looped
async def test_new_rules_judge_the_next_byte() -> None:
    async with world(Blind, limits=SMALL) as here:
        reader, writer = await here.client()
        for _ in range(2):
            writer.write(b"a" * 1000)
            await reader.readexactly(1000)
        await until(lambda: here.relay.pipes.splices == 2)
        session = here.sessions[0]
        session.passing, seen = False, session.seen  # type: ignore[attr-defined]
        writer.write(b"b" * 1000)
        await reader.readexactly(1000)
        assert session.seen - seen == 2000  # type: ignore[attr-defined]
        assert here.relay.pipes.splices == 0
        writer.close()


@looped
async def test_who_does_not_read_stops_who_sends_and_is_weighed() -> None:
    taken = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        try:
            while True:
                writer.write(bytes(MIB))
                await writer.drain()
                taken += MIB
        except ConnectionError:
            pass

    async with world(Blind, pour, limits=SMALL) as here:
        sock = socket.create_connection(here.address)
        try:
            await until(lambda: here.relay.flows == 1 and pipe_of(here).client.buffered > 0, 20)
            await still(lambda: taken)
            assert pipe_of(here).client.full
            assert 0 < pipe_of(here).client.buffered <= PIPE + SMALL.high_water + 256 * 1024
            assert here.relay._memory.total >= pipe_of(here).client.buffered
        finally:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()
        await until(lambda: here.relay.flows == 0)
        assert here.relay._memory.total == 0


@looped
async def test_what_is_in_the_pipe_goes_before_last_words() -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * (32 * MIB))
        await reader.read(-1)
        writer.close()

    async with world(Blind, pour, limits=SMALL) as here:
        reader, writer = await here.client()
        await until(lambda: here.relay.flows == 1 and pipe_of(here)._bulk._splices[S].waiting > 0, 20)
        sent = here.relay.counts.bytes
        here.relay.fail("that is all")
        said = await reader.read(-1)
        assert said == b"x" * sent + b"that is all"
        writer.close()


@pytest.mark.parametrize("how", ["client resets", "server resets", "aborted"])
@looped
async def test_a_connection_that_breaks_leaves_nothing(how: str) -> None:
    there: list[asyncio.StreamWriter] = []

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.append(writer)
        try:
            while True:
                writer.write(bytes(MIB))
                await writer.drain()
        except ConnectionError:
            pass

    async with world(Blind, pour, limits=SMALL) as here:
        reader, writer = await here.client()
        await reader.readexactly(4 * MIB)
        await until(lambda: here.relay.pipes.splices > 0)
        if how == "client resets":
            reset(writer)
        elif how == "server resets":
            reset(there[0])
        else:
            here.relay.abort()
        if how != "client resets":
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)
            writer.close()
        await until(lambda: here.relay.flows == 0)
        assert (here.relay.pipes.splices, here.relay._memory.total) == (0, 0)
        if how != "aborted":
            assert [e.lost for e in here.sessions[0].events if isinstance(e, Ended)][:1] == [True]


@looped
async def test_no_descriptor_is_left() -> None:
    async with world(Blind, limits=SMALL) as here:
        await there_and_back(here, bytes(2 * MIB))
        await until(lambda: here.relay.flows == 0)
        pipes, before = here.relay.pipes._made, files()
        for _ in range(20):
            await there_and_back(here, bytes(2 * MIB))
        await until(lambda: here.relay.flows == 0)
        assert files() - before == 2 * (here.relay.pipes._made - pipes)


@pytest.mark.parametrize("limits", [Limits(splices=0, splice_after=1), Limits(pipes=0, splice_after=1)], ids=["splices", "pipes"])
@looped
async def test_over_a_limit_it_is_read_and_written(limits: Limits) -> None:
    data = random.randbytes(4 * MIB)
    async with world(Blind, limits=limits) as here:
        assert await there_and_back(here, data) == data
        assert here.sessions[0].seen == 2 * len(data)  # type: ignore[attr-defined]


def test_how_many_pipes_and_splices_there_may_be() -> None:
    assert (Limits().splices, Limits().pipes, PIPE) == (256, 16, MIB)
    pipes = Pipes(1, 1)
    one = pipes.take()
    assert one is not None and pipes.take() is None
    pipes.give(one)
    assert pipes.take() == one
    pipes.close(one)


def test_a_pipe_that_the_kernel_makes_no_larger_is_not_used() -> None:
    before = files()
    assert Pipes(1, 1, size=-1).take() is None
    assert files() == before


@looped
async def test_without_a_descriptor_it_is_read_and_written() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with world(Blind, limits=SMALL) as here:
        reader, writer = await here.client()
        await until(lambda: here.relay.flows == 1 and pipe_of(here)._ends[S].open)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            for _ in range(3):
                writer.write(b"a" * 1000)
                await reader.readexactly(1000)
            assert here.relay.pipes.splices == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert here.sessions[0].seen == 6000  # type: ignore[attr-defined]
        writer.close()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.ENOSYS])
@looped
async def test_where_the_kernel_does_not_splice_it_is_read_and_written(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*words: object, **named: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "splice", refused)
    data = random.randbytes(4 * MIB)
    async with world(Blind, limits=SMALL) as here:
        assert await there_and_back(here, data) == data
        await until(lambda: here.relay.flows == 0)
        assert sums(here) == {"client": len(data), "server": len(data)}


@looped
async def test_a_fault_of_ours_ends_its_own_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(Blind, limits=SMALL) as here:
        reader, writer = await here.client()
        other_reader, other_writer = await here.client()
        other_writer.write(b"x")
        await other_reader.readexactly(1)
        for _ in range(2):
            writer.write(b"a" * 1000)
            await reader.readexactly(1000)
        await until(lambda: here.relay.pipes.splices > 0)
        monkeypatch.setattr(os, "splice", lambda *words, **named: 1 // 0)
        writer.write(b"a")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        monkeypatch.undo()
        await until(lambda: here.relay.flows == 1)
        other_writer.write(b"y")
        assert await other_reader.readexactly(1) == b"y"
        assert here.relay.pipes.splices <= 2, "of the other flow"
        writer.close()
        other_writer.close()
