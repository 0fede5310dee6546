"""What a pipe needs of the relay it is in."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from appliance.model import Answered, Cancel, Flow, Learned, Note, Question, Withdraw
from appliance.relay.gate import Gate
from appliance.relay.gather import Gather
from appliance.relay.limits import Limits
from appliance.relay.pipes import Pipes
from appliance.relay.tally import Counts
from appliance.relay.tls import Contexts
from appliance.relay.turns import Turns

if TYPE_CHECKING:
    from appliance.relay.pipe import Pipe


class Outside(Protocol):
    """Where effects go that are not bytes. None of these calls may answer from inside."""

    limits: Limits
    counts: Counts
    contexts: Contexts
    pipes: Pipes
    gather: Gather
    turns: Turns

    @property
    def gate(self) -> Gate | None:
        """Where bytes wait until their record is on the disk."""

    def record(self, flow: Flow, notes: Sequence[Note]) -> None:
        """Append to the record; OSError if it cannot be written."""

    def ask(self, question: Question, answer: Callable[[Answered], None]) -> None:
        """Put a question; `answer` is called later."""

    def withdraw(self, effect: Withdraw) -> None:
        """Take a question back."""

    def cancel(self, effect: Cancel) -> None:
        """Pass a cancel request to whoever holds the question it is about."""

    def learned(self, flow: Flow, effect: Learned) -> None:
        """Keep what an answer of DNS told the flow's process, before the answer goes down."""

    def incident(self, flow: Flow | None, text: str) -> None:
        """Tell the operators."""

    def weigh(self, flow: Flow, more: int) -> bool:
        """So many bytes more wait in the flow; False if its vendor may not have more."""

    def crowded(self, pipe: "Pipe", weight: int) -> None:
        """The pipe stopped reading for want of memory, with so much of it: have it `regulate` soon, or end."""

    def ended(self, pipe: "Pipe") -> None:
        """Both connections of the pipe are no more."""
