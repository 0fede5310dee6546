"""What commands do, in the words of facts/words/redis.py: by the server's own flags, and by name where those are wide.

Source: Redis 7.0 documentation, "ACL" (categories), "Command key specifications" (flags), "Commands".
"""

from collections.abc import Sequence

from appliance.facts.redis.commands import COMMANDS, Command

Words = Sequence[bytes]

_NAMED = {
    "session": (
        "AUTH,HELLO,SELECT,QUIT,RESET,PING,ECHO,READONLY,READWRITE,ASKING,LOLWUT,CLIENT ID,"
        "CLIENT INFO,CLIENT GETNAME,CLIENT SETNAME,CLIENT GETREDIR,CLIENT TRACKING,CLIENT TRACKINGINFO,"
        "CLIENT CACHING,CLIENT REPLY,CLIENT HELP,CLIENT NO-TOUCH,CLIENT SETINFO,ACL WHOAMI"
    ),
    "status": (
        "INFO,DBSIZE,LASTSAVE,TIME,ROLE,MEMORY DOCTOR,MEMORY HELP,MEMORY MALLOC-STATS,MEMORY STATS,"
        "LATENCY DOCTOR,LATENCY GRAPH,LATENCY HELP,LATENCY HISTOGRAM,LATENCY HISTORY,LATENCY LATEST,"
        "SLOWLOG LEN,SLOWLOG HELP,COMMANDLOG,COMMANDLOG HELP,COMMANDLOG LEN,PUBSUB HELP,"
        "PUBSUB CHANNELS,PUBSUB NUMPAT,PUBSUB NUMSUB,PUBSUB SHARDCHANNELS,PUBSUB SHARDNUMSUB,COMMAND,"
        "COMMAND COUNT,COMMAND DOCS,COMMAND GETKEYS,COMMAND GETKEYSANDFLAGS,COMMAND HELP,COMMAND INFO,"
        "COMMAND LIST,CLIENT LIST,CLUSTER COUNT-FAILURE-REPORTS,CLUSTER COUNTKEYSINSLOT,CLUSTER HELP,"
        "CLUSTER INFO,CLUSTER KEYSLOT,CLUSTER LINKS,CLUSTER MYID,CLUSTER MYSHARDID,CLUSTER NODES,"
        "CLUSTER REPLICAS,CLUSTER SHARDS,CLUSTER SLAVES,CLUSTER SLOTS,OBJECT HELP,XINFO HELP,"
        "XGROUP HELP,ACL,CLIENT,CLUSTER,CONFIG,FUNCTION,LATENCY,MEMORY,MODULE,OBJECT,PUBSUB,"
        "SCRIPT,SLOWLOG,XGROUP,XINFO,CONFIG HELP,SCRIPT HELP,FUNCTION HELP,MODULE HELP,ACL HELP"
    ),
    "status config": "CONFIG GET",
    "status module": "MODULE LIST",
    "status acl": "ACL CAT,ACL DRYRUN,ACL GENPASS,ACL GETUSER,ACL LIST,ACL LOG,ACL USERS",
    "status script": "FUNCTION LIST,FUNCTION STATS,FUNCTION DUMP,SCRIPT EXISTS",
    "status monitor": "SLOWLOG GET,COMMANDLOG GET",
    "monitor": "MONITOR",
    "keys": "KEYS,SCAN,RANDOMKEY,CLUSTER GETKEYSINSLOT",
    "transaction": "MULTI,EXEC,DISCARD,WATCH,UNWATCH",
    "publish": "PUBLISH,SPUBLISH",
    "subscribe": "SUBSCRIBE,PSUBSCRIBE,SSUBSCRIBE,UNSUBSCRIBE,PUNSUBSCRIBE,SUNSUBSCRIBE",
    "script": "EVAL,EVAL_RO,EVALSHA,EVALSHA_RO,FCALL,FCALL_RO,SCRIPT LOAD,FUNCTION LOAD",
    "script admin": "SCRIPT FLUSH,SCRIPT KILL,FUNCTION DELETE,FUNCTION FLUSH,FUNCTION KILL,FUNCTION RESTORE",
    "script debug admin": "SCRIPT DEBUG",
    "session blocking": "WAIT,WAITAOF",
    "admin": (
        "CLIENT KILL,CLIENT UNBLOCK,CLIENT PAUSE,CLIENT UNPAUSE,CLIENT NO-EVICT,SHUTDOWN,SAVE,BGSAVE,"
        "BGREWRITEAOF,MEMORY PURGE,LATENCY RESET,SLOWLOG RESET,COMMANDLOG RESET"
    ),
    "admin config": "CONFIG SET,CONFIG RESETSTAT,CONFIG REWRITE",
    "admin acl": "ACL SETUSER,ACL DELUSER,ACL LOAD,ACL SAVE",
    "admin module": "MODULE LOAD,MODULE LOADEX,MODULE UNLOAD",
    "admin debug": "DEBUG,PFDEBUG,PFSELFTEST",
    "admin replication": "REPLICAOF,SLAVEOF,FAILOVER",
    "replication": "SYNC,PSYNC,REPLCONF",
    "admin cluster": (
        "CLUSTER ADDSLOTS,CLUSTER ADDSLOTSRANGE,CLUSTER BUMPEPOCH,CLUSTER DELSLOTS,CLUSTER DELSLOTSRANGE,"
        "CLUSTER FAILOVER,CLUSTER FLUSHSLOTS,CLUSTER FORGET,CLUSTER MEET,CLUSTER REPLICATE,"
        "CLUSTER RESET,CLUSTER SAVECONFIG,CLUSTER SET-CONFIG-EPOCH,CLUSTER SETSLOT"
    ),
    "admin write": "SWAPDB",
    "flush write delete": "FLUSHALL,FLUSHDB",
    "migrate read": "MIGRATE",
    "read write delete": "MOVE",
    "write delete": "RESTORE,RESTORE-ASKING,EXPIRE,PEXPIRE,EXPIREAT,PEXPIREAT",  # a time that is past deletes
}
NAMED = {name: frozenset(words.split()) for words, names in _NAMED.items() for name in names.split(",")}


def _derived(command: Command) -> frozenset[str]:
    """Return what the server's flags say of a command on keys."""
    access = frozenset(word for spec in command.specs for word in spec.access)
    found = {
        "read": "access" in access or "read" in command.categories,
        "write": "write" in command.categories,
        "delete": "delete" in access,
        "blocking": "blocking" in command.categories,
    }
    return frozenset(word for word, has in found.items() if has)


EFFECTS = {name: NAMED.get(name) or _derived(command) for name, command in COMMANDS.items()}


# What commands do at most whose arguments decide it.
WIDEST = {
    "SORT": EFFECTS["SORT"],
    "SORT_RO": EFFECTS["SORT_RO"],
    "GEORADIUS": EFFECTS["GEORADIUS"],
    "GEORADIUSBYMEMBER": EFFECTS["GEORADIUSBYMEMBER"],
    "GETEX": EFFECTS["GETEX"] | {"delete"},
    "MIGRATE": EFFECTS["MIGRATE"] | {"write", "delete"},
    "CLIENT PAUSE": EFFECTS["CLIENT PAUSE"] | {"blocking"},
}


VARIED = frozenset(
    (
        "SORT", "GEORADIUS", "GEORADIUSBYMEMBER", "BITFIELD", "XREAD", "XREADGROUP", "SET", "GETEX", "MIGRATE",
        "CLIENT PAUSE",
    )
)  # fmt: skip
"""Commands whose arguments decide what they do."""


def effects(command: Command, words: Words) -> frozenset[str]:
    """Return what a command with these words does."""
    found = EFFECTS[command.name]
    return _varied(command, words, found) if command.name in VARIED else found


def _varied(command: Command, words: Words, found: frozenset[str]) -> frozenset[str]:
    given = {word.upper() for word in words[2:]}
    match command.name:
        case "SORT" | "GEORADIUS" | "GEORADIUSBYMEMBER" if not given & {b"STORE", b"STOREDIST"}:
            found -= {"write"}
        case "BITFIELD" if not given & {b"SET", b"INCRBY"}:
            found -= {"write"}
        case "XREAD" | "XREADGROUP" if b"BLOCK" not in {word.upper() for word in words}:
            found -= {"blocking"}
        case "SET" if b"GET" in given:
            found |= {"read"}
        case "SET" if b"GET" not in given:
            found -= {"read"}
        case "GETEX" if given:
            found |= {"delete"}  # a time that is past deletes
        case "MIGRATE" if b"COPY" not in given:
            found |= {"write", "delete"}
        case "CLIENT PAUSE":
            found |= {"blocking"}
    return found


COMPARES = frozenset(
    (
        "GETRANGE SUBSTR GETBIT BITCOUNT BITPOS BITFIELD BITFIELD_RO LCS SISMEMBER SMISMEMBER ZSCORE ZMSCORE ZRANK"
        " ZREVRANK LPOS ZCOUNT ZLEXCOUNT ZRANGEBYSCORE ZRANGEBYLEX ZREVRANGEBYSCORE ZREVRANGEBYLEX SORT SORT_RO GEODIST"
        " GEOSEARCH GEORADIUS GEORADIUS_RO GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO INCR DECR INCRBY DECRBY INCRBYFLOAT"
        " HINCRBY HINCRBYFLOAT ZINCRBY PFDEBUG SETBIT SADD SREM LREM LINSERT PFADD ZADD ZREM ZREMRANGEBYSCORE"
        " ZREMRANGEBYLEX GEOADD GEOSEARCHSTORE"
    ).split()
)
"""Commands whose answer, or whose failure, tells a part of a value, or whether it is what is asked for.

SETBIT answers what the bit was; those that add or remove say how many there were not, or were, or ZCARD does."""

# Of several keys, one of which may hold guesses.
COMPARE_SEVERAL = frozenset(
    (
        "SINTER SINTERCARD SDIFF SUNION ZINTER ZINTERCARD ZDIFF ZUNION PFCOUNT"
        " SINTERSTORE SDIFFSTORE SUNIONSTORE ZINTERSTORE ZDIFFSTORE ZUNIONSTORE"
    ).split()
)

COPIES = frozenset("DUMP MIGRATE MOVE SMOVE".split())
"""Commands that put the value they read elsewhere, whatever the server's flags say."""


COMPARE_BY = {
    "ZRANGE": (b"BYSCORE", b"BYLEX"), "ZRANGESTORE": (b"BYSCORE", b"BYLEX"), "SSCAN": (b"MATCH",), "ZSCAN": (b"MATCH",),
    "SET": (b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"),
}  # fmt: skip
"""Commands that do so with one of these words; those of SET are of servers later than the table."""


def compares(command: Command, words: Words, count: int) -> bool:
    """Return whether a command with `count` keys compares, sorts or measures values it reads."""
    name = command.name
    if name in COMPARES or (name in COMPARE_SEVERAL and count > 1):
        return True
    by = COMPARE_BY.get(name)
    return by is not None and any(word.upper() in by for word in words[3:])
