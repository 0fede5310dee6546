"""Queries: where their columns come from, and what decides which rows come."""

from collections.abc import Sequence

from appliance.facts.mysql.reading import COLUMNS, NONE, Names, Output
from appliance.facts.mysql.relations import source as relation
from appliance.facts.mysql.tree import (
    Combined,
    Cte,
    Derived,
    Item,
    Join,
    Made,
    Name,
    Node,
    Nothing,
    Query,
    Rows,
    Select,
    Source,
    Star,
    Table,
)
from appliance.facts.mysql.values import reads_queries, star, union, value, values
from appliance.facts.mysql.walk import Common, Env, Walk
from appliance.facts.mysql.walk import Source as Columns

MAX_ROUNDS = 20  # visits of a recursive query until what its columns hold does not grow; more: unknown


@reads_queries
def query(walk: Walk, made: Query, env: Env) -> list[Output]:
    """Note what a query does and return its columns."""
    if not isinstance(made.body, Rows):
        walk.add("effect", "read")
    inner = with_clause(walk, made.ctes, made.recursive, env)
    scope = inner
    match made.body:
        case Select():
            scope = Env(inner, base=inner)
            outputs = _select(walk, made.body, scope)
        case Combined(parts, distinct):
            outputs = _combined(walk, [query(walk, part, inner) for part in parts], distinct)
        case Rows(rows):
            outputs = _rows(walk, rows, inner)
    walk.compare(ordered(walk, made.order, scope, outputs))
    walk.compare(values(walk, made.limit, scope))
    if made.locks:
        walk.add("effect", "lock")
    if made.into is not None:
        walk.sets["copied"] |= union(outputs)
        if made.into.file:
            walk.add("effect", "file", "copy")
            walk.add("copy", "out", "file")
    return outputs


def with_clause(walk: Walk, ctes: Sequence[Cte], recursive: bool, env: Env) -> Env:
    """Read WITH and return the level of names below it."""
    if not ctes:
        return env
    below = Env(env)
    for cte in ctes:
        if cte.name.casefold() in below.ctes:
            walk.doubt("names of WITH that differ in case only, if at all")
        if recursive:  # each sees all, in whatever order they are written
            below.ctes[cte.name.casefold()] = Common(cte, below)
        else:  # each sees those before it
            seen = Env(env)
            seen.ctes = dict(below.ctes)
            below.ctes[cte.name.casefold()] = Common(cte, seen)
    for common in below.ctes.values():
        _read(walk, common)
    return below


def _read(walk: Walk, common: Common) -> None:
    """Read a common table expression unless that was done."""
    if common.state != "new":
        return
    common.state = "busy"
    common.outputs = _renamed(query(walk, common.cte.query, common.env), common.cte.columns)
    for _ in range(MAX_ROUNDS):
        if common.state != "recursive":
            break
        common.state = "busy"  # again, with what its own columns were found to hold
        found = _renamed(query(walk, common.cte.query, common.env), common.cte.columns)
        if found == common.outputs:
            common.state = "done"
        common.outputs = found
    if common.state == "recursive":
        walk.doubt("a recursive query was not followed to its end", COLUMNS)
    common.state = "done"


def _renamed(outputs: list[Output], names: Sequence[str]) -> list[Output]:
    if not names:
        return outputs
    if len(names) == len(outputs) and not any(o.name == "*" for o in outputs):
        return [Output(n.lower(), o.names, o.sure, o.plain) for n, o in zip(names, outputs, strict=True)]
    return [Output(n.lower(), union(outputs), sure=False, plain=False) for n in names]


def _combined(walk: Walk, parts: list[list[Output]], distinct: bool) -> list[Output]:
    outputs, *others = parts
    for other in others:
        walk.spend(len(outputs))
        if len(other) == len(outputs) and not any(o.name == "*" for o in (*outputs, *other)):
            outputs = [
                Output(a.name, a.names | b.names, a.sure and b.sure, a.plain and b.plain)
                for a, b in zip(outputs, other, strict=True)
            ]
        else:
            everything = union(outputs) | union(other)
            outputs = [Output(o.name, everything, sure=False, plain=False) for o in outputs]
    if distinct:
        walk.compare(union(outputs))
    return outputs


def _rows(walk: Walk, rows: Sequence[Sequence[Node]], env: Env) -> list[Output]:
    columns: list[Names] = []
    for row in rows:
        walk.spend(1)
        for at, node in enumerate(row):
            names = value(walk, node, env) if not isinstance(node, Nothing) else NONE
            if at < len(columns):
                columns[at] |= names
            else:
                columns.append(names)
    return [Output(f"column_{at}", names, plain=False) for at, names in enumerate(columns)]


def _select(walk: Walk, made: Select, env: Env) -> list[Output]:
    from_clause(walk, made.sources, env)
    outputs = items(walk, made.items, env)
    walk.compare(values(walk, made.where, env))
    walk.compare(ordered(walk, made.group, env, outputs))
    walk.compare(ordered(walk, [n for n in made.having if not isinstance(n, Nothing)], env, outputs))
    walk.compare(values(walk, made.windows, env))
    if made.distinct:
        walk.compare(union(outputs))
    return outputs


def items(walk: Walk, found: Sequence[Item], env: Env) -> list[Output]:
    """Read a select list and return its columns."""
    outputs: list[Output] = []
    for item in found:
        walk.spend(5)
        walk.sure = walk.plain = True
        if isinstance(item.node, Star):
            mixed = any(isinstance(s, _Merged) for s in env.sources) and not item.node.parts
            stars = star(walk, item.node.parts, env)
            outputs += [Output("*", union(stars), sure=False, plain=False)] if mixed else stars
        else:
            names = value(walk, item.node, env)
            outputs.append(Output(item.name.lower(), names, walk.sure, isinstance(item.node, Name) and walk.plain))
    return outputs


def ordered(walk: Walk, nodes: Sequence[Node], env: Env, outputs: list[Output]) -> Names:
    """Return the columns of ORDER BY, GROUP BY or HAVING: expressions, positions or names of the output."""
    names = NONE
    both = Env(env.parent, base=env.base)  # which of them a name means depends on the clause, and on the server
    both.ctes, both.variables = env.ctes, env.variables
    both.sources = [*env.sources, Columns("", [o for o in outputs if o.name not in ("", "*")])]
    for node in nodes:
        if isinstance(node, Nothing):
            sure = 0 < node.place <= len(outputs) and not any(o.name == "*" for o in outputs)
            # A parameter, TRUE and a number with a sign before it are places too: of MariaDB, which may be any.
            names |= NONE if node.text else outputs[node.place - 1].names if sure else union(outputs)
            continue
        names |= value(walk, node, both)
    return names


# -- FROM -------------------------------------------------------------------------------------------------------------


class _Merged(Columns):
    """Columns that a join takes once: where they stand in * is not worked out."""

    __slots__ = ()


def from_clause(walk: Walk, sources: Sequence[Source], env: Env) -> None:
    """Read FROM; its sources go to `env`, each seen by what comes after it if that is LATERAL."""
    for item in sources:
        _from_item(walk, item, env)


def _from_item(walk: Walk, item: Source, env: Env) -> None:
    match item:
        case Table(parts, alias, _, divided):
            found = _table(walk, parts, alias, env)
            if divided:  # which rows are in which partition depends on their values
                walk.compare(found.whole())
            env.sources.append(found)
        case Derived(inner, alias, columns, lateral):
            outputs = query(walk, inner, env if lateral else env.base)
            env.sources.append(Columns(alias, _renamed(outputs, columns)))
        case Made(args, alias):
            names = values(walk, args, env)
            walk.compare(names)
            env.sources.append(Columns(alias, None, rest=names))
        case Join():
            _join(walk, item, env)


def _table(walk: Walk, parts: tuple[str, ...], alias: str, env: Env) -> Columns:
    common = env.common(parts[0].casefold()) if len(parts) == 1 else None
    if common is None:
        return relation(walk, parts, alias)
    if common.cte.name != parts[0]:  # of MySQL, that is the table where names of tables keep their case
        walk.doubt("a name that differs from one of WITH in case only")
    _read(walk, common)
    if common.state != "done":
        common.state = "recursive"
        if not common.outputs:
            return Columns(alias or parts[-1], None)  # what its columns hold is found in the next round
    return Columns(alias or parts[-1], common.outputs)


def _join(walk: Walk, join: Join, env: Env) -> None:
    before = len(env.sources)
    sides: list[list[Columns]] = []
    for item in join.sources:
        at = len(env.sources)
        _from_item(walk, item, env)
        sides.append(env.sources[at:])
    walk.spend(len(env.sources) - before)
    if join.using or join.natural:
        left, right = (*sides, [])[:2]
        _using(walk, join, left, right, env)
    # A condition sees what is joined, and what is around: a name that only an outer query has is found there.
    walk.compare(values(walk, join.on, env))


def _using(walk: Walk, join: Join, left: list[Columns], right: list[Columns], env: Env) -> None:
    """Compare the columns a join takes by name."""
    using = [name.lower() for name in join.using]
    if join.natural:
        sides = [[c for s in side for c in s.all()] for side in (left, right)]
        walk.spend(len(sides[0]) + len(sides[1]))
        if any(c.name == "*" for side in sides for c in side):
            walk.compare(union(sides[0]) | union(sides[1]))
        using = sorted({c.name for c in sides[0]} & {c.name for c in sides[1]} - {"", "*"})
    for name in using:
        walk.spend(len(left) + len(right))
        found = [c for c in (s.column(name) for s in (*left, *right)) if c is not None]
        walk.compare(union(found))
        walk.sets["column"] |= union(found)
    env.sources.append(_Merged("", []))
