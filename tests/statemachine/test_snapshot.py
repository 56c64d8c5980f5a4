"""Snapshots: made, carried, received, installed; and refused when they are not what they say."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import pytest

from statemachine import (
    Corrupt,
    Fatal,
    FileStateMachine,
    LogId,
    Rejected,
    SnapshotMetadata,
    Unavailable,
    Unsupported,
    WalConfig,
)
from statemachine.snapshot import read_metadata, write_metadata
from tests.statemachine.batches import batch_of, insert
from tests.statemachine.machines import HOME, applied, digests, machine_on
from tests.support.crash import Crash, MemoryDisk
from tests.support.hand_driven import hand_driven

SOURCE = Path("/source")
ELSEWHERE = Path("/elsewhere/snapshot")


def carried(source: FileStateMachine, target: FileStateMachine, chunk_bytes: int = 64) -> Path:
    """The newest snapshot of one machine, received by another; its directory there."""
    found = source.open_snapshot()
    assert found is not None
    metadata, file = found
    receiver = target.snapshot_receiver()
    receiver.begin(metadata)
    while chunk := file.read(chunk_bytes):
        receiver.write(chunk)
    file.close()
    return receiver.finish()


def test_a_snapshot_carries_the_whole_state_with_leases_clock_and_origins() -> None:
    source = applied(machine_on(MemoryDisk()), 1, 18)
    metadata = source.generate_snapshot()
    assert metadata.last_included == source.last_applied == LogId(18, 1)
    target = machine_on(MemoryDisk())
    target.apply_snapshot_from_file(metadata, carried(source, target))
    assert target.digest() == source.digest()
    assert target.last_applied == source.last_applied
    assert target.entry_term(7) == 1
    assert target.next_deadline_ms == source.next_deadline_ms is not None
    assert target.clock_ms == source.clock_ms
    assert target.snapshot_metadata == metadata
    applied(target, 19, 30)
    assert target.digest() == digests(30)[30]


def test_what_was_installed_is_there_after_a_crash_right_away() -> None:
    source = applied(machine_on(MemoryDisk()), 1, 20)
    source.generate_snapshot()
    disk = MemoryDisk()
    target = applied(machine_on(disk), 1, 4)
    directory = carried(source, target)
    metadata = source.snapshot_metadata
    assert metadata is not None
    target.apply_snapshot_from_file(metadata, directory)
    with machine_on(disk.crashed(Crash.SYNCED)) as again:
        assert again.digest() == digests(20)[20]
        assert again.snapshot_metadata == metadata
        found = again.open_snapshot()
        assert found is not None
        assert hashlib.sha256(found[1].read(1 << 20)).digest() == metadata.checksum


def test_an_own_snapshot_is_a_second_name_of_the_checkpoint(tmp_path: Path) -> None:
    machine = applied(FileStateMachine(tmp_path), 1, 5)
    machine.generate_snapshot()
    (image,) = (tmp_path / "checkpoint").iterdir()
    (snapshot,) = (tmp_path / "snapshot").glob("*/snapshot.bin")
    assert image.samefile(snapshot)
    machine.close()


def test_a_snapshot_can_be_written_elsewhere_and_installed_from_there() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 8)
    metadata = machine.generate_snapshot(ELSEWHERE)
    assert disk.list_dir(ELSEWHERE) == ["metadata.bin", "snapshot.bin"]
    data = disk.read_bytes(ELSEWHERE / "snapshot.bin")
    assert hashlib.sha256(data).digest() == metadata.checksum
    assert read_metadata(disk, ELSEWHERE / "metadata.bin") == metadata
    assert machine.open_snapshot() is None  # Not in its own place.
    machine.reset()
    assert machine.snapshot_metadata is None
    machine.apply_snapshot_from_file(metadata, ELSEWHERE)
    assert machine.digest() == digests(8)[8]
    applied(machine, 9, 9)
    again = machine.generate_snapshot(ELSEWHERE)  # Over the older one.
    assert read_metadata(disk, ELSEWHERE / "metadata.bin") == again
    assert again.last_included.index == 9


def test_a_snapshot_of_the_past_or_the_future_cannot_be_had() -> None:
    machine = applied(machine_on(MemoryDisk()), 1, 3)
    for wrong in (LogId(2, 1), LogId(4, 1), LogId(3, 2)):
        with pytest.raises(Rejected, match="the state is at"):
            machine.generate_snapshot(last_included=wrong)
    assert machine.generate_snapshot(last_included=LogId(3, 1)).last_included == LogId(3, 1)


def test_a_background_snapshot_shows_in_the_metadata_when_it_is_finished() -> None:
    machine = applied(machine_on(MemoryDisk()), 1, 5)
    assert machine.start_snapshot()
    applied(machine, 6, 9)
    while not machine.poll_background():
        pass
    assert machine.snapshot_metadata is not None
    assert machine.snapshot_metadata.last_included == LogId(5, 1)
    target = machine_on(MemoryDisk())
    target.apply_snapshot_from_file(machine.snapshot_metadata, carried(machine, target))
    assert target.digest() == digests(5)[5]


def test_the_two_newest_are_kept_and_an_open_one_stays_readable() -> None:
    disk = MemoryDisk()
    machine = machine_on(disk)
    applied(machine, 1, 3)
    first = machine.generate_snapshot()
    found = machine.open_snapshot()
    assert found is not None
    for index in range(4, 8):
        applied(machine, index, index)
        machine.generate_snapshot()
    kept = [name for name in disk.list_dir(HOME / "snapshot") if "@" in name]
    assert [int(name.split("@")[0]) for name in kept] == [6, 7]
    assert hashlib.sha256(found[1].read(1 << 20)).digest() == first.checksum
    newest = machine.open_snapshot()
    assert newest is not None
    assert newest[0] == machine.snapshot_metadata


@pytest.mark.parametrize("damage", ["bit", "cut", "longer", "swapped", "another", "missing"])
def test_a_snapshot_that_is_not_what_it_says_changes_nothing(damage: str) -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 9)
    # Newer than the state: an older one would be refused for that alone.
    metadata = applied(machine_on(disk, SOURCE), 1, 12).generate_snapshot(ELSEWHERE)
    path = ELSEWHERE / "snapshot.bin"
    data = disk.read_bytes(path)
    if damage == "bit":
        disk.flip(path, len(data) * 4)
    elif damage == "cut":
        disk.overwrite(path, data[:-1])
    elif damage == "longer":
        disk.overwrite(path, data + b"\0")
    elif damage == "swapped":
        metadata = SnapshotMetadata(LogId(13, 1), metadata.checksum, metadata.size_bytes)
    elif damage == "another":
        metadata = SnapshotMetadata(metadata.last_included, bytes(32), metadata.size_bytes)
    else:
        disk.unlink(path)
    with pytest.raises(Rejected):
        machine.apply_snapshot_from_file(metadata, ELSEWHERE)
    assert machine.is_running
    assert machine.digest() == digests(9)[9]
    with machine_on(disk.crashed(Crash.SYNCED)) as again:
        assert again.digest() == digests(9)[9]
        assert not [name for name in disk.list_dir(HOME / "checkpoint") if "tmp" in name]
    applied(machine, 10, 12)
    assert machine.digest() == digests(12)[12]


def test_bytes_with_a_good_sha_that_are_no_image_change_nothing() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 2)
    disk.make_dir(ELSEWHERE)
    disk.write_new(ELSEWHERE / "snapshot.bin", [b"not an image"])
    metadata = SnapshotMetadata(LogId(9, 9), hashlib.sha256(b"not an image").digest(), 12)
    with pytest.raises(Rejected, match="cannot be read"):
        machine.apply_snapshot_from_file(metadata, ELSEWHERE)
    assert machine.digest() == digests(2)[2]
    assert [name for name in disk.list_dir(HOME / "checkpoint") if "tmp" in name] == []


def test_an_older_snapshot_never_takes_the_state_back() -> None:
    machine = applied(machine_on(MemoryDisk()), 1, 5)
    metadata = machine.generate_snapshot(ELSEWHERE)
    applied(machine, 6, 6)
    with pytest.raises(Rejected, match="older than the state"):
        machine.apply_snapshot_from_file(metadata, ELSEWHERE)
    assert machine.last_applied == LogId(6, 1)


def test_installing_replaces_leases_too() -> None:
    source = machine_on(MemoryDisk())
    source.apply(5, 1, batch_of(insert(b"k", b"permanent"), now_ms=10))
    metadata = source.generate_snapshot()
    target = machine_on(MemoryDisk())
    target.apply(1, 1, batch_of(insert(b"k", b"leased", ttl_ms=50), now_ms=10))
    target.apply_snapshot_from_file(metadata, carried(source, target))
    target.apply(6, 1, batch_of(now_ms=1_000))
    assert target.get(b"k") == b"permanent"
    assert target.deadline_ms(b"k") is None


def test_a_transfer_may_come_in_pieces_of_any_size_and_start_over() -> None:
    source = applied(machine_on(MemoryDisk()), 1, 12)
    metadata = source.generate_snapshot()
    for chunk_bytes in (1, 7, 1 << 20):
        disk = MemoryDisk()
        target = machine_on(disk)
        receiver = target.snapshot_receiver()
        receiver.begin(metadata)
        receiver.write(b"half a transfer of the past")
        directory = carried(source, target, chunk_bytes)
        target.apply_snapshot_from_file(metadata, directory)
        assert target.digest() == source.digest()
        assert not disk.exists(HOME / "snapshot" / "incoming.tmp")


def test_a_transfer_that_does_not_add_up_is_refused() -> None:
    source = applied(machine_on(MemoryDisk()), 1, 12)
    metadata = source.generate_snapshot()
    found = source.open_snapshot()
    assert found is not None
    data = found[1].read(1 << 20)
    disk = MemoryDisk()
    receiver = machine_on(disk).snapshot_receiver()
    with pytest.raises(Rejected, match="no snapshot transfer"):
        receiver.write(b"x")
    receiver.begin(metadata)
    receiver.write(data[:-1])
    with pytest.raises(Rejected, match="were sent"):
        receiver.finish()
    receiver.begin(metadata)
    with pytest.raises(Rejected, match="longer"):
        receiver.write(data + b"x")
    receiver.begin(metadata)
    receiver.write(data[:-1] + b"?")
    with pytest.raises(Rejected, match="SHA-256"):
        receiver.finish()
    receiver.begin(metadata)
    receiver.abort()
    with pytest.raises(Rejected, match="no snapshot transfer"):
        receiver.finish()
    assert not disk.exists(HOME / "snapshot" / "incoming.tmp")


def test_an_unfinished_transfer_and_an_unfinished_snapshot_go_at_boot() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 3)
    metadata = machine.generate_snapshot()
    receiver = machine.snapshot_receiver()
    receiver.begin(metadata)
    receiver.write(b"half")
    half = HOME / "snapshot" / f"{9:020d}@{1:020d}"
    disk.make_dir(half)
    disk.write_new(half / "snapshot.bin", [b"half"])
    with machine_on(disk.crashed(Crash.ALL)) as again:
        assert again.snapshot_metadata == metadata
        assert not again._disk.exists(half)
        assert not again._disk.exists(HOME / "snapshot" / "incoming.tmp")


def test_noted_metadata_survives_a_crash() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 3)
    metadata = SnapshotMetadata(LogId(3, 1), bytes(32), 7)
    machine.persist_last_snapshot_metadata(metadata)
    assert machine.snapshot_metadata == metadata
    with machine_on(disk.crashed(Crash.SYNCED)) as again:
        assert again.snapshot_metadata == metadata


def test_every_flipped_bit_and_every_cut_of_the_metadata_is_refused() -> None:
    disk = MemoryDisk()
    disk.make_dir(HOME)
    path = HOME / "metadata.bin"
    write_metadata(disk, path, SnapshotMetadata(LogId(7, 2), bytes(range(32)), 1234))
    data = disk.read_bytes(path)
    for bit in range(len(data) * 8):
        disk.overwrite(path, data)
        disk.flip(path, bit)
        with pytest.raises(Fatal):
            read_metadata(disk, path)
    for cut in range(len(data)):
        disk.overwrite(path, data[:cut])
        with pytest.raises(Corrupt):
            read_metadata(disk, path)
    disk.overwrite(path, data[:8] + b"\2" + data[9:])
    with pytest.raises(Unsupported):
        read_metadata(disk, path)


def test_an_install_is_not_stopped_by_what_a_given_up_image_left() -> None:
    source = applied(machine_on(MemoryDisk()), 1, 9)
    metadata = source.generate_snapshot()
    disk = MemoryDisk()
    with hand_driven(disk) as hands:
        machine = applied(machine_on(disk, wal=WalConfig(sync="checkpoint")), 1, 3)
        directory = carried(source, machine)
        assert machine.flush_async()
        hands.step(2)  # A part of the image is written; the install gives it up.
        machine.apply_snapshot_from_file(metadata, directory)
        assert machine.last_applied.index == 9


def test_what_a_given_up_install_left_is_not_written_into() -> None:
    source = applied(machine_on(MemoryDisk()), 1, 9)
    metadata = source.generate_snapshot()
    disk = MemoryDisk()
    with hand_driven(disk) as hands:
        machine = applied(machine_on(disk, wal=WalConfig(sync="checkpoint")), 1, 3)
        directory = carried(source, machine)
        content = disk.content(directory / "snapshot.bin")
        assert machine.start_install(metadata, directory)
        hands.step(1)  # The checkpoint's temporary name leads to the received file.
        disk.make_dir(ELSEWHERE)
        disk.write_new(ELSEWHERE / "snapshot.bin", [content[:-1] + b"?"])
        with pytest.raises(Rejected):
            machine.apply_snapshot_from_file(metadata, ELSEWHERE)
        assert disk.content(directory.with_name("installing.tmp") / "snapshot.bin") == content


def test_a_transfer_that_begins_while_another_snapshot_is_installed_spoils_nothing() -> None:
    first, second = (applied(machine_on(MemoryDisk()), 1, last) for last in (6, 9))
    metadata = first.generate_snapshot()
    second.generate_snapshot()
    disk = MemoryDisk()
    with hand_driven(disk) as hands:
        machine = machine_on(disk)
        assert machine.start_install(metadata, carried(first, machine))
        hands.step(1)
        with contextlib.suppress(Rejected, Unavailable):  # It may well be refused.
            carried(second, machine)
        hands.finish()
        machine.poll_background()
    with machine_on(disk.crashed(Crash.ALL)) as again:
        assert again.digest() == digests(6)[6]
