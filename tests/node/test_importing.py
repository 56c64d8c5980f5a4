"""Importing leases: each under its own id or a new one, kept alive on the way, or left out.

Method: a writer that answers from a script of what a node would say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from node import importing
from node.clock import Clock
from node.errors import Rejected
from node.importing import import_rows
from node.transcript import LeaseRow, Row

LATER_MS = 60_000


class Hasty(Clock):
    """A second passes whenever somebody looks."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def wall_ms(self) -> int:
        return 2_000

    def monotonic(self) -> float:
        self.now_s += 1
        return self.now_s


class Store:
    """The leases and keys of a cluster, as far as an import sees them."""

    def __init__(self, *_arguments: object) -> None:
        self.leases: set[int] = {7}
        self.keys: dict[bytes, int | None] = {}
        self.kept: list[int] = []
        self.ends_when_used: int | None = None

    def close(self) -> None: ...

    def write(self, commands: Sequence[Sequence[Any]]) -> list[object]:
        """As a pipeline: all are carried out, and the first refusal is raised."""
        answers = [self._one(*words) for words in commands]
        refused = next((each for each in answers if isinstance(each, Rejected)), None)
        if refused is not None:
            raise refused
        return answers

    def _one(self, name: str, *words: Any) -> object:
        if name == "SET":
            lease = words[3] if words[2:3] == ("LEASE",) else None
            if lease == self.ends_when_used:
                self.leases.discard(lease)
            if lease is not None and lease not in self.leases:
                return Rejected(f"NOLEASE there is no lease {lease}")
            self.keys[words[0]] = lease
            return b"OK"
        action, *rest = words
        if action == "GRANT":
            wanted = rest[2] if len(rest) > 1 else 100
            if wanted in self.leases:
                return Rejected(f"LEASEEXISTS lease {wanted} is there already")
            self.leases.add(wanted)
            return wanted
        if action == "KEEPALIVE":
            self.kept.append(rest[0])
            return 1
        assert action == "TTL"
        return [1, 1, 1] if rest[0] in self.leases else None


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    found = Store()
    monkeypatch.setattr(importing, "_Writer", lambda *_: found)
    return found


def test_a_lease_has_its_id_or_a_new_one_where_a_stranger_has_it(store: Store) -> None:
    rows = [
        LeaseRow(5, 9_000, LATER_MS),
        LeaseRow(7, 9_000, LATER_MS),
        Row(b"a", b"v", LATER_MS, 5),
        Row(b"b", b"v", LATER_MS, 7),
        Row(b"c", b"v"),
    ]
    done = import_rows(rows, [], "", keep=False, clock=Hasty())
    assert store.keys == {b"a": 5, b"b": 100, b"c": None}
    assert (done.written, done.left_out, done.renamed) == (3, 0, {7: 100})


def test_what_hung_on_a_lease_whose_time_is_over_is_left_out(store: Store) -> None:
    rows = [LeaseRow(5, 10, 1_000), Row(b"a", b"v", 1_000, 5), Row(b"b", b"v")]
    done = import_rows(rows, [], "", keep=False, clock=Hasty())
    assert (store.keys, store.leases) == ({b"b": None}, {7})
    assert (done.written, done.left_out) == (1, 1)


def test_a_lease_that_ends_on_the_way_costs_its_own_keys_alone(store: Store) -> None:
    store.ends_when_used = 5
    rows = [
        LeaseRow(5, 9_000, LATER_MS),
        LeaseRow(6, 9_000, LATER_MS),
        Row(b"a", b"v", LATER_MS, 5),
        Row(b"b", b"v", LATER_MS, 6),
    ]
    done = import_rows(rows, [], "", keep=False, clock=Hasty())
    assert store.keys == {b"b": 6}
    assert (done.written, done.left_out) == (1, 1)


def test_leases_are_kept_alive_while_it_goes_on(store: Store) -> None:
    keys = [Row(b"%d" % number, b"v", LATER_MS, 5) for number in range(2_000)]
    rows = [LeaseRow(5, 3_000, LATER_MS), LeaseRow(6, 600_000, LATER_MS), *keys]
    import_rows(rows, [], "", keep=False, clock=Hasty())
    assert store.kept.count(5) >= 3
    assert 6 not in store.kept
