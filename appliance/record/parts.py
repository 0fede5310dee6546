"""What one segment has of each session, as far as the catalog (catalog.py) wants to know it."""

from appliance.record.brief import Both, Brief

LARGEST = 1 << 63  # what SQLite takes as a number


class Part:
    """What one segment has of one session."""

    def __init__(self, when: float) -> None:
        self.frames = self.bytes = 0
        self.first = self.last = when
        self.identity = ""
        self.rules: set[str] = set()
        self.epoch = self.scope = self.sequence = 0

    def add(self, said: Brief | Both, size: int) -> None:
        """Take in a frame of `size` bytes."""
        when, note, flow = said.time, said.note, said.flow
        self.frames += 1
        self.bytes += size
        self.first = min(self.first, when)
        self.last = max(self.last, when)
        if note.identity:
            self.identity = note.identity
        if note.decision is not None and note.decision.rule:
            self.rules.add(note.decision.rule)
        if note.masks:
            self.rules.update(note.masks)
        if flow is not None and flow.sequence and max(flow.sequence, flow.scope, flow.epoch) < LARGEST:
            self.epoch, self.scope, self.sequence = flow.epoch, flow.scope, flow.sequence


class Parts:
    """Of one segment, by session. No more than `most`; then `whole` is False, and the segment has to be read again."""

    def __init__(self, most: int) -> None:
        self.of: dict[str, Part] = {}
        self.whole = True
        self._most = most

    def add(self, said: Brief | Both, size: int) -> None:
        """Take in a frame of `size` bytes."""
        part = self.of.get(said.id)
        if part is None:
            if len(self.of) >= self._most:
                self.whole = False
                self.of.clear()
            part = self.of[said.id] = Part(said.time)
        part.add(said, size)
