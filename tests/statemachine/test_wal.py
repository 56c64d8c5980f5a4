"""The WAL on its own: one write per chunk, syncs by policy, rotation, marks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from statemachine.checkpoint import cut_segments
from statemachine.errors import DiskFailed, Rejected
from statemachine.frame import KIND_BATCH, KIND_MARK, KIND_NOOP, Frame
from statemachine.paths import Paths
from statemachine.segment import SEGMENT_HEADER_BYTES, WAL_MAGIC, SegmentContents, read_segment
from statemachine.wal import Wal
from statemachine.wal_config import WalConfig
from tests.support.crash import Crash, FailingDisk, MemoryDisk

PATHS = Paths(Path("/data"))
FRAME_BYTES = 36 + 10


class World:
    """A WAL, its disk, a clock to set, and the disk's steps since they were last asked for."""

    def __init__(self, sync: Any = "always", **options: Any) -> None:
        self._steps: list[str] = []
        self.now_s = 0.0
        self.disk = MemoryDisk(self._steps.append)
        self.disk.make_dir(PATHS.wal)
        config = WalConfig(sync=sync, **options)
        self.wal = Wal(self.disk, PATHS, config, lambda: self.now_s, newest=0)
        self.wal.rotate(1)
        self.steps()

    def append(self, *indexes: int) -> list[str]:
        self.wal.append([(KIND_BATCH, index, 1, b"0123456789") for index in indexes])
        return self.steps()

    def steps(self) -> list[str]:
        steps, self._steps[:] = list(self._steps), []
        return steps

    def read(self, sequence: int = 1) -> SegmentContents:
        path = PATHS.segment(sequence)
        return read_segment(path, self.disk.read_bytes(path), WAL_MAGIC, newest=True)

    def frames(self, sequence: int = 1) -> list[Frame]:
        return [frame for _, frame in self.read(sequence).frames]


def test_a_chunk_is_one_write_and_under_always_one_sync() -> None:
    world = World()
    assert world.append(1, 2, 3) == ["write", "sync"]
    assert [frame.index for frame in world.frames()] == [1, 2, 3]
    world.wal.append_one(KIND_NOOP, 4, 1, b"")
    assert world.steps() == ["write", "sync"]
    assert world.disk.crashed(Crash.SYNCED).read_bytes(PATHS.segment(1)) == (
        world.disk.read_bytes(PATHS.segment(1))
    )


def test_under_checkpoint_an_append_waits_for_no_sync_and_an_idle_log_is_synced_once() -> None:
    world = World("checkpoint")
    assert world.append(1) == ["write"]
    world.wal.poll()  # Something was appended since the last one: not idle yet.
    assert world.steps() == []
    for _ in range(3):
        settled(world.wal)
    # The second write is the mark that says so; no third one follows it.
    assert world.steps() == ["sync", "create", "sync_dir", "write"]
    assert world.frames()[-1].durable_bytes == SEGMENT_HEADER_BYTES + FRAME_BYTES


def settled(wal: Wal) -> None:
    """Poll until the thread has nothing to do."""
    wal.poll()
    while wal._tender.busy:
        wal.poll()


def test_under_checkpoint_a_thread_syncs_what_has_grown() -> None:
    world = World("checkpoint")
    for index in range(1, 5):
        world.wal.append_one(KIND_BATCH, index, 1, bytes(1024 * 1024))
    assert world.wal.durable_bytes == SEGMENT_HEADER_BYTES
    settled(world.wal)
    assert world.wal.durable_bytes >= 4 * 1024 * 1024
    assert world.steps()[:7] == [*["write"] * 4, "sync", "create", "sync_dir"]


def test_under_checkpoint_the_next_segment_is_made_ahead_and_entered_without_a_sync() -> None:
    world = World("checkpoint")
    world.append(1, 2)
    assert not world.wal.prepare()
    while not world.wal.prepare():
        pass
    world.steps()
    assert world.wal.rotate(3) == 2
    steps = world.steps()  # The header; what else there is, the thread has begun since.
    assert (steps[0], steps.count("write")) == ("write", 1)
    world.append(3)
    old, new = world.read(1), world.read(2)
    assert (new.first_index, new.before_bytes, new.durable_bytes) == (3, old.file_bytes, 0)
    settled(world.wal)
    assert world.wal.durable_bytes >= SEGMENT_HEADER_BYTES
    world.append(4)
    assert world.read(2).durable_bytes >= SEGMENT_HEADER_BYTES


def test_frames_claim_nothing_while_a_segment_before_theirs_is_not_synced() -> None:
    world = World("checkpoint", segment_bytes_max=100)
    for index in range(1, 100):
        world.append(index)
        after = world.disk.crashed(Crash.SYNCED)
        for sequence in range(1, world.wal.sequence + 1):
            contents = world.read(sequence)
            if any(frame.durable_bytes for _, frame in contents.frames):
                for each in range(1, sequence):
                    assert after.size_bytes(PATHS.segment(each)) == world.disk.size_bytes(
                        PATHS.segment(each)
                    ), f"segment {sequence} vouches for {each}, which is not synced"
    assert world.wal.sequence > 10
    world.wal.sync()
    assert world.wal.durable_bytes == world.wal.size_bytes


def test_a_segment_that_waits_for_the_next_grows_to_a_bound() -> None:
    """Nobody polls, and the disk is slow: then rotating waits."""
    world = World("checkpoint", segment_bytes_max=100)
    for index in range(1, 50):
        world.append(index)
        assert world.wal.size_bytes <= 4 * 100 + FRAME_BYTES


def test_a_sync_ahead_that_fails_stops_the_owner_at_the_next_poll() -> None:
    memory = MemoryDisk()
    memory.make_dir(PATHS.wal)
    # The calls of rotate are open, write, sync and sync_dir; then comes one write.
    disk: Any = FailingDisk(memory, fail_at=6)
    wal = Wal(disk, PATHS, WalConfig(sync="checkpoint"), lambda: 0.0, newest=0)
    wal.rotate(1)
    wal.append_one(KIND_BATCH, 1, 1, bytes(5 * 1024 * 1024))
    wal.poll()

    def poll_until_it_raises() -> None:
        for _ in range(1000):
            wal.poll()
            time.sleep(0.001)

    with pytest.raises(DiskFailed, match="sync failed"):
        poll_until_it_raises()
    assert disk.failed == "sync"


def test_under_interval_a_sync_comes_when_the_time_is_up_here_or_in_poll() -> None:
    world = World("interval", interval_ms=100)
    assert world.append(1) == ["write"]
    world.now_s = 0.099
    assert world.append(2) == ["write"]
    world.now_s = 0.1
    assert world.append(3) == ["write", "sync"]
    assert world.append(4) == ["write"]
    world.now_s = 0.25
    world.wal.poll()
    assert world.steps() == ["sync"]


def test_a_full_segment_is_synced_before_the_next_is_made() -> None:
    world = World(
        "interval", interval_ms=100, segment_bytes_max=SEGMENT_HEADER_BYTES + 2 * FRAME_BYTES
    )
    world.append(1)
    assert world.append(2, 3, 4) == ["write"]  # A chunk is never split.
    assert world.append(5) == [
        "sync",  # 1 the old one
        "create",
        "write",  # 2 the new one's header
        "sync",  # 3
        "sync_dir",  # 4
        "write",
    ]
    assert [frame.index for frame in world.frames(1)] == [1, 2, 3, 4]
    contents = world.read(2)
    assert (contents.sequence, contents.first_index, contents.policy) == (2, 5, 1)
    assert contents.before_bytes == world.disk.size_bytes(PATHS.segment(1))
    assert world.wal.sequence == 2


def test_each_frame_carries_what_was_synced_when_it_was_written() -> None:
    world = World()
    world.append(1)
    world.append(2, 3)
    world.append(4)
    assert [(offset, frame.durable_bytes) for offset, frame in world.read().frames] == [
        (64, 64),
        (110, 110),
        (156, 110),
        (202, 202),
    ]


@pytest.mark.parametrize("sync", ["always", "interval", "checkpoint"])
def test_no_frame_ever_claims_more_than_a_crash_would_leave(sync: str) -> None:
    world = World(sync, interval_ms=20, segment_bytes_max=400)
    for index in range(1, 60):
        world.now_s += 0.007
        world.append(index)
        if index % 4 == 0:
            world.wal.poll()
        if index % 9 == 0:
            world.wal.poll()
            world.wal.sync()
            world.wal.record()
        contents = world.read(world.wal.sequence)
        synced = world.disk.crashed(Crash.SYNCED).size_bytes(PATHS.segment(world.wal.sequence))
        assert contents.durable_bytes <= synced
        assert world.wal.durable_bytes <= synced


def test_an_idle_log_gets_one_mark_and_then_rests() -> None:
    world = World()
    world.append(1)
    world.wal.poll()  # Something was appended since the last one: not idle yet.
    assert world.steps() == []
    for _ in range(5):
        world.wal.poll()
    assert world.steps() == ["write"]
    mark = world.frames()[-1]
    assert (mark.kind, mark.index, mark.term) == (KIND_MARK, 0, 0)
    assert mark.durable_bytes == 64 + FRAME_BYTES
    world.append(2)
    assert world.frames()[-1].durable_bytes == 64 + FRAME_BYTES  # The mark was not synced then.


def test_flushing_an_idle_log_again_and_again_does_not_let_it_grow() -> None:
    world = World()
    world.append(1)
    sizes = set()
    for _ in range(5):
        world.wal.sync()
        world.wal.record()
        sizes.add(world.wal.size_bytes)
    assert len(sizes) == 1


def test_a_mark_says_only_what_no_frame_says_yet() -> None:
    world = World("checkpoint")
    world.append(1)
    world.wal.sync()
    world.append(2)
    world.wal.record()  # Nothing to add: frame 2 says how far frame 1 was synced.
    assert [frame.kind for frame in world.frames()] == [KIND_BATCH, KIND_BATCH]
    world.wal.sync()
    world.wal.record()
    assert world.read().durable_bytes == 64 + 2 * FRAME_BYTES


def test_going_on_cuts_the_tail_and_syncs_what_was_read() -> None:
    world = World("checkpoint")
    world.append(1, 2)
    world.wal.close()
    wal = Wal(world.disk, PATHS, WalConfig(sync="checkpoint"), lambda: 0.0, newest=1)
    wal.resume(64 + FRAME_BYTES, 64, world.read().salt)
    assert world.steps() == ["truncate", "sync", "sync_dir"]
    wal.append_one(KIND_BATCH, 2, 2, b"abc")
    assert [(frame.index, frame.term) for frame in world.frames()] == [(1, 1), (2, 2)]
    assert world.frames()[-1].durable_bytes == 64 + FRAME_BYTES


def test_cutting_removes_the_oldest_first() -> None:
    world = World(segment_bytes_max=100)
    for index in range(1, 6):
        world.append(index)
    gone: list[list[str]] = []
    world.disk.on_step = lambda _: gone.append(world.disk.list_dir(PATHS.wal))
    cut_segments(world.disk, PATHS, world.wal.sequence)
    assert [names[0] for names in gone] == [
        f"{sequence:016d}.wal" for sequence in (*range(2, world.wal.sequence + 1), 0) if sequence
    ] + [f"{world.wal.sequence:016d}.wal"]
    assert world.disk.crashed(Crash.SYNCED).list_dir(PATHS.wal) == gone[-1]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"sync": "never"}, "wal.sync"),
        ({"interval_ms": 0}, "wal.interval_ms"),
        ({"segment_bytes_max": 63}, "wal.segment_bytes_max"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_by_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(Rejected, match=key):
        WalConfig(**options)
