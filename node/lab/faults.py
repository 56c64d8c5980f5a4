"""What is broken: one fault at a time is injected, held for a while, and healed.

    kill            kill -9, started again `for_s` later         term             SIGTERM, likewise
    pause           SIGSTOP, SIGCONT `for_s` later               restart_all      kill -9 of all
    rolling_restart SIGTERM and start, node after node, each waited for
    isolate         all wires of the target, both ways           mute             nothing leaves it
    deaf            nothing reaches it                           cut_one          one wire of it
    ring            only neighbours talk (3 nodes: a chain)
    flap            isolate, again and again, half a period `ms` each
    delay, loss     all wires of the target (node.lab.proxy)
    slow_fsync      each fsync takes `ms` longer                 disk_full        0 bytes are free
    io_error        EIO at the next write or fsync: the node stops itself, and is started again
    clock           the node's wall clock is off by `ms`
    transfer        TRI.TRANSFER at the leader                   snapshot         TRI.SNAPSHOT
    member          TRI.MEMBER REMOVE of the target; `for_s` later it joins again, with nothing

Targets by role: leader, follower, majority (the leader in it), minority (the leader not in it),
all, any, or an id. The role is looked up when the fault happens.

Each becomes a record: {"kind", "target", "nodes", "start_us", "end_us", "note"}.

Invariant: `heal_all` undoes whatever is still broken, so no experiment leaves a node paused or
a wire cut.

Proved by: tests/lab/test_end_to_end.py, tests/lab/test_proxy.py
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Final

from node.lab.cluster import OwnCluster
from node.lab.config import DOOR_FAULTS, PROCESS_FAULTS, WIRE_FAULTS, FaultConfig
from node.lab.connection import ask
from node.lab.foreign import ClusterFailed, Foreign, NodeProcess

__all__ = ["Breaker", "Record"]

Record = dict[str, Any]
_Heal = Callable[[], Awaitable[None]]
_LEADER_S: Final = 10.0
_UNTIL_LEADER_S: Final = 60.0
_ROLL_S: Final = 15.0


class Breaker:
    """Breaks and heals one cluster.

    Args:
        now_us: the run's time.
    """

    def __init__(self, cluster: Foreign, now_us: Callable[[], int], rng: random.Random) -> None:
        self._cluster = cluster
        self._now_us = now_us
        self._rng = rng
        self.records: list[Record] = []

    async def apply(self, fault: FaultConfig) -> None:
        """Inject it, wait, heal it."""
        targets = await self._targets(fault.target)
        hold_s = self._rng.uniform(*fault.for_s)
        record: Record = {
            "kind": fault.kind,
            "target": fault.target,
            "nodes": targets,
            "start_us": self._now_us(),
            "end_us": None,
        }
        self.records.append(record)
        try:
            if fault.kind in ("transfer", "snapshot"):
                await self._ask_for(fault.kind, targets, record)
            elif fault.kind == "flap":
                await self._flap(targets, hold_s, self._rng.uniform(*fault.ms) / 1000)
            elif fault.kind == "rolling_restart":
                await self._roll()
            elif fault.kind == "member":
                await self._change_members(targets, hold_s)
            else:
                heal = await self._inject(fault, targets)
                try:
                    await asyncio.sleep(hold_s)
                    if fault.until_leader:
                        await self._find_leader(_UNTIL_LEADER_S)
                finally:
                    await heal()
        finally:
            record["end_us"] = self._now_us()

    async def _inject(self, fault: FaultConfig, targets: list[str]) -> _Heal:
        cluster = self._own()
        nodes = [cluster.nodes[each] for each in targets]
        if fault.kind in PROCESS_FAULTS:
            return await self._hit_processes(fault.kind, nodes)
        if fault.kind in WIRE_FAULTS:
            return self._cut(fault, targets)
        assert fault.kind in DOOR_FAULTS
        ms = round(self._rng.uniform(*fault.ms))
        orders: dict[str, dict[str, Any]] = {
            "slow_fsync": {"sync_delay_ms": ms},
            "disk_full": {"disk": "full"},
            "io_error": {"disk": "broken"},
            "clock": {"clock_offset_ms": ms},
        }
        for node in nodes:
            await self._tell(node, **orders[fault.kind])

        async def heal() -> None:
            for node in nodes:
                if node.ended.is_set() and not node.doomed:  # It stopped itself, as it has to.
                    await cluster.spawn(node)
                else:
                    await self._tell(node, sync_delay_ms=0, disk="sound", clock_offset_ms=0)

        return heal

    async def _tell(self, node: NodeProcess, **order: Any) -> None:
        """At its door, unless another fault hit it too: a process that is started is sound."""
        hit = node.doomed or node.paused or not node.ready.is_set()
        try:
            if node.runs and not hit:
                await self._own().open_door(node, **order)
        except ClusterFailed:
            if node.runs and not node.doomed and not node.paused:
                raise

    async def _hit_processes(self, kind: str, nodes: list[NodeProcess]) -> _Heal:
        cluster = self._own()
        if kind == "restart_all":
            nodes = list(cluster.nodes.values())
        number = {"pause": signal.SIGSTOP, "term": signal.SIGTERM}.get(kind, signal.SIGKILL)
        for node in nodes:
            node.signal(number)
            node.doomed = kind != "pause"
            if kind == "pause":
                node.paused = True
                cluster.note(node.id, "paused")

        async def wake() -> None:
            for node in nodes:
                self._wake(node)

        async def revive() -> None:
            for node in nodes:
                if not node.doomed:
                    continue  # another fault that hit it too has brought it back
                await cluster.reap(node)
                await cluster.spawn(node)

        return wake if kind == "pause" else revive

    def _wake(self, node: NodeProcess) -> None:
        if node.paused:
            node.paused = False
            node.signal(signal.SIGCONT)
            self._own().note(node.id, "continued")

    def _cut(self, fault: FaultConfig, targets: list[str]) -> _Heal:
        """Set the wires that the fault is about."""
        kind, wires = fault.kind, self._own().wires
        chosen = [wire for wire in wires if set(wire.ends) & set(targets)]
        if kind == "ring":
            ids = sorted(self._own().nodes)
            size = len(ids)
            apart = (1, size - 1) if size > 3 else (1,)
            chosen = [
                wire
                for wire in wires
                if abs(ids.index(wire.ends[0]) - ids.index(wire.ends[1])) not in apart
            ]
        if kind == "cut_one":
            chosen = [self._rng.choice(chosen)]
        if kind in ("isolate", "mute", "deaf"):  # targets on one side talk to each other
            chosen = [wire for wire in chosen if not set(wire.ends) <= set(targets)]
        for wire in chosen:
            for source in wire.ends:
                way = wire.direction(source)
                if kind == "delay":
                    way.delay_ms = fault.ms
                elif kind == "loss":
                    way.loss = fault.share
                elif kind not in ("mute", "deaf") or (source in targets) == (kind == "mute"):
                    way.hold()

        async def heal() -> None:
            for wire in chosen:
                wire.heal()

        return heal

    async def _flap(self, targets: list[str], hold_s: float, half_s: float) -> None:
        cut = FaultConfig(kind="isolate")
        until_us = self._now_us() + hold_s * 1_000_000
        while self._now_us() < until_us:
            heal = self._cut(cut, targets)
            try:
                await asyncio.sleep(half_s)
            finally:
                await heal()
            await asyncio.sleep(half_s)

    async def _roll(self) -> None:
        cluster = self._own()
        for node in cluster.nodes.values():
            node.signal(signal.SIGTERM)
            await cluster.reap(node)
            await cluster.spawn(node)
            await cluster.wait_ready([node.id], _ROLL_S)

    async def _change_members(self, targets: list[str], hold_s: float) -> None:
        """Each target leaves, loses what it stored, and joins again."""
        cluster = self._own()
        for name in targets:
            node = cluster.nodes[name]
            node.doomed = True
            await self._order("REMOVE", name)
            await cluster.reap(node, _ROLL_S)  # it ends by itself: it was told
            cluster.forget(node)
            await asyncio.sleep(hold_s)
            await cluster.spawn(node)
            await self._order("ADD", name, cluster.address_of(node))
            await cluster.wait_ready([name], _ROLL_S)

    async def _order(self, *words: str) -> None:
        """TRI.MEMBER at whoever leads, again until it is done. TimeoutError: it never was."""
        until_us, said = self._now_us() + _ROLL_S * 1_000_000, "nobody leads"
        while self._now_us() < until_us:
            leader = await self._cluster.leader()
            server = next((each for each in self._cluster.servers if each.id == leader), None)
            if server is not None:
                try:
                    reply = await ask(server, "TRI.MEMBER", *words, timeout_s=5.0)
                except OSError as error:
                    reply = error
                if not isinstance(reply, Exception):
                    return
                said = str(reply)
            await asyncio.sleep(0.1)
        raise TimeoutError(f"TRI.MEMBER {' '.join(words)}: {said}")

    async def _ask_for(self, kind: str, targets: list[str], record: Record) -> None:
        """TRI.TRANSFER, TRI.SNAPSHOT. That one is refused is an answer, not a failure."""
        word = "TRI.TRANSFER" if kind == "transfer" else "TRI.SNAPSHOT"
        servers = [server for server in self._cluster.servers if server.id in targets]
        for server in servers:
            try:
                reply = await ask(server, word, timeout_s=10.0)
                record["note"] = reply.decode() if isinstance(reply, bytes) else str(reply)
            except OSError as error:
                record["note"] = str(error)

    async def _targets(self, target: str) -> list[str]:
        ids = [server.id for server in self._cluster.servers]
        if target in ids:
            return [target]
        if target == "all":
            return ids
        if target == "any":
            return [self._rng.choice(ids)]
        leader = await self._find_leader()
        others = [each for each in ids if each != leader]
        self._rng.shuffle(others)
        minority = (len(ids) - 1) // 2
        if target == "leader":
            return [leader]
        if target == "follower":
            return others[:1]
        if target == "minority":
            return others[:minority]
        return [leader, *others[: len(ids) - minority - 1]]  # majority

    async def _find_leader(self, timeout_s: float = _LEADER_S) -> str:
        deadline_us = self._now_us() + timeout_s * 1_000_000
        while self._now_us() < deadline_us:
            leader = await self._cluster.leader()
            if leader is not None:
                return leader
            await asyncio.sleep(0.02)
        raise TimeoutError(f"nobody leads for {timeout_s:g} s")

    def _own(self) -> OwnCluster:
        assert isinstance(self._cluster, OwnCluster), "nothing can be broken there"
        return self._cluster

    async def heal_all(self) -> None:
        """Whatever is still broken is mended; nodes that are down are started."""
        if not isinstance(self._cluster, OwnCluster):
            return
        for wire in self._cluster.wires:
            wire.heal()
        for node in self._cluster.nodes.values():
            self._wake(node)
            if not node.runs:
                await self._cluster.reap(node)
                await self._cluster.spawn(node)
