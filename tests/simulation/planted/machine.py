"""Planted bugs. The state machine: rules, origins, leases, its log and its images.

Proved by: tests/simulation/test_planted.py, scripts/simulate --planted
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

from statemachine import FileStateMachine, checkpoint, recovery, rules_strings
from statemachine.keyspace import Keyspace
from statemachine.store import Store
from statemachine.wal import Wal
from tests.simulation.planted.bug import Bug, put

__all__ = ["FOUND"]


def _no_dedup() -> Sequence[Any]:
    def admit(self: Store, head: Any) -> Any:
        self.origins[head.origin] = (head.epoch, head.sequence)

    return [put(Store, "_admit", admit)]


def _old_epochs_admitted() -> Sequence[Any]:
    real = Store._admit

    def admit(self: Store, head: Any) -> Any:
        if head.epoch < self.origins.get(head.origin, (0, 0))[0]:
            return None
        return real(self, head)

    return [put(Store, "_admit", admit)]


def _applied_again() -> Sequence[Any]:
    real = FileStateMachine.apply

    def apply(self: FileStateMachine, index: int, term: int, batch: bytes) -> Any:
        if index <= self._terms.last_index:
            return self._store.apply_batch(batch, index)
        return real(self, index, term, batch)

    return [put(FileStateMachine, "apply", apply)]


def _expires_early() -> Sequence[Any]:
    real = Keyspace.advance

    def advance(self: Keyspace, now_ms: int) -> None:
        clock_ms = max(self.clock_ms, now_ms)
        self.clock_ms = clock_ms + 60
        real(self, now_ms)
        self.clock_ms = clock_ms

    return [put(Keyspace, "advance", advance)]


def _clock_goes_back() -> Sequence[Any]:
    real = Keyspace.advance

    def advance(self: Keyspace, now_ms: int) -> None:
        self.clock_ms = now_ms
        real(self, now_ms)

    return [put(Keyspace, "advance", advance)]


def _leases_renewed_by_restart() -> Sequence[Any]:
    real = recovery.recover

    def recover(*arguments: Any) -> Any:
        found = real(*arguments)
        store = found.store
        for key, deadline_ms in list(store._leases.items()):
            value = store._records.get(key)
            store.assign(key, value, deadline_ms + 200)
        return found

    return [mock.patch("statemachine.machine.recover", recover)]


def _origins_not_in_images() -> Sequence[Any]:
    real = Store.restore

    def restore(self: Store, parts: Any) -> None:
        real(self, parts)
        self.origins = {}

    return [put(Store, "restore", restore)]


def _leases_not_in_images() -> Sequence[Any]:
    real = Store.restore

    def restore(self: Store, parts: Any) -> None:
        parts.columns.deadlines.clear()
        real(self, parts)

    return [put(Store, "restore", restore)]


def _keep_ttl_forgets() -> Sequence[Any]:
    real = rules_strings.append

    def append(keys: Keyspace, command: Any) -> Any:
        result = real(keys, command)
        value = keys.live(command.key)
        if value is not None:
            keys.assign(command.key, value, None)
        return result

    import statemachine.rules

    return [mock.patch.dict(statemachine.rules._RULES, {"append": append})]


def _half_transactions() -> Sequence[Any]:
    """The second command of a transaction is left out on replicas by chance of the clock."""
    import statemachine.rules

    real = statemachine.rules._RULES["transaction"]

    def transaction(keys: Keyspace, command: Any) -> Any:
        if keys.clock_ms % 16 == 0 and len(command.commands.commands) > 1:
            del command.commands.commands[-1]
        return real(keys, command)

    return [mock.patch.dict(statemachine.rules._RULES, {"transaction": transaction})]


def _reads_delete() -> Sequence[Any]:
    """A read removes what is due by the replica's own idea of it."""

    def choose_get(self: Keyspace) -> None:
        def get(key: bytes) -> bytes | None:
            value = self._get_due(key)
            deadline_ms = self._records.deadline_ms(key)
            if deadline_ms is not None and deadline_ms - self.clock_ms < 300:
                self.remove(key)
            return value

        self.get = get  # type: ignore[method-assign]

    def get_many(self: Keyspace, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    return [put(Keyspace, "_choose_get", choose_get), put(Keyspace, "get_many", get_many)]


def _true(*_: Any) -> bool:
    return True


def _set_ignores_condition() -> Sequence[Any]:
    return [mock.patch("statemachine.rules_strings.condition_holds", _true)]


def _delete_not_logged() -> Sequence[Any]:
    """DEL is done in memory and left out of the WAL."""
    real = Wal.append_one

    def append_one(self: Wal, kind: int, index: int, term: int, payload: bytes) -> None:
        if index % 5:
            real(self, kind, index, term, payload)

    return [put(Wal, "append_one", append_one)]


def _segments_cut_first() -> Sequence[Any]:
    """The WAL is cut before the checkpoint that takes its place is there."""
    real = checkpoint.write_checkpoint

    def write(disk: Any, paths: Any, sequence: int, *rest: Any) -> Any:
        checkpoint.cut_segments(disk, paths, sequence)
        return real(disk, paths, sequence, *rest)

    return [mock.patch("statemachine.archive.write_checkpoint", write)]


FOUND: Sequence[Bug] = (
    Bug("sm: no dedup", "a batch sent again is applied again", _no_dedup),
    Bug("sm: old epochs admitted", "what a dead process sent is applied", _old_epochs_admitted),
    Bug("sm: applied again", "entries below last applied count", _applied_again, "disk"),
    Bug("sm: expires early", "by 60 ms", _expires_early),
    Bug("sm: the clock goes back", "with a new leader's", _clock_goes_back),
    Bug("sm: leases renewed by a restart", "200 ms more", _leases_renewed_by_restart, "disk"),
    Bug("sm: origins not in images", "forgotten by a restart", _origins_not_in_images),
    Bug("sm: leases not in images", "keys that stay for ever", _leases_not_in_images),
    Bug("sm: APPEND drops the lifetime", "on every replica", _keep_ttl_forgets),
    Bug("sm: half transactions", "now and then, everywhere alike", _half_transactions),
    Bug("sm: reads delete", "what is nearly due", _reads_delete),
    Bug("sm: conditions ignored", "NX, XX and IFEQ", _set_ignores_condition),
    Bug("sm: WAL leaves entries out", "every fifth", _delete_not_logged, "disk"),
    Bug("sm: WAL cut first", "before its checkpoint is there", _segments_cut_first),
)
