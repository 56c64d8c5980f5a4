"""Snapshot streams: the window, what is refused, what ends a stream, and the log that begins anew.

Method: both ends alone, with a real state machine on a MemoryDisk and links that keep what is
sent; then whole nodes (tests/support/simulated.py). Crashes during installation:
tests/node/test_pitfalls_durable.py.
"""

from __future__ import annotations

import asyncio
import logging
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
from node.worker import Worker
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
        self.failures: list[Exception] = []
        self.room_bytes = 1 << 40
        self.snapshots = Snapshots(
            self.machine,
            self.links,  # type: ignore[arg-type]
            self.journal,  # type: ignore[arg-type]
            term=lambda: self.term,
            settled_index=lambda: self.machine.last_applied.index,
            follow=lambda peer, term: self.follows,
            installed=lambda *what: self.installed.append(what),
            worker=Worker(
                "test",
                call_soon_threadsafe=lambda work, *arguments: work(*arguments),
                on_failure=self.failures.append,
                threaded=False,
            ),
            log=EventLog("n1"),
            room_bytes=lambda: self.room_bytes,
        )

    def install(self) -> None:
        """Let an installation that is under way come to its end."""
        while self.snapshots._installing is not None:
            self.snapshots.tick()

    def take(self) -> list[wire.Message]:
        taken, self.links.sent = self.links.sent, []
        return [message for _, message in taken]

    def receive(self, message: wire.Message) -> None:
        self.snapshots.receive("peer", message)


def sent_bytes(messages: list[wire.Message]) -> int:
    return sum(len(message[3]) for message in messages if message[0] == wire.SNAPSHOT_CHUNK)


def carry(leader: End, follower: End, change: Callable[[wire.Message], Any] = id) -> None:
    """Bring everything across, both ways, until nobody says anything more."""
    while messages := leader.take():
        for message in messages:
            change(message)
            follower.receive(message)
        follower.install()
        for message in follower.take():
            leader.receive(message)


def begin(leader: End, has_bytes: int = 0) -> int:
    """Begin a stream to a peer that has so much of it; the stream's number."""
    leader.snapshots.send_to("peer")
    (message,) = leader.take()
    leader.receive([wire.SNAPSHOT_ACK, message[2], has_bytes, False])
    return int(message[2])


@pytest.fixture(scope="module")
def big() -> End:
    """A leader whose snapshot is several windows long. Streams leave it as it is."""
    return End(keys=1500, snapshot=True)


@pytest.fixture
def leader(big: End) -> End:
    big.snapshots.abort_outgoing()
    big.take()
    big.links.open = {"peer"}
    return big


# -- the leader's end ----------------------------------------------------------------------------


def test_a_stream_begins_with_what_it_is_and_stops_at_the_window(leader: End) -> None:
    leader.snapshots.send_to("peer")
    ((*beginning, number, index, term, size_bytes, checksum),) = leader.take()
    metadata = leader.machine.snapshot_metadata
    assert metadata is not None
    assert metadata.size_bytes > 2 * WINDOW_BYTES
    assert beginning == [wire.SNAPSHOT_BEGIN, 5]
    assert (index, term, size_bytes) == (1510, 3, metadata.size_bytes)
    assert checksum == metadata.checksum
    leader.receive([wire.SNAPSHOT_ACK, number, 0, False])
    chunks = leader.take()
    assert {message[1] for message in chunks} == {number}
    assert WINDOW_BYTES <= sent_bytes(chunks) < WINDOW_BYTES + CHUNK_BYTES
    assert leader.snapshots.is_sending_to("peer")


def test_each_acknowledgement_moves_the_window_on(leader: End) -> None:
    number = begin(leader)
    in_flight = sent_bytes(leader.take())
    acked = 0
    while leader.snapshots.is_sending_to("peer"):
        acked += CHUNK_BYTES
        in_flight -= CHUNK_BYTES
        leader.receive([wire.SNAPSHOT_ACK, number, acked, in_flight <= 0])
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


def test_a_link_that_is_lost_ends_the_stream_and_a_lost_leadership_its_file(leader: End) -> None:
    number = begin(leader)
    leader.take()
    with mock.patch.object(leader.snapshots._outgoing["peer"].file, "close") as close:
        leader.snapshots.abort("peer")
        assert not leader.snapshots.is_sending_to("peer")
        leader.receive([wire.SNAPSHOT_ACK, number, CHUNK_BYTES, False])
        assert leader.take() == []
        close.assert_not_called()
        leader.snapshots.abort_outgoing()
    close.assert_called_once()


def test_what_is_said_of_an_earlier_stream_is_not_taken_for_the_present_one(leader: End) -> None:
    number = begin(leader)
    leader.snapshots.abort("peer")
    leader.take()
    assert begin(leader) > number
    leader.take()
    leader.receive([wire.SNAPSHOT_ACK, number, WINDOW_BYTES, False])
    assert leader.take() == []
    leader.receive([wire.SNAPSHOT_ACK, number, 0, True])
    assert leader.snapshots.is_sending_to("peer")


def test_a_stream_goes_on_behind_what_the_peer_has(leader: End) -> None:
    has_bytes = 3 * CHUNK_BYTES + 17
    begin(leader, has_bytes)
    chunks = leader.take()
    assert chunks[0][2] == has_bytes
    assert WINDOW_BYTES <= sent_bytes(chunks) < WINDOW_BYTES + CHUNK_BYTES


def test_a_broken_stream_is_gone_on_with_though_a_newer_snapshot_was_made() -> None:
    end = End(keys=300, snapshot=True)
    begin(end)
    end.take()
    end.snapshots.abort("peer")
    end.machine.apply(311, 3, BatchBuilder().build())
    end.machine.generate_snapshot()
    end.snapshots.send_to("peer")
    assert end.take()[0][3] == 310
    end.snapshots.abort("peer")
    end.journal[:] = [entry(310, 3), entry(311, 3)]  # what has to follow it is cut
    end.machine.apply(312, 3, BatchBuilder().build())
    end.machine.generate_snapshot()
    end.snapshots.send_to("peer")
    assert end.take()[0][3] == 312


def test_a_link_that_is_lost_within_a_chunk_ends_the_stream(leader: End) -> None:
    number = begin(leader)
    leader.links.open.clear()
    leader.receive([wire.SNAPSHOT_ACK, number, CHUNK_BYTES, False])
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
        is_last = message[2] + len(message[3]) == metadata.size_bytes
        if message[2] == 0 if place == "first byte" else is_last:
            message[3] = bytes([message[3][0] ^ 1]) + message[3][1:]

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
    (beginning,) = leader.take()
    follower.receive(beginning)
    (answer,) = follower.take()
    leader.receive(answer)
    ((kind, number, offset, chunk),) = leader.take()
    follower.receive([kind, number, offset, chunk + b"more"])
    assert follower.take() == [[wire.SNAPSHOT_ACK, number, len(chunk) + 4, True]]
    assert follower.installed == []


def test_a_snapshot_that_is_no_newer_than_the_state_is_answered_as_done() -> None:
    leader, follower = End(keys=3, snapshot=True), End(keys=4)
    leader.snapshots.send_to("peer")
    carry(leader, follower)
    assert follower.installed == []
    assert not leader.snapshots.is_sending_to("peer")


def half_sent(leader: End, follower: End) -> list[wire.Message]:
    """Two chunks have arrived; those that are still on their way."""
    leader.snapshots.send_to("peer")
    follower.receive(leader.take()[0])
    leader.receive(follower.take()[0])
    first, second, *rest = leader.take()
    follower.receive(first)
    follower.receive(second)
    assert [message[2] for message in follower.take()] == [CHUNK_BYTES, 2 * CHUNK_BYTES]
    return rest


def test_after_a_lost_link_a_stream_goes_on_where_it_was(leader: End) -> None:
    follower = End()
    late, *_ = half_sent(leader, follower)
    for end in (leader, follower):
        end.snapshots.abort("peer")
    sent = 0

    def count(message: wire.Message) -> None:
        nonlocal sent
        sent += len(message[3]) if message[0] == wire.SNAPSHOT_CHUNK else 0

    leader.snapshots.send_to("peer")
    follower.receive(late)  # from the old link, and of the old stream
    carry(leader, follower, count)
    metadata = leader.machine.snapshot_metadata
    assert metadata is not None
    assert sent == metadata.size_bytes - 2 * CHUNK_BYTES
    assert follower.installed == [("peer", 5, 1510)]
    assert follower.machine.digest() == leader.machine.digest()


def test_another_snapshot_drops_what_came_of_the_old_one(leader: End) -> None:
    follower, other = End(), End(keys=1600, snapshot=True)
    half_sent(leader, follower)
    leader.snapshots.abort("peer")
    follower.snapshots.abort("peer")
    other.snapshots.send_to("peer")
    carry(other, follower)
    assert follower.installed == [("peer", 5, 1610)]
    assert follower.machine.digest() == other.machine.digest()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda end: end.snapshots.abort("peer"), id="link lost"),
        pytest.param(lambda end: setattr(end, "term", 6), id="term over"),
        pytest.param(lambda end: end.snapshots.close(), id="node stops"),
    ],
)
def test_chunks_of_a_stream_that_is_over_are_dropped_and_the_leader_is_told(
    leader: End, spoil: Callable[[End], None]
) -> None:
    follower = End()
    third, fourth, *_ = half_sent(leader, follower)
    spoil(follower)
    for message in (third, fourth):
        follower.receive(message)
        assert follower.take() == [[wire.SNAPSHOT_ACK, third[1], 0, True]]
    leader.receive([wire.SNAPSHOT_ACK, third[1], 0, True])
    assert not leader.snapshots.is_sending_to("peer")


def test_chunks_of_another_peer_or_at_another_place_are_dropped(leader: End) -> None:
    follower = End()
    third, fourth, *_ = half_sent(leader, follower)
    follower.snapshots.receive("stranger", third)
    follower.take()
    follower.receive(fourth)
    assert follower.take() == []
    follower.receive(third)
    assert follower.take() == [[wire.SNAPSHOT_ACK, third[1], 3 * CHUNK_BYTES, False]]


def test_who_begins_while_another_snapshot_is_synced_is_answered_after_it() -> None:
    leader, follower = End(keys=30, snapshot=True), End()
    work: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
    follower.snapshots._worker.do = lambda *asked: work.append(asked)  # type: ignore[assignment]
    leader.snapshots.send_to("peer")
    carry(leader, follower)
    assert len(work) == 1
    leader.snapshots.abort_outgoing()
    leader.machine.apply(41, 3, BatchBuilder().build())
    leader.machine.generate_snapshot()
    leader.snapshots.send_to("peer")
    carry(leader, follower)
    assert follower.installed == []
    finish, told = work.pop()
    told(finish())
    follower.install()
    assert follower.installed == [("peer", 5, 40)]
    answers = follower.take()
    for message in answers:
        leader.receive(message)
    carry(leader, follower)
    finish, told = work.pop()
    told(finish())
    follower.install()
    assert follower.installed == [("peer", 5, 40), ("peer", 5, 41)]


def test_a_snapshot_that_does_not_fit_waits_and_says_so_once(
    leader: End, caplog: pytest.LogCaptureFixture
) -> None:
    follower = End()
    follower.room_bytes = 1_000
    with caplog.at_level(logging.INFO, "trimaran"):
        leader.snapshots.send_to("peer")
        carry(leader, follower)
        for _ in range(100):
            follower.snapshots.tick()
        leader.snapshots.abort("peer")  # the link is lost, and comes back
        follower.snapshots.abort("peer")
        leader.snapshots.send_to("peer")
        carry(leader, follower)
        follower.snapshots.tick()
        assert follower.installed == follower.take() == []
        assert not [path for path in follower.disk.files() if path.name == "snapshot.bin"]
        assert [record.message for record in caplog.records].count("no room for a snapshot") == 1
        follower.room_bytes = 1 << 30
        follower.snapshots.tick()
        for message in follower.take():
            leader.receive(message)
        carry(leader, follower)
    follower.install()
    assert follower.installed == [("peer", 5, 1510)]
    assert "there is room for a snapshot again" in caplog.text


def test_waiting_for_room_is_no_sign_of_life_of_a_leader_and_ends_with_its_link(
    leader: End,
) -> None:
    follower = End()
    follower.room_bytes = 0
    heard = []
    follower.snapshots._follow = lambda *what: not heard.append(what)
    leader.snapshots.send_to("peer")
    carry(leader, follower)
    for _ in range(50):
        follower.snapshots.tick()
    assert heard == [("peer", 5)]
    follower.snapshots.abort("peer")
    follower.room_bytes = 1 << 40
    follower.snapshots.tick()
    assert heard == [("peer", 5)]
    assert follower.take() == []


def test_a_snapshot_whose_term_ended_while_it_was_synced_is_not_installed() -> None:
    leader, follower = End(keys=30, snapshot=True), End()
    work: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
    follower.snapshots._worker.do = lambda *asked: work.append(asked)  # type: ignore[assignment]
    leader.snapshots.send_to("peer")
    carry(leader, follower)
    follower.term = 6
    finish, told = work.pop()
    told(finish())
    follower.install()
    assert follower.installed == []
    assert follower.disk.list_dir(DIRECTORY / "snapshot") == []


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


def test_a_follower_without_room_for_a_snapshot_goes_on_as_it_is_until_there_is(
    tmp_path: Path,
) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader, behind = await leave_behind(sim)
            term, index = leader.core.raft.term(), behind.core.machine.last_applied.index
            behind.disk.free = 1_000
            sim.network.frames = frames = []
            sim.network.heal()
            for number in range(100):
                await asyncio.sleep(0.05)
                await leader.set(b"more%d" % number, b"value")
            assert behind.core.machine.last_applied.index == index
            assert not behind.core.is_ready()
            assert (leader.is_leader, leader.core.raft.term()) == (True, term)
            begun = [message for _, to, message in frames if message[0] == wire.SNAPSHOT_BEGIN]
            assert len(begun) == 1
            behind.disk.free = 1 << 40
            await sim.settle()
            assert len(sim.digests()) == 1

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
                    await asyncio.sleep(0.1)
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


@pytest.mark.parametrize("writes", [0, 30])
def test_a_term_that_begins_while_a_snapshot_is_installed_harms_nobody(
    tmp_path: Path, writes: int
) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader, behind = await leave_behind(sim)
            (successor,) = sim.others(leader, behind)
            snapshots = behind.core.snapshots
            go_on, snapshots.tick = snapshots.tick, lambda: None  # type: ignore[method-assign]
            sim.network.heal()
            await sim.until(lambda: snapshots._ready is not None)
            await leader.transfer(successor.id)
            for number in range(writes):
                await successor.set(b"more%d" % number, b"value")
            await sim.until(lambda: behind.core.raft.term() == successor.core.raft.term())
            snapshots.tick = go_on  # type: ignore[method-assign]
            await sim.settle()
            assert len(sim.digests()) == 1
            for node in sim.nodes.values():
                node.crash()
            await sim.ready()
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())
