"""What a plan masks of the content of an answer: texts, and leaves of JSON by their path."""

from appliance.model import Column
from appliance.wire import Cell, Plan
from appliance.wire.http import leaves
from appliance.wire.http.coding import Unreadable

MAX_PATHS = 10_000  # of one answer whose masks are remembered
HIDDEN = "[redacted]"  # in place of a document whose leaves cannot be told
BLANK = " \t\r\n\ufeff"  # may stand before JSON


class Masker:
    """What a plan masks of an answer: texts as a whole, and leaves of JSON by their path."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._whole = self._of("")
        self._leaves: dict[str, Cell | None] = {}  # by path, the numbers of elements left out
        self.rules: frozenset[str] = frozenset(getattr(plan, "rules", ()))
        # True if it changes but what detectors find, wherever that is: a text can be masked as it comes.
        self.finds_only = bool(getattr(plan, "finds_only", False))
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
            Unreadable: `claimed`, it says that it is JSON, and is none.
        """
        shown, count = text, 0
        if claimed or text.lstrip(BLANK)[:1] in ("{", "["):
            try:
                shown, count = leaves.masked(text, self.leaf)
            except leaves.NoJson:
                if claimed and text.strip():
                    raise Unreadable("no JSON, although it says so") from None
        whole = self.text(shown)
        return (text, 0) if whole == text else (whole or "", count + (whole != shown))

    def piece(self, text: str) -> tuple[str, int]:
        """Return one event or message masked: an object whose leaves must be known and are not is hidden whole."""
        try:
            return self.content(text, claimed=not self.finds_only and text.lstrip(BLANK)[:1] == "{")
        except Unreadable:
            return HIDDEN, 1
