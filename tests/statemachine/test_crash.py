"""Crashes at every step. Goal: nothing acknowledged is lost, nothing is half there.

Method: a fixed history (machines.py) runs on a MemoryDisk. After every call that changes the
disk, copies are taken as a crash at that moment would leave it: only what was synced, everything
(kill -9), and mixtures with holes. Each copy is opened again: its state must be that of a prefix
of the history that holds everything acknowledged by then, and the rest of the history must
apply on top of it.
"""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from statemachine import CheckpointConfig, DiskFailed, Fatal, FileStateMachine, WalConfig
from tests.statemachine.machines import HOME, applied, apply_to, digests, entry, machine_on
from tests.support.crash import Crash, FailingDisk, MemoryDisk

LAST = 30
DIGESTS = digests(LAST)
SMALL = 700  # Segment bytes: a few entries each, so that rotation is crashed as well.


@dataclass(frozen=True, slots=True)
class Moment:
    """A crash, and what must be there after it."""

    step: str
    disk: MemoryDisk
    at_least: int
    at_most: int


class Recorder:
    """Takes the copies. `durable`: acknowledged and synced; `acknowledged`: the call returned."""

    def __init__(self, mixtures: int = 4) -> None:
        self._crashes = ((Crash.SYNCED, 1), (Crash.ALL, 1), (Crash.MIXED, mixtures))
        self.disk = MemoryDisk(self._step)
        self.moments: list[Moment] = []
        self.durable = 0
        self.acknowledged = 0
        self.begun = 0
        self._count = 0

    def _step(self, name: str) -> None:
        self._count += 1
        label = f"{self._count} {name}"
        for crash, seeds in self._crashes:
            at_least = self.acknowledged if crash is Crash.ALL else self.durable
            for seed in range(seeds):
                copy = self.disk.crashed(crash, seed + 10 * self._count)
                moment = Moment(f"{label} {crash.name} {seed}", copy, at_least, self.begun)
                self.moments.append(moment)

    def apply(self, machine: FileStateMachine, first: int, last: int, *, always: bool) -> None:
        for index in range(first, last + 1):
            self.begun = index
            applied(machine, index, index)
            self.acknowledged = index
            if always:
                self.durable = index

    def synced(self) -> None:
        self.durable = self.acknowledged


def check(moment: Moment, **options: Any) -> None:
    with machine_on(moment.disk, **options) as machine:
        index = machine.last_applied.index
        assert moment.at_least <= index <= moment.at_most, moment.step
        assert machine.digest() == DIGESTS[index], moment.step
        # Raft sends again what was not known to be applied; some of it twice.
        applied(machine, max(index - 2, 1), LAST)
        assert machine.digest() == DIGESTS[LAST], moment.step
    with machine_on(moment.disk, **options) as machine:
        assert machine.last_applied.index == LAST, moment.step
        assert machine.digest() == DIGESTS[LAST], moment.step


@pytest.mark.parametrize("sync", ["always", "interval", "checkpoint"])
def test_a_crash_after_any_step_leaves_a_prefix_with_all_that_was_acknowledged(sync: Any) -> None:
    now_s = 0.0
    options: dict[str, Any] = {
        "wal": WalConfig(sync=sync, interval_ms=1_000, segment_bytes_max=SMALL),
        "monotonic": lambda: now_s,
    }
    recorder = Recorder()
    always = sync == "always"
    machine = machine_on(recorder.disk, **options)
    recorder.apply(machine, 1, 8, always=always)
    machine.checkpoint()
    recorder.synced()
    recorder.apply(machine, 9, 13, always=always)
    machine.poll_background()
    machine.poll_background()  # The second one finds the log idle and marks it.
    now_s = 2.0
    recorder.apply(machine, 14, 16, always=always)
    machine.generate_snapshot()
    recorder.synced()
    recorder.apply(machine, 17, 20, always=always)
    machine.flush()
    recorder.synced()
    recorder.apply(machine, 21, 26, always=always)
    machine.generate_snapshot()
    recorder.synced()
    recorder.apply(machine, 27, 28, always=always)
    machine.close()
    assert len(recorder.moments) > 300
    for moment in recorder.moments:
        check(moment, **options)


class Killed(Exception):  # The process ends here; the test goes on.
    """Raised by the disk: kill -9 at this step."""


def _work(machine: FileStateMachine, acknowledge: Callable[[int], None]) -> None:
    for index in apply_to(machine, 1, 5):
        acknowledge(index)
    machine.checkpoint()
    for index in apply_to(machine, 6, 7):
        acknowledge(index)
    machine.generate_snapshot()
    for index in apply_to(machine, 8, 9):
        acknowledge(index)


def test_power_lost_while_recovering_from_a_kill_loses_nothing_acknowledged() -> None:
    # The page cache survives the kill, so recovery reads names and bytes that are not durable
    # yet: whatever it builds on, it has to sync first.
    options: dict[str, Any] = {"wal": WalConfig(segment_bytes_max=SMALL), "lock": False}
    kill_at, finished = 0, False
    while not finished:
        kill_at += 1
        recorder = Recorder(mixtures=0)
        recorder.begun = 9
        left = [kill_at]

        def kill(_: str, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise Killed

        def acknowledge(index: int, recorder: Recorder = recorder) -> None:
            recorder.acknowledged = recorder.durable = index

        recorder.disk.on_step = kill
        try:
            _work(machine_on(recorder.disk, **options), acknowledge)
            finished = True
        except (Killed, Fatal):  # Fatal: it was the background's step.
            pass
        recorder.disk.on_step = recorder._step
        machine = machine_on(recorder.disk, **options)
        index = machine.last_applied.index
        assert index >= recorder.acknowledged
        recorder.apply(machine, index + 1, 9, always=True)
        for moment in recorder.moments:
            if "SYNCED" in moment.step:
                check(moment, **options)
    assert kill_at > 60


def test_a_crash_at_any_step_of_a_chunk_keeps_whole_entries_only() -> None:
    recorder = Recorder()
    machine = machine_on(recorder.disk)
    for first in range(1, 29, 4):
        recorder.begun = first + 3
        machine.apply_chunk([entry(index) for index in range(first, first + 4)])
        recorder.acknowledged = recorder.durable = first + 3
    for moment in recorder.moments:
        check(moment)


def test_a_crash_while_a_torn_log_is_mended_loses_nothing_more() -> None:
    disk = MemoryDisk()
    applied(machine_on(disk), 1, 6)
    segment = HOME / "wal" / "0000000000000001.wal"
    disk.overwrite(segment, disk.content(segment)[:-7])
    recorder = Recorder()
    recorder.disk = disk.crashed(Crash.ALL)
    recorder.disk.on_step = recorder._step
    recorder.begun = recorder.durable = recorder.acknowledged = 5
    machine = machine_on(recorder.disk)
    assert machine.recovery_report.torn is not None
    recorder.apply(machine, 6, 9, always=True)
    for moment in recorder.moments:
        check(moment)


def test_a_crash_while_a_snapshot_is_installed_leaves_the_old_state_or_the_new() -> None:
    source = machine_on(MemoryDisk())
    applied(source, 1, 20)
    source.generate_snapshot()
    recorder = Recorder()
    machine = machine_on(recorder.disk)
    recorder.apply(machine, 1, 9, always=True)
    machine.generate_snapshot()
    recorder.moments.clear()
    found = source.open_snapshot()
    assert found is not None
    metadata, file = found
    receiver = machine.snapshot_receiver()
    receiver.begin(metadata)
    while chunk := file.read(100):
        receiver.write(chunk)
    directory = receiver.finish()
    recorder.begun = 20
    machine.apply_snapshot_from_file(metadata, directory)
    after = len(recorder.moments)
    recorder.acknowledged = recorder.durable = 20
    recorder.apply(machine, 21, 22, always=True)
    seen = set()
    for number, moment in enumerate(recorder.moments):
        with machine_on(moment.disk) as opened:
            index = opened.last_applied.index
            seen.add(index)
            assert index in (9, 20) if number < after else index >= 20, moment.step
            assert opened.snapshot_metadata is not None
            assert opened.snapshot_metadata.last_included.index <= index, moment.step
        check(moment)
    assert {9, 20} <= seen


def test_a_crash_during_reset_leaves_the_old_state_or_the_empty_one() -> None:
    recorder = Recorder()
    machine = machine_on(recorder.disk)
    recorder.apply(machine, 1, 9, always=True)
    machine.generate_snapshot()
    recorder.apply(machine, 10, 12, always=True)
    recorder.moments.clear()
    machine.reset()
    during = len(recorder.moments)
    recorder.apply(machine, 1, 3, always=True)
    for number, moment in enumerate(recorder.moments):
        with machine_on(moment.disk) as opened:
            index = opened.last_applied.index
            assert opened.digest() == DIGESTS[index], moment.step
            assert index in (0, 12) if number < during else index <= 3, moment.step
            if index == 0:
                assert opened.snapshot_metadata is None


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_when_any_call_fails_the_machine_stops_and_nothing_acknowledged_is_lost(
    error: int,
) -> None:
    options: dict[str, Any] = {"wal": WalConfig(segment_bytes_max=SMALL)}
    fail_at, failed = 0, set()
    while True:
        fail_at += 1
        inner = MemoryDisk()
        disk = FailingDisk(inner, fail_at, error)
        acknowledged = _run_until_it_fails(disk, options)
        if disk.failed is None:
            break
        failed.add(disk.failed)
        gc.collect()
        for crash in (Crash.ALL, Crash.SYNCED):
            # ENOSPC or EIO may hit the process that then dies, or the whole machine.
            with machine_on(inner.crashed(crash), **options) as machine:
                index = machine.last_applied.index
                assert index >= acknowledged, (fail_at, disk.failed)
                assert machine.digest() == DIGESTS[index]
    expected = {"open_log", "write", "sync", "sync_dir", "rename", "unlink", "write_new", "link"}
    assert expected <= failed


def _run_until_it_fails(disk: FailingDisk, options: dict[str, Any]) -> int:
    acknowledged = 0
    machine = None
    try:
        machine = machine_on(disk, **options)
        for index in apply_to(machine, 1, 9):
            acknowledged = index
        machine.checkpoint()
        for index in apply_to(machine, 10, 15):
            acknowledged = index
        machine.generate_snapshot()
        machine.apply_chunk([entry(16), entry(17)])
        acknowledged = 17
        machine.flush()
        machine.close()
    except DiskFailed:
        if machine is not None:
            assert not machine.is_running
            for call in (
                lambda: machine.get(b"k1"),
                lambda: machine.apply(99, 1, b""),
                lambda: machine.start(),
                lambda: machine.checkpoint(),
                lambda: len(machine),
            ):
                with pytest.raises(Fatal, match="failed"):
                    call()
            machine.close()
    return acknowledged


def test_a_failed_background_checkpoint_stops_the_machine() -> None:
    disk = FailingDisk(MemoryDisk())
    machine = machine_on(disk, checkpoint=CheckpointConfig(entries=5))
    applied(machine, 1, 5)
    disk._fail_at = disk.calls + 5  # Past the new segment's four: the image's own file.
    assert machine.maybe_checkpoint(1.0)
    with pytest.raises(DiskFailed):
        _poll_for_ever(machine)
    assert disk.failed in ("write_new", "rename")
    with pytest.raises(Fatal):
        machine.get(b"k1")


def _poll_for_ever(machine: FileStateMachine) -> None:
    while True:
        machine.poll_background()


def test_kill_minus_nine_leaves_whatever_the_child_had_acknowledged(tmp_path: Path) -> None:
    # A process of its own, a real disk, a real SIGKILL: SEED defect 13.
    import signal
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from statemachine import CheckpointConfig, FileStateMachine, WalConfig\n"
        "from tests.statemachine.machines import entry\n"
        "machine = FileStateMachine(Path(sys.argv[1]), wal=WalConfig(segment_bytes_max=4096),\n"
        "                           checkpoint=CheckpointConfig(entries=20))\n"
        "index = machine.last_applied.index\n"
        "while True:\n"
        "    index += 1\n"
        "    machine.apply_chunk([entry(index)])\n"
        "    machine.maybe_checkpoint(index)\n"
        "    machine.poll_background()\n"
        "    print(index, flush=True)\n"
    )
    acknowledged = 0
    for round_number in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "data")],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                acknowledged = int(line)
                if acknowledged % 100 == 37 + round_number:
                    child.send_signal(signal.SIGKILL)
                    break
            # Lines that were on their way when it died were acknowledged as well.
            for line in child.stdout:
                acknowledged = int(line) if line.endswith("\n") else acknowledged
        with FileStateMachine(tmp_path / "data") as machine:
            index = machine.last_applied.index
            assert index >= acknowledged > 0
            assert machine.digest() == digests(index)[index]
