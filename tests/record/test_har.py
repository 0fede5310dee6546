"""HAR of sessions: entries, order, bodies; what the validator of a browser-grade tool says of it."""

import json
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.model import Decision, Note, Side
from appliance.record import har
from appliance.record.frame import Frame
from tests.record.samples import T, closed, flow

C, S = Side.CLIENT, Side.SERVER
ROOT = Path(__file__).parents[2]
ALLOW = Decision("allow", "reads", "10.yaml", "r1")
BLOCK = Decision("block", "no-admin", "10.yaml", "r1")
GET = b"GET /a?x=1&y=%20z HTTP/1.1\r\nHost: api.example\r\nAccept: */*\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nHost: api.example\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{\"a\": 1}"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
NO = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\n{}"


def opened() -> Note:
    return Note("opened", "a -> b", identity="acme", target="api", protocol="http")


def asked(raw: bytes, decision: Decision = ALLOW) -> list[Note]:
    return [Note("message", "x", C, "request", raw), Note("decision", "x", decision=decision, id="1")]


def told(raw: bytes, kind: str = "complete") -> Note:
    return Note("message", "", S, kind, raw)


def made(*notes: Note, step: float = 0.5) -> dict[str, Any]:
    frames = [Frame(n, T + n * step, "f1", note, flow=flow() if not n else None) for n, note in enumerate(notes)]
    log: dict[str, Any] = json.loads(b"".join(har.blocks(frames)))["log"]
    return log


def entries(*notes: Note) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = made(opened(), *notes, closed())["entries"]
    return found


def validated(document: dict[str, Any]) -> None:
    """Have the HAR schema of har-validator look at it."""
    code = (
        "require('har-validator').har(JSON.parse(require('fs').readFileSync(0)))"
        ".then(() => process.exit(0), e => { console.error(e.errors || e); process.exit(1) })"
    )
    words = ["node", "-e", code]
    done = subprocess.run(words, cwd=ROOT / "build/node", input=json.dumps(document), text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_entry() -> None:
    (entry,) = entries(*asked(GET), told(OK))
    assert entry["startedDateTime"] == "2023-11-14T22:13:20.500000+00:00"
    assert (entry["request"]["method"], entry["request"]["url"]) == ("GET", "http://api.example/a?x=1&y=%20z")
    assert entry["request"]["queryString"] == [{"name": "x", "value": "1"}, {"name": "y", "value": " z"}]
    assert (entry["response"]["status"], entry["response"]["content"]) == (200, {"size": 5, "mimeType": "text/plain", "text": "hello"})
    assert entry["_vendorgate"]["rule"] == "reads"
    assert entry["_vendorgate"]["exe"] == "/usr/bin/psql"
    assert entry["serverIPAddress"] == "10.0.3.2"
    assert entry["time"] == 1000


def test_a_body_that_was_sent() -> None:
    (entry,) = entries(*asked(POST), told(OK))
    assert entry["request"]["postData"] == {"mimeType": "application/json", "text": '{"a": 1}', "params": []}


PIECES = {
    "whole": [OK, CHUNKED],
    "byte by byte": [bytes([byte]) for byte in OK + CHUNKED],
    "joined": [OK + CHUNKED],
    "interim": [b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK, CHUNKED],
}


@pytest.mark.parametrize("name", PIECES)
def test_answers_however_they_were_noted(name: str) -> None:
    found = entries(*asked(GET), *asked(POST), *(told(piece) for piece in PIECES[name]))
    assert [entry["response"]["content"]["text"] for entry in found] == ["hello", "hello"]
    assert [entry["request"]["method"] for entry in found] == ["GET", "POST"]


def test_a_refused_request_has_our_answer() -> None:
    (entry,) = entries(*asked(GET, BLOCK), told(NO, "error"))
    assert (entry["response"]["status"], entry["_vendorgate"]["verdict"]) == (403, "block")


def test_a_body_without_length_ends_with_the_session() -> None:
    (entry,) = entries(*asked(GET), told(b"HTTP/1.0 200 OK\r\n\r\nhello", "body"))
    assert entry["response"]["content"]["text"] == "hello"


def test_an_answer_without_a_body() -> None:
    head = asked(GET.replace(b"GET", b"HEAD"))
    found = entries(*head, told(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), *asked(GET), told(b"HTTP/1.1 204 No Content\r\n\r\n"))
    assert [entry["response"]["status"] for entry in found] == [200, 204]


def test_bytes_that_are_no_text() -> None:
    (entry,) = entries(*asked(GET), told(OK.replace(b"hello", b"\xff\0\1\2\3")))
    assert entry["response"]["content"]["encoding"] == "base64"


@pytest.mark.parametrize(
    ("request_", "url"),
    [
        (b"GET /a?to=http://[x HTTP/1.1\r\nHost: b\r\n\r\n", "http://b/a?to=http://[x"),
        (b"GET //[ HTTP/1.1\r\nHost: b\r\n\r\n", "http://b//["),
        (b"GET http://[/a?x=1 HTTP/1.1\r\nHost: b\r\n\r\n", "http://[/a?x=1"),
        (b"GET / HTTP/1.1\r\nHost: [\r\n\r\n", "http://[/"),
        (b"\xff", "http://10.0.3.2:5432/"),
    ],
)
def test_a_target_that_is_no_address(request_: bytes, url: str) -> None:
    (entry,) = entries(*asked(request_), told(OK))
    assert entry["request"]["url"] == url


ODD = {
    "a length in other digits": "HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nx".encode("latin-1"),
    "a length of 5,000 digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nx",
    "no size of a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a chunk below zero": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n",
}


@pytest.mark.parametrize("name", ODD)
def test_an_answer_that_is_no_http_is_kept_as_far_as_it_goes(name: str) -> None:
    """Nor does it spoil what else is exported."""
    (entry,) = entries(*asked(GET), told(ODD[name]))
    assert entry["response"]["status"] == 200


def test_max_text_is_all_that_is_held_of_a_long_chunk() -> None:
    def frames() -> Iterator[Frame]:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4000000\r\n"
        notes = [opened(), *asked(GET), told(head), *[told(b"x" * (1 << 16))] * 1024, told(b"\r\n0\r\n\r\n"), closed()]
        for number, note in enumerate(notes):
            yield Frame(number, T, "f1", note, flow=None if number else flow())

    tracemalloc.start()
    data = b"".join(har.blocks(frames()))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert json.loads(data)["log"]["entries"][0]["response"]["content"]["size"] == 1 << 26
    assert most < 16 << 20


def test_tls_is_said() -> None:
    (entry,) = entries(Note("message", "TLS opened: api.example", S, "tls"), *asked(GET), told(OK))
    assert entry["request"]["url"].startswith("https://api.example/")


def test_max_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(har, "MAX_TEXT", 3)
    (entry,) = entries(*asked(GET), told(OK))
    assert (entry["response"]["content"]["text"], entry["response"]["content"]["size"]) == ("hel", 5)
    assert entry["response"]["content"]["comment"] == "the first 3 of 5 bytes"


def test_max_sessions_and_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(har, "MAX_SESSIONS", 1)
    monkeypatch.setattr(har, "MAX_WAITING", 2)
    assert len(entries(*asked(GET), *asked(GET), *asked(GET), told(OK + OK + OK))) == 2
    frames = [Frame(n, T, f"f{n}", note) for n, note in enumerate([asked(GET)[0], asked(GET)[0]])]
    assert b'"entries":[]' in b"".join(har.blocks([*frames, Frame(9, T, "f0", told(OK))]))


def test_sessions_of_other_protocols_and_what_was_not_kept() -> None:
    assert made(Note("opened", protocol="postgres"), Note("message", "select 1", C, "query", b"Q"), told(b"Z", "ready"))["entries"] == []
    (entry,) = entries(*asked(b""), told(OK))
    assert entry["request"]["url"].startswith("http://10.0.3.2:5432/")


@pytest.mark.peer
def test_a_validator_takes_it() -> None:
    notes = [opened(), *asked(GET), told(OK), *asked(POST, BLOCK), told(NO, "error"), *asked(GET), told(CHUNKED), *asked(b""), told(OK)]
    validated({"log": made(*notes, closed())})
    validated({"log": made(opened(), closed())})


def test_what_a_proxy_opened_has_entries_of_its_own() -> None:
    connect = b"CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n"
    entered = Note("message", "tunnel to api.example:443", S, "tunnel", target="web", protocol="http")
    hello, inside = Note("message", "TLS opened", S, "tls"), [*asked(GET), told(OK), *asked(POST), told(OK)]
    way, get, post = entries(
        *asked(connect), told(b"HTTP/1.1 200 go\r\nContent-Length: 9\r\n\r\n", "tunnel"), entered, hello, *inside
    )
    assert (way["request"]["method"], way["response"]["content"]["size"], way["_vendorgate"]["target"]) == ("CONNECT", 0, "api")
    assert get["request"]["url"].startswith("https://api.example/a")
    assert [one["response"]["content"]["text"] for one in (get, post)] == ["hello", "hello"]
    assert get["_vendorgate"]["target"] == "web"
