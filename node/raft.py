"""The replica: PySyncObj decides, this room drives it. The only importer of `SyncObj`.

    propose(batch)            leader: stamp the time, append, send to all, in this call
      -> Replica              PySyncObj's log is our journal, its transport our fence
      -> journal syncs, peers acknowledge
      -> tick()               commit, and apply(batch): the replicated method
      -> on_applied(head, outcome)

The seams (PYSYNCOBJ.md, "The seams that work"):
  - no ticker thread, no pipe, no poller: `kick()` runs one tick in the next loop turn, and a
    timer runs one every TICK_S;
  - `createJournal` is replaced by a function that lets a Journal object through, so that the
    constructor reads term, vote and log from ours;
  - one replicated method with one bytes argument: its command is a fixed frame (node.entry);
  - members change by `append_roster` and `reconfigure`, past PySyncObj's own way of doing it,
    which unpickles, and forgets at a restart what it did: a roster is a no-op to it, learners
    are its read-only nodes, and who counts is set in its tables (node.membership says who);
  - the dump file is an empty token: snapshots travel by node.snapshots and are cut by
    node.upkeep, so PySyncObj never serializes. Its loading hook is used twice: at boot, and
    after an installed snapshot, to make it start at the journal's first two entries.

Pitfalls that end here: P1, P2 (no callbacks are passed; what leaves `apply` as an exception
ends all ticking and stops the node), P4, P5 (nothing waits in PySyncObj's queue: it is
drained in the call that fills it, and only by a leader), P12, P13 (`align` below), P15.

Boot alignment. The state machine recovers first, to its last applied entry A. If the journal
does not hold A (a crash during a snapshot's installation, or lost un-synced entries that were
committed elsewhere), A is made durable in a checkpoint and the journal begins anew with the
two entries (A-1, A) as placeholders: they are in the state already and are never sent, since
a peer that needs them gets the snapshot. PySyncObj then starts at the journal's second entry
and applies the rest again; entries at or below A change nothing in the state machine. So the
journal must begin before A (node.upkeep cuts it so); one that does not is Fatal.

Invariants: `apply` is called with rising indexes; nothing is proposed from within `apply`;
after the first failure no tick ever runs again.

Proved by: tests/node/test_raft.py, tests/node/test_pitfalls_apply.py,
tests/node/test_pitfalls_durable.py, tests/node/test_pysyncobj_seams.py, tests/cluster
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pysyncobj.syncobj as _syncobj
from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.config import SERIALIZER_STATE
from pysyncobj.journal import Journal

from node.clock import Clock, LeaderClock
from node.entry import COMMAND_OVERHEAD_BYTES, KIND_BATCH, KIND_CONFIG, NOOP_COMMAND, Entry, wrap
from node.errors import Fatal, Rejected
from node.journal import FileJournal
from node.logs import EventLog
from node.roster import Roster
from node.transport import FencedTransport, Peer
from statemachine import FileStateMachine, LogId
from statemachine.commands import BatchHead, read_head, stamp

__all__ = ["Raft", "RaftEvents", "align"]

TICK_S: Final = 0.01
_NEVER: Final = 2**62

_create_journal = _syncobj.createJournal
_syncobj.createJournal = lambda file: file if isinstance(file, Journal) else _create_journal(file)
_syncobj.PIPE_NOTIFIER_ENABLED = False


def align(journal: FileJournal, machine: FileStateMachine, log: EventLog) -> None:
    """Make the journal hold the state machine's last applied entry, before PySyncObj sees it."""
    last: LogId = machine.last_applied
    if journal and 1 < journal.memory_index >= last.index:
        # PySyncObj starts at the second entry, as if it had been applied.
        raise Fatal(
            f"the journal begins at {journal.memory_index}, the state ends at {last.index}: "
            f"what is between them is lost; wipe this node and let it rejoin"
        )
    if last.index == 0 or (journal and journal.term_at(last.index) == last.term):
        return
    log.warning("journal begins anew behind the state", index=last.index)
    machine.checkpoint()
    if journal.getCurrentTerm() < last.term:
        journal.setCurrentTerm(last.term, None)  # it saw that term, and gave no vote in it
    journal.clear()
    for index in (last.index - 1, last.index):
        journal.add(NOOP_COMMAND, index, last.term)
    journal.flush()


class _NoPoller:
    """All input and output is asyncio's."""

    def poll(self, timeout: float) -> None:
        """Wait for nothing."""


class Replica(SyncObj):  # type: ignore[misc]
    """PySyncObj with our journal, our transport and one replicated method."""

    def __init__(
        self,
        node_id: str,
        peer_ids: list[str],
        conf: SyncObjConf,
        transport: FencedTransport,
        on_apply: Callable[[int, bytes], None],
    ) -> None:
        self._on_apply = on_apply
        self._journal: FileJournal = conf.journalFile
        self._shows_durable_alone = False
        super().__init__(
            Peer(node_id),
            [Peer(peer) for peer in peer_ids],
            conf,
            nodeClass=Peer,
            transport=transport,
        )
        self._poller = _NoPoller()

    def commit_and_apply(self) -> None:
        """One tick."""
        self._shows_durable_alone = not self._SyncObj__otherNodes
        try:
            self._onTick(0)
        finally:
            self._shows_durable_alone = False

    def _SyncObj__getCurrentLogIndex(self) -> int:  # noqa: N802
        """The end of the log. A node that is alone commits all of it in its tick, since nobody's
        acknowledgement is missing: so there it ends with what is durable (the gate)."""
        last_index = self._journal.last_index
        commit_index: int = self.raftCommitIndex
        if self._shows_durable_alone:
            return min(last_index, max(self._journal.gated_index, commit_index))
        return last_index

    @replicated  # type: ignore[untyped-decorator]
    def apply(self, batch: bytes) -> None:
        """The route into the state machine. PySyncObj counts the entry when this returns."""
        self._on_apply(self.raftLastApplied + 1, batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftEvents:
    """What the replica tells its owner, always in the loop's thread."""

    applied: Callable[[BatchHead, Any], None]
    """(head, outcome) of each batch, in order. From within a tick: propose nothing."""
    change: Callable[[], None]
    """Role, leader or term changed."""
    progress: Callable[[], None]
    """After a tick in which the commit or the applied index moved."""
    failure: Callable[[Exception], None]
    """Once: this replica cannot go on. Nothing runs after it."""
    settled: Callable[[int], None] = lambda index: None
    """Everything up to `index` is committed: told before anything behind it is applied."""


class Raft:
    """One replica's consensus, as the rest of the node sees it.

    Args:
        peer_ids: the other voters at the start; `reconfigure` says when they change.
        token_path: PySyncObj's dump file (empty; see above).
        fallback_s: a leader that no majority answered for so long steps down.
        entry_bytes_max: no batch may be longer.
        call_soon: runs a function in the next loop turn.
    """

    def __init__(
        self,
        node_id: str,
        peer_ids: list[str],
        *,
        journal: FileJournal,
        machine: FileStateMachine,
        transport: FencedTransport,
        clock: Clock,
        token_path: Path,
        heartbeat_s: float,
        fallback_s: float,
        entry_bytes_max: int,
        call_soon: Callable[[Callable[[], None]], object],
        events: RaftEvents,
    ) -> None:
        self.node_id = node_id
        self.peer_ids = list(peer_ids)
        """The other voters."""
        self.journal = journal
        self.machine = machine
        self.transport = transport
        self._clock = clock
        self._leader_clock: LeaderClock | None = None
        self._call_soon = call_soon
        self._events = events
        self._entry_bytes_max = entry_bytes_max
        self._failed = False
        self._installing = False
        self._has_caught_up = False
        self.holding = False
        """Nothing is proposed while leadership is being handed over (node.transfer)."""
        self._kicked = False
        self._stands_alone = False
        """Alone, and its vote is being written: it leads when that is done."""
        self._seen: tuple[int, str | None, bool] = (0, None, False)
        self._seen_progress = (0, 0)
        token_path.unlink(missing_ok=True)
        if journal and journal.memory_index > 1:
            token_path.touch()
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=False,
            commandsWaitLeader=False,
            commandsQueueSize=0,
            raftMinTimeout=heartbeat_s * 3 + 0.001,  # ours decide: node.elections
            raftMaxTimeout=heartbeat_s * 3 + 0.002,
            appendEntriesPeriod=heartbeat_s,
            leaderFallbackTimeout=fallback_s,
            connectionTimeout=_NEVER,
            appendEntriesBatchSizeBytes=entry_bytes_max + COMMAND_OVERHEAD_BYTES + 1,
            journalFile=journal,
            fullDumpFile=str(token_path),
            serializer=self._never_serialize,
            deserializer=self._first_entries,
            serializeChecker=lambda: SERIALIZER_STATE.NOT_SERIALIZING,
            logCompactionMinEntries=_NEVER,
            logCompactionMinTime=_NEVER,
            onStateChanged=self._on_role,
        )
        self._replica = Replica(node_id, peer_ids, conf, transport, self._apply)
        if self._replica._SyncObj__raftLog is not journal:
            raise Fatal("PySyncObj does not use the journal: has the library changed?")
        # It would open the token file for each transfer and never close it.
        self._replica._SyncObj__serializer.getTransmissionData = lambda peer: (b"", True, True)
        self._token_path = token_path

    def start(self) -> None:
        """The first tick, in which PySyncObj finds its place in the journal.

        Raises:
            Fatal: it did not (it only logs what fails there: P12).
        """
        begin = self.journal.memory_index
        self.tick()
        if begin > 1 and self.applied_index() <= begin:
            raise Fatal(f"PySyncObj did not start at journal entry {begin + 1}")
        self._token_path.touch()

    # -- PySyncObj's hooks ------------------------------------------------------------------

    def _never_serialize(self, path: str, data: object) -> None:
        raise Fatal("PySyncObj wants to write a dump: has the library changed?")

    def _first_entries(self, path: str) -> tuple[Entry, Entry, set[Peer]]:
        """Where PySyncObj starts: the journal's first two entries, or the snapshot's."""
        last: LogId = self.machine.last_applied
        if self._installing:
            pair = [(NOOP_COMMAND, index, last.term) for index in (last.index - 1, last.index)]
        else:
            pair = self.journal[:2]
        if len(pair) == 2 and pair[1][1] <= last.index:
            # What the state holds is committed. From 1 (P14) a leader would count its way up to
            # here, index by index: for ever, in a log that begins behind a gap (node.founding).
            replica = self._replica
            replica._SyncObj__raftCommitIndex = max(replica.raftCommitIndex, pair[1][1])
        return pair[1], pair[0], set()

    def _on_role(self, old: int, new: int) -> None:
        if new == _syncobj._RAFT_STATE.LEADER:
            self._leader_clock = LeaderClock(self._clock, self.machine.clock_ms)
            self.transport.became_leader()
        else:
            self._leader_clock = None
            self.transport.hide_connected()

    def _apply(self, index: int, batch: bytes) -> None:
        term = self.journal.term_at(index)
        if term is None:
            raise Fatal(f"entry {index} is applied but not in the journal")
        self._events.settled(index - 1)
        outcome = self.machine.apply(index, term, batch)
        self._events.applied(read_head(batch), outcome)

    # -- state ------------------------------------------------------------------------------

    def term(self) -> int:
        """The current term."""
        return self._replica.raftCurrentTerm  # type: ignore[no-any-return]

    def is_leader(self) -> bool:
        """Whether this node leads, as far as it knows."""
        return self._replica._isLeader()  # type: ignore[no-any-return]

    def leader_id(self) -> str | None:
        """The leader, if it is this node or one that we are linked to."""
        leader = self._replica._getLeader()
        if leader is None:
            return None
        leader_id: str = leader.id
        # NB: not only a member: it may be that our roster, which removed it, was never committed.
        if leader_id == self.node_id or self.transport.is_linked(leader_id):
            return leader_id
        return None

    def role(self) -> str:
        """leader, follower or candidate."""
        return ("follower", "candidate", "leader")[self._replica._SyncObj__raftState]

    def commit_index(self) -> int:
        """Highest index that this node knows to be committed."""
        return self._replica.raftCommitIndex  # type: ignore[no-any-return]

    def applied_index(self) -> int:
        """Highest index that is applied here."""
        return self._replica.raftLastApplied  # type: ignore[no-any-return]

    def settled_index(self) -> int:
        """Highest index that this node has ever seen committed: it may never change again.

        After a restart the state machine is ahead of what PySyncObj has applied again.
        """
        return max(self.applied_index(), self.machine.last_applied.index)

    def committed_in_term(self) -> int | None:
        """The commit index, if the entry there is of the current term; else None."""
        index = self.commit_index()
        return index if self.journal.term_at(index) == self.term() else None

    def now_ms(self) -> int:
        """The leader's clock here, or the best guess of it elsewhere."""
        clock = self._leader_clock
        now_ms = clock.now_ms() if clock is not None else self._clock.wall_ms()
        return max(now_ms, self.machine.clock_ms)

    def peers_up(self) -> list[str]:
        """Peers with an open link."""
        return self.transport.peers_up()

    def heard_within(self, seconds: float) -> set[str]:
        """As the leader: who acknowledged something within that time."""
        since_s = _syncobj.monotonicTime() - seconds
        heard_s = self._replica._SyncObj__lastResponseTime
        return {node.id for node, at_s in heard_s.items() if at_s > since_s}

    def send(self, peer_id: str, frame: bytes) -> bool:
        """Send a frame to a peer, past PySyncObj."""
        return self.transport.send_frame(peer_id, frame)

    def await_commit(self, peer_id: str, index: int) -> None:
        """As the leader: clients of this peer wait for `index` to be committed."""
        self.transport.leading.await_commit(peer_id, index)

    def is_caught_up(self) -> bool:
        """Whether this node has a leader, and has applied all that is committed there.

        The last of it is an entry of the leader's term: a follower that has nothing yet would
        take the little that it knows for everything.
        """
        commit = self.commit_index()
        if self.applied_index() < commit or self.leader_id() is None:
            return False
        if not self.is_leader() and commit < self.transport.following.announced_commit:
            return False
        return self.committed_in_term() is not None

    def takes_batches(self) -> bool:
        """Whether a batch may be proposed: there is a leader, no hand-over is under way, and this
        node has caught up once since it was started.

        Before that, a snapshot could skip over a batch of ours that was committed meanwhile, and
        with it what its clients are to be told.
        """
        self._has_caught_up = self._has_caught_up or self.is_caught_up()
        return self._has_caught_up and not self.holding and self.leader_id() is not None

    # -- driving ----------------------------------------------------------------------------

    def kick(self) -> None:
        """Run a tick in the next loop turn."""
        if not self._kicked:
            self._kicked = True
            self._call_soon(self._kicked_tick)

    def stir(self) -> None:
        """A message came: run a tick soon if there is anything for it to do.

        To tell of a change; or to apply. But what the message brought is written first: the sync
        thread needs the interpreter's lock for that, and somebody's client waits for it.
        """
        if self._seen != self._see() or (
            self.has_to_apply() and self.journal.durable_index >= self.journal.last_index
        ):
            self.kick()

    def has_to_apply(self) -> bool:
        """Whether something is committed here and not applied yet."""
        replica = self._replica
        return replica.raftCommitIndex > replica.raftLastApplied  # type: ignore[no-any-return]

    def _see(self) -> tuple[int, str | None, bool]:
        return (self.term(), self.leader_id(), self.is_leader())

    def _kicked_tick(self) -> None:
        self._kicked = False
        if self._stands_alone and not self.is_leader() and not self.peer_ids:
            self.stand()
        self.tick()

    def tick(self, *, stands: bool = False) -> None:
        """Let PySyncObj work: commit, apply, heartbeats, the leader's fallback."""
        if self._failed:
            return
        try:
            if not self.peer_ids and not stands:
                # It takes a node that is alone for one that is connected, and elects it by itself.
                self._replica._SyncObj__raftElectionDeadline = float(_NEVER)
            self._replica.commit_and_apply()
            self.journal.flush()
            if not self.is_leader():
                self.transport.following.continue_apply()
            self._notice()
        except Exception as error:  # noqa: BLE001 - P1: one door out, and no second tick
            self.fail(error)

    def _notice(self) -> None:
        seen = self._see()
        if seen != self._seen:
            self._seen = seen
            self._events.change()
        progress = (self.commit_index(), self.applied_index())
        if progress != self._seen_progress:
            self._seen_progress = progress
            self._events.settled(self.applied_index())
            self._events.progress()

    def fail(self, error: Exception) -> None:
        """Stop for ever: this replica cannot vouch for its data."""
        if not self._failed:
            self._failed = True
            self._events.failure(error)

    def propose(self, batch: bytes) -> bool:
        """As the leader append a batch, stamped with the time; False when not the leader.

        Raises:
            Rejected: not a batch, or too long: it must not get into the log.
        """
        if self._failed or self.holding or not self.is_leader() or self._leader_clock is None:
            return False
        if len(batch) > self._entry_bytes_max:
            raise Rejected(f"a batch of {len(batch)} bytes, {self._entry_bytes_max} allowed")
        now_ms = max(self.machine.clock_ms, self._leader_clock.now_ms())
        self._replica._applyCommand(wrap(KIND_BATCH, stamp(batch, now_ms)), None)
        self._replica._checkCommandsToApply()
        self.journal.flush()
        return True

    def append_roster(self, roster: Roster) -> tuple[Entry, ...]:
        """As the leader append a membership entry and send it to all; what was appended.

        Not by PySyncObj's queue, which a pause may leave for a later term: the roster names the
        index of its entry. The caller has made it certain that this node leads.
        """
        index, term = self.journal.last_index + 1, self.term()
        if not self.is_leader() or roster.index != index:
            raise Fatal(f"a roster of {roster.index} is not the entry {index} of a leader")
        entry = (wrap(KIND_CONFIG, roster.encode()), index, term)
        self.journal.add(*entry)
        self._replica._SyncObj__sendAppendEntries()
        self.journal.flush()
        self.kick()
        return (entry,)

    def reconfigure(self, voters: Collection[str], learners: Collection[str]) -> None:
        """Whom PySyncObj counts, and whom it only sends to (to it a read-only node).

        Never within a tick: it walks over these sets.
        """
        replica, journal = self._replica, self.journal
        others = {Peer(name) for name in voters if name != self.node_id}
        readers = {Peer(name) for name in learners if name != self.node_id}
        next_index, match_index = replica._SyncObj__raftNextIndex, replica._SyncObj__raftMatchIndex
        heard_s = replica._SyncObj__lastResponseTime
        known = replica._SyncObj__otherNodes | replica._SyncObj__readonlyNodes
        for node in known - others - readers:
            for table in (next_index, match_index, heard_s):
                table.pop(node, None)
            replica._SyncObj__connectedNodes.discard(node)
        for node in (others | readers) - known:
            next_index[node], match_index[node] = journal.last_index + 1, 0
        for node in others | readers:
            heard_s.setdefault(node, _syncobj.monotonicTime())
        replica._SyncObj__otherNodes = others
        replica._SyncObj__readonlyNodes = readers
        self.peer_ids = sorted(node.id for node in others)

    def stand(self) -> bool:
        """Stand for election now (a pre-vote was won, or the leader asked for it)."""
        before = self.term()
        if not self.peer_ids and not self._may_stand_alone():
            return False
        # Its own timer is no shorter than three heartbeats, which may be longer than ours.
        self._replica._SyncObj__raftElectionDeadline = 0.0
        self.transport.show_connected()
        self.tick(stands=True)
        if not self.is_leader():
            self.transport.hide_connected()
        return self.term() > before

    def _may_stand_alone(self) -> bool:
        """Whether a node whose own vote is enough may lead at once. If not, it will, in a tick.

        Nobody's answer is counted later than its vote is durable: so the vote is written first. One
        that led, crashed and led the same term again would tell learners two entries of one name.
        """
        journal, vote = self.journal, (self.term() + 1, self.node_id)
        if (journal.getCurrentTerm(), journal.getVotedForNodeId()) != vote:
            journal.setCurrentTerm(*vote)  # what PySyncObj will write once more, and change nothing
        # Its first entry must not come to stand behind one that is not durable.
        self._stands_alone = not (
            journal.term_is_durable and journal.gated_index >= journal.last_index
        )
        return not self._stands_alone

    def observe_term(self, term: int) -> None:
        """Adopt a higher term as a follower, giving no vote: the log named is worse than any."""
        self.transport.deliver_hopeless_vote_request(term)

    def installed(self, peer_id: str, term: int, index: int) -> None:
        """A snapshot is in place: PySyncObj's log begins behind it.

        Raises:
            Fatal: PySyncObj did not follow (it only logs what fails there: P12, P15).
        """
        if self.journal.term_at(index) == self.machine.last_applied.term:
            return  # it came by entries meanwhile, and what follows it is here: all of it stays
        self._installing = True
        try:
            if term == self.term():
                self.transport.following.install(peer_id, term)
            else:
                # Another term has begun while it was installed: of that PySyncObj knows more
                # than the stream. What is committed is so in every term.
                self._replica._SyncObj__loadDumpFile(clearJournal=True)
        finally:
            self._installing = False
        if self.applied_index() != index or self.journal.memory_index != index - 1:
            raise Fatal(f"PySyncObj did not start anew behind snapshot {index}")
        self.journal.flush()
        self.transport.following.believe_installed(index)
        self._events.change()

    def transfer_to(self, peer_id: str) -> None:
        """Ask a peer that has everything to take over (Raft thesis 3.10)."""
        self._replica.transferLeadership(Peer(peer_id))

    def halt(self) -> None:
        """Never tick or propose again. Nothing is flushed: memory may not be believed."""
        self._failed = True

    def close(self) -> None:
        """Stop ticking and close the journal."""
        self.halt()
        self.journal.close()
