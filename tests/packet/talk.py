"""A connection as a list of segments, told to a tracker. Numbers count from the first byte of a side."""

from appliance.model import Side
from appliance.packet.decode import decode
from appliance.packet.events import Choices, Gap, Happening, Run, Taken
from appliance.packet.tracker import Tracker
from tests.packet.make import A, B, stamps, tcp

C, S = Side.CLIENT, Side.SERVER
AS_CAPTURED = Choices()
PORTS = (40_000, 80)


class Talk:
    def __init__(self, choices: Choices = AS_CAPTURED, isn: int = 1000, theirs: int = 5000) -> None:
        self.tracker = Tracker(choices)
        self.isns = {C: isn, S: theirs}
        self.now = 0.0
        self.number = 0
        self.events: list[Happening] = []
        self.places: list[str] = []

    def __call__(
        self, side: Side, flags: str = "A", seq: int = 0, data: bytes = b"", ack: int = 0, window: int = 0xFFFF,
        urgent: int = 0, stamp: int | None = None, options: bytes = b"", isn: int | None = None,
    ) -> Taken:  # fmt: skip
        """Say a segment; return what became of it."""
        self.number += 1
        self.now += 0.001
        ends = (A, B) if side is C else (B, A)
        ports = PORTS if side is C else PORTS[::-1]
        options += b"" if stamp is None else stamps(stamp)
        start = (self.isns[side] if isn is None else isn) + (0 if "S" in flags else 1)
        other = self.isns[side.other] + 1 + ack if "A" in flags else 0
        raw = tcp(*ends, ports, flags, start + seq, other, data, window, urgent, options)
        taken = self.tracker.take(decode(raw), self.now, self.number)
        self.events += taken.events
        self.places.append(taken.place)
        return taken

    def open(self, window: int = 0xFFFF, stamp: int | None = None, scale: int | None = None) -> "Talk":
        options = b"" if scale is None else bytes((1, 3, 3, scale))
        self(C, "S", window=window, stamp=stamp, options=options)
        self(S, "SA", window=window, stamp=stamp, options=options)
        self(C, "A", stamp=stamp)
        return self

    def end(self) -> "Talk":
        self.events += self.tracker.end(self.now)
        return self

    def said(self, side: Side) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, Run) and event.side is side)

    def gaps(self) -> list[tuple[Side, int, int]]:
        return [(event.side, event.offset, event.size) for event in self.events if isinstance(event, Gap)]

    def of(self, kind: type) -> list[Happening]:
        return [event for event in self.events if isinstance(event, kind)]

    def why(self, what: str) -> int:
        return self.tracker.counters.get(what, 0)
