"""Elections: when to stand, whom to let stand, and when a vote may leave.

    follower --- no leader heard for a random 300-600 ms ---> pre-vote round
       ^                                                          | majority would vote
       | refused, or nobody answers: wait again                   v
       +------------------------------------------------- stand: PySyncObj elects (Raft 5.2)
                                                                  ^
                            timeout_now from the leader ----------+ (a planned transfer)

PySyncObj decides elections; this room fences it (PYSYNCOBJ.md):
  P17  it stands whenever its timer runs out, so a node that was cut off for 10 s comes back
       with a high term and deposes a good leader. PySyncObj stands only while "connected to
       anyone": it is told of no connection until a pre-vote round (Raft thesis 9.6) is won,
       and told of the end of all of them as soon as it has asked for votes.
       A node that heard a leader within the minimum timeout (or is one) lets nobody stand
       (stickiness, thesis 6), a planned transfer excepted. For a node that has just been
       started "heard" begins at the start: a vote it gave before a crash may still count.
  P19  it counts the same vote twice: one vote per peer and term is handed on.
  gate a vote leaves only when term and vote are fsynced: a node that crashes after it voted
       must not vote again in that term. A candidate asks at once, since it is its own vote that
       must last: what the others answer is counted when that is fsynced. So on slow disks all
       votes of an election are synced at the same time; and while a node's own is, it neither
       stands (again) nor lets anybody else: without that, elections that take longer than the
       timeouts would disturb each other for ever.
  P26  after a long block its timer runs out before the waiting heartbeats are read: the
       pre-vote round costs a round trip, in which they are.

Invariants: at most one pre-vote round at a time; a grant counts only for the term that it
names; randomness is handed in.

Does not do: change terms or votes itself (PySyncObj does, node.journal keeps them).

Proved by: tests/node/test_elections.py, tests/node/test_pitfalls_elections.py
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Protocol

from node import wire
from node.journal import FileJournal

__all__ = ["Elections", "Electorate", "Quorum"]


class Electorate(Protocol):
    """What elections ask of the replica."""

    def term(self) -> int: ...
    def is_leader(self) -> bool: ...
    def peers_up(self) -> list[str]: ...
    def send(self, peer_id: str, frame: bytes) -> bool: ...
    def stand(self) -> bool:
        """Let PySyncObj stand now; whether it did."""
        ...

    def observe_term(self, term: int) -> None:
        """Adopt a higher term as a follower."""
        ...


class Quorum(Protocol):
    """Who counts (node.membership). It may change at any time."""

    @property
    def am_voter(self) -> bool: ...
    def votes(self, peer_id: str) -> bool: ...
    def is_majority(self, peers: Collection[str]) -> bool:
        """Whether these peers and this node are one, counting voters only."""
        ...


class Elections:
    """The election timer and the fences around votes.

    Args:
        timeout_min_s, timeout_max_s: the range of the random election timeout.
        quorum: who counts. A learner never stands; it gives its vote to whoever asks for it,
            since the asker may know already that it votes (Raft thesis 4.2).
        monotonic: seconds.
        rng: where timeouts come from.
    """

    def __init__(
        self,
        electorate: Electorate,
        journal: FileJournal,
        *,
        timeout_min_s: float,
        timeout_max_s: float,
        quorum: Quorum,
        monotonic: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._electorate = electorate
        self._journal = journal
        self._min_s = timeout_min_s
        self._max_s = timeout_max_s
        self._quorum = quorum
        self._monotonic = monotonic
        self._rng = rng
        self._heard_at = monotonic()
        self._deadline = 0.0
        self._sought_term: int | None = None
        self._grants: set[str] = set()
        self._voters: set[tuple[int, str]] = set()
        self._held: list[tuple[str, bytes]] = []
        self._early: list[tuple[str, int]] = []
        self._transfer_term: int | None = None
        self.postpone()

    # -- the timer ----------------------------------------------------------------------

    def postpone(self) -> None:
        """Start the election timeout anew, at a new random length."""
        timeout_s = self._min_s + (self._max_s - self._min_s) * self._rng.random()
        self._deadline = self._monotonic() + timeout_s

    def heard_leader(self) -> None:
        """A leader of the current term has spoken."""
        self._heard_at = self._monotonic()
        self._sought_term = None
        self.postpone()

    def has_recent_leader(self) -> bool:
        """Whether stickiness holds: a leader was heard within the minimum timeout."""
        return self._electorate.is_leader() or self._monotonic() - self._heard_at < self._min_s

    def tick(self) -> None:
        """Begin a pre-vote round when the timeout has passed without a leader."""
        if self._electorate.is_leader() or self._monotonic() < self._deadline:
            return
        self.postpone()
        if not self._quorum.am_voter:
            return
        if not self._journal.term_is_durable:
            return  # an election is under way here; the disk has not done with it
        self._sought_term = self._electorate.term() + 1
        self._grants = set()
        frame = wire.encode(
            wire.PRE_VOTE, self._sought_term, self._journal.last_index, self._journal.last_term
        )
        for peer_id in self._electorate.peers_up():
            if self._quorum.votes(peer_id):
                self._electorate.send(peer_id, frame)
        self._stand_if_granted()

    def may_stand(self) -> bool:
        """Whether this node may lead at all."""
        return self._quorum.am_voter

    # -- pre-vote -----------------------------------------------------------------------

    def on_pre_vote(self, peer_id: str, term: int, last_index: int, last_term: int) -> None:
        """A peer asks whether we would vote for it."""
        ours = self._electorate.term()
        if term <= ours:
            self._electorate.send(peer_id, wire.encode(wire.HIGHER_TERM, ours))
        elif (
            self._journal.term_is_durable
            and not self.has_recent_leader()
            and (last_term, last_index) >= (self._journal.last_term, self._journal.last_index)
        ):
            self._electorate.send(peer_id, wire.encode(wire.PRE_GRANT, term))

    def on_pre_grant(self, peer_id: str, term: int) -> None:
        """A peer would vote for us in `term`."""
        if term == self._sought_term == self._electorate.term() + 1:
            self._grants.add(peer_id)
            self._stand_if_granted()

    def _stand_if_granted(self) -> None:
        if (
            self._sought_term is not None
            and self._quorum.am_voter
            and self._quorum.is_majority(self._grants)
        ):
            self._sought_term = None
            self._electorate.stand()

    # -- votes --------------------------------------------------------------------------

    def begin_transfer(self) -> None:
        """The leader asked us to take over: stand at once, and say that it is a transfer."""
        self._transfer_term = self._electorate.term() + 1
        self._electorate.stand()
        self.postpone()

    def admits(self, term: int, transfer: bool) -> bool:
        """Whether a vote request may reach PySyncObj at all."""
        return transfer or not self.has_recent_leader()

    def ask_vote(self, peer_id: str, term: int, last_index: int, last_term: int) -> None:
        """PySyncObj asks a peer for its vote. Our own may not be durable yet: see `counts`."""
        transfer = term == self._transfer_term
        self._electorate.send(
            peer_id, wire.encode(wire.VOTE_REQUEST, term, last_index, last_term, transfer)
        )

    def give_vote(self, peer_id: str, term: int) -> None:
        """PySyncObj gives a peer our vote; leaves when it is durable."""
        self.postpone()
        self._held.append((peer_id, wire.encode(wire.VOTE, term)))
        self.release()

    def counts(self, peer_id: str, term: int) -> bool:
        """Whether this vote is to be counted now: a voter's, of the current term, its first (P19),
        and our own is durable. One that comes before that is kept for `early_votes`."""
        if not self._quorum.votes(peer_id):
            return False
        if not self._journal.term_is_durable:
            if term == self._electorate.term() and (peer_id, term) not in self._early:
                self._early.append((peer_id, term))
            return False
        if term != self._electorate.term() or (term, peer_id) in self._voters:
            return False
        self._voters = {vote for vote in self._voters if vote[0] == term}
        self._voters.add((term, peer_id))
        return True

    def on_higher_term(self, term: int) -> None:
        """A peer lives in a higher term: ours is over (P18)."""
        if term > self._electorate.term():
            self._electorate.observe_term(term)

    def early_votes(self) -> list[tuple[str, int]]:
        """(peer, term) of the votes that may be counted now and could not before."""
        if not self._early or not self._journal.term_is_durable:
            return []
        early, self._early = self._early, []
        return early

    def release(self) -> None:
        """Send what waited for term and vote to be durable."""
        if self._held and self._journal.term_is_durable:
            held, self._held = self._held, []
            for peer_id, frame in held:
                self._electorate.send(peer_id, frame)
