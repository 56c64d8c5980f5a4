"""Planted bugs. What clients are told: batches and reads, and PySyncObj's own way with commands.

Proved by: tests/simulation/test_planted.py, scripts/simulate --planted
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any
from unittest import mock

from pysyncobj import syncobj

from node.batches import Batches
from node.entry import KIND_BATCH, NOOP_COMMAND, wrap
from node.raft import Raft, Replica
from node.reads import Reads
from statemachine.commands import stamp
from tests.simulation.planted.bug import Bug, put

__all__ = ["FOUND"]


def _callback_raises() -> Sequence[Any]:
    real = Replica._applyCommand

    def apply_command(self: Replica, command: bytes, callback: Any, *rest: Any) -> None:
        def told(*_: Any) -> None:
            raise ValueError("a callback that raises")

        real(self, command, told, *rest)

    return [put(Replica, "_applyCommand", apply_command)]


def _version_entries() -> Sequence[Any]:
    """What a no-op is applied as: a version that PySyncObj does not know."""
    real = Replica._SyncObj__doApplyCommand
    unknown = b"\x03" + pickle.dumps(1_000)
    assert unknown[0] == syncobj._COMMAND_TYPE.VERSION

    def apply_command(self: Replica, command: bytes) -> Any:
        return real(self, unknown if command == NOOP_COMMAND else command)

    return [put(Replica, "_SyncObj__doApplyCommand", apply_command)]


def _followers_propose() -> Sequence[Any]:
    """PySyncObj is to forward what a follower is given."""

    def propose(self: Raft, batch: bytes) -> bool:
        clock = self._leader_clock
        now_ms = max(self.machine.clock_ms, clock.now_ms() if clock is not None else 0)
        self._replica._applyCommand(wrap(KIND_BATCH, stamp(batch, now_ms)), None)
        self._replica._checkCommandsToApply()
        self.journal.flush()
        return True

    return [put(Raft, "propose", propose)]


def _entries_in_pieces() -> Sequence[Any]:
    import node.raft

    real = node.raft.SyncObjConf

    def conf(**options: Any) -> Any:
        return real(**{**options, "appendEntriesBatchSizeBytes": 200})

    return [put(node.raft, "SyncObjConf", conf)]


def _not_sent_again() -> Sequence[Any]:
    real = Batches._route

    def route(self: Batches, batch: Any) -> None:
        if not batch.routed_s:
            real(self, batch)

    return [put(Batches, "_route", route)]


def _fail_of_proposed() -> Sequence[Any]:
    """A batch that was proposed is given up with "not applied" when the leader changes."""
    from node.errors import Unavailable

    def on_change(self: Batches) -> None:
        for batch in self._pending.values():
            if batch.claims:
                self._fail(batch, Unavailable("the leader changed"))
        self._resend_wanted = bool(self._pending)
        self._schedule()

    return [put(Batches, "on_change", on_change)]


def _no_read_index() -> Sequence[Any]:
    def read(self: Reads, level: Any, waiter: Any) -> None:
        waiter.ready()

    return [put(Reads, "read", read)]


def _reads_before_own_term() -> Sequence[Any]:
    return [
        put(Raft, "committed_in_term", lambda self: self.commit_index()),
    ]


class _Everybody:
    am_voter = True

    def votes(self, peer_id: str) -> bool:
        return True

    def is_majority(self, peers: Any) -> bool:
        return True


def _read_round_of_one() -> Sequence[Any]:
    real = Reads._begin_round

    def begin_round(self: Reads, group: Any) -> None:
        real(self, group)
        for begun in list(self._rounds):
            quorum, self._quorum = self._quorum, _Everybody()
            self._confirm(begun)
            self._quorum = quorum

    return [put(Reads, "_begin_round", begin_round)]


def _reads_not_applied() -> Sequence[Any]:
    def when_applied(self: Reads, group: Any) -> None:
        for _, waiter in group.waiters:
            self._tell(waiter.ready)

    return [put(Reads, "_when_applied", when_applied)]


def _lease_too_long() -> Sequence[Any]:
    return [mock.patch("node.reads.LEASE_FRACTION", 6.0)]


def _lease_after_transfer() -> Sequence[Any]:
    return [put(Reads, "end_lease", lambda self: None)]


FOUND: Sequence[Bug] = (
    Bug("a callback raises", "handed to PySyncObj with each batch", _callback_raises, defence="P2"),
    Bug("version entries", "one that PySyncObj does not know", _version_entries, defence="P3"),
    Bug("followers propose", "and PySyncObj forwards", _followers_propose, defence="P5"),
    Bug("entries in pieces", "larger than PySyncObj's limit", _entries_in_pieces, defence="P10"),
    Bug("batches not sent again", "one try each", _not_sent_again, "swizzle", "P4"),
    Bug(
        "proposed is said to have failed",
        "CLUSTERDOWN for what may be applied",
        _fail_of_proposed,
        "swizzle",
        "P4",
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
)
