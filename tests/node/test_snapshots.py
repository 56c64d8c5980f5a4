"""Snapshot streams: the window, what is refused, what ends a stream, and the log that begins anew.

Method: both ends alone, with a real state machine on a MemoryDisk and links that keep what is
sent; then whole nodes (tests/support/simulated.py). Crashes during installation:
tests/node/test_pitfalls_durable.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from node import wire
from node.entry import NOOP_COMMAND
from node.logs import EventLog
from node.snapshots import CHUNK_BYTES, WINDOW_BYTES, Snapshots
from statemachine import FileStateMachine
from statemachine.commands import BatchBuilder
from tests.support.crash import MemoryDisk
from tests.support.fence import FakeJournal, FakeLinks, entry
from tests.support.simulated import SimulatedNode, Simulation

DIRECTORY = Path("/node")


class End:
    """One end of streams. `keys` entries of 4 KB are in the state, applied at 11, 12, ..."""

    def __init__(self, keys: int = 0, snapshot: bool = False) -> None:
        self.disk = MemoryDisk()
        self.machine = FileStateMachine(DIRECTORY, disk=self.disk, lock=False)
        for number in range(keys):
            builder = BatchBuilder()
            builder.put(b"key%d" % number, number.to_bytes(4, "big") * 1000)
            self.machine.apply(11 + number, 3, builder.build())
        if snapshot:
            self.machine.generate_snapshot()
        self.links = FakeLinks("peer")
        self.journal = FakeJournal()
        self.term = 5
        self.follows = True
        self.installed: list[tuple[str, int, int]] = []
        self.snapshots = Snapshots(
            self.machine,
            self.links,  # type: ignore[arg-type]
            self.journal,  # type: ignore[arg-type]
            term=lambda: self.term,
            settled_index=lambda: self.machine.last_applied.index,
            follow=lambda peer, term: self.follows,
            installed=lambda *what: self.installed.append(what),
            log=EventLog("n1"),
        )

    def take(self) -> list[wire.Message]:
        taken, self.links.sent = self.links.sent, []
        return [message for _, message in taken]

    def receive(self, message: wire.Message) -> None:
        self.snapshots.receive("peer", message)


def sent_bytes(messages: list[wire.Message]) -> int:
    return sum(len(message[2]) for message in messages if message[0] == wire.SNAPSHOT_CHUNK)


def carry(leader: End, follower: End, change: Callable[[wire.Message], Any] = id) -> None:
    """Bring everything across, both ways, until nobody says anything more."""
    while messages := leader.take():
        for message in messages:
            change(message)
            follower.receive(message)
        for message in follower.take():
            leader.receive(message)


@pytest.fixture(scope="module")
def big() -> End:
    """A leader whose snapshot is several windows long. Streams leave it as it is."""
    return End(keys=1500, snapshot=True)


@pytest.fixture
def leader(big: End) -> End:
    big.snapshots.abort("peer")
    big.take()
    big.links.open = {"peer"}
    return big


# -- the leader's end ----------------------------------------------------------------------------


def test_a_stream_begins_with_what_it_is_and_stops_at_the_window(leader: End) -> None:
    leader.snapshots.send_to("peer")
    begin, *chunks = leader.take()
    metadata = leader.machine.snapshot_metadata
    assert metadata is not None
    assert metadata.size_bytes > 2 * WINDOW_BYTES
    assert begin == [wire.SNAPSHOT_BEGIN, 5, 1510, 3, metadata.size_bytes, metadata.checksum]
    assert WINDOW_BYTES <= sent_bytes(chunks) < WINDOW_BYTES + CHUNK_BYTES
    assert leader.snapshots.is_sending_to("peer")


def test_each_acknowledgement_moves_the_window_on(leader: End) -> None:
    leader.snapshots.send_to("peer")
    in_flight = sent_bytes(leader.take())
    acked = 0
    while leader.snapshots.is_sending_to("peer"):
        acked += CHUNK_BYTES
        in_flight -= CHUNK_BYTES
        leader.receive([wire.SNAPSHOT_ACK, acked, in_flight <= 0])
        in_flight += sent_bytes(leader.take())
        assert in_flight <= WINDOW_BYTES


def test_a_second_request_starts_no_second_stream(leader: End) -> None:
    leader.snapshots.send_to("peer")
    leader.take()
    leader.snapshots.send_to("peer")
    assert leader.take() == []


def test_a_peer_without_a_link_gets_none(leader: End) -> None:
    leader.links.open.clear()
    leader.snapshots.send_to("peer")
    assert not leader.snapshots.is_sending_to("peer")


def test_a_link_that_is_lost_ends_the_stream_and_its_file(leader: End) -> None:
    leader.snapshots.send_to("peer")
    with mock.patch.object(leader.snapshots._outgoing["peer"].file, "close") as close:
        leader.snapshots.abort("peer")
    close.assert_called_once()
    assert not leader.snapshots.is_sending_to("peer")
    leader.receive([wire.SNAPSHOT_ACK, CHUNK_BYTES, False])
    leader.take()


def test_a_link_that_is_lost_within_a_chunk_ends_the_stream(leader: End) -> None:
    leader.snapshots.send_to("peer")
    leader.links.open.clear()
    leader.receive([wire.SNAPSHOT_ACK, CHUNK_BYTES, False])
    assert not leader.snapshots.is_sending_to("peer")


def test_a_lost_leadership_ends_every_stream(leader: End) -> None:
    leader.snapshots.send_to("peer")
    leader.snapshots.abort_outgoing()
    assert not leader.snapshots.is_sending_to("peer")


def test_a_peer_that_has_come_past_the_snapshot_needs_it_no_more(leader: End) -> None:
    leader.snapshots.send_to("peer")
    leader.snapshots.on_progress("peer", 1509)
    assert leader.snapshots.is_sending_to("peer")
    leader.snapshots.on_progress("peer", 1510)
    assert not leader.snapshots.is_sending_to("peer")


def test_without_a_snapshot_one_is_made_for_the_next_time() -> None:
    end = End(keys=3)
    with mock.patch.object(end.machine, "start_snapshot") as start:
        end.snapshots.send_to("peer")
    start.assert_called_once()
    assert end.take() == []


@pytest.mark.parametrize(
    ("first_index", "is_sent"), [(1, True), (11, True), (12, True), (13, False), (20, False)]
)
def test_a_snapshot_that_ends_before_the_log_s_second_entry_helps_nobody(
    first_index: int, is_sent: bool
) -> None:
    """The log's first two entries may be placeholders: the snapshot has to hold both."""
    end = End(keys=3, snapshot=True)
    assert end.machine.last_applied.index == 13
    end.journal[:] = [entry(first_index, 3), entry(first_index + 1, 3)]
    with mock.patch.object(end.machine, "start_snapshot") as start:
        end.snapshots.send_to("peer")
    assert end.snapshots.is_sending_to("peer") == is_sent
    assert start.called != is_sent


# -- both ends -----------------------------------------------------------------------------------


def test_a_stream_arrives_whole_and_is_installed_once(leader: End) -> None:
    follower = End()
    leader.snapshots.send_to("peer")
    carry(leader, follower)
    assert follower.installed == [("peer", 5, 1510)]
    assert follower.machine.digest() == leader.machine.digest()
    assert not leader.snapshots.is_sending_to("peer")


@pytest.mark.parametrize("place", ["first byte", "last chunk"])
def test_a_damaged_stream_is_refused_and_may_begin_again(leader: End, place: str) -> None:
    follower = End()
    digest = follower.machine.digest()
    metadata = leader.machine.snapshot_metadata
    assert metadata is not None

    def damage(message: wire.Message) -> None:
        if message[0] != wire.SNAPSHOT_CHUNK:
            return
        is_last = message[1] + len(message[2]) == metadata.size_bytes
        if message[1] == 0 if place == "first byte" else is_last:
            message[2] = bytes([message[2][0] ^ 1]) + message[2][1:]

    leader.snapshots.send_to("peer")
    carry(leader, follower, damage)
    assert follower.installed == []
    assert follower.machine.digest() == digest
    assert not leader.snapshots.is_sending_to("peer")
    leader.snapshots.send_to("peer")
    carry(leader, follower)
    assert follower.installed == [("peer", 5, 1510)]


def test_a_stream_that_is_longer_than_it_said_is_refused_and_harms_nobody() -> None:
    leader, follower = End(keys=3, snapshot=True), End()
    leader.snapshots.send_to("peer")
    begin, (kind, offset, chunk) = leader.take()
    follower.receive(begin)
    follower.receive([kind, offset, chunk + b"more"])
    assert follower.take() == [[wire.SNAPSHOT_ACK, len(chunk) + 4, True]]
    assert follower.installed == []


def test_a_snapshot_that_is_no_newer_than_the_state_is_answered_as_done() -> None:
    leader, follower = End(keys=3, snapshot=True), End(keys=4)
    leader.snapshots.send_to("peer")
    carry(leader, follower)
    assert follower.installed == []
    assert not leader.snapshots.is_sending_to("peer")


def test_a_new_beginning_drops_what_came_of_the_old_one(leader: End) -> None:
    follower = End()
    leader.snapshots.send_to("peer")
    for message in leader.take()[:3]:
        follower.receive(message)
    leader.snapshots.abort("peer")
    leader.snapshots.send_to("peer")
    carry(leader, follower)
    assert follower.installed == [("peer", 5, 1510)]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda end: end.snapshots.abort("peer"), id="link lost"),
        pytest.param(lambda end: setattr(end, "term", 6), id="term over"),
        pytest.param(lambda end: end.snapshots.close(), id="node stops"),
    ],
)
def test_chunks_of_a_stream_that_is_over_are_dropped(
    leader: End, spoil: Callable[[End], None]
) -> None:
    follower = End()
    leader.snapshots.send_to("peer")
    begin, first, second, *_ = leader.take()
    follower.receive(begin)
    follower.receive(first)
    spoil(follower)
    follower.take()
    follower.receive(second)
    assert follower.take() == []
    assert follower.disk.list_dir(DIRECTORY / "snapshot") == []


def test_chunks_of_another_peer_or_at_another_place_are_dropped(leader: End) -> None:
    follower = End()
    leader.snapshots.send_to("peer")
    begin, first, second, *_ = leader.take()
    follower.receive(begin)
    follower.snapshots.receive("stranger", first)
    follower.receive(second)
    assert follower.take() == []
    follower.receive(first)
    assert follower.take() == [[wire.SNAPSHOT_ACK, CHUNK_BYTES, False]]


def test_a_leader_of_an_older_term_begins_nothing(leader: End) -> None:
    follower = End()
    follower.follows = False
    leader.snapshots.send_to("peer")
    carry(leader, follower)
    assert follower.installed == []


# -- whole nodes ---------------------------------------------------------------------------------


@contextmanager
def slow_streams() -> Iterator[None]:
    """Chunks of 200 bytes, each waiting for the acknowledgement of the one before."""
    with (
        mock.patch("node.snapshots.CHUNK_BYTES", 200),
        mock.patch("node.snapshots.WINDOW_BYTES", 200),
    ):
        yield


async def leave_behind(sim: Simulation, keys: int = 40) -> tuple[SimulatedNode, SimulatedNode]:
    """(leader, a follower that needs a snapshot and is still cut off)."""
    leader = await sim.ready()
    behind = sim.others(leader)[0]
    sim.isolate(behind)
    for number in range(keys):
        await leader.set(b"key%d" % number, b"value")
    await sim.until(lambda: len({n.core.raft.applied_index() for n in sim.others(behind)}) == 1)
    for node in sim.others(behind):
        await node.snapshot()
        node.journal.cut_below(node.core.machine.last_applied.index - 1)
    return leader, behind


def test_a_follower_that_is_too_far_behind_catches_up_and_its_log_begins_anew(
    tmp_path: Path,
) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader, behind = await leave_behind(sim)
            index = leader.core.machine.last_applied.index
            writes = [sim.loop.create_task(leader.increment(b"counter")) for _ in range(20)]
            sim.network.heal()
            await asyncio.gather(*writes)
            await sim.settle()
            assert behind.journal.first_index == index - 1
            assert behind.journal[0] == (NOOP_COMMAND, index - 1, behind.journal[0][2])
            assert len(sim.digests()) == 1
            assert await behind.get(b"counter") == b"20"

        sim.run(story())


def test_a_stream_that_is_the_first_a_node_hears_of_a_term_arrives(tmp_path: Path) -> None:
    """Its chunks name no term: the node has to have adopted that of the beginning."""
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader, behind = await leave_behind(sim)
            (successor,) = sim.others(leader, behind)
            await leader.transfer(successor.id)
            serving = sim.leader
            # The leader has already heard from it, in this term, that it needs a snapshot.
            serving.core.raft._replica._SyncObj__raftNextIndex = dict.fromkeys(
                serving.core.raft._replica._SyncObj__raftNextIndex, 1
            )
            sim.network.heal()
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())


def test_a_stream_that_is_cut_again_and_again_arrives_in_the_end(tmp_path: Path) -> None:
    with Simulation(3, tmp_path, delay_s=(0.02, 0.03)) as sim:

        async def story() -> None:
            _, behind = await leave_behind(sim)
            with slow_streams():
                sim.network.heal()
                for _ in range(5):
                    await sim.until(lambda: behind.core.snapshots._incoming is not None)
                    for other in sim.others(behind):
                        sim.network.break_session(frozenset((behind.id, other.id)))
                    await sim.until(lambda: behind.core.snapshots._incoming is None)
                await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())


def test_a_stream_of_a_leader_that_dies_is_followed_by_that_of_the_next(tmp_path: Path) -> None:
    with Simulation(3, tmp_path, delay_s=(0.02, 0.03)) as sim:

        async def story() -> None:
            leader, behind = await leave_behind(sim)
            with slow_streams():
                sim.network.heal()
                await sim.until(lambda: behind.core.snapshots._incoming is not None)
                leader.crash()
                await sim.settle()
            await leader.start()
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())
