"""Heads of HTTP/1.1 messages, read strictly: what two readers could read differently is an error.

Source: RFC 9112, sections 2 to 6; RFC 9110, sections 5 and 7.2.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final

from appliance.model import ProtocolError
from appliance.wire.http.said import ONCE, Framing, Request, Response

MAX_HEAD = 64 * 1024  # bytes; nginx takes 4 x 8 kB, Apache 100 lines of 8 kB
MAX_TARGET = 8 * 1024  # bytes; RFC 9112 section 3 recommends at least 8,000
MAX_METHOD = 32  # bytes; the longest registered method has 17
MAX_FIELDS = 200  # lines; Apache takes 100
SECRET: Final = frozenset(("authorization", "proxy-authorization", "cookie", "set-cookie"))  # never remembered
MAX_KNOWN = 1024  # header lines remembered as they were read; programs repeat a few dozen
MAX_KNOWN_LINE = 256  # bytes of one
MAX_LENGTH = 1 << 50  # bytes of a body; a petabyte is no length but an attack

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
TARGET = re.compile(rb"[\x21-\x7e]+")
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~!$&'()*+,;=-]*)(:[0-9]{0,5})?")
DIGITS = re.compile(rb"[0-9]{1,15}")
ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


def request(raw: bytes) -> Request:
    """Read the head of a request, the empty line included.

    Raises:
        ProtocolError: it is no request, or not one that every server reads alike.
    """
    first, fields, named = _lines(raw)
    parts = first.split(b" ")
    if len(parts) != 3 or not TOKEN.fullmatch(parts[0]) or not TARGET.fullmatch(parts[1]):
        raise ProtocolError("the request line is not method, target and version with one space between")
    method, target, version = parts[0].decode(), parts[1].decode(), _version(parts[2])
    if len(method) > MAX_METHOD or len(target) > MAX_TARGET:
        raise ProtocolError(f"a method over {MAX_METHOD} or a target over {MAX_TARGET} bytes")
    framing, length = _framing(version, named)
    if framing == "close":
        framing = "none"
    host = _host(method, target, version, named)
    return Request(version, fields, named, framing, length, method, target, host)


def response(raw: bytes, method: str) -> Response:
    """Read the head of the response to a request of this method.

    Raises:
        ProtocolError: it is no response, or its end cannot be told.
    """
    first, fields, named = _lines(raw)
    version, _, rest = first.partition(b" ")
    code, _, _ = rest.partition(b" ")
    if len(code) != 3 or not code.isdigit() or code[0:1] not in b"12345":
        raise ProtocolError("the status line has no status of three digits")
    said, status = _version(version), int(code)
    framing, length = _framing(said, named)
    if method == "HEAD" or status < 200 or status in (204, 304):
        framing, length = "none", 0
    return Response(said, fields, named, framing, length, status)


def without(lines: Iterable[bytes], names: Collection[bytes]) -> list[bytes]:
    """Return header lines but those of some names, which are in small letters."""
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


def _lines(raw: bytes) -> tuple[bytes, tuple[tuple[str, str], ...], dict[str, str]]:
    """Return the first line, the fields, and those among them that may come once."""
    inner = raw[:-4]
    lines = inner.split(b"\r\n")
    ends = len(lines) - 1
    if inner.count(b"\r") != ends or inner.count(b"\n") != ends or b"\0" in inner:
        raise ProtocolError("a line that does not end in CR LF, or holds a NUL")
    if ends > MAX_FIELDS:
        raise ProtocolError(f"more than {MAX_FIELDS} header fields")
    first = lines.pop(0)
    fields: list[tuple[str, str]] = []
    named: dict[str, str] = {}
    for line in lines:
        field = _known.get(line) or _field(line)
        fields.append(field)
        name = field[0]
        if name in ONCE:
            if name in named:
                raise ProtocolError(f"the field {name} comes twice")
            named[name] = field[1]
    return first, tuple(fields), named


_known: dict[bytes, tuple[str, str]] = {}  # header lines read before


def _field(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon or not TOKEN.fullmatch(name):
        raise ProtocolError("a header line without a name right before its colon (folded lines are not taken)")
    if not VALUE.fullmatch(value):
        raise ProtocolError("a header value with a control character")
    field = name.decode().lower(), value.strip(b" \t").decode("latin-1")
    if len(line) <= MAX_KNOWN_LINE and field[0] not in SECRET:
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        _known[line] = field
    return field


def _version(raw: bytes) -> str:
    if raw == b"HTTP/1.1":
        return "1.1"
    if raw == b"HTTP/1.0":
        return "1.0"
    raise ProtocolError(f"version {raw[:16]!r}: only HTTP/1.0 and HTTP/1.1 are spoken here")


def _framing(version: str, said: dict[str, str]) -> tuple[Framing, int]:
    """Tell how the body ends; RFC 9112 section 6.3, and an error where it lets a recipient guess."""
    coding, length = said.get("transfer-encoding"), said.get("content-length")
    if coding is not None:
        if length is not None:
            raise ProtocolError("both transfer-encoding and content-length")
        if version != "1.1" or coding.lower() != "chunked":
            raise ProtocolError(f"transfer-encoding `{coding[:32]}`: only chunked, in HTTP/1.1")
        return "chunked", 0
    if length is None:
        return "close", 0
    if not DIGITS.fullmatch(length.encode("latin-1")) or int(length) > MAX_LENGTH:
        raise ProtocolError("content-length is not one number of digits")
    return "length", int(length)


def _host(method: str, target: str, version: str, said: dict[str, str]) -> str:
    """Return who the request is for; the target's own word and the field must agree."""
    if "host" not in said and version == "1.1":
        raise ProtocolError("no field host")
    host = said.get("host", "")
    if not HOST.fullmatch(host):
        raise ProtocolError("the field host is no host and port")
    if method == "CONNECT":
        return _authority(target, host, framed="content-length" in said or "transfer-encoding" in said)
    absolute = ABSOLUTE.fullmatch(target)
    if absolute:
        if "@" in absolute[1] or not HOST.fullmatch(absolute[1]):
            raise ProtocolError("the target names no plain host")
        if host and host.lower() != absolute[1].lower():
            raise ProtocolError("the target names another host than the field host")
        return absolute[1].lower()
    if not target.startswith("/") and not (target == "*" and method == "OPTIONS"):
        raise ProtocolError("the target is no path")
    return host.lower()


def _authority(target: str, host: str, framed: bool) -> str:
    """Return where a CONNECT goes to; RFC 9110 section 9.3.6."""
    found = HOST.fullmatch(target)
    if not found or not found[1] or len(found[2] or "") < 2 or framed:
        raise ProtocolError("CONNECT is not to a host and a port, or has a body")
    if host and host.lower() not in (target.lower(), found[1].lower()):
        raise ProtocolError("the target names another host than the field host")
    return target.lower()
