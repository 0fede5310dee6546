"""Replies taken apart as they come, with their cells masked.

Source: Redis documentation, "Redis serialization protocol specification" (RESP3: streamed strings and aggregates,
attributes). Nothing is kept whole but what a mask must see whole: one string.
"""

import re

from appliance.model import Column, ProtocolError
from appliance.wire import Cell, Plan
from appliance.wire.inbox import Inbox
from appliance.wire.redis import frames
from appliance.wire.redis.frames import CRLF, MAX_DEPTH, MAX_MASKED
from appliance.wire.redis.layouts import VALUES, Layout
from appliance.wire.redis.passed import ENDLESS, Passed, head
from appliance.wire.redis.tags import (
    AGGREGATES,
    ATTRIBUTE,
    BIG,
    CHUNK,
    DOUBLE,
    END,
    ERROR,
    FAILURE,
    INTEGER,
    LINES,
    NULL,
    STATUS,
    STRING,
    STRINGS,
    VERBATIM,
)

WHOLE_NUMBER = re.compile(r"-?[0-9]{1,4300}\Z")
SMALL_NUMBER = re.compile(r"-?[0-9]{1,18}\Z")
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\Z|[+-]?inf\Z")
HIDDEN = "inf"  # in place of a score that is masked: the one number that says nothing and that every client must know

WITHHELD = "message withheld by vendorgate"
CODES = frozenset(
    b"ERR WRONGTYPE NOAUTH WRONGPASS NOPERM NOSCRIPT NOTBUSY BUSY BUSYKEY BUSYGROUP NOGROUP LOADING MASTERDOWN MISCONF"
    b" READONLY OOM EXECABORT NOREPLICAS NOPROTO UNBLOCKED INPROG UNKILLABLE CROSSSLOT CLUSTERDOWN TRYAGAIN".split()
)
"""Codes of errors that say nothing of a value. A script may make up any other."""


class Masked:
    """One value, its cells masked as a plan says."""

    def __init__(self, plan: Plan | None, layout: Layout, redact: bool, resp: int, attribute: bool = False) -> None:
        self._plan, self._layout, self._redact, self._resp = plan, layout, redact, resp
        self._cells: dict[int, Cell | None] = {}
        self._path: list[int] = []
        self._left: list[int] = []  # elements due of each aggregate on the path; below 0 to its end mark
        self._attributes: list[int] = []  # depths of attributes on the path
        self._skip = 0
        self._chunks: bytearray | None = None
        self._looked = 0  # bytes of a line without its end
        self._count = 0
        self._passed: Passed | None = None  # what is left of it, once it is known that nothing there is masked
        self._alone = attribute  # it is an attribute, and ends before what that is about
        self._over = False

    @property
    def done(self) -> bool:
        return self._over

    def read(self, inbox: Inbox) -> tuple[bytes, int]:
        """Take what is there of the value; return it masked, and how many cells that changed."""
        out, self._count = bytearray(), 0
        while self._passed is None and not self._over and inbox.left and self._step(inbox, out):
            pass
        if self._passed is not None:
            out += self._passed.read(inbox)[0]
            self._over = self._passed.done
        return bytes(out), self._count

    def _step(self, inbox: Inbox, out: bytearray) -> bool:
        data, at = inbox.data, inbox.at
        if self._skip:
            size = min(self._skip, inbox.left)
            self._skip -= size
            out += inbox.take(size)
            if not self._skip:
                self._close()
            return True
        tag = data[at]
        if tag in LINES:
            return self._a_line(tag, inbox, out)
        if tag == END and self._left and self._left[-1] < 0 and self._chunks is None:
            return self._end(inbox, out)
        chunk = tag == CHUNK and self._chunks is not None
        if not chunk and (self._chunks is not None or (tag not in STRINGS and tag not in AGGREGATES)):
            raise ProtocolError(f"the server sends {chr(tag)!r} where a value begins")
        found = head(data, at)
        if found is None:
            return False
        size, start = found
        if tag in AGGREGATES:
            out += inbox.take(start - at)
            self._open(tag, size)
            return True
        return self._a_string(tag, size, start, inbox, out)

    def _open(self, tag: int, size: int) -> None:
        if tag == ATTRIBUTE:
            self._attributes.append(len(self._path))
        if size in (0, -1):
            self._close()
            return
        self._left.append(-1 if size == ENDLESS else size * AGGREGATES[tag])
        self._path.append(0)
        if len(self._path) > MAX_DEPTH:
            raise ProtocolError(f"a reply more than {MAX_DEPTH} deep")

    def _close(self) -> None:
        """Note the end of a value, and of the aggregates that end with it."""
        while True:
            if self._attributes and self._attributes[-1] == len(self._path):
                self._attributes.pop()  # what it is about is still to come
                self._over = self._alone and not self._path
                return
            if not self._path:
                self._over = True
                return
            self._path[-1] += 1
            self._left[-1] -= 1
            if self._left[-1]:
                return
            self._left.pop()
            self._path.pop()

    def _end(self, inbox: Inbox, out: bytearray) -> bool:
        if inbox.left < 3:
            return False
        raw = inbox.take(3)
        if raw != b".\r\n":
            raise ProtocolError("the end of a streamed reply that is none")
        out += raw
        self._left.pop()
        self._path.pop()
        self._close()
        return True

    # -- cells ---------------------------------------------------------------------------------------------------

    def _place(self) -> int:
        return 0 if self._attributes else self._layout.place(self._path)

    def _cell(self, place: int) -> Cell | None:
        if place not in self._cells:
            cells = self._plan((Column("", place=place),)) if self._plan is not None else None
            self._cells[place] = cells[0] if cells else None
        return self._cells[place]

    def _a_string(self, tag: int, size: int, start: int, inbox: Inbox, out: bytearray) -> bool:
        if self._chunks is not None or size == ENDLESS:
            return self._a_chunk(size, start, inbox, out)
        if size < 0:
            out += inbox.take(start - inbox.at)
            self._close()
            return True
        cell = self._cell(self._place())
        if cell is None and not (tag == FAILURE and self._redact):
            if self._leaves():
                return True
            out += inbox.take(start - inbox.at)
            self._skip = size + 2
            return True
        if size > MAX_MASKED:
            raise ProtocolError(f"a string of {size} bytes that is to be masked: the limit is {MAX_MASKED}")
        if len(inbox.data) < start + size + 2:
            return False
        raw = bytes(inbox.data[start : start + size])
        whole = inbox.take(start + size + 2 - inbox.at)
        out += self._string(tag, raw, cell, whole)
        self._close()
        return True

    def _leaves(self) -> bool:
        """Leave the rest as it is, where all values are of one column; False if they are not."""
        if self._layout is not VALUES or self._redact or self._attributes or self._alone or -1 in self._left:
            return False
        # Of the innermost aggregate what is left of it, of those around it what is behind the one that is read.
        self._passed = Passed(sum(self._left) - len(self._left) + 1 if self._left else 1)
        return True

    def _a_chunk(self, size: int, start: int, inbox: Inbox, out: bytearray) -> bool:
        """Collect a streamed string; it goes down in one piece."""
        if self._chunks is None:
            self._chunks = bytearray()
            inbox.at = start
            return True
        if size < 0 or len(self._chunks) + size > MAX_MASKED:
            raise ProtocolError(f"a streamed string that is to be masked of more than {MAX_MASKED} bytes")
        if size and len(inbox.data) < start + size + 2:
            return False
        self._chunks += inbox.data[start : start + size]
        inbox.at = start + (size + 2 if size else 0)
        if not size:
            raw, self._chunks = bytes(self._chunks), None
            out += self._string(STRING, raw, self._cell(self._place()), frames.bulk(raw))
            self._close()
        return True

    def _string(self, tag: int, raw: bytes, cell: Cell | None, whole: bytes) -> bytes:
        if tag == FAILURE:
            said = withheld(raw)
            return b"!%d\r\n%b\r\n" % (len(said), said) if self._redact else whole
        if cell is None:
            return whole
        kept, said = (raw[:4], raw[4:]) if tag == VERBATIM else (b"", raw)
        new = self._change(cell, said, self._layout.score(self._path) and not self._attributes)
        if new is said:
            return whole
        return self._null() if new is None else b"%c%d\r\n%b%b\r\n" % (tag, len(kept + new), kept, new)

    def _change(self, cell: Cell, raw: bytes, score: bool = False) -> bytes | None:
        """Return the bytes masked, the same object if they are not; a score stays a number."""
        text = raw.decode("utf-8", "surrogateescape")
        new = cell(text)
        if new is text or new == text:
            return raw
        self._count += 1
        if new is not None and score and not NUMBER.match(new):
            new = HIDDEN
        return None if new is None else new.encode("utf-8", "surrogateescape")

    def _null(self) -> bytes:
        return b"_\r\n" if self._resp == 3 else b"$-1\r\n"

    def _a_line(self, tag: int, inbox: Inbox, out: bytearray) -> bool:
        end = inbox.data.find(CRLF, inbox.at + self._looked)
        if end < 0:
            self._looked = max(0, inbox.left - 1)
            if inbox.left > MAX_MASKED:
                raise ProtocolError(f"a line that is to be masked of more than {MAX_MASKED} bytes")
            return False
        self._looked = 0
        raw = inbox.take(end + 2 - inbox.at)
        out += self._line(tag, raw)
        self._close()
        return True

    def _line(self, tag: int, raw: bytes) -> bytes:
        if tag == ERROR:
            return b"-" + withheld(raw[1:-2]) + CRLF if self._redact else raw
        layout = self._layout
        counts = tag in (DOUBLE, BIG) or (tag == INTEGER and layout.integers)
        if tag == NULL or not (counts or self._attributes or (layout.opaque and tag != INTEGER)):
            return raw
        cell = self._cell(self._place())
        if cell is None:
            return raw
        said = raw[1:-2]
        new = self._change(cell, said)
        if new is said:
            return raw
        if new is None:
            return self._null()
        text = new.decode("utf-8", "replace")
        if tag == STATUS:
            return b"+" + b" ".join(new.split()) + CRLF
        if tag == DOUBLE:
            return b",%b\r\n" % (new if NUMBER.match(text) else HIDDEN.encode())
        valid = {INTEGER: SMALL_NUMBER, BIG: WHOLE_NUMBER}.get(tag)
        return b"%c%b\r\n" % (tag, new) if valid and valid.match(text) else self._null()


class Each:
    """An array whose elements are read each in its own way: the reply of EXEC."""

    def __init__(self, elements: list["Passed | Masked"]) -> None:
        self._elements = elements[::-1]
        self._begun = False

    @property
    def done(self) -> bool:
        return self._begun and not self._elements

    def read(self, inbox: Inbox) -> tuple[bytes, int]:
        out, masked = bytearray(), 0
        if not self._begun:
            found = head(inbox.data, inbox.at)
            if found is None:
                return b"", 0
            if found[0] != len(self._elements):
                raise ProtocolError(f"{len(self._elements)} commands of a transaction have {found[0]} replies")
            out += inbox.take(found[1] - inbox.at)
            self._begun = True
        while self._elements and inbox.left:
            raw, count = self._elements[-1].read(inbox)
            out += raw
            masked += count
            if not self._elements[-1].done:
                break
            self._elements.pop()
        return bytes(out), masked


def withheld(text: bytes) -> bytes:
    """Return an error with nothing in it that could come from a value."""
    code = text.split(b" ", 1)[0]
    return (code if code in CODES else b"ERR") + b" " + WITHHELD.encode()
