"""What a disk holds at one moment: what was synced, and every change that was not yet.

    FileNode       live bytes; bytes at the last sync; the writes and truncations since
    DirectoryNode  live names; names at the last sync; the changes of names since
    NameChange     one create, rename, link, unlink, mkdir or rmdir: all of its slots, or none

    Volume         all of that, frozen: crash_states.py makes every legal disk state of it
    DiskState      one such state: directories, files, and the bytes in them

A slot is one name in one directory. A change of names depends on the earlier ones that touch one
of its slots, and on nothing else: the weakest file system that POSIX allows. A node is a file or
directory apart from its names, so hard links share their bytes and a renamed directory keeps what
is in it, synced or not.

Numbers count nodes and changes in the order they were made, so a Volume is the same in every run.

Proved by: tests/statemachine/test_crash_model.py
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DirectoryNode", "DiskState", "FileNode", "NameChange", "Volume", "Write", "changed"]

_numbers = itertools.count(1)

Write = tuple[int, bytes | None]
"""(offset, bytes) of a write; (size, None) of a truncation."""


class FileNode:
    """The bytes of one file. Deep copies keep their number: it names the node in its disk."""

    __slots__ = ("live", "number", "pending", "synced")

    def __init__(self, content: bytes = b"") -> None:
        self.number = next(_numbers)
        self.live = bytearray(content)
        self.synced = content
        self.pending: list[Write] = []

    def write(self, data: bytes) -> None:
        self.pending.append((len(self.live), data))
        self.live += data

    def truncate(self, size_bytes: int) -> None:
        self.pending.append((size_bytes, None))
        del self.live[size_bytes:]

    def sync(self) -> None:
        self.synced = bytes(self.live)
        self.pending.clear()


class DirectoryNode:
    """The names in one directory."""

    __slots__ = ("live", "number", "pending", "synced")

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.live: dict[str, FileNode | DirectoryNode] = {}
        self.synced: dict[str, FileNode | DirectoryNode] = {}
        self.pending: list[NameChange] = []

    def sync(self) -> None:
        """Make its changes stay, and what those depend on in other directories."""
        for change in list(self.pending):
            change.settle()


Node = FileNode | DirectoryNode
Slot = tuple[DirectoryNode, str]


class NameChange:
    """One change of names. `slots`: what each touched name leads to now; None: nowhere."""

    __slots__ = ("number", "slots")

    def __init__(self, slots: list[tuple[DirectoryNode, str, Node | None]]) -> None:
        self.number = next(_numbers)
        self.slots = slots

    def settle(self) -> None:
        """It is on the disk now, and with it whatever came earlier to one of its slots."""
        for directory, name, _ in self.slots:
            for earlier in list(directory.pending):
                if earlier.number < self.number and earlier.touches(directory, name):
                    earlier.settle()
        for directory, name, node in self.slots:
            put(directory.synced, name, node)
            if self in directory.pending:
                directory.pending.remove(self)

    def touches(self, directory: DirectoryNode, name: str) -> bool:
        return any(slot[0] is directory and slot[1] == name for slot in self.slots)


def put(names: dict[str, Node], name: str, node: Node | None) -> None:
    """Let a name lead to a node, or nowhere."""
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def changed(*slots: tuple[DirectoryNode, str, Node | None]) -> None:
    """Change live names, all at once, and remember that it is not synced."""
    change = NameChange(list(slots))
    for directory, name, node in slots:
        put(directory.live, name, node)
        if change not in directory.pending:
            directory.pending.append(change)


FrozenChange = tuple[tuple[int, str, int | None], ...]
"""(number of the directory, name, number of the node or None) of each slot."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A disk at one moment. Nodes go by their numbers."""

    roots: tuple[tuple[Path, int], ...]
    names: Mapping[int, Mapping[str, int]]
    """What each directory held when it was synced."""
    changes: tuple[FrozenChange, ...]
    """Not synced, oldest first."""
    synced: Mapping[int, bytes]
    """What each file held when it was synced."""
    writes: Mapping[int, tuple[Write, ...]]
    """Not synced, oldest first, of each file that has some."""

    @staticmethod
    def of(roots: Mapping[Path, DirectoryNode]) -> Volume:
        """Freeze what can be reached from these directories, now or after a crash."""
        names: dict[int, dict[str, int]] = {}
        changes: dict[int, FrozenChange] = {}
        synced: dict[int, bytes] = {}
        writes: dict[int, tuple[Write, ...]] = {}
        waiting: list[Node] = list(roots.values())
        while waiting:
            node = waiting.pop()
            if node.number in names or node.number in synced:
                continue
            if isinstance(node, FileNode):
                synced[node.number] = node.synced
                if node.pending:
                    writes[node.number] = tuple(node.pending)
                continue
            names[node.number] = {name: below.number for name, below in node.synced.items()}
            waiting += [*node.synced.values(), *node.live.values()]
            for change in node.pending:
                changes[change.number] = tuple(
                    (directory.number, name, below.number if below is not None else None)
                    for directory, name, below in change.slots
                )
                waiting += [below for _, _, below in change.slots if below is not None]
        return Volume(
            tuple((path, root.number) for path, root in roots.items()),
            names,
            tuple(change for _, change in sorted(changes.items())),
            synced,
            writes,
        )


@dataclass(frozen=True, slots=True)
class DiskState:
    """One state of a disk after a crash; all of it is synced."""

    directories: tuple[Path, ...]
    """Parents first."""
    files: tuple[tuple[Path, int], ...]
    """Each name with the number of its node: hard links share one. In the order of names."""
    contents: Mapping[int, bytes]

    def key(self) -> bytes:
        """Equal for two states that no program can tell apart."""
        sha = hashlib.blake2b(digest_size=16)
        for directory in self.directories:
            sha.update(b"d%s\0" % str(directory).encode())
        first: dict[int, int] = {}
        for place, (path, node) in enumerate(self.files):
            content = self.contents[node]
            linked = first.setdefault(node, place)
            sha.update(b"f%s\0%d %d\0" % (str(path).encode(), linked, len(content)))
            sha.update(content)
        return sha.digest()
