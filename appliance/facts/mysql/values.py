"""Expressions: which columns a value comes from, and what is called on the way."""

from collections import abc
from collections.abc import Callable, Iterable

from appliance.facts.mysql.builtins import CHOOSES, EFFECTS, GROWS, KEEPS, KEYWORDS, PURE, TOTAL, TOTAL_BUT
from appliance.facts.mysql.names import full
from appliance.facts.mysql.reading import COLUMNS, NONE, Names, Output
from appliance.facts.mysql.tree import (
    LONG,
    Call,
    Case,
    Group,
    Name,
    Node,
    Nothing,
    Query,
    Sequence,
    Star,
    Sub,
    System,
    Variable,
)
from appliance.facts.mysql.walk import Env, Source, Walk

Reads = Callable[[Walk, Query, Env], list[Output]]

_DIAGNOSES = frozenset(("warning_count", "error_count"))

_reads: list[Reads] = []


def reads_queries(read: Reads) -> Reads:
    """Register what reads the queries in expressions."""
    _reads.append(read)
    return read


def value(walk: Walk, node: Node, env: Env) -> Names:
    """Return the columns a value comes from, and note what is read, compared and called."""
    walk.spend(10)
    match node:
        case Name(parts):
            return resolve(walk, parts, env).names
        case Group(items, risky):
            names = values(walk, items, env)
            if risky:
                walk.compare(names)
            return names
        case Call():
            return _call(walk, node, env)
        case Case(conditions, results):
            chosen = values(walk, conditions, env)
            walk.compare(chosen)
            return chosen | values(walk, results, env)
        case Sub(inner):
            sure = walk.sure
            outputs = _reads[0](walk, inner, env)
            walk.sure, walk.plain = sure and all(o.sure for o in outputs), False
            return union(outputs)
        case Variable(_, given):
            walk.sure = False
            names = value(walk, given, env) if given is not None else NONE
            walk.sets["copied"] |= names
            return names
        case System(name):
            looks_back = name.rpartition(".")[2] in _DIAGNOSES
            walk.diagnoses = walk.diagnoses or looks_back
            walk.sure = walk.sure and not looks_back
        case Sequence(parts):
            walk.add("table", walk.world.word(parts))
        case Star(parts):
            return union(star(walk, parts, env))
    return NONE


def values(walk: Walk, nodes: Iterable[Node], env: Env) -> Names:
    """Return the columns several values come from."""
    return NONE.union(*(value(walk, node, env) for node in nodes))


def union(outputs: abc.Sequence[Output]) -> Names:
    """Return all columns the values of these come from."""
    return NONE.union(*(o.names for o in outputs))


# -- names ------------------------------------------------------------------------------------------------------------


def resolve(walk: Walk, parts: tuple[str, ...], env: Env) -> Output:
    """Return what a name in an expression is, and note the columns read."""
    found = _qualified(walk, parts, env) if len(parts) > 1 else _plain(walk, parts[0], env)
    if found is None:
        found = Output(parts[-1].lower(), sure=False)
        if not env.variables:
            walk.doubt(f"column {'.'.join(parts)} is not found", COLUMNS)
            walk.missing.add(f"column {'.'.join(parts)}")
    walk.sets["column"] |= found.names
    walk.sure = walk.sure and found.sure
    walk.plain = walk.plain and found.plain
    return found


def _plain(walk: Walk, name: str, env: Env) -> Output | None:
    maybe: list[Output] = []
    for level in env.levels():
        walk.spend(len(level.sources))
        sure: list[Output] = []
        for source in level.sources:
            column = source.column(name)
            if column is not None:
                (sure if name.lower() in source.columns else maybe).append(column)
        if sure:
            return _merged(name, [*sure, *maybe])
    return _merged(name, maybe) if maybe else None


def _merged(name: str, columns: list[Output]) -> Output:
    if len(columns) == 1:
        return columns[0]
    return Output(name.lower(), union(columns), all(c.sure for c in columns), all(c.plain for c in columns))


def matching(walk: Walk, parts: tuple[str, ...], env: Env) -> list[Source]:
    """Return the sources a qualifier means.

    Whether case matters in it depends on the server: one that differs in case only may be meant, or one farther out.
    """
    wanted = parts[-1].casefold()
    schema = parts[0].casefold() if len(parts) > 1 else ""
    maybe: list[Source] = []
    for level in env.levels():
        walk.spend(len(level.sources))
        found = [s for s in level.sources if s.alias.casefold() == wanted and _within(s, schema)]
        maybe += found
        if any(s.alias == parts[-1] for s in found):
            break
    return maybe


def _within(source: Source, schema: str) -> bool:
    return not schema or (source.path is not None and source.path[0].casefold() in (schema, "?"))


def _qualified(walk: Walk, parts: tuple[str, ...], env: Env) -> Output | None:
    sources = matching(walk, parts[:-1], env)
    columns = [c for c in (s.column(parts[-1]) for s in sources) if c is not None]
    return _merged(parts[-1], columns) if columns else None


def star(walk: Walk, parts: tuple[str, ...], env: Env) -> list[Output]:
    """Return the columns `*` or `t.*` stands for, and note them as read."""
    sources = matching(walk, parts, env) if parts else env.sources
    if not sources and not env.variables:
        walk.doubt(f"{'.'.join((*parts, '*'))} is not found", COLUMNS)
    columns = [column for source in sources for column in source.all()]
    for column in columns:
        walk.spend(1 + len(column.names))
        walk.sets["column"] |= column.names
    for source in sources:
        if source.prefix:
            walk.add("column", f"{source.prefix}.*")
    return columns


# -- functions --------------------------------------------------------------------------------------------------------


def _call(walk: Walk, node: Call, env: Env) -> Names:
    if node.name in ("values", "value") and not node.schema:
        return NONE  # what was to be inserted: it came from outside, or was copied where it was read
    outer, walk.plain = walk.plain, True
    args = [value(walk, arg, env) for arg in node.args]
    plain = walk.plain and all(isinstance(arg, Name) or (isinstance(arg, Nothing) and arg != LONG) for arg in node.args)
    walk.plain = outer and plain
    together = NONE.union(*args)
    order = values(walk, node.compared, env)
    walk.compare(order)
    called(walk, node, together)
    _may_fail(walk, node.name, args, plain)
    return together | order


def called(walk: Walk, node: Call, args: Names) -> None:
    """Note a call with values from these columns."""
    name, mode = node.name, walk.world.mode
    stored = node.spaced and name in KEYWORDS and not (mode.known and mode.ignore_space)
    if node.schema or stored or (name not in PURE and name not in EFFECTS):
        walk.add("function", full(node.schema or walk.world.database or "?", name))
        walk.opaque(f"function {name[:64]} is not known to be harmless", args)
        return
    if not name.startswith("cast"):
        walk.add("function", full("builtin", name))
    if name in EFFECTS:
        walk.add("effect", EFFECTS[name])
        walk.sure = False
    if name in KEEPS:
        walk.sets["copied"] |= args


def _may_fail(walk: Walk, name: str, args: list[Names], plain: bool) -> None:
    """Note the columns in the hands of a function that fails, warns or tarries on some values; `plain`: its arguments
    are columns and short literals."""
    if name in GROWS and not plain:
        walk.compare(NONE.union(*args))
    elif name in CHOOSES:
        walk.compare(args[0] if args else NONE)
    elif name in TOTAL_BUT:
        walk.compare(NONE.union(*args[1:]))
    elif name not in TOTAL:
        walk.compare(NONE.union(*args))
