"""What each command does to the keys, and what it answers. The rules, and no others.

    insert            True | False; with return_old the old value or None; a refusal
    delete            0 | 1                      delete_keys   how many were there
    compare_and_swap  whether it swapped         put           True for each pair
    add               the sum, or a refusal      flush         how many were there
    expire            1 | 0, or a refusal        persist       1: had a deadline | 0

A refusal is a value, never an exception: what one replica refuses, all refuse,
and the entry counts as applied. Texts and the order of the checks are Redis's.

Invariants: a rule sees the keys, the command and the replicated clock, nothing else,
so the same command on the same keys has the same result everywhere and at every
replay. A value that is set without a deadline of its own loses the old one (put,
insert, compare_and_swap); add keeps it. A deadline at or before the clock
removes the key. A deadline above TIME_MS_MAX is refused before anything changes.

Does not: know Redis's commands (the node translates; where Redis names the command in a
refusal, the name here is the plainest: 'set', 'expire'), or check sizes: their limits are
configured per node, so a rule about them would not be the same on every replica.

Proved by: tests/statemachine/test_rules.py, test_rules_leases.py, test_store_model.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from statemachine.commands import TIME_MS_MAX, Condition, ExpireCondition, WriteCommand
from statemachine.keyspace import Keyspace

__all__ = ["Refusal", "Result", "run"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The result of a command that is wrong on every replica alike. Counts as applied."""

    code: str
    """"ERR"; "WRONGTYPE" is kept for a day when there are types."""
    text: str
    """In Redis's words."""


Result = bool | int | bytes | None | Refusal

INTEGER_MAX: Final = 2**63 - 1
INTEGER_MIN: Final = -(2**63)
_INTEGER_CHARS_MAX: Final = len(str(INTEGER_MIN))

_SYNTAX_ERROR: Final = Refusal("ERR", "syntax error")
_UNKNOWN_OPERATION: Final = Refusal("ERR", "unknown operation")
_UNEVEN_COLUMNS: Final = Refusal("ERR", "wrong number of values for these keys")
_NOT_AN_INTEGER: Final = Refusal("ERR", "value is not an integer or out of range")
_SUM_OVERFLOWS: Final = Refusal("ERR", "increment or decrement would overflow")
_BAD_SET_TIME: Final = Refusal("ERR", "invalid expire time in 'set' command")
_BAD_EXPIRE_TIME: Final = Refusal("ERR", "invalid expire time in 'expire' command")


def run(keys: Keyspace, command: WriteCommand, results: list[Result]) -> None:
    """Carry the command out; append a result for each of its slots (commands.slots_of)."""
    operation = command.WhichOneof("operation")
    if operation == "put":
        _put(keys, command.put, results)
    elif operation is None:
        results.append(_UNKNOWN_OPERATION)
    else:
        results.append(_RULES[operation](keys, getattr(command, operation)))


def _put(keys: Keyspace, put: WriteCommand.Put, results: list[Result]) -> None:
    names, values = put.keys[:], put.values[:]
    if len(names) != len(values):
        results.extend([_UNEVEN_COLUMNS] * len(names))
        return
    keys.assign_many(names, values)
    results.extend([True] * len(names))


def _insert(keys: Keyspace, insert: WriteCommand.Insert) -> Result:
    key = insert.key
    old = keys.live(key)
    deadline_ms = _insert_deadline_ms(keys, insert)
    if isinstance(deadline_ms, Refusal):
        return deadline_ms
    holds = _condition_holds(insert, old)
    if isinstance(holds, Refusal):
        return holds
    if holds:
        keys.assign(key, insert.value, deadline_ms)
    return old if insert.return_old else holds


def _insert_deadline_ms(keys: Keyspace, insert: WriteCommand.Insert) -> int | Refusal | None:
    ttl_secs, ttl_ms, expire_at_ms = insert.ttl_secs, insert.ttl_ms, insert.expire_at_ms
    if insert.keep_ttl:
        if ttl_secs or ttl_ms or expire_at_ms:
            return _SYNTAX_ERROR
        return keys.deadline_ms(insert.key)
    if not (ttl_secs or ttl_ms or expire_at_ms):
        return None
    if bool(ttl_secs) + bool(ttl_ms) + bool(expire_at_ms) > 1:
        return _SYNTAX_ERROR
    deadline_ms = expire_at_ms or keys.clock_ms + (ttl_ms or ttl_secs * 1000)
    return deadline_ms if deadline_ms <= TIME_MS_MAX else _BAD_SET_TIME


def _condition_holds(insert: WriteCommand.Insert, old: bytes | None) -> bool | Refusal:
    condition = insert.condition
    if condition == Condition.ALWAYS:
        return True
    if condition == Condition.IF_ABSENT:
        return old is None
    if condition == Condition.IF_PRESENT:
        return old is not None
    if condition == Condition.IF_EQUAL:
        return old == insert.expected
    if condition == Condition.IF_DIFFERENT:
        return old != insert.expected
    return _SYNTAX_ERROR


def _delete(keys: Keyspace, delete: WriteCommand.Delete) -> Result:
    return _remove(keys, delete.key)


def _delete_keys(keys: Keyspace, delete: WriteCommand.DeleteKeys) -> Result:
    return sum(_remove(keys, key) for key in delete.keys)


def _remove(keys: Keyspace, key: bytes) -> int:
    if keys.live(key) is None:
        return 0
    keys.remove(key)
    return 1


def _compare_and_swap(keys: Keyspace, swap: WriteCommand.CompareAndSwap) -> Result:
    expected = swap.expected_value if swap.HasField("expected_value") else None
    if keys.live(swap.key) != expected:
        return False
    keys.assign(swap.key, swap.new_value)
    return True


def _add(keys: Keyspace, add: WriteCommand.Add) -> Result:
    key = add.key
    old = keys.live(key)
    number = 0 if old is None else _integer(old)
    if number is None:
        return _NOT_AN_INTEGER
    total = number + add.delta
    if not INTEGER_MIN <= total <= INTEGER_MAX:
        return _SUM_OVERFLOWS
    keys.assign(key, b"%d" % total, keys.deadline_ms(key))
    return total


def _integer(value: bytes) -> int | None:
    """The number, if these are the very bytes that Redis would write for it (string2ll)."""
    if len(value) > _INTEGER_CHARS_MAX:  # int() takes time in the square of the length.
        return None
    try:
        number = int(value)
    except ValueError:
        return None
    # int() also takes b" 1", b"+1", b"01", b"-0" and b"1_0".
    if b"%d" % number != value or not INTEGER_MIN <= number <= INTEGER_MAX:
        return None
    return number


def _expire(keys: Keyspace, expire: WriteCommand.Expire) -> Result:
    key = expire.key
    absolute = expire.HasField("expire_at_ms")
    deadline_ms = expire.expire_at_ms if absolute else keys.clock_ms + expire.ttl_ms
    if deadline_ms > TIME_MS_MAX:
        return _BAD_EXPIRE_TIME
    old = keys.live(key)
    if old is None:
        return 0
    holds = _expire_condition_holds(expire, keys.deadline_ms(key), deadline_ms)
    if isinstance(holds, Refusal):
        return holds
    if holds:
        keys.assign(key, old, deadline_ms)
    return int(holds)


def _expire_condition_holds(
    expire: WriteCommand.Expire, current_ms: int | None, deadline_ms: int
) -> bool | Refusal:
    condition = expire.condition
    if condition == ExpireCondition.EXPIRE_ALWAYS:
        return True
    if condition == ExpireCondition.EXPIRE_IF_NONE:
        return current_ms is None
    if condition == ExpireCondition.EXPIRE_IF_ANY:
        return current_ms is not None
    # A key without a deadline is due infinitely late: nothing is later, everything sooner.
    if condition == ExpireCondition.EXPIRE_IF_LATER:
        return current_ms is not None and deadline_ms > current_ms
    if condition == ExpireCondition.EXPIRE_IF_SOONER:
        return current_ms is None or deadline_ms < current_ms
    return _SYNTAX_ERROR


def _persist(keys: Keyspace, persist: WriteCommand.Persist) -> Result:
    value = keys.live(persist.key)
    if value is None or keys.deadline_ms(persist.key) is None:
        return 0
    keys.assign(persist.key, value)
    return 1


def _flush(keys: Keyspace, flush: WriteCommand.Flush) -> Result:
    removed = len(keys)
    keys.clear()
    return removed


# By the name of the field in the oneof. A test compares it with the .proto.
_RULES: Final[dict[str, Callable[[Keyspace, Any], Result]]] = {
    "insert": _insert,
    "delete": _delete,
    "compare_and_swap": _compare_and_swap,
    "delete_keys": _delete_keys,
    "add": _add,
    "expire": _expire,
    "persist": _persist,
    "flush": _flush,
}
