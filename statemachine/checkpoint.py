"""Checkpoints: the image that lets the WAL be cut, and when one is due.

    owner's thread                      worker thread
    1 WAL: go on in a new segment if one
      is at hand; S is the one that grows
    2 freeze the store (records.py)
                                        3 write S.img.tmp, 4 fsync it
                                        5 rename to S.img, 6 fsync the directory
                                        7 remove older checkpoints and the WAL below S
    8 thaw

    checkpoint S + segments S, S+1, ... = the state

Invariants: a checkpoint that has its name is whole; the name of the segment it needs was synced
before; older files go only after 6. `S` never falls, so the highest is the newest; an image that
needs the same segment as the one before takes its name over, atomically.

Crash: before 5 the older checkpoint and all segments from its own on are there, and the temporary
file goes at boot. After 6 the new one is there, and what 7 left over goes at boot. Between 5 and
6 either is found, and both are whole.

What it costs (write amplification): by the default rule no image is begun that would bring the
bytes written for images above twice the bytes logged. The size of the next one is bounded by what
the last one took, what was logged since, and a few bytes for each new key. So bytes written <= 3 x
bytes logged, however large the store is. Keys and values of less than a dozen bytes together take
more in an image than twice what was logged: for them the image waits until the WAL is four times
as large, and no longer.

Nothing of it stops the owner: 1 and 2 take microseconds, whatever the size, 3 to 7 run beside it.

What it does not do: write only what has changed. Doubling the log between two images as the
store doubles is what bounds the cost.

Proved by: tests/statemachine/test_checkpoint.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from statemachine.commands import LogId
from statemachine.errors import Corrupt, Rejected
from statemachine.fs import FileSystem
from statemachine.image import Image, ImageWriter
from statemachine.image_reader import read_image
from statemachine.paths import Paths, checkpoint_sequence, segment_sequence

__all__ = [
    "NO_CHECKPOINT",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointRule",
    "cut_segments",
    "newest_checkpoint",
    "prune_checkpoints",
    "read_checkpoint",
    "write_checkpoint",
]

_MIB: Final = 1024 * 1024
_KEY_BYTES: Final = 16
"""What a key takes in an image beyond the bytes that were logged for it: revisions, deadline."""
_WAIT_FACTOR: Final = 4
"""A WAL that has grown to so many times what calls for an image does not wait any longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """[checkpoint]: when `maybe_checkpoint` makes one. Any rule that is not 0 may call for it.

    Raises: Rejected on a negative value.
    """

    bytes: int = 64 * _MIB
    """When the WAL has grown by this much and by the size of the last image, and images stay within
    twice what was logged. More: a longer replay at boot and a larger WAL. 0: not by size."""

    entries: int = 0
    """After this many entries, however large the store is. The seed's rule is 1,000; its cost is
    the whole store each time. 0: not by count."""

    interval_ms: int = 0
    """When so much time has passed and something was applied. The seed's is 10,000. 0: never."""

    def __post_init__(self) -> None:
        for name in ("bytes", "entries", "interval_ms"):
            if getattr(self, name) < 0:
                raise Rejected(f"checkpoint.{name} is {getattr(self, name)}: it must be >= 0")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A finished image under its name. Sequence 0: there is none."""

    sequence: int
    last: LogId
    size_bytes: int
    checksum: bytes
    """SHA-256 of the file."""


NO_CHECKPOINT: Final = Checkpoint(0, LogId(0, 0), 0, b"")


class CheckpointRule:
    """Decides when one is due: pure, the time comes in.

    Args:
        image_bytes: the size of the newest image; 0: there is none.
        keys: how many keys are in it.
    """

    def __init__(self, config: CheckpointConfig, image_bytes: int = 0, keys: int = 0) -> None:
        self._config = config
        self._begun_at_s: float | None = None
        self._image_bytes = image_bytes
        self._image_keys = keys
        self._images_bytes = 0

    def begun(self, now_s: float | None, keys: int = 0) -> None:
        """A checkpoint of so many keys was begun; None: at an unknown time, the next question
        starts the clock.
        """
        self._begun_at_s = now_s
        self._image_keys = keys

    def written(self, image_bytes: int) -> None:
        """It was written, and has this size."""
        self._image_bytes = image_bytes
        self._images_bytes += image_bytes

    def due(
        self, now_s: float, *, wal_bytes: int, logged_bytes: int, entries: int, keys: int
    ) -> bool:
        """Whether what has grown calls for a new one.

        Args:
            wal_bytes: logged since the last one.
            logged_bytes: logged in all, as far back as `written` counts.
            entries: applied since the last one.
            keys: how many there are now.
        """
        if self._begun_at_s is None:
            self._begun_at_s = now_s
        if not wal_bytes:
            return False
        config = self._config
        wanted_bytes = max(config.bytes, self._image_bytes)
        if config.bytes and wal_bytes >= wanted_bytes:
            new_keys = max(keys - self._image_keys, 0)
            next_bytes = self._image_bytes + wal_bytes + new_keys * _KEY_BYTES
            affordable = self._images_bytes + next_bytes <= 2 * logged_bytes
            if affordable or wal_bytes >= _WAIT_FACTOR * wanted_bytes:
                return True
        return bool(
            (config.entries and entries >= config.entries)
            or (config.interval_ms and (now_s - self._begun_at_s) * 1000 >= config.interval_ms)
        )


def write_checkpoint(
    disk: FileSystem,
    paths: Paths,
    sequence: int,
    image: Image,
    check: Callable[[], None] = lambda: None,
) -> Checkpoint:
    """Steps 3 to 6. Any thread, as long as nobody changes the image.

    Args:
        check: called between blocks; what it raises leaves the temporary file behind.

    Raises:
        DiskFailed: whether the new name is there is not known.
    """
    writer = ImageWriter(image)
    temporary = paths.checkpoint_temporary(sequence)
    if disk.exists(temporary):
        # An install that was given up left it: a second name of the snapshot that it was to take.
        disk.unlink(temporary)
    disk.write_new(temporary, _checked(writer.chunks(), check))
    check()
    disk.rename(temporary, paths.checkpoint(sequence))
    disk.sync_dir(paths.checkpoints)
    return Checkpoint(sequence, image.last, writer.size_bytes, writer.checksum)


def _checked(chunks: Iterator[bytes], check: Callable[[], None]) -> Iterator[bytes]:
    for chunk in chunks:
        check()
        yield chunk


def newest_checkpoint(disk: FileSystem, paths: Paths) -> int:
    """Its sequence; 0 when there is none."""
    found = map(checkpoint_sequence, disk.list_dir(paths.checkpoints))
    return max((sequence for sequence in found if sequence is not None), default=0)


def read_checkpoint(disk: FileSystem, paths: Paths, sequence: int) -> Image:
    """Load it. It is whole or damaged: it had been synced before it got its name.

    Raises: Corrupt, Unsupported.
    """
    path = paths.checkpoint(sequence)
    try:
        file = disk.open_read(path)
    except FileNotFoundError as error:
        raise Corrupt(path, 0, "the checkpoint went away while it was opened") from error
    try:
        return read_image(path, file)
    finally:
        file.close()


def prune_checkpoints(disk: FileSystem, paths: Paths, newest: int) -> list[str]:
    """Remove all but the newest; return the names. Its own name is synced by now."""
    removed: list[str] = []
    for name in disk.list_dir(paths.checkpoints):
        sequence = checkpoint_sequence(name)
        if sequence is not None and sequence < newest:
            disk.unlink(paths.checkpoints / name)
            removed.append(name)
    if removed:
        disk.sync_dir(paths.checkpoints)
    return removed


def cut_segments(disk: FileSystem, paths: Paths, sequence: int) -> list[str]:
    """Remove the segments below `sequence`, and return their names: a durable checkpoint holds
    what they hold. Any thread: nobody writes to them any more.
    """
    # Oldest first: after a crash in between, what is left is still without gaps.
    removed: list[str] = []
    for name in disk.list_dir(paths.wal):
        found = segment_sequence(name)
        if found is not None and found < sequence:
            disk.unlink(paths.wal / name)
            removed.append(name)
    if removed:
        disk.sync_dir(paths.wal)
    return removed
