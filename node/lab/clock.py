"""The laboratory's one time base: microseconds since the run began.

    clock = RunClock()          zero is now
    clock.now_us()              of CLOCK_MONOTONIC
    clock.from_wall_us(t)       the same moment, of a wall time that a node printed

Both clocks are those of this machine. The offset between them is taken once, at zero: a wall
clock that is set meanwhile would shift the nodes' events, and `drift_us` says by how much.

Proved by: tests/lab/test_events.py
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["RunClock", "file_stamp"]


class RunClock:
    """Microseconds since it was made."""

    def __init__(self) -> None:
        self._zero_ns = time.monotonic_ns()
        self._wall_zero_ns = time.time_ns()

    def now_us(self) -> int:
        """Microseconds since zero."""
        return (time.monotonic_ns() - self._zero_ns) // 1_000

    def from_wall_us(self, wall_us: int) -> int:
        """The run's time of a Unix time in microseconds."""
        return wall_us - self._wall_zero_ns // 1_000

    def drift_us(self) -> int:
        """How far the wall clock was moved against the monotonic one since zero."""
        wall_ns = time.time_ns() - self._wall_zero_ns
        return (wall_ns - (time.monotonic_ns() - self._zero_ns)) // 1_000

    def wall_zero(self) -> str:
        """The wall time of zero, for people."""
        return datetime.fromtimestamp(self._wall_zero_ns / 1e9, UTC).isoformat(timespec="seconds")


def file_stamp() -> str:
    """Now, fit for the name of a directory: 20261124-221500."""
    return datetime.fromtimestamp(time.time_ns() / 1e9, UTC).strftime("%Y%m%d-%H%M%S")
