"""Rules of values: what INSERT, ADD, APPEND and their kin do to one key, and what they answer.

    insert            True | False; with return_old the old value or None; a refusal
    insert_many       True | False: all pairs or none
    compare_and_swap  whether it swapped
    add, add_float    the sum, or a refusal
    append, set_range the new length        set_bit    the old bit

A value that is set without a deadline of its own loses the old one (insert, compare_and_swap);
the others keep it. A deadline at or before the clock removes the key.

Invariants: as in rules.py. Lengths are bounded by what the command itself says (bytes_max) or by
what the node let through: a limit of one replica's configuration is never looked at.

Proved by: tests/statemachine/test_rules.py, test_rules_strings.py
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from statemachine import longdouble
from statemachine.commands import TIME_MS_MAX, Condition, WriteCommand
from statemachine.keyspace import Keyspace
from statemachine.refusals import (
    BAD_SET_TIME,
    NOT_AN_INTEGER,
    SYNTAX_ERROR,
    UNEVEN_COLUMNS,
    Refusal,
    Result,
    no_such_lease,
)

__all__ = [
    "add",
    "add_float",
    "append",
    "compare_and_swap",
    "insert",
    "insert_many",
    "note",
    "revision_of",
    "set_bit",
    "set_range",
]

INTEGER_MAX: Final = 2**63 - 1
INTEGER_MIN: Final = -(2**63)
_INTEGER_CHARS_MAX: Final = len(str(INTEGER_MIN))
_BIT_OFFSET_MAX: Final = 2**32 - 1
# What a SetRange or SetBit may make of a value, whatever the node let through: Redis's own limit.
_VALUE_BYTES_MAX: Final = 512 * 1024 * 1024

_OF_DEADLINES: Final = frozenset({"expire", "persist"})
"""Events of those changes that leave the value as it is."""

_SUM_OVERFLOWS: Final = Refusal("ERR", "increment or decrement would overflow")
_NOT_A_FLOAT: Final = Refusal("ERR", "value is not a valid float")
_SUM_INFINITE: Final = Refusal("ERR", "increment would produce NaN or Infinity")
_TOO_LONG: Final = Refusal("ERR", "string exceeds maximum allowed size (proto-max-bulk-len)")


def note(keys: Keyspace, event: str, key: bytes) -> None:
    """Tell whoever listens to changes on this replica. Nothing depends on it."""
    if keys.changes is not None:
        keys.changes.append((event, (key,)))


def revision_of(keys: Keyspace, key: bytes) -> int:
    """The index of the batch that last changed the key; 0: it is not there."""
    facts = keys.facts(key)
    return 0 if facts is None else facts.modified


def assign(keys: Keyspace, event: str, key: bytes, value: bytes, due: int | None) -> None:
    """Set it, and say so. A deadline that has passed removes the key: then it is a "del"."""
    operation = "deadline" if event in _OF_DEADLINES else "set"
    if keys.changes is None:
        keys.assign(key, value, due, operation)
        return
    was_there = keys.live(key) is not None
    keys.assign(key, value, due, operation)
    if keys.live(key) is not None:
        note(keys, event, key)
    elif was_there:
        note(keys, "del", key)


def insert(keys: Keyspace, insert: WriteCommand.Insert) -> Result:
    key = insert.key
    old = keys.live(key)
    due = _insert_due(keys, insert)
    if isinstance(due, Refusal):
        return due
    holds = _insert_condition_holds(keys, insert, old)
    if isinstance(holds, Refusal):
        return holds
    if holds:
        assign(keys, "set", key, insert.value, due)
        if due is not None and not insert.keep_ttl and keys.changes is not None:
            note(keys, "expire", key)
    return old if insert.return_old else holds


def _insert_due(keys: Keyspace, insert: WriteCommand.Insert) -> int | Refusal | None:
    ttl_secs, ttl_ms, expire_at_ms = insert.ttl_secs, insert.ttl_ms, insert.expire_at_ms
    times = bool(ttl_secs) + bool(ttl_ms) + bool(expire_at_ms)
    if times + insert.keep_ttl + bool(insert.lease) > 1:
        return SYNTAX_ERROR
    if insert.keep_ttl:
        return keys.due(insert.key)
    if insert.lease:
        serial = keys.grants.serial_of(insert.lease, keys.clock_ms)
        return no_such_lease(insert.lease) if serial is None else -serial
    return _deadline_ms(keys, ttl_ms or ttl_secs * 1000, expire_at_ms)


def _deadline_ms(keys: Keyspace, ttl_ms: int, expire_at_ms: int) -> int | Refusal | None:
    """0 and 0: none."""
    if not (ttl_ms or expire_at_ms):
        return None
    deadline_ms = expire_at_ms or keys.clock_ms + ttl_ms
    return deadline_ms if deadline_ms <= TIME_MS_MAX else BAD_SET_TIME


def _insert_condition_holds(
    keys: Keyspace, insert: WriteCommand.Insert, old: bytes | None
) -> bool | Refusal:
    condition = insert.condition
    if condition == Condition.ALWAYS:
        return True
    if condition == Condition.IF_REVISION:
        return revision_of(keys, insert.key) == insert.revision
    return condition_holds(condition, old, insert.expected)


def condition_holds(condition: int, old: bytes | None, expected: bytes) -> bool | Refusal:
    """Whether a write may go through, by what the key holds."""
    if condition == Condition.ALWAYS:
        return True
    if condition == Condition.IF_ABSENT:
        return old is None
    if condition == Condition.IF_PRESENT:
        return old is not None
    if condition == Condition.IF_EQUAL:
        return old == expected
    if condition == Condition.IF_DIFFERENT:
        return old != expected
    return SYNTAX_ERROR


def insert_many(keys: Keyspace, insert: WriteCommand.InsertMany) -> Result:
    names, values = insert.keys[:], insert.values[:]
    if len(names) != len(values):
        return UNEVEN_COLUMNS
    if bool(insert.ttl_ms) + bool(insert.expire_at_ms) + insert.keep_ttl > 1:
        return SYNTAX_ERROR
    deadline_ms = _deadline_ms(keys, insert.ttl_ms, insert.expire_at_ms)
    if isinstance(deadline_ms, Refusal):
        return deadline_ms
    for name in names:
        holds = condition_holds(insert.condition, keys.live(name), b"")
        if not holds or isinstance(holds, Refusal):
            return holds
    for name, value in zip(names, values, strict=True):
        due = keys.due(name) if insert.keep_ttl else deadline_ms
        assign(keys, "set", name, value, due)
        if deadline_ms is not None:
            note(keys, "expire", name)
    return True


def compare_and_swap(keys: Keyspace, swap: WriteCommand.CompareAndSwap) -> Result:
    expected = swap.expected_value if swap.HasField("expected_value") else None
    if keys.live(swap.key) != expected:
        return False
    assign(keys, "set", swap.key, swap.new_value, None)
    return True


def add(keys: Keyspace, add: WriteCommand.Add) -> Result:
    key = add.key
    old = keys.live(key)
    number = 0 if old is None else _integer(old)
    if number is None:
        return NOT_AN_INTEGER
    total = number + add.delta
    if not INTEGER_MIN <= total <= INTEGER_MAX:
        return _SUM_OVERFLOWS
    assign(keys, "incrby", key, b"%d" % total, keys.due(key))
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


def add_float(keys: Keyspace, add: WriteCommand.AddFloat) -> Result:
    key = add.key
    old = keys.live(key)
    number = longdouble.parse(b"0" if old is None else old)
    increment = longdouble.parse(add.increment)
    if number is None or increment is None:
        return _NOT_A_FLOAT
    if not isinstance(number, Fraction) or not isinstance(increment, Fraction):
        return _SUM_INFINITE
    total = longdouble.add(number, increment)
    if total is None:
        return _SUM_INFINITE
    value = longdouble.text(total)
    assign(keys, "incrbyfloat", key, value, keys.due(key))
    return value


def append(keys: Keyspace, append: WriteCommand.Append) -> Result:
    key = append.key
    old = keys.live(key)
    value = append.value if old is None else old + append.value
    if len(value) > append.bytes_max:
        return _TOO_LONG
    assign(keys, "append", key, value, keys.due(key))
    return len(value)


def set_range(keys: Keyspace, set_range: WriteCommand.SetRange) -> Result:
    key, offset, part = set_range.key, set_range.offset, set_range.value
    old = keys.live(key) or b""
    if not part:  # Nothing to write: a key that is not there is not made.
        return len(old)
    if offset + len(part) > _VALUE_BYTES_MAX:
        return _TOO_LONG
    value = b"".join((old[:offset].ljust(offset, b"\0"), part, old[offset + len(part) :]))
    assign(keys, "setrange", key, value, keys.due(key))
    return len(value)


def set_bit(keys: Keyspace, set_bit: WriteCommand.SetBit) -> Result:
    key, offset = set_bit.key, set_bit.offset
    if offset > _BIT_OFFSET_MAX:
        return Refusal("ERR", "bit offset is not an integer or out of range")
    value = bytearray(keys.live(key) or b"")
    place, mask = offset >> 3, 0x80 >> (offset & 7)
    if place >= len(value):
        value.extend(bytes(place + 1 - len(value)))
    old = int(bool(value[place] & mask))
    if set_bit.bit:
        value[place] |= mask
    else:
        value[place] &= ~mask
    assign(keys, "setbit", key, bytes(value), keys.due(key))
    return old
