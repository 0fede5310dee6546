"""The catalogue of one database: relations, columns, views, inheritance, and what could shadow a built-in.

Read by statements of our own (`CATALOGUE`, `STATE`) over the flow itself, with the rights of its user. They
must mean the same under any search_path, so every name in them is qualified and every operator written
OPERATOR(pg_catalog.x).
Source: PostgreSQL 15 manual, "System Catalogs".

Not here: policies, defaults, generated columns, index expressions and check constraints of tables, whose
functions run too; functions and operators that extensions own, and those that take types of the user's own.
"""

from collections.abc import Mapping, Sequence

import msgspec

MAX_ATTRIBUTES = 200_000  # the server sends nothing if it has more: names stay unknown (about 60 MB here)
MAX_RELATED = 2_000  # relations in one tree of inheritance whose names are given; more: unknown

_FIRST_USER_OID = 16384  # FirstNormalObjectId in PostgreSQL


def full(*parts: str) -> str:
    """Return a dotted name; parts that hold a dot or a quote are in double quotes."""
    return ".".join('"' + p.replace('"', '""') + '"' if "." in p or '"' in p else p for p in parts)


class Attribute(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A column of a relation."""

    number: int
    name: str
    type: int


class Relation(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A table, view, sequence or the like."""

    oid: int
    schema: str
    name: str
    kind: str  # relkind: r v m p f S
    rules: bool
    triggers: bool
    attributes: tuple[Attribute, ...] | None

    @property
    def full(self) -> str:
        return full(self.schema, self.name)


class View(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The definition of a view, and the relations it depends on."""

    oid: int
    definition: str | None
    uses: tuple[int, ...] | None


class State(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a session resolves names by."""

    path: str  # search_path as SHOW gives it
    user: str
    temp: str  # schema of temporary tables; empty if it has none


_EQ = "OPERATOR(pg_catalog.=)"
_USER = f"OPERATOR(pg_catalog.>=) {_FIRST_USER_OID}"

STATE = (
    "SELECT pg_catalog.json_build_array(pg_catalog.current_setting('search_path'), CURRENT_USER, "
    "COALESCE((SELECT n.nspname FROM pg_catalog.pg_namespace n "
    f"WHERE n.oid {_EQ} pg_catalog.pg_my_temp_schema()), '')) AS vg_state"
)


def _owned(table: str, alias: str) -> str:
    """Return the condition that an extension owns the object."""
    return (
        "EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE "
        f"d.classid {_EQ} 'pg_catalog.{table}'::pg_catalog.regclass AND d.objid {_EQ} {alias}.oid "
        f"AND d.deptype {_EQ} 'e')"
    )


_FITS = f"(SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute) OPERATOR(pg_catalog.<=) {MAX_ATTRIBUTES}"

_RELATIONS = (
    "SELECT pg_catalog.json_build_array(c.oid::pg_catalog.int8, n.nspname, c.relname, "
    "c.relkind, c.relhasrules, "
    f"EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t WHERE t.tgrelid {_EQ} c.oid AND NOT t.tgisinternal), "
    "(SELECT pg_catalog.json_agg(pg_catalog.json_build_array("
    "a.attnum, a.attname, a.atttypid::pg_catalog.int8)) "
    f"FROM pg_catalog.pg_attribute a WHERE a.attrelid {_EQ} c.oid AND a.attnum OPERATOR(pg_catalog.>) 0 "
    "AND NOT a.attisdropped)) AS vg_relation "
    f"FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid {_EQ} c.relnamespace "
    f"WHERE c.relkind {_EQ} ANY (ARRAY['r','v','m','p','f','S']::pg_catalog.\"char\"[]) AND {_FITS}"
)

_INHERITS = (
    "SELECT pg_catalog.json_build_array(i.inhrelid::pg_catalog.int8, i.inhparent::pg_catalog.int8) "
    "AS vg_inherits FROM pg_catalog.pg_inherits i"
)

_VIEWS = (
    "SELECT pg_catalog.json_build_array(c.oid::pg_catalog.int8, pg_catalog.pg_get_viewdef(c.oid), "
    "(SELECT pg_catalog.json_agg(DISTINCT d.refobjid::pg_catalog.int8) FROM pg_catalog.pg_rewrite r "
    f"JOIN pg_catalog.pg_depend d ON d.objid {_EQ} r.oid WHERE r.ev_class {_EQ} c.oid "
    f"AND d.classid {_EQ} 'pg_catalog.pg_rewrite'::pg_catalog.regclass "
    f"AND d.refclassid {_EQ} 'pg_catalog.pg_class'::pg_catalog.regclass "
    "AND d.refobjid OPERATOR(pg_catalog.<>) c.oid)) AS vg_view "
    f"FROM pg_catalog.pg_class c WHERE c.relkind {_EQ} ANY (ARRAY['v','m']::pg_catalog.\"char\"[]) "
    f"AND c.oid {_USER} AND {_FITS}"
)

_FUNCTIONS = (
    "SELECT DISTINCT p.proname AS vg_function FROM pg_catalog.pg_proc p "
    f"WHERE p.oid {_USER} AND NOT {_owned('pg_proc', 'p')} AND NOT EXISTS (SELECT 1 FROM "
    f"pg_catalog.unnest(p.proargtypes::pg_catalog.oid[]) t(o) WHERE t.o {_USER})"
)

_OPERATORS = (
    "SELECT DISTINCT o.oprname AS vg_operator FROM pg_catalog.pg_operator o "
    f"WHERE o.oid {_USER} AND NOT {_owned('pg_operator', 'o')} "
    f"AND NOT (o.oprleft {_USER}) AND NOT (o.oprright {_USER})"
)

# Types whose values cannot be made without code of the user: base types, targets of casts by function, and
# domains with a check that calls a function. Those of extensions are trusted.
_TYPES = (
    "SELECT DISTINCT t.typname AS vg_type FROM pg_catalog.pg_type t WHERE "
    f"(t.oid {_USER} AND t.typtype {_EQ} 'b' AND t.typelem {_EQ} 0 AND NOT {_owned('pg_type', 't')}) "
    f"OR EXISTS (SELECT 1 FROM pg_catalog.pg_cast c WHERE c.casttarget {_EQ} t.oid AND c.castfunc {_USER} "
    f"AND NOT {_owned('pg_cast', 'c')}) "
    "OR EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_depend d ON "
    f"d.objid {_EQ} k.oid AND d.classid {_EQ} 'pg_catalog.pg_constraint'::pg_catalog.regclass "
    f"AND d.refclassid {_EQ} 'pg_catalog.pg_proc'::pg_catalog.regclass WHERE k.contypid {_EQ} t.oid)"
)

_SCHEMAS = "SELECT n.nspname AS vg_schema FROM pg_catalog.pg_namespace n"

CATALOGUE = ";".join((STATE, _SCHEMAS, _INHERITS, _VIEWS, _FUNCTIONS, _OPERATORS, _TYPES, _RELATIONS))
"""All of it; its last result set is the one that must not be empty."""


class Catalog:
    """Names of one database, as its own catalogue gave them at one moment."""

    def __init__(
        self,
        state: State,
        relations: Sequence[Relation],
        *,
        inherits: Sequence[tuple[int, int]] = (),
        views: Sequence[View] = (),
        schemas: Sequence[str] = (),
        functions: Sequence[str] = (),
        operators: Sequence[str] = (),
        types: Sequence[str] = (),
    ) -> None:
        self.state = state
        self.relations: Mapping[int, Relation] = {r.oid: r for r in relations}
        self.views: Mapping[int, View] = {v.oid: v for v in views}
        self.schemas = frozenset(schemas)
        self.functions = frozenset(functions)
        self.operators = frozenset(operators)
        self.types = frozenset(types)
        self._named = {(r.schema, r.name): r for r in relations}
        self._bare: dict[str, list[Relation]] = {}
        for relation in relations:
            self._bare.setdefault(relation.name, []).append(relation)
        self._parents: dict[int, list[int]] = {}
        self._children: dict[int, list[int]] = {}
        for child, parent in inherits:
            self._parents.setdefault(child, []).append(parent)
            self._children.setdefault(parent, []).append(child)
        self.memory: dict[int, object] = {}  # what facts/sql/lineage.py worked out, by relation

    def find(self, schema: str, name: str) -> Relation | None:
        """Return the relation of that qualified name."""
        return self._named.get((schema, name))

    def anywhere(self, name: str) -> Sequence[Relation]:
        """Return the relations of that name in all schemas."""
        return self._bare.get(name, ())

    def family(self, relation: Relation) -> tuple[list[Relation], bool]:
        """Return ancestors and descendants of a relation, and whether these are all."""
        seen = {relation.oid}
        for links in (self._parents, self._children):
            todo = [relation.oid]
            while todo:
                for oid in links.get(todo.pop(), ()):
                    if oid not in seen:
                        seen.add(oid)
                        todo.append(oid)
                if len(seen) > MAX_RELATED:
                    return [self.relations[oid] for oid in seen if oid in self.relations][:MAX_RELATED], False
        seen.discard(relation.oid)
        return [self.relations[oid] for oid in seen if oid in self.relations], True


_SETS = frozenset(
    f"vg_{name}" for name in ("schema", "inherits", "view", "function", "operator", "type", "relation")
)


class Answer:
    """Collects the result sets of `STATE` or `CATALOGUE`, in any order of arrival."""

    def __init__(self) -> None:
        self._rows: dict[str, list[str]] = {}

    def add(self, column: str, rows: Sequence[str]) -> None:
        """Take the rows of one result set of one column."""
        self._rows[column] = list(rows)

    def state(self) -> State | None:
        """Return how names are resolved now, if that was answered."""
        rows = self._rows.get("vg_state")
        try:
            return msgspec.json.decode(rows[0], type=State) if rows else None
        except msgspec.MsgspecError:
            return None

    def catalog(self) -> Catalog | None:
        """Return the catalogue, or None if it was not answered whole or is too large."""
        state, rows = self.state(), self._rows
        if state is None or not _SETS.issubset(rows) or not rows["vg_relation"]:
            return None
        try:
            return Catalog(
                state,
                [_RELATION.decode(row) for row in rows["vg_relation"]],
                inherits=[_PAIR.decode(row) for row in rows["vg_inherits"]],
                views=[_VIEW.decode(row) for row in rows["vg_view"]],
                schemas=rows["vg_schema"],
                functions=rows["vg_function"],
                operators=rows["vg_operator"],
                types=rows["vg_type"],
            )
        except msgspec.MsgspecError:
            return None


_RELATION = msgspec.json.Decoder(Relation)
_PAIR = msgspec.json.Decoder(tuple[int, int])
_VIEW = msgspec.json.Decoder(View)
