"""One layer of records: the columns of a set of keys, and the keys in order.

    values, modified             key -> column, for every key
    created                      key -> revision that made it, where that is not `modified`
    deadlines                    key -> deadline_ms, for the keys that have one
    order                        the keys, sorted

The order is kept up with every key that comes or goes (1.5 us among a million; overwriting costs
nothing), so that no ordered read ever stops to sort, and an image is in key order. Columns instead
of an object for each key: a batch of plain writes is a few C loops, and the garbage collector
has nothing to walk.

A store that was only filled has one column of numbers, not two: 60 bytes a key, a tenth of a load.

Invariants: `values`, `modified` and the order hold the same keys; those of `created` and
`deadlines` are among them; `created` holds no number that `modified` holds as well.

Does not: freeze (records.py), know time, or choose revisions.

Proved by: tests/statemachine/test_records.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sortedcontainers import SortedList

__all__ = ["Columns", "Record"]


@dataclass(slots=True)  # Not frozen: that makes it four times as slow to make.
class Record:
    """All that is known of one key. A copy."""

    value: bytes
    created: int
    """Revision that made the key; it outlives overwriting, not removing."""
    modified: int
    """Revision of the last change, of the deadline as well."""
    deadline_ms: int | None
    """Absolute. None: the key has no lease."""
    lease: int = 0
    """The id of the lease that it hangs on with others, whose deadline this is. 0: none."""


@dataclass(slots=True)
class Columns:
    """One layer, and what an image holds of a store's keys. `order` holds the same keys."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    modified: dict[bytes, int] = field(default_factory=dict)
    created: dict[bytes, int] = field(default_factory=dict)
    deadlines: dict[bytes, int] = field(default_factory=dict)
    order: SortedList = field(default_factory=SortedList)

    @staticmethod
    def of(
        values: dict[bytes, bytes],
        modified: dict[bytes, int],
        created: dict[bytes, int],
        deadlines: dict[bytes, int],
    ) -> Columns:
        """Of dicts that are handed over. Fastest when `values` is in key order."""
        return Columns(values, modified, created, deadlines, SortedList(values))

    def record(self, key: bytes) -> Record | None:
        """None: not in this layer."""
        value = self.values.get(key)
        if value is None:
            return None
        return Record(value, self.made(key), self.modified[key], self.deadlines.get(key))

    def made(self, key: bytes) -> int:
        """The revision that made a key of this layer."""
        return self.created.get(key, self.modified[key])

    def put(
        self, key: bytes, value: bytes, created: int, modified: int, deadline_ms: int | None
    ) -> None:
        """Add or replace."""
        if key not in self.values:
            self.order.add(key)
        self.values[key] = value
        self.modified[key] = modified
        if created != modified:
            self.created[key] = created
        elif self.created:
            self.created.pop(key, None)
        if deadline_ms is not None:
            self.deadlines[key] = deadline_ms
        elif self.deadlines:
            self.deadlines.pop(key, None)

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes], revision: int) -> None:
        """Plain values, none with a deadline; the last of equal keys wins."""
        mine = self.values
        fresh = [key for key in keys if key not in mine]
        if len(fresh) < len(keys):
            self._remember_made(keys, revision)
        mine.update(zip(keys, values, strict=True))
        self.modified.update(dict.fromkeys(keys, revision))
        if fresh:
            self.order.update(dict.fromkeys(fresh))
        if self.deadlines:
            for key in self.deadlines.keys() & keys:
                del self.deadlines[key]

    def _remember_made(self, keys: Sequence[bytes], revision: int) -> None:
        """Those of the keys that are here change now, some for the first time."""
        modified, created = self.modified, self.created
        for key in keys:
            if key not in created and modified.get(key, revision) != revision:
                created[key] = modified[key]

    def drop(self, key: bytes) -> None:
        """Remove a key that is there."""
        del self.values[key], self.modified[key]
        self.created.pop(key, None)
        self.deadlines.pop(key, None)
        self.order.remove(key)
