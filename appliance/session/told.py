"""What the record is told of facts and columns, so that a session can be found and shown by them."""

from collections.abc import Iterable, Mapping

from appliance.facts import Facts, letters
from appliance.facts.words import PROTOCOLS
from appliance.model import Column, Named
from appliance.policy import MaskPlan

MAX_VALUES = 100  # of one key; as many as policy remembers decisions by. With more the key is "unknown"
MAX_KEPT = 64  # facts whose telling is kept; a reader gives the same for the same text
MAX_LETTERS = 4096  # characters of facts that are kept so; a request of HTTP with a body of 1 MiB has 10 MB
MAX_COLUMNS = 4096  # columns a flow's record was told of; then it is told again. A result has at most 1,664

Told = tuple[tuple[str, tuple[str, ...]], ...]


class Telling:
    """What one flow's record was told."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Facts, Told]] = {}
        self._columns: dict[Column, tuple[str, ...]] = {}

    def facts(self, facts: Facts | None) -> Told:
        """Return the names and words among facts. Not texts: they stand in the message, and may be secret."""
        if facts is None:
            return ()
        shape = facts.shape or facts  # texts are not told, so what is told of a shape is told of all that have it
        found = self._kept.get(id(shape))
        if found is not None:
            return found[1]
        new = told(facts)
        if shape is not facts or _is_small(facts):
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[id(shape)] = (shape, new)
        return new

    def columns(self, plans: Iterable[MaskPlan]) -> tuple[Named, ...]:
        """Return the columns that became known in answers, each once."""
        news = []
        for plan in plans:
            if not plan.named:
                continue
            for column, names in plan.named.items():
                if self._columns.get(column) != names:
                    if len(self._columns) >= MAX_COLUMNS:
                        self._columns.clear()
                    self._columns[column] = names
                    news.append(Named(column, names))
            plan.named.clear()
        return tuple(news)


def _is_small(facts: Facts) -> bool:
    """Return True if facts with their texts take little: they are kept with what was told of them."""
    values = facts.values.values()
    if sum(map(len, values)) > MAX_VALUES:
        return False
    return len(facts.subject) + letters(values) <= MAX_LETTERS


def told(facts: Facts) -> Told:
    """Return keys and their values in order; "unknown" has the keys that may have more."""
    keys = PROTOCOLS.get(facts.protocol, {})
    unknown = set(facts.unknown)
    found: Mapping[str, frozenset[str]] = {
        key: values
        for key, values in facts.values.items()
        if values and key in keys and keys[key].kind in ("name", "word")
    }
    unknown |= {key for key, values in found.items() if len(values) > MAX_VALUES}
    out = [(key, tuple(sorted(values)[:MAX_VALUES])) for key, values in sorted(found.items())]
    return (*out, ("unknown", tuple(sorted(unknown)))) if unknown else tuple(out)
