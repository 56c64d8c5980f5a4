"""The laboratory's door in a node: a slow, full or broken disk, and a wall clock that is off.

    [lab] door = "/path/n1.door"          without it none of this exists in the process

    {"sync_delay_ms": 200}                each fsync takes 200 ms longer
    {"disk": "full"}                      0 bytes are free; what is kept back can still be written
    {"disk": "broken"}                    the next write or fsync fails with EIO
    {"clock_offset_ms": -5000}            this node's wall clock is 5 s behind
    {"sync_delay_ms": 0, "disk": "sound", "clock_offset_ms": 0}
        -> ok, or a line that says what is wrong; one JSON object a line, on a Unix socket

Only the doors to disk and clock are handed in (node.app.Node): no rule of the node knows that
there is a laboratory. The socket can be opened by the node's own user alone.

A crash leaves the socket's name behind; the next start replaces it.

Does not do: lie. No order here makes a sound node answer wrongly.

Proved by: tests/node/test_labdoor.py
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from node.clock import Clock
from statemachine.errors import DiskFailed
from statemachine.fs import Disk, LogFile, WriteFile

__all__ = ["LabDisk", "LabDoor"]

_DISKS: Final = ("sound", "full", "broken")
_BROKEN: Final = os.strerror(errno.EIO)


class LabDisk(Disk):
    """The real disk, as slow, full or broken as it is told to be."""

    def __init__(self) -> None:
        self.sync_delay_ms = 0
        self.state = "sound"

    def open_log(self, path: Path, *, create: bool) -> LogFile:
        """As the real one."""
        return _Log(super().open_log(path, create=create), path, self)

    def open_write(self, path: Path) -> WriteFile:
        """As the real one."""
        self.touch(path, "write")
        return _Written(super().open_write(path), path, self)

    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None:
        """As the real one, with the delay of its fsync."""
        self.touch(path, "write")
        super().write_new(path, chunks)
        self.before_sync(path)

    def sync_dir(self, path: Path) -> None:
        """As the real one."""
        self.before_sync(path)
        super().sync_dir(path)

    def free_bytes(self, path: Path) -> int:
        """None on a full disk."""
        return 0 if self.state == "full" else super().free_bytes(path)

    def before_sync(self, path: Path) -> None:
        """What an fsync of this disk costs, or that it fails."""
        self.touch(path, "fsync")
        if self.sync_delay_ms:
            time.sleep(self.sync_delay_ms / 1000)

    def touch(self, path: Path, operation: str) -> None:
        """Fail, if the disk is broken."""
        if self.state == "broken":
            raise DiskFailed(path, operation, f"{_BROKEN} (asked for at the laboratory door)")


class _Log:
    """LogFile, on such a disk."""

    def __init__(self, file: LogFile, path: Path, disk: LabDisk) -> None:
        self._file, self._path, self._disk = file, path, disk

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    def write(self, buffers: Sequence[bytes]) -> int:
        self._disk.touch(self._path, "write")
        return self._file.write(buffers)

    def sync(self) -> None:
        self._disk.before_sync(self._path)
        self._file.sync()

    def truncate(self, size_bytes: int) -> None:
        self._disk.touch(self._path, "truncate")
        self._file.truncate(size_bytes)

    def close(self) -> None:
        self._file.close()


class _Written:
    """WriteFile, on such a disk."""

    def __init__(self, file: WriteFile, path: Path, disk: LabDisk) -> None:
        self._file, self._path, self._disk = file, path, disk

    def write(self, data: bytes) -> None:
        self._disk.touch(self._path, "write")
        self._file.write(data)

    def sync(self) -> None:
        self._disk.before_sync(self._path)
        self._file.sync()

    def close(self) -> None:
        self._file.close()


class LabDoor:
    """The doors that a node is given, and the socket at which they are set."""

    def __init__(self, path: Path) -> None:
        self.disk = LabDisk()
        self.clock = Clock()
        self._path = path
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Take orders. OSError when the socket cannot be made."""
        self._remove()
        self._server = await asyncio.start_unix_server(self._serve, str(self._path))
        os.chmod(self._path, 0o600)

    def close(self) -> None:
        """Take no more."""
        if self._server is not None:
            self._server.close()
            self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                try:
                    self.obey(json.loads(line))
                except (ValueError, TypeError) as error:
                    writer.write(f"{error}\n".encode())
                else:
                    writer.write(b"ok\n")
                await writer.drain()
        except OSError:
            pass  # Whoever gave the order did not wait for the answer.
        finally:
            writer.close()

    def obey(self, order: dict[str, object]) -> None:
        """Carry out one order, all of it or nothing. ValueError says what is wrong with it."""
        if not isinstance(order, dict):
            raise ValueError("an order is one JSON object")
        for name, value in order.items():
            if name not in ("sync_delay_ms", "disk", "clock_offset_ms"):
                raise ValueError(f"{name}: no such order")
            if name == "disk" and value not in _DISKS:
                raise ValueError(f"disk: {value!r}, must be one of {', '.join(_DISKS)}")
            if name != "disk" and not isinstance(value, int):
                raise ValueError(f"{name}: {value!r}, must be a whole number")
        for name, value in order.items():
            if name == "disk":
                self.disk.state = str(value)
            elif name == "sync_delay_ms":
                assert isinstance(value, int)
                self.disk.sync_delay_ms = max(value, 0)
            else:
                assert isinstance(value, int)
                self.clock.offset_ms = value
