"""The walk over one text: what it gathers, and the levels of names it goes through."""

from collections.abc import Callable, Iterable, Sequence

from appliance.facts.mysql.lexer import Unreadable
from appliance.facts.mysql.names import full
from appliance.facts.mysql.reading import ALL, KEYS, NONE, OPAQUE, Names, Output, Reading, Step, unread
from appliance.facts.mysql.tree import Cte
from appliance.facts.mysql.world import World

MAX_WORK = 1_500_000  # steps of one text, of some 200 ns each


class Source:
    """Something columns are taken from: an item of FROM, or the target of a write."""

    __slots__ = ("alias", "columns", "hidden", "loose", "path", "prefix", "rest")

    def __init__(
        self,
        alias: str,
        columns: Sequence[Output] | None,
        *,
        path: tuple[str, str] | None = None,
        rest: Names = NONE,
        hidden: Names = NONE,
    ) -> None:
        self.alias = alias
        self.path = path  # database and name, of a relation
        self.prefix = full(*path) if path else ""
        self.loose = columns is None or any(c.name in ("*", "") for c in columns)  # it may have others
        loose = [c for c in columns or () if c.name in ("*", "")]
        self.rest = rest.union(*(c.names for c in loose))  # where the values of those come from
        self.hidden = hidden  # columns that * does not give
        self.columns: dict[str, Output] = {}
        for column in columns or ():
            same = self.columns.get(column.name, column)
            sure, plain = column.sure and same.sure, column.plain and same.plain
            self.columns[column.name] = Output(column.name, column.names | same.names, sure, plain)

    def column(self, name: str) -> Output | None:
        """Return the column of that name if it has, or may have it."""
        found = self.columns.get(name.lower())
        if found is not None or not self.loose:
            return found
        own = frozenset((f"{self.prefix}.{full(name)}",)) if self.prefix else NONE
        return Output(name.lower(), own | self.rest, sure=bool(self.prefix), plain=bool(self.prefix))

    def all(self) -> list[Output]:
        """Return what * gives; one named "*" stands for those that are not known."""
        known = [c for c in self.columns.values() if c.name not in self.hidden]
        if self.loose and not any(c.name == "*" for c in known):
            own = frozenset((f"{self.prefix}.*",)) if self.prefix else NONE
            known.append(Output("*", own | self.rest, sure=False))
        return known

    def whole(self) -> Names:
        """Return what all its columns hold, those that * does not give too."""
        own = frozenset((f"{self.prefix}.*",)) if self.prefix else NONE
        return own.union(self.rest, *(c.names for c in self.columns.values()))


class Common:
    """A common table expression; read when first referred to."""

    __slots__ = ("cte", "env", "outputs", "state")

    def __init__(self, cte: Cte, env: "Env") -> None:
        self.cte, self.env = cte, env
        self.state = "new"  # new, busy (a reference to it is its own), recursive, done
        self.outputs: list[Output] = []


class Env:
    """A level of names: what is in FROM, and which common table expressions are there."""

    __slots__ = ("base", "ctes", "parent", "sources", "variables")

    def __init__(self, parent: "Env | None" = None, *, variables: bool = False, base: "Env | None" = None) -> None:
        self.parent = parent
        self.base = base or self  # what an item of FROM sees that is not LATERAL
        self.sources: list[Source] = []
        self.ctes: dict[str, Common] = {}
        self.variables: bool = variables or (parent is not None and parent.variables)

    def common(self, name: str) -> Common | None:
        """Return the common table expression of that name that is seen from here."""
        env: Env | None = self
        while env is not None:
            if name in env.ctes:
                return env.ctes[name]
            env = env.parent
        return None

    def levels(self) -> Iterable["Env"]:
        """Return this level and those around it."""
        env: Env | None = self
        while env is not None:
            yield env
            env = env.parent


class Walk:
    """Gathers what one text does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sets: dict[str, set[str]] = {key: set() for key in KEYS}
        self.unknown: set[str] = set()
        self.why: list[str] = []
        self.steps: list[Step] = []
        self.changes = self.ddl = self.diagnoses = self.keeps = False
        self.missing: set[str] = set()
        self.results: list[tuple[Output, ...] | None] = []
        self.count = self.cancels = 0
        self.whole = ""  # the text
        self.read: Callable[[str], Reading] = _unread  # for a text inside the text
        self.creates: set[tuple[str, str]] = set()  # temporary tables made
        self.sure = True  # no value so far came from where it could hold anything
        self.plain = True  # nor from where it is made of a column
        self._work = 0

    def add(self, key: str, *words: str) -> None:
        """Note words under a key."""
        self.sets[key].update(words)

    def doubt(self, why: str, keys: Names = ALL) -> None:
        """Note that there may be more under these keys."""
        self.unknown |= keys
        if why not in self.why:
            self.why.append(why)

    def opaque(self, why: str, moved: Names = NONE) -> None:
        """Note that code runs that may do anything, with these columns in its hands."""
        self.add("effect", "procedure")
        self.sets["copied"] |= moved
        self.changes = self.ddl = True
        self.sure = False
        self.doubt(why, OPAQUE)

    def spend(self, steps: int) -> None:
        """Count work; a text that makes too much is not read on."""
        self._work += steps
        if self._work > MAX_WORK:
            raise Unreadable("too much to work out")

    def compare(self, names: Names) -> None:
        """Note that which rows come back, or in what order, depends on these columns."""
        self.sets["compared"] |= names

    def absorb(self, inner: Reading, keys: Iterable[str] = KEYS) -> None:
        """Note what another text or statement inside this one does."""
        for key in keys:
            self.sets[key] |= inner.values[key]
        self.unknown |= inner.unknown
        self.why += [inner.why] if inner.why and inner.why not in self.why else []
        self.missing |= inner.missing
        self.changes = self.changes or inner.changes
        self.ddl = self.ddl or inner.ddl
        self.diagnoses = self.diagnoses or inner.diagnoses
        self.keeps = self.keeps or inner.keeps

    def reading(self) -> Reading:
        """Return all that was gathered."""
        known = "procedure" not in self.sets["effect"]  # else there may be any number of results
        return Reading(
            {key: frozenset(words) for key, words in self.sets.items()},
            frozenset(self.unknown),
            "; ".join(self.why[:4]),
            self.count,
            tuple(self.steps),
            self.changes,
            self.ddl,
            frozenset(self.missing),
            tuple(self.results) if known else (),
            self.cancels,
            self.diagnoses,
            self.keeps,
            frozenset(self.creates),
        )


def _unread(text: str) -> Reading:
    return unread("a text in a text")
