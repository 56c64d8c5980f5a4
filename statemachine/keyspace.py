"""The keys: records, their deadlines in order, and the clock, always changed together.

    records   key -> value, revisions, deadline      leases    deadlines, soonest first
    clock_ms  the replicated clock: moved by batches, never back, read from no machine
    revision  of what changes now: the Raft index of the batch that is being applied

A key is there when it has a record and its deadline, if it has one, lies after
clock_ms. `advance` moves the clock and removes what is due, at most
EXPIRE_PER_BATCH_MAX keys, so that a million leases that fall due together do not stop the
store. What the bound leaves over (the backlog) is there for nobody: reads skip it
without removing it, writes remove it first (`live`). So the bound cannot be seen,
and the same batches leave the same bytes on every replica, however often each was read.

Invariants: `leases` holds exactly the deadlines of the records; no lease is granted at or before
the clock (the key is removed at once); clock_ms never falls; reads change nothing.

Does not: decide what a command does (rules.py), or know batches (store.py).

Proved by: tests/statemachine/test_keyspace.py, test_expiry.py, test_store_model.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from statemachine.layer import Columns, Record
from statemachine.leases import Leases
from statemachine.records import Records

__all__ = ["EXPIRE_PER_BATCH_MAX", "Change", "Keyspace", "prefix_end"]

EXPIRE_PER_BATCH_MAX: Final = 5_000
"""About 20 ms of work. The same number on every replica, therefore not configurable."""


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key behind all keys that start with `prefix`. None: nothing is behind them."""
    # 0xff cannot be raised: b"a\\xff" ends at b"b", and b"\\xff" never.
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


Change = tuple[str, tuple[bytes, ...]]
"""What happened, in Redis's word for it, and to which keys ("publish": channel and message)."""


class Keyspace:
    """What is stored, and how it is read. Not thread-safe."""

    __slots__ = ("_has_backlog", "_leases", "_records", "changes", "clock_ms", "revision")

    def __init__(self) -> None:
        self._records = Records()
        self._leases = Leases()
        self.clock_ms = 0
        self.revision = 0
        self.changes: list[Change] | None = None
        """What changed, in order, for this replica's listeners; None: nobody listens. Whoever
        listens puts a list here and empties it. Nothing that is stored depends on it."""
        # Whether a lease may be due. It may stay True too long (reads are slower), never too short.
        self._has_backlog = False

    # Changes. Called by rules.py and store.py only.

    def advance(self, now_ms: int) -> None:
        """Move the clock to now_ms, unless it is there already, and expire what is due."""
        self.clock_ms = max(self.clock_ms, now_ms)
        if not self._leases:
            self._has_backlog = False
            return
        keys = self._leases.take_due(self.clock_ms, EXPIRE_PER_BATCH_MAX)
        for key in keys:
            self._records.remove(key)
        if self.changes is not None and keys:
            self.changes.append(("expired", tuple(keys)))
        self._find_backlog()

    def live(self, key: bytes) -> bytes | None:
        """The value, for a command that may change the key: one that is due is removed first."""
        if self._is_backlog(key):
            self.remove(key)
            if self.changes is not None:
                self.changes.append(("expired", (key,)))
            return None
        return self._records.get(key)

    def assign(self, key: bytes, value: bytes, deadline_ms: int | None = None) -> None:
        """Set value and deadline; None: the key loses its deadline. Past: the key is removed."""
        if deadline_ms is not None and deadline_ms <= self.clock_ms:
            self.remove(key)
            return
        if self._is_backlog(key):
            self.remove(key)
        if self._leases or deadline_ms is not None:
            self._move_lease(key, deadline_ms)
        self._records.put(key, value, self.revision, deadline_ms)

    def _move_lease(self, key: bytes, deadline_ms: int | None) -> None:
        old_ms = self._records.deadline_ms(key)
        if old_ms != deadline_ms:
            if old_ms is not None:
                self._leases.revoke(key, old_ms)
            if deadline_ms is not None:
                self._leases.grant(key, deadline_ms)

    def assign_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """`assign` without deadlines, in columns: the hot path. The last of equal keys wins."""
        if self._leases:
            if self._has_backlog:
                for key in keys:
                    self.live(key)
            self._leases.revoke_many(self._records.deadlines_of(keys))
        self._records.put_many(keys, values, self.revision)

    def remove(self, key: bytes) -> None:
        """Take away key and lease. The key may be missing."""
        if key in self._records:
            if self._leases:
                self._move_lease(key, None)
            self._records.remove(key)

    def clear(self) -> None:
        """No keys, no leases. The clock stays."""
        self.replace(Columns())

    def replace(self, columns: Columns) -> None:
        """Other keys and leases in place of all. Takes them over."""
        self._records = Records(columns)
        self._leases = Leases(columns.deadlines)
        self._find_backlog()

    def _find_backlog(self) -> None:
        soonest_ms = self._leases.next_deadline_ms()
        self._has_backlog = soonest_ms is not None and soonest_ms <= self.clock_ms

    # Reads. Each is one moment; what they return is the caller's.

    def get(self, key: bytes) -> bytes | None:
        """The value, b"" included; None: no such key."""
        if self._has_backlog and self._is_backlog(key):
            return None
        return self._records.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As get, position for position."""
        if self._has_backlog:
            return [self.get(key) for key in keys]
        return self._records.get_many(keys)

    def facts(self, key: bytes) -> Record | None:
        """Value, revisions and deadline in one; None: no such key."""
        return None if self._is_backlog(key) else self._records.record(key)

    def exists(self, key: bytes) -> bool:
        """Whether the key is there."""
        return key in self._records and not self._is_backlog(key)

    def deadline_ms(self, key: bytes) -> int | None:
        """Absolute. None: no deadline, or no such key."""
        return None if self._is_backlog(key) else self._records.deadline_ms(key)

    @property
    def leases_count(self) -> int:
        """How many keys have a deadline."""
        return len(self._leases)

    def next_deadline_ms(self) -> int | None:
        """The soonest deadline: at or before the clock while a batch left some over."""
        return self._leases.next_deadline_ms()

    def __len__(self) -> int:
        """How many keys are there."""
        if not self._has_backlog:
            return len(self._records)
        return len(self._records) - self._leases.due_count(self.clock_ms)

    def scan_prefix(
        self, prefix: bytes, *, limit: int | None = None, after: bytes | None = None
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Keys that start with prefix, in order, behind `after`; and whether more follow."""
        end = prefix_end(prefix)
        if after is not None and after >= prefix:
            return self._items(self._records.between(after, end, after_start=True), limit)
        return self._items(self._records.between(prefix, end), limit)

    def scan_range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """start <= key < end (None: no end), in order or, reversed, from the end down;
        and whether more follow."""
        return self._items(self._records.between(start, end, reverse=reverse), limit)

    def keys_page(self, after: bytes | None, count: int) -> tuple[list[bytes], bytes | None]:
        """At least one and up to count keys behind `after` (None: from the first), in order;
        and what to hand in next, None at the end.

        A key that is there from the first page to the last is on exactly one of them.
        """
        keys: list[bytes] = []
        for key in self._records.between(after, None, after_start=after is not None):
            if self._is_backlog(key):
                continue
            if keys and len(keys) >= count:
                return keys, keys[-1]
            keys.append(key)
        return keys, None

    def _items(
        self, keys: Iterator[bytes], limit: int | None
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        items: list[tuple[bytes, bytes]] = []
        for key in keys:
            if self._is_backlog(key):
                continue
            if limit is not None and len(items) >= limit:
                return items, True
            value = self._records.get(key)
            assert value is not None
            items.append((key, value))
        return items, False

    def _is_backlog(self, key: bytes) -> bool:
        if not self._has_backlog:
            return False
        deadline_ms = self._records.deadline_ms(key)
        return deadline_ms is not None and deadline_ms <= self.clock_ms
