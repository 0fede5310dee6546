"""What reading one text gave: sets of words, what could not be known, and what it does to names of the
session."""

from collections.abc import Mapping

import msgspec

from appliance.facts import Copy

Names = frozenset[str]
NONE: Names = frozenset()

KEYS = "effect statement table column compared copied reshaped written function role setting copy".split()
"""Keys that `Reading.values` always has; see facts/postgres.py for what each means."""

ALL: Names = frozenset(KEYS)
OPAQUE: Names = ALL - {"function", "setting", "role"}
"""What a call of a function that is not known may add to."""
COLUMNS: Names = frozenset(("column", "compared", "copied", "reshaped", "written"))
RELATIONS: Names = COLUMNS | {"table"}


class Step(msgspec.Struct, frozen=True):
    """What a statement does with a name of the session: a prepared statement, a cursor, a setting."""

    verb: str  # prepare execute deallocate declare fetch close set end ddl
    name: str  # empty for ALL
    reading: "Reading | None" = None  # of the statement prepared or declared
    value: tuple[str, ...] | None = None  # of the setting, None if not known
    text: str = ""  # of the statement that prepares or declares


class Reading(msgspec.Struct, frozen=True):
    """What a text would do, but for what `steps` refer to."""

    values: Mapping[str, Names]
    unknown: Names = NONE
    why: str = ""
    count: int = 0
    steps: tuple[Step, ...] = ()
    changes: bool = False  # settings of the session may be others afterwards
    ddl: bool = False  # the catalogue may be another afterwards
    copies: tuple[Copy, ...] = ()
    missing: Names = NONE  # relations the catalogue does not have
    outputs: tuple["Output", ...] = ()  # of the last query, for views
    wide: bool = False  # the catalogue may be another for other sessions, too


class Output(msgspec.Struct, frozen=True, gc=False):
    """A column of a query or relation: its name, the columns its values come from, and which one it simply
    is."""

    name: str
    names: Names = NONE
    table: int = 0
    attribute: int = 0


def unread(why: str) -> Reading:
    """Return the reading of a text that could not be read."""
    return Reading(dict.fromkeys(KEYS, NONE), ALL, why)


def joined(first: Reading, *others: Reading) -> Reading:
    """Return one reading that says all that these say. Steps, copies, count and outputs are those of the
    first."""
    if not others:
        return first
    values = {key: first.values[key].union(*(other.values[key] for other in others)) for key in KEYS}
    every = (first, *others)
    return msgspec.structs.replace(
        first,
        values=values,
        unknown=first.unknown.union(*(other.unknown for other in others)),
        why="; ".join(dict.fromkeys(r.why for r in every if r.why)),
        changes=any(r.changes for r in every),
        ddl=any(r.ddl for r in every),
        wide=any(r.wide for r in every),
        missing=first.missing.union(*(other.missing for other in others)),
    )
