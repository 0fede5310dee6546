"""Parameters of prepared statements, and attributes of queries.

Sources: MySQL 8.4 source documentation, "COM_QUERY", "COM_STMT_EXECUTE", "COM_STMT_SEND_LONG_DATA"; MariaDB
documentation, "COM_STMT_BULK_EXECUTE".

Types are sent with the first execution and left out later. A refused execution leaves the server without them, while
the client goes on as if it had them: `typed` puts them into the next one.

Long data is the server's until an execution or a reset, whatever later executions say of that parameter. Messages are
read before those in front of them are decided, so what is kept of it belongs to the execution that was read behind it.
"""

from collections.abc import Sequence

from appliance.model import Message, ProtocolError, Side, Value
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql import values
from appliance.wire.mysql.charsets import Charset
from appliance.wire.mysql.flow import ANY, Link, Long, Statement
from appliance.wire.mysql.packets import MAX_LONG_DATA, Fields

C = Side.CLIENT
HEAD = 10  # bytes of COM_STMT_EXECUTE before its parameters: command, statement, flags, iterations
CURSORS = 1 | 2 | 4  # flags that ask for a cursor
COUNTED = 8  # PARAMETER_COUNT_AVAILABLE
LAST = 0xFFFFFFFF  # MariaDB: the statement prepared last
BULK = 250  # COM_STMT_BULK_EXECUTE
SEND_TYPES = 128  # flag of it
MAX_COUNT = 65_535  # parameters of a statement; their number has 16 bits
UNSIGNED = 0x80
WITHOUT_VALUE, WITH_VALUE = (1, 2, 3), 0  # indicators of a bulk parameter: NULL, default, ignore; a value


def attributes(fields: Fields, charset: Charset) -> tuple[tuple[Value, ...], str]:
    """Take the attributes of a query; return them, and their names, one a line."""
    count, sets = fields.lenenc(), fields.lenenc()
    if sets != 1 or count > MAX_COUNT:
        raise ProtocolError(f"{count} query attributes in {sets} sets")
    if not count:
        return (), ""
    nulls = fields.take((count + 7) // 8)
    if fields.number(1) != 1:
        raise ProtocolError("query attributes without types")
    types, names = _types(fields, count, named=True)
    found = _values(fields, types, nulls, charset, {})
    return found, "\n".join(charset.decode(name).replace("\n", " ") for name in names)


def number_of(payload: bytes) -> str:
    number = Fields(payload, 1).number(4)
    return "-1" if number == LAST else str(number)


def execute(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    """Read a COM_STMT_EXECUTE."""
    fields = Fields(payload, 1)
    fields.take(4)
    name, flags = number_of(payload), fields.number(1)
    fields.take(4)
    cursor = "read-only" if flags & CURSORS else ""
    statement = link.statement(name)
    used = _used(link, statement, name, raw)
    if statement is None or ANY in used:
        return Message(C, kind, raw, name=name, cursor=cursor, status="unread")
    try:
        given, status = _given(link, statement, fields, flags, used)
    except ProtocolError:  # the server will say so
        given, status = (), "unread"
    return Message(C, kind, raw, name=name, cursor=cursor, values=given, status=status)


def _used(link: Link, statement: Statement | None, name: str, raw: bytes) -> Long:
    """Return the long data that an execution uses up."""
    if link.again:
        return link.used.get(id(raw), {})
    used: Long = {ANY: None} if name == "-1" and link.stray else {}
    if statement is not None:
        used, statement.long = used | statement.long, {}
    if used:
        link.used[id(raw)] = used
    return used


def _given(
    link: Link, statement: Statement, fields: Fields, flags: int, used: Long
) -> tuple[tuple[Value, ...], str]:
    """Read what follows the head of an execution: its values, and its status."""
    counted = bool(link.capabilities & caps.QUERY_ATTRIBUTES)
    count = statement.parameters
    if counted and flags & COUNTED:
        count = fields.lenenc()
    elif counted and count:
        return (), "unread"  # the manual and the server's source differ on whether the count is there
    if not count:
        return (), ""
    if count > MAX_COUNT:
        raise ProtocolError(f"{count} parameters of a statement")
    nulls = fields.take((count + 7) // 8)
    if fields.number(1):
        start = fields.at
        types, _ = _types(fields, count, named=counted)
        statement.types = fields.data[start : fields.at]
    elif statement.types is None:
        return (), "unread"
    else:
        types, _ = _types(Fields(statement.types), count, named=counted)
    given = _values(fields, types, nulls, link.charset, used)
    return given, "partial" if None in used.values() else ""


def _types(fields: Fields, count: int, named: bool) -> tuple[list[int], list[bytes]]:
    """Take the types of parameters, with the unsigned flag in bit 15, and their names."""
    types, names = [], []
    for _ in range(count):
        types.append(fields.number(2))
        names.append(fields.string() if named else b"")
    return types, names


def _values(
    fields: Fields, types: Sequence[int], nulls: bytes, charset: Charset, long: Long
) -> tuple[Value, ...]:
    found = []
    for place, kind in enumerate(types):
        if place in long:
            found.append(values.text_value(long[place] or b"", kind & 0xFF, charset))
        elif nulls[place // 8] >> place % 8 & 1:
            found.append(Value(None, kind & 0xFF))
        else:
            found.append(values.parameter(kind & 0xFF, bool(kind >> 8 & UNSIGNED), fields, charset))
    return tuple(found)


def long_data(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    """Read a COM_STMT_SEND_LONG_DATA, and keep the data for the execution it is for.

    The status is "unread" where no statement has that number: it could be of one that is not there yet.
    """
    fields = Fields(payload, 1)
    fields.take(4)
    name, place = number_of(payload), fields.number(2)
    data = fields.rest()
    statement, status = link.statement(name), ""
    if statement is None:
        link.stray = link.stray or name == "-1"
        status = "unread" if name != "-1" else ""
    else:
        kept = sum(len(old or b"") for old in statement.long.values())
        old = statement.long.get(place, b"")
        statement.long[place] = None if old is None or kept + len(data) > MAX_LONG_DATA else old + data
    value = values.text_value(data[:MAX_LONG_DATA], values.VAR_STRING, link.charset)
    return Message(C, kind, raw, name=name, cursor=str(place), values=(value,), status=status)


def bulk(link: Link, raw: bytes, payload: bytes, kind: str) -> Message:
    """Read a COM_STMT_BULK_EXECUTE."""
    fields = Fields(payload, 5)
    name, flags = number_of(payload), fields.number(2)
    statement = link.statement(name)
    count = statement.parameters if statement else 0
    if statement is None or not count:
        return Message(C, kind, raw, name=name, status="unread")
    if flags & SEND_TYPES and fields.left >= 2 * count:
        statement.types = fields.take(2 * count)
    if statement.types is None:
        return Message(C, kind, raw, name=name, status="unread")
    types, _ = _types(Fields(statement.types), count, named=False)
    found: list[Value] = []
    try:
        while fields.left:
            found += [_bulk_value(fields, one, link.charset) for one in types]
    except ProtocolError:
        return Message(C, kind, raw, name=name, status="unread")
    return Message(C, kind, raw, name=name, values=tuple(found), count=len(found) // count)


def _bulk_value(fields: Fields, kind: int, charset: Charset) -> Value:
    indicator = fields.number(1)
    if indicator in WITHOUT_VALUE:
        return Value(None, kind & 0xFF)
    if indicator != WITH_VALUE:
        raise ProtocolError(f"a bulk parameter with indicator {indicator}")
    return values.parameter(kind & 0xFF, bool(kind >> 8 & UNSIGNED), fields, charset)


def given_types(link: Link, statement: Statement, payload: bytes) -> bytes | None:
    """Return the types that an execution carries, None if it carries none, or is malformed."""
    try:
        at, end = _types_at(link, statement, payload)
    except ProtocolError:
        return None
    return payload[at:end] if end else None


def typed(link: Link, statement: Statement, payload: bytes) -> bytes:
    """Return an execution that carries no types with those the client gave last."""
    types = statement.bound
    try:
        at, _ = _types_at(link, statement, payload)
    except ProtocolError:
        return payload
    if not at or types is None:
        return payload
    if payload[0] == BULK:
        flags = int.from_bytes(payload[5:7], "little") | SEND_TYPES
        return payload[:5] + flags.to_bytes(2, "little") + types + payload[7:]
    return payload[: at - 1] + b"\1" + types + payload[at:]


def _types_at(link: Link, statement: Statement, payload: bytes) -> tuple[int, int]:
    """Return where the types of an execution begin and end.

    0 for the end: it carries none; 0 for both: it has no parameters.
    """
    if payload[0] == BULK:
        fields, count = Fields(payload, 5), statement.parameters
        counted, has = False, bool(fields.number(2) & SEND_TYPES)
    else:
        fields, counted = Fields(payload, HEAD), bool(link.capabilities & caps.QUERY_ATTRIBUTES)
        count = fields.lenenc() if counted and payload[5] & COUNTED else statement.parameters
        if not count or (counted and not payload[5] & COUNTED):
            return 0, 0
        fields.take((count + 7) // 8)
        has = bool(fields.number(1))
    start = fields.at
    if not has:
        return start, 0
    _types(fields, count, named=counted)
    return start, fields.at
