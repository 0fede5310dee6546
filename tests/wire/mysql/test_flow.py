"""What is refused, in its turn; what is injected; what the client believes the server to have."""

import pytest

from appliance.model import Message, ProtocolError
from appliance.wire.mysql import MySQL
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql.packets import FULL
from tests.wire.mysql.build import (
    LONG,
    MARIADB,
    MODERN,
    MORE,
    PING,
    QUIT,
    RESET_CONNECTION,
    VAR_STRING,
    C,
    S,
    change_user,
    close,
    column,
    command,
    down,
    end,
    error,
    execute,
    fetch,
    logged_in,
    long_data,
    numbered,
    ok,
    one,
    p,
    prepare,
    prepared,
    ps,
    query,
    reset,
    result,
    row,
    string,
    up,
    variable,
)

DENIED = p(error(1142, "42000", "no"), 1)
N = [column("n")]
SELECTED = result(N, [row("1")])
LONGS = bytes([LONG, 0])


def deny(wire: MySQL, data: bytes, code: str = "denied") -> list[tuple[object, bytes]]:
    return [(s.to, s.data) for m in wire.feed(C, data) for s in wire.deny(m, code, "no")]


def with_statement(capabilities: int = MODERN, parameters: int = 1) -> MySQL:
    """A wire with a statement 1 prepared, of so many parameters."""
    wire = logged_in(capabilities)
    up(wire, prepare("select ?"))
    extended = b"" if capabilities & caps.EXTENDED_METADATA else None
    definition = column("?", extended=extended)
    down(wire, ps(prepared(1, 1, parameters), *[definition] * (parameters + 1)))
    assert wire.idle
    return wire


def test_a_refusal_is_answered_at_once() -> None:
    wire = logged_in()
    assert deny(wire, query("drop table t")) == [(C, DENIED)]
    assert wire.idle
    assert not wire.busy
    assert deny(wire, query("x"), "cancelled") == [(C, p(error(1317, "70100", "no"), 1))]


def test_a_refusal_waits_its_turn() -> None:
    wire = logged_in()
    up(wire, query("select 1"))
    assert deny(wire, query("drop table t") + query("drop table u")) == []
    up(wire, query("select 2"))
    assert deny(wire, PING) == []
    said = list(wire.feed(S, SELECTED))
    assert [m.kind for m in said] == ["describe", "row", "complete", "error", "error"]
    assert b"".join(m.raw for m in said) == SELECTED + DENIED * 2
    assert [m.cursor for m in said[2:]] == ["autocommit ready", "refused", "refused"]
    assert wire.busy
    assert down(wire, p(error(), 1)) == p(error(), 1) + DENIED
    assert wire.idle


def test_a_refusal_of_a_long_statement_has_its_number() -> None:
    wire = logged_in()
    payload = b"\3" + b"x" * (2 * FULL)
    data = p(payload[:FULL], 0) + p(payload[FULL : 2 * FULL], 1) + p(payload[2 * FULL :], 2)
    assert [raw[3] for _, raw in deny(wire, data)] == [3]
    assert up(wire, data) == data
    assert down(wire, p(ok(), 3)) == p(ok(), 3)
    exact = p(b"\3" + b"x" * (FULL - 1), 0) + p(b"", 1)
    assert [raw[3] for _, raw in deny(wire, exact)] == [2]


def test_commands_without_an_answer_are_dropped() -> None:
    wire = with_statement()
    assert deny(wire, close(1) + long_data(1, 0, b"x")) == []
    assert wire.idle
    assert deny(wire, QUIT) == []


def test_refused_long_data_refuses_what_needs_it() -> None:
    wire = with_statement()
    deny(wire, long_data(1, 0, b"x"))
    (send,) = wire.allow(one(wire, execute(1, b"\0", LONGS)))
    assert (send.to, send.data[3:7]) == (C, b"\1\xff\xdb\x04")
    assert up(wire, reset(1)) == reset(1)
    down(wire, p(ok(), 1))
    data = execute(1, b"\0", LONGS, bytes(4))
    assert up(wire, data) == data


def test_types_of_a_refused_execution_go_up_with_the_next() -> None:
    wire = with_statement()
    deny(wire, execute(1, b"\0", LONGS, b"\1\0\0\0"))
    assert up(wire, execute(1, b"\0", None, b"\2\0\0\0")) == execute(1, b"\0", LONGS, b"\2\0\0\0")
    down(wire, SELECTED)
    assert up(wire, execute(1, b"\0", None, b"\3\0\0\0")) == execute(1, b"\0", None, b"\3\0\0\0")
    down(wire, SELECTED)
    other = bytes([VAR_STRING, 0])
    deny(wire, execute(1, b"\0", other, string(b"ab")))
    message = one(wire, execute(1, b"\0", None, string(b"cd")))
    assert [value.data for value in message.values] == [b"cd"]
    assert wire.allow(message)[0].data == execute(1, b"\0", other, string(b"cd"))


def test_types_of_a_refused_bulk_go_up_with_the_next() -> None:
    wire = with_statement(MARIADB)
    head, rows = b"\1\0\0\0", b"\0\1\0\0\0"
    deny(wire, command(250, head + b"\x80\0" + LONGS + rows))
    assert up(wire, command(250, head + b"\0\0" + rows)) == command(250, head + b"\x80\0" + LONGS + rows)


def test_types_in_the_form_of_query_attributes() -> None:
    wire = with_statement(MODERN | caps.QUERY_ATTRIBUTES)
    head, types = b"\1\0\0\0\x08\1\0\0\0\1\0", LONGS + string(b"")
    deny(wire, command(23, head + b"\1" + types + b"\1\0\0\0"))
    sent = up(wire, command(23, head + b"\0" + b"\2\0\0\0"))
    assert sent == command(23, head + b"\1" + types + b"\2\0\0\0")


def test_an_execution_whose_form_is_in_doubt_is_not_read() -> None:
    wire = with_statement(MODERN | caps.QUERY_ATTRIBUTES)
    assert one(wire, execute(1, b"\0", LONGS, b"\1\0\0\0")).status == "unread"


def test_the_statement_prepared_last_is_not_the_one_before_a_refused_one() -> None:
    wire = with_statement(MARIADB, 0)
    assert up(wire, execute(-1))
    down(wire, ps(b"\1\1", column("n", extended=b""), end()))
    assert deny(wire, prepare("drop table t")) == [(C, DENIED)]
    for data in (execute(-1), command(250, b"\xff\xff\xff\xff\0\0")):
        (send,) = wire.allow(one(wire, data))
        assert (send.to, send.data[4:7]) == (C, b"\xff\xdb\x04")
    up(wire, prepare("select 1"))
    assert up(wire, execute(-1))


def test_an_execution_is_read_again_when_its_statement_is_known() -> None:
    wire = logged_in(MARIADB)
    first, second = wire.feed(C, prepare("select ?") + execute(-1, b"\0", LONGS, b"\7\0\0\0"))
    assert (second.status, second.values) == ("unread", ())
    wire.allow(first)
    down(wire, ps(prepared(1, 1, 1), column("?", extended=b""), column("n", extended=b"")))
    again = wire.again(second)
    assert (again.status, [value.data for value in again.values], again.raw) == ("", [b"7"], second.raw)


def test_what_waited_is_read_again_in_the_encoding_in_force() -> None:
    wire = logged_in()
    first, second = wire.feed(C, query("set names latin1") + query(b"select '\xe9'"))
    assert "\udce9" in second.text
    wire.allow(first)
    down(wire, p(ok(changes=[variable("character_set_client", "latin1")]), 1))
    assert wire.again(second).text == "select 'é'"
    assert wire.again(first) == first
    (ping,) = wire.feed(C, PING)
    assert wire.again(ping) is ping


def test_long_data_is_part_of_the_values() -> None:
    wire = with_statement(parameters=2)
    up(wire, long_data(1, 1, b"ab") + long_data(1, 1, b"cd"))
    message = one(wire, execute(1, b"\0", LONGS + bytes([252, 0]), b"\5\0\0\0"))
    assert [(value.data, value.type) for value in message.values] == [(b"5", LONG), (b"abcd", 252)]
    wire.allow(message)
    down(wire, SELECTED)
    message = one(wire, execute(1, b"\2", None, b"\6\0\0\0"))
    assert [value.data for value in message.values] == [b"6", None], "long data is for one execution"


def test_values_of_every_kind_are_told_as_text() -> None:
    kinds = [
        (1, b"\xff", b"-1"), (0x8001, b"\xff", b"255"), (2, b"\1\0", b"1"), (8, b"\xff" * 8, b"-1"),
        (0x8008, b"\xff" * 8, b"18446744073709551615"), (4, b"\0\0\xc0\x3f", b"1.5"),
        (5, bytes(6) + b"\xf8\x3f", b"1.5"), (10, b"\4\xe4\7\2\3", b"2020-02-03"), (7, b"\0", b"0000-00-00 00:00:00"),
        (12, b"\7\xe4\7\2\3\4\5\6", b"2020-02-03 04:05:06"),
        (11, b"\x08\1\1\0\0\0\2\3\4", b"-26:03:04"), (246, string(b"1.50"), b"1.50"),
        (253, string("é".encode()), "é".encode()), (13, b"\xe4\7", b"2020"), (6, b"", None),
    ]  # fmt: skip
    wire = with_statement(parameters=len(kinds))
    types = b"".join(kind.to_bytes(2, "little") for kind, _, _ in kinds)
    message = one(wire, execute(1, bytes(2), types, b"".join(data for _, data, _ in kinds)))
    assert [value.data for value in message.values] == [text for _, _, text in kinds]
    assert not any(value.binary for value in message.values)
    wire = with_statement()
    message = one(wire, execute(1, b"\0", bytes([252, 0]), string(b"\xff\xfe")))
    assert (message.values[0].data, message.values[0].binary) == (b"\xff\xfe", True)


def test_reset_and_change_user_drop_what_was_prepared() -> None:
    for data in (RESET_CONNECTION, change_user()):
        wire = with_statement()
        up(wire, data)
        down(wire, p(ok(), 1))
        assert one(wire, execute(1, b"\0", LONGS, bytes(4))).status == "unread"
    wire = with_statement()
    up(wire, close(1))
    assert one(wire, execute(1, b"\0", LONGS, bytes(4))).status == "unread"


def test_a_refused_change_of_user_leaves_all_as_it_was() -> None:
    wire = with_statement()
    assert deny(wire, change_user()) == [(C, DENIED)]
    assert wire.idle
    assert one(wire, execute(1, b"\0", LONGS, bytes(4))).status == ""


@pytest.mark.parametrize("code", [0, 11, 15, 16, 18, 19, 20, 21, 29, 30, 32, 33, 254, 34, 200])
def test_commands_that_are_refused_though_allowed(code: int) -> None:
    wire = logged_in()
    (send,) = wire.allow(one(wire, command(code, b"x")))
    assert (send.to, send.data[3:7]) == (C, b"\1\xff\x17\x04")
    assert wire.idle
    up(wire, query("x"))
    assert wire.allow(one(wire, command(code))) == []
    assert down(wire, p(ok(), 1)).count(b"\xff\x17\x04") == 1


def test_an_empty_command() -> None:
    wire = logged_in()
    message = one(wire, p(b""))
    assert (message.kind, message.text) == ("unknown", "an empty command")


def test_numbers_that_are_out_of_order() -> None:
    for data in (p(b"\3select 1", 1), p(b"\3" + b"x" * (FULL - 1), 0) + p(b"x", 2)):
        with pytest.raises(ProtocolError, match="out of order"):
            list(logged_in().feed(C, data))


def test_inject() -> None:
    wire = logged_in()
    (send,) = wire.inject("select 1, 2; do 1")
    assert (send.to, send.data) == (S, query("select 1, 2; do 1"))
    assert wire.busy
    with pytest.raises(ValueError, match="not idle"):
        wire.inject("x")
    answer = result([column("a"), column("b", LONG)], [row("x", "1"), row(None, "2")], MORE | 2) + p(ok(), 6)
    first, second, done = wire.feed(S, answer)
    assert (first.kind, first.name, first.raw) == ("injected", "0", b"")
    assert [column.name for column in first.columns] == ["a", "b"]
    assert [(value.data, value.type) for value in first.values] == [(b"x", 253), (b"1", 3), (None, 253), (b"2", 3)]
    assert (second.kind, second.name, second.values, second.columns) == ("injected", "1", (), ())
    assert (done.kind, done.status, done.raw) == ("injected-done", "", b"")
    assert wire.idle


def test_inject_that_fails() -> None:
    wire = logged_in()
    wire.inject("x")
    (done,) = wire.feed(S, p(error(1064, "42000", "no"), 1))
    assert (done.kind, done.status, done.name, done.text, done.raw) == ("injected-done", "42000", "1064", "no", b"")
    assert wire.idle


def test_inject_with_query_attributes() -> None:
    wire = logged_in(MODERN | caps.QUERY_ATTRIBUTES)
    (send,) = wire.inject("select 1")
    assert send.data == command(3, b"\0\1select 1")


def test_inject_tells_the_encoding() -> None:
    wire = logged_in()
    wire.inject("select @@character_set_client as character_set_client")
    list(wire.feed(S, result([column("character_set_client")], [row("latin1")])))
    assert one(wire, query(b"\xe9")).text == "é"


def test_no_notice_and_nothing_to_settle() -> None:
    wire = logged_in()
    up(wire, query("x"))
    assert (wire.notice("wait"), wire.settle()) == (b"", [])


def test_a_file_that_was_not_named_is_not_given() -> None:
    for text in ("select 1", "load data local infile 'b' into table t", "/* load data local infile 'a' */ select 'x'"):
        wire = logged_in()
        up(wire, query(text))
        with pytest.raises(ProtocolError, match="does not name"):
            down(wire, p(b"\xfba", 1))
    wire = logged_in(MODERN & ~caps.LOCAL_FILES)
    up(wire, query("load data local infile 'a' into table t"))
    with pytest.raises(ProtocolError, match="does not name"):
        down(wire, p(b"\xfba", 1))
    wire = logged_in()
    wire.inject("select 1")
    with pytest.raises(ProtocolError):
        down(wire, p(b"\xfba", 1))
    for data in (PING, prepare("load data local infile 'a' into table t")):
        wire = logged_in()
        up(wire, data)
        with pytest.raises(ProtocolError):
            down(wire, p(b"\xfba", 1))


def uploading() -> MySQL:
    wire = logged_in()
    up(wire, query("load data local infile 'a' into table t"))
    down(wire, p(b"\xfba", 1))
    assert not wire.idle
    return wire


def test_commands_and_files_do_not_mix() -> None:
    wire = logged_in()
    up(wire, query("load data local infile 'a' into table t") + PING)
    with pytest.raises(ProtocolError, match="went on"):
        down(wire, p(b"\xfba", 1))
    wire = logged_in()
    first, second = wire.feed(C, query("load data local infile 'a' into table t") + PING)
    wire.allow(first)
    down(wire, p(b"\xfba", 1))
    with pytest.raises(ProtocolError, match="in the middle of a file"):
        wire.allow(second)


def test_a_refused_file() -> None:
    wire = uploading()
    assert deny(wire, p(b"1\n", 2)) == [(S, p(b"", 2))]
    assert deny(wire, p(b"2\n", 3)) == []
    assert up(wire, p(b"3\n", 4)) == b""
    (early,) = wire.feed(S, p(ok(), 3))
    assert (early.kind, early.raw, early.cursor) == ("error", b"", "ready")
    assert not wire.idle
    (send,) = wire.allow(one(wire, p(b"", 5)))
    assert (send.to, send.data) == (C, p(error(1142, "42000", "no"), 6))
    assert wire.idle


def test_a_file_refused_at_its_end() -> None:
    wire = uploading()
    up(wire, p(b"1\n", 2))
    assert deny(wire, p(b"", 3)) == [(S, p(b"", 3))]
    assert down(wire, p(ok(1), 4)) == p(error(1142, "42000", "no"), 4)
    assert wire.idle


def test_a_server_that_answers_before_the_file_ends_is_sent_no_more_of_it() -> None:
    """It would take the rest for commands."""
    wire = uploading()
    assert down(wire, p(error(), 2)) == p(error(), 2)
    assert up(wire, p(b"\3drop table t", 0) * 3) == b""
    assert not wire.idle
    assert up(wire, p(b"", 1)) == b""
    assert wire.idle


def test_answers_out_of_place() -> None:
    for asked, answer in [
        (b"", p(ok(), 1)),
        (PING, p(b"", 1)),
        (PING, p(b"\1", 1)),
        (query("x"), p(b"\xfe\0\0\2\0", 1)),
        (query("x"), p(b"\0\0", 1)),
        (query("x"), p(b"\xfc\0\0", 1)),
        (query("x"), ps(b"\1", b"\3def")),
        (query("x"), ps(b"\1", column("n"), b"")),
        (query("x"), p(b"\xff\xff\xff", 1)),
        (prepare("x"), p(b"\1", 1)),
        (fetch(1), p(b"", 1)),
    ]:
        wire = logged_in()
        up(wire, asked)
        with pytest.raises(ProtocolError):
            down(wire, answer)


def test_definitions_need_their_end() -> None:
    base = MODERN & ~caps.DEPRECATE_EOF
    wire = logged_in(base)
    up(wire, query("x"))
    with pytest.raises(ProtocolError, match="without their end"):
        down(wire, ps(b"\1", column("n"), row("1")))


def test_an_error_of_nothing_ends_nothing() -> None:
    wire = logged_in()
    said: list[Message] = list(wire.feed(S, p(error(4031, "HY000", "inactive"), 0)))
    assert [(m.kind, m.name) for m in said] == [("error", "4031")]


def test_kill_names_its_connection() -> None:
    message = one(logged_in(), numbered(12, 4711))
    assert (message.kind, message.name) == ("kill", "4711")


def test_nothing_follows_a_goodbye() -> None:
    wire = logged_in()
    up(wire, QUIT)
    with pytest.raises(ProtocolError, match="last message"):
        up(wire, PING)


def test_query_attributes_need_types() -> None:
    wire = logged_in(MODERN | caps.QUERY_ATTRIBUTES)
    for body in (b"\1\1\0\0", b"\1\2\0\1", b"\xfb\1"):
        with pytest.raises(ProtocolError):
            list(wire.feed(C, command(3, body + b"select 1")))
        wire = logged_in(MODERN | caps.QUERY_ATTRIBUTES)


@pytest.mark.parametrize(
    "data",
    [
        execute(1, b"\0", LONGS, b"\1"),  # cut short
        execute(1, b"\0", None, b"\1\0\0\0"),  # types never given
        execute(1, b"\0", bytes([12, 0]), b"\5\1\2\3\4\5"),  # no date has five bytes
        execute(1, b"\0", bytes([11, 0]), b"\5\1\2\3\4\5"),
        command(23, b"\1\0\0\0\0\1\0\0\0"),
        command(250, b"\1\0\0\0\x80\0" + LONGS + b"\0\1"),
        command(250, b"\1\0\0\0\x80\0" + LONGS + b"\7"),
        command(250, b"\1\0\0\0\0\0" + b"\0\1\0\0\0"),
        command(250, b"\1\0\0\0\x80\0\3"),
    ],
)
def test_a_malformed_execution_is_for_the_server_to_refuse(data: bytes) -> None:
    wire = with_statement(MARIADB)
    message = one(wire, data)
    assert (message.status, message.values) == ("unread", ())
    assert wire.allow(message)[0].data == data
    assert wire.again(message) is message
    wire = with_statement(MARIADB)
    assert deny(wire, data) == [(C, DENIED)]
    assert up(wire, data)[:5] == data[:5]


def test_results_behind_those_of_a_refused_file_are_not_let_through() -> None:
    wire = logged_in()
    up(wire, query("load data local infile 'a' into table t; select 1"))
    down(wire, p(b"\xfba", 1))
    deny(wire, p(b"", 2))
    with pytest.raises(ProtocolError, match="upload that was refused"):
        down(wire, p(ok(1, MORE), 3))


def test_progress_that_was_not_agreed_on() -> None:
    wire = logged_in()
    up(wire, query("x"))
    with pytest.raises(ProtocolError, match="progress"):
        down(wire, p(b"\xff\xff\xff\1\1\1\0\0\0\0", 1))
    wire = logged_in(MARIADB)
    wire.inject("x")
    assert down(wire, p(b"\xff\xff\xff\1\1\1\0\0\0\0", 1)) == b""


def test_the_statement_prepared_last_is_not_known_until_it_is_answered() -> None:
    """Its parameters are not to be read as those of the one before it."""
    wire = with_statement(MARIADB)
    messages = list(wire.feed(C, prepare("select ?, ?") + prepare("select 1") + execute(-1, b"\0", LONGS, b"\7\0\0\0")))
    assert (messages[2].status, messages[2].values) == ("unread", ())
    wire.allow(messages[0])
    wire.allow(messages[1])
    definition = column("?", extended=b"")
    down(wire, ps(prepared(2, 0, 2), definition, definition))
    assert wire.again(messages[2]).status == "unread", "one more is to be answered"
    wire.allow(messages[2])
    down(wire, p(prepared(3), 1) + ps(b"\1\1", definition, end()))
    assert wire.idle
    assert one(wire, execute(-1)).status == ""


def test_a_refused_or_failed_statement_is_answered_too() -> None:
    wire = with_statement(MARIADB)
    up(wire, prepare("x"))
    down(wire, p(error(), 1))
    deny(wire, prepare("x"))
    up(wire, prepare("select ?"))
    down(wire, ps(prepared(2, 0, 1), column("?", extended=b"")))
    assert [value.data for value in one(wire, execute(-1, b"\0", LONGS, b"\7\0\0\0")).values] == [b"7"]


def test_long_data_for_the_statement_prepared_last() -> None:
    wire = with_statement(MARIADB)
    up(wire, long_data(-1, 0, b"abc"))
    message = one(wire, execute(-1, b"\0", bytes([252, 0])))
    assert (message.name, [value.data for value in message.values]) == ("-1", [b"abc"])
    wire = logged_in(MARIADB)
    first, data, last = wire.feed(C, prepare("select ?") + long_data(-1, 0, b"abc") + execute(-1, b"\0", bytes([252, 0])))
    wire.allow(first)
    down(wire, ps(prepared(2, 0, 1), column("?", extended=b"")))
    assert (data.name, last.status, wire.again(last).status) == ("-1", "unread", "unread")
    wire = with_statement(MARIADB)
    deny(wire, long_data(-1, 0, b"x"))
    assert wire.allow(one(wire, execute(-1, b"\0", bytes([252, 0]))))[0].to is C
    wire = with_statement(MARIADB)
    up(wire, close(-1))
    assert one(wire, execute(-1)).status == "unread"
