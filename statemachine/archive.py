"""The images of one machine: begun, finished, carried away and installed.

    begin      seal the WAL, start segment S, copy the view      owner's thread
    write      S.img, and a snapshot directory if one is wanted  owner's thread or a job
    finish     remove what S replaces, note the snapshot         owner's thread
    install    a snapshot from elsewhere becomes S.img           owner's thread

Invariants: one image is written at a time; a checkpoint that nothing was applied after serves
again; the owner's memory is only replaced (install, clear) after the new image is durable.

What a crash does: checkpoint.py and snapshot.py, step by step. What is not done here: no rule
about entries (machine.py), no bytes (image.py).

Proved by: tests/statemachine/test_checkpoint.py, tests/statemachine/test_snapshot.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from statemachine.checkpoint import (
    Checkpoint,
    CheckpointConfig,
    CheckpointRule,
    prune_checkpoints,
    write_checkpoint,
)
from statemachine.commands import LogId, SnapshotMetadata
from statemachine.errors import Corrupt, Rejected, Unsupported
from statemachine.fs import FileSystem
from statemachine.image import Image, read_image
from statemachine.job import Check, Job
from statemachine.paths import SNAPSHOT_NAME, Paths
from statemachine.recovery import Recovered
from statemachine.snapshot import Snapshots, copy_verified, place_snapshot
from statemachine.store import Store, StoreParts
from statemachine.terms import LogTerms

__all__ = ["Archive"]


@dataclass(frozen=True, slots=True)
class _Written:
    """What a job leaves: both are durable."""

    checkpoint: Checkpoint
    metadata: SnapshotMetadata | None


class Archive:
    """Checkpoints and snapshots of one machine. Used by the owner's thread.

    Args:
        recovered: where the machine starts; its WAL is rotated and cut from here.
    """

    def __init__(
        self, disk: FileSystem, paths: Paths, config: CheckpointConfig, recovered: Recovered
    ) -> None:
        self._disk = disk
        self._paths = paths
        self._rule = CheckpointRule(config)
        self._wal = recovered.wal
        self.checkpoint = recovered.checkpoint
        """The newest that is finished; sequence 0: none."""
        self.snapshots = Snapshots(disk, paths)
        self._job: Job[_Written] | None = None
        self._wal_bytes = recovered.wal_bytes - self._wal.appended_bytes
        self.entries = recovered.entries
        """Entries in the WAL behind that checkpoint; the owner counts on."""

    def due(self, now_s: float) -> bool:
        """Whether it is time for a checkpoint, and none is being written."""
        wal_bytes = self._wal_bytes + self._wal.appended_bytes
        image_bytes = self.checkpoint.size_bytes
        return self._rule.due(now_s, wal_bytes, self.entries, image_bytes) and not self._job

    @property
    def busy(self) -> bool:
        """Whether an image is being written in the background."""
        return self._job is not None

    def run(self, store: Store, terms: LogTerms, directory: Path | None) -> _Written:
        """Make a checkpoint, and the snapshot of it in `directory` if that is given; wait."""
        self.wait()
        sequence, image = self._begin(store, terms, None)
        written = _write(self._disk, self._paths, sequence, image, self.checkpoint, directory)
        self._finish(written)
        return written

    def start(
        self, store: Store, terms: LogTerms, directory: Path | None, now_s: float | None
    ) -> None:
        """The same in the background; `poll` finishes it. The view is taken now."""
        assert self._job is None, "the owner asks `busy` first"
        sequence, image = self._begin(store, terms, now_s)
        disk, paths, newest = self._disk, self._paths, self.checkpoint

        def work(check: Check) -> _Written:
            return _write(disk, paths, sequence, image, newest, directory, check)

        self._job = Job("trimaran-image", work)

    def _begin(
        self, store: Store, terms: LogTerms, now_s: float | None
    ) -> tuple[int, Image | None]:
        """Segment and view of the next image; no image when the newest one still holds it all."""
        self._rule.begun(now_s)
        if self.checkpoint.sequence and not self.entries and self.checkpoint.last == terms.last:
            return self.checkpoint.sequence, None
        # 1 seal and start segment S, 2 copy the view: nothing is applied in between, so S holds
        # exactly what the image does not. Crash before the image has its name: S is replayed
        # like any other segment.
        sequence = self._wal.rotate(terms.last_index + 1)
        self._wal_bytes = -self._wal.appended_bytes
        self.entries = 0
        return sequence, Image(terms.last, terms.runs, store.view())

    def poll(self) -> bool:
        """Finish the background image if it is written; True when something was finished.

        Raises: Fatal when it failed.
        """
        if self._job is None or self._job.running:
            return False
        return self.wait()

    def wait(self) -> bool:
        """Wait for the background image and finish it."""
        job, self._job = self._job, None
        return self._finish(job.wait() if job is not None else None)

    def stop(self) -> None:
        """Give the background image up; when it was written already, it is finished."""
        job, self._job = self._job, None
        self._finish(job.stop() if job is not None else None)

    def abandon(self) -> None:
        """End the background image, whatever comes of it: what it wrote, the next boot finds."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()

    def _finish(self, written: _Written | None) -> bool:
        if written is None:
            return False
        self._replaced_by(written.checkpoint)
        if written.metadata is not None:
            self.snapshots.record(written.metadata)
        return True

    def _replaced_by(self, checkpoint: Checkpoint) -> None:
        # The checkpoint's name is durable by now: only then may go what it replaces.
        self.checkpoint = checkpoint
        self._wal.cut(checkpoint.sequence)
        prune_checkpoints(self._disk, self._paths, checkpoint.sequence)

    def install(
        self, metadata: SnapshotMetadata, directory: Path, last_index: int
    ) -> tuple[Store, LogTerms]:
        """Make the snapshot in `directory` the newest checkpoint; return the state in it.

        Args:
            last_index: of the state that it replaces.

        Raises:
            Rejected: it is not what its metadata says, or it cannot be read. Nothing has changed.
        """
        self.stop()
        sequence = self._wal.sequence + 1
        temporary = self._paths.checkpoint_temporary(sequence)
        copy_verified(self._disk, directory / SNAPSHOT_NAME, temporary, metadata)
        try:
            store, terms = _read_snapshot(self._disk, temporary, metadata)
        except Rejected:
            self._disk.unlink(temporary)
            raise
        # 1 seal the WAL and start segment S, 2 rename, 3 fsync the directory, 4 only then remove
        # what it replaces. Crash before 3: the old checkpoint and all its segments are there.
        self._wal.rotate(last_index + 1)
        self._disk.rename(temporary, self._paths.checkpoint(sequence))
        self._disk.sync_dir(self._paths.checkpoints)
        last = metadata.last_included
        self._restart(Checkpoint(sequence, last, metadata.size_bytes, metadata.checksum))
        if directory == self._paths.incoming:
            self.snapshots.adopt_incoming(metadata)
        self.snapshots.record(metadata)
        return store, terms

    def clear(self) -> None:
        """Make the empty state the newest checkpoint; forget all snapshots."""
        self.stop()
        # Snapshots first: one that outlived the state would be ahead of it at boot.
        self.snapshots.clear()
        sequence = self._wal.rotate(1)
        empty = Image(LogId(0, 0), (), StoreParts({}, {}, 0, {}))
        self._restart(write_checkpoint(self._disk, self._paths, sequence, empty))

    def _restart(self, checkpoint: Checkpoint) -> None:
        self._rule.begun(None)
        self._wal_bytes = -self._wal.appended_bytes
        self.entries = 0
        self._replaced_by(checkpoint)


def _write(
    disk: FileSystem,
    paths: Paths,
    sequence: int,
    image: Image | None,
    newest: Checkpoint,
    directory: Path | None,
    check: Check = lambda: None,
) -> _Written:
    if image is not None:
        newest = write_checkpoint(disk, paths, sequence, image, check)
    if directory is None:
        return _Written(newest, None)
    return _Written(newest, place_snapshot(disk, paths, newest, directory))


def _read_snapshot(
    disk: FileSystem, path: Path, metadata: SnapshotMetadata
) -> tuple[Store, LogTerms]:
    file = disk.open_read(path)
    try:
        image = read_image(path, file)
    except (Corrupt, Unsupported) as error:
        # Not this machine's data: the sender's file is bad, ours is as it was.
        raise Rejected(f"the snapshot cannot be read: {error}") from error
    finally:
        file.close()
    if image.last != metadata.last_included:
        raise Rejected(f"the snapshot is of {image.last}, not of {metadata.last_included}")
    store = Store()
    terms = LogTerms(image.last, image.runs)
    store.restore(image.parts)
    return store, terms
