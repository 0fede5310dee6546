"""CREATE, ALTER, DROP, RENAME, TRUNCATE: what a change of the schema touches.

Only as much is read as matters: which things it is about, and whether it makes values appear elsewhere. A column or
table under another name is a copy of its values: rules know them by name.
Source: MySQL 8.4 manual, "Data Definition Statements"; MariaDB, the same.
"""

from collections.abc import Sequence
from itertools import pairwise

from appliance.facts.mysql.builtins import EFFECTS, PURE
from appliance.facts.mysql.cursor import Cursor
from appliance.facts.mysql.lexer import Token, Unreadable
from appliance.facts.mysql.names import full
from appliance.facts.mysql.reading import NONE, RELATIONS, Step
from appliance.facts.mysql.relations import source
from appliance.facts.mysql.reserved import BOTH
from appliance.facts.mysql.session import plain
from appliance.facts.mysql.statement import begins, cursor, rows
from appliance.facts.mysql.values import union
from appliance.facts.mysql.walk import Walk

ENGINES = frozenset("innodb myisam aria memory heap archive csv blackhole ndb ndbcluster rocksdb columnstore".split())
"""Engines that keep a table's own rows, and those alone."""

_OPTIONS = frozenset("OR REPLACE TEMPORARY UNIQUE FULLTEXT SPATIAL ONLINE OFFLINE IGNORE UNDO AGGREGATE VECTOR".split())
_CODE = frozenset("PROCEDURE FUNCTION TRIGGER EVENT PACKAGE".split())
_SERVER = {
    "DATABASE": ("schema", "admin"), "SCHEMA": ("schema", "admin"), "SERVER": ("schema", "admin"),
    "TABLESPACE": ("schema", "admin", "file"), "LOGFILE": ("schema", "admin", "file"), "INSTANCE": ("admin",),
    "USER": ("admin", "grant"), "ROLE": ("admin", "grant"), "RESOURCE": ("admin",),
    "SPATIAL": ("admin",), "LIBRARY": ("schema", "procedure"),
}  # fmt: skip
_ROWS = frozenset("TABLE DATABASE SCHEMA SEQUENCE".split())
"""What holds rows, or numbers that cannot be had again."""
_TRIED = frozenset("MODIFY CHANGE UNIQUE CHECK PRIMARY FOREIGN KEY INDEX FULLTEXT SPATIAL ORDER PARTITION".split())
_PLAIN = frozenset("<string> <number> <hex> NULL TRUE FALSE + - CURRENT_TIMESTAMP NOW LOCALTIME LOCALTIMESTAMP".split())
"""Words a default begins with that takes nothing from the row."""
_MOVES = frozenset("RENAME CHANGE EXCHANGE DISCARD IMPORT UNION ENGINE CONVERT".split())


def _kind(c: Cursor) -> tuple[str, set[str]]:
    """Take what stands before the kind of thing, and the kind; return it and the options before it."""
    options: set[str] = set()
    while True:
        key = c.key
        if key in _OPTIONS and not (key == "SPATIAL" and c.ahead(1) == "REFERENCE"):
            options.add(c.step().key)
        elif key in ("ALGORITHM", "DEFINER"):
            c.step()
            c.need("=")
            c.step()
            if c.key == "<variable>" or c.take("@"):
                c.step()
            elif c.key == "(":
                c.balanced()
        elif c.take("SQL", "SECURITY"):
            c.step()
        else:
            break
    return c.step().key, options


def _skip_if(c: Cursor) -> bool:
    """Take IF [NOT] EXISTS."""
    if c.take("IF"):
        c.take("NOT")
        c.need("EXISTS")
        return True
    return False


@begins("CREATE")
def _create(walk: Walk, c: Cursor) -> None:
    c.need("CREATE")
    kind, options = _kind(c)
    walk.ddl, temporary = True, "TEMPORARY" in options
    if "REPLACE" in options and kind in _ROWS and not temporary:
        walk.add("effect", "drop")  # of the one that is there
    if kind in _CODE:
        plain(walk, f"CREATE {kind}", "schema", "procedure")
        _routine(walk, c, kind)
        return
    if kind in _SERVER:
        _of_server(walk, c, "CREATE", kind)
        return
    plain(walk, f"CREATE {kind}" if kind in ("TABLE", "VIEW", "INDEX", "SEQUENCE") else "CREATE", "schema")
    match kind:
        case "TABLE":
            _table(walk, c, temporary)
        case "VIEW":
            _skip_if(c)
            walk.add("table", walk.world.word(c.parts(2)))
            if c.key == "(":
                c.balanced()
            c.need("AS")
            _copied(walk, c.rest)
        case "INDEX":
            _index(walk, c)
        case "SEQUENCE":
            _skip_if(c)
            walk.add("table", walk.world.word(c.parts(2)))
        case _:
            raise Unreadable(f"CREATE {kind[:30]} is not known here")


def _routine(walk: Walk, c: Cursor, kind: str) -> None:
    """Code that runs later: what it does is not looked at, and its name may be that of a built-in."""
    _skip_if(c)
    name = c.parts(2)
    if kind == "FUNCTION" and c.key == "RETURNS" and any(t.key == "SONAME" for t in c.rest):
        walk.add("effect", "admin", "file")
    walk.add("function", walk.world.word(name))
    if kind == "TRIGGER":
        keys = [token.key for token in c.rest[:6]]
        if "ON" in keys:
            at = c.place + keys.index("ON") + 1
            c.back(at)
            walk.add("table", walk.world.word(c.parts(2)))
    walk.opaque(f"the body of a {kind.lower()} is not looked at")
    walk.doubt("what the body does is not known")


def _of_server(walk: Walk, c: Cursor, verb: str, kind: str) -> None:
    tag = {"SCHEMA": "DATABASE", "RESOURCE": "RESOURCE GROUP"}.get(kind, kind)
    plain(walk, f"{verb} {tag}", *_SERVER[kind], *(("drop",) if verb == "DROP" else ()))
    _skip_if(c)
    if kind in ("USER", "ROLE"):
        walk.add("role", *_accounts(c.rest))
    elif kind in ("DATABASE", "SCHEMA") and c.is_name():
        name = c.name()
        walk.add("table", f"{full(name)}.*" if verb == "DROP" else f"{full(name)}.?")
        walk.add("database", name)
        walk.changes = True


def _accounts(tokens: Sequence[Token]) -> list[str]:
    """Return what may be names of users or roles: the words before a host, and those after commas."""
    found, expects = [], True
    for token in tokens:
        if token.key == ",":
            expects = True
        elif (expects and token.key in ("<name>", "<string>")) or (expects and token.key.replace("_", "A").isalnum()):
            found.append(token.text)
            expects = False
    return found


def _table(walk: Walk, c: Cursor, temporary: bool) -> None:
    _skip_if(c)
    parts = c.parts(2)
    walk.add("table", walk.world.word(parts))
    if temporary:
        walk.creates.add(walk.world.relation(parts))
    like = c.take("LIKE") or (c.at("(", "LIKE") and c.take("(", "LIKE"))
    if like:
        source(walk, c.parts(2))
        return
    begin = c.place
    while not c.done and not _begins_query(c):
        if c.key == "(":
            _harmless(walk, c.tokens[slice(*c.balanced())])
        else:
            c.step()
    _options(walk, c.tokens[begin : c.place])
    if not c.done:
        walk.add("statement", "CREATE TABLE AS")
        walk.add("effect", "write")
        _copied(walk, c.rest)


def _begins_query(c: Cursor) -> bool:
    """Return True if a query comes next, in however many parentheses."""
    place = c.place
    while c.keys[place] == "(":
        place += 1
    return c.keys[place] in ("SELECT", "WITH", "VALUES", "TABLE") and c.keys[place : place + 2] != ["WITH", "SYSTEM"]


def _copied(walk: Walk, tokens: Sequence[Token]) -> None:
    """Read a query whose rows are kept under another name."""
    while tokens and tokens[-1].key in ("OPTION", "CHECK", "CASCADED", "LOCAL") and len(tokens) > 2:
        tokens = tokens[:-1]
    if tokens and tokens[-1].key == "WITH":
        tokens = tokens[:-1]
    results = len(walk.results)
    outputs = rows(walk, cursor(walk, tokens), tag=False)
    del walk.results[results:]
    walk.sets["copied"] |= union(outputs)


def _options(walk: Walk, tokens: Sequence[Token]) -> None:
    """Look for what makes a table show rows that are not its own."""
    for at, token in enumerate(tokens):
        following = [t for t in tokens[at + 1 : at + 3] if t.key != "="][:1]
        word = following[0].text.lower() if following else ""
        if token.key in ("ENGINE", "TYPE") and word not in ENGINES:
            walk.add("effect", "admin")
            walk.doubt(f"engine {word[:30]} is not known to keep its own rows", RELATIONS)
        elif token.key in ("ENGINE", "TYPE") and word == "blackhole":
            walk.add("effect", "drop")  # of all rows
        elif token.key in ("UNION", "CONNECTION") and not token.quoted and following:
            walk.doubt("a table that shows the rows of others", RELATIONS)
        elif token.key == "DIRECTORY" and not token.quoted:
            walk.add("effect", "file")


def _harmless(walk: Walk, tokens: Sequence[Token]) -> None:
    """Look at definitions of columns: their defaults and checks may call functions, their keys refer to tables."""
    opened: list[bool] = []  # parentheses around: of the columns of a key
    for at, token in enumerate(tokens[:-1]):
        before, key = tokens[at - 1].key if at else "", token.key
        if key == "(":
            opened.append(before in _KEYS or (at > 1 and tokens[at - 2].key in _KEYS))
        elif key == ")" and opened:
            opened.pop()
        if key == "SELECT":
            raise Unreadable("a query in a definition")
        if key == "REFERENCES":
            _parent(walk, cursor(walk, tokens[at + 1 :]))
        called = tokens[at + 1].key == "(" and (key == "<name>" or key.replace("_", "A").isalnum())
        if called and not (opened and opened[-1]):  # column(10) of a key is its length
            _called(walk, tokens, at, before)


def _parent(walk: Walk, c: Cursor) -> None:
    """Read what a key refers to: a row that refers to nothing is refused, which tells what is there."""
    parent = source(walk, c.parts(2))
    names = [token.text for token in c.tokens[slice(*c.balanced())] if token.key not in "(,)"] if c.key == "(" else []
    columns = [parent.column(name) for name in names]
    found = [column.names for column in columns if column is not None]
    walk.compare(NONE.union(*found) if names and len(found) == len(names) else parent.whole())


def _called(walk: Walk, tokens: Sequence[Token], at: int, before: str) -> None:
    """Note what stands before a parenthesis, if it is a function."""
    token, name = tokens[at], tokens[at].text.lower()
    if token.key in BOTH or token.key in _TYPES or before in _NAMED:
        return
    if before == "." and at > 2 and tokens[at - 3].key == "REFERENCES":
        return
    if before == "." or (name not in PURE and name not in EFFECTS):
        walk.opaque(f"function {name[:64]} is not known to be harmless")


_KEYS = frozenset("FULLTEXT INDEX KEY SPATIAL UNIQUE USING".split())
_TYPES = frozenset(
    """
BIT BOOL COLUMNS DATE DATETIME ENUM FIXED GEOMETRY HASH LIST NCHAR NVARCHAR TEXT THAN TIME TIMESTAMP VECTOR YEAR
""".split()
)
_NAMED = frozenset(
    "CONSTRAINT EXISTS FULLTEXT INDEX KEY PARTITION REFERENCES SPATIAL SUBPARTITION UNIQUE USING".split()
)
"""Words behind which a name stands that is no function."""


def _index(walk: Walk, c: Cursor) -> None:
    _skip_if(c)
    c.name()
    if c.take("USING"):
        c.step()
    c.need("ON")
    target = source(walk, c.parts(2))
    # Whether it can be made, and how long keys are, tells of the values.
    walk.compare(target.whole())


@begins("ALTER")
def _alter(walk: Walk, c: Cursor) -> None:
    c.need("ALTER")
    kind, _ = _kind(c)
    walk.ddl = True
    if kind in _CODE:
        plain(walk, f"ALTER {kind}", "schema", "procedure")
        _routine(walk, c, kind)
        return
    if kind in _SERVER:
        _of_server(walk, c, "ALTER", kind)
        return
    if kind not in ("TABLE", "VIEW", "SEQUENCE"):
        plain(walk, "ALTER", "schema")
        raise Unreadable(f"ALTER {kind[:30]} is not known here")
    plain(walk, f"ALTER {kind}", "schema")
    _skip_if(c)
    if kind == "VIEW":
        walk.add("table", walk.world.word(c.parts(2)))
        if c.key == "(":
            c.balanced()
        c.need("AS")
        _copied(walk, c.rest)
        return
    target = source(walk, c.parts(2), writing=True)
    if kind == "TABLE":
        _actions(walk, c, target.whole())


def _actions(walk: Walk, c: Cursor, whole: frozenset[str]) -> None:
    words = {token.key for token in c.rest if not token.quoted}
    if words & {"DROP", "TRUNCATE", "DISCARD"}:
        walk.add("effect", "drop")
    if words & {"TRUNCATE"}:
        walk.add("effect", "truncate", "write")
    if words & _MOVES:
        walk.sets["copied"] |= whole
    if words & _TRIED:
        walk.compare(whole)  # whether it can be done, and then the order of rows, tells of the values
    if any(one.key == "DEFAULT" and two.key not in _PLAIN for one, two in pairwise(c.rest)):
        walk.sets["copied"] |= whole  # a new column may have another as its default
    _options(walk, c.rest)
    _harmless(walk, c.rest)
    rest = list(c.rest)
    for at, token in enumerate(rest[:-1]):
        if token.key == "RENAME" and rest[at + 1].key in ("TO", "AS"):
            inner = cursor(walk, rest[at + 2 :])
            walk.add("table", walk.world.word(inner.parts(2)))
        elif token.key == "RENAME" and rest[at + 1].key not in ("COLUMN", "INDEX", "KEY", "CONSTRAINT"):
            walk.add("table", walk.world.word(cursor(walk, rest[at + 1 :]).parts(2)))


@begins("RENAME")
def _rename(walk: Walk, c: Cursor) -> None:
    c.need("RENAME")
    walk.ddl = True
    if c.take("USER"):
        plain(walk, "RENAME USER", "admin", "grant")
        walk.add("role", *(t.text for t in c.rest if t.key in ("<name>", "<string>") or t.key.isalpha()))
        return None
    plain(walk, "RENAME TABLE", "schema")
    if not c.pick("TABLE", "TABLES"):
        raise Unreadable("RENAME of what is no table")
    _skip_if(c)
    while True:
        walk.sets["copied"] |= source(walk, c.parts(2), writing=True).whole()
        if c.key == "WAIT" or c.take("NOWAIT"):
            c.take("WAIT")
            c.pick("<number>")
        c.need("TO")
        walk.add("table", walk.world.word(c.parts(2)))
        if not c.take(","):
            return c.end()


@begins("DROP")
def _drop(walk: Walk, c: Cursor) -> None:
    c.need("DROP")
    if c.at("PREPARE"):
        c.step()
        plain(walk, "DEALLOCATE")
        walk.steps.append(Step("deallocate", c.name().lower()))
        return
    kind, _ = _kind(c)
    walk.ddl = True
    if kind in _SERVER:
        _of_server(walk, c, "DROP", kind)
        return
    known = kind in ("TABLE", "VIEW", "INDEX", "SEQUENCE", *_CODE)
    plain(walk, f"DROP {kind}" if known else "DROP", "drop", "schema")
    if kind == "TABLES":
        kind = "TABLE"
        walk.add("statement", "DROP TABLE")
    if kind == "PACKAGE":
        c.take("BODY")
    _skip_if(c)
    match kind:
        case "TABLE" | "VIEW" | "SEQUENCE":
            walk.add("table", *(walk.world.word(parts) for parts in c.several(lambda c: c.parts(2))))
        case "INDEX":
            c.name()
            c.need("ON")
            walk.add("table", walk.world.word(c.parts(2)))
        case _ if kind in _CODE:
            walk.add("function", walk.world.word(c.parts(2)))
        case _:
            raise Unreadable(f"DROP {kind[:30]} is not known here")


@begins("TRUNCATE")
def _truncate(walk: Walk, c: Cursor) -> None:
    c.need("TRUNCATE")
    c.take("TABLE")
    plain(walk, "TRUNCATE TABLE", "truncate", "write")
    target = source(walk, c.parts(2))
    walk.sets["written"] |= target.whole()
    if c.key in ("WAIT", "NOWAIT"):
        return
    c.end()
