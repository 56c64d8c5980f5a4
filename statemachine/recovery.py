"""From a directory, in whatever state a crash left it, to a machine that may answer.

    1 remove unfinished files                     checkpoint/*.tmp, wal/*.tmp
    2 load the newest checkpoint S                none: the empty state, S = 1
    3 read segments S, S+1, ... and replay        frames at or below the image's index: skipped
    4 cut the torn tail of the newest segment, and sync what was read
    5 remove checkpoints and segments below S

Nothing is changed before 4 but unfinished files, so a refusal leaves the evidence as it was, and a
crash anywhere in between finds the same state again: recovery writes nothing that it would need.

What proves damage, with file, offset and reason (Corrupt):
* the newest checkpoint does not check out. An older one is never taken in its place: the WAL
  it needs is gone, and the state would go back without a word;
* a segment is missing: S itself (it was synced before the checkpoint got its name), or one
  between two others; or the oldest begins behind the image;
* bytes that had been synced do not check out (segment.py);
* a term falls, or a frame is of a kind that no WAL holds.

Invariants: last applied never goes back below what the files hold; a batch is applied at most
once; the replay runs the same code on the same bytes as the first time, clock included, so it
ends in the same state (SEED defects 2, 3, 4, 5).

Proved by: tests/statemachine/test_recovery.py, tests/golden/recovery/
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from statemachine.checkpoint import (
    NO_CHECKPOINT,
    Checkpoint,
    newest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
)
from statemachine.entries import RecoveryReport, TornTail
from statemachine.errors import Corrupt, Rejected
from statemachine.frame import KIND_BATCH, KIND_CONFIG, KIND_MARK, KIND_NOOP, Frame
from statemachine.fs import TEMPORARY_SUFFIX, FileSystem
from statemachine.paths import Paths, segment_sequence
from statemachine.segment import POLICIES, WAL_MAGIC, SegmentContents, read_segment
from statemachine.store import Store
from statemachine.terms import LogTerms
from statemachine.wal import Wal, WalConfig

__all__ = ["DirectoryState", "Recovered", "read_directory", "recover"]


@dataclass(slots=True)
class Recovered:
    """What a machine starts with."""

    store: Store
    terms: LogTerms
    wal: Wal
    checkpoint: Checkpoint
    wal_bytes: int
    """Bytes of the frames behind the checkpoint."""
    entries: int
    """How many entries those are."""
    report: RecoveryReport


@dataclass(slots=True)
class DirectoryState:
    """What the files say; nothing of it has been changed on the disk."""

    store: Store = field(default_factory=Store)
    terms: LogTerms = field(default_factory=LogTerms)
    checkpoint: Checkpoint = NO_CHECKPOINT
    applied: int = 0
    skipped: int = 0
    wal_bytes: int = 0
    newest: int = 0
    """Sequence of the newest segment with a header; 0: there is none."""
    contents: SegmentContents | None = None
    """What that segment holds."""
    torn: TornTail | None = None
    headless: Path | None = None
    """A segment that a crash interrupted while it was made; it holds nothing."""


def recover(
    disk: FileSystem, paths: Paths, config: WalConfig, monotonic: Callable[[], float]
) -> Recovered:
    """Bring the directory to a clean state and read it.

    Raises: Corrupt, Unsupported, DiskFailed; Fatal on a batch of a newer program.
    """
    for directory in (paths.wal, paths.checkpoints, paths.snapshots):
        disk.make_dir(directory)
    removed: list[str] = []
    for directory in (paths.wal, paths.checkpoints):
        _remove_temporary(disk, directory, removed)
    state = read_directory(disk, paths)
    wal = _open_wal(disk, paths, config, monotonic, state, removed)
    if state.checkpoint.sequence:
        # The name was seen, but a crash may still take it back: make it stay, then remove.
        disk.sync_dir(paths.checkpoints)
        removed += _prune(disk, paths, state.checkpoint.sequence, wal)
    sequence = state.checkpoint.sequence
    report = RecoveryReport(
        checkpoint=paths.checkpoint(sequence) if sequence else None,
        checkpoint_last=state.checkpoint.last,
        frames_applied=state.applied,
        frames_skipped=state.skipped,
        torn=state.torn,
        removed=tuple(removed),
    )
    return Recovered(
        state.store, state.terms, wal, state.checkpoint, state.wal_bytes, state.applied, report
    )


def read_directory(disk: FileSystem, paths: Paths) -> DirectoryState:
    """Steps 2 and 3: read everything, change nothing.

    Raises: Corrupt, Unsupported, DiskFailed; Fatal on a batch of a newer program.
    """
    state = DirectoryState()
    _load_checkpoint(disk, paths, state)
    _replay_segments(disk, paths, state)
    return state


def _remove_temporary(disk: FileSystem, directory: Path, removed: list[str]) -> None:
    for name in disk.list_dir(directory):
        if name.endswith(TEMPORARY_SUFFIX):
            disk.unlink(directory / name)
            removed.append(f"{directory.name}/{name}")


def _load_checkpoint(disk: FileSystem, paths: Paths, state: DirectoryState) -> None:
    sequence = newest_checkpoint(disk, paths)
    if not sequence:
        return
    image = read_checkpoint(disk, paths, sequence)
    try:
        state.terms = LogTerms(image.last, image.runs)
        state.store.restore(image.parts)
    except Rejected as error:
        raise Corrupt(paths.checkpoint(sequence), 0, str(error)) from error
    state.checkpoint = Checkpoint(sequence, image.last, image.size_bytes, image.checksum)


def _segments(disk: FileSystem, paths: Paths, checkpoint_sequence: int) -> list[int]:
    """The sequences to replay, in order and without a gap."""
    found = map(segment_sequence, disk.list_dir(paths.wal))
    oldest = checkpoint_sequence or 1
    sequences = sorted(sequence for sequence in found if sequence is not None)
    sequences = [sequence for sequence in sequences if sequence >= oldest]
    if not sequences and not checkpoint_sequence:
        return []
    expected = list(range(oldest, oldest + max(len(sequences), 1)))
    for want, have in zip(expected, sequences or [0], strict=True):
        if want != have:
            base = f"checkpoint {checkpoint_sequence}" if checkpoint_sequence else "no checkpoint"
            raise Corrupt(paths.segment(want), 0, f"segment is missing ({base} is there)")
    return sequences


def _replay_segments(disk: FileSystem, paths: Paths, state: DirectoryState) -> None:
    checkpoint = state.checkpoint
    sequences = _segments(disk, paths, checkpoint.sequence)
    for sequence in sequences:
        path = paths.segment(sequence)
        is_last = sequence == sequences[-1]
        contents = read_segment(path, disk.read_bytes(path), WAL_MAGIC, newest=is_last)
        if contents.torn is not None and not contents.good_bytes:
            if sequence == checkpoint.sequence:
                raise Corrupt(path, 0, f"{contents.torn}; its checkpoint came after it")
            # The crash came while it was made; the one before had been synced whole.
            state.headless = path
            return
        if contents.sequence != sequence:
            raise Corrupt(path, 0, f"holds segment {contents.sequence}")
        if sequence == sequences[0] and contents.first_index > checkpoint.last.index + 1:
            reason = f"begins at index {contents.first_index}, the image ends at {checkpoint.last}"
            raise Corrupt(path, 0, reason)
        for offset_bytes, frame in contents.frames:
            _replay_frame(path, offset_bytes, frame, state)
        if contents.torn is not None:
            dropped_bytes = contents.file_bytes - contents.good_bytes
            state.torn = TornTail(path, contents.good_bytes, dropped_bytes, contents.torn)
        state.wal_bytes += contents.good_bytes
        state.newest, state.contents = sequence, contents


def _replay_frame(path: Path, offset_bytes: int, frame: Frame, state: DirectoryState) -> None:
    if frame.kind == KIND_MARK:
        return
    if frame.kind not in (KIND_NOOP, KIND_BATCH, KIND_CONFIG):
        raise Corrupt(path, offset_bytes, f"frame of kind {frame.kind} in a WAL")
    terms = state.terms
    if frame.index <= terms.last_index:
        state.skipped += 1
        return
    if frame.term < terms.last_term:
        raise Corrupt(path, offset_bytes, f"term falls from {terms.last_term} to {frame.term}")
    if frame.kind == KIND_BATCH:
        state.store.apply_batch(frame.payload)
    terms.advance(frame.index, frame.term)
    state.applied += 1


def _open_wal(
    disk: FileSystem,
    paths: Paths,
    config: WalConfig,
    monotonic: Callable[[], float],
    state: DirectoryState,
    removed: list[str],
) -> Wal:
    """Step 4: the log, cut and synced, ready to grow."""
    if state.headless is not None:
        # Its name is gone for good (resume and rotate sync the directory) before anything is
        # appended to the segment before it, which would else be taken for sealed.
        disk.unlink(state.headless)
        removed.append(f"{paths.wal.name}/{state.headless.name}")
    wal = Wal(disk, paths, config, monotonic, state.newest)
    next_index = state.terms.last_index + 1
    contents = state.contents
    if contents is None:
        wal.rotate(next_index)
        return wal
    recorded_bytes = contents.durable_bytes
    if contents.frames and contents.frames[-1][1].kind == KIND_MARK:
        offset_bytes, mark = contents.frames[-1]
        if mark.durable_bytes == offset_bytes:
            recorded_bytes = contents.good_bytes  # All but the mark itself is recorded.
    wal.resume(contents.good_bytes, recorded_bytes)
    if POLICIES[contents.policy] != config.sync:
        wal.rotate(next_index)  # The header of a segment says how all of it was synced.
    return wal


def _prune(disk: FileSystem, paths: Paths, sequence: int, wal: Wal) -> list[str]:
    old = [name for name in disk.list_dir(paths.wal) if (segment_sequence(name) or 0) < sequence]
    wal.cut(sequence)
    removed = [f"{paths.wal.name}/{name}" for name in old if segment_sequence(name)]
    names = prune_checkpoints(disk, paths, sequence)
    return removed + [f"{paths.checkpoints.name}/{name}" for name in names]
