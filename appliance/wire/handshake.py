"""What TLS says in the clear, of both sides, where nobody opens it.

Sources: RFC 8446 section 4.1.3 (ServerHello), 4.1.4 (HelloRetryRequest) and 4.2.1 (supported_versions), RFC 5246
section 7.4.2 (Certificate) and 6.2.1 (records). Nothing is refused here: TLS is for its ends to judge, so what cannot
be read is not known.

A server may ask for a second hello, and acts on that one: OpenSSL takes the server's name of it. It is to say what the
first one said, and a client can send it without being asked, even in one record with the first.
"""

from appliance.model import ProtocolError, Side
from appliance.wire.tls import CLIENT_HELLO, HANDSHAKE, MAX_HELLO, VERSIONS, Fields, Hello, body_of, hello

SERVER_HELLO, CERTIFICATE, DONE = 2, 11, 14
TLS13 = 0x0304
MAX_FLIGHT = 128 * 1024  # bytes of a server's first flight; OpenSSL takes chains of 100 KiB
MAX_CHAIN = 16  # certificates; the first is the server's own
RANDOM = 32
CHANGE_CIPHER = 20  # a record that says nothing in TLS 1.3: RFC 8446 section 5
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")  # the random of a request


class Handshake:
    """One connection. `hello` is the client's; `version` and `chain` the server's answer, 0 and () until it came."""

    def __init__(self) -> None:
        self.hello: Hello | None = None
        self.version = 0
        self.chain: tuple[bytes, ...] = ()  # certificates, DER, the server's own first
        self.over = False  # nothing more will be said in the clear
        self.why = ""  # what of it could not be read
        self.changed = ""  # what is wrong with a second hello: it says other things, or cannot be read
        self._client = bytearray()
        self._hellos = bytearray()  # messages in it
        self._first = True  # the next of them is the first
        self._retried = False  # a second one was asked for
        self._server = bytearray()  # records
        self._flight = bytearray()  # messages in them

    def feed(self, side: Side, data: bytes) -> bool:
        """Take what `side` said next; return True if more is known now."""
        if self.over:
            return False
        known = self._known()
        try:
            if side is Side.CLIENT:
                self._hear_client(data)
            else:
                self._hear_server(data)
        except ProtocolError as error:
            self._end(str(error))
        return known != self._known()

    @property
    def kept(self) -> int:
        """Bytes that wait for more of a message."""
        return len(self._client) + len(self._hellos) + len(self._server) + len(self._flight)

    def _known(self) -> tuple[object, ...]:
        return self.hello, self.version, self.chain, self.over, self.why, self.changed

    def _hear_client(self, data: bytes) -> None:
        self._client += data
        if self.hello is None:
            self.hello = hello(bytes(self._client))
        while self.hello is not None and len(self._client) >= 5 and not self.over:
            size = int.from_bytes(self._client[3:5], "big")
            if len(self._client) < 5 + size:
                break
            # Others are early data, or say nothing. Behind a message of another kind no server waits for a hello.
            if self._client[0] == HANDSHAKE and self._hellos[:1] in (b"", bytes([CLIENT_HELLO])):
                self._hellos += self._client[5 : 5 + size]
                self._again(self.hello)
            del self._client[: 5 + size]

    def _again(self, first: Hello) -> None:
        """Look at whole messages of a client that has no answer but to say it again."""
        while len(self._hellos) >= 4 and self._hellos[0] == CLIENT_HELLO and not self.changed:
            size = int.from_bytes(self._hellos[1:4], "big")
            if size > MAX_HELLO:
                self.changed = f"a second hello over {MAX_HELLO} bytes"
            if len(self._hellos) < 4 + size:
                return
            body = bytes(self._hellos[4 : 4 + size])
            del self._hellos[: 4 + size]
            if not self._first:
                self._compare(first, body)
            self._first = False

    def _compare(self, first: Hello, body: bytes) -> None:
        """RFC 8446 section 4.1.2: but for keys and cookies, a client says the same again."""
        try:
            said = body_of(body)
        except ProtocolError as error:
            self.changed = f"a second hello that cannot be read: {error}"
            return
        if (said.name, said.alpn, said.ech) != (first.name, first.alpn, first.ech):
            self.changed = f"a second hello, for {said.name or 'no name'}, that says other things than the first"

    def _hear_server(self, data: bytes) -> None:
        self._server += data
        while len(self._server) >= 5 and not self.over:
            size = int.from_bytes(self._server[3:5], "big")
            if self._retried and self._server[0] == CHANGE_CIPHER and size == 1:
                del self._server[: 5 + size]
                continue
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
                if self.version >= TLS13 and body[2 : 2 + RANDOM] == RETRY and not self._retried:
                    self._retried = True
                elif self.version >= TLS13:
                    self._end("")  # what follows is hidden
            elif kind == CERTIFICATE:
                self.chain = _chain(body)
            elif kind in (DONE, CLIENT_HELLO):
                self._end("")

    def _end(self, why: str) -> None:
        self.over, self.why = True, why
        self._client.clear()
        self._hellos.clear()
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
