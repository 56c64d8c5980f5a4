"""What is known of one client, and what all clients of a node share.

    Frontend    one for each node: the backend, the limits, who is connected, counters, cursors
    Connection  one for each client: protocol, read level, name; commands read and change it

Invariants: everything is bounded: connections by client.max_clients, cursors by node.cursors,
names by NAME_BYTES_MAX. The password is compared in constant time
and is in no reply.

What a client may be in the middle of is its `mode`, 0 for nearly all: the session looks at that
one number, and only then at the rest (node.modes).

A crash loses all of this with the connections it belongs to.

Does not do: read or write bytes (node.session), know commands (node.commands).

Proved by: tests/node/test_session.py, tests/node/test_commands.py
"""

from __future__ import annotations

import hmac
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from node.backend import Backend, Machine
from node.config import Config
from node.cursors import Cursors
from node.meters import CommandMeter
from node.pubsub import PubSub
from node.reads import Level
from node.tracking import Tracker, Tracking
from node.watch import Watch
from node.watches import Watches
from statemachine.commands import BatchBuilder
from statemachine.fs import ReadFile

if TYPE_CHECKING:
    from node.commands.spec import Command
    from node.transaction import Transaction

__all__ = ["MODE", "Connection", "Frontend"]

NAME_BYTES_MAX: Final = 4_096


class MODE:
    """What makes the next request of a connection special, as bits."""

    MULTI: Final = 1
    """Commands are queued until EXEC."""
    SUBSCRIBED: Final = 2
    """RESP2, and there are subscriptions: only a few commands are allowed."""
    SKIP: Final = 4
    """The reply to the next command is not sent (CLIENT REPLY SKIP)."""
    SKIPPING: Final = 8
    """This is that command."""


class Frontend:
    """What the connections of one node share.

    Args:
        backend: the replica.
        config: limits, password, default level; read once.
        commands: the table, by name in lower case.
        rng: for RANDOMKEY.
    """

    def __init__(
        self,
        backend: Backend,
        config: Config,
        commands: Mapping[bytes, Command],
        rng: random.Random | None = None,
    ) -> None:
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
        self.pubsub = PubSub(backend, config.client.notify_keyspace_events)
        self.watches = Watches(backend, config.history.progress_ms)
        self.tracker = Tracker(self, backend)
        self.scripts: dict[bytes, bytes] = {}
        """By their SHA1 in hex: scripts that node.commands.scripts knows by their words."""
        self.rng = rng if rng is not None else random.Random(backend.node_id)
        self.max_clients = config.client.max_clients
        self.idle_timeout_s = config.client.idle_timeout_s
        self.shutdown: Callable[[], None] | None = None
        """Ends the process in good order; None: this node lives in somebody else's."""
        self.pause_until_ms = 0
        self.pause_writes_only = False
        self.is_paused = False
        self.held: list[Callable[[], None]] = []
        """Resumes what CLIENT PAUSE holds up."""
        self.connections: dict[int, Connection] = {}
        self.last_id = 0
        self.meter = CommandMeter()
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
            machine=self.backend.machine,
            level=self.default_level,
            is_authenticated=not self.config.client.requirepass,
            connected_ms=self.backend.now_ms(),
        )
        self.connections[connection.id] = connection
        return connection

    def disconnect(self, connection: Connection) -> None:
        """The client has gone."""
        self.connections.pop(connection.id, None)
        self.pubsub.leave(connection)
        self.watches.leave(connection)
        self.tracker.stop(connection)
        connection.keep_file(None)

    def pause(self, until_ms: int, *, writes_only: bool) -> None:
        """CLIENT PAUSE: hold up what clients ask for. A longer pause stays, as does a wider one."""
        was_all = self.is_paused and not self.pause_writes_only
        self.pause_writes_only = writes_only and not was_all
        self.pause_until_ms = max(until_ms, self.pause_until_ms)
        self.is_paused = True

    def unpause(self) -> None:
        """Let all go on."""
        self.is_paused = False
        self.pause_until_ms = 0
        held, self.held = self.held, []
        for resume in held:
            try:
                resume()
            except Exception:  # noqa: BLE001 - one whose socket has gone holds up nobody
                continue

    def tick(self) -> None:
        """Time has passed: the server says so a few times a second."""
        if self.is_paused and self.backend.now_ms() >= self.pause_until_ms:
            self.unpause()
        self.watches.tick()

    def password_is(self, given: bytes) -> bool:
        """In time that does not tell how much of it is right."""
        return hmac.compare_digest(self.config.client.requirepass.encode(), given)


def _nothing(_data: bytes = b"") -> None:
    """Before there is a session."""


def _no_bytes() -> int:
    """Before there is a socket."""
    return 0


@dataclass(slots=True, kw_only=True, eq=False)
class Connection:
    """One client, as commands see it."""

    id: int
    address: str
    local_address: str
    frontend: Frontend = field(repr=False)
    backend: Backend = field(repr=False)
    machine: Machine = field(repr=False)
    """Where reads look: the replica's, or what was fetched for a transaction."""
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
    mode: int = 0
    is_muted: bool = False
    """CLIENT REPLY OFF."""
    transaction: Transaction | None = None
    watches: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """WATCH: key -> the revision that it had (0: it was not there), and the index then."""
    collector: BatchBuilder | None = None
    """Where writes go while a transaction is put together."""
    channels: dict[bytes, None] = field(default_factory=dict)
    patterns: dict[bytes, None] = field(default_factory=dict)
    shards: dict[bytes, None] = field(default_factory=dict)
    """Shard channels: there is one shard, so they differ from channels in name alone."""
    watches_open: dict[int, Watch] = field(default_factory=dict)
    """TRI.WATCH, by id. Those that wait for their client to have room are in both."""
    watches_behind: dict[int, Watch] = field(default_factory=dict)
    last_watch_id: int = 0
    is_feeding: bool = False
    """node.watches is about to go on with those that are behind."""
    tracking: Tracking | None = None
    """CLIENT TRACKING."""
    unsent_bytes: Callable[[], int] = _no_bytes
    """What waits in its socket's buffer."""
    is_full: bool = False
    """The client does not read: nothing more is to be made for it."""
    push: Callable[[bytes], None] = _nothing
    """Send bytes that answer no request."""
    kill: Callable[[], None] = _nothing
    """Close it, whatever it is doing."""
    idle_s: int = 0
    """Whole seconds without a request; the server counts them."""
    kept_file: ReadFile | None = None
    """What TRI.BACKUP reads from."""

    @property
    def batch(self) -> BatchBuilder:
        """Where writes go. To be fetched for each run of writes."""
        return self.backend.batch if self.collector is None else self.collector

    @property
    def subscriptions(self) -> int:
        """Of every kind."""
        return len(self.channels) + len(self.patterns) + len(self.shards)

    @property
    def is_listening(self) -> bool:
        """Whether it is told of things that it does not ask for."""
        return bool(self.subscriptions or self.watches_open)

    def set_mode(self, bit: int, *, on: object) -> None:
        """Set or clear one bit of `mode`."""
        self.mode = self.mode | bit if on else self.mode & ~bit

    def note_subscriptions(self) -> None:
        """After they, the watches, or the protocol, changed."""
        self.set_mode(MODE.SUBSCRIBED, on=self.is_listening and self.protocol == 2)

    def keep_file(self, file: ReadFile | None) -> None:
        """Keep this file open in place of the one before."""
        if self.kept_file is not None:
            self.kept_file.close()
        self.kept_file = file

    def end_transaction(self) -> Transaction | None:
        """No more MULTI and no more watches; what was queued."""
        transaction, self.transaction = self.transaction, None
        self.watches = {}
        self.set_mode(MODE.MULTI, on=False)
        return transaction

    def reset(self) -> None:
        """As RESET leaves it: like a new connection, but with its id and its library."""
        self.frontend.pubsub.leave(self)
        self.frontend.watches.leave(self)
        self.frontend.tracker.stop(self)
        self.keep_file(None)
        self.end_transaction()
        self.is_muted = False
        self.level = self.frontend.default_level
        self.is_authenticated = not self.frontend.config.client.requirepass
        self.protocol = 2
        self.name = b""
        self.mode = 0
