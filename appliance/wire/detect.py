"""The wire for a protocol by name, or by the first bytes of a connection."""

from collections.abc import Callable, Iterator

from appliance.model import Message, ProtocolError, Send, Side
from appliance.wire import Plan, Wire, postgres

# name -> (what makes its wire, what tells it from the first bytes of client and server: yes, no, too few)
PROTOCOLS: dict[str, tuple[Callable[[], Wire], Callable[[bytes, bytes], bool | None]]] = {
    "postgres": (postgres.Postgres, postgres.recognise),
}

MAX_UNKNOWN = 4096  # bytes of each side; ours: every protocol shows itself in less


def open(protocol: str) -> Wire:
    """Return the wire for a protocol; for "" one that finds out. KeyError for a name that is not known."""
    return PROTOCOLS[protocol][0]() if protocol else Detect()


class Detect:
    """Holds the first bytes until they can be of one protocol only, then is that wire.

    `name` is empty until then.
    """

    def __init__(self) -> None:
        self._wire: Wire | None = None
        self._held = {Side.CLIENT: bytearray(), Side.SERVER: bytearray()}
        self._left = set(PROTOCOLS)
        self._redact_all = False
        self.name = ""

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        if self._wire is not None:
            return self._wire.feed(side, data)
        self._held[side] += data
        return self._find()

    def _find(self) -> Iterator[Message]:
        if self._wire is not None:
            return
        client, server = (bytes(self._held[side]) for side in Side)
        for name in sorted(self._left):
            found = PROTOCOLS[name][1](client, server)
            if found:
                self.name, self._wire = name, PROTOCOLS[name][0]()
                self.redact_all = self._redact_all
                for side in (Side.SERVER, Side.CLIENT):
                    if self._held[side]:
                        yield from self._wire.feed(side, bytes(self._held.pop(side)))
                return
            if found is False:
                self._left.discard(name)
        if not self._left or max(len(client), len(server)) > MAX_UNKNOWN:
            raise ProtocolError("the first bytes are of no protocol known here")

    @property
    def _found(self) -> Wire:
        if self._wire is None:
            raise ValueError("no message has come yet")
        return self._wire

    @property
    def redact_all(self) -> bool:
        return self._redact_all

    @redact_all.setter
    def redact_all(self, redact: bool) -> None:
        self._redact_all = redact
        if isinstance(self._wire, postgres.Postgres):
            self._wire.redact_all = redact

    def again(self, message: Message) -> Message:
        return self._found.again(message)

    def allow(self, message: Message, plan: Plan | None = None, redact: bool = False) -> list[Send]:
        return self._found.allow(message, plan, redact)

    def deny(self, message: Message, code: str, text: str) -> list[Send]:
        return self._found.deny(message, code, text)

    def inject(self, statement: str) -> list[Send]:
        return self._found.inject(statement)

    def settle(self) -> list[Send]:
        return self._wire.settle() if self._wire else []

    def notice(self, text: str) -> bytes:
        return self._wire.notice(text) if self._wire else b""

    def refuse(self, text: str, code: str = "denied") -> bytes:
        return self._wire.refuse(text, code) if self._wire else b""

    def refuse_gss(self) -> bytes:
        return self._wire.refuse_gss() if isinstance(self._wire, postgres.Postgres) else b""

    @property
    def idle(self) -> bool:
        return self._wire is not None and self._wire.idle

    @property
    def busy(self) -> bool:
        return self._wire is not None and self._wire.busy

    @property
    def cancel_key(self) -> bytes:
        return self._wire.cancel_key if self._wire else b""
