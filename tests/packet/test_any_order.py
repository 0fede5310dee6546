"""However a stream is cut, ordered and repeated, it is the same stream; and nothing else is ever given."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.packet.events import Choices, Finished, Gap, Odd, Over, Run
from tests.packet.talk import C, S, Talk

TEXT = {C: bytes(range(65, 91)) * 3, S: bytes(range(97, 123)) * 4}
ISNS = st.sampled_from([0, 1, 2**31 - 40, 2**32 - 1, 2**32 - 30])
SIDES = st.sampled_from([C, S])


@st.composite
def segments(draw: st.DrawFn, ordered: bool) -> list[tuple[object, int, int]]:
    """Segments that have all of both texts, some twice, some overlapping, all of the true bytes."""
    found = []
    for side, text in TEXT.items():
        cuts = sorted(draw(st.sets(st.integers(1, len(text) - 1), max_size=8)))
        bounds = [0, *cuts, len(text)]
        found += [(side, low, high) for low, high in itertools.pairwise(bounds)]
    more = st.tuples(SIDES, st.integers(0, 70), st.integers(1, 30)).map(
        lambda found: (found[0], found[1], min(found[1] + found[2], len(TEXT[found[0]])))
    )
    extra = draw(st.lists(more, max_size=8))
    if ordered:
        for segment in extra:
            found.insert(draw(st.integers(0, len(found))), segment)
        return found
    return list(draw(st.permutations(found + extra)))


def play(talk: Talk, order: list[tuple[object, int, int]], data: st.DataObject | None = None) -> None:
    for side, low, high in order:
        talk(side, "FA" if high == len(TEXT[side]) else "A", low, TEXT[side][low:high], ack=0)
        if data is not None and data.draw(st.booleans()):
            given = sum(len(event.data) for event in talk.of(Run) if event.side is side)
            talk(side.other, "A", 0, ack=data.draw(st.integers(0, given)))


@given(segments(ordered=False), ISNS, ISNS, st.booleans(), st.data())
@settings(max_examples=300, deadline=None)
def test_any_cut_any_order_any_duplication(
    order: list[tuple[object, int, int]], mine: int, theirs: int, inline: bool, data: st.DataObject
) -> None:
    talk = Talk(Choices(inline=inline), mine, theirs).open()
    play(talk, order, data)
    assert talk.said(C) == TEXT[C] and talk.said(S) == TEXT[S]
    assert sorted(event.side.value for event in talk.of(Finished)) == ["client", "server"]
    for side, other in ((C, S), (S, C)):
        talk(side, "A", len(TEXT[side]) + 1, ack=len(TEXT[other]) + 1)
    assert not talk.of(Odd) and not talk.of(Gap)
    assert [event.why for event in talk.of(Over)] == ["finished"] and talk.tracker.memory == 0


@given(segments(ordered=False), st.booleans())
@settings(max_examples=200, deadline=None)
def test_packets_are_named_with_the_bytes_they_brought(order: list[tuple[object, int, int]], inline: bool) -> None:
    talk = Talk(Choices(inline=inline)).open()
    play(talk, order)
    first = talk.number - len(order) + 1
    for run in talk.of(Run):
        assert run.data == TEXT[run.side][run.offset : run.offset + len(run.data)]
        spans = [order[number - first][1:] for number in run.packets if order[number - first][0] is run.side]
        for place in range(run.offset, run.offset + len(run.data)):
            assert any(low <= place < high for low, high in spans)


SPANS = st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=12)), max_size=12)


@given(SPANS, st.integers(1, 60), st.integers(1, 6))
@settings(max_examples=300, deadline=None)
def test_inline_bytes_have_one_reading(spans: list[tuple[int, bytes]], most: int, pieces: int) -> None:
    """Of all segments that were let by, each place has one byte: no receiver can put them together otherwise."""
    talk = Talk(Choices(inline=True, max_early=most, max_pieces=pieces)).open()
    known: dict[int, int] = {}
    for seq, data in spans:
        taken = talk(C, "A", seq, data)
        end = talk.tracker._table.flows[1].connection._ends[C]
        assert end.early_bytes <= most and end.pieces <= pieces
        if taken.place in ("next", "early", "old"):
            for place, byte in enumerate(data, seq):
                assert known.setdefault(place, byte) == byte or taken.place == "old"
    said = talk.said(C)
    assert said == bytes(known[place] for place in range(len(said)))


@given(SPANS)
@settings(max_examples=200, deadline=None)
def test_a_capture_gives_each_offset_once_and_in_order(spans: list[tuple[int, bytes]]) -> None:
    talk = Talk().open()
    for seq, data in spans:
        talk(C, "A", seq, data)
        talk(S, "A", 0, ack=min(max((seq + len(data) for seq, data in spans), default=0), seq + len(data)))
    talk.end()
    at = 0
    for event in talk.events:
        if isinstance(event, Run | Gap) and event.side is C:
            assert event.offset == at
            at += len(event.data) if isinstance(event, Run) else event.size
    assert talk.tracker.memory == 0
