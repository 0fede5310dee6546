"""What the requests of one flow have in common that say the same with other values.

A program runs a few statements again and again, with other parameters. What such a statement does is found out once;
what differs is the text with its parameters. `Facts.shape` tells whoever judges them, so that a verdict that does not
look at texts is found once too.
"""

import msgspec

from appliance.facts import Facts
from appliance.facts.sql import Reading, World

MAX_SHAPES = 128  # of one flow; about 2 kB each. Programs repeat a few dozen statements
MAX_TEXT = 8_192  # characters of a statement whose shape is kept; with MAX_SHAPES at most 1 MB


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
    """Those of one flow, by kind of message, what it says and the world it is read in."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str | int, int], tuple[Shape, object, World]] = {}

    def get(self, kind: str, what: str | Reading, world: World) -> Shape | None:
        """Return the shape of a text, or of one that was read already, in a world."""
        found = self._kept.get((kind, what if isinstance(what, str) else id(what), id(world)))
        return found[0] if found is not None else None

    def keep(self, kind: str, what: str | Reading, world: World, shape: Shape) -> Shape:
        """Keep a shape, if it is of those that can be kept: it does nothing to names of the session."""
        if shape.reading.steps or not MAX_SHAPES or (isinstance(what, str) and len(what) > MAX_TEXT):
            return shape
        if len(self._kept) >= MAX_SHAPES:
            self._kept.clear()
        kept = Shape(shape.base, shape.reading, kept=True)
        # With what it is of, so that nothing else takes its place in memory.
        self._kept[kind, what if isinstance(what, str) else id(what), id(world)] = (kept, what, world)
        return kept

    def clear(self) -> None:
        """Forget them: what all facts of the flow have is another."""
        self._kept.clear()
