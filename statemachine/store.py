"""The store: a keyspace that takes batches. One clock, one order, one result everywhere.

    batch -> 1 clock -> 2 expire what is due -> 3 admit by origin -> 4 commands -> results
                                                   | DUPLICATE, GAP

Steps 1 and 2 happen for every batch that has a head, duplicates and gaps too: the time on it was
stamped by a leader and committed. Step 3 makes a batch that was sent again run exactly once
and in order: of each origin and epoch, sequences run 1, 2, 3... without holes; a new
epoch starts at 1 and ends the older ones. A duplicate or gap changes nothing else.

Invariants: the state after a batch depends on the state before and the batch's bytes alone:
no clock, no randomness, no order of dicts; a view (`freeze`) or how far it is folded
changes nothing that anyone can see. A batch that no replica can read yields one
refusal and counts: if its head is sound its sequence is used up, or the origin would be
stuck behind a gap for ever.

Does not: touch a disk, know Raft indexes (machine.py skips what was applied already), or
raise for anything that a batch may hold, except Fatal for one that a newer program wrote.

Proved by: tests/statemachine/test_store.py, test_expiry.py, test_store_model.py
"""

from __future__ import annotations

import enum
import hashlib
import struct
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from statemachine.commands import BatchHead, read_commands, read_head
from statemachine.errors import Rejected
from statemachine.grants import GrantParts
from statemachine.keyspace import EXPIRE_PER_BATCH_MAX, Keyspace
from statemachine.layer import Columns
from statemachine.removals import RemovalParts, Removals
from statemachine.rules import Fetched, Refusal, Result, run

__all__ = [
    "ALREADY_APPLIED",
    "DUPLICATE",
    "EXPIRE_PER_BATCH_MAX",
    "GAP",
    "Fetched",
    "NotRun",
    "Outcome",
    "Refusal",
    "Result",
    "Store",
    "StoreParts",
]


class NotRun(enum.Enum):
    """Why a whole batch changed no key."""

    DUPLICATE = "duplicate"
    """A batch of this origin with this sequence ran before, or its epoch is over."""
    GAP = "gap"
    """A batch of this origin before this one is missing."""
    ALREADY_APPLIED = "already applied"
    """By index. Said by the machine, never by the store."""


DUPLICATE: Final = NotRun.DUPLICATE
GAP: Final = NotRun.GAP
ALREADY_APPLIED: Final = NotRun.ALREADY_APPLIED

Outcome = list[Result] | NotRun
"""Of a batch: one result per slot, or why nothing ran."""


@dataclass(frozen=True, slots=True)
class StoreParts:
    """Everything that a store is, as plain values: what an image holds."""

    columns: Columns
    """The keys. Some deadlines may be due: a batch expires only so many. Below 0: see dues.py."""
    clock_ms: int
    origins: dict[bytes, tuple[int, int]]
    """Node id -> (epoch, last sequence)."""
    grants: GrantParts = field(default_factory=GrantParts)
    removals: RemovalParts = field(default_factory=RemovalParts)


# Digest: fixed-width heads in front of each run of bytes, so that no two states look alike.
_DIGEST_STATE: Final = struct.Struct("<QQQ")  # clock_ms, keys, origins
_DIGEST_KEY: Final = struct.Struct("<QQQQq")  # key, value bytes, created, modified, due or 0
_DIGEST_STEP_KEYS: Final = 1024
_DIGEST_ORIGIN: Final = struct.Struct("<QQQ")  # origin bytes, epoch, last sequence
_DIGEST_GRANTS: Final = struct.Struct("<QQ")  # last serial, grants
_DIGEST_GRANT: Final = struct.Struct("<QQQQ")  # serial, id, time to live, deadline
_DIGEST_REMOVALS: Final = struct.Struct("<QQ")  # floor, removals
_DIGEST_REMOVAL: Final = struct.Struct("<QQ")  # checksum, revision


class Store(Keyspace):
    """Keys, leases, clock and origins; empty when new. All calls from one thread.

    `clock_ms` and `origins` are there to be read, not to be changed.
    """

    __slots__ = ("origins",)

    def __init__(self) -> None:
        super().__init__()
        self.origins: dict[bytes, tuple[int, int]] = {}

    def apply_batch(self, batch: bytes, revision: int) -> Outcome:
        """Same state and batch, same outcome and state, on every replica and at every replay.

        Args:
            revision: the batch's Raft index; what changes in it is marked with this.

        A batch that no replica can read yields [Refusal].

        Raises:
            Fatal: a newer program wrote the batch. Nothing has changed.
        """
        try:
            head = read_head(batch)
        except Rejected as error:
            return [Refusal("ERR", str(error))]
        self.revision = revision
        self.advance(head.now_ms)
        if head.origin:
            not_run = self._admit(head)
            if not_run is not None:
                return not_run
        try:
            commands = read_commands(batch)
        except Rejected as error:
            return [Refusal("ERR", str(error))]
        results: list[Result] = []
        for command in commands.commands:
            run(self, command, results)
        return results

    def _admit(self, head: BatchHead) -> NotRun | None:
        """None, and the sequence is used up: the batch is the origin's next."""
        epoch, last = self.origins.get(head.origin, (0, 0))
        if head.epoch < epoch or (head.epoch == epoch and head.sequence <= last):
            return DUPLICATE
        expected = last + 1 if head.epoch == epoch else 1
        if head.sequence != expected:
            return GAP
        self.origins[head.origin] = (head.epoch, head.sequence)
        return None

    def digest(self) -> bytes:
        """SHA-256 over keys in order, values, revisions, leases, clock, origins, grants and
        removals: 32 bytes.

        Equal on all replicas that applied the same batches. About 1 us a key.
        """
        state = hashlib.sha256()
        records = self._records
        state.update(_DIGEST_STATE.pack(self.clock_ms, len(records), len(self.origins)))
        rows, pack = records.rows(), _DIGEST_KEY.pack
        while step := list(islice(rows, _DIGEST_STEP_KEYS)):
            parts: list[bytes] = []
            for key, value, created, modified, deadline_ms in step:
                facts = pack(len(key), len(value), created, modified, deadline_ms or 0)
                parts += (facts, key, value)
            state.update(b"".join(parts))
        for origin, (epoch, sequence) in sorted(self.origins.items()):
            state.update(_DIGEST_ORIGIN.pack(len(origin), epoch, sequence) + origin)
        grants = self.grants.parts()
        state.update(_DIGEST_GRANTS.pack(grants.last_serial, len(grants.by_serial)))
        for serial, grant in grants.by_serial.items():
            state.update(_DIGEST_GRANT.pack(serial, grant.id, grant.ttl_ms, grant.deadline_ms))
        removals = self.removals.parts()
        state.update(_DIGEST_REMOVALS.pack(removals.floor, len(removals.revisions)))
        for removal in removals.revisions.items():
            state.update(_DIGEST_REMOVAL.pack(*removal))
        return state.digest()

    def freeze(self) -> StoreParts:
        """Everything at this moment. Nobody changes it before `thaw`; another thread may read it.

        One view at a time. Costs 10 ns for each grant, and 3 us for each key that is still
        `unfolded`.
        """
        columns = self._records.freeze()
        self._choose_get()
        parts = (self.clock_ms, self.origins.copy(), self.grants.parts(), self.removals.parts())
        return StoreParts(columns, *parts)

    def thaw(self) -> None:
        """The view is done with. Harmless when there is none."""
        self._records.thaw()
        self.remains.thaw()

    @property
    def unfolded(self) -> int:
        """How many keys that were written during the last view are still to be folded in."""
        return self._records.unfolded

    def fold(self, keys_max: int) -> None:
        """Fold some in, about 3 us each; every write folds a few as well."""
        self._records.fold(keys_max)

    def succeed(self, other: Store) -> None:
        """Take over what is left of the store that this one replaces, to let it go by and by."""
        self.remains = other.remains
        self.remains.add(other._records, other._dues.leave_all())

    def restore(self, parts: StoreParts) -> None:
        """Become these parts, in place of everything. Takes them over.

        Raises:
            Rejected: the parts do not fit together. Nothing has changed.
        """
        columns = parts.columns
        if not columns.deadlines.keys() <= columns.values.keys():
            raise Rejected("a deadline belongs to a key that is not there")
        serials = {-due for due in columns.deadlines.values() if due < 0}
        if not serials <= parts.grants.by_serial.keys():
            raise Rejected("a key hangs on a lease that is not there")
        self.clock_ms = parts.clock_ms
        self.replace(columns, parts.grants)
        self.origins = parts.origins
        self.removals = Removals(parts.removals)
