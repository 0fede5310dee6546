"""Texts that differ in constants only mean the same, where nothing was concluded from a value of a constant.

Theory of operation. A text is cut into its constants and all else. The first time, it is read whole, and the walk over
its tree notes where it passed a constant by and where it looked at one's value (`Walk.look`: ORDER BY 1, set_config).
Places of the first sort may differ from then on; all others are part of what is the same: numbers in a type, digits
in comments and quoted names, whatever was cut out that the grammar does not call a constant.

Why such texts have one meaning: the scanner reads up to the first place that differs as it did before, and there the
same kind of token, which ends where it is cut, since what may stand before and behind one is limited so that nothing
joins it. So all tokens are the same but for values; the grammar sees kinds of tokens, and the tree is the same but for
the values of constants no one looked at. As a second line, a form is used only when two texts of it were
read whole and said the same, and never more once two of them did not.

Source: PostgreSQL 18 sources, scan.l: numbers, strings, and what continues them. Not cut, so never alike: texts with a
backslash or beyond ASCII, other writings of numbers (1e5, 0x1f, 1_000), strings with a letter before them.
"""

import re
from typing import Final

from appliance.facts.sql.reading import Reading
from appliance.facts.sql.tree import SHORT
from appliance.facts.sql.world import World

MAX_FORMS = 1_000  # forms kept with what they mean; programs have a few dozen statements, each in one
MAX_FORM = 4_096  # characters of a form that is kept; with MAX_FORMS at most 4 MB
MAX_KEPT = 4  # readings of one form, by constants that were looked at: ORDER BY 1, ORDER BY 2
MAX_LOOKED = 200  # characters of such constants; with MAX_FORMS and MAX_KEPT at most 1 MB
MAX_TEXT = SHORT  # characters of a text that is cut: beyond, what a text nests is counted over constants too
MAX_INT: Final = 2_147_483_647  # a number over that is a token of another kind
DIGITS: Final = 10  # of MAX_INT; with fewer none is over it

_CONSTANT: Final = re.compile(r"""(?<![\w.$&"'])(\d{1,15}+(?:\.\d{1,15}+)?(?![\w.$])|'(?:[^']|'')*+')""", re.ASCII)


class Cut:
    """A text, taken apart."""

    __slots__ = ("constants", "form")

    def __init__(self, form: str, constants: list[str]) -> None:
        self.form = form  # with the kind of each constant in its place
        self.constants = constants


def cut(text: str) -> Cut | None:
    """Return the constants of a text and what is left of it; None if it has none, or is not of those that are cut."""
    if len(text) > MAX_TEXT or not text.isascii() or "\\" in text or "\0" in text:
        return None
    parts = _CONSTANT.split(text)
    if len(parts) == 1:
        return None
    constants = parts[1::2]
    parts[1::2] = [_kind(constant) for constant in constants]
    form = "".join(parts)
    return Cut(form, constants) if len(form) <= MAX_FORM else None


def _kind(constant: str) -> str:
    """Return what stands for a constant in a form: the kind of its token, behind a character no text has."""
    if constant[0] == "'":
        return "\0s"
    if "." in constant:
        return "\0f"
    return "\0i" if len(constant) < DIGITS or int(constant) <= MAX_INT else "\0f"


def looked(text: str, passed: frozenset[int]) -> tuple[int, ...]:
    """Return which of a text's constants, by number, are not among those at places that were `passed` by."""
    places = [match.start() for match in _CONSTANT.finditer(text)]
    # Of a minus and the number behind it the grammar makes one constant, which begins with the minus.
    return tuple(
        number
        for number, at in enumerate(places)
        if at not in passed and not (at - 1 in passed and text[at - 1] == "-" and text[at] != "'")
    )


class _Form:
    """What texts of one form mean."""

    __slots__ = ("looked", "readings")

    def __init__(self) -> None:
        self.looked: tuple[int, ...] = ()  # numbers of the constants that count
        self.readings: dict[tuple[str, ...], tuple[Reading, bool]] = {}  # by those; True: two texts have it

    def add(self, one: Cut, reading: Reading, looked: tuple[int, ...]) -> None:
        if not set(looked) <= set(self.looked):
            self.looked = tuple(sorted({*self.looked, *looked}))
            self.readings.clear()
        counts = self.counts(one)
        before = self.readings.get(counts)
        if before is not None and before[0] != reading:  # what is said above is not so: never alike
            self.looked = tuple(range(len(one.constants)))
            self.readings.clear()
        elif len(self.looked) < len(one.constants) and sum(map(len, counts)) <= MAX_LOOKED:
            if len(self.readings) >= MAX_KEPT:
                self.readings.clear()
            self.readings[counts] = (reading, False) if before is None else (before[0], True)

    def counts(self, one: Cut) -> tuple[str, ...]:
        return tuple([one.constants[number] for number in self.looked])


class Alike:
    """Forms of texts, and what they mean. Mutable; for all flows of one worker, since nothing of a flow is in it."""

    def __init__(self) -> None:
        self._forms: dict[tuple[str, World], _Form] = {}

    def find(self, one: Cut, world: World) -> Reading | None:
        """Return what a text means in a world, if that is known from others."""
        form = self._forms.get((one.form, world))
        if form is None:
            return None
        found = form.readings.get(form.counts(one) if form.looked else ())
        return found[0] if found is not None and found[1] else None

    def learn(self, one: Cut, world: World, reading: Reading, looked: tuple[int, ...]) -> None:
        """Note what a text means that was read whole."""
        form = self._forms.get((one.form, world))
        if form is None:
            if len(looked) == len(one.constants):
                return
            if len(self._forms) >= MAX_FORMS:
                del self._forms[next(iter(self._forms))]
            form = self._forms[one.form, world] = _Form()
        form.add(one, reading, looked)

    def drop(self, catalog: object) -> None:
        """Forget what was read by a catalogue that is replaced."""
        self._forms = {key: form for key, form in self._forms.items() if key[1].catalog is not catalog}

    def clear(self) -> None:
        self._forms.clear()
