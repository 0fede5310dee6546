"""What goes to the journal: a line a message, whatever names governed processes gave to their cgroups and files.

A name may hold a line end, and what follows it would stand there as a message of ours; escapes would move the cursor of
who reads it. So nothing but printable characters is written, and lines after the first are indented.
"""

import logging

from appliance.record.text import clean


class Plain(logging.Formatter):
    """Messages as they were meant, tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record)).replace("\n", "\n    ")


def begin(who: str = "") -> None:
    """Log to stderr from now on; `who` comes before each message."""
    plain = logging.StreamHandler()
    plain.setFormatter(Plain(f"{who} %(levelname)s %(message)s".lstrip()))
    logging.basicConfig(handlers=[plain], level=logging.INFO)
