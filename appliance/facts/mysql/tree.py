"""The tree of a statement, as far as it matters where values come from and go to."""

import msgspec


class Nothing(msgspec.Struct, frozen=True):
    """A literal, a parameter, or a function of the session alone."""

    text: bool = False  # a string or NULL: comparing with it neither fails nor warns
    place: int = 0  # a whole number: in ORDER BY and GROUP BY a place in the select list; 0: not known


class Name(msgspec.Struct, frozen=True):
    """A column, or what an expression calls one: parts from the left."""

    parts: tuple[str, ...]


class Star(msgspec.Struct, frozen=True):
    """All columns, or those of what `parts` name."""

    parts: tuple[str, ...] = ()


class Variable(msgspec.Struct, frozen=True):
    """@name, and with `value` an assignment to it."""

    name: str
    value: "Node | None" = None


class System(msgspec.Struct, frozen=True):
    """@@name."""

    name: str


class Group(msgspec.Struct, frozen=True):
    """An expression with operators; `risky`: whether it fails, or warns, can depend on its values."""

    items: tuple["Node", ...]
    risky: bool = False


class Call(msgspec.Struct, frozen=True):
    """A function. `compared` are parts that decide an order, a group or a choice."""

    name: str  # small letters
    args: tuple["Node", ...] = ()
    schema: str = ""
    compared: tuple["Node", ...] = ()
    spaced: bool = False  # something stands between the name and the parenthesis


class Case(msgspec.Struct, frozen=True):
    """CASE: what is looked at, and what comes out."""

    conditions: tuple["Node", ...]
    results: tuple["Node", ...]


class Sequence(msgspec.Struct, frozen=True):
    """The name of a sequence, as an argument."""

    parts: tuple[str, ...]


class Sub(msgspec.Struct, frozen=True):
    """A query in an expression."""

    query: "Query"


Node = Nothing | Name | Star | Variable | System | Group | Call | Case | Sequence | Sub


class Item(msgspec.Struct, frozen=True):
    """An expression of a select list; without a name of its own or of a column, `name` is empty."""

    node: Node
    name: str = ""


class Into(msgspec.Struct, frozen=True):
    """Where SELECT ... INTO puts its rows."""

    file: bool
    variables: tuple[str, ...] = ()


class Select(msgspec.Struct, frozen=True):
    """One SELECT; `order` and `limit` are its own."""

    items: tuple[Item, ...]
    sources: tuple["Source", ...] = ()
    where: tuple[Node, ...] = ()
    group: tuple[Node, ...] = ()
    having: tuple[Node, ...] = ()
    windows: tuple[Node, ...] = ()
    distinct: bool = False


class Combined(msgspec.Struct, frozen=True):
    """UNION, EXCEPT, INTERSECT of several."""

    parts: tuple["Query", ...]
    distinct: bool


class Rows(msgspec.Struct, frozen=True):
    """VALUES."""

    rows: tuple[tuple[Node, ...], ...]


class Query(msgspec.Struct, frozen=True):
    """A query with what stands before and after it."""

    body: Select | Combined | Rows
    ctes: tuple["Cte", ...] = ()
    recursive: bool = False
    order: tuple[Node, ...] = ()
    limit: tuple[Node, ...] = ()
    locks: bool = False
    into: Into | None = None


class Cte(msgspec.Struct, frozen=True):
    """One WITH."""

    name: str
    columns: tuple[str, ...]
    query: Query


class Table(msgspec.Struct, frozen=True):
    """A relation in FROM, or a common table expression."""

    parts: tuple[str, ...]
    alias: str = ""
    columns: tuple[str, ...] = ()
    divided: bool = False  # only some of its partitions

    @property
    def named(self) -> str:
        return self.alias or self.parts[-1]


class Derived(msgspec.Struct, frozen=True):
    """A query in FROM."""

    query: Query
    alias: str = ""
    columns: tuple[str, ...] = ()
    lateral: bool = False


class Made(msgspec.Struct, frozen=True):
    """JSON_TABLE: columns made of a value."""

    args: tuple[Node, ...]
    alias: str


class Join(msgspec.Struct, frozen=True):
    """Sources joined; several in parentheses are one too."""

    sources: tuple["Source", ...]
    on: tuple[Node, ...] = ()
    using: tuple[str, ...] = ()
    natural: bool = False


Source = Table | Derived | Made | Join


class Insert(msgspec.Struct, frozen=True):
    """INSERT and REPLACE."""

    target: Table
    columns: tuple[str, ...]
    query: Query | None
    updates: tuple[tuple[Name, Node], ...] = ()
    returning: tuple[Item, ...] = ()
    tests: bool = False  # whether a row is there already changes what it does: REPLACE, IGNORE, ON DUPLICATE KEY
    row_alias: str = ""


class Update(msgspec.Struct, frozen=True):
    """UPDATE of one or several tables."""

    sources: tuple[Source, ...]
    sets: tuple[tuple[Name, Node], ...]
    where: tuple[Node, ...] = ()
    order: tuple[Node, ...] = ()
    ctes: tuple[Cte, ...] = ()
    recursive: bool = False
    returning: tuple[Item, ...] = ()


class Delete(msgspec.Struct, frozen=True):
    """DELETE; `targets` are names of sources, and with one table alone empty."""

    sources: tuple[Source, ...]
    targets: tuple[tuple[str, ...], ...] = ()
    where: tuple[Node, ...] = ()
    order: tuple[Node, ...] = ()
    returning: tuple[Item, ...] = ()
    ctes: tuple[Cte, ...] = ()
    recursive: bool = False


Statement = Query | Insert | Update | Delete

TEXT = Nothing(True)
LONG = Nothing(True, -1)  # a string of more than MAX_SHORT characters
PLAIN = Nothing()

MAX_SHORT = 256  # characters; with one for each of a TEXT (65,535) a result stays below max_allowed_packet, 16 MiB


class Parsed(msgspec.Struct, frozen=True):
    """A statement of the grammar of queries, and what the second opinion is held against."""

    statement: Statement
    tables: frozenset[tuple[str, ...]]  # as written
    selects: int


