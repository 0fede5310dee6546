"""Expressions: which columns a value comes from, and what is called on the way."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any

from postgast import pg_query_pb2 as pb

from appliance.facts.catalog import full
from appliance.facts.sql import functions
from appliance.facts.sql.builtins import PATTERNS, SETS, SIZED, TEXTS, TOTAL, TOTAL_BUT, TOTAL_OPERATORS, TOTAL_PLAIN
from appliance.facts.sql.keywords import SYSTEM_USER
from appliance.facts.sql.reading import COLUMNS, NONE, Names, Output
from appliance.facts.sql.relations import dotted
from appliance.facts.sql.settings import becomes, constant, unsure
from appliance.facts.sql.walk import Env, Source, Walk, visits


def call(walk: Walk, parts: tuple[str, ...], args: Names, plain: bool = False) -> None:
    """Note a call of the function of that name with values from these columns; `plain`: these themselves."""
    what = functions.call(walk.world, parts)
    schema = parts[-2] if len(parts) > 1 else "?" if what.opaque else "pg_catalog"
    walk.add("function", full(schema, parts[-1]))
    walk.sets["effect"] |= what.effects
    if what.opaque:
        walk.opaque(f"function {'.'.join(parts)} is not known to be harmless", args)
    if what.moves:
        walk.sets["copied"] |= args
    if what.rows and not (plain and parts[-1] in SIZED):
        walk.compare(args)


def check_operator(walk: Walk, parts: tuple[str, ...], args: AbstractSet[str]) -> None:
    """Note the use of an operator."""
    if parts and not functions.operator(walk.world, parts):
        walk.opaque(f"operator {'.'.join(parts)} is not known to be harmless", frozenset(args))


def resolve(walk: Walk, parts: tuple[str, ...], env: Env) -> Output:
    """Return what a name in an expression is, and note the columns read."""
    found = _qualified(walk, parts, env) if len(parts) > 1 else _plain(walk, parts[0], env)
    if found is None:
        found = Output(parts[-1])
        if not env.variables:
            walk.doubt(f"column {'.'.join(parts)} is not found", COLUMNS)
            walk.missing.add(f"column {'.'.join(parts)}")
    walk.sets["column"] |= found.names
    return found


def _levels(env: Env | None) -> Iterable[Env]:
    while env is not None:
        yield env
        env = env.parent


def _plain(walk: Walk, name: str, env: Env) -> Output | None:
    """Return what a name without a dot is: a column of any level, before it is the row of a source of any."""
    maybe: list[Output] = []
    rows: list[Source] = []
    for level in _levels(env):
        sure: list[Output] = []
        walk.spend(len(level.sources))
        for source in level.sources:
            column = None if source.hidden else source.column(name)
            if column is not None:
                (maybe if source.columns is None or name not in source.columns else sure).append(column)
        if sure:
            return _merged(name, sure if not maybe else sure + maybe)
        rows = rows or [s for s in level.sources if s.alias == name]
    if rows:
        return Output(name, frozenset().union(*(s.whole() for s in rows), *(m.names for m in maybe)))
    return _merged(name, maybe) if maybe else None


def _merged(name: str, columns: list[Output]) -> Output:
    if len(columns) == 1:
        return columns[0]
    return Output(name, frozenset().union(*(c.names for c in columns)))


def matching(walk: Walk, parts: tuple[str, ...], env: Env) -> list[Source]:
    """Return the sources a qualifier means."""
    for level in _levels(env):
        walk.spend(len(level.sources))
        if len(parts) == 1:
            found = [s for s in level.sources if s.alias == parts[0]]
        else:
            names = {full(*parts[-2:]), full("?", parts[-1])}
            found = [s for s in level.sources if s.full & names]
        if found:
            return found
    return []


def _qualified(walk: Walk, parts: tuple[str, ...], env: Env) -> Output | None:
    sources = matching(walk, parts[:-1], env)
    columns = [c for c in (s.column(parts[-1]) for s in sources) if c is not None]
    if columns:
        return _merged(parts[-1], columns)
    if not sources:
        return None
    # t.f where f is no column is the call f(t)
    whole = frozenset().union(*(s.whole() for s in sources))
    call(walk, parts[-1:], whole)
    return Output(parts[-1], whole)


def star(walk: Walk, parts: tuple[str, ...], env: Env) -> list[Output]:
    """Return the columns `*` or `t.*` stands for, and note them as read."""
    sources = matching(walk, parts, env) if parts else [s for s in env.sources if not s.hidden]
    columns = [column for source in sources for column in source.all()]
    if not sources and not env.variables:
        walk.doubt(f"{'.'.join((*parts, '*'))} is not found", COLUMNS)
    for column in columns:
        walk.spend(1 + len(column.names))
        walk.sets["column"] |= column.names
    return columns


def fields(ref: Any) -> tuple[tuple[str, ...], bool]:
    """Return the names of a ColumnRef and whether it ends in a star."""
    names = [f.string.sval for f in ref.fields if f.HasField("string")]
    return tuple(names), len(names) < len(ref.fields)


@visits("ColumnRef")
def _column_ref(walk: Walk, ref: Any, env: Env) -> Names:
    parts, starred = fields(ref)
    if not starred:
        return resolve(walk, parts, env).names
    star(walk, parts, env)
    sources = matching(walk, parts, env) if parts else env.sources
    whole = frozenset().union(*(s.whole() for s in sources))
    walk.sets["column"] |= whole
    return whole


@visits("A_Star")
def _a_star(walk: Walk, node: Any, env: Env) -> Names:
    return NONE


@visits("FuncCall")
def _func_call(walk: Walk, node: Any, env: Env) -> Names:
    each = [walk.visit(arg, env) for arg in node.args]
    args = NONE.union(*each)
    parts = dotted(node.funcname)
    if parts[-1] == SYSTEM_USER and not each:
        column = _plain(walk, SYSTEM_USER, env)
        args = column.names if column is not None else NONE
        walk.sets["column"] |= args
    order = walk.each(node.agg_order, env)
    walk.compare(order)
    if node.HasField("agg_filter"):
        walk.compare(walk.visit(node.agg_filter, env))
    if node.agg_distinct:
        walk.compare(args)
    if node.HasField("over"):
        walk.enter("WindowDef", node.over, env)
    call(walk, parts, args, all(n.HasField("column_ref") for n in node.args))
    _may_fail(walk, parts[-1], each, _stored(walk, node, env))
    if parts[-1] == "set_config":
        _set_config(walk, node)
    return args | order


def _stored(walk: Walk, node: Any, env: Env) -> bool:
    """Return True if all that a call is given are columns of tables: values that the text has no part in."""
    if not all(arg.HasField("column_ref") for arg in node.args):
        return False
    return all(resolve(walk, fields(arg.column_ref)[0] or ("*",), env).table for arg in node.args)


def _may_fail(walk: Walk, name: str, args: list[Names], stored: bool) -> None:
    """Note the columns in the hands of a function that fails on some values: that it failed tells of them."""
    if (name in TOTAL and (name != "length" or len(args) == 1)) or name in SETS or (stored and name in TOTAL_PLAIN):
        return
    if name == "format":  # the template must be well-formed, what is put in is any value
        told = args[:1]
    elif name in ("json_build_object", "jsonb_build_object"):  # a key must not be null
        told = args[::2]
    elif name in TOTAL_BUT:
        told = args[1:]
    else:
        told = args
    walk.compare(NONE.union(*told))


@visits("CoalesceExpr", "BoolExpr")
def _short_cut(walk: Walk, node: Any, env: Env) -> Names:
    """COALESCE, AND, OR: what comes first decides whether the rest is worked out, and so whether that fails."""
    found = [walk.visit(arg, env) for arg in node.args]
    plain = all(arg.HasField("column_ref") or arg.HasField("a_const") for arg in list(node.args)[1:])
    if not plain:
        walk.compare(frozenset().union(*found[:-1]))
    return frozenset().union(*found)


@visits("A_ArrayExpr")
def _array(walk: Walk, node: Any, env: Env) -> Names:
    """ARRAY[...]. Of arrays it makes one only if these are of one length."""
    found = [(item, walk.visit(item, env)) for item in node.elements]
    for item, names in found:
        if not (item.HasField("column_ref") or item.HasField("a_array_expr")):
            walk.compare(names)
    return NONE.union(*(names for _, names in found))


@visits("XmlExpr", "XmlSerialize")
def _xml(walk: Walk, node: Any, env: Env) -> Names:
    """XML takes no control characters, so it fails on some values."""
    names = walk.children(node, env)
    walk.compare(names)
    return names


def _set_config(walk: Walk, node: Any) -> None:
    """set_config('search_path', ...): the setting is known, but whether and when it is called is not."""
    walk.changes = True
    name = walk.look(node.args[0]).sval.sval.lower() if node.args else ""
    if not name:
        walk.doubt("set_config of a setting that is not known", frozenset(("setting", "role")))
    else:
        walk.add("setting", name)
    becomes(walk, name, [constant(walk, arg) for arg in node.args[1:2]])
    unsure(walk, name)


@visits("A_Expr")
def _a_expr(walk: Walk, node: Any, env: Env) -> Names:
    """An operator. Chains to the left (a || b || c ...) are followed in a loop: they may be thousands
    long."""
    names: set[str] = set()
    fails = False  # an operator further out fails on some values: zero, too much
    while True:
        right = walk.visit(node.rexpr, env)
        names |= right
        check_operator(walk, (">=",) if node.kind in _BETWEEN else dotted(node.name), names)
        sign = node.name[-1].string.sval
        fails = fails or (node.kind == pb.AEXPR_OP and sign not in TOTAL_OPERATORS)
        if fails or sign in PATTERNS:
            walk.compare(right)
        if not node.lexpr.HasField("a_expr"):
            break
        node = node.lexpr.a_expr
    left = walk.visit(node.lexpr, env)
    if fails:
        walk.compare(left)
    return frozenset(names | left)


_TEXTS = frozenset((name,) for name in TEXTS)
_BETWEEN = frozenset(
    pb.A_Expr_Kind.Value(f"AEXPR_{word}") for word in ("BETWEEN", "NOT_BETWEEN", "BETWEEN_SYM", "NOT_BETWEEN_SYM")
)


@visits("SubLink")
def _sub_link(walk: Walk, node: Any, env: Env) -> Names:
    names = walk.visit(node.testexpr, env) if node.HasField("testexpr") else NONE
    inner = walk.visit(node.subselect, env)
    check_operator(walk, dotted(node.oper_name), names | inner)
    return names if node.sub_link_type == pb.EXISTS_SUBLINK else names | inner


@visits("TypeCast")
def _type_cast(walk: Walk, node: Any, env: Env) -> Names:
    names = walk.visit(node.arg, env)
    _type_name(walk, node.type_name, env)
    if dotted(node.type_name.names)[-1:] not in _TEXTS or node.type_name.array_bounds:
        walk.compare(names)  # whether the value has a form of that type shows
    return names


@visits("TypeName")
def _type_name(walk: Walk, node: Any, env: Env) -> Names:
    parts = dotted(node.names)
    walk.each(node.typmods, env)
    if node.pct_type:
        return NONE
    if parts and not functions.castable(walk.world, parts):
        walk.opaque(f"type {'.'.join(parts)} is not known to be harmless")
    return NONE


@visits("A_Indirection")
def _a_indirection(walk: Walk, node: Any, env: Env) -> Names:
    """(x).field, (x).*, (x)[i]. A field that x has not is the call field(x)."""
    last = node.indirection[-1]
    parts, starred = fields(node.arg.column_ref)
    sources = matching(walk, parts, env) if parts and not starred else []
    if last.HasField("string") and sources:
        columns = [c for c in (s.column(last.string.sval) for s in sources) if c is not None]
        if columns:
            walk.sets["column"].update(*(c.names for c in columns))
            return _merged(last.string.sval, columns).names
    names = walk.visit(node.arg, env) | walk.each(node.indirection, env)
    if last.HasField("string") and sources:
        call(walk, (last.string.sval,), names)
    return names


@visits("SortBy")
def _sort_by(walk: Walk, node: Any, env: Env) -> Names:
    names = walk.visit(node.node, env)
    check_operator(walk, dotted(node.use_op), names)
    return names


@visits("WindowDef")
def _window(walk: Walk, node: Any, env: Env) -> Names:
    walk.compare(walk.children(node, env))
    return NONE


@visits("ResTarget", "MultiAssignRef")
def _target(walk: Walk, node: Any, env: Env) -> Names:
    return walk.children(node, env)


@visits("RoleSpec")
def _role(walk: Walk, node: Any, env: Env) -> Names:
    if node.rolename:
        walk.add("role", node.rolename)
    return NONE
