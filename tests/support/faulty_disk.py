"""A disk that fails one call, in every way a disk may fail it.

    FaultyDisk(inner, Fault(at=17, error=EIO, sticky=True))

    at       which call fails, counted from 1 over all that can fail: open, read, write, truncate,
             fsync, create, rename, link, unlink, mkdir, list, stat, remove, fsync of a directory
    sticky   every call after it fails too, as on a disk that is gone; else only this one
    done     the call did its work all the same, and then said that it failed: an error tells
             nothing about what reached the disk. A write that failed is there by half, else

What is one call at the door and several to the kernel is several here: write_new is a create,
writes and an fsync. Each failure leaves as DiskFailed, as `Disk` translates it; asking whether a
name is there fails as well. Nothing is said about what the failed call left in the page cache:
crash the inner disk to find out.

Proved by: tests/statemachine/test_failing_calls.py
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from statemachine.fs import FileSystem, Lock, LogFile, ReadFile, WriteFile
from tests.support.memory_files import failed

__all__ = ["Fault", "FaultyDisk"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """Which call fails and how; see the top of the file. at = 0: none does."""

    at: int = 0
    error: int = errno.EIO
    sticky: bool = False
    done: bool = False

    def __str__(self) -> str:
        ways = [word for word, on in (("sticky", self.sticky), ("done", self.done)) if on]
        return " ".join([f"call {self.at}", errno.errorcode[self.error], *ways])


class FaultyDisk:
    """See the top of the file."""

    def __init__(self, inner: FileSystem, fault: Fault = Fault()) -> None:  # Frozen.
        self._inner = inner
        self.fault = fault
        self.calls: list[str] = []
        """The names of all calls so far."""
        self.hit = ""
        """The name of the one that failed first; empty: none did."""

    @property
    def broken(self) -> bool:
        """Whether the fault has struck."""
        return bool(self.hit)

    def call(self, name: str, path: Path, work: Callable[[], T], half: Any = None) -> T:
        """Do it, or fail it. `half`: what a failed call leaves when it is not done."""
        self.calls.append(name)
        fault = self.fault
        at = len(self.calls)
        if not fault.at or at < fault.at or (at > fault.at and not fault.sticky):
            return work()
        self.hit = self.hit or name
        if at == fault.at:
            if fault.done:
                work()
            elif half is not None:
                half()
        raise failed(path, name, fault.error)

    # FileSystem.

    def open_log(self, path: Path, *, create: bool) -> LogFile:
        name = "create" if create else "open"
        file = self.call(name, path, lambda: self._inner.open_log(path, create=create))
        return _FaultyFile(self, path, file)

    def open_read(self, path: Path) -> ReadFile:
        file = self.call("open", path, lambda: self._inner.open_read(path))
        return _FaultyFile(self, path, file)

    def open_write(self, path: Path) -> WriteFile:
        file = self.call("create", path, lambda: self._inner.open_write(path))
        return _FaultyFile(self, path, file)

    def read_bytes(self, path: Path) -> bytes:
        return self.call("read", path, lambda: self._inner.read_bytes(path))

    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None:
        file = self.open_write(path)
        try:
            for chunk in chunks:
                file.write(chunk)
            file.sync()
        finally:
            file.close()

    def rename(self, old: Path, new: Path) -> None:
        self.call("rename", new, lambda: self._inner.rename(old, new))

    def link(self, old: Path, new: Path) -> None:
        self.call("link", new, lambda: self._inner.link(old, new))

    def unlink(self, path: Path) -> None:
        self.call("unlink", path, lambda: self._inner.unlink(path))

    def sync_dir(self, path: Path) -> None:
        self.call("sync_dir", path, lambda: self._inner.sync_dir(path))

    def list_dir(self, path: Path) -> list[str]:
        return self.call("list_dir", path, lambda: self._inner.list_dir(path))

    def make_dir(self, path: Path) -> None:
        self.call("make_dir", path, lambda: self._inner.make_dir(path))

    def remove_tree(self, path: Path) -> None:
        self.call("remove_tree", path, lambda: self._inner.remove_tree(path))

    def exists(self, path: Path) -> bool:
        return self.call("exists", path, lambda: self._inner.exists(path))

    def size_bytes(self, path: Path) -> int:
        return self.call("size_bytes", path, lambda: self._inner.size_bytes(path))

    def free_bytes(self, path: Path) -> int:
        return self.call("free_bytes", path, lambda: self._inner.free_bytes(path))

    def lock(self, path: Path) -> Lock:
        return self.call("lock", path, lambda: self._inner.lock(path))


class _FaultyFile:
    """A LogFile, WriteFile or ReadFile."""

    def __init__(self, disk: FaultyDisk, path: Path, inner: Any) -> None:
        self._disk = disk
        self._path = path
        self._inner = inner

    @property
    def size_bytes(self) -> int:
        size_bytes: int = self._inner.size_bytes
        return size_bytes

    def write(self, data: bytes | Sequence[bytes]) -> Any:
        whole = data if isinstance(data, bytes) else b"".join(data)
        front = whole[: len(whole) // 2]

        def half() -> None:
            self._inner.write(front if isinstance(data, bytes) else (front,))

        return self._disk.call("write", self._path, lambda: self._inner.write(data), half)

    def sync(self) -> None:
        self._disk.call("sync", self._path, self._inner.sync)

    def truncate(self, size_bytes: int) -> None:
        self._disk.call("truncate", self._path, lambda: self._inner.truncate(size_bytes))

    def read(self, size_bytes: int) -> bytes:
        return self._disk.call("read", self._path, lambda: self._inner.read(size_bytes))

    def pread(self, size_bytes: int, offset_bytes: int) -> bytes:
        return self._disk.call(
            "read", self._path, lambda: self._inner.pread(size_bytes, offset_bytes)
        )

    def close(self) -> None:
        self._inner.close()
