"""What a machine may be doing when it dies: one function for each workload.

    Run         one machine on a recorded disk, and words that do something and say what of it is
                durable from then on
    WORKLOADS   name -> function of a Run; run under each sync policy by `record`

The background threads of the machine take their steps when a workload says so (hand_driven.py),
so a workload is the same in every run. Only the public surface of FileStateMachine is used.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from statemachine import CheckpointConfig, Fatal, FileStateMachine, FileSystem, LogId, WalConfig
from tests.statemachine.crash_explorer import Killed, Recorder, judged
from tests.statemachine.machines import applied, entry, machine_on
from tests.support.crash import MemoryDisk
from tests.support.hand_driven import HandDriven, hand_driven

__all__ = ["POLICIES", "WORKLOADS", "Run", "options_for", "record", "record_killed"]

POLICIES: Final = ("always", "interval", "checkpoint")
INTERVAL_MS: Final = 1_000
SEGMENT_BYTES: Final = 1 << 20
SMALL_SEGMENT_BYTES: Final = 500


class Run:
    """See the top of the file."""

    def __init__(
        self, recorder: Recorder, policy: str, hands: HandDriven, door: FileSystem | None = None
    ) -> None:
        self.recorder = recorder
        self.door = door or recorder.disk
        """What the machine sees of the disk: in between, calls may fail."""
        self.policy = policy
        self.hands = hands
        self.now_s = 0.0
        self.segment_bytes_max = SEGMENT_BYTES
        self.machine: FileStateMachine | None = None
        self.beside = False
        """Whether a call is under way that is not the machine's own: a receiver's, a reader's."""

    def open(self) -> None:
        """A machine on the disk as it is; what it answers from is durable."""
        self.machine = None
        options = options_for(self.policy, self.segment_bytes_max) | {
            "monotonic": lambda: self.now_s,
            "lock": False,  # The one before was killed; its lock may still be in memory.
        }
        self.machine = machine_on(self.door, **options)
        with self.beside_it():
            self.recorder.found(judged(self.machine))

    def until_killed(self, work: Callable[[], object]) -> bool:
        """Work until the process is killed, if it is; the next one may `open` then."""
        try:
            work()
        except (Killed, Fatal):  # Fatal: a thread was killed first, and the owner heard of it.
            if not self.recorder.dead:
                raise
        self.hands.finish()
        was_killed = self.recorder.dead
        self.machine = None
        self.recorder.buried()
        return was_killed

    @contextlib.contextmanager
    def beside_it(self) -> Iterator[None]:
        self.beside = True
        yield
        self.beside = False  # Not when it failed.

    @property
    def live(self) -> FileStateMachine:
        assert self.machine is not None, "open comes first"
        return self.machine

    @property
    def index(self) -> int:
        return self.live.last_applied.index

    def apply(self, count: int, pace: int = 0) -> None:
        """Entry by entry. After each a thread that is under way takes `pace` steps."""
        for index in range(self.index + 1, self.index + count + 1):
            self.recorder.applied.begin(index)
            applied(self.live, index, index)
            self.recorder.applied.acknowledge(durable=self.policy == "always")
            self.hands.step(pace)

    def chunk(self, count: int) -> None:
        entries = [entry(index) for index in range(self.index + 1, self.index + count + 1)]
        for each in entries:
            self.recorder.applied.begin(each.index)
        self.live.apply_chunk(entries)
        self.recorder.applied.acknowledge(durable=self.policy == "always")

    def synced(self, call: Callable[[], object]) -> None:
        """A call that makes durable what was applied before it."""
        call()
        self.recorder.applied.acknowledge(durable=True)

    def flush(self) -> None:
        self.synced(self.live.flush)

    def checkpoint(self) -> None:
        self.synced(self.live.checkpoint)

    def snapshot(self) -> None:
        self.recorder.begin_snapshot(self.index)
        self.synced(self.live.generate_snapshot)
        self.recorder.acknowledge_snapshot()

    def idle(self) -> None:
        """The timer of a quiet machine: the log falls idle and is marked."""
        self.live.poll_background()
        self.live.poll_background()

    def interval_passes(self) -> None:
        """Under `interval` the timer syncs what is overdue."""
        self.now_s += INTERVAL_MS / 1000
        self.live.poll_background()
        self.recorder.applied.acknowledge(durable=self.policy != "checkpoint")

    def background(self, paces: tuple[int, ...], *, snapshot: bool = False) -> None:
        """An image in the background: it takes some steps, an entry is applied, and so on."""
        before = self.index
        if snapshot:
            self.recorder.begin_snapshot(before)
            assert self.live.start_snapshot()
        else:
            assert self.live.flush_async()
        for pace in paces:
            self.hands.step(pace)
            self.apply(1)
            self.live.poll_background()
        self.hands.finish()
        while self.live.poll_background():
            pass
        if snapshot:
            self.recorder.acknowledge_snapshot()
        track = self.recorder.applied
        track.durable = max(track.durable, track.values.index(before))

    def install(self, ahead: int) -> None:
        """A snapshot from another machine, that many entries ahead, comes in and is installed."""
        last = self.index + ahead
        source = machine_on(MemoryDisk())
        applied(source, 1, last)
        metadata = source.generate_snapshot()
        opened = source.open_snapshot()
        assert opened is not None
        with self.beside_it():
            receiver = self.live.snapshot_receiver()
            receiver.begin(metadata)
            while chunk := opened[1].read(150):
                receiver.write(chunk)
            directory = receiver.finish()
        self.recorder.applied.begin(last)
        self.recorder.begin_snapshot(last)
        self.live.apply_snapshot_from_file(metadata, directory)
        self.recorder.applied.acknowledge(durable=True)
        self.recorder.acknowledge_snapshot()

    def reset(self) -> None:
        # Snapshots go one by one: on the way an older one that was kept may be the last.
        for older in sorted(set(self.recorder.snapshots.values)):
            if 0 < older < self.recorder.snapshots.values[-1]:
                self.recorder.begin_snapshot(older)
        self.recorder.applied.begin(0)
        self.recorder.begin_snapshot(0)
        self.live.reset()
        self.recorder.applied.acknowledge(durable=True)
        self.recorder.acknowledge_snapshot()

    def close(self) -> None:
        self.synced(self.live.close)


def options_for(policy: str, segment_bytes_max: int = SEGMENT_BYTES) -> dict[str, Any]:
    """How the machines of a workload are opened, by it and after a crash."""
    return {
        "wal": WalConfig(
            sync=policy,  # type: ignore[arg-type]
            interval_ms=INTERVAL_MS,
            segment_bytes_max=segment_bytes_max,
        ),
        "checkpoint": CheckpointConfig(),
        "monotonic": lambda: 0.0,
    }


def record(
    name: str, policy: str, disk: MemoryDisk | None = None
) -> tuple[Recorder, dict[str, Any]]:
    """Run a workload; what it did, and the options to open its states with."""
    recorder = Recorder(disk)
    with _running(recorder, policy) as run:
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
    with _running(recorder, policy) as run:
        recorder.kill_at = kill_at
        if not run.until_killed(lambda: WORKLOADS[name](run)):
            return None
        recorder.moments.clear()
        run.open()
        run.apply(2)
        run.flush()
    return recorder, options_for(policy, run.segment_bytes_max)


@contextlib.contextmanager
def _running(recorder: Recorder, policy: str) -> Iterator[Run]:
    with hand_driven(recorder.disk) as hands, _threads_have_work():

        def before_step() -> None:
            hands.before_step()
            recorder.check_alive()

        recorder.disk.before_step = before_step
        yield Run(recorder, policy, hands)


@contextlib.contextmanager
def _threads_have_work() -> Iterator[None]:
    """A thread that syncs ahead begins at some MiB: here at some bytes. If it is still there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("statemachine.wal._AHEAD_BYTES", 150, raising=False)
        yield


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
        resets,
        bookkeeping,
        policies,
        large,
        killed,
        torn,
    )
}
