"""HTTP/1.1 and 1.0, without TLS.

Source: RFC 9110, RFC 9112; RFC 6455 and RFC 7692 for WebSocket.
Not handled: what CONNECT opens (it is judged, and refused), switching to anything but a WebSocket (such a flow ends
with an error), HTTP/2.

Messages of the client: request (whole, up to MAX_BODY of it: `text` method and target, `name` the host, `values` the
header lines and the body as it reads when opened, and as it came if that differs; where that is not all of it `status`
is "encoded", "oversize", or "long" if what follows is kept from naming another method) and body (what follows). Of the
server: interim, response (a head), event (a server-sent one), body (pieces of what follows), complete (the last one),
error (our own word). In a WebSocket: ws-text, ws-binary and ws-control of both sides (of a client that is judged with
`values` as of a request), ws-part (of a server's message).
"""

from appliance.wire import Opening
from appliance.wire.http.connection import Http
from appliance.wire.http.head import MAX_METHOD, TOKEN

__all__ = ["OPENING", "Http", "recognise"]


def recognise(client: bytes, server: bytes) -> bool | None:
    """Tell from the first bytes of both sides whether this is HTTP/1; None: too few to tell."""
    if server:
        return False
    line, end, _ = client.partition(b"\r\n")
    if not end:
        method, space, _ = client.partition(b" ")
        may_be = not method or (len(method) <= MAX_METHOD and TOKEN.fullmatch(method) and method[:1].isalpha())
        return None if may_be and (space or len(client) <= MAX_METHOD) else False
    return line.endswith((b" HTTP/1.1", b" HTTP/1.0"))


OPENING = Opening(Http, recognise)
