"""The keys: records, their deadlines in order, and the clock, always changed together.

    records   key -> value, revisions, due           dues      who is due, soonest first
    clock_ms  the replicated clock: moved by batches, never back, read from no machine
    revision  of what changes now: the Raft index of the batch that is being applied
    removals  which keys went lately                 history   what was done, for those who watch

A key is there when it has a record and its deadline, if it has one, lies after
clock_ms. `advance` moves the clock and removes what is due, at most
EXPIRE_PER_BATCH_MAX keys, so that a million leases that fall due together do not stop the
store. What the bound leaves over (the backlog) is there for nobody: reads skip it
without removing it, writes remove it first (`live`). So the bound cannot be seen,
and the same batches leave the same bytes on every replica, however often each was read.

Invariants: `dues` holds exactly what the records say; no key is stored with a deadline at or before
the clock (it is removed at once); clock_ms never falls; reads change nothing; nothing that
is stored depends on `changes` or `history`.

Does not: decide what a command does (rules.py), or know batches (store.py).

Proved by: tests/statemachine/test_keyspace.py, test_expiry.py, test_store_model.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from statemachine.dues import Dues
from statemachine.grants import GrantParts, Grants
from statemachine.history import History
from statemachine.layer import Columns, Record
from statemachine.records import Records
from statemachine.remains import Remains
from statemachine.removals import REMOVALS_MAX, Removals

__all__ = ["EXPIRE_PER_BATCH_MAX", "Change", "Keyspace", "prefix_end"]

EXPIRE_PER_BATCH_MAX: Final = 5_000
"""About 20 ms of work. The same number on every replica, therefore not configurable."""


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key behind all keys that start with `prefix`. None: nothing is behind them."""
    # 0xff cannot be raised: b"a\\xff" ends at b"b", and b"\\xff" never.
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


Change = tuple[str, tuple[bytes, ...]]
"""What happened, in Redis's word for it, and to which keys ("publish": channel and message)."""


class Keyspace:
    """What is stored, and how it is read. Not thread-safe."""

    __slots__ = ("_dues", "_has_backlog", "_records", "changes", "clock_ms", "get", "history",
                 "remains", "removals", "revision")  # fmt: skip

    get: Callable[[bytes], bytes | None]
    """The value, b"" included; None: no such key. One lookup in C while no lease is due and no
    view is held: chosen when either may have changed (`_choose_get`), not at every read."""

    def __init__(self) -> None:
        self._records = Records()
        self._dues = Dues()
        self.removals = Removals()
        self.remains = Remains()  # Of what `clear` replaced, and of the store before this one.
        self.history: History | None = None
        """As `changes` below, value by value."""
        self.clock_ms = 0
        self.revision = 0
        self.changes: list[Change] | None = None
        """What changed, in order, for this replica's listeners; None: nobody listens. Whoever
        listens puts a list here and empties it. Nothing that is stored depends on it."""
        self._has_backlog = False  # Whether anything may be due: too long at most, never too short.
        self._choose_get()

    # Changes. Called by rules.py and store.py only.

    def advance(self, now_ms: int) -> None:
        """Move the clock to now_ms, unless it is there already, and expire what is due."""
        self.remains.shrink()
        self.clock_ms = max(self.clock_ms, now_ms)
        if self._dues.are_due(self.clock_ms):
            keys = self._dues.take_due(self.clock_ms, EXPIRE_PER_BATCH_MAX)
            if keys:
                self._expire(keys)
        self._find_backlog()

    def _expire(self, keys: list[bytes]) -> None:
        """These are due, and in no index any more."""
        records = self._records
        if self.history is not None:
            self.history.note(self.revision, "expire", keys, None, records.get_many(keys))
        for key in keys:
            self.removals.note(key, records.modified(key))
            records.remove(key)
        if self.changes is not None:
            self.changes.append(("expired", tuple(keys)))

    def live(self, key: bytes) -> bytes | None:
        """The value, for a command that may change the key: one that is due is removed first."""
        if self._is_backlog(key):
            self._dues.leave(key, self._records.deadline_ms(key))
            self._expire([key])
            return None
        return self._records.get(key)

    def assign(
        self, key: bytes, value: bytes, due: int | None = None, operation: str = "set"
    ) -> None:
        """Set value and when it is due (dues.py). A deadline that has passed: it is removed."""
        if due is not None and 0 <= due <= self.clock_ms:
            self.remove(key)
            return
        if self._has_backlog:
            self.live(key)
        if self.history is not None:
            previous = self._records.get(key)
            self.history.note_one(self.revision, operation, key, value, previous)
        if self._dues.count or due is not None:
            old = self._records.deadline_ms(key)
            if old != due:
                self._dues.leave(key, old)
                self._dues.enter(key, due)
        self._records.put(key, value, self.revision, due)

    def assign_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """`assign` without deadlines, in columns: the hot path. The last of equal keys wins."""
        if self._dues.count:
            if self._has_backlog:
                for key in keys:
                    self.live(key)
            for key, due in self._records.deadlines_of(keys).items():
                self._dues.leave(key, due)
        if self.history is not None:
            previous = self._records.get_many(keys)
            self.history.note(self.revision, "set", keys, values, previous)
        self._records.put_many(keys, values, self.revision)

    def remove(self, key: bytes) -> None:
        """Take away key and lease. The key may be missing."""
        value = self.live(key)
        if value is not None:
            records = self._records
            self._dues.leave(key, records.deadline_ms(key))
            self.removals.note(key, records.modified(key))
            records.remove(key)
            if self.history is not None:
                self.history.note_one(self.revision, "del", key, None, value)

    def clear(self) -> None:
        """No keys, and none hangs on a grant. The clock stays, and so do the grants."""
        records = self._records
        if len(records) <= REMOVALS_MAX:
            for key in records.between(None, None):
                self.removals.note(key, records.modified(key))
        else:
            self.removals.forget(self.revision)
        if self.history is not None and len(records):
            self.history.note_one(self.revision, "flush", b"", None, None)
        self.remains.add(records, self._dues.leave_all())
        self._records = Records()
        self._find_backlog()

    def replace(self, columns: Columns, grants: GrantParts | None = None) -> None:
        """Other keys, leases and grants in place of all. Takes them over."""
        self._records = Records(columns)
        self._dues = Dues(columns.deadlines, grants)
        self._find_backlog()

    def _find_backlog(self) -> None:
        self._has_backlog = self._dues.are_due(self.clock_ms)
        self._choose_get()

    def _choose_get(self) -> None:
        # It may stay the slow one too long (a layer was lifted), never the fast one.
        self.get = self._get_due if self._has_backlog else self._records.reader

    @property
    def grants(self) -> Grants:
        """The leases of many keys."""
        return self._dues.grants

    def revoke_lease(self, lease_id: int) -> bool:
        """It and its keys are there for nobody from now on. False: no such lease."""
        found = self.grants.revoke(lease_id, self.clock_ms)
        self._find_backlog()
        return found

    # Reads. Each is one moment; what they return is the caller's.

    def _get_due(self, key: bytes) -> bytes | None:
        return None if self._is_backlog(key) else self._records.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As get, position for position."""
        if self._has_backlog:
            return [self.get(key) for key in keys]
        return self._records.get_many(keys)

    def facts(self, key: bytes) -> Record | None:
        """Value, revisions, deadline, lease; None: no such key."""
        record = None if self._is_backlog(key) else self._records.record(key)
        if record is not None and record.deadline_ms is not None and record.deadline_ms < 0:
            grant = self.grants[-record.deadline_ms]
            record.deadline_ms, record.lease = grant.deadline_ms, grant.id
        return record

    def is_unchanged(self, key: bytes, revision: int, seen: int | None) -> bool:
        """Whether the key is still as it was at `revision`; 0: it was not there at index `seen`,
        and has not been there since."""
        facts = self.facts(key)
        if facts is not None:
            return facts.modified == revision
        return revision == 0 and (seen is None or not self.removals.was_there_since(key, seen))

    def exists(self, key: bytes) -> bool:
        """Whether the key is there."""
        return key in self._records and not self._is_backlog(key)

    def deadline_ms(self, key: bytes) -> int | None:
        """Absolute, its lease's if it hangs on one. None: no deadline, or no such key."""
        return self._dues.deadline_ms(self.due(key))

    def due(self, key: bytes) -> int | None:
        """What `assign` takes to leave that as it is."""
        return None if self._is_backlog(key) else self._records.deadline_ms(key)

    @property
    def leases_count(self) -> int:
        """How many keys have a deadline."""
        return self._dues.count

    def next_deadline_ms(self) -> int | None:
        """The soonest deadline: at or before the clock while a batch left some over."""
        return self._dues.next_deadline_ms()

    def __len__(self) -> int:
        """How many keys are there."""
        if not self._has_backlog:
            return len(self._records)
        return len(self._records) - self._dues.due_count(self.clock_ms)

    def scan_prefix(
        self, prefix: bytes, *, limit: int | None = None, after: bytes | None = None
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Keys that start with prefix, in order, behind `after`; and whether more follow."""
        end = prefix_end(prefix)
        if after is not None and after >= prefix:
            return self._items(self._records.between(after, end, after_start=True), limit)
        return self._items(self._records.between(prefix, end), limit)

    def scan_range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """start <= key < end (None: no end), in order or, reversed, from the end down;
        and whether more follow."""
        return self._items(self._records.between(start, end, reverse=reverse), limit)

    def keys_page(self, after: bytes | None, count: int) -> tuple[list[bytes], bytes | None]:
        """At least one and up to count keys behind `after` (None: from the first), in order;
        and what to hand in next, None at the end.

        A key that is there from the first page to the last is on exactly one of them.
        """
        keys: list[bytes] = []
        for key in self._records.between(after, None, after_start=after is not None):
            if self._is_backlog(key):
                continue
            if keys and len(keys) >= count:
                return keys, keys[-1]
            keys.append(key)
        return keys, None

    def _items(
        self, keys: Iterator[bytes], limit: int | None
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        items: list[tuple[bytes, bytes]] = []
        for key in keys:
            if self._is_backlog(key):
                continue
            if limit is not None and len(items) >= limit:
                return items, True
            value = self._records.get(key)
            assert value is not None
            items.append((key, value))
        return items, False

    def _is_backlog(self, key: bytes) -> bool:
        if not self._has_backlog:
            return False
        deadline_ms = self._dues.deadline_ms(self._records.deadline_ms(key))
        return deadline_ms is not None and deadline_ms <= self.clock_ms
