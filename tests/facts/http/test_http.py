"""What HTTP requests would do: tables of requests and facts."""

import pytest

from appliance.facts import Facts
from appliance.facts.http.paths import MAX_READINGS, readings
from appliance.facts.http.reader import Http
from appliance.facts.http.request import MAX_PAIRS, SHOWN
from appliance.facts.readers import open as open_reader
from appliance.facts.shared import Shared
from appliance.model import Message, Side, Value

FORM = "content-type: application/x-www-form-urlencoded\n"


def asked(text: str = "GET /", host: str = "api.example", lines: str = "", body: bytes = b"", status: str = "") -> Facts:
    values = (Value(lines.encode("latin-1")), Value(body))
    facts = open_reader("http", Shared()).ask(Message(Side.CLIENT, "request", b"", text=text, name=host, values=values, status=status))
    assert facts is not None
    return facts


# what is asked -> key -> values
REQUESTS = {
    "read": (asked("GET /a"), {"effect": {"read"}, "method": {"GET"}, "host": {"api.example"}, "path": {"/a"}}),
    "write": (asked("PATCH /a"), {"effect": {"write"}}),
    "delete": (asked("DELETE /a"), {"effect": {"write", "delete"}}),
    "a method nobody knows": (asked("BREW /a"), {"effect": {"write"}}),
    "override in a header": (asked("POST /a", lines="x-http-method-override: delete\n"), {"effect": {"write", "delete"}, "method": {"POST", "DELETE"}}),
    "override in the query": (asked("GET /a?_method=DELETE"), {"effect": {"read", "write", "delete"}}),
    "override in a form": (asked("POST /a", lines=FORM, body=b"_method=PUT"), {"method": {"POST", "PUT"}}),
    "absolute form": (asked("GET http://API.example:80/a?b=c"), {"host": {"api.example"}, "path": {"/a"}, "query": {"b=c"}}),
    "a port": (asked(host="api.example:8080"), {"host": {"api.example"}, "port": {"8080"}}),
    "a websocket is opened": (asked(lines="upgrade: WebSocket\n"), {"method": {"GET", "WEBSOCKET"}, "effect": {"read", "write"}}),
    "no port": (asked(host="127"), {"port": set()}),
    "connect": (asked("CONNECT db.example:5432", host="db.example:5432"), {"method": {"CONNECT"}, "host": {"db.example"}, "port": {"5432"}, "path": set(), "effect": {"write"}}),
    "host with a port": (asked(host="api.example.:8080"), {"host": {"api.example"}}),
    "host in brackets": (asked(host="[::1]:80"), {"host": {"[::1]"}}),
    "query": (asked("GET /?a=1&b=%32&a=3&c"), {"query": {"a=1", "b=2", "a=3", "c="}}),
    "query parted by semicolons": (asked("GET /?a=1;b=2"), {"query": {"a=1;b=2", "a=1", "b=2"}}),
    "form": (asked("POST /", lines=FORM, body=b"a=1&b=x+y"), {"field": {"a=1", "b=x y"}}),
    "header": (asked(lines="x-team: red\nauthorization: Bearer x\n"), {"header": {"x-team: red"}}),
    "content": (asked(lines="content-type: Text/HTML; charset=x\n"), {"content": {"text/html"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(name: str) -> None:
    facts, expected = REQUESTS[name]
    assert {key: set(facts.values[key]) for key in expected} == expected
    assert not facts.unknown


def spoken(text: bytes, kind: str = "ws-text") -> Facts | None:
    values = (Value(b"host: api.example\nx-team: red\n"), Value(text))
    return open_reader("http", Shared()).ask(Message(Side.CLIENT, kind, b"", text="WEBSOCKET /chat?a=1", name="api.example", values=values))


@pytest.mark.parametrize("kind", ["ws-text", "ws-binary", "ws-control"])
def test_a_message_in_a_websocket(kind: str) -> None:
    facts = spoken(b'{"op": "dr\\u006fp"}', kind)
    assert facts is not None
    expected = {"effect": {"write"}, "method": {"WEBSOCKET"}, "host": {"api.example"}, "path": {"/chat"}, "query": {"a=1"},
                "header": {"host: api.example", "x-team: red"}, "json": {"$.op = drop"}, "text": {'{"op": "dr\\u006fp"}', "drop"}}  # fmt: skip
    assert {key: set(facts.values[key]) for key in expected} == expected
    assert facts.subject == 'WEBSOCKET /chat?a=1\n\n{"op": "dr\\u006fp"}'


def test_a_message_in_a_websocket_that_may_be_json() -> None:
    facts = spoken(b'{"op": "drop",}')
    assert facts is not None
    assert facts.unknown == {"json", "graphql", "sql"}


def test_an_operation_in_the_payload_of_a_message() -> None:
    facts = spoken(b'{"type": "subscribe", "payload": {"query": "mutation { a }"}}')
    assert facts is not None
    assert facts.values["graphql"] == {"mutation", "mutation.a"}


def test_what_keeps_a_websocket_alive_asks_for_nothing() -> None:
    assert open_reader("http", Shared()).ask(Message(Side.CLIENT, "ws-control", b"")) is None


# as it is sent -> as a server may read it
PATHS = {
    "//admin": "/admin",
    "/x/../admin": "/admin",
    "/./admin": "/admin",
    "/admin;x": "/admin",
    "/admin;x=1/users": "/admin/users",
    "/%61dmin": "/admin",
    "/%2e%2e/admin": "/admin",
    "/x/%252e%252e/admin": "/admin",
    "/x%2f..%2fadmin": "/admin",
    "/x/..;/admin": "/admin",
    "/x\\..\\admin": "/admin",
    "/x%5c..%5cadmin": "/admin",
    "/admin%00.png": "/admin",
    "/admin/": "/admin/",
    "/admin/.": "/admin/",
    "/a/b/../../admin": "/admin",
    "/../../admin": "/admin",
}


@pytest.mark.parametrize("path", PATHS)
def test_paths(path: str) -> None:
    found, whole = readings(path)
    assert whole
    assert {path, PATHS[path]} <= found


@pytest.mark.parametrize("path", ["/", "/v1/orders/12", "/a.b/c-d_e~f", "/v1:batch", "*"])
def test_an_honest_path_has_one_reading(path: str) -> None:
    assert readings(path) == ({path}, True)


def test_max_readings() -> None:
    found, whole = readings("/" + "%" + "25" * 80 + "2e")
    assert not whole
    assert len(found) == MAX_READINGS
    assert "path" in asked("GET /" + "%" + "25" * 80 + "2e").unknown


def test_max_pairs() -> None:
    assert "query" not in asked("GET /?" + "&".join(["a"] * MAX_PAIRS)).unknown
    assert "query" in asked("GET /?" + "&".join(["a"] * (MAX_PAIRS + 1))).unknown
    assert "field" in asked("POST /", lines=FORM, body=b"&".join([b"a"] * (MAX_PAIRS + 1))).unknown


@pytest.mark.parametrize(("status", "why"), [("oversize", "too long"), ("encoded", "cannot be opened")])
def test_a_body_that_is_not_known(status: str, why: str) -> None:
    facts = asked("POST /", status=status)
    assert facts.unknown == {"text", "field", "file", "json", "graphql", "sql"}
    assert why in facts.why


def test_text_for_detectors() -> None:
    text = " ".join(asked("POST /a%20b", lines="x: 1\ncookie: c\n", body=b"4111 1111 \xff").values["text"])
    assert "/a b" in text
    assert "x: 1" in text
    assert "4111 1111 ÿ" in text
    assert "cookie" not in text


def test_the_reviewer_sees_the_request_without_credentials() -> None:
    subject = asked("POST /a", lines="x: 1\nauthorization: Bearer abc\ncookie: s=1\n", body=b"{}").subject
    assert subject == "POST /a\nx: 1\nauthorization: ***\ncookie: ***\n\n{}"
    assert asked(body=b"x" * (SHOWN + 1)).subject.endswith("x\n[more]")


def test_as_a_person_types_it() -> None:
    facts = open_reader("http", Shared()).ask(Message(Side.CLIENT, "query", b"", text="POST https://pay.example/v1\ncontent-type: text/plain\n\nhello"))
    assert facts is not None
    assert (facts.values["host"], facts.values["path"], facts.values["content"]) == ({"pay.example"}, {"/v1"}, {"text/plain"})


def test_only_requests_ask() -> None:
    assert Http().ask(Message(Side.CLIENT, "body", b"x")) is None
