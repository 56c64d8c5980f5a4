"""Handing leadership over: writers wait for it, nobody is left waiting.

Method: the replica is a few plain values; time is made by hand.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from node.errors import Fatal, Rejected, Unavailable
from node.transfer import Transfer
from tests.support.turns import ManualClock, Waiter

GIVE_UP_S = 1.2


class Replica:
    """n1 of three, the leader unless told otherwise."""

    def __init__(self, leader: str | None = "n1") -> None:
        self.node_id = "n1"
        self.peer_ids = ["n2", "n3"]
        self.leader = leader
        self.up = ["n2", "n3"]
        self.acked = {"n2": 10, "n3": 10}
        self.journal = SimpleNamespace(last_index=10)
        self.transport = SimpleNamespace(leading=self)
        self.holding = False
        self.asked: list[str] = []
        """Who was told to stand at once."""
        self.clock = ManualClock()
        raft: Any = self
        self.transfer = Transfer(raft, monotonic=self.clock.monotonic, give_up_s=GIVE_UP_S)

    def is_leader(self) -> bool:
        return self.leader == "n1"

    def leader_id(self) -> str | None:
        return self.leader

    def peers_up(self) -> list[str]:
        return self.up

    def acked_index(self, peer_id: str) -> int:
        return self.acked[peer_id]

    def transfer_to(self, peer_id: str) -> None:
        self.asked.append(peer_id)

    # What tests do with it.

    def begin(self, target: str | None = None) -> Waiter:
        waiter = Waiter()
        self.transfer.begin(target, waiter)
        return waiter

    def change(self, leader: str | None) -> None:
        self.leader = leader
        self.transfer.on_change()

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.transfer.tick()


def test_the_target_is_asked_once_it_has_everything_and_writes_wait_meanwhile() -> None:
    replica = Replica()
    replica.journal.last_index = 12
    waiter = replica.begin("n3")
    assert replica.holding
    for replica.acked["n3"] in (10, 11):
        replica.transfer.progress()
        assert replica.asked == []
    replica.acked["n3"] = 12
    replica.transfer.progress()
    replica.transfer.progress()
    replica.transfer.tick()
    assert replica.asked == ["n3"]  # once
    assert replica.holding
    replica.change(None)
    assert waiter.told == []
    replica.change("n3")
    assert waiter.results == [b"n3"]
    assert not replica.holding


def test_without_a_wish_the_peer_that_has_acknowledged_most_takes_over() -> None:
    replica = Replica()
    replica.journal.last_index = 12
    replica.acked = {"n2": 12, "n3": 11}
    replica.begin()
    assert replica.asked == ["n2"]
    replica = Replica()
    replica.up = ["n3"]  # whoever is not there cannot
    replica.begin()
    assert replica.asked == ["n3"]


def test_a_target_that_does_not_take_over_in_time_is_given_up() -> None:
    for has_everything in (True, False):
        replica = Replica()
        replica.journal.last_index = 10 if has_everything else 11
        waiter = replica.begin("n2")
        replica.pass_time(GIVE_UP_S - 0.1)
        assert waiter.told == []
        assert replica.holding
        replica.pass_time(0.2)
        assert isinstance(waiter.error, Unavailable)
        assert "n2 did not take over in time" in str(waiter.error)
        assert not replica.holding


def test_after_one_was_given_up_another_one_may_begin() -> None:
    replica = Replica()
    replica.begin("n2")
    replica.pass_time(GIVE_UP_S + 0.1)
    waiter = replica.begin("n3")
    assert replica.asked == ["n2", "n3"]
    replica.change("n3")
    assert waiter.results == [b"n3"]


def test_a_second_hand_over_meanwhile_is_answered_busy() -> None:
    replica = Replica()
    first = replica.begin("n2")
    second = replica.begin("n3")
    assert isinstance(second.error, Unavailable)
    assert second.error.code == "BUSY"
    assert replica.asked == ["n2"]
    replica.change("n2")
    assert first.results == [b"n2"]


def test_whoever_leads_afterwards_is_named_even_if_it_is_not_the_target() -> None:
    replica = Replica()
    waiter = replica.begin("n2")
    replica.change("n3")
    assert waiter.results == [b"n3"]


def test_to_itself_is_done_at_once() -> None:
    replica = Replica()
    assert replica.begin("n1").results == [b"n1"]
    assert not replica.holding


@pytest.mark.parametrize(
    ("leader", "target", "up", "error", "text"),
    [
        pytest.param("n2", None, ["n2"], Rejected, "n1 is not the leader (n2 is)", id="follower"),
        pytest.param("n2", "n1", ["n2"], Rejected, "n1 is not the leader (n2 is)", id="to us"),
        pytest.param(None, None, [], Rejected, "n1 is not the leader (nobody is)", id="nobody"),
        pytest.param("n1", "n9", ["n2"], Rejected, "no member 'n9'", id="no member"),
        pytest.param("n1", "n3", ["n2"], Unavailable, "n3 is not connected", id="not there"),
        pytest.param("n1", None, [], Unavailable, "no peer is there", id="alone"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once_and_nothing_waits(
    leader: str | None, target: str | None, up: list[str], error: type[Exception], text: str
) -> None:
    replica = Replica(leader)
    replica.up = up
    waiter = replica.begin(target)
    assert type(waiter.error) is error
    assert str(waiter.error) == text
    assert not replica.holding
    assert replica.asked == []


def test_at_the_end_the_waiter_is_told_and_whoever_comes_later_too() -> None:
    replica = Replica()
    waiter = replica.begin("n2")
    error = Fatal("over")
    replica.transfer.close(error)
    assert waiter.error is error
    assert not replica.holding
    assert replica.begin("n2").error is error
