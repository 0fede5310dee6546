"""What flows have to record in one turn of the loop is recorded by one call, before anything of it leaves."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from appliance.model import Address, Effect, Event, Flow, Note, Received, Send
from appliance.relay.gather import Entry, Gather
from appliance.relay.limits import Limits
from tests.relay.sessions import C, Pass, S, World, looped, until, world

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
FLOW = Flow("f", 0.0, Address("10.0.0.1", 1), Address("10.0.0.2", 2), None)


class One:
    """A flow that has left something."""

    def __init__(self, name: str) -> None:
        self.noted = (FLOW, [Note("message", name)])
        self.told: list[Exception | None] = []

    def recorded(self, error: Exception | None) -> None:
        self.told.append(error)


def texts(entries: Sequence[Entry]) -> list[str]:
    return [note.text for _, notes in entries for note in notes]


@looped
async def test_one_turn_is_one_call_in_the_order_they_came() -> None:
    calls: list[list[str]] = []

    def book(entries: Sequence[Entry]) -> list[Exception | None]:
        assert not any(one.told for one in flows), "nobody goes on before all is recorded"
        calls.append(texts(entries))
        return [None, OSError(28, "full"), None]

    gather, flows = Gather(book, 100), [One("a"), One("b"), One("c")]
    for one in flows:
        gather.add(one, 10)
    assert calls == []
    await asyncio.sleep(0)
    assert calls == [["a", "b", "c"]]
    assert [one.told[0] and one.told[0].args[0] for one in flows] == [None, 28, None]
    await asyncio.sleep(0.01)
    assert len(calls) == 1


@looped
async def test_gathered_is_the_most_bytes_that_wait_for_the_end_of_a_turn() -> None:
    assert Limits().gathered == 1024 * 1024
    calls: list[list[str]] = []
    gather = Gather(lambda entries: calls.append(texts(entries)) or [None] * len(entries), 100)  # type: ignore[func-returns-value]
    gather.add(One("a"), 60)
    gather.add(One("b"), 40)
    assert calls == []
    gather.add(One("c"), 1)
    assert calls == [["a", "b", "c"]]
    gather.add(One("d"), 1)  # and it counts from nothing again
    await asyncio.sleep(0)
    assert calls == [["a", "b", "c"], ["d"]]


@looped
async def test_a_book_that_breaks_is_told_to_all_whose_notes_it_had() -> None:
    def book(entries: Sequence[Entry]) -> list[Exception | None]:
        raise KeyError("a fault of ours")

    gather, flows = Gather(book, 100), [One("a"), One("b")]
    for one in flows:
        gather.add(one, 10)
    await asyncio.sleep(0)
    assert [[type(error) for error in one.told] for one in flows] == [[KeyError], [KeyError]]


async def clients(here: World, count: int) -> list[Client]:
    found = [await here.client() for _ in range(count)]
    await until(lambda: here.kinds() == ["opened"] * count)
    await until(lambda: all(end.open for pipe in here.relay._pipes for end in pipe._ends.values()))
    return found


def arrive(here: World, side: object, data: bytes, which: Sequence[int]) -> None:
    """Have bytes come in one turn of the loop."""
    pipes = {pipe.flow.id: pipe for pipe in here.relay._pipes}
    for number in which:
        pipes[f"f{number}"]._ends[side].data_received(data)  # type: ignore[index]


@looped
async def test_flows_that_have_something_in_one_turn_share_a_write_and_nothing_leaves_before_it() -> None:
    async with world(together=True) as here:
        found = await clients(here, 5)
        arrive(here, C, b"hello", range(5))
        assert here.turns == []
        assert here.relay.counts.bytes == 0, "nothing is sent yet"
        for reader, _ in found:
            assert await reader.readexactly(5) == b"hello"
        assert here.turns[0] == ["f0", "f1", "f2", "f3", "f4"]
        assert here.relay.counts.messages == 10
        for _, writer in found:
            writer.close()


@looped
async def test_a_flow_is_done_with_what_it_left_before_its_session_is_called_again() -> None:
    seen: list[tuple[bytes, int]] = []

    class Watches(Pass):
        def receive(self, event: Event, now: float) -> Sequence[Effect]:
            if isinstance(event, Received):
                seen.append((event.data, here.relay.counts.bytes))
            return super().receive(event, now)

    async with world(Watches, together=True) as here:
        ((reader, writer),) = await clients(here, 1)
        for data in (b"one", b"three", b"seven77"):
            arrive(here, C, data, [0])
        assert seen == [(b"one", 0), (b"three", 3), (b"seven77", 8)]
        assert here.turns == [["f0"], ["f0"]]
        assert await reader.readexactly(15) == b"onethreeseven77"
        writer.close()


@looped
async def test_the_fault_of_one_flow_in_a_turn_is_not_that_of_the_others() -> None:
    async with world(together=True) as here:
        found = await clients(here, 3)
        here.record_fails = lambda notes: notes[0].raw == b"bad"
        arrive(here, C, b"good", [0])
        arrive(here, C, b"bad", [1])
        arrive(here, C, b"good", [2])
        assert await found[1][0].read(-1) == b"ERROR the session cannot be recorded"
        for number in (0, 2):
            assert await found[number][0].readexactly(4) == b"good"
        await until(lambda: here.relay.flows == 2)
        assert here.turns[0] == ["f0", "f1", "f2"]
        assert here.relay.counts.unrecorded == 1
        for _, writer in found:
            writer.close()


async def one_ends(here: World, fails: Callable[[Sequence[Note]], bool]) -> list[Client]:
    """Two flows speak in one turn, of which the record takes the second only; return their clients."""
    found = await clients(here, 2)
    here.record_fails = fails
    arrive(here, C, b"bad", [0])
    arrive(here, C, b"good", [1])
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(found[0][0].read(-1), 10)
    assert await asyncio.wait_for(found[1][0].readexactly(4), 10) == b"good"
    return found


@pytest.mark.parametrize("together", [True, False])
@looped
async def test_a_flow_whose_end_cannot_be_noted_for_a_fault_of_ours_ends_alone(together: bool) -> None:
    def fails(notes: Sequence[Note]) -> bool:
        if any(note.raw == b"bad" or note.kind in ("incident", "closed") for note in notes):
            raise AssertionError("not even its end")
        return False

    async with world(together=together) as here:
        found = await one_ends(here, fails)
        here.record_fails = lambda notes: False
        for _, writer in found:
            writer.close()


@looped
async def test_a_fault_of_ours_in_the_record_breaks_its_flow_only() -> None:
    def fails(notes: Sequence[Note]) -> bool:
        if notes[0].raw == b"bad":
            raise AssertionError("a secret came to the record")
        return False

    async with world(together=True) as here:
        found = await one_ends(here, fails)
        assert here.relay.counts.failed == 1
        assert here.incidents == ["internal error: AssertionError"]
        for _, writer in found:
            writer.close()


@pytest.mark.parametrize("how", ["abort", "fail", "lost", "broken"])
def test_what_was_left_is_recorded_before_its_flow_ends(how: str) -> None:
    @looped
    async def run() -> None:
        async with world(together=True) as here:
            ((_, writer),) = await clients(here, 1)
            arrive(here, C, b"last", [0])
            (pipe,) = here.relay._pipes
            if how == "lost":
                pipe.lost(S)
            elif how == "broken":
                pipe.broken(KeyError("a fault of ours"))
            elif how == "fail":
                pipe.fail("the hub says so")
            else:
                pipe.abort()
            assert [note.raw for note in here.notes if note.kind == "message"] == [b"last"]
            assert here.kinds()[:2] == ["opened", "message"]
            writer.close()
            await until(lambda: here.relay.flows == 0)
            assert len(here.turns) == 1

    run()


@looped
async def test_what_has_no_note_is_sent_at_once() -> None:
    class Unread(Pass):
        def receive(self, event: Event, now: float) -> Sequence[Effect]:
            if isinstance(event, Received):
                return [Send(event.side.other, event.data)]
            return super().receive(event, now)

    async with world(Unread, together=True) as here:
        ((reader, writer),) = await clients(here, 1)
        arrive(here, C, b"bytes", [0])
        assert here.relay.counts.bytes == 5
        assert await reader.readexactly(5) == b"bytes"
        assert here.turns == []
        writer.close()


@looped
async def test_unweighed_is_what_of_a_flow_its_vendor_is_not_told() -> None:
    class Gathers(Pass):
        """Waits for the end of a message that never ends."""

        def receive(self, event: Event, now: float) -> Sequence[Effect]:
            return [] if isinstance(event, Received) else super().receive(event, now)

    assert Limits().unweighed * Limits().flows <= Limits().memory // 8
    async with world(Gathers, limits=Limits(unweighed=1000, linger_s=0.2)) as here:
        ((_, writer),) = await clients(here, 1)
        arrive(here, C, b"x" * 1000, [0])
        assert here.relay._memory.total == 0
        arrive(here, C, b"x", [0])
        assert here.relay._memory.total == 1001
        writer.close()
        await until(lambda: here.relay.flows == 0)
        assert here.relay._memory.total == 0
