"""What bodies say: JSON with its traps, GraphQL, multipart."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.facts.http import documents, reader
from appliance.facts.http.documents import graphql, leaves, multipart
from appliance.facts.http.found import Found, Pairs
from appliance.facts.http.operations import MAX_TOKENS
from appliance.facts.http.reader import Http
from appliance.model import Column, Message, Side, Value

from .test_http import asked

# body -> leaves
JSON = {
    '{"amount": 5}': {"$.amount = 5"},
    '{"amount": 1e5}': {"$.amount = 1e5"},
    '{"amount": 12345678901234567890.5}': {"$.amount = 12345678901234567890.5"},
    '{"a": {"b": [true, null, "x"]}}': {"$.a.b[0] = true", "$.a.b[1] = null", "$.a.b[2] = x"},
    '{"a": 1, "a": 20000}': {"$.a = 1", "$.a = 20000"},
    '{"\\u0061": 1}': {"$.a = 1"},
    '{"a": "\\u0041KIA"}': {"$.a = AKIA"},
    '{"a b": 1, "c.d": 2, "": 3}': {'$["a b"] = 1', '$["c.d"] = 2', '$[""] = 3'},
    '{"x = $.a": 1}': {'$["x = $.a"] = 1'},
    "[[1], {}]": {"$[0][0] = 1"},
    '  [{"query": "x"}]\n': {"$[0].query = x"},
    '{"a": NaN}': {"$.a = NaN"},
}


@pytest.mark.parametrize("body", JSON)
def test_leaves(body: str) -> None:
    assert leaves(body.encode(), True)[0] == Found(frozenset(JSON[body]))


@pytest.mark.parametrize("body", ["{'a': 1}", '{"a": 1', '{"a": 1}{"b": 2}', '{"a": 1,}', "", "a=b", '{"a": 1} x'])
def test_what_says_it_is_json_and_is_not(body: str) -> None:
    assert not leaves(body.encode(), True)[0].whole


def test_what_looks_like_json_is_read_whatever_it_says() -> None:
    assert leaves(b'{"a": 1}', False)[0].values == {"$.a = 1"}
    assert leaves(b'{"a": 1', False)[0] == Found(whole=False)
    assert leaves(b"a=b", False)[0] == Found()


def test_utf_16() -> None:
    assert leaves('{"a": 1}'.encode("utf-16"), True)[0].values == {"$.a = 1"}


def test_max_leaves() -> None:
    most = json.dumps(list(range(documents.MAX_LEAVES)))
    assert leaves(most.encode(), True)[0].whole
    assert not leaves((most[:-1] + ", 1, 2]").encode(), True)[0].whole


def test_limit_max_path() -> None:
    name = "a" * (documents.MAX_PATH // 2)
    assert leaves(json.dumps({name: {"b": 1}}).encode(), True)[0].whole
    assert not leaves(json.dumps({name: {name: 1}}).encode(), True)[0].whole


@pytest.mark.parametrize("depth", [documents.MAX_DEPTH + 2, 200_000])
def test_max_depth(depth: int) -> None:
    assert not leaves(b"[" * depth + b"1" + b"]" * depth, True)[0].whole
    assert leaves(b"[" * documents.MAX_DEPTH + b"1" + b"]" * documents.MAX_DEPTH, True)[0].whole


def test_places() -> None:
    assert documents.places('$.a[0]["b.c"].d') == {"$.a", "$.a[0]", '$.a[0]["b.c"]', '$.a[0]["b.c"].d'}
    assert documents.places("") == set()


@given(st.binary(max_size=100))
def test_rubbish(data: bytes) -> None:
    for claimed in (True, False):
        leaves(b"{" + data, claimed)
    multipart(data, "multipart/form-data; boundary=x")


# request -> what it asks for
GRAPHQL = {
    "{ me { id } }": {"query", "query.me"},
    "mutation M { deleteUser(id: 1) { id } }": {"mutation", "mutation.deleteUser"},
    "query Q { a: users { id } ...F } fragment F on Query { secrets }": {"query", "query.users", "query.secrets"},
    "query { ... on Query { users } ... @include(if: true) { me } }": {"query", "query.users", "query.me"},
    "query A { a } mutation B { b }": {"query", "query.a", "mutation", "mutation.b"},
    "subscription { events }": {"subscription", "subscription.events"},
}


@pytest.mark.parametrize("text", GRAPHQL)
def test_graphql(text: str) -> None:
    for body in ({"query": text}, [{"query": text}], [{"query": "{ x }"}, {"query": text}]):
        assert GRAPHQL[text] <= graphql(leaves(json.dumps(body).encode(), True)[1], []).values
    assert graphql(None, [("query", text)]).values == GRAPHQL[text]


@pytest.mark.parametrize("text", ["{ a", "{" * 500 + "}" * 500, "{ " + "a " * MAX_TOKENS + "}"])
def test_graphql_that_is_not_read_is_not_known(text: str) -> None:
    assert not graphql(None, [("query", text)]).whole


def test_a_fragment_is_read_once() -> None:
    """Thirty of them, each twice in the one before, are a billion."""
    names = [f"F{number}" for number in range(30)]
    chain = "".join(f" fragment {a} on Q {{ ...{b} ...{b} }}" for a, b in pairwise([*names, "End"]))
    assert graphql(None, [("query", "{ ...F0 ...F0 }" + chain + " fragment End on Q { a ...F0 }")]) == Found(frozenset(("query", "query.a")))


def test_a_fragment_with_a_name_twice() -> None:
    assert graphql(None, [("query", "{ ...F } fragment F on Q { a } fragment F on Q { b }")]).values == {"query", "query.a", "query.b"}


def test_max_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_TEXT", 20)
    assert graphql([Pairs([("query", "{ a }")]), Pairs([("query", "{ a b c d e f }")])], []).whole
    assert not graphql([Pairs([("query", "{ a b }")]), Pairs([("query", "{ a b c d e f }")])], []).whole


@pytest.mark.parametrize("body", [{"Query": "mutation { deleteUser }"}, {"PAYLOAD": {"quer\u0079": "mutation { deleteUser }"}}])
def test_names_of_graphql_in_any_case(body: object) -> None:
    assert "mutation.deleteUser" in graphql(leaves(json.dumps(body).encode(), True)[1], []).values


# an operation that the server knows by its name -> False; one that is said -> True
PERSISTED = {
    '{"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}}': False,
    '{"query": "", "extensions": {"PersistedQuery": {}}}': False,
    '[{"query": "{ a }"}, {"documentId": "ab"}]': False,
    '{"query": "{ a }", "extensions": {"persistedQuery": {}}}': True,
    '{"extensions": {"tracing": true}}': True,
}


@pytest.mark.parametrize("body", PERSISTED)
def test_an_operation_that_is_only_named(body: str) -> None:
    assert graphql(leaves(body.encode(), True)[1], []).whole == PERSISTED[body]
    assert not graphql(None, [("extensions", '{"persistedQuery": {}}')]).whole
    assert not graphql(None, [("documentId", "ab")]).whole


# what is asked -> the names that stand in place of others, "?" if some may that are not known
RENAMED = {
    "{ me { x: ssn } }": {"x=ssn"},
    "{ a: me { ... on U { b: c } ...F } } fragment F on U { d { e: f } }": {"a=me", "b=c", "e=f"},
    "{ me { ssn } }": set(),
    'up{job="x"} > 1': set(),
    "{ a " * 2000 + "}" * 2000: {"?"},
    "{ " + "a " * MAX_TOKENS + "}": {"?"},
    "#" * (documents.MAX_TEXT + 1) + "\n{ x: ssn }": {"?"},
}


@pytest.mark.parametrize("text", RENAMED)
def test_names_in_place_of_others(text: str) -> None:
    assert graphql(None, [("query", text)]).renamed == RENAMED[text]


def test_a_leaf_is_called_as_it_was_asked_for() -> None:
    assert documents.called("$.a[0].x", frozenset(("a=me", "x=ssn"))) == {
        "$.a", "$.me", "$.a[0]", "$.me[0]", "$.a[0].x", "$.a[0].ssn", "$.me[0].x", "$.me[0].ssn",
    }  # fmt: skip
    assert documents.called("$.x", frozenset(f"x=a{n}" for n in range(documents.MAX_CALLED - 1))) is not None
    assert documents.called("$.x", frozenset(f"x=a{n}" for n in range(documents.MAX_CALLED))) is None


def names(body: bytes, path: str, *, line: str = "POST /g", content: str = "application/json", status: str = "") -> frozenset[str] | None:
    http = Http()
    facts = http.ask(Message(Side.CLIENT, "request", b"", text=line, values=(Value(f"content-type: {content}".encode()), Value(body)), status=status))
    assert facts is not None
    return http.origins(facts, Column(path))


def test_what_a_rule_may_call_a_leaf() -> None:
    assert names(b'{"query": "{ me { x: ssn } }"}', "$.x") == {"$.x", "$.ssn"}
    assert names(b"", "$[0].x", line="GET /people?select=name,x:data-%3E%3Essn,n::text") == {"$[0]", "$[0].x", "$[0].data", "$[0].ssn"}
    assert names(b"", "$[0].max", line="GET /people?select=ssn.max()") == {"$[0]", "$[0].max", "$[0].ssn"}
    assert names(b'{"extensions": {"persistedQuery": {}}}', "$.x") is None
    assert names(b"", "$.x", status="oversize") is None
    assert names(b"", "$.x", status="oversize", content="image/png") == {"$.x"}
    assert names(b"", "", status="oversize") == set()


def test_what_was_asked_in_a_websocket_is_answered_for_long() -> None:
    http = Http()
    for text in (b'{"payload": {"query": "subscription { people { x: ssn } }"}}', b'{"type": "ping"}'):
        facts = http.ask(Message(Side.CLIENT, "ws-text", b"", text="WEBSOCKET /", values=(Value(b""), Value(text))))
        assert facts is not None
    assert http.origins(facts, Column("$.payload.x")) == {"$.payload", "$.payload.x", "$.payload.ssn"}


def test_max_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_RENAMED", 1)
    http = Http()
    for name, known in (("x", True), ("y", False)):
        text = json.dumps({"query": f"{{ {name}: ssn }}"}).encode()
        facts = http.ask(Message(Side.CLIENT, "ws-text", b"", text="WEBSOCKET /", values=(Value(b""), Value(text))))
        assert facts is not None
        assert (http.origins(facts, Column("$.a")) is not None) == known


def test_a_mutation_writes_whatever_the_method() -> None:
    assert asked("GET /g?query=mutation%7Ba%7D").values["effect"] == {"read", "write"}


def form(*parts: str, boundary: str = "xyz") -> bytes:
    return "".join(f"--{boundary}\r\n{part}\r\n" for part in parts).encode() + f"--{boundary}--\r\n".encode()


FIELD = 'Content-Disposition: form-data; name="a"\r\n\r\n1'
FILE = 'Content-Disposition: form-data; name="f"; filename="../x.sh"\r\nContent-Type: text/plain\r\n\r\nAKIAIOSFODNN7EXAMPLE'
HEADER = 'multipart/form-data; boundary="xyz"'


def test_a_field_in_utf_8() -> None:
    assert multipart(form(FIELD.removesuffix("1") + "é"), HEADER).fields == (("a", "é"),)


def test_multipart() -> None:
    found = multipart(form(FIELD, FILE), HEADER)
    assert (found.fields, found.files, found.texts, found.whole) == ((("a", "1"),), ("../x.sh",), ("AKIAIOSFODNN7EXAMPLE",), True)
    facts = asked("POST /", lines=f"content-type: {HEADER}\n", body=form(FIELD, FILE))
    assert (facts.values["field"], facts.values["file"]) == ({"a=1"}, {"../x.sh"})


BAD = {
    "a boundary that some end before its comma": (form(FIELD, boundary="xyz,a"), "multipart/form-data; boundary=xyz,a"),
    "a boundary that is no token": (form(FIELD, boundary="xyz/a"), "multipart/form-data; boundary=xyz/a"),
    "a name with a backslash": (form(FIELD.replace('"a"', '"\\a"')), HEADER),
    "parts in a part": (form(FIELD.replace("\r\n\r\n", "\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n")), HEADER),
    "no boundary": (form(FIELD), "multipart/form-data"),
    "two boundaries": (form(FIELD), "multipart/form-data; boundary=xyz; boundary=abc"),
    "no end": (form(FIELD)[:-6], HEADER),
    "no name": (form("Content-Disposition: form-data\r\n\r\n1"), HEADER),
    "bare LF": (form(FIELD).replace(b"\r\n", b"\n"), HEADER),
}


@pytest.mark.parametrize("name", BAD)
def test_multipart_that_is_not_read(name: str) -> None:
    assert not multipart(*BAD[name]).whole
    assert {"field", "file"} <= asked("POST /", lines=f"content-type: {BAD[name][1]}\n", body=BAD[name][0]).unknown


def test_max_parts() -> None:
    assert multipart(form(*[FIELD] * documents.MAX_PARTS), HEADER).whole
    assert not multipart(form(*[FIELD] * (documents.MAX_PARTS + 1)), HEADER).whole


def test_escapes_do_not_hide_from_detectors() -> None:
    body = b'{"key": "\\u0041KIAIOSFODNN7EXAMPLE"}'
    assert "AKIAIOSFODNN7EXAMPLE" in asked("POST /", lines="content-type: application/json\n", body=body).values["text"]
