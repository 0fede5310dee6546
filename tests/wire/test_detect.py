"""Finding the protocol by name or by its first bytes."""

import pytest

from appliance.model import ProtocolError
from appliance.wire.detect import open as open_wire
from appliance.wire.postgres import Postgres
from tests.wire.build import KEY, SSL, WELCOME, C, S, query, startup


def test_by_name() -> None:
    assert isinstance(open_wire("postgres"), Postgres)
    with pytest.raises(KeyError):
        open_wire("gopher")


def test_by_first_bytes() -> None:
    wire = open_wire("")
    assert wire.name == ""
    assert (wire.idle, wire.busy, wire.cancel_key) == (False, False, b"")
    assert (wire.settle(), wire.notice("x"), wire.refuse("x")) == ([], b"", b"")
    data = startup()
    assert list(wire.feed(C, data[:7])) == []
    assert wire.name == ""
    (message,) = wire.feed(C, data[7:])
    assert (message.kind, message.raw, wire.name) == ("startup", data, "postgres")
    (send,) = wire.allow(message)
    assert (send.to, send.data) == (S, data)
    assert b"".join(m.raw for m in wire.feed(S, WELCOME)) == WELCOME
    assert (wire.idle, wire.busy, wire.cancel_key) == (True, False, KEY)
    assert wire.notice("x")
    assert wire.refuse("x")
    assert wire.settle() == []
    (message,) = wire.feed(C, query("x"))
    assert wire.again(message) == message
    assert wire.deny(message, "denied", "no")
    assert wire.busy


def test_all_at_once_and_byte_by_byte() -> None:
    wire = open_wire("")
    assert [m.kind for m in wire.feed(C, SSL)] == ["ssl-request"]
    wire = open_wire("")
    assert [m.kind for byte in SSL for m in wire.feed(C, bytes([byte]))] == ["ssl-request"]


def test_pieces_read_late() -> None:
    wire = open_wire("")
    first, second = wire.feed(C, SSL[:5]), wire.feed(C, SSL[5:])
    assert [m.kind for m in first] == ["ssl-request"]
    assert list(second) == []


def test_inject_reaches_the_wire_found() -> None:
    wire = open_wire("")
    for message in wire.feed(C, startup()):
        wire.allow(message)
    list(wire.feed(S, WELCOME))
    assert wire.inject("select 1")


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9\r\n", b"\x16\x03\x01\x02\0", b"\0\0\0\x10" + bytes(12)])
def test_what_is_not_known(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="no protocol known"):
        list(open_wire("").feed(C, data))


def test_a_server_that_speaks_first() -> None:
    with pytest.raises(ProtocolError, match="no protocol known"):
        list(open_wire("").feed(S, b"SSH-2.0-x\r\n"))


def test_no_request_before_the_protocol_is_known() -> None:
    (message,) = Postgres().feed(C, startup())
    with pytest.raises(ValueError, match="no message"):
        open_wire("").allow(message)
