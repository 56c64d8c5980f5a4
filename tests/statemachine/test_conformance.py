"""The conformance suite of the seed's house, name by name: everything but leases.

Each name of the list has one test, so that the lists can be laid side by side; leases are in
test_conformance_leases.py. The suite knows the trait alone (homes.py): each test runs against a
plain dict, against files that are copied as kill -9 leaves them, and against a disk that
loses what was not synced. Where the seed's own behaviour is a defect, the better one is tested.

Names without a meaning here:
    test_scan_prefix_default_returns_error     a default method of a trait; every machine here scans
    error on read-only db (RocksDB)            there is no read-only machine; a disk that refuses
                                               writes stops it: test_crash.py
    drop after close (RocksDB)                 nothing happens in a drop: test_seed_defects.py, 13;
                                               what it leaves without a close: after_crash() here
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from statemachine import Entry, LogId, Refusal, Rejected, Unavailable, WriteCommand
from tests.statemachine.batches import delete, insert, swap
from tests.statemachine.conformance import chunk, found, pairs, run
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


# run_all_tests, 1 to 19.


def test_start_stop(machine: Machine) -> None:
    assert machine.is_running
    machine.start()
    assert machine.is_running
    machine.stop()
    assert not machine.is_running
    machine.start()
    assert machine.is_running


def test_basic_kv_operations(machine: Machine) -> None:
    assert run(machine, insert(b"k", b"v")) == [[True]]
    assert machine.get(b"k") == b"v"
    assert run(machine, delete(b"k")) == [[1]]
    assert machine.get(b"k") is None


def test_apply_chunk_functionality(machine: Machine) -> None:
    outcomes = run(machine, *pairs(b"1", b"2"), delete(b"key1"), *pairs(b"3"))
    assert outcomes == [[True], [True], [1], [True]]
    assert machine.get_many([b"key1", b"key2", b"key3"]) == [None, b"value2", b"value3"]
    assert machine.last_applied == LogId(4, 1)


def test_cas_operations(machine: Machine) -> None:
    assert run(machine, swap(b"lock", None, b"owner1")) == [[True]]
    assert run(machine, swap(b"lock", b"owner1", b"owner2")) == [[True]]
    assert run(machine, swap(b"lock", b"wrong", b"owner3")) == [[False]]
    assert machine.get(b"lock") == b"owner2"


def test_last_applied_detection(machine: Machine) -> None:
    run(machine, *pairs(b"0"))
    machine.reset()
    assert machine.last_applied == LogId(0, 0)
    run(machine, *pairs(b"1", b"2", b"3"))
    assert machine.last_applied == LogId(3, 1)
    assert [machine.entry_term(index) for index in range(5)] == [None, 1, 1, 1, None]


def test_snapshot_operations(home: Home, machine: Machine) -> None:
    run(machine, *pairs(b"1", b"2", b"3"))
    metadata = machine.generate_snapshot(home.place("snapshot"), LogId(3, 1))
    assert metadata.last_included == LogId(3, 1)
    assert machine.snapshot_metadata == metadata
    machine.reset()
    assert machine.is_empty()
    run(machine, *[insert(b"old_key%d" % number, b"old") for number in (1, 2, 3)])
    machine.apply_snapshot_from_file(metadata, home.place("snapshot"))
    for each in (machine, home.after_crash()):
        want = [(b"key" + name, b"value" + name) for name in (b"1", b"2", b"3")]
        assert each.scan_prefix(b"").items == want
        assert each.get(b"old_key2") is None
        assert each.last_applied == LogId(3, 1)
        assert each.snapshot_metadata == metadata


def test_persistence(home: Home, machine: Machine) -> None:
    run(machine, *pairs(b"1"))
    metadata = machine.generate_snapshot(home.place("snapshot"))
    machine.update_last_applied(LogId(5, 1))
    machine.persist_last_applied(LogId(10, 1))
    machine.update_last_snapshot_metadata(metadata)
    machine.persist_last_snapshot_metadata(metadata)
    machine.save_hard_state()
    machine.flush()
    for each in (machine, home.after_crash()):
        assert each.last_applied == LogId(10, 1)
        assert each.snapshot_metadata == metadata


def test_drop_flushes_data(home: Home, machine: Machine) -> None:
    run(machine, *pairs(b"1", b"2"))
    machine.stop()
    again = home.after_crash()
    assert again.get_many([b"key1", b"key2"]) == [b"value1", b"value2"]


def test_drop_persists_last_applied(home: Home, machine: Machine) -> None:
    run(machine, *pairs(b"1", b"2", b"3"))
    again = home.after_crash()
    assert again.last_applied == LogId(3, 1)
    assert again.get(b"key3") == b"value3"


def test_data_survives_reopen(home: Home) -> None:
    machine = home.open()
    run(machine, *pairs(b"1", b"2", b"3"))
    last = machine.last_applied
    machine.stop()
    machine.close()
    again = home.open()
    assert again.get_many([b"key1", b"key2", b"key3"]) == [b"value1", b"value2", b"value3"]
    assert again.last_applied == last
    again.close()


def test_ungraceful_shutdown_recovery(home: Home, machine: Machine) -> None:
    run(machine, *pairs(b"1"))
    run(machine, *pairs(b"2"))
    for _ in range(2):
        again = home.after_crash()
        assert again.get_many([b"key1", b"key2"]) == [b"value1", b"value2"]
        assert again.last_applied == LogId(2, 1)


def test_reset_operation(home: Home, machine: Machine) -> None:
    run(machine, *pairs(b"1", b"2"))
    machine.generate_snapshot()
    machine.reset()
    assert machine.is_running
    for each in (machine, home.after_crash()):
        assert each.is_empty()
        assert each.get(b"key1") is None
        assert each.last_applied == LogId(0, 0)
        assert each.snapshot_metadata is None
        assert each.entry_term(1) is None
    run(machine, *pairs(b"9"))
    assert machine.get(b"key9") == b"value9"


def test_get_multi_returns_values_in_key_order(machine: Machine) -> None:
    run(machine, *pairs(b"3", b"1", b"2"))
    assert machine.get_many([b"key2", b"key3", b"key1"]) == [b"value2", b"value3", b"value1"]


def test_get_multi_absent_keys_return_none(machine: Machine) -> None:
    assert machine.get_many([b"x", b"y"]) == [None, None]


def test_get_multi_empty_keys_returns_empty(machine: Machine) -> None:
    run(machine, *pairs(b"1"))
    assert machine.get_many([]) == []


def test_get_multi_partial_hit_some_keys_missing(machine: Machine) -> None:
    run(machine, *pairs(b"1", b"3"))
    want = [b"value1", None, b"value3", b"value1"]
    assert machine.get_many([b"key1", b"key2", b"key3", b"key1"]) == want


def _coherent(machine: Machine, *fields: bytes) -> None:
    """After a second chunk every field is from the second one."""
    for value in (b"old", b"new"):
        run(machine, *[insert(field, value) for field in fields])
        assert machine.get_many(fields) == [value] * len(fields)


def test_get_multi_service_registry_coherence(machine: Machine) -> None:
    _coherent(machine, b"svc:host", b"svc:port", b"svc:health")


def test_get_multi_election_state_coherence(machine: Machine) -> None:
    _coherent(machine, b"election:leader", b"election:term", b"election:lease")


def test_get_multi_quota_management_coherence(machine: Machine) -> None:
    _coherent(machine, b"quota:limit", b"quota:used", b"quota:owner")


# run_performance_tests.


def _seconds(machine: Machine, count: int) -> float:
    first = machine.last_applied.index + 1
    entries = chunk(first, *[insert(b"key%d" % number, b"value") for number in range(count)])
    begin_s = time.perf_counter()
    machine.apply_chunk(entries)
    return time.perf_counter() - begin_s


def test_apply_chunk_performance_smoke(machine: Machine) -> None:
    assert _seconds(machine, 100) < 1


def test_apply_chunk_scalability(machine: Machine) -> None:
    # The seed's own bound where machines are shared; the best of three, as one may be held up.
    small_s = min(_seconds(machine, 100) for _ in range(3))
    assert min(_seconds(machine, 1000) for _ in range(3)) < 100 * small_s


# file_state_machine_test.rs.


def test_wal_replay_after_crash(home: Home, machine: Machine) -> None:
    run(machine, *pairs(b"1", b"2"))
    machine.checkpoint()
    run(machine, *pairs(b"3"))
    again = home.after_crash()
    assert again.get_many([b"key1", b"key2", b"key3"]) == [b"value1", b"value2", b"value3"]


def test_cas_failure_wal_replay_does_not_corrupt_data(home: Home, machine: Machine) -> None:
    assert run(machine, insert(b"k", b"kept"), swap(b"k", b"other", b"bad")) == [[True], [False]]
    assert home.after_crash().get(b"k") == b"kept"


def test_cas_in_same_chunk_as_preceding_insert(home: Home, machine: Machine) -> None:
    assert run(machine, insert(b"k", b"a"), swap(b"k", b"a", b"b")) == [[True], [True]]
    assert machine.get(b"k") == b"b"
    assert home.after_crash().get(b"k") == b"b"


def test_cas_success_wal_replay_applies_new_value(home: Home, machine: Machine) -> None:
    run(machine, insert(b"k", b"a"))
    machine.checkpoint()
    assert run(machine, swap(b"k", b"a", b"b")) == [[True]]
    # Replayed twice it would fail the second time, and the first answer was "swapped".
    again = home.after_crash()
    assert again.get(b"k") == b"b"
    assert again.last_applied == LogId(2, 1)


def test_replay_wal_unknown_opcode_returns_error(home: Home, machine: Machine) -> None:
    # Before it is written, not when it is read back: a log with such an entry could not be opened.
    # One that is found in a log none the less: test_recovery.py, "a sound frame that no wal holds".
    with pytest.raises(Rejected):
        machine.apply_chunk([Entry(1, 1, 9, b"")])
    assert machine.last_applied == LogId(0, 0)
    unknown = run(machine, WriteCommand(), insert(b"k", b"v"))
    assert unknown == [[Refusal("ERR", "unknown operation")], [True]]
    again = home.after_crash()
    assert (again.last_applied, again.get(b"k")) == (LogId(2, 1), b"v")


def test_file_sm_scan_prefix_returns_matching_keys(machine: Machine) -> None:
    run(machine, *[insert(key, b"of " + key) for key in (b"b/1", b"a/2", b"a/1", b"c")])
    assert machine.scan_prefix(b"a/").items == [(b"a/1", b"of a/1"), (b"a/2", b"of a/2")]


def test_file_sm_scan_prefix_empty_namespace(machine: Machine) -> None:
    run(machine, *pairs(b"1"))
    assert machine.scan_prefix(b"nothing/").items == []


def test_file_sm_scan_prefix_revision_reflects_applied_index(machine: Machine) -> None:
    assert machine.scan_prefix(b"").revision == 0
    run(machine, *pairs(b"1", b"2", b"3"))
    assert machine.scan_prefix(b"nothing/").revision == 3


def test_get_multi_file_sm_atomic_state_transitions(home: Home, machine: Machine) -> None:
    fields = [b"state", b"owner", b"since"]
    run(machine, *[insert(field, b"idle") for field in fields])
    action = [insert(field, b"busy") for field in fields]
    # One entry is all or nothing whatever happens; a chunk of three keeps whole entries, in order.
    for each in home.crashed_during(lambda: run(machine, *action)):
        changed = each.last_applied.index - 3
        assert each.get_many(fields) == [b"busy"] * changed + [b"idle"] * (3 - changed)
    assert machine.get_many(fields) == [b"busy"] * 3


def test_file_sm_close_storage_marks_not_running(machine: Machine) -> None:
    machine.close()
    assert not machine.is_running
    with pytest.raises(Unavailable):
        run(machine, *pairs(b"1"))


def test_file_sm_stop_after_close_storage_is_safe(machine: Machine) -> None:
    machine.close()
    machine.stop()
    machine.close()
    assert not machine.is_running


# rocksdb_state_machine_test.rs: what the file machine's own tests do not have.


def test_get_rejected_when_not_serving(machine: Machine) -> None:
    run(machine, *pairs(b"1"))
    machine.stop()
    for read in (lambda: machine.get(b"key1"), lambda: machine.get_many([]), machine.is_empty):
        with pytest.raises(Unavailable):
            read()
    with pytest.raises(Unavailable):
        machine.scan_prefix(b"")
    machine.start()
    assert machine.get(b"key1") == b"value1"


def test_scan_prefix_upper_bound_excludes_adjacent_namespace(machine: Machine) -> None:
    run(machine, *[insert(key) for key in (b"app/1", b"app0", b"app.", b"app/")])
    assert found(machine, b"app/") == [b"app/", b"app/1"]


def test_scan_prefix_0xff_carry(machine: Machine) -> None:
    run(machine, *[insert(key) for key in (b"a\xff", b"a\xff\xff\x01", b"b", b"a", b"b\x00")])
    assert found(machine, b"a\xff") == [b"a\xff", b"a\xff\xff\x01"]


def test_scan_prefix_empty_prefix(machine: Machine) -> None:
    keys = [b"", b"\x00", b"a", b"\xff\xff"]
    run(machine, *[insert(key) for key in reversed(keys)])
    assert found(machine) == keys


def test_scan_prefix_all_0xff(machine: Machine) -> None:
    run(machine, *[insert(key) for key in (b"\xff", b"\xff\xff", b"\xff\xff\xff", b"\xfe")])
    assert found(machine, b"\xff\xff") == [b"\xff\xff", b"\xff\xff\xff"]


def test_scan_prefix_revision(home: Home, machine: Machine) -> None:
    run(machine, *pairs(b"1"))
    machine.update_last_applied(LogId(7, 2))
    machine.flush()
    for each in (machine, home.after_crash()):
        assert each.scan_prefix(b"").revision == 7


def test_cas_match(machine: Machine) -> None:
    assert run(machine, insert(b"k", b"a"), swap(b"k", b"a", b"b")) == [[True], [True]]
    assert machine.get(b"k") == b"b"


def test_cas_mismatch(machine: Machine) -> None:
    assert run(machine, insert(b"k", b"a"), swap(b"k", b"x", b"b")) == [[True], [False]]
    assert machine.get(b"k") == b"a"


def test_cas_none_on_absent_key(machine: Machine) -> None:
    assert run(machine, swap(b"k", None, b"")) == [[True]]
    assert machine.get(b"k") == b""


def test_cas_none_on_existing_key(machine: Machine) -> None:
    assert run(machine, insert(b"k", b""), swap(b"k", None, b"b")) == [[True], [False]]
    assert machine.get(b"k") == b""


def test_two_cas_on_the_same_key_in_one_chunk(machine: Machine) -> None:
    run(machine, insert(b"k", b"a"))
    assert run(machine, swap(b"k", b"a", b"b"), swap(b"k", b"a", b"c")) == [[True], [False]]
    assert run(machine, swap(b"k", b"b", b"c"), swap(b"k", b"c", b"d")) == [[True], [True]]
    assert machine.get(b"k") == b"d"


def test_delete(machine: Machine) -> None:
    assert run(machine, *pairs(b"1"), delete(b"key1"), delete(b"key1")) == [[True], [1], [0]]
    assert machine.get(b"key1") is None
    assert machine.is_empty()
