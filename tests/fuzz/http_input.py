"""One input of the fuzzing of the HTTP wire, and the inputs it starts from.

An input is a list of steps, as in wire_input.py. Whatever the bytes: nothing but ProtocolError is raised; what is allowed
goes up as it came (without what is withdrawn from it); no answer to a masked request shows what its plan hides.
"""

from appliance.model import Column, ProtocolError, Send
from appliance.wire import Cell
from appliance.wire.http import Http
from tests.fuzz.wire_input import steps
from tests.wire.http import test_websocket as ws
from tests.wire.http.dialogues import BROKEN, CHUNKED, DIALOGUES, GET, C, S, ask, chunks, sized, tell

SECRET = "s3cret"
FROM_SERVER, DENY, MASK = 1, 2, 4
WITHDRAWN = ("upgrade", "http2-settings", "connection", "sec-websocket-extensions", "expect")
MASKED = ("range", "if-range", "accept-encoding")  # lines that change only where answers are masked


class Finds:
    """A plan that hides a word wherever it stands."""

    finds_only = True
    rules = ("r",)

    def __call__(self, columns: tuple[Column, ...]) -> list[Cell | None]:
        return [lambda text: text.replace(SECRET, "#")]


class Leaves(Finds):
    """The same, for a plan that must know the leaves."""

    finds_only = False


PLANS = (Finds(), Leaves())
EVENTS = tell("200 OK", "Content-Type: text/event-stream", CHUNKED, body=chunks(b'data: {"a": "s3cret"}\n\n', b"id: s3c", b"ret\r\n\r\n"))
TALK = [
    (C, ws.offer(ws.DEFLATE)),
    (S, ws.accept("Sec-WebSocket-Extensions: permessage-deflate")),
    (C, ws.said(ws.TEXT, ws.Packer()(b"hello hello"), packed=True) + ws.said(ws.PING, b"p" * 30) + ws.said(ws.BINARY, b"x")),
    (S, ws.frame(ws.TEXT, b"a s3c", last=False) + ws.frame(ws.CONTINUES, b"ret") + ws.frame(ws.TEXT, b'{"a": "s3cret"}')),
    (C, ws.said(ws.CLOSE, (1000).to_bytes(2))),
]
LONG = tell("200 OK", CHUNKED, body=chunks(*[b"words and words " * 200 + b"s3c", b"ret "] * 8))


def step(server: bool, data: bytes, flags: int = 0) -> bytes:
    return b"".join(bytes([flags | server]) + len(part).to_bytes(2) + part for part in (data[:60_000],))


def corpus() -> list[bytes]:
    """Return every dialogue, with every request refused, with masks; events, a long text, a WebSocket."""
    talks = [[(side, raw) for side, raw, _ in dialogue] for dialogue in DIALOGUES.values()]
    talks += [[(C, raw)] for raw in BROKEN.values()]
    talks += [[(C, ask("POST / HTTP/1.1", "Content-Length: 1", body=b"P"))], [(C, ask("HEAD / HTTP/1.1", "Expect: 100-continue"))]]
    talks += [[(C, GET), (S, EVENTS)], [(C, GET), (S, LONG)], [(C, GET), (S, sized(b"a s3cret"))], TALK]
    return [b"".join(step(side is S, raw, flags) for side, raw in talk) for talk in talks for flags in (0, DENY, MASK, MASK | 8)]


def run(data: bytes) -> None:
    """Play one input. Masks are in force for the whole of it, or not at all."""
    found = list(steps(data))
    masks = bool(found and found[0][0] & MASK)
    plan = PLANS[bool(found and found[0][0] & 8)] if masks else None
    wire, shown, asked = Http(), b"", False
    try:
        for flags, piece in found:
            side = S if flags & FROM_SERVER else C
            for message in wire.feed(side, piece):
                if message.side is S:
                    assert not masks or message.kind != "event" or SECRET.encode() not in message.raw, message
                    shown += message.raw if asked else b""
                elif flags & DENY and message.values:
                    wire.deny(message, "denied", "no")
                else:
                    _check(wire.allow(message, plan), message.raw, masks)
                    asked = True
            assert not (wire.idle and wire.busy)
    except ProtocolError:
        wire.refuse("protocol violation", "malformed")
    assert len(wire._up) < 1 << 22
    if masks and b" 101 " not in shown:
        assert SECRET.encode() not in shown, shown


def _check(sends: list[Send], raw: bytes, masks: bool) -> None:
    """What goes up of a request otherwise than it came are lines of its head, for reasons that can be named."""
    for send in sends:
        if send.to is not S or send.data == raw or not raw[:1].isalpha():
            continue
        came, went = (data.partition(b"\r\n\r\n") for data in (raw, send.data))
        gone, said = (_fields(a[0]) - _fields(b[0]) for a, b in ((came, went), (went, came)))
        assert came[1:] == went[1:], send
        changed = {name for name, _ in gone | said}
        assert changed and changed <= {*WITHDRAWN, *(MASKED if masks else ())}, (gone, said)


def _fields(head: bytes) -> set[tuple[str, bytes]]:
    lines = [line.partition(b":") for line in head.split(b"\r\n")]
    return {(name.decode("latin-1").lower(), value) for name, _, value in lines}
