"""Parameters of a statement in a form people and detectors can read. Their text form is the wire's."""

import hashlib
from collections.abc import Sequence

from appliance.model import Value

MAX_VALUE = 65_536  # characters of one parameter that detectors see; more: the key `text` is unknown
MAX_SHOWN = 500  # characters of one parameter shown to a reviewer
MAX_VALUES_SHOWN = 200  # parameters shown to a reviewer


def describe(statement: str, values: Sequence[Value]) -> tuple[str, frozenset[str], bool]:
    """Return the statement with its parameters, the words for detectors, and whether these are all."""
    if not values:
        return statement, frozenset((statement,)), True
    texts = [_text(value) for value in values]
    whole = all(t is None or len(t) <= MAX_VALUE for t in texts)
    shown = [f"${at} = {_short(t, values[at - 1])}" for at, t in enumerate(texts[:MAX_VALUES_SHOWN], 1)]
    if len(texts) > MAX_VALUES_SHOWN:
        rest = b"".join(_framed(value) for value in values[MAX_VALUES_SHOWN:])
        shown.append(f"and {len(texts) - MAX_VALUES_SHOWN} more, sha256 {_digest(rest)}")
    words = frozenset((statement, *(t[:MAX_VALUE] for t in texts if t)))
    return f"{statement}\n-- {', '.join(shown)}", words, whole


def _text(value: Value) -> str | None:
    return None if value.data is None else value.data[: MAX_VALUE * 4 + 1].decode("utf-8", "replace")


def _short(item: str | None, value: Value) -> str:
    """Return a parameter as shown. What is cut off is in the digest: an approval is bound to all of it."""
    if item is None:
        return "NULL"
    if len(item) <= MAX_SHOWN and not value.binary:
        return "'" + item.replace("'", "''") + "'"
    return "'" + item[:MAX_SHOWN].replace("'", "''") + f"'... sha256 {_digest(value.data or b'')}"


def _framed(value: Value) -> bytes:
    data = value.data
    return b"-" if data is None else len(data).to_bytes(8, "big") + data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
