"""The ways a path can be read.

Servers differ in when they decode, whether they resolve dots and join slashes, and what `;` and `\\` mean to them. A
path is here every form that some order of these steps gives, so that a rule holds whichever server is behind it.

Source: RFC 3986 sections 4.2, 5.2.4 and 6.2.2; the behaviour of nginx (merge_slashes), Tomcat (path parameters), IIS;
WHATWG URL, by which many programs in JavaScript read a path, and for which `//a/b` is the path `/b` of the host `a`.
"""

import re
from collections.abc import Callable
from urllib.parse import unquote

MAX_READINGS = 64  # forms of one path; honest ones have one or two
SLASH = re.compile("(%2f|%5c)", re.IGNORECASE)
HOST = re.compile(r"^/{2,}[^/]*")
END = re.compile(r"[\0?#]")
AMBIGUOUS = re.compile(r"[%\\\\;.\0]|//")  # what a step below looks for; an empty path is `/` besides


def readings(path: str) -> tuple[frozenset[str], bool]:
    """Return the forms of a path, and whether those are all."""
    if path and AMBIGUOUS.search(path) is None:
        return frozenset((path,)), True
    found, left = {path}, [path]
    while left:
        here = left.pop()
        for step in _STEPS:
            form = step(here)
            if form not in found:
                if len(found) >= MAX_READINGS:
                    return frozenset(found), False
                found.add(form)
                left.append(form)
    return frozenset(found), True


def _decoded(path: str) -> str:
    return unquote(path, errors="surrogateescape") if "%" in path else path


def _decoded_within(path: str) -> str:
    """Some decode a path and keep the slashes that are written in it: `/a%2f%62` is `/a%2fb` for them."""
    if "%" not in path:
        return path
    return "".join(
        [unquote(part, errors="surrogateescape") if n % 2 == 0 else part for n, part in enumerate(SLASH.split(path))]
    )


def _rooted(path: str) -> str:
    """What begins with two slashes begins with a host."""
    return HOST.sub("", path) or "/"


def _slashes(path: str) -> str:
    return re.sub(r"/{2,}", "/", path) if "//" in path else path


def _backslashes(path: str) -> str:
    return path.replace("\\", "/")


def _parameters(path: str) -> str:
    return re.sub(r";[^/]*", "", path) if ";" in path else path


def _dots(path: str) -> str:
    if path and "." not in path:
        return path
    out: list[str] = []
    parts = path.split("/")
    for part in parts:
        if part == "..":
            del out[max(1, len(out) - 1) :]
        elif part != ".":
            out.append(part)
    if parts[-1] in (".", ".."):
        out.append("")
    return "/".join(out) or "/"


def _cut(path: str) -> str:
    """A NUL ends the path for what is written in C, and what was decoded once may have a query once more."""
    return END.split(path, maxsplit=1)[0]


_STEPS: tuple[Callable[[str], str], ...] = (
    _decoded,
    _decoded_within,
    _rooted,
    _slashes,
    _backslashes,
    _parameters,
    _dots,
    _cut,
)
