"""The disk that a node is handed, with a watch on it: how long fsyncs and images take.

    open_log(journal/..), sync    ->  fsync["journal"]      image: a file that is written as a whole
    open_log(wal/..), sync        ->  fsync["wal"]          image["checkpoint"], image["snapshot"]:
    write                         ->  written_bytes[place]  from its first byte to its fsync

Every call is handed on to the disk that it was made of (a real one, a laboratory's, a test's);
a *place* is the directory that a file lies in.

Invariants: nothing is done differently, later or again; what fails is not counted and leaves as
it came. Journal, WAL and images have a thread each, and a histogram each (node.meters).

Does not do: report (node.web.families).

Proved by: tests/web/test_meters.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, cast

from node.meters import Histogram
from statemachine.fs import FileSystem, LogFile, WriteFile

__all__ = ["MeteredDisk", "metered"]

_LOGS: Final = ("journal", "wal")
_IMAGES: Final = ("checkpoint", "snapshot")


class MeteredDisk:
    """A FileSystem; use `metered`, which says so to the type checker."""

    def __init__(self, disk: FileSystem, monotonic: Callable[[], float]) -> None:
        self._disk = disk
        self._monotonic = monotonic
        self.fsync = {place: Histogram() for place in _LOGS}
        self.image = {place: Histogram() for place in _IMAGES}
        self.written_bytes = dict.fromkeys((*_LOGS, *_IMAGES), 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def open_log(self, path: Path, *, create: bool) -> LogFile:
        """As the disk's own, with its fsyncs timed."""
        file, place = self._disk.open_log(path, create=create), path.parent.name
        return _Log(file, self, place) if place in self.fsync else file

    def open_write(self, path: Path) -> WriteFile:
        """As the disk's own; an image is timed from here to its fsync."""
        file, place = self._disk.open_write(path), path.parent.name
        return _Image(file, self, place) if place in self.image else file

    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None:
        """As the disk's own; an image is timed as a whole."""
        place = path.parent.name
        if place not in self.image:
            self._disk.write_new(path, chunks)
            return
        begun_s = self._monotonic()
        self._disk.write_new(path, self._counted(chunks, place))
        self.image[place].observe(self._monotonic() - begun_s)

    def _counted(self, chunks: Iterable[bytes], place: str) -> Iterable[bytes]:
        for chunk in chunks:
            self.written_bytes[place] += len(chunk)
            yield chunk

    def now_s(self) -> float:
        """The clock that was handed in."""
        return self._monotonic()


class _Log:
    """LogFile."""

    __slots__ = ("_file", "_meter", "_place")

    def __init__(self, file: LogFile, meter: MeteredDisk, place: str) -> None:
        self._file, self._meter, self._place = file, meter, place

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    def write(self, buffers: Sequence[bytes]) -> int:
        written_bytes = self._file.write(buffers)
        self._meter.written_bytes[self._place] += written_bytes
        return written_bytes

    def sync(self) -> None:
        begun_s = self._meter.now_s()
        self._file.sync()
        self._meter.fsync[self._place].observe(self._meter.now_s() - begun_s)

    def truncate(self, size_bytes: int) -> None:
        self._file.truncate(size_bytes)

    def close(self) -> None:
        self._file.close()


class _Image:
    """WriteFile."""

    __slots__ = ("_begun_s", "_file", "_meter", "_place")

    def __init__(self, file: WriteFile, meter: MeteredDisk, place: str) -> None:
        self._file, self._meter, self._place = file, meter, place
        self._begun_s = meter.now_s()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._meter.written_bytes[self._place] += len(data)

    def sync(self) -> None:
        self._file.sync()
        self._meter.image[self._place].observe(self._meter.now_s() - self._begun_s)

    def close(self) -> None:
        self._file.close()


def metered(disk: FileSystem, monotonic: Callable[[], float]) -> tuple[FileSystem, MeteredDisk]:
    """The same object twice: as the disk that it is, and as the meter that it is."""
    made = MeteredDisk(disk, monotonic)
    return cast(FileSystem, made), made
