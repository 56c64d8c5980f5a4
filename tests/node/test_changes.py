"""What the leader decides about the roster: when a learner votes, what is refused, who is told."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node import wire
from node.changes import GIVE_UP_S, PARTING_S, Changes
from node.entry import KIND_CONFIG, Entry, wrap
from node.errors import OutcomeUnknown, Rejected, Unavailable
from node.logs import EventLog
from node.membership import Membership
from node.roster import Roster
from node.transfer import Transfer
from tests.support.crash import MemoryDisk
from tests.support.fake_service import members
from tests.support.turns import ManualClock, Waiter

FOUNDING = Roster.founded_by(members(3))
FOURTH, FIFTH = members(5)[3:]
ELECTION_S = 0.3


class Leader:
    """n1 leads n2 and n3; n4 and n5 wait. It is the Raft of its own Changes."""

    def __init__(self) -> None:
        self.node_id = "n1"
        self.leads = True
        self.holding = False
        self.committed: int | None = 10
        self.up = ["n2", "n3", "n4", "n5"]
        self.heard = {"n2", "n3"}
        self.acked: dict[str, int] = {}
        self.peer_ids = ["n2", "n3"]
        self.journal = SimpleNamespace(last_index=10)
        self.transport = SimpleNamespace(leading=self)
        self.sent: list[tuple[str, int]] = []
        self.order: list[tuple[str, frozenset[str]]] = []
        """("count", voters) and ("log", voters), as they came."""
        self.parted = 0
        self.handed_over: list[str] = []
        self.log: dict[int, int] = {}
        self.clock = ManualClock()
        disk = MemoryDisk()
        disk.make_dir(Path("/data"))
        self.membership = Membership(
            "n1",
            "aa",
            FOUNDING,
            path=Path("/data/members.json"),
            disk=disk,
            term_at=self.log.get,
            on_change=lambda: self.changes.settled(),
            on_settled=lambda: self.changes.settled(),
            on_removed=lambda reason: None,
        )
        raft: Any = self
        self.transfer = Transfer(raft, monotonic=self.clock.monotonic, give_up_s=1.0)
        self.changes = Changes(
            raft,
            self.membership,
            self.transfer,
            allows=lambda member: "not there" if member.client.port == 1 else None,
            on_parted=self._on_parted,
            election_timeout_s=ELECTION_S,
            monotonic=self.clock.monotonic,
            log=EventLog("n1"),
        )

    def _on_parted(self) -> None:
        self.parted += 1

    def is_leader(self) -> bool:
        return self.leads

    def leader_id(self) -> str | None:
        return "n1" if self.leads else "n2"

    def committed_in_term(self) -> int | None:
        return self.committed

    def peers_up(self) -> list[str]:
        return self.up

    def heard_within(self, seconds: float) -> set[str]:
        return self.heard

    def acked_index(self, peer_id: str) -> int:
        return self.acked.get(peer_id, 0)

    def send(self, peer_id: str, frame: bytes) -> bool:
        self.sent.append((peer_id, wire.decode(frame[wire.LENGTH.size :])[0]))
        return True

    def reconfigure(self, voters: Collection[str], learners: Collection[str]) -> None:
        self.order.append(("count", frozenset(voters)))

    def append_roster(self, roster: Roster) -> tuple[Entry, ...]:
        self.order.append(("log", roster.voters))
        self.journal.last_index += 1
        assert roster.index == self.journal.last_index
        self.log[roster.index] = 2
        return ((wrap(KIND_CONFIG, roster.encode()), roster.index, 2),)

    def transfer_to(self, peer_id: str) -> None:
        self.handed_over.append(peer_id)

    # What tests do with it.

    def commit(self) -> None:
        self.membership.settle(self.journal.last_index)

    def add(self, member: Any = FOURTH) -> Waiter:
        waiter = Waiter()
        self.changes.add(member, waiter)
        return waiter

    def remove(self, name: str) -> Waiter:
        waiter = Waiter()
        self.changes.remove(name, waiter)
        return waiter

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.changes.tick()


def test_who_asks_is_told_once_the_entry_is_committed() -> None:
    leader = Leader()
    waiter = leader.add()
    assert waiter.told == []
    assert leader.membership.current.learners == {"n4"}
    leader.commit()
    assert waiter.results == [b"11"]


@pytest.mark.parametrize(
    ("behind", "took_s", "votes"),
    [
        pytest.param(0, 0.2, True, id="caught up in time"),
        pytest.param(0, 0.5, False, id="a round that took too long"),
        pytest.param(1, 0.2, False, id="not caught up"),
    ],
)
def test_a_learner_votes_once_a_round_took_no_longer_than_an_election_timeout(
    behind: int, took_s: float, votes: bool
) -> None:
    leader = Leader()
    leader.add()
    leader.commit()
    leader.membership.introduced("n4", "dd")
    assert leader.membership.knows("n4")
    leader.pass_time(0.01)  # the round begins
    leader.acked["n4"] = leader.journal.last_index - behind
    leader.pass_time(took_s)
    assert ("n4" in leader.membership.current.voters) is votes
    if votes:
        seat = leader.membership.current.seat("n4")
        assert seat is not None
        assert seat.incarnation == "dd"  # from now on everybody knows


def test_a_learner_that_is_away_begins_anew() -> None:
    leader = Leader()
    leader.add()
    leader.commit()
    leader.membership.introduced("n4", "dd")
    assert leader.membership.knows("n4")
    leader.pass_time(0.01)
    leader.acked["n4"] = leader.journal.last_index
    leader.up.remove("n4")
    leader.pass_time(0.01)
    leader.up.append("n4")
    leader.pass_time(0.01)
    assert leader.membership.current.learners == {"n4"}
    leader.pass_time(0.01)
    assert "n4" in leader.membership.current.voters


def test_a_removed_member_is_let_go_of_before_its_entry_is_sent() -> None:
    leader = Leader()
    waiter = leader.remove("n3")
    assert leader.order == [("count", frozenset({"n1", "n2"})), ("log", frozenset({"n1", "n2"}))]
    assert leader.changes.parting == frozenset()
    leader.commit()
    assert waiter.results == [b"11"]
    assert leader.sent == [("n3", wire.ROSTER)]
    assert leader.changes.parting == {"n3"}  # its clients hear what became of their writes
    leader.pass_time(PARTING_S + 0.1)
    assert leader.changes.parting == frozenset()
    assert leader.parted == 1


def test_a_leader_hands_over_instead_of_removing_itself() -> None:
    leader = Leader()
    leader.acked = {"n2": 10, "n3": 9}
    waiter = leader.remove("n1")
    assert leader.handed_over == ["n2"]
    assert leader.membership.current == FOUNDING
    leader.leads = False
    leader.transfer.on_change()
    assert type(waiter.error) is Unavailable
    assert "ask the new leader" in str(waiter.error)


def test_one_change_at_a_time() -> None:
    leader = Leader()
    leader.add()
    second = leader.add(FIFTH)
    assert type(second.error) is Unavailable
    assert second.error.code == "BUSY"
    leader.commit()
    third = leader.add(FIFTH)
    assert third.told == []
    assert leader.membership.current.learners == {"n4", "n5"}


@pytest.mark.parametrize(
    ("state", "error", "text"),
    [
        pytest.param({"leads": False}, Rejected, "n1 is not the leader .n2 is", id="follower"),
        pytest.param({"holding": True}, Unavailable, "handed over", id="holding"),
        pytest.param({"committed": None}, Unavailable, "committed nothing in its term", id="new"),
        pytest.param({"heard": {"n3"}}, Rejected, "too few would be left", id="too few"),
    ],
)
def test_when_no_change_can_begin(state: dict[str, Any], error: type, text: str) -> None:
    leader = Leader()
    for name, value in state.items():
        setattr(leader, name, value)
    waiter = leader.remove("n3")
    assert type(waiter.error) is error
    assert text.replace(".", "(") in str(waiter.error)
    assert leader.order == []


def test_an_address_that_cannot_be_had_is_refused() -> None:
    leader = Leader()
    waiter = leader.add(members(4, base_port=-2)[3])
    assert type(waiter.error) is Rejected
    assert str(waiter.error) == "not there"


def test_who_loses_its_office_does_not_know_what_comes_of_it() -> None:
    leader = Leader()
    waiter = leader.add()
    leader.leads = False
    leader.changes.on_change()
    assert type(waiter.error) is OutcomeUnknown
    leader.commit()  # it came about after all: nobody waits any more


def test_nor_does_one_that_no_majority_answers() -> None:
    leader = Leader()
    waiter = leader.add()
    leader.pass_time(GIVE_UP_S + 0.1)
    assert type(waiter.error) is OutcomeUnknown
    assert not leader.membership.is_settled
    assert type(leader.add(FIFTH).error) is Unavailable


def test_a_node_that_stops_tells_who_waits() -> None:
    leader = Leader()
    waiter = leader.add()
    leader.changes.close(Unavailable("the node stops"))
    assert type(waiter.error) is OutcomeUnknown
    assert type(leader.add(FIFTH).error) is Unavailable
