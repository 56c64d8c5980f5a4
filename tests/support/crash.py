"""Disks for crash tests: one that remembers what was synced, one that fails when it is told to.

    MemoryDisk     a FileSystem in memory. Every call that changes something is a step; at each
                   step it can be copied as a crash would leave it:
      Crash.SYNCED   only what was synced: bytes by sync, names by sync_dir
      Crash.ALL      everything, as after kill -9: the page cache survives a process
      Crash.MIXED    what was not synced is kept or lost write by write, by a seed: lost
                     writes under kept ones are holes of zeros
    FailingDisk    passes calls on to another FileSystem and fails the N-th that changes something,
                   with EIO or ENOSPC; a failed write leaves half of its bytes

Model: a file is an inode with live bytes, its bytes at the last sync, and the writes since. A
directory is its live names, and its names at the last sync_dir; changes of names reach the disk in
order (as in a file system with a journal of metadata), writes in any order. Making and
removing directories is durable at once, with all in it: no promise of ours hangs on that.

Proved by: tests/statemachine/test_fs.py (the same tests run on Disk and MemoryDisk)
"""

from __future__ import annotations

import enum
import errno
import os
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from statemachine.errors import DirectoryInUse, DiskFailed
from statemachine.fs import FileSystem, Lock, LogFile, ReadFile, WriteFile

__all__ = ["Crash", "FailingDisk", "MemoryDisk"]


class Crash(enum.Enum):
    """What a crash leaves of what was not synced."""

    SYNCED = "only what was synced"
    ALL = "everything"
    MIXED = "some of it"


class _Inode:
    __slots__ = ("live", "pending", "synced")

    def __init__(self, content: bytes = b"") -> None:
        self.live = bytearray(content)
        self.synced = content
        # (offset, bytes) of writes since the last sync; (size, None) of truncations.
        self.pending: list[tuple[int, bytes | None]] = []

    def write(self, data: bytes) -> None:
        self.pending.append((len(self.live), data))
        self.live += data

    def truncate(self, size_bytes: int) -> None:
        self.pending.append((size_bytes, None))
        del self.live[size_bytes:]

    def sync(self) -> None:
        self.synced = bytes(self.live)
        self.pending.clear()

    def after(self, crash: Crash, chance: random.Random) -> bytes:
        if crash is Crash.ALL:
            return bytes(self.live)
        content = bytearray(self.synced)
        if crash is Crash.SYNCED:
            return bytes(content)
        for offset_bytes, data in self.pending:
            if data is None:
                # Truncations keep their order, as names do: both are metadata.
                del content[offset_bytes:]
            elif chance.random() < 0.5:
                kept = data[: chance.randint(0, len(data))] if chance.random() < 0.3 else data
                content.extend(bytes(max(0, offset_bytes - len(content))))
                content[offset_bytes : offset_bytes + len(kept)] = kept
        return bytes(content)


class _Directory:
    __slots__ = ("live", "pending", "synced")

    def __init__(self) -> None:
        self.live: dict[str, _Inode] = {}
        self.synced: dict[str, _Inode] = {}
        # The names as they were after each change since the last sync_dir.
        self.pending: list[dict[str, _Inode]] = []

    def changed(self) -> None:
        self.pending.append(dict(self.live))

    def sync(self) -> None:
        self.synced = dict(self.live)
        self.pending.clear()

    def after(self, crash: Crash, chance: random.Random) -> dict[str, _Inode]:
        if crash is Crash.ALL:
            return self.live
        if crash is Crash.SYNCED:
            return self.synced
        return chance.choice([self.synced, *self.pending])


class MemoryDisk:
    """See the top of the file.

    Args:
        on_step: called after every call that changed something, with its name.
    """

    def __init__(self, on_step: Callable[[str], None] | None = None) -> None:
        self.on_step = on_step
        self.free = 1 << 40
        self._directories: dict[Path, _Directory] = {}
        self._locked: set[Path] = set()
        self._mutex = threading.RLock()

    # What tests ask of it.

    def crashed(self, crash: Crash, seed: int = 0) -> MemoryDisk:
        """Another disk, as a crash at this moment would leave this one. Nothing is locked."""
        chance = random.Random(seed)
        copy = MemoryDisk()
        inodes: dict[int, _Inode] = {}
        with self._mutex:
            for path, directory in self._directories.items():
                target = copy._directories[path] = _Directory()
                for name, inode in directory.after(crash, chance).items():
                    if id(inode) not in inodes:
                        inodes[id(inode)] = _Inode(inode.after(crash, chance))
                    target.live[name] = inodes[id(inode)]
                target.sync()
        return copy

    def files(self) -> list[Path]:
        """All files, sorted."""
        return sorted(
            path / name for path, found in self._directories.items() for name in found.live
        )

    def content(self, path: Path) -> bytes:
        """The live bytes of a file."""
        return bytes(self._inode(path).live)

    def overwrite(self, path: Path, content: bytes) -> None:
        """Damage a file behind everybody's back: live and synced."""
        inode = self._inode(path)
        inode.live = bytearray(content)
        inode.sync()

    def flip(self, path: Path, bit: int) -> None:
        """Turn one bit of a file around."""
        content = bytearray(self.content(path))
        content[bit // 8] ^= 1 << bit % 8
        self.overwrite(path, bytes(content))

    # FileSystem.

    def open_log(self, path: Path, *, create: bool) -> LogFile:
        with self._mutex:
            if create == self.exists(path):
                raise _failed(path, "open", errno.EEXIST if create else errno.ENOENT)
            inode = self._create(path) if create else self._inode(path)
            return _MemoryLogFile(self, path, inode)

    def open_read(self, path: Path) -> ReadFile:
        if not self.exists(path):
            raise FileNotFoundError(path)
        return _MemoryReadFile(self._inode(path))

    def open_write(self, path: Path) -> WriteFile:
        with self._mutex:
            return _MemoryWriteFile(self, path, self._create(path))

    def read_bytes(self, path: Path) -> bytes:
        return self.open_read(path).read(1 << 40)

    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None:
        file = self.open_write(path)
        for chunk in chunks:
            file.write(chunk)
        file.sync()

    def rename(self, old: Path, new: Path) -> None:
        with self._mutex:
            if old in self._directories:
                for path in [path for path in self._directories if path.is_relative_to(old)]:
                    moved = new / path.relative_to(old)
                    self._directories[moved] = self._directories.pop(path)
            else:
                inode = self._inode(old)
                del self._directory(old.parent).live[old.name]
                self._directory(new.parent).live[new.name] = inode
                self._directory(old.parent).changed()
                if old.parent != new.parent:
                    self._directory(new.parent).changed()
        self.step("rename")

    def link(self, old: Path, new: Path) -> None:
        with self._mutex:
            if self.exists(new):
                raise _failed(new, "link", errno.EEXIST)
            directory = self._directory(new.parent)
            directory.live[new.name] = self._inode(old)
            directory.changed()
        self.step("link")

    def unlink(self, path: Path) -> None:
        with self._mutex:
            self._inode(path)
            directory = self._directory(path.parent)
            del directory.live[path.name]
            directory.changed()
        self.step("unlink")

    def sync_dir(self, path: Path) -> None:
        with self._mutex:
            self._directory(path).sync()
        self.step("sync_dir")

    def list_dir(self, path: Path) -> list[str]:
        with self._mutex:
            below = [other.name for other in self._directories if other.parent == path]
            return sorted([*self._directory(path).live, *(name for name in below if name)])

    def make_dir(self, path: Path) -> None:
        with self._mutex:
            made = [each for each in [path, *path.parents] if each not in self._directories]
            for each in made:
                self._directories[each] = _Directory()
        if made:
            self.step("make_dir")

    def remove_tree(self, path: Path) -> None:
        with self._mutex:
            found = [each for each in self._directories if each.is_relative_to(path)]
            for each in found:
                del self._directories[each]
        if found:
            self.step("remove_tree")

    def exists(self, path: Path) -> bool:
        with self._mutex:
            parent = self._directories.get(path.parent)
            return path in self._directories or (parent is not None and path.name in parent.live)

    def size_bytes(self, path: Path) -> int:
        return len(self._inode(path).live)

    def free_bytes(self, path: Path) -> int:
        return self.free

    def lock(self, path: Path) -> Lock:
        with self._mutex:
            if path in self._locked:
                raise DirectoryInUse(path.parent, "another machine")
            if not self.exists(path):
                self._create(path)
            self._locked.add(path)
        return _MemoryLock(self._locked, path)

    # Inside.

    def step(self, name: str) -> None:
        if self.on_step is not None:
            self.on_step(name)

    def _directory(self, path: Path) -> _Directory:
        if path not in self._directories:
            raise _failed(path, "find", errno.ENOENT)
        return self._directories[path]

    def _inode(self, path: Path) -> _Inode:
        inode = self._directory(path.parent).live.get(path.name)
        if inode is None:
            raise _failed(path, "find", errno.ENOENT)
        return inode

    def _create(self, path: Path) -> _Inode:
        with self._mutex:
            directory = self._directory(path.parent)
            if path.name in directory.live:
                directory.live[path.name].truncate(0)
            else:
                directory.live[path.name] = _Inode()
                directory.changed()
            inode = directory.live[path.name]
        self.step("create")
        return inode


class _MemoryFile:
    """What LogFile and WriteFile share."""

    def __init__(self, disk: MemoryDisk, path: Path, inode: _Inode) -> None:
        self._disk = disk
        self._path = path
        self._inode = inode
        self._open = True

    @property
    def size_bytes(self) -> int:
        return len(self._inode.live)

    def append(self, data: bytes) -> None:
        self._change("write", lambda: self._inode.write(data))

    def sync(self) -> None:
        self._change("sync", self._inode.sync)

    def close(self) -> None:
        self._open = False

    def _change(self, name: str, change: Callable[[], None]) -> None:
        if not self._open:
            raise _failed(self._path, name, errno.EBADF)
        with self._disk._mutex:
            change()
        self._disk.step(name)


class _MemoryLogFile(_MemoryFile):
    """See LogFile."""

    def write(self, buffers: Sequence[bytes]) -> int:
        data = b"".join(buffers)
        self.append(data)
        return len(data)

    def truncate(self, size_bytes: int) -> None:
        self._change("truncate", lambda: self._inode.truncate(size_bytes))


class _MemoryWriteFile(_MemoryFile):
    """See WriteFile."""

    def write(self, data: bytes) -> None:
        self.append(data)


class _MemoryReadFile:
    def __init__(self, inode: _Inode) -> None:
        self._content = bytes(inode.live)
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


class _MemoryLock:
    def __init__(self, locked: set[Path], path: Path) -> None:
        self._locked = locked
        self._path = path

    def release(self) -> None:
        self._locked.discard(self._path)

    def __del__(self) -> None:
        self.release()


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
            raise _failed(path, name, self._error)


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


def _failed(path: Path, operation: str, number: int) -> DiskFailed:
    error = DiskFailed(path, operation, os.strerror(number))
    error.__cause__ = OSError(number, os.strerror(number))
    return error
