"""The catalogue of one server, as one of its users sees it: relations, columns, views, triggers, foreign keys.

Read by statements of our own (`STATE`, `CATALOGUE`) over the flow itself, with the rights of its user. They must mean
the same under any sql_mode and charset: there is neither a quote nor a backslash in them, what they compare with is
written in hexadecimal, so is what they answer, and LIMIT keeps sql_select_limit from cutting it.
Source: MySQL 8.4 manual, "INFORMATION_SCHEMA Tables"; MariaDB, "Information Schema Tables".

Not here: what the user may not see (triggers and definitions of views need rights of their own), temporary tables.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import msgspec

MAX_ROWS = 50_000  # columns and the like that are taken in, about 20 MB here; a server with more stays unknown
MAX_VIEW = 16_384  # characters of a view's definition; a longer one is not known

_WORD = re.compile(r"`((?:[^`]|``)+)`|([0-9A-Za-z_$\x80-\U0010ffff]+)")


class Field(msgspec.Struct, frozen=True, gc=False):
    """A column of a relation."""

    name: str
    invisible: bool = False  # * does not give it
    made_of: tuple[str, ...] = ()  # columns it is generated from, in small letters
    cut: bool = False  # and perhaps others: its expression is longer than is read


class Relation(msgspec.Struct, frozen=True, gc=False):
    """A table or view."""

    path: tuple[str, str]  # database, name
    columns: tuple[Field, ...]
    view: str | None = None  # its definition; "" where that is not known
    triggers: bool = False
    foreign: bool = False  # its rows are those of other tables, here or elsewhere


class Cascade(msgspec.Struct, frozen=True, gc=False):
    """A foreign key by which a change of the relation referred to changes the one that refers."""

    parent: tuple[str, str]
    child: tuple[str, str]
    deletes: bool
    updates: bool


class State(msgspec.Struct, frozen=True, gc=False):
    """What a session reads its statements by."""

    database: str
    sql_mode: str
    charset: str
    literals: str  # charset of literals
    folds: int  # lower_case_table_names
    version: str
    user: str


def _hex(text: str) -> str:
    return "0x" + text.encode().hex()


def _row(kind: str, *fields: str) -> str:
    """Return a row: its kind, its fields with commas between, and what the wire looks for in the first one."""
    last = "@@session.character_set_client AS character_set_client" if kind == "state" else "0x2d"
    return f"SELECT {_hex(kind)}, CONCAT_WS(0x2c, {', '.join(fields)}), {last}"


def _text(name: str) -> str:
    return f"IFNULL(HEX({name}), 0x2d)"


_OWN = ", ".join(map(_hex, ("information_schema", "mysql", "ndbinfo", "performance_schema", "sys")))
_OTHERS = ", ".join(map(_hex, ("MRG_MyISAM", "FEDERATED", "CONNECT", "SPIDER", "SPHINX", "OQGRAPH", "S3", "MROONGA")))
_RULES = ", ".join(map(_hex, ("CASCADE", "SET NULL", "SET DEFAULT")))
_ALL = "LIMIT 18446744073709551615"

_STATE = _row(
    "state",
    _text("DATABASE()"),
    _text("@@session.sql_mode"),
    _text("@@session.character_set_client"),
    _text("@@session.character_set_connection"),
    _text("CONVERT(@@global.lower_case_table_names, CHAR)"),
    _text("VERSION()"),
    _text("CURRENT_USER()"),
)

STATE = f"{_STATE} {_ALL}"
CATALOGUE = " UNION ALL ".join(
    (
        _STATE,
        _row(
            "column",
            _text("TABLE_SCHEMA"),
            _text("TABLE_NAME"),
            _text("CONVERT(ORDINAL_POSITION, CHAR)"),
            _text("COLUMN_NAME"),
            f"IF(INSTR(EXTRA, {_hex('INVISIBLE')}), 0x3331, 0x3330)",
            _text(f"LEFT(GENERATION_EXPRESSION, {MAX_VIEW + 1})"),
        )
        + f" FROM information_schema.COLUMNS WHERE TABLE_SCHEMA NOT IN ({_OWN})",
        _row("view", _text("TABLE_SCHEMA"), _text("TABLE_NAME"), _text(f"LEFT(VIEW_DEFINITION, {MAX_VIEW + 1})"))
        + f" FROM information_schema.VIEWS WHERE TABLE_SCHEMA NOT IN ({_OWN})",
        _row("trigger", _text("EVENT_OBJECT_SCHEMA"), _text("EVENT_OBJECT_TABLE"))
        + " FROM information_schema.TRIGGERS",
        _row(
            "key",
            _text("UNIQUE_CONSTRAINT_SCHEMA"),
            _text("REFERENCED_TABLE_NAME"),
            _text("CONSTRAINT_SCHEMA"),
            _text("TABLE_NAME"),
            f"IF(DELETE_RULE IN ({_RULES}), 0x3331, 0x3330)",
            f"IF(UPDATE_RULE IN ({_RULES}), 0x3331, 0x3330)",
        )
        + " FROM information_schema.REFERENTIAL_CONSTRAINTS",
        _row("foreign", _text("TABLE_SCHEMA"), _text("TABLE_NAME"))
        + f" FROM information_schema.TABLES WHERE ENGINE IN ({_OTHERS})",
    )
) + f" LIMIT {MAX_ROWS + 1}"


class Catalog:
    """Names of one server, as it gave them at one moment."""

    def __init__(
        self, relations: Sequence[Relation], cascades: Sequence[Cascade] = (), *, folds: int = 0, user: str = ""
    ) -> None:
        self.folds, self.user = folds, user
        self.relations: Mapping[tuple[str, str], Relation] = {self._key(*r.path): r for r in relations}
        self._cascades: dict[tuple[str, str], list[Cascade]] = {}
        for cascade in cascades:
            self._cascades.setdefault(self._key(*cascade.parent), []).append(cascade)
        self.memory: dict[tuple[str, str], object] = {}  # what relations.py worked out

    def _key(self, schema: str, name: str) -> tuple[str, str]:
        return (schema.lower(), name.lower()) if self.folds else (schema, name)

    def spelled(self, schema: str, name: str) -> tuple[str, str]:
        """Return a relation's database and name as the server keeps them."""
        found = self.relations.get(self._key(schema, name))
        return found.path if found is not None else self._key(schema, name)

    def find(self, schema: str, name: str) -> Relation | None:
        """Return the relation of that name."""
        return self.relations.get(self._key(schema, name))

    def swept(self, path: tuple[str, str], deleted: bool, written: frozenset[str]) -> list[tuple[str, str]]:
        """Return the relations that foreign keys change when rows of one are deleted, or columns of it written."""
        found = self._cascades.get(self._key(*path), ())
        return [c.child for c in found if (deleted and (c.deletes or c.updates)) or (written and c.updates)]


class Answer:
    """The answer to `STATE` or `CATALOGUE`."""

    def __init__(self) -> None:
        self._rows: dict[str, list[list[str]]] = {}
        self._count = 0
        self._broken = False

    def add(self, kind: bytes, data: bytes) -> None:
        """Take one row. Zero bytes come from charsets of two bytes and more."""
        fields = data.replace(b"\0", b"").split(b",")
        self._count += 1
        try:
            self._rows.setdefault(kind.replace(b"\0", b"").decode("ascii"), []).append([_decoded(f) for f in fields])
        except ValueError:
            self._broken = True

    def digest(self) -> bytes:
        """Return what two answers have in common that say the same of the catalogue, in whatever order."""
        found, state = blake2b(digest_size=32), self.state()
        found.update(f"{state.folds} {state.user}".encode() if state is not None else b"")
        for kind in sorted(self._rows.keys() - {"state"}):
            for row in (repr(kind), *sorted(map(repr, self._rows[kind]))):
                found.update(row.encode("utf-8", "surrogatepass"))
        return found.digest()

    def state(self) -> State | None:
        """Return how statements are read now, if that was answered."""
        rows = self._rows.get("state", [])
        if len(rows) != 1 or len(rows[0]) != 7 or not rows[0][4].isdigit():
            return None
        database, mode, charset, literals, folds, version, user = rows[0]
        return State(database, mode, charset.lower(), literals.lower(), int(folds), version, user)

    def catalog(self) -> Catalog | None:
        """Return the catalogue, or None if it was not answered whole."""
        state = self.state()
        if state is None or self._broken or self._count > MAX_ROWS or self._rows.keys() == {"state"}:
            return None
        try:
            return Catalog(list(self._relations()), list(self._cascades()), folds=state.folds, user=state.user)
        except (ValueError, IndexError):
            return None

    def _relations(self) -> Sequence[Relation]:
        views = {(row[0], row[1]): row[2] for row in self._rows.get("view", ())}
        triggers = {(row[0], row[1]) for row in self._rows.get("trigger", ())}
        foreign = {(row[0], row[1]) for row in self._rows.get("foreign", ())}
        columns: dict[tuple[str, str], list[tuple[int, Field]]] = {path: [] for path in views}
        for schema, name, place, column, invisible, made in self._rows.get("column", ()):
            field = Field(column, invisible == "1", _names_in(made), len(made) > MAX_VIEW)
            columns.setdefault((schema, name), []).append((int(place), field))
        return [
            Relation(
                path,
                tuple(field for _, field in sorted(fields, key=lambda f: f[0])),
                _definition(views[path]) if path in views else None,
                path in triggers,
                path in foreign,
            )
            for path, fields in columns.items()
        ]

    def _cascades(self) -> Sequence[Cascade]:
        return [
            Cascade((parent, above), (child, below), deletes == "1", updates == "1")
            for parent, above, child, below, deletes, updates in self._rows.get("key", ())
            if "1" in (deletes, updates)
        ]


def _names_in(expression: str) -> tuple[str, ...]:
    """Return what may be names of columns: words, and names in quotes."""
    found = (quoted.replace("``", "`") or word for quoted, word in _WORD.findall(expression))
    return tuple(name.lower() for name in found)


def _definition(text: str) -> str:
    return text if len(text) <= MAX_VIEW else ""


def _decoded(field: bytes) -> str:
    """Return a field: hexadecimal, or a hyphen for NULL."""
    return "" if field == b"-" else bytes.fromhex(field.decode("ascii")).decode("utf-8").replace("\0", "")
