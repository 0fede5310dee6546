"""Detectors: one hyperscan pass over a text, then exact finders for what the pass found a trace of.

Operators' patterns have hyperscan's semantics (no look-around, no back-references, no backtracking), so no
pattern and no text can be slow; their spans are hyperscan's own. All ends of a match are reported: spans that
overlap are one span.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import hyperscan

from appliance.policy.finders import BUILT_IN, Span

MAX_EVENTS = 10_000  # reports of one pass; a text with more is taken as one find from end to end
MAX_CLEAN = 4096  # texts remembered in which nothing is found
MAX_CLEAN_TEXT = 40  # characters of one; a UUID has 36
MAX_PATTERN = 1000  # characters of an operator's pattern

_BUILT_IN_FLAGS = hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_DOTALL
_OPERATOR_FLAGS = hyperscan.HS_FLAG_SOM_LEFTMOST | hyperscan.HS_FLAG_UTF8


class BadPattern(Exception):
    """hyperscan will not have an operator's pattern, and says why."""


def check_pattern(pattern: str) -> None:
    """
    Raises:
        BadPattern: it cannot be compiled, or is too long.
    """
    if len(pattern) > MAX_PATTERN:
        raise BadPattern(f"longer than {MAX_PATTERN} characters")
    _compile(((pattern, _OPERATOR_FLAGS),))


@lru_cache(maxsize=256)
def _compile(expressions: tuple[tuple[str, int], ...]) -> hyperscan.Database:
    database = hyperscan.Database()
    try:
        database.compile(
            expressions=[expression.encode() for expression, _ in expressions],
            ids=list(range(len(expressions))),
            elements=len(expressions),
            flags=[flags for _, flags in expressions],
        )
    except (hyperscan.error, UnicodeEncodeError) as e:
        raise BadPattern(str(e).rstrip(".")) from e
    return database


class Detectors:
    """The detectors `names`, built in or among the operators' `patterns`, as one database."""

    def __init__(self, names: Iterable[str], patterns: Mapping[str, str]) -> None:
        """
        Raises:
            BadPattern: a pattern cannot be compiled.
            KeyError: a name is neither built in nor a pattern's.
        """
        self.names = tuple(sorted(set(names)))
        expressions = tuple(
            (patterns[name], _OPERATOR_FLAGS) if name in patterns else (BUILT_IN[name][1], _BUILT_IN_FLAGS)
            for name in self.names
        )
        self._database = _compile(expressions) if expressions else None
        self._clean: set[str] = set()  # short texts in which nothing was found: numbers, words, states
        # What the built-in ones look for has no anchors: what is nowhere in a text is in no part of it.
        self.parts = not any(name in patterns for name in self.names)
        self._finders = [None if name in patterns else BUILT_IN[name][0] for name in self.names]

    def find(self, text: str) -> list[tuple[str, Span]]:
        """Return what is found: detector and span in characters, spans of one detector apart and in order."""
        if self._database is None:
            return []
        if text in self._clean:
            return []
        data = text.encode("utf-8", "replace")
        events: list[tuple[int, int, int]] = []

        def report(which: int, start: int, end: int, _flags: int, _context: object) -> bool:
            events.append((which, start, end))
            return len(events) >= MAX_EVENTS

        try:
            self._database.scan(data, match_event_handler=report)
        except hyperscan.ScanTerminated:
            return [(name, (0, len(text))) for name in self.names]
        if events:
            return self._exact(text, data, events)
        if len(text) <= MAX_CLEAN_TEXT:
            if len(self._clean) >= MAX_CLEAN:
                self._clean.clear()
            self._clean.add(text)
        return []

    def nowhere(self, data: bytes) -> bool:
        """True if nothing is found in `data`, UTF-8, nor in any part of it. Where `parts` is false nobody can tell."""
        if self._database is None:
            return True
        try:
            self._database.scan(data, match_event_handler=_stop)
        except hyperscan.ScanTerminated:
            return False
        return True

    def _exact(self, text: str, data: bytes, events: list[tuple[int, int, int]]) -> list[tuple[str, Span]]:
        found: list[tuple[str, Span]] = []
        for which in sorted({event[0] for event in events}):
            finder = self._finders[which]
            if finder is not None:
                found += ((self.names[which], span) for span in finder(text))
                continue
            spans = joined((start, end) for id_, start, end in events if id_ == which)
            if len(data) != len(text):
                spans = _characters(data, spans)
            found += ((self.names[which], span) for span in spans)
        return found


def _stop(which: int, start: int, end: int, flags: int, context: object) -> bool:
    return True


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, those that overlap as one."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start < out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def _characters(data: bytes, spans: list[Span]) -> list[Span]:
    """Return spans of bytes as spans of characters, in one walk."""
    out, at, count = [], 0, 0
    for start, end in spans:
        count += len(data[at:start].decode("utf-8", "replace"))
        length = len(data[start:end].decode("utf-8", "replace"))
        out.append((count, count + length))
        at, count = end, count + length
    return out
