"""The journal's files: what is there again after every cut, every flipped bit and every crash.

Method: a workload runs on a disk in memory (tests/support/crash.py), which is copied after every
single disk operation as a crash would leave it, and opened again. The model says what has to
be there: whatever was synced and not truncated since.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import pytest

from node.entry import KIND_BATCH, NOOP_COMMAND, Entry, wrap
from node.journal_files import JournalFiles
from statemachine.errors import Corrupt, DiskFailed, Unsupported
from statemachine.frame import FRAME_HEADER_BYTES
from statemachine.segment import JOURNAL_MAGIC, SEGMENT_HEADER_BYTES, read_segment, segment_header
from tests.support.crash import Crash, FailingDisk, MemoryDisk

JOURNAL = Path("/n1/journal")
FIRST = JOURNAL / "00000001.seg"
LARGE = 1 << 30
SMALL = 200
"""Three entries of this file fill a segment of this size."""
SEEDS = range(3)


def entry(index: int, term: int = 1, size: int = 20) -> Entry:
    if index == 1:
        return NOOP_COMMAND, 1, term
    return wrap(KIND_BATCH, f"{index}@{term} ".encode().ljust(size, b".")), index, term


def entries(first: int, last: int, term: int = 1) -> list[Entry]:
    return [entry(index, term) for index in range(first, last + 1)]


def new_disk() -> MemoryDisk:
    disk = MemoryDisk()
    disk.make_dir(JOURNAL)
    return disk


def opened(disk: MemoryDisk, segment_bytes_max: int = LARGE) -> tuple[JournalFiles, list[Entry]]:
    files = JournalFiles(JOURNAL, disk, segment_bytes_max)
    return files, files.load()


def three_segments() -> tuple[MemoryDisk, JournalFiles]:
    """Entries 1..9 in segments of three, all synced."""
    disk = new_disk()
    files, _ = opened(disk, segment_bytes_max=SMALL)
    files.append(entries(1, 9))
    files.sync()
    assert [path.name for path in disk.files()] == [f"0000000{number}.seg" for number in (1, 2, 3)]
    return disk, files


# -- what was written is there again ---------------------------------------------------------


def test_a_new_directory_holds_an_empty_log() -> None:
    files, found = opened(new_disk())
    assert found == []
    assert files.torn is None
    assert files.size_bytes == 0


def test_entries_come_back_as_they_were_written_over_many_segments() -> None:
    disk, files = three_segments()
    files.close()
    again, found = opened(disk)
    assert found == entries(1, 9)
    assert again.size_bytes == sum(disk.size_bytes(path) for path in disk.files())


def test_the_log_goes_on_after_it_was_opened_again() -> None:
    disk, files = three_segments()
    files.close()
    again, _ = opened(disk, SMALL)
    again.append(entries(10, 12, term=2))
    again.sync()
    assert opened(disk)[1] == entries(1, 9) + entries(10, 12, term=2)


def test_a_segment_is_begun_when_the_last_one_is_full_and_never_splits_an_entry() -> None:
    disk = new_disk()
    files, _ = opened(disk, segment_bytes_max=600)
    files.append([entry(index, size=400) for index in range(1, 6)])
    files.sync()
    held = [
        read_segment(path, disk.content(path), JOURNAL_MAGIC, newest=False) for path in disk.files()
    ]
    assert [[frame.index for _, frame in each.frames] for each in held] == [[1, 2, 3], [4, 5]]
    assert [(each.sequence, each.first_index) for each in held] == [(1, 1), (2, 4)]


def test_all_but_the_newest_segment_are_synced_before_the_next_is_begun() -> None:
    disk = new_disk()
    files, _ = opened(disk, segment_bytes_max=SEGMENT_HEADER_BYTES + 1)
    files.append(entries(1, 4))  # and no sync
    found = opened(disk.crashed(Crash.SYNCED))[1]
    assert found == entries(1, 3)


# -- every cut and every bit ------------------------------------------------------------------


def one_segment(marked: bool) -> tuple[MemoryDisk, list[int]]:
    """Entries 1..5 in one segment, synced one by one; and where each frame ends."""
    disk = new_disk()
    files, _ = opened(disk)
    ends = []
    for each in entries(1, 5):
        files.append([each])
        files.sync()
        ends.append(disk.size_bytes(FIRST))
    if marked:
        files.mark()
    return disk, ends


def test_every_cut_of_the_newest_segment_above_the_mark_keeps_exactly_the_whole_frames() -> None:
    disk, ends = one_segment(marked=False)
    whole = disk.content(FIRST)
    for cut in range(len(whole) + 1):
        disk.overwrite(FIRST, whole[:cut])
        kept = sum(end <= cut for end in ends)
        if cut < SEGMENT_HEADER_BYTES:
            kept = 0
        files, found = opened(disk)
        assert found == entries(1, kept), f"{cut=}"
        clean = cut in (SEGMENT_HEADER_BYTES, *ends)
        assert (files.torn is None) == clean, f"{cut=}"
        # What was cut is gone for good, and the log goes on in its place.
        files.append([entry(kept + 1, term=2)])
        files.sync()
        assert opened(disk)[1] == [*entries(1, kept), entry(kept + 1, term=2)], f"{cut=}"
        for path in disk.files():
            disk.unlink(path)
        disk.write_new(FIRST, [whole])
        disk.sync_dir(JOURNAL)


def test_what_is_cut_off_is_reported_with_file_and_bytes() -> None:
    disk, ends = one_segment(marked=False)
    disk.overwrite(FIRST, disk.content(FIRST)[:-7])
    files, _ = opened(disk)
    assert files.torn == f"00000001.seg: {ends[4] - ends[3] - 7} bytes at {ends[3]}"


def test_every_flipped_bit_below_the_mark_is_corrupt_and_says_where() -> None:
    disk, ends = one_segment(marked=True)
    mark_ends = disk.size_bytes(FIRST)
    starts = [SEGMENT_HEADER_BYTES, *ends]
    for bit in range(mark_ends * 8):
        disk.flip(FIRST, bit)
        byte = bit // 8
        if byte < ends[4]:
            with pytest.raises(Corrupt) as caught:
                opened(disk)
            frame_at = max((each for each in starts if each <= byte), default=0)
            assert str(caught.value).startswith(f"{FIRST} at byte {frame_at}: "), f"{bit=}"
            disk.flip(FIRST, bit)
        else:  # in the mark itself, which is not an entry and was never synced
            files, found = opened(disk)
            assert found == entries(1, 5), f"{bit=}"
            assert files.torn is not None
            disk, _ = one_segment(marked=True)


def test_every_flipped_bit_of_the_last_unmarked_frame_is_a_torn_tail() -> None:
    disk, ends = one_segment(marked=False)
    whole = disk.content(FIRST)
    for bit in range(ends[3] * 8, ends[4] * 8):
        disk.overwrite(FIRST, whole)
        disk.flip(FIRST, bit)
        files, found = opened(disk)
        assert found == entries(1, 4), f"{bit=}"
        assert files.torn is not None
        assert disk.size_bytes(FIRST) == ends[3]


def test_a_flipped_bit_in_a_sealed_segment_is_corrupt() -> None:
    disk, _ = three_segments()
    for path in disk.files()[:-1]:
        for bit in range(0, disk.size_bytes(path) * 8, 5):
            disk.flip(path, bit)
            with pytest.raises(Corrupt):
                opened(disk)
            disk.flip(path, bit)
    assert opened(disk)[1] == entries(1, 9)


def test_a_missing_segment_is_corrupt() -> None:
    disk, _ = three_segments()
    disk.unlink(JOURNAL / "00000002.seg")
    with pytest.raises(Corrupt, match="segment 2 is missing"):
        opened(disk)


def test_entries_with_a_gap_are_corrupt() -> None:
    for broken in ([entry(1), entry(3)], [entry(1), entry(2), entry(2)]):
        disk = new_disk()
        files, _ = opened(disk)
        files.append(broken)
        with pytest.raises(Corrupt, match=f"entry {broken[-1][1]} follows"):
            opened(disk)


def test_a_segment_of_a_newer_version_is_refused_as_such() -> None:
    disk, _ = one_segment(marked=True)
    raw = bytearray(segment_header(JOURNAL_MAGIC, 0, 1, 1))
    raw[8:12] = (3).to_bytes(4, "little")
    raw[60:64] = _crc(bytes(raw[:60]))
    disk.overwrite(FIRST, bytes(raw) + disk.content(FIRST)[64:])
    with pytest.raises(Unsupported):
        opened(disk)


def _crc(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(4, "little")


# -- marks ------------------------------------------------------------------------------------


def test_a_mark_is_written_once_after_each_sync() -> None:
    disk, _ = one_segment(marked=True)
    size = disk.size_bytes(FIRST)
    files, _ = opened(disk)
    files.append([entry(6)])
    files.mark()  # Nothing is durable yet that was not marked by the frame itself.
    assert disk.size_bytes(FIRST) == size + FRAME_HEADER_BYTES + 20
    files.sync()
    for _ in range(3):
        files.mark()
    assert disk.size_bytes(FIRST) == size + 2 * FRAME_HEADER_BYTES + 20
    assert opened(disk)[1] == entries(1, 6)


def test_no_frame_ever_claims_more_than_was_synced() -> None:
    """Of an unsynced tail any write may be lost: it must never look like damage."""
    disk = new_disk()
    files, _ = opened(disk)
    files.append(entries(1, 3))
    files.sync()
    files.append(entries(4, 6))
    files.append(entries(7, 9))
    for seed in range(40):
        found = opened(disk.crashed(Crash.MIXED, seed))[1]
        assert found == entries(1, len(found))
        assert len(found) >= 3


# -- truncating, clearing, cutting ------------------------------------------------------------


@pytest.mark.parametrize("index", range(1, 11))
def test_truncation_at_any_place_is_durable_and_the_log_goes_on(index: int) -> None:
    disk, files = three_segments()
    files.truncate_from(index)
    assert opened(disk.crashed(Crash.SYNCED))[1] == entries(1, index - 1)
    again = entries(index, index + 9, term=2)
    files.append(again)
    files.sync()
    files.close()
    for crash in (Crash.SYNCED, Crash.ALL):
        assert opened(disk.crashed(crash))[1] == entries(1, index - 1) + again


def test_the_last_entry_that_a_truncation_kept_is_vouched_for_by_the_next_mark() -> None:
    disk, files = three_segments()
    files.truncate_from(9)
    files.mark()
    newest = JOURNAL / "00000003.seg"
    disk.flip(newest, (SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES + 25) * 8)
    with pytest.raises(Corrupt):
        opened(disk)


def test_clearing_drops_everything_and_the_next_entry_may_have_any_index() -> None:
    disk, files = three_segments()
    files.clear()
    assert disk.crashed(Crash.SYNCED).files() == []
    files.append(entries(71, 75, term=4))
    files.sync()
    assert opened(disk.crashed(Crash.SYNCED))[1] == entries(71, 75, term=4)


def test_a_segment_that_was_begun_and_never_written_binds_nobody() -> None:
    """A crash between begun and written: what comes next may be at quite another index."""
    disk = new_disk()
    disk.write_new(FIRST, [segment_header(JOURNAL_MAGIC, 0, 1, 71)])
    disk.sync_dir(JOURNAL)
    files, found = opened(disk)
    assert found == []
    files.append(entries(1, 3))
    files.sync()
    assert opened(disk)[1] == entries(1, 3)


@pytest.mark.parametrize("index", range(1, 13))
def test_cutting_removes_the_segments_that_lie_below_and_no_other(index: int) -> None:
    disk, files = three_segments()
    files.cut_below(index)
    kept_from = 7 if index >= 7 else 4 if index >= 4 else 1
    assert opened(disk.crashed(Crash.SYNCED))[1] == entries(kept_from, 9)
    assert files.size_bytes == sum(disk.size_bytes(path) for path in disk.files())
    files.append(entries(10, 12))
    files.sync()
    assert opened(disk)[1] == entries(kept_from, 12)


# -- a crash at every step --------------------------------------------------------------------


@dataclass
class Model:
    """What has to be there after a crash."""

    log: list[Entry] = field(default_factory=list)
    """All that was written and is not truncated; what was cut below stays in it."""
    sure: list[Entry] = field(default_factory=list)
    """Synced, and not being truncated or cut."""
    legal: list[list[Entry]] = field(default_factory=lambda: [[]])
    """Logs of which whatever is found has to be a piece, up to some place."""


class Story:
    """A workload, told to the files and to the model at once."""

    def __init__(self, files: JournalFiles) -> None:
        self.files = files
        self.model = Model()

    def append(self, first: int, last: int, term: int = 1) -> None:
        more = entries(first, last, term)
        self.model.log = self.model.log + more
        self.model.legal.append(self.model.log)
        self.files.append(more)

    def sync(self) -> None:
        self.files.sync()
        self.model.sure = self.model.log
        self.model.legal = [self.model.log]

    def truncate(self, index: int) -> None:
        model = self.model
        model.log = [each for each in model.log if each[1] < index]
        model.sure = [each for each in model.sure if each[1] < index]
        self.files.truncate_from(index)
        model.sure = model.log
        model.legal = [model.log]

    def clear(self) -> None:
        self.model.sure = []
        self.files.clear()
        self.model.log = []
        self.model.legal = [[]]

    def cut(self, index: int) -> None:
        self.model.sure = [each for each in self.model.sure if each[1] >= index]
        self.files.cut_below(index)

    def mark(self) -> None:
        self.files.mark()


def busy_day(story: Story) -> None:
    story.append(1, 2)
    story.sync()
    story.append(3, 5)
    story.append(6, 6)
    story.sync()
    story.mark()
    story.append(7, 8)
    story.truncate(5)
    story.append(5, 9, term=2)
    story.sync()
    story.mark()
    story.truncate(2)
    story.append(2, 7, term=3)
    story.sync()
    story.cut(5)
    story.append(8, 9, term=3)
    story.sync()
    story.clear()
    story.append(40, 44, term=4)
    story.sync()
    story.mark()


def is_legal(found: list[Entry], model: Model) -> bool:
    """All that is sure is there, and what is there is a piece of a log that was written."""
    if not all(each in found for each in model.sure):
        return False
    first = found[0][1] if found else 0
    tails = [[each for each in log if each[1] >= first] for log in model.legal]
    return any(found == tail[: len(found)] for tail in tails)


def reopen_at_every_step(
    story_of: Callable[[Story], None], check: Callable[[MemoryDisk, Model, str], None]
) -> int:
    disk = new_disk()
    files, _ = opened(disk, SMALL)
    story = Story(files)
    steps = 0

    def on_step(name: str) -> None:
        nonlocal steps
        steps += 1
        check(disk, story.model, f"after step {steps}, {name}")

    disk.on_step = on_step
    story_of(story)
    disk.on_step = None
    assert is_legal(opened(disk)[1], story.model)
    return steps


def crashes_of(disk: MemoryDisk) -> list[tuple[str, MemoryDisk]]:
    found = [(crash.value, disk.crashed(crash)) for crash in (Crash.SYNCED, Crash.ALL)]
    return found + [(f"mixed {seed}", disk.crashed(Crash.MIXED, seed)) for seed in SEEDS]


def test_a_crash_after_any_disk_operation_leaves_a_legal_log() -> None:
    def check(disk: MemoryDisk, model: Model, where: str) -> None:
        for how, crashed in crashes_of(disk):
            found = opened(crashed, SMALL)[1]
            assert is_legal(found, model), f"{where}, {how}: {found}, {model}"

    assert reopen_at_every_step(busy_day, check) > 60


def killed(disk: MemoryDisk) -> MemoryDisk:
    """As kill -9 leaves it: everything is there, and what was not synced still is not."""
    copied = MemoryDisk()
    copied._directories = copy.deepcopy(disk._directories)
    return copied


def test_what_is_synced_after_a_crash_survives_the_next_crash() -> None:
    """kill -9 leaves names that no directory was synced for; then the power goes."""

    def check(disk: MemoryDisk, model: Model, where: str) -> None:
        for how, crashed in [("killed", killed(disk)), *crashes_of(disk)]:
            files, found = opened(crashed, SMALL)
            assert is_legal(found, model), f"{where}, {how}"
            assert opened(crashed.crashed(Crash.SYNCED), SMALL)[1] == found, f"{where}, {how}"
            next_index = found[-1][1] + 1 if found else 90
            more = entries(next_index, next_index + 4, term=9)
            files.append(more)
            files.sync()
            again = opened(crashed.crashed(Crash.SYNCED), SMALL)[1]
            assert again == found + more, f"{where}, {how}"

    reopen_at_every_step(busy_day, check)


def test_a_failing_disk_stops_the_log_and_loses_nothing_that_was_synced() -> None:
    calls = 1
    while True:
        disk = new_disk()
        failing = FailingDisk(disk, fail_at=calls)
        story = Story(JournalFiles(JOURNAL, failing, SMALL))
        try:
            story.files.load()
            busy_day(story)
        except DiskFailed:
            pass
        if failing.failed is None:
            break
        for how, crashed in crashes_of(disk):
            found = opened(crashed, SMALL)[1]
            assert all(each in found for each in story.model.sure), f"{calls=}, {how}"
        calls += 1
    assert calls > 60
