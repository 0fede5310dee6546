"""The handshake: what is taken out of the offer, what is blanked out, TLS, passwords in clear text."""

import pytest

from appliance.model import ProtocolError
from appliance.wire import detect
from appliance.wire.mysql import MySQL, recognise
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql.login import CHARSET_AT
from tests.wire.mysql.build import (
    BASE,
    MARIADB,
    MODERN,
    PING,
    C,
    S,
    change_user,
    down,
    error,
    flags,
    greeting,
    logged_in,
    ok,
    one,
    p,
    query,
    startup,
    tls_request,
    up,
)


def test_the_offer_goes_down_as_it_is() -> None:
    for capabilities in (BASE, MODERN, MARIADB, MODERN | caps.ZSTD | caps.COMPRESS | caps.QUERY_ATTRIBUTES):
        wire = MySQL()
        data = greeting(capabilities)
        (message,) = wire.feed(S, data)
        assert (message.kind, message.raw, message.text, message.status) == ("greeting", data, "8.4.0", "77")
        assert wire.cancel_key == (77).to_bytes(4, "little")


def test_what_is_not_read_is_taken_out_of_the_offer() -> None:
    wire = MySQL()
    (message,) = wire.feed(S, greeting(MODERN | caps.EXTENSION))
    assert message.raw == greeting(MODERN)
    assert message.text == "8.4.0; not offered to the client: extension"
    wire = MySQL()
    (message,) = wire.feed(S, greeting(MARIADB | caps.EXTENSION | caps.COM_MULTI | 1 << 45))
    assert message.raw == greeting(MARIADB | caps.EXTENSION), "bit 29 is progress reports in MariaDB"
    assert message.text == "8.4.0; not offered to the client: com-multi bit-45"


def test_what_was_not_offered_is_not_taken() -> None:
    """A client that says all it knows, whatever it was offered."""
    wire = MySQL()
    down(wire, greeting(MODERN | caps.EXTENSION))
    assert up(wire, startup(MODERN | caps.EXTENSION)) == startup(MODERN)
    wire = MySQL()
    down(wire, greeting(MARIADB | caps.COM_MULTI))
    assert up(wire, startup(MARIADB | caps.COM_MULTI)) == startup(MARIADB)


def test_what_the_server_lacks_is_not_agreed_on() -> None:
    wire = MySQL()
    down(wire, greeting(BASE))
    data = startup(BASE | caps.DEPRECATE_EOF | caps.ZSTD)
    assert up(wire, data) == data
    down(wire, p(ok(capabilities=BASE), 2))
    up(wire, query("x"))
    with pytest.raises(ProtocolError):
        down(wire, p(b"\1", 1) + p(b"\xfe\0\0\2\0\0\0", 2))


def test_the_startup_as_it_is_shown() -> None:
    wire = MySQL()
    down(wire, greeting())
    data = startup(answer=b"hidden", _client_name="libx", program="a\nb")
    message = one(wire, data)
    assert (message.kind, message.name, message.status) == ("startup", "acme", "shop")
    assert message.raw == data.replace(b"hidden", bytes(6))
    assert message.text.splitlines()[:2] == ["charset=utf8mb4", "collation=45"]
    assert "plugin=x_plugin" in message.text
    assert message.text.splitlines()[-2:] == ["attribute._client_name=libx", "attribute.program=a b"]
    (send,) = wire.allow(message)
    assert (send.to, send.data) == (S, data)


@pytest.mark.parametrize("size", [0, 1, 20, 250, 251, 300, 70_000])
def test_answers_of_any_size(size: int) -> None:
    wire = MySQL()
    down(wire, greeting())
    data = startup(answer=b"h" * size)
    message = one(wire, data)
    assert message.status == "shop"
    assert wire.allow(message)[0].data == data
    assert b"h" * max(size, 5) not in message.raw


def test_an_old_answer() -> None:
    """Without length: to the NUL, or with one byte for it."""
    wire = MySQL()
    plain = caps.LONG_PASSWORD | caps.PROTOCOL_41 | caps.CONNECT_WITH_DB
    down(wire, greeting(plain))
    data = p(flags(plain) + b"me\0secret\0db\0", 1)
    message = one(wire, data)
    assert (message.name, message.status, message.raw) == ("me", "db", p(flags(plain) + b"me\0" + bytes(7) + b"db\0", 1))
    wire = MySQL()
    down(wire, greeting(plain | caps.SECURE_CONNECTION))
    assert one(wire, p(flags(plain | caps.SECURE_CONNECTION) + b"me\0\3abcdb", 1)).status == "db"


def test_tls() -> None:
    wire = MySQL()
    down(wire, greeting(MODERN | caps.SSL))
    (message,) = wire.feed(C, tls_request() + b"\x16\3\1hello")
    assert (message.kind, message.raw) == ("tls", tls_request())
    assert [send.data for send in wire.allow(message)] == [tls_request()]
    assert wire.encrypted() == b"\x16\3\1hello"
    message = one(wire, startup(MODERN | caps.SSL, sequence=2))
    assert (message.kind, message.name) == ("startup", "acme")
    wire.allow(message)
    assert down(wire, p(ok(), 3))
    assert wire.idle


FLAGS = MODERN & ~caps.MULTI_STATEMENTS


def opened(request: bytes) -> MySQL:
    """Return a wire on which TLS has begun, asked for by this request."""
    wire = MySQL()
    down(wire, greeting(MODERN | caps.SSL | caps.ZSTD))
    wire.allow(one(wire, request))
    wire.encrypted()
    return wire


@pytest.mark.parametrize("asked, said", [(MODERN, FLAGS), (FLAGS, MODERN), (FLAGS, FLAGS ^ caps.CONNECT_WITH_DB), (FLAGS | caps.ZSTD, FLAGS)])
def test_a_login_in_tls_says_what_the_request_for_tls_said(asked: int, said: int) -> None:
    """The server has taken its capabilities from the request, and reads the login by them."""
    wire = opened(tls_request(asked))
    with pytest.raises(ProtocolError, match="other capabilities"):
        list(wire.feed(C, startup(said | caps.SSL, sequence=2)))


def test_a_login_in_tls_has_the_charset_of_the_request_for_tls() -> None:
    request = bytearray(tls_request())
    request[4 + CHARSET_AT] = 28  # gbk
    wire = opened(bytes(request))
    with pytest.raises(ProtocolError, match="other capabilities"):
        list(wire.feed(C, startup(MODERN | caps.SSL, sequence=2)))


def test_a_login_in_tls_need_not_ask_for_it_again() -> None:
    wire = opened(tls_request())
    assert one(wire, startup(MODERN, sequence=2)).kind == "startup"


def test_a_request_for_tls_does_not_take_what_was_not_offered() -> None:
    wire = MySQL()
    down(wire, greeting(MARIADB | caps.SSL | caps.COM_MULTI))
    assert up(wire, tls_request(MARIADB | caps.COM_MULTI)) == tls_request(MARIADB)


def test_tls_that_is_refused() -> None:
    wire = MySQL()
    down(wire, greeting(MODERN | caps.SSL))
    (send,) = wire.deny(one(wire, tls_request()), "denied", "no")
    assert (send.to, send.data[3:7]) == (C, b"\2\xff\x76\x04")


def test_clear_text_after_a_request_for_tls() -> None:
    wire = MySQL()
    down(wire, greeting(MODERN | caps.SSL))
    with pytest.raises(ProtocolError, match="clear text"):
        list(wire.feed(C, tls_request() + startup(sequence=2)))
    wire = MySQL()
    down(wire, greeting(MODERN | caps.SSL))
    with pytest.raises(ProtocolError, match="clear text"):
        list(wire.feed(C, startup(MODERN | caps.SSL)))


CLEAR = "mysql_clear_password"


def test_the_first_half_of_a_packet_in_front_of_tls_is_not_ended_inside() -> None:
    """Who sits on the way could put what the server is to have said before the first it says in TLS."""
    wire = MySQL()
    down(wire, greeting(MODERN | caps.SSL) + p(b"\xfe" + CLEAR.encode() + b"\0", 3)[:-1])
    wire.allow(one(wire, tls_request()))
    with pytest.raises(ProtocolError, match="before TLS begins"):
        wire.encrypted()


def test_a_password_in_clear_text_is_not_asked_for_outside_tls() -> None:
    wire = MySQL()
    down(wire, greeting())
    up(wire, startup())
    with pytest.raises(ProtocolError, match="clear text"):
        down(wire, p(b"\xfe" + CLEAR.encode() + b"\0", 2))


def test_a_password_in_clear_text_is_not_sent_outside_tls() -> None:
    wire = MySQL()
    down(wire, greeting())
    with pytest.raises(ProtocolError, match="clear text"):
        list(wire.feed(C, startup(plugin=CLEAR)))
    with pytest.raises(ProtocolError, match="clear text"):
        list(logged_in().feed(C, change_user(plugin=CLEAR)))


def test_a_password_in_clear_text_inside_tls() -> None:
    wire = MySQL()
    down(wire, greeting(MODERN | caps.SSL))
    up(wire, tls_request())
    wire.encrypted()
    up(wire, startup(MODERN | caps.SSL, sequence=2))
    assert down(wire, p(b"\xfe" + CLEAR.encode() + b"\0", 3))
    message = one(wire, p(b"secret\0", 4))
    assert (message.kind, message.secret) == ("auth", True)


def test_what_a_plugin_says_is_secret_and_goes_by_turns() -> None:
    wire = MySQL()
    down(wire, greeting())
    up(wire, startup())
    with pytest.raises(ProtocolError, match="before the server"):
        up(wire, p(b"x", 3))
    wire = MySQL()
    down(wire, greeting())
    up(wire, startup())
    down(wire, p(b"\1\4", 2))
    assert one(wire, p(b"secret", 3)).secret
    with pytest.raises(ProtocolError, match="before the server"):
        up(wire, p(b"x", 5))


def test_no_command_before_the_login_is_through() -> None:
    wire = MySQL()
    down(wire, greeting())
    with pytest.raises(ProtocolError):
        up(wire, startup() + PING)
    wire = MySQL()
    down(wire, greeting())
    up(wire, startup())
    down(wire, p(b"\1\4", 2))
    with pytest.raises(ProtocolError, match="command before"):
        up(wire, query("drop table t"))


def test_a_fast_login_asks_for_nothing() -> None:
    wire = MySQL()
    down(wire, greeting(plugin="caching_sha2_password"))
    up(wire, startup(plugin="caching_sha2_password"))
    down(wire, p(b"\1\3", 2))
    with pytest.raises(ProtocolError, match="before the server"):
        up(wire, p(b"x", 3))


def test_the_client_does_not_speak_first() -> None:
    with pytest.raises(ProtocolError, match="before the server"):
        list(MySQL().feed(C, startup()))


@pytest.mark.parametrize(
    "data",
    [
        p(b"\x09" + bytes(40)),  # a version of the protocol before 3.21
        p(b"\x0b\x08\x05\x1a\0"),  # the X protocol: a notice
        p(greeting()[4:], 1),
        p(greeting()[4:30]),
        greeting(MODERN & ~caps.PROTOCOL_41),
        p(greeting()[4:4 + 26]),
        p(b""),
    ],
)  # fmt: skip
def test_greetings_that_are_none(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(MySQL().feed(S, data))


@pytest.mark.parametrize(
    "data",
    [
        p(flags(MODERN)[:20], 1),
        p(flags(MODERN & ~caps.PROTOCOL_41) + b"me\0", 1),
        p(startup()[4:], 2),
        p(startup()[4:], 0),
        p(flags(MODERN) + b"me\0\x20abc", 1),
        p(startup()[4:-1] + b"\x09abc", 1),
    ],
)
def test_startups_that_are_none(data: bytes) -> None:
    wire = MySQL()
    down(wire, greeting())
    with pytest.raises(ProtocolError):
        list(wire.feed(C, data))


def test_change_user_is_blanked_too_and_drops_what_was_prepared() -> None:
    wire = logged_in()
    message = one(wire, change_user("eve", "db", b"hidden"))
    assert (message.name, message.status) == ("eve", "db")
    assert b"hidden" not in message.raw
    assert wire.allow(message)[0].data == change_user("eve", "db", b"hidden")
    assert not wire.idle
    down(wire, p(ok(), 1))
    assert wire.idle


def test_last_words_have_the_number_the_client_waits_for() -> None:
    wire = MySQL()
    assert wire.refuse("no")[3:7] == b"\0\xff\x76\x04"
    down(wire, greeting())
    one(wire, startup())
    assert wire.refuse("no")[3:13] == b"\2\xff\x76\x04#42000"
    wire = logged_in()
    assert wire.refuse("no", "malformed")[3:13] == b"\1\xff\x2b\x07#HY000"
    up(wire, query("x"))
    assert wire.refuse("no", "failed")[3:7] == b"\1\xff\x51\x04"
    down(wire, p(b"\1", 1))
    assert wire.refuse("no")[3] == 2


def test_a_server_that_says_no_at_once() -> None:
    wire = MySQL()
    (message,) = wire.feed(S, p(b"\xff\x6a\x04Host is not allowed"))
    assert (message.kind, message.name, message.text) == ("error", "1130", "Host is not allowed")
    wire = MySQL()
    down(wire, greeting())
    (message,) = wire.feed(S, p(error(1158, "08S01", "timeout"), 1))
    assert message.status == "08S01"


def test_recognise() -> None:
    assert recognise(b"", greeting()) is True
    assert recognise(b"", p(b"\xff\x10\4Too many")) is True
    assert recognise(b"", greeting()[:4]) is None
    assert recognise(b"", b"") is None
    assert recognise(b"x", b"") is False
    assert recognise(b"", b"SSH-2.0-x\r\n") is False
    assert recognise(b"", p(b"\x0b\x08\x05\x1a\0")) is False, "the X protocol"
    assert recognise(b"", p(b"")) is False
    wire = detect.open("")
    assert [m.kind for m in wire.feed(S, greeting())] == ["greeting"]
    assert wire.name == "mysql"
    assert isinstance(detect.open("mysql"), MySQL)


def test_the_answer_to_a_login_says_that_it_is_one() -> None:
    wire = logged_in()
    up(wire, query("select 1"))
    (done,) = wire.feed(S, p(ok(), 1))
    up(wire, change_user())
    (failed,) = wire.feed(S, p(error(), 1))
    up(wire, change_user())
    (through,) = wire.feed(S, p(ok(), 1))
    assert ["login" in message.cursor.split() for message in (done, failed, through)] == [False, True, True]
