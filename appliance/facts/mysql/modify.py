"""Changes of rows: what they write, and what they copy there."""

from collections.abc import Sequence

from appliance.facts.mysql.names import full
from appliance.facts.mysql.reading import NONE, Names, Output
from appliance.facts.mysql.relations import source
from appliance.facts.mysql.select import from_clause, items, ordered, query, with_clause
from appliance.facts.mysql.tree import (
    Combined,
    Delete,
    Insert,
    Join,
    Name,
    Node,
    Query,
    Rows,
    Select,
    Source,
    Table,
    Update,
)
from appliance.facts.mysql.values import matching, union, value, values
from appliance.facts.mysql.walk import Env, Walk
from appliance.facts.mysql.walk import Source as Columns


def insert(walk: Walk, made: Insert, env: Env) -> list[Output]:
    """Note what INSERT and REPLACE do; return what RETURNING gives."""
    walk.add("effect", "write")
    target = source(walk, made.target.parts, writing=True)
    written = _columns(target, made.columns) if made.columns else target.whole()
    walk.sets["written"] |= written
    below = Env(env)
    below.sources = [target]
    if made.query is not None:
        rows = isinstance(made.query.body, Rows)
        walk.sets["copied"] |= union(query(walk, made.query, below if rows else env))
        if made.updates:
            below = Env(env)
            below.sources = [target, *_seen(walk, made.query, env)]
    if made.tests:
        walk.compare(written)  # whether such a row is there can be seen in what becomes of it
    if made.row_alias:
        below.sources.append(Columns(made.row_alias, None))
    walk.compare(_assign(walk, made.updates, below))  # as UPDATE
    _cascade(walk, [target], deletes=made.tests, written=written)
    return items(walk, made.returning, below)


def _seen(walk: Walk, made: Query, env: Env) -> list[Columns]:
    """Return what a query takes its rows from: ON DUPLICATE KEY UPDATE sees that too."""
    inner = with_clause(walk, made.ctes, made.recursive, env)
    match made.body:
        case Select(_, sources):
            below = Env(inner)
            from_clause(walk, sources, below)
            return below.sources
        case Combined(parts):
            return [source for part in parts for source in _seen(walk, part, inner)]
    return []


def update(walk: Walk, made: Update, env: Env) -> list[Output]:
    """Note what UPDATE does."""
    walk.add("effect", "write")
    inner = with_clause(walk, made.ctes, made.recursive, env)
    below = Env(inner, base=inner)
    from_clause(walk, made.sources, below)
    _run_triggers(walk, made.sources)
    written = _assign(walk, made.sets, below)
    walk.compare(written)  # the answer counts the rows it changed: not those that held this value already
    walk.compare(values(walk, made.where, below))
    walk.compare(ordered(walk, made.order, below, []))
    _cascade(walk, below.sources, deletes=False, written=written)
    return items(walk, made.returning, below)


def delete(walk: Walk, made: Delete, env: Env) -> list[Output]:
    """Note what DELETE does."""
    walk.add("effect", "write")
    inner = with_clause(walk, made.ctes, made.recursive, env)
    below = Env(inner, base=inner)
    from_clause(walk, made.sources, below)
    _run_triggers(walk, made.sources)
    targets = [s for parts in made.targets for s in matching(walk, parts, below)]
    if made.targets and len(targets) < len(made.targets):
        targets = below.sources
    for target in targets or below.sources:
        walk.sets["written"] |= target.whole()
    walk.compare(values(walk, made.where, below))
    walk.compare(ordered(walk, made.order, below, []))
    _cascade(walk, targets or below.sources, deletes=True, written=NONE)
    return items(walk, made.returning, below)


def _columns(target: Columns, names: Sequence[str]) -> Names:
    found = [target.column(name) or Output(name, frozenset((f"{target.prefix}.{full(name)}",))) for name in names]
    return union(found)


def _assign(walk: Walk, sets: Sequence[tuple[Name, Node]], env: Env) -> Names:
    written = NONE
    for name, node in sets:
        walk.sets["copied"] |= value(walk, node, env)
        sources = matching(walk, name.parts[:-1], env) if len(name.parts) > 1 else env.sources
        found = [c for c in (s.column(name.parts[-1]) for s in sources) if c is not None]
        written |= union(found) if found else NONE.union(*(s.whole() for s in env.sources))
    walk.sets["written"] |= written
    return written


def _run_triggers(walk: Walk, sources: Sequence[Source]) -> None:
    """Note tables whose triggers a change may run."""
    for item in sources:
        match item:
            case Table(parts):
                source(walk, parts, writing=True)
            case Join(inner):
                _run_triggers(walk, inner)


def _cascade(walk: Walk, targets: Sequence[Columns], *, deletes: bool, written: Names) -> None:
    """Note relations that foreign keys change."""
    catalog = walk.world.catalog
    if catalog is None:
        return
    todo = [(target.path, deletes, written) for target in targets if target.path is not None]
    seen = {path for path, _, _ in todo}
    while todo:
        path, gone, names = todo.pop()
        for child in catalog.swept(path, gone, names):
            if child not in seen:
                seen.add(child)
                walk.spend(10)
                walk.add("table", full(*child))
                walk.add("written", f"{full(*child)}.*")
                todo.append((child, True, NONE))
