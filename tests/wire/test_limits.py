"""Each limit by its name, and memory under it."""

import struct
import tracemalloc

import pytest

from appliance.facts import Copy
from appliance.model import Column, ProtocolError
from appliance.wire import detect
from appliance.wire.inbox import MAX_IDLE, Inbox
from appliance.wire.postgres import Postgres, flow, frames
from tests.wire.build import (
    B1,
    C1,
    P1,
    C,
    S,
    auth,
    bind,
    complete,
    copies,
    copy_data,
    described,
    down,
    execute,
    logged_in,
    msg,
    notice,
    one,
    packet,
    parse,
    query,
    ready,
    row,
    startup,
    up,
    z,
)  # fmt: skip


def head(tag: bytes, size: int) -> bytes:
    """The header of a frame of `size` bytes in all."""
    return tag + struct.pack(">I", size - 1)


def hide(columns: tuple[Column, ...]) -> list[object]:
    return [lambda text: "#" for _ in columns]


def test_max_startup() -> None:
    fits = frames.MAX_STARTUP - len(packet(3 << 16, z("user", "") + b"\0"))
    assert one(Postgres(), startup(user="u" * fits)).kind == "startup"
    with pytest.raises(ProtocolError):
        list(Postgres().feed(C, startup(user="u" * (fits + 1))[:4]))


def test_max_auth_of_the_client() -> None:
    for size, fails in ((frames.MAX_AUTH, False), (frames.MAX_AUTH + 1, True)):
        wire = Postgres()
        up(wire, startup())
        down(wire, auth(3))
        if fails:
            with pytest.raises(ProtocolError, match="limit"):
                up(wire, head(b"p", size + 5))
        else:
            assert one(wire, head(b"p", size + 5) + bytes(size)).secret


@pytest.mark.parametrize("made", [Inbox, frames.Inbox])
def test_max_idle(made: type[Inbox]) -> None:
    for size, kept in ((MAX_IDLE, MAX_IDLE), (MAX_IDLE + 1, 0)):
        inbox = made()
        inbox.add(bytes(size))
        inbox.take(size)
        inbox.rest()
        assert len(inbox.data) == kept
        inbox.add(b"next")
        assert inbox.take(4) == b"next"


def test_max_auth_of_the_server() -> None:
    wire = Postgres()
    up(wire, startup())
    assert down(wire, auth(11, bytes(frames.MAX_AUTH - 4)))
    with pytest.raises(ProtocolError, match="limit"):
        down(wire, head(b"R", frames.MAX_AUTH + 6))


@pytest.mark.parametrize("tag", [b"E", b"D", b"C", b"S", b"H", b"c", b"f", b"X"])
def test_max_small(tag: bytes) -> None:
    assert list(logged_in().feed(C, head(tag, frames.MAX_SMALL + 5))) == []
    with pytest.raises(ProtocolError, match="limit"):
        list(logged_in().feed(C, head(tag, frames.MAX_SMALL + 6)))


@pytest.mark.parametrize("tag", [b"Q", b"P", b"B", b"F", b"d"])
def test_max_message_of_the_client(tag: bytes) -> None:
    assert list(logged_in().feed(C, head(tag, frames.MAX_MESSAGE + 5))) == []
    with pytest.raises(ProtocolError, match="limit"):
        list(logged_in().feed(C, head(tag, frames.MAX_MESSAGE + 6)))


def test_max_message_of_the_server() -> None:
    assert list(logged_in().feed(S, head(b"N", frames.MAX_MESSAGE))) == []
    with pytest.raises(ProtocolError, match="limit"):
        list(logged_in().feed(S, head(b"N", frames.MAX_MESSAGE + 1)))


def test_max_statement() -> None:
    wire = logged_in()
    text = "select " + "1" * (frames.MAX_STATEMENT - 7)
    assert one(wire, query(text)).text == text
    for data in (query(text + "1"), parse(text + "1")):
        said = one(wire, data)
        assert (said.text, said.status, said.raw) == ("", "oversize", data)


def test_max_cancel_key() -> None:
    key = bytes(4 + frames.MAX_CANCEL_KEY)
    assert one(Postgres(), packet(80877102, key)).name == key.hex()
    for bad in (key + b"\0", bytes(7)):
        with pytest.raises(ProtocolError, match="cancel request"):
            list(Postgres().feed(C, packet(80877102, bad)))
        wire = Postgres()
        up(wire, startup())
        with pytest.raises(ProtocolError, match="cancel key"):
            down(wire, auth(0) + msg("K", bad))


def test_max_masked() -> None:
    for extra in (0, 1):
        wire = logged_in()
        for message in wire.feed(C, query("x")):
            wire.allow(message, hide)  # type: ignore[arg-type]
        down(wire, described("n"))
        if extra:
            with pytest.raises(ProtocolError, match="limit"):
                down(wire, head(b"D", frames.MAX_MASKED + extra))
        else:
            assert down(wire, head(b"D", frames.MAX_MASKED)) == b""


def test_max_masked_row_of_copy() -> None:
    def plan(columns: tuple[Column, ...]) -> list[object]:
        return hide(columns)

    plan.copy = Copy(())  # type: ignore[attr-defined]
    wire = logged_in()
    for message in wire.feed(C, query("copy")):
        wire.allow(message, plan)  # type: ignore[arg-type]
    down(wire, copies("H", 0, 1))
    piece = copy_data(bytes(1 << 20))
    for _ in range(frames.MAX_MASKED >> 20):
        assert down(wire, piece) == b""
    with pytest.raises(ProtocolError, match="row of COPY"):
        down(wire, copy_data(b"x"))


def test_max_server() -> None:
    wire = logged_in()
    up(wire, query("x"))
    down(wire, described("n"))
    with pytest.raises(ProtocolError, match="limit"):
        down(wire, head(b"D", frames.MAX_SERVER + 1))


def test_max_injected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.wire.postgres.injected.MAX_INJECTED", 100)
    wire = logged_in()
    wire.inject("x")
    down(wire, C1 + C1 + P1 + B1 + described("n") + row("x" * 80))
    with pytest.raises(ProtocolError, match="statement of our own"):
        down(wire, row("x" * 80))
    assert frames.MAX_INJECTED == 64 << 20


def test_max_pipeline() -> None:
    wire = logged_in()
    parts = list(wire.feed(C, execute() * 2))
    tracemalloc.start()
    try:
        for _ in range(flow.MAX_PIPELINE):
            wire.allow(parts[0])
        assert tracemalloc.get_traced_memory()[0] < 4 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(ProtocolError, match="without an answer"):
        wire.allow(parts[1])


def test_max_statements() -> None:
    wire = logged_in()
    for i in range(flow.MAX_STATEMENTS):
        one(wire, parse("x", str(i), [23]))
    one(wire, parse("x", "one more", [23]))
    assert one(wire, bind(b"1", name="5")).values[0].type == 23
    assert one(wire, bind(b"1", name="one more")).values[0].type == 0


def test_max_types() -> None:
    wire = logged_in()
    for i in range(3):
        one(wire, parse("x", str(i), [23] * (flow.MAX_TYPES // 2)))
    assert [one(wire, bind(*[b"1"] * (flow.MAX_TYPES // 2), name=str(i))).values[0].type for i in range(3)] == [23, 23, 0]
    one(wire, parse("x", "1", [25]))  # another one of that name: neither is known
    one(wire, parse("x", "last", [23]))
    assert one(wire, bind(b"1", name="last")).values[0].type == 23


def test_max_unknown() -> None:
    with pytest.raises(ProtocolError):
        list(detect.open("").feed(C, bytes(detect.MAX_UNKNOWN + 1)))


def test_stream_over() -> None:
    """A long row goes down while it comes; one that is no longer is kept until it is whole."""
    wire = logged_in()
    up(wire, query("x"))
    down(wire, described("n"))
    data = row("x" * (frames.STREAM_OVER - 11))
    assert len(data) == frames.STREAM_OVER
    assert down(wire, data[:-1]) == b""
    assert down(wire, data[-1:]) == data
    data = row("x" * (frames.STREAM_OVER - 10))
    said = list(wire.feed(S, data[:100]))
    assert [(m.kind, m.raw, m.count) for m in said] == [("row", data[:100], 1)]
    assert wire.notice("not in the middle of a row") == b""
    assert wire.refuse("nor this") == b""
    assert not wire.idle
    said = list(wire.feed(S, data[100:] + row("1") + complete("x") + ready()))
    assert [(m.kind, m.count) for m in said] == [("row", 0), ("row", 1), ("complete", 1), ("ready", 1)]
    assert wire.notice("now")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        (query("x"), described("n") + b"D", complete("x")),
        (query("copy"), copies("H", 0, 1) + b"d", msg("c") + complete("x")),
        (msg("F", bytes(10)), b"V", b""),
    ],
)
def test_memory_of_a_gigabyte_row(asked: bytes, start: bytes, end: bytes) -> None:
    wire = logged_in()
    up(wire, asked)
    size = 1 << 30
    tracemalloc.start()
    try:
        down(wire, start + struct.pack(">I", size + 4))
        piece = bytes(1 << 22)
        for _ in range(size >> 22):
            assert sum(len(m.raw) for m in wire.feed(S, piece)) == len(piece)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    down(wire, end + ready())
    assert wire.idle


def test_a_long_message_in_small_pieces_is_not_quadratic() -> None:
    wire = logged_in()
    data = query("x" * 900_000)
    said = [m for i in range(0, len(data), 100) for m in wire.feed(C, data[i : i + 100])]
    assert [len(m.raw) for m in said] == [len(data)]
    data = notice("y" * 900_000)
    (note,) = [m for i in range(0, len(data), 100) for m in wire.feed(S, data[i : i + 100])]
    assert len(note.text) == 900_000
