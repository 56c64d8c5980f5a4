"""One machine on a recorded disk, and the words that workloads are made of.

    Run          does something, and tells the recorder what of it is durable from then on
    running      a Run whose background threads take their steps when it says so (hand_driven.py),
                 so a workload is the same in every run

Only the public surface of FileStateMachine is used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from statemachine import (
    CheckpointConfig,
    Fatal,
    FileStateMachine,
    FileSystem,
    SnapshotMetadata,
    WalConfig,
)
from tests.statemachine.crash_explorer import judged
from tests.statemachine.crash_recorder import Killed, Recorder
from tests.statemachine.machines import applied, entry, machine_on
from tests.support.crash import MemoryDisk
from tests.support.hand_driven import HandDriven, hand_driven

__all__ = ["POLICIES", "SMALL_SEGMENT_BYTES", "Run", "options_for", "running"]

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

    def receive(self, last: int) -> tuple[SnapshotMetadata, Path]:
        """A snapshot of entry `last` comes in from another machine."""
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
            return metadata, receiver.finish()

    def install(self, ahead: int) -> None:
        """A snapshot from another machine, that many entries ahead, comes in and is installed."""
        last = self.index + ahead
        metadata, directory = self.receive(last)
        self.recorder.applied.begin(last)
        self.recorder.begin_snapshot(last)
        self.live.apply_snapshot_from_file(metadata, directory)
        self.recorder.applied.acknowledge(durable=True)
        self.recorder.acknowledge_snapshot()

    def install_in_background(self, ahead: int, paces: tuple[int, ...]) -> None:
        """The same, while the old state goes on: steps of the install, an entry, and so on."""
        last = self.index + ahead
        metadata, directory = self.receive(last)
        # It may be there from now on, whatever is applied meanwhile.
        self.recorder.begin_snapshot(last)
        self.recorder.applied.begin(last)
        for index in range(self.index + 1, last):
            self.recorder.applied.values.insert(-1, index)
        assert self.live.start_install(metadata, directory)
        for pace in paces:
            self.hands.step(pace)
            applied(self.live, self.index + 1, self.index + 1)
            self.live.poll_background()
        self.hands.finish()
        while self.live.poll_background():
            pass
        assert self.index == last
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


@contextlib.contextmanager
def running(recorder: Recorder, policy: str) -> Iterator[Run]:
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
