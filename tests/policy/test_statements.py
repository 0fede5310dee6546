"""Statements in the body of a request: what is refused, what is allowed, and what cannot be told."""

import json

import pytest

from appliance.config import rules
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.model import Address, ConfigError, Message, Side, Value
from appliance.policy import Policy
from appliance.policy.statements import MAX_STATEMENTS, Statements

from .given import resolve

API = Address("10.0.3.9", 80)
RULES = """
targets:
  api: {protocol: http, address: "10.0.3.9:80"}
rules:
  - {id: no-drop, to: api, when: {sql: {field: FIELD, dialect: DIALECT, effect: [drop, truncate]}}, do: block}
  - {id: reads, to: api, when: {sql: {field: FIELD, dialect: DIALECT, effect: read, table: orders}}, do: allow}
"""


def policy(field: str = '"$.query"', dialect: str = "postgres") -> Policy:
    return rules([("10.yaml", RULES.replace("FIELD", field).replace("DIALECT", dialect))], resolve)


def judged(policy: Policy, body: bytes | str, line: str = "POST /sql", content: str = "application/json") -> tuple[str, str]:
    """Return the verdict on a request and whose it is."""
    raw = body if isinstance(body, bytes) else body.encode()
    values = (Value(f"content-type: {content}".encode()), Value(raw))
    facts = open_reader("http", Shared()).ask(Message(Side.CLIENT, "request", b"", text=line, name="api", values=values))
    assert facts is not None
    decision = policy.decide(("acme",), API, facts)
    return decision.verdict, decision.rule


def sql(text: str) -> str:
    return json.dumps({"query": text})


# body -> verdict, rule
BODIES = {
    sql("SELECT * FROM orders"): ("allow", "reads"),
    sql("SELECT * FROM users"): ("block", "default"),
    sql("DROP TABLE orders"): ("block", "no-drop"),
    sql("SELECT 1; DROP TABLE orders"): ("block", "no-drop"),
    sql("/* x */ DrOp\n TABLE orders"): ("block", "no-drop"),
    sql("SELECT * FROM orders WHERE"): ("block", "no-drop"),  # what does not parse may be anything
    '{"query": "\\u0044ROP TABLE orders"}': ("block", "no-drop"),
    '{"query": "SELECT * FROM orders", "query": "DROP TABLE orders"}': ("block", "no-drop"),
    '{"query": "SELECT * FROM orders", "Query": "DROP TABLE orders"}': ("block", "no-drop"),
    '{"query": ["DROP TABLE orders"]}': ("block", "default"),  # not at the field, and nothing there to allow
    '{"query": "SELECT * FROM orders"': ("block", "no-drop"),  # no JSON: what it says is not known
    '{"other": "SELECT * FROM orders"}': ("block", "default"),
    "": ("block", "no-drop"),  # it says it is JSON
}


@pytest.mark.parametrize("body", BODIES)
def test_a_leaf_of_json(body: str) -> None:
    assert judged(policy(), body) == BODIES[body]


def test_every_element_of_a_batch() -> None:
    batch = policy('"$[*].query"')
    assert judged(batch, json.dumps([{"query": "SELECT * FROM orders"}] * 3)) == ("allow", "reads")
    mixed = json.dumps([{"query": "SELECT * FROM orders"}, {"query": "TRUNCATE orders"}])
    assert judged(batch, mixed) == ("block", "no-drop")


@pytest.mark.parametrize(
    ("line", "content", "body"),
    [
        ("POST /?q={}", "text/plain", ""),
        ("POST /", "application/x-www-form-urlencoded", "q={}"),
        ("POST /?q=SELECT+*+FROM+orders", "application/x-www-form-urlencoded", "q={}"),
        ("POST /?Q={}", "text/plain", ""),
    ],
)
def test_a_field_of_a_form_or_the_query(line: str, content: str, body: str) -> None:
    fields = policy("q")
    drop = "DROP+TABLE%20orders"
    assert judged(fields, body.format(drop), line.format(drop), content) == ("block", "no-drop")
    if "Q" not in line:
        read = "SELECT+*+FROM+orders"
        assert judged(fields, body.format(read), line.format(read), content) == ("allow", "reads")


def test_the_body_is_the_statement() -> None:
    whole = policy("body")
    assert judged(whole, "SELECT * FROM orders", content="text/plain") == ("allow", "reads")
    assert judged(whole, "DROP TABLE orders", content="text/plain") == ("block", "no-drop")
    assert judged(whole, "DROP TABLE orders", content="application/octet-stream") == ("block", "no-drop")


def test_a_charset_that_is_not_read_hides_nothing() -> None:
    body = "DROP TABLE orders".encode("utf-16")
    assert judged(policy("body"), body, content="text/plain; charset=utf-16") == ("block", "no-drop")


def test_the_dialect_counts() -> None:
    text = sql("SELECT * FROM orders /*!50000 INTO OUTFILE '/tmp/x' */")
    assert judged(policy(), text) == ("allow", "reads")  # a comment
    assert judged(policy(dialect="mysql"), text) != ("allow", "reads")


def test_max_statements() -> None:
    condition = Statements("$[*]", "postgres", {})
    reads = [f"$[{i}] = SELECT {i}" for i in range(MAX_STATEMENTS + 1)]
    assert condition.every(reads[1:]) is True
    assert condition.every(reads) is False
    drops = policy('"$[*]"')
    many = json.dumps(["SELECT * FROM orders"] * 0 + [f"SELECT {i} FROM orders" for i in range(MAX_STATEMENTS + 1)])
    assert judged(drops, many) == ("block", "no-drop")


# what is written -> what is said of it
REFUSED = {
    "{dialect: postgres, effect: drop}": "needs `field`, `dialect` and a condition",
    '{field: "$.q", dialect: postgres}': "needs `field`, `dialect` and a condition",
    '{field: "$.q", dialect: oracle, effect: drop}': "unknown value `oracle`",
    '{field: "$.q", dialect: postgres, effect: drp}': "unknown value `drp`",
    '{field: "$.q", dialect: postgres, path: /x}': "unknown condition `path` of postgres",
    '{field: "$q", dialect: postgres, effect: drop}': "is no path of a leaf",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        rules([("10.yaml", f"default: block\nrules: [{{id: a, when: {{sql: {text}}}, do: block}}]")], resolve)
    assert REFUSED[text] in str(error.value)
    assert "hint:" in str(error.value)
