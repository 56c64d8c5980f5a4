"""Records in layers, against a plain dict: no freeze, thaw or fold may show in any answer."""

from __future__ import annotations

import copy

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from statemachine.layer import Columns, Record
from statemachine.records import Records

KEYS = [b"", b"a", b"a\0", b"b", b"c", b"\xff"]
keys = st.sampled_from(KEYS)
values = st.sampled_from([b"", b"1", b"22"])
deadlines = st.one_of(st.none(), st.integers(1, 9))


def consistent(columns: Columns) -> bool:
    """Whether a layer's columns and its order hold the same keys."""
    names = set(columns.values)
    return (
        names == set(columns.modified)
        and set(columns.deadlines) | set(columns.created) <= names
        and not columns.created.items() & columns.modified.items()
        and list(columns.order) == sorted(names)
    )


class RecordsAgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.records = Records()
        self.plain: dict[bytes, Record] = {}
        self.revision = 0
        self.view: Columns | None = None

    def expect(self, key: bytes, value: bytes, deadline_ms: int | None) -> None:
        old = self.plain.get(key)
        created = self.revision if old is None else old.created
        self.plain[key] = Record(value, created, self.revision, deadline_ms)

    @rule(key=keys, value=values, deadline_ms=deadlines)
    def put(self, key: bytes, value: bytes, deadline_ms: int | None) -> None:
        self.revision += 1
        self.records.put(key, value, self.revision, deadline_ms)
        self.expect(key, value, deadline_ms)

    @rule(names=st.lists(keys, max_size=8), value=values)
    def put_many(self, names: list[bytes], value: bytes) -> None:
        self.revision += 1
        column = [value + b"%d" % at for at in range(len(names))]
        self.records.put_many(names, column, self.revision)
        for key, each in zip(names, column, strict=True):
            self.expect(key, each, None)

    @rule(key=keys)
    def remove(self, key: bytes) -> None:
        if self.plain.pop(key, None) is not None:
            self.records.remove(key)

    @precondition(lambda self: self.view is None)
    @rule()
    def freeze(self) -> None:
        self.view = self.records.freeze()
        self.seen = copy.deepcopy(self.view)

    @precondition(lambda self: self.view is not None)
    @rule()
    def thaw(self) -> None:
        assert self.view == self.seen, "the frozen view was changed"
        assert consistent(self.view)
        self.view = None
        self.records.thaw()

    @rule(keys_max=st.integers(0, 3))
    def fold(self, keys_max: int) -> None:
        self.records.fold(keys_max)

    @invariant()
    def everything_reads_as_in_the_dict(self) -> None:
        records, plain = self.records, self.plain
        assert len(records) == len(plain)
        assert [records.record(key) for key in KEYS] == [plain.get(key) for key in KEYS]
        want = [plain[key].value if key in plain else None for key in KEYS]
        assert records.get_many(KEYS) == [records.get(key) for key in KEYS] == want
        assert [key in records for key in KEYS] == [key in plain for key in KEYS]
        leased = {
            key: plain[key].deadline_ms for key in plain if plain[key].deadline_ms is not None
        }
        assert records.deadlines_of(KEYS) == leased
        assert [records.deadline_ms(key) for key in KEYS] == [leased.get(key) for key in KEYS]

    @invariant()
    def order_is_that_of_the_dict(self) -> None:
        in_order = sorted(self.plain)
        assert list(self.records.between(None, None)) == in_order
        assert list(self.records.between(None, None, reverse=True)) == in_order[::-1]
        for key in KEYS:
            assert list(self.records.between(key, None)) == [k for k in in_order if k >= key]
            behind = self.records.between(key, None, after_start=True)
            assert list(behind) == [k for k in in_order if k > key]
            assert list(self.records.between(None, key)) == [k for k in in_order if k < key]
        assert list(self.records.between(b"b", b"a")) == []
        each = [self.plain[key] for key in in_order]
        assert list(self.records.rows()) == [
            (key, one.value, one.created, one.modified, one.deadline_ms)
            for key, one in zip(in_order, each, strict=True)
        ]


TestRecordsAgainstDict = RecordsAgainstDict.TestCase
TestRecordsAgainstDict.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_folding_ends_by_writes_alone() -> None:
    """Half as many writes as went into the top empty it, whatever they write."""
    records = Records()
    records.put_many([b"k%d" % n for n in range(100)], [b"1"] * 100, 1)
    records.freeze()
    for n in range(50, 150):
        records.put(b"k%d" % n, b"2", 2, None)
    records.remove(b"k0")
    records.thaw()
    assert records.unfolded == 101
    for _ in range(51):
        records.put(b"x", b"3", 3, None)
    assert not records.unfolded
    assert len(records) == 150


def test_a_frozen_view_costs_no_copy() -> None:
    records = Records()
    records.put(b"k", b"v", 1, None)
    view = records.freeze()
    records.put(b"k", b"w", 2, None)
    assert view.values == {b"k": b"v"}
    records.thaw()
    records.fold(10)
    assert records.freeze() is view, "the same columns, folded into, not copied"
