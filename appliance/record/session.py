"""A recorded session as the list shows it, and how it is summed up from its frames."""

import msgspec

from appliance.model import Flow, Note, Process, Spent
from appliance.record.frame import Frame

MASK = "mask"  # what stands for a verdict in the tally of a rule that masked
MAX_NAMES = 16  # reviewers, and revisions of rules, that one session is listed with; more are in its frames


class Actor(msgspec.Struct, frozen=True, gc=False):
    """The process of a session."""

    pid: int
    exe: str
    argv: tuple[str, ...]
    cgroup: str
    package: str
    sha256: str = ""
    script: str = ""
    script_sha256: str = ""
    unit: str = ""
    container: str = ""


class Session(msgspec.Struct, frozen=True, gc=False):
    """One recorded flow. The fields are the public JSON form."""

    id: str
    started: float  # unix seconds
    ended: float | None  # None: it goes on, or its worker died
    identity: str
    process: Actor | None
    target: str
    protocol: str
    messages: int  # of both sides; rows count one by one
    verdicts: dict[str, int]  # rule -> requests it decided, or answers it masked
    bytes: int
    rows: int = 0
    masked: int = 0  # cells
    answered_by: tuple[str, ...] = ()  # reviewers
    revisions: tuple[str, ...] = ()  # of the rules that decided
    spent: Spent = Spent()  # all its messages together
    source: str = ""  # the capture file it was imported from, with its SHA-256; empty: it went through this host


class Filter(msgspec.Struct, frozen=True, gc=False):
    """Which sessions. What is empty asks for nothing; texts may hold * and ?."""

    id: str = ""  # the first characters of it
    who: str = ""  # identity, or cgroup below the slice
    exe: str = ""  # path, or the last part of it; of an interpreter also what it runs
    to: str = ""  # target, address or address:port
    verdict: str = ""  # allow | block | approve | mask: given at least once
    since: float | None = None  # unix seconds; something happened then or later
    until: float | None = None  # it began then or before
    limit: int = 1000  # newest first; keeps an answer below a few hundred kB. 0: all
    rule: str = ""  # id of a rule that decided or masked
    table: str = ""  # touched, as facts name it; without a schema, in any
    statement: str = ""  # of the client, capitals and spaces as you like
    text: str = ""  # words said by either side, not those in rows; "two words" in a row, the begin of one with *
    package: str = ""
    sha256: str = ""  # of the executable or script, or how it begins
    by: str = ""  # who answered a question


class Tally(msgspec.Struct):
    """What is known of a session so far. `add` each of its frames, in order."""

    id: str
    started: float
    last: float  # time of the newest frame
    server: str = ""
    ended: float | None = None
    identity: str = ""
    process: Actor | None = None
    target: str = ""
    protocol: str = ""
    messages: int = 0
    bytes: int = 0
    rows: int = 0
    masked: int = 0
    answered_by: list[str] = []
    revisions: list[str] = []
    spent: Spent = Spent()
    source: str = ""
    verdicts: dict[str, dict[str, int]] = {}  # verdict -> rule -> how often
    masking: set[str] = set()  # rules that masked answers to the request at hand, each counted once

    def add(self, frame: Frame) -> None:
        note = frame.note
        self.last = max(self.last, frame.time)
        if frame.flow:
            self.meet(frame.flow)
        self.identity = note.identity or self.identity
        self.target = note.target or self.target
        self.protocol = note.protocol or self.protocol
        self.bytes += frame.size
        if note.spent:
            self.spent = together(self.spent, note.spent)
        match note.kind:
            case "message":
                self.messages += max(note.count, 1)
                self._masked(note)
            case "decision" | "asked" if note.decision:
                self._count(note.decision.verdict, note.decision.rule)
                _once(self.revisions, note.decision.revision)
                self.masking = set()
            case "answered":
                _once(self.answered_by, note.by)
            case "closed":
                self.ended = frame.time

    def meet(self, flow: Flow) -> None:
        """Take in whose flow it is."""
        self.started, self.server, self.source = flow.opened, str(flow.server), flow.source
        if flow.process:
            self.process = actor(flow.process)

    def session(self) -> Session:
        """Return it as the list shows it."""
        rules: dict[str, int] = {}
        for counts in self.verdicts.values():
            for rule, count in counts.items():
                rules[rule] = rules.get(rule, 0) + count
        return Session(
            self.id,
            self.started,
            self.ended,
            self.identity,
            self.process,
            self.target,
            self.protocol,
            self.messages,
            rules,
            self.bytes,
            self.rows,
            self.masked,
            tuple(self.answered_by),
            tuple(self.revisions),
            self.spent,
            self.source,
        )

    def _masked(self, note: Note) -> None:
        if note.side is not None and note.side.value == "server":
            self.rows += note.count
        self.masked += note.masked
        for rule in note.masks:
            if note.masked and rule not in self.masking:
                self._count(MASK, rule)
                self.masking.add(rule)

    def _count(self, verdict: str, rule: str) -> None:
        rules = self.verdicts.setdefault(verdict, {})
        rules[rule] = rules.get(rule, 0) + 1


def actor(process: Process) -> Actor:
    """Return a process as the list shows it."""
    return Actor(
        process.pid,
        process.exe,
        process.argv,
        process.cgroup,
        process.package,
        process.sha256,
        process.script,
        process.script_sha256,
        process.unit,
        process.container,
    )


def together(one: Spent, other: Spent) -> Spent:
    """Return the sum of two times."""
    return Spent(
        one.parse + other.parse,
        one.policy + other.policy,
        one.hold + other.hold,
        one.upstream + other.upstream,
    )


def _once(names: list[str], name: str) -> None:
    if name and name not in names and len(names) < MAX_NAMES:
        names.append(name)
