"""Answers of our own, and answers framed anew: masked, or asked for in a form that can be masked.

Source: RFC 9457 (problem details), RFC 9110 sections 8.8, 12.5.3 and 14.
"""

import json
import re
from collections.abc import Callable

from appliance.wire.http.coding import Unreadable, opened
from appliance.wire.http.content import Masker
from appliance.wire.http.head import without
from appliance.wire.http.said import Response

REASONS = {400: "Bad Request", 403: "Forbidden", 502: "Bad Gateway", 503: "Service Unavailable"}
# What tells of the body as it was: its framing, its digests, the ranges it could be asked in.
STALE = frozenset(
    (
        b"content-length", b"transfer-encoding", b"content-encoding", b"trailer", b"etag", b"content-md5", b"digest",
        b"content-digest", b"repr-digest", b"accept-ranges",
    )
)  # fmt: skip
# Documents that say what JSON could, to clients that ask for them, and containers of JSON; a picture in XML is none.
OTHER = re.compile(
    r"\b(?:x-)?(?:csv|tab-separated-values|yaml|xml|cbor|msgpack|messagepack|protobuf|proto|bson|avro|parquet|arrow|excel"
    r"|spreadsheet\w*|opendocument\.spreadsheet|grpc)\b|^multipart/"
)
PICTURE = re.compile(r"image/|xhtml")
JSON = ("/json", "+json", "/x-ndjson", "/jsonl")
SUPERSETS = re.compile(  # charsets of the web in which ASCII is as it is; encoding.spec.whatwg.org
    r"|utf-?8|(us-)?ascii|iso-8859-\d+|latin-?\d+|(windows-|cp)(125\d|874)|koi8-[ru]|shift_jis|euc-(jp|kr)|gb2312|gbk"
    r"|gb18030|big5"
)
# Sums of a body, of which whoever knows all but a few digits can tell what these are.
SUMS = STALE - frozenset((b"content-length", b"transfer-encoding", b"content-encoding", b"trailer", b"accept-ranges"))
UNMASKABLE = (b"range", b"if-range")  # a part of a value is not recognised
GUESSES = (b"if-match", b"if-none-match")  # at the sum of what is read
CODINGS = b"accept-encoding"


def refusal(status: int, text: str, code: str, *, close: bool = False, empty: bool = False) -> bytes:
    """Return a whole answer that says `text` as a problem; `empty`: to a HEAD."""
    body = problem(status, text, code)
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: application/problem+json\r\n"
    head += f"content-length: {len(body)}\r\ncache-control: no-store\r\n"
    head += "connection: close\r\n\r\n" if close else "\r\n"
    return head.encode() + (b"" if empty else body)


def problem(status: int, text: str, code: str) -> bytes:
    """Return what a refusal says."""
    said = {"type": "about:blank", "title": REASONS[status], "status": status, "code": code, "detail": text}
    return json.dumps(said).encode()


def readable(raw: bytes) -> bytes:
    """Return a request whose answer is to be masked: no part of it is asked for, no coding, and no guess answered.

    What comes without a coding can be masked as it comes.
    """
    head, end, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    dropped = UNMASKABLE + GUESSES if first.startswith((b"GET ", b"HEAD ")) else UNMASKABLE
    named = [(line.partition(b":")[0].lower().replace(b"_", b"-"), line) for line in lines]
    kept = [b"Accept-Encoding: identity" if name == CODINGS else line for name, line in named if name not in dropped]
    return b"\r\n".join([first, *kept]) + end + body


def masked(raw: bytes, head: Response, content: bytes, masker: Masker, limit: int) -> tuple[bytes, int]:
    """Return an answer with its fields and its body masked, and how many values were changed.

    Raises:
        Unreadable: the body cannot be opened, or is a part of something, or in it are leaves that cannot be read.
    """
    if head.status == 206:
        raise Unreadable("a part of a body")
    first, fields, count = _fields(raw, masker)
    plain = opened(content, head.values("content-encoding"), limit) if content else b""
    body, changed = _body(plain, head.named.get("content-type", ""), masker)
    count += changed
    if not count and head.framing in ("none", "length"):
        unseen = masker.by_name and head.framing == "none" and head.status != 204
        return (_without_sums(raw, first, fields, masker) if unseen else raw) + content, 0
    length = b"" if head.framing == "none" else b"content-length: %d" % len(body)
    anew = _head(first, fields, length)
    return (_padded(anew, len(raw) + len(content) - len(body)) if masker.exact else anew) + body, count


def _without_sums(raw: bytes, first: bytes, fields: list[bytes], masker: Masker) -> bytes:
    """Return the head of an answer to HEAD, which tells of a body that nobody has looked at."""
    head = b"\r\n".join([first, *without(fields, SUMS)]) + b"\r\n\r\n"
    return _padded(head, len(raw)) if masker.exact else head


def _padded(head: bytes, size: int) -> bytes:
    """Return the head of an answer that is to stay as long as it was: blanks before the value of its last field."""
    name, colon, value = head.rpartition(b":")
    return name + colon + b" " * (size - len(head)) + value if b"\r\n" in name else head


def streamed(raw: bytes, head: Response, masker: Masker) -> tuple[bytes, int]:
    """Return a head with its fields masked, for a body whose length is not known yet, and how many were changed."""
    first, fields, count = _fields(raw, masker)
    return _head(first, fields, b"" if head.framing == "close" else b"transfer-encoding: chunked"), count


def interim(raw: bytes, masker: Masker) -> tuple[bytes, int]:
    """Return the head of an answer that has no body masked, and how many values were changed."""
    first, fields, count = _fields(raw, masker)
    return (b"\r\n".join([first, *fields]) + b"\r\n\r\n", count) if count else (raw, 0)


def _fields(raw: bytes, masker: Masker) -> tuple[bytes, list[bytes], int]:
    """Return the first line and the fields masked; a field whose name would be is left out."""
    first, *lines = raw[:-4].split(b"\r\n")
    reason = first.partition(b" ")[2].partition(b" ")[2]
    words = reason.decode("latin-1")
    shown = masker.text(words)
    count = int(shown != words)
    if count:
        first = first[: len(first) - len(reason)] + (shown or "").encode("latin-1", "replace")
    kept = [line for line in lines if _unchanged(line.partition(b":")[0], masker)]
    fields = [_field(line, masker.text) for line in kept]
    count += len(lines) - len(kept) + sum(field != line for field, line in zip(fields, kept, strict=True))
    return first, fields, count


def _unchanged(name: bytes, masker: Masker) -> bool:
    text = name.decode("latin-1")
    return masker.text(text) == text


def _head(first: bytes, fields: list[bytes], framing: bytes) -> bytes:
    return b"\r\n".join([first, *without(fields, STALE), *([framing] if framing else [])]) + b"\r\n\r\n"


def _body(plain: bytes, content: str, masker: Masker) -> tuple[bytes, int]:
    if plain and not is_ascii(content):
        raise Unreadable("a body in a charset that is not read here")
    media = content.partition(";")[0].strip().lower()
    if plain and masker.by_name and OTHER.search(media) and not PICTURE.search(media):
        raise Unreadable("a document whose leaves are not read here, with leaves to hide")
    text, charset = _text(plain)
    shown, count = masker.content(text, is_json(content))
    return (shown.encode(charset, "replace"), count) if count else (plain, 0)


def is_ascii(content: str) -> bool:
    """Return True if a body of this type has ASCII as it is, so that what is looked for in it looks as it should."""
    parts = (part.lower().partition("=") for part in content.split(";")[1:])
    return all(SUPERSETS.fullmatch(value.strip(" \t\"'")) for name, _, value in parts if "charset" in name)


def is_json(content: str) -> bool:
    """Return True if a body of this type says that it is JSON."""
    return content.partition(";")[0].strip().lower().endswith(JSON)


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
