"""How the engine speaks by itself: whole packets, sent by raw sockets, in the name of a server or of a client.

The sockets are made before the process gives up its rights; their mark is the one the fence and the table let by.
Source: raw(7), "IP_HDRINCL"; ip(7), IPPROTO_RAW sends only.
"""

import logging
import socket
import sys

from appliance.model import Address

log = logging.getLogger("vendorgate.worker")


def sockets() -> tuple[socket.socket, socket.socket | None]:
    """Return one for IPv4 and one for IPv6, None if the host has none. Needs CAP_NET_RAW."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    four = socket.socket(socket.AF_INET, kind, socket.IPPROTO_RAW)
    try:
        return four, socket.socket(socket.AF_INET6, kind, socket.IPPROTO_RAW)
    except OSError:
        return four, None


class Voice:
    """Says packets. What cannot be said is counted: those it was for find out by themselves, later."""

    def __init__(self, four: socket.socket, six: socket.socket | None, mark: int) -> None:
        """Needs CAP_NET_ADMIN, for the mark."""
        self._sockets = {4: four, 6: six}
        self.mark(mark)
        self.unsaid = 0

    def mark(self, mark: int) -> None:
        """Have packets this mark from now on."""
        for sock in filter(None, self._sockets.values()):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark.to_bytes(4, sys.byteorder))

    def say(self, target: Address, packet: bytes) -> None:
        """Send a whole packet."""
        sock = self._sockets[packet[0] >> 4]
        try:
            if sock is None:
                raise OSError("there is no IPv6 here")
            sock.sendto(packet, (target.host, 0))
        except OSError as error:
            self.unsaid += 1
            log.error("a packet to %s could not be sent: %s", target, error)
