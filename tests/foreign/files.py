"""Captures in bytes. Sources: the drafts of pcap and pcapng."""

import struct
from collections.abc import Iterable

from appliance.model import Address, Side
from appliance.record.tcp import Connection

Frames = Iterable[tuple[float, bytes]]


def pcap(frames: Frames, linktype: int = 101, order: str = "<", magic: int = 0xA1B2C3D4, snap: int = 0) -> bytes:
    per_s = 1_000_000_000 if magic == 0xA1B23C4D else 1_000_000
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    for time, data in frames:
        kept = data[:snap] if snap else data
        out += struct.pack(order + "IIII", int(time), round(time % 1 * per_s), len(kept), len(data)) + kept
    return out


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(linktype: int = 101, order: str = "<", options: bytes = b"", snap: int = 0) -> bytes:
    return block(1, struct.pack(order + "HHI", linktype, 0, snap) + options, order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def enhanced(ticks: int, data: bytes, where: int = 0, order: str = "<", size: int | None = None) -> bytes:
    head = struct.pack(order + "IIIII", where, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data) if size is None else size)
    return block(6, head + data, order)


def pcapng(frames: Frames, linktype: int = 101, order: str = "<") -> bytes:
    return section(order) + interface(linktype, order) + b"".join(enhanced(round(t * 1e6), data, order=order) for t, data in frames)


CLIENT, SERVER = Address("10.0.0.5", 40000), Address("10.0.0.2", 6379)


def talk(*said: tuple[Side, bytes], client: Address = CLIENT, server: Address = SERVER, time: float = 1_700_000_000.0, ends: bool = True) -> list[tuple[float, bytes]]:
    """Return the packets of one connection."""
    made = Connection(client, server, f"{client}{server}")
    packets = made.open(time)
    for number, (side, data) in enumerate(said, 1):
        packets += made.say(side, time + number, data)
    packets += made.finish(Side.CLIENT, time + len(said) + 1) if ends else []
    return [(packet.time, packet.data) for packet in packets]
