"""Batches: the write side of a node, one pending table by (origin, sequence).

    session: service.batch.put(...)            all sessions of one loop turn fill one builder
             service.submit(waiter, 0, 16)
                 |  end of the loop turn
                 v
    sealed  [batch] [batch]      no sequence yet: certainly not proposed, may be refused
                 |  raft.takes_batches, fewer than `in_flight_max` are pending
                 v
    pending {7: batch, 8: batch} proposed here, or forwarded to the leader; sent again, in
                 |               order, when the leader changes, a gap is reported, or time passes
                 v  applied(head, outcome), in order, on this node
    waiter.resolve(results, start, stop)

    pending --- a snapshot was installed that holds it ---> skipped: applied, its results were
                not seen here; the others are asked for them (node.outcomes)

Exactly once: a batch keeps its sequence for ever, every replica applies a sequence of an
origin once and without gaps (statemachine.store), so sending again is always safe. That is
why a batch, once it has a sequence, is never given up; only its waiters are.

What a waiter hears: results; Unavailable when the batch never got a sequence (no leader for
`park_s`, table full, disk reserve, NotLeader where clients are redirected); OutcomeUnknown
when it did and `UNKNOWN_AFTER_S` passed, or when it was skipped and nobody knows its results any
more; Rejected when it is too long to be an entry.

A crash loses the table with the connections that waited; the next epoch starts at sequence 1,
and what the old epoch still has on its way is refused once the new one has been seen.

Invariants: nothing is proposed from within `applied`; waiters are told after the tick; pending
and skipped together are `in_flight_max` at most, so that the others still have the results.

Proved by: tests/node/test_batches.py, tests/node/test_outcomes.py, tests/cluster/test_failover.py
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from node import wire
from node.errors import Fatal, KVError, NotLeader, OutcomeUnknown, Rejected, Unavailable
from node.links import Links
from node.logs import EventLog, what, where
from node.meters import BatchMeter
from node.outcomes import Outcomes
from node.raft import Raft
from statemachine import FileStateMachine
from statemachine.commands import BatchBuilder, BatchHead
from statemachine.store import DUPLICATE, GAP

__all__ = ["Batches", "WriteWaiter"]

UNKNOWN_AFTER_S: Final = 10.0
QUEUED_BYTES_MAX: Final = 64 * 1024 * 1024
_UNKNOWN: Final = "write may or may not have been applied"


class WriteWaiter(Protocol):
    """Who waits for result slots of a batch. Exactly one of the two is called, once."""

    def resolve(self, results: Sequence[Any], start: int, stop: int) -> None:
        """results[start:stop] are ours."""

    def fail(self, error: KVError) -> None:
        """The commands were not applied, or nobody knows."""


Claim = tuple[WriteWaiter, int, int]


@dataclass(slots=True)
class _Batch:
    builder: BatchBuilder
    claims: list[Claim]
    since_s: float
    payload: bytes = b""
    routed_s: float = 0.0


class Batches:
    """The write side of one node.

    Args:
        origin, epoch: of our batches (node.identity).
        in_flight_max: pending batches at once.
        batch_bytes_max: a batch is sealed when it has grown to this. Soft.
        proposal_bytes_max: the longest Raft entry; a longer batch is refused while it may be.
        park_s: how long a write waits for a leader.
        resend_s: pending batches are sent again after this long without a result.
        is_joined: our directory was made for a place in a running cluster (node.identity).
        redirect: asked before a batch is taken; whom the clients are to ask instead, or None.
        others: the other members.
        frame_bytes_max: of links.
    """

    def __init__(
        self,
        origin: bytes,
        epoch: int,
        *,
        raft: Raft,
        links: Links,
        machine: FileStateMachine,
        call_soon: Callable[[Callable[[], None]], object],
        monotonic: Callable[[], float],
        in_flight_max: int,
        batch_bytes_max: int,
        proposal_bytes_max: int,
        park_s: float,
        resend_s: float,
        log: EventLog,
        redirect: Callable[[], NotLeader | None] = lambda: None,
        is_joined: bool = False,
        others: Callable[[], Collection[str]] = tuple,
        frame_bytes_max: int = 1 << 20,
    ) -> None:
        self._origin = origin
        self._own_id = origin.rpartition(b":")[0] + b":"
        self._epoch = epoch
        self._raft = raft
        self._links = links
        self._machine = machine
        self._call_soon = call_soon
        self._monotonic = monotonic
        self._in_flight_max = in_flight_max
        self._batch_bytes_max = batch_bytes_max
        self._proposal_bytes_max = proposal_bytes_max
        self._park_s = park_s
        self._resend_s = resend_s
        self._log = log
        self._redirect = redirect
        self._is_joined = is_joined
        self.batch = BatchBuilder()
        """The batch of this loop turn. Fetch it anew for each run of commands."""
        self._claims: list[Claim] = []
        self._sealed: deque[_Batch] = deque()
        self._sealed_bytes = 0
        self._pending: dict[int, _Batch] = {}
        self._skipped: dict[int, _Batch] = {}
        self.outcomes = Outcomes(
            origin,
            epoch,
            links=links,
            machine=machine,
            others=others,
            found=self._on_found,
            kept_max=in_flight_max,
            frame_bytes_max=frame_bytes_max,
        )
        """What came of the last batches of every node."""
        self._sequence = 0
        self._scheduled = False
        self._done: list[tuple[_Batch, Sequence[Any]]] = []
        self._resend_wanted = False
        self.refusal: str | None = None
        """Why no write is taken at present (disk reserve), or None."""
        self.leaving: str | None = None
        """Why no write is taken by this node; those under way are still carried out."""
        self.meter = BatchMeter()
        self._closed: KVError | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no write is under way or waits."""
        under_way = self._pending or self._skipped or self._sealed or self._claims
        return not (under_way or self._done)

    # -- in ---------------------------------------------------------------------------------

    def submit(self, waiter: WriteWaiter, start: int, stop: int) -> None:
        """Result slots [start, stop) of `batch` belong to `waiter`."""
        if self._closed is not None:
            self.batch = BatchBuilder()
            waiter.fail(self._closed)
            return
        self._claims.append((waiter, start, stop))
        if self.batch.bytes_count >= self._batch_bytes_max:
            self._seal()
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._claims:
            self._seal()
        self._propose()

    def _seal(self) -> None:
        batch = _Batch(self.batch, self._claims, self._monotonic())
        self.batch = BatchBuilder()
        self._claims = []
        if self.refusal is not None or self.leaving is not None:
            self._fail(batch, Unavailable(self.leaving or self.refusal or ""))
        elif (moved := self._redirect()) is not None:
            self._fail(batch, moved)
        elif self._sealed_bytes > QUEUED_BYTES_MAX:
            self._fail(batch, Unavailable("too many writes are waiting", code="BUSY"))
        elif batch.builder.bytes_count > self._proposal_bytes_max:
            # Once it had a sequence, all that comes after it would wait for it for ever.
            self._fail(batch, Rejected(f"a batch of {batch.builder.bytes_count} bytes"))
        else:
            self._sealed.append(batch)
            self._sealed_bytes += batch.builder.bytes_count

    # -- out --------------------------------------------------------------------------------

    def _propose(self) -> None:
        if self._resend_wanted:
            self._resend_wanted = False
            for batch in self._pending.values():
                self._route(batch)
        while self._sealed and len(self._pending) + len(self._skipped) < self._in_flight_max:
            if not self._raft.takes_batches():
                return
            batch = self._sealed.popleft()
            self._sealed_bytes -= batch.builder.bytes_count
            self._sequence += 1
            batch.payload = batch.builder.build(self._origin, self._epoch, self._sequence)
            self._pending[self._sequence] = batch
            self._route(batch)

    def _route(self, batch: _Batch) -> None:
        leader_id = self._raft.leader_id()
        batch.routed_s = self._monotonic()
        if leader_id is not None and not self._raft.propose(batch.payload):
            self._links.send(leader_id, wire.encode(wire.FORWARD, batch.payload))

    def applied(self, head: BatchHead, outcome: Any) -> None:
        """A batch was applied here, ours or another node's. Told in order."""
        if type(outcome) is list and head.origin:
            self.outcomes.keep(head, outcome)
        if head.origin != self._origin or head.epoch != self._epoch:
            self._check_past(head.origin, head.epoch)
            return
        if outcome is GAP:
            self._resend_wanted = True
            self._schedule()
        elif outcome is not DUPLICATE:
            batch = self._pending.pop(head.sequence, None)
            if batch is not None:
                self._done.append((batch, outcome))

    def _check_past(self, origin: bytes, epoch: int) -> None:
        """Fatal if this node wrote that, but not in an earlier epoch of this directory (P20).

        A directory that joined has given no vote before it was seated: its name may be in use.
        """
        if origin == self._origin:
            is_foreign = epoch > self._epoch
        else:
            is_foreign = not self._is_joined and origin.startswith(self._own_id)
        if is_foreign:
            raise Fatal(
                f"the cluster remembers {origin.decode()} in epoch {epoch}, this data directory "
                f"is {self._origin.decode()} in epoch {self._epoch}: it was wiped or restored, "
                f"and may have forgotten a vote"
            )

    def deliver(self) -> None:
        """After a tick: tell the waiters of what was applied in it."""
        if not self._done:
            return
        done, self._done = self._done, []
        now_s = self._monotonic()
        for batch, results in done:
            width = batch.builder.width
            self.meter.applied(width, len(batch.payload), now_s - batch.since_s)
            if len(results) != width:
                reason = results[0].text if results else "no results"
                self._fail(batch, Rejected(f"the batch was refused: {reason}"))
                continue
            for waiter, start, stop in batch.claims:
                self._tell(waiter.resolve, results, start, stop)
        if self._sealed or self._resend_wanted:
            self._schedule()

    # -- change and time ----------------------------------------------------------------------

    def on_change(self) -> None:
        """Role, leader or term changed: send what is pending again, then what waited."""
        self._resend_wanted = bool(self._pending)
        self._schedule()

    def on_snapshot_installed(self) -> None:
        """Entries were skipped: results of ours that were among them have to be asked for."""
        origins = self._machine.origins
        for origin, (epoch, _) in origins.items():
            self._check_past(origin, epoch)
        epoch, last = origins.get(self._origin, (0, 0))
        if epoch == self._epoch:
            for sequence in [each for each in self._pending if each <= last]:
                batch = self._pending.pop(sequence)
                if batch.claims:  # somebody waits still
                    self._skipped[sequence] = batch
                    self._ask(sequence, batch)

    def _ask(self, sequence: int, batch: _Batch) -> None:
        batch.routed_s = self._monotonic()
        self.outcomes.ask(sequence)

    def _on_found(self, sequence: int, results: list[Any] | None) -> None:
        """The results of a skipped batch; None: nobody has them any more."""
        batch = self._skipped.pop(sequence)
        if results is None or len(results) != batch.builder.width:
            self._fail(batch, OutcomeUnknown(_UNKNOWN))
            self._schedule()
        else:
            self._done.append((batch, results))
            self._call_soon(self.deliver)

    def tick(self) -> None:
        """Time passes: give up on waiters, send again."""
        now_s = self._monotonic()
        while self._sealed and (waited_s := now_s - self._sealed[0].since_s) > self._park_s:
            if self._raft.leader_id() is not None and waited_s <= UNKNOWN_AFTER_S:
                break  # a slow write: its turn comes when the table has room
            batch = self._sealed.popleft()
            self._sealed_bytes -= batch.builder.bytes_count
            self._fail(batch, Unavailable("no leader, or not caught up with it, in time"))
        for batch in self._pending.values():
            if batch.claims and now_s - batch.since_s > UNKNOWN_AFTER_S:
                self._fail(batch, OutcomeUnknown(_UNKNOWN))
            if now_s - batch.routed_s > self._resend_s:
                self._resend_wanted = True
        for sequence, batch in list(self._skipped.items()):
            if now_s - batch.since_s > UNKNOWN_AFTER_S:
                self.outcomes.forget(sequence)
                self._fail(self._skipped.pop(sequence), OutcomeUnknown(_UNKNOWN))
                self._schedule()
            elif now_s - batch.routed_s > self._resend_s:
                self._ask(sequence, batch)
        if self._sealed or self._resend_wanted:
            self._schedule()

    def close(self, error: KVError) -> None:
        """The node stops: what was proposed is unknown, what was not is unavailable.

        Whoever comes later hears `error`.
        """
        if self._claims:
            self._seal()
        self._closed = error
        for batch in self._sealed:
            self._fail(batch, Unavailable("the node stops"))
        # NB: also what was applied and not told yet, when the tick that applied it failed.
        told = [batch for batch, _ in self._done]
        for batch in [*told, *self._skipped.values(), *self._pending.values()]:
            self._fail(batch, OutcomeUnknown(_UNKNOWN) if not isinstance(error, Fatal) else error)
        self._done.clear()
        self._sealed.clear()
        self._pending.clear()
        self._skipped.clear()

    @property
    def proposed_total(self) -> int:
        """Batches that were given a sequence since the start."""
        return self._sequence

    @property
    def in_flight(self) -> int:
        """Batches that were proposed and are not applied yet."""
        return len(self._pending)

    def _fail(self, batch: _Batch, error: KVError) -> None:
        self.meter.failed_total += 1
        claims, batch.claims = batch.claims, []
        for waiter, _, _ in claims:
            self._tell(waiter.fail, error)

    def _tell(self, told: Callable[..., None], *arguments: Any) -> None:
        try:
            told(*arguments)
        except Exception as error:  # noqa: BLE001 - its client suffers, the replica does not
            self._log.error("a reply failed", reason=what(error), traceback=where(error))
