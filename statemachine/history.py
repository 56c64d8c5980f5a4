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

Cost: a batch of plain writes is noted in columns; 0.15 us a key, most of it for the previous value.

Invariants: revisions never fall; from `first` on nothing is missing; bytes_max and entries_max are
exceeded by one batch at most.

Does not: know who watches (node.watches), or a prefix from a key.

Proved by: tests/statemachine/test_history.py
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

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
    size_bytes: int

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


class History:
    """See above. Not thread-safe."""

    __slots__ = ("_bytes", "_bytes_max", "_entries", "_entries_max", "_revisions", "_runs",
                 "_start", "first")  # fmt: skip

    def __init__(self, config: HistoryConfig | None = None, first: int = 1) -> None:
        config = config or HistoryConfig()
        self._bytes_max = config.bytes_max
        self._entries_max = config.entries_max
        self.restart(first)

    def restart(self, first: int) -> None:
        """Nothing is known of what was before; from `first` on it will be."""
        self.first = first
        """The oldest revision from which nothing is missing."""
        # A list each, as bisect wants them; the front is cut off now and then, not every time.
        self._runs: list[Run] = []
        self._revisions: list[int] = []
        self._start = 0
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
        self._runs.append(Run(revision, operation, keys, values, previous, size_bytes))
        self._revisions.append(revision)
        self._bytes += size_bytes
        self._entries += count
        if self._bytes > self._bytes_max or self._entries > self._entries_max:
            self._forget()

    def _forget(self) -> None:
        """The oldest, until it fits again; never what was noted last."""
        runs, start = self._runs, self._start
        newest = self._revisions[-1]
        while self._bytes > self._bytes_max or self._entries > self._entries_max:
            run = runs[start]
            if run.revision == newest:
                break
            self._bytes -= run.size_bytes
            self._entries -= len(run.keys)
            self.first = run.revision + 1
            runs[start] = _FORGOTTEN  # Lets go of its values now.
            start += 1
        # The rest of a revision that was begun is of use to nobody.
        while start < len(runs) and runs[start].revision < self.first:
            self._bytes -= runs[start].size_bytes
            self._entries -= len(runs[start].keys)
            runs[start] = _FORGOTTEN
            start += 1
        if start >= _FORGOTTEN_MIN and start * 2 > len(runs):
            del runs[:start], self._revisions[:start]
            start = 0
        self._start = start

    def since(self, revision: int) -> Iterator[Run]:
        """All runs at `revision` and behind it, in order. Nothing may be noted meanwhile."""
        at = bisect_left(self._revisions, revision, self._start)
        return iter(self._runs[at:]) if at < len(self._runs) else iter(())

    @property
    def size_bytes(self) -> int:
        """What is held, by its own count."""
        return self._bytes

    def __len__(self) -> int:
        """How many changed keys are held."""
        return self._entries


_FORGOTTEN: Final = Run(0, "", (), None, (), 0)
