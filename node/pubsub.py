"""Who listens to what on this node, and what they are told.

    the log --apply--> changes of this replica --deliver--> messages --push--> connections

PUBLISH goes through the log, so a message reaches the subscribers of every node that is up,
once, and in one order with the writes around it. Keyspace notifications are what applying did
(set, del, expired ...), on every node alike, when `notify-keyspace-events` asks for them: a
setting of each node, as in Redis Cluster.

    __keyspace@0__:<key>    event          K      __keyevent@0__:<event>   key     E

While nobody listens the replica notes no changes at all, so this costs nothing.

Invariants: a message is delivered after the tick that applied it and before the publisher is
answered. Nothing is kept: who was not there, whose node was down or took a snapshot
instead of the log, does not get it. A client that does not read loses its subscriptions when more
would wait for it than client.output_buffer_bytes_max: a message of the channel
__trimaran__:cancelled says so behind what it was told, and `unsubscribe` for each of them.

A crash loses the subscriptions with their connections.

Shard channels (SSUBSCRIBE, SPUBLISH) are a namespace of their own, without patterns; as there is
one shard, their messages take the same way.

Does not do: history.

Proved by: tests/node/test_pubsub.py, tests/cluster/test_stock_clients.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from node.glob import compile_glob
from node.replies import bulk, integer

if TYPE_CHECKING:
    from node.backend import Backend
    from node.connection import Connection
    from statemachine.keyspace import Change

__all__ = ["PubSub", "event_flags", "shown_flags"]

CANCELLED: Final = b"__trimaran__:cancelled"
_TOO_SLOW: Final = b"more than client.output_buffer_bytes_max waits to be read"

# Which letter of notify-keyspace-events an event belongs to: g generic, $ strings, x expired.
_GENERIC: Final = frozenset({"del", "expire", "persist", "rename_from", "rename_to", "copy_to"})
_ALL: Final = "g$lshzxetd"
_KNOWN: Final = frozenset("KEA" + _ALL + "mn")


def event_flags(text: str) -> frozenset[str] | None:
    """The letters of notify-keyspace-events, A spelt out. None: they are others."""
    if not _KNOWN.issuperset(text):
        return None
    return frozenset(text.replace("A", _ALL))


def shown_flags(flags: frozenset[str]) -> str:
    """As CONFIG GET shows them."""
    classes = "A" if flags.issuperset(_ALL) else "".join(one for one in _ALL if one in flags)
    return classes + "".join(one for one in "KEmn" if one in flags)


class PubSub:
    """The subscriptions of one node."""

    __slots__ = ("_backend", "_channels", "_outbox", "_patterns", "_shards", "flags")

    def __init__(self, backend: Backend, notify: str = "") -> None:
        self._backend = backend
        self._channels: dict[bytes, dict[Connection, None]] = {}
        self._shards: dict[bytes, dict[Connection, None]] = {}
        self._patterns: dict[bytes, tuple[Callable[[bytes], bool], dict[Connection, None]]] = {}
        self._outbox: dict[Connection, list[bytes]] = {}
        self.flags = event_flags(notify) or frozenset()

    # Who listens.

    def subscribe(self, connection: Connection, channel: bytes, *, sharded: bool = False) -> None:
        """To one channel. Harmless when it is there."""
        (connection.shards if sharded else connection.channels)[channel] = None
        registry = self._shards if sharded else self._channels
        registry.setdefault(channel, {})[connection] = None
        self._listen(connection)

    def subscribe_pattern(self, connection: Connection, pattern: bytes) -> None:
        """To all channels that fit."""
        connection.patterns[pattern] = None
        if pattern not in self._patterns:
            self._patterns[pattern] = (compile_glob(pattern), {})
        self._patterns[pattern][1][connection] = None
        self._listen(connection)

    def unsubscribe(self, connection: Connection, channel: bytes, *, sharded: bool = False) -> None:
        """Harmless when it is not there."""
        (connection.shards if sharded else connection.channels).pop(channel, None)
        registry = self._shards if sharded else self._channels
        listeners = registry.get(channel)
        if listeners is not None and listeners.pop(connection, 0) is None and not listeners:
            del registry[channel]
        self._listen(connection)

    def unsubscribe_pattern(self, connection: Connection, pattern: bytes) -> None:
        """Harmless when it is not there."""
        connection.patterns.pop(pattern, None)
        _, listeners = self._patterns.get(pattern, (None, {}))
        if listeners.pop(connection, 0) is None and not listeners:
            del self._patterns[pattern]
        self._listen(connection)

    def leave(self, connection: Connection) -> None:
        """From everything: the client has gone, or was reset."""
        for channel in list(connection.channels):
            self.unsubscribe(connection, channel)
        for channel in list(connection.shards):
            self.unsubscribe(connection, channel, sharded=True)
        for pattern in list(connection.patterns):
            self.unsubscribe_pattern(connection, pattern)

    def _listen(self, connection: Connection) -> None:
        connection.note_subscriptions()
        somebody = self._channels or self._patterns or self._shards
        self._backend.listen(self.deliver if somebody else None)

    def channels(self, *, sharded: bool = False) -> list[bytes]:
        """Those that somebody is subscribed to by name."""
        return list(self._shards if sharded else self._channels)

    def count(self, channel: bytes, *, sharded: bool = False) -> int:
        """Who is subscribed to the channel by name."""
        return len((self._shards if sharded else self._channels).get(channel, ()))

    def receivers(self, channel: bytes) -> int:
        """To how many a message goes, by name and by pattern, on this node."""
        matching = (len(who) for matches, who in self._patterns.values() if matches(channel))
        return self.count(channel) + sum(matching)

    @property
    def patterns_count(self) -> int:
        """Different patterns."""
        return len(self._patterns)

    # What they are told.

    def deliver(self, changes: Sequence[Change]) -> None:
        """Tell them what applying did, in order."""
        for event, words in changes:
            if event == "publish":
                self._publish(words[0], words[1])
            elif event == "spublish":
                for connection in self._shards.get(words[0], ()):
                    told = push(connection, b"smessage", *words)
                    self._outbox.setdefault(connection, []).append(told)
            elif self.flags:
                self._notify(event, words)
        outbox, self._outbox = self._outbox, {}
        for connection, messages in outbox.items():
            data = b"".join(messages)
            if connection.is_full:
                waiting_bytes = connection.unsent_bytes() + len(data)
                if waiting_bytes > connection.frontend.output_bytes_max:
                    data = self._cancel(connection)
            try:
                connection.push(data)
            except Exception:  # noqa: BLE001 - it costs that client its connection, not the replica
                connection.frontend.disconnect(connection)

    def _cancel(self, connection: Connection) -> bytes:
        """It does not read what it is told: it is told nothing more, and that this is so, in the
        words that a client knows, behind a message that says why."""
        kinds = (
            (b"unsubscribe", list(connection.channels)),
            (b"punsubscribe", list(connection.patterns)),
            (b"sunsubscribe", list(connection.shards)),
        )
        head = b">3\r\n" if connection.protocol >= 3 else b"*3\r\n"
        told = [
            head + bulk(word) + bulk(name) + integer(0) for word, names in kinds for name in names
        ]
        self.leave(connection)
        return push(connection, b"message", CANCELLED, _TOO_SLOW) + b"".join(told)

    def _notify(self, event: str, keys: Sequence[bytes]) -> None:
        letter = "x" if event == "expired" else "g" if event in _GENERIC else "$"
        if letter not in self.flags:
            return
        word = event.encode()
        for key in keys:
            if "K" in self.flags:
                self._publish(b"__keyspace@0__:" + key, word)
            if "E" in self.flags:
                self._publish(b"__keyevent@0__:" + word, key)

    def _publish(self, channel: bytes, message: bytes) -> None:
        for connection in self._channels.get(channel, ()):
            told = push(connection, b"message", channel, message)
            self._outbox.setdefault(connection, []).append(told)
        for pattern, (matches, listeners) in self._patterns.items():
            if matches(channel):
                for connection in listeners:
                    told = push(connection, b"pmessage", pattern, channel, message)
                    self._outbox.setdefault(connection, []).append(told)


def push(connection: Connection, *words: bytes) -> bytes:
    """Words that answer no request: a push in RESP3, an array in RESP2."""
    head = b">%d\r\n" if connection.protocol >= 3 else b"*%d\r\n"
    return head % len(words) + b"".join(map(bulk, words))
