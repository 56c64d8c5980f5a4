"""Pitfalls P20, P22, P23 and P27 of PySyncObj: lost disks, dumps made in the tick, local reads.

Each pitfall has a test that shows it on the bare library (`test_pysyncobj_...`): when one of those
fails, the library has been mended or changed, and the defence may be looked at again. The others
show the defence with whole nodes (tests/support/simulated.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from pysyncobj import SyncObj
from pysyncobj.journal import MemoryJournal

from node.errors import Unavailable
from tests.support.bare import Bare, bare_clock
from tests.support.crash import MemoryDisk
from tests.support.simulated import Simulation, outcome_of


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with bare_clock():
        yield


# -- P20: a node that lost its disk votes again --------------------------------------------------


def _votes_of(voter: Bare) -> list[str]:
    return [to for to, _ in voter.sent("response_vote")]


def test_pysyncobj_that_lost_its_disk_votes_again_in_the_same_term() -> None:
    request: dict[str, Any] = {"type": "request_vote", "term": 5}
    request |= {"last_log_index": 9, "last_log_term": 4}
    voter = Bare("n3", ["n1", "n2"])
    voter.receive("n1", **request)
    voter.receive("n2", **request)
    assert _votes_of(voter) == ["n1"]
    wiped = Bare("n3", ["n1", "n2"])  # the same id on an empty disk
    wiped.receive("n2", **request)
    assert _votes_of(wiped) == ["n2"]  # two leaders of term 5


def test_a_node_that_lost_its_disk_elects_nobody(tmp_path: Path) -> None:
    """n1 leads; n3 is wiped, n2 was cut off and is behind. Without n1 nobody may lead: n2 and the
    new n3 together would be a majority that knows nothing of what n1 and the old n3 committed."""
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            cut_off, wiped = sim.others(leader)
            await sim.settle()
            sim.isolate(cut_off)
            assert await leader.set(b"acknowledged", b"1") is True
            leader.crash()
            wiped.crash()
            wiped.disk = MemoryDisk()
            sim.may_fail.add(wiped.id)  # it may be told that it is a stranger, and stops
            await wiped.start()
            sim.network.heal()
            await asyncio.sleep(10)
            running = [node for node in (cut_off, wiped) if node.is_running]
            assert cut_off in running
            assert not any(node.is_leader for node in running)
            await leader.start()
            await sim.until(lambda: leader.is_leader and leader.core.is_ready())
            assert await cut_off.get(b"acknowledged") == b"1"

        sim.run(story())


# -- P22: a dump is made within the tick ---------------------------------------------------------


def _compacting(tmp_path: Path, serializer: Any) -> Bare:
    bare = Bare(
        "n1",
        ["n2", "n3"],
        fullDumpFile=str(tmp_path / "dump"),
        serializer=serializer,
        deserializer=lambda path: None,
        logCompactionMinTime=1 << 30,
        logCompactionMinEntries=1 << 30,
    )
    bare.lead()
    for number in range(5):
        bare.propose(b"%d" % number)
    bare.acknowledged("n2", 7)
    bare.tick()
    bare.forceLogCompaction()
    return bare


def test_pysyncobj_sends_no_heartbeat_while_its_serializer_runs(tmp_path: Path) -> None:
    sent: list[int] = []

    def serializer(path: str, data: object) -> None:
        Path(path).write_bytes(b"dump")
        bare.wire.messages.clear()
        bare.advance(0.5)  # a long one
        sent.append(len(bare.wire.messages))

    bare = _compacting(tmp_path, serializer)
    bare.tick()
    assert sent == [0]  # within the tick, which stood still


def test_a_snapshot_is_never_made_by_pysyncobj_and_costs_no_heartbeat(tmp_path: Path) -> None:
    with (
        mock.patch("pysyncobj.serializer.Serializer.serialize") as serialize,
        Simulation(3, tmp_path) as sim,
    ):

        async def story() -> None:
            leader = await sim.ready()
            term = leader.core.raft.term()
            for number in range(30):
                await leader.set(b"key%d" % number, b"value")
            for node in sim.nodes.values():
                await node.snapshot()
                node.journal.cut_below(node.core.machine.last_applied.index - 1)
            await asyncio.sleep(5)
            assert leader.is_leader
            assert leader.core.raft.term() == term

        sim.run(story())
        assert serialize.call_count == 0


# -- P23: a leftover temporary file becomes the dump ---------------------------------------------


def test_pysyncobj_takes_a_leftover_for_its_dump_when_the_serializer_returns_at_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "dump.tmp").write_bytes(b"of an earlier life")
    bare = _compacting(tmp_path, lambda path, data: None)  # its work goes on elsewhere
    bare.tick()
    assert (tmp_path / "dump").read_bytes() == b"of an earlier life"


def test_leftovers_of_an_earlier_life_are_taken_for_nothing(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            for number in range(30):
                await leader.set(b"key%d" % number, b"value")
            await sim.settle()
            await leader.snapshot()
            leader.crash()
            (leader.data_dir / "journal" / "token.tmp").write_bytes(b"of an earlier life")
            for name in ("snapshot/incoming.tmp", "snapshot/installing.tmp"):
                leader.disk.make_dir(leader.data_dir / name)
                leader.disk.write_new(leader.data_dir / name / "snapshot.bin", [b"half of one"])
            leader.disk.write_new(leader.data_dir / "checkpoint" / "x.tmp", [b"half of one"])
            await leader.start()
            await sim.settle()
            assert len(sim.digests()) == 1
            assert not [path for path in leader.disk.files() if ".tmp" in str(path)]

        sim.run(story())


# -- P27: reads from memory, and no other ones ---------------------------------------------------


def test_pysyncobj_reads_an_old_value_on_a_leader_that_was_deposed_and_knows_it_not() -> None:
    """A local read is all that there is: nothing asks a majority."""
    old = Bare("n1", ["n2", "n3"])
    old.lead()
    old.propose(b"old")
    old.acknowledged("n2", 3)
    old.tick()
    copied = MemoryJournal()
    for each in old._SyncObj__raftLog[:]:
        copied.add(*each)
    new = Bare("n2", ["n1", "n3"], copied)
    new.lead()
    new.propose(b"new")
    new.acknowledged("n3", 9)
    new.tick()
    old.advance(5)  # cut off; nobody has told it
    old.tick()
    assert new.is_leader
    assert new.applied[-1] == b"new"
    assert old.is_leader
    assert old.applied == [b"old"]
    assert not [name for name in dir(SyncObj) if "readindex" in name.lower().replace("_", "")]


def test_a_leader_that_was_cut_off_answers_no_linearizable_read(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            old = await sim.ready()
            await old.set(b"key", b"old")
            sim.isolate(old, notice_s=60)  # and nothing tells it so
            others = sim.others(old)
            await sim.until(lambda: any(node.is_leader for node in others))
            assert await others[0].set(b"key", b"new") is True
            reads = [
                sim.loop.create_task(outcome_of(old.get(b"key", consistency=level)))
                for level in ("linearizable", "lease")
            ]
            assert await old.get(b"key", consistency="eventual") == b"old"
            await sim.until(lambda: all(read.done() for read in reads))
            assert [type(read.result()) for read in reads] == 2 * [Unavailable]

        sim.run(story())
