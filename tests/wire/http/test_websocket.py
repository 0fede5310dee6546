"""WebSocket: handshakes, frames, messages that are denied, messages that are masked."""

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import Column, Message, ProtocolError, Send
from appliance.wire import Cell
from appliance.wire.http import Http, frames, websocket
from appliance.wire.http.frames import BINARY, CLOSE, CONTINUES, PING, PONG, TEXT
from tests.wire.http.dialogues import GET, OK, C, S, ask, tell

KEY = base64.b64encode(b"sixteen bytes it")
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
TAIL = b"\0\0\xff\xff"
MASK = b"\x11\x22\x33\x44"


def offer(*lines: str, key: bytes = KEY) -> bytes:
    return ask(
        "GET /chat HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key.decode()}", *lines,
    )  # fmt: skip


def accept(*lines: str, key: bytes = KEY) -> bytes:
    digest = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    return tell("101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket", f"Sec-WebSocket-Accept: {digest}", *lines)


def frame(opcode: int, data: bytes = b"", *, last: bool = True, packed: bool = False, mask: bytes = b"") -> bytes:
    """Return a frame, made apart from what is tested here."""
    size = len(data)
    wide = bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 65536 else b"\x7f" + size.to_bytes(8)
    second = bytes((wide[0] | (0x80 if mask else 0),)) + wide[1:]
    shown = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)) if mask else data
    return bytes((last << 7 | packed << 6 | opcode,)) + second + mask + shown


def said(opcode: int, data: bytes = b"", *, last: bool = True, packed: bool = False) -> bytes:
    return frame(opcode, data, last=last, packed=packed, mask=MASK)


class Packer:
    """Packs messages, each by those before it."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(wbits=-15)

    def __call__(self, data: bytes) -> bytes:
        return (self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def hide(columns: tuple[Column, ...]) -> Sequence[Cell | None]:
    return [lambda text: text.replace("secret", "[hidden]") if "secret" in text else text]


def opened(deflate: str = "", masked: bool = False) -> Http:
    """Return a wire whose handshake is done."""
    wire = Http()
    (request,) = wire.feed(C, offer(*([DEFLATE] if deflate else [])))
    wire.allow(request, hide if masked else None)
    (switch,) = wire.feed(S, accept(*([f"Sec-WebSocket-Extensions: {deflate}"] if deflate else [])))
    assert (switch.kind, switch.status) == ("interim", "101")
    return wire


def up(wire: Http, data: bytes) -> bytes:
    """Return what goes up."""
    sends = [send for message in wire.feed(C, data) for send in wire.allow(message)]
    assert all(send.to is S for send in sends)
    return b"".join(send.data for send in sends)


# -- the handshake ------------------------------------------------------------------------------------------------


def test_an_offer_goes_up_as_it_came() -> None:
    wire = Http()
    (request,) = wire.feed(C, offer(DEFLATE + "; client_max_window_bits"))
    assert wire.allow(request) == [Send(S, request.raw)]


SENT = {  # extensions offered -> extensions that go up
    "permessage-deflate, x-frames": "permessage-deflate",
    "x-frames": None,
    "permessage-deflate; server_max_window_bits=10, bbf": "permessage-deflate; server_max_window_bits=10",
    "permessage-deflate; server_max_window_bits=16": None,
    "permessage-deflate; mystery": None,
    "permessage-deflate; client_no_context_takeover; client_no_context_takeover": None,
    "permessage-deflate; client_no_context_takeover=1": None,
}


@pytest.mark.parametrize("offered", SENT)
def test_extensions_that_are_not_read_are_not_offered(offered: str) -> None:
    wire = Http()
    (request,) = wire.feed(C, offer(f"Sec-WebSocket-Extensions: {offered}"))
    lines = wire.allow(request)[0].data.split(b"\r\n")
    found = [line.partition(b": ")[2].decode() for line in lines if line.lower().startswith(b"sec-websocket-extensions")]
    assert found == ([SENT[offered]] if SENT[offered] else [])


WITHDRAWN = {
    "h2c": ask("GET / HTTP/1.1", "Connection: Upgrade, HTTP2-Settings, keep-alive", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    "a key that is none": offer(key=b"short"),
    "version 8": offer().replace(b"Version: 13", b"Version: 8"),
    "a post": offer().replace(b"GET ", b"POST "),
    "a body": offer("Content-Length: 2") + b"ab",
    "two protocols": offer().replace(b"Upgrade: websocket", b"Upgrade: websocket, h2c"),
    "no connection": offer().replace(b"Connection: Upgrade", b"Connection: keep-alive"),
}


@pytest.mark.parametrize("name", WITHDRAWN)
def test_offers_that_are_withdrawn(name: str) -> None:
    wire = Http()
    (request,) = wire.feed(C, WITHDRAWN[name])
    (sent,) = wire.allow(request)
    assert b"upgrade" not in sent.data.lower().replace(b"host", b"")
    assert b"http2-settings" not in sent.data.lower()
    assert (b"keep-alive" in sent.data) == (b"keep-alive" in WITHDRAWN[name])
    assert [m.kind for m in wire.feed(S, OK)] == ["response", "complete"]


ANSWERS = {
    "another key": accept(key=base64.b64encode(b"sixteen other by")),
    "no key": tell("101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket"),
    "another protocol": accept().replace(b"Upgrade: websocket", b"Upgrade: tcp"),
    "an extension that was not offered": accept("Sec-WebSocket-Extensions: x-frames"),
    "deflate that was not offered": accept("Sec-WebSocket-Extensions: permessage-deflate"),
    "a chosen protocol that was not offered": accept("Sec-WebSocket-Protocol: chat"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_were_not_asked_for(name: str) -> None:
    wire = Http()
    (request,) = wire.feed(C, offer())
    wire.allow(request)
    with pytest.raises(ProtocolError):
        list(wire.feed(S, ANSWERS[name]))


def test_nothing_may_stand_behind_an_offer() -> None:
    """Else a server that takes it would read as frames what was judged as requests."""
    with pytest.raises(ProtocolError, match="behind the offer"):
        list(Http().feed(C, offer() + GET))
    wire = Http()
    wire.allow(next(iter(list(wire.feed(C, GET + offer())))))
    list(wire.feed(S, OK))
    with pytest.raises(ProtocolError, match="behind the offer"):
        list(wire.feed(C, GET))
    wire = Http()
    list(wire.feed(C, ask("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: foo")))
    with pytest.raises(ProtocolError, match="behind the offer"):
        list(wire.feed(C, GET))


@pytest.mark.parametrize("denied", [True, False])
def test_http_goes_on_where_an_offer_is_not_taken(denied: bool) -> None:
    wire = Http()
    (request,) = wire.feed(C, offer())
    if denied:
        assert wire.deny(request, "denied", "no")[0].data.startswith(b"HTTP/1.1 403 ")
    else:
        wire.allow(request)
        assert [m.kind for m in wire.feed(S, OK)] == ["response", "complete"]
    assert [m.kind for m in wire.feed(C, GET)] == ["request"]


# -- messages of the client ---------------------------------------------------------------------------------------


def test_a_message_is_judged_whole_and_goes_up_as_it_came() -> None:
    wire = opened()
    first, ping, rest = said(TEXT, b"hel", last=False), said(PING, b"now"), said(CONTINUES, b"lo")
    one, two = wire.feed(C, first + ping + rest)
    assert (one.kind, one.raw, one.values) == ("ws-control", ping, ())
    assert (two.kind, two.text, two.name, two.values[1].data) == ("ws-text", "WEBSOCKET /chat", "api.example", b"hello")
    assert wire.allow(two) == [Send(S, first + rest)]
    assert wire.idle
    assert not wire.busy


def test_nothing_of_a_message_goes_up_before_it_is_whole() -> None:
    raw = said(BINARY, b"x" * 70_000)
    wire = opened()
    assert list(wire.feed(C, raw[:-1])) == []
    (message,) = wire.feed(C, raw[-1:])
    assert (message.kind, message.raw) == ("ws-binary", raw)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_lengths(size: int) -> None:
    raw = said(TEXT, b"a" * size)
    assert up(opened(), raw) == raw
    assert frames.built(TEXT, b"a" * size, MASK) == raw


BROKEN = {
    "not masked": frame(TEXT, b"a"),
    "a length that is not the shortest": bytes((0x81, 0xFE)) + (5).to_bytes(2) + MASK + b"hello",
    "a length of a frame that never ends": bytes((0x81, 0xFF)) + b"\xff" * 8 + MASK,
    "a reserved bit": bytes((0xA1, 0x80)) + MASK,
    "packed without having agreed": said(TEXT, b"a", packed=True),
    "an opcode that is none": said(3, b"a"),
    "a control frame in parts": said(PING, b"a", last=False),
    "a long control frame": said(PING, b"a" * 126),
    "a fragment of nothing": said(CONTINUES, b"a"),
    "a message within another": said(TEXT, b"a", last=False) + said(TEXT, b"b"),
    "no UTF-8": said(TEXT, b"\xff"),
    "half a code": said(CLOSE, b"\x03"),
    "a message behind the close": said(CLOSE) + said(TEXT, b"a"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_frames_no_client_may_send(name: str) -> None:
    wire = opened()
    with pytest.raises(ProtocolError):
        list(wire.feed(C, BROKEN[name]))
    assert wire.refuse("no", "malformed") == frame(CLOSE, (1002).to_bytes(2) + b"no")


def test_max_message_and_max_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_MESSAGE", 10)
    assert len(list(opened().feed(C, said(TEXT, b"a" * 10)))) == 1
    for raw in (said(TEXT, b"a" * 11), said(TEXT, b"a" * 6, last=False) + said(CONTINUES, b"a" * 5)):
        with pytest.raises(ProtocolError, match="over 10 bytes"):
            list(opened().feed(C, raw))
    with pytest.raises(ProtocolError, match="over 10 bytes when opened"):
        list(opened("permessage-deflate").feed(C, said(TEXT, Packer()(bytes(11)), packed=True)))
    monkeypatch.setattr(websocket, "MAX_FRAMES", 3)
    with pytest.raises(ProtocolError, match="3 frames"):
        list(opened().feed(C, said(TEXT, last=False) + said(CONTINUES, last=False) * 3))


def test_what_of_a_message_has_come_is_kept_though_pings_go_by() -> None:
    wire = opened()
    assert wire.kept == 0
    list(wire.feed(C, said(TEXT, bytes(1000), last=False)))
    (ping,) = wire.feed(C, said(PING, b"x"))
    wire.allow(ping)
    assert wire.kept >= 2000  # its frames, and what is in them
    (message,) = wire.feed(C, said(CONTINUES, b"end"))
    wire.allow(message)
    assert wire.kept == 0


def test_a_packed_message_is_judged_opened_and_goes_up_packed() -> None:
    wire, pack = opened("permessage-deflate"), Packer()
    for text in (b"hello hello hello", b"hello hello again"):
        raw = said(TEXT, pack(text), packed=True)
        (message,) = wire.feed(C, raw)
        assert message.values[1].data == text
        assert wire.allow(message) == [Send(S, raw)]


def test_a_packed_message_in_fragments() -> None:
    data = Packer()(b"hello hello hello")
    raw = said(TEXT, data[:3], last=False, packed=True) + said(CONTINUES, data[3:])
    (message,) = opened("permessage-deflate").feed(C, raw)
    assert message.values[1].data == b"hello hello hello"


def test_a_packed_message_with_a_last_block_ends_there() -> None:
    """Some read on behind it, and some do not."""
    packer = zlib.compressobj(wbits=-15)
    whole = packer.compress(b"hello") + packer.flush()
    for end in (b"", b"\0"):
        (message,) = opened("permessage-deflate").feed(C, said(TEXT, whole + end, packed=True))
        assert message.values[1].data == b"hello"
    with pytest.raises(ProtocolError, match="behind its end"):
        list(opened("permessage-deflate").feed(C, said(TEXT, whole + Packer()(b" drop"), packed=True)))


def test_without_context_each_message_is_opened_by_itself() -> None:
    wire = opened("permessage-deflate; client_no_context_takeover")
    for _ in range(2):
        (message,) = wire.feed(C, said(TEXT, Packer()(b"hello hello"), packed=True))
        assert message.values[1].data == b"hello hello"
    wire.deny(message, "denied", "no")
    raw = said(TEXT, Packer()(b"hello hello"), packed=True)
    assert up(wire, raw) == raw


def test_a_denied_message_goes_nowhere_and_the_client_is_told() -> None:
    wire = opened()
    (message,) = wire.feed(C, said(TEXT, b"drop"))
    (told,) = wire.deny(message, "denied", "denied by vendorgate (decision 7-1)")
    assert told.to is C
    problem = json.loads(told.data[2:] if told.data[1] < 126 else told.data[4:])
    assert (problem["status"], problem["code"], problem["detail"]) == (403, "denied", "denied by vendorgate (decision 7-1)")
    assert up(wire, said(TEXT, b"go on")) == said(TEXT, b"go on")


def test_after_a_denial_packed_messages_go_up_opened() -> None:
    wire, pack = opened("permessage-deflate"), Packer()
    (message,) = wire.feed(C, said(TEXT, pack(b"hello hello"), packed=True))
    wire.deny(message, "denied", "no")
    assert up(wire, said(TEXT, pack(b"hello hello"), packed=True)) == said(TEXT, b"hello hello")
    assert up(wire, said(BINARY, b"plain")) == said(BINARY, b"plain")


def test_a_denial_waits_for_the_end_of_the_servers_message() -> None:
    wire = opened()
    assert [m.kind for m in wire.feed(S, frame(TEXT, b"a", last=False))] == ["ws-part"]
    (message,) = wire.feed(C, said(TEXT, b"x"))
    assert wire.deny(message, "denied", "no") == []
    assert [m.kind for m in wire.feed(S, frame(PING) + frame(CONTINUES, b"b"))] == ["ws-control", "ws-text", "error"]


def test_control_frames_that_say_more_are_judged() -> None:
    wire = opened()
    short, long, close = wire.feed(C, said(PONG, b"a" * 18) + said(PING, b"a" * 19) + said(CLOSE, (1000).to_bytes(2) + b"a" * 40))
    assert short.values == ()
    assert long.values[1].data == b"a" * 19
    assert wire.deny(long, "denied", "no") == []
    assert wire.deny(close, "denied", "no") == [Send(S, said(CLOSE, (1000).to_bytes(2)))]


# -- messages of the server ---------------------------------------------------------------------------------------


def test_messages_of_the_server_pass_as_they_come() -> None:
    wire = opened("permessage-deflate")
    raw = frame(TEXT, b"xy", packed=True) + frame(BINARY, b"a" * 9, last=False) + frame(PING, b"p") + frame(CONTINUES, b"") + frame(CLOSE)
    assert [m.kind for m in wire.feed(S, raw)] == ["ws-text", "ws-part", "ws-control", "ws-binary", "ws-control"]
    wire, raw = opened(), frame(TEXT, b"a" * 300)
    out: list[Message] = []
    for piece in (raw[:3], raw[3:50], raw[50:]):
        out += wire.feed(S, piece)
    assert [m.kind for m in out if m.raw] == ["ws-part", "ws-text"]
    assert b"".join(m.raw for m in out) == raw


def test_what_comes_with_the_handshakes_answer() -> None:
    wire = Http()
    (request,) = wire.feed(C, offer())
    wire.allow(request)
    assert [m.kind for m in wire.feed(S, accept() + frame(TEXT, b"hello"))] == ["interim", "ws-text"]


SERVER_BROKEN = {"masked": said(TEXT, b"a"), "packed": frame(TEXT, b"a", packed=True), "a fragment": frame(CONTINUES, b"a")}


@pytest.mark.parametrize("name", SERVER_BROKEN)
def test_frames_no_server_may_send(name: str) -> None:
    with pytest.raises(ProtocolError):
        list(opened().feed(S, SERVER_BROKEN[name]))


def shown(wire: Http, data: bytes, size: int = 0) -> list[Message]:
    return [m for i in range(0, len(data), size or len(data)) for m in wire.feed(S, data[i : i + (size or len(data))])]


@pytest.mark.parametrize("size", [0, 1])
def test_messages_of_the_server_are_masked(size: int) -> None:
    raw = frame(TEXT, b"a sec", last=False) + frame(PING, b"p") + frame(CONTINUES, b"ret b") + frame(TEXT, b"fine")
    out = shown(opened(masked=True), raw, size)
    assert b"".join(m.raw for m in out) == frame(PING, b"p") + frame(TEXT, b"a [hidden] b") + frame(TEXT, b"fine")
    assert [(m.kind, m.masked) for m in out] == [("ws-control", 0), ("ws-text", 1), ("ws-text", 0)]


def test_leaves_of_a_message_are_masked() -> None:
    assert b"".join(m.raw for m in shown(opened(masked=True), frame(TEXT, b'{"a": "se\\u0063ret"}'))) == frame(TEXT, b'{"a": "[hidden]"}')


def test_a_binary_message_is_masked_as_text() -> None:
    out = shown(opened(masked=True), frame(BINARY, b"\xff\0 secret"))
    assert out[0].raw == frame(BINARY, b"\xff\0 [hidden]")


def test_the_words_of_a_close_are_masked() -> None:
    (close,) = shown(opened(masked=True), frame(CLOSE, (1000).to_bytes(2) + b"a secret"))
    assert close.raw == frame(CLOSE, (1000).to_bytes(2) + b"a [hidden]")


def test_after_a_masked_one_packed_messages_go_down_opened() -> None:
    wire, pack = opened("permessage-deflate", masked=True), Packer()
    first = frame(TEXT, pack(b"hello hello"), packed=True)
    assert shown(wire, first)[0].raw == first
    assert shown(wire, frame(TEXT, pack(b"hello secret"), packed=True))[0].raw == frame(TEXT, b"hello [hidden]")
    assert shown(wire, frame(TEXT, pack(b"hello hello"), packed=True))[0].raw == frame(TEXT, b"hello hello")


def test_a_mask_that_comes_later() -> None:
    wire = opened()
    assert b"secret" in shown(wire, frame(TEXT, b"a secret"))[0].raw
    (message,) = wire.feed(C, said(TEXT, b"x"))
    wire.allow(message, hide)
    assert shown(wire, frame(TEXT, b"a secret"))[0].raw == frame(TEXT, b"a [hidden]")


class Hides:
    """A plan by its own rules."""

    def __init__(self, word: str, *rules: str) -> None:
        self.word, self.rules = word, rules

    def __call__(self, columns: tuple[Column, ...]) -> Sequence[Cell | None]:
        return [lambda text: text.replace(self.word, "#") if self.word in text else text]


def test_the_masks_of_all_messages_stay_in_force() -> None:
    wire = opened()
    for plan in (Hides("one", "a"), Hides("two", "b"), Hides("three", "b")):
        (message,) = wire.feed(C, said(TEXT, b"x"))
        wire.allow(message, plan)
    assert shown(wire, frame(TEXT, b"one two three"))[0].raw == frame(TEXT, b"# two #")


def test_max_maskers() -> None:
    wire = opened()
    for number in range(websocket.MAX_MASKERS + 1):
        (message,) = wire.feed(C, said(TEXT, b"x"))
        if number < websocket.MAX_MASKERS:
            wire.allow(message, Hides("one", str(number)))
    with pytest.raises(ProtocolError, match="16 sets of masks"):
        wire.allow(message, Hides("one", "another"))


def test_a_mask_that_comes_later_than_what_it_must_be_read_by() -> None:
    wire, pack = opened("permessage-deflate"), Packer()
    shown(wire, frame(TEXT, pack(b"a secret"), packed=True))
    (message,) = wire.feed(C, said(TEXT, b"x"))
    wire.allow(message, hide)
    with pytest.raises(ProtocolError, match="were not read"):
        shown(wire, frame(TEXT, pack(b"a secret"), packed=True))


def test_max_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_MASKED", 10)
    with pytest.raises(ProtocolError, match="over 10 bytes"):
        shown(opened(masked=True), frame(TEXT, b"a" * 11))


def test_the_last_word_is_a_close() -> None:
    wire = opened()
    assert wire.refuse("no") == frame(CLOSE, (1008).to_bytes(2) + b"no")
    assert wire.refuse("é" * 100, "failed") == frame(CLOSE, (1011).to_bytes(2) + ("é" * 61).encode())
    list(wire.feed(S, frame(TEXT, b"a", last=False)))
    assert wire.refuse("no") == b""


CONVERSATION = [
    (C, said(TEXT, b"hel", last=False) + said(PING, b"p") + said(CONTINUES, b"lo") + said(BINARY, b"x" * 200)),
    (S, frame(TEXT, b"a sec", last=False) + frame(PONG, b"p") + frame(CONTINUES, b"ret") + frame(TEXT, b"fine")),
    (C, said(CLOSE, (1000).to_bytes(2))),
    (S, frame(CLOSE, (1000).to_bytes(2))),
]


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.data())
def test_cut_anywhere(masked: bool, data: st.DataObject) -> None:
    def played(pieces: Sequence[tuple[object, bytes]]) -> tuple[bytes, bytes]:
        wire, sent, down = opened(masked=masked), b"", b""
        for side, raw in pieces:
            if side is C:
                sent += up(wire, raw)
            else:
                down += b"".join(m.raw for m in wire.feed(S, raw))
        return sent, down

    cut: list[tuple[object, bytes]] = []
    for side, raw in CONVERSATION:
        at = sorted({0, len(raw), *data.draw(st.lists(st.integers(0, len(raw)), max_size=6))})
        cut += [(side, raw[a:b]) for a, b in pairwise(at)]
    assert played(cut) == played(CONVERSATION)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from((C, S)), st.binary(max_size=60)), max_size=6), st.booleans())
def test_rubbish_is_an_error_or_waits(pieces: list[tuple[object, bytes]], masked: bool) -> None:
    wire = opened("permessage-deflate", masked=masked)
    try:
        for side, raw in pieces:
            if side is C:
                up(wire, raw)
            else:
                list(wire.feed(S, raw))
    except ProtocolError:
        wire.refuse("no", "malformed")
