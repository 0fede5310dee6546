"""One text, as a client sends it, to what it would do."""

from typing import Any

from appliance.facts.sql import body, copying, keywords, modify, schema, select, session
from appliance.facts.sql.reading import Reading, Step, unread
from appliance.facts.sql.statement import statement
from appliance.facts.sql.tree import Unreadable, parse
from appliance.facts.sql.walk import Env, Walk
from appliance.facts.sql.world import World

# Statements in which a constant is a value among others. In most others it is a name, an option or a body.
ROWS = frozenset(("select_stmt", "insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"))
VISITING = (body, copying, keywords, modify, schema, select, session)
"""The modules whose visitors the walk needs; each registers its own when imported."""


def read(text: str, world: World) -> Reading:
    """Return what `text` would do, names being resolved in `world`. Never raises: what cannot be read is
    unknown."""
    return examined(text, world)[0]


def examined(text: str, world: World) -> tuple[Reading, frozenset[int] | None]:
    """Return it, and at which bytes constants are that it does not depend on; None: it may on all there is."""
    if not world.strings and "\\" in text:
        return unread("a backslash while standard_conforming_strings is off"), None
    if not world.encoded and not text.isascii():
        return unread("the client's encoding can hide quotes inside characters"), None
    try:
        return _read(parse(text), text, world)
    except Unreadable as error:
        return unread(str(error)), None
    except RecursionError:
        return unread("nested too deeply"), None


def _read(tree: Any, text: str, world: World) -> tuple[Reading, frozenset[int] | None]:
    walk = Walk(world)
    walk.count = len(tree.stmts)
    if not tree.stmts:
        walk.add("effect", "session")
    data = text.encode()
    for raw in tree.stmts:
        end = raw.stmt_location + raw.stmt_len if raw.stmt_len else None
        walk.statement = data[raw.stmt_location : end].decode()
        before = walk.ddl
        statement(walk, raw.stmt, Env())
        if walk.ddl and not before:
            walk.steps.append(Step("ddl", ""))
    reading = walk.reading()
    rows = all(raw.stmt.WhichOneof("node") in ROWS for raw in tree.stmts)
    plain = rows and not reading.steps and not reading.copies
    return reading, frozenset(walk.passed - walk.looked) if plain else None
