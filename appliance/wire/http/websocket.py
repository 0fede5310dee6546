"""A WebSocket, once its handshake is done.

Theory of operation. A message of the client is gathered, opened and judged; allowed, its frames go up as they came.
One that is denied goes nowhere, and the client is told by a text message that holds what the body of a refused request
would: the protocol has no error for one message, and its close code 1008 would end what DESIGN wants to live. What the
client packs by what it has said before cannot be read by a server that did not get that: after a denial packed messages
go up opened, in a frame of ours with the client's own masking key.

Messages of the server pass as they come, unless a mask may touch them: then each is gathered, opened, and goes down
masked, in one frame that is not packed; what is packed by it goes down opened as well.

Pings, pongs and closes pass between the fragments of messages. Those of a client that say more than keeping a
connection alive needs (MAX_QUIET) are judged as messages; denied, they go nowhere, a close goes up without its words.

Source: RFC 6455, RFC 7692.
"""

from collections.abc import Iterator

from appliance.model import Message, ProtocolError, Send, Side, Value
from appliance.wire import Plan
from appliance.wire.http import answers, frames
from appliance.wire.http.content import Masker
from appliance.wire.http.frames import Frame, Inflater
from appliance.wire.http.said import Agreed, Request
from appliance.wire.http.upgrade import lines

MAX_MESSAGE = 1 << 20  # bytes of a client's message, opened; servers take 1 MiB to 4 MiB unless told otherwise
MAX_FRAMES = 10_000  # of one message; each costs a server some bytes, and us too
MAX_MASKED = 8 << 20  # bytes of a server's message that is masked, opened
MAX_MASKERS = 16  # of one WebSocket; there are as many as its messages differ in the rules that mask for them
MAX_QUIET = 18  # bytes; pings carry a time or a number, a close its code; more is judged
MAX_REASON = 123  # bytes; RFC 6455 section 5.5
KINDS = {frames.TEXT: "ws-text", frames.BINARY: "ws-binary"}
CODES = {"denied": 1008, "malformed": 1002}


class _Gathered:
    """A message whose frames come."""

    def __init__(self, first: Frame) -> None:
        self.opcode, self.packed = first.opcode, first.packed
        self.raw, self.data, self.count = bytearray(), bytearray(), 0

    def add(self, frame: Frame, payload: bytes, limit: int) -> None:
        self.raw += frame.raw + payload
        self.data += frames.masked(payload, frame.key)
        self.count += 1
        if len(self.data) > limit or self.count > MAX_FRAMES:
            raise ProtocolError(f"a message over {limit} bytes or {MAX_FRAMES} frames")


class WebSocket:
    """Both directions, as the methods of `wire.Wire` by these names say."""

    def __init__(self, asked: Request, agreed: Agreed, masker: Masker | None) -> None:
        self._asked, self._lines, self._agreed = asked, lines(asked), agreed
        # Of the handshake and of messages: which of them a message of the server answers is not known.
        self._maskers = [masker] if masker else []
        self._data = {Side.CLIENT: bytearray(), Side.SERVER: bytearray()}
        self._frame: dict[Side, Frame | None] = {Side.CLIENT: None, Side.SERVER: None}
        self._message: dict[Side, _Gathered | None] = {Side.CLIENT: None, Side.SERVER: None}
        self._passing = 0  # opcode of a server's message that has begun to pass and has not ended
        self._left = 0  # bytes of its frame that are to come
        self._head, self._ends = b"", False  # head of that frame, and whether it is the message's last
        self._closed: set[Side] = set()
        keeps = {Side.CLIENT: agreed.client_keeps, Side.SERVER: agreed.server_keeps}
        self._openers = {side: Inflater(keeps[side]) for side in Side}
        self._opens: set[Side] = set()  # whose packed messages must go on opened
        self._unread = False  # a packed message of the server has passed without a look
        self._words: list[bytes] = []  # of ours, that wait for the end of a server's message

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        self._data[side] += data
        return self._said() if side is Side.CLIENT else self._answered()

    @property
    def kept(self) -> int:
        """Bytes of messages that have begun; pings come and go meanwhile."""
        begun = sum(len(one.raw) + len(one.data) for one in self._message.values() if one is not None)
        return begun + sum(map(len, self._data.values()))

    def _next(self, side: Side) -> Frame | None:
        """Return the frame that comes, once its head is there."""
        found = self._frame[side]
        if found is None:
            found = frames.frame(self._data[side], side is Side.CLIENT, self._agreed.deflate)
            if found is not None and not found.control:
                begun = self._message[side] is not None or (side is Side.SERVER and self._passing)
                if (found.opcode == frames.CONTINUES) != bool(begun):
                    raise ProtocolError("a fragment of no message, or a message within another")
                if side in self._closed:
                    raise ProtocolError("a message behind the close")
            self._frame[side] = found
        return found

    def _payload(self, side: Side, frame: Frame, limit: int) -> bytes | None:
        """Take what a frame carries, once it is whole."""
        data = self._data[side]
        if frame.length > limit:
            raise ProtocolError(f"a message over {limit} bytes")
        if len(data) < frame.length:
            return None
        payload = bytes(data[: frame.length])
        del data[: frame.length]
        self._frame[side] = None
        if frame.opcode == frames.CLOSE:
            if len(payload) == 1:
                raise ProtocolError("a close with half a code")
            self._closed.add(side)
        return payload

    def _gather(self, side: Side, frame: Frame, limit: int) -> _Gathered | None:
        """Take a frame of a message that is gathered; return the message once it is whole, opened."""
        payload = self._payload(side, frame, limit)
        if payload is None:
            return None
        message = self._message[side] = self._message[side] or _Gathered(frame)
        message.add(frame, payload, limit)
        if not frame.last:
            return None
        self._message[side] = None
        if message.packed:
            message.data = bytearray(self._openers[side].opened(bytes(message.data), limit))
        if message.opcode == frames.TEXT:
            _check(bytes(message.data))
        return message

    # -- the client ---------------------------------------------------------------------------------------------

    def _said(self) -> Iterator[Message]:
        while (frame := self._next(Side.CLIENT)) is not None:
            if frame.control:
                payload = self._payload(Side.CLIENT, frame, frames.MAX_CONTROL)
                if payload is None:
                    return
                plain = frames.masked(payload, frame.key)
                judged = len(plain) > MAX_QUIET
                yield self._of_client("ws-control", frame.raw + payload, plain, judged)
                continue
            message = self._gather(Side.CLIENT, frame, MAX_MESSAGE)
            if message is not None:
                yield self._of_client(KINDS[message.opcode], bytes(message.raw), bytes(message.data), judged=True)
            elif self._frame[Side.CLIENT] is not None:
                return

    def _of_client(self, kind: str, raw: bytes, data: bytes, judged: bool) -> Message:
        line, host = f"WEBSOCKET {self._asked.target}", self._asked.host
        values = (Value(self._lines), Value(data)) if judged else ()
        return Message(Side.CLIENT, kind, raw, text=line, name=host, values=values)

    def allow(self, message: Message, plan: Plan | None) -> list[Send]:
        if plan is not None and getattr(plan, "rules", True):
            self._mask(Masker(plan))
        if Side.CLIENT not in self._opens or not message.raw[0] & 0x40:
            return [Send(Side.SERVER, message.raw)]
        return [Send(Side.SERVER, self._built(message, bytes(message.values[1].data or b"")))]

    def _mask(self, new: Masker) -> None:
        self._maskers = [*(masker for masker in self._maskers if not masker.rules <= new.rules), new]
        if len(self._maskers) > MAX_MASKERS:
            raise ProtocolError(f"messages under more than {MAX_MASKERS} sets of masks in one WebSocket")

    def _built(self, message: Message, data: bytes) -> bytes:
        """Return a frame of ours in place of a client's message."""
        first = frames.frame(bytearray(message.raw), masked=True, deflate=True)
        assert first is not None
        return frames.built(first.opcode, data, first.key)

    def deny(self, message: Message, code: str, text: str) -> list[Send]:
        if message.kind == "ws-control":
            if message.raw[0] & 15 != frames.CLOSE:
                return []
            return [Send(Side.SERVER, self._built(message, bytes(message.values[1].data or b"")[:2]))]
        if message.raw[0] & 0x40 and self._agreed.client_keeps:
            self._opens.add(Side.CLIENT)
        if Side.SERVER in self._closed:
            return []
        told = frames.built(frames.TEXT, answers.problem(403, text, code))
        if self._passing:
            self._words.append(told)
            return []
        return [Send(Side.CLIENT, told)]

    # -- the server ---------------------------------------------------------------------------------------------

    def _answered(self) -> Iterator[Message]:
        while True:
            if self._left:
                yield from self._rest()
                if self._left:
                    return
                continue
            frame = self._next(Side.SERVER)
            if frame is None:
                return
            if frame.control:
                payload = self._payload(Side.SERVER, frame, frames.MAX_CONTROL)
                if payload is None:
                    return
                yield Message(Side.SERVER, "ws-control", self._control(frame, payload))
            elif self._passing or (not self._maskers and self._message[Side.SERVER] is None):
                yield from self._pass(frame)
            else:
                if frame.packed and self._unread:
                    raise ProtocolError("a message that is to be masked is packed by others that were not read")
                message = self._gather(Side.SERVER, frame, MAX_MASKED)
                if message is not None:
                    yield self._masked(message)
                elif self._frame[Side.SERVER] is not None:
                    return

    def _pass(self, frame: Frame) -> Iterator[Message]:
        self._frame[Side.SERVER] = None
        self._passing = self._passing or frame.opcode
        self._unread = self._unread or (frame.packed and self._agreed.server_keeps)
        self._ends = frame.last
        self._left = frame.length
        self._head = frame.raw
        yield from self._rest()

    def _rest(self) -> Iterator[Message]:
        """Pass what has come of a frame's payload."""
        data = self._data[Side.SERVER]
        piece = self._head + bytes(data[: self._left])
        taken = len(piece) - len(self._head)
        self._head = b""
        del data[:taken]
        self._left -= taken
        if self._left or not self._ends:
            if piece:
                yield Message(Side.SERVER, "ws-part", piece)
            return
        kind, self._passing = KINDS[self._passing], 0
        yield Message(Side.SERVER, kind, piece)
        for word in self._words:
            yield Message(Side.SERVER, "error", word)
        self._words.clear()

    def _control(self, frame: Frame, payload: bytes) -> bytes:
        """Return a control frame of the server, its words masked."""
        code = payload[:2] if frame.opcode == frames.CLOSE else b""
        words = payload[len(code) :].decode("latin-1")
        shown = words
        for masker in self._maskers:
            shown = masker.text(shown) or ""
        if shown == words:
            return frame.raw + payload
        return frames.built(frame.opcode, code + shown.encode("latin-1", "replace")[:MAX_REASON])

    def _masked(self, message: _Gathered) -> Message:
        data = bytes(message.data)
        charset = "utf-8" if message.opcode == frames.TEXT else "latin-1"
        shown, count = data.decode(charset), 0
        for masker in self._maskers:
            shown, changed = masker.piece(shown)
            count += changed
        raw = bytes(message.raw)
        if count or (message.packed and Side.SERVER in self._opens):
            if message.packed and self._agreed.server_keeps:
                self._opens.add(Side.SERVER)
            raw = frames.built(message.opcode, shown.encode(charset, "replace") if count else data)
        told = shown if message.opcode == frames.TEXT else ""
        return Message(Side.SERVER, KINDS[message.opcode], raw, text=told, masked=count)

    def refuse(self, text: str, code: str) -> bytes:
        """Return a close for the client; nothing inside a message of the server."""
        if self._passing or Side.SERVER in self._closed:
            return b""
        words = text.encode()[:MAX_REASON].decode(errors="ignore").encode()
        return frames.built(frames.CLOSE, CODES.get(code, 1011).to_bytes(2) + words)


def _check(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        raise ProtocolError("a text message that is not UTF-8") from None
