"""FileStateMachine: applying, order, reads, terms, life cycle."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from statemachine import (
    ALREADY_APPLIED,
    DUPLICATE,
    GAP,
    DirectoryInUse,
    Entry,
    Fatal,
    FileStateMachine,
    LogId,
    Refusal,
    Rejected,
    Unavailable,
    WalConfig,
)
from statemachine.frame import PAYLOAD_BYTES_MAX
from statemachine.terms import RUNS_MAX, LogTerms
from tests.statemachine.batches import add, batch_of, delete, insert, put, swap
from tests.statemachine.machines import HOME, applied, digests, entry, machine_on
from tests.support.crash import Crash, MemoryDisk


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def machine(disk: MemoryDisk) -> FileStateMachine:
    return machine_on(disk)


def test_a_chunk_yields_one_outcome_per_entry_in_order(machine: FileStateMachine) -> None:
    origin: dict[str, Any] = {"origin": b"n1", "epoch": 1}
    outcomes = machine.apply_chunk(
        [
            Entry.batch(1, 1, batch_of(put((b"a", b"1"), (b"b", b"2")), sequence=1, **origin)),
            Entry.noop(2, 1),
            Entry.batch(3, 1, batch_of(swap(b"a", b"1", b"x"), sequence=2, **origin)),
            Entry.config(4, 2, b"members"),
            Entry.batch(5, 2, batch_of(swap(b"a", b"1", b"y"), sequence=2, **origin)),
            Entry.batch(6, 2, batch_of(swap(b"a", b"1", b"z"), sequence=9, **origin)),
            Entry.batch(7, 2, batch_of(delete(b"a"), delete(b"a"), swap(b"a", b"1", b"z"))),
            Entry.command(8, 2, insert(b"c", ttl_ms=10).SerializeToString(), now_ms=5),
        ]
    )
    assert outcomes == [[True, True], [], [True], [], DUPLICATE, GAP, [1, 0, False], [True]]
    assert machine.last_applied == LogId(8, 2)
    assert machine.deadline_ms(b"c") == 15


def test_a_chunk_is_one_write_before_memory_changes(
    disk: MemoryDisk, machine: FileStateMachine
) -> None:
    lengths: list[tuple[str, int]] = []
    disk.on_step = lambda name: lengths.append((name, len(machine)))
    machine.apply_chunk([entry(index) for index in range(1, 6)])
    assert lengths == [("write", 0), ("sync", 0)]
    assert len(machine) > 0


def test_applying_one_by_one_is_the_same_as_in_a_chunk() -> None:
    single, chunk = machine_on(MemoryDisk()), machine_on(MemoryDisk())
    applied(single, 1, 20)
    chunk.apply_chunk([entry(index) for index in range(1, 21)])
    assert single.digest() == chunk.digest() == digests(20)[20]
    assert single.last_applied == chunk.last_applied


def test_entries_that_were_applied_already_change_nothing(
    disk: MemoryDisk, machine: FileStateMachine
) -> None:
    machine.apply(3, 1, batch_of(add(b"n", 1)))
    size = disk.size_bytes(HOME / "wal" / "0000000000000001.wal")
    assert machine.apply(3, 1, batch_of(add(b"n", 1))) is ALREADY_APPLIED
    assert machine.apply(1, 1, batch_of(add(b"n", 1))) is ALREADY_APPLIED
    machine.skip(2, 1)
    assert disk.size_bytes(HOME / "wal" / "0000000000000001.wal") == size
    chunk = [Entry.batch(index, 1, batch_of(add(b"n", 1))) for index in (2, 3, 4)]
    assert machine.apply_chunk(chunk) == [ALREADY_APPLIED, ALREADY_APPLIED, [2]]
    assert machine.get(b"n") == b"2"


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param([Entry.noop(7, 2), Entry.noop(7, 2)], id="index twice"),
        pytest.param([Entry.noop(8, 2), Entry.noop(7, 2)], id="index falls"),
        pytest.param([Entry.noop(7, 3), Entry.noop(8, 2)], id="term falls"),
        pytest.param([Entry.noop(7, 1)], id="term below the last applied"),
        pytest.param([Entry.noop(5, 1), Entry.noop(7, 1)], id="the same behind an old entry"),
        pytest.param([Entry.noop(0, 2)], id="index 0"),
        pytest.param([Entry.noop(7, 2), Entry(8, 2, 3, b"")], id="a mark is no entry"),
        pytest.param([Entry.noop(7, 2), Entry(8, 2, 77, b"")], id="unknown kind"),
    ],
)
def test_a_chunk_out_of_order_is_refused_before_anything(
    disk: MemoryDisk, machine: FileStateMachine, chunk: list[Entry]
) -> None:
    machine.apply_chunk([Entry.batch(5, 1, batch_of(put((b"k", b"v")))), Entry.noop(6, 2)])
    steps: list[str] = []
    disk.on_step = steps.append
    with pytest.raises(Rejected):
        machine.apply_chunk(chunk)
    assert steps == []
    assert machine.last_applied == LogId(6, 2)
    assert machine.is_running


def test_a_batch_over_the_limit_or_of_an_older_term_is_refused_before_anything(
    machine: FileStateMachine,
) -> None:
    machine.skip(1, 2)
    with pytest.raises(Rejected):
        machine.apply(2, 2, bytes(PAYLOAD_BYTES_MAX + 1))
    with pytest.raises(Rejected):
        machine.apply(2, 1, batch_of())
    assert machine.last_applied == LogId(1, 2)


def test_nonsense_in_a_batch_is_a_refusal_that_counts_and_survives(disk: MemoryDisk) -> None:
    machine = machine_on(disk)
    outcome = machine.apply(1, 1, b"nonsense")
    assert isinstance(outcome, list)
    assert isinstance(outcome[0], Refusal)
    with machine_on(disk.crashed(Crash.SYNCED)) as again:
        assert again.last_applied == LogId(1, 1)


def test_a_batch_of_a_newer_program_stops_the_machine_here_and_at_every_boot(
    disk: MemoryDisk,
) -> None:
    machine = machine_on(disk)
    newer = b"\x09" + batch_of(put((b"k", b"v")))[1:]
    with pytest.raises(Fatal, match="newer version"):
        machine.apply(1, 1, newer)
    with pytest.raises(Fatal, match="has failed"):
        machine.get(b"k")
    with pytest.raises(Fatal, match="newer version"):
        machine_on(disk.crashed(Crash.SYNCED))


def test_any_surprise_inside_apply_stops_the_machine(
    machine: FileStateMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(machine._store), "apply_batch", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        machine.apply(1, 1, batch_of())
    for call in (machine.start, machine.flush, machine.digest, lambda: machine.skip(5, 5)):
        with pytest.raises(Fatal, match="division by zero"):
            call()
    assert not machine.is_running
    machine.stop()
    machine.close()


def test_reads_are_of_one_moment_and_scans_carry_its_index(machine: FileStateMachine) -> None:
    pairs = [(b"a:%d" % n, b"%d" % n) for n in range(5)]
    machine.apply(7, 3, batch_of(put(*reversed(pairs), (b"b", b"x"))))
    assert machine.get(b"a:1") == b"1"
    assert machine.get_many([b"b", b"none", b"a:0"]) == [b"x", None, b"0"]
    assert machine.exists(b"b")
    assert not machine.exists(b"none")
    assert len(machine) == 6
    assert not machine.is_empty()
    scan = machine.scan_prefix(b"a:", limit=3)
    assert (scan.revision, list(scan.items), scan.more) == (7, pairs[:3], True)
    scan = machine.scan_prefix(b"a:", after=b"a:2")
    assert (list(scan.items), scan.more) == (pairs[3:], False)
    assert [key for key, _ in machine.scan_range(b"a:1", b"b").items] == [
        key for key, _ in pairs[1:]
    ]
    assert [key for key, _ in machine.scan_range(b"", None, limit=2, reverse=True).items] == [
        b"b",
        b"a:4",
    ]
    keys, after = machine.keys_page(None, 4)
    assert (keys, after is not None) == ([key for key, _ in pairs[:4]], True)
    assert machine.keys_page(after, 10) == ([b"a:4", b"b"], None)


def test_a_key_past_its_deadline_is_absent_at_once(machine: FileStateMachine) -> None:
    machine.apply(1, 1, batch_of(insert(b"k", ttl_ms=10), now_ms=100))
    assert machine.next_deadline_ms == machine.deadline_ms(b"k") == 110
    machine.apply(2, 1, batch_of(now_ms=109))
    assert machine.exists(b"k")
    machine.apply(3, 1, batch_of(now_ms=110))
    assert machine.get(b"k") is None
    assert machine.clock_ms == 110
    assert machine.next_deadline_ms is None


def test_the_term_of_an_entry_is_right_or_unknown_also_after_a_restart(disk: MemoryDisk) -> None:
    machine = machine_on(disk)
    machine.apply_chunk([Entry.noop(1, 1), Entry.noop(2, 1), Entry.noop(3, 2)])
    machine.skip(6, 2)
    machine.skip(9, 5)
    want = [None, 1, 1, 2, 2, 2, 2, None, None, 5, None]
    assert [machine.entry_term(index) for index in range(11)] == want
    machine.checkpoint()
    machine.skip(10, 5)
    with machine_on(disk.crashed(Crash.SYNCED)) as again:
        assert [again.entry_term(index) for index in range(11)] == [*want[:10], 5]


def test_old_term_runs_are_forgotten_and_then_unknown() -> None:
    terms = LogTerms()
    for index in range(1, RUNS_MAX + 6):
        terms.advance(index, index)
    assert len(terms.runs) == RUNS_MAX
    assert terms.entry_term(5) is None
    assert terms.entry_term(6) == 6
    assert LogTerms(terms.last, terms.runs).runs == terms.runs


@pytest.mark.parametrize(
    ("last", "runs"),
    [
        (LogId(5, 2), []),
        (LogId(5, 2), [(1, 1)]),
        (LogId(5, 2), [(1, 1), (6, 2)]),
        (LogId(5, 2), [(3, 1), (1, 2)]),
        (LogId(5, 2), [(1, 3), (2, 2)]),
        (LogId(0, 1), []),
        (LogId(0, 0), [(1, 1)]),
    ],
)
def test_term_runs_that_do_not_fit_are_refused(last: LogId, runs: list[tuple[int, int]]) -> None:
    with pytest.raises(Rejected):
        LogTerms(last, runs)


def test_last_applied_moves_forward_only(machine: FileStateMachine) -> None:
    machine.update_last_applied(LogId(5, 2))
    machine.update_last_applied(LogId(4, 2))
    machine.persist_last_applied(LogId(3, 1))
    assert machine.last_applied == LogId(5, 2)


def test_a_stopped_machine_answers_unavailable_until_it_is_started(disk: MemoryDisk) -> None:
    machine = applied(machine_on(disk), 1, 3)
    assert machine.is_running
    machine.start()
    machine.stop()
    machine.stop()
    assert not machine.is_running
    for call in (lambda: machine.get(b"k1"), lambda: machine.apply(4, 1, b""), machine.flush):
        with pytest.raises(Unavailable, match="stopped"):
            call()
    machine.start()
    assert machine.get(b"last") == b"3"
    machine.close()
    machine.close()
    with pytest.raises(Unavailable):
        machine.start()
    assert not machine.is_running
    machine.stop()


def test_two_machines_never_share_a_directory(tmp_path: Path) -> None:
    with FileStateMachine(tmp_path):
        with pytest.raises(DirectoryInUse):
            FileStateMachine(tmp_path)
        # The owner of the LOCK says so itself.
    with FileStateMachine(tmp_path, lock=False):
        FileStateMachine(tmp_path).close()


def test_a_machine_that_cannot_open_lets_the_lock_go(tmp_path: Path) -> None:
    with FileStateMachine(tmp_path) as machine:
        applied(machine, 1, 3)
    segment = tmp_path / "wal" / "0000000000000001.wal"
    good = segment.read_bytes()
    segment.write_bytes(good[:70] + b"?" + good[71:])
    with pytest.raises(Fatal):
        FileStateMachine(tmp_path)
    segment.write_bytes(good)
    FileStateMachine(tmp_path).close()


def test_a_forgotten_machine_frees_its_directory(tmp_path: Path) -> None:
    machine = applied(FileStateMachine(tmp_path), 1, 3)
    del machine
    gc.collect()
    with FileStateMachine(tmp_path) as machine:
        assert machine.last_applied == LogId(3, 1)


def test_an_empty_machine_is_still_true(machine: FileStateMachine) -> None:
    assert machine
    assert machine.is_empty()


def test_the_interval_policy_needs_a_clock() -> None:
    with pytest.raises(Rejected, match="monotonic"):
        machine_on(MemoryDisk(), wal=WalConfig(sync="interval"))


def test_a_background_turn_on_an_idle_machine_writes_one_mark_only(disk: MemoryDisk) -> None:
    machine = applied(machine_on(disk), 1, 3)
    steps: list[str] = []
    disk.on_step = steps.append
    for _ in range(5):
        assert not machine.poll_background()
    assert steps == ["write"]


def test_the_digest_is_of_the_state_and_not_of_the_term() -> None:
    one, two = machine_on(MemoryDisk()), machine_on(MemoryDisk())
    one.apply(9, 1, batch_of(put((b"k", b"v"))))
    two.apply(9, 4, batch_of(put((b"k", b"v"))))
    two.skip(10, 4)
    assert one.digest() == two.digest()
    two.apply(11, 4, batch_of(put((b"k", b"v"))))
    assert one.digest() != two.digest(), "the key was changed, if only its revision"
