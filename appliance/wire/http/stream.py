"""A text masked as it comes, when only what detectors find is masked.

Theory of operation. The last OVERLAP characters of what has come always wait, so that what begins before them is there
as a whole. A place to cut is looked for before them: one where the parts before and behind it, masked one by one, are
what both come to masked together. So nothing that is found lies across a cut.

What is longer than OVERLAP is found only if its beginning is enough for its detector, as that of a private key is; it
waits for its end, up to MAX_HELD.
"""

import re
from collections.abc import Callable, Iterator

from appliance.model import ProtocolError

OVERLAP = 8 * 1024  # characters; the longest finds with a form, tokens in JWT, have about 4,000
STEP = 8 * 1024  # characters that come between two looks: each is looked at twice or so, whatever their pieces
MAX_HELD = 128 * 1024  # characters; a private key has 3,500
BACK = (0, 32, 128, 512, 2048, 8192, 32768)  # characters before the overlap that a cut is tried at
LINE, WORD = 512, 128  # characters; as far back an end of a line, of a word is looked for
APART = re.compile(r"[\s,;|<>\"'(){}\[\]]")


class Stream:
    """Masks one text. Use one for each."""

    def __init__(self, mask: Callable[[str], str | None]) -> None:
        self._mask = mask
        self._text: list[str] = []
        self._size = 0
        self._next = OVERLAP + STEP  # the size to look at it again

    def take(self, text: str) -> tuple[str, bool]:
        """Return what may be shown, now that more has come, and whether it was changed.

        Raises:
            ProtocolError: what is found does not end.
        """
        self._text.append(text)
        self._size += len(text)
        if self._size < self._next:
            return "", False
        whole = "".join(self._text)
        at, shown = self._cut(whole)
        if len(whole) - at > MAX_HELD:
            raise ProtocolError(f"what is found in an answer is over {MAX_HELD} characters: it cannot be masked")
        self._text, self._size = [whole[at:]], len(whole) - at
        self._next = max(OVERLAP, self._size) + STEP
        return shown, shown != whole[:at]

    def end(self) -> tuple[str, bool]:
        """Return the rest."""
        whole = "".join(self._text)
        self._text, self._size = [], 0
        shown = self._mask(whole) or "" if whole else ""
        return shown, shown != whole

    def _cut(self, whole: str) -> tuple[int, str]:
        """Return where what may be shown ends, and what it is shown as."""
        masked = self._mask(whole)
        for at in _places(whole, len(whole) - OVERLAP):
            if masked == whole:
                return at, whole[:at]
            before, after = self._mask(whole[:at]), self._mask(whole[at:])
            if before is not None and after is not None and before + after == masked:
                return at, before
        return 0, ""


def _places(text: str, last: int) -> Iterator[int]:
    """Yield places at or before `last` to cut at, good ones first: behind the end of a line or of a word."""
    for back in BACK:
        top = last - back
        if top <= 0:
            break
        line = text.rfind("\n", max(0, top - LINE), top) + 1
        if line:
            yield line
        words = [found.end() for found in APART.finditer(text, max(0, top - WORD), top)]
        yield from reversed(words[-2:])
    if last > 0:
        yield last
