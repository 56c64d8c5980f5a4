"""The table of commands, second half: what is about the connection, this node and the cluster.

What the columns are stands in rows.py, what is made of them in table.py.

Proved by: tests/node/test_commands.py, tests/node/test_differential.py
"""

from __future__ import annotations

from typing import Final

from node.commands import (
    client,
    clients,
    cluster,
    configuration,
    introspect,
    server,
    trimaran,
)
from node.commands.rows import CONTROL as _CONTROL
from node.commands.rows import LOCAL as _LOCAL
from node.commands.rows import NONE as _NONE
from node.commands.rows import ONE as _ONE
from node.commands.rows import READ as _READ
from node.commands.rows import SECOND as _SECOND
from node.commands.rows import Row

__all__ = ["ROWS"]

_R: Final = "readonly"
_ANYTIME: Final = "loading stale"
_OPEN: Final = "noscript loading stale fast no_auth allow_busy"
_CLIENT: Final = "noscript loading stale"
_ADMIN: Final = "admin noscript loading stale"

# fmt: off
ROWS: Final[tuple[Row, ...]] = (
    # The connection.
    ("ping", -1, _LOCAL, "fast", _NONE, "1.0.0", "connection", client.ping,
     "Returns PONG, or the message."),
    ("echo", 2, _LOCAL, "loading stale fast", _NONE, "1.0.0", "connection", client.echo,
     "Returns the message."),
    ("hello", -1, _LOCAL, _OPEN, _NONE, "6.0.0", "connection", client.hello,
     "Changes the protocol."),
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
    ("client|id", 2, _LOCAL, _CLIENT, _NONE, "5.0.0", "connection", clients.id_,
     "Returns the id of the connection."),
    ("client|info", 2, _LOCAL, _CLIENT, _NONE, "6.2.0", "connection", clients.info,
     "Describes the connection."),
    ("client|list", -2, _LOCAL, _ADMIN, _NONE, "2.4.0", "connection", clients.list_,
     "Lists the connections of this node."),
    ("client|getname", 2, _LOCAL, _CLIENT, _NONE, "2.6.9", "connection", clients.getname,
     "Returns the name of the connection."),
    ("client|setname", 3, _LOCAL, _CLIENT, _NONE, "2.6.9", "connection", clients.setname,
     "Names the connection."),
    ("client|setinfo", 4, _LOCAL, _CLIENT, _NONE, "7.2.0", "connection", clients.setinfo,
     "Names the client's library: LIB-NAME or LIB-VER."),
    ("client|no-evict", 3, _LOCAL, _ADMIN, _NONE, "7.0.0", "connection", clients.no_evict,
     "Accepted: nothing is evicted here."),
    ("client|no-touch", 3, _LOCAL, _CLIENT, _NONE, "7.2.0", "connection", clients.no_evict,
     "Accepted: no access times are kept."),
    ("client|kill", -3, _LOCAL, _ADMIN, _NONE, "2.4.0", "connection", clients.kill,
     "Closes connections: addr, or [ID|ADDR|LADDR|TYPE|USER|SKIPME|MAXAGE value] ..."),
    ("client|pause", -3, _LOCAL, _ADMIN, _NONE, "3.0.0", "connection", clients.pause,
     "Holds up what clients ask for, for so many ms."),
    ("client|unpause", 2, _LOCAL, _ADMIN, _NONE, "6.2.0", "connection", clients.unpause,
     "Ends a pause."),
    ("client|reply", 3, _LOCAL, _CLIENT, _NONE, "3.2.0", "connection", clients.reply,
     "Turns replies ON or OFF, or SKIPs the next."),
    ("client|unblock", -3, _LOCAL, _ADMIN, _NONE, "5.0.0", "connection", clients.unblock,
     "Finds nobody: no command blocks."),
    ("client|getredir", 2, _LOCAL, _CLIENT, _NONE, "6.0.0", "connection", clients.getredir,
     "Returns -1: there is no tracking."),
    ("client|trackinginfo", 2, _LOCAL, _CLIENT, _NONE, "6.2.0", "connection",
     clients.trackinginfo, "Says that there is no tracking."),
    ("client|help", 2, _LOCAL, "loading stale", _NONE, "5.0.0", "connection", introspect.help_,
     "Lists the subcommands."),
    # The server.
    ("info", -1, _LOCAL, _ANYTIME, _NONE, "1.0.0", "server", server.info,
     "Describes this node."),
    ("time", 1, _LOCAL, "loading stale fast", _NONE, "2.6.0", "server", server.time_,
     "Returns the cluster's time."),
    ("role", 1, _LOCAL, "noscript loading stale fast", _NONE, "2.8.12", "server", server.role,
     "Returns master or slave, and who the others are."),
    ("lastsave", 1, _LOCAL, "loading stale fast", _NONE, "1.0.0", "server", server.lastsave,
     "Returns when TRI.SNAPSHOT last succeeded here."),
    ("bgsave", -1, _LOCAL, "admin noscript no_async_loading", _NONE, "1.0.0", "server",
     server.bgsave, "Begins a snapshot."),
    ("save", 1, _CONTROL, "admin noscript no_async_loading no_multi", _NONE, "1.0.0", "server",
     server.save, "Writes a snapshot; returns once it is durable."),
    ("shutdown", -1, _LOCAL, "admin noscript loading stale no_multi allow_busy", _NONE, "1.0.0",
     "server", server.shutdown, "Ends this node."),
    ("memory", -2, _LOCAL, "", _NONE, "4.0.0", "server", None,
     "Commands about memory."),
    ("memory|usage", -3, _READ, _R, _SECOND, "4.0.0", "server", server.memory_usage,
     "Returns about how many bytes a key takes."),
    ("memory|help", 2, _LOCAL, "loading stale", _NONE, "4.0.0", "server", introspect.help_,
     "Lists the subcommands."),
    ("acl", -2, _LOCAL, "", _NONE, "6.0.0", "server", None,
     "Commands about users: there is one."),
    ("acl|whoami", 2, _LOCAL, _CLIENT, _NONE, "6.0.0", "server", client.acl_whoami,
     "Returns default."),
    ("acl|help", 2, _LOCAL, "loading stale", _NONE, "6.0.0", "server", introspect.help_,
     "Lists the subcommands."),
    ("config", -2, _LOCAL, "", _NONE, "2.0.0", "server", None,
     "Commands about the configuration."),
    ("config|get", -3, _LOCAL, _ADMIN, _NONE, "2.0.0", "server", configuration.config_get,
     "Returns parameters that fit the patterns."),
    ("config|set", -4, _LOCAL, _ADMIN, _NONE, "2.0.0", "server", configuration.config_set,
     "Sets what can change while it runs; else the value must be what it is."),
    ("config|resetstat", 2, _LOCAL, _ADMIN, _NONE, "2.0.0", "server",
     configuration.config_resetstat, "Sets the counters of INFO to 0."),
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
     "Lists names of commands."),
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
    ("cluster|countkeysinslot", 3, _READ, "stale", _NONE, "3.0.0", "cluster",
     cluster.countkeysinslot, "Counts the keys of a hash slot."),
    ("cluster|getkeysinslot", 4, _READ, "stale", _NONE, "3.0.0", "cluster",
     cluster.getkeysinslot, "Returns keys of a hash slot."),
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
     "Hands leadership over."),
    ("tri.member", -2, _CONTROL, "admin noscript", _NONE, "0.2.0", "trimaran", trimaran.member,
     "Changes or lists the members; an address is host:client:peer[:http]."),
    ("tri.snapshot", 1, _CONTROL, "admin noscript", _NONE, "0.1.0", "trimaran", trimaran.snapshot,
     "Writes a snapshot; returns once it is durable."),
    ("tri.consistency", -1, _LOCAL, _ANYTIME, _NONE, "0.1.0", "trimaran", trimaran.consistency,
     "Sets how fresh reads are: linearizable, lease or eventual."),
    ("tri.get", 2, _READ, "readonly fast no_multi", _ONE, "0.1.0", "trimaran", trimaran.get,
     "Returns value, created and modified revision, and deadline in ms or -1."),
    ("tri.range", -3, _READ, "readonly no_multi", _NONE, "0.1.0", "trimaran", trimaran.range_,
     "Returns keys in order from start up to end."),
    ("tri.prefix", -2, _READ, "readonly no_multi", _NONE, "0.1.0", "trimaran", trimaran.prefix,
     "Returns keys in order that begin so."),
)
# fmt: on
