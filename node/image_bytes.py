"""Images in memory: bytes to be read as a file, and the image of a store never written to.

A store that no batch has ever reached has no entry to be the state of, so it makes no snapshot;
its backup is this image, of entry 0@0.

Does not do: read images (statemachine.image_reader), keep them.

Proved by: tests/node/test_backup_command.py, tests/cluster/test_backup.py
"""

from __future__ import annotations

from statemachine import LogId, SnapshotMetadata
from statemachine.image import Image, ImageWriter
from statemachine.layer import Columns
from statemachine.store import StoreParts

__all__ = ["BytesFile", "empty"]


class BytesFile:
    """Bytes in memory as a statemachine.fs.ReadFile."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset_bytes = 0
        self.size_bytes = len(data)

    def read(self, size_bytes: int) -> bytes:
        """The next bytes; fewer only at the end."""
        data = self.pread(size_bytes, self._offset_bytes)
        self._offset_bytes += len(data)
        return data

    def pread(self, size_bytes: int, offset_bytes: int) -> bytes:
        """Bytes at an offset. Does not move `read`."""
        return self._data[offset_bytes : offset_bytes + size_bytes]

    def close(self) -> None:
        """Let the bytes go."""
        self._data = b""


def empty() -> tuple[SnapshotMetadata, BytesFile]:
    """The snapshot of a store that was never written to."""
    last = LogId(0, 0)
    writer = ImageWriter(Image(last, [], StoreParts(Columns(), 0, {})))
    data = b"".join(writer.chunks())
    return SnapshotMetadata(last, writer.checksum, len(data)), BytesFile(data)
