"""A flow of datagrams, of UDP or ICMP: each is judged by itself, those of the client one after the other.

A datagram of the client that the session does not send on is refused: its sender gets an error by ICMP, unless the
session answered it in the server's name (DNS). One of the server that is not sent on is dropped.
"""

from collections import deque
from collections.abc import Sequence

from appliance.model import Event, Flow, Received, Side
from appliance.packet.events import Datagram
from appliance.relay.session_type import Session
from appliance.service.lane import Lane, Outside
from appliance.service.outlet import Held

C, S = Side.CLIENT, Side.SERVER


class Datagrams(Lane):
    """Drives one flow of datagrams."""

    def __init__(self, number: int, flow: Flow, session: Session, outside: Outside) -> None:
        super().__init__(number, flow, session, outside)
        self._current: Held | None = None  # the client's, of which nothing is decided yet
        self._answered = False  # by us, in the server's name
        self._incoming: Held | None = None  # the server's, while the session looks at it
        self._behind: deque[Held] = deque()

    def take(self, held: Held) -> None:
        if held.taken.place == "bare":  # an error by ICMP, about a datagram of this flow
            self._outside.outlet.go(held)
        elif held.taken.side is S:
            self._server(held)
        elif self._current is None:
            self._client(held)
        elif len(self._behind) < self._outside.limits.behind:
            self._behind.append(held)
            if not self._weigh():
                self._outside.outlet.refuse(self._behind.pop())
                self._weigh()
        else:
            self._outside.outlet.refuse(held)

    @property
    def idle(self) -> bool:
        return not self._waiting()

    def look(self, now: float) -> None:
        self._expire(now)

    def _client(self, held: Held) -> None:
        self._current, self._answered = held, False
        self._give(Received(C, data(held)))
        self._settle()

    def _server(self, held: Held) -> None:
        self._incoming = held
        self._give(Received(S, data(held)))
        if self._incoming is not held:
            return
        self._incoming = None
        if self.over or data(held):
            self._outside.outlet.drop(held.queued.id)
        else:
            self._outside.outlet.go(held)  # an empty one: there is nothing to send, so no effect says so

    def _give(self, event: Event) -> None:
        super()._give(event)
        if not isinstance(event, Received):
            self._settle()

    def _settle(self) -> None:
        """Refuse what was looked at and not sent, and look at what waits behind it."""
        self._decide()
        self._weigh()

    def _decide(self) -> None:
        while not (self.over or self._questions):
            current, self._current = self._current, None
            if current is not None and self._answered:
                self._outside.outlet.drop(current.queued.id)
            elif current is not None:
                self._outside.outlet.refuse(current)
            if not self._behind:
                return
            self._current, self._answered = self._behind.popleft(), False
            super()._give(Received(C, data(self._current)))

    def _send(self, to: Side, data: bytes) -> None:
        if to is S:
            current, self._current = self._current, None
            if current is None:
                raise ValueError("a datagram of our own for the server")
            self._outside.outlet.go(current, data)
        elif self._incoming is not None:
            incoming, self._incoming = self._incoming, None
            self._outside.outlet.go(incoming, data)
        else:
            self._answered = True
            if data:  # else it is to wait for the client to say it again
                self._outside.outlet.answer(self.flow, data)

    def _shut(self, to: Side) -> None:
        pass

    def _finish(self) -> bool:
        return False

    def _waiting(self) -> Sequence[Held]:
        return [held for held in (self._current, *self._behind, self._incoming) if held is not None]

    def _abort(self, left: Sequence[Held]) -> None:
        self._current = self._incoming = None
        self._behind.clear()
        for held in left:
            if held.taken.side is C:
                self._outside.outlet.refuse(held)
            else:
                self._outside.outlet.drop(held.queued.id)


def data(held: Held) -> bytes:
    """Return the datagram that a packet completed."""
    return b"".join(event.data for event in held.taken.events if isinstance(event, Datagram))
