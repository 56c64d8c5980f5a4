"""What a machine may be doing when it dies: one function for each workload.

WORKLOADS       name -> function of a Run
record          a workload from its begin to its end, under one sync policy
record_killed   the same until a kill at some step, and another process on the same disk
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, Final

from statemachine import LogId, Rejected
from tests.statemachine.crash_recorder import Recorder
from tests.statemachine.crash_run import POLICIES, SMALL_SEGMENT_BYTES, Run, options_for, running
from tests.support.crash import MemoryDisk

__all__ = ["POLICIES", "WORKLOADS", "record", "record_killed"]


def record(
    name: str, policy: str, disk: MemoryDisk | None = None
) -> tuple[Recorder, dict[str, Any]]:
    """Run a workload; what it did, and the options to open its states with."""
    recorder = Recorder(disk)
    with running(recorder, policy) as run:
        WORKLOADS[name](run)
        run.hands.finish()
    return recorder, options_for(policy, run.segment_bytes_max)


def record_killed(name: str, policy: str, kill_at: int) -> tuple[Recorder, dict[str, Any]] | None:
    """Run a workload until it is killed at a step, and then another process on the same disk.

    What the first one did not sync is in the page cache, and the second one reads it there; then
    the power goes: only moments of the second one are kept.

    Returns: None when the workload has no such step.
    """
    recorder = Recorder()
    with running(recorder, policy) as run:
        recorder.kill_at = kill_at
        if not run.until_killed(lambda: WORKLOADS[name](run)):
            return None
        recorder.moments.clear()
        run.open()
        run.apply(2)
        run.flush()
    return recorder, options_for(policy, run.segment_bytes_max)


# The workloads.


def entries(run: Run) -> None:
    """Entry by entry, in chunks, with pauses; closed and opened again."""
    run.open()
    run.apply(5)
    run.idle()
    run.apply(3)
    run.interval_passes()
    run.chunk(4)
    run.apply(2)
    run.flush()
    run.apply(2)
    run.close()
    run.open()
    run.apply(3)


def rotation(run: Run) -> None:
    """Segments of a few entries each; also chunks that do not fit in one. Whatever the machine
    does ahead of time in a thread gets on at different paces, or not at all.
    """
    run.segment_bytes_max = SMALL_SEGMENT_BYTES
    run.open()
    run.apply(9)
    run.idle()
    run.chunk(6)
    run.apply(6, pace=1)
    run.interval_passes()
    run.apply(4, pace=2)
    run.live.poll_background()
    run.hands.finish()
    run.apply(2)
    run.flush()
    run.apply(6, pace=9)
    run.close()


def checkpoints(run: Run) -> None:
    """In the foreground, twice at the same place too, with and without entries behind."""
    run.segment_bytes_max = SMALL_SEGMENT_BYTES
    run.open()
    run.apply(7)
    run.checkpoint()
    run.apply(6)
    run.checkpoint()
    run.checkpoint()
    run.apply(1)
    run.checkpoint()
    run.apply(2)


def background_checkpoints(run: Run) -> None:
    """The image is written while entries come in, at different paces."""
    run.segment_bytes_max = SMALL_SEGMENT_BYTES
    run.open()
    run.apply(6)
    run.background((1, 1, 2, 1))
    run.background((3, 2))
    run.background((0, 0, 0))
    run.background((20,))
    run.apply(1)


def snapshots(run: Run) -> None:
    """Made again and again, so that old ones go; one at the same place, one from a checkpoint."""
    run.open()
    run.apply(5)
    run.snapshot()
    run.apply(2)
    run.snapshot()
    run.snapshot()
    run.apply(1)
    run.checkpoint()
    run.snapshot()
    run.apply(1)
    run.snapshot()
    run.apply(2)


def background_snapshots(run: Run) -> None:
    """Made while entries come in."""
    run.segment_bytes_max = SMALL_SEGMENT_BYTES
    run.open()
    run.apply(4)
    run.background((2, 2, 3), snapshot=True)
    run.background((6, 1, 1), snapshot=True)
    run.background((9,), snapshot=True)
    run.apply(1)


def installs(run: Run) -> None:
    """Into an empty machine, over a state, over a snapshot, while an image is being written."""
    run.open()
    run.install(5)
    run.apply(2)
    run.install(3)
    run.apply(1)
    run.snapshot()
    run.apply(1)
    assert run.live.flush_async()
    run.hands.step(2)
    run.install(4)
    run.apply(2)


def background_installs(run: Run) -> None:
    """While the old state goes on, at different paces; and one that is begun again in between."""
    run.segment_bytes_max = SMALL_SEGMENT_BYTES
    run.open()
    run.apply(3)
    run.install_in_background(6, (1, 2, 1))
    run.apply(4)
    run.install_in_background(5, (0, 0, 9))
    run.apply(1)
    last = run.index + 3
    metadata, directory = run.receive(last)
    run.recorder.applied.begin(last)
    run.recorder.begin_snapshot(last)
    assert run.live.start_install(metadata, directory)
    run.hands.step(1)
    with contextlib.suppress(Rejected):  # The first one may have got to its end: nothing is left.
        run.live.apply_snapshot_from_file(metadata, directory)
    assert run.index == last
    run.recorder.applied.acknowledge(durable=True)
    run.recorder.acknowledge_snapshot()
    run.apply(1)


def resets(run: Run) -> None:
    """Back to nothing, with a checkpoint and snapshots there, and on from there."""
    run.open()
    run.apply(4)
    run.reset()
    run.apply(3)
    run.snapshot()
    run.apply(2)
    run.snapshot()
    run.apply(1)
    run.reset()
    run.reset()
    run.apply(2)
    run.install(6)
    run.reset()
    run.apply(1)


def bookkeeping(run: Run) -> None:
    """Raft's side of it: last applied, hard state, metadata of snapshots, stop and start."""
    run.open()
    run.apply(6)
    run.recorder.applied.begin(7)  # Entry 7 is a no-op: it may be skipped.
    run.synced(functools.partial(run.live.persist_last_applied, LogId(7, 1)))
    run.apply(6)
    run.recorder.applied.begin(14)
    run.live.update_last_applied(LogId(14, 1))
    run.recorder.applied.acknowledge(durable=run.policy == "always")
    run.synced(run.live.save_hard_state)
    run.snapshot()
    run.apply(1)
    metadata = run.live.snapshot_metadata
    assert metadata is not None
    run.live.persist_last_snapshot_metadata(metadata)
    run.live.update_last_snapshot_metadata(metadata)
    run.synced(run.live.stop)
    run.live.start()
    run.apply(2)
    run.close()


def policies(run: Run) -> None:
    """Opened under one policy after the other: the promise is the one of the newest."""
    own = run.policy
    for policy in (own, *POLICIES, own):
        run.policy = policy
        run.open()
        run.apply(3)
        run.close()
    run.open()
    run.apply(2)


def large(run: Run) -> None:
    """Chunks of many sectors, and an image of some."""
    run.open()
    run.chunk(14)
    run.chunk(14)
    run.apply(1)
    run.checkpoint()
    run.chunk(14)


def killed(run: Run) -> None:
    """Killed again and again; the page cache survives, so what is found may not be synced yet."""
    run.segment_bytes_max = SMALL_SEGMENT_BYTES
    recorder = run.recorder
    for after, work in (
        (3, lambda: run.apply(3)),
        (9, lambda: run.apply(3)),
        (14, lambda: run.apply(6)),
        (17, lambda: (run.apply(4), run.checkpoint())),
        (19, lambda: (run.apply(4), run.checkpoint())),
        (16, lambda: (run.apply(1), run.snapshot())),
        (24, lambda: (run.apply(1), run.snapshot(), run.apply(2))),
        (12, lambda: (run.apply(1), run.install(3))),
        (18, lambda: (run.apply(1), run.install(3))),
        (22, lambda: (run.apply(1), run.install(3))),
    ):
        recorder.kill_at = recorder.steps + after
        run.until_killed(lambda work=work: (run.open(), work()))
    run.open()
    run.apply(2)


def torn(run: Run) -> None:
    """A log with a torn tail is mended: also a crash in that loses nothing more."""
    run.open()
    run.apply(6)
    disk = run.recorder.disk
    newest = max(path for path in disk.files() if path.suffix == ".wal")
    disk.overwrite(newest, disk.content(newest)[:-60])
    run.recorder.forget(run.index)
    run.open()
    run.apply(5)
    run.idle()
    run.chunk(4)


WORKLOADS: Final[dict[str, Callable[[Run], None]]] = {
    work.__name__: work
    for work in (
        entries,
        rotation,
        checkpoints,
        background_checkpoints,
        snapshots,
        background_snapshots,
        installs,
        background_installs,
        resets,
        bookkeeping,
        policies,
        large,
        killed,
        torn,
    )
}
