"""A disk that fails one call when it is told to. For every call and every way, see faulty_disk.py.

Proved by: tests/statemachine/test_crash.py
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from statemachine.errors import DiskFailed
from statemachine.fs import FileSystem
from tests.support.memory_files import failed

__all__ = ["FailingDisk"]

_CHANGES = frozenset(
    ("open_log", "open_write", "write_new", "rename", "link", "unlink", "sync_dir", "make_dir")
)


class FailingDisk:
    """Fails one call of another FileSystem; all calls before and after it go through.

    Args:
        fail_at: which of the calls that change something fails, from 1; 0: none.
        error: errno.EIO or errno.ENOSPC.
    """

    def __init__(self, inner: FileSystem, fail_at: int = 0, error: int = errno.EIO) -> None:
        self._inner = inner
        self._fail_at = fail_at
        self._error = error
        self.calls = 0
        """How many calls that change something were made so far."""
        self.failed: str | None = None
        """Which one failed; None: none did yet."""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in _CHANGES:
            return method

        def call(path: Path, *arguments: Any, **options: Any) -> Any:
            self._count(name, path)
            result = method(path, *arguments, **options)
            return _FailingFile(self, path, result) if name.startswith("open_") else result

        return call

    def _count(self, name: str, path: Path) -> None:
        self.calls += 1
        if self.calls == self._fail_at:
            self.failed = name
            raise failed(path, name, self._error)


class _FailingFile:
    def __init__(self, disk: FailingDisk, path: Path, inner: Any) -> None:
        self._disk = disk
        self._path = path
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, buffers: bytes | Sequence[bytes]) -> Any:
        try:
            self._disk._count("write", self._path)
        except DiskFailed:
            data = buffers if isinstance(buffers, bytes) else b"".join(buffers)
            half = data[: len(data) // 2]
            self._inner.write(half if isinstance(buffers, bytes) else (half,))
            raise
        return self._inner.write(buffers)

    def sync(self) -> None:
        self._disk._count("sync", self._path)
        self._inner.sync()

    def truncate(self, size_bytes: int) -> None:
        self._disk._count("truncate", self._path)
        self._inner.truncate(size_bytes)
