"""Any protocol in datagrams that is not read here: one message each, of kind "datagram", and nothing known of it.

Source: RFC 768. A refused datagram is not sent; the caller may answer it as a closed port would.
"""

from collections.abc import Iterator

from appliance.model import Message, ProtocolError, Side
from appliance.wire import Opening
from appliance.wire.datagrams import Datagrams

MAX_DATAGRAM = 65_535  # bytes; the length field of RFC 768, header included
MAX_SHOWN = 32  # bytes that stand in the text of a message


class UDP(Datagrams):
    """Datagrams between two addresses, as `wire.Wire` says."""

    name = "udp"

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        if len(data) > MAX_DATAGRAM:
            raise ProtocolError(f"a datagram over {MAX_DATAGRAM} bytes")
        yield Message(side, "datagram", data, text=f"{len(data)} bytes {data[:MAX_SHOWN].hex()}".rstrip())


OPENING = Opening(UDP, lambda client, server: False, datagram=UDP)
