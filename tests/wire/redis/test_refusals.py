"""Refusals in order, poisoned transactions, and commands that would change the form of answers."""

import pytest

from appliance.model import ProtocolError, Send
from appliance.wire.redis import Redis
from tests.wire.redis.dialogues import HELLO_3, OK, QUEUED, SUBSCRIBED, S, bulk, cmd, many, message, strings, told
from tests.wire.redis.play import denied, heard, messages, plan, sent
from tests.wire.redis.test_dialogues import play

REFUSED = cmd("vendorgate.refused")
UNKNOWN = b"-ERR unknown command 'vendorgate.refused', with args beginning with: \r\n"
NO = b"-NOPERM no\r\n"


def test_in_order() -> None:
    wire = Redis()
    assert sent(wire, cmd("GET", "a")) == cmd("GET", "a")
    assert denied(wire, cmd("FLUSHALL")) == REFUSED
    assert sent(wire, cmd("GET", "b")) == cmd("GET", "b")
    assert heard(wire, bulk("1") + UNKNOWN + bulk("2")) == bulk("1") + NO + bulk("2")
    assert wire.idle


def test_inline() -> None:
    wire = Redis()
    assert denied(wire, b"flushall\r\n") == REFUSED
    assert heard(wire, UNKNOWN) == NO


@pytest.mark.parametrize("error", [UNKNOWN, b"-NOAUTH Authentication required.\r\n", b"-LOADING Redis is loading\r\n", b"!5\r\nERR x\r\n"])
def test_whatever_the_server_says_of_it(error: bytes) -> None:
    wire = Redis()
    denied(wire, cmd("FLUSHALL"))
    assert heard(wire, error) == NO


def test_a_server_that_carries_it_out() -> None:
    wire = Redis()
    denied(wire, cmd("FLUSHALL"))
    with pytest.raises(ProtocolError, match="carried out a refused FLUSHALL"):
        heard(wire, OK)


def test_cancelled() -> None:
    wire = Redis()
    denied(wire, cmd("BLPOP", "k", "0"), "cancelled", "canceled by the client")
    (message,) = messages(wire, UNKNOWN)
    assert message.raw == b"-ERR canceled by the client\r\n"
    assert (message.kind, message.name, message.status) == ("error", "BLPOP", "ERR")


def test_the_text_stays_on_its_line() -> None:
    wire = Redis()
    denied(wire, cmd("GET", "k"), text="one\r\n+OK\r\ntwo \udcff")
    assert heard(wire, UNKNOWN) == b"-NOPERM one +OK two \\udcff\r\n"


def test_hello_as_servers_before_it() -> None:
    wire = Redis()
    assert denied(wire, cmd("HELLO", "3")) == REFUSED
    assert heard(wire, UNKNOWN) == b"-ERR unknown command 'HELLO'\r\n"


def test_in_a_transaction_the_server_poisons_it() -> None:
    wire = Redis()
    sent(wire, cmd("MULTI") + cmd("SET", "k", "v"))
    assert denied(wire, cmd("FLUSHALL")) == REFUSED
    sent(wire, cmd("EXEC") + cmd("GET", "k"))
    abort = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
    assert heard(wire, OK + QUEUED + UNKNOWN + abort + bulk(None)) == OK + QUEUED + NO + abort + bulk(None)
    assert wire.idle


def test_a_refused_exec_discards() -> None:
    wire = Redis()
    sent(wire, cmd("MULTI") + cmd("SET", "k", "v"))
    assert denied(wire, cmd("EXEC")) == cmd("DISCARD")
    said = heard(wire, OK + QUEUED + OK)
    assert said == OK + QUEUED + b"-EXECABORT Transaction discarded because of: NOPERM no\r\n"
    assert wire.idle


def test_a_refused_exec_without_a_transaction() -> None:
    wire = Redis()
    assert denied(wire, cmd("EXEC")) == cmd("DISCARD")
    assert heard(wire, b"-ERR DISCARD without MULTI\r\n") == NO


def test_a_refused_discard_leaves_the_transaction_open() -> None:
    wire = Redis()
    sent(wire, cmd("MULTI"))
    denied(wire, cmd("DISCARD"))
    assert heard(wire, OK + UNKNOWN) == OK + NO
    assert not wire.idle


def test_a_refused_multi_opens_none() -> None:
    wire = Redis()
    denied(wire, cmd("MULTI"))
    sent(wire, cmd("GET", "k"))
    assert heard(wire, UNKNOWN + bulk("v")) == NO + bulk("v")
    assert wire.idle


@pytest.mark.parametrize("words", [("MULTI", "x"), ("MULTI",)])
def test_a_multi_that_fails_opens_none(words: tuple[str, ...]) -> None:
    wire = Redis()
    sent(wire, cmd(*words))
    heard(wire, b"-ERR no\r\n")
    assert wire.idle


@pytest.mark.parametrize("name", ["DISCARD", "RESET"])
def test_an_end_that_fails_leaves_the_transaction_open(name: str) -> None:
    wire = Redis()
    sent(wire, cmd("MULTI") + cmd(name))
    heard(wire, OK + b"-NOPERM no\r\n")
    assert not wire.idle
    sent(wire, cmd("GET", "k") + cmd("EXEC"))
    heard(wire, QUEUED + many("*", bulk("v")))
    assert wire.idle


@pytest.mark.parametrize(
    ("sends", "says", "open"),
    [
        ("MULTI RESET EXEC", OK + UNKNOWN + b"-EXECABORT no\r\n", False),  # servers before 6.2
        ("MULTI DISCARD EXEC", OK + b"-NOPERM no\r\n-EXECABORT no\r\n", False),
        ("MULTI EXEC RESET", OK + many("*") + UNKNOWN, False),
        ("MULTI MULTI RESET", b"-NOPERM no\r\n" + OK + b"+RESET\r\n", False),
        ("MULTI EXEC MULTI", b"-NOPERM no\r\n-ERR EXEC without MULTI\r\n" + OK, True),
        ("RESET MULTI", UNKNOWN + OK, True),
        ("MULTI MULTI", OK + b"-ERR MULTI calls can not be nested\r\n", True),
    ],
)
def test_what_fails_changes_nothing_that_went_up_behind_it(sends: str, says: bytes, open: bool) -> None:
    wire = Redis()
    sent(wire, b"".join(map(cmd, sends.split())))
    heard(wire, says)
    assert wire.idle is not open
    assert (sent(wire, cmd("HELLO", "3")) == REFUSED) is open


def test_a_refused_exec_whose_discard_fails_leaves_the_transaction_open() -> None:
    wire = Redis()
    sent(wire, cmd("MULTI"))
    denied(wire, cmd("EXEC"))
    heard(wire, OK + b"-NOPERM no\r\n")
    assert not wire.idle


def test_exec_with_arguments_is_refused() -> None:
    """Servers before 7 would keep the transaction open."""
    wire = Redis()
    sent(wire, cmd("MULTI") + cmd("GET", "k"))
    assert sent(wire, cmd("EXEC", "x")) == cmd("DISCARD")
    assert heard(wire, OK + QUEUED + OK).endswith(b"wrong number of arguments for 'exec' command\r\n")


@pytest.mark.parametrize(
    "words",
    [("SUBSCRIBE", "a"), ("UNSUBSCRIBE",), ("PSUBSCRIBE", "*"), ("SSUBSCRIBE", "a"), ("MONITOR",), ("SYNC",), ("PSYNC", "?", "-1"),
     ("HELLO", "3"), ("CLIENT", "REPLY", "OFF"), ("client", "reply", "on")],
)  # fmt: skip
def test_what_changes_the_form_of_answers_poisons_a_transaction(words: tuple[str, ...]) -> None:
    wire = Redis()
    sent(wire, cmd("MULTI"))
    assert sent(wire, cmd(*words)) == REFUSED
    sent(wire, cmd("EXEC"))
    heard(wire, OK + UNKNOWN + b"-EXECABORT no\r\n")
    assert wire.idle


def test_a_subscription_that_a_server_queues() -> None:
    wire = Redis()
    sent(wire, cmd("MULTI") + cmd("DISCARD") + cmd("SUBSCRIBE", "a"))
    with pytest.raises(ProtocolError):
        heard(wire, OK + b"-NOPERM no\r\n" + QUEUED)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("DEBUG", "PROTOCOL", "push"), b"DEBUG PROTOCOL"),
        (("REPLCONF", "ACK", "1"), b"REPLCONF ACK"),
        (("REPLCONF", "capa", "eof", "getack", "*"), b"REPLCONF ACK"),
    ],
)
def test_commands_without_a_reply_of_their_own(words: tuple[str, ...], why: bytes) -> None:
    """A reply too few, and each later one would be taken for another's."""
    wire = Redis()
    assert sent(wire, cmd(*words)) == REFUSED
    assert heard(wire, UNKNOWN).startswith(b"-NOPERM " + why)


def test_a_replication_stream_is_not_masked() -> None:
    wire = Redis()
    assert sent(wire, cmd("PSYNC", "?", "-1"), plan()) == REFUSED


def test_commands_in_a_replication_stream() -> None:
    wire = Redis()
    sent(wire, cmd("SYNC"))
    heard(wire, b"$5\r\nREDIS")
    assert sent(wire, cmd("REPLCONF", "ACK", "1")) == cmd("REPLCONF", "ACK", "1")
    with pytest.raises(ProtocolError, match="GET in a replication stream"):
        sent(wire, cmd("GET", "k"))
    with pytest.raises(ProtocolError, match="GET in a replication stream"):
        denied(wire, cmd("GET", "k"))
    assert wire.refuse("no") == b""


def test_commands_behind_sync() -> None:
    wire = Redis()
    sent(wire, cmd("SYNC") + cmd("GET", "k"))
    with pytest.raises(ProtocolError, match="behind one that turns"):
        heard(wire, b"$5\r\nREDIS")


# -- CLIENT REPLY -----------------------------------------------------------------------------------------------------

ON = cmd("CLIENT", "REPLY", "ON")


def test_reply_off_is_carried_out_here() -> None:
    wire = Redis()
    assert sent(wire, cmd("CLIENT", "REPLY", "OFF")) == ON
    assert heard(wire, OK) == b""
    sent(wire, cmd("GET", "k"))
    denied(wire, cmd("FLUSHALL"))
    assert heard(wire, bulk("v") + UNKNOWN) == b""
    assert sent(wire, cmd("CLIENT", "REPLY", "ON")) == ON
    assert heard(wire, OK) == OK
    sent(wire, cmd("GET", "k"))
    assert heard(wire, bulk("v")) == bulk("v")


def test_reply_skip_leaves_one_out() -> None:
    wire = Redis()
    assert sent(wire, cmd("CLIENT", "REPLY", "SKIP") + cmd("GET", "a") + cmd("GET", "b")) == ON + cmd("GET", "a") + cmd("GET", "b")
    assert heard(wire, OK + bulk("1") + bulk("2")) == bulk("2")


def test_reply_that_the_server_refuses() -> None:
    wire = Redis()
    sent(wire, cmd("CLIENT", "REPLY", "OFF") + cmd("GET", "k"))
    assert heard(wire, NO + bulk("v")) == NO + bulk("v")


@pytest.mark.parametrize("words", [("CLIENT", "REPLY", "AWAY"), ("CLIENT", "REPLY"), ("CLIENT", "REPLY", "OFF", "x")])
def test_reply_in_a_form_the_server_refuses(words: tuple[str, ...]) -> None:
    wire = Redis()
    assert sent(wire, cmd(*words)) == cmd(*words)
    assert heard(wire, b"-ERR syntax error\r\n") == b"-ERR syntax error\r\n"


def test_reset_brings_replies_back() -> None:
    wire = Redis()
    sent(wire, cmd("CLIENT", "REPLY", "OFF") + cmd("RESET") + cmd("PING"))
    assert heard(wire, OK + b"+RESET\r\n+PONG\r\n") == b"+RESET\r\n+PONG\r\n"


def test_messages_come_though_replies_are_off() -> None:
    wire = Redis()
    sent(wire, cmd("CLIENT", "REPLY", "OFF") + cmd("SUBSCRIBE", "news"))
    assert heard(wire, OK + told("subscribe", "news", 1) + message()) == told("subscribe", "news", 1) + message()


def test_pieces_of_a_reply_that_is_left_out() -> None:
    wire = Redis()
    sent(wire, cmd("CLIENT", "REPLY", "OFF") + cmd("GET", "k"))
    assert heard(wire, OK + b"$10\r\nxxx", b"xxxxxxx", b"\r\n") == b""
    assert wire.idle


# -- the rest of the wire ---------------------------------------------------------------------------------------------


def test_refuse_not_in_the_middle_of_a_reply() -> None:
    wire = Redis()
    sent(wire, cmd("GET", "k"))
    heard(wire, b"$10\r\nxxx")
    assert wire.refuse("no") == b""
    heard(wire, b"xxxxxxx\r\n")
    assert wire.refuse("no") == b"-ERR no\r\n"


def test_no_notice() -> None:
    wire = Redis()
    play(wire, [(side, data) for side, data, _ in SUBSCRIBED])
    assert wire.notice("held") == b""
    assert wire.settle() == []
    assert wire.encrypted() == b""


def test_inject() -> None:
    wire = Redis()
    assert wire.inject('COMMAND GETKEYS X "\\x00\\xff"') == [Send(S, cmd("COMMAND", "GETKEYS", "X", b"\0\xff"))]
    found = messages(wire, strings("a", b"\xff"))
    assert [(m.kind, m.raw, [v.data for v in m.values]) for m in found] == [("injected", b"", [b"a", b"\xff"]), ("injected-done", b"", [])]
    assert wire.idle


def test_inject_that_fails() -> None:
    wire = Redis()
    wire.inject("COMMAND GETKEYS X")
    (done,) = messages(wire, b"-ERR Invalid command specified\r\n")
    assert (done.kind, done.status, done.raw) == ("injected-done", "ERR", b"")


def test_inject_between_replies_left_out() -> None:
    wire = Redis()
    sent(wire, cmd("CLIENT", "REPLY", "SKIP"))
    heard(wire, OK)
    wire.inject("COMMAND GETKEYS X")
    messages(wire, strings("a"))
    sent(wire, cmd("GET", "a") + cmd("GET", "b"))
    assert heard(wire, bulk("1") + bulk("2")) == bulk("2")


def test_inject_only_while_idle() -> None:
    wire = Redis()
    sent(wire, cmd("MULTI"))
    heard(wire, OK)
    with pytest.raises(ValueError, match="not idle"):
        wire.inject("COMMAND GETKEYS X")
    with pytest.raises(ValueError, match="that is none"):
        Redis().inject("")


def test_nothing_cannot_be_refused() -> None:
    with pytest.raises(ValueError, match="asks for nothing"):
        denied(Redis(), b"\r\n")


def test_the_id_by_which_others_cancel() -> None:
    wire = Redis()
    assert wire.cancel_key == b""
    sent(wire, cmd("HELLO", "3"))
    heard(wire, HELLO_3)
    assert wire.cancel_key == b"42"
    sent(wire, cmd("CLIENT", "ID"))
    heard(wire, b":43\r\n")
    assert wire.cancel_key == b"43"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("AUTH", "s3cret"), "AUTH (redacted)"),
        (("auth", "acme", "s3cret"), "auth acme (redacted)"),
        (("AUTH", "a", "s3cret", "s3cret"), "AUTH (redacted)"),
        (("HELLO", "3", "AUTH", "acme", "s3cret", "SETNAME", "me"), "HELLO 3 AUTH acme (redacted) SETNAME me"),
        (("HELLO", "3", "auth", "s3cret"), "HELLO 3 auth (redacted)"),
        (("HELLO", "3", "SETNAME", "AUTH", "AUTH", "acme", "s3cret"), "HELLO 3 SETNAME AUTH AUTH (redacted) (redacted)"),
        (("HELLO", "3", "AUTH", "a", "s3cret", "AUTH", "s3cret"), "HELLO 3 AUTH a (redacted) AUTH (redacted)"),
        (("CONFIG", "SET", "primaryauth", "s3cret"), "CONFIG SET primaryauth (redacted)"),
        (("CONFIG", "SET", "maxmemory", "1", "requirepass", "s3cret"), "CONFIG SET maxmemory 1 requirepass (redacted)"),
        (("config", "set", "MasterAuth", "s3cret"), "config set MasterAuth (redacted)"),
        (("MIGRATE", "h", "1", "k", "0", "9", "AUTH", "s3cret"), "MIGRATE h 1 k 0 9 AUTH (redacted)"),
        (("MIGRATE", "h", "1", "", "0", "9", "AUTH2", "u", "s3cret", "KEYS", "k"), 'MIGRATE h 1 "" 0 9 AUTH2 u (redacted) KEYS k'),
        (("ACL", "SETUSER", "u", "on", ">s3cret", "+@all"), "ACL SETUSER u on >(redacted) +@all"),
        (("SENTINEL", "SET", "m", "auth-pass", "s3cret"), "SENTINEL SET (redacted)"),
    ],
)
def test_passwords_are_secret(words: tuple[str, ...], shown: str) -> None:
    (message,) = Redis().feed(S.other, cmd(*words))
    assert message.secret
    assert message.text.replace('"(redacted)"', "(redacted)") == shown


@pytest.mark.parametrize("words", [("CONFIG", "GET", "*"), ("CONFIG", "SET", "maxmemory", "1"), ("HELLO", "3"), ("ACL", "SETUSER", "u", "on")])
def test_what_is_no_password(words: tuple[str, ...]) -> None:
    (message,) = Redis().feed(S.other, cmd(*words))
    assert not message.secret


@pytest.mark.parametrize("words", [("CONFIG", "GET", "requirepass"), ("ACL", "LIST"), ("ACL", "GETUSER", "u"), ("ACL", "GENPASS")])
def test_replies_that_hold_passwords_are_secret(words: tuple[str, ...]) -> None:
    wire = Redis()
    sent(wire, cmd(*words) + cmd("GET", "k"))
    assert [m.secret for m in messages(wire, strings("requirepass", "s3cret") + bulk("v"))] == [True, False]
    sent(wire, cmd("MULTI") + cmd(*words) + cmd("EXEC"))
    assert [m.secret for m in messages(wire, OK + QUEUED + many("*", strings("s3cret")))][-1]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("SET", "k", "a b"), 'SET k "a b"'), (("GET", ""), 'GET ""'), (("GET", b"\0\xff\n"), 'GET "\\x00\\xff\\n"'),
        (("GET", "ключ"), "GET ключ"), (("GET", 'a"\\'), 'GET "a\\"\\\\"'), (("SET", "k", "x" * 2000), "SET k " + "x" * 1024 + "... (2000 bytes)"),
        (("GET", "a\u202eb"), 'GET "a\\xe2\\x80\\xaeb"'),
    ],
)  # fmt: skip
def test_text(words: tuple[str | bytes, ...], text: str) -> None:
    (message,) = Redis().feed(S.other, cmd(*words))
    assert message.text == text
    message.text.encode()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"set k v", [b"set", b"k", b"v"]), (b"  set\t'a b'  \"c\\x41\\n\\q\" ", [b"set", b"a b", b"cA\nq"]), (b"x ''", [b"x", b""]),
        (b"x 'it\\'s'", [b"x", b"it's"]), (b'x a"b"', [b"x", b"ab"]), (b"x '\\n'", [b"x", b"\\n"]), (b'x "\\xzz"', [b"x", b"xzz"]),
    ],
)  # fmt: skip
def test_inline_words(line: bytes, words: list[bytes]) -> None:
    (message,) = Redis().feed(S.other, line + b"\r\n")
    assert [v.data for v in message.values] == words
    assert message.raw == line + b"\r\n"


NO_SCRIPT = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"
SHA1 = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"  # of "return 1"


def test_a_script_whose_text_never_came_is_asked_for() -> None:
    """Clients then send it, and it is judged by what it says."""
    wire = Redis()
    assert denied(wire, cmd("EVALSHA", SHA1, "0")) == REFUSED
    assert heard(wire, UNKNOWN) == NO_SCRIPT
    denied(wire, cmd("EVALSHA_RO", SHA1, "0"))
    assert heard(wire, UNKNOWN) == NO_SCRIPT


@pytest.mark.parametrize("words", [("SCRIPT", "LOAD", "return 1"), ("EVAL", "return 1", "0"), ("EVAL_RO", "return 1", "0")])
@pytest.mark.parametrize("allowed", [True, False])
def test_a_script_whose_text_came_is_refused(words: tuple[str, ...], allowed: bool) -> None:
    wire = Redis()
    (sent if allowed else denied)(wire, cmd(*words))
    heard(wire, UNKNOWN)
    denied(wire, cmd("EVALSHA", SHA1.upper(), "0"))
    assert heard(wire, UNKNOWN) == NO


def test_limit_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.wire.redis.connection.MAX_SCRIPTS", 2)
    wire = Redis()
    for text in ("return 1", "return 2", "return 3"):
        sent(wire, cmd("EVAL", text, "0"))
        heard(wire, OK)
    denied(wire, cmd("EVALSHA", SHA1, "0"))
    assert heard(wire, UNKNOWN) == NO_SCRIPT
