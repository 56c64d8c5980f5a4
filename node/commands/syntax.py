"""The table of commands, its widest column: what stands behind each name.

    key value     one after the other       [...]     may be left out        a|b     one of them
    KEYWORD       as it stands              <a|b>     one of them has to be  [key ...]  more such

As in Redis's documentation. A command that takes nothing is not here; node.commands.arguments
makes of it what COMMAND DOCS tells. What the words mean is judged by the handlers.

Proved by: tests/node/test_commands_docs.py
"""

from __future__ import annotations

from typing import Final

__all__ = ["SYNTAX"]

SYNTAX: Final[dict[str, str]] = {
    "get": "key",
    "set": (
        "key value [NX|XX|IFEQ value|IFNE value|IFREV revision] [GET] [EX seconds|PX "
        "milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL|LEASE lease-id]"
    ),
    "setnx": "key value",
    "setex": "key seconds value",
    "psetex": "key milliseconds value",
    "getset": "key value",
    "getdel": "key",
    "getex": (
        "key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT "
        "unix-time-milliseconds|PERSIST]"
    ),
    "mget": "key [key ...]",
    "mset": "key value [key value ...]",
    "msetnx": "key value [key value ...]",
    "msetex": (
        "numkeys key value [key value ...] [NX|XX] [EX seconds|PX milliseconds|EXAT "
        "unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]"
    ),
    "append": "key value",
    "getrange": "key start end",
    "substr": "key start end",
    "setrange": "key offset value",
    "lcs": "key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]",
    "setbit": "key offset bit",
    "getbit": "key offset",
    "bitcount": "key [start end [BYTE|BIT]]",
    "strlen": "key",
    "incr": "key",
    "decr": "key",
    "incrby": "key increment",
    "decrby": "key decrement",
    "incrbyfloat": "key increment",
    "del": "key [key ...]",
    "unlink": "key [key ...]",
    "delex": "key [IFEQ value|IFNE value]",
    "delifeq": "key value",
    "rename": "key newkey",
    "renamenx": "key newkey",
    "copy": "source destination [DB destination-db] [REPLACE]",
    "exists": "key [key ...]",
    "touch": "key [key ...]",
    "type": "key",
    "ttl": "key",
    "pttl": "key",
    "expiretime": "key",
    "pexpiretime": "key",
    "expire": "key seconds [NX|XX|GT|LT]",
    "pexpire": "key milliseconds [NX|XX|GT|LT]",
    "expireat": "key unix-time-seconds [NX|XX|GT|LT]",
    "pexpireat": "key unix-time-milliseconds [NX|XX|GT|LT]",
    "persist": "key",
    "scan": "cursor [MATCH pattern] [COUNT count] [TYPE type]",
    "keys": "pattern",
    "object|encoding": "key",
    "object|refcount": "key",
    "object|idletime": "key",
    "object|freq": "key",
    "wait": "numreplicas timeout",
    "waitaof": "numlocal numreplicas timeout",
    "flushall": "[ASYNC|SYNC]",
    "flushdb": "[ASYNC|SYNC]",
    "watch": "key [key ...]",
    "eval": "script numkeys [key [key ...]] [arg [arg ...]]",
    "evalsha": "sha1 numkeys [key [key ...]] [arg [arg ...]]",
    "script|load": "script",
    "script|exists": "sha1 [sha1 ...]",
    "script|flush": "[ASYNC|SYNC]",
    "subscribe": "channel [channel ...]",
    "psubscribe": "pattern [pattern ...]",
    "unsubscribe": "[channel [channel ...]]",
    "punsubscribe": "[pattern [pattern ...]]",
    "publish": "channel message",
    "ssubscribe": "shardchannel [shardchannel ...]",
    "sunsubscribe": "[shardchannel [shardchannel ...]]",
    "spublish": "shardchannel message",
    "pubsub|channels": "[pattern]",
    "pubsub|numsub": "[channel [channel ...]]",
    "pubsub|shardchannels": "[pattern]",
    "pubsub|shardnumsub": "[shardchannel [shardchannel ...]]",
    "ping": "[message]",
    "echo": "message",
    "hello": "[protover [AUTH username password] [SETNAME clientname]]",
    "auth": "[username] password",
    "select": "index",
    "client|list": "[TYPE NORMAL|TYPE PUBSUB] [ID client-id [client-id ...]]",
    "client|setname": "connection-name",
    "client|setinfo": "<LIB-NAME libname|LIB-VER libver>",
    "client|no-evict": "<ON|OFF>",
    "client|no-touch": "<ON|OFF>",
    "client|kill": (
        "<ip:port|[ID client-id] [TYPE type] [USER username] [ADDR ip:port] [LADDR ip:port] "
        "[SKIPME yes/no] [MAXAGE seconds]>"
    ),
    "client|pause": "timeout [WRITE|ALL]",
    "client|reply": "<ON|OFF|SKIP>",
    "client|tracking": (
        "<ON|OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT]"
    ),
    "client|caching": "<YES|NO>",
    "client|unblock": "client-id [TIMEOUT|ERROR]",
    "info": "[section [section ...]]",
    "bgsave": "[SCHEDULE]",
    "shutdown": "[NOSAVE|SAVE] [NOW] [FORCE] [ABORT]",
    "memory|usage": "key [SAMPLES count]",
    "config|get": "parameter [parameter ...]",
    "config|set": "parameter value [parameter value ...]",
    "command|docs": "[command-name [command-name ...]]",
    "command|info": "[command-name [command-name ...]]",
    "command|list": "[FILTERBY <MODULE module-name|ACLCAT category|PATTERN pattern>]",
    "command|getkeys": "command [arg [arg ...]]",
    "cluster|keyslot": "key",
    "cluster|countkeysinslot": "slot",
    "cluster|getkeysinslot": "slot count",
    "tri.member": "<ADD id address|REMOVE id|LIST>",
    "tri.backup": "<BEGIN|READ offset count|END>",
    "tri.transfer": "[member]",
    "tri.consistency": "[LINEARIZABLE|LEASE|EVENTUAL]",
    "tri.get": "key",
    "tri.lease|grant": "milliseconds [ID lease-id]",
    "tri.lease|keepalive": "lease-id",
    "tri.lease|revoke": "lease-id",
    "tri.lease|ttl": "lease-id [KEYS]",
    "tri.lease|list": "[AFTER lease-id] [LIMIT limit]",
    "tri.watch": "<PREFIX prefix|KEY key> [FROM revision] [PREV]",
    "tri.unwatch": "[watch-id [watch-id ...]]",
    "tri.range": "start end [LIMIT limit] [REV]",
    "tri.prefix": "prefix [LIMIT limit] [AFTER key]",
}
