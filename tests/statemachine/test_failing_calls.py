"""Every call of the disk fails once, in every way: the machine stops, and nothing is lost.

Goal: fail-stop. A call that failed is never tried again and never forgotten: whoever made it gets
Fatal, and so does every call of the machine afterwards; on the healed disk the directory opens with
everything that was acknowledged, whatever the failed call left in the page cache.

Method: the workloads of crash_workloads.py on a FaultyDisk; then states of the inner disk as in
crash_explorer.py. `make test` fails every SMALL_EVERY-th call in one way each; the stress test
every call in every way, in two processes. Below that, the real disk: writes that the kernel takes
in part.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from statemachine import DiskFailed, Fatal, FileStateMachine
from tests.statemachine.crash_explorer import explore
from tests.statemachine.crash_recorder import Recorder
from tests.statemachine.crash_run import Run, options_for
from tests.statemachine.crash_workloads import WORKLOADS
from tests.statemachine.machines import applied, digests, machine_on
from tests.support.crash import MemoryDisk
from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.hand_driven import hand_driven

WAYS = [
    Fault(error=errno.EIO),
    Fault(error=errno.ENOSPC),
    Fault(error=errno.EIO, sticky=True),
    Fault(error=errno.ENOSPC, sticky=True),
    Fault(error=errno.EIO, done=True),
]
CASES = [
    (name, policy)
    for name in (
        "rotation",
        "background_checkpoints",
        "background_snapshots",
        "installs",
        "background_installs",
        "resets",
        "bookkeeping",
        "policies",
    )
    for policy in ("always", "checkpoint")
]
SMALL_EVERY = 37
STATES_EVERY = 7  # Of the states that the failure may leave, for each fault.
ALL_CALLS = {
    *("open", "read", "create", "write", "sync", "rename", "link", "unlink"),
    *("sync_dir", "list_dir", "make_dir", "remove_tree", "exists"),
}
"""Not truncate and lock: no workload tears a tail, and machines here hold no lock."""


def run_with(name: str, policy: str, fault: Fault) -> tuple[FaultyDisk, list[str]]:
    """Run a workload into a fault; what is wrong with what came of it."""
    recorder = Recorder()
    door = FaultyDisk(recorder.disk, fault)
    problems: list[str] = []
    with hand_driven(recorder.disk) as hands:
        run = Run(recorder, policy, hands, door)
        try:
            WORKLOADS[name](run)
            if door.hit:
                # Its thread failed after the machine last asked it: at the latest when it is to
                # vouch for what was written, it hears of it.
                hands.finish()
                run.live.flush()
                problems.append("nobody was told")
        except Fatal:
            pass
        if door.hit and run.machine is not None:
            # What a receiver or a reader of snapshots gets is Fatal as well, but it is its
            # owner's to stop: the machine itself does not hear of it (see the test below).
            problems += answers(run.machine) if not run.beside else []
            with contextlib.suppress(Fatal):  # Its own, on a disk that is still failing.
                run.machine.close()
        hands.finish()
    if door.hit:
        recorder.settle()
        recorder.moments.clear()
        recorder.note("the failure")
        options = options_for(policy, run.segment_bytes_max)
        problems += explore(recorder, options, every=STATES_EVERY).problems
    return door, [f"{name}, {policy}, {fault} ({door.hit}): {each}" for each in problems]


def answers(machine: FileStateMachine) -> list[str]:
    """Calls that a failed machine should refuse, and does not."""
    calls: dict[str, Callable[[], Any]] = {
        "get": lambda: machine.get(b"k1"),
        "get_many": lambda: machine.get_many([b"k1"]),
        "scan_prefix": lambda: machine.scan_prefix(b""),
        "len": lambda: len(machine),
        "digest": machine.digest,
        "apply": lambda: machine.apply(99, 9, b""),
        "skip": lambda: machine.skip(99, 9),
        "checkpoint": machine.checkpoint,
        "maybe_checkpoint": lambda: machine.maybe_checkpoint(0.0),
        "poll_background": machine.poll_background,
        "generate_snapshot": machine.generate_snapshot,
        "start_snapshot": machine.start_snapshot,
        "open_snapshot": machine.open_snapshot,
        "flush": machine.flush,
        "flush_async": machine.flush_async,
        "reset": machine.reset,
        "start": machine.start,
    }
    answered = []
    for name, call in calls.items():
        try:
            call()
            answered.append(f"{name} answers after the failure")
        except Fatal:
            continue
    return answered


def calls_of(name: str, policy: str) -> list[str]:
    door, problems = run_with(name, policy, Fault())
    assert problems == []
    return door.calls


@pytest.mark.parametrize(("name", "policy"), CASES)
def test_some_failing_calls_stop_the_machine_and_lose_nothing(name: str, policy: str) -> None:
    count = len(calls_of(name, policy))
    for number, at in enumerate(range(1, count + 1, SMALL_EVERY)):
        way = WAYS[number % len(WAYS)]
        _, problems = run_with(name, policy, Fault(at, way.error, way.sticky, way.done))
        assert problems == []


def every_fault(name: str, policy: str) -> tuple[Counter[str], list[str]]:
    """How often each kind of call failed, and what was wrong then."""
    hits: Counter[str] = Counter()
    found: list[str] = []
    for at in range(1, len(calls_of(name, policy)) + 1):
        for way in WAYS:
            door, problems = run_with(name, policy, Fault(at, way.error, way.sticky, way.done))
            hits[door.hit] += 1
            found += problems
    return hits, found


@pytest.mark.stress
@pytest.mark.timeout(1200)
def test_every_failing_call_stops_the_machine_and_loses_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hits: Counter[str] = Counter()
    found: list[str] = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        for each, problems in pool.map(every_fault, *zip(*CASES, strict=True)):
            hits.update(each)
            found += problems
    with capsys.disabled():
        shown = ", ".join(f"{name} {count:,}" for name, count in hits.most_common())
        print(f"\nfailing calls: {hits.total():,} faults ({shown})", file=sys.stderr)
    assert found == []
    assert set(hits) >= ALL_CALLS


@pytest.mark.parametrize("what", ["receiving", "streaming"])
def test_a_disk_that_fails_beside_the_machine_stops_it_as_well(what: str) -> None:
    # A write that failed is a disk that cannot be believed, whoever made the write.
    door = FaultyDisk(MemoryDisk())
    machine = applied(machine_on(door), 1, 3)
    metadata = machine.generate_snapshot()
    calls: dict[str, Callable[[], Any]] = {
        "receiving": lambda: machine.snapshot_receiver().begin(metadata),
        "streaming": machine.open_snapshot,
    }
    door.fault = Fault(at=len(door.calls) + 3)
    with pytest.raises(DiskFailed):
        calls[what]()
    assert not machine.is_running


# The real disk.

LIMITED = """
import resource, sys
from pathlib import Path
from statemachine import Fatal, FileStateMachine, WalConfig
from tests.statemachine.machines import apply_to

machine = FileStateMachine(Path(sys.argv[1]), wal=WalConfig(segment_bytes_max=1450))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    for index in apply_to(machine, 1, 40):
        print(index, flush=True)
except Fatal as error:
    print(type(error).__name__, "is running" if machine.is_running else "stopped", flush=True)
"""


@pytest.mark.parametrize("limit_bytes", [200, 333, 500, 777, 1024, 1111, 1400])
def test_a_real_write_that_the_kernel_takes_in_part_stops_the_machine(
    tmp_path: Path, limit_bytes: int
) -> None:
    # The limit on the size of a file: the kernel takes what fits, and refuses the rest.
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "data"), str(limit_bytes)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=50,
    )
    *indexes, end = run.stdout.splitlines()
    assert end == "DiskFailed stopped"
    assert any(path.stat().st_size == limit_bytes for path in tmp_path.rglob("*") if path.is_file())
    with FileStateMachine(tmp_path / "data") as machine:
        index = machine.last_applied.index
        assert index >= int(indexes[-1])
        assert machine.digest() == digests(index)[index]
