"""A small client of MySQL that says just the packets it is told, for what no driver says.

Login by mysql_native_password. Source: MySQL 8.4 source documentation, "Native Authentication".
"""

import hashlib
import socket
from types import TracebackType

from appliance.model import Side
from appliance.wire.mysql import MySQL
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql.compression import Algorithm, pack, unpack
from tests.wire.mysql.build import MODERN, p, prepare, startup

WANTED = MODERN & ~caps.LONG_PASSWORD


def scramble(password: str, nonce: bytes) -> bytes:
    inner = hashlib.sha1(password.encode()).digest()
    outer = hashlib.sha1(nonce + hashlib.sha1(inner).digest()).digest()
    return bytes(a ^ b for a, b in zip(inner, outer, strict=True))


class Speaker:
    """One connection. Use as a context manager.

    A wire of our own reads the answers along, to know where each ends; what it is fed is what the client got.
    """

    def __init__(self, port: int, capabilities: int = WANTED, user: str = "tester", **options: str) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), 20)
        self._wire = MySQL()
        self._algorithm: Algorithm = ""
        greeting = self._packet()
        list(self._wire.feed(Side.SERVER, greeting))
        body = greeting[4:]
        at = body.index(b"\0") + 5
        self.server_capabilities = self._offered(body, at)
        nonce = body[at : at + 8] + body[at + 27 : at + 39]
        self.capabilities = capabilities
        answer = scramble("secret", nonce)
        login = startup(capabilities, user=user, answer=answer, plugin="mysql_native_password", **options)
        self.sent_login = login
        self.answers = self.ask(login)
        if capabilities & caps.COMPRESS:
            self._algorithm = "zlib"

    def _offered(self, body: bytes, at: int) -> int:
        low, high = body[at + 9 : at + 11], body[at + 14 : at + 16]
        return int.from_bytes(low + high + body[at + 23 : at + 27], "little")

    def __enter__(self) -> "Speaker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()

    def say(self, data: bytes) -> None:
        """Send packets whose answers, if any, are asked for later."""
        for message in self._wire.feed(Side.CLIENT, pack(data, 0, self._algorithm) if self._algorithm else data):
            self._wire.allow(message)
        self._sock.sendall(pack(data, 0, self._algorithm) if self._algorithm else data)

    def ask(self, data: bytes) -> list[bytes]:
        """Send packets; return the payloads of the whole answer to all of them, or up to a request for a file."""
        self.say(data)
        return self.hear()

    def prepare(self, text: str) -> int:
        """Prepare a statement; return its number."""
        first = self.ask(prepare(text))[0]
        assert first[0] == 0, first
        return int.from_bytes(first[1:5], "little")

    def ask_auth(self, data: bytes, password: str) -> list[bytes]:
        """Send a COM_CHANGE_USER; answer the plugin that asks for a password."""
        self.say(data)
        asked = self._packet()
        list(self._wire.feed(Side.SERVER, asked))
        nonce = asked[5:].split(b"\0", 1)[1][:20]
        self.say(p(scramble(password, nonce), 2))
        return self.hear()

    def ask_refused(self, data: bytes) -> list[bytes]:
        """Send what is answered by whoever is between us and the server."""
        self._sock.sendall(data)
        return payloads(self._packet())

    def hear(self) -> list[bytes]:
        """Return the payloads that are still to come."""
        raw, kind = b"", ""
        while self._wire.busy and kind != "copy-in":
            got = self._sock.recv(1 << 16)
            if not got:
                raise ConnectionError("the server has closed the connection")
            raw += got
            for message in self._wire.feed(Side.SERVER, got):
                kind = message.kind
        return payloads(unpack(raw, self._algorithm) if self._algorithm else raw)

    def _packet(self) -> bytes:
        head = self._exactly(4)
        return head + self._exactly(int.from_bytes(head[:3], "little"))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            got = self._sock.recv(size - len(data))
            if not got:
                raise ConnectionError("the server has closed the connection")
            data += got
        return data


def payloads(raw: bytes) -> list[bytes]:
    """Return the payloads of packets, and check their numbers."""
    found, at, expected = [], 0, raw[3] if raw else 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 3], "little")
        if raw[at + 3] not in (expected, 1):  # each answer begins at 1
            raise AssertionError(f"packet {raw[at + 3]} where {expected} was due")
        expected = (raw[at + 3] + 1) & 0xFF
        found.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return found


__all__ = ["Speaker", "p", "payloads"]
