"""Four families, and what their messages carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from statemachine import errors
from statemachine.errors import (
    Corrupt,
    DirectoryInUse,
    DiskFailed,
    Fatal,
    KVError,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    Unsupported,
)


def test_every_error_belongs_to_exactly_one_family() -> None:
    families = (Rejected, Unavailable, OutcomeUnknown, Fatal)
    for name in errors.__all__:
        error = getattr(errors, name)
        if error is not KVError:
            assert sum(issubclass(error, family) for family in families) == 1, name
        assert issubclass(error, KVError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Corrupt(Path("/d/f.wal"), 64, "no"), "/d/f.wal at byte 64: no"),
        (DiskFailed(Path("/d/f"), "fsync", "EIO"), "fsync failed on /d/f: EIO"),
        (
            Unsupported(Path("/d/f"), 9, 1),
            "/d/f has format version 9; this program reads version 1",
        ),
        (DirectoryInUse(Path("/d"), "process 7"), "/d is in use by process 7"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, KVError) else None,
)
def test_a_fatal_error_says_where_and_why(error: Fatal, text: str) -> None:
    assert text in str(error)
    assert error.path.is_relative_to("/d")  # type: ignore[attr-defined]
