"""The words of `when` for PostgreSQL.

    key          values
    effect       what it does: read write schema drop truncate grant admin session procedure copy file lock notify
                 listen replication document
    statement    command tags of all its statements, hidden ones included: SELECT, CREATE TABLE ...
    table        schema.table it touches; without a schema, of any schema
    column       schema.table.column it reads; schema.table.* is the whole row
    compared     columns in WHERE, ON, GROUP BY, ORDER BY, DISTINCT, HAVING and set operations
    copied       columns whose values it writes elsewhere (CREATE TABLE AS, INSERT ... SELECT)
    written      columns it writes
    function     schema.function it calls
    role         roles it creates, alters, grants to, or becomes
    user         who the client logged in as
    database     the database of the connection
    application  application_name of the connection
    setting      settings it changes
    copy         in out file program
    count        number of statements: 1, or {gt: 1}, {ge: .., le: ..}, {lt: ..}

Source of the command tags: PostgreSQL 17, cmdtaglist.h.
"""

from collections.abc import Mapping

from appliance.facts.words import Key

EFFECTS = (
    "read", "write", "schema", "drop", "truncate", "grant", "admin", "session", "procedure", "copy", "file",
    "lock", "notify", "listen", "replication", "document",
)  # fmt: skip

_OBJECTS = (
    "ACCESS METHOD", "AGGREGATE", "CAST", "COLLATION", "CONVERSION", "DATABASE", "DOMAIN", "EVENT TRIGGER",
    "EXTENSION", "FOREIGN DATA WRAPPER", "FOREIGN TABLE", "FUNCTION", "INDEX", "LANGUAGE",
    "MATERIALIZED VIEW", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "POLICY", "PROCEDURE",
    "PUBLICATION", "ROLE", "ROUTINE", "RULE", "SCHEMA", "SEQUENCE", "SERVER", "STATISTICS", "SUBSCRIPTION",
    "TABLE", "TABLESPACE", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
    "TRANSFORM", "TRIGGER", "TYPE", "USER MAPPING", "VIEW",
)  # fmt: skip

_OTHER_TAGS = (
    "ALTER CONSTRAINT", "ALTER DEFAULT PRIVILEGES", "ALTER LARGE OBJECT", "ALTER SYSTEM", "ANALYZE", "BEGIN",
    "CALL", "CHECKPOINT", "CLOSE", "CLOSE CURSOR", "CLOSE CURSOR ALL", "CLUSTER", "COMMENT", "COMMIT",
    "COMMIT PREPARED", "COPY", "COPY FROM", "CREATE CONSTRAINT", "CREATE TABLE AS", "DEALLOCATE",
    "DEALLOCATE ALL", "DECLARE CURSOR", "DELETE", "DISCARD", "DISCARD ALL", "DISCARD PLANS",
    "DISCARD SEQUENCES", "DISCARD TEMP", "DO", "DROP OWNED", "DROP REPLICATION SLOT", "EXECUTE", "EXPLAIN",
    "FETCH", "GRANT", "GRANT ROLE", "IMPORT FOREIGN SCHEMA", "INSERT", "LISTEN", "LOAD", "LOCK TABLE",
    "LOGIN", "MERGE", "MOVE", "NOTIFY", "PREPARE", "PREPARE TRANSACTION", "REASSIGN OWNED",
    "REFRESH MATERIALIZED VIEW", "REINDEX", "RELEASE", "RESET", "REVOKE", "REVOKE ROLE", "ROLLBACK",
    "ROLLBACK PREPARED", "SAVEPOINT", "SECURITY LABEL", "SELECT", "SELECT FOR KEY SHARE",
    "SELECT FOR NO KEY UPDATE", "SELECT FOR SHARE", "SELECT FOR UPDATE", "SELECT INTO", "SET",
    "SET CONSTRAINTS", "SHOW", "START TRANSACTION", "TRUNCATE TABLE", "UNLISTEN", "UPDATE", "VACUUM",
    "VALUES",
)  # fmt: skip

TAGS = (*_OTHER_TAGS, *(f"{verb} {thing}" for verb in ("CREATE", "ALTER", "DROP") for thing in _OBJECTS))

KEYS: Mapping[str, Key] = {
    "effect": Key("word", "what the statement does", EFFECTS),
    "statement": Key("word", "command tags of all its statements, hidden ones included", TAGS),
    "table": Key("name", "schema.table it touches", parts=2),
    "column": Key("name", "schema.table.column it reads", parts=3, cells="table"),
    "compared": Key("name", "columns it filters, joins, groups or sorts by", parts=3),
    "copied": Key("name", "columns whose values it writes elsewhere", parts=3),
    "written": Key("name", "columns it writes", parts=3),
    "function": Key("name", "schema.function it calls", parts=2),
    "role": Key("text", "roles it creates, alters, grants to, or becomes"),
    "user": Key("text", "who the client logged in as"),
    "database": Key("text", "the database of the connection"),
    "application": Key("text", "application_name of the connection"),
    "setting": Key("text", "settings it changes"),
    "copy": Key("word", "where COPY moves data", ("in", "out", "file", "program")),
    "count": Key("number", "number of statements in one message"),
}
