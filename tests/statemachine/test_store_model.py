"""Store against a plain dict (model.py), under histories that hypothesis makes up.

At every step the results are those of the model, every read agrees with it, and a twin
that got the same batches, and now and then was frozen, folded, or replaced by a restored copy,
has the same digest. The bound on expiry is 0 to 2 keys a batch here, so that most histories
have a backlog.
"""

from __future__ import annotations

import copy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from statemachine.commands import WriteCommand
from statemachine.store import Refusal, Store, StoreParts
from tests.statemachine import batches as make
from tests.statemachine.model import Answer, Model
from tests.statemachine.strategies import KEYS, commands


class StoreAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()

    @initialize(keys_max=st.integers(0, 2))
    def start(self, keys_max: int) -> None:
        self.patch.setattr("statemachine.keyspace.EXPIRE_PER_BATCH_MAX", keys_max)
        self.model, self.store, self.twin = Model(), Store(), Store()
        self.view: StoreParts | None = None

    @rule(written=st.lists(commands, max_size=4), step_ms=st.integers(-5, 15))
    def batch(self, written: list[WriteCommand], step_ms: int) -> None:
        self.apply(written, step_ms)

    @rule(ttls_ms=st.lists(st.integers(1, 12), min_size=len(KEYS), max_size=len(KEYS)))
    def lease_all(self, ttls_ms: list[int]) -> None:
        pairs = zip(KEYS, ttls_ms, strict=True)
        self.apply([make.insert(key, b"1", ttl_ms=ttl_ms) for key, ttl_ms in pairs], 0)

    @rule(step_ms=st.integers(0, 15))
    def flush(self, step_ms: int) -> None:
        self.apply([make.flush()], step_ms)

    def apply(self, written: list[WriteCommand], step_ms: int) -> None:
        now_ms = max(0, self.model.clock + step_ms)
        batch = make.batch_of(*written, now_ms=now_ms)
        self.model.advance(now_ms)
        want = [answer for command in written for answer in self.model.run(command)]
        outcome = make.apply_batch(self.store, batch)
        assert isinstance(outcome, list)
        # By repr, because True == 1: a bool in place of a count is another reply.
        assert [repr(plain(result)) for result in outcome] == [repr(answer) for answer in want]
        assert self.twin.apply_batch(batch, self.store.revision) == outcome

    @rule()
    @precondition(lambda self: self.view is None)
    def the_twin_restarts_from_an_image(self) -> None:
        parts = make.view_of(self.twin)
        self.twin = Store()
        self.twin.restore(parts)

    @rule()
    def only_the_twin_is_scanned(self) -> None:
        self.twin.scan_prefix(b"")

    @precondition(lambda self: self.view is None)
    @rule()
    def the_twin_is_frozen(self) -> None:
        self.view = self.twin.freeze()
        self.viewed = copy.deepcopy(self.view)

    @precondition(lambda self: self.view is not None)
    @rule()
    def the_twin_thaws(self) -> None:
        assert self.view == self.viewed, "a frozen view was changed"
        self.view = None
        self.twin.thaw()

    @rule(keys_max=st.integers(0, 3))
    def the_twin_folds(self, keys_max: int) -> None:
        self.twin.fold(keys_max)

    @invariant()
    def point_reads_agree(self) -> None:
        for key in KEYS:
            assert self.store.get(key) == self.model.value(key)
            assert self.store.exists(key) == (key in self.model.keys)
            assert self.store.deadline_ms(key) == self.model.deadline(key)
        for lease_id in (1, 2, 3):
            lease = self.store.grants.lease(lease_id, self.store.clock_ms)
            shown = None if lease is None else (lease.ttl_ms, lease.deadline_ms)
            assert shown == self.model.leases.get(lease_id)
            held = sorted(key for key, each in self.model.held.items() if each == lease_id)
            assert self.store.grants.keys(lease_id, self.store.clock_ms, 99) == held
        page = self.store.grants.page(0, 99, self.store.clock_ms)
        assert [lease.id for lease in page] == sorted(self.model.leases)
        for store in (self.store, self.twin):
            assert store.get_many(KEYS) == [self.model.value(key) for key in KEYS]
            assert len(store) == len(self.model.keys)
        assert self.store.clock_ms == self.model.clock

    @invariant()
    def ordered_reads_agree(self) -> None:
        items = sorted((key, value) for key, (value, _) in self.model.keys.items())
        for prefix in KEYS:
            starting = [item for item in items if item[0].startswith(prefix)]
            assert self.store.scan_prefix(prefix) == (starting, False)
            assert self.store.scan_prefix(prefix, limit=1) == (starting[:1], len(starting) > 1)
            below = [item for item in reversed(items) if item[0] < prefix]
            assert self.store.scan_range(b"", prefix, reverse=True) == (below, False)
            behind = [key for key, _ in items if key > prefix]
            want_next = behind[1] if len(behind) > 2 else None
            assert self.store.keys_page(prefix, 2) == (behind[:2], want_next)

    @invariant()
    def a_batch_that_is_due_is_asked_for(self) -> None:
        soonest = self.store.next_deadline_ms()
        if soonest is None or soonest > self.store.clock_ms:
            deadlines = self.model.deadlines()
            assert soonest == min(deadlines, default=None)

    @invariant()
    def the_twin_is_equal(self) -> None:
        assert self.twin.digest() == self.store.digest()

    def teardown(self) -> None:
        self.patch.undo()


def plain(result: object) -> Answer:
    if isinstance(result, Refusal):
        return result.text
    assert result is None or isinstance(result, bool | int | bytes)
    return result


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
