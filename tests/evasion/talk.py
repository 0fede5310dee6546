"""A PostgreSQL client that says exactly the bytes it is given and keeps every byte it gets.

Source: PostgreSQL 17 manual, "Message Formats". psycopg logs in; from then on its socket is ours.
"""

import socket
import struct
from types import TracebackType

import psycopg

from appliance.model import Address

SECRETS = ("123-45-6789", "987-65-4320")
SILENCE = 15.0  # seconds without a byte: the test fails

READER = """
rules:
  - {id: no-destructive, when: {effect: [drop, truncate]}, do: block}
  - {id: read-only, when: {effect: [write, schema, grant, admin, procedure, file, lock]}, do: block}
  - {id: hide-ssn, when: {column: [public.users.ssn, public.events.ssn, public.people.ssn]}, do: mask, with: redact}
  - {id: hide-tags, when: {column: [public.users.tags, public.users.profile]}, do: mask, with: redact}
  - {id: reads, when: {effect: [read, session, copy]}, do: allow}
"""
"""May read; protected columns are masked."""

WRITER = """
rules:
  - {id: hide-ssn, when: {column: [public.users.ssn, public.events.ssn, public.people.ssn]}, do: mask, with: redact}
  - {id: hide-tags, when: {column: [public.users.tags, public.users.profile]}, do: mask, with: redact}
  - {id: all, do: allow}
"""
"""May do anything; protected columns are masked."""

Frame = tuple[str, bytes]


def frame(tag: str, body: bytes = b"") -> bytes:
    return tag.encode() + struct.pack("!I", len(body) + 4) + body


def query(text: str) -> bytes:
    return frame("Q", text.encode() + b"\0")


def parse(text: str, name: str = "") -> bytes:
    return frame("P", f"{name}\0{text}\0".encode() + bytes(2))


def bind(portal: str = "", name: str = "", values: tuple[str | None, ...] = (), binary: bool = False) -> bytes:
    cells = b"".join(b"\xff\xff\xff\xff" if v is None else struct.pack("!I", len(v)) + v.encode() for v in values)
    head = f"{portal}\0{name}\0".encode() + struct.pack("!HH", 0, len(values))
    return frame("B", head + cells + struct.pack("!HH", 1, int(binary)))


def describe(what: str, name: str = "") -> bytes:
    return frame("D", f"{what}{name}\0".encode())


def execute(portal: str = "", rows: int = 0) -> bytes:
    return frame("E", portal.encode() + b"\0" + struct.pack("!I", rows))


def close(what: str, name: str = "") -> bytes:
    return frame("C", f"{what}{name}\0".encode())


SYNC, FLUSH, DONE = frame("S"), frame("H"), frame("c")


def extended(text: str, binary: bool = False, described: bool = True) -> bytes:
    """Return Parse, Bind, Describe where asked for, Execute and Sync of one statement."""
    told = describe("P") if described else b""
    return parse(text) + bind(binary=binary) + told + execute() + SYNC


def startup(version: tuple[int, int] = (3, 0), **parameters: str) -> bytes:
    pairs = "".join(f"{key}\0{value}\0" for key, value in parameters.items())
    body = struct.pack("!HH", *version) + pairs.encode() + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def fields(body: bytes) -> dict[str, str]:
    """Read the fields of an ErrorResponse or NoticeResponse."""
    return {part[:1].decode(): part[1:].decode() for part in body.split(b"\0") if part}


def cells(body: bytes) -> list[bytes | None]:
    """Read a DataRow."""
    out: list[bytes | None] = []
    at = 2
    for _ in range(struct.unpack_from("!H", body)[0]):
        (size,) = struct.unpack_from("!i", body, at)
        out.append(None if size < 0 else body[at + 4 : at + 4 + size])
        at += 4 + max(size, 0)
    assert at == len(body)
    return out


def rows(frames: list[Frame]) -> list[list[bytes | None]]:
    return [cells(body) for tag, body in frames if tag == "D"]


def tags(frames: list[Frame]) -> str:
    return "".join(tag for tag, _ in frames)


def codes(frames: list[Frame]) -> list[str]:
    """Return the SQLSTATE of every error."""
    return [fields(body)["C"] for tag, body in frames if tag == "E"]


class Socket:
    """Bytes out, frames in. `seen` is every byte that came."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.seen, self._at = sock, b"", 0
        sock.settimeout(SILENCE)

    @classmethod
    def open(cls, port: int) -> "Socket":
        return cls(socket.create_connection(("127.0.0.1", port)))

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def some(self) -> bytes:
        """Return what comes next; empty at the end."""
        try:
            got = self.sock.recv(65536)
        except ConnectionResetError:
            got = b""
        self.seen += got
        return got

    def byte(self) -> bytes:
        """Return one byte that is no frame."""
        while len(self.seen) <= self._at:
            if not self.some():
                return b""
        self._at += 1
        return self.seen[self._at - 1 : self._at]

    def frame(self) -> Frame | None:
        """Return the next frame; None at the end."""
        while True:
            left = self.seen[self._at :]
            if len(left) >= 5 and len(left) > (size := struct.unpack("!I", left[1:5])[0]):
                self._at += size + 1
                return chr(left[0]), left[5 : size + 1]
            if not self.some():
                return None

    def until(self, last: str = "Z", times: int = 1) -> list[Frame]:
        """Return the frames up to the `times`-th one of those tags, or to the end."""
        out: list[Frame] = []
        while times and (got := self.frame()):
            out.append(got)
            times -= got[0] in last
        return out

    def ask(self, data: bytes, times: int = 1) -> list[Frame]:
        """Send, and return the answers up to that many ReadyForQuery."""
        self.send(data)
        return self.until("Z", times)

    def rest(self) -> list[Frame]:
        """Return all frames to the end."""
        return self.until("", 1)


class Talk(Socket):
    """A socket whose login is done."""

    def __init__(self, port: int, user: str = "acme", database: str = "shop", **more: str) -> None:
        words = f"host=127.0.0.1 port={port} user={user} password=secret dbname={database} sslmode=disable"
        self._login = psycopg.connect(words, autocommit=True, **more)  # type: ignore[arg-type]
        super().__init__(socket.socket(fileno=self._login.pgconn.socket))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.sock.setblocking(False)
        self.sock.detach()
        self._login.close()


def connect(port: int, user: str = "acme", database: str = "corner", **more: object) -> "psycopg.Connection[tuple[object, ...]]":
    words = f"host=127.0.0.1 port={port} user={user} password=secret dbname={database} sslmode=disable"
    return psycopg.connect(words, autocommit=True, **more)  # type: ignore[arg-type]


def address(port: int) -> Address:
    return Address("127.0.0.1", port)


def shown(data: bytes) -> list[str]:
    """Return the forms of the secrets that bytes show."""
    forms = []
    for secret in SECRETS:
        plain = secret.encode()
        forms += [plain, plain[::-1], plain.hex().encode(), plain.hex().upper().encode(), plain.replace(b"-", b"")]
    return [form.decode() for form in forms if form in data]
