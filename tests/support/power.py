"""What a power failure leaves: a disk that notes what was synced, and the cut back to it.

    RecordingDisk(mirror)      the real disk; beside it a mirror of the data directory:
                                 names     as of the last sync of their directory (hard links, so
                                           a file that was renamed or removed since is still there)
                                 .sizes    "inode bytes" of each sync, appended before it returns
    cut_power(data, mirror)    the data directory becomes what the mirror says

So of each file is left what was there when it was last synced, under the names that were synced:
nothing else, however it came to lie in the page cache. The process may be killed at any moment:
the notes are in the page cache by then, which survives it.

In favour of the node: a truncation counts as durable at once (the bytes are gone), and making,
renaming and removing a directory takes what is in it along.

Proved by: tests/node/test_power.py
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from statemachine.fs import Disk, LogFile, WriteFile

__all__ = ["RecordingDisk", "cut_power"]

_SIZES = ".sizes"


class RecordingDisk(Disk):
    """See the top of the file. The first directory it makes is the one that is mirrored."""

    def __init__(self, mirror: Path) -> None:
        self._mirror = mirror
        self._root: Path | None = None
        self._sizes = -1
        self._mutex = threading.RLock()

    def make_dir(self, path: Path) -> None:
        with self._mutex:
            if self._root is None:
                self._root = path
                self._begin(path)
            super().make_dir(path)
            self._link_all(path)

    def _begin(self, root: Path) -> None:
        """What is on the disk now counts as durable: it was cut back to that."""
        shutil.rmtree(self._mirror, ignore_errors=True)
        self._mirror.mkdir(parents=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._sizes = os.open(self._mirror / _SIZES, flags, 0o644)
        for path in root.rglob("*"):
            if path.is_file():
                self.note(path, path.stat().st_size)

    def note(self, path: Path, size_bytes: int) -> None:
        """So many bytes of the file were synced."""
        os.write(self._sizes, b"%d %d\n" % (path.stat().st_ino, size_bytes))

    def _link_all(self, path: Path) -> None:
        """The names in a directory are durable, and what is in new directories."""
        assert self._root is not None
        if not path.is_relative_to(self._root):
            return
        mirrored = self._mirror / path.relative_to(self._root)
        mirrored.mkdir(parents=True, exist_ok=True)
        found = {each.name: each for each in path.iterdir()}
        for name in os.listdir(mirrored):
            if name not in found and name != _SIZES:
                _remove(mirrored / name)
        for name, each in found.items():
            target = mirrored / name
            if each.is_dir():
                if not target.exists():
                    self._link_all(each)
            elif not target.exists() or not target.samefile(each):
                target.unlink(missing_ok=True)
                os.link(each, target)

    def sync_dir(self, path: Path) -> None:
        super().sync_dir(path)
        with self._mutex:
            if self._root is not None:
                self._link_all(path)

    def open_log(self, path: Path, *, create: bool) -> LogFile:
        inner = super().open_log(path, create=create)
        return _Recorded(self, path, inner, 0 if create else inner.size_bytes, is_new=create)

    def open_write(self, path: Path) -> WriteFile:
        return _Recorded(self, path, super().open_write(path), 0, is_new=True)

    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None:
        file = self.open_write(path)
        for chunk in chunks:
            file.write(chunk)
        file.sync()
        file.close()


class _Recorded:
    """A file, by its descriptor: what it is called may change."""

    def __init__(
        self, disk: RecordingDisk, path: Path, inner: Any, size_bytes: int, *, is_new: bool
    ) -> None:
        self._disk = disk
        self._inner = inner
        self._inode = path.stat().st_ino
        self._written_bytes = size_bytes
        if is_new:
            self._note(0)  # Its inode may have been another file's.

    def _note(self, size_bytes: int) -> None:
        os.write(self._disk._sizes, b"%d %d\n" % (self._inode, size_bytes))

    @property
    def size_bytes(self) -> int:
        return int(self._inner.size_bytes)

    def write(self, data: bytes | Sequence[bytes]) -> int:
        written = self._inner.write(data)
        self._written_bytes += len(data) if isinstance(data, bytes) else sum(map(len, data))
        return int(written or 0)

    def sync(self) -> None:
        size_bytes = self._written_bytes  # What comes meanwhile, from another thread, may be lost.
        self._inner.sync()
        self._note(size_bytes)

    def truncate(self, size_bytes: int) -> None:
        self._inner.truncate(size_bytes)
        self._written_bytes = size_bytes

    def close(self) -> None:
        self._inner.close()


def cut_power(data: Path, mirror: Path) -> int:
    """Leave of the data directory what was durable; how many bytes of files that cut off.

    Its node must be dead.
    """
    sizes: dict[int, int] = {}
    for line in (mirror / _SIZES).read_text().splitlines():
        inode, _, size = line.partition(" ")
        sizes[int(inode)] = int(size)
    lost_bytes = 0
    old = data.with_name(data.name + ".before")
    data.rename(old)
    for path in [mirror, *mirror.rglob("*")]:
        target = data / path.relative_to(mirror)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif path.name != _SIZES:
            content = path.read_bytes()
            durable_bytes = sizes.get(path.stat().st_ino, 0)
            lost_bytes += max(len(content) - durable_bytes, 0)
            target.write_bytes(content[:durable_bytes])
    shutil.rmtree(old)
    return lost_bytes


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
