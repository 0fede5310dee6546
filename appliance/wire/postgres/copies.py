"""Masking of COPY ... TO STDOUT: text, CSV and binary streams of rows.

Source: PostgreSQL 17 manual, "COPY", "File Formats". The rows are a stream of bytes: a row may be cut
anywhere over CopyData messages, so each format keeps what is not a whole row yet. Each row goes down as a
CopyData of its own. The protocol tells how many columns there are, not their names, types or the options of
the statement: those come as attributes of the plan (Spec). Where they are not known, or do not fit what the
server sends, the flow ends.
"""

import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import msgspec

from appliance.model import Column, ProtocolError
from appliance.wire import Plan
from appliance.wire.postgres.cells import Masker
from appliance.wire.postgres.encodings import Encoding
from appliance.wire.postgres.frames import INT16, INT32, MAX_MASKED, Fields, field, frame
from appliance.wire.postgres.masks import Maskers, maskers

SIGNATURE = b"PGCOPY\n\xff\r\n\0"

UNESCAPED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
ESCAPES = {value: b"\\" + key for key, value in UNESCAPED.items()} | {b"\\": b"\\\\"}
ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9A-Fa-f]{1,2}|.)", re.DOTALL)


class Spec(msgspec.Struct, frozen=True):
    """What a plan says of the COPY it is for, in its attribute `copy`."""

    format: str = ""  # text | csv | binary; "" when not known
    delimiter: str = ""
    quote: str = ""
    escape: str = ""
    null: str | None = None
    header: bool = False
    columns: tuple[Column, ...] = ()

    @classmethod
    def of(cls, plan: Plan) -> "Spec":
        """Read the attribute `copy` of the plan: None, or a struct with some of these fields."""
        told = getattr(plan, "copy", None)
        found = {name: getattr(told, name) for name in cls.__struct_fields__ if hasattr(told, name)}
        if not found.get("delimiter"):
            found.pop("null", "")  # nothing is said of it: the default of the format
        return cls(**found)


class Copy(Protocol):
    """One COPY that is masked."""

    def feed(self, data: bytes) -> tuple[bytes, int, int]:
        """Return the frames of the rows that `data` completes, how many, and how many cells were masked."""

    def end(self) -> None:
        """Raise ProtocolError if part of a row is left."""


def copy(plan: Plan | None, body: bytes, encoding: Encoding) -> Copy | None:
    """Return what masks the COPY that a CopyOutResponse starts; None when nothing of it is masked."""
    if plan is None:
        return None
    fields = Fields(body, encoding)
    binary = fields.take(1) != b"\0"
    count = len(fields.numbers(2))
    fields.end()
    spec = Spec.of(plan)
    columns = spec.columns
    if len(columns) != count:
        columns = tuple(Column("", attribute=number) for number in range(1, count + 1))
    columns = tuple(msgspec.structs.replace(column, binary=binary) for column in columns)
    masks = maskers(plan, columns, encoding)
    if not count:
        raise ProtocolError("a COPY whose columns are not known cannot be masked")
    if masks is None:
        return None
    if not spec.format or binary != (spec.format == "binary"):
        raise ProtocolError("a COPY whose format is not known cannot be masked")
    if binary:
        return BinaryCopy(masks)
    if encoding.embeds_ascii:
        raise ProtocolError(f"a COPY in {encoding.name} cannot be masked")
    return CsvCopy(masks, spec, encoding) if spec.format == "csv" else TextCopy(masks, spec, encoding)


class _Rows(ABC):
    """The part that all formats share: bytes in, whole rows out."""

    def __init__(self, masks: Maskers) -> None:
        self._masks, self._all = masks.each, masks
        self._data = bytearray()

    def feed(self, data: bytes) -> tuple[bytes, int, int]:
        if len(self._data) + len(data) > MAX_MASKED:
            raise ProtocolError(f"a row of COPY over {MAX_MASKED} bytes cannot be masked")
        self._data += data
        out, count, masked = bytearray(), 0, 0
        used = 0
        for end, row, changed in self._take():
            used = end
            out += frame(b"d", row)
            count += 1
            masked += changed
        del self._data[:used]
        return bytes(out), count, masked

    def end(self) -> None:
        if self._data:
            raise ProtocolError("COPY ends in the middle of a row")

    @abstractmethod
    def _take(self) -> Iterator[tuple[int, bytes, int]]:
        """Yield each whole row of the data: its end, what goes down, cells masked."""

    def _width(self, count: int) -> None:
        if count != len(self._masks):
            raise ProtocolError(f"a row of {count} cells in a COPY of {len(self._masks)} columns")


class TextCopy(_Rows):
    def __init__(self, masks: Maskers, spec: Spec, encoding: Encoding) -> None:
        super().__init__(masks)
        self._delimiter = encoding.encode(spec.delimiter or "\t")
        self._null = encoding.encode("\\N" if spec.null is None else spec.null)
        self._header = spec.header
        self._seen = 0  # bytes known to hold no line end
        self._which = [(i, mask) for i, mask in enumerate(self._masks) if mask is not None]
        sep = re.escape(self._delimiter)
        self._special = re.compile(b"[\\\\\b\f\n\r\t\v" + sep + b"]")
        self._cell = re.compile(rb"((?:[^\\" + sep + rb"]++|\\.)*+)(" + sep + rb"|\Z)", re.DOTALL)

    def _take(self) -> Iterator[tuple[int, bytes, int]]:
        stop = self._data.rfind(b"\n", self._seen) + 1
        self._seen = len(self._data) - stop
        if not stop:
            return
        lines, end = bytes(self._data[:stop]), 0
        leaves = self._all.looks and self._all.left(lines)
        for line in lines[:-1].split(b"\n"):
            end += len(line) + 1
            row, changed = line, 0
            if self._header:
                self._header = False
            elif leaves:
                self._width(line.count(self._delimiter) + 1)
            else:
                row, changed = self._line(line)
            yield end, row + b"\n", changed

    def _line(self, line: bytes) -> tuple[bytes, int]:
        cells = line.split(self._delimiter) if b"\\" not in line else self._split(line)
        self._width(len(cells))
        changed = 0
        for i, mask in self._which:
            if cells[i] == self._null:
                continue
            old = self._plain(cells[i])
            new = mask(old)
            if new is not old:
                cells[i] = self._null if new is None else self._escaped(new)
                changed += 1
        return self._delimiter.join(cells), changed

    def _split(self, line: bytes) -> list[bytes]:
        cells, at = [], 0
        while match := self._cell.match(line, at):
            cells.append(match[1])
            at = match.end()
            if not match[2]:
                break
        if at != len(line):
            raise ProtocolError("a backslash at the end of a line of COPY")
        return cells

    @staticmethod
    def _plain(cell: bytes) -> bytes:
        def said(match: re.Match[bytes]) -> bytes:
            word = match[1]
            if word[:1].isdigit() and word[0] < ord("8"):
                return bytes([int(word, 8) & 0xFF])
            if len(word) > 1:
                return bytes([int(word[1:], 16)])
            return UNESCAPED.get(word, word)

        return ESCAPE.sub(said, cell) if b"\\" in cell else cell

    def _escaped(self, cell: bytes) -> bytes:
        if self._special.search(cell) is None:
            return cell
        return self._special.sub(lambda m: ESCAPES.get(m[0], b"\\" + m[0]), cell)


class CsvCopy(_Rows):
    def __init__(self, masks: Maskers, spec: Spec, encoding: Encoding) -> None:
        super().__init__(masks)
        self._delimiter = encoding.encode(spec.delimiter or ",")
        self._quote = encoding.encode(spec.quote or '"')
        self._escape = encoding.encode(spec.escape) if spec.escape else self._quote
        self._null = encoding.encode(spec.null or "")
        self._header = spec.header
        quote, escape, sep = (re.escape(part) for part in (self._quote, self._escape, self._delimiter))
        inner = rb"(?:[^" + quote + escape + rb"]++|" + escape + rb"[" + quote + escape + rb"])*+"
        quoted, bare = quote + rb"(" + inner + rb")" + quote, rb"([^" + quote + sep + rb"\n]*)"
        self._cell = re.compile(rb"(?:" + quoted + rb"|" + bare + rb")(" + sep + rb"|\n)", re.DOTALL)
        self._said = re.compile(escape + rb"([" + quote + escape + rb"])")
        self._special = re.compile(rb"[" + quote + escape + rb"]")
        # What matters for finding the end of a row. With one character for both, a doubled quote closes and
        # opens.
        both = b"" if self._quote == self._escape else escape + rb"[" + quote + escape + rb"]|"
        self._marks = re.compile(both + quote + rb"|\n")
        self._seen, self._inside = 0, False

    def _take(self) -> Iterator[tuple[int, bytes, int]]:
        start = 0
        for stop in self._ends():
            line = bytes(self._data[start:stop])
            start = stop
            if self._header:
                self._header = False
                yield start, line, 0
            else:
                yield start, *self._line(line)
        self._seen -= start

    def _ends(self) -> Iterator[int]:
        """Yield the place after each line end that is not inside quotes."""
        unseen, used = bytes(self._data[self._seen :]), 0
        for match in self._marks.finditer(unseen):
            used = match.end()
            if match[0] == self._quote:
                self._inside = not self._inside
            elif match[0] == b"\n" and not self._inside:
                yield self._seen + used
        # An escape at the end waits for what it escapes, unless it is one that was escaped.
        waits = self._escape != self._quote and used < len(unseen) and unseen.endswith(self._escape)
        self._seen += len(unseen) - waits

    def _line(self, line: bytes) -> tuple[bytes, int]:
        out, at, count, changed = bytearray(), 0, 0, 0
        while at < len(line):
            match = self._cell.match(line, at)
            if match is None or count == len(self._masks):
                raise ProtocolError(f"a row that is not of {len(self._masks)} cells in a CSV COPY")
            mask = self._masks[count]
            new = None if mask is None else self._masked(match, mask)
            changed += new is not None
            out += match[0] if new is None else new + match[3]
            at, count = match.end(), count + 1
        self._width(count)
        return bytes(out), changed

    def _masked(self, match: re.Match[bytes], mask: Masker) -> bytes | None:
        """Return what goes down for a cell, None to leave it."""
        if match[1] is None and match[2] == self._null:
            return None
        old = match[2] if match[1] is None else self._said.sub(rb"\1", match[1])
        new = mask(old)
        if new is old:
            return None
        if new is None:
            return self._null
        return self._quote + self._special.sub(lambda m: self._escape + m[0], new) + self._quote


class BinaryCopy(_Rows):
    def __init__(self, masks: Maskers) -> None:
        super().__init__(masks)
        self._begun = self._done = False

    def _take(self) -> Iterator[tuple[int, bytes, int]]:
        at = 0
        try:
            head = b""
            if not self._begun:
                at = self._head()
                head = bytes(self._data[:at])
            while at < len(self._data):
                at, row, changed = self._tuple(at)
                # Clients expect the header where the server sends it: in one message with the first row.
                yield at, head + row, changed
                self._begun, head = True, b""
        except struct.error:
            return  # the rest of the row is still to come

    def _head(self) -> int:
        data = self._data
        if data[: len(SIGNATURE)] != SIGNATURE[: len(data)]:
            raise ProtocolError("a binary COPY without its signature")
        extra: int = INT32.unpack_from(data, 15)[0]
        end = 19 + extra
        if extra < 0:
            raise ProtocolError("a binary COPY with a header of negative length")
        if len(data) < end:
            raise struct.error
        return end

    def _tuple(self, at: int) -> tuple[int, bytes, int]:
        (width,) = INT16.unpack_from(self._data, at)
        start, at, changed = at, at + 2, 0
        if self._done:
            raise ProtocolError("bytes after the end of a binary COPY")
        if width == 0xFFFF:
            self._done = True
            return at, b"\xff\xff", 0
        self._width(width)
        parts = []
        for mask in self._masks:
            (size,) = INT32.unpack_from(self._data, at)
            at += 4
            old = None if size == -1 else bytes(self._data[at : at + max(size, 0)])
            if old is not None and len(old) != size:
                if size < 0:
                    raise ProtocolError(f"a cell of {size} bytes")
                raise struct.error
            at += max(size, 0)
            new = old if old is None or mask is None else mask(old)
            changed += new is not old
            parts.append(field(new))
        row = INT16.pack(width) + b"".join(parts) if changed else bytes(self._data[start:at])
        return at, row, changed
