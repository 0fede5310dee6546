"""The table of dialogues, and the properties every wire has, on the same table."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import Message, ProtocolError, Send, Side
from appliance.wire.detect import open as open_wire
from appliance.wire.redis import Redis, recognise
from tests.wire.redis.dialogues import BROKEN, DIALOGUES, C, S, cmd

NAMES = sorted(DIALOGUES)


def play(wire: Redis, steps: Sequence[tuple[Side, bytes]]) -> list[Message]:
    """Feed the steps and allow everything; what goes up is what came."""
    said: list[Message] = []
    for side, data in steps:
        for message in wire.feed(side, data):
            said.append(message)
            if message.side is C:
                assert wire.allow(message) == [Send(S, message.raw)]
    return said


def joined(messages: Sequence[Message]) -> list[tuple[str, str, bytes]]:
    """Return kinds, names and bytes, with the pieces of what is passed in pieces as one."""
    out: list[tuple[str, str, bytes]] = []
    left = b""
    for message in messages:
        if message.side is S and message.kind in ("reply", "push", "replication", "attribute"):
            left += message.raw
        else:
            out += [("said", "", left)] if left else []
            left = b""
            out.append((message.kind, message.name, message.raw))
    return [*out, ("said", "", left)] if left else out


@pytest.mark.parametrize("name", NAMES)
def test_kinds(name: str) -> None:
    wire = Redis()
    for side, data, kinds in DIALOGUES[name]:
        said = play(wire, [(side, data)])
        # The head of an attribute, and of what it is about, come apart.
        found = [m.kind for i, m in enumerate(said) if m.kind != "attribute" or said[i - 1].kind != "attribute"]
        assert found == kinds.split()
        assert all(message.side is side for message in said)
        assert b"".join(message.raw for message in said) == data


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte(name: str) -> None:
    whole = joined(play(Redis(), [(side, data) for side, data, _ in DIALOGUES[name]]))
    pieces = [(side, data[i : i + 1]) for side, data, _ in DIALOGUES[name] for i in range(len(data))]
    assert joined(play(Redis(), pieces)) == whole


@pytest.mark.parametrize("name", NAMES)
def test_idle_and_busy(name: str) -> None:
    wire = Redis()
    assert wire.idle
    play(wire, [(side, data) for side, data, _ in DIALOGUES[name]])
    assert not wire.busy
    assert wire.idle is (name != "replica")


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


@given(st.sampled_from(NAMES), st.lists(st.integers(0, 10_000), max_size=8))
@settings(max_examples=200, deadline=None)
def test_cuts_change_nothing(name: str, places: list[int]) -> None:
    steps = DIALOGUES[name]
    whole = joined(play(Redis(), [(side, data) for side, data, _ in steps]))
    pieces = [(side, piece) for side, data, _ in steps for piece in cut(data, places)]
    said = play(Redis(), pieces)
    assert joined(said) == whole
    for side in (C, S):
        assert b"".join(m.raw for m in said if m.side is side) == b"".join(d for s, d, _ in steps if s is side)


@given(
    st.sampled_from(NAMES), st.integers(0, 30), st.integers(0, 2000), st.binary(max_size=12), st.sampled_from(["insert", "replace", "delete"])
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_rubbish_is_a_protocol_error_or_waiting(name: str, step: int, place: int, data: bytes, how: str) -> None:
    """Bytes put into a dialogue end in ProtocolError, or in messages that are still the input."""
    wire = Redis()
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
                if message.side is C:
                    wire.allow(message)
    except ProtocolError:
        pass
    up = b"".join(m.raw for m in said if m.side is C)
    assert b"".join(d for s, d in steps if s is C).startswith(up)
    if b"REPLY" not in up.upper():
        assert b"".join(d for s, d in steps if s is S).startswith(b"".join(m.raw for m in said if m.side is S))


@given(st.lists(st.tuples(st.sampled_from([C, S]), st.binary(max_size=64)), max_size=6))
@settings(max_examples=300, deadline=None)
def test_noise_is_a_protocol_error_or_waiting(steps: list[tuple[Side, bytes]]) -> None:
    wire = Redis()
    try:
        for side, data in steps:
            for message in wire.feed(side, data):
                if message.side is C:
                    wire.allow(message)
    except ProtocolError:
        pass


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("bytewise", [False, True])
def test_what_no_client_may_send(name: str, bytewise: bool) -> None:
    data = BROKEN[name]
    if bytewise and len(data) > 1000:
        data = data[:5] + b"x" * 70_000
    pieces = [data[i : i + 1] for i in range(len(data))] if bytewise else [data]
    wire = Redis()
    with pytest.raises(ProtocolError):
        for piece in pieces:
            list(wire.feed(C, piece))
    assert wire.refuse("protocol violation", "malformed").startswith(b"-ERR ")


@pytest.mark.parametrize(
    "data", [b"x\r\n", b":1\r\n", b"+OK\r\n", b"$1\r\nx\r\n", b"*1\r\n:1\r\n", b"|1\r\n+a\r\n+b\r\n", b"\n"]
)
def test_a_server_that_speaks_unasked(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="before it was asked"):
        list(Redis().feed(S, data))


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (("GET", "k"), b"?\r\n"), (("GET", "k"), b"$x\r\n"), (("GET", "k"), b"$-2\r\n"), (("GET", "k"), b"*1\r\n;1\r\n"),
        (("GET", "k"), b".\r\n"), (("GET", "k"), b"$?\r\n:1\r\n"), (("GET", "k"), b"|?\r\n"), (("GET", "k"), b"*?\r\n.x\r\n"),
        (("GET", "k"), b"+QUEUED\r\n"), (("SUBSCRIBE", "a"), b"+OK\r\n"), (("MULTI",), b"+NO\r\n"),
        (("SUBSCRIBE", "a"), b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n$1\r\nx\r\n"), (("EXEC",), b"*0\r\n"),
    ],
)  # fmt: skip
def test_what_no_server_may_answer(words: tuple[str, ...], data: bytes) -> None:
    wire = Redis()
    play(wire, [(C, cmd(*words))])
    with pytest.raises(ProtocolError):
        list(wire.feed(S, data))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"*1\r\n$4\r\nPING\r\n", True), (b"*3\r\n$", True), (b"*1", None), (b"*", None), (b"*x1\r\n", False), (b"PING\r\n", True),
        (b"ping\n", True), (b"PIN", None), (b"PINGS\r\n", False), (b"SET a b\r\n", True), (b"GET / HTTP/1.1\r\n", False), (b"", None),
        (b"\x16\x03\x01", False), (b"\0\0\0\x08\x04\xd2\x16\x2f", False), (b"AUTH x\r\n", True), (b"POST / HTTP/1.1\r\n", False),
    ],
)  # fmt: skip
def test_recognise(data: bytes, found: bool | None) -> None:
    assert recognise(data, b"") is found


def test_a_server_that_speaks_first_is_no_redis() -> None:
    assert recognise(b"", b"SSH-2.0") is False


def test_detected() -> None:
    wire = open_wire("")
    assert [m.name for m in wire.feed(C, cmd("get", "k"))] == ["GET"]
    assert wire.name == "redis"


@pytest.mark.parametrize("name", ["MULTI", "DISCARD", "RESET", "MONITOR", "EXEC", "SYNC", "CLIENT REPLY OFF", "HELLO"])
@pytest.mark.parametrize("data", [b"+NO\r\n", b":1\r\n", b"\n$6\x0csecret\r\n"])
def test_what_changes_the_connection_is_answered_in_one_way_only(name: str, data: bytes) -> None:
    wire = Redis()
    for message in wire.feed(C, cmd(*name.split())):
        wire.allow(message)
    with pytest.raises(ProtocolError):
        list(wire.feed(S, data))
