"""Bodies that a real server (Python's own) leaves unread and takes for the next request: nobody has judged it as one.

Shown twice: past us the server does both; through us it does what was judged.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from appliance.model import Address
from tests.evasion.http.conftest import RULES
from tests.gate import Gate
from tests.wire.http.dialogues import GET, ask

pytestmark = pytest.mark.peer


PAGES = {"/people": b'[{"ssn": "123-45-6789"}]', "/note": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"}
MASKED = """
rules:
  - {id: hide, to: db, when: {json: "$..ssn", path: /people}, do: mask}
  - {id: rest, to: db, do: allow}
"""


class Plain(ThreadingHTTPServer):
    """As programs use it: `do_GET` does not look at a body. `seen` are the request lines it has read."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.seen: list[str] = []


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Plain

    def do_GET(self) -> None:
        self.server.seen.append(self.requestline)
        body = PAGES.get(self.path, b"ok\n")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.headers["X-HTTP-Method-Override"] != "HEAD":
            self.wfile.write(body)

    do_DELETE = do_HEAD = do_POST = do_GET  # as many are written

    def handle_expect_100(self) -> bool:
        """It wants none of it, and says so at once."""
        self.server.seen.append(f"no to {self.requestline}")
        self.send_response(417)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def plain() -> Iterator[Plain]:
    with Plain() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(20)


INNER = ask("DELETE /admin/users HTTP/1.1", "Connection: close")
# name -> what is sent, what the server reads of it, and what if it comes through us
SENT = {
    "a body of a get": (
        ask("GET /a HTTP/1.1", f"Content-Length: {len(INNER)}", body=INNER),
        ["GET /a HTTP/1.1", "DELETE /admin/users HTTP/1.1"],
        ["GET /a HTTP/1.1"],
    ),
    "one in HTTP/0.9": (
        ask("GET /a HTTP/1.1", "Content-Length: 12", body=b"GET /admin\r\n"),
        ["GET /a HTTP/1.1", "GET /admin"],
        ["GET /a HTTP/1.1"],
    ),
    "a part of a method": (
        ask("GET /a HTTP/1.1", "Content-Length: 4", body=b"DELE") + ask("TE /a HTTP/1.1", "Connection: close"),
        ["GET /a HTTP/1.1", "DELETE /a HTTP/1.1"],
        ["GET /a HTTP/1.1"],
    ),
    "words parted by what is no blank": (
        ask("GET /a HTTP/1.1", "Content-Length: 35", body=b"\xa0DELETE\x85/admin\x0bHTTP/1.1\nHost: a\n\n\n\n"),
        ["GET /a HTTP/1.1", "\xa0DELETE\x85/admin\x0bHTTP/1.1"],
        ["GET /a HTTP/1.1"],
    ),
    "a body that is not wanted": (
        ask("GET /a HTTP/1.1", "Expect: 100-continue", f"Content-Length: {len(INNER)}", body=INNER),
        ["no to GET /a HTTP/1.1", "DELETE /admin/users HTTP/1.1"],
        ["GET /a HTTP/1.1"],
    ),
    "requests": (GET + ask("GET /a HTTP/1.1", "Connection: close"), ["GET / HTTP/1.1", "GET /a HTTP/1.1"], ["GET / HTTP/1.1", "GET /a HTTP/1.1"]),
}  # fmt: skip


def say(port: int, raw: bytes, patience: float = 20) -> bytes:
    """Return what comes until the end, or until nothing comes any more."""
    out = b""
    with socket.create_connection(("127.0.0.1", port), patience) as sock, contextlib.suppress(TimeoutError):
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR)
        while piece := sock.recv(65536):
            out += piece
    return out


@pytest.mark.parametrize("name", SENT)
def test_what_the_server_reads_is_what_was_judged(plain: Plain, name: str) -> None:
    sent, direct, through = SENT[name]
    say(plain.server_port, sent)
    assert plain.seen == direct
    plain.seen.clear()
    with Gate(Address("127.0.0.1", plain.server_port), RULES, protocol="http") as gate:
        said = say(gate.port, sent)
        assert said.startswith(b"HTTP/1.1 200 OK")
        assert plain.seen == through
        judged = [text.partition("\n")[0] for _, _, text in gate.verdicts()]
        assert judged[: len(through)] == [line.rpartition(" ")[0] for line in through]


# requests whose answers have another end than it says
ENDS = {
    "a body of a head": ask("HEAD /note HTTP/1.1") + GET + ask("GET /people HTTP/1.1", "Connection: close"),
    "a head by another name": ask("POST /people HTTP/1.1", "X-HTTP-Method-Override: HEAD", "Content-Length: 0")
    + ask("GET /people HTTP/1.1", "Connection: close"),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_answer_is_not_taken_for_a_part_of_another(plain: Plain, name: str) -> None:
    assert b"6789" in say(plain.server_port, ENDS[name])
    with Gate(Address("127.0.0.1", plain.server_port), MASKED, protocol="http") as gate:
        assert b"[redacted]" in say(gate.port, ask("GET /people HTTP/1.1", "Connection: close"))
        assert b"6789" not in say(gate.port, ENDS[name], patience=1)  # what waits for an answer that has no end, waits
