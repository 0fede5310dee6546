"""Where the body of an HTTP/1.1 message ends, and what is in it.

Source: RFC 9112, sections 6 and 7; RFC 9110 section 6.5.1. Chunk extensions are taken and never looked at; their length
has a limit. A trailer field may not be one by which a message is framed, routed or read: some recipients take it for a
field of the head, most do not.
"""

import re
from typing import Literal

from appliance.model import ProtocolError
from appliance.wire.http.head import MAX_LENGTH
from appliance.wire.http.said import ONCE, Head

MAX_SIZE_LINE = 4096  # bytes of a chunk's size and extensions; nginx and h11 take about as many
MAX_ASIDE = 4 << 20  # bytes of extensions and trailers kept; over what makes a request oversize (connection.py)
MAX_TRAILERS = 16 * 1024  # bytes of trailer fields; ours: nobody sends more than a checksum
SIZE = re.compile(rb"([0-9A-Fa-f]{1,13})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")
TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class Body:
    """Takes bytes from the front of a buffer until the body is whole."""

    def __init__(self, head: Head) -> None:
        self._framing, self._left = head.framing, head.length
        self._state: Literal["size", "data", "end", "trailers"] = "size"
        self._trailers = 0
        self.aside = bytearray()  # what is said beside the data: extensions of chunks and trailers, a line each
        self.done = head.framing == "none" or (head.framing == "length" and not head.length)

    def take(self, buffer: bytearray, single: bool = False) -> tuple[bytes, bytes]:
        """Take what has come of it, as it was on the wire, and what that carries.

        A part of a chunk's size line waits in the buffer.

        `single`: of a chunked one no more than the chunk that comes, so that what a server said at once is one piece.

        Raises:
            ProtocolError: the framing is broken.
        """
        if self.done:
            return b"", b""
        if self._framing == "chunked":
            return self._chunks(buffer, single)
        size = len(buffer) if self._framing == "close" else min(self._left, len(buffer))
        raw = bytes(buffer[:size])
        del buffer[:size]
        if self._framing == "length":
            self._left -= size
            self.done = not self._left
        return raw, raw

    def end(self) -> None:
        """The side will send no more.

        Raises:
            ProtocolError: the body is not whole.
        """
        if self._framing == "close":
            self.done = True
        elif not self.done:
            raise ProtocolError("the connection ended inside a body")

    def _chunks(self, buffer: bytearray, single: bool) -> tuple[bytes, bytes]:
        at: int = 0
        data: list[bytes] = []
        while not self.done:
            if self._state == "data":
                size = min(self._left, len(buffer) - at)
                data.append(bytes(buffer[at : at + size]))
                at, self._left = at + size, self._left - size
                if self._left:
                    break
                self._state = "end"
            line = self._line(buffer, at)
            if line is None:
                break
            at += len(line) + 2
            self._meet(line)
            if single and data and self._state == "size":
                break
        raw = bytes(buffer[:at])
        del buffer[:at]
        return raw, b"".join(data)

    def _line(self, buffer: bytearray, at: int) -> bytes | None:
        """Return the line at `at` without its CR LF; None while it is not whole."""
        if self._state == "end":
            if not b"\r\n".startswith(buffer[at : at + 2]):
                raise ProtocolError("a chunk is longer than its size")
            return None if len(buffer) - at < 2 else b""
        end = buffer.find(b"\r\n", at, at + MAX_SIZE_LINE + 2)
        if end < 0:
            if len(buffer) - at > MAX_SIZE_LINE or b"\n" in buffer[at:]:
                raise ProtocolError("a chunk's line without CR LF, or too long")
            return None
        return bytes(buffer[at:end])

    def _meet(self, line: bytes) -> None:
        if self._state == "end":
            self._state = "size"
        elif self._state == "size":
            size = SIZE.fullmatch(line)
            if size is None or int(size[1], 16) > MAX_LENGTH:
                raise ProtocolError("a chunk without a size in hexadecimal digits")
            self._left = int(size[1], 16)
            self._state = "data" if self._left else "trailers"
            if size[2]:
                self._beside(b"chunk-extension: " + size[2])
        elif not line:
            self.done = True
        else:
            self._trailers += len(line) + 2
            if self._trailers > MAX_TRAILERS or not TRAILER.fullmatch(line):
                raise ProtocolError("trailer fields that are too long or are none")
            if line.partition(b":")[0].decode().lower() in ONCE:
                raise ProtocolError("a trailer field that may stand in a head only")
            self._beside(line)

    def _beside(self, line: bytes) -> None:
        if len(self.aside) + len(line) < MAX_ASIDE:
            self.aside += line + b"\n"
