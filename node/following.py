"""The follower's half of the fence: appends in, acknowledgements out.

    leader: append -> [ term, skip, cap ] -> PySyncObj: append_entries
    PySyncObj: next_node_idx -> [ gate, stamp ] -> leader: ack(term, next index)

  append, in    P7   PySyncObj truncates matching, even applied, entries when an older append
                     comes late: entries that match (index and term) are skipped first.
                     An append that contradicts what is applied here is a WireError before
                     anything of it is used: the two do not belong together, and which of them
                     is wrong cannot be told from bytes. This one stays what it is.
                P18  a leader of a lower term is told ours.
                     The commit index is capped: at what this leader has verified in this term
                     (PySyncObj would take all of its own log for verified), and at
                     APPLY_ENTRIES_PER_TURN past the applied one, so that a long backlog does
                     not block the loop (`continue_apply` brings the rest, turn by turn).
  ack, out           leaves when the journal is durable up to it (the gate); when the disk is
                     slow a reduced one leaves every half heartbeat, so the leader hears us.
                P15  PySyncObj acknowledges even what it failed to install: muted until seen.

Invariants: `verified_index` is the highest index known to equal the leader's log, in this
term; an acknowledgement never exceeds min(gated_index, verified_index).

On a crash nothing here is needed again: what was acknowledged is in the journal.

Does not do: choose whom to follow (PySyncObj, node.elections), receive snapshots.

Proved by: tests/node/test_transport.py, tests/node/test_pitfalls_append.py,
tests/node/test_pitfalls_durable.py, tests/node/test_simulation.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from node import wire
from node.entry import Entry, config_payload
from node.journal import FileJournal
from node.links import Links

if TYPE_CHECKING:
    from node.elections import Elections
    from node.transport import Deliver, RaftState

__all__ = ["Following"]

APPLY_ENTRIES_PER_TURN: Final = 256


class Following:
    """What a follower is told and says.

    Args:
        heartbeat_s: the leader's append period.
        deliver: hands PySyncObj a message of a peer.
    """

    def __init__(
        self,
        links: Links,
        journal: FileJournal,
        *,
        heartbeat_s: float,
        monotonic: Callable[[], float],
        deliver: Deliver,
    ) -> None:
        self._links = links
        self._journal = journal
        self._heartbeat_s = heartbeat_s
        self._monotonic = monotonic
        self._deliver = deliver
        self.verified_index = 0
        self._verified_term = 0
        self.announced_commit = 0
        """What the leader of this term says is committed, whether we have it or not."""
        self._leader_commit = 0
        self._ack_wanted = False
        self._acked_index = 0
        self._acked_s = 0.0
        self._is_mute = False

    def bind(self, state: RaftState, elections: Elections) -> None:
        """Introduce the neighbours."""
        self._state = state
        self._elections = elections

    def end(self) -> None:
        """This node leads now: what was still to be acknowledged is not."""
        self._ack_wanted = False

    # -- in -------------------------------------------------------------------------------

    def follow(self, peer_id: str, term: int) -> bool:
        """A leader has spoken: whether it is one of ours, or of a newer term.

        One of a lower term is told ours (P18).
        """
        ours = self._state.term()
        if term < ours:
            self._links.send(peer_id, wire.encode(wire.HIGHER_TERM, ours))
            return False
        if term == ours and self._state.is_leader():
            raise wire.WireError(f"claims to lead term {term}, which this node leads")
        if term > ours:
            # A snapshot may be the first that we hear of a term: PySyncObj has to know it too.
            self._state.observe_term(term)
        if term != self._verified_term:
            self._verified_term = term
            self.verified_index = self._leader_commit = self._acked_index = 0
            self.announced_commit = 0
        self._elections.heard_leader()
        return True

    def on_probe(self, peer_id: str, term: int, number: int) -> None:
        """The leader asks whether its term is still the current one (node.reads)."""
        ours = self._state.term()
        if term == ours and peer_id == self._state.leader_id():
            self._elections.heard_leader()
            self._links.send(peer_id, wire.encode(wire.READ_ECHO, term, number))
        elif term < ours:
            self._links.send(peer_id, wire.encode(wire.HIGHER_TERM, ours))

    def on_append(
        self, peer_id: str, term: int, commit: int, previous: int, previous_term: int, rows: Any
    ) -> None:
        """Entries behind `previous`, or a heartbeat when there are none.

        Raises:
            WireError: they contradict what is applied here.
        """
        if term >= self._state.term():
            self._refuse_contradiction(term, previous, previous_term, rows)
        if not self.follow(peer_id, term):
            return
        journal = self._journal
        # The first entry in memory is applied, or is the one all logs begin with: it matches.
        matches = previous <= journal.memory_index or journal.term_at(previous) == previous_term
        entries = wire.entries_of(previous, rows) if matches else []
        if matches:
            self.verified_index = max(self.verified_index, previous + len(entries))
            entries = self._unknown_part(entries)
            if entries:
                previous = entries[0][1] - 1
                previous_term = journal.term_at(previous) or 0
            else:
                previous, previous_term = journal.last_index, journal.last_term
        self.announced_commit = max(self.announced_commit, commit)
        self._leader_commit = max(self._leader_commit, min(commit, self.verified_index))
        self._append(peer_id, term, previous, previous_term, entries)
        if self._leader_commit > self._state.commit_index():
            self._state.kick()  # it was capped: `continue_apply` brings the rest

    def _refuse_contradiction(
        self, term: int, previous: int, previous_term: int, rows: Any
    ) -> None:
        """What is applied, and what the leader of this term has said itself, never changes."""
        journal, fixed_index = self._journal, self._state.settled_index()
        if term == self._verified_term:
            fixed_index = max(fixed_index, self.verified_index)
        index, entry_term = previous, previous_term
        for row in (None, *rows[: max(0, fixed_index - previous)]):
            if row is not None:
                index, entry_term = index + 1, row[0]
            if journal.memory_index < index <= fixed_index and journal.term_at(index) != entry_term:
                raise wire.WireError(
                    f"contradicts applied entry {index}@{journal.term_at(index)}: one of the two "
                    f"nodes has lost data, or is of another cluster"
                )

    def _append(
        self, peer_id: str, term: int, previous: int, previous_term: int, entries: list[Entry]
    ) -> None:
        commit = self._capped_commit()
        if entries and self._touches_rosters(entries):
            commit = min(commit, previous)  # the rest in the next turn, as far as the file is
        self._deliver(
            peer_id,
            type="append_entries",
            term=term,
            commit_index=commit,
            prevLogIdx=previous,
            prevLogTerm=previous_term,
            entries=entries,
        )

    def _touches_rosters(self, entries: list[Entry]) -> bool:
        """Whether they bring a roster, or may take one back."""
        if self._journal.has_pending_roster():
            return True
        return any(config_payload(command) is not None for command, _, _ in entries)

    def _unknown_part(self, entries: list[Entry]) -> list[Entry]:
        """What is left of `entries` behind those that our log holds already (P7)."""
        journal = self._journal
        memory_index = journal.memory_index
        for place, (_, index, term) in enumerate(entries):
            if index > memory_index and journal.term_at(index) != term:
                return entries[place:]
        return []

    def _capped_commit(self) -> int:
        capped = min(self._leader_commit, self._state.applied_index() + APPLY_ENTRIES_PER_TURN)
        hold_index = self._journal.hold_index()
        return capped if hold_index is None else min(capped, hold_index)

    def continue_apply(self) -> None:
        """After a turn: raise the commit index by one more turn's worth."""
        if self._leader_commit <= self._state.commit_index():
            return
        leader_id = self._state.leader_id()
        if (
            leader_id is not None
            and not self._state.is_leader()
            and self._verified_term == self._state.term()
            and self._capped_commit() > self._state.commit_index()
        ):
            last_index, last_term = self._journal.last_index, self._journal.last_term
            with self._mute():
                self._append(leader_id, self._verified_term, last_index, last_term, [])

    # -- out ------------------------------------------------------------------------------

    @contextmanager
    def _mute(self) -> Iterator[None]:
        """PySyncObj answers what we tell it ourselves: nobody has to hear that."""
        self._is_mute = True
        try:
            yield
        finally:
            self._is_mute = False

    def send_ack(self, peer_id: str, message: dict[str, Any]) -> bool:
        """PySyncObj acknowledges an append, or asks for an earlier one."""
        if self._is_mute:
            return True
        if message["success"]:
            self._ack_wanted = True
            self.acknowledge()
            return True
        frame = wire.encode(
            wire.ACK, self._state.term(), message["next_node_idx"], message["reset"], False
        )
        return self._links.send(peer_id, frame)

    def acknowledge(self) -> None:
        """Acknowledge what is durable; all of it, or as a sign of life what there is."""
        leader_id = self._state.leader_id()
        if not self._ack_wanted or leader_id is None or self._state.is_leader():
            return
        index = min(self._journal.gated_index, self.verified_index)
        now_s = self._monotonic()
        if index == self.verified_index:
            self._ack_wanted = False
        if index <= self._acked_index and now_s - self._acked_s < self._heartbeat_s / 2:
            return
        self._acked_index, self._acked_s = index, now_s
        self._links.send(
            leader_id, wire.encode(wire.ACK, self._state.term(), index + 1, False, True)
        )

    # -- snapshots ------------------------------------------------------------------------

    def install(self, peer_id: str, term: int) -> None:
        """A snapshot is in place: have PySyncObj start its log anew behind it.

        Its own hook (`deserializer`, node.raft) provides the two entries; the commit index is 0
        so that nothing is believed of entries that were not checked (P8). It acknowledges even
        what it failed to install (P15): nothing is said before `believe_installed`.
        """
        with self._mute():
            self._deliver(
                peer_id,
                type="append_entries",
                term=term,
                commit_index=0,
                serialized=(b"", True, True),
            )

    def believe_installed(self, index: int) -> None:
        """The log was seen to begin behind the snapshot: acknowledge it when it is durable."""
        self.verified_index = max(self.verified_index, index)
        self._ack_wanted = True
        self.acknowledge()
