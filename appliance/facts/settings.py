"""Settings of one session that decide how its statements are read, and the catalogue they are read by.

What the server reports (ParameterStatus) is taken as it comes. search_path and role are not reported before
PostgreSQL 18: they are followed through SET, and asked for (`STATE`) whenever that is not sure: after a
function that may have changed them, at the end of a transaction in which they were set, after an error.
"""

from appliance.facts.catalog import Answer, Catalog, search_path
from appliance.facts.entry import Entry
from appliance.facts.shared import Shared
from appliance.facts.sql import World
from appliance.facts.store import Store
from appliance.model import Message

UNSAFE = frozenset("SJIS BIG5 GBK UHC GB18030 JOHAB SHIFT_JIS_2004".split())
"""Client encodings whose characters may hold a byte of ASCII, a backslash or a quote among them."""

MAX_MISSED = 1_000  # names looked for in vain that are remembered


class Settings:
    """Mutable; one for each flow."""

    def __init__(self, shared: Shared, needs_catalog: bool) -> None:
        self._needs = needs_catalog
        self.encoding = "UTF8"
        self.in_transaction = False
        self._store = shared.of(Store)
        self._entry: Entry[Catalog] = Entry(shared)
        self._world: World | None = None
        self._strings: bool | None = None  # None: not reported
        self._path: tuple[str, ...] | None = ("$user", "public")
        self._user = self._temp = ""
        self._sure = not needs_catalog  # path, user and temp are those of the server
        self._set = False  # a setting was changed in this transaction
        self._broken = False  # an error came, and no ReadyForQuery since
        self._aborted = False  # the transaction has failed: nothing of our own would run
        self._tried = False  # asked in vain; not again before something changed
        self._missed: set[str] = set()  # relations looked for in vain
        self._private: Catalog | None = None  # read inside the transaction that is open
        self._fixed = False  # that sees no changes of others, but its names mean what those have made
        self._begun = self._read = 0  # alterations of the entry before it began, and when the private one was asked for
        self._own = False  # the schema was changed by this flow since the catalogue was read
        self._changing = self._altering = False  # it may have been, or surely was, by what is not committed
        self._seen = False  # and others might see it then
        self._asked = 0  # version of the entry when the catalogue was asked for
        self._closed: frozenset[str] = frozenset()
        self._answer = Answer()

    @property
    def needs_catalog(self) -> bool:
        return self._needs

    @needs_catalog.setter
    def needs_catalog(self, needs: bool) -> None:
        if needs and not self._needs:
            self._sure = False
        self._needs = needs
        self._changed()

    # -- what it is now
    # -----------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog | None:
        return (self._private or self._entry.catalog) if self.needs_catalog else None

    def world(self) -> World:
        """Return what names are resolved against."""
        self._entry.look()
        world, catalog = self._world, self.catalog
        # By another flow, while this one was too busy, or is not able, to read the catalogue again.
        stale = self._own or (self._needs and self._overtaken)
        makes = self._needs and (self._private is not None or self._changing)
        same = world is not None and world.stale is stale and world.held is self._set and world.made is makes
        if world is None or world.catalog is not catalog or not same:
            made = World(
                self._path if self._sure else None,
                self._user,
                self._temp,
                catalog,
                self.needs_catalog,
                stale,
                self._closed,
                self._set,
                makes,
                self._strings is not False,
                self.encoding not in UNSAFE,
            )
            self._world = world = self._store.world(made)
        return world

    @property
    def _overtaken(self) -> bool:
        """True if the catalogue is surely another than was read."""
        if self._private is None:
            return self._entry.altered
        return self._entry.alterations != (self._begun if self._fixed else self._read)

    @property
    def is_set(self) -> bool:
        """True if search_path or role was set in this transaction."""
        return self._set

    def lacks_catalog(self, missing: frozenset[str]) -> bool:
        """Return True if the catalogue should be read before a statement that lacks these names is judged."""
        if not self.needs_catalog or self._aborted:
            return False
        if self._tried:
            self._missed |= missing if len(self._missed) + len(missing) <= MAX_MISSED else frozenset()
            return False
        entry = self._entry
        if self._private is None:
            old = entry.stale or (entry.aged and not self.in_transaction)
        else:
            old = entry.alterations != self._read
        return self.catalog is None or old or self._own or not missing <= self._missed

    def lacks_state(self) -> bool:
        """Return True if search_path and role should be asked for."""
        return not self._sure and not self._aborted and not self._tried

    # -- what happens to it
    # -------------------------------------------------------------------------------------

    def login(self, message: Message) -> None:
        self._user = message.name
        lines = message.text.splitlines()
        if any(line.partition("=")[0].lower() in ("options", "search_path", "role") for line in lines):
            self._sure = False
        self._changed()

    def database(self, entry: Entry[Catalog]) -> None:
        """Take the place of the catalogue of the database logged in to."""
        self._entry = entry
        self._changed()

    def reported(self, name: str, value: str) -> None:
        """Note what the server says of a setting."""
        match name:
            case "client_encoding":
                self.encoding = value.upper()
            case "standard_conforming_strings":
                self._strings = value != "off"
            case "session_authorization":
                self._user = value
            case "search_path":
                self._path = search_path(value)
            case _:
                return
        self._changed()

    def assign(self, name: str, value: tuple[str, ...] | None) -> None:
        """Note that a setting is being changed; None: to a value that is not known."""
        if name == "search_path":
            self._path = value
            self._sure = self._sure and value is not None and not self._broken
        elif name in ("role", "session_authorization"):
            self._sure = False
        else:
            return
        self._set = True
        self._changed()

    def doubt(self) -> None:
        """Note that any setting may have changed."""
        self._sure = False
        self._changed()

    def ends(self) -> None:
        """Note that a transaction, or part of it, ends: what was set in it may be taken back."""
        if self._set:
            self.doubt()

    def failed(self) -> None:
        """Note an error of the server: what was set just before may not have been."""
        self._broken = True
        if self._set:
            self.doubt()

    def ready(self, status: str, quiet: bool = True) -> None:
        """Note ReadyForQuery; `quiet`: all is answered."""
        if status == "I" and self._changing:
            self._entry.change(self._altering, self._seen)  # others may have read the catalogue before this was in it
            if quiet:
                self._changing = self._altering = self._seen = False
        if status == "I" and self.in_transaction and self._set:
            self.doubt()
        if status == "I":
            self._begun = self._entry.alterations  # before the next transaction, if not just before
            self._set = False
            if self._private is not None:
                self._private = None
                self._changed()
        self._broken = False
        self.in_transaction, self._aborted = status != "I", status == "E"
        self._tried = False

    def stale(self, surely: bool, others: bool) -> None:
        """Note that the schema may have changed; `surely`: what others see of it was; `others`: they might see it."""
        self._own = self._changing = True
        self._altering, self._seen = self._altering or surely, self._seen or others
        self._entry.change(surely, others)
        self._begun += surely  # our own
        self._missed.clear()
        if self._temp == "":
            self._sure = False  # a first temporary table makes the schema for it
        self._changed()

    # -- answers to statements of our own
    # -----------------------------------------------------------------------

    def trying(self, catalog: bool) -> None:
        """Note that a statement of our own goes up; `catalog`: that asks for it."""
        self._tried, self._answer, self._asked = True, Answer(), self._entry.version
        if catalog:
            self._entry.asking()
            self._read = self._entry.alterations

    def answer(self, message: Message) -> None:
        """Take one result set, of rows of two columns."""
        codec = _codec(self.encoding)
        texts = [(value.data or b"").decode(codec, "replace") for value in message.values]
        for kind, text in zip(texts[::2], texts[1::2], strict=False):
            self._answer.add(kind, text)

    def answered(self) -> None:
        """Take all that was answered."""
        state, entry, digest = self._answer.state(), self._entry, self._answer.digest()
        same = not self.in_transaction and entry.same(digest)
        catalog = entry.catalog if same else self._answer.catalog()
        if catalog is not None:
            self._own = False
            self._missed.clear()
            if self.in_transaction:  # it shows what only this transaction sees
                self._private = catalog
            else:
                if not same:
                    self._store.drop(entry.catalog)
                entry.put(catalog, self._asked, digest)
        if state is not None:
            self._path, self._user, self._temp, self._sure = (
                search_path(state.path),
                state.user,
                state.temp,
                True,
            )
            self._closed, self._fixed = frozenset(state.closed), state.fixed
        self._changed()

    def _changed(self) -> None:
        self._world = None


def _codec(encoding: str) -> str:
    return {"UTF8": "utf-8", "SQL_ASCII": "utf-8"}.get(encoding, encoding.lower().replace("win", "cp"))
