"""Header lines that were read before are read alike, and those that carry credentials are not kept."""

from itertools import count

import pytest

from appliance.model import ProtocolError
from appliance.wire.http import head
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
