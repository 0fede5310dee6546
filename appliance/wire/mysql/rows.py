"""Masking of rows, text and binary.

Sources: MySQL 8.4 source documentation, "Text Resultset Row", "Binary Protocol Resultset Row".
"""

from collections.abc import Sequence

from msgspec.structs import replace

from appliance.model import ProtocolError
from appliance.wire import Plan
from appliance.wire.mysql import cells
from appliance.wire.mysql.cells import Masker
from appliance.wire.mysql.definition import Definition
from appliance.wire.mysql.packets import NULL, Fields, string
from appliance.wire.mysql.values import TIMED, WIDTHS, cell

Definitions = Sequence[Definition]
OFFSET = 2  # of the first column in the NULL bitmap of a row
NULL_CELL = bytes((NULL,))
MALFORMED = 0xFF  # first byte of a length that is none


class Masks:
    """What masks the rows of one result."""

    def __init__(self, definitions: Definitions, maskers: Sequence[Masker | None], binary: bool) -> None:
        self._definitions, self._maskers = definitions, maskers
        self.places = [place for place, mask in enumerate(maskers) if mask is not None]
        self._row = self._binary if binary else self._text

    def row(self, payload: bytes) -> tuple[bytes, int]:
        """Return a row masked (the same object if nothing changed), and how many cells changed.

        Raises:
            ProtocolError: it is not a row of these columns.
        """
        return self._row(payload)

    def _text(self, payload: bytes) -> tuple[bytes, int]:
        at = kept = changed = 0
        end = len(payload)
        out: list[bytes] = []
        for mask in self._maskers:
            begin = at
            first = payload[at] if at < end else MALFORMED
            if first == NULL:
                at += 1
                continue
            start, size = (at + 1, first) if first < NULL else _length(payload, at)
            at = start + size
            if at > end:
                raise ProtocolError("a field runs over the end of its packet")
            if mask is None:
                continue
            old = payload[start:at]
            new = mask(old)
            if new is not old:
                out += (payload[kept:begin], NULL_CELL if new is None else string(new))
                kept = at
                changed += 1
        if at < end:
            raise ProtocolError("bytes after the last field of a packet")
        return (b"".join([*out, payload[kept:]]), changed) if changed else (payload, 0)

    def _binary(self, payload: bytes) -> tuple[bytes, int]:
        size = (len(self._maskers) + 7 + OFFSET) // 8
        fields = Fields(payload, 1)
        if payload[:1] != b"\0":
            raise ProtocolError("a row that is not in binary form")
        nulls = bytearray(fields.take(size))
        out, kept, changed = bytearray(), fields.at, 0
        for place, (definition, mask) in enumerate(zip(self._definitions, self._maskers, strict=True), OFFSET):
            if nulls[place // 8] >> place % 8 & 1:
                continue
            begin = fields.at
            old = cell(definition.type, fields)
            if mask is None:
                continue
            new = mask(old)
            if new is not old:
                out += payload[kept:begin]
                if new is None:
                    nulls[place // 8] |= 1 << place % 8
                else:
                    out += _written(definition.type, new)
                kept = fields.at
                changed += 1
        fields.end()
        return (b"\0" + bytes(nulls) + bytes(out) + payload[kept:], changed) if changed else (payload, 0)


def _length(payload: bytes, at: int) -> tuple[int, int]:
    """Return where a cell of a long length begins, and that length."""
    fields = Fields(payload, at)
    size = fields.lenenc()
    return fields.at, size


def _written(kind: int, data: bytes) -> bytes:
    """Write one value in binary form, with its length where it has one."""
    if kind in WIDTHS:
        return data
    return bytes((len(data),)) + data if kind in TIMED else string(data)


def masked(plan: Plan | None, definitions: Definitions) -> list[int]:
    """Return the places of the columns that a plan may change."""
    chosen = plan(tuple(definition.column for definition in definitions)) if plan is not None else None
    return [place for place, one in enumerate(chosen or ()) if one is not None]


def masks(plan: Plan | None, definitions: Definitions, binary: bool, known: bool = True) -> Masks | None:
    """Return what masks the rows of a result, or None when it is left as it is.

    `known` False: the server told nothing of the columns but their number.

    Raises:
        ProtocolError: the rows cannot be read without that.
    """
    if plan is None:
        return None
    columns = tuple(replace(definition.column, binary=binary) for definition in definitions)
    chosen = plan(columns)
    if chosen is None or not any(one is not None for one in chosen):
        return None
    if len(chosen) != len(columns):
        raise ValueError(f"a plan of {len(chosen)} cells for {len(columns)} columns")
    if binary and not known:
        raise ProtocolError("rows that a plan is for come without a description of their columns")
    maskers = [
        None if one is None else cells.masker(definition, one, binary)
        for one, definition in zip(chosen, definitions, strict=True)
    ]
    return Masks(definitions, maskers, binary)
