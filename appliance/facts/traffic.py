"""Which requests the server has answered, as far as names of the session depend on it.

Theory of operation. Query, FunctionCall, Sync and the startup are answered by one ReadyForQuery each, refused
ones too (something that fails goes up in their place). So when as many have come as were asked for, all is
answered. A count too high (a Sync that a COPY swallowed) only means that this is never seen; the answer to a
statement of our own sets it right, since that is only sent while the server owes nothing.
"""

from appliance.model import Message

_READY = frozenset(("query", "function-call", "sync", "startup"))


class Traffic:
    """Counts requests and answers of one flow."""

    def __init__(self) -> None:
        self.segment = 0  # number of the stretch up to the next message that is answered by ReadyForQuery
        self.started = False  # the login is done
        self._last: Message | None = None
        self._due = 0  # ReadyForQuery asked for
        self._came = 0
        self._error = False  # since all was answered last

    def asked(self, message: Message) -> None:
        """Note a client's message; it may be noted again while it waits."""
        if message is self._last:
            return
        if self._last is not None and self._last.kind in _READY:
            self.segment += 1
        self._last = message
        self._due += message.kind in _READY

    def sent(self, message: Message) -> None:
        """Note a client's message that went up, if it was not asked about."""
        self.asked(message)

    def failed(self) -> None:
        """Note an error of the server."""
        self._error = True

    def ready(self) -> tuple[bool, bool]:
        """Note ReadyForQuery; return whether all is answered, and without an error since it last was."""
        self.started = True
        self._came += 1
        if self._came != self._due:
            return False, False
        sure, self._error = not self._error, False
        return True, sure

    def quiet(self) -> None:
        """Note that all but the message that waits is answered."""
        waiting = self._last is not None and self._last.kind in _READY
        self._came = self._due - waiting
