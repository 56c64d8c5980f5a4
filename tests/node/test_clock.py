"""Clocks: the leader's time goes on evenly, whatever is done to the wall clock meanwhile."""

from __future__ import annotations

import time

from node.clock import Clock, LeaderClock
from tests.support.turns import ManualClock


def test_the_leaders_time_is_the_wall_clock_at_election_plus_monotonic_time() -> None:
    clock = ManualClock(wall_ms=5_000)
    leader = LeaderClock(clock, floor_ms=0)
    assert leader.now_ms() == 5_000
    clock.advance(1.25)
    assert leader.now_ms() == 6_250


def test_a_jump_of_the_wall_clock_in_office_changes_nothing() -> None:
    for jump_ms in (-3_600_000, 3_600_000):
        clock = ManualClock(wall_ms=10_000_000)
        leader = LeaderClock(clock, floor_ms=0)
        clock.wall += jump_ms
        clock.seconds += 0.5
        assert leader.now_ms() == 10_000_500


def test_a_new_leader_never_begins_behind_the_replicated_clock() -> None:
    clock = ManualClock(wall_ms=1_000)
    leader = LeaderClock(clock, floor_ms=9_000)
    assert leader.now_ms() == 9_000
    clock.advance(0.001)
    assert leader.now_ms() == 9_001


def test_the_leaders_time_never_runs_backwards() -> None:
    clock = ManualClock()
    leader = LeaderClock(clock, floor_ms=0)
    before = leader.now_ms()
    for step in range(1, 2_000):
        clock.seconds += 0.000_37
        clock.wall -= step
        assert leader.now_ms() >= before
        before = leader.now_ms()


def test_the_machines_clocks_are_told_in_their_units_and_can_be_shifted() -> None:
    before_ms, before_s = time.time_ns() // 1_000_000, time.monotonic()
    assert before_ms <= Clock().wall_ms() <= time.time_ns() // 1_000_000
    assert before_s <= Clock().monotonic() <= time.monotonic()
    assert Clock(offset_ms=-10_000).wall_ms() <= time.time_ns() // 1_000_000 - 10_000
