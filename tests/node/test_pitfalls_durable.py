"""Pitfalls P12 to P16 of PySyncObj: dumps, the persisted commit index, its own journal.

Each pitfall has a test that shows it on the bare library (`test_pysyncobj_...`): when one of those
fails, the library has been mended or changed, and the defence may be looked at again. The others
show the defence with whole nodes that crash (tests/support/simulated.py, tests/support/crash.py).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from pysyncobj.journal import FileJournal as StockJournal
from pysyncobj.journal import MemoryJournal

from node import wire
from node.entry import NOOP_COMMAND
from node.errors import Fatal
from tests.support.bare import Bare, bare_clock
from tests.support.crash import Crash
from tests.support.fence import entry
from tests.support.simulated import SimulatedNode, Simulation


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with bare_clock():
        yield


def journal_of(*entries: Any) -> MemoryJournal:
    journal = MemoryJournal()
    for each in entries:
        journal.add(*each)
    return journal


async def cut_everywhere(sim: Simulation, keys: int = 30) -> SimulatedNode:
    """Write, make a snapshot on every node, and cut every journal close behind it."""
    leader = await sim.ready()
    for node in sim.nodes.values():
        node.journal._files._segment_bytes_max = 256  # whole segments are cut
    for number in range(keys):
        await leader.set(b"key%d" % number, b"value")
    await sim.settle()
    for node in sim.nodes.values():
        await node.snapshot()
        journal = node.journal
        journal.cut_below(node.core.machine.last_applied.index - 1)
    assert all(node.journal.first_index > 1 for node in sim.nodes.values())
    return leader


# -- P12: a dump that does not load --------------------------------------------------------------


def test_pysyncobj_goes_on_empty_when_its_dump_does_not_load(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(path: str) -> Any:
        raise OSError("unreadable")

    dump = tmp_path / "dump"
    dump.touch()
    bare = Bare(
        "n1",
        ["n2", "n3"],
        fullDumpFile=str(dump),
        serializer=lambda path, data: None,
        deserializer=broken,
    )
    bare.tick()
    assert "failed to load full dump" in caplog.text
    bare.lead()


def test_a_node_whose_place_in_the_journal_is_not_found_does_not_start(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await cut_everywhere(sim)
            leader.crash(Crash.ALL)
            broken = mock.patch("node.raft.Raft._first_entries", side_effect=OSError("unreadable"))
            with broken, pytest.raises(Fatal, match="did not start at journal entry"):
                await leader.start()
            sim.nodes.pop(leader.id)

        sim.run(story())


# -- P13: a dump that does not fit the journal ---------------------------------------------------


def test_pysyncobj_clears_a_journal_whose_first_entries_are_not_the_dump_s(tmp_path: Path) -> None:
    entries = [(NOOP_COMMAND, 1, 0), *(entry(index, 1) for index in range(2, 9))]
    dump = tmp_path / "dump"
    dump.touch()
    bare = Bare(
        "n1",
        ["n2", "n3"],
        journal_of(*entries),
        fullDumpFile=str(dump),
        serializer=lambda path, data: None,
        deserializer=lambda path: (entries[4], entries[3], set()),
    )
    bare.tick()
    assert bare.log == [(4, 1), (5, 1)]


@pytest.mark.parametrize("how", list(Crash))
def test_acknowledged_entries_behind_a_snapshot_survive_a_crash_of_all_nodes(
    tmp_path: Path, how: Crash
) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await cut_everywhere(sim)
            for number in range(10):
                await leader.set(b"later%d" % number, b"value")
            for node in sim.nodes.values():
                node.crash(how, seed=5)
            await sim.start()
            for number in range(10):
                assert await sim.nodes["n1"].get(b"later%d" % number) == b"value"
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())


@pytest.mark.parametrize("steps", range(1, 14))
def test_a_crash_at_any_step_of_a_snapshot_s_installation_leaves_a_node_that_starts_again(
    tmp_path: Path, steps: int
) -> None:
    """The machine is killed at the n-th change of its disk after the snapshot has arrived."""
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            behind = sim.others(leader)[0]
            sim.isolate(behind)
            for number in range(30):
                await leader.set(b"key%d" % number, b"value")
            for node in sim.others(behind):
                await node.snapshot()
                node.journal.cut_below(node.core.machine.last_applied.index - 1)
            left = [steps]
            taken: list[Any] = []

            def count(step: str) -> None:
                left[0] -= 1
                if left[0] == 0:
                    taken.append(behind.disk.crashed(Crash.SYNCED))

            receive = behind.core.snapshots._install

            def install(stream: Any) -> None:
                behind.disk.on_step = count
                receive(stream)

            behind.core.snapshots._install = install  # type: ignore[method-assign]
            sim.network.heal()
            await sim.until(lambda: bool(taken), within_s=3)
            behind.crash()
            behind.disk = taken[0]
            await behind.start()
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())


# -- P14: a persisted commit index ---------------------------------------------------------------


def test_pysyncobj_acknowledges_what_nobody_has_after_a_persisted_commit_index() -> None:
    class Remembering(MemoryJournal):  # type: ignore[misc]
        def getRaftCommitIndex(self) -> int:
            return 9

    bare = Bare("n1", ["n2", "n3"], Remembering())
    bare.lead()
    bare.propose(b"nobody else has this")
    bare.tick()
    assert bare.applied == [b"nobody else has this"]


def test_a_restarted_node_knows_no_commit_index_until_its_leader_tells(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            await leader.set(b"key", b"value")
            await sim.settle()
            away = sim.others(leader)[0]
            away.crash(Crash.ALL)
            sim.isolate(away)
            await away.start()
            assert away.core.raft.commit_index() == 1
            assert not away.core.is_ready()
            assert away.journal.getRaftCommitIndex() == 1

        sim.run(story())


# -- P15: a failed install is acknowledged -------------------------------------------------------


def test_pysyncobj_acknowledges_its_old_log_when_an_install_failed(tmp_path: Path) -> None:
    def broken(path: str) -> Any:
        raise OSError("unreadable")

    bare = Bare(
        "n2",
        ["n1", "n3"],
        journal_of((NOOP_COMMAND, 1, 0), entry(2, 1), entry(3, 1)),
        fullDumpFile=str(tmp_path / "dump"),
        serializer=lambda path, data: None,
        deserializer=broken,
    )
    bare.tick()
    bare.receive("n1", type="append_entries", term=2, commit_index=0, serialized=(b"", True, True))
    ((_, message),) = bare.sent("next_node_idx")
    assert message["success"]
    assert message["next_node_idx"] == 4


def test_a_failed_install_is_not_acknowledged_and_ends_the_node(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            behind = sim.others(leader)[0]
            sim.isolate(behind)
            for number in range(30):
                await leader.set(b"key%d" % number, b"value")
            for node in sim.others(behind):
                await node.snapshot()
                node.journal.cut_below(node.core.machine.last_applied.index - 1)
            sim.may_fail.add(behind.id)
            serializer = behind.core.raft._replica._SyncObj__serializer
            serializer._Serializer__deserializer = mock.Mock(side_effect=OSError("unreadable"))
            links, sent = behind.core.links, []

            def send(peer_id: str, frame: bytes) -> bool:
                sent.append(wire.decode(frame[wire.LENGTH.size :]))
                return type(links).send(links, peer_id, frame)

            links.send = send  # type: ignore[method-assign]
            sim.network.heal()
            await sim.until(lambda: bool(behind.failures), within_s=3)
            assert "did not start anew" in str(behind.failures[0])
            assert [message for message in sent if message[0] == wire.ACK and message[4]] == []

        sim.run(story())


# -- P16: the stock journal ----------------------------------------------------------------------


def test_pysyncobj_s_own_journal_never_syncs(tmp_path: Path) -> None:
    with mock.patch.object(os, "fsync") as fsync, mock.patch.object(os, "fdatasync") as fdatasync:
        journal = StockJournal(str(tmp_path / "journal"))
        journal.add(b"\1", 1, 0)
        journal.setCurrentTerm(3, "n1")
        journal.onOneSecondTimer()
        assert fsync.call_count == fdatasync.call_count == 0
    journal._destroy()


def test_pysyncobj_s_own_journal_ends_at_4_gib(tmp_path: Path) -> None:
    journal = StockJournal(str(tmp_path / "journal"))
    with pytest.raises(struct.error):
        journal._FileJournal__setLastRecordOffset(1 << 32)
    journal._destroy()


def test_what_is_acknowledged_survives_a_power_failure_of_all_nodes(tmp_path: Path) -> None:
    """The journal itself is proved by tests/node/test_journal.py and test_journal_files.py."""
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            for number in range(50):
                await leader.set(b"key%d" % number, b"value")
            for node in sim.nodes.values():
                node.crash(Crash.SYNCED)
            await sim.start()
            for number in range(50):
                assert await sim.nodes["n2"].get(b"key%d" % number) == b"value"

        sim.run(story())
