"""Every corner case PROTOCOLS names for Redis, on a real one: what must still work, and what may not happen."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from appliance.lab.redis import Redis
from appliance.model import Address
from tests.conftest import reachable
from tests.evasion.redis.conftest import SECRET
from tests.evasion.redis.talk import Failed, Pushed, Talk
from tests.gate import ALLOW, Gate
from tests.ports import free_port
from tests.wire.redis.dialogues import cmd

pytestmark = pytest.mark.peer
DENIED = "NOPERM denied by vendorgate"
OPEN = "rules:\n  - {id: all, do: allow}\n"
Behind = Callable[[str], Gate]


def wait(what: Callable[[], object]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + 20
    while not what():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def denied(answer: object) -> bool:
    return isinstance(answer, Failed) and answer.startswith(DENIED)


# -- framing and order ------------------------------------------------------------------------------------------------


def test_inline_commands(vendor: Talk, direct: Talk) -> None:
    vendor.send(b"SET k 'a b'\r\nGET k\nset 'vault:1' x\r\n  FLUSHALL  \r\nGET \"vault:\\x31\"\r\n")
    assert [vendor.read() for _ in range(2)] == ["OK", "a b"]
    assert all(denied(vendor.read()) for _ in range(3))
    assert direct.line("KEYS *") == ["k"]


def test_inline_commands_that_readers_split_in_other_ways(gate: Gate, direct: Talk) -> None:
    for line in (b"GET a\0b\r\n", b"GET a\rFLUSHALL\r\n", b"GET\x0bk\r\n", b'GET "k\r\n', b'GET "k"x\r\n', b"GET " + b"x" * 70_000):
        with Talk(gate.port) as vendor:
            vendor.send(line)
            assert "protocol violation" in vendor.read()
            with pytest.raises(EOFError):
                vendor.read()


def test_arrays_in_forms_no_client_sends(gate: Gate, direct: Talk) -> None:
    """A server takes some of these, each in its own way."""
    direct.line("SET k v")
    for data in (b"*01\r\n$8\r\nFLUSHALL\r\n", b"*1\r\n$8\r\nFLUSHALLxx", b"*+1\r\n", b"*1\n$8\nFLUSHALL\n", b"*1\r\n$-8\r\n", b"*1\r\n:1\r\n"):
        with Talk(gate.port) as vendor:
            vendor.send(data)
            assert "protocol violation" in vendor.read()
    assert direct.line("DBSIZE") == 1


def test_empty_commands_have_no_answer(vendor: Talk) -> None:
    vendor.send(b"\r\n*0\r\n*-1\r\n\n" + cmd("PING"))
    assert vendor.read() == "PONG"


def test_pipelining_in_order(vendor: Talk, direct: Talk) -> None:
    count = 2_000
    direct.call("SET", "user:1", SECRET)
    one = cmd("SET", "n", "0") + cmd("FLUSHALL") + cmd("GET", "user:1") + cmd("INCR", "n") + cmd("LPUSH", "n", "x") + cmd("GET", "vault:1")
    threading.Thread(target=vendor.send, args=(one * count,), daemon=True).start()
    for _ in range(count):
        assert vendor.read() == "OK"
        assert denied(vendor.read())
        assert vendor.read() == "[redacted]"
        assert vendor.read() == 1
        assert str(vendor.read()).startswith("WRONGTYPE")
        assert denied(vendor.read())


def test_one_byte_at_a_time(vendor: Talk) -> None:
    for byte in cmd("SET", "vault:1", "x") + cmd("SET", "k", "v"):
        vendor.send(bytes([byte]))
    assert denied(vendor.read())
    assert vendor.read() == "OK"


def test_names_of_commands_in_any_case(vendor: Talk) -> None:
    assert denied(vendor.line("fLuShAlL"))
    assert denied(vendor.line("config SeT dir /tmp"))


def test_keys_and_values_of_any_bytes(vendor: Talk, direct: Talk) -> None:
    for key, value in ((b"\xff\0\r\n", b"\r\n+OK\r\n"), (b"", b""), ("ключ".encode(), bytes(range(256)))):
        assert vendor.call("SET", key, value) == "OK"
        assert vendor.call("GET", key) == value.decode("utf-8", "backslashreplace")
    assert denied(vendor.call("GET", b"vault:\xff"))


def test_a_large_value(vendor: Talk) -> None:
    size = 8 << 20
    assert vendor.call("SET", "k", b"x" * size) == "OK"
    assert vendor.call("STRLEN", "k") == size
    assert len(vendor.call("GET", "k")) == size


def test_a_command_over_the_limit_is_refused_before_its_bytes(gate: Gate) -> None:
    with Talk(gate.port) as vendor:
        vendor.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n")
        assert "the limit of a command is 67108864" in vendor.read()


def test_commands_with_wrong_arguments(vendor: Talk) -> None:
    assert vendor.line("GET") == "ERR wrong number of arguments for 'get' command"
    assert vendor.line("SET k") == "ERR wrong number of arguments for 'set' command"


# -- RESP3 ------------------------------------------------------------------------------------------------------------


def test_hello_and_its_types(vendor: Talk, direct: Talk) -> None:
    direct.line("ZADD z 1.5 a 2 b")
    direct.line("HSET h f v g w")
    direct.line("SADD s x")
    assert vendor.call("HELLO", "3")["proto"] == 3
    assert vendor.line("ZRANGE z 0 -1 WITHSCORES") == [["a", "1.5"], ["b", "2"]]
    assert vendor.line("HGETALL h") == {"f": "v", "g": "w"}
    assert vendor.line("SMEMBERS s") == ["x"]
    assert vendor.line("GET none") is None
    assert vendor.call("EVAL", "redis.setresp(3); return {double=3.5}", "0") == "3.5"
    assert vendor.call("EVAL", "redis.setresp(3); return {map={a=1}}", "0") == {"a": 1}
    assert vendor.line("DEBUG PROTOCOL double").startswith(DENIED)
    assert vendor.call("EVAL", "redis.setresp(3); return {big_number='123456789012345678901234567890'}", "0") == "123456789012345678901234567890"
    assert vendor.call("EVAL", "redis.setresp(3); return {verbatim_string={string='x',format='txt'}}", "0") == "txt:x"
    assert vendor.call("HELLO", "2")[5] == 2


def test_masks_in_resp3(vendor3: Talk, direct: Talk) -> None:
    direct.call("HSET", "user:h", "name", SECRET, "age", "36")
    direct.line("ZADD user:z 1815 ada")
    direct.call("XADD", "user:x", "1-1", "name", SECRET)
    assert vendor3.line("HGETALL user:h") == {"name": "[redacted]", "age": "[redacted]"}
    assert vendor3.line("ZRANGE user:z 0 -1 WITHSCORES") == [["[redacted]", "inf"]]
    assert vendor3.line("XREAD STREAMS user:x 0") == {"user:x": [["1-1", ["name", "[redacted]"]]]}
    assert vendor3.line("ZPOPMIN user:z") == ["[redacted]", "inf"]


def test_hello_refused_by_rules_is_answered_as_by_servers_without_it(behind: Behind) -> None:
    gate = behind("rules:\n  - {id: no-hello, to: db, when: {command: HELLO}, do: block}\n  - {id: rest, do: allow}\n")
    with Talk(gate.port) as vendor:
        assert vendor.call("HELLO", "3") == "ERR unknown command 'HELLO'"
        assert vendor.line("PING") == "PONG"


def test_client_tracking(vendor3: Talk, direct: Talk) -> None:
    assert vendor3.line("CLIENT TRACKING ON") == "OK"
    assert vendor3.line("GET k") is None
    direct.line("SET k v")
    assert vendor3.read() == Pushed(["invalidate", ["k"]])
    assert vendor3.line("GET k") == "v"


def test_client_tracking_sent_to_another_connection(vendor: Talk, gate: Gate, direct: Talk) -> None:
    with Talk(gate.port) as other:
        number = other.line("CLIENT ID")
        assert other.line("SUBSCRIBE __redis__:invalidate") == ["subscribe", "__redis__:invalidate", 1]
        assert vendor.line(f"CLIENT TRACKING ON REDIRECT {number}") == "OK"
        vendor.line("GET k")
        direct.line("SET k v")
        assert other.read() == ["message", "__redis__:invalidate", ["k"]]


# -- transactions -----------------------------------------------------------------------------------------------------


def test_a_denial_poisons_the_transaction(vendor: Talk, direct: Talk) -> None:
    assert [vendor.line("MULTI"), vendor.line("SET a 1")] == ["OK", "QUEUED"]
    assert denied(vendor.line("FLUSHALL"))
    assert vendor.line("SET b 2") == "QUEUED"
    assert vendor.line("EXEC") == "EXECABORT Transaction discarded because of previous errors."
    assert direct.line("KEYS *") == []
    assert vendor.line("GET a") is None


def test_a_transaction_that_is_allowed(vendor: Talk, direct: Talk) -> None:
    direct.call("SET", "user:1", SECRET)
    vendor.line("MULTI")
    for line in ("SET a 1", "GET user:1", "MGET a user:1", "INCR a", "HSET h f v", "HGETALL h", "EVAL return{1,{2}} 0"):
        assert vendor.line(line) == "QUEUED"
    assert vendor.line("EXEC") == ["OK", "[redacted]", ["1", "[redacted]"], 2, 1, ["f", "v"], [1, [2]]]


def test_watch(vendor: Talk, direct: Talk) -> None:
    assert [vendor.line("WATCH k"), vendor.line("MULTI"), vendor.line("GET k")] == ["OK", "OK", "QUEUED"]
    direct.line("SET k other")
    assert vendor.line("EXEC") is None
    assert vendor.line("GET k") == "other"


def test_what_is_refused_at_exec(behind: Behind, direct: Talk) -> None:
    gate = behind("rules:\n  - {id: no-exec, to: db, when: {command: EXEC}, do: block}\n  - {id: rest, do: allow}\n")
    with Talk(gate.port) as vendor:
        vendor.line("MULTI")
        vendor.line("SET k v")
        assert vendor.line("EXEC").startswith("EXECABORT Transaction discarded because of: NOPERM denied by vendorgate")
        assert vendor.line("GET k") is None  # no transaction is open any more


def test_reset_in_a_transaction(vendor: Talk) -> None:
    vendor.line("MULTI")
    vendor.line("SET k v")
    assert vendor.line("RESET") == "RESET"
    assert vendor.line("GET k") is None


@pytest.mark.parametrize("line", ["SUBSCRIBE a", "CLIENT REPLY OFF", "UNSUBSCRIBE", "HELLO 3"])
def test_what_would_change_the_form_of_exec(vendor: Talk, line: str) -> None:
    vendor.line("MULTI")
    assert vendor.line(line) in (f"NOPERM {line.rpartition(' ')[0] or line} in a transaction is not passed by vendorgate", "ERR unknown command 'HELLO'")
    assert vendor.line("EXEC").startswith("EXECABORT")
    assert vendor.line("PING") == "PONG"


def test_held_in_a_transaction(vendor: Talk, gate: Gate, direct: Talk) -> None:
    direct.line("SET k v")
    vendor.line("MULTI")
    vendor.send(cmd("DEL", "k"))
    gate.say(gate.wait_question(), True)
    assert [vendor.read(), vendor.line("EXEC")] == ["QUEUED", [1]]
    vendor.line("MULTI")
    vendor.send(cmd("DEL", "k"))
    gate.say(gate.wait_question(2), False)
    assert denied(vendor.read())
    assert vendor.line("EXEC").startswith("EXECABORT")


# -- approval ---------------------------------------------------------------------------------------------------------


def test_approve(vendor: Talk, gate: Gate, direct: Talk) -> None:
    direct.line("SET k v")
    vendor.send(cmd("DEL", "k") + cmd("PING"))
    question = gate.wait_question()
    assert (question.text, question.raw, question.protocol) == ("DEL k", cmd("DEL", "k"), "redis")
    assert direct.line("EXISTS k") == 1
    gate.say(question, True)
    assert [vendor.read(), vendor.read()] == [1, "PONG"]
    vendor.send(cmd("DEL", "k"))
    gate.say(gate.wait_question(2), False)
    assert denied(vendor.read())


def test_a_held_command_is_cancelled_by_client_unblock(behind: Behind) -> None:
    gate = behind("rules:\n  - {id: ask, to: db, when: {command: DEL}, do: approve, approvers: {group: ops, within: 1m}}\n  - {id: rest, do: allow}\n")
    with Talk(gate.port) as vendor, Talk(gate.port) as other:
        number = vendor.line("CLIENT ID")
        vendor.send(cmd("DEL", "k"))
        gate.wait_question()
        assert other.line(f"CLIENT UNBLOCK {number}") == 0  # the server knows of no wait
        assert str(vendor.read()).startswith("ERR cancel")
        assert vendor.line("PING") == "PONG"


# -- scripts ----------------------------------------------------------------------------------------------------------


def test_eval(vendor: Talk, direct: Talk) -> None:
    direct.call("SET", "user:1", SECRET)
    assert vendor.call("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", "1", "k", "v") == "OK"
    for text in ("return redis.call('FLUSHALL')", "return redis['call']('FLUSHALL')", "return loadstring(ARGV[1])()", "return redis.call(ARGV[1])"):
        assert denied(vendor.call("EVAL", text, "0", "FLUSHALL")), text
    for text in ("return redis.call('GET', KEYS[1])", "return redis.call('GET', 'user:1')", "return redis.call('GET', 'us' .. 'er:1')"):
        assert denied(vendor.call("EVAL", text, "1", "user:1")), text
    assert denied(vendor.call("EVAL", "return redis.call('GET', 'us' .. 'er:1')", "0"))
    assert denied(vendor.call("EVAL_RO", "return redis.call('GET', ARGV[1])", "0", "user:1"))
    assert direct.line("GET k") == "v"


def test_evalsha(vendor: Talk, direct: Talk, gate: Gate) -> None:
    name = vendor.call("SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])")
    assert vendor.call("EVALSHA", name, "1", "k") == 1
    assert "return redis.call('INCR', KEYS[1])" in gate.of("decision")[-1].text
    unseen = direct.call("SCRIPT", "LOAD", "return redis.call('FLUSHALL')")
    assert vendor.call("EVALSHA", unseen, "0").startswith("NOSCRIPT")
    assert direct.line("DBSIZE") == 1


def test_fcall(vendor: Talk, direct: Talk) -> None:
    library = "#!lua name=l\nredis.register_function('wipe', function() return redis.call('FLUSHALL') end)"
    assert vendor.call("FUNCTION", "LOAD", library) == "l"
    assert denied(vendor.call("FCALL", "wipe", "0"))
    assert denied(vendor.call("FCALL_RO", "wipe", "0"))


def test_errors_and_statuses_of_scripts_hold_no_value(behind: Behind, direct: Talk) -> None:
    """The rule lets scripts compare, so that what they answer is what is looked at."""
    direct.call("SET", "note", "card 4111111111111111")
    gate = behind("rules:\n  - {id: cards, to: db, when: {detect: [credit_card]}, do: mask}\n  - {id: rest, do: allow}\n")
    with Talk(gate.port) as vendor:
        for text in (
            "return redis.call('GET', KEYS[1])", "return {redis.call('GET', KEYS[1]), 1}", "return redis.status_reply(redis.call('GET', KEYS[1]))",
            "return redis.error_reply(redis.call('GET', KEYS[1]))", "error(redis.call('GET', KEYS[1]))", "return tonumber('4111111111111111')",
        ):  # fmt: skip
            assert "4111111111111111" not in repr(vendor.call("EVAL", text, "1", "note")), text


# -- publish and subscribe --------------------------------------------------------------------------------------------


def test_publish_and_subscribe(vendor: Talk, direct: Talk) -> None:
    assert vendor.line("SUBSCRIBE news") == ["subscribe", "news", 1]
    assert direct.call("PUBLISH", "news", "card 4111111111111111") == 1
    assert vendor.read() == ["message", "news", "card ************1111"]
    assert vendor.line("PING") == ["pong", ""]
    assert vendor.line("GET k").startswith("ERR Can't execute 'get'")
    assert denied(vendor.line("FLUSHALL"))
    assert vendor.line("UNSUBSCRIBE") == ["unsubscribe", "news", 0]
    assert vendor.line("GET k") is None


def test_a_channel_that_is_blocked(vendor: Talk) -> None:
    assert denied(vendor.line("SUBSCRIBE secret"))
    assert denied(vendor.line("SUBSCRIBE a secret"))
    assert denied(vendor.line("PSUBSCRIBE s*"))
    assert denied(vendor.line("PSUBSCRIBE [s]ecret"))
    assert denied(vendor.line("PUBLISH secret x"))
    assert denied(vendor.call("EVAL", "return redis.call('PUBLISH', 'sec' .. 'ret', 'x')", "0"))
    assert vendor.line("PSUBSCRIBE other") == ["psubscribe", "other", 1]


def test_subscribed_and_asking_in_resp3(vendor3: Talk, direct: Talk) -> None:
    assert vendor3.line("SUBSCRIBE a b") == Pushed(["subscribe", "a", 1])
    assert vendor3.read() == Pushed(["subscribe", "b", 2])
    direct.line("SET k v")
    direct.line("PUBLISH a x")
    assert vendor3.read() == Pushed(["message", "a", "x"])
    assert vendor3.line("GET k") == "v"
    assert vendor3.line("UNSUBSCRIBE") in (Pushed(["unsubscribe", "a", 1]), Pushed(["unsubscribe", "b", 1]))
    assert vendor3.read()[2] == 0
    assert vendor3.line("GET k") == "v"


def test_a_list_that_looks_like_a_message(vendor: Talk, direct: Talk) -> None:
    direct.line("RPUSH user:l message news hello")
    direct.line("RPUSH l message news hello")
    vendor.line("SUBSCRIBE news")
    vendor.line("UNSUBSCRIBE news")
    assert vendor.line("LRANGE l 0 -1") == ["message", "news", "hello"]
    assert vendor.line("LRANGE user:l 0 -1") == ["[redacted]"] * 3


def test_sharded_publish_and_subscribe(vendor: Talk, direct: Talk) -> None:
    assert vendor.line("SSUBSCRIBE shard") == ["ssubscribe", "shard", 1]
    assert direct.line("SPUBLISH shard x") == 1
    assert vendor.read() == ["smessage", "shard", "x"]
    assert vendor.line("SUNSUBSCRIBE") == ["sunsubscribe", "shard", 0]
    assert vendor.line("PING") == "PONG"
    assert denied(vendor.line("SSUBSCRIBE secret"))


def test_keyspace_notifications(vendor: Talk, direct: Talk) -> None:
    direct.line("CONFIG SET notify-keyspace-events KEA")
    vendor.line("PSUBSCRIBE plain")
    with Talk(int(vendor.socket.getpeername()[1])) as other:
        assert other.line("SUBSCRIBE __keyspace@0__:k") == ["subscribe", "__keyspace@0__:k", 1]
        direct.line("SET k v")
        assert other.read() == ["message", "__keyspace@0__:k", "set"]
    direct.call("CONFIG", "SET", "notify-keyspace-events", "")


# -- blocking commands, modes -----------------------------------------------------------------------------------------


def test_blocking_commands(vendor: Talk, direct: Talk) -> None:
    vendor.send(cmd("BLPOP", "user:queue", "0") + cmd("PING"))
    wait(lambda: "blocked_clients:1" in direct.line("INFO clients"))
    direct.call("LPUSH", "user:queue", SECRET)
    assert vendor.read() == ["user:queue", "[redacted]"]
    assert vendor.read() == "PONG"
    assert vendor.line("BLPOP none 0.05") is None
    assert vendor.line("BZPOPMIN none 0.05") is None


def test_client_reply(vendor: Talk, direct: Talk) -> None:
    vendor.send(cmd("CLIENT", "REPLY", "SKIP") + cmd("SET", "a", "1") + cmd("GET", "a"))
    assert vendor.read() == "1"
    vendor.send(cmd("CLIENT", "REPLY", "OFF") + cmd("SET", "a", "2") + cmd("FLUSHALL") + cmd("GET", "user:1") + cmd("CLIENT", "REPLY", "ON"))
    assert vendor.read() == "OK"
    assert vendor.line("GET a") == "2"
    assert direct.line("GET a") == "2"


def test_reset(vendor: Talk, direct: Talk) -> None:
    vendor.call("HELLO", "3")
    vendor.line("SELECT 3")
    vendor.line("CLIENT TRACKING ON")
    assert vendor.line("RESET") == "RESET"
    direct.line("HSET h f v")
    assert vendor.line("HGETALL h") == ["f", "v"]  # RESP2, database 0


def test_select_is_followed(behind: Behind, direct: Talk) -> None:
    gate = behind("rules:\n  - {id: one, to: db, when: {database: '1', effect: [read, write]}, do: block}\n  - {id: rest, do: allow}\n")
    with Talk(gate.port) as vendor:
        vendor.send(cmd("SELECT", "1") + cmd("GET", "k") + cmd("SELECT", "0") + cmd("GET", "k") + cmd("SELECT", "99") + cmd("GET", "k"))
        answers = [vendor.read() for _ in range(6)]
        assert [answers[0], answers[2], answers[3], answers[5]] == ["OK", "OK", None, None]
        assert denied(answers[1])
        assert answers[4] == "ERR DB index is out of range"
        assert denied(vendor.line("MOVE k 1"))


def test_quit(vendor: Talk) -> None:
    assert vendor.line("QUIT") == "OK"
    with pytest.raises(EOFError):
        vendor.read()


def test_idle_connections_of_a_pool(vendor: Talk, gate: Gate) -> None:
    others = [Talk(gate.port) for _ in range(20)]
    assert [other.line("PING") for other in others] == ["PONG"] * 20
    assert vendor.line("PING") == "PONG"
    for other in others:
        other.__exit__(None, None, None)


# -- administration, as effects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "MONITOR", "SYNC", "PSYNC ? -1", "CONFIG SET dir /tmp", "CONFIG SET dbfilename x.so", "CONFIG REWRITE", "MODULE LOAD /tmp/x.so",
        "MODULE LOADEX /tmp/x.so", "DEBUG RELOAD", "DEBUG OBJECT k", "DEBUG PROTOCOL push", "SLAVEOF 127.0.0.1 1", "REPLICAOF 127.0.0.1 1",
        "REPLICAOF NO ONE", "ACL SETUSER x on", "ACL DELUSER default", "SHUTDOWN", "SHUTDOWN NOSAVE", "SAVE", "BGSAVE", "BGREWRITEAOF", "FAILOVER",
        "CLUSTER RESET", "CLUSTER MEET 127.0.0.1 1", "LATENCY RESET", "SLOWLOG RESET", "CLIENT KILL TYPE normal", "CLIENT NO-EVICT on", "CLIENT PAUSE 1000",
        "SWAPDB 0 1", "FLUSHALL", "FLUSHDB", "SCRIPT FLUSH", "FUNCTION FLUSH", "SCRIPT DEBUG YES", "REPLCONF ACK 1", "PFSELFTEST",
        "MIGRATE 127.0.0.1 1 k 0 100", "RESTORE-ASKING vault:1 0 x", "VENDOR.CMD x",
    ],
)  # fmt: skip
def test_administration_is_blocked_by_its_effect(vendor: Talk, direct: Talk, line: str) -> None:
    direct.line("SET k v")
    assert denied(vendor.line(line))
    assert direct.line("GET k") == "v"
    assert vendor.line("PING") == "PONG"


def test_monitor_where_it_is_allowed(behind: Behind, direct: Talk) -> None:
    gate = behind("rules:\n  - {id: cards, to: db, when: {detect: [credit_card]}, do: mask}\n  - {id: rest, do: allow}\n")
    with Talk(gate.port) as vendor:
        assert vendor.line("MONITOR") == "OK"
        direct.call("SET", "k", "card 4111111111111111")
        assert '"set" "k" "card [redacted]"' in vendor.read().lower()
        assert vendor.line("RESET") == "RESET"
        assert vendor.line("GET k") == "card [redacted]"


def test_replication_where_it_is_allowed(behind: Behind, direct: Talk) -> None:
    direct.line("SET k v")
    gate = behind(ALLOW)
    with Talk(gate.port) as vendor:
        assert vendor.line("REPLCONF listening-port 1 capa eof capa psync2") == "OK"
        vendor.send(cmd("PSYNC", "?", "-1"))
        assert vendor.raw_line().startswith(b"+FULLRESYNC")
        line = vendor.raw_line()
        while line == b"\n":  # it keeps a replica that waits awake
            line = vendor.raw_line()
        assert line.startswith(b"$EOF:")
        vendor.send(cmd("GET", "k"))
        wait(lambda: any("replication stream" in note.text for note in gate.of("incident")))


def test_replication_is_refused_where_anything_is_masked(behind: Behind) -> None:
    gate = behind("rules:\n  - {id: cards, to: db, when: {detect: [credit_card]}, do: mask}\n  - {id: rest, do: allow}\n")
    with Talk(gate.port) as vendor:
        assert vendor.line("PSYNC ? -1") == "NOPERM a replication stream cannot be masked"


def test_migrate_where_it_is_allowed(behind: Behind, direct: Talk, tmp_path_factory: pytest.TempPathFactory) -> None:
    gate = behind("rules:\n  - {id: hide, to: db, when: {key: 'user:*'}, do: mask}\n  - {id: rest, do: allow}\n")
    direct.line("SET k v")
    direct.call("SET", "user:1", SECRET)
    with Redis(tmp_path_factory.mktemp("other"), free_port()) as other, Talk(gate.port) as vendor:
        assert vendor.line(f"MIGRATE 127.0.0.1 {other.port} k 0 5000 COPY") == "OK"
        assert other.admin("GET", "k") == "v"
        assert denied(vendor.call("MIGRATE", "127.0.0.1", str(other.port), "", "0", "5000", "COPY", "KEYS", "k", "user:1"))
        assert denied(vendor.line(f"MIGRATE 127.0.0.1 {other.port} user:1 0 5000"))
        assert other.admin("EXISTS", "user:1") == "0"


def test_redirects_of_a_cluster(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A redirect reaches the client, and the record; one that leads out of the target is an incident."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(cluster_node(tmp_path_factory)) for _ in range(2)]
        one, two = (stack.enter_context(Talk(node.port)) for node in nodes)
        assert one.line("CLUSTER ADDSLOTSRANGE 0 8191") == "OK"
        assert two.line("CLUSTER ADDSLOTSRANGE 8192 16383") == "OK"
        bus = two.line("CONFIG GET cluster-port")[1]
        assert one.line(f"CLUSTER MEET 127.0.0.1 {nodes[1].port} {bus}") == "OK"
        wait(lambda: all("cluster_state:ok" in talk.line("CLUSTER INFO") for talk in (one, two)))
        gate = stack.enter_context(Gate(address(nodes[0]), ALLOW, protocol="redis"))
        vendor = stack.enter_context(Talk(gate.port))
        moved = f"MOVED 12182 127.0.0.1:{nodes[1].port}"
        assert vendor.line("GET foo") == moved
        assert vendor.call("EVAL", "return redis.call('GET', KEYS[1])", "1", "foo") == moved
        assert vendor.line("SET bar x") == "OK"
        wait(lambda: len(gate.of("incident")) == 2)
        assert f"the server sends its client to 127.0.0.1:{nodes[1].port}, which is of no target" in gate.of("incident")[0].text
        assert [note.text for note in gate.of("message") if note.message == "redirect"] == ["MOVED", "MOVED"]


def cluster_node(factory: pytest.TempPathFactory) -> Redis:
    home = reachable(factory.mktemp("cluster"))
    home.chmod(0o777)
    bus = free_port()
    settings = (("cluster-enabled", "yes"), ("cluster-port", str(bus)), ("dir", str(home)))
    return Redis(home, free_port(), settings=settings)


def address(node: Redis) -> Address:
    return Address("127.0.0.1", node.port)


# -- keys ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "GET vault:1", "MGET a b vault:1", "SORT k STORE vault:1", "SORT k BY nosort GET vault:*", "SORT k GET x*", "EVAL return(1) 1 vault:1",
        "XREAD COUNT 1 STREAMS a vault:1 0 0", "XREADGROUP GROUP streams c STREAMS vault:1 >", "ZUNIONSTORE d 2 a vault:1", "ZUNIONSTORE vault:1 1 a",
        "GEORADIUS k 0 0 1 m STORE vault:1", "GEORADIUS k 0 0 1 m STORE a STOREDIST vault:1", "LMPOP 2 a vault:1 LEFT", "BLMPOP 1 2 a vault:1 LEFT",
        "SINTERCARD 2 a vault:1", "BITOP AND d a vault:1", "COPY a vault:1", "RENAME a vault:1", "OBJECT ENCODING vault:1", "MEMORY USAGE vault:1",
        "XGROUP CREATE vault:1 g $ MKSTREAM", "XINFO STREAM vault:1", "DUMP vault:1", "RESTORE vault:1 0 x", "WATCH vault:1", "TOUCH a vault:1",
        "MSETNX a 1 vault:1 2", "PFMERGE d vault:1", "LCS a vault:1", "GETEX vault:1", "TYPE VAULT:1", "FCALL f 1 vault:1",
    ],
)  # fmt: skip
def test_keys_wherever_they_stand(vendor: Talk, line: str) -> None:
    assert denied(vendor.line(line))


def test_commands_about_every_key_touch_the_blocked_ones(behind: Behind) -> None:
    gate = behind("rules:\n  - {id: no-vault, to: db, when: {key: 'vault:*'}, do: block}\n  - {id: rest, do: allow}\n")
    for line in ("FLUSHALL", "FLUSHDB", "MONITOR", "SWAPDB 0 1", "SYNC", "SLOWLOG GET"):
        with Talk(gate.port) as vendor:
            assert denied(vendor.line(line)), line


def test_an_allow_by_key_needs_every_key(behind: Behind, direct: Talk) -> None:
    gate = behind("rules:\n  - {id: own, to: db, when: {key: 'app:*'}, do: allow}\n")
    with Talk(gate.port) as vendor:
        assert vendor.line("SET app:1 v") == "OK"
        assert vendor.line("MGET app:1 app:2") == ["v", None]
        for line in ("MGET app:1 other", "RENAME app:1 other", "FLUSHALL", "PING", "KEYS *", "SORT app:1 GET *", "EVAL return(1) 0"):
            assert denied(vendor.line(line)), line


# -- renamed commands, passwords --------------------------------------------------------------------------------------


def test_renamed_commands_are_not_known(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = (("rename-command", "FLUSHALL wipe"),)
    rules = "rules:\n  - {id: reads, to: db, when: {effect: [read, write, session, status]}, do: allow}\n"
    with Redis(tmp_path_factory.mktemp("renamed"), free_port(), settings=settings) as server:
        with Gate(address(server), rules, protocol="redis") as gate, Talk(gate.port) as vendor:
            assert vendor.line("SET k v") == "OK"
            assert denied(vendor.line("wipe"))
            assert vendor.line("GET k") == "v"


def test_passwords_are_not_recorded(behind: Behind, direct: Talk) -> None:
    gate = behind(OPEN)
    with Talk(gate.port) as vendor:
        assert vendor.line("ACL SETUSER vendor on >s3cret allkeys +@all") == "OK"
        assert vendor.line("AUTH vendor wr0ng").startswith("WRONGPASS")
        assert vendor.line("AUTH vendor s3cret") == "OK"
        assert vendor.call("HELLO", "3", "AUTH", "vendor", "s3cret")["proto"] == 3
        vendor.send(b"AUTH vendor s3cret\r\n")
        assert vendor.read() == "OK"
        assert vendor.line("CONFIG SET masterauth s3cret") == "OK"
        assert vendor.line("CONFIG GET masterauth") == {"masterauth": "s3cret"}
        assert vendor.call("CONFIG", "SET", "masterauth", "") == "OK"
        assert "s3cret" not in repr(vendor.line("MIGRATE 127.0.0.1 1 k 0 1 AUTH s3cret"))
    wait(lambda: gate.of("closed"))
    recorded = repr(gate.notes)
    assert "s3cret" not in recorded
    assert "wr0ng" not in recorded
    direct.line("ACL DELUSER vendor")


def test_users_are_followed(behind: Behind, direct: Talk) -> None:
    direct.line("ACL SETUSER boss on >s3cret allkeys +@all")
    gate = behind("rules:\n  - {id: no-boss, to: db, when: {user: boss}, do: block}\n  - {id: rest, do: allow}\n")
    with Talk(gate.port) as vendor:
        assert denied(vendor.line("AUTH boss s3cret"))
        assert vendor.line("HELLO 3 AUTH boss s3cret") == "ERR unknown command 'HELLO'"
        assert vendor.line("ACL WHOAMI") == "default"
    direct.line("ACL DELUSER boss")


def test_a_server_with_a_password(redis: Redis, direct: Talk, behind: Behind) -> None:
    direct.line("CONFIG SET requirepass s3cret")
    try:
        gate = behind(OPEN)
        with Talk(gate.port) as vendor:
            assert vendor.line("GET k") == "NOAUTH Authentication required."
            assert vendor.line("FLUSHALL").startswith("NOAUTH")
            assert vendor.line("AUTH s3cret") == "OK"
            assert vendor.line("GET k") is None
    finally:
        direct.call("CONFIG", "SET", "requirepass", "")


# -- the record -------------------------------------------------------------------------------------------------------


def test_the_record_holds_what_was_said_and_only_masked_values(vendor: Talk, gate: Gate, direct: Talk) -> None:
    direct.call("SET", "user:1", SECRET)
    vendor.line("GET user:1")
    vendor.line("FLUSHALL")
    assert [(v, r) for v, r, _ in gate.verdicts()] == [("allow", "rest"), ("block", "no-flush")]
    wait(lambda: len(gate.of("message")) == 4)
    said = [(note.message, note.raw) for note in gate.of("message")]
    assert said[0] == ("command", cmd("GET", "user:1"))
    assert said[1] == ("reply", b"$10\r\n[redacted]\r\n")
    assert said[2] == ("command", cmd("FLUSHALL"))
    assert said[3][0] == "error"
    assert SECRET not in repr(gate.notes)
    (masked,) = [note for note in gate.of("message") if note.masked]
    assert (masked.masked, masked.masks) == (1, ("hide",))
    facts = dict(gate.of("message")[0].facts)
    assert (facts["command"], facts["key"], facts["effect"]) == (("GET",), ("user:1",), ("read",))


def test_rules_that_change_are_in_force_at_the_next_command(vendor: Talk, gate: Gate, direct: Talk) -> None:
    direct.line("SET other x")
    assert vendor.line("GET other") == "x"
    gate.reload("rules:\n  - {id: hide, to: db, when: {key: other}, do: mask, with: {fixed: hidden}}\n  - {id: rest, do: allow}\n")
    assert vendor.line("GET other") == "hidden"
