"""A terminal's text as a picture for a page: `make picture` draws the demo with it.

    python -m appliance.lab.picture <TEXT >PICTURE.svg

Colours and bold are those of ECMA-48 section 8.3.117 (SGR) that the demo uses; what else a terminal is told is left
out.
Source: SVG 1.1 (Second Edition), section 10.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape

COLUMNS = 118  # of the widest line shown; longer ones end in an ellipsis
WIDTH, HEIGHT = 8.0, 17  # pixels of a cell in the font below
MARGIN = 14
STYLES = {"1": "font-weight:bold;fill:#ffffff", "36": "fill:#5ccfe6", "33": "fill:#ffd173"}
TOLD = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|[\x00-\x08\x0b-\x1f\x7f]")
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" aria-label="vendorgate demo">'
    '<rect width="100%" height="100%" rx="8" fill="#1f2430"/>'
    '<g font-family="monospace" font-size="13" fill="#cccac2" xml:space="preserve">'
)


def picture(lines: Iterable[str]) -> str:
    """Return an SVG of the lines."""
    rows: list[str] = []
    style = ""
    for line in lines:
        spans = list(_spans(line.expandtabs(8).rstrip("\r\n"), style))
        style = spans[-1][0] if spans else style
        rows.append(_row(spans, MARGIN + HEIGHT * (len(rows) + 1)))
    head = HEAD.format(width=round(2 * MARGIN + WIDTH * COLUMNS), height=2 * MARGIN + HEIGHT * (len(rows) + 1))
    return "\n".join([head, *rows, "</g></svg>\n"])


def _spans(line: str, style: str) -> Iterator[tuple[str, str]]:
    """Yield styles and the texts in them; the last one is what the next line begins in."""
    at, room = 0, COLUMNS
    for told in TOLD.finditer(line):
        text = line[at : told.start()]
        yield style, _fitting(text, room)
        at, room = told.end(), room - len(text)
        if told[2] == "m":
            style = STYLES.get(told[1], "")
    yield style, _fitting(line[at:], room)


def _fitting(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…" * (room > 0)


def _row(spans: Iterable[tuple[str, str]], y: int) -> str:
    texts = (f'<tspan style="{style}">{escape(text)}</tspan>' if style else escape(text) for style, text in spans)
    return f'<text x="{MARGIN}" y="{y}">{"".join(texts)}</text>'


if __name__ == "__main__":
    sys.stdout.write(picture(sys.stdin))
