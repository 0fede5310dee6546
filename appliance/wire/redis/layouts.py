# ruff: noqa: SIM905
"""Where in a reply values of keys stand: which column of the plan each string and number belongs to.

Source: Redis documentation, "Commands" (the reply of each), and replies of a server of 7.0 in RESP2 and RESP3.

A place is the number of a column. Everything a command reads is column 0; where each element of the reply belongs to a
key of its own (MGET), its number is the column's. META is what is of no key's value: names of keys and of fields of
hashes, cursors, ids, counts, words of the server. A command that is not here may say anything anywhere: all of its
reply is column 0.

A path says where in a reply something stands: numbers of elements, outermost first. A map counts keys and values.
"""

from collections.abc import Callable, Sequence

import msgspec

META = -1

Path = Sequence[int]


class Layout(msgspec.Struct, frozen=True, gc=False):
    """How a reply is laid out."""

    place: Callable[[Path], int]  # of strings
    score: Callable[[Path], bool]  # whether a string there is a number
    integers: bool = False  # integers are values as well
    opaque: bool = False  # the server's own words (statuses, errors) may hold values too


def _never(path: Path) -> bool:
    return False


def _all(path: Path) -> int:
    return 0


def _meta(path: Path) -> int:
    return META


def _each(path: Path) -> int:
    return path[0] if path else META


def _odd(path: Path) -> int:
    """Names and values by turns, flat, in a map or in pairs."""
    return 0 if path and path[-1] % 2 else META


def _beside(path: Path) -> int:
    """The name of the key, then what came out of it."""
    return META if len(path) == 1 and path[0] == 0 else 0


def _scanned(path: Path) -> int:
    """A cursor, then the elements."""
    return 0 if len(path) > 1 else META


def _scanned_odd(path: Path) -> int:
    return _odd(path) if len(path) > 1 else META


def _entries(path: Path) -> int:
    """Entries of a stream, wherever they stand: [id, [field, value, ...]]."""
    return 0 if len(path) > 2 and path[-1] % 2 and path[-2] == 1 else META


def _described(path: Path) -> int:
    """XINFO STREAM: words of the server and what they say, entries of the stream further in."""
    return 0 if len(path) > 1 else META


def _arguments(path: Path) -> int:
    """SLOWLOG GET: commands of others, each with when, how long and who."""
    return 0 if len(path) == 3 else META


def _pair(path: Path) -> bool:
    """Members and their scores by turns, flat or in pairs."""
    return bool(path) and path[-1] % 2 == 1


def _far(path: Path) -> bool:
    """Members of a geographical index, each followed by what was asked of it."""
    return len(path) > 1 and path[1] > 0


def _third(path: Path) -> bool:
    return path == [2]


def _number(path: Path) -> bool:
    return True


VALUES = Layout(_all, _never)
ALL = Layout(_all, _never, integers=True, opaque=True)
NOTHING = Layout(_meta, _never)
NUMBERS = Layout(_all, _number, integers=True)
WHOLE = Layout(_all, _never, integers=True)
SCORE = Layout(_all, _number)
EACH = Layout(_each, _never)
FIELDS = Layout(_odd, _never)
SCORES = Layout(_all, _pair)
ENTRIES = Layout(_entries, _never)

LAYOUTS = {
    **dict.fromkeys(
        "GET GETSET GETDEL GETEX SET LINDEX LRANGE LPOP RPOP LMOVE BLMOVE RPOPLPUSH BRPOPLPUSH HGET HMGET HVALS"
        " SMEMBERS SPOP SRANDMEMBER SINTER SUNION SDIFF SORT SORT_RO DUMP GEOHASH".split(),
        VALUES,
    ),
    **dict.fromkeys("GETRANGE SUBSTR LCS GETBIT BITFIELD BITFIELD_RO DEBUG".split(), WHOLE),
    **dict.fromkeys(
        "INCR DECR INCRBY DECRBY INCRBYFLOAT HINCRBY HINCRBYFLOAT ZSCORE ZMSCORE ZINCRBY ZADD GEOPOS GEODIST".split(),
        NUMBERS,
    ),
    **dict.fromkeys("ZRANK ZREVRANK".split(), SCORE),
    "MGET": EACH,
    "HGETALL": FIELDS,
    "HRANDFIELD": FIELDS,
    "HSCAN": Layout(_scanned_odd, _never),
    "SSCAN": Layout(_scanned, _never),
    "ZSCAN": Layout(_scanned, _pair),
    **dict.fromkeys("BLPOP BRPOP LMPOP BLMPOP".split(), Layout(_beside, _never)),
    **dict.fromkeys("ZMPOP BZMPOP".split(), Layout(_beside, lambda path: len(path) > 2 and path[-1] == 1)),
    **dict.fromkeys("BZPOPMIN BZPOPMAX".split(), Layout(_beside, _third)),
    **dict.fromkeys(
        "ZRANGE ZREVRANGE ZRANGEBYSCORE ZREVRANGEBYSCORE ZRANGEBYLEX ZREVRANGEBYLEX ZPOPMIN ZPOPMAX ZRANDMEMBER ZUNION"
        " ZINTER ZDIFF".split(),
        VALUES,
    ),
    **dict.fromkeys(
        "GEOSEARCH GEORADIUS GEORADIUS_RO GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO".split(),
        Layout(_all, _far, integers=True),
    ),
    **dict.fromkeys("XRANGE XREVRANGE XREAD XREADGROUP XCLAIM XAUTOCLAIM".split(), ENTRIES),
    "XINFO STREAM": Layout(_described, _never),
    "SLOWLOG GET": Layout(_arguments, _never),
    "MONITOR": ALL,
    **dict.fromkeys("PING ECHO".split(), NOTHING),
}

# Replies without values: counts, statuses, words about the server or about keys.
_SILENT = (
    "APPEND ASKING AUTH BGREWRITEAOF BGSAVE BITCOUNT BITOP BITPOS COPY DBSIZE DEL DISCARD EXISTS EXPIRE EXPIREAT"
    " EXPIRETIME FAILOVER FLUSHALL FLUSHDB GEOADD GEOSEARCHSTORE HDEL HELLO HEXISTS HKEYS HLEN HMSET HSET HSETNX"
    " HSTRLEN INFO KEYS LASTSAVE LINSERT LLEN LOLWUT LPOS LPUSH LPUSHX LREM LSET LTRIM MIGRATE MOVE MSET MSETNX MULTI"
    " PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PFADD PFCOUNT PFMERGE PSETEX PTTL PUBLISH QUIT RANDOMKEY READONLY"
    " READWRITE RENAME RENAMENX REPLCONF REPLICAOF RESET RESTORE ROLE RPUSH RPUSHX SADD SAVE SCAN SCARD SDIFFSTORE"
    " SELECT SETBIT SETEX SETNX SETRANGE SHUTDOWN SINTERCARD SINTERSTORE SISMEMBER SLAVEOF SMISMEMBER SMOVE SPUBLISH"
    " SREM STRLEN SUNIONSTORE SWAPDB TIME TOUCH TTL TYPE UNLINK UNWATCH WAIT WAITAOF WATCH XACK XADD XDEL XLEN"
    " XPENDING XSETID XTRIM ZCARD ZCOUNT ZDIFFSTORE ZINTERCARD ZINTERSTORE ZLEXCOUNT ZRANGESTORE ZREM"
    " ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZUNIONSTORE SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE"
    " PUNSUBSCRIBE SUNSUBSCRIBE"
)
_SILENT_CONTAINERS = (
    "ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "LATENCY", "MEMORY", "MODULE", "OBJECT", "PUBSUB", "SCRIPT",
    "SLOWLOG", "XGROUP", "XINFO",
)  # fmt: skip
LAYOUTS |= {name: NOTHING for name in _SILENT.split() if name not in LAYOUTS}


def layout(name: str, words: Sequence[bytes]) -> Layout:
    """Return how the reply to a command is laid out; `name` in capitals, with its subcommand."""
    found = LAYOUTS.get(name)
    if found is None:
        container, _, sub = name.partition(" ")
        return NOTHING if sub and container in _SILENT_CONTAINERS else ALL
    options = {word.upper() for word in words[2:]}
    if found is VALUES and b"WITHSCORES" in options:
        return SCORES
    if name in ("ZPOPMIN", "ZPOPMAX"):
        return SCORES
    if name == "HRANDFIELD" and b"WITHVALUES" not in options:
        return NOTHING
    if name == "ZADD" and b"INCR" not in options:
        return NOTHING
    return found
