"""The door to the disk; the same promises on the real disk and on the one of the crash tests."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from statemachine.errors import DirectoryInUse, DiskFailed
from statemachine.fs import Disk, FileSystem, replace_file
from tests.support.crash import Crash, MemoryDisk


@pytest.fixture(params=["Disk", "MemoryDisk"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> FileSystem:
    if request.param == "Disk":
        return Disk()
    memory = MemoryDisk()
    memory.make_dir(tmp_path)
    return memory


def test_a_log_grows_at_its_end_and_knows_its_size(disk: FileSystem, tmp_path: Path) -> None:
    log = disk.open_log(tmp_path / "log", create=True)
    assert log.write([b"ab", b"", b"cde"]) == 5
    log.sync()
    log.close()
    log = disk.open_log(tmp_path / "log", create=False)
    assert log.size_bytes == 5
    log.write((b"f",))
    log.truncate(3)
    assert log.size_bytes == 3
    log.write((b"XY",))
    log.close()
    log.close()
    assert disk.read_bytes(tmp_path / "log") == b"abcXY"
    assert disk.size_bytes(tmp_path / "log") == 5


def test_more_buffers_than_one_call_takes_are_written_in_order(
    disk: FileSystem, tmp_path: Path
) -> None:
    buffers = [b"%d," % number for number in range(3000)]
    log = disk.open_log(tmp_path / "log", create=True)
    assert log.write(buffers) == log.size_bytes == len(b"".join(buffers))
    assert disk.read_bytes(tmp_path / "log") == b"".join(buffers)


def test_a_write_that_the_kernel_takes_in_parts_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, buffers: real(fd, [b"".join(buffers)[:3]]))
    log = Disk().open_log(tmp_path / "log", create=True)
    log.write([b"abc", b"defg", b"h"])
    assert (tmp_path / "log").read_bytes() == b"abcdefgh"
    assert log.size_bytes == 8


def test_creating_what_is_there_and_opening_what_is_not_both_fail(
    disk: FileSystem, tmp_path: Path
) -> None:
    with pytest.raises(DiskFailed):
        disk.open_log(tmp_path / "log", create=False)
    disk.open_log(tmp_path / "log", create=True).close()
    with pytest.raises(DiskFailed):
        disk.open_log(tmp_path / "log", create=True)


def test_only_a_missing_file_passes_through_as_such(disk: FileSystem, tmp_path: Path) -> None:
    for read in (disk.read_bytes, disk.open_read):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")
    calls: list[Callable[[], Any]] = [
        lambda: disk.unlink(tmp_path / "none"),
        lambda: disk.rename(tmp_path / "none", tmp_path / "new"),
        lambda: disk.link(tmp_path / "none", tmp_path / "new"),
        lambda: disk.size_bytes(tmp_path / "none"),
        lambda: disk.list_dir(tmp_path / "none"),
        lambda: disk.sync_dir(tmp_path / "none"),
        lambda: disk.open_write(tmp_path / "none" / "file"),
        lambda: disk.write_new(tmp_path / "none" / "file", [b"x"]),
    ]
    for call in calls:
        with pytest.raises(DiskFailed) as caught:
            call()
        assert isinstance(caught.value.__cause__, OSError)


def test_an_open_file_is_read_on_after_its_name_is_gone(disk: FileSystem, tmp_path: Path) -> None:
    disk.write_new(tmp_path / "file", [b"hello ", b"world"])
    file = disk.open_read(tmp_path / "file")
    disk.unlink(tmp_path / "file")
    assert file.size_bytes == 11
    assert file.read(5) == b"hello"
    assert file.pread(3, 6) == b"wor"
    assert file.read(100) == b" world"
    assert file.read(1) == b""
    file.close()


def test_names_can_be_listed_linked_renamed_and_removed(disk: FileSystem, tmp_path: Path) -> None:
    disk.make_dir(tmp_path / "a" / "b")
    disk.make_dir(tmp_path / "a" / "b")
    disk.write_new(tmp_path / "a" / "one", [b"1"])
    disk.link(tmp_path / "a" / "one", tmp_path / "a" / "two")
    disk.rename(tmp_path / "a" / "one", tmp_path / "a" / "zero")
    assert disk.list_dir(tmp_path / "a") == ["b", "two", "zero"]
    assert disk.exists(tmp_path / "a" / "two")
    assert disk.exists(tmp_path / "a" / "b")
    with pytest.raises(DiskFailed):
        disk.link(tmp_path / "a" / "zero", tmp_path / "a" / "two")
    disk.rename(tmp_path / "a", tmp_path / "c")
    assert disk.read_bytes(tmp_path / "c" / "two") == b"1"
    disk.remove_tree(tmp_path / "c")
    disk.remove_tree(tmp_path / "c")
    assert not disk.exists(tmp_path / "c")
    assert disk.free_bytes(tmp_path) > 0


def test_replacing_a_file_shows_the_old_or_the_new_after_any_crash(tmp_path: Path) -> None:
    moments: list[MemoryDisk] = []
    disk = MemoryDisk()
    disk.make_dir(tmp_path)
    replace_file(disk, tmp_path / "file", [b"old"])

    def remember(_: str) -> None:
        moments.extend(disk.crashed(crash, seed) for crash in Crash for seed in range(5))

    disk.on_step = remember
    replace_file(disk, tmp_path / "file", [b"ne", b"w"])
    found = {moment.read_bytes(tmp_path / "file") for moment in moments}
    assert found == {b"old", b"new"}
    assert disk.crashed(Crash.SYNCED).read_bytes(tmp_path / "file") == b"new"


def test_a_lock_is_held_by_one_until_it_is_released(disk: FileSystem, tmp_path: Path) -> None:
    lock = disk.lock(tmp_path / "LOCK")
    with pytest.raises(DirectoryInUse, match=str(tmp_path)):
        disk.lock(tmp_path / "LOCK")
    lock.release()
    lock.release()
    disk.lock(tmp_path / "LOCK").release()
    assert disk.exists(tmp_path / "LOCK")


def test_the_refusal_names_the_process_that_holds_the_lock(tmp_path: Path) -> None:
    lock = Disk().lock(tmp_path / "LOCK")
    with pytest.raises(DirectoryInUse, match=f"process {os.getpid()}"):
        Disk().lock(tmp_path / "LOCK")
    lock.release()


def test_a_forgotten_lock_and_a_forgotten_file_are_let_go(tmp_path: Path) -> None:
    lock = Disk().lock(tmp_path / "LOCK")
    log = Disk().open_log(tmp_path / "log", create=True)
    open_files = len(os.listdir("/proc/self/fd"))
    del lock, log
    assert len(os.listdir("/proc/self/fd")) == open_files - 2
    Disk().lock(tmp_path / "LOCK").release()


def test_every_disk_error_says_what_failed_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    log = Disk().open_log(tmp_path / "log", create=True)
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(DiskFailed, match=r"fdatasync failed on .*log: Input/output error"):
        log.sync()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskFailed, match=r"fsync failed on .*new: Input/output error"):
        Disk().write_new(tmp_path / "new", [b"x"])
    with pytest.raises(DiskFailed, match="fsync failed"):
        Disk().sync_dir(tmp_path)
    monkeypatch.setattr(os, "writev", fail)
    with pytest.raises(DiskFailed, match="write failed"):
        log.write((b"x",))
    assert log.size_bytes == 0


def test_the_memory_disk_loses_what_was_not_synced_and_keeps_what_was(tmp_path: Path) -> None:
    disk = MemoryDisk()
    disk.make_dir(tmp_path)
    log = disk.open_log(tmp_path / "log", create=True)
    log.write((b"one",))
    assert disk.crashed(Crash.SYNCED).list_dir(tmp_path) == []
    disk.sync_dir(tmp_path)
    assert disk.crashed(Crash.SYNCED).read_bytes(tmp_path / "log") == b""
    log.sync()
    log.write((b"two",))
    log.write((b"three",))
    assert disk.crashed(Crash.SYNCED).read_bytes(tmp_path / "log") == b"one"
    assert disk.crashed(Crash.ALL).read_bytes(tmp_path / "log") == b"onetwothree"
    mixed = {disk.crashed(Crash.MIXED, seed).read_bytes(tmp_path / "log") for seed in range(50)}
    assert b"one\0\0\0three" in mixed
    assert all(content.startswith(b"one") for content in mixed)


def test_a_directory_that_a_kill_left_unsynced_is_synced_by_the_next_make_dir(
    tmp_path: Path,
) -> None:
    class Killed(Exception):
        pass

    def kill(name: str) -> None:
        if name == "make_dir":
            raise Killed

    disk = MemoryDisk()
    disk.make_dir(tmp_path)
    disk.on_step = kill
    with pytest.raises(Killed):
        disk.make_dir(tmp_path / "a" / "b")
    assert disk.exists(tmp_path / "a")
    assert not disk.crashed(Crash.SYNCED).exists(tmp_path / "a")
    disk.on_step = None
    disk.make_dir(tmp_path / "a" / "b")
    assert disk.crashed(Crash.SYNCED).exists(tmp_path / "a" / "b")


def test_make_dir_syncs_the_names_from_the_last_directory_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(Disk, "sync_dir", lambda self, path: synced.append(path))
    Disk().make_dir(tmp_path / "a" / "b")
    assert synced == [tmp_path.parent, tmp_path, tmp_path / "a"]
    synced.clear()
    Disk().make_dir(tmp_path / "a" / "b")
    assert synced == [tmp_path / "a"]


def test_a_disk_that_cannot_say_whether_a_name_is_there_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Taken for a no, it would have a snapshot without metadata removed as unfinished.
    (tmp_path / "file").write_bytes(b"")
    assert Disk().exists(tmp_path / "file")
    assert not Disk().exists(tmp_path / "none")
    assert not Disk().exists(tmp_path / "file" / "below")

    def broken(path: Path) -> os.stat_result:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "lstat", broken)
    with pytest.raises(DiskFailed, match=r"stat failed on .*file: Input/output error"):
        Disk().exists(tmp_path / "file")
