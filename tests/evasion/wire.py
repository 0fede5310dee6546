"""The far side of the wire: everything that comes to the target's namespace, as frames.

An AF_PACKET socket in the target's namespace, in this process. Neighbour discovery, ARP and what the kernel's own
multicast says at the start of a link are not a vendor's: left out, unless they carry the vendor's mark.

A frame may wait in a queue of each processor (veth, netif_rx). `frames` therefore first sends a frame of our own from
each processor, from outside the slice, and reads until it has seen them all: what was sent before has come by then.
One that a full capture had no room for is sent again.
"""

import os
import socket
import time
from collections.abc import Callable

from appliance.lab.hosts import TARGET_IP, TARGET_IP6, Lab
from tests.kernel.stage import Inside

EVERY = 0x0003  # ETH_P_ALL
ARP, IP, IP6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"
NEIGHBOURS = {133, 134, 135, 136}  # ICMPv6 types of neighbour discovery, RFC 4861
LISTENERS = {130, 131, 132, 143}  # of multicast listener discovery, RFC 3810
MARK = b"VENDORGATE-EVASION"  # what every attack sends
BARRIER = b"barrier-"  # how our own frames begin
FENCE_PORT = 9  # discard; of our own frames
ROOM = 64 * 1024 * 1024  # bytes of the capture's queue: a lost frame would be a test that sees nothing
WAIT_S = 30.0
AGAIN_S = 0.2


class Wire:
    """Use as a context manager; `frames` is what came since the last call of it."""

    def __init__(self, lab: Lab) -> None:
        self._host, self._target = Inside(lab.host), Inside(lab.target)
        self._sock: socket.socket = self._target(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY)))
        self._sock.setsockopt(socket.SOL_SOCKET, 33, ROOM)  # SO_RCVBUFFORCE
        self._sock.setblocking(False)
        self._number = 0
        self._host(_send, b"neighbours", min(os.sched_getaffinity(0)), TARGET_IP6)
        end = time.monotonic() + WAIT_S
        while not any(b"neighbours" in frame for frame in self.frames()):  # what follows need not wait for them
            assert time.monotonic() < end

    def close(self) -> None:
        self._sock.close()
        self._host.close()
        self._target.close()

    def frames(self) -> list[bytes]:
        """Return the frames that came from the host and are a vendor's doing, or may be."""
        words = {BARRIER + b"%d-%d" % (self._number, cpu): cpu for cpu in os.sched_getaffinity(0)}
        self._number += 1
        found: list[bytes] = []
        self._ask(words)
        missing, asked = set(words), time.monotonic()
        end = asked + WAIT_S
        while missing:
            assert time.monotonic() < end, f"the capture does not see {missing}"
            try:
                data, (_device, _protocol, direction, *_) = self._sock.recvfrom(1 << 17)
            except BlockingIOError:
                time.sleep(0.001)
                if time.monotonic() > asked + AGAIN_S:
                    self._ask({word: words[word] for word in missing})
                    asked = time.monotonic()
                continue
            missing -= {word for word in missing if word in data}
            if BARRIER not in data and direction != socket.PACKET_OUTGOING and counts(data):
                found.append(data)
        return found

    def _ask(self, words: dict[bytes, int]) -> None:
        for word, cpu in words.items():
            self._host(_send, word, cpu)

    def lost(self) -> int:
        """Return how many frames the capture itself had no room for."""
        return int.from_bytes(self._sock.getsockopt(263, 6, 8)[4:], "little")  # SOL_PACKET, PACKET_STATISTICS

    def target(self, function: Callable[..., object], *arguments: object) -> object:
        """Run a function in the target's namespace."""
        return self._target(function, *arguments)


def _send(word: bytes, cpu: int, host: str = TARGET_IP) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(word, (host, FENCE_PORT))
    finally:
        os.sched_setaffinity(0, before)


def counts(frame: bytes) -> bool:
    """Return whether a frame may be a vendor's: all, but those by which hosts find each other."""
    kind, packet = frame[12:14], frame[14:]
    if MARK in frame:
        return True
    if kind == ARP:
        return False
    if kind == IP6 and len(packet) > 40:
        if packet[6] == 58:
            return packet[40] not in NEIGHBOURS | LISTENERS
        if packet[6] == 0 and len(packet) > 48:  # hop-by-hop options before listener reports
            return not (packet[40] == 58 and packet[48] in LISTENERS)
    return True


def payload(frame: bytes) -> bytes:
    """Return what a TCP or UDP frame carries; all of it, if it is neither."""
    packet = frame[14:]
    if frame[12:14] == IP:
        protocol, segment = packet[9], packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4], "big")]
    elif frame[12:14] == IP6:
        protocol, segment = packet[6], packet[40 : 40 + int.from_bytes(packet[4:6], "big")]
    else:
        return frame
    if protocol == 6:
        return segment[(segment[12] >> 4) * 4 :]
    return segment[8:] if protocol == 17 else frame
