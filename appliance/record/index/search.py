"""A filter into a query that touches few rows of the index.

Each condition can be put in two ways: as the numbers of the sessions that meet it (`rows`, read from an index of
SQLite), and as a question to one session (`test`). Before a search each condition's rows are counted, up to FEW. If
the rarest has no more, its rows are the ones looked at, and the other conditions are tests of these. If all are
common, sessions are walked from the newest, and the tests soon find as many as were asked for.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping

import msgspec

from appliance.record.index.schema import MICROS
from appliance.record.index.words import MAX_TEXT, fit, squeezed
from appliance.record.session import Filter

FEW = 20_000  # sessions; to sort as many takes some ten milliseconds
MAX_TERMS = 32  # words of one search
MAX_ASKED = 1_000  # characters of one condition; patterns cost their length at every text they are tried on

Values = Mapping[str, str | float]
_NAMED = ("who", "exe", "to", "verdict", "rule", "package", "by")  # fields that are kinds of names
_TERM = re.compile(r'"([^"]*)"?(\*?)|([^\s"]+)')
_WHOLE = re.compile(r"(?<![^\x00-\x7f])(?<!\w)\w+(?!\w)(?![^\x00-\x7f])", re.ASCII)


class Condition(msgspec.Struct, frozen=True):
    """One thing a session must meet."""

    rows: str  # query for the numbers of sessions
    test: str  # of the session `s`
    values: Values
    bounded: bool = True  # `rows` come from an index; else they are never what is walked


class Query(msgspec.Struct, frozen=True):
    """What to ask SQLite."""

    sql: str
    values: Values
    few: bool = True  # the rows of one condition are walked, not all sessions


def query(db: sqlite3.Connection, wanted: Filter, what: str = "s.tally", newest: bool = True) -> Query | None:
    """Return the query for the sessions that match, the newest first; None if none can."""
    conditions = list(_conditions(wanted))
    if any(not condition.rows for condition in conditions):
        return None
    counts = [_count(db, one) if one.bounded else FEW + 1 for one in conditions]
    least = min(counts, default=FEW + 1)
    driver = conditions[counts.index(least)] if least <= FEW else None
    tests = [f"s.number IN ({driver.rows})"] if driver else []
    tests += [one.test for one in conditions if one is not driver]
    where = " AND ".join(tests) or "1"
    order = "DESC" if newest else "ASC"
    values: dict[str, str | float] = {"most": wanted.limit or -1}
    for one in conditions:
        values |= one.values
    sql = f"SELECT {what} FROM sessions s WHERE {where} ORDER BY s.number {order} LIMIT :most"
    return Query(sql, values, driver is not None)


def _count(db: sqlite3.Connection, one: Condition) -> int:
    sql = f"SELECT count(*) FROM ({one.rows} LIMIT {FEW + 1})"
    return int(db.execute(sql, one.values).fetchone()[0])


def _conditions(wanted: Filter) -> Iterator[Condition]:
    if wanted.id:
        test = "{} >= :id AND {} < :id || char(1114111)"
        rows = "SELECT number FROM sessions WHERE " + test.format("id", "id")
        yield Condition(rows, test.format("s.id", "s.id"), {"id": wanted.id})
    for field in _NAMED:
        pattern = getattr(wanted, field)
        if pattern:
            yield _named(field, f"kind = '{field}' AND value GLOB :{field}", {field: _glob(pattern)})
    if wanted.table:
        yield _table(wanted.table)
    if wanted.sha256:
        yield _named("sha256", "kind = 'sha256' AND value GLOB :sha256", {"sha256": _glob(wanted.sha256) + "*"})
    if wanted.since is not None:
        rows = "SELECT number FROM sessions WHERE last >= :since"
        yield Condition(rows, "s.last >= :since", {"since": wanted.since})
    if wanted.until is not None:
        rows = "SELECT number FROM sessions WHERE number < :until"
        until = int(wanted.until * MICROS) + 1
        yield Condition(rows, "s.number < :until", {"until": until}, bounded=False)
    if wanted.statement:
        yield _statement(wanted.statement[:MAX_ASKED])
    if wanted.text:
        yield _text(wanted.text[:MAX_ASKED])


def _named(field: str, where: str, values: Values) -> Condition:
    names = f"SELECT number FROM names WHERE {where}"
    return Condition(
        f"SELECT session FROM has WHERE name IN ({names})",
        f"EXISTS (SELECT 1 FROM has WHERE session = s.number AND name IN ({names}))",
        values,
    )


def _table(pattern: str) -> Condition:
    """A name without a schema is of any; one with a schema may be one whose schema is not known ("?.users")."""
    whole = _glob(pattern.lower())
    schema, dot, last = whole.rpartition(".")
    either = "[?]." + last if dot and schema != "*" else "*." + last
    return _named(
        "table", "kind = 'table' AND (value GLOB :table OR value GLOB :either)", {"table": whole, "either": either}
    )


def _glob(pattern: str) -> str:
    """Return a pattern for GLOB: only * and ? mean something."""
    return fit(pattern[:MAX_ASKED]).replace("[", "[[]")


def _statement(pattern: str) -> Condition:
    """Texts that have the pattern's whole words are looked at; without such a word, all statements are."""
    asked = fit(squeezed(pattern))
    like = re.sub(r"([%_\\])", r"\\\1", asked).replace("*", "%").replace("?", "_")
    words = _words(asked)
    fits = r"texts.statement AND texts.value LIKE :like ESCAPE '\'"
    found = "FROM words CROSS JOIN texts ON texts.number = words.rowid" if words else "FROM texts"
    where = f"{fits} AND words MATCH :words" if words else fits
    return Condition(
        f"SELECT said.session {found} CROSS JOIN said ON said.text = texts.number WHERE {where}",
        "EXISTS (SELECT 1 FROM said CROSS JOIN texts ON texts.number = said.text"
        f" WHERE said.session = s.number AND {fits})",
        {"like": like, **({"words": words} if words else {})},
        bounded=bool(words),
    )


def _words(pattern: str) -> str:
    """Return what FTS5 is asked for a pattern: its words that no wildcard can be a part of."""
    found = []
    for match in _WHOLE.finditer(pattern):
        before, after = pattern[: match.start()][-1:], pattern[match.end() :][:1]
        if before not in ("*", "?") and after not in ("*", "?"):
            found.append(f'"{match[0]}"')
        elif before not in ("*", "?"):
            found.append(f'"{match[0]}" *')
    return " ".join(found[:MAX_TERMS])


def _text(asked: str) -> Condition:
    terms = []
    for phrase, star, word in _TERM.findall(fit(asked)):
        term = phrase or word.rstrip("*")
        if re.search(r"\w", term):
            quoted = '"' + term.replace('"', '""') + '"'
            terms.append(quoted + (" *" if star or word.endswith("*") else ""))
    if not terms:
        return Condition("", "", {})
    said = "words CROSS JOIN said ON said.text = words.rowid"
    return Condition(
        f"SELECT said.session FROM {said} WHERE words MATCH :text",
        "EXISTS (SELECT 1 FROM said CROSS JOIN words ON words.rowid = said.text"
        " WHERE said.session = s.number AND words MATCH :text)",
        {"text": " ".join(terms[:MAX_TERMS])},
    )


assert MAX_ASKED < MAX_TEXT  # so a pattern can match what is kept together
