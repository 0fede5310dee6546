"""Statements in the body of a request: what is refused, what is allowed, and what cannot be told."""

import json
from urllib.parse import unquote_plus

import pytest

from appliance.config import rules
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.model import Address, ConfigError, Message, Side, Value
from appliance.policy import Policy
from appliance.policy.statements import MAX_KEPT, MAX_STATEMENTS, MAX_TEXT, Statements, _read

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
    '{"query": ["DROP TABLE orders"]}': ("block", "no-drop"),  # JavaScript makes a text of it
    '{"query": {"text": "DROP TABLE orders"}}': ("block", "no-drop"),
    '{"other": {"query": "DROP TABLE orders"}}': ("block", "default"),
    '\ufeff{"query": "DROP TABLE orders"}': ("block", "no-drop"),
    '{"query": "SELECT * FROM orders"': ("block", "no-drop"),  # no JSON: what it says is not known
    '{"other": "SELECT * FROM orders"}': ("block", "default"),
    "": ("block", "default"),  # there is nothing that could be read
}


@pytest.mark.parametrize("body", BODIES)
def test_a_leaf_of_json(body: str) -> None:
    assert judged(policy(), body) == BODIES[body]


OPEN = RULES.replace("rules:", "default: allow\nrules:")


def lenient(field: str) -> Policy:
    """All that is not refused is allowed."""
    return rules([("10.yaml", OPEN.replace("FIELD", field).replace("DIALECT", "postgres"))], resolve)


def reads(field: str) -> Policy:
    """All that is not allowed is refused, by no rule."""
    lines = [line for line in RULES.splitlines() if "no-drop" not in line]
    return rules([("10.yaml", "\n".join(lines).replace("FIELD", field).replace("DIALECT", "postgres"))], resolve)


DROP = "DROP TABLE orders"


@pytest.mark.parametrize(
    "body",
    [body.encode() for body, verdict in BODIES.items() if verdict == ("block", "no-drop") and body]
    + [sql(DROP).encode(coding) for coding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")],
)
@pytest.mark.parametrize("content", ["application/json", "text/plain", ""])
def test_what_could_be_refused_is_refused_where_the_rest_is_allowed(body: bytes, content: str) -> None:
    assert judged(lenient('"$.query"'), body, content=content) == ("block", "no-drop")


# names that some server takes for the field my_q
NAMES = ["%6dy_Q", "MY.Q", "my+q", "+my_q", "my_q[]", "my_q[0]", "my_q[a][b]", "my_q%00x", "my.q[]"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["query", "form", "multipart"])
def test_a_name_that_some_server_takes_for_the_field(name: str, place: str) -> None:
    pair = f"{name}=DROP+TABLE+orders"
    line, content, body = f"POST /?{pair}", "text/plain", ""
    if place == "form":
        line, content, body = "POST /", "application/x-www-form-urlencoded", pair
    elif place == "multipart":
        plain = unquote_plus(name)
        line, content = "POST /", "multipart/form-data; boundary=b"
        body = f'--b\r\nContent-Disposition: form-data; name="{plain}"\r\n\r\n{DROP}\r\n--b--\r\n'
    assert judged(lenient("my_q"), body, line, content) == ("block", "no-drop")
    if "%00" not in name:
        assert judged(lenient("their_q"), body, line, content)[0] == "allow", "it is not every field"


# what an allowed statement comes with -> that a server might take instead
BESIDE = (
    '{"query": "SELECT * FROM orders", "QUERY": "SELECT * FROM users"}',
    '{"query": "SELECT * FROM orders", "query": ["SELECT * FROM users"]}',
    '{"query": "SELECT * FROM orders", "query": {"a": "SELECT * FROM users"}}',
)


@pytest.mark.parametrize("body", BESIDE)
def test_what_is_allowed_is_allowed_however_it_is_taken(body: str) -> None:
    assert judged(reads('"$.query"'), sql("SELECT * FROM orders")) == ("allow", "reads")
    assert judged(reads('"$.query"'), body) == ("block", "default")


@pytest.mark.parametrize("name", ["Q", "q[]", "q%00x", "+q"])
def test_what_is_allowed_is_allowed_whatever_its_name(name: str) -> None:
    line = "POST /?q=SELECT+*+FROM+orders"
    assert judged(reads("q"), "", line, "text/plain") == ("allow", "reads")
    assert judged(reads("q"), "", f"{line}&{name}=SELECT+*+FROM+users", "text/plain") == ("block", "default")


SPOOF = "%24.query%20=%20SELECT+*+FROM+orders"  # read as "$.query = SELECT * FROM orders", which is how a leaf is written


@pytest.mark.parametrize(
    ("line", "content", "body"),
    [
        ("POST /sql", "application/x-www-form-urlencoded", f"{SPOOF}&query=DROP+TABLE+orders"),
        (f"POST /sql?{SPOOF}", "text/plain", DROP),
        (f"POST /sql?{SPOOF}&query=DROP+TABLE+orders", "text/plain", ""),
        (
            "POST /sql",
            "multipart/form-data; boundary=b",
            '--b\r\nContent-Disposition: form-data; name="$.query "\r\n\r\n SELECT * FROM orders\r\n--b--\r\n',
        ),
    ],
)
def test_a_pair_whose_name_is_written_like_a_path_is_no_leaf(line: str, content: str, body: str) -> None:
    assert judged(reads('"$.query"'), body, line, content) == ("block", "default")


def test_max_text() -> None:
    condition = Statements("$[*]", "postgres", {})
    fits = ["$[0] = SELECT '" + "x" * (MAX_TEXT - 9) + "'"]
    assert condition.every(fits) is True
    assert condition.every([*fits, "$[1] = SELECT"]) is False
    assert policy("body") and judged(policy("body"), "SELECT" + " " * MAX_TEXT, content="text/plain") == ("block", "no-drop")


def test_max_kept() -> None:
    """A statement is read once, however many rules are about it."""
    _read.cache_clear()
    assert judged(policy(), sql("SELECT a FROM orders")) == ("allow", "reads")
    assert _read.cache_info().misses == 1
    for number in range(MAX_KEPT + 1):
        judged(policy(), sql(f"SELECT {number} FROM orders"))
    assert _read.cache_info().currsize == MAX_KEPT


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
