"""Reads a text of MySQL's or MariaDB's dialect: text to what it would do."""

from collections.abc import Sequence

import msgspec

from appliance.facts.mysql import definition, server, session
from appliance.facts.mysql.lexer import UNSURE, Token, Unreadable, readings
from appliance.facts.mysql.reading import Reading, alternatives, unread
from appliance.facts.mysql.statement import statement
from appliance.facts.mysql.walk import Walk
from appliance.facts.mysql.world import World

MAX_TEXTS = 3  # texts in one another: EXECUTE IMMEDIATE 'EXECUTE IMMEDIATE ...'

MAX_PARTS = 3_000  # statements of one text; each takes 0.2 to 0.6 ms, most of it for the second opinion

FAMILIES = (definition, server, session)  # modules that register what reads their statements


def read(text: str, world: World, depth: int = 0) -> Reading:
    """Return what the text means in this world. Never raises: what cannot be read is unknown."""
    if depth > MAX_TEXTS:
        return unread("texts in texts")
    try:
        return alternatives([_one(tokens, text, world, depth) for tokens in readings(text, world.mode)])
    except Unreadable as error:
        return unread(str(error))
    except RecursionError:
        return unread("nested too deeply")


def _one(tokens: Sequence[Token], text: str, world: World, depth: int) -> Reading:
    walk = Walk(world)
    walk.read = lambda inner: read(inner, world, depth + 1)
    parts = split(tokens)
    if len(parts) > MAX_PARTS:
        raise Unreadable(f"more than {MAX_PARTS} statements")
    for part in parts:
        if walk.changes or any(step.verb == "execute" for step in walk.steps):
            # A server cuts each statement by what those before it have set: once that is not known, it stays so.
            after = _after(walk)
            if (after.mode, after.database) != (world.mode, world.database):
                _rest(walk, text[part[0].start :], depth, after)
                break
        walk.count += 1
        before = len(walk.results)
        statement(walk, part, text)
        if len(walk.results) == before:
            walk.results.append(None)
    if not walk.count:
        walk.add("effect", "session")
    return walk.reading()


def _after(walk: Walk) -> World:
    """Return what the next statement is read against when settings may be others."""
    stays = walk.sets["statement"] <= {"SET", "SELECT"} and "effect" not in walk.unknown  # in its database
    return msgspec.structs.replace(walk.world, mode=UNSURE, database=walk.world.database if stays else "")


def _rest(walk: Walk, text: str, depth: int, after: World) -> None:
    """Read the statements behind one after which settings may be others."""
    inner = read(text, after, depth)
    walk.absorb(inner)
    walk.steps += inner.steps
    walk.count += inner.count
    walk.results += inner.results if inner.results else [None] * inner.count
    walk.creates |= inner.creates


def split(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """Return the statements. What begins a body of statements takes all that follows."""
    parts: list[Sequence[Token]] = []
    begin = 0
    for at, token in enumerate(tokens):
        if token.key == ";":
            if at > begin:
                if has_body(tokens[begin:at]):
                    return [*parts, tokens[begin:]]
                parts.append(tokens[begin:at])
            begin = at + 1
    if begin < len(tokens):
        parts.append(tokens[begin:])
    return parts


_BODIES = frozenset(("PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"))
_BLOCKS = frozenset(("IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR", "DECLARE"))


def has_body(tokens: Sequence[Token]) -> bool:
    """Return True if a statement holds others, with semicolons between them."""
    first = tokens[0].key
    if first in ("CREATE", "ALTER"):
        for token in tokens[1:20]:
            if token.key in _BODIES:
                return True
            if token.key in ("TABLE", "VIEW", "INDEX", "USER", "DATABASE", "SCHEMA", "ROLE", "SERVER", "SEQUENCE"):
                return False
        return False
    if first == "BEGIN":
        return len(tokens) > 1 and tokens[1].key not in ("WORK",)
    return first in _BLOCKS or (len(tokens) > 1 and tokens[1].key == ":")
