"""What each command does and answers: tables, and the seed's defects that are about rules."""

from __future__ import annotations

import pytest

from statemachine.commands import Condition, WriteCommand
from statemachine.rules import _RULES
from statemachine.store import Refusal, Store
from tests.statemachine.batches import (
    add,
    apply,
    apply_batch,
    batch_of,
    delete,
    delete_keys,
    expire,
    flush,
    insert,
    put,
    store_with,
    swap,
)

NOW_MS = 1_000_000
BAD_SET_TIME = Refusal("ERR", "invalid expire time in 'set' command")
BAD_EXPIRE_TIME = Refusal("ERR", "invalid expire time in 'expire' command")
NOT_AN_INTEGER = Refusal("ERR", "value is not an integer or out of range")
OVERFLOW = Refusal("ERR", "increment or decrement would overflow")
SYNTAX_ERROR = Refusal("ERR", "syntax error")


def leased_store(ttl_ms: int = 500) -> Store:
    """k = v, due 500 ms from now; p = v without a deadline."""
    return store_with(insert(b"k", b"v", ttl_ms=ttl_ms), put((b"p", b"v")), now_ms=NOW_MS)


def test_every_operation_of_the_proto_has_a_rule() -> None:
    operations = {field.name for field in WriteCommand.DESCRIPTOR.oneofs[0].fields}
    assert operations == set(_RULES) | {"put"}


def test_a_command_without_an_operation_is_refused_and_the_others_run() -> None:
    store = Store()
    unknown = WriteCommand.FromString(b"\xf2\x07\x00")  # Field 126, of no program yet.
    results = apply(store, put((b"a", b"1")), WriteCommand(), unknown, put((b"b", b"2")))
    assert results == [True, *[Refusal("ERR", "unknown operation")] * 2, True]
    assert store.get_many([b"a", b"b"]) == [b"1", b"2"]


# put


def test_put_answers_once_for_each_pair_and_the_last_of_equal_keys_wins() -> None:
    store = Store()
    assert apply(store, put((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))) == [True, True, True]
    assert store.get_many([b"a", b"b"]) == [b"3", b"2"]
    assert len(store) == 2


def test_put_of_uneven_columns_is_refused_for_every_key_and_changes_nothing() -> None:
    uneven = WriteCommand(put=WriteCommand.Put(keys=[b"a", b"b"], values=[b"1"]))
    store = Store()
    refusal = Refusal("ERR", "wrong number of values for these keys")
    assert apply(store, uneven) == [refusal, refusal]
    assert len(store) == 0


# insert


@pytest.mark.parametrize(
    ("condition", "expected", "sets_absent", "sets_old", "sets_other"),
    [
        pytest.param(Condition.ALWAYS, b"", True, True, True, id="always"),
        pytest.param(Condition.IF_ABSENT, b"", True, False, False, id="NX"),
        pytest.param(Condition.IF_PRESENT, b"", False, True, True, id="XX"),
        pytest.param(Condition.IF_EQUAL, b"old", False, True, False, id="IFEQ"),
        pytest.param(Condition.IF_DIFFERENT, b"old", True, False, True, id="IFNE"),
        pytest.param(Condition.IF_EQUAL, b"", False, False, False, id="IFEQ empty is not absent"),
    ],
)
def test_insert_goes_through_when_its_condition_holds(
    condition: int, expected: bytes, sets_absent: bool, sets_old: bool, sets_other: bool
) -> None:
    for before, sets in ((None, sets_absent), (b"old", sets_old), (b"other", sets_other)):
        for return_old in (False, True):
            store = store_with(*([put((b"k", before))] if before is not None else []))
            command = insert(
                b"k", b"new", condition=condition, expected=expected, return_old=return_old
            )
            assert apply(store, command) == [before if return_old else sets]
            assert store.get(b"k") == (b"new" if sets else before)


def test_more_than_one_expiry_and_unknown_conditions_are_syntax_errors() -> None:
    store = leased_store()
    before = store.digest()
    wrong = [
        insert(b"k", ttl_ms=1, ttl_secs=1),
        insert(b"k", ttl_ms=1, expire_at_ms=1),
        insert(b"k", keep_ttl=True, ttl_ms=1),
        insert(b"k", condition=99),
        expire(b"k", ttl_ms=1, condition=99),
    ]
    assert apply(store, *wrong) == [SYNTAX_ERROR] * len(wrong)
    assert store.digest() == before


def test_an_empty_value_is_a_value() -> None:
    """Seed, defect 7: a length of 0 was read as "no value", and the write was lost."""
    store = store_with(insert(b"k", b""), put((b"p", b"")))
    assert store.get_many([b"k", b"p", b"absent"]) == [b"", b"", None]
    assert apply(store, insert(b"k", condition=Condition.IF_ABSENT)) == [False]
    assert apply(store, swap(b"k", b"", b"x"), swap(b"p", None, b"x")) == [True, False]
    assert apply(store, delete(b"p")) == [1]


# compare_and_swap


@pytest.mark.parametrize(
    ("before", "expected", "swaps"),
    [
        (None, None, True),
        (None, b"owner1", False),
        (None, b"", False),
        (b"owner1", b"owner1", True),
        (b"owner1", b"owner2", False),
        (b"owner1", None, False),
        (b"", None, False),
        (b"", b"", True),
    ],
)
def test_swap_compares_with_what_is_there(
    before: bytes | None, expected: bytes | None, swaps: bool
) -> None:
    store = store_with(*([put((b"k", before))] if before is not None else []))
    assert apply(store, swap(b"k", expected, b"new")) == [swaps]
    assert store.get(b"k") == (b"new" if swaps else before)


def test_a_command_sees_what_the_ones_before_it_in_the_batch_did() -> None:
    """Seed: test_cas_in_same_chunk_as_preceding_insert, and two swaps of one key."""
    store = Store()
    results = apply(
        store,
        insert(b"k", b"1"),
        swap(b"k", b"1", b"2"),
        swap(b"k", b"1", b"3"),
        swap(b"k", b"2", b"4"),
        delete(b"k"),
        swap(b"k", None, b"5"),
    )
    assert results == [True, True, False, True, 1, True]
    assert store.get(b"k") == b"5"


# delete, flush


def test_delete_answers_whether_the_key_was_there_and_delete_keys_how_many() -> None:
    store = store_with(put(*[(b"%d" % n, b"") for n in range(5)]))
    assert apply(store, delete(b"0"), delete(b"0")) == [1, 0]
    assert apply(store, delete_keys(b"1", b"x", b"2", b"1"), delete_keys()) == [2, 0]
    assert store.keys_page(None, 9) == ([b"3", b"4"], None)


def test_flush_removes_keys_and_leases_and_keeps_the_clock() -> None:
    store = leased_store()
    assert apply(store, flush(), flush()) == [2, 0]
    assert len(store) == 0
    assert store.next_deadline_ms() is None
    assert store.clock_ms == NOW_MS


# add


@pytest.mark.parametrize(
    ("before", "delta", "want"),
    [
        (None, 5, 5),
        (b"0", -1, -1),
        (b"-10", 3, -7),
        (b"9223372036854775806", 1, 2**63 - 1),
        (b"-9223372036854775807", -1, -(2**63)),
        (b"-1", -(2**63) + 1, -(2**63)),
        (b"9223372036854775807", 1, OVERFLOW),
        (b"-9223372036854775808", -1, OVERFLOW),
        (b"9223372036854775808", 0, NOT_AN_INTEGER),
        (b"-9223372036854775809", 0, NOT_AN_INTEGER),
        *((text, 1, NOT_AN_INTEGER) for text in (b"", b" 1", b"1 ", b"+1", b"01", b"-0", b"1_0")),
        *((text, 1, NOT_AN_INTEGER) for text in (b"1.0", b"0x1", b"-", b"\xff", b"1\n", b"1\0")),
        pytest.param(b"9" * 10_000, 1, NOT_AN_INTEGER, id="too long for int()"),
        pytest.param("\u0661".encode(), 1, NOT_AN_INTEGER, id="a digit, but not ASCII"),
    ],
)
def test_add_reads_integers_as_redis_does(
    before: bytes | None, delta: int, want: int | Refusal
) -> None:
    store = store_with(*([put((b"n", before))] if before is not None else []))
    assert apply(store, add(b"n", delta)) == [want]
    assert store.get(b"n") == (before if isinstance(want, Refusal) else b"%d" % want)


def test_add_keeps_the_deadline() -> None:
    store = store_with(insert(b"n", b"1", ttl_ms=500), now_ms=NOW_MS)
    assert apply(store, add(b"n", 1)) == [2]
    assert store.deadline_ms(b"n") == NOW_MS + 500


def test_results_of_a_mixed_batch_stand_in_their_slots() -> None:
    """Seed, defect 12: results were fewer than commands, and out of position."""
    store = Store()
    batch = batch_of(
        insert(b"a", b"1"),
        WriteCommand(),
        put((b"b", b"x"), (b"c", b"y")),
        swap(b"a", b"wrong", b"2"),
        add(b"b", 1),
        insert(b"a", b"3", return_old=True),
        delete_keys(b"b", b"c"),
    )
    assert apply_batch(store, batch) == [
        True,
        Refusal("ERR", "unknown operation"),
        True,
        True,
        False,
        NOT_AN_INTEGER,
        b"1",
        2,
    ]
