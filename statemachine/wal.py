"""The write-ahead log: frames reach it before memory changes.

    wal/0000000000000004.wal   left behind: only synced, once, and read again by recovery
    wal/0000000000000005.wal   newest: grows at its end
    wal/0000000000000006.wal   `checkpoint` only: the next one, made ahead: a name and nothing else

    append(frames) = one write of all of them, then a sync if the policy (wal_config.py) says so

Under `always` and `interval` a new segment is made when it is needed: the old one is synced first.
Under `checkpoint` no append and no rotation waits for the disk: a thread (tender.py) makes the next
segment ahead, syncs the one left behind, and the newest every few MiB or when the log falls idle.
Until then the new segment's frames carry durable = 0: "not even the one before is synced".

Invariants: sequences rise by one; no frame claims more synced bytes than there were, its own
segment's or those before; a sync that returned is recorded in the next frame, or in a mark once the
log falls idle. A write that raised leaves the end of the file unknown: the owner stops and
recovery finds it.

Crash: see segment.py for what may be missing, recovery.py for what is done about it.

What it does not do: read (recovery.py), decide when to cut (archive.py), know what a payload is.

Proved by: tests/statemachine/test_wal.py, tests/statemachine/test_background.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from statemachine.frame import KIND_MARK, encode_frame
from statemachine.fs import FileSystem, LogFile
from statemachine.paths import Paths
from statemachine.segment import (
    POLICIES,
    SEGMENT_HEADER_BYTES,
    WAL_MAGIC,
    segment_header,
    segment_salt,
)
from statemachine.tender import Tended, Tender
from statemachine.wal_config import WalConfig

__all__ = ["Wal", "WalFrame"]

_MIB: Final = 1024 * 1024
_AHEAD_BYTES: Final = 4 * _MIB
"""Under `checkpoint`: once this much is not synced, the thread syncs it."""
_WAIT_FACTOR: Final = 4
"""A segment may grow to so many times its bound while the next one is being made."""

WalFrame = tuple[int, int, int, bytes]
"""(kind, index, term, payload): what an owner appends."""


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
        self._ahead = config.sync == "checkpoint"
        self._synced_at_s = monotonic()
        self.sequence = newest
        """Of the segment that grows."""
        self.appended_bytes = 0
        """Bytes of all frames that this object wrote, marks included."""
        self._log: LogFile | None = None
        self._tender = Tender(disk, paths)
        self._salt = 0
        self._durable_bytes = 0
        """What of the newest segment is known to be synced; 0: not even those before it."""
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

    def resume(self, good_bytes: int, recorded_bytes: int, salt: int) -> None:
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
        self._salt = salt
        self._durable_bytes = good_bytes
        self._recorded_bytes = max(recorded_bytes, SEGMENT_HEADER_BYTES)

    def append(self, frames: Sequence[WalFrame]) -> None:
        """Write all frames with one write; under `always` they are on the disk on return.

        Raises: DiskFailed; the log must not be used any more then.
        """
        log = self._room(frames[0][1])
        durable_bytes, salt = self._durable_bytes, self._salt
        buffers: list[bytes] = []
        for kind, index, term, payload in frames:
            buffers += encode_frame(kind, index, term, durable_bytes, payload, salt)
        self.appended_bytes += log.write(buffers)
        self._written(durable_bytes)

    def append_one(self, kind: int, index: int, term: int, payload: bytes) -> None:
        """`append` of one frame: the way of every batch under Raft, so without the lists."""
        log = self._room(index)
        durable_bytes = self._durable_bytes
        frame = encode_frame(kind, index, term, durable_bytes, payload, self._salt)
        self.appended_bytes += log.write(frame)
        self._written(durable_bytes)

    def _room(self, index: int) -> LogFile:
        log = self._log
        if log is None or log.size_bytes >= self._config.segment_bytes_max:
            wait_at_bytes = _WAIT_FACTOR * self._config.segment_bytes_max
            if log is None or self.prepare() or log.size_bytes >= wait_at_bytes:
                self.rotate(index)
        return self._open_log()

    def _written(self, recorded_bytes: int) -> None:
        self._recorded_bytes = recorded_bytes
        self._quiet = False
        if self._always or (self._policy == 1 and self._interval_passed()):
            self.sync()

    def prepare(self) -> bool:
        """Whether `rotate` would wait for no more than it has to. If not, it soon will not."""
        if not self._ahead:
            return True
        self._believe(self._tender.poll())
        if not self._tender.has_spare and not self._tender.busy and self._log is not None:
            self._tender.begin(self._log, self.sequence)
        return self._tender.has_spare

    def rotate(self, first_index: int) -> int:
        """Go on in the next segment; return its sequence.

        Args:
            first_index: no later frame has a lower index.
        """
        if not self._tender.has_spare:
            self._believe(self._tender.wait())
        old, spare = self._log, self._tender.take_spare()
        if old is None or spare is None:
            return self._rotate_and_wait(first_index)
        # The old segment, the header and what follows it are synced by the thread. Until then
        # frames say so, by durable = 0: a crash may take the old one's tail and all of the new one.
        self._tender.leave(old)
        self._enter(spare, first_index, old.size_bytes)
        if not self._tender.busy:
            self._tender.begin(spare, self.sequence)
        return self.sequence

    def _believe(self, tended: Tended | None) -> None:
        if tended is not None and tended.sequence == self.sequence:
            self._durable_bytes = max(self._durable_bytes, tended.durable_bytes)

    def _rotate_and_wait(self, first_index: int) -> int:
        # 1 sync the old file, 2 create and write the header, 3 fsync it, 4 fsync the directory, 5
        # only then write frames. Crash before 1: the old one is the newest, torn at worst. Before
        # 4: the new one is missing, or torn with nothing in it. So only the newest can be torn.
        before_bytes = 0
        if self._log is not None:
            self.sync()
            before_bytes = self._log.size_bytes
            self._log.close()
        log = self._disk.open_log(self._paths.segment(self.sequence + 1), create=True)
        self._enter(log, first_index, before_bytes)
        log.sync()
        self._disk.sync_dir(self._paths.wal)
        self._durable_bytes = self._recorded_bytes = SEGMENT_HEADER_BYTES
        return self.sequence

    def _enter(self, log: LogFile, first_index: int, before_bytes: int) -> None:
        """Go on in this empty file; nothing of it is synced yet."""
        self.sequence += 1
        header = segment_header(WAL_MAGIC, self._policy, self.sequence, first_index, before_bytes)
        log.write((header,))
        self._log = log
        self._salt = segment_salt(header)
        self._durable_bytes = self._recorded_bytes = self._idle_at_bytes = 0

    def sync(self) -> None:
        """Return when everything appended is on the disk."""
        self._believe(self._tender.wait())
        self._tender.sync_left()
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
        self.appended_bytes += log.write(
            encode_frame(KIND_MARK, 0, 0, durable_bytes, b"", self._salt)
        )
        self._recorded_bytes = durable_bytes
        # Everything before this mark is synced. A mark needs no mark of its own, or an idle log
        # would grow.
        self._idle_at_bytes = log.size_bytes

    def poll(self) -> None:
        """To be called from a timer: the overdue sync of `interval`, the mark of an idle log."""
        if self._log is None:
            return
        if self._policy == 1 and self._interval_passed():
            self.sync()
        if self._ahead:
            self._believe(self._tender.poll())
            if not self._tender.busy and self._is_worth_syncing(self._log):
                self._tender.begin(self._log, self.sequence)
        if self._quiet:
            self.record()
        self._quiet = True

    def _is_worth_syncing(self, log: LogFile) -> bool:
        behind_bytes = log.size_bytes - self._durable_bytes
        idle = self._quiet and log.size_bytes != self._idle_at_bytes
        return self._tender.is_behind or behind_bytes >= (1 if idle else _AHEAD_BYTES)

    def _interval_passed(self) -> bool:
        return (self._monotonic() - self._synced_at_s) * 1000 >= self._config.interval_ms

    def close(self) -> None:
        """Close the files as they are; nothing is synced or written. Closing twice is harmless."""
        self._tender.close()
        if self._log is not None:
            self._log.close()

    def _open_log(self) -> LogFile:
        log = self._log
        assert log is not None, "resume or rotate comes first"
        return log
