"""What the MySQL flows of one worker share: catalogues, and texts already read.

Programs send the same few statements with other values in them. So what was read is kept by its shape (shape.py): the
tokens, with literals that cannot matter left open. To find the shape takes a look at each token, so it is kept by the
outline of the text, where that has one.
"""

from appliance.facts.entry import Entry
from appliance.facts.mysql.catalog import Catalog
from appliance.facts.mysql.lexer import Unreadable
from appliance.facts.mysql.read import read
from appliance.facts.mysql.reading import Reading, unread
from appliance.facts.mysql.shape import outline, shape
from appliance.facts.mysql.world import World
from appliance.facts.shared import Shared

MAX_READINGS = 2_000  # shapes kept with what they mean; drivers send fewer distinct ones
MAX_KEPT = 8_192  # characters of a text that is kept, and of a shape; with MAX_READINGS at most 16 MB each of three
MAX_WORLDS = 500  # settings under which they were read
MAX_ENTRIES = 1_000  # pairs of server and user


class Store:
    """Mutable; one for each worker."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry[Catalog]] = {}
        self._worlds: dict[tuple[object, ...], World] = {}
        self._texts: dict[tuple[str, World], Reading] = {}
        self._shapes: dict[tuple[str, World], Reading] = {}
        self._outlines: dict[tuple[str, World], Reading] = {}

    def entry(self, shared: Shared, server: str, user: str) -> Entry[Catalog]:
        """Return the place of a catalogue as a user sees it; one of its own for a server without a name.

        What one user changes, others see too: so what is said of changes is said of the server.
        """
        if not server:
            return Entry(shared)
        found = self._entries.get((server, user))
        if found is None:
            if len(self._entries) >= MAX_ENTRIES:
                del self._entries[next(iter(self._entries))]
            found = self._entries[server, user] = Entry(shared, server, alias=user)
        return found

    def world(self, world: World) -> World:
        """Return the one object for all equal worlds, so that what was read in one serves the others."""
        key = (
            world.mode, world.database, id(world.catalog), world.needs_catalog, world.stale, world.temporary
        )  # fmt: skip
        if key not in self._worlds:
            if len(self._worlds) >= MAX_WORLDS:
                self._worlds.clear()
                for kept in (self._texts, self._shapes, self._outlines):
                    kept.clear()
            self._worlds[key] = world
        return self._worlds[key]

    def drop(self, catalog: Catalog | None) -> None:
        """Forget what was read by a catalogue that is replaced."""
        if catalog is not None:
            self._worlds = {key: world for key, world in self._worlds.items() if world.catalog is not catalog}
            self._texts = {key: r for key, r in self._texts.items() if key[1].catalog is not catalog}
            self._shapes = {key: r for key, r in self._shapes.items() if key[1].catalog is not catalog}
            self._outlines = {key: r for key, r in self._outlines.items() if key[1].catalog is not catalog}

    def read(self, text: str, world: World) -> Reading:
        """Return what the text means in this world."""
        found = self._texts.get((text, world))
        if found is not None:
            return found
        lines = outline(text) if len(text) <= MAX_KEPT else ""
        found = self._outlines.get((lines, world)) if lines else None
        if found is not None:
            return found
        found, shaped = self._shaped(text, world)
        if lines and shaped:
            _keep(self._outlines, (lines, world), found)
        elif len(text) <= MAX_KEPT:
            _keep(self._texts, (text, world), found)
        return found

    def _shaped(self, text: str, world: World) -> tuple[Reading, bool]:
        """Return what a text means, and whether all texts of its shape mean that."""
        try:
            made = shape(text, world.mode)
        except Unreadable as error:
            return unread(str(error)), False
        if not made:
            return read(text, world), False
        found = self._shapes.get((made, world))
        if found is None:
            found = read(made, world)
            if len(made) <= MAX_KEPT:
                _keep(self._shapes, (made, world), found)
        return found, True


def _keep(kept: dict[tuple[str, World], Reading], key: tuple[str, World], reading: Reading) -> None:
    if not MAX_READINGS:
        return
    if len(kept) >= MAX_READINGS:
        del kept[next(iter(kept))]
    kept[key] = reading
