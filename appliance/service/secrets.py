"""Passwords on a command line: taken out before a process is recorded or shown to a reviewer.

A help, no promise: a secret in a form not known here is kept as it is. Programs that take secrets on the command
line show them to every user of the host anyway (proc(5), cmdline).
"""

import re
from collections.abc import Iterable

from appliance.session.secret import veil

HIDDEN = "***"
NAMES = "pass|passwd|password|pgpassword|pwd|secret|token|api[-_]?key|access[-_]?key"
# password=x, --token:x, 'password = x' in a connection string; a quoted value is taken whole
PAIR = re.compile(rf"(?i)((?:^|[\s;?&_-])(?:{NAMES})\s?[=:]\s?)('[^']*'|[^\s;&]+)")
URL = re.compile(r"(://[^/\s:@]*:)[^@\s/]+@")
PLAIN = re.compile(r"[0-9A-Za-z_./-]*")  # what each of these, and of `veil`'s, needs more than
OPTION = re.compile(rf"(?i)--?(?:{NAMES})")  # the value is the next word
AUTHORIZATION = re.compile(r"(?i)^(authorization|proxy-authorization|cookie):.*", re.DOTALL)


def hide(argv: Iterable[str]) -> tuple[str, ...]:
    """Return the words of a command line with the secrets that are recognised replaced."""
    shown: list[str] = []
    value = False
    for word in argv:
        shown.append(HIDDEN if value else _hide(word))
        value = OPTION.fullmatch(word) is not None
    return tuple(shown)


def _hide(word: str) -> str:
    if PLAIN.fullmatch(word):
        return word
    word = veil(word)  # a statement, as of psql -c
    word = AUTHORIZATION.sub(rf"\1: {HIDDEN}", word)
    return URL.sub(rf"\1{HIDDEN}@", PAIR.sub(rf"\1{HIDDEN}", word))
