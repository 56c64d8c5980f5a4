"""The write-ahead log: frames reach it before memory changes.

    wal/0000000000000004.wal   sealed: synced whole, only read again by recovery
    wal/0000000000000005.wal   newest: grows at its end

    append(frames) = one write of all of them, then a sync if the policy says so:
      always      after every append: what `append` returned for is on the disk
      interval    when interval_ms have passed since the last one (here or in `poll`)
      checkpoint  only when a segment is sealed, at flush and at close: for a machine whose
                  entries are durable elsewhere (Raft's journal). So that sealing does not hold
                  its owner up for a whole segment, `poll` has a thread sync ahead of it

Invariants: sequences rise by one; a segment is synced before the next is made; no frame claims
more synced bytes than there were; a sync that returned is recorded in the next frame, or in a
mark once the log falls idle. A write that raised leaves the end of the file unknown: the owner
stops and recovery finds it.

Crash: see segment.py for what may be missing, recovery.py for what is done about it.

What it does not do: read (recovery.py), decide when to cut (machine.py), know what a payload is.
Used by one thread; the one that syncs ahead touches only the file, and is waited for before the
file is closed.

Proved by: tests/statemachine/test_wal.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from statemachine.errors import Rejected
from statemachine.frame import KIND_MARK, encode_frame
from statemachine.fs import FileSystem, LogFile
from statemachine.job import Check, Job
from statemachine.paths import Paths, segment_sequence
from statemachine.segment import POLICIES, SEGMENT_HEADER_BYTES, WAL_MAGIC, segment_header

__all__ = ["Wal", "WalConfig", "WalFrame"]

_MIB: Final = 1024 * 1024
_AHEAD_BYTES: Final = 4 * _MIB
"""Under `checkpoint`: once this much is not synced, a thread syncs it."""

WalFrame = tuple[int, int, int, bytes]
"""(kind, index, term, payload): what an owner appends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalConfig:
    """[wal]: how writes reach the disk.

    Raises: Rejected on a value that makes no sense.
    """

    sync: Literal["always", "interval", "checkpoint"] = "always"
    """always: an fdatasync per chunk. interval: power loss costs up to interval_ms of writes.
    checkpoint: for a machine under Raft, whose journal already holds every entry."""

    interval_ms: int = 100
    """With sync = interval: the longest a write waits for its fdatasync."""

    segment_bytes_max: int = 64 * _MIB
    """Start a new segment after this many bytes. Soft: a chunk is never split. Smaller segments
    free space sooner after a checkpoint and cost two fsyncs each."""

    def __post_init__(self) -> None:
        if self.sync not in POLICIES:
            raise Rejected(f"wal.sync is {self.sync!r}: it must be one of {', '.join(POLICIES)}")
        if self.interval_ms < 1:
            raise Rejected(f"wal.interval_ms is {self.interval_ms}: it must be >= 1")
        if self.segment_bytes_max < SEGMENT_HEADER_BYTES:
            raise Rejected(
                f"wal.segment_bytes_max is {self.segment_bytes_max}: "
                f"it must be >= {SEGMENT_HEADER_BYTES}"
            )


class Wal:
    """The segments of one log, open at the end.

    Args:
        monotonic: seconds; asked only under sync = interval.
        newest: sequence of the segment to go on in; 0 when there is none.
    """

    def __init__(
        self,
        disk: FileSystem,
        paths: Paths,
        config: WalConfig,
        monotonic: Callable[[], float],
        newest: int,
    ) -> None:
        self._disk = disk
        self._paths = paths
        self._config = config
        self._monotonic = monotonic
        self._policy = POLICIES.index(config.sync)
        self._always = config.sync == "always"
        self._synced_at_s = monotonic()
        self.sequence = newest
        """Of the segment that grows."""
        self.appended_bytes = 0
        """Bytes of all frames that this object wrote, marks included."""
        self._log: LogFile | None = None
        self._ahead: Job[int] | None = None
        self._durable_bytes = 0
        """What of the newest segment is known to be synced."""
        self._recorded_bytes = 0
        """The part of it that is also written down in some frame, or needs no record."""
        self._idle_at_bytes = 0
        """The end of a mark that records everything before it; nothing follows yet."""
        self._quiet = True
        """Nothing was appended since the last poll."""

    @property
    def durable_bytes(self) -> int:
        """How many bytes of the newest segment are known to be synced."""
        return self._durable_bytes

    @property
    def size_bytes(self) -> int:
        """The size of the newest segment."""
        return self._log.size_bytes if self._log is not None else 0

    def resume(self, good_bytes: int, recorded_bytes: int) -> None:
        """Go on at the end of the newest segment, which recovery has read.

        Cuts what is behind `good_bytes`, and syncs all before it: what was read may still have
        been on its way to the disk, and the machine is about to answer from it.
        """
        log = self._disk.open_log(self._paths.segment(self.sequence), create=False)
        if log.size_bytes > good_bytes:
            log.truncate(good_bytes)
        log.sync()
        self._disk.sync_dir(self._paths.wal)
        self._log = log
        self._durable_bytes = good_bytes
        self._recorded_bytes = max(recorded_bytes, SEGMENT_HEADER_BYTES)

    def append(self, frames: Sequence[WalFrame]) -> None:
        """Write all frames with one write; under `always` they are on the disk on return.

        Raises: DiskFailed; the log must not be used any more then.
        """
        log = self._room(frames[0][1])
        durable_bytes = self._durable_bytes
        buffers: list[bytes] = []
        for kind, index, term, payload in frames:
            buffers += encode_frame(kind, index, term, durable_bytes, payload)
        self.appended_bytes += log.write(buffers)
        self._written(durable_bytes)

    def append_one(self, kind: int, index: int, term: int, payload: bytes) -> None:
        """`append` of one frame: the way of every batch under Raft, so without the lists."""
        log = self._room(index)
        durable_bytes = self._durable_bytes
        self.appended_bytes += log.write(encode_frame(kind, index, term, durable_bytes, payload))
        self._written(durable_bytes)

    def _room(self, index: int) -> LogFile:
        log = self._log
        if log is None or log.size_bytes >= self._config.segment_bytes_max:
            self.rotate(index)
            log = self._open_log()
        return log

    def _written(self, recorded_bytes: int) -> None:
        self._recorded_bytes = recorded_bytes
        self._quiet = False
        if self._always or (self._policy == 1 and self._interval_passed()):
            self.sync()

    def rotate(self, first_index: int) -> int:
        """Seal the newest segment and start the next; return its sequence.

        Args:
            first_index: no later frame has a lower index.
        """
        # 1 sync the old file, 2 write the new header, 3 fsync it, 4 fsync the directory, 5 only
        # then write frames. Crash before 1: the old one is the newest, torn at worst. Before 4:
        # the new one is missing, or torn with nothing in it. So only the newest can be torn.
        if self._log is not None:
            self._end_ahead()
            self.sync()
            self._log.close()
        sequence = self.sequence + 1
        log = self._disk.open_log(self._paths.segment(sequence), create=True)
        log.write((segment_header(WAL_MAGIC, self._policy, sequence, first_index),))
        log.sync()
        self._disk.sync_dir(self._paths.wal)
        self._log = log
        self.sequence = sequence
        self._durable_bytes = self._recorded_bytes = SEGMENT_HEADER_BYTES
        return sequence

    def sync(self) -> None:
        """Return when everything appended is on the disk."""
        log = self._open_log()
        if self._durable_bytes != log.size_bytes:
            log.sync()
            self._durable_bytes = log.size_bytes
        if self._policy == 1:
            self._synced_at_s = self._monotonic()

    def record(self) -> None:
        """Write down how far the log is synced, if no frame says so yet.

        The mark itself is not synced: losing it loses a proof, not an entry.
        """
        log = self._open_log()
        if self._recorded_bytes == self._durable_bytes or self._idle_at_bytes == log.size_bytes:
            return
        durable_bytes = self._durable_bytes
        self.appended_bytes += log.write(encode_frame(KIND_MARK, 0, 0, durable_bytes, b""))
        self._recorded_bytes = durable_bytes
        # Everything before this mark is synced: every append records what was synced before it,
        # so there was none since. A mark needs no mark of its own, or an idle log would grow.
        self._idle_at_bytes = log.size_bytes

    def poll(self) -> None:
        """To be called from a timer: the overdue sync of `interval`, the mark of an idle log."""
        if self._log is None:
            return
        if self._policy == 1 and self._interval_passed():
            self.sync()
        if self._policy == 2:
            self._sync_ahead(self._log)
        if self._quiet:
            self.record()
        self._quiet = True

    def _sync_ahead(self, log: LogFile) -> None:
        if self._ahead is not None and self._ahead.running:
            return
        self._end_ahead()
        size_bytes = log.size_bytes
        if size_bytes - self._durable_bytes >= _AHEAD_BYTES:

            def work(_: Check) -> int:
                log.sync()
                return size_bytes

            self._ahead = Job("wal-sync-ahead", work)

    def _end_ahead(self) -> None:
        """Wait for the sync ahead, if one is under way, and believe it."""
        job, self._ahead = self._ahead, None
        if job is not None:
            self._durable_bytes = max(self._durable_bytes, job.wait() or 0)

    def _interval_passed(self) -> bool:
        return (self._monotonic() - self._synced_at_s) * 1000 >= self._config.interval_ms

    def cut(self, sequence: int) -> None:
        """Remove the segments below `sequence`: a durable checkpoint holds what they hold."""
        # Oldest first: after a crash in between, what is left is still without gaps.
        removed = False
        for name in self._disk.list_dir(self._paths.wal):
            found = segment_sequence(name)
            if found is not None and found < sequence:
                self._disk.unlink(self._paths.wal / name)
                removed = True
        if removed:
            self._disk.sync_dir(self._paths.wal)

    def close(self) -> None:
        """Close the file as it is; nothing is synced or written. Closing twice is harmless."""
        if self._ahead is not None:
            self._ahead.cancel()
        if self._log is not None:
            self._log.close()

    def _open_log(self) -> LogFile:
        log = self._log
        assert log is not None, "resume or rotate comes first"
        return log
