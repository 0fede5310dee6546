"""What the relay needs of a session. `appliance.session.Session` is one; so is any test's."""

from collections.abc import Sequence
from typing import Protocol

from appliance.model import Effect, Event, Trust


class Session(Protocol):
    """One flow. Given events and the time, it returns effects; the relay performs them in order."""

    @property
    def deadline(self) -> float | None:
        """When to give it `Woke`, on the clock of `now`; None for never."""

    @property
    def held(self) -> int:
        """Bytes that complete messages take that wait.

        Not those of a message still on its way: the relay stops reading by this number.
        """

    @property
    def kept(self) -> int:
        """Bytes of messages that have begun and not ended, though others were read after them."""

    @property
    def passing(self) -> bool:
        """True while bytes of either side go to the other whatever they are: they need not be given to it.

        It is asked again before each piece.
        """

    @property
    def trust(self) -> Trust:
        """How the server is to prove who it is, by the rules in force."""

    def start(self, now: float, wall: float) -> Sequence[Effect]:
        """Open the flow; `wall` is unix seconds at `now`."""

    def receive(self, event: Event, now: float) -> Sequence[Effect]:
        """Take one event."""

    def fail(self, text: str) -> Sequence[Effect]:
        """End the flow with an error of its protocol, for a cause outside it."""
