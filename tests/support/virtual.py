"""Virtual time: an asyncio loop whose clock jumps to the next timer, and the clock of its nodes.

No test waits for time: an hour of heartbeats costs what the heartbeats cost. A loop in which
nothing will ever happen again raises instead of hanging.

Proved by: tests/node/test_simulation.py
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

from node.clock import Clock

__all__ = ["WALL_AT_START_MS", "VirtualClock", "VirtualLoop"]

_STARTED_AT_S = 1_000.0
WALL_AT_START_MS = 1_700_000_000_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time stands still while something is to do, and jumps when nothing is."""

    def __init__(self) -> None:
        self.now_s = _STARTED_AT_S
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.now_s


class _Jump(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("nothing will ever happen in this loop again")
        self._loop.now_s += max(timeout, 0.0)
        return super().select(0)


class VirtualClock(Clock):
    """The loop's clock, as a node reads it."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def wall_ms(self) -> int:
        seconds = self._loop.now_s - _STARTED_AT_S
        return WALL_AT_START_MS + int(seconds * 1000) + self.offset_ms

    def monotonic(self) -> float:
        return self._loop.now_s
