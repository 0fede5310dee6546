"""Messages as the wire gives them, and a flow that is logged in."""

from collections.abc import Sequence

from appliance.facts import Facts
from appliance.facts.mysql import MySQL
from appliance.facts.mysql.catalog import CATALOGUE, STATE
from appliance.facts.shared import Shared
from appliance.model import Message, Side, Value

C, S = Side.CLIENT, Side.SERVER
DEFAULT = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"


def client(kind: str, **more: object) -> Message:
    return Message(C, kind, b"", **more)  # type: ignore[arg-type]


def server(kind: str, **more: object) -> Message:
    return Message(S, kind, b"", **more)  # type: ignore[arg-type]


def row(kind: str, *fields: str) -> tuple[Value, ...]:
    """Return a row of the answer to a statement of ours."""
    data = ",".join(field.encode().hex().upper() if field else "-" for field in fields)
    return Value(kind.encode()), Value(data.encode()), Value(b"utf8mb4")


def state(database: str = "shop", mode: str = DEFAULT, charset: str = "utf8mb4", folds: str = "0", literals: str = "utf8mb4") -> tuple[Value, ...]:
    return row("state", database, mode, charset, literals, folds, "10.11.6-MariaDB", "acme@%")


def columns(schema: str, table: str, names: str) -> list[tuple[Value, ...]]:
    return [row("column", schema, table, str(at), name, "0", "") for at, name in enumerate(names.split(), 1)]


SHOP = [*columns("shop", "users", "id name ssn"), *columns("shop", "orders", "id note")]


class Talk:
    """Drives one reader as a session does, every request being let through."""

    def __init__(self, needs_catalog: bool = False, shared: Shared | None = None, mode: str = DEFAULT, literals: str = "utf8mb4", server: str = "db:3306") -> None:
        self.reader = MySQL(shared or Shared(), server, needs_catalog)
        self.mode, self.literals = mode, literals
        self.asked: list[str] = []  # statements of our own
        self.rows = SHOP
        self.hear("greeting", text="10.11.6-MariaDB", status="7")
        self.login = self.send("startup", name="acme", status="shop", text="charset=utf8mb4")
        self.hear("complete", status="OK 0", cursor="ready autocommit login")

    def hear(self, kind: str, **more: object) -> None:
        self.reader.heard(server(kind, **more))

    def look(self, kind: str, **more: object) -> Facts | None:
        """Ask about a message as a session does: what is wanted before it is answered first."""
        message = client(kind, **more)
        facts = self.reader.ask(message)
        for _ in range(3):
            wanted = self.reader.wanted(facts)
            if not wanted:
                return facts
            self.asked.append(wanted)
            self.answer(self.now() if wanted == STATE else [self.now()[0], *self.rows])
            facts = self.reader.ask(message)
        raise AssertionError("asked again and again")

    def now(self) -> list[tuple[Value, ...]]:
        return [state(mode=self.mode, literals=self.literals)]

    def send(self, kind: str, **more: object) -> Facts | None:
        """Ask about a message, let it go up, and return its facts."""
        message = client(kind, **more)
        facts = self.look(kind, **more)
        self.reader.sent(message)
        return facts

    def query(self, text: str, fails: bool = False) -> Facts:
        """Send a query and have it answered."""
        facts = self.send("query", text=text)
        self.hear("error" if fails else "complete", status="42000" if fails else "OK 0", cursor="ready autocommit")
        assert facts is not None
        return facts

    def prepare(self, text: str, number: str) -> Facts:
        facts = self.send("prepare", text=text)
        self.hear("prepared", name=number, text=text, cursor="ready")
        assert facts is not None
        return facts

    def execute(self, number: str, **more: object) -> Facts:
        facts = self.send("execute", name=number, **more)
        self.hear("complete", status="OK 0", cursor="ready autocommit")
        assert facts is not None
        return facts

    def answer(self, rows: Sequence[tuple[Value, ...]], error: str = "") -> None:
        """Answer a statement of our own."""
        if not error:
            self.hear("injected", name="0", values=tuple(value for found in rows for value in found))
        self.hear("injected-done", status=error)


def said(facts: Facts, key: str) -> str:
    return " ".join(sorted(facts.values[key]))


__all__ = ["CATALOGUE", "SHOP", "STATE", "Talk", "Value", "client", "columns", "row", "said", "server", "state"]
