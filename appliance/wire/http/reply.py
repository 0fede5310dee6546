"""How one answer goes down.

Theory of operation. What no mask may touch passes as it came. Else events are masked one by one, and a text that only
detectors may change is masked as it comes if its length is not known or is over MAX_MASKED; all other answers are
gathered, opened, masked and framed anew, and what cannot be opened is not shown. JSON is always gathered: a detector
sees its strings without escapes. What is masked as it comes is sent in chunks of our own, or as the server did until
the connection ends; a client of HTTP/1.0 takes no chunks.
"""

import codecs
from collections.abc import Iterable, Iterator
from typing import Protocol

from appliance.model import Message, ProtocolError, Side
from appliance.wire.http import answers, events
from appliance.wire.http.coding import Unreadable
from appliance.wire.http.content import Masker
from appliance.wire.http.said import Response
from appliance.wire.http.stream import Stream

MAX_MASKED = 8 << 20  # bytes of an answer that is gathered to be masked, and of what it opens to
UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Reply(Protocol):
    """One answer. `begun`: bytes of it have gone down. `single`: it is taken chunk by chunk."""

    begun: bool
    single: bool

    def head(self) -> Iterable[Message]:
        """Return what goes down before the body comes."""

    def piece(self, raw: bytes, data: bytes, done: bool) -> Iterable[Message]:
        """Yield what goes down now that a piece of the body has come, as on the wire and what it carries.

        `done`: it is the last.
        """


def reply(raw: bytes, head: Response, masker: Masker | None, http10: bool) -> Reply:
    """Return how the answer with this head goes down. `http10`: its client takes no chunks."""
    content = head.named.get("content-type", "")
    media = content.partition(";")[0].strip().lower()
    is_events = media == events.MEDIA
    if masker is None:
        return _Passed(raw, head, is_events and not _coded(head))
    if head.framing == "none" or head.status == 206 or _coded(head) or (http10 and head.framing != "close"):
        return _Gathered(raw, head, masker)
    if is_events:
        return _Events(raw, head, masker)
    long = head.framing != "length" or head.length > MAX_MASKED
    if long and masker.finds_only and not answers.is_json(content) and answers.is_ascii(content):
        return _Streamed(raw, head, masker)
    return _Gathered(raw, head, masker)


def _coded(head: Response) -> bool:
    return "content-encoding" in head.named and any(one != "identity" for one in head.values("content-encoding"))


class _Passed:
    """As it came. Events are told apart for the record, as far as the server's own pieces do."""

    begun = True

    def __init__(self, raw: bytes, head: Response, single: bool) -> None:
        self._raw, self._framing, self.single = raw, head.framing, single
        self._status = str(head.status)

    def head(self) -> Iterable[Message]:
        return [Message(Side.SERVER, "response", self._raw, status=self._status)]

    def piece(self, raw: bytes, data: bytes, done: bool) -> Iterable[Message]:
        if done:
            return [Message(Side.SERVER, "complete", raw, status=self._status)]
        if not raw:
            return []
        if not self.single:
            return [Message(Side.SERVER, "body", raw)]
        if self._framing == "chunked":
            whole = any(end for _, end in events.parts(data))
            return [Message(Side.SERVER, "event" if whole else "body", raw)]
        return [Message(Side.SERVER, "event" if end else "body", part) for part, end in events.parts(raw)]


class _Gathered:
    """Masked as a whole."""

    begun = False
    single = False

    def __init__(self, raw: bytes, head: Response, masker: Masker) -> None:
        self._raw, self._head, self._masker = raw, head, masker
        self._content = bytearray()

    def head(self) -> Iterable[Message]:
        return []

    def piece(self, raw: bytes, data: bytes, done: bool) -> Iterator[Message]:
        self._content += data
        if len(self._content) > MAX_MASKED:
            raise ProtocolError(f"an answer over {MAX_MASKED} bytes cannot be masked")
        if done:
            try:
                shown, count = answers.masked(self._raw, self._head, bytes(self._content), self._masker, MAX_MASKED)
            except Unreadable as error:
                why = self._masker.text(f"the answer could not be masked: {error}") or ""
                shown, count = answers.refusal(502, why, "unreadable"), 1
            yield Message(Side.SERVER, "complete", shown, status=str(self._head.status), masked=count)


class _Anew:
    """Framed anew as it comes."""

    single = False

    def __init__(self, raw: bytes, head: Response, masker: Masker) -> None:
        self._raw, self._head, self._masker = raw, head, masker
        self._chunked = head.framing != "close"
        self.begun = False

    def head(self) -> Iterable[Message]:
        """The head goes down with the first of the body, so that the server can still be found to be unreadable."""
        return []

    def _begin(self) -> Iterator[Message]:
        if not self.begun:
            self.begun = True
            raw, count = answers.streamed(self._raw, self._head, self._masker)
            yield Message(Side.SERVER, "response", raw, status=str(self._head.status), masked=count)

    def _shown(self, kind: str, data: bytes, count: int) -> Message:
        raw = b"%x\r\n%s\r\n" % (len(data), data) if self._chunked and data else data
        return Message(Side.SERVER, kind, raw, masked=count)

    def _end(self) -> Message:
        return Message(Side.SERVER, "complete", b"0\r\n\r\n" if self._chunked else b"", status=str(self._head.status))


class _Events(_Anew):
    """Events, masked one by one."""

    def __init__(self, raw: bytes, head: Response, masker: Masker) -> None:
        super().__init__(raw, head, masker)
        self._events = events.Events()

    def head(self) -> Iterable[Message]:
        """A client waits for the head before it takes the stream for begun."""
        return list(self._begin())

    def piece(self, raw: bytes, data: bytes, done: bool) -> Iterator[Message]:
        for event in self._events.take(data):
            yield self._shown("event", *events.masked(event, self._masker))
        if done:
            rest = self._events.end()
            if rest:
                yield self._shown("event", *events.masked(rest, self._masker))
            yield self._end()


class _Streamed(_Anew):
    """A text, masked with an overlap. One that begins like JSON is gathered as far as that goes."""

    def __init__(self, raw: bytes, head: Response, masker: Masker) -> None:
        super().__init__(raw, head, masker)
        self._stream = Stream(masker.text)
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._gathered: _Gathered | None = _Gathered(raw, head, masker)
        self._held = bytearray()  # what came while it is not known whether it begins like JSON

    def piece(self, raw: bytes, data: bytes, done: bool) -> Iterator[Message]:
        if self._gathered is not None:
            self._held += data
            if len(self._held) <= MAX_MASKED and (done or self._may_be_json()):
                yield from self._gathered.piece(b"", bytes(self._held) if done else b"", done)
                return
            if self._held[:2] in UTF16:
                raise ProtocolError("an answer in UTF-16 cannot be masked as it comes")
            data, self._gathered = bytes(self._held), None
            self._held.clear()
        shown, changed = self._stream.take(self._decoder.decode(data, done))
        if shown:
            yield from self._begin()
            yield self._shown("body", _encoded(shown), int(changed))
        if done:
            yield from self._begin()
            shown, changed = self._stream.end()
            if shown or changed:
                yield self._shown("body", _encoded(shown), int(changed))
            yield self._end()

    def _may_be_json(self) -> bool:
        first = bytes(self._held[:64]).strip()[:1]
        return first in (b"", b"{", b"[") or len(self._held) < 2


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
