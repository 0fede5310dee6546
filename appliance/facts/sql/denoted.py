"""What the constants of a text stand for, where that is written otherwise: for detectors, which look at texts.

Source: PostgreSQL 18 manual, "Constants", and scan.l of its sources. Constants are found by PostgreSQL's own scanner
and told by its own parser, so all writings of them are known. Those joined by || are one, through parentheses and
casts; what a function makes of constants is not looked at.
"""

import re
from collections.abc import Iterable

import postgast
from postgast import pg_query_pb2 as pb

from appliance.facts.decimals import written
from appliance.facts.sql.tree import MAX_TEXT, Unreadable, parse

_ODD = re.compile(r"\\|[uU]&'|\|\||''|'[^\S\n]*+(?:--|\n)|\d_\d|\b0[xXoObB]|[0-9.][eE][-+0-9]")
_BYTES = re.compile(r"\\x((?:[0-9A-Fa-f]{2})++)\Z")
_PLAIN = re.compile(r"(?:'[^'\\]*+'|[0-9.]++)\Z")
_CONSTANTS = frozenset(map(pb.Token.Value, ("SCONST", "USCONST", "ICONST", "FCONST")))
_UNICODE, _STRING, _ESCAPED = pb.Token.Value("USCONST"), pb.Token.Value("SCONST"), pb.Token.Value("UESCAPE")
_NOTHING = frozenset(map(pb.Token.Value, ("SQL_COMMENT", "C_COMMENT", "ASCII_40", "ASCII_41")))
_OPERATOR, _CAST = pb.Token.Value("Op"), pb.Token.Value("TYPECAST")


def denoted(text: str) -> str:
    """Return what constants of a text denote, a line each, if it does not stand there itself; "" if all do."""
    if len(text) > MAX_TEXT or _ODD.search(text) is None:
        return ""
    try:
        return "\n".join(_joined(_runs(text.encode())))
    except (Unreadable, postgast.PgQueryError, ValueError):
        return ""  # no server makes anything of it


def _runs(text: bytes) -> list[list[str]]:
    """Return constants as they are written, those that || joins in one list."""
    runs: list[list[str]] = []
    joins = after = skips = False  # what comes goes to the last constant; that was just before; a type comes
    before = 0
    for token in postgast.scan(text.decode()).tokens:
        kind, piece = token.token, text[token.start : token.end].decode()
        if kind in _NOTHING:
            continue
        if kind == _ESCAPED or (kind == _STRING and before == _ESCAPED):
            runs[-1][-1] += f" {piece}"
        elif kind in _CONSTANTS:
            if not joins and not (kind == before == _STRING):  # with a comment between, which the server joins too
                runs.append([])
            runs[-1].append(piece)
            joins, after = False, True
        elif kind == _CAST or skips:
            skips = kind == _CAST
        else:
            joins = after and kind == _OPERATOR and piece == "||"
            after = False
        before = kind
    return runs


def _joined(runs: list[list[str]]) -> Iterable[str]:
    odd = [one for run in runs for one in run if not _PLAIN.match(one)]
    told = dict(zip(odd, _told(odd), strict=True))
    for run in runs:
        if len(run) == 1 and run[0] not in told:
            continue
        found = "".join(told[one] if one in told else one.strip("'") for one in run)
        yield found
        coded = _BYTES.match(found)
        if coded is not None:
            yield bytes.fromhex(coded[1]).decode("utf-8", "replace")


def _told(constants: list[str]) -> list[str]:
    """Return what constants denote."""
    if not constants:
        return []
    targets = parse("select " + ", ".join(constants)).stmts[0].stmt.select_stmt.target_list
    found = []
    for target in targets:
        one = target.res_target.val.a_const
        found.append(one.sval.sval if one.HasField("sval") else _number(one))
    return found


def _number(one: pb.A_Const) -> str:
    if not one.HasField("fval"):
        return str(one.ival.ival)
    text = one.fval.fval.replace("_", "")
    if text[:2].lower() in ("0x", "0o", "0b"):
        return str(int(text, 0))
    return written(text)
