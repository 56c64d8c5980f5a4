"""Time and loop turns by hand, and somebody who waits: for the rooms of a node without asyncio.

    clock = ManualClock()          clock.advance(0.5); clock.wall = ...
    turns = Turns()                call_soon=turns.soon; turns.run() makes one loop turn
    waiter = Waiter()              waiter.told is what it heard, in order

Nothing here waits or runs by itself, so a test says what happens between two moments.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from node.clock import Clock

__all__ = ["ManualClock", "Turns", "Waiter"]


class ManualClock(Clock):
    """Clocks that stand still. `wall` is milliseconds, `seconds` is the monotonic clock."""

    def __init__(self, wall_ms: int = 1_800_000_000_000, seconds: float = 100.0) -> None:
        super().__init__()
        self.wall = wall_ms
        self.seconds = seconds

    def wall_ms(self) -> int:
        return self.wall + self.offset_ms

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Both clocks go on."""
        self.seconds += seconds
        self.wall += round(seconds * 1000)


class Turns:
    """An event loop that runs when it is told to. `soon` may be called from any thread."""

    def __init__(self) -> None:
        self._work: list[Callable[[], object]] = []
        self._arrived = threading.Condition()

    def soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """call_soon and call_soon_threadsafe."""
        with self._arrived:
            self._work.append(lambda: function(*arguments))
            self._arrived.notify_all()

    def run(self) -> int:
        """One turn: everything that was asked for before it began. How much that was."""
        with self._arrived:
            work, self._work = self._work, []
        for each in work:
            each()
        return len(work)

    def run_until(self, done: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Turns, until `done`; waits for other threads meanwhile."""
        while not done():
            with self._arrived:
                arrived = bool(self._work) or self._arrived.wait(timeout_s)
            assert arrived, "nothing happened"
            self.run()


class Waiter:
    """A session or a call that waits. `told` has ("resolve", results), ("ready",), ("fail", e)."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def resolve(self, results: Sequence[Any], start: int, stop: int) -> None:
        self.told.append(("resolve", list(results[start:stop])))

    def ready(self) -> None:
        self.told.append(("ready",))

    def fail(self, error: Exception) -> None:
        self.told.append(("fail", error))

    @property
    def results(self) -> list[Any]:
        """What it got; it was told exactly once, and that it went well."""
        assert [each[0] for each in self.told] == ["resolve"], self.told
        result: list[Any] = self.told[0][1]
        return result

    @property
    def is_ready(self) -> bool:
        """Whether the read was granted; it was told nothing else."""
        assert self.told in ([], [("ready",)]), self.told
        return bool(self.told)

    @property
    def error(self) -> Exception | None:
        """Why it failed; None when it was told nothing. It was told nothing else."""
        assert [each[0] for each in self.told] in ([], ["fail"]), self.told
        return self.told[0][1] if self.told else None
