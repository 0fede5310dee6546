"""The walk over one tree: what it gathers, and how it gets from node to node.

Every node is visited: a type with a visitor of its own by that, a type in `PLAIN` by visiting its children,
and any other makes the whole text unknown. A visitor returns the columns an expression's value comes from.
"""

from collections.abc import Callable, Iterable
from typing import Any

from postgast import pg_query_pb2 as pb

from appliance.facts import Copy
from appliance.facts.catalog import full
from appliance.facts.sql.reading import ALL, KEYS, NONE, OPAQUE, Names, Output, Reading, Step
from appliance.facts.sql.tree import Unreadable
from appliance.facts.sql.world import World

MAX_NESTING = 200  # visits in one another: each takes up to four of Python's 1,000 frames

MAX_WORK = 1_500_000  # steps of one text, of some 200 ns each; a visit counts as ten

Visitor = Callable[["Walk", Any, "Env"], Names]
VISITORS: dict[str, Visitor] = {}

PLAIN = frozenset(
    """
Alias A_Const A_Indices BitString Boolean BooleanTest CollateClause ColumnDef CurrentOfExpr DefElem
Float GroupingFunc GroupingSet IndexElem InferClause Integer JsonAggConstructor JsonArgument
JsonBehavior JsonFormat JsonIsPredicate JsonKeyValue JsonOutput JsonReturning JsonTableColumn
JsonTablePathSpec JsonValueExpr List MinMaxExpr NamedArgExpr NullTest ParamRef PartitionBoundSpec
PartitionCmd PartitionElem PartitionRangeDatum PartitionSpec RangeTableFuncCol ReplicaIdentityStmt
ReturningOption RowExpr SetToDefault SQLValueFunction StatsElem String TableLikeClause TriggerTransition
VacuumRelation AccessPriv ObjectWithArgs FunctionParameter PublicationObjSpec PublicationTable
CreateOpClassItem ATAlterConstraint AlterTableCmd CTESearchClause """.split()
)
"""Nodes that do nothing by themselves but hold others."""

_TYPE_OF = {f.name: f.message_type.name for f in pb.Node.DESCRIPTOR.fields}
_LEAVES = frozenset(("a_const", "param_ref", "string", "integer", "float", "boolean", "set_to_default"))


def visits(*types: str) -> Callable[[Visitor], Visitor]:
    """Register the visitor of some node types."""

    def register(visitor: Visitor) -> Visitor:
        for name in types:
            VISITORS[name] = visitor
        return visitor

    return register


class Source:
    """Something columns are taken from: an item of FROM, or the target of a write."""

    __slots__ = ("_each", "_row", "alias", "columns", "full", "hidden", "loose", "prefixes", "rest")

    def __init__(
        self,
        alias: str,
        columns: Iterable[Output] | None = None,
        *,
        names: Iterable[str] = (),
        prefixes: Iterable[str] = (),
        rest: Names = NONE,
        loose: bool = False,
        row: Names | None = None,
    ) -> None:
        self.alias = alias
        self._row = row  # what `whole` returns, where that is known
        self.hidden = False  # its columns are found by its name only: a join shows them in its own order
        self.loose = loose or columns is None  # it may have columns that are not in `columns`
        self.full = frozenset(names)  # "schema.name" by which it may be called too
        self.prefixes = frozenset(prefixes)  # by which rules name its columns
        self.rest = rest  # where the values of columns not in `columns` come from
        self.columns: dict[str, Output] | None = None
        self._each: list[Output] = []  # in the order of the server, those of one name too
        if columns is not None:
            self.columns = {}
            self._each = list(columns)
            for column in self._each:
                same = self.columns.get(column.name)
                merged = Output(column.name, column.names | same.names) if same else column
                self.columns[column.name] = merged

    def column(self, name: str) -> Output | None:
        """Return the column of that name if it has, or may have it."""
        if self.columns is not None:
            found = self.columns.get(name)
            if found is not None:
                return found
            if not self.loose:
                return Output(name) if name in _SYSTEM and self.prefixes else None
        return Output(name, frozenset(f"{p}.{full(name)}" for p in self.prefixes) | self.rest)

    def all(self) -> list[Output]:
        """Return all columns; one named "*" stands for those that are not known."""
        known = list(self._each)
        if self.loose:
            known.append(Output("*", frozenset(f"{p}.*" for p in self.prefixes) | self.rest))
        return known

    def whole(self) -> Names:
        """Return what the whole row as one value holds."""
        if self._row is not None:
            return self._row
        names: set[str] = {f"{p}.*" for p in self.prefixes}
        return frozenset(names.union(*(c.names for c in self.all())))


_SYSTEM = frozenset("ctid tableoid xmin xmax cmin cmax oid".split())


class Cte:
    """A common table expression; read when first referred to."""

    __slots__ = ("env", "node", "outputs", "state")

    def __init__(self, node: Any, env: "Env") -> None:
        self.node, self.env = node, env
        self.state = "new"  # new, busy (a reference to it is its own), done
        self.outputs: list[Output] = []


class Env:
    """A level of names: what is in FROM, and which common table expressions are there."""

    __slots__ = ("base", "ctes", "parent", "sources", "variables")

    def __init__(self, parent: "Env | None" = None, *, variables: bool = False, base: "Env | None" = None) -> None:
        self.parent = parent
        self.base = base or self  # what an item of FROM sees that is not LATERAL
        self.sources: list[Source] = []
        self.ctes: dict[str, Cte] = {}
        self.variables: bool = variables or (parent is not None and parent.variables)

    def cte(self, name: str) -> Cte | None:
        """Return the common table expression of that name that is seen from here."""
        env: Env | None = self
        while env is not None:
            if name in env.ctes:
                return env.ctes[name]
            env = env.parent
        return None


class Walk:
    """Gathers what one text does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sets: dict[str, set[str]] = {key: set() for key in KEYS}
        self.unknown: set[str] = set()
        self.why: list[str] = []
        self.steps: list[Step] = []
        self.changes = self.ddl = self.wide = False
        self.copies: list[Copy] = []
        self.missing: set[str] = set()
        self.outputs: list[Output] = []
        self.count = 0
        self.statement = ""  # the text of the statement at hand, if it is one of the text itself
        self.passed: set[int] = set()  # where in the text constants are that were visited
        self.looked: set[int] = set()  # and of those whose value was looked at
        self._nesting = self._work = 0

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
        self.changes = True
        self.doubt(why, OPAQUE)

    def visit(self, node: Any, env: Env) -> Names:
        """Visit a pb.Node, and return the columns its value comes from."""
        kind = node.WhichOneof("node")
        if kind is None or kind in _LEAVES:
            if kind == "a_const":
                self.passed.add(node.a_const.location)
            return NONE
        return self.enter(_TYPE_OF[kind], getattr(node, kind), env)

    def look(self, node: Any) -> Any:
        """Return the constant that a pb.Node is, to look at its value. The only way to one: see alike.py."""
        self.looked.add(node.a_const.location)
        return node.a_const

    def enter(self, name: str, message: Any, env: Env) -> Names:
        """Visit a message of the type named."""
        visitor = VISITORS.get(name)
        self._nesting += 1
        self.spend(10)
        if self._nesting > MAX_NESTING:
            raise Unreadable("nested too deeply")
        try:
            if visitor is not None:
                return visitor(self, message, env)
            if name not in PLAIN:
                self.doubt(f"{name} is not known here")
            return self.children(message, env)
        finally:
            self._nesting -= 1

    def spend(self, steps: int) -> None:
        """Count work; a text that makes too much is not read on."""
        self._work += steps
        if self._work > MAX_WORK:
            raise Unreadable("too much to work out")

    def children(self, message: Any, env: Env, *but: str) -> Names:
        """Visit the messages in all fields of `message` except those named."""
        names: set[str] = set()
        for field, value in message.ListFields():
            kind = field.message_type
            if kind is None or field.name in but:
                continue
            for item in value if field.is_repeated else (value,):
                if kind.name == "Node":
                    names |= self.visit(item, env)
                else:
                    names |= self.enter(kind.name, item, env)
        return frozenset(names)

    def each(self, nodes: Iterable[Any], env: Env) -> Names:
        """Visit several nodes."""
        names: set[str] = set()
        for node in nodes:
            names |= self.visit(node, env)
        return frozenset(names)

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

    def reading(self) -> Reading:
        """Return all that was gathered."""
        return Reading(
            {key: frozenset(words) for key, words in self.sets.items()},
            frozenset(self.unknown),
            "; ".join(self.why[:4]),
            self.count,
            tuple(self.steps),
            self.changes,
            self.ddl,
            tuple(self.copies),
            frozenset(self.missing),
            tuple(self.outputs),
            self.wide,
        )
