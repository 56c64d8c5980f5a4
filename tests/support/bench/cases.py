"""What is measured: cases, their goals, and what holds for all of them.

    CASES     what `scripts/bench --against` runs, each with the goal that issue 7 sets, if any
    by="tools"   redis-benchmark and h2load (tests.support.bench.tools) where the wire has one and
                 the case is a closed loop; the Python generator (load.py) for everything else

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["CASES", "Case", "Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for every figure."""

    seconds: float = 3.0
    keys: int = 10_000
    value_bytes: int = 256
    under: str = ""
    """Words before the generator's own: `taskset -c 1`, or a lock."""
    calm: float = 0.0
    """Measured again while others use more than so much of a core; of TRIES the calmest counts."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row of the matrix: the same work for each system that can do it."""

    name: str
    test: str
    clients: int
    pipeline: int = 1
    everywhere: bool = False
    """Clients are spread over all servers; else all go to the leader."""
    against: Sequence[str] = ()
    """Who can be asked for the same."""
    measure: str = "ops_s"
    goal: tuple[str, float] | None = None
    """Of which peer, and the ratio that is to be reached."""
    by: str = "tools"
    """Who asks: programs in C where there is one, or "load", the generator in Python."""
    share: float = 0.0
    """Open loop: at this share of the rate of the case with the same clients that came before."""


CASES: Final = (
    Case(
        name="SET, 1 client", test="set", clients=1, against=("etcd", "redis", "nats"),
        measure="p50_ms", goal=("etcd", 0.6),
    ),
    Case(
        name="SET, 256 clients", test="set", clients=256, against=("etcd", "redis", "nats"),
        goal=("etcd", 4.0),
    ),
    Case(
        name="SET, 50 clients, P=16", test="set", clients=50, pipeline=16, against=("redis",),
        goal=("redis", 0.8),
    ),
    Case(
        name="GET linearizable, 1 client", test="get", clients=1, against=("etcd", "redis"),
        measure="p50_ms",
    ),
    Case(
        name="GET linearizable, 256 clients", test="get", clients=256, everywhere=True,
        against=("etcd",), goal=("etcd", 5.0),
    ),
    Case(name="SET, 64 clients", test="set", clients=64, against=("etcd",)),
    Case(
        name="SET, 64 clients, open loop at half the peak", test="set", clients=64, share=0.5,
        against=("etcd",), measure="p99_ms", by="load",
    ),
    Case(
        name="GET eventual, 256 clients", test="get_eventual", clients=256, everywhere=True,
        against=("etcd", "nats"),
    ),
    Case(
        name="GET eventual, 50 clients, P=16", test="get_eventual", clients=50, pipeline=16,
        against=("redis",), goal=("redis", 0.7),
    ),
)  # fmt: skip
"""What `--against` measures."""
