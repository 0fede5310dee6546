"""Answers written anew: without the keys that would hide a TLS hello.

Source: RFC 9460 (SVCB and HTTPS), RFC 9849 (ECH). Where a record changes its length, pointers behind it would lead
elsewhere, so the whole message is written again. It is no longer what was signed: AD is cleared, and a client that
checks DNSSEC itself will not believe a record that had such a key.
"""

import struct

from appliance.model import ProtocolError
from appliance.wire.dns import names
from appliance.wire.dns.message import AD, TC, Parsed, Record, parameters
from appliance.wire.dns.names import Writer
from appliance.wire.dns.numbers import ECH, HTTPS, MANDATORY, SVCB

# Types whose data may hold compressed names: bytes before the names, and how many names. RFC 1035 and RFC 3597 sec. 4.
HEAD_OF_RECORD = struct.Struct(">HHI")  # type, class, TTL; RFC 1035 section 4.1.3
NAMED = {
    2: (0, 1), 3: (0, 1), 4: (0, 1), 5: (0, 1), 6: (0, 2), 7: (0, 1), 8: (0, 1), 9: (0, 1), 12: (0, 1), 14: (0, 2),
    15: (2, 1), 17: (0, 2), 18: (2, 1), 21: (2, 1), 24: (18, 1), 26: (2, 2), 30: (0, 1), 33: (6, 1), 39: (0, 1),
}  # fmt: skip


def hides(found: Parsed) -> bool:
    """Return True if an answer offers to hide a hello."""
    services = (record for record in found.records if record.type in (SVCB, HTTPS))
    return any(key == ECH for record in services for key, _ in parameters(record.data)[2])


def opened(message: bytes, found: Parsed) -> bytes:
    """Return the answer without what would hide a hello. If it grew, an empty one that says it was cut."""
    out = Writer(message[:2] + (found.flags & ~AD).to_bytes(2, "big") + message[4:12])
    _question(out, found)
    for record in found.records:
        out.name(record.name)
        out.add(HEAD_OF_RECORD.pack(record.type, record.class_, record.ttl))
        data = _data(message, record)
        out.add(len(data).to_bytes(2, "big") + data)
    if len(out.data) > len(message):
        out = Writer(message[:2] + (found.flags & ~AD | TC).to_bytes(2, "big") + b"\0\1" + bytes(6))
        _question(out, found)
    return bytes(out.data)


def _question(out: Writer, found: Parsed) -> None:
    if found.question is not None:
        out.name(found.question.name)
        out.add(found.question.type.to_bytes(2, "big") + found.question.class_.to_bytes(2, "big"))


def _data(message: bytes, record: Record) -> bytes:
    if record.type in (SVCB, HTTPS):
        return _service(record.data)
    if record.type not in NAMED or not record.data:
        return record.data
    before, count = NAMED[record.type]
    at, out = record.at + before, record.data[:before]
    for _ in range(count):
        name, at = names.read(message, at)
        out += names.write(name)
    if at > record.at + len(record.data):
        raise ProtocolError("a name that does not fit into its record")
    return out + record.data[at - record.at :]


def _service(data: bytes) -> bytes:
    priority, target, found = parameters(data)
    out = priority + names.write(target)
    for key, value in found:
        kept = _mandatory(value) if key == MANDATORY else value
        if key != ECH and (kept or key != MANDATORY):
            out += key.to_bytes(2, "big") + len(kept).to_bytes(2, "big") + kept
    return out


def _mandatory(value: bytes) -> bytes:
    """Return the list of keys a client must know, without the one that is gone."""
    keys = (value[at : at + 2] for at in range(0, len(value), 2))
    return b"".join(key for key in keys if key != ECH.to_bytes(2, "big"))
