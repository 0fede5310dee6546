"""Statements about the session: settings, transactions, prepared statements, cursors, EXPLAIN."""

from typing import Any

import msgspec
from postgast import pg_query_pb2 as pb

from appliance.facts.sql.reading import KEYS, NONE, Names, Step
from appliance.facts.sql.settings import assign, becomes, constant, unsure
from appliance.facts.sql.statement import apart, statement
from appliance.facts.sql.walk import Env, Walk, visits

_TRANSACTION = {
    pb.TRANS_STMT_BEGIN: "BEGIN",
    pb.TRANS_STMT_START: "START TRANSACTION",
    pb.TRANS_STMT_COMMIT: "COMMIT",
    pb.TRANS_STMT_ROLLBACK: "ROLLBACK",
    pb.TRANS_STMT_SAVEPOINT: "SAVEPOINT",
    pb.TRANS_STMT_RELEASE: "RELEASE",
    pb.TRANS_STMT_ROLLBACK_TO: "ROLLBACK",
    pb.TRANS_STMT_PREPARE: "PREPARE TRANSACTION",
    pb.TRANS_STMT_COMMIT_PREPARED: "COMMIT PREPARED",
    pb.TRANS_STMT_ROLLBACK_PREPARED: "ROLLBACK PREPARED",
}
_ENDS = frozenset(("COMMIT", "ROLLBACK", "PREPARE TRANSACTION"))


@visits("TransactionStmt")
def _transaction(walk: Walk, node: Any, env: Env) -> Names:
    tag = _TRANSACTION[node.kind]
    walk.add("statement", tag)
    walk.add("effect", "session")
    if "PREPARE" in tag:
        walk.add("effect", "admin")
    if tag in _ENDS:
        walk.steps.append(Step("end", ""))
        if walk.world.held or any(step.verb == "set" for step in walk.steps):
            unsure(walk, "")  # what was set may be taken back
        if walk.world.made:  # so may what was made; and what was made for the transaction is gone
            walk.ddl = walk.changes = True
    return NONE


@visits("VariableSetStmt")
def _set(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("effect", "session")
    resets = node.kind in (pb.VAR_RESET, pb.VAR_RESET_ALL)
    walk.add("statement", "RESET" if resets else "SET")
    if node.kind == pb.VAR_SET_MULTI:  # SET TRANSACTION, SET SESSION CHARACTERISTICS
        walk.add("setting", node.name.lower())
        walk.changes = True
        return NONE
    name = node.name.lower()
    walk.add("setting", name or "all")
    values = [constant(walk, arg) for arg in node.args]
    becomes(walk, name, values)
    if node.kind == pb.VAR_SET_VALUE and None not in values:
        assign(walk, name, tuple(v for v in values if v is not None), node.is_local)
    else:
        unsure(walk, name)
    return NONE


@visits("DiscardStmt")
def _discard(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "DISCARD")
    walk.add("effect", "session")
    walk.changes = True
    if node.target == pb.DISCARD_ALL:
        unsure(walk, "")
        walk.steps += [Step("deallocate", ""), Step("close", "")]
    if node.target in (pb.DISCARD_ALL, pb.DISCARD_TEMP):
        walk.ddl = True
    return NONE


@visits("PrepareStmt")
def _prepare(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "PREPARE")
    walk.add("effect", "session")
    inner = apart(walk, node.query, Env())
    walk.absorb(inner)
    walk.each(node.argtypes, env)
    walk.steps.append(Step("prepare", node.name, inner, text=walk.statement))
    return NONE


@visits("ExecuteStmt")
def _execute(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "EXECUTE")
    walk.add("effect", "session")
    walk.compare(walk.each(node.params, Env()))
    walk.steps.append(Step("execute", node.name))
    return NONE


@visits("DeallocateStmt")
def _deallocate(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "DEALLOCATE")
    walk.add("effect", "session")
    walk.steps.append(Step("deallocate", "" if node.isall else node.name))
    return NONE


@visits("DeclareCursorStmt")
def _declare(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "DECLARE CURSOR")
    inner = apart(walk, node.query, Env())
    walk.absorb(inner)
    walk.changes = walk.changes or inner.changes
    walk.steps += [*inner.steps, Step("declare", node.portalname, inner, text=walk.statement)]
    return NONE


@visits("FetchStmt")
def _fetch(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "MOVE" if node.ismove else "FETCH")
    walk.add("effect", "read")
    walk.steps.append(Step("fetch", node.portalname))
    return NONE


@visits("ClosePortalStmt")
def _close(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "CLOSE CURSOR")
    walk.add("effect", "session")
    walk.steps.append(Step("close", node.portalname))
    return NONE


@visits("ExplainStmt")
def _explain(walk: Walk, node: Any, env: Env) -> Names:
    """EXPLAIN executes only with ANALYZE; else it plans, which may call functions and tells of statistics."""
    walk.add("statement", "EXPLAIN")
    walk.add("effect", "read")
    before = len(walk.steps)
    if any(item.def_elem.defname == "analyze" and not _off(item.def_elem) for item in node.options):
        walk.changes = True
        statement(walk, node.query, Env())
        walk.steps[before:] = [step for step in walk.steps[before:] if step.verb != "declare"]  # none is made
        return NONE
    inner = apart(walk, node.query, Env())
    effects = inner.values["effect"] & {"procedure"}
    planned = msgspec.structs.replace(inner, values={**inner.values, "effect": effects})
    walk.absorb(planned, [key for key in KEYS if key not in ("statement", "copied", "written")])
    walk.changes = walk.changes or (inner.changes and bool(effects))
    walk.steps += [step for step in inner.steps if step.verb == "execute"]
    return NONE


def _off(item: Any) -> bool:
    """Return True if an option of EXPLAIN is surely false. Source: defGetBoolean of PostgreSQL."""
    if item.arg.HasField("integer"):
        return bool(item.arg.integer.ival == 0)
    return item.arg.string.sval.lower() in ("false", "off") if item.arg.HasField("string") else False
