"""The table of commands: the only list of what this node answers to.

    name, arity, kind, flags, (first key, last key, step), since, group, handler, one line

COMMAND, COMMAND DOCS, HELP, the dispatch and the tests are made from it. Names, arities, flags,
places of keys, groups and `since` are Redis's (a test compares them with redis-server);
`since` of TRI.* is Trimaran's. What is not here is answered as an unknown command.

Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

from typing import Final

from node.commands import (
    client,
    cluster,
    introspect,
    keys,
    server,
    strings,
    trimaran,
)
from node.commands.spec import Command, Handler, Kind

__all__ = ["COMMANDS"]

_LOCAL, _READ, _WRITE, _CONTROL = Kind.LOCAL, Kind.READ, Kind.WRITE, Kind.CONTROL
_NONE: Final = (0, 0, 0)
_ONE: Final = (1, 1, 1)
_ALL: Final = (1, -1, 1)
_PAIRS: Final = (1, -1, 2)

_R: Final = "readonly"
_RF: Final = "readonly fast"
_W: Final = "write denyoom"
_WF: Final = "write denyoom fast"
_ANYTIME: Final = "loading stale"
_OPEN: Final = "noscript loading stale fast no_auth allow_busy"
_CLIENT: Final = "noscript loading stale"
_ADMIN: Final = "admin noscript loading stale"

_Row = tuple[str, int, Kind, str, tuple[int, int, int], str, str, Handler | None, str]

# fmt: off
_ROWS: Final[tuple[_Row, ...]] = (
    # Strings.
    ("get", 2, _READ, _RF, _ONE, "1.0.0", "string", strings.get,
     "Returns the value of a key."),
    ("set", -3, _WRITE, _W, _ONE, "1.0.0", "string", strings.set_value,
     "Sets the value of a key: [NX|XX|IFEQ v|IFNE v] [GET] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL]."),
    ("setnx", 3, _WRITE, _WF, _ONE, "1.0.0", "string", strings.setnx,
     "Sets the value of a key that does not exist."),
    ("setex", 4, _WRITE, _W, _ONE, "2.0.0", "string", strings.setex,
     "Sets value and time to live in seconds."),
    ("psetex", 4, _WRITE, _W, _ONE, "2.6.0", "string", strings.psetex,
     "Sets value and time to live in milliseconds."),
    ("getset", 3, _WRITE, _WF, _ONE, "1.0.0", "string", strings.getset,
     "Sets the value of a key and returns the old one."),
    ("mget", -2, _READ, _RF, _ALL, "1.0.0", "string", strings.mget,
     "Returns the values of keys, at one moment."),
    ("mset", -3, _WRITE, _W, _PAIRS, "1.0.1", "string", strings.mset,
     "Sets keys, all at once."),
    ("strlen", 2, _READ, _RF, _ONE, "2.2.0", "string", strings.strlen,
     "Returns the length of a value."),
    ("incr", 2, _WRITE, _WF, _ONE, "1.0.0", "string", strings.incr,
     "Adds one to a number."),
    ("decr", 2, _WRITE, _WF, _ONE, "1.0.0", "string", strings.decr,
     "Takes one from a number."),
    ("incrby", 3, _WRITE, _WF, _ONE, "1.0.0", "string", strings.incrby,
     "Adds to a number."),
    ("decrby", 3, _WRITE, _WF, _ONE, "1.0.0", "string", strings.decrby,
     "Takes from a number."),
    # Keys.
    ("del", -2, _WRITE, "write", _ALL, "1.0.0", "generic", keys.delete,
     "Deletes keys."),
    ("unlink", -2, _WRITE, "write fast", _ALL, "4.0.0", "generic", keys.delete,
     "Deletes keys: the same as DEL here."),
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
    ("wait", 3, _LOCAL, "noscript", _NONE, "3.0.0", "generic", server.wait,
     "Returns how many replicas are certain to hold this connection's writes."),
    ("dbsize", 1, _READ, _RF, _NONE, "1.0.0", "server", keys.dbsize,
     "Counts the keys."),
    ("flushall", -1, _WRITE, "write", _NONE, "1.0.0", "server", keys.flush,
     "Deletes all keys."),
    ("flushdb", -1, _WRITE, "write", _NONE, "1.0.0", "server", keys.flush,
     "Deletes all keys: there is one database."),
    # The connection.
    ("ping", -1, _LOCAL, "fast", _NONE, "1.0.0", "connection", client.ping,
     "Returns PONG, or the message."),
    ("echo", 2, _LOCAL, "loading stale fast", _NONE, "1.0.0", "connection", client.echo,
     "Returns the message."),
    ("hello", -1, _LOCAL, _OPEN, _NONE, "6.0.0", "connection", client.hello,
     "Changes the protocol: [2|3 [AUTH user password] [SETNAME name]]."),
    ("auth", -2, _LOCAL, _OPEN, _NONE, "1.0.0", "connection", client.auth,
     "Authenticates the connection."),
    ("select", 2, _LOCAL, "loading stale fast", _NONE, "1.0.0", "connection", client.select,
     "Changes the database: there is only 0."),
    ("quit", -1, _LOCAL, _OPEN, _NONE, "1.0.0", "connection", client.quit_,
     "Closes the connection."),
    ("reset", 1, _LOCAL, _OPEN, _NONE, "6.2.0", "connection", client.reset,
     "Makes the connection as new."),
    ("client", -2, _LOCAL, "", _NONE, "2.4.0", "connection", None,
     "Commands about clients."),
    ("client|id", 2, _LOCAL, _CLIENT, _NONE, "5.0.0", "connection", client.client_id,
     "Returns the id of the connection."),
    ("client|info", 2, _LOCAL, _CLIENT, _NONE, "6.2.0", "connection", client.client_info,
     "Describes the connection."),
    ("client|list", -2, _LOCAL, _ADMIN, _NONE, "2.4.0", "connection", client.client_list,
     "Lists the connections of this node."),
    ("client|getname", 2, _LOCAL, _CLIENT, _NONE, "2.6.9", "connection", client.client_getname,
     "Returns the name of the connection."),
    ("client|setname", 3, _LOCAL, _CLIENT, _NONE, "2.6.9", "connection", client.client_setname,
     "Names the connection."),
    ("client|setinfo", 4, _LOCAL, _CLIENT, _NONE, "7.2.0", "connection", client.client_setinfo,
     "Names the client's library: LIB-NAME or LIB-VER."),
    ("client|no-evict", 3, _LOCAL, _ADMIN, _NONE, "7.0.0", "connection", client.client_no_evict,
     "Accepted: nothing is evicted here."),
    ("client|no-touch", 3, _LOCAL, _CLIENT, _NONE, "7.2.0", "connection", client.client_no_evict,
     "Accepted: no access times are kept."),
    ("client|help", 2, _LOCAL, "loading stale", _NONE, "5.0.0", "connection", introspect.help_,
     "Lists the subcommands."),
    # The server.
    ("info", -1, _LOCAL, _ANYTIME, _NONE, "1.0.0", "server", server.info,
     "Describes this node: [section ...]."),
    ("time", 1, _LOCAL, "loading stale fast", _NONE, "2.6.0", "server", server.time_,
     "Returns the cluster's time."),
    ("role", 1, _LOCAL, "noscript loading stale fast", _NONE, "2.8.12", "server", server.role,
     "Returns master or slave, and who the others are."),
    ("lastsave", 1, _LOCAL, "loading stale fast", _NONE, "1.0.0", "server", server.lastsave,
     "Returns when TRI.SNAPSHOT last succeeded here."),
    ("config", -2, _LOCAL, "", _NONE, "2.0.0", "server", None,
     "Commands about the configuration."),
    ("config|get", -3, _LOCAL, _ADMIN, _NONE, "2.0.0", "server", server.config_get,
     "Returns parameters that fit the patterns."),
    ("config|set", -4, _LOCAL, _ADMIN, _NONE, "2.0.0", "server", server.config_set,
     "Refused, unless the value is what it is already."),
    ("config|resetstat", 2, _LOCAL, _ADMIN, _NONE, "2.0.0", "server", server.config_resetstat,
     "Sets the counters of INFO to 0."),
    ("config|help", 2, _LOCAL, "loading stale", _NONE, "5.0.0", "server", introspect.help_,
     "Lists the subcommands."),
    ("command", -1, _LOCAL, _ANYTIME, _NONE, "2.8.13", "server", introspect.command,
     "Describes all commands."),
    ("command|count", 2, _LOCAL, _ANYTIME, _NONE, "2.8.13", "server", introspect.count,
     "Counts the commands."),
    ("command|docs", -2, _LOCAL, _ANYTIME, _NONE, "7.0.0", "server", introspect.docs,
     "Returns what commands are for."),
    ("command|info", -2, _LOCAL, _ANYTIME, _NONE, "2.8.13", "server", introspect.info,
     "Describes commands."),
    ("command|list", -2, _LOCAL, _ANYTIME, _NONE, "7.0.0", "server", introspect.list_,
     "Lists names of commands: [FILTERBY ...]."),
    ("command|getkeys", -4, _LOCAL, _ANYTIME, _NONE, "2.8.13", "server", introspect.getkeys,
     "Returns the keys of a whole command."),
    ("command|help", 2, _LOCAL, _ANYTIME, _NONE, "5.0.0", "server", introspect.help_,
     "Lists the subcommands."),
    # The cluster.
    ("cluster", -2, _LOCAL, "", _NONE, "3.0.0", "cluster", None,
     "Commands about the cluster."),
    ("cluster|slots", 2, _LOCAL, "stale", _NONE, "3.0.0", "cluster", cluster.slots,
     "Returns who serves which slots."),
    ("cluster|shards", 2, _LOCAL, "stale", _NONE, "7.0.0", "cluster", cluster.shards,
     "Returns the one shard and its nodes."),
    ("cluster|nodes", 2, _LOCAL, "stale", _NONE, "3.0.0", "cluster", cluster.nodes,
     "Returns a line for each node."),
    ("cluster|info", 2, _LOCAL, "stale", _NONE, "3.0.0", "cluster", cluster.info,
     "Returns the state of the cluster."),
    ("cluster|myid", 2, _LOCAL, "stale", _NONE, "3.0.0", "cluster", cluster.myid,
     "Returns the id of this node."),
    ("cluster|myshardid", 2, _LOCAL, "stale", _NONE, "7.2.0", "cluster", cluster.myshardid,
     "Returns the id of the shard."),
    ("cluster|keyslot", 3, _LOCAL, "stale", _NONE, "3.0.0", "cluster", cluster.keyslot,
     "Returns the hash slot of a key."),
    ("cluster|help", 2, _LOCAL, _ANYTIME, _NONE, "5.0.0", "cluster", introspect.help_,
     "Lists the subcommands."),
    ("readonly", 1, _LOCAL, "loading stale fast", _NONE, "3.0.0", "cluster", client.readonly,
     "Reads of this connection may be stale from now on."),
    ("readwrite", 1, _LOCAL, "loading stale fast", _NONE, "3.0.0", "cluster", client.readwrite,
     "Reads are as fresh as configured again."),
    ("asking", 1, _LOCAL, "fast", _NONE, "3.0.0", "cluster", client.asking,
     "Accepted: nothing ever migrates."),
    # Trimaran's own.
    ("tri.status", 1, _LOCAL, _ANYTIME, _NONE, "0.1.0", "trimaran", trimaran.status,
     "Describes this replica, as JSON."),
    ("tri.digest", 1, _LOCAL, "admin", _NONE, "0.1.0", "trimaran", trimaran.digest,
     "Returns the applied index and the SHA-256 of the state."),
    ("tri.transfer", -1, _CONTROL, "admin noscript", _NONE, "0.1.0", "trimaran", trimaran.transfer,
     "Hands leadership over: [member]."),
    ("tri.member", -2, _CONTROL, "admin noscript", _NONE, "0.2.0", "trimaran", trimaran.member,
     "Changes who the members are: ADD id host:client:peer[:http], REMOVE id, or LIST."),
    ("tri.snapshot", 1, _CONTROL, "admin noscript", _NONE, "0.1.0", "trimaran", trimaran.snapshot,
     "Writes a snapshot; returns once it is durable."),
    ("tri.consistency", -1, _LOCAL, _ANYTIME, _NONE, "0.1.0", "trimaran", trimaran.consistency,
     "Sets how fresh reads are: linearizable, lease or eventual."),
)
# fmt: on


def _build() -> dict[bytes, Command]:
    """The rows as commands, subcommands inside their commands."""
    outer: dict[bytes, Command] = {}
    inner: dict[str, dict[bytes, Command]] = {}
    for name, arity, kind, flags, places, since, group, handler, summary in _ROWS:
        container, bar, subcommand = name.partition("|")
        subcommands = {} if bar else inner.setdefault(name, {})
        row = Command(
            name=name,
            arity=arity,
            kind=kind,
            flags=tuple(flags.split()),
            keys=places,
            since=since,
            group=group,
            summary=summary,
            handler=handler,
            subcommands=subcommands,
        )
        known = inner[container] if bar else outer
        key = (subcommand if bar else name).encode()
        assert key not in known, name
        known[key] = row
    return outer


COMMANDS: Final = _build()
"""By name, in lower case and in the order of the table."""
