"""Whole nodes under random faults, with fixed seeds: what was promised must be there at the end.

Goal: the promises of DESIGN that hold for any order of events. Method: three or five nodes of
tests/support/simulated.py; clients write, count and read on each of them while links are cut,
slowed and healed, syncs held back, machines killed (with or without their unsynced bytes) and
leadership handed over. Then everything heals, and:

    every acknowledged write is there; the counter is at least what was acknowledged and at most
    what was tried; without a crash it is exact; a linearizable read never went backwards;
    all digests are equal; PySyncObj never truncated an applied entry; no node failed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path

import pytest

from node.config import JournalSection
from node.errors import Fatal, KVError, OutcomeUnknown
from tests.support.crash import Crash
from tests.support.simulated import SimulatedNode, Simulation, outcome_of

SMALL_JOURNAL = JournalSection(
    compact_bytes=64 * 1024,
    retain_bytes=4 * 1024,
    segment_bytes_max=64 * 1024,
    memory_bytes=64 * 1024,
)
KEYS_OF_PADDING = 20


class Clients:
    """What was tried, what was acknowledged, and whether a read was stale."""

    def __init__(self, sim: Simulation, padding_bytes: int) -> None:
        self.sim = sim
        self.padding = b"x" * padding_bytes
        self.stopped = False
        self.written: dict[bytes, bytes] = {}
        self.counted = 0
        self.uncertain = 0
        self.seen = 0

    async def write(self, node: SimulatedNode, client: int) -> None:
        """One client: unique keys, the common counter, and some bulk, in turn."""
        number = 0
        while not self.stopped:
            number += 1
            await asyncio.sleep(0.02)
            if not node.is_running:
                continue
            key = b"%s-%d-%d" % (node.id.encode(), client, number)
            if await outcome_of(node.set(key, b"v" + key)) is True:
                self.written[key] = b"v" + key
            await self._count(node)
            if self.padding and node.is_running:
                await outcome_of(node.set(b"pad%d" % (number % KEYS_OF_PADDING), self.padding))

    async def _count(self, node: SimulatedNode) -> None:
        if not node.is_running:
            return
        outcome = await outcome_of(node.increment(b"counter"))
        if isinstance(outcome, OutcomeUnknown | Fatal) or type(outcome) is KVError:
            self.uncertain += 1
        elif isinstance(outcome, int):
            self.counted += 1
            self.seen = max(self.seen, outcome)

    async def read(self, node: SimulatedNode, level: str) -> None:
        """A linearizable read shows at least what anybody had seen before it began."""
        while not self.stopped:
            await asyncio.sleep(0.05)
            if not node.is_running:
                continue
            seen_before = self.seen
            value = await outcome_of(node.get(b"counter", consistency=level))
            if not isinstance(value, KVError):
                count = int(value or 0)
                assert count >= seen_before, f"stale read on {node.id}: {count} < {seen_before}"
                self.seen = max(self.seen, count)


async def break_things(sim: Simulation, chance: random.Random, for_s: float, crashes: bool) -> None:
    """One fault after the other, several at once; at the end everything is healed."""
    names = list(sim.nodes)
    end_s = sim.loop.time() + for_s
    while sim.loop.time() < end_s:
        await asyncio.sleep(chance.uniform(0.02, 0.6))
        one, other = chance.sample(names, 2)
        node = sim.nodes[one]
        fault = chance.choice(
            ["cut", "cut", "heal", "heal", "leader", "slow", "reset", "disk", "transfer"]
            + ["crash", "crash", "crash"] * crashes
        )
        if fault == "cut":
            sim.network.cut(one, other, notice_s=chance.choice([0.0, 1.0]))
        elif fault == "heal":
            sim.network.heal()
        elif fault == "leader":
            for leader in [each for each in sim.nodes.values() if each.is_leader]:
                sim.isolate(leader, notice_s=0.5)
        elif fault == "slow":
            sim.network.slow[one, other] = chance.choice([(0.0, 0.1), (0.2, 0.4), (0.0, 1.0)])
        elif fault == "reset":
            sim.network.break_session(frozenset((one, other)), 0.1)
        elif fault == "disk" and node.is_running:
            node.journal.sync_s = chance.choice([0.0005, 0.02, 0.3, 0.0005])
        elif fault == "transfer" and node.is_leader:
            sim.loop.create_task(outcome_of(node.transfer()))
        elif fault == "crash" and node.is_running:
            node.crash(chance.choice(list(Crash)), chance.randrange(1 << 30))
        for down in [each for each in sim.nodes.values() if not each.is_running]:
            if chance.random() < 0.3:
                await down.start()
        sim.check()
    sim.network.heal()
    await sim.start()
    for node in sim.nodes.values():
        node.journal.sync_s = 0.0005


async def chaos(
    sim: Simulation, *, for_s: float, crashes: bool, padding_bytes: int
) -> tuple[Clients, int]:
    """Faults and clients together; then peace, and the checks. The clients and the count."""
    await sim.ready()
    clients = Clients(sim, padding_bytes)
    work = [
        sim.loop.create_task(clients.write(node, client))
        for node in sim.nodes.values()
        for client in range(2)
    ] + [
        sim.loop.create_task(clients.read(node, level))
        for node in sim.nodes.values()
        for level in ("linearizable", "lease")
    ]
    await break_things(sim, random.Random(sim.seed), for_s, crashes)
    clients.stopped = True
    await sim.until(lambda: all(task.done() for task in work), within_s=30)
    for task in work:
        task.result()
    await sim.settle()
    node = next(iter(sim.nodes.values()))
    count = int(await node.get(b"counter") or 0)
    await check_everything_written(sim, clients)
    assert len(sim.digests()) == 1
    return clients, count


async def check_everything_written(sim: Simulation, clients: Clients) -> None:
    """Every acknowledged write is there."""
    node = next(iter(sim.nodes.values()))
    written = list(clients.written.items())  # NB: before the read, which covers no later ones
    await node.get(b"", consistency="linearizable")
    for key, value in written:
        assert await node.get(key, consistency="eventual") == value, f"lost {key!r}"


def assert_nothing_was_truncated(caplog: pytest.LogCaptureFixture) -> None:
    texts = [record.getMessage() for record in caplog.records]
    assert not [text for text in texts if "truncating" in text or "failed to load" in text]


@pytest.mark.parametrize("seed", range(1, 7))
def test_cut_and_slow_links_lose_nothing_and_count_exactly(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="pysyncobj")
    with Simulation(3, tmp_path, seed) as sim:
        clients, count = sim.run(chaos(sim, for_s=8, crashes=False, padding_bytes=0))
        assert len(clients.written) > 50
        assert clients.counted <= count <= clients.counted + clients.uncertain
        if not clients.uncertain:
            assert count == clients.counted
    assert_nothing_was_truncated(caplog)


@pytest.mark.parametrize("seed", range(11, 17))
def test_crashes_lose_nothing_that_was_acknowledged(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="pysyncobj")
    with Simulation(3, tmp_path, seed) as sim:
        clients, count = sim.run(chaos(sim, for_s=8, crashes=True, padding_bytes=0))
        assert len(clients.written) > 50
        assert clients.counted <= count <= clients.counted + clients.uncertain
    assert_nothing_was_truncated(caplog)


@pytest.mark.parametrize("seed", range(31, 34))
def test_power_failures_of_all_machines_lose_nothing_that_was_acknowledged(
    seed: int, tmp_path: Path
) -> None:
    """Disks take 5 to 50 ms to sync, so that at each failure much is written and not yet synced."""
    chance = random.Random(seed)
    with Simulation(3, tmp_path, seed) as sim:

        async def story() -> None:
            await sim.ready()
            clients = Clients(sim, 0)
            work = [
                sim.loop.create_task(clients.write(node, client))
                for node in sim.nodes.values()
                for client in range(8)
            ]
            for _ in range(8):
                for node in sim.nodes.values():
                    node.journal.sync_s = chance.uniform(0.005, 0.05)
                await asyncio.sleep(chance.uniform(0.5, 1.0))
                for node in sim.nodes.values():
                    node.crash(chance.choice([Crash.SYNCED, Crash.MIXED]), chance.randrange(99))
                await sim.start()
                await sim.settle()
                await check_everything_written(sim, clients)
            clients.stopped = True
            await sim.until(lambda: all(task.done() for task in work), within_s=30)
            count = int(await sim.nodes["n1"].get(b"counter") or 0)
            assert clients.counted <= count <= clients.counted + clients.uncertain
            assert len(clients.written) > 200

        sim.run(story())


@pytest.mark.parametrize(("seed", "count"), [(21, 3), (22, 3), (23, 5), (24, 5)])
def test_snapshots_and_cut_journals_lose_nothing_under_crashes(
    seed: int, count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="pysyncobj")
    with Simulation(count, tmp_path, seed, journal=SMALL_JOURNAL) as sim:
        clients, counter = sim.run(chaos(sim, for_s=24 / count, crashes=True, padding_bytes=6000))
        assert clients.counted <= counter <= clients.counted + clients.uncertain
        assert any(node.journal.first_index > 1 for node in sim.nodes.values())
    assert_nothing_was_truncated(caplog)
