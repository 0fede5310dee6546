"""Answers that come bit by bit, from a real server through the real relay, sessions and rules."""

import contextlib
import http.client
from collections.abc import Iterator

import pytest

from appliance.model import Address
from appliance.wire.http.reply import MAX_MASKED
from tests.evasion.http.aio import CARD, Aio
from tests.gate import Gate

pytestmark = pytest.mark.peer

PLAIN = "rules: [{id: rest, to: db, do: allow}]"
MASKED = """
rules:
  - {id: hide, to: db, when: {json: "$..ssn"}, do: mask, with: keep-last-4}
  - {id: cards, to: db, when: {detect: [credit_card]}, do: mask}
  - {id: rest, to: db, do: allow}
"""
FOUND = "rules: [{id: cards, to: db, when: {detect: [credit_card]}, do: mask}, {id: rest, to: db, do: allow}]"


@pytest.fixture(scope="module")
def server() -> Iterator[Aio]:
    with Aio() as server:
        yield server


def gate(server: Aio, rules: str) -> Gate:
    return Gate(Address("127.0.0.1", server.port), rules, protocol="http")


@contextlib.contextmanager
def fetch(gate: Gate, path: str) -> Iterator[http.client.HTTPResponse]:
    client = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=20)
    client.request("GET", path, headers={"Accept-Encoding": "gzip, br"})
    with contextlib.closing(client), client.getresponse() as answer:
        yield answer


@pytest.mark.parametrize("rules", [PLAIN, MASKED])
def test_events_come_one_by_one(server: Aio, rules: str) -> None:
    """The server sends the next one only when the last one has come."""
    with gate(server, rules) as one, fetch(one, "/events") as answer:
        for number in range(3):
            server.go()
            lines = [answer.readline() for _ in range(3)]
            assert (lines[0], lines[2]) == (b"id: %d\n" % number, b"\n")
            shown = (b"*******6789", b"[redacted]") if rules is MASKED else (b"123-45-6789", CARD.encode())
            assert lines[1] == b'data: {"ssn": "%s", "card": "%s"}\n' % shown
        assert answer.read() == b""
        if rules is MASKED:
            recorded = [note for note in one.of("message") if note.message == "event"]
            assert [(b"id: %d" % n in note.raw, set(note.masks)) for n, note in enumerate(recorded)] == [(True, {"hide", "cards"})] * 3


def test_a_long_text_is_masked_as_it_comes(server: Aio) -> None:
    with gate(server, FOUND) as one, fetch(one, "/long") as answer:
        body = answer.read()
    assert CARD.encode() not in body
    assert body.count(b"[redacted]\n") == 192
    assert len(body) > MAX_MASKED
