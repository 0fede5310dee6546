"""JSON of answers: every leaf in its place, one replaced and all else as it was."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import Column
from appliance.wire import Cell
from appliance.wire.http import Http, leaves
from appliance.wire.http.leaves import NoJson, masked
from tests.wire.http.dialogues import GET, C, S, sized

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_nothing_masked_is_nothing_changed(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert masked(text, lambda path, leaf: leaf) == (text, 0)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_all_masked_is_still_json(value: Any) -> None:
    shown, _ = masked(json.dumps(value), lambda path, leaf: "#")
    assert set(_flat(json.loads(shown))) <= {"#", None}


def _flat(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return [value] if inner is None else [leaf for one in inner for leaf in _flat(one)]


@given(st.text(max_size=30) | st.sampled_from(['{"a":1', "[1,]", "{'a': 1}", '{"a" 1}', "01", "+1", '"\t"', "nul", "[1}", '{"a":1}x']))
def test_json_is_what_the_library_takes(text: str) -> None:
    try:
        whole = all(json.loads(line) is not ... for line in [text]) and text.strip(" \t\n\r") != ""
    except ValueError:
        whole = False
    try:
        list(leaves.leaves(text))
        ours = True
    except NoJson:
        ours = False
    assert ours or not whole or "N" in text or "I" in text  # NaN and Infinity are none


def test_max_depth() -> None:
    list(leaves.leaves("[" * leaves.MAX_DEPTH + "1" + "]" * leaves.MAX_DEPTH))
    with pytest.raises(NoJson):
        list(leaves.leaves("[" * 100_000 + "]" * 100_000))


def test_limit_max_path() -> None:
    name = "a" * (leaves.MAX_PATH // 2)
    list(leaves.leaves(json.dumps({name: {"b": 1}})))
    with pytest.raises(leaves.NoJson):
        list(leaves.leaves(json.dumps({name: {name: 1}})))


def test_max_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaves, "MAX_LEAVES", 3)
    list(leaves.leaves("[1,2,3]"))
    with pytest.raises(NoJson):
        list(leaves.leaves("[1,2,3,4]"))


def hide(columns: tuple[Column, ...]) -> list[Cell | None] | None:
    """Mask `$..ssn` as a whole, and "secret" anywhere."""
    (column,) = columns
    if column.name.endswith(".ssn"):
        return [lambda text: "[redacted]"]
    return [lambda text: text.replace("secret", "[hidden]") if "secret" in text else text]


def through(body: str | bytes, content: str = "application/json") -> bytes:
    wire = Http()
    (said,) = wire.feed(C, GET)
    wire.allow(said, hide)
    data = body.encode() if isinstance(body, str) else body
    out = b"".join(m.raw for m in wire.feed(S, sized(data, f"Content-Type: {content}")))
    return out if out.startswith(b"HTTP/1.1 502") else out.partition(b"\r\n\r\n")[2]


# body -> what the client sees
MASKED = {
    '{"ssn": "123-45-6789", "n":  1.10}': '{"ssn": "[redacted]", "n":  1.10}',
    '[{"ssn": 5}, {"a": {"ssn": true}}]': '[{"ssn": null}, {"a": {"ssn": null}}]',
    '{"\\u0073sn": "x"}': '{"\\u0073sn": "[redacted]"}',
    '{"ssn": "a", "ssn": "b"}': '{"ssn": "[redacted]", "ssn": "[redacted]"}',
    '{"a": "\\u0073ecret"}': '{"a": "[hidden]"}',
    '{"secret": 1}': '{"[hidden]": 1}',
    '{"ssn": "a"}\n{"ssn": "b"}\n': '{"ssn": "[redacted]"}\n{"ssn": "[redacted]"}\n',
    '{"ssn": {"a": "x"}}': '{"ssn": {"a": "x"}}',
    '\ufeff{"ssn": "a"}': '\ufeff{"ssn": "[redacted]"}',
    '{"\\u0073ecret": 1}': '{"[hidden]": 1}',
    "{}": "{}",
}


@pytest.mark.parametrize("body", MASKED)
@pytest.mark.parametrize("content", ["application/json", "text/plain"])
def test_masked(body: str, content: str) -> None:
    assert through(body, content) == MASKED[body].encode()


@pytest.mark.parametrize("body", ['{"ssn": "a"', "{'ssn': 1}", ")]}'\n{}", '{"ssn": "a"}'.encode("utf-16")])
def test_what_says_it_is_json_and_is_not_is_not_shown(body: str | bytes) -> None:
    assert through(body).startswith(b"HTTP/1.1 502")


def test_what_only_looks_like_json_is_text() -> None:
    assert through("{secret}", "text/plain") == b"{[hidden]}"
