"""What can be told of an address by itself."""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=4096)
def public(host: str) -> bool:
    """Return True for an address anybody on the Internet may have.

    One that carries an IPv4 address (RFC 4291, RFC 6052, RFC 3056, RFC 4380) is what that is.
    """
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if not all(public(str(one)) for one in carried if one is not None):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
