"""Upkeep: checkpoints, snapshots, the journal's length, the disk's reserve. No rules of data.

    every POLL_S      checkpoint due?  ->  statemachine writes one in the background
                      journal grown by compact_bytes, and by the size of the last snapshot,
                      since that one
                                       ->  a snapshot is made in the background
                      snapshot durable ->  the journal is cut below it, less retain_bytes, so
                                           that a peer a little behind needs no snapshot
                      applied entries over journal.memory_bytes leave memory (node.backlog reads
                      them from the files when a peer needs them)
    every second      free space below disk.reserve_bytes
                                       ->  hand leadership over, refuse writes (Unavailable)
                                           until there is room again

Invariant: the journal is cut only below a durable snapshot, so whatever was cut can be sent.

A crash between snapshot and cut leaves a longer journal, which is cut after the next start.
A background job that fails is Fatal, told through the node's one door.

Proved by: tests/node/test_upkeep.py, tests/cluster/test_catch_up.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from node.batches import Batches, WriteWaiter
from node.config import Config
from node.errors import KVError, Unavailable
from node.logs import EventLog
from node.raft import Raft
from node.transfer import Transfer
from statemachine import FileStateMachine
from statemachine.fs import FileSystem

__all__ = ["Upkeep"]

POLL_S: Final = 0.05
_DISK_EVERY_S: Final = 1.0


class _Nobody:
    """Nobody waits for a hand-over that the node decided on itself."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def resolve(self, results: object, start: int, stop: int) -> None:
        """Done."""

    def fail(self, error: KVError) -> None:
        self._log.warning("hand-over failed", reason=str(error))


class Upkeep:
    """The regular work of one node. `tick` is called by the node's timer."""

    def __init__(
        self,
        config: Config,
        *,
        raft: Raft,
        machine: FileStateMachine,
        batches: Batches,
        transfer: Transfer,
        disk: FileSystem,
        monotonic: Callable[[], float],
        log: EventLog,
    ) -> None:
        self._compact_bytes = config.journal.compact_bytes
        self._retain_bytes = config.journal.retain_bytes
        self._reserve_bytes = config.disk.reserve_bytes
        self._data_dir: Path = config.node.data_dir
        self._raft = raft
        self._machine = machine
        self._batches = batches
        self._transfer = transfer
        self._disk = disk
        self._monotonic = monotonic
        self._log = log
        self._next_s = self._next_disk_s = 0.0
        self._waiters: list[tuple[int, WriteWaiter]] = []
        self._closed: KVError | None = None
        self._keep_from = 0
        """The journal is to be cut below this index."""
        self._retained_bytes = 0
        """What the journal holds of entries that are in the last snapshot, once it is cut."""
        self._seen_snapshot = self._snapshot_index()
        self._plan_cut(self._seen_snapshot)  # a crash may have come before it

    def _snapshot_index(self) -> int:
        metadata = self._machine.snapshot_metadata
        return metadata.last_included.index if metadata is not None else 0

    def snapshot(self, waiter: WriteWaiter) -> None:
        """Make a snapshot of what is applied now, or later; the waiter gets [b"index-term"]
        when it is durable."""
        wanted = self._machine.last_applied.index
        if self._closed is not None or wanted == 0:
            waiter.fail(self._closed or Unavailable("nothing has been written yet"))
            return
        self._waiters.append((wanted, waiter))
        self._tell_waiters(self._snapshot_index())
        self._next_s = 0.0

    def _name(self) -> bytes:
        metadata = self._machine.snapshot_metadata
        assert metadata is not None
        last = metadata.last_included
        return f"{last.index}-{last.term}".encode()

    def tick(self) -> None:
        """Do what is due.

        Raises:
            Fatal: a background job failed.
        """
        now_s = self._monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + POLL_S
        self._machine.poll_background()
        self._raft.journal.poll()
        index = self._snapshot_index()
        if index != self._seen_snapshot:
            self._seen_snapshot = index
            self._log.info("snapshot made", index=index)
            self._plan_cut(index)
            self._tell_waiters(index)
        elif self._waiters or self._is_journal_long():
            self._machine.start_snapshot()  # False while another image is written: next time
        else:
            self._machine.maybe_checkpoint(now_s)
        self._cut()
        self._raft.journal.forget_applied(self._raft.applied_index())
        if now_s >= self._next_disk_s:
            self._next_disk_s = now_s + _DISK_EVERY_S
            self._check_disk()

    def _is_journal_long(self) -> bool:
        """Longer than compact_bytes, and than the last snapshot: what is written for snapshots
        is never more than what was logged, however large the store is. And a new snapshot would
        hold more than the last one, which the journal has been cut below."""
        metadata = self._machine.snapshot_metadata
        snapshot_bytes = metadata.size_bytes if metadata is not None else 0
        grown_bytes = self._raft.journal.size_bytes - self._retained_bytes
        return (
            grown_bytes > max(self._compact_bytes, snapshot_bytes)
            and self._seen_snapshot < self._machine.last_applied.index
            and self._keep_from <= self._raft.journal.first_index
        )

    def _plan_cut(self, index: int) -> None:
        first_retained, self._retained_bytes = self._first_retained(index)
        # The snapshot's own entry stays, with one before it: PySyncObj starts at the second.
        self._keep_from = min(first_retained, index - 1)

    def _cut(self) -> None:
        journal = self._raft.journal
        # What PySyncObj has not applied again yet stays: after a restart it is behind the state.
        if journal.first_index < self._keep_from <= self._raft.applied_index():
            journal.cut_below(self._keep_from)
            self._keep_from = journal.first_index
            self._log.info("journal cut", first_index=journal.first_index)

    def _tell_waiters(self, index: int) -> None:
        told = [waiter for wanted, waiter in self._waiters if wanted <= index]
        self._waiters = [each for each in self._waiters if each[0] > index]
        for waiter in told:
            waiter.resolve([self._name()], 0, 1)

    def _first_retained(self, index: int) -> tuple[int, int]:
        """The oldest entry to keep, and the bytes from there to `index`: `retain_bytes`, about."""
        journal = self._raft.journal
        if not journal:
            return 0, 0  # a new node: PySyncObj has not begun its log yet
        return journal.retained_from(index, self._retain_bytes)

    def _check_disk(self) -> None:
        free_bytes = self._disk.free_bytes(self._data_dir)
        low = free_bytes < self._reserve_bytes
        if low == (self._batches.refusal is not None):
            return
        if low:
            self._batches.refusal = (
                f"disk nearly full: {free_bytes} bytes free, {self._reserve_bytes} are kept back"
            )
            self._log.error("writes refused", reason=self._batches.refusal)
            if self._raft.is_leader():
                self._transfer.begin(None, _Nobody(self._log))
        else:
            self._batches.refusal = None
            self._log.info("writes taken again", free_bytes=free_bytes)

    def close(self, error: KVError) -> None:
        """The node stops. Whoever comes later hears `error`."""
        self._closed = error
        waiters, self._waiters = self._waiters, []
        for _, waiter in waiters:
            waiter.fail(error)
