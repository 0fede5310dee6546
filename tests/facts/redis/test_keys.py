"""The table of commands against a real server: the same commands, and the same keys as COMMAND GETKEYS says."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.facts.redis.commands import COMMANDS, CONTAINERS
from appliance.facts.redis.effects import EFFECTS
from appliance.facts.redis.keys import keys
from appliance.facts.redis.later import LATER, LINES
from appliance.facts.words.redis import EFFECTS as WORDS
from appliance.facts.words.redis import NAMES
from appliance.lab.redis import Redis
from tests.facts.redis.generate import PLACE, tables
from tests.wire.redis.dialogues import cmd

# Of these COMMAND GETKEYS names fewer keys than the command touches.
OURS = {"SORT k BY w_* GET o_*"}

# A line for each form that decides where keys are.
FORMS = """
APPEND k v
BITCOUNT k 0 1
BITFIELD k GET u8 0
BITFIELD_RO k GET u8 0
BITOP AND d a b c
BITPOS k 1
BLMOVE a b LEFT RIGHT 0
BLMPOP 0 2 a b LEFT COUNT 2
BLPOP a b 0
BRPOP a 0
BRPOPLPUSH a b 0
BZMPOP 0 2 a b MIN
BZPOPMAX a b 0
BZPOPMIN a 0
COPY a b DB 1 REPLACE
DECR k
DECRBY k 2
DEL a b c
DUMP k
EVAL x 2 a b c d
EVAL x 0
EVAL_RO x 1 a
EVALSHA x 2 a b c
EVALSHA_RO x 1 a
EXISTS a b
EXPIRE k 1
EXPIREAT k 1
EXPIRETIME k
FCALL f 2 a b c
FCALL_RO f 1 a
GEOADD k 1 1 m
GEODIST k a b
GEOHASH k a
GEOPOS k a
GEORADIUS k 0 0 1 m
GEORADIUS k 0 0 1 m WITHDIST STORE d
GEORADIUS k 0 0 1 m COUNT 1 STOREDIST d
GEORADIUS k 0 0 1 m STORE a STOREDIST b
GEORADIUS_RO k 0 0 1 m
GEORADIUSBYMEMBER k m 1 m STORE d
GEORADIUSBYMEMBER store storedist 1 m
GEORADIUSBYMEMBER_RO k m 1 m
GEOSEARCH k FROMMEMBER m BYRADIUS 1 m
GEOSEARCHSTORE d k FROMMEMBER m BYRADIUS 1 m
GET k
GETBIT k 1
GETDEL k
GETEX k EX 1
GETRANGE k 0 1
GETSET k v
HDEL k f
HEXISTS k f
HGET k f
HGETALL k
HINCRBY k f 1
HINCRBYFLOAT k f 1
HKEYS k
HLEN k
HMGET k f
HMSET k f v
HRANDFIELD k 2
HSCAN k 0
HSET k f v
HSETNX k f v
HSTRLEN k f
HVALS k
INCR k
INCRBY k 1
INCRBYFLOAT k 1
LCS a b
LINDEX k 0
LINSERT k BEFORE a b
LLEN k
LMOVE a b LEFT RIGHT
LMPOP 2 a b LEFT
LPOP k
LPOS k v
LPUSH k v
LPUSHX k v
LRANGE k 0 1
LREM k 0 v
LSET k 0 v
LTRIM k 0 1
MEMORY USAGE k
MGET a b c
MIGRATE h 1 k 0 9
MIGRATE h 1 "" 0 9 KEYS a b
MIGRATE h 1 "" 0 9 COPY REPLACE AUTH KEYS KEYS a b
MIGRATE h 1 "" 0 9 AUTH2 KEYS KEYS KEYS a
MOVE k 1
MSET a 1 b 2
MSETNX a 1 b 2
OBJECT ENCODING k
OBJECT FREQ k
OBJECT IDLETIME k
OBJECT REFCOUNT k
PERSIST k
PEXPIRE k 1
PEXPIREAT k 1
PEXPIRETIME k
PFADD k v
PFCOUNT a b
PFDEBUG encoding k
PFMERGE d a b
PSETEX k 1 v
PTTL k
RENAME a b
RENAMENX a b
RESTORE k 0 v
RESTORE-ASKING k 0 v
RPOP k
RPOPLPUSH a b
RPUSH k v
RPUSHX k v
SADD k v
SCARD k
SDIFF a b
SDIFFSTORE d a b
SET k v
SET k v GET
SETBIT k 0 1
SETEX k 1 v
SETNX k v
SETRANGE k 0 v
SINTER a b
SINTERCARD 2 a b LIMIT 1
SINTERSTORE d a b
SISMEMBER k v
SMEMBERS k
SMISMEMBER k v
SMOVE a b v
SORT k
SORT k BY w_* GET o_*
SORT k BY nosort STORE d
SORT store STORE a store b
SORT k LIMIT 0 STORE STORE d
SORT_RO k
SPOP k
SRANDMEMBER k
SREM k v
SSCAN k 0
STRLEN k
SUBSTR k 0 1
SUNION a b
SUNIONSTORE d a b
TOUCH a b
TTL k
TYPE k
UNLINK a b
WATCH a b
XACK k g 1-1
XADD k * f v
XAUTOCLAIM k g c 0 0
XCLAIM k g c 0 1-1
XDEL k 1-1
XGROUP CREATE k g $
XGROUP CREATECONSUMER k g c
XGROUP DELCONSUMER k g c
XGROUP DESTROY k g
XGROUP SETID k g $
XINFO CONSUMERS k g
XINFO GROUPS k
XINFO STREAM k
XLEN k
XPENDING k g
XRANGE k - +
XREAD STREAMS a b 0 0
XREAD COUNT 2 BLOCK 0 STREAMS streams 0
XREADGROUP GROUP g c STREAMS a >
XREADGROUP GROUP streams streams COUNT 1 NOACK STREAMS a b > >
XREVRANGE k + -
XSETID k 1-1
XTRIM k MAXLEN 1
ZADD k 1 m
ZCARD k
ZCOUNT k 0 1
ZDIFF 2 a b
ZDIFFSTORE d 2 a b
ZINCRBY k 1 m
ZINTER 2 a b WITHSCORES
ZINTERCARD 2 a b
ZINTERSTORE d 2 a b WEIGHTS 1 2
ZLEXCOUNT k - +
ZMPOP 2 a b MIN
ZMSCORE k m
ZPOPMAX k
ZPOPMIN k
ZRANDMEMBER k
ZRANGE k 0 1
ZRANGEBYLEX k - +
ZRANGEBYSCORE k 0 1
ZRANGESTORE d k 0 1
ZRANK k m
ZREM k m
ZREMRANGEBYLEX k - +
ZREMRANGEBYRANK k 0 1
ZREMRANGEBYSCORE k 0 1
ZREVRANGE k 0 1
ZREVRANGEBYLEX k + -
ZREVRANGEBYSCORE k 1 0
ZREVRANK k m
ZSCAN k 0
ZSCORE k m
ZUNION 2 a b
ZUNIONSTORE d 2 a b
""".strip().splitlines()


def words(line: str) -> list[str]:
    return ["" if word == '""' else word for word in line.split()]


@pytest.fixture(scope="module")
def asked(redis: Redis) -> Iterator[dict[str, list[str] | None]]:
    """What the server says of all forms: their keys, None for an error."""
    sent = b"".join(cmd("COMMAND", "GETKEYS", *words(line)) for line in FORMS)
    found: dict[str, list[str] | None] = {}
    with socket.create_connection(("127.0.0.1", redis.port), 10) as raw:
        raw.sendall(sent)
        file = raw.makefile("rb")
        for line in FORMS:
            head = file.readline()
            found[line] = None
            if head.startswith(b"*"):
                found[line] = [file.read(int(file.readline()[1:]) + 2)[:-2].decode() for _ in range(int(head[1:]))]
    yield found


@pytest.mark.peer
@pytest.mark.parametrize("line", [line for line in FORMS if line not in OURS])
def test_keys_are_those_the_server_says(asked: dict[str, list[str] | None], line: str) -> None:
    said = [word.encode() for word in words(line)]
    command = COMMANDS[" ".join(words(line)[:2]).upper()] if words(line)[0] in CONTAINERS else COMMANDS[words(line)[0]]
    found = keys(command, said)
    assert {key.decode() for key in found.all} == set(asked[line] or [])
    assert not found.unknown


@pytest.mark.peer
def test_of_those_the_server_says_less_than_is_true(asked: dict[str, list[str] | None]) -> None:
    assert asked["SORT k BY w_* GET o_*"] == ["k"]
    found = keys(COMMANDS["SORT"], [b"SORT", b"k", b"BY", b"w_*", b"GET", b"o_*"])
    assert (found.all, bool(found.unknown)) == ((b"k",), True)


def test_every_command_with_keys_is_in_the_forms() -> None:
    named = {" ".join(words(line)[:2]) if words(line)[0] in CONTAINERS else words(line)[0] for line in FORMS}
    later = {line.split("|")[0].upper() for line in LINES.splitlines()}
    keyed = {
        name for name, command in COMMANDS.items() if any("not_key" not in spec.access for spec in command.specs)
    }
    assert {name for name in keyed - named if name.split(" ")[0].lower() not in {n.lower() for n in later}} == set()


@pytest.mark.peer
def test_the_table_is_what_the_server_says(redis: Redis) -> None:
    """Of a server of another version it is not: then `generate` writes it anew."""
    for name, text in tables(redis):
        assert (PLACE / name).read_text() == text


def test_every_command_has_an_effect_and_only_known_ones() -> None:
    assert {name for name, effect in EFFECTS.items() if not effect} == set()
    assert {word for effect in EFFECTS.values() for word in effect} <= set(WORDS)
    assert {word for effect in EFFECTS.values() for word in effect} == set(WORDS)


def test_every_command_may_be_named() -> None:
    assert set(COMMANDS) - set(NAMES) == CONTAINERS - {"COMMAND"}
    assert len(set(NAMES)) == len(NAMES)
    assert not set(LATER) & set(COMMANDS)


def test_the_source_of_the_table_is_named() -> None:
    assert "Redis 7.0.15" in (PLACE / "table.py").read_text().splitlines()[0]
    assert Path(__file__).parent.joinpath("generate.py").exists()
