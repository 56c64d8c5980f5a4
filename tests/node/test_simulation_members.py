"""Members come and go while clients write: whole simulated nodes, fixed seeds.

Goal: what node.membership and node.changes promise, for any order of events. Method: as in
test_simulation.py, with an operator (tests/support/operator.py) and nodes that wait to be seated.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import pytest

from node.config import Config
from node.errors import KVError, Rejected, Unavailable
from node.membership import Removed
from node.roster import LEARNER
from node.service import Service
from node.worker import Worker
from tests.node.test_simulation import (
    SMALL_JOURNAL,
    Clients,
    assert_nothing_was_truncated,
    break_things,
)
from tests.support.crash import Crash, MemoryDisk
from tests.support.operator import add, ask, remove, roster
from tests.support.simulated import SimulatedNode, Simulation, outcome_of
from tests.support.turns import Waiter

T = TypeVar("T")


class Writers:
    """One client on each member; an error from a node that is a member fails the test."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.stopped = False
        self.written: dict[bytes, bytes] = {}
        self.errors: list[str] = []
        self.tasks = [sim.loop.create_task(self._write(node)) for node in sim.nodes.values()]

    async def _write(self, node: SimulatedNode) -> None:
        number = 0
        while not self.stopped:
            await asyncio.sleep(0.01)
            if not node.is_running or not node.core.is_ready():
                continue
            number += 1
            key = b"%s-%d" % (node.id.encode(), number)
            outcome = await outcome_of(node.set(key, b"v" + key))
            if outcome is True:
                self.written[key] = b"v" + key
            elif node.is_running and not node.core.membership.is_waiting:
                self.errors.append(f"{node.id}: {outcome!r}")

    async def stop(self) -> None:
        self.stopped = True
        await self.sim.until(lambda: all(task.done() for task in self.tasks), within_s=30)

    async def check(self, node: SimulatedNode) -> None:
        """Every acknowledged write is there."""
        written = dict(self.written)
        await node.get(b"", consistency="linearizable")
        for key, value in written.items():
            assert await node.get(key, consistency="eventual") == value, f"lost {key!r}"


class Leaders:
    """Watches that no term has two leaders."""

    def __init__(self, sim: Simulation) -> None:
        self.by_term: dict[int, str] = {}
        self._sim = sim
        self._task = sim.loop.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            for node in self._sim.nodes.values():
                if node.is_leader:
                    term = node.core.raft.term()
                    assert self.by_term.setdefault(term, node.id) == node.id, f"two in {term}"
            await asyncio.sleep(0.002)

    def check(self) -> None:
        assert not self._task.done() or self._task.cancelled() or not self._task.exception()


def test_from_one_to_three_to_five_and_back_without_one_failed_write(tmp_path: Path) -> None:
    with Simulation(5, tmp_path, founders=1) as sim:

        async def story() -> None:
            await sim.ready()
            leaders, writers = Leaders(sim), Writers(sim)
            await asyncio.sleep(0.5)
            for name in ("n2", "n3", "n4", "n5"):
                await add(sim, name)
                await asyncio.sleep(0.3)
            assert roster(sim).voters == {"n1", "n2", "n3", "n4", "n5"}
            await sim.settle()
            await writers.check(sim.nodes["n5"])
            for name in ("n1", "n3", "n5", "n2"):  # n1 leads first
                sim.may_fail.add(name)
                await remove(sim, name)
                await sim.until(lambda name=name: bool(sim.nodes[name].failures))
                assert type(sim.nodes[name].failures[0]) is Removed
                await asyncio.sleep(0.3)
            await writers.stop()
            assert roster(sim).voters == {"n4"}
            assert writers.errors == []
            assert len(writers.written) > 300
            await writers.check(sim.nodes["n4"])
            leaders.check()

        sim.run(story())


def test_a_learner_counts_in_no_majority(tmp_path: Path) -> None:
    """A learner that gets nothing stays one: writes go on without it, and not with it alone."""
    with Simulation(4, tmp_path, founders=3) as sim:

        async def story() -> None:
            leader = await sim.ready()
            learner = sim.nodes["n4"]
            for other in sim.others(learner):
                sim.network.cut(learner.id, other.id)
            member = learner._config.member
            assert await ask(sim, leader, lambda s, w: s.add_member(member, w)) is None
            follower = sim.others(leader, learner)[0]
            follower.crash(Crash.ALL)
            await leader.set(b"k", b"two of three")
            assert roster(sim).learners == {"n4"}
            sim.network.heal()
            await follower.start()
            await sim.until(lambda: "n4" in roster(sim).voters)
            # Now it counts: of four, two are no majority.
            one, other, *_ = sim.others(leader, learner)
            one.crash(Crash.ALL)
            await leader.set(b"k", b"three of four")
            other.crash(Crash.ALL)
            outcome = await outcome_of(leader.set(b"k", b"two of four"))
            assert isinstance(outcome, KVError)

        sim.run(story())


def test_a_learner_without_its_voters_elects_nobody(tmp_path: Path) -> None:
    with Simulation(3, tmp_path, founders=2) as sim:

        async def story() -> None:
            leader = await sim.ready()
            learner = sim.nodes["n3"]
            learner.journal.sync_s = None  # it acknowledges nothing, so it never catches up
            member = learner._config.member
            assert await ask(sim, leader, lambda s, w: s.add_member(member, w)) is None
            await asyncio.sleep(2)
            assert roster(sim).learners == {"n3"}
            other = sim.others(leader, learner)[0]
            leader.crash(Crash.ALL)
            await asyncio.sleep(5)
            assert not other.is_leader
            assert not learner.is_leader
            await leader.start()
            await sim.until(lambda: any(node.is_leader for node in sim.nodes.values()))
            learner.journal.sync_s = 0.0005
            learner.journal.sync_now()
            await sim.until(lambda: "n3" in roster(sim).voters)

        sim.run(story())


def test_what_cannot_be_changed_now_is_refused_and_nothing_happens(tmp_path: Path) -> None:
    with Simulation(5, tmp_path, founders=3) as sim:

        async def story() -> None:
            leader = await sim.ready()
            follower, other = sim.others(leader, sim.nodes["n4"], sim.nodes["n5"])
            n4, n5 = (sim.nodes[name]._config.member for name in ("n4", "n5"))
            error = await ask(sim, follower, lambda s, w: s.add_member(n4, w))
            assert type(error) is Rejected
            assert f"{leader.id} is" in str(error)
            error = await ask(sim, leader, lambda s, w: s.add_member(other._config.member, w))
            assert type(error) is Rejected
            assert "member already" in str(error)
            error = await ask(sim, leader, lambda s, w: s.remove_member("n9", w))
            assert type(error) is Rejected
            other.crash(Crash.ALL)
            await asyncio.sleep(0.5)
            error = await ask(sim, leader, lambda s, w: s.remove_member(follower.id, w))
            assert type(error) is Rejected
            assert "too few" in str(error)
            # Without its majority the leader logs a change, and takes no second one.
            sim.isolate(leader, notice_s=5.0)
            first = sim.loop.create_task(ask(sim, leader, lambda s, w: s.add_member(n4, w)))
            await asyncio.sleep(0.05)
            assert roster(sim).learners == {"n4"}  # in force, and not committed
            error = await ask(sim, leader, lambda s, w: s.add_member(n5, w))
            assert isinstance(error, Unavailable)
            assert "another change" in str(error)
            await other.start()
            await sim.until(lambda: sim.leader is not leader)
            sim.network.heal()
            await first
            await sim.settle()
            # Its successor never had it: taken back.
            assert leader.core.membership.current.index == 0
            assert leader.core.membership.current.learners == frozenset()

        sim.run(story())


def test_a_leader_is_followed_by_who_has_removed_it_in_a_roster_that_was_never_committed(
    tmp_path: Path,
) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            successor, other = sim.others(leader)
            sim.isolate(leader, notice_s=5.0)
            lost = sim.loop.create_task(
                ask(sim, leader, lambda s, w: s.remove_member(successor.id, w))
            )
            await asyncio.sleep(0.05)
            assert leader.core.membership.current.voters == {leader.id, other.id}
            await sim.until(lambda: successor.is_leader or other.is_leader)
            if other.is_leader:
                await other.transfer(successor.id)
            sim.network.heal()
            await lost
            await sim.settle()
            assert leader.core.raft.leader_id() == successor.id
            assert leader.core.membership.current.index == 0

        sim.run(story())


def test_a_new_member_that_leads_is_found_by_who_has_missed_its_coming(tmp_path: Path) -> None:
    """It hears of it from a third one, over a link that was open all the while."""
    with Simulation(4, tmp_path, founders=3) as sim:

        async def story() -> None:
            leader = await sim.ready()
            missing = sim.others(leader, sim.nodes["n4"])[0]
            sim.network.cut(leader.id, missing.id)
            await add(sim, "n4")
            await leader.transfer("n4")
            await sim.until(lambda: missing.core.raft.leader_id() == "n4")
            await sim.settle()

        sim.run(story())


def test_a_node_that_was_removed_while_it_was_down_learns_it_when_it_is_back(
    tmp_path: Path,
) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            gone = sim.others(leader)[0]
            gone.crash(Crash.ALL)
            await remove(sim, gone.id)
            term = leader.core.raft.term()
            sim.may_fail.add(gone.id)
            await gone.start()
            await sim.until(lambda: bool(gone.failures))
            assert type(gone.failures[0]) is Removed
            assert "was removed from the cluster" in str(gone.failures[0])
            await gone.start()  # again: it knows, and waits
            await asyncio.sleep(3)
            assert not gone.failures
            assert gone.core.membership.is_waiting
            assert isinstance(await outcome_of(gone.set(b"k", b"v")), Unavailable)
            assert (leader.core.raft.term(), leader.is_leader) == (term, True)
            # Taken back, with all that it has.
            await add(sim, gone.id)
            await sim.settle()
            assert len(sim.digests()) == 1
            assert gone.core.is_ready()

        sim.run(story())


def test_members_are_found_again_after_snapshots_cuts_and_power_failures(tmp_path: Path) -> None:
    """The rosters' entries are cut off every journal, and everybody restarts."""
    with Simulation(4, tmp_path, founders=1, journal=SMALL_JOURNAL) as sim:

        async def story() -> None:
            await sim.ready()
            for name in ("n2", "n3"):
                await add(sim, name)
            index = roster(sim).index

            async def fill() -> None:
                for number in range(60):
                    await sim.leader.set(b"pad%d" % (number % 5), b"x" * 6000)

            await fill()
            await sim.until(lambda: sim.leader.journal.first_index > index)
            await add(sim, "n4")  # by a snapshot, whose roster came with it
            await fill()
            await sim.until(
                lambda: all(node.journal.first_index > roster(sim).index for node in sim.members())
            )
            for node in sim.nodes.values():
                node.crash(Crash.SYNCED)
            await sim.start()
            await sim.settle()
            for node in sim.nodes.values():
                assert node.core.membership.current.voters == {"n1", "n2", "n3", "n4"}
            assert len(sim.digests()) == 1

        sim.run(story())


def test_a_snapshot_brings_the_members_over_a_link_that_is_older_than_they_are(
    tmp_path: Path,
) -> None:
    """One follower hears its leader no more, but is linked with who will lead next."""
    with Simulation(4, tmp_path, founders=3, journal=SMALL_JOURNAL) as sim:

        async def story() -> None:
            leader = await sim.ready()
            next_one, behind = sim.others(leader, sim.nodes["n4"])
            sim.network.cut(leader.id, behind.id)
            await add(sim, "n4")
            index = roster(sim).index
            for number in range(80):
                await leader.set(b"pad%d" % (number % 5), b"x" * 6000)
            await sim.until(lambda: next_one.journal.first_index > index)
            await leader.transfer(next_one.id)
            await sim.until(lambda: behind.core.raft.applied_index() > index)
            assert behind.core.membership.current.voters == {"n1", "n2", "n3", "n4"}

        sim.run(story())


def test_the_state_never_gets_past_a_roster_that_is_not_on_the_disk(tmp_path: Path) -> None:
    with Simulation(4, tmp_path, founders=3) as sim:
        checked = []

        async def story() -> None:
            await sim.ready()
            for node in sim.nodes.values():
                membership, apply = node.core.membership, node.core.machine.apply

                def spy(
                    index: int, term: int, batch: bytes, m: Any = membership, a: Any = apply
                ) -> Any:
                    assert not [each for _, each in m._pending if each.index < index]
                    checked.append(index)
                    return a(index, term, batch)

                node.core.machine.apply = spy  # type: ignore[method-assign]
            # So slow that a roster and what follows it are committed in one go.
            sim.network.slow.update(
                {(one, other): (0.05, 0.15) for one in sim.nodes for other in sim.nodes}
            )
            writers = Writers(sim)
            await add(sim, "n4")
            await remove(sim, sim.others(sim.leader, sim.nodes["n4"])[0].id)
            await writers.stop()
            failures = [each for node in sim.nodes.values() for each in node.failures]
            assert all(type(each) is Removed for each in failures), failures

        sim.may_fail.update(sim.nodes)
        sim.run(story())
        assert len(checked) > 20


def test_a_sole_voter_acknowledges_only_what_it_has_synced(tmp_path: Path) -> None:
    """With nobody to acknowledge, the journal syncs within the call; with others, it does not."""
    with Simulation(2, tmp_path, founders=1) as sim:

        async def story() -> None:
            one = await sim.ready()
            for node in sim.nodes.values():
                node.journal.sync_s = 0.02
            await add(sim, "n2")
            await one.set(b"two", b"2")
            sim.may_fail.add("n2")
            await remove(sim, "n2")
            for number in range(20):
                await one.set(b"k", b"%d" % number)
                one.crash(Crash.SYNCED)
                await one.start()
                await sim.until(lambda: one.core.is_ready())
                assert await one.get(b"k") == b"%d" % number
            assert await one.get(b"two") == b"2"

        sim.run(story())


def test_a_wiped_node_takes_part_in_nothing_until_it_is_seated_anew(tmp_path: Path) -> None:
    """P20. Its old self is removed first; the new one gets everything, then votes."""
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            await leader.set(b"k", b"v")
            wiped, other = sim.others(leader)
            wiped.crash(Crash.ALL)
            wiped.disk = MemoryDisk()
            sim.may_fail.add(wiped.id)
            sim.network.frames = []
            await wiped.start()
            await sim.until(lambda: bool(wiped.failures))
            assert "it was wiped or restored" in str(wiped.failures[0])
            said = {message[0] for sender, _, message in sim.network.frames if sender == wiped.id}
            assert said <= {30, 31}, said  # who it is; no vote, no acknowledgement
            sim.network.frames = None
            await wiped.stop()
            # What `trimaran repair` does.
            await remove(sim, wiped.id)
            wiped.disk = MemoryDisk()
            wiped._config = _joining(wiped)
            await wiped.start()
            member = wiped._config.member
            assert await ask(sim, sim.leader, lambda s, w: s.add_member(member, w)) is None
            assert wiped.core.membership.current.seat(wiped.id) is None or (
                wiped.core.membership.current.seat(wiped.id).role == LEARNER
            )
            await sim.until(lambda: wiped.id in roster(sim).voters)
            other.crash(Crash.ALL)
            await sim.leader.set(b"k", b"with the new one's vote")
            await other.start()
            await sim.settle()
            assert len(sim.digests()) == 1
            assert not wiped.failures

        sim.run(story())


def test_a_wiped_node_and_one_that_was_cut_off_elect_nobody(tmp_path: Path) -> None:
    """Why it matters: what the wiped one acknowledged is with the third alone, which is down."""
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            wiped, cut_off = sim.others(leader)
            sim.isolate(cut_off)
            await leader.set(b"k", b"acknowledged")
            leader.crash(Crash.ALL)
            wiped.crash(Crash.ALL)
            wiped.disk = MemoryDisk()
            sim.may_fail.add(wiped.id)
            sim.network.heal()
            await wiped.start()
            await asyncio.sleep(5)
            assert not cut_off.is_leader
            assert not wiped.is_leader
            await leader.start()
            await sim.until(lambda: leader.is_leader)
            assert await cut_off.get(b"k") == b"acknowledged"

        sim.run(story())


def _joining(node: SimulatedNode) -> Config:
    return dataclasses.replace(node._config, node=dataclasses.replace(node._config.node, join=True))


async def wipe_and_repair(
    sim: Simulation, name: str, chance: random.Random, clients: Clients
) -> None:
    """A machine comes back with an empty disk, once as it was, and then as `trimaran repair` has
    it: its old seat removed first."""
    node = sim.nodes[name]
    if node.is_running:
        node.crash(Crash.ALL)
    node.disk = MemoryDisk()
    await asyncio.sleep(chance.uniform(0.1, 1.5))  # perhaps somebody has started it meanwhile
    assert not node.is_leader
    while True:
        leaders = [each for each in sim.nodes.values() if each.is_leader and each is not node]
        if leaders:
            leader = max(leaders, key=lambda each: each.core.raft.term())
            if not leader.core.membership.committed.has(name):
                break
            await _quick(leader, lambda s, w: s.remove_member(name, w))
        await asyncio.sleep(0.1)
        if clients.stopped and not leaders:
            sim.network.heal()
    if node.is_running:
        node.crash(Crash.ALL)
    node.disk = MemoryDisk()
    node._config = _joining(node)


async def operate(
    sim: Simulation, chance: random.Random, clients: Clients, *, wipes: bool = False
) -> int:
    """Add and remove at random; between two and five voters. How many changes came about."""
    done = 0
    while not clients.stopped:
        await asyncio.sleep(chance.uniform(0.1, 0.8))
        leaders = [node for node in sim.nodes.values() if node.is_leader]
        if not leaders or clients.stopped:
            continue
        leader = max(leaders, key=lambda node: node.core.raft.term())
        current = leader.core.membership.current
        name = chance.choice(list(sim.nodes))
        if wipes and current.has(name) and len(current.voters) > 2 and chance.random() < 0.4:
            await wipe_and_repair(sim, name, chance, clients)
            error = None
        elif current.has(name) and len(current.voters) > 2:
            error = await _quick(leader, lambda s, w, name=name: s.remove_member(name, w))
        elif not current.has(name):
            member = sim.nodes[name]._config.member
            error = await _quick(leader, lambda s, w, member=member: s.add_member(member, w))
        else:
            continue
        done += error is None
    return done


async def _quick(node: SimulatedNode, order: Callable[[Service, Waiter], None]) -> object:
    """One order, whatever becomes of it; None when it was done."""
    waiter = Waiter()
    order(node.core.service, waiter)
    for _ in range(400):
        if waiter.told:
            return waiter.error if waiter.told[0][0] == "fail" else None
        await asyncio.sleep(0.05)
    raise AssertionError("nobody was told")


@pytest.mark.parametrize("seed", range(1, 7))
def test_members_change_under_cuts_and_crashes_and_nothing_is_lost(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _change_members(seed, tmp_path, caplog)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(101, 141))
def test_members_change_under_other_seeds_and_nothing_is_lost(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _change_members(seed, tmp_path, caplog)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(201, 221))
def test_machines_lose_their_disks_one_at_a_time_and_nothing_is_lost(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _change_members(seed, tmp_path, caplog, wipes=True)


class LateWorker(Worker):
    """members.json takes its time, in order; everything else is done at once."""

    def __init__(self, sim: Simulation, name: str, **options: Any) -> None:
        super().__init__(name, threaded=False, **options)
        self._sim = sim
        self._is_late = name == "members-sync"
        self._chance = random.Random(f"{sim.seed} {name}")
        self._at_s = 0.0

    def do(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """See the class."""
        if not self._is_late:
            super().do(work, done)
            return
        now_s = self._sim.loop.time()
        self._at_s = max(self._at_s + 1e-6, now_s + self._chance.choice([0.0, 0.02, 0.4]))
        self._sim.loop.call_at(self._at_s, super().do, work, done)


def _change_members(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, wipes: bool = False
) -> None:
    caplog.set_level(logging.WARNING, logger="pysyncobj")
    with (
        mock.patch("node.members_file._SAVE_WITHIN_S", 0.0),  # the gates hold: nobody ever waits
        Simulation(5, tmp_path, seed, founders=3, journal=SMALL_JOURNAL) as sim,
        mock.patch("node.core.Worker", functools.partial(LateWorker, sim)),
    ):
        sim.may_fail.update(sim.nodes)  # removed ones stop; that is looked at in the end
        chance = random.Random(seed)

        async def story() -> None:
            await sim.ready()
            leaders, clients = Leaders(sim), Clients(sim, 3000)
            work = [sim.loop.create_task(clients.write(node, 0)) for node in sim.nodes.values()]
            work += [
                sim.loop.create_task(clients.read(node, level))
                for node in sim.nodes.values()
                for level in ("linearizable", "lease")
            ]
            operator = sim.loop.create_task(operate(sim, chance, clients, wipes=wipes))
            await break_things(sim, random.Random(seed), 8, seed % 2 == 0)
            clients.stopped = True
            await sim.until(lambda: all(task.done() for task in work), within_s=40)
            await operator
            for task in work:
                task.result()
            assert operator.result() > 0
            await sim.start()
            await sim.until(lambda: any(node.is_leader for node in sim.nodes.values()), 20)
            await sim.until(lambda: roster(sim).learners == frozenset(), 20)
            await sim.settle()
            voters = roster(sim).voters
            members = [node for node in sim.members() if node.id in voters]
            assert len(members) == len(voters)
            for node in members[:1]:
                await node.get(b"", consistency="linearizable")
                for key, value in clients.written.items():
                    assert await node.get(key, consistency="eventual") == value, f"lost {key!r}"
                count = int(await node.get(b"counter") or 0)
                assert clients.counted <= count <= clients.counted + clients.uncertain
            assert len({node.digest() for node in members}) == 1
            leaders.check()
            for node in sim.nodes.values():
                failures = node.earlier_failures + node.failures
                assert all(
                    type(each) is Removed or "it was wiped or restored" in str(each)
                    for each in failures
                ), failures

        sim.run(story())
    assert_nothing_was_truncated(caplog)
