"""Leases: which key is due when. No clock, no threads, no deletion of its own.

    _deadlines  key -> deadline_ms          the truth; what an image holds
    _heap       (deadline_ms, key), ...     an index over it, soonest first, with stale entries

A lease is granted, granted anew (keep alive), revoked, or taken out when it is
due. The caller says what time it is; a lease is due when deadline_ms <= clock_ms.
Deadlines are absolute, so neither a restart nor an install renews or forgets one.

Granting and revoking leave the old heap entry where it is: an entry counts only
while _deadlines says the same. When stale entries outnumber the live ones the
heap is made anew, so both cost O(log n) on average and memory stays O(leases).

Invariants: every lease has an entry in the heap; leases leave `take_due` in the order
of (deadline_ms, key), whatever the order of the grants was: it is the same on every replica.

Does not: know values, or delete a key (keyspace.py does both sides together).

Proved by: tests/statemachine/test_leases.py
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["Leases"]

# Below this a heap is not worth making anew.
_STALE_MIN: Final = 1024


class Leases:
    """The lease table of one store. Not thread-safe."""

    __slots__ = ("_deadlines", "_heap")

    def __init__(self, deadlines: Mapping[bytes, int] | None = None) -> None:
        self._deadlines: dict[bytes, int] = dict(deadlines or {})
        self._heap: list[tuple[int, bytes]] = []
        self._rebuild()

    def __len__(self) -> int:
        return len(self._deadlines)

    def __contains__(self, key: object) -> bool:
        return key in self._deadlines

    def deadlines(self) -> dict[bytes, int]:
        """A copy: key -> deadline in ms."""
        return self._deadlines.copy()

    def deadline_ms(self, key: bytes) -> int | None:
        """None: the key has no lease."""
        return self._deadlines.get(key)

    def is_due(self, key: bytes, clock_ms: int) -> bool:
        """Whether the key has a lease and it has run out."""
        deadline_ms = self._deadlines.get(key)
        return deadline_ms is not None and deadline_ms <= clock_ms

    def grant(self, key: bytes, deadline_ms: int) -> None:
        """Give the key this deadline, in place of any that it has."""
        if self._deadlines.get(key) == deadline_ms:
            return
        self._deadlines[key] = deadline_ms
        heapq.heappush(self._heap, (deadline_ms, key))
        self._drop_stale()

    def revoke(self, key: bytes) -> bool:
        """Take the key's deadline away. False: it had none."""
        if self._deadlines.pop(key, None) is None:
            return False
        self._drop_stale()
        return True

    def revoke_many(self, keys: Iterable[bytes]) -> None:
        """As revoke, for a column of keys of which few have a lease."""
        leased = self._deadlines.keys() & keys
        for key in leased:
            del self._deadlines[key]
        if leased:
            self._drop_stale()

    def take_due(self, clock_ms: int, keys_max: int) -> list[bytes]:
        """Remove the leases that are due, at most keys_max; their keys in (deadline, key) order."""
        taken: list[bytes] = []
        heap, deadlines = self._heap, self._deadlines
        while heap and heap[0][0] <= clock_ms and len(taken) < keys_max:
            deadline_ms, key = heapq.heappop(heap)
            if deadlines.get(key) == deadline_ms:
                del deadlines[key]
                taken.append(key)
        return taken

    def next_deadline_ms(self) -> int | None:
        """The soonest deadline, due or not. None: no leases."""
        heap, deadlines = self._heap, self._deadlines
        while heap and deadlines.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due_count(self, clock_ms: int) -> int:
        """How many are due. Walks all leases: ask only when next_deadline_ms says so."""
        return sum(deadline_ms <= clock_ms for deadline_ms in self._deadlines.values())

    def clear(self) -> None:
        """No leases."""
        self._deadlines.clear()
        self._heap.clear()

    def _drop_stale(self) -> None:
        # Each rebuild takes away more than half of the heap, which that many grants paid for.
        if len(self._heap) > 2 * len(self._deadlines) + _STALE_MIN:
            self._rebuild()

    def _rebuild(self) -> None:
        self._heap = [(deadline_ms, key) for key, deadline_ms in self._deadlines.items()]
        heapq.heapify(self._heap)
