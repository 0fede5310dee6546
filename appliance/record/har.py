"""Sessions of HTTP as a browser would have archived them: HAR 1.2, read by browsers and debugging proxies.

Source: "HTTP Archive 1.2" (Odvarko, Jain, Davies). A request that was refused has our own answer. Sessions of other
protocols have no entries. Bodies are as the client saw them, so masked; the first MAX_TEXT of each is kept.

Made from the bytes of the record, once more read as HTTP: they have passed as such, so this is lenient.
"""

import base64
import datetime
import re
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl

import msgspec

from appliance.model import Decision, Flow, Side
from appliance.record.frame import Frame

MAX_TEXT = 1 << 20  # bytes of a body that are kept; a browser's own archives leave out larger ones
MAX_HEAD = 1 << 17  # bytes; twice what a wire lets through
MAX_SESSIONS = 4096  # told apart at once; the one silent for longest is closed
MAX_WAITING = 100  # requests of a session without an answer; what a wire lets through
TUNNEL = "tunnel"  # the kind of an answer behind which another protocol may be spoken, which has no body
VERSION = "1.2"
LENGTH = re.compile(r"[0-9]{1,18}")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;|\Z)")

Pairs = list[dict[str, str]]


class _Answer:
    """The answer that comes: its head, then its body."""

    def __init__(self) -> None:
        self.head = bytearray()
        self.lines: list[bytes] = []
        self.body = bytearray()
        self.size = 0
        self.done = False
        self._left: int | None = None  # of a body with a length, or of a chunk
        self._chunked = False
        self._rest = bytearray()

    def feed(self, data: bytes, bodiless: bool) -> bytes:
        """Take bytes; return those that belong to what follows."""
        if not self.lines:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                self.done = len(self.head) > MAX_HEAD
                return b""
            self.lines, data = bytes(self.head[:end]).split(b"\r\n"), bytes(self.head[end + 4 :])
            self._frame(bodiless)
        if self.done:
            return data
        if self._chunked:
            return self._chunks(data)
        part = data if self._left is None else data[: self._left]
        self._keep(part)
        if self._left is not None:
            self._left -= len(part)
            self.done = not self._left
        return data[len(part) :]

    @property
    def status(self) -> int:
        code = self.lines[0].split(b" ")[1:2] if self.lines else []
        return int(code[0]) if code and code[0].isdigit() else 0

    def _frame(self, bodiless: bool) -> None:
        named = {name.lower(): value for name, value in map(_field, self.lines[1:])}
        if bodiless or self.status in {204, 304} or self.status < 200:
            self.done = True
        elif named.get("transfer-encoding", "").lower() == "chunked":
            self._chunked = True
        elif LENGTH.fullmatch(named.get("content-length", "")):
            self._left = int(named["content-length"])
            self.done = not self._left

    def _chunks(self, data: bytes) -> bytes:
        self._rest += data
        while True:
            if self._left:
                self._left -= self._chunk(self._left)
                if self._left:
                    return b""
            if self._rest.startswith(b"\r\n"):  # behind a chunk
                del self._rest[:2]
            end = self._rest.find(b"\r\n")
            written = CHUNK.match(self._rest, 0, end) if end >= 0 else None
            if written is None:
                if end >= 0 or len(self._rest) > MAX_HEAD:  # what passed was no chunk: all there is may be the body
                    self._chunked, self._left = False, None
                    self._keep(bytes(self._rest))
                return b""
            if int(written[1], 16) == 0:
                return self._trailer(end)
            self._left = int(written[1], 16)
            del self._rest[: end + 2]

    def _chunk(self, most: int) -> int:
        """Take what there is of the chunk at hand; return how much."""
        part = bytes(self._rest[:most])
        self._keep(part)
        del self._rest[: len(part)]
        return len(part)

    def _trailer(self, start: int) -> bytes:
        """Return what follows the body, once the lines behind its last chunk have ended."""
        last = self._rest.find(b"\r\n\r\n", start)
        self.done = last >= 0 or len(self._rest) > MAX_HEAD
        return bytes(self._rest[last + 4 :]) if last >= 0 else b""

    def _keep(self, data: bytes) -> None:
        self.size += len(data)
        self.body += data[: MAX_TEXT - len(self.body)]


class _Asked(msgspec.Struct):
    """A request, and what was decided of it."""

    time: float
    raw: bytes
    decision: Decision | None = None
    sent: float = 0.0


class _Session:
    """One flow: requests in order, and the answers to them."""

    def __init__(self, frame: Frame) -> None:
        self.flow: Flow | None = frame.flow
        self.identity = self.target = self.protocol = ""
        self.scheme = "http"
        self.asked: list[_Asked] = []
        self.answer: _Answer | None = None
        self.begun = 0.0

    def take(self, frame: Frame) -> Iterator[dict[str, object]]:
        """Yield the entries that a frame completes."""
        note = frame.note
        self.flow = self.flow or frame.flow
        if note.kind == "opened":
            self.identity, self.target, self.protocol = note.identity, note.target, note.protocol
        elif note.kind == "decision" and self.asked and note.decision:
            waiting = next((asked for asked in self.asked if asked.decision is None), None)
            if waiting:
                waiting.decision, waiting.sent = note.decision, frame.time
        elif note.kind == "message" and note.message == "tls":
            self.scheme = "https"
        elif note.kind == "message" and note.side is Side.CLIENT and note.message == "request":
            if len(self.asked) < MAX_WAITING:
                self.asked.append(_Asked(frame.time, note.raw))
        elif note.kind == "message" and note.side is Side.SERVER:
            yield from self._heard(frame, note.raw, note.message)
            if note.message == TUNNEL and not note.raw:  # what follows is of the place beyond a proxy
                self.target, self.protocol, self.scheme = note.target, note.protocol, "http"
        elif note.kind == "closed" and self.answer and self.answer.lines and self.asked:
            yield self._entry(frame.id, frame.time)

    def _heard(self, frame: Frame, data: bytes, kind: str) -> Iterator[dict[str, object]]:
        while data and self.asked:
            if self.answer is None:
                self.answer, self.begun = _Answer(), frame.time
            bodiless = self.asked[0].raw.startswith(b"HEAD ") or kind == TUNNEL
            data = self.answer.feed(data, bodiless)
            if not self.answer.done:
                return
            if self.answer.lines and self.answer.status < 200 and self.answer.status != 101:
                self.answer = None  # an interim answer
                continue
            yield self._entry(frame.id, frame.time)

    def _entry(self, id: str, now: float) -> dict[str, object]:
        asked, answer = self.asked.pop(0), self.answer or _Answer()
        self.answer = None
        wait = max(self.begun - (asked.sent or asked.time), 0.0)
        entry: dict[str, object] = {
            "startedDateTime": datetime.datetime.fromtimestamp(asked.time, datetime.UTC).isoformat(),
            "time": round((now - asked.time) * 1000, 3),
            "request": _request(asked.raw, self.scheme, self.flow),
            "response": _response(answer),
            "cache": {},
            "timings": {
                "blocked": round(max((asked.sent or asked.time) - asked.time, 0.0) * 1000, 3),
                "send": 0,
                "wait": round(wait * 1000, 3),
                "receive": round(max(now - self.begun, 0.0) * 1000, 3),
            },
            "connection": id,
            "_vendorgate": self._ours(id, asked.decision),
        }
        if self.flow:
            entry["serverIPAddress"] = self.flow.server.host
        return entry

    def _ours(self, id: str, decision: Decision | None) -> dict[str, object]:
        process = self.flow.process if self.flow else None
        ours: dict[str, object] = {"session": id, "identity": self.identity, "target": self.target}
        if process:
            ours |= {"pid": process.pid, "exe": process.exe, "cgroup": process.cgroup}
        if decision:
            ours |= {"verdict": decision.verdict, "rule": decision.rule, "revision": decision.revision}
        return ours


def blocks(frames: Iterable[Frame]) -> Iterator[bytes]:
    """Yield one HAR document, entry by entry, in the order the answers ended."""
    encoder = msgspec.json.Encoder()
    creator = encoder.encode({"name": "vendorgate", "version": "1"})
    yield b'{"log":{"version":"' + VERSION.encode() + b'","creator":' + creator + b',"entries":['
    sessions: OrderedDict[str, _Session] = OrderedDict()
    first = True
    for frame in frames:
        session = sessions.get(frame.id)
        if session is None:
            while len(sessions) >= MAX_SESSIONS:
                sessions.popitem(last=False)
            session = sessions[frame.id] = _Session(frame)
        sessions.move_to_end(frame.id)
        for entry in session.take(frame):
            yield (b"" if first else b",\n") + encoder.encode(entry)
            first = False
        if frame.note.kind == "closed":
            del sessions[frame.id]
    yield b"]}}\n"


def _field(line: bytes) -> tuple[str, str]:
    name, _, value = line.partition(b":")
    return name.decode("latin-1"), value.strip().decode("latin-1")


def _pairs(lines: Iterable[bytes]) -> Pairs:
    return [{"name": name, "value": value} for name, value in map(_field, lines)]


def _request(raw: bytes, scheme: str, flow: Flow | None) -> dict[str, object]:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, target, version = (*first.decode("latin-1").split(" "), "", "", "")[:3]
    named = {name.lower(): value for name, value in map(_field, lines)}
    host = named.get("host") or (str(flow.server) if flow else "unknown")
    path = target if target.startswith("/") else "/"
    url = f"{scheme}://{host}{path}" if path == target or "://" not in target else target
    query = url.partition("#")[0].partition("?")[2]
    made: dict[str, object] = {
        "method": method,
        "url": url,
        "httpVersion": version,
        "cookies": [],
        "headers": _pairs(lines),
        "queryString": [
            {"name": k, "value": v} for k, v in parse_qsl(query, keep_blank_values=True)
        ],
        "headersSize": len(head) + 4 if head else -1,
        "bodySize": len(body),
    }
    if body:
        mime = named.get("content-type", "")
        made["postData"] = {"mimeType": mime, "text": body[:MAX_TEXT].decode("utf-8", "replace"), "params": []}
    return made


def _opened(body: bytes, coding: str) -> bytes:
    """Return what a reader of the page would see, as far as that is known here; else the body as it came."""
    if coding not in ("gzip", "deflate"):
        return body
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, MAX_TEXT)
    except zlib.error:
        return body


def _response(answer: _Answer) -> dict[str, object]:
    first = answer.lines[0].decode("latin-1") if answer.lines else ""
    version, _, rest = first.partition(" ")
    named = {name.lower(): value for name, value in map(_field, answer.lines[1:])}
    body = _opened(bytes(answer.body), named.get("content-encoding", ""))
    content: dict[str, object] = {"size": answer.size, "mimeType": named.get("content-type", "")}
    try:
        content["text"] = body.decode()
    except UnicodeDecodeError:
        content |= {"text": base64.b64encode(body).decode(), "encoding": "base64"}
    if answer.size > len(answer.body):
        content["comment"] = f"the first {len(answer.body)} of {answer.size} bytes"
    return {
        "status": answer.status,
        "statusText": rest.partition(" ")[2],
        "httpVersion": version,
        "cookies": [],
        "headers": _pairs(answer.lines[1:]),
        "content": content,
        "redirectURL": named.get("location", ""),
        "headersSize": sum(len(line) + 2 for line in answer.lines) + 2 if answer.lines else -1,
        "bodySize": answer.size,
    }
