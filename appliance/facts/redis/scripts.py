"""What a Lua script would do, where its text proves it.

Theory of operation. The text is cut into tokens of Lua 5.1; nothing is run. It is proved what a script does if each
use of `redis` is `redis.call` or `redis.pcall` with a literal command, or one of HARMLESS, and no name is used by which
code is made from text or `redis` is reached in another way. Then it can run those commands and no others. Which keys
they touch is proved if each stands there as a literal or as KEYS[number].

Source: Lua 5.1 Reference Manual, 2.1 "Lexical Conventions"; Redis 7.0 documentation, "Scripting with Lua".
"""

import hashlib
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import msgspec

MAX_SCRIPT = 256 * 1024  # bytes of a script that is read, or kept; ours: written ones have some hundred
MAX_SCRIPTS = 500  # scripts kept by their SHA1, of all flows of a worker; at most 128 MiB
MAX_CALLS = 1_000  # uses of redis in one script; ours
MAX_TOKENS = 2_000  # between the brackets of one call; ours
MAX_LOOKED = 20_000  # between those of all calls, those inside others again; ours: 4 MiB of scripts take a second

_TOKEN = re.compile(
    r"""(?P<gap>[ \t\r\n\f\v]+|--\[(?P<c>=*)\[.*?\](?P=c)\]|--(?!\[=*\[)[^\r\n]*)
    |(?P<string>"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*'|\[(?P<l>=*)\[.*?\](?P=l)\])
    |(?P<number>0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>\.\.\.|\.\.|==|~=|<=|>=|[-+*/%^\#<>=(){}\[\];:,.])""",
    re.VERBOSE | re.DOTALL,
)
_LONG = re.compile(r"\[=*\[")
_NEWLINE = re.compile(r"\r\n?|\n\r?")  # as the lexer of Lua counts lines; in a string each is one "\n"
_ESCAPE = re.compile(r"\\(\d{1,3}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\", '"': '"', "'": "'"}
_FUNCTION = re.compile(rb"register_function\s*[({]\s*(?:function_name\s*=\s*)?[\"']([\w]+)[\"']")

HARMLESS = frozenset(
    (
        "error_reply", "status_reply", "sha1hex", "log", "setresp", "replicate_commands", "LOG_DEBUG", "LOG_VERBOSE",
        "LOG_NOTICE", "LOG_WARNING", "REDIS_VERSION", "REDIS_VERSION_NUM",
    )
)  # fmt: skip
BANNED = frozenset(
    (
        "load", "loadstring", "loadfile", "dofile", "require", "module", "getfenv", "setfenv", "rawget", "rawset", "_G",
        "_ENV", "getmetatable", "setmetatable", "debug", "server", "newproxy",
    )
)  # fmt: skip

Token = tuple[str, str]  # string, number, name or sign; its text, of a string what it says
Argument = bytes | int | None  # a literal, the number of a key, or not known


class Call(msgspec.Struct, frozen=True, gc=False):
    """One redis.call. `open`: there may be more arguments."""

    arguments: tuple[Argument, ...]
    open: bool = False


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What a script calls. `why`: what keeps that from being all; `loose`: which keys are touched is not proved."""

    calls: tuple[Call, ...] = ()
    why: str = ""
    loose: bool = False


class Scripts:
    """Texts by SHA1, and of functions by name. Mutable; one for each worker."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}
        self._functions: dict[str, bytes] = {}
        self._readings: dict[str, Reading] = {}

    def add(self, text: bytes) -> str:
        """Keep a script; return its SHA1."""
        name = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        if len(text) <= MAX_SCRIPT:
            _put(self._texts, name, text)
        return name

    def add_library(self, text: bytes) -> list[str]:
        """Keep a library of functions; return their names."""
        names = [name.decode() for name in _FUNCTION.findall(text)] if len(text) <= MAX_SCRIPT else []
        for name in names[:MAX_SCRIPTS]:
            _put(self._functions, name, text)
        return names

    def text(self, name: str) -> bytes | None:
        """Return the text of the script with this SHA1, if it was seen."""
        return self._texts.get(name.lower())

    def library(self, name: str) -> bytes | None:
        """Return the text of the newest library seen that has a function of this name."""
        return self._functions.get(name)

    def read(self, name: str, text: bytes) -> Reading:
        """Return what a script with this SHA1 and text calls."""
        if name not in self._readings:
            _put(self._readings, name, read(text))
        return self._readings[name]


T = TypeVar("T")


def _put(kept: dict[str, T], name: str, value: T) -> None:
    if name not in kept and len(kept) >= MAX_SCRIPTS:
        del kept[next(iter(kept))]
    kept[name] = value


def read(text: bytes) -> Reading:
    """Return what a script calls."""
    if len(text) > MAX_SCRIPT:
        return Reading(why=f"a script of more than {MAX_SCRIPT} bytes", loose=True)
    tokens = _tokens(text.decode("latin-1"))
    if tokens is None:
        return Reading(why="its text cannot be read", loose=True)
    return _Walk(tokens).reading()


def _tokens(text: str) -> list[Token] | None:
    at, found = 0, []
    if text.startswith("#!"):
        at = text.find("\n") + 1 or len(text)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        if match["sign"] == "[" and _LONG.match(text, at):
            return None  # a long string without an end; looked for again at each bracket it would take minutes
        at = match.end()
        kind = match.lastgroup if match.lastgroup in ("string", "number", "name", "sign") else None
        kind = kind or next((k for k in ("string", "number", "name", "sign") if match[k] is not None), None)
        if kind == "string":
            said = _said(match[0])
            if said is None:
                return None
            found.append((kind, said))
        elif kind is not None:
            found.append((kind, match[0]))
    return found


def _said(literal: str) -> str | None:
    """Return what a string literal says, None if an escape in it is none of Lua 5.1."""
    if literal[0] == "[":
        inner = literal[literal.index("[", 1) + 1 : -literal[::-1].index("]", 1) - 1]
        inner = _NEWLINE.sub("\n", inner)
        return inner[1:] if inner.startswith("\n") else inner
    if "\\" not in literal:
        return literal[1:-1]
    parts = _ESCAPE.findall(literal[1:-1])
    if any(not (p.isdigit() and int(p) < 256) and p not in _ESCAPES for p in parts):
        return None
    return _ESCAPE.sub(lambda m: chr(int(m[1])) if m[1].isdigit() else _ESCAPES[m[1]], literal[1:-1])


class _Walk:
    """One pass over the tokens of a script."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = [*tokens, ("end", ""), ("end", ""), ("end", ""), ("end", "")]
        self._calls: list[Call] = []
        self._why = ""
        self._loose = False
        self._uses = 0  # of redis
        self._looked = 0  # tokens of calls
        self._brackets: list[str] = []  # open ones; "function" in place of one that has a function in it

    def reading(self) -> Reading:
        at = 0
        while self._tokens[at][0] != "end" and self._uses <= MAX_CALLS:
            kind, text = self._tokens[at]
            if kind == "name" and text == "redis":
                at = self._redis(at)
            elif kind == "name" and text == "KEYS":
                at = self._keys(at)
            else:
                if kind == "name" and text in BANNED:
                    self._why = f"it uses {text}"
                elif kind == "name" and text == "function" and self._brackets:
                    self._brackets[-1] = text
                elif kind == "sign" and text in "([{":
                    self._brackets.append(text)
                elif kind == "sign" and text in ")]}" and self._brackets:
                    self._brackets.pop()
                at += 1
        return Reading(tuple(self._calls), self._why, self._loose or bool(self._why))

    def _texts(self, at: int, count: int) -> list[str]:
        return [text if kind != "string" else "" for kind, text in self._tokens[at : at + count]]

    def _redis(self, at: int) -> int:
        """Read a use of `redis`; return where to go on."""
        self._uses += 1
        if self._uses > MAX_CALLS:
            self._why = f"it uses redis more than {MAX_CALLS} times"
            return at + 1
        dot, name = self._texts(at + 1, 2)
        before = self._texts(at - 1, 1)[0] if at else ""
        if dot != "." or before in (".", ":", "function", "local") or name not in HARMLESS | {"call", "pcall"}:
            self._why = "it uses redis in another way than redis.call"
            return at + 1
        if name in HARMLESS:
            if self._tokens[at + 3] == ("sign", "="):
                self._why = "it changes redis"
            return at + 3
        kind, text = self._tokens[at + 3]
        if kind == "string":
            self._called([[(kind, text)]])
            return at + 4
        if (kind, text) != ("sign", "("):
            self._why = "it uses redis.call in another way than to call it"
            return at + 3
        # What stands in the brackets is read again: there may be calls in it.
        self._called(self._arguments(at + 4))
        return at + 3

    def _arguments(self, start: int) -> list[list[Token]] | None:
        """Return the tokens of each argument up to the closing bracket; None if there is none, or a function in it."""
        found: list[list[Token]] = [[]]
        depth = 0
        for at in range(start, start + min(MAX_TOKENS, MAX_LOOKED - self._looked)):
            self._looked += 1
            kind, text = token = self._tokens[at]
            if kind == "end" or token == ("name", "function"):
                return None
            if kind == "sign" and text in "([{":
                depth += 1
            elif kind == "sign" and text in ")]}":
                depth -= 1
                if depth < 0:
                    return found
            if token == ("sign", ",") and not depth:
                found.append([])
            else:
                found[-1].append(token)
        return None

    def _called(self, arguments: list[list[Token]] | None) -> None:
        if not arguments or len(arguments[0]) != 1 or arguments[0][0][0] != "string":
            self._why = "it calls a command whose name is not written there"
            return
        last = arguments[-1]
        self._calls.append(Call(tuple(map(_argument, arguments)), open=len(arguments) > 1 and _several(last)))

    def _keys(self, at: int) -> int:
        """Read a use of KEYS: it is safe to read one by its number, or to count them."""
        opened, _, closed, after = self._texts(at + 1, 4)
        counted = at > 0 and self._tokens[at - 1] == ("sign", "#")
        plain = opened == "[" and self._tokens[at + 2][0] == "number" and closed == "]"
        listed = after == "," and self._brackets[-1:] != ["("]  # perhaps among what is assigned to
        if not (plain and after != "=" and not listed) and not counted:
            self._loose = True
        return at + 1


def _argument(tokens: Sequence[Token]) -> Argument:
    match tokens:
        case [("string", text)]:
            return text.encode("latin-1")
        case [("number", text)]:
            # Lua reads it as a double and the server writes that: only such a number is said as it stands there.
            return text.encode() if text.isdigit() and len(text) < 16 and str(int(text)) == text else None
        case [("name", "KEYS"), ("sign", "["), ("number", number), ("sign", "]")] if number.isdigit():
            return int(number)
    return None


_SINGLE = frozenset((".", "..", "[", "]", "+", "-", "*", "/", "%", "#"))


def _several(tokens: Sequence[Token]) -> bool:
    """Whether an expression could be several values: a call, or `...`."""
    if any(kind == "sign" and text not in _SINGLE for kind, text in tokens):
        return True
    # f"x" and t["f"]"x" are calls
    return any(other[0] == "string" and (one[0] == "name" or one == ("sign", "]")) for one, other in pairwise(tokens))
