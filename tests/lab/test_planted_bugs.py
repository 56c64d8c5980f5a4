"""Bugs that are planted in real nodes, at their start and by their public names: all are found out.

Each is a module `sitecustomize` that a node's Python imports before anything else. The server that
lies (liar.py) covers more lies; these show that a real cluster cannot hide one either.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node.cli import main
from tests.support.supervised import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.stress, pytest.mark.timeout(90)]

STALE_READ = """
# A cache that nobody told of writes: now and then a read gets what the key held some time ago.
import itertools
from statemachine import FileStateMachine
turn, old = itertools.count(1), {}
def seen(key, value):
    number = next(turn)
    if number % 40 == 0 and key in old:
        return old[key]
    if number % 20 == 1:
        old[key] = value
    return value
get, get_many = FileStateMachine.get, FileStateMachine.get_many
FileStateMachine.get = lambda self, key: seen(key, get(self, key))
FileStateMachine.get_many = lambda self, keys: list(map(seen, keys, get_many(self, keys)))
"""

OLD_REVISION = """
# Values are as they should be; now and then the revision that is told is of the change before.
import dataclasses, itertools
from statemachine import FileStateMachine
turn, inner = itertools.count(1), FileStateMachine.facts
def facts(self, key):
    found = inner(self, key)
    if found is not None and next(turn) % 40 == 0:
        found = dataclasses.replace(found, modified=found.modified - 1)
    return found
FileStateMachine.facts = facts
"""

LOST_WRITE = """
# Now and then a write is acknowledged and nothing is stored, on all replicas alike.
from statemachine.keyspace import Keyspace
inner = Keyspace.assign_many
def assign_many(self, keys, values):
    if self.revision % 30 != 7:
        inner(self, keys, values)
Keyspace.assign_many = assign_many
"""

DOUBLE_APPLY = """
# Now and then a command is run twice, on all replicas alike.
from statemachine import store
inner = store.run
def run(keys, command, results):
    if keys.revision % 30 == 7:
        inner(keys, command, [])
    inner(keys, command, results)
store.run = run
"""

ONE_REPLICA = """
# The same on one replica only: no client may ever notice, the digests do.
import sys
from statemachine import store
inner = store.run
def run(keys, command, results):
    if keys.revision % 30 == 7 and "n3.toml" in sys.argv[-1]:
        inner(keys, command, [])
    inner(keys, command, results)
store.run = run
"""

EARLY_EXPIRY = """
# The leader's clock runs twice as fast as time.
from node import clock
inner = clock.LeaderClock.now_ms
clock.LeaderClock.now_ms = lambda self: 2 * inner(self) - self._base_ms
"""


def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str, kind: str) -> set[str]:
    """Run kill-leader on nodes with this bug; the promises that were found broken."""
    (tmp_path / "bug").mkdir()
    (tmp_path / "bug/sitecustomize.py").write_text(bug, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "bug"))
    words = ["lab", "run", str(ROOT / "configs/lab/kill-leader.toml"), "--runs", "1"]
    words += ["--set", f"workload.kind={kind}", "--set", "times.run_s=1.5"]
    code = main([*words, "--out", str(tmp_path / "out")])
    result = json.loads((tmp_path / "out/runs/001/result.json").read_text(encoding="utf-8"))
    broken = {each["name"] for each in result["verdicts"] if each["verdict"] == "broken"}
    assert code == (1 if broken else 0)
    return broken


def test_a_stale_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = planted(tmp_path, monkeypatch, STALE_READ, "register")
    assert {"linearizable", "stale (linearizable)"} <= broken


def test_an_old_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert planted(tmp_path, monkeypatch, OLD_REVISION, "register") == {"revisions"}


def test_a_lost_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "unique writes" in planted(tmp_path, monkeypatch, LOST_WRITE, "set")


def test_a_double_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"linearizable", "sums"} <= planted(tmp_path, monkeypatch, DOUBLE_APPLY, "counter")


def test_a_replica_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "digests" in planted(tmp_path, monkeypatch, ONE_REPLICA, "counter")


def test_an_early_expiry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "leases" in planted(tmp_path, monkeypatch, EARLY_EXPIRY, "ttl")


def test_nothing_planted_nothing_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert planted(tmp_path, monkeypatch, "planted = False\n", "ttl") == set()
