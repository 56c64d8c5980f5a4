"""Short words for commands and batches, so that a test shows its rule and not its protobuf."""

from __future__ import annotations

from typing import Any

from statemachine.commands import BatchBuilder, WriteCommand, stamp
from statemachine.store import Outcome, Result, Store


def insert(key: bytes, value: bytes = b"v", **options: Any) -> WriteCommand:
    return WriteCommand(insert=WriteCommand.Insert(key=key, value=value, **options))


def put(*pairs: tuple[bytes, bytes]) -> WriteCommand:
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    return WriteCommand(put=WriteCommand.Put(keys=keys, values=values))


def delete(key: bytes) -> WriteCommand:
    return WriteCommand(delete=WriteCommand.Delete(key=key))


def delete_keys(*keys: bytes) -> WriteCommand:
    return WriteCommand(delete_keys=WriteCommand.DeleteKeys(keys=keys))


def swap(key: bytes, expected: bytes | None, value: bytes) -> WriteCommand:
    fields = WriteCommand.CompareAndSwap(key=key, expected_value=expected, new_value=value)
    return WriteCommand(compare_and_swap=fields)


def add(key: bytes, delta: int) -> WriteCommand:
    return WriteCommand(add=WriteCommand.Add(key=key, delta=delta))


def expire(key: bytes, **options: Any) -> WriteCommand:
    return WriteCommand(expire=WriteCommand.Expire(key=key, **options))


def persist(key: bytes) -> WriteCommand:
    return WriteCommand(persist=WriteCommand.Persist(key=key))


def flush() -> WriteCommand:
    return WriteCommand(flush=WriteCommand.Flush())


def batch_of(
    *commands: WriteCommand,
    now_ms: int = 0,
    origin: bytes = b"",
    epoch: int = 0,
    sequence: int = 0,
) -> bytes:
    builder = BatchBuilder()
    for command in commands:
        builder.add(command)
    return stamp(builder.build(origin, epoch, sequence), now_ms)


def apply(store: Store, *commands: WriteCommand, now_ms: int = 0) -> list[Result]:
    """Apply an anonymous batch; its results."""
    outcome: Outcome = store.apply_batch(batch_of(*commands, now_ms=now_ms))
    assert isinstance(outcome, list)
    return outcome


def store_with(*commands: WriteCommand, now_ms: int = 0) -> Store:
    store = Store()
    apply(store, *commands, now_ms=now_ms)
    return store
