"""The disks of the crash tests themselves: what they let a crash do, and what they do not.

Goal: a model that is too kind hides bugs, one that is too cruel invents them. Each rule at the top
of crash_states.py has its case here, small enough to be counted by hand.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from statemachine.job import Check, Job
from tests.support.crash import Crash, MemoryDisk
from tests.support.crash_states import EVERYTHING, crash_states
from tests.support.hand_driven import hand_driven
from tests.support.volume import DiskState

HOME = Path("/d")
LOG = HOME / "log"


def fresh(*names: str) -> MemoryDisk:
    """A disk with files of these names, empty and synced."""
    disk = MemoryDisk()
    disk.make_dir(HOME)
    for name in names:
        disk.write_new(HOME / name, [])
    disk.sync_dir(HOME)
    return disk


def states(disk: MemoryDisk) -> list[DiskState]:
    return [state for _, state in crash_states(disk.volume(), disk.written, random.Random(1))]


def contents(disk: MemoryDisk, path: Path = LOG) -> set[bytes | None]:
    """What a crash may leave under a name; None: nothing."""
    found: set[bytes | None] = set()
    for state in states(disk):
        node = dict(state.files).get(path)
        found.add(None if node is None else state.contents[node])
    return found


def trees(disk: MemoryDisk) -> set[frozenset[str]]:
    """The names that a crash may leave."""
    return {
        frozenset(str(path.relative_to(HOME)) for path, _ in state.files)
        | {f"{path.relative_to(HOME)}/" for path in state.directories if path.is_relative_to(HOME)}
        for state in states(disk)
    }


def names(*files: str) -> frozenset[str]:
    return frozenset({"./", *files})


def test_what_was_synced_is_in_every_state() -> None:
    disk = fresh("log")
    log = disk.open_log(LOG, create=False)
    log.write([b"ab"])
    log.sync()
    assert contents(disk) == {b"ab"}
    assert trees(disk) == {names("log")}


def test_a_write_that_was_not_synced_is_there_in_part_or_as_zeros_or_garbage() -> None:
    disk = fresh("log")
    disk.open_log(LOG, create=False).write([b"ab", b"c"])
    found = contents(disk)
    assert {b"", b"a", b"ab", b"abc", b"\0\0\0"} <= found
    fronts = [content for content in found if content and len(content) == 3]
    assert b"ab\0" in fronts  # Its front, its size, zeros.
    assert any(content[:1] == b"a" and content[1:] not in (b"bc", b"\0\0") for content in fronts)
    assert {b"\0bc", b"\0\0c"} <= found  # Its back alone.
    assert all(content is not None and len(content) <= 3 for content in found)


def test_of_several_writes_any_may_be_lost() -> None:
    disk = fresh("log")
    log = disk.open_log(LOG, create=False)
    for data in (b"A", b"B", b"C"):
        log.write([data])
    found = contents(disk)
    assert {b"", b"A", b"\0B", b"AB", b"\0\0C", b"A\0C", b"\0BC", b"ABC"} <= found


def test_a_large_write_is_torn_at_sectors_and_loses_any_one_of_them() -> None:
    disk = fresh("log")
    log = disk.open_log(LOG, create=False)
    log.write([b"h" * 100])
    log.sync()
    log.write([b"x" * 2000])
    lengths = {len(content) for content in contents(disk) if content is not None}
    sectors = {512, 1024, 1536, 2048}
    assert lengths == {100, 2100} | sectors | {100 + cut for cut in range(1, 64)}
    hole = b"h" * 100 + b"x" * 412 + bytes(512) + b"x" * 1076
    assert hole in contents(disk)


def test_a_truncation_is_lost_with_all_that_followed_or_kept() -> None:
    disk = fresh("log")
    log = disk.open_log(LOG, create=False)
    log.write([b"abcd"])
    log.sync()
    log.truncate(1)
    assert contents(disk) == {b"abcd", b"a"}
    log.write([b"X"])
    found = contents(disk)
    assert {b"abcd", b"a", b"aX", b"a\0"} <= found
    assert b"aXcd" not in found


def test_names_are_lost_in_any_legal_combination() -> None:
    disk = fresh("old")
    disk.write_new(HOME / "new.tmp", [b"n"])
    disk.rename(HOME / "new.tmp", HOME / "new")
    disk.unlink(HOME / "old")
    assert trees(disk) == {
        names("old"),
        names("old", "new.tmp"),
        names("old", "new"),
        names(),
        names("new.tmp"),
        names("new"),
    }
    # The bytes were synced: whatever name they have, they are whole.
    assert contents(disk, HOME / "new") == {None, b"n"}
    disk.sync_dir(HOME)
    assert trees(disk) == {names("new")}


def test_a_replaced_name_leads_to_the_old_file_or_to_the_new_one() -> None:
    disk = fresh("log")
    disk.write_new(HOME / "log.tmp", [b"new"])
    disk.rename(HOME / "log.tmp", LOG)
    assert contents(disk) == {b"", b"new"}


def test_a_hard_link_is_a_second_name_for_the_same_bytes() -> None:
    disk = fresh("log")
    disk.link(LOG, HOME / "again")
    disk.open_log(LOG, create=False).write([b"a"])
    assert trees(disk) == {names("log"), names("log", "again")}
    for state in states(disk):
        assert len({node for _, node in state.files}) == 1
        copy = MemoryDisk.of(state)
        copy.open_log(LOG, create=False).write([b"more"])
        for path, _ in state.files:
            assert copy.content(path) == copy.content(LOG)


def test_a_directory_keeps_what_is_in_it_when_it_is_renamed_and_comes_back_when_removed() -> None:
    disk = fresh()
    disk.make_dir(HOME / "a")
    disk.write_new(HOME / "a" / "file", [b"f"])
    disk.sync_dir(HOME / "a")
    disk.rename(HOME / "a", HOME / "b")
    assert trees(disk) == {names("a/", "a/file"), names("b/", "b/file")}
    disk.sync_dir(HOME)
    disk.remove_tree(HOME / "b")
    assert trees(disk) == {names("b/", "b/file"), names("b/"), names()}


def test_a_directory_that_was_made_is_durable_and_its_parts_may_be_cut_apart() -> None:
    steps: list[set[frozenset[str]]] = []
    disk = fresh()
    disk.on_step = lambda name: steps.append(trees(disk))
    disk.make_dir(HOME / "a" / "b")
    before, a, b = names(), names("a/"), names("a/", "a/b/")
    # The parent of the last directory that was there, then mkdir and its fsync, twice.
    assert steps == [{before}, {before, a}, {a}, {a, b}, {b}]


def test_everything_is_what_a_kill_leaves_and_comes_first() -> None:
    disk = fresh("log", "old")
    disk.open_log(LOG, create=False).write([b"abc"])
    disk.unlink(HOME / "old")
    found = list(crash_states(disk.volume(), disk.written, random.Random(1)))
    assert found[0][0] == EVERYTHING
    everything = MemoryDisk.of(found[0][1])
    assert everything.files() == disk.files() == [LOG]
    assert everything.content(LOG) == b"abc"


@pytest.mark.parametrize("crash", list(Crash))
def test_what_crashed_leaves_is_one_of_the_states(crash: Crash) -> None:
    disk = fresh("log", "old")
    log = disk.open_log(LOG, create=False)
    log.write([b"abc"])
    disk.unlink(HOME / "old")
    disk.write_new(HOME / "new", [b"n"])
    log.write([b"de"])
    keys = {state.key() for state in states(disk)}
    for seed in range(40):
        copy = disk.crashed(crash, seed)
        found = {path: copy.content(path) for path in copy.files()}
        if crash is Crash.MIXED and found[LOG] not in (b"", b"abc", b"abcde", b"\0\0\0de"):
            continue  # A tear of its own: the steps before and after have those.
        (only,) = {state.key() for _, state in crash_states(copy.volume(), None, random.Random(1))}
        assert only in keys


def test_equal_states_have_equal_keys_and_others_have_not() -> None:
    disk = fresh("a", "b")
    disk.open_log(HOME / "a", create=False).write([b"xy"])
    found = {}
    for state in states(disk):
        copy = MemoryDisk.of(state)
        shown = tuple((str(path), copy.content(path)) for path in copy.files())
        found.setdefault(shown, set()).add(state.key())
    assert all(len(keys) == 1 for keys in found.values())
    assert len({key for keys in found.values() for key in keys}) == len(found)


def test_a_lie_is_a_sync_that_does_nothing() -> None:
    disk = fresh("log")
    disk.lies = lambda call, path: call == "sync" and path == LOG
    log = disk.open_log(LOG, create=False)
    log.write([b"a"])
    log.sync()
    assert disk.crashed(Crash.SYNCED).content(LOG) == b""
    disk.lies = lambda call, path: call == "sync_dir"
    disk.unlink(LOG)
    disk.sync_dir(HOME)
    assert disk.crashed(Crash.SYNCED).files() == [LOG]


def work_of(disk: MemoryDisk, count: int) -> Callable[[Check], int]:
    def work(check: Check) -> int:
        for number in range(count):
            check()
            disk.write_new(HOME / str(number), [])
        return count

    return work


def test_a_held_thread_takes_as_many_steps_as_it_is_told_to() -> None:
    disk = fresh()
    steps: list[str] = []
    with hand_driven(disk) as hands:
        disk.on_step = steps.append
        job = Job("held", work_of(disk, 3))
        assert (steps, job.running) == ([], True)
        hands.step()
        assert steps == ["create"]
        hands.step(2)
        assert steps == ["create", "sync", "create"]
        disk.unlink(HOME / "0")  # The owner is not held.
        assert job.wait() == 3
        assert len(steps) == 7
        assert not job.running


def test_a_held_thread_that_is_stopped_ends_at_its_next_check() -> None:
    disk = fresh()
    with hand_driven(disk) as hands:
        job = Job("held", work_of(disk, 100))
        hands.step(3)
        assert job.stop() is None
        assert len(disk.files()) == 2
