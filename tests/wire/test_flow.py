"""Refusing, injecting, settling, masking: what goes up and what comes down, byte for byte."""

import pytest

from appliance.model import Column, Message, ProtocolError, Send
from appliance.wire import Cell, Plan
from appliance.wire.postgres import Postgres
from tests.wire.build import (
    B1,
    C1,
    CANCEL,
    COPY_DONE,
    DENIED,
    EMPTY,
    FLUSH,
    GSS,
    KEY,
    NO_DATA,
    P1,
    REFUSED,
    SSL,
    SUSPENDED,
    SYNC,
    TERMINATE,
    WELCOME,
    C,
    S,
    auth,
    bind,
    close,
    complete,
    copies,
    copy_data,
    copy_fail,
    describe,
    described,
    down,
    error,
    execute,
    function,
    logged_in,
    msg,
    notice,
    one,
    parameter,
    parse,
    query,
    ready,
    refused_parse,
    row,
    startup,
    up,
    z,
)  # fmt: skip

SELECTED = described("n") + row("1") + complete("SELECT 1")
FAILED = error("42601", "syntax error at or near", P="1", F="scan.l", L="1145", R="scanner_yyerror")


def deny(wire: Postgres, data: bytes, code: str = "denied") -> bytes:
    return b"".join(send.data for message in wire.feed(C, data) for send in wire.deny(message, code, "no"))


def hide(text: str) -> str | None:
    return "#" * len(text)


def plan_for(*names: str) -> Plan:
    def plan(columns: tuple[Column, ...]) -> list[Cell | None]:
        return [hide if column.name in names else None for column in columns]

    return plan


def allow(wire: Postgres, data: bytes, plan: Plan | None = None, redact: bool = False) -> bytes:
    sends = [
        s for m in wire.feed(C, data) for s in wire.allow(m, plan if m.kind != "parse" else None, redact)
    ]
    assert all(send.to is S for send in sends)
    return b"".join(send.data for send in sends)


# -- refusals ---------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("data", "answer"), [(query("x"), SELECTED), (parse("x"), P1), (execute(), row("1"))]
)
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


# -- what may not be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [query("x"), parse("x"), function(1)])
def test_a_request_in_the_middle_of_copy_data(data: bytes) -> None:
    wire = logged_in()
    up(wire, query("copy t from stdin"))
    down(wire, copies("G", 0, 1))
    with pytest.raises(ProtocolError, match="middle of COPY"):
        up(wire, data)


def test_a_request_sent_behind_a_copy_that_gets_no_data() -> None:
    wire = logged_in()
    up(wire, parse("copy") + bind() + execute() + SYNC + query("select 1"))
    with pytest.raises(ProtocolError, match="middle of COPY"):
        down(wire, P1 + B1 + copies("G", 0, 1))


def test_goodbye_in_the_middle_of_copy_data() -> None:
    wire = logged_in()
    up(wire, query("copy t from stdin"))
    down(wire, copies("G", 0, 1))
    assert up(wire, TERMINATE) == TERMINATE


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (b"", row("1")),
        (b"", ready()),
        (b"", error()),
        (query("x"), ready()),
        (query("x"), row("1")),
        (query("x"), copy_data(b"x")),
        (query("x"), COPY_DONE),
        (query("x"), described("n") + ready()),
        (query("x"), described("n") + described("n")),
        (query("x"), error() + complete("SELECT 1")),
        (query("x"), error() + error()),
        (query("x"), copies("H", 0, 1) + row("1")),
        (query("x"), copies("G", 0, 1) + ready()),
        (query("x"), SUSPENDED),
        (query("x"), msg("V", cellular := b"\xff\xff\xff\xff")),
        (function(1), msg("V", cellular) + msg("V", cellular) + msg("V", cellular) + P1),
        (parse("x"), B1),
        (parse("x") + SYNC, ready()),
        (execute(), SUSPENDED + SUSPENDED),
        (execute(), described("n")),
        (SYNC, complete("x")),
        (SYNC, ready("?")),
        (SYNC, ready() + ready()),
        (SYNC, msg("y")),
        (SYNC, msg("E", b"x")),
        (SYNC, msg("N", b"")),
        (query("x"), msg("T", b"\0\1a\0")),
        (query("x"), msg("T", b"\0\0x")),
        (query("x"), b"T\0\0\0\1"),
        (query("x"), described("n") + b"D\0\0\0\5\0"),
        (query("x"), msg("C", b"SELECT")),
        (execute(), msg("D", b"")),
    ],
)
def test_answers_that_cannot_be(asked: bytes, answer: bytes) -> None:
    wire = logged_in()
    up(wire, asked)
    with pytest.raises(ProtocolError):
        down(wire, answer)


@pytest.mark.parametrize("answer", [b"X", b"NN", b"N" + ready(), ready()])
def test_answers_to_a_request_for_encryption_that_cannot_be(answer: bytes) -> None:
    wire = Postgres()
    up(wire, SSL)
    with pytest.raises(ProtocolError):
        down(wire, answer)


@pytest.mark.parametrize(
    "data",
    [
        SSL + startup(),
        GSS + b"x",
        b"\x16\x03\x01",
        b"GET / HTTP/1.1",
        b"\0\0\0\7",
        b"\0\0\x27\x11\0\3\0\0",
        b"\0\0\0\x08\0\2\0\0",
        msg("", b"")[:4] + b"\0\0\0\0",
        startup()[:-1] + b"x",
        startup(user="a\nb"),
        startup(**{"a=b": "c"}),
        SSL[:3] + b"\x09" + SSL[4:] + b"x",
        CANCEL + b"x",
        startup() + query("too early"),
    ],
)
def test_starts_that_cannot_be(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(Postgres().feed(C, data))


def test_going_on_before_the_answer_on_encryption() -> None:
    wire = Postgres()
    up(wire, SSL)
    with pytest.raises(ProtocolError, match="goes on before"):
        list(wire.feed(C, startup()))


def test_gss_is_answered_without_the_server() -> None:
    wire = Postgres()
    one(wire, GSS)
    assert wire.refuse_gss() == b"N"
    assert one(wire, startup()).kind == "startup"


@pytest.mark.parametrize(
    "data",
    [
        msg("p", b"x"),
        msg("Q", b"no end"),
        query("a") [:-1] + b"\0x",
        msg("Q", b"a\0b\0"),
        msg("P", z("", "x") + b"\0\1\0\0"),
        msg("B", z("", "") + b"\0\2\0\0\0\0\0\1" + b"\0\0\0\0" + b"\0\0"),
        msg("B", z("", "") + b"\0\1\0\2\0\0\0\0"),
        msg("B", z("", "") + b"\0\0\0\1\0\0\0\5x\0\0"),
        msg("D", b"X\0"),
        msg("C", b"X\0"),
        msg("E", b"\0\0"),
        msg("S", b"x"),
        msg("y"),
        b"Q\0\0\0\3",
        TERMINATE + SYNC,
    ],
)  # fmt: skip
def test_requests_that_cannot_be(data: bytes) -> None:
    wire = logged_in()
    with pytest.raises(ProtocolError):
        list(wire.feed(C, data))


def test_a_tag_no_client_sends_is_refused_before_its_length() -> None:
    wire = logged_in()
    with pytest.raises(ProtocolError, match="no client does"):
        list(wire.feed(C, b"y"))


# -- what messages say ------------------------------------------------------------------------------------------


def test_fields() -> None:
    wire = Postgres()
    login = one(wire, startup(user="u", database="", options="-c a=b"))
    assert (login.name, login.status, login.text) == ("u", "u", "user=u\ndatabase=\noptions=-c a=b")
    up(wire, b"")
    wire = logged_in()
    said = one(wire, parse("select $1, $2", "s", [23, 25]))
    assert (said.text, said.name) == ("select $1, $2", "s")
    said = one(wire, bind(b"\0\0\0\1", None, portal="p", name="s", formats=[1, 0], results=[1]))
    assert (said.cursor, said.name) == ("p", "s")
    assert [(v.data, v.type, v.binary) for v in said.values] == [(b"\0\0\0\1", 23, True), (None, 25, False)]
    assert [v.binary for v in one(wire, bind(b"a", b"b", formats=[1])).values] == [True, True]
    assert one(wire, execute("p", 5)).status == "5"
    assert (one(wire, describe("S", "s")).name, one(wire, describe("P", "p")).cursor) == ("s", "p")
    assert one(wire, copy_fail("why")).text == "why"
    call = one(wire, function(42, b"x"))
    assert (call.name, call.values[0].data) == ("42", b"x")
    assert one(Postgres(), CANCEL).name == KEY.hex()


def test_what_the_server_says() -> None:
    wire = logged_in()
    assert wire.cancel_key == KEY
    up(wire, parse("x", "s") + describe("S", "s") + SYNC)
    answers = list(wire.feed(S, P1 + msg("t", b"\0\1\0\0\0\x17") + described("a", ("b", 23, 1)) + ready("T")))
    assert [v.type for v in answers[1].values] == [23]
    assert answers[2].name == "s"
    assert answers[2].columns == (Column("a", 16384, 1, 25), Column("b", 16384, 2, 23, True))
    assert wire.transaction == "T"
    assert one(wire, bind(b"1", name="s")).values[0].type == 23  # the type the server found
    (failed,) = wire.feed(S, error("57P01", "bye", "FATAL"))
    assert (failed.status, failed.text) == ("57P01", "bye")
    (told,) = wire.feed(S, parameter("TimeZone", "UTC"))
    assert (told.name, told.status) == ("TimeZone", "UTC")


def test_types_of_a_name_that_was_given_two() -> None:
    wire = logged_in()
    list(wire.feed(C, parse("x", "s", [23]) + parse("y", "s", [25])))
    assert one(wire, bind(b"1", name="s")).values[0].type == 0


def test_text_is_read_in_the_encoding_in_force() -> None:
    wire = logged_in()
    first = one(wire, query("é".encode("latin-1")))
    assert first.text == "\udce9"
    down(wire, parameter("client_encoding", "LATIN1"))
    assert wire.again(first).text == "é"
    assert one(wire, query("é".encode("latin-1"))).text == "é"
    assert wire.again(one(Postgres(), SSL)).kind == "ssl-request"
    down(wire, parameter("client_encoding", "MULE_INTERNAL"))
    assert one(wire, query(b"\xe9a")).text == "\udce9a"


def test_logins_and_waiting() -> None:
    wire = Postgres()
    assert wire.notice("x") == b""
    assert not wire.idle
    up(wire, startup())
    down(wire, auth(3))
    assert wire.busy
    (send,) = wire.deny(one(wire, msg("p", z("pw"))), "denied", "no")
    assert send.to is C
    logged = logged_in()
    assert logged.notice("wait\0") == msg("N", error("00000", "wait ", "NOTICE")[5:])
    assert logged.refuse("end") == error("42501", "end", "FATAL")


# -- inject, settle ---------------------------------------------------------------------------------------------


def test_inject() -> None:
    wire = logged_in()
    (send,) = wire.inject("select 1")
    assert send.to is S
    assert b"select 1" in send.data
    assert not wire.idle
    closed = C1 + C1
    answer = (
        closed
        + P1
        + notice("x")
        + B1
        + described("a", "b")
        + row("1", None)
        + row("2", "y")
        + complete("SELECT 2")
    )
    said = list(wire.feed(S, answer + closed + ready("T")))
    assert [m.kind for m in said] == ["injected", "injected-done"]
    assert b"".join(m.raw for m in said) == b""
    assert [v.data for v in said[0].values] == [b"1", None, b"2", b"y"]
    assert (said[0].name, said[0].status, len(said[0].columns)) == ("0", "SELECT 2", 2)
    assert wire.idle


def test_inject_without_rows_and_with_an_error() -> None:
    wire = logged_in()
    wire.inject("set a = 1")
    said = list(wire.feed(S, C1 + C1 + P1 + B1 + NO_DATA + complete("SET") + C1 + C1 + ready()))
    assert (said[0].values, said[0].columns) == ((), ())
    wire.inject("nonsense")
    (done,) = wire.feed(S, C1 + C1 + error("42601", "no") + ready())
    assert (done.kind, done.status, done.text, done.raw) == ("injected-done", "42601", "no", b"")
    wire.inject("")
    assert [m.kind for m in wire.feed(S, C1 + C1 + P1 + B1 + NO_DATA + EMPTY + C1 + C1 + ready())] == [
        "injected-done"
    ]


def test_inject_passes_what_is_not_its_answer() -> None:
    wire = logged_in()
    wire.inject("select 1")
    told = parameter("a", "b")
    assert down(wire, C1 + told) == told


def test_inject_only_while_idle() -> None:
    wire = logged_in()
    up(wire, parse("x"))
    down(wire, P1)
    assert not wire.busy
    assert not wire.idle  # the batch has no Sync yet: one of ours would end it
    with pytest.raises(ValueError, match="idle"):
        wire.inject("select 1")


def test_inject_with_rows_that_do_not_fit() -> None:
    wire = logged_in()
    wire.inject("select 1")
    with pytest.raises(ProtocolError):
        down(wire, C1 + C1 + P1 + B1 + described("a") + row("1", "2"))


def test_settle() -> None:
    wire = logged_in()
    assert wire.settle() == []
    up(wire, parse("x"))
    assert wire.settle() == [Send(S, FLUSH)]
    assert wire.settle() == []
    up(wire, bind() + FLUSH)
    assert wire.settle() == []
    up(wire, execute() + SYNC)
    assert wire.settle() == []


# -- masks ------------------------------------------------------------------------------------------------------


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
    assert (
        sent
        == parse("x", "s") + describe("S", "s") + bind(name="s", results=[1]) + describe() + execute() + SYNC
    )
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
    assert down(wire, described("n") + row("b") + complete("x") + ready("T")) == row("#") + complete(
        "x"
    ) + ready("T")


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


# -- redaction --------------------------------------------------------------------------------------------------

WITHHELD = error("23514", "a check constraint is violated (message withheld by vendorgate)")


def test_redacted_answers() -> None:
    wire = logged_in()
    allow(wire, query("x"), redact=True)
    said = down(
        wire,
        notice("saw 123", D="456")
        + error("23514", "row 123", D="Failing row", W="in f", t="people")
        + ready(),
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
    assert WELCOME


def test_bytes_that_came_with_a_request_for_encryption_are_refused_after_its_answer_too() -> None:
    """Whoever put them there did not wait for the answer; when it was given makes no difference."""
    wire = Postgres()
    messages = wire.feed(C, GSS + startup())
    assert next(messages).kind == "gss-request"
    wire.refuse_gss()
    with pytest.raises(ProtocolError, match="goes on before"):
        next(messages)


def test_a_copy_whose_sync_was_swallowed_is_not_idle_before_the_next() -> None:
    wire = logged_in()
    up(wire, parse("copy") + bind() + execute() + SYNC)
    down(wire, P1 + B1 + copies("G", 0, 1))
    up(wire, COPY_DONE)
    down(wire, complete("COPY 0"))
    assert not wire.busy
    assert not wire.idle
    up(wire, SYNC)
    down(wire, ready())
    assert wire.idle
