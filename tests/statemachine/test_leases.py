"""The lease table, also against a plain dict. Names are the seed's where it has the case."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from statemachine.leases import Leases

ALL = 1_000_000


def leases_of(**deadlines: int) -> Leases:
    return Leases({key.encode(): deadline_ms for key, deadline_ms in deadlines.items()})


def test_a_lease_is_due_at_its_deadline_and_not_before() -> None:
    leases = leases_of(a=100)
    assert not leases.is_due(b"a", 99)
    assert leases.take_due(99, ALL) == []
    assert leases.is_due(b"a", 100)
    assert leases.take_due(100, ALL) == [b"a"]
    assert len(leases) == 0


def test_register_and_get_expired() -> None:
    leases = leases_of(a=10, b=20, c=30)
    assert leases.take_due(20, ALL) == [b"a", b"b"]
    assert leases.deadlines() == {b"c": 30}


def test_unregister() -> None:
    leases = leases_of(a=10)
    assert leases.revoke(b"a")
    assert b"a" not in leases
    assert leases.take_due(ALL, ALL) == []


def test_unregister_nonexistent_key() -> None:
    assert not Leases().revoke(b"a")


def test_get_expiration() -> None:
    leases = leases_of(a=10)
    assert leases.deadline_ms(b"a") == 10
    assert leases.deadline_ms(b"b") is None


def test_register_updates_existing_key() -> None:
    leases = leases_of(a=10)
    leases.grant(b"a", 20)
    assert len(leases) == 1
    assert leases.take_due(10, ALL) == []
    assert leases.take_due(20, ALL) == [b"a"]


def test_a_lease_may_also_be_cut_short() -> None:
    leases = leases_of(a=20)
    leases.grant(b"a", 10)
    assert leases.take_due(10, ALL) == [b"a"]
    assert leases.take_due(20, ALL) == []


def test_a_key_that_was_revoked_and_granted_the_same_deadline_again_is_due_once() -> None:
    leases = leases_of(a=10)
    leases.revoke(b"a")
    leases.grant(b"a", 10)
    assert leases.take_due(10, ALL) == [b"a"]
    leases.grant(b"a", 10)
    assert leases.take_due(10, ALL) == [b"a"]


def test_due_leases_leave_by_deadline_and_then_by_key_whatever_the_order_of_grants() -> None:
    want = [b"z", b"a", b"b", b"c"]
    for order in ([b"c", b"a", b"z", b"b"], [b"z", b"b", b"a", b"c"]):
        leases = Leases()
        for key in order:
            leases.grant(key, 5 if key == b"z" else 10)
        assert leases.take_due(10, ALL) == want


def test_no_more_are_taken_than_asked_for_and_the_rest_stays_due() -> None:
    leases = leases_of(a=1, b=2, c=3, d=99)
    assert leases.take_due(50, 2) == [b"a", b"b"]
    assert leases.next_deadline_ms() == 3
    assert leases.due_count(50) == 1
    assert leases.take_due(50, 2) == [b"c"]
    assert leases.due_count(50) == 0


def test_next_deadline_is_the_soonest_that_still_counts() -> None:
    leases = leases_of(a=1, b=2, c=3)
    leases.revoke(b"a")
    leases.grant(b"b", 9)
    assert leases.next_deadline_ms() == 3
    leases.clear()
    assert leases.next_deadline_ms() is None


def test_ten_long_leases_do_not_hide_one_that_is_due() -> None:
    """Seed, defect 11: a sample of ten entries decided whether anything was due."""
    leases = Leases({b"long%d" % n: ALL for n in range(10)} | {b"short": 1})
    assert leases.take_due(1, ALL) == [b"short"]


def test_revoke_many_takes_the_leased_ones_and_ignores_the_others() -> None:
    leases = leases_of(a=1, b=2, c=3)
    leases.revoke_many([b"x", b"a", b"c", b"a"])
    assert leases.deadlines() == {b"b": 2}
    assert leases.take_due(ALL, ALL) == [b"b"]


def test_the_table_is_a_copy_of_what_it_was_made_from_and_hands_out_copies() -> None:
    source = {b"a": 1}
    leases = Leases(source)
    source.clear()
    leases.deadlines().clear()
    assert leases.deadlines() == {b"a": 1}


def test_stale_entries_do_not_pile_up_when_leases_are_kept_alive_or_revoked() -> None:
    """Looks inside: what it guards is memory, which no result shows."""
    leases = Leases()
    for now_ms in range(20_000):
        leases.grant(b"a", now_ms)
    assert len(leases._heap) < 2_000
    for n in range(20_000):
        leases.grant(b"%d" % n, 10**6 + n)
    for n in range(20_000):
        leases.revoke(b"%d" % n)
    assert len(leases._heap) < 2_000
    assert leases.take_due(ALL, ALL) == [b"a"]


KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
STEPS = st.one_of(
    st.tuples(st.just("grant"), KEYS, st.integers(1, 20)),
    st.tuples(st.just("revoke"), KEYS, st.none()),
    st.tuples(st.just("due"), st.integers(0, 20), st.integers(0, 3)),
)


@given(st.lists(STEPS, max_size=60))
def test_the_table_does_what_a_dict_would(steps: list[tuple[str, object, object]]) -> None:
    leases = Leases()
    plain: dict[bytes, int] = {}
    for what, first, second in steps:
        if what == "grant":
            assert isinstance(first, bytes)
            assert isinstance(second, int)
            leases.grant(first, second)
            plain[first] = second
        elif what == "revoke":
            assert isinstance(first, bytes)
            assert leases.revoke(first) == (plain.pop(first, None) is not None)
        else:
            assert isinstance(first, int)
            assert isinstance(second, int)
            due = sorted((ms, key) for key, ms in plain.items() if ms <= first)
            assert leases.due_count(first) == len(due)
            taken = [key for _, key in due[:second]]
            assert leases.take_due(first, second) == taken
            for key in taken:
                del plain[key]
        assert leases.deadlines() == plain
        assert leases.next_deadline_ms() == min(plain.values(), default=None)
