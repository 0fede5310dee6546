"""The shape of a statement: itself, with literals that cannot matter made alike.

A literal can matter where it is a place in the select list (ORDER BY 2), an alias (SELECT a 'x'), a statement in a
statement, a path or a pattern. So only those are changed that stand where none of these can: behind an operator of
comparison or arithmetic, behind LIMIT, in the list of IN and in the rows of VALUES. Of equal elements of such a list,
or equal rows, that follow each other only one is left. What is written so is cut into tokens again, and is no shape if
they are others: where a comment or a literal was, what stood on both sides of it may make a comment or a word.

The outline of a statement is a rougher thing that is found without a look at its words: itself, with the literals
behind signs of comparison left out. Texts of one outline have one shape.
"""

import re
from collections.abc import Sequence

from appliance.facts.mysql.lexer import Mode, Token, Unreadable, readings
from appliance.facts.mysql.reserved import BOTH

SHAPED = frozenset(("SELECT", "INSERT", "REPLACE", "UPDATE", "DELETE", "WITH", "("))
_BEFORE = frozenset("= <=> <> != < > <= >= * / % LIKE BETWEEN AND OR LIMIT OFFSET".split())
_SIGNS = ("+", "-")  # between two operands; ORDER BY +2 is a place in the select list
_OPERANDS = ("<name>", "<number>", "<string>", "<param>", "<variable>", ")")
Said = tuple[str, str, bool]  # key, text, quoted
_QUERY = frozenset(("SELECT", "WITH", "TABLE", "VALUES", "("))
_PLAIN = {"<string>": "'s'", "<number>": "1"}

# A sign of comparison that is no part of a longer sign, and the literal behind it, which no other literal follows.
_COMPARED = re.compile(
    r"(?<![!-(*-/:-@\[-`{-~])(<=>|<=|<>|>=|!=|=|<|>)([ \t\n\r]*+)"
    r"(?:[0-9]++(?![A-Za-z_$.])|'[^'\\]*+'(?!'))(?![ \t\n\r]*+['\"])"
)
_NUMBER_OUT, _STRING_OUT = "\xb9", "\xb2"  # in place of literals: characters that are not of ASCII
# What may be left: nothing in which a quote, a comment or a choice of the server could begin, but whole quoted names.
_LEFT = re.compile(r"(?:[0-9A-Za-z_$ \t\n\r.,;()=<>!*+%&|^~?\xb9\xb2]++|`[0-9A-Za-z_$]++`|-(?!-)|/(?!\*))*\Z")


def shape(text: str, mode: Mode) -> str:
    """Return the shape, a text that reads as this one does; "" if the text is to be read as it is.

    Raises:
        Unreadable: the text cannot be read for certain.
    """
    found = readings(text, mode)
    if len(found) != 1 or not found[0] or found[0][0].key not in SHAPED or not mode.known:
        return ""
    if any(token.key == ";" for token in found[0][:-1]):
        return ""  # a first statement may change what quotes and backslashes of the next are
    made, tokens = _Shape(text).of(found[0])
    try:
        again = readings(made, mode)
    except Unreadable:
        return ""
    return made if [list(map(_said, found)) for found in again] == [tokens] else ""


def _said(token: Token) -> Said:
    """Return what a token is, wherever it stands."""
    return token.key, token.text, token.quoted


def outline(text: str) -> str:
    """Return the text with literals behind signs of comparison left out; "" if there are none that can be told so."""
    found, number = _COMPARED.subn(_left_out, text) if text.isascii() else ("", 0)
    return found if number and _LEFT.match(found) else ""


def _left_out(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}{_STRING_OUT if match[0].endswith(chr(39)) else _NUMBER_OUT}"


class _List:
    """A parenthesis, or the rows of VALUES."""

    __slots__ = ("begin", "last", "literals", "rows")

    def __init__(self, begin: int, *, rows: bool = False, literals: bool = False) -> None:
        self.rows, self.literals = rows, literals  # it is VALUES itself; its elements may be made alike
        self.begin = begin  # where its present element begins in what is written
        self.last = ""  # the element before


class _Shape:
    def __init__(self, text: str) -> None:
        self._text = text
        self._out: list[str] = []
        self._tokens: list[Said] = []  # of what is written
        self._lists = [_List(0)]

    def of(self, tokens: Sequence[Token]) -> tuple[str, list[Said]]:
        """Return the shape, and the tokens it was made of."""
        last = before = ""
        for at, token in enumerate(tokens):
            key = token.key
            if self._lists[-1].rows and key not in ("(", ",", "ROW"):
                self._fold(self._lists.pop())
            following = tokens[at + 1].key if at + 1 < len(tokens) else ""
            piece, said = self._text[token.start : token.end], _said(token)
            if key in _PLAIN and following != "<string>" and self._free(last, before):
                piece = _PLAIN[key]
                said = key, piece.strip("'"), False
            if key in (",", ")"):
                self._end(key)
            self._out.append(piece if token.glued else " " + piece)
            self._tokens.append(said)
            self._begin(key, last, following)
            before, last = last, key
        if self._lists[-1].rows:
            self._fold(self._lists[-1])
        return "".join(self._out), self._tokens

    def _free(self, last: str, before: str) -> bool:
        if last in _SIGNS:
            return before in _OPERANDS or (before.isidentifier() and before not in BOTH)
        return last in _BEFORE or (self._lists[-1].literals and last in ("(", ","))

    def _begin(self, key: str, last: str, following: str) -> None:
        at = len(self._out)
        if key == "(":
            literals = (last == "IN" and following not in _QUERY) or self._lists[-1].rows
            self._lists.append(_List(at, literals=literals))
        elif key in ("VALUES", "VALUE") and following in ("(", "ROW"):
            self._lists.append(_List(at, rows=True))
        elif key == "," and (self._lists[-1].rows or self._lists[-1].literals):
            self._lists[-1].begin = at

    def _end(self, key: str) -> None:
        """Note the end of an element, and of the list."""
        top = self._lists[-1]
        row = len(self._lists) > 1 and self._lists[-2].rows
        if (top.rows or top.literals) and not row:
            self._fold(top)
        if key == ")" and len(self._lists) > 1:
            self._lists.pop()

    def _fold(self, found: _List) -> None:
        """Drop the element that ends here if it is as the one before."""
        element = "".join(self._out[found.begin :]).strip()
        if element and element == found.last:
            del self._out[found.begin - 1 :], self._tokens[found.begin - 1 :]  # the comma too
        found.last = element
