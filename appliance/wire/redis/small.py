"""A small reply as a whole, for what it says of the connection.

Source: Redis documentation, "Redis serialization protocol specification". Not handled: attributes, what is streamed.
"""

from appliance.model import ProtocolError
from appliance.wire.redis import frames
from appliance.wire.redis.frames import CRLF, MAX_SMALL
from appliance.wire.redis.tags import AGGREGATES, ATTRIBUTE, INTEGER, LINES, STRINGS

Tree = bytes | int | None | list["Tree"]

MAX_LEVELS = 16  # of such a reply; that of HELLO has 4


class _Short(Exception):
    """Too little is there."""


def whole(data: bytearray, at: int, limit: int) -> tuple[Tree, int] | None:
    """Return the value at `at` and where it ends, or None if it is not whole.

    Raises:
        ProtocolError: it is none, or is longer than `limit` bytes.
    """
    try:
        value, end = _value(data, at, 0)
    except _Short:
        end, value = len(data), None
        if end - at <= limit:
            return None
    if end - at > limit:
        raise ProtocolError(f"a reply that must be whole of more than {limit} bytes")
    return value, end


def first(data: bytearray, at: int) -> tuple[bytes, bytes] | None:
    """Return the first two of the aggregate at `at`, in place of what is no string b""; None: not whole."""
    found = [b"", b""]
    try:
        size, start = _length(data, at)
        for place in range(min(size, 2)):
            if start >= len(data):
                raise _Short
            if data[start] not in STRINGS:
                break
            value, start = _value(data, start, 0)
            found[place] = value if isinstance(value, bytes) else b""
    except _Short:
        if len(data) - at <= MAX_SMALL:
            return None
    return found[0], found[1]


def _length(data: bytearray, at: int) -> tuple[int, int]:
    found = frames.length(data, at, "a reply")
    if found is None:
        raise _Short
    return found


def _value(data: bytearray, at: int, depth: int) -> tuple[Tree, int]:
    if at >= len(data):
        raise _Short
    tag = data[at]
    if tag in LINES:
        end = data.find(CRLF, at)
        if end < 0:
            raise _Short
        text = bytes(data[at + 1 : end])
        found = frames.number(text) if tag == INTEGER else None
        return text if found is None else found, end + 2
    if (tag not in STRINGS and tag not in AGGREGATES) or tag == ATTRIBUTE or depth > MAX_LEVELS:
        raise ProtocolError(f"the server sends {chr(tag)!r} where a value begins")
    size, at = _length(data, at)
    if size < 0:
        return None, at
    if tag in STRINGS:
        if len(data) < at + size + 2:
            raise _Short
        return bytes(data[at : at + size]), at + size + 2
    found_all: list[Tree] = []
    for _ in range(size * AGGREGATES[tag]):
        value, at = _value(data, at, depth + 1)
        found_all.append(value)
    return found_all, at
