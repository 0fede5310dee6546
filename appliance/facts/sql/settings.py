"""Settings of the session that change how later statements are read."""

from collections.abc import Iterable
from typing import Any

import msgspec

from appliance.facts.sql.reading import Step
from appliance.facts.sql.walk import Walk

PATH = "search_path"
ROLE = frozenset(("role", "session_authorization"))
RESOLVING = ROLE | {PATH}  # names of relations are looked up by these


def assign(walk: Walk, name: str, value: tuple[str, ...] | None, local: bool = False) -> None:
    """Note that a setting is given a value, None if it is not known, `local` if it ends with the
    transaction."""
    walk.changes = True
    walk.steps.append(Step("set", name, None, None if local else value))
    if name == PATH:
        walk.world = msgspec.structs.replace(walk.world, path=value)
    elif name in ROLE:
        path = None if "$user" in (walk.world.path or ()) else walk.world.path
        walk.world = msgspec.structs.replace(walk.world, path=path, closed=None)


def unsure(walk: Walk, name: str) -> None:
    """Note that a setting may have been given any value; empty for any setting."""
    for known in (PATH, "role"):
        if name in ("", known):
            assign(walk, known, None)
    if name not in ("", PATH, "role"):
        assign(walk, name, None)


def becomes(walk: Walk, name: str, values: Iterable[str | None]) -> None:
    """Note the role that a setting of these values makes the session's; None is a value that is not known."""
    if name in ROLE:
        for value in values:
            if value is None:
                walk.doubt("which role the session becomes is not known", frozenset(("role",)))
            elif value:
                walk.add("role", value)


def constant(walk: Walk, node: Any) -> str | None:
    """Return what a pb.Node says if it is a constant."""
    value = walk.look(node)
    match value.WhichOneof("val"):
        case "sval":
            return str(value.sval.sval)
        case "ival":
            return str(value.ival.ival)
        case "fval":
            return str(value.fval.fval)
        case "boolval":
            return "true" if value.boolval.boolval else "false"
    return None
