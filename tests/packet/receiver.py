"""A real receiver of TCP and UDP, which is said things no well-meaning sender says.

Run as `unshare --net python -m tests.packet.receiver`: a tunnel device is the link to a host that is this program. It
reads one Scene a line, plays it to the kernel, and writes one Seen a line: what a program that reads from the kernel's
socket got, and what our tracker says of the same packets, the kernel's own answers among them.
"""

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time

import msgspec

from appliance.model import Side
from appliance.packet.decode import decode
from appliance.packet.events import Choices, Datagram, Run
from appliance.packet.tracker import Tracker
from tests.packet.make import A6, B6, A, B, stamps, tcp

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
PORT = 7000
PATIENCE_S = 20.0  # for a handshake
LIMIT_S = 5.0  # until the kernel and the tracker must agree


class Say(msgspec.Struct, frozen=True):
    """A segment of the client. `seq` counts from its first byte."""

    seq: int
    data: bytes = b""
    flags: str = "A"
    urgent: int = 0
    stamp: int | None = None  # of its timestamps
    ack: int = 0  # from the server's first byte
    options: str = ""  # besides timestamps, in hex


class Scene(msgspec.Struct, frozen=True):
    """A connection, or with `raw` packets as they are, of UDP."""

    says: list[Say] = []
    isn: int = 1000
    stamped: bool = False
    inline: bool = False
    six: bool = False
    buffer: int = 0  # of the receiver; 0: as it is
    raw: list[bytes] = []


class Seen(msgspec.Struct, frozen=True):
    read: bytes  # of the kernel
    given: bytes  # by the tracker
    refused: bool = False
    places: list[str] = []
    counters: dict[str, int] = {}


class Rig:
    def __init__(self) -> None:
        self.tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.tun, TUNSETIFF, struct.pack("16sH22x", b"lab0", IFF_TUN | IFF_NO_PI))
        for words in (
            "addr add 10.66.0.1/24 dev lab0", "addr add fd66::1/64 dev lab0 nodad", "link set lab0 up", "link set lo up",
        ):  # fmt: skip
            subprocess.run(["ip", *words.split()], check=True)
        self.listener = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=8)
        self.listener.settimeout(PATIENCE_S)
        self.datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.datagrams.bind(("::", PORT))
        self.datagrams.setblocking(False)
        self.port = 1024

    def heard(self) -> list[bytes]:
        """What the kernel has sent."""
        found = []
        while select.select([self.tun], [], [], 0)[0]:
            packet = os.read(self.tun, 65_536)
            if packet[0] >> 4 == 6 and packet[6] in (0, 58):
                continue  # it looks for routers and neighbours
            found.append(packet)
        return found

    def play(self, scene: Scene) -> Seen:
        return self.datagram(scene) if scene.raw else Talk(self, scene).play()

    def datagram(self, scene: Scene) -> Seen:
        tracker, given, places = Tracker(Choices(inline=scene.inline)), b"", []
        for number, raw in enumerate(scene.raw):
            taken = tracker.take(decode(raw), time.monotonic(), number)
            places.append(taken.place)
            given += b"".join(event.data for event in taken.events if isinstance(event, Datagram))
            os.write(self.tun, raw)
        read = b""
        while select.select([self.datagrams], [], [], 0.02)[0]:
            read += self.datagrams.recv(65_536)
        self.heard()
        return Seen(read, given, False, places, tracker.counters)


class Talk:
    """One connection."""

    def __init__(self, rig: Rig, scene: Scene) -> None:
        self.rig, self.scene = rig, scene
        rig.port = (rig.port - 1_024) % 60_000 + 1_025  # the next
        self.tracker = Tracker(Choices(inline=scene.inline))
        self.ends = (A6, B6) if scene.six else (A, B)
        self.runs = b""
        self.refused = False
        self.number = 0
        self.waiting: dict[int, bytes] = {}  # held, as their bytes came too early
        self.places: list[str] = []
        self.read = b""

    def track(self, raw: bytes, sender: Side) -> str:
        """Show a packet to the tracker; inline, play what may go on by it."""
        self.number += 1
        taken = self.tracker.take(decode(raw), time.monotonic(), self.number, sender)
        ready: list[bytes] = []
        for event in taken.events:
            if isinstance(event, Run) and event.side is Side.CLIENT:
                self.runs += event.data
                ready += [self.waiting.pop(number) for number in sorted(event.packets) if number in self.waiting]
        if taken.place == "refused":
            self.refused = True
        for packet in ready:  # in the order they came
            os.write(self.rig.tun, packet)
        if sender is Side.CLIENT:
            self.places.append(taken.place)
            if not self.scene.inline or taken.place in ("next", "old", "bare"):
                os.write(self.rig.tun, raw)
            elif taken.place == "early":
                self.waiting[self.number] = raw
        return taken.place

    def hear(self) -> list[bytes]:
        found = [raw for raw in self.rig.heard() if decode(raw).target.port == self.rig.port]
        for raw in found:
            self.track(raw, Side.SERVER)
        return found

    def say(self, seq: int, ack: int, say: Say, options: bytes = b"") -> None:
        ports = (self.rig.port, PORT)
        self.track(tcp(*self.ends, ports, say.flags, seq, ack, say.data, 0xFFFF, say.urgent, options), Side.CLIENT)

    def play(self) -> Seen:
        scene = self.scene
        stamp = stamps(1000) if scene.stamped else b""
        self.rig.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, scene.buffer or 212_992)
        self.say(scene.isn, 0, Say(0, flags="S"), b"\2\4\5\xb4\3\3\7" + stamp)
        answers, until = self.hear(), time.monotonic() + PATIENCE_S
        while not answers and time.monotonic() < until:
            select.select([self.rig.tun], [], [], 1.0)
            answers = self.hear()
        assert len(answers) == 1, answers
        theirs = decode(answers[0]).tcp
        assert theirs is not None
        self.say(scene.isn + 1, theirs.seq + 1, Say(0), stamps(1001, theirs.stamp) if scene.stamped else b"")
        assert self.places == ["bare", "bare"], (self.places, self.tracker.counters)
        peer, _ = self.rig.listener.accept()
        with peer:
            peer.setblocking(False)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed, it is forgotten
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            for say in scene.says:
                option = stamps(say.stamp or 1002, theirs.stamp) if scene.stamped else b""
                option += bytes.fromhex(say.options)
                self.say(scene.isn + 1 + say.seq, theirs.seq + 1 + say.ack, say, option)
                self.hear()
            self.settle(peer)
        self.hear()
        return Seen(self.read, self.runs, self.refused, self.places, self.tracker.counters)

    def settle(self, peer: socket.socket) -> None:
        """Read until the tracker has as much: an acknowledgement may take its time."""
        until = time.monotonic() + LIMIT_S
        while True:
            try:
                while data := peer.recv(65_536):
                    self.read += data
            except BlockingIOError:
                pass
            except ConnectionResetError:
                break
            self.hear()
            if self.read == self.runs or self.refused or time.monotonic() > until:
                break
            select.select([self.rig.tun], [], [], 0.01)


def main() -> None:
    rig = Rig()
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(msgspec.json.encode(rig.play(msgspec.json.decode(line, type=Scene))) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
