"""Ways to learn of a masked value, or past a rule, from what a command answers and not from what it shows."""

from collections.abc import Callable

import pytest

from tests.evasion.redis.talk import Failed, Talk
from tests.gate import Gate

pytestmark = pytest.mark.peer

Behind = Callable[[str], Gate]

MEMBER = "LovelaceMember"
ORACLES = {
    "what a bit was before": "SETBIT user:text 1 0",
    "whether a member is new": f"SADD user:set {MEMBER}",
    "whether a member was there": f"SREM user:set {MEMBER}",
    "members of a pattern": "SSCAN user:set 0 MATCH L*",
    "sorted members of a pattern": "ZSCAN user:sorted 0 COUNT 10 MATCH L*",
    "how many are like it": f"LREM user:list 0 {MEMBER}",
    "whether there is a place before it": f"LINSERT user:list BEFORE {MEMBER} x",
    "whether a score is another": f"ZADD user:sorted XX CH 5 {MEMBER}",
    "whether a sorted member is new": f"ZADD user:sorted NX 5 {MEMBER}",
    "whether a sorted member was there": f"ZREM user:sorted {MEMBER}",
    "scores of a range": "ZREMRANGEBYSCORE user:sorted 5 5",
    "members of a range": "ZREMRANGEBYLEX user:sorted [L [M",
    "whether ZCARD is more then": f"ZINCRBY user:sorted 0 {MEMBER}",
    "a sketch": f"PFADD user:sketch {MEMBER}",
    "how many are in both": "SINTERSTORE user:set user:set guess",
    "how many more there are": "SUNIONSTORE user:set user:set guess",
    "how many are left": "SDIFFSTORE user:set guess user:set",
    "how many sorted are in both": "ZINTERSTORE user:sorted 2 user:sorted guesses",
    "how many places are near": "GEOSEARCHSTORE user:places user:places FROMLONLAT 0 0 BYRADIUS 100 km",
    "whether a place is another": "GEOADD user:places CH 0 0 home",
}  # fmt: skip


@pytest.mark.parametrize("name", ORACLES)
def test_an_answer_that_tells_of_a_masked_value(vendor: Talk, direct: Talk, name: str) -> None:
    direct.call("SET", "user:text", MEMBER)
    for key in ("user:set", "guess"):
        direct.call("SADD", key, MEMBER, "other")
    for key in ("user:sorted", "guesses"):
        direct.call("ZADD", key, "5", MEMBER)
    direct.call("RPUSH", "user:list", MEMBER)
    direct.call("PFADD", "user:sketch", MEMBER)
    direct.call("GEOADD", "user:places", "0", "0", "home")
    answer = vendor.line(ORACLES[name])
    assert isinstance(answer, Failed) and answer.startswith("NOPERM"), answer


def test_scans_without_a_pattern_run_on_masked_keys(vendor: Talk, direct: Talk) -> None:
    direct.call("SADD", "user:set", MEMBER)
    assert vendor.line("SSCAN user:set 0") == ["0", ["[redacted]"]]


@pytest.mark.parametrize("written", ["007", "7"])
def test_a_number_that_lua_writes_in_another_way(behind: Behind, direct: Talk, written: str) -> None:
    rules = "rules:\n  - {id: no, when: {key: '7'}, do: block}\n  - {id: rest, do: allow}\n"
    direct.call("SET", "7", "seven")
    with Talk(behind(rules).port) as vendor:
        assert str(vendor.call("EVAL", f"return redis.call('get', {written})", "0")).startswith("NOPERM")


def test_select_in_a_script(behind: Behind, direct: Talk) -> None:
    rules = "rules:\n  - {id: no, when: {database: '5'}, do: block}\n  - {id: rest, do: allow}\n"
    script = "redis.call('select', 5) return redis.call('set', KEYS[1], 'reached')"
    with Talk(behind(rules).port) as vendor:
        assert str(vendor.call("EVAL", script, "1", "k")).startswith("NOPERM")
        assert vendor.call("EVAL", "return redis.call('set', KEYS[1], 'here')", "1", "k") == "OK"
    direct.line("SELECT 5")
    assert direct.line("EXISTS k") == 0
    direct.line("SELECT 0")


@pytest.mark.parametrize(
    "text",
    [
        "local x pcall(function() KEYS[1], x = 'vault:1', 1 end) return redis.call('get', KEYS[1])",
        "local t = {f = function() return 'v', 'vault:1', 'x' end} return redis.call('mset', KEYS[1], t['f']'x')",
        "return redis.call('get', [[\rvault:1]])",
    ],
)
def test_a_script_that_reaches_other_keys_than_it_shows(vendor: Talk, direct: Talk, text: str) -> None:
    direct.call("SET", "vault:1", "gold")
    assert str(vendor.call("EVAL", text, "1", "k")).startswith("NOPERM")
    assert direct.line("GET vault:1") == "gold"


def test_the_debugger_of_scripts(behind: Behind, direct: Talk) -> None:
    """What it is told looks like commands: EVAL runs all its words, not the first."""
    direct.call("SET", "vault:1", "gold")
    with Talk(behind("rules:\n  - {id: no, when: {key: 'vault:*'}, do: block}\n  - {id: rest, do: allow}\n").port) as vendor:
        assert vendor.line("SCRIPT DEBUG yes") == "NOPERM SCRIPT DEBUG is not passed by vendorgate"
        assert vendor.line("SCRIPT DEBUG no") == "OK"
        assert vendor.call("EVAL", "return 1", "0") == 1
        assert vendor.call("EVAL", "local x --", "0", "\nreturn redis.call('get', 'vault:1')") is None


CARD = "4111111111111111"


@pytest.mark.parametrize("between", [["PING"], ["SUBSCRIBE other"], ["UNSUBSCRIBE feed", "SUBSCRIBE feed", "PING"]])
def test_messages_behind_another_command(behind: Behind, direct: Talk, between: list[str]) -> None:
    """They were masked as the newest command said, which is not about their channel."""
    rules = "rules:\n  - {id: no, when: {channel: feed, detect: [credit_card]}, do: mask}\n  - {id: rest, do: allow}\n"
    with Talk(behind(rules).port) as vendor:
        for line in ("SUBSCRIBE feed", *between):
            vendor.line(line)
        direct.call("PUBLISH", "feed", CARD)
        assert vendor.read() == ["message", "feed", "[redacted]"]


def test_a_user_that_hello_names_last(behind: Behind, direct: Talk) -> None:
    direct.line("ACL SETUSER boss on >s3cret allkeys +@all")
    rules = "rules:\n  - {id: no, when: {user: boss}, do: block}\n  - {id: rest, do: allow}\n"
    with Talk(behind(rules).port) as vendor:
        for login in ("SETNAME x AUTH boss s3cret", "AUTH default x AUTH boss s3cret"):
            assert vendor.line(f"HELLO 3 {login}") == "ERR unknown command 'HELLO'"
        assert vendor.line("ACL WHOAMI") == "default"
    direct.line("ACL DELUSER boss")


@pytest.mark.parametrize("text", ["[=[" * 60_000, "--[=[" * 40_000, "x = [[" * 40_000])
def test_a_script_of_brackets_that_never_close_does_not_hold_the_worker(vendor: Talk, text: str) -> None:
    """Each was looked for to the end of the script: some minutes, in which nobody else was served."""
    assert str(vendor.call("EVAL", text, "0")).startswith("NOPERM")
    assert vendor.line("PING") == "PONG"
