"""The server's own table of commands, read."""

from collections.abc import Mapping, Sequence

import msgspec

from appliance.facts.redis import later, subtable, table
from appliance.facts.redis.text import shown

MAX_NAME = 128  # bytes of a word that can name a command; ours: the longest has 22


class Spec(msgspec.Struct, frozen=True, gc=False):
    """Where some keys of a command are, and what it does with them."""

    access: frozenset[str]  # RO RW OW RM access update insert delete not_key incomplete variable_flags
    at: int = 0  # the argument to begin at; 0: after `keyword`, or not said
    keyword: str = ""
    start: int = 0  # the argument from which the keyword is looked for; below 0 from the end backwards
    last: int = 0  # the last key, counted from the first; below 0 from the end of the arguments
    step: int = 1
    limit: int = 0  # only the first of so many parts of what is left
    count: int = -1  # the argument, from `at`, that has the number of keys; below 0: none
    first: int = 0  # the first key, from `at`

    @property
    def told(self) -> bool:
        """False if only the command itself knows where these keys are."""
        return bool(self.at or self.keyword)

    @property
    def reads(self) -> bool:
        return "access" in self.access

    @property
    def writes(self) -> bool:
        return bool(self.access & {"update", "insert"})


class Command(msgspec.Struct, frozen=True, gc=False):
    """One command, or subcommand."""

    name: str  # in capitals, "CONFIG SET"
    arity: int  # number of words, its own included; below 0: at least
    flags: frozenset[str]
    categories: frozenset[str]
    specs: tuple[Spec, ...]

    @property
    def bare(self) -> bool:
        """False if the server takes it with a subcommand only."""
        return self.name not in CONTAINERS or self.arity == -1

    def fits(self, words: int) -> bool:
        """Return whether the server takes so many words."""
        return words == self.arity if self.arity >= 0 else words >= -self.arity


def _spec(text: str) -> Spec:
    access, begin, find = text.split(" ")
    words = frozenset(access.split(","))
    if begin == "?":
        return Spec(words)
    at, keyword, start = int(begin[1:]) if begin[0] == "i" else 0, "", 0
    if begin[0] == "k":
        keyword, _, number = begin[1:].partition(",")
        start = int(number)
    numbers = [int(n) for n in find[1:].split(",")]
    if find[0] == "n":
        count, first, step = numbers
        return Spec(words, at, keyword, start, step=step, count=count, first=first)
    last, step, limit = numbers
    return Spec(words, at, keyword, start, last, step, limit)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split(",")) - {""}


def _command(line: str) -> Command:
    name, arity, flags, categories, specs = line.split("|") if line.count("|") == 4 else _joined(line)
    found = tuple(_spec(spec) for spec in specs.split(";") if spec)
    return Command(name.upper(), int(arity), _words(flags), _words(categories), found)


def _joined(line: str) -> Sequence[str]:
    container, _, rest = line.partition("|")
    name, *parts = rest.split("|")
    return [f"{container} {name}", *parts]


_LINES = [line for text in (table.LINES, subtable.LINES, later.LINES) for line in text.splitlines()]
COMMANDS: Mapping[str, Command] = {command.name: command for command in map(_command, _LINES)}
CONTAINERS: frozenset[str] = frozenset(name.partition(" ")[0] for name in COMMANDS if " " in name)
"""Commands with subcommands. Without one, or with one it does not have, the server refuses them (COMMAND excepted)."""


def name_of(words: Sequence[bytes]) -> str:
    """Return the command in capitals, with its subcommand where it has one."""
    name = shown(words[0][:MAX_NAME]).upper()
    if name in CONTAINERS and len(words) > 1:
        name += " " + shown(words[1][:MAX_NAME]).upper()
    return name
