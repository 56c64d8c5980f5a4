"""Grants: ids and serials, the order in which things go, and the bound on what goes at once."""

from __future__ import annotations

import pytest

from statemachine.errors import Rejected
from statemachine.grants import Grant, GrantParts, Grants
from statemachine.store import Store
from tests.statemachine import batches as make


def test_ids_count_up_and_step_over_those_that_are_taken() -> None:
    grants = Grants()
    assert [grants.grant(0, 10, 0), grants.grant(3, 10, 0), grants.grant(0, 10, 0)] == [1, 3, 4]
    assert grants.grant(4, 10, 0) is None
    assert grants.grant(0, 10, 0) == 5
    assert grants.last_serial == 5


def test_an_id_may_come_back_while_the_keys_of_the_old_one_are_being_swept() -> None:
    grants = Grants()
    grants.grant(7, 10, 0)
    for key in (b"b", b"a", b"c"):
        grants.attach(1, key)
    assert grants.take_due(10, 2) == [b"a", b"b"]
    assert grants.lease(7, 10) is None
    assert grants.grant(7, 10, 10) == 7
    grants.attach(2, b"new")
    assert (grants.due_count(10), grants.keys(7, 10, 9)) == (1, [b"new"])
    again = Grants(grants.parts(), [(1, b"c"), (2, b"new")])
    for each in (grants, again):
        assert each.take_due(10, 9) == [b"c"]
        assert [lease.id for lease in each.page(0, 9, 10)] == [7]
        assert each.take_due(20, 9) == [b"new"]
        assert each.next_deadline_ms() is None


def test_what_is_due_goes_by_deadline_and_serial_and_a_lease_without_keys_is_work_too() -> None:
    grants = Grants()
    for ttl_ms in (30, 10, 10, 20):
        serial = grants.grant(0, ttl_ms, 0)
        assert serial is not None
        grants.attach(serial, b"%d" % serial)
    grants.detach(3, b"3")
    assert grants.take_due(20, 2) == [b"2"], "a key, and its lease"
    assert grants.take_due(20, 1) == [], "a lease without keys"
    assert grants.take_due(20, 2) == [b"4"]
    assert (grants.take_due(29, 9), grants.take_due(30, 9)) == ([], [b"1"])


def test_a_lease_of_many_keys_goes_at_one_moment_and_in_bounded_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("statemachine.keyspace.EXPIRE_PER_BATCH_MAX", 10)
    store = make.store_with(
        make.grant(100, 1), *(make.insert(b"%02d" % n, lease=1) for n in range(35))
    )
    make.apply(store, make.put((b"x", b"")), now_ms=100)
    batches = 1
    while store.next_deadline_ms() is not None:
        assert (len(store), store.scan_prefix(b"")[0]) == (1, [(b"x", b"")])
        assert store.get(b"34") is None
        assert store.facts(b"34") is None
        make.apply(store)
        batches += 1
    assert batches == 4
    assert len(store) == 1


def test_a_revoked_lease_is_gone_in_the_same_batch() -> None:
    store = make.store_with(make.grant(100, 1), make.insert(b"k", b"1", lease=1))
    old = make.insert(b"k", b"2", return_old=True)
    assert make.apply(store, make.revoke(1), old, make.revoke(1)) == [1, None, 0]
    facts = store.facts(b"k")
    assert facts is not None
    assert (facts.created, facts.lease, facts.deadline_ms) == (2, 0, None)


def test_parts_that_do_not_fit_together_are_refused() -> None:
    store = Store()
    with pytest.raises(Rejected, match="a key hangs on a lease that is not there"):
        store.restore(
            make.parts_of({b"k": b""}, {b"k": -2}, grants=GrantParts(1, {1: Grant(1, 1, 1)}))
        )
    assert len(store) == 0
