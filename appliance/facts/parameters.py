"""Parameters of a statement in a form people and detectors can read.

Source: PostgreSQL 15 manual, "Message Formats" (Bind); binary forms as its send functions write them.
"""

import hashlib
import struct
from collections.abc import Sequence

from appliance.model import Value

MAX_VALUE = 65_536  # characters of one parameter that detectors see; more: the key `text` is unknown
MAX_SHOWN = 500  # characters of one parameter shown to a reviewer
MAX_VALUES_SHOWN = 200  # parameters shown to a reviewer

_INTEGERS = {21: ">h", 23: ">i", 20: ">q", 26: ">I"}  # int2 int4 int8 oid
_FLOATS = {700: ">f", 701: ">d"}
_NUMBERS = {**_INTEGERS, **_FLOATS}
_UUID, _JSONB, _BOOL = 2950, 3802, 16
_CODECS = {
    "UTF8": "utf-8",
    "SQL_ASCII": "utf-8",
    "LATIN1": "latin-1",
    "WIN1252": "cp1252",
    "EUC_JP": "euc_jp",
}


def text(value: Value, encoding: str) -> str | None:
    """Return a parameter as text; None is NULL. What has no known form is shown as the text its bytes
    hold."""
    data = value.data
    if data is None:
        return None
    if value.binary:
        form = _NUMBERS.get(value.type)
        if form is not None and len(data) == struct.calcsize(form):
            return str(struct.unpack(form, data)[0])
        if value.type == _UUID:
            return data.hex()
        if value.type == _BOOL:
            return "true" if data != b"\0" else "false"
        if value.type == _JSONB:
            data = data[1:]
    return data[: MAX_VALUE + 1].decode(_CODECS.get(encoding, "utf-8"), "replace")


def describe(statement: str, values: Sequence[Value], encoding: str) -> tuple[str, frozenset[str], bool]:
    """Return the statement with its parameters, the words for detectors, and whether these are all."""
    if not values:
        return statement, frozenset((statement,)), True
    whole, at = True, 0
    shown, words = list[str](), {statement}
    for value in values:
        at += 1
        item = text(value, encoding)
        if at <= MAX_VALUES_SHOWN:
            shown.append(f"${at} = {_short(item, value)}")
        if item:
            whole = whole and len(item) <= MAX_VALUE
            words.add(item[:MAX_VALUE])
    if at > MAX_VALUES_SHOWN:
        rest = b"".join(_framed(value) for value in values[MAX_VALUES_SHOWN:])
        shown.append(f"and {at - MAX_VALUES_SHOWN} more, sha256 {_digest(rest)}")
    return f"{statement}\n-- {', '.join(shown)}", frozenset(words), whole


def _short(item: str | None, value: Value) -> str:
    """Return a parameter as shown. What is cut off is in the digest: an approval is bound to all of it."""
    if item is None:
        return "NULL"
    if len(item) <= MAX_SHOWN:
        return "'" + item.replace("'", "''") + "'"
    return "'" + item[:MAX_SHOWN].replace("'", "''") + f"'... sha256 {_digest(value.data or b'')}"


def _framed(value: Value) -> bytes:
    data = value.data
    return b"-" if data is None else len(data).to_bytes(8, "big") + data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
