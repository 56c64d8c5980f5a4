"""Removals: what came and went is not taken for what was never there. Bounded."""

from __future__ import annotations

from statemachine.removals import REMOVALS_MAX, RemovalParts, Removals
from statemachine.store import Store
from tests.statemachine import batches as make


def test_it_was_there_if_it_was_changed_since() -> None:
    removals = Removals()
    removals.note(b"k", 5)
    assert [removals.was_there_since(b"k", seen) for seen in (4, 5, 6)] == [True, False, False]
    assert not removals.was_there_since(b"other", 0)
    removals.note(b"k", 3)
    assert removals.was_there_since(b"k", 4), "the later change counts"


def test_what_is_forgotten_counts_as_there() -> None:
    removals = Removals()
    for number in range(REMOVALS_MAX + 2):
        removals.note(b"%d" % number, 10 + number)
    assert removals.was_there_since(b"never", 10)
    assert not removals.was_there_since(b"never", 11)
    assert removals.was_there_since(b"%d" % (REMOVALS_MAX + 1), 100)
    parts = removals.parts()
    assert (parts.floor, len(parts.revisions)) == (11, REMOVALS_MAX)
    again = Removals(parts)
    again.note(b"x", 9_999)
    assert again.parts().floor == 12, "the oldest goes first, after an image as well"


def test_a_flush_of_many_keys_is_one_line() -> None:
    store = Store()
    many = [b"%d" % number for number in range(REMOVALS_MAX + 1)]
    make.apply(store, make.put(*((key, b"") for key in many)))
    make.apply(store, make.flush())
    assert store.removals.parts() == RemovalParts(2, {})
    make.apply(store, make.put(*((key, b"") for key in many[1:])))
    make.apply(store, make.flush())
    assert len(store.removals.parts().revisions) == REMOVALS_MAX
    assert store.removals.parts().floor == 2


def test_every_way_to_go_is_noted() -> None:
    ways = [
        make.delete(b"k"), make.delete_keys(b"k"), make.flush(), make.expire(b"k", ttl_ms=0),
        make.insert(b"k", expire_at_ms=1),
    ]  # fmt: skip
    for way in ways:
        store = make.store_with(make.insert(b"k"), now_ms=5)
        make.apply(store, way, now_ms=5)
        assert not store.exists(b"k")
        assert (store.is_unchanged(b"k", 0, 0), store.is_unchanged(b"k", 0, 1)) == (False, True)
        assert store.is_unchanged(b"k", 0, None), "as programs before this one meant it"
    for timed in (make.insert(b"k", ttl_ms=5), make.insert(b"k", lease=1)):
        store = make.store_with(make.grant(5, 1), timed, now_ms=5)
        make.apply(store, now_ms=10)
        assert (store.is_unchanged(b"k", 0, 0), store.is_unchanged(b"k", 0, 1)) == (False, True)
