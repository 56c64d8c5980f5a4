"""The table of commands, first half: what is about the data.

Strings, keys, transactions, scripts, messages. What the columns are stands in rows.py, what is
made of them in table.py.

Proved by: tests/node/test_commands.py, tests/node/test_differential.py
"""

from __future__ import annotations

from typing import Final

from node.commands import (
    counters,
    introspect,
    keys,
    lcs,
    many,
    messages,
    moving,
    ranges,
    scripts,
    server,
    strings,
    transactions,
)
from node.commands.rows import ALL as _ALL
from node.commands.rows import LOCAL as _LOCAL
from node.commands.rows import NONE as _NONE
from node.commands.rows import ONE as _ONE
from node.commands.rows import PAIRS as _PAIRS
from node.commands.rows import READ as _READ
from node.commands.rows import SECOND as _SECOND
from node.commands.rows import WRITE as _WRITE
from node.commands.rows import Row

__all__ = ["ROWS"]

_R: Final = "readonly"
_RF: Final = "readonly fast"
_W: Final = "write denyoom"
_WF: Final = "write denyoom fast"
_TRANSACTION: Final = "noscript loading stale fast allow_busy"
_SCRIPT: Final = "noscript stale skip_monitor no_mandatory_keys movablekeys"
_LISTEN: Final = "pubsub noscript loading stale"
_PUBSUB: Final = "pubsub loading stale"

# fmt: off
ROWS: Final[tuple[Row, ...]] = (
    # Strings.
    ("get", 2, _READ, _RF, _ONE, "1.0.0", "string", strings.get,
     "Returns the value of a key."),
    ("set", -3, _WRITE, _W, _ONE, "1.0.0", "string", strings.set_value,
     "Sets the value of a key: "
     "[NX|XX|IFEQ v|IFNE v|IFREV n] [GET] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL]."),
    ("setnx", 3, _WRITE, _WF, _ONE, "1.0.0", "string", strings.setnx,
     "Sets the value of a key that does not exist."),
    ("setex", 4, _WRITE, _W, _ONE, "2.0.0", "string", strings.setex,
     "Sets value and time to live in seconds."),
    ("psetex", 4, _WRITE, _W, _ONE, "2.6.0", "string", strings.psetex,
     "Sets value and time to live in milliseconds."),
    ("getset", 3, _WRITE, _WF, _ONE, "1.0.0", "string", strings.getset,
     "Sets the value of a key and returns the old one."),
    ("getdel", 2, _WRITE, "write fast", _ONE, "6.2.0", "string", strings.getdel,
     "Returns the value of a key and deletes it."),
    ("getex", -2, _WRITE, "write fast", _ONE, "6.2.0", "string", strings.getex,
     "Returns the value and sets the time to live: [EX s|PX ms|EXAT s|PXAT ms|PERSIST]."),
    ("mget", -2, _READ, _RF, _ALL, "1.0.0", "string", many.mget,
     "Returns the values of keys, at one moment."),
    ("mset", -3, _WRITE, _W, _PAIRS, "1.0.1", "string", many.mset,
     "Sets keys, all at once."),
    ("msetnx", -3, _WRITE, _W, _PAIRS, "1.0.1", "string", many.msetnx,
     "Sets keys, all at once, if none of them exists."),
    ("msetex", -4, _WRITE, _W + " movablekeys", (1, 2), "8.4.0", "string", many.msetex,
     "Sets keys, all or none: numkeys k v ... [NX|XX] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL]."),
    ("append", 3, _WRITE, _WF, _ONE, "2.0.0", "string", ranges.append,
     "Adds to the end of a value."),
    ("getrange", 4, _READ, _R, _ONE, "2.4.0", "string", ranges.getrange,
     "Returns a part of a value."),
    ("substr", 4, _READ, _R, _ONE, "1.0.0", "string", ranges.getrange,
     "Returns a part of a value: the old name of GETRANGE."),
    ("setrange", 4, _WRITE, _W, _ONE, "2.2.0", "string", ranges.setrange,
     "Writes over a part of a value."),
    ("lcs", -3, _READ, _R, (1, 2, 1), "7.0.0", "string", lcs.lcs,
     "Returns the longest common subsequence: [LEN] [IDX [MINMATCHLEN n] [WITHMATCHLEN]]."),
    ("setbit", 4, _WRITE, _W, _ONE, "2.2.0", "bitmap", ranges.setbit,
     "Sets or clears a bit and returns what it was."),
    ("getbit", 3, _READ, _RF, _ONE, "2.2.0", "bitmap", ranges.getbit,
     "Returns a bit."),
    ("bitcount", -2, _READ, _R, _ONE, "2.6.0", "bitmap", ranges.bitcount,
     "Counts the bits that are set: [start end [BYTE|BIT]]."),
    ("strlen", 2, _READ, _RF, _ONE, "2.2.0", "string", strings.strlen,
     "Returns the length of a value."),
    ("incr", 2, _WRITE, _WF, _ONE, "1.0.0", "string", counters.incr,
     "Adds one to a number."),
    ("decr", 2, _WRITE, _WF, _ONE, "1.0.0", "string", counters.decr,
     "Takes one from a number."),
    ("incrby", 3, _WRITE, _WF, _ONE, "1.0.0", "string", counters.incrby,
     "Adds to a number."),
    ("decrby", 3, _WRITE, _WF, _ONE, "1.0.0", "string", counters.decrby,
     "Takes from a number."),
    ("incrbyfloat", 3, _WRITE, _WF, _ONE, "2.6.0", "string", counters.incrbyfloat,
     "Adds to a floating point number."),
    # Keys.
    ("del", -2, _WRITE, "write", _ALL, "1.0.0", "generic", keys.delete,
     "Deletes keys."),
    ("unlink", -2, _WRITE, "write fast", _ALL, "4.0.0", "generic", keys.delete,
     "Deletes keys: the same as DEL here."),
    ("delex", -2, _WRITE, "write fast", _ONE, "8.4.0", "string", moving.delex,
     "Deletes a key by its value: [IFEQ v|IFNE v]."),
    ("delifeq", 3, _WRITE, "write fast", _ONE, "9.0.0", "string", moving.delifeq,
     "Deletes a key if it holds this value: Valkey's name for DELEX IFEQ."),
    ("rename", 3, _WRITE, "write", (1, 2, 1), "1.0.0", "generic", moving.rename,
     "Gives a key another name, in place of what has it."),
    ("renamenx", 3, _WRITE, "write fast", (1, 2, 1), "1.0.0", "generic", moving.renamenx,
     "Gives a key another name that nothing has."),
    ("copy", -3, _WRITE, _W, (1, 2, 1), "6.2.0", "generic", moving.copy,
     "Copies a key: [DB 0] [REPLACE]."),
    ("exists", -2, _READ, _RF, _ALL, "1.0.0", "generic", keys.exists,
     "Counts which of the keys exist."),
    ("touch", -2, _READ, _RF, _ALL, "3.2.1", "generic", keys.exists,
     "Counts which of the keys exist: no access times are kept."),
    ("type", 2, _READ, _RF, _ONE, "1.0.0", "generic", keys.type_of,
     "Returns the type of a value: string or none."),
    ("ttl", 2, _READ, _RF, _ONE, "1.0.0", "generic", keys.ttl,
     "Returns the time to live in seconds."),
    ("pttl", 2, _READ, _RF, _ONE, "2.6.0", "generic", keys.pttl,
     "Returns the time to live in milliseconds."),
    ("expiretime", 2, _READ, _RF, _ONE, "7.0.0", "generic", keys.expiretime,
     "Returns the deadline as Unix seconds."),
    ("pexpiretime", 2, _READ, _RF, _ONE, "7.0.0", "generic", keys.pexpiretime,
     "Returns the deadline as Unix milliseconds."),
    ("expire", -3, _WRITE, "write fast", _ONE, "1.0.0", "generic", keys.expire,
     "Sets the time to live in seconds: [NX|XX|GT|LT]."),
    ("pexpire", -3, _WRITE, "write fast", _ONE, "2.6.0", "generic", keys.pexpire,
     "Sets the time to live in milliseconds: [NX|XX|GT|LT]."),
    ("expireat", -3, _WRITE, "write fast", _ONE, "1.2.0", "generic", keys.expireat,
     "Sets the deadline in Unix seconds: [NX|XX|GT|LT]."),
    ("pexpireat", -3, _WRITE, "write fast", _ONE, "2.6.0", "generic", keys.pexpireat,
     "Sets the deadline in Unix milliseconds: [NX|XX|GT|LT]."),
    ("persist", 2, _WRITE, "write fast", _ONE, "2.2.0", "generic", keys.persist,
     "Takes the deadline off a key."),
    ("scan", -2, _READ, _R, _NONE, "2.8.0", "generic", keys.scan,
     "Walks over the keys: [MATCH pattern] [COUNT n] [TYPE type]."),
    ("keys", 2, _READ, _R, _NONE, "1.0.0", "generic", keys.keys,
     "Returns all keys that fit a pattern."),
    ("randomkey", 1, _READ, _R, _NONE, "1.0.0", "generic", moving.randomkey,
     "Returns some key."),
    ("object", -2, _LOCAL, "", _NONE, "2.2.3", "generic", None,
     "Commands about how a value is kept."),
    ("object|encoding", 3, _READ, _R, _SECOND, "2.2.3", "generic", moving.object_encoding,
     "Returns int, embstr or raw: what Redis would say of such a value."),
    ("object|refcount", 3, _READ, _R, _SECOND, "2.2.3", "generic", moving.object_refcount,
     "Returns 1."),
    ("object|idletime", 3, _READ, _R, _SECOND, "2.2.3", "generic", moving.object_idletime,
     "Returns 0: no access times are kept."),
    ("object|freq", 3, _READ, _R, _SECOND, "4.0.0", "generic", moving.object_freq,
     "Refused: nothing is evicted here."),
    ("object|help", 2, _LOCAL, "loading stale", _NONE, "6.2.0", "generic", introspect.help_,
     "Lists the subcommands."),
    ("wait", 3, _LOCAL, "noscript", _NONE, "3.0.0", "generic", server.wait,
     "Returns how many replicas are certain to hold this connection's writes."),
    ("waitaof", 4, _LOCAL, "noscript", _NONE, "7.2.0", "generic", server.waitaof,
     "Returns who is certain to have this connection's writes on disk."),
    ("dbsize", 1, _READ, _RF, _NONE, "1.0.0", "server", keys.dbsize,
     "Counts the keys."),
    ("flushall", -1, _WRITE, "write", _NONE, "1.0.0", "server", keys.flush,
     "Deletes all keys."),
    ("flushdb", -1, _WRITE, "write", _NONE, "1.0.0", "server", keys.flush,
     "Deletes all keys: there is one database."),
    # Transactions.
    ("multi", 1, _LOCAL, _TRANSACTION, _NONE, "1.2.0", "transactions", transactions.multi,
     "Begins a transaction: what follows is queued."),
    ("exec", 1, _LOCAL, "noscript loading stale skip_slowlog", _NONE, "1.2.0", "transactions",
     transactions.exec_, "Carries out what was queued, at one moment."),
    ("discard", 1, _LOCAL, _TRANSACTION, _NONE, "2.0.0", "transactions", transactions.discard,
     "Forgets what was queued."),
    ("watch", -2, _READ, _TRANSACTION, _ALL, "2.2.0", "transactions", transactions.watch,
     "EXEC does nothing if one of these keys has changed."),
    ("unwatch", 1, _LOCAL, _TRANSACTION, _NONE, "2.2.0", "transactions", transactions.unwatch,
     "Forgets the watched keys."),
    # Scripts.
    ("eval", -3, _WRITE, _SCRIPT, (2, 1), "2.6.0", "scripting", scripts.eval_,
     "Runs one of the lock scripts that are known; there is no Lua."),
    ("evalsha", -3, _WRITE, _SCRIPT, (2, 1), "2.6.0", "scripting", scripts.evalsha,
     "Runs a lock script by its SHA1."),
    ("script", -2, _LOCAL, "", _NONE, "2.6.0", "scripting", None,
     "Commands about scripts."),
    ("script|load", 3, _LOCAL, "noscript stale", _NONE, "2.6.0", "scripting", scripts.script_load,
     "Returns the SHA1 of a lock script; any other is refused."),
    ("script|exists", -3, _LOCAL, "noscript", _NONE, "2.6.0", "scripting", scripts.script_exists,
     "Says which scripts are known."),
    ("script|flush", -2, _LOCAL, "noscript", _NONE, "2.6.0", "scripting", scripts.script_flush,
     "Forgets what was loaded: [ASYNC|SYNC]."),
    ("script|help", 2, _LOCAL, "loading stale", _NONE, "5.0.0", "scripting", introspect.help_,
     "Lists the subcommands."),
    # Messages.
    ("subscribe", -2, _LOCAL, _LISTEN, _NONE, "2.0.0", "pubsub", messages.subscribe,
     "Listens to channels."),
    ("psubscribe", -2, _LOCAL, _LISTEN, _NONE, "2.0.0", "pubsub", messages.psubscribe,
     "Listens to channels that fit patterns."),
    ("unsubscribe", -1, _LOCAL, _LISTEN, _NONE, "2.0.0", "pubsub", messages.unsubscribe,
     "Stops listening to channels."),
    ("punsubscribe", -1, _LOCAL, _LISTEN, _NONE, "2.0.0", "pubsub", messages.punsubscribe,
     "Stops listening to patterns."),
    ("publish", 3, _WRITE, "pubsub loading stale fast", _NONE, "2.0.0", "pubsub", messages.publish,
     "Sends a message, through the log, to the listeners of all nodes."),
    ("ssubscribe", -2, _LOCAL, _LISTEN, _ALL, "7.0.0", "pubsub", messages.ssubscribe,
     "Listens to shard channels: there is one shard."),
    ("sunsubscribe", -1, _LOCAL, _LISTEN, _ALL, "7.0.0", "pubsub", messages.sunsubscribe,
     "Stops listening to shard channels."),
    ("spublish", 3, _WRITE, "pubsub loading stale fast", _ONE, "7.0.0", "pubsub",
     messages.spublish, "Sends a message to a shard channel, through the log."),
    ("pubsub", -2, _LOCAL, "", _NONE, "2.8.0", "pubsub", None,
     "Commands about who listens on this node."),
    ("pubsub|channels", -2, _LOCAL, _PUBSUB, _NONE, "2.8.0", "pubsub", messages.pubsub_channels,
     "Lists channels that somebody listens to: [pattern]."),
    ("pubsub|numsub", -2, _LOCAL, _PUBSUB, _NONE, "2.8.0", "pubsub", messages.pubsub_numsub,
     "Counts the listeners of channels."),
    ("pubsub|numpat", 2, _LOCAL, _PUBSUB, _NONE, "2.8.0", "pubsub", messages.pubsub_numpat,
     "Counts the patterns."),
    ("pubsub|shardchannels", -2, _LOCAL, _PUBSUB, _NONE, "7.0.0", "pubsub",
     messages.pubsub_shardchannels, "Lists shard channels that somebody listens to: [pattern]."),
    ("pubsub|shardnumsub", -2, _LOCAL, _PUBSUB, _NONE, "7.0.0", "pubsub",
     messages.pubsub_shardnumsub, "Counts the listeners of shard channels."),
    ("pubsub|help", 2, _LOCAL, "loading stale", _NONE, "6.2.0", "pubsub", introspect.help_,
     "Lists the subcommands."),
)
# fmt: on
