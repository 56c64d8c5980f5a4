"""How long something is ours: what a holder may believe without asking.

    asked ----- applied ------------------------- due (on the leader's clock)
      |<------------- ttl ------------->|
      believed: from the answer, until `asked + ttl` on our own monotonic clock

The time to live begins when the write is applied, which is after it was asked for: so we stop
believing before anybody else can get it, as long as our clock runs no more than `DRIFT` slower
than the leader's. A holder that was paused finds out by `check`, before its next step; what it
does elsewhere carries the token, which is why there is one.

Proved by: tests/node/test_protocols.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.errors import KVError

__all__ = ["Held", "Holding", "Lost"]

DRIFT: Final = 0.01
"""Our seconds may be longer than the leader's by this much."""


class Lost(KVError):
    """A lock, an office or a lease is ours no more, or may be."""


class Held:
    """One thing that is held. Thread-safe: each method is one step."""

    def __init__(self, ttl_s: float, now_s: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._now_s = now_s
        self._until_s = float("-inf")
        self._is_over = False

    def renewed(self, asked_s: float) -> None:
        """It is ours for another time to live, counted from when that was asked for."""
        self._until_s = max(self._until_s, asked_s + self._ttl_s * (1 - DRIFT))

    def end(self) -> None:
        """It is not: given back, or found to be somebody else's."""
        self._is_over = True

    @property
    def left_s(self) -> float:
        """How long it is ours at least; 0: it may be somebody else's."""
        return 0.0 if self._is_over else max(0.0, self._until_s - self._now_s())

    @property
    def is_held(self) -> bool:
        """Whether it is certainly ours now."""
        return self.left_s > 0

    @property
    def until_s(self) -> float:
        """On the clock that was handed in."""
        return self._until_s


class Holding:
    """What locks and leases have in common, whether a thread keeps them or a task."""

    def __init__(self, ttl_s: float, now_s: Callable[[], float]) -> None:
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._every_s = ttl_s / 3
        self._held = Held(ttl_s, now_s)

    @property
    def is_held(self) -> bool:
        """Whether it is certainly ours now, by our clock alone."""
        return self._held.is_held

    @property
    def left_s(self) -> float:
        """For how long at least, if nothing renews it."""
        return self._held.left_s

    def check(self) -> None:
        """Raises: Lost: it is not, or may not be, ours any more."""
        if not self._held.is_held:
            raise Lost("its time to live is over, or somebody else has it")
