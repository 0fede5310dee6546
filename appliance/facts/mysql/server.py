"""Statements about the server: SHOW, DESCRIBE and EXPLAIN, LOAD DATA, rights, locks, administration.

Source: MySQL 8.4 manual, "Database Administration Statements", "Utility Statements", "LOAD DATA Statement"; MariaDB,
"Administrative SQL Statements", "ANALYZE Statement".
"""

from collections.abc import Sequence

from appliance.facts.mysql import change
from appliance.facts.mysql.cursor import Cursor
from appliance.facts.mysql.lexer import Token, Unreadable
from appliance.facts.mysql.reading import KEYS, NONE, Output
from appliance.facts.mysql.relations import ANY_TABLE, source
from appliance.facts.mysql.session import plain
from appliance.facts.mysql.statement import begins, statement, values_of
from appliance.facts.mysql.walk import Env, Walk

WIDE = 80  # columns of a result of SHOW, at least; MySQL's SHOW REPLICA STATUS has 60

_ADMIN = {
    "PROCESSLIST": ("read",), "BINLOG": ("admin", "replication"), "RELAYLOG": ("admin", "replication"),
    "BINARY": ("session",), "MASTER": ("session",), "SLAVE": ("session",), "REPLICA": ("session",),
    "EXPLAIN": ("read",),
}  # fmt: skip
_VALUES = frozenset("PROCESSLIST BINLOG RELAYLOG PROFILE PROFILES EXPLAIN LOCKS MUTEX".split())
"""SHOW of what may hold values: statements of others, changes, keys that are locked. ENGINE ... STATUS too."""

_ABOUT = frozenset("COLUMNS FIELDS INDEX INDEXES KEYS".split())


@begins("SHOW")
def _show(walk: Walk, c: Cursor) -> None:
    c.need("SHOW")
    words = [token.key for token in c.rest[:4]]
    plain(walk, "SHOW", "read" if set(words) & {"TABLE", "TABLES", "CREATE", *_ABOUT} else "session")
    if {"WARNINGS", "ERRORS"} & set(words):
        walk.diagnoses = True
        walk.results.append((Output("level"), Output("code"), Output("message", sure=False)))
        if "(" in words:  # COUNT(*)
            walk.results[-1] = (Output("count", sure=False),)
        return
    if set(words) & _VALUES or words[:1] == ["ENGINE"] or words[:1] == ["ANALYZE"]:
        walk.add("effect", *_ADMIN.get(next((w for w in words if w in _ADMIN), ""), ("session",)))
        walk.add("table", ANY_TABLE)
        walk.results.append(None)
    else:
        walk.results.append(tuple(Output("") for _ in range(WIDE)))
    _shown(walk, c)
    _condition(walk, c)


def _shown(walk: Walk, c: Cursor) -> None:
    """Note the relation whose form is shown."""
    keys = [token.key for token in c.rest]
    if keys[:1] == ["CREATE"] and keys[1:2] and keys[1] in ("TABLE", "VIEW", "SEQUENCE"):
        c.step()
        c.step()
        if c.take("IF"):
            c.need("NOT", "EXISTS")
        walk.add("table", walk.world.word(c.parts(2)))
        return
    while c.key in ("EXTENDED", "FULL"):
        c.step()
    if c.pick(*_ABOUT):
        if not c.pick("FROM", "IN"):
            raise Unreadable("SHOW of the columns of nothing")
        parts = c.parts(2)
        if c.pick("FROM", "IN"):
            parts = (c.name(), parts[-1])
        walk.add("table", walk.world.word(parts))
    elif {"FROM", "IN"} & set(keys[:4]):  # SHOW [FULL] TABLES FROM name
        at = next(n for n, key in enumerate(keys) if key in ("FROM", "IN"))
        walk.add("database", *(token.text for token in c.rest[at + 1 : at + 2]))


def _condition(walk: Walk, c: Cursor) -> None:
    """Read WHERE: it may hold queries."""
    rest = list(c.rest)
    for at, token in enumerate(rest):
        if token.key == "WHERE" and not token.quoted:
            walk.compare(values_of(walk, c, rest[at + 1 :], Env(variables=True)))
            return


@begins("DESCRIBE", "DESC", "EXPLAIN")
def _explain(walk: Walk, c: Cursor) -> None:
    tag = "EXPLAIN" if c.step().key == "EXPLAIN" else "DESCRIBE"
    walk.add("statement", tag)
    walk.add("effect", "read")
    runs = _options(c)
    if c.key in change.STARTS or c.key == "ANALYZE":
        _planned(walk, c.rest, runs or c.take("ANALYZE"))
    elif c.at("FOR", "CONNECTION") or c.key in ("FORMAT", "INTO"):
        walk.add("table", ANY_TABLE)
        walk.results.append(None)
    else:
        walk.add("table", walk.world.word(c.parts(2)))
        walk.results.append(tuple(Output("") for _ in range(WIDE)))
        if not c.done:
            c.step()
        c.end()


def _options(c: Cursor) -> bool:
    """Take what stands before the statement; return True if it runs."""
    runs = False
    while True:
        if c.pick("EXTENDED", "PARTITIONS"):
            continue
        if c.take("ANALYZE"):
            runs = True
        elif c.take("FORMAT", "="):
            c.step()
        else:
            return runs


def _planned(walk: Walk, tokens: Sequence[Token], runs: bool) -> None:
    """Note what a statement would do whose plan is shown. Planning reads: constants are looked up, subqueries and
    functions may run, and SHOW WARNINGS tells what was found."""
    inner = Walk(walk.world)
    inner.read = walk.read
    statement(inner, tokens, walk.whole)
    reading = inner.reading()
    if runs:
        walk.absorb(reading)
    else:
        walk.absorb(reading, [key for key in KEYS if key not in ("effect", "statement")])
        walk.sets["effect"] |= reading.values["effect"] - {"write", "lock", "file", "copy"}
    walk.results.append(None)


@begins("ANALYZE")
def _analyze(walk: Walk, c: Cursor) -> None:
    """MariaDB: ANALYZE statement runs it. ANALYZE TABLE gathers statistics."""
    c.need("ANALYZE")
    c.pick("LOCAL", "NO_WRITE_TO_BINLOG")
    if c.at("TABLE") or c.at("TABLES"):
        _tables(walk, c, "ANALYZE TABLE")
        return
    plain(walk, "ANALYZE", "read")
    _options(c)
    _planned(walk, c.rest, True)


@begins("CHECK", "CHECKSUM", "OPTIMIZE", "REPAIR")
def _maintain(walk: Walk, c: Cursor) -> None:
    first = c.step().key
    c.pick("LOCAL", "NO_WRITE_TO_BINLOG")
    if c.key not in ("TABLE", "TABLES"):
        plain(walk, first, "admin")
        if c.key == "VIEW":
            return
        raise Unreadable(f"{first} of what is no table")
    found = _tables(walk, c, f"{first} TABLE")
    if first == "CHECKSUM":
        walk.compare(found)  # equal sums, equal values


def _tables(walk: Walk, c: Cursor, tag: str) -> frozenset[str]:
    c.step()
    plain(walk, tag, "admin")
    whole = NONE
    for parts in c.several(lambda c: c.parts(2)):
        whole |= source(walk, parts).whole()
    walk.results.append(tuple(Output("") for _ in range(WIDE)))
    return whole


@begins("LOAD")
def _load(walk: Walk, c: Cursor) -> None:
    c.need("LOAD")
    if c.key not in ("DATA", "XML"):
        plain(walk, "LOAD INDEX", "admin")
        return
    plain(walk, f"LOAD {c.step().key}", "write", "copy")
    walk.add("copy", "in")
    c.pick("LOW_PRIORITY", "CONCURRENT")
    if c.take("LOCAL"):
        walk.doubt("the file that the client sends is not looked at", frozenset(("text",)))
    else:
        walk.add("effect", "file")
        walk.add("copy", "file")
    c.need("INFILE")
    c.string()
    tests = bool(c.pick("REPLACE", "IGNORE"))
    c.need("INTO", "TABLE")
    target = source(walk, c.parts(2), writing=True)
    walk.sets["written"] |= target.whole()
    if tests:
        walk.compare(target.whole())
    rest = list(c.rest)
    env = Env()
    env.sources = [target]
    for at, token in enumerate(rest):
        if token.key == "SET" and not token.quoted and rest[at - 1].key != "CHARACTER":
            _sets(walk, c, rest[at + 1 :], env)
            return


def _sets(walk: Walk, c: Cursor, tokens: Sequence[Token], env: Env) -> None:
    depth, begin = 0, 0
    for at, token in enumerate([*tokens, Token(",", ",", 0, 0, False)]):
        depth += (token.key == "(") - (token.key == ")")
        if token.key == "," and not depth:
            part = tokens[begin:at]
            signs = [n for n, t in enumerate(part) if t.key in ("=", ":=")]
            if not signs:
                raise Unreadable("LOAD DATA with a SET that sets nothing")
            walk.sets["copied"] |= values_of(walk, c, part[signs[0] + 1 :], env)
            begin = at + 1


# -- rights, locks, administration ------------------------------------------------------------------------------------


@begins("GRANT", "REVOKE")
def _grant(walk: Walk, c: Cursor) -> None:
    plain(walk, c.step().key, "grant")
    rest = list(c.rest)
    for at, token in enumerate(rest):
        if token.key == "ON" and at + 1 < len(rest):
            _privileged(walk, rest[at + 1 :])
        if token.key in ("TO", "FROM"):
            walk.add("role", *(t.text for t in rest[at + 1 : at + 2]))


def _privileged(walk: Walk, tokens: Sequence[Token]) -> None:
    names = [t for t in tokens[:4] if t.key not in (".", "TABLE", "FUNCTION", "PROCEDURE")]
    dotted = any(t.key == "." for t in tokens[1:3])
    if names and names[0].key == "*":
        walk.add("table", "*.*" if dotted else f"{walk.world.database or '?'}.*")
    elif names:
        parts = tuple(t.text for t in names[: 2 if dotted else 1])
        walk.add("table", walk.world.word(parts))


@begins("LOCK", "UNLOCK")
def _lock(walk: Walk, c: Cursor) -> None:
    first = c.step().key
    if c.key not in ("TABLE", "TABLES"):
        plain(walk, first, "admin", "lock")
        return
    c.step()
    plain(walk, f"{first} TABLES", "lock")
    if first == "UNLOCK":
        c.end()
        return
    while True:
        walk.add("table", walk.world.word(c.parts(2)))
        c.alias()
        c.pick("LOW_PRIORITY", "CONCURRENT")
        if not c.pick("READ", "WRITE"):
            raise Unreadable("LOCK TABLES of no kind")
        c.pick("LOCAL", "CONCURRENT")
        if not c.take(","):
            break
    if c.pick("WAIT", "NOWAIT"):
        c.pick("<number>")
    c.end()


@begins("FLUSH", "RESET", "PURGE", "SHUTDOWN", "RESTART", "CLONE", "INSTALL", "UNINSTALL", "CACHE", "IMPORT", "BACKUP")
def _administer(walk: Walk, c: Cursor) -> None:
    first = c.step().key
    effects = {
        "PURGE": ("admin", "replication"), "CLONE": ("admin", "replication"), "INSTALL": ("admin", "procedure"),
        "IMPORT": ("admin", "schema", "file"),
    }.get(first, ("admin",))  # fmt: skip
    plain(walk, first, *effects)
    if first == "RESET" and c.key not in ("PERSIST", "QUERY"):
        walk.add("effect", "replication")
    if first == "INSTALL":
        walk.opaque("a plugin of the server")


@begins("CHANGE", "STOP", "BINLOG")
def _replicate(walk: Walk, c: Cursor) -> None:
    first = c.step().key
    tag = {"CHANGE": "CHANGE MASTER", "STOP": "STOP REPLICA"}.get(first, first)
    plain(walk, tag, "admin", "replication")
    if first == "BINLOG":
        walk.opaque("changes written as a log")


@begins("HELP")
def _help(walk: Walk, c: Cursor) -> None:
    plain(walk, "HELP")


