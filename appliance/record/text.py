"""Recorded text and bytes made fit to be looked at.

They come from programs nobody trusts, and a terminal or a viewer must not obey what is in them. So whatever
is not printable (control characters, escape sequences, marks that turn the direction of writing) is escaped.
"""

import re
import shlex
from datetime import UTC, datetime

from appliance.model import Decision, Process

_UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\ufffd]+")
# Printable to Python, and blank or nothing in fonts: Default_Ignorable_Code_Point of the Unicode character database,
# and the empty pattern of Braille.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


def clean(text: str) -> str:
    """Return `text` with everything but printable characters, tabs and line ends escaped."""
    if text.isprintable() and (text.isascii() or _BLANK.search(text) is None):
        return text
    return "".join(c if c in "\n\t" or is_seen(c) else _escape(c) for c in text)


def is_seen(char: str) -> bool:
    """Tell whether somebody who looks at a character sees one; a blank is one."""
    return char.isprintable() and (char.isascii() or _BLANK.match(char) is None)


def line(text: str) -> str:
    """Return `text` on one line."""
    return clean(" ".join(text.split()) if "\n" in text or "\t" in text else text)


def readable(raw: bytes) -> str:
    """Return what can be read of `raw`: each run of other bytes is one dot. Empty when there is nothing."""
    text = _UNREADABLE.sub(".", raw.decode("utf-8", "replace"))
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "." for c in text)
    return "" if text == "." else text


def stamp(time: float) -> str:
    """Return a time in unix seconds as UTC, to the millisecond."""
    return datetime.fromtimestamp(time, UTC).isoformat(" ", "milliseconds").removesuffix("+00:00") + "Z"


def command(process: Process) -> str:
    """Return argv as a shell would take it."""
    return clean(shlex.join(process.argv))


def because(decision: Decision) -> str:
    """Return which rule decided, where it stands, and why."""
    where = " @".join(part for part in (decision.file, decision.revision) if part)
    text = decision.rule + (f" ({where})" if where else "")
    if decision.reason:
        text += f": {decision.reason}"
    if decision.unknown:
        text += f"; not known: {decision.unknown}"
    if decision.shadow:
        text += f"; shadow: {', '.join(decision.shadow)}"
    return clean(text)


def amount(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
