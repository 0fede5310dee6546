"""What the constants of a text stand for, where that is written otherwise: for detectors, which look at texts.

Source: MySQL 8.4 manual, "String Literals", "Hexadecimal Literals", "Bit-Value Literals". Constants that stand beside
each other are one, and those joined by ||, as that is with PIPES_AS_CONCAT; what a function makes of them is not looked
at. A text is taken as it is by default. One that means another thing under other settings, or to another version, is
judged by what is known of it (lexer.py).
"""

import re
from collections.abc import Iterator

from appliance.facts.decimals import written
from appliance.facts.mysql.lexer import MAX_TEXT

_ODD = re.compile(r"""\\|''|""|['"]\s*+(?:['"/*#]|--)|\b0[xb]|\b[xXbB]'|\|\||\d[eE][-+0-9]""")
_PART = re.compile(
    r"""
    (?P<nothing>/\*(?!M?!).*?(?:\*/|\Z)|/\*M?!\d*+|\*/|\#[^\n]*+|--(?=[\x00-\x20\x7f]|\Z)[^\n]*+|[\s()]++)
  | (?P<quoted>[nN]?'(?P<single>[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*)'?|"(?P<double>[^"\\]*+(?:(?:\\.|"")[^"\\]*+)*)"?)
  | (?P<hex>[xX]'(?P<digits>[0-9A-Fa-f]++)'|0x(?P<bare>[0-9A-Fa-f]++)(?![\w$]))
  | (?P<bits>[bB]'(?P<bit>[01]++)'|0b(?P<one>[01]++)(?![\w$]))
  | (?P<charset>_[A-Za-z0-9]++)
  | (?P<name>`[^`]*+`?|[^\W\d][\w$]*+)
  | (?P<number>\d++(?:\.\d*+)?(?:[eE][-+]?\d++)?)
  | (?P<joins>\|\|)
  | (?P<other>.)
    """,
    re.X | re.S,
)
_ESCAPE = re.compile(r"\\(.)", re.S)
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}


def denoted(text: str) -> str:
    """Return what constants of a text denote, a line each, if it does not stand there itself; "" if all do."""
    if len(text) > MAX_TEXT or _ODD.search(text) is None:
        return ""
    return "\n".join(found for found, odd in _runs(text) if odd)


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    """Yield what constants denote, those that are one as one, and whether that does not stand in the text."""
    run, odd, after, joins = list[str](), False, False, False
    for part in _PART.finditer(text):
        kind = part.lastgroup
        if kind in ("nothing", "charset"):
            continue
        if kind not in ("quoted", "hex", "bits", "number"):
            joins, after = after and kind == "joins", False
            continue
        if run and not (joins or (after and kind != "number")):
            yield "".join(run), odd or len(run) > 1
            run, odd = [], False
        one, coded = _told(part)
        run.append(one)
        odd, after, joins = odd or coded, True, False
    if run:
        yield "".join(run), odd or len(run) > 1


def _told(part: re.Match[str]) -> tuple[str, bool]:
    """Return what a constant denotes, and whether that does not stand there itself."""
    piece = part.group()
    if part.lastgroup == "quoted":
        quote = '"' if part["single"] is None else "'"
        body = part["double"] if part["single"] is None else part["single"]
        found = _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[1]), body.replace(quote * 2, quote))
        return found, found != body
    if part.lastgroup == "number":
        found = written(piece) if "e" in piece.lower() else piece
        return found, found != piece
    digits, base = (part["digits"] or part["bare"], 16) if part.lastgroup == "hex" else (part["bit"] or part["one"], 2)
    number = int(digits, base)
    text = number.to_bytes((number.bit_length() + 7) // 8, "big").decode("utf-8", "replace")
    return f"{text}\n{number}" if len(digits) <= 64 else text, True
