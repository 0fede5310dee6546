"""Messages as the wire gives them, and a flow that is logged in."""

from appliance.facts.catalog import CATALOGUE, STATE
from appliance.facts.postgres import Postgres
from appliance.facts.shared import Shared
from appliance.model import Column, Message, Side, Value

C, S = Side.CLIENT, Side.SERVER


def ask(reader: Postgres, message: Message) -> object:
    return reader.ask(message)


def client(kind: str, **more: object) -> Message:
    return Message(C, kind, b"", **more)  # type: ignore[arg-type]


def server(kind: str, **more: object) -> Message:
    return Message(S, kind, b"", **more)  # type: ignore[arg-type]


class Talk:
    """Drives one reader as a session does, every request being let through."""

    def __init__(self, needs_catalog: bool = False, shared: Shared | None = None, startup: str = "", server: str = "db:5432") -> None:
        self.reader = Postgres(shared or Shared(), server, needs_catalog)
        login = client("startup", name="acme", status="shop", text=f"user=acme\ndatabase=shop\napplication_name=psql\n{startup}")
        self.login = self.reader.ask(login)
        self.reader.sent(login)
        for name, value in (("standard_conforming_strings", "on"), ("client_encoding", "UTF8"), ("session_authorization", "acme")):
            self.hear("parameter", name=name, status=value)
        self.hear("ready", status="I")

    def hear(self, kind: str, **more: object) -> None:
        self.reader.heard(server(kind, **more))

    def send(self, kind: str, **more: object):
        """Ask about a message, let it go up, and return its facts."""
        message = client(kind, **more)
        facts = self.reader.ask(message)
        self.reader.sent(message)
        return facts

    def look(self, kind: str, **more: object):
        """Ask about a message that is then refused."""
        return self.reader.ask(client(kind, **more))

    def query(self, text: str, status: str = "I", fails: bool = False):
        """Send a query and have it answered."""
        facts = self.send("query", text=text)
        self.hear("error" if fails else "complete", status="42601" if fails else "OK")
        self.hear("ready", status=status)
        return facts

    def sync(self, status: str = "I", fails: bool = False) -> None:
        self.send("sync")
        if fails:
            self.hear("error", status="42601")
        self.hear("ready", status=status)

    def answer(self, rows: list[tuple[str, str]], status: str = "") -> None:
        """Answer a statement of our own."""
        if rows:
            values = tuple(Value(text.encode(), 25) for row in rows for text in row)
            self.hear("injected", name="0", values=values, columns=(Column("kind"), Column("text")))
        self.hear("injected-done", status=status)


__all__ = ["CATALOGUE", "STATE", "Talk", "Value", "client", "server"]
