"""Masks: which strings and numbers of which reply, in both versions of the protocol; types stay what they are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import ProtocolError
from appliance.wire.redis import Redis, frames
from tests.wire.redis.dialogues import HELLO_3, OK, QUEUED, bulk, cmd, many, message, strings, told
from tests.wire.redis.play import heard, hide, messages, plan, sent
from tests.wire.redis.test_dialogues import cut

V = bulk("value")
M = bulk("#####")
F = bulk("field")
NAN = bulk("inf")


def through(words: tuple[str, ...], reply: bytes, resp3: bool = False, **how: object) -> bytes:
    """Return what a client sees of a reply."""
    wire = Redis()
    if resp3:
        sent(wire, cmd("HELLO", "3"))
        heard(wire, HELLO_3)
    sent(wire, cmd(*words), plan(**how))  # type: ignore[arg-type]
    return heard(wire, reply)


@pytest.mark.parametrize(
    ("words", "reply", "seen"),
    [
        (("GET", "k"), V, M),
        (("GET", "k"), bulk(None), bulk(None)),
        (("GETDEL", "k"), V, M),
        (("SET", "k", "v", "GET"), V, M),
        (("SET", "k", "v"), OK, OK),
        (("MGET", "a", "b", "c"), many("*", V, V, bulk(None)), many("*", M, V, bulk(None))),
        (("HGETALL", "k"), many("*", F, V, F, V), many("*", F, M, F, M)),
        (("ZRANK", "k", "m"), b":1\r\n", b":1\r\n"),
        (("ZREVRANK", "k", "m", "WITHSCORE"), many("*", b":1\r\n", bulk("5")), many("*", b":1\r\n", NAN)),
        (("HKEYS", "k"), many("*", F, F), many("*", F, F)),
        (("HVALS", "k"), many("*", V), many("*", M)),
        (("HMGET", "k", "a", "b"), many("*", V, bulk(None)), many("*", M, bulk(None))),
        (("HRANDFIELD", "k"), F, F),
        (("HRANDFIELD", "k", "2"), many("*", F, F), many("*", F, F)),
        (("HRANDFIELD", "k", "1", "WITHVALUES"), many("*", F, V), many("*", F, M)),
        (("HSCAN", "k", "0"), many("*", bulk("17"), many("*", F, V)), many("*", bulk("17"), many("*", F, M))),
        (("SSCAN", "k", "0"), many("*", bulk("17"), many("*", V, V)), many("*", bulk("17"), many("*", M, M))),
        (("ZSCAN", "k", "0"), many("*", bulk("17"), many("*", V, bulk("1.5"))), many("*", bulk("17"), many("*", M, NAN))),
        (("SCAN", "0"), many("*", bulk("17"), strings("key")), many("*", bulk("17"), strings("key"))),
        (("KEYS", "*"), strings("key"), strings("key")),
        (("LRANGE", "k", "0", "-1"), many("*", V, V), many("*", M, M)),
        (("LPOP", "k", "2"), many("*", V, V), many("*", M, M)),
        (("BLPOP", "k", "0"), many("*", bulk("k"), V), many("*", bulk("k"), M)),
        (("LMPOP", "1", "k", "LEFT"), many("*", bulk("k"), many("*", V)), many("*", bulk("k"), many("*", M))),
        (("ZMPOP", "1", "k", "MIN"), many("*", bulk("k"), many("*", many("*", V, bulk("1")))), many("*", bulk("k"), many("*", many("*", M, NAN)))),
        (("BZPOPMIN", "k", "0"), many("*", bulk("k"), V, bulk("1")), many("*", bulk("k"), M, NAN)),
        (("SMEMBERS", "k"), many("*", V), many("*", M)),
        (("ZRANGE", "k", "0", "-1"), many("*", V, V), many("*", M, M)),
        (("ZRANGE", "k", "0", "-1", "WITHSCORES"), many("*", V, bulk("1")), many("*", M, NAN)),
        (("ZPOPMIN", "k"), many("*", V, bulk("1")), many("*", M, NAN)),
        (("ZSCORE", "k", "m"), bulk("1.5"), NAN),
        (("ZMSCORE", "k", "a", "b"), many("*", bulk("1.5"), bulk(None)), many("*", NAN, bulk(None))),
        (("ZADD", "k", "INCR", "1", "m"), bulk("2"), NAN),
        (("ZADD", "k", "1", "m"), b":1\r\n", b":1\r\n"),
        (("GEOPOS", "k", "m"), many("*", strings("13.36", "38.11")), many("*", many("*", NAN, NAN))),
        (("GEOSEARCH", "k", "FROMMEMBER", "m"), many("*", V), many("*", M)),
        (("GEOSEARCH", "k", "WITHDIST"), many("*", many("*", V, bulk("0.1"), b":7\r\n")), many("*", many("*", M, NAN, b"$-1\r\n"))),
        (("INCR", "k"), b":41\r\n", b"$-1\r\n"),
        (("INCRBYFLOAT", "k", "1"), bulk("4.5"), NAN),
        (("STRLEN", "k"), b":5\r\n", b":5\r\n"),
        (("TYPE", "k"), b"+string\r\n", b"+string\r\n"),
        (("XRANGE", "k", "-", "+"), many("*", many("*", bulk("1-1"), many("*", F, V))), many("*", many("*", bulk("1-1"), many("*", F, M)))),
        (
            ("XREAD", "STREAMS", "k", "0"),
            many("*", many("*", bulk("k"), many("*", many("*", bulk("1-1"), many("*", F, V))))),
            many("*", many("*", bulk("k"), many("*", many("*", bulk("1-1"), many("*", F, M))))),
        ),
        (
            ("XAUTOCLAIM", "k", "g", "c", "0", "0"),
            many("*", bulk("0-0"), many("*", many("*", bulk("1-1"), many("*", F, V))), strings("2-2")),
            many("*", bulk("0-0"), many("*", many("*", bulk("1-1"), many("*", F, M))), strings("2-2")),
        ),
        (("XCLAIM", "k", "g", "c", "0", "1-1", "JUSTID"), strings("1-1"), strings("1-1")),
        (
            ("XINFO", "STREAM", "k"),
            many("*", bulk("first-entry"), many("*", bulk("1-1"), many("*", F, V))),
            many("*", bulk("first-entry"), many("*", bulk("###"), many("*", M, M))),
        ),
        (("SLOWLOG", "GET"), many("*", many("*", b":1\r\n", b":2\r\n", many("*", V), V, V)), many("*", many("*", b":1\r\n", b":2\r\n", many("*", M), V, V))),
        (("EVAL", "x", "1", "k"), many("*", V, b":7\r\n", b"+value\r\n", many("*", V)), many("*", M, b"$-1\r\n", b"+#####\r\n", many("*", M))),
        (("FT.SEARCH", "i"), many("*", b":1\r\n", V), many("*", b"$-1\r\n", M)),
        (("GETRANGE", "k", "0", "4"), V, M),
        (("SORT", "k"), many("*", V), many("*", M)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_resp2(words: tuple[str, ...], reply: bytes, seen: bytes) -> None:
    assert through(words, reply) == seen


@pytest.mark.parametrize(
    ("words", "reply", "seen"),
    [
        (("GET", "k"), b"_\r\n", b"_\r\n"),
        (("HGETALL", "k"), many("%", F, V), many("%", F, M)),
        (("HRANDFIELD", "k", "1", "WITHVALUES"), many("*", many("*", F, V)), many("*", many("*", F, M))),
        (("SMEMBERS", "k"), many("~", V), many("~", M)),
        (("ZRANGE", "k", "0", "-1", "WITHSCORES"), many("*", many("*", V, b",1.5\r\n")), many("*", many("*", M, b",inf\r\n"))),
        (("ZSCORE", "k", "m"), b",1.5\r\n", b",inf\r\n"),
        (("INCR", "k"), b":41\r\n", b"_\r\n"),
        (
            ("XREAD", "STREAMS", "k", "0"),
            many("%", bulk("k"), many("*", many("*", bulk("1-1"), many("*", F, V)))),
            many("%", bulk("k"), many("*", many("*", bulk("1-1"), many("*", F, M)))),
        ),
        (("EVAL", "x", "1", "k"), b"=9\r\ntxt:value\r\n", b"=9\r\ntxt:#####\r\n"),
        (("EVAL", "x", "1", "k"), b"(123456789012345678901\r\n", b"_\r\n"),
        (("EVAL", "x", "1", "k"), b"#t\r\n", b"_\r\n"),
        (("EVAL", "x", "1", "k"), b"$?\r\n;3\r\nval\r\n;2\r\nue\r\n;0\r\n", M),
        (("EVAL", "x", "1", "k"), b"*?\r\n" + V + many("*") + b".\r\n", b"*?\r\n" + M + many("*") + b".\r\n"),
        (("GET", "k"), many("|", V, V) + V, many("|", M, M) + M),
        (("MGET", "a", "b"), many("*", many("|", V, V) + V, V), many("*", many("|", M, M) + M, V)),
        (("MGET", "a", "b"), many("*", many("|") + V, V), many("*", many("|") + M, V)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_resp3(words: tuple[str, ...], reply: bytes, seen: bytes) -> None:
    assert through(words, reply, resp3=True) == seen


@pytest.mark.parametrize(
    ("reply", "cell", "seen"),
    [
        (b":41\r\n", "7", b":7\r\n"), (b":41\r\n", "007", b":007\r\n"), (b":41\r\n", "1e3", b"_\r\n"), (b":41\r\n", "9" * 19, b"_\r\n"),
        (b",1.5\r\n", "2.25", b",2.25\r\n"), (b",1.5\r\n", "inf", b",inf\r\n"), (b",1.5\r\n", "nan", b",inf\r\n"), (b",1.5\r\n", "x", b",inf\r\n"), (b",1.5\r\n", None, b"_\r\n"),
        (b"(12\r\n", "-13", b"(-13\r\n"), (b"(12\r\n", "1.5", b"_\r\n"), (b"#t\r\n", "t", b"#t\r\n"), (b"#t\r\n", "f", b"_\r\n"),
        (bulk("x"), None, b"_\r\n"), (b"+OK\r\n", "a\r\nb", b"+a b\r\n"), (bulk("x"), "a\r\nb", bulk("a\r\nb")), (b"_\r\n", "x", b"_\r\n"),
        (b"=5\r\ntxt:x\r\n", "ü", "=6\r\ntxt:ü\r\n".encode()),
    ],
)  # fmt: skip
def test_what_a_mask_writes_stays_of_its_type(reply: bytes, cell: str | None, seen: bytes) -> None:
    assert through(("EVAL", "x", "0"), reply, resp3=True, cell=lambda text: cell) == seen


def test_scores_stay_numbers_in_strings() -> None:
    assert through(("ZSCORE", "k", "m"), bulk("1.5"), cell=lambda text: "2e3") == bulk("2e3")
    assert through(("ZSCORE", "k", "m"), bulk("1.5"), cell=lambda text: "x") == NAN
    assert through(("ZSCORE", "k", "m"), bulk("1.5"), cell=lambda text: None) == bulk(None)


def test_bytes_that_are_no_text_come_through_a_mask_that_leaves_them() -> None:
    raw = bytes(range(256))
    assert through(("GET", "k"), bulk(raw), cell=lambda text: text) == bulk(raw)
    assert through(("GET", "k"), bulk(raw), cell=lambda text: text.replace("ABC", "###")) == bulk(raw.replace(b"ABC", b"###"))


def test_what_is_of_no_key_has_a_mask_of_its_own() -> None:
    seen = through(("HGETALL", "k"), many("*", F, V), meta=lambda text: "meta")
    assert seen == many("*", bulk("meta"), M)


def test_what_is_masked_is_counted() -> None:
    wire = Redis()
    sent(wire, cmd("MGET", "a", "b"), plan(places=(0, 1)))
    assert [m.masked for m in messages(wire, many("*", V, V))] == [2]


def test_each_reply_has_the_plan_of_its_command() -> None:
    wire = Redis()
    sent(wire, cmd("GET", "a"), plan())
    sent(wire, cmd("GET", "b"))
    sent(wire, cmd("GET", "c"), plan())
    assert heard(wire, V + V + V) == M + V + M


def test_a_transaction_has_the_plan_of_each_command() -> None:
    wire = Redis()
    sent(wire, cmd("MULTI"))
    sent(wire, cmd("GET", "a"))
    sent(wire, cmd("MGET", "b", "c"), plan(places=(1,)))
    sent(wire, cmd("INCR", "d"), plan())
    sent(wire, cmd("EXEC"), plan())
    reply = OK + QUEUED * 3 + many("*", V, many("*", V, V), b":1\r\n")
    assert heard(wire, reply) == OK + QUEUED * 3 + many("*", V, many("*", V, M), b"$-1\r\n")
    assert wire.idle


@pytest.mark.parametrize("replies", [many("*", V), many("*", V, V, V)])
@pytest.mark.parametrize("masked", [True, False])
def test_a_transaction_with_other_replies_than_commands(replies: bytes, masked: bool) -> None:
    wire = Redis()
    sent(wire, cmd("MULTI"))
    sent(wire, cmd("GET", "a") + cmd("GET", "b"), plan() if masked else None)
    sent(wire, cmd("EXEC"))
    with pytest.raises(ProtocolError, match="of a transaction"):
        heard(wire, OK + QUEUED + QUEUED + replies)


def test_messages_are_masked_as_their_subscription_and_the_newest_command_say() -> None:
    wire = Redis()
    masked, shorter = message("*", "#######", "####", "#####"), plan(meta=lambda text: text[:3])
    sent(wire, cmd("SUBSCRIBE", "news"), plan(meta=hide))
    assert heard(wire, told("subscribe", "news", 1)) == told("subscribe", "news", 1)
    assert heard(wire, message()) == masked
    sent(wire, cmd("PING"), None)
    assert heard(wire, strings("pong", "") + message()) == strings("pong", "") + masked
    sent(wire, cmd("PING"), shorter)
    assert heard(wire, strings("pon", "") + message()) == strings("pon", "") + message("*", "###", "###", "###")
    sent(wire, cmd("SUBSCRIBE", "more"), plan())  # masks, but not here
    assert heard(wire, told("subscribe", "more", 2) + message()) == told("subscribe", "more", 2) + masked
    assert heard(wire, strings("message", "more", "x")) == strings("message", "more", "x")


def test_messages_are_masked_as_a_subscription_that_came_again_says() -> None:
    wire = Redis()
    masked = message("*", "#######", "####", "#####")
    sent(wire, cmd("SUBSCRIBE", "news") + cmd("UNSUBSCRIBE", "news") + cmd("SUBSCRIBE", "news"), plan(meta=hide))
    sent(wire, cmd("PSUBSCRIBE", "news") + cmd("PUNSUBSCRIBE", "news"), None)
    again = told("subscribe", "news", 1) + told("unsubscribe", "news", 0) + told("subscribe", "news", 1)
    heard(wire, again + told("psubscribe", "news", 2) + told("punsubscribe", "news", 1))
    assert heard(wire, message()) == masked
    sent(wire, cmd("SUBSCRIBE", "news"), None)
    assert heard(wire, told("subscribe", "news", 1) + message()) == told("subscribe", "news", 1) + message()


@pytest.mark.parametrize("number", [1, 2])
def test_limit_feeds(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    assert frames.MAX_FEEDS == 1 << 20
    monkeypatch.setattr("appliance.wire.redis.ledger.MAX_FEEDS", 5)
    wire = Redis()
    for name in ("abc", "abc", "de"):
        sent(wire, cmd("SUBSCRIBE", name), plan(meta=hide))
    heard(wire, told("subscribe", "abc", 1) * 2 + told("subscribe", "de", 2))
    sent(wire, cmd("SUBSCRIBE", "f"), plan(meta=hide) if number == 1 else None)
    if number == 1:
        with pytest.raises(ProtocolError, match="names of masked channels"):
            heard(wire, told("subscribe", "f", 3))
    else:
        heard(wire, told("subscribe", "f", 3))


def test_limit_feed() -> None:
    wire, name = Redis(), "x" * frames.MAX_FEED
    sent(wire, cmd("SUBSCRIBE", name, name + "x"), plan(meta=hide))
    heard(wire, told("subscribe", name, 1))
    with pytest.raises(ProtocolError, match="names of masked channels of more than 16384 bytes"):
        heard(wire, told("subscribe", name + "x", 2))


def test_lines_of_monitor_are_masked() -> None:
    wire = Redis()
    sent(wire, cmd("MONITOR"), plan(lambda text: text.replace("secret", "######")))
    line = b'+1339518083.107412 [0 127.0.0.1:60866] "set" "k" "secret"\r\n'
    assert heard(wire, OK + line) == OK + line.replace(b"secret", b"######")


@pytest.mark.parametrize("name", ["EVAL", "FCALL", "X.GET"])
def test_beside_monitor_nothing_may_answer_as_it_likes(name: str) -> None:
    """A status that looks like a line of it would shift all replies by one, and their masks with them."""
    wire = Redis()
    sent(wire, cmd("MONITOR") + cmd("RESET") + cmd("MONITOR"))
    heard(wire, OK + b"+RESET\r\n")
    assert sent(wire, cmd(name, "x", "0")) == cmd("vendorgate.refused")
    assert sent(wire, cmd("CONFIG", "GET", "x") + cmd("GET", "k")) == cmd("CONFIG", "GET", "x") + cmd("GET", "k")


def test_errors_of_scripts_are_withheld_and_those_of_the_server_are_not() -> None:
    wire = Redis()
    sent(wire, cmd("EVAL", "x", "1", "k"), plan(), redact=True)
    sent(wire, cmd("EVAL", "x", "1", "k"), plan(), redact=True)
    sent(wire, cmd("EVAL", "x", "1", "k"), plan(), redact=True)
    sent(wire, cmd("INCR", "k"), plan(), redact=True)
    said = heard(wire, b"-ERR value\r\n-value of a key\r\n", many("*", V, b"-value\r\n"), b"-ERR value is not an integer\r\n")
    withheld = b" message withheld by vendorgate\r\n"
    assert said == b"-ERR" + withheld + b"-ERR" + withheld + many("*", M, b"-ERR" + withheld) + b"-ERR value is not an integer\r\n"


def test_blob_errors_of_scripts_are_withheld() -> None:
    wire = Redis()
    sent(wire, cmd("HELLO", "3"))
    heard(wire, HELLO_3)
    sent(wire, cmd("EVAL", "x", "1", "k"), plan(), redact=True)
    assert b"value" not in heard(wire, many("*", b"!5\r\nvalue\r\n"))
    sent(wire, cmd("EVAL", "x", "1", "k"), plan(), redact=True)
    assert heard(wire, b"!9\r\nWRONGTYPE\r\n") == b"-WRONGTYPE message withheld by vendorgate\r\n"


REPLIES = [
    (("HGETALL", "k"), many("%", F, V, many("|", F, V) + F, V)),
    (("EVAL", "x", "0"), many("*", V, b":7\r\n", b"+value\r\n", many("~", V, b",1.5\r\n"), b"$?\r\n;3\r\nval\r\n;2\r\nue\r\n;0\r\n")),
    (("XREAD", "STREAMS", "k", "0"), many("%", bulk("k"), many("*", many("*", bulk("1-1"), many("*", F, V))))),
    (("ZSCAN", "k", "0"), many("*", bulk("17"), many("*", V, bulk("1.5"), V, bulk("2")))),
    (("LRANGE", "k", "0", "-1"), many("*", *[V] * 30, bulk(None), bulk(""))),
]  # fmt: skip


@given(st.sampled_from(REPLIES), st.lists(st.integers(0, 10_000), max_size=12))
@settings(max_examples=150, deadline=None)
def test_cuts_change_nothing_of_what_is_masked(of: tuple[tuple[str, ...], bytes], places: list[int]) -> None:
    words, reply = of
    whole = through(words, reply, resp3=True)
    wire = Redis()
    sent(wire, cmd("HELLO", "3"))
    heard(wire, HELLO_3)
    sent(wire, cmd(*words), plan())
    assert heard(wire, *cut(reply, places)) == whole
    assert wire.idle


def test_a_string_nobody_masks_is_not_kept() -> None:
    wire = Redis()
    sent(wire, cmd("MGET", "a", "b"), plan(places=(1,)))
    assert heard(wire, b"*2\r\n$1000000\r\n" + b"x" * 1000) == b"*2\r\n$1000000\r\n" + b"x" * 1000
    assert heard(wire, b"x" * 999_000 + b"\r\n$5\r\nval") == b"x" * 999_000 + b"\r\n"
    assert heard(wire, b"ue\r\n") == M


def test_limit_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert frames.MAX_MASKED == 64 << 20
    with pytest.raises(ProtocolError, match="a string of 67108865 bytes that is to be masked"):
        through(("GET", "k"), b"$67108865\r\n")
    with pytest.raises(ProtocolError, match="a streamed string that is to be masked"):
        through(("EVAL", "x", "0"), b"$?\r\n;67108865\r\n", resp3=True)
    monkeypatch.setattr("appliance.wire.redis.replies.MAX_MASKED", 1000)
    with pytest.raises(ProtocolError, match="a line that is to be masked"):
        through(("EVAL", "x", "0"), b"+" + b"x" * 1001)


def test_limit_depth() -> None:
    assert through(("EVAL", "x", "0"), b"*1\r\n" * frames.MAX_DEPTH + V) == b"*1\r\n" * frames.MAX_DEPTH + M
    with pytest.raises(ProtocolError, match="a reply more than 128 deep"):
        through(("EVAL", "x", "0"), b"*1\r\n" * (frames.MAX_DEPTH + 1))
    wire = Redis()
    sent(wire, cmd("EVAL", "x", "0"))
    with pytest.raises(ProtocolError, match="streamed replies more than 128 deep"):
        heard(wire, b"*?\r\n" * (frames.MAX_DEPTH + 1))


def test_depth_of_what_is_passed_costs_nothing() -> None:
    wire = Redis()
    sent(wire, cmd("GET", "k"))
    deep = b"*1\r\n" * 100_000 + V
    assert heard(wire, deep) == deep
    assert wire.idle


UNMASKED = [
    many("*", V, bulk(None), bulk(""), V), many("*", many("*", V, V), b":1\r\n", V, many("*"), V), many("*", b"+OK\r\n", V, b"-ERR x\r\n", b"*-1\r\n"),
    many("%", V, many("*", V, b"_\r\n"), V, b",1.5\r\n"), b"*?\r\n" + V + b".\r\n", many("*", V, many("|", F, V) + V, b"$?\r\n;5\r\nvalue\r\n;0\r\n"),
    many("*", V, b"*?\r\n" + V + b".\r\n", V), V,
]  # fmt: skip


@pytest.mark.parametrize("reply", UNMASKED)
def test_of_a_reply_of_which_nothing_is_masked_the_end_is_known_wherever_it_is_cut(reply: bytes) -> None:
    both = reply + b"+PONG\r\n"
    for at in range(len(both)):
        wire = Redis()
        sent(wire, cmd("HELLO", "3"))
        heard(wire, HELLO_3)
        sent(wire, cmd("LRANGE", "k", "0", "-1") + cmd("PING"), plan(places=()))
        said = [message for piece in (both[:at], both[at:]) for message in messages(wire, piece)]
        assert b"".join(message.raw for message in said) == both
        assert said[-1].name == "PING" and wire.idle
