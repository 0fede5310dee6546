"""What can be told of an address by itself."""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=4096)
def public(host: str) -> bool:
    """Return True for an address anybody on the Internet may have.

    One that carries an IPv4 address (RFC 4291, RFC 6052, RFC 3056, RFC 4380, RFC 5214) is what that is.
    """
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        if not all(public(str(one)) for one in _carried(address)):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/32")
_LOW = 0xFFFFFFFF  # with nothing before them: an address compatible with IPv4 (RFC 4291 section 2.5.5.1)
_ISATAP = 0x00005EFE  # RFC 5214 section 6.1; a bit of it says whether the IPv4 address is one of the Internet


def forms(host: str) -> tuple[str, ...]:
    """Return an address and those it carries or stands for: what means "any" is this host itself to who connects."""
    address = ipaddress.ip_address(host)
    others = _carried(address) if isinstance(address, ipaddress.IPv6Address) else []
    own = ("127.0.0.1", "::1") if any(one.is_unspecified for one in (address, *others)) else ()
    return (host, *map(str, others), *own)


def _carried(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The same forms as in bpf/judge.h."""
    carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    number = int(address)
    if address in _NAT64 or 1 < number <= _LOW or number >> 32 & 0xFDFFFFFF == _ISATAP:
        carried.append(ipaddress.IPv4Address(number & _LOW))
    return [one for one in carried if one is not None]
