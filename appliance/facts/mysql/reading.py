"""What reading one text gave: sets of words, what could not be known, and what it does to names of the session."""

from collections.abc import Mapping

import msgspec

Names = frozenset[str]
NONE: Names = frozenset()

KEYS = "effect statement table column compared copied written function role setting copy database".split()
"""Keys that `Reading.values` always has; see facts/mysql/__init__.py for what each means."""

ALL: Names = frozenset(KEYS)
COLUMNS: Names = frozenset(("column", "compared", "copied", "written"))
RELATIONS: Names = COLUMNS | {"table"}
OPAQUE: Names = ALL - {"function", "setting", "role", "database"}
"""What a call of code that is not known may add to."""


class Step(msgspec.Struct, frozen=True):
    """What a statement does with a name of the session."""

    verb: str  # prepare execute deallocate
    name: str
    text: str | None = None  # what is prepared; None: not known


class Output(msgspec.Struct, frozen=True, gc=False):
    """A column of a result: its name in small letters, and the columns its values come from.

    `name` is "" for an expression without one, "*" for any number of columns that are not known. Not `sure`: it may
    hold other things, as a variable does. Not `plain`: it is made of a column, so it may be of any length.
    """

    name: str
    names: Names = NONE
    sure: bool = True
    plain: bool = True


class Reading(msgspec.Struct, frozen=True):
    """What a text would do, but for what `steps` refer to."""

    values: Mapping[str, Names]
    unknown: Names = NONE
    why: str = ""
    count: int = 0
    steps: tuple[Step, ...] = ()
    changes: bool = False  # how later texts are to be read may be another afterwards
    ddl: bool = False  # the catalogue may be another afterwards
    missing: Names = NONE  # names the catalogue does not have
    results: tuple[tuple[Output, ...] | None, ...] = ()  # for each statement; None: not known
    cancels: int = 0  # number of the connection whose statement it stops
    diagnoses: bool = False  # it tells of the statement before: SHOW WARNINGS
    keeps: bool = False  # it does so in a variable
    creates: frozenset[tuple[str, str]] = frozenset()  # temporary tables: the catalogue does not have them


def unread(why: str) -> Reading:
    """Return the reading of a text that could not be read."""
    return Reading(dict.fromkeys(KEYS, NONE), ALL, why, count=1, changes=True, ddl=True)


def joined(first: Reading, *others: Reading) -> Reading:
    """Return one reading that says all that these say. Steps and count are those of the first."""
    if not others:
        return first
    every = (first, *others)
    same = all(other.results == first.results for other in others)
    return msgspec.structs.replace(
        first,
        values={key: first.values[key].union(*(other.values[key] for other in others)) for key in KEYS},
        unknown=first.unknown.union(*(other.unknown for other in others)),
        why="; ".join(list(dict.fromkeys(r.why for r in every if r.why))[:4]),
        changes=any(r.changes for r in every),
        ddl=any(r.ddl for r in every),
        missing=first.missing.union(*(other.missing for other in others)),
        results=first.results if same else (),
        diagnoses=any(r.diagnoses for r in every),
        keeps=any(r.keeps for r in every),
        creates=first.creates.union(*(other.creates for other in others)),
    )


def alternatives(readings: list[Reading]) -> Reading:
    """Return one reading of a text that is one of these, it is not known which."""
    first, *others = readings
    if not others:
        return first
    differing = frozenset(key for key in KEYS if any(o.values[key] != first.values[key] for o in others))
    one = joined(first, *others)
    why = "servers of other versions read another text" if differing else ""
    steps = all(o.steps == first.steps and o.count == first.count for o in others)
    return msgspec.structs.replace(
        one,
        unknown=one.unknown | differing | (frozenset() if steps else ALL),
        why="; ".join(filter(None, (one.why, why))),
        cancels=first.cancels if all(o.cancels == first.cancels for o in others) else 0,
    )
