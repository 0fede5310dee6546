"""What names in a text are resolved against: the settings of the session and, if needed, the catalogue.

Source: PostgreSQL manual, "The Schema Search Path" and "Client Connection Defaults" (search_path).
"""

import msgspec

from appliance.facts.catalog import Catalog, Relation, full


class World(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One way to resolve names. Two texts read alike in the same World have the same meaning."""

    path: tuple[str, ...] | None = ("$user", "public")  # None: not known
    user: str = ""
    temp: str = ""  # schema of our own temporary tables
    catalog: Catalog | None = None
    needs_catalog: bool = False  # without one, relations and columns are unknown
    stale: bool = False  # the schema was changed since the catalogue was read
    closed: frozenset[str] | None = frozenset()  # schemas the role may not use; None: not known
    held: bool = False  # search_path or role were set in the transaction that is open
    made: bool = False  # the schema was changed in it
    strings: bool = True  # standard_conforming_strings
    encoded: bool = True  # the client's encoding cannot hide a quote or backslash inside a character

    @property
    def builtin_first(self) -> bool:
        """True if an unqualified function or operator means the built-in one."""
        return self.path is not None and ("pg_catalog" not in self.path or self.path[0] == "pg_catalog")

    def schemas(self) -> tuple[str, ...]:
        """Return the schemas in which a relation is looked for, in order."""
        path = self._open()
        if "pg_catalog" not in path:
            path = ("pg_catalog", *path)
        return path if self.temp in path or not self.temp else (self.temp, *path)

    def _open(self) -> tuple[str, ...]:
        closed = self.closed or ()
        return tuple(name for name in map(self.own, self.path or ()) if name not in closed)

    def own(self, schema: str) -> str:
        """Return the schema a name in search_path or before a dot stands for."""
        if schema == "$user":
            return self.user
        return self.temp or "pg_temp" if schema == "pg_temp" else schema

    def find(self, schema: str, name: str) -> list[Relation]:
        """Return the relations a name may mean; more than one if the search path is not known."""
        if self.catalog is None:
            return []
        if schema:
            only = self.catalog.find(self.own(schema), name)
            return [only] if only else []
        if self.path is None:
            return list(self.catalog.anywhere(name))
        found = []
        for candidate in self.schemas():
            one = self.catalog.find(candidate, name)
            if one and one not in found:
                found.append(one)
                if self.closed is not None or candidate in (self.temp, "pg_catalog"):
                    break
        return found

    def shadowed(self, names: frozenset[tuple[str, str]], name: str) -> bool:
        """Return True if a (schema, name) of these could be meant by a name without a schema."""
        if self.path is None:
            return True
        return bool(names) and any((schema, name) in names for schema in self.schemas())

    def makes(self, schema: str, name: str, temporary: bool) -> str:
        """Return the full name a relation gets that is created under this name."""
        if temporary or schema == "pg_temp":
            return full("pg_temp", name)
        if schema:
            return full(schema, name)
        if self.catalog is None or self.path is None:
            return full("?", name)
        found = [s for s in self._open() if s in self.catalog.schemas]
        sure = found and (self.closed is not None or len(found) == 1)
        return full(found[0] if sure else "?", name)
