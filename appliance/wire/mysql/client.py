"""What the client says: the login, then commands, and files the server asked for.

Sources: MySQL 8.4 source documentation, "Command Phase", "COM_..."; MariaDB documentation, "Prepared Statements"
(COM_STMT_BULK_EXECUTE, statement -1).
"""

from collections.abc import Iterator

import msgspec

from appliance.model import Message, ProtocolError, Side, Value
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql import login, parameters
from appliance.wire.mysql.command import Command
from appliance.wire.mysql.compression import Stream, unpack
from appliance.wire.mysql.flow import Link
from appliance.wire.mysql.packets import (
    FULL,
    MAX_AUTH,
    MAX_LOGIN,
    MAX_MESSAGE,
    MAX_SMALL,
    MAX_STATEMENT,
    Fields,
    joined,
)

C = Side.CLIENT
TLS_RECORD = 0x16


class Requests:
    """The client's direction."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.stream = Stream()

    def add(self, data: bytes) -> None:
        self.stream.add(data)

    def read(self) -> Iterator[Message]:
        """Yield each message that is whole."""
        while True:
            message = self._next() if self.stream.inbox.left else None
            if message is not None:
                yield message
            elif not self.stream.more():
                self.stream.inbox.rest()
                return

    def again(self, message: Message) -> Message:
        """Return the message as it reads with what is known now; the same object if that is the same."""
        if message.kind not in AGAIN or message.status == "oversize":
            return message
        payload = self.payload(message.raw)
        self._link.again = True
        found = COMMANDS[payload[0]].read(self._link, message.raw, payload, message.kind)
        self._link.again = False
        return message if found == message else found

    def payload(self, raw: bytes) -> bytes:
        """Return what is in the packets of a command."""
        return joined(unpack(raw, self.stream.algorithm) if self.stream.algorithm else raw)

    def unread(self) -> bytes:
        """Take the bytes that no message was made of: after a request for TLS they belong to TLS."""
        return self.stream.inbox.take(self.stream.inbox.left)

    def _next(self) -> Message | None:
        link = self._link
        match link.phase:
            case "greeting":
                raise ProtocolError("the client speaks before the server")
            case "login":
                return self._login()
            case "tls":
                self._tls()
                return None
            case "auth":
                return self._auth()
            case "over":
                raise ProtocolError("the client sends bytes after its last message")
        return self._file() if link.file else self._command()

    def _one(self, limit: int, what: str) -> tuple[int, bytes] | None:
        """Take a packet that no other continues; return its number and its payload with the header."""
        inbox = self.stream.inbox
        header = inbox.header()
        if header is None:
            return None
        size, sequence = header
        if size > limit:
            raise ProtocolError(f"{what} of {size} bytes: the limit is {limit}")
        return None if inbox.left < 4 + size else (sequence, self._take(4 + size)[1])

    def _take(self, size: int) -> tuple[bytes, bytes]:
        inner, raw = self.stream.take(size)
        if self.stream.algorithm:
            self._link.frame_client = self.stream.sequence
        return inner, raw

    def _login(self) -> Message | None:
        link = self._link
        one = self._one(MAX_LOGIN, "an answer to the greeting")
        if one is None:
            return None
        sequence, raw = one
        if sequence != (2 if link.encrypted else 1):
            raise ProtocolError("packets out of order")
        link.sequence_client = sequence
        given = login.flags(link, raw[4:])
        said = given & link.offered | caps.SSL, raw[4 + login.CHARSET_AT]
        if given & caps.SSL and not link.encrypted:
            if len(raw) != 4 + login.ANSWER_FIELDS:
                raise ProtocolError("the client goes on in clear text after its request for TLS")
            link.phase, link.tls = "tls", said
            return Message(C, "tls", _without(raw, given & link.withheld))
        if link.encrypted and said != link.tls:
            # MariaDB goes by the capabilities of the request, MySQL by its charset too; what comes in TLS is for form.
            raise ProtocolError("the client logs in with other capabilities than it asked for TLS with")
        raw = _without(raw, given & link.withheld)
        message = login.startup(link, raw, raw[4:])
        link.phase, link.asked, link.login = "auth", False, (message.raw, raw)
        return message

    def _tls(self) -> None:
        """Leave what follows the request for TLS to whoever ends TLS (`MySQL.encrypted`)."""
        inbox = self.stream.inbox
        if inbox.data[inbox.at] != TLS_RECORD or inbox.left > MAX_LOGIN:
            raise ProtocolError("the client goes on in clear text after its request for TLS")

    def _auth(self) -> Message | None:
        link = self._link
        if not link.asked:
            raise ProtocolError("the client goes on before the server has answered its login")
        one = self._one(MAX_AUTH, "an answer to a plugin")
        if one is None:
            return None
        if one[0] == 0:
            raise ProtocolError("a command before the login is through")
        link.asked, link.sequence_client = False, one[0]
        return Message(C, "auth", one[1], secret=True)

    def _file(self) -> Message | None:
        """Take whole packets of a file; an empty one ends it."""
        inbox, at, count = self.stream.inbox, self.stream.inbox.at, 0
        data, link = inbox.data, self._link
        while len(data) - at >= 4:
            size = int.from_bytes(data[at : at + 3], "little")
            if size == 0 or len(data) - at < 4 + size:
                break
            link.sequence_client = data[at + 3]
            at += 4 + size
            count += 1
        if count:
            return Message(C, "copy-data", self._take(at - inbox.at)[1], count=count)
        if len(data) - at < 4 or size:
            return None
        link.sequence_client = data[at + 3]
        link.file = False
        return Message(C, "copy-done", self._take(4)[1])

    def _command(self) -> Message | None:
        link, inbox = self._link, self.stream.inbox
        header = inbox.header()
        if header is None:
            return None
        size, sequence = header
        if sequence and not self.stream.algorithm:
            raise ProtocolError("packets out of order")
        if inbox.left < 5 and size:
            return None
        command = COMMANDS.get(inbox.first() if size else -1, UNKNOWN)
        whole = inbox.whole(command.limit)
        if whole is None:
            return None
        inner, raw = self._take(whole)
        payload = joined(inner)
        link.sequence_client = len(payload) // FULL & 0xFF
        if command.kind == "change-user":
            return self._change_user(inner, raw, payload)
        if command.kind == "terminate":
            link.phase = "over"
        return command.read(link, raw, payload, command.kind)

    def _change_user(self, inner: bytes, raw: bytes, payload: bytes) -> Message:
        link = self._link
        message = login.change_user(link, inner, payload)
        if self.stream.algorithm:
            message = msgspec.structs.replace(message, raw=self.stream.frames(message.raw))
        link.phase, link.asked, link.login = "auth", False, (message.raw, raw)
        return message


def _without(raw: bytes, gone: int) -> bytes:
    """Return the client's answer to the greeting without these flags."""
    if not gone:
        return raw
    out = bytearray(raw)
    for at, bits in ((4, gone & 0xFFFFFFFF), (4 + login.EXTENDED_AT, gone >> 32)):
        left = int.from_bytes(out[at : at + 4], "little") & ~bits
        out[at : at + 4] = left.to_bytes(4, "little")
    return bytes(out)


def _bare(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    return Message(C, kind, raw)


def _named(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    """Read a command that is about a connection."""
    return Message(C, kind, raw, name=str(Fields(payload, 1).number(4)))


def _numbered(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    """Read a command that is about a prepared statement."""
    return Message(C, kind, raw, name=parameters.number_of(payload))


def _reset(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    """Read a command that makes the server forget long data."""
    message = _numbered(link, raw, payload, kind)
    statement = link.statement(message.name)
    if statement is not None:
        statement.long = {}
    return message


def _prepare(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    """Read what is to be prepared. Until it is, nothing is known of the statement that was prepared last."""
    if not link.again:
        link.stray = link.stray and link.preparing > 0
        link.preparing += 1
    return _statement(link, raw, payload, kind)


def _fetch(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    """Read a command for more rows of the cursor that an execution opened: it has the cursor's name, as that has."""
    return Message(C, kind, raw, name=parameters.number_of(payload), cursor="read-only")


def _statement(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    """Read a text, and before it the query attributes."""
    values: tuple[Value, ...] = ()
    names, at = "", 1
    if kind == "query" and link.capabilities & caps.QUERY_ATTRIBUTES:
        fields = Fields(payload, 1)
        values, names = parameters.attributes(fields, link.charset)
        at = fields.at
    if len(payload) - at > MAX_STATEMENT:
        return Message(C, kind, raw, name=names, values=values, status="oversize")
    return Message(C, kind, raw, text=link.charset.decode(payload[at:]), name=names, values=values)


def _text(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    return Message(C, kind, raw, text=link.charset.decode(payload[1:]))


def _fields(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    fields = Fields(payload, 1)
    table, pattern = fields.until_nul(), fields.rest()
    return Message(C, kind, raw, text=link.charset.decode(table), status=link.charset.decode(pattern))


def _option(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    option = Fields(payload, 1).number(2)
    names = {0: "multi-statements-on", 1: "multi-statements-off"}
    return Message(C, kind, raw, status=names.get(option, str(option)))


def _refused(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    code = payload[0] if payload else -1
    return Message(C, kind, raw, text=REFUSED.get(code, f"command {code}" if payload else "an empty command"))


UNKNOWN = Command("unknown", MAX_SMALL, _refused)
REFUSED = {
    0: "COM_SLEEP", 11: "COM_CONNECT", 15: "COM_TIME", 16: "COM_DELAYED_INSERT", 18: "COM_BINLOG_DUMP",
    19: "COM_TABLE_DUMP", 20: "COM_CONNECT_OUT", 21: "COM_REGISTER_SLAVE", 29: "COM_DAEMON",
    30: "COM_BINLOG_DUMP_GTID", 32: "COM_CLONE", 33: "COM_SUBSCRIBE_GROUP_REPLICATION_STREAM", 254: "COM_MULTI",
}  # fmt: skip
REPLICATION = frozenset({18, 19, 20, 21, 30, 32, 33})

COMMANDS: dict[int, Command] = {
    1: Command("terminate", MAX_SMALL, _bare),
    2: Command("init-db", MAX_SMALL, _text),
    3: Command("query", MAX_MESSAGE, _statement),
    4: Command("field-list", MAX_SMALL, _fields),
    5: Command("create-db", MAX_SMALL, _text),
    6: Command("drop-db", MAX_SMALL, _text),
    7: Command("refresh", MAX_SMALL, _bare),
    8: Command("shutdown", MAX_SMALL, _bare),
    9: Command("statistics", MAX_SMALL, _bare),
    10: Command("process-info", MAX_SMALL, _bare),
    12: Command("kill", MAX_SMALL, _named),
    13: Command("debug", MAX_SMALL, _bare),
    14: Command("ping", MAX_SMALL, _bare),
    17: Command("change-user", MAX_LOGIN, _bare),
    22: Command("prepare", MAX_MESSAGE, _prepare),
    23: Command("execute", MAX_MESSAGE, parameters.execute),
    24: Command("long-data", MAX_MESSAGE, parameters.long_data),
    25: Command("close", MAX_SMALL, _numbered),
    26: Command("reset", MAX_SMALL, _reset),
    27: Command("set-option", MAX_SMALL, _option),
    28: Command("fetch", MAX_SMALL, _fetch),
    31: Command("reset-connection", MAX_SMALL, _bare),
    250: Command("bulk-execute", MAX_MESSAGE, parameters.bulk),
    **{code: Command("replication", MAX_SMALL, _refused) for code in REPLICATION},
}
AGAIN = frozenset({"query", "prepare", "execute", "bulk-execute", "init-db", "create-db", "drop-db", "field-list"})
