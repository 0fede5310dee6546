"""What changes, counted: by kind of change, rule, identity and target, with examples."""

from typing import Literal

import msgspec

from appliance.model import Decision
from appliance.record.text import line

Kind = Literal["newly blocked", "newly held", "newly allowed", "newly masked", "no longer masked"]
KINDS: tuple[Kind, ...] = ("newly blocked", "newly held", "newly allowed", "newly masked", "no longer masked")
BY_VERDICT: dict[str, Kind] = {"block": "newly blocked", "approve": "newly held", "allow": "newly allowed"}

MAX_EXAMPLES = 3  # of one change; more are found by `sessions` with its rule
MAX_TEXT = 300  # characters of an example
MAX_CHANGES = 10_000  # kinds of changes told apart; identities are made by vendors. More are counted together
MANY = "(others)"

Place = tuple[str, str]
"""Identity and target."""


class Example(msgspec.Struct, frozen=True):
    """One request it is about."""

    session: str
    time: float  # unix seconds
    text: str


class Change(msgspec.Struct):
    """Requests for which the same changes for the same reason."""

    change: Kind
    rule: str  # that decides, or masks, by the rules asked about; of what is no longer masked: that did mask
    before: str  # the verdict and the rule then
    reason: str
    identity: str
    target: str
    count: int = 0
    cells: int = 0  # of those newly masked
    examples: list[Example] = []


class Unjudged(msgspec.Struct):
    """What cannot be told from the record."""

    why: str
    count: int = 0
    examples: list[Example] = []


class Report(msgspec.Struct, frozen=True):
    """All of it, what matters first."""

    revision: str  # of the rules asked about
    sessions: int
    requests: int  # judged again
    unchanged: int
    changes: list[Change]
    unjudged: list[Unjudged]


class Counts:
    """Grows session by session."""

    def __init__(self, revision: str) -> None:
        self.sessions = 0
        self._revision = revision
        self._requests = self._unchanged = 0
        self._rows: dict[tuple[str, ...], Change] = {}
        self._gaps: dict[str, Unjudged] = {}

    def report(self) -> Report:
        rows = sorted(
            self._rows.values(), key=lambda r: (KINDS.index(r.change), -r.count, r.rule, r.identity, r.target)
        )
        gaps = sorted(self._gaps.values(), key=lambda gap: -gap.count)
        return Report(self._revision, self.sessions, self._requests, self._unchanged, rows, gaps)

    def decided(self, was: Decision, now: Decision, place: Place, example: Example) -> None:
        """Count a request that was judged then and again."""
        self._requests += 1
        if was.verdict == now.verdict:
            self._unchanged += 1
        else:
            row = self._row((BY_VERDICT[now.verdict], now.rule, f"{was.verdict} by {was.rule}"), place, example)
            row.reason = row.reason or now.reason

    def masked(self, kind: Kind, rule: str, place: Place, cells: int, example: Example) -> None:
        """Count a request of which a rule masks the answer, or does no longer."""
        before = "not masked" if kind == "newly masked" else "masked"
        self._row((kind, rule, before), place, example).cells += cells

    def lacks(self, why: str, example: Example) -> None:
        """Count what cannot be told."""
        if why not in self._gaps and len(self._gaps) >= MAX_CHANGES:
            why = MANY
        gap = self._gaps.setdefault(why, Unjudged(why))
        gap.count += 1
        _keep(gap.examples, example)

    def _row(self, what: tuple[Kind, str, str], place: Place, example: Example) -> Change:
        if (*what, *place) not in self._rows and len(self._rows) >= MAX_CHANGES:
            what, place = (what[0], MANY, MANY), (MANY, MANY)
        row = self._rows.setdefault((*what, *place), Change(*what, "", *place))
        row.count += 1
        _keep(row.examples, example)
        return row


def _keep(examples: list[Example], example: Example) -> None:
    text = line(example.text)
    text = text[:MAX_TEXT] + ("..." if len(text) > MAX_TEXT else "")
    if len(examples) < MAX_EXAMPLES and all(one.text != text for one in examples):
        examples.append(Example(example.session, example.time, text))
