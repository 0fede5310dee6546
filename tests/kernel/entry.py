"""A line of the judge, as policy would compile it."""

import msgspec


class Entry(msgspec.Struct, frozen=True):
    network: str
    verdict: str
    cgroup: str = ""
    low: int = 0
    high: int = 65535
    protocol: int = 6
