"""The wire for a protocol by name, or by the first bytes of a connection."""

import importlib
import pkgutil
from collections.abc import Iterator

import appliance.wire
from appliance.model import Message, ProtocolError, Send, Side
from appliance.wire import Opening, Plan, Wire

MAX_UNKNOWN = 4096  # bytes of each side; ours: every protocol shows itself in less


def _found() -> dict[str, Opening]:
    """Return the protocols: modules beside this one that define OPENING."""
    names = sorted(m.name for m in pkgutil.iter_modules(appliance.wire.__path__) if m.name != "detect")
    modules = {name: importlib.import_module(f"appliance.wire.{name}") for name in names}
    return {name: module.OPENING for name, module in modules.items() if hasattr(module, "OPENING")}


PROTOCOLS = _found()


def open(protocol: str, transport: str = "tcp", port: int = 0) -> Wire:
    """Return the wire for a protocol, or for "" one that finds out, spoken with a server's `port`.

    Raises:
        KeyError: the name is not known, or it is not spoken in this transport.
    """
    known = protocol or ("icmp" if transport == "icmp" else "") or _at(port)
    if transport == "tcp":
        return PROTOCOLS[known].make() if known else Detect()
    if not known:
        return First()
    make = PROTOCOLS[known].datagram
    if make is None:
        raise KeyError(protocol)
    return make()


def _at(port: int) -> str:
    """Return the protocol of a port where nothing else is spoken."""
    return next((name for name, opening in PROTOCOLS.items() if port and port in opening.ports), "")


class Detect:
    """Holds the first bytes until they can be of one protocol only, then is that wire.

    `name` is empty until then.
    """

    def __init__(self) -> None:
        self._wire: Wire | None = None
        self._held = {Side.CLIENT: bytearray(), Side.SERVER: bytearray()}
        self._left = set(PROTOCOLS)
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
            found = PROTOCOLS[name].recognise(client, server)
            if found:
                self.name, self._wire = name, PROTOCOLS[name].make()
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
    def kept(self) -> int:
        return getattr(self._wire, "kept", 0)

    def encrypted(self) -> bytes:
        return self._found.encrypted()

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

    @property
    def idle(self) -> bool:
        return self._wire is not None and self._wire.idle

    @property
    def busy(self) -> bool:
        return self._wire is not None and self._wire.busy

    @property
    def cancel_key(self) -> bytes:
        return self._wire.cancel_key if self._wire else b""


class First(Detect):
    """Tells the protocol of datagrams by the first of the client; what no protocol knows is a datagram of its own.

    One that begins a protocol later, where rules have looked for none, ends its flow.
    """

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        if self._wire is not None and side is Side.CLIENT and self.name == "udp" and (name := _first(data)):
            raise ProtocolError(f"a datagram of {name} where another protocol was spoken")
        return super().feed(side, data)

    def _find(self) -> Iterator[Message]:
        self.name = _first(bytes(self._held[Side.CLIENT])) or "udp"
        make = PROTOCOLS[self.name].datagram
        assert make is not None, "told by a datagram, and not spoken in any"
        self._wire = make()
        for side in (Side.SERVER, Side.CLIENT):
            if self._held[side]:
                yield from self._wire.feed(side, bytes(self._held.pop(side)))


def _first(data: bytes) -> str:
    """Return the protocol that a client's datagram begins; "" if none does so."""
    known = (name for name, opening in PROTOCOLS.items() if opening.first is not None and opening.first(data))
    return next(known, "")
