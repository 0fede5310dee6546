"""How far the TLS of a flow is opened. What is inside is then judged like any other flow.

TLS begins with a client's first bytes, or where its wire says so. The hello is read, and says whom the client wants to
speak to and in what protocol; both ends are opened by the caller (`Open`). A client that offers only protocols that are
not read here is refused, never passed on.
"""

from appliance.facts import Facts
from appliance.facts import tls as facts
from appliance.model import Note, Open, Opened, ProtocolError, Send, Side, Trust, Unopened
from appliance.session.scribe import Scribe
from appliance.wire.handshake import Handshake
from appliance.wire.tls import HANDSHAKE, Hello, hello

READ = ("http/1.1", "http/1.0", "postgresql")  # protocols inside TLS that are read here, by their ALPN names
ALERT = b"\x15\x03\x03\x00\x02\x02"  # RFC 8446 section 6: fatal; what it is follows
HANDSHAKE_FAILURE, NO_PROTOCOL = b"\x28", b"\x78"


class Encryption:
    """Of one flow; `names` are the server's, as DNS told the process."""

    def __init__(self, scribe: Scribe, names: tuple[str, ...] = ()) -> None:
        self._scribe, self._names = scribe, names
        self._hello: bytearray | None = None
        self._named = ""  # the server, by the client's hello
        self._begun = False  # bytes have come that were not TLS, or TLS is opened
        self._opened = False  # what is sent is inside it
        self.looks_on = False  # nobody can be refused any more: what is passed was passed
        self.unread = False  # TLS is passed on as it is
        self.kept = 0  # bytes of it that wait for more of what is said in the clear
        self._seen = Handshake()  # of such TLS, what is said in the clear
        self.facts = Facts("tls", {}, frozenset(("text",)), facts.INSIDE, opaque=True)  # of it

    def takes(self, side: Side, data: bytes) -> bool:
        """Return True if what came is the beginning of TLS, by itself or because `begin` said so."""
        if self._hello is not None:
            if side is Side.SERVER:
                raise ProtocolError("the server goes on before TLS has begun")
            self._hello += data
            return True
        direct = not self._begun and side is Side.CLIENT and data[:1] == bytes([HANDSHAKE])
        self._begun = True
        if direct:
            self.begin(data)
        return direct

    def begin(self, data: bytes) -> None:
        """TLS begins here, with what has come of it."""
        self._begun, self._hello = True, bytearray(data)

    def open(self, trust: Trust) -> str:
        """Ask for both ends to be opened, once the hello is whole; return why they will not be.

        Raises:
            ProtocolError: it is no hello.
        """
        said = hello(bytes(self._hello or b""))
        if said is None:
            return ""
        data, self._hello = bytes(self._hello or b""), None
        # Each once: what is opened with is kept by what was offered, and a client must not make more of it.
        offered = tuple(name for name in READ if name in said.alpn)
        self._scribe.do(Note("message", _text(said), Side.CLIENT, "tls"))
        if trust.passes:
            return self._pass(said, trust, data)
        if said.alpn and not offered:
            why = f"the client speaks only {', '.join(said.alpn)[:200]}, which is not read here"
            self._scribe.incident(why, Side.CLIENT)
            self._scribe.do(Send(Side.CLIENT, ALERT + NO_PROTOCOL))
            return why
        self._named = said.name
        # Asked for nobody, the server is who DNS said it is, if it said one thing.
        told = self._names[0] if len(self._names) == 1 else ""
        self._scribe.do(Open(data, said.name or told, offered, trust))
        return ""

    def _pass(self, said: Hello, trust: Trust, data: bytes) -> str:
        """Leave TLS closed, for a client that takes no certificate but the server's own."""
        if (said.ech or (trust.name and said.name != trust.name)) and not self.looks_on:
            why = "an encrypted hello" if said.ech else f"a hello for {said.name or 'no name'}, not {trust.name}"
            self._scribe.incident(f"{why}: TLS is not passed unread", Side.CLIENT)
            self._scribe.do(Send(Side.CLIENT, ALERT + HANDSHAKE_FAILURE))
            return why
        self.unread, self._hello = True, bytearray(data)
        return ""

    def begun(self) -> bytes:
        """Take what has come of TLS that is passed on."""
        data, self._hello = bytes(self._hello or b""), None
        return data

    def looks(self, side: Side, data: bytes) -> bool:
        """Look at TLS that is passed on as it is; return True if more is known of it now.

        Raises:
            ProtocolError: a second hello would have the server act on another than was judged.
        """
        seen = self._seen
        news = seen.feed(side, data)
        self.kept = seen.kept
        if not news or seen.hello is None:
            return False
        self.facts = facts.said(seen.hello, seen.version, seen.chain, seen.over, changed=bool(seen.changed))
        if seen.changed and not self.looks_on:
            raise ProtocolError(seen.changed)
        return True

    @property
    def seen(self) -> bool:
        """True when nothing more of TLS that is passed on will be in the clear."""
        return self._seen.over

    def opened(self, event: Opened) -> tuple[str, str]:
        """Note that what follows is inside TLS; return the name it was opened by, and the one the client asked for."""
        self._opened = True
        spoken = f", {event.alpn}" if event.alpn else ""
        self._scribe.do(Note("message", f"TLS opened: {event.name}, {event.version}{spoken}", Side.SERVER, "tls"))
        return event.name.lower(), self._named

    def unopened(self, event: Unopened) -> str:
        """Tell that TLS failed with one side; return why."""
        if event.side is Side.CLIENT:
            why = f"the client refuses our certificate, or TLS with it failed: {event.why}"
        else:
            why = f"TLS with the server failed: {event.why}"
            if not self._opened:  # else it would be taken for a part of an answer
                self._scribe.do(Send(Side.CLIENT, ALERT + HANDSHAKE_FAILURE))
        self._scribe.incident(why, event.side)
        return why


def _text(said: Hello) -> str:
    offers = f", offers {', '.join(said.alpn)[:200]}" if said.alpn else ""
    return f"TLS hello for {said.name or 'no name'}{offers}{', with an encrypted hello' if said.ech else ''}"
