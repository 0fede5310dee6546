"""Relations: tables, views to their base columns, and what the server itself keeps of its users' values.

A view whose definition is read whole gives each column its own base columns; of one that is not, nothing is known. In
schemas of the server all but a list of harmless relations may hold values of other tables: statistics, statements of
others, keys that are locked.
"""

from collections.abc import Mapping

import msgspec

from appliance.facts.mysql.catalog import Catalog, Relation
from appliance.facts.mysql.lexer import Mode
from appliance.facts.mysql.names import full
from appliance.facts.mysql.reading import NONE, RELATIONS, Names, Output
from appliance.facts.mysql.walk import Source, Walk
from appliance.facts.mysql.world import World

OWN = frozenset("information_schema mysql ndbinfo performance_schema sys".split())
"""Schemas of the server."""

ANY = "?.?.?"  # a column it is not known which: every rule for columns could mean it
ANY_TABLE = "?.?"

HARMLESS = frozenset(
    """
applicable_roles character_sets check_constraints collation_character_set_applicability collations column_privileges
columns enabled_roles engines events files global_status global_variables innodb_columns innodb_indexes innodb_tables
key_column_usage keycaches keywords parameters partitions plugins referential_constraints resource_groups routines
schema_privileges schemata schemata_extensions session_status session_variables spatial_ref_sys sql_functions
st_geometry_columns st_units_of_measure statistics system_variables table_constraints table_privileges tables
tablespaces triggers user_privileges views
""".split()
)
"""Relations of information_schema that tell of the schema only."""


_COUNTS = ("global_status", "global_variables", "session_status", "session_variables", "status_by_", "variables_info")


class Known(msgspec.Struct, frozen=True):
    """What is known of a relation."""

    outputs: tuple[Output, ...]
    tables: Names  # its own name, and those of all its rows come from
    opaque: str = ""  # reading it may do anything, and why


def source(walk: Walk, parts: tuple[str, ...], alias: str = "", *, writing: bool = False) -> Source:
    """Note that a statement touches a relation, and return its columns."""
    path = walk.world.relation(parts)
    word = full(*path)
    walk.add("table", word)
    named = alias or parts[-1]
    if path[0].casefold() in OWN:
        return _of_the_server(walk, path, named, writing)
    catalog = walk.world.catalog
    relation = catalog.find(*path) if catalog is not None else None
    own = path in walk.world.temporary  # unless it was not made after all, or is gone: then it is the other one
    if catalog is None or relation is None:
        if walk.world.needs_catalog and not own:
            walk.doubt(f"relation {word} is not in the catalogue", RELATIONS)
            walk.missing.add(word)
        return Source(named, None, path=path)
    found = known(catalog, relation)
    walk.sets["table"] |= found.tables
    if found.opaque:
        walk.opaque(found.opaque)
    if writing and relation.triggers:
        walk.opaque(f"{word} has triggers")
    outputs = found.outputs
    if own:
        outputs = (*outputs, Output("*", sure=False))
    if walk.world.stale:
        walk.doubt("the schema was changed since the catalogue was read", RELATIONS)
        outputs = (*outputs, Output("*", frozenset((f"{word}.*",)), sure=False))
    hidden = frozenset(c.name.lower() for c in relation.columns if c.invisible)
    walk.spend(len(outputs))
    return Source(named, outputs, path=path, hidden=hidden)


def _of_the_server(walk: Walk, path: tuple[str, str], alias: str, writing: bool) -> Source:
    schema, name = path[0].casefold(), path[1].casefold()
    if writing:
        walk.add("effect", "admin", "grant" if schema == "mysql" else "admin")
        walk.changes = True
    if schema == "information_schema" and name in HARMLESS:
        return Source(alias, None, path=path)
    if schema == "performance_schema" and name.startswith(_COUNTS):
        return Source(alias, None, path=path)
    walk.add("table", ANY_TABLE)  # it may hold values of any table
    return Source(alias, None, path=path, rest=frozenset((ANY,)))


def known(catalog: Catalog, relation: Relation) -> Known:
    """Return what is known of a relation; worked out once for each catalogue."""
    found = catalog.memory.get(relation.path)
    if isinstance(found, Known):
        return found
    own = frozenset((full(*relation.path),))
    catalog.memory[relation.path] = Known((), own | {ANY_TABLE})  # if it refers to itself
    result = _view(catalog, relation) if relation.view is not None else _table(relation)
    catalog.memory[relation.path] = result
    return result


def _table(relation: Relation) -> Known:
    word = full(*relation.path)
    more = frozenset((ANY,)) if relation.foreign else NONE  # kept by an engine that reads other tables
    every = tuple(c.name.lower() for c in relation.columns)
    made_of = {c.name.lower(): every if c.cut else c.made_of for c in relation.columns}
    names = {c.name.lower(): f"{word}.{full(c.name)}" for c in relation.columns}
    outputs = [Output(name, more.union(names[one] for one in _sources(name, made_of))) for name in names]
    return Known(tuple(outputs), frozenset((word, ANY_TABLE) if relation.foreign else (word,)))


def _sources(name: str, made_of: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Return a column and all it is generated from, by way of other generated columns too."""
    found, todo = {name}, [name]
    while todo:
        new = {one for one in made_of[todo.pop()] if one in made_of} - found
        found |= new
        todo += new
    return found


def _view(catalog: Catalog, relation: Relation) -> Known:
    from appliance.facts.mysql.read import read  # a view is a text again  # noqa: PLC0415

    word, text = full(*relation.path), relation.view or ""
    own = {c.name: frozenset((f"{word}.{full(c.name)}",)) for c in relation.columns}
    hidden = Known(
        tuple(Output(name.lower(), names | {ANY}, sure=False, plain=False) for name, names in own.items()),
        frozenset((word, ANY_TABLE)),
    )
    if not text or "\\'" in text or '\\"' in text:  # whether that ends a string is not certain
        return hidden
    inner = read(text, World(Mode(), relation.path[0], catalog, True))
    columns = inner.results[0] if len(inner.results) == 1 else None
    if {"table", "column"} & inner.unknown or columns is None or inner.values["effect"] - {"read"}:
        opaque = inner.why if "procedure" in inner.values["effect"] else ""
        return Known(hidden.outputs, hidden.tables | inner.values["table"], opaque)
    if len(columns) != len(own) or any(c.name == "*" for c in columns):
        return hidden
    outputs = [
        Output(name.lower(), names | column.names, column.sure, column.plain)
        for (name, names), column in zip(own.items(), columns, strict=True)
    ]
    return Known(tuple(outputs), inner.values["table"] | {word})
