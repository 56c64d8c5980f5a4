"""Bugs that are put in on purpose: each defence of PYSYNCOBJ.md that can be switched off, and more.

    with BUGS["gate: follower"].plant():
        run(plan)                                    must end in a violation, for some seed

A bug is a patch of the code that runs, for as long as the block lasts. `profile` is the one in
whose seeds it is looked for. What cannot be switched off so stands in docs/simulation.md.

Proved by: tests/simulation/test_planted.py, scripts/simulate --planted
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

from pysyncobj import syncobj

import node.core
from node import wire
from node.batches import Batches
from node.elections import Elections
from node.entry import KIND_BATCH, NOOP_COMMAND, wrap
from node.errors import Fatal
from node.following import Following
from node.introductions import Introductions
from node.journal import FileJournal
from node.journal_files import JournalFiles, TermFile
from node.leading import Leading
from node.membership import Membership
from node.raft import Raft, Replica
from node.reads import Reads
from node.snapshots import Snapshots
from node.transport import FencedTransport
from statemachine import FileStateMachine, checkpoint, recovery, rules_keys, rules_strings
from statemachine.commands import stamp
from statemachine.errors import Corrupt, DiskFailed
from statemachine.fs import TEMPORARY_SUFFIX
from statemachine.keyspace import Keyspace
from statemachine.store import DUPLICATE, Store
from statemachine.wal import Wal

__all__ = ["BUGS", "Bug"]


@dataclass(frozen=True)
class Bug:
    """One bug. `patches` makes what is put in place of what."""

    name: str
    what: str
    patches: Callable[[], Sequence[Any]]
    profile: str = "everything"
    defence: str = ""
    """The line of PYSYNCOBJ.md that it undoes."""

    @contextlib.contextmanager
    def plant(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for patch in self.patches():
                stack.enter_context(patch)
            yield


def _put(owner: Any, name: str, value: Any) -> Any:
    return mock.patch.object(owner, name, value)


def _always(value: Any) -> Any:
    return property(lambda self: value)


# -- consensus ----------------------------------------------------------------------------------


def _gate_follower() -> Sequence[Any]:
    def acknowledge(self: Following) -> None:
        leader_id = self._state.leader_id()
        if self._ack_wanted and leader_id is not None and not self._state.is_leader():
            self._ack_wanted = False
            frame = wire.encode(wire.ACK, self._state.term(), self.verified_index + 1, False, True)
            self._links.send(leader_id, frame)

    return [_put(Following, "acknowledge", acknowledge)]


def _gate_leader() -> Sequence[Any]:
    def hand_on(self: Leading, peer_id: str, follower: Any, *, is_sign_of_life: bool) -> None:
        follower.delivered_index = max(follower.delivered_index, follower.acked_index)
        self._tell(peer_id, follower.delivered_index + 1, reset=False, success=True)

    return [_put(Leading, "_hand_on", hand_on)]


def _gate_alone() -> Sequence[Any]:
    return [_put(Replica, "_SyncObj__getCurrentLogIndex", lambda self: self._journal.last_index)]


def _votes_not_synced() -> Sequence[Any]:
    return [_put(FileJournal, "term_is_durable", _always(True))]


def _votes_not_written() -> Sequence[Any]:
    return [_put(TermFile, "save", lambda self, term, vote: None)]


def _journal_not_synced() -> Sequence[Any]:
    def sync(self: JournalFiles) -> None:
        self._durable_bytes = self._segments[-1].size_bytes if self._segments else 0

    return [_put(JournalFiles, "sync", sync)]


def _no_pre_vote() -> Sequence[Any]:
    def tick(self: Elections) -> None:
        if self._electorate.is_leader() or self._monotonic() < self._deadline:
            return
        self.postpone()
        if self._quorum.am_voter and self._journal.term_is_durable:
            self._electorate.stand()

    return [_put(Elections, "tick", tick)]


def _no_stickiness() -> Sequence[Any]:
    return [_put(Elections, "has_recent_leader", lambda self: False)]


def _matching_truncated() -> Sequence[Any]:
    return [
        _put(Following, "_unknown_part", lambda self, entries: entries),
        _put(Following, "_refuse_contradiction", lambda self, *arguments: None),
    ]


def _acks_of_any_term() -> Sequence[Any]:
    def on_ack(
        self: FencedTransport, peer_id: str, term: int, next_index: int, reset: bool, success: bool
    ) -> None:
        if self._state.is_leader() and 1 <= next_index <= self.leading._journal.last_index + 1:
            self.leading.on_ack(peer_id, next_index, reset, success)

    return [_put(FencedTransport, "_on_ack", on_ack)]


def _commit_not_capped() -> Sequence[Any]:
    real = Following.on_append

    def on_append(self: Following, peer_id: str, term: int, commit: int, *rest: Any) -> None:
        self._leader_commit = max(self._leader_commit, commit)
        real(self, peer_id, term, commit, *rest)
        self._leader_commit = max(self._leader_commit, commit)

    return [_put(Following, "on_append", on_append)]


def _snapshot_commits() -> Sequence[Any]:
    def install(self: Following, peer_id: str, term: int) -> None:
        with self._mute():
            self._deliver(
                peer_id,
                type="append_entries",
                term=term,
                commit_index=self._state.commit_index() + 1_000,
                serialized=(b"", True, True),
            )

    def installed(self: Raft, peer_id: str, term: int, index: int) -> None:
        # The log is not begun anew: what was there stays, and is committed by the message.
        if term == self.term():
            self.transport.following.install(peer_id, term)
        self.transport.following.believe_installed(index)
        self._events.change()

    return [_put(Following, "install", install), _put(Raft, "installed", installed)]


def _snapshot_acked_early() -> Sequence[Any]:
    real = Snapshots._install

    def install(self: Snapshots, stream: Any) -> None:
        following = self._follow.__self__  # type: ignore[attr-defined]
        following.verified_index = stream.metadata.last_included.index
        frame = wire.encode(wire.ACK, self._term(), following.verified_index + 1, False, True)
        self._links.send(stream.peer_id, frame)
        real(self, stream)

    return [_put(Snapshots, "_install", install)]


def _no_alignment() -> Sequence[Any]:
    return [_put(node.core, "align", lambda journal, machine, log: None)]


def _commit_remembered() -> Sequence[Any]:
    kept: dict[str, int] = {}

    def save(self: FileJournal, raftCommitIndex: int) -> None:  # noqa: N803 - PySyncObj's name
        kept[str(self._files._directory)] = raftCommitIndex + 3  # as if it outlived its entries

    return [
        _put(FileJournal, "setRaftCommitIndex", save),
        _put(
            FileJournal, "getRaftCommitIndex", lambda self: kept.get(str(self._files._directory), 1)
        ),
    ]


def _goes_on_after_failure() -> Sequence[Any]:
    return [
        _put(Raft, "fail", lambda self, error: None),
        _put(node.core.Core, "_fail", lambda self, error: None),
    ]


def _sync_counts_truncated() -> Sequence[Any]:
    def finished(self: FileJournal, job: Any) -> None:
        self._term_changes_durable = max(self._term_changes_durable, job.term_changes)
        self.durable_index = max(self.durable_index, job.last_index)
        self._on_durable()

    return [_put(FileJournal, "_finished", finished)]


def _higher_term_unheard() -> Sequence[Any]:
    return [_put(Elections, "on_higher_term", lambda self, term: None)]


def _votes_counted_twice() -> Sequence[Any]:
    def counts(self: Elections, peer_id: str, term: int) -> bool:
        return term == self._electorate.term() and self._journal.term_is_durable

    return [_put(Elections, "counts", counts)]


def _strangers_admitted() -> Sequence[Any]:
    return [
        _put(Membership, "knows", lambda self, peer_id: peer_id in self._linked),
        _put(Introductions, "_on_stranger", lambda self, *arguments: None),
        _put(Batches, "_check_past", lambda self, origin, epoch: None),
    ]


def _elder_seat_taken() -> Sequence[Any]:
    """As it was before seed 2291: and who was to leave stays, without its clients."""
    real = node.core.Core._on_members

    def on_members(self: node.core.Core) -> None:
        if not self.membership.is_waiting:
            self._leaving_until_s = None
        real(self)

    return [
        _put(Membership, "_has_us", lambda self, roster: roster.has(self.node_id)),
        _put(node.core.Core, "_on_members", on_members),
    ]


def _no_read_index() -> Sequence[Any]:
    def read(self: Reads, level: Any, waiter: Any) -> None:
        waiter.ready()

    return [_put(Reads, "read", read)]


def _reads_before_own_term() -> Sequence[Any]:
    return [
        _put(Raft, "committed_in_term", lambda self: self.commit_index()),
    ]


def _read_round_of_one() -> Sequence[Any]:
    real = Reads._begin_round

    def begin_round(self: Reads, group: Any) -> None:
        real(self, group)
        for begun in list(self._rounds):
            quorum, self._quorum = self._quorum, _Everybody()
            self._confirm(begun)
            self._quorum = quorum

    return [_put(Reads, "_begin_round", begin_round)]


class _Everybody:
    am_voter = True

    def votes(self, peer_id: str) -> bool:
        return True

    def is_majority(self, peers: Any) -> bool:
        return True


def _lease_too_long() -> Sequence[Any]:
    return [mock.patch("node.reads.LEASE_FRACTION", 6.0)]


def _lease_after_transfer() -> Sequence[Any]:
    return [_put(Reads, "end_lease", lambda self: None)]


def _reads_not_applied() -> Sequence[Any]:
    def when_applied(self: Reads, group: Any) -> None:
        for _, waiter in group.waiters:
            self._tell(waiter.ready)

    return [_put(Reads, "_when_applied", when_applied)]


def _not_sent_again() -> Sequence[Any]:
    real = Batches._route

    def route(self: Batches, batch: Any) -> None:
        if not batch.routed_s:
            real(self, batch)

    return [_put(Batches, "_route", route)]


def _fail_of_proposed() -> Sequence[Any]:
    """A batch that was proposed is given up with "not applied" when the leader changes."""
    from node.errors import Unavailable

    def on_change(self: Batches) -> None:
        for batch in self._pending.values():
            if batch.claims:
                self._fail(batch, Unavailable("the leader changed"))
        self._resend_wanted = bool(self._pending)
        self._schedule()

    return [_put(Batches, "on_change", on_change)]


def _half_is_enough() -> Sequence[Any]:
    real = Membership.is_majority

    def is_majority(self: Membership, peers: Any) -> bool:
        return bool(real(self, peers)) or 2 * (len(set(peers)) + 1) >= len(self._voters) - 1

    return [_put(Membership, "is_majority", is_majority)]


def _callback_raises() -> Sequence[Any]:
    real = Replica._applyCommand

    def apply_command(self: Replica, command: bytes, callback: Any, *rest: Any) -> None:
        def told(*_: Any) -> None:
            raise ValueError("a callback that raises")

        real(self, command, told, *rest)

    return [_put(Replica, "_applyCommand", apply_command)]


def _version_entries() -> Sequence[Any]:
    """What a no-op is applied as: a version that PySyncObj does not know."""
    real = Replica._SyncObj__doApplyCommand
    unknown = b"\x03" + pickle.dumps(1_000)
    assert unknown[0] == syncobj._COMMAND_TYPE.VERSION

    def apply_command(self: Replica, command: bytes) -> Any:
        return real(self, unknown if command == NOOP_COMMAND else command)

    return [_put(Replica, "_SyncObj__doApplyCommand", apply_command)]


def _followers_propose() -> Sequence[Any]:
    """PySyncObj is to forward what a follower is given."""

    def propose(self: Raft, batch: bytes) -> bool:
        clock = self._leader_clock
        now_ms = max(self.machine.clock_ms, clock.now_ms() if clock is not None else 0)
        self._replica._applyCommand(wrap(KIND_BATCH, stamp(batch, now_ms)), None)
        self._replica._checkCommandsToApply()
        self.journal.flush()
        return True

    return [_put(Raft, "propose", propose)]


def _in_flight_again() -> Sequence[Any]:
    """What PySyncObj sends again is not taken out."""
    real = Leading.send_append

    def send_append(self: Leading, peer_id: str, message: dict[str, Any]) -> bool:
        follower = self._followers.get(peer_id)
        if follower is not None and 0 < follower.acked_index < follower.sent_index:
            follower.sent_index = follower.acked_index
        return real(self, peer_id, message)

    return [_put(Leading, "send_append", send_append)]


def _entries_in_pieces() -> Sequence[Any]:
    import node.raft

    real = node.raft.SyncObjConf

    def conf(**options: Any) -> Any:
        return real(**{**options, "appendEntriesBatchSizeBytes": 200})

    return [_put(node.raft, "SyncObjConf", conf)]


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

    return [mock.patch("statemachine.machine.recover", recover), _put(node.core, "align", align)]


def _leftovers_used() -> Sequence[Any]:
    def remove(disk: Any, directory: Any, removed: list[str]) -> None:
        for name in disk.list_dir(directory):
            if name.endswith(TEMPORARY_SUFFIX):
                disk.rename(directory / name, directory / name.removesuffix(TEMPORARY_SUFFIX))

    return [_put(recovery, "_remove_temporary", remove)]


def _leads_for_half_a_minute() -> Sequence[Any]:
    real = Raft.__init__

    def init(self: Raft, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **{**options, "fallback_s": 30.0})

    return [_put(Raft, "__init__", init)]


def _no_flow_control() -> Sequence[Any]:
    real = Leading.send_append

    def send_append(self: Leading, peer_id: str, message: dict[str, Any]) -> bool:
        self._send_buffer_bytes_max = 1 << 40
        return real(self, peer_id, message)

    return [_put(Leading, "send_append", send_append)]


def _stands_after_a_block() -> Sequence[Any]:
    """What fell due in a long pause is an election, before the waiting heartbeats are read."""
    real = Elections.tick

    def tick(self: Elections) -> None:
        now_s = self._monotonic()
        waited_s, self._ticked_s = now_s - getattr(self, "_ticked_s", now_s), now_s  # type: ignore[attr-defined]
        if waited_s > self._min_s and self._quorum.am_voter and not self._electorate.is_leader():
            self._electorate.stand()
        else:
            real(self)

    return [_put(Elections, "tick", tick)]


def _leads_alone_early() -> Sequence[Any]:
    return [_put(Raft, "_may_stand_alone", lambda self: True)]


# -- state machine --------------------------------------------------------------------------------


def _no_dedup() -> Sequence[Any]:
    def admit(self: Store, head: Any) -> Any:
        self.origins[head.origin] = (head.epoch, head.sequence)

    return [_put(Store, "_admit", admit)]


def _old_epochs_admitted() -> Sequence[Any]:
    real = Store._admit

    def admit(self: Store, head: Any) -> Any:
        if head.epoch < self.origins.get(head.origin, (0, 0))[0]:
            return None
        return real(self, head)

    return [_put(Store, "_admit", admit)]


def _applied_again() -> Sequence[Any]:
    real = FileStateMachine.apply

    def apply(self: FileStateMachine, index: int, term: int, batch: bytes) -> Any:
        if index <= self._terms.last_index:
            return self._store.apply_batch(batch, index)
        return real(self, index, term, batch)

    return [_put(FileStateMachine, "apply", apply)]


def _expires_early() -> Sequence[Any]:
    real = Keyspace.advance

    def advance(self: Keyspace, now_ms: int) -> None:
        clock_ms = max(self.clock_ms, now_ms)
        self.clock_ms = clock_ms + 60
        real(self, now_ms)
        self.clock_ms = clock_ms

    return [_put(Keyspace, "advance", advance)]


def _clock_goes_back() -> Sequence[Any]:
    real = Keyspace.advance

    def advance(self: Keyspace, now_ms: int) -> None:
        self.clock_ms = now_ms
        real(self, now_ms)

    return [_put(Keyspace, "advance", advance)]


def _leases_renewed_by_restart() -> Sequence[Any]:
    real = recovery.recover

    def recover(*arguments: Any) -> Any:
        found = real(*arguments)
        store = found.store
        for key, deadline_ms in list(store._leases.items()):
            value = store._records.get(key)
            store.assign(key, value, deadline_ms + 200)
        return found

    return [mock.patch("statemachine.machine.recover", recover)]


def _origins_not_in_images() -> Sequence[Any]:
    real = Store.restore

    def restore(self: Store, parts: Any) -> None:
        real(self, parts)
        self.origins = {}

    return [_put(Store, "restore", restore)]


def _leases_not_in_images() -> Sequence[Any]:
    real = Store.restore

    def restore(self: Store, parts: Any) -> None:
        parts.columns.deadlines.clear()
        real(self, parts)

    return [_put(Store, "restore", restore)]


def _keep_ttl_forgets() -> Sequence[Any]:
    real = rules_strings.append

    def append(keys: Keyspace, command: Any) -> Any:
        result = real(keys, command)
        value = keys.live(command.key)
        if value is not None:
            keys.assign(command.key, value, None)
        return result

    import statemachine.rules

    return [mock.patch.dict(statemachine.rules._RULES, {"append": append})]


def _half_transactions() -> Sequence[Any]:
    """The second command of a transaction is left out on replicas by chance of the clock."""
    import statemachine.rules

    real = statemachine.rules._RULES["transaction"]

    def transaction(keys: Keyspace, command: Any) -> Any:
        if keys.clock_ms % 16 == 0 and len(command.commands.commands) > 1:
            del command.commands.commands[-1]
        return real(keys, command)

    return [mock.patch.dict(statemachine.rules._RULES, {"transaction": transaction})]


def _reads_delete() -> Sequence[Any]:
    """A read removes what is due by the replica's own idea of it."""

    def choose_get(self: Keyspace) -> None:
        def get(key: bytes) -> bytes | None:
            value = self._get_due(key)
            deadline_ms = self._records.deadline_ms(key)
            if deadline_ms is not None and deadline_ms - self.clock_ms < 300:
                self.remove(key)
            return value

        self.get = get  # type: ignore[method-assign]

    def get_many(self: Keyspace, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    return [_put(Keyspace, "_choose_get", choose_get), _put(Keyspace, "get_many", get_many)]


def _true(*_: Any) -> bool:
    return True


def _set_ignores_condition() -> Sequence[Any]:
    return [mock.patch("statemachine.rules_strings.condition_holds", _true)]


def _delete_not_logged() -> Sequence[Any]:
    """DEL is done in memory and left out of the WAL."""
    real = Wal.append_one

    def append_one(self: Wal, kind: int, index: int, term: int, payload: bytes) -> None:
        if index % 5:
            real(self, kind, index, term, payload)

    return [_put(Wal, "append_one", append_one)]


def _segments_cut_first() -> Sequence[Any]:
    """The WAL is cut before the checkpoint that takes its place is there."""
    real = checkpoint.write_checkpoint

    def write(disk: Any, paths: Any, sequence: int, *rest: Any) -> Any:
        checkpoint.cut_segments(disk, paths, sequence)
        return real(disk, paths, sequence, *rest)

    return [mock.patch("statemachine.archive.write_checkpoint", write)]


def _failed_sync_ignored() -> Sequence[Any]:
    real = JournalFiles.sync

    def sync(self: JournalFiles) -> None:
        with contextlib.suppress(DiskFailed):
            real(self)

    return [_put(JournalFiles, "sync", sync)]


def _rename_not_synced() -> Sequence[Any]:
    def replace(disk: Any, path: Any, chunks: Any) -> None:
        temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        disk.write_new(temporary, chunks)
        disk.rename(temporary, path)

    return [
        mock.patch(f"{module}.replace_file", replace)
        for module in ("node.membership", "node.identity", "node.term_file")
    ]


_FOUND: Sequence[Bug] = (
    Bug("gate: follower", "acknowledges before its fsync", _gate_follower, defence="gate"),
    Bug("gate: leader", "counts itself before its fsync", _gate_leader, defence="gate"),
    Bug("gate: alone", "a lone node commits before its fsync", _gate_alone, defence="gate"),
    Bug("journal is never synced", "as the stock journal", _journal_not_synced, defence="P16"),
    Bug("failed fsync ignored", "goes on after EIO", _failed_sync_ignored, "disk", "P16"),
    Bug(
        "votes leave unsynced", "term_is_durable says yes", _votes_not_synced, defence="gate, votes"
    ),
    Bug("votes are not kept", "term and vote are not written", _votes_not_written, "disk", "P16"),
    Bug("no PreVote", "stands as soon as its timer says so", _no_pre_vote, "swizzle", "P17"),
    Bug(
        "no stickiness",
        "lets others stand while it hears a leader",
        _no_stickiness,
        "swizzle",
        "P17",
    ),
    Bug(
        "matching entries truncated",
        "delivers what it has already",
        _matching_truncated,
        "swizzle",
        "P7",
    ),
    Bug(
        "acks of any term",
        "an old term's acknowledgement counts",
        _acks_of_any_term,
        "swizzle",
        "P9",
    ),
    Bug(
        "commit beyond what matches",
        "takes its own log for verified",
        _commit_not_capped,
        defence="P8",
    ),
    Bug(
        "snapshot commits",
        "a snapshot message carries a commit index",
        _snapshot_commits,
        defence="P8",
    ),
    Bug(
        "snapshot acked early",
        "acknowledged before it is installed",
        _snapshot_acked_early,
        defence="P15",
    ),
    Bug(
        "no boot alignment", "the journal may lack what the state has", _no_alignment, defence="P13"
    ),
    Bug("commit index remembered", "beyond the log's end", _commit_remembered, defence="P14"),
    Bug("goes on after a failure", "no fail-stop", _goes_on_after_failure, "disk", "P1"),
    Bug(
        "a sync counts what was truncated",
        "no epoch",
        _sync_counts_truncated,
        defence="gate, epoch",
    ),
    Bug("higher terms unheard", "a deposed leader stays", _higher_term_unheard, "swizzle", "P18"),
    Bug("votes counted twice", "no memory of who voted", _votes_counted_twice, defence="P19"),
    Bug("strangers admitted", "a wiped node takes part", _strangers_admitted, defence="P20"),
    Bug(
        "an elder's seat is taken",
        "a new directory believes an old roster about itself",
        _elder_seat_taken,
        defence="seed 2291",
    ),
    Bug("no ReadIndex", "linearizable reads from memory", _no_read_index, "swizzle", "P27"),
    Bug("reads before its own term", "an old commit index", _reads_before_own_term, defence="P27"),
    Bug("a read round of one", "nobody has to echo", _read_round_of_one, "swizzle", "P27"),
    Bug("reads before applied", "granted, and not yet here", _reads_not_applied, "swizzle", "P27"),
    Bug("leader lease too long", "six times the timeout", _lease_too_long, "swizzle", "leases"),
    Bug(
        "lease after a transfer",
        "the old leader still reads",
        _lease_after_transfer,
        "swizzle",
        "leases",
    ),
    Bug("batches not sent again", "one try each", _not_sent_again, "swizzle", "P4"),
    Bug(
        "proposed is said to have failed",
        "CLUSTERDOWN for what may be applied",
        _fail_of_proposed,
        "swizzle",
        "P4",
    ),
    Bug("one less is a majority", "quorums that do not meet", _half_is_enough, "swizzle", "quorum"),
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
    Bug("a callback raises", "handed to PySyncObj with each batch", _callback_raises, defence="P2"),
    Bug("version entries", "one that PySyncObj does not know", _version_entries, defence="P3"),
    Bug("followers propose", "and PySyncObj forwards", _followers_propose, defence="P5"),
    Bug("sent again in flight", "after each acknowledgement", _in_flight_again, defence="P6"),
    Bug("entries in pieces", "larger than PySyncObj's limit", _entries_in_pieces, defence="P10"),
    Bug("goes on empty", "when its state does not load", _goes_on_empty, defence="P12"),
    Bug("leftovers are used", "of a checkpoint or a segment", _leftovers_used, defence="P23"),
    Bug("leads on without answers", "for 30 s", _leads_for_half_a_minute, "swizzle", "P24"),
    Bug("no flow control", "behind a full send buffer", _no_flow_control, "swizzle", "P25"),
    Bug("stands after a block", "at once", _stands_after_a_block, "swizzle", "P26"),
    # The state machine.
    Bug("sm: no dedup", "a batch sent again is applied again", _no_dedup),
    Bug("sm: old epochs admitted", "what a dead process sent is applied", _old_epochs_admitted),
    Bug("sm: applied again", "entries below last applied count", _applied_again, "disk"),
    Bug("sm: expires early", "by 60 ms", _expires_early),
    Bug("sm: the clock goes back", "with a new leader's", _clock_goes_back),
    Bug("sm: leases renewed by a restart", "200 ms more", _leases_renewed_by_restart, "disk"),
    Bug("sm: origins not in images", "forgotten by a restart", _origins_not_in_images),
    Bug("sm: leases not in images", "keys that stay for ever", _leases_not_in_images),
    Bug("sm: APPEND drops the lifetime", "on every replica", _keep_ttl_forgets),
    Bug("sm: half transactions", "now and then, everywhere alike", _half_transactions),
    Bug("sm: reads delete", "what is nearly due", _reads_delete),
    Bug("sm: conditions ignored", "NX, XX and IFEQ", _set_ignores_condition),
    Bug("sm: WAL leaves entries out", "every fifth", _delete_not_logged, "disk"),
    Bug("sm: WAL cut first", "before its checkpoint is there", _segments_cut_first),
)
BUGS: dict[str, Bug] = {bug.name: bug for bug in _FOUND}

_ = (DUPLICATE, rules_keys)
