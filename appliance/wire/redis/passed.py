"""Replies taken apart as they come, and passed as they are: where each ends.

Source: Redis documentation, "Redis serialization protocol specification" (RESP3: streamed strings and aggregates).
Nothing is kept.
"""

from appliance.model import ProtocolError
from appliance.wire.inbox import Inbox
from appliance.wire.redis import frames
from appliance.wire.redis.frames import CRLF, MAX_DEPTH, MAX_HEAD, STREAM_OVER
from appliance.wire.redis.tags import (
    AGGREGATES,
    ATTRIBUTE,
    CHUNK,
    END,
    LINES,
    STATUS,
    STRING,
    STRINGS,
)

ENDLESS = -2  # of a streamed string or aggregate


def head(data: bytearray, at: int) -> tuple[int, int] | None:
    """Return the length in the line at `at`, and where the next line begins; None: not whole."""
    if data[at + 1 : at + 4] == b"?\r\n" and data[at] != ATTRIBUTE:
        return ENDLESS, at + 4
    if data[at + 1 : at + 2] == b"?" and len(data) < at + 4:
        return None
    found = frames.length(data, at, "a reply")
    if found is not None and found[0] < -1:
        raise ProtocolError("a reply of a negative length")
    return found


class Passed:
    """One value, as it is."""

    def __init__(self, due: int = 1) -> None:
        self._due = due  # values until the end, or until the end of what is streamed
        self._outer: list[int] = []  # values due around what is streamed
        self._skip = 0  # bytes of a string
        self._line = False  # in the middle of a long line
        self._chunks = False  # in the middle of a streamed string

    @property
    def done(self) -> bool:
        return not (self._due or self._outer or self._skip or self._line)

    def read(self, inbox: Inbox) -> tuple[bytes, int]:
        """Take what is there of the value."""
        start = inbox.at
        while not self.done and inbox.left:
            if not (self._skip or self._line or self._chunks):
                self._strings(inbox)
                if not inbox.left or self.done:
                    break
            if not self._step(inbox):
                break
        return bytes(inbox.data[start : inbox.at]), 0

    def _strings(self, inbox: Inbox) -> None:
        """Take the strings that come next, as far as they are whole: most of a long reply."""
        data, at, top, due = inbox.data, inbox.at, len(inbox.data), self._due
        while due and at < top and data[at] == STRING:
            line = data.find(CRLF, at, at + MAX_HEAD)
            size = frames.number(data[at + 1 : line]) if line > 0 else None
            if size is None or size < 0 or line + 4 + size > top:
                break
            at = line + 4 + size
            due -= 1
        inbox.at, self._due = at, due

    def _step(self, inbox: Inbox) -> bool:
        data, at = inbox.data, inbox.at
        if self._skip:
            size = min(self._skip, inbox.left)
            self._skip -= size
            inbox.at += size
            return True
        tag = STATUS if self._line else data[at]
        if self._chunks and tag != CHUNK:
            raise ProtocolError("a streamed string goes on with something else")
        if tag in LINES:
            return self._rest_of_line(inbox)
        if tag == END and self._outer:
            return self._end(inbox)
        if tag not in STRINGS and tag not in AGGREGATES and not (tag == CHUNK and self._chunks):
            raise ProtocolError(f"the server sends {chr(tag)!r} where a value begins")
        found = head(data, at)
        if found is None:
            return False
        size, inbox.at = found
        self._opened(tag, size)
        return True

    def _opened(self, tag: int, size: int) -> None:
        if self._chunks:
            if size < 0:
                raise ProtocolError("a piece of a streamed string without a length")
            self._skip = size + 2 if size else 0
            if not size:
                self._chunks = False
                self._due -= 1
        elif size == ENDLESS and tag in STRINGS:
            self._chunks = True
        elif tag in STRINGS:
            self._due -= 1
            self._skip = size + 2 if size >= 0 else 0
        elif size == ENDLESS:
            self._outer.append(self._due - 1)
            self._due = 1 << 62
            if len(self._outer) > MAX_DEPTH:
                raise ProtocolError(f"streamed replies more than {MAX_DEPTH} deep")
        else:
            self._due += max(size, 0) * AGGREGATES[tag] - (tag != ATTRIBUTE)

    def _rest_of_line(self, inbox: Inbox) -> bool:
        end = inbox.data.find(CRLF, inbox.at)
        if end >= 0:
            inbox.at = end + 2
            if not self._line:
                self._due -= 1
            self._line = False
            return True
        if inbox.left > STREAM_OVER or self._line:
            if not self._line:
                self._due -= 1
            self._line = True
            inbox.at += inbox.left - inbox.data.endswith(b"\r")
        return False

    def _end(self, inbox: Inbox) -> bool:
        if inbox.left < 3:
            return False
        if inbox.take(3) != b".\r\n":
            raise ProtocolError("the end of a streamed reply that is none")
        self._due = self._outer.pop()
        return True
