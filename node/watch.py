"""One watch, and the bytes of what it is told.

    frame     [tri.watch, id, revision, [[operation, key, value, previous if asked for]...]]
    end       [tri.watch-end, id, revision, reason]

A push in RESP3, an array in RESP2. What is told when says node.watches.

Proved by: tests/node/test_watches.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.replies import NIL, bulk, integer

if TYPE_CHECKING:
    from node.connection import Connection

__all__ = ["Event", "Watch", "end_frame", "frame", "push"]

Event = tuple[str, bytes, bytes | None, bytes | None]
"""Operation, key, value, previous value."""


@dataclass(slots=True, eq=False)
class Watch:
    """One watch of one client."""

    id: int
    connection: Connection
    name: bytes
    """The key, or the prefix."""
    is_prefix: bool
    wants_previous: bool
    told: int
    """While it is behind: it knows everything up to here. Else: nothing at or below concerns it."""
    is_behind: bool = False
    was_told: bool = False
    """Since the last mark."""

    def concerns(self, key: bytes, operation: str) -> bool:
        """Whether it is told of this."""
        if operation == "flush":
            return True
        return key.startswith(self.name) if self.is_prefix else key == self.name


def _head(connection: Connection) -> bytes:
    return b">4\r\n" if connection.protocol >= 3 else b"*4\r\n"


def frame(watch: Watch, revision: int, events: list[Event]) -> bytes:
    """What happened at the revision; no events: a mark."""
    connection = watch.connection
    nil = NIL[connection.protocol]
    parts = [
        _head(connection),
        b"$9\r\ntri.watch\r\n:%d\r\n:%d\r\n*%d\r\n" % (watch.id, revision, len(events)),
    ]
    head = b"*4\r\n" if watch.wants_previous else b"*3\r\n"
    for operation, key, value, previous in events:
        parts += (head, bulk(operation.encode()), bulk(key), nil if value is None else bulk(value))
        if watch.wants_previous:
            parts.append(nil if previous is None else bulk(previous))
    return b"".join(parts)


def end_frame(watch: Watch, first: int) -> bytes:
    """The history begins at `first`, behind what the watch was told."""
    reason = b"COMPACTED history begins at revision %d" % first
    words = (bulk(b"tri.watch-end"), integer(watch.id), integer(watch.told), bulk(reason))
    return _head(watch.connection) + b"".join(words)


def push(connection: Connection, data: bytes) -> None:
    """To the client, which may have gone."""
    try:
        connection.push(data)
    except Exception:  # noqa: BLE001 - it costs that client its connection, not the replica
        connection.frontend.disconnect(connection)
