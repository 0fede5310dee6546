"""Definitions of columns and parameters.

Sources: MySQL 8.4 source documentation, "Column Definition"; MariaDB documentation, "Result Set Packets" (extended
metadata).
"""

from appliance.model import Column, ProtocolError
from appliance.wire.mysql.capabilities import EXTENDED_METADATA
from appliance.wire.mysql.charsets import Charset
from appliance.wire.mysql.definition import Definition
from appliance.wire.mysql.packets import Fields

NOT_NULL = 1
STRING = 254
FIXED = 12  # bytes of the fields of fixed length
MAX_TOLD = 256  # definitions kept for one connection; programs repeat a few dozen statements
MAX_TOLD_SIZE = 512  # bytes of one that is kept; six names of at most 64 characters are rarely longer


class Definitions:
    """Reads the definitions of one connection; what is told again and again is read once."""

    def __init__(self) -> None:
        self._told: dict[tuple[bytes, int, int], Definition] = {}
        self._by: tuple[int, Charset] | None = None  # what they were read by

    def read(self, payload: bytes, capabilities: int, names: Charset, result: int, place: int) -> Definition:
        """Return a definition, as the function of that name."""
        if self._by is None or self._by[1] is not names or self._by[0] != capabilities:
            self._told.clear()
            self._by = (capabilities, names)
        key = (payload, result, place)
        found = self._told.get(key)
        if found is None:
            found = read(payload, capabilities, names, result, place)
            if len(payload) <= MAX_TOLD_SIZE and MAX_TOLD:
                if len(self._told) >= MAX_TOLD:
                    self._told.clear()
                self._told[key] = found
        return found


def read(payload: bytes, capabilities: int, names: Charset, result: int, place: int) -> Definition:
    """Read one definition; `place` is its number in the result."""
    fields = Fields(payload)
    fields.string()  # catalogue, always "def"
    schema, _, table, name, field = (fields.string() for _ in range(5))
    form = _extended(fields.string()) if capabilities & EXTENDED_METADATA else ""
    if fields.lenenc() != FIXED:
        raise ProtocolError("a column definition of a form that is not known")
    charset, _ = fields.number(2), fields.number(4)
    kind, flags_at = fields.number(1), fields.at
    flags, decimals = fields.number(2), fields.number(1)
    fields.take(2)
    origin = ".".join(quoted(names.decode(part)) for part in (schema, table, field)) if table and field else ""
    column = Column(names.decode(name), type=kind, origin=origin, result=result, place=place)
    return Definition(column, charset, flags, decimals, form, flags_at)


def unnamed(result: int, place: int) -> Definition:
    """Return the definition of a column the server said nothing of: a value that a mask changes becomes NULL."""
    return Definition(Column("", type=STRING, result=result, place=place), format="unknown")


def nullable(payload: bytes, definition: Definition) -> bytes:
    """Return the definition as one whose values may be NULL."""
    at = definition.flags_at
    return payload[:at] + bytes((payload[at] & ~NOT_NULL,)) + payload[at + 1 :]


def quoted(part: str) -> str:
    """Return a part of a dotted name; one with a dot or a quote in it goes in quotes."""
    return '"' + part.replace('"', '""') + '"' if "." in part or '"' in part else part


def _extended(data: bytes) -> str:
    """Return the name or format MariaDB adds to a type."""
    fields, found = Fields(data), ""
    while fields.left:
        fields.number(1)
        found = fields.string().decode("ascii", "replace")
    return found
