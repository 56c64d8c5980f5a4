"""A FileSystem in memory that remembers what was synced.

Every call that changes something is a step, told to `on_step` once it is done. At each step the
disk can be copied as one crash would leave it (`crashed`), or frozen with all that was not synced
(`volume`), for crash_states.py to make every legal state of it.

    Crash.SYNCED   only what was synced: bytes by sync, names by sync_dir
    Crash.ALL      everything, as after kill -9: the page cache survives a process
    Crash.MIXED    what was not synced is kept or lost write by write, by a seed: lost
                   writes under kept ones are holes of zeros; names go in order, as in a file
                   system with a journal of metadata

What is one call at the door and several to the kernel is several steps here, in the order of
`Disk`: make_dir makes each directory and syncs its parent, from the top; write_new creates,
writes and syncs; remove_tree unlinks file by file and syncs nothing.

Threads: calls are atomic. `before_step` is called before each of them, by the thread that makes it
(hand_driven.py holds background threads there).

Proved by: tests/statemachine/test_fs.py (the same tests run on Disk and MemoryDisk),
tests/statemachine/test_crash_model.py
"""

from __future__ import annotations

import enum
import errno
import random
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from statemachine.errors import DirectoryInUse
from statemachine.fs import Lock, LogFile, ReadFile, WriteFile
from tests.support.memory_files import (
    MemoryLock,
    MemoryLogFile,
    MemoryReadFile,
    MemoryWriteFile,
    failed,
)
from tests.support.volume import DirectoryNode, DiskState, FileNode, Volume, changed, put

__all__ = ["Crash", "MemoryDisk"]


class Crash(enum.Enum):
    """What a crash leaves of what was not synced."""

    SYNCED = "only what was synced"
    ALL = "everything"
    MIXED = "some of it"


class MemoryDisk:
    """See the top of the file.

    Args:
        on_step: called after every call that changed something, with its name.
    """

    def __init__(self, on_step: Callable[[str], None] | None = None) -> None:
        self.on_step = on_step
        self.before_step: Callable[[], None] | None = None
        self.lies: Callable[[str, Path], bool] | None = None
        """Asked at each sync and sync_dir with its name and path; True: only pretend to do it."""
        self.free = 1 << 40
        self.written: int | None = None
        """The node that the last step wrote to; None: it was no write."""
        self._directories: dict[Path, DirectoryNode] = {}
        self._locked: set[Path] = set()
        self._mutex = threading.RLock()

    # What tests ask of it.

    @staticmethod
    def of(state: DiskState) -> MemoryDisk:
        """A disk that holds this, all of it synced."""
        disk = MemoryDisk()
        nodes = {number: FileNode(content) for number, content in state.contents.items()}
        directories = disk._directories
        for path in state.directories:
            directories[path] = DirectoryNode()
            if path.parent in directories and path.parent != path:
                _settled(directories[path.parent], path.name, directories[path])
        for path, number in state.files:
            _settled(directories[path.parent], path.name, nodes[number])
        return disk

    def volume(self) -> Volume:
        """All of it, synced or not, frozen."""
        with self._mutex:
            return Volume.of(
                {
                    path: node
                    for path, node in self._directories.items()
                    if path.parent == path or path.parent not in self._directories
                }
            )

    def crashed(self, crash: Crash, seed: int = 0) -> MemoryDisk:
        """Another disk, as a crash at this moment would leave this one. Nothing is locked."""
        chance = random.Random(seed)
        copy = MemoryDisk()
        nodes: dict[int, FileNode] = {}

        def copied(path: Path, directory: DirectoryNode) -> DirectoryNode:
            target = copy._directories[path] = DirectoryNode()
            for name, node in _names_after(directory, crash, chance).items():
                if isinstance(node, DirectoryNode):
                    _settled(target, name, copied(path / name, node))
                    continue
                if node.number not in nodes:
                    nodes[node.number] = FileNode(_bytes_after(node, crash, chance))
                _settled(target, name, nodes[node.number])
            return target

        with self._mutex:
            for path, directory in self._directories.items():
                if path.parent == path or path.parent not in self._directories:
                    copied(path, directory)
        return copy

    def files(self) -> list[Path]:
        """All files, sorted."""
        return sorted(
            path / name
            for path, directory in self._directories.items()
            for name, node in directory.live.items()
            if isinstance(node, FileNode)
        )

    def content(self, path: Path) -> bytes:
        """The live bytes of a file."""
        return bytes(self._file(path).live)

    def overwrite(self, path: Path, content: bytes) -> None:
        """Damage a file behind everybody's back: live and synced."""
        node = self._file(path)
        node.live = bytearray(content)
        node.sync()

    def flip(self, path: Path, bit: int) -> None:
        """Turn one bit of a file around."""
        content = bytearray(self.content(path))
        content[bit // 8] ^= 1 << bit % 8
        self.overwrite(path, bytes(content))

    # FileSystem.

    def open_log(self, path: Path, *, create: bool) -> LogFile:
        self._begin()
        with self._mutex:
            if create == self.exists(path):
                raise failed(path, "open", errno.EEXIST if create else errno.ENOENT)
            node = self._create(path) if create else self._file(path)
        return MemoryLogFile(self, path, node)

    def open_read(self, path: Path) -> ReadFile:
        if not self.exists(path):
            raise FileNotFoundError(path)
        return MemoryReadFile(self._file(path))

    def open_write(self, path: Path) -> WriteFile:
        self._begin()
        return MemoryWriteFile(self, path, self._create(path))

    def read_bytes(self, path: Path) -> bytes:
        return self.open_read(path).read(1 << 40)

    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None:
        file = self.open_write(path)
        for chunk in chunks:
            file.write(chunk)
        file.sync()

    def rename(self, old: Path, new: Path) -> None:
        self._begin()
        with self._mutex:
            source, target = self._directory(old.parent), self._directory(new.parent)
            node = source.live.get(old.name)
            if node is None:
                raise failed(old, "rename", errno.ENOENT)
            changed((source, old.name, None), (target, new.name, node))
            if isinstance(node, DirectoryNode):
                for path in [path for path in self._directories if path.is_relative_to(old)]:
                    moved = new / path.relative_to(old)
                    self._directories[moved] = self._directories.pop(path)
        self.step("rename")

    def link(self, old: Path, new: Path) -> None:
        self._begin()
        with self._mutex:
            if self.exists(new):
                raise failed(new, "link", errno.EEXIST)
            changed((self._directory(new.parent), new.name, self._file(old)))
        self.step("link")

    def unlink(self, path: Path) -> None:
        self._begin()
        with self._mutex:
            self._file(path)
            changed((self._directory(path.parent), path.name, None))
        self.step("unlink")

    def sync_dir(self, path: Path) -> None:
        self._begin()
        with self._mutex:
            if self.lies is None or not self.lies("sync_dir", path):
                self._directory(path).sync()
        self.step("sync_dir")

    def list_dir(self, path: Path) -> list[str]:
        with self._mutex:
            return sorted(self._directory(path).live)

    def make_dir(self, path: Path) -> None:
        missing: list[Path] = []
        while path not in self._directories:
            missing.append(path)
            if path.parent == path:
                break
            path = path.parent
        else:
            if path.parent in self._directories and path.parent != path:
                self.sync_dir(path.parent)
        for each in reversed(missing):
            self._begin()
            with self._mutex:
                self._directories[each] = DirectoryNode()
                if each.parent != each:
                    changed((self._directories[each.parent], each.name, self._directories[each]))
            self.step("make_dir")
            if each.parent != each:
                self.sync_dir(each.parent)

    def remove_tree(self, path: Path) -> None:
        directory = self._directories.get(path)
        if directory is None:
            return
        for name in sorted(directory.live):
            if isinstance(directory.live[name], DirectoryNode):
                self.remove_tree(path / name)
            else:
                self.unlink(path / name)
        self._begin()
        with self._mutex:
            del self._directories[path]
            if path.parent in self._directories:
                changed((self._directories[path.parent], path.name, None))
        self.step("remove_tree")

    def exists(self, path: Path) -> bool:
        parent = self._directories.get(path.parent)
        return parent is not None and (path.name in parent.live or path in self._directories)

    def size_bytes(self, path: Path) -> int:
        return len(self._file(path).live)

    def free_bytes(self, path: Path) -> int:
        return self.free

    def lock(self, path: Path) -> Lock:
        with self._mutex:
            if path in self._locked:
                raise DirectoryInUse(path.parent, "another machine")
            if not self.exists(path):
                self._create(path)
            self._locked.add(path)
        return MemoryLock(self._locked, path)

    # Inside.

    def step(self, name: str) -> None:
        if name != "write":
            self.written = None
        if self.on_step is not None:
            self.on_step(name)

    def change(self, name: str, change: Callable[[], None], node: FileNode) -> None:
        """One step of an open file."""
        self._begin()
        with self._mutex:
            change()
            self.written = node.number
        self.step(name)

    def _begin(self) -> None:
        if self.before_step is not None:
            self.before_step()

    def _directory(self, path: Path) -> DirectoryNode:
        if path not in self._directories:
            raise failed(path, "find", errno.ENOENT)
        return self._directories[path]

    def _file(self, path: Path) -> FileNode:
        node = self._directory(path.parent).live.get(path.name)
        if not isinstance(node, FileNode):
            raise failed(path, "find", errno.ENOENT if node is None else errno.EISDIR)
        return node

    def _create(self, path: Path) -> FileNode:
        with self._mutex:
            directory = self._directory(path.parent)
            node = directory.live.get(path.name)
            if isinstance(node, FileNode):
                node.truncate(0)
            else:
                node = FileNode()
                changed((directory, path.name, node))
        self.step("create")
        return node


def _settled(directory: DirectoryNode, name: str, node: FileNode | DirectoryNode) -> None:
    directory.live[name] = directory.synced[name] = node


def _names_after(
    directory: DirectoryNode, crash: Crash, chance: random.Random
) -> dict[str, FileNode | DirectoryNode]:
    if crash is Crash.ALL:
        return directory.live
    names = dict(directory.synced)
    if crash is Crash.MIXED:
        for change in directory.pending[: chance.randint(0, len(directory.pending))]:
            for where, name, node in change.slots:
                if where is directory:
                    put(names, name, node)
    return names


def _bytes_after(node: FileNode, crash: Crash, chance: random.Random) -> bytes:
    if crash is Crash.ALL:
        return bytes(node.live)
    content = bytearray(node.synced)
    if crash is Crash.SYNCED:
        return bytes(content)
    for offset_bytes, data in node.pending:
        if data is None:
            # Truncations keep their order, as names do: both are metadata.
            del content[offset_bytes:]
        elif chance.random() < 0.5:
            kept = data[: chance.randint(0, len(data))] if chance.random() < 0.3 else data
            content.extend(bytes(max(0, offset_bytes - len(content))))
            content[offset_bytes : offset_bytes + len(kept)] = kept
    return bytes(content)
