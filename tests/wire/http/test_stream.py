"""Answers masked as they come, by the detectors that rules use."""

import json

import pytest

from appliance import config
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.model import Address, Message, Process, ProtocolError
from appliance.wire.http import Http, reply, stream
from appliance.wire.http.stream import OVERLAP, STEP, Stream
from tests.wire.http.dialogues import CHUNKED, GET, C, S, ask, chunks, sized, tell

CARD = b"4111 1111 1111 1111"
FOUND = 'rules:\n  - {id: cards, when: {detect: [credit_card, private_key, email]}, do: mask, with: redact}\n  - {id: all, do: allow}\n'
LEAF = 'rules:\n  - {id: leaf, when: {json: "$..ssn"}, do: mask}\n  - {id: all, do: allow}\n'
NULL = "rules:\n  - {id: cards, when: {detect: [credit_card]}, do: mask, with: null}\n  - {id: all, do: allow}\n"
LIMIT = OVERLAP + STEP


def asked(rules: str, request: bytes = GET) -> Http:
    """Return a wire with a request that was sent on, its answer masked by some rules."""
    policy = config.rules([("rules.d/test.yaml", rules)], lambda name: [name])
    who = policy.identify(Process(1, 1, "/usr/bin/x", ("x",), "acme.service", 1000))
    wire = Http()
    (said,) = wire.feed(C, request)
    reader = open_reader("http", Shared())
    facts = reader.ask(said)
    assert facts is not None
    masks = policy.masks(who, Address("10.0.0.1", 80))
    wire.allow(said, masks.plan(facts, lambda column: reader.origins(facts, column)))
    return wire


def shown(wire: Http, pieces: list[bytes], end: bool = False) -> bytes:
    """Return the body that goes down, its chunks joined."""
    out = [m for piece in pieces for m in wire.feed(S, piece)] + (list(wire.feed(S, b"")) if end else [])
    head, _, body = b"".join(m.raw for m in out).partition(b"\r\n\r\n")
    assert out[-1].kind == "complete"
    return opened(body) if b"transfer-encoding: chunked" in head else body


def opened(body: bytes) -> bytes:
    out = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size, 16):
            assert body == b"\r\n"
            return out
        out, body = out + body[: int(size, 16)], body[int(size, 16) + 2 :]


def text(before: int, after: int) -> bytes:
    return (b"lorem ipsum dolor\n" * (before // 18 + 1))[:before] + b" " + CARD + b" " + (b"sit amet " * (after // 9 + 1))[:after]


SSN = b'{"ssn": "123-45-6789"'
# type, body: what may have leaves to hide, and cannot be read
UNREAD = {
    "a word that is none": ("text/html", SSN + b', "b": NaN}'),
    "two documents and a rest": ("text/plain", SSN + b"}\n" + SSN + b"} ok"),
    "a list of documents": ("text/plain", b" [" + SSN + b", 'b': 1}]"),
    "more leaves than are read": ("text/html", b"[" + b'"a",' * 100_000 + SSN + b"}]"),
    "deeper than is read": ("text/html", b"[" * 70 + SSN + b"}" + b"]" * 70),
    "a script's call": ("application/javascript", b"/**/typeof people === 'function' && people(" + SSN + b"});"),
    "what is no script": ("text/plain", b")]}',\n" + SSN + b"}"),
    "a table": ("text/csv; charset=utf-8", b"name,ssn\nAda,123-45-6789\n"),
    "XML": ("application/atom+xml", b"<ssn>123-45-6789</ssn>"),
    "YAML": ("application/x-yaml", b"ssn: 123-45-6789"),
    "parts": ("multipart/mixed; boundary=-", b"\r\n---\r\nContent-Type: application/json\r\n\r\n" + SSN + b"}\r\n-----\r\n"),
    "packed JSON": ("application/msgpack", b"\x81\xa3ssn\xab123-45-6789"),
}
# what has none
OTHER = {
    "a page": ("text/html", b"<a href='x'>{{ 123-45-6789 }}</a>"),
    "a script": ("text/javascript", b'call("a", {b: 1}); f({a: 1})'),
    "a picture": ("image/svg+xml", b"<svg/>"),
    "lines of a log": ("text/plain", b"[2026-01-01] {a} 123-45-6789"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_may_have_leaves_to_hide_and_cannot_be_read_is_not_shown(name: str) -> None:
    content, body = UNREAD[name]
    answer = sized(body, f"Content-Type: {content}")
    down = b"".join(m.raw for m in asked(LEAF).feed(S, answer))
    assert down.startswith(b"HTTP/1.1 502 ")
    assert b"6789" not in down
    assert b"".join(m.raw for m in asked(FOUND).feed(S, answer)) == answer  # a detector finds what it finds


ANSWER = b'{"data": {"me": {"x": "123-45-6789"}}}'
# requests that give a leaf another name
RENAMING = {
    "an alias of GraphQL": ask("POST /g HTTP/1.1", "Content-Length: 31", body=b'{"query": "{ me { x: ssn } }"} '),
    "in the query": ask("GET /g?query=%7Bme%7Bx:ssn%7D%7D HTTP/1.1"),
    "a persisted query": ask("GET /g?extensions=%7B%22persistedQuery%22:%7B%7D%7D HTTP/1.1"),
    "a column of PostgREST": ask("GET /people?select=name,x:ssn HTTP/1.1"),
}


@pytest.mark.parametrize("name", RENAMING)
def test_another_name_of_a_leaf_does_not_show_it(name: str) -> None:
    down = b"".join(m.raw for m in asked(LEAF, RENAMING[name]).feed(S, sized(ANSWER, "Content-Type: application/json")))
    assert down.endswith(b'{"data": {"me": {"x": "[redacted]"}}}')


@pytest.mark.parametrize("name", OTHER)
def test_what_has_no_leaves_is_shown(name: str) -> None:
    content, body = OTHER[name]
    answer = sized(body, f"Content-Type: {content}")
    assert b"".join(m.raw for m in asked(LEAF).feed(S, answer)) == answer


def test_a_card_number_cut_at_every_byte_of_a_chunk_border() -> None:
    """Where the overlap cuts is tried with it: the number stands there at every place."""
    whole = text(LIMIT + 100, LIMIT + 100)
    at = whole.index(CARD)
    for cut in range(at - 1, at + len(CARD) + 2):
        raw = tell("200 OK", CHUNKED, body=chunks(whole[:cut], whole[cut:]))
        assert shown(asked(FOUND), [raw]) == whole.replace(CARD, b"[redacted]"), cut


def test_a_card_number_at_every_place_of_the_overlaps_own_cut() -> None:
    for before in range(STEP - len(CARD) - 3, STEP + 3):
        whole = text(before, LIMIT)
        raw = tell("200 OK", CHUNKED, body=chunks(*[whole[i : i + 1000] for i in range(0, len(whole), 1000)]))
        assert shown(asked(FOUND), [raw]) == whole.replace(CARD, b"[redacted]"), before


def test_as_a_whole_and_as_it_comes_come_to_the_same() -> None:
    whole = b"".join(b"%d ada%d@example.com %s\n" % (n, n, CARD if n % 7 else b"nothing") for n in range(2000))
    as_one = shown(asked(FOUND), [sized(whole)])
    assert b"@" not in as_one
    for size in (700, 9000, len(whole)):
        raw = tell("200 OK", body=whole)
        assert shown(asked(FOUND), [raw[i : i + size] for i in range(0, len(raw), size)], end=True) == as_one


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
def test_a_long_answer_is_masked_as_it_comes(framing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "MAX_MASKED", 1000)
    whole = text(50_000, 50_000)
    raw = {"chunked": tell("200 OK", CHUNKED, body=chunks(whole)), "close": tell("200 OK", body=whole), "length": sized(whole)}
    assert shown(asked(FOUND), [raw[framing]], end=framing == "close") == whole.replace(CARD, b"[redacted]")


def test_the_first_bytes_wait_no_longer_than_the_overlap() -> None:
    wire = asked(FOUND)
    assert list(wire.feed(S, tell("200 OK", CHUNKED))) == []
    found: list[Message] = []
    came = 0
    while not found:
        found = list(wire.feed(S, chunks(b"words and words\n" * 64)[: -len(b"0\r\n\r\n")]))
        came += 1024
    assert came <= LIMIT + 1024
    assert [m.kind for m in found] == ["response", "body"]


def test_memory_is_flat() -> None:
    wire = asked(FOUND)
    list(wire.feed(S, tell("200 OK", f"Content-Length: {1 << 30}")))
    piece = (b"all is quiet here " * 4000)[: 1 << 16]
    for _ in range(200):
        out = sum(len(m.raw) for m in wire.feed(S, piece))
        assert out <= (1 << 16) + LIMIT
    assert isinstance(wire._reply, reply._Streamed)
    assert wire._reply._stream._size <= LIMIT
    assert not wire._down
    assert not wire._reply._held


def test_a_private_key_waits_for_its_end() -> None:
    key = b"-----BEGIN PRIVATE KEY-----\n" + b"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 600 + b"-----END PRIVATE KEY-----"
    whole = text(STEP, 10) + key + text(10, LIMIT)
    raw = tell("200 OK", CHUNKED, body=chunks(*[whole[i : i + 3000] for i in range(0, len(whole), 3000)]))
    out = shown(asked(FOUND), [raw])
    assert b"MIIE" not in out
    assert out.count(b"[redacted]") == 3


def test_max_held() -> None:
    wire = asked(FOUND)
    endless = b"-----BEGIN PRIVATE KEY-----\n" + b"MIIE" * (stream.MAX_HELD // 4)
    with pytest.raises(ProtocolError, match="over 131072 characters"):
        list(wire.feed(S, tell("200 OK", CHUNKED, body=chunks(text(100, 10) + endless)[:-5])))


def test_overlap_and_step() -> None:
    seen = Stream(lambda text: text)
    assert seen.take("x" * (LIMIT - 1)) == ("", False)
    assert seen.take("x") == ("x" * STEP, False)
    assert seen.end() == ("x" * OVERLAP, False)


@pytest.mark.parametrize("rules", [LEAF, NULL])
def test_what_cannot_be_masked_as_it_comes_is_not_shown(rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "MAX_MASKED", 1000)
    wire = asked(rules)
    out: list[Message] = []
    with pytest.raises(ProtocolError):
        for message in wire.feed(S, tell("200 OK", CHUNKED, body=chunks(text(10, 200_000)))):
            out.append(message)
    assert CARD not in b"".join(m.raw for m in out)


@pytest.mark.parametrize("lines", [["Content-Type: application/json"], ["Content-Encoding: gzip"]])
def test_json_and_what_is_packed_is_gathered(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "MAX_MASKED", 1000)
    with pytest.raises(ProtocolError, match="cannot be masked"):
        list(asked(FOUND).feed(S, tell("200 OK", CHUNKED, *lines, body=chunks(b"x" * 1001))))


def test_json_that_says_it_is_text_is_masked_by_its_leaves() -> None:
    body = json.dumps({"a": "x" * LIMIT, "card": "4111"}).replace('"4111"', '"\\u0034111111111111111"').encode()
    out = shown(asked(FOUND), [tell("200 OK", CHUNKED, body=chunks(b" ", body))])
    assert json.loads(out)["card"] == "[redacted]"


def test_a_text_that_begins_like_json_is_masked_as_it_comes_when_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "MAX_MASKED", 1000)
    whole = b"[info] " + text(40_000, 40_000)
    assert shown(asked(FOUND), [tell("200 OK", CHUNKED, body=chunks(whole))]) == whole.replace(CARD, b"[redacted]")


def test_utf_16_is_not_masked_as_it_comes() -> None:
    with pytest.raises(ProtocolError, match="UTF-16"):
        list(asked(FOUND).feed(S, tell("200 OK", CHUNKED, body=chunks("a card".encode("utf-16"))[:-5])))


def test_characters_cut_and_bytes_that_are_none() -> None:
    whole = ("é€😀" * 3000).encode() + b" \xff\xfe " + CARD + b" " + ("ü" * LIMIT).encode()
    raw = tell("200 OK", CHUNKED, body=chunks(*[whole[i : i + 101] for i in range(0, len(whole), 101)]))
    assert shown(asked(FOUND), [raw]) == whole.replace(CARD, b"[redacted]")


def test_a_client_of_http_1_0_takes_no_chunks() -> None:
    wire = asked(FOUND, b"GET / HTTP/1.0\r\n\r\n")
    out = b"".join(m.raw for m in wire.feed(S, tell("200 OK", CHUNKED, body=chunks(b"a ", CARD))))
    assert out.endswith(b"content-length: 12\r\n\r\na [redacted]")


def test_a_coding_is_not_asked_for() -> None:
    wire = Http()
    (said,) = wire.feed(C, ask("GET / HTTP/1.1", "Accept-Encoding: gzip, br"))
    assert b"gzip" not in wire.allow(said, lambda columns: [lambda text: text])[0].data
