"""ICMP, of both versions: one message each, with its type by name.

Source: RFC 792, RFC 4443; IANA, "ICMP Parameters" and "ICMPv6 Parameters". Errors that routers send about what a
process sent belong to the flow they are about, and do not come here.

A message is of kind "datagram"; its type is in `status`, its code in `name`. What answers an echo is passed as it is,
so its data is counted; a server that sends an echo by itself, or anything else nobody asked for, is left to the host.
"""

from collections.abc import Iterator

from appliance.model import Message, ProtocolError, Side
from appliance.wire import Opening
from appliance.wire.udp import MAX_DATAGRAM, UDP

HEAD = 8  # bytes; the least of every type that is in use
TYPES = {
    0: "echo-reply", 3: "unreachable", 4: "quench", 5: "redirect", 8: "echo", 9: "router-advertisement",
    10: "router-solicitation", 11: "time-exceeded", 12: "parameter-problem", 13: "timestamp", 14: "timestamp-reply",
    15: "information", 16: "information-reply", 17: "mask", 18: "mask-reply", 42: "extended-echo",
    43: "extended-echo-reply", 128: "echo", 129: "echo-reply", 130: "listener-query", 131: "listener-report",
    132: "listener-done", 133: "router-solicitation", 134: "router-advertisement", 135: "neighbour-solicitation",
    136: "neighbour-advertisement", 137: "redirect", 139: "information", 140: "information-reply",
    143: "listener-report", 160: "extended-echo", 161: "extended-echo-reply",
}  # fmt: skip
OTHER = "other"
# Numbers that mean one thing in version 4 and another in version 6 are told by the first alone: these are disjoint but
# for 1 to 4, which in version 6 are errors, and those are not sent by processes.


class ICMP(UDP):
    """Messages between two hosts, as `wire.Wire` says."""

    name = "icmp"

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        if not HEAD <= len(data) <= MAX_DATAGRAM:
            raise ProtocolError(f"a message of ICMP of {len(data)} bytes")
        kind = TYPES.get(data[0], OTHER)
        text = f"{kind} {data[1]}, {len(data)} bytes"
        raw = self.seen(side, data)
        yield Message(side, "datagram", raw, text=text, name=str(data[1]), status=kind, masked=int(raw != data))


OPENING = Opening(ICMP, lambda client, server: False, datagram=ICMP)
