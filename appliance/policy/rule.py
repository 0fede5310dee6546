"""What a rules file says, as values: identities, targets, rules. Knows no files and decides nothing."""

import ipaddress
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from appliance.facts.hosts import public
from appliance.model import MAX_HOSTS, Address, Approval, Place, Process, Trust
from appliance.policy.leaves import Leaves
from appliance.policy.patterns import Names, Numbers, Paths, like
from appliance.policy.statements import Statements

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNSURE = "?"
"""In `who`: alone, the process is not known; before a name ("?acme"), it could be that identity."""


class Identity(msgspec.Struct, frozen=True):
    """Which processes are called `name`: all keys given must match, each by any of its values."""

    name: str
    cgroup: tuple[str, ...] = ()  # below the slice; what is below a match matches
    exe: tuple[str, ...] = ()
    uid: tuple[int, ...] = ()
    package: tuple[str, ...] = ()
    parent: tuple[str, ...] = ()  # any of the executables it descends from
    sha256: tuple[str, ...] = ()  # of the executable
    script: tuple[str, ...] = ()  # a path, a class, or sha256:HEX of it
    unit: tuple[str, ...] = ()
    container: tuple[str, ...] = ()
    image: tuple[str, ...] = ()  # of IMAGES
    where: str = ""

    def match(self, process: Process) -> bool | None:
        """Return whether it is one of these; None if what is known of it does not tell."""
        sure = True
        for answer in (
            not self.cgroup or Paths(self.cgroup, below=True).match(process.cgroup),
            not self.uid or process.uid in self.uid,
            not self.unit or any(like(unit, process.unit) for unit in self.unit),
            not self.container or any(_is_container(one, process.container) for one in self.container),
            not self.parent or self._descends(process),
            self._runs(process),
        ):
            if answer is False:
                return False
            sure = sure and answer is not None
        return True if sure else None

    def _runs(self, process: Process) -> bool | None:
        """Return whether the program is one of these. Who connected is believed; what it became could be one."""
        answer = self._program(process)
        if answer is False and process.became is not None and self._program(process.became) is not False:
            return None
        return answer

    def _program(self, process: Process) -> bool | None:
        sure = True
        for answer in (
            not self.image or (image_of(process.exe) in self.image if process.exe else None),
            not self.exe or (Paths(self.exe).match(process.exe) if process.exe else None),
            not self.sha256 or (process.sha256 in self.sha256 if process.sha256 else None),
            not self.package or _packaged(self.package, process),
            not self.script or _scripted(self.script, process),
        ):
            if answer is False:
                return False
            sure = sure and answer is not None
        return True if sure else None

    def _descends(self, process: Process) -> bool | None:
        paths = Paths(self.parent)
        if any(paths.match(exe) for exe in process.parents):
            return True
        return False if process.parents and "" not in process.parents else None  # "": not known, or cut off

    @property
    def keys(self) -> Mapping[str, tuple[object, ...]]:
        return {key: values for key in KEYS if (values := getattr(self, key))}


KEYS = ("cgroup", "exe", "uid", "package", "parent", "sha256", "script", "unit", "container", "image")
IMAGES = ("file", "deleted", "memfd", "userns", "detached")
"""What an executable was at its exec: a file at its path, one without a path any more, or that never had one (memfd),
on a mount that a user made, on one that is in no tree."""
SHORT_ID = 12  # digits of a container's id that engines print


def image_of(exe: str) -> str:
    """Return the class of an executable's path."""
    return "file" if exe.startswith("/") else exe.partition(":")[0]


def _packaged(wanted: Sequence[str], process: Process) -> bool | None:
    if process.package.startswith("?") or not (process.package or process.resolved):
        return None
    return any(like(package, process.package) for package in wanted)


def _scripted(wanted: Sequence[str], process: Process) -> bool | None:
    script = process.script
    if script.startswith("?") or not (script or process.resolved):
        return None
    paths = Paths(wanted)
    if script and (paths.match(script) or any(like(text, script) for text in wanted if not text.startswith("/"))):
        return True
    digests = {text.removeprefix(DIGEST) for text in wanted if text.startswith(DIGEST)}
    if digests and script and not process.script_sha256:
        return None
    return process.script_sha256 in digests


DIGEST = "sha256:"  # before the digest of a script


def _is_container(wanted: str, container: str) -> bool:
    """Return True for the id, the first digits of it, or a pattern."""
    short = len(wanted) >= SHORT_ID and not wanted.strip("0123456789abcdef")
    return container.startswith(wanted) if short else bool(container) and like(wanted, container)


@lru_cache(maxsize=MAX_HOSTS)
def _parsed(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(host)


class Net(msgspec.Struct, frozen=True):
    """Addresses of one network, ports from `low` to `high`."""

    network: Network
    low: int = 0
    high: int = 65535

    def holds(self, server: Address) -> bool:
        if not self.low <= server.port <= self.high:
            return False
        address = _parsed(server.host)
        return address.version == self.network.version and address in self.network

    def within(self, other: "Net") -> bool:
        if not (other.low <= self.low and self.high <= other.high):
            return False
        return self.network.version == other.network.version and self.network.subnet_of(other.network)  # type: ignore[arg-type]

    def meets(self, other: "Net") -> bool:
        if self.low > other.high or other.low > self.high:
            return False
        return self.network.version == other.network.version and self.network.overlaps(other.network)

    @property
    def narrowness(self) -> tuple[int, int]:
        """Sorts the narrowest net first."""
        return self.network.max_prefixlen - self.network.prefixlen, self.high - self.low


class Host(msgspec.Struct, frozen=True):
    """A server by the name that DNS has for it, ports from `low` to `high`."""

    name: str  # in small letters, without a dot at its end
    low: int = 0
    high: int = 65535
    internal: bool = False  # it may be at an address that is not of the public network, as it was when rules were read
    found: tuple[str, ...] = ()  # the addresses it had when rules were read

    def holds(self, server: Place) -> bool:
        """Return True if DNS told the process that the server has this name, and it can be believed.

        Who can say where a public name is could else point it at what is inside (DNS rebinding).
        """
        if self.name not in server.names or not self.low <= server.port <= self.high:
            return False
        return self.internal or public(server.host)

    def meets(self, net: Net) -> bool:
        """Return True if it may be in a network: where it will be is not known."""
        return self.low <= net.high and net.low <= self.high and (self.internal or not net.network.is_private)


TRANSPORTS: Mapping[str, tuple[str, ...]] = {
    "": ("tcp", "udp", "icmp"), "dns": ("udp", "tcp"), "udp": ("udp",), "quic": ("udp",), "icmp": ("icmp",),
}  # fmt: skip
"""How protocols are carried, the usual first; those not here by TCP only. Without a protocol: in any."""


class Target(msgspec.Struct, frozen=True):
    """A place of the network. Written inside a rule it is called by its own text and has no protocol."""

    name: str
    protocol: str  # "": told by the first bytes
    nets: tuple[Net, ...]
    where: str = ""
    trust: Trust = Trust()  # how a server there proves who it is, in TLS
    hosts: tuple[Host, ...] = ()  # those written by name; `nets` has the addresses they had when rules were read
    mode: Literal["relay", "packet"] = "relay"  # of its TCP: terminated, or judged packet by packet

    @property
    def transports(self) -> tuple[str, ...]:
        return TRANSPORTS.get(self.protocol, ("tcp",))

    def holds(self, server: Address, anyhow: bool = False) -> bool:
        """Return whether the server is of this place; `anyhow`: in whatever transport."""
        transport = server.transport if isinstance(server, Place) else "tcp"
        if not anyhow and self.protocol and transport not in self.transports:
            return False
        return any(net.holds(server) for net in self.nets) or self.named(server)

    def named(self, server: Address) -> bool:
        """Return whether it is one of the hosts that are known by their names."""
        return isinstance(server, Place) and bool(server.names) and any(host.holds(server) for host in self.hosts)

    def called(self, server: Address, names: frozenset[str]) -> bool:
        """Return whether a server by these names is of this place: its address is written, or one of its names is."""
        if any(host.name in names and host.low <= server.port <= host.high for host in self.hosts):
            return True
        found = {(address, host.low, host.high) for host in self.hosts for address in host.found}
        written = (n for n in self.nets if (str(n.network.network_address), n.low, n.high) not in found)
        return any(net.holds(server) for net in written)

    def covers(self, other: "Target") -> bool:
        if self is other:
            return True
        if other.hosts or not set(other.transports) <= set(self.transports):
            return False
        return all(any(n.within(m) for m in self.nets) for n in other.nets)

    def meets(self, other: "Target") -> bool:
        if any(n.meets(m) for n in self.nets for m in other.nets):
            return True
        pairs = [(h, m) for h in self.hosts for m in other.nets] + [(h, n) for h in other.hosts for n in self.nets]
        return any(host.meets(net) for host, net in pairs)


Test = Names | Numbers | Leaves | Statements
"""One condition of `when`: what the values of its key must be."""

Do = Literal["allow", "block", "approve", "mask"]
MethodName = Literal["redact", "keep-last-4", "hash", "null", "fixed"]


class Method(msgspec.Struct, frozen=True):
    """What a mask writes instead."""

    name: MethodName = "redact"
    text: str = ""  # of "fixed"


class Rule(msgspec.Struct, frozen=True):
    """One rule. `who`, `to`, `when` empty match anything."""

    id: str
    do: Do
    who: tuple[str, ...] = ()
    to: tuple[Target, ...] = ()
    when: Mapping[str, Test] = {}
    detect: tuple[str, ...] = ()
    reason: str = ""
    file: str = ""
    line: int = 0
    shadow: bool = False
    inspect: bool = True
    approval: Approval | None = None
    method: Method | None = None
    compare: bool = False  # of a mask: its columns may be filtered and sorted by
    on_incident: Literal["", "freeze"] = ""  # what a block by it, or an incident on a flow it is about, brings
    keep_s: float = 0.0  # how long sessions it decided in are kept; 0: as `record.retention` says
    record: str = ""  # full | requests | metadata: what is kept of a message it matches, and of the answer
    reply: str = ""  # of a block: which refusal, where the protocol has several

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def conditional(self) -> bool:
        return bool(self.when or self.detect)
