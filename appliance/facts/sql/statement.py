"""Statements: from the kind of a statement to its command tag and effects.

`SIMPLE` has those that need no more than that; the others have visitors in select.py, modify.py, schema.py,
session.py, copying.py and body.py. A kind in neither makes the text unknown.
Source: PostgreSQL 15 manual, "SQL Commands"; command tags from its list of event trigger tags.
"""

from typing import Any

from appliance.facts.sql.reading import NONE, Names, Reading
from appliance.facts.sql.settings import assign, becomes, constant
from appliance.facts.sql.walk import VISITORS, Env, Visitor, Walk

_SIMPLE = """
AlterCollationStmt          | ALTER COLLATION                  | schema
AlterDatabaseRefreshCollStmt| ALTER DATABASE                   | schema admin
AlterDatabaseSetStmt        | ALTER DATABASE                   | admin
AlterDatabaseStmt           | ALTER DATABASE                   | admin
AlterDefaultPrivilegesStmt  | ALTER DEFAULT PRIVILEGES         | grant
AlterDomainStmt             | ALTER DOMAIN                     | schema
AlterEnumStmt               | ALTER TYPE                       | schema
AlterEventTrigStmt          | ALTER EVENT TRIGGER              | schema admin
AlterExtensionContentsStmt  | ALTER EXTENSION                  | schema admin
AlterExtensionStmt          | ALTER EXTENSION                  | schema admin
AlterFdwStmt                | ALTER FOREIGN DATA WRAPPER       | schema admin
AlterForeignServerStmt      | ALTER SERVER                     | schema admin
AlterObjectDependsStmt      | ALTER                            | schema
AlterOpFamilyStmt           | ALTER OPERATOR FAMILY            | schema admin
AlterOperatorStmt           | ALTER OPERATOR                   | schema
AlterPolicyStmt             | ALTER POLICY                     | schema grant
AlterPublicationStmt        | ALTER PUBLICATION                | schema admin
AlterSeqStmt                | ALTER SEQUENCE                   | schema
AlterStatsStmt              | ALTER STATISTICS                 | schema
AlterSubscriptionStmt       | ALTER SUBSCRIPTION               | schema admin
AlterSystemStmt             | ALTER SYSTEM                     | admin
AlterTSConfigurationStmt    | ALTER TEXT SEARCH CONFIGURATION  | schema
AlterTSDictionaryStmt       | ALTER TEXT SEARCH DICTIONARY     | schema
AlterTableMoveAllStmt       | ALTER TABLE                      | schema admin
AlterTableSpaceOptionsStmt  | ALTER TABLESPACE                 | schema admin
AlterTypeStmt               | ALTER TYPE                       | schema
AlterUserMappingStmt        | ALTER USER MAPPING               | schema admin
CheckPointStmt              | CHECKPOINT                       | admin
ConstraintsSetStmt          | SET CONSTRAINTS                  | session
CreateAmStmt                | CREATE ACCESS METHOD             | schema admin
CreateCastStmt              | CREATE CAST                      | schema
CreateConversionStmt        | CREATE CONVERSION                | schema
CreateDomainStmt            | CREATE DOMAIN                    | schema
CreateEnumStmt              | CREATE TYPE                      | schema
CreateEventTrigStmt         | CREATE EVENT TRIGGER             | schema admin
CreateExtensionStmt         | CREATE EXTENSION                 | schema admin
CreateFdwStmt               | CREATE FOREIGN DATA WRAPPER      | schema admin
CreateForeignServerStmt     | CREATE SERVER                    | schema admin
CreateOpClassStmt           | CREATE OPERATOR CLASS            | schema admin
CreateOpFamilyStmt          | CREATE OPERATOR FAMILY           | schema admin
CreatePLangStmt             | CREATE LANGUAGE                  | schema admin
CreatePublicationStmt       | CREATE PUBLICATION               | schema admin
CreateRangeStmt             | CREATE TYPE                      | schema
CreateSchemaStmt            | CREATE SCHEMA                    | schema
CreateStatsStmt             | CREATE STATISTICS                | schema
CreateSubscriptionStmt      | CREATE SUBSCRIPTION              | schema admin
CreateTableSpaceStmt        | CREATE TABLESPACE                | schema admin file
CreateTransformStmt         | CREATE TRANSFORM                 | schema admin
CreateUserMappingStmt       | CREATE USER MAPPING              | schema admin
CreatedbStmt                | CREATE DATABASE                  | schema admin
DropOwnedStmt               | DROP OWNED                       | drop schema grant
DropSubscriptionStmt        | DROP SUBSCRIPTION                | drop schema admin
DropTableSpaceStmt          | DROP TABLESPACE                  | drop schema admin file
DropUserMappingStmt         | DROP USER MAPPING                | drop schema admin
DropdbStmt                  | DROP DATABASE                    | drop schema admin
ImportForeignSchemaStmt     | IMPORT FOREIGN SCHEMA            | schema admin
ListenStmt                  | LISTEN                           | listen
LoadStmt                    | LOAD                             | admin file
LockStmt                    | LOCK TABLE                       | lock
NotifyStmt                  | NOTIFY                           | notify
ReassignOwnedStmt           | REASSIGN OWNED                   | schema grant
RefreshMatViewStmt          | REFRESH MATERIALIZED VIEW        | read write
SecLabelStmt                | SECURITY LABEL                   | schema grant
UnlistenStmt                | UNLISTEN                         | listen
VariableShowStmt            | SHOW                             | session
"""

# Statements that refer to a whole set of relations without naming them.
_ALL_TABLES = frozenset(("DropOwnedStmt", "ReassignOwnedStmt", "AlterTableMoveAllStmt", "DropdbStmt"))
# What may run code of a kind we cannot see: scripts of extensions, triggers of events, remote servers.
_FOREIGN = frozenset(("CreateExtensionStmt", "AlterExtensionStmt", "LoadStmt", "ImportForeignSchemaStmt"))
_SETTING = frozenset(("AlterSystemStmt", "AlterDatabaseSetStmt"))


def _simple(name: str, tag: str, effects: tuple[str, ...]) -> Visitor:
    def visit(walk: Walk, node: Any, env: Env) -> Names:
        walk.add("statement", tag)
        walk.add("effect", *effects)
        walk.children(node, Env(variables=True), "setstmt")
        if name in _SETTING:
            walk.add("setting", node.setstmt.name.lower() or "all")  # of later sessions, not of this one
            becomes(walk, node.setstmt.name.lower(), [constant(walk, arg) for arg in node.setstmt.args])
        if "schema" in effects:
            walk.ddl = True
        if name in _ALL_TABLES:
            walk.doubt(f"{tag} touches tables it does not name", frozenset(("table",)))
        if name == "AlterDomainStmt":  # a new constraint is tried on all columns of the domain
            walk.doubt("which columns are of the domain is not known", frozenset(("table", "compared")))
        if name in _FOREIGN:
            walk.opaque(f"{tag} runs code that is not seen")
        return NONE

    return visit


for _line in _SIMPLE.strip().splitlines():
    _name, _tag, _effects = (part.strip() for part in _line.split("|"))
    VISITORS[_name] = _simple(_name, _tag, tuple(_effects.split()))


def statement(walk: Walk, node: Any, env: Env) -> None:
    """Visit a statement as a whole, wrapped as pb.Node."""
    kind = node.WhichOneof("node")
    walk.outputs = []
    if kind == "select_stmt":
        walk.add("statement", "SELECT")
        walk.add("effect", "read")
    walk.visit(node, env)
    if walk.world.needs_catalog and "grant" in walk.sets["effect"]:
        assign(walk, "role", None)  # it may use other schemas of the path than before


def apart(walk: Walk, node: Any, env: Env) -> Reading:
    """Return the reading of a statement inside another, leaving the other as it is."""
    inner = Walk(walk.world)
    inner.ddl = walk.ddl
    statement(inner, node, env)
    return inner.reading()
