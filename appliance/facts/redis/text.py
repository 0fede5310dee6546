"""Bytes of Redis as text, and back.

Keys, channels and values are bytes. As text they are UTF-8; a byte that is none is written \\xNN. Two keys can so have
one text (the byte FF, and the four characters that write it): a rule about one is then about both.
"""

import re

_WORD = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|(\S+)", re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_NAMED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a"}
_PLAIN = re.compile(rb"[A-Za-z0-9_.:*?-]+\Z")


def shown(data: bytes) -> str:
    """Return bytes as text."""
    return data.decode("utf-8", "backslashreplace")


def typed(text: str) -> list[bytes]:
    """Return the words of a command as a person types it: in quotes where they hold spaces, `\\xNN` for bytes."""
    found = []
    for double, single, plain in _WORD.findall(text):
        if double:
            found.append(_unescaped(double))
        else:
            found.append((single.replace("\\'", "'") if single else plain).encode())
    return found


def _unescaped(text: str) -> bytes:
    out, at = b"", 0
    for match in _ESCAPE.finditer(text):
        said = match[1]
        byte = bytes([int(said[1:], 16)]) if len(said) == 3 else _NAMED.get(said, said).encode()
        out += text[at : match.start()].encode() + byte
        at = match.end()
    return out + text[at:].encode()


def quoted(word: bytes) -> str:
    """Return a word so that `typed`, and an inline command, reads it as it is."""
    if _PLAIN.match(word):
        return word.decode()
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"'
