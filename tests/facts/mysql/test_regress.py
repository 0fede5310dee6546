"""Statements of MariaDB's own tests: what is said of them must not be wrong.

Right is what a second parser (sqlparse, which shares nothing with ours or with sqlglot) calls the statement, and what a
statement of that kind must do and may do besides.
"""

import random
import re
from collections import Counter

import pytest
import sqlparse

from appliance.facts.mysql.read import read
from appliance.facts.mysql.reading import ALL, Reading
from appliance.facts.mysql.store import Store
from tests.facts.mysql.regress import corpus
from tests.facts.mysql.small import PLAIN

pytestmark = pytest.mark.slow

SIZE = 5_000  # statements tried, always the same ones of the 65,000

ROWS = "read write lock procedure file copy"
# first word -> effects one of which it must have, effects it may have besides
FAMILY = {
    "select": ("read", ROWS), "with": ("read write", ROWS), "values": ("read", ROWS), "table": ("read", ROWS), "do": ("read", ROWS),
    "insert": ("write", ROWS), "replace": ("write", ROWS), "update": ("write", ROWS), "delete": ("write", ROWS), "load": ("write admin", "read copy file procedure"),
    "create": ("schema grant", "admin file procedure drop " + ROWS), "alter": ("schema grant admin", "schema admin file drop truncate " + ROWS),
    "drop": ("drop session", "schema admin grant"), "truncate": ("truncate", "write procedure"), "rename": ("schema grant", "admin procedure"),
    "grant": ("grant", ""), "revoke": ("grant", ""), "set": ("session", "admin grant " + ROWS), "show": ("session read", "admin replication read procedure"),
    "explain": ("read", ROWS), "desc": ("read", ROWS), "describe": ("read", ROWS), "analyze": ("admin read", ROWS), "check": ("admin", ""),
    "checksum": ("admin", ""), "optimize": ("admin", ""), "repair": ("admin", ""), "flush": ("admin", ""), "reset": ("admin", "replication"), "purge": ("admin", "replication"),
    "change": ("admin", "replication"), "stop": ("admin", "replication"), "start": ("session admin", "replication"), "begin": ("session procedure", "session"),
    "commit": ("session", ""), "rollback": ("session", ""), "savepoint": ("session", ""), "xa": ("session", ""), "use": ("session", ""), "kill": ("kill", "admin read"),
    "lock": ("lock", "admin"), "unlock": ("lock", ""), "handler": ("read", ""), "help": ("session", ""), "signal": ("session", ""), "call": ("procedure", ROWS),
    "deallocate": ("session", ""),
}  # fmt: skip
DML = ("insert", "replace", "update", "delete")
ANY = ("prepare", "execute")  # whatever they prepare or execute
TYPES = {
    "SELECT": "read", "INSERT": "write", "REPLACE": "write", "UPDATE": "write", "DELETE": "write", "DROP": "drop session",
    "CREATE": "schema grant", "ALTER": "schema grant admin", "TRUNCATE": "truncate", "CREATE OR REPLACE": "schema grant",
}  # fmt: skip


@pytest.fixture(scope="module")
def statements() -> list[str]:
    found = sorted({statement for _, text in corpus.files() for statement in corpus.statements(text)})
    assert len(found) > 50_000
    random.Random("vendorgate").shuffle(found)
    return found[:SIZE]


def faults(statement: str, reading: Reading) -> list[str]:
    """Return what is wrong in what is said of a statement."""
    effects, unknown = reading.values["effect"], reading.unknown
    if "effect" in unknown or reading.count != 1:
        return []
    match = re.match(r"[(\s]*([a-z]+)", statement, re.I)
    assert match is not None
    word, found = match.group(1).lower(), []
    if word in DML and any(table.startswith("mysql.") for table in reading.values["table"]):  # rows of rights
        effects -= {"admin", "grant"}
    if word not in ANY:
        must, may = FAMILY[word]
        if not effects & set(must.split()):
            found.append(f"{word} without {must}")
        if more := effects - set(must.split()) - set(may.split()):
            found.append(f"{word} with {' '.join(sorted(more))}")
    kind = sqlparse.parse(statement)[0].get_type() if word not in (*ANY, "set", "analyze", "explain", "desc", "describe") else ""
    if kind in TYPES and not effects & set(TYPES[kind].split()):
        found.append(f"sqlparse calls it {kind}")
    return found


def test_none_is_wrong(statements: list[str]) -> None:
    counts: Counter[str] = Counter()
    wrong = []
    for statement in statements:
        reading = read(statement, PLAIN)
        counts["unknown" if reading.unknown >= ALL else "in part unknown" if reading.unknown else "known"] += 1
        wrong += [f"{fault}: {statement[:200]}" for fault in faults(statement, reading)]
    print(f"\n{len(statements)} statements of {corpus.PACKAGE}: {dict(counts)}, {len(wrong)} wrong")
    assert wrong == [], "\n".join(wrong)
    assert counts["known"] > 0.9 * len(statements)


def test_shapes_of_them_mean_the_same(statements: list[str]) -> None:
    for statement in statements[:1_000]:
        whole, shaped = read(statement, PLAIN), Store().read(statement, PLAIN)
        assert (shaped.values, shaped.unknown, len(shaped.results)) == (whole.values, whole.unknown, len(whole.results)), statement
