"""Queries: SELECT, VALUES, TABLE, set operations, WITH, and what they take rows from."""

from collections.abc import Sequence
from typing import Any

from postgast import pg_query_pb2 as pb

from appliance.facts.sql import functions
from appliance.facts.sql.expression import call, check_operator, fields, resolve, star
from appliance.facts.sql.keywords import SYSTEM_USER, is_user
from appliance.facts.sql.naming import label
from appliance.facts.sql.reading import COLUMNS, NONE, Names, Output
from appliance.facts.sql.relations import dotted, renamed, source, temporary
from appliance.facts.sql.walk import Cte, Env, Source, Walk, visits

MAX_ROUNDS = 20  # visits of a recursive query until what its columns hold does not grow; more: unknown


def union(outputs: Sequence[Output]) -> Names:
    """Return all columns the values of these come from."""
    return frozenset().union(*(o.names for o in outputs))


def query(walk: Walk, node: Any, env: Env | None) -> list[Output]:
    """Visit a statement that gives rows, wrapped as pb.Node, and return its columns."""
    walk.outputs = []
    walk.visit(node, env or Env())
    outputs, walk.outputs = walk.outputs, []
    return outputs


@visits("SelectStmt")
def _select_stmt(walk: Walk, node: Any, env: Env) -> Names:
    walk.outputs = select(walk, node, env)
    return union(walk.outputs)


def select(walk: Walk, node: Any, env: Env) -> list[Output]:
    """Visit a SELECT in whatever form and return its columns."""
    if not node.values_lists:
        walk.add("effect", "read")
    inner = with_clause(walk, node, env)
    if node.op != pb.SETOP_NONE:
        scope = inner
        outputs = _set_operation(walk, node, inner)
    else:
        scope = Env(inner, base=inner)
        from_clause(walk, node.from_clause, scope)
        outputs = _values(walk, node, scope) if node.values_lists else targets(walk, node.target_list, scope)
        _body(walk, node, scope, outputs)
    _tail(walk, node, scope, outputs)
    if node.HasField("into_clause"):
        into(walk, node.into_clause, outputs)
        walk.add("statement", "SELECT INTO")
    return outputs


def into(walk: Walk, clause: Any, outputs: Sequence[Output]) -> None:
    """Note a table made from a query."""
    walk.add("effect", "schema", "write")
    walk.sets["copied"] |= union(outputs)
    rel = clause.rel
    walk.add("table", walk.world.makes(rel.schemaname, rel.relname, rel.relpersistence == "t"))
    walk.ddl, walk.wide = True, walk.wide or not temporary(rel)


def with_clause(walk: Walk, node: Any, env: Env) -> Env:
    """Visit a statement's WITH and return the level of names below it."""
    if not node.HasField("with_clause"):
        return env
    below = Env(env)
    recursive = node.with_clause.recursive
    for item in node.with_clause.ctes:
        cte = item.common_table_expr
        if recursive:  # each sees all, in whatever order they are written
            below.ctes[cte.ctename] = Cte(cte, below)
        else:  # each sees those before it
            seen = Env(env)
            seen.ctes = dict(below.ctes)
            below.ctes[cte.ctename] = Cte(cte, seen)
    for made in below.ctes.values():
        read_cte(walk, made)
    return below


def read_cte(walk: Walk, made: Cte) -> None:
    """Visit a common table expression unless that was done."""
    if made.state != "new":
        return
    made.state = "busy"
    made.outputs = _cte_outputs(walk, made, query(walk, made.node.ctequery, made.env))
    for _ in range(MAX_ROUNDS):
        if made.state != "recursive":
            break
        made.state = "busy"  # again, with what its own columns were found to hold
        found = _cte_outputs(walk, made, query(walk, made.node.ctequery, made.env))
        if found != made.outputs:
            made.outputs = found
        else:
            made.state = "done"
    if made.state == "recursive":
        walk.doubt("a recursive query was not followed to its end", COLUMNS)
    made.state = "done"


def _cte_outputs(walk: Walk, made: Cte, outputs: list[Output]) -> list[Output]:
    names = [n.string.sval for n in made.node.aliascolnames]
    if names:
        outputs = renamed(Source("", outputs), names).all()
    everything = union(outputs)
    if made.node.HasField("search_clause"):  # these add columns computed from those there are
        outputs = [*outputs, Output(made.node.search_clause.search_seq_column, everything)]
    if made.node.HasField("cycle_clause"):
        clause = made.node.cycle_clause
        walk.compare(everything)
        added = (clause.cycle_mark_column, clause.cycle_path_column)
        outputs = [*outputs, *(Output(name, everything) for name in added)]
    return outputs


def _cte_source(walk: Walk, made: Cte, alias: str) -> Source:
    read_cte(walk, made)
    if made.state != "done":
        made.state = "recursive"
        if not made.outputs:
            return Source(alias, None)  # what its columns hold is found in the next round
    return derived(alias, made.outputs)


def derived(alias: str, outputs: Sequence[Output]) -> Source:
    """Return the columns of a query as a source."""
    loose = [o for o in outputs if o.name in ("*", "?column?")]
    return Source(alias, [o for o in outputs if o not in loose], rest=union(loose), loose=bool(loose))


def _set_operation(walk: Walk, node: Any, env: Env) -> list[Output]:
    """UNION and the like. Chains to the left are followed in a loop: they may be thousands long."""
    right: list[list[Output]] = []
    distinct = False
    while True:
        right.append(select(walk, node.rarg, env))
        distinct = distinct or not node.all or node.op != pb.SETOP_UNION
        left = node.larg
        if left.op == pb.SETOP_NONE or _has_tail(left):
            break
        node = left
    outputs = select(walk, left, env)
    for other in right:
        walk.spend(len(outputs))
        if len(other) == len(outputs) and not any(o.name == "*" for o in (*outputs, *other)):
            outputs = [Output(a.name, a.names | b.names) for a, b in zip(outputs, other, strict=True)]
        else:
            everything = union(outputs) | union(other)
            outputs = [Output(o.name, everything) for o in outputs]
    if distinct:
        walk.compare(union(outputs))
    return outputs


def _has_tail(node: Any) -> bool:
    return bool(
        node.sort_clause
        or node.locking_clause
        or node.HasField("with_clause")
        or node.HasField("limit_count")
        or node.HasField("limit_offset")
        or node.HasField("into_clause")
    )


def _values(walk: Walk, node: Any, env: Env) -> list[Output]:
    columns: list[Names] = []
    for row in node.values_lists:
        for at, item in enumerate(row.list.items):
            names = walk.visit(item, env)
            if at < len(columns):
                columns[at] |= names
            else:
                columns.append(names)
    return [Output(f"column{at + 1}", names) for at, names in enumerate(columns)]


def targets(walk: Walk, nodes: Any, env: Env) -> list[Output]:
    """Visit a target list and return its columns."""
    outputs: list[Output] = []
    for node in nodes:
        walk.spend(5)
        target = node.res_target
        value = target.val
        if value.HasField("column_ref"):
            parts, starred = fields(value.column_ref)
            if starred:
                outputs += star(walk, parts, env)
                continue
            found = resolve(walk, parts, env)
            outputs.append(Output(target.name or parts[-1], found.names, found.table, found.attribute))
            continue
        names = walk.visit(value, env)
        if value.HasField("a_indirection") and value.a_indirection.indirection[-1].HasField("a_star"):
            outputs.append(Output("*", names))
        else:
            outputs.append(Output(target.name or label(value), names))
    return outputs


def _body(walk: Walk, node: Any, env: Env, outputs: list[Output]) -> None:
    walk.compare(walk.visit(node.where_clause, env) | walk.visit(node.having_clause, env))
    walk.compare(_ordered(walk, node.group_clause, env, outputs))
    walk.each(node.window_clause, env)


def _tail(walk: Walk, node: Any, env: Env, outputs: list[Output]) -> None:
    walk.compare(_ordered(walk, node.sort_clause, env, outputs))
    if node.distinct_clause:
        on = _ordered(walk, node.distinct_clause, env, outputs)
        walk.compare(on if node.distinct_clause[0].WhichOneof("node") else union(outputs))
    walk.compare(walk.visit(node.limit_count, env) | walk.visit(node.limit_offset, env))
    if node.locking_clause:
        walk.add("effect", "lock")


def _ordered(walk: Walk, nodes: Any, env: Env, outputs: list[Output]) -> Names:
    """Return the columns of ORDER BY, GROUP BY or DISTINCT ON: expressions, positions or names of the
    output."""
    names: set[str] = set()
    for node in nodes:
        item = node.sort_by.node if node.HasField("sort_by") else node
        if node.HasField("sort_by"):
            check_operator(walk, dotted(node.sort_by.use_op), NONE)
        if item.HasField("grouping_set"):
            names |= _ordered(walk, item.grouping_set.content, env, outputs)
            continue
        if item.HasField("a_const"):
            at = walk.look(item).ival.ival
            sure = 0 < at <= len(outputs) and not any(o.name == "*" for o in outputs)
            names |= outputs[at - 1].names if sure else union(outputs)
            continue
        parts, starred = ((SYSTEM_USER,), False) if is_user(item) else fields(item.column_ref)
        same = [o for o in outputs if len(parts) == 1 and not starred and o.name in (parts[0], "*")]
        names |= union(same)
        if not any(o.name != "*" for o in same):
            names |= walk.visit(item, env)
        elif env.sources:
            names |= _maybe(walk, item, env)
    return frozenset(names)


def _maybe(walk: Walk, item: Any, env: Env) -> Names:
    """Return the columns of a name that may also only be that of an output."""
    hint = Env(env, variables=True)
    return walk.visit(item, hint)


def from_clause(walk: Walk, nodes: Any, env: Env) -> None:
    """Visit a FROM list; its sources go to `env`, each seen by what comes after it if that is LATERAL."""
    for node in nodes:
        env.sources += from_item(walk, node, env)


def from_item(walk: Walk, node: Any, env: Env) -> list[Source]:
    """Visit an item of FROM and return what it brings."""
    kind = node.WhichOneof("node")
    reader = _ITEMS.get(kind or "")
    if reader is not None:
        return reader(walk, getattr(node, kind), env)
    walk.doubt(f"{kind} in FROM is not known here")
    return [Source("", None, rest=walk.visit(node, env))]


def _range_var(walk: Walk, var: Any, env: Env) -> list[Source]:
    made = None if var.schemaname else env.cte(var.relname)
    if made is None:
        return [source(walk, var)]
    alias = var.alias.aliasname if var.HasField("alias") else var.relname
    return [renamed(_cte_source(walk, made, alias), [c.string.sval for c in var.alias.colnames])]


def _subselect(walk: Walk, item: Any, env: Env) -> list[Source]:
    outputs = query(walk, item.subquery, env if item.lateral else env.base)
    made = derived(item.alias.aliasname, outputs)
    return [renamed(made, [c.string.sval for c in item.alias.colnames])]


def _function(walk: Walk, item: Any, env: Env) -> list[Source]:
    """A function in FROM: any of its columns may hold any of its arguments, and so may the number of its
    rows."""
    names: set[str] = set()
    alias = item.alias.aliasname
    for entry in item.functions:
        node = entry.list.items[0]
        args = walk.visit(node, env)
        walk.compare(args)
        names |= args
        alias = alias or label(node)
    walk.each(item.coldeflist, env)
    return [Source(alias, None, rest=frozenset(names))]


def _table_function(walk: Walk, item: Any, env: Env) -> list[Source]:
    """XMLTABLE and JSON_TABLE."""
    names = walk.children(item, env)
    walk.compare(names)
    return [
        Source(
            item.alias.aliasname or ("json_table" if item.DESCRIPTOR.name == "JsonTable" else "xmltable"),
            None,
            rest=names,
        )
    ]


def _sample(walk: Walk, item: Any, env: Env) -> list[Source]:
    walk.compare(walk.each(item.args, env) | walk.visit(item.repeatable, env))
    method = dotted(item.method)
    if method[-1] not in ("bernoulli", "system") or not functions.operator(walk.world, ("=",)):
        call(walk, method, NONE)
    return from_item(walk, item.relation, env)


def _join(walk: Walk, item: Any, env: Env) -> list[Source]:
    """A join. Chains to the left are followed in a loop: they may be thousands long."""
    chain = [item]
    while chain[-1].larg.HasField("join_expr"):
        chain.append(chain[-1].larg.join_expr)
    scope, sides = Env(env, base=env.base), Env(env.base)
    scope.sources = from_item(walk, chain[-1].larg, env)
    for join in reversed(chain):
        left = list(scope.sources)
        walk.spend(len(left))
        scope.sources = sides.sources = [*left, *from_item(walk, join.rarg, scope)]
        right = scope.sources[len(left) :]
        walk.compare(walk.visit(join.quals, sides))
        using = [n.string.sval for n in join.using_clause]
        merged = _using(walk, join, using, left, right)
        if using or join.HasField("alias"):
            scope.sources = _shown(walk, join, using, merged, scope.sources)
    return scope.sources


def _shown(walk: Walk, join: Any, using: list[str], merged: list[Output], sides: list[Source]) -> list[Source]:
    """Return the sources of a join that has columns of its own: what USING merges comes first, and once."""
    columns = [*merged, *(c for s in sides if not s.hidden for c in s.all() if c.name not in using)]
    walk.spend(len(columns))
    if join.HasField("alias"):
        return [renamed(derived(join.alias.aliasname, columns), [c.string.sval for c in join.alias.colnames])]
    if join.HasField("join_using_alias"):
        sides = [*sides, Source(join.join_using_alias.aliasname, merged)]
    for side in sides:
        side.hidden = True
    return [*sides, derived("", columns)]


def _using(walk: Walk, join: Any, using: list[str], left: list[Source], right: list[Source]) -> list[Output]:
    """Compare the columns a join takes by name, and return them."""
    if join.is_natural:
        sides = [[c for s in side if not s.hidden for c in s.all()] for side in (left, right)]
        walk.spend(len(sides[0]) + len(sides[1]))
        if any(c.name == "*" for side in sides for c in side):
            walk.compare(union(sides[0]) | union(sides[1]))
        both = {c.name for c in sides[0]} & {c.name for c in sides[1]}
        using[:] = dict.fromkeys(c.name for c in sides[0] if c.name in both)
    if using:
        check_operator(walk, ("=",), NONE)
    merged = []
    for name in using:
        walk.spend(len(left) + len(right))
        found = [c for c in (s.column(name) for s in (*left, *right) if not s.hidden) if c is not None]
        merged.append(Output(name, union(found)))
    walk.compare(union(merged))
    walk.sets["column"] |= union(merged)
    return merged


_ITEMS = {
    "range_var": _range_var,
    "range_subselect": _subselect,
    "range_function": _function,
    "range_table_func": _table_function,
    "json_table": _table_function,
    "range_table_sample": _sample,
    "join_expr": _join,
}


@visits("CaseExpr")
def _case(walk: Walk, node: Any, env: Env) -> Names:
    """CASE: which branch is taken can be seen in which one fails, so what decides it counts as compared."""
    names = NONE
    if node.HasField("arg"):
        names = walk.visit(node.arg, env)
        check_operator(walk, ("=",), names)
        walk.compare(names)
    for item in node.args:
        condition = walk.visit(item.case_when.expr, env)
        walk.compare(condition)
        names |= condition | walk.visit(item.case_when.result, env)
    return names | walk.visit(node.defresult, env)
