"""What the requests of one flow have in common that say the same with other values.

A program runs a few statements again and again, with other parameters. What such a statement does is found out once;
what differs is the text with its parameters. `Facts.shape` tells whoever judges them, so that a verdict that does not
look at texts is found once too.
"""

import msgspec

from appliance.facts import Facts
from appliance.facts.sql import Reading, World
from appliance.facts.sql.reading import NONE

MAX_SHAPES = 128  # of one flow; about 2 kB each. Programs repeat a few dozen statements


class Shape:
    """What does not differ. Never changed."""

    def __init__(self, base: Facts, reading: Reading, kept: bool) -> None:
        self.base, self.reading = base, reading
        self.kept = kept  # so that others may keep what they find out about it

    def facts(self, subject: str, words: frozenset[str], whole: bool = True) -> Facts:
        """Return the facts of one request: what is said, the words for detectors, and whether these are all."""
        base = self.base
        values, unknown = dict(base.values), base.unknown if whole else base.unknown | {"text"}
        values["text"] = words
        shape = base if self.kept and whole else None
        return msgspec.structs.replace(base, values=values, unknown=unknown, subject=subject, shape=shape)


class Shapes:
    """Those of one flow, by kind of message, what it says as it was read, and the world that was read in."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, int], tuple[Shape, Reading, World]] = {}

    def get(self, kind: str, said: Reading, world: World) -> Shape | None:
        """Return the shape of what was read in a world."""
        found = self._kept.get((kind, id(said), id(world)))
        return found[0] if found is not None else None

    def keep(self, kind: str, said: Reading, world: World, shape: Shape) -> Shape:
        """Keep a shape, if it is of those that can be kept: it does nothing to names of the session."""
        if shape.reading.steps or not MAX_SHAPES:
            return shape
        if len(self._kept) >= MAX_SHAPES:
            self._kept.clear()
        base = shape.base  # without the text of the first that has it
        base = msgspec.structs.replace(base, values={**base.values, "text": NONE})
        kept = Shape(base, shape.reading, kept=True)
        # With what it is of, so that nothing else takes its place in memory.
        self._kept[kind, id(said), id(world)] = (kept, said, world)
        return kept

    def clear(self) -> None:
        """Forget them: what all facts of the flow have is another."""
        self._kept.clear()
