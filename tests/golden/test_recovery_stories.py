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
        # And those that the exploration of crash states (test_crash_states.py) made worth a name.
        "grown_tail",
        "lost_segment_name",
        "interrupted_checkpoint",
        "interrupted_install",
        "interrupted_reset",
        "interrupted_segment",
        "killed_then_power_lost",
    }


def test_recording_writes_what_a_story_prints_and_keeps_the_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = tmp_path / "story.txt"
    story.write_text("# Why.\nput a 1\nreopen\nkeys\n---\nsomething else\n")
    with pytest.raises(AssertionError, match="GOLDEN_UPDATE"):
        check_script(story)
    monkeypatch.setenv("GOLDEN_UPDATE", "1")
    check_script(story)
    monkeypatch.delenv("GOLDEN_UPDATE")
    check_script(story)
    assert story.read_text() == (
        "# Why.\nput a 1\nreopen\nkeys\n---\n"
        "recovered 1@1 from no checkpoint and 1 frames\n1@1: a=1\n"
    )
