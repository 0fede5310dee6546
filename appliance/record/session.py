"""A recorded session as the list shows it, and how it is summed up from its frames."""

from pathlib import PurePosixPath

import msgspec

from appliance.model import Flow, Note
from appliance.record.frame import Frame

MASK = "mask"  # what stands for a verdict in the tally of a rule that masked


class Actor(msgspec.Struct, frozen=True, gc=False):
    """The process of a session."""

    pid: int
    exe: str
    argv: tuple[str, ...]
    cgroup: str
    package: str


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


class Filter(msgspec.Struct, frozen=True, gc=False):
    """Which sessions. What is empty asks for nothing; `who`, `exe` and `to` may hold * and ?."""

    id: str = ""  # the first characters of it
    who: str = ""  # identity, or cgroup below the slice
    exe: str = ""  # path, or the last part of it
    to: str = ""  # target, address or address:port
    verdict: str = ""  # allow | block | approve | mask: given at least once
    since: float | None = None  # unix seconds; something happened then or later
    until: float | None = None  # it began then or before
    limit: int = 1000  # newest first; keeps an answer below a few hundred kB. 0: all


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
    verdicts: dict[str, dict[str, int]] = {}  # verdict -> rule -> how often
    masking: set[str] = set()  # rules that masked answers to the request at hand, each counted once

    def add(self, frame: Frame) -> None:
        note = frame.note
        self.last = max(self.last, frame.time)
        if frame.flow:
            self._meet(frame.flow)
        self.identity = note.identity or self.identity
        self.target = note.target or self.target
        self.protocol = note.protocol or self.protocol
        self.bytes += frame.size
        match note.kind:
            case "message":
                self.messages += max(note.count, 1)
                self._masked(note)
            case "decision" | "asked" if note.decision:
                self._count(note.decision.verdict, note.decision.rule)
                self.masking = set()
            case "closed":
                self.ended = frame.time

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
        )

    @property
    def exe(self) -> str:
        return self.process.exe if self.process else ""

    @property
    def program(self) -> str:
        return PurePosixPath(self.exe).name

    @property
    def cgroup(self) -> str:
        return self.process.cgroup if self.process else ""

    def _meet(self, flow: Flow) -> None:
        process = flow.process
        self.started, self.server = flow.opened, str(flow.server)
        if process:
            self.process = Actor(process.pid, process.exe, process.argv, process.cgroup, process.package)

    def _masked(self, note: Note) -> None:
        for rule in note.masks:
            if note.masked and rule not in self.masking:
                self._count(MASK, rule)
                self.masking.add(rule)

    def _count(self, verdict: str, rule: str) -> None:
        rules = self.verdicts.setdefault(verdict, {})
        rules[rule] = rules.get(rule, 0) + 1
