"""From a directory, in whatever state a crash left it, to a machine that may answer.

    1 remove unfinished files                     checkpoint/*.tmp, wal/*.tmp
    2 load the newest checkpoint S                none: the empty state, S = 1
    3 read segments S, S+1, ... and replay        frames at or below the image's index: skipped
      to the end of the log                       the first tear, or the last byte
    4 sync the checkpoint's name, drop the segments behind the end (the checkpoint's own is
      replaced), cut the torn tail, sync what was read
    5 remove checkpoints and segments below S

Nothing is changed before 4 but unfinished files, so a refusal leaves the evidence as it was, and a
crash anywhere in between finds the same state again: recovery writes nothing that it would need.

What proves damage, with file, offset and reason (Corrupt):
* the newest checkpoint does not check out. An older one is never taken in its place: the WAL
  it needs is gone, and the state would go back without a word;
* a segment is missing: S itself (its name was synced before the checkpoint got its own), or
  one between two others; or the oldest begins behind the image;
* bytes that had been synced do not check out, or are missing (segment.py);
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
    cut_segments,
    newest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
)
from statemachine.entries import RecoveryReport, TornTail
from statemachine.errors import Corrupt, Rejected
from statemachine.frame import KIND_BATCH, KIND_CONFIG, KIND_MARK, KIND_NOOP, Frame
from statemachine.fs import TEMPORARY_SUFFIX, FileSystem, replace_file
from statemachine.history import History
from statemachine.paths import Paths, segment_name, segment_sequence
from statemachine.segment import (
    POLICIES,
    SEGMENT_HEADER_BYTES,
    WAL_MAGIC,
    SegmentContents,
    read_segment,
    segment_header,
    segment_salt,
    vouches_for_earlier,
)
from statemachine.store import Store
from statemachine.terms import LogTerms
from statemachine.wal import Wal
from statemachine.wal_config import WalConfig

__all__ = ["DirectoryState", "Recovered", "read_directory", "recover"]


@dataclass(slots=True)
class Recovered:
    """What a machine starts with."""

    store: Store
    terms: LogTerms
    wal: Wal
    checkpoint: Checkpoint
    wal_bytes: int
    """Bytes of the entries behind the checkpoint."""
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
    """Sequence of the segment in which the log ends; without one, of the place before the next."""
    contents: SegmentContents | None = None
    """What that segment holds."""
    torn: TornTail | None = None
    older: list[Path] = field(default_factory=list)
    """The segments that were replayed before that one."""
    dropped: list[Path] = field(default_factory=list)
    """Segments behind the end of the log: never synced, never vouched for."""


def recover(
    disk: FileSystem,
    paths: Paths,
    config: WalConfig,
    monotonic: Callable[[], float],
    history: History | None = None,
) -> Recovered:
    """Bring the directory to a clean state and read it; `history` is filled by what is replayed.

    Raises: Corrupt, Unsupported, DiskFailed; Fatal on a batch of a newer program.
    """
    for directory in (paths.wal, paths.checkpoints, paths.snapshots):
        disk.make_dir(directory)
    removed: list[str] = []
    for directory in (paths.wal, paths.checkpoints):
        _remove_temporary(disk, directory, removed)
    state = read_directory(disk, paths, history)
    if state.checkpoint.sequence:
        # The name was seen, but a crash may still take it back: make it stay, then change the log.
        disk.sync_dir(paths.checkpoints)
    wal = _open_wal(disk, paths, config, monotonic, state, removed)
    if state.checkpoint.sequence:
        removed += _prune(disk, paths, state.checkpoint.sequence)
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


def read_directory(
    disk: FileSystem, paths: Paths, history: History | None = None
) -> DirectoryState:
    """Steps 2 and 3: read everything, change nothing.

    Raises: Corrupt, Unsupported, DiskFailed; Fatal on a batch of a newer program.
    """
    state = DirectoryState()
    _load_checkpoint(disk, paths, state)
    if history is not None:
        history.restart(state.terms.last_index + 1)
        state.store.history = history
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
    sequences = _segments(disk, paths, state.checkpoint.sequence)
    state.newest = max(state.checkpoint.sequence - 1, 0)
    for position, sequence in enumerate(sequences):
        path = paths.segment(sequence)
        data = disk.read_bytes(path)
        contents = read_segment(path, data, WAL_MAGIC, newest=True)
        later = [paths.segment(each) for each in sequences[position + 1 :]]
        if contents.torn is not None and _is_vouched_for(disk, later):
            read_segment(path, data, WAL_MAGIC, newest=False)  # Raises, and says why.
        headless = contents.torn is not None and not contents.good_bytes
        if headless or not _follows(disk, path, contents, sequence, later, state):
            state.dropped = [path, *later]
            state.newest = sequence - 1
            return
        if state.contents is not None:
            state.older.append(paths.segment(state.newest))
        for offset_bytes, frame in contents.frames:
            _replay_frame(path, offset_bytes, frame, state)
        state.newest, state.contents = sequence, contents
        if contents.torn is not None:
            dropped_bytes = contents.file_bytes - contents.good_bytes
            state.torn = TornTail(path, contents.good_bytes, dropped_bytes, contents.torn)
            state.dropped = later
            return


def _is_vouched_for(disk: FileSystem, later: list[Path]) -> bool:
    return any(vouches_for_earlier(path, disk.read_bytes(path), WAL_MAGIC) for path in later)


def _follows(
    disk: FileSystem,
    path: Path,
    contents: SegmentContents,
    sequence: int,
    later: list[Path],
    state: DirectoryState,
) -> bool:
    """Whether the segment goes on where the log ends so far.

    False: the segment before lost its end, as it may: nobody had said that it was synced.
    """
    if contents.sequence != sequence:
        raise Corrupt(path, 0, f"holds segment {contents.sequence}")
    before = state.contents
    if before is None:
        if contents.first_index > state.checkpoint.last.index + 1:
            last = state.checkpoint.last
            reason = f"begins at index {contents.first_index}, the image ends at {last}"
            raise Corrupt(path, 0, reason)
        return True
    if contents.before_bytes in (0, before.good_bytes):
        return True
    before_path, ends = path.with_name(segment_name(state.newest)), before.good_bytes
    reason = f"ends after {ends} bytes, and had {contents.before_bytes} when the next was begun"
    if contents.before_bytes < ends or _is_vouched_for(disk, [path, *later]):
        raise Corrupt(before_path, ends, reason)
    state.torn = TornTail(before_path, ends, contents.file_bytes, reason)
    return False


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
        state.store.apply_batch(frame.payload, frame.index)
    terms.advance(frame.index, frame.term)
    state.applied += 1
    state.wal_bytes += frame.size_bytes


def _open_wal(
    disk: FileSystem,
    paths: Paths,
    config: WalConfig,
    monotonic: Callable[[], float],
    state: DirectoryState,
    removed: list[str],
) -> Wal:
    """Step 4: the log, cut and synced, ready to grow."""
    own_sequence = state.checkpoint.sequence
    for path in reversed(state.dropped):
        # Newest first, each for good: a crash must not leave a gap, nor one of them behind what
        # is appended from here on. The checkpoint's own has to be there at every moment.
        removed.append(f"{paths.wal.name}/{path.name}")
        if own_sequence and path == paths.segment(own_sequence):
            return _begin_anew(disk, paths, config, monotonic, state)
        disk.unlink(path)
        disk.sync_dir(paths.wal)
    for path in state.older:
        # Read, so about to be answered from; it may still have been on its way to the disk.
        log = disk.open_log(path, create=False)
        log.sync()
        log.close()
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
    wal.resume(contents.good_bytes, recorded_bytes, contents.salt)
    if POLICIES[contents.policy] != config.sync:
        wal.rotate(next_index)  # The header of a segment says how all of it was synced.
    return wal


def _begin_anew(
    disk: FileSystem,
    paths: Paths,
    config: WalConfig,
    monotonic: Callable[[], float],
    state: DirectoryState,
) -> Wal:
    """The checkpoint's own segment held nothing that was promised: an empty one in its place."""
    sequence, policy = state.checkpoint.sequence, POLICIES.index(config.sync)
    header = segment_header(WAL_MAGIC, policy, sequence, state.terms.last_index + 1)
    replace_file(disk, paths.segment(sequence), [header])
    wal = Wal(disk, paths, config, monotonic, sequence)
    wal.resume(SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES, segment_salt(header))
    return wal


def _prune(disk: FileSystem, paths: Paths, sequence: int) -> list[str]:
    segments = cut_segments(disk, paths, sequence)
    images = prune_checkpoints(disk, paths, sequence)
    return [f"{paths.wal.name}/{name}" for name in segments] + [
        f"{paths.checkpoints.name}/{name}" for name in images
    ]
