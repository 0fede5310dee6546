"""Header lines that were read before are read alike, and those that carry credentials are not kept."""

from itertools import count

import pytest

from appliance.model import Message, ProtocolError, Side
from appliance.wire.http import Http, connection, head
from appliance.wire.http.connection import MAX_KEPT, MAX_KEPT_HEAD
from appliance.wire.http.head import MAX_KNOWN, MAX_KNOWN_LINE, SECRET, request


def asked(*lines: str) -> bytes:
    return "\r\n".join(["GET / HTTP/1.1", "Host: a", *lines, "", ""]).encode("latin-1")


def test_a_head_is_read_alike_again() -> None:
    raw = asked("Accept:  text/html ", "X-Empty:", "X-Name: \xe9")
    assert request(raw) == request(raw)
    assert request(raw).fields == (("host", "a"), ("accept", "text/html"), ("x-empty", ""), ("x-name", "\xe9"))


def test_a_field_that_may_come_once_is_told_twice_though_it_is_known() -> None:
    request(asked())
    with pytest.raises(ProtocolError, match="comes twice"):
        request(asked("Host: a"))


@pytest.mark.parametrize("line", ["a: b\rc", "a: b\nc", "a: b\0c", "a: b\r", "\ra: b", "\na: b"])
def test_ends_of_lines_that_are_none_are_refused_each_time(line: str) -> None:
    for _ in range(2):
        with pytest.raises(ProtocolError):
            request(asked(line))


@pytest.mark.parametrize("name", sorted(SECRET))
def test_credentials_are_not_kept(name: str) -> None:
    request(asked(f"{name}: hunter2"))
    assert not any(b"hunter2" in line for line in head._known)


def test_max_known_line_and_max_known() -> None:
    long = "x-long: " + "y" * MAX_KNOWN_LINE
    request(asked(long))
    assert long.encode() not in head._known
    for number in count():
        request(asked(f"x-number: {number}"))
        assert len(head._known) <= MAX_KNOWN
        if number > MAX_KNOWN:
            break


def said(wire: Http, raw: bytes) -> Message:
    (message,) = wire.feed(Side.CLIENT, raw)
    return message


def test_a_head_that_is_kept_by_its_connection_says_the_same() -> None:
    wire, raw = Http(), asked("Accept: text/html", "Cookie: a=b")
    first, second = said(wire, raw), said(wire, raw)
    assert (first.values, first.text, first.name) == (second.values, second.text, second.name)
    assert len(wire._kept) == 1


def test_max_kept() -> None:
    wire = Http()
    for number in range(3 * MAX_KEPT):
        wire.deny(said(wire, asked(f"x-number: {number}")), "denied", "no")
        assert len(wire._kept) <= MAX_KEPT


def test_max_kept_head(monkeypatch: pytest.MonkeyPatch) -> None:
    wire, short = Http(), asked("x-long: " + "y" * (MAX_KEPT_HEAD - len(asked("x-long: "))))
    said(wire, short)
    assert len(short) == MAX_KEPT_HEAD and len(wire._kept) == 1
    said(wire, asked("x-long: " + "y" * MAX_KEPT_HEAD))
    assert list(wire._kept) == [short]
    monkeypatch.setattr(connection, "MAX_KEPT_HEAD", 0)
    none = Http()
    assert said(none, asked()).values == said(none, asked()).values
    assert not none._kept


def test_heads_of_other_connections_are_not_used() -> None:
    """They may carry credentials."""
    said(Http(), asked("Authorization: Bearer x"))
    assert not Http()._kept
