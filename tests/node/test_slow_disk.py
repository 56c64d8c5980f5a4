"""Slow disks, up to 2 s for each sync: no leader is lost to them, and what is promised holds.

Method: whole nodes on virtual time (tests/support/simulated.py), the journal's sync a timer of
2 s. `elections` counts the terms. The same with real nodes, and every sync of a node delayed, is
in tests/cluster/test_slow_disk.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from node.errors import KVError
from tests.support.crash import Crash
from tests.support.simulated import SimulatedNode, Simulation, outcome_of

SYNC_S = 2.0


def terms(sim: Simulation) -> set[int]:
    return {node.core.raft.term() for node in sim.nodes.values() if node.is_running}


async def writes(node: SimulatedNode, count: int) -> list[object]:
    return list(await asyncio.gather(*(outcome_of(node.increment(b"n")) for _ in range(count))))


@pytest.mark.parametrize("slow", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_no_election_and_no_lost_write_while_syncs_take_two_seconds(
    tmp_path: Path, slow: tuple[int, ...]
) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            nodes = [leader, *sim.others(leader)]  # 0: the leader, 1 and 2: its followers
            term = leader.core.raft.term()
            for number in slow:
                nodes[number].journal.sync_s = SYNC_S
            counted = []
            for _ in range(5):
                for node in nodes:
                    counted += await writes(node, 3)
            await asyncio.sleep(3)
            assert sorted(counted) == list(range(1, 46))
            assert leader.is_leader
            assert terms(sim) == {term}

        sim.run(story())


@pytest.mark.parametrize("count", [3, 5])
def test_a_leader_that_dies_is_replaced_although_every_vote_takes_two_seconds(
    tmp_path: Path, count: int
) -> None:
    """Each vote is synced for longer than three election timeouts: candidates must not disturb
    one another meanwhile."""
    for seed in range(8):
        with Simulation(count, tmp_path / str(seed), seed) as sim:

            async def story(sim: Simulation = sim, seed: int = seed) -> None:
                leader = await sim.ready()
                for node in sim.nodes.values():
                    node.journal.sync_s = SYNC_S
                term = leader.core.raft.term()
                leader.crash()
                rest = sim.others(leader)
                await sim.until(lambda: any(node.is_leader for node in rest), within_s=15)
                await sim.until(lambda: any(node.core.is_ready() for node in rest), within_s=15)
                assert max(terms(sim)) <= term + 3, f"{seed=}: candidates outbid one another"
                assert await sim.leader.increment(b"n") == 1

            sim.run(story())


def test_the_only_node_of_a_cluster_answers_what_is_durable_and_never_stops_for_it(
    tmp_path: Path,
) -> None:
    with Simulation(1, tmp_path) as sim:

        async def story() -> None:
            node = await sim.ready()
            node.journal.sync_s = SYNC_S
            begun_s = sim.loop.time()
            answers = sim.loop.create_task(writes(node, 10))
            await asyncio.sleep(1.5)
            assert not answers.done()
            assert node.core.machine.last_applied.index < node.journal.last_index
            assert node.journal.durable_index < node.journal.last_index
            assert await answers == list(range(1, 11))
            assert sim.loop.time() - begun_s <= 2 * SYNC_S
            # And what was answered is there, whatever the power does.
            node.crash(Crash.SYNCED)
            await sim.ready()
            assert await node.get(b"n") == b"10"

        sim.run(story())


def test_the_only_node_of_a_cluster_loses_nothing_acknowledged_in_power_failures(
    tmp_path: Path,
) -> None:
    with Simulation(1, tmp_path) as sim:

        async def story() -> None:
            node = await sim.ready()
            acknowledged = 0
            for number in range(30):
                node.journal.sync_s = (0.0005, 0.02, 0.3)[number % 3]
                for _ in range(3):
                    work = sim.loop.create_task(writes(node, 5))
                    await asyncio.sleep(0.01 * (number % 7))
                    if work.done():
                        found = [each for each in work.result() if not isinstance(each, KVError)]
                        acknowledged = max([acknowledged, *map(int, found)])  # type: ignore[call-overload]
                node.crash((Crash.SYNCED, Crash.MIXED)[number % 2], number)
                await sim.ready()
                assert int(await node.get(b"n") or 0) >= acknowledged
            assert acknowledged > 50

        sim.run(story())
