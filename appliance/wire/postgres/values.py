"""Single values of PostgreSQL's types: binary form to text and back.

Source: the server's own send and receive functions (src/backend/utils/adt); object ids from pg_type.dat,
which never change. A Form without a `write` can be shown to a mask, but a changed value of it becomes NULL.
"""

import ipaddress
import re
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import msgspec

EPOCH = datetime(2000, 1, 1)
EPOCH_DAY = date(2000, 1, 1).toordinal()
INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
DECIMAL = re.compile(r"([+-]?)([0-9]{1,131072})(?:\.([0-9]{0,16383}))?")
FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?|NaN|-?Infinity")
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
BOOLS = {"t": b"\1", "true": b"\1", "f": b"\0", "false": b"\0"}
SPECIAL = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}
NEGATIVE = 0x4000


class Form(msgspec.Struct, frozen=True):
    """How one type is read from its binary form and written to it; ValueError or struct.error: it is not."""

    read: Callable[[bytes], str]
    write: Callable[[str], bytes] | None = None


def _integer(code: str) -> Form:
    packed = struct.Struct(code)

    def write(text: str) -> bytes:
        if not INTEGER.fullmatch(text):
            raise ValueError(text)
        return packed.pack(int(text))

    return Form(lambda data: str(packed.unpack(data)[0]), write)


def _float(code: str) -> Form:
    packed = struct.Struct(code)

    def read(data: bytes) -> str:
        text = repr(packed.unpack(data)[0])
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text, text)

    def write(text: str) -> bytes:
        if not FLOAT.fullmatch(text):
            raise ValueError(text)
        return packed.pack(float(text))

    return Form(read, write)


def _read_bool(data: bytes) -> str:
    return "t" if struct.unpack("?", data)[0] else "f"


def _write_bool(text: str) -> bytes:
    if text not in BOOLS:
        raise ValueError(text)
    return BOOLS[text]


def _read_numeric(data: bytes) -> str:
    count, weight, sign, scale = struct.unpack_from(">HhHH", data)
    if sign in SPECIAL:
        return SPECIAL[sign]
    groups = [f"{digit:04}" for digit in struct.unpack_from(f">{count}H", data, 8)]
    if weight < 0:
        whole, part = "0", "0000" * (-weight - 1) + "".join(groups)
    else:
        groups += ["0000"] * (weight + 1 - count)
        whole, part = "".join(groups[: weight + 1]).lstrip("0") or "0", "".join(groups[weight + 1 :])
    part = part[:scale].ljust(scale, "0")
    return ("-" if sign == NEGATIVE else "") + whole + ("." + part if scale else "")


def _write_numeric(text: str) -> bytes:
    for sign, word in SPECIAL.items():
        if text == word:
            return struct.pack(">HhHH", 0, 0, sign, 0)
    match = DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(text)
    minus, whole, part = match[1] == "-", match[2], match[3] or ""
    digits = whole.zfill(-(-len(whole) // 4) * 4)
    weight = len(digits) // 4 - 1
    digits += part.ljust(-(-len(part) // 4) * 4, "0")
    groups = [int(digits[i : i + 4]) for i in range(0, len(digits), 4)]
    while groups and groups[0] == 0:
        groups.pop(0)
        weight -= 1
    while groups and groups[-1] == 0:
        groups.pop()
    head = struct.pack(
        ">HhHH", len(groups), weight if groups else 0, NEGATIVE if minus and groups else 0, len(part)
    )
    return head + struct.pack(f">{len(groups)}H", *groups)


def _endless(size: int) -> dict[int, str]:
    return {2 ** (size * 8 - 1) - 1: "infinity", -(2 ** (size * 8 - 1)): "-infinity"}


def _endless_number(text: str, size: int) -> int | None:
    return next((number for number, word in _endless(size).items() if word == text), None)


def _read_date(data: bytes) -> str:
    (days,) = struct.unpack(">i", data)
    return _endless(4).get(days) or date.fromordinal(EPOCH_DAY + days).isoformat()


def _write_date(text: str) -> bytes:
    days = _endless_number(text, 4)
    return struct.pack(">i", date.fromisoformat(text).toordinal() - EPOCH_DAY if days is None else days)


def _stamp(zone: str) -> Form:
    def read(data: bytes) -> str:
        (micros,) = struct.unpack(">q", data)
        return _endless(8).get(micros) or (EPOCH + timedelta(microseconds=micros)).isoformat(" ") + zone

    def write(text: str) -> bytes:
        micros = _endless_number(text, 8)
        if micros is not None:
            return struct.pack(">q", micros)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            if not zone:
                raise ValueError(text)
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        return struct.pack(">q", (moment - EPOCH) // timedelta(microseconds=1))

    return Form(read, write)


def _clock(micros: int) -> str:
    return (EPOCH + timedelta(microseconds=micros)).time().isoformat()


def _write_time(text: str) -> bytes:
    moment = time.fromisoformat(text)
    if moment.tzinfo is not None:
        raise ValueError(text)
    seconds = (moment.hour * 60 + moment.minute) * 60 + moment.second
    return struct.pack(">q", seconds * 1_000_000 + moment.microsecond)


def _read_timetz(data: bytes) -> str:
    micros, west = struct.unpack(">qi", data)
    return f"{_clock(micros)}{'-' if west > 0 else '+'}{abs(west) // 3600:02}:{abs(west) // 60 % 60:02}"


def _read_interval(data: bytes) -> str:
    micros, days, months = struct.unpack(">qii", data)
    return f"{months} mons {days} days {micros} us"


def _network(always: bool) -> Form:
    def read(data: bytes) -> str:
        bits, size = data[1], data[3]
        address = ipaddress.ip_address(data[4:])
        if address.max_prefixlen != size * 8:
            raise ValueError(data)
        return str(address) + (f"/{bits}" if always or bits != address.max_prefixlen else "")

    def write(text: str) -> bytes:
        if always:
            network = ipaddress.ip_network(text)
            bits, address = network.prefixlen, network.network_address.packed
        else:
            interface = ipaddress.ip_interface(text)
            bits, address = interface.network.prefixlen, interface.packed
        return bytes([2 if len(address) == 4 else 3, bits, always, len(address)]) + address

    return Form(read, write)


def _write_mac(text: str) -> bytes:
    if not MAC.fullmatch(text):
        raise ValueError(text)
    return bytes.fromhex(text.replace(":", ""))


def _floats(skip: int) -> Form:
    return Form(lambda data: ",".join(repr(number) for (number,) in struct.iter_unpack(">d", data[skip:])))


def _bits(data: bytes) -> str:
    (count,) = struct.unpack_from(">i", data)
    return "".join(f"{byte:08b}" for byte in data[4:])[:count]


OID = _integer(">I")
INT8 = _integer(">q")

FORMS: dict[int, Form] = {
    16: Form(_read_bool, _write_bool),
    20: INT8,
    21: _integer(">h"),
    23: _integer(">i"),
    26: OID,
    27: Form(lambda data: "({},{})".format(*struct.unpack(">IH", data))),  # tid
    28: OID,  # xid
    29: OID,  # cid
    600: _floats(0),  # point
    601: _floats(0),  # lseg
    602: _floats(5),  # path
    603: _floats(0),  # box
    604: _floats(4),  # polygon
    628: _floats(0),  # line
    650: _network(True),
    700: _float(">f"),
    701: _float(">d"),
    718: _floats(0),  # circle
    774: Form(lambda data: data.hex(":")),  # macaddr8
    790: Form(lambda data: str(struct.unpack(">q", data)[0])),  # money, in the smallest unit
    829: Form(lambda data: data.hex(":"), _write_mac),
    869: _network(False),
    1082: Form(_read_date, _write_date),
    1083: Form(lambda data: _clock(struct.unpack(">q", data)[0]), _write_time),
    1114: _stamp(""),
    1184: _stamp("+00"),
    1186: Form(_read_interval),
    1266: Form(_read_timetz),
    1560: Form(_bits),  # bit
    1562: Form(_bits),  # varbit
    1700: Form(_read_numeric, _write_numeric),
    2278: Form(lambda data: ""),  # void
    2950: Form(lambda data: str(UUID(bytes=data)), lambda text: UUID(text).bytes),
    3220: Form(lambda data: "{:X}/{:X}".format(*struct.unpack(">II", data))),  # pg_lsn
    5069: INT8,  # xid8
    **dict.fromkeys((24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191), OID),  # reg*
}

TEXT = frozenset({18, 19, 25, 705, 1042, 1043, 2275})  # "char" name text unknown bpchar varchar cstring
XML = 142
JSON, JSONB, BYTEA = 114, 3802, 17

ARRAYS: dict[int, int] = {
    22: 21, 30: 26,  # int2vector, oidvector
    271: 5069, 2207: 2202, 2208: 2203, 2209: 2204, 2210: 2205, 2211: 2206, 3735: 3734, 3770: 3769, 4090: 4089,
    4097: 4096, 4192: 4191,  # xid8, reg*
    143: 142, 199: 114, 629: 628, 651: 650, 719: 718, 775: 774, 791: 790, 1000: 16, 1001: 17,
    1002: 18, 1003: 19, 1005: 21, 1007: 23, 1008: 24, 1009: 25, 1010: 27, 1011: 28, 1012: 29,
    1014: 1042, 1015: 1043, 1016: 20, 1017: 600, 1018: 601, 1019: 602, 1020: 603, 1021: 700, 1022: 701,
    1027: 604, 1028: 26, 1040: 829, 1041: 869, 1115: 1114, 1182: 1082, 1183: 1083, 1185: 1184, 1187: 1186,
    1231: 1700, 1263: 2275, 1270: 1266, 1561: 1560, 1563: 1562, 2951: 2950, 3221: 3220, 3807: 3802,
}  # fmt: skip
