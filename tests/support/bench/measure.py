"""One figure: a load against a system, and what it cost the machine meanwhile.

    row = measure(system, Case(...), settings) -> {"system", "case", "ops_s", "p50_ms", ...}

What it cost is told by meter.py; of redis-benchmark with the short run before it.

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.support.bench.meter import Meter
from tests.support.bench.systems import ROOT, System

__all__ = ["CASES", "Case", "Settings", "fill", "measure"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for every figure."""

    seconds: float = 3.0
    keys: int = 10_000
    value_bytes: int = 256


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
    """Of which peer, and the ratio that issue 7 sets."""
    by: str = "load"
    """Who asks: this program's load, or redis-benchmark."""
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
        goal=("redis", 0.8), by="redis-benchmark",
    ),
    Case(
        name="GET linearizable, 1 client", test="get", clients=1, against=("etcd", "redis"),
        measure="p50_ms",
    ),
    Case(
        name="GET linearizable, 256 clients", test="get", clients=256, everywhere=True,
        against=("etcd",), goal=("etcd", 5.0),
    ),
    Case(
        name="GET eventual, 256 clients", test="get_eventual", clients=256, everywhere=True,
        against=("etcd", "nats"),
    ),
    Case(
        name="GET eventual, 50 clients, P=16", test="get_eventual", clients=50, pipeline=16,
        against=("redis",), goal=("redis", 0.7),
    ),
    Case(name="SET, 64 clients", test="set", clients=64, against=("etcd",)),
    Case(
        name="SET, 64 clients, open loop at half the peak", test="set", clients=64, share=0.5,
        against=("etcd",), measure="p99_ms",
    ),
)  # fmt: skip
"""What `--against` measures."""


def fill(system: System, settings: Settings) -> None:
    """Write every key once."""
    _load(system, settings, {"test": "set", "servers": system.leader, "fill": True})


def measure(system: System, case: Case, settings: Settings, rate: float = 0.0) -> dict[str, Any]:
    """Carry it out. RuntimeError: it could not be."""
    servers = system.servers if case.everywhere else system.leader
    if case.by == "redis-benchmark":
        meter = Meter(system.pids)
        meter.begin()
        found = {**_redis_benchmark(servers[0], case, settings), **meter.told()}
        found["cpu_generator"] = None  # another process's
    else:
        words = {"test": case.test, "servers": servers, "rate": rate, "seconds": settings.seconds}
        words["pids"] = system.pids
        found = _load(
            system, settings, {**words, "clients": case.clients, "pipeline": case.pipeline}
        )
    return {
        "system": system.name,
        "case": case.name,
        "by": case.by,
        "clients": case.clients,
        "pipeline": case.pipeline,
        "rate": rate,
        **found,
    }


def _load(system: System, settings: Settings, words: dict[str, Any]) -> dict[str, Any]:
    """The generator, in a process of its own."""
    told = {"wire": system.wire, "keys": settings.keys, "value_bytes": settings.value_bytes}
    program = [sys.executable, "-m", "tests.support.bench.load", json.dumps({**told, **words})]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=600)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        raise RuntimeError(f"{system.name}: {' '.join(said)}")
    found: dict[str, Any] = json.loads(done.stdout) or {}
    return found


def _redis_benchmark(server: tuple[str, int], case: Case, settings: Settings) -> dict[str, Any]:
    def run(requests: int) -> dict[str, Any]:
        words = ["redis-benchmark", "-h", server[0], "-p", str(server[1]), "--csv"]
        words += ["-t", case.test, "-n", str(requests), "-c", str(case.clients)]
        words += ["-P", str(case.pipeline), "-d", str(settings.value_bytes)]
        words += ["-r", str(settings.keys)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=600)
        lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
        (row,) = csv.DictReader(io.StringIO("\n".join(lines)))
        names = ("p50", "p95", "p99", "max")
        told = {f"{name}_ms": float(row[f"{name}_latency_ms"]) for name in names}
        return {"ops_s": float(row["rps"]), **told}

    # A short run says how many requests fill the time that was asked for.
    probe = run(max(500, case.clients * case.pipeline * 4))
    requests = max(int(probe["ops_s"] * settings.seconds), case.clients * case.pipeline)
    return {**run(requests), "p99_9_ms": None, "refused": 0}
