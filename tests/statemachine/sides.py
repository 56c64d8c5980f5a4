"""A machine beside its model, with all of its history: what the stateful test and the soak drive.

    Site     where it lives: MemorySite loses what was not synced, RealSite is killed
    Side     one FileStateMachine, and State after State what it must be

A Side keeps every entry since its base (empty, or a snapshot that was installed), and the outcome,
the state and the digest after each. A crash may take it back to any state that was not yet
durable, and to no older one; then the entries are sent again, as Raft does, and every outcome must
be the one of the first time. So what apply answered, what a replay made of it and what the
model says are one.

`durable` is a promise kept by the caller's words alone: what is on the disk when a call returns
(wal.sync = "always": everything), never what happens to be there.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from statemachine import (
    ALREADY_APPLIED,
    Disk,
    Entry,
    FileStateMachine,
    FileSystem,
    LogId,
    Outcome,
    Rejected,
    SnapshotMetadata,
)
from tests.statemachine.dict_machine import State
from tests.statemachine.strategies import KEYS
from tests.support.crash import Crash, MemoryDisk
from tests.support.gated import Gate, GatedDisk

__all__ = ["MemorySite", "RealSite", "Side", "Site"]


class Site(Protocol):
    """Where a machine lives."""

    directory: Path
    disk: FileSystem

    def crash(self, crash: Crash, seed: int) -> None:
        """From now on it is what a crash at this moment leaves. Nothing is locked there."""
        ...


class MemorySite:
    """Power loss: what was not synced is gone, or some of it, or nothing."""

    directory = Path("/data")

    def __init__(self) -> None:
        self.disk: Any = MemoryDisk()

    def crash(self, crash: Crash, seed: int) -> None:
        self.disk = self.disk.crashed(crash, seed)


class RealSite:
    """Kill -9: the files as they are at that moment, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self._root = directory
        self._count = 0
        self.directory = directory / "0"
        self.disk: Any = Disk()

    def crash(self, crash: Crash, seed: int) -> None:
        self._count += 1
        # Copied, not moved: the machine that is dropped still has these files open.
        shutil.copytree(self.directory, self._root / str(self._count))
        self.directory, old = self._root / str(self._count), self.directory
        shutil.rmtree(old, ignore_errors=True)


@dataclass
class Moment:
    """The state after an entry, and what it was known by."""

    state: State
    outcome: Outcome
    digest: bytes | None = None


@dataclass
class Side:
    """See the top of the file."""

    site: Site
    options: dict[str, Any]
    machine: FileStateMachine = field(init=False)
    gate: Gate = field(init=False)
    entries: list[Entry] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    """moments[0] is the base; moments[n] is after entries[n - 1]."""
    durable: int = 0
    """moments[durable] is on the disk."""
    snapshots: dict[LogId, State] = field(default_factory=dict)
    """What was finished in the machine's own place."""
    begun: dict[LogId, State] = field(default_factory=dict)
    """What was begun there: it may be found, or not."""
    known: LogId | None = None
    """Of the last snapshot that is finished."""
    image: tuple[int, LogId | None] | None = None
    """A background image: of which moment, and whether it is a snapshot."""
    incoming: tuple[SnapshotMetadata, State, object] | None = None
    """A snapshot that is being installed in the background, and of which history it is."""
    lineage: object = field(default_factory=object)
    """Two machines with the same one hold parts of one log."""
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.moments = [Moment(State(), [])]
        self.open()

    @property
    def state(self) -> State:
        return self.moments[-1].state

    @property
    def always(self) -> bool:
        return bool(self.options["wal"].sync == "always")

    def open(self) -> None:
        self.gate = Gate()
        self.machine = FileStateMachine(
            self.site.directory,
            disk=GatedDisk(self.site.disk, self.gate),
            monotonic=lambda: self.now_s,
            **self.options,
        )

    def rebase(self, state: State) -> None:
        """Another history begins, with this state, durably."""
        self.entries, self.moments, self.durable = [], [Moment(state.copy(), [])], 0
        self.image = self.incoming = None

    # Applying.

    def apply(self, entries: Sequence[Entry], *, as_chunk: bool) -> None:
        """The next entries; the machine must answer as the model does."""
        self.note(entries)
        self._send(entries, self.moments[len(self.moments) - len(entries) :], as_chunk=as_chunk)
        if self.always:
            self.durable = len(self.entries)

    def note(self, entries: Sequence[Entry]) -> None:
        """The model applies them; the machine is yet to."""
        for each in entries:
            state = self.state.copy()
            self.moments.append(Moment(state, state.apply(each)))
        self.entries += entries

    def _send(self, entries: Sequence[Entry], moments: Sequence[Moment], *, as_chunk: bool) -> None:
        # By repr, because True == 1: a bool in place of a count is another reply.
        want = [repr(moment.outcome) for moment in moments]
        if as_chunk:
            assert [repr(each) for each in self.machine.apply_chunk(entries)] == want
            return
        for each, answer in zip(entries, want, strict=True):
            if each.kind == 1:
                outcome = self.machine.apply(each.index, each.term, each.payload)
                assert repr(outcome) == answer, each
            else:
                self.machine.skip(each.index, each.term, each.kind)

    def send_again(self, count: int, *, as_chunk: bool) -> None:
        """Entries that are applied already: nothing may happen."""
        old = self.entries[-count:] if count else []
        answers = [Moment(self.state, ALREADY_APPLIED) for _ in old]
        self._send(old, answers, as_chunk=as_chunk)

    # Durability.

    def flushed(self) -> None:
        """The machine has just promised that everything is on the disk."""
        self.durable = len(self.entries)

    def finished_image(self) -> None:
        """A background image was finished, or waited for."""
        if self.image is not None:
            moment, snapshot = self.image
            self.durable = max(self.durable, moment)
            self.image = None
            if snapshot is not None:
                self.known = snapshot
                self.snapshots[snapshot] = self.begun[snapshot]

    def settle_snapshot(self) -> None:
        """A background snapshot may have been finished without a word: by a wait, by a boot."""
        found = self.machine.snapshot_metadata
        last = found.last_included if found is not None else None
        if last is not None and last != self.known and self.image and last == self.image[1]:
            # Noted by the thread that made it; the work itself is over at the next poll.
            self.known = last
            self.snapshots[last] = self.begun[last]
        assert last == self.known

    def crash(self, crash: Crash, seed: int) -> None:
        """Drop the machine without a word, open what is left, send again what was lost."""
        self.site.crash(crash, seed)
        self._forget()
        self.open()
        self._find(len(self.entries) if crash is Crash.ALL else self.durable)

    def reopen(self) -> None:
        self.machine.close()
        self.durable = len(self.entries)
        self._forget()
        self.open()
        self._find(self.durable)

    def _forget(self) -> None:
        self.gate.finish()
        del self.machine
        if isinstance(self.site, RealSite):
            gc.collect()

    def _find(self, at_least: int) -> None:
        """Which moment is this? One that a crash may leave; all that it lost is sent again."""
        last = self.machine.last_applied
        found = [n for n, each in enumerate(self.moments) if each.state.last == last]
        if self.incoming is not None and self._took_it():
            return
        assert len(found) == 1, f"{last} was never applied"
        assert found[0] >= at_least, f"{last} is older than what was durable"
        moment = self.moments[found[0]]
        self.check(moment)
        self.settle_snapshot()
        self.image = None
        first = max(0, found[0] - 2)
        for number in range(first, len(self.entries)):
            outcome = ALREADY_APPLIED if number < found[0] else self.moments[number + 1].outcome
            want = Moment(self.state, outcome)
            self._send(self.entries[number : number + 1], [want], as_chunk=True)
        # What a boot has read it has synced, whatever the policy.
        self.durable = len(self.entries) if self.always else found[0]

    # Snapshots.

    def _took_it(self) -> bool:
        """After a crash in the middle of an install: whether it is the snapshot that is there."""
        assert self.incoming is not None
        metadata, state, lineage = self.incoming
        self.incoming = None
        # The state gets its name before the snapshot is noted as the last one.
        recorded = self.machine.snapshot_metadata
        known = recorded.last_included if recorded is not None else None
        assert known in (self.known, state.last)
        self.known = known
        if self.machine.last_applied != state.last:
            return False  # The old state.
        if lineage is self.lineage and any(each.state.last == state.last for each in self.moments):
            return False  # Both are of one log, and this machine has been there by itself.
        if self.machine.get_many(KEYS) != [state.model.value(key) for key in KEYS]:
            return False
        seen = [(each.state.last, each.state.plain()) for each in self.moments]
        if (state.last, state.plain()) in seen:
            return False  # Nobody could tell.
        self.installed(metadata, state, lineage)
        self.known = known
        self.check(self.moments[0])
        return True

    def settle_install(self) -> None:
        """The machine was polled: is the snapshot in?"""
        if self.incoming is None or self.machine.install_outcome is None:
            return
        metadata, state, lineage = self.incoming
        assert self.machine.install_outcome == metadata
        if state.last.index >= self.state.last.index:
            self.installed(metadata, state, lineage)
        self.incoming = None
        self.known = state.last
        self.snapshots[state.last] = state.copy()

    def carry_to(self, other: Side, chunk_bytes: int, *, beside: bool) -> None:
        """Stream the newest snapshot into the other machine, if there is one.

        Args:
            beside: install it in the background.
        """
        opened = self.machine.open_snapshot()
        if opened is None:
            assert not self.snapshots
            return
        metadata, file = opened
        last = metadata.last_included
        receiver = other.machine.snapshot_receiver()
        receiver.begin(metadata)
        while data := file.read(chunk_bytes):
            receiver.write(data)
        file.close()
        received = receiver.finish()
        state = self.snapshots[last] if last in self.snapshots else self.begun[last]
        install = other.machine.start_install if beside else other.machine.apply_snapshot_from_file
        if last.index < other.state.last.index:
            with pytest.raises(Rejected):
                install(metadata, received)
        elif beside:
            if other.machine.start_install(metadata, received):
                other.incoming = (metadata, state, self.lineage)
        else:
            other.machine.apply_snapshot_from_file(metadata, received)
            other.installed(metadata, state, self.lineage)
            other.snapshots[last] = state.copy()

    def was_reset(self) -> None:
        """The machine has just promised that there is nothing any more."""
        self.rebase(State())
        self.snapshots, self.begun, self.known = {}, {}, None
        self.lineage = object()

    def installed(self, metadata: SnapshotMetadata, state: State, lineage: object) -> None:
        self.rebase(state)
        self.known, self.lineage = metadata.last_included, lineage

    # Looking.

    def check(self, moment: Moment) -> None:
        """Every read, and the digest of the first time."""
        machine, state = self.machine, moment.state
        model = state.model
        items = state.items()
        assert machine.last_applied == state.last
        assert machine.clock_ms == model.clock
        assert dict(machine.origins) == state.origins
        assert machine.get_many(KEYS) == [model.value(key) for key in KEYS]
        assert len(machine) == len(items)
        scan = machine.scan_prefix(b"")
        assert (scan.revision, list(scan.items), scan.more) == (state.last.index, items, False)
        digest = machine.digest()
        moment.digest = moment.digest or digest
        assert digest == moment.digest

    def check_points(self) -> None:
        """The reads of single keys, and of the log."""
        machine, model = self.machine, self.state.model
        for key in KEYS:
            assert machine.get(key) == model.value(key)
            assert machine.exists(key) == (key in model.keys)
            assert machine.deadline_ms(key) == model.deadline(key)
        soonest = machine.next_deadline_ms
        if soonest is None or soonest > machine.clock_ms:
            deadlines = model.deadlines()
            assert soonest == min(deadlines, default=None)
        last = self.state.last.index
        for index in range(max(0, last - 5), last + 2):
            assert machine.entry_term(index) == self.state.entry_term(index), index
