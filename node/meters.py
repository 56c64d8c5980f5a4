"""What is counted where it happens: histograms, commands by name, batches. Numbers alone.

    bounds    0.0001   0.00025  ...  10      seconds, upper, inclusive
    counts  [    ,        ,     ...,   , + ] one more than bounds; the last: all that is longer

A histogram is a list of numbers that grow; whoever scrapes sums them up (node.web.families). So
what is hot pays one binary search and two additions for each *run* of commands, for each batch,
for each fsync: never an object for an operation.

Invariants: counts only grow. Each histogram has one thread that writes it; who reads it from
another one may see an observation whose sum is not there yet, never a torn number.

A crash forgets all of it: counters begin at 0 with each process, as Prometheus expects.

Does not do: names, text (node.web.exposition).

Proved by: tests/web/test_meters.py
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from node.clock import Clock

__all__ = ["SECONDS", "SIZES", "BatchMeter", "CommandMeter", "Histogram", "quantile"]

SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
)  # fmt: skip
"""Bounds for times."""
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192)
"""Bounds for how many."""


class Histogram:
    """Counts by upper bound, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """`value` was seen `count` times."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    @property
    def count(self) -> int:
        """How often anything was seen."""
        return sum(self.counts)


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Where this share (0..1) of what was counted lies, between two bounds in proportion.

    None when nothing was counted; the greatest bound for what is beyond it.
    """
    wanted, seen = share * sum(counts), 0.0
    if not wanted:
        return None
    for place, count in enumerate(counts[: len(bounds)]):
        if seen + count >= wanted and count:
            low = bounds[place - 1] if place else 0.0
            return low + (bounds[place] - low) * (wanted - seen) / count
        seen += count
    return float(bounds[-1])


class CommandMeter:
    """How often each command was answered by this node, and how long that took.

    A run of a pipeline is timed as one: from when it was begun to when its answers were made.
    """

    __slots__ = ("_last_name", "_last_row", "now", "rows")

    def __init__(self, monotonic: Callable[[], float] | None = None) -> None:
        self.now: Callable[[], float] = monotonic if monotonic is not None else Clock().monotonic
        self.rows: dict[str, Histogram] = {}
        """By the command's name in lower case; only names of the table: their number is bounded."""
        self._last_name = ""
        self._last_row = Histogram()

    def note(self, name: str, count: int, begun_s: float) -> None:
        """`count` commands of this name, begun at `begun_s`, are answered now."""
        if name != self._last_name:
            row = self.rows.get(name)
            if row is None:
                row = self.rows[name] = Histogram()
            self._last_name, self._last_row = name, row
        self._last_row.observe(self.now() - begun_s, count)

    def note_each(self, names: Sequence[str], begun_s: float) -> None:
        """One command of each name, all begun at `begun_s`, all answered now."""
        if len(names) == 1:
            self.note(names[0], 1, begun_s)
        else:
            for name, count in Counter(names).items():
                self.note(name, count, begun_s)


class BatchMeter:
    """The batches that this node made: how large, and how long until they were applied here."""

    __slots__ = ("bytes", "commands", "failed_total", "seconds")

    def __init__(self) -> None:
        self.seconds = Histogram()
        self.commands = Histogram(SIZES)
        self.bytes = 0
        self.failed_total = 0
        """Batches whose clients were told that they were not, or perhaps not, applied."""

    def applied(self, commands: int, bytes_: int, seconds: float) -> None:
        """One batch came back, in the order in which it was proposed."""
        self.seconds.observe(seconds)
        self.commands.observe(commands)
        self.bytes += bytes_
