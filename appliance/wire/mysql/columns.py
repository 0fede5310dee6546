"""Definitions of columns and parameters.

Sources: MySQL 8.4 source documentation, "Column Definition"; MariaDB documentation, "Result Set Packets" (extended
metadata).
"""

import msgspec

from appliance.model import Column, ProtocolError
from appliance.wire.mysql.capabilities import EXTENDED_METADATA
from appliance.wire.mysql.charsets import BINARY, Charset
from appliance.wire.mysql.packets import Fields

NOT_NULL = 1
UNSIGNED = 32
STRING = 254
FIXED = 12  # bytes of the fields of fixed length


class Definition(msgspec.Struct, frozen=True, gc=False):
    """A column as the server told it."""

    column: Column
    charset: int = BINARY  # number of a collation
    flags: int = 0
    decimals: int = 0
    format: str = ""  # MariaDB: "json", "uuid", "inet6" ... for a type that goes over the wire as another
    flags_at: int = 0  # where the flags are in the payload

    @property
    def type(self) -> int:
        return self.column.type

    @property
    def unsigned(self) -> bool:
        return bool(self.flags & UNSIGNED)


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
