"""The images of one machine: begun, finished, carried away and installed.

    begin      S: the segment that grows; freeze the store        owner's thread, no disk
    job        write S.img, make the snapshot if one is wanted,   a thread of its own
               remove what S replaces
    finish     thaw the store                                     owner's thread, no disk

    install    S: likewise; set the snapshot aside                owner's thread, a rename
      job      copy or link to S.img.tmp, read and verify it,     a thread of its own
               rename, remove what S replaces
      finish   the state that was read becomes the machine's      owner's thread, no disk

So neither pauses the owner, however large the store (what an install replaced goes bit by bit,
remains.py) and however slow the disk. `run` and `clear`
wait.

Invariants: one job at a time; a checkpoint that nothing was applied after serves again; memory is
only replaced (install, clear) after the new image is durable; what S replaces is removed only
after S.img has its name for good. Entries that are applied while a snapshot is installed go to
segment S, where they belong whatever comes of it.

What a crash does: checkpoint.py and snapshot.py, step by step. What is not done here: no rule
about entries (machine.py), no bytes (image.py).

Proved by: tests/statemachine/test_checkpoint.py, tests/statemachine/test_snapshot.py,
tests/statemachine/test_background.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from statemachine.checkpoint import (
    Checkpoint,
    CheckpointConfig,
    CheckpointRule,
    cut_segments,
    prune_checkpoints,
    write_checkpoint,
)
from statemachine.commands import LogId, SnapshotMetadata
from statemachine.errors import Rejected
from statemachine.fs import FileSystem
from statemachine.image import Image
from statemachine.incoming import read_snapshot, take_over
from statemachine.job import Check, Job
from statemachine.layer import Columns
from statemachine.paths import Paths
from statemachine.recovery import Recovered
from statemachine.snapshot import Snapshots, place_snapshot
from statemachine.store import Store, StoreParts
from statemachine.terms import LogTerms
from statemachine.wal import Wal

__all__ = ["Archive", "Installed"]

_FOLDED_PER_POLL = 512
"""Under 2 ms."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A snapshot that is durable as the newest checkpoint, and the state in it."""

    metadata: SnapshotMetadata
    store: Store
    terms: LogTerms


@dataclass(frozen=True, slots=True)
class _Done:
    """What a job leaves. Everything in it is durable."""

    checkpoint: Checkpoint
    metadata: SnapshotMetadata | None
    installed: Installed | None = None


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
        self._rule = CheckpointRule(config, recovered.checkpoint.size_bytes, len(recovered.store))
        self._wal: Wal = recovered.wal
        self.checkpoint = recovered.checkpoint
        """The newest that is finished; sequence 0: none."""
        self.snapshots = Snapshots(disk, paths)
        self._job: Job[_Done | Rejected] | None = None
        self._installed: Installed | Rejected | None = None
        self._frozen: Store | None = None
        self._folding: Store | None = None
        self._logged_before = recovered.wal_bytes - self._wal.appended_bytes
        self._imaged_bytes = 0
        self.entries = recovered.entries
        """Entries in the WAL behind that checkpoint; the owner counts on."""

    # When.

    @property
    def _logged_bytes(self) -> int:
        """In all: what the WAL held at first, and what was appended since."""
        return self._logged_before + self._wal.appended_bytes

    def due(self, now_s: float, keys: int) -> bool:
        """Whether it is time for a checkpoint of so many keys, and one can be begun without a
        pause.
        """
        logged_bytes = self._logged_bytes
        due = self._rule.due(
            now_s,
            wal_bytes=logged_bytes - self._imaged_bytes,
            logged_bytes=logged_bytes,
            entries=self.entries,
            keys=keys,
        )
        return due and self.ready()

    def ready(self) -> bool:
        """Whether an image could be begun now without a pause. If not, it will be soon."""
        if self._job is not None:
            return False
        return self._folding is None or self._folding.unfolded <= _FOLDED_PER_POLL

    @property
    def busy(self) -> bool:
        """Whether background work is under way."""
        return self._job is not None

    # Images.

    def run(self, store: Store, terms: LogTerms, directory: Path | None) -> SnapshotMetadata | None:
        """Make a checkpoint, and the snapshot of it in `directory` if that is given; wait."""
        self.start(store, terms, directory, None)
        done = self.wait()
        assert isinstance(done, _Done)
        return done.metadata

    def start(
        self, store: Store, terms: LogTerms, directory: Path | None, now_s: float | None
    ) -> None:
        """The same in the background; `poll` finishes it. The state is that of now."""
        assert self._job is None, "the owner asks `ready` first, or waits"
        self._rule.begun(now_s, len(store))
        newest, image = self.checkpoint, None
        sequence = newest.sequence
        if not sequence or self.entries or newest.last != terms.last:
            # The image needs what is logged from here on. A new segment for it, where that costs no
            # wait, lets all before go; else the one that grows stays, and replay skips its head.
            if self._wal.prepare():
                self._wal.rotate(terms.last_index + 1)
            sequence = self._wal.sequence
            self._count_from_here()
            self._frozen = store
            image = Image(terms.last, terms.runs, store.freeze())
        disk, paths, snapshots = self._disk, self._paths, self.snapshots

        def work(check: Check) -> _Done:
            checkpoint = newest
            if image is not None:
                checkpoint = write_checkpoint(disk, paths, sequence, image, check)
            metadata = None
            if directory is not None:
                metadata = place_snapshot(disk, paths, checkpoint, directory)
                snapshots.record(metadata)
            _remove_replaced(disk, paths, sequence)
            return _Done(checkpoint, metadata)

        self._job = Job("trimaran-image", work)

    # Snapshots from elsewhere.

    def start_install(self, metadata: SnapshotMetadata, directory: Path, last_index: int) -> None:
        """Make the snapshot in `directory` the newest checkpoint, in the background; when it is
        finished, `take_installed` returns the state in it, or why nothing was changed.

        Args:
            last_index: of the state that it replaces.
        """
        assert self._job is None, "the owner stops or awaits it first"
        if self._wal.prepare():
            self._wal.rotate(last_index + 1)
        sequence = self._wal.sequence
        disk, paths, snapshots = self._disk, self._paths, self.snapshots
        temporary = paths.checkpoint_temporary(sequence)
        own = directory == paths.incoming and snapshots.is_received()
        source = snapshots.set_aside() if own else directory

        def work(check: Check) -> _Done | Rejected:
            try:
                take_over(disk, source, temporary, link=own)
                image = read_snapshot(disk, temporary, metadata, check)
                store, terms = Store(), LogTerms(image.last, image.runs)
                store.restore(image.parts)
            except Rejected as refusal:
                if disk.exists(temporary):
                    disk.unlink(temporary)
                if own:
                    disk.remove_tree(source)
                return refusal
            # 1 rename, 2 fsync the directory, 3 only then remove what it replaces. Crash before
            # 2: the old checkpoint and all its segments are there.
            disk.rename(temporary, paths.checkpoint(sequence))
            disk.sync_dir(paths.checkpoints)
            if own:
                snapshots.adopt(metadata)
            snapshots.record(metadata)
            _remove_replaced(disk, paths, sequence)
            checkpoint = Checkpoint(
                sequence, metadata.last_included, metadata.size_bytes, metadata.checksum
            )
            return _Done(checkpoint, metadata, Installed(metadata, store, terms))

        self._job = Job("trimaran-install", work)

    # What becomes of it.

    def poll(self) -> bool:
        """Finish the background work if it is done; go on folding.

        Returns: whether something was finished.
        Raises: Fatal when it failed.
        """
        if self._folding is not None:
            self._folding.fold(_FOLDED_PER_POLL)
        if self._job is None or self._job.running:
            return False
        return self.wait() is not None

    def take_installed(self) -> Installed | Rejected | None:
        """What came of an install that was finished; None: there is no news."""
        installed, self._installed = self._installed, None
        return installed

    def wait(self) -> _Done | Rejected | None:
        """Wait for the background work and finish it."""
        job, self._job = self._job, None
        return self._finish(job.wait() if job is not None else None)

    def stop(self) -> None:
        """Give the background work up; when it was done already, it is finished."""
        job, self._job = self._job, None
        self._finish(job.stop() if job is not None else None)

    def abandon(self) -> None:
        """End the background work, whatever comes of it: what it wrote, the next boot finds."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()

    def _finish(self, done: _Done | Rejected | None) -> _Done | Rejected | None:
        if self._frozen is not None:
            self._frozen.thaw()
            self._folding, self._frozen = self._frozen, None
        if isinstance(done, Rejected):
            self._installed = done
        elif done is not None:
            if done.checkpoint is not self.checkpoint:
                self._rule.written(done.checkpoint.size_bytes)
            self.checkpoint = done.checkpoint
            if done.installed is not None:
                self._installed = done.installed
                self._count_from_here()
        return done

    def clear(self) -> None:
        """Make the empty state the newest checkpoint; forget all snapshots."""
        assert self._job is None, "the owner stops it first"
        # Snapshots first: one that outlived the state would be ahead of it at boot.
        self.snapshots.clear()
        sequence = self._wal.rotate(1)
        self._count_from_here()
        empty = Image(LogId(0, 0), (), StoreParts(Columns(), 0, {}))
        self.checkpoint = write_checkpoint(self._disk, self._paths, sequence, empty)
        self._rule.begun(None)
        _remove_replaced(self._disk, self._paths, sequence)

    def _count_from_here(self) -> None:
        self._imaged_bytes = self._logged_bytes
        self.entries = 0


def _remove_replaced(disk: FileSystem, paths: Paths, sequence: int) -> None:
    # The checkpoint's name is durable by now: only then may go what it replaces.
    cut_segments(disk, paths, sequence)
    prune_checkpoints(disk, paths, sequence)
