"""Conditions on statements that a request carries: `sql: {field: "$.query", dialect: postgres, effect: drop}`.

A value of the key is where a text stands and the text: a leaf of JSON (`$.query = SELECT 1`), a pair of a form or a
query (`query=SELECT 1`), or the whole body under the name `body`. What stands at the field is read as a statement of
the dialect, by the same reader that follows its connections, in a session that nothing is known of; the conditions
beside `field` and `dialect` are about what it would do.

Servers differ in what they take for the field: a name in any case, an element of a list (`q[]=`, `["SELECT 1"]`), a
name that PHP reads as another (`my.q` as `my_q`). All of these may be it, so none of them may say what is not allowed.
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache

from appliance.facts import Facts
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.model import Message, Side
from appliance.policy.leaves import Leaves
from appliance.policy.patterns import Names, Numbers

MAX_STATEMENTS = 50  # of one request; each costs a parse. Batches of honest clients have a few
MAX_TEXT = 64 * 1024  # characters of all of them; the slowest take MySQL's reader 1 s, usual ones have 1,000
MAX_KEPT = 64  # statements whose facts are kept, so that many rules about one cost no more than one; 4 MB of text


class Statements:
    """What each statement at a field must be."""

    def __init__(self, field: str, dialect: str, when: Mapping[str, Names | Numbers]) -> None:
        """
        Raises:
            ValueError: `field` begins as a path and is none.
        """
        self.field, self.dialect, self.when = field, dialect, dict(when)
        self._path = Leaves({field: None}) if field.startswith("$") else None

    @property
    def texts(self) -> tuple[str, ...]:
        tests = (f"{key} {' '.join(test.texts)}" for key, test in sorted(self.when.items()))
        return (f"{self.dialect} at {self.field}: {', '.join(tests)}",)

    def any(self, values: Collection[str]) -> bool | None:
        """Return True if a statement there fits, None if one could."""
        best: bool | None = False
        for text in self._at(values, wide=True):
            found = None if text is None else self._one(text, sure=False)
            if found:
                return True
            best = None if found is None else best
        return best

    def every(self, values: Collection[str]) -> bool:
        """Return True if there are statements, and each fits for certain, those that only some servers take too."""
        if not self._at(values, wide=False):
            return False
        return all(text is not None and self._one(text, sure=True) for text in self._at(values, wide=True))

    def covers(self, other: "Statements") -> bool:
        """Return True if whatever `other` matches, this does too."""
        return self.texts == other.texts

    def _at(self, values: Collection[str], wide: bool) -> list[str | None]:
        """Return the statements at the field; None for one whose place is not known, or one too many."""
        if self._path is not None:
            found = self._path.at(self.field, values, wide)
            if wide and self._path.below(self.field, values):
                found.append(None)
        else:
            pairs = (value.partition("=") for value in values)
            found = [_said(name, text, self.field) for name, _, text in pairs if _alike(name, self.field, wide)]
        size = sum(len(text or "") for text in found)
        return found if len(found) <= MAX_STATEMENTS and size <= MAX_TEXT else [None]

    def _one(self, text: str, sure: bool) -> bool | None:
        facts = _read(self.dialect, text)
        if facts is None:
            return None
        answers = {_holds(test, key, facts, sure) for key, test in self.when.items()}
        return False if False in answers else None if None in answers else True


def _holds(test: Names | Numbers, key: str, facts: Facts, sure: bool) -> bool | None:
    values = facts.values.get(key, frozenset())
    if sure:
        return key not in facts.unknown and bool(values) and test.every(values)
    answer = test.any(values)
    return None if answer is False and key in facts.unknown else answer


@lru_cache(maxsize=MAX_KEPT)
def _read(dialect: str, text: str) -> Facts | None:
    message = Message(Side.CLIENT, "query", text.encode(), text)
    return open_reader(dialect, Shared(), needs_catalog=False).ask(message)


def _alike(name: str, field: str, wide: bool) -> bool:
    return name == field or (wide and _bare(name) == _bare(field))


def _said(name: str, text: str, field: str) -> str | None:
    """Return a statement; None for a part of a list, which servers join in many ways."""
    return None if "[" in name and name != field else text


def _bare(name: str) -> str:
    """Return a name as the most lenient servers take it: PHP's manual, "Variables From External Sources"."""
    plain = name.partition("\0")[0].strip().casefold()
    return re.sub(r"[ .]", "_", plain.partition("[")[0] or plain)
