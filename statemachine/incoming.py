"""Snapshots from elsewhere: received in chunks, checked, read; nothing is changed by it.

    snapshot/incoming.tmp/   begin -> write ... -> finish    size and SHA-256 checked, synced
                             abort, the next begin, a boot   forget it

Installing: 0 set what our receiver made aside, so that the next transfer may begin, 1 link it, or
copy what lies elsewhere, to checkpoint/S.img.tmp, 2 read it whole and compare size and SHA-256,
3 rename, fsync the directory, 4 remove what it replaces, 5 swap memory. Up to 3 nothing has changed
and the old state goes on; a crash before finds the old state, one after it the new. 1 and 2 are
here; archive.py does the rest, all but 0 and 5 in a thread.

What it does not do: resume a broken transfer, or send one (the node does).

Proved by: tests/statemachine/test_snapshot.py, tests/statemachine/test_background.py
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from statemachine.commands import SnapshotMetadata
from statemachine.errors import Corrupt, Rejected, Unsupported
from statemachine.fs import FileSystem, WriteFile
from statemachine.image import Image
from statemachine.image_reader import read_image
from statemachine.paths import METADATA_NAME, SNAPSHOT_NAME
from statemachine.snapshot import write_metadata

__all__ = ["SnapshotReceiver", "read_snapshot", "take_over"]

_COPY_BYTES: Final = 1024 * 1024


def take_over(disk: FileSystem, directory: Path, target: Path, *, link: bool) -> None:
    """Bring the snapshot.bin of a directory to `target`, durably but for its name.

    Args:
        link: the file is this machine's own, synced when it was received: a second name will do.

    Raises: Rejected when there is none; DiskFailed.
    """
    source = directory / SNAPSHOT_NAME
    if not disk.exists(source):
        raise Rejected(f"{source} is not there")
    if disk.exists(target):
        disk.unlink(target)  # Work that was given up left it; it may share its bytes with others.
    if link:
        disk.link(source, target)
        return
    reader = disk.open_read(source)
    try:
        disk.write_new(target, iter(lambda: reader.read(_COPY_BYTES), b""))
    finally:
        reader.close()


def read_snapshot(
    disk: FileSystem, path: Path, metadata: SnapshotMetadata, check: Callable[[], None]
) -> Image:
    """Read a whole snapshot, and refuse it when it is not the one `metadata` describes.

    Args:
        check: called between blocks.

    Raises: Rejected; DiskFailed.
    """
    file = disk.open_read(path)
    try:
        if file.size_bytes != metadata.size_bytes:
            raise Rejected(
                f"the snapshot has {file.size_bytes} bytes, its metadata says {metadata.size_bytes}"
            )
        image = read_image(path, file, check)
    except (Corrupt, Unsupported) as error:
        # Not this machine's data: the sender's file is bad, ours is as it was.
        raise Rejected(f"the snapshot cannot be read: {error}") from error
    finally:
        file.close()
    if image.checksum != metadata.checksum:
        raise Rejected("the SHA-256 of the snapshot is not the one in its metadata")
    if image.last != metadata.last_included:
        raise Rejected(f"the snapshot is of {image.last}, not of {metadata.last_included}")
    return image


class SnapshotReceiver:
    """Collects one incoming snapshot. A crash, `abort` or the next `begin` forgets it.

    Args:
        guard: entered around whatever touches the disk; a failure there ends the machine, because
            a disk that failed once cannot be believed, whoever wrote.
    """

    def __init__(
        self, disk: FileSystem, directory: Path, guard: AbstractContextManager[None]
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._guard = guard
        self._file: WriteFile | None = None
        self._metadata: SnapshotMetadata | None = None
        self._sha256 = hashlib.sha256()
        self.received_bytes = 0

    def begin(self, metadata: SnapshotMetadata) -> None:
        """Start over, empty: what an earlier transfer left is gone."""
        self.abort()
        with self._guard:
            self._disk.make_dir(self._directory)
            self._file = self._disk.open_write(self._directory / SNAPSHOT_NAME)
        self._metadata = metadata
        self._sha256 = hashlib.sha256()
        self.received_bytes = 0

    def write(self, chunk: bytes) -> None:
        """The next bytes.

        Raises: Rejected when there are more than the metadata said; the transfer is over then.
        """
        file, metadata = self._begun()
        if self.received_bytes + len(chunk) > metadata.size_bytes:
            self.abort()
            raise Rejected(f"the snapshot is longer than the {metadata.size_bytes} bytes it names")
        with self._guard:
            file.write(chunk)
        self._sha256.update(chunk)
        self.received_bytes += len(chunk)

    def finish(self) -> Path:
        """All was sent: check it, make it durable, return its directory, ready to be applied.

        Raises: Rejected when size or SHA-256 do not match; the transfer is over then.
        """
        file, metadata = self._begun()
        if self.received_bytes != metadata.size_bytes:
            received_bytes = self.received_bytes
            self.abort()
            raise Rejected(f"{received_bytes} of {metadata.size_bytes} snapshot bytes were sent")
        if self._sha256.digest() != metadata.checksum:
            self.abort()
            raise Rejected("the SHA-256 of the received snapshot is not the one it names")
        with self._guard:
            file.sync()
            file.close()
            self._file = None
            write_metadata(self._disk, self._directory / METADATA_NAME, metadata)
        return self._directory

    def abort(self) -> None:
        """Forget what came so far."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._metadata = None
        with self._guard:
            self._disk.remove_tree(self._directory)

    def _begun(self) -> tuple[WriteFile, SnapshotMetadata]:
        if self._file is None or self._metadata is None:
            raise Rejected("no snapshot transfer was begun")
        return self._file, self._metadata
