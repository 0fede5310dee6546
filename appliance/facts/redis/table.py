"""Commands of Redis 7.0.15, as the server tells of them by COMMAND. Data.

Made by tests/facts/redis/generate.py, which says what a line means; `commands` reads it.
"""

VERSION = "7.0.15"

LINES = """\
acl|-2|||
append|3|denyoom,fast,write|string,write|RW,insert i1 r0,1,0
asking|1|fast|connection|
auth|-2|allow_busy,fast,loading,no_auth,noscript,stale|connection|
bgrewriteaof|1|admin,no_async_loading,noscript|admin,dangerous|
bgsave|-1|admin,no_async_loading,noscript|admin,dangerous|
bitcount|-2|readonly|bitmap,read|RO,access i1 r0,1,0
bitfield|-2|denyoom,write|bitmap,write|RW,access,update,variable_flags i1 r0,1,0
bitfield_ro|-2|fast,readonly|bitmap,read|RO,access i1 r0,1,0
bitop|-4|denyoom,write|bitmap,write|OW,update i2 r0,1,0;RO,access i3 r-1,1,0
bitpos|-3|readonly|bitmap,read|RO,access i1 r0,1,0
blmove|6|blocking,denyoom,noscript,write|blocking,list,write|RW,access,delete i1 r0,1,0;RW,insert i2 r0,1,0
blmpop|-5|blocking,movablekeys,write|blocking,list,write|RW,access,delete i2 n0,1,1
blpop|-3|blocking,noscript,write|blocking,list,write|RW,access,delete i1 r-2,1,0
brpop|-3|blocking,noscript,write|blocking,list,write|RW,access,delete i1 r-2,1,0
brpoplpush|4|blocking,denyoom,noscript,write|blocking,list,write|RW,access,delete i1 r0,1,0;RW,insert i2 r0,1,0
bzmpop|-5|blocking,movablekeys,write|blocking,sortedset,write|RW,access,delete i2 n0,1,1
bzpopmax|-3|blocking,fast,noscript,write|blocking,sortedset,write|RW,access,delete i1 r-2,1,0
bzpopmin|-3|blocking,fast,noscript,write|blocking,sortedset,write|RW,access,delete i1 r-2,1,0
client|-2|||
cluster|-2|||
command|-1|loading,stale|connection|
config|-2|||
copy|-3|denyoom,write|keyspace,write|RO,access i1 r0,1,0;OW,update i2 r0,1,0
dbsize|1|fast,readonly|keyspace,read|
debug|-2|admin,loading,noscript,stale|admin,dangerous|
decr|2|denyoom,fast,write|string,write|RW,access,update i1 r0,1,0
decrby|3|denyoom,fast,write|string,write|RW,access,update i1 r0,1,0
del|-2|write|keyspace,write|RM,delete i1 r-1,1,0
discard|1|allow_busy,fast,loading,noscript,stale|transaction|
dump|2|readonly|keyspace,read|RO,access i1 r0,1,0
echo|2|fast,loading,stale|connection|
eval|-3|movablekeys,no_mandatory_keys,noscript,skip_monitor,stale|scripting|RW,access,update i2 n0,1,1
eval_ro|-3|movablekeys,no_mandatory_keys,noscript,readonly,skip_monitor,stale|scripting|RO,access i2 n0,1,1
evalsha|-3|movablekeys,no_mandatory_keys,noscript,skip_monitor,stale|scripting|RW,access,update i2 n0,1,1
evalsha_ro|-3|movablekeys,no_mandatory_keys,noscript,readonly,skip_monitor,stale|scripting|RO,access i2 n0,1,1
exec|1|loading,noscript,skip_slowlog,stale|transaction|
exists|-2|fast,readonly|keyspace,read|RO i1 r-1,1,0
expire|-3|fast,write|keyspace,write|RW,update i1 r0,1,0
expireat|-3|fast,write|keyspace,write|RW,update i1 r0,1,0
expiretime|2|fast,readonly|keyspace,read|RO,access i1 r0,1,0
failover|-1|admin,noscript,stale|admin,dangerous|
fcall|-3|movablekeys,no_mandatory_keys,noscript,skip_monitor,stale|scripting|RW,access,update i2 n0,1,1
fcall_ro|-3|movablekeys,no_mandatory_keys,noscript,readonly,skip_monitor,stale|scripting|RO,access i2 n0,1,1
flushall|-1|write|dangerous,keyspace,write|
flushdb|-1|write|dangerous,keyspace,write|
function|-2|||
geoadd|-5|denyoom,write|geo,write|RW,update i1 r0,1,0
geodist|-4|readonly|geo,read|RO,access i1 r0,1,0
geohash|-2|readonly|geo,read|RO,access i1 r0,1,0
geopos|-2|readonly|geo,read|RO,access i1 r0,1,0
georadius|-6|denyoom,movablekeys,write|geo,write|RO,access i1 r0,1,0;OW,update kSTORE,6 r0,1,0;OW,update kSTOREDIST,6 r0,1,0
georadius_ro|-6|readonly|geo,read|RO,access i1 r0,1,0
georadiusbymember|-5|denyoom,movablekeys,write|geo,write|RO,access i1 r0,1,0;OW,update kSTORE,5 r0,1,0;OW,update kSTOREDIST,5 r0,1,0
georadiusbymember_ro|-5|readonly|geo,read|RO,access i1 r0,1,0
geosearch|-7|readonly|geo,read|RO,access i1 r0,1,0
geosearchstore|-8|denyoom,write|geo,write|OW,update i1 r0,1,0;RO,access i2 r0,1,0
get|2|fast,readonly|read,string|RO,access i1 r0,1,0
getbit|3|fast,readonly|bitmap,read|RO,access i1 r0,1,0
getdel|2|fast,write|string,write|RW,access,delete i1 r0,1,0
getex|-2|fast,write|string,write|RW,access,update i1 r0,1,0
getrange|4|readonly|read,string|RO,access i1 r0,1,0
getset|3|denyoom,fast,write|string,write|RW,access,update i1 r0,1,0
hdel|-3|fast,write|hash,write|RW,delete i1 r0,1,0
hello|-1|allow_busy,fast,loading,no_auth,noscript,stale|connection|
hexists|3|fast,readonly|hash,read|RO i1 r0,1,0
hget|3|fast,readonly|hash,read|RO,access i1 r0,1,0
hgetall|2|readonly|hash,read|RO,access i1 r0,1,0
hincrby|4|denyoom,fast,write|hash,write|RW,access,update i1 r0,1,0
hincrbyfloat|4|denyoom,fast,write|hash,write|RW,access,update i1 r0,1,0
hkeys|2|readonly|hash,read|RO,access i1 r0,1,0
hlen|2|fast,readonly|hash,read|RO i1 r0,1,0
hmget|-3|fast,readonly|hash,read|RO,access i1 r0,1,0
hmset|-4|denyoom,fast,write|hash,write|RW,update i1 r0,1,0
hrandfield|-2|readonly|hash,read|RO,access i1 r0,1,0
hscan|-3|readonly|hash,read|RO,access i1 r0,1,0
hset|-4|denyoom,fast,write|hash,write|RW,update i1 r0,1,0
hsetnx|4|denyoom,fast,write|hash,write|RW,insert i1 r0,1,0
hstrlen|3|fast,readonly|hash,read|RO i1 r0,1,0
hvals|2|readonly|hash,read|RO,access i1 r0,1,0
incr|2|denyoom,fast,write|string,write|RW,access,update i1 r0,1,0
incrby|3|denyoom,fast,write|string,write|RW,access,update i1 r0,1,0
incrbyfloat|3|denyoom,fast,write|string,write|RW,access,update i1 r0,1,0
info|-1|loading,stale|dangerous|
keys|2|readonly|dangerous,keyspace,read|
lastsave|1|fast,loading,stale|admin,dangerous|
latency|-2|||
lcs|-3|readonly|read,string|RO,access i1 r1,1,0
lindex|3|readonly|list,read|RO,access i1 r0,1,0
linsert|5|denyoom,write|list,write|RW,insert i1 r0,1,0
llen|2|fast,readonly|list,read|RO i1 r0,1,0
lmove|5|denyoom,write|list,write|RW,access,delete i1 r0,1,0;RW,insert i2 r0,1,0
lmpop|-4|movablekeys,write|list,write|RW,access,delete i1 n0,1,1
lolwut|-1|fast,readonly|read|
lpop|-2|fast,write|list,write|RW,access,delete i1 r0,1,0
lpos|-3|readonly|list,read|RO,access i1 r0,1,0
lpush|-3|denyoom,fast,write|list,write|RW,insert i1 r0,1,0
lpushx|-3|denyoom,fast,write|list,write|RW,insert i1 r0,1,0
lrange|4|readonly|list,read|RO,access i1 r0,1,0
lrem|4|write|list,write|RW,delete i1 r0,1,0
lset|4|denyoom,write|list,write|RW,update i1 r0,1,0
ltrim|4|write|list,write|RW,delete i1 r0,1,0
memory|-2|||
mget|-2|fast,readonly|read,string|RO,access i1 r-1,1,0
migrate|-6|movablekeys,write|dangerous,keyspace,write|RW,access,delete i3 r0,1,0;RW,access,delete,incomplete kKEYS,-2 r-1,1,0
module|-2|||
monitor|1|admin,loading,noscript,stale|admin,dangerous|
move|3|fast,write|keyspace,write|RW,access,update i1 r0,1,0
mset|-3|denyoom,write|string,write|OW,update i1 r-1,2,0
msetnx|-3|denyoom,write|string,write|OW,insert i1 r-1,2,0
multi|1|allow_busy,fast,loading,noscript,stale|transaction|
object|-2|||
persist|2|fast,write|keyspace,write|RW,update i1 r0,1,0
pexpire|-3|fast,write|keyspace,write|RW,update i1 r0,1,0
pexpireat|-3|fast,write|keyspace,write|RW,update i1 r0,1,0
pexpiretime|2|fast,readonly|keyspace,read|RO,access i1 r0,1,0
pfadd|-2|denyoom,fast,write|hyperloglog,write|RW,insert i1 r0,1,0
pfcount|-2|readonly|hyperloglog,read|RW,access i1 r-1,1,0
pfdebug|3|admin,denyoom,write|admin,dangerous,hyperloglog,write|RW,access i2 r0,1,0
pfmerge|-2|denyoom,write|hyperloglog,write|RW,access,insert i1 r0,1,0;RO,access i2 r-1,1,0
pfselftest|1|admin|admin,dangerous,hyperloglog|
ping|-1|fast|connection|
psetex|4|denyoom,write|string,write|OW,update i1 r0,1,0
psubscribe|-2|loading,noscript,pubsub,stale|pubsub|
psync|-3|admin,no_async_loading,no_multi,noscript|admin,dangerous|
pttl|2|fast,readonly|keyspace,read|RO,access i1 r0,1,0
publish|3|fast,loading,pubsub,stale|pubsub|
pubsub|-2|||
punsubscribe|-1|loading,noscript,pubsub,stale|pubsub|
quit|-1|allow_busy,fast,loading,no_auth,noscript,stale|connection|
randomkey|1|readonly|keyspace,read|
readonly|1|fast,loading,stale|connection|
readwrite|1|fast,loading,stale|connection|
rename|3|write|keyspace,write|RW,access,delete i1 r0,1,0;OW,update i2 r0,1,0
renamenx|3|fast,write|keyspace,write|RW,access,delete i1 r0,1,0;OW,insert i2 r0,1,0
replconf|-1|admin,allow_busy,loading,noscript,stale|admin,dangerous|
replicaof|3|admin,no_async_loading,noscript,stale|admin,dangerous|
reset|1|allow_busy,fast,loading,no_auth,noscript,stale|connection|
restore|-4|denyoom,write|dangerous,keyspace,write|OW,update i1 r0,1,0
restore-asking|-4|asking,denyoom,write|dangerous,keyspace,write|OW,update i1 r0,1,0
role|1|fast,loading,noscript,stale|admin,dangerous|
rpop|-2|fast,write|list,write|RW,access,delete i1 r0,1,0
rpoplpush|3|denyoom,write|list,write|RW,access,delete i1 r0,1,0;RW,insert i2 r0,1,0
rpush|-3|denyoom,fast,write|list,write|RW,insert i1 r0,1,0
rpushx|-3|denyoom,fast,write|list,write|RW,insert i1 r0,1,0
sadd|-3|denyoom,fast,write|set,write|RW,insert i1 r0,1,0
save|1|admin,no_async_loading,no_multi,noscript|admin,dangerous|
scan|-2|readonly|keyspace,read|
scard|2|fast,readonly|read,set|RO i1 r0,1,0
script|-2|||
sdiff|-2|readonly|read,set|RO,access i1 r-1,1,0
sdiffstore|-3|denyoom,write|set,write|OW,update i1 r0,1,0;RO,access i2 r-1,1,0
select|2|fast,loading,stale|connection|
set|-3|denyoom,write|string,write|RW,access,update,variable_flags i1 r0,1,0
setbit|4|denyoom,write|bitmap,write|RW,access,update i1 r0,1,0
setex|4|denyoom,write|string,write|OW,update i1 r0,1,0
setnx|3|denyoom,fast,write|string,write|OW,insert i1 r0,1,0
setrange|4|denyoom,write|string,write|RW,update i1 r0,1,0
shutdown|-1|admin,allow_busy,loading,no_multi,noscript,stale|admin,dangerous|
sinter|-2|readonly|read,set|RO,access i1 r-1,1,0
sintercard|-3|movablekeys,readonly|read,set|RO,access i1 n0,1,1
sinterstore|-3|denyoom,write|set,write|RW,update i1 r0,1,0;RO,access i2 r-1,1,0
sismember|3|fast,readonly|read,set|RO i1 r0,1,0
slaveof|3|admin,no_async_loading,noscript,stale|admin,dangerous|
slowlog|-2|||
smembers|2|readonly|read,set|RO,access i1 r0,1,0
smismember|-3|fast,readonly|read,set|RO,access i1 r0,1,0
smove|4|fast,write|set,write|RW,access,delete i1 r0,1,0;RW,insert i2 r0,1,0
sort|-2|denyoom,movablekeys,write|dangerous,list,set,sortedset,write|RO,access i1 r0,1,0;RO,access ? ?;OW,update ? ?
sort_ro|-2|movablekeys,readonly|dangerous,list,read,set,sortedset|RO,access i1 r0,1,0;RO,access ? ?
spop|-2|fast,write|set,write|RW,access,delete i1 r0,1,0
spublish|3|fast,loading,pubsub,stale|pubsub|not_key i1 r0,1,0
srandmember|-2|readonly|read,set|RO,access i1 r0,1,0
srem|-3|fast,write|set,write|RW,delete i1 r0,1,0
sscan|-3|readonly|read,set|RO,access i1 r0,1,0
ssubscribe|-2|loading,noscript,pubsub,stale|pubsub|not_key i1 r-1,1,0
strlen|2|fast,readonly|read,string|RO i1 r0,1,0
subscribe|-2|loading,noscript,pubsub,stale|pubsub|
substr|4|readonly|read,string|RO,access i1 r0,1,0
sunion|-2|readonly|read,set|RO,access i1 r-1,1,0
sunionstore|-3|denyoom,write|set,write|OW,update i1 r0,1,0;RO,access i2 r-1,1,0
sunsubscribe|-1|loading,noscript,pubsub,stale|pubsub|not_key i1 r-1,1,0
swapdb|3|fast,write|dangerous,keyspace,write|
sync|1|admin,no_async_loading,no_multi,noscript|admin,dangerous|
time|1|fast,loading,stale||
touch|-2|fast,readonly|keyspace,read|RO i1 r-1,1,0
ttl|2|fast,readonly|keyspace,read|RO,access i1 r0,1,0
type|2|fast,readonly|keyspace,read|RO i1 r0,1,0
unlink|-2|fast,write|keyspace,write|RM,delete i1 r-1,1,0
unsubscribe|-1|loading,noscript,pubsub,stale|pubsub|
unwatch|1|allow_busy,fast,loading,noscript,stale|transaction|
wait|3|noscript|connection|
watch|-2|allow_busy,fast,loading,noscript,stale|transaction|RO i1 r-1,1,0
xack|-4|fast,write|stream,write|RW,update i1 r0,1,0
xadd|-5|denyoom,fast,write|stream,write|RW,update i1 r0,1,0
xautoclaim|-6|fast,write|stream,write|RW,delete i1 r0,1,0
xclaim|-6|fast,write|stream,write|RW,update i1 r0,1,0
xdel|-3|fast,write|stream,write|RW,delete i1 r0,1,0
xgroup|-2|||
xinfo|-2|||
xlen|2|fast,readonly|read,stream|RO i1 r0,1,0
xpending|-3|readonly|read,stream|RO,access i1 r0,1,0
xrange|-4|readonly|read,stream|RO,access i1 r0,1,0
xread|-4|blocking,movablekeys,readonly|blocking,read,stream|RO,access kSTREAMS,1 r-1,1,2
xreadgroup|-7|blocking,movablekeys,write|blocking,stream,write|RO,access kSTREAMS,4 r-1,1,2
xrevrange|-4|readonly|read,stream|RO,access i1 r0,1,0
xsetid|-3|denyoom,fast,write|stream,write|RW,update i1 r0,1,0
xtrim|-4|write|stream,write|RW,delete i1 r0,1,0
zadd|-4|denyoom,fast,write|sortedset,write|RW,update i1 r0,1,0
zcard|2|fast,readonly|read,sortedset|RO i1 r0,1,0
zcount|4|fast,readonly|read,sortedset|RO,access i1 r0,1,0
zdiff|-3|movablekeys,readonly|read,sortedset|RO,access i1 n0,1,1
zdiffstore|-4|denyoom,movablekeys,write|sortedset,write|OW,update i1 r0,1,0;RO,access i2 n0,1,1
zincrby|4|denyoom,fast,write|sortedset,write|RW,access,update i1 r0,1,0
zinter|-3|movablekeys,readonly|read,sortedset|RO,access i1 n0,1,1
zintercard|-3|movablekeys,readonly|read,sortedset|RO,access i1 n0,1,1
zinterstore|-4|denyoom,movablekeys,write|sortedset,write|OW,update i1 r0,1,0;RO,access i2 n0,1,1
zlexcount|4|fast,readonly|read,sortedset|RO,access i1 r0,1,0
zmpop|-4|movablekeys,write|sortedset,write|RW,access,delete i1 n0,1,1
zmscore|-3|fast,readonly|read,sortedset|RO,access i1 r0,1,0
zpopmax|-2|fast,write|sortedset,write|RW,access,delete i1 r0,1,0
zpopmin|-2|fast,write|sortedset,write|RW,access,delete i1 r0,1,0
zrandmember|-2|readonly|read,sortedset|RO,access i1 r0,1,0
zrange|-4|readonly|read,sortedset|RO,access i1 r0,1,0
zrangebylex|-4|readonly|read,sortedset|RO,access i1 r0,1,0
zrangebyscore|-4|readonly|read,sortedset|RO,access i1 r0,1,0
zrangestore|-5|denyoom,write|sortedset,write|OW,update i1 r0,1,0;RO,access i2 r0,1,0
zrank|3|fast,readonly|read,sortedset|RO,access i1 r0,1,0
zrem|-3|fast,write|sortedset,write|RW,delete i1 r0,1,0
zremrangebylex|4|write|sortedset,write|RW,delete i1 r0,1,0
zremrangebyrank|4|write|sortedset,write|RW,delete i1 r0,1,0
zremrangebyscore|4|write|sortedset,write|RW,delete i1 r0,1,0
zrevrange|-4|readonly|read,sortedset|RO,access i1 r0,1,0
zrevrangebylex|-4|readonly|read,sortedset|RO,access i1 r0,1,0
zrevrangebyscore|-4|readonly|read,sortedset|RO,access i1 r0,1,0
zrevrank|3|fast,readonly|read,sortedset|RO,access i1 r0,1,0
zscan|-3|readonly|read,sortedset|RO,access i1 r0,1,0
zscore|3|fast,readonly|read,sortedset|RO,access i1 r0,1,0
zunion|-3|movablekeys,readonly|read,sortedset|RO,access i1 n0,1,1
zunionstore|-4|denyoom,movablekeys,write|sortedset,write|OW,update i1 r0,1,0;RO,access i2 n0,1,1
"""  # noqa: E501
