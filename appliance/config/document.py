"""YAML text -> a tree in which each node knows its line.

Source: YAML 1.1 as libyaml reads it. Built from libyaml's events instead of with `yaml.compose`, which
recurses in C and kills the process on a few hundred thousand brackets. Scalars keep their text: what a field
expects decides how it is read, so that `who: on` is the name "on" and not a boolean.

Not handled: tags, several documents in one file, keys that are not plain text. Each is an error.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import NoReturn

import msgspec
import yaml

from appliance.model import ConfigError

MAX_FILE = 1 << 20  # characters; a thousand rules are about 200,000
MAX_DEPTH = 16  # the deepest a valid file goes is 6
MAX_NODES = 200_000  # aliases counted at the size of what they stand for: no "billion laughs"
MAX_NAMED = 20  # words in a hint; more is no help
MAX_DURATION_S = 36_500 * 86_400  # a hundred years: longer than any duty to keep, and well inside what timers count
MAX_SIZE = 1 << 60  # bytes; the largest file system there is (ext4, xfs), and a number that C and SQLite hold


class Node(msgspec.Struct, frozen=True, gc=False):
    """A scalar (`text`), a list (`items`) or a mapping (`fields`), and where it stands."""

    file: str
    line: int
    text: str | None = None
    quoted: bool = False
    items: tuple["Node", ...] | None = None
    fields: tuple[tuple["Node", "Node"], ...] | None = None
    size: int = 1  # nodes below, itself included

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def empty(self) -> bool:
        """True for nothing written, `~` and `null`."""
        return self.text in ("", "~", "null", "Null", "NULL") and not self.quoted

    def fail(self, what: str, hint: str = "") -> NoReturn:
        raise ConfigError(self.where, what, hint)


class _Open(msgspec.Struct):
    """A collection whose end has not come yet."""

    line: int
    mapping: bool
    anchor: str | None
    parts: list[Node] = []


def parse(file: str, text: str) -> Node:
    """Return the tree of `text`; an empty mapping if it holds nothing."""
    if len(text) > MAX_FILE:
        raise ConfigError(f"{file}:1", f"file is longer than {MAX_FILE} characters", "split it into several")
    try:
        return _build(file, text)
    except yaml.MarkedYAMLError as e:
        at_end = len(text.splitlines())  # where libyaml may be one line past
        line = max(1, min(e.problem_mark.line + 1, at_end)) if e.problem_mark else 1
        what = f"not YAML: {e.problem}"
        raise ConfigError(f"{file}:{line}", what, "check indent, brackets and quotes") from e
    except (yaml.YAMLError, UnicodeError) as e:
        what = "not YAML: a character that may not be there"
        raise ConfigError(f"{file}:1", what, "save as UTF-8 text") from e


def _build(file: str, text: str) -> Node:
    loader = yaml.CSafeLoader(text)
    try:
        return _tree(file, loader.get_event)
    finally:
        loader.dispose()


def _tree(file: str, next_event: Callable[[], yaml.Event | None]) -> Node:
    root: Node | None = None
    stack: list[_Open] = []
    anchors: dict[str, Node] = {}
    total = 0
    while (event := next_event()) is not None:
        step = STEPS.get(type(event))
        node = step(file, event, stack, anchors) if step else None
        if node is None:
            continue
        total += node.size if type(event) is yaml.AliasEvent else 1
        if total > MAX_NODES:
            node.fail(f"more than {MAX_NODES} values", "use fewer aliases, or split the file")
        if stack:
            stack[-1].parts.append(node)
        elif root is not None:
            node.fail("a second document in one file", "put it into a file of its own")
        else:
            root = node
    return root if root is not None and not root.empty else Node(file, 1, fields=())


# Steps: take one event; return the node it completes.


def _scalar(file: str, event: yaml.ScalarEvent, stack: list[_Open], anchors: dict[str, Node]) -> Node:
    node = Node(file, _line(event), event.value, bool(event.style))
    if event.tag is not None:
        _refuse_tag(file, event)
    if event.anchor is not None:
        anchors[event.anchor] = node
    return node


def _begin(file: str, event: yaml.CollectionStartEvent, stack: list[_Open], anchors: dict[str, Node]) -> None:
    line = _line(event)
    if len(stack) >= MAX_DEPTH:
        raise ConfigError(f"{file}:{line}", f"nested deeper than {MAX_DEPTH}", "write it flatter")
    stack.append(_Open(line, type(event) is yaml.MappingStartEvent, event.anchor))
    if event.tag is not None:
        _refuse_tag(file, event)


def _end(file: str, event: yaml.CollectionEndEvent, stack: list[_Open], anchors: dict[str, Node]) -> Node:
    done = stack.pop()
    node = _close(file, done)
    if done.anchor is not None:
        anchors[done.anchor] = node
    return node


def _alias(file: str, event: yaml.AliasEvent, stack: list[_Open], anchors: dict[str, Node]) -> Node:
    if event.anchor not in anchors:
        what = f"alias `*{event.anchor}` stands for nothing yet"
        hint = f"write `&{event.anchor}` before the value above"
        raise ConfigError(f"{file}:{_line(event)}", what, hint)
    return anchors[event.anchor]


STEPS: Mapping[type[yaml.Event], Callable[..., Node | None]] = {
    yaml.ScalarEvent: _scalar,
    yaml.SequenceStartEvent: _begin,
    yaml.MappingStartEvent: _begin,
    yaml.SequenceEndEvent: _end,
    yaml.MappingEndEvent: _end,
    yaml.AliasEvent: _alias,
}


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _refuse_tag(file: str, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> NoReturn:
    what = f"tags are not taken, as `{event.tag}`"
    raise ConfigError(f"{file}:{_line(event)}", what, "write the value without a tag")


def _close(file: str, done: _Open) -> Node:
    parts, size = done.parts, 1
    for part in parts:
        size += part.size
    if not done.mapping:
        return Node(file, done.line, items=tuple(parts), size=size)
    keys = parts[::2]
    seen: dict[str, int] = {}
    for key in keys:
        if key.text is None:
            key.fail("a key that is not a word", "write `key: value`")
        if key.text in seen:
            key.fail(f"`{key.text}` is written twice", f"the first is at line {seen[key.text]}")
        seen[key.text] = key.line
    return Node(file, done.line, fields=tuple(zip(keys, parts[1::2], strict=True)), size=size)


# Readers: a node and what to call it in an error -> a value.


def mapping(
    node: Node, name: str, known: tuple[str, ...] | None = None, others: Mapping[str, str] | None = None
) -> dict[str, Node]:
    """Return the fields of a mapping by key; with `known`, a key outside it is an error.

    `others` are words people write for known ones, for the hint.
    """
    if node.fields is None:
        if node.empty:
            return {}
        node.fail(f"{name}: expected a mapping", "write `key: value`")
    for key, _ in node.fields:
        if known is not None and key.text not in known:
            key.fail(f"{name}: unknown field `{key.text}`", did_you_mean(str(key.text), known, others))
    return {str(key.text): value for key, value in node.fields}


def sequence(node: Node, name: str) -> tuple[Node, ...]:
    if node.items is None:
        if node.empty:
            return ()
        node.fail(f"{name}: expected a list", "write `- ` before each entry")
    return node.items


def string(node: Node, name: str) -> str:
    """Return a scalar as text, whatever YAML thinks its type is."""
    if node.text is None:
        node.fail(f"{name}: expected one value", "write neither a list nor a mapping")
    if node.empty or not node.text:
        node.fail(f"{name}: is empty", "write a value, or leave the field out")
    return node.text


def strings(node: Node, name: str) -> tuple[str, ...]:
    """Return one value, or a list of at least one."""
    return tuple(string(n, name) for n in one_or_more(node, name))


def one_or_more(node: Node, name: str) -> tuple[Node, ...]:
    if node.items is None:
        return (node,)
    if not node.items:
        node.fail(f"{name}: an empty list", "name at least one, or leave the field out")
    return node.items


def whole(node: Node, name: str, low: int, high: int) -> int:
    text = string(node, name)
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20) or not low <= int(text) <= high:
        node.fail(f"{name}: `{text}` is not a whole number in range", f"write one from {low} to {high}")
    return int(text)


def flag(node: Node, name: str) -> bool:
    text = string(node, name)
    if text not in ("true", "false") or node.quoted:
        node.fail(f"{name}: `{text}` is not true or false", "write true or false")
    return text == "true"


def choice(node: Node, name: str, words: tuple[str, ...]) -> str:
    text = string(node, name)
    if text not in words:
        node.fail(f"{name}: unknown value `{text}`", did_you_mean(text, words))
    return text


SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}  # fmt: skip


def duration(node: Node, name: str) -> float:
    """Return seconds: "30d", "10m", "90s", "12h"."""
    seconds = _scaled(node, name, SECONDS, "write a number and s, m, h or d, as in 10m")
    if seconds > MAX_DURATION_S:
        node.fail(f"{name}: `{node.text}` is over a hundred years", f"write {MAX_DURATION_S // 86_400}d or less")
    return float(seconds)


def size(node: Node, name: str) -> int:
    """Return bytes: "20GiB", "500MB", "1048576"."""
    found = _scaled(node, name, BYTES, "write a number and a unit, as in 20GiB")
    if found > MAX_SIZE:
        node.fail(f"{name}: `{node.text}` is more than a file system holds", f"write {MAX_SIZE >> 40}TiB or less")
    return found


def _scaled(node: Node, name: str, units: dict[str, int], hint: str) -> int:
    text = string(node, name)
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    unit = text[len(digits) :].strip()
    if not digits or unit not in units or len(digits) > 30 or int(digits) == 0:
        node.fail(f"{name}: `{text}` is not a {'duration' if units is SECONDS else 'size'} above zero", hint)
    return int(digits) * units[unit]


def did_you_mean(word: str, known: tuple[str, ...], others: Mapping[str, str] | None = None) -> str:
    """Return the hint for a word that is not in `known`."""
    meant = {**(others or {}), **{k.lower(): k for k in known}}
    near = get_close_matches(word.lower(), meant, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{meant[near[0]]}`?"
    if not known:
        return "none is defined"
    return "known: " + ", ".join(known[:MAX_NAMED]) + (" ..." if len(known) > MAX_NAMED else "")
