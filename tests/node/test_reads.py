"""Reads: a linearizable read is served after a majority has spoken, or not at all.

Method: the replica is a few plain values, peers are frames in a list, time and loop turns are
made by hand; so each test is a little history, told step by step.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from node import wire
from node.errors import Fatal, Unavailable
from node.logs import EventLog
from node.reads import AGAIN_S, LEASE_FRACTION, ROUNDS_MAX, Level, Reads
from tests.support.quorum import FixedQuorum
from tests.support.turns import ManualClock, Turns, Waiter

LEASE_S = 0.3
PARK_S = 2.5
LINEARIZABLE, LEASE, EVENTUAL = Level.LINEARIZABLE, Level.LEASE, Level.EVENTUAL


class Replica:
    """n1 of three, or more: what reads ask of it, and what they send."""

    def __init__(self, members: int = 3, leader: str | None = "n1") -> None:
        self.current_term = 5
        self.leader = leader
        self.committed: int | None = 10
        self.applied = 10
        self.up = [f"n{number}" for number in range(2, members + 1)]
        self.sent: list[tuple[str, list[Any]]] = []
        self.awaited: list[tuple[str, int]] = []
        self.clock = ManualClock()
        self.turns = Turns()
        self.reads = Reads(
            self,
            quorum=FixedQuorum(members),
            call_soon=self.turns.soon,
            monotonic=self.clock.monotonic,
            lease_s=LEASE_S,
            park_s=PARK_S,
            log=EventLog("n1"),
        )

    def term(self) -> int:
        return self.current_term

    def is_leader(self) -> bool:
        return self.leader == "n1"

    def leader_id(self) -> str | None:
        return self.leader

    def committed_in_term(self) -> int | None:
        return self.committed

    def applied_index(self) -> int:
        return self.applied

    def peers_up(self) -> list[str]:
        return self.up

    def send(self, peer_id: str, frame: bytes) -> bool:
        self.sent.append((peer_id, wire.decode(frame[wire.LENGTH.size :])))
        return peer_id in self.up

    def await_commit(self, peer_id: str, index: int) -> None:
        self.awaited.append((peer_id, index))

    # What tests do with it.

    def take(self, kind: int) -> list[tuple[str, list[Any]]]:
        """Frames of a kind that were sent since the last time: (peer, fields)."""
        taken = [(peer, message[1:]) for peer, message in self.sent if message[0] == kind]
        self.sent = [each for each in self.sent if each[1][0] != kind]
        return taken

    def read(self, level: Level = LINEARIZABLE) -> Waiter:
        waiter = Waiter()
        self.reads.read(level, waiter)
        return waiter

    def round_number(self) -> int:
        """The number of the newest probe."""
        number: int = self.take(wire.READ_PROBE)[-1][1][1]
        return number

    def follow(self, leader: str | None, term: int) -> None:
        """Somebody else leads, or nobody."""
        self.leader, self.current_term = leader, term
        self.reads.on_change()
        self.turns.run()

    def pass_time(self, seconds: float) -> None:
        """Ticks, 10 ms apart."""
        for _ in range(round(seconds / 0.01)):
            self.clock.advance(0.01)
            self.reads.tick()
            self.turns.run()


# -- rounds -----------------------------------------------------------------------------------


def test_a_read_is_served_when_a_majority_has_echoed_and_not_before() -> None:
    replica = Replica(members=5)
    waiter = replica.read()
    replica.turns.run()
    probes = replica.take(wire.READ_PROBE)
    assert [peer for peer, _ in probes] == ["n2", "n3", "n4", "n5"]
    assert {tuple(fields) for _, fields in probes} == {(5, 1)}
    replica.reads.on_echo("n2", 5, 1)
    replica.reads.on_echo("n2", 5, 1)  # one voice, however often it is heard
    assert not waiter.is_ready
    replica.reads.on_echo("n3", 5, 1)
    assert waiter.is_ready


def test_a_minority_never_serves_a_read() -> None:
    replica = Replica(members=5)
    replica.up = ["n2"]
    waiter = replica.read()
    for _ in range(round((PARK_S - 0.05) / 0.01)):
        replica.pass_time(0.01)
        for _, (term, number) in replica.take(wire.READ_PROBE):
            replica.reads.on_echo("n2", term, number)
        assert waiter.told == []
    replica.pass_time(0.1)
    assert isinstance(waiter.error, Unavailable)


def test_alone_in_a_cluster_of_one_a_read_needs_nobody() -> None:
    replica = Replica(members=1)
    waiter = replica.read()
    replica.turns.run()
    assert waiter.is_ready


def test_all_reads_of_one_turn_share_a_round() -> None:
    replica = Replica()
    waiters = [replica.read() for _ in range(100)]
    replica.turns.run()
    assert len(replica.take(wire.READ_PROBE)) == 2
    replica.reads.on_echo("n3", 5, 1)
    assert all(waiter.is_ready for waiter in waiters)


def test_a_round_confirms_only_reads_that_came_before_it_began() -> None:
    replica = Replica()
    early = replica.read()
    replica.turns.run()
    late = replica.read()
    replica.reads.on_echo("n2", 5, 1)
    assert early.is_ready
    assert not late.is_ready
    replica.turns.run()
    replica.reads.on_echo("n2", 5, 2)
    assert late.is_ready


def test_no_more_than_a_few_rounds_are_under_way_and_the_rest_shares_the_next() -> None:
    replica = Replica()
    waiters = []
    for _ in range(20):
        waiters.append(replica.read())
        replica.turns.run()
    assert {fields[1] for _, fields in replica.take(wire.READ_PROBE)} == set(
        range(1, ROUNDS_MAX + 1)
    )
    replica.reads.on_echo("n2", 5, 1)
    replica.turns.run()
    assert [waiter.is_ready for waiter in waiters] == [True] + 19 * [False]
    assert replica.round_number() == ROUNDS_MAX + 1
    replica.reads.on_echo("n2", 5, ROUNDS_MAX + 1)
    assert all(waiter.is_ready for waiter in waiters)


def test_an_echo_of_a_later_round_counts_for_an_earlier_one() -> None:
    replica = Replica()
    first = replica.read()
    replica.turns.run()
    second = replica.read()
    replica.turns.run()
    replica.reads.on_echo("n2", 5, 2)
    assert first.is_ready
    assert second.is_ready


def test_an_echo_of_an_earlier_round_does_not_count_for_a_later_one() -> None:
    replica = Replica()
    replica.read()
    replica.turns.run()
    second = replica.read()
    replica.turns.run()
    replica.reads.on_echo("n2", 5, 1)
    assert not second.is_ready


@pytest.mark.parametrize("term", [4, 6])
def test_an_echo_of_another_term_counts_for_nothing(term: int) -> None:
    replica = Replica()
    waiter = replica.read()
    replica.turns.run()
    replica.reads.on_echo("n2", term, 1)
    replica.reads.on_echo("n3", term, 1)
    assert not waiter.is_ready


def test_echoes_that_come_after_the_term_ended_confirm_nothing() -> None:
    """The echo is of our term, but we know of a newer one by now: its leader may have written."""
    replica = Replica()
    waiter = replica.read()
    replica.turns.run()
    replica.current_term = 6
    replica.reads.on_echo("n2", 5, 1)
    replica.reads.on_echo("n3", 5, 1)
    assert not waiter.is_ready


def test_nothing_is_served_before_an_entry_of_the_term_is_committed() -> None:
    replica = Replica()
    replica.committed = None
    waiter = replica.read()
    replica.turns.run()
    assert replica.take(wire.READ_PROBE) == []
    replica.committed = 11
    replica.reads.advance()
    replica.turns.run()
    replica.reads.on_echo("n2", 5, replica.round_number())
    assert not waiter.is_ready  # 11 is committed, but not applied here
    replica.applied = 11
    replica.reads.advance()
    assert waiter.is_ready


def test_a_read_waits_until_what_was_committed_at_its_beginning_is_applied() -> None:
    replica = Replica()
    replica.committed = 12
    waiter = replica.read()
    replica.turns.run()
    replica.committed = 15  # later writes do not hold it up
    replica.reads.on_echo("n2", 5, 1)
    for replica.applied in (10, 11):
        replica.reads.advance()
        assert not waiter.is_ready
    replica.applied = 12
    replica.reads.advance()
    assert waiter.is_ready


def test_probes_are_sent_again_but_not_with_every_tick() -> None:
    """A peer that did not follow yet, or whose link was new, may answer the next one."""
    replica = Replica()
    waiter = replica.read()
    replica.turns.run()
    replica.take(wire.READ_PROBE)
    replica.pass_time(1.0)
    probes = replica.take(wire.READ_PROBE)
    assert {tuple(fields) for _, fields in probes} == {(5, 1)}
    assert 2 * 8 <= len(probes) <= 2 * 10
    replica.reads.on_echo("n3", 5, 1)
    assert waiter.is_ready


def asked(replica: Replica) -> list[str]:
    """Whom the probes since the last time went to."""
    return [peer_id for peer_id, _ in replica.take(wire.READ_PROBE)]


def test_a_round_asks_those_who_answered_the_last_one() -> None:
    replica = Replica(members=5)
    replica.read()
    replica.turns.run()
    assert asked(replica) == ["n2", "n3", "n4", "n5"]
    replica.reads.on_echo("n3", 5, 1)
    replica.reads.on_echo("n5", 5, 1)
    waiter = replica.read()
    replica.turns.run()
    assert asked(replica) == ["n3", "n5"]
    replica.reads.on_echo("n3", 5, 2)
    assert not waiter.is_ready
    replica.reads.on_echo("n5", 5, 2)
    assert waiter.is_ready


def test_a_round_that_some_do_not_answer_asks_everybody_a_tick_later() -> None:
    replica = Replica()
    replica.read()
    replica.turns.run()
    replica.reads.on_echo("n2", 5, 1)
    replica.take(wire.READ_PROBE)
    waiter = replica.read()
    replica.turns.run()
    assert asked(replica) == ["n2"]  # which is paused now
    replica.pass_time(0.03)
    assert asked(replica) == ["n2", "n3"]
    replica.reads.on_echo("n3", 5, 2)
    assert waiter.is_ready
    replica.read()
    replica.turns.run()
    assert asked(replica) == ["n3"]


def test_a_round_asks_everybody_when_who_answered_is_not_linked_any_more() -> None:
    replica = Replica()
    replica.read()
    replica.turns.run()
    replica.reads.on_echo("n2", 5, 1)
    replica.take(wire.READ_PROBE)
    replica.up = ["n3"]
    replica.read()
    replica.turns.run()
    assert asked(replica) == ["n3"]


# -- changes ----------------------------------------------------------------------------------


def test_a_deposed_leader_asks_the_new_one_on_behalf_of_its_readers() -> None:
    replica = Replica()
    waiters = [replica.read(), replica.read()]
    replica.turns.run()
    replica.follow("n3", 6)
    assert replica.take(wire.READ_ASK) == [("n3", [1])]
    replica.reads.on_echo("n2", 5, 1)  # of the old round
    assert not waiters[0].is_ready
    replica.reads.on_grant("n3", 1, 10)
    assert all(waiter.is_ready for waiter in waiters)


def test_a_leader_that_is_elected_again_starts_its_rounds_over() -> None:
    replica = Replica()
    waiter = replica.read()
    replica.turns.run()
    replica.follow("n1", 7)
    replica.reads.on_echo("n2", 5, 1)
    replica.reads.on_echo("n2", 7, 1)
    assert not waiter.is_ready
    assert replica.round_number() == 2
    replica.reads.on_echo("n2", 7, 2)
    assert waiter.is_ready


def test_after_a_change_the_oldest_reads_still_stand_in_front() -> None:
    replica = Replica()
    order: list[str] = []

    class Named(Waiter):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def ready(self) -> None:
            order.append(self.name)

    for name in ("first", "second", "third"):  # two rounds, and one that waits for a place
        replica.reads.read(LINEARIZABLE, Named(name))
        replica.turns.run()
        replica.clock.advance(0.01)
    replica.follow("n1", 6)
    replica.reads.on_echo("n2", 6, replica.round_number())
    assert order == ["first", "second", "third"]


# -- followers --------------------------------------------------------------------------------


def test_a_follower_serves_when_the_leader_grants_and_it_has_applied_that_far() -> None:
    replica = Replica(leader="n2")
    waiters = [replica.read() for _ in range(3)]
    replica.turns.run()
    assert replica.take(wire.READ_ASK) == [("n2", [1])]
    assert replica.take(wire.READ_PROBE) == []
    replica.reads.on_grant("n2", 1, 12)
    assert not waiters[0].is_ready
    replica.applied = 12
    replica.reads.advance()
    assert all(waiter.is_ready for waiter in waiters)


def test_a_grant_of_somebody_else_or_of_another_ask_is_nothing() -> None:
    replica = Replica(leader="n2")
    waiter = replica.read()
    replica.turns.run()
    replica.reads.on_grant("n3", 1, 10)
    replica.reads.on_grant("n2", 7, 10)
    assert not waiter.is_ready
    replica.reads.on_grant("n2", 1, 10)
    replica.reads.on_grant("n2", 1, 10)
    assert waiter.is_ready


def test_a_refused_ask_is_asked_again_with_the_next_tick_not_at_once() -> None:
    """A leader that has stepped down refuses; until we know better we would ask it in a circle."""
    replica = Replica(leader="n2")
    waiter = replica.read()
    replica.turns.run()
    replica.reads.on_grant("n2", 1, 0)
    assert replica.turns.run() == 0
    replica.follow("n3", 6)
    assert replica.take(wire.READ_ASK) == [("n2", [1]), ("n3", [2])]
    replica.reads.on_grant("n3", 2, 10)
    assert waiter.is_ready


def test_an_ask_that_was_lost_with_its_link_is_sent_again() -> None:
    replica = Replica(leader="n2")
    waiter = replica.read()
    replica.turns.run()
    replica.take(wire.READ_ASK)
    replica.pass_time(AGAIN_S + 0.02)
    assert replica.take(wire.READ_ASK) == [("n2", [1])]
    replica.reads.on_grant("n2", 1, 10)
    assert waiter.is_ready


def test_a_leader_grants_an_ask_after_a_round_with_the_index_of_its_beginning() -> None:
    replica = Replica()
    replica.committed = 12
    replica.reads.on_ask("n3", 77)
    replica.reads.on_ask("n3", 77)  # sent again by its follower: one grant is enough
    replica.turns.run()
    assert replica.take(wire.READ_GRANT) == []
    replica.committed = 13
    replica.reads.on_echo("n2", 5, replica.round_number())
    assert replica.take(wire.READ_GRANT) == [("n3", [77, 12])]


def test_a_leader_without_a_committed_entry_of_its_term_grants_nothing() -> None:
    replica = Replica()
    replica.committed = None
    replica.reads.on_ask("n3", 77)
    replica.turns.run()
    assert replica.sent == []


def test_who_does_not_lead_refuses_an_ask() -> None:
    for leader in (None, "n2"):
        replica = Replica(leader=leader)
        replica.reads.on_ask("n3", 77)
        assert replica.take(wire.READ_GRANT) == [("n3", [77, 0])]


def test_a_leader_that_steps_down_refuses_the_asks_that_wait() -> None:
    replica = Replica()
    replica.reads.on_ask("n3", 77)
    replica.turns.run()
    replica.follow("n2", 6)
    assert replica.take(wire.READ_GRANT) == [("n3", [77, 0])]
    assert replica.take(wire.READ_ASK) == []  # nobody of our own waits


# -- time -------------------------------------------------------------------------------------


def test_without_a_leader_a_read_waits_for_one() -> None:
    replica = Replica(leader=None)
    waiter = replica.read()
    replica.pass_time(PARK_S - 0.1)
    assert waiter.told == []
    replica.follow("n2", 6)
    replica.reads.on_grant("n2", 1, 10)
    assert waiter.is_ready


def test_each_read_waits_its_own_time_and_then_fails_as_unavailable() -> None:
    replica = Replica(leader=None)
    first = replica.read()
    replica.pass_time(1.0)
    second = replica.read()
    replica.pass_time(PARK_S - 1.0 + 0.05)
    assert isinstance(first.error, Unavailable)
    assert second.error is None
    replica.pass_time(0.9)
    assert second.error is None
    replica.pass_time(0.1)
    assert isinstance(second.error, Unavailable)


def test_a_read_that_comes_when_others_have_failed_waits_as_long_as_they_did() -> None:
    replica = Replica(leader=None)
    replica.read()
    replica.pass_time(2 * PARK_S)
    late = replica.read()
    replica.pass_time(PARK_S - 0.1)
    assert late.error is None
    replica.follow("n1", 6)
    replica.reads.on_echo("n2", 6, replica.round_number())
    assert late.is_ready


@pytest.mark.parametrize("leader", ["n1", "n2"])
def test_a_read_that_nobody_confirms_fails_wherever_it_waits(leader: str) -> None:
    replica = Replica(leader=leader)
    waiter = replica.read()
    replica.pass_time(PARK_S + 0.05)
    assert isinstance(waiter.error, Unavailable)


def test_a_granted_read_that_is_never_applied_here_fails() -> None:
    replica = Replica(leader="n2")
    waiter = replica.read()
    replica.turns.run()
    replica.reads.on_grant("n2", 1, 99)
    replica.pass_time(PARK_S + 0.05)
    assert isinstance(waiter.error, Unavailable)
    replica.applied = 99
    replica.reads.advance()
    assert isinstance(waiter.error, Unavailable)  # and is not told anything else


def test_closing_fails_everything_that_waits_once() -> None:
    leader, follower, lost = Replica(), Replica(leader="n2"), Replica(leader=None)
    unapplied = Replica(leader="n2")
    waiters = [leader.read(), follower.read(), lost.read(), unapplied.read()]
    for replica in (leader, follower, lost, unapplied):
        replica.turns.run()
    unapplied.reads.on_grant("n2", 1, 99)
    error = Fatal("over")
    for replica in (leader, follower, lost, unapplied):
        replica.reads.close(error)
        replica.turns.run()
    leader.reads.on_echo("n2", 5, 1)
    follower.reads.on_grant("n2", 1, 10)
    assert [waiter.error for waiter in waiters] == 4 * [error]


# -- levels -----------------------------------------------------------------------------------


def test_an_eventual_read_is_served_at_once_whoever_leads() -> None:
    for leader in (None, "n1", "n2"):
        replica = Replica(leader=leader)
        assert replica.read(EVENTUAL).is_ready
        assert replica.turns.run() == 0


def leading_with_lease() -> Replica:
    """A leader whose round, just over, was echoed: the lease began when its probe left."""
    replica = Replica()
    replica.read(LEASE)
    replica.turns.run()
    replica.reads.on_echo("n2", 5, replica.round_number())
    return replica


def test_within_the_lease_a_lease_read_is_served_at_once() -> None:
    replica = leading_with_lease()
    assert replica.read(LEASE).is_ready
    assert not replica.read(LINEARIZABLE).is_ready


def test_a_lease_ends_before_the_shortest_election_timeout_after_its_probe() -> None:
    replica = leading_with_lease()
    replica.clock.advance(LEASE_S * LEASE_FRACTION - 0.001)
    assert replica.read(LEASE).is_ready
    replica.clock.advance(0.002)
    assert not replica.read(LEASE).is_ready
    assert LEASE_FRACTION < 1


def test_a_lease_counts_from_the_probe_not_from_the_echo() -> None:
    replica = Replica()
    replica.read(LEASE)
    replica.turns.run()
    replica.clock.advance(LEASE_S)  # the echo took long
    replica.reads.tick()  # and the probe was sent again meanwhile
    replica.reads.on_echo("n2", 5, replica.round_number())
    assert not replica.read(LEASE).is_ready


def test_nobody_begins_with_a_lease() -> None:
    for replica in (Replica(), Replica(leader="n2"), Replica(leader=None)):
        assert not replica.read(LEASE).is_ready


def test_a_lease_is_of_one_term_and_of_the_leader() -> None:
    replica = leading_with_lease()
    replica.current_term = 6
    assert not replica.read(LEASE).is_ready
    replica = leading_with_lease()
    replica.leader = "n2"
    assert not replica.read(LEASE).is_ready


def test_a_lease_read_sees_all_that_is_committed() -> None:
    replica = leading_with_lease()
    replica.committed = 11
    assert not replica.read(LEASE).is_ready
    replica.applied = 11
    assert replica.read(LEASE).is_ready
    replica.committed = None
    assert not replica.read(LEASE).is_ready


def test_a_planned_transfer_ends_the_lease_for_the_rest_of_the_term() -> None:
    replica = leading_with_lease()
    replica.reads.end_lease()
    waiter = replica.read(LEASE)
    replica.turns.run()
    assert not waiter.is_ready
    replica.reads.on_echo("n2", 5, replica.round_number())
    assert waiter.is_ready  # as a linearizable read
    assert not replica.read(LEASE).is_ready
    replica.turns.run()
    replica.follow("n1", 6)
    replica.reads.on_echo("n2", 6, replica.round_number())
    assert replica.read(LEASE).is_ready


# -- a waiter that raises ---------------------------------------------------------------------


class Broken(Waiter):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.raised = error

    def ready(self) -> None:
        raise self.raised

    def fail(self, error: Exception) -> None:
        raise self.raised


def test_a_bug_in_one_answer_is_logged_and_the_others_are_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replica = Replica()
    replica.reads.read(LINEARIZABLE, Broken(ValueError("a bug")))
    waiter = replica.read()
    replica.turns.run()
    with caplog.at_level(logging.ERROR, "trimaran"):
        replica.reads.on_echo("n2", 5, 1)
    assert waiter.is_ready
    assert [record.message for record in caplog.records] == ["an answer failed"]
    replica.reads.read(LINEARIZABLE, Broken(ValueError("a bug")))
    waiter = replica.read()
    replica.pass_time(PARK_S + 0.05)
    assert isinstance(waiter.error, Unavailable)


def test_a_fatal_error_in_an_answer_goes_to_the_one_door() -> None:
    replica = Replica()
    replica.reads.read(LINEARIZABLE, Broken(Fatal("the state machine has failed")))
    replica.turns.run()
    with pytest.raises(Fatal, match="the state machine"):
        replica.reads.on_echo("n2", 5, 1)
