"""Where the scans of a node stand: a cursor of SCAN is a number, what it stands for is a key.

A cursor stands for the last key that was returned, in a table of this node:
    cursor = tag of this process (20 bits) | a counter (43 bits), never 0
An unknown one (too old, of another node, from before a restart) starts the scan over. That
keeps what SCAN promises: each key that is there throughout is returned at least once; some
are returned twice, which SCAN allows.

Invariants: bounded by CURSORS_MAX and CURSOR_BYTES_MAX. A crash loses the table with the tag.

Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

__all__ = ["CURSORS_MAX", "CURSOR_BYTES_MAX", "Cursors"]

CURSORS_MAX: Final = 4_096
CURSOR_BYTES_MAX: Final = 4 * 1024 * 1024
_COUNTER_BITS: Final = 43


class Cursors:
    """Where the scans of this node stand."""

    __slots__ = ("_bytes", "_counter", "_keys", "_tag")

    def __init__(self, seed: str) -> None:
        digest = hashlib.sha256(seed.encode()).digest()
        self._tag = int.from_bytes(digest[:3]) >> 4 << _COUNTER_BITS
        self._counter = 0
        self._keys: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0

    def new(self, key: bytes) -> int:
        """A cursor that stands behind `key`. The oldest ones are forgotten for it."""
        self._counter = (self._counter + 1) % (1 << _COUNTER_BITS)
        cursor = self._tag | self._counter or 1
        self._keys[cursor] = key
        self._bytes += len(key)
        while len(self._keys) > CURSORS_MAX or self._bytes > CURSOR_BYTES_MAX:
            _, forgotten = self._keys.popitem(last=False)
            self._bytes -= len(forgotten)
        return cursor

    def key(self, cursor: int) -> bytes | None:
        """The key that the cursor stands behind; None: start from the beginning."""
        return self._keys.get(cursor)
