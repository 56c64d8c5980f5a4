"""The HTTP port of one node: put together, started, stopped.

    site = Site(config, clock.wall_ms)          before the core, which tells it what it logs
    await site.start(core, frontend, meter, disk)
    await site.stop()

Proved by: tests/web/test_pages.py
"""

from __future__ import annotations

from collections.abc import Callable

from node.config import Config
from node.connection import Frontend
from node.core import Core
from node.metered_disk import MeteredDisk
from node.web.families import Facts
from node.web.http import Server
from node.web.pages import Pages
from node.web.recorder import Recorder
from statemachine.fs import FileSystem

__all__ = ["Site"]


class Site:
    """One node's."""

    def __init__(self, config: Config, wall_ms: Callable[[], int]) -> None:
        self._config = config
        self._wall_ms = wall_ms
        self.recorder = Recorder(config.node.id, wall_ms)
        self._server: Server | None = None

    async def start(
        self, core: Core, frontend: Frontend, meter: MeteredDisk, disk: FileSystem
    ) -> None:
        """Record, and answer if there is to be a port. OSError: the address is taken."""
        self.recorder.begin(core, frontend)
        section = self._config.http
        if not section.enabled:
            return
        facts = Facts(
            core=core,
            frontend=frontend,
            meter=meter,
            recorder=self.recorder,
            disk=disk,
            started_ms=self._wall_ms(),
        )
        address = self._config.member.http
        server = Server(Pages(facts).answer, address, section.connections_max, core.log)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """No more. Harmless when stopped."""
        self.recorder.stop()
        server, self._server = self._server, None
        if server is not None:
            await server.stop()
