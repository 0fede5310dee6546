"""The client's messages that are not decided, in the order they came."""

from collections import deque

from appliance.model import Message
from appliance.wire import Wire


class Line:
    """Of one flow."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self.size = 0  # bytes of them

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def first(self) -> Message:
        return self._messages[0]

    def add(self, message: Message) -> None:
        self._messages.append(message)
        self.size += len(message.raw)

    def shift(self) -> None:
        """The first is decided."""
        self.size -= len(self._messages.popleft().raw)

    def again(self, wire: Wire) -> None:
        """What is in force has changed: it may tell how the text of those that wait is to be read."""
        self._messages = deque(map(wire.again, self._messages))

    def clear(self) -> None:
        self._messages.clear()
        self.size = 0
