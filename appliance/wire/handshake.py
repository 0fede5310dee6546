"""What TLS says in the clear, of both sides, where nobody opens it.

Sources: RFC 8446 section 4.1.3 (ServerHello) and 4.2.1 (supported_versions), RFC 5246 section 7.4.2 (Certificate) and
6.2.1 (records). Nothing is refused here: TLS is for its ends to judge, so what cannot be read is not known.
"""

from appliance.model import ProtocolError, Side
from appliance.wire.tls import CLIENT_HELLO, HANDSHAKE, VERSIONS, Fields, Hello, hello

SERVER_HELLO, CERTIFICATE, DONE = 2, 11, 14
TLS13 = 0x0304
MAX_FLIGHT = 128 * 1024  # bytes of a server's first flight; OpenSSL takes chains of 100 KiB
MAX_CHAIN = 16  # certificates; the first is the server's own
RANDOM = 32


class Handshake:
    """One connection. `hello` is the client's; `version` and `chain` the server's answer, 0 and () until it came."""

    def __init__(self) -> None:
        self.hello: Hello | None = None
        self.version = 0
        self.chain: tuple[bytes, ...] = ()  # certificates, DER, the server's own first
        self.over = False  # nothing more will be said in the clear
        self.why = ""  # what of it could not be read
        self._client = bytearray()
        self._server = bytearray()  # records
        self._flight = bytearray()  # messages in them

    def feed(self, side: Side, data: bytes) -> bool:
        """Take what `side` said next; return True if more is known now."""
        if self.over:
            return False
        known = self.hello, self.version, self.chain, self.why
        try:
            if side is Side.CLIENT:
                self._hear_client(data)
            else:
                self._hear_server(data)
        except ProtocolError as error:
            self._end(str(error))
        return known != (self.hello, self.version, self.chain, self.why)

    def _hear_client(self, data: bytes) -> None:
        if self.hello is None:
            self._client += data
            self.hello = hello(bytes(self._client))
            if self.hello is not None:
                self._client.clear()

    def _hear_server(self, data: bytes) -> None:
        self._server += data
        while len(self._server) >= 5 and not self.over:
            size = int.from_bytes(self._server[3:5], "big")
            if self._server[0] != HANDSHAKE:
                self._end("" if self.version else "the server answers with no hello")
                return
            if len(self._server) < 5 + size:
                break
            self._flight += self._server[5 : 5 + size]
            del self._server[: 5 + size]
            self._messages()
        if len(self._server) + len(self._flight) > MAX_FLIGHT:
            self._end(f"a server's flight over {MAX_FLIGHT} bytes")

    def _messages(self) -> None:
        while len(self._flight) >= 4 and not self.over:
            size = int.from_bytes(self._flight[1:4], "big")
            if len(self._flight) < 4 + size:
                return
            kind, body = self._flight[0], bytes(self._flight[4 : 4 + size])
            del self._flight[: 4 + size]
            if kind == SERVER_HELLO:
                self.version = _version(body)
                if self.version >= TLS13:
                    self._end("")  # what follows is hidden
            elif kind == CERTIFICATE:
                self.chain = _chain(body)
            elif kind in (DONE, CLIENT_HELLO):
                self._end("")

    def _end(self, why: str) -> None:
        self.over, self.why = True, why
        self._client.clear()
        self._server.clear()
        self._flight.clear()


def _version(body: bytes) -> int:
    fields = Fields(body)
    version = fields.number(2)
    fields.take(RANDOM)
    fields.vector(1)
    fields.take(3)  # the cipher suite and the compression
    extensions = fields.vector(2) if fields else Fields(b"")
    while extensions:
        kind, value = extensions.number(2), extensions.vector(2)
        if kind == VERSIONS:
            version = value.number(2)
    return version


def _chain(body: bytes) -> tuple[bytes, ...]:
    found, fields = list[bytes](), Fields(body).vector(3)
    while fields and len(found) < MAX_CHAIN:
        found.append(fields.vector(3).rest())
    return tuple(found)
