"""A session over what has been said already: each request is judged and noted, and goes on as it did.

Nothing can be refused, held or asked: what the rules would have done is in the notes. What they mask is masked there.
TLS is not opened, whatever the rules say of it; what is in the clear of it is judged.
"""

import msgspec

from appliance.facts import Facts, Reader
from appliance.facts.readers import Shared
from appliance.model import Decision, Effect, Flow, Message, Trust
from appliance.policy import Policy
from appliance.session.core import Session
from appliance.session.ground import Ground
from appliance.session.plans import Plans
from appliance.session.unread import Unread
from appliance.wire import Wire

CONNECT = "connect to "  # how the text of a decision about a whole connection begins, as in a session's start


class Onlooker(Session):
    """As Session; its sends are for nobody."""

    def __init__(self, flow: Flow, policy: Policy, shared: Shared) -> None:
        super().__init__(flow, lambda: policy, shared)
        self._ground = self._beyond = Beyond(flow, policy)
        self._plans, self._raw = Plans(self._ground), Unread(self._ground, self._scribe)
        self._encryption.looks_on = True

    @property
    def unread(self) -> bool:
        """What is said from now on is not read: it is inside TLS, or it was no protocol known here."""
        return self._wire is None or self._closed

    @property
    def protocol(self) -> str:
        """What is spoken, as far as it is known."""
        return self._wire.name if self._wire else ""

    def start(self, now: float, wall: float) -> list[Effect]:
        effects = super().start(now, wall)
        if self._beyond.admitted is not None and self._beyond.admitted.verdict == "block":
            self._scribe.decision(self._beyond.admitted, f"{CONNECT}{self._flow.server}")
        return [*effects, *self._scribe.take()]

    def _wanted(self, wire: Wire, reader: Reader, facts: Facts) -> str:
        return ""

    def _judge(self, wire: Wire, message: Message, facts: Facts, now: float) -> None:
        decision = self._scribe.judged(self._ground.decide(facts), wire.idle)
        decision = self._plans.impossible(self._reading(wire), message, facts) or decision
        subject = facts.subject or message.text
        self._line.shift()
        self._scribe.request(message, subject, facts)
        self._scribe.decision(decision, subject)
        self._forward(wire, message, facts)

    def _enter(self, tunnel: Message, now: float) -> None:
        self._wire = None  # where a tunnel leads is not looked up from here

    def _refuse(self, text: str, code: str = "denied") -> None:
        self._close(text)

    def note(self, text: str) -> list[Effect]:
        """Note something that is odd about the flow."""
        self._scribe.incident(text)
        return self._scribe.take()

    def leave(self, text: str) -> list[Effect]:
        """Read no further: what comes next cannot be understood without what is missing."""
        if not self._closed:
            self._scribe.incident(text)
            self._close(text)
        return self._scribe.take()


class Beyond(Ground):
    """Where nobody can be kept out any more."""

    admitted: Decision | None = None
    withholds = False

    def admit(self) -> Decision:
        self.admitted = super().admit()
        return msgspec.structs.replace(self.admitted, verdict="allow")

    def passes(self) -> None:
        return None

    def names(self) -> bool:
        return False

    def _take(self, policy: Policy) -> None:
        super()._take(policy)
        self.trust = Trust(passes=True)
