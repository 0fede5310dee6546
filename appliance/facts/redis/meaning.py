"""What one command would do, as a value."""

import msgspec


class Meaning(msgspec.Struct, frozen=True, gc=False):
    """What a command would do."""

    name: str
    effect: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()
    keys: tuple[str, ...] = ()  # in the order of the command
    compared: frozenset[str] = frozenset()
    copied: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    scripts: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    why: str = ""
    more: str = ""  # the text of a script it runs
    asks: bool = False  # the server could tell its keys
