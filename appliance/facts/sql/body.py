"""Statements with a body of statements: DO, CREATE FUNCTION, CALL.

A body in SQL or PL/pgSQL is read, statement by statement, as if each ran, once, unconditionally. A statement
made at run time (EXECUTE), and a body in any other language, may do anything. Values can pass from any
statement of a body to any other through variables, so all columns read in it count as compared and copied.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import postgast
from postgast import pg_query_pb2 as pb

from appliance.facts.sql.expression import call
from appliance.facts.sql.reading import NONE, Names
from appliance.facts.sql.relations import dotted
from appliance.facts.sql.schema import changed
from appliance.facts.sql.settings import becomes, constant, unsure
from appliance.facts.sql.statement import statement
from appliance.facts.sql.tree import Unreadable, check, parse
from appliance.facts.sql.walk import Env, Walk, visits

_DYNAMIC = frozenset(("PLpgSQL_stmt_dynexecute", "PLpgSQL_stmt_dynfors"))
_STATIC = frozenset(
    f"PLpgSQL_stmt_{word}"
    for word in (
        "block assign if case loop while fori fors forc foreach_a exit return return_next return_query "
        "raise assert execsql perform call getdiag open fetch close commit rollback set"
    ).split()
)
_ASSIGN = (pb.Token.Value("COLON_EQUALS"), pb.Token.Value("ASCII_61"))
_STATEMENT, _TYPE, _EXPRESSION = 0, 1, 2  # RawParseMode; those above are assignments


@visits("DoStmt")
def _do(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "DO")
    walk.add("effect", "procedure")
    options = {item.def_elem.defname: item.def_elem.arg for item in node.args}
    language = options["language"].string.sval if "language" in options else "plpgsql"
    _body(walk, language, options["as"].string.sval if "as" in options else None)
    walk.changes = True
    return NONE


@visits("CallStmt")
def _call(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "CALL")
    args = walk.each(node.funccall.args, env)
    call(walk, dotted(node.funccall.funcname), args)
    walk.opaque("CALL of a procedure", args)
    return NONE


@visits("CreateFunctionStmt")
def _create(walk: Walk, node: Any, env: Env) -> Names:
    world = walk.world
    options = {item.def_elem.defname: item.def_elem.arg for item in node.options}
    below = Env(variables=True)
    walk.each(node.parameters, below)
    _set(walk, node.options)
    if "set" in options:  # its own settings: it is read as if they could be any
        unsure(walk, "")
    if node.HasField("sql_body"):
        _collect(walk, lambda: walk.visit(node.sql_body, below))
    else:
        parts = [i.string.sval for i in options["as"].list.items] if "as" in options else []
        language = options["language"].string.sval if "language" in options else ""
        _body(walk, language, parts[0] if len(parts) == 1 else None)
    if "set" in options:
        walk.steps, walk.world = [step for step in walk.steps if step.verb != "set"], world
    changed(walk, "CREATE PROCEDURE" if node.is_procedure else "CREATE FUNCTION")
    return NONE


def _set(walk: Walk, options: Any) -> None:
    """Note the settings a function runs with."""
    for item in options:
        if item.def_elem.defname == "set":
            setting = item.def_elem.arg.variable_set_stmt
            walk.add("setting", setting.name.lower() or "all")
            becomes(walk, setting.name.lower(), [constant(walk, arg) for arg in setting.args])


@visits("AlterFunctionStmt")
def _alter(walk: Walk, node: Any, env: Env) -> Names:
    _set(walk, node.actions)
    changed(walk, f"ALTER {pb.ObjectType.Name(node.objtype).removeprefix('OBJECT_')}")
    return NONE


@visits("ReturnStmt")
def _return(walk: Walk, node: Any, env: Env) -> Names:
    return walk.visit(node.returnval, env)


def _body(walk: Walk, language: str, text: str | None) -> None:
    language = language.lower()
    if text is None or language not in ("sql", "plpgsql"):
        walk.opaque(f"a body in language {language or 'not known'}")
        return
    try:
        check(text)
        if language == "sql":
            _collect(walk, lambda: _statements(walk, text))
        else:
            _collect(walk, lambda: _plpgsql(walk))
    except (Unreadable, RecursionError) as error:
        walk.opaque(f"a body that cannot be read: {error}")


def _collect(walk: Walk, visit: Any) -> None:
    """Visit a body; what it reads may end up anywhere."""
    before, walk.sets["column"] = walk.sets["column"], set()
    steps, world = walk.steps, walk.world
    walk.steps = []
    try:
        visit()
        if world.path is not None and any(step.verb == "set" for step in walk.steps):
            # In which order statements of a body run is not followed: each is read as if settings could be any.
            walk.world = msgspec.structs.replace(world, path=None)
            visit()
    finally:
        inner, walk.steps = walk.steps, steps
        if inner:  # whether and when it is done is not known
            walk.world = world
            unsure(walk, "")
        if any(step.verb not in ("set", "end") for step in inner):
            walk.opaque("names of the session are used in a body")
        inside = walk.sets["column"]
        walk.sets["column"] = before | inside
        walk.sets["copied"] |= inside
        walk.sets["compared"] |= inside


def _statements(walk: Walk, text: str) -> None:
    for raw in parse(text).stmts:
        statement(walk, raw.stmt, Env(variables=True))


def _plpgsql(walk: Walk) -> None:
    for kind, item in _parts(walk.statement):
        if kind != "PLpgSQL_expr":
            if kind in _DYNAMIC or "dynquery" in item:
                walk.opaque("a statement made at run time")
            elif kind not in _STATIC:
                walk.opaque(f"{kind} is not known here")
            continue
        query, mode = item.get("query", ""), item.get("parseMode", _EXPRESSION)
        if mode == _STATEMENT:
            _statements(walk, query)
        elif mode == _EXPRESSION:
            _statements(walk, f"SELECT {query}")
        elif mode != _TYPE:
            for part in _assignment(query):
                _statements(walk, f"SELECT {part}")


def _assignment(text: str) -> tuple[str, str]:
    """Return both sides of an assignment."""
    try:
        tokens = postgast.scan(text).tokens
    except postgast.PgQueryError as error:
        raise Unreadable(error.message) from None
    depth, data = 0, text.encode()
    for token in tokens:
        depth += (token.token == pb.Token.Value("ASCII_91")) - (token.token == pb.Token.Value("ASCII_93"))
        if depth == 0 and token.token in _ASSIGN:
            return data[: token.start].decode(), data[token.end :].decode()
    raise Unreadable("an assignment without a sign")


def _parts(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the statements and expressions in the body of a DO or CREATE FUNCTION, as libpg_query gives
    them."""
    try:
        functions = postgast.parse_plpgsql(text)
    except postgast.PgQueryError as error:
        raise Unreadable(error.message) from None
    except ValueError:
        raise Unreadable("the tree of the body cannot be read") from None
    if not functions:
        raise Unreadable("no body was found")
    todo: list[Any] = [functions]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo += item
        elif isinstance(item, dict):
            for key, value in item.items():
                if key == "PLpgSQL_expr" or key.startswith("PLpgSQL_stmt_"):
                    yield key, value
                todo.append(value)
