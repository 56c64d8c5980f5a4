"""What MemoryDisk hands out: open files and a held lock, and its errors.

A file that is open goes on leading to its node, whatever becomes of its name. Each change of it is
a step of the disk; `sync` asks the disk first whether it lies.

Proved by: tests/statemachine/test_fs.py
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from statemachine.errors import DiskFailed
from tests.support.volume import FileNode

__all__ = ["MemoryLock", "MemoryLogFile", "MemoryReadFile", "MemoryWriteFile", "failed"]


class Stepping(Protocol):
    """What they need of the disk."""

    lies: Callable[[str, Path], bool] | None

    def change(self, name: str, change: Callable[[], None], node: FileNode) -> None: ...


class _File:
    """What LogFile and WriteFile share."""

    def __init__(self, disk: Stepping, path: Path, node: FileNode) -> None:
        self._disk = disk
        self._path = path
        self._node = node
        self._open = True

    @property
    def size_bytes(self) -> int:
        return len(self._node.live)

    def append(self, data: bytes) -> None:
        self._change("write", lambda: self._node.write(data))

    def sync(self) -> None:
        lies = self._disk.lies
        honest = lies is None or not lies("sync", self._path)
        self._change("sync", self._node.sync if honest else lambda: None)

    def close(self) -> None:
        self._open = False

    def _change(self, name: str, change: Callable[[], None]) -> None:
        if not self._open:
            raise failed(self._path, name, errno.EBADF)
        self._disk.change(name, change, self._node)


class MemoryLogFile(_File):
    """See LogFile."""

    def write(self, buffers: Sequence[bytes]) -> int:
        data = b"".join(buffers)
        self.append(data)
        return len(data)

    def truncate(self, size_bytes: int) -> None:
        self._change("truncate", lambda: self._node.truncate(size_bytes))


class MemoryWriteFile(_File):
    """See WriteFile."""

    def write(self, data: bytes) -> None:
        self.append(data)


class MemoryReadFile:
    """See ReadFile."""

    def __init__(self, node: FileNode) -> None:
        self._content = bytes(node.live)
        self._offset_bytes = 0

    @property
    def size_bytes(self) -> int:
        return len(self._content)

    def read(self, size_bytes: int) -> bytes:
        data = self.pread(size_bytes, self._offset_bytes)
        self._offset_bytes += len(data)
        return data

    def pread(self, size_bytes: int, offset_bytes: int) -> bytes:
        return self._content[offset_bytes : offset_bytes + size_bytes]

    def close(self) -> None:
        return None


class MemoryLock:
    def __init__(self, locked: set[Path], path: Path) -> None:
        self._locked = locked
        self._path = path

    def release(self) -> None:
        self._locked.discard(self._path)

    def __del__(self) -> None:
        self.release()


def failed(path: Path, operation: str, number: int) -> DiskFailed:
    """As `Disk` raises it when the kernel says `number`."""
    error = DiskFailed(path, operation, os.strerror(number))
    error.__cause__ = OSError(number, os.strerror(number))
    return error
