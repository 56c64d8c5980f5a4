"""Numbers of a run: percentiles, distributions, operations over time. Pure.

percentile([..], 95)                 nearest rank: a value that was really seen
ecdf([..]) -> [(value, share)]
over_time(operations, bucket_us)     a row for each stretch: ok, fail, unknown, latencies
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from node.lab.history import FAIL, OK, UNKNOWN, Operation

__all__ = ["Bucket", "Spread", "ecdf", "over_time", "percentile", "spread"]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all are not above. ValueError when there are none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]


def ecdf(values: Sequence[float]) -> list[tuple[float, float]]:
    """Each value and the share of values not above it."""
    ordered = sorted(values)
    return [(value, (place + 1) / len(ordered)) for place, value in enumerate(ordered)]


@dataclass(frozen=True, slots=True)
class Spread:
    """What is told of many values."""

    count: int
    minimum: float
    median: float
    p95: float
    maximum: float

    def show(self, unit: str = "ms") -> str:
        """One line."""
        return (
            f"median {self.median:.1f} {unit}, p95 {self.p95:.1f}, max {self.maximum:.1f}, "
            f"min {self.minimum:.1f} (n = {self.count})"
        )


def spread(values: Sequence[float]) -> Spread | None:
    """None of no values."""
    if not values:
        return None
    return Spread(
        len(values), min(values), percentile(values, 50), percentile(values, 95), max(values)
    )


@dataclass(slots=True)
class Bucket:
    """What ended between from_us and to_us."""

    from_us: int
    to_us: int
    counts: dict[str, int] = field(default_factory=lambda: {OK: 0, FAIL: 0, UNKNOWN: 0})
    latencies_ms: list[float] = field(default_factory=list)

    def rate(self, outcome: str) -> float:
        """Operations per second."""
        return self.counts[outcome] * 1_000_000 / (self.to_us - self.from_us)


def over_time(operations: Iterable[Operation], until_us: int, bucket_us: int) -> list[Bucket]:
    """Buckets from 0 to until_us, by the end of each operation."""
    buckets = [Bucket(start, start + bucket_us) for start in range(0, max(until_us, 1), bucket_us)]
    for operation in operations:
        place = operation.end_us // bucket_us
        if 0 <= place < len(buckets):
            buckets[place].counts[operation.outcome] += 1
            if operation.outcome == OK:
                buckets[place].latencies_ms.append(operation.latency_us / 1000)
    return buckets
