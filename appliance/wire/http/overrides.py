"""Names of another method in a body that is too long to be judged whole.

Some frameworks take the method of a request out of what is posted. Where the beginning of a long body, by which it is
judged, has no such name, what follows may have none either: the flow ends before the server has the whole of it.

Source: Rack, `MethodOverride`; Symfony, `Request::getMethod`; Laravel, `Request::isJson`; PHP's manual, "Variables From
External Sources"; RFC 8259 section 7, RFC 7578 section 4.2.
"""

import re

from appliance.wire.http.said import Request

NAMES = ("method", "httpmethod")  # behind a `_`, and what PHP takes for one in a form
FORM = "application/x-www-form-urlencoded"
MAX_BLANKS = 256  # bytes around the sign before a name; more of them count as one
MAX_TAIL = 2 * MAX_BLANKS + 256  # bytes that are looked at again with what follows: more than a name takes
LARAVEL = re.compile(r"[/+]json", re.IGNORECASE)  # anywhere in the type
CHARSET = re.compile(r"charset(?!=\"?(?:utf-?8|us-ascii|iso-8859-1)\b)", re.IGNORECASE)  # where a name looks otherwise


def _spelled(escape: str, before: str = "") -> str:
    """Return an expression for the names, whatever of them is escaped, or has something before it."""
    letters = {c: f"{before}(?:{c}|{escape}(?:{ord(c):02x}|{ord(c.upper()):02x}))" for name in NAMES for c in name}
    return f"(?:{'|'.join([''.join([letters[c] for c in name]) for name in NAMES])})"


def _pattern(text: str) -> re.Pattern[bytes]:
    return re.compile(text.encode())


# They are looked for in small letters, and begin in a way that is found quickly. In parts what is coded counts as one.
IN_JSON = _pattern(r'"(?:_|\\u005f)' + _spelled(r"\\u00") + '"')
IN_FORM = _pattern(r"[_.\[%](?:(?<![a-z0-9].)|(?<=%20.))(?:(?<=[^%])|5f|2e|5b)" + _spelled("%") + "(?![a-z0-9_])")
IN_PARTS = _pattern(
    rf"""(?:name(?<!filename)|content-id)(?:\s{{{MAX_BLANKS}}}|\s*+(?:\*[\s\d*]{{0,{MAX_BLANKS}}}=|[=:](?:[\s"']{{{MAX_BLANKS}}}|[\s"']*+"""
    r"""(?:=\?|\\?(?:_|%5f|\.|%2e|\[|%5b)""" + _spelled("%", r"\\?") + "(?![a-z0-9_])))))"
)


def watch(head: Request, begins: bytes) -> "Watch | None":
    """Return what looks for a name in the rest of a body; None if there could be one in its beginning already.

    None too for what no server looks for a name in, which is for its reader to know.
    """
    content = head.named.get("content-type", "")
    if head.method.upper() != "POST" or "content-encoding" in head.named or "," in content or CHARSET.search(content):
        return None
    media = content.partition(";")[0].strip().lower()
    found = [IN_FORM] if media in ("", FORM) else [IN_PARTS] if media.startswith("multipart/") else []
    found += [IN_JSON] if LARAVEL.search(content) else []
    rest = Watch(found[0]) if len(found) == 1 else None
    return rest if rest is not None and not rest.finds(begins) else None


class Watch:
    """Looks at what follows of one long body."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern, self._tail = pattern, b""

    def finds(self, content: bytes) -> bool:
        """Return True if what comes, behind what came, has a name."""
        data = self._tail + content.lower()
        self._tail = data[-MAX_TAIL:]
        return self._pattern.search(data) is not None
