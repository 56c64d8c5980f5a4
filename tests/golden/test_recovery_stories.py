"""Every story of tests/golden/recovery, one by one: each crash shape has a name and one script."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.run import check_script

STORIES = sorted((Path(__file__).parent / "recovery").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_the_story_ends_as_it_is_written(path: Path) -> None:
    check_script(path)


def test_every_crash_shape_has_its_story() -> None:
    assert {path.stem for path in STORIES} >= {
        "torn_tail",
        "torn_middle",
        "flipped_bit",
        "lost_fsync",
        "rename_without_directory_fsync",
        "checkpoint_without_wal",
        "wal_ahead_of_checkpoint",
        "twice_applied",
    }
