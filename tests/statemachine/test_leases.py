"""Deadlines in order, also against a plain dict. Names are the seed's where it has the case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine.leases import Leases

ALL = 1_000_000


def leases_of(**deadlines: int) -> Leases:
    return Leases({key.encode(): deadline_ms for key, deadline_ms in deadlines.items()})


def test_a_lease_is_due_at_its_deadline_and_not_before() -> None:
    leases = leases_of(a=100)
    assert leases.due_count(99) == 0
    assert leases.take_due(99, ALL) == []
    assert leases.due_count(100) == 1
    assert leases.take_due(100, ALL) == [b"a"]
    assert len(leases) == 0


def test_register_and_get_expired() -> None:
    leases = leases_of(a=10, b=20, c=30)
    assert leases.take_due(20, ALL) == [b"a", b"b"]
    assert leases.next_deadline_ms() == 30


def test_unregister() -> None:
    leases = leases_of(a=10)
    leases.revoke(b"a", 10)
    assert not leases
    assert leases.take_due(ALL, ALL) == []


def test_revoking_what_is_not_there_is_an_error_not_a_silence() -> None:
    leases = leases_of(a=10)
    for key, deadline_ms in ((b"a", 11), (b"b", 10)):
        with pytest.raises(ValueError, match="not in list"):
            leases.revoke(key, deadline_ms)
    assert len(leases) == 1


def test_a_lease_may_be_granted_anew_later_or_sooner() -> None:
    leases = leases_of(a=20)
    leases.revoke(b"a", 20)
    leases.grant(b"a", 10)
    assert leases.take_due(10, ALL) == [b"a"]
    assert leases.take_due(20, ALL) == []


def test_due_leases_leave_by_deadline_and_then_by_key_whatever_the_order_of_grants() -> None:
    want = [b"z", b"a", b"a\0", b"b", b"c"]
    for order in ([b"c", b"a", b"z", b"a\0", b"b"], [b"z", b"b", b"a\0", b"a", b"c"]):
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


def test_the_last_moment_there_is_is_a_deadline_like_any_other() -> None:
    last_ms = 2**63 - 1
    leases = leases_of(a=last_ms)
    assert leases.take_due(last_ms - 1, ALL) == []
    assert leases.next_deadline_ms() == last_ms
    assert leases.take_due(last_ms, ALL) == [b"a"]


def test_ten_long_leases_do_not_hide_one_that_is_due() -> None:
    """Seed, defect 11: a sample of ten entries decided whether anything was due."""
    leases = Leases({b"long%d" % n: ALL for n in range(10)} | {b"short": 1})
    assert leases.take_due(1, ALL) == [b"short"]


def test_nothing_stale_stays_when_leases_are_kept_alive_or_revoked() -> None:
    leases = leases_of(a=0)
    for now_ms in range(5_000):
        leases.revoke(b"a", now_ms)
        leases.grant(b"a", now_ms + 1)
    assert len(leases) == 1
    leases.revoke_many({b"a": 5_000})
    assert len(leases) == 0


KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b""])
STEPS = st.one_of(
    st.tuples(st.just("grant"), KEYS, st.integers(1, 20)),
    st.tuples(st.just("revoke"), KEYS, st.none()),
    st.tuples(st.just("due"), st.integers(0, 20), st.integers(0, 3)),
)


@given(st.lists(STEPS, max_size=60))
def test_the_index_does_what_a_dict_would(steps: list[tuple[str, object, object]]) -> None:
    leases = Leases()
    plain: dict[bytes, int] = {}
    for what, first, second in steps:
        if what == "due":
            assert isinstance(first, int)
            assert isinstance(second, int)
            due = sorted((ms, key) for key, ms in plain.items() if ms <= first)
            assert leases.due_count(first) == len(due)
            taken = [key for _, key in due[:second]]
            assert leases.take_due(first, second) == taken
            for key in taken:
                del plain[key]
        else:
            assert isinstance(first, bytes)
            if first in plain:
                leases.revoke(first, plain.pop(first))
            if what == "grant":
                assert isinstance(second, int)
                leases.grant(first, second)
                plain[first] = second
        in_order = sorted((deadline_ms, key) for key, deadline_ms in plain.items())
        assert [(deadline_ms, key) for key, deadline_ms in leases.items()] == in_order
        assert leases.next_deadline_ms() == min(plain.values(), default=None)
