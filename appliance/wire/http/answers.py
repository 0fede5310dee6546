"""Answers of our own, and answers framed anew: masked, or asked for in a form that can be masked.

Source: RFC 9457 (problem details), RFC 9110 sections 8.8, 12.5.3 and 14.
"""

import json

from appliance.wire import Cell
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


def masked(raw: bytes, head: Response, content: bytes, cell: Cell, limit: int) -> tuple[bytes, int]:
    """Return an answer with its fields and its body masked, and how many of them were changed.

    Raises:
        Unreadable: the body cannot be opened, or is a part of something.
    """
    if head.status == 206:
        raise Unreadable("a part of a body")
    lines = raw[:-4].split(b"\r\n")
    fields = [_field(line, cell) for line in lines[1:]]
    count = sum(field != line for field, line in zip(fields, lines[1:], strict=True))
    body, text = b"", ""
    if content:
        plain = opened(content, head.values("content-encoding"), limit)
        text, charset = _text(plain)
        shown = cell(text)
        if shown != text:
            count += 1
            body = (shown or "").encode(charset, "replace")
        else:
            body = plain
    if not count and head.framing in ("none", "length"):
        return raw + content, 0
    kept = [field for field in fields if field.partition(b":")[0].lower() not in STALE]
    if head.framing != "none":
        kept.append(b"content-length: %d" % len(body))
    return b"\r\n".join([lines[0], *kept]) + b"\r\n\r\n" + body, count


def _field(line: bytes, cell: Cell) -> bytes:
    name, colon, value = line.partition(b":")
    text = value.strip(b" \t").decode("latin-1")
    shown = cell(text)
    return line if shown == text else name + colon + b" " + (shown or "").encode("latin-1", "replace")


def _text(data: bytes) -> tuple[str, str]:
    """Return the body as text; what is not UTF-8 is read byte by byte, whatever the fields say of it."""
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"
