"""The conformance suite of the seed's house, name by name: leases.

As test_conformance.py: one test per name, against every home of homes.py. The seed's lease table is
a type of its own; here it is asked for through the machine, so the names of lease_unit_test.rs are
about keys: register is an insert with a TTL, unregister is PERSIST, is_expired is "gone",
get_expiration is deadline_ms. Time is the entries' own: "after 2 s" is an entry stamped 2 s later.

Where the seed lets an expired key be read until a cleanup, it is gone here as soon as an applied
entry says that its time is over; where cleanup is a node's own affair, it is an entry here.
The RocksDB twins that only repeat a name of the file machine are that same test.

Names without a meaning here:
    reload_clears_apply_counter      no counter of applies decides when something expires
    on_apply_piggyback_removed       a note in the seed about a hook that went
    enabled_config, custom_cleanup_interval, and config's lease_test.rs (defaults, the valid
    interval and duration, the production, aggressive and relaxed presets)
                                     leases are always on and expire by no background work: there
                                     is no interval and no duration to configure or to get wrong
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from statemachine import LogId, Rejected, SnapshotMetadata
from tests.statemachine.batches import delete, insert, persist
from tests.statemachine.conformance import found, pairs, run, wait_until
from tests.statemachine.homes import HOMES, Home, Machine


@pytest.fixture(params=list(HOMES.values()), ids=list(HOMES))
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    made: Home = request.param(tmp_path)
    return made


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    machine = home.open()
    yield machine
    machine.close()


def leased(machine: Machine, **ttls_secs: int) -> None:
    """Keys with these TTLs, from time 1000 on: `a=2` is due at 3000."""
    commands = [insert(key.encode(), ttl_secs=secs) for key, secs in ttls_secs.items()]
    run(machine, *commands, now_ms=1_000)


# lease_integration_test.rs, lease_tests.


def test_register_and_get_expired(machine: Machine) -> None:
    leased(machine, a=1, b=1)
    assert len(machine) == 2
    wait_until(machine, 1_999)
    assert len(machine) == 2
    wait_until(machine, 3_000)
    assert len(machine) == 0


def test_unregister(machine: Machine) -> None:
    leased(machine, a=1)
    assert run(machine, persist(b"a"), now_ms=1_000) == [[1]]
    wait_until(machine, 9_000)
    assert machine.get(b"a") == b"v"


def test_update_ttl(machine: Machine) -> None:
    leased(machine, a=1)
    leased(machine, a=10)
    assert len(machine) == 1
    assert machine.next_deadline_ms == 11_000
    wait_until(machine, 3_000)
    assert len(machine) == 1


def test_snapshot_roundtrip(home: Home, machine: Machine) -> None:
    leased(machine, a=1, b=3600)
    metadata = machine.generate_snapshot(home.place("snapshot"))
    machine.reset()
    assert machine.next_deadline_ms is None
    machine.apply_snapshot_from_file(metadata, home.place("snapshot"))
    assert [machine.deadline_ms(key) for key in (b"a", b"b")] == [2_000, 3_601_000]


def test_snapshot_filters_expired(home: Home, machine: Machine) -> None:
    leased(machine, a=1, b=3600)
    wait_until(machine, 2_000)
    metadata = machine.generate_snapshot(home.place("snapshot"))
    machine.reset()
    machine.apply_snapshot_from_file(metadata, home.place("snapshot"))
    assert found(machine) == [b"b"]
    assert machine.next_deadline_ms == 3_601_000


# lease_integration_test.rs, file_state_machine_tests, with their RocksDB twins.


def test_ttl_expiration_after_apply(home: Home, machine: Machine) -> None:
    leased(machine, a=2)
    assert machine.get(b"a") == b"v"
    wait_until(machine, 4_000)
    for each in (machine, home.after_crash()):
        assert each.get(b"a") is None
        assert not each.exists(b"a")


def test_ttl_snapshot_persistence(home: Home, machine: Machine) -> None:
    leased(machine, a=2)
    metadata = machine.generate_snapshot(home.place("snapshot"))
    machine.reset()
    machine.apply_snapshot_from_file(metadata, home.place("snapshot"))
    assert (machine.get(b"a"), machine.deadline_ms(b"a")) == (b"v", 3_000)
    again = home.after_crash()
    assert (again.get(b"a"), again.deadline_ms(b"a")) == (b"v", 3_000)
    wait_until(again, 3_000)
    assert again.get(b"a") is None


def test_file_state_machine_ttl_persistence_across_restart(home: Home) -> None:
    machine = home.open()
    leased(machine, short=2, long=3600, none=0)
    machine.stop()
    machine.close()
    again = home.open()
    assert found(again) == [b"long", b"none", b"short"]
    wait_until(again, 4_000)
    assert found(again) == [b"long", b"none"]
    assert again.deadline_ms(b"long") == 3_601_000
    again.close()


def test_ttl_update_cancels_previous(home: Home, machine: Machine) -> None:
    leased(machine, a=2)
    leased(machine, a=10)
    wait_until(machine, 4_000)
    for each in (machine, home.after_crash()):
        assert each.get(b"a") == b"v"
        wait_until(each, 11_000)
        assert each.get(b"a") is None


def test_crash_safe_ttl_wal_replay_skips_expired(home: Home, machine: Machine) -> None:
    run(machine, insert(b"a", b"older"), now_ms=1_000)
    leased(machine, a=1)
    # The seed skips the expired insert and so shows the older value again.
    wait_until(machine, 2_000)
    again = home.after_crash()
    assert again.get(b"a") is None
    assert again.last_applied == LogId(3, 1)


def test_wal_replay_handles_incomplete_entries(home: Home, machine: Machine) -> None:
    leased(machine, a=1)
    for each in home.crashed_during(lambda: leased(machine, b=5)):
        # All of the second entry or nothing of it: never its key without its lease.
        assert each.deadline_ms(b"a") == 2_000
        assert each.exists(b"b") == (each.last_applied == LogId(2, 1))
        assert each.deadline_ms(b"b") == (6_000 if each.exists(b"b") else None)


def test_wal_replay_all_expired_empty_state(home: Home, machine: Machine) -> None:
    leased(machine, a=1, b=2, c=3)
    wait_until(machine, 9_000)
    again = home.after_crash()
    assert again.is_empty()
    assert again.next_deadline_ms is None


def test_wal_replay_mixed_expired_and_valid(home: Home, machine: Machine) -> None:
    leased(machine, gone=1, long=3600, none=0)
    wait_until(machine, 2_500)
    again = home.after_crash()
    assert found(again) == [b"long", b"none"]
    assert [again.deadline_ms(key) for key in found(again)] == [3_601_000, None]


def test_background_strategy_manual_cleanup(machine: Machine) -> None:
    names = [b"key%02d" % number for number in range(20)]
    run(machine, *[insert(name, ttl_secs=1) for name in names], now_ms=1_000)
    # No time passes by itself: they are there for as long as no entry says otherwise.
    assert found(machine) == names
    wait_until(machine, 3_000)
    assert machine.get_many(names) == [None] * 20


def test_background_cleanup_respects_max_duration(machine: Machine) -> None:
    names = [b"key%03d" % number for number in range(100)]
    run(machine, *[insert(name, ttl_secs=1) for name in names], now_ms=1_000)
    begin_s = time.perf_counter()
    wait_until(machine, 3_000)
    assert time.perf_counter() - begin_s < 0.1
    assert machine.get_many(names) == [None] * 100


def test_background_cleanup_fast_path_no_ttl_keys_ever_registered(machine: Machine) -> None:
    run(machine, *pairs(b"1", b"2"), now_ms=1_000)
    assert machine.next_deadline_ms is None
    wait_until(machine, 2**62)
    assert found(machine) == [b"key1", b"key2"]


def test_background_cleanup_unexpired_keys_preserved(machine: Machine) -> None:
    leased(machine, a=3600, b=1)
    wait_until(machine, 2_000)
    assert found(machine) == [b"a"]
    assert machine.deadline_ms(b"a") == 3_601_000


def test_ttl_delete_unregisters(home: Home, machine: Machine) -> None:
    leased(machine, a=2)
    run(machine, delete(b"a"), insert(b"a", b"again"), now_ms=1_500)
    assert machine.next_deadline_ms is None
    wait_until(machine, 9_000)
    for each in (machine, home.after_crash()):
        assert each.get(b"a") == b"again"


def test_multiple_keys_with_different_ttls(machine: Machine) -> None:
    leased(machine, a=1, b=2, c=3)
    for now_ms, want in [(1_999, 3), (2_000, 2), (3_000, 1), (4_000, 0)]:
        wait_until(machine, now_ms)
        assert len(machine) == want


def test_ttl_persistence_across_restart(home: Home, machine: Machine) -> None:
    leased(machine, a=2, b=3600)
    machine.checkpoint()
    again = home.after_crash()
    assert [again.deadline_ms(key) for key in (b"a", b"b")] == [3_000, 3_601_000]


def test_reset_clears_ttl_manager(home: Home, machine: Machine) -> None:
    leased(machine, a=2)
    machine.reset()
    for each in (machine, home.after_crash()):
        assert each.next_deadline_ms is None
        run(each, insert(b"a", b"permanent"), now_ms=1_000)
        wait_until(each, 9_000)
        assert each.get(b"a") == b"permanent"


# lease_unit_test.rs.


def test_register_and_is_expired(machine: Machine) -> None:
    leased(machine, a=1)
    wait_until(machine, 1_999)
    assert machine.exists(b"a")
    wait_until(machine, 2_000)
    assert not machine.exists(b"a")


def test_lease_unit_unregister(machine: Machine) -> None:
    leased(machine, a=1)
    assert run(machine, persist(b"a"), now_ms=1_000) == [[1]]
    assert (machine.exists(b"a"), machine.deadline_ms(b"a")) == (True, None)


def test_unregister_nonexistent_key(machine: Machine) -> None:
    run(machine, insert(b"permanent"))
    assert run(machine, persist(b"nothing"), persist(b"permanent")) == [[0], [0]]
    assert found(machine) == [b"permanent"]


def test_get_expired_keys(machine: Machine) -> None:
    leased(machine, a=1, b=2, c=3)
    wait_until(machine, 3_000)
    assert found(machine) == [b"c"]


def test_is_empty(machine: Machine) -> None:
    assert machine.is_empty()
    leased(machine, a=1)
    assert not machine.is_empty()
    wait_until(machine, 2_000)
    assert machine.is_empty()


def test_has_lease_keys(machine: Machine) -> None:
    assert machine.next_deadline_ms is None
    leased(machine, a=1)
    assert machine.next_deadline_ms == 2_000
    # The seed's answer stays true for ever; this one is about what is there.
    run(machine, persist(b"a"), now_ms=1_000)
    assert machine.next_deadline_ms is None


def _something_is_due(machine: Machine, now_ms: int) -> bool:
    soonest_ms = machine.next_deadline_ms
    return soonest_ms is not None and soonest_ms <= now_ms


def test_may_have_expired_keys_no_keys(machine: Machine) -> None:
    assert not _something_is_due(machine, 2**62)


def test_may_have_expired_keys_all_valid(machine: Machine) -> None:
    leased(machine, a=10, b=20)
    assert not _something_is_due(machine, 10_999)


def test_may_have_expired_keys_has_expired(machine: Machine) -> None:
    # The seed looks at ten keys: behind ten long leases it would miss this one.
    leased(machine, **{f"long{number}": 3600 for number in range(12)}, short=1)
    assert _something_is_due(machine, 2_000)


def test_get_expiration(machine: Machine) -> None:
    run(machine, insert(b"a", ttl_ms=1_234), now_ms=1_000)
    assert machine.deadline_ms(b"a") == 2_234


def test_get_expiration_not_found(machine: Machine) -> None:
    run(machine, insert(b"permanent"))
    assert machine.deadline_ms(b"nothing") is None
    assert machine.deadline_ms(b"permanent") is None


def test_register_updates_existing_key(machine: Machine) -> None:
    leased(machine, a=10)
    leased(machine, a=2)
    assert machine.deadline_ms(b"a") == 3_000
    wait_until(machine, 3_000)
    assert not machine.exists(b"a")


def test_multiple_keys_same_expiration(machine: Machine) -> None:
    leased(machine, a=1, b=1, c=1)
    wait_until(machine, 2_000)
    assert machine.is_empty()


def test_mixed_expired_and_valid_keys(machine: Machine) -> None:
    leased(machine, a=1, b=10, c=1, d=10)
    wait_until(machine, 5_000)
    assert found(machine) == [b"b", b"d"]


def test_lease_unit_snapshot_roundtrip(home: Home, machine: Machine) -> None:
    leased(machine, a=1, b=2)
    metadata = machine.generate_snapshot(home.place("snapshot"))
    run(machine, persist(b"a"), delete(b"b"), now_ms=1_000)
    machine.reset()
    machine.apply_snapshot_from_file(metadata, home.place("snapshot"))
    for now_ms, want in [(1_999, [b"a", b"b"]), (2_000, [b"b"]), (3_000, [])]:
        wait_until(machine, now_ms)
        assert found(machine) == want


def test_snapshot_roundtrip_filters_expired_keys(home: Home, machine: Machine) -> None:
    leased(machine, a=1, b=2)
    wait_until(machine, 2_500)
    metadata = machine.generate_snapshot(home.place("snapshot"))
    machine.reset()
    machine.apply_snapshot_from_file(metadata, home.place("snapshot"))
    assert found(machine) == [b"b"]
    # The clock travels along: what had run out cannot come back by an older time.
    leased(machine, c=1)
    assert machine.deadline_ms(b"c") == 3_500


def test_from_snapshot_with_invalid_data(home: Home, machine: Machine) -> None:
    # The seed goes on with an empty table: every key would be permanent.
    leased(machine, a=1)
    metadata = machine.generate_snapshot(home.place("snapshot"))
    home.damage(home.place("snapshot"))
    machine.reset()
    with pytest.raises(Rejected):
        machine.apply_snapshot_from_file(metadata, home.place("snapshot"))
    assert machine.is_running
    assert machine.is_empty()


def test_reload(home: Home, machine: Machine) -> None:
    leased(machine, a=1)
    metadata = machine.generate_snapshot(home.place("snapshot"))
    machine.reset()
    leased(machine, b=9)
    machine.apply_snapshot_from_file(metadata, home.place("snapshot"))
    assert found(machine) == [b"a"]
    assert machine.next_deadline_ms == 2_000


def test_reload_invalid_data(home: Home, machine: Machine) -> None:
    leased(machine, a=1)
    good = machine.generate_snapshot(home.place("snapshot"))
    bad = SnapshotMetadata(LogId(99, 9), bytes(32), good.size_bytes)
    with pytest.raises(Rejected):
        machine.apply_snapshot_from_file(bad, home.place("snapshot"))
    for each in (machine, home.after_crash()):
        assert (found(each), each.next_deadline_ms) == ([b"a"], 2_000)
        assert each.last_applied == LogId(1, 1)
