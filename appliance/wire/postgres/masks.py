"""Masking of rows: DataRow and FunctionCallResponse."""

import struct
from collections.abc import Callable, Sequence

from appliance.model import Column, ProtocolError
from appliance.wire import Plan
from appliance.wire.postgres.cells import Masker, masker, shown
from appliance.wire.postgres.encodings import Encoding
from appliance.wire.postgres.frames import INT32, NULL, field

HEAD = struct.Struct(">IH")  # length of the frame, number of cells
MAX_PAUSE = 63  # runs; so a look in vain costs a sixtieth of what it would
MAX_CELL = 0x7FFFFFFF  # bytes; sizes are signed, and -1 is NULL

Leaves = Callable[[bytes], bool]
"""Given values in UTF-8 with a zero byte between them: True if the plan changes none."""


class Maskers:
    """What masks each column of one result."""

    def __init__(self, each: Sequence[Masker | None], leaves: Leaves | None = None) -> None:
        self.each = list(each)
        self._leaves = leaves
        self._pause = self._rest = 0  # runs that are not looked over: all of them, and those still to come

    @property
    def looks(self) -> bool:
        """True if it is worth a look whether all values of the next run are left."""
        if self._leaves is None:
            return False
        if self._rest:
            self._rest -= 1
            return False
        return True

    def left(self, values: bytes) -> bool:
        """True if these values are left. They are shown to the plan as they are, where no backslash is in them.

        Where a run had something in it the next ones are likely to, so there the look is lost.
        """
        found = self._leaves is not None and b"\\" not in values and _utf8(values) and self._leaves(values)
        self._pause = 0 if found else min(2 * self._pause + 1, MAX_PAUSE)
        self._rest = self._pause
        return found


def maskers(plan: Plan | None, columns: tuple[Column, ...], encoding: Encoding) -> Maskers | None:
    """Return what masks each column, or None when the whole result is left as it is.

    A plan may say at once that it leaves a run of values (its attribute `leaves`). That is asked where a value is
    shown to it as it is on the wire.
    """
    cells = plan(columns) if plan is not None else None
    if cells is None or not any(cell is not None for cell in cells):
        return None
    if len(cells) != len(columns):
        raise ValueError(f"a plan of {len(cells)} cells for {len(columns)} columns")
    each = [
        None if cell is None else masker(column, cell, encoding)
        for cell, column in zip(cells, columns, strict=True)
    ]
    plainly = encoding.codec == "utf-8" and all(shown(column) for column in columns)
    leaves: Leaves | None = getattr(plan, "leaves", None) if plainly else None
    return Maskers(each, leaves)


def rows(data: bytes, start: int, end: int, masks: Maskers) -> tuple[bytes, int]:
    """Return the whole DataRow frames of data[start:end] masked, and how many cells that changed."""
    each = masks.each
    if masks.looks and _left(data, start, end, masks):
        return data[start:end], 0
    parts, kept, masked = list[bytes](), start, 0
    try:
        while start < end:
            stop = start + 1 + _number(data, start + 1)
            width = data[start + 5] << 8 | data[start + 6]
            if width != len(each):
                raise ProtocolError(f"a row of {width} cells where {len(each)} columns were told")
            row = _row(data, start + 7, stop, each)
            if row:
                masked += len(row) // 2
                body = b"".join(row)
                parts += (data[kept:start], b"D", HEAD.pack(len(body) + 6, width), body)
                kept = stop
            start = stop
    except IndexError:
        raise ProtocolError("a cell runs over the end of its row") from None
    parts.append(data[kept:end])
    return b"".join(parts), masked


def _number(data: bytes, at: int) -> int:
    """Read four bytes. By hand: compiled, a call of struct costs more than all else of a cell that is not masked."""
    return data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]


def _row(data: bytes, at: int, stop: int, each: list[Masker | None]) -> list[bytes]:
    """Return the cells of one row masked: what was before each that changed, that, and the rest; [] if none did."""
    row, kept = list[bytes](), at
    for mask in each:
        size = _number(data, at)
        at += 4
        if size > MAX_CELL:
            if size != NULL:
                raise ProtocolError(f"a cell of {size - 2 * MAX_CELL - 2} bytes")
            continue
        if mask is not None:
            old = data[at : at + size]
            new = mask(old)
            if new is not old:
                row += (data[kept : at - 4], field(new))
                kept = at + size
        at += size
    if at != stop:
        raise ProtocolError("the cells of a row do not end where it does")
    if row:
        row.append(data[kept:stop])
    return row


def _left(data: bytes, start: int, end: int, masks: Maskers) -> bool:
    """True if no value of whole rows is changed; what is not as it should be is left to `rows` to say."""
    each, values = masks.each, list[bytes]()
    try:
        while start < end:
            at, stop = start + 7, start + 1 + _number(data, start + 1)
            if data[start + 5] << 8 | data[start + 6] != len(each):
                return False
            for mask in each:
                size = _number(data, at)
                at += 4
                if size > MAX_CELL:
                    if size != NULL:
                        return False
                    continue
                if mask is not None:
                    values.append(data[at : at + size])
                at += size
            if at != stop:
                return False
            start = stop
    except IndexError:
        return False
    return masks.left(b"\0".join(values))


def _utf8(values: bytes) -> bool:
    try:
        values.decode()
    except UnicodeDecodeError:
        return False
    return True


def result(body: bytes, masks: Maskers) -> tuple[bytes, int]:
    """Return the one value of a FunctionCallResponse masked."""
    if len(body) < 4 or len(body) - 4 != max(INT32.unpack_from(body)[0], 0):
        raise ProtocolError("a function's result that does not end where its message does")
    mask = masks.each[0]
    if mask is None or body[:4] == b"\xff\xff\xff\xff":
        return body, 0
    new = mask(body[4:])
    return field(new), 1
