"""Frames of a WebSocket, and the packing of messages.

Source: RFC 6455 section 5, RFC 7692 section 7.2.
"""

import zlib

import msgspec

from appliance.model import ProtocolError

CONTINUES, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MAX_CONTROL = 125  # bytes; RFC 6455 section 5.5
MAX_LENGTH = 1 << 40  # bytes of a frame; a terabyte is no message
TAIL = b"\0\0\xff\xff"  # RFC 7692 section 7.2.2
ENDS = (b"", TAIL, b"\0" + TAIL)  # what may stand behind a last block; RFC 7692 section 7.2.3.4


class Frame(msgspec.Struct, frozen=True):
    """The head of a frame."""

    raw: bytes
    last: bool  # of its message
    packed: bool
    opcode: int
    key: bytes  # of a client's; its bytes are masked with it
    length: int

    @property
    def control(self) -> bool:
        return self.opcode >= CLOSE


def frame(data: bytearray, masked: bool, deflate: bool) -> Frame | None:
    """Take the head of a frame from the front of a buffer; None while it is not whole. `masked`: a client's.

    Raises:
        ProtocolError: no peer may send it.
    """
    if len(data) < 2:
        return None
    first, second = data[0], data[1]
    if bool(second & 0x80) != masked:
        raise ProtocolError(f"a frame of a {'client that is not' if masked else 'server that is'} masked")
    size = second & 0x7F
    wide = {126: 2, 127: 8}.get(size, 0)
    end = 2 + wide + (4 if masked else 0)
    if len(data) < end:
        return None
    length = int.from_bytes(data[2 : 2 + wide]) if wide else size
    key = bytes(data[end - 4 : end]) if masked else b""
    found = Frame(bytes(data[:end]), bool(first & 0x80), bool(first & 0x40), first & 15, key, length)
    _check(found, first, wide, deflate)
    del data[:end]
    return found


def _check(found: Frame, first: int, wide: int, deflate: bool) -> None:
    if first & 0x30 or found.opcode not in (CONTINUES, TEXT, BINARY, CLOSE, PING, PONG):
        raise ProtocolError("a frame of an extension that was not agreed on")
    if found.packed and (not deflate or found.opcode not in (TEXT, BINARY)):
        raise ProtocolError("a packed frame where none may be")
    if found.control and (not found.last or found.length > MAX_CONTROL):
        raise ProtocolError(f"a control frame in parts, or over {MAX_CONTROL} bytes")
    if (wide == 2 and found.length < 126) or (wide == 8 and found.length < 1 << 16) or found.length > MAX_LENGTH:
        raise ProtocolError("a frame whose length is not written in the shortest form, or too long")


def masked(data: bytes, key: bytes) -> bytes:
    """Return data masked with a key, or unmasked; without a key as it is."""
    if not key or not data:
        return data
    mask = (key * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(mask)).to_bytes(len(data))


def built(opcode: int, data: bytes, key: bytes = b"") -> bytes:
    """Return a message in one frame, not packed."""
    high = 0x80 if key else 0
    size = len(data)
    if size < 126:
        head = bytes((0x80 | opcode, high | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, high | 126)) + size.to_bytes(2)
    else:
        head = bytes((0x80 | opcode, high | 127)) + size.to_bytes(8)
    return head + key + masked(data, key)


class Inflater:
    """Opens the messages of one side. `keeps`: each may be packed by those before it."""

    def __init__(self, keeps: bool) -> None:
        self._keeps = keeps
        self._opener = zlib.decompressobj(-zlib.MAX_WBITS)

    def opened(self, data: bytes, limit: int) -> bytes:
        """Return a message opened.

        Raises:
            ProtocolError: it cannot be, or is over the limit.
        """
        try:
            out = self._opener.decompress(data + TAIL, limit + 1)
        except zlib.error as error:
            raise ProtocolError(f"a packed message that cannot be opened: {error}") from None
        if len(out) > limit or self._opener.unconsumed_tail:
            raise ProtocolError(f"a message over {limit} bytes when opened")
        if self._opener.unused_data not in ENDS:
            raise ProtocolError("a packed message goes on behind its end, where only some read on")
        if self._opener.eof or not self._keeps:
            self._opener = zlib.decompressobj(-zlib.MAX_WBITS)
        return out
