"""The catalogue of one database: relations, columns, views, inheritance, and what could shadow a built-in.

Read by statements of our own (`CATALOGUE`, `STATE`) over the flow itself, with the rights of its user. They
must mean the same under any search_path, so every name in them is qualified and every operator written
OPERATOR(pg_catalog.x).
Source: PostgreSQL 15 manual, "System Catalogs".

Not here: policies, defaults, generated columns, index expressions and check constraints of tables, whose
functions run too; functions and operators that extensions own, and those that take types of the user's own.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import msgspec

MAX_ATTRIBUTES = 200_000  # the server sends nothing if it has more: names stay unknown (about 60 MB here)
MAX_SWEPT = 1_000  # answers about foreign keys that are kept; programs change a few dozen tables in as many ways
MAX_RELATED = 2_000  # relations in one tree of inheritance whose names are given; more: unknown

_FIRST_USER_OID = 16384  # FirstNormalObjectId in PostgreSQL


def full(*parts: str) -> str:
    """Return a dotted name; parts that hold a dot or a quote are in double quotes."""
    return ".".join('"' + p.replace('"', '""') + '"' if "." in p or '"' in p else p for p in parts)


_NAME = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\s,"]+))\s*(?:,|$)')


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


class Cascade(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A foreign key by which a change of the relation referred to changes the one that refers."""

    parent: int
    child: int
    deletes: bool  # ON DELETE does more than refuse
    updates: bool  # ON UPDATE does
    columns: tuple[int, ...]  # of the parent


class State(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a session resolves names by."""

    path: str  # search_path as SHOW gives it
    user: str
    temp: str  # schema of temporary tables; empty if it has none
    closed: tuple[str, ...] = ()  # schemas its role may not use: the server passes them by in the path
    isolation: str = ""  # of the transaction

    @property
    def fixed(self) -> bool:
        """True if what it reads of the catalogue is that of before; names it resolves by that of now."""
        return self.isolation in ("repeatable read", "serializable")


_EQ = "OPERATOR(pg_catalog.=)"
_CHANGES = "{eq} ANY (ARRAY['c','n','d']::pg_catalog.\"char\"[])"
_USER = f"OPERATOR(pg_catalog.>=) {_FIRST_USER_OID}"

_QUERIES = {
    "state": (
        "SELECT {kind}, pg_catalog.json_build_array(pg_catalog.current_setting('search_path'), CURRENT_USER, "
        "COALESCE((SELECT n.nspname FROM pg_catalog.pg_namespace n "
        "WHERE n.oid {eq} pg_catalog.pg_my_temp_schema()), ''), "
        "COALESCE((SELECT pg_catalog.json_agg(n.nspname) FROM pg_catalog.pg_namespace n WHERE "
        "pg_catalog.left(n.nspname::pg_catalog.text, 3) OPERATOR(pg_catalog.<>) 'pg_' "
        "AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE')), '[]'::pg_catalog.json), "
        "pg_catalog.current_setting('transaction_isolation'))::pg_catalog.text"
    ),
    # Views are written out with all names qualified; this lasts as long as the transaction, so as the statement.
    "pin": "SELECT {kind}, pg_catalog.set_config('search_path', 'pg_catalog', true)",
    "schema": "SELECT {kind}, n.nspname::pg_catalog.text FROM pg_catalog.pg_namespace n",
    "inherits": (
        "SELECT {kind}, pg_catalog.json_build_array(i.inhrelid::pg_catalog.int8, "
        "i.inhparent::pg_catalog.int8)::pg_catalog.text FROM pg_catalog.pg_inherits i"
    ),
    "cascade": (
        "SELECT {kind}, pg_catalog.json_build_array(k.confrelid::pg_catalog.int8, k.conrelid::pg_catalog.int8, "
        f"k.confdeltype {_CHANGES}, k.confupdtype {_CHANGES}, k.confkey)::pg_catalog.text "
        "FROM pg_catalog.pg_constraint k WHERE k.contype {eq} 'f' "
        f"AND (k.confdeltype {_CHANGES} OR k.confupdtype {_CHANGES})"
    ),
    "view": (
        "SELECT {kind}, pg_catalog.json_build_array(c.oid::pg_catalog.int8, "
        "pg_catalog.pg_get_viewdef(c.oid), "
        "(SELECT pg_catalog.json_agg(DISTINCT d.refobjid::pg_catalog.int8) FROM pg_catalog.pg_rewrite r "
        "JOIN pg_catalog.pg_depend d ON d.objid {eq} r.oid WHERE r.ev_class {eq} c.oid "
        "AND d.classid {eq} 'pg_catalog.pg_rewrite'::pg_catalog.regclass "
        "AND d.refclassid {eq} 'pg_catalog.pg_class'::pg_catalog.regclass "
        "AND d.refobjid OPERATOR(pg_catalog.<>) c.oid))::pg_catalog.text FROM pg_catalog.pg_class c "
        "WHERE c.relkind {eq} ANY (ARRAY['v','m']::pg_catalog.\"char\"[]) AND c.oid {user} AND {fits}"
    ),
    "function": (
        "SELECT DISTINCT {kind}, pg_catalog.json_build_array(n.nspname, p.proname)::pg_catalog.text "
        "FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid {eq} p.pronamespace "
        "WHERE p.oid {user} AND NOT {owned:pg_proc p} AND NOT EXISTS (SELECT 1 FROM "
        "pg_catalog.unnest(p.proargtypes::pg_catalog.oid[]) t(o) WHERE t.o {user})"
    ),
    "operator": (
        "SELECT DISTINCT {kind}, pg_catalog.json_build_array(n.nspname, o.oprname)::pg_catalog.text "
        "FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid {eq} o.oprnamespace "
        "WHERE o.oid {user} AND NOT {owned:pg_operator o} AND NOT (o.oprleft {user}) "
        "AND NOT (o.oprright {user})"
    ),
    # Types whose values cannot be made without code of the user: base types, targets of casts by function,
    # and domains with a check that calls a function. Those of extensions are trusted.
    "type": (
        "SELECT DISTINCT {kind}, t.typname::pg_catalog.text FROM pg_catalog.pg_type t WHERE "
        "(t.oid {user} AND t.typtype {eq} 'b' AND t.typelem {eq} 0 AND NOT {owned:pg_type t}) "
        "OR EXISTS (SELECT 1 FROM pg_catalog.pg_cast c WHERE c.casttarget {eq} t.oid AND c.castfunc {user} "
        "AND NOT {owned:pg_cast c}) "
        "OR EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_depend d ON "
        "d.objid {eq} k.oid AND d.classid {eq} 'pg_catalog.pg_constraint'::pg_catalog.regclass "
        "AND d.refclassid {eq} 'pg_catalog.pg_proc'::pg_catalog.regclass WHERE k.contypid {eq} t.oid)"
    ),
    "relation": (
        "SELECT {kind}, pg_catalog.json_build_array(c.oid::pg_catalog.int8, n.nspname, c.relname, c.relkind, "
        "EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite r WHERE r.ev_class {eq} c.oid "
        "AND r.rulename OPERATOR(pg_catalog.<>) '_RETURN'), "
        "EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t WHERE t.tgrelid {eq} c.oid AND NOT t.tgisinternal), "
        "(SELECT pg_catalog.json_agg(pg_catalog.json_build_array("
        "a.attnum, a.attname, a.atttypid::pg_catalog.int8)) FROM pg_catalog.pg_attribute a "
        "WHERE a.attrelid {eq} c.oid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped)"
        ")::pg_catalog.text "
        "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid {eq} c.relnamespace "
        "WHERE c.relkind {eq} ANY (ARRAY['r','v','m','p','f','S']::pg_catalog.\"char\"[]) AND {fits}"
    ),
}


class _Owned:
    """`{owned:pg_proc p}` in a query: an extension owns the object p of the catalogue pg_proc."""

    def __format__(self, spec: str) -> str:
        table, alias = spec.split()
        return (
            "EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE "
            f"d.classid {_EQ} 'pg_catalog.{table}'::pg_catalog.regclass AND d.objid {_EQ} {alias}.oid "
            f"AND d.deptype {_EQ} 'e')"
        )


def _query(*kinds: str) -> str:
    """Return one statement for all of these; its rows are (kind, text)."""
    fits = f"(SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute) OPERATOR(pg_catalog.<=) {MAX_ATTRIBUTES}"
    return " UNION ALL ".join(
        _QUERIES[kind].format(kind=f"'{kind}'::pg_catalog.text", eq=_EQ, user=_USER, fits=fits, owned=_Owned())
        for kind in kinds
    )


STATE = _query("state")
CATALOGUE = _query(*_QUERIES)
CATALOGUE_IN_TRANSACTION = _query(*(kind for kind in _QUERIES if kind != "pin"))
"""The same where a setting of ours would outlast it: views are written out as the path of the session has them."""


class Catalog:
    """Names of one database, as its own catalogue gave them at one moment."""

    def __init__(
        self,
        state: State,
        relations: Sequence[Relation],
        *,
        inherits: Sequence[tuple[int, int]] = (),
        cascades: Sequence[Cascade] = (),
        views: Sequence[View] = (),
        schemas: Sequence[str] = (),
        functions: Sequence[tuple[str, str]] = (),
        operators: Sequence[tuple[str, str]] = (),
        types: Sequence[str] = (),
        path: tuple[str, ...] | None = ("pg_catalog",),
    ) -> None:
        self.state = state
        self.path = path  # that the definitions of views are written for
        self.relations: Mapping[int, Relation] = {r.oid: r for r in relations}
        self.views: Mapping[int, View] = {v.oid: v for v in views}
        self.schemas = frozenset(schemas)
        self.functions = frozenset(functions)  # (schema, name)
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
        self._cascades: dict[int, list[Cascade]] = {}
        for cascade in cascades:
            self._cascades.setdefault(cascade.parent, []).append(cascade)
        self._swept: dict[tuple[int, bool, frozenset[str]], list[Relation]] = {}
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

    def swept(self, relation: Relation, deleted: bool, columns: frozenset[str]) -> list[Relation]:
        """Return the relations that foreign keys change when rows of one go, or these columns of it change."""
        key = relation.oid, deleted, columns
        if key not in self._swept:
            if len(self._swept) >= MAX_SWEPT:
                self._swept.clear()
            self._swept[key] = self._sweep(relation, deleted, columns)
        return self._swept[key]

    def _sweep(self, relation: Relation, deleted: bool, columns: frozenset[str]) -> list[Relation]:
        found: dict[int, Relation] = {}
        todo: list[tuple[Relation, bool]] = [(below, False) for below in self._stored(relation)]
        while todo:
            parent, again = todo.pop()
            names = {a.number: a.name for a in parent.attributes or ()}
            for cascade in self._cascades.get(parent.oid, ()):
                keyed = cascade.updates and any(names.get(n) in columns for n in cascade.columns)
                hit = again or keyed or (deleted and cascade.deletes)
                child = self.relations.get(cascade.child)
                if hit and child is not None and child.oid not in found:
                    found[child.oid] = child
                    todo += [(below, True) for below in (child, *self.family(child)[0])]
        return list(found.values())

    def _stored(self, relation: Relation) -> list[Relation]:
        """Return the relations that hold the rows of one: itself, its family, what a view shows."""
        seen: dict[int, Relation] = {}
        todo = [relation]
        while todo:
            item = todo.pop()
            if item.oid not in seen:
                seen[item.oid] = item
                view = self.views.get(item.oid)
                todo += self.family(item)[0]
                todo += [self.relations[oid] for oid in (view.uses if view else None) or () if oid in self.relations]
        return list(seen.values())


class Answer:
    """The answer to `STATE` or `CATALOGUE`."""

    def __init__(self) -> None:
        self._rows: dict[str, list[str]] = {}

    def add(self, kind: str, text: str) -> None:
        """Take one row."""
        self._rows.setdefault(kind, []).append(text)

    def state(self) -> State | None:
        """Return how names are resolved now, if that was answered."""
        rows = self._rows.get("state")
        try:
            return msgspec.json.decode(rows[0], type=State) if rows else None
        except msgspec.MsgspecError:
            return None

    def digest(self) -> bytes:
        """Return what two answers have in common that say the same of the catalogue, in whatever order."""
        found = blake2b(digest_size=32)
        for kind in sorted(self._rows.keys() - {"state"}):
            for row in (kind, *sorted(self._rows[kind])):
                found.update(b"%d " % len(row))
                found.update(row.encode("utf-8", "surrogatepass"))
        return found.digest()

    def catalog(self) -> Catalog | None:
        """Return the catalogue, or None if it was not answered, or is too large."""
        state, rows = self.state(), self._rows
        if state is None or "relation" not in rows:
            return None
        try:
            return Catalog(
                state,
                [_RELATION.decode(row) for row in rows["relation"]],
                inherits=[_PAIR.decode(row) for row in rows.get("inherits", ())],
                cascades=[_CASCADE.decode(row) for row in rows.get("cascade", ())],
                views=[_VIEW.decode(row) for row in rows.get("view", ())],
                schemas=rows.get("schema", ()),
                functions=[_FULL.decode(row) for row in rows.get("function", ())],
                operators=[_FULL.decode(row) for row in rows.get("operator", ())],
                types=rows.get("type", ()),
                path=("pg_catalog",) if "pin" in rows else search_path(state.path),
            )
        except msgspec.MsgspecError:
            return None


_RELATION = msgspec.json.Decoder(Relation)
_PAIR = msgspec.json.Decoder(tuple[int, int])
_FULL = msgspec.json.Decoder(tuple[str, str])
_VIEW = msgspec.json.Decoder(View)
_CASCADE = msgspec.json.Decoder(Cascade)


def search_path(text: str) -> tuple[str, ...] | None:
    """Return the schemas of a search_path as a string, or None if it is not one."""
    if not text.strip():
        return ()
    schemas: list[str] = []
    at = 0
    while at < len(text):
        match = _NAME.match(text, at)
        if match is None:
            return None
        quoted, plain = match.groups()
        if plain is not None and not plain.isascii():
            return None  # folding depends on the server's locale
        schemas.append(plain.lower() if plain is not None else quoted.replace('""', '"'))
        at = match.end()
    return tuple(schemas)
