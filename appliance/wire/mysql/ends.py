"""How an answer ends: an error, or OK.

Source: MySQL 8.4 source documentation, "ERR_Packet", "OK_Packet".
"""

import msgspec

from appliance.wire.mysql.capabilities import SESSION_TRACK, STATE_CHANGED
from appliance.wire.mysql.packets import Fields, lenenc, string

VARIABLES, SCHEMA = 0, 1

CODES = {  # cause -> number and SQLSTATE
    "denied": (1142, b"42000"),  # ER_TABLEACCESS_DENIED_ERROR
    "cancelled": (1317, b"70100"),  # ER_QUERY_INTERRUPTED
    "malformed": (1835, b"HY000"),  # ER_MALFORMED_PACKET
    "failed": (1105, b"HY000"),  # ER_UNKNOWN_ERROR
    "unknown": (1047, b"08S01"),  # ER_UNKNOWN_COM_ERROR
    "no-statement": (1243, b"HY000"),  # ER_UNKNOWN_STMT_HANDLER
}


class Failure(msgspec.Struct, frozen=True, gc=False):
    """An error."""

    number: int
    state: bytes  # SQLSTATE; empty before the login has said which protocol it is
    text: bytes

    @classmethod
    def of(cls, code: str, text: bytes) -> "Failure":
        return cls(*CODES[code], text)

    def write(self) -> bytes:
        state = b"#" + self.state if self.state else b""
        return b"\xff" + self.number.to_bytes(2, "little") + state + self.text


class Ok(msgspec.Struct, frozen=True, gc=False):
    """OK, or the end of rows in its form or in that of EOF."""

    header: int
    affected: int = 0
    insert: int = 0
    status: int = 0
    warnings: int = 0
    info: bytes = b""
    changes: tuple[tuple[int, bytes], ...] = ()  # of the session's state

    def write(self, capabilities: int) -> bytes:
        head = bytes((self.header,)) + lenenc(self.affected) + lenenc(self.insert)
        status = self.status & ~STATE_CHANGED | (STATE_CHANGED if self.changes else 0)
        head += status.to_bytes(2, "little") + self.warnings.to_bytes(2, "little")
        if not capabilities & SESSION_TRACK:
            return head + (string(self.info) if self.info else b"")
        changes = b"".join(bytes((kind,)) + string(data) for kind, data in self.changes)
        if not self.info and not changes:
            return head
        return head + string(self.info) + (string(changes) if changes else b"")

    def variables(self) -> list[tuple[str, str]]:
        """Return names and values of what changed; the database under the name "schema"."""
        found = []
        for kind, data in self.changes:
            fields = Fields(data)
            if kind == VARIABLES:
                while fields.left:  # MariaDB puts several into one
                    name, value = fields.string(), fields.string()
                    found.append((name.decode("utf-8", "replace"), value.decode("utf-8", "replace")))
            elif kind == SCHEMA:
                found.append(("schema", fields.string().decode("utf-8", "replace")))
        return found
