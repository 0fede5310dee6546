"""One text, as a client sends it, to what it would do."""

from typing import Any

from appliance.facts.sql import body, copying, modify, schema, select, session
from appliance.facts.sql.reading import Reading, unread
from appliance.facts.sql.statement import statement
from appliance.facts.sql.tree import Unreadable, parse
from appliance.facts.sql.walk import Env, Walk
from appliance.facts.sql.world import World

VISITING = (body, copying, modify, schema, select, session)
"""The modules whose visitors the walk needs; each registers its own when imported."""


def read(text: str, world: World) -> Reading:
    """Return what `text` would do, names being resolved in `world`. Never raises: what cannot be read is
    unknown."""
    if not world.strings and "\\" in text:
        return unread("a backslash while standard_conforming_strings is off")
    if not world.encoded and not text.isascii():
        return unread("the client's encoding can hide quotes inside characters")
    try:
        return _read(parse(text), text, world)
    except Unreadable as error:
        return unread(str(error))
    except RecursionError:
        return unread("nested too deeply")


def _read(tree: Any, text: str, world: World) -> Reading:
    walk = Walk(world)
    walk.count = len(tree.stmts)
    if not tree.stmts:
        walk.add("effect", "session")
    data = text.encode()
    for raw in tree.stmts:
        end = raw.stmt_location + raw.stmt_len if raw.stmt_len else None
        walk.statement = data[raw.stmt_location : end].decode()
        statement(walk, raw.stmt, Env())
    return walk.reading()
