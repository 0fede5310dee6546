"""The words of `when`: which facts each protocol has, and which values each may take.

A module here that defines KEYS is a protocol: rules, their schema and their tests learn it from there. What every
protocol has besides: `detect`, detectors that find something in the text (block, approve) or in a result (mask).

Names and texts may hold `*`. A rule without `to` that uses keys of one protocol is about that protocol only. A key that
several protocols have is of one kind in all of them; its words may differ.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Literal

import msgspec


class Key(msgspec.Struct, frozen=True):
    """One key of `when`."""

    kind: Literal["word", "text", "name", "number", "leaves", "statements"]
    says: str  # one line for editors
    words: tuple[str, ...] = ()  # closed list, of kind "word"
    parts: int = 1  # dotted parts, of kind "name"
    cells: str = ""  # a mask may name cells by this key; the key of facts that says what a request touches of them
    host: bool = False  # names of hosts: one form, in small letters, as DNS has them
    form: str = ""  # of kind "text": what a value is like, as a pattern; another would never match
    example: str = ""  # of that form
    late: bool = False  # known only with the answer: of rules that block


def _found() -> dict[str, Mapping[str, Key]]:
    modules = {m.name: importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)}
    return {name: module.KEYS for name, module in sorted(modules.items()) if hasattr(module, "KEYS")}


PROTOCOLS: dict[str, Mapping[str, Key]] = _found()
"""Keys by protocol. A protocol that is not here cannot be named by a target."""

CELLS: Mapping[str, str] = {
    name: key.cells for keys in PROTOCOLS.values() for name, key in keys.items() if key.cells
}
"""Keys by which a mask names cells, and the key of facts that tells which requests touch them."""


def protocols_of(keys: frozenset[str], table: Mapping[str, Mapping[str, Key]] = PROTOCOLS) -> frozenset[str]:
    """Return the protocols that have every one of `keys`."""
    return frozenset(name for name, known in table.items() if keys <= known.keys())
