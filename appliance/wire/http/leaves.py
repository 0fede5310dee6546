"""The leaves of a JSON text with their places in it, so that one can be replaced and all else stay as it is.

Source: RFC 8259. Read strictly: what is not JSON has no leaves. Paths are written as rules write them: `$.a[0]["b c"]`.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_DEPTH = 64  # ours; documents have less than ten
MAX_PATH = 4096  # characters of a path; ours: those of documents have some hundred. It is written anew for each leaf
MAX_LEAVES = 100_000  # of one text; a page of results has some thousands

SPACE = re.compile(r"[ \t\n\r\ufeff]*")  # a byte order mark too: many take JSON behind one
STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
WORD = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
PLAIN = re.compile(r"[^\W\d][\w-]*")

Mask = Callable[[str, str], str | None]
"""Given path and text of a leaf, returns its text masked, or the same object; None is null."""


class Leaf(NamedTuple):
    """A string, number or word of the text; also the name of a member, which has no path."""

    path: str
    start: int
    end: int
    text: str  # of a string: what it stands for


class NoJson(Exception):
    """The text is no JSON, or more than is read here."""


def masked(text: str, mask: Mask) -> tuple[str, int]:
    """Return the text with its leaves masked, and how many were changed. A run of documents is read as well.

    A number or word stays one, or becomes null: what reads it must still be able to.

    Raises:
        NoJson: see there.
    """
    out: list[str] = []
    at = count = 0
    for leaf in leaves(text):
        shown = mask(leaf.path, leaf.text)
        if shown == leaf.text:
            continue
        out += [text[at : leaf.start], _written(shown, quoted=text[leaf.start] == '"')]
        at, count = leaf.end, count + 1
    return "".join(out) + text[at:] if count else text, count


def _written(text: str | None, quoted: bool) -> str:
    if text is None:
        return "null"
    if quoted:
        return json.dumps(text, ensure_ascii=False)
    return text if WORD.fullmatch(text) else "null"


def leaves(text: str) -> Iterator[Leaf]:
    """Yield the leaves of a text of one or more documents, in order.

    Raises:
        NoJson: see there.
    """
    at, count = _skip(text, 0), 0
    if at == len(text):
        raise NoJson
    while at < len(text):
        reader = _Reader(text, at)
        for leaf in reader.value("$", 0):
            count += 1
            if count > MAX_LEAVES:
                raise NoJson
            yield leaf
        at = _skip(text, reader.at)


def _skip(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return match.end() if match else at


class _Reader:
    def __init__(self, text: str, at: int) -> None:
        self.text, self.at = text, at

    def value(self, path: str, depth: int) -> Iterator[Leaf]:
        if depth > MAX_DEPTH or len(path) > MAX_PATH:
            raise NoJson
        first = self._next()
        if first == "{":
            yield from self._object(path, depth)
        elif first == "[":
            yield from self._array(path, depth)
        else:
            start = self.at
            raw = self._take(STRING if first == '"' else WORD)
            yield Leaf(path, start, self.at, json.loads(raw) if first == '"' else raw)

    def _object(self, path: str, depth: int) -> Iterator[Leaf]:
        self.at += 1
        if self._next() == "}":
            self.at += 1
            return
        while True:
            self._next()
            start = self.at
            name = json.loads(self._take(STRING))
            yield Leaf("", start, self.at, name)
            self._expect(":")
            step = f".{name}" if PLAIN.fullmatch(name) else f"[{json.dumps(name, ensure_ascii=False)}]"
            yield from self.value(path + step, depth + 1)
            if self._expect(",}") == "}":
                return

    def _array(self, path: str, depth: int) -> Iterator[Leaf]:
        self.at += 1
        if self._next() == "]":
            self.at += 1
            return
        number = 0
        while True:
            yield from self.value(f"{path}[{number}]", depth + 1)
            number += 1
            if self._expect(",]") == "]":
                return

    def _next(self) -> str:
        """Return the first character that is no space, without taking it."""
        self.at = _skip(self.text, self.at)
        return self.text[self.at : self.at + 1]

    def _expect(self, which: str) -> str:
        found = self._next()
        if not found or found not in which:
            raise NoJson
        self.at += 1
        return found

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise NoJson
        self.at = match.end()
        return match[0]
