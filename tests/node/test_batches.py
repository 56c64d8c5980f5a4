"""Batches and expiry: one a turn, in order, applied once; every waiter is told once, the truth.

Method: the replica is a list of proposals that a test applies when it likes, with the real rules of
the state machine (statemachine.store), so duplicates and gaps are real; time and loop turns
are made by hand.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from node import batches as room
from node import wire
from node.batches import UNKNOWN_AFTER_S, Batches
from node.errors import Fatal, NotLeader, OutcomeUnknown, Rejected, Unavailable
from node.expiry import Expiry
from node.logs import EventLog
from node.results import encode_results
from statemachine.commands import BatchHead, WriteCommand, read_head, stamp
from statemachine.store import DUPLICATE, GAP, Store
from tests.support.turns import ManualClock, Turns, Waiter

EPOCH = 3
ORIGIN = b"n1:5f0c"
IN_FLIGHT = 4
PARK_S = 2.5
RESEND_S = 1.2
PROPOSAL_BYTES_MAX = 100_000


class Replica:
    """n1: what batches ask of raft, links and machine, and what they did."""

    def __init__(
        self,
        leader: str | None = "n1",
        moved: NotLeader | None = None,
        others: tuple[str, ...] = (),
    ) -> None:
        self.leader = leader
        self.asked: list[int] = []
        """Sequences whose results others were asked for."""
        self.holding = False
        self.store = Store()
        self.log: list[bytes] = []
        """Proposed here, not yet applied."""
        self.forwarded: list[tuple[str, bytes]] = []
        self.clock = ManualClock()
        self.turns = Turns()
        self.moved = moved
        raft: Any = self
        self.batches = Batches(
            ORIGIN,
            EPOCH,
            raft=raft,
            links=raft,
            machine=raft,
            call_soon=self.turns.soon,
            monotonic=self.clock.monotonic,
            in_flight_max=IN_FLIGHT,
            batch_bytes_max=10_000,
            proposal_bytes_max=PROPOSAL_BYTES_MAX,
            park_s=PARK_S,
            resend_s=RESEND_S,
            log=EventLog("n1"),
            redirect=lambda: self.moved,
            others=lambda: others,
        )
        self.expiry = Expiry(raft, raft)

    # Raft.

    def is_leader(self) -> bool:
        return self.leader == "n1"

    def leader_id(self) -> str | None:
        return self.leader

    def takes_batches(self) -> bool:
        return self.leader is not None and not self.holding

    def now_ms(self) -> int:
        return max(self.clock.wall_ms(), self.store.clock_ms)

    def propose(self, batch: bytes) -> bool:
        if self.holding or not self.is_leader():
            return False
        self.log.append(stamp(batch, self.now_ms()))
        return True

    # Links.

    def send(self, peer_id: str, frame: bytes) -> bool:
        kind, *fields = wire.decode(frame[wire.LENGTH.size :])
        if kind == wire.OUTCOME_ASK:
            self.asked.append(fields[2])
        else:
            assert kind == wire.FORWARD
            self.forwarded.append((peer_id, fields[0]))
        return True

    # Machine.

    @property
    def next_deadline_ms(self) -> int | None:
        return self.store.next_deadline_ms()

    @property
    def origins(self) -> Mapping[bytes, tuple[int, int]]:
        return self.store.origins

    # What tests do with it.

    def put(self, key: bytes = b"k", value: bytes = b"v") -> Waiter:
        """A client's write, in the batch of this turn."""
        waiter = Waiter()
        batch = self.batches.batch
        start = batch.width
        batch.put(key, value)
        self.batches.submit(waiter, start, batch.width)
        return waiter

    def add(self, key: bytes, delta: int = 1) -> Waiter:
        waiter = Waiter()
        batch = self.batches.batch
        start = batch.width
        batch.add(WriteCommand(add=WriteCommand.Add(key=key, delta=delta)))
        self.batches.submit(waiter, start, batch.width)
        return waiter

    def apply(self, batch: bytes) -> Any:
        """Committed and applied here, whoever proposed it."""
        outcome = self.store.apply_batch(batch, self.store.revision + 1)
        self.expiry.applied(read_head(batch).now_ms)
        self.batches.applied(read_head(batch), outcome)
        return outcome

    def commit(self, count: int | None = None) -> list[Any]:
        """A tick: the next proposals are applied, then waiters are told."""
        batches, self.log = self.log[:count], self.log[len(self.log[:count]) :]
        outcomes = [self.apply(batch) for batch in batches]
        self.batches.deliver()
        return outcomes

    def sequences(self) -> list[int]:
        """Of the proposals that wait."""
        return [read_head(batch).sequence for batch in self.log]

    def forwarded_sequences(self) -> list[int]:
        """Of what was sent to the leader since the last time."""
        taken, self.forwarded = self.forwarded, []
        return [read_head(batch).sequence for _, batch in taken]

    def change(self, leader: str | None) -> None:
        self.leader = leader
        self.expiry.on_change()
        self.batches.on_change()
        self.turns.run()

    def pass_time(self, seconds: float) -> None:
        """Ticks, 10 ms apart, with the loop turning."""
        for _ in range(round(seconds / 0.01)):
            self.clock.advance(0.01)
            self.tick()
            self.turns.run()

    def tick(self) -> None:
        self.batches.tick()
        self.expiry.tick()


# -- one batch a turn -----------------------------------------------------------------------------


def test_all_writes_of_one_turn_are_one_entry_and_each_waiter_gets_its_slots() -> None:
    replica = Replica()
    puts = [replica.put(b"k%d" % number) for number in range(50)]
    added = replica.add(b"n", 5)
    replica.turns.run()
    assert len(replica.log) == 1
    assert [waiter.told for waiter in puts] == 50 * [[]]
    replica.commit()
    assert [waiter.results for waiter in puts] == 50 * [[True]]
    assert added.results == [5]
    assert len(replica.store) == 51


def test_batches_are_numbered_from_one_under_our_id_and_epoch() -> None:
    replica = Replica()
    for _ in range(3):
        replica.put()
        replica.turns.run()
    heads = [read_head(batch) for batch in replica.log]
    assert [(head.origin, head.epoch, head.sequence) for head in heads] == [
        (ORIGIN, EPOCH, sequence) for sequence in (1, 2, 3)
    ]


def test_a_turn_without_writes_proposes_nothing() -> None:
    replica = Replica()
    replica.batches.on_change()
    replica.pass_time(1.0)
    assert replica.log == []


def test_a_batch_that_is_full_is_sealed_within_the_turn() -> None:
    replica = Replica()
    waiters = [replica.put(b"k%d" % number, b"x" * 4_000) for number in range(6)]
    replica.turns.run()
    assert replica.sequences() == [1, 2]
    replica.commit()
    assert [waiter.results for waiter in waiters] == 6 * [[True]]


def test_no_more_than_so_many_are_in_flight_and_the_rest_follows_in_order() -> None:
    replica = Replica()
    waiters = []
    for number in range(10):
        waiters.append(replica.put(b"k", b"%d" % number))
        replica.turns.run()
    assert replica.sequences() == [1, 2, 3, 4]
    replica.commit(1)
    replica.turns.run()
    assert replica.sequences() == [2, 3, 4, 5]
    while replica.log:
        replica.commit()
        replica.turns.run()
    assert [waiter.results for waiter in waiters] == 10 * [[True]]
    assert replica.store.get(b"k") == b"9"


def test_nothing_is_proposed_from_within_a_tick() -> None:
    replica = Replica()
    for _ in range(IN_FLIGHT + 1):
        replica.put()
        replica.turns.run()
    replica.commit(1)
    assert replica.sequences() == [2, 3, 4]  # 5 goes with the next turn, not with the tick
    replica.turns.run()
    assert replica.sequences() == [2, 3, 4, 5]


def test_a_rule_that_refuses_a_command_refuses_that_one_only() -> None:
    replica = Replica()
    replica.put(b"k", b"no number")
    refused, fine = replica.add(b"k"), replica.add(b"n")
    replica.turns.run()
    replica.commit()
    assert refused.results[0].code == "ERR"
    assert fine.results == [1]


def test_a_batch_that_no_replica_can_read_is_refused_as_a_whole() -> None:
    replica = Replica()
    waiters = [replica.put(), replica.put()]
    replica.turns.run()
    replica.log[0] = replica.log[0] + b"\xff"
    replica.commit()
    assert [type(waiter.error) for waiter in waiters] == [Rejected, Rejected]


# -- following ------------------------------------------------------------------------------------


def test_a_follower_forwards_and_answers_when_it_has_applied_the_entry_itself() -> None:
    replica = Replica(leader="n2")
    waiter = replica.put()
    replica.turns.run()
    ((peer, batch),) = replica.forwarded
    assert peer == "n2"
    assert waiter.told == []
    replica.log.append(stamp(batch, 5))
    replica.commit()
    assert waiter.results == [True]


def test_batches_of_others_pass_by() -> None:
    replica = Replica()
    waiter = replica.put()
    replica.turns.run()
    ours = replica.log.pop()
    for origin in (b"n2:77aa", b"n11:5f0c", b""):
        head = BatchHead(now_ms=1, epoch=EPOCH, sequence=1, origin=origin)
        replica.batches.applied(head, [True])
    replica.batches.applied(BatchHead(1, EPOCH - 1, 1, ORIGIN), [True])  # an earlier life of ours
    replica.batches.deliver()
    assert waiter.told == []
    replica.log.append(ours)
    replica.commit()
    assert waiter.results == [True]


def test_a_later_life_of_this_node_in_the_log_means_that_this_one_must_stop() -> None:
    replica = Replica()
    with pytest.raises(Fatal, match="wiped or restored"):
        replica.batches.applied(BatchHead(1, EPOCH + 1, 1, ORIGIN), [True])
    with pytest.raises(Fatal, match="wiped or restored"):
        replica.batches.applied(BatchHead(1, 1, 1, b"n1:another"), [True])
    replica.store.origins[ORIGIN] = (EPOCH + 1, 1)
    with pytest.raises(Fatal, match="wiped or restored"):
        replica.batches.on_snapshot_installed()


def test_where_clients_are_redirected_they_are_told_the_leader_and_nothing_is_proposed() -> None:
    moved = NotLeader("127.0.0.1:7002")
    replica = Replica(leader="n2", moved=moved)
    waiter = replica.put()
    replica.turns.run()
    assert waiter.error is moved
    assert replica.forwarded == []


# -- sending again --------------------------------------------------------------------------------


def test_after_a_change_everything_pending_is_sent_again_in_order_before_what_is_new() -> None:
    replica = Replica(leader="n2")
    waiters = []
    for number in range(3):
        waiters.append(replica.put(b"k", b"%d" % number))
        replica.turns.run()
    assert replica.forwarded_sequences() == [1, 2, 3]
    waiters.append(replica.put(b"k", b"3"))
    replica.change("n3")
    assert {peer for peer, _ in replica.forwarded} == {"n3"}
    assert replica.forwarded_sequences() == [1, 2, 3, 4]
    replica.change("n1")
    assert replica.sequences() == [1, 2, 3, 4]
    replica.commit()
    assert [waiter.results for waiter in waiters] == 4 * [[True]]
    assert replica.store.get(b"k") == b"3"


def test_what_was_sent_twice_is_applied_once_and_answered_once() -> None:
    replica = Replica()
    waiter = replica.add(b"n")
    replica.turns.run()
    replica.change("n1")  # of another term: the first copy may or may not have survived
    assert replica.sequences() == [1, 1]
    assert replica.commit() == [[1], DUPLICATE]
    assert waiter.results == [1]
    assert replica.store.get(b"n") == b"1"


def test_a_gap_brings_everything_again_in_order() -> None:
    replica = Replica()
    waiters = []
    for _ in range(4):
        waiters.append(replica.add(b"n"))
        replica.turns.run()
    del replica.log[1]  # the second one got lost on its way
    assert replica.commit() == [[1], GAP, GAP]
    assert [bool(waiter.told) for waiter in waiters] == [True, False, False, False]
    replica.turns.run()
    assert replica.sequences() == [2, 3, 4]  # once, not once for each gap
    replica.commit()
    assert [waiter.results for waiter in waiters] == [[1], [2], [3], [4]]


def test_what_nobody_answered_is_sent_again_after_a_while_and_not_before() -> None:
    replica = Replica(leader="n2")
    replica.put()
    replica.turns.run()
    assert replica.forwarded_sequences() == [1]
    replica.pass_time(RESEND_S - 0.05)
    assert replica.forwarded_sequences() == []
    replica.pass_time(0.1)
    assert replica.forwarded_sequences() == [1]
    replica.pass_time(RESEND_S - 0.1)
    assert replica.forwarded_sequences() == []


def test_without_a_leader_nothing_gets_a_number_and_pending_waits_for_the_next() -> None:
    replica = Replica(leader="n2")
    replica.put()
    replica.turns.run()
    replica.forwarded_sequences()
    replica.change(None)
    late = replica.put()
    replica.pass_time(2 * RESEND_S)
    assert replica.forwarded == []
    replica.change("n1")
    assert replica.sequences() == [1, 2]
    replica.commit()
    assert late.results == [True]


def test_while_leadership_is_handed_over_writes_wait_and_then_go_to_the_next_leader() -> None:
    replica = Replica()
    replica.holding = True
    waiter = replica.put()
    replica.pass_time(0.2)
    assert replica.log == []
    replica.holding = False
    replica.change("n2")
    assert replica.forwarded_sequences() == [1]
    assert waiter.told == []


def test_when_a_hand_over_is_given_up_the_writes_that_waited_are_proposed() -> None:
    replica = Replica()
    replica.holding = True
    replica.put()
    replica.pass_time(0.2)
    replica.holding = False
    replica.pass_time(0.02)
    assert replica.sequences() == [1]


# -- giving up ------------------------------------------------------------------------------------


def test_a_write_that_finds_no_leader_is_unavailable_and_is_never_proposed() -> None:
    replica = Replica(leader=None)
    waiter = replica.put(b"k", b"late")
    replica.pass_time(PARK_S - 0.1)
    assert waiter.error is None
    replica.pass_time(0.2)
    assert isinstance(waiter.error, Unavailable)
    assert waiter.error.code == "CLUSTERDOWN"
    replica.change("n1")
    replica.pass_time(0.1)
    assert replica.log == []


def test_a_write_behind_a_full_table_is_slow_not_failed() -> None:
    replica = Replica()
    for _ in range(IN_FLIGHT):
        replica.put()
        replica.turns.run()
    waiter = replica.put()
    replica.pass_time(PARK_S + 1)
    assert waiter.error is None
    replica.commit()
    replica.pass_time(0.02)
    replica.commit()
    assert waiter.results == [True]


def test_behind_a_table_that_never_moves_it_fails_in_the_end_and_was_not_proposed() -> None:
    replica = Replica(leader="n2")
    pending = []
    for _ in range(IN_FLIGHT):
        pending.append(replica.put())
        replica.turns.run()
    waiter = replica.put()
    replica.pass_time(UNKNOWN_AFTER_S + 0.1)
    assert isinstance(waiter.error, Unavailable)
    assert all(isinstance(each.error, OutcomeUnknown) for each in pending)
    assert max(replica.forwarded_sequences()) == IN_FLIGHT


def test_a_proposed_write_without_a_result_is_of_unknown_outcome_after_ten_seconds() -> None:
    replica = Replica(leader="n2")
    waiter = replica.add(b"n")
    replica.pass_time(UNKNOWN_AFTER_S - 0.1)
    assert waiter.error is None
    replica.pass_time(0.2)
    assert isinstance(waiter.error, OutcomeUnknown)


def test_a_batch_with_a_number_is_never_given_up_only_its_waiters_are() -> None:
    """Or everything behind it would be a gap for ever."""
    replica = Replica(leader="n2")
    replica.add(b"n")
    replica.pass_time(UNKNOWN_AFTER_S + 1)
    later = replica.add(b"n")
    replica.change("n1")
    assert replica.sequences() == [1, 2]
    replica.commit()
    assert later.results == [2]


def test_too_much_waiting_is_answered_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "QUEUED_BYTES_MAX", 20_000)
    replica = Replica(leader=None)
    waiters = [replica.put(b"k", b"x" * 9_990) for _ in range(5)]
    errors = [waiter.error for waiter in waiters]
    assert errors[:2] == [None, None]
    assert [error.code for error in errors[2:] if isinstance(error, Unavailable)] == 3 * ["BUSY"]
    replica.pass_time(PARK_S + 0.1)
    again = replica.put(b"k", b"x" * 9_990)
    assert again.error is None  # there is room again


def test_while_the_disk_is_nearly_full_writes_are_unavailable() -> None:
    replica = Replica()
    replica.batches.refusal = "disk nearly full"
    waiter = replica.put()
    replica.turns.run()
    assert isinstance(waiter.error, Unavailable)
    assert replica.log == []
    replica.batches.refusal = None
    replica.put()
    replica.turns.run()
    assert replica.sequences() == [1]


def test_a_batch_too_long_for_an_entry_is_refused_before_it_has_a_number() -> None:
    replica = Replica()
    waiter = replica.put(b"k", b"x" * PROPOSAL_BYTES_MAX)
    replica.put(b"k", b"fine")
    replica.turns.run()
    assert isinstance(waiter.error, Rejected)
    assert replica.sequences() == [1]


def lapped(replica: Replica) -> list[Waiter]:
    """A full table, of which a snapshot holds the first two."""
    waiters = []
    for _ in range(IN_FLIGHT):
        waiters.append(replica.add(b"n"))
        replica.turns.run()
    replica.store.origins[ORIGIN] = (EPOCH, 2)
    replica.batches.on_snapshot_installed()
    replica.turns.run()
    return waiters


def test_skipped_batches_keep_their_places_until_others_have_said_what_came_of_them() -> None:
    """Or more would follow, and push what is asked for out of what the others keep."""
    replica = Replica(leader="n2", others=("n2", "n3"))
    waiters = lapped(replica)
    late = replica.add(b"n")
    replica.pass_time(0.5)
    assert set(replica.asked) == {1, 2}
    assert [waiter.told for waiter in waiters] == IN_FLIGHT * [[]]
    assert max(replica.forwarded_sequences()) == IN_FLIGHT
    assert not replica.batches.is_idle
    replica.batches.outcomes.on_answer("n3", EPOCH, 2, encode_results([2]) or b"")
    replica.pass_time(0.02)
    assert [waiter.told for waiter in waiters[2:]] == (IN_FLIGHT - 2) * [[]]
    assert waiters[1].results == [2]
    assert replica.forwarded_sequences() == [IN_FLIGHT + 1]
    assert late.told == waiters[0].told == []
    replica.asked.clear()
    replica.pass_time(RESEND_S + 0.1)
    assert set(replica.asked) == {1}
    for peer_id in ("n2", "n3"):
        replica.batches.outcomes.on_answer(peer_id, EPOCH, 1, b"")
    assert isinstance(waiters[0].error, OutcomeUnknown)


def test_results_that_do_not_fit_their_batch_are_none() -> None:
    replica = Replica(leader="n2", others=("n2",))
    waiters = lapped(replica)
    replica.batches.outcomes.on_answer("n2", EPOCH, 1, encode_results([1, 2, 3]) or b"")
    assert isinstance(waiters[0].error, OutcomeUnknown)


def test_skipped_batches_are_given_up_after_ten_seconds_and_at_the_end() -> None:
    replica = Replica(leader="n2", others=("n2",))
    waiters = lapped(replica)
    replica.pass_time(UNKNOWN_AFTER_S + 0.1)
    assert [type(waiter.error) for waiter in waiters[:2]] == 2 * [OutcomeUnknown]
    replica.batches.outcomes.on_answer("n2", EPOCH, 1, encode_results([1]) or b"")
    assert len(waiters[0].told) == 1
    replica = Replica(leader="n2", others=("n2",))
    waiters = lapped(replica)
    replica.batches.close(Unavailable("the node stops"))
    assert [type(waiter.error) for waiter in waiters] == IN_FLIGHT * [OutcomeUnknown]


def test_results_that_a_snapshot_skipped_are_unknown_when_nobody_can_be_asked() -> None:
    replica = Replica(leader="n2")
    waiters = []
    for _ in range(3):
        waiters.append(replica.add(b"n"))
        replica.turns.run()
    replica.store.origins[ORIGIN] = (EPOCH, 2)
    replica.batches.on_snapshot_installed()
    assert [type(waiter.error) for waiter in waiters[:2]] == [OutcomeUnknown, OutcomeUnknown]
    replica.change("n1")
    assert replica.sequences() == [3]
    replica.commit()
    assert waiters[2].results == [1]


def test_a_snapshot_of_before_our_first_batch_takes_nothing() -> None:
    replica = Replica(leader="n2")
    waiter = replica.add(b"n")
    replica.turns.run()
    replica.store.origins[ORIGIN] = (EPOCH - 1, 77)
    replica.batches.on_snapshot_installed()
    assert waiter.error is None


# -- leases ---------------------------------------------------------------------------------------


def with_lease(ttl_ms: int = 1_000) -> Replica:
    replica = Replica()
    insert = WriteCommand.Insert(key=b"t", value=b"v", ttl_ms=ttl_ms)
    replica.batches.batch.add(WriteCommand(insert=insert))
    replica.batches.submit(Waiter(), 0, 1)
    replica.turns.run()
    replica.commit()
    return replica


def test_a_due_lease_is_expired_by_an_empty_batch_of_the_leader_to_the_millisecond() -> None:
    replica = with_lease()
    replica.clock.advance(0.999)
    replica.tick()
    assert replica.log == []
    replica.clock.advance(0.001)
    replica.tick()
    replica.tick()
    assert len(replica.log) == 1  # one, however often it ticks before that is applied
    replica.commit()
    assert replica.store.get(b"t") is None
    replica.pass_time(0.1)
    assert replica.log == []


def test_leases_that_fall_due_one_after_the_other_are_each_expired() -> None:
    replica = with_lease()
    for key, ttl_ms in ((b"u", 1_500), (b"w", 2_000)):
        insert = WriteCommand.Insert(key=key, value=b"v", ttl_ms=ttl_ms)
        replica.batches.batch.add(WriteCommand(insert=insert))
        replica.batches.submit(Waiter(), 0, 1)
        replica.turns.run()
        replica.commit()
    left = []
    for _ in range(3):
        replica.pass_time(0.6)
        replica.commit()
        left.append(len(replica.store))
    assert left == [3, 2, 1]
    replica.pass_time(0.3)
    replica.commit()
    assert len(replica.store) == 0


def test_a_follower_expires_nothing_by_itself() -> None:
    replica = with_lease()
    replica.change("n2")
    replica.pass_time(5)
    assert replica.log == []
    assert replica.forwarded == []
    assert replica.store.get(b"t") == b"v"


def test_a_write_that_comes_in_time_saves_the_empty_batch() -> None:
    replica = with_lease()
    replica.clock.advance(1.0)
    replica.put()
    replica.turns.run()
    replica.commit()
    assert replica.store.get(b"t") is None
    replica.tick()
    assert replica.log == []


def test_an_expiry_that_was_lost_with_its_leader_is_proposed_again() -> None:
    replica = with_lease()
    replica.clock.advance(1.0)
    replica.tick()
    replica.log.clear()
    replica.change("n2")
    replica.change("n1")
    replica.tick()
    assert len(replica.log) == 1


def test_an_expiry_that_fell_into_a_hand_over_is_proposed_when_that_is_given_up() -> None:
    replica = with_lease()
    replica.holding = True
    replica.clock.advance(1.0)
    replica.tick()
    assert replica.log == []
    replica.holding = False
    replica.tick()
    assert len(replica.log) == 1


# -- the end --------------------------------------------------------------------------------------


def waiters_of_every_kind(replica: Replica) -> dict[str, Waiter]:
    waiters = {}
    for number in range(IN_FLIGHT):
        waiters[f"pending {number}"] = replica.put()
        replica.turns.run()
    waiters["sealed"] = replica.put()
    replica.turns.run()
    waiters["claimed"] = replica.put()
    return waiters


def test_at_the_end_proposed_writes_are_unknown_and_the_others_unavailable() -> None:
    replica = Replica()
    waiters = waiters_of_every_kind(replica)
    replica.batches.close(Unavailable("the node stops"))
    found = {name: type(waiter.error) for name, waiter in waiters.items()}
    assert found == {
        **{f"pending {number}": OutcomeUnknown for number in range(IN_FLIGHT)},
        "sealed": Unavailable,
        "claimed": Unavailable,
    }


def test_after_a_fatal_error_proposed_writes_hear_of_it() -> None:
    replica = Replica()
    waiters = waiters_of_every_kind(replica)
    error = Fatal("fdatasync failed")
    replica.batches.close(error)
    assert waiters["pending 0"].error is error
    assert isinstance(waiters["sealed"].error, Unavailable)


def test_what_was_applied_in_the_tick_that_failed_is_not_answered_as_done() -> None:
    replica = Replica()
    waiter = replica.put()
    replica.turns.run()
    replica.apply(replica.log.pop())
    error = Fatal("the next entry could not be applied")
    replica.batches.close(error)
    replica.batches.deliver()
    assert waiter.error is error


def test_after_the_end_nobody_waits_and_nothing_is_proposed() -> None:
    replica = Replica()
    error = Fatal("fdatasync failed")
    replica.batches.close(error)
    for _ in range(2):
        waiter = replica.put()
        assert waiter.error is error
    replica.pass_time(0.1)
    assert replica.log == []


class Broken(Waiter):
    def resolve(self, results: Any, start: int, stop: int) -> None:
        raise ValueError("a bug")

    def fail(self, error: Exception) -> None:
        raise ValueError("a bug")


def test_a_bug_in_one_answer_is_logged_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for leader in ("n1", None):
        replica = Replica(leader)
        start = replica.batches.batch.width
        replica.batches.batch.put(b"a", b"b")
        replica.batches.submit(Broken(), start, start + 1)
        waiter = replica.put()
        with caplog.at_level(logging.ERROR, "trimaran"):
            replica.pass_time(0.02)
            replica.commit()
            replica.pass_time(PARK_S + 0.1)
        assert len(waiter.told) == 1
        assert [record.message for record in caplog.records] == ["a reply failed"]
        caplog.clear()
