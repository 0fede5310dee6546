"""What HTTP requests would do: tables of requests and facts."""

import pytest

from appliance.facts import Facts
from appliance.facts.http.body import MAX_PAIRS, METHOD
from appliance.facts.http.documents import MAX_LEAVES
from appliance.facts.http.paths import MAX_READINGS, readings
from appliance.facts.http.reader import Http
from appliance.facts.http.request import SHOWN
from appliance.facts.readers import open as open_reader
from appliance.facts.shared import Shared
from appliance.model import Message, Side, Value

FORM = "content-type: application/x-www-form-urlencoded\n"
PARTS = "content-type: multipart/form-data; boundary=x\n"


def part(name: str, value: str, more: str = "") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'.encode()


def asked(text: str = "GET /", host: str = "api.example", lines: str = "", body: bytes = b"", *, status: str = "", packed: bytes = b"") -> Facts:
    values = (Value(lines.encode("latin-1")), Value(body), *([Value(packed)] if packed else []))
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
    "form in UTF-8": (asked("POST /", lines=FORM, body="a=é&b=%C3%A9".encode()), {"field": {"a=é", "b=é"}}),
    "form without a type": (asked("POST /", body=b"a=1"), {"field": {"a=1"}}),
    "body of a PUT without a type": (asked("PUT /", body=b"a=1"), {"field": set()}),
    "form as PHP cuts its type": (asked("POST /", lines=FORM[:-1] + " x\n", body=b"a=1"), {"field": {"a=1"}, "content": {FORM[14:-1], FORM[14:-1] + " x"}}),
    "names as PHP reads them": (asked("GET /?%20a=1&b.c=2&d[e=3&f%00g=4&h[i.j]=5"), {"query": {" a=1", "a=1", "b.c=2", "b_c=2", "d[e=3", "d_e=3", "f\0g=4", "f=4", "h[i.j]=5"}}),
    "override by a name as PHP reads it": (asked("POST /?.method=put", lines=FORM, body=b"+_method=DELETE"), {"method": {"POST", "PUT", "DELETE"}}),
    "override by a name as Express reads it": (asked("POST /?[_method]=put", lines=FORM, body=b"%5B_method%5Dx=DELETE"), {"method": {"POST", "PUT", "DELETE"}}),
    "names as Express reads them": (asked("POST /", lines=FORM, body=b"z=0&[role]=admin&[a][b]=1&[]=2&a[b]=3&[[c]]=4"), {"field": {"z=0", "[role]=admin", "role=admin", "[a][b]=1", "a[b]=1", "[]=2", "=2", "a[b]=3", "[[c]]=4"}}),
    "parts by names as PHP and Express read them": (asked("POST /", lines=PARTS, body=part(".method", "put") + part("[_method]", "delete") + b"--x--\r\n"), {"method": {"POST", "PUT", "DELETE"}, "field": {".method=put", "_method=put", "[_method]=delete", "_method=delete"}}),
    "a file by two names": (asked("POST /", lines=PARTS, body=part("f", "1", "; filename=a.md; filename*=UTF-8'en'%C3%A9.sh") + b"--x--\r\n"), {"file": {"a.md", "é.sh"}, "field": set()}),
    "a file by its coded name": (asked("POST /", lines=PARTS, body=part("f", "1", "; filename*=utf-8''a.sh") + b"--x--\r\n"), {"file": {"a.sh"}, "field": {"f=1"}}),
    "a file without a name": (asked("POST /", lines=PARTS, body=part("role", "admin", '; filename=""') + part("g", "", '; filename=""') + b"--x--\r\n"), {"file": {""}, "field": {"role=admin"}}),
    "override in JSON": (asked("POST /a", body=b'{"_method": "put"}'), {"method": {"POST", "PUT"}}),
    "override in a query of Salesforce": (asked("POST /a?_HttpMethod=PATCH"), {"method": {"POST", "PATCH"}}),
    "override in a header of CGI": (asked("POST /a", lines="x_http_method_override: put\n"), {"method": {"POST", "PUT"}}),
    "header of CGI": (asked(lines="x_team: red\n"), {"header": {"x_team: red", "x-team: red"}}),
    "type in a header of CGI": (asked("POST /a", lines=FORM + "content_type: text/plain\n", body=b"a=1"), {"field": {"a=1"}, "content": {FORM[14:-1]}}),
    "path in a header": (asked(lines="x-original-url: /admin?a=b\nx-rewrite-url: http://a/x/../y\n"), {"path": {"/", "/admin", "/x/../y", "/y"}}),
    "packed": (asked("POST /", lines=FORM, body=b"a=1", packed=b"\x1f\x8b&b=2&"), {"field": {"a=1", "\x1f\ufffd=", "b=2"}}),
    "packed JSON": (asked("POST /", lines="content-type: application/json\n", body=b'{"a": 1}', packed=b"\x1f\x8b"), {"json": {"$.a = 1"}}),
    "packed parts": (asked("POST /", lines="content-type: multipart/form-data; boundary=x\n", body=b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n', packed=b"\x1f\x8b"), {"field": {"a=1"}}),
    "no body of a type": (asked(lines="content-type: application/json\n"), {"json": set(), "content": {"application/json"}}),
    "address in hexadecimal": (asked(host="0xA9FEA9FE:80"), {"host": {"0xa9fea9fe", "169.254.169.254"}}),
    "address in octal and short": (asked(host="0251.0xfe.43518"), {"host": {"0251.0xfe.43518", "169.254.169.254"}}),
    "address in IPv6": (asked(host="[::FFFF:a9fe:a9fe]:80"), {"host": {"[::ffff:a9fe:a9fe]", "169.254.169.254"}}),
    "host that begins as an address": (asked(host="1.2.3.4.example"), {"host": {"1.2.3.4.example"}}),
    "number that is no address": (asked(host="09.1"), {"host": {"09.1"}}),
    "header": (asked(lines="x-team: red\nauthorization: Bearer x\n"), {"header": {"x-team: red"}}),
    "content": (asked(lines="content-type: Text/HTML; charset=x\n"), {"content": {"text/html"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(name: str) -> None:
    facts, expected = REQUESTS[name]
    assert {key: set(facts.values[key]) for key in expected} == expected
    assert not facts.unknown


def test_what_comes_behind_a_head_by_another_name_waits_for_its_answer() -> None:
    assert asked("POST /", lines="x-http-method-override: head\n").changes
    assert not any(asked(f"{method} /").changes for method in ("GET", "HEAD", "POST"))


def spoken(text: bytes, kind: str = "ws-text") -> Facts | None:
    values = (Value(b"host: api.example\nx-team: red\n"), Value(text))
    return open_reader("http", Shared()).ask(Message(Side.CLIENT, kind, b"", text="WEBSOCKET /chat?a=1", name="api.example", values=values))


@pytest.mark.parametrize("kind", ["ws-text", "ws-binary", "ws-control"])
def test_a_message_in_a_websocket(kind: str) -> None:
    facts = spoken(b'{"op": "dr\\u006fp"}', kind)
    assert facts is not None
    expected = {"effect": {"write"}, "method": {"WEBSOCKET"}, "host": {"api.example"}, "path": {"/chat"}, "query": {"a=1"},
                "header": {"host: api.example", "x-team: red"}, "json": {"$.op = drop"}, "text": {'{"op": "dr\\u006fp"}', "op", "drop"}}  # fmt: skip
    assert {key: set(facts.values[key]) for key in expected} == expected
    assert facts.subject == 'WEBSOCKET /chat?a=1\n\n{"op": "dr\\u006fp"}'


@pytest.mark.parametrize("text", [b'"\\u0041KIA"', b'{"\\u0041KIA": 1}', b'["\\u0041KIA"]'])
def test_escapes_do_not_hide_in_a_websocket(text: bytes) -> None:
    facts = spoken(text)
    assert facts is not None
    assert "AKIA" in facts.values["text"]


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
    "//api.example/admin": "/admin",
    "/\\api.example/admin": "/admin",
    "/x/..//api.example/admin": "/admin",
    "//api.example": "/",
    "/group%2fsecr%65t": "/group%2fsecret",
    "/x/%2e%2e/group%2Fsecret": "/group%2Fsecret",
    "/admin%3fx=1": "/admin",
    "/admin%2523x": "/admin",
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


LIST = "content-type: text/plain, application/x-www-form-urlencoded\n"
# what some server reads as another document, or in another way -> what is not known of it
DOUBTFUL = {
    "a list of types": (asked("POST /", lines=LIST, body=b"a=1"), {"text", "field", "json"}),
    "YAML": (asked("POST /", lines="content-type: application/yaml\n", body=b"a: 1"), {"json", "sql"}),
    "a protocol buffer": (asked("POST /", lines="content-type: application/vnd.kubernetes.protobuf\n", body=b"k8s"), {"json", "sql"}),
    "XML": (asked("POST /", lines="content-type: application/soap+xml; charset=utf-8\n", body=b"<a/>"), {"json", "sql"}),
    "lines of JSON": (asked("POST /", lines="content-type: application/x-ndjson\n", body=b'1\n{"a": 1}'), {"json", "sql"}),
    "a path in a header": (asked("GET /", lines="x-original-url: /" + "%" + "25" * 80 + "2e\n"), {"path"}),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_is_read_otherwise_is_not_known(name: str) -> None:
    facts, unknown = DOUBTFUL[name]
    assert unknown <= facts.unknown


@pytest.mark.parametrize(
    "said",
    [
        'name="=?utf-8?B?X21ldGhvZA==?="', 'name="a"; filename="=?utf-8?B?eC5zaA==?="', "name='_method'", "name=_method x", "name*=utf-8''_method",
        "name=a; x='; name=_method'", 'name="a"_method', 'name=_"method"', "name=a; filename*=utf-16''%c3", "name=a; filename*=utf-8''a; filename*=utf-8''b",
    ],
)  # fmt: skip
def test_a_part_whose_name_is_read_in_more_ways_than_one(said: str) -> None:
    body = f"--x\r\nContent-Disposition: form-data; {said}\r\n\r\n1\r\n--x--\r\n".encode()
    assert asked("POST /", lines=PARTS, body=body).unknown >= {"field", "file", *METHOD}


def test_a_picture_is_no_document() -> None:
    assert not asked("PUT /", lines="content-type: image/svg+xml\n", body=b"<svg/>").unknown


@pytest.mark.parametrize(("status", "why"), [("oversize", "too long"), ("long", "too long"), ("encoded", "cannot be opened")])
def test_a_body_that_is_not_known(status: str, why: str) -> None:
    facts = asked("POST /", lines="content-type: image/png\n", status=status)
    assert facts.unknown == {"text", "field", "file", "json", "graphql", "sql"}
    assert why in facts.why


JSON = "content-type: application/json\n"
# header lines, status -> whether the method of a POST is unknown
POSTED = {
    "a form": (FORM, "oversize", True),
    "a form of parts": ("content-type: multipart/form-data; boundary=x\n", "oversize", True),
    "no type": ("", "oversize", True),
    "parts that are packed": ("content-type: multipart/form-data; boundary=x\n", "encoded", True),
    "JSON": (JSON, "oversize", True),
    "JSON of another type": ("content-type: application/problem+JSON; charset=utf-8\n", "oversize", True),
    "JSON as Laravel knows it": ("content-type: text/plain; of=application/json\n", "oversize", True),
    "JSON that cannot be opened": (JSON, "encoded", True),
    "JSON that names none": (JSON, "long", False),
    "a form that names none": (FORM, "long", False),
    "lines of JSON": ("content-type: application/x-ndjson\n", "oversize", False),
    "bytes": ("content-type: application/octet-stream\n", "oversize", False),
    "a push of git": ("content-type: application/x-git-receive-pack-request\n", "oversize", False),
}


@pytest.mark.parametrize("case", POSTED)
def test_what_is_posted_and_not_known_may_say_that_another_method_is_meant(case: str) -> None:
    lines, status, unknown = POSTED[case]
    assert (asked("POST /", lines=lines, body=b"{", status=status).unknown >= METHOD) is unknown
    assert not METHOD & asked("PUT /", lines=lines, body=b"{", status=status).unknown


def test_a_query_that_is_not_known_may_say_that_another_method_is_meant() -> None:
    assert asked("POST /?" + "&".join(["a"] * (MAX_PAIRS + 1))).unknown >= METHOD


@pytest.mark.parametrize(
    ("content", "body", "unknown"),
    [
        ("application/json", b'{"_method": "DELETE", "a": "\xff"}', True),
        ("application/json", b'{"\\u005fMethod": "DELETE"} {}', True),
        ("application/json", b'{"_\\u006dethod": "DELETE",}', True),
        ("application/json; charset=utf-7", b'{"+AF8-method": "DELETE"}', True),
        ("application/json", b'{"index": {}}\n{"method": "\\u00e9"}\n', False),  # as bulks are posted to a search
        ("application/x-ndjson", b'{"_method": "DELETE"}\n{}', False),
        ("application/json", b"[" + b"1," * MAX_LEAVES + b"1]", False),
        ("application/octet-stream", b"_method", False),
    ],
)
def test_json_that_is_not_read_may_say_that_another_method_is_meant(content: str, body: bytes, unknown: bool) -> None:
    assert (asked("POST /", lines=f"content-type: {content}\n", body=body).unknown >= METHOD) is unknown


def test_what_is_escaped_twice_in_a_path_is_looked_at() -> None:
    assert "/AKIA" in asked("GET /%2541KIA").values["text"]


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
