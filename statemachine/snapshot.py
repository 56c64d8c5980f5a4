"""Snapshots: a checkpoint's image under a second name, to be carried to another machine.

    snapshot/<index>@<term>/snapshot.bin    an image (image.py); here a hard link to the checkpoint
    snapshot/<index>@<term>/metadata.bin    what it is: the directory counts once this is there
    snapshot/metadata.bin                   the last snapshot's, wherever it lies
    snapshot/incoming.tmp/                  one that is being received; goes at boot
    snapshot/installing.tmp/                one that is being installed; goes at boot

    metadata.bin   0       8         12      16            16+n
                   +-------+---------+-------+-------------+--------+
                   | magic | version | n     | protobuf    | crc32c |
                   | 8     | u32     | u32   | n bytes     | u32    |
                   +-------+---------+-------+-------------+--------+
    crc32c covers all before it. protobuf: SnapshotMetadata, the seed's field numbers.

Invariants: a snapshot is never ahead of what the machine holds durably (it *is* a checkpoint);
metadata.bin comes last, so a directory with it is whole; the two newest directories are kept; an
open ReadFile survives their removal.

What it does not do: receive or install one (incoming.py), or send one (the node does).

Proved by: tests/statemachine/test_snapshot.py
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import google_crc32c

from statemachine.checkpoint import Checkpoint
from statemachine.commands import (
    LogId,
    SnapshotMetadata,
    decode_snapshot_metadata,
    encode_snapshot_metadata,
)
from statemachine.errors import Corrupt, Rejected, Unsupported
from statemachine.fs import TEMPORARY_SUFFIX, FileSystem, ReadFile, replace_file
from statemachine.paths import METADATA_NAME, SNAPSHOT_NAME, Paths, snapshot_place

__all__ = [
    "METADATA_MAGIC",
    "Snapshots",
    "check_snapshot",
    "copy_verified",
    "place_snapshot",
    "read_metadata",
    "write_metadata",
]

METADATA_MAGIC: Final = b"TRIMMET\0"
METADATA_VERSION: Final = 1
_HEAD: Final = struct.Struct("<8sII")
_CRC: Final = struct.Struct("<I")
_METADATA_BYTES_MAX: Final = 4096
_COPY_BYTES: Final = 1024 * 1024
KEPT_MAX: Final = 2
"""Two: a follower may still be reading the one before the newest."""


def write_metadata(disk: FileSystem, path: Path, metadata: SnapshotMetadata) -> None:
    """Atomically put `metadata` there."""
    body = encode_snapshot_metadata(metadata)
    data = _HEAD.pack(METADATA_MAGIC, METADATA_VERSION, len(body)) + body
    replace_file(disk, path, [data + _CRC.pack(google_crc32c.value(data))])


def read_metadata(disk: FileSystem, path: Path) -> SnapshotMetadata:
    """Read it back.

    Raises:
        FileNotFoundError: there is none.
        Corrupt, Unsupported: it was written whole or not at all, so this is damage.
    """
    data = disk.read_bytes(path)
    if not _HEAD.size + _CRC.size <= len(data) <= _METADATA_BYTES_MAX:
        raise Corrupt(path, 0, f"metadata of {len(data)} bytes")
    magic, version, size_bytes = _HEAD.unpack_from(data)
    if magic == METADATA_MAGIC and version > METADATA_VERSION:
        raise Unsupported(path, version, METADATA_VERSION)
    body, crc = data[: -_CRC.size], _CRC.unpack(data[-_CRC.size :])[0]
    if magic != METADATA_MAGIC or len(body) != _HEAD.size + size_bytes:
        raise Corrupt(path, 0, "these bytes are no snapshot metadata")
    if google_crc32c.value(body) != crc:
        raise Corrupt(path, 0, "metadata checksum does not match")
    try:
        return decode_snapshot_metadata(body[_HEAD.size :])
    except Rejected as error:
        raise Corrupt(path, _HEAD.size, str(error)) from error


def place_snapshot(
    disk: FileSystem, paths: Paths, checkpoint: Checkpoint, directory: Path
) -> SnapshotMetadata:
    """Make the snapshot directory of a checkpoint. Any thread.

    In its own place a snapshot that is there already stays: its index and term say that it holds
    the same, and the journal may have been cut on its account.

    Raises: DiskFailed; without its metadata.bin the directory counts for nothing.
    """
    metadata = SnapshotMetadata(checkpoint.last, checkpoint.checksum, checkpoint.size_bytes)
    source, target = paths.checkpoint(checkpoint.sequence), directory / SNAPSHOT_NAME
    own_place = directory == paths.snapshot(checkpoint.last)
    disk.make_dir(directory)
    if disk.exists(directory / METADATA_NAME):
        if own_place:
            return read_metadata(disk, directory / METADATA_NAME)
        disk.unlink(directory / METADATA_NAME)
        disk.sync_dir(directory)
    if own_place:
        # The same file system, so a second name costs nothing; both are only ever read.
        if disk.exists(target):
            disk.unlink(target)
        disk.link(source, target)
        disk.sync_dir(directory)
    else:
        temporary = target.with_name(target.name + TEMPORARY_SUFFIX)
        try:
            copy_verified(disk, source, temporary, metadata)
        except Rejected as error:
            raise Corrupt(source, 0, str(error)) from error
        disk.rename(temporary, target)
        disk.sync_dir(directory)
    write_metadata(disk, directory / METADATA_NAME, metadata)
    return metadata


def check_snapshot(
    disk: FileSystem,
    source: Path,
    metadata: SnapshotMetadata,
    sink: Callable[[bytes], object] = len,
) -> None:
    """Read a whole snapshot.bin and refuse it when it is not the one `metadata` describes.

    Args:
        sink: gets every byte, in order, before the verdict.

    Raises: Rejected, DiskFailed.
    """
    try:
        reader = disk.open_read(source)
    except FileNotFoundError as error:
        raise Rejected(f"{source} is not there") from error
    sha256 = hashlib.sha256()
    try:
        if reader.size_bytes != metadata.size_bytes:
            raise Rejected(
                f"{source} has {reader.size_bytes} bytes, its metadata says {metadata.size_bytes}"
            )
        while data := reader.read(_COPY_BYTES):
            sha256.update(data)
            sink(data)
    finally:
        reader.close()
    if sha256.digest() != metadata.checksum:
        raise Rejected(f"{source}: the SHA-256 is not the one in its metadata")


def copy_verified(disk: FileSystem, source: Path, target: Path, metadata: SnapshotMetadata) -> None:
    """Copy and fsync a snapshot.bin; what was hashed is what was written, byte for byte.

    Raises: Rejected as `check_snapshot` does, and then `target` is gone again; DiskFailed.
    """
    writer = disk.open_write(target)
    try:
        check_snapshot(disk, source, metadata, writer.write)
        writer.sync()
    except Rejected:
        disk.unlink(target)
        raise
    finally:
        writer.close()


class Snapshots:
    """The snapshot directories of one machine, and what is known of the last snapshot."""

    def __init__(self, disk: FileSystem, paths: Paths) -> None:
        """Reads what is there; removes what is unfinished.

        Raises: Corrupt, Unsupported, DiskFailed.
        """
        self._disk = disk
        self._paths = paths
        self.removed: list[str] = []
        for name in disk.list_dir(paths.snapshots):
            path = paths.snapshots / name
            # Removing a directory is not atomic either: half of one is unfinished as well.
            whole = disk.exists(path / METADATA_NAME) and disk.exists(path / SNAPSHOT_NAME)
            if (snapshot_place(name) and not whole) or path in (paths.incoming, paths.installing):
                disk.remove_tree(path)
                self.removed.append(f"{paths.snapshots.name}/{name}")
            elif name.endswith(TEMPORARY_SUFFIX):
                disk.unlink(path)
                self.removed.append(f"{paths.snapshots.name}/{name}")
        for place in self.places():
            # A kill leaves names that only the page cache knows. What is shown has to stay: Raft's
            # journal is cut on its account.
            disk.sync_dir(paths.snapshot(place))
        disk.sync_dir(paths.snapshots)
        self.metadata: SnapshotMetadata | None = None
        """Of the last snapshot; None: there is none."""
        if disk.exists(paths.snapshot_record):
            self.metadata = read_metadata(disk, paths.snapshot_record)
        for place in self.places():
            found = read_metadata(disk, paths.snapshot(place) / METADATA_NAME)
            if found.last_included != place:
                raise Corrupt(paths.snapshot(place), 0, f"holds a snapshot of {found}")
            if self.metadata is None or found.last_included.index > self.metadata_index:
                self.metadata = found

    @property
    def metadata_index(self) -> int:
        """The last included index of the last snapshot; 0: there is none."""
        return self.metadata.last_included.index if self.metadata is not None else 0

    def places(self) -> list[LogId]:
        """The snapshots that lie in their own directories, oldest first."""
        found = map(snapshot_place, self._disk.list_dir(self._paths.snapshots))
        return sorted(place for place in found if place is not None)

    def record(self, metadata: SnapshotMetadata) -> None:
        """Durably note the last snapshot, and remove the directories that are too old."""
        write_metadata(self._disk, self._paths.snapshot_record, metadata)
        self.metadata = metadata
        # The newest included: one that is ahead of `metadata` would come back at boot.
        for place in self.places()[:-KEPT_MAX]:
            self._disk.remove_tree(self._paths.snapshot(place))

    def is_received(self) -> bool:
        """Whether there is a received snapshot: waiting, or set aside by a given-up install."""
        return self._disk.exists(self._paths.incoming) or self._disk.exists(self._paths.installing)

    def set_aside(self) -> Path:
        """Give the received snapshot, which is about to be installed, a place that the next
        transfer leaves alone; return it. One that was set aside and given up serves again.
        """
        if self._disk.exists(self._paths.incoming):
            self._disk.remove_tree(self._paths.installing)
            self._disk.rename(self._paths.incoming, self._paths.installing)
        return self._paths.installing

    def adopt(self, metadata: SnapshotMetadata) -> None:
        """Keep what was set aside, now installed, as this machine's own."""
        target = self._paths.snapshot(metadata.last_included)
        self._disk.remove_tree(target)
        self._disk.rename(self._paths.installing, target)
        self._disk.sync_dir(self._paths.snapshots)

    def clear(self) -> None:
        """Forget every snapshot."""
        if self._disk.exists(self._paths.snapshot_record):
            self._disk.unlink(self._paths.snapshot_record)
        for place in self.places():
            self._disk.remove_tree(self._paths.snapshot(place))
        self._disk.remove_tree(self._paths.incoming)
        self._disk.remove_tree(self._paths.installing)
        self._disk.sync_dir(self._paths.snapshots)
        self.metadata = None

    def open_newest(self) -> tuple[SnapshotMetadata, ReadFile] | None:
        """The newest one that lies in its own directory, open for streaming; None: there is none.

        The caller closes the file. It stays readable when newer snapshots push it out.
        """
        for place in reversed(self.places()):
            directory = self._paths.snapshot(place)
            try:
                metadata = read_metadata(self._disk, directory / METADATA_NAME)
                return metadata, self._disk.open_read(directory / SNAPSHOT_NAME)
            except FileNotFoundError:
                continue  # It is being made at this moment: the one before serves.
        return None
