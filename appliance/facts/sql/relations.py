"""Relations named in a text."""

from collections.abc import Iterable
from typing import Any

from appliance.facts.catalog import Relation, full
from appliance.facts.sql.lineage import LEAKY, Known, known
from appliance.facts.sql.reading import RELATIONS, Names, Output
from appliance.facts.sql.walk import Env, Source, Walk, visits

_FULL_NAME_PARTS = 3  # database.schema.relation


def table(
    walk: Walk, schema: str, name: str, writing: bool = False, *, lacking: Names = RELATIONS
) -> list[tuple[Relation, Known]]:
    """Note a relation by name, and return what the catalogue has under it; `lacking` is unknown if it has not."""
    world = walk.world
    found = world.find(schema, name)
    if walk.ddl and world.needs_catalog:
        walk.doubt("a relation is named after the schema was changed", RELATIONS)
    if world.stale:
        walk.doubt("the schema was changed since the catalogue was read", RELATIONS)
    if (schema in ("", "pg_catalog") and name in LEAKY) or schema == "pg_toast":
        walk.doubt(f"{name} holds values of other tables", RELATIONS)
    if not found or world.catalog is None:
        walk.add("table", _unfound(walk, schema, name))
        if world.needs_catalog:
            walk.missing.add(f"{schema}.{name}" if schema else name)
            walk.doubt(f"relation {name} is not in the catalogue", lacking)
        return []
    if len(found) > 1:
        walk.doubt("the search path is not known", RELATIONS)
    about = [(relation, known(world.catalog, relation)) for relation in found]
    for _, what in about:
        walk.sets["table"] |= what.tables
        if what.opaque:
            walk.opaque(what.opaque)
        if what.doubt:
            walk.doubt(what.doubt, RELATIONS)
        if writing and what.runs:
            walk.opaque(f"{what.runs} has triggers or rules")
    return about


def sweep(walk: Walk, var: Any, changed: Iterable[Any] = (), deleted: bool = False) -> None:
    """Note what foreign keys change when columns of a relation are assigned to, or its rows deleted."""
    columns = frozenset(node.res_target.name for node in changed)
    catalog = walk.world.catalog
    for relation in walk.world.find(var.schemaname, var.relname) if catalog is not None else ():
        assert catalog is not None
        walk.spend(len(known(catalog, relation).tables) // 4)
        for child in catalog.swept(relation, deleted, columns):
            about = known(catalog, child)
            walk.sets["table"] |= about.tables
            walk.sets["written"] |= {f"{child.full}.*"}.union(*(o.names for o in about.outputs))
            if about.runs:
                walk.opaque(f"{about.runs} has triggers or rules")


def _unfound(walk: Walk, schema: str, name: str) -> str:
    if not schema and name.startswith("pg_") and walk.world.builtin_first and not walk.world.needs_catalog:
        return full("pg_catalog", name)
    return full(schema or "?", name)


def source(walk: Walk, var: Any, writing: bool = False) -> Source:
    """Note a relation named by a RangeVar, and return it as a source of columns."""
    about = table(walk, var.schemaname, var.relname, writing)
    alias = var.alias.aliasname if var.HasField("alias") else ""
    if not about:
        name = _unfound(walk, var.schemaname, var.relname)
        made = Source(alias or var.relname, names=() if alias else (name,), prefixes=(name,))
    else:
        columns = [output for _, what in about for output in what.outputs]
        full_names = [relation.full for relation, _ in about]
        row = about[0][1].row if len(about) == 1 else None
        walk.spend(len(columns) // 4 + len(row or ()) // 16)
        names = () if alias else full_names
        made = Source(alias or var.relname, columns, names=names, prefixes=full_names, row=row)
    return renamed(made, [c.string.sval for c in var.alias.colnames]) if var.alias.colnames else made


def renamed(made: Source, names: list[str]) -> Source:
    """Return the source with its first columns renamed, as `t(a, b)` does."""
    if not names:
        return made
    columns = made.all()
    if any(c.name == "*" for c in columns):
        rest = made.whole()
        return Source(made.alias, [Output(n, rest) for n in names], prefixes=made.prefixes, rest=rest, loose=True)
    new = [Output(n, c.names, c.table, c.attribute) for n, c in zip(names, columns, strict=False)]
    return Source(made.alias, [*new, *columns[len(names) :]], prefixes=made.prefixes)


@visits("RangeVar")
def _range_var(walk: Walk, var: Any, env: Env) -> frozenset[str]:
    """A relation mentioned by some statement: it is noted, none of its columns is read."""
    table(walk, var.schemaname, var.relname)
    return frozenset()


def temporary(var: Any) -> bool:
    """Return True if a relation is made for this session alone."""
    return bool(var.relpersistence == "t" or var.schemaname == "pg_temp")


def dotted(nodes: Any) -> tuple[str, ...]:
    """Return the parts of a qualified name given as a list of String nodes."""
    return tuple(n.string.sval for n in nodes)


def named(walk: Walk, parts: tuple[str, ...]) -> None:
    """Note a relation named by the parts of a qualified name; no value of it is read."""
    if parts and len(parts) <= _FULL_NAME_PARTS:
        table(walk, parts[-2] if len(parts) > 1 else "", parts[-1], lacking=frozenset(("table",)))
