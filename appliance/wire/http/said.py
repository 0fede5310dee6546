"""What the first lines of HTTP/1.1 messages say, as values. How they are read is in head.py."""

from collections.abc import Mapping
from typing import Literal

import msgspec

Framing = Literal["none", "length", "chunked", "close"]
ONCE = frozenset(
    (
        "host", "content-length", "transfer-encoding", "content-type", "content-encoding", "expect", "upgrade",
        "sec-websocket-key", "sec-websocket-version", "sec-websocket-accept",
    )
)  # fmt: skip


class Head(msgspec.Struct, frozen=True):
    """The first lines of a message; names of fields in small letters, in order."""

    version: str  # "1.0" or "1.1"
    fields: tuple[tuple[str, str], ...]
    named: Mapping[str, str]  # the fields among ONCE
    framing: Framing
    length: int  # bytes of the body, where that is how it is framed

    def values(self, name: str) -> list[str]:
        """Return the elements of a list field, in small letters."""
        found = [value for known, value in self.fields if known == name]
        return [part.strip().lower() for value in found for part in value.split(",") if part.strip()]


class Request(Head, frozen=True):
    """A request: the target as it was written, the host it is for, without the port's default."""

    method: str
    target: str
    host: str

    @property
    def waits(self) -> bool:
        """True if the client sends the body only when it is told to go on."""
        return self.version == "1.1" and self.named.get("expect", "").lower() == "100-continue"


class Response(Head, frozen=True):
    """A response."""

    status: int


class Agreed(msgspec.Struct, frozen=True):
    """What client and server of a WebSocket agreed on."""

    deflate: bool = False
    client_keeps: bool = True  # what it has said before, to pack what it says by that
    server_keeps: bool = True
