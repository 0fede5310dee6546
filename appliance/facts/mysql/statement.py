"""One statement: which family it is of, and the families of queries and changes of rows."""

from collections.abc import Callable, Sequence

from appliance.facts.mysql import change, opinion
from appliance.facts.mysql.cursor import Cursor
from appliance.facts.mysql.lexer import Token, Unreadable
from appliance.facts.mysql.modify import delete, insert, update
from appliance.facts.mysql.query import query as query_grammar
from appliance.facts.mysql.reading import NONE, Output
from appliance.facts.mysql.select import query
from appliance.facts.mysql.tree import Delete, Insert, Query, Update
from appliance.facts.mysql.walk import Env, Walk

Family = Callable[[Walk, Cursor], None]
FAMILIES: dict[str, Family] = {}


def begins(*words: str) -> Callable[[Family], Family]:
    """Register what reads the statements that begin with these words."""

    def register(family: Family) -> Family:
        for word in words:
            FAMILIES[word] = family
        return family

    return register


def cursor(walk: Walk, tokens: Sequence[Token]) -> Cursor:
    """Return a cursor over tokens."""
    return Cursor(tokens, walk.world.mode, query_grammar)


def statement(walk: Walk, tokens: Sequence[Token], text: str) -> None:
    """Note what one statement does. What cannot be read is unknown."""
    c = cursor(walk, tokens)
    walk.whole = text
    family = FAMILIES.get(c.key)
    try:
        if c.key in change.STARTS:
            rows(walk, c)
        elif family is None:
            walk.add("effect", "session" if c.key == "" else "procedure")
            raise Unreadable(f"statements that begin with {c.token.text[:30]!r} are not known here")
        else:
            family(walk, c)
    except Unreadable as error:
        walk.changes = walk.ddl = True
        walk.doubt(f"does not parse: {error}")


def rows(walk: Walk, c: Cursor, env: Env | None = None, *, tag: bool = True) -> list[Output]:
    """Note what a query or a change of rows does, if both opinions agree; return its columns."""
    parsed = change.statement(c)
    made = parsed.statement
    if tag:
        walk.add("statement", _tag(made, c))
    differs = opinion.differs(c, parsed)
    env = env or Env()
    match made:
        case Query():
            outputs = query(walk, made, env)
            walk.add("effect", "read")
            if made.into is not None:
                walk.add("statement", "SELECT INTO")
        case Insert():
            outputs = insert(walk, made, env)
        case Update():
            outputs = update(walk, made, env)
        case Delete():
            outputs = delete(walk, made, env)
    if differs:
        walk.doubt(differs)
    sends = (isinstance(made, Query) and made.into is None) or bool(getattr(made, "returning", ()))
    walk.results.append(tuple(outputs) if sends else None)
    return outputs


def _tag(made: object, c: Cursor) -> str:
    match made:
        case Query():
            return {"VALUES": "VALUES", "TABLE": "TABLE"}.get(c.tokens[0].key, "SELECT")
        case Insert():
            return c.tokens[0].key
        case Update():
            return "UPDATE"
    return "DELETE"


def values_of(walk: Walk, c: Cursor, tokens: Sequence[Token], env: Env | None = None) -> frozenset[str]:
    """Return the columns an expression, given by its tokens, comes from."""
    inner = cursor(walk, [Token("SELECT", "select", 0, 0, False), *tokens])
    results = len(walk.results)
    effects, statements = set(walk.sets["effect"]), set(walk.sets["statement"])
    outputs = rows(walk, inner, env, tag=False)
    del walk.results[results:]
    if inner.selects == 1:  # no query in it
        new = walk.sets["effect"] - effects - {"read"}
        walk.sets["effect"] = effects | new
    walk.sets["statement"] = statements
    return NONE.union(*(o.names for o in outputs))

