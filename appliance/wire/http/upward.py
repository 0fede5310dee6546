"""What goes up of a request otherwise than it came, so that the server cannot make another thing of it.

A client that waits for 100 Continue has had it from us, and its body goes up with the head. A server that answers at
once instead, or never reads the bodies of some methods, would take that body for the next request, and nobody has
judged it as one. So `Expect` does not go up, and a body that begins as a request does is sent as the last thing of its
connection: what a server reads after an answer it closes behind is nothing.

So is a HEAD where answers are masked: some servers send a body with its answer, or what looks like the next answer
in it, and masks go by the place of an answer.

Source: RFC 9110 section 10.1.1, RFC 9112 sections 9.3 and 9.6.
"""

import re

from appliance.wire.http import upgrade
from appliance.wire.http.head import without
from appliance.wire.http.said import Request

MAX_FIRST = 8 * 1024 + 64  # bytes of a body that are looked at: a request line with the longest target
BLANK = b" \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0"  # what splits words for who reads the line as text
FIRST = re.compile(rb"GET[%b]|.*[%b]HTTP/[0-9.]*[%b]*\Z" % ((BLANK,) * 3), re.DOTALL)
# The methods that servers know: IANA's registry, those of UPnP, and those of caches.
METHODS = b"""
    ACL BAN BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK M-SEARCH MERGE
    MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE NOTIFY OPTIONS ORDERPATCH PATCH POST PRI
    PROPFIND PROPPATCH PURGE PUT QUERY REBIND REFRESH REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNCHECKOUT
    UNLINK UNLOCK UNSUBSCRIBE UPDATE UPDATEREDIRECTREF VERSION-CONTROL
""".split()
PARTS = frozenset(method[:size] for method in METHODS for size in range(1, len(method) + 1))


class Upward:
    """What of requests with one head does not go up, or otherwise."""

    def __init__(self, head: Request) -> None:
        drop, self._more = upgrade.withdrawn(head)
        if "expect" in head.named:
            drop |= {"expect"}
        self._drop = frozenset(name.encode() for name in drop)
        self._sized, self._head = head.framing == "length", head.method == "HEAD"

    def sendable(self, raw: bytes, masked: bool) -> tuple[bytes, bool]:
        """Return the request as it goes up, and whether it is to be the last of its connection.

        `masked`: answers of the connection may be.
        """
        last = (self._head and masked) or (self._sized and _begins_request(raw))
        if not self._drop and not last:
            return raw, False
        head, end, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        drop = self._drop | {b"connection"} if last else self._drop
        more = [b"Connection: close"] if last else self._more
        return b"\r\n".join([first, *without(lines, drop), *more]) + end + body, last


def _begins_request(raw: bytes) -> bool:
    """Return True if some server could read the body as a request line or its beginning, be it one of HTTP/0.9."""
    at = raw.find(b"\r\n\r\n") + 4
    body = raw[at : at + MAX_FIRST]
    text = body.lstrip(BLANK)
    if FIRST.match(text.partition(b"\n")[0]):
        return True
    # The rest of the method may be what the next request begins with.
    return text.upper() in PARTS or (not text and len(body) == MAX_FIRST)
