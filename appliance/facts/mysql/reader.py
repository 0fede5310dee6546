"""The reader of one MySQL flow: requests to facts, and what becomes of the session."""

from collections.abc import Iterable, Mapping

import msgspec

from appliance.facts import Copy, Facts, Stage
from appliance.facts.mysql.diagnoses import Diagnoses
from appliance.facts.mysql.lexer import UNSURE, kept
from appliance.facts.mysql.named import Named
from appliance.facts.mysql.parameters import describe
from appliance.facts.mysql.reading import ALL, KEYS, NONE, Names, Reading, alternatives, joined, unread
from appliance.facts.mysql.relations import ANY_TABLE
from appliance.facts.mysql.settings import Settings
from appliance.facts.mysql.statements import Statement, Statements
from appliance.facts.mysql.store import Store
from appliance.facts.mysql.world import World
from appliance.facts.shared import Shared
from appliance.model import Column, Message

MAX_SHAPES = 128  # of one flow; about 2 kB each. Programs repeat a few dozen statements
MAX_KEPT = 8_192  # characters of a statement whose shape is kept; with MAX_SHAPES at most 2 MB

_SILENT = frozenset("auth tls long-data close reset copy-data copy-done terminate".split())

_UNANSWERED = _SILENT - {"reset"}

_COMMANDS: Mapping[str, tuple[str, str]] = {
    "ping": ("session", ""),
    "debug": ("admin", ""),
    "statistics": ("session", "SHOW"),
    "refresh": ("admin", "FLUSH"),
    "shutdown": ("admin", "SHUTDOWN"),
    "process-info": ("read", "SHOW"),
    "set-option": ("session", "SET"),
    "reset-connection": ("session", "RESET"),
    "init-db": ("session", "USE"),
    "create-db": ("schema admin", "CREATE DATABASE"),
    "drop-db": ("schema drop admin", "DROP DATABASE"),
    "field-list": ("read", "SHOW"),
    "kill": ("kill", "KILL"),
    "replication": ("replication admin", ""),
}
"""Commands of the protocol that are no text: effects, and the statement that does the same."""

_LOOKS_BACK = ("row_count", "found_rows", "warning_count", "error_count", "last_insert_id", "identity")
"""What a statement of ours would change before a statement that asks for it."""

_MAKES = ("prepare", "immediate")
"""Words of statements that take a literal as a statement."""


class MySQL:
    """Reader of one flow, as `facts.Reader` says."""

    def __init__(self, shared: Shared, server: str = "", needs_catalog: bool = True) -> None:
        self._store = shared.of(Store)
        self._settings = Settings(shared, server, needs_catalog)
        self._statements, self._named = Statements(), Named()
        self._diagnoses = Diagnoses()
        self._login: dict[str, Names] = {}
        self._asked: tuple[Message, Facts, Reading] | None = None
        # Facts of the first message that said the same in one world, with what they are of: by id of both, and kind.
        self._shapes: dict[tuple[str, int, int], tuple[Facts, Reading, World]] = {}
        self._started = False  # the login is through
        self._changing: Message | None = None  # a login that is not answered: until it is, the user is who it was

    @property
    def needs_catalog(self) -> bool:
        """True if rules name relations or columns: the catalogue is asked for, and what it lacks is unknown."""
        return self._settings.needs_catalog

    @needs_catalog.setter
    def needs_catalog(self, needs: bool) -> None:
        self._settings.needs_catalog = needs
        self._asked = None

    # -- Reader -----------------------------------------------------------------------------------------------------

    def ask(self, message: Message) -> Facts | None:
        kind = message.kind
        if kind in _SILENT:
            return None
        if self._asked is None or self._asked[0] is not message:
            self._settings.another()
        match kind:
            case "query" | "prepare":
                facts, reading = self._text(message)
            case "execute" | "bulk-execute" | "fetch":
                facts, reading = self._execute(message)
            case "startup" | "change-user":
                facts, reading = self._startup(message)
            case _:
                facts, reading = self._command(message)
        self._asked = (message, facts, reading)
        return facts

    def sent(self, message: Message) -> None:
        kind = message.kind
        if kind in ("close", "terminate"):
            self._statements.forget(message.name)
        if kind not in _UNANSWERED:
            self._named.sent()
        if kind in _SILENT:
            return
        facts, reading = self._again(message)
        match kind:
            case "startup" | "change-user":
                self._changing = message
            case "prepare":
                self._statements.preparing(message.text, self._settings.world(), whole=not message.status)
            case "reset-connection":
                self._statements = Statements()
                self._named.forget()
                self._settings.renewed()
            case "query" | "execute" | "bulk-execute":
                self._ran(message, facts, reading)
            case "init-db" | "create-db" | "drop-db":
                self._settings.doubt()
                self._settings.stale(self._named.open, kind != "init-db", kind != "init-db")
        self._asked = None

    def heard(self, message: Message) -> None:
        words = frozenset(message.cursor.split())
        if "ready" in words and "refused" not in words and message.kind != "injected-done":
            self._named.answered(message.kind == "error")
            self._settings.ready()
        match message.kind:
            case "complete":
                self._started = True
                self._settings.status(words)
                if "login" in words:
                    self._logged_in(self._changing)
                if "dropped" in words:
                    self._settings.doubt()
            case "prepared":
                self._statements.prepared(message.name, message.text)
            case "error":
                self._statements.failed()
                if "login" in words:
                    self._logged_in(None)
            case "parameter":
                self._settings.told(message.name, message.status)
            case "injected":
                self._settings.answer(message)
            case "injected-done":
                self._settings.answered()

    def wanted(self, facts: Facts | None) -> str:
        if facts is None or self._asked is None or not self._started:
            return ""
        message, _, reading = self._asked
        if message.kind not in ("query", "prepare", "execute", "bulk-execute", "field-list") or reading.diagnoses:
            return ""
        if not self._settings.lacking(reading.missing):
            return ""
        text = self._texts(message, reading).lower()
        made = any(word in text for word in _MAKES) and not kept(text, UNSURE)
        only_session = reading.values["effect"] <= {"session"} and not (reading.unknown or made)
        if only_session or any(word in text for word in _LOOKS_BACK):
            return ""
        sensitive = '"' in text or "\\" in text or made or not text.isascii()
        statement = self._settings.wanted(reading.missing, sensitive)
        if statement:
            self._settings.trying(statement)
        return statement

    def _texts(self, message: Message, reading: Reading) -> str:
        """Return the text of a message, with those of the prepared statements it runs."""
        numbered = self._statements.get(message.name) if message.kind in ("execute", "bulk-execute") else None
        named = [s for step in reading.steps if step.verb == "execute" for s in self._named.get(step.name)]
        return " ".join([message.text, *(known.text for known in (numbered, *named) if known is not None)])

    def origins(self, facts: Facts, column: Column) -> Names | None:
        """Both must say the same: the server, whose word a derived table can forge, and the text."""
        if column.result >= len(facts.lineage):
            return None
        places = facts.lineage[column.result]
        if places is None or column.place >= len(places):
            return None
        names = places[column.place]
        if names is None:
            return None
        if not names:
            return names if not column.origin or column.origin.lower().startswith("information_schema.") else None
        said = column.origin.casefold()
        return names if any(said == name.casefold() for name in names) else None

    def copy(self, message: Message) -> Copy | None:
        """No answer of this protocol has rows outside a result."""
        return None

    # -- requests ---------------------------------------------------------------------------------------------------

    def _text(self, message: Message) -> tuple[Facts, Reading]:
        world = self._settings.world()
        oversize = unread(f"the statement is {message.status}") if message.status else None
        read = oversize or self._store.read(message.text, world)
        reading = self._whole(read)
        attributes = "\n-- attributes: " + ", ".join(message.name.split("\n")) if message.name else ""
        subject, words, whole = describe(message.text + attributes, message.values)
        words = words if not attributes else words | {message.text}
        if message.status:
            return self._prepares(message, self._facts(reading, subject, words, whole=False)), reading
        same = world if reading is read else None
        return self._said(message, reading, same, (subject, words, whole)), reading

    def _prepares(self, message: Message, facts: Facts) -> Facts:
        """Of what is prepared: it only runs later, and may be another statement under other settings."""
        if message.kind != "prepare":
            return facts
        return msgspec.structs.replace(facts, stage="prepares", changes=False, cancels=b"")

    def _execute(self, message: Message) -> tuple[Facts, Reading]:
        known = self._statements.get(message.name)
        if message.kind == "fetch":
            if known is not None and known.ran is not None:
                facts = msgspec.structs.replace(known.ran, stage="continues", changes=False, shape=None)
                return facts, unread("")
            return self._facts(unread("rows of a cursor that is not known"), "fetch", stage="continues"), unread("")
        if known is None or not known.whole:
            read, text = unread(f"prepared statement {message.name} is not known"), ""
        else:
            read, text = self._meaning(known), known.text
        reading = self._whole(read)
        subject, words, whole = describe(text, message.values)
        if message.count > 1:
            subject += f"\n-- {message.count} rows"
        same = self._settings.world() if text and reading is read else None
        return self._said(message, reading, same, (subject, words, whole and not message.status)), reading

    def _said(
        self, message: Message, reading: Reading, world: World | None, told: tuple[str, Names, bool]
    ) -> Facts:
        """Return the facts of a request, `told` as `describe` tells it.

        Where it says what one before it has said in this world, they have the shape of that.
        """
        subject, words, whole = told
        key = (message.kind, id(reading), id(world))
        kept = self._shapes.get(key) if world is not None else None
        if kept is None:
            facts = self._prepares(message, self._facts(reading, subject, words, whole=whole))
            if world is not None and whole and MAX_SHAPES and len(subject) <= MAX_KEPT:
                if len(self._shapes) >= MAX_SHAPES:
                    self._shapes.clear()
                self._shapes[key] = (facts, reading, world)
            return facts
        base = kept[0]
        values = {**base.values, "text": words}
        if not whole:
            return msgspec.structs.replace(base, values=values, unknown=base.unknown | {"text"}, subject=subject)
        return msgspec.structs.replace(base, values=values, subject=subject, shape=base)

    def _meaning(self, known: Statement) -> Reading:
        """Return what a statement means by the settings it was prepared under, and the catalogue of now.

        A server prepares it anew once a table it names was changed, and cuts it by the charset of then: so it must
        mean the same by the settings of now.
        """
        now, then = self._settings.world(), known.world
        if known.read is not None and known.read[0] is now:
            return known.read[1]
        worlds = [
            World(mode, then.database, now.catalog, now.needs_catalog, now.stale, now.temporary)
            for mode in dict.fromkeys((then.mode, now.mode))
        ]
        reading = alternatives([self._store.read(known.text, self._store.world(world)) for world in worlds])
        known.read = (now, reading) if MAX_SHAPES else None
        return reading

    def _startup(self, message: Message) -> tuple[Facts, Reading]:
        reading = _empty("session", "LOGIN")
        word = "login of" if message.kind == "startup" else "change of user to"
        login = _login(message)
        facts = self._facts(reading, f"{word} {message.name}" + (f" to {message.status}" if message.status else ""))
        changes = message.kind == "change-user"
        return msgspec.structs.replace(facts, values={**facts.values, **login}, changes=changes), reading

    def _command(self, message: Message) -> tuple[Facts, Reading]:
        kind = message.kind
        if kind not in _COMMANDS:
            reading = unread(f"{message.text or kind} is not known here")
            return self._facts(reading, message.text or kind), reading
        effects, tag = _COMMANDS[kind]
        reading = _empty(effects, tag)
        values = dict(reading.values)
        name = message.text
        match kind:
            case "init-db" | "create-db" | "drop-db":
                values["database"] = frozenset((name,))
                values["table"] = frozenset() if kind == "init-db" else frozenset((f"{name}.*",))
                reading = msgspec.structs.replace(reading, changes=True, ddl=kind != "init-db")
            case "field-list":
                values["table"] = frozenset((self._settings.world().word((name,)),))
                reading = msgspec.structs.replace(reading, results=((),))
            case "process-info":
                values["table"] = frozenset((ANY_TABLE,))
            case "set-option":
                values["setting"] = frozenset((message.status,))
            case "reset-connection":
                reading = msgspec.structs.replace(reading, changes=True)
            case "kill" if message.name.isdigit():
                reading = msgspec.structs.replace(reading, cancels=int(message.name))
        reading = msgspec.structs.replace(reading, values=values)
        return self._facts(reading, f"{kind} {name or message.name or message.status}".strip()), reading

    # -- how a reading becomes facts --------------------------------------------------------------------------------

    def _whole(self, reading: Reading) -> Reading:
        """Return the reading with what its EXECUTE stands for, and what it tells of the statement before."""
        found: dict[int, Reading] = {}
        for name, known in self._named.runs(reading.steps, self._settings.world()):
            inners = [self._meaning(one) for one in known] or [unread(f"{name!r} was not prepared here")]
            found |= {id(inner): inner for inner in inners}
        if found:
            results = next(iter(found.values())).results if reading.count == len(found) == 1 else ()
            reading = msgspec.structs.replace(joined(reading, *found.values()), results=results)
        return self._diagnoses.told(reading) if reading.diagnoses else reading

    def _facts(
        self, reading: Reading, subject: str, words: Iterable[str] = (), stage: Stage = "begins", whole: bool = True
    ) -> Facts:
        databases = reading.values["database"] | self._login.get("database", NONE)
        if self._settings.sure and self._settings.database:
            databases = reading.values["database"] | {self._settings.database}
        values = {
            **reading.values,
            **self._login,
            "database": databases,
            "count": frozenset((str(reading.count),)),
            "text": frozenset(words),
        }
        # A login made elsewhere decides which database it is, unless the server was asked.
        unknown = reading.unknown if whole else reading.unknown | {"text"}
        if reading.why and reading.unknown >= ALL:
            unknown |= {"count"}
        cancels = reading.cancels.to_bytes(4, "little") if 0 < reading.cancels < 1 << 32 else b""
        lineage = tuple(
            None if places is None else tuple(_named(o.names, o.sure, o.name) for o in places)
            for places in reading.results
        )
        changes = reading.changes or reading.ddl
        return Facts("mysql", values, unknown, reading.why, changes, stage, subject, cancels, lineage)

    # -- what becomes of the session --------------------------------------------------------------------------------

    def _logged_in(self, message: Message | None) -> None:
        """Note the end of a login; None: it failed. The session begins anew either way, as whoever it is."""
        self._changing = None
        self._shapes.clear()
        self._statements = Statements()
        self._named.forget()
        self._diagnoses.forget()
        if message is None:
            self._settings.renewed()
            return
        self._login = _login(message)
        self._settings.login(message.name, message.status)

    def _again(self, message: Message) -> tuple[Facts, Reading]:
        """Return what a message would do, which was asked about last unless the caller is out of order."""
        if self._asked is None or self._asked[0] is not message:
            self.ask(message)
        assert self._asked is not None
        return self._asked[1], self._asked[2]

    def _ran(self, message: Message, facts: Facts, reading: Reading) -> None:
        known = self._statements.get(message.name) if message.kind != "query" else None
        if known is not None:
            known.ran = facts
        self._named.ran(reading.steps, self._settings.world())
        self._diagnoses.ran(reading, surely=message.kind == "query")
        if reading.creates:
            self._settings.made(reading.creates)
        anything = "effect" in reading.unknown
        if anything:
            self._named.forget()
        if reading.changes or anything:
            self._settings.doubt()
        if reading.ddl or anything:
            own = reading.count == 1 and bool(reading.creates)  # a table of this session alone
            surely = "schema" in reading.values["effect"] and not own
            self._settings.stale(self._named.open, surely, not own)


def _named(names: Names, sure: bool, name: str) -> Names | None:
    return names if sure and name != "*" else None


def _login(message: Message) -> dict[str, Names]:
    return {"user": frozenset((message.name,)), "database": frozenset(filter(None, (message.status,)))}


def _empty(effects: str, tag: str) -> Reading:
    values = dict.fromkeys(KEYS, NONE)
    values["effect"] = frozenset(effects.split())
    values["statement"] = frozenset(filter(None, (tag,)))
    return Reading(values, count=1)
