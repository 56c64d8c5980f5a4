"""Changes of membership, one at a time: what the leader decides about the roster.

    add      -> learner -----> caught up -----> voter          each arrow is one entry, and
    remove   -> (leader: hand over first) -> removed           none begins before the last is
                                                               committed

A learner has caught up when a round of replication took no longer than an election timeout
(Raft thesis 4.2.1): what the log held at its beginning was acknowledged before its end. Until
then it counts in no majority, so an empty disk costs no write and no election.

Refused, with nothing done: while another change is under way, before an entry of this term
is committed (thesis 4.1, errata), when too few of the voters that would be left are connected
to be a majority, and the last voter's removal. Whoever asks is told once the entry is
committed; when the leader loses its office meanwhile, that it may or may not come about.

The node that is removed does not get the entry that removes it before that is committed, so its
log is never longer for it, and it stands in nobody's way. Then it is told of the roster, and gets
the log for PARTING_S more: its clients hear what became of their writes, and it stops.

A crash loses the question; the entry, once logged by a majority, stands.

Proved by: tests/node/test_changes.py, tests/node/test_simulation_members.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from node import wire
from node.batches import WriteWaiter
from node.config_members import Member
from node.entry import Entry
from node.errors import KVError, OutcomeUnknown, Rejected, Unavailable
from node.logs import EventLog
from node.membership import Membership
from node.raft import Raft
from node.roster import REMOVED, Roster
from node.transfer import Transfer

__all__ = ["Changes"]

GIVE_UP_S: Final = 10.0
PARTING_S: Final = 3.0


@dataclass(slots=True)
class _Round:
    """One round of catching up: it is over when `target_index` is acknowledged."""

    target_index: int
    begun_s: float


@dataclass(slots=True)
class _Asked:
    waiter: WriteWaiter
    index: int
    deadline_s: float


class Changes:
    """The leader's part of membership. `tick` is called by the node's timer.

    Args:
        allows: why a member cannot be had (its addresses), or None.
        on_parted: called when nobody in `parting` gets the log any more.
        election_timeout_s: a learner that catches up within this is promoted.
    """

    def __init__(
        self,
        raft: Raft,
        membership: Membership,
        transfer: Transfer,
        *,
        allows: Callable[[Member], str | None],
        on_parted: Callable[[], None],
        election_timeout_s: float,
        monotonic: Callable[[], float],
        log: EventLog,
    ) -> None:
        self._raft = raft
        self._membership = membership
        self._transfer = transfer
        self._allows = allows
        self._on_parted = on_parted
        self._election_timeout_s = election_timeout_s
        self._monotonic = monotonic
        self._log = log
        self._asked: _Asked | None = None
        self._rounds: dict[str, _Round] = {}
        self._removing: str | None = None
        self.parting: frozenset[str] = frozenset()
        """Who was just removed, and still gets the log."""
        self._parted_s = 0.0
        self._closed: KVError | None = None

    # -- asked by an operator -------------------------------------------------------------------

    def add(self, member: Member, waiter: WriteWaiter) -> None:
        """Seat a learner; it becomes a voter by itself. The waiter gets [b"learner"]."""
        problem = self._problem() or self._refusal_of(member)
        if problem is not None:
            waiter.fail(problem)
            return
        try:
            roster = self._membership.current.adding(member, self._next_index())
        except Rejected as error:
            waiter.fail(error)
            return
        self._begin(roster, waiter, f"add {member.id}")

    def _refusal_of(self, member: Member) -> KVError | None:
        reason = self._allows(member)
        return Rejected(reason) if reason is not None else None

    def remove(self, member_id: str, waiter: WriteWaiter) -> None:
        """Take a member out. A leader hands over instead, and whoever leads then is to be asked
        again (Unavailable). The waiter gets [b"removed"]."""
        problem = self._problem()
        if problem is not None:
            waiter.fail(problem)
            return
        try:
            roster = self._membership.current.removing(member_id, self._next_index())
        except Rejected as error:
            waiter.fail(error)
            return
        heard = self._raft.heard_within(self._election_timeout_s)
        connected = {self._raft.node_id, *heard} & roster.voters
        if member_id == self._raft.node_id:
            self._transfer.begin(None, _HandedOver(waiter))
        elif 2 * len(connected) <= len(roster.voters):
            left = ", ".join(sorted(roster.voters))
            waiter.fail(Rejected(f"too few would be left: of {left} too many do not answer"))
        else:
            self._removing = member_id
            self._begin(roster, waiter, f"remove {member_id}")

    def _problem(self) -> KVError | None:
        """Why no change can begin now."""
        raft, membership = self._raft, self._membership
        if self._closed is not None:
            return self._closed
        if not raft.is_leader():
            leader = raft.leader_id()
            return Rejected(f"{raft.node_id} is not the leader ({leader or 'nobody'} is)")
        if raft.holding:
            return Unavailable("leadership is being handed over", code="BUSY")
        if not membership.is_settled or self._asked is not None:
            return Unavailable("another change of members is under way", code="BUSY")
        if raft.committed_in_term() is None:
            return Unavailable("the leader has committed nothing in its term yet", code="BUSY")
        return None

    def _next_index(self) -> int:
        return self._raft.journal.last_index + 1

    def _begin(self, roster: Roster, waiter: WriteWaiter | None, what: str) -> None:
        membership = self._membership
        roster = roster.knowing(membership.incarnations())
        self._log.info("members change", what=what, index=roster.index)
        if waiter is not None:
            self._asked = _Asked(waiter, roster.index, self._monotonic() + GIVE_UP_S)
        back = self.parting & {each.id for each in roster.members}
        if back:
            # Still parting, and seated anew: what is known of its old log must not count as its new
            # one's. Let go of it for a moment, so that it is begun with as with anybody new.
            self.parting -= back
            self._raft.reconfigure(roster.voters - back, roster.learners - back)
            for peer_id in back:
                self._raft.transport.leading.forget(peer_id)
        # Whoever is removed is let go of first, so that it is not sent the entry.
        self._raft.reconfigure(roster.voters, roster.learners)
        entries: tuple[Entry, ...] = self._raft.append_roster(roster)
        membership.observe(entries)

    # -- time and change ------------------------------------------------------------------------

    def settled(self) -> None:
        """A roster may have been committed: tell who asked, and whom it removed."""
        asked, committed = self._asked, self._membership.committed
        if self._removing is not None and self._membership.is_settled:
            self.parting, self._removing = frozenset((self._removing,)), None
            self._parted_s = self._monotonic() + PARTING_S
        self.parting -= {each.id for each in self._membership.current.members}
        if asked is not None and committed.index >= asked.index:
            self._asked = None
            asked.waiter.resolve([f"{committed.index}".encode()], 0, 1)
        if self._raft.is_leader():
            self.tell_removed(committed)

    def tell_removed(self, committed: Roster) -> None:
        """Those who are out learn it from the committed roster."""
        frame = wire.encode(wire.ROSTER, committed.index, committed.encode())
        for seat in committed.seats:
            if seat.role == REMOVED:
                self._raft.send(seat.member.id, frame)

    def on_change(self) -> None:
        """Role, leader or term changed."""
        if not self._raft.is_leader():
            self._rounds.clear()
            self._removing = None
            self._give_up("the leader changed meanwhile")

    def tick(self) -> None:
        """Promote the learners that have caught up; let go of who was removed."""
        if self.parting and self._monotonic() > self._parted_s:
            self.parting = frozenset()
            self._on_parted()
        if self._asked is not None and self._monotonic() > self._asked.deadline_s:
            self._give_up("no majority has confirmed it in time")
        if self._raft.is_leader():
            learners = self._membership.current.learners
            for member_id in sorted(learners):
                if self._has_caught_up(member_id) and self._problem() is None:
                    del self._rounds[member_id]
                    roster = self._membership.current.promoting(member_id, self._next_index())
                    self._begin(roster, None, f"{member_id} votes")
                    break

    def _has_caught_up(self, member_id: str) -> bool:
        raft, now_s = self._raft, self._monotonic()
        if member_id not in raft.peers_up() or not self._membership.incarnation_of(member_id):
            self._rounds.pop(member_id, None)
            return False
        current = self._rounds.get(member_id)
        if current is None:
            self._rounds[member_id] = _Round(raft.journal.last_index, now_s)
        elif raft.transport.leading.acked_index(member_id) >= current.target_index:
            if now_s - current.begun_s <= self._election_timeout_s:
                return True
            self._rounds[member_id] = _Round(raft.journal.last_index, now_s)
        return False

    def _give_up(self, reason: str) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.waiter.fail(OutcomeUnknown(f"the change may or may not come about: {reason}"))

    def close(self, error: KVError) -> None:
        """The node stops. Whoever comes later hears `error`."""
        self._closed = error
        self._give_up("the node stops")


class _HandedOver:
    """A leader that was to be removed has handed over: its successor is to be asked."""

    def __init__(self, waiter: WriteWaiter) -> None:
        self._waiter = waiter

    def resolve(self, results: object, start: int, stop: int) -> None:
        """Another node leads."""
        self._waiter.fail(Unavailable("leadership was handed over first: ask the new leader"))

    def fail(self, error: KVError) -> None:
        """It goes on leading."""
        self._waiter.fail(error)
