"""What one session reads its statements by: sql_mode, charset, database, and the catalogue.

A server tells little of these by itself (session tracking, if the client asked for it). So they are asked for (`STATE`)
before the first statement that depends on them, and again after whatever may have changed them: SET, USE, a procedure,
another user. Statements that look back at the one before (ROW_COUNT() and the like) are not preceded by one of ours.
"""

from appliance.facts.entry import Entry
from appliance.facts.mysql.catalog import CATALOGUE, STATE, Answer, Catalog, State
from appliance.facts.mysql.lexer import UNSURE, Mode
from appliance.facts.mysql.store import Store
from appliance.facts.mysql.world import World
from appliance.facts.shared import Shared
from appliance.model import Message

MAX_MISSED = 1_000  # names looked for in vain that are remembered
MAX_TEMPORARY = 200  # temporary tables of one session that are known

_TRACKED = frozenset(("schema", "sql_mode", "character_set_client"))


class Settings:
    """Mutable; one for each flow."""

    def __init__(self, shared: Shared, server: str, needs_catalog: bool) -> None:
        self._store, self._shared, self._server, self._needs = shared.of(Store), shared, server, needs_catalog
        self._entry: Entry[Catalog] = Entry(shared)
        self._version = 0  # of the entry, when the catalogue was asked for
        self._due = 0  # answers that come until one that may change the schema is answered
        self._altering = self._seen = False  # it surely does; others might see it
        self._mode = Mode()
        self._database = ""
        self._sure = True  # as long as there is no login: a text without a server is read by defaults
        self._tried: set[str] = set()  # asked before the statement at hand: not again for it
        self._missed: set[str] = set()  # names looked for in vain
        self._own = False  # the schema was changed by this flow since the catalogue was read
        self._temporary: frozenset[tuple[str, str]] = frozenset()
        self._world: World | None = None
        self._answer = Answer()
        self.user = ""

    @property
    def needs_catalog(self) -> bool:
        return self._needs

    @needs_catalog.setter
    def needs_catalog(self, needs: bool) -> None:
        self._needs, self._world = needs, None

    # -- what it is now ---------------------------------------------------------------------------------------------

    @property
    def sure(self) -> bool:
        """True if settings are those of the server."""
        return self._sure

    @property
    def database(self) -> str:
        """The database, as far as it is known."""
        return self._database

    @property
    def catalog(self) -> Catalog | None:
        return self._entry.catalog if self._needs else None

    def world(self) -> World:
        """Return what words are read against."""
        self._entry.look()
        world, catalog = self._world, self.catalog
        stale = self._needs and (self._own or self._entry.altered)
        if world is None or world.catalog is not catalog or world.stale is not stale:
            mode = self._mode if self._sure else UNSURE
            database = self._database if self._sure else ""
            made = World(mode, database, catalog, self._needs, stale, self._temporary)
            self._world = world = self._store.world(made)
        return world

    def lacking(self, missing: frozenset[str]) -> bool:
        """Return False if there is nothing to ask before a statement that lacks these names is judged."""
        return not self._sure or (self._needs and (self._old or not missing <= self._missed))

    @property
    def _old(self) -> bool:
        """The catalogue is not there, or may be another by now."""
        entry = self._entry
        return entry.stale or entry.catalog is None or entry.aged or self._own

    def wanted(self, missing: frozenset[str], sensitive: bool) -> str:
        """Return what to ask before a statement that lacks these names is judged; `sensitive`: how it reads depends
        on settings."""
        tried = self._tried
        if self._needs and self._old and CATALOGUE not in tried:
            return CATALOGUE
        if not self._sure and (self._needs or sensitive) and not tried:
            return STATE  # with a database known, other names are looked for
        if self._needs and not missing <= self._missed:
            if CATALOGUE not in tried:
                return CATALOGUE
            if len(self._missed) + len(missing) <= MAX_MISSED:
                self._missed |= missing
        return ""

    # -- what happens to it -----------------------------------------------------------------------------------------

    def login(self, user: str, database: str) -> None:
        """Note a login, or a change of the user."""
        self.user, self._database = user, database
        self._entry = self._store.entry(self._shared, self._server, user)
        self.renewed()

    def renewed(self) -> None:
        """Note that the session begins anew."""
        self._temporary = frozenset()
        self.doubt()

    def doubt(self) -> None:
        """Note that any setting may have changed."""
        self._sure = False
        self._world = None

    def stale(self, due: int, surely: bool, others: bool = True) -> None:
        """Note that the schema may have changed, when so many answers more have come; `surely`: what others see of it
        was; `others`: they might see it."""
        self._own = True
        self._due, self._altering, self._seen = due, self._altering or surely, self._seen or others
        self._entry.change(surely, others)
        self._missed.clear()
        self._world = None

    def ready(self) -> None:
        """Note the end of an answer."""
        if self._due:
            self._due -= 1
            self._entry.change(self._altering, self._seen)  # others may have read the catalogue before this was in it
            if not self._due:
                self._altering = self._seen = False

    def made(self, tables: frozenset[tuple[str, str]]) -> None:
        """Note temporary tables."""
        if len(self._temporary | tables) <= MAX_TEMPORARY:
            self._temporary |= tables
            self._world = None

    def told(self, name: str, value: str) -> None:
        """Note what the server says of a variable."""
        if name in _TRACKED:
            self.doubt()

    def status(self, words: frozenset[str]) -> None:
        """Note what the server says at the end of an answer."""
        if self._sure and self._mode.backslash is ("no-backslash-escapes" in words):
            self.doubt()
        if self._sure and "ansi-quotes" in words and not self._mode.ansi_quotes:
            self.doubt()

    # -- answers to statements of our own ---------------------------------------------------------------------------

    def trying(self, statement: str) -> None:
        """Note that a statement of our own goes up."""
        self._tried.add(statement)
        self._answer = Answer()
        if statement == CATALOGUE:
            self._version = self._entry.version
            self._entry.asking()

    def another(self) -> None:
        """Note that another statement is judged."""
        self._tried.clear()

    def answer(self, message: Message) -> None:
        """Take one result, of rows of three columns."""
        values = [value.data or b"" for value in message.values]
        for kind, data in zip(values[::3], values[1::3], strict=False):
            self._answer.add(kind, data)

    def answered(self) -> None:
        """Take all that was answered."""
        state, entry, digest = self._answer.state(), self._entry, self._answer.digest()
        same = entry.same(digest)
        catalog = entry.catalog if same else self._answer.catalog()
        if state is not None:
            self._take(state)
        if catalog is not None:
            self._own = False
            self._missed.clear()
            if not same:
                self._store.drop(entry.catalog)
            entry.put(catalog, self._version, digest)
        self._world = None

    def _take(self, state: State) -> None:
        modes = frozenset(state.sql_mode.upper().split(","))
        foreign = next((name for name in ("ORACLE", "MSSQL") if name in modes), "")
        self._mode = Mode(
            "ANSI_QUOTES" in modes,
            "NO_BACKSLASH_ESCAPES" not in modes,
            "IGNORE_SPACE" in modes,
            True,
            state.charset,
            state.literals,
            foreign,
        )
        self._database, self._sure = state.database, True
