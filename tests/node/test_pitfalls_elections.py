"""Pitfalls P17, P19, P24 and P26 of PySyncObj: who may stand, which votes count, how long it takes.

Each pitfall has a test that shows it on the bare library (`test_pysyncobj_...`): when one of those
fails, the library has been mended or changed, and the defence may be looked at again. The others
show the defence with whole nodes (tests/support/simulated.py); the rules one by one are in
tests/node/test_elections.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pysyncobj import SyncObjConf

from node.config import PeerSection
from tests.support.bare import Bare, bare_clock
from tests.support.simulated import SimulatedNode, Simulation


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with bare_clock():
        yield


# -- P17: no pre-vote, no stickiness -------------------------------------------------------------


def test_pysyncobj_that_was_cut_off_comes_back_and_deposes_a_good_leader() -> None:
    away = Bare("n3", ["n1", "n2"])
    away.append("n1", 1, (1, 0), [], commit=1)
    away.connect()  # the links are there, nothing comes through
    for _ in range(100):
        away.advance(0.1)
        away.tick()
    assert away.raftCurrentTerm > 5
    leader = Bare("n1", ["n2", "n3"])
    leader.lead()
    (_, request), *_ = reversed(away.sent("request_vote"))
    leader.receive("n3", **request)
    assert not leader.is_leader


@pytest.mark.parametrize("notice_s", [0.0, 30.0])
def test_a_node_that_was_cut_off_comes_back_in_its_old_term_and_deposes_nobody(
    tmp_path: Path, notice_s: float
) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            term = leader.core.raft.term()
            away = sim.others(leader)[0]
            sim.isolate(away, notice_s=notice_s)
            await asyncio.sleep(10)
            assert away.core.raft.term() == term
            sim.network.heal()
            await sim.settle()
            assert sim.leader is leader
            assert leader.core.raft.term() == term

        sim.run(story())


def test_who_hears_a_leader_lets_nobody_else_stand(tmp_path: Path) -> None:
    """One follower is cut off from the leader only, so its pre-votes reach the other one."""
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            term = leader.core.raft.term()
            deaf, hearing = sim.others(leader)
            sim.network.cut(leader.id, deaf.id)
            await asyncio.sleep(5)
            assert leader.is_leader
            assert {node.core.raft.term() for node in sim.nodes.values()} == {term}
            assert hearing.core.raft.leader_id() == leader.id

        sim.run(story())


def test_a_planned_transfer_goes_past_the_stickiness(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            target = sim.others(leader)[0]
            began_s = sim.loop.time()
            assert await leader.transfer(target.id) == target.id
            assert sim.loop.time() - began_s < 0.1
            assert sim.leader is target

        sim.run(story())


# -- P19: the same vote twice --------------------------------------------------------------------


def test_pysyncobj_counts_the_same_vote_twice() -> None:
    bare = Bare("n1", ["n2", "n3", "n4", "n5"])
    bare.connect()
    bare.advance(10)
    bare.tick()
    bare.receive("n2", type="response_vote", term=bare.raftCurrentTerm)
    assert not bare.is_leader
    bare.receive("n2", type="response_vote", term=bare.raftCurrentTerm)
    assert bare.is_leader


def test_votes_that_come_twice_elect_nobody(tmp_path: Path) -> None:
    """n1 and n2 of five nodes are alone together, and every vote of n2 comes twice."""
    with Simulation(5, tmp_path) as sim:

        async def story() -> None:
            await sim.ready()
            alone = [sim.nodes["n1"], sim.nodes["n2"]]
            for node in sim.others(*alone):
                node.crash()
            for node in alone:
                _deliver_twice(node)
            await asyncio.sleep(1)
            for node in alone:
                node.core.raft.stand()
            await asyncio.sleep(3)
            assert not any(node.is_leader for node in alone)

        sim.run(story())


def _deliver_twice(node: SimulatedNode) -> None:
    receive = node.core.transport.receive

    def twice(peer_id: str, message: list[object]) -> None:
        receive(peer_id, message)
        receive(peer_id, message)

    node.core.transport.receive = twice  # type: ignore[method-assign]


# -- P24: slow dialling, slow fallback -----------------------------------------------------------


def test_pysyncobj_dials_every_5_s_and_leads_without_a_majority_for_30_s() -> None:
    conf = SyncObjConf()
    assert conf.connectionRetryTime == 5.0
    assert conf.leaderFallbackTimeout == 30.0


def test_a_leader_without_a_majority_steps_down_within_two_election_timeouts(
    tmp_path: Path,
) -> None:
    assert PeerSection().redial_ms == 50
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            sim.isolate(leader, notice_s=60.0)
            began_s = sim.loop.time()
            await sim.until(lambda: not leader.is_leader)
            assert 0.9 < sim.loop.time() - began_s < 1.4

        sim.run(story())


# -- P26: a tick before the waiting heartbeats are read ------------------------------------------


def test_pysyncobj_stands_after_a_long_block_before_it_reads_the_waiting_heartbeats() -> None:
    bare = Bare("n2", ["n1", "n3"])
    bare.connect()
    bare.append("n1", 1, (1, 0), [], commit=1)
    bare.advance(5)  # the process was stopped; n1 has sent heartbeats all the time
    bare.tick()
    assert len(bare.sent("request_vote")) == 2


def test_a_node_that_was_stopped_for_5_s_stands_nowhere_when_it_goes_on(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            stopped = sim.others(leader)[0]
            term = leader.core.raft.term()
            timer = stopped.core._timer
            assert timer is not None
            timer.cancel()
            sim.network.slow[leader.id, stopped.id] = (5.0, 5.0)
            await asyncio.sleep(5)
            stopped.core._on_timer()
            sim.network.slow.clear()
            await asyncio.sleep(2)
            assert sim.leader is leader
            assert {node.core.raft.term() for node in sim.nodes.values()} == {term}

        sim.run(story())
