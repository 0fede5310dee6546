"""Compression: packets inside frames that are deflated, or not, one by one.

Source: MySQL 8.4 source documentation, "Compression"; MySQL 8.0 manual, "Connection Compression Control".

Theory of operation. A frame is a header (length of what follows, sequence number, length before compression or 0 for
"not compressed") and a piece of the stream of packets; packets and frames begin and end where they like. Frames have
sequence numbers of their own, from 0 at each command, which the servers check; the packets' own numbers inside are
made equal to them at every flush by the servers and checked by nobody.

A message of the client that fills its frames goes up in them as they came. All else is framed anew. Frames are taken
apart one at a time: one of 16 KiB may hold 16 MiB.
"""

import zlib
from collections import deque
from typing import Literal

import zstandard

from appliance.model import ProtocolError
from appliance.wire.mysql.frame import Frame
from appliance.wire.mysql.packets import FULL, Inbox

Algorithm = Literal["", "zlib", "zstd"]

LEAST = 50  # bytes; MIN_COMPRESS_LENGTH of the server: less is not worth it
LEVELS = {"zlib": 1, "zstd": 3}  # ours: the client is on this host, what counts is time
MAX_WINDOW = 1 << 25  # bytes; ours: a frame has at most 16 MiB, so no honest window is larger
MAX_FRAMES = 65_536  # kept, of one message; ours: one of 64 MiB in frames of 1 KiB. Each takes some 150 bytes of ours
INVALID = (zlib.error, zstandard.ZstdError, ValueError)


def pack(payload: bytes, sequence: int, algorithm: Algorithm) -> bytes:
    """Write frames that hold `payload`, numbered from `sequence`."""
    out = bytearray()
    for at in range(0, len(payload), FULL):
        piece = payload[at : at + FULL]
        small = _deflate(piece, algorithm) if len(piece) >= LEAST else piece
        before = len(piece) if len(small) < len(piece) else 0
        body = small if before else piece
        out += len(body).to_bytes(3, "little") + bytes((sequence & 0xFF,)) + before.to_bytes(3, "little") + body
        sequence += 1
    return bytes(out)


def unpack(raw: bytes, algorithm: Algorithm) -> bytes:
    """Return what is in the whole frames of `raw`."""
    out, at = bytearray(), 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 3], "little")
        before = int.from_bytes(raw[at + 4 : at + 7], "little")
        out += _inflate(bytes(raw[at + 7 : at + 7 + size]), before, algorithm)
        at += 7 + size
    return bytes(out)


def renumber(raw: bytes, sequence: int) -> tuple[bytes, int]:
    """Return the whole frames in `raw` numbered from `sequence`, and the number after the last."""
    out, at = bytearray(raw), 0
    while at < len(out):
        out[at + 3] = sequence & 0xFF
        at += 7 + int.from_bytes(out[at : at + 3], "little")
        sequence += 1
    return bytes(out), sequence & 0xFF


def last_frame(raw: bytes) -> int:
    """Return the sequence number of the last of the whole frames in `raw`."""
    at = last = 0
    while at < len(raw):
        last = raw[at + 3]
        at += 7 + int.from_bytes(raw[at : at + 3], "little")
    return last


def _deflate(data: bytes, algorithm: Algorithm) -> bytes:
    if algorithm == "zstd":
        return zstandard.ZstdCompressor(LEVELS["zstd"]).compress(data)
    return zlib.compress(data, LEVELS["zlib"])


def _inflate(data: bytes, size: int, algorithm: Algorithm) -> bytes:
    """Return what `data` holds, which must be `size` bytes; 0: it is not compressed."""
    if not size:
        return data
    try:
        out = _unzstd(data, size) if algorithm == "zstd" else _unzlib(data, size)
    except INVALID as error:
        raise ProtocolError(f"a compressed frame that cannot be read: {error}") from None
    if len(out) != size:
        raise ProtocolError("a compressed frame of another size than it says")
    return out


def _unzlib(data: bytes, size: int) -> bytes:
    stream = zlib.decompressobj()
    out = stream.decompress(data, size)
    if not stream.eof:
        out += stream.decompress(stream.unconsumed_tail, 1)  # its end mark is a step of its own
    if not stream.eof or stream.unused_data:
        raise ValueError("it does not end where it should")
    return out


def _unzstd(data: bytes, size: int) -> bytes:
    told = zstandard.get_frame_parameters(data).content_size
    if told not in (size, zstandard.CONTENTSIZE_UNKNOWN):
        raise ValueError("it says two sizes")
    return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompress(data, max_output_size=size)


class Stream:
    """One direction: an inbox of packets, filled from the bytes that come, through frames once there are any.

    With `keep`, `take` gives the frames that packets came in.
    """

    def __init__(self, keep: bool = True) -> None:
        self._keep = keep
        self.inbox = Inbox()
        self.algorithm: Algorithm = ""
        self.sequence = 0  # of the frame that held the last byte taken; if none are kept, of the last one here
        self._outer = Inbox()
        self._frames: deque[Frame] = deque()
        self._came = self._taken = 0  # bytes of packets

    def add(self, data: bytes) -> None:
        (self._outer if self.algorithm else self.inbox).add(data)

    def compress(self, algorithm: Algorithm) -> None:
        """From here on packets come in frames."""
        self.algorithm = algorithm
        self._outer.add(self.inbox.take(self.inbox.left))

    def more(self) -> bool:
        """Take one more frame apart; False if none is whole."""
        outer = self._outer
        if not self.algorithm or outer.left < 7:
            return False
        size = int.from_bytes(outer.data[outer.at : outer.at + 3], "little")
        before = int.from_bytes(outer.data[outer.at + 4 : outer.at + 7], "little")
        if outer.left < 7 + size:
            return False
        raw = outer.take(7 + size)
        inner = _inflate(raw[7:], before, self.algorithm)
        if not inner:
            raise ProtocolError("a compressed frame without content")
        self.inbox.add(inner)
        if self._keep:
            if len(self._frames) >= MAX_FRAMES:
                raise ProtocolError(f"a message in more than {MAX_FRAMES} frames")
            self._frames.append(Frame(self._came, self._came + len(inner), raw, raw[3]))
            self._came += len(inner)
        else:
            self.sequence = raw[3]
        return True

    def take(self, size: int) -> tuple[bytes, bytes]:
        """Take `size` bytes of packets; return them, and the frames to send for them (the same without frames)."""
        inner = self.inbox.take(size)
        return inner, self._framed(inner) if self.algorithm else inner

    def frames(self, inner: bytes) -> bytes:
        """Return frames for packets that take the place of those taken last."""
        return pack(inner, 0, self.algorithm)

    def skip(self, size: int) -> None:
        """Note that `size` bytes of packets were taken out of the inbox."""
        self._taken += size
        frames = self._frames
        while frames and frames[0].end < self._taken:
            frames.popleft()
        if frames:
            self.sequence = frames[0].sequence
            if frames[0].end == self._taken:
                frames.popleft()

    def _framed(self, inner: bytes) -> bytes:
        """Return the frames that hold just these bytes, as they came if there are such."""
        begin, end = self._taken, self._taken + len(inner)
        own = [frame for frame in self._frames if frame.end <= end]
        exact = own and own[-1].end == end and own[0].begin == begin
        first = self._frames[0].sequence
        self.skip(len(inner))
        return b"".join(frame.raw for frame in own) if exact else pack(inner, first, self.algorithm)
