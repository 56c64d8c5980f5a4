"""The last minutes of one node: a sample twice a second, and what it said of itself.

    every 0.5 s   one sample (JSON, some 500 bytes)  -> ring of 10 minutes, and to who listens
    each event    one line of the log, as an object  -> ring of 400,        and to who listens
    a role event  also a sample at once, so that a page sees a new leader when it is there

    {"kind": "sample", "node": "n1", "at": 1700000000000, "role": "leader", "term": 3, ...}
    {"kind": "event",  "node": "n1", "at": ..., "level": "info", "event": "role", ...}

Rates and latencies of a sample are those of the time since the one before: differences of what
node.meters counts, so nothing is counted twice for the page's sake.

Invariants: listeners are bounded queues: one that is full loses its listener, not the node its
memory. No value of a key is in it; names of keys neither.

A crash forgets it; the page draws what it saw before.

Does not do: talk to other nodes (node.web.fan_in), know HTTP.

Proved by: tests/web/test_pages.py
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from node.connection import Frontend
from node.core import Core
from node.meters import quantile

__all__ = ["SAMPLE_S", "Recorder"]

SAMPLE_S: Final = 0.5
SAMPLES_MAX: Final = 1_200
EVENTS_MAX: Final = 400
QUEUE_MAX: Final = 256


class Recorder:
    """One node's own view of itself, kept for a while."""

    def __init__(self, node_id: str, wall_ms: Callable[[], int]) -> None:
        self._node_id = node_id
        self._wall_ms = wall_ms
        self._core: Core | None = None
        self._frontend: Frontend | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._early: asyncio.Handle | None = None
        self.samples: deque[str] = deque(maxlen=SAMPLES_MAX)
        self.events: deque[str] = deque(maxlen=EVENTS_MAX)
        self.events_total: dict[tuple[str, str], int] = {}
        """By (level, event). Events are words of our own: their number is bounded."""
        self.elections_total = 0
        self.leader_changes_total = 0
        self._leader: object = None
        self._listeners: set[asyncio.Queue[str | None]] = set()
        self._deltas = _Deltas()

    def watch(self, level: str, event: str, fields: dict[str, object]) -> None:
        """A node.logs.Watch. In the loop's thread (what the sync thread says comes through it)."""
        key = (level, event)
        self.events_total[key] = self.events_total.get(key, 0) + 1
        if event == "role":
            self.elections_total += fields.get("role") == "candidate"
            leader = fields.get("leader")
            if leader is not None and leader != self._leader:
                self.leader_changes_total += 1
                self._leader = leader
        said = {"kind": "event", "node": self._node_id, "at": self._wall_ms()}
        text = json.dumps(said | {"level": level, "event": event} | fields)
        self.events.append(text)
        self._tell(text)
        if event in ("role", "leader ready") and self._core is not None and self._early is None:
            self._early = asyncio.get_running_loop().call_soon(self._sample_early)

    def begin(self, core: Core, frontend: Frontend) -> None:
        """Sample from now on."""
        self._core, self._frontend = core, frontend
        self._on_timer()

    def stop(self) -> None:
        """No more; listeners are told the end."""
        for handle in (self._timer, self._early):
            if handle is not None:
                handle.cancel()
        self._core = None
        for queue in self._listeners:
            _put(queue, None)
        self._listeners.clear()

    def _on_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SAMPLE_S, self._on_timer)
        self._sample()

    def _sample_early(self) -> None:
        self._early = None
        self._sample()

    def _sample(self) -> None:
        if self._core is None or self._frontend is None:
            return
        text = json.dumps(self.sample())
        self.samples.append(text)
        self._tell(text)

    def sample(self) -> dict[str, Any]:
        """What there is to say now, with rates since the last time this was called."""
        core, frontend = self._core, self._frontend
        assert core is not None
        assert frontend is not None
        raft, leading = core.raft, core.transport.leading
        leads = raft.is_leader()
        now_ms = self._wall_ms()
        return {
            "kind": "sample",
            "node": self._node_id,
            "at": now_ms,
            "role": raft.role(),
            "term": raft.term(),
            "leader": raft.leader_id(),
            "commit": raft.commit_index(),
            "applied": raft.applied_index(),
            "durable": raft.journal.durable_index,
            "ready": core.is_ready(),
            "refusal": core.batches.refusal or core.batches.leaving or "",
            "keys": len(core.machine),
            "leases": core.machine.leases_count,
            "clients": len(frontend.connections),
            "journal_bytes": raft.journal.size_bytes,
            "peers": {
                each.id: {
                    "up": core.links.is_up(each.id),
                    "acked": leading.acked_index(each.id) if leads else None,
                    "rtt_us": _us(core.links.round_trip_s(each.id)),
                }
                for each in core.members()
                if each.id != self._node_id
            },
            **self._deltas.since(now_ms, core, frontend),
        }

    # -- listeners ------------------------------------------------------------------------

    def listen(self) -> asyncio.Queue[str | None]:
        """Everything that is recorded from now on; None is its end."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(QUEUE_MAX)
        self._listeners.add(queue)
        return queue

    def leave(self, queue: asyncio.Queue[str | None]) -> None:
        """No more of it."""
        self._listeners.discard(queue)

    def history(self) -> str:
        """What was recorded, as one JSON object: {"kind": "history", "samples", "events"}."""
        return (
            f'{{"kind": "history", "node": {json.dumps(self._node_id)}, '
            f'"samples": [{", ".join(self.samples)}], "events": [{", ".join(self.events)}]}}'
        )

    def _tell(self, text: str) -> None:
        for queue in list(self._listeners):
            if not _put(queue, text):
                self._listeners.discard(queue)


def _put(queue: asyncio.Queue[str | None], text: str | None) -> bool:
    """Whether there was room. Where there was none, the end takes the place of the oldest."""
    if not queue.full():
        queue.put_nowait(text)
        return True
    queue.get_nowait()
    queue.put_nowait(None)
    return False


class _Deltas:
    """Counters as they were, to say what happened since."""

    def __init__(self) -> None:
        self._at_ms = 0
        self._commands = 0
        self._writes: list[int] = []
        self._reads: list[int] = []
        self._lag: list[int] = []

    def since(self, now_ms: int, core: Core, frontend: Frontend) -> dict[str, Any]:
        """Rates per second; latencies and lag in milliseconds, null where nothing happened."""
        elapsed_s = max(now_ms - self._at_ms, 1) / 1000 if self._at_ms else None
        self._at_ms = now_ms
        commands = frontend.commands_total - self._commands
        self._commands = frontend.commands_total
        rows = frontend.meter.rows
        batches = core.batches.meter.seconds
        writes, self._writes = _difference(batches.counts, self._writes), list(batches.counts)
        gets = rows["get"].counts if "get" in rows else []
        reads, self._reads = _difference(gets, self._reads), list(gets)
        lag, self._lag = _difference(core.lag.counts, self._lag), list(core.lag.counts)
        bounds = batches.bounds
        return {
            "ops": round(commands / elapsed_s, 1) if elapsed_s else 0,
            "batches": round(sum(writes) / elapsed_s, 1) if elapsed_s else 0,
            "write_p50": _ms(quantile(bounds, writes, 0.5)),
            "write_p99": _ms(quantile(bounds, writes, 0.99)),
            "get_p50": _ms(quantile(bounds, reads, 0.5)),
            "get_p99": _ms(quantile(bounds, reads, 0.99)),
            "lag_p99": _ms(quantile(bounds, lag, 0.99)),
        }


def _difference(now: list[int], before: list[int]) -> list[int]:
    return [new - old for new, old in zip(now, before or [0] * len(now), strict=True)]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)
