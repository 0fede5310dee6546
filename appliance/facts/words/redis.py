"""The words of `when` for Redis.

    key       values
    effect    what it does: read write delete flush keys script transaction publish subscribe blocking session status
              admin config acl module debug monitor replication cluster migrate
    command   its name in capitals, with its subcommand: GET, CONFIG SET
    key       keys it touches: user:*; the key "*" stands for every key (FLUSHALL, MONITOR)
    channel   channels it publishes to or subscribes to
    script    SHA1 of the script it runs or loads, name of the function it calls
    user      who the client is, or becomes
    database  number of the database it is about
    count     number of keys it touches: 1, or {gt: 100}

Keys and channels are bytes: text in UTF-8, \\xNN for a byte that is none. In a pattern `*` is any text and all else is
itself (`?` and `[]` are not special).

A mask by `key` hides values, not names of keys, of fields of hashes, ids, counts. It also refuses what would tell a
part of a value, or compare it (GETRANGE, SISMEMBER, LCS, INCR ...), and what would write it elsewhere (COPY, RENAME,
DUMP, SORT ... STORE, MIGRATE).
"""

from collections.abc import Mapping

from appliance.facts.redis.commands import COMMANDS
from appliance.facts.redis.later import LATER
from appliance.facts.words import Key

EFFECTS = (
    "read", "write", "delete", "flush", "keys", "script", "transaction", "publish", "subscribe", "blocking", "session",
    "status", "admin", "config", "acl", "module", "debug", "monitor", "replication", "cluster", "migrate",
)  # fmt: skip

NAMES = (*sorted(name for name in COMMANDS if COMMANDS[name].bare), *LATER)

KEYS: Mapping[str, Key] = {
    "effect": Key("word", "what the command does", EFFECTS),
    "command": Key("word", "its name in capitals, with its subcommand", NAMES),
    "key": Key("name", "keys it touches", cells="key"),
    "channel": Key("name", "channels it publishes to or subscribes to"),
    "script": Key("text", "SHA1 of the script it runs or loads, name of the function it calls"),
    "user": Key("text", "who the client is, or becomes"),
    "database": Key("text", "number of the database it is about"),
    "count": Key("number", "number of keys it touches"),
}
