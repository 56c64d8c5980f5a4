"""Reads: get_many at one moment, scans in order with limits, pages that miss nothing."""

from __future__ import annotations

import pytest

from statemachine.store import Store
from tests.statemachine.batches import apply, delete, insert, put, store_with

NAMES = [b"", b"a", b"a:1", b"a:2", b"a:3", b"a;", b"b", b"\xfe", b"\xff", b"\xff\xffz"]


def named_store() -> Store:
    return store_with(put(*[(name, b"=" + name) for name in reversed(NAMES)]))


def names(scan: tuple[list[tuple[bytes, bytes]], bool]) -> list[bytes]:
    items, _ = scan
    assert all(value == b"=" + key for key, value in items)
    return [key for key, _ in items]


def test_get_many_returns_values_in_the_order_of_the_keys_and_none_for_absent_ones() -> None:
    store = named_store()
    assert store.get_many([b"b", b"absent", b"a", b"b"]) == [b"=b", None, b"=a", b"=b"]
    assert store.get_many([]) == []


def test_an_unleased_key_exists_without_a_deadline() -> None:
    store = named_store()
    assert store.exists(b"a")
    assert not store.exists(b"absent")
    assert store.deadline_ms(b"a") is None
    assert store.deadline_ms(b"absent") is None
    assert len(store) == len(NAMES)


@pytest.mark.parametrize(
    ("prefix", "want"),
    [
        pytest.param(b"a:", [b"a:1", b"a:2", b"a:3"], id="excludes the adjacent namespace"),
        pytest.param(b"\xff", [b"\xff", b"\xff\xffz"], id="nothing is behind 0xff"),
        pytest.param(b"\xfe", [b"\xfe"], id="0xfe"),
        pytest.param(b"nobody", [], id="empty namespace"),
        pytest.param(b"", sorted(NAMES), id="everything"),
    ],
)
def test_scan_prefix_gives_the_keys_that_start_with_it_in_order(
    prefix: bytes, want: list[bytes]
) -> None:
    assert names(named_store().scan_prefix(prefix)) == want


@pytest.mark.parametrize(
    ("limit", "after", "want", "more"),
    [
        (2, None, [b"a:1", b"a:2"], True),
        (3, None, [b"a:1", b"a:2", b"a:3"], False),
        (0, None, [], True),
        (2, b"a:1", [b"a:2", b"a:3"], False),
        (None, b"a:15", [b"a:2", b"a:3"], False),
        (None, b"a", [b"a:1", b"a:2", b"a:3"], False),
        (None, b"b", [], False),
    ],
)
def test_scan_prefix_stops_at_its_limit_and_goes_on_behind_a_key(
    limit: int | None, after: bytes | None, want: list[bytes], more: bool
) -> None:
    scan = named_store().scan_prefix(b"a:", limit=limit, after=after)
    assert names(scan) == want
    assert scan[1] == more


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_a_scan_resumed_page_by_page_is_the_whole_scan(limit: int) -> None:
    store = named_store()
    found: list[bytes] = []
    more = True
    while more:
        scan = store.scan_prefix(b"", limit=limit, after=found[-1] if found else None)
        found += names(scan)
        more = scan[1]
    assert found == sorted(NAMES)


def test_scan_range_is_start_inclusive_end_exclusive_and_goes_both_ways() -> None:
    store = named_store()
    assert names(store.scan_range(b"a:1", b"b")) == [b"a:1", b"a:2", b"a:3", b"a;"]
    backwards = store.scan_range(b"a:1", b"b", limit=3, reverse=True)
    assert names(backwards) == [b"a;", b"a:3", b"a:2"]
    assert backwards[1]
    assert names(store.scan_range(b"\xfe", None)) == [b"\xfe", b"\xff", b"\xff\xffz"]
    assert store.scan_range(b"b", b"a") == ([], False)


@pytest.mark.parametrize("count", [0, 1, 3, 10, 11])
def test_pages_give_every_key_once_and_then_end(count: int) -> None:
    store = named_store()
    keys, after = store.keys_page(None, count)
    while after is not None:
        assert len(keys) % max(1, count) == 0
        page, after = store.keys_page(after, count)
        keys += page
    assert keys == sorted(NAMES)


def test_pages_miss_no_key_that_is_there_throughout_while_others_come_and_go() -> None:
    store = named_store()
    found: list[bytes] = []
    after: bytes | None = None
    for n in range(100):
        page, after = store.keys_page(after, 1)
        found += page
        if after is None:
            break
        apply(store, put((b"a:0%d" % n, b"")), delete(b"a:0%d" % (n - 1)), delete(after))
    assert [key for key in found if not key.startswith(b"a:0")] == sorted(NAMES)


def test_scans_see_every_change_since_the_last_one() -> None:
    store = named_store()
    assert len(names(store.scan_prefix(b"a"))) == 5
    apply(store, delete(b"a:2"), put((b"a:4", b"=a:4")), insert(b"a:1", b"=a:1", ttl_ms=5))
    assert names(store.scan_prefix(b"a")) == [b"a", b"a:1", b"a:3", b"a:4", b"a;"]
    apply(store, now_ms=5)
    assert names(store.scan_prefix(b"a")) == [b"a", b"a:3", b"a:4", b"a;"]
