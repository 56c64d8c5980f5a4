"""A small world for machine tests: numbered entries whose states are known in advance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from statemachine import Entry, FileStateMachine
from statemachine.errors import KVError
from statemachine.fs import FileSystem
from statemachine.store import Store
from tests.statemachine.batches import add, batch_of, delete, insert, put, swap

HOME = Path("/data")
"""The directory of machines on a MemoryDisk."""


def machine_on(disk: FileSystem, directory: Path = HOME, **options: Any) -> FileStateMachine:
    return FileStateMachine(directory, disk=disk, **options)


def entry(index: int, term: int = 1) -> Entry:
    """Entry number `index` of a fixed history: numbered batches, leases, swaps, no-ops."""
    key, value = b"k%d" % (index % 5), b"v%d" % index
    if index % 7 == 0:
        return Entry.noop(index, term)
    commands = [
        put((key, value), (b"last", b"%d" % index)),
        add(b"count", 1),
        insert(b"lease%d" % (index % 3), value, ttl_ms=2_500),
        swap(b"k0", b"v5", b"swapped at %d" % index),
        delete(b"k%d" % ((index + 2) % 5)),
    ]
    sequence = index - index // 7  # No-ops use no number.
    chosen = [commands[0], commands[1 + index % 4]]
    payload = batch_of(*chosen, now_ms=1_000 * index, origin=b"n1", epoch=1, sequence=sequence)
    return Entry.batch(index, term, payload)


def digests(count: int) -> list[bytes]:
    """Of the state after each index of the history, from 0."""
    store = Store()
    found = [store.digest()]
    for index in range(1, count + 1):
        each = entry(index)
        if each.payload:
            store.apply_batch(each.payload, index)
        found.append(store.digest())
    return found


def apply_to(machine: FileStateMachine, first: int, last: int) -> Iterator[int]:
    """Apply entries first..last one by one; yields each index once it is acknowledged."""
    for index in range(first, last + 1):
        each = entry(index)
        if each.payload:
            machine.apply(index, each.term, each.payload)
        else:
            machine.skip(index, each.term)
        yield index


def applied(machine: FileStateMachine, first: int, last: int) -> FileStateMachine:
    """The machine, once it has applied entries first..last."""
    for _ in apply_to(machine, first, last):
        pass
    return machine


def refused(error: KVError) -> str:
    """What an operator reads."""
    return f"{type(error).__name__}: {error}"
