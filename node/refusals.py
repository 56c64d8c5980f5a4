"""What is said of refused connections: each reason once for each address, and never much.

    say("10.0.0.9", "frame of ... bytes")    -> one line
    the same pair again                      -> counted, and said again after an hour
    more than LINES_PER_MINUTE new pairs     -> counted; the next line says how many were not said

So neither a peer that is wrongly configured and dials every 50 ms nor a stranger who thinks of a
new reason each time fills a disk with our log, and whoever reads it still hears of both.

Invariant: PAIRS_MAX pairs are remembered, the oldest forgotten first.

Does not do: refuse anything (node.link). Time is handed in.

Proved by: tests/node/test_refusals.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.logs import EventLog

__all__ = ["Refusals"]

PAIRS_MAX: Final = 256
AGAIN_S: Final = 3600.0
LINES_PER_MINUTE: Final = 30


class Refusals:
    """The memory behind the lines.

    Args:
        monotonic: seconds.
    """

    def __init__(self, log: EventLog, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._monotonic = monotonic
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self._window_began_s = monotonic()
        self._lines = 0
        self._unsaid = 0
        self.count = 0
        """Of all refusals, said or not."""

    def say(self, address: str, reason: str, event: str = "peer connection refused") -> None:
        """Log it, unless that was done."""
        self.count += 1
        now_s = self._monotonic()
        pair = self._pairs.get((address, reason))
        if pair is None:
            while len(self._pairs) >= PAIRS_MAX:
                del self._pairs[next(iter(self._pairs))]
            pair = self._pairs[address, reason] = _Pair()
        pair.count += 1
        if pair.said_s is not None and now_s - pair.said_s < AGAIN_S:
            return
        if now_s - self._window_began_s >= 60.0:
            self._window_began_s, self._lines = now_s, 0
        if self._lines >= LINES_PER_MINUTE:
            self._unsaid += 1
            return
        self._lines += 1
        fields: dict[str, object] = {"peer": address, "reason": reason}
        if pair.count > 1:
            fields["times"] = pair.count
        if self._unsaid:
            fields["others_not_said"] = self._unsaid
        self._unsaid = 0
        pair.said_s, pair.count = now_s, 0
        self._log.warning(event, **fields)


class _Pair:
    __slots__ = ("count", "said_s")

    def __init__(self) -> None:
        self.count = 0
        """Since it was said last."""
        self.said_s: float | None = None
