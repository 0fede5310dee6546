"""Masking of rows: DataRow and FunctionCallResponse."""

import struct
from collections.abc import Sequence

from appliance.model import Column, ProtocolError
from appliance.wire import Plan
from appliance.wire.postgres.cells import Masker, masker
from appliance.wire.postgres.encodings import Encoding
from appliance.wire.postgres.frames import INT32, field

HEAD = struct.Struct(">IH")  # length of the frame, number of cells

Maskers = Sequence[Masker | None]


def maskers(plan: Plan | None, columns: tuple[Column, ...], encoding: Encoding) -> Maskers | None:
    """Return what masks each column, or None when the whole result is left as it is."""
    cells = plan(columns) if plan is not None else None
    if cells is None or not any(cell is not None for cell in cells):
        return None
    if len(cells) != len(columns):
        raise ValueError(f"a plan of {len(cells)} cells for {len(columns)} columns")
    return [
        None if cell is None else masker(column, cell, encoding)
        for cell, column in zip(cells, columns, strict=True)
    ]


def rows(data: bytes, start: int, end: int, masks: Maskers) -> tuple[bytes, int]:
    """Return the whole DataRow frames of data[start:end] masked, and how many cells that changed."""
    out, masked = bytearray(), 0
    try:
        while start < end:
            size, width = HEAD.unpack_from(data, start + 1)
            stop = start + 1 + size
            if width != len(masks):
                raise ProtocolError(f"a row of {width} cells where {len(masks)} columns were told")
            row, changed = _row(data, start + 7, stop, masks)
            if changed:
                masked += changed
                out += b"D" + HEAD.pack(len(row) + 6, width) + row
            else:
                out += data[start:stop]
            start = stop
    except struct.error:
        raise ProtocolError("a cell runs over the end of its row") from None
    return bytes(out), masked


def _row(data: bytes, at: int, stop: int, masks: Maskers) -> tuple[bytearray, int]:
    """Return the cells of one row masked (empty if none changed), and how many changed."""
    row, kept, changed = bytearray(), at, 0
    for mask in masks:
        (size,) = INT32.unpack_from(data, at)
        at += 4
        if size < 0:
            if size != -1:
                raise ProtocolError(f"a cell of {size} bytes")
            continue
        if mask is not None:
            old = data[at : at + size]
            new = mask(old)
            if new is not old:
                row += data[kept : at - 4]
                row += field(new)
                kept = at + size
                changed += 1
        at += size
    if at != stop:
        raise ProtocolError("the cells of a row do not end where it does")
    if changed:
        row += data[kept:stop]
    return row, changed


def result(body: bytes, masks: Maskers) -> tuple[bytes, int]:
    """Return the one value of a FunctionCallResponse masked."""
    if len(body) < 4 or len(body) - 4 != max(INT32.unpack_from(body)[0], 0):
        raise ProtocolError("a function's result that does not end where its message does")
    mask = masks[0]
    if mask is None or body[:4] == b"\xff\xff\xff\xff":
        return body, 0
    new = mask(body[4:])
    return field(new), 1
