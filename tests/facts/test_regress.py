"""Every statement of PostgreSQL's own regression tests: what is said of it must not be wrong.

Right is what the grammar itself calls the statement: `FAMILY` says, by the kind of its top node, which effects it must
have and which it may have; whatever else is in the tree (changes of rows, calls, relations) is found by a walk of
another make, over all nodes alike.
"""

import os
import re
from collections import Counter
from typing import Any

import postgast
import pytest
from postgast import pg_query_pb2 as pb

from appliance.facts.sql import ALL, read
from appliance.facts.sql.builtins import PURE, PURE_PREFIXES
from appliance.facts.sql.functions import EFFECTS
from tests.facts.regress import corpus
from tests.facts.small import PLAIN

pytestmark = pytest.mark.slow

ROWS = "read write lock procedure session file admin notify lock"  # what a call or a hidden statement may add
# top node -> effects it must have, effects it may have besides
FAMILY = {
    "SelectStmt": ("read", "schema " + ROWS),
    "InsertStmt": ("write", "schema " + ROWS), "UpdateStmt": ("write", ROWS), "DeleteStmt": ("write", ROWS),
    "MergeStmt": ("write", ROWS),
    "CreateTableAsStmt": ("schema write read", ROWS), "RefreshMatViewStmt": ("write", "read"),
    "CopyStmt": ("copy", "read schema file " + ROWS),
    "TruncateStmt": ("truncate write", ""),
    "ExplainStmt": ("read", "schema " + ROWS), "PrepareStmt": ("session", ROWS), "ExecuteStmt": ("session", ROWS),
    "DeclareCursorStmt": ("read", "schema " + ROWS), "FetchStmt": ("read", ""), "ClosePortalStmt": ("session", ""),
    "DeallocateStmt": ("session", ""), "TransactionStmt": ("session", "admin"), "VariableSetStmt": ("session", ""),
    "VariableShowStmt": ("session", ""), "DiscardStmt": ("session", ""), "ConstraintsSetStmt": ("session", ""),
    "DoStmt": ("procedure", "schema drop grant truncate " + ROWS), "CallStmt": ("procedure", "read write"),
    "DropStmt": ("drop schema", "admin"), "DropOwnedStmt": ("drop schema", "grant"), "DropRoleStmt": ("drop admin", "grant"),
    "DropdbStmt": ("drop admin", "schema"), "DropTableSpaceStmt": ("drop admin", "schema file"),
    "DropSubscriptionStmt": ("drop admin", "schema"), "DropUserMappingStmt": ("drop admin", "schema"),
    "GrantStmt": ("grant", ""), "GrantRoleStmt": ("grant", ""), "AlterDefaultPrivilegesStmt": ("grant", ""),
    "CreateRoleStmt": ("admin", "grant"), "AlterRoleStmt": ("admin", "grant"), "AlterRoleSetStmt": ("admin", "grant"),
    "ReassignOwnedStmt": ("grant", "schema"),
    "LockStmt": ("lock", ""), "ListenStmt": ("listen", ""), "UnlistenStmt": ("listen", ""), "NotifyStmt": ("notify", ""),
    "VacuumStmt": ("admin", ""), "ClusterStmt": ("admin", ""), "ReindexStmt": ("admin", ""), "CheckPointStmt": ("admin", ""),
    "AlterSystemStmt": ("admin", ""), "AlterDatabaseStmt": ("admin", ""), "AlterDatabaseSetStmt": ("admin", ""),
    "LoadStmt": ("admin file", "procedure"),
}  # fmt: skip
READING = {"loread", "lo_get", "_pg_expandarray"}  # known to read only
SCHEMA = ("schema", "drop truncate admin grant file " + ROWS)  # every other kind changes the schema
CHANGES = ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt")


def nodes(message: Any) -> list[Any]:
    """Return all messages below one, of any type, without recursion."""
    found, todo = [], [message]
    while todo:
        item = todo.pop()
        found.append(item)
        for field, value in item.ListFields():
            if field.message_type is not None:
                todo += value if field.is_repeated else [value]
    return found


def substitute(text: str) -> str:
    """Put something in the place of psql's variables."""
    text = re.sub(r"(?<![:\w]):'\w+'", "'x'", text)
    return re.sub(r'(?<![:\w\[]):(?:"\w+"|[a-z_]\w*)', "1", text)


def faults(statement: str) -> list[str]:
    """Return what is wrong in what is said of a statement."""
    reading = read(statement, PLAIN)
    try:
        tree = postgast.parse(statement)
    except postgast.PgQueryError:
        return [] if reading.unknown == ALL else ["does not parse, yet is known"]
    if reading.unknown == ALL and not reading.values["effect"]:
        return []  # over a limit
    effects, wrong = reading.values["effect"], []
    must: set[str] = set()
    may: set[str] = set()
    for raw in tree.stmts:
        kind = getattr(raw.stmt, raw.stmt.WhichOneof("node")).DESCRIPTOR.name
        needs, takes = FAMILY.get(kind, SCHEMA)
        must |= set(needs.split())
        may |= {*needs.split(), *takes.split()}
        inside = nodes(raw)
        planned = kind == "ExplainStmt" and "EXPLAIN" in reading.values["statement"] and "write" not in effects
        if any(n.DESCRIPTOR.name in CHANGES for n in inside) and not planned and "write" not in effects:
            wrong.append("a change of rows is not seen")
        wrong += calls(inside, reading) + relations(inside, reading)
    if not must <= effects:
        wrong.append(f"lacks {sorted(must - effects)}")
    if tree.stmts and not effects <= may:
        wrong.append(f"has {sorted(effects - may)}")
    return wrong


def calls(inside: list[Any], reading: Any) -> list[str]:
    names = {n.funcname[-1].string.sval for n in inside if n.DESCRIPTOR.name == "FuncCall"}
    seen = {f.rpartition(".")[2].strip('"') for f in reading.values["function"]}
    wrong = [f"call of {name} is not seen" for name in names if name not in seen and "." not in name]
    strange = {n for n in names if n not in PURE and not n.startswith(PURE_PREFIXES)} - READING
    if "EXPLAIN" in reading.values["statement"]:
        strange -= EFFECTS.keys()  # planned, not called
    if strange and not reading.unknown and reading.values["effect"] <= {"read"}:
        wrong.append(f"calls of {sorted(strange)} pass as reads")
    return wrong


def relations(inside: list[Any], reading: Any) -> list[str]:
    ctes = {n.ctename for n in inside if n.DESCRIPTOR.name == "CommonTableExpr"}
    ctes |= {r.range_var.relname for n in inside if n.DESCRIPTOR.name == "LockingClause" for r in n.locked_rels}
    seen = " ".join(reading.values["table"])
    named = {n.relname for n in inside if n.DESCRIPTOR.name == "RangeVar"} - ctes
    return [f"relation {name} is not seen" for name in named if name and name not in seen.replace('""', '"')]


def is_index(tree_text: str) -> bool:
    return bool(re.search(r"\bindex\b|\btype\b|\bsequence\b", tree_text, re.IGNORECASE))


@pytest.fixture(scope="module")
def statements() -> list[tuple[str, str]]:
    try:
        found = corpus.files()
    except corpus.Unavailable as error:
        if os.environ.get("CI"):
            pytest.fail(f"the corpus is needed here: {error}")
        pytest.skip(f"PostgreSQL's regression statements cannot be had: {error}")
    return [(name, substitute(statement)) for name, text in found for statement in corpus.split(text)]


def test_none_is_wrong(statements: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    wrong: list[str] = []
    kinds: Counter[str] = Counter()
    why: Counter[str] = Counter()
    for name, statement in statements:
        reading = read(statement, PLAIN)
        if reading.unknown == ALL and "does not parse" in reading.why:
            kinds["do not parse"] += 1
        elif reading.unknown:
            kinds["unknown in part"] += 1
            why[re.sub(r"(function|operator|type|column|relation) \S+", r"\1 ...", reading.why)[:60]] += 1
        else:
            kinds["known"] += 1
        indexes = is_index(statement)
        wrong += [f"{name}: {fault}: {statement.strip()[:200]}" for fault in faults(statement) if not (indexes and fault.startswith("relation"))]
    with capsys.disabled():
        print(f"\n{len(statements)} statements: {dict(kinds)}")
        for reason, count in why.most_common(12):
            print(f"  {count:6} {reason}")
    assert len(statements) > 20_000
    assert kinds["do not parse"] < 700, "statements meant to fail, and psql's own syntax"
    assert not wrong, "\n".join(wrong[:40]) + f"\n{len(wrong)} in all"


def test_the_splitter() -> None:
    text = """
\\set x 1
select 1; select ';' , ";", $a$ ; $a$; -- ;
/* ; /* ; */ */ select 2
\\gset
copy t from stdin;
1;2
\\.
create rule r as on insert to t do (select 1; select 2);
create function f() returns int begin atomic select 1; select case when true then 1 end; end;
select E'\\';';
"""
    got = [s.strip() for s in corpus.split(text)]
    assert len(got) == 7, got
    assert got[0] == "select 1;"
    assert got[2].endswith("select 2")


def test_the_table_names_kinds_of_the_grammar() -> None:
    assert FAMILY.keys() <= {f.message_type.name for f in pb.Node.DESCRIPTOR.fields}
