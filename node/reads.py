"""Reads that are not stale: ReadIndex (Raft thesis 6.4), batched.

    leader     note the commit index -> probe(term, round) to peers -> a majority echoes
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
next. A round asks the peers that made up the last one's majority, so that the others are not
woken for nothing; everybody, if that is no majority or does not answer within HASTE_S. A leader
answers only when an entry of its own term is committed (thesis 6.4, step 1): before that it does
not know what its predecessor committed.

Invariants: a round confirms only reads that were waiting when it began; a round of another
term confirms nothing; a planned transfer ends the lease for the rest of the term, since the
successor is elected past the stickiness.

A crash loses the waiting reads with their connections. A read that is not granted within
`park_s` of its own coming fails as Unavailable: it was certainly not served. A frame that was
lost with its link is sent again after AGAIN_S. What a waiter raises, short of a Fatal, is logged:
it costs that client its answer, not the others.

Proved by: tests/node/test_reads.py, tests/cluster/test_stale_reads.py
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from node import wire
from node.errors import Fatal, Unavailable
from node.logs import EventLog, what, where

if TYPE_CHECKING:
    from node.elections import Quorum

__all__ = ["Level", "ReadWaiter", "Reads"]

LEASE_FRACTION: Final = 0.9
HASTE_S: Final = 0.01
"""A round that only some were asked for asks everybody after this, with the next tick."""
AGAIN_S: Final = 0.1
"""Probes and asks that nobody answered are sent again after this."""
ASKS_MAX: Final = 1_000
"""Asks of peers that share a round. One more is dropped: it comes again after AGAIN_S."""
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
    def await_commit(self, peer_id: str, index: int) -> None:
        """Clients of this peer wait for `index`."""
        ...


class _Group:
    """Reads that are granted together: local ones, and peers' asks as (peer, id)."""

    __slots__ = ("asks", "index", "waiters")

    def __init__(self) -> None:
        self.waiters: list[tuple[float, ReadWaiter]] = []
        """With their deadlines, soonest first."""
        self.asks: list[tuple[str, int]] = []
        self.index = 0


class _Round:
    __slots__ = ("again_s", "echoes", "group", "number", "probed_s", "sent_s", "term")

    def __init__(self, number: int, term: int, sent_s: float, group: _Group) -> None:
        self.number = number
        self.term = term
        self.sent_s = self.probed_s = sent_s
        """When the first probe left: a lease counts from there; and when the last one did."""
        self.again_s = AGAIN_S
        self.group = group
        self.echoes: set[str] = set()


class _Asked:
    __slots__ = ("group", "leader_id", "sent_s")

    def __init__(self, leader_id: str, sent_s: float, group: _Group) -> None:
        self.leader_id = leader_id
        self.sent_s = sent_s
        self.group = group


class Reads:
    """Grants reads of one node.

    Args:
        quorum: who counts; asked anew for each answer, since members may change.
        call_soon: schedules the round of a loop turn.
        lease_s: the minimum election timeout, in seconds.
        park_s: how long a read waits for a leader.
    """

    def __init__(
        self,
        source: ReadSource,
        *,
        quorum: Quorum,
        call_soon: Callable[[Callable[[], None]], object],
        monotonic: Callable[[], float],
        lease_s: float,
        park_s: float,
        log: EventLog,
    ) -> None:
        self._source = source
        self._quorum = quorum
        self._call_soon = call_soon
        self._monotonic = monotonic
        self._lease_s = lease_s * LEASE_FRACTION
        self._park_s = park_s
        self._log = log
        self._waiting: _Group | None = None
        self._scheduled = False
        self._rounds: deque[_Round] = deque()
        self._number = 0
        self._answered: frozenset[str] = frozenset()
        """Who made up the majority of the last round."""
        self._asked: dict[int, _Asked] = {}
        self._ask_number = 0
        self._unapplied: deque[_Group] = deque()
        self._lease_sent_s = -lease_s
        self._lease_term = 0
        self._no_lease_term = 0
        self._closed: Exception | None = None

    # -- asking -------------------------------------------------------------------------

    def read(self, level: Level, waiter: ReadWaiter) -> None:
        """Grant `waiter` a read of this level, now or later."""
        if self._closed is not None:
            waiter.fail(self._closed)
        elif level is Level.EVENTUAL or (level is Level.LEASE and self._lease_holds()):
            waiter.ready()
        else:
            self._group().waiters.append((self._monotonic() + self._park_s, waiter))
            self._schedule()

    def _group(self) -> _Group:
        if self._waiting is None:
            self._waiting = _Group()
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
            if group.waiters:
                self._ask(leader_id, group)

    def _begin_round(self, group: _Group) -> None:
        self._number += 1
        term = self._source.term()
        begun = _Round(self._number, term, self._monotonic(), group)
        self._rounds.append(begun)
        up = self._source.peers_up()
        few = [peer_id for peer_id in up if peer_id in self._answered]
        if few and self._quorum.is_majority(set(few)):
            begun.again_s = HASTE_S
            self._probe(begun, few)
        else:
            self._probe(begun, up)
        self._confirm(begun)

    def _probe(self, begun: _Round, peer_ids: list[str]) -> None:
        frame = wire.encode(wire.READ_PROBE, begun.term, begun.number)
        begun.probed_s = self._monotonic()
        for peer_id in peer_ids:
            self._source.send(peer_id, frame)

    def on_echo(self, peer_id: str, term: int, number: int) -> None:
        """A peer lives in the term of our probe. An echo counts for older rounds as well."""
        for begun in list(self._rounds):
            if begun.number <= number and begun.term == term:
                begun.echoes.add(peer_id)
                self._confirm(begun)

    def _confirm(self, begun: _Round) -> None:
        if not self._quorum.is_majority(begun.echoes) or begun.term != self._source.term():
            return
        self._rounds.remove(begun)
        self._answered = frozenset(begun.echoes)
        self._lease_term, self._lease_sent_s = begun.term, begun.sent_s
        group = begun.group
        for peer_id, number in group.asks:
            self._source.await_commit(peer_id, group.index)
            self._source.send(peer_id, wire.encode(wire.READ_GRANT, number, group.index))
        group.asks = []
        self._when_applied(group)
        if self._waiting is not None:
            self._schedule()

    def _when_applied(self, group: _Group) -> None:
        if group.index <= self._source.applied_index():
            for _, waiter in group.waiters:
                self._tell(waiter.ready)
        elif group.waiters:
            self._unapplied.append(group)

    def _tell(self, told: Callable[..., None], *arguments: Exception) -> None:
        try:
            told(*arguments)
        except Fatal:
            raise
        except Exception as error:  # noqa: BLE001 - logged, and the others are told
            self._log.error("an answer failed", reason=what(error), traceback=where(error))

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
        self._asked[self._ask_number] = _Asked(leader_id, self._monotonic(), group)
        self._source.send(leader_id, wire.encode(wire.READ_ASK, self._ask_number))

    def on_ask(self, peer_id: str, number: int) -> None:
        """A follower has reads that wait."""
        if self._source.is_leader():
            asks = self._group().asks
            if len(asks) < ASKS_MAX and (peer_id, number) not in asks:
                asks.append((peer_id, number))
            self._schedule()
        else:
            self._source.send(peer_id, wire.encode(wire.READ_GRANT, number, 0))

    def on_grant(self, peer_id: str, number: int, index: int) -> None:
        """The leader's round is over; index 0 means that it leads no more."""
        asked = self._asked.get(number)
        if asked is None or asked.leader_id != peer_id:
            return
        del self._asked[number]
        if index == 0:
            self._again(asked.group)  # with the next tick: we do not know better yet
        else:
            asked.group.index = index
            self._when_applied(asked.group)

    def _refuse_asks(self, group: _Group) -> None:
        for peer_id, number in group.asks:
            self._source.send(peer_id, wire.encode(wire.READ_GRANT, number, 0))
        group.asks = []

    # -- change and time ----------------------------------------------------------------

    def on_change(self) -> None:
        """Leader or term changed: what is under way must be asked again."""
        groups = [begun.group for begun in self._rounds]
        groups += [asked.group for asked in self._asked.values()]
        self._rounds.clear()
        self._asked.clear()
        for group in reversed(groups):  # the oldest reads come to stand in front
            self._again(group)
        if self._waiting is not None:
            self._schedule()

    def _again(self, group: _Group) -> None:
        waiting = self._group()
        waiting.waiters = group.waiters + waiting.waiters
        waiting.asks = group.asks + waiting.asks

    def tick(self) -> None:
        """Fail what has waited too long; begin what may begin now."""
        now_s = self._monotonic()
        groups = [begun.group for begun in self._rounds]
        groups += [asked.group for asked in self._asked.values()]
        groups += self._unapplied
        groups += [self._waiting] if self._waiting is not None else []
        for group in groups:
            self._fail_late(group, now_s)
        for begun in self._rounds:
            if now_s - begun.probed_s > begun.again_s:
                begun.again_s = AGAIN_S
                self._probe(begun, self._source.peers_up())  # who did not follow yet may now
        for number, asked in self._asked.items():
            if now_s - asked.sent_s > AGAIN_S:
                asked.sent_s = now_s
                self._source.send(asked.leader_id, wire.encode(wire.READ_ASK, number))
        if self._waiting is not None:
            self._schedule()

    def _fail_late(self, group: _Group, now_s: float) -> None:
        late = 0
        while late < len(group.waiters) and group.waiters[late][0] < now_s:
            late += 1
        if late:
            waiters, group.waiters = group.waiters[:late], group.waiters[late:]
            for _, waiter in waiters:
                self._tell(waiter.fail, Unavailable("no leader confirmed the read in time"))

    def close(self, error: Exception) -> None:
        """Fail everything that waits, and whatever comes later."""
        self._closed = error
        self.on_change()
        waiting, self._waiting = self._waiting, None
        groups = list(self._unapplied) + ([waiting] if waiting is not None else [])
        self._unapplied.clear()
        for group in groups:
            for _, waiter in group.waiters:
                self._tell(waiter.fail, error)
