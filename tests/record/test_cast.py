"""What is written for players is asciicast, by the letter of its documentation and by asciinema's own reader.

The rules below are those of "asciicast v2" and "asciicast v3" in the documentation of asciinema.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asciinema.asciicast import open_from_url

from appliance.model import Note
from appliance.record import cast
from appliance.record.frame import Frame
from tests.record import dialogue as d
from tests.record.samples import NO_DROP, C, T, asked, closed, flow, opened, rows
from tests.record.test_pcapng import frames
from tests.record.test_show import EVIL, SHOWN, session

CODES = {2: {"o", "i", "m", "r"}, 3: {"o", "i", "m", "r", "x"}}
OPTIONAL = {
    2: {"timestamp": int, "duration": float, "idle_time_limit": float, "command": str, "title": str, "env": dict, "theme": dict},
    3: {"timestamp": int, "idle_time_limit": float, "command": str, "title": str, "env": dict, "tags": list},
}


def validate(data: bytes) -> tuple[dict[str, Any], list[tuple[float, str, str]]]:
    """Return the header and the events; an AssertionError says what is not asciicast."""
    assert data.endswith(b"\n")
    first, *rest = data.decode("utf-8").split("\n")[:-1]
    header = json.loads(first)
    assert isinstance(header, dict) and header.get("version") in (2, 3)
    version = header["version"]
    size = (header.get("width"), header.get("height")) if version == 2 else (header["term"].get("cols"), header["term"].get("rows"))
    assert all(isinstance(one, int) and one > 0 for one in size)
    required = {"version", "width", "height"} if version == 2 else {"version", "term"}
    for key in header.keys() - required:
        wanted = OPTIONAL[version][key]
        assert isinstance(header[key], (int, float) if wanted is float else wanted), key
    for name, value in header.get("env", {}).items():
        assert isinstance(name, str) and isinstance(value, str)
    if version == 3:
        assert header["term"].keys() <= {"cols", "rows", "type", "version", "theme"}
    events: list[tuple[float, str, str]] = []
    for line in rest:
        if version == 3 and line.startswith("#"):
            continue
        event = json.loads(line)
        assert isinstance(event, list) and len(event) == 3, line
        time, code, text = event
        assert isinstance(time, (int, float)) and not isinstance(time, bool) and time >= 0
        assert code in CODES[version] and isinstance(text, str)
        assert version == 3 or not events or time >= events[-1][0], "time goes back"
        assert all(c >= " " for c in line), "a control character that is not escaped"
        events.append((time, code, text))
    return header, events


def v2(found: Sequence[Frame]) -> tuple[dict[str, Any], list[tuple[float, str, str]]]:
    return validate(b"".join(cast.v2(found)))


def test_the_validator_sees_faults() -> None:
    good = b'{"version": 2, "width": 80, "height": 24}\n[0.5, "o", "x"]\n[1, "m", ""]\n'
    validate(good)
    for old, new in (
        (b'"version": 2', b'"version": 4'),
        (b'"width": 80, ', b""),
        (b"24}", b'24, "title": 1}'),
        (b"24}", b'24, "colour": "red"}'),
        (b"[1, ", b"[0.4, "),
        (b"[0.5", b"[-1"),
        (b'"m"', b'"x"'),
        (b', ""]', b"]"),
        (b'"x"]\n[', b'"x"][\n'),
        (b'""]\n', b'""]'),
        (b'"x"', b'"\x7f\xff"'),
    ):
        with pytest.raises((AssertionError, KeyError, ValueError)):
            validate(good.replace(old, new))


def test_v2_is_what_its_documentation_says() -> None:
    header, events = v2(session())
    assert header == {
        "version": 2, "width": 120, "height": 36, "timestamp": int(T + 1), "idle_time_limit": 3.0,
        "title": "vendorgate f1 acme-psql", "env": {"TERM": "xterm-256color"},
    }  # fmt: skip
    assert [time for time, code, _ in events if code == "o"] == [float(n) for n in range(13)]


def test_v3_says_the_same_with_pauses() -> None:
    header, events = validate(b"".join(cast.v3(session())))
    assert header["term"] == {"cols": 120, "rows": 36, "type": "xterm-256color"}
    assert [(code, text) for _, code, text in events] == [(code, text) for _, code, text in v2(session())[1]]
    assert [time for time, _, _ in events if time] == [1.0] * 12


def test_what_is_seen_is_what_show_shows() -> None:
    _, events = v2(session())
    seen = re.sub(r"\x1b\[\d+m", "", "".join(text for _, code, text in events if code == "o"))
    assert [line[13:] for line in seen.split("\r\n")[9:]] == [line[13:] for line in SHOWN.split("\n")[9:]]
    assert seen.split("\r\n")[:8] == SHOWN.split("\n")[:8]


def test_markers_are_what_one_would_jump_to() -> None:
    _, events = v2(session())
    assert [(time, text) for time, code, text in events if code == "m"] == [
        (4.0, "masked by hide-ssn"),
        (6.0, "block no-drop"),
        (9.0, "held dba"),
        (10.0, "answered by eve"),
        (11.0, "incident"),
    ]


def test_several_sessions_are_told_apart() -> None:
    one, two = frames([opened(), *asked("select 1"), closed()], step=1.0), frames([opened(), closed()], flow("f2"), 1.5)
    mixed = sorted([*one, *two], key=lambda frame: frame.time)
    seen = "".join(text for _, code, text in v2(mixed)[1] if code == "o")
    assert seen.count("session   f1\r\n") == 2 and seen.count("session   f2, opened") == 1


def test_max_sessions_bounds_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cast.MAX_SESSIONS == 4_096
    monkeypatch.setattr(cast, "MAX_SESSIONS", 2)
    mixed = [msgspec.structs.replace(frames([rows(b"x")], flow(f"f{n % 4}"))[0], time=T + n) for n in range(12)]
    assert len([code for _, code, _ in v2(mixed)[1] if code == "o"]) == 12


def test_a_clock_set_back_never_goes_back() -> None:
    found = [msgspec.structs.replace(f, time=T - f.sequence) for f in frames([opened(), *asked("x"), closed()])]
    assert {time for time, _, _ in v2(found)[1]} == {0.0}
    assert {time for time, _, _ in validate(b"".join(cast.v3(found)))[1]} == {0.0}


def test_nothing_recorded_commands_the_player() -> None:
    notes = [Note("opened", EVIL, identity=EVIL), Note("message", EVIL, C, EVIL, EVIL.encode()), Note("incident", EVIL), closed()]
    header, events = v2(frames(notes))
    for text in (header["title"], *(re.sub(r"\x1b\[\d+m|\r\n", "", text) for _, _, text in events)):
        assert text.isprintable()


def test_a_cast_of_nothing_is_nothing() -> None:
    assert b"".join(cast.v2([])) == b"".join(cast.v3([])) == b""


def test_asciinema_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "f.cast"
    path.write_bytes(b"".join(cast.v2(frames([*d.whole(), *asked("drop table t", NO_DROP)]))))
    with open_from_url(str(path)) as found:
        assert (found.version, found.idle_time_limit) == (2, 3.0)
        events = list(found.events())
    assert [tuple(event) for event in events] == v2(frames([*d.whole(), *asked("drop table t", NO_DROP)]))[1]
    with open_from_url(str(path)) as found:
        assert "block no-drop" in [text for _, _, text in found.events("m")]
