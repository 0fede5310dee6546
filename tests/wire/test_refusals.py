"""What goes up in place of a request that is refused, and what comes down for it."""

import pytest

from appliance.model import ProtocolError, Send
from appliance.wire.postgres import Postgres
from tests.wire.build import (
    B1,
    CANCEL,
    COPY_DONE,
    DENIED,
    FLUSH,
    GSS,
    P1,
    REFUSED,
    SSL,
    SYNC,
    C,
    bind,
    close,
    complete,
    copies,
    copy_data,
    copy_fail,
    describe,
    down,
    error,
    execute,
    function,
    logged_in,
    one,
    parse,
    query,
    ready,
    refused_parse,
    row,
    startup,
    up,
)  # fmt: skip
from tests.wire.play import FAILED, SELECTED, deny


@pytest.mark.parametrize("status", ["I", "E"])
def test_refused_query(status: str) -> None:
    wire = logged_in()
    assert deny(wire, query("drop table t")) == REFUSED
    assert wire.busy
    assert down(wire, FAILED + ready(status)) == DENIED + ready(status)
    assert wire.idle
    assert wire.transaction == status


def test_refused_query_as_cancelled() -> None:
    wire = logged_in()
    deny(wire, query("x"), "cancelled")
    assert down(wire, FAILED + ready()) == error("57014", "no") + ready()


def test_refused_function_call() -> None:
    wire = logged_in()
    assert deny(wire, function(1, b"x")) == REFUSED
    assert down(wire, FAILED + ready()) == DENIED + ready()


@pytest.mark.parametrize(
    ("data", "instead"),
    [
        (parse("drop", "mine"), refused_parse("mine")),
        (parse("drop"), refused_parse("")),
        (bind(), refused_parse()),
        (describe(), refused_parse()),
        (describe("S", "s"), refused_parse()),
        (execute(), refused_parse()),
        (close(), refused_parse()),
    ],
)
def test_refused_extended(data: bytes, instead: bytes) -> None:
    wire = logged_in()
    assert deny(wire, data) == instead
    assert up(wire, SYNC) == SYNC
    assert down(wire, FAILED + ready("E")) == DENIED + ready("E")
    assert wire.idle


def test_refused_behind_an_error_gets_no_answer() -> None:
    wire = logged_in()
    up(wire, parse("x"))
    deny(wire, parse("y"))
    up(wire, SYNC)
    assert down(wire, error() + ready()) == error() + ready()
    assert wire.idle


def test_refused_while_the_server_skips_gets_no_answer() -> None:
    wire = logged_in()
    up(wire, parse("x") + FLUSH)
    down(wire, error())
    deny(wire, execute())
    assert not wire.idle
    up(wire, SYNC)
    assert down(wire, ready()) == ready()
    assert wire.idle


def test_the_next_batch_after_a_refusal_runs() -> None:
    wire = logged_in()
    deny(wire, parse("x"))
    up(wire, bind() + execute() + SYNC + query("select 1"))
    assert down(wire, FAILED + ready() + SELECTED + ready()) == DENIED + ready() + SELECTED + ready()


@pytest.mark.parametrize(("data", "answer"), [(query("x"), SELECTED), (parse("x"), P1), (execute(), row("1"))])
def test_a_refused_request_that_was_carried_out_ends_the_flow(data: bytes, answer: bytes) -> None:
    wire = logged_in()
    deny(wire, data)
    with pytest.raises(ProtocolError):
        down(wire, answer)


def test_a_fatal_error_is_not_put_in_our_words() -> None:
    wire = logged_in()
    deny(wire, query("x"))
    gone = error("57P01", "shutdown", "FATAL")
    assert down(wire, gone) == gone


@pytest.mark.parametrize("data", [copy_data(b"x"), COPY_DONE, copy_fail("own")])
def test_refused_copy(data: bytes) -> None:
    wire = logged_in()
    up(wire, query("copy t from stdin"))
    down(wire, copies("G", 0, 1))
    assert deny(wire, data) == copy_fail("vendorgate refused")
    up(wire, copy_data(b"y") + COPY_DONE)
    assert down(wire, error("57014", "COPY from stdin failed") + ready()) == DENIED + ready()
    assert wire.idle
    up(wire, query("x"))
    assert down(wire, error() + ready()) == error() + ready()


def test_refused_copy_before_the_server_has_asked_for_it() -> None:
    wire = logged_in()
    up(wire, parse("copy") + bind() + execute() + SYNC)
    deny(wire, copy_data(b"x"))
    up(wire, SYNC)
    answer = P1 + B1 + copies("G", 0, 1)
    assert down(wire, answer + error("57014", "failed") + ready()) == answer + DENIED + ready()
    assert wire.idle


def test_a_refused_copy_that_was_carried_out_ends_the_flow() -> None:
    wire = logged_in()
    up(wire, query("copy t from stdin"))
    down(wire, copies("G", 0, 1))
    deny(wire, COPY_DONE)
    with pytest.raises(ProtocolError, match="refused COPY"):
        down(wire, complete("COPY 1"))


def test_refused_login_and_encryption() -> None:
    wire = Postgres()
    (send,) = wire.deny(one(wire, SSL), "denied", "no")
    assert send == Send(C, b"N")
    (send,) = wire.deny(one(wire, GSS), "denied", "no")
    assert send == Send(C, b"N")
    (send,) = wire.deny(one(wire, startup()), "denied", "no")
    assert send == Send(C, error("42501", "no", "FATAL"))
    assert wire.deny(one(Postgres(), CANCEL), "denied", "no") == []


def test_what_asks_for_nothing_cannot_be_refused() -> None:
    wire = logged_in()
    with pytest.raises(ValueError, match="sync"):
        wire.deny(one(wire, SYNC), "denied", "no")
