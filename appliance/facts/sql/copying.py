"""COPY: what it reads or writes, and in what form it sends.

Source: PostgreSQL 15 manual, COPY; both the syntax with a list of options and the one before 9.0.
"""

from typing import Any

from appliance.facts import Copy
from appliance.facts.sql.reading import NONE, Names, Output
from appliance.facts.sql.relations import source
from appliance.facts.sql.select import query, union
from appliance.facts.sql.walk import Env, Source, Walk, visits
from appliance.model import Column


@visits("CopyStmt")
def _copy(walk: Walk, node: Any, env: Env) -> Names:
    walk.add("statement", "COPY")
    walk.add("effect", "copy", "write" if node.is_from else "read")
    walk.add("copy", "in" if node.is_from else "out")
    outputs = query(walk, node.query, Env()) if node.HasField("query") else _relation(walk, node)
    if node.filename or node.is_program:
        walk.add("effect", "file")
        walk.add("copy", "program" if node.is_program else "file")
        walk.sets["copied"] |= union(outputs)
    elif node.is_from:
        walk.doubt("the rows that are copied in are not looked at", frozenset(("text",)))
    else:
        walk.copies.append(_sent(node, outputs))
    return NONE


def _relation(walk: Walk, node: Any) -> list[Output]:
    target = source(walk, node.relation, writing=node.is_from)
    outputs = []
    for item in node.attlist:
        name = item.string.sval
        outputs.append(target.column(name) or Output(name, target.whole()))
    if not node.attlist:
        outputs = target.all()
    walk.sets["written" if node.is_from else "column"] |= union(outputs)
    below = Env()
    below.sources = [Source(target.alias, target.all(), rest=target.whole(), loose=True)]
    walk.compare(walk.visit(node.where_clause, below))
    return outputs


def _sent(node: Any, outputs: list[Output]) -> Copy:
    """Return the form of what COPY TO STDOUT sends."""
    columns = tuple(Column(o.name, o.table, o.attribute) for o in outputs)
    if any(o.name == "*" for o in outputs):
        columns = ()
    options = {item.def_elem.defname: _option(item.def_elem) for item in node.options}
    kind = options.get("format", "text")
    if None in options.values() or "encoding" in options or kind not in _FORMATS:
        return Copy(columns, "", "", "", "", "")
    if kind == "binary":
        return Copy(columns, "binary", "", "", "", "")
    csv = kind == "csv"
    quote = options.get("quote", '"') if csv else ""
    return Copy(
        columns,
        str(kind),
        str(options.get("delimiter", "," if csv else "\t")),
        str(quote),
        str(options.get("escape", quote)) if csv else "",
        str(options.get("null", "" if csv else "\\N")),
        str(options.get("header", "false")).lower() in ("true", "on", "1", "match", ""),
    )


_FORMATS = ("text", "csv", "binary")
_KNOWN = frozenset("format delimiter quote escape null header encoding".split())
_HARMLESS = frozenset("force_quote freeze".split())


def _option(item: Any) -> str | None:
    """Return an option of COPY as text; None for one that is not known."""
    if item.defname in _HARMLESS:
        return ""
    if item.defname not in _KNOWN:
        return None
    kind = item.arg.WhichOneof("node")
    match kind:
        case None:
            return ""
        case "string":
            return str(item.arg.string.sval)
        case "boolean":
            return "true" if item.arg.boolean.boolval else "false"
        case "integer":
            return str(item.arg.integer.ival)
    return None
