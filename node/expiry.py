"""Expiry: when a lease is due and nobody writes, the leader proposes an empty batch.

    tick: leading, the soonest deadline has come by the leader's clock, none is under way
      -> an empty, anonymous batch; its time stamp lets every replica expire what is due
      -> applied: the next one may be proposed (a batch expires only so many keys)

So a key is gone at the same entry on every replica, and no replica deletes by its own clock.
Any other batch does as well: under load no empty one is ever proposed.

Invariants: at most one such batch is under way for a deadline; what was lost with its leader,
or fell into a hand-over, is proposed again.

A crash changes nothing: deadlines are absolute, and whoever leads next finds them due.

Does not do: expire (statemachine.store), tell time (node.raft).

Proved by: tests/node/test_batches.py, tests/node/test_node.py
"""

from __future__ import annotations

from node.raft import Raft
from statemachine import FileStateMachine
from statemachine.commands import BatchBuilder

__all__ = ["Expiry"]


class Expiry:
    """Watches the deadlines of one replica."""

    def __init__(self, raft: Raft, machine: FileStateMachine) -> None:
        self._raft = raft
        self._machine = machine
        self._proposed_ms: int | None = None
        """The deadline for which a batch is under way."""

    def tick(self) -> None:
        """Propose an empty batch if a lease is due."""
        if not self._raft.is_leader() or self._proposed_ms is not None:
            return
        due_ms = self._machine.next_deadline_ms
        is_due = due_ms is not None and due_ms <= self._raft.now_ms()
        if is_due and self._raft.propose(BatchBuilder().build()):  # not while it is handed over
            self._proposed_ms = due_ms

    def applied(self, now_ms: int) -> None:
        """A batch that bears this time was applied here."""
        if self._proposed_ms is not None and now_ms >= self._proposed_ms:
            self._proposed_ms = None

    def on_change(self) -> None:
        """Role, leader or term changed: what was proposed may be lost."""
        self._proposed_ms = None
