"""A test double: node.service.Service without Raft, over the real store.

    session -> submit, read, ... -> FakeService -> statemachine.Store (the real rules)

Writes wait in the batch until `settle`, reads until `settle` too (EVENTUAL ones are granted at
once, as the real service does). With `call_soon` it settles by itself at the end of the loop turn.
`next_failures` makes submits, reads and orders fail, oldest first. Time stands still unless told.

It says so: it is a double; what it proves is the sessions' side of the interface.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from node.backend import Backend, Waiter
from node.commands import COMMANDS
from node.config import (
    Address,
    ClientSection,
    Config,
    HistorySection,
    LimitsSection,
    Member,
    NodeSection,
    RaftSection,
)
from node.connection import Frontend
from node.reads import Level
from node.session import Session
from statemachine import BatchBuilder, SnapshotMetadata, stamp
from statemachine.entries import Scan
from statemachine.fs import ReadFile
from statemachine.grants import Lease
from statemachine.history import History, HistoryConfig
from statemachine.keyspace import Change
from statemachine.store import NotRun, Store

START_MS = 1_800_000_000_000


def members(count: int = 3, base_port: int = 7001) -> tuple[Member, ...]:
    """n1, n2, n3 as `trimaran cluster` would have them."""

    def address(port: int) -> Address:
        return Address("127.0.0.1", port)

    return tuple(
        Member(
            id=f"n{number + 1}",
            client=address(base_port + number),
            peer=address(base_port + 1000 + number),
            http=address(base_port + 2000 + number),
        )
        for number in range(count)
    )


def config(
    *,
    count: int = 3,
    base_port: int = 7001,
    client: ClientSection | None = None,
    limits: LimitsSection | None = None,
    history: HistorySection | None = None,
) -> Config:
    """The configuration of n1."""
    return Config(
        node=NodeSection(id="n1", data_dir=Path("unused")),
        members=members(count, base_port),
        client=client or ClientSection(),
        limits=limits or LimitsSection(),
        history=history or HistorySection(),
        raft=RaftSection(batch_bytes_max=1024) if limits else RaftSection(),
    )


class FakeMachine(Store):
    """The store, with the reads of a FileStateMachine."""

    def scan_prefix(  # type: ignore[override]
        self, prefix: bytes, *, limit: int | None = None, after: bytes | None = None
    ) -> Scan:
        return Scan(0, *super().scan_prefix(prefix, limit=limit, after=after))

    def scan_range(  # type: ignore[override]
        self, start: bytes, end: bytes | None, *, limit: int | None = None, reverse: bool = False
    ) -> Scan:
        return Scan(0, *super().scan_range(start, end, limit=limit, reverse=reverse))

    @property
    def grants_count(self) -> int:
        return self.grants.count

    def lease(self, lease_id: int) -> Lease | None:
        return self.grants.lease(lease_id, self.clock_ms)

    def lease_keys(self, lease_id: int, count: int) -> list[bytes]:
        return self.grants.keys(lease_id, self.clock_ms, count)

    def leases_page(self, after_id: int, count: int) -> list[Lease]:
        return self.grants.page(after_id, count, self.clock_ms)


class FakeService:
    """n1 of three, the leader unless told otherwise."""

    def __init__(
        self,
        *,
        count: int = 3,
        base_port: int = 7001,
        now_ms: Callable[[], int] | None = None,
        call_soon: Callable[[Callable[[], object]], object] | None = None,
        history: HistoryConfig | None = None,
    ) -> None:
        self.machine = FakeMachine()
        self.history = self.machine.history = History(history)
        self.batch = BatchBuilder()
        self.node_id = "n1"
        self.leader_id: str | None = "n1"
        self.is_leader = True
        self.term = 7
        self.dead: set[str] = set()
        self.index = 0
        self.clock_ms = START_MS
        self.submits = 0
        self.reads = 0
        self.levels: list[Level] = []
        self.transfers: list[str | None] = []
        self.next_failures: deque[Exception | None] = deque()
        self.snapshots: deque[tuple[SnapshotMetadata, ReadFile]] = deque()
        self._told: Callable[[Sequence[Change]], None] | None = None
        self.followers: dict[Callable[[], None], None] = {}
        self._now_ms = now_ms
        self._call_soon = call_soon
        self._members = members(count, base_port)
        self._claims: list[tuple[Waiter, int, int]] = []
        self._readers: list[Waiter] = []
        self._orders: list[tuple[Waiter, Any]] = []

    # What a session calls.

    def submit(self, waiter: Waiter, start: int, stop: int) -> None:
        self.submits += 1
        if not self._fails(waiter):
            self._claims.append((waiter, start, stop))

    def read(self, level: Level, waiter: Waiter) -> None:
        self.reads += 1
        self.levels.append(level)
        if self._fails(waiter):
            return
        if level is Level.EVENTUAL:
            waiter.ready()
        else:
            self._readers.append(waiter)

    def listen(self, told: Callable[[Sequence[Change]], None] | None) -> None:
        self._told = told
        if (told is None) != (self.machine.changes is None):
            self.machine.changes = None if told is None else []

    def watch(self, told: Callable[[], None], *, on: bool) -> None:
        if on:
            self.followers[told] = None
        else:
            self.followers.pop(told, None)

    @property
    def applied_index(self) -> int:
        return self.machine.revision

    def transfer(self, node_id: str | None, waiter: Waiter) -> None:
        self.transfers.append(node_id)
        if not self._fails(waiter):
            self._orders.append((waiter, node_id or "n2"))

    def add_member(self, member: Member, waiter: Waiter) -> None:
        if not self._fails(waiter):
            waiter.resolve([b"17"], 0, 1)

    def remove_member(self, member_id: str, waiter: Waiter) -> None:
        if not self._fails(waiter):
            waiter.resolve([b"18"], 0, 1)

    def member_list(self) -> dict[str, Any]:
        rows = [{"id": each.id, "role": "voter"} for each in self._members]
        return {"index": 0, "committed": True, "members": rows}

    def snapshot(self, waiter: Waiter) -> None:
        if not self._fails(waiter):
            self._orders.append((waiter, b"%d-%d" % (self.index, self.term)))

    def open_snapshot(self) -> tuple[SnapshotMetadata, ReadFile] | None:
        return self.snapshots.popleft() if self.snapshots else None

    def _fails(self, waiter: Waiter) -> bool:
        self._schedule()
        failure = self.next_failures.popleft() if self.next_failures else None
        if failure is None:
            return False
        self.batch = BatchBuilder()  # What is refused is not applied.
        waiter.fail(failure)
        return True

    def _schedule(self) -> None:
        if self._call_soon is not None:
            self._call_soon(self.settle)

    def now_ms(self) -> int:
        now_ms = self._now_ms() if self._now_ms is not None else self.clock_ms
        return max(self.machine.clock_ms, now_ms)

    def alive(self, member_id: str) -> bool:
        return member_id not in self.dead

    def members(self) -> tuple[Member, ...]:
        return self._members

    def digest(self) -> tuple[int, str]:
        return self.index, self.machine.digest().hex()

    def status(self) -> dict[str, Any]:
        return {
            "id": self.node_id,
            "role": "leader" if self.is_leader else "follower",
            "term": self.term,
            "leader": self.leader_id,
            "commit_index": self.index,
            "applied_index": self.index,
            "durable_index": self.index,
            "journal_bytes": 0,
            "keys": len(self.machine),
            "alive": True,
        }

    def info(self) -> dict[str, object]:
        return {
            "raft_id": self.node_id,
            "raft_role": "leader" if self.is_leader else "follower",
            "raft_term": self.term,
            "raft_leader": self.leader_id or "",
            "raft_leader_addr": "127.0.0.1:7001",
            "raft_commit_index": self.index,
            "raft_applied_index": self.index,
            "raft_durable_index": self.index,
            "raft_peers_connected": len(self._members) - 1 - len(self.dead),
        }

    # What a test calls.

    def settle(self) -> bool:
        """Apply the batch and grant the reads that wait now. False: nothing was waiting."""
        claims, self._claims = self._claims, []
        readers, self._readers = self._readers, []
        orders, self._orders = self._orders, []
        batch, self.batch = self.batch, BatchBuilder()
        if batch.width:
            self.index += 1
            results = self.machine.apply_batch(
                stamp(batch.build(), self.now_ms()), self.machine.revision + 1
            )
            assert not isinstance(results, NotRun)
            changes = self.machine.changes
            if changes and self._told is not None:
                self.machine.changes = []
                self._told(changes)
            for follower in list(self.followers):
                follower()
            for waiter, start, stop in claims:
                waiter.resolve(results, start, stop)
        for reader in readers:
            reader.ready()
        for waiter, text in orders:
            waiter.resolve([text], 0, 1)
        return bool(claims or readers or orders)

    def settle_all(self) -> None:
        """Until nothing waits."""
        while self.settle():
            pass


def _is_a_backend(service: FakeService) -> Backend:
    """mypy holds the double to the interface."""
    return service


class Client:
    """One session without a socket, and what it wrote."""

    def __init__(self, service: FakeService, frontend: Frontend | None = None) -> None:
        self.service = service
        self.frontend = frontend or Frontend(service, config(), COMMANDS)
        self.connection = self.frontend.connect("127.0.0.1:50000", "127.0.0.1:7001")
        self.written: list[bytes] = []
        self.is_closed = False
        self.is_reading = True
        self.session = Session(
            self.connection,
            write=self.written.append,
            close=self._close,
            pause_reading=lambda: self._set_reading(False),
            resume_reading=lambda: self._set_reading(True),
        )

    def _close(self) -> None:
        self.is_closed = True

    def _set_reading(self, is_reading: bool) -> None:
        assert self.is_reading is not is_reading
        self.is_reading = is_reading

    def send(self, data: bytes) -> None:
        """Bytes from the client; nothing is settled."""
        self.session.receive(data)

    def take(self) -> bytes:
        """What was written since the last call."""
        data = b"".join(self.written)
        self.written.clear()
        return data

    def run(self, *arguments: bytes | str | int) -> bytes:
        """One command to its reply."""
        self.send(wire(*arguments))
        self.service.settle_all()
        return self.take()


def wire(*arguments: bytes | str | int) -> bytes:
    """A request as clients send it."""
    parts = [one if isinstance(one, bytes) else str(one).encode() for one in arguments]
    head = b"*%d\r\n" % len(parts)
    return head + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
