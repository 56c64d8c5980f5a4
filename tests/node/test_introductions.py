"""Who may speak: a peer shows its directory and the members it knows before anything counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node import wire
from node.errors import Fatal
from node.introductions import Introductions
from node.logs import EventLog
from node.membership import Membership
from node.roster import Roster
from tests.support.crash import MemoryDisk
from tests.support.fake_service import members
from tests.support.fence import FakeLinks

FOUNDING = Roster.founded_by(members(3))
ACK = [wire.ACK, 1, 2, False, True]


class Room:
    """n1, linked with n2 and n3."""

    def __init__(self, founding: Roster = FOUNDING) -> None:
        self.links = FakeLinks("n2", "n3")
        self.links.members = {each.id: each for each in members(5)}  # type: ignore[attr-defined]
        self.admitted: list[str] = []
        self.settled_index = 0
        self.received: list[tuple[str, wire.Message]] = []
        disk = MemoryDisk()
        disk.make_dir(Path("/data"))
        self.membership = Membership(
            "n1",
            "aa",
            founding,
            path=Path("/data/members.json"),
            disk=disk,
            term_at=lambda index: None,
            on_change=lambda: self.door.on_members(),
            on_settled=lambda: None,
            on_removed=lambda reason: None,
        )
        self.door = Introductions(
            self.membership,
            self.links,  # type: ignore[arg-type]
            admitted=self.admitted.append,
            receive=lambda peer_id, message: self.received.append((peer_id, message)),
            log=EventLog("n1"),
            settled_index=lambda: self.settled_index,
        )
        self.saves: list[tuple[Any, Any]] = []

    def hear(self, peer_id: str, *message: Any) -> None:
        frame = wire.encode(*message)
        self.door.on_message(peer_id, wire.decode(frame[wire.LENGTH.size :]))


def test_both_say_first_who_they_are_and_whom_they_know() -> None:
    room = Room()
    room.door.link_up("n2")
    assert room.links.sent == [
        ("n2", [wire.INCARNATION, "aa"]),
        ("n2", [wire.ROSTER, 0, FOUNDING.encode()]),
    ]


def test_a_newcomer_knows_of_no_roster() -> None:
    room = Room(Roster.founded_by(members(3)[1:], index=-1))
    room.door.link_up("n2")
    assert [message[0] for _, message in room.links.sent] == [wire.INCARNATION]


def test_nothing_counts_before_the_introduction_and_everything_after_it() -> None:
    room = Room()
    room.hear("n2", *ACK)
    assert room.received == room.admitted == []
    room.hear("n2", wire.INCARNATION, "bb")
    room.hear("n2", *ACK)
    assert room.admitted == ["n2"]
    assert room.received == [("n2", ACK)]
    room.door.link_down("n2")
    room.hear("n2", *ACK)
    assert len(room.received) == 1


def test_a_wiped_peer_is_told_that_it_is_a_stranger_and_none_of_its_messages_counts() -> None:
    room = Room()
    room.hear("n2", wire.INCARNATION, "bb")
    room.door.link_down("n2")
    room.hear("n2", wire.INCARNATION, "cc")
    assert room.links.sent[-1] == ("n2", [wire.STRANGER, 0, "bb"])
    room.hear("n2", *ACK)
    room.hear("n2", wire.ROSTER, 9, FOUNDING.removing("n3", 9).encode())
    assert room.received == []
    assert room.membership.current == FOUNDING


def test_it_is_admitted_once_it_is_seated_anew_on_the_link_that_it_has() -> None:
    room = Room()
    room.hear("n2", wire.INCARNATION, "bb")
    room.door.link_down("n2")
    room.hear("n2", wire.INCARNATION, "cc")
    roster = FOUNDING.removing("n2", 5).adding(members(3)[1], 6)
    room.hear("n3", wire.INCARNATION, "dd")
    room.hear("n3", wire.ROSTER, 6, roster.encode())
    room.hear("n2", *ACK)
    assert room.received == [("n2", ACK)]
    assert room.admitted == ["n2", "n3", "n2"]


def test_a_node_that_most_others_call_a_stranger_stops() -> None:
    room = Room()
    room.hear("n2", wire.STRANGER, 0, "ee")
    room.hear("n2", wire.STRANGER, 0, "ee")
    with pytest.raises(Fatal, match=r"the cluster knows n1 by .* ee, this is aa: it was wiped"):
        room.hear("n3", wire.STRANGER, 0, "ee")


def test_but_not_by_who_has_not_heard_that_it_was_seated_anew() -> None:
    room = Room()
    room.membership.adopt(FOUNDING.removing("n1", 5).adding(members(1)[0], 8))
    for peer_id in ("n2", "n3"):
        room.hear(peer_id, wire.STRANGER, 7, "ee")
    room.hear("n2", wire.STRANGER, 8, "ee")
    with pytest.raises(Fatal):
        room.hear("n3", wire.STRANGER, 8, "ee")


def test_nor_while_it_waits_to_be_seated() -> None:
    room = Room(Roster.founded_by(members(3)[1:], index=-1))
    for peer_id in ("n2", "n3"):
        room.hear(peer_id, wire.STRANGER, 0, "ee")


def test_a_newer_roster_is_adopted_from_whoever_names_it() -> None:
    room = Room()
    roster = FOUNDING.adding(members(4)[3], 9)
    room.hear("n2", wire.INCARNATION, "bb")
    room.hear("n2", wire.ROSTER, 9, roster.encode())
    assert room.membership.current == roster


def test_a_roster_where_our_state_knows_of_none_is_a_lie() -> None:
    room = Room()
    room.hear("n2", wire.INCARNATION, "bb")
    room.settled_index = 9
    forged = FOUNDING.adding(members(4)[3], 9)
    with pytest.raises(wire.WireError, match="where none was committed"):
        room.hear("n2", wire.ROSTER, 9, forged.encode())
    assert room.membership.current is FOUNDING
    room.hear("n2", wire.ROSTER, 0, FOUNDING.encode())  # an old one is no lie
    newcomer = Room(Roster.founded_by(members(3), index=-1))
    newcomer.hear("n2", wire.INCARNATION, "bb")
    newcomer.settled_index = 9
    newcomer.hear("n2", wire.ROSTER, 0, FOUNDING.encode())
    assert newcomer.membership.current.index == 0
    room.hear("n2", wire.ROSTER, 10, FOUNDING.adding(members(4)[3], 10).encode())
    assert room.membership.current.index == 10


def test_a_roster_that_comes_before_its_peer_is_written_down_is_not_lost() -> None:
    """A snapshot may follow it that relies on it."""
    room = Room()
    room.membership._writer._do = lambda *asked: room.saves.append(asked)
    room.membership._writer._on_saved = room.door.on_members
    room.hear("n2", wire.INCARNATION, "bb")
    room.hear("n2", wire.ROSTER, 7, FOUNDING.adding(members(4)[3], 7).encode())
    room.hear("n2", *ACK)
    assert (room.admitted, room.received) == ([], [])
    assert room.membership.current is FOUNDING
    assert [message for _, message in room.links.sent if message[0] == wire.STRANGER] == []
    work, done = room.saves.pop()
    work()
    done(None)
    assert room.admitted == ["n2"]
    assert room.membership.current.learners == {"n4"}


def test_a_removed_peer_that_asks_for_votes_is_told_the_roster() -> None:
    room = Room()
    room.hear("n3", wire.INCARNATION, "cc")
    removed = FOUNDING.removing("n3", 5)
    room.membership.adopt(removed)
    room.links.sent.clear()
    room.hear("n3", wire.PRE_VOTE, 9, 1, 0)
    assert ("n3", [wire.ROSTER, 5, removed.encode()]) in room.links.sent
