"""A whole state machine as a plain dict: what FileStateMachine is compared with.

    DictMachine    the public surface of FileStateMachine over model.Model: batches, origins,
                   indexes, terms, snapshots, life cycle
    State          all that it knows, and all that a snapshot of it holds
    DictDisk       where it lives: it is saved whole after every change

Written from the contracts (README.md, the seed's list), not from machine.py: there is no log, no
file, no index and no thread here, so what the real one gets wrong with them shows as a difference.
Refusals are `Refusal`s as the real one makes them. Reading a batch's bytes is not modelled: its
commands come from commands.py, whose own tests look at the bytes.

Proved by: tests/statemachine/test_conformance.py, which runs it through the seed's suite.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from statemachine import (
    ALREADY_APPLIED,
    DUPLICATE,
    GAP,
    KIND_BATCH,
    KIND_CONFIG,
    KIND_NOOP,
    Entry,
    LogId,
    Outcome,
    Refusal,
    Rejected,
    Result,
    Scan,
    SnapshotMetadata,
    Unavailable,
    read_commands,
    read_head,
)
from tests.statemachine.model import Answer, Model

__all__ = ["DictDisk", "DictMachine", "State", "as_result"]


def as_result(answer: Answer) -> Result:
    """A refusal's text as the refusal; all else as it is."""
    if not isinstance(answer, str):
        return answer
    code = "NOLEASE" if answer.startswith("there is no lease") else "ERR"
    return Refusal("LEASEEXISTS" if answer.endswith("is there already") else code, answer)


@dataclass
class State:
    """Plain values; `copy` shares nothing that changes."""

    model: Model = field(default_factory=Model)
    origins: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """Origin -> (epoch, last sequence)."""
    log: list[LogId] = field(default_factory=list)
    """Every entry that was applied, oldest first."""

    def copy(self) -> State:
        return State(self.model.copy(), dict(self.origins), list(self.log))

    @property
    def last(self) -> LogId:
        return self.log[-1] if self.log else LogId(0, 0)

    def items(self) -> list[tuple[bytes, bytes]]:
        """Keys in order, with their values."""
        return sorted((key, value) for key, (value, _) in self.model.keys.items())

    def plain(self) -> tuple[object, ...]:
        """All that a digest is of."""
        model = self.model
        keys = sorted((key, *each, model.held.get(key)) for key, each in model.keys.items())
        leases = sorted(model.leases.items())
        return model.clock, keys, sorted(self.origins.items()), leases, model.granted

    def apply(self, entry: Entry) -> Outcome:
        """The entry is the next one; its place in the log is noted."""
        self.log.append(LogId(entry.index, entry.term))
        return self.run(entry.payload) if entry.kind == KIND_BATCH else []

    def run(self, batch: bytes) -> Outcome:
        try:
            head = read_head(batch)
        except Rejected as error:
            return [Refusal("ERR", str(error))]
        self.model.advance(head.now_ms)
        if head.origin:
            epoch, last = self.origins.get(head.origin, (0, 0))
            if (head.epoch, head.sequence) <= (epoch, last):
                return DUPLICATE
            if head.sequence != (last + 1 if head.epoch == epoch else 1):
                return GAP
            self.origins[head.origin] = (head.epoch, head.sequence)
        try:
            commands = read_commands(batch).commands
        except Rejected as error:
            return [Refusal("ERR", str(error))]
        return [as_result(answer) for each in commands for answer in self.model.run(each)]

    def entry_term(self, index: int) -> int | None:
        """Known when it was applied, or when the entries on both sides have the same term."""
        before = [each for each in self.log if each.index <= index]
        behind = [each for each in self.log if each.index >= index]
        if not before or not behind or before[-1].term != behind[0].term:
            return None
        return before[-1].term


@dataclass
class DictDisk:
    """What outlives a DictMachine. A snapshot is by its directory."""

    state: State = field(default_factory=State)
    metadata: SnapshotMetadata | None = None
    snapshots: dict[Path, State] = field(default_factory=dict)

    def copy(self) -> DictDisk:
        return DictDisk(self.state.copy(), self.metadata, dict(self.snapshots))


class DictMachine:
    """See the top of the file; each method does what FileStateMachine's of that name does."""

    def __init__(self, disk: DictDisk) -> None:
        self.disk = disk
        self.state = disk.state.copy()
        self.is_running = True
        self._closed = False

    def _check(self) -> None:
        if not self.is_running:
            raise Unavailable("the state machine is stopped")

    def _save(self) -> None:
        self.disk.state = self.state.copy()

    # Applying.

    def apply(self, index: int, term: int, batch: bytes) -> Outcome:
        if index <= self.state.last.index:
            self._check()
            return ALREADY_APPLIED
        return self.apply_chunk([Entry.batch(index, term, batch)])[0]

    def apply_chunk(self, entries: Sequence[Entry]) -> list[Outcome]:
        self._check()
        last = self.state.last
        before = LogId(0, 0)
        for each in entries:
            floor = max(before.term, last.term if each.index > last.index else 0)
            known = each.kind in (KIND_NOOP, KIND_BATCH, KIND_CONFIG)
            if each.index <= before.index or each.term < floor or not known:
                raise Rejected(f"{each} does not fit behind {before}")
            before = LogId(each.index, each.term)
        outcomes = [
            self.state.apply(each) if each.index > last.index else ALREADY_APPLIED
            for each in entries
        ]
        self._save()
        return outcomes

    def skip(self, index: int, term: int, kind: int = KIND_NOOP) -> None:
        self.apply_chunk([Entry(index, term, kind, b"")])

    # Reads.

    def get(self, key: bytes) -> bytes | None:
        self._check()
        return self.state.model.value(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._check()
        return [self.state.model.value(key) for key in keys]

    def exists(self, key: bytes) -> bool:
        self._check()
        return key in self.state.model.keys

    def deadline_ms(self, key: bytes) -> int | None:
        self._check()
        return self.state.model.deadline(key)

    def scan_prefix(
        self, prefix: bytes, *, limit: int | None = None, after: bytes | None = None
    ) -> Scan:
        self._check()
        found = [
            item
            for item in self.state.items()
            if item[0].startswith(prefix) and (after is None or item[0] > after)
        ]
        return self._scan(found, limit)

    def scan_range(
        self, start: bytes, end: bytes | None, *, limit: int | None = None, reverse: bool = False
    ) -> Scan:
        self._check()
        found = [
            item
            for item in self.state.items()
            if item[0] >= start and (end is None or item[0] < end)
        ]
        return self._scan(found[::-1] if reverse else found, limit)

    def _scan(self, found: list[tuple[bytes, bytes]], limit: int | None) -> Scan:
        count = len(found) if limit is None else limit
        return Scan(self.state.last.index, found[:count], len(found) > count)

    def keys_page(self, after: bytes | None, count: int) -> tuple[list[bytes], bytes | None]:
        self._check()
        behind = [key for key, _ in self.state.items() if after is None or key > after]
        page = behind[: max(count, 1)]
        return page, page[-1] if len(behind) > len(page) else None

    def __len__(self) -> int:
        self._check()
        return len(self.state.model.keys)

    def __bool__(self) -> bool:
        return True

    def is_empty(self) -> bool:
        return len(self) == 0

    @property
    def last_applied(self) -> LogId:
        return self.state.last

    def entry_term(self, index: int) -> int | None:
        return self.state.entry_term(index)

    @property
    def clock_ms(self) -> int:
        return self.state.model.clock

    @property
    def next_deadline_ms(self) -> int | None:
        return min(self.state.model.deadlines(), default=None)

    # Images. There are none: the state is saved whole each time.

    def checkpoint(self) -> None:
        self._check()

    def generate_snapshot(
        self, directory: Path | None = None, last_included: LogId | None = None
    ) -> SnapshotMetadata:
        self._check()
        last = self.state.last
        if last_included is not None and last_included != last:
            raise Rejected(f"a snapshot of {last_included} was asked for, the state is at {last}")
        text = repr((last, self.state.plain())).encode()
        metadata = SnapshotMetadata(last, hashlib.sha256(text).digest(), len(text))
        self.disk.snapshots[directory or Path("own")] = self.state.copy()
        self.disk.metadata = metadata
        return metadata

    @property
    def snapshot_metadata(self) -> SnapshotMetadata | None:
        return self.disk.metadata

    def apply_snapshot_from_file(self, metadata: SnapshotMetadata, directory: Path) -> None:
        self._check()
        found = self.disk.snapshots.get(directory)
        if metadata.last_included.index < self.state.last.index:
            raise Rejected("the snapshot is older than the state")
        if found is None or found.last != metadata.last_included:
            raise Rejected(f"no such snapshot in {directory}")
        self.state = found.copy()
        self.disk.metadata = metadata
        self._save()

    # Bookkeeping and life cycle.

    def update_last_applied(self, last: LogId) -> None:
        self.skip(last.index, last.term)

    def persist_last_applied(self, last: LogId) -> None:
        self.skip(last.index, last.term)

    def persist_last_snapshot_metadata(self, metadata: SnapshotMetadata) -> None:
        self._check()
        self.disk.metadata = copy.copy(metadata)

    update_last_snapshot_metadata = persist_last_snapshot_metadata

    def flush(self) -> None:
        self._check()

    def flush_async(self) -> bool:
        self._check()
        return True

    def save_hard_state(self) -> None:
        self._check()

    def reset(self) -> None:
        self._check()
        self.state = State()
        self.disk.metadata = None
        self.disk.snapshots.pop(Path("own"), None)
        self._save()

    def start(self) -> None:
        if self._closed:
            raise Unavailable("the state machine is closed")
        self.is_running = True

    def stop(self) -> None:
        self.is_running = False

    def close(self) -> None:
        self._closed = True
        self.is_running = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
