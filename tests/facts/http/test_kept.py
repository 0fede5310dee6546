"""What a reader of HTTP keeps changes nothing that it says, and has limits."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.facts import Facts
from appliance.facts.http import reader
from appliance.facts.http.reader import MAX_KEPT, MAX_KEPT_SIZE, Http
from appliance.model import Message, Side, Value

LINES = ["GET /", "GET /a?_method=DELETE", "POST /a;b/../c", "POST /graphql?query={ me }", "CONNECT db:5432"]
HEADERS = ["", "x-team: red\n", "authorization: Bearer a\n", "content-type: application/json\n", "upgrade: websocket\n"]
BODIES = [b"", b'{"a": 1}', b"a=1&b=2", b"\xff"]


def message(line: str, headers: str = "", body: bytes = b"", status: str = "", kind: str = "request") -> Message:
    values = (Value(headers.encode("latin-1")), Value(body))
    return Message(Side.CLIENT, kind, b"", text=line, name="api.example", values=values, status=status)


MESSAGES = st.builds(
    message,
    st.sampled_from(LINES),
    st.sampled_from(HEADERS),
    st.sampled_from(BODIES),
    st.sampled_from(["", "oversize", "long", "encoded"]),
    st.sampled_from(["request", "request", "ws-text"]),
)


def plain(facts: Facts | None) -> Facts | None:
    return None if facts is None else msgspec.structs.replace(facts, shape=None)


@settings(deadline=None)
@given(st.lists(MESSAGES, max_size=30))
def test_what_was_asked_before_is_answered_as_if_it_were_new(asked: list[Message]) -> None:
    http = Http()
    for one in [*asked, *asked]:
        assert plain(http.ask(one)) == Http().ask(one)


def test_what_comes_again_is_of_one_shape() -> None:
    http, one = Http(), message("GET /a")
    first, second, third = (http.ask(one) for _ in range(3))
    assert first and second and third
    assert first.shape is None, "what comes once is of no shape: verdicts by shape are for what repeats"
    assert second.shape == first
    assert third is second


@pytest.mark.parametrize("change", [{"text": "GET /b"}, {"name": "b.example"}, {"status": "oversize"}, {"values": (Value(b"x: y\n"), Value(b""))},
                                    {"values": (Value(b""), Value(b"x"))}])  # fmt: skip
def test_whatever_differs_makes_another_request(change: dict[str, object]) -> None:
    http, one = Http(), message("GET /a")
    other = msgspec.structs.replace(one, **change)
    for _ in range(3):
        assert plain(http.ask(one)) == Http().ask(one) != Http().ask(other) == plain(http.ask(other))


def test_flows_do_not_share_what_they_keep() -> None:
    http, other, one = Http(), Http(), message("GET /a", "authorization: Bearer a\n")
    http.ask(one), http.ask(one)
    found = other.ask(one)
    assert found is not None and found.shape is None


def test_max_kept() -> None:
    http = Http()
    for number in range(3 * MAX_KEPT):
        http.ask(message(f"GET /{number}"))
        assert max(len(http._kept), len(http._targets)) <= MAX_KEPT


def test_max_kept_size() -> None:
    http, line = Http(), "POST /"
    http.ask(message(line, body=b"x" * (MAX_KEPT_SIZE - len(line))))
    assert len(http._kept) == 1
    http.ask(message(line, body=b"y" * (MAX_KEPT_SIZE - len(line) + 1)))
    http.ask(message(line, headers="z: " + "z" * MAX_KEPT_SIZE))
    assert len(http._kept) == 1
    http.ask(message("GET /" + "a" * MAX_KEPT_SIZE))
    assert list(http._targets) == [line]


def test_it_is_kept_by_the_limits_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_KEPT_SIZE", 0)
    http, one = Http(), message("GET /a")
    for _ in range(3):
        found = http.ask(one)
        assert found is not None and found.shape is None
