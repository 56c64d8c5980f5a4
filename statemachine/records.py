"""Records: value, revisions and deadline of every key, in one layer (layer.py) or two.

    plain       base                                    all there is
    frozen      base | top + removed                    base does not change: an image reads it
    folding     base | top + removed                    base changes again; top empties into it

    top         16 dicts: key -> (value, created, modified, deadline), and one order of their keys

A view for an image has to be of one moment while writes go on. Copying a million pointers
stops the writer for 50-100 ms, so nothing is copied: `freeze` puts an empty layer on top. While
it lies there, writes go into it, a removed key of the base is noted in `removed`, and reads ask
the top first. After `thaw` a write goes to the base again and takes its key out of the top; what
is left there moves down a few keys with every write and `fold` (as Redis rehashes). A dict is
copied whole when it outgrows its table, 15 ms at 350,000 keys: the top grows in small ones.

Invariants: a key is here when it is in the top, or in the base and not in `removed`; `removed`
is part of the base's keys and shares none with the top; a frozen base is not changed by anybody,
so another thread may read it. Nothing anyone can see depends on the state of the layers.

Does not: know time (a deadline is a number), decide what a revision is, or count work per batch.

Proved by: tests/statemachine/test_records.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import chain, islice
from typing import Any, Final

from sortedcontainers import SortedList

from statemachine.layer import Columns, Record

__all__ = ["Records"]

_Row = tuple[bytes, int, int, int | None]
_SHARDS: Final = 16
_SHARD_MASK: Final = _SHARDS - 1
_FOLDED_PER_WRITE: Final = 2
"""Two, so that the top is empty after half as many writes as it took to fill."""


class Records:
    """The records of one store. Not thread-safe, but for reading a frozen base."""

    __slots__ = ("_base", "_base_value", "_order", "_overrides", "_removed", "_top", "is_frozen")

    def __init__(self, columns: Columns | None = None) -> None:
        self._hold(columns or Columns())
        self.is_frozen = False
        """Whether a view is held. To be read only."""

    def _hold(self, columns: Columns) -> None:
        self._base = columns
        self._base_value = self._base.values.get  # Bound once: the way of every read.
        # By the key's hash, which differs from process to process: nothing shows which one it is.
        self._top: list[dict[bytes, _Row]] | None = None
        self._order = SortedList()  # The keys of the top.
        self._removed: set[bytes] = set()
        self._overrides = 0  # Keys of the top that are in the base as well.

    # Freezing.

    def freeze(self) -> Columns:
        """The records of this moment, which nobody will change before `thaw`.

        O(1), and 3 us for each key that is still `unfolded`.
        """
        assert not self.is_frozen, "one view at a time"
        self.fold(self.unfolded)
        self._top = [{} for _ in range(_SHARDS)]
        self.is_frozen = True
        return self._base

    def thaw(self) -> None:
        """The view is not needed any more. Harmless when there is none."""
        self.is_frozen = False
        self._lift_if_empty()

    def take_apart(self) -> list[dict[bytes, Any] | SortedList]:
        """All that holds the records; they are empty afterwards. No view may be held."""
        assert not self.is_frozen, "somebody reads them"
        base, parts = self._base, [*(self._top or []), self._order]
        parts += (base.values, base.modified, base.created, base.deadlines, base.order)
        self._hold(Columns())
        return parts

    @property
    def unfolded(self) -> int:
        """How many keys of the last view's time are still to be folded down."""
        if self._top is None or self.is_frozen:
            return 0
        return len(self._order) + len(self._removed)

    def fold(self, keys_max: int) -> None:
        """Move at most so many keys down, about 3 us each. Harmless when there is nothing to do."""
        top = self._top
        if top is None or self.is_frozen:
            return
        for key in list(islice(chain(self._removed, self._order), keys_max)):
            self._fold_key(top, key)
        self._lift_if_empty()

    def _fold_key(self, top: list[dict[bytes, _Row]], key: bytes) -> None:
        base = self._base
        if key in self._removed:
            self._removed.remove(key)
            base.drop(key)
            return
        row = top[hash(key) & _SHARD_MASK].pop(key, None)
        if row is not None:
            self._overrides -= key in base.values
            self._order.remove(key)
            base.put(key, *row)

    def _lift_if_empty(self) -> None:
        if self._top is not None and not self.is_frozen and not self._order and not self._removed:
            self._top = None

    # Changes.

    def put(self, key: bytes, value: bytes, revision: int, deadline_ms: int | None) -> None:
        """Set value and deadline; None: no deadline. `created` stays when the key is there."""
        top, base = self._top, self._base
        if self.is_frozen:
            assert top is not None
            self._put_on_top(top, key, value, revision, deadline_ms)
            return
        if top is not None:
            self._fold_key(top, key)
        created = base.made(key) if key in base.values else revision
        base.put(key, value, created, revision, deadline_ms)
        if top is not None:
            self.fold(_FOLDED_PER_WRITE)

    def _put_on_top(
        self,
        top: list[dict[bytes, _Row]],
        key: bytes,
        value: bytes,
        revision: int,
        deadline_ms: int | None,
    ) -> None:
        shard = top[hash(key) & _SHARD_MASK]
        row = shard.get(key)
        if row is not None:
            created = row[1]
        else:
            created = revision
            if key in self._removed:
                self._removed.remove(key)
                self._overrides += 1
            elif key in self._base.values:
                created = self._base.made(key)
                self._overrides += 1
            self._order.add(key)
        shard[key] = (value, created, revision, deadline_ms)

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes], revision: int) -> None:
        """`put` without deadlines, in columns: the hot path. The last of equal keys wins."""
        top = self._top
        if top is None:
            self._base.put_many(keys, values, revision)
        elif self.is_frozen:
            for key, value in zip(keys, values, strict=True):
                self._put_on_top(top, key, value, revision, None)
        else:
            for key in keys:
                self._fold_key(top, key)
            self._base.put_many(keys, values, revision)
            self.fold(_FOLDED_PER_WRITE * len(keys))

    def remove(self, key: bytes) -> None:
        """Take the key away. It has to be here."""
        top = self._top
        if top is None:
            self._base.drop(key)
            return
        if not self.is_frozen:
            self._fold_key(top, key)
            self._base.drop(key)
            self.fold(_FOLDED_PER_WRITE)
            return
        if top[hash(key) & _SHARD_MASK].pop(key, None) is not None:
            self._order.remove(key)
            self._overrides -= key in self._base.values
        if key in self._base.values:
            self._removed.add(key)

    # Reads.

    def __len__(self) -> int:
        if self._top is None:
            return len(self._base.values)
        return len(self._base.values) + len(self._order) - self._overrides - len(self._removed)

    def __contains__(self, key: bytes) -> bool:
        return self.get(key) is not None

    @property
    def reader(self) -> Callable[[bytes], bytes | None]:
        """What `get` comes to until the next `freeze`: without a layer on top, one lookup in C."""
        return self._base_value if self._top is None else self.get

    def get(self, key: bytes) -> bytes | None:
        """The value; None: no such key."""
        top = self._top
        if top is None:
            return self._base_value(key)
        row = top[hash(key) & _SHARD_MASK].get(key)
        if row is not None:
            return row[0]
        return None if key in self._removed else self._base_value(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As get, position for position."""
        return list(map(self._base_value if self._top is None else self.get, keys))

    def record(self, key: bytes) -> Record | None:
        """All that is known of the key; None: no such key."""
        top = self._top
        if top is not None:
            row = top[hash(key) & _SHARD_MASK].get(key)
            if row is not None:
                return Record(*row)
            if key in self._removed:
                return None
        return self._base.record(key)

    def modified(self, key: bytes) -> int:
        """The revision of the last change of a key that is here."""
        if self._top is None:
            return self._base.modified[key]
        record = self.record(key)
        assert record is not None
        return record.modified

    def deadline_ms(self, key: bytes) -> int | None:
        """None: no deadline, or no such key."""
        if self._top is None:
            return self._base.deadlines.get(key)
        record = self.record(key)
        return None if record is None else record.deadline_ms

    def deadlines_of(self, keys: Sequence[bytes]) -> Mapping[bytes, int]:
        """Those of the keys that have a deadline, with it. Few, as a rule."""
        if self._top is None:
            deadlines = self._base.deadlines
            return {key: deadlines[key] for key in deadlines.keys() & keys}
        found = {key: self.deadline_ms(key) for key in keys}
        return {key: at_ms for key, at_ms in found.items() if at_ms is not None}

    def between(
        self,
        start: bytes | None,
        end: bytes | None,
        *,
        after_start: bool = False,
        reverse: bool = False,
    ) -> Iterator[bytes]:
        """Keys from start (behind it, if after_start) to before end, in order. None: no bound.

        Nothing may change while the iterator is in use.
        """
        if start is not None and end is not None and start >= end:
            return iter(())
        bounds = (start, end, (not after_start, False), reverse)
        keys: Iterator[bytes] = self._base.order.irange(*bounds)
        top, removed = self._top, self._removed
        if top is None:
            return keys
        shown = (
            key for key in keys if key not in removed and key not in top[hash(key) & _SHARD_MASK]
        )
        return merge(shown, self._order.irange(*bounds), reverse=reverse)

    def rows(self) -> Iterator[tuple[bytes, bytes, int, int, int | None]]:
        """(key, value, created, modified, deadline_ms) of all keys, in order.

        Nothing may change while the iterator is in use.
        """
        if self._top is None:
            base = self._base
            order = base.order
            # `made`, in C: created, or else modified.
            created = map(base.created.get, order, map(base.modified.__getitem__, order))
            values, modified = map(base.values.__getitem__, order), map(base.modified.get, order)
            deadlines = map(base.deadlines.get, order)
            return zip(order, values, created, modified, deadlines, strict=True)  # type: ignore[arg-type]
        found = ((key, self.record(key)) for key in self.between(None, None))
        return (
            (key, each.value, each.created, each.modified, each.deadline_ms)
            for key, each in found
            if each is not None
        )
