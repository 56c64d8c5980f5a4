"""Garbage that is not random: the blocks of a removed segment come back in a new one.

Goal: a tail that did not arrive may hold whatever those blocks held before (ext4 data=writeback, a
device that lies), and what they held before is, more often than not, a segment of the same log:
cutting it freed them a moment ago. Its frames are good, byte for byte, and only not of this file.

Method: power goes while the newest segment grows; its size arrived, its data did not, and in
their place are the bytes that a removed segment had at the same offsets.
"""

from __future__ import annotations

from pathlib import Path

from statemachine import FileStateMachine
from tests.statemachine.machines import applied, digests, machine_on
from tests.support.crash import Crash, MemoryDisk

DIGESTS = digests(20)


def newest(disk: MemoryDisk) -> Path:
    return max(path for path in disk.files() if path.suffix == ".wal")


def with_stale_tail(disk: MemoryDisk, stale: bytes, keep_bytes: int) -> FileStateMachine:
    """The newest segment up to a byte, and behind it what another one held at those offsets."""
    path = newest(disk)
    disk.overwrite(path, disk.content(path)[:keep_bytes] + stale[keep_bytes:])
    return machine_on(disk)


def test_entries_from_before_a_reset_do_not_come_back() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 8)
    stale = disk.content(newest(disk))
    machine.reset()
    applied(machine, 1, 3)
    again = disk.crashed(Crash.SYNCED)
    keep_bytes = again.size_bytes(newest(again))
    with with_stale_tail(again, stale, keep_bytes) as machine:
        assert machine.last_applied.index == 3
        assert machine.digest() == DIGESTS[3]


def test_a_torn_tail_is_not_taken_for_damage_on_the_word_of_a_stale_frame() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 8)
    stale = disk.content(newest(disk))
    machine.checkpoint()
    applied(machine, 9, 9)
    again = disk.crashed(Crash.SYNCED)
    # Entry 10 was being written: ten bytes of it arrived.
    keep_bytes = again.size_bytes(newest(again)) + 10
    applied(machine, 10, 10)
    again.overwrite(newest(again), disk.content(newest(disk))[:keep_bytes])
    with with_stale_tail(again, stale, keep_bytes) as machine:
        assert machine.last_applied.index == 9
        assert machine.digest() == DIGESTS[9]


def test_stale_frames_of_entries_that_an_image_holds_are_skipped() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 8)
    stale = disk.content(newest(disk))
    machine.checkpoint()
    again = disk.crashed(Crash.SYNCED)
    with with_stale_tail(again, stale, again.size_bytes(newest(again))) as machine:
        assert machine.last_applied.index == 8
        assert machine.digest() == DIGESTS[8]
