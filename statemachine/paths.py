"""Names in the data directory of a state machine. No file is touched here.

    directory/
      LOCK                                held while a process has it open
      wal/0000000000000007.wal            segment 7 (segment.py)
      checkpoint/0000000000000007.img     image (image.py); replay goes on at segment 7
      snapshot/metadata.bin               what is known of the last snapshot
      snapshot/<index>@<term>/            snapshot.bin (an image) and metadata.bin
      snapshot/incoming.tmp/              one that is being received
      snapshot/installing.tmp/            one that was received and is being installed

Invariants: sequences have 16 digits, so names sort as they count. A name that ends in `.tmp` is
unfinished work and goes at boot. A checkpoint's number is the first segment that is replayed on
top of it, and the numbers only rise: the highest is the newest, whatever index it holds (after a
reset it holds 0).

Proved by: tests/statemachine/test_recovery.py, tests/statemachine/test_snapshot.py
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from statemachine.commands import LogId
from statemachine.fs import TEMPORARY_SUFFIX

__all__ = [
    "METADATA_NAME",
    "SNAPSHOT_NAME",
    "Paths",
    "checkpoint_sequence",
    "segment_name",
    "segment_sequence",
    "snapshot_place",
]

SNAPSHOT_NAME: Final = "snapshot.bin"
METADATA_NAME: Final = "metadata.bin"

_SEGMENT: Final = re.compile(r"([0-9]{16})\.wal")
_CHECKPOINT: Final = re.compile(r"([0-9]{16})\.img")
_SNAPSHOT: Final = re.compile(r"([0-9]{20})@([0-9]{20})")


@dataclass(frozen=True, slots=True)
class Paths:
    """The places below one data directory."""

    directory: Path

    @property
    def lock(self) -> Path:
        return self.directory / "LOCK"

    @property
    def wal(self) -> Path:
        return self.directory / "wal"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoint"

    @property
    def snapshots(self) -> Path:
        return self.directory / "snapshot"

    @property
    def snapshot_record(self) -> Path:
        return self.snapshots / METADATA_NAME

    @property
    def incoming(self) -> Path:
        return self.snapshots / f"incoming{TEMPORARY_SUFFIX}"

    @property
    def installing(self) -> Path:
        return self.snapshots / f"installing{TEMPORARY_SUFFIX}"

    def segment(self, sequence: int) -> Path:
        return self.wal / segment_name(sequence)

    def checkpoint(self, sequence: int) -> Path:
        return self.checkpoints / f"{sequence:016d}.img"

    def checkpoint_temporary(self, sequence: int) -> Path:
        return self.checkpoints / f"{sequence:016d}.img{TEMPORARY_SUFFIX}"

    def snapshot(self, last: LogId) -> Path:
        return self.snapshots / f"{last.index:020d}@{last.term:020d}"


def segment_name(sequence: int) -> str:
    """What a segment's file is called."""
    return f"{sequence:016d}.wal"


def segment_sequence(name: str) -> int | None:
    """The number in a segment's name; None when it is none."""
    match = _SEGMENT.fullmatch(name)
    return int(match[1]) if match else None


def checkpoint_sequence(name: str) -> int | None:
    """The number in a checkpoint's name; None when it is none."""
    match = _CHECKPOINT.fullmatch(name)
    return int(match[1]) if match else None


def snapshot_place(name: str) -> LogId | None:
    """The last included entry in a snapshot directory's name; None when it is none."""
    match = _SNAPSHOT.fullmatch(name)
    return LogId(index=int(match[1]), term=int(match[2])) if match else None
