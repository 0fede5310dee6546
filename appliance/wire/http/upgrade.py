"""Offers to leave HTTP on a connection, and what a server may answer to them.

Source: RFC 9110 section 7.8, RFC 6455 sections 4.1 and 4.2 (WebSocket), RFC 7692 (permessage-deflate), RFC 9113 section
3.2 (HTTP/2 by upgrade, withdrawn).

An offer of a WebSocket goes up if every server reads it alike, with those extensions alone that are read here. Offers
of HTTP/2, and of a WebSocket that is not well formed, are taken out of the request: the server then answers it plainly.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator

from appliance.model import ProtocolError
from appliance.wire.http.said import Agreed, Head, Request, Response

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
KEY = 16  # bytes; RFC 6455 section 4.1
DEFLATE = "permessage-deflate"
BITS = tuple(str(bits) for bits in range(8, 16))
ALLOWED = {  # RFC 7692 section 7.1: the values of each parameter
    "server_no_context_takeover": ("",),
    "client_no_context_takeover": ("",),
    "server_max_window_bits": BITS,
    "client_max_window_bits": ("", *BITS),
}
GONE = ("upgrade", "http2-settings")


def offers(head: Request) -> bool:
    """Return True if a request offers another protocol once it is `sendable`."""
    return "upgrade" in head.named and bool(head.values("upgrade")) and not _withdrawn(head)


def is_websocket(head: Request) -> bool:
    """Return True for the offer of a WebSocket that every server reads alike."""
    said = head.named
    try:
        key = base64.b64decode(said.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    plain = head.method == "GET" and head.version == "1.1" and head.framing == "none"
    offered = said.get("upgrade", "").lower() == "websocket" and "upgrade" in head.values("connection")
    return plain and offered and len(key) == KEY and said.get("sec-websocket-version") == "13"


def _withdrawn(head: Request) -> bool:
    offered = head.values("upgrade")
    return "h2c" in offered or ("websocket" in offered and not is_websocket(head))


def withdrawn(head: Request) -> tuple[frozenset[str], list[bytes]]:
    """Return the fields of a request that do not go up, and the lines that do in their place."""
    if "upgrade" not in head.named:
        return frozenset(), []
    if _withdrawn(head):
        kept = [word for word in head.values("connection") if word not in GONE]
        more = [b"Connection: " + ", ".join(kept).encode("latin-1")] if kept else []
        return frozenset((*GONE, "connection")), more
    if head.named["upgrade"].lower() == "websocket":
        offered = head.values("sec-websocket-extensions")
        read = [one for one in offered if _is_read(one)]
        if read != offered:
            more = [b"Sec-WebSocket-Extensions: " + ", ".join(read).encode("latin-1")] if read else []
            return frozenset(("sec-websocket-extensions",)), more
    return frozenset(), []


def agreed(asked: Request, answer: Response) -> Agreed:
    """Read what a server makes of an offer of a WebSocket.

    Raises:
        ProtocolError: it is not what was offered.
    """
    said = answer.named
    if said.get("upgrade", "").lower() != "websocket" or "upgrade" not in answer.values("connection"):
        raise ProtocolError("the server switches to another protocol than the WebSocket it was asked for")
    key = asked.named["sec-websocket-key"].encode()
    if said.get("sec-websocket-accept") != base64.b64encode(hashlib.sha1(key + MAGIC).digest()).decode():
        raise ProtocolError("the server does not answer this offer of a WebSocket: sec-websocket-accept")
    protocols = answer.values("sec-websocket-protocol")
    if len(protocols) > 1 or not set(protocols) <= set(asked.values("sec-websocket-protocol")):
        raise ProtocolError("the server chose a protocol of the WebSocket that was not offered")
    extensions = answer.values("sec-websocket-extensions")
    if not extensions:
        return Agreed()
    offered = any(_is_read(one) for one in asked.values("sec-websocket-extensions"))
    if len(extensions) > 1 or not offered or not _is_read(extensions[0]):
        raise ProtocolError("the server chose extensions of the WebSocket that were not offered")
    names = [name for name, _ in _parameters(extensions[0])]
    return Agreed(True, "client_no_context_takeover" not in names, "server_no_context_takeover" not in names)


def _is_read(extension: str) -> bool:
    """Return True for a form of permessage-deflate as RFC 7692 section 7.1 has it."""
    if extension.partition(";")[0].strip() != DEFLATE:
        return False
    found = list(_parameters(extension))
    names = [name for name, _ in found]
    if len(names) != len(set(names)) or not set(names) <= set(ALLOWED):
        return False
    return all(value in ALLOWED[name] for name, value in found)


def _parameters(extension: str) -> Iterator[tuple[str, str]]:
    for part in extension.split(";")[1:]:
        name, _, value = part.partition("=")
        yield name.strip(), value.strip().strip('"')


def lines(head: Head) -> bytes:
    """Return the fields of a head, a line each."""
    return "".join([f"{name}: {value}\n" for name, value in head.fields]).encode("latin-1")
