"""The lazy key order: whatever was touched, in whatever order, it reads as sorted(data) would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine.ordered import KeyOrder, prefix_end


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        (b"", None),
        (b"a", b"b"),
        (b"a:", b"a;"),
        (b"a\xff", b"b"),
        (b"a\xfe\xff\xff", b"a\xff"),
        (b"\xff", None),
        (b"\xff\xff", None),
    ],
)
def test_a_prefix_ends_where_no_key_can_start_with_it(prefix: bytes, end: bytes | None) -> None:
    assert prefix_end(prefix) == end


@given(st.binary(max_size=3), st.binary(max_size=5))
def test_a_key_is_below_the_end_exactly_if_it_starts_with_the_prefix(
    prefix: bytes, key: bytes
) -> None:
    end = prefix_end(prefix)
    assert (key >= prefix and (end is None or key < end)) == key.startswith(prefix)


def test_bounds_are_start_inclusive_end_exclusive() -> None:
    order = KeyOrder({b"a": 0, b"b": 0, b"c": 0, b"d": 0})
    assert list(order.between(b"b", b"d")) == [b"b", b"c"]
    assert list(order.between(b"b", b"d", after_start=True)) == [b"c"]
    assert list(order.between(None, None)) == [b"a", b"b", b"c", b"d"]
    assert list(order.between(b"b", None, reverse=True)) == [b"d", b"c", b"b"]
    assert list(order.between(b"b", b"d", reverse=True)) == [b"c", b"b"]


@pytest.mark.parametrize(("start", "end"), [(b"b", b"b"), (b"c", b"a")])
def test_a_range_that_ends_before_it_starts_is_empty(start: bytes, end: bytes) -> None:
    assert list(KeyOrder({b"a": 0, b"b": 0, b"c": 0}).between(start, end)) == []


def test_touching_is_free_before_the_first_read_and_bounded_after_it() -> None:
    """Looks inside: what it guards is memory, which no result shows."""
    data: dict[bytes, int] = {}
    order = KeyOrder(data)
    for round_ in range(2):
        for n in range(10_000):
            data[b"%d:%d" % (round_, n)] = n
            order.touch(b"%d:%d" % (round_, n))
            assert len(order._touched) <= len(data) // 4 + 100
        assert round_ == 1 or not order._touched
        assert list(order.between(None, None)) == sorted(data)
    for _ in range(20_000):
        order.touch(b"0:0")  # The same key over and over: an index is not worth less for it.
    assert len(order._touched) == 1


EMPTY: st.SearchStrategy[list[bytes]] = st.just([])
KEYS = st.sampled_from([b"%d" % n for n in range(30)])
STEPS: st.SearchStrategy[tuple[str, list[bytes]]] = st.one_of(
    st.tuples(st.just("set"), st.lists(KEYS, min_size=1, max_size=10)),
    st.tuples(st.just("remove"), st.lists(KEYS, min_size=1, max_size=10)),
    st.tuples(st.just("read"), EMPTY),
    st.tuples(st.just("forget"), EMPTY),
)


@pytest.mark.parametrize("merge_min", [0, 1_000], ids=["drops often", "merges always"])
@given(steps=st.lists(STEPS, max_size=40))
def test_an_ordered_read_is_sorted_data(
    merge_min: int, steps: list[tuple[str, list[bytes]]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("statemachine.ordered._MERGE_MIN", merge_min)
        data = {b"%d" % n: b"" for n in range(0, 30, 2)}
        order = KeyOrder(data)
        for what, keys in [*steps, ("read", [])]:
            if what == "set":
                data.update(dict.fromkeys(keys, b""))
                order.touch_many(keys)
            elif what == "remove":
                for key in keys:
                    data.pop(key, None)
                    order.touch(key)
            elif what == "forget":
                order.forget()
            else:
                assert list(order.between(None, None)) == sorted(data)
