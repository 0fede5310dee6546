"""Masks: which cells of a result are changed, and how.

A rule with columns (or what a protocol has instead: CELLS of facts.words) masks whole values: of the columns it
names, and of every column whose origin is not known in a statement that touches a relation it protects. A rule with
detectors masks what they find, in any column; with both, what they find in those columns. Where several rules meet on
one cell the strictest method is used, in the order of STRICT, so that none undoes another.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from appliance.facts import Facts
from appliance.facts.words import CELLS
from appliance.model import Column
from appliance.policy.detect import Detectors
from appliance.policy.leaves import Leaves
from appliance.policy.patterns import Names
from appliance.policy.rule import Method, Rule
from appliance.wire import Cell

REDACTED = "[redacted]"
TELLING = frozenset(("keep-last-4", "hash"))  # methods that tell of a value, so of what is made of one
STRICT: Mapping[str, int] = {"null": 3, "redact": 2, "fixed": 2, "hash": 1, "keep-last-4": 0}
MAX_KEY = 64  # bytes; of blake2b

Origins = Callable[[Column], frozenset[str] | None]
Matches = Callable[[Rule, Facts], bool | None]


class Mask:
    """A mask rule, ready to use."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.key = next((key for key in rule.when if key in CELLS), "")
        self.columns = rule.when.get(self.key)
        self.touched = CELLS.get(self.key, "table")  # the key of facts that says what a statement touches
        self.relations: Names | None = None
        if isinstance(self.columns, Names):
            self.relations = self.columns if self.touched == self.key else _relations(self.columns)

    def touches(self, facts: Facts) -> bool:
        """Return True if the statement touches a protected relation, or cannot be known not to.

        Without columns every relation is protected.
        """
        values = facts.values
        if isinstance(self.columns, Leaves):
            return True  # what an answer holds, the request does not tell
        if self.relations is None:
            return bool(facts.unknown or any(values.get(key) for key in CELLS.values()))
        if self.touched in facts.unknown:
            return True
        if self.relations.any(values.get(self.touched, ())) is not False:
            return True
        return self.columns is not None and self.columns.any(values.get(self.key, ())) is not False

    def guards(self, facts: Facts) -> str:
        """Return why the statement may not run at all although its results would be masked; "" if it may."""
        for key, what in (("copied", "written elsewhere"), ("compared", "compared, sorted or grouped by")):
            if self.columns is None or (key == "compared" and self.rule.compare):
                continue
            if self.columns.any(facts.values.get(key, ())) is not False:
                return f"a column masked by {self.rule.id} would be {what}"
            if key in facts.unknown and self.touches(facts):
                return f"a column masked by {self.rule.id} might be {what}"
        shaped = facts.values.get("reshaped", ()) if _method(self.rule).name in TELLING else ()
        if shaped and self.columns is not None and self.columns.any(shaped) is not False:
            return f"a column masked by {self.rule.id} would be changed to what its mask shows more of"
        return ""


def _relations(columns: Names) -> Names:
    """Return the patterns of what the columns are in: all parts but the last."""
    return Names([".".join(_quoted(part) for part in c[:-1]) for c in columns.patterns], columns.parts - 1)


def _quoted(part: str) -> str:
    return '"' + part.replace('"', '""') + '"' if "." in part or '"' in part else part


class Masks:
    """The mask rules that apply between one process and one server. Falsy when there are none."""

    def __init__(self, masks: Sequence[Mask], matches: Matches, detectors: Detectors, key: bytes) -> None:
        self._masks, self._matches, self._detectors, self._key = tuple(masks), matches, detectors, key

    def __bool__(self) -> bool:
        return bool(self._masks)

    def _in_force(self, facts: Facts) -> list[Mask]:
        return [m for m in self._masks if self._matches(m.rule, facts) is not False]

    def touches(self, facts: Facts) -> bool:
        """Return True if the statement touches a protected relation, or cannot be known not to."""
        return any(m.columns is not None and m.touches(facts) for m in self._in_force(facts))

    def redacts(self, facts: Facts) -> bool:
        """Return True if an error that answers the statement could quote what a mask hides."""
        return any(m.touches(facts) for m in self._in_force(facts))

    def plan(self, facts: Facts, origins: Origins) -> "MaskPlan":
        """Return the plan for the results of one statement."""
        return MaskPlan(self._in_force(facts), facts, origins, self._detectors, self._key)


class MaskPlan:
    """Given the columns of a result, one cell per column; counts what the cells changed in `hits`, by rule.

    `copy` is the session's: what it knows of a COPY, for the wire.
    """

    copy: object | None = None

    def __init__(
        self, masks: Sequence[Mask], facts: Facts, origins: Origins, detectors: Detectors, key: bytes
    ) -> None:
        self.hits: Counter[str] = Counter()
        self.named: dict[Column, tuple[str, ...]] = {}  # columns it was given whose origin is known
        self.rules = tuple(m.rule.id for m in masks)  # that could change a cell
        self.finds_only = all(m.columns is None and m.rule.detect for m in masks)  # they change but what is found
        self.by_name = any(m.columns is not None for m in masks)  # they hide what has a name, whatever is in it
        self._masks, self._origins, self._detectors, self._key = masks, origins, detectors, key
        # Given many values at once, in UTF-8: True if none of them would be changed.
        self.leaves = detectors.nowhere if masks and self.finds_only and detectors.parts else None
        self._any: Cell | None = None  # how all cells are masked, where only finds are
        self._touched = {m.rule.id for m in masks if m.columns is not None and m.touches(facts)}
        # How cells are masked, and how they are called, by the names of their columns. A table has at most 1,600.
        self._cells: dict[frozenset[str] | None, tuple[Cell | None, tuple[str, ...]]] = {}

    def __call__(self, columns: tuple[Column, ...]) -> Sequence[Cell | None] | None:
        if not self._masks:
            return None
        cells = [self._cell(column) for column in columns]
        return cells if any(cells) else None

    def _cell(self, column: Column) -> Cell | None:
        names = self._origins(column)
        if names not in self._cells:
            if self.finds_only:
                self._any = cell = self._any or self._made(names)
            else:
                cell = self._made(names)
            self._cells[names] = cell, tuple(sorted(names or ()))
        cell, called = self._cells[names]
        if names is not None:
            self.named[column] = called
        return cell

    def _made(self, names: frozenset[str] | None) -> Cell | None:
        chosen = [m for m in self._masks if self._hides(m, names)]
        whole = [m.rule for m in chosen if not m.rule.detect]
        partly = {name: m.rule for m in reversed(chosen) for name in m.rule.detect}
        rank = {m.rule.id: i for i, m in enumerate(self._masks)}
        if not whole and not partly:
            return None
        cell = _Cell(
            whole=whole,
            partly=partly,
            rank=rank,
            detectors=self._detectors,
            key=self._key,
            hits=self.hits,
            made=names is None,
        )
        return cell.mask

    def _hides(self, mask: Mask, names: frozenset[str] | None) -> bool:
        if mask.columns is None:
            return True
        if names is None:
            return mask.rule.id in self._touched
        return mask.columns.any(names) is not False


class _Cell:
    """How one column is masked."""

    def __init__(
        self,
        *,
        whole: Sequence[Rule],
        partly: Mapping[str, Rule],
        rank: Mapping[str, int],
        detectors: Detectors,
        key: bytes,
        hits: Counter[str],
        made: bool = False,
    ) -> None:
        self._whole, self._partly, self._rank = whole, partly, rank
        self._detectors, self._key, self._hits = detectors, key, hits
        self._made = made  # the values may be made of protected ones, so that a method shows any part of them
        self._method = None if partly else self._chosen(whole)  # where it is the same for every value

    def mask(self, text: str) -> str | None:
        """Return the masked value; the same object if nothing is to be masked."""
        if self._method is not None:
            new = apply(self._method, text, self._key)
            if new == text:
                return text
            for rule in self._whole:
                self._hits[rule.id] += 1
            return new
        found = self._find(text) if self._partly else []
        if self._whole:
            rules = [*self._whole, *(rule for rule, _, _ in found)]
            out = apply(self._chosen(rules), text, self._key)
        elif found:
            rules = [rule for rule, _, _ in found]
            out = self._replace(text, found)
        else:
            return text
        if out == text:
            return text
        self._hits.update({rule.id for rule in rules})
        return out

    def _find(self, text: str) -> list[tuple[Rule, int, int]]:
        spans = self._detectors.find(text)
        found = [(self._partly[name], start, end) for name, (start, end) in spans if name in self._partly]
        return sorted(found, key=lambda f: (f[1], f[2]))

    def _replace(self, text: str, found: list[tuple[Rule, int, int]]) -> str | None:
        """Replace each find; finds that overlap are replaced as one, by the strictest of their rules."""
        out, at, i = [], 0, 0
        while i < len(found):
            rule, start, end = found[i]
            rules = [rule]
            while i + 1 < len(found) and found[i + 1][1] < end:
                i += 1
                rules.append(found[i][0])
                end = max(end, found[i][2])
            masked = apply(self._strictest(rules), text[start:end], self._key)
            if masked is None:
                return None
            out += [text[at:start], masked]
            at, i = end, i + 1
        return "".join(out) + text[at:]

    def _chosen(self, rules: Sequence[Rule]) -> Method:
        """Return how a whole value is masked."""
        method = self._strictest(rules)
        return Method() if self._made and method.name in TELLING else method

    def _strictest(self, rules: Sequence[Rule]) -> Method:
        chosen = min(rules, key=lambda r: (-STRICT[_method(r).name], self._rank[r.id]))
        return _method(chosen)


def _method(rule: Rule) -> Method:
    return rule.method or Method()


def apply(method: Method, text: str, key: bytes) -> str | None:
    """Return what stands in place of `text`.

    keep-last-4 never shows more than half of a value. hash is the same for the same value and key, 32 hex
    digits (also a valid uuid); without a key it could be guessed, so it is a redaction.
    """
    match method.name:
        case "null":
            return None
        case "fixed":
            return method.text
        case "keep-last-4":
            keep = min(4, len(text) // 2)
            return "*" * (len(text) - keep) + text[len(text) - keep :]
        case "hash" if key:
            data = text.encode("utf-8", "surrogatepass")
            return hashlib.blake2b(data, digest_size=16, key=key[:MAX_KEY]).hexdigest()
    return REDACTED
