"""Functions whose arguments have a grammar of their own: CAST(x AS type), TRIM(BOTH x FROM y) ...

Source: MySQL 8.4 manual, "Functions and Operators"; MariaDB, "Built-in Functions".
"""

from appliance.facts.mysql import reserved
from appliance.facts.mysql.cursor import Cursor
from appliance.facts.mysql.expression import expression, expressions, special
from appliance.facts.mysql.lexer import Unreadable
from appliance.facts.mysql.tree import Call, Name, Node, Sequence

_STRINGS = frozenset("CHAR BINARY NCHAR VARCHAR".split())
_CHARSETS = frozenset("utf8 utf8mb3 utf8mb4 binary".split())


@special("CAST")
def _cast(c: Cursor, name: str) -> Call:
    node = expression(c)
    c.need("AS")
    return _to(c, node, name)


def _to(c: Cursor, node: Node, name: str) -> Call:
    text = type_name(c)
    return Call("cast_text" if text in _STRINGS else "cast", (node,))


def type_name(c: Cursor) -> str:
    """Take the name of a type, and return its first word, with "(" if it has a length."""
    first = c.step().key
    if first in ("DOUBLE", "CHARACTER", "NATIONAL", "LONG"):
        c.pick("PRECISION", "VARYING", "CHARACTER", "CHAR", "VARCHAR", "VARBINARY")
    if c.key == "(":
        first += "("
        begin, end = c.balanced()
        if any(t.key not in ("(", ")", ",", "<number>", "<string>") for t in c.tokens[begin:end]):
            raise Unreadable("a type with what no type has")
    while True:
        if c.pick("UNSIGNED", "SIGNED", "ZEROFILL", "INTEGER", "INT", "ARRAY", "BINARY", "ASCII", "UNICODE"):
            continue
        if c.take("CHARACTER", "SET") or c.take("CHARSET"):
            if c.step().text.lower() not in _CHARSETS:
                first += " of another charset"  # not all characters have a place there
            continue
        if c.take("COLLATE"):
            c.step()
            continue
        return first


@special("CONVERT")
def _convert(c: Cursor, name: str) -> Call:
    node = expression(c)
    if c.take("USING"):
        charset = c.step().text.lower()
        return Call("cast_text" if charset in _CHARSETS else "cast", (node,))
    c.need(",")
    return _to(c, node, name)


@special("EXTRACT")
def _extract(c: Cursor, name: str) -> Call:
    if not c.pick(*reserved.UNITS):
        raise Unreadable("EXTRACT of no unit")
    c.need("FROM")
    return Call(name, (expression(c),))


@special("NEXTVAL", "LASTVAL", "SETVAL")
def _sequence(c: Cursor, name: str) -> Call:
    args: tuple[Node, ...] = (Sequence(c.parts(2)),)
    if c.take(","):
        args += expressions(c)
    return Call(name, args)


@special("TRIM")
def _trim(c: Cursor, name: str) -> Call:
    side = c.pick("BOTH", "LEADING", "TRAILING")
    args: tuple[Node, ...] = ()
    if not (side and c.key == "FROM"):
        args = (expression(c),)
    if c.take("FROM"):
        args += (expression(c),)
    return Call(name, args)


@special("MID", "SUBSTR", "SUBSTRING")
def _substring(c: Cursor, name: str) -> Call:
    args: tuple[Node, ...] = (expression(c),)
    while c.pick("FROM", "FOR", ","):
        args += (expression(c),)
    return Call(name, args)


@special("CHAR")
def _char(c: Cursor, name: str) -> Call:
    args = expressions(c)
    if c.take("USING"):
        c.step()
    return Call(name, args)


@special("WEIGHT_STRING")
def _weight(c: Cursor, name: str) -> Call:
    args = (expression(c),)
    if c.take("AS"):
        type_name(c)
    if c.take("LEVEL"):
        raise Unreadable("levels of WEIGHT_STRING")
    return Call(name, args)


@special("TIMESTAMPADD", "TIMESTAMPDIFF")
def _unit_first(c: Cursor, name: str) -> Call:
    if not c.pick(*reserved.UNITS):
        raise Unreadable(f"{name} without a unit")
    c.need(",")
    return Call(name, expressions(c))


@special("GET_FORMAT")
def _format(c: Cursor, name: str) -> Call:
    if not c.pick("DATE", "TIME", "DATETIME", "TIMESTAMP"):
        raise Unreadable("GET_FORMAT without a type")
    c.need(",")
    return Call(name, expressions(c))


@special("DEFAULT", "VALUE", "VALUES")
def _column(c: Cursor, name: str) -> Call:
    """VALUES(column) and DEFAULT(column); sqlglot does not know the second."""
    c.swapped[c.place - 2] = "any_value"
    return Call(name, (Name(c.parts(3)),))


@special("JSON_VALUE")
def _json_value(c: Cursor, name: str) -> Call:
    args = expressions(c)
    if c.take("RETURNING"):
        type_name(c)
    while c.key != ")":
        if not c.pick("NULL", "ERROR", "DEFAULT", "ON", "EMPTY", "<string>", "<number>"):
            raise Unreadable("JSON_VALUE with what it does not have")
    return Call(name, args)


@special("POSITION")
def _position(c: Cursor, name: str) -> Call:
    return Call(name, (expression(c),))


@special("MATCH")
def _match(c: Cursor, name: str) -> Call:
    """MATCH (columns) AGAINST (expression mode): both parentheses but the last."""
    columns = expressions(c)
    c.need(")", "AGAINST", "(")
    text = expression(c)
    while c.key != ")":
        if not c.pick("IN", "NATURAL", "LANGUAGE", "MODE", "BOOLEAN", "WITH", "QUERY", "EXPANSION"):
            raise Unreadable("AGAINST with what it does not have")
    return Call(name, (*columns, text), compared=columns)


@special("DATE_ADD", "DATE_SUB")
def _date(c: Cursor, name: str) -> Call:
    """DATE_ADD and the like: the interval is an expression like others."""
    return Call(name, expressions(c))
