"""Text to libpg_query's tree, within limits that keep its C stack, and ours, whole.

libpg_query writes its tree by recursion without looking at the stack: a long enough `1+1+1+...` ends the
process (measured: 20,000 levels pass in 8 MiB of stack, 100,000 do not). Nesting to the right or by
parentheses is bounded by the parser's own stack (YYMAXDEPTH, 10,000), nesting to the left by nothing. So
left-associative tokens are counted before the parser sees a text that could hold too many of them.
"""

import re
from typing import Any

import postgast
from google._upb import _message
from postgast import pg_query_pb2 as pb

MAX_TEXT = 256 * 1024  # bytes; the wire gives longer statements no text (wire: MAX_STATEMENT)
MAX_LEFT = 4000  # left-associative tokens that can nest in one another; a fifth of what was measured to pass
SHORT = 2 * MAX_LEFT  # bytes; a text this short cannot hold more: each level takes an operator and an operand

# The default of 100 levels ends at 25 concatenations. Depth is bounded by MAX_LEFT and YYMAXDEPTH instead.
_message.SetAllowOversizeProtos(True)

_LEFT_CHARACTERS = re.compile(r"[-+*/<>~!@#%^&|`?:]")
_LEFT_WORDS = re.compile(r"\b(?:union|intersect|except|join|collate|at|operator)\b", re.IGNORECASE)
_LEFT_TOKENS = frozenset(
    pb.Token.Value(name)
    for name in (
        "UNION INTERSECT EXCEPT JOIN COLLATE AT OPERATOR Op TYPECAST LESS_EQUALS GREATER_EQUALS NOT_EQUALS "
        "ASCII_37 ASCII_42 ASCII_43 ASCII_45 ASCII_47 ASCII_60 ASCII_62 ASCII_94"
    ).split()
)
_OPEN = frozenset((pb.Token.Value("ASCII_40"), pb.Token.Value("ASCII_91")))
_SHUT = frozenset((pb.Token.Value("ASCII_41"), pb.Token.Value("ASCII_93")))
_NEXT = frozenset((pb.Token.Value("ASCII_44"), pb.Token.Value("ASCII_59")))


class Unreadable(Exception):
    """The text cannot be judged; the message says why."""


def parse(text: str) -> Any:
    """Return the ParseResult of `text`.

    Raises:
        Unreadable: it is too long or too deep, no text, or not in the grammar.
    """
    check(text)
    try:
        return postgast.parse(text)
    except postgast.PgQueryError as error:
        raise Unreadable(f"does not parse: {error.message}") from None
    except Exception as error:  # protobuf's DecodeError and whatever else ctypes may raise on hostile text
        raise Unreadable(f"the tree cannot be read: {type(error).__name__}") from None


def check(text: str) -> None:
    """Raise Unreadable unless libpg_query can be given `text`."""
    if "\0" in text:
        raise Unreadable("a zero byte in the text")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise Unreadable("the text is not in its encoding") from None
    if size > MAX_TEXT:
        raise Unreadable(f"longer than {MAX_TEXT} bytes")
    if size > SHORT and _roughly(text) > MAX_LEFT and _left(text) > MAX_LEFT:
        raise Unreadable("nested too deeply")


def _roughly(text: str) -> int:
    """Return how many left-associative tokens `text` has at most, strings and comments included."""
    return len(_LEFT_CHARACTERS.findall(text)) + len(_LEFT_WORDS.findall(text))


def _left(text: str) -> int:
    """Return how many left-associative tokens can nest in one another, by the scanner's tokens."""
    try:
        tokens = postgast.scan(text).tokens
    except Exception as error:  # the scanner's own errors are unreadable text too
        raise Unreadable(f"does not scan: {type(error).__name__}") from None
    most = run = 0
    outer: list[int] = []
    for item in tokens:
        token = item.token
        if token in _LEFT_TOKENS:
            run += 1
            most = max(most, run)
        elif token in _OPEN:
            outer.append(run)
        elif token in _SHUT:
            run = outer.pop() if outer else 0
        elif token in _NEXT:
            run = outer[-1] if outer else 0
    return most
