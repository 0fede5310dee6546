"""Each limit of the wire by its name. Those of masks are in test_masks."""

import pytest

from appliance.model import ProtocolError
from appliance.wire.redis import Redis, frames
from tests.wire.redis.dialogues import OK, QUEUED, C, S, bulk, cmd
from tests.wire.redis.play import heard, sent


def test_limit_command() -> None:
    assert frames.MAX_COMMAND == 64 << 20
    wire = Redis()
    assert list(wire.feed(C, b"*2\r\n$3\r\nSET\r\n$67000000\r\n")) == []
    with pytest.raises(ProtocolError, match="an argument of 67108864 bytes: the limit of a command is 67108864"):
        list(Redis().feed(C, b"*2\r\n$3\r\nSET\r\n$67108864\r\n"))


def test_limit_command_holds_for_all_arguments_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.wire.redis.requests.MAX_COMMAND", 100)
    (found,) = Redis().feed(C, cmd("SET", "a" * 30, "b" * 30))
    assert found.name == "SET"
    with pytest.raises(ProtocolError, match="the limit of a command is 100"):
        list(Redis().feed(C, cmd("SET", "a" * 30, "b" * 60)))


def test_limit_arguments() -> None:
    assert frames.MAX_ARGUMENTS == 262_144
    assert list(Redis().feed(C, b"*262144\r\n")) == []
    with pytest.raises(ProtocolError, match="262145 arguments"):
        list(Redis().feed(C, b"*262145\r\n"))


def test_limit_inline() -> None:
    assert frames.MAX_INLINE == 64 * 1024
    line = b"GET " + b"x" * (frames.MAX_INLINE - 4)
    (found,) = Redis().feed(C, line + b"\n")
    assert found.name == "GET"
    with pytest.raises(ProtocolError, match="an inline command of more than 65536 bytes"):
        list(Redis().feed(C, line + b"x"))


def test_limit_head() -> None:
    with pytest.raises(ProtocolError, match="the length of a command is no number"):
        list(Redis().feed(C, b"*" + b"1" * frames.MAX_HEAD))
    wire = Redis()
    sent(wire, cmd("GET", "k"))
    with pytest.raises(ProtocolError, match="the length of a reply is no number"):
        heard(wire, b"$" + b"1" * frames.MAX_HEAD)


def test_limit_line() -> None:
    """What is shown of a command; its raw bytes have all."""
    assert frames.MAX_LINE == 64 * 1024
    (short,) = Redis().feed(C, cmd("MSET", *["x"] * 60_000))
    assert short.text.endswith(" x x x")
    (long,) = Redis().feed(C, cmd("MSET", *[b"\xff" * 1024] * 65))
    assert long.text.endswith("\\xff\" ... (66 arguments)")
    assert long.text.count("\\xff") == 63 * 1024
    assert len(long.values) == 66


def test_limit_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    assert frames.MAX_PIPELINE == 131_072
    monkeypatch.setattr("appliance.wire.redis.ledger.MAX_PIPELINE", 3)
    wire = Redis()
    sent(wire, cmd("PING") * 3)
    with pytest.raises(ProtocolError, match="more than 3 commands without an answer"):
        sent(wire, cmd("PING"))


def test_limit_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    assert frames.MAX_QUEUED == 131_072
    monkeypatch.setattr("appliance.wire.redis.answers.MAX_QUEUED", 2)
    wire = Redis()
    sent(wire, cmd("MULTI") + cmd("PING") * 3)
    heard(wire, OK + QUEUED * 2)
    with pytest.raises(ProtocolError, match="more than 2 commands in a transaction"):
        heard(wire, QUEUED)


def test_limit_small() -> None:
    wire = Redis()
    sent(wire, cmd("HELLO", "3"))
    with pytest.raises(ProtocolError, match="must be whole of more than 65536 bytes"):
        heard(wire, b"%1\r\n$99999\r\n" + b"x" * frames.MAX_SMALL)
    wire = Redis()
    sent(wire, cmd("HELLO", "3"))
    with pytest.raises(ProtocolError, match="where a value begins"):
        heard(wire, b"*1\r\n" * 20)


def test_limit_injected() -> None:
    wire = Redis()
    wire.inject("COMMAND GETKEYS X")
    with pytest.raises(ProtocolError, match="must be whole of more than 1048576 bytes"):
        heard(wire, b"$9999999\r\n" + b"x" * frames.MAX_INJECTED)


def test_long_lines_go_down_in_pieces() -> None:
    wire = Redis()
    sent(wire, cmd("EVAL", "x", "0"))
    first = b"+" + b"x" * frames.STREAM_OVER
    assert heard(wire, first) == first
    assert heard(wire, b"xx\r") == b"xx"
    assert heard(wire, b"\n") == b"\r\n"
    assert wire.idle


def test_long_strings_go_down_in_pieces() -> None:
    wire = Redis()
    sent(wire, cmd("GET", "k"))
    assert heard(wire, b"$600000000\r\nxxx") == b"$600000000\r\nxxx"
    assert not wire.idle


def test_large_commands_cost_no_more_than_their_bytes() -> None:
    """Pieces of a megabyte are not looked through again with each that comes."""
    data = cmd("SET", "k", b"x" * 1_000_000) + cmd("MSET", *["x"] * 20_000)
    wire = Redis()
    found = [m for i in range(0, len(data), 1448) for m in wire.feed(C, data[i : i + 1448])]
    assert [m.name for m in found] == ["SET", "MSET"]
    assert found[0].raw + found[1].raw == data


def test_what_fails_costs_no_more_than_its_bytes() -> None:
    """Each MULTI that failed looked through all behind it, each piece of an error through what came before."""
    wire, failed = Redis(), b"-NOAUTH Authentication required.\r\n"
    sent(wire, cmd("MULTI") * 60_000)
    assert heard(wire, failed * 60_000) == failed * 60_000
    sent(wire, cmd("EVAL", "x", "0"))
    piece = b"ab" * 4096
    assert heard(wire, b"-ERR ", *[piece] * 4000, b"\r\n") == b"-ERR " + piece * 4000 + b"\r\n"
    assert wire.idle


def test_what_is_told_of_a_long_error() -> None:
    """A script can make it of words without end."""
    wire = Redis()
    sent(wire, cmd("EVAL", "x", "0"))
    (said,) = wire.feed(S, b"-" + b"a " * 1_000_000 + b"\r\n")
    assert (len(said.raw), len(said.text), said.status) == (2_000_003, frames.MAX_SMALL, "a")


def test_a_pipeline_that_comes_in_one_piece() -> None:
    wire = Redis()
    data = cmd("GET", "k") * 5000
    assert sent(wire, data) == data
    assert heard(wire, bulk("v") * 5000) == bulk("v") * 5000
    assert list(wire.feed(S, b"")) == []
