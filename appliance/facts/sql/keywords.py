"""Words that are of the grammar in newer servers, and names in older ones.

A text is read by one grammar. What a server before that says of the same words is noted beside it: SYSTEM_USER is a
column of any name until 16, JSON_VALUE and the like are functions of whoever made them until 16 or 17.
Source: PostgreSQL 18 manual, appendix "SQL Key Words", and that of 15.
"""

from typing import Any

from postgast import pg_query_pb2 as pb

from appliance.facts.sql import functions
from appliance.facts.sql.reading import Names
from appliance.facts.sql.relations import dotted
from appliance.facts.sql.walk import Env, Walk, visits

SYSTEM_USER = "system_user"
_WORDS = {
    "JsonArrayAgg": "json_arrayagg",
    "JsonArrayConstructor": "json_array",
    "JsonArrayQueryConstructor": "json_array",
    "JsonObjectAgg": "json_objectagg",
    "JsonObjectConstructor": "json_object",
    "JsonParseExpr": "json",
    "JsonScalarExpr": "json_scalar",
    "JsonSerializeExpr": "json_serialize",
    "MergeSupportFunc": "merge_action",
}
_OPERATIONS = {pb.JSON_EXISTS_OP: "json_exists", pb.JSON_QUERY_OP: "json_query", pb.JSON_VALUE_OP: "json_value"}
_TOTAL = frozenset(("json_scalar", "merge_action"))  # they take any value


def is_user(node: Any) -> bool:
    """Return True if a pb.Node is the word SYSTEM_USER, which may be the name of a column."""
    call = node.func_call
    return not call.args and dotted(call.funcname) == ("pg_catalog", SYSTEM_USER)


@visits("JsonFuncExpr", *_WORDS)
def _json(walk: Walk, node: Any, env: Env) -> Names:
    """What SQL/JSON makes of a value fails on some: ERROR ON EMPTY, a key that comes twice, a text that is none."""
    names = walk.children(node, env)
    word = _WORDS.get(node.DESCRIPTOR.name) or _OPERATIONS.get(node.op, "")
    walk.add("function", f"pg_catalog.{word}")
    if functions.hidden(walk.world, word):
        walk.opaque(f"function {word} may be one of the user's", names)
    if word not in _TOTAL:
        walk.compare(names)
    return names
