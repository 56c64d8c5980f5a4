"""Whole nodes on one loop, with time, network, fsync and disk in the test's hand.

    VirtualLoop      an asyncio loop whose clock jumps to the next timer: no test waits for time
    Network          links between nodes: cut, healed, slowed; frames in order, or lost with the link
    SteppedJournal   the journal with its sync as a timer instead of a thread: slow, held or done
    SimulatedNode    a Core with the calls of class Node (`await node.set(...)`) on a MemoryDisk
    Simulation       some of them: `with Simulation(3, seed) as sim: sim.run(sim.leader())`

All that is random comes from the seed. PySyncObj's clock is the loop's too. What is real: every
room of the node between the client's call and the bytes of a frame, and PySyncObj.

On a crash (`crash`): the disk is what MemoryDisk says a crash leaves, the links break, nothing
of the old Core runs again.

Does not do: sockets and handshakes (tests/node/test_links.py), threads (the journal's own test).

Proved by: tests/node/test_simulation.py (it finds what the tests break on purpose)
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from unittest import mock

from node import wire
from node.calls import Calls
from node.clock import Clock
from node.config import Address, Config, JournalSection, Member, NodeSection, RaftSection
from node.core import Core
from node.errors import KVError
from node.journal import FileJournal
from node.links import LinkEvents
from tests.support.crash import Crash, MemoryDisk

__all__ = ["Network", "SimulatedNode", "Simulation", "SteppedJournal", "VirtualLoop"]

T = TypeVar("T")
_STARTED_AT_S = 1_000.0
WALL_AT_START_MS = 1_700_000_000_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time stands still while something is to do, and jumps when nothing is."""

    def __init__(self) -> None:
        self.now_s = _STARTED_AT_S
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.now_s


class _Jump(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("nothing will ever happen in this loop again")
        self._loop.now_s += max(timeout, 0.0)
        return super().select(0)


class VirtualClock(Clock):
    """The loop's clock, as a node reads it."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def wall_ms(self) -> int:
        seconds = self._loop.now_s - _STARTED_AT_S
        return WALL_AT_START_MS + int(seconds * 1000) + self.offset_ms

    def monotonic(self) -> float:
        return self._loop.now_s


class SteppedJournal(FileJournal):
    """The real journal without its thread: what is flushed is synced by a timer.

    Args: those of FileJournal. `sync_s` (None: never) may be set at any time.
    """

    sync_s: float | None = 0.0005

    def __init__(self, *arguments: Any, inline: bool, **options: Any) -> None:
        super().__init__(*arguments, inline=True, **options)
        self._inline = inline
        self._due = False
        self.dead = False

    def flush(self) -> None:
        super().flush()
        if not self._inline and not self._due and not self._jobs.empty():
            self.let_sync()

    def let_sync(self) -> None:
        """Have what waits synced after `sync_s`; None holds it back until the next call."""
        if self.sync_s is not None and not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(self.sync_s, self.sync_now)

    def sync_now(self) -> None:
        """One sync for all that was flushed."""
        self._due = False
        jobs = []
        while not self._jobs.empty():
            jobs.append(self._jobs.get())
        todo = [job for job in jobs if job is not None]
        if todo and not self.dead:
            self._do(todo)
            self._finished(todo[-1])

    def close(self) -> None:
        self.flush()
        self.sync_now()
        self.dead = True
        super().close()

    def abandon(self) -> None:
        self.dead = True
        super().abandon()


class Network:
    """Every link of the simulation.

    Args:
        delay_s: range of the time a frame takes.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seed: int, delay_s: tuple[float, float]
    ) -> None:
        self.loop = loop
        self.delay_s = delay_s
        self.slow: dict[tuple[str, str], tuple[float, float]] = {}
        """Delays of single directions: (from, to) -> range."""
        self.cut_pairs: set[frozenset[str]] = set()
        self.frames: list[tuple[str, str, wire.Message]] | None = None
        """Set to a list to see all that is delivered: (from, to, message)."""
        self._seed = seed
        self._chances: dict[tuple[str, str], random.Random] = {}
        self._ends: dict[str, SimulatedLinks] = {}
        self._sessions: dict[frozenset[str], _Session] = {}

    def links(self, me: Member, others: tuple[Member, ...], **options: Any) -> SimulatedLinks:
        """In place of node.links.Links."""
        return SimulatedLinks(self, me, others, **options)

    def chance(self, sender: str, to: str) -> random.Random:
        """Randomness of one direction, whatever order others are asked in."""
        key = (sender, to)
        if key not in self._chances:
            self._chances[key] = random.Random(f"{self._seed} {sender} {to}")
        return self._chances[key]

    def delay_of(self, sender: str, to: str) -> float:
        return self.chance(sender, to).uniform(*self.slow.get((sender, to), self.delay_s))

    def cut(self, one: str, other: str, *, notice_s: float = 0.0) -> None:
        """Lose what is on its way and all that follows; each side notices within `notice_s`."""
        pair = frozenset((one, other))
        self.cut_pairs.add(pair)
        self.break_session(pair, notice_s)

    def break_session(self, pair: frozenset[str], notice_s: float = 0.0) -> None:
        """Reset the connection; it is dialled again unless it is cut."""
        session = self._sessions.pop(pair, None)
        if session is not None:
            session.dead = True
            for end, peer_id in session.ends():
                after_s = self.chance(end.me.id, peer_id).uniform(0, notice_s)
                self.loop.call_later(after_s, end.down, peer_id, session)
        self._redial(pair)

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """Take back a cut, or all of them and every delay."""
        if one is None or other is None:
            pairs = list(self.cut_pairs)
            self.cut_pairs.clear()
            self.slow.clear()
        else:
            pairs = [frozenset((one, other))]
            self.cut_pairs.discard(pairs[0])
        for pair in pairs:
            self._redial(pair)

    def join(self, end: SimulatedLinks) -> None:
        self._ends[end.me.id] = end
        for peer_id in end.members:
            self._redial(frozenset((end.me.id, peer_id)))

    def leave(self, end: SimulatedLinks) -> None:
        if self._ends.get(end.me.id) is end:
            del self._ends[end.me.id]
            for peer_id in end.members:
                self.break_session(frozenset((end.me.id, peer_id)))

    def _redial(self, pair: frozenset[str]) -> None:
        self.loop.call_later(0.05, self._connect, pair)

    def _connect(self, pair: frozenset[str]) -> None:
        if pair in self.cut_pairs or pair in self._sessions or not pair <= self._ends.keys():
            return
        one, other = sorted(pair)
        session = _Session(self, self._ends[one], self._ends[other])
        self._sessions[pair] = session
        for end, peer_id in session.ends():
            end.up(peer_id, session)


class _Session:
    """One connection of two nodes: frames in order, until it is dead."""

    def __init__(self, network: Network, one: SimulatedLinks, other: SimulatedLinks) -> None:
        self._network = network
        self._pair = (one, other)
        self._last_s = {one.me.id: 0.0, other.me.id: 0.0}
        self.waiting_bytes = {one.me.id: 0, other.me.id: 0}
        self.dead = False

    def ends(self) -> list[tuple[SimulatedLinks, str]]:
        one, other = self._pair
        return [(one, other.me.id), (other, one.me.id)]

    def send(self, sender: str, to: str, frame: bytes) -> None:
        network = self._network
        # Strictly rising: the loop keeps no order among timers of the same moment.
        at_s = max(network.loop.time() + network.delay_of(sender, to), self._last_s[to] + 1e-7)
        self._last_s[to] = at_s
        self.waiting_bytes[to] += len(frame)
        network.loop.call_at(at_s, self._arrive, sender, to, frame)

    def _arrive(self, sender: str, to: str, frame: bytes) -> None:
        self.waiting_bytes[to] -= len(frame)
        if self.dead:
            return
        end = next(end for end in self._pair if end.me.id == to)
        message = wire.decode(frame[wire.LENGTH.size :])
        if self._network.frames is not None:
            self._network.frames.append((sender, to, message))
        assert len(frame) - wire.LENGTH.size <= end.frame_bytes_max
        end.events.message(sender, message)
        end.events.received()


class SimulatedLinks:
    """node.links.Links on the simulated network."""

    def __init__(
        self,
        network: Network,
        me: Member,
        others: tuple[Member, ...],
        *,
        frame_bytes_max: int,
        events: LinkEvents,
        **rest: Any,
    ) -> None:
        self._network = network
        self.me = me
        self.members = {member.id: member for member in others}
        self.frame_bytes_max = frame_bytes_max
        self.events = events
        self._open: dict[str, _Session] = {}
        self._closed = False

    async def start(self) -> None:
        self._network.join(self)

    def up(self, peer_id: str, session: _Session) -> None:
        older = self._open.get(peer_id)
        if older is not None:
            self.down(peer_id, older)
        if not self._closed:
            self._open[peer_id] = session
            self.events.up(peer_id)

    def down(self, peer_id: str, session: _Session) -> None:
        if self._open.get(peer_id) is session:
            del self._open[peer_id]
            if not self._closed:
                self.events.down(peer_id)

    def send(self, peer_id: str, frame: bytes) -> bool:
        session = self._open.get(peer_id)
        if session is None:
            return False
        session.send(self.me.id, peer_id, frame)
        return True

    def is_up(self, peer_id: str) -> bool:
        return peer_id in self._open

    def buffered_bytes(self, peer_id: str) -> int:
        session = self._open.get(peer_id)
        return session.waiting_bytes[peer_id] if session is not None else 0

    def kill(self) -> None:
        self._closed = True
        self._network.leave(self)

    async def close(self) -> None:
        self.kill()


class _DoneJob:
    """statemachine.job.Job, done at once: no thread that would race with virtual time."""

    running = False

    def __init__(self, name: str, work: Callable[[Callable[[], None]], Any]) -> None:
        self._result = work(lambda: None)

    def wait(self) -> Any:
        return self._result

    stop = wait

    def cancel(self) -> None:
        """Nothing is running."""


class SimulatedNode(Calls):
    """One node; `core` is None while it is down."""

    def __init__(self, sim: Simulation, config: Config) -> None:
        super().__init__(config)
        self.id = config.node.id
        self.disk = MemoryDisk()
        self.failures: list[Exception] = []
        self._sim = sim
        self._core: Core | None = None
        self._starts = 0

    @property
    def core(self) -> Core:
        assert self._core is not None, f"{self.id} is down"
        return self._core

    @property
    def is_running(self) -> bool:
        return self._core is not None and not self.failures

    @property
    def journal(self) -> SteppedJournal:
        assert isinstance(self.core.journal, SteppedJournal)
        return self.core.journal

    @property
    def is_leader(self) -> bool:
        return self.is_running and self.core.raft.is_leader()

    async def start(self) -> None:
        sim = self._sim
        self._starts += 1
        clock = VirtualClock(sim.loop)
        self._core = Core(
            self._config,
            disk=self.disk,
            clock=clock,
            rng=random.Random(f"{sim.seed} {self.id} {self._starts}"),
            on_failure=self.failures.append,
        )
        self._service = self._core.service
        await self._core.start()

    async def stop(self) -> None:
        core, self._core = self._core, None
        self._service = None
        if core is not None:
            await core.stop()

    def crash(self, how: Crash = Crash.SYNCED, seed: int = 0) -> None:
        """kill -9 (Crash.ALL) or a power failure (SYNCED, MIXED). `start` begins again."""
        core, links = self.core, self.core.links
        self._core, self._service = None, None
        assert isinstance(core.journal, SteppedJournal)
        assert isinstance(links, SimulatedLinks)
        core.journal.dead = True
        links.kill()
        core.raft.halt()
        core._end(KVError("crashed"))
        self.disk = self.disk.crashed(how, seed)


class Simulation:
    """Nodes n1, n2, ... on one virtual loop. Use it as a context manager.

    Args:
        directory: a real one for PySyncObj's empty token files; nothing else is written there.
        seed: of everything random.
    """

    def __init__(
        self,
        count: int,
        directory: Path,
        seed: int = 1,
        *,
        delay_s: tuple[float, float] = (0.0002, 0.001),
        raft: RaftSection | None = None,
        journal: JournalSection | None = None,
    ) -> None:
        self.seed = seed
        self.loop = VirtualLoop()
        self.network = Network(self.loop, seed, delay_s)
        members = tuple(
            Member(id=f"n{i}", peer=_address(1, i), client=_address(2, i), http=_address(3, i))
            for i in range(1, count + 1)
        )
        self.nodes: dict[str, SimulatedNode] = {}
        self.may_fail: set[str] = set()
        """Nodes that the test expects to fail; any other failure fails the test at its end."""
        for member in members:
            data_dir = directory / member.id
            (data_dir / "journal").mkdir(parents=True, exist_ok=True)
            config = Config(
                node=NodeSection(id=member.id, data_dir=data_dir),
                members=members,
                raft=raft or RaftSection(),
                journal=journal or JournalSection(),
            )
            self.nodes[member.id] = SimulatedNode(self, config)
        self._patches = [
            mock.patch("node.core.Links", self.network.links),
            mock.patch("node.core.FileJournal", SteppedJournal),
            mock.patch("statemachine.archive.Job", _DoneJob),
            mock.patch("pysyncobj.syncobj.monotonicTime", self.loop.time),
            mock.patch("pysyncobj.syncobj.random", random.Random(seed)),
        ]

    def __enter__(self) -> Self:
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.run(self._stop_all())
        finally:
            for patch in self._patches:
                patch.stop()
            self.loop.close()
        if kind is None:
            self.check()

    async def _stop_all(self) -> None:
        for node in self.nodes.values():
            await node.stop()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.2)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let the loop go until `work` is done."""
        return self.loop.run_until_complete(work)

    async def start(self) -> None:
        """Start every node that is down."""
        for node in self.nodes.values():
            if not node.is_running:
                await node.start()

    async def until(self, what: Callable[[], bool], within_s: float = 10.0) -> None:
        """Let time pass until `what()`."""
        end_s = self.loop.time() + within_s
        while not what():
            self.check()
            assert self.loop.time() < end_s, f"not within {within_s} s: {what}"
            await asyncio.sleep(0.005)

    def check(self) -> None:
        """No node has failed that was not expected to."""
        for node in self.nodes.values():
            if node.id not in self.may_fail:
                assert not node.failures, f"{node.id} failed: {node.failures}"

    async def ready(self) -> SimulatedNode:
        """Start all, wait until all follow one leader; the leader."""
        await self.start()
        await self.until(lambda: all(node.core.is_ready() for node in self.nodes.values()))
        return self.leader

    @property
    def leader(self) -> SimulatedNode:
        """The leader of the highest term."""
        leaders = [node for node in self.nodes.values() if node.is_leader]
        return max(leaders, key=lambda node: node.core.raft.term())

    def others(self, *nodes: SimulatedNode) -> list[SimulatedNode]:
        """All but these."""
        return [node for node in self.nodes.values() if node not in nodes]

    def isolate(self, node: SimulatedNode, *, notice_s: float = 0.0) -> None:
        """Cut a node off from all others."""
        for other in self.others(node):
            self.network.cut(node.id, other.id, notice_s=notice_s)

    async def settle(self, within_s: float = 20.0) -> None:
        """Until every running node has applied the same."""

        def is_settled() -> bool:
            running = [node for node in self.nodes.values() if node.is_running]
            ends = {
                (node.core.journal.last_index, node.core.raft.applied_index()) for node in running
            }
            return len(ends) == 1 and all(node.core.is_ready() for node in running)

        await self.until(is_settled, within_s)

    def digests(self) -> set[tuple[int, str]]:
        """(applied index, digest) of every running node: one element when all are equal."""
        return {node.digest() for node in self.nodes.values() if node.is_running}


def _address(block: int, number: int) -> Address:
    return Address(host="127.0.0.1", port=1024 + block * 100 + number)


async def outcome_of(call: Awaitable[T]) -> T | KVError:
    """The result of a call, or the error that it ended in."""
    try:
        return await call
    except KVError as error:
        return error
