"""The name PostgreSQL gives a column of a query that was given none.

Source: PostgreSQL 15, behaviour of SELECT without AS (documented only as "?column?" and "the name of a
function").
"""

from typing import Any

from postgast import pg_query_pb2 as pb

_FIXED = {
    "a_array_expr": "array",
    "row_expr": "row",
    "coalesce_expr": "coalesce",
    "grouping_func": "grouping",
    "xml_serialize": "xmlserialize",
    "merge_support_func": "merge_action",
    "json_parse_expr": "json",
    "json_scalar_expr": "json_scalar",
    "json_serialize_expr": "json_serialize",
    "json_object_constructor": "json_object",
    "json_array_constructor": "json_array",
    "json_array_query_constructor": "json_array",
    "json_object_agg": "json_objectagg",
    "json_array_agg": "json_arrayagg",
}
_NONE = "?column?"  # also "not known": a reference to it by any name finds it


def label(node: Any) -> str:
    """Return the name of an expression as an output column; "?column?" if it has none or it is not known
    here."""
    return _label(node)[0]


def _label(node: Any) -> tuple[str, bool]:
    """Return the name, and whether it stands against that of a cast or CASE around it."""
    kind = node.WhichOneof("node") or ""
    if kind in _FIXED:
        return _FIXED[kind], True
    item: Any = getattr(node, kind) if kind else None
    match kind:
        case "column_ref":
            return item.fields[-1].string.sval or _NONE, True
        case "func_call":
            name = str(item.funcname[-1].string.sval)
            return _NONE if name == "extract" else name, True  # servers before 14 call it date_part
        case "a_indirection":
            if item.indirection[-1].HasField("a_star"):
                return _NONE, True  # that of the first of what it stands for
            names = [i.string.sval for i in item.indirection if i.HasField("string")]
            return (names[-1], True) if names else _label(item.arg)
        case "collate_clause":
            return _label(item.arg)
        case "type_cast":
            inner, strong = _label(item.arg)
            return (inner, True) if strong else (item.type_name.names[-1].string.sval, False)
        case "case_expr":
            inner, strong = _label(item.defresult)
            return (inner, True) if strong else ("case", False)
        case "sub_link":
            return _sublink(item), True
    return _NONE, kind not in _NAMELESS


_NAMELESS = frozenset(
    ("a_const", "param_ref", "a_expr", "bool_expr", "null_test", "boolean_test", "", "set_to_default")
)


def _sublink(item: Any) -> str:
    if item.sub_link_type == pb.EXISTS_SUBLINK:
        return "exists"
    if item.sub_link_type == pb.ARRAY_SUBLINK:
        return "array"
    if item.sub_link_type != pb.EXPR_SUBLINK:
        return _NONE
    select = item.subselect.select_stmt
    while select.HasField("larg"):
        select = select.larg
    if not select.target_list:
        return "column1" if select.values_lists else _NONE
    target = select.target_list[0].res_target
    return target.name or label(target.val)
