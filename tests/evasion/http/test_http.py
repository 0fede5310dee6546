"""Corner cases and ways round of PROTOCOLS.md 2.3, on a real nginx through the real relay, sessions and rules.

What nginx logs as read is what was judged: of a refused request it has seen nothing.
"""

import contextlib
import http.client
import json
import socket
import subprocess
import time
import urllib.request

import pytest

from appliance.lab.nginx import Nginx
from appliance.model import Address, Answered
from appliance.record import har
from appliance.record.frame import Frame
from tests.evasion.http.conftest import read
from tests.gate import Gate
from tests.record.test_har import validated
from tests.wire.http.dialogues import BROKEN, CHUNKED, GET, ask, chunks

pytestmark = pytest.mark.peer


def say(gate: Gate, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send pieces over one connection, then wait for the other side to have said all; return that."""
    with socket.create_connection(("127.0.0.1", gate.port), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)
            time.sleep(pause)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        out = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := sock.recv(65536):
                out += piece
        return out


def one(gate: Gate, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=20)
    client.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        client.putheader(name.replace("_", "-"), value)
    if body is not None:
        client.putheader("Content-Length", str(len(body)))
    client.endheaders(body)
    answer = client.getresponse()
    with contextlib.closing(client):
        return answer.status, answer.read()


def test_what_is_allowed_is_what_it_is_without_us(gate: Gate) -> None:
    assert one(gate, "GET", "/hello") == (200, b"hello\n")
    assert one(gate, "GET", "/absent")[0] == 404
    assert gate.verdicts()[0] == ("allow", "rest", "GET /hello\nhost: 127.0.0.1:" + str(gate.port))


PATHS = [
    "/admin/users", "//admin/users", "/x/../admin/users", "/./admin/users", "/ADMIN/users", "/admin;x/users", "/%61dmin/users",
    "/%2e%2e/admin/users", "/x/%2e%2e/admin/users", "/x/%252e%252e/admin/users", "/admin%2fusers", "/admin/./users", "/x\\..\\admin/users",
    "/admin/users?x=1", "/admin//users", "/hello/../admin/users", "//x/admin/users", "/\\x/admin/users", "/admin%3fx",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_judged_as_any_server_reads_it(gate: Gate, nginx: Nginx, path: str) -> None:
    before = len(read(nginx))
    answer = say(gate, ask(f"GET {path} HTTP/1.1"))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert len(read(nginx)) == before


def test_absolute_form_of_a_blocked_path(gate: Gate) -> None:
    assert say(gate, ask("GET http://api.example/admin/users HTTP/1.1")).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("name", BROKEN)
def test_smuggling(gate: Gate, nginx: Nginx, name: str) -> None:
    before = len(read(nginx))
    answer = say(gate, BROKEN[name] + b"\r\n\r\n" + GET)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert len(read(nginx)) == before
    assert gate.of("incident")


def test_a_request_hidden_in_a_body_is_a_body(gate: Gate, nginx: Nginx) -> None:
    before = len(read(nginx))
    inner = ask("GET /admin/users HTTP/1.1")
    answer = say(gate, ask("POST /seen HTTP/1.1", f"Content-Length: {len(inner)}", body=inner))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert [line["uri"] for line in read(nginx)[before:]] == ["/seen"]


def test_a_request_in_pieces_reaches_the_server_after_its_verdict(gate: Gate, nginx: Nginx) -> None:
    before = len(read(nginx))
    answer = say(gate, *[bytes([byte]) for byte in ask("GET /admin/users HTTP/1.1")], pause=0.001)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert len(read(nginx)) == before


def test_refused_and_allowed_in_one_pipeline(gate: Gate) -> None:
    answer = say(gate, ask("GET /hello HTTP/1.1") + ask("GET /admin/users HTTP/1.1") + ask("GET /hello HTTP/1.1"))
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"403", b"200"]


def test_the_refusal_is_a_problem_with_the_decision(gate: Gate) -> None:
    status, body = one(gate, "GET", "/admin/users")
    problem = json.loads(body)
    assert (status, problem["status"], problem["code"]) == (403, 403, "denied")
    assert "decision 0001-1" in problem["detail"]
    assert "no-admin" not in body.decode()


@pytest.mark.parametrize("lines", [["X-HTTP-Method-Override: DELETE"], ["x-method-override: delete"]])
def test_an_override_of_the_method(gate: Gate, lines: list[str]) -> None:
    assert say(gate, ask("POST /hello HTTP/1.1", *lines, "Content-Length: 0")).startswith(b"HTTP/1.1 403 ")


KEY = b"AKIAIOSFODNN7EXAMPLE"


@pytest.mark.parametrize("body", [chunks(b"key=" + KEY), chunks(b"key=" + KEY[:5], KEY[5:]), chunks(*[KEY[i : i + 1] for i in range(len(KEY))])])
def test_what_is_found_in_a_body_whatever_its_chunks(gate: Gate, body: bytes) -> None:
    assert say(gate, ask("POST /seen HTTP/1.1", CHUNKED, body=body)).startswith(b"HTTP/1.1 403 ")


def test_a_body_that_cannot_be_opened_is_unknown(gate: Gate) -> None:
    assert one(gate, "POST", "/seen", b"xxxx", Content_Encoding="pack200")[0] == 403
    assert gate.of("decision")[-1].decision.unknown == "the body cannot be opened"  # type: ignore[union-attr]


def test_a_body_too_long_to_judge_is_unknown_and_the_connection_lives(gate: Gate) -> None:
    body = b"x" * (3 << 20)
    answer = say(gate, ask("POST /seen HTTP/1.1", f"Content-Length: {len(body)}", body=body) + ask("GET /hello HTTP/1.1"))
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"403", b"200"]


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_an_answer_is_masked_whatever_its_coding(gate: Gate, coding: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{gate.port}/people", headers={"Accept-Encoding": coding})) as answer:
        body = answer.read()
    assert b"ada@example.com" not in body
    assert body.count(b"[redacted]") == 40
    assert all(b"ada@" not in note.raw for note in gate.of("message"))


def test_a_range_does_not_dodge_the_mask(gate: Gate) -> None:
    status, body = one(gate, "GET", "/people", Range="bytes=9-20")
    assert status == 200
    assert b"ada@" not in body


JSON = {"Content_Type": "application/json"}
# body -> status
BODIES = {
    '{"amount": 10000}': 200,
    '{"amount": 10001}': 403,
    '{"amount": 1e5}': 403,
    '{"amount": "20000"}': 403,
    '{"amount": 1, "amount": 20000}': 403,
    '{"\\u0061mount": 20000}': 403,
    '{"Amount": 20000}': 403,
    '{"amount": "20,000"}': 403,
    '{"amount": 1': 403,
    '{"query": "mutation { deleteUser(id: 1) { id } }"}': 403,
    '{"query": "query { user { id } } "}': 200,
    '[{"query": "{ a }"}, {"query": "mutation { x: deleteUser }"}]': 403,
    '{"note": "\\u0041KIAIOSFODNN7EXAMPLE"}': 403,
}


@pytest.mark.parametrize("body", BODIES)
def test_what_a_json_body_says(gate: Gate, body: str) -> None:
    assert one(gate, "POST", "/seen", body.encode(), **JSON)[0] == BODIES[body]


def test_a_json_body_that_says_it_is_none(gate: Gate) -> None:
    assert one(gate, "POST", "/seen", b'{"amount": 20000}', Content_Type="text/plain")[0] == 403


def test_a_file_in_a_form(gate: Gate) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.sh"\r\n\r\n1\r\n--x--\r\n'
    assert one(gate, "POST", "/seen", part, Content_Type="multipart/form-data; boundary=x")[0] == 403
    assert one(gate, "POST", "/seen", part.replace(b"a.sh", b"a.md"), Content_Type="multipart/form-data; boundary=x")[0] == 200


def test_leaves_of_an_answer_are_masked(gate: Gate) -> None:
    status, body = one(gate, "GET", "/people.json")
    assert (status, body) == (200, b'[{"name": "Ada", "ssn": "*******6789"}, {"ssn": {"old": "*******3333"}}]')
    assert {rule for note in gate.of("message") for rule in note.masks} == {"hide"}


def test_a_held_request_waits_and_runs(gate: Gate) -> None:
    gate.answer = lambda question: Answered(question.id, True, by="dana")
    assert one(gate, "GET", "/held") == (200, b"released\n")
    assert [note.text for note in gate.of("answered")] == ["approved"]


def test_a_denied_request_leaves_the_connection(gate: Gate) -> None:
    gate.answer = lambda question: Answered(question.id, False, by="dana")
    answer = say(gate, ask("GET /held HTTP/1.1") + ask("GET /hello HTTP/1.1"))
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"403", b"200"]


def test_expect_continue(gate: Gate, nginx: Nginx) -> None:
    before = len(read(nginx))
    head = ask("POST /seen HTTP/1.1", "Expect: 100-continue", "Content-Length: 2")
    with socket.create_connection(("127.0.0.1", gate.port), 10) as sock:
        sock.sendall(head)
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert len(read(nginx)) == before
        sock.sendall(b"ab")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_websocket_is_not_opened(gate: Gate) -> None:
    answer = say(gate, ask("GET /hello HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"))
    assert answer.startswith(b"HTTP/1.1 200 OK")  # nginx answers plainly; a 101 would end the flow


def test_connect_to_what_no_target_is_goes_nowhere(gate: Gate, nginx: Nginx) -> None:
    before = len(read(nginx))
    answer = say(gate, b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n" + ask("GET /hello HTTP/1.1"))
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"403", b"200"]
    assert [line["line"] for line in read(nginx)[before:]] == ["GET /hello HTTP/1.1"]
    assert gate.verdicts()[0] == ("block", "", "CONNECT db.example:5432\nhost: db.example:5432")


def test_http_2_by_upgrade_is_not_offered(gate: Gate, nginx: Nginx) -> None:
    done = subprocess.run(["curl", "-sS", "--http2", f"http://127.0.0.1:{gate.port}/hello"], capture_output=True, timeout=30)
    assert (done.stdout, done.stderr) == (b"hello\n", b"")


CLIENTS = {
    "curl": ["curl", "-sS"],
    "curl compressed": ["curl", "-sS", "--compressed"],
    "curl 1.0": ["curl", "-sS", "--http1.0"],
    "wget": ["wget", "-q", "-O", "-"],
    "python": ["python3", "-c", "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())"],
}


@pytest.mark.parametrize("name", CLIENTS)
def test_clients_run_unchanged(gate: Gate, name: str) -> None:
    done = subprocess.run([*CLIENTS[name], f"http://127.0.0.1:{gate.port}/hello"], capture_output=True, timeout=30)
    assert (done.stdout, done.stderr) == (b"hello\n", b"")


def test_a_download_is_whole(nginx: Nginx) -> None:
    rules = "rules: [{id: rest, to: db, do: allow}]"
    with Gate(Address("127.0.0.1", nginx.port), rules, protocol="http") as gate:
        assert one(gate, "GET", "/big") == (200, b"0123456789abcdef" * (1 << 18))


def test_the_archive_of_a_session(gate: Gate) -> None:
    say(gate, ask("GET /people HTTP/1.1") + ask("GET /admin/users HTTP/1.1") + ask("GET /hello HTTP/1.1", "Accept-Encoding: gzip"))
    frames = [Frame(n, 1.7e9 + n / 10, id, note) for n, (id, note) in enumerate(gate.notes)]
    document = json.loads(b"".join(har.blocks(frames)))
    validated(document)
    told = [(e["response"]["status"], e["_vendorgate"]["rule"]) for e in document["log"]["entries"]]
    assert told == [(200, "rest"), (403, "no-admin"), (200, "rest")]
    assert "ada@example.com" not in json.dumps(document)
