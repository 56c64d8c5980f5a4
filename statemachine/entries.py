"""What is applied, and what is found at boot: plain values.

    Entry            one Raft entry for apply_chunk
    Scan             what a scan returns, and at which index it was true
    RecoveryReport   what constructing a machine found and did
    TornTail         the end of the log that a crash left unfinished

Proved by: tests/statemachine/test_machine.py, tests/statemachine/test_recovery.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from statemachine.commands import LogId, wrap_command
from statemachine.frame import KIND_BATCH, KIND_CONFIG, KIND_NOOP

__all__ = ["Entry", "RecoveryReport", "Scan", "TornTail"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One committed Raft entry. `payload` is a batch (commands.py) when kind is KIND_BATCH."""

    index: int
    term: int
    kind: int
    payload: bytes

    @staticmethod
    def noop(index: int, term: int) -> Entry:
        """A leader's first entry: it changes no key."""
        return Entry(index, term, KIND_NOOP, b"")

    @staticmethod
    def config(index: int, term: int, payload: bytes) -> Entry:
        """A membership entry: it changes no key."""
        return Entry(index, term, KIND_CONFIG, payload)

    @staticmethod
    def batch(index: int, term: int, payload: bytes) -> Entry:
        """A stamped batch."""
        return Entry(index, term, KIND_BATCH, payload)

    @staticmethod
    def command(index: int, term: int, write_command: bytes, now_ms: int = 0) -> Entry:
        """A bare WriteCommand, the seed's payload, as an anonymous batch."""
        return Entry(index, term, KIND_BATCH, wrap_command(write_command, now_ms))


@dataclass(frozen=True, slots=True)
class Scan:
    """Items in key order, as they were at `revision`, the last applied index."""

    revision: int
    items: Sequence[tuple[bytes, bytes]]
    more: bool
    """Whether the limit left some out."""


@dataclass(frozen=True, slots=True)
class TornTail:
    """Bytes at the end of the log that were never synced whole, and are gone now."""

    path: Path
    offset_bytes: int
    dropped_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What a machine found in its directory when it was constructed."""

    checkpoint: Path | None
    """The image that was loaded; None: there was none."""
    checkpoint_last: LogId
    """The last entry in that image."""
    frames_applied: int
    """Entries that were replayed from the WAL on top of it."""
    frames_skipped: int
    """Entries in the WAL that the image held already."""
    torn: TornTail | None
    """What a crash left at the end of the log; None: it ended cleanly."""
    removed: Sequence[str]
    """Unfinished and outdated files that were removed, by their path in the directory."""
