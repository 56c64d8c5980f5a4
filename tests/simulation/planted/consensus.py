"""Planted bugs. Elections, logs, snapshots and members.

Proved by: tests/simulation/test_planted.py, scripts/simulate --planted
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import node.core
from node import wire
from node.batches import Batches
from node.elections import Elections
from node.following import Following
from node.introductions import Introductions
from node.leading import Leading
from node.membership import Membership
from node.raft import Raft
from node.snapshots import Snapshots
from node.transport import FencedTransport
from tests.simulation.planted.bug import Bug, put

__all__ = ["FOUND"]


def _no_pre_vote() -> Sequence[Any]:
    def tick(self: Elections) -> None:
        if self._electorate.is_leader() or self._monotonic() < self._deadline:
            return
        self.postpone()
        if self._quorum.am_voter and self._journal.term_is_durable:
            self._electorate.stand()

    return [put(Elections, "tick", tick)]


def _stands_after_a_block() -> Sequence[Any]:
    """What fell due in a long pause is an election, before the waiting heartbeats are read."""
    real = Elections.tick

    def tick(self: Elections) -> None:
        now_s = self._monotonic()
        waited_s, self._ticked_s = now_s - getattr(self, "_ticked_s", now_s), now_s  # type: ignore[attr-defined]
        if waited_s > self._min_s and self._quorum.am_voter and not self._electorate.is_leader():
            self._electorate.stand()
        else:
            real(self)

    return [put(Elections, "tick", tick)]


def _no_stickiness() -> Sequence[Any]:
    return [put(Elections, "has_recent_leader", lambda self: False)]


def _higher_term_unheard() -> Sequence[Any]:
    return [put(Elections, "on_higher_term", lambda self, term: None)]


def _votes_counted_twice() -> Sequence[Any]:
    def counts(self: Elections, peer_id: str, term: int) -> bool:
        return term == self._electorate.term() and self._journal.term_is_durable

    return [put(Elections, "counts", counts)]


def _half_is_enough() -> Sequence[Any]:
    real = Membership.is_majority

    def is_majority(self: Membership, peers: Any) -> bool:
        return bool(real(self, peers)) or 2 * (len(set(peers)) + 1) >= len(self._voters) - 1

    return [put(Membership, "is_majority", is_majority)]


def _leads_for_half_a_minute() -> Sequence[Any]:
    real = Raft.__init__

    def init(self: Raft, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **{**options, "fallback_s": 30.0})

    return [put(Raft, "__init__", init)]


def _matching_truncated() -> Sequence[Any]:
    return [
        put(Following, "_unknown_part", lambda self, entries: entries),
        put(Following, "_refuse_contradiction", lambda self, *arguments: None),
    ]


def _acks_of_any_term() -> Sequence[Any]:
    def on_ack(
        self: FencedTransport, peer_id: str, term: int, next_index: int, reset: bool, success: bool
    ) -> None:
        if self._state.is_leader() and 1 <= next_index <= self.leading._journal.last_index + 1:
            self.leading.on_ack(peer_id, next_index, reset, success)

    return [put(FencedTransport, "_on_ack", on_ack)]


def _commit_not_capped() -> Sequence[Any]:
    real = Following.on_append

    def on_append(self: Following, peer_id: str, term: int, commit: int, *rest: Any) -> None:
        self._leader_commit = max(self._leader_commit, commit)
        real(self, peer_id, term, commit, *rest)
        self._leader_commit = max(self._leader_commit, commit)

    return [put(Following, "on_append", on_append)]


def _snapshot_commits() -> Sequence[Any]:
    def install(self: Following, peer_id: str, term: int) -> None:
        with self._mute():
            self._deliver(
                peer_id,
                type="append_entries",
                term=term,
                commit_index=self._state.commit_index() + 1_000,
                serialized=(b"", True, True),
            )

    def installed(self: Raft, peer_id: str, term: int, index: int) -> None:
        # The log is not begun anew: what was there stays, and is committed by the message.
        if term == self.term():
            self.transport.following.install(peer_id, term)
        self.transport.following.believe_installed(index)
        self._events.change()

    return [put(Following, "install", install), put(Raft, "installed", installed)]


def _snapshot_acked_early() -> Sequence[Any]:
    real = Snapshots._install

    def install(self: Snapshots, stream: Any) -> None:
        following = self._follow.__self__  # type: ignore[attr-defined]
        following.verified_index = stream.metadata.last_included.index
        frame = wire.encode(wire.ACK, self._term(), following.verified_index + 1, False, True)
        self._links.send(stream.peer_id, frame)
        real(self, stream)

    return [put(Snapshots, "_install", install)]


def _in_flight_again() -> Sequence[Any]:
    """What PySyncObj sends again is not taken out."""
    real = Leading.send_append

    def send_append(self: Leading, peer_id: str, message: dict[str, Any]) -> bool:
        follower = self._followers.get(peer_id)
        if follower is not None and 0 < follower.acked_index < follower.sent_index:
            follower.sent_index = follower.acked_index
        return real(self, peer_id, message)

    return [put(Leading, "send_append", send_append)]


def _no_flow_control() -> Sequence[Any]:
    real = Leading.send_append

    def send_append(self: Leading, peer_id: str, message: dict[str, Any]) -> bool:
        self._send_buffer_bytes_max = 1 << 40
        return real(self, peer_id, message)

    return [put(Leading, "send_append", send_append)]


def _strangers_admitted() -> Sequence[Any]:
    return [
        put(Membership, "knows", lambda self, peer_id: peer_id in self._linked),
        put(Introductions, "_on_stranger", lambda self, *arguments: None),
        put(Batches, "_check_past", lambda self, origin, epoch: None),
    ]


def _elder_seat_taken() -> Sequence[Any]:
    """As it was before seed 2291: and who was to leave stays, without its clients."""
    real = node.core.Core._on_members

    def on_members(self: node.core.Core) -> None:
        if not self.membership.is_waiting:
            self._leaving_until_s = None
        real(self)

    return [
        put(Membership, "_has_us", lambda self, roster: roster.has(self.node_id)),
        put(node.core.Core, "_on_members", on_members),
    ]


FOUND: Sequence[Bug] = (
    Bug("no PreVote", "stands as soon as its timer says so", _no_pre_vote, "swizzle", "P17"),
    Bug("stands after a block", "at once", _stands_after_a_block, "swizzle", "P26"),
    Bug(
        "no stickiness",
        "lets others stand while it hears a leader",
        _no_stickiness,
        "swizzle",
        "P17",
    ),
    Bug("higher terms unheard", "a deposed leader stays", _higher_term_unheard, "swizzle", "P18"),
    Bug("votes counted twice", "no memory of who voted", _votes_counted_twice, defence="P19"),
    Bug("one less is a majority", "quorums that do not meet", _half_is_enough, "swizzle", "quorum"),
    Bug("leads on without answers", "for 30 s", _leads_for_half_a_minute, "swizzle", "P24"),
    Bug(
        "matching entries truncated",
        "delivers what it has already",
        _matching_truncated,
        "swizzle",
        "P7",
    ),
    Bug(
        "acks of any term",
        "an old term's acknowledgement counts",
        _acks_of_any_term,
        "swizzle",
        "P9",
    ),
    Bug(
        "commit beyond what matches",
        "takes its own log for verified",
        _commit_not_capped,
        defence="P8",
    ),
    Bug(
        "snapshot commits",
        "a snapshot message carries a commit index",
        _snapshot_commits,
        defence="P8",
    ),
    Bug(
        "snapshot acked early",
        "acknowledged before it is installed",
        _snapshot_acked_early,
        defence="P15",
    ),
    Bug("sent again in flight", "after each acknowledgement", _in_flight_again, defence="P6"),
    Bug("no flow control", "behind a full send buffer", _no_flow_control, "swizzle", "P25"),
    Bug("strangers admitted", "a wiped node takes part", _strangers_admitted, defence="P20"),
    Bug(
        "an elder's seat is taken",
        "a new directory believes an old roster about itself",
        _elder_seat_taken,
        defence="seed 2291",
    ),
)
