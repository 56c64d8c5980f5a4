"""Which term each index had, in runs: pure values.

    runs    [(1, 1), (5, 2), (9, 0), (12, 4)]      last applied 14@4
    index    1 2 3 4 | 5 6 7 8 | 9 10 11 | 12 13 14
    term     1 1 1 1 | 2 2 2 2 | unknown |  4  4  4

Terms never fall as indexes rise, so a jump inside one term leaves no doubt; a jump into a new
term leaves the entries between unknown, kept as a run of term 0.

Invariants: first indexes rise strictly; the last run holds the last applied entry; at most
RUNS_MAX runs, the oldest are forgotten. `entry_term` is right or None, never a guess
(SEED defect 12).

Proved by: tests/statemachine/test_machine.py
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from statemachine.commands import LogId
from statemachine.errors import Rejected

__all__ = ["NOTHING", "RUNS_MAX", "LogTerms"]

NOTHING: Final = LogId(0, 0)
"""Before the first entry."""

RUNS_MAX: Final = 1024
"""A run is an election. The bound keeps the image's head small after years of them."""


class LogTerms:
    """The last applied entry and the term runs up to it."""

    __slots__ = ("_runs", "last_index", "last_term")

    def __init__(self, last: LogId = NOTHING, runs: Sequence[tuple[int, int]] = ()) -> None:
        """Raises: Rejected when the runs do not fit together or do not end in `last`."""
        firsts = [first for first, _ in runs]
        known = [term for _, term in runs if term]
        if firsts != sorted(set(firsts)) or known != sorted(set(known)) or len(runs) > RUNS_MAX:
            raise Rejected("the term runs are out of order")
        if last.index and (not runs or runs[-1][0] > last.index or runs[-1][1] != last.term):
            raise Rejected(f"the term runs do not end in {last.index}@{last.term}")
        if not last.index and (last.term or runs):
            raise Rejected("there are term runs, but no entry")
        self._runs = list(runs)
        self.last_index = last.index
        self.last_term = last.term

    @property
    def last(self) -> LogId:
        """The last applied entry; 0@0 before the first."""
        return LogId(self.last_index, self.last_term)

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(first index, term), oldest first; term 0: not known. A copy."""
        return list(self._runs)

    def advance(self, index: int, term: int) -> None:
        """The entry at `index` was applied. The caller has checked that it comes later."""
        if term != self.last_term or not self._runs:
            if index != self.last_index + 1:
                self._runs.append((self.last_index + 1, 0))
            self._runs.append((index, term))
            del self._runs[:-RUNS_MAX]
            self.last_term = term
        self.last_index = index

    def entry_term(self, index: int) -> int | None:
        """The term of the entry at `index`; None when it is not known or not applied."""
        if index > self.last_index:
            return None
        # Term -1 sorts before every term: the run that holds `index` is the one before.
        at = bisect_right(self._runs, index, key=lambda run: run[0]) - 1
        return (self._runs[at][1] or None) if at >= 0 else None
