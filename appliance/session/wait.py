"""The wait for a reviewer: one question at a time, with an end."""

from appliance.facts import Facts
from appliance.model import Answered, Ask, Decision, Message, Question, Withdraw
from appliance.session.answers import DENIED
from appliance.session.ground import Ground
from appliance.session.scribe import Scribe
from appliance.wire import Wire

OTHERWISE = "what the request would do changed while it waited"


class Wait:
    """Of one flow."""

    def __init__(self, ground: Ground, scribe: Scribe) -> None:
        self._ground, self._scribe = ground, scribe
        self.wall = 0.0  # the time of day, in unix seconds, at 0 of `now`
        self._question: Question | None = None
        self.by: float | None = None  # the answer must come

    def __bool__(self) -> bool:
        return self._question is not None

    def ask(self, wire: Wire, message: Message, subject: str, decision: Decision, *, now: float) -> float:
        """Hold a message; return for how many seconds at most."""
        within = decision.approval.within_s if decision.approval else 0.0
        self.by = now + within
        self._question = question = self._ground.question(
            self._scribe.next_id(), message, subject, decision, asked=self.wall + now, cancel_key=wire.cancel_key
        )
        self._scribe.asked(question, message)
        self._scribe.notice(wire, f"vendorgate holds this statement for approval (question {question.id})")
        self._scribe.do(Ask(question))
        return within

    def take(self, answer: Answered) -> Question | None:
        """Return the question that this answers, which waits no longer; None if there is none such."""
        question = self._question
        if question is None or answer.id != question.id:
            return None
        self._question = self.by = None
        return question

    def late(self, now: float) -> Answered | None:
        """Withdraw a question whose time is over; return the answer that this is."""
        question = self._question
        if question is None or self.by is None or now < self.by:
            return None
        self._scribe.do(Withdraw(question.id, "timed out"))
        return Answered(question.id, approved=False, by="time-out", reason="approval timed out")

    def end(self, why: str) -> None:
        """Nobody waits any longer."""
        question, self._question = self._question, None
        self.by = None
        if question:
            self._scribe.do(Withdraw(question.id, why))
            self._scribe.answered(question, f"denied: {why}")


def moot(question: Question, message: Message, facts: Facts | None, ground: Ground) -> str:
    """Return why the approval of a message counts for nothing; "" if it counts.

    It is bound to the rules it was asked under, and to what the message would do, as far as that was shown and
    judged: what was on its way before it may have changed how the server reads it. It is then judged anew.
    """
    if ground.revision != question.decision.revision:
        return "the rules changed while it waited"
    if facts is None or (facts.subject or message.text) != question.text:
        return OTHERWISE
    return "" if ground.decide(facts) == question.decision else OTHERWISE


def said(answer: Answered) -> str:
    """Return what the record says of an answer."""
    verdict = "approved" if answer.approved else "cancelled" if answer.cancelled else "denied"
    return f"{verdict}: {answer.reason}" if answer.reason else verdict


def refusal(answer: Answered) -> tuple[str, str]:
    """Return what the client is told of an answer that does not approve, and its code."""
    if answer.cancelled:
        return "canceling statement due to user request", "cancelled"
    return f"{DENIED} (question {answer.id})", "denied"
