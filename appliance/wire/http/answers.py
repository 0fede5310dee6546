"""Answers of our own, and answers framed anew: masked, or asked for in a form that can be masked.

Source: RFC 9457 (problem details), RFC 9110 sections 8.8, 12.5.3 and 14.
"""

import json
from collections.abc import Callable

from appliance.model import Column
from appliance.wire import Cell, Plan
from appliance.wire.http import leaves
from appliance.wire.http.coding import Unreadable, opened
from appliance.wire.http.head import Response

REASONS = {400: "Bad Request", 403: "Forbidden", 502: "Bad Gateway", 503: "Service Unavailable"}
# What tells of the body as it was: its framing, its digests, the ranges it could be asked in.
STALE = frozenset(
    (
        b"content-length", b"transfer-encoding", b"content-encoding", b"trailer", b"etag", b"content-md5", b"digest",
        b"content-digest", b"repr-digest", b"accept-ranges",
    )
)  # fmt: skip
JSON = ("/json", "+json", "/x-ndjson", "/jsonl")
MAX_PATHS = 10_000  # of one answer whose masks are remembered
UNMASKABLE = (b"range:", b"if-range:")  # a part of a value is not recognised


def refusal(status: int, text: str, code: str, *, close: bool = False, empty: bool = False) -> bytes:
    """Return a whole answer that says `text` as a problem; `empty`: to a HEAD."""
    problem = {"type": "about:blank", "title": REASONS[status], "status": status, "code": code, "detail": text}
    body = json.dumps(problem).encode()
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: application/problem+json\r\n"
    head += f"content-length: {len(body)}\r\ncache-control: no-store\r\n"
    head += "connection: close\r\n\r\n" if close else "\r\n"
    return head.encode() + (b"" if empty else body)


def readable(raw: bytes) -> bytes:
    """Return a request whose answer is to be masked: no part of it is asked for."""
    head, end, body = raw.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(UNMASKABLE)]
    return b"\r\n".join(lines) + end + body


class Masker:
    """What a plan masks of an answer: texts as a whole, and leaves of JSON by their path."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._whole = self._of("")
        self._leaves: dict[str, Cell | None] = {}  # by path, the numbers of elements left out

    def _of(self, name: str) -> Cell | None:
        cells = self._plan((Column(name),))
        return cells[0] if cells else None

    def text(self, text: str) -> str | None:
        return self._whole(text) if self._whole else text

    def leaf(self, path: str, text: str) -> str | None:
        if path not in self._leaves:
            if len(self._leaves) >= MAX_PATHS:
                self._leaves.clear()
            self._leaves[path] = self._of(path)
        cell = self._leaves[path]
        return cell(text) if cell else text


def masked(raw: bytes, head: Response, content: bytes, masker: Masker, limit: int) -> tuple[bytes, int]:
    """Return an answer with its fields and its body masked, and how many values were changed.

    Raises:
        Unreadable: the body cannot be opened, or is a part of something, or no JSON although it says so.
    """
    if head.status == 206:
        raise Unreadable("a part of a body")
    lines = raw[:-4].split(b"\r\n")
    fields = [_field(line, masker.text) for line in lines[1:]]
    count = sum(field != line for field, line in zip(fields, lines[1:], strict=True))
    plain = opened(content, head.values("content-encoding"), limit) if content else b""
    body, changed = _body(plain, head.named.get("content-type", ""), masker)
    count += changed
    if not count and head.framing in ("none", "length"):
        return raw + content, 0
    kept = [field for field in fields if field.partition(b":")[0].lower() not in STALE]
    if head.framing != "none":
        kept.append(b"content-length: %d" % len(body))
    return b"\r\n".join([lines[0], *kept]) + b"\r\n\r\n" + body, count


def _body(plain: bytes, content: str, masker: Masker) -> tuple[bytes, int]:
    text, charset = _text(plain)
    shown, count = text, 0
    claimed = content.partition(";")[0].strip().lower().endswith(JSON)
    if claimed or text.lstrip()[:1] in ("{", "["):
        try:
            shown, count = leaves.masked(text, masker.leaf)
        except leaves.NoJson:
            if claimed and plain.strip():
                raise Unreadable("no JSON, although it says so") from None
    whole = masker.text(shown)
    count += whole != shown
    return (plain, 0) if not count else ((whole or "").encode(charset, "replace"), count)


def _field(line: bytes, cell: Callable[[str], str | None]) -> bytes:
    name, colon, value = line.partition(b":")
    text = value.strip(b" \t").decode("latin-1")
    shown = cell(text)
    return line if shown == text else name + colon + b" " + (shown or "").encode("latin-1", "replace")


def _text(data: bytes) -> tuple[str, str]:
    """Return the body as text; what is not UTF-8 is read byte by byte, whatever the fields say of it."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Unreadable("a body in UTF-16")
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"
