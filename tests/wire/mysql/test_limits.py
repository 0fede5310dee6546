"""Each limit by its name, and memory under it."""

import tracemalloc

import pytest

from appliance.model import ProtocolError
from appliance.wire.mysql import MySQL, packets, parameters
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql.packets import FULL
from tests.wire.mysql.build import (
    LONG,
    MODERN,
    PING,
    C,
    S,
    column,
    command,
    down,
    end,
    error,
    execute,
    greeting,
    logged_in,
    long_data,
    ok,
    one,
    p,
    prepare,
    prepared,
    ps,
    query,
    row,
    startup,
    up,
)


def head(size: int, sequence: int = 0) -> bytes:
    """The header of a packet of `size` bytes."""
    return size.to_bytes(3, "little") + bytes([sequence])


def greeted() -> MySQL:
    wire = MySQL()
    down(wire, greeting())
    return wire


def test_max_login() -> None:
    assert list(greeted().feed(C, head(packets.MAX_LOGIN, 1))) == []
    with pytest.raises(ProtocolError, match="limit"):
        list(greeted().feed(C, head(packets.MAX_LOGIN + 1, 1)))
    assert list(logged_in().feed(C, head(packets.MAX_LOGIN) + b"\x11")) == []
    with pytest.raises(ProtocolError, match="limit"):
        list(logged_in().feed(C, head(packets.MAX_LOGIN + 1) + b"\x11"))


def test_max_login_bounds_what_waits_for_tls() -> None:
    wire = MySQL()
    down(wire, greeting(MODERN | caps.SSL))
    request = p(startup(MODERN | caps.SSL)[4:36], 1)
    list(wire.feed(C, request))
    assert list(wire.feed(C, b"\x16" + bytes(packets.MAX_LOGIN - 1))) == []
    with pytest.raises(ProtocolError):
        list(wire.feed(C, b"x"))


def test_max_auth() -> None:
    for size, fails in ((packets.MAX_AUTH, False), (packets.MAX_AUTH + 1, True)):
        wire = greeted()
        up(wire, startup())
        down(wire, p(b"\1\4", 2))
        if fails:
            with pytest.raises(ProtocolError, match="limit"):
                up(wire, head(size, 3))
        else:
            assert one(wire, p(bytes(size), 3)).secret


@pytest.mark.parametrize("code", [1, 2, 4, 7, 12, 14, 18, 25, 26, 27, 28, 31, 99])
def test_max_small(code: int) -> None:
    assert list(logged_in().feed(C, head(packets.MAX_SMALL) + bytes([code]))) == []
    with pytest.raises(ProtocolError, match="limit"):
        list(logged_in().feed(C, head(packets.MAX_SMALL + 1) + bytes([code])))


@pytest.mark.parametrize("code", [3, 22, 23, 24, 250])
def test_max_message(code: int) -> None:
    full = head(FULL) + bytes([code]) + bytes(FULL - 1)
    rest = packets.MAX_MESSAGE - 4 * FULL
    data = full + b"".join(head(FULL, i) + bytes(FULL) for i in (1, 2, 3))
    assert list(logged_in().feed(C, data + head(rest, 4))) == []
    with pytest.raises(ProtocolError, match="limit"):
        list(logged_in().feed(C, data + head(rest + 1, 4)))


def test_max_answer() -> None:
    wire = logged_in()
    up(wire, PING)
    assert list(wire.feed(S, head(packets.MAX_ANSWER, 1))) == []
    wire = logged_in()
    up(wire, PING)
    with pytest.raises(ProtocolError, match="limit"):
        list(wire.feed(S, head(packets.MAX_ANSWER + 1, 1)))


def test_max_columns() -> None:
    for number, fails in ((packets.MAX_COLUMNS, False), (packets.MAX_COLUMNS + 1, True)):
        wire = logged_in()
        up(wire, query("x"))
        count = packets.lenenc(number)
        if fails:
            with pytest.raises(ProtocolError, match="columns"):
                down(wire, p(count, 1))
        else:
            assert down(wire, p(count, 1)) == b""


def test_max_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.wire.mysql.results.MAX_DESCRIBED", 2 * (len(column("n")) + 4) + 4 + 3)
    wire = logged_in()
    up(wire, query("x"))
    down(wire, ps(packets.lenenc(300), column("n"), column("n")))
    with pytest.raises(ProtocolError, match="definitions"):
        down(wire, p(column("n"), 4))
    assert packets.MAX_DESCRIBED == 16 << 20


def test_max_masked() -> None:
    wire = logged_in()
    for message in wire.feed(C, query("x")):
        wire.allow(message, lambda columns: [lambda text: "#"])
    down(wire, ps(b"\1", column("n")))
    full = b"".join(head(FULL, 3 + i) + b"\xfd" * FULL for i in range(4))
    rest = packets.MAX_MASKED - 4 * FULL
    assert list(wire.feed(S, full + head(rest, 7))) == []
    wire = logged_in()
    for message in wire.feed(C, query("x")):
        wire.allow(message, lambda columns: [lambda text: "#"])
    down(wire, ps(b"\1", column("n")))
    with pytest.raises(ProtocolError, match="limit"):
        list(wire.feed(S, full + head(rest + 1, 7)))


def test_max_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.wire.mysql.server.MAX_ROW", 2 * FULL + 10)
    for rest, fails in ((10, False), (11, True)):
        wire = logged_in()
        up(wire, query("x"))
        down(wire, ps(b"\1", column("n")))
        for i in (3, 4):
            down(wire, head(FULL, i) + b"\xfd" * FULL)
        if fails:
            with pytest.raises(ProtocolError, match="row of"):
                down(wire, head(rest, 5) + bytes(rest))
        else:
            down(wire, head(rest, 5) + bytes(rest) + p(end(), 6))
            assert wire.idle
    assert packets.MAX_ROW > 1 << 30


def test_max_injected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.wire.mysql.results.MAX_INJECTED", 100)
    wire = logged_in()
    wire.inject("x")
    down(wire, ps(b"\1", column("n"), row("x" * 80)))
    with pytest.raises(ProtocolError, match="statement of our own"):
        down(wire, p(row("x" * 80), 4))
    assert packets.MAX_INJECTED == 64 << 20


def test_max_statement() -> None:
    wire = logged_in()
    text = "select " + "1" * (packets.MAX_STATEMENT - 7)
    assert one(wire, query(text)).text == text
    for data in (query(text + "1"), prepare(text + "1")):
        said = one(wire, data)
        assert (said.text, said.status, said.raw) == ("", "oversize", data)


def test_max_pipeline() -> None:
    wire = logged_in()
    message = one(wire, PING)
    tracemalloc.start()
    try:
        for _ in range(packets.MAX_PIPELINE):
            wire.allow(message)
        assert tracemalloc.get_traced_memory()[0] < 4 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(ProtocolError, match="without an answer"):
        wire.allow(message)
    with pytest.raises(ProtocolError, match="without an answer"):
        wire.deny(message, "denied", "no")


def test_max_statements() -> None:
    wire = logged_in()
    for i in range(packets.MAX_STATEMENTS + 1):
        up(wire, prepare("x"))
        down(wire, p(prepared(i), 1))
    assert one(wire, execute(5)).status == ""
    assert one(wire, execute(packets.MAX_STATEMENTS)).status == "unread"


def test_max_long_data() -> None:
    for size, status in ((packets.MAX_LONG_DATA, ""), (packets.MAX_LONG_DATA + 1, "partial")):
        wire = logged_in()
        up(wire, prepare("x"))
        down(wire, ps(prepared(1, 0, 2), column("?"), column("?")))
        up(wire, long_data(1, 0, b"x" * 10) + long_data(1, 1, b"y" * (size - 10)))
        assert one(wire, execute(1, b"\0", bytes([252, 0] * 2))).status == status


def test_max_count() -> None:
    body = packets.lenenc(parameters.MAX_COUNT + 1) + b"\1"
    with pytest.raises(ProtocolError, match="attributes"):
        list(logged_in(MODERN | caps.QUERY_ATTRIBUTES).feed(C, command(3, body)))
    wire = logged_in(MODERN | caps.QUERY_ATTRIBUTES)
    up(wire, prepare("x"))
    down(wire, p(prepared(1), 1))
    many = packets.lenenc(parameters.MAX_COUNT + 1)
    assert one(wire, command(23, b"\1\0\0\0\x08\1\0\0\0" + many + bytes(300_000))).status == "unread"


def test_stream_over() -> None:
    """A long row goes down while it comes; one that is no longer is kept until it is whole."""
    wire = logged_in()
    up(wire, query("x"))
    down(wire, ps(b"\1", column("n")))
    data = p(row("x" * (packets.STREAM_OVER - 3)), 3)
    assert len(data) == packets.STREAM_OVER + 4
    assert down(wire, data[:-1]) == b""
    assert down(wire, data[-1:]) == data
    data = p(row("x" * (packets.STREAM_OVER - 2)), 4)
    said = list(wire.feed(S, data[:100]))
    assert [(m.kind, m.raw, m.count) for m in said] == [("row", data[:100], 1)]
    assert wire.refuse("not in the middle of a row") == b""
    assert not wire.idle
    said = list(wire.feed(S, data[100:] + ps(row("1"), end(), first=5)))
    assert [(m.kind, m.count) for m in said] == [("row", 0), ("row", 1), ("complete", 1)]
    assert said[-1].status == "ROWS 3"


def test_last_words_do_not_go_between_the_packets_of_a_row() -> None:
    wire = logged_in()
    up(wire, query("x"))
    down(wire, ps(b"\1", column("n")))
    down(wire, head(FULL, 3) + b"\xfe" * FULL)
    assert wire.refuse("not here") == b""
    down(wire, p(b"", 4))
    assert wire.refuse("but here")[3] == 5
    down(wire, p(error(), 5))
    assert wire.idle


def test_memory_of_a_gigabyte_row() -> None:
    wire = logged_in()
    up(wire, query("x"))
    down(wire, ps(b"\1", column("n", LONG)))
    tracemalloc.start()
    try:
        piece = bytes(1 << 22)
        for i in range(60):
            down(wire, head(FULL, 3 + i) + b"\xfe")
            left = FULL - 1
            while left:
                size = min(left, len(piece))
                assert sum(len(m.raw) for m in wire.feed(S, piece[:size])) == size
                left -= size
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    down(wire, p(b"", 63) + p(end(), 64))
    assert wire.idle


def test_a_long_message_in_small_pieces_is_not_quadratic() -> None:
    wire = logged_in()
    data = query("x" * 900_000)
    said = [m for i in range(0, len(data), 100) for m in wire.feed(C, data[i : i + 100])]
    assert [len(m.raw) for m in said] == [len(data)]
    wire.allow(said[0])
    data = p(ok(info=b"y" * 900_000), 1)
    (done,) = [m for i in range(0, len(data), 100) for m in wire.feed(S, data[i : i + 100])]
    assert len(done.text) == 900_000
