"""The journal: Raft's log, in memory for PySyncObj and on disk before anyone is told.

    loop thread                                    sync thread (one)
    -----------                                    -----------------
    add / deleteEntriesFrom / setCurrentTerm
      change the list, note an operation
    flush()  ---- operations, ticket --------->    do them in order, one fdatasync for all
    durable_index, term_is_durable  <--ticket--    tell the loop

PySyncObj sees a list of entries (it is one: `__getitem__` and `__len__` at C speed) that
changes at once. The list holds the newest alone: entries that are applied and durable leave
memory once it holds more than `memory_bytes`. PySyncObj takes the place where memory begins for
the beginning of the log; the fence knows better, and reads what is older from the files
(node.backlog):

    first_index          memory_index        applied        durable     last_index
    |----- in files alone -----|--------- in files and in memory --------------|

What is *durable* is a later number, and everything that leaves the node waits for it (DESIGN
"Durability", PYSYNCOBJ "Durability gate"):

    durable_index    every entry up to here is fsynced. Acknowledgements wait for it.
    term_is_durable  the current term and vote are fsynced. Votes wait for it.

Group commit: one sync is in flight; whatever was flushed meanwhile shares the next one. Of
several terms that wait only the last is saved, and before any entry: no entry on disk is of a
later term than the term file.

Invariants:
  - operations reach the files in the order in which they were made;
  - durable_index never counts an entry that was truncated: each truncation raises `epoch`,
    and a sync that was begun before it no longer counts (its entries may be gone);
  - what left memory is applied and durable, so it is never truncated;
  - getRaftCommitIndex is always 1 (P14): a persisted commit index that outlived its entries
    would let a new leader acknowledge what nobody has. The leader tells it again.

A crash loses only what was not synced, so nothing that was acknowledged or voted. Whatever
fails in the sync thread is handed to `on_failure`, and no ticket comes back ever after.

With `inline=True` (virtual time, tests) there is no thread: each operation is written and synced
before the call returns, and what fails is raised to whoever called. A node never runs so: a
slow disk would stop its loop.

Proved by: tests/node/test_journal.py
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

from pysyncobj.journal import Journal

from node.entry import Entry
from node.errors import Corrupt, Fatal
from node.journal_files import JournalFiles, TermFile
from node.milestones import Milestones, entry_bytes
from node.worker import Worker

__all__ = ["FileJournal"]

Operation = Callable[[], None]
_IDLE_S: Final = 0.5
"""After this long without work the sync thread records how far the log is durable."""


class FileJournal(list[Entry], Journal):  # type: ignore[misc]
    """PySyncObj's log of (command, index, term), with a durable twin on disk.

    Args:
        files: the segments, not yet loaded.
        term_file: where term and vote are kept.
        call_soon_threadsafe: runs a function in the loop's thread.
        on_durable: called in the loop's thread when durable_index or term_is_durable moved.
        on_failure: called in the loop's thread, once, when the disk failed.
        inline: sync within each call instead of in the thread.
        settled_index: memory begins before this entry: it and what follows are still needed.
        memory_bytes: how much of applied entries is held in memory, in bytes.

    Raises:
        Corrupt, Unsupported: what is on disk does not check out.
    """

    def __init__(
        self,
        files: JournalFiles,
        term_file: TermFile,
        *,
        call_soon_threadsafe: Callable[..., object],
        on_durable: Callable[[], None],
        on_failure: Callable[[Exception], None],
        inline: bool = False,
        settled_index: int = 0,
        memory_bytes: int = 1 << 62,
    ) -> None:
        super().__init__(files.load(settled_index, memory_bytes))
        self._files = files
        self._term_file = term_file
        self._term, self._vote = term_file.mend()
        self._call_soon_threadsafe = call_soon_threadsafe
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._inline = inline
        self._pending: list[Operation] = []
        self._appended: list[Entry] = []
        self._new_vote: tuple[int, str | None] | None = None
        self._term_changes = 0
        self._term_changes_durable = 0
        self.epoch = 0
        """How often the log was truncated or cleared since it was opened."""
        self.durable_index: int = self[-1][1] if self else 0
        self.hold_index: Callable[[], int | None] = lambda: None
        """Set by the owner: the members file is not durable yet for what is behind it."""
        self.has_pending_roster: Callable[[], bool] = lambda: False
        """Set by the owner: what comes may take a roster back."""
        """Highest index of which this and all entries before it are fsynced."""
        self._marks = files.marks
        self._first_index = files.first_index
        self._begin_bytes = 0
        """Bytes before entry `first_index`, by the milestones' count."""
        self._memory_bytes_max = memory_bytes
        self._memory_bytes = _bytes_of(self)
        self._reader = Worker(
            "journal-read",
            call_soon_threadsafe=call_soon_threadsafe,
            on_failure=on_failure,
            threaded=not inline,
        )
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if not inline:
            self._start_thread()

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._sync_forever, name="journal-sync", daemon=True)
        self._thread.start()

    # -- what PySyncObj calls ------------------------------------------------------------

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry.

        Raises:
            Fatal: it leaves a gap.
        """
        if not self:
            self._first_index = idx
        elif idx != self[-1][1] + 1:
            raise Fatal(f"entry {idx} is appended behind {self[-1][1]}")
        entry = (command, idx, term)
        self.append(entry)
        self._appended.append(entry)
        size_bytes = entry_bytes(entry)
        self._memory_bytes += size_bytes
        self._marks.add(idx, size_bytes)
        if self._inline:
            self.flush()

    def clear(self) -> None:
        """Drop every entry: a snapshot takes their place."""
        super().clear()
        self._marks = Milestones()
        self._begin_bytes = self._memory_bytes = 0
        self._forget(0)
        self._note(self._files.clear)

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803 - PySyncObj's names
        """Truncate: drop the entry at list position `entryFrom` and all after it."""
        if entryFrom >= len(self):
            return
        index = self[entryFrom][1]
        size_bytes = _bytes_of(self[entryFrom:])
        self._memory_bytes -= size_bytes
        self._marks.take_back(index, size_bytes)
        del self[entryFrom:]
        self._forget(index - 1)
        self._note(lambda: self._files.truncate_from(index))

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803
        """Drop the entries before list position `entryTo` (they are in a durable snapshot)."""
        if 0 < entryTo < len(self):
            self.cut_below(self[entryTo][1])

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Note the term and the vote. Votes leave when `term_is_durable` again."""
        if (term, votedForNodeId) == (self._term, self._vote):
            return
        self._term, self._vote = self._new_vote = term, votedForNodeId
        self._term_changes += 1
        self.flush()

    def getCurrentTerm(self) -> int:  # noqa: N802
        """The term that was last noted."""
        return self._term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        """Who got this node's vote in the current term."""
        return self._vote

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803
        """Not kept: see getRaftCommitIndex."""

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        """Always 1 (P14)."""
        return 1

    def _destroy(self) -> None:
        self.close()

    # -- what the node asks ---------------------------------------------------------------

    @property
    def first_index(self) -> int:
        """Index of the oldest entry, on disk."""
        return self._first_index

    @property
    def memory_index(self) -> int:
        """Index of the oldest entry in memory, where PySyncObj's log begins."""
        return self[0][1]

    @property
    def last_index(self) -> int:
        """Index of the newest entry."""
        return self[-1][1]

    @property
    def last_term(self) -> int:
        """Term of the newest entry."""
        return self[-1][2]

    @property
    def size_bytes(self) -> int:
        """Bytes of all entries (close to the size of the files)."""
        return self._marks.end_bytes - self._begin_bytes

    @property
    def term_is_durable(self) -> bool:
        """Whether the current term and vote are fsynced."""
        return self._term_changes == self._term_changes_durable

    def term_at(self, index: int) -> int | None:
        """Term of the entry at `index`; None when it is not in memory or not there yet."""
        position = index - self[0][1]
        return self[position][2] if 0 <= position < len(self) else None

    @property
    def gated_index(self) -> int:
        """Up to here entries may be acknowledged, or counted as this node's own."""
        hold_index = self.hold_index()
        return self.durable_index if hold_index is None else min(self.durable_index, hold_index)

    def forget_applied(self, applied_index: int) -> None:
        """Drop the oldest entries from memory that are over `memory_bytes`, of the applied."""
        surplus_bytes = self._memory_bytes - self._memory_bytes_max
        below = min(applied_index, self.durable_index) - 1
        count = dropped_bytes = 0
        while dropped_bytes < surplus_bytes and self[count][1] < below:
            dropped_bytes += entry_bytes(self[count])
            count += 1
        if count:
            del self[:count]
            self._memory_bytes -= dropped_bytes

    def cut_below(self, index: int) -> None:
        """Drop entries below `index` from memory and, segment by segment, from disk."""
        index = min(index, self[-1][1] - 1)
        if index <= self._first_index or len(self) < 2:
            return
        self._begin_bytes = self._bytes_before(index)
        position = index - self[0][1]
        if position > 0:
            self._memory_bytes -= _bytes_of(self[:position])
            del self[:position]
        self._first_index = index
        self._marks.forget_below(index)
        self._note(lambda: self._files.cut_below(index))
        self.flush()

    def _bytes_before(self, index: int) -> int:
        """Exact for entries in memory, to within a milestone for others."""
        position = index - self[0][1]
        if position < 0:
            return self._marks.bytes_before(index)
        return self._marks.end_bytes - self._memory_bytes + _bytes_of(self[:position])

    def retained_from(self, index: int, bytes_max: int) -> tuple[int, int]:
        """The oldest entry such that it and all up to `index` make about `bytes_max`; and how
        many bytes those are."""
        first_memory = self[0][1]
        retained_bytes, place = 0, min(index - first_memory, len(self))
        while 0 < place < len(self):
            retained_bytes += entry_bytes(self[place])
            if retained_bytes > bytes_max:
                return first_memory + place, retained_bytes
            place -= 1
        first = first_memory + max(place, 0)
        if self._first_index == first_memory or place > 0:
            return first, retained_bytes
        before = self._bytes_before(min(index, first_memory))
        first = self._marks.first_behind(before - (bytes_max - retained_bytes)) or first
        first = min(max(first, self._first_index), index)
        return first, retained_bytes + max(before - self._marks.bytes_before(first), 0)

    def read_later(
        self, index: int, bytes_max: int, done: Callable[[list[Entry] | None], None]
    ) -> None:
        """Read entries that left memory, from `index` up to the first in memory at most.

        `done` is told in the loop: at least one entry, about `bytes_max` of them; or None when
        the log does not reach back so far any more.
        """
        last_index, epoch = self[0][1], self.epoch

        def read() -> list[Entry] | None:
            try:
                return self._files.read(index, last_index, bytes_max)
            except Corrupt:
                if self.epoch != epoch:
                    return None  # cleared meanwhile: a new file bears the old one's name
                raise

        self._reader.do(read, done)

    # -- durability ------------------------------------------------------------------------

    def _forget(self, last_index: int) -> None:
        self.epoch += 1
        self.durable_index = min(self.durable_index, last_index)

    def _note(self, operation: Operation) -> None:
        self._note_appended()
        self._pending.append(operation)
        if self._inline:
            self.flush()

    def _note_appended(self) -> None:
        if self._appended:
            entries, self._appended = self._appended, []
            self._pending.append(lambda: self._files.append(entries))

    def flush(self) -> None:
        """Hand over what was noted since the last flush. Costs nothing when that is nothing."""
        self._note_appended()
        if not self._pending and self._new_vote is None:
            return
        last_index = self[-1][1] if self else 0
        job = _Job(self._pending, self._new_vote, last_index, self.epoch, self._term_changes)
        self._pending, self._new_vote = [], None
        if self._inline:
            self._do([job])
            self._finished(job)
        else:
            self._jobs.put(job)

    def _do(self, jobs: list[_Job]) -> None:
        votes = [job.vote for job in jobs if job.vote is not None]
        if votes:
            self._term_file.save(*votes[-1])
            if not self._inline:
                self._tell(self._term_saved, jobs[-1])  # no vote has to wait for the entries
        operations = [operation for job in jobs for operation in job.operations]
        for operation in operations:
            operation()
        if operations:
            self._files.sync()

    def _term_saved(self, job: _Job) -> None:
        self._term_changes_durable = max(self._term_changes_durable, job.term_changes)
        self._on_durable()

    def _finished(self, job: _Job) -> None:
        self._term_changes_durable = max(self._term_changes_durable, job.term_changes)
        if job.epoch == self.epoch and job.last_index > self.durable_index:
            self.durable_index = job.last_index
        self._on_durable()

    def poll(self) -> None:
        """To be called from a timer: inline, it marks an idle log. The thread does so itself."""
        if self._inline:
            self._files.mark()

    def _sync_forever(self) -> None:
        """The sync thread. Whatever comes out of it is a failure of the disk, or a bug."""
        try:
            self._sync_until_closed()
        except Exception as error:  # noqa: BLE001 - handed to the one door
            self._tell(self._on_failure, error)

    def _sync_until_closed(self) -> None:
        """Take all that waits, do it, sync once, tell the loop."""
        while True:
            try:
                jobs = [self._jobs.get(timeout=_IDLE_S)]
            except queue.Empty:
                self._files.mark()
                jobs = [self._jobs.get()]
            while not self._jobs.empty():
                jobs.append(self._jobs.get())
            todo = [job for job in jobs if job is not None]
            if todo:
                self._do(todo)
                self._tell(self._finished, todo[-1])
            if len(todo) < len(jobs):
                return  # a None: close() or abandon() asked for the end

    def _tell(self, function: Callable[..., None], argument: object) -> None:
        try:
            self._call_soon_threadsafe(function, argument)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to be told

    def close(self) -> None:
        """Flush, end the thread, mark the log, close the files."""
        self.flush()
        if self._end_thread():
            self._files.mark()
        self._files.close()

    def abandon(self) -> None:
        """After a failure: end the thread and close the files. Nothing more is handed over."""
        self._pending.clear()
        self._appended.clear()
        self._new_vote = None
        self._end_thread()
        self._files.close()

    def _end_thread(self) -> bool:
        """Whether all that was handed over was done."""
        self._reader.close()
        thread, self._thread = self._thread, None
        if thread is None:
            return self._inline
        was_alive = thread.is_alive()
        self._jobs.put(None)
        thread.join()
        return was_alive and self._jobs.empty()


class _Job:
    """Operations that share a sync, and what is durable once it is done."""

    __slots__ = ("epoch", "last_index", "operations", "term_changes", "vote")

    def __init__(
        self,
        operations: list[Operation],
        vote: tuple[int, str | None] | None,
        last_index: int,
        epoch: int,
        term_changes: int,
    ) -> None:
        self.operations = operations
        self.vote = vote
        self.last_index = last_index
        self.epoch = epoch
        self.term_changes = term_changes


def _bytes_of(entries: list[Entry]) -> int:
    return sum(map(entry_bytes, entries))
