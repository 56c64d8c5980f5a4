"""The door to the disk: the only place that opens files.

    Disk        the real one              (FileSystem)
      open_log    -> LogFile    append, fdatasync, truncate       WAL and journal segments
      open_write  -> WriteFile  create or truncate, append, fsync temporary files, streamed
      open_read   -> ReadFile   read on, read at; survives unlink checkpoints, snapshots
      lock        -> Lock       flock, held until released        LOCK
      and whole-file, name and directory operations

Tests hand in another `FileSystem`: one in memory that remembers what was synced, one
whose N-th call fails (tests/support/crash.py).

Invariants:
* Every OSError leaves as `DiskFailed`, whose cause is the OSError. Only "the file is not
  there" passes through, from `read_bytes` and `open_read`, as FileNotFoundError.
* `LogFile.write` has written all of its bytes when it returns; after it raised, the end of
  the file is not known: the owner stops (fail-stop) and recovery finds the end.
* Nothing is durable before `sync` (bytes) and `sync_dir` (names) have returned.
* A lock belongs to the open file: the kernel drops it when the process dies, however it dies.

What a crash does: it may lose any write that was not synced, in any order, and any name whose
directory was not synced. `replace_file` is safe against both.

Not done here: no retry (a failed fsync has already dropped pages), no O_DIRECT, no
preallocation, no meaning: this file knows nothing of frames.

Proved by: tests/statemachine/test_fs.py, tests/statemachine/test_failing_calls.py
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from statemachine.errors import DirectoryInUse, DiskFailed

__all__ = [
    "TEMPORARY_SUFFIX",
    "Disk",
    "FileSystem",
    "Lock",
    "LogFile",
    "ReadFile",
    "WriteFile",
    "replace_file",
]

TEMPORARY_SUFFIX = ".tmp"
"""A name that ends so is unfinished work: whoever owns the directory removes it at boot."""

_BUFFERS_MAX = 1024
"""IOV_MAX of Linux: writev takes no more buffers than this in one call."""


class LogFile(Protocol):
    """A file that only grows at its end. One thread writes; another may sync meanwhile."""

    @property
    def size_bytes(self) -> int:
        """The end of the file, counting all that was written through this handle."""
        ...

    def write(self, buffers: Sequence[bytes]) -> int:
        """Append all buffers, in order; return how many bytes that was."""
        ...

    def sync(self) -> None:
        """Return when all that was written before the call is on the disk (fdatasync)."""
        ...

    def truncate(self, size_bytes: int) -> None:
        """Cut the file. Not durable before the next `sync`: sync before writing again."""
        ...

    def close(self) -> None:
        """Close without syncing. Closing twice is harmless."""
        ...


class ReadFile(Protocol):
    """An open file to read from: it stays readable when its name is removed."""

    @property
    def size_bytes(self) -> int:
        """The size when it was opened."""
        ...

    def read(self, size_bytes: int) -> bytes:
        """The next bytes; fewer only at the end of the file."""
        ...

    def pread(self, size_bytes: int, offset_bytes: int) -> bytes:
        """Bytes at an offset; fewer only at the end of the file. Does not move `read`."""
        ...

    def close(self) -> None:
        """Close. Closing twice is harmless."""
        ...


class WriteFile(Protocol):
    """A new file, written from front to back."""

    def write(self, data: bytes) -> None:
        """Append all of `data`."""
        ...

    def sync(self) -> None:
        """Return when all that was written is on the disk (fsync)."""
        ...

    def close(self) -> None:
        """Close without syncing. Closing twice is harmless."""
        ...


class Lock(Protocol):
    """A held lock."""

    def release(self) -> None:
        """Let go. Releasing twice is harmless."""
        ...


class FileSystem(Protocol):
    """What the state machine and the journal need of a disk. See `Disk` for each promise."""

    def open_log(self, path: Path, *, create: bool) -> LogFile: ...
    def open_read(self, path: Path) -> ReadFile: ...
    def open_write(self, path: Path) -> WriteFile: ...
    def read_bytes(self, path: Path) -> bytes: ...
    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None: ...
    def rename(self, old: Path, new: Path) -> None: ...
    def link(self, old: Path, new: Path) -> None: ...
    def unlink(self, path: Path) -> None: ...
    def sync_dir(self, path: Path) -> None: ...
    def list_dir(self, path: Path) -> list[str]: ...
    def make_dir(self, path: Path) -> None: ...
    def remove_tree(self, path: Path) -> None: ...
    def exists(self, path: Path) -> bool: ...
    def size_bytes(self, path: Path) -> int: ...
    def free_bytes(self, path: Path) -> int: ...
    def lock(self, path: Path) -> Lock: ...


def replace_file(disk: FileSystem, path: Path, chunks: Iterable[bytes]) -> None:
    """Put new content under `path`: a crash leaves the old file or the new one, whole.

    Raises:
        DiskFailed: which of the two is there is not known until the directory is read again.
    """
    # 1 write temp, 2 fsync it, 3 rename, 4 fsync the directory. Before 3 the old file is
    # untouched; a crash between 3 and 4 may show either; after 4 only the new one.
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    disk.write_new(temporary, chunks)
    disk.rename(temporary, path)
    disk.sync_dir(path.parent)


class Disk:
    """The real file system."""

    def open_log(self, path: Path, *, create: bool) -> LogFile:
        """Open for appending. With `create` the file must not exist, without it must."""
        flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT | os.O_EXCL if create else 0)
        return _DiskLogFile(path, _open(path, flags, "create" if create else "open"))

    def open_read(self, path: Path) -> ReadFile:
        """Open for reading.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return _DiskReadFile(path)

    def open_write(self, path: Path) -> WriteFile:
        """Create the file, or empty it, for writing from the start."""
        return _DiskWriteFile(path)

    def read_bytes(self, path: Path) -> bytes:
        """The whole file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _failed(path, "read", error) from error

    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None:
        """Create or empty the file, write all chunks, fsync it. Its name is not synced."""
        file = _DiskWriteFile(path)
        try:
            for chunk in chunks:
                file.write(chunk)
            file.sync()
        finally:
            file.close()

    def rename(self, old: Path, new: Path) -> None:
        """Atomically give `old` the name `new`, replacing what was there."""
        try:
            os.rename(old, new)
        except OSError as error:
            raise _failed(new, "rename", error) from error

    def link(self, old: Path, new: Path) -> None:
        """A second name for the same bytes. `new` must not exist."""
        try:
            os.link(old, new)
        except OSError as error:
            raise _failed(new, "link", error) from error

    def unlink(self, path: Path) -> None:
        """Remove the name; open handles go on."""
        try:
            os.unlink(path)
        except OSError as error:
            raise _failed(path, "unlink", error) from error

    def sync_dir(self, path: Path) -> None:
        """Make the names in this directory durable: created, renamed and removed ones."""
        descriptor = _open(path, os.O_RDONLY | os.O_DIRECTORY, "open")
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise _failed(path, "fsync", error) from error
        finally:
            os.close(descriptor)

    def list_dir(self, path: Path) -> list[str]:
        """The names in a directory, sorted."""
        try:
            return sorted(os.listdir(path))
        except OSError as error:
            raise _failed(path, "list", error) from error

    def make_dir(self, path: Path) -> None:
        """Make the directory and its parents; one that is there already is fine.

        Their names are synced when it returns: nobody can sync them later, as nobody else knows
        which ones were new.
        """
        missing: list[Path] = []
        try:
            while not path.exists():
                missing.append(path)
                path = path.parent
            # 1 mkdir, 2 fsync the parent, then the next. Killed between 1 and 2, the last one that
            # is there has a name that power loss still takes back, with all in it: sync it again.
            if path.parent != path and os.access(path.parent, os.R_OK):
                self.sync_dir(path.parent)
            for directory in reversed(missing):
                directory.mkdir(exist_ok=True)
                self.sync_dir(directory.parent)
        except OSError as error:
            raise _failed(path, "mkdir", error) from error

    def remove_tree(self, path: Path) -> None:
        """Remove a directory and all below it; one that is not there is fine."""
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failed(path, "remove", error) from error

    def exists(self, path: Path) -> bool:
        """Whether the name is there."""
        # NB: not os.path.lexists, which takes any error for a no: what is "not there" gets removed.
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise _failed(path, "stat", error) from error
        return True

    def size_bytes(self, path: Path) -> int:
        """The size of the file."""
        try:
            return os.stat(path).st_size
        except OSError as error:
            raise _failed(path, "stat", error) from error

    def free_bytes(self, path: Path) -> int:
        """How much an ordinary user may still write on this file system."""
        try:
            status = os.statvfs(path)
        except OSError as error:
            raise _failed(path, "statvfs", error) from error
        return status.f_bavail * status.f_frsize

    def lock(self, path: Path) -> Lock:
        """Take the lock; the file is made when needed and stays when the lock is gone.

        Raises:
            DirectoryInUse: another open file, in this process or another one, holds it.
        """
        return _DiskLock(path)


class _Handle:
    """A file descriptor that is closed once, at the latest when it is forgotten."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        # Only the descriptor: nothing may depend on an orderly end (SEED defect 13).
        self.close()


class _DiskLogFile(_Handle):
    """See LogFile."""

    def __init__(self, path: Path, descriptor: int) -> None:
        super().__init__(path, descriptor)
        self._size_bytes = os.fstat(descriptor).st_size

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def write(self, buffers: Sequence[bytes]) -> int:
        total = sum(map(len, buffers))
        try:
            if len(buffers) > _BUFFERS_MAX:
                for start in range(0, len(buffers), _BUFFERS_MAX):
                    _write_all(self._descriptor, buffers[start : start + _BUFFERS_MAX])
            else:
                _write_all(self._descriptor, buffers)
        except OSError as error:
            raise _failed(self._path, "write", error) from error
        self._size_bytes += total
        return total

    def sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise _failed(self._path, "fdatasync", error) from error

    def truncate(self, size_bytes: int) -> None:
        try:
            os.ftruncate(self._descriptor, size_bytes)
        except OSError as error:
            raise _failed(self._path, "truncate", error) from error
        self._size_bytes = size_bytes


class _DiskReadFile(_Handle):
    """See ReadFile."""

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(path, os.open(path, os.O_RDONLY))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _failed(path, "open", error) from error
        self._size_bytes = os.fstat(self._descriptor).st_size
        self._offset_bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read(self, size_bytes: int) -> bytes:
        data = self.pread(size_bytes, self._offset_bytes)
        self._offset_bytes += len(data)
        return data

    def pread(self, size_bytes: int, offset_bytes: int) -> bytes:
        try:
            data = os.pread(self._descriptor, size_bytes, offset_bytes)
            # A signal may cut a read short; the end of the file reads as nothing.
            while len(data) < size_bytes:
                more = os.pread(self._descriptor, size_bytes - len(data), offset_bytes + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise _failed(self._path, "read", error) from error
        return data

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):  # Not when the file could not be opened.
            self.close()


class _DiskWriteFile(_Handle):
    """See WriteFile."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, -1)
        self._descriptor = _open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "create")

    def write(self, data: bytes) -> None:
        try:
            _write_all(self._descriptor, (data,))
        except OSError as error:
            raise _failed(self._path, "write", error) from error

    def sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise _failed(self._path, "fsync", error) from error


class _DiskLock(_Handle):
    """See Lock. The file holds the owner's process id, for the error message only."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, -1)
        descriptor = _open(path, os.O_RDWR | os.O_CREAT, "open")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise DirectoryInUse(path.parent, owner or "another process") from error
        except OSError as error:
            os.close(descriptor)
            raise _failed(path, "lock", error) from error
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.close()
            raise _failed(path, "write", error) from error

    def release(self) -> None:
        # The file stays: unlinking it would let two processes lock two files of one name.
        self.close()


def _write_all(descriptor: int, buffers: Sequence[bytes]) -> None:
    """Write every byte. The kernel may take fewer than it was given (disk nearly full)."""
    expected = sum(map(len, buffers))
    written = os.writev(descriptor, buffers)
    if written == expected:
        return
    rest = memoryview(b"".join(buffers))[written:]
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _open(path: Path, flags: int, operation: str) -> int:
    try:
        return os.open(path, flags, 0o644)
    except OSError as error:
        raise _failed(path, operation, error) from error


def _failed(path: Path, operation: str, error: OSError) -> DiskFailed:
    return DiskFailed(path, operation, error.strerror or str(error))
