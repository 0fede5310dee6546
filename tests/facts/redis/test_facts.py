"""What commands do, in words; the state of a connection; scripts."""

import hashlib

import pytest

from appliance.facts import Facts
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.facts.redis import Redis
from appliance.facts.redis.reading import MAX_KEY, MAX_SECRET, MAX_TEXT
from appliance.model import Column, Message, Side, Value
from appliance.wire.redis import Redis as Wire
from tests.wire.redis.dialogues import cmd

C, S = Side.CLIENT, Side.SERVER


def reader(shared: Shared | None = None, needs_catalog: bool = True) -> Redis:
    found = open_reader("redis", shared or Shared(), needs_catalog=needs_catalog)
    assert isinstance(found, Redis)
    return found


def said(*words: str | bytes) -> Message:
    (message,) = Wire().feed(C, cmd(*words))
    return message


def facts(*words: str | bytes, of: Redis | None = None) -> Facts:
    found = (of or reader()).ask(said(*words))
    assert found is not None
    return found


def words_of(found: Facts, key: str) -> str:
    return " ".join(sorted(found.values[key]))


@pytest.mark.parametrize(
    ("line", "effect"),
    [
        ("GET k", "read"), ("STRLEN k", "read"), ("SET k v", "write"), ("SET k v GET", "read write"), ("SETEX k 1 v", "write"),
        ("GETSET k v", "read write"), ("GETDEL k", "delete read write"), ("GETEX k", "read write"), ("GETEX k PXAT 1", "delete read write"),
        ("DEL k", "delete write"), ("UNLINK k", "delete write"), ("EXPIRE k 0", "delete write"), ("PERSIST k", "write"),
        ("INCR k", "read write"), ("LPUSH k v", "write"), ("LPOP k", "delete read write"), ("LTRIM k 0 0", "delete write"),
        ("BLPOP k 0", "blocking delete read write"), ("LMOVE a b LEFT LEFT", "delete read write"), ("HDEL k f", "delete write"),
        ("SREM k v", "delete write"), ("SINTERSTORE d a b", "read write"), ("COPY a b", "read write"), ("RENAME a b", "delete read write"),
        ("MOVE k 1", "delete read write"), ("DUMP k", "read"), ("RESTORE k 0 x", "delete write"), ("MIGRATE h 1 k 0 9", "delete migrate read write"),
        ("MIGRATE h 1 k 0 9 COPY", "migrate read"), ("SORT k", "read"), ("SORT k STORE d", "read write"), ("SORT_RO k", "read"),
        ("GEORADIUS k 0 0 1 m", "read"), ("GEORADIUS k 0 0 1 m STORE d", "read write"), ("BITFIELD k GET u8 0", "read"),
        ("BITFIELD k SET u8 0 1", "read write"), ("XREAD STREAMS k 0", "read"), ("XREAD BLOCK 0 STREAMS k 0", "blocking read"),
        ("XREADGROUP GROUP g c STREAMS k >", "read write"), ("KEYS *", "keys"), ("SCAN 0", "keys"), ("RANDOMKEY", "keys"), ("DBSIZE", "status"),
        ("FLUSHALL", "delete flush write"), ("FLUSHDB ASYNC", "delete flush write"), ("SWAPDB 0 1", "admin write"), ("MULTI", "transaction"),
        ("EXEC", "transaction"), ("WATCH k", "transaction"), ("PUBLISH c m", "publish"), ("SPUBLISH c m", "publish"), ("SUBSCRIBE c", "subscribe"),
        ("PSUBSCRIBE c*", "subscribe"), ("PING", "session"), ("SELECT 1", "session"), ("AUTH p", "session"), ("HELLO 3", "session"),
        ("CLIENT SETINFO LIB-NAME x", "session"), ("CLIENT TRACKING ON", "session"), ("CLIENT NO-EVICT on", "admin"),
        ("CLIENT KILL ID 1", "admin"), ("CLIENT PAUSE 1", "admin blocking"), ("INFO", "status"), ("COMMAND", "status"), ("COMMAND DOCS", "status"),
        ("CONFIG GET dir", "config status"), ("CONFIG SET dir /", "admin config"), ("CONFIG REWRITE", "admin config"), ("ACL SETUSER u", "acl admin"),
        ("ACL LIST", "acl status"), ("ACL WHOAMI", "session"), ("MODULE LOAD x", "admin module"), ("MODULE LIST", "module status"),
        ("DEBUG SLEEP 0", "admin debug"), ("MONITOR", "monitor"), ("SLOWLOG GET", "monitor status"), ("SYNC", "replication"),
        ("PSYNC ? -1", "replication"), ("REPLICAOF h 1", "admin replication"), ("SLAVEOF NO ONE", "admin replication"),
        ("FAILOVER", "admin replication"), ("SHUTDOWN NOSAVE", "admin"), ("SAVE", "admin"), ("CLUSTER SLOTS", "status"),
        ("CLUSTER RESET HARD", "admin cluster"), ("CLUSTER GETKEYSINSLOT 1 1", "keys"), ("LATENCY LATEST", "status"), ("LATENCY RESET", "admin"),
        ("WAIT 1 1", "blocking session"), ("SCRIPT LOAD x", "script"), ("SCRIPT FLUSH", "admin script"), ("FUNCTION LOAD x", "script"),
        ("FUNCTION DELETE x", "admin script"), ("OBJECT ENCODING k", "read"), ("XGROUP DESTROY k g", "delete write"),
    ],
)  # fmt: skip
def test_effects(line: str, effect: str) -> None:
    found = facts(*line.split())
    assert words_of(found, "effect") == effect
    assert "effect" not in found.unknown
    assert words_of(facts(*line.lower().split()), "effect") == effect


@pytest.mark.parametrize(
    ("line", "compared", "copied"),
    [
        ("GET k", "", ""), ("GETRANGE k 0 0", "k", ""), ("SUBSTR k 0 0", "k", ""), ("GETBIT k 0", "k", ""), ("BITCOUNT k", "k", ""),
        ("BITPOS k 1", "k", ""), ("BITFIELD k GET u1 0", "k", ""), ("LCS a b", "a b", ""), ("SISMEMBER k v", "k", ""), ("SMISMEMBER k v", "k", ""),
        ("ZSCORE k m", "k", ""), ("ZRANK k m", "k", ""), ("LPOS k v", "k", ""), ("ZCOUNT k 0 1", "k", ""), ("ZRANGEBYSCORE k 0 1", "k", ""),
        ("ZRANGE k 0 1 BYSCORE", "k", ""), ("ZRANGE k 0 1", "", ""), ("SINTER a", "", ""), ("SINTER a b", "a b", ""), ("SINTERCARD 2 a b", "a b", ""),
        ("ZINTERCARD 2 a b", "a b", ""), ("SORT k", "k", ""), ("INCR k", "k", ""), ("HINCRBY k f 1", "k", ""), ("ZADD k GT CH 1 m", "k", ""),
        ("ZADD k 1 m", "k", ""), ("SETBIT k 0 1", "k", ""), ("ZINCRBY k 1 m", "k", ""), ("SET k v IFEQ x", "k", ""), ("SET k IFEQ", "", ""), ("SADD k v", "k", ""), ("SREM k v", "k", ""), ("LREM k 0 v", "k", ""),
        ("SSCAN k 0", "", ""), ("SSCAN k 0 MATCH a*", "k", ""), ("ZSCAN k 0 match a*", "k", ""), ("GEODIST k a b", "k", ""), ("STRLEN k", "", ""), ("TTL k", "", ""), ("OBJECT ENCODING k", "", ""),
        ("COPY a b", "", "a"), ("RENAME a b", "", "a"), ("RENAMENX a b", "", "a"), ("DUMP k", "", "k"), ("MIGRATE h 1 k 0 9", "", "k"),
        ("MOVE k 1", "", "k"), ("SMOVE a b v", "", "a b"), ("LMOVE a b LEFT LEFT", "", "a"), ("LMOVE a a LEFT RIGHT", "", ""), ("RPOPLPUSH a b", "", "a"),
        ("SINTERSTORE d a b", "a b", "a b"), ("SUNIONSTORE a a b", "a b", "b"), ("ZUNIONSTORE d 2 a b", "a b", "a b"), ("ZRANGESTORE d k 0 1", "", "k"),
        ("BITOP AND d a b", "", "a b"), ("PFMERGE d a", "", "a"), ("GEOSEARCHSTORE d k FROMMEMBER m BYRADIUS 1 m", "k", "k"),
        ("GEORADIUS k 0 0 1 m STORE d", "k", "k"), ("SORT k STORE d", "k", "k"), ("GETSET k v", "", ""), ("SET k v GET", "", ""),
        ("MONITOR", "*", "*"), ("SYNC", "*", "*"), ("SWAPDB 0 1", "*", "*"), ("DEBUG OBJECT k", "*", "*"),
    ],
)  # fmt: skip
def test_what_is_compared_and_copied(line: str, compared: str, copied: str) -> None:
    found = facts(*line.split())
    assert (words_of(found, "compared"), words_of(found, "copied")) == (compared, copied)


@pytest.mark.parametrize(
    ("line", "keys"),
    [("FLUSHALL", "*"), ("MONITOR", "*"), ("SLOWLOG GET", "*"), ("PSYNC ? -1", "*"), ("REPLICAOF h 1", "*"), ("KEYS user:*", ""), ("PING", "")],
)
def test_commands_about_every_key(line: str, keys: str) -> None:
    assert words_of(facts(*line.split()), "key") == keys


def test_keys_are_binary_safe() -> None:
    found = facts("MGET", b"\xff\0a", "ключ", "a b", "")
    assert found.values["key"] == {"\\xff\0a", "ключ", "a b", ""}


def test_names_of_commands_in_any_case() -> None:
    assert words_of(facts("cOnFiG", "sEt", "dir", "/"), "command") == "CONFIG SET"


@pytest.mark.parametrize("line", ["VENDOR.CMD k", "FT.SEARCH i q", "CONFIG FROB x", "\xff"])
def test_commands_that_are_not_known(line: str) -> None:
    found = facts(*line.split())
    assert found.unknown >= {"effect", "command", "key", "compared", "copied", "channel", "count"}
    assert "of the servers known here" in found.why
    assert found.values["effect"] == frozenset()


def test_keys_made_of_values() -> None:
    found = facts("SORT", "k", "BY", "nosort", "GET", "user:*->ssn")
    assert "key" in found.unknown
    assert "copied" in found.unknown
    assert facts("SORT", "k", "BY", "nosort", "GET", "#").unknown == frozenset()


def test_a_key_without_a_name() -> None:
    assert facts("MIGRATE", "h", "1", "", "0", "9").values["key"] == {""}
    assert facts("MIGRATE", "h", "1", "", "0", "9", "KEYS", "a").values["key"] == {"a"}


def test_wrong_arguments_touch_nothing() -> None:
    """The server refuses them."""
    assert facts("GET").values["key"] == frozenset()
    assert facts("EVAL", "x").values["key"] == frozenset()
    assert facts("SINTERCARD", "x", "a").values["key"] == frozenset()
    assert facts("XREAD", "STREAMS", "a", "b", "0").values["key"] == frozenset()


@pytest.mark.parametrize("line", ["ZRANK k m WITHSCORE", "GET k x", "XREAD FROB STREAMS k 0", "XREADGROUP GROUP g c CLAIM 9 STREAMS k >"])
def test_words_that_later_servers_may_take(line: str) -> None:
    assert facts(*line.split()).unknown == {"key", "compared", "copied", "count"}


def test_channels() -> None:
    assert words_of(facts("SUBSCRIBE", "a", "b"), "channel") == "a b"
    assert words_of(facts("PUBLISH", "a", "b"), "channel") == "a"
    plain = facts("PSUBSCRIBE", "news")
    assert (words_of(plain, "channel"), plain.unknown) == ("news", frozenset())
    for pattern in ("n*", "new?", "[n]ews", "\\news"):
        found = facts("PSUBSCRIBE", pattern)
        assert (words_of(found, "channel"), found.unknown) == (pattern, {"channel"})


def test_count() -> None:
    assert words_of(facts("MGET", "a", "b", "c"), "count") == "3"
    assert words_of(facts("PING"), "count") == "0"


def test_an_empty_command_asks_for_nothing() -> None:
    (message,) = Wire().feed(C, b"\r\n")
    assert reader().ask(message) is None
    assert reader().ask(Message(C, "query", b"")) is None


# -- limits -----------------------------------------------------------------------------------------------------------


def test_limit_keys() -> None:
    assert facts("DEL", *["k"] * 10_000).unknown == frozenset()
    found = facts("DEL", *["k"] * 10_001)
    assert found.unknown == {"key", "compared", "copied", "count"}
    assert found.why == "more than 10000 keys"


def test_limit_key() -> None:
    assert facts("GET", "k" * MAX_KEY).unknown == frozenset()
    found = facts("MGET", "k" * (MAX_KEY + 1), "a")
    assert found.unknown == {"key", "compared", "copied"}
    assert found.values["key"] == {"a"}
    assert "channel" in facts("PUBLISH", "k" * (MAX_KEY + 1), "x").unknown


def test_limit_text() -> None:
    assert facts("SET", "k", "v" * (MAX_TEXT - 4)).values["text"] != frozenset()
    found = facts("SET", "k", "v" * MAX_TEXT)
    assert (found.unknown, found.values["text"]) == ({"text"}, frozenset())


def test_limit_secret() -> None:
    """What detectors see of a command with a password leaves out what is long."""
    assert facts("ACL", "SETUSER", "u", ">x", "~" + "k" * 900).unknown == frozenset()
    assert facts("ACL", "SETUSER", "u", ">x", "~" + "k" * MAX_SECRET).unknown == {"text"}


def test_limit_name() -> None:
    found = facts("X" * 1_000_000)
    assert max(map(len, found.values["command"])) <= 1024
    assert len(found.why) < 200


# -- the connection ---------------------------------------------------------------------------------------------------


def after(of: Redis, *words: str, kind: str = "reply", status: str = "OK") -> None:
    """Send a command, and hear what answers it."""
    message = said(*words)
    of.ask(message)
    of.sent(message)
    of.heard(Message(S, kind, b"", name=message.name, status=status))


def test_database() -> None:
    flow = reader()
    assert words_of(facts("GET", "k", of=flow), "database") == "0"
    assert words_of(facts("SELECT", "05", of=flow), "database") == "5"
    after(flow, "SELECT", "05")
    assert words_of(facts("GET", "k", of=flow), "database") == "5"
    after(flow, "SELECT", "99", kind="error", status="ERR")
    assert words_of(facts("GET", "k", of=flow), "database") == "5"
    after(flow, "RESET", status="RESET")
    assert words_of(facts("GET", "k", of=flow), "database") == "0"


def test_database_in_a_transaction_may_be_either() -> None:
    flow = reader()
    after(flow, "SELECT", "5", status="QUEUED")
    assert words_of(facts("GET", "k", of=flow), "database") == "0 5"


def test_other_databases() -> None:
    assert words_of(facts("MOVE", "k", "3"), "database") == "0 3"
    assert words_of(facts("COPY", "a", "b", "db", "4"), "database") == "0 4"
    assert words_of(facts("SWAPDB", "1", "2"), "database") == "1 2"
    assert words_of(facts("FLUSHALL"), "database") == "*"
    assert words_of(facts("FLUSHDB"), "database") == "0"


def test_user() -> None:
    flow = reader()
    assert words_of(facts("GET", "k", of=flow), "user") == "default"
    assert words_of(facts("AUTH", "acme", "x", of=flow), "user") == "acme"
    assert words_of(facts("HELLO", "3", "SETNAME", "auth", "AUTH", "acme", "x", of=flow), "user") == "acme"
    assert words_of(facts("HELLO", "3", "AUTH", "default", "x", "AUTH", "acme", "x", of=flow), "user") == "acme default"
    after(flow, "HELLO", "3", "AUTH", "acme", "x", status="3")
    assert words_of(facts("GET", "k", of=flow), "user") == "acme"
    after(flow, "AUTH", "other", "x", kind="error", status="WRONGPASS")
    assert words_of(facts("GET", "k", of=flow), "user") == "acme"
    after(flow, "AUTH", "x")
    assert words_of(facts("GET", "k", of=flow), "user") == "default"


def test_user_of_a_hello_that_fails_behind_its_login() -> None:
    """Servers before 7 log in at once."""
    flow = reader()
    after(flow, "HELLO", "3", "AUTH", "acme", "x", kind="error", status="WRONGPASS")
    assert words_of(facts("GET", "k", of=flow), "user") == "default"
    after(flow, "HELLO", "3", "AUTH", "acme", "x", "FROB", kind="error", status="ERR")
    assert words_of(facts("GET", "k", of=flow), "user") == "acme default"


@pytest.mark.parametrize("line", ["SELECT 1", "AUTH x", "HELLO 3", "RESET"])
def test_what_changes_the_connection_is_waited_for(line: str) -> None:
    assert facts(*line.split()).changes
    assert not facts("GET", "k").changes


def test_cancels() -> None:
    assert facts("CLIENT", "UNBLOCK", "42").cancels == b"42"
    assert facts("CLIENT", "KILL", "id", "43").cancels == b"43"
    assert facts("CLIENT", "KILL", "127.0.0.1:1").cancels == b""


def test_passwords_are_in_no_fact() -> None:
    for words in (("AUTH", "acme", "s3cret"), ("HELLO", "3", "AUTH", "acme", "s3cret"), ("CONFIG", "SET", "requirepass", "s3cret")):
        found = facts(*words)
        assert "s3cret" not in repr(found)


def test_text_as_a_person_types_it() -> None:
    flow = reader()
    found = flow.ask(Message(C, "query", b"", text="SET 'user:1' \"a\\x41\\n\" ''"))
    assert found is not None
    assert words_of(found, "key") == "user:1"
    assert found.values["text"] == {"SET user:1 aA\n  "}
    before = Message(C, "query", b"", text="select 3")
    flow.ask(before)
    flow.sent(before)
    assert words_of(facts("GET", "k", of=flow), "database") == "3"


# -- what the server is asked ----------------------------------------------------------------------------------------


def test_the_server_is_asked_for_keys_of_commands_not_known() -> None:
    flow = reader()
    message = said("FT.X", b"\xff a", "b")
    found = flow.ask(message)
    assert flow.wanted(found) == 'COMMAND GETKEYS FT.X "\\xff\\x20\\x61" b'
    assert flow.wanted(flow.ask(message)) == ""  # once
    flow.heard(Message(S, "injected", b"", values=(Value(b"b"), Value(b"\xff"))))
    flow.heard(Message(S, "injected-done", b""))
    found = flow.ask(message)
    assert found is not None
    assert found.values["key"] == {"b", "\\xff"}
    assert found.unknown == {"effect", "command", "compared", "copied", "channel"}
    assert words_of(found, "count") == "2"


def test_keys_the_server_does_not_tell_stay_unknown() -> None:
    flow = reader()
    message = said("FT.X", "a")
    assert flow.wanted(flow.ask(message))
    flow.heard(Message(S, "injected-done", b"", status="ERR"))
    found = flow.ask(message)
    assert found is not None
    assert "key" in found.unknown
    assert flow.wanted(found) == ""


def test_an_answer_is_of_one_message_only() -> None:
    flow = reader()
    first, second = said("FT.X", "a"), said("FT.X", "b")
    flow.wanted(flow.ask(first))
    flow.heard(Message(S, "injected", b"", values=(Value(b"a"),)))
    flow.sent(first)
    found = flow.ask(second)
    assert found is not None
    assert found.values["key"] == frozenset()
    assert "key" in found.unknown


@pytest.mark.parametrize(("words", "needs"), [(("GET", "k"), True), (("FT.X", "a"), False), (("FT.X", "a" * 70_000), True)])
def test_when_the_server_is_not_asked(words: tuple[str, ...], needs: bool) -> None:
    flow = reader(needs_catalog=needs)
    assert flow.wanted(flow.ask(said(*words))) == ""
    assert flow.wanted(None) == ""


# -- where values come from ------------------------------------------------------------------------------------------


def origins(found: Facts, place: int) -> frozenset[str] | None:
    return reader().origins(found, Column("", place=place))


def test_origins() -> None:
    each = facts("MGET", "a", "b", "a")
    assert [origins(each, place) for place in (0, 1, 2, 3, -1)] == [{"a"}, {"b"}, {"a"}, None, frozenset()]
    assert origins(facts("SUNION", "a", "b"), 0) == {"a", "b"}
    assert origins(facts("MGET", "a"), 0) == {"a"}
    assert origins(facts("PING"), 0) == frozenset()
    assert origins(facts("FT.X", "a"), 0) is None
    assert origins(facts("FT.X", "a"), -1) == frozenset()
    assert origins(facts("EVAL", "return 1 + x()", "1", "a"), 0) == {"a"}
    assert origins(facts("EVALSHA", "f" * 40, "1", "a"), 0) is None


# -- scripts ---------------------------------------------------------------------------------------------------------


def script(text: str, *keys: str) -> Facts:
    return facts("EVAL", text, str(len(keys)), *keys, "an argument")


@pytest.mark.parametrize(
    ("text", "effect", "commands"),
    [
        ("return 1", "script", "EVAL"),
        ("return redis.call('GET', KEYS[1])", "read script", "EVAL GET"),
        ('return redis.pcall("get", KEYS[1])', "read script", "EVAL GET"),
        ("return redis.call'PING'", "script session", "EVAL PING"),
        ("return redis . call ( [[GET]] , KEYS[1] )", "read script", "EVAL GET"),
        ("-- redis.call('FLUSHALL')\nreturn 1", "script", "EVAL"),
        ("--[[ redis.call('FLUSHALL') ]] return 1", "script", "EVAL"),
        ("return 'redis.call(\"FLUSHALL\")'", "script", "EVAL"),
        ("if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end", "delete read script write", "DEL EVAL GET"),
        ("return redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]))", "read script write", "EVAL GET SET"),
        ("redis.log(redis.LOG_NOTICE, 'x') return redis.error_reply('x')", "script", "EVAL"),
        ("#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])", "read script", "EVAL GET"),
        ("return redis.call('CONFIG', 'GET', 'dir')", "config script status", "CONFIG GET EVAL"),
        ("return redis.call('SORT', KEYS[1], ARGV[1], ARGV[2])", "read script write", "EVAL SORT"),
        ("return redis.call('GETEX', KEYS[1], ARGV[1])", "delete read script write", "EVAL GETEX"),
        ("return redis.call('FLUSHALL')", "delete flush script write", "EVAL FLUSHALL"),
    ],
)  # fmt: skip
def test_scripts_whose_text_proves_what_they_do(text: str, effect: str, commands: str) -> None:
    found = script(text, "k")
    assert (words_of(found, "effect"), words_of(found, "command")) == (effect, commands)
    assert not found.unknown & {"effect", "command"}
    assert found.unknown >= {"compared", "copied"}


@pytest.mark.parametrize(
    "text",
    [
        "return redis.call(ARGV[1])",
        "local c = redis.call return c('FLUSHALL')",
        "local r = redis return r.call('FLUSHALL')",
        "return redis['call']('FLUSHALL')",
        "return pcall(redis.call, 'FLUSHALL')",
        "return _G['redis'].call('FLUSHALL')",
        "return loadstring('return redis.call(\"FLUSHALL\")')()",
        "return getfenv().redis.call('FLUSHALL')",
        "return redis.call('FLUSH' .. 'ALL')",
        "return redis.call(('FLUSHALL'))",
        "return server.call('FLUSHALL')",
        "-- x\rreturn redis.call(ARGV[1])",
        "redis.log = redis.call",
        "return redis.call('VENDOR.CMD')",
        "return redis.call('CONFIG', ARGV[1])",
        "return redis.call(unpack(ARGV))",
        "return redis.call('GET', (function() return 1 end)())",
        "local t = {redis = 1}",
        "redis.breakpoint()",
        "return redis.call('GET', 'x\\y')",
        "return `x`",
        "return redis.call(",
        "return redis.call('GET', KEYS[1]" + " + 1" * 3000 + ")",
        "redis.call('PING') " * 1001,
        "return 1 -- " + "x" * 300_000,
    ],
)  # fmt: skip
def test_scripts_that_prove_nothing(text: str) -> None:
    found = script(text, "k")
    assert found.unknown >= {"effect", "command", "key", "compared", "copied", "channel"}
    assert found.why.startswith("a script: ")


def test_a_comment_ends_with_a_carriage_return_as_in_lua() -> None:
    found = script("-- harmless\rredis.call('FLUSHALL')")
    assert "flush" in found.values["effect"]


@pytest.mark.parametrize(
    ("text", "keys", "known"),
    [
        ("return redis.call('GET', KEYS[1])", "a b", True),
        ("return redis.call('GET', 'literal')", "a b literal", True),
        ("return redis.call('MGET', KEYS[1], KEYS[2])", "a b", True),
        ("return redis.call('SET', KEYS[1], ARGV[1], 'PX', 30)", "a b", True),
        ("return #KEYS", "a b", True),
        ("return redis.call('GET', ARGV[1])", "a b", False),
        ("return redis.call('GET', KEYS[1] .. 'x')", "a b", False),
        ("return redis.call('GET', KEYS[3])", "a b", False),
        ("return redis.call('MGET', unpack(KEYS))", "a b", False),
        ("KEYS[1] = 'user:1' return redis.call('GET', KEYS[1])", "a b", False),
        ("KEYS[1], x = 'user:1', 2 return redis.call('GET', KEYS[1])", "a b", False),
        ("local x pcall(function() KEYS[1], x = 'user:1', 2 end) return redis.call('GET', KEYS[1])", "a b", False),
        ("pcall(function() end, KEYS[1], 2) return redis.call('MGET', KEYS[1], KEYS[2])", "a b", False),
        ("local function f() return redis.call('MGET', KEYS[1], KEYS[2]) end return f()", "a b", True),
        ("local t = {f = function() return 'v', 'user:1', 'w' end} return redis.call('MSET', KEYS[1], t['f']'x')", "a b", False),
        ("return redis.call('GET', [[\ruser:1]])", "a b user:1", True),
        ("return redis.call('GET', [=[\n\rus\r\ner\r:\n1]=])", "a b us\ner\n:\n1", True),
        ("x, KEYS[1] = 2, 'user:1' return redis.call('GET', KEYS[1])", "a b", False),
        ("local k = KEYS k[1] = 'user:1' return redis.call('GET', KEYS[1])", "a b", False),
        ("local KEYS = {'user:1'} return redis.call('GET', KEYS[1])", "a b", False),
        ("return redis.call('XREAD', 'STREAMS', KEYS[1], '0')", "a b", False),
        ("return redis.call('ZUNIONSTORE', KEYS[1], ARGV[1], KEYS[2])", "a b", False),
        ("return redis.call('SORT', KEYS[1], 'BY', 'x', 'GET', 'user:*')", "a b", False),
        ("return redis.call('KEYS', '*')", "a b", True),
        ("return redis.call('FLUSHALL')", "* a b", True),
    ],
)  # fmt: skip
def test_keys_of_scripts(text: str, keys: str, known: bool) -> None:
    found = script(text, "a", "b")
    assert words_of(found, "key") == keys
    assert ("key" not in found.unknown) is known


def test_a_script_is_known_by_its_sha1() -> None:
    shared = Shared()
    text = "return redis.call('GET', KEYS[1])"
    name = hashlib.sha1(text.encode()).hexdigest()
    loaded = facts("SCRIPT", "LOAD", text, of=reader(shared))
    assert words_of(loaded, "script") == name
    found = facts("EVALSHA", name.upper(), "1", "k", of=reader(shared))  # another flow of the worker
    assert (words_of(found, "effect"), words_of(found, "script")) == ("read script", name)
    assert text in found.subject
    assert "effect" not in found.unknown


def test_a_script_never_seen() -> None:
    found = facts("EVALSHA", "f" * 40, "1", "k")
    assert found.unknown >= {"effect", "key"}
    assert found.why == f"a script: the text of {'f' * 40} was never seen"


def test_functions_are_not_proved_and_their_text_is_shown() -> None:
    flow = reader()
    library = "#!lua name=l\nredis.register_function('f', function(keys) return 1 end)"
    assert words_of(facts("FUNCTION", "LOAD", "REPLACE", library, of=flow), "script") == "f"
    found = facts("FCALL", "f", "1", "k", of=flow)
    assert found.unknown >= {"effect", "key"}
    assert (words_of(found, "script"), words_of(found, "key")) == ("f", "k")
    assert library in found.subject


def test_a_long_script_is_shown_whole() -> None:
    text = "return 1 -- " + "x" * 3000
    assert text in script(text).subject
    assert text in next(iter(script(text).values["text"]))


def test_limit_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.facts.redis.scripts.MAX_SCRIPTS", 2)
    flow = reader()
    names = [words_of(facts("SCRIPT", "LOAD", f"return {i}", of=flow), "script") for i in range(3)]
    assert ["effect" in facts("EVALSHA", name, "0", of=flow).unknown for name in names] == [True, False, False]


def test_limit_script() -> None:
    flow = reader()
    text = "return 1 --" + "x" * 256 * 1024
    name = words_of(facts("SCRIPT", "LOAD", text, of=flow), "script")
    assert "was never seen" in facts("EVALSHA", name, "0", of=flow).why


def test_limit_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "redis.call('GET', KEYS[1]) " * 4
    assert not script(text, "k").unknown & {"effect", "key"}
    monkeypatch.setattr("appliance.facts.redis.scripts.MAX_LOOKED", 20)
    assert script(text, "k").unknown >= {"effect", "key"}


@pytest.mark.parametrize("text", ["KEYS[1]," * 32_000, "redis.call(" * 23_000, "([{" * 80_000, "'" + "\\a" * 100_000, "--[" + "=" * 200_000, "redis.call(" * 900 + "a+" * 100_000])
def test_hostile_scripts_cost_little(text: str) -> None:
    """Time that grows with the square of the length would take minutes."""
    script(text)


def test_channels_of_scripts_are_not_known() -> None:
    found = script("return redis.call('PUBLISH', 'c', 'x')")
    assert (words_of(found, "channel"), "channel" in found.unknown) == ("c", True)
