"""Client-side caches: who has read what here, and is told when it changes (CLIENT TRACKING).

    a read of a tracking client --note--> readers: key -> clients            (without BCAST)
    the log --apply--> history --deliver--> [invalidate, [key ...]]      and the key is forgotten
                                            [invalidate, nothing]        all keys: FLUSHALL

Told by a push in RESP3, or to the client that REDIRECT names: in RESP2 as a message of the channel
__redis__:invalidate, to which it has to be subscribed. BCAST clients are told of all keys that
begin with one of their prefixes, whether they have read them or not; nothing is kept for them.

Whatever the log did is told of, on every node alike: a write through another node, a key that fell
due, the client's own write. (NOLOOP is refused: the log does not know by which connection a
write came.) A snapshot in place of the log tells everybody to forget everything.

Invariants: a key is noted in the moment in which it is read, so what changes it later tells of it;
it is told before whoever changed it is answered; at most TRACKED_KEYS_MAX keys of TRACKED_BYTES_MAX
bytes are kept, and who is pushed out of it by other keys is told so; one that may have been
read too early to be noted (inside a transaction that writes) is told of at once.

A crash loses all of it with the connections: a client whose connection is gone forgets its cache.

Does not do: keep anything of the values.

Proved by: tests/node/test_tracking.py, tests/cluster/test_stock_clients_more.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from node.replies import NIL, NIL_ARRAY, bulk
from node.watch import push

if TYPE_CHECKING:
    from node.backend import Backend
    from node.connection import Connection, Frontend

__all__ = ["CHANNEL", "TRACKED_BYTES_MAX", "TRACKED_KEYS_MAX", "Tracker", "Tracking"]

CHANNEL: Final = b"__redis__:invalidate"
TRACKED_KEYS_MAX: Final = 100_000
TRACKED_BYTES_MAX: Final = 16 * 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Tracking:
    """What one client asked for."""

    broadcast: bool = False
    opt_in: bool = False
    opt_out: bool = False
    redirect: int = 0
    """The id of the client that is told instead; 0: itself."""
    prefixes: tuple[bytes, ...] = ()
    """With broadcast; (b"",): all keys."""
    caching: bool | None = None
    """What CLIENT CACHING said about the next command."""

    def takes(self) -> bool:
        """Whether the keys of the command that is carried out now are to be noted."""
        caching, self.caching = self.caching, None
        if self.broadcast:
            return False
        return caching is True if self.opt_in else caching is not False


class Tracker:
    """All tracking clients of one node."""

    def __init__(self, frontend: Frontend, backend: Backend) -> None:
        self._frontend = frontend
        self._backend = backend
        self._clients: dict[Connection, Tracking] = {}
        # Oldest first: what was noted first is pushed out first.
        self._readers: dict[bytes, dict[Connection, None]] = {}
        self._bytes = 0
        self._revision = 0  # Everything up to here has been told.

    @property
    def clients_count(self) -> int:
        """Who tracks."""
        return len(self._clients)

    @property
    def keys_count(self) -> int:
        """Keys that somebody has read, and is to be told of."""
        return len(self._readers)

    @property
    def prefixes_count(self) -> int:
        """Of those who are told of every key that begins so."""
        return sum(len(each.prefixes) for each in self._clients.values())

    def start(self, connection: Connection, tracking: Tracking) -> None:
        """From now on, or in another way than before."""
        if not self._clients:
            self._revision = self._backend.applied_index
            self._backend.watch(self.deliver, on=True)
        self._clients[connection] = connection.tracking = tracking

    def stop(self, connection: Connection) -> None:
        """It is told nothing more. Harmless when it does not track."""
        if self._clients.pop(connection, None) is None:
            return
        connection.tracking = None
        if not self._clients:
            self._backend.watch(self.deliver, on=False)
            self._readers.clear()
            self._bytes = 0

    def note(self, connection: Connection, keys: Sequence[bytes]) -> None:
        """The client has just read these."""
        tracking = connection.tracking
        if tracking is None or not tracking.takes():
            return
        readers = self._readers
        for key in keys:
            found = readers.get(key)
            if found is None:
                found = readers[key] = {}
                self._bytes += len(key)
            found[connection] = None
        while len(readers) > TRACKED_KEYS_MAX or self._bytes > TRACKED_BYTES_MAX:
            self._invalidate([next(iter(readers))])

    def deliver(self) -> None:
        """Something may have been applied: tell those who have read it."""
        history = self._backend.history
        if history.first > self._revision + 1:
            self._invalidate_all()
            self._revision = history.first - 1
        changed: dict[bytes, None] = {}
        for run in history.since(self._revision + 1):
            if run.operation == "flush":
                changed.clear()
                self._invalidate_all()
            else:
                changed.update(dict.fromkeys(run.keys))
        self._revision = max(self._revision, self._backend.applied_index)
        if changed:
            self._broadcast(list(changed))
            self._invalidate([key for key in changed if key in self._readers])

    def _broadcast(self, changed: list[bytes]) -> None:
        for connection, tracking in list(self._clients.items()):
            if tracking.broadcast:
                keys = [key for key in changed if key.startswith(tracking.prefixes)]
                if keys:
                    self.tell(connection, keys)

    def _invalidate(self, keys: list[bytes]) -> None:
        """Forget who has read these, and say so."""
        told: dict[Connection, list[bytes]] = {}
        for key in keys:
            self._bytes -= len(key)
            for connection in self._readers.pop(key):
                told.setdefault(connection, []).append(key)
        for connection, names in told.items():
            self.tell(connection, names)

    def _invalidate_all(self) -> None:
        self._readers.clear()
        self._bytes = 0
        for connection in list(self._clients):
            self.tell(connection, None)

    def tell(self, connection: Connection, keys: list[bytes] | None) -> None:
        """What it has of these keys is not true any more; None: of any."""
        tracking = connection.tracking
        if tracking is None:
            return
        target = connection
        if tracking.redirect:
            found = self._frontend.connections.get(tracking.redirect)
            if found is None:  # Its cache can only be wrong from now on: Redis says it so.
                if connection.protocol >= 3:
                    push(connection, b">1\r\n" + bulk(b"tracking-redir-broken"))
                return
            target = found
        if target.protocol >= 3:
            push(target, b">2\r\n" + bulk(b"invalidate") + _names(keys, 3))
        elif tracking.redirect and CHANNEL in target.channels:
            words = bulk(b"message") + bulk(CHANNEL)
            push(target, b"*3\r\n" + words + _names(keys, 2))


def _names(keys: list[bytes] | None, protocol: int) -> bytes:
    if keys is None:
        return NIL[3] if protocol >= 3 else NIL_ARRAY[2]
    return b"*%d\r\n" % len(keys) + b"".join(map(bulk, keys))
