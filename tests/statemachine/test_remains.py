"""What was replaced goes a little at a time, and never from under an image that reads it.

Counted, not timed: how many items one call lets go. (A million keys at once: 62 ms; now 0.2.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from statemachine import FileStateMachine
from statemachine.remains import ITEMS_PER_BATCH, ITEMS_PER_POLL, Remains
from statemachine.store import Store
from tests.statemachine import batches as make
from tests.statemachine.machines import machine_on
from tests.support.crash import MemoryDisk

KEYS = [b"key:%06d" % number for number in range(20_000)]
ORDER_STEP = 2_000
"""An order goes in pieces, as it is kept in."""


def filled() -> Store:
    """Keys with deadlines, so that every column and both orders hold something."""
    store = Store()
    store.apply_batch(make.batch_of(make.grant(10_000, 7), now_ms=1), 1)
    store.apply_batch(make.batch_of(*(make.insert(key, b"v") for key in KEYS)), 2)
    store.apply_batch(make.batch_of(*(make.insert(key, b"w", ttl_ms=99) for key in KEYS[:9000])), 3)
    store.apply_batch(make.batch_of(*(make.insert(key, b"x", lease=7) for key in KEYS[9000:])), 4)
    return store


def held(remains: Remains) -> int:
    """How many items are in it."""
    waiting = [part for records in remains._waiting for part in records.take_apart()]
    remains._waiting = []
    remains._parts += waiting
    return sum(map(len, remains._parts))


def test_a_flush_frees_nothing_at_once_and_everything_by_and_by() -> None:
    store = filled()
    store.apply_batch(make.batch_of(make.flush()), 5)
    left = held(store.remains)
    # values, modified, created, order; a deadline and a place in its order for each key.
    assert left == 6 * len(KEYS)
    steps = 0
    while store.remains:
        # An order says how long it is without looking, so the list inside is what counts.
        before = sum(map(size, store.remains._parts))
        store.apply_batch(make.batch_of(), 6 + steps)
        after = sum(map(size, store.remains._parts))
        assert 0 < before - after <= ITEMS_PER_BATCH + ORDER_STEP
        steps += 1
    assert steps > 6 * len(KEYS) / (ITEMS_PER_BATCH + ORDER_STEP)
    assert len(store) == 0


def size(part: Any) -> int:
    """How many items a part still holds: of an order, in its lists."""
    return len(part) if isinstance(part, dict) else sum(map(len, part._lists))


def test_what_an_image_reads_is_not_touched_until_it_is_done() -> None:
    store = filled()
    columns = store.freeze().columns
    values, order = dict(columns.values), list(columns.order)
    store.apply_batch(make.batch_of(make.flush()), 5)
    for index in range(6, 400):
        store.apply_batch(make.batch_of(make.insert(b"new%d" % index, b"")), index)
    assert columns.values == values
    assert list(columns.order) == order
    assert store.remains
    store.thaw()
    for index in range(400, 800):
        store.apply_batch(make.batch_of(), index)
    assert not store.remains
    assert not columns.values
    assert len(store) == 394


def test_a_store_that_was_being_folded_goes_as_well() -> None:
    store = filled()
    store.freeze()
    store.apply_batch(make.batch_of(*(make.insert(key, b"y") for key in KEYS[:5000])), 5)
    store.thaw()
    assert store.unfolded
    after = Store()
    after.succeed(store)
    store.fold(10)
    while after.remains:
        after.remains.shrink()
        store.fold(1)  # Whoever still folds the old one finds nothing to do.
    assert store.unfolded == 0
    assert len(after) == 0


@pytest.mark.parametrize("how", ["install", "reset"])
def test_a_state_that_gives_way_to_another_goes_by_and_by(how: str) -> None:
    disk = MemoryDisk()
    with machine_on(disk) as machine:
        _fill(machine, 2)
        metadata = machine.generate_snapshot(Path("/elsewhere"))
        machine.reset()
        if how == "install":
            _empty(machine)
            _fill(machine, 1)
            machine.apply_snapshot_from_file(metadata, Path("/elsewhere"))
        # values, modified and the order; not `created`, for the keys of one batch.
        assert _empty(machine) >= 3 * len(KEYS) // (ITEMS_PER_POLL + ORDER_STEP)
        assert len(machine) == (0 if how == "reset" else len(KEYS))


def _fill(machine: FileStateMachine, batches: int) -> None:
    for _ in range(batches):
        batch = make.batch_of(*(make.insert(key, b"v") for key in KEYS), now_ms=1)
        machine.apply(machine.last_applied.index + 1, 1, batch)


def _empty(machine: FileStateMachine) -> int:
    """Poll until nothing is left; how often."""
    polls = 0
    while machine._store.remains:
        machine.poll_background()
        polls += 1
    return polls
