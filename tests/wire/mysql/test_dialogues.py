"""The table of dialogues, and the properties every wire has, on the same table."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.model import Message, ProtocolError, Send, Side
from appliance.wire.mysql import MySQL
from tests.wire.mysql.build import C, S, blanked
from tests.wire.mysql.dialogues import DIALOGUES, Step

NAMES = sorted(DIALOGUES)
RUNS = {"row", "copy-data"}


def play(wire: MySQL, steps: Sequence[tuple[Side, bytes]]) -> list[Message]:
    """Feed the steps, allow everything; return all messages and check what goes up."""
    said: list[Message] = []
    for side, data in steps:
        for message in wire.feed(side, data):
            said.append(message)
            if side is C:
                (send,) = wire.allow(message)
                assert send == Send(S, send.data)
                assert blanked(send.data) == message.raw
    return said


def joined(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with runs of rows or data as one, as a wire may or may not do."""
    out: list[Message] = []
    for message in messages:
        last = out[-1] if out else None
        if last and message.side is last.side and message.kind == last.kind and message.kind in RUNS:
            out[-1] = replace(last, raw=last.raw + message.raw, count=last.count + message.count)
        else:
            out.append(message)
    return out


@pytest.mark.parametrize("name", NAMES)
def test_kinds(name: str) -> None:
    wire = MySQL()
    for side, data, kinds in DIALOGUES[name]:
        said = joined(play(wire, [(side, data)]))
        assert [message.kind for message in said] == kinds.split()
        assert all(message.side is side for message in said)
        assert b"".join(message.raw for message in said) == blanked(data)


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte(name: str) -> None:
    whole = joined(play(MySQL(), [(side, data) for side, data, _ in DIALOGUES[name]]))
    pieces = [(side, data[i : i + 1]) for side, data, _ in DIALOGUES[name] for i in range(len(data))]
    assert joined(play(MySQL(), pieces)) == whole


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


@given(st.sampled_from(NAMES), st.lists(st.integers(0, 10_000), max_size=8))
@settings(max_examples=150, deadline=None)
def test_cuts_change_nothing(name: str, places: list[int]) -> None:
    steps: list[Step] = DIALOGUES[name]
    whole = joined(play(MySQL(), [(side, data) for side, data, _ in steps]))
    pieces = [(side, piece) for side, data, _ in steps for piece in cut(data, places)]
    said = play(MySQL(), pieces)
    assert joined(said) == whole
    for side in (C, S):
        given = b"".join(data for one, data, _ in steps if one is side)
        assert b"".join(m.raw for m in said if m.side is side) == blanked(given)


@given(
    st.sampled_from(NAMES),
    st.integers(0, 30),
    st.integers(0, 2000),
    st.binary(max_size=12),
    st.sampled_from(["insert", "replace", "delete"]),
)
@settings(max_examples=400, deadline=None)
def test_rubbish_is_a_protocol_error_or_waiting(name: str, step: int, place: int, data: bytes, how: str) -> None:
    """Bytes put into a dialogue end in ProtocolError, or in messages that are no longer than the input."""
    wire = MySQL()
    steps = [(side, raw) for side, raw, _ in DIALOGUES[name]]
    side, raw = steps[step % len(steps)]
    place %= len(raw) + 1
    keep = {"insert": place, "replace": place + len(data), "delete": place + 3}[how]
    steps[step % len(steps)] = (side, raw[:place] + (b"" if how == "delete" else data) + raw[keep:])
    said: list[Message] = []
    try:
        for side, raw in steps:
            for message in wire.feed(side, raw):
                said.append(message)
                if side is C:
                    wire.allow(message)
    except ProtocolError:
        pass
    for side in (C, S):
        given = b"".join(data for one, data in steps if one is side)
        assert sum(len(m.raw) for m in said if m.side is side and m.cursor != "refused") <= len(given)


@given(st.lists(st.tuples(st.sampled_from([C, S]), st.binary(max_size=64)), max_size=6))
@settings(max_examples=300, deadline=None)
def test_noise_is_a_protocol_error_or_waiting(steps: list[tuple[Side, bytes]]) -> None:
    wire = MySQL()
    try:
        for side, data in steps:
            for message in wire.feed(side, data):
                if side is C:
                    wire.allow(message)
    except ProtocolError:
        pass


@pytest.mark.parametrize("name", NAMES)
def test_idle_and_busy(name: str) -> None:
    """At the end of each dialogue nothing is owed, unless it did not come to the end of its login."""
    wire = MySQL()
    steps = DIALOGUES[name]
    play(wire, [(side, data) for side, data, _ in steps])
    logged_in = any(kinds.split()[-1] in {"complete"} for side, _, kinds in steps if side is S)
    assert wire.idle is logged_in
    assert not wire.busy
