"""Generators in C that everybody has: redis-benchmark for RESP, h2load for etcd's gRPC.

    python -m tests.support.bench.tools '{"wire": "resp", "test": "set", ...}'   -> one JSON object

The same words and the same answer as tests.support.bench.load, whose Python costs five times as
much of the processor that the servers want too. Closed loops only. With several servers there is
one process for each, all at once, each with its share of the clients; rates add up, and of a
percentile the worst of them is told.

    redis-benchmark   -t set|get: so many requests as a short run before says will fill the time;
                      its histogram is to three digits
    h2load            POSTs one body again and again: one key. Exact times, from its log. An
                      answer is counted by its HTTP status: a Put that etcd refuses counts too
                      (the Python generator sees those, and is run beside it)

The level of a read is the server's default: redis-benchmark cannot ask for one.

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.bench.load import Load, percentiles
from tests.support.bench.meter import Meter
from tests.support.bench.wires import EtcdWire

__all__ = ["PROGRAMS", "drive", "h2load_times", "redis_benchmark_told", "shares"]

PROGRAMS: Final = {"resp": ("redis-benchmark", "redis-tools"), "etcd": ("h2load", "nghttp2-client")}
"""Program and Debian package for a wire; nothing there for others."""

_PROBE_S: Final = 0.3
_LINE: Final = re.compile(r"^([\d.]+)% <= ([\d.]+) milliseconds", re.MULTILINE)
_RATE: Final = re.compile(r"throughput summary: ([\d.]+) requests per second")
_WANTED: Final = {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99, "p99_9_ms": 99.9, "max_ms": 100}


def drive(load: Load) -> dict[str, Any]:
    """Carry it out. RuntimeError: a program failed, or there is none for this wire."""
    if load.rate or load.wire not in PROGRAMS or shutil.which(PROGRAMS[load.wire][0]) is None:
        raise RuntimeError(f"no program for {load.wire}{' at a rate' if load.rate else ''}")
    kind = _redis_benchmark if load.wire == "resp" else _h2load
    return kind(load, shares(load.clients, len(load.servers)))


def shares(clients: int, servers: int) -> list[int]:
    """As equal as they can be; a server without clients gets no process."""
    return [clients // servers + (place < clients % servers) for place in range(servers)]


def _together(commands: Sequence[Sequence[str]], meter: Meter) -> tuple[list[str], dict[str, Any]]:
    """What they printed, and what it cost while the first until the last of them ran."""
    meter.begin()
    running = [
        subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for each in commands
    ]
    said = [each.communicate()[0] for each in running]
    told = meter.told()
    for process, text in zip(running, said, strict=True):
        if process.returncode:
            raise RuntimeError(f"{process.args!r}: {text[-300:]}")
    return said, told


def _redis_benchmark(load: Load, clients: Sequence[int]) -> dict[str, Any]:
    def words(place: int, requests: int) -> list[str]:
        host, port = load.servers[place]
        found = ["redis-benchmark", "-h", host, "-p", str(port), "--precision", "3"]
        found += ["-t", "set" if load.test == "set" else "get", "-n", str(requests)]
        found += ["-c", str(clients[place]), "-P", str(load.pipeline)]
        return [*found, "-d", str(load.value_bytes), "-r", str(load.keys)]

    used = [place for place, each in enumerate(clients) if each]
    nobody = Meter(())
    least = {place: clients[place] * load.pipeline for place in used}
    # Twice: the first is so short that opening its connections is most of it.
    counts = {place: max(500, 4 * least[place]) for place in used}
    for seconds in (max(load.warmup_s, _PROBE_S), load.seconds):
        said, _ = _together([words(place, counts[place]) for place in used], nobody)
        for place, text in zip(used, said, strict=True):
            rate = redis_benchmark_told(text)["ops_s"]
            counts[place] = max(int(rate * seconds), 2 * least[place])
    said, cost = _together([words(place, counts[place]) for place in used], Meter(load.pids))
    return {**_merged([redis_benchmark_told(text) for text in said]), "refused": 0, **cost}


def redis_benchmark_told(text: str) -> dict[str, float]:
    """Rate and percentiles of what it printed. RuntimeError: it is not a result."""
    text = text.replace("\r", "\n")
    rate = _RATE.search(text)
    _, _, part = text.partition("Latency by percentile distribution:")
    lines = [
        tuple(map(float, each)) for each in _LINE.findall(part.partition("Cumulative dist")[0])
    ]
    if rate is None or not lines:
        raise RuntimeError(f"redis-benchmark said: {text[-300:]}")
    found = {"ops_s": float(rate[1])}
    for name, share in _WANTED.items():
        found[name] = next(ms for percent, ms in lines if percent >= share or percent == 100)
    summary = re.search(r"avg +min +p50 +p95 +p99 +max\n([\d. ]+)", text)
    if summary is not None:  # p95 and p99 to the point; the lines have 96.875 and 99.219
        _, _, p50, p95, p99, most = map(float, summary[1].split())
        found |= {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "max_ms": most}
    return found


def _merged(found: Sequence[dict[str, float]]) -> dict[str, float]:
    worst = {name: max(each[name] for each in found) for name in _WANTED}
    return {"ops_s": sum(each["ops_s"] for each in found), **worst}


def _h2load(load: Load, clients: Sequence[int]) -> dict[str, Any]:
    wire = EtcdWire(load.test, value_bytes=load.value_bytes)
    with tempfile.TemporaryDirectory(prefix="trimaran-bench-") as name:
        place = Path(name)
        (place / "body").write_bytes(wire.message(0))
        commands = []
        for number, (host, port) in enumerate(load.servers):
            if not clients[number]:
                continue
            words = ["h2load", "-t", "1", "-c", str(clients[number]), "-m", str(load.pipeline)]
            # NB: whole seconds. It ends a connection in the middle of its last request.
            words += ["-D", str(max(round(load.seconds), 1)), "--warm-up-time", "1"]
            words += ["-d", str(place / "body"), f"--log-file={place / f'log{number}'}"]
            words += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
            commands.append([*words, f"http://{host}:{port}{wire.path}"])
        said, cost = _together(commands, Meter(load.pids))
        failed = sum(int(re.findall(r"(\d+) failed", text)[0]) for text in said)
        seconds = max(round(load.seconds), 1)
        times = [h2load_times(each.read_text()) for each in sorted(place.glob("log*"))]
    every = [each for some in times for each in some]
    return {"ops_s": len(every) / seconds, "refused": failed, **cost, **percentiles(every)}


def h2load_times(log: str) -> list[float]:
    """Seconds of each request that was answered."""
    rows = (line.split("\t") for line in log.splitlines())
    return [int(took) / 1e6 for _, status, took in rows if status == "200"]


def _main() -> None:
    told = json.loads(sys.argv[1])
    told["servers"] = [tuple(each) for each in told["servers"]]
    print(json.dumps(drive(Load(**told))))


if __name__ == "__main__":
    _main()
