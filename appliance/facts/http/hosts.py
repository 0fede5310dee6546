"""The forms of a host: as it is written, and if it is an address, as addresses are written.

Whoever looks a name up takes `0xa9fea9fe`, `0251.254.169.254` and `[::ffff:a9fe:a9fe]` for one address.

Source: POSIX, inet_addr, whose forms getaddrinfo and browsers take too; RFC 5952; RFC 4291 section 2.5.5.2.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

MAX_HOSTS = 1024  # whose forms are remembered
PART = re.compile(r"0x[0-9a-f]*|[0-9]+")


def bare(host: str) -> str:
    """Return the host without its port and the root's dot."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name.lower().rstrip(".")


@lru_cache(maxsize=MAX_HOSTS)
def forms(host: str) -> frozenset[str]:
    """Return the forms of a host that may have a port."""
    name = bare(host)
    if not name:
        return frozenset()
    if name.startswith("["):
        return frozenset((name, *_v6(name[1:-1])))
    return frozenset((name, *_v4(name))) if name[0].isdigit() else frozenset((name,))


def _v6(text: str) -> list[str]:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        return []
    inner = address.ipv4_mapped
    return [f"[{address.compressed}]", *([str(inner)] if inner else [])]


def _v4(text: str) -> list[str]:
    """Return the address that one to four numbers are, the last of which fills what is left."""
    parts = text.split(".")
    if len(parts) > 4 or not all(PART.fullmatch(part) for part in parts):
        return []
    try:
        *first, last = [_number(part) for part in parts]
    except ValueError:
        return []
    if any(number > 255 for number in first) or last >= 256 ** (4 - len(first)):
        return []
    whole = sum(number << (24 - 8 * place) for place, number in enumerate(first)) + last
    return [str(IPv4Address(whole))]


def _number(text: str) -> int:
    """Return a number as C reads it.

    Raises:
        ValueError: it is none.
    """
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8) if text.startswith("0") and len(text) > 1 else int(text)
