"""The power switch of the tests: it must cut off everything that was not synced, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from statemachine.fs import replace_file
from tests.support.power import RecordingDisk, cut_power


@pytest.fixture
def places(tmp_path: Path) -> tuple[RecordingDisk, Path, Path]:
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    disk = RecordingDisk(mirror)
    disk.make_dir(data)
    disk.make_dir(data / "journal")
    return disk, data, mirror


Places = tuple[RecordingDisk, Path, Path]


def test_bytes_that_were_not_synced_are_gone(places: Places) -> None:
    disk, data, mirror = places
    file = disk.open_log(data / "journal" / "log", create=True)
    disk.sync_dir(data / "journal")
    file.write([b"synced"])
    file.sync()
    file.write([b" and lost"])
    assert cut_power(data, mirror) == len(" and lost")
    assert (data / "journal" / "log").read_bytes() == b"synced"


def test_names_that_were_not_synced_are_gone_and_removed_ones_are_back(places: Places) -> None:
    disk, data, mirror = places
    disk.write_new(data / "old", [b"old"])
    disk.sync_dir(data)
    disk.write_new(data / "new", [b"new"])
    disk.unlink(data / "old")
    cut_power(data, mirror)
    assert sorted(path.name for path in data.iterdir()) == ["journal", "old"]
    assert (data / "old").read_bytes() == b"old"


def test_a_rename_that_was_not_synced_leaves_the_old_file(places: Places) -> None:
    disk, data, mirror = places
    replace_file(disk, data / "file", [b"one"])
    disk.write_new(data / "file.tmp", [b"two"])
    disk.rename(data / "file.tmp", data / "file")
    cut_power(data, mirror)
    assert (data / "file").read_bytes() == b"one"
    again = RecordingDisk(mirror)
    again.make_dir(data)
    replace_file(again, data / "file", [b"three"])
    cut_power(data, mirror)
    assert (data / "file").read_bytes() == b"three"


def test_a_file_of_a_reused_inode_is_not_taken_for_the_old_one(places: Places) -> None:
    disk, data, mirror = places
    for number in range(50):
        disk.write_new(data / f"{number}", [b"x" * 1_000])
        disk.unlink(data / f"{number}")
    file = disk.open_log(data / "new", create=True)
    disk.sync_dir(data)
    file.write([b"never synced"])
    cut_power(data, mirror)
    assert (data / "new").read_bytes() == b""
