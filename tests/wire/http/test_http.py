"""HTTP/1.1: dialogues cut anywhere, framing that is refused, refusals in order, masks."""

import gzip
import json
import zlib
from collections.abc import Sequence
from itertools import pairwise

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.model import Column, Message, ProtocolError, Send, Side
from appliance.wire import Cell
from appliance.wire.detect import open as open_wire
from appliance.wire.http import Http, connection, head, recognise, reply, upward
from tests.wire.http.dialogues import BROKEN, CHUNKED, DIALOGUES, GET, OK, POST, C, S, ask, chunks, sized, tell

NAMES = sorted(DIALOGUES)


def play(wire: Http, steps: Sequence[tuple[Side, bytes]]) -> list[Message]:
    """Feed the steps and allow everything; what goes up is what came."""
    said: list[Message] = []
    for side, data in steps:
        for message in wire.feed(side, data):
            said.append(message)
            if message.side is C:
                assert wire.allow(message) == [Send(S, message.raw)]
    return said


def joined(messages: Sequence[Message]) -> list[tuple[str, bytes]]:
    """Return kinds and bytes, with the pieces of a body as one."""
    out: list[tuple[str, bytes]] = []
    for message in messages:
        if message.kind in ("body", "complete") and out and out[-1][0] == "body":
            out[-1] = ("body", out[-1][1] + message.raw)
        elif message.raw or message.kind not in ("body", "complete"):
            out.append(("body" if message.kind == "complete" else message.kind, message.raw))
    return out


@pytest.mark.parametrize("name", NAMES)
def test_kinds(name: str) -> None:
    wire = Http()
    for side, data, kinds in DIALOGUES[name]:
        said = play(wire, [(side, data)])
        assert [m.kind for m in said if m.raw or m.kind == "complete"] == [k for k in kinds.split() if k != "body" or len(said) > 2]
        assert b"".join(m.raw for m in said) == data
    assert wire.idle


def test_the_end_of_the_connection_ends_a_body_without_length() -> None:
    wire = Http()
    said = play(wire, [(C, GET), (S, tell("200 OK", body=b"ab")), (S, b"c"), (S, b"")])
    assert [m.kind for m in said] == ["request", "response", "body", "body", "complete"]
    assert wire.idle


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_cut_anywhere(name: str, data: st.DataObject) -> None:
    whole = joined(play(Http(), [(side, raw) for side, raw, _ in DIALOGUES[name]]))
    pieces: list[tuple[Side, bytes]] = []
    for side, raw, _ in DIALOGUES[name]:
        at = sorted({0, len(raw), *data.draw(st.lists(st.integers(0, len(raw)), max_size=6))})
        pieces += [(side, raw[a:b]) for a, b in pairwise(at)]
    assert joined(play(Http(), pieces)) == whole


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte(name: str) -> None:
    whole = joined(play(Http(), [(side, raw) for side, raw, _ in DIALOGUES[name]]))
    assert joined(play(Http(), [(side, raw[i : i + 1]) for side, raw, _ in DIALOGUES[name] for i in range(len(raw))])) == whole


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Side), st.binary(max_size=80)), max_size=6))
def test_rubbish_is_an_error_or_waits(pieces: list[tuple[Side, bytes]]) -> None:
    wire = Http()
    try:
        play(wire, pieces)
    except ProtocolError:
        assert wire.refuse("no", "malformed").startswith(b"HTTP/1.1 400 ") or (wire._reply and wire._reply.begun)


@pytest.mark.parametrize("name", BROKEN)
def test_what_could_be_read_in_two_ways_is_refused(name: str) -> None:
    for size in (len(BROKEN[name]), 1):
        wire = Http()
        with pytest.raises(ProtocolError):
            play(wire, [(C, BROKEN[name][i : i + size]) for i in range(0, len(BROKEN[name]), size)] + [(C, b"\r\n\r\n")])


def test_empty_lines_before_a_request_go_nowhere() -> None:
    assert [m.raw for m in play(Http(), [(C, b"\r\n\r\n" + GET)])] == [GET]


def test_recognised() -> None:
    assert [recognise(data, b"") for data in (b"", b"GE", b"GET / HT", b"GET / HTTP/1.1\r\n", b"GET / HTTP/2.0\r\n")] == [None, None, None, True, False]
    assert [recognise(data, b"") for data in (b"\0\0\0\x08", b"*1\r\n$4\r\nPING\r\n", b"\x16\x03\x01")] == [False, False, False]
    wire = open_wire("")
    (said,) = wire.feed(C, GET)
    assert (wire.name, said.text) == ("http", "GET /")


# -- requests -----------------------------------------------------------------------------------------------------


def test_what_a_request_says() -> None:
    (said,) = Http().feed(C, POST)
    assert (said.text, said.name, said.values[1].data) == ("POST /v1/a?x=1", "api.example", b"a=b&c")
    assert said.values[0].data == b"host: api.example\ncontent-length: 5\n"


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstandard.compress)])
def test_a_packed_body_is_judged_opened_and_sent_as_it_came(coding: str, pack: object) -> None:
    packed = pack(b'{"amount": 5}')  # type: ignore[operator]
    raw = ask("POST / HTTP/1.1", f"Content-Encoding: {coding}", f"Content-Length: {len(packed)}", body=packed)
    wire = Http()
    (said,) = wire.feed(C, raw)
    assert (said.values[1].data, said.status) == (b'{"amount": 5}', "")
    assert wire.allow(said) == [Send(S, raw)]


def both_forms() -> bytes:
    """Return deflate whose first block in the zlib form has 63,486 bytes, and in the bare form, header included, 2,049."""
    text, last = bytearray(b"a" * 63486), b"\1\0\0\xff\xff"
    text[2047:2052] = last
    return b"\x78\x01\x08\xfe\xf7" + (63486 ^ 0xFFFF).to_bytes(2, "little") + text + last + zlib.adler32(text).to_bytes(4)


# what readers differ in: some take the first member only, some the bare form of deflate only
TWICE = {
    "gzip in two members": ("gzip", gzip.compress(b"role=admin") + gzip.compress(b"x")),
    "an empty member behind": ("gzip", gzip.compress(b"role=admin") + gzip.compress(b"")),
    "zstd in two frames": ("zstd", zstandard.compress(b"role=admin") + zstandard.compress(b"x")),
    "zlib that is bare deflate too": ("deflate", both_forms()),
}


@pytest.mark.parametrize("name", TWICE)
def test_a_packed_body_that_is_read_in_two_ways_is_not_known(name: str) -> None:
    coding, packed = TWICE[name]
    (said,) = Http().feed(C, ask("POST / HTTP/1.1", f"Content-Encoding: {coding}", f"Content-Length: {len(packed)}", body=packed))
    assert (said.status, said.values[1].data) == ("encoded", packed)


def test_a_packed_body_is_told_as_it_came_too() -> None:
    """Most servers do not open it."""
    packed = gzip.compress(b"a=b")
    (said,) = Http().feed(C, ask("POST / HTTP/1.1", "Content-Encoding: gzip", f"Content-Length: {len(packed)}", body=packed))
    assert [value.data for value in said.values[1:]] == [b"a=b", packed]


def test_a_coding_that_is_not_known_is_told() -> None:
    (said,) = Http().feed(C, ask("POST / HTTP/1.1", "Content-Encoding: pack200", "Content-Length: 1", body=b"x"))
    assert said.status == "encoded"


def test_a_bomb_is_not_opened_beyond_the_limit() -> None:
    packed = gzip.compress(bytes(connection.MAX_BODY + 1))
    (said,) = Http().feed(C, ask("POST / HTTP/1.1", "Content-Encoding: gzip", f"Content-Length: {len(packed)}", body=packed))
    assert said.status == "encoded"


def test_max_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_BODY", 10)
    (said,) = Http().feed(C, ask("POST / HTTP/1.1", "Content-Length: 10", body=b"=" * 10))
    assert said.status == ""
    wire = Http()
    (first,) = wire.feed(C, ask("POST / HTTP/1.1", "Content-Length: 15", body=b"=" * 11))
    more = list(wire.feed(C, b"yyyy"))
    assert (first.status, [m.kind for m in more]) == ("long", ["body"])
    assert [wire.allow(m) for m in (first, *more)] == [[Send(S, first.raw)], [Send(S, b"yyyy")]]


@pytest.mark.parametrize("rest", [b"1;a=b\r\nx\r\n", b"1\r\nx\r\n0\r\nX-HTTP-Method: DELETE\r\n\r\n"])
def test_what_is_said_beside_the_rest_of_a_long_body_does_not_go_up(monkeypatch: pytest.MonkeyPatch, rest: bytes) -> None:
    """What is said beside the beginning was judged as header lines are."""
    monkeypatch.setattr(connection, "MAX_BODY", 10)
    head = ask("PUT / HTTP/1.1", CHUNKED)
    wire = Http()
    (first,) = wire.feed(C, head + b"b;c=d\r\n" + b"=" * 11 + b"\r\n")
    assert b"chunk-extension: ;c=d\n" in (first.values[0].data or b"")
    wire.allow(first)
    with pytest.raises(ProtocolError, match="behind what was judged"):
        list(wire.feed(C, rest))


def test_the_rest_of_a_refused_body_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_BODY", 10)
    wire = Http()
    (first,) = wire.feed(C, ask("POST / HTTP/1.1", "Content-Length: 15", body=b"x" * 11))
    assert [s.to for s in wire.deny(first, "denied", "no")] == [C]
    rest, after = wire.feed(C, b"yyyy" + GET)
    assert wire.allow(rest) == []
    assert wire.allow(after) == [Send(S, GET)]


def test_the_rest_of_a_body_that_came_before_the_refusal_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reviewer denies when all of it is here already: else a body could hold a request that nobody judged."""
    monkeypatch.setattr(connection, "MAX_BODY", 10)
    wire = Http()
    (first,) = wire.feed(C, ask("POST / HTTP/1.1", f"Content-Length: {11 + len(GET)}", body=b"x" * 11))
    rest, after = [*wire.feed(C, GET), *wire.feed(C, GET)]
    assert (rest.kind, rest.status, after.kind) == ("body", "last", "request")
    assert [s.to for s in wire.deny(first, "denied", "no")] == [C]
    assert wire.allow(rest) == []
    assert wire.allow(after) == [Send(S, GET)]
    assert not wire._refused and not wire._unended


def test_nothing_is_kept_of_requests_that_were_refused() -> None:
    wire = Http()
    for _ in range(100):
        (said,) = wire.feed(C, POST)
        wire.deny(said, "denied", "no")
    assert not wire._refused and not wire._unended and not wire._asked and not wire._heads


def test_max_head() -> None:
    big = ask("GET / HTTP/1.1", *(f"X-{i}: {'v' * 1000}" for i in range(66)))
    with pytest.raises(ProtocolError, match="over 65536 bytes"):
        list(Http().feed(C, big))


def test_max_fields() -> None:
    list(Http().feed(C, ask("GET / HTTP/1.1", *(f"X-{i}: v" for i in range(head.MAX_FIELDS - 1)))))
    with pytest.raises(ProtocolError, match="more than 200 header fields"):
        list(Http().feed(C, ask("GET / HTTP/1.1", *(f"X-{i}: v" for i in range(head.MAX_FIELDS)))))


def test_max_target_and_method() -> None:
    for line in (f"GET /{'a' * head.MAX_TARGET} HTTP/1.1", f"{'A' * 33} / HTTP/1.1"):
        with pytest.raises(ProtocolError, match="over"):
            list(Http().feed(C, ask(line)))


def test_max_size_line_and_trailers() -> None:
    for body in (b"2;" + b"x" * 5000, b"0\r\n" + b"X: y\r\n" * 3000):
        with pytest.raises(ProtocolError):
            list(Http().feed(C, ask("POST / HTTP/1.1", CHUNKED, body=body)))


def test_max_waiting() -> None:
    wire = Http()
    for _ in range(connection.MAX_WAITING):
        (said,) = wire.feed(C, GET)
        wire.allow(said)
    with pytest.raises(ProtocolError, match="more than 100 requests"):
        list(wire.feed(C, GET))


def test_continue_comes_from_us_and_once() -> None:
    wire = Http()
    (go,) = wire.feed(C, ask("PUT / HTTP/1.1", "Expect: 100-continue", "Content-Length: 2"))
    assert (go.side, go.raw) == (S, b"HTTP/1.1 100 Continue\r\n\r\n")
    (said,) = wire.feed(C, b"ab")
    wire.allow(said)
    assert [m.raw for m in wire.feed(S, tell("100 Continue") + OK) if m.kind == "interim"] == [b""]


def test_what_has_come_whole_is_not_asked_for_once_more() -> None:
    """A server that answers at once would read the body as the next request."""
    for expect in ("100-continue", "x 100-continue"):
        raw = ask("PUT / HTTP/1.1", f"Expect: {expect}", "Content-Length: 2", body=b"a=")
        wire = Http()
        (said,) = wire.feed(C, raw)
        assert wire.allow(said) == [Send(S, ask("PUT / HTTP/1.1", "Content-Length: 2", body=b"a="))]


# bodies that are no requests, and bodies that servers which do not read them would take for one
BEHIND = {
    b"a=b": False,
    b'{"log": "GET / HTTP/1.1"}': False,
    b"PUT it there": False,
    b"hello\r\nDELETE /admin HTTP/1.1": False,
    b"DELETE /admin HTTP/1.1\r\nHost: a\r\n\r\n": True,
    b"\r\n\n  DELETE\x0b/admin\xa0HTTP/1.1 \n\n": True,
    b"GET /admin\r\n": True,
    b"\r\nDELE": True,  # and `TE /admin HTTP/1.1` behind it
    b"DELE\r\n": False,
    b"dele": True,  # some servers raise it
    b"one": False,
    b"\n" * upward.MAX_FIRST + b"DELETE /admin HTTP/1.1\r\n\r\n": True,
}


@pytest.mark.parametrize("body", BEHIND, ids=range(len(BEHIND)))
def test_a_body_that_begins_as_a_request_is_the_last_of_its_connection(body: bytes) -> None:
    wire = Http()
    (said,) = wire.feed(C, ask("GET / HTTP/1.1", "Connection: keep-alive", f"Content-Length: {len(body)}", body=body))
    (sent,) = wire.allow(said)
    assert (b"Connection: close" in sent.data, b"keep-alive" in sent.data) == (BEHIND[body], not BEHIND[body])
    assert sent.data.endswith(b"\r\n\r\n" + body)


def test_a_head_whose_connection_has_masks_is_the_last_of_it() -> None:
    raw = ask("HEAD / HTTP/1.1", "Connection: keep-alive")
    for plan in (hide, None):
        wire = Http()
        (said,) = wire.feed(C, raw)
        assert wire.allow(said, plan) == [Send(S, raw.replace(b"keep-alive", b"close") if plan else raw)]


def test_nothing_goes_up_behind_the_last_of_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_BODY", 10)
    wire = Http()
    last, after = wire.feed(C, ask("GET / HTTP/1.1", "Content-Length: 7", body=b"GET /a\n") + ask("POST / HTTP/1.1", "Content-Length: 15", body=b"x" * 11))
    (rest,) = wire.feed(C, b"yyyy")
    assert [bool(wire.allow(m)) for m in (last, after, rest)] == [True, False, False]
    assert [m.kind for m in wire.feed(S, OK)] == ["response", "complete"]


def test_what_a_server_says_unasked_is_no_answer_to_what_is_asked_meanwhile() -> None:
    wire = Http()
    list(wire.feed(S, tell("408 Request Timeout", "Content-Length: 2", body=b"a")))
    one, two = wire.feed(C, GET + POST)
    assert (wire.deny(one, "denied", "no"), wire.allow(two, hide)) == ([], [Send(S, POST)])
    assert [m.kind for m in wire.feed(S, b"b")] == ["complete", "error"]
    assert b"".join(m.raw for m in wire.feed(S, sized(b"a secret b"))).endswith(b"a [hidden] b")


def test_continue_waits_for_the_answers_before_it() -> None:
    wire = Http()
    (first,) = wire.feed(C, GET + ask("PUT / HTTP/1.1", "Expect: 100-continue", "Content-Length: 2"))
    wire.allow(first)
    assert [m.kind for m in wire.feed(S, OK)] == ["response", "complete", "interim"]


# -- refusals -----------------------------------------------------------------------------------------------------


def test_a_refusal_is_a_problem_and_the_connection_lives() -> None:
    wire = Http()
    (said,) = wire.feed(C, POST)
    (told,) = wire.deny(said, "denied", "denied by vendorgate (decision 7-1)")
    first, _, body = told.data.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json")
    assert json.loads(body)["code"] == "denied"
    assert wire.idle


def test_refusals_keep_their_place() -> None:
    wire = Http()
    one, two, three = wire.feed(C, GET + POST + GET)
    assert (wire.allow(one), wire.deny(two, "denied", "no"), wire.allow(three)) == ([Send(S, GET)], [], [Send(S, GET)])
    assert [m.kind for m in wire.feed(S, OK)] == ["response", "complete", "error"]
    assert [m.kind for m in wire.feed(S, OK)] == ["response", "complete"]


def test_a_refused_head_has_no_body() -> None:
    wire = Http()
    (said,) = wire.feed(C, ask("HEAD / HTTP/1.1"))
    assert wire.deny(said, "denied", "no")[0].data.endswith(b"\r\n\r\n")


def test_the_last_word_says_that_the_connection_ends() -> None:
    assert [Http().refuse("no", code)[:12] for code in ("denied", "malformed", "failed")] == [b"HTTP/1.1 403", b"HTTP/1.1 400", b"HTTP/1.1 503"]
    assert b"connection: close" in Http().refuse("no")
    wire = Http()
    play(wire, [(C, GET), (S, tell("200 OK", "Content-Length: 9"))])
    assert wire.refuse("no") == b""


# -- answers ------------------------------------------------------------------------------------------------------

SERVER_BROKEN = {
    "nothing was asked": OK,
    "two lengths": tell("200 OK", "Content-Length: 1", "Content-Length: 2"),
    "both lengths": tell("200 OK", "Content-Length: 1", CHUNKED),
    "another protocol": tell("101 Switching Protocols", "Upgrade: websocket"),
    "no status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "no http": b"SSH-2.0-x\r\n\r\n",
}


@pytest.mark.parametrize("name", SERVER_BROKEN)
def test_a_server_that_breaks_the_rules(name: str) -> None:
    wire = Http()
    play(wire, [(C, GET)] if name != "nothing was asked" else [])
    with pytest.raises(ProtocolError):
        list(wire.feed(S, SERVER_BROKEN[name]))


def test_a_body_that_ends_early() -> None:
    wire = Http()
    play(wire, [(C, GET), (S, tell("200 OK", "Content-Length: 9", body=b"abc"))])
    with pytest.raises(ProtocolError, match="ended inside a body"):
        list(wire.feed(S, b""))


def hide(columns: tuple[Column, ...]) -> list[Cell | None]:
    return [lambda text: text.replace("secret", "[hidden]") if "secret" in text else text]


def through(answer: bytes, request: bytes = GET, pieces: int = 0) -> bytes:
    wire = Http()
    (said,) = wire.feed(C, request)
    wire.allow(said, hide)
    size = pieces or len(answer)
    out = [m for i in range(0, len(answer), size) for m in wire.feed(S, answer[i : i + size])]
    return b"".join(m.raw for m in [*out, *wire.feed(S, b"")])


MASKED = {
    "plain": sized(b"a secret b", "ETag: x"),
    "chunked": tell("200 OK", CHUNKED, body=chunks(b"a sec", b"ret b")),
    "chunked with trailers": tell("200 OK", CHUNKED, "Trailer: X-Sum", body=chunks(b"a sec", b"ret b", trailers=b"X-Sum: 1\r\n")),
    "until the end": tell("200 OK", body=b"a secret b"),
    "gzip": sized(gzip.compress(b"a secret b"), "Content-Encoding: gzip"),
    "gzip in two members": sized(gzip.compress(b"a sec") + gzip.compress(b"ret b"), "Content-Encoding: gzip"),
    "brotli": sized(brotli.compress(b"a secret b"), "Content-Encoding: br"),
    "zstd in two frames": sized(zstandard.compress(b"a sec") + zstandard.compress(b"ret b"), "Content-Encoding: zstd"),
    "two codings": sized(brotli.compress(gzip.compress(b"a secret b")), "Content-Encoding: gzip, br"),
}


@pytest.mark.parametrize("name", MASKED)
def test_masked_whatever_the_framing(name: str) -> None:
    for pieces in (0, 1):
        first, _, body = through(MASKED[name], pieces=pieces).partition(b"\r\n\r\n")
        assert body == b"a [hidden] b"
        assert b"content-length: 12" in first.lower()
        assert not any(word in first.lower() for word in (b"etag", b"transfer-", b"content-encoding", b"trailer"))


def test_a_header_is_masked_too() -> None:
    assert b"X-Note: a [hidden]" in through(sized(b"x", "X-Note: a secret"))


def test_the_head_is_masked_wherever_it_says_something() -> None:
    """A reason, a name, the head of an interim answer, an answer that was not asked for."""
    out = through(tell("103 a secret", "X-Note: secret") + sized(b"x", "secret: 1", status="200 a secret"))
    assert b"secret" not in out
    assert out.startswith(b"HTTP/1.1 103 a [hidden]\r\nX-Note: [hidden]\r\n\r\nHTTP/1.1 200 a [hidden]\r\n")
    assert b"secret" not in through(OK + sized(b"a secret", status="408 secret"))


def test_why_an_answer_is_not_shown_is_masked() -> None:
    assert b"[hidden]" in through(sized(b"x", "Content-Encoding: secret"))


def test_what_has_nothing_to_mask_stays_as_it_was() -> None:
    assert through(OK) == OK


@pytest.mark.parametrize("answer", [tell("206 Partial Content", "Content-Length: 3", body=b"sec"), sized(b"x", "Content-Encoding: pack200"),
                                    sized(gzip.compress(b"secret")[:-4], "Content-Encoding: gzip")])
def test_what_cannot_be_masked_is_not_shown(answer: bytes) -> None:
    assert through(answer).startswith(b"HTTP/1.1 502 ")


def test_a_part_of_a_masked_body_is_not_asked_for() -> None:
    wire = Http()
    (said,) = wire.feed(C, ask("GET / HTTP/1.1", "Range: bytes=0-3", "If-Range: x", "Accept: */*"))
    assert wire.allow(said, hide) == [Send(S, ask("GET / HTTP/1.1", "Accept: */*"))]


def test_what_is_masked_cannot_be_guessed_by_its_sum() -> None:
    """An ETag that is a hash of the body tells a number of nine digits to who tries all of them."""
    guess = ["If-None-Match: W/a, W/b", "If_None_Match: x", "if-match: y"]
    for method, sent in (("GET", ["Accept: */*"]), ("HEAD", ["Accept: */*", "Connection: close"]), ("PUT", [*guess, "Accept: */*"])):
        wire = Http()
        (said,) = wire.feed(C, ask(f"{method} / HTTP/1.1", *guess, "Accept: */*"))
        assert wire.allow(said, hide) == [Send(S, ask(f"{method} / HTTP/1.1", *sent))]
    answer = tell("200 OK", "ETag: x", "Content-Length: 5", "Content-MD5: y", "Digest: z", "Vary: a")
    assert through(answer, ask("HEAD / HTTP/1.1")) == tell("200 OK", "Content-Length: 5", "Vary: a")


def test_max_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "MAX_MASKED", 10)
    with pytest.raises(ProtocolError, match="cannot be masked"):
        through(sized(b"x" * 11))


def test_a_long_answer_is_not_kept() -> None:
    wire = Http()
    play(wire, [(C, GET), (S, tell("200 OK", f"Content-Length: {1 << 30}"))])
    for _ in range(64):
        (said,) = wire.feed(S, bytes(1 << 16))
        assert replace(said, raw=b"") == Message(S, "body", b"")
    assert not wire._down
