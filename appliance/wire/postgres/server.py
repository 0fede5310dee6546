"""What the server says, in the form the client may see it.

Source: PostgreSQL 17 manual, "Message Flow", "Message Formats". Which request an answer belongs to is
flow.py's part.
"""

from collections.abc import Callable, Iterator
from typing import Final

from appliance.model import Column, Message, ProtocolError, Side, Value
from appliance.wire.postgres import columns as described
from appliance.wire.postgres import copies, masks, refusals
from appliance.wire.postgres.copies import Copy
from appliance.wire.postgres.encodings import Encoding
from appliance.wire.postgres.flow import Ledger, Link, Request
from appliance.wire.postgres.frames import (
    HEADER,
    MAX_AUTH,
    MAX_CANCEL_KEY,
    MAX_MASKED,
    MAX_MESSAGE,
    MAX_SERVER,
    STREAM_OVER,
    Fields,
    Inbox,
    frame,
)
from appliance.wire.postgres.injected import Injected
from appliance.wire.postgres.masks import Maskers
from appliance.wire.postgres.tags import (
    AUTH,
    COPY_DATA,
    COUNTED,
    ERROR,
    NOTICE,
    NOTIFICATION,
    PARAMETER,
    READY,
    RESULT,
    ROW,
    SMALL,
    STREAMED,
)  # fmt: skip

JOINED: Final = 64 * 1024  # bytes of COPY that are masked at once; a note of the record has about as many
OURS: Final = frozenset({"inject", "probe"})  # requests whose answers are not the client's
ENDS: Final = frozenset({"complete", "suspended", "empty"})  # of a result
UNKNOWN = (Column(""),)
SERVER: Final = Side.SERVER


class Answers:
    """The server's direction."""

    def __init__(self, link: Link, ledger: Ledger) -> None:
        self._link, self._ledger = link, ledger
        self._inbox = Inbox()
        self.redact_all = False
        self._rest, self._rest_kind = 0, ""  # of a message that goes down in pieces
        self._columns: tuple[Column, ...] | None = None  # of the result that comes
        self._masks: Maskers | None = None
        self._copy: Copy | None = None
        self._known = False  # _masks is decided for this result
        self._descriptions = described.Descriptions()
        self._injected = Injected()

    @property
    def partial(self) -> bool:
        """True while the client has only part of a message."""
        return self._rest > 0

    def add(self, data: bytes) -> None:
        self._inbox.add(data)

    def read(self) -> Iterator[Message]:
        """Yield each message that is whole, or the part that is here of one that is not kept."""
        inbox, ledger, link = self._inbox, self._ledger, self._link
        while inbox.left:
            head = ledger.head
            kind = head.kind if head is not None else ""
            if head is None and not link.ready:
                raise ProtocolError("the server speaks before it was asked")
            if self._rest:
                yield self._piece(min(self._rest, inbox.left), 0)
                continue
            tag = inbox.data[inbox.at]
            if kind == "byte" and tag != ERROR:
                yield self._byte()
                continue
            if not (size := inbox.size()):
                return
            if size <= STREAM_OVER and size <= inbox.left:  # whole: `_check` has nothing to say of what follows
                if tag in SMALL and kind not in OURS:
                    yield self._answered(tag, inbox.take(size))
                    continue
                if tag == READY:
                    yield self._ready(inbox.take(size))
                    continue
            self._check(tag, size)
            if tag in COUNTED and not self._reads(tag):
                end, count = inbox.run(tag, 7 if tag == ROW else 5)
                if count:
                    yield self._run(tag, end, count)
                    continue
            if inbox.left >= size:
                yield from self._whole(tag, inbox.take(size))
                continue
            if size <= STREAM_OVER or tag not in STREAMED or self._reads(tag):
                inbox.lacks(size)
                return
            self._rest, self._rest_kind = size, ledger.answer(tag)
            ledger.advance(tag)
            yield self._piece(inbox.left, 1)
        inbox.rest()

    def _check(self, tag: int, size: int) -> None:
        """Raise ProtocolError for what cannot come here, before the rest of it is waited for."""
        if tag not in {ERROR, NOTICE, PARAMETER, NOTIFICATION, READY}:
            self._ledger.answer(tag)
        limit = MAX_AUTH + 5 if tag == AUTH else MAX_MESSAGE
        if tag in STREAMED:
            limit = MAX_MASKED if self._reads(tag) else MAX_SERVER
        if size > limit:
            raise ProtocolError(f"the server sends {chr(tag)!r} of {size} bytes: the limit is {limit}")

    def _reads(self, tag: int) -> bool:
        """Whether data of this tag must be whole, because we look into it."""
        head = self._ledger.head
        if head is None or head.kind == "inject":
            return True
        if tag == COPY_DATA:
            return self._copy is not None
        if head.plan is None:
            return False
        if not self._known:
            self._decide(head, tag)
        return self._masks is not None

    def _decide(self, head: Request, tag: int) -> None:
        """Find what masks the result that now comes."""
        columns = UNKNOWN if tag == RESULT else self._columns
        if columns is None and head.portal is not None:
            columns = head.portal.columns
        if columns is None:
            raise ProtocolError("rows that a plan is for come without a description of their columns")
        self._masks = masks.maskers(head.plan, columns, self._link.encoding)
        self._known = True

    def _forget(self) -> None:
        self._columns, self._masks, self._copy, self._known = None, None, None, False

    def _message(self, kind: str, raw: bytes) -> Message:
        return Message(SERVER, kind, raw)

    def _byte(self) -> Message:
        """Read the answer to a request for encryption."""
        raw = self._inbox.take(1)
        if raw not in {b"S", b"N", b"G"}:
            raise ProtocolError(f"the server answers {raw!r} to a request for encryption")
        self._ledger.queue.popleft()
        self._link.pending = False
        return Message(Side.SERVER, "tls" if raw == b"S" else "ssl-answer", raw, status=raw.decode())

    def _piece(self, size: int, count: int) -> Message:
        self._rest -= size
        return Message(Side.SERVER, self._rest_kind, self._inbox.take(size), count=count)

    def _run(self, tag: int, end: int, count: int) -> Message:
        """Read whole frames that nobody looks into."""
        kind = self._ledger.answer(tag)
        self._ledger.advance(tag)
        return Message(SERVER, kind, self._inbox.take(end - self._inbox.at), count=count)

    def _whole(self, tag: int, raw: bytes) -> Iterator[Message]:
        """Yield what one frame comes to."""
        head = self._ledger.head
        if tag == READY:
            yield self._ready(raw)
            return
        if tag in OWN:
            yield from OWN[tag](self, raw)
            return
        if head is not None and head.kind == "inject":
            result = self._injected.read(self._ledger.answer(tag), raw, self._link.encoding)
            if result is not None:
                yield result
            self._ledger.advance(tag)
        elif head is not None and head.kind == "probe":
            self._described(head, self._ledger.answer(tag), raw)
            self._ledger.advance(tag)
        else:
            yield self._answered(tag, raw)

    def _answered(self, tag: int, raw: bytes) -> Message:
        """Read the answer to a request of the client's."""
        ledger = self._ledger
        kind = ledger.answer(tag)
        if kind == "complete":
            message = Message(SERVER, kind, raw, status=described.tag(self._link.encoding, raw))
        else:
            read = READERS.get(kind)
            message = Message(SERVER, kind, raw) if read is None else read(self, kind, raw)
        ledger.advance(tag)
        if kind in ENDS:
            self._forget()
        return message

    # Answers that have an order of their own.

    def _error(self, raw: bytes) -> Iterator[Message]:
        ledger = self._ledger
        head = ledger.head
        failure = refusals.read(raw[5:])
        refusal, redact = ledger.refusal, ledger.redacts or self.redact_all
        if head is not None and head.kind == "byte":
            ledger.queue.popleft()
            self._link.pending = False
        elif not failure.fatal and (head is None or head.kind != "startup"):
            ledger.fail()
            self._forget()
            if head is not None and head.kind == "inject":
                self._injected.failure = failure
                return
            if refusal is not None:
                failure = refusals.refused(failure, refusal, self._link.encoding)
                redact = False
                raw = failure.write(b"E")
        if redact:
            failure = refusals.withheld(failure)
            raw = failure.write(b"E")
        yield self._report("error", raw, failure)

    def _notice(self, raw: bytes) -> Iterator[Message]:
        head = self._ledger.head
        if head is not None and head.kind == "inject":
            return
        failure = refusals.read(raw[5:])
        if self._ledger.redacts or self.redact_all:
            failure = refusals.withheld(failure)
            raw = failure.write(b"N")
        yield self._report("notice", raw, failure)

    def _report(self, kind: str, raw: bytes, failure: refusals.Failure) -> Message:
        text = self._link.encoding.decode(failure.text)
        return Message(Side.SERVER, kind, raw, text=text, status=failure.code.decode("ascii", "replace"))

    def _parameter(self, raw: bytes) -> Iterator[Message]:
        fields = Fields(raw, self._link.encoding, HEADER)
        name, value = fields.string(), fields.string()
        fields.end()
        if name == "client_encoding":
            self._link.encoding = Encoding.of(value)
        yield Message(Side.SERVER, "parameter", raw, name=name, status=value)

    def _notification(self, raw: bytes) -> Iterator[Message]:
        fields = Fields(raw, self._link.encoding, HEADER)
        fields.int32()
        name, text = fields.string(), fields.string()
        fields.end()
        yield Message(Side.SERVER, "notification", raw, text=text, name=name)

    def _ready(self, raw: bytes) -> Message:
        status = raw[5:].decode("ascii", "replace")
        if status not in {"I", "T", "E"}:
            raise ProtocolError(f"the server is ready in a state {status!r}")
        ledger = self._ledger
        head, size = ledger.head, len(ledger.queue)
        ledger.ready(status)
        self._forget()
        if head is not None and len(ledger.queue) < size:
            if head.kind == "inject":
                return self._injected.done(status, self._link.encoding)
            if head.kind == "startup":
                self._link.ready = True
        self._link.transaction = status
        return Message(SERVER, "ready", raw, status=status)

    # Answers that are read.

    def _authentication(self, kind: str, raw: bytes) -> Message:
        code = Fields(raw, self._link.encoding, HEADER).int32()
        if code == 0:
            self._link.authenticated = True
        return Message(Side.SERVER, kind, raw, status=str(code))

    def _key(self, kind: str, raw: bytes) -> Message:
        if not 8 <= len(raw) - 5 <= 4 + MAX_CANCEL_KEY:
            raise ProtocolError(f"a cancel key of {len(raw) - 9} bytes")
        self._link.key = raw[5:]
        return Message(Side.SERVER, kind, raw)

    def _described(self, head: Request, kind: str, raw: bytes) -> tuple[Column, ...]:
        """Keep what a Describe tells; "no data" tells nothing, so no row passes a plan after it."""
        if kind == "no-data":
            return ()
        columns = self._descriptions.read(self._link.encoding, raw)
        if head.portal is not None:
            head.portal.columns = columns
        return columns

    def _describe(self, kind: str, raw: bytes) -> Message:
        head = self._ledger.queue[0]
        columns = self._described(head, kind, raw)
        if head.kind == "query":
            self._forget()
            self._columns = columns
        return Message(Side.SERVER, kind, raw, name=head.name, columns=columns)

    def _parameters(self, kind: str, raw: bytes) -> Message:
        fields = Fields(raw, self._link.encoding, HEADER)
        types = tuple(fields.numbers(4))
        fields.end()
        name = self._ledger.queue[0].name
        self._link.told(name, types)
        values = tuple(Value(None, kind_of) for kind_of in types)
        return Message(Side.SERVER, kind, raw, name=name, values=values)

    def _row(self, kind: str, raw: bytes) -> Message:
        """Mask a run of rows, the first of which is `raw`."""
        inbox = self._inbox
        start = inbox.at - len(raw)
        end, count = inbox.run(ROW, 7)
        assert self._masks is not None  # else it would have been read as a run
        changed, masked = masks.rows(inbox.data, start, end, self._masks)
        inbox.at = end
        return Message(Side.SERVER, kind, changed, masked=masked, count=count + 1)

    def _result(self, kind: str, raw: bytes) -> Message:
        if not self._reads(RESULT) or self._masks is None:
            return self._message(kind, raw)
        body, masked = masks.result(raw[5:], self._masks)
        return Message(Side.SERVER, kind, frame(b"V", body), masked=masked)

    def _copy_out(self, kind: str, raw: bytes) -> Message:
        head = self._ledger.queue[0]
        self._forget()
        if kind == "copy-both" and head.plan is not None:
            raise ProtocolError("a replication stream cannot be masked")
        if kind == "copy-out":
            self._copy = copies.copy(head.plan, raw[5:], self._link.encoding)
        return self._message(kind, raw)

    def _copy_data(self, kind: str, raw: bytes) -> Message:
        assert self._copy is not None  # else it would have been read as a run
        rows, count, masked = self._copy.feed(self._following(raw))
        return Message(Side.SERVER, kind, rows, masked=masked, count=count)

    def _following(self, raw: bytes) -> bytes:
        """Return what is in a frame of COPY and in those that are here behind it: a server makes one of each row."""
        inbox, bodies, size = self._inbox, [raw[HEADER:]], len(raw)
        while size < JOINED and inbox.left >= HEADER and inbox.data[inbox.at] == COPY_DATA:
            more = int.from_bytes(inbox.data[inbox.at + 1 : inbox.at + HEADER], "big") + 1
            if not HEADER <= more <= min(inbox.left, JOINED):
                break
            bodies.append(inbox.take(more)[HEADER:])
            size += more
        return b"".join(bodies)

    def _copy_done(self, kind: str, raw: bytes) -> Message:
        if self._copy is not None:
            self._copy.end()
        self._copy = None
        return self._message(kind, raw)


OWN: Final[dict[int, Callable[[Answers, bytes], Iterator[Message]]]] = {
    ERROR: Answers._error,
    NOTICE: Answers._notice,
    PARAMETER: Answers._parameter,
    NOTIFICATION: Answers._notification,
}

READERS: Final[dict[str, Callable[[Answers, str, bytes], Message]]] = {
    "auth": Answers._authentication,
    "key": Answers._key,
    "describe": Answers._describe,
    "no-data": Answers._describe,
    "parameters": Answers._parameters,
    "row": Answers._row,
    "function-result": Answers._result,
    "copy-in": Answers._message,
    "copy-out": Answers._copy_out,
    "copy-both": Answers._copy_out,
    "copy-data": Answers._copy_data,
    "copy-done": Answers._copy_done,
}
