"""Server-sent events: where they end, how they pass, how one is masked."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import Column, Message, ProtocolError
from appliance.wire import Cell
from appliance.wire.http import Http, events
from appliance.wire.http.content import Masker
from tests.wire.http.dialogues import CHUNKED, GET, C, S, chunks, sized, tell

HEAD = ("Content-Type: text/event-stream; charset=utf-8", CHUNKED)
STREAMS = {
    "LF": b"data: a\n\ndata: b\ndata: c\n\n",
    "CR": b"data: a\r\rdata: b\rdata: c\r\r",
    "CR LF": b"data: a\r\n\r\ndata: b\r\ndata: c\r\n\r\n",
    "mixed": b"data: a\r\n\ndata: b\ndata: c\n\r\n",
    "with a mark": b"\xef\xbb\xbfdata: a\n\ndata: b\ndata: c\n\n",
}


def hide(columns: tuple[Column, ...]) -> Sequence[Cell | None]:
    """Mask the word secret in texts, and leaves called ssn whole."""
    if columns[0].name.endswith(".ssn"):
        return [lambda text: "#"]
    return [lambda text: text.replace("secret", "[hidden]") if "secret" in text else text]


def one(event: bytes) -> tuple[bytes, int]:
    return events.masked(event, Masker(hide))


@pytest.mark.parametrize("name", STREAMS)
def test_where_an_event_ends_whatever_the_pieces(name: str) -> None:
    data = STREAMS[name]
    for size in (1, 2, 3, len(data)):
        cutter = events.Events()
        found = [e for i in range(0, len(data), size) for e in cutter.take(data[i : i + size])]
        assert b"".join(found) + cutter.end() == data
        assert [b": a" in e for e in found if e.strip()] == [True, False]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="a:\r\n", max_size=30), st.lists(st.integers(0, 30), max_size=5))
def test_cut_anywhere_nothing_is_lost(text: str, cuts: list[int]) -> None:
    data = text.encode()
    cutter = events.Events()
    at = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    found = [e for a, b in pairwise(at) for e in cutter.take(data[a:b])]
    assert b"".join(found) + cutter.end() == data


EVENTS = {
    b"data: a secret\n\n": b"data: a [hidden]\n\n",
    b"data:a secret\r\n\r\n": b"data: a [hidden]\r\n\r\n",
    b"\xef\xbb\xbfdata: secret\n\n": b"\xef\xbb\xbfdata: [hidden]\n\n",
    b"data: sec\ndata: ret secret\nid: 7\n\n": b"data: sec\ndata: ret [hidden]\nid: 7\n\n",
    b"id: 7\ndata: secret\nevent: x\ndata: b\n\n": b"id: 7\ndata: [hidden]\ndata: b\nevent: x\n\n",
    b"id: secret\nevent: a secret\n: a secret\n\n": b"id: [hidden]\nevent: a [hidden]\n: a [hidden]\n\n",
    b'data: {"ssn": "1", "b": "se\\u0063ret"}\n\n': b'data: {"ssn": "#", "b": "[hidden]"}\n\n',
    b'data: {"a":\ndata: {"ssn": 5}}\n\n': b'data: {"a":\ndata: {"ssn": null}}\n\n',
    b'data: {"ssn": 5,}\n\n': b"data: [redacted]\n\n",
    b"data: [DONE]\n\n": b"data: [DONE]\n\n",
    b"data\n\n": b"data\n\n",
    b"data: \xff secret\n\n": b"data: \xff [hidden]\n\n",
    b"data: secret": b"data: [hidden]\n",
    b"secret: 1\n\n": b"[hidden]: 1\n\n",
    b"datas: secret\n\n": b"datas: [hidden]\n\n",
}


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_masked(event: bytes) -> None:
    assert one(event)[0] == EVENTS[event]
    assert bool(one(event)[1]) == (event != EVENTS[event])


def said(raw: bytes, masked: bool, size: int = 0) -> list[Message]:
    wire = Http()
    (request,) = wire.feed(C, GET)
    wire.allow(request, hide if masked else None)
    return [m for i in range(0, len(raw), size or len(raw)) for m in wire.feed(S, raw[i : i + (size or len(raw))])]


def test_events_pass_as_they_come() -> None:
    raw = tell("200 OK", *HEAD, body=chunks(b"data: a\n\n", b"data: b", b"\n\n"))
    found = said(raw, masked=False)
    assert [m.kind for m in found] == ["response", "event", "body", "event", "complete"]
    for size in (0, 1, 7):
        assert b"".join(m.raw for m in said(raw, masked=False, size=size)) == raw


def test_events_of_a_connection_that_ends() -> None:
    raw = tell("200 OK", HEAD[0], body=b"data: a\n\ndata: b\n\ndata")
    assert [m.kind for m in said(raw, masked=False)] == ["response", "event", "event", "body"]


def test_a_masked_event_goes_down_as_soon_as_it_is_whole() -> None:
    wire = Http()
    (request,) = wire.feed(C, GET)
    wire.allow(request, hide)
    (head,) = wire.feed(S, tell("200 OK", *HEAD, "X-Note: a secret"))
    assert (head.kind, b"X-Note: a [hidden]" in head.raw, b"chunked" in head.raw) == ("response", True, True)
    assert list(wire.feed(S, b"8\r\ndata: se\r\n")) == []
    (event,) = wire.feed(S, b"7\r\ncret \n\n\r\n")
    assert (event.kind, event.raw, event.masked) == ("event", b"11\r\ndata: [hidden] \n\n\r\n", 1)
    assert [m.raw for m in wire.feed(S, b"0\r\n\r\n")] == [b"0\r\n\r\n"]
    assert wire.idle


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
def test_a_masked_stream_whatever_its_framing(framing: str) -> None:
    body = b"data: a secret\n\ndata: the last secret"
    raw = {
        "chunked": tell("200 OK", *HEAD, body=chunks(*[bytes([b]) for b in body])),
        "close": tell("200 OK", HEAD[0], body=body),
        "length": sized(body, HEAD[0]),
    }[framing]
    for size in (1, 5, len(raw)):
        wire = Http()
        (request,) = wire.feed(C, GET)
        wire.allow(request, hide)
        out = [m for i in range(0, len(raw), size) for m in wire.feed(S, raw[i : i + size])]
        out += wire.feed(S, b"") if framing == "close" else []
        data = b"".join(m.raw for m in out)
        assert b"secret" not in data
        assert data.count(b"[hidden]") == 2
        assert out[-1].kind == "complete"


def test_max_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_EVENT", 10)
    cutter = events.Events()
    list(cutter.take(b"data: 1234"))
    with pytest.raises(ProtocolError, match="an event over 10 bytes"):
        list(cutter.take(b"5"))
