"""Upkeep: snapshots when the journal has grown, cuts below them, and a reserve on the disk.

Method: a real state machine and a real journal on a disk in memory; the rest are plain values,
and time is made by hand. Images are written by a thread, which a test waits for.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node.config import CheckpointSection, Config, DiskSection, JournalSection, NodeSection
from node.entry import KIND_BATCH, NOOP_COMMAND, wrap
from node.errors import Fatal, Unavailable
from node.journal import FileJournal
from node.journal_files import JournalFiles, TermFile
from node.logs import EventLog
from node.upkeep import POLL_S, Upkeep
from statemachine import BatchBuilder, CheckpointConfig, FileStateMachine, WalConfig
from statemachine.errors import DiskFailed
from tests.support.crash import Crash, FailingDisk, MemoryDisk
from tests.support.fake_service import members
from tests.support.turns import ManualClock, Waiter

KIB = 1024
DATA = Path("/data/n1")


class World:
    """n1 of one, with a data directory; `restart` makes the next life of it."""

    def __init__(
        self,
        disk: MemoryDisk | None = None,
        *,
        through: Any = None,
        compact_bytes: int = 64 * KIB,
        retain_bytes: int = 0,
        checkpoint_entries: int = 0,
    ) -> None:
        self.disk = disk or MemoryDisk()
        door = through or self.disk
        self.limits = {"compact_bytes": compact_bytes, "retain_bytes": retain_bytes}
        self.clock = ManualClock()
        door.make_dir(DATA / "journal")
        self.machine = FileStateMachine(
            DATA,
            wal=WalConfig(sync="checkpoint"),
            checkpoint=CheckpointConfig(entries=checkpoint_entries),
            disk=door,
        )
        self.journal = FileJournal(
            JournalFiles(DATA / "journal", door, 16 * KIB),
            TermFile(DATA / "journal" / "term", door),
            call_soon_threadsafe=lambda *work: None,
            on_durable=lambda: None,
            on_failure=lambda error: None,
            inline=True,
        )
        if not self.journal:
            self.journal.add(NOOP_COMMAND, 1, 1)
        self.applied = self.machine.last_applied.index
        self.leads = True
        self.handed_over: list[str | None] = []
        self.batches = SimpleNamespace(refusal=None)
        config = Config(
            node=NodeSection(id="n1", data_dir=DATA),
            members=members(1),
            journal=JournalSection(
                segment_bytes_max=64 * KIB, compact_bytes=compact_bytes, retain_bytes=retain_bytes
            ),
            checkpoint=CheckpointSection(entries=checkpoint_entries),
            disk=DiskSection(reserve_bytes=1_000_000),
        )
        raft: Any = SimpleNamespace(
            journal=self.journal,
            applied_index=lambda: self.applied,
            is_leader=lambda: self.leads,
        )
        batches: Any = self.batches
        transfer: Any = SimpleNamespace(
            begin=lambda target, waiter: self.handed_over.append(target)
        )
        self.upkeep = Upkeep(
            config,
            raft=raft,
            machine=self.machine,
            batches=batches,
            transfer=transfer,
            disk=self.disk,
            monotonic=self.clock.monotonic,
            log=EventLog("n1"),
        )

    def write(self, count: int, size: int = 1_000) -> None:
        """So many entries, journalled and applied."""
        for index in range(self.journal.last_index + 1, self.journal.last_index + count + 1):
            builder = BatchBuilder()
            builder.put(b"k%d" % (index % 7), b"v" * size)
            batch = builder.build(b"n1", 1, index)
            self.journal.add(wrap(KIND_BATCH, batch), index, 1)
            self.machine.apply(index, 1, batch)
            self.applied = index

    def tick(self, times: int = 1) -> None:
        """As many polls; what a background job writes is written by then."""
        for _ in range(times):
            self.clock.advance(POLL_S)
            self.upkeep.tick()
            for thread in threading.enumerate():
                if thread.name == "trimaran-image":
                    thread.join()

    def snapshot(self) -> Waiter:
        waiter = Waiter()
        self.upkeep.snapshot(waiter)
        return waiter

    @property
    def snapshot_index(self) -> int:
        found = self.machine.snapshot_metadata
        return found.last_included.index if found is not None else 0

    def restart(self, disk: MemoryDisk | None = None) -> World:
        """Another life on the same disk, or on what a crash left of it."""
        if disk is None:
            self.machine.close()
            self.journal.close()
        return World(disk or self.disk, **self.limits)


# -- snapshots and cuts ---------------------------------------------------------------------------


def test_a_journal_that_has_grown_brings_a_snapshot_and_is_cut_below_it() -> None:
    world = World()
    world.write(40)
    world.tick(5)
    assert world.snapshot_index == 0
    world.write(40)
    world.tick(3)
    assert world.snapshot_index == 81
    assert world.journal.first_index == 80  # the snapshot's entry, and one before it
    assert world.journal.last_index == 81
    assert world.journal.size_bytes < 3 * KIB


def test_the_journal_keeps_what_a_peer_a_little_behind_may_need() -> None:
    world = World(retain_bytes=20 * KIB)
    world.write(80)
    world.tick(3)
    kept = world.snapshot_index - world.journal.first_index
    assert 18 <= kept <= 20


def test_what_was_written_during_a_snapshot_counts_for_the_next() -> None:
    world = World(retain_bytes=20 * KIB)
    world.write(80)
    world.tick()  # begins it
    world.write(50)
    world.tick()
    assert world.snapshot_index == 81
    assert world.journal.last_index == 131
    world.write(5)
    world.tick(3)
    assert world.snapshot_index == 81
    world.write(10)  # more than 64 KiB that the snapshot does not hold
    world.tick(3)
    assert world.snapshot_index == 146


def test_the_journal_is_never_cut_above_a_durable_snapshot() -> None:
    world = World()
    cuts: list[tuple[int, int]] = []

    def on_step(name: str) -> None:
        if name != "unlink":
            return
        crashed = world.disk.crashed(Crash.SYNCED)
        later = World(crashed)
        cuts.append((later.journal[0][1], later.snapshot_index))

    for _ in range(3):
        world.write(90)
        world.disk.on_step = on_step
        world.tick(4)
        world.disk.on_step = None
    assert len(cuts) > 10
    assert all(first <= max(snapshot, 1) for first, snapshot in cuts)


def test_after_a_snapshot_nothing_is_made_until_something_was_written() -> None:
    """However much the journal keeps: the same snapshot again would help nobody."""
    world = World(retain_bytes=1024 * KIB)
    world.write(100)
    world.tick(3)
    assert world.snapshot_index == 101
    for restarts in (False, True):
        lifetime = world.restart() if restarts else world
        steps: list[str] = []
        lifetime.disk.on_step = steps.append
        lifetime.tick(20)
        lifetime.disk.on_step = None
        assert steps in ([], ["write"])  # at most the mark of an idle log
        assert lifetime.snapshot_index == 101


def test_entries_that_are_not_applied_bring_no_snapshot() -> None:
    """A leader without a majority: what it holds is not of the state."""
    world = World()
    world.write(5)
    world.snapshot()
    world.tick(2)
    for index in range(7, 200):
        world.journal.add(wrap(KIND_BATCH, b"x" * 1_000), index, 1)
    steps: list[str] = []
    world.disk.on_step = steps.append
    world.tick(20)
    assert "create" not in steps
    assert world.snapshot_index == 6


def test_a_cut_that_a_crash_prevented_is_made_up_for_after_the_restart() -> None:
    world = World()
    world.write(100)
    world.tick()  # the image is written, nothing is cut yet
    world.machine.poll_background()
    assert world.snapshot_index == 101
    again = world.restart(world.disk.crashed(Crash.SYNCED))
    assert again.journal.first_index == 1
    again.applied = 2
    again.tick(3)
    assert again.journal.first_index == 1  # PySyncObj applies all that again first
    again.applied = 101
    again.tick()
    assert again.journal.first_index == 100


def test_an_installed_snapshot_counts_as_one_that_was_made() -> None:
    donor, world = World(), World()
    donor.write(100)
    donor.snapshot()
    donor.tick(2)
    found = donor.machine.open_snapshot()
    assert found is not None
    metadata, file = found
    world.write(5)
    receiver = world.machine.snapshot_receiver()
    receiver.begin(metadata)
    receiver.write(file.read(metadata.size_bytes))
    world.machine.apply_snapshot_from_file(metadata, receiver.finish())
    world.journal.clear()
    for index in (100, 101):
        world.journal.add(NOOP_COMMAND, index, 1)
    world.applied = 101
    waiter = world.snapshot()
    world.tick(2)
    assert waiter.results == [b"101-1"]
    assert world.journal.first_index == 100
    world.write(50)
    world.tick(3)
    assert world.snapshot_index == 101
    world.write(20)
    world.tick(3)
    assert world.snapshot_index == 171


# -- asked for ------------------------------------------------------------------------------------


def test_a_snapshot_that_is_asked_for_is_named_when_it_is_durable() -> None:
    world = World()
    world.write(3)
    waiter = world.snapshot()
    assert waiter.told == []
    world.tick(2)
    assert waiter.results == [b"4-1"]
    again = world.restart(world.disk.crashed(Crash.SYNCED))
    assert again.snapshot_index == 4


def test_one_that_holds_everything_is_named_at_once() -> None:
    world = World()
    world.write(3)
    world.snapshot()
    world.tick(2)
    assert world.snapshot().results == [b"4-1"]


def test_one_that_is_asked_for_while_another_is_written_holds_what_was_applied_by_then() -> None:
    world = World()
    world.write(3)
    first = world.snapshot()
    world.upkeep.tick()
    world.write(3)
    second = world.snapshot()
    world.tick(4)
    assert first.results == [b"4-1"]
    assert second.results == [b"7-1"]


def test_one_that_is_asked_for_while_a_checkpoint_is_written_follows_it() -> None:
    world = World()
    world.write(3)
    assert world.machine.flush_async()
    waiter = world.snapshot()
    world.tick(3)
    assert waiter.results == [b"4-1"]


def test_of_nothing_there_is_no_snapshot() -> None:
    world = World()
    assert isinstance(world.snapshot().error, Unavailable)


def test_at_the_end_whoever_waits_is_told_and_whoever_comes_later_too() -> None:
    world = World()
    world.write(3)
    waiter = world.snapshot()
    error = Fatal("over")
    world.upkeep.close(error)
    assert waiter.error is error
    assert world.snapshot().error is error


def test_it_looks_a_few_times_a_second_however_often_it_is_called() -> None:
    world = World()
    polls: list[bool] = []
    found = world.machine.poll_background
    world.machine.poll_background = lambda: polls.append(found()) or False  # type: ignore
    for _ in range(100):
        world.clock.advance(0.01)
        world.upkeep.tick()
    assert 15 <= len(polls) <= 1.01 / POLL_S


# -- checkpoints ----------------------------------------------------------------------------------


def test_a_checkpoint_that_is_due_is_written_in_the_background() -> None:
    world = World(checkpoint_entries=10)
    world.write(9)
    world.tick(2)
    assert world.disk.list_dir(DATA / "checkpoint") == []
    world.write(1)
    world.tick(2)
    assert len(world.disk.list_dir(DATA / "checkpoint")) == 1
    assert world.snapshot_index == 0


def test_a_background_job_that_fails_is_fatal() -> None:
    failing = FailingDisk(MemoryDisk())
    world = World(failing._inner, through=failing)  # type: ignore[arg-type]
    world.write(3)
    world.snapshot()
    failing._fail_at = failing.calls + 4
    with pytest.raises(DiskFailed):
        world.tick(3)


def test_an_idle_journal_of_a_single_node_is_marked() -> None:
    world = World()
    world.write(3)
    before = world.disk.size_bytes(DATA / "journal" / "00000001.seg")
    world.tick(5)
    assert world.disk.size_bytes(DATA / "journal" / "00000001.seg") == before + 36


# -- the reserve ----------------------------------------------------------------------------------


def test_below_the_reserve_leadership_goes_over_and_writes_are_refused_until_there_is_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.tick()
    assert world.batches.refusal is None
    world.disk.free = 999_999
    with caplog.at_level(logging.INFO, "trimaran"):
        world.tick(70)
        assert world.batches.refusal == (
            "disk nearly full: 999999 bytes free, 1000000 are kept back"
        )
        assert world.handed_over == [None]
        world.disk.free = 1_000_000
        world.tick(70)
        assert world.batches.refusal is None
    assert [record.message for record in caplog.records] == [
        "writes refused",
        "writes taken again",
    ]


def test_a_follower_below_the_reserve_has_nothing_to_hand_over() -> None:
    world = World()
    world.leads = False
    world.disk.free = 5
    world.tick(2)
    assert world.batches.refusal is not None
    assert world.handed_over == []


def test_the_disk_is_asked_once_a_second() -> None:
    world = World()
    asked: list[Path] = []
    found = world.disk.free_bytes
    world.disk.free_bytes = lambda path: asked.append(path) or found(path)  # type: ignore
    world.tick(round(3 / POLL_S))
    assert len(asked) in (3, 4)
    assert set(asked) == {DATA}
