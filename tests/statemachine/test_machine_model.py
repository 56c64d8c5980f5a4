"""FileStateMachine against a plain dict (dict_machine.py), under histories by hypothesis.

Two machines: one that leads a life of its own, and one that gets its snapshots and follows. Every
outcome, every read and every digest is compared; a crash takes a machine back to a moment that it
may be taken back to, and what it is sent again has the outcomes of the first time. Background work
stands still between the steps and goes on call by call (support/gated.py), so crashes and writes
fall anywhere into it.

The bound on expiry is 0 to 2 keys a batch, segments are small, and the policy changes with every
opening, so that backlogs, rotation and lost writes are the rule.

A few hundred steps here; 10,000 and more under `stress`; a million by scripts/soak.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from statemachine import (
    CheckpointConfig,
    Entry,
    LogId,
    Rejected,
    SnapshotMetadata,
    Unavailable,
    WalConfig,
    WriteCommand,
)
from tests.statemachine import batches as make
from tests.statemachine.dict_machine import State
from tests.statemachine.sides import MemorySite, RealSite, Side
from tests.statemachine.strategies import KEYS, commands, keys, odd_commands, richer_commands
from tests.support.crash import Crash
from tests.support.gated import Gate
from tests.support.hand_driven import HandDriven

ORIGINS = [b"n1", b"n2"]
LONG_ENOUGH = 12
"""Entries that a history has before it may be thrown away."""

options = st.fixed_dictionaries(
    {
        "wal": st.builds(
            WalConfig,
            sync=st.sampled_from(["always", "always", "interval", "checkpoint"]),
            interval_ms=st.just(50),
            segment_bytes_max=st.sampled_from([64, 700, 1 << 20]),
        ),
        "checkpoint": st.builds(
            CheckpointConfig, entries=st.sampled_from([0, 3]), bytes=st.sampled_from([0, 500])
        ),
    }
)
# How an origin numbers its batch, beside "the next": the model says what comes of it.
numberings = st.sampled_from(["none", "none", "next", "next", "again", "gap", "epoch", "old"])
written = st.lists(st.one_of(commands, commands, richer_commands, odd_commands), max_size=4)
batch = st.fixed_dictionaries(
    {
        "written": written,
        "step_ms": st.integers(-5, 15),
        "numbering": numberings,
        "jump": st.sampled_from([0, 0, 0, 0, 2]),
        "term": st.sampled_from([0, 0, 0, 1]),
    }
)
NONSENSE = [b"", b"\1", b"\1" + bytes(27), b"\1\2\3", make.batch_of() + b"\xff"]


class MachineAgainstModel(RuleBasedStateMachine):
    """The world of one history."""

    steps: ClassVar[int] = 0
    """Of all histories: how far a soak has got."""

    @initialize(keys_max=st.integers(0, 2), options=options, peer_options=options)
    def begin(self, keys_max: int, options: dict[str, Any], peer_options: dict[str, Any]) -> None:
        self.patch = pytest.MonkeyPatch()
        for name, module in list(sys.modules.items()):
            if name.startswith("statemachine.") and hasattr(module, "EXPIRE_PER_BATCH_MAX"):
                self.patch.setattr(module, "EXPIRE_PER_BATCH_MAX", keys_max)
        self.patch.setattr("statemachine.job.threading", HandDriven())
        self.side = Side(self.site(), options)
        self.peer = Side(MemorySite(), peer_options)
        self.carried: tuple[SnapshotMetadata, State, object] | None = None  # In a directory.
        self.stopped = False

    def site(self) -> MemorySite | RealSite:
        return MemorySite()

    def next_entry(
        self, written: list[WriteCommand], step_ms: int, numbering: str, jump: int, term: int
    ) -> Entry:
        last, state = self.side.state.last, self.side.state
        now_ms = max(0, state.model.clock + step_ms)
        origin = ORIGINS[len(written) % 2]
        epoch, sequence = state.origins.get(origin, (1, 0))
        head = {
            "none": (b"", 0, 0),
            "next": (origin, epoch, sequence + 1),
            "again": (origin, epoch, max(1, sequence - 1)),
            "gap": (origin, epoch, sequence + 2),
            "epoch": (origin, epoch + 1, 1),
            "old": (origin, max(0, epoch - 1), sequence + 1),
        }[numbering]
        batch = make.batch_of(
            *written, now_ms=now_ms, origin=head[0], epoch=head[1], sequence=head[2]
        )
        return Entry.batch(last.index + 1 + jump, max(1, last.term) + term, batch)

    # Applying. Most steps should: the rest is only as interesting as what was written.

    @rule(some=st.lists(batch, min_size=1, max_size=4), as_chunk=st.booleans())
    def batches(self, some: list[dict[str, Any]], as_chunk: bool) -> None:
        for each in some:
            self.side.apply([self.next_entry(**each)], as_chunk=as_chunk)

    @rule(some=st.lists(batch, min_size=1, max_size=4), as_chunk=st.booleans())
    def more_batches(self, some: list[dict[str, Any]], as_chunk: bool) -> None:
        self.batches(some, as_chunk)

    @rule(written=written, kinds=st.lists(st.sampled_from([0, 1, 1, 2]), min_size=1, max_size=5))
    def chunk(self, written: list[WriteCommand], kinds: list[int]) -> None:
        last = self.side.state.last
        payload = make.batch_of(*written, now_ms=self.side.state.model.clock)
        payloads = [b"", payload, b"members"]
        entries = [
            Entry(index, max(1, last.term), kind, payloads[kind])
            for index, kind in enumerate(kinds, last.index + 1)
        ]
        self.side.apply(entries, as_chunk=True)

    @rule(ttls_ms=st.lists(st.integers(1, 12), min_size=len(KEYS), max_size=len(KEYS)))
    def lease_all(self, ttls_ms: list[int]) -> None:
        written = [make.insert(key, b"1", ttl_ms=ms) for key, ms in zip(KEYS, ttls_ms, strict=True)]
        self.side.apply([self.next_entry(written, 0, "none", 0, 0)], as_chunk=False)

    @rule(step_ms=st.integers(0, 8), payload=st.sampled_from([None, None, None, *NONSENSE]))
    def time_passes(self, step_ms: int, payload: bytes | None) -> None:
        entry = self.next_entry([], step_ms, "none", 0, 0)
        if payload is not None:
            entry = Entry.batch(entry.index, entry.term, payload)
        self.side.apply([entry], as_chunk=False)

    @rule(count=st.integers(0, 3), damage=st.sampled_from(["none", "term", "order", "kind"]))
    def what_does_not_fit(self, count: int, damage: str) -> None:
        self.side.send_again(count, as_chunk=damage == "none")
        good = self.next_entry([make.flush()], 1, "none", 0, 0)
        if damage == "none":
            return
        bad = {
            "term": Entry(good.index + 1, good.term - 1, 1, good.payload),
            "order": Entry(good.index, good.term, 1, good.payload),
            "kind": Entry(good.index + 1, good.term, 9, good.payload),
        }[damage]
        with pytest.raises(Rejected):
            self.side.machine.apply_chunk([good, bad])

    # Images and syncs.

    @rule(
        what=st.sampled_from(["maybe_checkpoint", "flush_async", "start_snapshot"]),
        after_s=st.sampled_from([0.0, 0.01, 1.0]),
    )
    def an_image_is_begun(self, what: str, after_s: float) -> None:
        side = self.side
        side.now_s += after_s
        begin = getattr(side.machine, what)
        begun = begin(side.now_s) if what == "maybe_checkpoint" else begin()
        if what != "maybe_checkpoint":
            assert begun == (side.image is None)
        if begun:
            last = side.state.last if what == "start_snapshot" else None
            side.image = (len(side.entries), last)
            if last is not None:
                side.begun[last] = side.state.copy()

    @rule(count=st.integers(1, 4))
    def background_work_goes_on(self, count: int) -> None:
        self.side.gate.let(count)

    @rule(after_s=st.sampled_from([0.0, 0.03, 1.0]))
    def poll(self, after_s: float) -> None:
        self.side.now_s += after_s
        if self.side.machine.poll_background():
            self.side.finished_image()
        if self.side.options["wal"].sync == "interval" and after_s == 1.0:
            self.side.flushed()

    @rule(what=st.sampled_from(["checkpoint", "flush", "save_hard_state", "persist_last_applied"]))
    def all_is_made_durable(self, what: str) -> None:
        side = self.side
        if what == "persist_last_applied":
            entry = Entry.noop(side.state.last.index + 2, max(1, side.state.last.term))
            side.note([entry])
            side.machine.persist_last_applied(LogId(entry.index, entry.term))
        else:
            getattr(side.machine, what)()
        if what == "checkpoint":
            side.finished_image()
        side.flushed()

    # Snapshots.

    def elsewhere(self) -> Path:
        return self.side.site.directory.parent / "elsewhere"

    @rule(elsewhere=st.booleans())
    def snapshot(self, elsewhere: bool) -> None:
        side, last = self.side, self.side.state.last
        with pytest.raises(Rejected):
            side.machine.generate_snapshot(None, LogId(last.index + 1, last.term))
        place = self.elsewhere() if elsewhere else None
        metadata = side.machine.generate_snapshot(place, last)
        assert metadata.last_included == last
        side.finished_image()
        side.flushed()
        side.known = last
        if elsewhere:
            self.carried = (metadata, side.state.copy(), side.lineage)
        else:
            side.snapshots[last] = side.state.copy()

    @precondition(lambda self: self.carried is not None)
    @rule()
    def install_from_elsewhere(self) -> None:
        assert self.carried is not None
        metadata, state, lineage = self.carried
        if metadata.last_included.index < self.side.state.last.index:
            with pytest.raises(Rejected):
                self.side.machine.apply_snapshot_from_file(metadata, self.elsewhere())
            return
        self.side.machine.apply_snapshot_from_file(metadata, self.elsewhere())
        # Of another history, when a reset lies between: what follows is not what followed there.
        same = lineage is self.side.lineage
        self.side.installed(metadata, state, lineage if same else object())

    @precondition(lambda self: self.peer.incoming is None)
    @rule(chunk_bytes=st.sampled_from([1 << 20, 50, 1]), beside=st.booleans())
    def carry_to_the_peer(self, chunk_bytes: int, beside: bool) -> None:
        self.side.carry_to(self.peer, chunk_bytes, beside=beside)

    @precondition(lambda self: self.peer.incoming is not None)
    @rule(count=st.integers(1, 9))
    def the_peer_goes_on_installing(self, count: int) -> None:
        self.peer.gate.let(count)
        self.peer.machine.poll_background()
        self.peer.settle_install()
        self.peer.check(self.peer.moments[-1])

    @precondition(lambda self: self.peer.lineage is self.side.lineage)
    @rule(as_chunk=st.booleans())
    def the_peer_follows(self, as_chunk: bool) -> None:
        base, last = self.side.moments[0].state.last, self.peer.state.last
        if last.index < base.index:
            return
        entries = [each for each in self.side.entries if each.index > last.index]
        self.peer.apply(entries, as_chunk=as_chunk)
        assert self.peer.state.plain() == self.side.state.plain()
        assert self.peer.machine.digest() == self.side.machine.digest()

    # Ends.

    @rule(
        crash=st.sampled_from([Crash.SYNCED, Crash.ALL, Crash.MIXED, Crash.MIXED]),
        seed=st.integers(0, 2**16),
        options=st.none() | options,
        of_the_peer=st.sampled_from([False, False, False, True]),
    )
    def crash(
        self, crash: Crash, seed: int, options: dict[str, Any] | None, of_the_peer: bool
    ) -> None:
        side = self.peer if of_the_peer else self.side
        side.options = options or side.options
        side.crash(crash, seed)

    @rule(options=st.none() | options, only_stop=st.booleans())
    def close_and_open(self, options: dict[str, Any] | None, only_stop: bool) -> None:
        side = self.side
        if not only_stop:
            side.options = options or side.options
            side.reopen()
            return
        side.machine.stop()
        side.finished_image()
        side.flushed()
        with pytest.raises(Unavailable):
            side.machine.get(b"a")
        with pytest.raises(Unavailable):
            side.machine.apply(side.state.last.index + 1, 9, make.batch_of())
        side.machine.start()

    @precondition(lambda self: len(self.side.entries) > LONG_ENOUGH)
    @rule()
    def reset(self) -> None:
        self.side.machine.reset()
        self.side.was_reset()

    @precondition(lambda self: self.peer.state.log and self.peer.lineage is not self.side.lineage)
    @rule()
    def the_peer_starts_over(self) -> None:
        self.peer.machine.reset()
        self.peer.was_reset()

    # Looking.

    @rule(key=keys, other=st.none() | keys, limit=st.none() | st.integers(0, 3), down=st.booleans())
    def scan(self, key: bytes, other: bytes | None, limit: int | None, down: bool) -> None:
        machine, items = self.side.machine, self.side.state.items()

        def want(found: list[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], bool]:
            return (found, False) if limit is None else (found[:limit], len(found) > limit)

        behind = [item for item in items if item[0].startswith(key)]
        behind = [item for item in behind if other is None or item[0] > other]
        scan = machine.scan_prefix(key, limit=limit, after=other)
        assert (list(scan.items), scan.more) == want(behind)
        between = [item for item in items if key <= item[0] and (other is None or item[0] < other)]
        scan = machine.scan_range(key, other, limit=limit, reverse=down)
        assert (list(scan.items), scan.more) == want(between[::-1] if down else between)
        assert scan.revision == self.side.state.last.index

    @rule(count=st.integers(1, 4))
    def pages(self, count: int) -> None:
        found: list[bytes] = []
        after: bytes | None = None
        while True:
            page, after = self.side.machine.keys_page(after, count)
            found += page
            if after is None:
                break
        assert found == [key for key, _ in self.side.state.items()]

    @invariant()
    def everything_agrees(self) -> None:
        type(self).steps += 1
        if not hasattr(self, "side"):
            return
        self.side.check(self.side.moments[-1])
        self.side.check_points()
        self.side.settle_snapshot()
        assert (self.peer.machine.get_many(KEYS)) == [
            self.peer.state.model.value(key) for key in KEYS
        ]

    def teardown(self) -> None:
        if hasattr(self, "side"):
            for each in (self.side, self.peer):
                each.gate.finish()
                each.machine.close()
            self.patch.undo()


class OnARealDisk(MachineAgainstModel):
    """The same in a directory; a crash there is kill -9."""

    def site(self) -> RealSite:
        self.place = tempfile.TemporaryDirectory(prefix="trimaran-model-")
        return RealSite(Path(self.place.name) / "site")

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "place"):
            self.place.cleanup()


def run(machine: type[RuleBasedStateMachine], histories: int, steps: int, **more: Any) -> None:
    """Raises: what a history that fails raised, with the shortest such history as a note."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=histories,
            stateful_step_count=steps,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=slow,
            **more,
        ),
    )


class Traced(MachineAgainstModel):
    """Notes what is on the disks after each step."""

    trace: ClassVar[list[list[tuple[str, int]]]] = []

    @invariant()
    def noted(self) -> None:
        if hasattr(self, "side"):
            disks: list[Any] = [self.side.site.disk, self.peer.site.disk]
            files = [(disk, path) for disk in disks for path in disk.files()]
            self.trace.append([(str(path), zlib.crc32(disk.content(path))) for disk, path in files])


def test_a_history_is_the_same_however_fast_its_threads_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def trace() -> list[list[tuple[str, int]]]:
        Traced.trace.clear()
        seed(3)(Traced)
        run(Traced, histories=15, steps=30, database=None, phases=(Phase.generate,))
        return Traced.trace.copy()

    first = trace()
    assert len(first) > 200
    pass_through, chance = Gate.pass_through, random.Random(3)

    def dawdles(gate: Gate) -> None:
        pass_through(gate)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(chance.choice([0, 0, 0.001, 0.005]))

    monkeypatch.setattr(Gate, "pass_through", dawdles)
    assert trace() == first


# Timeouts are for failures: making a history short takes minutes.
@pytest.mark.timeout(400)
def test_a_machine_is_its_model_whatever_happens() -> None:
    run(MachineAgainstModel, histories=40, steps=30)


@pytest.mark.timeout(400)
def test_a_machine_on_a_real_disk_is_its_model() -> None:
    run(OnARealDisk, histories=10, steps=20)


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_a_machine_is_its_model_for_ten_thousand_steps() -> None:
    before = MachineAgainstModel.steps
    run(MachineAgainstModel, histories=300, steps=50)
    assert MachineAgainstModel.steps - before >= 10_000


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_a_machine_on_a_real_disk_is_its_model_for_longer() -> None:
    run(OnARealDisk, histories=60, steps=40)
