"""What the words of a text are read against: settings of the session and the catalogue."""

import msgspec

from appliance.facts.mysql.catalog import Catalog
from appliance.facts.mysql.lexer import Mode
from appliance.facts.mysql.names import full


class World(msgspec.Struct, frozen=True, eq=False):
    """One object for all equal ones: see `Store.world`."""

    mode: Mode = Mode()
    database: str = ""  # empty: none, or not known
    catalog: Catalog | None = None
    needs_catalog: bool = False  # rules name relations or columns: what the catalogue lacks is unknown
    stale: bool = False  # the schema was changed since the catalogue was read
    temporary: frozenset[tuple[str, str]] = frozenset()  # tables of this session alone

    def relation(self, parts: tuple[str, ...]) -> tuple[str, str]:
        """Return database ("?" if not known) and name of a relation as the server has them."""
        schema, name = parts if len(parts) > 1 else (self.database or "?", parts[-1])
        if self.catalog is not None:
            schema, name = self.catalog.spelled(schema, name)
        if schema.casefold() == "information_schema":
            return "information_schema", name.casefold()
        return schema, name

    def word(self, parts: tuple[str, ...]) -> str:
        """Return a relation as rules call it."""
        return full(*self.relation(parts))
