"""The composition root: class Node (core and ports), and `serve`, one node as a process.

    async with Node(Config.load("n1.toml")) as node:        in process
        await node.set(b"k", b"v", ttl_ms=5000)
        await node.get(b"k", consistency="linearizable")

    serve(config)                                           trimaran serve
        start -> ready printed -> SIGTERM/SIGINT -> stop -> exit code 0
                               -> a Fatal, from anywhere -> one line on stderr -> exit code 70

The calls are in node.calls; they go through the same service as the RESP port, so they wait,
fail and count in the same ways.

Fail-stop: after a Fatal nothing is flushed and nobody is answered; the process ends, and the
next start reads from disk what is true.

Proved by: tests/node/test_node.py, tests/cluster/test_bad_input.py
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from node.calls import Calls
from node.clock import Clock
from node.commands import COMMANDS
from node.config import Config
from node.connection import Frontend
from node.core import Core
from node.errors import Fatal, KVError, Unavailable
from node.labdoor import LabDoor
from node.logs import what
from node.metered_disk import metered
from node.server import Server, tls_context
from node.web.site import Site
from statemachine.fs import Disk, FileSystem

__all__ = ["EXIT_FATAL", "Node", "serve"]

EXIT_FATAL: Final = 70
DRAIN_S: Final = 1.0
_READY_POLL_S: Final = 0.005
_SWITCH_INTERVAL_S: Final = 0.0005
_GC_THRESHOLD: Final = 200_000
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_LARGE_BLOCK_BYTES: Final = 32 * 1024 * 1024


class Node(Calls):
    """One replica with its client port.

    Args:
        config: who this node is and how it is to run.
        disk, clock, rng: the doors; the machine's own when not handed in.

    Raises, on entering: ConfigError, Fatal (the data directory), OSError (a port is in use).
    """

    def __init__(
        self,
        config: Config,
        *,
        disk: FileSystem | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(config)
        self._disk = disk if disk is not None else Disk()
        self._clock = clock if clock is not None else Clock()
        self._rng = rng if rng is not None else random.Random()
        self._core: Core | None = None
        self._server: Server | None = None
        self._site: Site | None = None
        self.failed: asyncio.Future[Exception] | None = None
        """Set, once started, when the node could not go on."""
        self.on_shutdown: Callable[[], None] | None = None
        """Ends the process, for SHUTDOWN. None, as in somebody else's process: refused."""

    async def start(self) -> None:
        """Recover, listen, and begin to take part. Returns before there is a leader."""
        self.failed = asyncio.get_running_loop().create_future()
        tls = tls_context(self._config.client)
        disk, meter = metered(self._disk, self._clock.monotonic)
        self._site = site = Site(self._config, self._clock.wall_ms)
        core = Core(
            self._config,
            disk=disk,
            clock=self._clock,
            rng=self._rng,
            on_failure=self._on_failure,
            drain=self._drain_clients,
            watch=site.recorder.watch,
        )
        self._core = core
        self._service = core.service
        try:
            await core.start()
            address = self._config.member.client
            frontend = Frontend(core.service, self._config, COMMANDS, self._rng)
            frontend.shutdown = self.on_shutdown
            server = Server(frontend, address.host, address.port, tls, core.log)
            await server.start()
            self._server = server
            await site.start(core, frontend, meter, disk)
        except BaseException:
            await self.stop()
            raise

    async def wait_ready(self, timeout_s: float | None = None) -> None:
        """Return when there is a leader and this node has caught up with it.

        Raises:
            Unavailable: not within `timeout_s`.
            Fatal: the node failed.
        """
        assert self._core is not None
        assert self.failed is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self._core.is_ready():
                    if self.failed.done():
                        raise Fatal(str(self.failed.result()))
                    await asyncio.sleep(_READY_POLL_S)
        if not self._core.is_ready():
            raise Unavailable(f"no leader within {timeout_s} s")

    async def drain(self) -> None:
        """Before a planned stop: hand leadership over, and let every client go with its answers.

        Takes two election timeouts and DRAIN_S at most, whatever the others do.
        """
        if self._core is not None and self._core.raft.is_leader() and self._core.raft.peer_ids:
            with contextlib.suppress(KVError):  # nobody there to take over: a failover, then
                await self.transfer()
        await self._drain_clients()

    async def _drain_clients(self) -> None:
        if self._server is not None:
            await self._server.drain(DRAIN_S)

    async def stop(self) -> None:
        """Stop taking part and release the data directory. Harmless when stopped."""
        server, self._server = self._server, None
        core, self._core = self._core, None
        site, self._site = self._site, None
        self._service = None
        if site is not None:
            await site.stop()
        if server is not None:
            await server.stop()
        if core is not None:
            await core.stop()

    def _on_failure(self, error: Exception) -> None:
        assert self.failed is not None
        if not self.failed.done():
            self.failed.set_result(error)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


async def serve(config: Config, *, on_ready: Callable[[], None]) -> int:
    """Run one node until SIGTERM or SIGINT, or until it can go on no more.

    Args:
        on_ready: called once, when the node first has a leader and has caught up.

    Returns: the exit code of the process: 0, or 70 after a Fatal.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)  # the sync thread must get the GIL soon
    door = LabDoor(Path(config.lab.door)) if config.lab.door else None
    if door is None:
        node = Node(config)
    else:
        node = Node(config, disk=door.disk, clock=door.clock)
        await door.open()
    node.on_shutdown = stopped.set
    await node.start()
    _calm_gc()
    _keep_large_blocks()
    assert node.failed is not None
    node.failed.add_done_callback(lambda _: stopped.set())
    ready = loop.create_task(_tell_ready(node, on_ready))
    await stopped.wait()
    ready.cancel()
    if door is not None:
        door.close()
    if node.failed.done():
        return _say_fatal(node.failed.result())
    try:
        await node.drain()
        await node.stop()
    except Fatal as error:  # the last flush failed: nothing acknowledged hangs on it, but say so
        return _say_fatal(error)
    return 0


def _say_fatal(error: Exception) -> int:
    said = str(error) if isinstance(error, KVError) else f"a bug: {what(error)}"
    print(f"trimaran: fatal: {said}", file=sys.stderr, flush=True)
    return EXIT_FATAL


async def _tell_ready(node: Node, on_ready: Callable[[], None]) -> None:
    with contextlib.suppress(Fatal):  # told through node.failed
        await node.wait_ready()
        on_ready()


def _calm_gc() -> None:
    """Keep the collector's pauses short: what is alive now is never looked at again.

    Without this, collections of the whole heap take 80-230 ms and cost elections. Cycles are
    rare here (connections that close), so a high threshold leaks nothing to speak of.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 50, 1_000)


def _keep_large_blocks() -> None:
    """Have glibc keep freed blocks of a batch's size instead of giving them back.

    By default each block over 128 KiB is mapped, faulted in page by page and unmapped again;
    a batch is copied several times on its way. Elsewhere (musl, macOS) nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
    mallopt(_M_TRIM_THRESHOLD, 4 * _LARGE_BLOCK_BYTES)
