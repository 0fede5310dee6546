"""Patterns over names and paths, for rules that widen and for rules that narrow.

A rule that blocks, asks or masks looks for *any* value it knows and must not be dodged by what is uncertain:
a schema that is not known ("?.users"), a whole row ("public.users.*"), a spelling. A rule that allows must be
sure of *every* value. So each pattern answers twice: `any`, wide, with None for "could be"; `every`, strict.

Nothing is searched twice: each `*` but the last takes the first place where what follows it fits.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

MAX_SEEN = 512  # answers remembered by one pattern, some 100 bytes each; with 4,096 a thousand rules held 400 MB
MANY = 64  # values; from here on those that could match are looked up. Most statements have fewer
ANYTHING = ("?", "*")  # parts of a value that are not known, or are all there are
MAX_NAME = 512  # characters of a value whose answer is remembered; three quoted identifiers of 63 bytes fit


def like(pattern: str, text: str) -> bool:
    """Return True if `text` is the pattern, where `*` is any text and all else is itself."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, last = rest
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in middle:
        at = text.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def split(name: str) -> tuple[str, ...]:
    """Return the dotted parts of a name; parts in double quotes may hold dots, a doubled quote is one."""
    if '"' not in name:
        return tuple(name.split("."))
    parts, part, quoted = [], "", False
    for i, piece in enumerate(name.split('"')):
        if i % 2:
            part, quoted = part + piece, True
        elif piece or not quoted or i == 0:
            first, *more = piece.split(".")
            part += first
            for following in more:
                parts.append(part)
                part = following
        elif i < name.count('"'):
            part += '"'
    return (*parts, part) if name.count('"') % 2 == 0 else (name,)


class Names:
    """Dotted names of `parts` parts with `*`; missing parts in front match any."""

    def __init__(self, texts: Sequence[str], parts: int) -> None:
        """
        Raises:
            ValueError: a text has more parts, or one that is empty or "?" (which stands for the unknown).
        """
        self.texts, self.parts = tuple(texts), parts
        self.patterns = tuple(self._pattern(text) for text in texts)
        self._exact = frozenset(".".join(p) for p in self.patterns if not any("*" in part for part in p))
        self._folded = tuple(tuple(part.casefold() for part in p) for p in self.patterns)
        self._seen: dict[str, bool | None] = {}
        self._sure: dict[str, bool] = {}

    def _pattern(self, text: str) -> tuple[str, ...]:
        found = split(text) if self.parts > 1 else (text,)
        if len(found) > self.parts or not all(found) or "?" in found:
            raise ValueError(text)
        return ("*",) * (self.parts - len(found)) + found

    def any(self, values: Iterable[str]) -> bool | None:
        """Return True if a value matches, None if one could."""
        best: bool | None = False
        if isinstance(values, frozenset) and len(values) >= MANY:
            values = self._near(values)
        for value in values:
            found = self._wide(value)
            if found:
                return True
            best = None if found is None else best
        return best

    def every(self, values: Iterable[str]) -> bool:
        """Return True if there are values, and each matches for certain."""
        sure = False
        for value in values:
            sure = self._strict(value)
            if not sure:
                return False
        return sure

    def covers(self, other: "Names") -> bool:
        """Return True if whatever `other` matches, this does too."""
        return all(any(_within(p, q) for q in self.patterns) for p in other.patterns)

    def _near(self, values: frozenset[str]) -> Iterable[str]:
        """Return those of many values that decide what `any` says of all."""
        if not self._exact.isdisjoint(values):
            return self._exact & values
        known = _MANY.get(values)
        if known is None:
            known = _MANY[values] = {}
        if self.parts not in known:
            known[self.parts] = _Many(values, self.parts)
        many = known[self.parts]
        return [*many.long, *(value for pattern in self._folded for value in many.near(pattern))]

    def _wide(self, value: str) -> bool | None:
        if value in self._exact:
            return True
        if value not in self._seen:
            found = self._look(value)
            _remember(self._seen, value, found)
            return found
        return self._seen[value]

    def _look(self, value: str) -> bool | None:
        parts = self._parts(value)
        if len(parts) > self.parts:  # a dot inside a name: where the parts end is not known
            loose = ("*" + ".".join(p).casefold() for p in self.patterns)
            return None if any(like(pattern, value.casefold()) for pattern in loose) else False
        parts = ("?",) * (self.parts - len(parts)) + parts
        found: set[bool | None] = {_fits(p, parts) for p in self.patterns}
        return True if True in found else None if None in found else False

    def _strict(self, value: str) -> bool:
        if value in self._exact:
            return True
        if value not in self._sure:
            parts = self._parts(value)
            found = len(parts) == self.parts and any(_is(p, parts) for p in self.patterns)
            _remember(self._sure, value, found)
            return found
        return self._sure[value]

    def _parts(self, value: str) -> tuple[str, ...]:
        return split(value) if self.parts > 1 else (value,)


class _Many:
    """Many values by their parts, so that not each of many rules looks at each: 300 and 12,000 names took 8 s.

    Parts are compared one by one, without regard to case: a value that a pattern could match has each part that the
    pattern spells out, or one that may be anything.
    """

    def __init__(self, values: Iterable[str], most: int) -> None:
        self.long: list[str] = []  # of more parts than `most`: where one ends is not known, so at best they could match
        self._all: list[str] = []
        self._at: list[dict[str, list[str]]] = [{} for _ in range(most)]  # the part -> values, for each place
        for value in values:
            parts = split(value) if most > 1 else (value,)
            if len(parts) > most:
                self.long.append(value)
                continue
            self._all.append(value)
            for at, part in zip(self._at, ("?",) * (most - len(parts)) + parts, strict=True):
                at.setdefault(part.casefold(), []).append(value)
        self.long[MANY:] = ["?"] if len(self.long) > MANY else []

    def near(self, pattern: Sequence[str]) -> Sequence[str]:
        """Return values, among them one of each kind that the pattern could match."""
        said = [part for part in pattern if part != "*"]
        best = self._all if said else self._all[:1]
        for part, at in zip(pattern, self._at, strict=True):
            if "*" in part:
                continue
            found = [at.get(text, ()) for text in (part, *ANYTHING)]
            if len(said) == 1:  # nothing else of a value matters
                return [value for some in found for value in some[:1]]
            if sum(map(len, found)) < len(best):
                best = [value for some in found for value in some]
        return best


_MANY: WeakKeyDictionary[frozenset[str], dict[int, _Many]] = WeakKeyDictionary()  # as long as their facts live

T = TypeVar("T")


def _remember(seen: dict[str, T], value: str, found: T) -> None:
    if len(value) > MAX_NAME:
        return
    if len(seen) >= MAX_SEEN:
        seen.clear()
    seen[value] = found


def _fits(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool | None:
    """Wide: case does not matter, `?` could be anything, `*` is everything."""
    certain = True
    for want, part in zip(pattern, parts, strict=True):
        if want == "*" or part == "*":
            continue
        if part == "?":
            certain = False
        elif not like(want.casefold(), part.casefold()):
            return False
    return True if certain else None


def _is(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    return all(
        want == "*" or (part not in ("?", "*") and like(want, part))
        for want, part in zip(pattern, parts, strict=True)
    )


def _within(narrow: tuple[str, ...], wide: tuple[str, ...]) -> bool:
    return all(
        w in ("*", n) or ("*" not in n and like(w, n))
        for n, w in zip(narrow, wide, strict=True)
    )


class Paths:
    """Paths with `*` inside one component and `**` for any number of them."""

    def __init__(self, texts: Sequence[str], below: bool = False) -> None:
        """`below`: a path below a matching one matches too."""
        self.texts = tuple(texts)
        self._patterns = [tuple(t.split("/")) + (("**",) if below else ()) for t in texts]

    def match(self, path: str) -> bool:
        parts = tuple(path.split("/"))
        return any(_path(pattern, parts) for pattern in self._patterns)


def _path(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Walk the pattern with the set of places in `parts` it can have reached: no backtracking."""
    places = {0}
    for want in pattern:
        if want == "**":
            places = set(range(min(places), len(parts) + 1)) if places else places
        else:
            places = {i + 1 for i in places if i < len(parts) and like(want, parts[i])}
    return len(parts) in places


class Numbers:
    """A range of whole numbers, both ends included; None is open."""

    def __init__(self, low: int | None, high: int | None) -> None:
        self.low, self.high = low, high
        self.texts = (f"{'' if low is None else low}..{'' if high is None else high}",)

    def any(self, values: Iterable[str]) -> bool | None:
        found = {self._one(v) for v in values}
        return True if True in found else None if None in found else False

    def every(self, values: Iterable[str]) -> bool:
        found = {self._one(v) for v in values}
        return found == {True}

    def covers(self, other: "Numbers") -> bool:
        low = self.low is None or (other.low is not None and other.low >= self.low)
        return low and (self.high is None or (other.high is not None and other.high <= self.high))

    def _one(self, value: str) -> bool | None:
        if not (value.isascii() and value.isdigit() and len(value) < 20):
            return None
        number = int(value)
        return (self.low is None or number >= self.low) and (self.high is None or number <= self.high)
