"""Statements that change rows: INSERT, UPDATE, DELETE, MERGE."""

from typing import Any

from postgast import pg_query_pb2 as pb

from appliance.facts.sql.reading import COLUMNS, NONE, Names, Output
from appliance.facts.sql.relations import source, sweep
from appliance.facts.sql.select import from_clause, query, targets, union, with_clause
from appliance.facts.sql.walk import Env, Source, Walk, visits


def _begin(walk: Walk, node: Any, env: Env, tag: str) -> tuple[Env, Source]:
    """Visit WITH and the target of a statement that writes; return the level of names and the target."""
    walk.add("effect", "write")
    walk.add("statement", tag)
    inner = with_clause(walk, node, env)
    scope = Env(inner, base=inner)
    target = source(walk, node.relation, writing=True)
    scope.sources.append(target)
    return scope, target


def _write(walk: Walk, target: Source, name: str = "") -> Names:
    """Note that a column of the target is written, all of them without a name; return its names."""
    column = target.column(name) if name else None
    if name and column is None:  # made by another connection since the catalogue was read
        walk.doubt(f"column {name} is not found", COLUMNS)
        walk.missing.add(f"column {name}")
        return NONE
    names = column.names if column is not None else target.whole()
    walk.sets["written"] |= names
    return names


def _beside(walk: Walk, nodes: Any, scope: Env) -> None:
    """Visit what stands beside the target; none of it sees that."""
    assert scope.parent is not None
    apart = Env(scope.parent, base=scope.parent)
    from_clause(walk, nodes, apart)
    scope.sources += apart.sources


def _assign(walk: Walk, target: Source, nodes: Any, env: Env) -> None:
    """Visit SET a = b, ...: what goes into another column than its own is copied."""
    for node in nodes:
        item = node.res_target
        walk.each(item.indirection, env)
        into = _write(walk, target, item.name)
        names = walk.visit(item.val, env)
        walk.sets["copied"] |= names - into
        if not item.val.HasField("column_ref"):
            walk.sets["reshaped"] |= names & into


def _returning(walk: Walk, node: Any, env: Env, row: Source) -> list[Output]:
    if not node.HasField("returning_clause"):
        return []
    walk.add("effect", "read")
    for option in node.returning_clause.options:
        renamed = option.returning_option.value  # RETURNING WITH (OLD AS o, NEW AS n)
        env.sources.append(Source(renamed, None, rest=row.whole()))
    outer = Env(env)
    for name in ("old", "new"):
        known = list(row.columns.values()) if row.columns is not None else None
        outer.sources.append(Source(name, known, prefixes=row.prefixes, rest=row.rest, loose=row.loose))
    below = Env(outer)
    below.sources = env.sources
    outer.parent = env.parent
    return targets(walk, node.returning_clause.exprs, below)


@visits("InsertStmt")
def _insert(walk: Walk, node: Any, env: Env) -> Names:
    scope, target = _begin(walk, node, env, "INSERT")
    assert scope.parent is not None
    values = query(walk, node.select_stmt, scope.parent)
    walk.sets["copied"] |= union(values)
    for column in node.cols:
        _write(walk, target, column.res_target.name)
        walk.each(column.res_target.indirection, scope)
    if not node.cols:
        _write(walk, target)
    if node.HasField("on_conflict_clause"):
        clause = node.on_conflict_clause
        conflict = Env(scope.parent)
        conflict.sources = [target, Source("excluded", None, rest=union(values))]
        walk.compare(walk.enter("InferClause", clause.infer, scope))
        for item in clause.infer.index_elems:  # whether a row has that value there, and which
            column = target.column(item.index_elem.name) if item.index_elem.name else None
            walk.compare(column.names if column is not None else NONE)
        _assign(walk, target, clause.target_list, conflict)
        sweep(walk, node.relation, clause.target_list)
        walk.compare(walk.visit(clause.where_clause, conflict))
    walk.outputs = _returning(walk, node, scope, target)
    return union(walk.outputs)


@visits("UpdateStmt")
def _update(walk: Walk, node: Any, env: Env) -> Names:
    scope, target = _begin(walk, node, env, "UPDATE")
    _beside(walk, node.from_clause, scope)
    _assign(walk, target, node.target_list, scope)
    sweep(walk, node.relation, node.target_list)
    walk.compare(walk.visit(node.where_clause, scope))
    walk.outputs = _returning(walk, node, scope, target)
    return union(walk.outputs)


@visits("DeleteStmt")
def _delete(walk: Walk, node: Any, env: Env) -> Names:
    scope, target = _begin(walk, node, env, "DELETE")
    _write(walk, target)
    sweep(walk, node.relation, deleted=True)
    _beside(walk, node.using_clause, scope)
    walk.compare(walk.visit(node.where_clause, scope))
    walk.outputs = _returning(walk, node, scope, target)
    return union(walk.outputs)


@visits("MergeStmt")
def _merge(walk: Walk, node: Any, env: Env) -> Names:
    scope, target = _begin(walk, node, env, "MERGE")
    _beside(walk, [node.source_relation], scope)
    walk.compare(walk.visit(node.join_condition, scope))
    merged = [n for item in node.merge_when_clauses for n in item.merge_when_clause.target_list]
    sweep(walk, node.relation, merged, deleted=True)
    for item in node.merge_when_clauses:
        clause = item.merge_when_clause
        seen = Env(scope.parent)
        seen.sources = _seen(clause.match_kind, scope.sources)
        walk.compare(walk.visit(clause.condition, seen))
        if not clause.target_list:  # DELETE, DO NOTHING, INSERT without columns
            _write(walk, target)
        if clause.values:  # INSERT (columns) VALUES (values)
            for column in clause.target_list:
                _write(walk, target, column.res_target.name)
            walk.sets["copied"] |= walk.each(clause.values, seen)
        else:
            _assign(walk, target, clause.target_list, seen)
    below = Env(scope.parent)
    below.sources = [*scope.sources[1:], target]  # in that order "*" gives them
    walk.outputs = _returning(walk, node, below, target)
    return union(walk.outputs)


def _seen(kind: int, sources: list[Source]) -> list[Source]:
    """Return what a WHEN of MERGE sees of the target, which comes first, and the source."""
    if kind == pb.MERGE_WHEN_NOT_MATCHED_BY_TARGET:
        return sources[1:]
    return sources[:1] if kind == pb.MERGE_WHEN_NOT_MATCHED_BY_SOURCE else sources
