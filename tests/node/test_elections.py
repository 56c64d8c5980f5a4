"""Elections rule by rule: the timer, pre-votes, stickiness, what a vote waits for, transfers.

Method: the room alone, with a stand-in for the replica, a clock that the test moves and timeouts
of exactly 0.3 s. Whole nodes are elected in tests/node/test_pitfalls_elections.py.
"""

from __future__ import annotations

import random

import pytest

from node import wire
from node.elections import Elections
from tests.support.fence import FakeElectorate, FakeJournal, FakeLinks, entry
from tests.support.quorum import FixedQuorum


class Room:
    """The elections of n1 among `count` members, of which `up` are linked."""

    def __init__(self, count: int = 3, up: tuple[str, ...] = ("n2", "n3")) -> None:
        self.now_s = 100.0
        self.links = FakeLinks(*up)
        self.journal = FakeJournal()
        self.replica = FakeElectorate(self.links)
        self.elections = Elections(
            self.replica,
            self.journal,  # type: ignore[arg-type]
            timeout_min_s=0.3,
            timeout_max_s=0.3,
            quorum=FixedQuorum(count),
            monotonic=lambda: self.now_s,
            rng=random.Random(1),
        )

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.elections.tick()

    def take(self) -> list[tuple[str, wire.Message]]:
        taken, self.links.sent = self.links.sent, []
        return taken


@pytest.fixture
def room() -> Room:
    return Room()


# -- the timer -----------------------------------------------------------------------------------


def test_a_silent_leader_starts_a_pre_vote_round_after_the_timeout(room: Room) -> None:
    room.wait(0.29)
    assert room.take() == []
    room.wait(0.02)
    assert room.take() == [
        ("n2", [wire.PRE_VOTE, 2, 1, 0]),
        ("n3", [wire.PRE_VOTE, 2, 1, 0]),
    ]
    assert room.replica.stood == []


def test_the_round_says_how_far_our_log_goes(room: Room) -> None:
    room.journal.append(entry(2, 1))
    room.wait(0.4)
    assert room.take()[0][1] == [wire.PRE_VOTE, 2, 2, 1]


def test_a_leader_that_is_heard_postpones_it(room: Room) -> None:
    for _ in range(20):
        room.wait(0.2)
        room.elections.heard_leader()
    assert room.take() == []


def test_a_leader_stands_for_nothing(room: Room) -> None:
    room.replica.leads(term=1)
    room.wait(5)
    assert room.take() == []


def test_timeouts_lie_between_the_shortest_and_the_longest() -> None:
    now_s = [0.0]
    links = FakeLinks("n2")
    elections = Elections(
        FakeElectorate(links),
        FakeJournal(),  # type: ignore[arg-type]
        timeout_min_s=0.3,
        timeout_max_s=0.6,
        quorum=FixedQuorum(3),
        monotonic=lambda: now_s[0],
        rng=random.Random(7),
    )
    spans = []
    for _ in range(200):
        elections.postpone()
        began_s = now_s[0]
        while not links.sent:
            now_s[0] += 0.005
            elections.tick()
        links.sent.clear()
        spans.append(now_s[0] - began_s)
    assert min(spans) >= 0.3
    assert max(spans) <= 0.61
    assert max(spans) - min(spans) > 0.2


def test_a_node_alone_elects_itself() -> None:
    room = Room(count=1, up=())
    room.wait(0.4)
    assert room.replica.stood == [2]


# -- pre-votes -----------------------------------------------------------------------------------


def test_a_majority_of_grants_makes_it_stand_once(room: Room) -> None:
    room.wait(0.4)
    room.elections.on_pre_grant("n2", 2)
    assert room.replica.stood == [2]
    room.elections.on_pre_grant("n3", 2)
    assert room.replica.stood == [2]


def test_the_same_grant_twice_is_one_grant() -> None:
    room = Room(count=5, up=("n2", "n3", "n4", "n5"))
    room.wait(0.4)
    room.elections.on_pre_grant("n2", 2)
    room.elections.on_pre_grant("n2", 2)
    assert room.replica.stood == []
    room.elections.on_pre_grant("n3", 2)
    assert room.replica.stood == [2]


@pytest.mark.parametrize("term", [1, 3, 99])
def test_a_grant_for_another_term_counts_for_nothing(room: Room, term: int) -> None:
    room.wait(0.4)
    room.elections.on_pre_grant("n2", term)
    assert room.replica.stood == []


def test_a_grant_that_comes_after_a_leader_was_heard_counts_for_nothing(room: Room) -> None:
    room.wait(0.4)
    room.elections.heard_leader()
    room.elections.on_pre_grant("n2", 2)
    assert room.replica.stood == []


def test_a_grant_that_comes_after_the_term_has_risen_counts_for_nothing(room: Room) -> None:
    room.wait(0.4)
    room.replica.follows(None, term=2)
    room.elections.on_pre_grant("n2", 2)
    assert room.replica.stood == []


def test_grants_of_an_older_round_are_forgotten() -> None:
    room = Room(count=5, up=("n2", "n3", "n4", "n5"))
    room.wait(0.4)
    room.elections.on_pre_grant("n2", 2)
    room.wait(0.4)
    room.elections.on_pre_grant("n3", 2)
    assert room.replica.stood == []


def test_a_peer_is_granted_a_pre_vote_when_no_leader_was_heard_for_the_timeout(room: Room) -> None:
    room.elections.on_pre_vote("n2", 2, 1, 0)
    assert room.take() == []  # just started: a vote from before a crash may still count
    room.now_s += 0.31
    room.elections.on_pre_vote("n2", 2, 1, 0)
    assert room.take() == [("n2", [wire.PRE_GRANT, 2])]


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [
        pytest.param(3, 2, True, id="the same log"),
        pytest.param(9, 2, True, id="a longer log"),
        pytest.param(1, 3, True, id="a later term"),
        pytest.param(2, 2, False, id="a shorter log"),
        pytest.param(9, 1, False, id="an earlier term"),
    ],
)
def test_only_a_log_that_holds_all_of_ours_is_granted(
    room: Room, last_index: int, last_term: int, granted: bool
) -> None:
    room.journal.extend([entry(2, 1), entry(3, 2)])
    room.now_s += 1
    room.elections.on_pre_vote("n2", 5, last_index, last_term)
    assert bool(room.take()) == granted


def test_a_peer_in_a_lower_term_is_told_ours(room: Room) -> None:
    room.replica.follows("n3", term=7)
    room.elections.on_pre_vote("n2", 7, 9, 9)
    assert room.take() == [("n2", [wire.HIGHER_TERM, 7])]


def test_granting_a_pre_vote_changes_nothing(room: Room) -> None:
    room.now_s += 1
    room.elections.on_pre_vote("n2", 2, 1, 0)
    room.elections.on_pre_vote("n3", 2, 1, 0)
    assert [to for to, _ in room.take()] == ["n2", "n3"]
    assert room.replica.term() == 1


# -- stickiness ----------------------------------------------------------------------------------


def test_who_has_heard_a_leader_admits_no_vote_request(room: Room) -> None:
    room.now_s += 1
    room.elections.heard_leader()
    room.now_s += 0.29
    assert not room.elections.admits(5, transfer=False)
    room.now_s += 0.02
    assert room.elections.admits(5, transfer=False)


def test_a_leader_admits_none(room: Room) -> None:
    room.replica.leads(term=2)
    room.now_s += 100
    assert not room.elections.admits(5, transfer=False)


def test_a_transfer_is_admitted_always(room: Room) -> None:
    room.replica.leads(term=2)
    assert room.elections.admits(5, transfer=True)


# -- votes ---------------------------------------------------------------------------------------


def test_a_vote_waits_until_term_and_vote_are_durable(room: Room) -> None:
    room.journal.term_is_durable = False
    room.elections.give_vote("n3", 2)
    room.elections.release()
    assert room.take() == []
    room.journal.term_is_durable = True
    room.elections.release()
    assert room.take() == [("n3", [wire.VOTE, 2])]
    room.elections.release()
    assert room.take() == []


def test_votes_are_asked_for_at_once_and_counted_when_our_own_is_durable(room: Room) -> None:
    room.replica.follows(None, term=2)
    room.journal.term_is_durable = False
    room.elections.ask_vote("n2", 2, 1, 0)
    assert room.take() == [("n2", [wire.VOTE_REQUEST, 2, 1, 0, False])]
    for _ in range(3):
        assert not room.elections.counts("n2", 2)
        assert not room.elections.counts("n2", 7)
    assert room.elections.early_votes() == []
    room.journal.term_is_durable = True
    assert room.elections.early_votes() == [("n2", 2)]
    assert room.elections.counts("n2", 2)
    assert room.elections.early_votes() == []


def test_while_a_vote_is_being_written_nobody_is_let_stand(room: Room) -> None:
    """With disks slower than the timeouts, each candidate would disturb the one before it."""
    room.journal.term_is_durable = False
    room.wait(0.4)
    room.wait(0.4)
    room.elections.on_pre_vote("n2", 2, 1, 0)
    assert room.take() == []
    room.journal.term_is_durable = True
    room.elections.on_pre_vote("n2", 2, 1, 0)
    assert room.take() == [("n2", [wire.PRE_GRANT, 2])]
    room.wait(0.4)
    assert [message[0] for _, message in room.take()] == [wire.PRE_VOTE] * 2


def test_giving_a_vote_postpones_our_own_round(room: Room) -> None:
    room.wait(0.2)
    room.elections.give_vote("n2", 2)
    room.take()
    room.wait(0.2)
    assert room.take() == []


def test_one_vote_counts_for_each_peer_and_term(room: Room) -> None:
    room.replica.follows(None, term=2)
    assert room.elections.counts("n2", 2)
    assert not room.elections.counts("n2", 2)
    assert room.elections.counts("n3", 2)
    assert not room.elections.counts("n3", 1)
    assert not room.elections.counts("n3", 3)
    room.replica.follows(None, term=3)
    assert room.elections.counts("n2", 3)
    assert not room.elections.counts("n2", 3)


# -- transfers and terms -------------------------------------------------------------------------


def test_a_transfer_makes_it_stand_at_once_and_say_so(room: Room) -> None:
    room.elections.begin_transfer()
    assert room.replica.stood == [2]
    room.elections.ask_vote("n2", 2, 1, 0)
    assert room.take() == [("n2", [wire.VOTE_REQUEST, 2, 1, 0, True])]


def test_the_next_election_is_no_transfer_any_more(room: Room) -> None:
    room.elections.begin_transfer()
    room.replica.follows(None, term=3)
    room.elections.ask_vote("n2", 3, 1, 0)
    assert room.take() == [("n2", [wire.VOTE_REQUEST, 3, 1, 0, False])]


@pytest.mark.parametrize(("term", "observed"), [(1, []), (2, []), (3, [3])])
def test_only_a_higher_term_is_adopted(room: Room, term: int, observed: list[int]) -> None:
    room.replica.follows(None, term=2)
    room.elections.on_higher_term(term)
    assert room.replica.observed == observed


# -- who counts ----------------------------------------------------------------------------------


def test_a_learner_stands_for_nothing_and_gives_its_vote_to_whoever_asks() -> None:
    room = Room(count=3)
    room.elections._quorum = FixedQuorum(3, learners=["n1"])
    room.wait(1.0)
    assert room.take() == []
    assert not room.elections.may_stand()
    room.elections.on_pre_vote("n2", 2, 9, 9)
    assert room.take() == [("n2", [wire.PRE_GRANT, 2])]


def test_a_learner_is_not_asked_and_neither_its_grant_nor_its_vote_counts() -> None:
    room = Room(count=3)
    room.elections._quorum = FixedQuorum(4, learners=["n3"])  # n1, n2, n4 vote
    room.wait(1.0)
    assert [to for to, _ in room.take()] == ["n2"]
    room.elections.on_pre_grant("n3", 2)
    assert room.replica.stood == []
    room.elections.on_pre_grant("n2", 2)
    assert room.replica.stood == [2]
    assert not room.elections.counts("n3", 2)
    assert room.elections.counts("n2", 2)
