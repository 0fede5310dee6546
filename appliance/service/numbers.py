"""Which of the flows that the fence numbered are accounted for: recorded, or noted as unserved.

The fence numbers the flows of each cgroup from 1 (model.Flow.sequence). All up to `low` are accounted for, and those in
`above`; the rest up to the fence's count are holes. Kept in a file, so that a hub that was killed knows where it was.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from appliance.record import read
from appliance.record.frame import BadFrame, segments

FILE = "numbers.json"  # in state_dir
MAX_ABOVE = 100_000  # numbers kept of one cgroup above a hole; a hole that old was written off long before
SLACK_S = 10.0  # what was recorded shortly before the file was written is looked for too

Key = tuple[int, int]  # epoch, id of the cgroup


class Kept(msgspec.Struct, frozen=True):
    """One cgroup's part of the file."""

    epoch: int
    scope: int
    low: int
    above: tuple[int, ...] = ()


class Numbers:
    """Of one cgroup and epoch."""

    def __init__(self, low: int = 0, above: tuple[int, ...] = ()) -> None:
        self.low, self._above = low, set(above)
        self._settle()

    def add(self, number: int) -> None:
        """Take a number as accounted for."""
        if number > self.low:
            self._above.add(number)
            self._settle()

    def holes(self, last: int) -> Iterator[int]:
        """Yield those up to `last` that nobody has accounted for."""
        most = min(last, self.low + MAX_ABOVE)
        return (number for number in range(self.low + 1, most + 1) if number not in self._above)

    def kept(self, key: Key) -> Kept:
        return Kept(*key, self.low, tuple(sorted(self._above)))

    def _settle(self) -> None:
        while self.low + 1 in self._above or len(self._above) > MAX_ABOVE:
            self.low += 1
            self._above.discard(self.low)


def runs(numbers: Iterator[int] | list[int]) -> tuple[int, ...]:
    """Return ascending numbers as record.checkpoint.Lost has them: how many are not meant, how many are, from 1."""
    found: list[int] = []
    after = 1  # the last run
    for number in numbers:
        if found and number == after:
            found[-1] += 1
        else:
            found += [number - after, 1]
        after = number + 1
    return tuple(found)


def load(state_dir: Path) -> dict[Key, Numbers] | None:
    """Return what an earlier hub knew, and what is in the record since; None if there is no such file.

    Raises:
        OSError: the record cannot be read.
    """
    path = state_dir / FILE
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=list[Kept])
        since = path.stat().st_mtime - SLACK_S
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    found = {(one.epoch, one.scope): Numbers(one.low, one.above) for one in kept}
    for key, number in _recorded(state_dir / "records", since):
        found.setdefault(key, Numbers()).add(number)
    return found


def pack(numbers: Mapping[Key, Numbers]) -> bytes:
    """Return the content of the file."""
    return msgspec.json.encode([one.kept(key) for key, one in numbers.items()])


def save(state_dir: Path, kept: bytes) -> None:
    """Write the file, whole or not at all."""
    new = state_dir / f".{FILE}"
    new.write_bytes(kept)
    new.rename(state_dir / FILE)


def _recorded(records: Path, since: float) -> Iterator[tuple[Key, int]]:
    """Yield the flows in segments that were written to since a time."""
    for segment in segments(records):
        path = Path(segment.path)
        try:
            if path.stat().st_mtime < since:
                continue
            for placed in read.segment(path):
                flow = placed.frame.flow
                if flow and flow.sequence and placed.frame.note.kind == "opened":
                    yield (flow.epoch, flow.scope), flow.sequence
        except (BadFrame, FileNotFoundError):  # told of by the index and by verify; retention took it
            continue
