"""What a plan masks of the content of an answer: texts, and leaves of JSON by their path."""

import re

from appliance.model import Column
from appliance.wire import Cell, Plan
from appliance.wire.http import leaves
from appliance.wire.http.coding import Unreadable

MAX_PATHS = 10_000  # of one answer whose masks are remembered
HIDDEN = "[redacted]"  # in place of a document whose leaves cannot be told
BLANK = " \t\r\n\ufeff"  # may stand before JSON
# What begins as JSON of some names does, also behind what keeps it from being run as a script, and as a script's call.
BEGINS = re.compile(
    r"""[\s\ufeff]*(?:\)\]\}',?|while\s*\(1\);|for\s*\(;;\);|(?:/\*\*/)?[\w.$ ='&;]{0,200}[\w$]\()?"""
    r"""\s*(?:\{\s*["}]|\[\s*[\[{"])"""
)


class Masker:
    """What a plan masks of an answer: texts as a whole, and leaves of JSON by their path."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._whole = self._of("")
        self._leaves: dict[str, Cell | None] = {}  # by path, the numbers of elements left out
        self.rules: frozenset[str] = frozenset(getattr(plan, "rules", ()))
        # True if it changes but what detectors find, wherever that is: a text can be masked as it comes.
        self.finds_only = bool(getattr(plan, "finds_only", False))
        # True if it hides leaves by their names: what may have some, and cannot be read, is not shown.
        self.by_name = bool(getattr(plan, "by_name", not self.finds_only))
        self.exact = bool(getattr(plan, "exact", False))  # an answer has to stay as long as it was

    def _of(self, name: str) -> Cell | None:
        cells = self._plan((Column(name),))
        return cells[0] if cells else None

    def text(self, text: str) -> str | None:
        return self._whole(text) if self._whole else text

    def leaf(self, path: str, text: str) -> str | None:
        if path not in self._leaves:
            if len(self._leaves) >= MAX_PATHS:
                self._leaves.clear()
            self._leaves[path] = self._of(path)
        cell = self._leaves[path]
        return cell(text) if cell else text

    def content(self, text: str, claimed: bool) -> tuple[str, int]:
        """Return a text masked, by its leaves if it is JSON, and how many values were changed.

        Raises:
            Unreadable: it says that it is JSON, or looks so and has leaves to hide, and cannot be read as such.
        """
        shown, count, read = text, 0, False
        if claimed or text.lstrip(BLANK)[:1] in ("{", "["):
            try:
                shown, count = leaves.masked(text, self.leaf)
                read = True
            except leaves.NoJson:
                if claimed and text.strip():
                    raise Unreadable("no JSON, although it says so") from None
        if self.by_name and not read and BEGINS.match(text):
            raise Unreadable("JSON that is not read here, with leaves to hide")
        whole = self.text(shown)
        return (text, 0) if whole == text else (whole or "", count + (whole != shown))

    def piece(self, text: str) -> tuple[str, int]:
        """Return one event or message masked: an object whose leaves must be known and are not is hidden whole."""
        try:
            return self.content(text, claimed=not self.finds_only and text.lstrip(BLANK)[:1] == "{")
        except Unreadable:
            return HIDDEN, 1
