"""Rows that are masked, errors and notices that are redacted."""

import pytest

from appliance.model import Message, ProtocolError
from tests.wire.build import (
    B1,
    DENIED,
    FLUSH,
    NO_DATA,
    P1,
    SUSPENDED,
    SYNC,
    S,
    bind,
    close,
    complete,
    copies,
    describe,
    described,
    down,
    error,
    execute,
    function,
    logged_in,
    msg,
    notice,
    parse,
    query,
    ready,
    row,
    up,
)  # fmt: skip
from tests.wire.play import FAILED, SELECTED, allow, deny, hide, plan_for


def test_masked_rows_of_a_query() -> None:
    wire = logged_in()
    allow(wire, query("select ..."), plan_for("b"))
    answer = described("a", "b") + row("1", "xyz") + row("2", None) + row("3", "")
    said = list(wire.feed(S, answer + complete("SELECT 3") + ready()))
    assert [m.kind for m in said] == ["describe", "row", "complete", "ready"]
    assert said[1].raw == row("1", "###") + row("2", None) + row("3", "")
    assert (said[1].count, said[1].masked) == (3, 1)


def test_each_result_of_a_query_has_its_own_columns() -> None:
    wire = logged_in()
    allow(wire, query("select ...; select ..."), plan_for("b"))
    first, second = described("b", "a") + row("x", "y"), described("a", "b") + row("x", "y")
    done = complete("SELECT 1")
    assert down(wire, first + done + second + done + ready()) == (
        described("b", "a") + row("#", "y") + done + described("a", "b") + row("x", "#") + done + ready()
    )


def test_a_plan_that_leaves_the_result() -> None:
    wire = logged_in()
    allow(wire, query("x"), lambda columns: None)
    assert down(wire, SELECTED + ready()) == SELECTED + ready()
    allow(wire, query("x"), lambda columns: [None])
    assert down(wire, SELECTED + ready()) == SELECTED + ready()


def test_a_plan_of_another_width_is_our_fault() -> None:
    wire = logged_in()
    allow(wire, query("x"), lambda columns: [hide, hide])
    with pytest.raises(ValueError, match="a plan of 2 cells"):
        down(wire, SELECTED)


def test_execute_gets_a_describe_of_its_own() -> None:
    wire = logged_in()
    sent = allow(
        wire,
        parse("x", "s") + describe("S", "s") + bind(name="s", results=[1]) + execute() + SYNC,
        plan_for("n"),
    )
    assert sent == parse("x", "s") + describe("S", "s") + bind(name="s", results=[1]) + describe() + execute() + SYNC
    told = P1 + msg("t", b"\0\0") + described("n")
    answer = told + B1 + described(("n", 25, 1)) + row("ab") + complete("SELECT 1") + ready()
    assert down(wire, answer) == told + B1 + row("##") + complete("SELECT 1") + ready()


def test_execute_uses_the_describe_before_it() -> None:
    wire = logged_in()
    data = bind(portal="p") + describe("P", "p") + FLUSH + execute("p") + SYNC
    assert allow(wire, data, plan_for("n")) == data
    answer = B1 + described("n") + row("ab") + complete("SELECT 1") + ready()
    assert down(wire, answer) == B1 + described("n") + row("##") + complete("SELECT 1") + ready()


@pytest.mark.parametrize(
    "between",
    [
        describe("P", "q"),
        describe("S", "p"),
        bind(portal="p"),
        close("P", "p"),
        execute("q"),
        SYNC,
        query("x"),
        parse("x"),
    ],
)
def test_a_describe_further_back_is_not_relied_on(between: bytes) -> None:
    wire = logged_in()
    sent = allow(wire, bind(portal="p") + describe("P", "p") + between + execute("p"), plan_for("n"))
    assert sent.endswith(describe("P", "p") + execute("p"))


def test_each_portion_of_rows_is_described() -> None:
    wire = logged_in()
    assert allow(wire, execute("p", 1) + SYNC, plan_for("n")) == describe("P", "p") + execute("p", 1) + SYNC
    assert down(wire, described("n") + row("a") + SUSPENDED + ready("T")) == row("#") + SUSPENDED + ready("T")
    allow(wire, execute("p", 1) + SYNC, plan_for("n"))
    assert down(wire, described("n") + row("b") + complete("x") + ready("T")) == row("#") + complete("x") + ready("T")


def test_the_describe_of_ours_fails_as_the_execute_would() -> None:
    wire = logged_in()
    allow(wire, execute("p") + SYNC, plan_for("n"))
    assert down(wire, error("34000", "no portal") + ready()) == error("34000", "no portal") + ready()
    assert wire.idle


def test_execute_without_rows_under_a_plan() -> None:
    wire = logged_in()
    allow(wire, execute() + SYNC, plan_for("n"))
    assert down(wire, NO_DATA + complete("SET") + ready()) == complete("SET") + ready()


def test_rows_without_known_columns_are_not_let_through() -> None:
    wire = logged_in()
    allow(wire, execute() + SYNC, plan_for("n"))
    with pytest.raises(ProtocolError):
        down(wire, NO_DATA + row("secret"))


def test_masked_rows_that_do_not_fit() -> None:
    bad = [row("1", "2"), msg("D", b"\0\1\0\0\0\5x"), msg("D", b"\0\1\xff\xff\xff\xfe"), msg("D", b"\0\1"),
           msg("D", b"\0\1\0\0\0\1xy")]  # fmt: skip
    for data in bad:
        wire = logged_in()
        allow(wire, query("x"), plan_for("n"))
        with pytest.raises(ProtocolError):
            down(wire, described("n") + data)


def test_masked_function_result() -> None:
    wire = logged_in()
    allow(wire, function(1), lambda columns: [hide])
    assert down(wire, msg("V", b"\0\0\0\1x") + ready()) == msg("V", b"\xff\xff\xff\xff") + ready()
    allow(wire, function(1), lambda columns: [None])
    assert down(wire, msg("V", b"\0\0\0\1x") + ready()) == msg("V", b"\0\0\0\1x") + ready()
    allow(wire, function(1), lambda columns: [hide])
    assert down(wire, msg("V", b"\xff\xff\xff\xff") + ready()) == msg("V", b"\xff\xff\xff\xff") + ready()
    allow(wire, function(1), lambda columns: [hide])
    with pytest.raises(ProtocolError):
        down(wire, msg("V", b"\0\0\0\5x"))


def test_replication_under_a_plan_is_not_let_through() -> None:
    wire = logged_in()
    allow(wire, query("START_REPLICATION"), plan_for("n"))
    with pytest.raises(ProtocolError, match="replication"):
        down(wire, copies("W", 0, 0))


WITHHELD = error("23514", "a check constraint is violated (message withheld by vendorgate)")


def test_redacted_answers() -> None:
    wire = logged_in()
    allow(wire, query("x"), redact=True)
    said = down(
        wire,
        notice("saw 123", D="456") + error("23514", "row 123", D="Failing row", W="in f", t="people") + ready(),
    )
    withheld = msg("N", error("00000", "message withheld by vendorgate", "NOTICE")[5:])
    assert said == withheld + WITHHELD + ready()
    allow(wire, query("x"))
    assert down(wire, error() + ready()) == error() + ready()


def test_redaction_lasts_to_the_end_of_the_transaction() -> None:
    wire = logged_in()
    allow(wire, query("x"), redact=True)
    down(wire, complete("INSERT 0 1") + ready("T"))
    allow(wire, query("commit"))
    assert down(wire, error("23514", "row 123") + ready()) == WITHHELD + ready()
    allow(wire, query("y"))
    assert down(wire, error() + ready()) == error() + ready()


def test_redaction_of_requests_on_their_way() -> None:
    wire = logged_in()
    allow(wire, query("x"))
    allow(wire, query("y"), redact=True)
    down(wire, complete("X") + ready())
    assert down(wire, error("23514", "row 123") + ready()) == WITHHELD + ready()


def test_redaction_of_an_extended_batch_covers_its_sync() -> None:
    wire = logged_in()
    allow(wire, bind() + describe() + execute(), redact=True)
    up(wire, SYNC)
    down(wire, B1 + NO_DATA + complete("INSERT 0 1"))
    assert down(wire, error("23514", "row 123") + ready()) == WITHHELD + ready()
    up(wire, query("x"))
    assert down(wire, error() + ready()) == error() + ready()


def test_redaction_of_everything() -> None:
    wire = logged_in()
    wire.redact_all = True
    assert wire.redact_all
    assert b"saw" not in down(wire, notice("saw 1"))
    up(wire, query("x"))
    assert down(wire, error("23514", "row") + ready()) == WITHHELD + ready()
    deny(wire, query("x"))
    assert down(wire, FAILED + ready()) == DENIED + ready()


def test_a_server_that_does_not_say_the_level() -> None:
    wire = logged_in()
    deny(wire, query("x"))
    old = msg("E", b"SFEHLER\0C42601\0Mx\0\0")
    assert down(wire, old + ready()) == msg("E", b"SFEHLER\0C42501\0Mno\0\0") + ready()


def test_messages_are_values() -> None:
    """The caller may keep a message after more bytes came."""
    wire = logged_in()
    up(wire, query("x"))
    first: list[Message] = list(wire.feed(S, SELECTED))
    raw = b"".join(m.raw for m in first)
    down(wire, ready())
    assert b"".join(m.raw for m in first) == raw == SELECTED
