"""One DNS message, read strictly: every byte of it has a place.

Source: RFC 1035 section 4.1; RFC 6891 (EDNS); RFC 9460 (SVCB and HTTPS).

Refused besides what is malformed: operations other than QUERY, more or fewer than one question, records in a question
that are not EDNS, data behind the end. Each of those could carry what no rule looks at.
"""

import ipaddress

import msgspec

from appliance.model import ProtocolError
from appliance.wire.dns import names
from appliance.wire.dns.names import Labels
from appliance.wire.dns.numbers import (
    AAAA,
    CNAME,
    DNAME,
    HTTPS,
    IPV4HINT,
    IPV6HINT,
    NS,
    OPT,
    PTR,
    SVCB,
    TXT,
    A,
    type_name,
)

HEAD = 12  # bytes; RFC 1035 section 4.1.1
MAX_ALIASES = 32  # CNAME and DNAME records of one answer; ours: BIND follows 11, unbound 11, PowerDNS 10 to 16
MAX_MESSAGE = 65_535  # bytes; RFC 1035 section 4.2.2: its length has 16 bits
QR, OPCODE, AA, TC, RD, RA, Z, AD, CD, RCODE = 0x8000, 0x7800, 0x400, 0x200, 0x100, 0x80, 0x40, 0x20, 0x10, 0xF


class Question(msgspec.Struct, frozen=True):
    """What is asked."""

    name: Labels
    type: int
    class_: int

    def same(self, other: "Question") -> bool:
        return (self.type, self.class_) == (other.type, other.class_) and names.same(self.name, other.name)


class Record(msgspec.Struct, frozen=True):
    """One resource record; `at` is where its data begins in the message."""

    name: Labels
    type: int
    class_: int
    ttl: int
    data: bytes
    at: int
    section: int  # 0 answer, 1 authority, 2 additional


class Parsed(msgspec.Struct, frozen=True):
    """A whole message."""

    id: int
    flags: int
    question: Question | None
    records: tuple[Record, ...]

    @property
    def answers(self) -> bool:
        return bool(self.flags & QR)

    @property
    def edns(self) -> Record | None:
        return next((record for record in self.records if record.type == OPT), None)

    @property
    def code(self) -> int:
        """The code of the answer, with the bits that EDNS adds."""
        edns = self.edns
        return self.flags & RCODE | (edns.ttl >> 24 << 4 if edns is not None else 0)


def parse(data: bytes) -> Parsed:
    """
    Raises:
        ProtocolError: it is no message that may pass.
    """
    if not HEAD <= len(data) <= MAX_MESSAGE:
        raise ProtocolError("a DNS message that is too short" if len(data) < HEAD else "a DNS message that is too long")
    id_, flags, *counts = (int.from_bytes(data[at : at + 2], "big") for at in range(0, HEAD, 2))
    if flags & OPCODE:
        raise ProtocolError(f"a DNS message of operation {(flags & OPCODE) >> 11}: only queries are passed")
    answers = bool(flags & QR)
    if counts[0] != 1 and not (answers and not any(counts)):
        raise ProtocolError(f"a DNS message with {counts[0]} questions")
    at, question = HEAD, None
    if counts[0]:
        name, at = names.read(data, at)
        question = Question(name, *_numbers(data, at, 2, 2))
        at += 4
    records: list[Record] = []
    for section, count in enumerate(counts[1:]):
        for _ in range(count):
            record, at = _record(data, at, section)
            records.append(record)
    if at != len(data):
        raise ProtocolError(f"{len(data) - at} bytes behind the end of a DNS message")
    found = Parsed(id_, flags, question, tuple(records))
    _edns(found)
    if not answers:
        _asks(found)
    return found


def _record(data: bytes, at: int, section: int) -> tuple[Record, int]:
    name, at = names.read(data, at)
    type_, class_, ttl, size = _numbers(data, at, 2, 2, 4, 2)
    at += 10
    if at + size > len(data):
        raise ProtocolError("a DNS record that is cut short")
    return Record(name, type_, class_, ttl, data[at : at + size], at, section), at + size


def _numbers(data: bytes, at: int, *sizes: int) -> tuple[int, ...]:
    out = []
    for size in sizes:
        if at + size > len(data):
            raise ProtocolError("a DNS message that is cut short")
        out.append(int.from_bytes(data[at : at + size], "big"))
        at += size
    return tuple(out)


def _edns(found: Parsed) -> None:
    """Check that there is one EDNS record at most, where it belongs, with whole options."""
    edns = [record for record in found.records if record.type == OPT]
    if len(edns) > 1 or any(record.section != 2 or record.name for record in edns):
        raise ProtocolError("EDNS more than once, or out of its place")
    for record in edns:
        options(record)


def _asks(found: Parsed) -> None:
    """Check what only questions must be."""
    if found.flags & (AA | TC | RA | Z | RCODE):
        raise ProtocolError("a DNS question with flags that only answers have")
    if any(record.type != OPT for record in found.records):
        raise ProtocolError("a DNS question with records")


def options(edns: Record) -> list[tuple[int, bytes]]:
    """Return the options of EDNS: number and value."""
    out, at, data = [], 0, edns.data
    while at < len(data):
        number, size = _numbers(data, at, 2, 2)
        if at + 4 + size > len(data):
            raise ProtocolError("an EDNS option that is cut short")
        out.append((number, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return out


def parameters(data: bytes) -> tuple[bytes, Labels, list[tuple[int, bytes]]]:
    """Return priority, target and parameters of an SVCB or HTTPS record; RFC 9460 section 2.2.

    Raises:
        ProtocolError: it is cut short, or a key is not greater than the one before it.
    """
    target, at = names.read(bytes(HEAD) + data[2:], HEAD)  # no pointers here: there is nothing before it to point to
    at, last = at - HEAD + 2, -1
    out: list[tuple[int, bytes]] = []
    while at < len(data):
        key, size = _numbers(data, at, 2, 2)
        if at + 4 + size > len(data) or key <= last:
            raise ProtocolError("parameters of a service that are cut short, or out of order")
        out.append((key, data[at + 4 : at + 4 + size]))
        at, last = at + 4 + size, key
    return data[:2], target, out


def hosts(record: Record) -> list[str]:
    """Return the addresses in a record.

    Raises:
        ProtocolError: it cannot be a record of its type.
    """
    if record.type in (A, AAAA):
        size = 4 if record.type == A else 16
        if len(record.data) != size:
            raise ProtocolError(f"an address of {len(record.data)} bytes in an {type_name(record.type)} record")
        return [_host(record.data)]
    found = []
    if record.type in (SVCB, HTTPS):
        for key, value in parameters(record.data)[2]:
            size = {IPV4HINT: 4, IPV6HINT: 16}.get(key, 0)
            if size:
                if not value or len(value) % size:
                    raise ProtocolError("a hint of a service that is no address")
                found += [_host(value[at : at + size]) for at in range(0, len(value), size)]
    return found


def _host(data: bytes) -> str:
    address = ipaddress.ip_address(data)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def target(message: bytes, record: Record) -> Labels:
    """Return the name that a CNAME or DNAME record leads to."""
    name, end = names.read(message, record.at)
    if end != record.at + len(record.data):
        raise ProtocolError("a name that does not fill its record")
    return name


def shown(message: bytes, record: Record) -> str:
    """Return a record's data as text: addresses and names as such, texts as far as they are, others in digits."""
    if record.type in (A, AAAA):
        return hosts(record)[0]
    if record.type in (CNAME, DNAME, NS, PTR):
        return names.text(target(message, record))
    data = _strings(record.data) if record.type == TXT else record.data
    return "".join(chr(c) if 0x20 <= c <= 0x7E and c != 0x5C else f"\\{c:03}" for c in data)


def _strings(data: bytes) -> bytes:
    """Return the texts in a record as one, as those who read them do (RFC 7208 section 3.3)."""
    out, at = b"", 0
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            raise ProtocolError("a text that is cut short")
        out, at = out + data[at + 1 : end], end
    return out


def chain(message: bytes, found: Parsed) -> tuple[list[Record], int]:
    """Return the answer's records that belong to what was asked, aliases followed, and how long they may be kept.

    Raises:
        ProtocolError: there are more aliases than anybody follows, or an alias that cannot be read.
    """
    assert found.question is not None
    here: dict[Labels, list[Record]] = {}  # by name: there may be thousands, and as many steps as aliases
    branches: dict[Labels, tuple[int, Record]] = {}  # the first alias of all below a name, and its place
    for place, record in enumerate(found.records):
        if record.section == 0 and record.class_ == found.question.class_:
            key = names.key(record.name)
            here.setdefault(key, []).append(record)
            if record.type == DNAME:
                branches.setdefault(key, (place, record))
    name, out, seen = found.question.name, list[Record](), set[Labels]()
    for _ in range(MAX_ALIASES + 1):
        key = names.key(name)
        seen.add(key)
        mine = here.get(key, [])
        alias = next((record for record in mine if record.type == CNAME), None)
        out += mine
        if alias is not None:
            name = target(message, alias)
        elif not mine:
            above = [branches[key[at:]] for at in range(1, len(key) + 1) if key[at:] in branches]
            if above:
                over = min(above, key=_place)[1]
                name = name[: len(name) - len(over.name)] + target(message, over)
        if names.key(name) in seen:  # the end, or a circle
            return out, min((record.ttl & 0x7FFFFFFF for record in out), default=0)
    raise ProtocolError(f"an answer with more than {MAX_ALIASES} aliases, one after the other")


def _place(found: tuple[int, Record]) -> int:
    return found[0]
