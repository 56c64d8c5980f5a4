"""The WAL's thread under `checkpoint`: what it syncs and makes while the owner goes on appending.

    owner                                thread
    begin(newest)      ------------->    1 sync the segments left behind, 2 sync the newest,
    append, append ...                   3 make the next: a name, durable, and no byte in it
    poll / wait        <-------------    how much of the newest is durable now
    take_spare, leave(old)               the next segment, entered without waiting

Invariants: one round at a time; a segment that is left behind stays open until a round that began
afterwards has synced it; what a round reports was appended before it began.

A crash may leave the empty next segment: recovery removes it. An error in a round reaches the owner
at its next `poll` or `wait`, as Fatal. What is not done here: no byte is written (wal.py).

Proved by: tests/statemachine/test_wal.py, tests/statemachine/test_background.py
"""

from __future__ import annotations

from dataclasses import dataclass

from statemachine.fs import FileSystem, LogFile
from statemachine.job import Check, Job
from statemachine.paths import Paths

__all__ = ["Tended", "Tender"]


@dataclass(frozen=True, slots=True)
class Tended:
    """What a round has done."""

    sequence: int
    durable_bytes: int
    """So much of that segment is synced, and all before it whole."""


class Tender:
    """Used by the owner's thread."""

    def __init__(self, disk: FileSystem, paths: Paths) -> None:
        self._disk = disk
        self._paths = paths
        self._left: list[LogFile] = []
        self._spare: LogFile | None = None
        self._job: Job[tuple[Tended, int, LogFile | None]] | None = None

    @property
    def busy(self) -> bool:
        """Whether a round is under way."""
        return self._job is not None

    @property
    def is_behind(self) -> bool:
        """Whether a segment that was left behind may not be synced."""
        return bool(self._left)

    @property
    def has_spare(self) -> bool:
        """Whether the next segment is there."""
        return self._spare is not None

    def begin(self, newest: LogFile, sequence: int) -> None:
        """Start a round; none may be under way."""
        assert self._job is None
        left, size_bytes, wanted = list(self._left), newest.size_bytes, self._spare is None
        # The thread must not hold this object, or a forgotten WAL would never end it.
        disk, paths = self._disk, self._paths

        def work(_: Check) -> tuple[Tended, int, LogFile | None]:
            for each in left:
                each.sync()
            newest.sync()
            spare = None
            if wanted:
                spare = disk.open_log(paths.segment(sequence + 1), create=True)
                disk.sync_dir(paths.wal)
            return Tended(sequence, size_bytes), len(left), spare

        self._job = Job("trimaran-wal", work)

    def poll(self) -> Tended | None:
        """What came of the round, if it has ended. Raises: Fatal when it failed."""
        return None if self._job is None or self._job.running else self.wait()

    def wait(self) -> Tended | None:
        """The same, waiting for its end."""
        job, self._job = self._job, None
        done = job.wait() if job is not None else None
        if done is None:
            return None
        tended, synced_count, spare = done
        for _ in range(synced_count):
            self._left.pop(0).close()
        self._spare = spare or self._spare
        return tended

    def take_spare(self) -> LogFile | None:
        """The next segment, which is the caller's now; None: it is not there yet."""
        spare, self._spare = self._spare, None
        return spare

    def leave(self, log: LogFile) -> None:
        """Nothing is appended to `log` any more; it is not synced yet."""
        self._left.append(log)

    def sync_left(self) -> None:
        """Sync what was left behind, now. No round may be under way."""
        assert self._job is None
        while self._left:
            self._left[0].sync()
            self._left.pop(0).close()

    def close(self) -> None:
        """End the round, close the files. Closing twice is harmless."""
        if self._job is not None:
            self._job.cancel()
        for log in (*self._left, self._spare):
            if log is not None:
                log.close()
