"""A planned hand-over of leadership (Raft thesis 3.10), so that writers lose no heartbeat.

    begin -> hold proposals -> the target has acknowledged everything -> timeout_now
                  |                                                         |
                  +---- after two election timeouts: give up, go on --------+--> new leader seen

While proposals are held, writes wait; they are proposed by whoever leads next. Only one
hand-over at a time. If the target dies meanwhile, this node goes on leading (its lease stays
off for the term, node.reads) or loses an ordinary election.

A crash in between is an ordinary failover: nothing is written for a hand-over.

Proved by: tests/node/test_transfer.py, tests/cluster/test_failover.py
"""

from __future__ import annotations

from collections.abc import Callable

from node.batches import WriteWaiter
from node.errors import KVError, Rejected, Unavailable
from node.raft import Raft

__all__ = ["Transfer"]


class Transfer:
    """At most one hand-over under way.

    Args:
        give_up_s: how long it may take.
    """

    def __init__(self, raft: Raft, *, monotonic: Callable[[], float], give_up_s: float) -> None:
        self._raft = raft
        self._monotonic = monotonic
        self._give_up_s = give_up_s
        self._waiter: WriteWaiter | None = None
        self._target = ""
        self._deadline_s = 0.0
        self._sent = False
        self._closed: KVError | None = None

    def begin(self, target: str | None, waiter: WriteWaiter) -> None:
        """Hand over to `target`, or to the peer that has acknowledged most.

        The waiter gets [id of the new leader], or Rejected (not the leader, no such peer),
        or Unavailable (nobody there to take over, or it took too long).
        """
        raft = self._raft
        up = [peer_id for peer_id in raft.peers_up() if peer_id in raft.peer_ids]
        if self._closed is not None:
            waiter.fail(self._closed)
        elif not raft.is_leader():
            leader = raft.leader_id()
            waiter.fail(Rejected(f"{raft.node_id} is not the leader ({leader or 'nobody'} is)"))
        elif target == raft.node_id:
            waiter.resolve([target.encode()], 0, 1)
        elif target is not None and target not in raft.peer_ids:
            waiter.fail(Rejected(f"no member {target!r}"))
        elif self._waiter is not None:
            waiter.fail(Unavailable("a hand-over is under way", code="BUSY"))
        elif not up or (target is not None and target not in up):
            waiter.fail(Unavailable(f"{target} is not connected" if target else "no peer is there"))
        else:
            self._target = target or max(
                up, key=lambda peer: (raft.transport.leading.acked_index(peer), peer)
            )
            self._waiter = waiter
            self._deadline_s = self._monotonic() + self._give_up_s
            self._sent = False
            raft.holding = True
            self.progress()

    def progress(self) -> None:
        """Something was acknowledged: perhaps the target has it all now."""
        raft = self._raft
        if (
            self._waiter is not None
            and not self._sent
            and raft.transport.leading.acked_index(self._target) == raft.journal.last_index
        ):
            self._sent = True
            raft.transfer_to(self._target)

    def on_change(self) -> None:
        """Role or leader changed: the hand-over is over when somebody else leads."""
        leader_id = self._raft.leader_id()
        if self._waiter is not None and leader_id not in (None, self._raft.node_id):
            assert leader_id is not None
            self._end().resolve([leader_id.encode()], 0, 1)

    def tick(self) -> None:
        """Give up when it took too long."""
        self.progress()
        if self._waiter is not None and self._monotonic() > self._deadline_s:
            self.abort(Unavailable(f"{self._target} did not take over in time"))

    def abort(self, error: KVError) -> None:
        """Go on without a hand-over."""
        if self._waiter is not None:
            self._end().fail(error)

    def close(self, error: KVError) -> None:
        """The node stops. Whoever comes later hears `error`."""
        self._closed = error
        self.abort(error)

    def _end(self) -> WriteWaiter:
        waiter = self._waiter
        assert waiter is not None
        self._waiter = None
        self._raft.holding = False
        return waiter
