"""The rules of values and of keys that came with Redis 7's and 8.4's commands: tables."""

from __future__ import annotations

from typing import Any

import pytest

from statemachine.commands import Condition, ExpireCondition, WriteCommand
from statemachine.store import Refusal, Store
from tests.statemachine.batches import apply, expire, insert, put, store_with

NOW_MS = 1_000_000
TOO_LONG = Refusal("ERR", "string exceeds maximum allowed size (proto-max-bulk-len)")


def command(name: str, **fields: Any) -> WriteCommand:
    """One of the proto's, by the name of its field."""
    message = WriteCommand()
    inner = getattr(message, name)
    inner.SetInParent()
    inner.MergeFrom(type(inner)(**fields))
    return message


def leased_store() -> Store:
    """k = abc, due 500 ms from now; p = v without a deadline."""
    return store_with(insert(b"k", b"abc", ttl_ms=500), put((b"p", b"v")), now_ms=NOW_MS)


def run(store: Store, name: str, **fields: Any) -> Any:
    (result,) = apply(store, command(name, **fields), now_ms=NOW_MS)
    return result


def test_append_adds_to_what_is_there_and_keeps_the_deadline() -> None:
    store = leased_store()
    assert run(store, "append", key=b"k", value=b"de", bytes_max=5) == 5
    assert run(store, "append", key=b"k", value=b"f", bytes_max=5) == TOO_LONG
    assert run(store, "append", key=b"new", value=b"x", bytes_max=5) == 1
    assert (store.get(b"k"), store.get(b"new")) == (b"abcde", b"x")
    assert store.deadline_ms(b"k") == NOW_MS + 500


@pytest.mark.parametrize(
    ("offset", "part", "length", "value"),
    [(0, b"x", 3, b"xbc"), (2, b"yz", 4, b"abyz"), (5, b"z", 6, b"abc\0\0z"), (9, b"", 3, b"abc")],
)
def test_set_range_writes_over_and_fills_with_zeros(
    offset: int, part: bytes, length: int, value: bytes
) -> None:
    store = leased_store()
    assert run(store, "set_range", key=b"k", offset=offset, value=part) == length
    assert store.get(b"k") == value
    assert store.deadline_ms(b"k") == NOW_MS + 500


def test_set_range_of_nothing_makes_no_key_and_of_too_much_is_refused() -> None:
    store = Store()
    assert run(store, "set_range", key=b"n", offset=7, value=b"") == 0
    assert run(store, "set_range", key=b"n", offset=2**40, value=b"x") == TOO_LONG
    assert len(store) == 0


def test_set_bit_answers_the_old_bit() -> None:
    store = Store()
    assert [run(store, "set_bit", key=b"b", offset=n, bit=True) for n in (7, 7, 8)] == [0, 1, 0]
    assert store.get(b"b") == b"\x01\x80"
    assert run(store, "set_bit", key=b"b", offset=7, bit=False) == 1
    assert store.get(b"b") == b"\x00\x80"
    assert isinstance(run(store, "set_bit", key=b"b", offset=2**32, bit=True), Refusal)


def test_add_float_keeps_the_deadline_and_refuses_what_is_no_number() -> None:
    store = store_with(insert(b"k", b"10.50", ttl_ms=500), put((b"p", b"v")), now_ms=NOW_MS)
    assert run(store, "add_float", key=b"k", increment=b"0.1") == b"10.6"
    assert store.deadline_ms(b"k") == NOW_MS + 500
    assert run(store, "add_float", key=b"n", increment=b"-5") == b"-5"
    no_float = Refusal("ERR", "value is not a valid float")
    assert run(store, "add_float", key=b"p", increment=b"1") == no_float
    assert run(store, "add_float", key=b"k", increment=b"x") == no_float
    infinite = Refusal("ERR", "increment would produce NaN or Infinity")
    assert run(store, "add_float", key=b"k", increment=b"inf") == infinite


@pytest.mark.parametrize(
    ("condition", "names", "want"),
    [
        (Condition.IF_ABSENT, [b"a", b"b"], True), (Condition.IF_ABSENT, [b"a", b"k"], False),
        (Condition.IF_PRESENT, [b"k", b"p"], True), (Condition.IF_PRESENT, [b"k", b"a"], False),
        (Condition.ALWAYS, [b"k", b"a"], True),
    ],
)  # fmt: skip
def test_insert_many_is_all_or_nothing(
    condition: Condition, names: list[bytes], want: bool
) -> None:
    store = leased_store()
    before = store.digest()
    values = [b"new"] * len(names)
    assert run(store, "insert_many", keys=names, values=values, condition=condition) is want
    assert (store.digest() == before) is not want
    assert store.get_many(names).count(b"new") == (len(names) if want else 0)


def test_insert_many_sets_or_keeps_deadlines() -> None:
    store = leased_store()
    assert run(store, "insert_many", keys=[b"k", b"p"], values=[b"1", b"2"], keep_ttl=True)
    assert (store.deadline_ms(b"k"), store.deadline_ms(b"p")) == (NOW_MS + 500, None)
    assert run(store, "insert_many", keys=[b"k", b"p"], values=[b"1", b"2"], ttl_ms=9)
    assert (store.deadline_ms(b"k"), store.deadline_ms(b"p")) == (NOW_MS + 9, NOW_MS + 9)
    assert run(store, "insert_many", keys=[b"a"], values=[], ttl_ms=9) == Refusal(
        "ERR", "wrong number of values for these keys"
    )
    both = run(store, "insert_many", keys=[b"a"], values=[b"v"], ttl_ms=9, keep_ttl=True)
    assert both == Refusal("ERR", "syntax error")


@pytest.mark.parametrize(
    ("fields", "want", "is_left"),
    [
        ({}, 1, False),
        ({"condition": Condition.IF_EQUAL, "expected": b"abc"}, 1, False),
        ({"condition": Condition.IF_EQUAL, "expected": b"x"}, 0, True),
        ({"condition": Condition.IF_DIFFERENT, "expected": b"x"}, 1, False),
        ({"condition": Condition.IF_DIFFERENT, "expected": b"abc"}, 0, True),
        ({"return_old": True}, b"abc", False),
        ({"condition": Condition.IF_PRESENT}, Refusal("ERR", "syntax error"), True),
    ],
)
def test_remove_compares_before_it_takes(fields: Any, want: Any, is_left: bool) -> None:
    store = leased_store()
    assert run(store, "remove", key=b"k", **fields) == want
    assert store.exists(b"k") is is_left
    assert run(store, "remove", key=b"none") == 0
    assert run(store, "remove", key=b"none", return_old=True) is None


@pytest.mark.parametrize(
    ("fields", "deadline_ms"),
    [
        ({}, NOW_MS + 500), ({"persist": True}, None), ({"ttl_ms": 7}, NOW_MS + 7),
        ({"expire_at_ms": NOW_MS + 9}, NOW_MS + 9),
    ],
)  # fmt: skip
def test_get_and_expire_answers_the_value(fields: Any, deadline_ms: int | None) -> None:
    store = leased_store()
    assert run(store, "get_and_expire", key=b"k", **fields) == b"abc"
    assert store.deadline_ms(b"k") == deadline_ms
    assert run(store, "get_and_expire", key=b"none", **fields) is None


def test_get_and_expire_in_the_past_deletes() -> None:
    store = leased_store()
    assert run(store, "get_and_expire", key=b"k", expire_at_ms=1) == b"abc"
    assert not store.exists(b"k")


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({"source": b"k", "destination": b"n"}, True),
        ({"source": b"k", "destination": b"p"}, True),
        ({"source": b"k", "destination": b"p", "if_absent": True}, False),
        ({"source": b"k", "destination": b"k"}, True),
        ({"source": b"k", "destination": b"k", "if_absent": True}, False),
        ({"source": b"x", "destination": b"p"}, Refusal("ERR", "no such key")),
        ({"source": b"x", "destination": b"p", "keep_source": True}, False),
        ({"source": b"k", "destination": b"p", "keep_source": True, "if_absent": True}, False),
        ({"source": b"k", "destination": b"n", "keep_source": True}, True),
    ],
)
def test_move_takes_value_and_deadline_along(fields: Any, want: Any) -> None:
    store = leased_store()
    before = store.digest()
    assert run(store, "move", **fields) == want
    if want is not True or fields["source"] == fields["destination"]:
        assert store.digest() == before
        return
    destination = fields["destination"]
    assert (store.get(destination), store.deadline_ms(destination)) == (b"abc", NOW_MS + 500)
    assert store.exists(b"k") is fields.get("keep_source", False)


def test_expire_may_depend_on_the_value_and_extend_the_deadline() -> None:
    store = leased_store()
    assert apply(store, expire(b"k", ttl_ms=9, expected=b"no"), now_ms=NOW_MS) == [0]
    assert apply(store, expire(b"k", ttl_ms=9, expected=b"abc", extend=True)) == [1]
    assert store.deadline_ms(b"k") == NOW_MS + 509
    assert apply(store, expire(b"p", ttl_ms=9, extend=True)) == [0]
    assert store.deadline_ms(b"p") is None


def test_xx_and_lt_together_need_a_deadline_that_is_later() -> None:
    store = leased_store()
    sooner = ExpireCondition.EXPIRE_IF_ANY_SOONER
    assert apply(store, expire(b"p", ttl_ms=9, condition=sooner)) == [0]
    assert apply(store, expire(b"k", ttl_ms=900, condition=sooner)) == [0]
    assert apply(store, expire(b"k", ttl_ms=9, condition=sooner)) == [1]


def test_a_condition_on_the_revision_of_a_key() -> None:
    store = leased_store()
    facts = store.facts(b"k")
    assert facts is not None
    by_revision = {"condition": Condition.IF_REVISION}
    assert apply(store, insert(b"k", b"1", revision=facts.modified + 1, **by_revision)) == [False]
    assert apply(store, insert(b"k", b"1", revision=facts.modified, **by_revision)) == [True]
    assert apply(store, insert(b"none", b"1", revision=0, **by_revision)) == [True]
    assert apply(store, insert(b"none", b"2", revision=0, **by_revision)) == [False]
