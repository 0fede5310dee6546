"""Follows one PostgreSQL flow and says what each message of its client would do.

Keys of `Facts.values` (facts/words/postgres.py has the rules' side):

    effect       read write schema drop truncate grant admin session procedure copy file lock notify listen
                 replication. DROP is also `schema`, TRUNCATE also `write`; an empty statement is `session`
    statement    command tags, hidden statements included; a plain EXPLAIN only has its own
    table        relations named, base tables of views, ancestors and descendants in inheritance
    column       columns read, whole rows both one by one and as "schema.table.*"
    compared     columns that decide which rows come, or in what order
    copied       columns whose values go elsewhere than into the result
    reshaped     columns that are set to something made of their own values
    written      columns written
    function     functions called: "pg_catalog.lower", "schema.name", "?.name" where the schema is not known
    role user database application setting copy count
    text         the statement and its parameters, for detectors

Names that hold a dot or a quote are in double quotes. A schema that is not known is "?".

Unknown, so refused where only what is known is allowed: what does not parse, is too long or not in its
encoding; a backslash with standard_conforming_strings off; unsafe client encodings; functions, operators and
types that are not built in; statements made at run time; names of statements never seen; and, if the
catalogue is needed, relations it does not have.

Not seen without the catalogue: views, triggers, rules, a user's overloads of built-ins. Not seen at all:
functions in policies, column defaults, checks of tables and index expressions; what is changed past us, until
the catalogue is read again (entry.py), and while a statement is on its way.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from appliance.facts import Copy, Facts, Stage
from appliance.facts.catalog import CATALOGUE, CATALOGUE_IN_TRANSACTION, STATE, Catalog
from appliance.facts.login import settings
from appliance.facts.names import Meaning, Names
from appliance.facts.parameters import describe
from appliance.facts.settings import Settings
from appliance.facts.shapes import Shape, Shapes
from appliance.facts.shared import Shared
from appliance.facts.sql import ALL, Reading, Step, World
from appliance.facts.sql.denoted import denoted  # noqa: F401  found by readers.denoted
from appliance.facts.sql.lineage import origin
from appliance.facts.sql.reading import joined, unread
from appliance.facts.sql.settings import RESOLVING, ROLE
from appliance.facts.store import Store
from appliance.facts.traffic import Traffic
from appliance.model import Column, Message

_SILENT: Final = frozenset(
    (
        "auth", "ssl-request", "gss-request", "describe", "close", "sync", "flush", "copy-data", "copy-done",
        "copy-fail", "terminate",
    )
)  # fmt: skip
_EVERYTHING: Final = ALL | {"count", "text"}


def open(shared: Shared, server: str = "", needs_catalog: bool = True) -> "Postgres":
    """Return a reader, as `facts.readers.open` says."""
    return Postgres(shared, server, needs_catalog)


class Postgres:
    """Reader of one flow, as `facts.Reader` says."""

    def __init__(self, shared: Shared, server: str = "", needs_catalog: bool = True) -> None:
        self._store, self._server, self._shared = shared.of(Store), server, shared
        self._settings = Settings(shared, needs_catalog)
        self._traffic = Traffic()
        self._statements, self._portals = Names(), Names()
        self._login: dict[str, frozenset[str]] = {}
        self._shapes, self._database = Shapes(), ""
        self._origins: dict[tuple[int, int], frozenset[str]] = {}  # of columns that the catalogue has: so many at most
        self._origins_of: Catalog | None = None
        self._reading: tuple[Message, Reading] | None = None  # of the message asked about last
        self._bound: Facts | None = None  # the same, of a Bind

    @property
    def needs_catalog(self) -> bool:
        """True if rules name relations or columns: the catalogue is asked for, and what it lacks is
        unknown."""
        return self._settings.needs_catalog

    @needs_catalog.setter
    def needs_catalog(self, needs: bool) -> None:
        self._settings.needs_catalog = needs

    # -- Reader

    def ask(self, message: Message) -> Facts | None:
        self._traffic.asked(message)
        kind = message.kind
        if kind in _SILENT:
            return None
        match kind:
            case "bind":
                return self._bind(message)
            case "execute":
                return self._execute(message)
            case "query":
                return self._query(message)
            case "parse":
                return self._parse(message)
            case "startup":
                return self._startup(message)
            case "cancel":
                facts = self._facts({"effect": frozenset(("session",))}, subject="cancel request")
                return msgspec.structs.replace(facts, cancels=bytes.fromhex(message.name))
            case "function-call":
                reading = msgspec.structs.replace(unread("a call of a function by number"), count=1)
                reading = joined(reading, _with(reading, effect=("procedure",)))
                return self._remember(message, reading, "function call", changes=True)
        return Facts("postgres", dict(self._login), _EVERYTHING, f"{kind} is not known here", True)

    def sent(self, message: Message) -> None:
        self._traffic.sent(message)
        segment = self._traffic.segment
        match message.kind:
            case "query" | "execute":
                reading = self._read_again(message)
                if reading.steps:
                    self._steps(reading.steps, segment)
                self._done(reading)
            case "parse":
                reading = self._read_again(message)
                # What could not be read under the settings of then stays so under those of later.
                fixed = reading if reading.unknown.issuperset(ALL) else None
                self._statements.define(message.name, Meaning(message.text, fixed), segment)
            case "bind":
                reading, facts = self._read_again(message), self._bound
                assert facts is not None
                meaning = Meaning("", reading, facts.subject, facts.values["text"])
                self._portals.define(message.cursor, meaning, segment)
            case "close":
                store, name = (
                    (self._statements, message.name) if message.status == "S" else (self._portals, message.cursor)
                )
                store.forget(name, segment)
            case "startup":
                self._settings.login(message)
            case "function-call":
                self._settings.doubt()
        self._reading = None

    def heard(self, message: Message) -> None:
        match message.kind:
            case "parameter":
                self._settings.reported(message.name, message.status)
                if message.name == "application_name":
                    self._login["application"] = frozenset((message.status,))
                    self._shapes.clear()
            case "error":
                self._traffic.failed()
                self._settings.failed()
            case "ready":
                if not self._traffic.started:  # not before: names of databases are the client's choice until then
                    self._settings.database(self._store.entry(self._shared, self._server, self._database))
                quiet, sure = self._traffic.ready()
                self._settings.ready(message.status, quiet)
                if quiet:
                    self._statements.settle(sure)
                    self._portals.settle(sure)
            case "injected":
                self._settings.answer(message)
            case "injected-done":
                self._settings.answered()
                self._traffic.quiet()

    def wanted(self, facts: Facts | None) -> str:
        if facts is None or self._reading is None or not self._traffic.started:
            return ""
        reading = self._reading[1]
        only_session = reading.values["effect"].issubset(("session",)) and not reading.unknown
        if only_session and self._settings.in_transaction:
            return ""  # SET TRANSACTION must come before any query
        if self._settings.lacks_catalog(reading.missing):
            self._settings.trying(catalog=True)
            return CATALOGUE_IN_TRANSACTION if self._settings.in_transaction else CATALOGUE
        if self._settings.lacks_state():
            self._settings.trying(catalog=False)
            return STATE
        return ""

    def origins(self, facts: Facts, column: Column) -> frozenset[str] | None:
        catalog = self._settings.catalog
        if catalog is not self._origins_of:
            self._origins.clear()
            self._origins_of = catalog
        if catalog is None:
            return None
        place = column.table, column.attribute
        found = self._origins.get(place)
        if found is None:
            found = origin(catalog, column.table, column.attribute)
            if found is not None:
                self._origins[place] = found
        return found

    def copy(self, message: Message) -> Copy | None:
        """Return how the COPY ... TO STDOUT in a request sends its data, or None if there is none."""
        if message.kind not in ("query", "execute"):
            return None
        copies = self._read_again(message).copies
        if not copies:
            return None
        return copies[0] if len(set(copies)) == 1 else Copy((), "", "", "", "", "")

    # -- requests

    def _query(self, message: Message) -> Facts:
        return self._said(message, "begins", None)

    def _parse(self, message: Message) -> Facts:
        return self._said(message, "prepares", False)

    def _said(self, message: Message, stage: Stage, changes: bool | None) -> Facts:
        text = message.text
        if message.status:
            reading = unread(f"the statement is {message.status}")
            return self._remember(message, reading, text, stage, changes=changes)
        world = self._settings.world()
        reading = self._store.read(text, world)  # one object for texts that differ in constants only, and no more
        shape = self._known(message.kind, message, reading, world)
        if shape is None:
            whole = self._whole(reading)
            base = self._remember(message, whole, "", stage, changes=changes)
            shape = self._shape(message.kind, reading, world, base, whole)
        return shape.facts(text, frozenset((text,)))

    def _bind(self, message: Message) -> Facts:
        meanings, world = self._statements.get(message.name, self._traffic.segment), self._settings.world()
        readings = [m.reading or self._store.read(m.text, world) for m in meanings]
        only = readings[0] if len(readings) == 1 else None
        statement = meanings[0].text if only is not None else "\n-- or:\n".join([m.text for m in meanings])
        shape = self._known("bind", message, only, world)
        if shape is None:
            reading = self._whole(self._union(readings, f"prepared statement {message.name!r} is not known"))
            shape = self._shape("bind", only, world, self._remember(message, reading, "", changes=False), reading)
        self._bound = shape.facts(*describe(statement, message.values, self._settings.encoding))
        return self._bound

    def _execute(self, message: Message) -> Facts:
        meanings, world = self._portals.get(message.cursor, self._traffic.segment), self._settings.world()
        only = meanings[0].reading if len(meanings) == 1 else None
        shape = self._known("execute", message, only, world)
        if shape is None:
            readings = [m.reading or unread("not read") for m in meanings]
            only = readings[0] if len(readings) == 1 else None
            reading = self._whole(self._union(readings, f"portal {message.cursor!r} is not known"))
            shape = self._shape("execute", only, world, self._remember(message, reading, "", "continues"), reading)
        if len(meanings) == 1:
            return shape.facts(meanings[0].subject, meanings[0].words)
        words: frozenset[str] = frozenset().union(*(m.words for m in meanings))
        return shape.facts("\n-- or:\n".join(dict.fromkeys(m.subject for m in meanings)), words)

    def _known(self, kind: str, message: Message, only: Reading | None, world: World) -> Shape | None:
        """Return the shape of a message that says what was said before, and note that it is judged."""
        shape = self._shapes.get(kind, only, world) if only is not None else None
        if shape is not None:
            self._reading = (message, shape.reading)
        return shape

    def _shape(self, kind: str, only: Reading | None, world: World, base: Facts, reading: Reading) -> Shape:
        shape = Shape(base, reading, kept=False)
        return shape if only is None else self._shapes.keep(kind, only, world, shape)

    def _startup(self, message: Message) -> Facts:
        self._shapes.clear()
        self._login = {
            "user": frozenset((message.name,)),
            "database": frozenset((message.status or message.name,)),
        }
        lines = message.text.splitlines()
        names = [line.partition("=")[2] for line in lines if line.startswith("application_name=")]
        self._login["application"] = frozenset(names)
        replicates = any(line.startswith("replication=") for line in lines)
        effects = frozenset(("session", "replication") if replicates else ("session",))
        self._database = message.status or message.name
        given = settings(message.text)
        values = {
            "effect": effects,
            "setting": frozenset(name for name, _ in given),
            "role": frozenset(value for name, value in given if name in ROLE),
        }
        return self._facts(values, subject=f"login of {message.name} to {message.status}")

    # -- how a reading becomes facts

    def _union(self, readings: list[Reading], why: str) -> Reading:
        if not readings:
            return unread(why)
        if len(readings) == 1:
            return readings[0]
        first = joined(readings[0], *readings[1:])
        if len(readings) > 1 and any(reading.steps for reading in readings):
            first = joined(first, unread("which statement it is, and so which names it defines, is not known"))
        copies = tuple(copy for reading in readings for copy in reading.copies)
        steps = tuple(step for reading in readings for step in reading.steps)
        return msgspec.structs.replace(first, copies=copies, steps=steps)

    def _whole(self, reading: Reading) -> Reading:
        """Return the reading with what its EXECUTE and FETCH stand for."""
        if not reading.steps:
            return reading
        inside: dict[tuple[str, str], Reading] = {}
        readings: dict[int, Reading] = {}  # by id: a text may use one name ten thousand times
        meant, moved = set[tuple[str, str]](), False  # names of relations may mean others than before
        for step in reading.steps:
            used = step.verb, step.name
            if moved and step.verb == "execute":
                readings[0] = unread(f"{step.name!r} is read anew after a change of settings or schema")
            moved = moved or step.verb in ("ddl", "end") or (step.verb == "set" and step.name in RESOLVING)
            match step.verb:
                case "prepare" | "declare" if step.reading is not None:
                    inside["execute" if step.verb == "prepare" else "fetch", step.name] = step.reading
                case "execute" | "fetch" if used in inside:
                    readings[id(inside[used])] = inside[used]
                case "execute" | "fetch" if used not in meant:
                    meant.add(used)
                    readings.update((id(one), one) for one in self._meant(step))
        return joined(reading, *readings.values())

    def _meant(self, step: Step) -> list[Reading]:
        """Return what a name used in SQL may stand for."""
        store = self._statements if step.verb == "execute" else self._portals
        world, found = self._settings.world(), []
        for meaning in store.get(step.name, self._traffic.segment):
            reading = meaning.reading or self._store.read(meaning.text, world)
            inner = [s.reading for s in reading.steps if s.verb == "prepare" and s.name == step.name and s.reading]
            found.append(inner[0] if inner and meaning.reading is None else reading)
        return found or [unread(f"{step.name!r} was not prepared or declared here")]

    def _facts(self, values: dict[str, frozenset[str]], subject: str = "", stage: Stage = "begins") -> Facts:
        return Facts("postgres", {**self._login, **values}, stage=stage, subject=subject)

    def _remember(
        self,
        message: Message,
        reading: Reading,
        subject: str,
        stage: Stage = "begins",
        *,
        changes: bool | None = None,
    ) -> Facts:
        self._reading = (message, reading)
        values = {
            **reading.values,
            **self._login,
            "count": frozenset((str(reading.count),)),
            "text": frozenset((message.text,)),
        }
        unread_text = message.kind in ("query", "parse") and message.status
        unknown = reading.unknown | {"count", "text"} if unread_text else reading.unknown
        ends = any(step.verb == "end" for step in reading.steps) and self._settings.is_set
        changing = reading.changes or reading.ddl or ends if changes is None else changes
        return Facts("postgres", values, unknown, reading.why, changing, stage, subject)

    # -- what becomes of the session

    def _read_again(self, message: Message) -> Reading:
        """Return the reading of a message, which was asked about last unless the caller is out of order."""
        if self._reading is None or self._reading[0] is not message:
            self.ask(message)
        assert self._reading is not None
        return self._reading[1]

    def _steps(self, steps: Iterable[Step], segment: int) -> None:
        for step in steps:
            match step.verb:
                case "prepare":
                    self._statements.define(step.name, Meaning(step.text, subject=step.text), segment)
                case "declare":
                    meaning = Meaning("", step.reading, step.text, frozenset((step.text,)))
                    self._portals.define(step.name, meaning, segment)
                case "deallocate" | "close":
                    store = self._statements if step.verb == "deallocate" else self._portals
                    if step.name:
                        store.forget(step.name, segment)
                    else:
                        store.forget_all(segment)
                case "set":
                    self._settings.assign(step.name, step.value)
                case "end":
                    self._settings.ends()

    def _done(self, reading: Reading) -> None:
        opaque = "effect" in reading.unknown
        if opaque:
            self._settings.doubt()
        if reading.ddl or opaque:
            self._settings.stale(reading.wide, reading.wide or opaque)


def _with(reading: Reading, **words: tuple[str, ...]) -> Reading:
    values = {**reading.values, **{key: frozenset(value) for key, value in words.items()}}
    return msgspec.structs.replace(reading, values=values)
