"""Which packets of a connection go on, and with which bytes: without kernel and clock."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import ProtocolError, Side
from appliance.packet.events import Taken
from appliance.packet.inline import BLOCK, KEPT, Drop, Go, Inline, Limits

C, S = Side.CLIENT, Side.SERVER


def taken(side: Side, begin: int, end: int, fin: bool = False, place: str = "next") -> Taken:
    return Taken(1, side, place, (), begin, end, fin)  # type: ignore[arg-type]


def test_a_packet_waits_until_all_of_it_is_allowed() -> None:
    inline = Inline()
    assert inline.take(taken(C, 0, 4), 1, b"abcd") == []
    inline.came(C, b"abcd")
    assert inline.allow(S, b"ab") == []
    assert (inline.held, inline.packets) == (4, 1)
    assert inline.allow(S, b"cd") == [Go(1)]
    assert (inline.held, inline.packets) == (0, 0)


def test_what_brings_nothing_goes_at_once() -> None:
    inline = Inline()
    assert inline.take(taken(C, 0, 0, place="bare"), 1, b"") == [Go(1)]


def test_bytes_outside_the_stream_go_nowhere() -> None:
    """A reset may carry a text; nobody judges it."""
    assert Inline().take(taken(C, 0, 0, place="bare"), 1, b"text") == [Drop(1)]


def test_an_allowed_packet_goes_again() -> None:
    inline = Inline()
    inline.take(taken(C, 0, 2), 1, b"ab")
    inline.came(C, b"ab")
    inline.allow(S, b"ab")
    assert inline.take(taken(C, 0, 2, place="old"), 2, b"ab") == [Go(2)]


def test_a_waiting_packet_that_comes_again_takes_the_place_of_the_first() -> None:
    """The kernel's queue may have been emptied by others: then only the new one is left."""
    inline = Inline()
    inline.take(taken(C, 0, 2), 1, b"ab")
    inline.came(C, b"ab")
    assert inline.take(taken(C, 0, 2, place="old"), 2, b"ab") == [Drop(1)]
    assert inline.allow(S, b"ab") == [Go(2)]


def test_the_server_gets_what_the_client_said() -> None:
    inline = Inline()
    inline.came(C, b"ab")
    with pytest.raises(ProtocolError, match="other bytes"):
        inline.allow(S, b"ax")


def test_nobody_gets_more_than_was_said() -> None:
    inline = Inline()
    inline.came(S, b"ab")
    with pytest.raises(ProtocolError, match="in place of 2"):
        inline.allow(C, b"abc")


def test_nothing_is_left_at_the_end() -> None:
    inline = Inline()
    inline.take(taken(S, 0, 2, fin=True), 1, b"ab")
    inline.came(S, b"ab")
    with pytest.raises(ProtocolError, match="2 bytes"):
        inline.end(C)
    assert inline.allow(C, b"ab") == []
    assert inline.end(C) == [Go(1)]


def test_a_masked_packet_has_other_bytes_as_often_as_it_comes() -> None:
    inline = Inline()
    text, shown = b"x" * 100 + b"secret" + b"y" * 100, b"x" * 100 + b"******" + b"y" * 100
    inline.take(taken(S, 0, 103), 1, text[:103])
    inline.take(taken(S, 103, 206), 2, text[103:])
    inline.came(S, text)
    assert inline.allow(C, shown) == [Go(1, shown[:103]), Go(2, shown[103:])]
    assert inline.take(taken(S, 50, 120, place="old"), 3, text[50:120]) == [Go(3, shown[50:120])]
    assert inline.take(taken(S, 0, 40, place="old"), 4, text[:40]) == [Go(4)]


def test_kept() -> None:
    """What a mask changed is remembered for as long as it may be sent again, and no longer; then it is refused."""
    inline = Inline(Limits(bytes=2 * KEPT))
    inline.came(S, b"secret")
    inline.allow(C, b"******")
    inline.came(S, b"a" * KEPT + b"secret")
    inline.allow(C, b"a" * KEPT + b"******")
    inline.came(S, b"b" * BLOCK + b"secret")
    inline.allow(C, b"b" * BLOCK + b"******")
    with pytest.raises(ProtocolError, match="long after"):
        inline.take(taken(S, 0, 6, place="old"), 1, b"secret")


def test_max_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.packet.inline.MAX_CHANGED", 2)
    inline = Inline()
    for _ in range(4):
        inline.came(S, b"a")
        inline.allow(C, b"*")
    assert inline.take(taken(S, 3, 4, place="old"), 1, b"a") == [Go(1, b"*")]
    with pytest.raises(ProtocolError, match="long after"):
        inline.take(taken(S, 0, 1, place="old"), 2, b"a")


def test_packets() -> None:
    inline = Inline(Limits(packets=2))
    inline.take(taken(C, 0, 1), 1, b"a")
    inline.take(taken(C, 1, 2), 2, b"b")
    with pytest.raises(ProtocolError, match="over 2 packets"):
        inline.take(taken(C, 2, 3), 3, b"c")


def test_bytes() -> None:
    inline = Inline(Limits(bytes=3))
    inline.take(taken(C, 0, 3), 1, b"abc")
    with pytest.raises(ProtocolError, match="over 3 bytes"):
        inline.take(taken(C, 3, 4), 2, b"d")


def test_what_waits_at_the_end_is_told() -> None:
    inline = Inline()
    inline.take(taken(C, 0, 1), 1, b"a")
    inline.take(taken(S, 0, 1), 2, b"b")
    assert inline.rest() == [1, 2]
    assert inline.packets == 0


STREAM = st.binary(min_size=1, max_size=600)
STEPS = st.lists(st.tuples(st.integers(0, 599), st.integers(1, 200), st.booleans()), max_size=40)


@settings(max_examples=200, deadline=None)
@given(STREAM, STEPS, st.binary(min_size=0, max_size=600))
def test_whatever_is_cut_and_sent_again_only_allowed_bytes_go_on(stream: bytes, steps: list[tuple[int, int, bool]], shown: bytes) -> None:
    """Packets of any cut, new or again, and a session that lets go of bytes in any pieces, some masked."""
    masked = shown[: len(stream)] + stream[len(shown) :]
    inline, given_, allowed, number = Inline(), 0, 0, 0  # offsets: of what came, of what may go
    where: dict[int, tuple[int, int]] = {}
    for place, size, lets in steps:
        words = []
        if lets:
            upto = min(given_, allowed + size)
            words = inline.allow(C, masked[allowed:upto])
            allowed = upto
        else:
            begin = min(place, given_, len(stream) - 1)
            end = min(len(stream), begin + size)
            number += 1
            where[number] = (begin, end)
            words = inline.take(taken(S, begin, end), number, stream[begin:end])
            if end > given_:
                inline.came(S, stream[given_:end])
                given_ = end
        for word in words:
            begin, end = where.pop(word.number)
            if isinstance(word, Go):
                assert end <= allowed, "a byte went before it was allowed"
                assert (stream[begin:end] if word.payload is None else word.payload) == masked[begin:end]
    assert all(end > allowed for _, end in where.values()), "a packet waits that may go"


def test_what_goes_on_ahead_must_be_what_is_sent() -> None:
    inline = Inline()
    inline.take(taken(S, 0, 4), 1, b"abcd")
    inline.came(S, b"abcd")
    assert inline.pending(C) == 4
    assert inline.ahead(C) == [Go(1)]
    assert inline.pending(C) == 0
    inline.take(taken(S, 4, 6), 2, b"ef")
    inline.came(S, b"ef")
    assert inline.allow(C, b"abc") == []
    assert inline.allow(C, b"def") == [Go(2)]
    inline.came(S, b"gh")
    inline.ahead(C)
    with pytest.raises(ProtocolError, match="than went on ahead"):
        inline.allow(C, b"gx")
