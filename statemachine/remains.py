"""What is left of a state that was replaced: it is taken apart a little at a time.

    flush, install, reset        the records and orders of before  ->  waiting -> parts -> gone
    every batch, every poll      a few of their items go

Why: a million keys that go at once keep their thread for 60 ms (twice that on a busy machine), as
long as it takes to give each back its memory; no other thread can run meanwhile.

Invariants: nothing here can be seen by any rule, read or digest: it is no part of the state. What
an image is still reading (a frozen view) is not touched until that is over.

Does not: hurry. A million keys take some 500 polls or 6,000 batches to go, and their memory with
them; what comes in meanwhile is less in every batch than what goes.

Proved by: tests/statemachine/test_remains.py
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sortedcontainers import SortedList

from statemachine.records import Records

__all__ = ["ITEMS_PER_BATCH", "ITEMS_PER_POLL", "Remains"]

ITEMS_PER_BATCH: Final = 512
"""0.1 ms. An item is an entry of a dict, or of an order: three for each key and more."""
ITEMS_PER_POLL: Final = 8 * 1024
"""About 2 ms."""


class Remains:
    """See above. Not thread-safe."""

    __slots__ = ("_parts", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Records] = []
        self._parts: list[dict[bytes, Any] | SortedList] = []

    def __bool__(self) -> bool:
        """Whether there is anything left."""
        return bool(self._parts or self._waiting)

    def add(self, records: Records, orders: Iterable[SortedList]) -> None:
        """These were replaced, and are handed over."""
        self._waiting.append(records)
        self._parts += orders

    def thaw(self) -> None:
        """No view is held any more."""
        for records in self._waiting:
            records.thaw()

    def shrink(self, items_max: int = ITEMS_PER_BATCH) -> None:
        """Let about so many items go (of an order, a thousand or two more)."""
        if self._waiting:
            self._begin()
        parts, left = self._parts, items_max
        while parts and left > 0:
            part = parts[-1]
            if isinstance(part, dict):
                count = min(left, len(part))
                for _ in range(count):
                    part.popitem()
                left -= count
                if not part:
                    parts.pop()
            else:
                # NB: its own `del` would sort and count anew; nobody will ask this order again.
                lists = part._lists
                left -= len(lists.pop()) if lists else 0
                if not lists:
                    parts.pop()

    def _begin(self) -> None:
        viewed = [records for records in self._waiting if records.is_frozen]
        for records in self._waiting:
            if not records.is_frozen:
                self._parts += records.take_apart()
        self._waiting = viewed
