"""What goes on beside the owner: images, installs, the WAL's thread. None of it makes it wait.

A disk that notes which thread calls it shows that the owner's only appends; disks whose
writes were lost in ways that only these threads allow show that recovery knows them.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from statemachine import CheckpointConfig, Corrupt, FileStateMachine, Rejected, WalConfig
from tests.statemachine.machines import HOME, applied, digests, machine_on
from tests.support.crash import Crash, MemoryDisk

UNDER_RAFT = WalConfig(sync="checkpoint")


class OwnedDisk(MemoryDisk):
    """Notes what the thread that made it asks of the disk."""

    def __init__(self) -> None:
        self.owner = threading.current_thread()
        self.owners_steps: list[str] = []
        super().__init__(self._note)

    def _note(self, step: str) -> None:
        if threading.current_thread() is self.owner:
            self.owners_steps.append(step)


def done(machine: FileStateMachine) -> None:
    """Poll until the background work is finished."""
    while not machine.poll_background():
        pass


def ready(machine: FileStateMachine) -> None:
    """Poll until an image can be begun without a pause: one is, and it is finished."""
    while not machine.start_snapshot():
        machine.poll_background()
    done(machine)


@pytest.mark.parametrize("begin", ["flush_async", "start_snapshot", "maybe_checkpoint"])
def test_no_image_makes_the_owner_wait_for_the_disk(begin: str) -> None:
    disk = OwnedDisk()
    machine = machine_on(disk, wal=UNDER_RAFT, checkpoint=CheckpointConfig(entries=5))
    arguments = (1.0,) if begin == "maybe_checkpoint" else ()
    last = 0
    for _ in range(3):
        disk.owners_steps.clear()
        last += 10
        applied(machine, last - 9, last)
        while not getattr(machine, begin)(*arguments):
            machine.poll_background()
        applied(machine, last + 1, last + 5)
        last += 5
        done(machine)
        # One header for the segment it went on in, one write per entry, and marks.
        assert set(disk.owners_steps) == {"write"}
        assert machine.digest() == digests(last)[last]
    assert machine.recovery_report.checkpoint is None
    with machine_on(disk.crashed(Crash.ALL), wal=UNDER_RAFT) as again:
        assert again.recovery_report.checkpoint is not None
        assert again.digest() == digests(last)[last]


def received(machine: FileStateMachine, source: FileStateMachine) -> tuple[Any, Path]:
    """The source's newest snapshot, streamed to the machine."""
    opened = source.open_snapshot()
    assert opened is not None
    metadata, file = opened
    receiver = machine.snapshot_receiver()
    receiver.begin(metadata)
    while chunk := file.read(100):
        receiver.write(chunk)
    file.close()
    return metadata, receiver.finish()


def a_source(last: int) -> FileStateMachine:
    source = applied(machine_on(MemoryDisk()), 1, last)
    source.generate_snapshot()
    return source


def test_an_install_lets_the_old_state_answer_until_it_is_swapped() -> None:
    disk = OwnedDisk()
    machine = applied(machine_on(disk, wal=UNDER_RAFT), 1, 5)
    ready(machine)
    while not machine._archive.ready():
        machine.poll_background()
    metadata, directory = received(machine, a_source(20))
    disk.owners_steps.clear()
    assert machine.start_install(metadata, directory)
    assert machine.install_outcome is None
    assert not machine.start_install(metadata, directory), "one at a time"
    assert machine.digest() == digests(5)[5]
    applied(machine, 6, 7)
    done(machine)
    assert set(disk.owners_steps) == {"rename", "write"}  # It is set aside; entries are logged.
    assert machine.install_outcome == metadata
    assert machine.last_applied.index == 20
    assert machine.digest() == digests(20)[20]
    applied(machine, 21, 23)
    for power in (Crash.ALL, Crash.SYNCED):
        with machine_on(disk.crashed(power), wal=UNDER_RAFT) as again:
            assert again.digest() == digests(again.last_applied.index)[again.last_applied.index]
            assert again.last_applied.index == (23 if power is Crash.ALL else 20)


def test_a_snapshot_that_is_refused_in_the_background_changes_nothing() -> None:
    machine = applied(machine_on(MemoryDisk()), 1, 5)
    metadata, directory = received(machine, a_source(20))
    path = directory / "snapshot.bin"
    disk: Any = machine._disk
    damaged = bytearray(disk.content(path))
    damaged[len(damaged) // 2] ^= 1
    disk.overwrite(path, bytes(damaged))
    assert machine.start_install(metadata, directory)
    done(machine)
    assert isinstance(machine.install_outcome, Rejected)
    assert machine.digest() == digests(5)[5]
    assert applied(machine, 6, 9).digest() == digests(9)[9]
    assert not [name for name in disk.list_dir(HOME / "checkpoint") if name.endswith(".tmp")]
    machine.close()
    with machine_on(disk) as again:
        assert again.digest() == digests(9)[9]


def test_a_state_that_overtook_the_snapshot_is_kept() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 5)
    metadata, directory = received(machine, a_source(8))
    assert machine.start_install(metadata, directory)
    applied(machine, 6, 12)
    done(machine)
    assert machine.digest() == digests(12)[12]
    machine.close()
    with machine_on(disk) as again:
        assert again.digest() == digests(12)[12]


def test_an_older_snapshot_is_refused_before_anything_is_given_up() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 9)
    metadata, directory = received(machine, a_source(5))
    assert machine.start_snapshot()
    for install in (machine.apply_snapshot_from_file, machine.start_install):
        with pytest.raises(Rejected, match="older than the state"):
            install(metadata, directory)
    done(machine)
    assert machine.snapshot_metadata is not None
    assert machine.snapshot_metadata.last_included.index == 9


def test_waiting_for_a_checkpoint_does_not_lose_an_install_under_way() -> None:
    machine = applied(machine_on(MemoryDisk()), 1, 5)
    metadata, directory = received(machine, a_source(20))
    assert machine.start_install(metadata, directory)
    machine.checkpoint()
    assert machine.digest() == digests(20)[20]
    assert machine.install_outcome == metadata


# What a crash may leave when a segment was left behind before it was synced.


def left_behind() -> tuple[MemoryDisk, Path, Path]:
    """Entries 1..4 in one segment, 5..8 in the next, neither synced nor claimed to be."""
    disk = MemoryDisk()
    machine = machine_on(disk, wal=UNDER_RAFT)
    machine._wal.prepare()
    while not machine._wal.prepare():
        pass
    applied(machine, 1, 4)
    machine._wal.rotate(5)
    applied(machine, 5, 8)
    copy = disk.crashed(Crash.ALL)
    machine.close()
    first, second = (HOME / "wal" / f"{sequence:016d}.wal" for sequence in (1, 2))
    return copy, first, second


def recovered(disk: MemoryDisk) -> FileStateMachine:
    machine = machine_on(disk, wal=UNDER_RAFT)
    index = machine.last_applied.index
    assert machine.digest() == digests(index)[index]
    return machine


def test_a_segment_left_behind_may_lose_its_tail_and_then_the_next_one_goes_too() -> None:
    disk, first, second = left_behind()
    whole = disk.content(first)
    for cut in range(64, len(whole)):
        each = disk.crashed(Crash.ALL)
        each.overwrite(first, whole[:cut])
        machine = recovered(each)
        assert machine.last_applied.index < 5
        assert machine.recovery_report.torn is not None
        assert f"wal/{second.name}" in machine.recovery_report.removed
        index = machine.last_applied.index
        applied(machine, index + 1, 9)
        machine.close()
        assert recovered(each).last_applied.index == 9


@pytest.mark.parametrize("length", [0, 20, 64, 70])
def test_the_next_one_may_lose_anything_and_the_one_before_stays(length: int) -> None:
    disk, _, second = left_behind()
    disk.overwrite(second, disk.content(second)[:length])
    machine = recovered(disk)
    assert machine.last_applied.index == 4
    applied(machine, 5, 9)
    machine.close()
    assert recovered(disk).last_applied.index == 9


def test_once_a_later_frame_says_that_it_was_synced_the_same_loss_is_damage() -> None:
    disk, first, _ = left_behind()
    with machine_on(disk, wal=UNDER_RAFT) as machine:
        machine.flush()
    whole = disk.content(first)
    for cut in (len(whole) - 1, len(whole) - 60, 70, 64, 10, 0):
        each = disk.crashed(Crash.ALL)
        each.overwrite(first, whole[:cut])
        with pytest.raises(Corrupt, match=r"0000000000000001\.wal|segment 1 has"):
            machine_on(each, wal=UNDER_RAFT)


def in_the_page_cache(disk: MemoryDisk) -> MemoryDisk:
    """The same files, of which no byte was ever synced: a kill, and the machine is still up."""
    copy = MemoryDisk()
    for path in disk.files():
        copy.make_dir(path.parent)
        copy.open_log(path, create=True).write((disk.content(path),))
        copy.sync_dir(path.parent)
    return copy


def test_recovery_syncs_every_segment_before_it_vouches_for_it() -> None:
    """After a kill the page cache still holds what was never synced."""
    left, first, second = left_behind()
    disk = in_the_page_cache(left)
    assert disk.crashed(Crash.SYNCED).content(first) == b""
    before = disk.content(second)
    machine = recovered(disk)
    machine.flush()
    after = disk.crashed(Crash.SYNCED)
    assert after.content(first) == disk.content(first)
    assert after.content(second) == before  # The mark that says so may still be lost.
    assert disk.content(second) != before
    machine.close()


def test_a_checkpoints_own_segment_is_there_at_every_moment_of_a_recovery() -> None:
    """It may have lost its header, since nothing waits for it; what takes its place comes whole."""
    disk = MemoryDisk()
    machine = machine_on(disk, wal=UNDER_RAFT)
    applied(machine, 1, 5)
    ready(machine)
    machine.close()
    (path,) = (each for each in disk.files() if each.suffix == ".wal" and disk.content(each))
    disk.overwrite(path, disk.content(path)[:30])
    moments: list[MemoryDisk] = []
    again = disk.crashed(Crash.ALL)
    again.on_step = lambda _: moments.extend(again.crashed(how) for how in Crash)
    with recovered(again) as machine:
        assert machine.last_applied.index == 5
    for moment in moments:
        with recovered(moment) as machine:
            assert applied(machine, machine.last_applied.index + 1, 9).digest() == digests(9)[9]
