"""Rules of keys, whatever they hold: taking them away, moving them, giving them deadlines.

    delete            0 | 1                      delete_keys     how many were there
    remove            0 | 1, or the old value    flush           how many were there
    expire            1 | 0, or a refusal        persist         1: had a deadline | 0
    get_and_expire    the value or None          move            True | False, or a refusal

Invariants: as in rules.py. A deadline at or before the clock removes the key. One above
TIME_MS_MAX is refused before anything changes.

Proved by: tests/statemachine/test_rules.py, test_rules_leases.py, test_rules_keys.py
"""

from __future__ import annotations

from statemachine.commands import TIME_MS_MAX, Condition, ExpireCondition, WriteCommand
from statemachine.keyspace import Keyspace
from statemachine.refusals import (
    BAD_EXPIRE_TIME,
    NO_SUCH_KEY,
    SYNTAX_ERROR,
    Refusal,
    Result,
)
from statemachine.rules_strings import assign, condition_holds, note

__all__ = [
    "delete",
    "delete_keys",
    "expire",
    "flush",
    "get_and_expire",
    "move",
    "persist",
    "remove",
]


def delete(keys: Keyspace, delete: WriteCommand.Delete) -> Result:
    return _take(keys, delete.key)


def delete_keys(keys: Keyspace, delete: WriteCommand.DeleteKeys) -> Result:
    return sum(_take(keys, key) for key in delete.keys)


def _take(keys: Keyspace, key: bytes) -> int:
    if keys.live(key) is None:
        return 0
    keys.remove(key)
    note(keys, "del", key)
    return 1


def remove(keys: Keyspace, remove: WriteCommand.Remove) -> Result:
    key, condition = remove.key, remove.condition
    if condition not in (Condition.ALWAYS, Condition.IF_EQUAL, Condition.IF_DIFFERENT):
        return SYNTAX_ERROR
    old = keys.live(key)
    if old is not None and condition_holds(condition, old, remove.expected):
        _take(keys, key)
        return old if remove.return_old else 1
    return old if remove.return_old else 0


def flush(keys: Keyspace, flush: WriteCommand.Flush) -> Result:
    removed = len(keys)
    keys.clear()
    if keys.changes is not None:
        keys.changes.append(("flush", ()))
    return removed


def move(keys: Keyspace, move: WriteCommand.Move) -> Result:
    source, destination = move.source, move.destination
    value = keys.live(source)
    if value is None:
        return False if move.keep_source else NO_SUCH_KEY
    if move.if_absent and keys.live(destination) is not None:
        return False
    if source == destination:
        return True
    due = keys.due(source)
    if not move.keep_source:
        keys.remove(source)
        note(keys, "rename_from", source)
    assign(keys, "copy_to" if move.keep_source else "rename_to", destination, value, due)
    return True


def get_and_expire(keys: Keyspace, command: WriteCommand.GetAndExpire) -> Result:
    key = command.key
    has_ttl, has_deadline = command.HasField("ttl_ms"), command.HasField("expire_at_ms")
    if has_ttl + has_deadline + command.persist > 1:
        return SYNTAX_ERROR
    old = keys.live(key)
    if old is None:
        return None
    deadline_ms = command.expire_at_ms if has_deadline else keys.clock_ms + command.ttl_ms
    if deadline_ms > TIME_MS_MAX:
        return BAD_EXPIRE_TIME
    if has_ttl or has_deadline:
        assign(keys, "expire", key, old, max(deadline_ms, 0))
    elif command.persist and keys.deadline_ms(key) is not None:
        assign(keys, "persist", key, old, None)
    return old


def expire(keys: Keyspace, expire: WriteCommand.Expire) -> Result:
    key = expire.key
    absolute = expire.HasField("expire_at_ms")
    if absolute and expire.extend:
        return SYNTAX_ERROR
    old = keys.live(key)
    current_ms = keys.deadline_ms(key)
    base_ms = keys.clock_ms
    if expire.extend:
        if current_ms is None:
            return 0
        base_ms = current_ms
    deadline_ms = expire.expire_at_ms if absolute else base_ms + expire.ttl_ms
    if deadline_ms > TIME_MS_MAX:
        return BAD_EXPIRE_TIME
    if old is None or (expire.HasField("expected") and old != expire.expected):
        return 0
    holds = _expire_condition_holds(expire, current_ms, deadline_ms)
    if isinstance(holds, Refusal):
        return holds
    if holds:
        assign(keys, "expire", key, old, max(deadline_ms, 0))
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
    if condition == ExpireCondition.EXPIRE_IF_ANY_SOONER:
        return current_ms is not None and deadline_ms < current_ms
    return SYNTAX_ERROR


def persist(keys: Keyspace, persist: WriteCommand.Persist) -> Result:
    key = persist.key
    value = keys.live(key)
    if value is None or keys.deadline_ms(key) is None:
        return 0
    assign(keys, "persist", key, value, None)
    return 1
