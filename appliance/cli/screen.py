"""What goes to the screen: tables, colours, times, and text of governed processes made harmless.

Colours appear on a terminal only, and never with NO_COLOR set (no-color.org). A held statement is shown to
the one who releases it, so nothing in it may move the cursor, hide text or turn it round: whatever is not
plainly visible is written as an escape.
"""

import sys
import time
from collections.abc import Iterator, Sequence

import click
import msgspec

from appliance.record.text import clean, is_seen, stamp

VERDICTS = ("allow", "block", "approve", "mask")
REDRAW_S = 0.2  # of a progress line


def visible(text: str) -> str:
    """Return `text` on one line, all that is invisible escaped, line ends and turns of writing too."""
    return clean(text).replace("\n", "\\n").replace("\t", "\\t")


def visible_lines(text: str) -> list[str]:
    """Return the lines of `text`, each with all that is invisible escaped; tabs become blanks."""
    return [visible(line.expandtabs(4)) for line in text.split("\n")]


def strong(text: str) -> str:
    """Return text that stands out."""
    return click.style(text, bold=True)


def faint(text: str) -> str:
    """Return text that stands back."""
    return click.style(text, dim=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print rows under a head, columns aligned; those numbered in `right` to the right."""
    all_rows = [tuple(strong(name) for name in head), *rows]
    widths = [max(len(click.unstyle(row[n])) for row in all_rows) for n in range(len(head))]
    for row in all_rows:
        cells = []
        for n, cell in enumerate(row):
            gap = " " * (widths[n] - len(click.unstyle(cell)))
            cells.append(gap + cell if n in right else cell + gap)
        click.echo("  ".join(cells).rstrip())


def json(value: object) -> None:
    """Print one JSON document, what is invisible in its strings as escapes: it may be a terminal that reads it."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    click.echo("".join(c if c == "\n" or is_seen(c) else _escaped(c) for c in text))


def json_line(value: object) -> None:
    """Print a value as JSON on one line, as `json` does."""
    text = msgspec.json.encode(value).decode()
    click.echo("".join(c if is_seen(c) else _escaped(c) for c in text))


def _escaped(char: str) -> str:
    """Return a character as JSON escapes it, in UTF-16."""
    code = char.encode("utf-16-be")
    return "".join(f"\\u{code[i : i + 2].hex()}" for i in range(0, len(code), 2))


def moment(seconds: float) -> str:
    """Return a time in UTC, to the second."""
    return stamp(seconds)[:-5] + "Z"


def span(seconds: float) -> str:
    """Return a length of time in its two largest units: 9m48s, 2d3h."""
    left = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"


def amount(count: int) -> str:
    """Return a number of bytes: 512 B, 1.5 KiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{count} B"


def say(text: str) -> None:
    """Print an answer in words, whatever names are in it."""
    click.echo("\n".join(visible_lines(text)))


def warn(text: str) -> None:
    """Say something beside the answer."""
    click.echo("\n".join(visible_lines(text)), err=True)


def progress(pieces: Iterator[bytes], doing: str) -> Iterator[bytes]:
    """Pass pieces on; on a terminal, say how far it is."""
    if not sys.stderr.isatty():
        yield from pieces
        return
    done, next_draw = 0, time.monotonic() + REDRAW_S
    try:
        for piece in pieces:
            yield piece
            done += len(piece)
            if time.monotonic() >= next_draw:
                next_draw = time.monotonic() + REDRAW_S
                click.echo(f"\r\033[K{doing}: {amount(done)}", err=True, nl=False)
    finally:
        click.echo("\r\033[K", err=True, nl=False)
