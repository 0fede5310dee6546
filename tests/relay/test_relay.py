"""The relay on real sockets: order, half-closes, refusals, faults of sessions and of the record."""

import asyncio
import socket
import time
from collections.abc import Sequence

import pytest

from appliance.model import Address, Ended, Note, Received, Send
from appliance.relay.limits import MAX_READ, Limits
from appliance.relay.relay import LOCAL, TCP_CONGESTION
from tests.relay.sessions import Breaks, C, Pass, S, Wakes, looped, until, world


@looped
async def test_bytes_pass_both_ways_and_are_noted() -> None:
    async with world() as here:
        reader, writer = await here.client()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await until(lambda: here.relay.flows == 0)
        assert here.kinds() == ["opened", "message", "message", "closed"]
        assert here.relay.counts.messages == 2
        assert here.relay.counts.bytes == 10


@looped
async def test_client_half_close_keeps_the_other_direction() -> None:
    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.read(-1)
        writer.write(b"you said " + said)
        writer.close()

    async with world(serve=late) as here:
        reader, writer = await here.client()
        writer.write(b"all")
        writer.write_eof()
        assert await reader.read(-1) == b"you said all"
        writer.close()
        await until(lambda: here.relay.flows == 0)
        assert [e for e in here.sessions[0].events if isinstance(e, Ended)] == [Ended(C), Ended(S)]


@looped
async def test_server_half_close_keeps_the_other_direction() -> None:
    heard: list[bytes] = []

    async def brief(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"done")
        writer.write_eof()
        heard.append(await reader.read(-1))
        writer.close()

    async with world(serve=brief) as here:
        reader, writer = await here.client()
        assert await reader.read(-1) == b"done"
        writer.write(b"still here")
        await asyncio.sleep(0.05)
        writer.close()
        await until(lambda: here.relay.flows == 0)
        assert heard == [b"still here"]


@looped
async def test_nothing_is_sent_that_is_not_recorded() -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            heard.append(data)
        writer.close()

    async with world(serve=listen) as here:
        reader, writer = await here.client()
        writer.write(b"first")
        await until(lambda: heard == [b"first"])
        here.record_fails = lambda notes: any(n.kind == "message" for n in notes)
        writer.write(b"second")
        assert await reader.read(-1) == b"ERROR the session cannot be recorded"
        writer.close()
        await until(lambda: here.relay.flows == 0)
        assert heard == [b"first"]
        assert here.relay.counts.unrecorded == 1
        assert here.incidents == ["the record cannot be written: [Errno 28] No space left on device"]
        assert here.kinds()[-2:] == ["incident", "closed"]


@looped
async def test_record_comes_before_the_send() -> None:
    order: list[str] = []

    class Server:
        async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            order.append((await reader.read(10)).decode())
            writer.close()

    class SendsFirst(Pass):
        def receive(self, event: object, now: float) -> Sequence[object]:  # type: ignore[override]
            if isinstance(event, Received):
                return [Send(S, event.data), Note("message")]
            return super().receive(event, now)  # type: ignore[arg-type]

    def note(notes: Sequence[Note]) -> bool:
        order.extend(n.kind for n in notes)
        time.sleep(0.02)  # were the bytes away already, the server would have them before the next line
        order.append("recorded")
        return False

    async with world(SendsFirst, Server()) as here:
        here.record_fails = note
        _, writer = await here.client()
        writer.write(b"up")
        await until(lambda: "up" in order)
        assert order.index("up") > order.index("message")
        assert order[order.index("message") + 1] == "recorded"
        writer.close()


@looped
async def test_record_that_fails_at_the_start_ends_the_flow() -> None:
    async with world() as here:
        here.record_fails = lambda notes: True
        reader, writer = await here.client()
        assert await reader.read(-1) == b"ERROR the session cannot be recorded"
        writer.close()
        await until(lambda: here.relay.flows == 0)


@looped
async def test_upstream_refused_is_a_reset_for_the_client() -> None:
    async with world() as here:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            here.server = Address(*closed.getsockname())
        reader, writer = await here.client()
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        writer.close()
        await until(lambda: here.relay.flows == 0)
        assert here.sessions[0].events == [Ended(S, lost=True)]
        assert here.notes[1].text == f"cannot connect to {here.server}: Connection refused"
        assert here.relay.counts.unreached == 1


def silent() -> socket.socket:
    """Return a server that answers no connect: its queue is full."""
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    server.setblocking(False)
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(server.getsockname())
        fillers.append(filler)
    return server


fillers: list[socket.socket] = []


@looped
async def test_connect_timeout_is_a_reset_for_the_client() -> None:
    async with world(limits=Limits(connect_s=0.2)) as here:
        with silent() as server:
            here.server = Address(*server.getsockname())
            began = time.monotonic()
            reader, writer = await here.client()
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)
            assert 0.15 < time.monotonic() - began < 20  # the kernel's own takes two minutes
            assert here.notes[1].text.endswith("no answer in time")
            writer.close()
        while fillers:
            fillers.pop().close()


@looped
async def test_a_flow_can_be_ended_while_it_connects() -> None:
    async with world(limits=Limits(connect_s=20)) as here:
        with silent() as server:
            here.server = Address(*server.getsockname())
            reader, writer = await here.client()
            await until(lambda: here.relay.flows == 1)
            await asyncio.sleep(0.02)
            here.relay.fail("over")
            assert await reader.read(-1) == b"ERROR over"
            writer.close()
            await until(lambda: here.relay.flows == 0, 15)
        while fillers:
            fillers.pop().close()


@looped
async def test_bytes_wait_until_upstream_is_connected() -> None:
    async with world() as here:
        with silent() as server:
            here.server = Address(*server.getsockname())
            reader, writer = await here.client()
            writer.write(b"early")
            await asyncio.sleep(0.1)
            assert here.sessions[0].events == []
            for filler in fillers:
                filler.close()
            heard = await asyncio.to_thread(first_words, server)  # the relay's SYN is sent again after 1 s
            assert heard == b"early"
            assert here.sessions[0].events[0] == Received(C, b"early")
        writer.close()
        fillers.clear()
        del reader


def first_words(server: socket.socket) -> bytes:
    """Accept until a connection says something, and return it."""
    server.settimeout(20)
    while True:
        sock, _ = server.accept()
        with sock:
            sock.settimeout(20)
            data = sock.recv(100)
            if data:
                return data


@looped
async def test_lost_server_resets_the_client() -> None:
    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )
        writer.transport.abort()

    async with world(serve=drop) as here:
        reader, writer = await here.client()
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        writer.close()
        await until(lambda: here.relay.flows == 0)
        assert Ended(S, lost=True) in here.sessions[0].events


@looped
async def test_lost_client_ends_the_flow() -> None:
    async with world() as here:
        with socket.create_connection(here.address) as sock:
            await until(lambda: len(here.sessions) == 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await asyncio.sleep(0.05)
        await until(lambda: here.relay.flows == 0)
        assert here.sessions[0].events == [Ended(C, lost=True)]


@looped
async def test_fault_of_a_session_closes_only_its_flow() -> None:
    async with world(Breaks) as here:
        good_reader, good = await here.client()
        bad_reader, bad = await here.client()
        bad.write(b"fault")
        with pytest.raises(ConnectionResetError):
            await bad_reader.read(-1)
        good.write(b"fine")
        assert await good_reader.readexactly(4) == b"fine"
        assert here.incidents == ["internal error: KeyError"]
        assert [n.kind for n in here.notes if n.text == "internal error: KeyError"] == ["incident", "closed"]
        assert here.relay.counts.failed == 1
        good.close()
        bad.close()


@looped
async def test_session_is_woken_at_its_deadline() -> None:
    async with world(Wakes) as here:
        reader, writer = await here.client()
        word, after = (await reader.readexactly(10)).split()
        assert word == b"woke"
        assert 0.05 <= float(after) < 10
        writer.close()


@looped
async def test_session_that_keeps_its_deadline_does_not_stop_the_loop() -> None:
    class Stuck(Pass):
        woken = 0

        def start(self, now: float, wall: float) -> Sequence[object]:  # type: ignore[override]
            self.deadline = now
            return []

        def receive(self, event: object, now: float) -> Sequence[object]:  # type: ignore[override]
            self.woken += 1
            return []

    async with world(Stuck) as here:
        _, writer = await here.client()
        await asyncio.sleep(0.2)
        assert 0 < here.sessions[0].woken <= 0.25 / Limits().tick_s  # type: ignore[attr-defined]
        writer.close()


@looped
async def test_refused_connection_is_reset_and_counted() -> None:
    async with world() as here:
        here.refuse = True
        with pytest.raises(ConnectionResetError):
            reader, _ = await here.client()  # it may come before the client has looked, or after
            await reader.read(-1)
        assert (here.relay.counts.refused, here.relay.flows, here.sessions) == (1, 0, [])


@looped
async def test_stop_refuses_new_connections_and_keeps_flows() -> None:
    async with world() as here:
        reader, writer = await here.client()
        await until(lambda: here.relay.flows == 1)
        here.relay.stop()
        with pytest.raises(ConnectionRefusedError):
            await here.client()
        writer.write(b"on")
        assert await reader.readexactly(2) == b"on"
        writer.close()


@looped
async def test_thousand_short_connections() -> None:
    async with world() as here:

        async def once(number: int) -> bytes:
            reader, writer = await here.client()
            writer.write(b"%d" % number)
            writer.write_eof()
            try:
                return await reader.read(-1)
            finally:
                writer.close()

        for start in range(0, 1000, 100):
            said = await asyncio.gather(*(once(n) for n in range(start, start + 100)))
            assert said == [b"%d" % n for n in range(start, start + 100)]
        await until(lambda: here.relay.flows == 0)
        assert here.relay.counts.accepted == 1000
        assert here.kinds().count("closed") == 1000
        assert (here.relay._places.total, here.relay._memory.total) == (0, 0)


@looped
async def test_a_read_is_bounded() -> None:
    async with world() as here:
        reader, writer = await here.client()
        writer.write(b"x" * 3_000_000)
        await reader.readexactly(3_000_000)
        sizes = [len(e.data) for e in here.sessions[0].events if isinstance(e, Received)]
        assert max(sizes) <= MAX_READ
        writer.close()


@looped
async def test_what_is_accepted_is_not_paced_and_what_is_dialled_is_as_the_host_says() -> None:
    async with world() as here:
        _, writer = await here.client()
        await until(lambda: here.relay.flows == 1 and all(end.open for end in next(iter(here.relay._pipes))._ends.values()))
        (pipe,) = here.relay._pipes
        found = {side: end.sock.getsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, 16) for side, end in pipe._ends.items() if end.sock}
        assert found[C].rstrip(b"\0") == LOCAL
        with socket.socket() as other:
            assert found[S] == other.getsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, 16)
        writer.close()
