"""Deadlines in order: which key is due next. No clock, no values, no deletion of its own.

    an entry     8 bytes deadline_ms, big-endian | key        one bytes object: compared in C
    order        sorted: soonest first, equal deadlines by key

The truth is the records' column of deadlines (records.py); this is the index over it that finds
what is due without looking at the rest. It is exact: an entry goes when its lease is revoked
or granted anew, so there is nothing stale to sweep and no sweep that stops the store. Adding and
removing are O(log n): about 1.5 us among a million.

Deadlines are absolute, so neither a restart nor an install renews or forgets one. A lease is due
when deadline_ms <= clock_ms; the caller says what time it is.

Invariant: leases leave `take_due` in the order of (deadline_ms, key), whatever the order of the
grants was: it is the same on every replica.

Proved by: tests/statemachine/test_leases.py
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from sortedcontainers import SortedList

__all__ = ["Leases"]

_DEADLINE: Final = struct.Struct(">Q")
_KEY_AT: Final = _DEADLINE.size


class Leases:
    """The deadlines of one store, soonest first. Not thread-safe."""

    __slots__ = ("order",)

    order: SortedList
    """The entries. Not to be changed from outside."""

    def __init__(self, deadlines: Mapping[bytes, int] | None = None) -> None:
        """Sorts once: 0.3 s for a million."""
        pack = _DEADLINE.pack
        self.order = SortedList(
            [pack(deadline_ms) + key for key, deadline_ms in (deadlines or {}).items()]
        )

    def __len__(self) -> int:
        return len(self.order)

    def grant(self, key: bytes, deadline_ms: int) -> None:
        """The key is due then. It must have no other deadline here."""
        self.order.add(_DEADLINE.pack(deadline_ms) + key)

    def revoke(self, key: bytes, deadline_ms: int) -> None:
        """Forget this deadline, which the key has.

        Raises: ValueError when it has not.
        """
        self.order.remove(_DEADLINE.pack(deadline_ms) + key)

    def revoke_many(self, deadlines: Mapping[bytes, int]) -> None:
        """As revoke, for each of them."""
        for key, deadline_ms in deadlines.items():
            self.revoke(key, deadline_ms)

    def take_due(self, clock_ms: int, keys_max: int) -> list[bytes]:
        """Remove what is due, at most keys_max; the keys in (deadline, key) order."""
        taken: list[bytes] = []
        entries = self.order
        end = _DEADLINE.pack(clock_ms + 1)
        while entries and len(taken) < keys_max and entries[0] < end:
            taken.append(entries.pop(0)[_KEY_AT:])
        return taken

    def next_deadline_ms(self) -> int | None:
        """The soonest deadline, due or not. None: no leases."""
        if not self.order:
            return None
        deadline_ms: int = _DEADLINE.unpack_from(self.order[0])[0]
        return deadline_ms

    def due_count(self, clock_ms: int) -> int:
        """How many are due."""
        return int(self.order.bisect_left(_DEADLINE.pack(clock_ms + 1)))

    def items(self) -> Iterable[tuple[bytes, int]]:
        """(key, deadline in ms), soonest first."""
        for entry in self.order:
            yield entry[_KEY_AT:], _DEADLINE.unpack_from(entry)[0]
