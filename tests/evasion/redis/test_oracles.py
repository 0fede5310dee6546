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


@pytest.mark.parametrize("text", ["[=[" * 60_000, "--[=[" * 40_000, "x = [[" * 40_000])
def test_a_script_of_brackets_that_never_close_does_not_hold_the_worker(vendor: Talk, text: str) -> None:
    """Each was looked for to the end of the script: some minutes, in which nobody else was served."""
    assert str(vendor.call("EVAL", text, "0")).startswith("NOPERM")
    assert vendor.line("PING") == "PONG"
