"""Planted bugs. Durability and starting: the gate, votes, the journal, what is found at boot.

Proved by: tests/simulation/test_planted.py, scripts/simulate --planted
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any
from unittest import mock

import node.core
from node import wire
from node.errors import Fatal
from node.following import Following
from node.journal import FileJournal
from node.journal_files import JournalFiles, TermFile
from node.leading import Leading
from node.raft import Raft, Replica
from statemachine import FileStateMachine, recovery
from statemachine.errors import Corrupt, DiskFailed
from statemachine.fs import TEMPORARY_SUFFIX
from tests.simulation.planted.bug import Bug, always, put

__all__ = ["FOUND"]


def _gate_follower() -> Sequence[Any]:
    def acknowledge(self: Following) -> None:
        leader_id = self._state.leader_id()
        if self._ack_wanted and leader_id is not None and not self._state.is_leader():
            self._ack_wanted = False
            frame = wire.encode(wire.ACK, self._state.term(), self.verified_index + 1, False, True)
            self._links.send(leader_id, frame)

    return [put(Following, "acknowledge", acknowledge)]


def _gate_leader() -> Sequence[Any]:
    def hand_on(self: Leading, peer_id: str, follower: Any, *, is_sign_of_life: bool) -> None:
        follower.delivered_index = max(follower.delivered_index, follower.acked_index)
        self._tell(peer_id, follower.delivered_index + 1, reset=False, success=True)

    return [put(Leading, "_hand_on", hand_on)]


def _gate_alone() -> Sequence[Any]:
    return [put(Replica, "_SyncObj__getCurrentLogIndex", lambda self: self._journal.last_index)]


def _journal_not_synced() -> Sequence[Any]:
    def sync(self: JournalFiles) -> None:
        self._durable_bytes = self._segments[-1].size_bytes if self._segments else 0

    return [put(JournalFiles, "sync", sync)]


def _failed_sync_ignored() -> Sequence[Any]:
    real = JournalFiles.sync

    def sync(self: JournalFiles) -> None:
        with contextlib.suppress(DiskFailed):
            real(self)

    return [put(JournalFiles, "sync", sync)]


def _votes_not_synced() -> Sequence[Any]:
    return [put(FileJournal, "term_is_durable", always(True))]


def _votes_not_written() -> Sequence[Any]:
    return [put(TermFile, "save", lambda self, term, vote: None)]


def _leads_alone_early() -> Sequence[Any]:
    return [put(Raft, "_may_stand_alone", lambda self: True)]


def _rename_not_synced() -> Sequence[Any]:
    def replace(disk: Any, path: Any, chunks: Any) -> None:
        temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        disk.write_new(temporary, chunks)
        disk.rename(temporary, path)

    return [
        mock.patch(f"{module}.replace_file", replace)
        for module in ("node.members_file", "node.identity", "node.term_file")
    ]


def _sync_counts_truncated() -> Sequence[Any]:
    def finished(self: FileJournal, job: Any) -> None:
        self._term_changes_durable = max(self._term_changes_durable, job.term_changes)
        self.durable_index = max(self.durable_index, job.last_index)
        self._on_durable()

    return [put(FileJournal, "_finished", finished)]


def _no_alignment() -> Sequence[Any]:
    return [put(node.core, "align", lambda journal, machine, log: None)]


def _commit_remembered() -> Sequence[Any]:
    kept: dict[str, int] = {}

    def save(self: FileJournal, raftCommitIndex: int) -> None:  # noqa: N803 - PySyncObj's name
        kept[str(self._files._directory)] = raftCommitIndex + 3  # as if it outlived its entries

    return [
        put(FileJournal, "setRaftCommitIndex", save),
        put(
            FileJournal, "getRaftCommitIndex", lambda self: kept.get(str(self._files._directory), 1)
        ),
    ]


def _goes_on_empty() -> Sequence[Any]:
    """What cannot be read at boot is taken for nothing."""
    real, real_align = recovery.recover, node.core.align

    def recover(disk: Any, paths: Any, *rest: Any) -> Any:
        try:
            return real(disk, paths, *rest)
        except Corrupt:
            for directory in (paths.wal, paths.checkpoints):
                for name in disk.list_dir(directory):
                    disk.unlink(directory / name)
            return real(disk, paths, *rest)

    def align(journal: FileJournal, machine: FileStateMachine, log: Any) -> None:
        with contextlib.suppress(Fatal):
            real_align(journal, machine, log)

    return [mock.patch("statemachine.machine.recover", recover), put(node.core, "align", align)]


def _leftovers_used() -> Sequence[Any]:
    def remove(disk: Any, directory: Any, removed: list[str]) -> None:
        for name in disk.list_dir(directory):
            if name.endswith(TEMPORARY_SUFFIX):
                disk.rename(directory / name, directory / name.removesuffix(TEMPORARY_SUFFIX))

    return [put(recovery, "_remove_temporary", remove)]


def _goes_on_after_failure() -> Sequence[Any]:
    return [
        put(Raft, "fail", lambda self, error: None),
        put(node.core.Core, "_fail", lambda self, error: None),
    ]


FOUND: Sequence[Bug] = (
    Bug("gate: follower", "acknowledges before its fsync", _gate_follower, defence="gate"),
    Bug("gate: leader", "counts itself before its fsync", _gate_leader, defence="gate"),
    Bug("gate: alone", "a lone node commits before its fsync", _gate_alone, defence="gate"),
    Bug("journal is never synced", "as the stock journal", _journal_not_synced, defence="P16"),
    Bug("failed fsync ignored", "goes on after EIO", _failed_sync_ignored, "disk", "P16"),
    Bug(
        "votes leave unsynced", "term_is_durable says yes", _votes_not_synced, defence="gate, votes"
    ),
    Bug("votes are not kept", "term and vote are not written", _votes_not_written, "disk", "P16"),
    Bug(
        "leads alone unwritten",
        "its own vote is not on disk",
        _leads_alone_early,
        defence="seed 464",
    ),
    Bug(
        "identity and roster unsynced",
        "renamed without the directory's fsync",
        _rename_not_synced,
        "disk",
        "P20",
    ),
    Bug(
        "a sync counts what was truncated",
        "no epoch",
        _sync_counts_truncated,
        defence="gate, epoch",
    ),
    Bug(
        "no boot alignment", "the journal may lack what the state has", _no_alignment, defence="P13"
    ),
    Bug("commit index remembered", "beyond the log's end", _commit_remembered, defence="P14"),
    Bug("goes on empty", "when its state does not load", _goes_on_empty, defence="P12"),
    Bug("leftovers are used", "of a checkpoint or a segment", _leftovers_used, defence="P23"),
    Bug("goes on after a failure", "no fail-stop", _goes_on_after_failure, "disk", "P1"),
)
