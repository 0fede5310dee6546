"""Hub and worker: whatever the cuts, the same messages; over a limit, the end of the channel."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model import Address, Answered, Decision, Flow, Question
from appliance.relay import channel
from appliance.relay.channel import (
    HEAD,
    MAX_ASKED,
    MAX_BACKLOG,
    MAX_FRAME,
    Answer,
    Asked,
    Cancelled,
    Channel,
    Drain,
    Health,
    Incident,
    Over,
    Ready,
    Rules,
    Setup,
    ToHub,
    ToWorker,
    Withdrawn,
)
from tests.relay.sessions import looped, until

ADDRESS = Address("10.0.0.1", 5432)
FLOW = Flow("f1", 1.0, ADDRESS, ADDRESS, None)
QUESTION = Question("f1-1", FLOW, "acme", "db", "postgres", "drop", b"\0raw", Decision("approve", "r"), 1, 2)
TO_WORKER: list[ToWorker] = [
    Setup(1, "full", True, "/sys/fs/cgroup/vendor.slice", b"key"),
    Rules((("a.yaml", "rules: []"),), {"db.internal": ("10.0.0.1",)}, "abc"),
    Answer(Answered("f1-1", True, "root")),
    Drain(5.0),
]
TO_HUB: list[ToHub] = [
    Ready("abc"),
    Asked(QUESTION),
    Withdrawn("f1-1", "left"),
    Cancelled(ADDRESS, b"\1\2"),
    Over("f1"),
    Health(1, 2, 3, 4, 5, 6, 7, 8, 9),
    Incident("f1", "bad"),
]


def framed(message: object) -> bytes:
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(HEAD, "big") + data


class Pair:
    """Both ends, and what they got."""

    def __init__(self) -> None:
        self.at_hub: list[object] = []
        self.at_worker: list[object] = []
        self.lost: list[str] = []


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Pair, Channel[ToHub, ToWorker], Channel[ToWorker, ToHub]]]:
    here, (a, b) = Pair(), socket.socketpair()
    hub = await channel.hub_end(a, here.at_hub.append, lambda why: here.lost.append(f"hub: {why}"))
    worker = await channel.worker_end(
        b, here.at_worker.append, lambda why: here.lost.append(f"worker: {why}")
    )
    try:
        yield here, hub, worker
    finally:
        hub.close()
        worker.close()
        await until(lambda: len(here.lost) == 2)


@asynccontextmanager
async def raw() -> AsyncIterator[tuple[Pair, socket.socket]]:
    """The hub's end, and the socket of a worker that may say anything."""
    here, (a, b) = Pair(), socket.socketpair()
    hub = await channel.hub_end(a, here.at_hub.append, here.lost.append)
    with b:
        b.setblocking(False)
        yield here, b
        hub.close()
        await until(lambda: len(here.lost) == 1)


@looped
async def test_every_message_arrives_as_it_was_sent() -> None:
    async with pair() as (here, hub, worker):
        for down in TO_WORKER:
            hub.send(down)
        for up in TO_HUB:
            worker.send(up)
        await until(lambda: len(here.at_hub) == len(TO_HUB) and len(here.at_worker) == len(TO_WORKER))
        assert here.at_worker == TO_WORKER
        assert here.at_hub == TO_HUB


@given(st.lists(st.integers(1, 40)))
def test_cuts_change_nothing(sizes: list[int]) -> None:
    got: list[object] = []
    end: Channel[ToHub, ToWorker] = Channel(ToHub, got.append, lambda why: None)
    stream = b"".join(map(framed, TO_HUB))
    for size in [*sizes, len(stream)]:
        end.data_received(stream[:size])
        stream = stream[size:]
    assert got == TO_HUB
    assert not end._buffer


@looped
async def test_max_frame_is_refused_by_the_sender() -> None:
    async with pair() as (here, _hub, worker):
        with pytest.raises(ValueError, match=f"over the limit of {MAX_FRAME}"):
            worker.send(Asked(msgspec.structs.replace(QUESTION, raw=bytes(MAX_FRAME))))
        worker.send(Incident("", "still here"))
        await until(lambda: here.at_hub == [Incident("", "still here")])
        assert here.lost == []


@looped
async def test_largest_frame_arrives() -> None:
    async with pair() as (here, _hub, worker):
        room = MAX_FRAME - len(msgspec.msgpack.encode(Incident("", "")))
        worker.send(Incident("", "x" * (room - 4)))
        await until(lambda: len(here.at_hub) == 1)


@looped
async def test_max_frame_breaks_the_channel_at_the_receiver() -> None:
    async with raw() as (here, sock):
        sock.send((MAX_FRAME + 1).to_bytes(HEAD, "big"))
        await until(lambda: here.lost != [])
        assert here.lost == [f"a frame of {MAX_FRAME + 1} bytes is over the limit of {MAX_FRAME}"]


@pytest.mark.parametrize(
    "message",
    [
        b"\xff",
        b"",
        msgspec.msgpack.encode({"type": "no such"}),
        msgspec.msgpack.encode(Answer(Answered("x", True))),
    ],
    ids=["no msgpack", "empty", "unknown", "of the other direction"],
)
def test_what_is_not_listed_breaks_the_channel(message: bytes) -> None:
    async def run() -> None:
        async with raw() as (here, sock):
            sock.send(
                framed(Ready("first")) + len(message).to_bytes(HEAD, "big") + message + framed(Ready("last"))
            )
            await until(lambda: here.lost != [])
            assert here.at_hub == [Ready("first")]
            assert here.lost[0].startswith("not a message")

    asyncio.run(run())


@looped
async def test_fault_while_receiving_breaks_the_channel() -> None:
    lost: list[str] = []

    def fault(message: object) -> None:
        raise KeyError("a fault of ours")

    a, b = socket.socketpair()
    with b:
        await channel.hub_end(a, fault, lost.append)
        b.send(framed(Ready("x")))
        await until(lambda: lost != [])
        assert lost == ["internal error: KeyError"]


@looped
async def test_max_backlog_breaks_the_channel() -> None:
    lost: list[str] = []
    a, b = socket.socketpair()
    with b:
        hub = await channel.hub_end(a, print, lost.append)
        big = Rules((("a", "x" * (MAX_FRAME - 1000)),), {})
        for _ in range(MAX_BACKLOG // MAX_FRAME + 2):
            hub.send(big)
        await until(lambda: lost != [])
        assert lost == ["the other side takes nothing"]
        hub.send(Drain(1))  # nothing happens


@looped
async def test_max_asked_refuses_what_would_have_the_channel_taken_for_broken() -> None:
    """A vendor whose flows ask large questions at once ended the worker, and with it the flows of all others."""
    async with pair() as (here, _, worker):
        large, small = Incident("f", "x" * (MAX_FRAME - 100)), Incident("g", "this is no question")
        refused = 0
        for _ in range(MAX_BACKLOG // MAX_FRAME + 2):
            try:
                worker.send(large, MAX_ASKED)
            except ValueError:
                refused += 1
        assert refused >= MAX_BACKLOG // MAX_FRAME
        worker.send(small)
        await until(lambda: small in here.at_hub)
        assert here.lost == []


@looped
async def test_other_side_gone_is_told_once() -> None:
    lost: list[str] = []
    a, b = socket.socketpair()
    hub = await channel.hub_end(a, print, lost.append)
    b.close()
    await until(lambda: lost != [])
    hub.send(Drain(1))
    hub.close()
    await asyncio.sleep(0.02)
    assert lost == ["closed by the other side"]
