"""What a person reads: show, replay, and the lines of JSON."""

import base64
import io
import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model import Column, ConfigError, Decision, Named, Note, Spent
from appliance.record.export import FORMATS, jsonl, known, lines
from appliance.record.frame import Frame
from appliance.record.replay import replay
from appliance.record.show import PREVIEW, show
from appliance.record.text import because, clean, readable, stamp
from tests.record import dialogue as d
from tests.record.samples import NO_DROP, PSQL, C, S, T, asked, closed, flow, opened, rows
from tests.record.test_pcapng import frames

SHOWN = """\
session   f1, opened 2023-11-14 22:13:20.000Z
process   4242 /usr/bin/psql, uid 1000, package postgresql-client-15
command   psql -h db shop
cgroup    acme.service
identity  acme-psql
target    orders-db 10.0.3.2:5432 (postgres)
from      10.0.3.5:40001

22:13:21.000 - opened 10.0.3.5:40001 -> 10.0.3.2:5432
22:13:22.000 > auth
22:13:23.000 > query select name, ssn
               from users
22:13:24.000 = allow reads (10-db.yaml @r1) [f1-1]
22:13:25.000 < row (16 bytes, 2 rows, 3 cells masked by hide-ssn)
               Ada.***1111.
22:13:26.000 > query drop table users
22:13:27.000 = block no-drop (10-db.yaml @r1): destructive statements are not allowed [f1-1]
22:13:28.000 < error 42501 (1 byte)
               E
22:13:29.000 > query alter table users
22:13:30.000 = held dba (10-db.yaml @r1): a DBA looks first [q]
22:13:31.000 = answered by eve: approved: fine
22:13:32.000 ! incident upstream lost
22:13:33.000 - closed ended
"""


def session() -> list[Frame]:
    notes = [
        opened(),
        Note("message", side=C, message="auth"),
        *asked("select name, ssn\nfrom users"),
        rows(b"Ada\0***1111\0\0\0\0\0", 2, 3, ("hide-ssn",)),
        *asked("drop table users", NO_DROP),
        Note("message", "42501", S, "error", b"E"),
        asked("alter table users")[0],
        Note("asked", "alter table users", decision=d.ASK_DBA, id="q"),
        Note("answered", "approved: fine", decision=d.ASK_DBA, id="q", by="eve"),
        Note("incident", "upstream lost"),
        closed(),
    ]
    return frames(notes, step=1.0)


def shown(found: list[Frame], colour: bool = False) -> str:
    out: list[str] = []
    show(found, out.append, colour)
    return "".join(out)


def test_show() -> None:
    assert shown(session()) == SHOWN


def test_colour_is_only_added() -> None:
    import re

    text = shown(session(), colour=True)
    assert "\x1b[31mblock\x1b[0m" in text and "\x1b[32mallow\x1b[0m" in text and "\x1b[33mheld\x1b[0m" in text
    assert re.sub(r"\x1b\[\d+m", "", text) == SHOWN


def test_a_decision_on_no_message_shows_what_it_was_about() -> None:
    notes = [opened(), Note("decision", "connect to 10.0.3.2:5432", decision=NO_DROP, id="f1-1"), closed()]
    assert "connect to 10.0.3.2:5432\n" in shown(frames(notes)).split("from ")[1]


def test_a_process_that_is_not_known() -> None:
    assert "process   not known\n" in shown(frames([opened()], flow(process=None)))


def test_preview_bounds_what_is_shown_of_an_answer() -> None:
    assert PREVIEW == 160
    text = shown(frames([opened(), rows(b"x" * 161), rows(b"y" * 160)]))
    assert "x" * 160 + " ...\n" in text and "x" * 161 not in text
    assert "y" * 160 + "\n" in text


def test_bytes_that_were_not_recorded_are_counted() -> None:
    found = frames([opened(), Note("message", "", C, "query"), rows(b"")])
    found = [msgspec.structs.replace(f, dropped=9 if f.note.kind == "message" else 0) for f in found]
    assert "9 bytes not recorded" in shown(found)
    assert "< row (9 bytes, 1 row)" in shown(found)


EVIL = "\x1b]0;owned\x07\x9b31m\u202e\u200b\r"


def test_nothing_recorded_can_command_a_terminal() -> None:
    process = msgspec.structs.replace(PSQL, exe=EVIL, argv=(EVIL,), cgroup=EVIL, package=EVIL, parents=(EVIL,))
    decision = Decision("block", EVIL, EVIL, EVIL, EVIL, EVIL, (EVIL,))
    notes = [
        Note("opened", EVIL, identity=EVIL, target=EVIL, protocol=EVIL),
        Note("message", EVIL, C, EVIL, EVIL.encode()),
        Note("decision", EVIL + "2", decision=decision, id="1"),
        Note("message", EVIL, S, EVIL, EVIL.encode(), masked=1, masks=(EVIL,)),
        Note("answered", EVIL, by=EVIL),
        Note("incident", EVIL),
        Note("closed", EVIL),
    ]
    text = shown(frames(notes, flow(process=process)))
    assert text.replace("\n", "").isprintable()
    assert "\\x1b]0;owned\\x07\\x9b31m\\u202e\\u200b\\x0d" in text


# -- replay -----------------------------------------------------------------------------------------------------


def played(found: list[Frame], **how: float) -> list[str | float]:
    out: list[str | float] = []
    replay(found, out.append, out.append, **how)  # type: ignore[arg-type]
    return out


def test_replay_pauses_as_the_session_did() -> None:
    found = frames([opened(), *asked("select 1"), closed()], step=0.0)
    times = [T, T + 0.25, T + 0.25, T + 90]
    found = [msgspec.structs.replace(f, time=t) for f, t in zip(found, times, strict=True)]
    events = [e for e in played(found) if isinstance(e, float) or e[0] == "+"]
    assert events == [
        "+0.000       - opened 10.0.3.5:40001 -> 10.0.3.2:5432\n",
        0.25,
        "+0.250       > query select 1\n",
        "+0.250       = allow reads (10-db.yaml @r1) [f1-1]\n",
        89.75,
        "+90.000      - closed ended\n",
    ]


@pytest.mark.parametrize(
    ("how", "pauses"),
    [
        ({}, [1.0, 1.0, 1.0]),
        ({"speed": 4.0}, [0.25, 0.25, 0.25]),
        ({"speed": 0.5}, [2.0, 2.0, 2.0]),
        ({"longest": 0.1}, [0.1, 0.1, 0.1]),
        ({"speed": math.inf}, []),
    ],
)
def test_replay_speed_and_longest(how: dict[str, float], pauses: list[float]) -> None:
    found = frames([opened(), rows(b"x"), closed()], step=1.0)
    assert [e for e in played(found, **how) if isinstance(e, float)] == pauses


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_replay_refuses_a_speed_that_is_none(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        played(frames([opened()]), speed=speed)


def test_replay_of_a_clock_set_back_never_pauses_below_zero() -> None:
    found = [msgspec.structs.replace(f, time=T - f.sequence) for f in frames([opened(), closed()])]
    assert [e for e in played(found) if isinstance(e, float)] == []


def test_replay_shows_what_show_does() -> None:
    said = [e for e in played(session()) if isinstance(e, str)]
    assert [line[13:] for line in said[8:]] == [line[13:] for line in SHOWN.splitlines(keepends=True)[8:]]


# -- JSON -------------------------------------------------------------------------------------------------------


def test_jsonl_is_one_object_a_note_with_bytes_and_text() -> None:
    out = io.BytesIO()
    assert jsonl(session(), out) == len(out.getvalue())
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(found) == len(session())
    assert [one["kind"] for one in found] == [f.note.kind for f in session()]
    assert {one["session"] for one in found} == {"f1"}
    assert found[0]["flow"]["process"]["exe"] == "/usr/bin/psql"
    assert "flow" not in found[1]
    assert found[2]["text"] == "select name, ssn\nfrom users"
    assert base64.b64decode(found[2]["raw"]) == session()[2].note.raw
    assert found[3]["decision"]["rule"] == "reads"
    assert found[4] == {
        "session": "f1",
        "sequence": 5,
        "time": T + 5,
        "kind": "message",
        "side": "server",
        "message": "row",
        "raw": base64.b64encode(b"Ada\0***1111\0\0\0\0\0").decode(),
        "raw_text": "Ada.***1111.",
        "count": 2,
        "masked": 3,
        "masks": ["hide-ssn"],
    }


def test_the_formats_there_are() -> None:
    assert {name: b"".join(make(session()))[:12] for name, make in FORMATS.items()} == {
        "pcapng": b"\n\r\r\nP\x01\0\0M<+\x1a",
        "jsonl": b'{"session":"',
        "asciicast": b'{"version":2',
        "asciicast-v3": b'{"version":3',
        "har": b'{"log":{"ver',
    }


def test_a_format_that_is_not_known() -> None:
    for name in FORMATS:
        known(name)
    with pytest.raises(ConfigError, match="`pdf` is not known\nhint: one of pcapng, jsonl"):
        known("pdf")


def test_jsonl_has_what_a_session_is_searched_by() -> None:
    facts = (("effect", ("read",)), ("table", ("public.users",)))
    asked = Note("message", "select 1", C, "query", b"Q", facts=facts, level="requests", spent=Spent(parse=0.25))
    column = Named(Column("ssn", 16_400, 3), ("public.users.ssn",))
    answer = Note("message", "SELECT 1", S, "row", b"D", columns=(column,), size=9)
    first, second = (json.loads(line) for line in lines(frames([asked, answer])))
    assert first["facts"] == {"effect": ["read"], "table": ["public.users"]}
    assert first["level"] == "requests" and first["spent"] == {"parse": 0.25}
    assert second["columns"][0]["names"] == ["public.users.ssn"] and second["columns"][0]["column"]["table"] == 16_400
    assert second["size"] == 9


def test_times_are_shown() -> None:
    answer = msgspec.structs.replace(rows(b"x"), spent=Spent(upstream=0.0123))
    released = Note("answered", "approved: fine", by="eve", spent=Spent(hold=61.25))
    text = shown(frames([opened(), answer, released]))
    assert "< row (1 byte, 1 row, 12.3 ms)" in text
    assert "= answered by eve: approved: fine (after 61.2 s)" in text


# -- text -------------------------------------------------------------------------------------------------------


@given(st.text())
def test_clean_text_is_printable_but_for_tabs_and_line_ends(text: str) -> None:
    assert clean(text).replace("\n", "").replace("\t", "").isprintable()


@given(st.binary())
def test_readable_is_printable_and_never_longer(raw: bytes) -> None:
    assert readable(raw).isprintable()
    assert len(readable(raw)) <= len(raw)


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"", ""), (b"\0\0\0", ""), (b"Q\0\0\0\x0dselect 1\0", "Q.select 1."), ("é\u202e€".encode(), "é.€"), (b"\xff\xffa", ".a")],
)
def test_readable(raw: bytes, text: str) -> None:
    assert readable(raw) == text


def test_because_tells_what_was_not_known_and_shadows() -> None:
    decision = Decision("block", "default", unknown="the statement cannot be parsed", shadow=("a", "b"))
    assert because(decision) == "default; not known: the statement cannot be parsed; shadow: a, b"


def test_stamp_is_utc_to_the_millisecond() -> None:
    assert stamp(T + 0.1239) == "2023-11-14 22:13:20.123Z"
