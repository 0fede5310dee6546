"""What is found in the body of a request, as values."""

from typing import Any, Final

import msgspec

UNKNOWN: Final = frozenset(("?",))


class Found(msgspec.Struct, frozen=True):
    """What a document says. `whole`: that is all of it."""

    values: frozenset[str] = frozenset()
    whole: bool = True
    renamed: frozenset[str] = frozenset()  # "new=old" for each name that it asks to be answered by another


class Form(msgspec.Struct, frozen=True):
    """The parts of a multipart body."""

    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()  # what is in the files
    whole: bool = True


class Held(msgspec.Struct, frozen=True):
    """What a body says."""

    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    json: frozenset[str] = frozenset()
    graphql: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()
    unknown: frozenset[str] = frozenset()
    methods: tuple[str, ...] = ()  # what it says is the real one
    renamed: frozenset[str] = frozenset()  # as in `Found`; "?": some may be that are not known


class Pairs(list[tuple[str, Any]]):
    """The members of an object, in order, doubled names kept."""
