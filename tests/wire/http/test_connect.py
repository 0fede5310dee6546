"""CONNECT: read, judged, and answered by us."""

import pytest

from appliance.model import ProtocolError
from appliance.wire.http import Http
from tests.wire.http.dialogues import GET, OK, C, S

ASKED = b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n"


def test_what_it_asks_for() -> None:
    (said,) = Http().feed(C, ASKED)
    assert (said.kind, said.text, said.name) == ("request", "CONNECT db.example:5432", "db.example:5432")


def test_nothing_goes_up_and_the_connection_lives() -> None:
    wire = Http()
    first, second, third = wire.feed(C, GET + ASKED + GET)
    assert [send.to for send in wire.allow(first)] == [S]
    assert wire.allow(second) == []  # its answer waits for that of the first
    assert [send.to for send in wire.allow(third)] == [S]
    told = [m for m in wire.feed(S, OK + OK) if m.kind == "error"]
    assert [m.raw[:12] for m in told] == [b"HTTP/1.1 403"]
    assert b"CONNECT is not opened here" in told[0].raw
    assert wire.idle


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
