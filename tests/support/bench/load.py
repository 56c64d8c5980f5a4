"""The load generator: one process, one thread, one epoll; the same for every server.

    python -m tests.support.bench.load '{"wire": "etcd", "test": "set", ...}'   -> one JSON object

    closed loop   each connection sends `pipeline` requests, waits for all, sends the next
    open loop     `rate` requests a second, planned in advance, whatever the answers do; latency
                  counts from the planned moment, so a pause of the server is not hidden

Latency of a closed loop is that of the whole pipeline, as redis-benchmark tells it. What is
measured begins after `warmup_s`. Keys are drawn by a seed. A reply is taken for the oldest request
of its connection (etcd may answer several at once in another order: then their mean is right).

Does not do: more than one core's worth. `cpu_generator` in the answer says how much of it was
used; near 1 it is the generator that was measured.

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import json
import math
import random
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.support.bench.meter import Meter
from tests.support.bench.wires import WIRES, Wire

__all__ = ["Load", "drive", "fill", "percentiles"]

_RECV_BYTES: Final = 1 << 18
_ANSWER_S: Final = 20.0
SERIES_FROM_S: Final = 10.0
"""Of an open loop that takes so long each second is told, too."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked, and how hard."""

    wire: str
    test: str
    servers: Sequence[tuple[str, int]]
    clients: int = 1
    pipeline: int = 1
    rate: float = 0.0
    """Operations per second of all clients; 0: closed loop."""
    seconds: float = 3.0
    warmup_s: float = 0.5
    keys: int = 10_000
    value_bytes: int = 256
    seed: int = 1
    pids: Sequence[int] = ()
    """Processes whose time is told beside it (see meter.py)."""


class _Connection:
    """A socket, what it was asked and when."""

    def __init__(self, load: Load, number: int) -> None:
        host, port = load.servers[number % len(load.servers)]
        self.socket = socket.create_connection((host, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire: Wire = WIRES[load.wire](load.test, value_bytes=load.value_bytes)
        self.heard = bytearray()
        self.waiting: deque[float] = deque()
        self.socket.sendall(self.wire.hello())

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)  # blocks when a server takes nothing: it is the one measured

    def hear(self) -> tuple[int, int]:
        """Replies and refusals that have come."""
        data = self.socket.recv(_RECV_BYTES)
        if not data:
            raise ConnectionError("a server hung up")
        self.heard += data
        found = self.wire.take(self.heard)
        if self.wire.owed:
            self.socket.sendall(self.wire.owed)
            self.wire.owed = b""
        return found


def drive(load: Load) -> dict[str, Any]:
    """Carry it out. ConnectionError: a server hung up, or nobody answered for 20 s."""
    connections = [_Connection(load, number) for number in range(load.clients)]
    try:
        with selectors.DefaultSelector() as selector:
            for each in connections:
                selector.register(each.socket, selectors.EVENT_READ, each)
            runner = _open_loop if load.rate else _closed_loop
            return runner(load, connections, selector)
    finally:
        for each in connections:
            each.socket.close()


def _closed_loop(
    load: Load, connections: list[_Connection], selector: selectors.BaseSelector
) -> dict[str, Any]:
    draw = random.Random(load.seed).randrange
    clock, keys, pipeline = time.perf_counter, load.keys, load.pipeline
    found, refused, count = list[float](), 0, 0
    left = {id(each): pipeline for each in connections}
    for each in connections:
        each.waiting.append(clock())
        each.send(b"".join(each.wire.ask(draw(keys)) for _ in range(pipeline)))
    begin_s = clock() + load.warmup_s
    end_s, meter = begin_s + load.seconds, Meter(load.pids)
    while (now_s := clock()) < end_s:
        if now_s >= begin_s and not meter.runs:
            meter.begin()
        ready = selector.select(_ANSWER_S)
        if not ready:
            raise ConnectionError(f"no answer for {_ANSWER_S:g} s")
        for key, _ in ready:
            each = key.data
            replies, refusals = each.hear()
            refused += refusals
            if clock() >= begin_s:
                count += replies
            left[id(each)] -= replies + refusals
            if left[id(each)] > 0:
                continue
            now_s = clock()
            if now_s >= begin_s:
                found.append(now_s - each.waiting[0])
            left[id(each)] = pipeline
            each.waiting[0] = now_s
            each.send(b"".join([each.wire.ask(draw(keys)) for _ in range(pipeline)]))
    seconds = clock() - begin_s
    return _told(count, refused, found, seconds, meter)


def _open_loop(
    load: Load, connections: list[_Connection], selector: selectors.BaseSelector
) -> dict[str, Any]:
    rng = random.Random(load.seed)
    clock, keys = time.perf_counter, load.keys
    found, refused = list[float](), 0
    begun_s = clock()
    begin_s = begun_s + load.warmup_s
    end_s, planned_s, number = begin_s + load.seconds, begun_s, 0
    meter = Meter(load.pids)
    asked = answered = 0
    by_second: dict[int, list[float]] = {}
    while True:
        now_s = clock()
        if now_s >= begin_s and not meter.runs:
            meter.begin()
        while planned_s <= now_s and planned_s < end_s:
            each = connections[number % len(connections)]
            number += 1
            each.waiting.append(planned_s)
            each.send(each.wire.ask(rng.randrange(keys)))
            asked += 1
            planned_s += rng.expovariate(load.rate)
        if planned_s >= end_s and (answered == asked or now_s > end_s + _ANSWER_S):
            break
        for key, _ in selector.select(max(min(planned_s, end_s + 1) - clock(), 0.0)):
            replies, refusals = key.data.hear()
            refused += refusals
            answered += replies + refusals
            now_s = clock()
            for _ in range(replies + refusals):
                at_s = key.data.waiting.popleft()
                if at_s >= begin_s:
                    found.append(now_s - at_s)
                    by_second.setdefault(int(at_s - begin_s), []).append(now_s - at_s)
    if answered < asked:
        raise ConnectionError(f"{asked - answered} requests were never answered")
    told = _told(len(found), refused, found, load.seconds, meter)
    if load.seconds >= SERIES_FROM_S:
        told["series"] = [_second(at, some) for at, some in sorted(by_second.items())]
    return told


def _second(at: int, some: list[float]) -> list[float]:
    """[second, answers, p50, p99, max] of what was planned in it."""
    of = percentiles(some)
    return [at, len(some), *(round(of[name], 3) for name in ("p50_ms", "p99_ms", "max_ms"))]


def _told(
    count: int, refused: int, found: list[float], seconds: float, meter: Meter
) -> dict[str, Any]:
    rate = count / seconds
    return {"ops_s": rate, "refused": refused, **meter.told(), **percentiles(found)}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50 ... max in milliseconds, nearest rank; nan of nothing."""
    ordered = sorted(seconds)
    names = {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99, "p99_9_ms": 99.9, "max_ms": 100}
    if not ordered:
        return dict.fromkeys(names, math.nan)
    places = {
        name: max(math.ceil(len(ordered) * each / 100) - 1, 0) for name, each in names.items()
    }
    return {name: ordered[place] * 1000 for name, place in places.items()}


def fill(load: Load) -> None:
    """Every key once, so that no read misses."""
    connection = _Connection(Load(**{**vars(load), "test": "set"}), 0)
    connection.socket.settimeout(_ANSWER_S)
    try:
        for start in range(0, load.keys, 100):
            some = range(start, min(start + 100, load.keys))
            connection.send(b"".join(map(connection.wire.ask, some)))
            done = 0
            while done < len(some):
                replies, refusals = connection.hear()
                done += replies
                if refusals:
                    raise ConnectionError("a key could not be written")
    finally:
        connection.socket.close()


def _main() -> None:
    told = json.loads(sys.argv[1])
    told["servers"] = [tuple(each) for each in told["servers"]]
    only_fill = told.pop("fill", False)
    load = Load(**told)
    if only_fill:
        fill(load)
        print("{}")
    else:
        print(json.dumps(drive(load)))


if __name__ == "__main__":
    _main()
