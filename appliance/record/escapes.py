"""Texts in which characters stand as escapes, read without them, and where each character was.

Sources: RFC 3986, 2.1 (%40); WHATWG URL, "application/x-www-form-urlencoded parsing" (a plus is a space); RFC 8259, 7
(an at sign as \\u0040). What a text is, is not asked: it is read as if it could be any of them, one inside another too.
"""

import re
from collections.abc import Callable, Iterable, Iterator

DEPTH = 2  # an escape of escapes, as in an address that is a parameter of another
Span = tuple[int, int]

_ESCAPE = re.compile(
    r"(?:%[0-9A-Fa-f]{2})+"
    r"|\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}"
    r"|\\u[0-9A-Fa-f]{4}|\\[/\"\\]"
)


def everywhere(text: str, find: Callable[[str], Iterable[Span]]) -> Iterator[Span]:
    """Yield what is found in a text, and in the text without its escapes, as places of the text as it stands."""
    yield from _inside(text, find)
    if "+" in text:
        yield from _inside(text.replace("+", " "), find)


def _inside(text: str, find: Callable[[str], Iterable[Span]]) -> Iterator[Span]:
    yield from find(text)
    starts: list[int] | None = None
    for _ in range(DEPTH):
        read = _unescaped(text)
        if read is None:
            return
        text, places = read
        starts = places if starts is None else [starts[place] for place in places]
        for start, end in find(text):
            yield starts[start], starts[end]


def _unescaped(text: str) -> tuple[str, list[int]] | None:
    """Return the text without its outermost escapes, and where each character, and the end, was; None: it has none."""
    parts: list[str] = []
    starts: list[int] = []
    done = 0
    for match in _ESCAPE.finditer(text):
        start, end = match.span()
        parts.append(text[done:start])
        starts.extend(range(done, start))
        for char, width in _chars(match[0]):
            parts.append(char)
            starts.append(start)
            start += width
        done = end
    if not done:
        return None
    parts.append(text[done:])
    starts.extend(range(done, len(text) + 1))
    return "".join(parts), starts


def _chars(escape: str) -> Iterator[tuple[str, int]]:
    """Yield the characters of an escape, and how long each was written."""
    if escape[0] == "%":
        data = bytes.fromhex(escape.replace("%", ""))
        try:
            yield from ((char, 3 * len(char.encode())) for char in data.decode())
        except UnicodeDecodeError:
            yield from ((chr(byte), 3) for byte in data)
    elif escape[1] != "u":
        yield escape[1], 2
    else:
        units = bytes.fromhex(escape.replace("\\u", ""))
        yield units.decode("utf-16-be", "replace"), len(escape)
