"""The client's messages that are not decided, in the order they came."""

from collections import deque
from typing import Final

from appliance.model import Message
from appliance.wire import Wire

# Bytes of memory that a message takes beside its own, and each of its values: the least of them have 5 bytes, and a
# client that is held would have 80 MB here before it is not read from any more.
MESSAGE: Final = 384
VALUE: Final = 100


class Line:
    """Of one flow."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._wire: Wire | None = None
        self._stale = 0  # so many, from the first on, came before what is in force now
        self.size = 0  # bytes they take

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def first(self) -> Message:
        return self._messages[0]

    def add(self, message: Message) -> None:
        self._messages.append(message)
        self.size += _weight(message)

    def shift(self) -> None:
        """The first is decided."""
        self.size -= _weight(self._messages.popleft())
        if self._stale:
            self._stale -= 1
            self._read()

    def again(self, wire: Wire) -> None:
        """What is in force has changed: it may tell how the text of those that wait is to be read.

        Each is read anew when it is the first: all at once, for each of many changes, would be quadratic.
        """
        self._wire, self._stale = wire, len(self._messages)
        self._read()

    def clear(self) -> None:
        self._messages.clear()
        self.size = self._stale = 0

    def _read(self) -> None:
        if self._stale and self._wire is not None:
            was = self._messages[0]
            self._messages[0] = found = self._wire.again(was)
            self.size += _weight(found) - _weight(was)


def _weight(message: Message) -> int:
    return len(message.raw) + MESSAGE + VALUE * len(message.values)
