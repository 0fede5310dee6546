"""Statements about the session: SET, USE, transactions, prepared statements, KILL, diagnostics.

Source: MySQL 8.4 manual, "Transactional and Locking Statements", "Prepared Statements", "SET Syntax", "KILL Statement";
MariaDB, "EXECUTE IMMEDIATE", "SET STATEMENT".
"""

from appliance.facts.mysql.cursor import Cursor
from appliance.facts.mysql.lexer import Token, Unreadable, kept
from appliance.facts.mysql.reading import NONE, Output, Step
from appliance.facts.mysql.relations import ANY, ANY_TABLE, source
from appliance.facts.mysql.statement import begins, statement, values_of
from appliance.facts.mysql.walk import Env, Walk

READS = frozenset(
    "sql_mode character_set_client character_set_connection collation_connection charset names all".split()
)
"""Settings that decide how statements are read."""

_SCOPES = ("GLOBAL", "SESSION", "LOCAL", "PERSIST", "PERSIST_ONLY")
_ISOLATION = (
    "ISOLATION", "LEVEL", "READ", "WRITE", "ONLY", "COMMITTED", "UNCOMMITTED", "REPEATABLE", "SERIALIZABLE", ",",
)  # fmt: skip
_LASTING = ("GLOBAL", "PERSIST", "PERSIST_ONLY")


def plain(walk: Walk, tag: str, *effects: str) -> None:
    """Note a statement that is all said by its tag."""
    walk.add("statement", tag)
    walk.add("effect", *(effects or ("session",)))


@begins("USE")
def _use(walk: Walk, c: Cursor) -> None:
    c.need("USE")
    plain(walk, "USE")
    walk.add("database", c.name())
    walk.changes = True
    c.end()


@begins("START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "XA", "BEGIN")
def _transaction(walk: Walk, c: Cursor) -> None:
    first = c.step().key
    match first:
        case "START":
            if c.key in ("SLAVE", "REPLICA", "ALL", "GROUP_REPLICATION"):
                return plain(walk, "START REPLICA", "admin", "replication")
            c.need("TRANSACTION")
            return plain(walk, "BEGIN")
        case "BEGIN":
            if not c.done and not (c.take("WORK") and c.done):
                plain(walk, "BEGIN", "procedure")
                raise Unreadable("a block of statements")
    return plain(walk, first)


@begins("SET")
def _set(walk: Walk, c: Cursor) -> None:
    c.need("SET")
    plain(walk, "SET")
    if c.take("STATEMENT"):
        return _set_statement(walk, c)
    if c.at("DEFAULT", "ROLE"):
        walk.add("effect", "grant")
        walk.changes = True  # other settings may follow
        return _roles(walk, c)
    if c.take("ROLE"):
        walk.changes = walk.ddl = True
        return _roles(walk, c)
    while True:
        _assignment(walk, c)
        if c.done:
            return None
        c.need(",")


def _roles(walk: Walk, c: Cursor) -> None:
    walk.add("role", *(t.text for t in c.rest if t.key in ("<name>", "<string>") or t.key.isalpha()))


def _assignment(walk: Walk, c: Cursor) -> None:
    """Take one assignment: to a variable of the user, or to a setting."""
    if c.take("PASSWORD"):  # of MariaDB, anywhere among others
        walk.add("effect", "grant")
        walk.add("setting", "password")
        _value(c)
        return
    if c.take("NAMES") or c.take("CHARACTER", "SET") or c.take("CHARSET"):
        walk.add("setting", "names")
        walk.changes = True
        _value(c)
        return
    if (c.key in ("TRANSACTION", *_SCOPES) and c.at("TRANSACTION")) or c.ahead(1) == "TRANSACTION":
        if c.pick(*_SCOPES) in _LASTING:
            walk.add("effect", "admin")
        c.need("TRANSACTION")
        walk.add("setting", "transaction")
        while c.pick(*_ISOLATION):
            continue
        return
    if c.key == "<variable>":
        c.step()
        if not c.pick("=", ":="):
            raise Unreadable("SET of a variable without a sign")
        names = _given(walk, c)
        walk.sets["copied"] |= names
        return
    _setting(walk, c)


def _setting(walk: Walk, c: Cursor) -> None:
    scope = c.pick(*_SCOPES)
    if c.key == "<system>":
        parts = c.step().text.split(".")
        if parts[0].upper() in _SCOPES and len(parts) > 1:
            scope, parts = parts[0].upper(), parts[1:]
    else:
        parts = [p.lower() for p in c.parts(2)]
    name = ".".join(parts)
    if scope in _LASTING:
        walk.add("effect", "admin")
    walk.add("setting", name)
    walk.changes = walk.changes or name in READS
    if not c.pick("=", ":="):
        raise Unreadable("SET of a setting without a sign")
    names = _given(walk, c)
    walk.sets["copied"] |= names
    walk.compare(names)


def _value(c: Cursor) -> list[Token]:
    """Take the tokens up to the next comma that is not in parentheses."""
    found: list[Token] = []
    depth = 0
    while not c.done and (depth or c.key != ","):
        token = c.step()
        depth += (token.key == "(") - (token.key == ")")
        found.append(token)
    return found


def _given(walk: Walk, c: Cursor) -> frozenset[str]:
    """Return the columns the value comes from; a bare word is a value too."""
    tokens = _value(c)
    if not tokens:
        raise Unreadable("SET without a value")
    if len(tokens) == 1 and tokens[0].key not in ("*", "("):
        return NONE
    return values_of(walk, c, tokens, Env(variables=True))


def _set_statement(walk: Walk, c: Cursor) -> None:
    """MariaDB: SET STATEMENT name = value, ... FOR statement."""
    while True:
        name = c.name().lower()
        walk.add("setting", name)
        c.need("=")
        value: list[Token] = []
        while c.key not in ("FOR", ",", ""):
            value.append(c.step())
        if name in READS or len(value) != 1:
            raise Unreadable("SET STATEMENT that changes how the statement is read")
        if not c.take(","):
            break
    c.need("FOR")
    if c.done:
        raise Unreadable("SET STATEMENT for nothing")
    statement(walk, c.rest, walk.whole)


# -- statements of the session ----------------------------------------------------------------------------------------


@begins("PREPARE")
def _prepare(walk: Walk, c: Cursor) -> None:
    c.need("PREPARE")
    plain(walk, "PREPARE")
    name = c.name().lower()
    c.need("FROM")
    text = _literal(walk, c)
    walk.steps.append(Step("prepare", name, text))
    if text is not None:
        inner = walk.read(text)
        if inner.steps or inner.count != 1:
            raise Unreadable("PREPARE of what cannot be prepared")
        walk.absorb(inner)


@begins("EXECUTE")
def _execute(walk: Walk, c: Cursor) -> None:
    c.need("EXECUTE")
    plain(walk, "EXECUTE")
    if c.key == "IMMEDIATE":
        c.step()
        text = _literal(walk, c)
        if text is None:
            walk.opaque("a statement made at run time")
        else:
            _immediately(walk, text)
        return
    walk.steps.append(Step("execute", c.name().lower()))
    if c.take("USING"):
        for token in c.rest:
            if token.key not in ("<variable>", ",", "<number>", "<string>", "NULL"):
                raise Unreadable("EXECUTE with an expression")


def _immediately(walk: Walk, text: str) -> None:
    walk.add("statement", "EXECUTE IMMEDIATE")
    inner = walk.read(text)
    if inner.steps or inner.count != 1:
        raise Unreadable("EXECUTE IMMEDIATE of what cannot be prepared")
    walk.absorb(inner)
    walk.results.append(inner.results[0] if inner.results else None)


def _literal(walk: Walk, c: Cursor) -> str | None:
    """Return the text of a statement given as one plain string, else None."""
    if c.key != "<string>" or c.ahead(1) not in ("", "USING"):
        return None
    token = c.step()
    if token.quoted or ("\\" in token.text and walk.world.mode.backslash) or not kept(token.text, walk.world.mode):
        return None
    quote = walk.whole[token.end - 1]
    while c.take("USING"):
        for more in c.rest:
            if more.key not in ("<variable>", ",", "<number>", "<string>", "NULL"):
                return None
    return token.text.replace(quote * 2, quote)


@begins("DEALLOCATE")
def _deallocate(walk: Walk, c: Cursor) -> None:
    c.need("DEALLOCATE", "PREPARE")
    plain(walk, "DEALLOCATE")
    walk.steps.append(Step("deallocate", c.name().lower()))
    c.end()


@begins("KILL")
def _kill(walk: Walk, c: Cursor) -> None:
    c.need("KILL")
    c.pick("HARD", "SOFT")
    plain(walk, "KILL", "kill")
    kind = c.pick("QUERY", "CONNECTION")
    if c.at("ID"):
        c.step()
        kind = "ID"
    if c.take("USER"):
        walk.add("effect", "admin")
        return
    if c.key == "<number>" and c.ahead(1) == "" and c.token.text.isdigit():
        number = int(c.step().text)
        if kind != "ID" and number < 1 << 32:
            walk.cancels = number
        return
    walk.compare(values_of(walk, c, c.rest))


# -- diagnostics ------------------------------------------------------------------------------------------------------

_CONDITIONS = frozenset(
    """
CLASS_ORIGIN SUBCLASS_ORIGIN RETURNED_SQLSTATE MESSAGE_TEXT MYSQL_ERRNO CONSTRAINT_CATALOG CONSTRAINT_SCHEMA
CONSTRAINT_NAME CATALOG_NAME SCHEMA_NAME TABLE_NAME COLUMN_NAME CURSOR_NAME NUMBER ROW_COUNT ROW_NUMBER
""".split()
)


@begins("GET")
def _get(walk: Walk, c: Cursor) -> None:
    """GET DIAGNOSTICS: what the statement before said, into variables."""
    c.need("GET")
    c.pick("CURRENT", "STACKED")
    c.need("DIAGNOSTICS")
    plain(walk, "GET DIAGNOSTICS")
    walk.diagnoses = walk.keeps = True


@begins("SIGNAL", "RESIGNAL")
def _signal(walk: Walk, c: Cursor) -> None:
    plain(walk, c.step().key)
    if c.take("SQLSTATE"):
        c.take("VALUE")
        c.string()
    elif not c.done and c.key != "SET":
        c.name()
    if c.take("SET"):
        while True:
            if c.step().key not in _CONDITIONS or not c.take("="):
                raise Unreadable("SIGNAL of what is no condition")
            if not c.pick("<string>", "<number>", "<variable>", "<system>"):
                raise Unreadable("SIGNAL with an expression")
            if not c.take(","):
                break
    c.end()


@begins("DO")
def _do(walk: Walk, c: Cursor) -> None:
    c.need("DO")
    plain(walk, "DO", "read")
    walk.compare(values_of(walk, c, c.rest))


@begins("CALL")
def _call(walk: Walk, c: Cursor) -> None:
    c.need("CALL")
    plain(walk, "CALL", "procedure")
    name = walk.world.word(c.parts(2))
    walk.add("function", name)
    moved = NONE
    if c.key == "(":
        begin, end = c.balanced()
        if end - begin > 2:
            moved = values_of(walk, c, c.tokens[begin + 1 : end - 1], Env(variables=True))
    c.end()
    walk.opaque(f"CALL of {name[:64]}", moved)


@begins("HANDLER")
def _handler(walk: Walk, c: Cursor) -> None:
    """HANDLER: rows of one table, read where they lie. Which one an alias means was said when it was opened."""
    c.need("HANDLER")
    plain(walk, "HANDLER", "read")
    parts = c.parts(2)
    if c.take("OPEN"):
        found = source(walk, parts)
        walk.sets["column"] |= found.whole()
        return
    if c.take("CLOSE"):
        return
    c.need("READ")
    found = source(walk, parts)
    walk.add("table", ANY_TABLE)
    walk.add("column", ANY)
    walk.sets["column"] |= found.whole()
    walk.results.append((Output("*", found.whole() | {ANY}, sure=False),))
    if c.pick("FIRST", "NEXT"):
        if c.done:
            return
    else:
        c.name()
        walk.compare(found.whole() | {ANY})
    if any(token.key in ("SELECT", "TABLE", "VALUES") for token in c.rest):
        raise Unreadable("HANDLER with a query in its condition")
    if not c.done:
        walk.compare(found.whole() | {ANY})


@begins("RETURN", "FETCH", "OPEN", "CLOSE", "LEAVE", "ITERATE")
def _body(walk: Walk, c: Cursor) -> None:
    raise Unreadable("a statement of a routine's body")

