"""The door to time: one object tells the wall clock and the monotonic one.

    wall_ms()    Unix milliseconds; may jump either way when the machine's clock is set
    monotonic()  seconds since some moment in the past; never runs backwards

Nothing else in `node` reads a clock, so a test hands in a clock of its own and an
experiment can shift one node's wall clock (`offset_ms`) without touching the machine's.

`LeaderClock` is the time that a leader stamps into batches (DESIGN "Time and leases"):
its wall clock at election plus monotonic time since, never behind the state machine's
clock. A jump of the wall clock while in office therefore changes nothing.

Does not do: schedule (that is the event loop's), decide about leases (statemachine.store).

Proved by: tests/node/test_clock.py
"""

from __future__ import annotations

import time

__all__ = ["Clock", "LeaderClock"]


class Clock:
    """The machine's clocks.

    Args:
        offset_ms: added to the wall clock, for experiments with clocks that disagree.
    """

    def __init__(self, offset_ms: int = 0) -> None:
        self.offset_ms = offset_ms

    def wall_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000 + self.offset_ms

    def monotonic(self) -> float:
        """Seconds; only differences mean something."""
        return time.monotonic()


class LeaderClock:
    """Milliseconds as one leader in one term tells them. Never runs backwards.

    Args:
        clock: where wall and monotonic time come from.
        floor_ms: the state machine's clock at election.
    """

    def __init__(self, clock: Clock, floor_ms: int) -> None:
        self._clock = clock
        self._base_ms = max(clock.wall_ms(), floor_ms)
        self._base_s = clock.monotonic()

    def now_ms(self) -> int:
        """Unix milliseconds: the base at election plus monotonic time since."""
        return self._base_ms + int((self._clock.monotonic() - self._base_s) * 1000)
