"""The keys: values, leases, order and the clock, always changed together.

    data    key -> value          leases   key -> deadline        order    keys, sorted, lazily
    clock_ms   the replicated clock: moved by batches, never back, read from no machine

A key is there when it is in `data` and its deadline, if it has one, lies after
clock_ms. `advance` moves the clock and removes what is due, at most
EXPIRE_PER_BATCH_MAX keys, so that a million leases that fall due together do not stop the
store. What the bound leaves over (the backlog) is there for nobody: reads skip it
without removing it, writes remove it first (`live`). So the bound cannot be seen,
and the same batches leave the same bytes on every replica, however often each was read.

Invariants: every leased key is in `data`; no lease is granted at or before the clock
(the key is removed at once); clock_ms never falls; reads change nothing but `order`'s index.

Does not: decide what a command does (rules.py), or know batches (store.py).

Proved by: tests/statemachine/test_keyspace.py, test_expiry.py, test_store_model.py
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from statemachine.leases import Leases
from statemachine.ordered import KeyOrder, prefix_end

__all__ = ["EXPIRE_PER_BATCH_MAX", "Change", "Keyspace"]

EXPIRE_PER_BATCH_MAX: Final = 20_000
"""About 50 ms of work. The same number on every replica, therefore not configurable."""


Change = tuple[str, tuple[bytes, ...]]
"""What happened, in Redis's word for it, and to which keys ("publish": channel and message)."""


class Keyspace:
    """What is stored, and how it is read. Not thread-safe."""

    __slots__ = ("_has_backlog", "_order", "changes", "clock_ms", "data", "leases")

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.leases = Leases()
        self.clock_ms = 0
        self.changes: list[Change] | None = None
        """What changed, in order, for this replica's listeners; None: nobody listens. Whoever
        listens puts a list here and empties it. Nothing that is stored depends on it."""
        self._order = KeyOrder(self.data)
        # Whether a lease may be due. It may stay True too long (reads are slower), never too short.
        self._has_backlog = False

    # Changes. Called by rules.py and store.py only.

    def advance(self, now_ms: int) -> None:
        """Move the clock to now_ms, unless it is there already, and expire what is due."""
        self.clock_ms = max(self.clock_ms, now_ms)
        if not self.leases:
            self._has_backlog = False
            return
        keys = self.leases.take_due(self.clock_ms, EXPIRE_PER_BATCH_MAX)
        for key in keys:
            del self.data[key]
        self._order.touch_many(keys)
        if self.changes is not None and keys:
            self.changes.append(("expired", tuple(keys)))
        self._find_backlog()

    def live(self, key: bytes) -> bytes | None:
        """The value, for a command that may change the key: one that is due is removed first."""
        if self._has_backlog and self.leases.is_due(key, self.clock_ms):
            self.remove(key)
            if self.changes is not None:
                self.changes.append(("expired", (key,)))
            return None
        return self.data.get(key)

    def assign(self, key: bytes, value: bytes, deadline_ms: int | None = None) -> None:
        """Set value and deadline; None: the key loses its deadline. Past: the key is removed."""
        if deadline_ms is not None and deadline_ms <= self.clock_ms:
            self.remove(key)
            return
        if key not in self.data:
            self._order.touch(key)
        self.data[key] = value
        if deadline_ms is not None:
            self.leases.grant(key, deadline_ms)
        elif self.leases:
            self.leases.revoke(key)

    def assign_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """`assign` without deadlines, in columns: the hot path. The last of equal keys wins."""
        keys_before = len(self.data)
        self.data.update(zip(keys, values, strict=True))
        if len(self.data) != keys_before:
            self._order.touch_many(keys)
        if self.leases:
            self.leases.revoke_many(keys)

    def remove(self, key: bytes) -> None:
        """Take away key and lease. The key may be missing."""
        if self.data.pop(key, None) is not None:
            self.leases.revoke(key)
            self._order.touch(key)

    def clear(self) -> None:
        """No keys, no leases. The clock stays."""
        self.replace({}, {})

    def replace(self, data: dict[bytes, bytes], deadlines: dict[bytes, int]) -> None:
        """Other keys and leases in place of all. Takes `data` over."""
        self.data = data
        self.leases = Leases(deadlines)
        self._order = KeyOrder(data)
        self._find_backlog()

    def _find_backlog(self) -> None:
        soonest_ms = self.leases.next_deadline_ms()
        self._has_backlog = soonest_ms is not None and soonest_ms <= self.clock_ms

    # Reads. Each is one moment; what they return is the caller's.

    def get(self, key: bytes) -> bytes | None:
        """The value, b"" included; None: no such key."""
        return None if self._is_backlog(key) else self.data.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As get, position for position."""
        if self._has_backlog:
            return [self.get(key) for key in keys]
        return list(map(self.data.get, keys))

    def exists(self, key: bytes) -> bool:
        """Whether the key is there."""
        return key in self.data and not self._is_backlog(key)

    def deadline_ms(self, key: bytes) -> int | None:
        """Absolute. None: no deadline, or no such key."""
        return None if self._is_backlog(key) else self.leases.deadline_ms(key)

    def facts(self, key: bytes) -> tuple[int, int] | None:
        """(created, modified): which batches did; None: no such key."""
        value = self.get(key)
        if value is None:
            return None
        seen = hashlib.sha256(b"%d " % (self.deadline_ms(key) or 0) + value).digest()
        return 0, int.from_bytes(seen[:7])

    def next_deadline_ms(self) -> int | None:
        """The soonest deadline: at or before the clock while a batch left some over."""
        return self.leases.next_deadline_ms()

    def __len__(self) -> int:
        """How many keys are there. Walks the leases while there is a backlog."""
        if not self._has_backlog:
            return len(self.data)
        return len(self.data) - self.leases.due_count(self.clock_ms)

    def scan_prefix(
        self, prefix: bytes, *, limit: int | None = None, after: bytes | None = None
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Keys that start with prefix, in order, behind `after`; and whether more follow."""
        end = prefix_end(prefix)
        if after is not None and after >= prefix:
            return self._items(self._order.between(after, end, after_start=True), limit)
        return self._items(self._order.between(prefix, end), limit)

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
        return self._items(self._order.between(start, end, reverse=reverse), limit)

    def keys_page(self, after: bytes | None, count: int) -> tuple[list[bytes], bytes | None]:
        """At least one and up to count keys behind `after` (None: from the first), in order;
        and what to hand in next, None at the end.

        A key that is there from the first page to the last is on exactly one of them.
        """
        keys: list[bytes] = []
        for key in self._order.between(after, None, after_start=after is not None):
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
            items.append((key, self.data[key]))
        return items, False

    def _is_backlog(self, key: bytes) -> bool:
        return self._has_backlog and self.leases.is_due(key, self.clock_ms)
