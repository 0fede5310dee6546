"""Answers that tell where names are: judged, and taken note of, before they go down.

What a rule says of an answer (`answer`, `rcode`) can only be judged when it comes: an answer that a rule blocks goes
down as the refusal of its question. What is learned is told to the caller before the answer is sent, so that a
connection that follows finds it; and only from servers that the rules name as such: a name is worth what they are.
"""

from typing import Final, Protocol, runtime_checkable

from appliance.facts import Facts, Reader
from appliance.model import Learned, Message
from appliance.session.ground import Ground
from appliance.session.scribe import Scribe
from appliance.wire import Wire

DENIED = "denied by vendorgate"  # what a client is told, with the id; never a rule's text
# Kinds that are not only sent on: answers to ourselves, those that rules judge, those that change what is spoken.
APART: Final = frozenset({"injected", "injected-done", "answer", "redirect", "tls", "tunnel"})


@runtime_checkable
class Tells(Reader, Protocol):
    """The reader of such a protocol."""

    def told(self, message: Message) -> Facts | None:
        """Return the facts of an answer, those of its question among them; None: not known."""

    def learned(self, message: Message) -> Learned | None:
        """Return the name that an answer gives to addresses."""


@runtime_checkable
class Withholds(Wire, Protocol):
    """Its wire."""

    def withheld(self, message: Message, code: str, text: str) -> Message:
        """Return an answer as the refusal of what it answers."""


def judged(message: Message, reader: Reader | None, wire: Wire, ground: Ground, scribe: Scribe) -> Message:
    """Return a message of kind "answer" as it may go down."""
    if not isinstance(reader, Tells) or not isinstance(wire, Withholds):
        return message
    facts = reader.told(message)
    if facts is None:  # forgotten by the reader and not by the wire: nobody could say what it answers
        scribe.incident("an answer that could not be judged")
        return wire.withheld(message, "refused", DENIED)
    decision = ground.decide(facts)
    if decision.verdict == "block":
        id_ = scribe.decision(decision, facts.subject)
        if not ground.withholds:
            return message
        return wire.withheld(message, decision.reply or "refused", f"{DENIED} (decision {id_})")
    learned = reader.learned(message) if ground.protocol == wire.name else None
    if learned is not None:
        scribe.do(learned)
    return message
