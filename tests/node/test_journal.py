"""The journal: what PySyncObj sees at once, and what counts as durable only after a sync.

Method: the sync thread is real; the loop is turned by hand (tests/support/turns.py), and the disk
holds a sync up for as long as a test wants.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.entry import KIND_BATCH, NOOP_COMMAND, wrap
from node.journal import FileJournal
from node.journal_files import JournalFiles, TermFile
from statemachine.errors import Corrupt, DiskFailed, Fatal
from tests.support.crash import Crash, FailingDisk, MemoryDisk
from tests.support.turns import Turns

DIRECTORY = Path("/n1/journal")
NEWEST = DIRECTORY / "00000001.seg"


def command(text: str) -> bytes:
    return wrap(KIND_BATCH, text.encode())


class SlowDisk(MemoryDisk):
    """A disk whose fdatasync waits while `gate` is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.make_dir(DIRECTORY)
        self.on_step = self._count
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)
        """Released at the beginning of each sync."""
        self.syncs = 0

    def _count(self, name: str) -> None:
        self.syncs += name == "sync"

    def open_log(self, path: Path, *, create: bool) -> Any:
        return _SlowFile(self, super().open_log(path, create=create))


class _SlowFile:
    def __init__(self, disk: SlowDisk, inner: Any) -> None:
        self._disk = disk
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def sync(self) -> None:
        self._disk.arrived.release()
        assert self._disk.gate.wait(10)
        self._inner.sync()


class Setup:
    """A journal over a disk, with everything it tells its owner."""

    def __init__(self, disk: Any, *, inline: bool = False) -> None:
        self.disk = disk
        self.turns = Turns()
        self.terms_told: list[bool] = []
        """Whether the term was durable, each time that something was told to be."""
        self.failures: list[Exception] = []
        self.files = JournalFiles(DIRECTORY, disk, 1 << 20)
        self.journal = FileJournal(
            self.files,
            TermFile(DIRECTORY / "term", disk),
            call_soon_threadsafe=self.turns.soon,
            on_durable=self._on_durable,
            on_failure=self.failures.append,
            inline=inline,
        )

    def _on_durable(self) -> None:
        self.terms_told.append(self.journal.term_is_durable)

    def add(self, index: int, term: int = 1, text: str = "") -> None:
        self.journal.add(command(text or f"{index}@{term}"), index, term)

    def run_until_done(self, index: int) -> None:
        """Until entry `index` is durable, or the journal has failed."""
        self.turns.run_until(lambda: bool(self.failures) or self.journal.durable_index == index)

    def settle(self) -> None:
        """Until everything that was flushed is durable."""
        journal = self.journal
        last_index = journal[-1][1] if journal else 0
        self.turns.run_until(
            lambda: journal.durable_index == last_index and journal.term_is_durable
        )


@pytest.fixture
def opened() -> Iterator[Callable[..., Setup]]:
    """Makes Setups and ends their threads."""
    made: list[Setup] = []

    def make(disk: Any = None, *, inline: bool = False) -> Setup:
        made.append(Setup(disk or SlowDisk(), inline=inline))
        return made[-1]

    yield make
    for setup in made:
        getattr(setup.disk, "gate", threading.Event()).set()
        setup.journal.abandon()


def reopened(disk: MemoryDisk) -> list[tuple[bytes, int, int]]:
    return JournalFiles(DIRECTORY, disk, 1 << 20).load()


# -- what PySyncObj sees ----------------------------------------------------------------------


def test_the_list_changes_at_once_and_nothing_is_durable_before_it_is_flushed(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    setup.journal.add(NOOP_COMMAND, 1, 1)
    setup.add(2)
    assert [(index, term) for _, index, term in setup.journal] == [(1, 1), (2, 1)]
    assert (setup.journal.first_index, setup.journal.last_index) == (1, 2)
    assert setup.journal.durable_index == 0
    setup.journal.flush()
    setup.settle()
    assert setup.journal.durable_index == 2
    assert reopened(setup.disk.crashed(Crash.SYNCED)) == list(setup.journal)


def test_terms_are_told_of_every_entry_in_memory_and_of_no_other(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    for index, term in ((5, 2), (6, 2), (7, 3)):
        setup.add(index, term)
    assert [setup.journal.term_at(index) for index in range(4, 9)] == [None, 2, 2, 3, None]
    assert setup.journal.last_term == 3


def test_a_commit_index_is_never_kept(opened: Callable[..., Setup]) -> None:
    setup = opened()
    setup.journal.setRaftCommitIndex(77)
    assert setup.journal.getRaftCommitIndex() == 1  # P14


def test_term_and_vote_are_durable_only_after_the_sync_and_are_there_again(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    assert setup.journal.term_is_durable
    setup.journal.setCurrentTerm(3, None)  # from now on both copies are there
    setup.settle()
    setup.disk.gate.clear()
    setup.add(1)
    while setup.disk.arrived.acquire(blocking=False):
        pass
    setup.journal.setCurrentTerm(4, "n2")
    assert (setup.journal.getCurrentTerm(), setup.journal.getVotedForNodeId()) == (4, "n2")
    setup.disk.arrived.acquire()
    setup.turns.run()
    assert not setup.journal.term_is_durable
    setup.disk.gate.set()
    setup.settle()
    again = opened(setup.disk.crashed(Crash.SYNCED)).journal
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (4, "n2")
    assert again.term_is_durable


def test_a_term_that_is_set_again_costs_nothing(opened: Callable[..., Setup]) -> None:
    setup = opened()
    setup.journal.setCurrentTerm(4, "n2")
    setup.settle()
    syncs = setup.disk.syncs
    setup.journal.setCurrentTerm(4, "n2")
    assert setup.journal.term_is_durable
    assert setup.disk.syncs == syncs


def test_a_newer_vote_is_not_durable_because_an_older_one_is(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    setup.journal.setCurrentTerm(3, None)
    setup.settle()
    setup.terms_told.clear()
    while setup.disk.arrived.acquire(blocking=False):
        pass
    setup.disk.gate.clear()
    setup.journal.setCurrentTerm(4, None)  # waits in the sync of its turn
    setup.disk.arrived.acquire()
    setup.journal.setCurrentTerm(5, "n3")
    setup.disk.gate.set()
    setup.settle()
    assert setup.terms_told[0] is False
    assert setup.terms_told[-1] is True
    term = TermFile(DIRECTORY / "term", setup.disk.crashed(Crash.SYNCED)).load()
    assert term == (5, "n3")


def test_damage_below_the_mark_is_refused_when_the_journal_is_opened(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    setup.add(1)
    setup.journal.flush()
    setup.settle()
    setup.journal.close()
    setup.disk.flip(NEWEST, 8 * (64 + 36))  # in the payload
    with pytest.raises(Corrupt):
        Setup(setup.disk)


# -- group commit -----------------------------------------------------------------------------


def test_many_flushes_share_one_sync(opened: Callable[..., Setup]) -> None:
    setup = opened()
    setup.add(1)
    setup.journal.flush()
    setup.settle()
    while setup.disk.arrived.acquire(blocking=False):
        pass
    before = setup.disk.syncs
    setup.disk.gate.clear()
    setup.add(2)
    setup.journal.flush()
    setup.disk.arrived.acquire()  # the first sync is under way
    for index in range(3, 103):
        setup.add(index)
        setup.journal.flush()
    assert setup.journal.durable_index == 1
    setup.disk.gate.set()
    setup.settle()
    assert setup.disk.syncs - before == 2
    assert setup.journal.durable_index == 102
    assert reopened(setup.disk.crashed(Crash.SYNCED)) == list(setup.journal)


def test_nothing_is_told_durable_while_its_sync_is_under_way(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    setup.add(1)
    setup.journal.flush()
    setup.settle()
    setup.disk.gate.clear()
    setup.add(2)
    setup.journal.flush()
    setup.turns.run()
    assert setup.journal.durable_index == 1
    assert [index for _, index, _ in reopened(setup.disk.crashed(Crash.SYNCED))] == [1]


def test_a_flush_of_nothing_costs_nothing(opened: Callable[..., Setup]) -> None:
    setup = opened()
    setup.add(1)
    setup.journal.flush()
    setup.settle()
    told, syncs = len(setup.terms_told), setup.disk.syncs
    for _ in range(100):
        setup.journal.flush()
    setup.journal.close()
    setup.turns.run()
    assert (len(setup.terms_told), setup.disk.syncs) == (told, syncs)


def test_an_idle_log_is_marked_so_that_damage_is_not_taken_for_a_torn_tail(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    setup.add(1)
    setup.journal.flush()
    setup.settle()
    size = setup.disk.size_bytes(NEWEST)
    marked = threading.Event()
    setup.disk.on_step = lambda name: marked.set()
    assert marked.wait(10)
    assert setup.disk.size_bytes(NEWEST) == size + 36
    setup.disk.flip(NEWEST, 8 * (size - 2))
    with pytest.raises(Corrupt):
        reopened(setup.disk)


# -- truncation -------------------------------------------------------------------------------


def test_a_sync_that_a_truncation_overtook_no_longer_counts(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    for index in (1, 2):
        setup.add(index)
    setup.journal.flush()
    setup.settle()
    setup.disk.gate.clear()
    for index in (3, 4, 5):
        setup.add(index)
    setup.journal.flush()
    setup.disk.arrived.acquire()
    epoch = setup.journal.epoch
    setup.journal.deleteEntriesFrom(3)  # list position: entries 4 and 5 go
    setup.add(4, term=2)
    setup.add(5, term=2)
    assert setup.journal.epoch == epoch + 1
    setup.disk.gate.set()
    setup.turns.run_until(lambda: len(setup.terms_told) == 2)
    # The sync of the old 3..5 is done; of what the list holds now only 1 and 2 are known durable.
    assert setup.journal.durable_index == 2
    setup.journal.flush()
    setup.settle()
    assert setup.journal.durable_index == 5
    assert reopened(setup.disk.crashed(Crash.SYNCED)) == list(setup.journal)


def test_a_truncation_takes_back_what_was_durable(opened: Callable[..., Setup]) -> None:
    setup = opened()
    for index in range(1, 6):
        setup.add(index)
    setup.journal.flush()
    setup.settle()
    setup.journal.deleteEntriesFrom(2)
    assert setup.journal.durable_index == 2
    setup.add(3, term=2)
    assert setup.journal.durable_index == 2
    setup.journal.flush()
    setup.settle()
    assert setup.journal.durable_index == 3


def test_entries_that_were_added_and_truncated_before_a_flush_leave_no_trace(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    for index in range(1, 6):
        setup.add(index)
    setup.journal.deleteEntriesFrom(1)
    setup.add(2, term=2)
    setup.journal.flush()
    setup.settle()
    assert [(index, term) for _, index, term in setup.journal] == [(1, 1), (2, 2)]
    assert reopened(setup.disk.crashed(Crash.SYNCED)) == list(setup.journal)


def test_a_cleared_journal_begins_anew_at_any_index(opened: Callable[..., Setup]) -> None:
    setup = opened()
    for index in range(1, 6):
        setup.add(index)
    setup.journal.flush()
    setup.settle()
    setup.journal.clear()
    assert setup.journal.durable_index == 0
    assert setup.journal.size_bytes == 0
    for index in (70, 71):
        setup.journal.add(NOOP_COMMAND, index, 3)
    setup.journal.flush()
    setup.settle()
    assert reopened(setup.disk.crashed(Crash.SYNCED)) == [
        (NOOP_COMMAND, 70, 3),
        (NOOP_COMMAND, 71, 3),
    ]


def test_cutting_keeps_at_least_two_entries_and_counts_what_is_left(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    for index in range(1, 11):
        setup.add(index)
    setup.journal.flush()
    setup.settle()
    setup.journal.cut_below(4)
    assert setup.journal.first_index == 4
    setup.journal.cut_below(2)
    assert setup.journal.first_index == 4
    setup.journal.cut_below(99)
    assert [index for _, index, _ in setup.journal] == [9, 10]
    assert setup.journal.durable_index == 10


def test_size_is_that_of_the_entries_in_memory_however_they_came_and_went(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    for index in range(1, 101):
        setup.add(index, text="x" * index)
    setup.journal.flush()
    setup.settle()
    whole = setup.journal.size_bytes
    assert whole == pytest.approx(setup.disk.size_bytes(NEWEST), rel=0.2)
    setup.journal.close()
    again = opened(setup.disk)
    assert again.journal.size_bytes == whole
    again.journal.deleteEntriesFrom(60)
    again.journal.cut_below(59)
    assert again.journal.size_bytes == sum(len(text) + 36 for text, _, _ in again.journal) > 0


# -- failures ---------------------------------------------------------------------------------


def test_a_failing_fsync_is_told_once_and_nothing_is_durable_ever_after(
    opened: Callable[..., Setup],
) -> None:
    disk = MemoryDisk()
    disk.make_dir(DIRECTORY)
    counting = FailingDisk(disk)
    first = opened(counting)
    first.add(1)
    first.journal.flush()
    first.settle()
    calls = counting.calls
    counting._fail_at = calls + 2  # the next call writes, the one after it syncs
    first.add(2)
    first.journal.flush()
    first.turns.run_until(lambda: bool(first.failures))
    assert counting.failed == "sync"
    for index in range(3, 6):
        first.add(index)
        first.journal.flush()
    first.journal.setCurrentTerm(9, "n1")
    first.journal.abandon()
    first.turns.run()
    assert [type(each) for each in first.failures] == [DiskFailed]
    assert first.journal.durable_index == 1
    assert not first.journal.term_is_durable


def test_every_failing_disk_call_is_told_once_and_never_acknowledged(
    opened: Callable[..., Setup],
) -> None:
    fail_at = 1
    while True:
        disk = MemoryDisk()
        disk.make_dir(DIRECTORY)
        failing = FailingDisk(disk, fail_at)
        try:
            setup = opened(failing)
        except DiskFailed:
            fail_at += 1
            continue
        journal = setup.journal
        journal.setCurrentTerm(1, "n1")
        for index in range(1, 4):
            setup.add(index)
        journal.flush()
        setup.run_until_done(3)
        if failing.failed is None:
            break
        assert len(setup.failures) == 1
        assert isinstance(setup.failures[0], Fatal)
        synced = reopened(disk.crashed(Crash.SYNCED))
        assert journal.durable_index <= len(synced)
        fail_at += 1
    assert fail_at > 8


def test_a_bug_in_the_sync_thread_is_told_like_a_failing_disk(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    setup.add(1)
    setup.journal.add(b"\x07 not a command that may be logged", 2, 1)
    setup.journal.flush()
    setup.turns.run_until(lambda: bool(setup.failures))
    assert len(setup.failures) == 1
    assert setup.journal.durable_index == 0


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ZeroDivisionError("a bug")])
def test_no_exception_ends_the_sync_thread_in_silence(
    opened: Callable[..., Setup], error: Exception
) -> None:
    setup = opened()

    def fail() -> None:
        raise error

    setup.journal._pending.append(fail)
    setup.journal.flush()
    setup.turns.run_until(lambda: bool(setup.failures))
    assert setup.failures == [error]


def test_after_a_failure_abandoning_ends_the_thread_and_writes_nothing_more(
    opened: Callable[..., Setup],
) -> None:
    setup = opened()
    setup.add(1)
    setup.journal.flush()
    setup.settle()
    thread = setup.journal._thread
    assert thread is not None
    before = setup.disk.content(NEWEST)
    setup.add(2)
    setup.journal.abandon()
    assert not thread.is_alive()
    assert setup.disk.content(NEWEST) == before


def test_closing_finishes_what_was_flushed(opened: Callable[..., Setup]) -> None:
    setup = opened()
    for index in range(1, 50):
        setup.add(index)
    setup.journal.close()
    assert len(reopened(setup.disk.crashed(Crash.SYNCED))) == 49


# -- inline -----------------------------------------------------------------------------------


def test_inline_every_entry_is_durable_when_the_call_returns(
    opened: Callable[..., Setup],
) -> None:
    setup = opened(inline=True)
    for index in range(1, 6):
        setup.add(index)
        assert setup.journal.durable_index == index
        assert len(reopened(setup.disk.crashed(Crash.SYNCED))) == index
    setup.journal.setCurrentTerm(3, "n1")
    assert setup.journal.term_is_durable
    assert TermFile(DIRECTORY / "term", setup.disk.crashed(Crash.SYNCED)).load() == (3, "n1")
    setup.journal.deleteEntriesFrom(2)
    assert setup.journal.durable_index == 2
    assert len(reopened(setup.disk.crashed(Crash.SYNCED))) == 2


def test_inline_a_failing_disk_is_raised_to_the_caller(opened: Callable[..., Setup]) -> None:
    disk = MemoryDisk()
    disk.make_dir(DIRECTORY)
    failing = FailingDisk(disk)
    setup = opened(failing, inline=True)
    setup.add(1)
    failing._fail_at = failing.calls + 2
    with pytest.raises(DiskFailed):
        setup.add(2)
    assert setup.journal.durable_index == 1


def test_inline_an_idle_log_is_marked_by_the_timer_and_at_the_end(
    opened: Callable[..., Setup],
) -> None:
    setup = opened(inline=True)
    setup.add(1)
    setup.journal.poll()
    size = setup.disk.size_bytes(NEWEST)
    setup.journal.poll()
    assert setup.disk.size_bytes(NEWEST) == size
    setup.add(2)
    setup.journal.close()
    setup.disk.flip(NEWEST, 8 * (setup.disk.size_bytes(NEWEST) - 36 - 2))
    with pytest.raises(Corrupt):
        reopened(setup.disk)
