"""Entries that left the leader's memory: read from its files, whole, in order, at any distance.

Method: whole nodes on virtual time whose journals hold next to nothing in memory, so that
whatever a follower misses has to come from the files; and the journal alone, for what is there
after every cut and damage.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from unittest import mock

import pytest

from node import wire
from node.backlog import PART_BYTES, WINDOW_BYTES, Backlog
from node.config import JournalSection
from node.entry import KIND_BATCH, NOOP_COMMAND, Entry, wrap
from node.journal import FileJournal
from node.journal_files import JournalFiles
from node.term_file import TermFile
from statemachine.errors import Corrupt
from tests.support.crash import Crash, MemoryDisk
from tests.support.simulated import SimulatedNode, Simulation

DIRECTORY = Path("/n1/journal")
SMALL_MEMORY = JournalSection(memory_bytes=64 * 1024, segment_bytes_max=64 * 1024)
FAR = 300
"""Writes of 2 KB: nine times what memory holds."""


def entry(index: int, term: int = 1) -> Entry:
    size = random.Random(index).randrange(10, 5_000)
    return wrap(KIND_BATCH, b"%d@%d " % (index, term) + b"." * size), index, term


class Setup:
    """A journal without a thread, and what it was told to hand over."""

    def __init__(self, disk: MemoryDisk | None = None, *, settled_index: int = 0) -> None:
        self.disk = disk or MemoryDisk()
        self.disk.make_dir(DIRECTORY)
        self.failures: list[Exception] = []
        self.journal = FileJournal(
            JournalFiles(DIRECTORY, self.disk, 20_000),
            TermFile(DIRECTORY / "term", self.disk),
            call_soon_threadsafe=lambda function, *arguments: function(*arguments),
            on_durable=lambda: None,
            on_failure=self.failures.append,
            inline=True,
            settled_index=settled_index,
            memory_bytes=30_000,
        )

    def read(self, index: int, bytes_max: int = 1 << 30) -> list[Entry] | None:
        told: list[list[Entry] | None] = []
        self.journal.read_later(index, bytes_max, told.append)
        return told[0]


# -- the journal --------------------------------------------------------------------------------


def test_memory_is_bounded_and_every_entry_can_still_be_read() -> None:
    setup = Setup()
    for index in range(1, 401):
        setup.journal.add(*entry(index))
        setup.journal.forget_applied(index)
    journal = setup.journal
    assert sum(len(each[0]) + 36 for each in journal) <= 30_000 + 5_100
    assert journal.first_index == 1
    assert journal.memory_index > 350
    assert journal.size_bytes == sum(len(entry(index)[0]) + 36 for index in range(1, 401))
    for index in range(1, journal.memory_index + 1):
        found = setup.read(index, 12_000)
        assert found is not None
        assert found == [entry(index + place) for place in range(len(found))]
    assert [each[1] for each in setup.read(journal.memory_index) or ()] == [journal.memory_index]


def test_what_is_not_applied_or_not_durable_stays_in_memory() -> None:
    setup = Setup()
    for index in range(1, 101):
        setup.journal.add(*entry(index))
    setup.journal.forget_applied(1)
    assert setup.journal.memory_index == 1
    setup.journal.durable_index = 40
    setup.journal.forget_applied(90)
    assert setup.journal.memory_index == 39
    setup.journal.durable_index = 100
    setup.journal.forget_applied(60)
    assert setup.journal.memory_index == 59
    setup.journal.deleteEntriesFrom(30)
    assert setup.journal.last_index == 88
    setup.journal.add(*entry(89, 2))
    setup.journal.forget_applied(89)
    memory_index = setup.journal.memory_index
    assert (setup.read(memory_index - 1) or [])[0] == entry(memory_index - 1)


@pytest.mark.parametrize("settled_index", [0, 5, 200, 399, 400])
def test_a_journal_that_is_opened_again_holds_what_is_needed_and_no_more(
    settled_index: int,
) -> None:
    setup = Setup()
    for index in range(1, 401):
        setup.journal.add(*entry(index))
    setup.journal.close()
    again = Setup(setup.disk, settled_index=settled_index).journal
    assert again.first_index == 1
    assert list(again) == [entry(index) for index in range(again.memory_index, 401)]
    assert again.memory_index <= max(settled_index - 1, 1)
    unneeded = sum(len(each[0]) + 36 for each in again if each[1] < settled_index - 1)
    assert unneeded <= 30_000
    assert again.size_bytes == setup.journal.size_bytes


def test_what_was_cut_is_not_read_and_what_is_left_is() -> None:
    setup = Setup()
    for index in range(1, 401):
        setup.journal.add(*entry(index))
        setup.journal.forget_applied(index)
    setup.journal.cut_below(200)
    assert setup.journal.first_index == 200
    assert setup.read(1) is None
    assert (setup.read(200) or [])[0] == entry(200)
    whole = sum(len(entry(index)[0]) + 36 for index in range(200, 401))
    assert setup.journal.size_bytes == pytest.approx(whole, abs=70_000)
    setup.journal.clear()
    setup.journal.add(*entry(900))
    setup.journal.add(*entry(901))
    assert setup.journal.first_index == setup.journal.memory_index == 900
    assert setup.read(400) is None


def test_damage_to_an_old_entry_is_found_when_it_is_read() -> None:
    setup = Setup()
    for index in range(1, 401):
        setup.journal.add(*entry(index))
        setup.journal.forget_applied(index)
    path = setup.disk.files()[0]
    setup.disk.flip(path, 8 * (64 + 36 + 8))
    told: list[object] = []
    setup.journal.read_later(1, 1 << 20, told.append)
    assert told == []
    assert [type(each) for each in setup.failures] == [Corrupt]


def test_a_journal_that_is_cleared_while_it_is_read_is_not_taken_for_a_damaged_one() -> None:
    """The new log's first file bears the name of the old one's."""
    setup = Setup()
    for index in range(1, 401):
        setup.journal.add(*entry(index))
        setup.journal.forget_applied(index)
    read = setup.journal._files.read

    def read_late(*arguments: int) -> list[Entry] | None:
        segments = list(setup.journal._files._segments)
        setup.journal.clear()
        setup.journal.add(*entry(900))
        with mock.patch.object(setup.journal._files, "_segments", segments):
            return read(*arguments)

    with mock.patch.object(setup.journal._files, "read", read_late):
        assert setup.read(5, 50_000) is None
    assert setup.failures == []


@pytest.mark.parametrize("retain_bytes", [0, 10_000, 100_000, 300_000, 1 << 40])
def test_what_is_to_be_kept_is_measured_in_memory_and_on_disk_alike(retain_bytes: int) -> None:
    setup = Setup()
    for index in range(1, 401):
        setup.journal.add(*entry(index))
        setup.journal.forget_applied(index)
    for index in (400, 380, 150):
        first, kept_bytes = setup.journal.retained_from(index, retain_bytes)
        true_bytes = sum(len(entry(each)[0]) + 36 for each in range(first, index + 1))
        assert 1 <= first <= index
        assert abs(true_bytes - kept_bytes) < 75_000
        if first > 1:
            assert abs(true_bytes - retain_bytes) < 75_000


# -- followers ----------------------------------------------------------------------------------


async def fall_behind(sim: Simulation, writes: int = FAR) -> tuple[SimulatedNode, SimulatedNode]:
    """(leader, a follower that lacks what left the leader's memory)."""
    leader = await sim.ready()
    behind = sim.others(leader)[0]
    behind.crash()
    for number in range(writes):
        await leader.set(b"k%d" % (number % 50), b"%d " % number + b"v" * 2_000)
    await sim.until(lambda: leader.journal.memory_index > writes / 2)
    return leader, behind


def snapshots(sim: Simulation) -> int:
    return sum(frame[2][0] == wire.SNAPSHOT_BEGIN for frame in sim.network.frames)


@pytest.mark.parametrize("how", list(Crash))
def test_a_follower_behind_the_memory_gets_the_rest_from_the_files(
    tmp_path: Path, how: Crash
) -> None:
    with Simulation(3, tmp_path, journal=SMALL_MEMORY) as sim:

        async def story() -> None:
            _, behind = await fall_behind(sim)
            sim.network.frames = []
            await behind.start()
            await sim.settle()
            assert snapshots(sim) == 0
            assert len(sim.digests()) == 1
            # It follows on, and a crash of everybody loses nothing.
            await behind.set(b"after", b"1")
            for node in sim.nodes.values():
                node.crash(how, 7)
            await sim.ready()
            assert await behind.get(b"after") == b"1"
            assert len(sim.digests()) == 1

        sim.run(story())


def test_writes_go_on_while_a_follower_is_sent_old_entries(tmp_path: Path) -> None:
    with Simulation(3, tmp_path, journal=SMALL_MEMORY) as sim:

        async def story() -> None:
            leader, behind = await fall_behind(sim)
            for pair in ((leader.id, behind.id), (behind.id, leader.id)):
                sim.network.slow[pair] = (0.02, 0.03)
            await behind.start()
            for number in range(200):
                await leader.set(b"more%d" % number, b"v" * 2_000)
            sim.network.slow.clear()
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())


def test_a_stream_that_is_cut_again_and_again_arrives_all_the_same(tmp_path: Path) -> None:
    with Simulation(3, tmp_path, journal=SMALL_MEMORY) as sim:

        async def story() -> None:
            leader, behind = await fall_behind(sim, 600)
            sim.network.slow[leader.id, behind.id] = (0.03, 0.05)
            await behind.start()
            for _ in range(12):
                await asyncio.sleep(0.15)
                sim.network.break_session(frozenset((leader.id, behind.id)), 0.1)
            sim.network.slow.clear()
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())


def test_a_follower_behind_the_files_still_gets_a_snapshot(tmp_path: Path) -> None:
    with Simulation(3, tmp_path, journal=SMALL_MEMORY) as sim:

        async def story() -> None:
            _, behind = await fall_behind(sim)
            for node in sim.others(behind):
                await node.snapshot()
                node.journal.cut_below(node.core.machine.last_applied.index - 1)
            sim.network.frames = []
            await behind.start()
            await sim.settle()
            assert snapshots(sim) >= 1
            assert len(sim.digests()) == 1

        sim.run(story())


def test_a_new_leader_finds_out_where_a_follower_ends(tmp_path: Path) -> None:
    with Simulation(3, tmp_path, journal=SMALL_MEMORY) as sim:

        async def story() -> None:
            leader, behind = await fall_behind(sim)
            await leader.transfer()
            await behind.start()
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())


def test_what_is_in_flight_to_one_follower_is_bounded(tmp_path: Path) -> None:
    with Simulation(3, tmp_path, journal=SMALL_MEMORY) as sim:

        async def story() -> None:
            leader = await sim.ready()
            behind = sim.others(leader)[0]
            behind.crash()
            for number in range(60):
                await leader.set(b"k%d" % number, b"v" * 500_000)
            await sim.until(lambda: leader.journal.memory_index > 50)
            await behind.start()
            most = 0
            behind.journal.sync_s = 0.5  # it acknowledges late
            while not behind.core.is_ready():
                await asyncio.sleep(0.01)
                backlog = leader.core.transport.leading.backlog
                stream = backlog._streams.get(behind.id)
                most = max(most, stream.flying_bytes if stream else 0)
            assert WINDOW_BYTES <= most < WINDOW_BYTES + 2 * PART_BYTES
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())


def test_a_placeholder_is_never_read_out_to_anybody() -> None:
    """A journal that began anew behind the state: its first two entries stand for the state."""
    setup = Setup()
    for each in (NOOP_COMMAND, 70, 3), (NOOP_COMMAND, 71, 3), *map(entry, range(72, 200)):
        setup.journal.add(*each)
    setup.journal.forget_applied(199)
    assert setup.journal.memory_index > 72
    sent: list[int] = []
    too_late: list[str] = []
    backlog = Backlog(
        setup.journal,
        send=lambda peer_id, previous, term, entries: bool(sent.append(previous)) or True,
        begins_too_late=too_late.append,
    )
    backlog.begin("n2", 70)
    assert (sent, too_late) == ([], ["n2"])
    backlog.begin("n3", 71)
    assert sent[0] == 71
