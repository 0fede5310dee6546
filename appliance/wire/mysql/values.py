"""Single values of MySQL's types: binary form to text and back.

Source: MySQL 8.4 source documentation, "Binary Protocol Value"; type numbers from field_types.h. The text forms are
those of the server's text protocol.
"""

import re
import struct
from collections.abc import Callable

import msgspec

from appliance.model import ProtocolError, Value
from appliance.wire.mysql.charsets import Charset
from appliance.wire.mysql.packets import Fields

TINY, SHORT, LONG, FLOAT, DOUBLE, NULL_TYPE, TIMESTAMP, LONGLONG, INT24 = range(1, 10)
DATE, TIME, DATETIME, YEAR, NEWDATE = range(10, 15)
BIT, JSON, NEWDECIMAL, ENUM, SET, VAR_STRING, STRING, GEOMETRY = 16, 245, 246, 247, 248, 253, 254, 255
DECIMAL, VARCHAR, VECTOR = 0, 15, 242
BLOBS = frozenset({249, 250, 251, 252})

WIDTHS = {TINY: 1, SHORT: 2, LONG: 4, FLOAT: 4, DOUBLE: 8, NULL_TYPE: 0, LONGLONG: 8, INT24: 4, YEAR: 2}
TIMED = frozenset({TIMESTAMP, DATE, TIME, DATETIME, NEWDATE})
TEXTUAL = frozenset({VARCHAR, ENUM, SET, VAR_STRING, STRING, *BLOBS})
BITS = {TINY: 8, SHORT: 16, LONG: 32, INT24: 24, LONGLONG: 64, YEAR: 16}

INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
NUMBER = re.compile(r"[+-]?[0-9]{1,65}(?:\.[0-9]{0,38})?")
REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
DAY = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
MOMENT = re.compile(DAY.pattern + r"[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?")
SPAN = re.compile(r"(-?)([0-9]{1,3}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?")
MOST_HOURS = 838  # of a TIME
HOURS_A_DAY = 24


class Form(msgspec.Struct, frozen=True):
    """How one type is read from its binary form and written to it; ValueError or struct.error: it is not."""

    read: Callable[[bytes], str]
    write: Callable[[str], bytes]


def _integer(bits: int, signed: bool, size: int) -> Form:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)

    def read(data: bytes) -> str:
        if len(data) != size:
            raise ValueError(data)
        return str(int.from_bytes(data, "little", signed=signed))

    def write(text: str) -> bytes:
        if not INTEGER.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(text)
        return int(text).to_bytes(size, "little", signed=signed)

    return Form(read, write)


def _real(code: str, digits: str) -> Form:
    packed = struct.Struct(code)

    def write(text: str) -> bytes:
        if not REAL.fullmatch(text):
            raise ValueError(text)
        return packed.pack(float(text))

    return Form(lambda data: format(packed.unpack(data)[0], digits), write)


def _fraction(micros: int, decimals: int) -> str:
    if not micros and not decimals:
        return ""
    return f".{micros:06}"[: 1 + decimals] if 0 < decimals <= 6 else f".{micros:06}"


def _micros(digits: str | None) -> int:
    return int((digits or "").ljust(6, "0"))


def _moment(day_only: bool, decimals: int) -> Form:
    def read(data: bytes) -> str:
        if len(data) not in (0, 4, 7, 11):
            raise ValueError(data)
        year, month, day, hour, minute, second, micros = struct.unpack("<HBBBBBI", data.ljust(11, b"\0"))
        date = f"{year:04}-{month:02}-{day:02}"
        return date if day_only else f"{date} {hour:02}:{minute:02}:{second:02}{_fraction(micros, decimals)}"

    def write(text: str) -> bytes:
        match = (DAY if day_only else MOMENT).fullmatch(text)
        if match is None:
            raise ValueError(text)
        year, month, day = (int(match[i]) for i in (1, 2, 3))
        if month > 12 or day > 31:
            raise ValueError(text)
        head = struct.pack("<HBB", year, month, day)
        if day_only:
            return head
        hour, minute, second, micros = int(match[4]), int(match[5]), int(match[6]), _micros(match[7])
        if hour > 23 or minute > 59 or second > 59:
            raise ValueError(text)
        rest = struct.pack("<BBB", hour, minute, second)
        return head + rest + (struct.pack("<I", micros) if micros else b"")

    return Form(read, write)


def _span(decimals: int) -> Form:
    def read(data: bytes) -> str:
        if len(data) not in (0, 8, 12):
            raise ValueError(data)
        minus, days, hour, minute, second, micros = struct.unpack("<BIBBBI", data.ljust(12, b"\0"))
        sign = "-" if minus else ""
        return f"{sign}{days * HOURS_A_DAY + hour:02}:{minute:02}:{second:02}{_fraction(micros, decimals)}"

    def write(text: str) -> bytes:
        match = SPAN.fullmatch(text)
        if match is None:
            raise ValueError(text)
        hours, minute, second, micros = int(match[2]), int(match[3]), int(match[4]), _micros(match[5])
        if hours > MOST_HOURS or minute > 59 or second > 59:
            raise ValueError(text)
        days, hour = divmod(hours, HOURS_A_DAY)
        head = struct.pack("<BIBBB", bool(match[1]), days, hour, minute, second)
        return head + (struct.pack("<I", micros) if micros else b"")

    return Form(read, write)


def _bits() -> Form:
    def write(text: str) -> bytes:
        raise ValueError(text)  # its width is not told

    return Form(lambda data: str(int.from_bytes(data)), write)


def _decimal() -> Form:
    def write(text: str) -> bytes:
        if not NUMBER.fullmatch(text):
            raise ValueError(text)
        return text.encode()

    return Form(lambda data: data.decode("ascii"), write)


def form(kind: int, unsigned: bool = False, decimals: int = 0) -> Form | None:
    """Return how a type is read; None for text, bytes and types not known."""
    if kind in BITS:
        bits = BITS[kind]
        return _integer(bits, not unsigned and kind != YEAR, WIDTHS[kind])
    if kind in (FLOAT, DOUBLE):
        return _real("<f", ".6g") if kind == FLOAT else _real("<d", ".17g")
    if kind in (DATE, NEWDATE):
        return _moment(True, 0)
    if kind in (DATETIME, TIMESTAMP):
        return _moment(False, decimals)
    if kind == TIME:
        return _span(decimals)
    if kind in (DECIMAL, NEWDECIMAL):
        return _decimal()
    return _bits() if kind == BIT else None


def cell(kind: int, fields: Fields) -> bytes:
    """Take one value in binary form, without its length."""
    width = WIDTHS.get(kind)
    if width is not None:
        return fields.take(width)
    return fields.take(fields.number(1)) if kind in TIMED else fields.string()


def parameter(kind: int, unsigned: bool, fields: Fields, charset: Charset) -> Value:
    """Take one parameter; its value in text form, as UTF-8, where it has one."""
    if kind == NULL_TYPE:
        return Value(None, kind)
    data = cell(kind, fields)
    found = form(kind, unsigned)
    try:
        if found is not None:
            return Value(found.read(data).encode(), kind)
    except (ValueError, struct.error):
        raise ProtocolError(f"a parameter that is no value of type {kind}") from None
    return text_value(data, kind, charset)


def text_value(data: bytes, kind: int, charset: Charset) -> Value:
    """Return a parameter that is text or bytes."""
    if kind in TEXTUAL or kind in (JSON, GEOMETRY):
        try:
            return Value(data.decode(charset.codec or "utf-8").encode(), kind)
        except UnicodeDecodeError:
            pass
    return Value(data, kind, binary=True)
