"""Where an accepted connection was going before the redirect.

Source: linux/netfilter_ipv4.h (SO_ORIGINAL_DST) and linux/netfilter_ipv6/ip6_tables.h (IP6T_SO_ORIGINAL_DST).
"""

import ipaddress
import socket

from appliance.model import Address

ORIGINAL_DST = 80
SOCKADDR_IN = 16
SOCKADDR_IN6 = 28


def original(sock: socket.socket) -> Address | None:
    """Return the destination that the client named; None if the connection was not redirected.

    A connection made straight to the relay's port is either None or the relay's own address.
    """
    try:
        if sock.family == socket.AF_INET6:
            data = sock.getsockopt(socket.IPPROTO_IPV6, ORIGINAL_DST, SOCKADDR_IN6)
            ip = ipaddress.ip_address(data[8:24])
        else:
            data = sock.getsockopt(socket.IPPROTO_IP, ORIGINAL_DST, SOCKADDR_IN)
            ip = ipaddress.ip_address(data[4:8])
    except OSError:  # ENOENT: no such translation; ENOPROTOOPT: no conntrack at all
        return None
    return Address.of(str(ip), int.from_bytes(data[2:4], "big"))
