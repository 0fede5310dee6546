"""Expressions: tokens to tree.

Which operator binds first does not matter here: a value comes from all columns of its expression. So a row of operands
and operators is one `Group`, and what matters of the operators is whether they can fail, or warn, on some values.
Source: MySQL 8.4 manual, "Expressions", "Functions and Operators"; MariaDB, "Built-in Functions".
"""

from collections.abc import Callable

from appliance.facts.mysql import reserved
from appliance.facts.mysql.cursor import Cursor
from appliance.facts.mysql.lexer import Unreadable
from appliance.facts.mysql.tree import (
    LONG,
    MAX_SHORT,
    PLAIN,
    TEXT,
    Call,
    Case,
    Group,
    Name,
    Node,
    Nothing,
    Sub,
    System,
    Variable,
)

_PREFIX = frozenset("NOT ! ~ - + BINARY".split())
_OPERATORS = frozenset(
    "AND OR XOR && || = <=> <> != < > <= >= + - * / % DIV MOD << >> & | ^ LIKE REGEXP RLIKE IN BETWEEN ESCAPE".split()
)
_COMPARES = frozenset("= <=> <> != < > <= >= LIKE IN BETWEEN AND-OF-BETWEEN NULL ESCAPE".split())
"""Operators that neither fail nor warn where a column meets texts."""

_AFTER_QUERY = frozenset(") UNION EXCEPT INTERSECT MINUS ORDER LIMIT".split())
_TRUTHS = frozenset("TRUE FALSE UNKNOWN NULL JSON".split())
_SPECIAL: dict[str, Callable[[Cursor, str], Call]] = {}


def special(*words: str) -> Callable[[Callable[[Cursor, str], Call]], Callable[[Cursor, str], Call]]:
    """Register what reads the arguments of these functions."""

    def register(read: Callable[[Cursor, str], Call]) -> Callable[[Cursor, str], Call]:
        for word in words:
            _SPECIAL[word] = read
        return read

    return register


def expression(c: Cursor) -> Node:
    """Take an expression."""
    return c.inside(_flat)


def expressions(c: Cursor) -> tuple[Node, ...]:
    """Take one or more expressions with commas between."""
    return c.several(expression)


def ordering(c: Cursor) -> tuple[Node, ...]:
    """Take what follows ORDER BY or GROUP BY."""
    found = []
    while True:
        found.append(expression(c))
        c.pick("ASC", "DESC")
        if not c.take(","):
            return tuple(found)


def _flat(c: Cursor) -> Node:
    items: list[Node] = []
    operators: set[str] = set()
    between = 0
    while True:
        while c.key in _PREFIX:
            operators.add(c.step().key)
        items.append(_operand(c))
        _after(c, items, operators)
        if c.key == "NOT" and c.ahead(1) in ("LIKE", "REGEXP", "RLIKE", "IN", "BETWEEN"):
            c.step()
        if c.key == "IN" and c.ahead(1) == "(":
            c.step()
            items.append(_parenthesis(c))
            operators.add("IN")
            _after(c, items, operators)
        operator = c.key
        if operator == "AND" and between:
            between, operator = between - 1, "AND-OF-BETWEEN"
        elif operator == "BETWEEN":
            between += 1
        elif operator == "SOUNDS":
            c.need("SOUNDS")
            if c.key != "LIKE":
                raise Unreadable("SOUNDS without LIKE")
        elif operator not in _OPERATORS:
            break
        operators.add(operator)
        c.step()
        if c.key in ("ANY", "ALL", "SOME") and c.ahead(1) == "(":
            c.step()
    return _grouped(items, operators)


def _after(c: Cursor, items: list[Node], operators: set[str]) -> None:
    """Take what may stand behind an operand."""
    while True:
        if c.take("COLLATE"):
            if c.key not in ("BINARY", "<string>"):
                c.name()
            else:
                c.step()
        elif c.take("IS"):
            c.take("NOT")
            operators.add("NULL" if c.key == "NULL" else "IS")
            if not c.pick(*_TRUTHS):
                raise Unreadable("IS without what it is")
        elif c.key in ("->", "->>"):
            c.step()
            c.swapped[c.place] = "'$.a'"
            c.string()
            operators.add("->")
        elif c.at("MEMBER"):
            c.step()
            c.take("OF")
            items.append(_parenthesis(c))
            operators.add("MEMBER")
        else:
            return


def _grouped(items: list[Node], operators: set[str]) -> Node:
    if len(items) == 1 and not operators - {"BINARY"}:
        return items[0]
    if len(items) == 1 and isinstance(items[0], Nothing) and operators <= _PREFIX:
        return PLAIN  # a number with a sign is a number
    looked = [item for item in items if item != TEXT]
    tuples = any(isinstance(item, Group) and item.risky for item in items)
    return Group(tuple(items), tuples or len(looked) > 1 or not operators <= _COMPARES | {"BINARY"})


def _operand(c: Cursor) -> Node:
    key = c.key
    match key:
        case "<number>" | "<hex>" | "<param>":
            text = c.step().text
            return Nothing(place=int(text)) if text.isascii() and text.isdigit() and len(text) < 5 else PLAIN
        case "<string>":
            return TEXT if len(c.string()) <= MAX_SHORT else LONG
        case "NULL":
            c.step()
            return TEXT
        case "TRUE" | "FALSE" | "DEFAULT" | "MAXVALUE" if c.ahead(1) != "(":
            c.step()
            return PLAIN
        case "<variable>":
            name = c.step().text
            return Variable(name, expression(c) if c.take(":=") else None)
        case "<system>":
            return System(c.step().text)
        case "(":
            return _parenthesis(c)
        case "CASE":
            return c.inside(_case)
        case "EXISTS":
            c.step()
            c.need("(")
            query = c.query()
            c.need(")")
            return Sub(query)
        case "INTERVAL":
            return _interval(c)
    return _worded(c)


def _worded(c: Cursor) -> Node:
    """Take an operand that begins with a word."""
    key, place = c.key, c.place
    token = c.token
    if not token.quoted:
        if c.ahead(1) == "<string>" and (key in ("DATE", "TIME", "TIMESTAMP") or key.startswith("_")):
            c.step()
            c.string()
            return TEXT
        if key.startswith("_") and c.ahead(1) == "<hex>":
            c.cut.add(c.place)
            c.step()
            c.step()
            return PLAIN
        if key in ("NEXT", "PREVIOUS") and c.ahead(1) == "VALUE" and c.ahead(2) == "FOR":
            raise Unreadable("a sequence")  # nextval() says the same, and the second opinion knows that form alone
        if c.ahead(1) == "(" and (c.is_name() or key in reserved.CALLED or key in _SPECIAL):
            return c.inside(_call)
        if key in reserved.BARE:
            c.step()
            return PLAIN
    if c.ahead(1) == "(" and token.quoted:
        return c.inside(_call)
    parts = c.parts(3)
    if c.key == "(":
        if len(parts) != 2:
            raise Unreadable("a parenthesis behind a name of three parts")
        c.back(place)
        return c.inside(_call)
    return Name(parts)


def _parenthesis(c: Cursor) -> Node:
    """Take ( ... ): an expression, several, or a query."""
    if opens_query(c):
        c.need("(")
        query = c.query()
        c.need(")")
        return Sub(query)
    c.need("(")
    items = expressions(c)
    c.need(")")
    if len(items) == 1:
        return items[0]
    return TEXT if all(item == TEXT for item in items) else Group(items)


def opens_query(c: Cursor, values: bool = False) -> bool:
    """Return True if the parenthesis that comes next holds a query, in more parentheses or not, and not an expression
    or sources that begin with one. `values`: VALUES begins a query too, it cannot be the function."""
    place, keys = c.place, c.keys
    while keys[place] == "(":
        inner = place + 1
        if keys[inner] != "(":
            return keys[inner] in ("SELECT", "WITH", "TABLE") or (
                keys[inner] == "VALUES" and (values or keys[inner + 1] == "ROW")
            )
        if keys[c.closing(inner) + 1] not in _AFTER_QUERY:
            return False
        place = inner
    return False


def _case(c: Cursor) -> Node:
    c.need("CASE")
    conditions: list[Node] = []
    results: list[Node] = []
    if c.key != "WHEN":
        conditions.append(expression(c))
    while c.take("WHEN"):
        conditions.append(expression(c))
        c.need("THEN")
        results.append(expression(c))
    if c.take("ELSE"):
        results.append(expression(c))
    c.need("END")
    return Case(tuple(conditions), tuple(results))


def _interval(c: Cursor) -> Node:
    c.need("INTERVAL")
    node = expression(c)
    if not c.pick(*reserved.UNITS) and not isinstance(node, Group):
        raise Unreadable("INTERVAL without a unit")
    return Group((node,), True)


# -- functions --------------------------------------------------------------------------------------------------------


def _call(c: Cursor) -> Node:
    first = c.step()
    schema, token = "", first
    if c.take("."):
        schema, token = first.text, c.step()
    name, spaced = token.text.lower() if token.text.isascii() else token.text, not c.token.glued
    c.need("(")
    special = _SPECIAL.get(token.key) if not schema and not token.quoted else None
    node = special(c, name) if special is not None else _plain(c, name)
    c.need(")")
    node = Call(node.name, node.args, schema, node.compared, spaced or token.quoted)
    return _over(c, node)


def _plain(c: Cursor, name: str) -> Call:
    """Take arguments, of an aggregate too."""
    compared: tuple[Node, ...] = ()
    if c.key == ")":
        return Call(name)
    distinct = c.pick("DISTINCT", "ALL") == "DISTINCT"
    if c.take("*"):
        return Call(name)
    args = expressions(c)
    if distinct:
        compared = args
    if c.take("ORDER", "BY"):
        compared += ordering(c)
    if c.take("SEPARATOR"):
        c.string()
    if c.take("LIMIT"):
        compared += expressions(c)
    return Call(name, args, compared=compared)


def _over(c: Cursor, node: Call) -> Node:
    """Take what makes a function one over a window."""
    compared = list(node.compared)
    if c.take("WITHIN", "GROUP"):
        c.need("(", "ORDER", "BY")
        compared += ordering(c)
        c.need(")")
    if c.key in ("RESPECT", "IGNORE") and c.ahead(1) == "NULLS":
        c.step()
        c.step()
    if c.take("OVER"):
        compared += window(c) if c.key == "(" else _named(c)
    return Call(node.name, node.args, node.schema, tuple(compared), node.spaced)


def _named(c: Cursor) -> tuple[Node, ...]:
    c.name()
    return ()


def window(c: Cursor) -> tuple[Node, ...]:
    """Take a window in parentheses, and return what it is made by."""
    c.need("(")
    found: tuple[Node, ...] = ()
    if c.is_name(reserved.EITHER):
        c.name()
    if c.take("PARTITION", "BY"):
        found += expressions(c)
    if c.take("ORDER", "BY"):
        found += ordering(c)
    if c.pick("ROWS", "RANGE"):
        both = c.take("BETWEEN")
        found += _bound(c)
        if both:
            c.need("AND")
            found += _bound(c)
        if c.take("EXCLUDE"):
            raise Unreadable("a frame that excludes")
    c.need(")")
    return found


def _bound(c: Cursor) -> tuple[Node, ...]:
    if c.take("CURRENT", "ROW"):
        return ()
    if c.take("UNBOUNDED"):
        found: tuple[Node, ...] = ()
    else:
        found = (_operand(c),)
    if not c.pick("PRECEDING", "FOLLOWING"):
        raise Unreadable("a frame without a direction")
    return found
