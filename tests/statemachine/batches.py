"""Short words for commands and batches, so that a test shows its rule and not its protobuf."""

from __future__ import annotations

import copy
from typing import Any

from statemachine.commands import BatchBuilder, WriteCommand, stamp
from statemachine.grants import GrantParts
from statemachine.layer import Columns
from statemachine.removals import RemovalParts
from statemachine.store import Outcome, Result, Store, StoreParts


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


def grant(ttl_ms: int, lease_id: int = 0) -> WriteCommand:
    return WriteCommand(grant_lease=WriteCommand.GrantLease(ttl_ms=ttl_ms, id=lease_id))


def keep_alive(lease_id: int) -> WriteCommand:
    return WriteCommand(keep_lease_alive=WriteCommand.KeepLeaseAlive(id=lease_id))


def revoke(lease_id: int) -> WriteCommand:
    return WriteCommand(revoke_lease=WriteCommand.RevokeLease(id=lease_id))


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


def apply_batch(store: Store, batch: bytes) -> Outcome:
    """Apply it at the next revision."""
    return store.apply_batch(batch, store.revision + 1)


def view_of(store: Store) -> StoreParts:
    """A copy of everything."""
    parts = copy.deepcopy(store.freeze())
    store.thaw()
    return parts


def parts_of(
    values: dict[bytes, bytes],
    deadlines: dict[bytes, int] | None = None,
    clock_ms: int = 0,
    origins: dict[bytes, tuple[int, int]] | None = None,
    revision: int = 1,
    grants: GrantParts | None = None,
    removals: RemovalParts | None = None,
) -> StoreParts:
    """Parts in which every key was made and last changed at one revision."""
    revisions = dict.fromkeys(values, revision)
    columns = Columns.of(dict(values), revisions, {}, dict(deadlines or {}))
    return StoreParts(
        columns,
        clock_ms,
        dict(origins or {}),
        grants or GrantParts(),
        removals or RemovalParts(),
    )


def apply(store: Store, *commands: WriteCommand, now_ms: int = 0) -> list[Result]:
    """Apply an anonymous batch; its results."""
    outcome = apply_batch(store, batch_of(*commands, now_ms=now_ms))
    assert isinstance(outcome, list)
    return outcome


def store_with(*commands: WriteCommand, now_ms: int = 0) -> Store:
    store = Store()
    apply(store, *commands, now_ms=now_ms)
    return store
