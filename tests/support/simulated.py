"""Whole nodes on one loop, with time, network, fsync and disk in the test's hand.

    VirtualLoop      no test waits for time (tests/support/virtual.py)
    Network          links between nodes: cut, healed, slowed (tests/support/network.py)
    SteppedJournal   the journal with its sync as a timer instead of a thread: slow, held or done
    SimulatedNode    a Core with the calls of class Node (`await node.set(...)`) on a MemoryDisk
    Simulation       some of them: `with Simulation(3, tmp_path, seed) as sim: sim.run(story())`

All that is random comes from the seed. PySyncObj's clock is the loop's too. What is real: every
room of the node between the client's call and the bytes of a frame, and PySyncObj.

On a crash (`crash`): the disk is what MemoryDisk says a crash leaves, the links break, nothing
of the old Core runs again.

Does not do: sockets and handshakes (tests/node/test_links.py), threads (the journal's own test).

Proved by: tests/node/test_simulation.py (it finds what the tests break on purpose)
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from unittest import mock

from node.calls import Calls
from node.config import (
    Address,
    Config,
    JournalSection,
    Member,
    NodeSection,
    PeerSection,
    RaftSection,
)
from node.core import Core
from node.errors import KVError
from node.journal import FileJournal
from node.worker import Worker
from tests.support.crash import Crash, MemoryDisk
from tests.support.network import Network, SimulatedLinks
from tests.support.virtual import WALL_AT_START_MS, VirtualClock, VirtualLoop

__all__ = [
    "WALL_AT_START_MS",
    "SimulatedNode",
    "Simulation",
    "SteppedJournal",
    "outcome_of",
]

T = TypeVar("T")


class SteppedJournal(FileJournal):
    """The real journal without its thread: what is flushed is synced by a timer.

    Args: those of FileJournal. `sync_s` (None: never) may be set at any time.
    """

    sync_s: float | None = 0.0005

    def __init__(self, *arguments: Any, inline: bool = False, **options: Any) -> None:
        super().__init__(*arguments, inline=True, **options)
        self._inline = inline
        self._due = False
        self.dead = False

    def flush(self) -> None:
        super().flush()
        if not self._inline and not self._due and not self._jobs.empty():
            self.let_sync()

    def _start_thread(self) -> None:
        """No thread: the loop's timers."""

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
        """In this life, and before."""
        self.earlier_failures: list[Exception] = []
        self._sim = sim
        self._core: Core | None = None
        self._starts = 0

    @property
    def core(self) -> Core:
        assert self._core is not None, f"{self.id} is down"
        return self._core

    @property
    def data_dir(self) -> Path:
        """Where its files lie on `disk`."""
        return self._config.node.data_dir

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
        if self._core is not None:  # it has failed
            await self.stop()
        self.earlier_failures += self.failures
        self.failures = []
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
        founders: so many of them are members from the start; the others wait to be seated,
            and know only the founders. None: all.
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
        founders: int | None = None,
        raft: RaftSection | None = None,
        journal: JournalSection | None = None,
        peer: PeerSection | None = None,
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
        known = members[: founders or count]
        for member in members:
            data_dir = directory / member.id
            (data_dir / "journal").mkdir(parents=True, exist_ok=True)
            config = Config(
                node=NodeSection(id=member.id, data_dir=data_dir, join=member not in known),
                members=known if member in known else (*known, member),
                raft=raft or RaftSection(),
                journal=journal or JournalSection(),
                peer=peer or PeerSection(),
            )
            self.nodes[member.id] = SimulatedNode(self, config)
        self._patches: list[Any] = [
            mock.patch("node.core.Links", self.network.links),
            mock.patch("node.core.FileJournal", SteppedJournal),
            mock.patch("node.core.Worker", functools.partial(Worker, threaded=False)),
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
        """Start all, wait until all members follow one leader; the leader."""
        await self.start()
        await self.until(lambda: all(node.core.is_ready() for node in self.members()))
        return self.leader

    def members(self) -> list[SimulatedNode]:
        """Running nodes that are members, as each of them has it."""
        running = [node for node in self.nodes.values() if node.is_running]
        return [node for node in running if not node.core.membership.is_waiting]

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
            running = self.members()
            ends = {
                (node.core.journal.last_index, node.core.raft.applied_index()) for node in running
            }
            return len(ends) == 1 and all(node.core.is_ready() for node in running)

        await self.until(is_settled, within_s)

    def digests(self) -> set[tuple[int, str]]:
        """(applied index, digest) of every running member: one element when all are equal."""
        return {node.digest() for node in self.members()}


def _address(block: int, number: int) -> Address:
    return Address(host="127.0.0.1", port=1024 + block * 100 + number)


async def outcome_of(call: Awaitable[T]) -> T | KVError:
    """The result of a call, or the error that it ended in."""
    try:
        return await call
    except KVError as error:
        return error
