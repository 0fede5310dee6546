"""Content codings opened within a limit: gzip, deflate, br and zstd, several members and several codings deep.

Of several members some readers take the first only, and of deflate some take the bare form only. What is to be judged
has to be the same for all of them (`alike`); what is to be masked goes on opened, so one reading is enough.

Source: RFC 9110 section 8.4, RFC 1950 to 1952, RFC 7932, RFC 8878.
"""

import zlib
from collections.abc import Callable, Sequence

import brotli
import zstandard

MAX_CODINGS = 3  # of one body; ours: nobody applies more than one
STEP = 64 * 1024  # bytes opened between two looks at the limit
WINDOW = 8 << 20  # bytes; RFC 9659: what zstd may use on the web


class Unreadable(Exception):
    """The body cannot be opened: a coding that is not known, broken data, or more than the limit."""


def opened(data: bytes, codings: Sequence[str], limit: int, alike: bool = False) -> bytes:
    """Return the data with its codings, in the order they were applied, undone.

    `alike`: every reader comes to the same.

    Raises:
        Unreadable: see there.
    """
    known = [coding for coding in codings if coding != "identity"] if data else []
    if len(known) > MAX_CODINGS:
        raise Unreadable(f"more than {MAX_CODINGS} content codings")
    for coding in reversed(known):
        if coding not in _OPENERS:
            raise Unreadable(f"content coding {coding[:32]}")
        try:
            data = _OPENERS[coding](data, limit, alike)
        except (zlib.error, brotli.error, zstandard.ZstdError) as error:
            raise Unreadable(f"{coding}: {error}") from None
    return data


def _inflated(data: bytes, limit: int, window: int, members: bool = False) -> bytes:
    """Open every member: a reader that stops after the first one would miss the rest."""
    out = bytearray()
    while data:
        opener = zlib.decompressobj(window)
        out += opener.decompress(data, limit + 1 - len(out))
        if len(out) > limit:
            raise Unreadable(f"more than {limit} bytes when opened")
        if not opener.eof:
            raise Unreadable("data that ends early")
        data = opener.unused_data
        if data and not members:
            raise Unreadable("data behind its end")
    return bytes(out)


def _gzip(data: bytes, limit: int, alike: bool) -> bytes:
    return _inflated(data, limit, zlib.MAX_WBITS | 16, members=not alike)


def _deflate(data: bytes, limit: int, alike: bool) -> bytes:
    """RFC 9110 wants the zlib form; some send the bare one, and clients take both."""
    zlib_form = len(data) >= 2 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
    out = _inflated(data, limit, zlib.MAX_WBITS if zlib_form else -zlib.MAX_WBITS)
    if zlib_form and alike and _is_bare(data):
        raise Unreadable("deflate that can be read in both forms")
    return out


def _is_bare(data: bytes) -> bool:
    try:
        return bool(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, STEP))
    except zlib.error:
        return False


def _br(data: bytes, limit: int, alike: bool) -> bytes:
    opener = brotli.Decompressor()
    out = bytearray()
    while not opener.is_finished():
        piece = opener.process(data, output_buffer_limit=STEP)
        out, data = out + piece, b""
        if len(out) > limit:
            raise Unreadable(f"more than {limit} bytes when opened")
        if not piece and not opener.is_finished():
            raise Unreadable("data that ends early")
    return bytes(out)


def _zstd(data: bytes, limit: int, alike: bool) -> bytes:
    out = bytearray()
    while data:
        opener = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
        for at in range(0, len(data), 256):  # a block of 4 bytes opens to at most 128 kB
            out += opener.decompress(data[at : at + 256])
            if len(out) > limit:
                raise Unreadable(f"more than {limit} bytes when opened")
            if opener.eof:
                data = opener.unused_data + data[at + 256 :]
                if data and alike:
                    raise Unreadable("data behind its end")
                break
        else:
            raise Unreadable("data that ends early")
    return bytes(out)


_OPENERS: dict[str, Callable[[bytes, int, bool], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _br,
    "zstd": _zstd,
}
