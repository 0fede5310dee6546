"""SELECT in all its forms: tokens to tree.

Source: MySQL 8.4 manual, "SELECT Statement", "JOIN Clause", "WITH"; MariaDB, "SELECT".
Not read, so unknown: PROCEDURE ANALYSE, rows of another time, LIMIT in the words of other databases, ODBC's braces.
"""

from appliance.facts.mysql import forms
from appliance.facts.mysql.cursor import Cursor
from appliance.facts.mysql.expression import expression, expressions, opens_query, ordering, window
from appliance.facts.mysql.lexer import Unreadable
from appliance.facts.mysql.tree import (
    Combined,
    Cte,
    Derived,
    Into,
    Item,
    Join,
    Made,
    Name,
    Node,
    Query,
    Rows,
    Select,
    Source,
    Star,
    Table,
)

MODIFIERS = (
    "HIGH_PRIORITY", "STRAIGHT_JOIN", "SQL_SMALL_RESULT", "SQL_BIG_RESULT", "SQL_BUFFER_RESULT", "SQL_NO_CACHE",
    "SQL_CACHE", "SQL_CALC_FOUND_ROWS",
)  # fmt: skip
FORMS = forms  # registers what it reads
_SETS = ("UNION", "EXCEPT", "INTERSECT", "MINUS")
_FORM = (
    "FIELDS", "COLUMNS", "LINES", "TERMINATED", "ENCLOSED", "ESCAPED", "STARTING", "OPTIONALLY", "BY", "<string>",
    "<hex>",
)  # fmt: skip
_JOINS = ("JOIN", "INNER", "CROSS", "STRAIGHT_JOIN", "LEFT", "RIGHT", "NATURAL")


def query(c: Cursor) -> Query:
    """Take a query with all before and after it."""
    ctes, recursive = with_clause(c)
    made = _combined(c)
    order, limit, locks, into = made.order, made.limit, made.locks, made.into
    if not isinstance(made.body, Select):
        order, limit, locks, into = _tail(c, order, limit, locks, into)
    if ctes and made.ctes:
        raise Unreadable("WITH in WITH without parentheses")
    return Query(made.body, ctes or made.ctes, recursive or made.recursive, order, limit, locks, into)


def with_clause(c: Cursor) -> tuple[tuple[Cte, ...], bool]:
    """Take WITH ... if it is there."""
    if not c.take("WITH"):
        return (), False
    recursive = c.take("RECURSIVE")
    return c.several(_cte), recursive


def _cte(c: Cursor) -> Cte:
    name = c.name()
    columns = names(c) if c.key == "(" else ()
    c.need("AS", "(")
    inner = c.query()
    c.need(")")
    if c.key == "CYCLE":
        raise Unreadable("CYCLE of a recursive query")
    return Cte(name, columns, inner)


def names(c: Cursor) -> tuple[str, ...]:
    """Take a list of names in parentheses."""
    c.need("(")
    found = c.several(Cursor.name)
    c.need(")")
    return found


def _combined(c: Cursor) -> Query:
    """Take one or more queries with UNION and the like between."""
    first = _single(c)
    if c.key not in _SETS:
        return first
    parts, distinct = [first], False
    while word := c.pick(*_SETS):
        distinct = word != "UNION" or c.key != "ALL" or distinct  # INTERSECT ALL compares as well
        c.pick("ALL", "DISTINCT")
        parts.append(_single(c))
    last = parts[-1]
    if isinstance(last.body, Select) and c.tokens[c.place - 1].key != ")":
        # ORDER BY and LIMIT behind the last SELECT are those of the whole.
        parts[-1] = Query(last.body)
        return Query(Combined(tuple(parts), distinct), (), False, last.order, last.limit, last.locks, last.into)
    return Query(Combined(tuple(parts), distinct))


def _single(c: Cursor) -> Query:
    if c.key == "(":
        return _bracketed(c)
    if c.take("VALUES"):
        return Query(Rows(c.several(_row)))
    if c.take("TABLE"):
        c.selects += 1
        return _finished(c, Select((Item(Star()),), (Table(c.table()),)))
    c.need("SELECT")
    c.selects += 1
    distinct = False
    while True:
        c.skip(*MODIFIERS)
        word = c.pick("ALL", "DISTINCT", "DISTINCTROW")
        if not word:
            break
        distinct = distinct or word != "ALL"
    items = c.several(item)
    into = into_clause(c)
    body = _select(c, items, distinct)
    return _finished(c, body, into)


def _bracketed(c: Cursor) -> Query:
    """( query ), with ORDER BY and LIMIT behind it if it has none."""
    c.need("(")
    inner = c.query()
    c.need(")")
    if c.key in ("ORDER", "LIMIT", "LOCK", "INTO"):
        order, limit, locks, into = _tail(c, inner.order, inner.limit, inner.locks, inner.into)
        return Query(inner.body, inner.ctes, inner.recursive, order, limit, locks, into)
    return inner


def _finished(c: Cursor, body: Select, into: Into | None = None) -> Query:
    order, limit, locks, into = _tail(c, (), (), False, into)
    return Query(body, (), False, order, limit, locks, into)


def _row(c: Cursor) -> tuple[Node, ...]:
    if c.key == "ROW":
        c.cut.add(c.place)
        c.step()
    return row(c)


def row(c: Cursor) -> tuple[Node, ...]:
    """Take (a, b, ...), which may be empty."""
    c.need("(")
    if c.take(")"):
        return ()
    found = expressions(c)
    c.need(")")
    return found


def item(c: Cursor) -> Item:
    """Take one item of a select list."""
    if c.take("*"):
        return Item(Star())
    place = c.place
    if c.is_name():
        parts = c.parts(3)
        if c.take(".", "*"):
            return Item(Star(parts))
        c.back(place)
    node = expression(c)
    alias = c.alias(strings=True)
    return Item(node, alias or (node.parts[-1] if isinstance(node, Name) else ""))


def _select(c: Cursor, items: tuple[Item, ...], distinct: bool) -> Select:
    sources = from_clause(c) if c.take("FROM") else ()
    where = (expression(c),) if c.take("WHERE") else ()
    group: tuple[Node, ...] = ()
    if c.take("GROUP", "BY"):
        group = ordering(c)
        c.take("WITH", "ROLLUP")
    having = (expression(c),) if c.take("HAVING") else ()
    windows: tuple[Node, ...] = ()
    if c.take("WINDOW"):
        windows = tuple(node for found in c.several(_window) for node in found)
    return Select(items, sources, where, group, having, windows, distinct)


def _window(c: Cursor) -> tuple[Node, ...]:
    c.name()
    c.need("AS")
    return window(c)


def _tail(
    c: Cursor, order: tuple[Node, ...], limit: tuple[Node, ...], locks: bool, into: Into | None
) -> tuple[tuple[Node, ...], tuple[Node, ...], bool, Into | None]:
    """Take ORDER BY, LIMIT, locks and INTO."""
    if c.take("ORDER", "BY"):
        order += ordering(c)
    limit += limit_clause(c)
    into = into or into_clause(c)
    while True:
        if c.take("FOR"):
            if not c.pick("UPDATE", "SHARE"):
                raise Unreadable("FOR without what it is for")
            if c.take("OF"):
                c.several(Cursor.table)
            _patience(c)
        elif not c.take("LOCK", "IN", "SHARE", "MODE"):
            break
        locks = True
    return order, limit, locks, into or into_clause(c)


def _patience(c: Cursor) -> None:
    """Take how long to wait for a lock."""
    if c.at("SKIP", "LOCKED"):
        c.skip("SKIP", "LOCKED")
    elif c.key == "NOWAIT":
        c.skip("NOWAIT")
    elif c.key == "WAIT":
        c.skip("WAIT")
        c.skip("<number>")


def limit_clause(c: Cursor) -> tuple[Node, ...]:
    """Take LIMIT if it is there."""
    if c.key == "OFFSET" or c.at("FETCH", "FIRST") or c.at("FETCH", "NEXT"):
        raise Unreadable("LIMIT in the words of other databases")
    if not c.take("LIMIT"):
        return ()
    if c.key == "ROWS":
        raise Unreadable("LIMIT ROWS EXAMINED")
    found = [expression(c)]
    if c.pick(",", "OFFSET"):
        found.append(expression(c))
    if c.key == "ROWS":
        raise Unreadable("LIMIT ROWS EXAMINED")
    return tuple(found)


def into_clause(c: Cursor) -> Into | None:
    """Take INTO of a SELECT; the second opinion does not see it."""
    if c.key != "INTO":
        return None
    begin = c.place
    c.step()
    word = c.pick("OUTFILE", "DUMPFILE")
    if word:
        c.string()
        if c.take("CHARACTER", "SET") or c.take("CHARSET"):
            c.step()
        _file_form(c)
        made = Into(True)
    else:
        made = Into(False, c.several(_variable))
    c.cut.update(range(begin, c.place))
    return made


def _variable(c: Cursor) -> str:
    if c.key != "<variable>":
        raise Unreadable("INTO what is neither a file nor a variable")
    return c.step().text


def _file_form(c: Cursor) -> None:
    """Take FIELDS ... LINES ... of a file."""
    while c.pick(*_FORM):
        continue


# -- FROM -------------------------------------------------------------------------------------------------------------


def from_clause(c: Cursor) -> tuple[Source, ...]:
    """Take what follows FROM."""
    if c.take("DUAL"):
        return ()
    return c.several(_joined)


def _joined(c: Cursor) -> Source:
    left = _source(c)
    while c.key in _JOINS:
        natural = c.take("NATURAL")
        if c.pick("LEFT", "RIGHT"):
            c.take("OUTER")
            c.need("JOIN")
        elif not c.take("STRAIGHT_JOIN"):
            c.pick("INNER", "CROSS")
            c.need("JOIN")
        right = _source(c)
        # A join without its condition may come inside another's: a JOIN b JOIN c ON x ON y.
        on: tuple[Node, ...] = ()
        using: tuple[str, ...] = ()
        if not natural:
            while c.take("ON"):
                on += (expression(c),)
            if c.take("USING"):
                using = names(c)
        left = Join((left, right), on, using, natural)
        while c.take("ON"):
            left = Join((left,), (expression(c),))
    return left


def _source(c: Cursor) -> Source:
    if c.key == "(":
        return c.inside(_nested)
    if c.take("LATERAL"):
        return _derived(c, True)
    if c.key == "JSON_TABLE" and c.ahead(1) == "(":
        return _json_table(c)
    parts = c.table()
    divided = c.at("PARTITION", "(")
    if divided:
        begin = c.place
        c.step()
        names(c)
        c.cut.update(range(begin, c.place))
    if c.key == "FOR" and c.ahead(1) in ("SYSTEM_TIME", "SYSTEM"):
        raise Unreadable("rows of another time")
    alias = c.alias()
    _index_hints(c)
    return Table(parts, alias, (), divided)


def _index_hints(c: Cursor) -> None:
    begin = c.place
    while c.key in ("USE", "IGNORE", "FORCE") and c.ahead(1) in ("INDEX", "KEY"):
        c.step()
        c.step()
        if c.take("FOR") and not (c.take("JOIN") or c.take("ORDER", "BY") or c.take("GROUP", "BY")):
            raise Unreadable("a hint for nothing")
        c.need("(")
        while c.key != ")":
            if not c.take("PRIMARY"):
                c.name()
            c.take(",")
        c.need(")")
        c.take(",")
    c.cut.update(range(begin, c.place))


def _nested(c: Cursor) -> Source:
    """( query ) alias, or sources in parentheses."""
    if opens_query(c, values=True):
        return _derived(c, False)
    c.need("(")
    sources = c.several(_joined)
    c.need(")")
    return Join(sources)


def _derived(c: Cursor, lateral: bool) -> Source:
    c.need("(")
    inner = c.query()
    c.need(")")
    alias = c.alias()
    columns = names(c) if alias and c.key == "(" else ()
    return Derived(inner, alias, columns, lateral)


def _json_table(c: Cursor) -> Source:
    c.need("JSON_TABLE", "(")
    args = [expression(c)]
    c.need(",")
    args.append(expression(c))
    begin = c.place
    c.need("COLUMNS")
    c.balanced()
    for token in c.tokens[begin : c.place]:
        if token.key in ("SELECT", "<variable>"):
            raise Unreadable("JSON_TABLE with a query in its columns")
    c.need(")")
    return Made(tuple(args), c.alias())
