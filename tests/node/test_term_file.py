"""Term and vote, twice on disk: no crash and no damage to one copy makes a node forget a vote.

Method: as in test_journal_files: a disk in memory, copied after every step as a crash would leave
it; every bit flipped and every cut made in one copy, in the other, in both.
"""

from __future__ import annotations

import copy
from pathlib import Path

import google_crc32c
import pytest

from node.term_file import TermFile, dump_term
from statemachine.errors import Corrupt, DiskFailed, Unsupported
from tests.support.crash import Crash, FailingDisk, MemoryDisk

JOURNAL = Path("/n1/journal")
TERM = JOURNAL / "term"
COPY = JOURNAL / "term.copy"
BOTH = pytest.mark.parametrize("path", [TERM, COPY])


def new_disk() -> MemoryDisk:
    disk = MemoryDisk()
    disk.make_dir(JOURNAL)
    return disk


def saved(term: int = 7, vote: str | None = "n2") -> MemoryDisk:
    disk = new_disk()
    TermFile(TERM, disk).save(term, vote)
    return disk


def load(disk: MemoryDisk) -> tuple[int, str | None]:
    return TermFile(TERM, disk).load()


def crashes_of(disk: MemoryDisk) -> list[tuple[str, MemoryDisk]]:
    found = [(crash.value, disk.crashed(crash)) for crash in (Crash.SYNCED, Crash.ALL)]
    return found + [(f"mixed {seed}", disk.crashed(Crash.MIXED, seed)) for seed in range(5)]


def killed(disk: MemoryDisk) -> MemoryDisk:
    """As kill -9 leaves it: everything is there, and what was not synced still is not."""
    copied = MemoryDisk()
    copied._directories = copy.deepcopy(disk._directories)
    return copied


@pytest.mark.parametrize(
    ("term", "vote"),
    [(0, None), (1, "n1"), (7, None), (2**40, "a-very-long-name" * 15), (3, "knoten-\N{SNOWMAN}")],
)
def test_term_and_vote_come_back(term: int, vote: str | None) -> None:
    assert load(saved(term, vote).crashed(Crash.SYNCED)) == (term, vote)


def test_a_node_that_never_voted_has_no_term() -> None:
    assert load(new_disk()) == (0, None)


@BOTH
def test_every_flipped_bit_and_every_cut_of_one_copy_is_survived_and_said(path: Path) -> None:
    disk = saved()
    whole = disk.content(path)
    for bit in range(len(whole) * 8):
        disk.flip(path, bit)
        file = TermFile(TERM, disk)
        assert file.load() == (7, "n2")
        assert str(file.damage).startswith(f"{path} at byte ")
        disk.flip(path, bit)
    for cut in range(len(whole)):
        disk.overwrite(path, whole[:cut])
        assert load(disk) == (7, "n2")
    disk.overwrite(path, whole + b"\0")
    assert load(disk) == (7, "n2")
    disk.unlink(path)
    assert load(disk) == (7, "n2")


@BOTH
def test_after_damage_to_one_copy_both_are_whole_again(path: Path) -> None:
    disk = saved()
    whole = disk.content(path)
    for damage in (b"", whole[:-1], b"\xff" * len(whole), None):
        if damage is None:
            disk.unlink(path)
        else:
            disk.overwrite(path, damage)
        assert TermFile(TERM, disk).mend() == (7, "n2")
        after = disk.crashed(Crash.SYNCED)
        assert after.content(TERM) == after.content(COPY) == whole


def test_damage_to_both_copies_is_refused_with_a_sentence() -> None:
    disk = saved()
    disk.flip(TERM, 99)
    disk.flip(COPY, 200)
    with pytest.raises(
        Corrupt, match=r"no copy of term and vote .*forgotten a vote; wipe"
    ) as error:
        load(disk)
    assert str(TERM) in str(error.value)
    assert str(COPY) in str(error.value)
    disk = saved()
    disk.flip(TERM, 99)
    disk.unlink(COPY)
    with pytest.raises(Corrupt):
        load(disk)


@pytest.mark.parametrize(
    ("older", "newer"), [((6, "n3"), (7, None)), ((7, None), (7, "n2")), ((0, None), (1, "n1"))]
)
@BOTH
def test_of_two_good_copies_the_newer_one_counts(
    path: Path, older: tuple[int, str | None], newer: tuple[int, str | None]
) -> None:
    disk = saved(*newer)
    old = saved(*older).content(TERM)
    disk.overwrite(path, old)
    assert load(disk) == newer
    TermFile(TERM, disk).mend()
    assert disk.content(TERM) == disk.content(COPY) != old


def test_a_term_file_of_a_newer_version_is_refused_as_such() -> None:
    disk = saved()
    raw = bytearray(disk.content(TERM))
    raw[8:12] = (2).to_bytes(4, "little")
    crc = int(google_crc32c.value(bytes(raw[:-4]))).to_bytes(4, "little")
    disk.overwrite(TERM, bytes(raw[:-4]) + crc)
    with pytest.raises(Unsupported):
        load(disk)


@pytest.mark.parametrize("before", [None, (6, None)])
def test_a_crash_at_any_step_of_saving_leaves_the_old_term_or_the_new_one(
    before: tuple[int, str | None] | None,
) -> None:
    disk = new_disk() if before is None else saved(*before)
    steps = []

    def on_step(name: str) -> None:
        steps.append(name)
        for how, crashed in crashes_of(disk):
            assert load(crashed) in [before or (0, None), (7, "n2")], f"{steps}, {how}"
            # And the start that follows makes it last, whatever comes then.
            found = TermFile(TERM, crashed).mend()
            assert load(crashed.crashed(Crash.SYNCED)) == found, f"{steps}, {how}"

    disk.on_step = on_step
    TermFile(TERM, disk).save(7, "n2")
    disk.on_step = None
    assert steps.count("sync") == 2
    after = disk.crashed(Crash.SYNCED)
    assert after.content(TERM) == after.content(COPY)


def test_a_term_that_a_killed_process_wrote_is_durable_once_it_was_mended() -> None:
    disk = saved(6, None)

    def on_step(name: str) -> None:
        again = killed(disk)
        found = TermFile(TERM, again).mend()
        assert load(again.crashed(Crash.SYNCED)) == found, name

    disk.on_step = on_step
    TermFile(TERM, disk).save(7, "n2")


def test_a_term_that_cannot_be_saved_is_fatal_and_the_old_one_stays() -> None:
    fail_at = 1
    while True:
        disk = saved(6, None)
        failing = FailingDisk(disk, fail_at)
        try:
            TermFile(TERM, failing).save(7, "n2")
        except DiskFailed:
            pass
        if failing.failed is None:
            break
        for how, crashed in crashes_of(disk):
            assert load(crashed) in [(6, None), (7, "n2")], how
        fail_at += 1
    assert fail_at > 6


def test_dump_shows_the_term_or_what_is_wrong_with_it() -> None:
    disk = saved()
    assert list(dump_term(TERM, disk)) == ["term 7 vote=n2"]
    disk.flip(TERM, 99)
    (line,) = dump_term(TERM, disk)
    assert line.startswith(f"damaged: {TERM} at byte 0: ")
