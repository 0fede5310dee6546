"""Settings of the session that change how later statements are read."""

import msgspec

from appliance.facts.sql.reading import Step
from appliance.facts.sql.walk import Walk

PATH = "search_path"
ROLE = frozenset(("role", "session_authorization"))


def assign(walk: Walk, name: str, value: tuple[str, ...] | None, local: bool = False) -> None:
    """Note that a setting is given a value, None if it is not known, `local` if it ends with the
    transaction."""
    walk.changes = True
    walk.steps.append(Step("set", name, None, None if local else value))
    if name == PATH:
        walk.world = msgspec.structs.replace(walk.world, path=value)
    elif name in ROLE and "$user" in (walk.world.path or ()):
        walk.world = msgspec.structs.replace(walk.world, path=None)


def unsure(walk: Walk, name: str) -> None:
    """Note that a setting may have been given any value; empty for any setting."""
    for known in (PATH, "role"):
        if name in ("", known):
            assign(walk, known, None)
    if name not in ("", PATH, "role"):
        assign(walk, name, None)
