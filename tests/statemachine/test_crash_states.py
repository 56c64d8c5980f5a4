"""Every legal disk state after every step of every workload, opened and judged.

Goal: whatever a crash may leave, the machine comes back with a prefix of the history that holds
all that was durable, or the disk broke a promise; and an exploration that is blind would show.

Method: crash_workloads.py runs on a disk in memory, crash_states.py makes the states,
crash_explorer.py opens and judges them. `make test` opens a part of them; the stress test all, in
two processes. The negative controls are disks that lie about one kind of sync:
each lie has to be found.

Seen: the count of distinct states is printed (pytest -s, or the line of the stress test in CI).
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from statemachine import Fatal
from tests.statemachine.crash_explorer import Findings, explore
from tests.statemachine.crash_recorder import Killed
from tests.statemachine.crash_workloads import POLICIES, WORKLOADS, record, record_killed
from tests.statemachine.machines import HOME, applied, machine_on
from tests.support.crash import Crash, MemoryDisk

SMALL_EVERY = 31  # Primes, so that they fall on cuts, fillers and names by turns.
SMALL_MOMENTS_EVERY = 5
ALL_EVERY = int(os.environ.get("TRIMARAN_STATES_EVERY", "3"))
"""Each third state is enough for CI's 100,000; with 1 all of them, in three times as long."""
AGAIN_EVERY = 500
"""A crash at every step of the recovery itself: of each N-th state."""
DISTINCT_MIN = 100_000
PROCESSES = 2


def explored(
    name: str, policy: str, every: int = 1, again_every: int = 0, disk: MemoryDisk | None = None
) -> Findings:
    recorder, options = record(name, policy, disk)
    return explore(recorder, options, every=every, again_every=again_every)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", WORKLOADS)
def test_some_states_of_every_workload_open_with_all_that_was_durable(
    name: str, policy: str
) -> None:
    recorder, options = record(name, policy)
    findings = explore(
        recorder, options, every=SMALL_EVERY, moments_every=SMALL_MOMENTS_EVERY, again_every=100
    )
    print(f"crash states: {findings}")
    assert findings.problems == []
    assert len(findings.words) > 10


def test_a_workload_is_the_same_in_every_run() -> None:
    first, second = (record("background_checkpoints", "always")[0].moments for _ in range(2))
    assert [moment.label for moment in first] == [moment.label for moment in second]


@pytest.mark.stress
@pytest.mark.timeout(1200)
def test_states_of_all_workloads_open_with_all_that_was_durable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    total = Findings()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=spawn) as pool:
        jobs = [
            *(
                pool.submit(explored, name, policy, ALL_EVERY, AGAIN_EVERY)
                for name in WORKLOADS
                for policy in POLICIES
            ),
            *(
                pool.submit(killed, name, policy, 3, 41)
                for name in KILLED
                for policy in ("always", "checkpoint")
            ),
        ]
        for job in jobs:
            total.add(job.result())
    with capsys.disabled():
        print(f"\ncrash states: {total}", file=sys.stderr)
    assert total.problems == []
    assert len(total.words) >= DISTINCT_MIN


# Killed, started again, and then the power goes: what recovery found was not synced yet.

KILLED = (
    "rotation",
    "checkpoints",
    "background_checkpoints",
    "snapshots",
    "installs",
    "background_installs",
    "resets",
)


def killed(name: str, policy: str, kills_every: int, every: int) -> Findings:
    """A kill at each N-th step of a workload, and every N-th state of the process after it."""
    total = Findings()
    kill_at = 1
    while (recorded := record_killed(name, policy, kill_at)) is not None:
        findings = explore(*recorded, every=every)
        findings.problems = [f"killed at {kill_at}, {each}" for each in findings.problems]
        total.add(findings)
        kill_at += kills_every
    return total


@pytest.mark.parametrize("name", KILLED)
def test_power_lost_after_some_kills_loses_nothing_that_was_found(name: str) -> None:
    findings = killed(name, "always", 17, 101)
    assert findings.problems == []
    assert len(findings.words) > 50


def test_a_snapshot_that_was_shown_after_a_kill_survives_power_loss() -> None:
    # The journal is cut below a snapshot that the machine shows: it has to stay.
    disk = MemoryDisk()
    machine = applied(machine_on(disk, lock=False), 1, 5)
    metadata = HOME / "snapshot" / f"{5:020d}@{1:020d}" / "metadata.bin"

    def kill(_: str) -> None:
        if disk.exists(metadata):
            raise Killed  # Its name is in the page cache only.

    disk.on_step = kill
    with pytest.raises((Killed, Fatal)):  # Fatal: it was the background's step.
        machine.generate_snapshot()
    disk.on_step = None
    machine = machine_on(disk, lock=False)
    assert machine.snapshot_metadata is not None
    again = machine_on(disk.crashed(Crash.SYNCED))
    assert again.snapshot_metadata == machine.snapshot_metadata


# Negative controls: an exploration that finds nothing has to be shown to see.

Lie = Callable[[str, Path], bool]
LIES: dict[str, tuple[str, str, Lie]] = {
    "an acknowledged entry is not synced": (
        "entries",
        "always",
        lambda call, path: call == "sync" and path.suffix == ".wal",
    ),
    "a flush does not sync": (
        "entries",
        "checkpoint",
        lambda call, path: call == "sync" and path.suffix == ".wal",
    ),
    "the name of a new segment is not synced": (
        "rotation",
        "always",
        lambda call, path: call == "sync_dir" and path.name == "wal",
    ),
    "a checkpoint is renamed before it is synced": (
        "checkpoints",
        "always",
        lambda call, path: call == "sync" and path.name.endswith(".img.tmp"),
    ),
    "segments go before the name of their checkpoint is synced": (
        "checkpoints",
        "always",
        lambda call, path: call == "sync_dir" and path.name == "checkpoint",
    ),
    "the metadata of a snapshot is not synced": (
        "snapshots",
        "always",
        lambda call, path: call == "sync" and path.name == "metadata.bin.tmp",
    ),
    "the name of a snapshot's metadata is not synced": (
        "snapshots",
        "always",
        lambda call, path: call == "sync_dir" and path.parent.name == "snapshot",
    ),
    "an installed snapshot is not synced": (
        "installs",
        "always",
        lambda call, path: call == "sync" and ".tmp" in str(path),
    ),
    "the directories are not synced": (
        "entries",
        "always",
        lambda call, path: call == "sync_dir" and path.name == "data",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_disk_that_lies_is_found_out(lie: str) -> None:
    name, policy, lies = LIES[lie]
    disk = MemoryDisk()
    disk.lies = lies
    findings = explored(name, policy, 19, disk=disk)
    assert findings.problems, f"{lie}: nobody noticed in {findings}"


def unnoticed_lies(name: str, policy: str) -> tuple[int, list[str]]:
    """Each fsync of a file is a lie once; which of these lies nobody noticed."""
    count, unnoticed = 0, []
    while True:
        told: list[Path] = []

        def lies(call: str, path: Path, told: list[Path] = told, nth: int = count + 1) -> bool:
            if call == "sync":
                told.append(path)
            return call == "sync" and len(told) == nth

        disk = MemoryDisk()
        disk.lies = lies
        recorder, options = record(name, policy, disk)
        if len(told) <= count:
            return count, unnoticed
        count += 1
        if not any(explore(recorder, options, every=n, problems_max=1).problems for n in (29, 1)):
            unnoticed.append(f"{name}, {policy}: fsync {count}, of {told[count - 1]}")


@pytest.mark.stress
@pytest.mark.timeout(1800)
def test_every_single_fsync_of_a_file_is_needed() -> None:
    # But the last of a workload, when nothing follows that would count on it; and that of a new
    # segment's header, once for each segment: recovery takes a torn one for an empty one.
    for name in ("rotation", "checkpoints", "installs"):
        count, unnoticed = unnoticed_lies(name, "always")
        last = f"{name}, always: fsync {count}, of "
        assert count > 15
        unneeded = [each for each in unnoticed if not each.startswith(last)]
        segments = [each.rpartition(" ")[2] for each in unneeded]
        assert all(path.endswith(".wal") for path in segments), unneeded
        assert len(segments) == len(set(segments)), unneeded
