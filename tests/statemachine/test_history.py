"""The history: complete from `first` on, bounded, filled by replay, emptied by an install."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine import FileStateMachine, WriteCommand
from statemachine.history import History, HistoryConfig
from statemachine.store import Store
from tests.statemachine import batches as make
from tests.statemachine.strategies import commands, richer_commands
from tests.support.crash import MemoryDisk

Seen = dict[bytes, bytes]


def follow(history: History, seen: Seen, after: int) -> int:
    """Do to `seen` what the history tells; previous values must be what is there."""
    for run in history.since(after + 1):
        assert run.revision >= after
        after = run.revision
        for key, value, previous in run.events():
            if run.operation == "flush":
                seen.clear()
                continue
            assert seen.get(key) == previous, (run, key)
            assert (value is None) == (run.operation in ("del", "expire"))
            assert run.operation != "deadline" or value == previous
            if value is None:
                del seen[key]
            else:
                seen[key] = value
    return after


def watched(**limits: int) -> Store:
    store = Store()
    store.history = History(HistoryConfig(**limits))
    return store


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_who_follows_has_what_the_store_has(data: st.DataObject) -> None:
    """Whatever is done, and however often what is due is left over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("statemachine.keyspace.EXPIRE_PER_BATCH_MAX", data.draw(st.integers(0, 2)))
        store = watched()
        assert store.history is not None
        seen: Seen = {}
        after = clock_ms = 0
        many = st.lists(commands | richer_commands | st.just(make.flush()), max_size=5)
        for written in data.draw(st.lists(many, max_size=8)):
            clock_ms += data.draw(st.integers(0, 60))
            batch = make.batch_of(*written, now_ms=clock_ms)
            store.apply_batch(batch, store.revision + 1)
            after = follow(store.history, seen, after)
            left_over = {key for key in seen if store.get(key) is None}
            assert {key: seen[key] for key in seen.keys() - left_over} == dict(
                store.scan_prefix(b"")[0]
            )
        # What is due and was left over is told once it is swept.
        patch.setattr("statemachine.keyspace.EXPIRE_PER_BATCH_MAX", 1_000)
        store.apply_batch(make.batch_of(now_ms=clock_ms), store.revision + 1)
        follow(store.history, seen, after)
        assert seen == dict(store.scan_prefix(b"")[0])


def test_a_key_that_is_written_twice_in_a_batch_has_its_first_value_between() -> None:
    store = watched()
    assert store.history is not None
    make.apply(store, make.put((b"a", b"0")))
    make.apply(store, make.put((b"a", b"1"), (b"b", b"x"), (b"a", b"2")))
    told = [event for run in store.history.since(2) for event in run.events()]
    assert told == [(b"a", b"1", b"0"), (b"b", b"x", None), (b"a", b"2", b"1")]


def test_the_oldest_revisions_go_whole() -> None:
    store = watched(entries_max=5, bytes_max=10_000)
    history = store.history
    assert history is not None
    assert history.first == 1
    for _ in range(4):
        make.apply(store, make.insert(b"a", b"1"), make.delete(b"a"))
    assert (history.first, len(history)) == (3, 4)
    assert [run.revision for run in history.since(history.first)] == [3, 3, 4, 4]
    make.apply(store, make.put(*((b"k%d" % n, b"") for n in range(9))))
    assert (history.first, len(history)) == (5, 9), "one batch may be more than is kept"
    make.apply(store, make.insert(b"a", b"x" * 20_000))
    assert (history.first, len(history)) == (6, 1)
    assert history.size_bytes == 20_101
    make.apply(store, make.insert(b"a", b""))
    assert (history.first, history.size_bytes) == (7, 20_101), "the previous value counts"
    make.apply(store, make.insert(b"a", b""))
    assert (history.first, history.size_bytes) == (8, 101)


def test_what_is_forgotten_leaves_no_trail() -> None:
    store = watched(entries_max=100)
    history = store.history
    assert history is not None
    for _ in range(10_000):
        make.apply(store, make.insert(b"a", b"1"))
    assert len(history) == 100
    assert len(history._rows) < 2_500
    assert [run.revision for run in history.since(9_999)] == [9_999, 10_000]


def keys_told(machine: FileStateMachine, after: int = 0) -> list[tuple[int, str, bytes]]:
    return [
        (run.revision, run.operation, key)
        for run in machine.history.since(after + 1)
        for key, _, _ in run.events()
    ]


def test_replay_fills_it_and_an_image_or_an_install_begins_it_anew() -> None:
    disk: Any = MemoryDisk()

    def put(machine: FileStateMachine, key: bytes) -> None:
        machine.apply(machine.last_applied.index + 1, 1, make.batch_of(make.put((key, b"v"))))

    machine = FileStateMachine(Path("/data"), disk=disk)
    for key in (b"a", b"b"):
        put(machine, key)
    machine.close()
    machine = FileStateMachine(Path("/data"), disk=disk)
    assert keys_told(machine) == [(1, "set", b"a"), (2, "set", b"b")]
    assert machine.history.first == 1
    machine.checkpoint()
    put(machine, b"c")
    assert keys_told(machine) == [(1, "set", b"a"), (2, "set", b"b"), (3, "set", b"c")]
    machine.close()
    machine = FileStateMachine(Path("/data"), disk=disk)
    assert keys_told(machine) == [(3, "set", b"c")]
    assert machine.history.first == 3
    metadata = machine.generate_snapshot(Path("/other"))
    follower = FileStateMachine(Path("/follower"), disk=disk)
    history = follower.history
    follower.apply_snapshot_from_file(metadata, Path("/other"))
    assert (history.first, keys_told(follower)) == (4, [])
    put(follower, b"d")
    assert keys_told(follower) == [(4, "set", b"d")]
    follower.reset()
    assert (history.first, follower.history is history) == (1, True)


def test_the_state_does_not_depend_on_it() -> None:
    written: list[WriteCommand] = [
        make.put((b"a", b"1"), (b"b", b"2")), make.insert(b"c", ttl_ms=5), make.delete(b"a"),
        make.flush(), make.put((b"z", b"")),
    ]  # fmt: skip
    digests = []
    for store in (Store(), watched(), watched(entries_max=1, bytes_max=1)):
        for command in written:
            make.apply(store, command)
        digests.append(store.digest())
    assert len(set(digests)) == 1
