"""A session over a connection that is not terminated: the peers count its bytes, so none is added or left out.

A message that is denied ends the connection by resets, and a client is told nothing while its message is held. Nothing
is asked of the server by ourselves: what only its catalogue tells is unknown here. TLS is passed unread where the rules
say so (`tls: pass`), else it ends the connection. An answer that a mask would make longer or shorter ends it too: each
value must keep its length (`Exact`), and `Paired` reads every answer a second time, unmasked, and compares.
"""

from collections.abc import Callable, Iterator, Sequence

from appliance.facts import Facts, Reader
from appliance.model import Column, Effect, Message, ProtocolError, Send, Side
from appliance.session.core import Session
from appliance.wire import Cell, Plan, Wire

LONGER = "an answer that would be longer or shorter for its masks, in a connection that is not terminated"
LATE = "masks that came into force after a connection had begun that is not terminated"
UNOPENED = "TLS cannot be opened in a connection that is not terminated, and the rules do not pass it unread"


class Rigid(Session):
    """As Session; `Send` to the server is what the client said, to the client as long as what the server said."""

    def start(self, now: float, wall: float) -> list[Effect]:
        effects = super().start(now, wall)
        if self._wire is not None:
            self._wire = Paired(self._wire, self._ground.wire() if self._ground.masks() else None)
        return effects

    @property
    def unmasked(self) -> bool:
        """True if answers go down as they come: no mask may touch them."""
        self._meet()
        return not self._ground.masks()

    def _wanted(self, wire: Wire, reader: Reader, facts: Facts) -> str:
        return ""

    def _hello(self) -> None:
        if self._ground.trust.passes:
            super()._hello()
        else:
            self._scribe.incident(UNOPENED, Side.CLIENT)
            self._close(UNOPENED, abort=True)

    def _enter(self, tunnel: Message, now: float) -> None:
        self._close("a tunnel is not entered in a connection that is not terminated", abort=True)

    def _deny(self, wire: Wire, message: Message, text: str, code: str = "denied") -> None:
        self._close(text, abort=True)

    def _refuse(self, text: str, code: str = "denied") -> None:
        self._close(text, abort=True)


class Paired:
    """A wire that says nothing by itself, and where there are masks, beside it one that is given none."""

    def __init__(self, wire: Wire, plain: Wire | None) -> None:
        self._wire, self._plain = wire, plain
        self._left = 0  # bytes that the other has answered, and the masking one has not yet
        self.name = wire.name

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        for message in self._read(side, data):
            self.name = self._wire.name  # one that finds out has found out by now
            yield message

    def _read(self, side: Side, data: bytes) -> Iterator[Message]:
        if self._plain is None:
            return self._wire.feed(side, data)
        return self._client(self._plain, data) if side is Side.CLIENT else self._server(self._plain, data)

    def _client(self, plain: Wire, data: bytes) -> Iterator[Message]:
        beside = plain.feed(Side.CLIENT, data)
        for message in self._wire.feed(Side.CLIENT, data):
            next(beside, None)
            yield message
        next(beside, None)

    def _server(self, plain: Wire, data: bytes) -> Iterator[Message]:
        messages = list(self._wire.feed(Side.SERVER, data))
        self._left += sum(len(m.raw) for m in plain.feed(Side.SERVER, data)) - sum(len(m.raw) for m in messages)
        if self._left < 0 or (self._left and self._wire.idle and plain.idle):
            raise ProtocolError(LONGER)
        yield from messages

    def encrypted(self) -> bytes:
        if self._plain is not None:
            self._plain.encrypted()
        return self._wire.encrypted()

    def again(self, message: Message) -> Message:
        return self._wire.again(message)

    def allow(self, message: Message, plan: Plan | None = None, redact: bool = False) -> list[Send]:
        if self._plain is not None:
            self._plain.allow(message)
        elif plan is not None or redact:
            raise ProtocolError(LATE)
        return self._wire.allow(message, None if plan is None else Exact(plan), redact)

    def deny(self, message: Message, code: str, text: str) -> list[Send]:
        return []

    def inject(self, statement: str) -> list[Send]:
        raise ValueError("nothing of our own goes up here")

    def settle(self) -> list[Send]:
        return []

    def notice(self, text: str) -> bytes:
        return b""

    def refuse(self, text: str, code: str = "denied") -> bytes:
        return b""

    @property
    def idle(self) -> bool:
        return self._wire.idle

    @property
    def busy(self) -> bool:
        return self._wire.busy

    @property
    def cancel_key(self) -> bytes:
        return self._wire.cancel_key


class Exact:
    """A plan whose cells keep the bytes of a value as many as they are. Its answers are gathered, not streamed."""

    exact = True
    finds_only = False

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.copy = getattr(plan, "copy", None)
        self.rules = getattr(plan, "rules", ())
        self.by_name = getattr(plan, "by_name", True)

    def __call__(self, columns: tuple[Column, ...]) -> Sequence[Cell | None] | None:
        cells = self._plan(columns)
        return None if cells is None else [None if cell is None else _exact(cell) for cell in cells]


def _exact(cell: Cell) -> Callable[[str], str | None]:
    def masked(text: str) -> str | None:
        out = cell(text)
        if out is text:
            return out
        short = _size(text) - _size(out) if out is not None else -1
        if out is None or short < 0:
            raise ProtocolError(LONGER)
        return "*" * short + out  # what it hides had characters of more than one byte

    return masked


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
