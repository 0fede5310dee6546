"""Statements that change the schema, rights or roles."""

from collections.abc import Iterable
from typing import Any

from postgast import pg_query_pb2 as pb

from appliance.facts.catalog import full
from appliance.facts.sql.reading import NONE, RELATIONS, Names
from appliance.facts.sql.relations import dotted, named, source, table, temporary
from appliance.facts.sql.select import query, union
from appliance.facts.sql.settings import becomes, constant
from appliance.facts.sql.walk import Env, Source, Walk, visits

_WORDS = {
    "AMOP": "OPERATOR FAMILY",
    "AMPROC": "OPERATOR FAMILY",
    "ATTRIBUTE": "TYPE",
    "COLUMN": "TABLE",
    "DEFACL": "DEFAULT PRIVILEGES",
    "DOMCONSTRAINT": "DOMAIN",
    "FDW": "FOREIGN DATA WRAPPER",
    "FOREIGN_SERVER": "SERVER",
    "LARGEOBJECT": "LARGE OBJECT",
    "MATVIEW": "MATERIALIZED VIEW",
    "OPCLASS": "OPERATOR CLASS",
    "OPFAMILY": "OPERATOR FAMILY",
    "STATISTIC_EXT": "STATISTICS",
    "TABCONSTRAINT": "TABLE",
    "TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
    "TSDICTIONARY": "TEXT SEARCH DICTIONARY",
    "TSPARSER": "TEXT SEARCH PARSER",
    "TSTEMPLATE": "TEXT SEARCH TEMPLATE",
}
_RELATIONS = frozenset(
    (pb.OBJECT_TABLE, pb.OBJECT_VIEW, pb.OBJECT_MATVIEW, pb.OBJECT_SEQUENCE, pb.OBJECT_FOREIGN_TABLE)
)
_ON_RELATIONS = frozenset(
    (pb.OBJECT_TRIGGER, pb.OBJECT_RULE, pb.OBJECT_POLICY, pb.OBJECT_COLUMN, pb.OBJECT_TABCONSTRAINT)
)
_SERVER = frozenset(
    pb.ObjectType.Value(f"OBJECT_{name}")
    for name in (
        "ACCESS_METHOD DATABASE EVENT_TRIGGER EXTENSION FDW FOREIGN_SERVER LANGUAGE PUBLICATION ROLE "
        "SUBSCRIPTION TABLESPACE USER_MAPPING"
    ).split()
)


def words(kind: int) -> str:
    """Return the words of a kind of object as in a command tag."""
    name = str(pb.ObjectType.Name(kind)).removeprefix("OBJECT_")
    return _WORDS.get(name, name.replace("_", " "))


def changed(walk: Walk, tag: str, *effects: str, wide: bool = True) -> None:
    """Note a change of the schema; `wide`: of what other sessions see of it."""
    walk.add("statement", tag)
    walk.add("effect", "schema", *effects)
    walk.ddl, walk.wide = True, walk.wide or wide


def made(walk: Walk, rel: Any) -> None:
    """Note the name of a relation that is created."""
    walk.add("table", walk.world.makes(rel.schemaname, rel.relname, rel.relpersistence == "t"))


@visits("CreateStmt")
def _create(walk: Walk, node: Any, env: Env) -> Names:
    made(walk, node.relation)
    walk.children(node, Env(variables=True), "relation")
    changed(walk, "CREATE TABLE", wide=not temporary(node.relation))
    return NONE


@visits("CreateForeignTableStmt")
def _create_foreign(walk: Walk, node: Any, env: Env) -> Names:
    made(walk, node.base_stmt.relation)
    walk.children(node.base_stmt, Env(variables=True), "relation")
    changed(walk, "CREATE FOREIGN TABLE", "admin")
    return NONE


@visits("CreateSeqStmt")
def _create_sequence(walk: Walk, node: Any, env: Env) -> Names:
    made(walk, node.sequence)
    changed(walk, "CREATE SEQUENCE")
    return NONE


@visits("CompositeTypeStmt", "DefineStmt")
def _define(walk: Walk, node: Any, env: Env) -> Names:
    tag = words(node.kind) if node.DESCRIPTOR.name == "DefineStmt" else "TYPE"
    changed(walk, f"CREATE {tag}", *(("admin",) if tag == "ACCESS METHOD" else ()))
    return NONE


@visits("ViewStmt")
def _view(walk: Walk, node: Any, env: Env) -> Names:
    outputs = query(walk, node.query, Env())
    walk.sets["copied"] |= union(outputs)
    made(walk, node.view)
    changed(walk, "CREATE VIEW")
    return NONE


@visits("CreateTableAsStmt")
def _create_as(walk: Walk, node: Any, env: Env) -> Names:
    if node.query.HasField("execute_stmt"):
        walk.doubt("which columns a prepared statement copies is not known", frozenset(("copied",)))
    outputs = query(walk, node.query, Env())
    walk.sets["copied"] |= union(outputs)
    made(walk, node.into.rel)
    matview = node.objtype == pb.OBJECT_MATVIEW
    tag = "CREATE MATERIALIZED VIEW" if matview else "CREATE TABLE AS"
    changed(walk, tag, "read", "write", wide=not temporary(node.into.rel))
    return NONE


@visits("IndexStmt")
def _index(walk: Walk, node: Any, env: Env) -> Names:
    below = Env(Env(variables=True))
    target = source(walk, node.relation)
    below.sources.append(target)
    walk.compare(walk.children(node, below, "relation"))  # how many rows are in it, and whether two are alike
    if node.unique:
        walk.compare(_columns(target, [item.index_elem.name for item in node.index_params]))
    changed(walk, "CREATE INDEX", wide=False)
    return NONE


@visits("Constraint")
def _constraint(walk: Walk, node: Any, env: Env) -> Names:
    """Visit a constraint: that the rows there are fit it, or do not, tells of the columns it is on."""
    names = walk.children(node, env, "pktable")
    if node.contype in (pb.CONSTR_DEFAULT, pb.CONSTR_GENERATED):
        return names
    walk.compare(names)
    if env.sources:
        keys = [item.string.sval for item in (*node.keys, *node.fk_attrs)]
        keys += [item.list.items[0].index_elem.name for item in node.exclusions]
        walk.compare(_columns(env.sources[0], keys))
    if node.HasField("pktable"):
        walk.compare(_columns(source(walk, node.pktable), [item.string.sval for item in node.pk_attrs]))
    return NONE


def _columns(target: Source, names: Iterable[str]) -> Names:
    found = (target.column(name) for name in names if name)
    return NONE.union(*(column.names for column in found if column is not None))


@visits("ClusterStmt")
def _cluster(walk: Walk, node: Any, env: Env) -> Names:
    """CLUSTER: rows come back in the order of a column of some index afterwards."""
    walk.add("statement", "CLUSTER")
    walk.add("effect", "admin")
    if node.HasField("relation"):
        walk.compare(source(walk, node.relation).whole())
    else:
        walk.doubt("CLUSTER touches tables it does not name", frozenset(("table", "compared")))
    return NONE


@visits("AlterTableStmt")
def _alter(walk: Walk, node: Any, env: Env) -> Names:
    below = Env(Env(variables=True))
    if node.objtype in _RELATIONS:
        below.sources.append(source(walk, node.relation))
    for item in node.cmds:
        name = pb.AlterTableType.Name(item.alter_table_cmd.subtype)
        values = walk.visit(item, below)
        if below.sources:
            walk.sets["copied"] |= _moved(walk, item.alter_table_cmd, values, below.sources[0], node.relation.inh)
        if name.startswith(("AT_Drop", "AT_DetachPartition")):
            walk.add("effect", "drop")
        if name in _GRANTING:
            walk.add("effect", "grant")
    changed(walk, f"ALTER {words(node.objtype)}")
    return NONE


def _moved(walk: Walk, command: Any, values: Names, target: Source, children: bool) -> Names:
    """Return the columns whose values a command puts under a name that no rule may have."""
    column = target.column(command.name)
    own = column.names if column is not None else target.whole()
    match pb.AlterTableType.Name(command.subtype):
        case "AT_AddColumn" | "AT_SetExpression":  # generated columns
            return values
        case "AT_AlterColumnType":  # USING; that a value can be of the new type tells of it
            walk.compare(own | values)
            return values - own
        case "AT_SetNotNull":
            walk.compare(own)
        case "AT_DetachPartition" | "AT_DetachPartitionFinalize":
            return source(walk, getattr(command, "def").partition_cmd.name).whole()
        case "AT_AttachPartition":  # that its rows fit the bounds, or do not, tells of them
            walk.compare(source(walk, getattr(command, "def").partition_cmd.name).whole())
        case "AT_DropInherit":
            return target.whole()
        case "AT_DropColumn" if not children:  # its children keep it, as a column of their own
            return own
    return NONE


_GRANTING = frozenset(
    """AT_ChangeOwner AT_EnableRowSecurity AT_DisableRowSecurity AT_ForceRowSecurity AT_NoForceRowSecurity
    AT_DisableTrig AT_DisableTrigAll AT_DisableTrigUser AT_DisableRule""".split()
)


@visits("RenameStmt")
def _rename(walk: Walk, node: Any, env: Env) -> Names:
    on_relation = node.rename_type in _RELATIONS | _ON_RELATIONS
    if on_relation and node.HasField("relation") and node.relation_type != pb.OBJECT_INDEX:
        renamed = source(walk, node.relation)
        column = renamed.column(node.subname) if node.rename_type == pb.OBJECT_COLUMN else None
        if column is not None or node.rename_type in _RELATIONS:
            # Rules know columns by name: under another one their values are as good as copied.
            walk.sets["copied"] |= column.names if column is not None else renamed.whole()
    if node.rename_type == pb.OBJECT_ATTRIBUTE and node.behavior == pb.DROP_CASCADE:
        walk.doubt("which tables are of the type is not known", RELATIONS)
    if node.rename_type == pb.OBJECT_SCHEMA:
        walk.doubt("what is in the schema that is renamed is not known", RELATIONS)
    changed(walk, f"ALTER {words(node.rename_type)}", *(("admin",) if node.rename_type in _SERVER else ()))
    return NONE


@visits("AlterObjectSchemaStmt")
def _set_schema(walk: Walk, node: Any, env: Env) -> Names:
    if node.object_type in _RELATIONS:
        walk.sets["copied"] |= source(walk, node.relation).whole()
    changed(walk, f"ALTER {words(node.object_type)}")
    return NONE


@visits("AlterOwnerStmt")
def _owner(walk: Walk, node: Any, env: Env) -> Names:
    if node.object_type in _RELATIONS:
        table(walk, node.relation.schemaname, node.relation.relname)
    walk.enter("RoleSpec", node.newowner, env)
    changed(walk, f"ALTER {words(node.object_type)}", "grant")
    return NONE


@visits("DropStmt")
def _drop(walk: Walk, node: Any, env: Env) -> Names:
    for item in node.objects:
        parts = dotted(item.list.items)
        if node.remove_type in _RELATIONS:
            named(walk, parts)
        elif node.remove_type in _ON_RELATIONS:
            named(walk, parts[:-1])
    if node.remove_type in (pb.OBJECT_SCHEMA, pb.OBJECT_EXTENSION) or node.behavior == pb.DROP_CASCADE:
        walk.doubt("what else is dropped is not known", frozenset(("table",)))
    admin = node.remove_type in _SERVER
    own = node.remove_type == pb.OBJECT_TABLE and all(_own(walk, dotted(item.list.items)) for item in node.objects)
    changed(walk, f"DROP {words(node.remove_type)}", "drop", *(("admin",) if admin else ()), wide=not own)
    return NONE


def _own(walk: Walk, parts: tuple[str, ...]) -> bool:
    """Return True if a relation is a temporary one of this session."""
    world = walk.world
    found = world.find(parts[-2] if len(parts) > 1 else "", parts[-1])
    return bool(found) and world.path is not None and all(relation.schema == world.temp for relation in found)


@visits("TruncateStmt")
def _truncate(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "TRUNCATE TABLE")
    walk.add("effect", "truncate", "write")
    for item in node.relations:
        walk.sets["written"] |= source(walk, item.range_var, writing=True).whole()
    if node.behavior == pb.DROP_CASCADE:
        walk.doubt("what else is truncated is not known", frozenset(("table", "written")))
    return NONE


@visits("CommentStmt")
def _comment(walk: Walk, node: Any, env: Env) -> Names:
    parts = dotted(node.object.list.items)
    if node.objtype in _RELATIONS:
        named(walk, parts)
    elif node.objtype in _ON_RELATIONS:
        named(walk, parts[:-1])
    changed(walk, "COMMENT", wide=False)
    return NONE


@visits("VacuumStmt")
def _vacuum(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "VACUUM" if node.is_vacuumcmd else "ANALYZE")
    walk.add("effect", "admin")
    walk.each(node.rels, env)
    if not node.rels:
        walk.doubt("all tables are meant", frozenset(("table",)))
    return NONE


@visits("ReindexStmt")
def _reindex(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "REINDEX")
    walk.add("effect", "admin")
    if node.kind == pb.REINDEX_OBJECT_TABLE:
        table(walk, node.relation.schemaname, node.relation.relname)
    else:
        walk.doubt("which tables are meant is not known", frozenset(("table",)))
    return NONE


@visits("GrantStmt")
def _grant(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "GRANT" if node.is_grant else "REVOKE")
    walk.add("effect", "grant")
    walk.children(node, Env(variables=True))
    if node.targtype != pb.ACL_TARGET_OBJECT:
        walk.doubt("which tables are meant is not known", frozenset(("table",)))
    return NONE


@visits("GrantRoleStmt")
def _grant_role(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "GRANT ROLE" if node.is_grant else "REVOKE ROLE")
    walk.add("effect", "grant")
    for item in node.granted_roles:
        walk.add("role", item.access_priv.priv_name)
    walk.each(node.grantee_roles, env)
    return NONE


@visits("CreateRoleStmt", "AlterRoleStmt", "AlterRoleSetStmt", "DropRoleStmt")
def _role(walk: Walk, node: Any, env: Env) -> Names:
    name = node.DESCRIPTOR.name
    verb = "CREATE" if name.startswith("Create") else "DROP" if name.startswith("Drop") else "ALTER"
    walk.add("statement", f"{verb} ROLE")
    walk.add("effect", "admin", "grant", *(("drop",) if verb == "DROP" else ()))
    if name == "CreateRoleStmt":
        walk.add("role", node.role)
    walk.children(node, Env(variables=True), "setstmt")
    if name == "AlterRoleSetStmt":
        name = node.setstmt.name.lower()
        walk.add("setting", name or "all")  # of later sessions, not of this one
        becomes(walk, name, [constant(walk, arg) for arg in node.setstmt.args])
    return NONE


@visits("CreatePolicyStmt")
def _policy(walk: Walk, node: Any, env: Env) -> Names:
    below = Env(Env(variables=True))
    below.sources.append(source(walk, node.table))
    walk.children(node, below, "table")
    changed(walk, "CREATE POLICY", "grant")
    return NONE


@visits("CreateTrigStmt")
def _trigger(walk: Walk, node: Any, env: Env) -> Names:
    walk.children(node, Env(variables=True), "funcname")
    walk.add("function", full(*("?", *dotted(node.funcname))[-2:]))
    changed(walk, "CREATE TRIGGER")
    return NONE


@visits("RuleStmt")
def _rule(walk: Walk, node: Any, env: Env) -> Names:
    """CREATE RULE: its actions run later in place of others, so they count as if they ran here."""
    below = Env(variables=True)
    walk.children(node, below)
    changed(walk, "CREATE RULE")
    return NONE
