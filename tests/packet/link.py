"""A link between two namespaces that loses, reorders and duplicates.

What tc netem does, for kernels that are built without it: a tunnel device in each namespace, and this program between,
`python -m tests.packet.link HOST TARGET SEED`. It writes "up" when both are, and ends when its input does, with one
Told. With the word "inline" at the end, what is not lost goes on only by the word of a tracker.
"""

import ctypes
import fcntl
import heapq
import os
import select
import struct
import subprocess
import sys
import time
from collections import Counter
from itertools import count
from random import Random

import msgspec

from appliance.lab.hosts import NAMESPACES
from appliance.model import Side
from appliance.packet.decode import decode
from appliance.packet.events import Choices, Run
from appliance.packet.tracker import Tracker
from tests.packet.receiver import IFF_NO_PI, IFF_TUN, TUNSETIFF

DEVICE = "lossy0"
ADDRESSES = (("10.78.0.1", "fd78::1"), ("10.78.0.2", "fd78::2"))
LOSS, TWICE, LATE = 0.03, 0.03, 0.15  # of all packets
DELAY_S, LATER_S = (0.001, 0.002), (0.003, 0.008)  # from, to; of most packets, and of those that are late
CLONE_NEWNET = 0x40000000


def tunnel(namespace: str, addresses: tuple[str, str]) -> int:
    """Make a tunnel device in a namespace, which this program enters."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (NAMESPACES / namespace).open() as place:
        if libc.setns(place.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    for words in (f"addr add {addresses[0]}/24 dev {DEVICE}", f"addr add {addresses[1]}/64 dev {DEVICE} nodad", f"link set {DEVICE} up"):
        subprocess.run(["ip", *words.split()], check=True)
    return tun


class Told(msgspec.Struct):
    """What the tracker said, inline."""

    streams: list[bytes] = []
    places: dict[str, int] = {}
    counters: dict[str, int] = {}


class Gate:
    """Lets by what a tracker lets by."""

    def __init__(self) -> None:
        self.tracker = Tracker(Choices(inline=True, verify=True))
        self.waiting: dict[int, bytes] = {}
        self.places: Counter[str] = Counter()
        self.streams: dict[tuple[int, Side], bytearray] = {}
        self.number = 0

    def pass_on(self, data: bytes) -> list[bytes]:
        """Return what goes on by this packet, in the order it came."""
        packet = decode(data)
        if packet.transport != "tcp":
            return [data]
        self.number += 1
        taken = self.tracker.take(packet, time.monotonic(), self.number)
        self.places[taken.place] += 1
        ready = []
        for event in taken.events:
            if isinstance(event, Run):
                self.streams.setdefault((event.flow, event.side), bytearray()).extend(event.data)
                ready += [self.waiting.pop(number) for number in sorted(event.packets) if number in self.waiting]
        if taken.place == "early":
            self.waiting[self.number] = data
        return [*ready, data] if taken.place in ("next", "old", "bare") else ready

    def told(self) -> Told:
        return Told([bytes(data) for data in self.streams.values()], dict(self.places), self.tracker.counters)


def main() -> None:
    gate = Gate() if sys.argv[-1] == "inline" else None
    ends = [tunnel(name, addresses) for name, addresses in zip(sys.argv[1:3], ADDRESSES, strict=True)]
    random, numbers = Random(sys.argv[3]), count()
    waiting: list[tuple[float, int, int, bytes]] = []
    print("up", flush=True)
    while True:
        wait = max(waiting[0][0] - time.monotonic(), 0) if waiting else 10.0
        ready = select.select([*ends, sys.stdin], [], [], wait)[0]
        if sys.stdin in ready:
            break
        now = time.monotonic()
        for end in ready:
            data = os.read(end, 65_536)
            for _ in range(0 if random.random() < LOSS else 2 if random.random() < TWICE else 1):
                due = now + random.uniform(*(LATER_S if random.random() < LATE else DELAY_S))
                heapq.heappush(waiting, (due, next(numbers), ends[1 - ends.index(end)], data))
        while waiting and waiting[0][0] <= now:
            _, _, end, data = heapq.heappop(waiting)
            for packet in gate.pass_on(data) if gate else [data]:
                os.write(end, packet)
    sys.stdout.buffer.write(msgspec.json.encode(gate.told() if gate else Told()))


if __name__ == "__main__":
    main()
