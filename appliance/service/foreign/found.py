"""What was found in a capture, session by session, for a person or a program to read."""

from collections.abc import Callable, Sequence

import msgspec

from appliance.model import Flow, Note, Side
from appliance.record.frame import Frame
from appliance.record.session import Session, Tally
from appliance.session.onlooker import CONNECT

MAX_JUDGED = 1_000  # requests of a session that are shown; all are counted in its verdicts, and in the record
MAX_INCIDENTS = 100  # of a session


class Judged(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request, and what the rules would have done."""

    packet: int  # number of the frame that completed it, as Wireshark counts
    time: float  # unix seconds
    verdict: str
    rule: str
    text: str = ""
    reason: str = ""
    unknown: str = ""
    shadow: tuple[str, ...] = ()
    facts: dict[str, tuple[str, ...]] = {}


class Found(msgspec.Struct, frozen=True):
    """One session."""

    session: Session
    transport: str
    client: str
    server: str
    judged: list[Judged]
    incidents: list[str]
    more: int  # requests that are not in `judged`


class _Told:
    """What is known of one flow so far."""

    def __init__(self, flow: Flow, now: float) -> None:
        self.flow = flow
        self.tally = Tally(flow.id, flow.opened, now)
        self.judged: list[Judged] = []
        self.incidents: list[str] = []
        self.facts: dict[str, tuple[str, ...]] = {}  # of the request that waits for its decision
        self.frames = self.more = 0


class Finder:
    """A sink of flows; gives each session to `give` when it is over."""

    def __init__(self, give: Callable[[Found], None]) -> None:
        self._give = give
        self._told: dict[str, _Told] = {}

    def append(self, flow: Flow, notes: Sequence[Note], now: float, packet: int) -> None:
        told = self._told.get(flow.id) or self._told.setdefault(flow.id, _Told(flow, now))
        for note in notes:
            told.frames += 1
            whose = flow if told.frames == 1 else None
            told.tally.add(Frame(told.frames, now, flow.id, note, flow=whose, number=told.frames))
            self._take(told, note, now, packet)
            if note.kind == "closed":
                self._end(told)

    def _take(self, told: _Told, note: Note, now: float, packet: int) -> None:
        if note.kind == "message" and note.side is Side.CLIENT:
            told.facts = dict(note.facts)
        elif note.kind == "incident" and len(told.incidents) < MAX_INCIDENTS:
            told.incidents.append(note.text)
        elif note.kind == "decision" and note.decision is not None:
            if len(told.judged) >= MAX_JUDGED:
                told.more += 1
                return
            said, facts = note.decision, {} if note.text.startswith(CONNECT) else told.facts
            told.judged.append(Judged(
                packet, now, said.verdict, said.rule, note.text, said.reason, said.unknown, said.shadow, facts,
            ))  # fmt: skip

    def _end(self, told: _Told) -> None:
        flow = told.flow
        del self._told[flow.id]
        ends = str(flow.client), str(flow.server)
        self._give(Found(told.tally.session(), flow.transport, *ends, told.judged, told.incidents, told.more))
