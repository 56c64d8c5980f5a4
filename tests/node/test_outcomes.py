"""Results that a snapshot skipped: kept by who applied the entries, asked for, told exactly once.

Method: the room alone with a list of what is sent; then whole nodes on virtual time
(tests/support/simulated.py), of which one is lapped while its own client waits.
"""

from __future__ import annotations

import asyncio
import typing
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node import outcomes as room
from node import wire
from node.config import JournalSection
from node.errors import OutcomeUnknown
from node.outcomes import KEPT_MIN, ORIGINS_MAX, Outcomes
from node.results import decode_results, encode_results, size_of
from node.wire import WireError
from statemachine.commands import BatchHead
from statemachine.layer import Record
from statemachine.refusals import Fetched, Refusal, Result
from tests.support.fence import FakeLinks
from tests.support.simulated import SimulatedNode, Simulation, SteppedJournal, outcome_of

ORIGIN = b"n1:5f0c"
THEIRS = b"n2:77aa"
EPOCH = 3

FETCHED = Fetched(
    clock_ms=7,
    count=2,
    records={b"k": Record(b"v", 1, 2, None), b"l": Record(b"", 3, 3, 1 << 60)},
    page=(b"k", b"l"),
)
EXAMPLES: list[Result] = [True, False, None, 0, -(1 << 63), (1 << 63) - 1, b"", b"\xff" * 300]
EXAMPLES += [Refusal("ERR", "no such key"), FETCHED, [True, None, [FETCHED, Refusal("ERR", "")]]]


# -- bytes ----------------------------------------------------------------------------------------


def test_every_kind_of_result_travels_unchanged() -> None:
    kinds = {type(each) for each in EXAMPLES}
    for kind in typing.get_args(Result):
        assert (typing.get_origin(kind) or kind) in kinds, f"no example of {kind}"
    data = encode_results(EXAMPLES)
    assert data is not None
    found = decode_results(data)
    assert found == EXAMPLES
    assert [type(each) for each in found] == [type(each) for each in EXAMPLES]
    assert isinstance(found[9], Fetched)
    assert type(found[9].page) is tuple


def test_what_no_rule_answers_with_does_not_travel() -> None:
    for value in (object(), 1.5, {"a": 1}, "text", 1 << 70):
        encoded = encode_results([typing.cast(Any, value)])
        if encoded is not None:
            with pytest.raises(ValueError, match="these are"):
                decode_results(encoded)


def _object(*fields: object) -> bytes:
    packed: bytes = msgpack.packb([msgpack.ExtType(1, msgpack.packb(list(fields)))])
    return packed


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc1", id="no msgpack"),
        pytest.param(msgpack.packb(7), id="no list"),
        pytest.param(msgpack.packb([1.5]), id="a float"),
        pytest.param(msgpack.packb(["text"]), id="a string"),
        pytest.param(msgpack.packb([{b"a": 1}]), id="a map"),
        pytest.param(msgpack.packb([msgpack.ExtType(9, b"\x90")]), id="an unknown extension"),
        pytest.param(_object(), id="no class"),
        pytest.param(_object("Popen", "x"), id="another class"),
        pytest.param(_object("Refusal", "ERR"), id="a field is missing"),
        pytest.param(_object("Refusal", "ERR", 7), id="a field of another type"),
        pytest.param(_object("Fetched", 1, 1, {b"k": b"v"}, 7), id="a record that is none"),
        pytest.param(_object("Record", b"v", 1, 1, None), id="a bare record"),
    ],
)
def test_bytes_that_are_no_results_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=" "):
        decode_results(data)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_results_or_a_value_error(data: bytes) -> None:
    try:
        found = decode_results(data)
    except ValueError:
        return
    assert type(found) is list


def test_nesting_is_bounded() -> None:
    data = msgpack.packb([True])
    for _ in range(200):
        data = msgpack.packb([msgpack.ExtType(2, data)])
    with pytest.raises(ValueError, match="deep"):
        decode_results(data)


def test_what_results_keep_alive_is_counted() -> None:
    assert size_of([True] * 1000) < 10_000
    assert size_of([b"x" * 5_000]) > 5_000
    assert size_of([[None, [b"x" * 5_000]]]) > 5_000
    assert size_of([Fetched(1, 1, {b"k": Record(b"v" * 9_000, 1, 1, None)})]) > 9_000


# -- the room alone -------------------------------------------------------------------------------


class Room:
    """n1, which is asked by n2 and asks n2 and n3."""

    def __init__(self) -> None:
        self.origins: dict[bytes, tuple[int, int]] = {}
        self.links = FakeLinks("n2", "n3")
        self.found: list[tuple[int, list[Result] | None]] = []
        self.outcomes = Outcomes(
            ORIGIN,
            EPOCH,
            links=self.links,
            machine=self,
            others=lambda: ["n2", "n3"],
            found=lambda *what: self.found.append(what),
            kept_max=4,
            frame_bytes_max=10_000,
        )

    def applied(self, sequence: int, *results: Result, origin: bytes = THEIRS) -> None:
        self.origins[origin] = (EPOCH, sequence)
        self.outcomes.keep(BatchHead(1, EPOCH, sequence, origin), list(results))

    def asked(self, sequence: int, epoch: int = EPOCH) -> list[Result] | str:
        """What n2 is told."""
        self.links.sent.clear()
        self.outcomes.on_ask("n2", THEIRS, epoch, sequence)
        if not self.links.sent:
            return "nothing"
        ((peer_id, message),) = self.links.sent
        assert (peer_id, message[:3]) == ("n2", [wire.OUTCOME, epoch, sequence])
        return decode_results(message[3]) if message[3] else "gone"


def test_the_results_of_the_last_batches_are_there_for_their_origin() -> None:
    node = Room()
    for sequence in range(1, KEPT_MIN + 11):
        node.applied(sequence, sequence, True)
        node.applied(sequence, b"of n3", origin=b"n3:1")
    assert node.asked(KEPT_MIN + 10) == [KEPT_MIN + 10, True]
    assert node.asked(11) == [11, True]
    assert node.asked(10) == "gone"
    assert node.asked(KEPT_MIN + 11) == "nothing"  # not applied here yet
    assert node.asked(1, EPOCH - 1) == "gone"
    assert node.asked(1, EPOCH + 1) == "nothing"


def test_a_new_epoch_of_an_origin_ends_the_old_one() -> None:
    node = Room()
    node.applied(1, b"old")
    node.origins[THEIRS] = (EPOCH + 1, 1)
    node.outcomes.keep(BatchHead(1, EPOCH + 1, 1, THEIRS), [b"new"])
    assert node.asked(1) == "gone"
    assert node.asked(1, EPOCH + 1) == [b"new"]


def test_nobody_is_told_of_another_node_s_clients() -> None:
    node = Room()
    node.applied(1, b"secret")
    with pytest.raises(WireError, match="another node"):
        node.outcomes.on_ask("n3", THEIRS, EPOCH, 1)
    with pytest.raises(WireError, match="another node"):
        node.outcomes.on_ask("n2", b"n2", EPOCH, 1)
    assert node.links.sent == []


def test_memory_is_bounded_by_bytes_and_by_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ORIGIN_BYTES_MAX", 50_000)
    node = Room()
    for sequence in range(1, 30):
        node.applied(sequence, b"x" * 9_000)
    assert node.asked(29) == [b"x" * 9_000]
    assert node.asked(24) == "gone"
    node.applied(30, b"x" * 60_000)
    assert node.asked(30) == "gone"
    for number in range(2 * ORIGINS_MAX):
        node.applied(1, True, origin=b"n%d:1" % (10 + number))
    assert len(node.outcomes._origins) == ORIGINS_MAX


def test_an_answer_that_fills_no_frame_is_given_as_gone() -> None:
    node = Room()
    node.applied(1, b"x" * 9_900)
    assert node.asked(1) == "gone"


def test_the_first_who_knows_answers_and_the_others_come_late() -> None:
    node = Room()
    node.outcomes.ask(7)
    asked = [wire.OUTCOME_ASK, ORIGIN, EPOCH, 7]
    assert node.links.sent == [("n2", asked), ("n3", asked)]
    node.outcomes.on_answer("n2", EPOCH, 7, b"")
    assert node.found == []
    answer = encode_results([5])
    assert answer is not None
    node.outcomes.on_answer("n3", EPOCH - 1, 7, answer)
    node.outcomes.on_answer("n3", EPOCH, 8, answer)
    assert node.found == []
    for peer_id in ("n3", "n2"):
        node.outcomes.on_answer(peer_id, EPOCH, 7, answer)
    assert node.found == [(7, [5])]


def test_when_everybody_else_says_gone_nobody_knows() -> None:
    node = Room()
    node.outcomes.ask(7)
    for peer_id in ("n2", "n2", "n3"):
        assert node.found == []
        node.outcomes.on_answer(peer_id, EPOCH, 7, b"")
    assert node.found == [(7, None)]


def test_results_that_are_none_cost_the_link_and_the_question_stays() -> None:
    node = Room()
    node.outcomes.ask(7)
    with pytest.raises(WireError, match="results"):
        node.outcomes.on_answer("n2", EPOCH, 7, msgpack.packb(["text"]))
    node.outcomes.on_answer("n3", EPOCH, 7, encode_results([1]) or b"")
    assert node.found == [(7, [1])]


# -- whole nodes ----------------------------------------------------------------------------------

SMALL = JournalSection(
    compact_bytes=64 * 1024, retain_bytes=4096, segment_bytes_max=64 * 1024, memory_bytes=64 * 1024
)


async def _lap(sim: Simulation) -> tuple[SimulatedNode, SimulatedNode, list[asyncio.Task[Any]]]:
    """(leader, a follower, its clients' calls): they were applied while it was cut off, and
    nobody can send it the entries any more."""
    leader = await sim.ready()
    behind, other = sim.others(leader)
    await leader.set(b"counter", b"41")
    for node in (leader, other):
        sim.network.slow[node.id, behind.id] = (5, 5)  # what it is sent from now on is cut off
    sim.network.frames = frames = []
    calls: list[asyncio.Task[Any]] = [
        sim.loop.create_task(outcome_of(behind.increment(b"counter"))),
        sim.loop.create_task(outcome_of(behind.cas(b"missing", b"a", b"b"))),
    ]
    await sim.until(
        lambda: any(to == leader.id and message[0] == wire.FORWARD for _, to, message in frames)
    )
    for node in (leader, other):
        sim.network.cut(node.id, behind.id)
    await sim.until(
        lambda: all(node.core.machine.get(b"counter") == b"42" for node in (leader, other))
    )
    for number in range(80):
        await leader.set(b"k%d" % (number % 9), b"v" * 3_000)
    for node in (leader, other):
        await node.snapshot()
        await sim.until(lambda node=node: node.journal.first_index > 30)  # type: ignore[misc]
    assert not any(call.done() for call in calls)
    return leader, behind, calls


@pytest.mark.parametrize("who_knows", ["leader", "both", "the other one"])
def test_the_clients_of_a_node_that_was_lapped_are_told_their_results(
    tmp_path: Path, who_knows: str
) -> None:
    with Simulation(3, tmp_path, journal=SMALL) as sim:

        async def story() -> None:
            leader, behind, calls = await _lap(sim)
            (other,) = sim.others(leader, behind)
            for node in (leader, other):
                if who_knows not in ("both", "leader" if node is leader else "the other one"):
                    node.core.batches.outcomes._origins.clear()
            sim.network.heal()
            await sim.until(lambda: all(call.done() for call in calls))
            assert [call.result() for call in calls] == [42, False]
            assert behind.core.journal.first_index > 30  # it was a snapshot that it got
            assert await behind.increment(b"counter") == 43
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())


def test_when_nobody_has_them_any_more_the_outcome_is_unknown_at_once(tmp_path: Path) -> None:
    with Simulation(3, tmp_path, journal=SMALL) as sim:

        async def story() -> None:
            _, behind, calls = await _lap(sim)
            for node in sim.others(behind):
                node.core.batches.outcomes._origins.clear()
            begun_s = sim.loop.time()
            sim.network.heal()
            await sim.until(lambda: all(call.done() for call in calls))
            assert [type(call.result()) for call in calls] == 2 * [OutcomeUnknown]
            assert sim.loop.time() - begun_s < 3
            assert await behind.increment(b"counter") == 43

        sim.run(story())


def test_who_cannot_ask_anybody_gives_up_in_time_and_serves_again(tmp_path: Path) -> None:
    """The leader knows and cannot be heard: its answers are lost, again and again."""
    with Simulation(3, tmp_path, journal=SMALL) as sim:

        async def story() -> None:
            leader, behind, calls = await _lap(sim)
            for node in sim.others(behind):
                node.core.batches.outcomes.on_ask = (  # type: ignore[method-assign]
                    lambda *_: None
                )
            sim.network.heal()
            await sim.until(lambda: all(call.done() for call in calls), 15)
            assert [type(call.result()) for call in calls] == 2 * [OutcomeUnknown]
            assert await behind.increment(b"counter") == 43
            assert behind.core.batches.is_idle
            assert leader.core.batches.is_idle

        sim.run(story())


async def _sync_slowly(journal: SteppedJournal, sync_s: float) -> None:
    """As a disk does it: a sync covers what was written before it began, not what came since."""
    journal.sync_s = None
    while not journal.dead:
        jobs = []
        while not journal._jobs.empty():
            jobs.append(journal._jobs.get())
        await asyncio.sleep(sync_s)
        todo = [job for job in jobs if job is not None]
        if todo and not journal.dead:
            journal._do(todo)
            journal._finished(todo[-1])


def test_entries_on_their_way_to_a_slow_disk_need_no_snapshot(tmp_path: Path) -> None:
    """Its acknowledgements are seconds old, memory and journal have moved on: nothing is lost."""
    with Simulation(3, tmp_path, journal=SMALL) as sim:

        async def story() -> None:
            leader = await sim.ready()
            slow = sim.others(leader)[0]
            syncing = sim.loop.create_task(_sync_slowly(slow.journal, 1.0))
            sim.network.frames = []
            calls = [sim.loop.create_task(slow.increment(b"counter"))]
            for number in range(300):
                await asyncio.sleep(0.02)
                await leader.set(b"k%d" % (number % 9), b"v" * 3_000)
                if number % 50 == 0:
                    calls.append(sim.loop.create_task(slow.increment(b"counter")))
            assert leader.journal.first_index > 100
            await sim.until(lambda: all(call.done() for call in calls))
            assert [call.result() for call in calls] == list(range(1, len(calls) + 1))
            kinds = {message[0] for _, _, message in sim.network.frames}
            assert wire.SNAPSHOT_BEGIN not in kinds
            syncing.cancel()
            slow.journal.sync_s = 0.0005
            slow.journal.let_sync()
            await sim.settle()
            assert len(sim.digests()) == 1

        sim.run(story())
