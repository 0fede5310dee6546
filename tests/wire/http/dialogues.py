"""Dialogues of HTTP/1.1: (side, bytes, kinds of the messages they come to)."""

import brotli

from appliance.model import Side

C, S = Side.CLIENT, Side.SERVER
Step = tuple[Side, bytes, str]


def ask(line: str = "GET / HTTP/1.1", *lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([line, "Host: api.example", *lines, "", ""]).encode("latin-1") + body


def tell(status: str = "200 OK", *lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1") + body


def sized(body: bytes, *lines: str, status: str = "200 OK") -> bytes:
    return tell(status, *lines, f"Content-Length: {len(body)}", body=body)


def chunks(*pieces: bytes, trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


GET, OK = ask(), sized(b"hello")
POST = ask("POST /v1/a?x=1 HTTP/1.1", "Content-Length: 5", body=b"a=b&c")
CHUNKED = "Transfer-Encoding: chunked"

DIALOGUES: dict[str, list[Step]] = {
    "get": [(C, GET, "request"), (S, OK, "response complete")],
    "post": [(C, POST, "request"), (S, tell("204 No Content"), "response complete")],
    "an empty body": [(C, GET, "request"), (S, sized(b""), "response complete")],
    "head has no body": [(C, ask("HEAD / HTTP/1.1"), "request"), (S, tell("200 OK", "Content-Length: 5"), "response complete")],
    "304 has no body": [(C, GET, "request"), (S, tell("304 Not Modified", "Content-Length: 5"), "response complete")],
    "chunked request": [
        (C, ask("PUT /f HTTP/1.1", CHUNKED, body=chunks(b"ab", b"cde")), "request"),
        (S, sized(b"", status="201 Created"), "response complete"),
    ],
    "chunked answer": [(C, GET, "request"), (S, tell("200 OK", CHUNKED, body=chunks(b"ab", b"c" * 300)), "response body complete")],
    "trailers": [(C, GET, "request"), (S, tell("200 OK", CHUNKED, body=chunks(b"ab", trailers=b"X-Sum: 1\r\n")), "response body complete")],
    "extensions of chunks": [(C, GET, "request"), (S, tell("200 OK", CHUNKED, body=b"2;a=b\r\nab\r\n0;x\r\n\r\n"), "response body complete")],
    "pipelined": [(C, GET + POST + GET, "request request request"), (S, OK + tell("204 No Content") + OK, "response complete " * 3)],
    "interim answers": [(C, GET, "request"), (S, tell("103 Early Hints", "Link: </a>") + OK, "interim response complete")],
    "absolute form": [(C, ask("GET http://api.example/a HTTP/1.1"), "request"), (S, OK, "response complete")],
    "asterisk": [(C, ask("OPTIONS * HTTP/1.1"), "request"), (S, OK, "response complete")],
    "http 1.0": [(C, b"GET /a HTTP/1.0\r\n\r\n", "request"), (S, b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", "response complete")],
    "brotli": [(C, GET, "request"), (S, sized(brotli.compress(b"hello"), "Content-Encoding: br"), "response complete")],
    "a timeout said by the server": [(S, tell("408 Request Timeout", "Content-Length: 0"), "response complete")],
}  # fmt: skip

# name -> what a client sends that no two servers need read alike
BROKEN: dict[str, bytes] = {
    "both lengths": ask("POST / HTTP/1.1", "Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"),
    "two lengths": ask("POST / HTTP/1.1", "Content-Length: 5", "Content-Length: 5"),
    "a list of lengths": ask("POST / HTTP/1.1", "Content-Length: 5, 5"),
    "a signed length": ask("POST / HTTP/1.1", "Content-Length: +5"),
    "a length in hexadecimal": ask("POST / HTTP/1.1", "Content-Length: 0x5"),
    "an endless length": ask("POST / HTTP/1.1", "Content-Length: 99999999999999999"),
    "no chunked coding": ask("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked"),
    "chunked with a tail": ask("POST / HTTP/1.1", "Transfer-Encoding: chunked\x0b"),
    "xchunked": ask("POST / HTTP/1.1", "Transfer-Encoding: xchunked"),
    "two transfer encodings": ask("POST / HTTP/1.1", CHUNKED, "Transfer-Encoding: identity"),
    "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "space before the colon": ask("GET / HTTP/1.1", "X-A : b"),
    "a folded line": ask("GET / HTTP/1.1", "X-A: b", " c"),
    "a bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "a bare LF in the head": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "a bare CR in the head": b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "a NUL": ask("GET / HTTP/1.1", "X: a\0b"),
    "two hosts": ask("GET / HTTP/1.1", "Host: other.example"),
    "no host": b"GET / HTTP/1.1\r\nX: b\r\n\r\n",
    "a host that is none": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "another host in the target": ask("GET http://other.example/ HTTP/1.1"),
    "a user in the target": ask("GET http://api.example@other.example/ HTTP/1.1"),
    "two spaces": ask("GET  / HTTP/1.1"),
    "a tab": ask("GET\t/ HTTP/1.1"),
    "no version": ask("GET /"),
    "version 2": ask("GET / HTTP/2.0"),
    "version 1.2": ask("GET / HTTP/1.2"),
    "a target in 8 bits": ask("GET /\xe9 HTTP/1.1"),
    "a target that is no path": ask("GET admin HTTP/1.1"),
    "a method with a colon": ask("GE:T / HTTP/1.1"),
    "a size that is no number": ask("POST / HTTP/1.1", CHUNKED, body=b"zz\r\n"),
    "a size with a sign": ask("POST / HTTP/1.1", CHUNKED, body=b"+2\r\nab\r\n"),
    "a size with 0x": ask("POST / HTTP/1.1", CHUNKED, body=b"0x2\r\nab\r\n"),
    "a chunk that is longer": ask("POST / HTTP/1.1", CHUNKED, body=b"2\r\nabc\r\n"),
    "a chunk ended by LF": ask("POST / HTTP/1.1", CHUNKED, body=b"2\nab\n0\n\n"),
    "a size of sixteen digits": ask("POST / HTTP/1.1", CHUNKED, body=b"ffffffffffffffff\r\n"),
    "a type in a trailer": ask("POST / HTTP/1.1", CHUNKED, body=chunks(b"a=b", trailers=b"Content-type: text/plain\r\n")),
    "a length in a trailer": ask("POST / HTTP/1.1", CHUNKED, body=chunks(b"a=b", trailers=b"content-length: 9\r\n")),
    "a host with escapes": b"GET / HTTP/1.1\r\nHost: %61.example\r\n\r\n",
    "a trailer without a colon": ask("POST / HTTP/1.1", CHUNKED, body=b"0\r\nx\r\n\r\n"),
}
