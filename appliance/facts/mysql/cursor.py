"""A place in the tokens of one statement, and the words a grammar is written with."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from appliance.facts.mysql import reserved
from appliance.facts.mysql.lexer import Mode, Token, Unreadable
from appliance.facts.mysql.tree import Query

MAX_NESTING = 40  # parentheses, cases and queries in one another; each takes some fifteen of Python's 1,000 frames

END = Token("", "", 0, 0, False)
T = TypeVar("T")


class Cursor:
    """Mutable. What is written where the grammar has no place for it is `Unreadable`."""

    def __init__(self, tokens: Sequence[Token], mode: Mode, query: Callable[["Cursor"], Query]) -> None:
        self._tokens, self.mode, self._query = tokens, mode, query
        self.keys = [*(token.key for token in tokens), "", ""]
        self._closing: dict[int, int] = {}
        self._at = self._depth = 0
        self.tables: set[tuple[str, ...]] = set()  # names in the places of tables
        self.selects = 0  # SELECTs seen
        self.cut: set[int] = set()  # tokens only we can read, left out for the second opinion
        self.swapped: dict[int, str] = {}  # what it is shown in place of others

    # -- looking ----------------------------------------------------------------------------------------------------

    @property
    def token(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else END

    @property
    def key(self) -> str:
        return self.keys[self._at]

    @property
    def place(self) -> int:
        return self._at

    @property
    def done(self) -> bool:
        return self._at >= len(self._tokens)

    @property
    def rest(self) -> Sequence[Token]:
        return self._tokens[self._at :]

    @property
    def tokens(self) -> Sequence[Token]:
        return self._tokens

    def ahead(self, steps: int) -> str:
        """Return the key of a later token, "" behind the end."""
        return self.keys[min(self._at + steps, len(self._tokens))]

    def at(self, *keys: str) -> bool:
        """Return True if these come next, one after the other."""
        return all(self.ahead(i) == key for i, key in enumerate(keys))

    # -- taking -----------------------------------------------------------------------------------------------------

    def step(self) -> Token:
        """Take the next token, whatever it is."""
        token = self.token
        if token is END:
            raise Unreadable("it ends too soon")
        self._at += 1
        return token

    def back(self, place: int) -> None:
        """Return to a place there was."""
        self._at = place

    def take(self, *keys: str) -> bool:
        """Take these if they come next, one after the other."""
        if not self.at(*keys):
            return False
        self._at += len(keys)
        return True

    def pick(self, *keys: str) -> str:
        """Take the next token if it is one of these, and return its key."""
        key = self.key
        if key and key in keys:
            self._at += 1
            return key
        return ""

    def need(self, *keys: str) -> None:
        """Take these, which must come."""
        for key in keys:
            if not self.take(key):
                raise Unreadable(f"{self.token.text[:40]!r} where {key} should be")

    def end(self) -> None:
        """Check that nothing follows."""
        if not self.done:
            raise Unreadable(f"{self.token.text[:40]!r} where nothing should be")

    def skip(self, *keys: str) -> None:
        """Take any of these, in any order; the second opinion does not see them."""
        while self.key in keys:
            self.cut.add(self._at)
            self._at += 1

    def several(self, one: Callable[["Cursor"], T]) -> tuple[T, ...]:
        """Take one or more, with commas between."""
        found = [one(self)]
        while self.take(","):
            found.append(one(self))
        return tuple(found)

    def inside(self, read: Callable[["Cursor"], T]) -> T:
        """Read what is nested: depth is limited."""
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise Unreadable("nested too deeply")
        try:
            return read(self)
        finally:
            self._depth -= 1

    # -- names ------------------------------------------------------------------------------------------------------

    def is_name(self, words: frozenset[str] = reserved.BOTH) -> bool:
        """Return True if a name comes next that may stand without quotes where `words` may not."""
        key = self.key
        return key == "<name>" or (key.replace("_", "A").replace("$", "A").isalnum() and key not in words)

    def name(self) -> str:
        """Take a name."""
        if not self.is_name():
            raise Unreadable(f"{self.token.text[:40]!r} where a name should be")
        return self.step().text

    def parts(self, most: int) -> tuple[str, ...]:
        """Take a dotted name."""
        parts = [self.name()]
        while self.at(".") and self.ahead(1) != "*":
            self.step()
            parts.append(self.name())
        if len(parts) > most:
            raise Unreadable(f"a name of {len(parts)} parts")
        return tuple(parts)

    def table(self) -> tuple[str, ...]:
        """Take the name of a relation, and remember it was one."""
        parts = self.parts(2)
        self.tables.add(parts)
        return parts

    def alias(self, strings: bool = False) -> str:
        """Take an alias if there is one: a name, or, in a select list, a string."""
        said = self.take("AS")
        if strings and self.key == "<string>":
            text = self.string()
            if "'" in text or '"' in text or "\\" in text:
                raise Unreadable("an alias with quotes in it")
            return text
        if said:
            return self.name()
        return self.step().text if self.is_name(reserved.EITHER) else ""

    def string(self) -> str:
        """Take a string, or several beside each other, and return what it says.

        What escapes mean to a server is not worked out: a string with one is only known to be a string.
        """
        if self.key != "<string>":
            raise Unreadable(f"{self.token.text[:40]!r} where a string should be")
        pieces = []
        while self.key == "<string>":
            token = self.step()
            pieces.append(token.text)
        return "".join(pieces)

    def query(self) -> Query:
        """Take a query."""
        return self.inside(self._query)

    def closing(self, place: int) -> int:
        """Return the place of the parenthesis that closes the one at `place`."""
        if not self._closing:
            opened: list[int] = []
            for at, key in enumerate(self.keys):
                if key == "(":
                    opened.append(at)
                elif key == ")" and opened:
                    self._closing[opened.pop()] = at
        if place not in self._closing:
            raise Unreadable("a parenthesis without an end")
        return self._closing[place]

    def balanced(self) -> tuple[int, int]:
        """Take a parenthesis and all in it; return the places of both ends."""
        begin = self._at
        if self.key != "(":
            raise Unreadable(f"{self.token.text[:40]!r} where a parenthesis should be")
        self._at = self.closing(begin) + 1
        return begin, self._at
