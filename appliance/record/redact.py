"""Frames with part of what they say taken out, for readers who may not see it. What, is for others to tell.

What is taken out keeps its length where bytes stay, or is counted as not recorded, so that sizes, packets and
counts are those of the session. What cannot be told apart is taken out whole.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, cast

import msgspec

from appliance.record.frame import Frame

FILL = "*"
KEPT = frozenset(("id", "rule", "file", "revision", "revisions", "sha256", "script_sha256", "container"))
T = TypeVar("T")
Span = tuple[int, int]
Redact = Callable[[Iterable[Frame]], Iterator[Frame]]
"""Frames of any sessions, each session's in order, to the same with less in them."""

_QUOTED = re.compile(r"""'(?:[^']|'')*'?|"(?:[^"]|"")*"?|`[^`]*`?""")
_NUMBER = re.compile(r"[0-9](?:[0-9A-Fa-fxX._:+-]*[0-9A-Fa-f])?")
_AMBIGUOUS = re.compile(r"\\|--|/\*|#|\$\w*\$")  # may end or hide a literal, by dialect and settings


def covered(text: str, spans: Iterable[Span]) -> str:
    """Return the text with the spans overwritten by as many asterisks."""
    for start, end in spans:
        text = text[:start] + FILL * (end - start) + text[end:]
    return text


def covered_raw(raw: bytes, text: str, spans: Sequence[Span]) -> bytes | None:
    """Return the bytes of a message with the spans of its text overwritten; None if the text is not found in it."""
    if not spans:
        return raw
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return None
    at = raw.find(data)
    if at < 0:
        return None
    out = bytearray(raw)
    for start, end in spans:
        first, last = at + len(text[:start].encode()), at + len(text[:end].encode())
        out[first:last] = FILL.encode() * (last - first)
    return bytes(out)


def literals(text: str) -> list[Span]:
    """Return where values may stand in a statement of any dialect: quoted texts and numbers.

    Where it depends on the dialect what is quoted, all from the first quote on is.
    """
    first = min((at for at in map(text.find, "'\"`$") if at >= 0), default=-1)
    spans: list[Span] = []
    end = len(text)
    if first >= 0 and _AMBIGUOUS.search(text):
        spans, end = [(first, len(text))], first
    else:
        spans = [match.span() for match in _QUOTED.finditer(text)]
    spans += [match.span() for match in _NUMBER.finditer(text, 0, end)]
    return sorted(spans)


def withheld(frame: Frame) -> Frame:
    """Return the frame without the bytes of its message, which are counted as not recorded."""
    note = msgspec.structs.replace(frame.note, raw=b"")
    return msgspec.structs.replace(frame, note=note, dropped=frame.dropped + len(frame.note.raw))


def named(value: T, hide: Callable[[str], str]) -> T:
    """Return a value with what is to be hidden taken from all texts in it; KEPT stay, as others refer to them."""
    if isinstance(value, str):
        return cast(T, hide(value))
    if isinstance(value, tuple):
        return cast(T, tuple(named(one, hide) for one in value))
    if isinstance(value, msgspec.Struct):
        fields = [name for name in value.__struct_fields__ if name not in KEPT]
        return msgspec.structs.replace(value, **{name: named(getattr(value, name), hide) for name in fields})
    return value
