"""Whether a statement names the file that the server asks for: LOAD DATA LOCAL INFILE 'name'.

Source: MySQL 8.4 manual, "LOAD DATA Statement", "Security Considerations for LOAD DATA LOCAL": a server may ask for
any file whatever the statement was. What the statement would do is not judged here but by its facts; this only keeps
a server from taking what was not offered to it.
"""

import re
from collections.abc import Iterator

# A string or quoted name, a comment to skip, a word, or one other character. The mark of an executable comment is
# skipped, its content is read. What has no end goes to that of the text, so that no character is looked at twice.
TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\]|''|\\.?)*+(?:'|\Z)|"(?:[^"\\]|""|\\.?)*+(?:"|\Z)|`[^`]*+(?:`|\Z))"""
    r"|(?P<skip>\s+|/\*M?!\d*|\*/|/\*(?!M?!).*?(?:\*/|\Z)|\#[^\n]*|--(?=\s)[^\n]*)"
    r"|(?P<word>\w+)|(?P<other>.)",
    re.DOTALL,
)
PLAIN = re.compile(TOKEN.pattern.replace(r"|\\.?", "").replace(r"\\", ""), re.DOTALL)  # backslashes mean nothing
ESCAPE = re.compile(r"\\(.)", re.DOTALL)
SPECIAL = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}
BEFORE = (["load", "data"], ["load", "xml"])
OPTIONS = frozenset({"low_priority", "concurrent"})


def names(text: str, name: str, escapes: bool) -> bool:
    """Return True if a statement of `text` loads the client's file `name`; `escapes`: backslashes escape."""
    words: list[str] = []
    for token in _tokens(text, escapes):
        if token == ";":
            words.clear()
        elif token[0] in "'\"" and words[-2:] == ["local", "infile"]:
            begins = [word for word in words[:-2] if word not in OPTIONS]
            if begins in BEFORE and len(token) > 1 and token[-1] == token[0] and _said(token, escapes) == name:
                return True
            words.append("?")
        else:
            words.append(token.lower())
    return False


def _tokens(text: str, escapes: bool) -> Iterator[str]:
    for match in (TOKEN if escapes else PLAIN).finditer(text):
        if match.lastgroup != "skip":
            yield match[0]


def _said(literal: str, escapes: bool) -> str:
    """Return what a string literal says."""
    inner = literal[1:-1].replace(literal[0] * 2, literal[0])
    if not escapes:
        return inner
    return ESCAPE.sub(lambda match: SPECIAL.get(match[1], match[1]), inner)
