"""What the kernel may decide alone: destinations that the rules deny, or make direct, whatever is said there.

The map's longest prefix must hold the whole answer, so each prefix is written with the port ranges of every
entry that covers it, in rule order. Cgroups with the same answers share a scope; a write gives each scope a
new number and then moves the cgroups over one by one, so that each goes from one whole set of rules to the
next.

A cgroup that is not in the map of scopes is unknown: for it nothing is direct, and what one cgroup is denied
is inspected. The same holds for what the kernel's map cannot hold. Inspecting is always right: the relay
decides.
"""

import ipaddress
import struct
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Protocol

import msgspec

from appliance.kernel import cgroups, layout
from appliance.kernel.fence import Fence, revoke
from appliance.kernel.layout import INET, INET6, PREFIX, RANGES, Judgement, Settings
from appliance.kernel.libbpf import Map
from appliance.kernel.load import ZERO
from appliance.model import HostError

CGROUP, SCOPE = struct.Struct("=Q"), struct.Struct("=I")
GIVEN = CGROUP.pack(0)  # in the map of shares: how many numbers were ever given (bpf/speakers.h)
HEAD = 64  # bits of a prefix before the address: scope and family
VERDICTS = {
    "direct": Judgement.DIRECT, "deny": Judgement.DENY, "inspect": Judgement.INSPECT, "queue": Judgement.QUEUE,
}  # fmt: skip

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Range = tuple[int, int, int, Judgement]  # low, high, protocol, judgement
Table = dict[tuple[int, bytes, int], tuple[Range, ...]]  # (family, network, length) -> ranges, first match


class Entry(Protocol):
    """One line of the judge, as policy compiles it; the first that matches is taken."""

    @property
    def cgroup(self) -> str: ...  # below the slice, and all below that; "": any
    @property
    def network(self) -> str: ...  # as in 10.0.3.0/24
    @property
    def low(self) -> int: ...  # ports, both ends included
    @property
    def high(self) -> int: ...
    @property
    def protocol(self) -> int: ...  # 6, 17, or 1 or 58, which have no ports: 0 to 65535
    @property
    def verdict(self) -> str: ...  # direct | deny | inspect | queue: TCP for the packet engine


class Line(msgspec.Struct, frozen=True):
    """An entry in one scope."""

    network: Network
    range: Range


def matches(name: str, cgroup: str) -> bool:
    """Return whether `cgroup` is the one named, or below it."""
    return cgroup == name or cgroup.startswith(name + "/")


class Judge:
    """Writes the maps. One at a time for a fence."""

    def __init__(self, fence: Fence, match: Callable[[str, str], bool] = matches) -> None:
        """`match(name, cgroup)` must be at least as strict as the rules' own."""
        self._place, self._slice, self._match = fence.place, fence.place.cgroup, match
        self._judge, self._scopes, self._shares = Map(fence.judge), Map(fence.scopes), Map(fence.shares)
        self._settings = Map(fence.settings)
        self._entries: tuple[Entry, ...] | None = None  # none written yet
        self._numbers: dict[tuple[Line, ...], int] = {}
        self._given: dict[int, int] = {}  # cgroup -> scope, as the map has it
        self._next = 1

    def write(self, entries: Sequence[Entry]) -> int:
        """Put `entries` in force for all cgroups; return the new revision.

        Raises:
            HostError: a map is full. The old entries stay in force, but for cgroups that had been moved over:
                those are inspected until the next refresh.
            ValueError, KeyError: a network or a verdict cannot be.
        """
        told = Settings.unpack(self._settings.lookup(ZERO) or b"")
        before = (self._entries, self._numbers)
        stale = self._used() | {told.unknown_scope}
        self._entries, self._numbers, self._given, self._next = tuple(entries), {}, {}, max(stale) + 1
        try:
            unknown = self._scope(lines(self._entries, None, self._match))
            self.refresh()
        except (HostError, ValueError, KeyError):
            (self._entries, self._numbers), self._given = before, {}  # the next refresh gives all anew
            self._sweep(self._used() - stale)
            raise
        told = msgspec.structs.replace(told, unknown_scope=unknown, revision=(told.revision + 1) & 0xFFFFFFFF)
        self._settings.update(ZERO, told.pack())
        revoke(self._place)
        self._sweep(stale)
        return told.revision

    def refresh(self) -> int:
        """Give cgroups made since their scope and forget those removed; return how many changed.

        Call it when a cgroup appears below the slice, or every second: until then it is inspected.
        When nothing changed it costs a walk of the slice. Vendors that are gone have no share of the speakers any more:
        a unit is another one each time it starts, and the map has room for so many.
        """
        if self._entries is None:
            return 0
        vendors = set(self._shares) - {GIVEN}  # before the walk: those it does not find are gone
        there = cgroups.governed(self._slice)
        for key in vendors:
            if CGROUP.unpack(key)[0] not in there:
                self._shares.delete(key)
        new = {
            identifier: self._scope(lines(self._entries, path, self._match))
            for identifier, path in there.items()
            if identifier not in self._given
        }
        gone = self._gone(there)
        for key in gone:
            self._scopes.delete(key)
        for identifier, number in new.items():
            self._scopes.update(CGROUP.pack(identifier), SCOPE.pack(number))
        self._given = {i: n for i, n in self._given.items() if i in there} | new
        return len(new) + len(gone)

    def _gone(self, there: Container[int]) -> list[bytes]:
        """Return the keys of cgroups that are no more. Nobody else adds any: once given, those are all."""
        if self._given and all(identifier in there for identifier in self._given):
            return []
        return [key for key in self._scopes if CGROUP.unpack(key)[0] not in there]

    def _scope(self, wanted: tuple[Line, ...]) -> int:
        """Return the number of the scope with these lines, written before it is used."""
        if wanted not in self._numbers:
            number, self._next = self._next, self._next + 1
            for (family, network, length), found in table(wanted).items():
                key = PREFIX.pack(HEAD + length, number, family, network)
                self._judge.update(key, layout.ranges(found))
            self._numbers[wanted] = number
        return self._numbers[wanted]

    def _used(self) -> set[int]:
        """Return the scopes that either map names."""
        named = {PREFIX.unpack(key)[1] for key in self._judge}
        given = {SCOPE.unpack(self._scopes.lookup(key) or ZERO)[0] for key in self._scopes}
        return named | given

    def _sweep(self, stale: set[int]) -> None:
        for key in [key for key in self._judge if PREFIX.unpack(key)[1] in stale]:
            self._judge.delete(key)


def lines(
    entries: Sequence[Entry], cgroup: str | None, match: Callable[[str, str], bool] = matches
) -> tuple[Line, ...]:
    """Return the entries for a cgroup, in order; None is the cgroup nobody knows yet.

    For that one, an entry of a certain cgroup may or may not apply, and nothing may be direct: inspected.
    """
    found: list[Line] = []
    for entry in entries:
        verdict = VERDICTS[entry.verdict]
        if cgroup is None and (entry.cgroup or verdict is Judgement.DIRECT):
            verdict = Judgement.INSPECT
        elif cgroup is not None and entry.cgroup and not match(entry.cgroup, cgroup):
            continue
        net = network(entry.network)
        if verdict is Judgement.DIRECT and names_a_place(net):
            verdict = Judgement.HERE
        found.append(Line(net, (entry.low, entry.high, entry.protocol, verdict)))
    return tuple(found)


def names_a_place(net: Network) -> bool:
    """Return whether a direct rule for this network means listeners on this host too, whoever's they are.

    One for a wider network is about what is out there: over lo it would lead to proxies and to other vendors.
    """
    return net.num_addresses == 1 or net.is_loopback


def network(written: str) -> Network:
    """Return a network, IPv4-mapped ones as the IPv4 they are."""
    net = ipaddress.ip_network(written, strict=False)
    if isinstance(net, ipaddress.IPv6Network) and net.network_address.ipv4_mapped and net.prefixlen >= 96:
        return ipaddress.ip_network(f"{net.network_address.ipv4_mapped}/{net.prefixlen - 96}")
    return net


def table(wanted: Sequence[Line]) -> Table:
    """Return each network's effective ranges: those of every line that covers it, in order."""
    at: dict[Network, list[int]] = {}
    for i, line in enumerate(wanted):
        at.setdefault(line.network, []).append(i)
    lengths = {version: sorted({n.prefixlen for n in at if n.version == version}) for version in (4, 6)}
    found: Table = {}
    for net in at:
        covering: list[int] = []
        for length in lengths[net.version]:
            if length <= net.prefixlen:
                covering += at.get(net.supernet(new_prefix=length), [])
        family = INET if net.version == 4 else INET6
        key = (family, net.network_address.packed.ljust(16, b"\0"), net.prefixlen)
        found[key] = reduced(wanted[i].range for i in sorted(covering))
    return found


def reduced(all_ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Return the ranges without those that an earlier one hides. What does not fit is left out: inspected."""
    kept: list[Range] = []
    for low, high, protocol, judgement in all_ranges:
        if not any(k[2] == protocol and k[0] <= low and high <= k[1] for k in kept):
            kept.append((low, high, protocol, judgement))
    return tuple(kept[:RANGES])
