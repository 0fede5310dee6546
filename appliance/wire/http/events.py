"""Server-sent events: where one ends, and one with its fields masked.

Source: WHATWG HTML, "Server-sent events", sections 9.2.5 and 9.2.6. A line ends in CR LF, LF or CR; an empty line ends
an event; the stream is UTF-8, and a byte order mark may stand before it.

What is spread over several events (the words a language model says one by one) is looked at event by event.
"""

import re
from collections.abc import Iterator

from appliance.model import ProtocolError
from appliance.wire.http.content import Masker

MEDIA = "text/event-stream"
MAX_EVENT = 1 << 20  # bytes of one that is masked; ours: the largest that model servers send have some 100 kB
END = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
BREAKS = re.compile(rb"[\r\n]+")
LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")
MARK = "\ufeff"


def parts(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield the pieces of some data up to each end of an event in it, and whether the piece has one."""
    at = 0
    for end in END.finditer(data):
        yield data[at : end.end()], True
        at = end.end()
    if at < len(data):
        yield data[at:], False


class Events:
    """Cuts a stream into events. Use one for each stream."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._seen = 0  # bytes that hold no end

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield each event that `data` completes, its empty line included, and line breaks between events.

        Raises:
            ProtocolError: an event is over the limit.
        """
        self._data += data
        while True:
            # The LF of an event's last CR LF may come by itself: it must not begin the next event.
            breaks = BREAKS.match(self._data)
            end = breaks or END.search(self._data, self._seen)
            if end is None:
                break
            yield bytes(self._data[: end.end()])
            del self._data[: end.end()]
            self._seen = 0
        self._seen = max(0, len(self._data) - 3)
        if len(self._data) > MAX_EVENT:
            raise ProtocolError(f"an event over {MAX_EVENT} bytes cannot be masked")

    def end(self) -> bytes:
        """Return what came of an event that does not end."""
        rest = bytes(self._data)
        self._data.clear()
        return rest


def masked(event: bytes, masker: Masker) -> tuple[bytes, int]:
    """Return an event with its data, and the values of its other fields, masked, and how many were changed.

    The lines of its data are one text, and stand where the first of them stood.
    """
    text = event.decode("utf-8", "surrogateescape")
    mark, text = (MARK, text[1:]) if text.startswith(MARK) else ("", text)
    lines = [(found[1], found[2]) for found in LINE.finditer(text) if found[0]]
    data = "\n".join(_value(line) for line, _ in lines if _name(line) == "data")
    shown, count = masker.piece(data)
    rest = None if shown == data else re.split(r"\r\n|\r|\n", shown)
    out = [mark]
    for line, end in lines:
        if _name(line) != "data":
            hidden = _field(line, masker)
            count += hidden != line
            out += [hidden, end]
        elif rest is None:
            out += [line, end]
        else:
            out += [f"data: {one}{end or chr(10)}" for one in rest]
            rest = []
    return (_bytes("".join(out)), count) if count else (event, 0)


def _name(line: str) -> str:
    return line.partition(":")[0]


def _value(line: str) -> str:
    return line.partition(":")[2].removeprefix(" ")


def _field(line: str, masker: Masker) -> str:
    name, colon, _ = line.partition(":")
    value = _value(line)
    shown, called = masker.text(value), masker.text(name)
    if (shown, called) == (value, name):
        return line
    return f"{_joined(called)}{colon} {_joined(shown)}"


def _joined(text: str | None) -> str:
    """Return a text that is no end of a line."""
    return " ".join((text or "").splitlines())


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
