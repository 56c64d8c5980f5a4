"""Errors, sorted by what the caller may do next.

    KVError
      Rejected        wrong on every replica alike; counts as applied; do not retry
      Unavailable     certainly not applied; safe to retry, here or elsewhere
      OutcomeUnknown  proposed, answer lost; retry only what is idempotent
      Fatal           this replica cannot vouch for its data: stop, never answer
        Corrupt         bytes on disk are not the bytes that were promised
        DiskFailed      a write, fsync or rename failed: the page cache is not to be believed
        Unsupported     written by a newer version: not damage, but not readable either
        DirectoryInUse  another process owns the data directory

Nothing else is raised on purpose. `Rejected` leaves `apply` as a *value* (see
store.Refusal), never as an exception: what one replica refuses, all refuse, and
the entry counts as applied. Foreign errors are translated once, at the door
where they come in (`raise DiskFailed(...) from error`).

Proved by: tests/statemachine/test_errors.py
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "Corrupt",
    "DirectoryInUse",
    "DiskFailed",
    "Fatal",
    "KVError",
    "OutcomeUnknown",
    "Rejected",
    "Unavailable",
    "Unsupported",
]


class KVError(Exception):
    """The root of everything that Trimaran raises on purpose."""


class Rejected(KVError):
    """Wrong on every replica alike. Counts as applied; do not retry."""


class Unavailable(KVError):
    """Certainly not applied. Safe to retry, here or on another node."""


class OutcomeUnknown(KVError):
    """Proposed, but the answer was lost: it may or may not have been applied."""


class Fatal(KVError):
    """This replica cannot vouch for its data. The process stops with exit code 70."""


class Corrupt(Fatal):
    """Bytes below the durable mark do not check out.

    Args:
        path: the damaged file.
        offset_bytes: where the first bad byte range starts.
        reason: what does not fit, in a few words.
    """

    def __init__(self, path: Path, offset_bytes: int, reason: str) -> None:
        super().__init__(f"{path} at byte {offset_bytes}: {reason}")
        self.path = path
        self.offset_bytes = offset_bytes
        self.reason = reason


class DiskFailed(Fatal):
    """A disk operation failed. What it was meant to make durable may be gone."""

    def __init__(self, path: Path, operation: str, reason: str) -> None:
        super().__init__(f"{operation} failed on {path}: {reason}")
        self.path = path
        self.operation = operation
        self.reason = reason


class Unsupported(Fatal):
    """The file is sound, but of a version that this program does not know."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        way_out = "run a newer version on this data directory"
        if found < known:
            way_out = "run the version that wrote it, or start with an empty directory"
        super().__init__(
            f"{path} has format version {found}; this program reads version {known}: {way_out}"
        )
        self.path = path


class DirectoryInUse(Fatal):
    """Another process holds the LOCK of this data directory."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(f"{path} is in use by {owner}")
        self.path = path
