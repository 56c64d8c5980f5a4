"""Grants: leases that have an id, a time to live and any number of keys.

    a grant      serial -> id, ttl_ms, deadline_ms         the serial counts grants and names one
                                                           for ever; an id may come back
    _order       (deadline_ms, serial), sorted             which is due next
    attached     8 bytes serial, big-endian | key          one bytes object, sorted: whose keys

The truth about a key is its record: the deadline column holds minus the serial of its grant
(keyspace.py). `attached` is the index over that, as leases.py is over plain deadlines. So keeping a
grant alive changes one entry here however many keys it has, and no key.

A grant ends when deadline_ms <= clock_ms; `revoke` moves its deadline to the clock. From that
moment it and all its keys are there for nobody; `take_due` takes the keys away some at a time,
in the order (deadline, serial, key), and then the grant. A new one may have its id meanwhile: it
has another serial.

Invariants: serials rise and are never used again, through flushes and images as well; `attached`
holds exactly the records whose deadline column is negative; every serial in it has a grant here;
all depends on the batches alone: no clock, no randomness.

Does not: remove records, tell time, or know batches.

Proved by: tests/statemachine/test_grants.py, test_store_model.py,
tests/node/test_commands_leases.py
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from sortedcontainers import SortedDict, SortedList

__all__ = ["Grant", "GrantParts", "Grants", "Lease"]

_SERIAL: Final = struct.Struct(">Q")
_KEY_AT: Final = _SERIAL.size


@dataclass(frozen=True, slots=True)
class Grant:
    """One lease, as it is stored."""

    id: int
    ttl_ms: int
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Lease:
    """What a reader is told of a grant that is there."""

    id: int
    ttl_ms: int
    """What it was granted for."""
    deadline_ms: int
    """Absolute."""
    keys_count: int


@dataclass(frozen=True, slots=True)
class GrantParts:
    """All grants, as an image holds them. Nobody changes these."""

    last_serial: int = 0
    by_serial: Mapping[int, Grant] = field(default_factory=dict)
    """In the order of the serials."""


class Grants:
    """The grants of one store. Not thread-safe."""

    __slots__ = ("_by_serial", "_order", "_serials", "attached", "last_serial")

    def __init__(
        self, parts: GrantParts | None = None, attached: Iterable[tuple[int, bytes]] = ()
    ) -> None:
        """Args:
        attached: serial and key of every key that hangs on a grant.
        """
        parts = parts or GrantParts()
        self.last_serial = parts.last_serial
        self._by_serial: dict[int, Grant] = dict(parts.by_serial)
        self._order = SortedList(
            (grant.deadline_ms, serial) for serial, grant in self._by_serial.items()
        )
        # id -> serial: of two with one id the later, as the earlier has ended.
        self._serials = SortedDict({grant.id: serial for serial, grant in self._by_serial.items()})
        self.attached = SortedList([_SERIAL.pack(serial) + key for serial, key in attached])

    def parts(self) -> GrantParts:
        """Everything at this moment: 10 ns for each grant."""
        return GrantParts(self.last_serial, self._by_serial.copy())

    # Grants.

    @property
    def count(self) -> int:
        """How many there are; those whose time is over and that are not taken yet with them."""
        return len(self._by_serial)

    def grant(self, lease_id: int, ttl_ms: int, clock_ms: int) -> int | None:
        """A new one; its id. 0: one that is free. None: the id is taken."""
        if lease_id and self.serial_of(lease_id, clock_ms) is not None:
            return None
        serial = self.last_serial + 1
        while not lease_id:
            if self.serial_of(serial, clock_ms) is None:
                lease_id = serial
            else:
                serial += 1  # Somebody chose this number for an id.
        self.last_serial = serial
        self._by_serial[serial] = Grant(lease_id, ttl_ms, clock_ms + ttl_ms)
        self._order.add((clock_ms + ttl_ms, serial))
        self._serials[lease_id] = serial
        return lease_id

    def keep_alive(self, lease_id: int, clock_ms: int) -> int | None:
        """Due its ttl_ms from the clock on again; its ttl_ms. None: there is no such lease."""
        serial = self.serial_of(lease_id, clock_ms)
        if serial is None:
            return None
        ttl_ms = self._by_serial[serial].ttl_ms
        self._move(serial, clock_ms + ttl_ms)
        return ttl_ms

    def revoke(self, lease_id: int, clock_ms: int) -> bool:
        """It ends now. False: there is no such lease."""
        serial = self.serial_of(lease_id, clock_ms)
        if serial is None:
            return False
        self._move(serial, clock_ms)
        return True

    def _move(self, serial: int, deadline_ms: int) -> None:
        grant = self._by_serial[serial]
        self._order.remove((grant.deadline_ms, serial))
        self._order.add((deadline_ms, serial))
        self._by_serial[serial] = replace(grant, deadline_ms=deadline_ms)

    def serial_of(self, lease_id: int, clock_ms: int) -> int | None:
        """Which grant has this id; None: none that is there."""
        serial: int | None = self._serials.get(lease_id)
        if serial is None or self._by_serial[serial].deadline_ms <= clock_ms:
            return None
        return serial

    def __getitem__(self, serial: int) -> Grant:
        return self._by_serial[serial]

    def __contains__(self, serial: int) -> bool:
        return serial in self._by_serial

    # Keys.

    def attach(self, serial: int, key: bytes) -> None:
        """The key hangs on this grant from now on. It must hang on none."""
        self.attached.add(_SERIAL.pack(serial) + key)

    def detach(self, serial: int, key: bytes) -> None:
        """Raises: ValueError when it does not hang on this one."""
        self.attached.remove(_SERIAL.pack(serial) + key)

    def detach_all(self) -> None:
        """No key hangs on any. The grants stay."""
        self.attached = SortedList()

    def _span(self, serial: int) -> tuple[int, int]:
        """Where its keys stand in `attached`: from, to before."""
        entries = self.attached
        return (
            entries.bisect_left(_SERIAL.pack(serial)),
            entries.bisect_left(_SERIAL.pack(serial + 1)),
        )

    # What is due.

    def take_due(self, clock_ms: int, steps_max: int) -> list[bytes]:
        """Take away what has ended: at most so many keys and grants; the keys, in order."""
        keys: list[bytes] = []
        order, entries = self._order, self.attached
        while order and steps_max > 0:
            deadline_ms, serial = order[0]
            if deadline_ms > clock_ms:
                break
            start, stop = self._span(serial)
            taken = entries[start : min(stop, start + steps_max)]
            if taken:
                keys += [entry[_KEY_AT:] for entry in taken]
                del entries[start : start + len(taken)]
                steps_max -= len(taken)
            if len(taken) == stop - start and steps_max > 0:
                self._drop(serial)
                steps_max -= 1
        return keys

    def _drop(self, serial: int) -> None:
        grant = self._by_serial.pop(serial)
        self._order.remove((grant.deadline_ms, serial))
        if self._serials[grant.id] == serial:
            del self._serials[grant.id]

    def next_deadline_ms(self) -> int | None:
        """The soonest deadline, due or not. None: there are no grants."""
        return self._order[0][0] if self._order else None

    def due_count(self, clock_ms: int) -> int:
        """How many keys hang on grants that have ended: 3 us for each such grant."""
        spans = (self._span(serial) for _, serial in self._order.irange(None, (clock_ms + 1, 0)))
        return sum(stop - start for start, stop in spans)

    # What a reader is told.

    def lease(self, lease_id: int, clock_ms: int) -> Lease | None:
        """None: there is no such lease."""
        serial = self.serial_of(lease_id, clock_ms)
        return None if serial is None else self._shown(serial)

    def keys(self, lease_id: int, clock_ms: int, count: int) -> list[bytes]:
        """Its first keys, in order."""
        serial = self.serial_of(lease_id, clock_ms)
        if serial is None:
            return []
        start, stop = self._span(serial)
        return [entry[_KEY_AT:] for entry in self.attached[start : min(stop, start + count)]]

    def page(self, after_id: int, count: int, clock_ms: int) -> list[Lease]:
        """Those that are there, by id, behind `after_id`."""
        found: Iterator[int] = (
            serial
            for serial in map(self._serials.__getitem__, self._serials.irange(after_id + 1))
            if self._by_serial[serial].deadline_ms > clock_ms
        )
        return list(map(self._shown, islice(found, count)))

    def _shown(self, serial: int) -> Lease:
        grant = self._by_serial[serial]
        start, stop = self._span(serial)
        return Lease(grant.id, grant.ttl_ms, grant.deadline_ms, stop - start)
