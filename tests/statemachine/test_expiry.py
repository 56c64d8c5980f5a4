"""Expiry as a replicated step: the clock comes with the batches, and the bound is not visible."""

from __future__ import annotations

import pytest

from statemachine.store import Store
from tests.statemachine.batches import (
    add,
    apply,
    apply_batch,
    batch_of,
    delete,
    expire,
    flush,
    insert,
    persist,
    put,
    store_with,
    swap,
    view_of,
)

# The clock


def test_the_clock_is_the_batches_and_never_goes_back() -> None:
    """Seed, defect 10: a wall clock set back brought expired keys to life again."""
    store = store_with(insert(b"k", ttl_ms=10), now_ms=100)
    apply(store, now_ms=110)
    assert store.get(b"k") is None
    apply(store, insert(b"x", ttl_ms=10), now_ms=50)
    assert store.clock_ms == 110
    assert store.deadline_ms(b"x") == 120
    assert store.get(b"k") is None


def test_a_key_is_never_readable_at_or_after_its_deadline() -> None:
    """Seed, defect 9: get never looked at the deadline. And 10: whole seconds, up to 1 s early."""
    store = store_with(insert(b"k", ttl_ms=1500), now_ms=1000)
    apply(store, now_ms=2499)
    assert store.get(b"k") == b"v"
    apply(store, now_ms=2500)
    assert store.get(b"k") is None
    assert store.scan_prefix(b"") == ([], False)
    assert len(store) == 0


def test_a_batch_expires_what_is_due_before_its_first_command() -> None:
    store = store_with(insert(b"k", b"old", ttl_ms=10), insert(b"n", b"41", ttl_ms=10))
    results = apply(store, swap(b"k", None, b"new"), add(b"n", 1), now_ms=10)
    assert results == [True, 1]
    assert store.deadline_ms(b"k") is None
    assert store.deadline_ms(b"n") is None


def test_an_insert_that_is_due_does_not_bring_the_older_value_back() -> None:
    """Seed, defect 5: an expired insert was skipped at replay, and the older value came back."""
    store = store_with(put((b"k", b"older")))
    apply(store, insert(b"k", b"newer", ttl_ms=10), now_ms=100)
    apply(store, insert(b"x", b"v", expire_at_ms=50), put((b"y", b"older")), now_ms=200)
    apply(store, insert(b"y", b"newer", expire_at_ms=150))
    assert store.get_many([b"k", b"x", b"y"]) == [None, None, None]


def test_a_key_written_anew_is_not_deleted_by_its_former_deadline() -> None:
    """Seed, defect 11: the cleanup deleted the new value of a key that had been due."""
    store = store_with(insert(b"k", b"1", ttl_ms=10))
    apply(store, insert(b"k", b"2", ttl_ms=100), now_ms=10)
    apply(store, now_ms=99)
    assert store.get(b"k") == b"2"


def test_replaying_the_same_batches_gives_the_same_store_at_any_later_time() -> None:
    """Seed, defects 4, 5 and 10: what a replay made of leases depended on when it ran."""
    history = [
        batch_of(insert(b"a", b"1", ttl_ms=100), insert(b"b", b"1", ttl_ms=5000), now_ms=1000),
        batch_of(swap(b"a", b"1", b"2"), now_ms=1050),
        batch_of(insert(b"c", b"1", ttl_ms=10), expire(b"b", ttl_ms=200), now_ms=1100),
        batch_of(add(b"n", 1), delete(b"a"), now_ms=1110),
    ]
    first, second = Store(), Store()
    outcomes = [apply_batch(first, batch) for batch in history]
    assert [apply_batch(second, batch) for batch in history] == outcomes
    assert second.digest() == first.digest()
    parts = view_of(first)
    assert parts.columns.values == {b"b": b"1", b"n": b"1"}
    assert parts.columns.deadlines == {b"b": 1300}
    assert (parts.clock_ms, parts.origins) == (1110, {})


# The bound on expiry


@pytest.fixture
def two_per_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statemachine.keyspace.EXPIRE_PER_BATCH_MAX", 2)


def crowd() -> Store:
    """k0..k5, due at 10, 11, 12...; and p, which is not."""
    inserts = [insert(b"k%d" % n, b"1", ttl_ms=10 + n) for n in range(6)]
    return store_with(*inserts, put((b"p", b"1")))


@pytest.mark.usefixtures("two_per_batch")
def test_a_batch_expires_only_so_many_soonest_first_and_the_next_batches_the_rest() -> None:
    store = crowd()
    for left in ([2, 3, 4, 5], [4, 5], []):
        apply(store, now_ms=100)
        assert list(view_of(store).columns.order) == [b"k%d" % n for n in left] + [b"p"]
        # While something is left over the leader is told that it is due.
        assert store.next_deadline_ms() == (10 + left[0] if left else None)


@pytest.mark.usefixtures("two_per_batch")
def test_no_read_sees_what_the_bound_left_over_and_none_removes_it() -> None:
    store = crowd()
    apply(store, now_ms=100)
    digest = store.digest()
    keys = [b"k%d" % n for n in range(6)]
    assert store.get(b"k5") is None
    assert store.get_many([*keys, b"p"]) == [None] * 6 + [b"1"]
    assert not store.exists(b"k5")
    assert store.deadline_ms(b"k5") is None
    assert len(store) == 1
    assert store.scan_prefix(b"k") == ([], False)
    assert store.scan_range(b"", None, limit=1) == ([(b"p", b"1")], False)
    assert store.scan_range(b"", None, limit=1, reverse=True) == ([(b"p", b"1")], False)
    assert store.keys_page(None, 1) == ([b"p"], None)
    assert store.digest() == digest


@pytest.mark.usefixtures("two_per_batch")
def test_no_command_sees_what_the_bound_left_over() -> None:
    absent = [
        (insert(b"k5", b"2", condition=1), True),
        (insert(b"k5", b"2", return_old=True), None),
        (insert(b"k5", b"2", condition=2), False),
        (insert(b"k5", b"2", keep_ttl=True), True),
        (swap(b"k5", None, b"2"), True),
        (swap(b"k5", b"1", b"2"), False),
        (add(b"k5", 1), 1),
        (delete(b"k5"), 0),
        (expire(b"k5", ttl_ms=1000), 0),
        (persist(b"k5"), 0),
        (flush(), 1),
    ]
    for command, want in absent:
        store = crowd()
        assert apply(store, command, now_ms=100) == [want]
        assert store.deadline_ms(b"k5") is None
        for _ in range(3):
            apply(store, now_ms=100)
        goes_through = want in (True, 1, None) and not command.HasField("flush")
        assert store.exists(b"k5") == goes_through, command


@pytest.mark.usefixtures("two_per_batch")
def test_a_restored_store_goes_on_expiring_where_the_first_one_was() -> None:
    store, restored = crowd(), Store()
    apply(store, now_ms=100)
    restored.restore(view_of(store))
    assert restored.get(b"k5") is None
    assert len(restored) == 1
    for _ in range(3):
        assert apply(store) == apply(restored)
        assert restored.digest() == store.digest()
    assert list(view_of(restored).columns.order) == [b"p"]
