"""[wal]: the three ways to sync a log, and what each costs.

    always      after every append: what `append` returned for is on the disk.
                Price: an fdatasync a chunk (0.1-0.3 ms on a good disk)
    interval    when interval_ms have passed since the last one (at an append, or in `poll`).
                Price: a power cut loses up to interval_ms of what was acknowledged
    checkpoint  at flush, close and in the background: for a machine whose entries are durable
                elsewhere (Raft's journal).
                Price: a power cut loses what was not synced yet

A kill -9 loses nothing under any of them: what was written is in the page cache.

Proved by: tests/statemachine/test_wal.py, tests/statemachine/test_crash.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from statemachine.errors import Rejected
from statemachine.segment import POLICIES, SEGMENT_HEADER_BYTES

__all__ = ["WalConfig"]

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WalConfig:
    """[wal]: how writes reach the disk.

    Raises: Rejected on a value that makes no sense.
    """

    sync: Literal["always", "interval", "checkpoint"] = "always"
    """always: an fdatasync per chunk. interval: power loss costs up to interval_ms of writes.
    checkpoint: for a machine under Raft, whose journal already holds every entry: power loss
    costs what a background thread has not synced yet, and no write ever waits for the disk."""

    interval_ms: int = 100
    """With sync = interval: the longest a write waits for its fdatasync."""

    segment_bytes_max: int = 64 * _MIB
    """Start a new segment after this many bytes. Soft: a chunk is never split, and under
    `checkpoint` the old one grows on while the next is made. Smaller segments free space sooner
    after a checkpoint and cost two fsyncs each."""

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
