"""The simulation's own parts: the same seed is the same run, and each fault does what it says."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from statemachine.errors import DiskFailed
from tests.simulation.clients import Client
from tests.simulation.disk import SimDisk
from tests.simulation.loop import Died, Life, SimLoop, life_now
from tests.simulation.plan import KINDS, PROFILES, Plan
from tests.simulation.run import run
from tests.simulation.world import World
from tests.support.crash import Crash

ROOT = Path(__file__).resolve().parents[2]


def test_the_same_seed_is_the_same_timeline_byte_for_byte() -> None:
    plan = Plan.of(5, "everything")
    one, other = run(plan, tracing=True), run(plan, tracing=True)
    assert len(one.lines) > 300
    assert one.lines == other.lines
    assert one.fingerprint == other.fingerprint
    assert run(Plan.of(6, "everything"), tracing=True).lines != one.lines


def test_the_timeline_does_not_depend_on_the_order_of_sets() -> None:
    """Goal: no order of a set of names reaches the wire. Method: processes with other hashes."""
    program = (
        "from tests.simulation.plan import Plan\n"
        "from tests.simulation.run import run\n"
        "for seed, profile in ((4, 'everything'), (9, 'disk'), (7, 'swizzle')):\n"
        "    print(run(Plan.of(seed, profile), tracing=True).fingerprint)\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "77")
    }
    assert len(told) == 1
    assert len(told.pop().split()) == 3


def test_a_plan_is_plain_data() -> None:
    for profile in PROFILES:
        plan = Plan.of(11, profile)
        assert Plan.loads(plan.dumps()) == plan
        assert Plan.of(11, profile) == plan
    assert {kind for kinds in PROFILES.values() for kind in kinds} == KINDS.keys()


def test_leaving_a_fault_out_changes_no_other() -> None:
    plan = Plan.of(3, "everything")
    assert len({fault.seed for fault in plan.faults}) == len(plan.faults) > 3


def _loop() -> tuple[SimLoop, list[str]]:
    told: list[str] = []
    return SimLoop(lambda life, error, text: told.append(repr(error))), told


def test_nothing_of_a_dead_process_ever_runs() -> None:
    loop, told = _loop()
    life, other = Life(None, 1), Life(None, 2)
    ran: list[str] = []
    loop.call_later(1.0, ran.append, "never", context=life.context)
    loop.call_later(1.0, ran.append, "other", context=other.context)
    loop.call_later(2.0, loop.stop)
    life.dead = True
    loop.run_forever()
    assert ran == ["other"]
    assert told == []
    loop.close()


def test_a_paused_process_goes_on_where_it_was() -> None:
    loop, _ = _loop()
    life = Life(None, 1)
    ran: list[tuple[str, float]] = []

    def note(what: str) -> None:
        assert life_now() is life
        ran.append((what, loop.time() - 1000.0))

    loop.call_later(1.0, note, "late", context=life.context)
    loop.call_later(2.0, note, "later", context=life.context)
    life.paused = True
    loop.call_later(5.0, loop.resume, life)
    loop.call_later(6.0, loop.stop)
    loop.run_forever()
    assert ran == [("late", 5.0), ("later", 5.0)]
    loop.close()


def test_a_loop_in_which_time_stands_still_says_so() -> None:
    loop, told = _loop()

    def again() -> None:
        if not told:
            loop.call_soon(again)
        else:
            loop.stop()

    loop.call_soon(again)
    loop.run_forever()
    assert "livelock" in told[0]
    loop.close()


def _written(disk: SimDisk, steps: list[Callable[[], object]]) -> int:
    """How many steps were done before the power went."""
    for number, step in enumerate(steps):
        try:
            step()
        except Died:
            return number
    return len(steps)


@pytest.mark.parametrize("at", range(1, 6))
def test_power_goes_within_a_call_and_what_was_synced_stays(at: int) -> None:
    disk, path = SimDisk(), Path("/d/f")
    disk.make_dir(Path("/d"))
    died: list[str] = []
    disk.on_death = died.append
    file = disk.open_log(path, create=True)
    disk.sync_dir(path.parent)
    disk.die_at(at, Crash.SYNCED, 1)
    done = _written(
        disk,
        [
            lambda: file.write([b"one"]),
            file.sync,
            lambda: file.write([b"two"]),
            file.sync,
            lambda: file.write([b"three"]),
        ],
    )
    assert done == at - 1
    assert died == [["write", "sync", "write", "sync", "write"][at - 1]]
    survivor = disk.survivor
    assert survivor is not None
    assert survivor.content(path) == [b"", b"one", b"one", b"onetwo", b"onetwo"][at - 1]
    with pytest.raises(Died):
        file.write([b"a zombie"])


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("sticky", [True, False])
def test_a_disk_fails_one_change_or_all_that_follow(done: bool, sticky: bool) -> None:
    disk, path = SimDisk(), Path("/d/f")
    disk.make_dir(Path("/d"))
    file = disk.open_log(path, create=True)
    disk.fail_at(2, done=done, sticky=sticky)
    file.write([b"one"])
    with pytest.raises(DiskFailed):
        file.write([b"two"])
    assert disk.content(path) == (b"onetwo" if done else b"one")
    if sticky:
        with pytest.raises(DiskFailed):
            file.sync()
    else:
        file.sync()


def test_a_full_disk_takes_no_write_and_still_syncs_and_removes() -> None:
    disk, path = SimDisk(), Path("/d/f")
    disk.make_dir(Path("/d"))
    file = disk.open_log(path, create=True)
    file.write([b"one"])
    disk.full = True
    with pytest.raises(DiskFailed, match="No space left"):
        file.write([b"two"])
    assert disk.free_bytes(path) == 0
    file.sync()
    disk.unlink(path)
    assert disk.full
    assert not disk.exists(path)


@pytest.mark.parametrize(("by", "wrong"), [(5, False), (3, True)])
def test_a_belated_leader_may_lack_what_a_later_term_committed(
    tmp_path: Path, by: int, wrong: bool
) -> None:
    """Goal: who wakes up and counts its votes of term 4 when term 5 has long committed (seed 20570)
    is no violation; who lacks what term 3 committed is one."""
    with World(Plan.of(1, "calm"), tmp_path) as world:
        host = world.hosts["n1"]
        life = Life(host, 1)
        raft: Any = SimpleNamespace(
            term=lambda: 4,
            journal=SimpleNamespace(last_index=9, memory_index=1, term_at=lambda index: 3),
        )
        world.oracles.last_committed = 10
        world.oracles.committed = {9: (3, 0), 10: (by, 0)}
        world.oracles._committed_by = {9: 3, 10: by}
        world.oracles.leads(life, raft)
        assert [line for line in world.violations if "is committed" in line] == (
            ["at 0.0000 s: n1 leads term 4 to 9, 10 is committed"] if wrong else []
        )


def test_a_world_puts_everything_back(tmp_path: Path) -> None:
    """What is replaced for a world is replaced for as long as it lasts."""
    import node.app
    import node.core
    import node.transport

    before = (node.core.Links, node.core.FileJournal, node.app.Server, node.app.Core)
    hashed = node.transport.Peer.__hash__
    with World(Plan.of(1, "calm"), tmp_path) as world:
        assert node.core.Links != before[0]
        assert isinstance(Client(world, 1).chance, random.Random)
    assert (node.core.Links, node.core.FileJournal, node.app.Server, node.app.Core) == before
    assert node.transport.Peer.__hash__ is hashed
