"""Sessions as a capture for Wireshark: what the client said and got, who it was, what was decided.

Source: IETF draft-ietf-opsawg-pcapng, "PCAP Next Generation Capture File Format", version 1.0.
UDP and ICMP are datagrams as they were said.
One section, an interface of raw IP for each identity, one Enhanced Packet Block a packet; Name Resolution Blocks
call servers by their targets. Comments: the process at the SYN, the decision at the message it judged (at its last
packet, where Wireshark shows a message), masks at the answer, the end at the FIN or RST. A refused message is there
as the client sent it, though it went no further, and the refusal as the client got it. A secret is a comment and no
bytes. No protocol is known here: what a port is spoken is for the reader to tell.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from appliance.model import Address, Decision, Flow, Note, Process, Side
from appliance.record.datagrams import Datagrams
from appliance.record.frame import Frame
from appliance.record.tcp import Connection, Packet
from appliance.record.text import because, clean, command, line, stamp

RAW_IP = 101  # LINKTYPE_RAW: the packet begins with the IP header
MAX_COMMENT = 8192  # bytes; a process may have an argv of 2 MiB, an option of pcapng holds 65,535 bytes
COMMENT, APPLICATION, INTERFACE, DESCRIPTION = 1, 4, 2, 3  # options
MAX_INTERFACES = 1_000  # then OTHERS is one for all further; rules name a few, but cgroups are made by vendors
MAX_NAMES = 10_000  # addresses called by a name; each is remembered, so that it is said once
TLS = "tls"  # kind of the messages that turn a connection to TLS: what was inside is shown, as if it had not
NOWHERE = Address("0.0.0.0", 0)  # of a session that does not tell
SHORT = 8  # bytes; PostgreSQL's SSLRequest. A first message this short is written when the next note is known
MAX_OVER = 65_536  # ended sessions remembered, as something may still be said of them
UNKNOWN, OTHERS = "not identified", "others"
ABOUT = (
    "Made from the record of vendorgate. Bytes, addresses and times are those of the session as its client"
    " had it, masked where a rule said so and without secrets; packets, sequence numbers and acknowledgements"
    " are made up. For a server on a port Wireshark does not know, use Decode As."
)


def blocks(frames: Iterable[Frame]) -> Iterator[bytes]:
    """Yield the file, piece by piece. Frames of several sessions may come mixed, each session's in order."""
    about = _option(COMMENT, ABOUT) + _option(APPLICATION, "vendorgate")
    yield _block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + about + _END)
    interfaces: dict[str, int] = {}
    named: set[tuple[bytes, str]] = set()
    for packet in packets(frames):
        source = packet.source if packet.source in interfaces or len(interfaces) < MAX_INTERFACES else OTHERS
        if source not in interfaces:
            interfaces[source] = len(interfaces)
            yield _interface(source)
        news = [name for name in packet.names if name not in named and len(named) < MAX_NAMES]
        if news:
            named.update(news)
            yield _block(4, b"".join(_record(*name) for name in news) + _END)
        yield _packet(packet, interfaces[source])
    if not interfaces:
        yield _interface("vendorgate")


def packets(frames: Iterable[Frame]) -> Iterator[Packet]:
    """Yield the packets of the sessions."""
    talks: dict[str, _Talk] = {}
    over: OrderedDict[str, None] = OrderedDict()
    held: Packet | None = None  # written when the next is known: a decision follows what it judged
    holder = ""  # the session whose request it ends
    for frame in frames:
        if frame.id in over:
            continue  # said after its end: nothing of it was on the wire
        if held and frame.id == holder and frame.note.kind in ("decision", "asked"):
            held.comments.append(_remark(frame.note))
            continue
        talk = talks.get(frame.id)
        if talk is None:
            flow = _placed(frame)
            make = _Talk if flow.transport == "tcp" else _Datagrams
            talk = talks[frame.id] = make(flow)
        for packet in talk.packets(frame):
            if held:
                yield held
            held = packet
        asks = frame.note.kind == "message" and frame.note.side is Side.CLIENT
        holder = frame.id if asks and not isinstance(talk, _Datagrams) else ""
        if frame.note.kind == "closed":
            over[frame.id] = None
            del talks[frame.id]
            if len(over) > MAX_OVER:
                over.popitem(last=False)
    if held:
        yield held
    for talk in talks.values():
        yield from talk.rest()


def _placed(frame: Frame) -> Flow:
    """Return whose a session is; one between no addresses where its first frame does not tell any."""
    flow = frame.flow
    try:
        ends = (flow.client, flow.server) if flow else ()
        if flow and all(ip_address(end.host) and 0 <= end.port < 1 << 16 for end in ends):
            return flow
    except ValueError:
        pass  # only a worker that was taken over writes such: it must not keep other sessions from being handed over
    return Flow(frame.id, frame.time, NOWHERE, NOWHERE, None)


class _Talk:
    """One session on its way to packets."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._connection = self._connect(flow)
        self._open = False
        self._source = UNKNOWN
        self._waiting: list[str] = []  # comments for the next packet
        self._steering: Frame | None = None  # a short first message; it may be what turned to TLS
        self._spoken = False
        self._time = flow.opened

    def _connect(self, flow: Flow) -> Connection:
        return Connection(flow.client, flow.server, flow.id)

    def packets(self, frame: Frame) -> Iterator[Packet]:
        if not self._open:
            cgroup = self._flow.process.cgroup if self._flow.process else ""
            self._source = line(frame.note.identity or cgroup) or UNKNOWN
        for packet in self._packets(frame):
            packet.source = self._source
            yield packet

    def _packets(self, frame: Frame) -> Iterator[Packet]:
        note = frame.note
        if not self._open:
            self._open = True
            yield from self._hello(note)
        steering, self._steering = self._steering, None
        if note.message == TLS:
            yield from self._say(f"{clean(note.text) or 'turns to TLS'}: what is inside follows as it was said")
            return
        if steering and steering.note.side:
            yield from self._message(steering.note, steering.note.side, steering.dropped)
        self._time = max(self._time, frame.time)
        match note.kind:
            case "message" if not self._spoken and note.side is Side.CLIENT and 0 < frame.size <= SHORT:
                self._steering, self._spoken = frame, True
            case "message" if frame.size and note.side:
                self._spoken = True
                yield from self._message(note, note.side, frame.dropped)
            case "closed":
                self._waiting.append(f"closed: {clean(note.text)}")
                yield from self._close(note)
            case "opened":
                pass  # said in the handshake
            case _:
                yield from self._say(_remark(note))

    def rest(self) -> Iterator[Packet]:
        """Return what is left of a session without an end."""
        if self._steering and self._steering.note.side:
            for packet in self._message(self._steering.note, self._steering.note.side, self._steering.dropped):
                packet.source = self._source
                yield packet
        if self._waiting:
            packet = self._commented(self._connection.nod(self._time) or self._connection.idle(self._time))
            packet.source = self._source
            yield packet

    def _hello(self, note: Note) -> Iterator[Packet]:
        syn, *others = self._connection.open(self._flow.opened)
        syn.comments.append(_who(self._flow, note))
        if note.target and note.target != str(self._flow.server):
            syn.names = ((self._connection.server, note.target),)
        if note.kind != "opened":
            syn.comments.append("the beginning of this session is no longer in the record")
        yield syn
        yield from others

    def _message(self, note: Note, side: Side, dropped: int) -> Iterator[Packet]:
        if note.masked or note.masks:
            self._waiting.append(f"masked: {note.masked} cells by {clean(', '.join(note.masks))}")
        if dropped:
            self._waiting.append(f"not recorded: {dropped} bytes of {note.message}")
        last: Packet | None = None
        for packet in self._connection.say(side, self._time, note.raw, dropped):
            if last:
                yield last
            last = packet
        if last:
            yield self._commented(last)

    def _close(self, note: Note) -> Iterator[Packet]:
        """A note of the end says by its `message` whether it was a reset, by its side who left first."""
        if note.message == "abort":
            first, *others = self._connection.reset(note.side or Side.SERVER, self._time)
        else:
            first, *others = self._connection.finish(note.side or Side.CLIENT, self._time)
        yield self._commented(first)
        yield from others

    def _say(self, comment: str) -> Iterator[Packet]:
        """Comment at once if an acknowledgement is due that can carry it, else on the next packet."""
        self._waiting.append(comment)
        packet = self._connection.nod(self._time)
        if packet:
            yield self._commented(packet)

    def _commented(self, packet: Packet) -> Packet:
        packet.comments += self._waiting
        self._waiting = []
        return packet


class _Datagrams(_Talk):
    """One session without a connection. Its last packet is kept back, since nothing else can carry a comment."""

    _last: Packet | None = None

    def _connect(self, flow: Flow) -> Connection:
        return Datagrams(flow.client, flow.server, flow.id, flow.transport)

    def rest(self) -> Iterator[Packet]:
        steering, self._steering = self._steering, None
        if steering and steering.note.side:
            for packet in self._message(steering.note, steering.note.side, steering.dropped):
                packet.source = self._source
                yield packet
        if self._last:
            packet = self._commented(self._last)
            packet.source = self._source
            self._last = None
            yield packet

    def _hello(self, note: Note) -> Iterator[Packet]:
        self._waiting.append(_who(self._flow, note))
        yield from ()

    def _message(self, note: Note, side: Side, dropped: int) -> Iterator[Packet]:
        for packet in super()._message(note, side, dropped):
            before, self._last = self._last, packet
            if before:
                yield before

    def _close(self, note: Note) -> Iterator[Packet]:
        yield from self.rest()

    def _say(self, comment: str) -> Iterator[Packet]:
        if self._last:
            self._last.comments.append(comment)
        else:
            self._waiting.append(comment)
        yield from ()


def _who(flow: Flow, note: Note) -> str:
    named = [
        ("session", flow.id),
        ("opened", stamp(flow.opened)),
        ("identity", note.identity),
        ("target", note.target),
        ("protocol", note.protocol),
        ("imported from", flow.source),
    ]
    return "\n".join(f"{name}: {line(value)}" for name, value in named + _process(flow.process) if value)


def _process(process: Process | None) -> list[tuple[str, str]]:
    if process is None:
        return [("process", "not known")]
    return [
        ("pid", str(process.pid)),
        ("exe", process.exe),
        ("argv", command(process)),
        ("cgroup", process.cgroup),
        ("uid", str(process.uid)),
        ("package", process.package),
        ("sha256", process.sha256),
        ("script", process.script),
        ("unit", process.unit),
        ("container", process.container),
        ("parents", " < ".join(process.parents)),
    ]


def _remark(note: Note) -> str:
    match note.kind:
        case "decision" if note.decision:
            return f"{_verdict(note.decision)}\nid: {clean(note.id)}"
        case "asked" if note.decision:
            return f"held for approval\n{_verdict(note.decision)}\nid: {clean(note.id)}"
        case "answered":
            return f"answered by {clean(note.by) or 'nobody'}: {clean(note.text)}\nid: {clean(note.id)}"
        case "message":
            return f"not recorded: {note.message} of the {note.side.value if note.side else 'session'}"
        case _:
            return f"{note.kind}: {clean(note.text)}"


def _verdict(decision: Decision) -> str:
    return f"verdict: {decision.verdict}\nrule: {because(decision)}"


_END = bytes(4)  # the option that ends a list of options


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _option(code: int, text: str) -> bytes:
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > MAX_COMMENT:
        data = data[:MAX_COMMENT].decode("utf-8", "ignore").encode() + b" ... cut"
    return struct.pack("<HH", code, len(data)) + data + bytes(-len(data) % 4)


def _interface(name: str) -> bytes:
    about = f"governed processes known as {name}"
    return _block(
        1, struct.pack("<HHI", RAW_IP, 0, 0) + _option(INTERFACE, name) + _option(DESCRIPTION, about) + _END
    )


def _record(address: bytes, name: str) -> bytes:
    """Return one record of a Name Resolution Block: 1 for IPv4, 2 for IPv6."""
    value = address + line(name).encode("utf-8", "backslashreplace")[:MAX_COMMENT] + b"\0"
    return struct.pack("<HH", 1 if len(address) == 4 else 2, len(value)) + value + bytes(-len(value) % 4)


def _packet(packet: Packet, interface: int) -> bytes:
    micros = round(packet.time * 1_000_000)
    head = struct.pack("<IIIII", interface, micros >> 32, micros & 0xFFFFFFFF, len(packet.data), packet.size)
    options = b"".join(_option(COMMENT, text) for text in packet.comments)
    return _block(6, head + packet.data + bytes(-len(packet.data) % 4) + (options + _END if options else b""))
