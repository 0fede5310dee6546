"""INSERT, REPLACE, UPDATE and DELETE: tokens to tree.

Source: MySQL 8.4 manual, "Data Manipulation Statements"; MariaDB, the same and RETURNING.
"""

from appliance.facts.mysql.cursor import Cursor
from appliance.facts.mysql.expression import expression, ordering
from appliance.facts.mysql.lexer import Unreadable
from appliance.facts.mysql.query import from_clause, item, limit_clause, query, row, with_clause
from appliance.facts.mysql.tree import (
    Delete,
    Insert,
    Item,
    Name,
    Node,
    Parsed,
    Query,
    Rows,
    Source,
    Statement,
    Table,
    Update,
)

STARTS = frozenset(("SELECT", "WITH", "VALUES", "TABLE", "(", "INSERT", "REPLACE", "UPDATE", "DELETE"))
_SLOW = ("LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "QUICK")
_QUERY = ("SELECT", "WITH", "TABLE")


def statement(c: Cursor) -> Parsed:
    """Take a whole statement that reads or changes rows."""
    made: Statement
    match _verb(c):
        case "INSERT" | "REPLACE":
            made = _insert(c)
        case "UPDATE":
            made = _update(c)
        case "DELETE":
            made = _delete(c)
        case _:
            made = query(c)
    c.end()
    return Parsed(made, frozenset(c.tables), c.selects)


def _verb(c: Cursor) -> str:
    """Return the verb, which stands behind WITH."""
    if c.key != "WITH":
        return c.key
    place = c.place
    c.step()
    c.take("RECURSIVE")
    while True:
        c.step()
        if c.key == "(":
            c.balanced()
        c.need("AS")
        c.balanced()
        if not c.take(","):
            break
    found = c.key
    c.back(place)
    return found


def _insert(c: Cursor) -> Insert:
    begin = c.place
    tests = c.step().key == "REPLACE"
    if tests:
        c.swapped[begin] = "INSERT"
    c.skip(*_SLOW)
    if c.key == "IGNORE":
        tests = True
        c.skip("IGNORE")
    if not c.take("INTO"):
        c.swapped[begin] = "INSERT INTO"
    target = Table(c.table())
    _partition(c)
    columns: tuple[str, ...] = ()
    if c.key == "(" and not _holds_query(c):
        columns = _columns(c)
    source: Query | None
    if c.take("SET"):
        sets = c.several(_assignment)
        columns, source = tuple(name.parts[-1] for name, _ in sets), Query(Rows((tuple(v for _, v in sets),)))
    elif c.pick("VALUES", "VALUE"):
        c.swapped[c.place - 1] = "VALUES"
        source = Query(Rows(c.several(_values)))
    elif c.key in _QUERY or c.key == "(":
        source = c.query()
    else:
        raise Unreadable(f"{c.token.text[:40]!r} where the rows should be")
    alias = _row_alias(c)
    updates: tuple[tuple[Name, Node], ...] = ()
    if c.take("ON"):
        c.need("DUPLICATE", "KEY", "UPDATE")
        updates, tests = c.several(_assignment), True
    return Insert(target, columns, source, updates, _returning(c), tests, alias)


def _values(c: Cursor) -> tuple[Node, ...]:
    if c.key == "ROW":
        c.skip("ROW")
    return row(c)


def _columns(c: Cursor) -> tuple[str, ...]:
    c.need("(")
    found: list[str] = []
    while c.key != ")":
        found.append(c.parts(3)[-1])
        if not c.take(","):
            break
    c.need(")")
    return tuple(found)


def _row_alias(c: Cursor) -> str:
    """AS new(a, b), by which ON DUPLICATE KEY UPDATE may call the row that was to be inserted."""
    if c.key != "AS":
        return ""
    begin = c.place
    c.step()
    alias = c.name()
    if c.key == "(":
        raise Unreadable("other names for the columns of a new row")
    c.cut.update(range(begin, c.place))
    return alias


def _holds_query(c: Cursor) -> bool:
    return c.ahead(1) in (*_QUERY, "(", "VALUES")


def _partition(c: Cursor) -> None:
    if c.at("PARTITION", "("):
        begin = c.place
        c.step()
        c.balanced()
        c.cut.update(range(begin, c.place))


def _assignment(c: Cursor) -> tuple[Name, Node]:
    name = Name(c.parts(3))
    if not c.pick("=", ":="):
        raise Unreadable("an assignment without a sign")
    return name, expression(c)


def _returning(c: Cursor) -> tuple[Item, ...]:
    return c.several(item) if c.take("RETURNING") else ()


def _update(c: Cursor) -> Update:
    ctes, recursive = with_clause(c)
    c.need("UPDATE")
    c.skip("LOW_PRIORITY", "IGNORE")
    sources = from_clause(c)
    if c.at("FOR", "PORTION"):
        raise Unreadable("FOR PORTION OF")
    c.need("SET")
    sets = c.several(_assignment)
    where = (expression(c),) if c.take("WHERE") else ()
    order = ordering(c) if c.take("ORDER", "BY") else ()
    order += limit_clause(c)
    return Update(sources, sets, where, order, ctes, recursive, _returning(c))


def _delete(c: Cursor) -> Delete:
    ctes, recursive = with_clause(c)
    c.need("DELETE")
    c.skip("LOW_PRIORITY", "QUICK", "IGNORE")
    targets: tuple[tuple[str, ...], ...] = ()
    sources: tuple[Source, ...]
    if c.key != "FROM":
        targets = c.several(_target)
        c.need("FROM")
        sources = from_clause(c)
    else:
        c.need("FROM")
        sources, targets = _delete_from(c)
    if c.at("FOR", "PORTION"):
        raise Unreadable("FOR PORTION OF")
    where = (expression(c),) if c.take("WHERE") else ()
    order = ordering(c) if c.take("ORDER", "BY") else ()
    order += limit_clause(c)
    return Delete(sources, targets, where, order, _returning(c), ctes, recursive)


def _delete_from(c: Cursor) -> tuple[tuple[Source, ...], tuple[tuple[str, ...], ...]]:
    place, tables = c.place, set(c.tables)
    targets = c.several(_target)
    if c.take("USING"):
        return from_clause(c), targets
    c.back(place)
    c.tables = tables
    if len(targets) > 1:
        raise Unreadable("DELETE FROM several tables without USING")
    return from_clause(c), ()


def _target(c: Cursor) -> tuple[str, ...]:
    parts = c.table()
    if c.at(".", "*"):
        c.skip(".", "*")
    return parts
