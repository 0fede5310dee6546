"""What a second server does, one that reads as leniently as it can be told to, is what was judged."""

from collections.abc import Iterator

import pytest

from appliance.model import Address
from tests.evasion.http.conftest import RULES
from tests.evasion.http.node import Node
from tests.evasion.http.test_http import PATHS, say
from tests.gate import Gate
from tests.wire.http.dialogues import BROKEN, CHUNKED, GET, POST, ask, chunks

pytestmark = pytest.mark.peer

# of the corpus, what this server answers if it gets it: without us a request could be smuggled by these
LENIENT = ["both lengths", "a folded line"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("node")) as server:
        yield server


@pytest.fixture
def gate(node: Node) -> Iterator[Gate]:
    with Gate(Address("127.0.0.1", node.port), RULES, protocol="http") as gate:
        yield gate


class Direct:
    """The server itself, for `say`."""

    def __init__(self, node: Node) -> None:
        self.port = node.port


@pytest.mark.parametrize("name", LENIENT)
def test_the_server_is_lenient(node: Node, name: str) -> None:
    before = len(node.seen())
    say(Direct(node), BROKEN[name] + b"\r\n\r\n" + GET)  # type: ignore[arg-type]
    assert len(node.seen()) > before


@pytest.mark.parametrize("name", BROKEN)
def test_smuggling(gate: Gate, node: Node, name: str) -> None:
    before = node.seen()
    assert say(gate, BROKEN[name] + b"\r\n\r\n" + GET).startswith(b"HTTP/1.1 400 ")
    assert node.seen() == before
    assert gate.of("incident")


@pytest.mark.parametrize("path", ["//x/admin/users", "/\\x/admin/users", "//x/hello/../admin/users"])
def test_a_path_is_read_behind_what_looks_like_a_host(node: Node, path: str) -> None:
    say(Direct(node), ask(f"GET {path} HTTP/1.1"))  # type: ignore[arg-type]
    assert node.seen()[-1]["path"] == "/admin/users"


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_judged_as_any_server_reads_it(gate: Gate, node: Node, path: str) -> None:
    before = node.seen()
    assert say(gate, ask(f"GET {path} HTTP/1.1")).startswith(b"HTTP/1.1 403 ")
    assert node.seen() == before


INNER = ask("GET /admin/users HTTP/1.1")
# what is sent at once -> (method, target, body) of each request the server reads
SENT = {
    "get": (GET, [("GET", "/", "")]),
    "post": (POST, [("POST", "/v1/a?x=1", "a=b&c")]),
    "a pipeline": (GET + POST + GET, [("GET", "/", ""), ("POST", "/v1/a?x=1", "a=b&c"), ("GET", "/", "")]),
    "chunks": (ask("PUT /f HTTP/1.1", CHUNKED, body=chunks(b"ab", b"cde")), [("PUT", "/f", "abcde")]),
    "trailers": (ask("PUT /f HTTP/1.1", CHUNKED, "Trailer: x-sum", body=chunks(b"ab", trailers=b"x-sum: 1\r\n")), [("PUT", "/f", "ab")]),
    "extensions": (ask("PUT /f HTTP/1.1", CHUNKED, body=b"2;a=b\r\nab\r\n0;x\r\n\r\n") + GET, [("PUT", "/f", "ab"), ("GET", "/", "")]),
    "a request in a body": (ask("POST /a HTTP/1.1", f"Content-Length: {len(INNER)}", body=INNER), [("POST", "/a", INNER.decode())]),
    "a request in a chunk": (ask("POST /a HTTP/1.1", CHUNKED, body=chunks(INNER)), [("POST", "/a", INNER.decode())]),
    "a body of a get": (ask("GET /a HTTP/1.1", f"Content-Length: {len(INNER)}", body=INNER), [("GET", "/a", INNER.decode())]),
    "absolute form": (ask("GET http://api.example/a HTTP/1.1"), [("GET", "http://api.example/a", "")]),
    "refused ones between": (GET + INNER + POST + ask("DELETE /x HTTP/1.1") + GET, [("GET", "/", ""), ("POST", "/v1/a?x=1", "a=b&c"), ("GET", "/", "")]),
    "an offer of HTTP/2": (ask("GET /a HTTP/1.1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"), [("GET", "/a", "")]),
    "a withdrawn websocket": (ask("GET /a HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket") + GET, [("GET", "/a", ""), ("GET", "/", "")]),
    "connect": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n" + GET, [("GET", "/", "")]),
}  # fmt: skip


@pytest.mark.parametrize("name", SENT)
def test_what_the_server_did_is_what_was_judged(gate: Gate, node: Node, name: str) -> None:
    sent, read = SENT[name]
    before = len(node.seen())
    answer = say(gate, sent)
    seen = [(said["method"], said["url"], said["body"]) for said in node.seen()[before:]]
    judged = [text.partition("\n")[0] for verdict, _, text in gate.verdicts() if verdict == "allow" and not text.startswith("CONNECT")]
    assert seen == read
    assert judged == [f"{method} {url}" for method, url, _ in read]
    assert answer.count(b"HTTP/1.1 200 ") == len(read)
