"""What commands do to deadlines: set, keep, cut, lose, refuse. Times are the replicated clock's."""

from __future__ import annotations

from typing import Any

import pytest

from statemachine.commands import TIME_MS_MAX, Condition, ExpireCondition, WriteCommand
from statemachine.store import Refusal, Store
from tests.statemachine.batches import (
    add,
    apply,
    delete,
    delete_keys,
    expire,
    flush,
    insert,
    persist,
    put,
    store_with,
    swap,
)

NOW_MS = 1_000_000
BAD_SET_TIME = Refusal("ERR", "invalid expire time in 'set' command")
BAD_EXPIRE_TIME = Refusal("ERR", "invalid expire time in 'expire' command")


def leased_store(ttl_ms: int = 500) -> Store:
    """k = v, due 500 ms from now; p = v without a deadline."""
    return store_with(insert(b"k", b"v", ttl_ms=ttl_ms), put((b"p", b"v")), now_ms=NOW_MS)


# insert


@pytest.mark.parametrize(
    ("expiry", "deadline_ms"),
    [
        pytest.param({"ttl_secs": 3}, NOW_MS + 3000, id="EX"),
        pytest.param({"ttl_ms": 3}, NOW_MS + 3, id="PX"),
        pytest.param({"expire_at_ms": NOW_MS + 1}, NOW_MS + 1, id="PXAT"),
        pytest.param({"keep_ttl": True}, NOW_MS + 500, id="KEEPTTL"),
        pytest.param({}, None, id="none"),
        pytest.param({"ttl_ms": TIME_MS_MAX - NOW_MS}, TIME_MS_MAX, id="the last moment"),
    ],
)
def test_insert_sets_the_deadline_that_it_names(
    expiry: dict[str, Any], deadline_ms: int | None
) -> None:
    store = leased_store()
    assert apply(store, insert(b"k", b"new", **expiry)) == [True]
    assert store.get(b"k") == b"new"
    assert store.deadline_ms(b"k") == deadline_ms


def test_an_insert_that_did_not_go_through_leaves_the_deadline_alone() -> None:
    store = leased_store()
    assert apply(store, insert(b"k", condition=Condition.IF_ABSENT)) == [False]
    assert store.deadline_ms(b"k") == NOW_MS + 500


def test_keep_ttl_on_a_key_without_a_deadline_gives_it_none() -> None:
    store = leased_store()
    apply(store, insert(b"p", b"new", keep_ttl=True), insert(b"x", keep_ttl=True))
    assert store.deadline_ms(b"p") is None
    assert store.deadline_ms(b"x") is None


@pytest.mark.parametrize("expire_at_ms", [1, NOW_MS])
def test_insert_with_a_deadline_in_the_past_succeeds_and_the_key_is_gone(
    expire_at_ms: int,
) -> None:
    store = leased_store()
    command = insert(b"k", b"new", expire_at_ms=expire_at_ms, return_old=True)
    assert apply(store, command) == [b"v"]
    assert not store.exists(b"k")
    assert store.next_deadline_ms() is None


@pytest.mark.parametrize(
    "expiry",
    [
        pytest.param({"ttl_ms": TIME_MS_MAX - NOW_MS + 1}, id="one ms too far"),
        pytest.param({"ttl_ms": 2**64 - 1}, id="what -1 looks like as u64"),
        pytest.param({"ttl_secs": 2**64 - 1}, id="seconds"),
        pytest.param({"expire_at_ms": TIME_MS_MAX + 1}, id="absolute"),
    ],
)
def test_a_ttl_too_large_for_the_clock_is_refused_before_anything_changes(
    expiry: dict[str, Any],
) -> None:
    """Seed, defect 10: a huge TTL overflowed and brought every node down (a poison pill)."""
    store = leased_store()
    before = store.digest()
    # The time is checked before the condition, as Redis does it.
    for command in (insert(b"k", **expiry), insert(b"k", condition=1, **expiry)):
        assert apply(store, command) == [BAD_SET_TIME]
    assert store.digest() == before


# Whatever replaces the value frees the key from its lease.


@pytest.mark.parametrize("write", [insert(b"k", b"v"), put((b"k", b"v"), (b"x", b"v"))])
def test_insert_without_ttl_frees_the_key_from_its_lease(write: WriteCommand) -> None:
    """Seed, defect 6: the lease stayed, and the permanent key was deleted later."""
    store = leased_store()
    apply(store, write)
    assert store.deadline_ms(b"k") is None
    apply(store, now_ms=NOW_MS + 10_000)
    assert store.get(b"k") == b"v"


def test_swap_frees_the_key_from_its_lease_and_a_failed_swap_does_not() -> None:
    """Seed, defect 6, its second half."""
    store = leased_store()
    apply(store, swap(b"k", b"wrong", b"new"))
    assert store.deadline_ms(b"k") == NOW_MS + 500
    apply(store, swap(b"k", b"v", b"new"))
    assert store.deadline_ms(b"k") is None
    apply(store, now_ms=NOW_MS + 10_000)
    assert store.get(b"k") == b"new"


@pytest.mark.parametrize("removal", [delete(b"k"), delete_keys(b"k"), flush()])
def test_a_deleted_key_takes_its_lease_along(removal: WriteCommand) -> None:
    """Seed: ttl_delete_unregisters. Else a key made anew would fall due by the old deadline."""
    store = leased_store()
    apply(store, removal, add(b"k", 1))
    assert store.deadline_ms(b"k") is None
    apply(store, now_ms=NOW_MS + 10_000)
    assert store.get(b"k") == b"1"


def test_ttl_update_cancels_previous() -> None:
    """Seed: a TTL of 2 s, then one of 10 s: alive at 3 s."""
    store = store_with(insert(b"k", b"1", ttl_secs=2))
    apply(store, insert(b"k", b"2", ttl_secs=10))
    apply(store, now_ms=3_000)
    assert store.get(b"k") == b"2"
    apply(store, now_ms=10_000)
    assert store.get(b"k") is None


# expire, persist


@pytest.mark.parametrize(
    ("condition", "on_none", "on_later", "on_same", "on_sooner"),
    [
        pytest.param(ExpireCondition.EXPIRE_ALWAYS, 1, 1, 1, 1, id="always"),
        pytest.param(ExpireCondition.EXPIRE_IF_NONE, 1, 0, 0, 0, id="NX"),
        pytest.param(ExpireCondition.EXPIRE_IF_ANY, 0, 1, 1, 1, id="XX"),
        pytest.param(ExpireCondition.EXPIRE_IF_LATER, 0, 1, 0, 0, id="GT"),
        pytest.param(ExpireCondition.EXPIRE_IF_SOONER, 1, 0, 0, 1, id="LT"),
    ],
)
def test_expire_goes_through_when_its_condition_holds(
    condition: int, on_none: int, on_later: int, on_same: int, on_sooner: int
) -> None:
    """The new deadline is NOW + 500; `on_later` means that it is later than the old one."""
    for current_ttl_ms, want in (
        (None, on_none),
        (100, on_later),
        (500, on_same),
        (900, on_sooner),
    ):
        ttl: dict[str, Any] = {} if current_ttl_ms is None else {"ttl_ms": current_ttl_ms}
        for new in ({"ttl_ms": 500}, {"expire_at_ms": NOW_MS + 500}):
            store = store_with(insert(b"k", **ttl), now_ms=NOW_MS)
            assert apply(store, expire(b"k", condition=condition, **new)) == [want]
            before_ms = None if current_ttl_ms is None else NOW_MS + current_ttl_ms
            assert store.deadline_ms(b"k") == (NOW_MS + 500 if want else before_ms)
            assert store.get(b"k") == b"v"


@pytest.mark.parametrize(
    "past",
    [
        {"ttl_ms": 0},
        {"ttl_ms": -1},
        {"ttl_ms": -(2**63)},
        {"expire_at_ms": 0},
        {"expire_at_ms": NOW_MS},
        {"expire_at_ms": -(2**63)},
    ],
)
def test_expire_in_the_past_deletes_the_key(past: dict[str, int]) -> None:
    store = leased_store()
    assert apply(store, expire(b"k", **past), expire(b"p", **past)) == [1, 1]
    assert len(store) == 0
    assert store.next_deadline_ms() is None


@pytest.mark.parametrize("key", [b"k", b"absent"])
@pytest.mark.parametrize(
    "far", [{"ttl_ms": TIME_MS_MAX - NOW_MS + 1}, {"ttl_ms": TIME_MS_MAX}], ids=["by one", "by far"]
)
def test_an_expire_too_large_for_the_clock_is_refused(key: bytes, far: dict[str, int]) -> None:
    store = leased_store()
    assert apply(store, expire(key, **far)) == [BAD_EXPIRE_TIME]
    assert store.deadline_ms(b"k") == NOW_MS + 500


def test_expire_and_persist_of_an_absent_key_answer_0() -> None:
    assert apply(Store(), expire(b"x", ttl_ms=5), persist(b"x")) == [0, 0]


def test_persist_answers_whether_there_was_a_deadline() -> None:
    store = leased_store()
    assert apply(store, persist(b"k"), persist(b"k"), persist(b"p")) == [1, 0, 0]
    apply(store, now_ms=NOW_MS + 10_000)
    assert store.get(b"k") == b"v"
