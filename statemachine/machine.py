"""FileStateMachine: a durable key-value machine for one process.

    apply / apply_chunk / skip          reads: get, get_many, scan_prefix, ... (reads.py)
        | 1 validate, nothing changed            ^ refused once stopped or failed
        | 2 WAL: one write                       |
        v 3 store: memory  ----------------------+
    checkpoint: image S + WAL from segment S     (checkpoint.py)
    snapshot:   the same image, to be carried    (snapshot.py)

It knows no network, no Raft library, no clock and no event loop: entries come committed and
in order, time comes inside the batches. All calls from one thread; images are written and read in a
thread of their own, from a frozen view (records.py), so nothing waits for them.

Invariants: what reached memory was in the WAL before; entries at or below last applied change
nothing; indexes may jump forward (no-ops that were not told) and never go back; an error that
is not Rejected or Unavailable ends the machine (fail-stop): memory and disk may differ, so it
answers nothing any more, and only re-opening the directory tells what is true. Nothing depends on
an orderly stop: `close` and `stop` save a moment at the next boot, no more.

Crash: recovery.py. Under wal.sync = "always" everything that `apply` returned for is there again.

What it does not do: agree on a log, choose times, limit sizes of keys and values (the node does).

Proved by: tests/statemachine/test_machine.py, tests/statemachine/test_conformance.py,
tests/statemachine/test_seed_defects.py, tests/statemachine/test_crash.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from statemachine.archive import Archive, Installed
from statemachine.checkpoint import CheckpointConfig
from statemachine.commands import LogId, SnapshotMetadata
from statemachine.entries import Entry, RecoveryReport
from statemachine.errors import Fatal, KVError, Rejected, Unavailable
from statemachine.frame import KIND_BATCH, KIND_CONFIG, KIND_NOOP, PAYLOAD_BYTES_MAX
from statemachine.fs import Disk, FileSystem, Lock, ReadFile
from statemachine.history import History, HistoryConfig
from statemachine.incoming import SnapshotReceiver
from statemachine.paths import Paths
from statemachine.reads import Reads
from statemachine.recovery import recover
from statemachine.remains import ITEMS_PER_POLL
from statemachine.store import ALREADY_APPLIED, Outcome, Store
from statemachine.terms import LogTerms
from statemachine.wal import WalFrame
from statemachine.wal_config import WalConfig

__all__ = ["FileStateMachine"]

_KINDS: Final = frozenset((KIND_NOOP, KIND_BATCH, KIND_CONFIG))


class FileStateMachine(Reads):
    """See the top of the file. Constructing one recovers the directory.

    Args:
        directory: made when it is not there; holds wal/, checkpoint/, snapshot/.
        disk: another one in tests.
        monotonic: seconds; needed only for wal.sync = "interval".
        history: how much is kept of what was done lately (`history`).
        lock: take `directory`/LOCK. False when the caller holds it already.

    Raises:
        Corrupt: the files prove that data was lost; the message names file, byte and reason.
        Unsupported: a newer version wrote them.
        DirectoryInUse: another machine has the directory open.
        DiskFailed: the disk does.
    """

    def __init__(
        self,
        directory: Path,
        *,
        wal: WalConfig = WalConfig(),  # noqa: B008  # Frozen.
        checkpoint: CheckpointConfig = CheckpointConfig(),  # noqa: B008  # Frozen.
        history: HistoryConfig = HistoryConfig(),  # noqa: B008  # Frozen.
        disk: FileSystem | None = None,
        monotonic: Callable[[], float] | None = None,
        lock: bool = True,
    ) -> None:
        if wal.sync == "interval" and monotonic is None:
            raise Rejected('wal.sync = "interval" needs a clock: hand in `monotonic`')
        self._disk = disk or Disk()
        self._paths = Paths(Path(directory))
        self._refusal = None
        self._stopped = False
        self._closed = False
        self._lock: Lock | None = None
        self._install_outcome: SnapshotMetadata | Rejected | None = None
        self._disk.make_dir(self._paths.directory)
        if lock:
            self._lock = self._disk.lock(self._paths.lock)
        try:
            self._history = History(history)
            recovered = recover(self._disk, self._paths, wal, monotonic or _no_time, self._history)
            self._archive = Archive(self._disk, self._paths, checkpoint, recovered)
        except BaseException:
            if self._lock is not None:
                self._lock.release()
            raise
        self._store = recovered.store
        self._terms = recovered.terms
        self._wal = recovered.wal
        self.recovery_report: RecoveryReport = recovered.report
        """What constructing found: replayed entries, a torn tail, files that were removed."""

    # Applying.

    def apply(self, index: int, term: int, batch: bytes) -> Outcome:
        """One committed batch: WAL, then memory. The way of every write under Raft.

        Returns:
            One result per slot; DUPLICATE or GAP (commands.py); ALREADY_APPLIED when `index` is
            not after last applied: nothing changed.

        Raises:
            Rejected: the term falls or the batch is over PAYLOAD_BYTES_MAX. Nothing changed.
            Fatal: the machine has failed.
        """
        if self._refusal is not None:
            self._check()
        terms = self._terms
        if index <= terms.last_index:
            return ALREADY_APPLIED
        if term < terms.last_term or len(batch) > PAYLOAD_BYTES_MAX:
            raise self._unfit(index, term, KIND_BATCH, batch)
        try:
            self._wal.append_one(KIND_BATCH, index, term, batch)
            outcome = self._store.apply_batch(batch, index)
        except BaseException as error:
            self._fail(error)
            raise
        terms.advance(index, term)
        self._archive.entries += 1
        return outcome

    def apply_chunk(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Committed entries in order: one WAL write for all of them, then memory.

        Returns:
            One outcome per entry, as `apply` has it; [] for a no-op or membership entry.

        Raises:
            Rejected: indexes or terms out of order, an unknown kind, or a payload over
                PAYLOAD_BYTES_MAX: nothing of the chunk was applied or written.
            Fatal: the machine has failed.
        """
        self._check()
        applied_index = self._terms.last_index
        index, term = 0, 0
        for entry in entries:
            fresh = entry.index > applied_index
            if fresh and term < self._terms.last_term:
                term = self._terms.last_term
            if (
                entry.index <= index
                or entry.term < term
                or entry.kind not in _KINDS
                or len(entry.payload) > PAYLOAD_BYTES_MAX
            ):
                raise self._unfit(entry.index, entry.term, entry.kind, entry.payload)
            index, term = entry.index, entry.term
        with _FailStop(self):
            return self._apply_checked(entries, applied_index)

    def _apply_checked(self, entries: Sequence[Entry], applied_index: int) -> list[Outcome]:
        frames: list[WalFrame] = [
            (entry.kind, entry.index, entry.term, entry.payload)
            for entry in entries
            if entry.index > applied_index
        ]
        if frames:
            self._wal.append(frames)
        outcomes: list[Outcome] = [ALREADY_APPLIED] * (len(entries) - len(frames))
        for kind, index, term, payload in frames:
            if kind == KIND_BATCH:
                outcomes.append(self._store.apply_batch(payload, index))
            else:
                outcomes.append([])
            self._terms.advance(index, term)
        self._archive.entries += len(frames)
        return outcomes

    def skip(self, index: int, term: int, kind: int = KIND_NOOP) -> None:
        """A committed entry that changes no key: only last applied moves, durably as a batch's.

        Raises: as `apply`.
        """
        self.apply_chunk((Entry(index, term, kind, b""),))

    def _unfit(self, index: int, term: int, kind: int, payload: bytes) -> Rejected:
        last = self._terms.last
        return Rejected(
            f"entry {index}@{term} of kind {kind} with {len(payload)} bytes does not fit: last "
            f"applied is {last.index}@{last.term}, indexes rise, terms do not fall, "
            f"kinds are {sorted(_KINDS)}, at most {PAYLOAD_BYTES_MAX} bytes"
        )

    # Images.

    def checkpoint(self) -> None:
        """Write a checkpoint and cut the WAL; returns when it is durable."""
        self._check()
        with _FailStop(self):
            self._settle(self._archive.wait)
            self._archive.run(self._store, self._terms, None)

    def maybe_checkpoint(self, now_monotonic_s: float) -> bool:
        """Start a checkpoint in the background if one is due; `poll_background` finishes it."""
        self._check()
        with _FailStop(self):
            if not self._archive.due(now_monotonic_s, len(self._store)):
                return False
            self._archive.start(self._store, self._terms, None, now_monotonic_s)
            return True

    def poll_background(self) -> bool:
        """To be called from a timer: finishes background work, syncs and marks an idle WAL.

        Returns: whether a checkpoint, snapshot or install was finished.
        Raises: Fatal when one failed.
        """
        self._check()
        with _FailStop(self):
            self._wal.poll()
            self._store.remains.shrink(ITEMS_PER_POLL)
            return bool(self._settle(self._archive.poll))

    def _settle(self, wait: Callable[[], object]) -> object:
        """Call `wait`, and become what was installed, if something was."""
        finished = wait()
        installed = self._archive.take_installed()
        if isinstance(installed, Installed):
            # Entries applied meanwhile are in the WAL behind the image either way.
            if installed.terms.last_index >= self._terms.last_index:
                self._become(installed.store, installed.terms)
            self._install_outcome = installed.metadata
        elif installed is not None:
            self._install_outcome = installed
        return finished

    def generate_snapshot(
        self, directory: Path | None = None, last_included: LogId | None = None
    ) -> SnapshotMetadata:
        """Write snapshot.bin and metadata.bin; returns when they are durable.

        Args:
            directory: default: the snapshot's own place, where `open_snapshot` finds it.
            last_included: must be last applied, which is the default.

        Raises: Rejected when it is another entry: a state cannot be had of the past.
        """
        self._check()
        with _FailStop(self):
            self._settle(self._archive.wait)
            last = self._terms.last
            if last_included is not None and last_included != last:
                raise Rejected(
                    f"a snapshot of {last_included} was asked for, the state is at {last}"
                )
            target = self._paths.snapshot(last) if directory is None else Path(directory)
            metadata = self._archive.run(self._store, self._terms, target)
        assert metadata is not None
        return metadata

    def start_snapshot(self) -> bool:
        """Start one in the background; `poll_background` finishes it and `snapshot_metadata` shows
        it. False: it could not begin without a pause now, ask again later.
        """
        return self._start_image(self._paths.snapshot(self._terms.last))

    def _start_image(self, place: Path | None) -> bool:
        self._check()
        with _FailStop(self):
            if not self._archive.ready():
                return False
            self._archive.start(self._store, self._terms, place, None)
            return True

    @property
    def snapshot_metadata(self) -> SnapshotMetadata | None:
        """Of the last snapshot that was made or installed; None: there is none."""
        return self._archive.snapshots.metadata

    def open_snapshot(self) -> tuple[SnapshotMetadata, ReadFile] | None:
        """The newest snapshot in its own place, to be streamed; None: there is none.

        The caller closes the file; it stays readable when the snapshot is replaced.
        """
        self._check()
        with _FailStop(self):
            return self._archive.snapshots.open_newest()

    def snapshot_receiver(self) -> SnapshotReceiver:
        """Collects an incoming snapshot for `apply_snapshot_from_file`."""
        return SnapshotReceiver(self._disk, self._paths.incoming, _FailStop(self))

    def apply_snapshot_from_file(self, metadata: SnapshotMetadata, directory: Path) -> None:
        """Replace the whole state, durably, by the snapshot in `directory`: all or nothing.

        Raises:
            Rejected: it is older than the state, or not what `metadata` says (size, SHA-256, last
                included entry), or unreadable. Nothing changed.
        """
        self._check()
        self._check_newer(metadata)
        with _FailStop(self):
            self._settle(self._archive.stop)
        self.start_install(metadata, directory)
        with _FailStop(self):
            self._settle(self._archive.wait)
        if isinstance(self._install_outcome, Rejected):
            raise self._install_outcome

    def start_install(self, metadata: SnapshotMetadata, directory: Path) -> bool:
        """The same in the background, while the old state goes on: `poll_background` swaps it in,
        and `install_outcome` tells. False: other background work is under way, ask again later.

        Raises: Rejected when it is older than the state.
        """
        self._check()
        self._check_newer(metadata)
        with _FailStop(self):
            if self._archive.busy:
                return False
            self._install_outcome = None
            self._archive.start_install(metadata, Path(directory), self._terms.last_index)
            return True

    def _check_newer(self, metadata: SnapshotMetadata) -> None:
        if metadata.last_included.index < self._terms.last_index:
            raise Rejected(
                f"the snapshot of {metadata.last_included} is older than the state, "
                f"which is at {self._terms.last}"
            )

    @property
    def install_outcome(self) -> SnapshotMetadata | Rejected | None:
        """Of the last `start_install`: what is installed, or why nothing was changed; None: it is
        still under way, or there was none.
        """
        return self._install_outcome

    # Raft's bookkeeping, by the seed's names.

    def update_last_applied(self, last: LogId) -> None:
        """Move last applied forward, as `skip` does. Behind it: nothing happens, it never falls."""
        self.skip(last.index, last.term)

    def persist_last_applied(self, last: LogId) -> None:
        """The same, and on the disk on return."""
        self.skip(last.index, last.term)
        self.flush()

    def persist_last_snapshot_metadata(self, metadata: SnapshotMetadata) -> None:
        """Durably note what the last snapshot was, wherever it lies."""
        self._check()
        with _FailStop(self):
            self._archive.snapshots.record(metadata)

    def update_last_snapshot_metadata(self, metadata: SnapshotMetadata) -> None:
        """The same: noting it without making it durable would only be forgotten."""
        self.persist_last_snapshot_metadata(metadata)

    def flush(self) -> None:
        """Return when all that was applied is on the disk."""
        self._check()
        with _FailStop(self):
            self._wal.sync()
            self._wal.record()

    def flush_async(self) -> bool:
        """Start a checkpoint in the background; False: it could not begin without a pause now."""
        return self._start_image(None)

    def save_hard_state(self) -> None:
        """All hard state is in the WAL and in the images, so this is `flush`."""
        self.flush()

    def reset(self) -> None:
        """As new, durably: keys, leases, clock, origins, last applied, snapshots. Keeps running."""
        self._check()
        with _FailStop(self):
            self._settle(self._archive.stop)
            self._archive.clear()
            self._become(Store(), LogTerms())

    def _become(self, store: Store, terms: LogTerms) -> None:
        """Another state in place of this one: nobody can be told what lies between."""
        self._history.restart(terms.last_index + 1)
        store.history = self._history
        store.succeed(self._store)
        self._store, self._terms = store, terms

    # Life cycle.

    @property
    def is_running(self) -> bool:
        """Whether it answers."""
        return self._refusal is None

    def start(self) -> None:
        """Answer again after `stop`. Harmless while running.

        Raises: Fatal when the machine has failed, Unavailable when it was closed.
        """
        if self._stopped and not self._closed:
            self._stopped, self._refusal = False, None
        self._check()

    def stop(self) -> None:
        """Flush and answer nothing until `start`. Harmless when stopped, failed or closed."""
        if self._refusal is None:
            with _FailStop(self):
                self._settle(self._archive.wait)
                self.flush()
            self._stopped, self._refusal = True, _stopped

    def close(self) -> None:
        """Flush if all is well, end the background work, close the files, let the lock go."""
        try:
            if self._refusal is None:
                with _FailStop(self):
                    self._archive.stop()
                    self.flush()
        finally:
            self._closed = True
            self._refusal = self._refusal or _stopped
            self._archive.abandon()
            self._wal.close()
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _fail(self, error: BaseException) -> None:
        """Fail-stop. Only the text is kept: the error's traceback would keep everything alive."""
        reason = f"the state machine has failed: {error or type(error).__name__}"
        self._stopped = False
        self._refusal = lambda: Fatal(reason)


class _FailStop(AbstractContextManager[None]):
    """Around what may fail half-way: whatever is not a plain refusal ends the machine."""

    __slots__ = ("_machine",)

    def __init__(self, machine: FileStateMachine) -> None:
        self._machine = machine

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, (Rejected, Unavailable)):
            self._machine._fail(error)


def _no_time() -> float:
    """For a machine whose policy needs no clock."""
    return 0.0


def _stopped() -> KVError:
    return Unavailable("the state machine is stopped")
