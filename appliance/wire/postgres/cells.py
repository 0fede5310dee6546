"""Masking of one cell so that it stays a value of its type.

A mask sees text and returns text. What comes back is written in the form the client asked for if it is a
value of the column's type; else the cell becomes NULL. So does a cell that cannot be shown to the mask: no
codec, a binary form of a type unknown here. A mask that returns what it was given leaves the bytes as they
came.
"""

import json
import re
import struct
from collections.abc import Callable

from appliance.model import Column
from appliance.wire import Cell
from appliance.wire.postgres.encodings import Encoding
from appliance.wire.postgres.frames import INT32, field
from appliance.wire.postgres.values import ARRAYS, BYTEA, FORMS, JSON, JSONB, TEXT, XML, Form

Masker = Callable[[bytes], bytes | None]
"""Masks the bytes of one cell; the same object when nothing is masked, None for NULL."""

MAX_DIMENSIONS = 6  # MAXDIM of the server
MAX_ELEMENTS = 500_000  # different ones of one array; ours: a mask takes microseconds for each. More: the cell is NULL

# What the parts can raise when bytes or text are no value of the type.
INVALID = (ValueError, IndexError, OverflowError, struct.error, RecursionError)

# Repeats give nothing back, here and below: what they could give back would be kept, 25 bytes for each of a value's.
LITERAL = re.compile(r'"(?:[^"\\]++|\\.)*+"')
ESCAPED = re.compile(rb"\\(\\|[0-3][0-7][0-7])")
# What an array in text form is made of, by the separator: braces and separators, elements in quotes, and those without
# anything that would need them.
PARTS = {sep: re.compile(rf'[{{}}{sep}]++|"(?:[^"\\]++|\\.)*+"|[^{{}}{sep}"\\]++', re.DOTALL) for sep in ",;"}


def remask(data: bytes, column: Column, cell: Cell, encoding: Encoding) -> bytes | None:
    """Mask one cell that is not NULL."""
    return masker(column, cell, encoding)(data)


def masker(column: Column, cell: Cell, encoding: Encoding) -> Masker:
    """Return what masks the cells of a column."""
    kind, binary = column.type, column.binary
    mask: Masker
    if kind in TEXT:
        mask = _Text(cell, encoding, 1 if kind == 18 else None)
    elif kind in {JSON, JSONB}:
        mask = _Json(cell, encoding, b"\1" if binary and kind == JSONB else b"")
    elif kind == BYTEA:
        mask = _Octets(cell, binary)
    elif kind in ARRAYS:
        array = _BinaryArray if binary else _TextArray
        mask = array(ARRAYS[kind], cell, encoding)
    elif binary and kind != XML:
        mask = _Binary(FORMS.get(kind), cell)
    else:
        mask = _Typed(FORMS.get(kind), cell, encoding)

    def guarded(data: bytes) -> bytes | None:
        try:
            return mask(data)
        except INVALID:
            return None

    return guarded


def shown(column: Column) -> bool:
    """True if a mask is shown each value as it is on the wire, where no backslash is in it."""
    kind = column.type
    return kind in TEXT or (not column.binary and kind != BYTEA and kind not in ARRAYS)


class _Text:
    def __init__(self, cell: Cell, encoding: Encoding, most: int | None) -> None:
        self._cell, self._encoding, self._most = cell, encoding, most

    def __call__(self, data: bytes) -> bytes | None:
        text = self._encoding.strict(data)
        new = self._cell(text)
        if new is text or new == text:
            return data
        if new is None or "\0" in new or (self._most is not None and len(new) > self._most):
            return None
        return self._encoding.encode(new)


class _Typed:
    """A value in text form; written through its binary form, it goes down as the server would say it."""

    def __init__(self, form: Form | None, cell: Cell, encoding: Encoding) -> None:
        self._form, self._cell, self._encoding = form, cell, encoding

    def __call__(self, data: bytes) -> bytes | None:
        text = self._encoding.strict(data)
        new = self._cell(text)
        if new == text:
            return data
        if new is None or self._form is None or self._form.write is None:
            return None
        return self._form.read(self._form.write(new)).encode()


class _Binary:
    def __init__(self, form: Form | None, cell: Cell) -> None:
        self._form, self._cell = form, cell

    def __call__(self, data: bytes) -> bytes | None:
        if self._form is None:
            return None
        text = self._form.read(data)
        new = self._cell(text)
        if new == text:
            return data
        return None if new is None or self._form.write is None else self._form.write(new)


class _Json:
    """JSON stays JSON: a masked text that is none becomes a string of it."""

    def __init__(self, cell: Cell, encoding: Encoding, version: bytes) -> None:
        self._cell, self._encoding, self._version = cell, encoding, version

    def __call__(self, data: bytes) -> bytes | None:
        head = data[: len(self._version)]
        if head != self._version:
            return None
        text = self._encoding.strict(data[len(head) :])
        new = self._cell(text)
        if new == text:
            # Escapes (\u0034) can hide from the mask what the string says.
            new = LITERAL.sub(self._literal, text) if "\\" in text else text
            return data if new == text else head + self._encoding.encode(new)
        if new is None:
            return None
        try:
            json.loads(new)
        except (ValueError, RecursionError):
            new = json.dumps(new)
        return head + self._encoding.encode(new)

    def _literal(self, match: re.Match[str]) -> str:
        if "\\" not in match[0]:
            return match[0]
        said = json.loads(match[0], strict=False)
        new = self._cell(said)
        return match[0] if new == said else "null" if new is None else json.dumps(new)


class _Octets:
    """bytea: the mask sees the bytes as text, not their hexadecimal form, which would hide all from it."""

    def __init__(self, cell: Cell, binary: bool) -> None:
        self._cell, self._binary = cell, binary

    def __call__(self, data: bytes) -> bytes | None:
        raw = data if self._binary else _octets(data)
        codec = "utf-8"
        try:
            text = raw.decode(codec)
        except UnicodeDecodeError:
            codec = "latin-1"
            text = raw.decode(codec)
        new = self._cell(text)
        if new == text:
            return data
        if new is None:
            return None
        coded = new.encode(codec)
        return coded if self._binary else b"\\x" + coded.hex().encode()


def _octets(data: bytes) -> bytes:
    """Return what the text form of a bytea says, hex or escape."""
    if data[:2] == b"\\x":
        return bytes.fromhex(data[2:].decode("ascii"))
    return ESCAPED.sub(lambda m: b"\\" if m[1] == b"\\" else bytes([int(m[1], 8)]), data)


class _TextArray:
    """An array in text form, of any depth: braces and commas stay, elements are masked one by one."""

    def __init__(self, element: int, cell: Cell, encoding: Encoding) -> None:
        self._mask = masker(Column("", type=element), cell, encoding)
        self._encoding = encoding
        self._separator = ";" if element == 603 else ","  # typdelim of box
        self._bare = element in {21, 26}  # int2vector, oidvector: blanks, no braces

    def __call__(self, data: bytes) -> bytes | None:
        text = self._encoding.strict(data)
        if self._bare and not text.startswith(("{", "[")):
            return data if all(self._mask(part.encode()) == part.encode() for part in text.split()) else None
        at = text.index("{")  # "[2:3]={a,b}" has its bounds before
        out, known = [text[:at]], dict[str, str]()  # what parts become: values repeat, and braces more so
        braces = "{}" + self._separator
        for match in PARTS[self._separator].finditer(text, at):
            if match.start() != at:
                break
            at, part = match.end(), match[0]
            new = known.get(part)
            if new is None:
                if len(known) >= MAX_ELEMENTS:
                    return None
                new = known[part] = part if part[0] in braces else self._element(part)
            out.append(new)
        if at != len(text):
            raise ValueError(text)
        return self._encoding.encode("".join(out)) if any(part != new for part, new in known.items()) else data

    def _element(self, part: str) -> str:
        quoted = part.startswith('"')
        if not quoted and part.upper() == "NULL":
            return part
        said = re.sub(r"\\(.)", r"\1", part[1:-1] if quoted else part, flags=re.DOTALL)
        coded = self._encoding.encode(said)
        new = self._mask(coded)
        if new is None:
            return "NULL"
        if new == coded:
            return part
        return '"' + re.sub(r'(["\\])', r"\\\1", self._encoding.strict(new)) + '"'


class _BinaryArray:
    def __init__(self, element: int, cell: Cell, encoding: Encoding) -> None:
        self._element = element
        self._mask = masker(Column("", type=element, binary=True), cell, encoding)

    def __call__(self, data: bytes) -> bytes | None:
        dimensions, _, element = struct.unpack_from(">iiI", data)
        if not 0 <= dimensions <= MAX_DIMENSIONS or element != self._element:
            return None
        at = 12 + 8 * dimensions
        out, null, changed = [data[12:at]], False, False
        known = dict[bytes, bytes | None]()
        while at < len(data):
            (size,) = INT32.unpack_from(data, at)
            at += 4
            old = None if size == -1 else data[at : at + size]
            if old is not None and len(old) != size:
                return None
            at += max(size, 0)
            if old is not None and old not in known:
                if len(known) >= MAX_ELEMENTS:
                    return None
                known[old] = self._mask(old)
            new = None if old is None else known[old]
            changed = changed or new != old
            null = null or new is None
            out.append(field(new))
        return struct.pack(">iiI", dimensions, null, element) + b"".join(out) if changed else data
