"""Reads that are not stale: ReadIndex (Raft thesis 6.4), batched.

    leader     note the commit index -> probe(term, round) to all peers -> a majority echoes
               -> wait until the state machine has applied that index -> serve
    follower   ask(id) to the leader -> grant(id, index) once the leader's round is over
               -> wait until applied -> serve from its own memory

    linearizable  the way above
    lease         the leader serves at once while a majority echoed a probe that it sent
                  less than (minimum election timeout x 0.9) ago: within that time nobody who
                  echoed lets another leader be elected (stickiness, node.elections). The
                  tenth is the bound on how differently two monotonic clocks may run.
                  Anywhere else a lease read is a linearizable read, whose round renews it.
    eventual      this node's memory, as it is

All reads of one loop turn share a round; reads that come while it is under way share the
next. A leader answers only when an entry of its own term is committed (thesis 6.4, step 1):
before that it does not know what its predecessor committed.

Invariants: a round confirms only reads that were waiting when it began; a round of another
term confirms nothing; a planned transfer ends the lease for the rest of the term, since the
successor is elected past the stickiness.

A crash loses the waiting reads with their connections. Without a leader a read waits
`park_s`, then fails as Unavailable: it was certainly not served.

Proved by: tests/node/test_reads.py, tests/cluster/test_stale_reads.py
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from node import wire
from node.errors import Unavailable

__all__ = ["Level", "ReadWaiter", "Reads"]

LEASE_FRACTION: Final = 0.9
PROBE_AGAIN_S: Final = 0.1
ROUNDS_MAX: Final = 2
"""Rounds under way at once: one on its way out while the other comes back."""


class Level(enum.Enum):
    """How fresh a read must be."""

    LINEARIZABLE = "linearizable"
    LEASE = "lease"
    EVENTUAL = "eventual"


class ReadWaiter(Protocol):
    """Who waits for a read to be granted. Exactly one of the two is called, once."""

    def ready(self) -> None:
        """The state machine may be read now, within this call."""

    def fail(self, error: Exception) -> None:
        """The read was not served."""


class ReadSource(Protocol):
    """What reads ask of the replica."""

    def term(self) -> int: ...
    def is_leader(self) -> bool: ...
    def leader_id(self) -> str | None: ...
    def committed_in_term(self) -> int | None:
        """The commit index, when an entry of the current term is committed; else None."""
        ...

    def applied_index(self) -> int: ...
    def peers_up(self) -> list[str]: ...
    def send(self, peer_id: str, frame: bytes) -> bool: ...


class _Group:
    """Reads that are granted together: local ones, and peers' asks as (peer, id)."""

    __slots__ = ("asks", "deadline_s", "index", "waiters")

    def __init__(self, deadline_s: float) -> None:
        self.waiters: list[ReadWaiter] = []
        self.asks: list[tuple[str, int]] = []
        self.index = 0
        self.deadline_s = deadline_s


class _Round:
    __slots__ = ("echoes", "group", "number", "sent_s", "term")

    def __init__(self, number: int, term: int, sent_s: float, group: _Group) -> None:
        self.number = number
        self.term = term
        self.sent_s = sent_s
        self.group = group
        self.echoes: set[str] = set()


class Reads:
    """Grants reads of one node.

    Args:
        call_soon: schedules the round of a loop turn.
        lease_s: the minimum election timeout, in seconds.
        park_s: how long a read waits for a leader.
    """

    def __init__(
        self,
        source: ReadSource,
        *,
        members_count: int,
        call_soon: Callable[[Callable[[], None]], object],
        monotonic: Callable[[], float],
        lease_s: float,
        park_s: float,
    ) -> None:
        self._source = source
        self._majority = members_count // 2 + 1
        self._call_soon = call_soon
        self._monotonic = monotonic
        self._lease_s = lease_s * LEASE_FRACTION
        self._park_s = park_s
        self._waiting: _Group | None = None
        self._scheduled = False
        self._rounds: deque[_Round] = deque()
        self._number = 0
        self._asked: dict[int, tuple[str, _Group]] = {}
        self._ask_number = 0
        self._unapplied: deque[_Group] = deque()
        self._lease_sent_s = -lease_s
        self._lease_term = 0
        self._no_lease_term = 0

    # -- asking -------------------------------------------------------------------------

    def read(self, level: Level, waiter: ReadWaiter) -> None:
        """Grant `waiter` a read of this level, now or later."""
        if level is Level.EVENTUAL or (level is Level.LEASE and self._lease_holds()):
            waiter.ready()
        else:
            self._group().waiters.append(waiter)

    def _group(self) -> _Group:
        if self._waiting is None:
            self._waiting = _Group(self._monotonic() + self._park_s)
        self._schedule()
        return self._waiting

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._begin)

    def _lease_holds(self) -> bool:
        source = self._source
        if not source.is_leader() or source.term() != self._lease_term:
            return False
        committed = source.committed_in_term()
        return (
            self._lease_term != self._no_lease_term
            and self._monotonic() - self._lease_sent_s < self._lease_s
            and committed is not None
            and source.applied_index() >= committed
        )

    def end_lease(self) -> None:
        """A planned transfer begins: no lease reads for the rest of this term."""
        self._no_lease_term = self._source.term()

    # -- rounds -------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start what this loop turn collected, if the node is in a state to do so."""
        self._scheduled = False
        group = self._waiting
        if group is None or not (group.waiters or group.asks):
            return
        if self._source.is_leader():
            index = self._source.committed_in_term()
            if index is None or len(self._rounds) >= ROUNDS_MAX:
                return  # begun again by the next commit or the end of a round
            self._waiting = None
            group.index = index
            self._begin_round(group)
        elif (leader_id := self._source.leader_id()) is not None:
            self._waiting = None
            self._refuse_asks(group)
            self._ask(leader_id, group)

    def _begin_round(self, group: _Group) -> None:
        self._number += 1
        term = self._source.term()
        self._rounds.append(_Round(self._number, term, self._monotonic(), group))
        self._probe(self._rounds[-1])
        self._confirm(self._rounds[-1])

    def _probe(self, begun: _Round) -> None:
        frame = wire.encode(wire.READ_PROBE, begun.term, begun.number)
        for peer_id in self._source.peers_up():
            self._source.send(peer_id, frame)

    def on_echo(self, peer_id: str, term: int, number: int) -> None:
        """A peer lives in the term of our probe. An echo counts for older rounds as well."""
        for begun in list(self._rounds):
            if begun.number <= number and begun.term == term:
                begun.echoes.add(peer_id)
                self._confirm(begun)

    def _confirm(self, begun: _Round) -> None:
        if len(begun.echoes) + 1 < self._majority or begun.term != self._source.term():
            return
        self._rounds.remove(begun)
        self._lease_term, self._lease_sent_s = begun.term, begun.sent_s
        group = begun.group
        for peer_id, number in group.asks:
            self._source.send(peer_id, wire.encode(wire.READ_GRANT, number, group.index))
        group.asks = []
        self._when_applied(group)
        if self._waiting is not None:
            self._schedule()

    def _when_applied(self, group: _Group) -> None:
        if group.index <= self._source.applied_index():
            for waiter in group.waiters:
                waiter.ready()
        elif group.waiters:
            self._unapplied.append(group)

    def advance(self) -> None:
        """Commit or applied index moved: serve and begin what waited for that."""
        if self._unapplied:
            unapplied, self._unapplied = self._unapplied, deque()
            for group in unapplied:
                self._when_applied(group)
        if self._waiting is not None:
            self._schedule()

    # -- followers ----------------------------------------------------------------------

    def _ask(self, leader_id: str, group: _Group) -> None:
        self._ask_number += 1
        self._asked[self._ask_number] = (leader_id, group)
        self._source.send(leader_id, wire.encode(wire.READ_ASK, self._ask_number))

    def on_ask(self, peer_id: str, number: int) -> None:
        """A follower has reads that wait."""
        if self._source.is_leader():
            self._group().asks.append((peer_id, number))
        else:
            self._source.send(peer_id, wire.encode(wire.READ_GRANT, number, 0))

    def on_grant(self, peer_id: str, number: int, index: int) -> None:
        """The leader's round is over; index 0 means that it leads no more."""
        leader_id, group = self._asked.pop(number, (None, None))
        if group is None or leader_id != peer_id:
            return
        if index == 0:
            self._again(group)
        else:
            group.index = index
            self._when_applied(group)

    def _refuse_asks(self, group: _Group) -> None:
        for peer_id, number in group.asks:
            self._source.send(peer_id, wire.encode(wire.READ_GRANT, number, 0))
        group.asks = []

    # -- change and time ----------------------------------------------------------------

    def on_change(self) -> None:
        """Leader, term or a link changed: what is under way must be asked again."""
        groups = [begun.group for begun in self._rounds]
        groups += [group for _, group in self._asked.values()]
        self._rounds.clear()
        self._asked.clear()
        for group in groups:
            self._again(group)
        if self._waiting is not None:
            self._schedule()

    def _again(self, group: _Group) -> None:
        waiting = self._group()
        waiting.deadline_s = min(waiting.deadline_s, group.deadline_s)
        waiting.waiters = group.waiters + waiting.waiters
        waiting.asks = group.asks + waiting.asks

    def tick(self) -> None:
        """Fail what has waited too long; begin what may begin now."""
        now_s = self._monotonic()
        groups = [begun.group for begun in self._rounds]
        groups += [group for _, group in self._asked.values()]
        groups += self._unapplied
        groups += [self._waiting] if self._waiting is not None else []
        for group in groups:
            if group.deadline_s < now_s and group.waiters:
                waiters, group.waiters = group.waiters, []
                for waiter in waiters:
                    waiter.fail(Unavailable("no leader confirmed the read in time"))
        for begun in self._rounds:
            if now_s - begun.sent_s > PROBE_AGAIN_S:
                self._probe(begun)  # a peer that was not following yet may be now
        if self._waiting is not None:
            self._schedule()

    def close(self, error: Exception) -> None:
        """Fail everything that waits."""
        self.on_change()
        waiting, self._waiting = self._waiting, None
        groups = list(self._unapplied) + ([waiting] if waiting is not None else [])
        self._unapplied.clear()
        for group in groups:
            for waiter in group.waiters:
                waiter.fail(error)
