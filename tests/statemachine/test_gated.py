"""support/gated.py: background work takes the steps that it is let take, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from statemachine import WalConfig
from statemachine.fs import FileSystem
from tests.statemachine.machines import HOME, applied, machine_on
from tests.support.crash import MemoryDisk
from tests.support.gated import Gate, GatedDisk
from tests.support.hand_driven import HandDriven

CHANGES = 6
"""Of a first checkpoint: its file, rename, sync_dir, an old segment, sync_dir; and then its end."""


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr("statemachine.job.threading", HandDriven())
    return Gate()


def gated(gate: Gate, **options: Any) -> tuple[Any, MemoryDisk, list[str]]:
    """A machine with something to write, its disk, and the steps that the disk has seen."""
    steps: list[str] = []
    disk = MemoryDisk(steps.append)
    behind: FileSystem = GatedDisk(disk, gate)
    machine = applied(machine_on(behind, **options), 1, 3)
    steps.clear()
    return machine, disk, steps


def test_nothing_happens_before_it_is_let(gate: Gate) -> None:
    machine, _, steps = gated(gate)
    assert machine.flush_async()
    begun = list(steps)
    assert not machine.poll_background()
    assert steps == begun
    machine.close()


def test_each_step_is_one_call_and_is_over_when_let_returns(gate: Gate) -> None:
    machine, disk, steps = gated(gate)
    assert machine.flush_async()
    steps.clear()
    image = Path(HOME / "checkpoint" / "0000000000000002.img")
    gate.let(1)
    assert not disk.exists(image)
    assert "rename" not in steps
    gate.let(1)
    assert disk.exists(image)
    assert not machine.poll_background()
    gate.let(CHANGES)
    assert machine.poll_background()
    machine.close()


def test_work_that_its_owner_waits_for_goes_on_by_itself_and_no_other_does(gate: Gate) -> None:
    machine, disk, _ = gated(gate, wal=WalConfig(sync="checkpoint", segment_bytes_max=1 << 20))
    assert machine.flush_async()
    files = disk.files()
    for _ in range(3):
        machine.poll_background()  # The idle log is synced by a thread.
    machine.flush()  # Waits for that one.
    assert [path for path in disk.files() if path.suffix == ".img"] == []
    assert set(files) <= set(disk.files())
    machine.checkpoint()
    assert [path.suffix for path in disk.files()].count(".img") == 1
    machine.close()


def test_what_is_given_up_stops_where_it_stood(gate: Gate) -> None:
    machine, disk, _ = gated(gate)
    assert machine.flush_async()
    machine.close()
    assert [path for path in disk.files() if path.suffix == ".img"] == []


def test_finish_lets_all_of_it_run(gate: Gate) -> None:
    machine, _, _ = gated(gate)
    assert machine.flush_async()
    gate.finish()
    assert machine.poll_background()
    machine.close()
