"""What may not be said; what messages say; statements of our own."""

import pytest

from appliance.model import Column, ProtocolError, Send
from appliance.wire.postgres import Postgres
from tests.wire.build import (
    B1,
    C1,
    CANCEL,
    COPY_DONE,
    EMPTY,
    FLUSH,
    GSS,
    KEY,
    NO_DATA,
    P1,
    SSL,
    SUSPENDED,
    SYNC,
    TERMINATE,
    C,
    S,
    auth,
    bind,
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
    row,
    startup,
    up,
    z,
)  # fmt: skip


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


def test_inject() -> None:
    wire = logged_in()
    (send,) = wire.inject("select 1")
    assert send.to is S
    assert b"select 1" in send.data
    assert not wire.idle
    closed = C1 + C1
    answer = (
        closed + P1 + notice("x") + B1 + described("a", "b") + row("1", None) + row("2", "y") + complete("SELECT 2")
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
    assert [m.kind for m in wire.feed(S, C1 + C1 + P1 + B1 + NO_DATA + EMPTY + C1 + C1 + ready())] == ["injected-done"]


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
