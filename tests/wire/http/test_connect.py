"""CONNECT: read, judged, and what follows an answer that opens."""

import pytest

from appliance.model import ProtocolError
from appliance.wire.http import Http
from tests.wire.http.dialogues import GET, OK, C, S

ASKED = b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n"


def test_what_it_asks_for() -> None:
    (said,) = Http().feed(C, ASKED)
    assert (said.kind, said.text, said.name) == ("request", "CONNECT db.example:5432", "db.example:5432")


def test_denied_the_connection_lives() -> None:
    wire = Http()
    messages = wire.feed(C, GET + ASKED + GET)
    assert [send.to for send in wire.allow(next(messages))] == [S]
    assert wire.deny(next(messages), "denied", "no") == []  # its answer waits for that of the first
    assert [send.to for send in wire.allow(next(messages))] == [S]
    told = [m for m in wire.feed(S, OK + OK) if m.kind == "error"]
    assert [m.raw[:12] for m in told] == [b"HTTP/1.1 403"]
    assert wire.idle


def test_opened_what_follows_is_for_the_place() -> None:
    wire = Http()
    (said,) = wire.feed(C, ASKED)
    assert [send.data for send in wire.allow(said)] == [ASKED]
    head = b"HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n"  # RFC 9110 section 9.3.6: no body
    (tunnel,) = wire.feed(S, head + b"hello")
    assert (tunnel.kind, tunnel.name, tunnel.raw) == ("tunnel", "db.example:5432", head)
    assert [value.data for value in tunnel.values] == [b"hello"]


def test_not_opened_it_is_http_as_before() -> None:
    wire = Http()
    (said,) = wire.feed(C, ASKED)
    wire.allow(said)
    answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno"
    assert b"".join(m.raw for m in wire.feed(S, answer)) == answer
    (said,) = wire.feed(C, GET)
    assert [send.data for send in wire.allow(said)] == [GET]


def test_bytes_before_the_answer_are_for_nobody() -> None:
    wire = Http()
    messages = wire.feed(C, ASKED + b"x")
    wire.allow(next(messages))
    with pytest.raises(ProtocolError, match="before its answer"):
        next(messages)


BROKEN = {
    "a path": b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no port": b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
    "an empty port": b"CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"CONNECT :80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "another host": b"CONNECT a:80 HTTP/1.1\r\nHost: b:80\r\n\r\n",
    "a body": b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 0\r\n\r\n",
    "a url": b"CONNECT http://a:80/ HTTP/1.1\r\nHost: a:80\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_connect(name: str) -> None:
    with pytest.raises(ProtocolError):
        list(Http().feed(C, BROKEN[name]))
