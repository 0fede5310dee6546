"""What a session has to do and to tell, in order: the effects of one event, the notes of the record among them."""

from collections import Counter
from collections.abc import Iterable

from appliance.model import Decision, Effect, Message, Note, Send, Side
from appliance.policy import MaskPlan
from appliance.wire import Wire

JOIN = 64 * 1024  # bytes of answers noted as one; a frame of the record stays small enough to read at a glance
ALONE = frozenset({"error", "notice", "complete", "suspended"})  # kinds that end a run of joined answers


class Scribe:
    """Collects effects; `take` hands them over. Numbers the decisions and questions of its flow."""

    def __init__(self, flow_id: str) -> None:
        self._flow_id = flow_id
        self._numbered = 0
        self._noted: Message | None = None
        self._out: list[Effect] = []

    def take(self) -> list[Effect]:
        """Return what was collected since the last call."""
        out, self._out = self._out, []
        return out

    def do(self, *effects: Effect) -> None:
        self._out.extend(effects)

    def send(self, to: Side, data: bytes) -> None:
        if data:
            self._out.append(Send(to, data))

    def next_id(self) -> str:
        """Return the id of the next decision or question."""
        self._numbered += 1
        return f"{self._flow_id}-{self._numbered}"

    def request(self, message: Message, subject: str) -> None:
        """Note a message of the client as it came, once; a secret one only by its kind."""
        if message is self._noted:
            return
        self._noted = message
        raw, text = (b"", "") if message.secret else (message.raw, subject)
        self.do(Note("message", text, Side.CLIENT, message.kind, raw, count=message.count))

    def notice(self, wire: Wire, text: str) -> None:
        """Tell a client that waits why, where the protocol has words for it."""
        data = wire.notice(text)
        if data:
            self.do(Note("message", text, Side.SERVER, "notice", data), Send(Side.CLIENT, data))

    def decision(self, decision: Decision, subject: str) -> str:
        """Note a decision; return its id."""
        id = self.next_id()
        self.do(Note("decision", subject, decision=decision, id=id))
        return id

    def incident(self, what: str, side: Side | None = None) -> None:
        self.do(Note("incident", what, side))

    def answers(self, messages: Iterable[Message], plans: Iterable[MaskPlan]) -> None:
        """Note and send what the server said, runs of it joined; an error or the end of a result ends a run."""
        run: list[Message] = []
        size = 0
        whole: list[bytes] = []
        for message in messages:
            run.append(message)
            whole.append(message.raw)
            size += len(message.raw)
            if message.kind in ALONE or size > JOIN:
                self._answer(run, plans)
                run, size = [], 0
        self._answer(run, plans)
        self.send(Side.CLIENT, b"".join(whole))

    def _answer(self, run: list[Message], plans: Iterable[MaskPlan]) -> None:
        if not run:
            return
        masked = sum(m.masked for m in run)
        hits: Counter[str] = Counter()
        for plan in plans if masked else ():
            hits += plan.hits
            plan.hits.clear()
        last = run[-1]
        self.do(
            Note(
                "message",
                text=last.status or last.text,
                side=Side.SERVER,
                message=last.kind,
                raw=b"".join(m.raw for m in run),
                count=sum(m.count for m in run if m.kind in ("row", "copy-data")),
                masked=masked,
                masks=tuple(hits),
            )
        )
