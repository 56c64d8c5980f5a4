"""Which keys were taken away lately: so that WATCH of an absent key sees one that came and went.

    key taken away -> crc32c of the key -> the revision that had last changed it     REMOVALS_MAX
    forgotten      -> floor: the highest of those revisions

A transaction that saw no such key at index S may go through only if the key has not been there
since. A key that is there now is seen by its own revision. One that was there, and is not, was
changed after S: its revision here is above S. Of those that were forgotten it is only
known that none was changed above the floor, so a transaction that looked at or before it
is refused: it is tried again, as after any lost race. So are two keys with one checksum.

The revision is that of the last change and not of the removal: a key that had fallen due
before S, and is only swept after it (keyspace.py), was not there at S.

Invariants: part of the state: in the digest and in images, the same on every replica; the order
is that of the removals; at most REMOVALS_MAX entries (50 KB), whatever the keys are.

Proved by: tests/statemachine/test_removals.py, tests/statemachine/test_rules_transactions.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import google_crc32c

__all__ = ["REMOVALS_MAX", "RemovalParts", "Removals"]

REMOVALS_MAX: Final = 4_096
"""The same number on every replica, therefore not configurable."""


@dataclass(frozen=True, slots=True)
class RemovalParts:
    """As an image holds them: oldest first. Nobody changes these."""

    floor: int = 0
    revisions: Mapping[int, int] = field(default_factory=dict)
    """Checksum of the key -> revision."""


class Removals:
    """See above. Not thread-safe."""

    __slots__ = ("_floor", "_revisions")

    def __init__(self, parts: RemovalParts | None = None) -> None:
        parts = parts or RemovalParts()
        self._floor = parts.floor
        self._revisions = dict(parts.revisions)

    def parts(self) -> RemovalParts:
        """Everything at this moment."""
        return RemovalParts(self._floor, self._revisions.copy())

    def note(self, key: bytes, modified: int) -> None:
        """The key, last changed at this revision, is being taken away."""
        checksum = google_crc32c.value(key)
        revisions = self._revisions
        # To the end: what was taken away last is forgotten last.
        revisions[checksum] = max(revisions.pop(checksum, 0), modified)
        if len(revisions) > REMOVALS_MAX:
            self._floor = max(self._floor, revisions.pop(next(iter(revisions))))

    def forget(self, revision: int) -> None:
        """More keys than are told apart were taken away, none changed above `revision`."""
        self._floor = max(self._floor, revision)
        self._revisions.clear()

    def was_there_since(self, key: bytes, seen: int) -> bool:
        """Whether a key that is not there, nor was at index `seen`, may have been in between."""
        if seen < self._floor:
            return True
        return self._revisions.get(google_crc32c.value(key), 0) > seen
