"""Introductions: who is at the other end of a link, and what it knows of the members.

    link opens    incarnation ->, committed roster ->        the first two messages, both ways
    theirs        incarnation: as the seat says?             admitted, told to the fence
                               another one?                  stranger -> ; nothing of it counts
                  roster: newer than ours?                   adopted (node.membership)
                  stranger: we are not who we were           Fatal, once most of the others say so,
                                                             unless we wait to be seated

Why the incarnation matters: a node that lost its disk would vote again in a term in which it
has voted, and acknowledge a log that it no longer has (P20). So a directory that is not the
one that was seated takes part in nothing, until the old one was removed and it is seated anew
(`trimaran repair`).

Why a roster travels with each link, and over all of them when it is committed: a newcomer learns
whom else it may be called by, a member that was removed while it was down learns that it was, and
one that is cut off from the leader learns who else may lead.

What of a roster can be checked: the state never gets past a committed roster that members.json
does not hold (node.membership). So one that is newer than ours, and stands where our own state has
long been, was never committed: a lie, or another cluster's. Whatever is ahead of us is believed, as
the log is that a leader sends.

Does not do: authenticate (node.links has done that), decide who is a member.

Proved by: tests/node/test_introductions.py, tests/node/test_simulation_members.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node import wire
from node.errors import Fatal
from node.links import Links
from node.logs import EventLog
from node.membership import Membership
from node.roster import REMOVED, Roster

__all__ = ["Introductions"]

_KINDS: Final = frozenset((wire.INCARNATION, wire.ROSTER, wire.STRANGER))


class Introductions:
    """The door that each peer's messages come through.

    Args:
        admitted: told of a peer that has shown who it is: its link is of use from now on.
        receive: takes the messages of admitted peers.
        settled_index: all that is in our state, at least, was committed.
    """

    def __init__(
        self,
        membership: Membership,
        links: Links,
        *,
        admitted: Callable[[str], None],
        receive: Callable[[str, wire.Message], None],
        log: EventLog,
        settled_index: Callable[[], int] = lambda: 0,
    ) -> None:
        self._membership = membership
        self._links = links
        self._tell_admitted = admitted
        self._receive = receive
        self._settled_index = settled_index
        self._log = log
        self._admitted: set[str] = set()
        self._early: dict[str, wire.Message] = {}
        """The newest roster of a peer that is not admitted yet, since its incarnation has still to
        be written down. It must not be lost: a snapshot that follows relies on it."""
        self._announced_index = max(membership.committed.index, 0)
        self._complaints: set[str] = set()
        self._strangers: set[str] = set()
        """Who says that we are another than it knows."""

    def link_up(self, peer_id: str) -> None:
        """A link opened: say who we are."""
        self._links.send(peer_id, wire.encode(wire.INCARNATION, self._membership.incarnation))
        self.send_roster(peer_id)

    def link_down(self, peer_id: str) -> None:
        """A link closed: whoever opens the next one says anew who it is."""
        self._admitted.discard(peer_id)
        self._early.pop(peer_id, None)
        self._membership.link_lost(peer_id)

    def send_roster(self, peer_id: str) -> None:
        """Name the committed roster. A newcomer knows of none."""
        committed = self._membership.committed
        if committed.index >= 0:
            frame = wire.encode(wire.ROSTER, committed.index, committed.encode())
            self._links.send(peer_id, frame)

    def on_members(self) -> None:
        """The roster in force is another one: judge everybody anew, and pass on what is committed:
        who is cut off from the leader may be linked with us, and has to find the new members."""
        is_news = self._membership.committed.index > self._announced_index
        self._announced_index = max(self._membership.committed.index, 0)
        for peer_id in list(self._links.members):
            if self._links.is_up(peer_id):
                self._judge(peer_id)
                if is_news:
                    self.send_roster(peer_id)

    def on_message(self, peer_id: str, message: wire.Message) -> None:
        """A checked message of a peer.

        Raises:
            Fatal: we are not the node that the cluster knows.
            WireError: a roster that cannot be true.
        """
        kind = message[0]
        if kind not in _KINDS:
            if peer_id in self._admitted:
                self._receive(peer_id, message)
                if kind == wire.PRE_VOTE:
                    self._answer_removed(peer_id)
        elif kind == wire.INCARNATION:
            self._membership.introduced(peer_id, message[1])
            self._judge(peer_id)
        elif kind == wire.STRANGER:
            self._on_stranger(peer_id, *message[1:])
        elif peer_id in self._admitted:
            self._on_roster(message)
        elif self._membership.is_binding(peer_id):
            self._early[peer_id] = message

    def _on_roster(self, message: wire.Message) -> None:
        known_index = max(0, self._membership.committed.index)  # a founding one is at 0
        if known_index < message[1] <= self._settled_index():
            raise wire.WireError(f"names a roster at {message[1]}, where none was committed")
        self._membership.adopt(Roster.decode(message[2], message[1]))

    def _judge(self, peer_id: str) -> None:
        membership = self._membership
        known = membership.knows(peer_id)
        was_admitted = peer_id in self._admitted  # NB: behind that; it may have been judged anew
        if known:
            self._admitted.add(peer_id)
            if not was_admitted:
                self._tell_admitted(peer_id)
                early = self._early.pop(peer_id, None)
                if early is not None:
                    self._adopt_early(peer_id, early)
            return
        self._admitted.discard(peer_id)
        if membership.is_binding(peer_id):
            return  # seen for the first time: judged again once that is on the disk
        expected = membership.incarnation_of(peer_id)
        if expected and membership.is_introduced(peer_id):
            self._complain(peer_id, f"{peer_id} runs on another data directory than {expected}")
            index = max(membership.committed.index, 0)
            self._links.send(peer_id, wire.encode(wire.STRANGER, index, expected))

    def _adopt_early(self, peer_id: str, message: wire.Message) -> None:
        try:
            self._on_roster(message)
        except wire.WireError as error:  # its link cannot be reached from here
            self._complain(peer_id, str(error))

    def _answer_removed(self, peer_id: str) -> None:
        seat = self._membership.committed.seat(peer_id)
        if seat is not None and seat.role == REMOVED:
            self.send_roster(peer_id)

    def _on_stranger(self, peer_id: str, index: int, expected: str) -> None:
        membership = self._membership
        seat = membership.current.seat(membership.node_id)
        reason = (
            f"the cluster knows {membership.node_id} by the data directory {expected}, this is "
            f"{membership.incarnation}: it was wiped or restored, and may have forgotten a vote; "
            f"`trimaran repair` seats it anew"
        )
        if seat is None or seat.role == REMOVED:
            self._complain(peer_id, reason)
        elif index >= seat.since:  # otherwise it has not heard yet that we were seated anew
            # NB: no single peer's word stops a node; whoever says so does not count us anyway.
            self._strangers.add(peer_id)
            others = membership.current.voters - {membership.node_id}
            if 2 * len(self._strangers & others) > len(others):
                raise Fatal(reason)
            self._complain(peer_id, reason)

    def _complain(self, peer_id: str, reason: str) -> None:
        if reason not in self._complaints and len(self._complaints) < 100:
            self._complaints.add(reason)
            self._log.warning("a stranger", peer=peer_id, reason=reason)
