"""What comes again and again in frames, taken apart once. By all of its bytes, so nobody is told what another said."""

from typing import TypeVar

from msgspec import Raw

from appliance.record.index.seen import MAX_BYTES, MAX_KEPT, Ruled, columns, decisions, pairs
from appliance.record.index.words import FACTS, fit

Names = tuple[tuple[str, str], ...]
_T = TypeVar("_T")


class Kept:
    """Of one index. What is asked raises msgspec.DecodeError if the bytes are not what they are taken for."""

    def __init__(self) -> None:
        self._ruled: dict[bytes, Ruled | None] = {}
        self._names: dict[bytes, Names] = {}
        self._columns: dict[bytes, bool] = {}

    def ruled(self, raw: Raw) -> Ruled | None:
        """Return what a decision says; None if it is none."""
        key = bytes(raw)
        if key in self._ruled:
            return self._ruled[key]
        decision = decisions.decode(key)
        found = Ruled(decision.verdict, decision.rule, decision.revision) if decision else None
        if _room(key, self._ruled):
            self._ruled[key] = found
        return found

    def names(self, key: bytes) -> Names:
        """Return the names in facts."""
        found = self._names.get(key)
        if found is None:
            said = pairs.decode(key)
            found = tuple((FACTS[kind], fit(one.lower())) for kind, values in said if kind in FACTS for one in values)
            if _room(key, self._names):
                self._names[key] = found
        return found

    def check(self, raw: Raw) -> None:
        """Look whether these are columns."""
        key = bytes(raw)
        if key not in self._columns:
            columns.decode(key)
            if _room(key, self._columns):
                self._columns[key] = True


def _room(key: bytes, kept: dict[bytes, _T]) -> bool:
    """Tell whether something is kept, after there is room for it."""
    if len(kept) >= MAX_KEPT:
        kept.clear()
    return len(key) <= MAX_BYTES
