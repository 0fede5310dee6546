"""Secrets inside requests: made unreadable before they are recorded, length and all else kept.

What a protocol itself carries as a secret (a password message) its wire marks. Here are those that stand in the
text of a request: `ALTER ROLE r PASSWORD 'x'`, `IDENTIFIED BY 'x'`, a connection string, a header. What follows
such a word is taken for the secret. A help, no promise: a secret in a form not known here is kept.

The work is bounded: only what stands near one of WORDS is looked at, and only near the first few of each, so that
a long statement full of such words holds nobody up.
"""

import re

WORDS = ("passw", "pwd", "identified", "authorization", "cookie", "secret", "token", "api", "://")
_ANY = re.compile("|".join(map(re.escape, WORDS)))
_ANY_RAW = re.compile(_ANY.pattern.encode())
MAX_PLACES = 8  # of one word; statements that set a secret set one
BEFORE, AFTER = 128, 2048  # characters about a word that are looked at; a signed token has about 1,000

_LITERAL = r"(?:[eEnNbB]?'(?:[^'\\\0]|''|\\[^\0])*'?|\"(?:[^\"\\\0]|\"\"|\\[^\0])*\"?|\$(\w*)\$[^\0]*?(?:\$\2\$|\Z))"
# Patterns, and before each what every match of it has one of.
_SECRETS = tuple(
    (words.split(), re.compile(f"(?im){pattern}"))
    for words, pattern in (
        # PASSWORD 'x', password => 'x', SET PASSWORD FOR u = PASSWORD('x'), IDENTIFIED [WITH plugin] BY|AS 'x'
        (
            "password passwd pwd passphrase",
            rf"(\b(?:password|passwd|pwd|passphrase)\b(?:['\"](?=\s*[=:]))?[\s=:(>]*){_LITERAL}",
        ),
        ("identified", rf"(\bidentified\b\s+(?:with\s+\S+\s+)?(?:by|as)\s+(?:password\s+)?){_LITERAL}"),
        (
            "secret token apikey api-key api_key sslpassword",
            rf"(\b(?:client_?secret|secret_?(?:access_?)?key|access_?token|auth_?token|api[-_]?key|sslpassword)\b"
            rf"['\"]?\s*[=:>]+\s*){_LITERAL}",
        ),
        # in a connection string: password=x, also inside a literal; of a URL, what is between the colon and the @
        (
            "password= passwd= pwd= secret= token=",
            r"(\b(?:password|passwd|pwd|sslpassword|secret|token)=)([^\s'\"&;,)\0]+)",
        ),
        ("://", r"(://[^/\s:@'\"\0]*:)([^@\s/'\"\0]+)(?=@)"),
        # header lines
        ("authorization:", r"(^(?:proxy-)?authorization:[ \t]*)([^\r\n\0]+)"),
        ("cookie:", r"(^(?:set-)?cookie:[ \t]*)([^\r\n\0]+)"),
    )
)


def veil(text: str) -> str:
    """Return the text with secrets overwritten by as many asterisks; the same object where there are none."""
    out: list[str] = []
    at = 0
    for start, end in _places(text):
        was = part = text[start:end]
        low = part.lower() if part.isascii() else ""  # beyond ASCII, other letters match those of a pattern too
        for words, pattern in _SECRETS:
            if not low or any(word in low for word in words):
                part = pattern.sub(_covered, part)
        if part != was:
            out += (text[at:start], part)
            at = start + len(part)
    return "".join(out) + text[at:] if out else text


def veil_raw(raw: bytes) -> bytes:
    """Return the bytes of a message with secrets overwritten, as `veil` does."""
    if _ANY_RAW.search(raw.lower()) is None:
        return raw
    return veil(raw.decode("latin-1")).encode("latin-1")


def _places(text: str) -> list[tuple[int, int]]:
    """Return the stretches of text that may hold a secret, in order, none touching another."""
    low = text.lower()
    if len(low) != len(text):  # some capitals have two small letters
        low = "".join(c.lower() if c.isascii() else c for c in text)
    if _ANY.search(low) is None:
        return []
    found = []
    for word in WORDS:
        if word in low:
            at = low.find(word)
            for _ in range(MAX_PLACES):
                if at < 0:
                    break
                found.append((max(0, at - BEFORE), at + AFTER))
                at = low.find(word, at + len(word))
    places: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if places and start <= places[-1][1]:
            places[-1] = (places[-1][0], max(end, places[-1][1]))
        else:
            places.append((start, end))
    return places


def _covered(match: re.Match[str]) -> str:
    return match[1] + "*" * (len(match[0]) - len(match[1]))
