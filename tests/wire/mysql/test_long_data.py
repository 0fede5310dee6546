"""Long data and the execution that uses it up: what is told of an execution is what the server runs.

The server keeps long data until an execution or a reset, whatever is said of the parameter later. Messages are read
before those in front of them are decided.
"""

import pytest

from appliance.model import Message
from appliance.wire.mysql import MySQL
from tests.wire.mysql.build import (
    LONG,
    MARIADB,
    VAR_STRING,
    C,
    column,
    down,
    execute,
    logged_in,
    long_data,
    ok,
    p,
    prepare,
    prepared,
    ps,
    reset,
    up,
)
from tests.wire.mysql.test_flow import deny, with_statement

STRING, NUMBER = bytes([VAR_STRING, 0]), bytes([LONG, 0])
DONE = p(ok(), 1)
LONG_ONE = long_data(1, 0, b"long")
USES = execute(1, b"\0", STRING)  # of what was sent as long data
INLINE = execute(1, b"\0", STRING, b"\x04here")


def bulk(number: int) -> bytes:
    return p(b"\xfa" + number.to_bytes(4, "little") + b"\x80\0" + STRING + b"\0\x04here")


def said(message: Message) -> tuple[str, list[bytes | None]]:
    return message.status, [value.data for value in message.values]


def refused(wire: MySQL, message: Message) -> bool:
    return [send.to for send in wire.allow(message)] == [C]


SPOILT = {
    "an execution that was refused": (LONG_ONE, USES),
    "a second one": (LONG_ONE, USES, USES),
    "a reset that was refused": (LONG_ONE, reset(1)),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_refusal_leaves_long_data_behind_that_no_execution_uses(name: str) -> None:
    wire = with_statement()
    first, *others = SPOILT[name]
    assert up(wire, first) == first
    for data in others:
        deny(wire, data)
    (message,) = wire.feed(C, INLINE)
    assert refused(wire, message)
    assert up(wire, reset(1)) == reset(1)
    down(wire, p(ok(), 1))
    assert up(wire, INLINE) == INLINE


def test_a_bulk_does_not_meet_long_data() -> None:
    wire = with_statement(MARIADB)
    up(wire, LONG_ONE)
    (message,) = wire.feed(C, bulk(1))
    assert refused(wire, message)
    assert up(wire, USES) == USES
    down(wire, DONE)
    assert up(wire, bulk(1)) == bulk(1)


def test_an_execution_that_cannot_be_read_uses_long_data_up() -> None:
    wire = with_statement(parameters=2)
    up(wire, LONG_ONE)
    unreadable = execute(1, b"\0", None)
    (message,) = wire.feed(C, unreadable)
    assert message.status == "unread"
    wire.allow(message)
    down(wire, DONE)
    (message,) = wire.feed(C, execute(1, b"\0", STRING * 2, b"\x04here\x05there"))
    assert said(message) == ("", [b"here", b"there"])


def test_each_of_a_pipeline_has_its_own() -> None:
    wire = with_statement()
    messages = list(wire.feed(C, LONG_ONE + USES + reset(1) + long_data(1, 0, b"other") + USES + INLINE))
    executions = [message for message in messages if message.kind == "execute"]
    assert [said(message) for message in executions] == [("", [b"long"]), ("", [b"other"]), ("", [b"here"])]
    assert [wire.again(message) for message in executions] == executions, "read again behind all of them"
    for message in messages:
        assert not refused(wire, message)


def test_a_reset_in_a_pipeline_forgets_what_came_before_it() -> None:
    """And not what came behind it, although it is sent up later than that is read."""
    wire = with_statement()
    first, second = wire.feed(C, reset(1) + LONG_ONE)
    wire.allow(first)
    wire.allow(second)
    down(wire, p(ok(), 1))
    (message,) = wire.feed(C, USES)
    assert said(message) == ("", [b"long"])


def test_long_data_for_a_number_that_is_guessed_does_not_go_up() -> None:
    wire = logged_in()
    first, second = wire.feed(C, prepare("select ?") + LONG_ONE)
    wire.allow(first)
    down(wire, ps(prepared(1, 0, 1), column("?")))
    assert wire.allow(second) == []
    (message,) = wire.feed(C, INLINE)
    assert said(message) == ("", [b"here"])


@pytest.mark.parametrize("number", [-1, 1, 2])
def test_long_data_for_the_one_prepared_last_may_be_of_any_that_was_not_answered(number: int) -> None:
    wire = logged_in(MARIADB)
    pipeline = prepare("select ?") + long_data(-1, 0, b"long") + prepare("select ?")
    for message in wire.feed(C, pipeline):
        assert wire.allow(message)
    for name in (1, 2):
        down(wire, ps(prepared(name, 0, 1), column("?", extended=b"")))
    (message,) = wire.feed(C, execute(number, b"\0", STRING, b"\x04here"))
    assert said(message) == ("unread", [])
    assert wire.again(message) == message
    wire.allow(message)
    down(wire, DONE)
    if number > 0:
        (message,) = wire.feed(C, INLINE if number == 1 else execute(2, b"\0", STRING, b"\x04here"))
        assert said(message) == ("", [b"here"])
