"""DNS messages made byte by byte, for the tests."""

from appliance.wire.dns import names

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "DNAME": 39, "OPT": 41,
         "HTTPS": 65, "AXFR": 252}  # fmt: skip
EDNS = b"\0" + (41).to_bytes(2, "big") + (1232).to_bytes(2, "big") + bytes(4) + b"\0\0"


def name(text: str) -> bytes:
    return names.write(tuple(label.encode() for label in text.split(".") if label))


def edns(*options: tuple[int, bytes]) -> bytes:
    data = b"".join(n.to_bytes(2, "big") + len(v).to_bytes(2, "big") + v for n, v in options)
    return EDNS[:-2] + len(data).to_bytes(2, "big") + data


def question(qname: str, qtype: str = "A", id_: int = 7, *, opt: bytes = b"", flags: int = 0x100, class_: int = 1) -> bytes:
    counts = b"\0\1\0\0\0\0" + (b"\0\1" if opt else b"\0\0")
    asked = name(qname) + TYPES[qtype].to_bytes(2, "big") + class_.to_bytes(2, "big")
    return id_.to_bytes(2, "big") + flags.to_bytes(2, "big") + counts + asked + opt


def record(owner: bytes, rtype: str, data: bytes, ttl: int = 300) -> bytes:
    head = TYPES[rtype].to_bytes(2, "big") + b"\0\1" + ttl.to_bytes(4, "big") + len(data).to_bytes(2, "big")
    return owner + head + data


POINTER = b"\xc0\x0c"  # to the name that was asked


def answer(qname: str, *records: bytes, qtype: str = "A", id_: int = 7, flags: int = 0x8180, more: tuple[bytes, ...] = ()) -> bytes:
    counts = b"\0\1" + len(records).to_bytes(2, "big") + b"\0\0" + len(more).to_bytes(2, "big")
    asked = name(qname) + TYPES[qtype].to_bytes(2, "big") + b"\0\1"
    return id_.to_bytes(2, "big") + flags.to_bytes(2, "big") + counts + asked + b"".join(records) + b"".join(more)


def address(host: str = "192.0.2.1", owner: bytes = POINTER, ttl: int = 300) -> bytes:
    import ipaddress

    data = ipaddress.ip_address(host).packed
    return record(owner, "A" if len(data) == 4 else "AAAA", data, ttl)


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
