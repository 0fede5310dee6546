"""Every limit of the relay, by its name in `Limits`."""

import asyncio
import errno
import socket
import time
from collections.abc import Sequence

import pytest

from appliance.model import Answered, Close, Effect, Event, Note, Open, Received, Send, Trust
from appliance.relay.limits import Limits
from appliance.relay.room import Room
from appliance.service import launch
from tests.relay.sessions import C, Holds, Pass, S, World, looped, still, until, world

SMALL = Limits(high_water=64 * 1024, low_water=16 * 1024, linger_s=0.2)
CHUNK = b"x" * 65536


async def pour(reader: object, writer: asyncio.StreamWriter) -> None:
    """Send without end."""
    try:
        while True:
            writer.write(CHUNK)
            await writer.drain()
    except ConnectionError:
        writer.close()


async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()
    try:
        await asyncio.sleep(3600)
    finally:
        writer.transport.abort()


def buffered(here: World) -> int:
    return max((end.buffered for pipe in here.relay._pipes for end in pipe._ends.values()), default=0)


async def settled(here: World) -> None:
    """Wait until no more bytes are passed."""
    await until(lambda: here.relay.counts.bytes > 0)
    await still(lambda: here.relay.counts.bytes)


@looped
async def test_high_water_stops_a_server_whose_client_does_not_read() -> None:
    async with world(serve=pour, limits=SMALL) as here:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.connect(here.address)
            await settled(here)
            assert SMALL.high_water < buffered(here) <= SMALL.high_water + 256 * 1024
            before = here.relay.counts.bytes
            await asyncio.to_thread(take, sock, 20_000_000)  # and it goes on when the client does
            assert here.relay.counts.bytes - before > 10_000_000


def take(sock: socket.socket, size: int) -> None:
    while size > 0:
        size -= len(sock.recv(262144))


@looped
async def test_high_water_stops_a_client_whose_server_does_not_read() -> None:
    async with world(serve=never_read, limits=SMALL) as here:
        _, writer = await here.client()
        task = asyncio.create_task(pour(None, writer))
        await settled(here)
        assert SMALL.high_water < buffered(here) <= SMALL.high_water + 256 * 1024
        task.cancel()
        writer.transport.abort()


@looped
async def test_answers_stops_a_client_that_reads_no_answers() -> None:
    class Answers(Pass):
        """Answers the client itself, with as much as it said."""

        def receive(self, event: Event, now: float) -> Sequence[Effect]:
            if isinstance(event, Received):
                return [Send(C, event.data)]
            return super().receive(event, now)

    limits = Limits(high_water=64 * 1024, low_water=16 * 1024, answers=512 * 1024, linger_s=0.2)
    async with world(Answers, limits=limits) as here:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.connect(here.address)
            sock.setblocking(False)
            await until(lambda: here.relay.flows == 1)
            for _ in range(200):
                try:
                    sock.send(CHUNK)
                except BlockingIOError:
                    await asyncio.sleep(0.01)
            assert limits.answers < buffered(here) <= limits.answers + 256 * 1024


@looped
async def test_held_stops_the_client_until_the_answer() -> None:
    async with world(Holds, limits=Limits(held=100_000, linger_s=0.2)) as here:
        reader, writer = await here.client()
        writer.write(b"first")
        await until(lambda: len(here.questions) == 1)
        writer.write(b"x" * 20_000_000)
        await until(lambda: here.sessions[0].held > 100_000)
        await still(lambda: here.sessions[0].held)
        assert 100_000 < here.sessions[0].held <= 100_000 + 256 * 1024
        here.relay.answer(Answered("f0-1", approved=False, reason="no"))
        assert (await reader.read(100)).startswith(b"DENIED no")
        await until(lambda: len(here.questions) == 2)  # it reads on
        writer.transport.abort()


@looped
async def test_flows_is_the_most_connections_at_a_time() -> None:
    async with world(limits=Limits(flows=4, share=1.0, linger_s=0.2)) as here:
        await full_at(here, 4)
        assert here.relay.counts.full == 1
        assert here.incidents[0].startswith("connections refused: 4 open")


@looped
async def test_share_leaves_something_for_whoever_comes_next() -> None:
    async with world(limits=Limits(flows=6, share=0.5, linger_s=0.2)) as here:
        await full_at(here, 3)
        here.cgroup = "acme.service/a-cgroup-of-its-own"
        await full_at(here, 0)
        here.cgroup = "other.service"
        await full_at(here, 2)
        here.cgroup = "third.service"
        await full_at(here, 1)


class Gathers(Pass):
    """Waits for the end of a message that never ends."""

    def receive(self, event: Event, now: float) -> Sequence[Effect]:
        return [] if isinstance(event, Received) else super().receive(event, now)


class Keeps(Gathers):
    """The same, but others come meanwhile and are sent on: pings between the fragments of a message."""

    def receive(self, event: Event, now: float) -> Sequence[Effect]:
        if isinstance(event, Received):
            self.kept += len(event.data)
            return [Send(S, b"ping")]
        return super().receive(event, now)


@pytest.mark.parametrize("session", [Gathers, Keeps])
@looped
async def test_memory_ends_the_flows_of_a_vendor_that_leaves_messages_unfinished(session: type[Pass]) -> None:
    limits = Limits(memory=4_000_000, linger_s=0.2)
    async with world(session=session, limits=limits) as here:
        greedy = [await here.client() for _ in range(8)]
        for _, writer in greedy:
            writer.write(b"x" * 700_000)
        await until(lambda: here.relay.flows < 8)
        await still(lambda: here.relay.flows)
        assert here.relay._memory.total <= limits.memory
        assert here.incidents[0] == "too much of this vendor waits unfinished"
        left = here.relay.flows
        here.cgroup = "other.service"
        _, writer = await here.client()
        writer.write(b"x" * 700_000)
        await until(lambda: here.relay.flows == left + 1)
        await still(lambda: here.relay.flows)
        assert here.relay.flows == left + 1
        for _, writer in greedy:
            writer.transport.abort()


class Opens(Pass):
    """Has TLS opened by the first bytes of a client."""

    def receive(self, event: Event, now: float) -> Sequence[Effect]:
        if isinstance(event, Received):
            return [Note("message"), Open(event.data, "db.example", (), Trust())]
        return super().receive(event, now)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)
    writer.transport.abort()


@pytest.mark.parametrize("session", [Gathers, Opens])
@looped
async def test_memory_is_not_a_matter_of_how_many_flows_wait_for_a_little(session: type[Pass]) -> None:
    """Each has less than one read, which alone ends no flow; or TLS that its server does not open."""
    limits = Limits(memory=4_000_000, linger_s=0.2, crowded_s=0.01)
    async with world(session=session, serve=silent, limits=limits) as here:
        others: list[asyncio.StreamWriter] = []
        here.cgroup = "other.service"
        others.append((await here.client())[1])
        others[0].write(b"x" * 100_000)
        await until(lambda: here.relay.flows == 1)
        here.cgroup = "acme.service"
        for _ in range(60):
            others.append((await here.client())[1])
            others[-1].write(b"x")  # TLS begins here
            await asyncio.sleep(0)
            others[-1].write(b"x" * 200_000)
        await until(lambda: here.relay.flows < 60)
        await still(lambda: (here.relay.flows, here.relay._memory.total))
        assert here.relay._memory.total <= limits.memory
        assert set(here.incidents) == {"too much of this vendor waits unfinished"}
        assert any(pipe.flow.process.cgroup == "other.service" for pipe in here.relay._pipes if pipe.flow.process)
        for writer in others:
            writer.transport.abort()


def test_bursts_at_twice_what_a_vendor_may_have() -> None:
    room = Room(160, 0.5)
    room.take("a", 90)
    assert not room.allows("a")
    assert not room.bursts("a")
    room.take("a", 20)
    assert room.bursts("a")
    room.take("b", 8)
    assert not room.bursts("b")
    room.take("a", 100)
    assert not room.allows("b")
    assert not room.bursts("b"), "it has less than LEAST of all"
    room.take("b", 9)
    assert room.bursts("b")


@looped
async def test_memory_stops_servers_whose_clients_do_not_read_and_lets_them_go_on() -> None:
    # Half of it and a read of each are less than two thirds, at which one would be given up.
    limits = Limits(memory=12_000_000, high_water=8_000_000, linger_s=0.2, crowded_s=0.01)
    async with world(serve=pour, limits=limits) as here:
        socks = []
        for _ in range(6):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.connect(here.address)
            socks.append(sock)
        await settled(here)
        assert limits.memory / 2 <= here.relay._memory.total <= limits.memory * 2 / 3
        assert here.relay.flows == 6
        await asyncio.gather(*(asyncio.to_thread(take, sock, 3_000_000) for sock in socks))
        for sock in socks:
            sock.close()


@looped
async def test_greeting_s_ends_a_flow_that_comes_to_no_message() -> None:
    limits = Limits(greeting_s=1.0, linger_s=10)
    async with world(session=Gathers, limits=limits) as here:
        reader, writer = await here.client()
        for _ in range(3):  # a byte now and then is no message
            writer.write(b"x")
            await asyncio.sleep(0.05)
        assert await reader.read(-1) == b"ERROR no complete message within 1 s"
        writer.transport.abort()
    async with world(limits=limits) as here:
        reader, writer = await here.client()
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        await asyncio.sleep(1.2)
        writer.write(b"y")
        assert await reader.read(1) == b"y"
        writer.transport.abort()


@looped
async def test_greeting_s_leaves_a_first_message_that_waits_for_a_reviewer() -> None:
    async with world(session=Holds, limits=Limits(greeting_s=1.0, linger_s=0.2)) as here:
        reader, writer = await here.client()
        writer.write(b"x")
        await asyncio.sleep(1.2)
        here.relay.answer(Answered(here.questions[0].id, approved=True))
        assert await reader.read(1) == b"x"
        writer.transport.abort()


class Unread(Pass):
    """Passes what comes without a note of it."""

    def receive(self, event: Event, now: float) -> Sequence[Effect]:
        return [effect for effect in super().receive(event, now) if getattr(effect, "kind", "") != "message"]


@looped
async def test_bytes_passed_unread_are_noted_at_the_end() -> None:
    async with world(session=Unread) as here:
        reader, writer = await here.client()
        writer.write(b"hello")
        assert await reader.read(5) == b"hello"
        writer.close()
        await until(lambda: here.relay.flows == 0)
        sums = {note.side: note.size for note in here.notes if note.kind == "message"}
        assert sums == {C: 5, C.other: 5}
        assert here.kinds()[-1] == "closed"


async def full_at(here: World, most: int) -> None:
    """Open `most` connections, which must stay, and one more, which must be reset."""
    before = here.relay.flows
    for _ in range(most):
        here.keep.append((await here.client())[1])
    await until(lambda: here.relay.flows == before + most)
    with pytest.raises(ConnectionResetError):
        reader, _ = await here.client()
        await reader.read(-1)


@looped
async def test_accepts_leaves_the_rest_to_the_next_turn() -> None:
    async with world(limits=Limits(accepts=2, linger_s=0.2)) as here:
        socks = [socket.create_connection(here.address) for _ in range(7)]
        await until(lambda: here.relay.flows == 7)
        for sock in socks:
            sock.close()


@looped
async def test_out_of_files_pauses_accepting_and_loses_nothing() -> None:
    async with world(limits=Limits(out_of_files_s=0.1, linger_s=0.2)) as here:
        listener = here.relay._listeners[0]
        began = time.monotonic()
        here.relay._rest(listener, OSError(errno.EMFILE, "Too many open files"))
        reader, writer = await here.client()
        writer.write(b"late")
        assert await reader.readexactly(4) == b"late"
        assert time.monotonic() - began >= 0.09
        assert here.incidents == ["connections wait: Too many open files"]
        writer.close()


class LastWords(Pass):
    """Says much to the client, and closes."""

    def receive(self, event: Event, now: float) -> Sequence[Effect]:
        return [Send(C, b"w" * 8_000_000), Close()] if isinstance(event, Received) else []


@looped
async def test_last_words_arrive_though_the_client_still_sends() -> None:
    async with world(LastWords, limits=Limits(linger_s=10)) as here:
        reader, writer = await here.client()
        writer.write(b"x" * 2_000_000)
        assert len(await reader.read(-1)) == 8_000_000
        writer.close()
        await until(lambda: here.relay.flows == 0)


@looped
async def test_linger_ends_a_client_that_does_not_take_the_last_words() -> None:
    async with world(LastWords, limits=Limits(linger_s=0.2)) as here:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.connect(here.address)
            sock.sendall(b"x")
            began = time.monotonic()
            await until(lambda: here.relay.flows == 1)
            await until(lambda: here.relay.flows == 0)
            assert 0.2 <= time.monotonic() - began < 20


@looped
async def test_linger_goes_on_while_the_client_takes_something() -> None:
    async with world(LastWords, limits=Limits(linger_s=1.0)) as here:
        got = 0
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.connect(here.address)
            sock.sendall(b"x")
            sock.setblocking(False)
            began = time.monotonic()
            while data := await some(sock):
                got += len(data)
        assert got == 8_000_000
        assert time.monotonic() - began > 1.2


async def some(sock: socket.socket) -> bytes:
    """Return up to 256 KiB of `sock`, not sooner than in 50 ms."""
    await asyncio.sleep(0.05)
    return await asyncio.get_running_loop().sock_recv(sock, 262144)


@looped
async def test_linger_max_ends_a_client_that_takes_a_little_at_a_time() -> None:
    async with world(LastWords, limits=Limits(linger_s=1, linger_max_s=2)) as here:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.connect(here.address)
            sock.sendall(b"x")
            sock.setblocking(False)
            began = time.monotonic()
            with pytest.raises(ConnectionResetError):
                while True:
                    await asyncio.sleep(0.05)
                    assert await asyncio.get_running_loop().sock_recv(sock, 65536 // 2)
            assert 1.8 < time.monotonic() - began < 20


@looped
async def test_two_flows_share_the_loop() -> None:
    async with world(serve=pour) as here:
        reader, writer = await here.client()

        async def drink() -> None:
            while await reader.read(1 << 20):
                pass

        task = asyncio.create_task(drink())
        await asyncio.sleep(0.1)
        delays = []
        for _ in range(10):
            began = time.monotonic()
            other, pen = await here.client()
            await other.readexactly(1)
            delays.append(time.monotonic() - began)
            pen.transport.abort()
        assert sorted(delays)[5] < 5  # the first takes as long as it likes
        task.cancel()
        writer.transport.abort()


def test_default_limits_fit_the_descriptors_asked_for() -> None:
    limits = Limits()
    assert limits.low_water < limits.high_water < limits.answers
    assert 0 < limits.share <= 1
    assert 2 * limits.flows * 2 <= launch.FILES, "two descriptors a flow, and as many again for all else"


def test_default_flows_let_one_vendor_have_ten_thousand_on_two_workers() -> None:
    limits = Limits()
    room, taken = Room(limits.flows, limits.share), 0
    while room.allows("acme.service"):
        room.take("acme.service", 1)
        taken += 1
    assert 2 * taken >= 10_000


def test_default_unweighed_is_an_eighth_of_memory_at_most() -> None:
    limits = Limits()
    assert limits.flows * limits.unweighed <= limits.memory / 8
