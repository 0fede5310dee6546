"""The table of dialogues, and the properties every wire has, on the same table."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.model import Message, ProtocolError, Send, Side
from appliance.wire.postgres import Postgres
from tests.wire.build import C, S
from tests.wire.dialogues import DIALOGUES, Step

NAMES = sorted(DIALOGUES)


def play(wire: Postgres, steps: Sequence[tuple[Side, bytes]]) -> list[Message]:
    """Feed the steps, allow everything; return all messages and check what goes up."""
    said: list[Message] = []
    for side, data in steps:
        for message in wire.feed(side, data):
            said.append(message)
            if side is C:
                gss = message.kind == "gss-request"  # the wire itself answers it
                assert wire.allow(message) == [Send(C, b"N") if gss else Send(S, message.raw)]
    return said


def joined(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with runs of rows or COPY data as one, as a wire may or may not do."""
    out: list[Message] = []
    for message in messages:
        last = out[-1] if out else None
        if last and message.side is S and message.kind == last.kind and message.kind in {"row", "copy-data"}:
            out[-1] = replace(last, raw=last.raw + message.raw, count=last.count + message.count)
        else:
            out.append(message)
    return out


@pytest.mark.parametrize("name", NAMES)
def test_kinds(name: str) -> None:
    wire = Postgres()
    for side, data, kinds in DIALOGUES[name]:
        said = joined(play(wire, [(side, data)]))
        assert [message.kind for message in said] == kinds.split()
        assert all(message.side is side for message in said)
        assert b"".join(message.raw for message in said) == data


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte(name: str) -> None:
    whole = joined(play(Postgres(), [(side, data) for side, data, _ in DIALOGUES[name]]))
    pieces = [(side, data[i : i + 1]) for side, data, _ in DIALOGUES[name] for i in range(len(data))]
    assert joined(play(Postgres(), pieces)) == whole


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


@given(st.sampled_from(NAMES), st.lists(st.integers(0, 10_000), max_size=8))
@settings(max_examples=150, deadline=None)
def test_cuts_change_nothing(name: str, places: list[int]) -> None:
    steps: list[Step] = DIALOGUES[name]
    whole = joined(play(Postgres(), [(side, data) for side, data, _ in steps]))
    pieces = [(side, piece) for side, data, _ in steps for piece in cut(data, places)]
    said = play(Postgres(), pieces)
    assert joined(said) == whole
    for side in (C, S):
        assert b"".join(m.raw for m in said if m.side is side) == b"".join(d for s, d, _ in steps if s is side)


@given(
    st.sampled_from(NAMES),
    st.integers(0, 30),
    st.integers(0, 2000),
    st.binary(max_size=12),
    st.sampled_from(["insert", "replace", "delete"]),
)
@settings(max_examples=400, deadline=None)
def test_rubbish_is_a_protocol_error_or_waiting(name: str, step: int, place: int, data: bytes, how: str) -> None:
    """Bytes put into a dialogue end in ProtocolError, or in messages that are still the input."""
    wire = Postgres()
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
        assert b"".join(d for s, d in steps if s is side).startswith(b"".join(m.raw for m in said if m.side is side))


@given(st.lists(st.tuples(st.sampled_from([C, S]), st.binary(max_size=64)), max_size=6))
@settings(max_examples=300, deadline=None)
def test_noise_is_a_protocol_error_or_waiting(steps: list[tuple[Side, bytes]]) -> None:
    wire = Postgres()
    try:
        play(wire, steps)
    except ProtocolError:
        pass


@pytest.mark.parametrize("name", NAMES)
def test_idle_and_busy(name: str) -> None:
    """At the end of each dialogue nothing is owed, unless it ended the connection."""
    wire = Postgres()
    steps = DIALOGUES[name]
    play(wire, [(side, data) for side, data, _ in steps])
    last = steps[-1][2].split()[-1]
    if last == "ready":
        assert wire.idle
        assert not wire.busy
