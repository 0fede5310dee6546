"""The settings a startup packet gives, by parameters of their own or as command line of the server.

Source: PostgreSQL 15, process_startup_options and pg_split_opts; manual, "postgres" (options -c and --name).
"""

import re
from collections.abc import Iterator

_NOT_SETTINGS = frozenset(("user", "database", "replication", "options"))
_WORD = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def settings(text: str) -> list[tuple[str, str]]:
    """Return names and values of all settings, in lower case the names, from lines of `key=value`."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key == "options":
            found += _options(value)
        elif key not in _NOT_SETTINGS and not key.startswith("_pq_."):
            found.append((key.lower(), value))
    return found


def _options(value: str) -> Iterator[tuple[str, str]]:
    words = [_ESCAPED.sub(r"\1", word) for word in _WORD.findall(value)]
    for number, word in enumerate(words):
        assigned = ""
        if word.startswith("--"):
            assigned = word[2:]
        elif word.startswith("-") and "c" in word:  # flags may stand before it in one word
            assigned = word.partition("c")[2] or "".join(words[number + 1 : number + 2])
        if assigned:
            name, _, setting = assigned.partition("=")
            yield name.replace("-", "_").lower(), setting
