"""Errors and OK: reading, writing, and taking data out of them.

Sources: MySQL 8.4 source documentation, "ERR_Packet", "OK_Packet"; MySQL 8.4 and MariaDB manuals, error references.
"""

import re

from appliance.model import ProtocolError
from appliance.wire.mysql.capabilities import SESSION_TRACK, STATE_CHANGED
from appliance.wire.mysql.ends import VARIABLES, Failure, Ok
from appliance.wire.mysql.packets import Fields

WITHHELD = "message withheld by vendorgate"

# What a number means, in words of our own: the server's might quote a row.
MEANINGS = {
    1040: "too many connections",
    1044: "access denied",
    1045: "access denied",
    1046: "no database selected",
    1048: "a column may not be null",
    1049: "unknown database",
    1050: "table exists",
    1051: "unknown table",
    1052: "column is ambiguous",
    1054: "unknown column",
    1062: "duplicate entry for a key",
    1064: "syntax error",
    1105: "unknown error",
    1136: "column count does not match",
    1142: "command denied",
    1146: "table does not exist",
    1153: "packet too large",
    1205: "lock wait timeout",
    1213: "deadlock",
    1222: "column counts differ",
    1227: "access denied",
    1242: "subquery returns more than one row",
    1243: "unknown prepared statement",
    1264: "value out of range",
    1265: "data truncated",
    1292: "incorrect value",
    1305: "routine does not exist",
    1317: "query interrupted",
    1364: "a column has no default",
    1365: "division by zero",
    1366: "incorrect value",
    1406: "data too long",
    1451: "a foreign key is violated",
    1452: "a foreign key is violated",
    1690: "value out of range",
    1969: "query interrupted (statement timeout)",
    3024: "query interrupted (statement timeout)",
    3140: "invalid JSON",
    3819: "a check constraint is violated",
    4025: "a check constraint is violated",
}

# Info that is no more than numbers: "Rows matched: 1  Changed: 1  Warnings: 0".
COUNTS = re.compile(rb"(?:[A-Za-z][A-Za-z ]*: \d+ *)+|\(\d+ [a-z ]+\)")
# Variables of session tracking whose values are of a closed list.
SAFE = frozenset({b"autocommit", b"character_set_client", b"character_set_connection", b"character_set_results"})
OPEN_TYPES = frozenset({VARIABLES, 6})  # types of tracking whose values a statement may choose; 6: MariaDB, user's


def read_failure(payload: bytes) -> Failure:
    """Read an ERR packet."""
    if len(payload) < 3:
        raise ProtocolError("an error without its number")
    number = int.from_bytes(payload[1:3], "little")
    if payload[3:4] == b"#" and len(payload) >= 9:
        return Failure(number, payload[4:9], payload[9:])
    return Failure(number, b"", payload[3:])


def read_ok(payload: bytes, capabilities: int) -> Ok:
    """Read an OK packet, or the end of rows that has its form."""
    fields = Fields(payload, 1)
    affected, insert = fields.lenenc(), fields.lenenc()
    status, warnings = fields.number(2), fields.number(2)
    if not capabilities & SESSION_TRACK:
        return Ok(payload[0], affected, insert, status, warnings, _last(fields))
    info = fields.string() if fields.left else b""
    changes = []
    if status & STATE_CHANGED:
        tracked = Fields(fields.string())
        while tracked.left:
            changes.append((tracked.number(1), tracked.string()))
    return Ok(payload[0], affected, insert, status, warnings, info, tuple(changes))


def _last(fields: Fields) -> bytes:
    """Take a text to the end of its packet; servers put its length before it all the same."""
    begin = fields.at
    try:
        text = fields.string()
        fields.end()
    except ProtocolError:
        return fields.data[begin:]
    return text


def read_eof(payload: bytes) -> Ok:
    """Read an EOF packet."""
    fields = Fields(payload, 1)
    warnings, status = fields.number(2), fields.number(2)
    fields.end()
    return Ok(payload[0], status=status, warnings=warnings)


def withheld(failure: Failure) -> Failure:
    """Return the failure with nothing in it that could come from a row."""
    meaning = MEANINGS.get(failure.number)
    text = f"{meaning} ({WITHHELD})" if meaning else WITHHELD
    return Failure(failure.number, failure.state, text.encode())


def bare(ok: Ok) -> Ok:
    """Return the answer with nothing in it that could come from a row."""
    info = ok.info if COUNTS.fullmatch(ok.info.strip()) else b""
    changes = tuple(change for change in ok.changes if _safe(*change))
    if (info, changes) == (ok.info, ok.changes):
        return ok
    return Ok(ok.header, ok.affected, ok.insert, ok.status, ok.warnings, info, changes)


def _safe(kind: int, data: bytes) -> bool:
    if kind not in OPEN_TYPES:
        return True
    fields, names = Fields(data), set()
    while fields.left:
        names.add(fields.string())
        fields.string()
    return kind == VARIABLES and names <= SAFE
