"""The replica: proposing, standing, applying, failing, and its place in the journal at boot.

Method: whole nodes on virtual time (tests/support/simulated.py), since nearly all of this room is
how PySyncObj is driven; `align` alone, with a journal and a state machine on a MemoryDisk.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest import mock

import pytest

from node import wire
from node.config import RaftSection
from node.entry import KIND_BATCH, NOOP_COMMAND, wrap
from node.errors import DiskFailed, Fatal, Rejected
from node.journal import FileJournal
from node.journal_files import JournalFiles, TermFile
from node.logs import EventLog
from node.raft import align
from statemachine import FileStateMachine
from statemachine.commands import BatchBuilder
from tests.support.crash import Crash, MemoryDisk
from tests.support.simulated import WALL_AT_START_MS, Simulation

DIRECTORY = Path("/node")
BATCH = BatchBuilder().build()


# -- alignment at boot ---------------------------------------------------------------------------


class Boot:
    """A journal and a state machine, as they are found when a node starts."""

    def __init__(self, entries: range, applied: tuple[int, int]) -> None:
        disk = MemoryDisk()
        for name in ("", "journal"):
            disk.make_dir(DIRECTORY / name)
        self.machine = FileStateMachine(DIRECTORY, disk=disk, lock=False)
        if applied[0]:
            self.machine.apply(*applied, BATCH)
        self.journal = FileJournal(
            JournalFiles(DIRECTORY / "journal", disk, 1 << 20),
            TermFile(DIRECTORY / "journal" / "term", disk),
            call_soon_threadsafe=lambda *_: None,
            on_durable=lambda: None,
            on_failure=lambda error: None,
            inline=True,
        )
        for index in entries:
            self.journal.add(wrap(KIND_BATCH, BATCH), index, 2)

    def align(self) -> list[tuple[int, int]]:
        align(self.journal, self.machine, EventLog("n1"))
        return [(index, term) for _, index, term in self.journal]


def test_a_journal_that_holds_the_last_applied_entry_stays_as_it_is() -> None:
    boot = Boot(range(5, 9), applied=(7, 2))
    assert boot.align() == [(5, 2), (6, 2), (7, 2), (8, 2)]


def test_a_first_start_changes_nothing() -> None:
    assert Boot(range(0), applied=(0, 0)).align() == []


@pytest.mark.parametrize(
    ("entries", "applied"),
    [
        pytest.param(range(5, 9), (12, 3), id="entries were lost"),
        pytest.param(range(5, 9), (7, 3), id="another term: a snapshot was installed"),
        pytest.param(range(0), (7, 2), id="an empty journal"),
        pytest.param(range(6, 7), (7, 2), id="a crash while it was begun anew"),
    ],
)
def test_a_journal_without_the_last_applied_entry_begins_anew_with_two_placeholders(
    entries: range, applied: tuple[int, int]
) -> None:
    boot = Boot(entries, applied)
    index, term = applied
    assert boot.align() == [(index - 1, term), (index, term)]
    assert [entry[0] for entry in boot.journal] == [NOOP_COMMAND, NOOP_COMMAND]
    assert boot.align() == [(index - 1, term), (index, term)]


@pytest.mark.parametrize("applied", [(0, 0), (3, 2), (4, 2), (5, 2)])
def test_a_state_that_ends_before_the_journal_s_second_entry_is_fatal(
    applied: tuple[int, int],
) -> None:
    """PySyncObj would start at the second entry as if it had been applied."""
    with pytest.raises(Fatal, match="the journal begins at 5"):
        Boot(range(5, 9), applied).align()


def test_what_a_node_with_placeholders_leads_is_never_a_placeholder(tmp_path: Path) -> None:
    """Five nodes. n1 has only placeholders for what n4 is missing, and is made the leader."""
    with Simulation(5, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            behind, away, aligned = sim.others(leader)[:3]
            await leader.set(b"first", b"value")
            await sim.settle()
            sim.isolate(behind)
            await leader.set(b"missing", b"value")
            last = leader.journal.last_index
            await sim.until(lambda: aligned.core.machine.last_applied.index == last)
            await sim.until(lambda: aligned.journal.durable_index == last)
            sim.isolate(away)
            aligned.core.machine.checkpoint()
            aligned.crash(Crash.SYNCED)
            for name in aligned.disk.list_dir(aligned.data_dir / "journal"):
                if name.endswith(".seg"):
                    aligned.disk.unlink(aligned.data_dir / "journal" / name)
            await aligned.start()
            assert aligned.journal.first_index == last - 1
            assert aligned.journal[1][0] == NOOP_COMMAND
            sim.network.heal()
            for other in sim.others(behind, aligned):
                sim.network.cut(behind.id, other.id)
            await sim.until(lambda: aligned.core.is_ready())
            leading = sim.leader
            if leading is not aligned:
                await leading.transfer(aligned.id)
            await sim.until(lambda: aligned.is_leader)
            await aligned.set(b"later", b"value")
            sim.network.heal()
            await sim.settle()
            assert await behind.get(b"missing", consistency="eventual") == b"value"
            assert len(sim.digests()) == 1

        sim.run(story())


@pytest.mark.parametrize("retain_bytes", [0, 1000])
def test_the_journal_is_never_cut_so_short_that_a_restart_skips_an_entry(
    tmp_path: Path, retain_bytes: int
) -> None:
    """A snapshot at S and the journal cut behind it; S + 1 is logged, not applied; a crash."""
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            for node in sim.nodes.values():
                node.core.upkeep._retain_bytes = retain_bytes
                node.journal._files._segment_bytes_max = 200
            for number in range(10):
                await leader.set(b"key%d" % number, b"v" * 300)
            await sim.settle()
            for node in sim.nodes.values():
                assert node.core.machine.start_snapshot()
            await leader.increment(b"counter")
            await asyncio.sleep(0.2)
            for node in sim.nodes.values():
                metadata = node.core.machine.snapshot_metadata
                assert metadata is not None
                assert 1 < node.journal.first_index < metadata.last_included.index
            for node in sim.nodes.values():
                node.crash(Crash.SYNCED)
            await sim.start()
            await sim.settle()
            for node in sim.nodes.values():
                assert await node.get(b"counter", consistency="eventual") == b"1"
            assert len(sim.digests()) == 1

        sim.run(story())


def test_the_journal_is_not_cut_above_what_is_still_to_be_applied_again(tmp_path: Path) -> None:
    """After a restart the state machine is ahead of PySyncObj, which needs the entries between."""
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            for number in range(20):
                await leader.set(b"key%d" % number, b"value")
            await sim.settle()
            for node in sim.nodes.values():
                node.core.machine.checkpoint()
                node.crash(Crash.SYNCED)
            node = sim.nodes["n1"]
            sim.isolate(node)
            await node.start()
            assert node.core.machine.last_applied.index > node.core.raft.applied_index()
            node.core.upkeep._retain_bytes = 0
            await node.snapshot()
            sim.network.heal()
            await sim.start()
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())


# -- proposing -----------------------------------------------------------------------------------


def test_a_node_that_is_still_behind_lets_its_clients_wait_until_it_has_caught_up(
    tmp_path: Path,
) -> None:
    """What it proposed before might be skipped over by the snapshot it is about to install, and
    nobody could tell its clients what came of it."""
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            late = sim.others(leader)[0]
            late.crash(Crash.SYNCED)
            for number in range(20):
                await leader.set(b"key%d" % number, b"value")
            await leader.snapshot()
            leader.journal.cut_below(leader.journal.last_index)
            await late.start()
            assert not late.core.raft.takes_batches()
            early = asyncio.ensure_future(late.increment(b"counter"))
            while not late.core.raft.takes_batches():
                assert not late.core.batches._pending
                await asyncio.sleep(0.001)
            assert late.core.machine.snapshot_metadata is not None  # it came by snapshot
            assert await early == 1

        sim.run(story())


def test_a_batch_is_stamped_with_a_time_that_never_falls(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            clock = leader.core._clock
            stamps = []
            for jump_ms in (0, 5_000_000, -9_000_000, 0):
                clock.offset_ms += jump_ms
                await leader.set(b"key", b"value")
                stamps.append(leader.core.machine.clock_ms)
            assert stamps == sorted(stamps)
            assert stamps[-1] - WALL_AT_START_MS < 60_000  # jumps in office change nothing

        sim.run(story())


def test_nonsense_and_what_is_too_long_does_not_get_into_the_log(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            before = leader.journal.last_index
            with pytest.raises(Rejected):
                leader.core.raft.propose(b"nonsense")
            with pytest.raises(Rejected, match="allowed"):
                leader.core.raft.propose(bytes(leader.core.config.proposal_bytes_max + 1))
            assert leader.journal.last_index == before

        sim.run(story())


def test_the_largest_batch_travels_and_is_no_chunk(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            limit = leader.core.config.proposal_bytes_max
            for size in (limit, limit - 1):
                batch = BATCH + bytes(size - len(BATCH))
                assert leader.core.raft.propose(batch)
                last = leader.journal.last_index
                await sim.until(lambda: leader.core.raft.commit_index() >= last)  # noqa: B023

        with mock.patch("statemachine.FileStateMachine.apply", return_value=[]):
            sim.run(story())


def test_a_one_node_cluster_syncs_before_it_answers(tmp_path: Path) -> None:
    with Simulation(1, tmp_path) as sim:

        async def story() -> None:
            node = await sim.ready()
            for number in range(20):
                await node.set(b"key%d" % number, b"value")
                assert node.journal.durable_index == node.journal.last_index
            node.crash(Crash.SYNCED)
            await node.start()
            await sim.until(lambda: node.core.is_ready())
            assert await node.get(b"key19") == b"value"

        sim.run(story())


def test_nothing_is_committed_that_a_majority_has_not_synced(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            await sim.settle()
            for node in sim.nodes.values():
                node.journal.sync_s = None
            write = sim.loop.create_task(leader.set(b"key", b"value"))
            await asyncio.sleep(3)
            assert not write.done()
            assert leader.is_leader  # reduced acknowledgements keep it in office
            last = leader.journal.last_index
            assert leader.core.raft.commit_index() < last
            other = sim.others(leader)[0]
            other.journal.sync_now()
            await asyncio.sleep(0.5)
            assert not write.done()  # one of three: the leader itself is not durable
            leader.journal.sync_now()
            assert await write
            for node in sim.nodes.values():
                node.journal.sync_s = 0.0005
                node.journal.let_sync()

        sim.run(story())


def test_a_vote_does_not_leave_before_the_voter_has_synced_it(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            rest = sim.others(leader)
            for node in rest:
                node.journal.sync_s = None
            leader.crash()
            sim.network.frames = []
            await asyncio.sleep(3)
            kinds = {message[0] for _, _, message in sim.network.frames}
            assert {wire.PRE_GRANT, wire.VOTE_REQUEST} <= kinds
            assert wire.VOTE not in kinds
            assert not any(node.is_leader for node in rest)
            for node in rest:
                node.journal.sync_s = 0.0005
                node.journal.let_sync()
            await sim.until(lambda: any(node.is_leader for node in rest))

        sim.run(story())


# -- standing and failing ------------------------------------------------------------------------


def test_it_stands_though_pysyncobj_s_own_timeout_is_longer_than_ours(tmp_path: Path) -> None:
    """The heartbeat may be half of the election timeout, PySyncObj's timeout is three of them."""
    raft = RaftSection(election_timeout_min_ms=100, election_timeout_max_ms=120, heartbeat_ms=50)
    with Simulation(3, tmp_path, 3, raft=raft) as sim:  # a seed whose first round is no split one

        async def story() -> None:
            leader = await sim.ready()
            leader.crash()
            began_s = sim.loop.time()
            await sim.until(lambda: any(node.is_leader for node in sim.nodes.values()))
            assert sim.loop.time() - began_s < 0.14

        sim.run(story())


def test_a_disk_that_fails_ends_the_node_once_and_lets_go_of_the_directory(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            sim.may_fail.add(leader.id)
            failure = DiskFailed(DIRECTORY, "sync", "gone")
            with mock.patch.object(leader.core.machine, "apply", side_effect=failure):
                assert await sim.others(leader)[0].set(b"key", b"value")
            assert leader.failures == [failure]
            await leader.stop()
            leader.failures.clear()
            sim.may_fail.clear()
            await leader.start()
            await sim.settle()
            assert await leader.get(b"key") == b"value"

        sim.run(story())


@pytest.mark.parametrize(
    "room",
    [
        "node.transport.FencedTransport.on_durable",
        "node.transport.FencedTransport.link_down",
        "node.transport.FencedTransport.receive",
        "node.batches.Batches._propose",
        "node.reads.Reads.tick",
        "node.upkeep.Upkeep.tick",
    ],
)
def test_whatever_comes_out_of_any_room_ends_the_node_through_the_one_door(
    tmp_path: Path, room: str
) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            with mock.patch(room, side_effect=Fatal("broken")):
                sim.may_fail.update(sim.nodes)
                for other in sim.others(leader):
                    sim.network.break_session(frozenset((leader.id, other.id)))
                write = sim.loop.create_task(leader.set(b"key", b"value"))
                await asyncio.sleep(0.5)
                write.cancel()
            failures = [node.failures for node in sim.nodes.values() if node.failures]
            assert failures
            assert all([str(error) for error in each] == ["broken"] for each in failures)

        sim.run(story())
