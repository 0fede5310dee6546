"""The answer to a statement of our own, which the client does not see.

Source: PostgreSQL 17 manual, "Message Formats".
"""

from appliance.model import Column, Message, ProtocolError, Side, Value
from appliance.wire.postgres import columns as described
from appliance.wire.postgres.encodings import Encoding
from appliance.wire.postgres.frames import HEADER, MAX_INJECTED, Fields
from appliance.wire.postgres.refusals import Failure


class Injected:
    """Of one connection; one statement at a time."""

    def __init__(self) -> None:
        self.failure: Failure | None = None  # what the server said instead
        self._columns: tuple[Column, ...] = ()  # of the result that comes
        self._values: list[Value] = []
        self._size = self._sets = 0

    def read(self, kind: str, raw: bytes, encoding: Encoding) -> Message | None:
        """Take one message of the answer; return a result that is whole.

        Raises:
            ProtocolError: the answer is too long, or no rows of the columns it told.
        """
        if kind == "describe":
            self._columns = described.columns(encoding, raw)
        elif kind == "row":
            fields = Fields(raw, encoding, HEADER)
            self._size += len(raw)
            if fields.int16() != len(self._columns) or self._size > MAX_INJECTED:
                raise ProtocolError(f"the answer to a statement of our own is over {MAX_INJECTED} bytes or not whole")
            self._values += [Value(fields.value(), column.type) for column in self._columns]
            fields.end()
        elif kind == "complete":
            name, status = str(self._sets), described.tag(encoding, raw)
            self._sets += 1
            values, self._values = tuple(self._values), []
            return Message(Side.SERVER, "injected", b"", name=name, values=values, columns=self._columns, status=status)
        return None

    def done(self, status: str, encoding: Encoding) -> Message:
        """Return that the whole answer is here, the transaction being in a state of `status`."""
        failure = self.failure
        self._values, self._columns, self._size, self._sets, self.failure = [], (), 0, 0, None
        if failure is None:
            return Message(Side.SERVER, "injected-done", b"", cursor=status)
        text, code = encoding.decode(failure.text), failure.code.decode("ascii", "replace")
        return Message(Side.SERVER, "injected-done", b"", text=text, status=code, cursor=status)
