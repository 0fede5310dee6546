"""One input of the fuzzing of packets, and the inputs it starts from.

An input is a byte of choices, then a list of packets: two bytes of length, the bytes as an IP packet may stand in a
queue or a capture. What must hold whatever they are: nothing but ProtocolError is raised; what is kept stays under its
limits and is gone at the end; bytes are given in order, each once; inline there is no gap, and a flow that was refused
gives nothing more.
"""

from appliance.model import ProtocolError, Side
from appliance.packet.build import checksum, rebuild
from appliance.packet.decode import Packet, decode, quoted
from appliance.packet.events import Choices, Gap, Happening, Over, Run
from appliance.packet.tracker import Tracker
from tests.packet.make import A6, B6, A, B, ip, pieces, pieces6, stamps, tcp, udp

INLINE, VERIFY, MIDSTREAM, URGENT = 1, 2, 4, 8
C, S = Side.CLIENT, Side.SERVER
SLACK = 70_000  # bytes: one packet, which is looked at before it is refused


def choices(flags: int) -> Choices:
    return Choices(
        bool(flags & INLINE), bool(flags & VERIFY), False, bool(flags & MIDSTREAM), "inline" if flags & URGENT else "oob",
        max_early=500, max_pieces=6, max_unacked=800, max_memory=4000, max_flows=4,
    )  # fmt: skip


def run(data: bytes) -> None:
    """Play one input."""
    chosen = choices(data[0] if data else 0)
    tracker, at, number, now = Tracker(chosen), 1, 0, 0.0
    given: dict[tuple[int, Side], int] = {}
    over: dict[int, str] = {}
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2])
        raw, at = data[at + 2 : at + 2 + size], at + 2 + size
        number, now = number + 1, now + (size % 7) * 5.0
        try:
            packet = decode(raw, snapped=not chosen.inline)
        except ProtocolError:
            continue
        same(packet)
        taken = tracker.take(packet, now, number)
        check([*taken.events, *(tracker.expire(now) if size % 5 == 0 else ())], given, over, chosen.inline)
        assert 0 <= tracker.memory <= chosen.max_memory + SLACK
        assert len(list(tracker.flows())) <= chosen.max_flows
    check(tracker.end(now), given, over, chosen.inline)
    tracker.expire(now + 1000.0)
    assert tracker.memory == 0 and not list(tracker.flows())


def same(packet: Packet) -> None:
    """What is made anew is what it was, but for its checksum."""
    checksum(packet)
    quoted(packet)
    if packet.transport and not packet.missing and packet.fragment is None:
        again = decode(rebuild(packet, packet.payload))
        assert (again.source, again.target, again.tcp) == (packet.source, packet.target, packet.tcp)
        assert packet.transport == "icmp" or again.payload == packet.payload
        assert checksum(again) == "good" or packet.data[0] >> 4 == 4  # of a header that was not made anew


def check(events: list[Happening], given: dict[tuple[int, Side], int], over: dict[int, str], inline: bool) -> None:
    for event in events:
        if isinstance(event, Run | Gap):
            assert over.get(event.flow) != "refused", event
            assert not (inline and isinstance(event, Gap))
            at = given.get((event.flow, event.side), 0)
            assert event.offset >= at  # a byte that is urgent is left out
            given[event.flow, event.side] = event.offset + (len(event.data) if isinstance(event, Run) else event.size)
        elif isinstance(event, Over):
            assert event.flow not in over
            over[event.flow] = event.why


def listed(flags: int, packets: list[bytes]) -> bytes:
    return bytes((flags,)) + b"".join(len(raw).to_bytes(2) + raw for raw in packets)


def talk(a: str, b: str) -> list[bytes]:
    """A connection with all there may be in one."""
    there, back = (40_000, 80), (80, 40_000)
    option = b"\2\4\5\xb4\3\3\7" + stamps(10)
    return [
        tcp(a, b, there, "S", 2**32 - 5, 0, b"fast", options=option),
        tcp(b, a, back, "SA", 7, 2**32 - 4, options=option),
        tcp(a, b, there, "A", 2**32 - 4, 8, options=stamps(11)),
        tcp(a, b, there, "A", 6, 8, b"early", options=stamps(12)),
        tcp(a, b, there, "UA", 1, 8, b"hello", urgent=2, options=stamps(12)),
        tcp(a, b, there, "A", 1, 8, b"hellO", options=stamps(9)),
        tcp(b, a, back, "A", 8, 11, b"answer", window=0, options=stamps(13)),
        tcp(b, a, back, "A", 100, 4_000, b"much later", options=stamps(13)),
        tcp(a, b, there, "FA", 11, 14, b"", options=stamps(14)),
        tcp(b, a, back, "FA", 14, 12, b"", options=stamps(14)),
        tcp(a, b, there, "A", 12, 15, options=stamps(15)),
        tcp(a, b, there, "S", 500, 0),
        tcp(b, a, back, "R", 8, 0),
    ]


def corpus() -> list[bytes]:
    """Return connections, datagrams and fragments, of both versions, in every mode."""
    found = []
    for a, b, cut in ((A, B, pieces), (A6, B6, pieces6)):
        raw = udp(a, b, (1, 53), bytes(200))
        icmp = ip(a, b, 1 if cut is pieces else 58, bytes((8 if cut is pieces else 128, 0, 0, 0, 0, 7, 0, 1)))
        lost = ip(b, a, 1, b"\3\3\0\0\0\0\0\0" + raw[:48]) if cut is pieces else ip(b, a, 58, b"\1\4\0\0\0\0\0\0" + raw[:60])
        parts = cut(raw, [(0, 64), (64, 128), (64, 128), (128, 208)])
        for flags in range(16):
            found.append(listed(flags, talk(a, b)))
            found.append(listed(flags, [raw, udp(b, a, (53, 1), b"answer"), icmp, lost, *parts]))
    return found
