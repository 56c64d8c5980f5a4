"""Pitfalls P1 to P5 and P11 of PySyncObj: applying, callbacks, the queue, pickles.

Each pitfall has a test that shows it on the bare library (`test_pysyncobj_...`): when one of those
fails, the library has been mended or changed, and the defence may be looked at again. The others
show the defence.
"""

from __future__ import annotations

import pickle
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pysyncobj import _COMMAND_TYPE

from node import wire
from node.entry import KIND_BATCH, KIND_NOOP, unwrap, wrap
from node.errors import Fatal, Unavailable
from tests.support.bare import Bare, bare_clock
from tests.support.fence import batch
from tests.support.simulated import Simulation, outcome_of


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with bare_clock():
        yield


class Broken(Exception):
    """What the applied method raises."""


def raise_broken(*_: object) -> None:
    raise Broken


# -- P1: an exception in the replicated method ---------------------------------------------------


def test_pysyncobj_runs_a_method_that_raises_again_at_every_tick() -> None:
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    bare.on_apply = raise_broken
    bare.propose(b"poison")
    bare.acknowledged("n2", 3)
    for _ in range(3):
        with pytest.raises(Broken):
            bare.tick()
    assert bare.applied == [b"poison"] * 3


def test_pysyncobj_sends_no_heartbeat_in_a_tick_whose_method_raises() -> None:
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    bare.on_apply = raise_broken
    bare.propose(b"poison")
    bare.acknowledged("n2", 3)
    bare.wire.messages.clear()
    bare.advance(5)
    with pytest.raises(Broken):
        bare.tick()
    assert bare.sent("append_entries") == []


def test_what_escapes_from_applying_ends_the_node_once_and_is_never_run_again(
    tmp_path: Path,
) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            calls = []

            def apply(index: int, term: int, batch: bytes) -> None:
                calls.append(index)
                raise Broken

            sim.may_fail.add(leader.id)
            leader.core.machine.apply = apply  # type: ignore[method-assign, assignment]
            assert await sim.others(leader)[0].set(b"key", b"value")
            for _ in range(3):
                leader.core.raft.tick()
            assert len(calls) == 1
            assert [type(error) for error in leader.failures] == [Broken]
            assert leader.core.raft.propose(b"") is False

        sim.run(story())


# -- P2: an exception in a callback --------------------------------------------------------------


def test_pysyncobj_applies_an_entry_twice_when_its_callback_raises() -> None:
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    bare.propose(b"once", callback=raise_broken)
    bare.acknowledged("n2", 3)
    with pytest.raises(Broken):
        bare.tick()
    bare.tick()
    assert bare.applied == [b"once", b"once"]


def test_no_callback_is_ever_handed_to_pysyncobj(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            replica = leader.core.raft._replica
            callbacks = []
            apply_command = replica._applyCommand

            def watched(command: bytes, callback: object, *rest: object) -> None:
                callbacks.append(callback)
                apply_command(command, callback, *rest)

            replica._applyCommand = watched
            for node in sim.nodes.values():
                await node.set(b"key", b"value")
            assert callbacks == [None, None, None]

        sim.run(story())


def test_a_reply_that_raises_harms_neither_the_node_nor_the_other_replies(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()

            class BrokenWaiter:
                def resolve(self, *_: object) -> None:
                    raise Broken

                def fail(self, error: Exception) -> None:
                    raise AssertionError(error)

            leader.core.service.submit(BrokenWaiter(), 0, 0)
            assert await leader.increment(b"counter") == 1
            assert await leader.increment(b"counter") == 2
            sim.check()

        sim.run(story())


# -- P3: an unsupported VERSION entry ------------------------------------------------------------


def test_pysyncobj_applies_the_entry_after_an_unsupported_version_twice() -> None:
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    bare._applyCommand(pickle.dumps(7), None, _COMMAND_TYPE.VERSION)
    bare.propose(b"after it")
    bare.acknowledged("n2", 4)
    bare.tick()
    bare.tick()
    assert bare.applied == [b"after it", b"after it"]


@pytest.mark.parametrize("kind", [_COMMAND_TYPE.VERSION, _COMMAND_TYPE.MEMBERSHIP, 0, 4, 200])
def test_no_entry_of_another_kind_comes_in_or_goes_out(kind: int) -> None:
    if kind not in (KIND_BATCH, KIND_NOOP):
        body = wire.encode(wire.APPEND, 1, 1, 1, 0, [(1, kind, b"")])[wire.LENGTH.size :]
        with pytest.raises(wire.WireError):
            wire.decode(body)
    with pytest.raises(Fatal):
        unwrap(bytes([kind]) + pickle.dumps(7))


# -- P4: waiting on a deposed leader -------------------------------------------------------------


def test_pysyncobj_leaves_a_callback_hanging_on_a_deposed_leader() -> None:
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    answers: list[object] = []
    bare.propose(b"lost", callback=lambda *answer: answers.append(answer))
    term = bare.raftCurrentTerm
    bare.receive("n2", type="request_vote", term=term + 1, last_log_index=9, last_log_term=term)
    for _ in range(60):
        bare.append("n2", term + 1, (2, term), [], commit=2)
        bare.advance(1)
        bare.tick()
    assert not bare.is_leader
    assert answers == []


def test_a_write_on_a_deposed_leader_is_answered_by_its_successor(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            sim.isolate(leader, notice_s=1.0)
            write = sim.loop.create_task(leader.increment(b"counter"))
            rest = sim.others(leader)
            await sim.until(lambda: any(node.is_leader for node in rest))
            sim.network.heal()
            assert await write == 1
            assert await rest[0].get(b"counter") == b"1"
            assert not leader.is_leader

        sim.run(story())


# -- P5: the queue of commands -------------------------------------------------------------------


def test_pysyncobj_forwards_an_old_queued_command_to_a_new_leader() -> None:
    bare = Bare("n2", ["n1", "n3"], commandsWaitLeader=True)
    bare.propose(b"queued")
    bare.advance(3600)
    bare.append("n1", 5, (1, 0), [], commit=1)
    bare.tick()
    assert [(to, unwrap(sent["command"])[1]) for to, sent in bare.sent("apply_command")] == [
        ("n1", b"queued")
    ]


def test_a_follower_proposes_nothing_and_queues_nothing(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            follower = sim.others(leader)[0]
            before = follower.journal.last_index
            assert follower.core.raft.propose(b"anything") is False
            assert follower.core.raft._replica._SyncObj__commandsQueue._FastQueue__queue == deque()
            await sim.settle()
            assert follower.journal.last_index == before

        sim.run(story())


def test_a_write_without_a_leader_is_unavailable_and_never_happens(tmp_path: Path) -> None:
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            follower = sim.others(leader)[0]
            sim.isolate(follower)
            await sim.until(lambda: follower.core.raft.leader_id() is None)
            assert isinstance(await outcome_of(follower.set(b"key", b"value")), Unavailable)
            sim.network.heal()
            await sim.settle()
            assert await follower.get(b"key") is None

        sim.run(story())


def test_a_batch_that_a_pause_left_in_the_queue_is_made_again_once(tmp_path: Path) -> None:
    """A pause (SIGSTOP) between queueing and draining leaves the batch in PySyncObj's queue; by
    the next tick another may lead, to whom PySyncObj would forward it."""
    with Simulation(3, tmp_path) as sim:

        async def story() -> None:
            leader = await sim.ready()
            replica = leader.core.raft._replica
            drain = replica._checkCommandsToApply
            replica._checkCommandsToApply = lambda: None
            write = sim.loop.create_task(leader.increment(b"counter"))
            await sim.until(lambda: bool(replica._SyncObj__commandsQueue._FastQueue__queue))
            sim.isolate(leader, notice_s=0.5)
            rest = sim.others(leader)
            await sim.until(lambda: any(node.is_leader for node in rest))
            sim.network.heal()
            await sim.until(lambda: leader.core.raft.leader_id() not in (None, leader.id))
            replica._checkCommandsToApply = drain
            leader.core.raft.tick()
            assert not replica._SyncObj__commandsQueue._FastQueue__queue
            assert await write == 1
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())


# -- P11: pickles --------------------------------------------------------------------------------


class Evil:
    """Unpickling it runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import sys; sys.trimaran_was_here = True",)


EVIL = pickle.dumps(Evil(), 2)


@pytest.fixture
def _innocent() -> Iterator[None]:
    sys.__dict__.pop("trimaran_was_here", None)
    yield
    sys.__dict__.pop("trimaran_was_here", None)


@pytest.mark.usefixtures("_innocent")
def test_pysyncobj_runs_what_a_peer_pickled() -> None:
    bare = Bare("n2", ["n1", "n3"])
    bare.receive(
        "n1",
        type="append_entries",
        term=1,
        commit_index=2,
        prevLogIdx=1,
        prevLogTerm=0,
        entries=[(b"\0" + EVIL, 2, 1)],
    )
    with pytest.raises(KeyError):  # the result is no method, but the code has run
        bare.tick()
    assert "trimaran_was_here" in sys.__dict__


@pytest.mark.usefixtures("_innocent")
def test_a_pickle_from_a_peer_stays_bytes() -> None:
    body = wire.encode(wire.APPEND, 1, 2, 1, 0, [(1, KIND_BATCH, EVIL)])[wire.LENGTH.size :]
    with pytest.raises(wire.WireError):  # no batch
        wire.decode(body)
    evil = batch(2, 1) + EVIL
    body = wire.encode(wire.APPEND, 1, 2, 1, 0, [(1, KIND_BATCH, evil)])[wire.LENGTH.size :]
    rows = wire.decode(body)[5]
    ((command, _, _),) = wire.entries_of(1, rows)
    assert pickle.loads(command[1:]) == (0, (evil,))
    assert "trimaran_was_here" not in sys.__dict__


@pytest.mark.usefixtures("_innocent")
@pytest.mark.parametrize(
    "command",
    [
        b"\0" + EVIL,
        wrap(KIND_BATCH, b"x")[:-1] + EVIL,
        wrap(KIND_BATCH, EVIL)[: -len(EVIL)],
        wrap(KIND_BATCH, b"x") + b".",
    ],
)
def test_no_other_pickle_gets_to_the_disk_or_the_wire(command: bytes) -> None:
    with pytest.raises(Fatal):
        unwrap(command)
    with pytest.raises(Fatal):
        wire.encode_append(1, 1, 1, 0, [(command, 2, 1)])
    assert "trimaran_was_here" not in sys.__dict__
