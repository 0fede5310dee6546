"""Names of another method in bodies too long to be judged whole: what is taken for one, and that none goes up later."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.facts.http.body import Type, held
from appliance.model import ProtocolError, Send
from appliance.wire.http import Http, connection
from appliance.wire.http.overrides import MAX_BLANKS
from tests.wire.http.dialogues import CHUNKED, C, S, ask

JSON, FORM, PARTS = "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"
BLANKS = " " * MAX_BLANKS
NAMES = {
    JSON: [
        '"_method": "PUT"', '"_METHOD"', '"_httpMethod"', r'"\u005fmethod"', r'"_\u006D\u0045tho\u0064"', r'{"a": "\\", "_method"',
        "".join(["\"", *[f"\\u{ord(c):04x}" for c in "_HttpMethod"], "\""]),
    ],
    FORM: [
        "&_method=PUT", "&_Method", "&%5fmethod=", "&%5F%6Deth%4Fd=PUT", "&+_method=", "&%20_method=", "&%20%5fmethod=", "&.method=", "&%2emethod=",
        "&[method=", "&%5Bmethod=", "&_httpMethod=", "&_method%00a=", ";_method=", "&[_method]=PUT", "\r\n_method=",
    ],
    PARTS: [
        '; name="_method"', "; name=_method\r\n", "; NAME='_Method'", '; name=" _method"', '; name\t=\r\n "_httpMethod"', "; name*=utf-8''%5Fmethod", "; name *0* = utf-16''%5F",
        '; name="\\_method"', '; name="_m\\ethod"', '; name=".method"', '; name="[method"', "Content-ID: _method", '; name="%5fmeth%6fd"',
        '; name="=?utf-8?B?X21ldGhvZA==?="', f'; name{BLANKS}="_method"', f'; name="{BLANKS} _method"',
    ],
}  # fmt: skip
OTHERS = {
    JSON: ['"payment_method": "method"', r'"a": "say \"_method\": 1"', "'_method'", '"_methods"'],
    FORM: ["&payment_method=a", "&method=a", "&_methods=a", "&a%5fmethod=b", "&_methodology="],
    PARTS: ['; name="payment_method"', '; name="method"', '; filename="_method"', "_method", "self._method()", 'a.name = "x"', "; filename*=utf-8''%5Fmethod", "*name* is", '<form name="a" method="post">'],
}  # fmt: skip


def begun(content: str, begins: bytes = b"--------", method: str = "POST", *lines: str) -> tuple[Http, str]:
    """Return a wire that a long body comes over, and what the request it belongs to is judged as."""
    wire = Http()
    head = ask(f"{method} / HTTP/1.1", f"Content-Type: {content}", CHUNKED, *lines)
    (one,) = wire.feed(C, head + b"%x\r\n%b\r\n" % (len(begins), begins))
    wire.allow(one)
    return wire, one.status


def goes(wire: Http, *pieces: bytes) -> bool:
    """Return True if all pieces go up."""
    try:
        for piece in pieces:
            raw = b"%x\r\n%b\r\n" % (len(piece), piece)
            assert [sent for message in wire.feed(C, raw) for sent in wire.allow(message)] == [Send(S, raw)]
    except ProtocolError as error:
        assert "another method" in str(error)
        return False
    return True


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_BODY", 4)


@pytest.mark.parametrize(("content", "said"), [(content, said) for content, all in NAMES.items() for said in all])
def test_a_name_of_another_method_does_not_follow(content: str, said: str) -> None:
    data = said.encode() + b"="
    assert begun(content, b"----" + data)[1] == "oversize"
    for pieces in ([data], [data[:9], data[9:]], [data[n : n + 1] for n in range(len(data))]):
        wire, status = begun(content)
        assert status == "long"
        assert not goes(wire, *pieces)
    assert not goes(begun(content, b"----" + data[:5])[0], data[5:])


@pytest.mark.parametrize(("content", "said"), [(content, said) for content, all in OTHERS.items() for said in all])
def test_what_is_no_such_name_follows(content: str, said: str) -> None:
    data = said.encode() + b"="
    assert begun(content, b"----" + data)[1] == "long"
    assert goes(begun(content)[0], data)


@pytest.mark.parametrize(
    ("content", "method", "lines"),
    [
        (JSON, "PUT", ()),  # no server looks for one
        ("application/octet-stream", "POST", ()),
        ("application/x-ndjson", "POST", ()),
        (JSON, "POST", ("Content-Encoding: gzip",)),  # the name may be anywhere
        (JSON + "; charset=utf-7", "POST", ()),
        (FORM + ", text/plain", "POST", ()),
        (PARTS + "/json", "POST", ()),  # Laravel takes it for JSON too
    ],
)
def test_what_is_not_watched_is_oversize(content: str, method: str, lines: tuple[str, ...]) -> None:
    wire, status = begun(content, b"--------", method, *lines)
    assert status == "oversize"
    assert goes(wire, b'"_method"')


@pytest.mark.parametrize("content", ["", FORM, PARTS, JSON, "application/problem+JSON; charset=UTF-8"])
def test_a_name_in_what_was_judged_may_come_again(content: str) -> None:
    name = b'&_method="_method" name="_method"'
    wire, status = begun(content, name, "post")
    assert status == "oversize"
    assert goes(wire, name)


WORDS = {
    JSON: ['"_method"', "_", "ethod", "\\u006D", "\\u005f", '"', "\\", "http", ":", ",", '"a"', "}"],
    FORM: ["_method", "_", "method", "%6d", "ethod", "%5F", "[", "]", ".", "+", "%20", "%00", "&", "=", "http", "a"],
    PARTS: ['\r\n--x\r\nContent-Disposition: form-data; name="', '"\r\n\r\nPUT\r\n--x--\r\n', "_method", "_", "method", "[", "]", ".", " ", "http"],
}  # fmt: skip
BEGINS = {JSON: '{"a": 1, ', FORM: "a=1&", PARTS: '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb'}
ENDS = {JSON: ': "PUT"}', FORM: "=PUT", PARTS: ""}


@pytest.mark.parametrize("content", WORDS)
@given(st.data())
def test_what_is_read_of_a_whole_body_names_no_method_that_a_long_one_does_not(content: str, data: st.DataObject) -> None:
    words = data.draw(st.lists(st.sampled_from(WORDS[content]), max_size=8))
    whole = (BEGINS[content] + "".join(words) + ENDS[content]).encode()
    first, *rest = data.draw(st.lists(st.integers(1, 20), min_size=1))
    wire, status = begun(content, whole[: 4 + first])
    pieces, at = [], 4 + first
    for size in [*rest, len(whole)]:
        pieces.append(whole[at : at + size])
        at += size
    if status == "long" and goes(wire, *filter(None, pieces)):
        assert held(Type(content, posted=True), whole, b"", []).methods == ()
