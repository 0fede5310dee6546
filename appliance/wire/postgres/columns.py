"""What a server says of a result: its columns, and how it ended.

Source: PostgreSQL 17 manual, "Message Formats": RowDescription, CommandComplete.
"""

from appliance.model import Column
from appliance.wire.postgres.encodings import Encoding
from appliance.wire.postgres.frames import Fields

MAX_TOLD = 64  # descriptions kept for one connection; programs repeat a few dozen statements
MAX_TOLD_SIZE = 4096  # bytes of one that is kept; some 100 columns


def tag(encoding: Encoding, raw: bytes) -> str:
    """Read a CommandComplete."""
    if raw.find(b"\0", 5) == len(raw) - 1:
        return raw[5:-1].decode(encoding.codec or "ascii", "surrogateescape")
    fields = Fields(raw[5:], encoding)
    said = fields.string()
    fields.end()
    return said


class Descriptions:
    """Reads the RowDescriptions of one connection; what is described again and again is read once."""

    def __init__(self) -> None:
        self._told: dict[bytes, tuple[Column, ...]] = {}
        self._encoding: Encoding | None = None  # they were read in

    def read(self, encoding: Encoding, raw: bytes) -> tuple[Column, ...]:
        """Return the columns of a RowDescription."""
        if encoding is not self._encoding:
            self._told.clear()
            self._encoding = encoding
        found = self._told.get(raw)
        if found is None:
            found = columns(encoding, raw)
            if len(raw) <= MAX_TOLD_SIZE and MAX_TOLD:
                if len(self._told) >= MAX_TOLD:
                    self._told.clear()
                self._told[raw] = found
        return found


def columns(encoding: Encoding, raw: bytes) -> tuple[Column, ...]:
    """Read a RowDescription."""
    fields = Fields(raw[5:], encoding)
    found = []
    for _ in range(fields.int16()):
        name, table, attribute, kind = fields.string(), fields.int32(), fields.int16(), fields.int32()
        fields.take(6)  # size of the type and its modifier
        found.append(Column(name, table, attribute, kind, fields.int16() == 1))
    fields.end()
    return tuple(found)
