"""Where the columns of a relation come from: views to their base columns, both ways along inheritance.

A view whose definition is read whole gives each column its own base columns; one that is not gives every
column all columns of all relations it depends on, and counts as a call of unknown code if a function in it is
not known.
"""

import msgspec

from appliance.facts.catalog import Catalog, Relation, View, full
from appliance.facts.sql.reading import NONE, Names, Output
from appliance.facts.sql.tree import Unreadable, parse
from appliance.facts.sql.walk import Env, Walk
from appliance.facts.sql.world import World

LEAKY = frozenset(
    """
pg_statistic pg_stats pg_statistic_ext_data pg_stats_ext pg_stats_ext_exprs pg_largeobject
""".split()
)
"""Relations of pg_catalog that hold values of other tables."""


class Known(msgspec.Struct, frozen=True):
    """What is known of a relation."""

    outputs: tuple[Output, ...]
    tables: Names  # its own name, and all others its rows are stored under
    opaque: str = ""  # reading it may do anything, and why
    runs: str = ""  # writing to it runs code of a user: the relation with triggers or rules
    doubt: str = ""  # its columns may hold more than is shown, and why
    row: Names = NONE  # what a whole row of it holds


def known(catalog: Catalog, relation: Relation) -> Known:
    """Return what is known of a relation; worked out once for each catalogue."""
    found = catalog.memory.get(relation.oid)
    if isinstance(found, Known):
        return found
    own = frozenset((relation.full,))
    catalog.memory[relation.oid] = Known((), own, doubt=f"{relation.full} refers to itself")
    view = catalog.views.get(relation.oid)
    result = _table(catalog, relation) if view is None else _view(catalog, relation, view)
    row = frozenset((f"{relation.full}.*",)).union(*(output.names for output in result.outputs))
    result = msgspec.structs.replace(result, row=row)
    catalog.memory[relation.oid] = result
    return result


def origin(catalog: Catalog, table: int, attribute: int) -> Names | None:
    """Return the names of a column given as in RowDescription, or None if it is none we know."""
    relation = catalog.relations.get(table)
    if relation is None or attribute <= 0:
        return None
    if relation.schema in ("pg_catalog", "pg_toast") and relation.name in LEAKY:
        return None
    about = known(catalog, relation)
    if about.doubt:
        return None
    for output in about.outputs:
        if output.attribute == attribute:
            return output.names
    return None


def _column(relation: str, name: str) -> str:
    return f"{relation}.{full(name)}"


def _table(catalog: Catalog, relation: Relation) -> Known:
    family, whole = catalog.family(relation)
    others = [(r.full, frozenset(a.name for a in r.attributes or ())) for r in family]
    outputs = tuple(
        Output(
            a.name,
            frozenset(_column(f, a.name) for f in (relation.full, *(o for o, names in others if a.name in names))),
            relation.oid,
            a.number,
        )
        for a in relation.attributes or ()
    )
    tables = frozenset((relation.full, *(name for name, _ in others)))
    runs = next((r.full for r in (relation, *family) if r.triggers or r.rules), "")
    return Known(outputs, tables, runs=runs, doubt="" if whole else f"{relation.full} has too many partitions")


def _view(catalog: Catalog, relation: Relation, view: View) -> Known:
    definition, uses = view.definition, view.uses
    state = catalog.state
    walk = Walk(World(catalog.path, state.user, state.temp, catalog, True, closed=frozenset(state.closed)))
    try:
        tree = parse(definition or "")
        walk.enter("SelectStmt", tree.stmts[0].stmt.select_stmt, Env())
    except (Unreadable, IndexError):
        walk.doubt("the definition cannot be read")
    attributes = relation.attributes or ()
    found = walk.outputs
    understood = not walk.unknown and len(found) == len(attributes)
    if not understood:
        everything = _everything(catalog, uses or ()) | frozenset(walk.sets["column"])
        found = [Output(a.name, everything) for a in attributes]
    outputs = tuple(
        Output(a.name, o.names | {_column(relation.full, a.name)}, relation.oid, a.number)
        for a, o in zip(attributes, found, strict=True)
    )
    tables = frozenset(walk.sets["table"]).union((relation.full,), *(_tables(catalog, o) for o in uses or ()))
    why = f"view {relation.full}: {'; '.join(walk.why)}" if walk.unknown else ""
    below = [known(catalog, catalog.relations[oid]).runs for oid in uses or () if oid in catalog.relations]
    runs = relation.full if relation.triggers or relation.rules else next(filter(None, below), "")
    return Known(outputs, tables, opaque=why, runs=runs)


def _everything(catalog: Catalog, uses: tuple[int, ...]) -> Names:
    names: set[str] = set()
    for oid in uses:
        relation = catalog.relations.get(oid)
        if relation is not None:
            names.update(*(output.names for output in known(catalog, relation).outputs))
    return frozenset(names)


def _tables(catalog: Catalog, oid: int) -> Names:
    relation = catalog.relations.get(oid)
    return known(catalog, relation).tables if relation is not None else NONE
