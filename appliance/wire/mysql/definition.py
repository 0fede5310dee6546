"""A column as the server told it."""

import msgspec

from appliance.model import Column
from appliance.wire.mysql.charsets import BINARY

UNSIGNED = 32


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
