"""Transactions, what they read, and what listeners are told: one moment, all or nothing."""

from __future__ import annotations

from typing import Any

from statemachine.commands import BatchBuilder, WriteCommand
from statemachine.rules import Fetched
from statemachine.store import Refusal, Store
from tests.statemachine.batches import (
    add,
    apply,
    delete_keys,
    expire,
    flush,
    insert,
    put,
    store_with,
)
from tests.statemachine.test_rules_strings import NOW_MS, command


def transaction(*commands: WriteCommand, watches: dict[bytes, int] | None = None) -> WriteCommand:
    inner = BatchBuilder()
    for one in commands:
        inner.add(one)
    message = WriteCommand.Transaction(
        watches=[
            WriteCommand.Watch(key=key, revision=revision)
            for key, revision in (watches or {}).items()
        ],
        commands=inner.command_list(),
    )
    return WriteCommand(transaction=message)


def read(*keys: bytes, **fields: Any) -> WriteCommand:
    return command("read", keys=keys, **fields)


def test_a_transaction_answers_for_each_slot_and_goes_on_after_a_refusal() -> None:
    store = Store()
    (results,) = apply(
        store, transaction(put((b"a", b"1"), (b"b", b"x")), add(b"b", 1), add(b"a", 1))
    )
    refusal = Refusal("ERR", "value is not an integer or out of range")
    assert results == [True, True, refusal, 2]
    assert store.get(b"a") == b"2"


def test_a_read_sees_its_own_place_in_the_transaction() -> None:
    store = store_with(insert(b"k", b"0", ttl_ms=500), now_ms=NOW_MS)
    (results,) = apply(
        store,
        transaction(
            read(b"k", b"n"), add(b"k", 1), read(b"k", b"k"), delete_keys(b"k"), read(b"k")
        ),
        now_ms=NOW_MS,
    )
    assert isinstance(results, list)
    before, _, between, _, after = results
    assert isinstance(before, Fetched)
    assert isinstance(between, Fetched)
    assert isinstance(after, Fetched)
    assert (before.get(b"k"), before.exists(b"n"), before.deadline_ms(b"k")) == (
        b"0",
        False,
        NOW_MS + 500,
    )
    assert between.get_many([b"k", b"n"]) == [b"1", None]
    assert (after.get(b"k"), len(after), len(before)) == (None, 0, 1)


def test_a_page_that_was_fetched_is_read_like_the_machines() -> None:
    store = store_with(put(*((b"%02d" % number, b"v") for number in range(9))))
    (results,) = apply(store, transaction(read(page_count=5, page_after=b"01")))
    assert isinstance(results, list)
    (page,) = results
    assert isinstance(page, Fetched)
    assert page.keys_page(None, 3) == ([b"02", b"03", b"04"], b"04")
    assert page.keys_page(b"04", 3) == ([b"05", b"06"], None)


def test_a_watched_key_that_changed_stops_the_transaction_before_anything() -> None:
    store = store_with(put((b"k", b"1")))
    facts = store.facts(b"k")
    assert facts is not None
    seen = {b"k": facts.modified, b"none": 0}
    assert apply(store, transaction(add(b"k", 1), watches=seen)) == [[2]]
    before = store.digest()
    assert apply(store, transaction(add(b"k", 1), watches=seen)) == [None]
    assert apply(store, transaction(add(b"k", 1), watches={b"k": 0})) == [None]
    assert store.digest() == before


def test_transactions_are_not_nested() -> None:
    store = Store()
    (results,) = apply(store, transaction(transaction(put((b"a", b"1"))), put((b"b", b"2"))))
    assert results == [Refusal("ERR", "unknown operation"), True]
    assert store.get(b"a") is None


# Changes.


def changes_of(store: Store, *commands: WriteCommand, now_ms: int = NOW_MS) -> list[Any]:
    store.changes = found = []
    apply(store, *commands, now_ms=now_ms)
    store.changes = None
    return [(event, *keys) for event, keys in found]


def test_changes_are_told_in_redis_words() -> None:
    store = store_with(put((b"a", b"1")), now_ms=NOW_MS)
    assert changes_of(store, put((b"a", b"1"), (b"b", b"2"))) == [("set", b"a", b"b")]
    assert changes_of(store, insert(b"c", ttl_ms=5)) == [("set", b"c"), ("expire", b"c")]
    assert changes_of(store, add(b"a", 1)) == [("incrby", b"a")]
    assert changes_of(store, expire(b"a", ttl_ms=5)) == [("expire", b"a")]
    assert changes_of(store, command("persist", key=b"a")) == [("persist", b"a")]
    assert changes_of(store, expire(b"a", ttl_ms=0)) == [("del", b"a")]
    assert changes_of(store, delete_keys(b"a", b"b", b"b")) == [("del", b"b")]
    assert changes_of(store, now_ms=NOW_MS + 5) == [("expired", b"c")]
    put_d = transaction(put((b"d", b"1")), command("move", source=b"d", destination=b"e"))
    assert changes_of(store, put_d) == [("set", b"d"), ("rename_from", b"d"), ("rename_to", b"e")]
    copy = command("move", source=b"e", destination=b"f", keep_source=True)
    assert changes_of(store, copy) == [("copy_to", b"f")]
    assert changes_of(store, command("append", key=b"f", value=b"x", bytes_max=9)) == [
        ("append", b"f")
    ]
    assert changes_of(store, command("publish", channel=b"c", message=b"m")) == [
        ("publish", b"c", b"m")
    ]
    assert changes_of(store, flush()) == [("flush",)]


def test_what_changes_nothing_tells_nothing() -> None:
    store = store_with(put((b"a", b"x")), now_ms=NOW_MS)
    assert changes_of(store, add(b"a", 1), delete_keys(b"none"), insert(b"a", condition=1)) == []
    assert changes_of(store, command("persist", key=b"a"), command("remove", key=b"none")) == []


def test_listening_leaves_no_trace_in_the_state() -> None:
    commands = [put((b"a", b"1")), insert(b"b", ttl_ms=5), add(b"a", 4), expire(b"a", ttl_ms=9)]
    quiet, loud = Store(), Store()
    loud.changes = []
    for store in (quiet, loud):
        apply(store, *commands, now_ms=NOW_MS)
        apply(store, now_ms=NOW_MS + 7)
    assert quiet.digest() == loud.digest()
