"""The second opinion: sqlglot reads the same tokens with a grammar of its own.

It is asked what a statement does and which tables it names. Where it says other than our own reading, or cannot say,
the statement is not known. It is shown the tokens, not the text: how a text is cut into tokens depends on settings it
does not know. It is loaded when a first MySQL statement comes (17 MB). The one in C (sqlglotc) is six times as fast but
takes 41 MB, and a deep text would overrun its stack instead of raising an error.
"""

import importlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from appliance.facts.mysql.cursor import Cursor
from appliance.facts.mysql.lexer import Token
from appliance.facts.mysql.tree import Delete, Insert, Item, Parsed, Query, Select, Update

MAX_TOKENS = 20_000  # of one statement, once repeated rows are left out (shape.py); sqlglot takes 30 us for each

_ODD = re.compile(r"[^0-9A-Za-z _.,:$-]")


def shown(tokens: Sequence[Token], cut: Iterable[int] = (), swapped: dict[int, str] | None = None) -> str:
    """Return tokens as a text any grammar cuts into the same tokens."""
    left, other = frozenset(cut), swapped or {}
    return " ".join(other.get(at) or _shown(token) for at, token in enumerate(tokens) if at not in left)


def _shown(token: Token) -> str:
    match token.key:
        case "<name>":
            return "`" + token.text.replace("`", "``") + "`"
        case "<string>":
            return "'" + _ODD.sub("_", token.text[:60]) + "'"
        case "<variable>":
            return "@v"
        case "<system>":
            return "@@v"
        case "<hex>":
            return "0x41"
    return token.text


def differs(c: Cursor, parsed: Parsed) -> str:
    """Return why sqlglot does not say the same; "" if it does."""
    if len(c.tokens) > MAX_TOKENS:
        return f"more than {MAX_TOKENS} words"
    text, more = shown(c.tokens, c.cut, c.swapped), 0
    if c.keys[0] == "VALUES":  # which it only knows in a query
        text, more = f"select * from ({text}) as v", 1
    try:
        trees = _parser()(text)
    except RecursionError:
        return "sqlglot finds it nested too deeply"
    except Exception as error:  # whatever it raises, it could not read it
        return f"sqlglot cannot read it: {str(error).splitlines()[0][:80]}"
    if len(trees) != 1 or trees[0] is None:
        return "sqlglot finds another number of statements"
    return _compare(trees[0], parsed, more)


def _compare(tree: Any, parsed: Parsed, more: int) -> str:
    exp: Any = _load("sqlglot.expressions")
    made = parsed.statement
    kinds: tuple[Any, ...]
    match made:
        case Insert():
            kinds = (exp.Insert,)
        case Update():
            kinds = (exp.Update,)
        case Delete():
            kinds = (exp.Delete,)
        case _:
            kinds = (exp.Query, exp.Values, exp.Table)
    if not any(isinstance(tree, kind) for kind in kinds):
        return f"sqlglot finds {type(tree).__name__}"
    tables = {_parts(table) for table in tree.find_all(exp.Table) if table.name}
    tables -= {table for table in tables if len(table) == 1 and table[0].lower() == "dual"}
    if {tuple(p for p in parts) for parts in parsed.tables} != tables:
        return "sqlglot finds other tables"
    if sum(1 for _ in tree.find_all(exp.Select)) != parsed.selects + more:
        return "sqlglot finds another number of queries"
    if isinstance(made, Query) and isinstance(made.body, Select) and isinstance(tree, exp.Select):
        return _lists(tree, made.body.items)
    return ""


def _lists(tree: Any, items: tuple[Item, ...]) -> str:
    return "" if len(tree.expressions) == len(items) else "sqlglot finds another number of columns"


def _parts(table: Any) -> tuple[str, ...]:
    return (table.db, table.name) if table.db else (table.name,)


_loaded: dict[str, Any] = {}


def _load(name: str) -> Any:
    if name not in _loaded:
        _loaded[name] = importlib.import_module(name)
    return _loaded[name]


def _parser() -> Any:
    if "parse" not in _loaded:
        logger = _load("logging").getLogger("sqlglot")
        logger.disabled = True  # it warns of what it only understands in part; here that is no agreement
        _loaded["parse"] = _load("sqlglot.dialects.mysql").MySQL().parse
    return _loaded["parse"]
