"""Checkpoints: when one is due, what it replaces, and what goes on meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from statemachine import CheckpointConfig, Fatal, Rejected, WalConfig
from statemachine.checkpoint import CheckpointRule
from statemachine.errors import DiskFailed
from statemachine.job import Check, Job
from tests.statemachine.batches import batch_of, put
from tests.statemachine.machines import HOME, applied, digests, machine_on
from tests.support.crash import Crash, MemoryDisk

MIB = 1 << 20


def names(disk: MemoryDisk, directory: str) -> list[str]:
    return disk.list_dir(HOME / directory)


@pytest.mark.parametrize(
    ("config", "wal_bytes", "entries", "image_bytes", "now_s", "due"),
    [
        pytest.param({}, 64 * MIB, 1, 0, 0, True, id="default: 64 MiB of WAL"),
        pytest.param({}, 64 * MIB - 1, 10**6, 0, 10**6, False, id="default: nothing else"),
        pytest.param({}, 64 * MIB, 1, 65 * MIB, 0, False, id="not before the last image's size"),
        pytest.param({}, 65 * MIB, 1, 65 * MIB, 0, True, id="at the last image's size"),
        pytest.param({"bytes": 0}, 10**12, 1, 0, 0, False, id="0 is never"),
        pytest.param({"entries": 1000}, 1, 999, 0, 0, False, id="999 entries"),
        pytest.param({"entries": 1000}, 1, 1000, 10**9, 0, True, id="1000 entries"),
        pytest.param({"interval_ms": 10_000}, 1, 1, 0, 9.9, False, id="9.9 s"),
        pytest.param({"interval_ms": 10_000}, 1, 1, 0, 10, True, id="10 s"),
        pytest.param({"interval_ms": 10_000}, 0, 0, 0, 10**6, False, id="nothing was written"),
    ],
)
def test_when_a_checkpoint_is_due(
    config: dict[str, int], wal_bytes: int, entries: int, image_bytes: int, now_s: float, due: bool
) -> None:
    rule = CheckpointRule(CheckpointConfig(**config), image_bytes)
    assert not rule.due(100.0, wal_bytes=0, logged_bytes=0, entries=0, keys=0)
    grown = {"wal_bytes": wal_bytes, "logged_bytes": wal_bytes}
    assert rule.due(100.0 + now_s, **grown, entries=entries, keys=0) is due


@pytest.mark.parametrize("value_bytes", [8, 256, 5_000])
@pytest.mark.parametrize("fresh_of_ten", [10, 1])
def test_all_images_together_take_at_most_twice_what_was_logged(
    value_bytes: int, fresh_of_ten: int
) -> None:
    """Bytes that reach the disk, counted at the door, for large and small values alike."""
    disk = MemoryDisk()
    machine = machine_on(disk, checkpoint=CheckpointConfig(bytes=2_000))
    images_bytes, last, begun = 0, 0, 0
    for index in range(1, 300):
        keys = [b"%d" % (index * 10 + n if n < fresh_of_ten else n) for n in range(10)]
        machine.apply(index, 1, batch_of(put(*((key, bytes(value_bytes)) for key in keys))))
        if machine.maybe_checkpoint(0.0):
            begun += 1
            while not machine.poll_background():
                pass
            (name,) = names(disk, "checkpoint")
            images_bytes += disk.size_bytes(HOME / "checkpoint" / name)
        while machine._store.unfolded:
            machine.poll_background()
        logged_bytes = machine._wal.appended_bytes
        assert images_bytes <= 2 * logged_bytes, index
        last = index
    assert begun >= 2
    assert last == 299


def test_an_image_waits_for_a_log_as_large_as_the_last_one_and_within_twice_what_was_logged() -> (
    None
):
    rule = CheckpointRule(CheckpointConfig(bytes=1_000), image_bytes=10_000)
    long_ago = {"logged_bytes": 10**9, "entries": 9, "keys": 0}
    assert not rule.due(0.0, wal_bytes=9_999, **long_ago)
    assert rule.due(0.0, wal_bytes=10_000, **long_ago)
    rule.written(10_000)
    # 10,000 were spent; the next may take 10,000 and what was logged since, 10,000: half of it.
    grown = {"wal_bytes": 10_000, "entries": 9, "keys": 0}
    assert not rule.due(0.0, logged_bytes=14_999, **grown)
    assert rule.due(0.0, logged_bytes=15_000, **grown)


def test_tiny_values_delay_an_image_but_do_not_prevent_it() -> None:
    rule = CheckpointRule(CheckpointConfig(bytes=1_000))
    grown = {"entries": 9, "keys": 500}
    assert not rule.due(0.0, wal_bytes=3_999, logged_bytes=3_999, **grown)
    assert rule.due(0.0, wal_bytes=4_000, logged_bytes=4_000, **grown)


def test_a_negative_rule_is_refused_by_key() -> None:
    with pytest.raises(Rejected, match=r"checkpoint\.entries"):
        CheckpointConfig(entries=-1)


def test_a_checkpoint_replaces_the_older_one_and_the_wal_below_it() -> None:
    disk = MemoryDisk()
    machine = machine_on(disk, wal=WalConfig(segment_bytes_max=300))
    applied(machine, 1, 10)
    assert len(names(disk, "wal")) > 3
    machine.checkpoint()
    first = names(disk, "checkpoint")
    assert len(names(disk, "wal")) == len(first) == 1
    assert first[0].removesuffix(".img") == names(disk, "wal")[0].removesuffix(".wal")
    applied(machine, 11, 12)
    machine.checkpoint()
    assert len(names(disk, "checkpoint")) == 1
    assert names(disk, "checkpoint") > first
    machine.close()
    with machine_on(disk) as again:
        assert again.recovery_report.frames_applied == 0
        assert again.recovery_report.checkpoint_last.index == 12
        assert again.digest() == digests(12)[12]


def test_the_old_files_go_only_after_the_new_name_is_synced() -> None:
    steps: list[str] = []
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 5)
    machine.checkpoint()
    applied(machine, 6, 7)
    disk.on_step = steps.append
    machine.checkpoint()
    assert steps == [
        *("create", "write", "sync", "sync_dir"),  # The next segment; the old one is synced.
        *("create", "write", "write", "write", "write", "sync"),  # The image.
        *("rename", "sync_dir"),
        *("unlink", "sync_dir"),  # The old segment.
        *("unlink", "sync_dir"),  # The old checkpoint.
    ]


def test_a_checkpoint_of_nothing_new_writes_nothing() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 3)
    machine.checkpoint()
    steps: list[str] = []
    disk.on_step = steps.append
    machine.checkpoint()
    assert not any(step in ("create", "rename", "write") for step in steps)


class SlowDisk(MemoryDisk):
    """Its renames wait until they are let through."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()

    def rename(self, old: Any, new: Any) -> None:
        assert self.go.wait(10)
        super().rename(old, new)


def test_a_background_checkpoint_holds_its_moment_while_writes_go_on() -> None:
    disk = SlowDisk()
    machine = machine_on(disk, checkpoint=CheckpointConfig(entries=10))
    applied(machine, 1, 9)
    assert not machine.maybe_checkpoint(1.0)
    applied(machine, 10, 10)
    disk.go.clear()
    assert machine.maybe_checkpoint(2.0)
    applied(machine, 11, 25)
    assert not machine.maybe_checkpoint(3.0)  # One at a time.
    assert not machine.start_snapshot()
    assert not machine.poll_background()
    before = disk.crashed(Crash.SYNCED)
    disk.go.set()
    while not machine.poll_background():
        pass
    with machine_on(disk.crashed(Crash.SYNCED)) as after:
        assert after.recovery_report.checkpoint_last.index == 10
        assert after.recovery_report.frames_applied == 15
        assert after.digest() == machine.digest() == digests(25)[25]
    with machine_on(before) as earlier:
        assert earlier.recovery_report.checkpoint is None
        assert earlier.digest() == digests(25)[25]
    assert machine.maybe_checkpoint(4.0)  # 15 entries are due again.


def test_closing_in_the_middle_of_a_background_checkpoint_loses_nothing() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 12)
    assert machine.flush_async()
    machine.close()
    with machine_on(disk) as again:
        assert again.digest() == digests(12)[12]


def test_a_forgotten_machine_leaves_no_thread_behind() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 12)
    assert machine.flush_async()
    del machine
    assert not [thread for thread in threading.enumerate() if "trimaran" in thread.name]
    with machine_on(disk) as again:
        assert again.digest() == digests(12)[12]


def test_a_job_hands_over_its_result_its_error_or_nothing_when_it_was_stopped() -> None:
    assert Job("test", lambda check: 7).wait() == 7

    def fails(check: Check) -> int:
        raise DiskFailed(HOME, "fsync", "EIO")

    with pytest.raises(DiskFailed):
        Job("test", fails).wait()

    def surprises(check: Check) -> int:
        raise KeyError("surprise")

    with pytest.raises(Fatal, match="surprise") as caught:
        Job("test", surprises).wait()
    assert isinstance(caught.value.__cause__, KeyError)

    def endless(check: Check) -> int:
        while True:
            check()

    job = Job("test", endless)
    assert job.running
    assert job.stop() is None
    assert not job.running
