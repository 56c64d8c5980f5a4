"""A node of its own process whose disk a test holds by the handle: slow, full, or written down.

    python -m tests.support.doored serve --config n1.toml

    TRIMARAN_DOOR_CONTROL   a JSON file, looked at before each sync and each write:
                            {"sync_ms": 2000}   each sync (files and directories) takes so long
                            {"full": true}      nothing more can be written (ENOSPC)
                            {"free_bytes": 0}   so much free space is left
                            A slow sync in the thread of the loop is printed, with its caller.
    TRIMARAN_DOOR_MIRROR    a directory that always holds what a power failure would leave
                            (tests/support/power.py)
    TRIMARAN_DOOR_GATE=off  acknowledge what is not synced: what the journal says is durable is
                            whatever it holds. The control of the power-loss test: it must lose.

The node is the real one (node.cli); only the class that node.app takes for its disk is
another. So nothing of this can be switched on in what is installed.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import node.app
from node import cli
from node.journal import FileJournal
from statemachine.errors import DiskFailed
from statemachine.fs import Disk, FileSystem, LogFile, WriteFile
from tests.support.power import RecordingDisk

__all__ = ["ControlledDisk", "control"]

CONTROL_VARIABLE = "TRIMARAN_DOOR_CONTROL"
MIRROR_VARIABLE = "TRIMARAN_DOOR_MIRROR"
GATE_VARIABLE = "TRIMARAN_DOOR_GATE"


def control(path: Path, **settings: Any) -> None:
    """Write a control file: from the next sync or write on it is like that."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(settings))
    temporary.rename(path)


class ControlledDisk:
    """Another disk, slowed down or full as its control file says."""

    def __init__(self, inner: FileSystem, path: Path) -> None:
        self._inner = inner
        self._path = path
        self._seen_ns = 0
        self._settings: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def settings(self) -> dict[str, Any]:
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._seen_ns:
                self._settings = json.loads(self._path.read_text())
                self._seen_ns = changed_ns
        except FileNotFoundError:
            self._settings = {}
        return self._settings

    def before_sync(self) -> None:
        delay_s = self.settings().get("sync_ms", 0) / 1000
        if delay_s and threading.current_thread() is threading.main_thread():
            # Its loop stands still meanwhile: whose doing was it?
            rooms = [each for each in traceback.extract_stack()[:-1] if each.filename != __file__]
            names = [f"{Path(each.filename).stem}.{each.name}" for each in rooms[-4:]]
            print(f"sync on the loop: {' > '.join(names)}", flush=True)
        time.sleep(delay_s)

    def before_write(self, path: Path) -> None:
        if self.settings().get("full"):
            raise DiskFailed(path, "write", os.strerror(errno.ENOSPC))

    def free_bytes(self, path: Path) -> int:
        found = self.settings().get("free_bytes")
        return self._inner.free_bytes(path) if found is None else int(found)

    def sync_dir(self, path: Path) -> None:
        self.before_sync()
        self._inner.sync_dir(path)

    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None:
        self.before_write(path)
        self.before_sync()
        self._inner.write_new(path, chunks)

    def open_log(self, path: Path, *, create: bool) -> LogFile:
        return _Controlled(self, path, self._inner.open_log(path, create=create))

    def open_write(self, path: Path) -> WriteFile:
        return _Controlled(self, path, self._inner.open_write(path))


class _Controlled:
    def __init__(self, disk: ControlledDisk, path: Path, inner: Any) -> None:
        self._disk = disk
        self._path = path
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def size_bytes(self) -> int:
        return int(self._inner.size_bytes)

    def write(self, data: bytes | Sequence[bytes]) -> Any:
        self._disk.before_write(self._path)
        return self._inner.write(data)

    def sync(self) -> None:
        self._disk.before_sync()
        self._inner.sync()

    def truncate(self, size_bytes: int) -> None:
        self._inner.truncate(size_bytes)

    def close(self) -> None:
        self._inner.close()


def _open_the_gate() -> None:
    FileJournal.durable_index = property(  # type: ignore[assignment]
        lambda journal: journal[-1][1] if journal else 0, lambda journal, index: None
    )
    FileJournal.term_is_durable = property(lambda journal: True)  # type: ignore[assignment]


def _door() -> FileSystem:
    disk: Any = Disk()
    if mirror := os.environ.get(MIRROR_VARIABLE):
        disk = RecordingDisk(Path(mirror))
    if path := os.environ.get(CONTROL_VARIABLE):
        disk = ControlledDisk(disk, Path(path))
    return disk  # type: ignore[no-any-return]


if __name__ == "__main__":
    node.app.Disk = _door  # type: ignore[assignment, misc]
    if os.environ.get(GATE_VARIABLE) == "off":
        _open_the_gate()
    sys.exit(cli.main())
