"""Commands of servers later than the table, and of the modules that come with them. Rules may name them.

Of LINES it is known what they do, as of the table: those that clients send by themselves, and those on hashes. What the
others do is not known here: their effects are unknown, and the server is asked for their keys.

Source: Redis 8.2 documentation, "Commands".
"""

LINES = """\
client|no-touch|3|noscript|connection|
client|setinfo|4|noscript|connection|
cluster|myshardid|2|stale||
commandlog|-2|||
commandlog|get|4|admin|admin,dangerous|
commandlog|help|2|loading||
commandlog|len|3|admin|admin,dangerous|
commandlog|reset|3|admin|admin,dangerous|
hexpire|-6|denyoom,fast,write|hash,write|RW,update,delete i1 r0,1,0
hexpireat|-6|denyoom,fast,write|hash,write|RW,update,delete i1 r0,1,0
hexpiretime|-5|fast,readonly|hash,read|RO,access i1 r0,1,0
hgetdel|-5|fast,write|hash,write|RW,access,delete i1 r0,1,0
hgetex|-5|fast,write|hash,write|RW,access,update,delete i1 r0,1,0
hpersist|-5|fast,write|hash,write|RW,update i1 r0,1,0
hpexpire|-6|denyoom,fast,write|hash,write|RW,update,delete i1 r0,1,0
hpexpireat|-6|denyoom,fast,write|hash,write|RW,update,delete i1 r0,1,0
hpexpiretime|-5|fast,readonly|hash,read|RO,access i1 r0,1,0
hpttl|-5|fast,readonly|hash,read|RO,access i1 r0,1,0
hsetex|-6|denyoom,fast,write|hash,write|RW,update,delete i1 r0,1,0
httl|-5|fast,readonly|hash,read|RO,access i1 r0,1,0
waitaof|4|blocking|blocking,connection|
"""

LATER = tuple(
    (
        "CLUSTER SLOT-STATS,"
        "DELEX,DIGEST,"
        "MSETEX,VADD,VCARD,VDIM,VEMB,VGETATTR,VINFO,VISMEMBER,VLINKS,VRANDMEMBER,"
        "VREM,VSETATTR,VSIM,XACKDEL,XDELEX,"
        "JSON.ARRAPPEND,JSON.ARRINDEX,JSON.ARRINSERT,JSON.ARRLEN,JSON.ARRPOP,JSON.ARRTRIM,JSON.CLEAR,JSON.DEBUG,JSON.DEL,"
        "JSON.FORGET,JSON.GET,JSON.MERGE,JSON.MGET,JSON.MSET,JSON.NUMINCRBY,JSON.NUMMULTBY,JSON.OBJKEYS,JSON.OBJLEN,"
        "JSON.RESP,JSON.SET,JSON.STRAPPEND,JSON.STRLEN,JSON.TOGGLE,JSON.TYPE,"
        "FT._LIST,FT.AGGREGATE,FT.ALIASADD,FT.ALIASDEL,FT.ALIASUPDATE,FT.ALTER,FT.CONFIG,FT.CREATE,FT.CURSOR,FT.DICTADD,"
        "FT.DICTDEL,FT.DICTDUMP,FT.DROPINDEX,FT.EXPLAIN,FT.EXPLAINCLI,FT.HYBRID,FT.INFO,FT.PROFILE,FT.SEARCH,FT.SPELLCHECK,"
        "FT.SUGADD,FT.SUGDEL,FT.SUGGET,FT.SUGLEN,FT.SYNDUMP,FT.SYNUPDATE,FT.TAGVALS,"
        "TS.ADD,TS.ALTER,TS.CREATE,TS.CREATERULE,TS.DECRBY,TS.DEL,TS.DELETERULE,TS.GET,TS.INCRBY,TS.INFO,TS.MADD,TS.MGET,"
        "TS.MRANGE,TS.MREVRANGE,TS.QUERYINDEX,TS.RANGE,TS.REVRANGE,"
        "BF.ADD,BF.CARD,BF.EXISTS,BF.INFO,BF.INSERT,BF.LOADCHUNK,BF.MADD,BF.MEXISTS,BF.RESERVE,BF.SCANDUMP,"
        "CF.ADD,CF.ADDNX,CF.COUNT,CF.DEL,CF.EXISTS,CF.INFO,CF.INSERT,CF.INSERTNX,CF.LOADCHUNK,CF.MEXISTS,CF.RESERVE,"
        "CF.SCANDUMP,CMS.INCRBY,CMS.INFO,CMS.INITBYDIM,CMS.INITBYPROB,CMS.MERGE,CMS.QUERY,"
        "TDIGEST.ADD,TDIGEST.BYRANK,TDIGEST.BYREVRANK,TDIGEST.CDF,TDIGEST.CREATE,TDIGEST.INFO,TDIGEST.MAX,TDIGEST.MERGE,"
        "TDIGEST.MIN,TDIGEST.QUANTILE,TDIGEST.RANK,TDIGEST.RESET,TDIGEST.REVRANK,TDIGEST.TRIMMED_MEAN,"
        "TOPK.ADD,TOPK.COUNT,TOPK.INCRBY,TOPK.INFO,TOPK.LIST,TOPK.QUERY,TOPK.RESERVE"
    ).split(",")
)
