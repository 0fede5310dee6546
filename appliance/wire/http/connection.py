"""One HTTP/1.1 connection.

Theory of operation. A request is gathered whole, head and body, before the session sees it: nothing of it goes up
before its verdict, and what rules say of bodies can be said. A body over MAX_BODY is judged by its head and what has
come so far, as oversize; the rest follows piece by piece, as long as it names no other method (overrides.py). A client
that waits for 100 Continue gets it from us, since the body is wanted here first.

Requests sent and requests refused stand in one queue: the answer to a refused one goes down when all before it have
been answered. How an answer goes down is told in reply.py.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from appliance.model import Message, ProtocolError, Send, Side, Value
from appliance.wire import Plan
from appliance.wire.http import answers, upgrade
from appliance.wire.http.body import Body
from appliance.wire.http.coding import Unreadable, opened
from appliance.wire.http.content import Masker
from appliance.wire.http.head import MAX_HEAD, request, response
from appliance.wire.http.overrides import Watch, watch
from appliance.wire.http.reply import Reply, reply
from appliance.wire.http.said import Request
from appliance.wire.http.upward import Upward
from appliance.wire.http.websocket import WebSocket

MAX_BODY = 1 << 20  # bytes of a request judged whole; nginx takes 1 MiB unless told otherwise
MAX_WAITING = 100  # requests pipelined before an answer; clients that pipeline send about 10
MAX_KEPT = 8  # heads of requests that a connection has read and keeps; clients repeat a few
MAX_KEPT_HEAD = 2048  # bytes of one; SDKs' heads have some 500 to 1,500
SOCKET = ("ws-text", "ws-binary", "ws-control")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Read:
    """The head of a request, and what follows from it alone. It is kept for requests with the same head."""

    def __init__(self, head: Request) -> None:
        self.head = head
        self.line = f"{head.method} {head.target}"
        self.lines = Value(upgrade.lines(head))
        self.codings = head.values("content-encoding") if "content-encoding" in head.named else []
        self.waits = head.waits and head.framing != "none"
        self.upward = Upward(head)
        # What follows it on its connection may be no HTTP, or another's.
        self.leaves = head.method == "CONNECT" or upgrade.offers(head)


class _Asked:
    """A request that is to be answered: by the server, or by us if `refusal` says what."""

    def __init__(self, read: _Read, masker: Masker | None = None, refusal: bytes = b"") -> None:
        self.read, self.head = read, read.head
        self.told = read.head.waits  # to go on, by us
        self.masker, self.refusal = masker, refusal


class Http:
    """The wire of HTTP/1.1, as `wire.Wire` says."""

    name = "http"
    cancel_key = b""

    def __init__(self) -> None:
        self._up, self._down = bytearray(), bytearray()  # of the client, of the server
        self._asked: deque[_Asked] = deque()
        self._heads: dict[str, _Read] = {}  # of requests that are not decided
        self._kept: dict[bytes, _Read] = {}
        self._number = 0
        self._unended: set[str] = set()  # oversize requests the rest of whose body was not given to `allow` yet
        self._refused: set[str] = set()  # those among them whose body goes nowhere
        self._request: _Read | None = None  # whose body comes
        self._gathered, self._content = bytearray(), bytearray()
        self._watch: Watch | None = None  # of what follows of a long body
        self._over = self._owes_continue = False
        self._request_body: Body | None = None
        self._last = False  # what went up says that nothing follows it
        self._masker: Masker | None = None  # of the last request sent: for an answer that was not asked for
        self._offered = ""  # the request that offers another protocol
        self._socket: WebSocket | None = None
        self._reply: Reply | None = None  # the answer that comes
        self._owed = False  # somebody asked for it
        self._body: Body | None = None

    # -- the client ---------------------------------------------------------------------------------------------

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        if self._socket is not None:
            return self._socket.feed(side, data)
        if side is Side.CLIENT:
            self._up += data
            return self._requests()
        self._down += data
        return self._answers(ended=not data)

    def _requests(self) -> Iterator[Message]:
        data = self._up
        while True:
            if self._request is None:
                if self._offered and data:
                    raise ProtocolError("bytes behind the offer of another protocol, before its answer")
                while data[:2] == b"\r\n":  # RFC 9112 section 2.2: empty lines before a request are not looked at
                    del data[:2]
                raw = _head(data)
                if raw is None:
                    return
                message = self._begin(raw, data)
            else:
                message = self._gather(data, self._request)
            if message is not None:
                yield message
            if self._request is not None:
                if self._owes_continue and not self._asked and not self._heads:
                    self._owes_continue = False
                    yield Message(Side.SERVER, "interim", CONTINUE)
                return

    def _begin(self, raw: bytes, data: bytearray) -> Message | None:
        """Take a head that came, and of its body what is there."""
        read = self._kept.get(raw) or self._reads(raw)
        head = read.head
        self._number += 1
        self._over = self._owes_continue = False
        if head.framing == "none" or (head.framing == "length" and head.length <= min(len(data), MAX_BODY)):
            content = bytes(data[: head.length])
            del data[: head.length]
            return self._whole(read, raw + content, content)
        self._request, self._request_body = read, Body(head)
        self._gathered, self._content = bytearray(raw), bytearray()
        self._owes_continue = read.waits and not data
        return self._gather(data, read)

    def _reads(self, raw: bytes) -> _Read:
        read = _Read(request(raw))
        if len(raw) <= MAX_KEPT_HEAD:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[raw] = read
        return read

    def _gather(self, data: bytearray, read: _Read) -> Message | None:
        """Take what has come of a body; return what it completes, or what of an oversize one follows."""
        body = self._request_body
        assert body is not None
        raw, content = body.take(data)
        if body.done:
            self._request = None
        if self._over:
            if self._watch is not None and self._watch.finds(content):
                raise ProtocolError("what follows of a long body may name another method than was judged")
            if body.aside:
                raise ProtocolError("trailers, or extensions of chunks, behind what was judged of a long body")
            last = "last" if body.done else ""
            return Message(Side.CLIENT, "body", raw, cursor=str(self._number), status=last) if raw else None
        self._gathered += raw
        self._content += content
        self._over = len(self._content) > MAX_BODY or len(self._gathered) > MAX_HEAD + 2 * MAX_BODY
        if not self._over and not body.done:
            return None
        gathered, whole = bytes(self._gathered), bytes(self._content)
        self._watch = watch(read.head, whole) if self._over else None
        self._gathered.clear()  # a connection that is idle from now on keeps nothing of it
        self._content.clear()
        aside = bytes(body.aside)
        body.aside.clear()
        return self._whole(read, gathered, whole, aside)

    def _whole(self, read: _Read, raw: bytes, content: bytes, aside: bytes = b"") -> Message:
        """Return a request. What is said beside a body goes up with it, and is judged as header lines are."""
        if len(self._asked) + len(self._heads) >= MAX_WAITING:
            raise ProtocolError(f"more than {MAX_WAITING} requests without an answer")
        status, packed = ("" if not self._over else "oversize" if self._watch is None else "long"), content
        if read.codings and not status:
            try:
                content = opened(content, read.codings, MAX_BODY, alike=True)
            except Unreadable:
                status = "encoded"
        number = str(self._number)
        if self._request is not None:
            self._unended.add(number)
        self._heads[number] = read
        self._offered = number if read.leaves else ""
        lines = Value((read.lines.data or b"") + aside) if aside else read.lines
        said = (lines, Value(content)) if content is packed else (lines, Value(content), Value(packed))
        return Message(
            Side.CLIENT,
            "request",
            raw,
            text=read.line,
            name=read.head.host,
            cursor=number,
            values=said,
            status=status,
        )

    def encrypted(self) -> bytes:
        return b""

    @property
    def kept(self) -> int:
        """Bytes of messages that have begun, where others are read meanwhile."""
        return self._socket.kept if self._socket is not None else 0

    def again(self, message: Message) -> Message:
        return message

    def allow(self, message: Message, plan: Plan | None = None, redact: bool = False) -> list[Send]:
        if self._socket is not None and message.kind in SOCKET:
            return self._socket.allow(message, plan)
        if message.kind == "body":
            refused = message.cursor in self._refused
            if message.status == "last":
                self._refused.discard(message.cursor)
                self._unended.discard(message.cursor)
            return [] if refused else [Send(Side.SERVER, message.raw)]
        read = self._heads.pop(message.cursor)
        if self._last:
            if message.cursor in self._unended:
                self._refused.add(message.cursor)
            return []  # the server closes, and its client asks again on another connection
        masks = plan is not None and not getattr(plan, "exact", False)
        raw, self._last = read.upward.sendable(message.raw, masks)
        masker = Masker(plan) if plan is not None and getattr(plan, "rules", True) else None
        self._masker = masker
        if masker is not None:
            raw = answers.readable(raw)
        self._asked.append(_Asked(read, masker))
        return [Send(Side.SERVER, raw)]

    def deny(self, message: Message, code: str, text: str) -> list[Send]:
        if self._socket is not None and message.kind in SOCKET:
            return self._socket.deny(message, code, text)
        if message.cursor == self._offered:
            self._offered = ""
        read = self._heads.pop(message.cursor)
        if message.cursor in self._unended:
            self._refused.add(message.cursor)  # else what follows would go up, as if it were a request
        raw = answers.refusal(403, text, code, empty=read.head.method == "HEAD")
        self._asked.append(_Asked(read, refusal=raw))
        return [Send(Side.CLIENT, raw) for raw in self._own()]

    def _own(self) -> Iterator[bytes]:
        """Take our own answers from the front of the queue, up to the first that is the server's."""
        while self._reply is None and self._asked and self._asked[0].refusal:
            yield self._asked.popleft().refusal

    # -- the server ---------------------------------------------------------------------------------------------

    def _answers(self, ended: bool) -> Iterator[Message]:
        data = self._down
        while True:
            if self._reply is None:
                raw = _head(data)
                if raw is None:
                    break
                yield from self._answer(raw)
                if self._socket is not None:
                    yield from self._socket.feed(Side.SERVER, bytes(data))
                    return
                continue
            yield from self._piece(data)
            if self._reply is not None:
                break
        if ended and self._body is not None:
            self._body.end()
            yield from self._piece(data)
        if self._owes_continue and not self._asked and not self._heads and self._request is not None:
            self._owes_continue = False
            yield Message(Side.SERVER, "interim", CONTINUE)

    def _answer(self, raw: bytes) -> Iterable[Message]:
        asked = self._asked[0] if self._asked else None
        masker = asked.masker if asked else self._masker
        http10 = asked is not None and asked.head.version == "1.0"
        head = response(raw, asked.head.method if asked else "GET")
        if head.status == 101:
            if asked is None or not upgrade.is_websocket(asked.head):
                raise ProtocolError("the server switches to another protocol, which is not opened here")
            self._socket = WebSocket(asked.head, upgrade.agreed(asked.head, head), masker)
            self._asked.clear()
            shown, count = answers.interim(raw, masker) if masker else (raw, 0)
            return [Message(Side.SERVER, "interim", shown, status="101", masked=count)]
        if asked is not None and asked.head.method == "CONNECT" and 200 <= head.status < 300:
            return [self._tunnel(asked, raw)]
        if head.status < 200:
            dropped = head.status == 100 and asked is not None and asked.told
            shown, count = answers.interim(raw, masker) if masker else (raw, 0)
            said = b"" if dropped else shown
            return [Message(Side.SERVER, "interim", said, status=str(head.status), masked=count)]
        if asked is None and head.status != 408:  # 408: some servers say so before they close an idle connection
            raise ProtocolError("the server answers where nothing was asked")
        self._body, self._reply, self._owed = Body(head), reply(raw, head, masker, http10), asked is not None
        return self._reply.head()

    def _tunnel(self, asked: _Asked, raw: bytes) -> Message:
        """What follows is for, and of, the place that was asked for: RFC 9110 section 9.3.6."""
        shown, count = answers.interim(raw, asked.masker) if asked.masker else (raw, 0)
        self._asked.clear()
        rest = bytes(self._down)
        self._down.clear()
        return Message(
            Side.SERVER, "tunnel", shown, name=asked.head.target.lower(), values=(Value(rest),), masked=count
        )

    def _piece(self, data: bytearray) -> Iterator[Message]:
        body, shown = self._body, self._reply
        assert body is not None
        assert shown is not None
        while True:
            raw, content = body.take(data, shown.single)
            yield from shown.piece(raw, content, body.done)
            if body.done:
                yield from self._next()
                return
            if not (raw and shown.single):
                return

    def _next(self) -> list[Message]:
        self._reply = self._body = None
        if self._owed and self._asked.popleft().read.leaves:
            self._offered = ""  # it was not taken
        return [Message(Side.SERVER, "error", raw) for raw in self._own()]

    # -- what has no place in HTTP ------------------------------------------------------------------------------

    def inject(self, statement: str) -> list[Send]:
        return []

    def settle(self) -> list[Send]:
        return []

    def notice(self, text: str) -> bytes:
        return b""

    def refuse(self, text: str, code: str = "denied") -> bytes:
        if self._socket is not None:
            return self._socket.refuse(text, code)
        if self._reply is not None and self._reply.begun:
            return b""  # inside an answer nothing can be said
        status = {"denied": 403, "malformed": 400}.get(code, 503)
        return answers.refusal(status, text, code, close=True)

    @property
    def idle(self) -> bool:
        return not self._asked

    @property
    def busy(self) -> bool:
        return bool(self._asked)


def _head(data: bytearray) -> bytes | None:
    """Take a head from the front of a buffer, its empty line included; None while it is not whole."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD)
    if end < 0:
        if len(data) >= MAX_HEAD:
            raise ProtocolError(f"a head over {MAX_HEAD} bytes")
        if data.count(b"\n") != data.count(b"\r\n"):
            raise ProtocolError("a line that does not end in CR LF")
        return None
    raw = bytes(data[: end + 4])
    del data[: end + 4]
    return raw
