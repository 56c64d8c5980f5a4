"""How cost grows: one thing changes, everything else stays. Points of each sweep, and their charts.

    size      bytes of a value                           16 B .. 1 MiB
    keys      how many there are                         1,000 .. 1,000,000 (10M: --values)
    data      MB of other values that lie there too      1, 100, 1,000
    clients   that ask at once                           1 .. 256
    nodes     of ours                                    1, 3, 5
    fsync     ms that each takes longer, at the door of the disk (node.labdoor)   0, 1, 5, 20

SET and linearizable GET from 64 clients, by the C generators; `x` of a row says where it belongs.

Invariants: of a sweep over sizes at most 64 MiB of values are filled in.

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.support.bench.bulk import write_bulk
from tests.support.bench.cases import Case, Settings
from tests.support.bench.systems import Ours, System, slow_down

__all__ = ["SWEEPS", "Point", "cases_at", "points", "prepare"]

SWEEPS: Final[dict[str, tuple[str, Sequence[int]]]] = {
    "size": ("bytes of a value", (16, 256, 4_096, 65_536, 1_048_576)),
    "keys": ("keys", (1_000, 10_000, 100_000, 1_000_000)),
    "data": ("MB of data", (1, 100, 1_000)),
    "clients": ("clients", (1, 4, 16, 64, 256)),
    "nodes": ("nodes", (1, 3, 5)),
    "fsync": ("ms that an fsync takes longer", (0, 1, 5, 20)),
}
"""What x is, and where it is looked at."""

_FILLED_BYTES_MAX: Final = 64 * 1024 * 1024
_BULK_BYTES: Final = 4_096


@dataclass(frozen=True, kw_only=True)
class Point:
    """One place on the axis."""

    x: int
    settings: Settings
    ours: Ours
    clients: int = 64
    sync_delay_ms: int = 0
    bulk_mb: int = 0
    needs_new: bool = field(default=False)
    """Whether the systems are to be started anew for it."""


def points(sweep: str, values: Sequence[int], settings: Settings, ours: Ours) -> list[Point]:
    """In order."""
    found = []
    for x in values or SWEEPS[sweep][1]:
        point = Point(x=x, settings=settings, ours=ours)
        change = dataclasses.replace
        if sweep == "size":
            keys = max(min(settings.keys, _FILLED_BYTES_MAX // x), 1)
            point = change(point, settings=change(settings, value_bytes=x, keys=keys))
        elif sweep == "keys":
            point = change(point, settings=change(settings, keys=x))
        elif sweep == "data":
            point = change(point, bulk_mb=x)
        elif sweep == "clients":
            point = change(point, clients=x)
        elif sweep == "nodes":
            point = change(point, ours=change(ours, nodes=x), needs_new=True)
        else:
            point = change(point, ours=change(ours, doors=True), sync_delay_ms=x)
        found.append(point)
    return found


def cases_at(point: Point, sweep: str, peers: Sequence[str]) -> list[Case]:
    """Names are the same at all points of a line; the place is told apart from them."""
    against = [] if sweep in ("nodes", "fsync", "data") else peers
    return [
        Case(name=name, test=test, clients=point.clients, against=against)
        for name, test in (("SET", "set"), ("GET linearizable", "get"))
    ]


def prepare(system: System, point: Point) -> None:
    """What else is to be there before it is measured."""
    if system.cluster is not None and point.ours.doors:
        slow_down(system, point.sync_delay_ms)
    if system.wire == "resp" and point.bulk_mb:
        write_bulk(system.leader[0], point.bulk_mb * 1_000_000 // _BULK_BYTES, _BULK_BYTES)
