"""What is known of one client, and what all clients of a node share.

    Frontend    one for each node: the backend, the limits, who is connected, counters, cursors
    Connection  one for each client: protocol, read level, name; commands read and change it

Invariants: everything is bounded: connections by client.max_clients, cursors by CURSORS_MAX
and CURSOR_BYTES_MAX, names by NAME_BYTES_MAX. The password is compared in constant time
and is in no reply.

A SCAN cursor is a number that stands for the last key returned, in a table of this node:
    cursor = tag of this process (20 bits) | a counter (43 bits), never 0
An unknown one (too old, of another node, from before a restart) starts the scan over. That
keeps what SCAN promises: each key that is there throughout is returned at least once; some
are returned twice, which SCAN allows.

A crash loses all of this with the connections it belongs to.

Does not do: read or write bytes (node.session), know commands (node.commands).

Proved by: tests/node/test_session.py, tests/node/test_commands.py
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from node.backend import Backend
from node.config import Config
from node.reads import Level

if TYPE_CHECKING:
    from node.commands.spec import Command

__all__ = ["Connection", "Cursors", "Frontend"]

CURSORS_MAX: Final = 4_096
CURSOR_BYTES_MAX: Final = 4 * 1024 * 1024
NAME_BYTES_MAX: Final = 4_096
_COUNTER_BITS: Final = 43


class Cursors:
    """Where the scans of this node stand."""

    __slots__ = ("_bytes", "_counter", "_keys", "_tag")

    def __init__(self, seed: str) -> None:
        digest = hashlib.sha256(seed.encode()).digest()
        self._tag = int.from_bytes(digest[:3]) >> 4 << _COUNTER_BITS
        self._counter = 0
        self._keys: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0

    def new(self, key: bytes) -> int:
        """A cursor that stands behind `key`. The oldest ones are forgotten for it."""
        self._counter = (self._counter + 1) % (1 << _COUNTER_BITS)
        cursor = self._tag | self._counter or 1
        self._keys[cursor] = key
        self._bytes += len(key)
        while len(self._keys) > CURSORS_MAX or self._bytes > CURSOR_BYTES_MAX:
            _, forgotten = self._keys.popitem(last=False)
            self._bytes -= len(forgotten)
        return cursor

    def key(self, cursor: int) -> bytes | None:
        """The key that the cursor stands behind; None: start from the beginning."""
        return self._keys.get(cursor)


class Frontend:
    """What the connections of one node share.

    Args:
        backend: the replica.
        config: limits, password, default level; read once.
        commands: the table, by name in lower case.
    """

    def __init__(self, backend: Backend, config: Config, commands: Mapping[bytes, Command]) -> None:
        self.backend = backend
        self.config = config
        self.commands = commands
        self.default_level = Level(config.client.consistency)
        self.key_bytes_max = config.limits.key_bytes_max
        self.value_bytes_max = config.limits.value_bytes_max
        self.small_bytes_max = min(self.key_bytes_max, self.value_bytes_max)
        """What came in so few bytes is within both limits, all of it."""
        self.entry_bytes_max = config.limits.entry_bytes_max
        self.output_bytes_max = config.client.output_buffer_bytes_max
        self.started_ms = backend.now_ms()
        self.saved_ms = self.started_ms
        """When a snapshot that a client asked for became durable; the start, before that."""
        self.cursors = Cursors(f"{backend.node_id} {self.started_ms}")
        self.connections: dict[int, Connection] = {}
        self.last_id = 0
        self.connections_total = 0
        self.rejected_total = 0
        self.commands_total = 0

    def connect(self, address: str, local_address: str) -> Connection:
        """A new client."""
        self.last_id += 1
        self.connections_total += 1
        connection = Connection(
            id=self.last_id,
            address=address,
            local_address=local_address,
            frontend=self,
            backend=self.backend,
            level=self.default_level,
            is_authenticated=not self.config.client.requirepass,
            connected_ms=self.backend.now_ms(),
        )
        self.connections[connection.id] = connection
        return connection

    def disconnect(self, connection: Connection) -> None:
        """The client has gone."""
        self.connections.pop(connection.id, None)

    def password_is(self, given: bytes) -> bool:
        """In time that does not tell how much of it is right."""
        return hmac.compare_digest(self.config.client.requirepass.encode(), given)


@dataclass(slots=True, kw_only=True, eq=False)
class Connection:
    """One client, as commands see it."""

    id: int
    address: str
    local_address: str
    frontend: Frontend = field(repr=False)
    backend: Backend = field(repr=False)
    level: Level
    is_authenticated: bool
    connected_ms: int
    protocol: int = 2
    name: bytes = b""
    library_name: bytes = b""
    library_version: bytes = b""
    last_command: str = "NULL"
    is_closing: bool = False
    """Set by QUIT: nothing more is read, what was answered is still sent."""

    def reset(self) -> None:
        """As RESET leaves it: like a new connection, but with its id and its library."""
        self.level = self.frontend.default_level
        self.is_authenticated = not self.frontend.config.client.requirepass
        self.protocol = 2
        self.name = b""
