"""What a verifier computes with: msgpack, Ed25519, zstd, Merkle trees. Nothing but the standard library.

Sources: the msgpack specification; RFC 8032, 5.1 (Ed25519); RFC 9162, 2.1.1 (Merkle trees). Part of the file that
auditors run elsewhere (standalone.py), so it is written for Python 3.9, and imports nothing of ours.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

NUMBERS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
           0xCA: ">f", 0xCB: ">d"}  # fmt: skip
LENGTHS = {0xC4: (1, "bin"), 0xC5: (2, "bin"), 0xC6: (4, "bin"), 0xD9: (1, "str"), 0xDA: (2, "str"), 0xDB: (4, "str"),
           0xDC: (2, "array"), 0xDD: (4, "array"), 0xDE: (2, "map"), 0xDF: (4, "map")}  # fmt: skip
MAX_BLOCK = (1 << 17) + (72 << 20) + 64  # bytes; 128 KiB, and then the longest item there is (FORMAT.md, "Packed")
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
Point = tuple[int, int, int, int]


class Tools(NamedTuple):
    """Primitives that can be had faster than from here."""

    unpack: Callable[[bytes], Any]
    signed: Callable[[bytes, bytes, bytes], bool]  # public key, data, signature
    inflate: Callable[[bytes], bytes]  # one zstd frame


def unpack(data: bytes) -> Any:
    """Return the one msgpack object that `data` is; ValueError if it is none."""
    try:
        value, end = _object(data, 0)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError, RecursionError) as error:
        raise ValueError(f"no msgpack: {error}") from None
    if end != len(data):
        raise ValueError("bytes after a msgpack object")
    return value


def _object(data: bytes, at: int) -> tuple[Any, int]:
    mark = data[at]
    at += 1
    if mark < 0x80 or mark >= 0xE0:
        return (mark if mark < 0x80 else mark - 256), at
    if mark in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[mark], at
    if mark in NUMBERS:
        end = at + struct.calcsize(NUMBERS[mark])
        return struct.unpack(NUMBERS[mark], data[at:end])[0], end
    if mark in LENGTHS:
        width, kind = LENGTHS[mark]
        size, at = int.from_bytes(data[at : at + width], "big"), at + width
    elif mark < 0xC0:
        kind = "map" if mark < 0x90 else "array" if mark < 0xA0 else "str"
        size = mark & (0x1F if kind == "str" else 0x0F)
    else:
        raise ValueError(f"mark {mark:#04x}")
    return _sized(data, at, size, kind)


def _sized(data: bytes, at: int, size: int, kind: str) -> tuple[Any, int]:
    if kind in ("bin", "str"):
        raw = data[at : at + size]
        if len(raw) < size:
            raise IndexError("too short")
        return (raw if kind == "bin" else raw.decode()), at + size
    values = []
    for _ in range(size * (2 if kind == "map" else 1)):
        value, at = _object(data, at)
        values.append(value)
    return (dict(zip(values[::2], values[1::2])) if kind == "map" else values), at  # noqa: B905


def signed(public: bytes, data: bytes, signature: bytes) -> bool:
    """Tell whether an Ed25519 signature holds. Source: RFC 8032, 5.1.7."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, r = _point(public), _point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + data).digest(), "little") % L
    left, right = _times(s, _base()), _add(r, _times(h, key))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 == (left[1] * right[2] - right[1] * left[2]) % P


def _base() -> Point:
    point = _point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    assert point
    return point


def _point(data: bytes) -> Point | None:
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def _add(p: Point, q: Point) -> Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(n: int, point: Point) -> Point:
    found: Point = (0, 1, 1, 0)
    while n:
        if n & 1:
            found = _add(found, point)
        point, n = _add(point, point), n >> 1
    return found


def inflate(data: bytes) -> bytes:
    """Unpack one zstd frame.

    Raises:
        ValueError: it is none, or holds more than MAX_BLOCK.
    """
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    except ImportError:
        return _by_program(data)
    one = zstd.ZstdDecompressor()
    try:
        found = bytes(one.decompress(data, MAX_BLOCK + 1))
    except zstd.ZstdError:
        raise ValueError("cannot be unpacked") from None
    return _bounded(found, one.eof and not one.unused_data)


def _by_program(data: bytes) -> bytes:
    """Unpack it by zstd(1), which is ended when it has said too much: a few KB can stand for any number of bytes."""
    with tempfile.TemporaryFile() as given:
        given.write(data)
        given.seek(0)
        try:
            program = subprocess.Popen(
                ["zstd", "-dcq"], stdin=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise SystemExit("packed segments need Python 3.14 or the program zstd; an export needs neither") from None
        with program:
            assert program.stdout
            found = program.stdout.read(MAX_BLOCK + 1)
            if len(found) > MAX_BLOCK:
                program.kill()
    return _bounded(found, program.returncode == 0)


def _bounded(found: bytes, whole: bool) -> bytes:
    if len(found) > MAX_BLOCK:
        raise ValueError(f"it unpacks to more than {MAX_BLOCK} bytes, the most a block can be")
    if not whole:
        raise ValueError("cannot be unpacked")
    return found


PLAIN = Tools(unpack, signed, inflate)


def leaf(item: bytes) -> bytes:
    """Return the hash of an item."""
    return hashlib.sha256(b"\0" + item).digest()


class Tree:
    """A Merkle tree that grows (RFC 9162, 2.1.1)."""

    def __init__(self) -> None:
        self.size = 0
        self.peaks: list[tuple[int, bytes]] = []  # leaves below, hash

    def add(self, hash: bytes) -> None:
        self.size += 1
        self.peaks.append((1, hash))
        while len(self.peaks) > 1 and self.peaks[-2][0] == self.peaks[-1][0]:
            (count, left), (_, right) = self.peaks[-2:]
            self.peaks[-2:] = [(2 * count, hashlib.sha256(b"\1" + left + right).digest())]

    def root(self) -> bytes:
        root = self.peaks[-1][1] if self.peaks else hashlib.sha256().digest()
        for _, peak in reversed(self.peaks[:-1]):
            root = hashlib.sha256(b"\1" + peak + root).digest()
        return root
