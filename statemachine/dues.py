"""When keys are due: deadlines of their own (leases.py) and grants that they hang on (grants.py).

    due       None: never     > 0: a deadline of its own, in ms     < 0: minus the serial of a
              grant, and with it the grant's deadline, whatever it is by then

That number stands in the record of every key that has one; here are the two indexes over it.

Invariants: each key is in the index that its due belongs to, and in no other; what is taken comes
in one order on every replica: deadlines of their own first, soonest first, then grants.

Does not: remove records, know values, or tell time.

Proved by: tests/statemachine/test_keyspace.py, test_grants.py, test_store_model.py
"""

from __future__ import annotations

from collections.abc import Mapping

from sortedcontainers import SortedList

from statemachine.grants import GrantParts, Grants
from statemachine.leases import Leases

__all__ = ["Dues"]


class Dues:
    """The two indexes of one store. Not thread-safe."""

    __slots__ = ("_leases", "count", "grants")

    def __init__(
        self, dues: Mapping[bytes, int] | None = None, grants: GrantParts | None = None
    ) -> None:
        dues = dues or {}
        self._leases = Leases({key: due for key, due in dues.items() if due >= 0})
        self.grants = Grants(grants, ((-due, key) for key, due in dues.items() if due < 0))
        self.count = len(dues)
        """How many keys are in an index."""

    def enter(self, key: bytes, due: int | None) -> None:
        """The key, which is in neither, is due then."""
        if due is None:
            return
        self.count += 1
        if due < 0:
            self.grants.attach(-due, key)
        else:
            self._leases.grant(key, due)

    def leave(self, key: bytes, due: int | None) -> None:
        """Forget that the key is due then, as it is. Raises: ValueError when it is not."""
        if due is None:
            return
        self.count -= 1
        if due < 0:
            self.grants.detach(-due, key)
        else:
            self._leases.revoke(key, due)

    def leave_all(self) -> list[SortedList]:
        """There are no keys any more. The grants stay. Returns: what held the keys."""
        orders = [self._leases.order, self.grants.attached]
        self._leases = Leases()
        self.grants.detach_all()
        self.count = 0
        return orders

    def deadline_ms(self, due: int | None) -> int | None:
        """When that is."""
        return self.grants[-due].deadline_ms if due is not None and due < 0 else due

    def next_deadline_ms(self) -> int | None:
        """The soonest, due or not. None: nothing will be."""
        soonest_ms, grants_ms = self._leases.next_deadline_ms(), self.grants.next_deadline_ms()
        if soonest_ms is None or grants_ms is None:
            return grants_ms if soonest_ms is None else soonest_ms
        return min(soonest_ms, grants_ms)

    def are_due(self, clock_ms: int) -> bool:
        """Whether anything is."""
        soonest_ms = self.next_deadline_ms()
        return soonest_ms is not None and soonest_ms <= clock_ms

    def take_due(self, clock_ms: int, keys_max: int) -> list[bytes]:
        """Forget what is due, at most keys_max of them; the keys, in order."""
        keys = self._leases.take_due(clock_ms, keys_max)
        keys += self.grants.take_due(clock_ms, keys_max - len(keys))
        self.count -= len(keys)
        return keys

    def due_count(self, clock_ms: int) -> int:
        """How many keys are due."""
        return self._leases.due_count(clock_ms) + self.grants.due_count(clock_ms)
