"""What the PostgreSQL flows of one worker share: catalogues, and texts already read."""

from appliance.facts.catalog import Catalog
from appliance.facts.entry import Entry
from appliance.facts.shared import Shared
from appliance.facts.sql import Reading, World
from appliance.facts.sql.alike import Alike, cut, looked
from appliance.facts.sql.read import examined

MAX_READINGS = 2_000  # texts kept with what they mean; drivers send fewer distinct ones
MAX_READ_TEXT = 8_192  # characters of a text that is kept; with MAX_READINGS at most 16 MB
MAX_WORLDS = 500  # settings under which they were read


class Store:
    """Mutable; one for each worker."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry[Catalog]] = {}
        self._worlds: dict[tuple[object, ...], World] = {}
        self._readings: dict[tuple[str, World], Reading] = {}
        self._alike = Alike()

    def entry(self, shared: Shared, server: str, database: str) -> Entry[Catalog]:
        """Return the place of a database's catalogue; one of its own for a server without a name."""
        if not server:
            return Entry(shared)
        found = self._entries.get((server, database))
        if found is None:
            found = self._entries[server, database] = Entry(shared, server, database, alias=database)
        return found

    def world(self, world: World) -> World:
        """Return the one object for all equal worlds, so that what was read in one serves the others."""
        key = (
            world.path, world.user, world.temp, id(world.catalog), world.needs_catalog, world.stale,
            world.closed, world.held, world.made, world.strings, world.encoded,
        )  # fmt: skip
        if key not in self._worlds:
            if len(self._worlds) >= MAX_WORLDS:
                self._worlds.clear()
                self._readings.clear()
                self._alike.clear()
            self._worlds[key] = world
        return self._worlds[key]

    def drop(self, catalog: Catalog | None) -> None:
        """Forget what was read by a catalogue that is replaced."""
        if catalog is not None:
            self._worlds = {key: world for key, world in self._worlds.items() if world.catalog is not catalog}
            self._readings = {key: r for key, r in self._readings.items() if key[1].catalog is not catalog}
            self._alike.drop(catalog)

    def read(self, text: str, world: World) -> Reading:
        """Return what the text means in this world."""
        key = (text, world)
        found = self._readings.get(key)
        if found is not None:
            return found
        parts = cut(text)
        found = self._alike.find(parts, world) if parts is not None else None
        if found is None:
            found, passed = examined(text, world)
            if parts is not None and passed:
                self._alike.learn(parts, world, found, looked(text, passed))
            if len(text) <= MAX_READ_TEXT:
                if len(self._readings) >= MAX_READINGS:
                    del self._readings[next(iter(self._readings))]
                self._readings[key] = found
        return found
