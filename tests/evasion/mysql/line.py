"""A MySQL client that keeps every byte it gets: PyMySQL, and what its own calls do not say."""

from typing import Any

import pymysql
from pymysql.constants import CLIENT, COMMAND

from appliance.lab.servers import MariaDB
from appliance.model import Address

SECRETS = (b"123-45-6789", b"987-65-4320", b"123-45", b"65-4320")
DENIED = 1142  # the number of an error of ours: ER_TABLEACCESS_DENIED_ERROR

READER = """
rules:
  - {id: no-destructive, when: {effect: [drop, truncate]}, do: block}
  - {id: read-only, when: {effect: [write, schema, grant, admin, procedure, file, lock]}, do: block}
  - {id: hide-ssn, when: {column: [shop.users.ssn, shop.users.profile]}, do: mask, with: redact}
  - {id: reads, when: {effect: [read, session, copy, kill]}, do: allow}
"""
"""May read; the protected column is masked."""

WRITER = """
rules:
  - {id: hide-ssn, when: {column: [shop.users.ssn, shop.users.profile]}, do: mask, with: redact}
  - {id: all, do: allow}
"""
"""May do anything; the protected column is masked."""

ASKER = """
rules:
  - id: ask
    when: {effect: [schema, drop, truncate]}
    do: approve
    approvers: {group: dba, within: 20s}
  - {id: all, do: allow}
"""
"""Changes of the schema wait for a reviewer."""


class Line(pymysql.Connection):  # type: ignore[misc]
    """One connection as the vendor. `seen` is every byte that came after the login."""

    def __init__(self, port: int, user: str = "acme", database: str = "shop", **more: Any) -> None:
        self.seen, self.fetched = b"", 0
        flags = CLIENT.MULTI_STATEMENTS | CLIENT.MULTI_RESULTS
        super().__init__(
            host="127.0.0.1", port=port, user=user, password="secret", database=database, autocommit=True, client_flag=flags,
            connect_timeout=20, read_timeout=20, **more,
        )  # fmt: skip
        self.seen = b""

    def _read_bytes(self, num_bytes: int) -> Any:
        data = super()._read_bytes(num_bytes)
        self.seen += data
        return data

    def run(self, text: str | bytes) -> list[list[tuple[object, ...]]]:
        """Run a text as it is, bytes and all; return the rows of each result."""
        self._execute_command(COMMAND.COM_QUERY, text if isinstance(text, bytes) else text.encode())
        found = []
        self._affected_rows = self._read_query_result()
        while True:
            result = self._result
            found.append(list(result.rows or ()))
            if not result.has_next:
                return found
            self._read_query_result()

    def fails(self, text: str | bytes) -> int:
        """Run a text and return the number of its error; 0 for none."""
        try:
            self.run(text)
        except pymysql.err.MySQLError as error:
            return int(error.args[0])
        return 0

    def prepared(self, text: str) -> tuple[bytes, int]:
        """Prepare; return the statement's number and how many columns it has."""
        self._execute_command(COMMAND.COM_STMT_PREPARE, text)
        head = self._read_packet().get_all_data()
        columns, parameters = int.from_bytes(head[5:7], "little"), int.from_bytes(head[7:9], "little")
        for count in (parameters, columns):
            for _ in range(count + bool(count)):
                self._read_packet()
        return head[1:5], columns

    def to_the_end(self) -> int:
        """Read to an EOF packet and return how many came before it."""
        count = 0
        while not self._read_packet().is_eof_packet():
            count += 1
        return count

    def execute(self, number: bytes, parameters: bytes = b"") -> int:
        """Execute what was prepared and read the first packet of the answer; return the number of an error, or 0."""
        self._execute_command(COMMAND.COM_STMT_EXECUTE, number + b"\0" + (1).to_bytes(4, "little") + parameters)
        try:
            self._read_packet()
        except pymysql.err.MySQLError as error:
            return int(error.args[0])
        return 0

    def binary(self, text: str) -> None:
        """Prepare, execute and read to the end; the rows are among the bytes `seen`."""
        number, _ = self.prepared(text)
        self._execute_command(COMMAND.COM_STMT_EXECUTE, number + b"\0" + (1).to_bytes(4, "little"))
        if self._read_packet().get_all_data()[:1] != b"\0":
            self.to_the_end()
            self.to_the_end()

    def cursor_rows(self, text: str, size: int) -> None:
        """Prepare, open a cursor, and fetch so many rows at a time until there are no more; count them in `fetched`."""
        number, _ = self.prepared(text)
        self._execute_command(COMMAND.COM_STMT_EXECUTE, number + b"\1" + (1).to_bytes(4, "little"))
        self._read_packet()
        self.to_the_end()
        self.fetched, came = 0, size
        while came == size:
            self._execute_command(COMMAND.COM_STMT_FETCH, number + size.to_bytes(4, "little"))
            came = self.to_the_end()
            self.fetched += came


def secret(data: bytes) -> bool:
    return any(piece in data for piece in SECRETS)


def address(server: MariaDB) -> Address:
    return Address("127.0.0.1", server.port)
