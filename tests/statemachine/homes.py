"""What a state machine needs to be run through the conformance suite: a place to live.

    Machine     the seed's trait in our names: what the suite may call
    Home        one place: open, close and open again, lose power, lose power half-way
      DictHome      the plain model (dict_machine.py): the suite is about the contract, not files
      DiskHome      FileStateMachine in a real directory; a crash there is kill -9
      MemoryHome    FileStateMachine on a disk that forgets what was not synced: power loss

Another machine joins the suite by a Home of its own and a line in HOMES.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from statemachine import Entry, FileStateMachine, LogId, Outcome, Scan, SnapshotMetadata
from tests.statemachine.dict_machine import DictDisk, DictMachine
from tests.support.crash import Crash, MemoryDisk

__all__ = ["HOMES", "Home", "Machine"]


class Machine(Protocol):
    """The seed's trait, as FileStateMachine has it: machine.py says what each does."""

    def apply_chunk(self, entries: Sequence[Entry]) -> list[Outcome]: ...
    def get(self, key: bytes) -> bytes | None: ...
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...
    def scan_prefix(
        self, prefix: bytes, *, limit: int | None = None, after: bytes | None = None
    ) -> Scan: ...
    def __len__(self) -> int: ...
    def is_empty(self) -> bool: ...
    def exists(self, key: bytes) -> bool: ...
    def deadline_ms(self, key: bytes) -> int | None: ...
    def entry_term(self, index: int) -> int | None: ...
    @property
    def next_deadline_ms(self) -> int | None: ...
    @property
    def last_applied(self) -> LogId: ...
    @property
    def snapshot_metadata(self) -> SnapshotMetadata | None: ...
    def generate_snapshot(
        self, directory: Path | None = None, last_included: LogId | None = None
    ) -> SnapshotMetadata: ...
    def apply_snapshot_from_file(self, metadata: SnapshotMetadata, directory: Path) -> None: ...
    def persist_last_applied(self, last: LogId) -> None: ...
    def update_last_applied(self, last: LogId) -> None: ...
    def persist_last_snapshot_metadata(self, metadata: SnapshotMetadata) -> None: ...
    def update_last_snapshot_metadata(self, metadata: SnapshotMetadata) -> None: ...
    def save_hard_state(self) -> None: ...
    def checkpoint(self) -> None: ...
    def flush(self) -> None: ...
    def flush_async(self) -> bool: ...
    def reset(self) -> None: ...
    @property
    def is_running(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class Home(Protocol):
    """One data directory, or what takes its place."""

    def open(self) -> Machine:
        """The machine that lives here; the one before it must have been closed."""
        ...

    def after_crash(self) -> Machine:
        """Another one, opened on what a crash at this moment would leave. This one lives on."""
        ...

    def crashed_during(self, action: Callable[[], object]) -> Iterator[Machine]:
        """Do it; then one machine for each crash that may have happened before it returned."""
        ...

    def place(self, name: str) -> Path:
        """A directory for a snapshot, outside of the machine's own."""
        ...

    def damage(self, directory: Path) -> None:
        """Spoil the snapshot in that directory."""
        ...


class DictHome:
    """See the top of the file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._disk = DictDisk()

    def open(self) -> Machine:
        return DictMachine(self._disk)

    def after_crash(self) -> Machine:
        return DictMachine(self._disk.copy())

    def crashed_during(self, action: Callable[[], object]) -> Iterator[Machine]:
        before = self._disk.copy()
        action()
        yield from (DictMachine(before), self.after_crash())

    def place(self, name: str) -> Path:
        return self._directory / name

    def damage(self, directory: Path) -> None:
        del self._disk.snapshots[directory]


class DiskHome:
    """See the top of the file. A crash: the files are copied as they are at that moment."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = itertools.count(1)

    def open(self) -> Machine:
        return FileStateMachine(self._directory / "data")

    def after_crash(self) -> Machine:
        return FileStateMachine(self._copy())

    def _copy(self) -> Path:
        copy = self._directory / f"crash-{next(self._count)}"
        shutil.copytree(self._directory / "data", copy)
        return copy

    def crashed_during(self, action: Callable[[], object]) -> Iterator[Machine]:
        before = self._copy()
        action()
        yield FileStateMachine(before)
        # What the log gained, torn at every byte: the first half of the write reached the disk.
        for cut_bytes in range(1, 60):
            torn = self._copy()
            (segment,) = (torn / "wal").iterdir()
            content = segment.read_bytes()
            if len(content) - cut_bytes < self._log_bytes(before):
                break
            segment.write_bytes(content[:-cut_bytes])
            yield FileStateMachine(torn)
        yield self.after_crash()

    @staticmethod
    def _log_bytes(directory: Path) -> int:
        return sum(path.stat().st_size for path in (directory / "wal").iterdir())

    def place(self, name: str) -> Path:
        return self._directory / name

    def damage(self, directory: Path) -> None:
        path = directory / "snapshot.bin"
        path.write_bytes(path.read_bytes()[:-1] + b"?")


class MemoryHome:
    """See the top of the file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._disk = MemoryDisk()

    def open(self) -> Machine:
        return self._on(self._disk)

    def _on(self, disk: MemoryDisk) -> FileStateMachine:
        return FileStateMachine(self._directory / "data", disk=disk)

    def after_crash(self) -> Machine:
        return self._on(self._disk.crashed(Crash.SYNCED))

    def crashed_during(self, action: Callable[[], object]) -> Iterator[Machine]:
        copies: list[MemoryDisk] = []

        def step(_: str) -> None:
            copies.extend(self._disk.crashed(crash) for crash in (Crash.SYNCED, Crash.ALL))
            copies.extend(self._disk.crashed(Crash.MIXED, seed) for seed in range(8))

        self._disk.on_step = step
        action()
        self._disk.on_step = None
        yield from map(self._on, copies)

    def place(self, name: str) -> Path:
        return self._directory / name

    def damage(self, directory: Path) -> None:
        self._disk.flip(directory / "snapshot.bin", 77)


HOMES: dict[str, Callable[[Path], Home]] = {
    "dict": DictHome,
    "files": DiskHome,
    "power loss": MemoryHome,
}
