"""Conditions on the leaves of a document: `{"$.amount": {gt: 10000}, "$.items[*].sku": "X-*"}`.

A leaf is written as its path, " = " and its text: `$.items[0]["a b"] = 5`. In a condition `*` stands for any name,
`[*]` for any element and `..` for any number of steps; all its paths must hold.

Source: RFC 9535 for the forms of paths. Not handled: its filters and slices.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from weakref import WeakKeyDictionary

import msgspec

from appliance.policy.patterns import Names

STEP = re.compile(r'\.\.|\.?\*|\.([^\W\d][\w-]*)|\[(\d{1,9})\]|\[\*\]|\["((?:[^"\\]|\\.)*)"\]')
BETWEEN = " = "
MAX_STEPS = 100  # of one path; what is deeper is not known
ANY, DEEP = "*", ".."


class Range(msgspec.Struct, frozen=True):
    """Numbers between bounds; None is open."""

    gt: Decimal | None = None
    ge: Decimal | None = None
    lt: Decimal | None = None
    le: Decimal | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        bounds = msgspec.structs.asdict(self).items()
        return (", ".join(f"{name}: {bound}" for name, bound in bounds if bound is not None),)

    def one(self, text: str) -> bool | None:
        """Return whether a text is such a number; None if a server might read it as one and we cannot."""
        try:
            number = Decimal(text.strip())
        except InvalidOperation:
            return None if any(c.isdigit() for c in text) else False
        if not number.is_finite():
            return None
        return not (
            (self.gt is not None and number <= self.gt)
            or (self.ge is not None and number < self.ge)
            or (self.lt is not None and number >= self.lt)
            or (self.le is not None and number > self.le)
        )


Step = tuple[str, bool]
"""A name or the number of an element, and whether it is a name. In a condition also ANY and DEEP."""


def steps(path: str) -> tuple[Step, ...] | None:
    """Return the steps of a path, None if it is none."""
    if not path.startswith("$"):
        return None
    found: list[Step] = []
    at = 1
    while at < len(path):
        match = STEP.match(path, at)
        if match is None or len(found) >= MAX_STEPS:
            return None
        at = match.end()
        name, element, quoted = match[1], match[2], match[3]
        if match[0] == "..":
            found.append((DEEP, False))
            bare = re.compile(r"[^\W\d][\w-]*").match(path, at)
            if bare:
                found.append((bare[0], True))
                at = bare.end()
        elif name is not None:
            found.append((name, True))
        elif element is not None:
            found.append((element, False))
        elif quoted is not None:
            try:
                found.append((msgspec.json.decode(f'"{quoted}"'.encode("utf-8", "replace"), type=str), True))
            except msgspec.DecodeError:
                return None  # an escape that JSON does not have
        else:
            found.append((ANY, False))
    return tuple(found)


Leaf = tuple[tuple[Step, ...] | None, str]
"""Where a leaf is, None if that is not known, and its text."""


class Leaves:
    """What the leaves at some paths must be; None: anything, if only they are there."""

    def __init__(self, tests: Mapping[str, Names | Range | None]) -> None:
        """
        Raises:
            ValueError: a path is none; the path.
        """
        self.tests = dict(tests)
        self._steps: dict[str, tuple[Step, ...]] = {}
        for path in tests:
            found = steps(path)
            if not found:
                raise ValueError(path)
            self._steps[path] = found

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(f"{path} {' '.join(test.texts) if test else ''}".strip() for path, test in self.tests.items())

    def any(self, values: Iterable[str]) -> bool | None:
        """Return True if for each path a leaf there fits, None if one could."""
        leaves = _placed(values)
        answers = {self._fits(path, test, leaves) for path, test in self.tests.items()}
        return False if False in answers else None if None in answers else True

    def every(self, values: Iterable[str]) -> bool:
        """Return True if for each path there are leaves, and each fits for certain, those for some servers only too."""
        leaves = _placed(values)
        return all(self._sure(path, test, leaves) for path, test in self.tests.items())

    def covers(self, other: "Leaves") -> bool:
        """Return True if whatever `other` matches, this does too."""
        return self.texts == other.texts

    def at(self, path: str, values: Iterable[str], wide: bool) -> list[str | None]:
        """Return the texts of the leaves at one of the paths; None for one whose place is not known."""
        return _placed(values).at(self._steps[path], wide)

    def below(self, path: str, values: Iterable[str]) -> bool:
        """Return True if one of the paths leads to more than a leaf: a list or an object, which servers may join."""
        wanted = self._steps[path]
        return any(n < len(place) for place, _ in _placed(values).all for n in _reached(wanted, place, wide=True))

    def _fits(self, path: str, test: Names | Range | None, leaves: "_Placed") -> bool | None:
        best: bool | None = False
        for text in leaves.at(self._steps[path], wide=True):
            found = None if text is None else _one(test, text)
            if found:
                return True
            best = None if found is None else best
        return best

    def _sure(self, path: str, test: Names | Range | None, leaves: "_Placed") -> bool:
        if not leaves.at(self._steps[path], wide=False):
            return False
        texts = leaves.at(self._steps[path], wide=True)
        if None in texts:
            return False
        if isinstance(test, Names):
            return test.every([text for text in texts if text is not None])
        return all(_one(test, text) is True for text in texts if text is not None)


class _Placed:
    """The leaves of one document, by their last steps: many rules look at one, and a path ends as its leaf does.

    Taken apart and looked through by each rule, 9,000 leaves 60 deep took 0.3 s a rule.
    """

    def __init__(self, values: Iterable[str]) -> None:
        self.all: list[tuple[tuple[Step, ...], str]] = []
        self._lost: list[str | None] = []  # for each leaf whose place is not known
        self._ends: dict[Step, list[tuple[tuple[Step, ...], str]]] = {}
        known: dict[str, Step] = {}
        for value in values:
            if value[:1] != "$":
                continue  # a pair of a form, which stands beside leaves where statements are looked for
            place, text = _split(value, known)
            if place is None:
                self._lost.append(None)
                continue
            self.all.append((place, text))
            ends = {place[-1], place[_listed(place) - 1]} if place else ()
            for name, named in ends:
                self._ends.setdefault((name.casefold(), named), []).append((place, text))

    def at(self, wanted: tuple[Step, ...], wide: bool) -> list[str | None]:
        """Return the texts of the leaves at a path; None for one whose place is not known."""
        name, named = wanted[-1]
        likely = self.all if not named and name in (ANY, DEEP) else self._ends.get((name.casefold(), named), ())
        return [*self._lost, *(text for place, text in likely if _meets(wanted, place, wide))]


_DOCUMENTS: WeakKeyDictionary[frozenset[str], _Placed] = WeakKeyDictionary()  # as long as their facts live


def _placed(values: Iterable[str]) -> _Placed:
    if not isinstance(values, frozenset):
        return _Placed(values)
    found = _DOCUMENTS.get(values)
    if found is None:
        found = _DOCUMENTS[values] = _Placed(values)
    return found


def _split(value: str, known: dict[str, Step]) -> Leaf:
    """Return path and text of a leaf. A path alone is a leaf too. `known`: steps by how they are written."""
    at, place = 1, list[Step]()
    while match := STEP.match(value, at):
        at = match.end()
        step = known.get(match[0])
        if step is None:
            one = steps("$" + match[0])
            if one is None:
                return None, value
            step = known[match[0]] = one[0]
        place.append(step)
    if (at < len(value) and not value.startswith(BETWEEN, at)) or len(place) > MAX_STEPS:
        return None, value
    return tuple(place), value[at + len(BETWEEN) :]


def _one(test: Names | Range | None, text: str) -> bool | None:
    if test is None:
        return True
    return test.any([text]) if isinstance(test, Names) else test.one(text)


def _meets(wanted: tuple[Step, ...], place: tuple[Step, ...], wide: bool) -> bool:
    """Return True if a path leads to a place.

    `wide`: what is in a list is the list's as well, since many take `[5]` for 5 (JavaScript, PHP, Rails), and each of a
    list of documents is one, since many take a batch (JSON-RPC, GraphQL).
    """
    reached = _reached(wanted, place, wide)
    if len(place) in reached or not wide:
        return len(place) in reached
    if any(n in reached for n in range(_listed(place), len(place))):
        return True
    return len(place) > 1 and not place[0][1] and wanted[0][1] and _meets(wanted, place[1:], wide)


def _listed(place: tuple[Step, ...]) -> int:
    """Return how many steps of a path lead to the value or the list, of lists, that it is in."""
    end = len(place)
    while end > 1 and not place[end - 1][1]:
        end -= 1
    return end


def _reached(wanted: tuple[Step, ...], place: tuple[Step, ...], wide: bool) -> set[int]:
    """Walk the condition with the set of places in the path it can have reached: no backtracking.

    `wide`: names are the same in capitals and small letters, as some servers take them.
    """
    places = {0}
    for name, named in wanted:
        if name == DEEP and not named:
            places = set(range(min(places), len(place) + 1)) if places else places
        else:
            places = {i + 1 for i in places if i < len(place) and _same(name, named, place[i], wide)}
    return places


def _same(name: str, named: bool, step: Step, wide: bool) -> bool:
    if name == ANY and not named:
        return True
    if named != step[1]:
        return False
    return name == step[0] or (wide and named and name.casefold() == step[0].casefold())
