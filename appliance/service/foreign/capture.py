"""Reads captures made elsewhere: pcap and pcapng, frame by frame, whatever is in them.

Sources: IETF draft-ietf-opsawg-pcap, "PCAP Capture File Format"; draft-ietf-opsawg-pcapng, "PCAP Next Generation
Capture File Format", version 1.0. Read are both byte orders, micro- and nanoseconds, several sections and
interfaces. dpkt's reader knows one interface and takes a length for granted; a hostile file has neither.
Not handled: compressed files, custom blocks, secrets for decryption.

A file that ends in the middle of a packet was being written when it was copied: `cut` says so, and it is no error.
"""

import struct
from collections.abc import Iterator
from hashlib import sha256
from typing import BinaryIO

import msgspec

from appliance.model import ConfigError
from appliance.record.frame import is_time

MAX_FRAME = 262_144  # bytes of a packet; MAXIMUM_SNAPLEN of libpcap
MAX_BLOCK = 16 << 20  # bytes of a pcapng block; what libpcap takes
MAX_INTERFACES = 10_000  # of a section; a host has some dozens
PIECE = 1 << 20  # bytes of a block nobody needs that are read at once
MICRO, NANO = 0xA1B2C3D4, 0xA1B23C4D  # magic of pcap; the second for nanoseconds
SECTION, INTERFACE, OBSOLETE, SIMPLE, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6  # kinds of blocks
ORDER = 0x1A2B3C4D
RESOLUTION, OFFSET = 9, 14  # options of an interface
PACKED = {b"\x1f\x8b": "gunzip", b"\x28\xb5": "unzstd", b"BZ": "bunzip2", b"\xfd7": "unxz"}  # how such files begin


class Caught(msgspec.Struct, frozen=True, gc=False):
    """One frame. `number` counts from 1, as Wireshark does."""

    number: int
    time: float  # unix seconds
    linktype: int
    data: bytes
    size: int  # on the wire; more than `data` where the capture was told to cut it


class Interface(msgspec.Struct, frozen=True, gc=False):
    """Where frames were caught."""

    linktype: int
    snaplen: int
    unit: float  # seconds of one tick
    offset: int  # seconds


class Capture:
    """One file; iterate over it once. `digest` is of all of it, afterwards."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name, self._at = file, name, 0
        self._hash = sha256()
        self.count = 0
        self.cut = False  # it ends in the middle of something

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[Caught]:
        """Yield the frames.

        Raises:
            ConfigError: it is no capture, or not as one is written; frames before that were yielded.
        """
        start = self._read(4)
        word = int.from_bytes(start, "big")
        swapped = int.from_bytes(start, "little")
        if word == SECTION:
            yield from self._blocks(start)
        elif word in (MICRO, NANO):
            yield from self._classic(">", word)
        elif swapped in (MICRO, NANO):
            yield from self._classic("<", swapped)
        elif start[:2] in PACKED:
            raise ConfigError(self._name, "is compressed", f"unpack it first: {PACKED[start[:2]]}")
        else:
            raise ConfigError(self._name, "is no capture", "pcap or pcapng, as tcpdump and Wireshark write them")
        while self._read(PIECE):
            pass  # the digest is of the whole file, and of what stands behind its end

    # -- pcap ----------------------------------------------------------------------------------------------------

    def _classic(self, order: str, magic: int) -> Iterator[Caught]:
        head = self._read(20)
        if len(head) < 20:
            raise ConfigError(self._name, "ends before its first packet")
        major, _, _, _, _, linktype = struct.unpack(order + "HHiIII", head)
        if major != 2:
            raise ConfigError(self._name, f"is of version {major} of pcap, and version 2 is read here")
        unit = 1e-9 if magic == NANO else 1e-6
        record = struct.Struct(order + "IIII")
        while head := self._read(16):
            if len(head) < 16:
                self.cut = True
                return
            seconds, ticks, length, size = record.unpack(head)
            if length > MAX_FRAME:
                raise self._bad(f"a packet of {length} bytes; the most is {MAX_FRAME}")
            data = self._read(length)
            if len(data) < length:
                self.cut = True
                return
            self.count += 1
            # The upper half of the link type tells of check sequences.
            yield Caught(self.count, seconds + ticks * unit, linktype & 0xFFFF, data, max(size, length))

    # -- pcapng --------------------------------------------------------------------------------------------------

    def _blocks(self, start: bytes) -> Iterator[Caught]:
        order, interfaces = "<", list[Interface]()
        while start:
            head = start + self._read(8 - len(start))
            if len(head) < 8:
                self.cut = True
                return
            kind = int.from_bytes(head[:4], "big" if order == ">" else "little")
            if kind == SECTION:  # reads the same in both orders, and says which one follows
                mark = self._read(4)
                order, interfaces = self._order(mark), []
                size = self._size(head[4:], order, 28)
                body = mark + self._body(size - 16)
            elif kind in (INTERFACE, OBSOLETE, SIMPLE, ENHANCED):
                size = self._size(head[4:], order, 12)
                body = self._body(size - 12)
            else:
                size = self._size(head[4:], order, 12, most=1 << 32)
                self._skip(size - 12)
                body = b""
            end = self._read(4)
            if self.cut or len(end) < 4:
                self.cut = True
                return
            if end != head[4:]:
                raise self._bad("a block whose two lengths differ")
            if kind == INTERFACE:
                if len(interfaces) >= MAX_INTERFACES:
                    raise self._bad(f"more than {MAX_INTERFACES} interfaces")
                interfaces.append(self._interface(body, order))
            elif kind in (OBSOLETE, SIMPLE, ENHANCED):
                yield self._packet(kind, body, order, interfaces)
            start = self._read(4)

    def _order(self, mark: bytes) -> str:
        for order in "<>":
            if len(mark) == 4 and struct.unpack(order + "I", mark)[0] == ORDER:
                return order
        raise self._bad("a section that does not say its byte order")

    def _size(self, field: bytes, order: str, least: int, most: int = MAX_BLOCK) -> int:
        (size,) = struct.unpack(order + "I", field)
        if size < least or size > most or size % 4:
            raise self._bad(f"a block of {size} bytes")
        return int(size)

    def _body(self, size: int) -> bytes:
        data = self._read(size)
        self.cut = self.cut or len(data) < size
        return data

    def _skip(self, size: int) -> None:
        while size > 0:
            data = self._read(min(size, PIECE))
            if not data:
                self.cut = True
                return
            size -= len(data)

    def _interface(self, body: bytes, order: str) -> Interface:
        if len(body) < 8:
            raise self._bad("an interface of less than 8 bytes")
        linktype, _, snaplen = struct.unpack_from(order + "HHI", body)
        unit, offset, at = 1e-6, 0, 8
        while at + 4 <= len(body):
            code, size = struct.unpack_from(order + "HH", body, at)
            value = body[at + 4 : at + 4 + size]
            at += 4 + size + -size % 4
            if code == 0 or len(value) < size:
                break
            if code == RESOLUTION and size == 1:
                power = value[0] & 0x7F
                unit = 2.0**-power if value[0] & 0x80 else 10.0**-power
            elif code == OFFSET and size == 8:
                (offset,) = struct.unpack(order + "q", value)
        return Interface(linktype, snaplen, unit, offset)

    def _packet(self, kind: int, body: bytes, order: str, interfaces: list[Interface]) -> Caught:
        where, when, length, size = 0, 0, 0, 0
        if kind == SIMPLE and len(body) >= 4:
            (size,) = struct.unpack_from(order + "I", body)
            at, length = 4, min(size, len(body) - 4)
        elif kind == ENHANCED and len(body) >= 20:
            where, high, low, length, size = struct.unpack_from(order + "IIIII", body)
            at, when = 20, high << 32 | low
        elif kind == OBSOLETE and len(body) >= 20:
            where, _, high, low, length, size = struct.unpack_from(order + "HHIIII", body)
            at, when = 20, high << 32 | low
        else:
            raise self._bad("a packet without its header")
        if where >= len(interfaces):
            raise self._bad(f"a packet of interface {where}, which is not described")
        if length > MAX_FRAME or at + length > len(body):
            raise self._bad(f"a packet of {length} bytes in a block of {len(body)}")
        of = interfaces[where]
        if kind == SIMPLE and of.snaplen:
            length = min(length, of.snaplen)
        self.count += 1
        data, moment = body[at : at + length], when * of.unit + of.offset
        if not is_time(moment):
            raise self._bad(f"a packet of {moment:g} s after 1970, which is no time")
        return Caught(self.count, moment, of.linktype, data, max(size, length))

    # -- bytes ---------------------------------------------------------------------------------------------------

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        self._at += len(data)
        return data

    def _bad(self, what: str) -> ConfigError:
        return ConfigError(f"{self._name}: byte {self._at}", what, "editcap(1) keeps what is before it")
