"""One seed: a world is made, goes wrong as its plan says, is healed, and must be well again.

    run(plan) -> Verdict     violations (none, if all is well), what was counted, how long it took

    start -> a leader -> clients and faults for plan.for_s -> heal -> within PEACE_S of virtual time
    every member has a leader, takes a write, and has applied the same -> clients end -> histories

Proved by: tests/simulation/test_simulation_seeds.py, tests/simulation/test_planted.py
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.clients import Client, Lost, Stream
from tests.simulation.faults import Faults
from tests.simulation.host import Host
from tests.simulation.judge import judge
from tests.simulation.listeners import KINDS
from tests.simulation.loop import STARTED_AT_S
from tests.simulation.plan import Plan
from tests.simulation.world import World

__all__ = ["PEACE_S", "Verdict", "run"]

PEACE_S = 12.0
"""Within this much virtual time after the last fault everything must be well."""
REPAIR_S = 40.0
"""And an operator must be done within this."""


@dataclass
class Verdict:
    """What came of a seed."""

    plan: Plan
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    healed_s: float = 0.0
    """How long it took from the last fault until all was well."""
    fingerprint: str = ""
    """SHA-256 of what happened; of the whole timeline, if that was kept."""
    lines: list[str] = field(default_factory=list)


def run(plan: Plan, *, tracing: bool = False) -> Verdict:
    """Run one plan. Deterministic, but for cpu_s."""
    began_s = time.process_time()
    verdict = Verdict(plan)
    was_enabled = gc.isenabled()
    gc.disable()  # when it runs is nobody's business here; a run is short
    try:
        with tempfile.TemporaryDirectory() as directory:
            with World(plan, Path(directory), tracing=tracing) as world:
                story = _Story(world, verdict)
                world.loop.create_task(story.tell(), context=world.context)
                world.loop.run_forever()
                if not world.violations:
                    judge(world)
                _close(world, verdict)
    finally:
        if was_enabled:
            gc.enable()
    verdict.cpu_s = time.process_time() - began_s
    return verdict


def _close(world: World, verdict: Verdict) -> None:
    verdict.violations = world.violations
    verdict.counts, verdict.answers = world.counts, world.answers
    verdict.virtual_s = world.loop.now_s - STARTED_AT_S
    verdict.lines = world.lines
    sha = hashlib.sha256()
    for line in world.lines:
        sha.update(line.encode() + b"\n")
    for operation in world.history:
        sha.update(operation.show().encode())
    sha.update(repr((world.loop.turns, sorted(world.counts.items()))).encode())
    verdict.fingerprint = sha.hexdigest()


class _Story:
    def __init__(self, world: World, verdict: Verdict) -> None:
        self._world = world
        self._verdict = verdict
        self._faults = Faults(world)

    async def tell(self) -> None:
        try:
            await self._tell()
        except _Unwell as error:
            self._world.violate(str(error))
        finally:
            self._world.loop.stop()

    async def _tell(self) -> None:
        world, plan = self._world, self._world.plan
        for host in world.hosts.values():
            host.boot()
        await self._until(lambda: world.leader() is not None, 10.0, "there is no first leader")
        clients = [Client(world, number) for number in range(plan.clients)]
        listeners = [KINDS[kind](world, at) for at, kind in enumerate(plan.listeners)]
        tasks = [
            world.loop.create_task(each.run(), context=world.context)
            for each in (*clients, *listeners)
        ]
        self._faults.begin()
        await asyncio.sleep(plan.for_s)
        self._faults.heal()
        healed_s = world.loop.now_s
        await self._until(self._operator_is_done, REPAIR_S, "the operator cannot finish")
        healed_s = max(healed_s, world.loop.now_s)
        world.trace("HEALED")
        await self._until(self._all_follow, PEACE_S, "not all members follow one leader")
        for host in world.members():
            await self._writes(host)
        world.is_calm_since_us = world.now_us()
        self._verdict.healed_s = world.loop.now_s - healed_s
        await asyncio.sleep(0.2)
        world.is_enough = True
        await self._until(lambda: all(task.done() for task in tasks), 15.0, "a client never ends")
        for task in tasks:
            task.result()
        await self._until(self._all_equal, PEACE_S, "the members do not come to the same state")
        self._compare()
        for each in listeners:
            each.judge()

    async def _until(self, done: Callable[[], bool], within_s: float, what: str) -> None:
        end_s = self._world.loop.now_s + within_s
        while not done():
            if self._world.loop.now_s > end_s:
                raise _Unwell(f"{what} within {within_s} s; {self._state()}")
            await asyncio.sleep(0.01)

    def _state(self) -> str:
        words = []
        for host in self._world.hosts.values():
            core = host.core
            if core is None:
                words.append(f"{host.id} down" + (" (retired)" if host.retired else ""))
            else:
                raft = core.raft
                words.append(
                    f"{host.id} {raft.role()} term {raft.term()} leader {raft.leader_id()} "
                    f"log {core.journal.last_index} applied {raft.applied_index()}"
                )
        return "; ".join(words)

    def _operator_is_done(self) -> bool:
        operator = self._faults.operator
        if operator is not None and operator.done():
            operator.result()
        return operator is None or operator.done()

    def _all_follow(self) -> bool:
        """Every voter of the leader's roster is up, follows it and has caught up with it."""
        world = self._world
        leader = world.leader()
        if leader is None or leader.core is None:
            return False
        membership = leader.core.membership
        if not membership.is_settled or membership.current.learners:
            return False
        for name in membership.current.voters:
            host = world.hosts[name]
            if not host.is_up or host.core is None or not host.core.is_ready():
                return False
            if host.core.raft.leader_id() != leader.id:
                return False
        return True

    async def _writes(self, host: Host) -> None:
        """A member takes a write, within the bound."""
        world = self._world
        end_s = world.loop.now_s + PEACE_S
        while True:
            if host.server is not None and host.is_up and host.server.is_open:
                stream = Stream(world, host, host.server, world.chance)
                try:
                    async with asyncio.timeout(3.0):
                        reply = await stream.ask(b"SET", b"peace-" + host.id.encode(), b"1")
                except (Lost, TimeoutError):
                    reply = None
                finally:
                    stream.hang_up()
                if reply == b"OK":
                    return
            if world.loop.now_s > end_s:
                raise _Unwell(f"{host.id} takes no write within {PEACE_S} s; {self._state()}")
            await asyncio.sleep(0.02)

    def _all_equal(self) -> bool:
        members = self._world.members()
        ends = {
            (host.core.journal.last_index, host.core.raft.applied_index())
            for host in members
            if host.core is not None
        }
        return len(ends) == 1 and self._all_follow()

    def _compare(self) -> None:
        world = self._world
        for host in world.members():
            assert host.core is not None
            machine = host.core.machine
            world.oracles.digest(host.id, machine.last_applied.index, machine.digest().hex())
            if host.core.batches._pending or host.core.batches._sealed:
                world.violate(f"{host.id} still has batches that are not carried out")
            model = world.oracles.model
            wrong = model.differences(machine) if model is not None else []
            if wrong:
                world.violate(f"the state is not the model's: {'; '.join(wrong[:3])}")


class _Unwell(Exception):
    """Peace did not come in time."""
