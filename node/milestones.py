"""How many bytes of the log lie before an entry: a sparse index, pure values.

    indexes   1    812   1634      the first entry behind another STEP_BYTES of log
    bytes     0  65600 131300      of entries before it, since the log was opened

So the journal can be measured, and cut by bytes, without holding its entries: 16 bytes of
memory for each 64 KiB of log. An entry counts as its command and a frame's header, in memory
as on disk.

Proved by: tests/node/test_milestones.py
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

from node.entry import Entry
from statemachine.frame import FRAME_HEADER_BYTES

__all__ = ["Milestones", "entry_bytes"]


def entry_bytes(entry: Entry) -> int:
    """About what an entry takes, in memory as on disk."""
    return len(entry[0]) + FRAME_HEADER_BYTES


class Milestones:
    """Sums over a log that grows at its end, is truncated there, and cut at its beginning."""

    STEP_BYTES: Final = 64 * 1024

    def __init__(self) -> None:
        self._indexes = array("Q")
        self._bytes = array("Q")
        self.end_bytes = 0
        """Bytes of all entries that were added and not taken back."""

    def add(self, index: int, size_bytes: int) -> None:
        """An entry was appended."""
        if not self._bytes or self.end_bytes - self._bytes[-1] >= self.STEP_BYTES:
            self._indexes.append(index)
            self._bytes.append(self.end_bytes)
        self.end_bytes += size_bytes

    def take_back(self, index: int, size_bytes: int) -> None:
        """The entry at `index` and all after it, so many bytes, were truncated."""
        while self._indexes and self._indexes[-1] >= index:
            self._indexes.pop()
            self._bytes.pop()
        self.end_bytes -= size_bytes

    def forget_below(self, index: int) -> None:
        """Nobody will ask about entries below."""
        count = max(bisect_right(self._indexes, index) - 1, 0)
        del self._indexes[:count]
        del self._bytes[:count]

    def bytes_before(self, index: int) -> int:
        """Bytes before the entry, rounded down to a milestone."""
        at = bisect_right(self._indexes, index) - 1
        return self._bytes[at] if at >= 0 else 0

    def first_behind(self, bytes_count: int) -> int:
        """The first milestone with at least so many bytes before it; 0: there is none."""
        at = bisect_left(self._bytes, bytes_count)
        return self._indexes[at] if at < len(self._indexes) else 0
