"""Subcommands of Redis 7.0.15, as the server tells of them by COMMAND. Data.

Made by tests/facts/redis/generate.py, which says what a line means; `commands` reads it.
"""

VERSION = "7.0.15"

LINES = """\
acl|cat|-2|loading,noscript,stale||
acl|deluser|-3|admin,loading,noscript,stale|admin,dangerous|
acl|dryrun|-4|admin,loading,noscript,stale|admin,dangerous|
acl|genpass|-2|loading,noscript,stale||
acl|getuser|3|admin,loading,noscript,stale|admin,dangerous|
acl|help|2|loading,stale||
acl|list|2|admin,loading,noscript,stale|admin,dangerous|
acl|load|2|admin,loading,noscript,stale|admin,dangerous|
acl|log|-2|admin,loading,noscript,stale|admin,dangerous|
acl|save|2|admin,loading,noscript,stale|admin,dangerous|
acl|setuser|-3|admin,loading,noscript,stale|admin,dangerous|
acl|users|2|admin,loading,noscript,stale|admin,dangerous|
acl|whoami|2|loading,noscript,stale||
client|caching|3|loading,noscript,stale|connection|
client|getname|2|loading,noscript,stale|connection|
client|getredir|2|loading,noscript,stale|connection|
client|help|2|loading,stale|connection|
client|id|2|loading,noscript,stale|connection|
client|info|2|loading,noscript,stale|connection|
client|kill|-3|admin,loading,noscript,stale|admin,connection,dangerous|
client|list|-2|admin,loading,noscript,stale|admin,connection,dangerous|
client|no-evict|3|admin,loading,noscript,stale|admin,connection,dangerous|
client|pause|-3|admin,loading,noscript,stale|admin,connection,dangerous|
client|reply|3|loading,noscript,stale|connection|
client|setname|3|loading,noscript,stale|connection|
client|tracking|-3|loading,noscript,stale|connection|
client|trackinginfo|2|loading,noscript,stale|connection|
client|unblock|-3|admin,loading,noscript,stale|admin,connection,dangerous|
client|unpause|2|admin,loading,noscript,stale|admin,connection,dangerous|
cluster|addslots|-3|admin,no_async_loading,stale|admin,dangerous|
cluster|addslotsrange|-4|admin,no_async_loading,stale|admin,dangerous|
cluster|bumpepoch|2|admin,no_async_loading,stale|admin,dangerous|
cluster|count-failure-reports|3|admin,stale|admin,dangerous|
cluster|countkeysinslot|3|stale||
cluster|delslots|-3|admin,no_async_loading,stale|admin,dangerous|
cluster|delslotsrange|-4|admin,no_async_loading,stale|admin,dangerous|
cluster|failover|-2|admin,no_async_loading,stale|admin,dangerous|
cluster|flushslots|2|admin,no_async_loading,stale|admin,dangerous|
cluster|forget|3|admin,no_async_loading,stale|admin,dangerous|
cluster|getkeysinslot|4|stale||
cluster|help|2|loading,stale||
cluster|info|2|stale||
cluster|keyslot|3|stale||
cluster|links|2|stale||
cluster|meet|-4|admin,no_async_loading,stale|admin,dangerous|
cluster|myid|2|stale||
cluster|nodes|2|stale||
cluster|replicas|3|admin,stale|admin,dangerous|
cluster|replicate|3|admin,no_async_loading,stale|admin,dangerous|
cluster|reset|-2|admin,noscript,stale|admin,dangerous|
cluster|saveconfig|2|admin,no_async_loading,stale|admin,dangerous|
cluster|set-config-epoch|3|admin,no_async_loading,stale|admin,dangerous|
cluster|setslot|-4|admin,no_async_loading,stale|admin,dangerous|
cluster|shards|2|stale||
cluster|slaves|3|admin,stale|admin,dangerous|
cluster|slots|2|stale||
command|count|2|loading,stale|connection|
command|docs|-2|loading,stale|connection|
command|getkeys|-4|loading,stale|connection|
command|getkeysandflags|-4|loading,stale|connection|
command|help|2|loading,stale|connection|
command|info|-2|loading,stale|connection|
command|list|-2|loading,stale|connection|
config|get|-3|admin,loading,noscript,stale|admin,dangerous|
config|help|2|loading,stale||
config|resetstat|2|admin,loading,noscript,stale|admin,dangerous|
config|rewrite|2|admin,loading,noscript,stale|admin,dangerous|
config|set|-4|admin,loading,noscript,stale|admin,dangerous|
function|delete|3|noscript,write|scripting,write|
function|dump|2|noscript|scripting|
function|flush|-2|noscript,write|scripting,write|
function|help|2|loading,stale|scripting|
function|kill|2|allow_busy,noscript|scripting|
function|list|-2|noscript|scripting|
function|load|-3|denyoom,noscript,write|scripting,write|
function|restore|-3|denyoom,noscript,write|scripting,write|
function|stats|2|allow_busy,noscript|scripting|
latency|doctor|2|admin,loading,noscript,stale|admin,dangerous|
latency|graph|3|admin,loading,noscript,stale|admin,dangerous|
latency|help|2|loading,stale||
latency|histogram|-2|admin,loading,noscript,stale|admin,dangerous|
latency|history|3|admin,loading,noscript,stale|admin,dangerous|
latency|latest|2|admin,loading,noscript,stale|admin,dangerous|
latency|reset|-2|admin,loading,noscript,stale|admin,dangerous|
memory|doctor|2|||
memory|help|2|loading,stale||
memory|malloc-stats|2|||
memory|purge|2|||
memory|stats|2|||
memory|usage|-3|readonly|read|RO i2 r0,1,0
module|help|2|loading,stale||
module|list|2|admin,noscript|admin,dangerous|
module|load|-3|admin,no_async_loading,noscript|admin,dangerous|
module|loadex|-3|admin,no_async_loading,noscript|admin,dangerous|
module|unload|3|admin,no_async_loading,noscript|admin,dangerous|
object|encoding|3|readonly|keyspace,read|RO i2 r0,1,0
object|freq|3|readonly|keyspace,read|RO i2 r0,1,0
object|help|2|loading,stale|keyspace|
object|idletime|3|readonly|keyspace,read|RO i2 r0,1,0
object|refcount|3|readonly|keyspace,read|RO i2 r0,1,0
pubsub|channels|-2|loading,pubsub,stale|pubsub|
pubsub|help|2|loading,stale||
pubsub|numpat|2|loading,pubsub,stale|pubsub|
pubsub|numsub|-2|loading,pubsub,stale|pubsub|
pubsub|shardchannels|-2|loading,pubsub,stale|pubsub|
pubsub|shardnumsub|-2|loading,pubsub,stale|pubsub|
script|debug|3|noscript|scripting|
script|exists|-3|noscript|scripting|
script|flush|-2|noscript|scripting|
script|help|2|loading,stale|scripting|
script|kill|2|allow_busy,noscript|scripting|
script|load|3|noscript,stale|scripting|
slowlog|get|-2|admin,loading,stale|admin,dangerous|
slowlog|help|2|loading,stale||
slowlog|len|2|admin,loading,stale|admin,dangerous|
slowlog|reset|2|admin,loading,stale|admin,dangerous|
xgroup|create|-5|denyoom,write|stream,write|RW,insert i2 r0,1,0
xgroup|createconsumer|5|denyoom,write|stream,write|RW,insert i2 r0,1,0
xgroup|delconsumer|5|write|stream,write|RW,delete i2 r0,1,0
xgroup|destroy|4|write|stream,write|RW,delete i2 r0,1,0
xgroup|help|2|loading,stale|stream|
xgroup|setid|-5|write|stream,write|RW,update i2 r0,1,0
xinfo|consumers|4|readonly|read,stream|RO,access i2 r0,1,0
xinfo|groups|3|readonly|read,stream|RO,access i2 r0,1,0
xinfo|help|2|loading,stale|stream|
xinfo|stream|-3|readonly|read,stream|RO,access i2 r0,1,0
"""
