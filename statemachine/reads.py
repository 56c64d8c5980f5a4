"""What may be asked of a machine: reads, all of one moment, never of the disk.

    Reads                     FileStateMachine is one
      _store, _terms          the state and where in the log it stands
      _refusal                makes the error that says why nothing may be asked; None: all is well

Invariants: a key whose deadline is not after the clock is absent, whether or not a batch has
removed it yet; the clock is the replicated one, so every replica at the same index answers alike.
Each answer is of one moment: nothing is applied while a call runs. A machine that was stopped
answers Unavailable, one that has failed Fatal: never an answer it cannot vouch for.

What is not done: no consistency levels: this is one replica's memory (the node's reads wait for
the right index first).

Proved by: tests/statemachine/test_machine.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from statemachine.commands import LogId
from statemachine.entries import Scan
from statemachine.errors import KVError
from statemachine.grants import Lease
from statemachine.history import History
from statemachine.keyspace import Change
from statemachine.layer import Record
from statemachine.store import Store
from statemachine.terms import LogTerms

__all__ = ["Reads"]


class Reads:
    """The reading half of a FileStateMachine."""

    _store: Store
    _terms: LogTerms
    _history: History
    _refusal: Callable[[], KVError] | None

    def _check(self) -> None:
        if self._refusal is not None:
            raise self._refusal()

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        if self._refusal is not None:
            self._check()
        return self._store.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values in the order of the keys, None for absent ones; one moment."""
        self._check()
        return self._store.get_many(keys)

    def exists(self, key: bytes) -> bool:
        """Whether the key is there."""
        self._check()
        return self._store.exists(key)

    def deadline_ms(self, key: bytes) -> int | None:
        """The absolute deadline; None: no such key, or no deadline (ask `exists`)."""
        self._check()
        return self._store.deadline_ms(key)

    def facts(self, key: bytes) -> Record | None:
        """Value, revisions (indexes of batches) and deadline in one; None: no such key."""
        self._check()
        return self._store.facts(key)

    @property
    def leases_count(self) -> int:
        """How many keys have a deadline."""
        return self._store.leases_count

    @property
    def grants_count(self) -> int:
        """How many leases of many keys there are; those that are due now with them."""
        return self._store.grants.count

    @property
    def changes(self) -> list[Change] | None:
        """See Keyspace.changes. To be set again after a snapshot was installed."""
        return self._store.changes

    @changes.setter
    def changes(self, changes: list[Change] | None) -> None:
        self._store.changes = changes

    @property
    def history(self) -> History:
        """What was done lately, for those who watch. The same object for ever."""
        return self._history

    def lease(self, lease_id: int) -> Lease | None:
        """A lease of many keys; None: it is not there."""
        self._check()
        return self._store.grants.lease(lease_id, self._store.clock_ms)

    def lease_keys(self, lease_id: int, count: int) -> list[bytes]:
        """Its first keys, in order."""
        self._check()
        return self._store.grants.keys(lease_id, self._store.clock_ms, count)

    def leases_page(self, after_id: int, count: int) -> list[Lease]:
        """Leases of many keys, by id, behind `after_id`."""
        self._check()
        return self._store.grants.page(after_id, count, self._store.clock_ms)

    def is_unchanged(self, key: bytes, revision: int, seen: int | None) -> bool:
        """Whether the key is still as it was at `revision`; 0: it was not there at index `seen`,
        and has not been there since."""
        self._check()
        return self._store.is_unchanged(key, revision, seen)

    def scan_prefix(
        self, prefix: bytes, *, limit: int | None = None, after: bytes | None = None
    ) -> Scan:
        """Keys that begin with `prefix`, in order, behind `after` (exclusive)."""
        self._check()
        items, more = self._store.scan_prefix(prefix, limit=limit, after=after)
        return Scan(self._terms.last_index, items, more)

    def scan_range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Scan:
        """start <= key < end in order (end None: to the last); reverse: from the end down."""
        self._check()
        items, more = self._store.scan_range(start, end, limit=limit, reverse=reverse)
        return Scan(self._terms.last_index, items, more)

    def keys_page(self, after: bytes | None, count: int) -> tuple[list[bytes], bytes | None]:
        """Up to `count` keys in order behind `after`, and what to pass next (None: at the end)."""
        self._check()
        return self._store.keys_page(after, count)

    def __len__(self) -> int:
        """How many keys there are."""
        self._check()
        return len(self._store)

    def __bool__(self) -> bool:
        # NB: without this, __len__ would make an empty machine false.
        return True

    def is_empty(self) -> bool:
        """Whether there is no key."""
        return len(self) == 0

    def digest(self) -> bytes:
        """SHA-256 of the state: keys in order, values, leases, clock, origins. Not of the index.

        About 1 us for each key.
        """
        self._check()
        return self._store.digest()

    @property
    def origins(self) -> Mapping[bytes, tuple[int, int]]:
        """Epoch and last applied sequence of every origin. To be read at once, not to be kept."""
        return self._store.origins

    @property
    def last_applied(self) -> LogId:
        """The last entry that changed this state; 0@0: none."""
        return self._terms.last

    def entry_term(self, index: int) -> int | None:
        """The term of an applied entry; None: not applied, or not known any more."""
        return self._terms.entry_term(index)

    @property
    def clock_ms(self) -> int:
        """The replicated clock: the highest time of any applied batch."""
        return self._store.clock_ms

    @property
    def next_deadline_ms(self) -> int | None:
        """The soonest deadline of any key; None: no key has one.

        At or below the clock: a batch left some over (it expires only so many), so an empty
        batch is worth proposing at once.
        """
        return self._store.next_deadline_ms()
