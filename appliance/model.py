"""The nouns that cross borders. Imports nothing of ours.

One word per idea, across the tree:

    flow       one connection of one process, as the kernel saw it open
    side       who sent it: the client (the vendor's process) or the server (upstream)
    message    one unit of a protocol, complete on arrival
    facts      what a message would do (facts/), as sets of words
    decision   what the rules say of it (policy/)
    effect     what the shell must do next, in order; an event is what happened to it
    question   a message that waits for a reviewer
    note       one line of the record
"""

import ipaddress
from enum import Enum
from functools import lru_cache
from typing import Literal

import msgspec

MAX_HOSTS = 4096  # addresses whose normal form is remembered; a host's agents speak to some hundred


class Side(Enum):
    """Who sent the bytes."""

    CLIENT = "client"
    SERVER = "server"
    __hash__ = object.__hash__  # each is one object; Enum's own, in Python, is run for every look into a dict

    @property
    def other(self) -> "Side":
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


@lru_cache(maxsize=MAX_HOSTS)
def _normal(host: str) -> str:
    ip = ipaddress.ip_address(host.split("%", 1)[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


class Address(msgspec.Struct, frozen=True, gc=False, order=True):
    """An IP address and a port. IPv4-mapped IPv6 is written as the IPv4 it is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, host: str, port: int) -> "Address":
        """Return the address in its one normal form; ValueError if `host` is no IP address."""
        return cls(_normal(host), port)


class Place(Address, frozen=True, gc=False):
    """A server as one flow sees it, for rules. A bare `Address` is one spoken to in TCP, by a name nobody knows."""

    transport: str = "tcp"
    names: tuple[str, ...] = ()  # that DNS told the process it has, in small letters


class Process(msgspec.Struct, frozen=True, gc=False):
    """The process that opened a flow, as copied in the kernel when it connected."""

    pid: int
    started_ns: int  # since boot; with pid it names the process for ever
    exe: str
    argv: tuple[str, ...]
    cgroup: str  # path below the governed slice, e.g. "acme.service"
    uid: int
    package: str = ""  # of the host that `exe` belongs to; a text that begins with "?" is not certain
    parents: tuple[str, ...] = ()  # executables, nearest first
    sha256: str = ""  # of the file that is executed; empty: not known
    script: str = ""  # what an interpreter runs: a path, "module:NAME", "code:" or "stdin:"; "?..." is not certain
    script_sha256: str = ""
    unit: str = ""  # of systemd, by the cgroup
    container: str = ""  # id, by the cgroup
    inode: int = 0  # of the file that is executed
    device: int = 0
    resolved: bool = False  # package and script were looked up: empty means that there is none
    became: "Process | None" = None  # by exec, while it held the flow: another image than the one that connected

    @property
    def vendor(self) -> str:
        """The first part of its cgroup's path: what is below that a vendor makes at will."""
        return self.cgroup.partition("/")[0]


class Flow(msgspec.Struct, frozen=True, gc=False):
    """One connection. `server` is where the process meant to go, not the relay."""

    id: str  # sortable, unique on this host: see service.flow_id
    opened: float  # unix seconds
    client: Address
    server: Address
    process: Process | None
    cookie: int = 0  # the kernel's socket cookie
    sequence: int = 0  # its number among the inspected flows of its cgroup, counted by the fence from 1; 0: not known
    scope: int = 0  # id of that cgroup
    epoch: int = 0  # which fence counted: nanoseconds since boot when it was put up
    transport: str = "tcp"  # tcp | udp | icmp
    source: str = ""  # the capture file it was imported from; empty: it went through this host
    names: tuple[str, ...] = ()  # of the server, as DNS told the process before it connected, in small letters

    @property
    def place(self) -> Place:
        """The server, as rules see it from this flow."""
        return Place(self.server.host, self.server.port, self.transport, self.names)


class Column(msgspec.Struct, frozen=True, gc=False):
    """A column of a result, as the server described it."""

    name: str
    table: int = 0  # object id of the table it comes from; 0: not known
    attribute: int = 0  # number of the attribute in that table; 0: not known, or the whole row
    type: int = 0  # type id of the protocol
    binary: bool = False
    origin: str = ""  # "schema.table.column" by the server's word, in protocols that name it so; may be forged
    result: int = 0  # which result of the answer, from 0
    place: int = 0  # which column of that result, from 0


class Value(msgspec.Struct, frozen=True, gc=False):
    """One parameter of a request. `data` None is NULL."""

    data: bytes | None
    type: int = 0
    binary: bool = False


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message of a protocol. `kind` is from the closed list in the protocol's wire module.

    `raw` is exactly what was on the wire, header included, or what is to be sent in its place (a masked row,
    an error in our own words). A wire may join a run of messages nobody needs to see singly into one.
    """

    side: Side
    kind: str
    raw: bytes
    text: str = ""  # the statement, the request line, an error's message
    name: str = ""  # what it defines or refers to: a prepared statement, a setting, a user
    cursor: str = ""  # the portal or cursor it is about
    values: tuple[Value, ...] = ()
    columns: tuple[Column, ...] = ()
    status: str = ""  # command tag, SQLSTATE, value of a setting, transaction state
    masked: int = 0  # cells of `raw` that a mask changed
    secret: bool = False  # `raw` must never be recorded (passwords)
    count: int = 1  # messages or rows joined in `raw`


Verdict = Literal["allow", "block", "approve"]


class Approval(msgspec.Struct, frozen=True, gc=False):
    """Who may release a held message, and for how long it waits."""

    group: str = ""
    count: int = 1
    within_s: float = 600.0
    reuse: str = "once"  # once | session | a number of seconds


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What the rules say of one message, and which of them said it."""

    verdict: Verdict
    rule: str  # id of the rule; "default" when none matched
    file: str = ""
    revision: str = ""
    reason: str = ""
    unknown: str = ""  # why a condition could not be evaluated, when that is why it matched
    shadow: tuple[str, ...] = ()  # rules in shadow that would have matched
    approval: Approval | None = None
    record: str = ""  # full | requests | metadata: what the rules would have kept of it; "": as the settings say
    reply: str = ""  # of a block, where the protocol has more than one refusal: its code for `Wire.deny`


class Question(msgspec.Struct, frozen=True, gc=False):
    """A held message, as the reviewer sees it."""

    id: str
    flow: Flow
    identity: str
    target: str
    protocol: str
    text: str  # what it says, with its parameters
    raw: bytes  # exactly what will be released
    decision: Decision
    asked: float  # unix seconds
    expires: float
    cancel_key: bytes = b""  # a cancel request that carries this withdraws it


class Received(msgspec.Struct, frozen=True, gc=False):
    """Bytes came from `side`."""

    side: Side
    data: bytes


class Ended(msgspec.Struct, frozen=True, gc=False):
    """`side` will send no more (`lost`: nor take any)."""

    side: Side
    lost: bool = False


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A reviewer, or the hub for one, answered a question."""

    id: str
    approved: bool
    by: str = ""
    reason: str = ""
    cancelled: bool = False  # the client itself took the request back


class Woke(msgspec.Struct, frozen=True, gc=False):
    """`deadline` has passed."""


class Send(msgspec.Struct, frozen=True, gc=False):
    """Write `data` to the side named."""

    to: Side
    data: bytes


class Shut(msgspec.Struct, frozen=True, gc=False):
    """Send no more to the side named; it may still send (half-close)."""

    to: Side


class Close(msgspec.Struct, frozen=True, gc=False):
    """End the flow, both ends, after what was sent before is written. `abort` sends a reset."""

    abort: bool = False


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Put the question to the reviewers; the answer comes back as `Answered`."""

    question: Question


class Withdraw(msgspec.Struct, frozen=True, gc=False):
    """The question is moot: timed out, cancelled or the client left."""

    id: str
    reason: str


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """A cancel request for the flow to `server` that was given `key` came in over this flow."""

    server: Address
    key: bytes


NoteKind = Literal["opened", "message", "decision", "asked", "answered", "incident", "closed"]


class Spent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where the time of a message went, in seconds. `parse` and `policy` are ours, `hold` is the reviewers'."""

    parse: float = 0.0  # bytes to messages
    policy: float = 0.0  # facts and the decision
    hold: float = 0.0  # from the question to its answer
    upstream: float = 0.0  # from the first request sent on to the first byte that answers


class Named(msgspec.Struct, frozen=True, gc=False):
    """A column of a result, and the names rules may call it by."""

    column: Column
    names: tuple[str, ...]


class Learned(msgspec.Struct, frozen=True, gc=False):
    """An answer of DNS, before it goes down: `name` is at these addresses for `ttl_s` seconds, says the server."""

    name: str
    hosts: tuple[str, ...]
    ttl_s: float


class Note(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One line of the record. What a mask touched is here only masked; what is secret is not here at all."""

    kind: NoteKind
    text: str = ""
    side: Side | None = None
    message: str = ""  # kind of the message
    raw: bytes = b""  # as sent on, masked
    decision: Decision | None = None
    id: str = ""  # of the decision or question
    identity: str = ""
    target: str = ""
    protocol: str = ""
    count: int = 0  # messages or rows in `raw`
    masked: int = 0  # cells masked in `raw`
    masks: tuple[str, ...] = ()  # rules that masked them
    by: str = ""  # who answered
    size: int = 0  # bytes it tells of that are not in `raw`: of a flow that is passed unread
    facts: tuple[tuple[str, tuple[str, ...]], ...] = ()  # of a request: key of `when` -> names; "unknown" -> keys
    columns: tuple[Named, ...] = ()  # of an answer: those of its columns whose origin is known
    level: str = ""  # full | requests | metadata: what is to be kept of it; "": as the settings say
    spent: Spent | None = None


class Trust(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a server proves who it is. Without anything: by the authorities this host trusts."""

    name: str = ""  # in its certificate, where the client names none
    ca: str = ""  # path of a file of certificates; only those are trusted
    pin: tuple[str, ...] = ()  # SHA-256 of its certificate, in hexadecimal digits: nothing else is asked
    present: str = ""  # path of a file with a key and its certificates: who we are to the server
    passes: bool = False  # TLS is not opened; the client must name `name`, if there is one


class Open(msgspec.Struct, frozen=True):
    """Open the TLS that begins here: first to the server, which must prove who it is, then to the client.

    What is received and sent from then on is inside; `Opened` or `Unopened` tells how it went.
    """

    data: bytes  # of the client's side of TLS, received so far
    name: str  # of the server, as the client asked for it; "" if it did not
    alpn: tuple[str, ...]  # offered to the server
    trust: Trust


class Opened(msgspec.Struct, frozen=True):
    """Both ends are TLS, and what follows is inside."""

    name: str  # the server proved to be
    version: str  # between us and the server, as in "TLSv1.3"
    alpn: str  # agreed with both; "" for none


class Unopened(msgspec.Struct, frozen=True):
    """TLS with `side` failed."""

    side: Side
    why: str


Event = Received | Ended | Answered | Woke | Opened | Unopened
Effect = Send | Shut | Close | Ask | Withdraw | Cancel | Note | Open | Learned


class ConfigError(Exception):
    """The operator's fault: where (file:line), what, and one hint."""

    def __init__(self, where: str, what: str, hint: str = "") -> None:
        super().__init__(f"{where}: {what}" + (f"\nhint: {hint}" if hint else ""))
        self.where, self.what, self.hint = where, what, hint


class ProtocolError(Exception):
    """A peer's fault: the bytes cannot be this protocol, or exceed a limit. Ends its own flow."""


class HostError(Exception):
    """The host cannot do what was asked: what was asked, what the kernel said, and one remedy."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what + (f"\nhint: {hint}" if hint else ""))
        self.what, self.hint = what, hint
