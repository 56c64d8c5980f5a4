"""The history: what was done to keys lately, in order, for those who watch. Bounded.

    revision 41   set    [a b]  [1 2]  [- 0]      a run: operation, keys, values, previous values
    revision 43   del    [a]    [-]    [1]        of one revision there may be several
    revision 43   expire [b]    [-]    [2]
    first = 40                                    complete from here on: 40 changed nothing

    set        the value is new                   del      taken away on purpose
    expire     its time, or its lease, is over    flush    all keys at once; the key is b""
    deadline   only when it is due has changed

Whoever has been told everything up to revision r goes on with `since(r + 1)`, if r + 1 >= first;
else what lies between is gone (compacted) and the keys have to be read again. The oldest runs go
when there are more than entries_max keys or bytes_max bytes, whole revisions at a time.

It is one replica's, and not part of the state: no rule reads it, no digest or image holds it. It
begins behind the image that the state came from, so replaying the WAL fills it and installing a
snapshot empties it.

Cost: a batch of plain writes is noted in columns, 0.2 us a key; any other write by itself, 0.5 us.

Invariants: revisions never fall; from `first` on nothing is missing; bytes_max and entries_max are
exceeded by one batch at most.

Does not: know who watches (node.watches), or a prefix from a key.

Proved by: tests/statemachine/test_history.py
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

__all__ = ["History", "HistoryConfig", "Run"]

_KEY_BYTES: Final = 100
"""What an entry takes beside its key and values: objects and places in lists."""
_FORGOTTEN_MIN: Final = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryConfig:
    """How much is kept."""

    bytes_max: int = 16 * 1024 * 1024
    """Keys, values, previous values, and 100 bytes for each."""

    entries_max: int = 100_000
    """Changed keys."""


@dataclass(slots=True)
class Run:
    """What one command did, or a row of like ones. Not to be changed."""

    revision: int
    operation: str
    keys: Sequence[bytes]
    values: Sequence[bytes | None] | None
    """None: there are none, for all of the keys."""
    previous: Sequence[bytes | None]
    """What was there before the run. A key that is twice in it has its first value between."""

    def events(self) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
        """(key, value, previous value), in order."""
        if self.values is None:
            for key, previous in zip(self.keys, self.previous, strict=True):
                yield key, None, previous
            return
        if len(self.keys) == 1:
            yield self.keys[0], self.values[0], self.previous[0]
            return
        between: dict[bytes, bytes | None] = {}
        for key, value, previous in zip(self.keys, self.values, self.previous, strict=True):
            yield key, value, between.get(key, previous)
            between[key] = value


# (revision, operation, keys, values, previous, count, bytes); of one key without the sequences
# around it: a tuple is made in a tenth of the time that a Run takes.
_Row = tuple[int, str, Any, Any, Any, int, int]
_REVISION: Final = itemgetter(0)
_FORGOTTEN: Final[_Row] = (0, "", (), None, (), 0, 0)


class History:
    """See above. Not thread-safe."""

    __slots__ = ("_bytes", "_bytes_max", "_entries", "_entries_max", "_rows", "_start", "first")

    def __init__(self, config: HistoryConfig | None = None, first: int = 1) -> None:
        config = config or HistoryConfig()
        self._bytes_max = config.bytes_max
        self._entries_max = config.entries_max
        self.restart(first)

    def restart(self, first: int) -> None:
        """Nothing is known of what was before; from `first` on it will be."""
        self.first = first
        """The oldest revision from which nothing is missing."""
        self._rows: list[_Row] = []
        self._start = 0  # Those before it are forgotten, and cut off now and then.
        self._bytes = 0
        self._entries = 0

    def note(
        self,
        revision: int,
        operation: str,
        keys: Sequence[bytes],
        values: Sequence[bytes | None] | None,
        previous: Sequence[bytes | None],
    ) -> None:
        """This was done. Columns of one length; they are kept, not copied."""
        count = len(keys)
        size_bytes = sum(map(len, keys)) + sum(map(len, filter(None, previous)))
        size_bytes += count * _KEY_BYTES
        if values is not None:
            size_bytes += sum(map(len, filter(None, values)))
        self._add((revision, operation, keys, values, previous, count, size_bytes))

    def note_one(
        self, revision: int, operation: str, key: bytes, value: bytes | None, previous: bytes | None
    ) -> None:
        """The same of one key."""
        size_bytes = _KEY_BYTES + len(key)
        if value is not None:
            size_bytes += len(value)
        if previous is not None:
            size_bytes += len(previous)
        self._add((revision, operation, key, value, previous, 1, size_bytes))

    def _add(self, row: _Row) -> None:
        self._rows.append(row)
        self._entries += row[5]
        self._bytes += row[6]
        if self._bytes > self._bytes_max or self._entries > self._entries_max:
            self._forget(row[0])

    def _forget(self, newest: int) -> None:
        """The oldest, until it fits again; never what was noted last."""
        rows, start = self._rows, self._start
        while self._bytes > self._bytes_max or self._entries > self._entries_max:
            revision = rows[start][0]
            if revision == newest:
                break
            # All of that revision: a part of it is of use to nobody.
            while rows[start][0] == revision:
                self._entries -= rows[start][5]
                self._bytes -= rows[start][6]
                rows[start] = _FORGOTTEN  # Lets go of its values now.
                start += 1
            self.first = revision + 1
        if start >= _FORGOTTEN_MIN and start * 2 > len(rows):
            del rows[:start]
            start = 0
        self._start = start

    def since(self, revision: int) -> Iterator[Run]:
        """All runs at `revision` and behind it, in order. Nothing may be noted meanwhile."""
        rows = self._rows
        at = bisect_left(rows, revision, self._start, key=_REVISION)
        return map(_run, rows[at:])

    @property
    def size_bytes(self) -> int:
        """What is held, by its own count."""
        return self._bytes

    def __len__(self) -> int:
        """How many changed keys are held."""
        return self._entries


def _run(row: _Row) -> Run:
    revision, operation, keys, values, previous, _, _ = row
    if isinstance(keys, bytes):
        return Run(
            revision, operation, (keys,), (values,) if values is not None else None, (previous,)
        )
    return Run(revision, operation, keys, values, previous)
