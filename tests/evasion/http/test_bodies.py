"""Bodies that a real server (aiohttp) reads otherwise than they look: what it read is what was to be blocked.

Each case is shown twice: sent past us the server takes it for what a rule forbids; sent through us it is refused.
"""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from aiohttp import web

from appliance.model import Address
from tests.gate import Gate
from tests.ports import free_port

pytestmark = pytest.mark.peer

RULES = """
rules:
  - {id: big, to: db, when: {json: {"$.amount": {gt: 10000}}}, do: block}
  - {id: no-admin, to: db, when: {field: ["role=admin", "role=ädmin"]}, do: block}
  - {id: no-scripts, to: db, when: {file: "*.sh"}, do: block}
  - {id: no-delete-user, to: db, when: {graphql: mutation.deleteUser}, do: block}
  - {id: no-keys, to: db, when: {detect: [aws_key, credit_card]}, do: block}
  - {id: rest, to: db, do: allow}
"""


async def foreign(request: web.Request) -> web.Response:
    charset = request.query["charset"]
    return web.Response(body="card 4111111111111111 of ada@example.com".encode(charset), headers={"Content-Type": f"text/plain; charset={charset}"})


async def read(request: web.Request) -> web.Response:
    """Answer with what the request says, as a program would read it."""
    if "json" in request.content_type:
        return web.json_response(await request.json())
    form = await request.post()
    said = {name: value.filename if isinstance(value, web.FileField) else value for name, value in form.items()}
    return web.json_response(said or dict(request.query))


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    port, ready = free_port(), threading.Event()
    ends: list[Callable[[], object]] = []

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/foreign", foreign)
        app.router.add_route("*", "/{path:.*}", read)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        ends.append(lambda: loop.call_soon_threadsafe(stop.set))
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(20)
    yield Address("127.0.0.1", port)
    ends[0]()
    thread.join(20)


@pytest.fixture
def gate(server: Address) -> Iterator[Gate]:
    with Gate(server, RULES, protocol="http") as gate:
        yield gate


def post(port: int, content: str, body: str, path: str = "/x") -> tuple[int, object]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.request("POST", path, body.encode(), {"Content-Type": content})
    answer = client.getresponse()
    said = answer.read()
    client.close()
    return answer.status, json.loads(said) if answer.status == 200 else None


FORM, JSON = "application/x-www-form-urlencoded", "application/json"
PARTS = "multipart/form-data; boundary=x"
KEY = "AKIAIOSFODNN7EXAMPLE"


def part(*lines: str, value: str = "admin") -> str:
    return "--x\r\n" + "\r\n".join(lines) + f"\r\n\r\n{value}\r\n--x--\r\n"


NAMED = 'Content-Disposition: form-data; name="role"'
FILE = 'Content-Disposition: form-data; name="f"; filename="a.txt"; '
# name -> (content type, body, what the server reads)
CASES: dict[str, tuple[str, str, object]] = {
    "JSON in UTF-7": (f"{JSON}; charset=utf-7", '{"+AGEAbQBvAHUAbgB0-": 20000}', {"amount": 20000}),
    "JSON in a charset of escapes": (f"{JSON}; charset=unicode_escape", '{"\\\\u0061mount": 20000}', {"amount": 20000}),
    "a form in UTF-7": (f"{FORM}; charset=utf-7", "role=+AGEAZABtAGkAbg-", {"role": "admin"}),
    "a part in base64": (PARTS, part(NAMED, "Content-Transfer-Encoding: base64", value="YWRtaW4="), {"role": "admin"}),
    "a part in UTF-7": (PARTS, part(NAMED, "Content-Type: text/plain; charset=utf-7", value="+AGEAZABtAGkAbg-"), {"role": "admin"}),
    "two dispositions": (PARTS, part(NAMED, 'Content-Disposition: form-data; name="other"'), {"role": "admin"}),
    "a file's other name": (PARTS, part(FILE + "filename*=UTF-8''a.sh", "Content-Type: text/plain"), {"f": "a.sh"}),
    "a key with escapes": (JSON, '"\\u0041' + KEY[1:] + '"', KEY),
    "a key as a name": (JSON, '{"\\u0041' + KEY[1:] + '": {}}', {KEY: {}}),
    "a key in a form": (FORM, "k=%41" + KEY[1:], {"k": KEY}),
    "a form in UTF-8": (FORM, "role=ädmin", {"role": "ädmin"}),
    "a name with an escape": (PARTS, part('Content-Disposition: form-data; name="ro\\le"'), {"role": "admin"}),
    "a card in a form": (FORM, "card=4111+1111+1111+1111", {"card": "4111 1111 1111 1111"}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_body_is_judged_as_the_server_may_read_it(server: Address, gate: Gate, name: str) -> None:
    content, body, read = CASES[name]
    assert post(server.port, content, body) == (200, read)
    assert post(gate.port, content, body) == (403, None)


def test_a_card_in_a_query(server: Address, gate: Gate) -> None:
    path = "/x?card=4111+1111+1111+1111"
    assert post(server.port, FORM, "", path) == (200, {"card": "4111 1111 1111 1111"})
    assert post(gate.port, FORM, "", path) == (403, None)


def test_an_operation_in_a_form_with_files(gate: Gate) -> None:
    """GraphQL multipart request specification."""
    body = part('Content-Disposition: form-data; name="operations"', value='{"query": "mutation { deleteUser }"}')
    assert post(gate.port, PARTS, body) == (403, None)


def test_a_charset_for_all_parts(gate: Gate) -> None:
    """RFC 7578 section 4.6."""
    first = part('Content-Disposition: form-data; name="_charset_"', value="utf-7").removesuffix("--x--\r\n")
    assert post(gate.port, PARTS, first + part(NAMED, value="+AGEAZABtAGkAbg-")) == (403, None)


@pytest.mark.parametrize("beside", ["2;e={}\r\nhi\r\n0\r\n\r\n", "2\r\nhi\r\n0;e={}\r\n\r\n", "2\r\nhi\r\n0\r\nX-Sum: {}\r\n\r\n"])
def test_what_is_said_beside_a_chunked_body(gate: Gate, beside: str) -> None:
    head = "POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
    for said, status in ((KEY, b"403"), ("nothing", b"200")):
        with socket.create_connection(("127.0.0.1", gate.port), 20) as sock:
            sock.sendall((head + beside.format(said)).encode())
            assert sock.recv(65536)[9:12] == status


@pytest.mark.parametrize("charset", ["utf-16le", "utf-16be", "utf-7", "utf-8", "iso-8859-1"])
def test_an_answer_in_another_charset_is_masked_or_not_shown(server: Address, charset: str) -> None:
    with Gate(server, "rules: [{id: m, to: db, when: {detect: [email, credit_card]}, do: mask}, {id: rest, to: db, do: allow}]", protocol="http") as gate:
        client = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=20)
        client.request("GET", f"/foreign?charset={charset}")
        answer = client.getresponse()
        body = answer.read().decode(charset if answer.status == 200 else "utf-8")
        client.close()
        assert answer.status == (502 if charset.startswith(("utf-16", "utf-7")) else 200)
        assert "4111" not in body
        assert "ada@" not in body


def test_documents_in_a_row_and_depth_hide_no_key(gate: Gate) -> None:
    hidden = '"\\u0041' + KEY[1:] + '"'
    for body in ('{"a": 1}\n' + hidden, "[" * 70 + hidden + "]" * 70):
        assert post(gate.port, JSON, body) == (403, None)


def test_half_of_a_surrogate(gate: Gate) -> None:
    """It has no form in UTF-8; nothing of ours may break by it."""
    for body in ('{"\\ud800": "\\udfff"}', '{"amount": 1, "a": ["\\ud800"]}', '"\\udfff"'):
        assert post(gate.port, JSON, body)[0] in (200, 403)
    assert not gate.incidents


ORDINARY = {
    "JSON": (f"{JSON}; charset=UTF-8", '{"amount": 5, "text": "a\\nb"}', {"amount": 5, "text": "a\nb"}),
    "a form": (f"{FORM}; charset=iso-8859-1", "role=user", {"role": "user"}),
    "a form with a file": (PARTS, part('Content-Disposition: form-data; name="f"; filename="a*.txt"', "Content-Type: text/plain; charset=UTF-8"), {"f": "a*.txt"}),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_body_passes(gate: Gate, name: str) -> None:
    content, body, read = ORDINARY[name]
    assert post(gate.port, content, body) == (200, read)
