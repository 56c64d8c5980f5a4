"""Batches on a store: duplicates and gaps, nonsense, parts and digest. Expiry: test_expiry.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from statemachine.commands import (
    BATCH_HEADER,
    BATCH_VERSION,
    TIME_MS_MAX,
    WriteCommand,
    wrap_command,
)
from statemachine.errors import Fatal, Rejected
from statemachine.grants import Grant, GrantParts
from statemachine.removals import RemovalParts
from statemachine.store import DUPLICATE, GAP, NotRun, Refusal, Store
from tests.statemachine.batches import (
    add,
    apply,
    apply_batch,
    batch_of,
    delete,
    expire,
    flush,
    grant,
    insert,
    parts_of,
    put,
    revoke,
    store_with,
    swap,
    view_of,
)

# Duplicates and gaps


def numbered(epoch: int, sequence: int, origin: bytes = b"n1", now_ms: int = 0) -> bytes:
    """A batch that shows whether it ran: it adds one."""
    command = add(b"n", 1)
    return batch_of(command, now_ms=now_ms, origin=origin, epoch=epoch, sequence=sequence)


@pytest.mark.parametrize(
    ("epoch", "sequence", "want"),
    [
        pytest.param(5, 3, [3], id="the next"),
        pytest.param(5, 2, DUPLICATE, id="the last again"),
        pytest.param(5, 1, DUPLICATE, id="an older one again"),
        pytest.param(5, 0, DUPLICATE, id="no sequence"),
        pytest.param(5, 4, GAP, id="one is missing"),
        pytest.param(4, 3, DUPLICATE, id="an epoch that is over"),
        pytest.param(4, 1, DUPLICATE, id="the first of an epoch that is over"),
        pytest.param(6, 1, [3], id="the first of a new epoch"),
        pytest.param(9, 1, [3], id="epochs may be skipped"),
        pytest.param(6, 2, GAP, id="a new epoch without its first"),
        pytest.param(6, 0, GAP, id="a new epoch, no sequence"),
    ],
)
def test_batches_of_one_origin_run_once_and_in_order(
    epoch: int, sequence: int, want: list[int] | NotRun
) -> None:
    store = Store()
    assert [apply_batch(store, numbered(5, 1)), apply_batch(store, numbered(5, 2))] == [[1], [2]]
    before = store.digest()
    assert apply_batch(store, numbered(epoch, sequence)) == want
    if isinstance(want, NotRun):
        assert store.digest() == before
        assert apply_batch(store, numbered(5, 3)) == [3]
    else:
        assert store.origins == {b"n1": (epoch, sequence)}


def test_an_unknown_origin_starts_at_1() -> None:
    store = Store()
    assert apply_batch(store, numbered(3, 2)) is GAP
    assert apply_batch(store, numbered(3, 1)) == [1]


def test_origins_do_not_get_into_each_others_way() -> None:
    store = Store()
    for want, origin in enumerate([b"n1", b"n2", b"n3"], start=1):
        assert apply_batch(store, numbered(1, 1, origin)) == [want]
    assert apply_batch(store, numbered(1, 1, b"n2")) is DUPLICATE


def test_anonymous_batches_run_as_often_as_they_come() -> None:
    store = Store()
    assert [apply(store, add(b"n", 1)) for _ in range(3)] == [[1], [2], [3]]
    assert store.origins == {}


def test_duplicates_and_gaps_move_the_clock_and_expire() -> None:
    store = store_with(insert(b"a", ttl_ms=10), insert(b"b", ttl_ms=20))
    apply_batch(store, numbered(1, 1))
    assert apply_batch(store, numbered(1, 1, now_ms=10)) is DUPLICATE
    assert (store.clock_ms, store.exists(b"a"), store.exists(b"b")) == (10, False, True)
    assert apply_batch(store, numbered(1, 3, now_ms=20)) is GAP
    assert (store.clock_ms, store.exists(b"b")) == (20, False)


def test_origins_survive_in_the_parts_so_that_a_restart_forgets_no_duplicate() -> None:
    store, restored = Store(), Store()
    apply_batch(store, numbered(1, 1))
    restored.restore(view_of(store))
    assert apply_batch(restored, numbered(1, 1)) is DUPLICATE
    assert restored.get(b"n") == b"1"


# Nonsense


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"garbage" * 10, id="garbage"),
        pytest.param(BATCH_HEADER.pack(1, 0, 0, TIME_MS_MAX + 1, 0, 0), id="time out of range"),
    ],
)
def test_a_batch_without_a_head_is_one_refusal_and_changes_nothing(batch: bytes) -> None:
    """Seed, defect 12: a payload that made no sense brought the node down."""
    store = store_with(insert(b"k", ttl_ms=10), now_ms=5)
    before = store.digest()
    outcome = apply_batch(store, batch)
    assert isinstance(outcome, list)
    (refusal,) = outcome
    assert isinstance(refusal, Refusal)
    assert refusal.code == "ERR"
    assert store.digest() == before


def test_a_batch_whose_commands_do_not_decode_is_one_refusal_and_uses_up_its_sequence() -> None:
    store = Store()
    head = batch_of(now_ms=7, origin=b"n1", epoch=1, sequence=1)
    assert apply_batch(store, head + b"\xff\xff") == [
        Refusal("ERR", "the commands of the batch do not decode")
    ]
    assert store.clock_ms == 7
    assert apply_batch(store, numbered(1, 1)) is DUPLICATE
    assert apply_batch(store, numbered(1, 2)) == [1]


def test_an_anonymous_nonsense_command_is_one_refusal() -> None:
    assert apply_batch(Store(), wrap_command(b"\xff\xff")) == [
        Refusal("ERR", "the commands of the batch do not decode")
    ]


def test_a_batch_of_a_newer_program_is_fatal_and_changes_nothing() -> None:
    store = store_with(insert(b"k", ttl_ms=10))
    before = store.digest()
    with pytest.raises(Fatal):
        apply_batch(store, BATCH_HEADER.pack(BATCH_VERSION + 1, 0, 0, 99, 0, 0))
    assert store.digest() == before


def test_an_empty_batch_moves_the_clock_and_has_no_results() -> None:
    store = store_with(insert(b"k", ttl_ms=10))
    assert apply(store, now_ms=10) == []
    assert not store.exists(b"k")


def test_the_seeds_own_insert_with_a_ttl_is_leased_on_the_replicated_clock() -> None:
    """WriteCommand{insert{key "k", value "v", ttl_secs 5}} as the seed's bytes."""
    store = Store()
    wire = b"\x0a\x08\x0a\x01k\x12\x01v\x18\x05"
    assert apply_batch(store, wrap_command(wire, now_ms=1000)) == [True]
    assert store.deadline_ms(b"k") == 6000


# Parts, reset, digest


def full_store() -> Store:
    store = store_with(insert(b"a", b"1", ttl_ms=100), put((b"b", b""), (b"", b"x")), now_ms=5)
    apply_batch(store, numbered(2, 1))
    return store


def test_a_restored_view_is_the_same_store() -> None:
    store, restored = full_store(), store_with(insert(b"gone", ttl_ms=1), now_ms=99)
    restored.scan_prefix(b"")
    restored.restore(view_of(store))
    assert view_of(restored) == view_of(store)
    assert restored.digest() == store.digest()
    assert restored.scan_prefix(b"") == store.scan_prefix(b"")
    assert restored.next_deadline_ms() == 105


def test_a_view_does_not_see_what_comes_after_it() -> None:
    store = full_store()
    view = store.freeze()
    apply(store, delete(b"a"), put((b"b", b"changed"), (b"new", b"")), now_ms=50)
    apply_batch(store, numbered(2, 2))
    assert view == view_of(full_store())


def test_reads_are_right_before_beside_and_after_a_view_a_backlog_and_a_flush(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`get` is chosen anew when what it has to look at changes: each of these moments is one."""
    monkeypatch.setattr("statemachine.keyspace.EXPIRE_PER_BATCH_MAX", 1)
    store = Store()

    def after(*commands: WriteCommand, now_ms: int = 0) -> tuple[bytes | None, bytes | None]:
        store.apply_batch(batch_of(*commands, now_ms=now_ms), 1)
        return store.get(b"a"), store.get(b"b")

    assert after(insert(b"a", b"1"), insert(b"b", b"1")) == (b"1", b"1")
    store.freeze()
    assert after(insert(b"a", b"2"), delete(b"b")) == (b"2", None)
    store.thaw()
    assert (store.get(b"a"), store.get(b"b")) == (b"2", None)
    store.fold(10)
    assert after(insert(b"b", b"3", ttl_ms=5), insert(b"a", b"3", ttl_ms=5)) == (b"3", b"3")
    # One of the two is swept, the other is there for nobody all the same.
    assert after(now_ms=5) == (None, None)
    assert after(insert(b"a", b"4"), now_ms=5) == (b"4", None)
    store.freeze()
    assert after(flush(), insert(b"b", b"5")) == (None, b"5")
    store.thaw()
    assert after(grant(10, 1), insert(b"a", b"6", lease=1)) == (b"6", b"5")
    assert after(revoke(1)) == (None, b"5")


def test_parts_that_do_not_fit_together_are_rejected_and_change_nothing() -> None:
    store = full_store()
    before = store.digest()
    with pytest.raises(Rejected, match="a key that is not there"):
        store.restore(parts_of({b"a": b"1"}, {b"nobody": 1}, clock_ms=77))
    assert store.digest() == before


def test_the_digest_covers_all_that_is_stored() -> None:
    values, deadlines, origins = {b"a": b"1", b"b": b"", b"": b"x"}, {b"a": 105}, {b"n1": (2, 1)}
    variants = [
        parts_of(values, deadlines, 5, origins),
        parts_of(values, deadlines, 6, origins),
        parts_of(values, {}, 5, origins),
        parts_of(values, {b"a": 106}, 5, origins),
        parts_of(values, {b"b": 105}, 5, origins),
        parts_of(values, deadlines, 5, {}),
        parts_of(values, deadlines, 5, {b"n1": (2, 2)}),
        parts_of(values, deadlines, 5, {b"n1": (3, 1)}),
        parts_of(values, deadlines, 5, {b"n2": (2, 1)}),
        parts_of(values | {b"b": b"1"}, deadlines, 5, origins),
        parts_of(values | {b"c": b""}, deadlines, 5, origins),
        # The same bytes, cut elsewhere.
        parts_of({b"a": b"1", b"b": b"x", b"": b""}, deadlines, 5, origins),
        parts_of(values, deadlines, 5, origins, revision=2),
    ]
    created, modified = (parts_of(values, deadlines, 5, origins) for _ in "12")
    created.columns.created[b"a"] = 9
    modified.columns.modified[b"a"] = 9
    variants += [created, modified]
    grants = [Grant(7, 100, 105), Grant(7, 101, 105), Grant(7, 100, 106), Grant(8, 100, 105)]
    variants += [replace(variants[2], grants=GrantParts(3, {2: grant})) for grant in grants]
    on_grant = parts_of(values, {b"a": -2}, 5, origins)
    variants += [
        replace(on_grant, grants=GrantParts(3, {2: grants[0]})),
        replace(variants[2], grants=GrantParts(3)),
        replace(variants[2], removals=RemovalParts(4)),
        replace(variants[2], removals=RemovalParts(0, {1: 4})),
        replace(variants[2], removals=RemovalParts(0, {1: 4, 2: 4})),
        replace(variants[2], removals=RemovalParts(0, {2: 4, 1: 4})),
    ]
    digests = []
    for variant in variants:
        store = Store()
        store.restore(variant)
        digests.append(store.digest())
    assert len(set(digests)) == len(variants)


def test_the_digest_of_a_known_history_is_what_it_was() -> None:
    """Replicas of different versions compare digests: it may not change unnoticed."""
    assert (
        full_store().digest().hex()
        == "915b4d7740df96b2d2f34f71e055fdce89d8bfb78bf147ae78bdac39736b3d67"
    )


def test_the_digest_does_not_depend_on_the_order_of_writes_or_on_views() -> None:
    one = store_with(
        put((b"a", b"1"), (b"b", b"2"), (b"d", b"1")), insert(b"c", ttl_ms=9), delete(b"d")
    )
    two = store_with(insert(b"c", ttl_ms=9), put((b"d", b"0"), (b"b", b"2")), put((b"a", b"1")))
    one.freeze()
    apply(one)
    apply(two, delete(b"d"))
    assert two.digest() == one.digest()
    one.thaw()
    assert two.digest() == one.digest()


def test_revisions_say_when_a_key_was_made_and_last_changed() -> None:
    store = store_with(put((b"k", b"1")))
    apply(store, put((b"k", b"2")))
    apply(store, expire(b"k", ttl_ms=50))
    facts = store.facts(b"k")
    assert facts is not None
    assert (facts.value, facts.created, facts.modified, facts.deadline_ms) == (b"2", 1, 3, 50)
    apply(store, delete(b"k"))
    assert store.facts(b"k") is None
    apply(store, put((b"k", b"3")))
    facts = store.facts(b"k")
    assert facts is not None
    assert (facts.created, facts.modified) == (5, 5)


def test_a_key_that_fell_due_is_made_anew_not_changed() -> None:
    for writes in (put((b"k", b"2")), insert(b"k", b"2"), swap(b"k", None, b"2")):
        store = store_with(insert(b"k", b"1", ttl_ms=10))
        apply(store, writes, now_ms=10)
        facts = store.facts(b"k")
        assert facts is not None
        assert (facts.created, facts.modified) == (2, 2)
