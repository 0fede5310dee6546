"""Masking of one cell so that it stays a value of its type.

A mask sees text and returns text. What comes back is written in the form of the result, text or binary, if it is a
value of the column's type; else the cell becomes NULL. So does a cell that cannot be shown to the mask. A mask that
returns what it was given leaves the bytes as they came.
"""

import json
import re
import struct
from collections.abc import Callable

from appliance.wire import Cell
from appliance.wire.mysql import charsets, values
from appliance.wire.mysql.charsets import BINARY, Charset
from appliance.wire.mysql.definition import Definition
from appliance.wire.mysql.values import Form

Masker = Callable[[bytes], bytes | None]
"""Masks the bytes of one cell, without their length; the same object when nothing is masked, None for NULL."""

# What the parts can raise when bytes or text are no value of the type.
INVALID = (ValueError, IndexError, OverflowError, struct.error, RecursionError)

LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')
FREE = frozenset({"", "json"})  # formats of MariaDB whose values may be any text, or are seen to here


def masker(definition: Definition, cell: Cell, binary: bool) -> Masker:
    """Return what masks the cells of a column."""
    mask = _choose(definition, cell, binary)

    def guarded(data: bytes) -> bytes | None:
        try:
            return mask(data)
        except INVALID:
            return None

    return guarded


def _choose(definition: Definition, cell: Cell, binary: bool) -> Masker:
    kind = definition.type
    charset = charsets.numbered(definition.charset)
    if kind == values.JSON or definition.format == "json":
        return _Json(cell, charsets.UTF8 if definition.charset == BINARY else charset)
    if kind in values.TEXTUAL and definition.format in FREE:
        return _Octets(cell) if definition.charset == BINARY else _Text(cell, charset)
    form = values.form(kind, definition.unsigned, definition.decimals)
    if form is not None and kind != values.BIT:
        return _Binary(form, cell) if binary else _Typed(form, cell)
    return _Opaque(form, cell)


class _Text:
    def __init__(self, cell: Cell, charset: Charset) -> None:
        self._cell, self._charset = cell, charset

    def __call__(self, data: bytes) -> bytes | None:
        text = self._charset.strict(data)
        new = self._cell(text)
        if new is text or new == text:
            return data
        return None if new is None else self._charset.encode(new)


class _Typed:
    """A value in text form; it must be one that has a binary form, too."""

    def __init__(self, form: Form, cell: Cell) -> None:
        self._form, self._cell = form, cell

    def __call__(self, data: bytes) -> bytes | None:
        text = data.decode("ascii")
        new = self._cell(text)
        if new == text:
            return data
        if new is None:
            return None
        self._form.write(new)
        return new.encode()


class _Binary:
    def __init__(self, form: Form, cell: Cell) -> None:
        self._form, self._cell = form, cell

    def __call__(self, data: bytes) -> bytes | None:
        text = self._form.read(data)
        new = self._cell(text)
        if new == text:
            return data
        return None if new is None else self._form.write(new)


class _Opaque:
    """A type a text cannot be written as (BIT, GEOMETRY, VECTOR, those of MariaDB with rules): what changes is NULL."""

    def __init__(self, form: Form | None, cell: Cell) -> None:
        self._form, self._cell = form, cell

    def __call__(self, data: bytes) -> bytes | None:
        text = self._form.read(data) if self._form else charsets.named("binary").strict(data)
        return data if self._cell(text) == text else None


class _Json:
    """JSON stays JSON: a masked text that is none becomes a string of it."""

    def __init__(self, cell: Cell, charset: Charset) -> None:
        self._cell, self._charset = cell, charset

    def __call__(self, data: bytes) -> bytes | None:
        text = self._charset.strict(data)
        new = self._cell(text)
        if new == text:
            # Escapes (\u0034) can hide from the mask what the string says.
            new = LITERAL.sub(self._literal, text) if "\\" in text else text
            return data if new == text else self._charset.encode(new)
        if new is None:
            return None
        try:
            json.loads(new)
        except (ValueError, RecursionError):
            new = json.dumps(new)
        return self._charset.encode(new)

    def _literal(self, match: re.Match[str]) -> str:
        if "\\" not in match[0]:
            return match[0]
        said = json.loads(match[0], strict=False)
        new = self._cell(said)
        return match[0] if new == said else "null" if new is None else json.dumps(new)


class _Octets:
    """Bytes: the mask sees them as UTF-8 where they are, else one byte as one character."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def __call__(self, data: bytes) -> bytes | None:
        codec = "utf-8"
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            codec = "latin-1"
            text = data.decode(codec)
        new = self._cell(text)
        if new == text:
            return data
        return None if new is None else new.encode(codec)
