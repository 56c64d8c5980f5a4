"""A simulated machine: a disk, clocks, and one process at a time, which runs node.app.Node.

    Host      boot -> running -> crash (as much of the page cache as survives), failed (Fatal)
    HostClock wall and monotonic time of this machine: they drift, and the wall clock jumps
    SimJournal, SimWorker, SimJob     the node's threads: each piece of work is one callback, a disk
              latency later; a power cut may come at any disk operation within it
    SimServer the client port without sockets: real protocol and session objects

The node is told nothing of the simulation; what is replaced is what node.core, node.app and
statemachine import: links, server, journal thread, workers, jobs, PySyncObj's clock and randomness.

Does not do: interleave two pieces of work step by step (tests/statemachine/test_background.py).

Proved by: tests/simulation/test_simulation_parts.py
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from node.app import Node
from node.clock import Clock
from node.config import Config
from node.connection import Frontend
from node.core import Core
from node.errors import Fatal
from node.journal import FileJournal
from node.server import TICK_S, Server
from statemachine.errors import Fatal as DiskFatal
from statemachine.job import Stopped
from tests.simulation.disk import SimDisk
from tests.simulation.loop import STARTED_AT_S, Died, Life, life_now
from tests.support.crash import Crash

if TYPE_CHECKING:
    from tests.simulation.network import SimLinks
    from tests.simulation.world import World

__all__ = [
    "Host",
    "HostClock",
    "SimEvent",
    "SimJob",
    "SimJournal",
    "SimServer",
    "SimSite",
    "SimWorker",
]

WALL_AT_START_MS = 1_700_000_000_000


class HostClock(Clock):
    """One machine's clocks. `rate`: its monotonic seconds per second; the wall clock, which
    somebody keeps right, is off by offset_ms."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rate: float) -> None:
        super().__init__()
        self._loop = loop
        self.rate = rate

    def wall_ms(self) -> int:
        passed_s = self._loop.time() - STARTED_AT_S
        return WALL_AT_START_MS + int(passed_s * 1000) + self.offset_ms

    def monotonic(self) -> float:
        return STARTED_AT_S + (self._loop.time() - STARTED_AT_S) * self.rate


class Host:
    """See the top of the file."""

    def __init__(self, world: World, config: Config, rate: float) -> None:
        self.world = world
        self.id = config.node.id
        self.config = config
        self.clock = HostClock(world.loop, rate)
        self.chance = random.Random(f"{world.seed} {self.id} latency")
        self.sync_s: tuple[float, float] = (0.0002, 0.001)
        self.disk = self._plugged(SimDisk())
        self.life: Life | None = None
        self.node: Node | None = None
        self.core: Core | None = None
        self.links: SimLinks | None = None
        self.server: SimServer | None = None
        self.failure: Exception | None = None
        """Why the process of now will not go on."""
        self.boots = 0
        self.incarnation = ""
        """Of its directory; "" until that was first opened."""
        self.no_boot_before_s = 0.0
        self.damaged = False
        """A bit was turned in what it vouches for: it must not start from this directory."""
        self.platter_index = 0
        """How far its journal is known to be on the disk, also while it is down."""
        self.retired = False
        """It was removed, or has no data that anybody counts: not started by itself."""

    def _plugged(self, disk: SimDisk) -> SimDisk:
        disk.on_death = self._lost_power
        disk.on_failure = lambda when: self.world.told_disk_failed(self, when)
        return disk

    @property
    def data_dir(self) -> Path:
        return self.config.node.data_dir

    @property
    def is_up(self) -> bool:
        """A process runs, and has not failed."""
        return self.life is not None and self.core is not None and self.failure is None

    @property
    def is_leader(self) -> bool:
        return self.is_up and self.core is not None and self.core.raft.is_leader()

    # -- life -------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start a process, if none runs."""
        assert self.life is None
        self.boots += 1
        life = self.life = Life(self, self.boots)
        self.failure = None
        self.world.trace(f"{self.id} boots")
        self.node = Node(
            self.config,
            disk=self.disk,
            clock=self.clock,
            rng=random.Random(f"{self.world.seed} {self.id} {self.boots}"),
        )
        self.world.loop.create_task(self._run(life, self.node), context=life.context)

    async def _run(self, life: Life, node: Node) -> None:
        try:
            await node.start()
        except Died:
            raise
        except Exception as error:  # noqa: BLE001 - judged by the oracles
            self._failed(life, error)
            return
        self.core = node._core
        assert self.core is not None
        self.incarnation = self.core.identity.incarnation
        self.world.oracles.booted(self)
        assert node.failed is not None
        error = await node.failed
        self._failed(life, error)

    def _failed(self, life: Life, error: Exception) -> None:
        """The process ends by itself: what is in the page cache stays."""
        if life.dead:
            return
        self.failure = error
        self.world.oracles.failed(self, error)
        self.world.trace(f"{self.id} fails: {error}")
        self.kill(Crash.ALL, 0)
        self.failure = error

    def _lost_power(self, step: str) -> None:
        self.world.count(f"power lost within a disk operation ({step})")
        if step == "rename":
            self.world.count("power lost between a rename and the directory's fsync")
        self.world.trace(f"{self.id} loses power within {step}")
        self._end()

    def kill(self, crash: Crash, seed: int) -> None:
        """End the process, now; the disk is what such a crash leaves of it."""
        if self.life is not None:
            self.world.trace(f"{self.id} is killed: {crash.name}")
        self.disk.lose_power(crash, seed)
        self._end()

    def _end(self) -> None:
        survivor = self.disk.survivor
        assert survivor is not None
        self.world.oracles.ended(self)
        life, self.life = self.life, None
        self.node = self.core = None
        self.failure = None
        if life is not None:
            life.dead = True
        self.disk = self._plugged(survivor)
        links, self.links = self.links, None
        if links is not None:
            links.kill()
        server, self.server = self.server, None
        if server is not None:
            server.gone()
        self.world.died(self)

    def wipe(self, config: Config | None = None) -> None:
        """An empty disk. The process must be gone."""
        assert self.life is None
        self.disk = self._plugged(SimDisk())
        self.damaged = False
        self.platter_index = 0
        self.incarnation = ""
        self.config = config or self.config
        self.world.oracles.wiped(self)

    # -- latency ----------------------------------------------------------------------------

    def sync_delay_s(self) -> float:
        low_s, high_s = self.sync_s
        return low_s + (high_s - low_s) * self.chance.random()


def _life() -> Life:
    life = life_now()
    assert life is not None, "a thread is asked for outside of any process"
    return life


class SimJournal(FileJournal):
    """The real journal; its thread is callbacks with disk latencies, and marks when idle."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._life = _life()
        options["inline"] = True
        super().__init__(*arguments, **options)
        self._inline = False
        self._due = False
        self._closed = False
        self._mark_timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._life.host.world.oracles.journal_opened(self._life, self)

    def _start_thread(self) -> None:
        """No thread."""

    def flush(self) -> None:
        super().flush()
        if not self._inline and not self._due and not self._jobs.empty():
            self._due = True
            self._loop.call_later(self._life.host.sync_delay_s() / 2, self._sync)

    def _sync(self) -> None:
        """The thread takes what waits, does it, and is heard of when the disk has answered."""
        todo = self._taken()
        if self._closed or not todo:
            self._due = False
            return
        if self._mark_timer is not None:
            self._mark_timer.cancel()
        if self._done(todo):
            self._loop.call_later(self._life.host.sync_delay_s() / 2, self._told, todo[-1])

    def _taken(self) -> list[Any]:
        jobs = []
        while not self._jobs.empty():
            jobs.append(self._jobs.get())
        return [job for job in jobs if job is not None]

    def _done(self, todo: list[Any]) -> bool:
        try:
            self._do(todo)
        except Exception as error:  # noqa: BLE001 - as the thread does
            self._tell(self._on_failure, error)
            return False
        self._life.host.world.oracles.synced(self._life, self, todo[-1])
        return True

    def _told(self, job: Any) -> None:
        self._due = False
        if self._closed:
            return
        if job.epoch != self.epoch:
            self._life.host.world.count("a sync that a truncation overtook")
        self._finished(job)
        self.flush()
        if not self._due and not self._jobs.empty():
            self._due = True
            self._loop.call_soon(self._sync)
        self._mark_timer = self._loop.call_later(0.5, self._mark)

    def _mark(self) -> None:
        if not self._closed and self._jobs.empty():
            try:
                self._files.mark()
            except Exception as error:  # noqa: BLE001 - as the thread does
                self._tell(self._on_failure, error)

    def add(self, command: bytes, idx: int, term: int) -> None:
        super().add(command, idx, term)
        self._life.host.world.oracles.appended(self._life, command, idx, term)

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N803 - PySyncObj's names
        if entryFrom < len(self):
            self._life.host.world.oracles.truncated(self._life, self, self[entryFrom])
        super().deleteEntriesFrom(entryFrom)

    def cut_below(self, index: int) -> None:
        before = self.first_index
        super().cut_below(index)
        if self.first_index > before:
            self._life.host.world.count("the journal was cut")

    def read_later(self, index: int, bytes_max: int, done: Callable[..., None]) -> None:
        self._life.host.world.count("entries that left memory were read from the files")
        super().read_later(index, bytes_max, done)

    def close(self) -> None:
        self.flush()
        if (todo := self._taken()) and self._done(todo):
            self._finished(todo[-1])
        self._closed = True
        super().close()

    def abandon(self) -> None:
        self._closed = True
        super().abandon()


class SimWorker:
    """node.worker.Worker: the work is one callback, a latency later, and is told of in another."""

    def __init__(
        self,
        name: str,
        *,
        call_soon_threadsafe: Callable[..., object],
        on_failure: Callable[[Exception], None],
        threaded: bool = True,
    ) -> None:
        self._tell = call_soon_threadsafe
        self._on_failure = on_failure
        self._life = _life()
        self._life.workers.append(self)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self._last_s = 0.0
        self._closed = False

    def do(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        at_s = max(self._loop.time() + self._life.host.sync_delay_s(), self._last_s + 1e-7)
        self._last_s = at_s
        self._waiting.append((work, done))
        self._loop.call_at(at_s, self._next)

    def finish(self) -> None:
        """Somebody blocks until it is done: so it is done now."""
        while self._waiting:
            self._next()

    def _next(self) -> None:
        if self._closed or not self._waiting:
            return
        work, done = self._waiting.pop(0)
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - as the thread does
            self._tell(self._hand_over, self._on_failure, error)
        else:
            self._tell(self._hand_over, done, result)

    def _hand_over(self, function: Callable[..., None], argument: object) -> None:
        if not self._closed:
            function(argument)

    def close(self) -> None:
        self._closed = True


class SimEvent:
    """threading.Event of somebody who waits for a worker: the worker does all that it has."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        for worker in list(_life().workers):
            worker.finish()
        return self._is_set


class SimSite:
    """node.web.site.Site: nobody looks at a dashboard here."""

    def __init__(self, config: Config, wall_ms: Callable[[], int]) -> None:
        self.recorder = SimpleNamespace(watch=None)

    async def start(self, *arguments: Any) -> None:
        """No port."""

    async def stop(self) -> None:
        """Nothing is open."""


class SimJob:
    """statemachine.job.Job: one callback, some syncs later; at once when its owner waits."""

    def __init__(self, name: str, work: Callable[[Callable[[], None]], Any]) -> None:
        self._life = _life()
        self._work: Callable[[Callable[[], None]], Any] | None = work
        self._result: Any = None
        self._error: Fatal | None = None
        self._name = name
        latency_s = 3 * self._life.host.sync_delay_s()
        self._timer = asyncio.get_running_loop().call_later(latency_s, self._run, -1)

    @property
    def running(self) -> bool:
        return self._work is not None

    def _run(self, checks: int) -> None:
        """Do it; `checks`: how many times it may ask whether to go on; -1: as often as it likes."""
        work, self._work = self._work, None
        if work is None:
            return
        self._life.host.world.count(f"job {self._name}")

        def check() -> None:
            nonlocal checks
            if checks == 0:
                raise Stopped
            checks -= 1

        try:
            self._result = work(check)
        except Stopped:
            self._life.host.world.count("a background job was stopped half-way")
        except DiskFatal as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - as the thread does
            self._error = Fatal(f"a background job died: {error!r}")

    def wait(self) -> Any:
        self._timer.cancel()
        self._run(-1)
        if self._error is not None:
            raise self._error
        return self._result

    def stop(self) -> Any:
        self._timer.cancel()
        self._run(self._life.host.chance.randrange(4))
        return self.wait()

    def cancel(self) -> None:
        self._timer.cancel()
        if self._work is not None:
            self._run(self._life.host.chance.randrange(4))


class _Protocols(dict[Any, None]):
    """A set that is walked over in the order of arrival."""

    def add(self, protocol: Any) -> None:
        self[protocol] = None

    def discard(self, protocol: Any) -> None:
        self.pop(protocol, None)


class _Listener:
    def __init__(self) -> None:
        self.open = True

    def close(self) -> None:
        self.open = False


class SimServer(Server):
    """node.server.Server; clients.py connects to it by the host's name."""

    def __init__(self, frontend: Frontend, host: str, port: int, *rest: Any) -> None:
        super().__init__(frontend, host, port, *rest)
        self._protocols = _Protocols()  # type: ignore[assignment]
        self._life = _life()
        self.streams: dict[Any, None] = {}

    async def start(self) -> None:
        self._listener = _Listener()  # type: ignore[assignment]
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self._life.host.server = self

    @property
    def is_open(self) -> bool:
        return self._listener is not None and self._listener.open  # type: ignore[attr-defined]

    def gone(self) -> None:
        """The process is: its connections are closed by the kernel."""
        for stream in list(self.streams):
            stream.broken()
