"""Watch frames: what a node tells of changes, as Events. No I/O.

    ["tri.watch", watch id, revision, [[operation, key, value(, previous)] ...]]
    ["tri.watch-end", watch id, revision, reason]

    Follower.words()      what to send on a new connection: TRI.WATCH ... FROM the next revision
    Follower.take(frame)  -> events, in order; remembers how far all has been told

Invariants: a frame tells all of its revision, so going on behind the last one misses nothing and
tells nothing twice, at whichever node. A frame that is not one is refused.

Proved by: tests/node/test_protocols.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from node.errors import KVError, Rejected, Unavailable

__all__ = ["Compacted", "Event", "Follower"]


class Compacted(KVError):
    """The history no longer reaches back so far: read again, then watch from what that told."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one key."""

    revision: int
    operation: str
    """set, del, expire, deadline, or flush (every key at once; the key is empty)."""
    key: bytes
    value: bytes | None
    previous: bytes | None = None
    """Only where it was asked for."""


class Follower:
    """Where a watch stands.

    Args:
        from_revision: the first revision that is wanted; None: what comes from now on.
    """

    def __init__(
        self, kind: str, name: bytes, from_revision: int | None, *, previous: bool = False
    ) -> None:
        self._kind = kind
        self._name = name
        self._previous = previous
        self.next_revision = from_revision
        """All before it was told."""

    def words(self) -> tuple[bytes | str | int, ...]:
        """What begins, or resumes, it."""
        start = () if self.next_revision is None else ("FROM", self.next_revision)
        return ("TRI.WATCH", self._kind, self._name, *start, *(("PREV",) if self._previous else ()))

    def begun(self, reply: Any) -> None:
        """The node's answer: [watch id, revision]."""
        if self.next_revision is None:
            self.next_revision = int(reply[1]) + 1

    def take(self, frame: Any) -> list[Event]:
        """The events of one frame.

        Raises:
            Unavailable: this node tells no more; resume elsewhere.
            Rejected: it is no frame.
        """
        if not isinstance(frame, list) or len(frame) != 4:
            raise Rejected(f"no watch frame: {frame!r}")
        name, _watch_id, revision, rest = frame
        if name == b"tri.watch-end":
            self.next_revision = max(self.next_revision or 0, int(revision) + 1)
            raise Unavailable(f"the watch ended: {rest!r}")
        if name != b"tri.watch":
            raise Rejected(f"no watch frame: {frame!r}")
        if self.next_revision is not None and int(revision) < self.next_revision:
            return []
        self.next_revision = int(revision) + 1
        return [
            Event(int(revision), row[0].decode(), row[1], row[2], row[3] if len(row) > 3 else None)
            for row in rest
        ]
