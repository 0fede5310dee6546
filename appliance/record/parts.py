"""What one segment has of each session, as far as the catalog (catalog.py) wants to know it."""

from typing import cast

from msgspec.structs import astuple

from appliance.record.brief import Numbered, Told, Tolds

LARGEST = 1 << 63  # what SQLite takes as a number


class Part:
    """What one segment has of one session."""

    def __init__(self, when: float) -> None:
        self.frames = self.bytes = 0
        self.first = self.last = when
        self.identity = ""
        self.rules: set[str] = set()
        self.epoch = self.scope = self.sequence = 0

    def add(self, when: float, told: Told, flow: Numbered | None, size: int) -> None:
        """Take in what is said of a frame of `size` bytes."""
        decision, identity, masks = cast(Tolds, astuple(told))
        self.frames += 1
        self.bytes += size
        self.first = min(self.first, when)
        self.last = max(self.last, when)
        if identity:
            self.identity = identity
        if decision is not None and decision.rule:
            self.rules.add(decision.rule)
        if masks:
            self.rules.update(masks)
        if flow is not None and flow.sequence and max(flow.sequence, flow.scope, flow.epoch) < LARGEST:
            self.epoch, self.scope, self.sequence = flow.epoch, flow.scope, flow.sequence


class Parts:
    """Of one segment, by session. No more than `most`; then `whole` is False, and the segment has to be read again."""

    def __init__(self, most: int) -> None:
        self.of: dict[str, Part] = {}
        self.whole = True
        self._most = most

    def add(self, id: str, when: float, told: Told, flow: Numbered | None, size: int) -> None:
        """Take in what is said of a frame of `size` bytes."""
        part = self.of.get(id)
        if part is None:
            if len(self.of) >= self._most:
                self.whole = False
                self.of.clear()
            part = self.of[id] = Part(when)
        part.add(when, told, flow, size)
