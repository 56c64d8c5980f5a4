"""What a session needs of the node behind it, and what it gives in return.

    submit(waiter, start, stop)  -> waiter.resolve(results, start, stop)  or  waiter.fail(error)
    read(level, waiter)          -> waiter.ready()                        or  waiter.fail(error)
    transfer, snapshot, add_member, remove_member
                                 -> waiter.resolve([text], 0, 1)          or  waiter.fail(error)

Shapes only: node.service.Service is one Backend, tests/support/fake_service.py the other.

Invariants: of resolve, ready and fail exactly one is called, exactly once for each request;
it may be called before the request returns. A waiter whose client has gone takes the call
and does nothing. All calls come from the loop's thread.

Does not do: anything.

Proved by: tests/node/test_session.py; mypy holds both implementations to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from node.config import Member
from node.reads import Level
from statemachine.commands import BatchBuilder, SnapshotMetadata
from statemachine.entries import Scan
from statemachine.fs import ReadFile
from statemachine.grants import Lease
from statemachine.history import History
from statemachine.keyspace import Change
from statemachine.layer import Record

__all__ = ["Backend", "Machine", "Seen", "Waiter"]


class Waiter(Protocol):
    """Who waits."""

    def resolve(self, results: Sequence[Any], start: int, stop: int) -> None:
        """The results of slots [start, stop) stand at those places of `results`."""

    def ready(self) -> None:
        """The machine may be read, within this call."""

    def fail(self, error: Exception) -> None:
        """It did not come about; the family of `error` says whether it may have been applied."""


class Seen(Protocol):
    """What keys may be asked: of a machine, or of what was fetched inside a transaction."""

    @property
    def clock_ms(self) -> int: ...
    def get(self, key: bytes) -> bytes | None: ...
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...
    def exists(self, key: bytes) -> bool: ...
    def deadline_ms(self, key: bytes) -> int | None: ...
    def keys_page(self, after: bytes | None, count: int) -> tuple[list[bytes], bytes | None]: ...
    def facts(self, key: bytes) -> Record | None: ...
    def __len__(self) -> int: ...


class Machine(Seen, Protocol):
    """The reads of statemachine.FileStateMachine. To be read once a read was granted."""

    def is_unchanged(self, key: bytes, revision: int, seen: int | None) -> bool: ...
    @property
    def leases_count(self) -> int: ...
    @property
    def grants_count(self) -> int: ...
    def lease(self, lease_id: int) -> Lease | None: ...
    def lease_keys(self, lease_id: int, count: int) -> list[bytes]: ...
    def leases_page(self, after_id: int, count: int) -> list[Lease]: ...
    def scan_prefix(
        self, prefix: bytes, *, limit: int | None = None, after: bytes | None = None
    ) -> Scan: ...
    def scan_range(
        self, start: bytes, end: bytes | None, *, limit: int | None = None, reverse: bool = False
    ) -> Scan: ...


class Backend(Protocol):
    """One replica, as its client port sees it."""

    @property
    def machine(self) -> Machine: ...
    @property
    def batch(self) -> BatchBuilder:
        """The batch of this loop turn. It changes: to be fetched for each run of writes."""
        ...

    @property
    def node_id(self) -> str: ...
    @property
    def leader_id(self) -> str | None: ...
    @property
    def is_leader(self) -> bool: ...
    @property
    def term(self) -> int: ...

    def submit(self, waiter: Waiter, start: int, stop: int) -> None:
        """The slots [start, stop) of `batch`, just filled, belong to `waiter`."""

    def read(self, level: Level, waiter: Waiter) -> None:
        """Grant a read. At level EVENTUAL ready() is called at once."""

    def listen(self, told: Callable[[Sequence[Change]], None] | None) -> None:
        """Call `told` with what applying changed, from now on; None: nobody listens."""

    def watch(self, told: Callable[[], None], *, on: bool) -> None:
        """Call `told` whenever something may have been applied, or no more."""

    @property
    def history(self) -> History: ...
    @property
    def applied_index(self) -> int: ...

    def transfer(self, node_id: str | None, waiter: Waiter) -> None:
        """Hand leadership over; resolves with the id of the new leader."""

    def snapshot(self, waiter: Waiter) -> None:
        """Write a snapshot; resolves with b"index-term" once it is durable."""

    def open_snapshot(self) -> tuple[SnapshotMetadata, ReadFile] | None:
        """The newest snapshot, to be read; the caller closes it."""
        ...

    def add_member(self, member: Member, waiter: Waiter) -> None:
        """Seat a learner; resolves with the index of the entry once it is committed."""

    def remove_member(self, member_id: str, waiter: Waiter) -> None:
        """Take a member out; resolves with the index of the entry once it is committed."""

    def member_list(self) -> dict[str, Any]: ...
    def status(self) -> dict[str, Any]: ...
    def info(self) -> dict[str, object]: ...
    def members(self) -> tuple[Member, ...]: ...
    def alive(self, member_id: str) -> bool: ...
    def now_ms(self) -> int: ...
    def digest(self) -> tuple[int, str]: ...
