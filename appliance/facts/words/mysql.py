"""The words of `when` for MySQL and MariaDB.

    key          values
    effect       what it does: read write schema drop truncate grant admin session procedure copy file lock kill
                 replication
    statement    commands of all its statements, hidden ones included: SELECT, CREATE TABLE ...
    table        database.table it touches; without a database, of any
    column       database.table.column it reads; database.table.* is the whole row
    compared     columns in WHERE, ON, GROUP BY, ORDER BY, DISTINCT, HAVING and unions, or that may fail or warn
    copied       columns whose values it writes elsewhere: tables, variables, files
    written      columns it writes
    function     database.function it calls; those built in are builtin.name
    role         users and roles it creates, alters, grants to, or becomes
    user         who the client logged in as
    database     the database of the connection, and the one it turns to
    setting      settings it changes
    copy         in out file
    count        number of statements: 1, or {gt: 1}, {ge: .., le: ..}, {lt: ..}

Source of the commands: MySQL 8.4 manual, "SQL Statements"; MariaDB, the same.
"""

from collections.abc import Mapping

from appliance.facts.words import Key

EFFECTS = (
    "read", "write", "schema", "drop", "truncate", "grant", "admin", "session", "procedure", "copy", "file",
    "lock", "kill", "replication",
)  # fmt: skip

_OBJECTS = (
    "DATABASE", "EVENT", "FUNCTION", "INDEX", "INSTANCE", "LIBRARY", "LOGFILE", "PACKAGE", "PROCEDURE",
    "RESOURCE GROUP", "ROLE", "SEQUENCE", "SERVER", "SPATIAL", "TABLE", "TABLESPACE", "TRIGGER", "USER", "VIEW",
)  # fmt: skip

_OTHERS = (
    "ALTER", "ANALYZE", "ANALYZE TABLE", "BACKUP", "BEGIN", "BINLOG", "CACHE", "CALL", "CHANGE MASTER", "CHECK",
    "CHECK TABLE", "CHECKSUM", "CHECKSUM TABLE", "CLONE", "COMMIT", "CREATE", "CREATE TABLE AS", "DEALLOCATE",
    "DELETE", "DESCRIBE", "DO", "DROP", "EXECUTE", "EXECUTE IMMEDIATE", "EXPLAIN", "FLUSH", "GET DIAGNOSTICS",
    "GRANT", "HANDLER", "HELP", "IMPORT", "INSERT", "INSTALL", "KILL", "LOAD DATA", "LOAD INDEX", "LOAD XML", "LOCK",
    "LOCK TABLES", "LOGIN", "OPTIMIZE", "OPTIMIZE TABLE", "PREPARE", "PURGE", "RELEASE", "RENAME TABLE",
    "RENAME USER", "REPAIR", "REPAIR TABLE", "REPLACE", "RESET", "RESIGNAL", "RESTART", "REVOKE", "ROLLBACK",
    "SAVEPOINT", "SELECT", "SELECT INTO", "SET", "SHOW", "SHUTDOWN", "SIGNAL", "START REPLICA", "STOP REPLICA",
    "TABLE", "TRUNCATE TABLE", "UNINSTALL", "UNLOCK", "UNLOCK TABLES", "UPDATE", "USE", "VALUES", "XA",
)  # fmt: skip

STATEMENTS = (*_OTHERS, *(f"{verb} {thing}" for verb in ("CREATE", "ALTER", "DROP") for thing in _OBJECTS))

KEYS: Mapping[str, Key] = {
    "effect": Key("word", "what the statement does", EFFECTS),
    "statement": Key("word", "commands of all its statements, hidden ones included", STATEMENTS),
    "table": Key("name", "database.table it touches", parts=2),
    "column": Key("name", "database.table.column it reads", parts=3, cells="table"),
    "compared": Key("name", "columns it filters, joins, groups or sorts by", parts=3),
    "copied": Key("name", "columns whose values it writes elsewhere", parts=3),
    "written": Key("name", "columns it writes", parts=3),
    "function": Key("name", "database.function it calls", parts=2),
    "role": Key("text", "users and roles it creates, alters, grants to, or becomes"),
    "user": Key("text", "who the client logged in as"),
    "database": Key("text", "the database of the connection"),
    "setting": Key("text", "settings it changes"),
    "copy": Key("word", "where LOAD DATA and INTO OUTFILE move data", ("in", "out", "file")),
    "count": Key("number", "number of statements in one message"),
}
