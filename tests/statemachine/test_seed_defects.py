"""The seed's defects, each by its number in SEED.md.

Those about leases and clocks (5 to 11) are rules of the store and tested there as well
(test_expiry.py, test_rules_leases.py); here is what a file or a restart makes of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from statemachine import (
    ALREADY_APPLIED,
    Corrupt,
    Entry,
    FileStateMachine,
    LogId,
    Rejected,
    SnapshotMetadata,
    WriteCommand,
)
from tests.statemachine.batches import batch_of, delete, insert, put, swap
from tests.statemachine.machines import HOME, applied, digests, machine_on
from tests.support.crash import Crash, MemoryDisk


def restarted(disk: MemoryDisk) -> tuple[MemoryDisk, FileStateMachine]:
    """After power was lost: no close, no flush, only what was synced."""
    survivor = disk.crashed(Crash.SYNCED)
    return survivor, machine_on(survivor)


def test_defect_1_every_acknowledged_write_is_fsynced_and_no_file_is_rewritten_in_place() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 5)
    images: list[bytes] = []

    def step(_: str) -> None:
        images.extend(disk.content(path) for path in disk.files() if path.suffix == ".img")

    disk.on_step = step
    for last in (6, 7, 8):
        applied(machine, last, last)
        machine.checkpoint()
        _, again = restarted(disk)
        assert again.digest() == digests(last)[last]
    # An image with its own name is complete whenever it is looked at: three contents in all.
    assert len(set(images)) == 3


def test_defect_2_a_crash_soon_after_a_recovery_loses_nothing() -> None:
    disk = MemoryDisk()
    applied(machine_on(disk), 1, 9)
    for _ in range(4):
        disk, machine = restarted(disk)
        assert machine.digest() == digests(9)[9]
        assert machine.recovery_report.frames_applied == 9


def test_defect_3_replay_restores_the_index_so_raft_changes_nothing_when_it_sends_again() -> None:
    disk = MemoryDisk()
    machine = machine_on(disk)
    chunk = [
        Entry.batch(1, 1, batch_of(put((b"k", b"a")))),
        Entry.batch(2, 1, batch_of(swap(b"k", b"a", b"b"))),
        Entry.batch(3, 1, batch_of(put((b"k", b"a")))),
    ]
    machine.apply_chunk(chunk)
    _, machine = restarted(disk)
    assert machine.last_applied == LogId(3, 1)
    # Entry 2 would find b"a" again and swap: a different answer than the first time.
    assert machine.apply_chunk(chunk) == [ALREADY_APPLIED] * 3
    assert machine.get(b"k") == b"a"
    machine.checkpoint()
    machine.apply(4, 1, batch_of(put((b"l", b"x"))))
    _, machine = restarted(machine._disk)  # type: ignore[arg-type]
    assert machine.last_applied == LogId(4, 1)
    assert (machine.recovery_report.frames_applied, machine.recovery_report.frames_skipped) == (
        1,
        0,
    )


def test_defect_4_leases_come_back_from_the_wal_and_from_a_checkpoint() -> None:
    disk = MemoryDisk()
    machine = machine_on(disk)
    machine.apply(1, 1, batch_of(insert(b"t", b"v", ttl_ms=500), now_ms=1_000))
    disk, machine = restarted(disk)
    assert machine.deadline_ms(b"t") == 1_500
    machine.checkpoint()
    disk, machine = restarted(disk)
    assert machine.recovery_report.frames_applied == 0
    assert machine.deadline_ms(b"t") == 1_500
    machine.apply(2, 1, batch_of(now_ms=1_500))
    assert machine.get(b"t") is None
    assert restarted(disk)[1].get(b"t") is None


def test_defect_5_an_older_value_never_comes_back_when_its_leased_successor_expired() -> None:
    disk = MemoryDisk()
    machine = machine_on(disk)
    machine.apply(1, 1, batch_of(put((b"k", b"old")), now_ms=1_000))
    machine.apply(2, 1, batch_of(insert(b"k", b"new", ttl_ms=10), now_ms=1_000))
    machine.apply(3, 1, batch_of(now_ms=2_000))
    assert restarted(disk)[1].get(b"k") is None


@pytest.mark.parametrize(
    "command",
    [insert(b"k", b"kept"), put((b"k", b"kept")), swap(b"k", b"v", b"kept")],
    ids=["insert", "put", "swap"],
)
def test_defect_6_a_key_made_permanent_is_not_deleted_later_nor_after_a_restart(
    command: WriteCommand,
) -> None:
    disk = MemoryDisk()
    machine = machine_on(disk)
    machine.apply(1, 1, batch_of(insert(b"k", b"v", ttl_ms=100), now_ms=1_000))
    machine.apply(2, 1, batch_of(command, now_ms=1_001))
    disk, machine = restarted(disk)
    machine.apply(3, 1, batch_of(now_ms=9_000))
    assert machine.get(b"k") == b"kept"
    machine.checkpoint()
    assert restarted(disk)[1].get(b"k") == b"kept"


def test_defect_7_empty_values_and_odd_keys_survive_wal_and_image() -> None:
    disk = MemoryDisk()
    machine = machine_on(disk)
    want = {b"": b"", b"empty": b"", b"\0" * 9: b"\0" * 9, b"\xff" * 300: bytes(range(256)) * 9}
    machine.apply(1, 1, batch_of(put(*want.items())))
    disk, machine = restarted(disk)
    assert dict(machine.scan_prefix(b"").items) == want
    machine.checkpoint()
    disk, machine = restarted(disk)
    assert dict(machine.scan_prefix(b"").items) == want
    assert machine.get(b"empty") == b""
    assert machine.get(b"absent") is None


def test_defect_7_a_cut_image_and_a_changed_record_are_refused() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 5)
    machine.checkpoint()
    applied(machine, 6, 8)
    machine.close()
    image = HOME / "checkpoint" / disk.list_dir(HOME / "checkpoint")[0]
    segment = HOME / "wal" / disk.list_dir(HOME / "wal")[0]
    for path, content in (
        (image, disk.content(image)[:-1]),
        (image, b""),
        (segment, disk.content(segment).replace(b"v6", b"v7")),
    ):
        copy = disk.crashed(Crash.ALL)
        copy.overwrite(path, content)
        with pytest.raises(Corrupt, match=str(path)):
            machine_on(copy)


def test_defect_8_a_snapshot_brings_its_leases_is_verified_and_is_persisted(
    tmp_path: Path,
) -> None:
    source = FileStateMachine(tmp_path / "source")
    source.apply(1, 1, batch_of(insert(b"t", b"v", ttl_ms=500), insert(b"p"), now_ms=1_000))
    metadata = source.generate_snapshot(tmp_path / "snapshot")
    assert metadata.checksum != bytes(32)
    target = FileStateMachine(tmp_path / "target")
    target.apply(1, 1, batch_of(insert(b"p", ttl_ms=7), insert(b"gone"), now_ms=10))
    target.apply_snapshot_from_file(metadata, tmp_path / "snapshot")
    assert (target.deadline_ms(b"t"), target.deadline_ms(b"p")) == (1_500, None)
    assert [key for key, _ in target.scan_prefix(b"").items] == [b"p", b"t"]
    del target
    target = FileStateMachine(tmp_path / "target")
    assert target.digest() == source.digest()
    assert target.snapshot_metadata == metadata
    target.apply(2, 1, batch_of(now_ms=1_500))
    assert len(target) == 1
    path = tmp_path / "snapshot" / "snapshot.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    third = FileStateMachine(tmp_path / "third")
    with pytest.raises(Rejected, match="cannot be read"):
        third.apply_snapshot_from_file(metadata, tmp_path / "snapshot")
    source.apply(2, 1, batch_of(insert(b"t", b"w"), now_ms=1_000))
    other = source.generate_snapshot(tmp_path / "snapshot")
    wrong = SnapshotMetadata(other.last_included, metadata.checksum, other.size_bytes)
    with pytest.raises(Rejected, match="SHA-256"):
        third.apply_snapshot_from_file(wrong, tmp_path / "snapshot")
    assert third.is_empty()
    for machine in (source, target, third):
        machine.close()


def test_defect_9_no_read_answers_with_a_key_that_is_due() -> None:
    disk = MemoryDisk()
    machine = machine_on(disk)
    machine.apply(1, 1, batch_of(insert(b"k", b"v", ttl_ms=10), now_ms=1_000))
    machine.apply(2, 1, batch_of(now_ms=1_009))
    assert restarted(disk)[1].get(b"k") == machine.get(b"k") == b"v"
    machine.apply(3, 1, batch_of(now_ms=1_010))
    for each in (machine, restarted(disk)[1]):
        assert each.get(b"k") is None
        assert each.get_many([b"k"]) == [None]
        assert not each.exists(b"k")
        assert list(each.scan_prefix(b"").items) == []
        assert len(each) == 0


def test_defect_10_deadlines_follow_from_the_log_alone_and_no_ttl_kills_a_replica() -> None:
    history = [
        batch_of(insert(b"k", b"v", ttl_secs=1), now_ms=1_500),
        batch_of(insert(b"poison", b"v", ttl_ms=2**64 - 1), now_ms=1_600),
        batch_of(now_ms=900),  # A leader whose clock was set back.
        batch_of(now_ms=2_499),
        batch_of(now_ms=2_500),
    ]
    disks = [MemoryDisk(), MemoryDisk()]
    first, second = map(machine_on, disks)
    kept = []
    for index, batch in enumerate(history, 1):
        outcomes = [first.apply(index, 1, batch), second.apply(index, 1, batch)]
        assert repr(outcomes[0]) == repr(outcomes[1])
        # One of them applies it after a restart, at whatever time that is.
        second.close()
        second = machine_on(disks[1])
        assert second.digest() == first.digest()
        kept.append(second.get(b"k"))
        assert second.get(b"poison") is None
    assert kept == [b"v", b"v", b"v", b"v", None]


def test_defect_11_expiry_is_an_entry_so_a_restart_neither_misses_nor_repeats_it() -> None:
    disk = MemoryDisk()
    machine = machine_on(disk)
    machine.apply(1, 1, batch_of(insert(b"k", b"old", ttl_ms=10), now_ms=1_000))
    machine.apply(2, 1, batch_of(insert(b"k", b"new", ttl_ms=10_000), now_ms=1_010))
    machine.apply(3, 1, batch_of(now_ms=1_020))
    # Nothing runs beside apply: no cleanup of one replica can take the new value away.
    for _ in range(3):
        assert not machine.poll_background()
    assert machine.get(b"k") == b"new"
    disk, machine = restarted(disk)
    assert (machine.get(b"k"), machine.deadline_ms(b"k")) == (b"new", 11_010)
    assert machine.last_applied == LogId(3, 1)


def test_defect_12_reset_takes_leases_and_files_along() -> None:
    disk = MemoryDisk()
    machine = machine_on(disk)
    machine.apply(1, 1, batch_of(insert(b"t", b"v", ttl_ms=500), now_ms=1_000))
    machine.generate_snapshot()
    machine.reset()
    for _ in range(2):
        assert machine.next_deadline_ms is None
        assert machine.clock_ms == 0
        assert (machine.last_applied, machine.snapshot_metadata) == (LogId(0, 0), None)
        disk, machine = restarted(disk)
    machine.apply(1, 1, batch_of(insert(b"t", b"permanent"), now_ms=1_000))
    machine.apply(2, 1, batch_of(now_ms=9_000))
    assert machine.get(b"t") == b"permanent"


def test_defect_12_results_stay_in_position_and_nonsense_kills_nothing() -> None:
    disk = MemoryDisk()
    machine = machine_on(disk)
    outcomes = machine.apply_chunk(
        [
            Entry.noop(1, 1),
            Entry.command(2, 1, swap(b"k", None, b"v").SerializeToString()),
            Entry.config(3, 1, b""),
            Entry.command(4, 1, b""),  # A command without an operation: the seed panics.
            Entry.command(5, 1, b"\xff\xff"),
            Entry.command(6, 1, delete(b"k").SerializeToString()),
        ]
    )
    assert len(outcomes) == 6
    assert (outcomes[0], outcomes[1], outcomes[2], outcomes[5]) == ([], [True], [], [1])
    with pytest.raises(Rejected):
        machine.apply_chunk([Entry.noop(9, 1), Entry.noop(8, 1)])
    assert machine.last_applied == LogId(6, 1)
    assert machine.entry_term(6) == 1
    assert restarted(disk)[1].digest() == machine.digest()


def test_defect_13_nothing_happens_when_a_machine_is_dropped() -> None:
    # The kill -9 test itself: test_crash.py, test_kill_minus_nine_...
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 4)
    steps: list[str] = []
    disk.on_step = steps.append
    del machine
    assert steps == []
    assert restarted(disk)[1].digest() == digests(4)[4]
